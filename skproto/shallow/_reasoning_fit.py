"""Refit of tables of reasoning on fixed detections, with locked and bounded entries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from skproto._editing import HeadFit, HeadRules

Array = NDArray[np.float64]

# Most of a column that fixed entries and lower bounds may take together.
MAX_HELD = 0.95

# Smallest agreement and probability of which a logarithm is taken.
TINY = 1e-30


@dataclass(frozen=True)
class ReasoningProblem:
    """Detections, tables of reasoning, and what holds them.

    Parameters
    ----------
    activations : ndarray of shape (n, P)
        Detections.

    y, sample_weight : ndarray of shape (n,)
        Class codes and weights of the samples.

    logits : ndarray of shape (P, M) or (2 P, M)
        Logits of presence, and of absence where it counts.

    concepts : ndarray of int of shape (M,)
        Class of each column.

    rules : HeadRules
        What may change.

    decay : float
        Pull of the free logits towards where they start.

    max_iter : int
        Largest number of iterations.
    """

    activations: Array
    y: NDArray[np.int64]
    sample_weight: Array
    logits: Array
    concepts: NDArray[np.int64]
    rules: HeadRules
    decay: float = 1e-6
    max_iter: int = 300


def solve_reasoning(problem: ReasoningProblem) -> tuple[Array, HeadFit]:
    """Minimise the negative log likelihood over the free entries of every column.

    A column is a distribution. What fixed entries have of it they keep: the free ones
    share the rest, each at least its lower bound.

    Returns
    -------
    logits : ndarray of the shape of `problem.logits`
        Fixed entries have kept their bits, and up to rounding their probabilities.

    fit : HeadFit
        How it went.
    """
    total = logsumexp(problem.logits, axis=0)
    share = np.exp(problem.logits - total)
    free = _free_entries(problem)
    if not free.any():
        return problem.logits, HeadFit()
    lower = _lower_bounds(problem, share, free)
    mass = 1.0 - np.where(free, lower, share).sum(axis=0)
    start = np.log(np.maximum(share - lower, TINY))
    objective = _Objective(problem, free, lower, share, mass, start)
    first = start[free]
    before = objective(first)[0]
    found = minimize(
        objective,
        first,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": problem.max_iter, "ftol": 1e-10, "gtol": 1e-7},
    )
    end = found.x if found.fun <= before else first
    with torch.no_grad():
        table = objective.table(torch.from_numpy(end)).numpy()
    logits = problem.logits.copy()
    logits[free] = (np.log(np.maximum(table, TINY)) + total)[free]
    after = min(float(found.fun), before)
    return logits, HeadFit(bool(found.success), int(found.nit), before, after)


def _own(problem: ReasoningProblem) -> NDArray[np.bool_]:
    """Entries of presence that speak for the class of their prototype, (R, M)."""
    own = problem.rules.labels[:, None] == problem.concepts
    halves = len(problem.logits) // len(own)
    nothing = np.zeros_like(own)
    return np.concatenate([own, *[nothing] * (halves - 1)])


def _free_entries(problem: ReasoningProblem) -> NDArray[np.bool_]:
    halves = len(problem.logits) // len(problem.rules.labels)
    free = np.tile(problem.rules.free, halves)[:, None]
    restricted = np.tile(problem.rules.restricted, halves)[:, None]
    return np.asarray(free & (_own(problem) | ~restricted))


def _lower_bounds(problem: ReasoningProblem, share: Array, free) -> Array:
    """Smallest probabilities of the free entries."""
    rules, own = problem.rules, _own(problem)
    lower = np.zeros_like(share)
    restricted = np.zeros(len(share), dtype=bool)
    restricted[: len(rules.restricted)] = rules.restricted
    if not restricted.any():
        return lower
    least = rules.min_weight
    if least is None:
        usual = own & ~restricted[:, None]
        least = 0.25 * float(share[usual if usual.any() else own].mean())
    present = share[: len(rules.labels)]
    mine = own[: len(rules.labels)]
    rivals = np.where(mine, 0.0, present).max(axis=1)
    bound = np.zeros(len(share))
    bound[: len(rivals)] = np.maximum(least, rivals)
    lower[restricted] = np.where(own[restricted], bound[restricted, None], 0.0)
    lower = np.where(free, lower, 0.0)
    held = np.where(free, lower, share).sum(axis=0)
    room = MAX_HELD - np.where(free, 0.0, share).sum(axis=0)
    wanted = lower.sum(axis=0)
    if (wanted > room).any() and rules.min_weight is not None:
        raise ValueError(
            "min_weight is more than the columns have: locked prototypes and bounds "
            f"would take {held.max():.3g} of a column. Got {rules.min_weight!r}."
        )
    scale = np.where(wanted > 0, np.maximum(room, 0.0) / np.maximum(wanted, TINY), 1.0)
    return np.asarray(lower * np.minimum(scale, 1.0))


class _Objective:
    """The objective and its gradient as a function of the free logits."""

    def __init__(self, problem, free, lower, share, mass, start):
        self.problem = problem
        self.free = torch.from_numpy(free)
        self.lower = torch.from_numpy(lower)
        self.share = torch.from_numpy(share)
        self.mass = torch.from_numpy(np.maximum(mass, 0.0))
        self.start = torch.from_numpy(start[free])
        self.activations = torch.from_numpy(problem.activations)
        self.y = torch.from_numpy(problem.y)
        weight = problem.sample_weight / problem.sample_weight.sum()
        self.weight = torch.from_numpy(weight)
        self.concepts = torch.from_numpy(problem.concepts)
        self.n_classes = int(problem.concepts.max()) + 1

    def table(self, u: torch.Tensor) -> torch.Tensor:
        """Probabilities (R, M)."""
        full = torch.full(self.share.shape, -torch.inf, dtype=torch.float64)
        full = full.masked_scatter(self.free, u)
        # A column without free entries would be all -inf.
        full = full.masked_fill(~self.free.any(0), 0.0)
        parts = self.lower + self.mass * full.softmax(0)
        return torch.where(self.free, parts, self.share)

    def __call__(self, vector: Array) -> tuple[float, Array]:
        u = torch.from_numpy(vector.copy()).requires_grad_()
        table = self.table(u)
        positive = table[: self.activations.shape[1]]
        agreement = self.activations @ positive
        if len(table) > len(positive):
            negative = table[len(positive) :]
            agreement = agreement - self.activations @ negative + negative.sum(0)
        log = agreement.clamp_min(TINY).log()
        scores = torch.stack(
            [log[:, self.concepts == c].amax(1) for c in range(self.n_classes)], dim=1
        )
        own = scores.gather(1, self.y[:, None]).squeeze(1)
        value = (self.weight * (scores.logsumexp(1) - own)).sum()
        value = value + 0.5 * self.problem.decay * (u - self.start).square().sum()
        value.backward()
        assert u.grad is not None
        return float(value.detach()), u.grad.numpy()
