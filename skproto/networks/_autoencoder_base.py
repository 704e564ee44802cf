"""What can be asked of a fitted prototype autoencoder, and done to it."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from skproto import _images as images
from skproto import _preparation as preparation
from skproto._fitting import keeps_state_on_error
from skproto.explanation import PrototypeTable
from skproto.explanation._distances import DistanceExplanation
from skproto.explanation._places import PrototypePlaces, SamplePlaces
from skproto.networks._autoencoder_fit import AutoencoderFit, encoded
from skproto.nn.head_solver import solve_head
from skproto.training import TrainingData, select_rows
from skproto.utils._sklearn import check_sample_weight

# Pull of a refit head towards what it was, in units of the mean distance: classes that
# distances separate would otherwise have weights without end.
REFIT_PULL = 1e-3


class AutoencoderBase(AutoencoderFit):
    """The part of the prototype autoencoder that is used after the fit."""

    _explanation_class = DistanceExplanation
    transform_output: str
    project_prototypes: bool
    # Fitted attributes with one entry for each prototype.
    _per_prototype: ClassVar[tuple[str, ...]] = (
        "prototypes_",
        "prototypes_decoded_",
        "prototype_ids_",
        "prototype_indices_",
        "prototype_samples_",
        "prototype_sample_labels_",
        "prototype_sites_",
        "prototype_boxes_",
        "prototype_patches_",
        "prototype_hashes_",
        "projection_distance_",
        "usual_distances_",
        "win_counts_",
    )

    @property
    def _encodes(self) -> bool:
        # Even where the code is the row itself, it is in the space of the model.
        return True

    # -- codes and samples -------------------------------------------------------------

    def encode(self, X):
        """Return the codes of samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, or images as in `fit`.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_dimensions)
            Codes, in the space of `prototypes_`.
        """
        X = self._check_input(X)
        return self._forward(X, run=lambda x: {"z": self._module.encode(x)})["z"]

    def inverse_transform(self, Z):
        """Decode codes, such as those that :meth:`encode` returns.

        Parameters
        ----------
        Z : array-like of shape (n, n_dimensions)
            Codes. What `transform` returns are distances, which cannot be decoded.

        Returns
        -------
        X : ndarray of shape (n, n_features) or (n, n_channels, height, width)
            Samples in the user's units, float64.
        """
        check_is_fitted(self)
        Z = np.asarray(Z, dtype=np.float32)
        dim = self._module.config["code_dim"]
        if Z.ndim != 2 or Z.shape[1] != dim:
            raise ValueError(
                f"Z must hold codes of shape (n, {dim}), as encode returns them. Got "
                f"shape {Z.shape}."
            )
        return self._decoded(Z)

    def _decoded(self, codes: np.ndarray) -> np.ndarray:
        decoded = np.empty((len(codes), *self._input_shape))
        size = 1024
        with torch.inference_mode():
            for start in range(0, len(codes), size):
                z = torch.from_numpy(codes[start : start + size]).to(self.net_.device)
                x = self._module.decode(z).cpu().numpy()
                decoded[start : start + size] = self._scaling.invert(x)
        return decoded

    def decode_prototypes(self):
        """Decode the prototypes.

        Returns
        -------
        X : ndarray of shape (n_prototypes, n_features) or (n_prototypes, n_channels, \
height, width)
            What the decoder makes of each prototype, in the user's units. It is a
            rendering and no training sample; those are in `prototype_samples_`.
        """
        check_is_fitted(self)
        return self._decoded(self._module.prototypes.detach().cpu().numpy())

    def reconstruct(self, X):
        """Encode and decode samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, or images as in `fit`.

        Returns
        -------
        X : ndarray of the same shape
            What the code keeps of the samples, in the user's units.
        """
        shape = np.shape(X)
        X = self._check_input(X)
        decoded = self._reconstructions(X)
        return decoded.reshape(shape) if np.prod(shape) == decoded.size else decoded

    def _reconstructions(self, X) -> np.ndarray:
        """Return validated samples after encoding and decoding, in their units."""
        run = self._module.reconstruct
        decoded = self._forward(X, run=lambda x: {"x": run(x)})["x"]
        return self._scaling.invert(decoded)

    def reconstruction_error(self, X):
        """Return how badly samples are reconstructed.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, or images as in `fit`.

        Returns
        -------
        error : ndarray of shape (n_samples,)
            Squared error, summed over features or pixels, in the space of the model.
        """
        return self._errors(self._check_input(X))

    def _errors(self, X) -> np.ndarray:
        def run(x):
            gap = self._module.reconstruct(x) - x
            return {"error": gap.flatten(1).square().sum(1)}

        return self._forward(X, run=run)["error"].astype(np.float64)

    def outlier_score(self, X):
        """Return how far samples are from all prototypes.

        Scores grow with the distance, so that samples unlike all training samples get
        confident predictions: look here, and at :meth:`reconstruction_error`, before
        trusting one.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, or images as in `fit`.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            Squared distance of the code to the nearest prototype.
        """
        return self._squared_distances(self._check_input(X)).min(axis=1)

    def _squared_distances(self, X) -> np.ndarray:
        key = "squared_distances"
        return self._forward(X, (key,))[key].astype(np.float64)

    def transform(self, X):
        """Squared distances of samples to every prototype, or similarities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, or images as in `fit`.

        Returns
        -------
        D : ndarray of shape (n_samples, n_prototypes)
            Squared distances D; with ``transform_output="similarity"``
            ``exp(-D / bandwidth_)``. In the order of `prototypes_`.
        """
        if self.transform_output == "similarity":
            return super().transform(X)
        X = self._check_input(X)
        squared = self._forward(X, ("squared_distances",))["squared_distances"]
        is_float = isinstance(X, np.ndarray) or sp.issparse(X)
        return squared.astype(X.dtype) if is_float else squared

    # -- projecting, pruning, refitting ------------------------------------------------

    def _finish(self, module, data: TrainingData) -> None:
        if self.project_prototypes:
            self._project_onto(module, data)

    def _project_onto(self, module, data: TrainingData) -> None:
        """Put prototypes on codes of the class that they speak for; refit the head."""
        codes = encoded(module.encode, module, data)
        owners = module.head.weight.detach().cpu().numpy().argmin(axis=1)
        before = distances_of(module, codes)
        eligible = data.y[:, None] == owners
        # A class that no prototype speaks for is no obstacle; a class without sample is.
        eligible |= ~eligible.any(axis=0)
        index = np.where(eligible, before, np.inf).argmin(axis=0)
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
        """
        X, data = self._labelled(X, y, None)
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
        """
        _, data = self._labelled(X, y, sample_weight)
        module = copy.deepcopy(self._module)
        codes = encoded(module.encode, module, data)
        refit_head(module, distances_of(module, codes), data)
        self.net_ = self._make_prediction_net(module)
        self._read_head()
        return self

    @keeps_state_on_error
    def prune(self, threshold=0.01, X=None, y=None):
        """Drop the prototypes that are never nearest or tell no classes apart.

        Every class keeps at least one of the prototypes that speak for it.

        Parameters
        ----------
        threshold : float, default=0.01
            A prototype goes whose weights differ by less than this times the largest
            such difference, or that is nearest to no training sample.

        X, y : array-like, default=None
            Samples on which the head is refit afterwards; without them it is not, and
            the scores lack exactly what the prototypes contributed.

        Returns
        -------
        self : object
            The estimator with fewer prototypes; those left keep their ids.
        """
        check_is_fitted(self)
        weights = self.head_weights_
        spread = weights.max(axis=1) - weights.min(axis=1)
        useful = (spread >= threshold * spread.max()) & (self.win_counts_ > 0)
        kept = useful.copy()
        for label in np.unique(self.prototype_labels_):
            own = np.flatnonzero(self.prototype_labels_ == label)
            if not useful[own].any():
                best = np.lexsort((spread[own], self.win_counts_[own]))[-1]
                kept[own[best]] = True
        module = self._module.keep(torch.from_numpy(kept))
        self.net_ = self._make_prediction_net(module)
        for name in self._per_prototype:
            values = getattr(self, name, None)
            if isinstance(values, list):
                values = [value for value, k in zip(values, kept, strict=True) if k]
                setattr(self, name, values)
            elif values is not None:
                setattr(self, name, values[kept])
        self._read_head()
        return self if X is None else self.refit_head(X, y)

    def _labelled(self, X, y, sample_weight) -> tuple[Any, TrainingData]:
        """Return validated X, and with y and weights as data of the model."""
        X = self._check_input(X)
        y = column_or_1d(y)
        check_consistent_length(X, y)
        weight = check_sample_weight(
            sample_weight,
            np.empty((len(y), 1)),
            dtype=np.float64,
            ensure_non_negative=True,
        )
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y has labels that were not seen in fit: {unknown.tolist()}; known "
                f"are {self.classes_.tolist()}."
            )
        codes = np.searchsorted(self.classes_, y)
        parts = preparation.training_data(X, codes, weight, self._scaling)
        rng = np.random.RandomState(0)
        return X, TrainingData(**parts, n_classes=len(self.classes_), rng=rng)

    # -- reading the module ------------------------------------------------------------

    def _read_head(self) -> None:
        weight = self._module.head.weight.detach().double().cpu().numpy()
        self.head_weights_ = weight
        self.prototype_labels_ = self.classes_[weight.argmin(axis=1)]

    def _collect(self, module, data: TrainingData, X) -> None:
        codes = encoded(module.encode, module, data)
        squared = distances_of(module, codes)
        self.bandwidth_ = float(np.median(squared)) or 1.0
        module.bandwidth.fill_(self.bandwidth_)
        self.usual_distances_ = np.average(squared, axis=0, weights=data.weight)
        self.win_counts_ = np.bincount(squared.argmin(axis=1), minlength=squared.shape[1])
        projected = self.__dict__.pop("_projected", None)
        index = squared.argmin(axis=0) if projected is None else projected
        points = module.prototypes.detach().cpu().numpy()
        self.prototypes_ = points.astype(np.float64)
        self.projection_distance_ = exact_distances(codes[index], points)
        self.prototype_sample_labels_ = self.classes_[data.y[index]]
        self.prototype_indices_ = data.rows[index]
        self._read_sources(X)
        self.prototypes_decoded_ = self.decode_prototypes()
        self.latent_dim_ = points.shape[1]
        seen = select_rows(X, data.rows)
        self.recon_error_ = float(np.average(self._errors(seen), weights=data.weight))
        self._read_head()

    def _read_sources(self, X) -> None:
        """Keep the samples behind the prototypes."""
        index = self.prototype_indices_
        if len(self._input_shape) == 3:
            sites = np.zeros(len(index), dtype=np.int64)
            for name, value in images.provenance(X, index, sites, None).items():
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
