"""The prototype autoencoder: whole-sample prototypes that can be decoded.

Equations: Li, Liu, Chen and Rudin, Deep Learning for Case-Based Reasoning through
Prototypes, AAAI 2018.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from skproto.nn.encoders import SiteEncoder
from skproto.nn.heads import _precise
from skproto.nn.similarity import root, squared_distances

#: Width of the hidden layers of a table's encoder and decoder.
HIDDEN = 64

#: Maps of the convolutions before the last one.
MAPS = 32

#: Least height and width of the last map.
MIN_MAP = 2

#: Dimension of the code of an image, where its last map allows it.
IMAGE_CODE = 40


def map_sizes(input_shape: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width before and after every convolution of stride 2.

    There are as many convolutions as leave at least 2 x 2.

    Parameters
    ----------
    input_shape : sequence of int
        (C, H, W).

    Returns
    -------
    sizes : list of (int, int)
        From the image to the last map.

    Raises
    ------
    ValueError
        If the image is smaller than 3 x 3, which leaves no convolution.

    Examples
    --------
    >>> map_sizes((1, 28, 28))
    [(28, 28), (14, 14), (7, 7), (4, 4), (2, 2)]
    """
    _, height, width = input_shape
    sizes = [(height, width)]
    while min(height, width) > MIN_MAP:
        height, width = -(-height // 2), -(-width // 2)
        sizes.append((height, width))
    if len(sizes) == 1:
        raise ValueError(
            "Images must be at least 3 x 3 for the convolutions of encoder='auto' and "
            f"decoder='auto'. Got images of shape {tuple(input_shape)}."
        )
    return sizes


def automatic_code_dim(input_shape: Sequence[int]) -> int:
    """Dimension of the code that latent_dim="auto" stands for.

    Parameters
    ----------
    input_shape : sequence of int
        (f,) or (C, H, W).

    Returns
    -------
    dim : int
        The lesser of 16 and 2 f for tables; for images the multiple of the cells of
        the last map that is nearest to 40.
    """
    if len(input_shape) == 1:
        return min(16, 2 * input_shape[0])
    cells = math.prod(map_sizes(input_shape)[-1])
    return cells * max(1, round(IMAGE_CODE / cells))


class TableEncoder(nn.Sequential):
    """A perceptron with two hidden layers, from rows (n, f) to codes (n, d).

    Parameters
    ----------
    n_features : int
        Number of columns f.

    dim : int
        Dimension d of the code.
    """

    def __init__(self, n_features, dim):
        super().__init__(
            nn.Linear(n_features, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, dim),
        )


class TableDecoder(TableEncoder):
    """The mirror of :class:`TableEncoder`, from codes (n, d) to rows (n, f).

    Parameters
    ----------
    dim : int
        Dimension d of the code.

    n_features : int
        Number of columns f.
    """

    def __init__(self, dim, n_features):
        super().__init__(dim, n_features)


class ImageEncoder(nn.Sequential):
    """Convolutions of stride 2, from images (n, C, H, W) to codes (n, d).

    Every map halves, rounded up, until it would be smaller than 2 x 2; all have 32
    channels but the last, whose cells are the code. Where d is no multiple of the
    cells, a linear layer follows.

    Parameters
    ----------
    input_shape : sequence of int
        (C, H, W).

    dim : int
        Dimension d of the code.
    """

    def __init__(self, input_shape, dim):
        channels, cells = _channels(input_shape, dim)
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(channels):
            layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.ReLU()]
        layers.append(nn.Flatten())
        if channels[-1] * cells != dim:
            layers.append(nn.Linear(channels[-1] * cells, dim))
        super().__init__(*layers)


class ImageDecoder(nn.Sequential):
    """The mirror of :class:`ImageEncoder`, with transposed convolutions.

    Its images have exactly the height and width asked for, odd ones too.

    Parameters
    ----------
    dim : int
        Dimension d of the code.

    input_shape : sequence of int
        (C, H, W) of the images.
    """

    def __init__(self, dim, input_shape):
        channels, cells = _channels(input_shape, dim)
        sizes = map_sizes(input_shape)
        layers: list[nn.Module] = []
        if channels[-1] * cells != dim:
            layers += [nn.Linear(dim, channels[-1] * cells), nn.ReLU()]
        layers.append(nn.Unflatten(1, (channels[-1], *sizes[-1])))
        for i in reversed(range(len(sizes) - 1)):
            # A map of h cells becomes 2 h - 1 cells, or 2 h with one row of padding.
            extra = [1 - size % 2 for size in sizes[i]]
            layers.append(
                nn.ConvTranspose2d(
                    channels[i + 1],
                    channels[i],
                    3,
                    stride=2,
                    padding=1,
                    output_padding=(extra[0], extra[1]),
                )
            )
            layers.append(nn.ReLU())
        super().__init__(*layers[:-1])


def _channels(input_shape, dim: int) -> tuple[list[int], int]:
    """Channels of the image and of every map, and cells of the last map."""
    sizes = map_sizes(input_shape)
    cells = math.prod(sizes[-1])
    last = dim // cells if dim % cells == 0 else MAPS
    return [input_shape[0], *[MAPS] * (len(sizes) - 2), last], cells


def make_body(input_shape: Sequence[int], dim: int) -> nn.Module:
    """Return the encoder of tables (f,) or images (C, H, W) to codes of d numbers."""
    if len(input_shape) == 1:
        return TableEncoder(input_shape[0], dim)
    return ImageEncoder(input_shape, dim)


def make_decoder(dim: int, input_shape: Sequence[int]) -> nn.Module:
    """Return the decoder from codes of d numbers to the shape of a sample."""
    if len(input_shape) == 3:
        return ImageDecoder(dim, input_shape)
    if len(input_shape) == 1:
        return TableDecoder(dim, input_shape[0])
    decoder = TableDecoder(dim, math.prod(input_shape))
    return nn.Sequential(*decoder, nn.Unflatten(1, tuple(input_shape)))


class DistanceHead(nn.Module):
    r"""Class scores :math:`s_k = \sum_j D_j W_{jk}`: no bias, no link.

    A prototype speaks for the classes whose weight is negative: the nearer it is, the
    less is taken away.

    Parameters
    ----------
    n_prototypes : int
        Number of prototypes P.

    n_classes : int
        Number of classes K.
    """

    def __init__(self, n_prototypes, n_classes):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_prototypes, n_classes))

    def tables(self) -> tuple[Tensor, Tensor]:
        """Weights (P, K) and the bias (K,), which is 0."""
        return self.weight, self.weight.new_zeros(self.weight.shape[1])

    def forward(self, squared: Tensor) -> Tensor:
        """Return scores (n, K) of squared distances (n, P)."""
        return _precise(squared, self) @ _precise(self.weight, self)


class PrototypeAutoencoderNetwork(nn.Module):
    r"""An autoencoder whose codes are classified by their distances to prototypes.

    With the code :math:`z = f(x)` and the squared distances
    :math:`D_j = \|z - p_j\|^2` the scores are :math:`D W`; the decoder turns codes,
    and so prototypes, back into samples.

    In training mode the outputs also hold "reconstruction" and the "inputs" that it
    is compared with. Outside of it no sample is decoded unless :meth:`reconstruct` or
    :meth:`decode` is called, and distances are taken from the differences themselves:
    a code that is a prototype has distance 0.

    Parameters
    ----------
    n_prototypes : int
        Number of prototypes P.

    n_classes : int
        Number of classes K; 1 for an autoencoder without labels.

    input_shape : sequence of int
        Shape of a sample in the space of the model: (f,), (C, H, W) or (T, D).

    code_dim : int
        Dimension d of the code.

    output : {"linear", "sigmoid"}, default="linear"
        "sigmoid" confines what the decoder returns to the bounds given by
        :meth:`set_bounds`, from 0 to 1 before.

    encoder : nn.Module, default=None
        Maps samples to sites (n, T, D) with T D = d; their values are the code. None:
        the body that :func:`make_body` returns.

    decoder : nn.Module, default=None
        Maps codes (n, d) to samples. None: what :func:`make_decoder` returns.

    References
    ----------
    Li et al., Deep Learning for Case-Based Reasoning through Prototypes: A Neural
    Network that Explains Its Predictions, AAAI 2018.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.autoencoder import PrototypeAutoencoderNetwork
    >>> network = PrototypeAutoencoderNetwork(15, 10, (1, 28, 28), 40).eval()
    >>> outputs = network(torch.zeros(2, 1, 28, 28))
    >>> outputs["scores"].shape, network.decode(network.prototypes).shape
    (torch.Size([2, 10]), torch.Size([15, 1, 28, 28]))
    """

    def __init__(
        self,
        n_prototypes,
        n_classes,
        input_shape,
        code_dim,
        output="linear",
        encoder=None,
        decoder=None,
    ):
        super().__init__()
        self.config: dict[str, Any] = {
            "n_prototypes": n_prototypes,
            "n_classes": n_classes,
            "input_shape": [int(size) for size in input_shape],
            "code_dim": code_dim,
            "output": output,
        }
        if encoder is None:
            encoder = SiteEncoder(make_body(input_shape, code_dim))
        self.encoder = encoder
        self.decoder = (
            make_decoder(code_dim, input_shape) if decoder is None else decoder
        )
        self.prototypes = nn.Parameter(torch.zeros(n_prototypes, code_dim))
        self.head = DistanceHead(n_prototypes, n_classes)
        self.low: Tensor
        self.high: Tensor
        per_channel = (input_shape[0], 1, 1) if len(input_shape) == 3 else input_shape
        self.register_buffer("low", torch.zeros(*per_channel))
        self.register_buffer("high", torch.ones(*per_channel))
        # Classes for which prototypes were started, (P, K).
        self.ownership: Tensor
        owned = torch.zeros(n_prototypes, n_classes, dtype=torch.bool)
        self.register_buffer("ownership", owned)
        # Squared distance at which a similarity is 1/e.
        self.bandwidth: Tensor
        self.register_buffer("bandwidth", torch.ones(()))
        # What losses are divided by: the squared error of the mean sample and the
        # size of a squared distance between codes.
        self.reconstruction_scale: Tensor
        self.distance_scale: Tensor
        self.register_buffer("reconstruction_scale", torch.ones(()))
        self.register_buffer("distance_scale", torch.ones(()))

    #: Modules that a network of other sizes takes over.
    shared_parts = ("encoder", "decoder")
    #: Its losses compare with samples, not with their sites.
    needs_samples = True

    # -- filling from data -------------------------------------------------------------

    @torch.no_grad()
    def set_prototypes(self, points, owners=None) -> None:
        """Put the prototypes at points (P, d), those of class codes (P,) if given."""
        self.prototypes.copy_(torch.as_tensor(points))
        if owners is not None:
            codes = torch.as_tensor(owners, device=self.ownership.device).long()
            self.ownership.zero_().scatter_(1, codes[:, None], True)

    @torch.no_grad()
    def set_signed_head(self, own: float = -1.0, other: float = 0.5) -> None:
        """Let every prototype speak for the class that owns it and against others."""
        self.head.weight.copy_(torch.where(self.ownership, own, other))

    @torch.no_grad()
    def set_bounds(self, low, high) -> None:
        """Confine decoded values by channel (C,), or feature, for output="sigmoid"."""
        shape = self.low.shape
        self.low.copy_(torch.as_tensor(low).reshape(shape))
        self.high.copy_(torch.as_tensor(high).reshape(shape))

    # -- computing ---------------------------------------------------------------------

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes (n, d) of samples."""
        return self.encoder(x).flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        """Return the samples (n, *input_shape) that codes (n, d) stand for."""
        decoded = self.decoder(z)
        if self.config["output"] == "sigmoid":
            decoded = self.low + (self.high - self.low) * decoded.sigmoid()
        return decoded

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return what is left of samples after encoding and decoding."""
        return self.decode(self.encode(x))

    def code_distances(self, z: Tensor) -> Tensor:
        """Squared distances (n, P) of codes to the prototypes."""
        if self.training:
            return squared_distances(z, self.prototypes)
        exact = "donot_use_mm_for_euclid_dist"
        return torch.cdist(z, self.prototypes, compute_mode=exact).square()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return scores, activations and distances of samples."""
        z = self.encode(x)
        squared = self.code_distances(z)
        outputs = {
            "scores": self.head(squared),
            "activations": (-squared / self.bandwidth).exp(),
            "squared_distances": squared,
            "distances": root(squared),
        }
        if self.training:
            outputs |= {"inputs": x, "reconstruction": self.decode(z)}
        return outputs

    def similarity_maps(self, x: Tensor) -> Tensor:
        """Similarity (n, P, T) of every prototype at every site of the encoder.

        The squared distance is the sum over the sites; a map says what the similarity
        would be if it were everywhere as it is at the site.
        """
        z = self.encoder(x)
        p = self.prototypes.unflatten(1, (z.shape[1], z.shape[2]))
        # Site by site, (T, n, D) against (T, P, D).
        squared = torch.cdist(z.transpose(0, 1), p.transpose(0, 1)).square()
        return (-z.shape[1] * squared / self.bandwidth).exp().permute(1, 2, 0)

    def keep(self, kept: Tensor) -> PrototypeAutoencoderNetwork:
        """Return the same network with the prototypes of a mask (P,) only."""
        config = {**self.config, "n_prototypes": int(kept.sum())}
        network = PrototypeAutoencoderNetwork(
            **config, encoder=self.encoder, decoder=self.decoder
        )
        state = dict(self.state_dict())
        for name in ("prototypes", "head.weight", "ownership"):
            state[name] = state[name][kept.to(state[name].device)]
        network.to(self.prototypes)
        network.load_state_dict(state)
        return network.train(self.training)
