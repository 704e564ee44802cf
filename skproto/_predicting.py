"""Prediction and explanation, the same for every estimator."""

from __future__ import annotations

import math
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from scipy.special import softmax
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from skproto import _images as images
from skproto import _placing as placing
from skproto import _preparation as preparation
from skproto.explanation import (
    Explanation,
    GlobalExplanation,
    PrototypeTable,
    SamplePlaces,
)
from skproto.training import chunks

# Entries of X that are scaled and passed through the module at a time.
CHUNK_ENTRIES = 200_000

# Samples are passed in multiples of this. Matrix products and exponentials round
# differently in an incomplete block, and what a sample gets must not depend on its
# company. Rows of tables, which cost little, fill the larger blocks of float64 too: of
# 48 columns of a product, and of 32 numbers of a vector loop.
ROW_BLOCK, TABLE_BLOCK = 16, 96


def _fill_block(rows: np.ndarray, block: int = ROW_BLOCK) -> np.ndarray:
    """Append rows of zeros up to a multiple of `block`."""
    missing = -len(rows) % block
    if not missing:
        return rows
    return np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)])


class PrototypePredictor(
    ClassNamePrefixFeaturesOutMixin,
    ClassifierMixin,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """The part of :class:`~skproto.base.PrototypeClassifier` that predicts.

    It needs the fitted attributes of a prototype classifier and the outputs that
    :meth:`_forward` computes; what is not fitted by `FittingMixin` (an ensemble)
    derives from this class alone.
    """

    _doc_link_module = "skproto"
    _doc_link_template = (
        "https://skproto.readthedocs.io/en/stable/generated/"
        "{estimator_module}.{estimator_name}.html"
    )
    _explanation_class: ClassVar[type] = Explanation
    _global_explanation_class: ClassVar[type] = GlobalExplanation
    # How decision_function is made of two class scores; see Explanation.
    # Outputs of the module from which classes and probabilities are made.
    _score_keys: ClassVar[tuple[str, ...]] = ("scores", "log_scores")
    _binary_margin: ClassVar[str] = "difference"
    history_: pd.DataFrame
    _input_shape: tuple[int, ...]
    # Whether a token that is all NaN counts as padding.
    _allows_missing_tokens: ClassVar[bool] = False
    image_shape: Any
    encoder: Any
    encoder_: Any

    # -- hooks -------------------------------------------------------------------------

    @abstractmethod
    def _evidence(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Return "class_contributions" (n, U, K), "class_bias" (n, K) and extras."""

    def _probabilities(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """Return class probabilities (n, K); the softmax of the scores by default."""
        return softmax(outputs["scores"], axis=1)

    def _codes(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """Return predicted class codes (n,); ties go to the lowest code."""
        return outputs["scores"].argmax(axis=1)

    def _radius(self, X) -> np.ndarray | None:
        """Return certified radii for explanations, None where there are none."""
        return None

    def _feature_weights(self) -> np.ndarray | None:
        """Return factors (P, f) of the features in each prototype's distance."""
        return getattr(self, "feature_weights_", None)

    def _global_evidence(self) -> dict[str, Any]:
        """Return the fields that explain_global adds to the prototype table."""
        return {}

    # -- predicting --------------------------------------------------------------------

    @property
    def _module(self) -> Any:
        return self.net_.module_

    @property
    def _scaling(self) -> preparation.Scaling | images.ChannelScaling:
        n_axes = len(self._input_shape)
        if n_axes == 1:
            return preparation.Scaling(self.center_, self.scale_, self._held_features)
        axis, held = (1, self._held_pixels) if n_axes == 3 else (2, None)
        return images.ChannelScaling(self.center_, self.scale_, axis, held)

    @property
    def _held_features(self) -> np.ndarray | None:
        """Features of a table that are held constant, bool (f,); None for none."""
        return None

    @property
    def _held_pixels(self) -> np.ndarray | None:
        """Pixels of images that are held constant, bool (H, W); None for none."""
        return None

    @property
    def _input_settings(self) -> tuple[Any, Any]:
        """What decides how X is read: `image_shape` and `encoder`."""
        return self.image_shape, self.encoder

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def _check_input(self, X):
        check_is_fitted(self)
        if len(self._input_shape) > 1:
            return preparation.validate_again(self, X, self._input_shape)
        X = validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False
        )
        return sp.csr_array(X) if sp.issparse(X) else X

    def _forward(
        self,
        X,
        keys: tuple[str, ...] | None = None,
        run: Callable[[torch.Tensor], dict[str, torch.Tensor]] | None = None,
    ) -> dict[str, Any]:
        """Pass validated X through `run`, the module by default, chunk by chunk."""
        parts: dict[str, list[np.ndarray]] = {}
        entries = math.prod(X.shape[1:])
        block = TABLE_BLOCK if X.ndim == 2 else ROW_BLOCK
        size = int(np.clip(CHUNK_ENTRIES // entries, block, 8192))
        size -= size % block
        scaling, run = self._scaling, run or self._module
        with torch.inference_mode():
            for rows in chunks(X.shape[0], size):
                scaled = scaling.apply(X[rows])
                x = torch.from_numpy(_fill_block(scaled, block)).to(self.net_.device)
                for key, value in run(x).items():
                    if keys is None or key in keys:
                        value = value[: len(scaled)].cpu().numpy()
                        parts.setdefault(key, []).append(value)
        outputs = {key: np.concatenate(parts.pop(key)) for key in list(parts)}
        if "scores" in outputs:
            outputs["scores"] = outputs["scores"].astype(np.float64)
        for key in outputs.keys() & {"scores", "activations"}:
            if not np.isfinite(outputs[key]).all():
                preparation.check_reach(X, scaling, type(self).__name__)
        return outputs

    def predict(self, X):
        """Predict the class of samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Predicted labels; ties go to the class that comes first in `classes_`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import GLVQClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = GLVQClassifier(1, random_state=0).fit(X, y)
        >>> model.predict(X[[0, 75]])
        array([0, 1])
        """
        outputs = self._forward(self._check_input(X), self._score_keys)
        return self.classes_[self._codes(outputs)]

    def predict_proba(self, X):
        """Predict class probabilities of samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probabilities in the order of `classes_`; rows sum to 1.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import GLVQClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = GLVQClassifier(1, random_state=0).fit(X, y)
        >>> model.predict_proba(X[:2]).sum(axis=1).round(6).tolist()
        [1.0, 1.0]
        """
        outputs = self._forward(self._check_input(X), self._score_keys)
        return self._probabilities(outputs)

    def decision_function(self, X):
        """Class scores before any link, the sum of what the prototypes contribute.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            With two classes one value, positive where the second class is predicted.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import GLVQClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = GLVQClassifier(1, random_state=0).fit(X, y)
        >>> scores = model.decision_function(X)
        >>> scores.shape, bool((scores.argmax(axis=1) == model.predict(X)).all())
        ((150, 3), True)
        """
        scores = self._forward(self._check_input(X), ("scores",))["scores"]
        return self._as_decision(scores)

    def _margin_kind(self) -> str:
        """How a decision is made of two scores: "difference", "positive" or "share"."""
        return self._binary_margin

    def _as_decision(self, scores: np.ndarray) -> np.ndarray:
        if len(self.classes_) > 2:
            return scores
        if self._margin_kind() == "positive":
            return scores[:, 1]
        difference = scores[:, 1] - scores[:, 0]
        if self._margin_kind() == "share":
            total = scores.sum(axis=1)
            return difference / np.where(total > 0, total, 1.0)
        return difference

    def transform(self, X):
        """Similarity of samples to every prototype.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        activations : ndarray of shape (n_samples, n_prototypes)
            Activations, in the order of `prototypes_`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import GLVQClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = GLVQClassifier(1, random_state=0).fit(X, y)
        >>> model.transform(X).shape  # samples, prototypes
        (150, 3)
        """
        X = self._check_input(X)
        activations = self._forward(X, ("activations",))["activations"]
        return activations.astype(X.dtype) if hasattr(X, "dtype") else activations

    @property
    def _n_features_out(self) -> int:
        return len(self.prototypes_)

    def similarity_maps(self, X):
        """Similarity of every prototype at every site of images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, as in `fit`.

        Returns
        -------
        maps : ndarray of shape (n_samples, n_prototypes, n_rows, n_columns)
            One map for each prototype on the grid of the encoder; of shape
            (n_samples, n_prototypes, n_sites) where the sites have no grid.

        Raises
        ------
        TypeError
            If the estimator was fitted to a table.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skproto import ProtoPNetClassifier
        >>> X, y = load_digits(n_class=2, return_X_y=True)
        >>> X = X.reshape(-1, 8, 8)
        >>> model = ProtoPNetClassifier(1, max_epochs=4, random_state=0).fit(X, y)
        >>> model.similarity_maps(X[:5]).shape  # samples, prototypes, rows, columns
        (5, 2, 4, 4)
        """
        X = self._check_input(X)
        if len(self._input_shape) == 1:
            raise TypeError(
                f"similarity_maps needs a {type(self).__name__} that was fitted to "
                "images or tokens; it was fitted to a table."
            )
        return placing.similarity_maps(self, X)

    # -- explaining --------------------------------------------------------------------

    def explain(self, X):
        """Explain predictions by cases: the very numbers that make the scores.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        explanation : Explanation
            Contributions of the prototypes to every class score;
            ``explanation.contributions.sum(axis=1) + explanation.bias`` equals
            :meth:`decision_function`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import GLVQClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = GLVQClassifier(1, random_state=0).fit(X, y)
        >>> case = model.explain(X[:2])
        >>> case.verify()
        >>> total = case.contributions.sum(axis=1) + case.bias
        >>> bool(abs(total - model.decision_function(X[:2])).max() < 1e-5)
        True
        """
        index = X.index if hasattr(X, "iloc") else None
        X = self._check_input(X)
        index = np.arange(X.shape[0]) if index is None else np.asarray(index)
        return self._explanation(self._forward(X), X, index)

    def _explanation(self, outputs: dict[str, Any], X, sample_index):
        """Return the explanation of validated samples from their outputs."""
        evidence = self._evidence(outputs)
        return self._explanation_class(
            estimator_name=type(self).__name__,
            classes=self.classes_,
            scores=outputs["scores"],
            probabilities=self._probabilities(outputs),
            prediction=self.classes_[self._codes(outputs)],
            similarities=outputs["activations"].astype(np.float64),
            distances=outputs["distances"].astype(np.float64),
            prototypes=self._prototype_table(),
            samples=self._shown_samples(X),
            places=self._sample_places(outputs, X, evidence),
            sample_index=sample_index,
            radius=self._radius(X),
            radius_units="scaled",
            binary_margin=self._margin_kind(),
            **evidence,
        )

    def _sample_places(self, outputs, X, evidence) -> SamplePlaces | None:
        """Return where samples show the prototypes; None for tables."""
        return placing.sample_places(self, outputs, X, evidence)

    @property
    def _site_grid(self) -> tuple[int, int] | None:
        grid: tuple[int, int] | None = self._module.encoder.grid
        return grid

    def _shown_samples(self, X) -> np.ndarray | None:
        """Return rows of a table in the user's units; images are in the places."""
        if len(self._input_shape) > 1:
            return None
        return X.toarray() if sp.issparse(X) else X

    def explain_global(self):
        """Explain the model itself: its prototypes and what they stand for.

        Returns
        -------
        explanation : GlobalExplanation
            Prototypes in the user's units and how they are weighed.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import GLVQClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = GLVQClassifier(1, random_state=0).fit(X, y)
        >>> whole = model.explain_global()
        >>> whole.to_frame()["label"].tolist()
        [0, 1, 2]
        """
        check_is_fitted(self)
        return self._global_explanation_class(
            estimator_name=type(self).__name__,
            classes=self.classes_,
            prototypes=self._prototype_table(),
            win_counts=self.win_counts_,
            **self._global_evidence(),
        )

    def _prototype_table(self) -> PrototypeTable:
        return placing.prototype_table(self)

    # -- persistence -------------------------------------------------------------------

    def __getstate__(self):
        state = dict(super().__getstate__())
        if "history_" in state:
            # Plain lists: a pandas frame cannot be saved without pickle.
            state["history_"] = self.history_.to_dict(orient="list")
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "history_" in state:
            self.history_ = pd.DataFrame(self.history_)

    # -- scikit-learn's developer API --------------------------------------------------

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
