"""What the metrics share: checks of arrays, and what is read off an estimator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, column_or_1d

from skproto.nn.tree import aggregate_leaves
from skproto.training import chunks

# Entries of an array of intermediate results.
CHUNK_ENTRIES = 8_000_000

# Fewer images of a prototype's classes than this say little.
FEW_IMAGES = 5


def chunk_size(entries_per_sample: int) -> int:
    """Return how many samples are dealt with at a time."""
    return int(np.clip(CHUNK_ENTRIES // max(entries_per_sample, 1), 1, 1024))


# -- arrays ----------------------------------------------------------------------------


def check_share(name: str, value: float) -> float:
    """Raise ValueError unless a number is in (0, 1]."""
    if not 0 < value <= 1:
        raise ValueError(f"{name} must be in (0, 1]. Got {value!r}.")
    return float(value)


def check_option(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless a value is one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {allowed}. Got {value!r}.")


def check_count(name: str, value: Any, low: int) -> int:
    """Raise ValueError unless a value is an int of at least `low`."""
    if not isinstance(value, (int, np.integer)) or value < low:
        raise ValueError(f"{name} must be an int of at least {low}. Got {value!r}.")
    return int(value)


def check_lengths(**arrays) -> int:
    """Raise ValueError unless arrays have the same length; return it."""
    lengths = {name: len(value) for name, value in arrays.items() if value is not None}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ValueError(f"All arrays must hold the same number of samples: {shown}.")
    return next(iter(lengths.values()))


def check_maps(maps) -> NDArray[np.floating]:
    """Return similarity maps (n, P, h, w), finite or -inf."""
    maps = np.asarray(maps)
    if maps.ndim != 4:
        raise ValueError(
            "maps must have shape (n_samples, n_prototypes, n_rows, n_columns). Got "
            f"{maps.shape}."
        )
    if maps.dtype.kind != "f":
        maps = maps.astype(np.float64)
    if np.isnan(maps).any() or np.isposinf(maps).any():
        raise ValueError("maps must hold no NaN and no positive infinity.")
    return maps


def check_masks(masks, n_samples: int) -> NDArray[np.bool_]:
    """Return object masks (n, H, W) as bool."""
    masks = np.asarray(masks)
    if masks.ndim != 3 or len(masks) != n_samples:
        raise ValueError(
            f"masks must have shape ({n_samples}, height, width), one mask for each "
            f"sample. Got {masks.shape}."
        )
    return masks.astype(bool)


def check_parts(part_locations, part_visible, n_samples: int):
    """Return part locations (n, M, 2) and their visibility (n, M)."""
    where = np.asarray(part_locations, dtype=np.float64)
    if where.ndim != 3 or where.shape[2] != 2 or len(where) != n_samples:
        raise ValueError(
            f"part_locations must have shape ({n_samples}, n_parts, 2): x and y of "
            f"each part in each sample. Got {where.shape}."
        )
    seen = check_visible(part_visible, where.shape[:2])
    return where, seen & np.isfinite(where).all(axis=2)


def check_visible(part_visible, shape) -> NDArray[np.bool_]:
    """Return the visibility (n, M) of the parts; all are where it is None."""
    if part_visible is None:
        return np.ones(shape, dtype=bool)
    seen = np.asarray(part_visible)
    if seen.shape != tuple(shape):
        raise ValueError(
            f"part_visible must have shape {tuple(shape)} as part_locations say. Got "
            f"{seen.shape}."
        )
    seen = seen.astype(bool)
    if not seen.any():
        raise ValueError("part_visible must be true somewhere. Got no visible part.")
    return seen


def membership(y, prototype_labels, n_prototypes: int, classes=None):
    """Tell which samples (n, P) are of a class of which prototypes.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels of the samples; None: every sample counts for every prototype.

    prototype_labels : array-like of shape (P,) or (P, K)
        Label of each prototype, or, as bool, which of `classes` it stands for.

    n_prototypes : int
        P.

    classes : array-like of shape (K,), default=None
        Labels behind the columns of `prototype_labels`.
    """
    if y is None:
        return None
    y = column_or_1d(y)
    if prototype_labels is None:
        raise ValueError("prototype_labels must be given together with y. Got None.")
    labels = np.asarray(prototype_labels)
    if len(labels) != n_prototypes:
        raise ValueError(
            f"prototype_labels must name the classes of {n_prototypes} prototypes. "
            f"Got shape {labels.shape}."
        )
    if labels.ndim == 1:
        return y[:, None] == labels[None, :]
    if classes is None or labels.shape[1:] != np.shape(classes):
        raise ValueError(
            "prototype_labels of several classes must have one column for each of "
            f"classes. Got shape {labels.shape} and classes={classes!r}."
        )
    same = y[:, None] == np.asarray(classes)[None, :]
    return same.astype(np.float32) @ labels.astype(bool).T.astype(np.float32) > 0


# -- estimators ------------------------------------------------------------------------


def final_estimator(estimator, X):
    """Return the classifier at the end of a pipeline, and X as it gets it."""
    if isinstance(estimator, Pipeline):
        X = estimator[:-1].transform(X) if len(estimator) > 1 else X
        return estimator[-1], X
    best = getattr(estimator, "best_estimator_", None)
    return (estimator, X) if best is None else final_estimator(best, X)


def check_labels(estimator, y) -> np.ndarray:
    """Return labels, all of which the estimator must know."""
    y = column_or_1d(y)
    unknown = np.setdiff1d(y, estimator.classes_)
    if len(unknown):
        raise ValueError(
            f"y has labels that were not seen in fit: {unknown.tolist()}; known are "
            f"{estimator.classes_.tolist()}."
        )
    return y


def image_size(estimator, X) -> tuple[int, int]:
    """Return height and width of the images that an estimator takes."""
    shape = getattr(estimator, "_input_shape", None) or np.shape(X)[1:]
    if len(shape) not in (2, 3):
        raise no_maps(estimator)
    return int(shape[-2]), int(shape[-1])


def no_maps(estimator) -> TypeError:
    """Return the error for estimators that do not look at places."""
    return TypeError(
        f"{type(estimator).__name__} has no similarity maps of images. Metrics of "
        "places need an estimator fitted to images whose encoder has a grid; for "
        "tables use feature_regions."
    )


def is_tabular(estimator) -> bool:
    """Tell whether an estimator was fitted to a table."""
    return len(getattr(estimator, "_input_shape", (1, 1, 1))) == 1


def maps_of(estimator, X) -> NDArray[np.floating]:
    """Return similarity maps (n, P, h, w), or raise TypeError."""
    check_is_fitted(estimator)
    if not hasattr(estimator, "similarity_maps"):
        raise no_maps(estimator)
    try:
        maps = np.asarray(estimator.similarity_maps(X))
    except TypeError as error:
        raise no_maps(estimator) from error
    if maps.ndim != 4:
        raise no_maps(estimator)
    return maps


def sample_chunks(estimator, X, per_sample: int = 1) -> Iterator[Any]:
    """Yield the samples of X, some at a time, as an estimator takes them."""
    X = X.to_numpy() if hasattr(X, "to_numpy") and not is_tabular(estimator) else X
    rows = getattr(X, "iloc", X)
    n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
    for part in chunks(n_samples, chunk_size(per_sample)):
        yield rows[part]


def evidence_chunks(estimator, X) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield samples and the evidence of their predictions, some at a time.

    The evidence has "scores" (n, K), "class_contributions" (n, U, K), "class_bias"
    (n, K), "similarities" (n, P) and what else the estimator says.
    """
    check_is_fitted(estimator)
    n_units = len(estimator.prototypes_) + 1
    for part in sample_chunks(estimator, X, 4 * n_units * len(estimator.classes_)):
        yield part, evidence_of(estimator, part)


def evidence_of(estimator, X) -> dict[str, Any]:
    """Return the evidence of predictions, see :func:`evidence_chunks`."""
    plain = hasattr(estimator, "_evidence") and not hasattr(estimator, "estimators_")
    if plain:  # saves the places that explanations show
        outputs = estimator._forward(estimator._check_input(X))
        found = estimator._evidence(outputs)
        scores, similarities = outputs["scores"], outputs["activations"]
        return {**found, "scores": scores, "similarities": similarities.astype(float)}
    case = estimator.explain(X)
    return {name: getattr(case, name, None) for name in vars(case)}


def class_scores(estimator, X) -> NDArray[np.float64]:
    """Return class scores (n, K), also for two classes."""
    if hasattr(estimator, "_forward"):
        X = estimator._check_input(X)
        return np.asarray(estimator._forward(X, ("scores",))["scores"])
    scores = np.asarray(estimator.decision_function(X), dtype=np.float64)
    return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores


def activations_of(estimator, X) -> NDArray[np.float64]:
    """Return the similarities (n, P) to the prototypes."""
    check_is_fitted(estimator)
    return np.asarray(estimator.transform(X), dtype=np.float64)


def prototype_classes(estimator) -> NDArray[np.bool_]:
    """Tell for which classes every prototype speaks.

    Where classes own prototypes it is the owner; where a linear head joins them, the
    classes with a positive weight; in a tree, the classes that are more frequent
    where the prototype is present than where it is absent; else the label.

    Parameters
    ----------
    estimator : fitted estimator
        With `classes_` and `prototype_labels_`.

    Returns
    -------
    speaks : ndarray of shape (n_prototypes, n_classes), bool
        At least one class for each prototype: that of its label, if there is none.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import prototype_classes
    >>> from skproto.shallow import GLVQClassifier
    >>> model = GLVQClassifier(1, random_state=0).fit(*load_iris(return_X_y=True))
    >>> prototype_classes(model).astype(int).tolist()
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    """
    check_is_fitted(estimator)
    own = np.asarray(estimator.prototype_labels_)[:, None] == estimator.classes_
    found = _links(estimator, own)
    found = np.asarray(found, dtype=bool)
    return np.where(found.any(axis=1, keepdims=True), found, own)


def _links(estimator: BaseEstimator, own: np.ndarray) -> np.ndarray:
    if hasattr(estimator, "estimators_") and hasattr(estimator, "prototype_ids_"):
        return np.concatenate([prototype_classes(e) for e in estimator.estimators_])
    module = getattr(estimator, "_module", None)
    owners = getattr(module, "ownership", None)
    if owners is not None and not bool(owners.all()):
        return np.asarray(owners.cpu().numpy())
    if hasattr(module, "structure") and hasattr(module, "leaf_counts"):
        return _tree_links(module)
    for name in ("class_weights_", "coef_"):
        weights = getattr(estimator, name, None)
        if weights is not None and np.shape(weights) == own.shape:
            return np.asarray(weights > 0)
    return own


def _tree_links(module) -> np.ndarray:
    structure = module.structure
    counts = module.leaf_counts.detach().cpu().double().numpy()
    counts = aggregate_leaves(structure, counts)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    inner = structure.inner_nodes
    present = share[structure.children_right[inner]]
    return np.asarray(present > share[structure.children_left[inner]])
