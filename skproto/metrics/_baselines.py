"""What chance alone gives: intervals, places at random, networks without training."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skproto.metrics._estimator_regions import Regions
from skproto.metrics._feature_regions import FeatureRegions
from skproto.metrics._inputs import check_count, check_lengths, check_share
from skproto.metrics._regions import PrototypeRegions
from skproto.utils._random import random_source


def bootstrap_interval(
    metric: Callable[..., Any],
    *arrays,
    n_resamples=200,
    confidence_level=0.95,
    random_state=None,
) -> NDArray[np.float64]:
    """Percentile interval of a score over samples drawn with replacement.

    Parameters
    ----------
    metric : callable
        Called with the arrays; returns a number or an array. Fix other parameters
        with `functools.partial`.

    *arrays : regions or array-like of length n
        What has one entry for each sample; None is passed on.

    n_resamples : int, default=200
        Number of draws.

    confidence_level : float, default=0.95
        In (0, 1].

    random_state : int, RandomState instance or None, default=None
        Seed of the draws.

    Returns
    -------
    interval : ndarray of shape (2, ...)
        Lower and upper end; NaN where the score is NaN in every draw.

    Examples
    --------
    >>> import numpy as np
    >>> from functools import partial
    >>> from skproto.metrics import bootstrap_interval, consistency_score
    >>> from skproto.metrics import prototype_regions
    >>> maps = np.zeros((20, 1, 8, 8))
    >>> maps[:, 0, 0, 0] = 1
    >>> regions = prototype_regions(maps, (8, 8))
    >>> bootstrap_interval(
    ...     partial(consistency_score, soft=True), regions, np.zeros((20, 1, 2)),
    ...     random_state=0,
    ... ).tolist()
    [1.0, 1.0]
    """
    check_count("n_resamples", n_resamples, 1)
    check_share("confidence_level", confidence_level)
    names = {f"array {i}": array for i, array in enumerate(arrays)}
    n_samples = check_lengths(**names)
    rng = random_source(random_state)
    found = []
    with warnings.catch_warnings():
        # A draw may hold few samples of a class though the data do not.
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(n_resamples):
            rows = rng.randint(n_samples, size=n_samples)
            found.append(metric(*(_take(array, rows) for array in arrays)))
    values = np.asarray(found, dtype=np.float64)
    tail = (1.0 - confidence_level) / 2
    known = ~np.isnan(values).all(axis=0)
    filled = np.where(known, values, 0.0)
    ends = np.nanquantile(filled, [tail, 1.0 - tail], axis=0)
    return np.where(known, ends, np.nan)


def _take(array, rows):
    if array is None:
        return None
    if isinstance(array, PrototypeRegions | FeatureRegions):
        return array.take(rows)
    return np.asarray(array)[rows]


def random_place_score(
    metric: Callable[[Regions], Any],
    regions: Regions,
    *,
    n_repeats=10,
    random_state=None,
):
    """Score of regions at places that know nothing, of the same kind and size.

    Parameters
    ----------
    metric : callable
        Called with the regions; returns a number or an array. Fix other parameters
        with `functools.partial`.

    regions : PrototypeRegions or FeatureRegions
        Regions whose kind and size are taken.

    n_repeats : int, default=10
        Number of draws that are averaged.

    random_state : int, RandomState instance or None, default=None
        Seed of the places.

    Returns
    -------
    score : float or ndarray
        Mean over the draws.

    Examples
    --------
    >>> import numpy as np
    >>> from functools import partial
    >>> from skproto.metrics import prototype_regions, purity_score
    >>> from skproto.metrics import random_place_score
    >>> maps = np.zeros((100, 1, 16, 16))
    >>> maps[:, 0, 8, 8] = 1
    >>> regions = prototype_regions(maps, (16, 16), half_size=1)
    >>> metric = partial(
    ...     purity_score, part_locations=np.full((100, 1, 2), 8), top_k=None
    ... )
    >>> metric(regions), random_place_score(metric, regions, random_state=0) < 0.1
    (1.0, True)
    """
    check_count("n_repeats", n_repeats, 1)
    rng = random_source(random_state)
    found = [metric(regions.at_random(rng)) for _ in range(n_repeats)]
    values = np.mean(found, axis=0)
    return values if values.ndim else float(values)


def untrained(estimator, X, y):
    """Fit a copy of an estimator without a single step of training.

    Its encoder has random weights (unless it is pretrained), its prototypes are what
    the start and the projection make of the data, and its head is fitted where the
    estimator does so at the end. What it scores is no merit of training.

    Parameters
    ----------
    estimator : estimator
        Any estimator of the package.

    X : array-like of shape (n, ...)
        Training samples.

    y : array-like of shape (n,)
        Their labels.

    Returns
    -------
    estimator : estimator
        A clone, fitted with ``max_epochs=0``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import untrained
    >>> from skproto.shallow import GLVQClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> untrained(GLVQClassifier(random_state=0), X, y).n_iter_
    0
    """
    copy = clone(estimator)
    names = [n for n in copy.get_params() if n.rpartition("__")[2] == "max_epochs"]
    if not names:
        raise TypeError(
            f"untrained needs an estimator with max_epochs. {type(copy).__name__} has "
            "no such parameter."
        )
    copy.set_params(**dict.fromkeys(names, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        return copy.fit(X, y)
