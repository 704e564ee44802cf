"""The space in which a model compares samples with its prototypes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from skproto.nn.deformable import DeformablePartNetwork
from skproto.nn.lvq import LVQNetwork
from skproto.nn.part_sets import PartSetNetwork
from skproto.nn.part_similarity import DirectionSimilarity, unit
from skproto.nn.parts import PartPrototypeNetwork
from skproto.nn.rbf import RBFNetwork
from skproto.nn.tree import SoftPrototypeTree


class Space(NamedTuple):
    """Samples and prototypes as points of one space.

    Parameters
    ----------
    samples : array of shape (n_samples, n_dimensions)
        Of samples with many sites: the one that is most like the prototype that the
        sample is most like.

    prototypes : array of shape (n_prototypes, n_dimensions)
        Prototypes.

    sources : array of shape (n_prototypes, n_dimensions)
        Training samples behind the prototypes, NaN where they are not known.

    labels : array of shape (n_prototypes,) or None
        Labels of the prototypes.

    names : list of str or None
        Names of the dimensions, where these are the user's features.

    predict : callable or None
        Returns the predicted labels (m,) at points (m, 2) of a plane.
    """

    samples: np.ndarray
    prototypes: np.ndarray
    sources: np.ndarray
    labels: np.ndarray | None
    names: list[str] | None = None
    predict: Callable[[np.ndarray], np.ndarray] | None = None

    def mapped(self, change: Callable[[np.ndarray], np.ndarray]) -> Space:
        """Return the space after a change of all its points."""
        return self._replace(
            samples=change(self.samples),
            prototypes=change(self.prototypes),
            sources=change(self.sources),
        )


def compared(model, X, names=None, tree: int = 0) -> Space:
    """Return samples and prototypes as a fitted model compares them.

    Parameters
    ----------
    model : estimator
        Fitted estimator of skproto.

    X : array-like
        Samples as it takes them.

    names : array of str, default=None
        Names of the features, where the model itself does not know them.

    tree : int, default=0
        Position of the tree in an ensemble whose trees have encoders of their own.

    Returns
    -------
    space : Space
        With the user's features as dimensions where there are two of them and no
        encoder.
    """
    if hasattr(model, "_engine"):
        X, model = model._ready(X), model._engine
        space = _latent(model, X)
        return space._replace(labels=None)
    X = model._check_input(X)
    if model._encodes or len(model._input_shape) > 1:
        trees = getattr(model, "estimators_", None)
        return _latent(model if trees is None else trees[tree], X)
    return _raw(model, X, names)


# Tables without an encoder


def _raw(model, X, names) -> Space:
    table = model._prototype_table()
    X = np.asarray(X.toarray() if sp.issparse(X) else X, dtype=float)
    unknown = np.full(table.values.shape, np.nan)
    sources = unknown if table.samples is None else table.samples
    if X.shape[1] == 2:
        shown = table.names if names is None else names
        names = [str(name) for name in shown]
        return Space(X, table.values, sources, table.labels, names, _predictor(model))
    module = None if hasattr(model, "estimators_") else model._module
    space = Space(X, table.values, sources, table.labels)
    scaled = space.mapped(lambda rows: (rows - model.center_) / model.scale_)
    return scaled.mapped(lambda rows: _stretched(module, rows))


def _predictor(model) -> Callable[[np.ndarray], np.ndarray]:
    """Return predictions on plain rows, whatever names the features have."""

    def predict(points: np.ndarray) -> np.ndarray:
        outputs = model._forward(np.asarray(points, float), model._score_keys)
        return np.asarray(model.classes_[model._codes(outputs)])

    return predict


def _stretched(module, rows: np.ndarray) -> np.ndarray:
    """Apply the linear map of a metric that all prototypes share."""
    omega = None
    if isinstance(module, RBFNetwork):
        omega = module.stretch()
    elif isinstance(module, LVQNetwork) and not module.metric.is_local:
        omega = module.metric.omega()
    if omega is None:
        return rows
    matrix = omega.detach().cpu().numpy()
    return rows * matrix if matrix.ndim == 1 else rows @ matrix.T


# Encoders


def _latent(model, X) -> Space:
    module = model._module
    if not len(module.prototypes):
        raise ValueError(f"This {type(model).__name__} has no prototypes to draw.")
    reader: type[_Reader] = _reader(module)
    samples = reader(module).read(model, X)
    with torch.no_grad():
        prototypes = reader(module).prototypes().double().cpu().numpy()
    sources = np.full(prototypes.shape, np.nan)
    rows = getattr(model, "prototype_samples_", None)
    # What is a channel is near none of its samples.
    known = rows is not None and len(rows) == len(prototypes)
    if known and reader is not _ChannelReader:
        sources = reader(module, np.arange(len(prototypes))).read(model, rows)
    labels = getattr(model, "prototype_labels_", None)
    if prototypes.shape[1] == 2 and reader is _SiteReader and _is_single(module):
        predict = _site_predictor(model)
        return Space(samples, prototypes, sources, labels, None, predict)
    space = Space(samples, prototypes, sources, labels)
    if reader is _SiteReader:
        return space.mapped(lambda rows: _stretched(module, rows))
    return space


def _is_single(module) -> bool:
    """Tell whether a sample is one site, which the module takes as it is."""
    known = isinstance(module, RBFNetwork | LVQNetwork | PartPrototypeNetwork)
    known = known or isinstance(module, SoftPrototypeTree)
    shape = getattr(module.encoder, "input_shape", None)
    return (
        known and module.encoder.n_sites == 1 and shape is not None and len(shape) != 2
    )


def _site_predictor(model) -> Callable[[np.ndarray], np.ndarray]:
    """Return predictions for points of the plane into which samples are encoded."""

    def predict(points: np.ndarray) -> np.ndarray:
        sites = torch.from_numpy(np.asarray(points, np.float32))[:, None]
        with torch.inference_mode():
            outputs = model._module(sites.to(model.net_.device))
        known = {key: value.cpu().numpy() for key, value in outputs.items()}
        return np.asarray(model.classes_[model._codes(known)])

    return predict


class _Reader(ABC):
    """Reads off one point for each sample, in the order in which they are passed.

    Parameters
    ----------
    module : nn.Module
        Module of the model.

    own : array of int, default=None
        Prototype with which each sample is compared; the one that it is most like
        where None.
    """

    def __init__(self, module, own=None):
        self.module = module
        self.own = own
        self.start = 0

    def read(self, model, X) -> np.ndarray:
        """Return the points (n, D) of validated samples."""
        found = model._forward(X, run=lambda x: {"point": self(x)})["point"]
        return np.asarray(found, dtype=float)

    def __call__(self, x) -> torch.Tensor:
        """Return the points (m, D) of a batch."""
        outputs = self.module(x)
        which = outputs["activations"].argmax(1)
        if self.own is not None:
            part = self.own[self.start : self.start + len(x)]
            which[: len(part)] = torch.from_numpy(part).to(which)
            self.start += len(part)
        return self.points(x, outputs, which)

    @abstractmethod
    def points(self, x, outputs, which) -> torch.Tensor:
        """Return the points (m, D) at which samples are like prototypes `which`."""

    @abstractmethod
    def prototypes(self) -> torch.Tensor:
        """Return the prototypes (P, D)."""


class _SiteReader(_Reader):
    """Sites and prototypes as they are."""

    def points(self, x, outputs, which):
        z = self.module.encoder(x).flatten(2)
        if "sites" not in outputs:
            return z[:, 0]
        rows = torch.arange(len(z), device=z.device)
        return z[rows, outputs["sites"][rows, which]]

    def prototypes(self):
        return self.module.prototypes


class _DirectionReader(_SiteReader):
    """Directions of sites and prototypes."""

    def points(self, x, outputs, which):
        return unit(super().points(x, outputs, which))

    def prototypes(self):
        return unit(self.module.prototypes)


class _CandidateReader(_Reader):
    """All parts of a prototype side by side, of the candidate that fits best."""

    def points(self, x, outputs, which):
        vectors = self.module.search_vectors(self.module.candidates(x))
        targets = self.module.search_targets()[which]
        best = (vectors @ targets[:, :, None])[:, :, 0].argmax(1)
        return vectors[torch.arange(len(vectors), device=vectors.device), best]

    def prototypes(self):
        return self.module.search_targets()


class _SetReader(_Reader):
    """Directions of all parts side by side; 0 where a part is switched off."""

    def points(self, x, outputs, which):
        z = unit(self.module.encode(x)[0])
        rows = torch.arange(len(z), device=z.device)
        sites = outputs["sites"][rows, which]
        parts = z[rows[:, None], sites.clamp_min(0)]
        return parts.masked_fill((sites < 0)[:, :, None], 0.0).flatten(1)

    def prototypes(self):
        parts = unit(self.module.prototypes)
        return parts.masked_fill(~self.module.kept[:, :, None], 0.0).flatten(1)


class _ChannelReader(_Reader):
    """How surely each prototype is present: one is what shows it alone."""

    def points(self, x, outputs, which):
        return outputs.get("presences", outputs["activations"])

    def prototypes(self):
        return torch.eye(len(self.module.prototypes))


class _CodeReader(_Reader):
    """Codes of an autoencoder."""

    def points(self, x, outputs, which):
        return self.module.encode(x)

    def prototypes(self):
        return self.module.prototypes.flatten(1)


def _reader(module) -> type[_Reader]:
    """Return how points are read off a module."""
    if isinstance(module, DeformablePartNetwork):
        return _CandidateReader
    if isinstance(module, PartSetNetwork):
        return _SetReader
    if isinstance(module, PartPrototypeNetwork):
        directed = isinstance(module.similarity, DirectionSimilarity)
        return _DirectionReader if directed else _SiteReader
    if isinstance(module, RBFNetwork):
        return _ChannelReader if module.channels else _SiteReader
    if isinstance(module, LVQNetwork | SoftPrototypeTree):
        return _SiteReader
    if hasattr(module, "decode"):
        return _CodeReader
    return _ChannelReader
