"""The model inside what a user hands over, and its explanations with their names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted


class Fitted(NamedTuple):
    """The last step of a pipeline, and what it gets.

    Parameters
    ----------
    estimator : estimator
        The fitted estimator of skproto itself.

    X : array-like or None
        Samples as it takes them.

    row_names : array of shape (n_samples,) or None
        Names of the rows, where the user gave a frame.

    feature_names : array of str or None
        Names of its features, where the steps before it can tell.
    """

    estimator: Any
    X: Any
    row_names: np.ndarray | None
    feature_names: np.ndarray | None


def fitted_model(estimator, X=None, *, owner: str, needs: str) -> Fitted:
    """Return the estimator at the end of pipelines and searches.

    Parameters
    ----------
    estimator : estimator
        An estimator of skproto, or a pipeline or search that ends with one.

    X : array-like, default=None
        Samples as `estimator` takes them.

    owner : str
        Display that asks, for the error message.

    needs : str
        Method or attribute that the estimator must have.

    Returns
    -------
    fitted : Fitted
        With `X` as the estimator itself takes it.

    Raises
    ------
    TypeError
        If the estimator has nothing to draw.

    NotFittedError
        If it is not fitted.
    """
    index = np.asarray(X.index) if hasattr(X, "iloc") else None
    names, inner = None, estimator
    while True:
        if isinstance(inner, Pipeline):
            check_is_fitted(inner)
            if len(inner) > 1:
                before = inner[:-1]
                X = None if X is None else before.transform(X)
                names = _names_after(before)
            inner = inner[-1]
        elif hasattr(inner, "best_estimator_"):
            inner = inner.best_estimator_
        elif not hasattr(inner, "prototypes_") and hasattr(inner, "estimator_"):
            inner = inner.estimator_
        else:
            break
    known = hasattr(type(inner), needs) or hasattr(inner, needs)
    if type(inner).__module__.partition(".")[0] == "skproto" or known:
        check_is_fitted(inner)
    if not hasattr(inner, needs):
        raise TypeError(
            f"{owner} needs a fitted estimator of skproto with `{needs}`, or a "
            f"Pipeline that ends with one. Got {type(inner).__name__}."
        )
    return Fitted(inner, X, index, names)


def _names_after(before) -> np.ndarray | None:
    """Return the names of the features that steps hand on, None if they cannot."""
    try:
        names = before.get_feature_names_out()
    except (AttributeError, ValueError):
        return None
    return np.asarray(names, dtype=object)


def explain(fitted: Fitted) -> Any:
    """Return the explanation of the samples, with the user's names."""
    explanation = fitted.estimator.explain(fitted.X)
    for part in [explanation, *getattr(explanation, "trees", [])]:
        part.prototypes = _named(part.prototypes, fitted.feature_names)
        if fitted.row_names is not None:
            part.sample_index = fitted.row_names
    return explanation


def explain_global(fitted: Fitted) -> Any:
    """Return what the model knows, with the user's names."""
    explanation = fitted.estimator.explain_global()
    for part in [explanation, *getattr(explanation, "trees", [])]:
        part.prototypes = _named(part.prototypes, fitted.feature_names)
    return explanation


def _named(table, names: np.ndarray | None):
    """Return a table of prototypes with the names of the features that fit it."""
    if names is None or len(table.names) != len(names):
        return table
    return replace(table, feature_names=names)
