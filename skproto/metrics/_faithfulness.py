"""Whether explanations say what the model computes, and how much they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.utils.validation import check_is_fitted

from skproto.metrics._inputs import (
    check_count,
    check_labels,
    check_lengths,
    evidence_chunks,
    evidence_of,
    final_estimator,
    is_tabular,
    sample_chunks,
)
from skproto.metrics._parts import mean_over_prototypes
from skproto.metrics._stability import with_noise
from skproto.utils._random import random_source


def hard_fidelity(estimator, X, *, per_prototype=False):
    """Share of the samples that a tree's one path and its soft sum give the same class.

    Parameters
    ----------
    estimator : fitted prototype tree or ensemble of trees
        What can be read as one path from prototype to prototype.

    X : array-like of shape (n, ...)
        Samples.

    per_prototype : bool, default=False
        Return for each prototype the share among the samples whose path meets it; NaN
        where none does. Not for ensembles.

    Returns
    -------
    score : float or ndarray of shape (P,)
        From 0 to 1; for an ensemble the mean over its trees.

    Raises
    ------
    TypeError
        If the estimator is no tree.

    References
    ----------
    Nauta, M., van Bree, R. and Seifert, C. (2021). Neural Prototype Trees for
    Interpretable Fine-grained Image Recognition. *CVPR*, section 5.2.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import hard_fidelity
    >>> from skproto.trees import ProtoTreeClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> tree = ProtoTreeClassifier(depth=2, max_epochs=5, random_state=0).fit(X, y)
    >>> bool(hard_fidelity(tree, X) > 0.5)
    True
    """
    estimator, X = final_estimator(estimator, X)
    check_is_fitted(estimator)
    members = getattr(estimator, "estimators_", [estimator])
    if not all(hasattr(member, "tree_") for member in members):
        raise TypeError(
            "hard_fidelity needs a prototype tree, which has a path for each sample. "
            f"Got {type(estimator).__name__}."
        )
    found = [_tree_fidelity(member, X) for member in members]
    if not per_prototype:
        return float(np.mean([agrees.mean() for agrees, _ in found]))
    if len(members) > 1:
        raise TypeError("per_prototype=True needs one tree. Got an ensemble.")
    agrees, met = found[0]
    n_met = met.sum(axis=0)
    share = agrees.astype(np.float64) @ met / np.maximum(n_met, 1)
    return np.where(n_met > 0, share, np.nan)


def _tree_fidelity(tree, X) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether path and sum agree (n,), and which prototypes (n, P) a path meets."""
    agrees, met = [], []
    structure = tree._module.structure
    position = np.asarray(tree.tree_.prototype)
    for _, found in evidence_chunks(tree, X):
        agrees.append(np.asarray(found["agrees"]))
        path = structure.paths[np.asarray(found["leaf"])]
        visited = np.zeros((len(path), len(position) + 1))
        np.put_along_axis(visited, path, 1.0, axis=1)  # -1 falls into the last column
        inner = np.flatnonzero(position >= 0)
        here = np.zeros((len(path), len(tree.prototypes_)))
        here[:, position[inner]] = visited[:, inner]
        met.append(here)
    return np.concatenate(agrees), np.concatenate(met)


def additivity_error(estimator, X, *, relative=False, per_prototype=False):
    """Largest gap between the sum of the contributions and the decision.

    A promise of every estimator of this package, not a score: the gap is rounding.

    Parameters
    ----------
    estimator : fitted estimator
        Any estimator with `explain` and `decision_function`.

    X : array-like of shape (n, ...)
        Samples.

    relative : bool, default=False
        Divide by the sum of the terms in absolute value, at least 1.

    per_prototype : bool, default=False
        Return for each prototype the largest gap between its contribution and its
        similarity times its weight. Only where the head is linear.

    Returns
    -------
    error : float or ndarray of shape (P,)
        At most about 1e-5 of the terms that are added, in float32.

    Raises
    ------
    TypeError
        If `per_prototype` is asked of a head that is not linear.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import additivity_error
    >>> from skproto.shallow import RBFClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> additivity_error(RBFClassifier(random_state=0).fit(X, y), X) < 1e-5
    True
    """
    estimator, X = final_estimator(estimator, X)
    errors: list[Any] = []
    for part, found in evidence_chunks(estimator, X):
        terms = np.asarray(found["class_contributions"], dtype=np.float64)
        if per_prototype:
            expected = _weighted(estimator, found)
            errors.append(np.abs(terms - expected).max(axis=(0, 2)))
            continue
        case = estimator.explain(part)
        total = case.contributions.sum(axis=1) + case.bias
        gap = np.abs(total - estimator.decision_function(part))
        if relative:
            size = np.abs(terms).sum(axis=1).max(axis=1)
            gap = gap / np.maximum(size.reshape(-1, *[1] * (gap.ndim - 1)), 1.0)
        errors.append(gap.max())
    return np.max(errors, axis=0) if per_prototype else float(np.max(errors))


def _weighted(estimator, found) -> NDArray[np.float64]:
    weights = found.get("head_weights")
    if weights is None:
        raise TypeError(
            "per_prototype=True needs a linear head: contributions are similarity "
            f"times weight. The head of {type(estimator).__name__} is another."
        )
    usual = found.get("baseline")
    similarities = found["similarities"] - (0.0 if usual is None else usual)
    return np.asarray(similarities[:, :, None] * weights)


def _probabilities(estimator, scores) -> NDArray[np.float64]:
    """Probabilities (..., K) of changed scores."""
    flat = scores.reshape(-1, scores.shape[-1])
    link = getattr(estimator, "_probabilities", None)
    if link is None:
        return np.asarray(softmax(scores, axis=-1))
    floor = np.maximum(flat, 1e-12) if (flat.sum(axis=1) <= 0).any() else flat
    try:
        found = link({"scores": floor})
    except KeyError:  # needs more than scores
        found = softmax(flat, axis=1)
    return np.asarray(found).reshape(scores.shape)


def faithfulness_score(estimator, X, *, per_prototype=False):
    """Correlation of contributions with what their removal does to the probability.

    For each sample, over the units: the contribution to the score of the predicted
    class beside the drop of its probability when the unit is taken out of all scores.

    Parameters
    ----------
    estimator : fitted estimator
        Any estimator of the package.

    X : array-like of shape (n, ...)
        Samples.

    per_prototype : bool, default=False
        Return for each unit (prototype, or leaf of a tree) the correlation over the
        samples.

    Returns
    -------
    score : float or ndarray of shape (U,)
        Mean over the samples, from -1 to 1; NaN where nothing varies.

    References
    ----------
    Alvarez-Melis, D. and Jaakkola, T. (2018). Towards Robust Interpretability with
    Self-Explaining Neural Networks. *NeurIPS*, section 5.1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import faithfulness_score
    >>> from skproto.shallow import RBFClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RBFClassifier(random_state=0).fit(X, y)
    >>> bool(faithfulness_score(model, X) > 0.5)
    True
    """
    estimator, X = final_estimator(estimator, X)
    terms, drops = [], []
    for _, found in evidence_chunks(estimator, X):
        contributions = np.asarray(found["class_contributions"], dtype=np.float64)
        scores = np.asarray(found["scores"], dtype=np.float64)
        winner = scores.argmax(axis=1)
        before = _probabilities(estimator, scores)
        after = _probabilities(estimator, scores[:, None, :] - contributions)
        at = winner[:, None, None]
        left = np.take_along_axis(after, at, axis=2)[..., 0]
        drops.append(np.take_along_axis(before, winner[:, None], axis=1) - left)
        terms.append(np.take_along_axis(contributions, at, axis=2)[..., 0])
    axis = 0 if per_prototype else 1
    values = _correlation(np.concatenate(terms), np.concatenate(drops), axis)
    return values if per_prototype else mean_over_prototypes(values)


def _correlation(a, b, axis) -> NDArray[np.float64]:
    a = a - a.mean(axis=axis, keepdims=True)
    b = b - b.mean(axis=axis, keepdims=True)
    size = np.sqrt((a**2).sum(axis=axis) * (b**2).sum(axis=axis))
    return np.where(
        size > 1e-20, (a * b).sum(axis=axis) / np.maximum(size, 1e-20), np.nan
    )


def completeness_score(estimator, X, y, *, top_k=3, per_prototype=False):
    """Accuracy of the predictions that the largest contributions alone make.

    Parameters
    ----------
    estimator : fitted estimator
        Any estimator of the package.

    X : array-like of shape (n, ...)
        Samples.

    y : array-like of shape (n,)
        Their labels.

    top_k : int, default=3
        Units kept for each sample: those whose contributions differ most between the
        classes. All others are taken out of the scores.

    per_prototype : bool, default=False
        Return for each unit the accuracy among the samples for which it is kept; NaN
        where it never is.

    Returns
    -------
    accuracy : float or ndarray of shape (U,)
        To be compared with the accuracy of the model.

    References
    ----------
    Yeh, C.-K. et al. (2020). On Completeness-aware Concept-Based Explanations in Deep
    Neural Networks. *NeurIPS* (the idea; there a model on top of the concepts).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import completeness_score
    >>> from skproto.shallow import RBFClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RBFClassifier(random_state=0).fit(X, y)
    >>> everything = completeness_score(model, X, y, top_k=100)
    >>> bool(everything == model.score(X, y))
    True
    """
    check_count("top_k", top_k, 1)
    estimator, X = final_estimator(estimator, X)
    y = check_labels(estimator, y)
    codes, kept = [], []
    for _, found in evidence_chunks(estimator, X):
        terms = np.asarray(found["class_contributions"], dtype=np.float64)
        spread = terms.max(axis=2) - terms.min(axis=2)
        order = np.argsort(-spread, axis=1, kind="stable")[:, :top_k]
        counts = np.zeros(spread.shape, dtype=bool)
        np.put_along_axis(counts, order, True, axis=1)
        total = (terms * counts[..., None]).sum(axis=1) + found["class_bias"]
        codes.append(total.argmax(axis=1))
        kept.append(counts)
    predicted = estimator.classes_[np.concatenate(codes)]
    check_lengths(X=predicted, y=y)
    right, counts = predicted == y, np.concatenate(kept)
    if not per_prototype:
        return float(right.mean())
    n_kept = counts.sum(axis=0)
    share = right.astype(np.float64) @ counts / np.maximum(n_kept, 1)
    return np.where(n_kept > 0, share, np.nan)


def explanation_sensitivity(
    estimator, X, *, radius=0.05, n_repeats=10, per_prototype=False, random_state=None
):
    r"""Largest change of the contributions relative to a small change of the sample.

    .. math:: \max_{\|x' - x\|_\infty \leq r} \|e(x') - e(x)\| / \|x' - x\|

    over random :math:`x'`, in the normalised units of the estimator; a lower bound of
    the local Lipschitz constant of the explanation, so smaller is more stable.

    Parameters
    ----------
    estimator : fitted estimator
        Any estimator of the package.

    X : array-like of shape (n, ...)
        Samples.

    radius : float, default=0.05
        Largest change of a value, in normalised units.

    n_repeats : int, default=10
        Number of changes tried for each sample.

    per_prototype : bool, default=False
        Return one value for each unit, of its own contributions.

    random_state : int, RandomState instance or None, default=None
        Seed of the changes.

    Returns
    -------
    score : float or ndarray of shape (U,)
        Mean over the samples.

    References
    ----------
    Alvarez-Melis, D. and Jaakkola, T. (2018). Towards Robust Interpretability with
    Self-Explaining Neural Networks. *NeurIPS*, section 5.2.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import explanation_sensitivity
    >>> from skproto.shallow import RBFClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RBFClassifier(random_state=0).fit(X, y)
    >>> explanation_sensitivity(model, X[:20], random_state=0) > 0
    True
    """
    check_count("n_repeats", n_repeats, 1)
    if not radius > 0:
        raise ValueError(f"radius must be above 0. Got {radius!r}.")
    estimator, X = final_estimator(estimator, X)
    check_is_fitted(estimator)
    rng = random_source(random_state)
    parts = [
        _ratios(estimator, part, (radius, n_repeats, rng), per_prototype)
        for part in sample_chunks(estimator, X, 4 * len(estimator.prototypes_))
    ]
    values = np.concatenate(parts)
    return values.mean(axis=0) if per_prototype else float(values.mean())


def _terms(estimator, X, names) -> NDArray[np.float64]:
    """Contributions (n, U, K) of samples, under the names that the estimator knows."""
    given = X if names is None else pd.DataFrame(X, columns=names)
    return np.asarray(evidence_of(estimator, given)["class_contributions"])


def _ratios(estimator, X, options, per_prototype) -> NDArray[np.float64]:
    """Largest ratios (n,) or (n, U) over random changes."""
    radius, n_repeats, rng = options
    names = list(X.columns) if hasattr(X, "columns") else None
    X = np.asarray(X.to_numpy() if hasattr(X, "to_numpy") else X, dtype=np.float64)
    before = _terms(estimator, X, names)
    axes = 2 if per_prototype else (1, 2)
    worst: Any = -np.inf
    scale = np.asarray(getattr(estimator, "scale_", 1.0), dtype=np.float64)
    if not is_tabular(estimator) and X.ndim == 4:
        scale = scale.reshape(-1, 1, 1)
    for _ in range(n_repeats):
        # Noise far larger than its clip: the corners of a cube.
        other = with_noise(estimator, X, 10.0 * radius, radius, rng)
        after = _terms(estimator, other, names)
        moved = np.sqrt((((other - X) / scale) ** 2).reshape(len(X), -1).sum(axis=1))
        changed = np.sqrt(((after - before) ** 2).sum(axis=axes))
        worst = np.maximum(
            worst, changed / (moved[:, None] if per_prototype else moved)
        )
    return np.asarray(worst)
