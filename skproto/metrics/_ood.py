"""Whether a model notices samples that are nothing like what it knows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from skproto.metrics._inputs import (
    activations_of,
    check_option,
    check_share,
    class_scores,
    final_estimator,
)


def class_thresholds(scores, keep=0.95) -> NDArray[np.float64]:
    """Return for each class the score that the given share of its samples reach.

    Parameters
    ----------
    scores : array-like of shape (n, K)
        Class scores of samples that are known; the largest predicts.

    keep : float, default=0.95
        In (0, 1].

    Returns
    -------
    thresholds : ndarray of shape (K,)
        A quantile of the winning scores of the samples predicted as the class, rounded
        down to one of them, so that at least this share is kept. The mean of the
        others for classes that are never predicted.

    Examples
    --------
    >>> from skproto.metrics import class_thresholds
    >>> class_thresholds([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0]], keep=0.5).tolist()
    [2.0, 2.0]
    """
    check_share("keep", keep)
    scores = _check_scores("scores", scores)
    predicted, winning = scores.argmax(axis=1), scores.max(axis=1)
    order = np.lexsort((winning, predicted))
    count = np.bincount(predicted, minlength=scores.shape[1])
    first = np.concatenate([[0], count.cumsum()[:-1]])
    # At least `keep` of the samples are at or above this one.
    below = np.floor((1.0 - keep) * count + 1e-9).astype(np.int64)
    position = first + np.minimum(below, np.maximum(count - 1, 0))
    known = count > 0
    found = winning[order][np.minimum(position, len(order) - 1)]
    return np.where(known, found, found[known].mean())


def _check_scores(name: str, scores) -> NDArray[np.float64]:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or not scores.size:
        raise ValueError(
            f"{name} must have shape (n_samples, n_classes). Got {scores.shape}."
        )
    return scores


def ood_from_scores(
    scores_in, scores_out, scores_validation=None, keep=0.95
) -> dict[str, float]:
    """How well class scores tell foreign samples from known ones.

    Parameters
    ----------
    scores_in : array-like of shape (n, K)
        Class scores of samples of the kind the model knows.

    scores_out : array-like of shape (m, K)
        Class scores of foreign samples.

    scores_validation : array-like of shape (v, K), default=None
        Scores from which the thresholds come; `scores_in` by default.

    keep : float, default=0.95
        Share of the known samples that the thresholds keep.

    Returns
    -------
    scores : dict of str to float
        As :func:`ood_scores` returns them.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.metrics import ood_from_scores
    >>> known = np.eye(2)[[0, 1, 0, 1]] + 1
    >>> ood_from_scores(known, np.zeros((3, 2)))
    {'fpr95': 0.0, 'auroc': 1.0, 'abstain': 1.0, 'kept': 1.0}
    """
    inside = _check_scores("scores_in", scores_in)
    outside = _check_scores("scores_out", scores_out)
    if inside.shape[1] != outside.shape[1]:
        raise ValueError(
            "scores_in and scores_out must be of the same classes. Got shapes "
            f"{inside.shape} and {outside.shape}."
        )
    source = inside if scores_validation is None else scores_validation
    thresholds = class_thresholds(source, keep)
    return {
        "fpr95": _passing(outside, thresholds),
        "auroc": float(_auroc(inside.max(1)[:, None], outside.max(1)[:, None])[0]),
        "abstain": float((outside == 0).all(axis=1).mean()),
        "kept": _passing(inside, thresholds),
    }


def _passing(scores, thresholds) -> float:
    return float((scores.max(axis=1) >= thresholds[scores.argmax(axis=1)]).mean())


def _auroc(inside, outside) -> NDArray[np.float64]:
    """Chance (k,) that a known sample has the larger value (n, k); ties are half."""
    n_in, n_out = len(inside), len(outside)
    ranks = rankdata(np.concatenate([inside, outside]), axis=0)[:n_in].sum(axis=0)
    return np.asarray((ranks - n_in * (n_in + 1) / 2) / (n_in * n_out))


def ood_scores(
    estimator,
    X_in,
    X_out,
    X_validation=None,
    *,
    score="decision",
    keep=0.95,
    per_prototype=False,
):
    """How well a model tells foreign samples from samples of the kind it knows.

    A sample is taken for known if its winning score is at least the threshold of the
    predicted class, which `keep` of the validation samples reach.

    Parameters
    ----------
    estimator : fitted estimator
        Any estimator of the package.

    X_in, X_out : array-like of shape (n, ...)
        Samples of the kind the model knows, and foreign ones.

    X_validation : array-like of shape (v, ...), default=None
        Samples from which the thresholds come; `X_in` by default.

    score : {"decision", "probability"}, default="decision"
        Whether class scores or class probabilities count.

    keep : float, default=0.95
        Share of the known samples that the thresholds keep.

    per_prototype : bool, default=False
        Return instead for each prototype the AUROC of its similarity alone.

    Returns
    -------
    scores : dict of str to float, or ndarray of shape (P,)
        "fpr95", the share of the foreign samples that pass; "auroc" of the winning
        score; "abstain", the share of the foreign samples whose scores are all 0;
        "kept", the share of `X_in` that passes.

    References
    ----------
    Nauta, M. et al. (2023). PIP-Net. *CVPR*, section 5.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import ood_scores
    >>> from skproto.shallow import RBFClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RBFClassifier(random_state=0).fit(X, y)
    >>> ood_scores(model, X, X)["auroc"]
    0.5
    """
    check_option("score", score, ("decision", "probability"))
    final, X_in = final_estimator(estimator, X_in)
    X_out = final_estimator(estimator, X_out)[1]
    if per_prototype:
        return _auroc(activations_of(final, X_in), activations_of(final, X_out))
    measure = class_scores
    if score == "probability":
        measure = _class_probabilities
    known = None
    if X_validation is not None:
        known = measure(final, final_estimator(estimator, X_validation)[1])
    return ood_from_scores(measure(final, X_in), measure(final, X_out), known, keep)


def _class_probabilities(estimator, X) -> NDArray[np.float64]:
    return np.asarray(estimator.predict_proba(X), dtype=np.float64)
