"""Backbones of other packages, brought to maps or tokens: transformers and timm."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from skproto.nn._adapters import (
    IMAGENET,
    Backbone,
    Normalization,
    TimmBackbone,
    triple_of,
)
from skproto.utils._optional import import_optional

__all__ = [
    "IMAGENET",
    "TimmBackbone",
    "TransformersBackbone",
    "adapt_backbone",
    "from_transformers",
]


class TransformersBackbone(Backbone):
    """A vision model of transformers as an encoder.

    Parameters
    ----------
    model : nn.Module
        The model. A head for a task, and the part of a model that reads text, are left
        out.

    layer : int, default=-1
        Which of the model's hidden states: -1 is the last; in nets whose maps shrink,
        earlier ones have more and smaller places.

    normalization : pair of tuples or None, default=None
        Mean and standard deviation by channel that the model expects of pixels between
        0 and 1.

    resize : int, pair of int or None, default=None
        Height and width to which images are scaled first.

    Examples
    --------
    >>> import torch
    >>> from transformers import ViTConfig, ViTModel
    >>> from skproto.nn import TransformersBackbone
    >>> config = ViTConfig(
    ...     image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=1,
    ...     num_attention_heads=2, intermediate_size=32,
    ... )
    >>> body = TransformersBackbone(ViTModel(config, add_pooling_layer=False))
    >>> tokens, class_token = body(torch.zeros(2, 3, 32, 32))
    >>> tokens.shape, class_token.shape
    (torch.Size([2, 16, 16]), torch.Size([2, 16]))
    """

    def __init__(self, model, layer=-1, normalization=None, resize=None):
        model = _without_head(model)
        parameters = inspect.signature(model.forward).parameters
        super().__init__(model, normalization, resize)
        if "pixel_values" not in parameters:
            raise ValueError(
                f"The encoder must be a vision model, which takes 'pixel_values'. Got "
                f"{self._name()}."
            )
        self.layer = layer
        self._interpolates = "interpolate_pos_encoding" in parameters

    def _n_channels(self) -> int | None:
        return getattr(self.model.config, "num_channels", None)

    def _patch(self) -> Any:
        return getattr(self.model.config, "patch_size", None)

    def _features(self, x: Tensor) -> Any:
        arguments = {"interpolate_pos_encoding": True} if self._interpolates else {}
        if self.layer != -1:
            arguments["output_hidden_states"] = True
        output = self.model(pixel_values=x, **arguments)
        if getattr(output, "ids_restore", None) is not None:
            raise ValueError(
                "it hides patches at random, as masked autoencoders do in training; "
                "load its weights with the class of the plain model, such as ViTModel"
            )
        maps = getattr(output, "feature_maps", None)
        if self.layer == -1:
            return output.last_hidden_state if maps is None else maps[-1]
        states = output.hidden_states if maps is None else maps
        if not -len(states) <= self.layer < len(states):
            raise ValueError(
                f"layer={self.layer} is not among its {len(states)} hidden states"
            )
        return states[self.layer]


def _without_head(model: Any) -> Any:
    """Return the part of a model that makes features of images."""
    parameters = inspect.signature(model.forward).parameters
    if "labels" in parameters:
        model = getattr(model, "base_model", model)
        parameters = inspect.signature(model.forward).parameters
    if {"input_ids", "labels"} & set(parameters) and hasattr(model, "vision_model"):
        return model.vision_model
    return model


def adapt_backbone(module: nn.Module) -> nn.Module:
    """Wrap a module of transformers or timm; pass on any other.

    Parameters
    ----------
    module : nn.Module
        Any encoder that a user gives.

    Returns
    -------
    body : nn.Module
        A :class:`TransformersBackbone` for a vision model of transformers, a
        :class:`TimmBackbone` for a module with `forward_features` or the
        `feature_info` of ``features_only=True``, otherwise the module itself.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import adapt_backbone
    >>> body = torch.nn.Conv2d(3, 8, 4)
    >>> adapt_backbone(body) is body
    True
    """
    if isinstance(module, Backbone):
        return module
    if hasattr(module, "forward_features") or hasattr(module, "feature_info"):
        return TimmBackbone(module)
    if hasattr(module, "config") and hasattr(module, "main_input_name"):
        return TransformersBackbone(module)
    return module


def from_transformers(
    name_or_config,
    *,
    pretrained=True,
    layer=-1,
    resize=None,
    revision=None,
    cache_dir=None,
    local_files_only=False,
) -> TransformersBackbone:
    """Make an encoder of images from a vision model of transformers.

    Any model that takes `pixel_values` and returns a map or tokens works: ResNet,
    ConvNeXt, ViT, DeiT, DINOv2, DINOv3, Swin, BEiT, SigLIP, CLIP's image part and
    others. Class token, distillation token and registers are told from the tokens of
    patches; positions are interpolated to other image sizes where the model can.

    Parameters
    ----------
    name_or_config : str, path or transformers.PretrainedConfig
        Name of a model on the hub or a local folder, whose weights are loaded; or a
        configuration, for random weights.

    pretrained : bool, default=True
        Whether the weights of a named model are loaded, or random ones of its
        configuration made, from torch's global generator.

    layer : int, default=-1
        Which hidden state; see :class:`TransformersBackbone`.

    resize : int, pair of int or None, default=None
        Height and width to which images are scaled first. Small images need it: a net
        made for 224 pixels that halves five times leaves one place of 32.

    revision : str or None, default=None
        Branch, tag or commit on the hub.

    cache_dir : str, path or None, default=None
        Where downloads are kept.

    local_files_only : bool, default=False
        Whether nothing may be downloaded.

    Returns
    -------
    encoder : TransformersBackbone
        To be given as the `encoder` parameter. `encoder.normalization` is mean and
        standard deviation for pixels between 0 and 1, those of the model's image
        processor or else of ImageNet; None with random weights.

    Raises
    ------
    ImportError
        If transformers is not installed.

    OSError
        If the model cannot be found or downloaded.

    ValueError
        If it is not a vision model.

    Examples
    --------
    ``from_transformers("facebook/dinov2-small", resize=224)`` loads pretrained weights;
    a configuration gives a small model of one's own.

    >>> import torch
    >>> from transformers import ViTConfig
    >>> config = ViTConfig(
    ...     image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=1,
    ...     num_attention_heads=2, intermediate_size=32,
    ... )
    >>> encoder = from_transformers(config)
    >>> tokens, class_token = encoder(torch.zeros(2, 3, 32, 32))
    >>> tokens.shape, encoder.grid
    (torch.Size([2, 16, 16]), (4, 4))
    """
    transformers = import_optional(
        "transformers", "from_transformers", extra="transformers"
    )
    if not isinstance(name_or_config, transformers.PretrainedConfig):
        location = {
            "revision": revision or "main",
            "cache_dir": cache_dir,
            "local_files_only": local_files_only,
        }
        model, normalization = _load(str(name_or_config), pretrained, location)
        return TransformersBackbone(model, layer, normalization, resize)
    config = getattr(name_or_config, "vision_config", name_or_config)
    try:
        model = transformers.AutoModel.from_config(config)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"transformers makes no model of {type(config).__name__}: "
            # What follows is a list of all that it knows.
            f"{str(error).partition(' Model type should be')[0]}"
        ) from error
    return TransformersBackbone(model, layer, None, resize)


def _load(name: str, pretrained: bool, location: dict):
    """Return a named model and the pixels that it expects."""
    transformers = import_optional(
        "transformers", "from_transformers", extra="transformers"
    )
    try:
        if pretrained:
            model = transformers.AutoModel.from_pretrained(name, **location)
            # Weights may be stored, and then loaded, in half precision.
            return model.float(), _processor_normalization(name, location)
        config = transformers.AutoConfig.from_pretrained(name, **location)
    except OSError as error:
        raise OSError(
            f"The model {name!r} could not be loaded: check the name and the "
            "connection, or download it elsewhere and give the folder that holds its "
            f"config.json and weights. transformers said: {error}"
        ) from error
    config = getattr(config, "vision_config", config)
    return transformers.AutoModel.from_config(config).float(), None


def _processor_normalization(name: str, location: dict) -> Normalization:
    """Return mean and standard deviation of the image processor of a model."""
    base = import_optional(
        "transformers.image_processing_base", "from_transformers", extra="transformers"
    )
    try:
        settings, _ = base.ImageProcessingMixin.get_image_processor_dict(
            name, **location
        )
    except OSError:
        return IMAGENET
    if not settings.get("do_normalize", True):
        return ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    mean = settings.get("image_mean", IMAGENET[0])
    std = settings.get("image_std", IMAGENET[1])
    return triple_of(mean), triple_of(std)
