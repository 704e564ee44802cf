"""What is kept of the images behind prototypes: boxes, patches, hashes, pixels."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skproto._images import SampleArray

# Bytes of source images that a fitted estimator keeps beside their patches.
MAX_KEPT_BYTES = 64 * 2**20


def image_hash(image: np.ndarray) -> str:
    """Return a SHA-256 of an image's values, with its shape and type."""
    image = np.ascontiguousarray(image)
    digest = hashlib.sha256(f"{image.dtype.str}{image.shape}".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def site_boxes(sites: np.ndarray, grid, image_shape) -> NDArray[np.int64]:
    """Pixels of the cells of a grid: (top, left, bottom, right), end exclusive.

    Parameters
    ----------
    sites : ndarray of int, any shape
        Numbers of the cells, row by row; -1 for none.

    grid : tuple of int or None
        Rows and columns of the grid; None: the one site is the whole image.

    image_shape : tuple of int
        (C, H, W).

    Returns
    -------
    boxes : ndarray of shape (*sites.shape, 4)
        All -1 where the site is -1.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto._provenance import site_boxes
    >>> site_boxes(np.array([0, 5, -1]), (4, 4), (1, 8, 8)).tolist()
    [[0, 0, 2, 2], [2, 2, 4, 4], [-1, -1, -1, -1]]
    """
    height, width = image_shape[1:]
    n_rows, n_columns = grid or (1, 1)
    row, column = np.divmod(np.asarray(sites), n_columns)
    boxes = np.stack(
        [
            row * height // n_rows,
            column * width // n_columns,
            -(-(row + 1) * height // n_rows),
            -(-(column + 1) * width // n_columns),
        ],
        axis=-1,
    )
    return np.where(np.asarray(sites)[..., None] < 0, -1, boxes)


def crop(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the part (C, h, w) of an image that a box holds; (C, 0, 0) for none."""
    top, left, bottom, right = (int(edge) for edge in box)
    return image[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)].copy()


def provenance(X: SampleArray, index, sites, grid, boxes=None) -> dict[str, Any]:
    """Return what is kept of the images behind the prototypes, by attribute name.

    Parameters
    ----------
    X : SampleArray
        Images.

    index : ndarray of shape (P,)
        Number of the image behind each prototype.

    sites : ndarray of shape (P,) or (P, M)
        Its site, or the sites of its parts; -1 for a part that is off.

    grid : tuple of int or None
        Rows and columns of the sites.

    boxes : ndarray of shape (*sites.shape, 4), default=None
        Pixels; those of the cells of the grid by default.
    """
    unique, inverse = np.unique(index, return_inverse=True)
    if boxes is None:
        boxes = site_boxes(sites, grid, X.sample_shape)
    images = [X[row : row + 1][0] for row in unique.tolist()]
    hashes = np.array([image_hash(image) for image in images])
    patches: list[Any]
    if boxes.ndim == 2:
        patches = [crop(images[i], box) for i, box in zip(inverse, boxes, strict=True)]
    else:
        patches = [
            [crop(images[i], box) for box in parts]
            for i, parts in zip(inverse, boxes, strict=True)
        ]
    n_bytes = len(index) * sum(image.nbytes for image in images[:1])
    return {
        "prototype_sites_": np.asarray(sites),
        "prototype_boxes_": boxes,
        "prototype_patches_": patches,
        "prototype_hashes_": hashes[inverse],
        "prototype_samples_": X[index] if n_bytes <= MAX_KEPT_BYTES else None,
    }
