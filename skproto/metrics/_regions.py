"""The regions that prototypes point at, and the parts that lie in them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from skproto.metrics._inputs import (
    check_maps,
    check_option,
    check_parts,
    chunk_size,
)
from skproto.training import chunks
from skproto.utils._random import random_source

UPSAMPLING = ("nearest", "bilinear", "bicubic")

# Half of the side of a region, as a share of the image: 36 of 224 pixels for
# consistency and stability, 16 of 224 for purity.
HALF_SIZE, PURITY_HALF_SIZE = 36 / 224, 16 / 224


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
        """Return the regions in some samples.

        Parameters
        ----------
        rows : slice or array-like of int or bool
            Which samples.

        Returns
        -------
        regions : PrototypeRegions
            All prototypes in these samples.
        """
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
            Pixels x and y of each part.

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
        """Tell which parts can be seen.

        Parameters
        ----------
        part_locations : array-like of shape (n, M, 2)
            Pixels x and y of each part.

        part_visible : array-like of shape (n, M), default=None
            Whether the part can be seen; None: all can.

        Returns
        -------
        visible : ndarray of shape (n, M), bool
            Checked against the locations.
        """
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
