"""Whether explanations stay when a sample hardly changes, and move when it moves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from skproto.metrics._deletion import sample_values
from skproto.metrics._estimator_regions import regions_of
from skproto.metrics._inputs import (
    check_labels,
    check_lengths,
    final_estimator,
    image_size,
    membership,
    no_maps,
    prototype_classes,
)
from skproto.metrics._parts import mean_over_prototypes
from skproto.metrics._regions import PrototypeRegions
from skproto.metrics._stability import class_means


def _image_regions(estimator, values, half_size) -> PrototypeRegions:
    image_size(estimator, values)
    found = regions_of(estimator, values, half_size)
    if not isinstance(found, PrototypeRegions):
        raise no_maps(estimator)
    return found


def _own(estimator, y, regions: PrototypeRegions) -> NDArray[np.bool_]:
    if y is None:
        return regions.valid
    y = check_labels(estimator, y)
    check_lengths(X=regions, y=y)
    labels = prototype_classes(estimator)
    own = membership(y, labels, len(labels), estimator.classes_)
    return np.asarray(own & regions.valid)


def equivariance_score(
    estimator, X, y=None, *, shift=(2, 2), tolerance=None, per_prototype=False
):
    """How often the places that prototypes point at move with the image.

    Parameters
    ----------
    estimator : fitted estimator
        Fitted to images.

    X : array-like of shape (n, C, H, W)
        Images.

    y : array-like of shape (n,), default=None
        Labels: only images of its classes count for a prototype. None: all count.

    shift : tuple of two int, default=(2, 2)
        Pixels by which images are moved down and to the right; what leaves on one
        side comes back on the other.

    tolerance : float, default=None
        Largest distance in pixels, along each axis, that counts as moved with the
        image; half a cell of the map, but at least half a pixel, where None.

    per_prototype : bool, default=False
        Return one value for each prototype.

    Returns
    -------
    score : float or ndarray of shape (P,)
        From 0 to 1; distances are measured around the border, too.

    Raises
    ------
    TypeError
        If the estimator has no similarity maps.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skproto.metrics import equivariance_score
    >>> from skproto.networks import ProtoPNetClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> images = X.reshape(-1, 8, 8)[:200]
    >>> model = ProtoPNetClassifier(max_epochs=1, random_state=0).fit(images, y[:200])
    >>> equivariance_score(model, images[:32], shift=(0, 0))
    1.0
    """
    estimator, X = final_estimator(estimator, X)
    size = np.array(image_size(estimator, X))
    values = sample_values(estimator, X)
    before = _image_regions(estimator, values, 0)
    moved = np.roll(values, tuple(shift), axis=(-2, -1))
    after = _image_regions(estimator, moved, 0)
    cell = size / np.array(before.grid)
    limit = np.maximum(cell / 2, 0.5) if tolerance is None else float(tolerance)
    gap = _centers(after) - _centers(before) - np.array(shift)
    gap = np.abs((gap + size / 2) % size - size / 2)
    own = _own(estimator, y, before) & after.valid
    same = (gap <= limit + 1e-9).all(axis=-1).astype(np.float64)
    found = class_means(same, own)
    return found if per_prototype else mean_over_prototypes(found)


def _centers(regions: PrototypeRegions) -> NDArray[np.float64]:
    """Centres (n, P, 2) of regions, row and column in pixels."""
    boxes = regions.boxes.astype(np.float64)
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def box_overlap(boxes, others) -> NDArray[np.float64]:
    """Intersection over union (...) of boxes (..., 4), 0 where they are disjoint."""
    boxes, others = np.asarray(boxes), np.asarray(others)
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., 2:], others[..., 2:])
    # Each side is cut at 0 on its own: two negative ones are no area.
    both = (high - low).clip(0).prod(axis=-1)
    areas = [(b[..., 2:] - b[..., :2]).clip(0).prod(axis=-1) for b in (boxes, others)]
    either = areas[0] + areas[1] - both
    return np.where(either > 0, both / np.maximum(either, 1), 0.0)


def continuity_scores(
    estimator,
    X,
    change: Callable[[np.ndarray], np.ndarray],
    y=None,
    *,
    half_size=None,
    per_prototype=False,
):
    """How much regions, similarities and ranks of prototypes change with the image.

    Parameters
    ----------
    estimator : fitted estimator
        Fitted to images.

    X : array-like of shape (n, C, H, W)
        Images.

    change : callable
        Gets images (n, C, H, W) and returns as many, hardly changed: lighter, more
        contrast, noise.

    y : array-like of shape (n,), default=None
        Labels: only images of its classes count for a prototype. None: all count.

    half_size : int, default=None
        See :func:`prototype_regions`.

    per_prototype : bool, default=False
        Return one value for each prototype.

    Returns
    -------
    scores : dict of str to float or ndarray of shape (P,)
        "region", intersection over union of the regions before and after;
        "similarity", the absolute change relative to the largest similarity in
        absolute value; "rank", the change of rank among the prototypes of a sample as
        a share of the largest possible.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skproto.metrics import continuity_scores
    >>> from skproto.networks import ProtoPNetClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> images = X.reshape(-1, 8, 8)[:200]
    >>> model = ProtoPNetClassifier(max_epochs=1, random_state=0).fit(images, y[:200])
    >>> continuity_scores(model, images[:32], lambda x: x)["region"]
    1.0
    """
    estimator, X = final_estimator(estimator, X)
    values = sample_values(estimator, X)
    changed = np.asarray(change(values.copy()))
    if changed.shape != values.shape:
        raise ValueError(
            f"change must return images of shape {values.shape}. Got {changed.shape}."
        )
    before = _image_regions(estimator, values, half_size)
    after = _image_regions(estimator, changed, half_size)
    own = _own(estimator, y, before) & after.valid
    s = [
        np.asarray(estimator.transform(v), dtype=np.float64) for v in (values, changed)
    ]
    largest = max(np.abs(s[0]).max(), 1e-12)
    ranks = [np.argsort(np.argsort(-v, axis=1, kind="stable"), axis=1) for v in s]
    n_others = max(s[0].shape[1] - 1, 1)
    scores = {
        "region": box_overlap(before.boxes, after.boxes),
        "similarity": np.abs(s[1] - s[0]) / largest,
        "rank": np.abs(ranks[1] - ranks[0]) / n_others,
    }
    found = {name: class_means(value, own) for name, value in scores.items()}
    if per_prototype:
        return found
    return {name: mean_over_prototypes(value) for name, value in found.items()}
