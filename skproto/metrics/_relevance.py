"""Whether prototypes look at the object: relevance and overlap with object masks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from skproto.metrics._inputs import (
    check_lengths,
    check_maps,
    check_masks,
    check_option,
    check_share,
    chunk_size,
    membership,
)
from skproto.metrics._parts import mean_over_prototypes
from skproto.metrics._regions import UPSAMPLING, upsampled
from skproto.training import chunks


def _checked(maps, masks, y, prototype_labels, classes):
    """Return maps without negative entries, masks, and which pairs (n, P) count."""
    maps = check_maps(maps)
    masks = check_masks(masks, len(maps))
    check_lengths(maps=maps, y=y)
    own = membership(y, prototype_labels, maps.shape[1], classes)
    if own is None:
        own = np.ones(maps.shape[:2], dtype=bool)
    return np.maximum(maps, 0.0), masks, own


def _pairs(maps, masks, own, upsample) -> Iterator[tuple]:
    """Yield prototypes (m,), maps (m, pixels) and masks (m, pixels) of pairs."""
    samples, prototypes = np.nonzero(own)
    size = masks.shape[1:]
    for part in chunks(len(samples), chunk_size(size[0] * size[1])):
        i, p = samples[part], prototypes[part]
        pixels = upsampled(maps[i, p], size, upsample)
        # Stretching by polynomials may undershoot.
        pixels = np.maximum(pixels, 0.0).astype(np.float64)
        yield p, pixels.reshape(len(i), -1), masks[i].reshape(len(i), -1)


def _by_prototype(found, n_prototypes: int) -> NDArray[np.float64]:
    """Mean (P,) of values of pairs, those that are NaN left out."""
    prototype = np.concatenate([p for p, _ in found] or [np.empty(0, dtype=int)])
    value = np.concatenate([v for _, v in found] or [np.empty(0)])
    known = ~np.isnan(value)
    count = np.bincount(prototype[known], minlength=n_prototypes)
    total = np.bincount(prototype[known], value[known], minlength=n_prototypes)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _share(part, whole) -> NDArray[np.float64]:
    """Quotient; NaN where there is nothing to divide by."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan)


def _energy(pixels, mask, area) -> NDArray[np.float64]:
    return _share((pixels * mask).sum(axis=1), pixels.sum(axis=1))


def _top_share(pixels, mask, area) -> NDArray[np.float64]:
    top = pixels > np.quantile(pixels, 1.0 - area, axis=1, keepdims=True)
    count = top.sum(axis=1)
    return np.where(count > 0, (top & mask).sum(axis=1) / np.maximum(count, 1), 0.0)


RELEVANCE = {"energy": _energy, "mask": _top_share}


def relevance_score(
    maps,
    masks,
    kind="energy",
    area=0.1,
    *,
    y=None,
    prototype_labels=None,
    classes=None,
    upsample="nearest",
    per_prototype=False,
):
    r"""Share of the similarity of prototypes that lies on the object.

    "energy" is :math:`\sum_t A_t S_t / \sum_t A_t` for a map :math:`A` and an object
    mask :math:`S`; "mask" the share of the pixels of highest similarity inside of it.

    Parameters
    ----------
    maps : array-like of shape (n, P, h, w)
        Similarities, as `similarity_maps` returns them. Negative ones count as 0.

    masks : array-like of shape (n, H, W), bool
        Pixels of the object.

    kind : {"energy", "mask"}, default="energy"
        What is measured.

    area : float, default=0.1
        Share of the pixels that are the highest, for "mask". Strictly above the
        quantile; 0 where there are no such pixels.

    y, prototype_labels, classes : array-like, default=None
        Count for a prototype only samples of its classes, as in
        :func:`consistency_score`.

    upsample : {"nearest", "bilinear", "bicubic"}, default="nearest"
        How maps are stretched to the size of the masks.

    per_prototype : bool, default=False
        Return one value for each prototype.

    Returns
    -------
    score : float or ndarray of shape (P,)
        From 0 to 1; NaN where a prototype has no similarity anywhere.

    References
    ----------
    Xu-Darme, R. et al. (2023). Sanity checks for patch visualisation in
    prototype-based image classification. *CVPR workshops* (pointing game).

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.metrics import relevance_score
    >>> maps = np.array([[[[0.5, 0.25], [0.25, 0.0]]]])
    >>> relevance_score(maps, [[[True, False], [True, False]]])
    0.75
    """
    check_option("kind", kind, tuple(RELEVANCE))
    check_option("upsample", upsample, UPSAMPLING)
    check_share("area", area)
    maps, masks, own = _checked(maps, masks, y, prototype_labels, classes)
    measure = RELEVANCE[kind]
    found = [
        (p, measure(pixels, mask, area))
        for p, pixels, mask in _pairs(maps, masks, own, upsample)
    ]
    values = _by_prototype(found, maps.shape[1])
    return values if per_prototype else mean_over_prototypes(values)


def overlap_scores(
    maps,
    masks,
    quantile=0.95,
    *,
    y=None,
    prototype_labels=None,
    classes=None,
    upsample="nearest",
    per_prototype=False,
):
    r"""Overlap of the pixels of highest similarity with the object.

    With :math:`M` the pixels at or above the quantile of a map :math:`A` (and above
    0) and the object :math:`S`.

    Parameters
    ----------
    maps : array-like of shape (n, P, h, w)
        Similarities, as `similarity_maps` returns them. Negative ones count as 0.

    masks : array-like of shape (n, H, W), bool
        Pixels of the object.

    quantile : float, default=0.95
        In (0, 1].

    y, prototype_labels, classes : array-like, default=None
        Count for a prototype only samples of its classes, as in
        :func:`consistency_score`.

    upsample : {"nearest", "bilinear", "bicubic"}, default="nearest"
        How maps are stretched to the size of the masks.

    per_prototype : bool, default=False
        Return one value for each prototype.

    Returns
    -------
    scores : dict of str to float or ndarray of shape (P,)
        "iou", :math:`|M \cap S| / |M \cup S|`; "object", :math:`|M \cap S| / |S|`;
        "background", :math:`1 - |M \cap S| / |M|`; "inside_outside", the mean of the
        non-zero entries of :math:`A / \max A` inside of the object less the mean
        outside, from -1 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.metrics import overlap_scores
    >>> maps = np.zeros((1, 1, 2, 2))
    >>> maps[0, 0, 0, 0] = 2.0
    >>> scores = overlap_scores(maps, [[[True, False], [True, False]]])
    >>> scores["iou"], scores["object"], scores["background"]
    (0.5, 0.5, 0.0)
    >>> scores["inside_outside"]
    1.0
    """
    check_share("quantile", quantile)
    check_option("upsample", upsample, UPSAMPLING)
    maps, masks, own = _checked(maps, masks, y, prototype_labels, classes)
    found: dict[str, list] = {}
    for p, pixels, mask in _pairs(maps, masks, own, upsample):
        for name, value in _overlaps(pixels, mask, quantile).items():
            found.setdefault(name, []).append((p, value))
    values = {name: _by_prototype(v, maps.shape[1]) for name, v in found.items()}
    if per_prototype:
        return values
    return {name: mean_over_prototypes(v) for name, v in values.items()}


def _overlaps(pixels, mask, quantile: float) -> dict[str, NDArray[np.float64]]:
    top = pixels >= np.quantile(pixels, quantile, axis=1, keepdims=True)
    top &= pixels > 0
    both, either = (top & mask).sum(axis=1), (top | mask).sum(axis=1)
    highest = pixels.max(axis=1, keepdims=True)
    scaled = pixels / np.where(highest > 0, highest, 1.0)
    active = mask & (scaled > 0)
    inside = (scaled * active).sum(axis=1) / np.maximum(active.sum(axis=1), 1)
    n_outside = (~mask).sum(axis=1)
    outside = (scaled * ~mask).sum(axis=1) / np.maximum(n_outside, 1)
    return {
        "iou": _share(both, either),
        "object": _share(both, mask.sum(axis=1)),
        "background": 1.0 - _share(both, top.sum(axis=1)),
        "inside_outside": np.where(highest[:, 0] > 0, inside - outside, np.nan),
    }
