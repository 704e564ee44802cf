"""Certified radii of shallow classifiers."""

from __future__ import annotations

import copy
import numbers
from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from skproto.nn.certificates import convert_norm
from skproto.shallow._base import ShallowPrototypeClassifier
from skproto.training import chunks

# Entries of the largest intermediate array, in float64, while certifying.
CERTIFY_ENTRIES = 4_000_000

# Close calls are computed in multiples of this, whole blocks of a matrix product in
# float64: their bits do not depend on how many there are.
DOUBLE_BLOCK = 48

# Lead over the runner-up, relative to scores above 1, that float32 is trusted with.
CLOSE_CALL = 1e-4


class CertifiedPrototypeClassifier(ShallowPrototypeClassifier):
    """Base of the shallow classifiers: adds `certify` and `certified_accuracy`."""

    # Names of the certificates, the tightest first.
    _certificates: ClassVar[tuple[str, ...]] = ()
    # Outputs of the module that tell where float32 does not do.
    _doubt_keys: ClassVar[tuple[str, ...]] = ("log_scores",)

    @abstractmethod
    def _certified_radius(self, module, x, codes, method, norm) -> torch.Tensor:
        """Radius (n,) in a norm for scaled rows x (n, f) and class codes, float64."""

    @abstractmethod
    def _certificate_width(self) -> int:
        """Entries of intermediate arrays per sample."""

    # -- predicting --------------------------------------------------------------------

    def _forward(self, X, keys=None, run=None) -> dict[str, np.ndarray]:
        """Pass validated X through the module, close calls once more in float64.

        A certificate holds for the model in exact arithmetic. What float32 cannot tell
        apart is therefore decided in float64, in which the certificate is computed.
        """
        if run is not None:
            return super()._forward(X, keys, run)
        wanted = None if keys is None else (*keys, *self._doubt_keys)
        outputs = super()._forward(X, wanted, self._light_run(wanted))
        close = np.flatnonzero(self._in_doubt(outputs))
        if len(close):
            self._decide_in_double(X, close, outputs)
        kept = outputs.keys() if keys is None else outputs.keys() & set(keys)
        # Sums over classes round in the order of the memory.
        return {key: np.ascontiguousarray(outputs[key]) for key in kept}

    def _light_run(self, keys):
        """Return what computes no more than the outputs `keys`; None for the module."""
        return None

    def _in_doubt(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """Tell for which samples float32 does not do, bool (n,)."""
        if "scores" not in outputs:
            return np.zeros(0, dtype=bool)
        return _is_close_call(outputs)

    def _decide_in_double(self, X, close: np.ndarray, outputs) -> None:
        """Replace the rows `close` of the outputs by those of float64 arithmetic."""
        module = self._double_module()
        for key, values in outputs.items():
            if values.dtype == np.float32:
                outputs[key] = values.astype(np.float64)
        size = CERTIFY_ENTRIES // max(1, self._module.prototypes.numel())
        size = max(DOUBLE_BLOCK, size - size % DOUBLE_BLOCK)
        for part in chunks(len(close), size):
            rows = close[part]
            block = np.resize(rows, len(rows) + -len(rows) % DOUBLE_BLOCK)
            with torch.inference_mode():
                exact = module(torch.from_numpy(self._scaling.apply_double(X[block])))
            for key in outputs:
                outputs[key][rows] = exact[key][: len(rows)].numpy()

    def _double_module(self):
        return copy.deepcopy(self._module).double().cpu()

    # -- certifying --------------------------------------------------------------------

    def certify(self, X, y=None, *, norm=2, method=None, units="scaled"):
        """Return the radius within which no change of a sample alters its class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        y : array-like of shape (n_samples,), default=None
            Classes to certify; the radius is negative where another is predicted.
            None certifies the predicted classes.

        norm : float, default=2
            Norm in which a change is measured, at least 1: 2 the Euclidean length, 1
            the sum of the changes of all features, ``np.inf`` the largest of them.

        method : str, default=None
            Name of the certificate, see the class; None takes the tightest.

        units : {"scaled", "input"}, default="scaled"
            "scaled": length in the space of the model, where every feature has been
            divided by `scale_`. "input": in the user's units, a guarantee that is
            smaller by the factor ``scale_.min()``.

        Returns
        -------
        radius : ndarray of shape (n_samples,)
            Radii, a lower bound of the distance to the decision boundary.

        Raises
        ------
        ValueError
            If the method or the units are unknown, the norm is below 1, a label of
            `y` was not seen in `fit`, or the encoder is not linear.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import GLVQClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = GLVQClassifier(1, random_state=0).fit(X, y)
        >>> radius = model.certify(X)
        >>> radius.shape, bool((radius >= 0).all())
        ((150,), True)
        """
        X = self._check_input(X)
        method = self._check_method(method)
        if not isinstance(norm, numbers.Real) or not float(norm) >= 1:
            raise ValueError(f"norm must be a number of at least 1. Got {norm!r}.")
        if units not in ("scaled", "input"):
            raise ValueError(f"units must be 'scaled' or 'input'. Got {units!r}.")
        codes = None if y is None else self._label_codes(X, y)
        radius = self._certify(X, codes, method, float(norm))
        return radius * self.scale_.min() if units == "input" else radius

    def _certify(self, X, codes, method: str, norm: float) -> np.ndarray:
        """Radii in scaled units of validated X; `codes` None: of the prediction."""
        stretch = self._encoder_stretch()
        predicted = codes is None
        if predicted:
            codes = self._codes(self._forward(X, ("scores", "log_scores")))
        # The stretch of an encoder is known for the Euclidean length.
        inner = 2.0 if self._encodes else norm
        module = self._double_module()
        radius = np.empty(X.shape[0])
        size = max(1, min(8192, CERTIFY_ENTRIES // self._certificate_width()))
        for rows in chunks(X.shape[0], size):
            x = torch.from_numpy(self._scaling.apply_double(X[rows]))
            with torch.no_grad():
                found = self._certified_radius(
                    module, x, torch.from_numpy(codes[rows]), method, inner
                )
            radius[rows] = convert_norm(found, X.shape[1], inner, norm).numpy()
        if predicted:
            # At a tie rounding may put the other class ahead.
            radius = np.maximum(radius, 0.0)
        return radius / stretch

    def certified_accuracy(self, X, y, eps, *, norm=2, method=None, units="scaled"):
        """Return the share of samples classified right under any change of size `eps`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        y : array-like of shape (n_samples,)
            True labels.

        eps : float or array-like of floats
            Sizes of the change, at least 0.

        norm, method, units : object
            See :meth:`certify`.

        Returns
        -------
        accuracy : float or ndarray
            One value for each `eps`; for 0 the accuracy, ties counted as wrong.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import GLVQClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = GLVQClassifier(1, random_state=0).fit(X, y)
        >>> share = model.certified_accuracy(X, y, [0.0, 0.5])
        >>> bool(share[0] >= share[1])
        True
        """
        sizes = np.asarray(eps, dtype=np.float64)
        if not (sizes >= 0).all():
            raise ValueError(f"eps must be at least 0. Got {eps!r}.")
        radius = self.certify(X, y, norm=norm, method=method, units=units)
        share = (radius > sizes[..., None]).mean(axis=-1)
        return float(share) if share.ndim == 0 else share

    def _radius(self, X) -> np.ndarray | None:
        if self._encodes and not self._has_linear_encoder():
            return None
        return self._certify(X, None, self._check_method(None), 2.0)

    def _allowed_certificates(self) -> tuple[str, ...]:
        """Return the names of the certificates, the tightest first."""
        return self._certificates

    def _check_method(self, method: str | None) -> str:
        allowed = self._allowed_certificates()
        if method is None:
            return allowed[0]
        if method not in allowed:
            raise ValueError(
                f"method must be one of {allowed} for this "
                f"{type(self).__name__}. Got {method!r}."
            )
        return method

    def _has_linear_encoder(self) -> bool:
        body = self._module.encoder.body
        return body is None or isinstance(body, nn.Linear)

    def _encoder_stretch(self) -> float:
        """Largest factor by which the encoder stretches a change of its input."""
        body = self._module.encoder.body
        if body is None:
            return 1.0
        if not isinstance(body, nn.Linear):
            raise ValueError(
                f"{type(self).__name__} can certify without an encoder or with an "
                f"nn.Linear. Got {type(body).__name__}."
            )
        with torch.no_grad():
            return float(torch.linalg.matrix_norm(body.weight.double(), 2))


def _is_close_call(outputs: dict[str, np.ndarray]) -> np.ndarray:
    """Tell where float32 may not know which of two classes is ahead, bool (n,)."""
    # With the samples side by side NumPy compares twenty times as fast.
    scores = np.asfortranarray(outputs.get("log_scores", outputs["scores"]))
    best = scores.max(axis=1)
    border = best - CLOSE_CALL * np.maximum(np.abs(best), 1.0)
    return np.asarray(np.count_nonzero(scores >= border[:, None], axis=1) > 1)
