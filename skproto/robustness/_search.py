"""Searches for the smallest change of a sample that alters its predicted label."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from skproto.base import PrototypePredictor

# Samples of another class that lines are drawn to, for each sample attacked.
N_OTHER_SAMPLES = 8

# Shares of the radius at which the points of a line are tried.
LINE_SHARES = np.array([0.25, 0.5, 0.75, 1.0])

# Refinement: how far to turn towards the gradient, at random, and how much to cut off.
TURNS = np.array([0.0, 0.02, 0.1, 0.3, 0.6, 1.0])
SPREADS = np.array([0.3, 0.1, 0.03, 0.01])
CUTS = np.array([0.3, 0.1, 0.03, 0.01, 0.003, 0.001])
N_RANDOM_TURNS, N_REFINEMENTS, N_HALVINGS = 3, 25, 20
N_TURNED = (len(TURNS) + N_RANDOM_TURNS * len(SPREADS)) * len(CUTS)


def predicted(model: Any, X: Any) -> np.ndarray:
    """Return predictions for rows, with the feature names that the model knows."""
    names = getattr(model, "feature_names_in_", None)
    if names is not None and not sp.issparse(X):
        X = pd.DataFrame(X, columns=names)
    return np.asarray(model.predict(X))


class Space:
    """A classifier, seen from the space in which lengths are measured."""

    def __init__(self, model: Any, units: str):
        self.model = model
        self.center, self.scale = np.zeros(1), np.ones(1)
        if units == "scaled" and hasattr(model, "scale_"):
            self.center, self.scale = model.center_, model.scale_
        self.anchors = self._find_anchors()
        members = [model]
        if isinstance(model, PrototypePredictor):
            members = getattr(model, "estimators_", members)
        self.parts = [_double(m) for m in members if hasattr(m, "net_")]
        self.has_gradient = len(self.parts) == len(members)

    def from_input(self, X: np.ndarray) -> np.ndarray:
        return (X - self.center) / self.scale

    def to_input(self, points: np.ndarray) -> np.ndarray:
        return points * self.scale + self.center

    def predict(self, points: np.ndarray) -> np.ndarray:
        """Labels (...,) of points (..., f)."""
        flat = points.reshape(-1, points.shape[-1])
        return predicted(self.model, self.to_input(flat)).reshape(points.shape[:-1])

    def _find_anchors(self) -> np.ndarray:
        """Return prototypes (P, f), or the training samples behind them."""
        n_features = self.model.n_features_in_
        for name in ("prototypes_", "prototype_samples_"):
            values = getattr(self.model, name, None)
            if values is not None and np.shape(values)[1:] == (n_features,):
                return self.from_input(np.asarray(values, dtype=np.float64))
        return np.empty((0, n_features))

    def scores(self, points: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return points (m, f) as a leaf tensor, and the class scores there (m, K)."""
        w = torch.tensor(points, requires_grad=True)
        x = w * torch.from_numpy(self.scale) + torch.from_numpy(self.center)
        outputs = [part(x) for part in self.parts]
        if len(outputs) == 1:
            # The logarithm has a gradient where probabilities underflow.
            return w, outputs[0].get("log_scores", outputs[0]["scores"])
        return w, torch.stack([output["scores"] for output in outputs]).sum(0)

    def descent(self, points: np.ndarray, own: np.ndarray, rival: np.ndarray):
        """Gradient (m, f) of the lead of class `own` over `rival` (-1: the best)."""
        w, scores = self.scores(points)
        own_t = torch.from_numpy(own)[:, None]
        lead = scores.gather(1, own_t)[:, 0]
        others = scores.scatter(1, own_t, -torch.inf)
        chosen = torch.from_numpy(rival.clip(0))[:, None]
        single = scores.gather(1, chosen)[:, 0]
        behind = torch.where(torch.from_numpy(rival >= 0), single, others.amax(1))
        (gradient,) = torch.autograd.grad((lead - behind).sum(), w)
        return gradient.nan_to_num(0.0, 0.0, 0.0).numpy()


def _double(model: Any) -> Callable[[torch.Tensor], dict[str, torch.Tensor]]:
    """Return a float64 copy of a model's module that takes the user's units."""
    module = copy.deepcopy(model.net_.module_).cpu().double().eval()
    module.requires_grad_(False)
    center, scale = torch.from_numpy(model.center_), torch.from_numpy(model.scale_)
    return lambda x: module((x - center) / scale)


class Search:
    """The searches, and the count of the points they tried."""

    def __init__(self, space: Space, norm: float, n_restarts, n_steps, rng):
        self.space = space
        self.norm = norm
        self.n_restarts = n_restarts
        self.n_steps = n_steps
        self.rng = rng
        self.n_attacks = 0

    def n_points(self) -> int:
        """Points that are tried together for each sample."""
        n_lines = (2 * len(self.space.anchors) + N_OTHER_SAMPLES) * len(LINE_SHARES)
        return max(n_lines, 10 * self.n_restarts, N_TURNED)

    def run(self, X, labels, radius):
        """Return the nearest points (n, f) found and their distances (n,)."""
        self.start = self.space.from_input(X)
        self.labels = labels
        self.best = self.start.copy()
        self.distance = np.full(len(X), np.inf)
        self.distance[self.space.predict(self.start) != labels] = 0.0
        self.radius = radius
        self._try_lines()
        self._try_random()
        if self.space.has_gradient and len(X):
            self._descend()
        self._refine()
        return self.best, self.distance

    # Geometry

    def _length(self, steps: np.ndarray) -> np.ndarray:
        """Norm over the last axis."""
        if np.isinf(self.norm):
            return np.abs(steps).max(axis=-1)
        if self.norm == 1:
            return np.abs(steps).sum(axis=-1)
        return np.sqrt(np.square(steps).sum(axis=-1))

    def _unit(self, steps: np.ndarray) -> np.ndarray:
        """Scale steps to length 1; a step of length 0 stays."""
        length = self._length(steps)[..., None]
        return steps / np.where(length > 0, length, 1.0)

    def _steepest(self, gradient: np.ndarray) -> np.ndarray:
        """Step of length 1 that descends the most."""
        if np.isinf(self.norm):
            return -np.sign(gradient)
        if self.norm == 1:
            top = np.abs(gradient).argmax(axis=-1)[..., None]
            only = np.zeros_like(gradient)
            sign = np.sign(np.take_along_axis(gradient, top, axis=-1))
            np.put_along_axis(only, top, -sign, axis=-1)
            return only
        return self._unit(-gradient)

    # Searches

    def _record(self, steps: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Try steps (n, m, f) from the samples and keep the shortest that succeed."""
        if not steps.size:
            return
        rows = np.arange(len(self.start)) if rows is None else rows
        points = self.start[rows, None] + steps
        self.n_attacks += steps.shape[0] * steps.shape[1]
        flipped = self.space.predict(points) != self.labels[rows, None]
        length = np.where(flipped, self._length(steps), np.inf)
        first = length.argmin(axis=1)
        at = np.arange(len(rows))
        better = length[at, first] < self.distance[rows]
        self.distance[rows[better]] = length[at, first][better]
        self.best[rows[better]] = points[at, first][better]

    def _try_lines(self) -> None:
        anchors = self.space.anchors
        towards = anchors[None] - self.start[:, None]
        others = self.start[self._other_rows()] - self.start[:, None]
        steps = np.concatenate([towards, others], axis=1)
        within = self._length(steps) <= self.radius[:, None]
        self._record(np.where(within[..., None], steps, 0.0))
        both = self._unit(np.concatenate([steps, -towards], axis=1))
        reach = self.radius[:, None] * LINE_SHARES
        lines = both[:, :, None] * reach[:, None, :, None]
        self._record(lines.reshape(len(lines), -1, lines.shape[-1]))

    def _other_rows(self) -> np.ndarray:
        """Rows (n, m) of samples, those with another label where there are any."""
        n_samples = len(self.start)
        rows = self.rng.randint(n_samples, size=(n_samples, 4 * N_OTHER_SAMPLES))
        same = self.labels[rows] == self.labels[:, None]
        order = np.argsort(same, axis=1, kind="stable")[:, :N_OTHER_SAMPLES]
        return np.take_along_axis(rows, order, axis=1)

    def _try_random(self) -> None:
        shape = (len(self.start), 10 * self.n_restarts, self.start.shape[1])
        steps = self._unit(self.rng.standard_normal(shape))
        self._record(steps * self.radius[:, None, None])

    def _descend(self) -> None:
        n_samples, n_features = self.start.shape
        shape = (n_samples, self.n_restarts, n_features)
        radius = self.radius[:, None, None]
        steps = self._unit(self.rng.standard_normal(shape)) * radius
        steps *= np.linspace(0.0, 1.0, self.n_restarts)[:, None]
        own = np.searchsorted(self.space.model.classes_, self.labels)
        rival = self._rivals(own).ravel()
        own = np.repeat(own, self.n_restarts)
        for k in range(self.n_steps):
            points = (self.start[:, None] + steps).reshape(-1, n_features)
            gradient = self.space.descent(points, own, rival).reshape(shape)
            flat = (gradient == 0).all(axis=-1)
            gradient[flat] = self.rng.standard_normal((int(flat.sum()), n_features))
            share = 0.25 * (1.0 + np.cos(np.pi * k / self.n_steps))
            steps = self._project(steps + share * radius * self._steepest(gradient))
            self._record(steps)

    def _rivals(self, own: np.ndarray) -> np.ndarray:
        """Class that each descent (n, R) makes for; -1 stands for the best at hand."""
        scores = self.space.scores(self.start)[1].detach().numpy().copy()
        scores[np.arange(len(own)), own] = -np.inf
        ranked = np.argsort(-scores, axis=1, kind="stable")
        turn = np.arange(self.n_restarts)
        rival = ranked[:, (turn // 2) % (scores.shape[1] - 1)]
        return np.where(turn % 2 == 1, rival, -1)

    def _project(self, steps: np.ndarray) -> np.ndarray:
        """Bring steps (n, m, f) back into the ball."""
        radius = self.radius[:, None, None]
        if np.isinf(self.norm):
            return np.clip(steps, -radius, radius)
        return np.where(
            self._length(steps)[..., None] > radius, self._unit(steps) * radius, steps
        )

    # Refinement

    def _refine(self) -> None:
        """Walk along the boundary from what was found to its nearest point."""
        rows = np.flatnonzero(np.isfinite(self.distance) & (self.distance > 0))
        self._halve(rows)
        for _ in range(N_REFINEMENTS):
            if not len(rows):
                break
            before = self.distance[rows]
            directions = self._turned(rows)
            lengths = before[:, None] * (1.0 - CUTS)
            steps = directions[:, :, None] * lengths[:, None, :, None]
            self._record(steps.reshape(len(rows), -1, steps.shape[-1]), rows)
            rows = rows[self.distance[rows] < before]
        rows = np.flatnonzero(np.isfinite(self.distance) & (self.distance > 0))
        self._halve(rows)

    def _turned(self, rows: np.ndarray) -> np.ndarray:
        """Directions (m, d, f) near the best one, and from there to the gradient's."""
        current = self._unit(self.best[rows] - self.start[rows])[:, None]
        shape = (len(rows), len(SPREADS) * N_RANDOM_TURNS, current.shape[-1])
        noise = self._unit(self.rng.standard_normal(shape))
        found = [current + np.tile(SPREADS, N_RANDOM_TURNS)[:, None] * noise]
        if self.space.has_gradient:
            own = np.searchsorted(self.space.model.classes_, self.labels[rows])
            rival = np.full(len(rows), -1)
            gradient = self.space.descent(self.best[rows], own, rival)
            target = self._steepest(gradient)[:, None]
            turns = TURNS[:, None]
            found.append((1.0 - turns) * current + turns * target)
        else:
            found.append(current)
        return self._unit(np.concatenate(found, axis=1))

    def _halve(self, rows: np.ndarray) -> None:
        """Halve the way back to the sample while the label stays changed."""
        if not len(rows):
            return
        start, end = self.start[rows], self.best[rows]
        low, high = np.zeros(len(rows)), np.ones(len(rows))
        for _ in range(N_HALVINGS):
            middle = 0.5 * (low + high)
            points = start + middle[:, None] * (end - start)
            flipped = self.space.predict(points) != self.labels[rows]
            high = np.where(flipped, middle, high)
            low = np.where(flipped, low, middle)
        self.n_attacks += N_HALVINGS * len(rows)
        self.best[rows] = start + high[:, None] * (end - start)
        self.distance[rows] = self._length(self.best[rows] - start)
