"""Attacks on classifiers, and accuracy that no attack can lower."""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_array
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from skproto.robustness._search import Search, Space, predicted
from skproto.utils._random import random_source

# Entries of the points that are tried at a time.
CHUNK_ENTRIES = 4_000_000


@dataclass(eq=False)
class AttackResult:
    """What an attack found.

    Parameters
    ----------
    samples : ndarray of shape (n_samples, n_features)
        The attacked samples in the user's units: the nearest one found that gets
        another label, or the sample as it was where none was found.

    success : ndarray of bool of shape (n_samples,)
        Whether a change of label was found, as judged by the model's own `predict`.

    distance : ndarray of shape (n_samples,)
        Length of the smallest change found that alters the label, an upper bound of
        the distance to the decision boundary; 0 where the sample itself is classified
        otherwise than `y`, infinite where no change was found.

    prediction : ndarray of shape (n_samples,)
        Labels that the model gives to `samples`.

    n_attacks : int
        Number of points that were tried, over all samples.

    norm : float
        Norm in which lengths are measured.

    units : {"scaled", "input"}
        Whether lengths are measured after the inner standardisation of the model or
        in the user's units.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import GLVQClassifier
    >>> from skproto.robustness import attack
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GLVQClassifier(random_state=0).fit(X, y)
    >>> found = attack(model, X[:5], radius=10.0, random_state=0)  # an AttackResult
    >>> changed = found.prediction != model.predict(X[:5])
    >>> bool(changed[found.success].all())
    True
    """

    samples: np.ndarray
    success: np.ndarray
    distance: np.ndarray
    prediction: np.ndarray
    n_attacks: int
    norm: float
    units: str

    def __len__(self) -> int:
        return len(self.success)


def attack(
    model,
    X,
    y=None,
    *,
    radius,
    norm=2,
    n_restarts=5,
    n_steps=30,
    random_state=None,
    units="scaled",
):
    """Search for small changes of samples that alter their predicted label.

    Four searches share the work: steepest descent of the lead of the label over its
    rivals, in float64 and projected onto the ball, from the sample and from random
    starts, each rival in turn; straight lines towards and away from every prototype
    and towards samples of other classes; random directions; and, from everything that
    was found, a walk along the decision boundary to its nearest point. Whatever is
    found is judged by `predict` on the changed sample alone. A search is no proof:
    what it does not find may still exist.

    Parameters
    ----------
    model : fitted classifier
        An estimator of skproto. For any other classifier the descent and its
        gradients are left out and the rest is done.

    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples in the user's units.

    y : array-like of shape (n_samples,), default=None
        Labels to attack; None attacks the predicted ones.

    radius : float or array-like of shape (n_samples,)
        Length of the largest change tried, finite and not negative.

    norm : {1, 2, inf}, default=2
        Norm in which changes are measured.

    n_restarts : int, default=5
        Starts of the descent; also ten random directions for each.

    n_steps : int, default=30
        Steps of each descent.

    random_state : int, RandomState instance or None, default=None
        Source of randomness.

    units : {"scaled", "input"}, default="scaled"
        Units of `radius` and of the distances found: "scaled" divides every feature
        by the model's `scale_`, "input" are the user's. A classifier without an inner
        standardisation knows the latter only, and both mean the same.

    Returns
    -------
    result : AttackResult
        The changed samples and the lengths of the changes.

    Raises
    ------
    ValueError
        If the radius is negative or not finite, or an option is unknown.

    See Also
    --------
    certified_accuracy : Accuracy under changes that no attack can beat.

    References
    ----------
    Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR
    2018 (projected descent). Croce and Hein, Minimally distorted Adversarial Examples
    with a Fast Adaptive Boundary Attack, ICML 2020 (walk along the boundary).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skproto.robustness import attack
    >>> model = LogisticRegression().fit([[-1.0, 0.0], [1.0, 0.0]], [0, 1])
    >>> found = attack(model, [[0.5, 3.0]], radius=2.0, random_state=0)
    >>> found.success, found.distance.round(2)
    (array([ True]), array([0.5]))
    """
    check_is_fitted(model)
    X = check_array(X, accept_sparse="csr", dtype=np.float64)
    labels = predicted(model, X) if y is None else column_or_1d(y)
    check_consistent_length(X, labels)
    radius = _check_options(radius, X.shape[0], norm, n_restarts, n_steps, units)
    search = Search(
        Space(model, units),
        float(norm),
        int(n_restarts),
        int(n_steps),
        random_source(random_state),
    )
    parts = [
        search.run(*part) for part in _chunks(X, labels, radius, search.n_points())
    ]
    points = np.concatenate([part[0] for part in parts])
    distance = np.concatenate([part[1] for part in parts])
    samples = search.space.to_input(points)
    return AttackResult(
        samples=samples,
        success=np.isfinite(distance),
        distance=distance,
        prediction=predicted(model, samples),
        n_attacks=search.n_attacks,
        norm=float(norm),
        units=units,
    )


def certified_accuracy(model, X, y, eps, **options):
    """Share of samples classified right whatever change of length `eps` they suffer.

    Parameters
    ----------
    model : fitted classifier
        An estimator with `certify`.

    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples.

    y : array-like of shape (n_samples,)
        True labels.

    eps : float or array-like of floats
        Lengths of the change, at least 0.

    **options : object
        Options of the model's `certify`, such as ``method`` and ``units``.

    Returns
    -------
    accuracy : float or ndarray
        One value for each `eps`.

    Raises
    ------
    TypeError
        If the model cannot certify.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.robustness import certified_accuracy
    >>> from skproto.shallow import CBCClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = CBCClassifier(random_state=0).fit(X, y)
    >>> clean, robust = certified_accuracy(model, X, y, [0.0, 0.5])
    >>> bool(robust < clean)
    True
    """
    check_is_fitted(model)
    sizes = np.asarray(eps, dtype=np.float64)
    if not (sizes >= 0).all():
        raise ValueError(f"eps must be at least 0. Got {eps!r}.")
    if not hasattr(model, "certify"):
        raise TypeError(
            f"{type(model).__name__} cannot certify: it has no method `certify`."
        )
    certified = model.certify(X, y, **options)
    share = (certified > sizes[..., None]).mean(axis=-1)
    return float(share) if share.ndim == 0 else share


def _check_options(radius, n_samples, norm, n_restarts, n_steps, units) -> np.ndarray:
    radius = np.asarray(radius, dtype=np.float64)
    if radius.ndim > 1 or (radius.ndim == 1 and len(radius) != n_samples):
        raise ValueError(
            f"radius must be a number or one for each of the {n_samples} samples. Got "
            f"shape {radius.shape}."
        )
    if not (np.isfinite(radius) & (radius >= 0)).all():
        raise ValueError(f"radius must be finite and not negative. Got {radius!r}.")
    if norm not in (1, 2, np.inf):
        raise ValueError(f"norm must be 1, 2 or inf. Got {norm!r}.")
    for name, value in (("n_restarts", n_restarts), ("n_steps", n_steps)):
        if not isinstance(value, numbers.Integral) or value < 1:
            raise ValueError(f"{name} must be an int of at least 1. Got {value!r}.")
    if units not in ("scaled", "input"):
        raise ValueError(f"units must be 'scaled' or 'input'. Got {units!r}.")
    return np.broadcast_to(radius, (n_samples,))


def _chunks(X, labels, radius, n_points: int) -> Iterator[tuple]:
    """Cut the samples so that the points tried together fit into memory."""
    size = max(1, CHUNK_ENTRIES // (n_points * X.shape[1]))
    for start in range(0, X.shape[0], size):
        rows = slice(start, start + size)
        part = X[rows].toarray() if sp.issparse(X) else X[rows]
        yield part, labels[rows], radius[rows]
