"""The regions that prototypes point at, and the parts that lie in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skproto.metrics._inputs import (
    check_maps,
    check_option,
    check_parts,
    check_visible,
    chunk_size,
    final_estimator,
    image_size,
    is_tabular,
    maps_of,
    sample_chunks,
)
from skproto.training import chunks
from skproto.utils._random import random_source

UPSAMPLING = ("nearest", "bilinear", "bicubic")

# Half of the side of a region, as a share of the image: 36 of 224 pixels for
# consistency and stability, 16 of 224 for purity.
HALF_SIZE, PURITY_HALF_SIZE = 36 / 224, 16 / 224

# Share of the features of a table that a region holds.
FEATURE_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class PrototypeRegions:
    """Where every prototype points at in every sample.

    Parameters
    ----------
    boxes : ndarray of shape (n, P, 4), int
        Pixels (top, left, bottom, right), the last two not included.

    similarities : ndarray of shape (n, P)
        Similarity there, by which samples are ranked.

    valid : ndarray of shape (n, P), bool
        False where a map is flat and points nowhere.

    image_size : tuple of int
        Height and width of the images.

    grid : tuple of int, default=None
        Rows and columns of the map behind the regions.

    half_size : int, default=None
        Half of the side of a region in pixels.

    sites : ndarray of shape (n, P), int, default=None
        Cell of the grid in the middle of each region.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.metrics import PrototypeRegions
    >>> regions = PrototypeRegions(
    ...     np.array([[[0, 0, 3, 3]]]), np.ones((1, 1)), np.ones((1, 1), bool), (8, 8)
    ... )
    >>> regions.hits([[[2, 2], [3, 2]]]).tolist()  # x, y of two parts
    [[[True, False]]]
    """

    boxes: NDArray[np.int64]
    similarities: NDArray[np.floating]
    valid: NDArray[np.bool_]
    image_size: tuple[int, int]
    grid: tuple[int, int] | None = None
    half_size: int | None = None
    sites: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def n_prototypes(self) -> int:
        """Number of prototypes."""
        return int(self.boxes.shape[1])

    def take(self, rows) -> PrototypeRegions:
        """Return the regions in some samples."""
        return replace(
            self,
            boxes=self.boxes[rows],
            similarities=self.similarities[rows],
            valid=self.valid[rows],
            sites=None if self.sites is None else self.sites[rows],
        )

    def resized(self, half_size: int) -> PrototypeRegions:
        """Return regions around the same cells of another size.

        Parameters
        ----------
        half_size : int
            Half of the side in pixels.

        Returns
        -------
        regions : PrototypeRegions
            The same where the cells are not known.
        """
        if self.sites is None or self.grid is None:
            return self
        boxes = site_squares(self.sites, self.grid, self.image_size, half_size)
        return replace(self, boxes=boxes, half_size=half_size)

    @property
    def area(self) -> NDArray[np.float64]:
        """Share (n, P) of the image that each region covers."""
        top, left, bottom, right = np.moveaxis(self.boxes, -1, 0)
        height, width = self.image_size
        return (bottom - top) * (right - left) / (height * width)

    def hits(self, part_locations, part_visible=None) -> NDArray[np.bool_]:
        """Tell which visible parts lie in each region, its border included.

        Parameters
        ----------
        part_locations : array-like of shape (n, M, 2)
            x and y of each part in pixels.

        part_visible : array-like of shape (n, M), default=None
            Whether the part can be seen; None: all can.

        Returns
        -------
        hits : ndarray of shape (n, P, M), bool
            False for regions that are not valid.
        """
        where, seen = check_parts(part_locations, part_visible, len(self))
        x, y = where[:, None, :, 0], where[:, None, :, 1]
        top, left, bottom, right = np.moveaxis(self.boxes[..., None], -2, 0)
        inside = (top <= y) & (y <= bottom - 1) & (left <= x) & (x <= right - 1)
        return inside & seen[:, None, :] & self.valid[..., None]

    def visible(self, part_locations, part_visible=None) -> NDArray[np.bool_]:
        """Tell which parts (n, M) can be seen."""
        return check_parts(part_locations, part_visible, len(self))[1]

    def at_random(self, random_state=None) -> PrototypeRegions:
        """Return regions of the same kind at places that know nothing.

        Every prototype points at a cell drawn at random in every sample.

        Parameters
        ----------
        random_state : int, RandomState instance or None, default=None
            Seed of the places.

        Returns
        -------
        regions : PrototypeRegions
            The similarities, which rank the samples, stay.
        """
        rng = random_source(random_state)
        if self.grid is None or self.half_size is None:
            return replace(self, boxes=self._moved(rng))
        sites = rng.randint(self.grid[0] * self.grid[1], size=self.valid.shape)
        boxes = site_squares(sites, self.grid, self.image_size, self.half_size)
        return replace(self, boxes=boxes, sites=sites)

    def _moved(self, rng) -> NDArray[np.int64]:
        """Boxes of the same size at random places."""
        height, width = self.image_size
        low, high = self.boxes[..., :2], self.boxes[..., 2:]
        side = high - low
        start = rng.uniform(size=side.shape) * (np.array([height, width]) - side + 1)
        start = start.astype(np.int64)
        return np.concatenate([start, start + side], axis=-1)


@dataclass(frozen=True, eq=False)
class FeatureRegions:
    """Which features of a row say most that it is like a prototype: regions of tables.

    Parameters
    ----------
    selected : ndarray of shape (n, P, f), bool
        The features.

    similarities : ndarray of shape (n, P)
        Similarity, by which samples are ranked.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.metrics import FeatureRegions
    >>> regions = FeatureRegions(np.array([[[True, False, False]]]), np.ones((1, 1)))
    >>> regions.hits([[True, True, False], [False, False, True]]).tolist()
    [[[True, False]]]
    """

    selected: NDArray[np.bool_]
    similarities: NDArray[np.floating]

    def __len__(self) -> int:
        return len(self.selected)

    @property
    def n_prototypes(self) -> int:
        """Number of prototypes."""
        return int(self.selected.shape[1])

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Whether a region (n, P) holds any feature."""
        return np.asarray(self.selected.any(axis=2))

    @property
    def area(self) -> NDArray[np.float64]:
        """Share (n, P) of the features that each region holds."""
        return self.selected.mean(axis=2)

    def take(self, rows) -> FeatureRegions:
        """Return the regions in some samples."""
        return FeatureRegions(self.selected[rows], self.similarities[rows])

    def hits(self, part_locations, part_visible=None) -> NDArray[np.bool_]:
        """Tell which groups of features each region touches.

        Parameters
        ----------
        part_locations : array-like of shape (M, f), bool
            The features of each group.

        part_visible : array-like of shape (n, M), default=None
            Whether the group counts in a sample, None: always.

        Returns
        -------
        hits : ndarray of shape (n, P, M), bool
            Whether a group has a feature in the region.
        """
        groups = self._groups(part_locations)
        seen = check_visible(part_visible, (len(self), len(groups)))
        touched = self.selected.astype(np.float32) @ groups.T.astype(np.float32) > 0
        return np.asarray(touched & seen[:, None, :])

    def visible(self, part_locations, part_visible=None) -> NDArray[np.bool_]:
        """Tell which groups (n, M) count."""
        n_groups = len(self._groups(part_locations))
        return check_visible(part_visible, (len(self), n_groups))

    def _groups(self, part_locations) -> NDArray[np.bool_]:
        groups = np.asarray(part_locations).astype(bool)
        n_features = self.selected.shape[2]
        if groups.ndim != 2 or groups.shape[1] != n_features:
            raise ValueError(
                "part_locations of a table must be groups of features, a bool array "
                f"of shape (n_groups, {n_features}). Got shape {groups.shape}."
            )
        return groups

    def at_random(self, random_state=None) -> FeatureRegions:
        """Return regions of as many features, drawn at random."""
        draws = random_source(random_state).uniform(size=self.selected.shape)
        order = draws.argsort(axis=2).argsort(axis=2)
        chosen = order < self.selected.sum(axis=2, keepdims=True)
        return FeatureRegions(chosen, self.similarities)


Regions = PrototypeRegions | FeatureRegions


def prototype_regions(
    maps, input_shape, half_size=None, upsample="nearest"
) -> PrototypeRegions:
    """Square regions around the places that are most like each prototype.

    Parameters
    ----------
    maps : array-like of shape (n, P, h, w)
        Similarities, as `similarity_maps` returns them; larger is more alike.

    input_shape : tuple of int
        Height and width of the images, after any other axes: (C, H, W) will do.

    half_size : int, default=None
        Half of the side in pixels. None is 36 / 224 of the shorter side of the image,
        as in the paper.

    upsample : {"nearest", "bilinear", "bicubic"}, default="nearest"
        "nearest" takes the centre of the winning cell. "bicubic" stretches the map to
        the size of the image first, as the paper does: then part of the place is made
        by the interpolation.

    Returns
    -------
    regions : PrototypeRegions
        The largest entry wins, the first row by row among equals. Regions are cut at
        the border of the image; flat maps are marked as not valid.

    Raises
    ------
    ValueError
        If the shapes do not fit, the maps hold NaN or an option is unknown.

    References
    ----------
    Huang, Q. et al. (2023). Evaluation and Improvement of Interpretability for
    Self-Explainable Part-Prototype Networks. *ICCV*, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.metrics import prototype_regions
    >>> maps = np.zeros((1, 1, 8, 8))
    >>> maps[0, 0, 0, 0] = 1
    >>> prototype_regions(maps, (8, 8), half_size=2).boxes[0, 0].tolist()
    [0, 0, 3, 3]
    """
    maps = check_maps(maps)
    check_option("upsample", upsample, UPSAMPLING)
    size = (int(input_shape[-2]), int(input_shape[-1]))
    half = half_pixels(half_size, size)
    n_samples, n_prototypes, *grid = maps.shape
    flat = maps.reshape(n_samples, n_prototypes, -1)
    highest = flat.max(axis=2)
    valid = (highest > flat.min(axis=2)) & np.isfinite(highest)
    if upsample == "nearest":
        sites, over = flat.argmax(axis=2), (grid[0], grid[1])
    else:
        parts = [
            upsampled(maps[rows], size, upsample).reshape(-1, size[0] * size[1])
            for rows in chunks(n_samples, chunk_size(n_prototypes * size[0] * size[1]))
        ]
        sites = np.concatenate([part.argmax(axis=1) for part in parts])
        sites, over = sites.reshape(n_samples, n_prototypes), size
    return PrototypeRegions(
        boxes=site_squares(sites, over, size, half),
        similarities=highest,
        valid=valid,
        image_size=size,
        grid=over,
        half_size=half,
        sites=sites,
    )


def half_pixels(half_size, size: tuple[int, int], share: float = HALF_SIZE) -> int:
    """Return half of the side of a region in pixels."""
    if half_size is None:
        return max(1, round(share * min(size)))
    if half_size != int(half_size) or half_size < 0:
        raise ValueError(
            f"half_size must be None or an int of at least 0. Got {half_size!r}."
        )
    return int(half_size)


def site_squares(sites, grid, size, half: int) -> NDArray[np.int64]:
    """Boxes (..., 4) of the pixels within `half` of the centres of cells."""
    cell = np.stack(np.divmod(np.asarray(sites), grid[1]), axis=-1)
    pixels = np.array(size)
    center = (cell + 0.5) * pixels / np.array(grid) - 0.5
    # Rounding must not lose a pixel at exactly the half side.
    low = np.ceil(center - half - 1e-9).clip(0)
    high = (np.floor(center + half + 1e-9) + 1).clip(max=pixels)
    return np.concatenate([low, high], axis=-1).astype(np.int64)


def upsampled(maps: np.ndarray, size, mode: str) -> NDArray[np.floating]:
    """Stretch maps (..., h, w) to the size of the image."""
    if mode == "nearest":
        index = [
            np.arange(pixels) * cells // pixels
            for pixels, cells in zip(size, maps.shape[-2:], strict=True)
        ]
        return np.asarray(maps[..., index[0][:, None], index[1]])
    flat = torch.from_numpy(np.ascontiguousarray(maps))
    flat = flat.reshape(-1, 1, *maps.shape[-2:])
    found = torch.nn.functional.interpolate(
        flat, size=size, mode=mode, align_corners=False
    )
    return np.asarray(found.numpy().reshape(*maps.shape[:-2], *size))


def feature_regions(estimator, X, n_top=None) -> FeatureRegions:
    r"""Features that say most that rows are like each prototype.

    With weights :math:`w_{pf}` in the squared distance (1 where there are none), the
    feature :math:`f` brings row :math:`x` closer to prototype :math:`p` than rows are
    on average by :math:`w_{pf} (\mathrm{mean}_j (x_{jf} - p_f)^2 - (x_f - p_f)^2)`,
    in scaled units; the means are over the rows given. The largest make the region.

    Parameters
    ----------
    estimator : fitted estimator
        Fitted to a table, with prototypes in the space of its features.

    X : array-like of shape (n, f)
        Rows.

    n_top : int, default=None
        Features in a region; None is a tenth of all, at least 1.

    Returns
    -------
    regions : FeatureRegions
        Take the place of regions in consistency, purity and stability; groups of
        features take the place of parts.

    Raises
    ------
    TypeError
        If the prototypes do not live in the space of the features.

    ValueError
        If `n_top` is not between 1 and the number of features.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import feature_regions
    >>> from skproto.shallow import GLVQClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GLVQClassifier(1, random_state=0).fit(X, y)
    >>> regions = feature_regions(model, X, n_top=2)
    >>> regions.selected.shape, int(regions.selected[0, 0].sum())
    ((150, 3, 4), 2)
    """
    estimator, X = final_estimator(estimator, X)
    table = estimator.explain_global().prototypes if is_tabular(estimator) else None
    if table is None or table.values is None:
        raise TypeError(
            "feature_regions needs prototypes in the space of the features of a "
            f"table. {type(estimator).__name__} was fitted otherwise."
        )
    n_features = table.values.shape[1]
    top = max(1, round(FEATURE_SHARE * n_features)) if n_top is None else n_top
    if not 1 <= top <= n_features:
        raise ValueError(
            f"n_top must be an int from 1 to {n_features}, the number of features. Got "
            f"{n_top!r}."
        )
    return FeatureRegions(
        _closest_features(estimator, X, table, int(top)),
        np.asarray(estimator.transform(X), dtype=np.float64),
    )


def _closest_features(estimator, X, table, top: int) -> NDArray[np.bool_]:
    scaling = estimator._scaling
    rows = scaling.apply(estimator._check_input(X))
    rows = rows.astype(np.float64)
    p = scaling.apply(np.asarray(table.values))
    weights = np.ones(p.shape) if table.weights is None else np.asarray(table.weights)
    usual = (rows**2).mean(axis=0) - 2 * rows.mean(axis=0) * p + p**2
    selected = np.empty((len(rows), *p.shape), dtype=bool)
    for part in chunks(len(rows), chunk_size(4 * p.size)):
        gain = weights * (usual - (rows[part][:, None, :] - p) ** 2)
        order = np.argsort(-gain, axis=2, kind="stable")
        chosen = np.zeros(gain.shape, dtype=bool)
        np.put_along_axis(chosen, order[..., :top], True, axis=2)
        selected[part] = chosen
    return selected


def regions_of(estimator, X, half_size=None, upsample="nearest", n_top=None) -> Regions:
    """Return the regions of an estimator in samples, of images or of a table.

    Parameters
    ----------
    estimator : fitted estimator
        Fitted to images or to a table.

    X : array-like of shape (n, ...)
        Samples.

    half_size, upsample : object
        For images, see :func:`prototype_regions`.

    n_top : int, default=None
        For tables, see :func:`feature_regions`.

    Returns
    -------
    regions : PrototypeRegions or FeatureRegions
        The maps themselves are not kept: memory does not grow with them.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import regions_of
    >>> from skproto.shallow import GLVQClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> regions_of(GLVQClassifier(1, random_state=0).fit(X, y), X).n_prototypes
    3
    """
    estimator, X = final_estimator(estimator, X)
    if is_tabular(estimator):
        return feature_regions(estimator, X, n_top)
    size = image_size(estimator, X)
    found = [
        prototype_regions(maps_of(estimator, part), size, half_size, upsample)
        for part in sample_chunks(estimator, X, 64 * len(estimator.prototypes_))
    ]
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in found])
        for name in ("boxes", "similarities", "valid", "sites")
    }
    return replace(found[0], **joined)
