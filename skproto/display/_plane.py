"""From the space of a model to the plane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.utils import check_array
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skproto.display._space import Space
from skproto.explanation._drawing import PALETTE, ink, shorten
from skproto.explanation._numbers import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Eleven markers and eight colours: 88 classes before a pair comes again.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", "h", ">")
UNKNOWN = "#999999"  # samples without a label


class Areas(NamedTuple):
    """What a model predicts over a part of the plane.

    Parameters
    ----------
    x, y : array of shape (n_columns,) and (n_rows,)
        Coordinates of the grid.

    prediction : array of shape (n_rows, n_columns)
        Predicted labels.
    """

    x: np.ndarray
    y: np.ndarray
    prediction: np.ndarray


def plane(name: str, values, *, missing: bool = False) -> np.ndarray:
    """Return an array (n, 2)."""
    finite = "allow-nan" if missing else True
    values = check_array(
        values,
        dtype=np.float64,
        ensure_min_samples=0,
        ensure_all_finite=finite,
        input_name=name,
    )
    if values.shape[1] != 2:
        raise ValueError(f"{name} must have two columns. Got {values.shape[1]}.")
    return np.asarray(values)


def labels_of(labels, points: np.ndarray) -> np.ndarray | None:
    if labels is None:
        return None
    labels = column_or_1d(labels)
    check_consistent_length(labels, points)
    return np.asarray(labels)


def reduced(space: Space, transformer) -> tuple[list[np.ndarray], tuple[str, str]]:
    """Bring samples, prototypes and sources to the plane, and name its axes."""
    parts = [space.samples, space.prototypes, space.sources]
    if transformer is None and space.predict is not None:
        names = space.names or ["embedding, dimension 1", "embedding, dimension 2"]
        return parts, (names[0], names[1])
    if transformer is not None:
        parts = _transformed(clone(transformer), parts)
        name = type(transformer).__name__
        return parts, (f"{name}, dimension 1", f"{name}, dimension 2")
    spread = np.ptp(space.samples, axis=0, keepdims=True)
    if min(space.samples.shape) < 2 or not spread.any():
        flat = [np.column_stack([part[:, 0], np.zeros(len(part))]) for part in parts]
        return flat, ("the only dimension that varies", "")
    pca = PCA(2, svd_solver="full")
    parts = _transformed(pca, parts)
    shares = [percent(share) for share in pca.explained_variance_ratio_]
    first, second = (
        f"principal component {j} ({share} of the variance)"
        for j, share in enumerate(shares, start=1)
    )
    return parts, (first, second)


def _transformed(transformer, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Fit a transformer to the samples and apply it to all parts; NaN stays."""
    n_samples = len(parts[0])
    every = np.concatenate(parts)
    known = np.isfinite(every).all(axis=1)
    if hasattr(transformer, "transform"):
        found = np.asarray(transformer.fit(parts[0]).transform(every[known]))
    else:
        found = np.asarray(transformer.fit_transform(every[known]))
    if found.ndim != 2 or found.shape[1] != 2:
        raise ValueError(
            "transformer must return two columns. Got shape "
            f"{(n_samples, *found.shape[1:])} from {type(transformer).__name__}."
        )
    plane = np.full((len(every), 2), np.nan)
    plane[known] = found
    return np.split(plane, np.cumsum([len(part) for part in parts[:-1]]))


def predicted_areas(
    predict: Callable[[np.ndarray], np.ndarray],
    parts: Sequence[np.ndarray],
    resolution: int,
) -> Areas:
    """Predict on a grid that holds all points, with a margin."""
    every = np.concatenate(parts)
    low, high = np.nanmin(every, axis=0), np.nanmax(every, axis=0)
    margin = 0.06 * np.where(high > low, high - low, 1.0)
    x, y = (
        np.linspace(low[j] - margin[j], high[j] + margin[j], max(resolution, 2))
        for j in range(2)
    )
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    found = predict(grid.reshape(-1, 2))
    return Areas(x, y, found.reshape(grid.shape[:2]))


def class_looks(n_classes: int) -> list[tuple[int, dict[str, Any]]]:
    """Return colour and marker of every class; -1 is no class."""
    looks: list[tuple[int, dict[str, Any]]] = [(-1, {"color": UNKNOWN, "marker": "o"})]
    for k in range(n_classes):
        marker = MARKERS[k % len(MARKERS)]
        looks.append((k, {"color": PALETTE[k % len(PALETTE)], "marker": marker}))
    return looks


def draw_areas(ax: Axes, areas: Areas, classes: np.ndarray) -> Any:
    """Draw the predicted classes, with lines between them."""
    from matplotlib.colors import ListedColormap

    x, y, prediction = areas
    order = np.argsort(classes)
    codes = order[np.searchsorted(classes, prediction, sorter=order)]
    colours = ListedColormap(
        [look["color"] for _, look in class_looks(len(classes))[1:]]
    )
    look: dict[str, Any] = {"cmap": colours, "vmin": -0.5, "shading": "nearest"}
    look |= {"vmax": len(classes) - 0.5, "alpha": 0.22, "rasterized": True}
    mesh = ax.pcolormesh(x, y, codes, **look)
    for k in np.unique(codes)[1:]:
        line: dict[str, Any] = {"colors": ink(), "linewidths": 0.6, "alpha": 0.7}
        ax.contour(x, y, codes >= k, levels=[0.5], **line)
    ax.set(xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
    return mesh


def shown_name(label: Any) -> str:
    """Return the name of a class as the legend shows it."""
    return shorten(label, 24)
