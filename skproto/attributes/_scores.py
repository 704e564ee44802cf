"""From drops of similarity to scores of prototypes: plain numpy."""

from __future__ import annotations

from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]

#: Similarities up to this are none: nothing can be lost of them.
NOTHING = 1e-12
# Tests whose drop is below this share of the similarity found nothing.
DEFAULT_TOL = 0.01


def normalized(
    drops: Floats, similarities: Floats, normalize, rms: Floats, floor: Any = 0.0
) -> Floats:
    """Return drops (n, P, A) in the units asked for.

    Parameters
    ----------
    drops : ndarray of shape (n, P, A)
        Similarity of the original less that of the changed sample.

    similarities : ndarray of shape (n, P)
        Similarities of the originals.

    normalize : {None, "relative", "per_rms"}
        As they are; divided by the similarity, NaN where it is not above the floor; or
        divided by the root mean squared change of the samples.

    rms : ndarray of shape (A,)
        Those changes; an attribute that changes nothing scores 0.

    floor : float or ndarray of shape (P,), default=0.0
        Similarity below which shares of it would explode.
    """
    if normalize == "relative":
        whole = similarities[..., None]
        known = whole > np.maximum(floor, NOTHING)[..., None]
        return np.where(known, drops / np.where(known, whole, 1.0), np.nan)
    if normalize == "per_rms":
        return np.where(rms > 0, drops / np.where(rms > 0, rms, 1.0), 0.0)
    return drops


def weighted_mean(values: Floats, similarities: Floats) -> Floats:
    r"""Mean over samples, weighted by the similarity of the original.

    .. math:: \phi_{pa} = \sum_i \Delta_{ipa} s_{ip} / \sum_i s_{ip}

    Negative similarities weigh nothing; values that are NaN do not count.

    Parameters
    ----------
    values : ndarray of shape (n, P, ...)
        Local scores.

    similarities : ndarray of shape (n, P)
        Similarities of the originals.

    Returns
    -------
    mean : ndarray of shape (P, ...)
        NaN where no sample is similar to the prototype.

    Examples
    --------
    >>> import numpy as np
    >>> drops, s = np.array([[[1.0]], [[0.5]], [[-0.2]]]), np.array([[4.0], [2], [1]])
    >>> round(float(weighted_mean(drops, s)[0, 0]), 6)
    0.685714
    """
    total = Total(1, values.shape[1:])
    total.add(values, similarities, np.ones((1, len(values))))
    return total.mean()[0]


class Total:
    """Weighted sums over samples that come some at a time, for several draws of them.

    Parameters
    ----------
    n_draws : int
        How often the samples are drawn (R).

    shape : tuple of int
        Shape (P, ...) of the values of a sample.
    """

    def __init__(self, n_draws: int, shape: tuple[int, ...]):
        self.sums = np.zeros((n_draws, *shape))
        self.weights = np.zeros((n_draws, *shape))

    def add(self, values: Floats, similarities: Floats, counts: Floats) -> None:
        """Add values (n, P, ...) of samples that are drawn `counts` (R, n) times."""
        weight = np.maximum(similarities, 0.0)
        weight = weight.reshape(*weight.shape, *[1] * (values.ndim - 2))
        known = ~np.isnan(values)
        weight = np.where(known, weight, 0.0)
        products = np.where(known, values, 0.0) * weight
        self.sums += np.tensordot(counts, products, 1)
        self.weights += np.tensordot(counts, weight, 1)

    def mean(self) -> Floats:
        """Return the weighted means (R, P, ...), NaN where no weight is."""
        known = self.weights > NOTHING
        return np.where(known, self.sums / np.where(known, self.weights, 1.0), np.nan)


def draws_of_samples(n_samples: int, n_resamples: int, rng) -> Floats:
    """Return how often (R + 1, n) samples are drawn with replacement; first, once."""
    once = np.ones((1, n_samples))
    if not n_resamples:
        return once
    share = np.full(n_samples, 1 / n_samples)
    again = rng.multinomial(n_samples, share, size=n_resamples)
    return np.concatenate([once, again.astype(np.float64)])


def interval_of(replicates: Floats, confidence_level: float) -> Floats | None:
    """Return lower and upper ends (2, ...) over draws (R, ...), None without draws."""
    if not len(replicates):
        return None
    tail = (1.0 - confidence_level) / 2
    known = ~np.isnan(replicates).all(axis=0)
    ends = np.nanquantile(np.where(known, replicates, 0.0), [tail, 1 - tail], axis=0)
    return np.where(known, ends, np.nan)


def null_scores(importance: Floats, speaks: NDArray[np.bool_]) -> Floats:
    """Return for each prototype the median score over prototypes of other classes.

    Parameters
    ----------
    importance : ndarray of shape (..., P, A)
        Scores of the prototypes.

    speaks : ndarray of shape (P, K), bool
        Classes that each prototype speaks for; others share none with it.

    Returns
    -------
    null : ndarray of shape (..., P, A)
        NaN where there is no prototype of another class.

    Examples
    --------
    >>> import numpy as np
    >>> own = np.array([[True, False], [False, True], [False, True]])
    >>> null_scores(np.array([[1.0], [2.0], [4.0]]), own).ravel().tolist()
    [3.0, 1.0, 1.0]
    """
    null = np.full(importance.shape, np.nan)
    kinds, which = np.unique(speaks, axis=0, return_inverse=True)
    for kind, classes in enumerate(kinds):
        others = ~(speaks & classes).any(axis=1)
        known = importance[..., others, :]
        if known.shape[-2]:
            middle = median_of(known, axis=-2)
            null[..., which.ravel() == kind, :] = middle[..., None, :]
    return null


def median_of(values: Floats, axis: int) -> Floats:
    """Return the median of the known values, NaN where there are none."""
    known = ~np.isnan(values).all(axis=axis, keepdims=True)
    found = np.nanmedian(np.where(known, values, 0.0), axis=axis, keepdims=True)
    return np.squeeze(np.where(known, found, np.nan), axis=axis)


# -- all attributes together -----------------------------------------------------------


def subsets(n_attributes: int) -> list[tuple[int, ...]]:
    """Return all subsets of attributes, the empty one first."""
    places = range(n_attributes)
    return [s for size in range(n_attributes + 1) for s in combinations(places, size)]


def shapley_values(values: dict[tuple[int, ...], Floats], n_attributes: int) -> Any:
    r"""Share out what all changes together do among the attributes.

    .. math:: \phi_a = \sum_{S \not\ni a} \frac{|S|!\,(A - |S| - 1)!}{A!}
        \left(v(S \cup \{a\}) - v(S)\right)

    Parameters
    ----------
    values : dict of tuple of int to ndarray
        What the changes of each subset do, v(S), with v(()) = 0.

    n_attributes : int
        A.

    Returns
    -------
    shares : ndarray of shape (..., A)
        They add up to what all do together.

    Examples
    --------
    >>> v = {(): 0.0, (0,): 1.0, (1,): 2.0, (0, 1): 4.0}
    >>> shapley_values(v, 2).tolist()
    [1.5, 2.5]
    """
    shares = []
    for a in range(n_attributes):
        total: Any = 0.0
        for subset in subsets(n_attributes):
            if a in subset:
                continue
            size = len(subset)
            weight = factorial(size) * factorial(n_attributes - size - 1)
            more = tuple(sorted((*subset, a)))
            total = total + weight * (values[more] - values[subset])
        shares.append(total / factorial(n_attributes))
    return np.stack([np.asarray(share) for share in shares], axis=-1)


# -- comparing prototypes and data sets ------------------------------------------------


def redundancy(importance: Floats) -> Floats:
    """Correlation (P, P) of the scores of prototypes over the attributes.

    Prototypes of which the same attributes count are near 1. NaN where the scores of a
    prototype are not known or all the same.

    Examples
    --------
    >>> import numpy as np
    >>> redundancy(np.array([[1.0, 0.0, 0.5], [2.0, 0.0, 1.0]])).round(3).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    centred = importance - importance.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1)
    known = length > NOTHING
    unit = centred / np.where(known, length, np.nan)[:, None]
    return np.clip(unit @ unit.T, -1.0, 1.0)


def spearman(first: Floats, second: Floats) -> Floats:
    """Rank correlation (A,) over the prototypes, for each attribute.

    NaN with fewer than 3 prototypes whose scores are known, or if all are the same.

    Examples
    --------
    >>> import numpy as np
    >>> ups = np.array([[1.0], [2.0], [5.0]])
    >>> spearman(ups, ups ** 2).tolist(), spearman(ups, -ups).tolist()
    ([1.0], [-1.0])
    """
    found = np.full(first.shape[1], np.nan)
    for a, (one, other) in enumerate(zip(first.T, second.T, strict=True)):
        known = ~(np.isnan(one) | np.isnan(other))
        if known.sum() < 3:
            continue
        ranks = rankdata(one[known]), rankdata(other[known])
        x, y = (r - r.mean() for r in ranks)
        size = np.sqrt((x**2).sum() * (y**2).sum())
        if size > 0:
            found[a] = (x * y).sum() / size
    return found


# -- sweeps ----------------------------------------------------------------------------


def area_under(amounts: Floats, curves: Floats) -> Floats:
    """Area under curves (..., S) over amounts (S,), by straight lines."""
    return np.asarray(np.trapezoid(curves, amounts, axis=-1))


def first_reach(amounts: Floats, curves: Floats, level: float) -> Floats:
    """Return the amount at which curves (..., S) first reach a level, else inf.

    Between two points a straight line is followed.

    Examples
    --------
    >>> import numpy as np
    >>> first_reach(np.array([0.0, 0.5, 1.0]), np.array([[0, 0.2, 0.3]]), 0.1).tolist()
    [0.25]
    """
    reached = curves >= level
    step = reached.argmax(axis=-1)
    before = np.maximum(step - 1, 0)
    high = np.take_along_axis(curves, step[..., None], -1)[..., 0]
    low = np.take_along_axis(curves, before[..., None], -1)[..., 0]
    rise = np.where(high > low, high - low, 1.0)
    share = np.where(step > 0, (level - low) / rise, 1.0)
    found = amounts[before] + share * (amounts[step] - amounts[before])
    found = np.where(np.isnan(curves).any(axis=-1), np.nan, found)
    return np.where(reached.any(axis=-1) | np.isnan(found), found, np.inf)
