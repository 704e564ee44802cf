"""Where prototypes start: class means, k-means centres or samples."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse as sp
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

# k-means sees at most this many samples of a class.
MAX_KMEANS_SAMPLES = 10_000


def start_prototypes(X, weight, n_prototypes, init, rng) -> np.ndarray:
    """Return up to `n_prototypes` distinct starting points for one group of samples.

    Parameters
    ----------
    X : ndarray or CSR array of shape (n, f)
        Samples of the group (a class, or all).

    weight : ndarray of shape (n,)
        Positive sample weights.

    n_prototypes : int
        Number of points wanted; at most the number of distinct samples is returned.

    init : {"kmeans", "mean", "sample"}
        "mean" returns one point.

    rng : numpy.random.RandomState
        Source of randomness.

    Returns
    -------
    points : ndarray of shape (m, f)
        Starting points, m <= n_prototypes.
    """
    if init == "mean" or (init == "kmeans" and n_prototypes == 1):
        return _mean(X, weight)
    if init == "sample":
        return _distinct_samples(X, weight, n_prototypes, rng)
    return _kmeans(X, weight, n_prototypes, rng)


def _mean(X, weight) -> np.ndarray:
    share = weight / weight.sum()
    return np.asarray(share @ X, dtype=np.float64).reshape(1, -1)


def _dense(rows) -> np.ndarray:
    return np.asarray(rows.toarray() if sp.issparse(rows) else rows, dtype=np.float64)


def _distinct_samples(X, weight, n_prototypes, rng) -> np.ndarray:
    order = rng.permutation(X.shape[0])
    picked = order[: min(4 * n_prototypes, len(order))]
    points = _distinct(_dense(X[picked]))
    if len(points) < n_prototypes and len(picked) < len(order):
        points = _distinct(_dense(X[order]))
    return points[:n_prototypes]


def _kmeans(X, weight, n_prototypes, rng) -> np.ndarray:
    if X.shape[0] > MAX_KMEANS_SAMPLES:
        index = rng.choice(X.shape[0], MAX_KMEANS_SAMPLES, replace=False)
        X, weight = X[np.sort(index)], weight[np.sort(index)]
    if X.shape[0] <= n_prototypes:
        return _distinct(_dense(X))
    kmeans = KMeans(n_prototypes, n_init=1, random_state=rng.randint(2**31 - 1))
    with warnings.catch_warnings():
        # Fewer distinct samples than centres: the copies are dropped just below.
        warnings.simplefilter("ignore", ConvergenceWarning)
        kmeans.fit(X, sample_weight=weight)
    return _distinct(np.asarray(kmeans.cluster_centers_, dtype=np.float64))


def _distinct(points: np.ndarray) -> np.ndarray:
    _, first = np.unique(points, axis=0, return_index=True)
    return points[np.sort(first)]


def start_class_prototypes(X, y, weight, counts, init, rng):
    """Return starting points for every class.

    Parameters
    ----------
    X, y, weight : arrays of n samples
        Samples, class codes, weights.

    counts : ndarray of shape (K,)
        Number of prototypes wanted of each class.

    init : {"kmeans", "mean", "sample"}
        See :func:`start_prototypes`; "mean" gives each class one prototype.

    rng : numpy.random.RandomState
        Source of randomness.

    Returns
    -------
    points : ndarray of shape (P, f)
        Starting points, ordered by class.

    labels : ndarray of shape (P,)
        Class code of each.
    """
    order = np.argsort(y, kind="stable")
    bounds = np.searchsorted(y[order], np.arange(len(counts) + 1))
    points = []
    for code, count in enumerate(counts):
        rows = order[bounds[code] : bounds[code + 1]]
        points.append(start_prototypes(X[rows], weight[rows], count, init, rng))
    found = np.array([len(p) for p in points])
    wanted = np.ones_like(counts) if init == "mean" else counts
    if np.any(found < wanted):
        short = np.flatnonzero(found < wanted)
        warnings.warn(
            f"{len(short)} class(es) have fewer distinct samples than prototypes asked "
            f"for: class number {short[0]} has {found[short[0]]}, "
            f"{wanted[short[0]]} were asked for. They get one prototype per distinct "
            "sample.",
            UserWarning,
            stacklevel=2,
        )
    return np.concatenate(points), np.repeat(np.arange(len(counts)), found)
