"""Regions of estimators, whatever they were fitted to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from skproto.metrics._feature_regions import FeatureRegions, feature_regions
from skproto.metrics._inputs import (
    final_estimator,
    image_size,
    is_tabular,
    maps_of,
    sample_chunks,
)
from skproto.metrics._regions import (
    PrototypeRegions,
    prototype_regions,
    site_squares,
)

Regions = PrototypeRegions | FeatureRegions


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
        The maps themselves are not kept: memory does not grow with them. Where all
        similarities of a prototype vanish (its kernel has come to 0 everywhere), the
        site that the estimator names as nearest is taken.

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
    found = []
    for part in sample_chunks(estimator, X, 64 * len(estimator.prototypes_)):
        regions = prototype_regions(maps_of(estimator, part), size, half_size, upsample)
        if upsample == "nearest":
            regions = _at_vanished(estimator, part, regions)
        found.append(regions)
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in found])
        for name in ("boxes", "similarities", "valid", "sites")
    }
    return replace(found[0], **joined)


def _at_vanished(estimator, X, regions: PrototypeRegions) -> PrototypeRegions:
    """Use the nearest sites where similarities are 0 at all sites."""
    vanished = ~regions.valid & (regions.similarities == 0)
    grid, half = regions.grid, regions.half_size
    if grid is None or half is None or not vanished.any():
        return regions
    if grid == (1, 1) or not hasattr(estimator, "_forward"):
        return regions
    nearest = estimator._forward(estimator._check_input(X), ("sites",)).get("sites")
    if nearest is None or nearest.shape != vanished.shape:
        return regions
    sites = np.asarray(np.where(vanished, nearest, regions.sites), dtype=np.int64)
    return replace(
        regions,
        sites=sites,
        boxes=site_squares(sites, grid, regions.image_size, half),
        valid=regions.valid | vanished,
    )
