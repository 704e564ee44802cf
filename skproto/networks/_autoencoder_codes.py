"""What a fitted prototype autoencoder makes of samples and codes."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils.validation import check_is_fitted

from skproto.networks._autoencoder_fit import AutoencoderFit


class AutoencoderCodes(AutoencoderFit):
    """The part of the prototype autoencoder that encodes and decodes."""

    transform_output: str

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

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoderClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoderClassifier(3, max_epochs=4, random_state=0)
        >>> _ = model.fit(X, y)
        >>> model.encode(X).shape[0]
        150
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

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoderClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoderClassifier(3, max_epochs=4, random_state=0)
        >>> _ = model.fit(X, y)
        >>> model.inverse_transform(model.encode(X[:2])).shape
        (2, 4)
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

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoderClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoderClassifier(3, max_epochs=4, random_state=0)
        >>> _ = model.fit(X, y)
        >>> model.decode_prototypes().shape
        (3, 4)
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

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoderClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoderClassifier(3, max_epochs=4, random_state=0)
        >>> _ = model.fit(X, y)
        >>> model.reconstruct(X[:2]).shape
        (2, 4)
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

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoderClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoderClassifier(3, max_epochs=4, random_state=0)
        >>> _ = model.fit(X, y)
        >>> model.reconstruction_error(X).shape
        (150,)
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

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoderClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoderClassifier(3, max_epochs=4, random_state=0)
        >>> _ = model.fit(X, y)
        >>> near, far = model.outlier_score(X).mean(), model.outlier_score(9 * X).mean()
        >>> bool(far > near)
        True
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

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoderClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoderClassifier(3, max_epochs=4, random_state=0)
        >>> _ = model.fit(X, y)
        >>> model.transform(X).shape  # samples, prototypes
        (150, 3)
        """
        if self.transform_output == "similarity":
            return super().transform(X)
        X = self._check_input(X)
        squared = self._forward(X, ("squared_distances",))["squared_distances"]
        is_float = isinstance(X, np.ndarray) or sp.issparse(X)
        return squared.astype(X.dtype) if is_float else squared
