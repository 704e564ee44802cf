"""How similar a changed sample is to a prototype, read at the site of the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skproto._provenance import site_boxes
from skproto.nn import receptive
from skproto.nn.matching import cosines, unit
from skproto.nn.part_similarity import LogSimilarity

Floats = NDArray[np.float64]


def split_model(estimator) -> tuple[Any, Any]:
    """Return the steps before a prototype model, None if there are none, and it.

    Searches are replaced by their best estimator; all must be fitted.
    """
    estimator = getattr(estimator, "best_estimator_", estimator)
    if isinstance(estimator, FrozenEstimator):
        return split_model(estimator.estimator)
    if isinstance(estimator, Pipeline):
        check_is_fitted(estimator)
        front = estimator[:-1] if len(estimator) > 1 else None
        inner, final = split_model(estimator[-1])
        if inner is not None:
            front = Pipeline([*(front.steps if front else ()), ("inner", inner)])
        return front, final
    if not hasattr(estimator, "transform"):
        raise TypeError(
            "estimator must be a prototype model with similarity_maps or transform, or "
            f"a pipeline that ends in one. Got {type(estimator).__name__}."
        )
    check_is_fitted(estimator)
    return None, estimator


def engine_of(model) -> Any:
    """Return what computes: the model itself, or the one that it wraps."""
    return getattr(model, "_engine", model)


def checked(model, X) -> Any:
    """Return samples as the hooks of a model take them."""
    if hasattr(model, "_ready"):
        return model._engine._check_input(model._ready(X))
    return model._check_input(X)


def log_epsilon(model) -> float | None:
    """Return epsilon where similarities are ProtoPNet's logarithm, else None."""
    module = getattr(engine_of(model), "_module", None)
    similarity = getattr(module, "similarity", None)
    return similarity.epsilon if isinstance(similarity, LogSimilarity) else None


def bounded(similarities: Floats, epsilon: float) -> Floats:
    r"""Turn :math:`s = \log((d + 1) / (d + \epsilon))` into :math:`1 / (1 + d)`.

    Examples
    --------
    >>> import numpy as np
    >>> d = np.array([0.0, 0.25, 3.0])
    >>> bounded(np.log((d + 1) / (d + 1e-4)), 1e-4).round(6).tolist()
    [1.0, 0.8, 0.25]
    """
    return -np.expm1(-similarities) / (1.0 - epsilon)


@dataclass(frozen=True)
class Found:
    """Best matches of original samples: similarities (n, P), and sites or None."""

    similarities: Floats
    sites: NDArray[np.int64] | None = None

    def take(self, rows) -> Found:
        """Return the matches of some samples."""
        if rows is None:
            return self
        sites = None if self.sites is None else self.sites[rows]
        return Found(self.similarities[rows], sites)


class WholeReader:
    """Similarities of samples as wholes: tables, and prototypes that are images.

    Parameters
    ----------
    model : estimator
        Fitted.

    front : Pipeline or None
        Steps that samples pass before they get to the model.

    site : {"fixed", "window", "max"}, default="fixed"
        Of no effect here.
    """

    has_sites = False

    def __init__(self, model, front=None, site="fixed"):
        self.model, self.front, self.site = model, front, site

    def prepared(self, X) -> Any:
        """Return samples as the model gets them."""
        return X if self.front is None else self.front.transform(X)

    def original(self, X) -> Found:
        """Find the best matches of samples."""
        return Found(self._activations(self.prepared(X)))

    def changed(self, X, found: Found) -> Floats:
        """Return the similarities (n, P) of changed samples."""
        return self._activations(self.prepared(X))

    def _activations(self, X) -> Floats:
        engine = engine_of(self.model)
        if not hasattr(engine, "_forward"):
            return np.asarray(self.model.transform(X), dtype=np.float64)
        outputs = engine._forward(checked(self.model, X), ("activations",))
        return np.asarray(outputs["activations"], dtype=np.float64)


class MapReader(WholeReader):
    """Similarities at sites of maps.

    With ``site="fixed"`` a changed sample is read where the original was most similar;
    with "window" at the best of that site and its neighbours; with "max" at its own
    best site.
    """

    has_sites = True

    def original(self, X) -> Found:
        """Find the best matches of samples; ties go to the first site."""
        maps, _ = self._maps(self.prepared(X))
        sites = maps.argmax(axis=2)
        return Found(np.take_along_axis(maps, sites[..., None], 2)[..., 0], sites)

    def changed(self, X, found: Found) -> Floats:
        """Return the similarities (n, P) of changed samples."""
        maps, grid = self._maps(self.prepared(X))
        return self._read(maps, grid, found)

    def _read(self, maps, grid, found: Found) -> Floats:
        if self.site == "max":
            return np.asarray(maps.max(axis=2))
        if found.sites is None:
            raise ValueError("Maps are read at sites. Got none.")
        if self.site == "fixed":
            return np.take_along_axis(maps, found.sites[..., None], 2)[..., 0]
        near = neighbours(found.sites, grid)
        values = np.take_along_axis(maps, np.maximum(near, 0), 2)
        return np.where(near >= 0, values, -np.inf).max(axis=2)

    def _maps(self, X) -> tuple[Floats, tuple[int, int]]:
        maps = np.asarray(self.model.similarity_maps(X), dtype=np.float64)
        grid = maps.shape[2:] if maps.ndim == 4 else (1, maps.shape[2])
        return maps.reshape(*maps.shape[:2], -1), grid


class PartReader(MapReader):
    """Similarities of prototypes that are sets of parts, each at a site of its own."""

    def original(self, X) -> Found:
        """Find the sites (n, P, M) of the parts, -1 where a part is off."""
        keys = ("activations", "sites")
        outputs = self.model._forward(checked(self.model, self.prepared(X)), keys)
        activations = outputs["activations"].astype(np.float64)
        return Found(activations, np.asarray(outputs["sites"], dtype=np.int64))

    def changed(self, X, found: Found) -> Floats:
        """Return the similarities (n, P) of changed samples."""
        X = self.prepared(X)
        if self.site == "max" or found.sites is None:
            return self._activations(X)
        module, n_parts = self.model._module, found.sites.shape[2]

        def run(x):
            z, _ = module.encode(x)
            maps = cosines(unit(z), unit(module.prototypes))
            return {"maps": maps.flatten(1, 2)}

        maps = self.model._forward(checked(self.model, X), run=run)["maps"]
        grid = self.model._site_grid or (1, maps.shape[2])
        sites = found.sites.reshape(len(maps), -1)
        at = Found(found.similarities, np.maximum(sites, 0))
        values = self._read(maps.astype(np.float64), grid, at)
        values = np.where(sites >= 0, values, 0.0).reshape(found.sites.shape)
        slots = module.slots().detach().cpu().numpy().astype(np.float64)
        share = (slots * values).sum(axis=2) / np.maximum(slots.sum(axis=1), 1e-6)
        return np.asarray(n_parts * share)


def neighbours(sites: NDArray, grid: tuple[int, int]) -> NDArray[np.int64]:
    """Return a site and those around it, -1 beyond the edge; adds an axis of 9.

    Examples
    --------
    >>> import numpy as np
    >>> neighbours(np.array([0]), (2, 3)).tolist()
    [[-1, -1, -1, -1, 0, 1, -1, 3, 4]]
    """
    n_rows, n_columns = grid
    step = np.arange(-1, 2)
    row = np.asarray(sites)[..., None] // n_columns + np.repeat(step, 3)
    column = np.asarray(sites)[..., None] % n_columns + np.tile(step, 3)
    inside = (row >= 0) & (row < n_rows) & (column >= 0) & (column < n_columns)
    return np.where(inside, row * n_columns + column, -1)


def make_reader(model, front, site: str, X) -> WholeReader:
    """Return the reader of a model, by what it says of the first samples `X`."""
    engine = engine_of(model)
    if len(getattr(engine, "_input_shape", ())) == 1:
        return WholeReader(model, front, site)
    if not hasattr(engine, "_forward"):
        kind = MapReader if hasattr(model, "similarity_maps") else WholeReader
        return kind(model, front, site)
    prepared = WholeReader(model, front).prepared(X)
    outputs = engine._forward(checked(model, prepared))
    if "sites" not in outputs:
        return WholeReader(model, front, site)
    if outputs["sites"].ndim == 3 and hasattr(engine._module, "slots"):
        return PartReader(model, front, site)
    return MapReader(model, front, site)


# -- where a prototype looks -----------------------------------------------------------


def window_masks(reader: WholeReader, X, found: Found) -> NDArray[np.float32]:
    """Return the pixels (n, P, H, W) that decide what is at the sites, as 0 and 1.

    They are the box that holds 95 % of the energy of the gradient of the embedding at
    the site; with several parts the boxes of all of them together. Without sites they
    are all pixels.
    """
    model = engine_of(reader.model)
    samples = checked(reader.model, reader.prepared(X))
    n_samples, (height, width) = len(samples), samples.shape[2:]
    if found.sites is None:
        n_prototypes = found.similarities.shape[1]
        return np.ones((n_samples, n_prototypes, height, width), dtype=np.float32)
    sites = found.sites.reshape(n_samples, -1)
    boxes = _site_windows(model, samples, sites)
    boxes = boxes.reshape(*found.sites.shape[:2], -1, 4)
    rows, columns = np.arange(height), np.arange(width)
    top, left, bottom, right = (boxes[..., j, None] for j in range(4))
    down = (rows >= top) & (rows < bottom)
    across = (columns >= left) & (columns < right)
    inside = down[..., None] & across[..., None, :]
    return np.asarray(inside.any(axis=2), dtype=np.float32)


def _site_windows(model, samples, sites) -> NDArray[np.int64]:
    """Boxes (n, R, 4) of the pixels behind sites (n, R), by the encoder's gradient."""
    members = getattr(model, "estimators_", None)
    if members is not None:
        counts = np.cumsum([len(member.prototypes_) for member in members])[:-1]
        parts = zip(members, np.split(sites, counts, axis=1), strict=True)
        windows = [_site_windows(member, samples, part) for member, part in parts]
        return np.concatenate(windows, axis=1)
    cells = site_boxes(sites, model._site_grid, samples.shape[1:])
    x = torch.from_numpy(model._scaling.apply(samples[:])).to(model.net_.device)
    used = np.unique(sites[sites >= 0])
    places = torch.from_numpy(np.broadcast_to(used, (len(x), len(used))).copy())
    with torch.enable_grad():
        found = receptive.site_boxes(model._module.encoder, x, places.to(x.device))
    boxes: NDArray[np.int64] = found.cpu().numpy()
    at = np.searchsorted(used, np.maximum(sites, used.min(initial=0)))
    at = np.minimum(at, max(len(used) - 1, 0))
    seen: NDArray[np.int64] = np.take_along_axis(boxes, at[..., None], axis=1)
    return np.where((seen >= 0).all(axis=2, keepdims=True), seen, cells)


# -- what trees answer -----------------------------------------------------------------


def answers(model, X) -> NDArray[np.int8] | None:
    """Return what a tree answers at its nodes on the path of each sample.

    Parameters
    ----------
    model : estimator
        Fitted.

    X : array-like
        Samples as the model gets them.

    Returns
    -------
    answers : ndarray of shape (n, P) or None
        1 where a prototype is found to be present, -1 absent, 0 not asked for; None
        where the model is no tree.
    """
    members = getattr(model, "estimators_", [model])
    if not all(hasattr(member, "tree_") for member in members):
        return None
    X = checked(model, X)
    return np.concatenate([_tree_answers(tree, X) for tree in members], axis=1)


def _tree_answers(tree, X) -> NDArray[np.int8]:
    leaf = tree._forward(X, ("leaf",))["leaf"]
    structure, table = tree._module.structure, tree.tree_
    told = np.zeros((len(leaf), len(tree.prototypes_)), dtype=np.int8)
    paths = structure.paths[leaf]
    for node, after in zip(paths.T[:-1], paths.T[1:], strict=True):
        asked = np.flatnonzero((node >= 0) & (after >= 0))
        here = node[asked]
        right = np.asarray(table.children_right)[here] == after[asked]
        prototype = np.asarray(table.prototype)[here]
        told[asked, prototype] = np.where(right, 1, -1)
    return told
