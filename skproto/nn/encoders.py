"""Encoders: from a row of the scaled table to sites in the prototypes' space."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn


class MLPEncoder(nn.Sequential):
    """A small perceptron with one hidden layer.

    Parameters
    ----------
    n_features : int
        Number of inputs.

    hidden : int, default=64
        Width of the hidden layer.

    dim : int, default=32
        Dimension D of the embedding.
    """

    def __init__(self, n_features, hidden=64, dim=32):
        super().__init__(
            nn.Linear(n_features, hidden), nn.ReLU(), nn.Linear(hidden, dim)
        )


class SiteEncoder(nn.Module):
    """Bring any module's output to sites of shape (n, T, D).

    Parameters
    ----------
    body : nn.Module or None
        Returns a vector (n, D), tokens (n, T, D) or a map (n, D, H, W); None passes
        the row on as its own embedding.
    """

    def __init__(self, body=None):
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Return sites (n, T, D); T = 1 for vectors, H·W for maps."""
        z = x if self.body is None else self.body(x)
        if z.ndim == 4:
            return z.flatten(2).transpose(1, 2)
        return z if z.ndim == 3 else z[:, None, :]


def make_encoder(spec: str | nn.Module | Callable | None, n_features: int):
    """Build the encoder that an estimator's `encoder` parameter asks for.

    Parameters
    ----------
    spec : {"identity", "mlp"}, nn.Module, callable or None
        A module is copied, so that fitting never changes the user's; a class or
        function is called with the number of features and returns a module.

    n_features : int
        Number of columns of the table.

    Returns
    -------
    encoder : SiteEncoder
        Maps (n, n_features) to (n, T, D).

    dim : int
        The D of its sites.

    Raises
    ------
    ValueError
        If the module fails on rows of `n_features` zeros, or if its output is not a
        vector, tokens or a map for each row.

    TypeError
        If the callable does not return a module.
    """
    encoder = SiteEncoder(_make_body(spec, n_features))
    if encoder.body is None:
        return encoder, n_features
    encoder.eval()
    try:
        with torch.no_grad():
            probe = encoder.body(torch.zeros(2, n_features))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"The encoder {spec!r} failed on an input of shape (2, {n_features}): "
            f"{error}"
        ) from error
    if not isinstance(probe, Tensor) or probe.ndim not in (2, 3, 4):
        got = tuple(probe.shape) if isinstance(probe, Tensor) else type(probe).__name__
        raise ValueError(
            f"The encoder {spec!r} must return a tensor of shape (n, D), (n, T, D) or "
            f"(n, D, H, W). Got {got} for an input of shape (2, {n_features})."
        )
    if len(probe) != 2:
        raise ValueError(
            f"The encoder {spec!r} must return one embedding for each row. Got "
            f"{tuple(probe.shape)} for an input of shape (2, {n_features})."
        )
    encoder.train()
    return encoder, probe.shape[1] if probe.ndim == 4 else probe.shape[-1]


def _make_body(spec, n_features) -> nn.Module | None:
    if spec is None or spec == "identity":
        return None
    if spec == "mlp":
        return MLPEncoder(n_features)
    if isinstance(spec, nn.Module):
        return copy.deepcopy(spec)
    try:
        body = spec(n_features)
    except TypeError as error:
        raise TypeError(
            f"The encoder {spec!r} must take the number of features and return an "
            f"nn.Module. It raised: {error}"
        ) from error
    if not isinstance(body, nn.Module):
        raise TypeError(f"The encoder {spec!r} must return an nn.Module. Got {body!r}.")
    return body
