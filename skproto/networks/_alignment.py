"""Shallow-deep feature alignment (SDFA) as a switch of part-prototype networks."""

from __future__ import annotations

from typing import Any

import torch
from skorch.callbacks import Callback
from torch import nn

from skproto.nn.backbones import ConvEncoder, ViTEncoder
from skproto.nn.encoders import SiteEncoder
from skproto.nn.part_losses import fold_shallow


class AddAlignment(Callback):
    """Add the alignment to the loss, from a phase on.

    Parameters
    ----------
    term : LossTerm
        Added once, however many phases ask for it.

    shallow_layer : str
        As given to the estimator.
    """

    def __init__(self, term, shallow_layer):
        self.term = term
        self.shallow_layer = shallow_layer

    def on_train_begin(self, net, **kwargs):
        """Tap the layer and add the term."""
        module = net.module_
        module.shallow_layer = shallow_name(module.encoder, self.shallow_layer)
        terms = net.criterion_.terms
        if all(term.name != self.term.name for term in terms):
            terms.append(self.term)


def shallow_name(encoder: SiteEncoder, shallow_layer: str) -> str:
    """Return the name of the shallow layer inside of an encoder.

    Parameters
    ----------
    encoder : SiteEncoder
        The whole encoder; the user names layers of its body.

    shallow_layer : str
        "auto" is the first block of the encoders "conv" and "vit".

    Raises
    ------
    ValueError
        If there is no such layer.
    """
    names = [name for name, _ in encoder.body.named_modules() if name]
    found: str | None = shallow_layer
    if shallow_layer == "auto":
        found = None
        if isinstance(encoder.body, ViTEncoder):
            found = "layers.0"
        elif isinstance(encoder.body, ConvEncoder):
            layers = encoder.body.named_children()
            found = next(name for name, layer in layers if isinstance(layer, nn.ReLU))
    if found not in names:
        raise ValueError(
            "The 'shallow_layer' parameter must name a module of the encoder; 'auto' "
            f"knows 'conv' and 'vit' alone. Got {shallow_layer!r}; there are {names}."
        )
    return f"body.{found}"


def check_alignment(model, encoder: SiteEncoder) -> None:
    """Raise before training where shallow and deep map cannot be aligned.

    Parameters
    ----------
    model : estimator
        With `alignment_weight` and `shallow_layer`.

    encoder : SiteEncoder
        Its encoder.

    Raises
    ------
    ValueError
        If samples are no images, the encoder stands still or is compiled, or the
        layer does not exist or does not return a map that covers the deep one.
    """
    owner = type(model).__name__
    if encoder.grid is None or encoder.n_sites < 2:
        raise ValueError(
            f"alignment_weight > 0 of {owner} needs images and an encoder that returns "
            f"a map. Got samples of shape {encoder.input_shape} and the encoder "
            f"{model.encoder!r}."
        )
    if model.frozen or (model.net_params or {}).get("compile"):
        raise ValueError(
            f"alignment_weight > 0 of {owner} needs an encoder that learns and is not "
            "compiled. Set alignment_weight=0 with frozen=True or compile."
        )
    _check_fold(encoder, model.shallow_layer)


def _check_fold(encoder: SiteEncoder, shallow_layer: str) -> None:
    """Raise if the output of the layer does not cover the deep map."""
    seen: list[Any] = []
    layer = encoder.get_submodule(shallow_name(encoder, shallow_layer))
    handle = layer.register_forward_hook(lambda *args: seen.append(args[2]))
    training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            encoder(torch.zeros((2, *(encoder.input_shape or ()))))
        fold_shallow(seen[0], encoder.n_sites, encoder.grid)
    except (ValueError, AttributeError, IndexError) as error:
        raise ValueError(
            "The 'shallow_layer' parameter must name a layer that returns a map of "
            f"images. Got {shallow_layer!r}: {error}"
        ) from error
    finally:
        handle.remove()
        encoder.train(training)
