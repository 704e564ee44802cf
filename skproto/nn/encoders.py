"""Encoders: from a sample in the space of the model to sites for the prototypes."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from skproto.nn._embedding import (
    channels_hint,
    check_embedding,
    given_body,
    grid_of,
    shown,
)
from skproto.nn.backbones import ConvEncoder, ViTEncoder

#: Encoders that have a name.
NAMED_ENCODERS = (
    "auto",
    "identity",
    "mlp",
    "conv",
    "vit",
    "tokens",
    "features",
)


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

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import MLPEncoder
    >>> MLPEncoder(4, dim=2)(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """

    def __init__(self, n_features, hidden=64, dim=32):
        super().__init__(
            nn.Linear(n_features, hidden), nn.ReLU(), nn.Linear(hidden, dim)
        )


class SiteEncoder(nn.Module):
    """Bring any module's output to sites of shape (n, T, D).

    Parameters
    ----------
    body : nn.Module or None, default=None
        Returns a vector (n, D), tokens (n, T, D), a map (n, D, H, W), or a pair of
        tokens and a class token (n, D); None passes the sample on as its own site.

    input_shape : tuple of int, default=None
        Shape of a sample. A batch with three axes, where a sample has one or three,
        holds what the body has returned before, as sites, and skips it.

    add_on : nn.Module, default=None
        Acts on sites (n, T, D) after the body.

    frozen : bool, default=False
        Whether the body never learns; it stays in evaluation mode then.

    subtract_class_token : bool, default=False
        Whether the class token is taken from every token, the mean token where the
        body returns none.

    Attributes
    ----------
    grid : tuple of int or None
        Rows and columns of the sites of an image, None where they have no place.

    n_sites, dim, body_dim : int
        Number T and dimension D of the sites, the latter with the add-on and without,
        known after :meth:`probe`.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import SiteEncoder
    >>> encoder = SiteEncoder(torch.nn.Conv2d(1, 8, 3), input_shape=(1, 6, 6))
    >>> encoder(torch.zeros(2, 1, 6, 6)).shape  # 4 x 4 sites of 8 numbers
    torch.Size([2, 16, 8])
    """

    grid: tuple[int, int] | None = None
    n_sites = 1
    dim: int
    body_dim: int

    def __init__(
        self,
        body=None,
        *,
        input_shape=None,
        add_on=None,
        frozen=False,
        subtract_class_token=False,
    ):
        super().__init__()
        self.body = body
        self.add_on = add_on
        self.input_shape = None if input_shape is None else tuple(input_shape)
        self.frozen = frozen
        self.subtract_class_token = subtract_class_token

    def train(self, mode: bool = True) -> SiteEncoder:
        """Set the mode; a frozen body stays in evaluation mode."""
        super().train(mode)
        if self.frozen and self.body is not None:
            self.body.eval()
        return self

    def body_sites(self, x: Tensor) -> Tensor:
        """Return the sites (n, T, D) before the add-on."""
        if self.body is None:
            z: Any = x
        elif self._is_encoded(x):
            return x
        elif self.frozen and not x.requires_grad:
            with torch.no_grad():
                z = self.body(x)
        else:
            z = self.body(x)
        return self._as_sites(z)

    def forward(self, x: Tensor, site_mask: Tensor | None = None) -> Tensor:
        """Return sites (n, T, D); T = 1 for vectors, H·W for maps.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            Samples.

        site_mask : Tensor of shape (n, T), bool, default=None
            Sites that exist, for an add-on whose `forward` takes a `site_mask`.
        """
        z = self.body_sites(x)
        if self.add_on is None:
            return z
        if site_mask is not None and _takes_mask(self.add_on):
            return self.add_on(z, site_mask=site_mask)
        return self.add_on(z)

    def _is_encoded(self, x: Tensor) -> bool:
        return (
            x.ndim == 3 and self.input_shape is not None and len(self.input_shape) != 2
        )

    def _as_sites(self, z) -> Tensor:
        class_token = None
        if isinstance(z, tuple):
            z, class_token = z
        if z.ndim == 4:
            z = z.flatten(2).transpose(1, 2)
        elif z.ndim == 2:
            z = z[:, None, :]
        if self.subtract_class_token:
            if class_token is None:
                class_token = z.mean(1)
            z = z - class_token[:, None]
        return z

    @torch.no_grad()
    def probe(self, spec) -> None:
        """Find out grid, number and dimension of the sites with a batch of zeros.

        Parameters
        ----------
        spec : object
            What the user asked for, for the messages.

        Raises
        ------
        ValueError
            If the body fails or returns something else than embeddings.
        """
        assert self.input_shape is not None
        shape = (2, *self.input_shape)
        training = self.training
        self.eval()
        name = shown(spec)
        x = torch.zeros(shape)
        try:
            z = x if self.body is None else self.body(x)
        except Exception as error:  # a user's code: anything may go wrong
            raise ValueError(
                f"The encoder {name} failed on an input of shape {shape}: {error}."
                f"{channels_hint(self.input_shape)}"
            ) from error
        check_embedding(z, name, shape)
        self.grid = grid_of(self.body, z, self.input_shape)
        z = self.body_sites(x)
        self.body_dim = z.shape[-1]
        sites = self._probe_add_on(z)
        self.n_sites, self.dim = sites.shape[1:]
        self.train(training)

    def _probe_add_on(self, z: Tensor) -> Tensor:
        """Return what the add-on makes of sites; raise if they are no sites."""
        if self.add_on is None:
            return z
        shape = tuple(z.shape)
        try:
            sites: Any = self.add_on(z)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise ValueError(
                f"The add-on {type(self.add_on).__name__} failed on sites of shape "
                f"{shape}: {error}"
            ) from error
        if not isinstance(sites, Tensor) or sites.shape[:-1] != z.shape[:2]:
            got = tuple(sites.shape) if isinstance(sites, Tensor) else type(sites)
            raise ValueError(
                f"The add-on {type(self.add_on).__name__} must return sites of shape "
                f"{shape[:2]} + (dim,) for sites of shape {shape}. Got {got}."
            )
        return sites


def _takes_mask(module: nn.Module) -> bool:
    return "site_mask" in inspect.signature(module.forward).parameters


def frozen_parameters(module: nn.Module) -> set[str]:
    """Return the names of the parameters in the bodies of frozen encoders."""
    return {
        f"{prefix}.body.{name}" if prefix else f"body.{name}"
        for prefix, part in module.named_modules()
        if isinstance(part, SiteEncoder) and part.frozen and part.body is not None
        for name, _ in part.body.named_parameters()
    }


@torch.no_grad()
def settle_statistics(encoder: SiteEncoder, batches: Iterable[Tensor]) -> None:
    """Set the statistics of batch normalisation that has not seen any samples yet.

    Without it an untrained encoder gives other sites in evaluation mode, in which
    prototypes are started, than in training.

    Parameters
    ----------
    encoder : SiteEncoder
        Changed in place; layers that have seen samples stay as they are.

    batches : iterable of Tensor
        Samples in the space of the model.
    """
    fresh = [
        layer
        for layer in encoder.modules()
        if isinstance(layer, _BatchNorm) and layer.num_batches_tracked == 0
    ]
    if not fresh:
        return
    momenta = [layer.momentum for layer in fresh]
    modes = [(part, part.training) for part in encoder.modules()]
    for part in encoder.modules():
        part.training = part in fresh
    for layer in fresh:
        layer.momentum = None  # the plain mean over the batches
    for x in batches:
        encoder(x)
    for layer, momentum in zip(fresh, momenta, strict=True):
        layer.momentum = momentum
    for part, mode in modes:
        part.training = mode


def make_encoder(
    spec: str | nn.Module | Callable | None,
    input_shape: int | tuple[int, ...],
    *,
    add_on: Callable[[int], nn.Module] | None = None,
    frozen: bool = False,
    subtract_class_token: bool = False,
    body_settings: Mapping[str, Any] | None = None,
) -> SiteEncoder:
    """Build the encoder that an estimator's `encoder` parameter asks for.

    Parameters
    ----------
    spec : {"identity", "tokens", "mlp", "conv", "vit", "features"}, module or None
        "features" makes every feature of a table a token. A module is copied, so that
        fitting never changes the user's; a class or function is called with the number
        of features of a table, or the shape of other samples, and returns a module.
        None is "identity".

    input_shape : int or tuple of int
        Number of columns of a table, (C, H, W) of images or (T, D) of tokens.

    add_on : callable, default=None
        Returns a module on sites for their dimension.

    frozen, subtract_class_token : bool, default=False
        See :class:`SiteEncoder`.

    body_settings : mapping, default=None
        Settings of an image encoder that has a name, such as its `patch_size`.

    Returns
    -------
    encoder : SiteEncoder
        Maps samples of `input_shape` to (n, T, D); knows `dim`, `n_sites` and `grid`.

    Raises
    ------
    ValueError
        If the module fails on samples of zeros, or if its output is not a vector,
        tokens or a map for each sample.

    TypeError
        If the callable does not return a module.

    Examples
    --------
    >>> from skproto.nn import make_encoder
    >>> make_encoder("conv", (1, 28, 28)).grid
    (7, 7)
    >>> make_encoder("mlp", 4).dim
    32
    """
    shape = (input_shape,) if isinstance(input_shape, int) else tuple(input_shape)
    body = _make_body(spec, shape, body_settings or {})
    settings = {"input_shape": shape, "subtract_class_token": subtract_class_token}
    encoder = SiteEncoder(body, frozen=frozen, **settings)
    encoder.probe(spec)
    if add_on is not None:
        encoder.add_on = add_on(encoder.dim)
        encoder.probe(spec)
    return encoder.train()


def _make_body(spec, shape: tuple[int, ...], settings) -> nn.Module | None:
    if isinstance(spec, nn.Module):
        return given_body(copy.deepcopy(spec), shape)
    if spec in (None, "identity", "tokens"):
        if len(shape) == 3:
            raise ValueError(
                f"Images need an encoder such as 'conv'; the 'encoder' parameter is "
                f"{spec!r} and X has samples of shape {shape}."
            )
        return None
    if spec == "mlp":
        if len(shape) == 1:
            return MLPEncoder(shape[0])
        size = shape[-1] if len(shape) == 2 else int(torch.Size(shape).numel())
        perceptron = MLPEncoder(size)
        return (
            perceptron if len(shape) == 2 else nn.Sequential(nn.Flatten(), perceptron)
        )
    if spec == "features":
        return _feature_tokens(shape)
    if spec in ("conv", "vit"):
        if len(shape) != 3:
            raise ValueError(
                f"The encoder {spec!r} needs images of shape (n, C, H, W) or "
                f"(n, H, W), or the 'image_shape' parameter. Got samples of shape "
                f"{shape}."
            )
        kind = ConvEncoder if spec == "conv" else ViTEncoder
        return kind(shape, **settings)
    return given_body(spec, shape)


def _feature_tokens(shape: tuple[int, ...]) -> nn.Module:
    if len(shape) != 1:
        raise ValueError(
            "The encoder 'features' needs a table of shape (n_samples, n_features). "
            f"Got samples of shape {shape}."
        )
    from skproto.nn.feature_tokens import FeatureTokens

    return FeatureTokens(shape[0])
