"""What the public checks of estimators share: data, brief fits and comparisons."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any
from unittest import SkipTest
from weakref import WeakKeyDictionary

import numpy as np
from sklearn.base import clone

# Epochs of training in the checks where the estimator leaves the number open: what is
# promised does not depend on how long a model was trained.
BRIEF_EPOCHS = 8


@dataclass(frozen=True)
class Data:
    """Samples and labels of a check.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Samples; the features have different scales and offsets.

    y : ndarray of shape (n_samples,)
        Labels.
    """

    X: np.ndarray
    y: np.ndarray


def _blobs(labels, n_features: int, seed: int) -> Data:
    rng = np.random.RandomState(seed)
    codes = np.arange(25 * len(labels)) % len(labels)
    centers = 1.5 * rng.standard_normal((len(labels), n_features))
    X = centers[codes] + rng.standard_normal((len(codes), n_features))
    scale = 10.0 ** np.linspace(-1, 2, n_features)
    # Halves and quarters: sums of them are exact, in float32 too.
    return Data(np.round(4 * (X * scale + scale)) / 4, np.asarray(labels)[codes])


MULTICLASS = _blobs(["ash", "beech", "cedar"], 4, seed=0)
BINARY = _blobs([-1, 7], 3, seed=1)

_fits: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()


def brief(estimator, **parameters):
    """Return an unfitted copy that trains briefly, with a fixed seed."""
    copied = clone(estimator)
    known = copied.get_params()
    settings = {
        name: BRIEF_EPOCHS
        for name, value in known.items()
        if name.rpartition("__")[2] == "max_epochs" and isinstance(value, str)
    }
    if "random_state" in known:
        settings["random_state"] = 0
    settings.update({k: v for k, v in parameters.items() if k in known})
    return copied.set_params(**settings)


def fitted(estimator, kind: str = "multiclass"):
    """Return a brief fit on one of the data sets, always the same copy.

    A check that changes the model takes a deep copy of it.
    """
    fits = _fits.setdefault(estimator, {})
    if kind not in fits:
        data = BINARY if kind == "binary" else MULTICLASS
        X = data.X.astype(np.float32) if kind == "float32" else data.X
        fits[kind] = brief(estimator).fit(X, data.y)
    return fits[kind]


def changeable(estimator, kind: str = "multiclass"):
    """Return a brief fit that the check may change."""
    return copy.deepcopy(fitted(estimator, kind))


def need(condition: object, reason: str) -> None:
    """Skip the check unless the estimator has what it is about."""
    if not condition:
        raise SkipTest(reason)


def promise(condition: object, sentence: str) -> None:
    """Raise AssertionError with what is promised unless it holds."""
    if not condition:
        raise AssertionError(sentence)


def promise_equal(actual, desired, sentence: str) -> None:
    """Raise AssertionError unless two arrays are the same, NaN equal to NaN."""
    try:
        np.testing.assert_array_equal(actual, desired)
    except AssertionError as error:
        raise AssertionError(f"{sentence}\n{error}") from None


def promise_close(actual, desired, sentence: str, *, rtol=1e-5, atol=1e-6) -> None:
    """Raise AssertionError unless two arrays agree within a tolerance."""
    try:
        np.testing.assert_allclose(actual, desired, rtol=rtol, atol=atol)
    except AssertionError as error:
        raise AssertionError(f"{sentence}\n{error}") from None


def promise_error(action, errors, sentence: str) -> Exception:
    """Raise AssertionError unless the action raises one of the errors; return it."""
    try:
        action()
    except errors as error:
        return error
    except Exception as error:
        raise AssertionError(f"{sentence} It raised {error!r}.") from error
    raise AssertionError(f"{sentence} It raised nothing.")


def outputs(model, X) -> dict[str, np.ndarray]:
    """Return what a model says of X, by method."""
    names = ("predict", "predict_proba", "decision_function", "transform")
    return {name: getattr(model, name)(X) for name in names if hasattr(model, name)}


def promise_same_outputs(model, other, X, sentence: str) -> None:
    """Raise AssertionError unless two models return the same bits."""
    first, second = outputs(model, X), outputs(other, X)
    for name, values in first.items():
        promise_equal(second[name], values, f"{sentence} {name} differs.")


def takes_weight(estimator) -> bool:
    """Tell whether fit takes sample weights."""
    return "sample_weight" in inspect.signature(estimator.fit).parameters


def certifies(model) -> bool:
    """Tell whether a fitted model has certificates as it is configured."""
    if not hasattr(model, "certify"):
        return False
    try:
        model.certify(np.zeros((1, model.n_features_in_)))
    except ValueError:
        return False
    return True
