"""What is shown of a fitted prototype autoencoder, and done to it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils.validation import (
    check_is_fitted,
)

from skproto import _placing as placing
from skproto._editing import with_user_labels
from skproto._fitting import keeps_state_on_error
from skproto._projection import distinct_rows
from skproto._provenance import provenance
from skproto.explanation import PrototypePlaces, PrototypeTable, SamplePlaces
from skproto.explanation._distances import DistanceExplanation
from skproto.networks._autoencoder_codes import AutoencoderCodes
from skproto.networks._autoencoder_fit import encoded
from skproto.networks._autoencoder_refit import (
    accuracy_of,
    distances_of,
    exact_distances,
    refit_head,
)
from skproto.networks._editing_autoencoder import AutoencoderFamily
from skproto.training import TrainingData, select_rows
from skproto.utils import _parameters as rules

# Spread of a prototype's weights, in units of the largest, below which it is flat.
FLAT = 0.01


class AutoencoderBase(AutoencoderCodes):
    """The part of the prototype autoencoder that explains and is changed."""

    _explanation_class = DistanceExplanation
    _editing_family = AutoencoderFamily
    project_prototypes: bool
    unique_sources: bool
    # Fitted attributes with one entry for each prototype.
    _per_prototype: ClassVar[tuple[str, ...]] = (
        *placing.PER_PROTOTYPE,
        "prototypes_decoded_",
        "prototype_decoding_errors_",
        "usual_distances_",
    )

    # -- projecting, pruning, refitting ------------------------------------------------

    def _finish(self, module, data: TrainingData) -> None:
        if self.project_prototypes:
            self._project_onto(module, data)

    def _project_onto(self, module, data: TrainingData) -> None:
        """Put prototypes on codes of the class that they speak for; refit the head."""
        codes = encoded(module.encode, module, data)
        owners = module.head.weight.detach().cpu().numpy().argmin(axis=1)
        before = distances_of(module, codes)
        own = np.where(data.y[:, None] == owners, before, np.inf)
        index = distinct_rows(own) if self.unique_sources else own.argmin(axis=0)
        accuracy = [accuracy_of(module, before, data)]
        module.set_prototypes(codes[index])
        after = distances_of(module, codes)
        refit_head(module, after, data)
        accuracy.append(accuracy_of(module, after, data))
        self.projection_accuracy_ = np.array(accuracy)
        self._projected = index

    @keeps_state_on_error
    def project(self, X, y):
        """Put every prototype on the code of the nearest sample of its class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, such as those of `fit`, or images.

        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        self : object
            The estimator, with the head refit. `prototype_indices_` now counts the
            rows of this `X`; `projection_distance_` is 0, and `projection_accuracy_`
            holds the accuracy on these samples before and after.

        Raises
        ------
        ValueError
            If `y` holds labels that were not seen in `fit`, or lacks the class of a
            prototype.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoderClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoderClassifier(3, max_epochs=4, random_state=0)
        >>> _ = model.fit(X, y)
        >>> model = model.project(X, y)
        >>> model.projection_distance_.max().item()
        0.0
        """
        X, data = self._labelled(X, y)
        missing = np.setdiff1d(self.prototype_labels_, y)
        if len(missing):
            raise ValueError(
                "y must hold samples of every class that has prototypes; it has none "
                f"of {missing.tolist()}."
            )
        module = copy.deepcopy(self._module)
        self._project_onto(module, data)
        self.net_ = self._make_prediction_net(module)
        self._collect(module, data, X)
        return self

    @keeps_state_on_error
    def refit_head(self, X, y, sample_weight=None):
        """Fit the head anew for fixed prototypes, as one convex problem.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, such as those of `fit`, or images.

        y : array-like of shape (n_samples,)
            Their labels.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        self : object
            The estimator with other `head_weights_`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoderClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoderClassifier(3, max_epochs=4, random_state=0)
        >>> _ = model.fit(X, y)
        >>> bool(model.refit_head(X, y).score(X, y) > 0.6)
        True
        """
        _, data = self._labelled(X, y, sample_weight)
        module = copy.deepcopy(self._module)
        codes = encoded(module.encode, module, data)
        refit_head(module, distances_of(module, codes), data)
        self.net_ = self._make_prediction_net(module)
        self._read_head()
        return self

    @keeps_state_on_error
    def prune(self, threshold=None, X=None, y=None):
        """Drop prototypes that are of no use.

        Parameters
        ----------
        threshold : float, default=None
            Prototypes whose largest weight in `head_weights_`, whatever its sign, is
            below this are dropped. None drops those that are nearest to no training
            sample or have the same weight for all classes, to one per cent; every
            class keeps at least one of those that speak for it.

        X, y : array-like, default=None
            Samples on which the head is refit afterwards; without them it is not, and
            the scores lack exactly what the prototypes contributed.

        Returns
        -------
        self : object
            The estimator with fewer prototypes; those left keep their ids.

        Raises
        ------
        ValueError
            If no prototype would be left, or `threshold` is no such number.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoderClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoderClassifier(6, max_epochs=4, random_state=0)
        >>> _ = model.fit(X, y)
        >>> len(model.prune().prototypes_) <= 6
        True
        """
        check_is_fitted(self)
        if threshold is not None and not rules.real(0, ends="[)").accepts(threshold):
            raise ValueError(
                "threshold must be None or a float in the range [0, inf); samples are "
                f"given by name, as in prune(X=X, y=y). Got {type(threshold).__name__}."
            )
        if threshold is None:
            kept = self._useful()
        else:
            kept = np.abs(self.head_weights_).max(axis=1) >= threshold
        if not kept.any():
            raise ValueError("No prototype would be left; use a lower threshold.")
        module = self._module.keep(torch.from_numpy(kept))
        self.net_ = self._make_prediction_net(module)
        placing.keep_entries(self, self._per_prototype, kept)
        self._read_head()
        return self if X is None else self.refit_head(X, y)

    def _useful(self) -> np.ndarray:
        """Mask (P,) of the prototypes that are somewhere nearest and tell classes."""
        weights = self.head_weights_
        spread = weights.max(axis=1) - weights.min(axis=1)
        useful = (spread >= FLAT * spread.max()) & (self.win_counts_ > 0)
        kept = useful.copy()
        for label in np.unique(self.prototype_labels_):
            own = np.flatnonzero(self.prototype_labels_ == label)
            if not useful[own].any():
                best = np.lexsort((spread[own], self.win_counts_[own]))[-1]
                kept[own[best]] = True
        return kept

    # -- reading the module ------------------------------------------------------------

    def _read_head(self) -> None:
        weight = self._module.head.weight.detach().double().cpu().numpy()
        self.head_weights_ = weight
        codes = with_user_labels(self, weight.argmin(axis=1))
        self.prototype_labels_ = self.classes_[codes]

    def _decoding_errors(self) -> np.ndarray:
        """Squared errors (P,) of decoded prototypes beside the samples behind them."""
        samples = self.prototype_samples_
        if samples is None:
            return np.full(len(self.prototypes_), np.nan)
        scaling = self._scaling
        gap = scaling.apply(self.prototypes_decoded_) - scaling.apply(samples)
        return np.square(gap.reshape(len(gap), -1), dtype=float).sum(axis=1)

    def _collect(self, module, data: TrainingData, X) -> None:
        codes = encoded(module.encode, module, data)
        squared = distances_of(module, codes)
        self.bandwidth_ = float(np.median(squared)) or 1.0
        module.bandwidth.fill_(self.bandwidth_)
        self.usual_distances_ = np.average(squared, axis=0, weights=data.weight)
        self.win_counts_ = np.bincount(
            squared.argmin(axis=1), minlength=squared.shape[1]
        )
        projected = self.__dict__.pop("_projected", None)
        index = squared.argmin(axis=0) if projected is None else projected
        points = module.prototypes.detach().cpu().numpy()
        self.prototypes_ = points.astype(np.float64)
        self.projection_distance_ = exact_distances(codes[index], points)
        self.prototype_sample_labels_ = self.classes_[data.y[index]]
        self.prototype_indices_ = data.rows[index]
        self._read_sources(X)
        self.prototypes_decoded_ = self.decode_prototypes()
        self.prototype_decoding_errors_ = self._decoding_errors()
        self.latent_dim_ = points.shape[1]
        seen = select_rows(X, data.rows)
        self.recon_error_ = float(np.average(self._errors(seen), weights=data.weight))
        self._read_head()

    def _read_sources(self, X) -> None:
        """Keep the samples behind the prototypes."""
        index = self.prototype_indices_
        if len(self._input_shape) == 3:
            sites = np.zeros(len(index), dtype=np.int64)
            for name, value in provenance(X, index, sites, None).items():
                setattr(self, name, value)
            return
        rows = X[index]
        self.prototype_samples_ = rows.toarray() if sp.issparse(rows) else rows.copy()

    # -- explaining --------------------------------------------------------------------

    def _evidence(self, outputs) -> dict[str, Any]:
        squared = outputs["squared_distances"].astype(np.float64)
        return {
            "class_contributions": squared[:, :, None] * self.head_weights_,
            "class_bias": np.zeros_like(outputs["scores"]),
            "head_weights": self.head_weights_,
            "link": "softmax",
            "usual": self.usual_distances_,
        }

    def _global_evidence(self) -> dict[str, Any]:
        return {"weights": self.head_weights_}

    def _prototype_table(self) -> PrototypeTable:
        table = super()._prototype_table()
        if len(self._input_shape) != 3:
            return replace(table, places=None)
        places = PrototypePlaces(
            kind="image",
            images=self.prototype_samples_,
            decoded=self.prototypes_decoded_,
            hashes=self.prototype_hashes_,
            image_size=np.array(self._input_shape[1:]),
        )
        return replace(table, places=places)

    def _explanation(self, outputs: dict[str, Any], X, sample_index):
        outputs = {**outputs, "activations": outputs["squared_distances"]}
        shown = super()._explanation(outputs, X, sample_index)
        if len(self._input_shape) != 3:
            return shown
        places = SamplePlaces(
            kind="image", images=X[:], reconstructions=self._reconstructions(X)
        )
        return replace(shown, places=places)
