"""How large models and explanations are, and how much of it says the same twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skproto.metrics._inputs import (
    activations_of,
    check_labels,
    check_lengths,
    check_option,
    check_share,
    evidence_chunks,
    final_estimator,
    prototype_classes,
)

# Share of the largest contribution from which on one is strong.
STRONG = 0.1

# Decimals after which two prototypes are the same.
N_DECIMALS = 8


def sparsity_score(weights, tol=1e-3, *, per_prototype=False):
    """Share of the weights between prototypes and classes that are zero.

    Parameters
    ----------
    weights : array-like of shape (P, K)
        Weights of the head.

    tol : float, default=1e-3
        Weights no larger than this in absolute value are zero.

    per_prototype : bool, default=False
        Return one value for each prototype.

    Returns
    -------
    score : float or ndarray of shape (P,)
        From 0 to 1.

    Examples
    --------
    >>> from skproto.metrics import sparsity_score
    >>> sparsity_score([[1.2, 0.0], [0.0, 0.7], [0.0, 0.0], [0.0005, 0.0]])
    0.75
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim != 2 or not weights.size:
        raise ValueError(
            "weights must have shape (n_prototypes, n_classes). Got shape "
            f"{weights.shape}."
        )
    values = (np.abs(weights) <= tol).mean(axis=1)
    return values if per_prototype else float(values.mean())


def contribution_sizes(
    similarities, weights, tol=1e-3, share=0.95
) -> dict[str, NDArray[np.float64]]:
    r"""Count the prototypes behind class scores that are sums of s times w.

    Parameters
    ----------
    similarities : array-like of shape (n, P)
        Similarities of the samples to the prototypes.

    weights : array-like of shape (P, K)
        Weights of the head.

    tol : float, default=1e-3
        Contributions above this count.

    share : float, default=0.95
        See :func:`explanation_size`.

    Returns
    -------
    sizes : dict of str to ndarray
        "global" (), "local" (n,), "strong" (n,), "class" (n, K), "effective" (n,): as
        in :func:`explanation_size`, but for each sample.

    Examples
    --------
    >>> from skproto.metrics import contribution_sizes
    >>> weights = [[1.2, 0.0], [0.0, 0.7], [0.0, 0.0], [0.0005, 0.0]]
    >>> sizes = contribution_sizes([[0.9, 0.05, 0.3, 0.8]], weights)
    >>> sizes["global"].tolist(), sizes["local"].tolist(), sizes["class"].tolist()
    (2, [2], [[1, 1]])
    """
    similarities = np.asarray(similarities, dtype=np.float64)
    weights = np.asarray(weights, dtype=np.float64)
    if similarities.ndim != 2 or similarities.shape[1] != len(weights):
        raise ValueError(
            "similarities must have one column for each row of weights. Got shapes "
            f"{similarities.shape} and {weights.shape}."
        )
    terms = similarities[:, :, None] * weights
    sizes = _sizes(terms, terms.sum(axis=1), tol, check_share("share", share))
    return {"global": np.array((weights > tol).any(axis=1).sum()), **sizes}


def _sizes(terms, scores, tol, share) -> dict[str, NDArray]:
    """Count units per sample, contributions (n, U, K) given."""
    large = terms > tol
    winner = scores.argmax(axis=1)
    towards = np.take_along_axis(terms, winner[:, None, None], axis=2)[..., 0]
    ordered = np.sort(np.abs(towards), axis=1)[:, ::-1]
    reached = ordered.cumsum(axis=1)
    wanted = share * reached[:, -1:]
    effective = np.where(wanted[:, 0] > 0, (reached < wanted).sum(axis=1) + 1, 0)
    return {
        "local": large.any(axis=2).sum(axis=1),
        "strong": (ordered > STRONG * ordered[:, :1]).sum(axis=1),
        "class": large.sum(axis=1),
        "effective": effective,
    }


def explanation_size(estimator, X, *, tol=1e-3, share=0.95, per_prototype=False) -> Any:
    """How many prototypes a model has in use, and how many a prediction needs.

    Parameters
    ----------
    estimator : fitted estimator
        Any estimator of the package.

    X : array-like of shape (n, ...)
        Samples.

    tol : float, default=1e-3
        Contributions above this count.

    share : float, default=0.95
        Share of the contributions to the predicted class, in absolute value, that the
        effective number of units makes up.

    per_prototype : bool, default=False
        Return instead the share of the samples for which each unit contributes to a
        class.

    Returns
    -------
    sizes : dict of str to float, or ndarray of shape (U,)
        "global", the units that contribute to any class for any sample; "local", the
        mean number that does for one sample; "strong", the mean number whose
        contribution to the predicted class is above 10 % of the largest, in absolute
        value; "per_class", the mean number that contributes to one class;
        "effective", the mean number that makes up `share`. For trees "path", the mean
        number of prototypes on the path; their units are leaves.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import explanation_size
    >>> from skproto.shallow import RBFClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RBFClassifier(n_prototypes_per_class=2, random_state=0).fit(X, y)
    >>> sizes = explanation_size(model, X)
    >>> sizes["global"] <= 6, sizes["effective"] <= sizes["global"]
    (True, True)
    """
    check_share("share", share)
    estimator, X = final_estimator(estimator, X)
    used, parts, paths = 0, [], []
    n_samples = 0
    for _, found in evidence_chunks(estimator, X):
        terms = np.asarray(found["class_contributions"])
        used = used + (terms > tol).any(axis=2).sum(axis=0)
        n_samples += len(terms)
        parts.append(_sizes(terms, np.asarray(found["scores"]), tol, share))
        paths += [len(path) - 1 for path in found.get("path") or []]
    if per_prototype:
        return np.asarray(used / n_samples)
    sizes = {
        "global": float(np.count_nonzero(used)),
        "local": float(np.concatenate([p["local"] for p in parts]).mean()),
        "strong": float(np.concatenate([p["strong"] for p in parts]).mean()),
        "per_class": float(np.concatenate([p["class"] for p in parts]).mean()),
        "effective": float(np.concatenate([p["effective"] for p in parts]).mean()),
    }
    return {**sizes, "path": float(np.mean(paths))} if paths else sizes


def prototype_uniqueness(estimator, kind="vectors", *, per_prototype=False):
    """Share of the prototypes that differ from each other.

    Parameters
    ----------
    estimator : fitted estimator
        Any estimator of the package.

    kind : {"vectors", "parts", "sources", "places"}, default="vectors"
        Whether the prototypes themselves must differ (after eight decimals), their
        parts where they have several, the training samples behind them, or the places
        in these samples.

    per_prototype : bool, default=False
        Return for each prototype whether no other is the same; not for parts.

    Returns
    -------
    score : float or ndarray of shape (P,), bool
        Number of distinct ones divided by the number of prototypes, or of the parts
        that are switched on.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import prototype_uniqueness
    >>> from skproto.shallow import GLVQClassifier
    >>> model = GLVQClassifier(random_state=0).fit(*load_iris(return_X_y=True))
    >>> prototype_uniqueness(model)
    1.0
    """
    check_option("kind", kind, ("vectors", "parts", "sources", "places"))
    estimator, _ = final_estimator(estimator, None)
    check_is_fitted(estimator)
    n_prototypes = len(estimator.prototypes_)
    if kind == "parts":
        if per_prototype:
            raise ValueError("per_prototype=True needs a kind other than 'parts'.")
        return _unique_parts(estimator)
    if kind == "vectors":
        keys = np.round(np.asarray(estimator.prototypes_), N_DECIMALS) + 0.0
    else:
        keys = np.asarray(estimator.prototype_indices_)
        if kind == "places":
            sites = getattr(estimator, "prototype_sites_", np.zeros(n_prototypes))
            keys = np.column_stack([keys, np.reshape(sites, (n_prototypes, -1))])
    keys = keys.reshape(n_prototypes, -1)
    _, inverse, count = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    if per_prototype:
        return np.asarray(count[inverse.ravel()] == 1)
    return len(count) / n_prototypes


def _unique_parts(estimator) -> float:
    """Return the share of the parts that are switched on and differ."""
    vectors = np.asarray(estimator.prototypes_)
    parts = vectors if vectors.ndim == 3 else vectors.reshape(len(vectors), 1, -1)
    on = getattr(estimator, "slots_", None)
    if on is None or np.shape(on) != parts.shape[:2]:
        on = np.ones(parts.shape[:2], dtype=bool)
    shown = np.round(parts[np.asarray(on) > 0.5], N_DECIMALS) + 0.0
    return len(np.unique(shown, axis=0)) / max(len(shown), 1)


def redundancy_score(estimator, X, *, per_prototype=False):
    """How alike the prototypes answer: the highest correlation with another one.

    Parameters
    ----------
    estimator : fitted estimator
        Any estimator of the package.

    X : array-like of shape (n, ...)
        Samples.

    per_prototype : bool, default=False
        Return one value for each prototype.

    Returns
    -------
    score : float or ndarray of shape (P,)
        Mean over the prototypes; 1 where each has a twin. 0 for a single prototype
        and for one whose similarity never changes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import redundancy_score
    >>> from skproto.shallow import GLVQClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> bool(-1 <= redundancy_score(GLVQClassifier(random_state=0).fit(X, y), X) <= 1)
    True
    """
    estimator, X = final_estimator(estimator, X)
    activations = activations_of(estimator, X)
    centred = activations - activations.mean(axis=0)
    length = np.linalg.norm(centred, axis=0)
    floor = 1e-9 * np.abs(activations).max(initial=0.0)
    centred = np.where(length > floor, centred / np.where(length > 0, length, 1), 0)
    alike = centred.T @ centred
    np.fill_diagonal(alike, -np.inf)
    highest = alike.max(axis=1)
    values = np.where(np.isfinite(highest), highest, 0.0)
    return values if per_prototype else float(values.mean())


def prototype_coverage(estimator, X, y, *, per_prototype=False):
    """Share of the samples that are most like a prototype of their own class.

    Parameters
    ----------
    estimator : fitted estimator
        Any estimator of the package.

    X : array-like of shape (n, ...)
        Samples.

    y : array-like of shape (n,)
        Their labels.

    per_prototype : bool, default=False
        Return for each prototype the share of the samples of its classes that are
        most like it; NaN where there are none.

    Returns
    -------
    score : float or ndarray of shape (P,)
        From 0 to 1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import prototype_coverage
    >>> from skproto.shallow import GLVQClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GLVQClassifier(random_state=0).fit(X, y)
    >>> bool(prototype_coverage(model, X, y) > 0.9)
    True
    """
    estimator, X = final_estimator(estimator, X)
    activations = activations_of(estimator, X)
    y = check_labels(estimator, y)
    check_lengths(X=activations, y=y)
    speaks = prototype_classes(estimator)
    own = speaks[:, np.searchsorted(estimator.classes_, y)].T
    wins = np.zeros(own.shape, dtype=bool)
    wins[np.arange(len(own)), activations.argmax(axis=1)] = True
    if not per_prototype:
        return float((wins & own).any(axis=1).mean())
    n_own = own.sum(axis=0)
    share = (wins & own).sum(axis=0) / np.maximum(n_own, 1)
    return np.where(n_own > 0, share, np.nan)


def prototype_drift(before, after, *, per_prototype=False):
    """How far prototypes moved from one fitted estimator to a later one.

    Parameters
    ----------
    before, after : fitted estimators
        Prototypes belong together by their `prototype_ids_`.

    per_prototype : bool, default=False
        Return one value for each prototype of `before`.

    Returns
    -------
    drift : float or ndarray of shape (P,)
        Mean Euclidean distance in the space of `prototypes_`; NaN for prototypes that
        are gone, which do not count in the mean.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import prototype_drift
    >>> from skproto.shallow import GLVQClassifier
    >>> model = GLVQClassifier(random_state=0).fit(*load_iris(return_X_y=True))
    >>> prototype_drift(model, model)
    0.0
    """
    for estimator in (before, after):
        check_is_fitted(estimator)
    old, new = np.asarray(before.prototype_ids_), np.asarray(after.prototype_ids_)
    same = old[:, None] == new[None, :]
    start, end = np.asarray(before.prototypes_), np.asarray(after.prototypes_)
    if start.shape[1:] != end.shape[1:]:
        raise ValueError(
            "before and after must have prototypes of one shape. Got "
            f"{start.shape[1:]} and {end.shape[1:]}."
        )
    moved = (start - end[same.argmax(axis=1)]).reshape(len(start), -1)
    values = np.where(same.any(axis=1), np.linalg.norm(moved, axis=1), np.nan)
    known = ~np.isnan(values)
    if per_prototype:
        return values
    return float(values[known].mean()) if known.any() else float("nan")
