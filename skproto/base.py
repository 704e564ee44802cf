"""The template that every estimator fills: fit, predict, explain."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar

import numpy as np
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

from skproto import _preparation as preparation
from skproto._fitting import FittingMixin
from skproto.explanation import Explanation, GlobalExplanation, PrototypeTable
from skproto.training import Convergence, Phase, TrainingData, chunks
from skproto.utils import _parameters as rules

# Entries of X that are scaled and passed through the module at a time.
CHUNK_ENTRIES = 400_000


class PrototypeClassifier(
    FittingMixin,
    ClassNamePrefixFeaturesOutMixin,
    ClassifierMixin,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Base of all prototype classifiers.

    A subclass has a constructor that stores its parameters (those of section "Every
    estimator has" below by the same names) and fills in the hooks:

    - :meth:`_make_module` builds the torch module and starts it from the data;
    - :meth:`_loss_terms` names the terms of the loss;
    - :meth:`_phases` names the phases of training;
    - :meth:`_collect` reads the fitted attributes off the module;
    - :meth:`_evidence` splits the class scores of a batch into contributions.

    The module maps scaled rows (n, f) to a dict of tensors with at least "scores"
    (n, K), the class scores before any link, and "activations" (n, P), the
    similarities to the prototypes. Its class is `_module_class`, its constructor takes
    plain numbers and strings, kept in `module.config`, and an `encoder`.

    Every estimator has the parameters `encoder`, `standardize`, `solver`,
    `max_epochs`, `lr`, `batch_size`, `class_weight`, `early_stopping`,
    `validation_fraction`, `n_iter_no_change`, `warm_start`, `random_state`, `device`,
    `verbose` and `net_params`.

    See Also
    --------
    skproto.utils.estimator_checks.check_prototype_estimator : Checks the promises.
    """

    _doc_link_module = "skproto"
    _doc_link_template = (
        "https://skproto.readthedocs.io/en/stable/generated/"
        "{estimator_module}.{estimator_name}.html"
    )
    _module_class: ClassVar[type[torch.nn.Module]]
    _explanation_class: ClassVar[type] = Explanation
    _global_explanation_class: ClassVar[type] = GlobalExplanation
    # How decision_function is made of two class scores; see Explanation.
    _binary_margin: ClassVar[str] = "difference"
    _parameter_rules = rules.ParameterRules().extended(
        encoder=(
            rules.none(),
            rules.options("identity", "mlp"),
            rules.anything_callable("an nn.Module or a callable that returns one"),
        ),
        standardize=rules.boolean(),
        solver=rules.options("auto", "lbfgs", "adam", "adamw"),
        max_epochs=(rules.options("auto"), rules.integer(0)),
        lr=rules.real(0),
        batch_size=rules.integer(1),
        class_weight=(rules.none(), rules.options("balanced"), rules.mapping()),
        early_stopping=rules.boolean(),
        validation_fraction=rules.real(0, 1),
        n_iter_no_change=rules.integer(1),
        warm_start=rules.boolean(),
        random_state=rules.random_state(),
        device=rules.Rule(lambda v: isinstance(v, (str, torch.device)), "a str"),
        verbose=(rules.boolean(), rules.integer(0)),
        net_params=(rules.none(), rules.mapping()),
    )

    def __init__(
        self,
        *,
        encoder=None,
        standardize=True,
        solver="auto",
        max_epochs="auto",
        lr=0.01,
        batch_size=512,
        class_weight=None,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        warm_start=False,
        random_state=None,
        device="cpu",
        verbose=0,
        net_params=None,
    ):
        self.encoder = encoder
        self.standardize = standardize
        self.solver = solver
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.verbose = verbose
        self.net_params = net_params

    # -- hooks -------------------------------------------------------------------------

    @abstractmethod
    def _make_module(self, data: TrainingData) -> torch.nn.Module:
        """Return the module, started from the data."""

    @abstractmethod
    def _loss_terms(self) -> list[Any]:
        """Return the loss terms with their weights."""

    @abstractmethod
    def _collect(self, module, data: TrainingData, X) -> None:
        """Set the fitted attributes; `X` is what the user passed, validated."""

    @abstractmethod
    def _evidence(self, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return "class_contributions" (n, U, K), "class_bias" (n, K) and extras."""

    def _phases(self) -> list[Phase]:
        """Return the phases of training; one joint phase by default."""
        stop = (Convergence(),) if self.solver_ == "lbfgs" else ()
        lr = float(self.lr)
        return [Phase("joint", self.max_epochs_, lr, self.solver_, callbacks=stop)]

    def _finish(self, module, data: TrainingData) -> None:
        """Act on the trained module before attributes are read (project, prune)."""

    def _probabilities(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """Return class probabilities (n, K); the softmax of the scores by default."""
        return softmax(outputs["scores"], axis=1)

    def _codes(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """Return predicted class codes (n,); ties go to the lowest code."""
        return outputs["scores"].argmax(axis=1)

    def _radius(self, X) -> np.ndarray | None:
        """Return certified radii for explanations, None where there are none."""
        return None

    def _global_evidence(self) -> dict[str, Any]:
        """Return the fields that explain_global adds to the prototype table."""
        return {}

    def _check_parameters(self) -> None:
        """Raise for parameters that are invalid on their own or together."""
        parameters = self.get_params(deep=False)
        self._parameter_rules.check(type(self).__name__, parameters)
        device = torch.device(self.device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                f"The 'device' parameter of {type(self).__name__} is {self.device!r}, "
                "but torch sees no GPU. Use device='cpu'."
            )

    # -- predicting --------------------------------------------------------------------

    @property
    def _module(self) -> Any:
        return self.net_.module_

    @property
    def _scaling(self) -> preparation.Scaling:
        return preparation.Scaling(self.center_, self.scale_)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def _check_input(self, X):
        check_is_fitted(self)
        X = validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False
        )
        return sp.csr_array(X) if sp.issparse(X) else X

    def _forward(self, X, keys: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
        """Run the module over validated X and return its outputs as arrays."""
        parts: dict[str, list[np.ndarray]] = {}
        size = int(np.clip(CHUNK_ENTRIES // X.shape[1], 16, 8192))
        scaling, module = self._scaling, self._module
        with torch.inference_mode():
            for rows in chunks(X.shape[0], size):
                x = torch.from_numpy(scaling.apply(X[rows])).to(self.net_.device)
                for key, value in module(x).items():
                    if keys is None or key in keys:
                        parts.setdefault(key, []).append(value.cpu().numpy())
        outputs = {key: np.concatenate(values) for key, values in parts.items()}
        if "scores" in outputs:
            outputs["scores"] = outputs["scores"].astype(np.float64)
            if not np.isfinite(outputs["scores"]).all():
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
        """
        outputs = self._forward(self._check_input(X), ("scores", "log_scores"))
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
        """
        return self._probabilities(self._forward(self._check_input(X)))

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
        """
        scores = self._forward(self._check_input(X), ("scores",))["scores"]
        return self._as_decision(scores)

    def _as_decision(self, scores: np.ndarray) -> np.ndarray:
        if len(self.classes_) > 2:
            return scores
        if self._binary_margin == "positive":
            return scores[:, 1]
        return scores[:, 1] - scores[:, 0]

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
        """
        X = self._check_input(X)
        return self._forward(X, ("activations",))["activations"].astype(X.dtype)

    @property
    def _n_features_out(self) -> int:
        return len(self.prototypes_)

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
        """
        index = getattr(X, "index", None)
        X = self._check_input(X)
        outputs = self._forward(X)
        return self._explanation_class(
            estimator_name=type(self).__name__,
            classes=self.classes_,
            scores=outputs["scores"],
            probabilities=self._probabilities(outputs),
            prediction=self.classes_[self._codes(outputs)],
            similarities=outputs["activations"].astype(np.float64),
            distances=outputs["distances"].astype(np.float64),
            prototypes=self._prototype_table(),
            samples=X.toarray() if sp.issparse(X) else X,
            sample_index=np.arange(X.shape[0]) if index is None else np.asarray(index),
            radius=self._radius(X),
            radius_units="scaled",
            binary_margin=self._binary_margin,
            **self._evidence(outputs),
        )

    def explain_global(self):
        """Explain the model itself: its prototypes and what they stand for.

        Returns
        -------
        explanation : GlobalExplanation
            Prototypes in the user's units and how they are weighed.
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
        n_features = self.n_features_in_
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            names = np.array([f"x{i}" for i in range(n_features)], dtype=object)
        in_input_space = self.prototypes_.shape[1] == n_features and not self._encodes
        return PrototypeTable(
            ids=self.prototype_ids_,
            labels=self.prototype_labels_,
            indices=self.prototype_indices_,
            projection_distance=self.projection_distance_,
            values=self.prototypes_ if in_input_space else None,
            samples=self.prototype_samples_,
            is_case=self.projection_distance_ == 0,
            feature_names=names,
            scale=self.scale_,
            center=self.center_,
            weights=getattr(self, "feature_weights_", None),
        )

    @property
    def _encodes(self) -> bool:
        return self.encoder not in (None, "identity")

    # -- scikit-learn's developer API --------------------------------------------------

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
