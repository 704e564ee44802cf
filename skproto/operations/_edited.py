"""A meta-estimator that fits an estimator and then edits it."""

from __future__ import annotations

from typing import Any

from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skproto._editing import _memory as memory
from skproto._editing._forbidding import new_entry
from skproto.operations._functions import apply_by_content

# What an edit that forbids something says about itself.
FORBIDS = ("features", "region", "labels")


def _has(name: str):
    """Tell whether the estimator has a method."""

    def check(self) -> bool:
        inner = getattr(self, "estimator_", None)
        getattr(self._inner() if inner is None else inner, name)
        return True

    return check


class EditedEstimator(
    MetaEstimatorMixin, ClassifierMixin, TransformerMixin, BaseEstimator
):
    """Fit a prototype classifier and edit it, every time anew.

    Edits of a fitted estimator are lost when it is cloned or fitted again, as in
    cross-validation. Here they are parameters: given by content, they are done on
    every fit.

    Parameters
    ----------
    estimator : estimator, default=None
        A prototype classifier; None is :class:`~skproto.RBFClassifier` with
        ``random_state=0``.

    edits : list of dict, default=None
        Edits in their order. Each has "op", the arguments of that operation and the
        settings of :func:`edit`. Prototypes are named by "prototypes", a dict of the
        arguments of :func:`find_prototypes` (`near`, `latent`, `rule`, `label`), never
        by number; where there are none of them the edit is left out. The training
        samples are the data of the repair, unless "with_data" is False. What "forbid"
        forbids holds while the estimator is fitted already.

    Attributes
    ----------
    estimator_ : estimator
        The fitted and edited estimator.

    classes_ : ndarray of shape (n_classes,)
        Class labels.

    n_features_in_ : int
        Number of features seen in `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had names.

    edit_log_ : list of dict
        What was done.

    See Also
    --------
    edit : Edit a copy once.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> from skproto import GLVQClassifier
    >>> from skproto.operations import EditedEstimator
    >>> X, y = load_iris(return_X_y=True)
    >>> model = EditedEstimator(
    ...     GLVQClassifier(1, random_state=0),
    ...     edits=[
    ...         {"op": "forbid", "features": [0]},
    ...         {"op": "add", "items": [[6.0, 2.2, 4.0, 1.0]], "label": 1},
    ...     ],
    ... )
    >>> bool(cross_val_score(model, X, y, cv=3).mean() > 0.9)
    True
    >>> model.fit(X, y).estimator_.prototype_labels_.tolist()
    [0, 1, 2, 1]
    """

    def __init__(self, estimator=None, edits=None):
        self.estimator = estimator
        self.edits = edits

    def _inner(self):
        """Return the estimator of which a clone is fitted."""
        if self.estimator is not None:
            return self.estimator
        from skproto.shallow import RBFClassifier

        return RBFClassifier(random_state=0)

    def fit(self, X, y, sample_weight=None):
        """Fit a clone of the estimator and edit it.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Training samples.

        y : array-like of shape (n_samples,)
            Class labels.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        edits = self._checked_edits()
        model = clone(self._inner())
        first = [
            new_entry({**edit, "on_fit": True}) for edit in edits if _forbids(edit)
        ]
        if first:
            memory.update(model, forbidden=first)
        if sample_weight is None:
            model.fit(X, y)
        else:
            model.fit(X, y, sample_weight=sample_weight)
        later = [edit for edit in edits if not _forbids(edit)]
        apply_by_content(model, later, X, y, sample_weight)
        self.estimator_ = model
        for name in ("classes_", "n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
            if hasattr(model, name):
                setattr(self, name, getattr(model, name))
        return self

    def _checked_edits(self) -> list[dict[str, Any]]:
        edits = [] if self.edits is None else self.edits
        if not isinstance(edits, (list, tuple)) or not all(
            isinstance(edit, dict) and "op" in edit for edit in edits
        ):
            raise ValueError(
                "The 'edits' parameter of EditedEstimator must be a list of dicts with "
                f"'op', or None. Got {self.edits!r}."
            )
        return list(edits)

    @property
    def edit_log_(self) -> list[dict[str, Any]]:
        """Edits that were done, as plain dicts."""
        check_is_fitted(self)
        log: list[dict[str, Any]] = self.estimator_.edit_log_
        return log

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    def predict(self, X):
        """Predict the class of samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Predicted labels.
        """
        check_is_fitted(self)
        return self.estimator_.predict(X)

    @available_if(_has("predict_proba"))
    def predict_proba(self, X):
        """Predict class probabilities of samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probabilities.
        """
        check_is_fitted(self)
        return self.estimator_.predict_proba(X)

    @available_if(_has("decision_function"))
    def decision_function(self, X):
        """Class scores before any link.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples.

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Scores.
        """
        check_is_fitted(self)
        return self.estimator_.decision_function(X)

    @available_if(_has("transform"))
    def transform(self, X):
        """Similarity of samples to every prototype.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples.

        Returns
        -------
        activations : ndarray of shape (n_samples, n_prototypes)
            Activations.
        """
        check_is_fitted(self)
        return self.estimator_.transform(X)

    @available_if(_has("get_feature_names_out"))
    def get_feature_names_out(self, input_features=None):
        """Return the names of the columns of :meth:`transform`.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Not used.

        Returns
        -------
        names : ndarray of str
            One for each prototype.
        """
        check_is_fitted(self)
        return self.estimator_.get_feature_names_out(input_features)

    @available_if(_has("explain"))
    def explain(self, X):
        """Explain predictions by cases.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples.

        Returns
        -------
        explanation : Explanation
            That of the edited estimator.
        """
        check_is_fitted(self)
        return self.estimator_.explain(X)

    @available_if(_has("explain_global"))
    def explain_global(self):
        """Explain the edited model itself.

        Returns
        -------
        explanation : GlobalExplanation
            Prototypes and how they are weighed.
        """
        check_is_fitted(self)
        return self.estimator_.explain_global()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = self._inner().__sklearn_tags__()
        tags.input_tags = inner.input_tags
        tags.classifier_tags = inner.classifier_tags
        tags.transformer_tags = inner.transformer_tags
        return tags


def _forbids(edit: dict[str, Any]) -> bool:
    """Tell whether an edit only forbids something."""
    return bool(edit["op"] == "forbid")
