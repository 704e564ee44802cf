"""Adapters that bring backbones of other packages to maps or tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from skproto.nn._tokens import class_token_first, grid_of_tokens, pair_of, prefix_tokens

#: Mean and standard deviation of pixels between 0 and 1, by channel.
Normalization = tuple[tuple[float, ...], tuple[float, ...]]

#: What most networks pretrained on ImageNet expect.
IMAGENET: Normalization = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Backbone(nn.Module, ABC):
    """Base of the adapters: resizing, channels, and what the output is.

    Parameters
    ----------
    model : nn.Module
        The backbone of another package.

    normalization : pair of tuples or None, default=None
        Mean and standard deviation by channel that the model expects of pixels between
        0 and 1; None where any standardisation will do.

    resize : int, pair of int or None, default=None
        Height and width to which images are scaled before the model sees them. Places
        are shares of the image, so sites still lie where they are.

    Attributes
    ----------
    grid : tuple of int or None
        Rows and columns of the sites of the images seen last, None before the first or
        where tokens have no known place.
    """

    def __init__(self, model, normalization=None, resize=None):
        super().__init__()
        self.model = model
        self.normalization: Normalization | None = normalization
        self.resize = _checked_resize(resize)
        self.grid: tuple[int, int] | None = None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return a map (n, D, H', W'), or tokens (n, T, D) with or without class token.

        Parameters
        ----------
        x : Tensor of shape (n, C, H, W)
            Normalised images; one channel is repeated where the model needs three.

        Returns
        -------
        z : Tensor or pair of Tensor
            A map, tokens (n, T, D), or a pair of tokens and class token (n, D).

        Raises
        ------
        ValueError
            If the model does not take images of this size, or returns neither a map
            nor tokens.
        """
        if x.ndim != 4:
            raise ValueError(
                f"{self._name()} needs images of shape (n, channels, height, width). "
                f"Got a batch of shape {tuple(x.shape)}."
            )
        if x.shape[1] == 1 and self._n_channels() == 3:
            x = x.expand(-1, 3, -1, -1)
        if self.resize is not None and tuple(x.shape[2:]) != self.resize:
            x = functional.interpolate(
                x, self.resize, mode="bilinear", align_corners=False, antialias=True
            )
        try:
            z = self._features(x)
        except (ValueError, RuntimeError, AssertionError) as error:
            raise ValueError(
                f"{self._name()} failed on images of {x.shape[2]}x{x.shape[3]} pixels "
                f"and {x.shape[1]} channels; 'resize' scales images to a size that it "
                f"takes. It raised: {error}"
            ) from error
        return self._placed(z, x)

    def _name(self) -> str:
        return type(self.model).__name__

    @abstractmethod
    def _n_channels(self) -> int | None:
        """Return how many channels the model takes, None where it does not say."""

    @abstractmethod
    def _features(self, x: Tensor) -> Any:
        """Return what the model makes of images: a map or all its tokens."""

    def _prefix(self, dim: int) -> int:
        """Return the number of tokens in front of those of patches."""
        return prefix_tokens(self.model, dim)

    def _placed(self, z: Any, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Tell class token and patches apart, and note the grid."""
        if isinstance(z, tuple):
            self._note(self._grid_of(z[0], x))
            return z
        if not isinstance(z, Tensor) or z.ndim not in (2, 3, 4):
            got = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
            raise ValueError(
                f"{self._name()} must return a map (n, D, H, W), tokens (n, T, D) or "
                f"vectors (n, D). Got {got} for images of shape {tuple(x.shape)}."
            )
        if z.ndim != 3:
            self._note((z.shape[2], z.shape[3]) if z.ndim == 4 else (1, 1))
            return z
        prefix, has_class_token = self._leading(z, x)
        tokens = z[:, prefix:]
        self._note(self._grid_of(tokens, x))
        return (tokens, z[:, 0]) if has_class_token else tokens

    def _leading(self, z: Tensor, x: Tensor) -> tuple[int, bool]:
        """Return how many tokens are not patches, and whether one is a class token.

        Where the rest makes no grid, names were misread: all tokens are patches, or the
        first is a class token that has no parameter of its own.
        """
        prefix = self._prefix(z.shape[-1])
        if self._grid_of(z[:, prefix:], x) is None:
            for other in (0, 1):
                if self._grid_of(z[:, other:], x) is not None:
                    return other, other == 1
        return prefix, bool(prefix) and class_token_first(self.model)

    def _grid_of(self, tokens: Tensor, x: Tensor) -> tuple[int, int] | None:
        """Return the grid of tokens, which have to cover the whole image."""
        height, width = x.shape[2:]
        patch = pair_of(self._patch())
        grid = grid_of_tokens(tokens.shape[1], (height, width), patch)
        if patch is None or grid != (height // patch[0], width // patch[1]):
            return grid
        if height % patch[0] or width % patch[1]:
            raise ValueError(
                f"{self._name()} has patches of {patch[0]}x{patch[1]} pixels, which do "
                f"not cover images of {height}x{width} pixels: set 'resize' to "
                "multiples of the patch."
            )
        return grid

    def _patch(self) -> Any:
        """Return the patch of the model's first layer where it is known."""
        return None

    def _note(self, grid) -> None:
        # Only where it changes: torch.export refuses attributes set while it traces.
        if grid != self.grid:
            self.grid = grid


class TimmBackbone(Backbone):
    """A model with the interface of timm as an encoder.

    A model with `forward_features` is called through it, one made with
    ``features_only=True``, which returns a list of maps, gives the last map.
    `num_prefix_tokens` says how many tokens stand in front of those of patches,
    `pretrained_cfg` what pixels the model expects. A dictionary with
    "x_norm_patchtokens" and "x_norm_clstoken", as DINOv2's own code returns, is read
    as tokens and class token.

    Parameters
    ----------
    model : nn.Module
        The model.

    resize : int, pair of int or None, default=None
        Height and width to which images are scaled first.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import TimmBackbone
    >>> class Net(torch.nn.Conv2d):
    ...     def forward_features(self, x):
    ...         return self(x)
    >>> body = TimmBackbone(Net(3, 8, 4, stride=4), resize=32)
    >>> body(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 8, 8, 8])
    """

    def __init__(self, model, resize=None):
        super().__init__(model, _timm_normalization(model), resize)

    def _n_channels(self) -> int | None:
        channels = getattr(self.model, "in_chans", None)
        if channels is not None:
            return channels
        first = next(
            (part for part in self.model.modules() if isinstance(part, nn.Conv2d)), None
        )
        return None if first is None else first.in_channels

    def _patch(self) -> Any:
        return getattr(getattr(self.model, "patch_embed", None), "patch_size", None)

    def _prefix(self, dim: int) -> int:
        number = getattr(self.model, "num_prefix_tokens", None)
        return super()._prefix(dim) if number is None else number

    def _features(self, x: Tensor) -> Any:
        forward = getattr(self.model, "forward_features", self.model)
        z = forward(x)
        if isinstance(z, dict) and "x_norm_patchtokens" in z:
            return z["x_norm_patchtokens"], z["x_norm_clstoken"]
        if isinstance(z, list | tuple) and z:
            z = z[-1]
        if (
            isinstance(z, Tensor)
            and z.ndim == 4
            and _channels_at_the_end(self.model, z)
        ):
            return z.permute(0, 3, 1, 2)
        return z


def _channels_at_the_end(model: nn.Module, z: Tensor) -> bool:
    """Whether a map is (n, H, W, D), as some transformers of timm return it."""
    layout = getattr(model, "output_fmt", None)
    if layout is not None:
        return str(getattr(layout, "value", layout)).upper() == "NHWC"
    dim = getattr(model, "num_features", None)
    return z.shape[3] == dim and z.shape[1] != dim


def _timm_normalization(model: nn.Module) -> Normalization | None:
    settings = getattr(model, "pretrained_cfg", None) or {}
    if not isinstance(settings, dict) or "mean" not in settings:
        return None
    return triple_of(settings["mean"]), triple_of(settings["std"])


def triple_of(values) -> tuple[float, ...]:
    """Return one number, or one for each channel, as a tuple for channels."""
    if isinstance(values, int | float):
        values = (values,) * 3
    return tuple(float(value) for value in values)


def _checked_resize(resize) -> tuple[int, int] | None:
    if resize is None:
        return None
    pair = (resize, resize) if isinstance(resize, int) else tuple(resize)
    if len(pair) != 2 or any(not isinstance(n, int) or n < 1 for n in pair):
        raise ValueError(
            "The 'resize' parameter must be None, a positive integer or two of them. "
            f"Got {resize!r}."
        )
    return pair[0], pair[1]
