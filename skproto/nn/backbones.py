"""Small encoders of images: a convolutional net and a transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from skproto.nn._embedding import channels_hint

# Sides of the map at which halving stops, and of the smallest image.
LARGEST_SIDE = 7
SMALLEST_IMAGE = 4

# Rows and columns of patches that "auto" aims at, and the most it accepts.
AUTO_PATCHES = 4
MOST_AUTO_PATCHES = 8

# Standard deviation of the positions at the start: as large as an embedded patch. With
# the 0.02 of large models a small data set takes many epochs to tell places apart.
POSITION_SPREAD = 0.5


class ConvEncoder(nn.Sequential):
    r"""A small convolutional net that returns a map (n, D, H', W').

    Blocks of a 3x3 convolution, max pooling, batch normalisation and ReLU, then a 1x1
    convolution to `dim` channels. Pooling comes before the normalisation, which is a
    quarter of the work and, with the ReLU monotone, the same family of functions.
    Tensors are channels-last, which halves the time of a training step on a CPU.

    Parameters
    ----------
    image_shape : tuple of int
        Channels C, height H and width W of an image.

    channels : sequence of int, default=(32, 64, 64, 64)
        Width of each block. With more poolings than blocks but one, the last width
        is repeated, so that the last block always sees the final map. Most of the time
        goes into the first two blocks; further ones on the small map cost little.

    dim : int, default=32
        Dimension D of a site.

    pool : {"auto"} or int, default="auto"
        Number of poolings, each halving the map. "auto" halves until the shorter side
        is at most 7: 8x8 pixels become 4x4 sites, 28x28 become 7x7, 32x32 become
        4x4, 96x96 become 6x6. Fewer give more and smaller places.

    Attributes
    ----------
    grid : tuple of int
        Rows H' and columns W' of the map.

    Raises
    ------
    ValueError
        If a parameter is not as above, or the image is too small: shorter than 4
        pixels, or for the number of poolings.

    Examples
    --------
    >>> import torch
    >>> encoder = ConvEncoder((1, 28, 28))
    >>> encoder.grid
    (7, 7)
    >>> encoder(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 32, 7, 7])
    """

    def __init__(self, image_shape, channels=(32, 64, 64, 64), dim=32, pool="auto"):
        self.image_shape = _checked_shape(image_shape)
        self.channels = _checked_sizes("channels", channels)
        (self.dim,) = _checked_sizes("dim", (dim,))
        n_halvings = _halvings(pool, self.image_shape)
        height, width = self.image_shape[1:]
        self.grid = (height >> n_halvings, width >> n_halvings)
        n_blocks = max(len(self.channels), n_halvings + 1)
        widths = (*self.channels, *self.channels[-1:] * n_blocks)[:n_blocks]
        layers: list[nn.Module] = []
        n_inputs = self.image_shape[0]
        for number, n_outputs in enumerate(widths):
            layers.extend(_block(n_inputs, n_outputs, halve=number < n_halvings))
            n_inputs = n_outputs
        super().__init__(*layers, nn.Conv2d(n_inputs, self.dim, 1))
        for part in self:
            if isinstance(part, nn.Conv2d):
                channels_last = part.weight.detach().contiguous(
                    memory_format=torch.channels_last
                )
                part.weight = nn.Parameter(channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map (n, D, H', W') of images (n, C, H, W)."""
        # For one channel "contiguous" would find nothing to do, and all layers be slow.
        return super().forward(x.to(memory_format=torch.channels_last))


def _block(n_inputs, n_outputs, *, halve) -> list[nn.Module]:
    convolution = nn.Conv2d(n_inputs, n_outputs, 3, padding=1, bias=False)
    pooling: list[nn.Module] = [nn.MaxPool2d(2)] if halve else []
    return [convolution, *pooling, nn.BatchNorm2d(n_outputs), nn.ReLU()]


def _checked_shape(image_shape) -> tuple[int, int, int]:
    shape = tuple(image_shape)
    if len(shape) != 3 or any(not isinstance(n, int) or n < 1 for n in shape):
        raise ValueError(
            "The 'image_shape' parameter must be three positive integers "
            f"(channels, height, width). Got {image_shape!r}."
        )
    if min(shape[1:]) < SMALLEST_IMAGE:
        raise ValueError(
            f"Images must have at least {SMALLEST_IMAGE} rows and columns for this "
            f"encoder. Got image_shape={shape}.{channels_hint(shape)}"
        )
    return shape


def _checked_sizes(name, values) -> tuple[int, ...]:
    sizes = tuple(values)
    if not sizes or any(not isinstance(n, int) or n < 1 for n in sizes):
        raise ValueError(
            f"The {name!r} parameter must be made of positive integers. Got {values!r}."
        )
    return sizes


def _halvings(pool, image_shape) -> int:
    """Return how often the map is halved."""
    shorter = min(image_shape[1:])
    if pool == "auto":
        number = 0
        while shorter >> number > LARGEST_SIDE:
            number += 1
        return number
    if not isinstance(pool, int) or isinstance(pool, bool) or pool < 0:
        raise ValueError(
            f"The 'pool' parameter must be 'auto' or an integer of at least 0. "
            f"Got {pool!r}."
        )
    if shorter >> pool < 1:
        raise ValueError(
            f"Images of {image_shape[1]}x{image_shape[2]} pixels are too small for "
            f"pool={pool}: they need at least {2**pool} rows and columns."
        )
    return pool


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens (n, T, D).

    Parameters
    ----------
    dim : int
        Dimension D of a token.

    heads : int
        Number of heads, a divisor of `dim`.
    """

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.project_in = nn.Linear(dim, 3 * dim)
        self.project_out = nn.Linear(dim, dim)

    def forward(self, z: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        # (n, T, 3·D) -> three of (n, heads, T, D / heads)
        parts = self.project_in(z).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.project_out(mixed.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """A transformer layer with normalisation in front of its two parts.

    Parameters
    ----------
    dim : int
        Dimension D of a token.

    heads : int
        Number of attention heads.
    """

    def __init__(self, dim, heads):
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(dim), SelfAttention(dim, heads))
        self.perceptron = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, 2 * dim),
            nn.GELU(),
            nn.Linear(2 * dim, dim),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        z = z + self.attention(z)
        return z + self.perceptron(z)


class ViTEncoder(nn.Module):
    """A small vision transformer with a class token.

    Patches are embedded by one linear map, get a learned position and pass `depth`
    transformer layers.

    Parameters
    ----------
    image_shape : tuple of int
        Channels C, height H and width W of an image.

    patch_size : {"auto"}, int or pair of int, default="auto"
        Height and width of a patch, divisors of those of the image. "auto" takes a
        quarter of each side, or the next smaller divisor down to an eighth.

    dim : int, default=48
        Dimension D of a token.

    depth : int, default=2
        Number of transformer layers.

    heads : int, default=4
        Attention heads, a divisor of `dim`.

    Attributes
    ----------
    grid : tuple of int
        Rows H' and columns W' of patches.

    Raises
    ------
    ValueError
        If a parameter is not as above; for "auto", if a side has no divisor that
        gives four to eight patches.

    References
    ----------
    Dosovitskiy et al., An Image is Worth 16x16 Words: Transformers for Image
    Recognition at Scale, ICLR 2021.

    Examples
    --------
    >>> import torch
    >>> encoder = ViTEncoder((1, 28, 28))
    >>> encoder.grid
    (4, 4)
    >>> tokens, class_token = encoder(torch.zeros(2, 1, 28, 28))
    >>> tokens.shape, class_token.shape
    (torch.Size([2, 16, 48]), torch.Size([2, 48]))
    """

    def __init__(self, image_shape, patch_size="auto", dim=48, depth=2, heads=4):
        super().__init__()
        self.image_shape = _checked_shape(image_shape)
        _checked_sizes("dim, depth and heads", (dim, depth, heads))
        if dim % heads:
            raise ValueError(
                f"The 'dim' parameter must be a multiple of 'heads'. Got dim={dim} and "
                f"heads={heads}."
            )
        n_channels, height, width = self.image_shape
        self.patch_size = _patch_size(patch_size, (height, width))
        self.grid = (height // self.patch_size[0], width // self.patch_size[1])
        self.dim = dim
        self.embed = nn.Conv2d(n_channels, dim, self.patch_size, self.patch_size)
        n_tokens = self.grid[0] * self.grid[1]
        self.positions = nn.Parameter(POSITION_SPREAD * torch.randn(n_tokens, dim))
        self.class_token = nn.Parameter(POSITION_SPREAD * torch.randn(dim))
        self.layers = nn.Sequential(
            *[TransformerBlock(dim, heads) for _ in range(depth)], nn.LayerNorm(dim)
        )
        self.layers.apply(_start_linear)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (n, H'·W', D) and class token (n, D) of (n, C, H, W)."""
        patches = self.embed(x).flatten(2).transpose(1, 2) + self.positions
        first = self.class_token.expand(patches.shape[0], 1, -1)
        z = self.layers(torch.cat([first, patches], 1))
        return z[:, 1:], z[:, 0]


def _start_linear(module: nn.Module) -> None:
    """Give linear maps the weights that transformers start from."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def _patch_size(patch_size, sides) -> tuple[int, int]:
    """Return height and width of a patch."""
    if isinstance(patch_size, str) and patch_size == "auto":
        return _auto_patch(sides[0]), _auto_patch(sides[1])
    pair = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
    if (
        not isinstance(pair, tuple | list)
        or len(pair) != 2
        or any(not isinstance(size, int) or size < 1 for size in pair)
    ):
        raise ValueError(
            "The 'patch_size' parameter must be 'auto', a positive integer or two of "
            f"them. Got {patch_size!r}."
        )
    if any(side % size for side, size in zip(sides, pair, strict=True)):
        raise ValueError(
            f"The 'patch_size' parameter must divide the images' height and width. Got "
            f"{patch_size!r} for images of {sides[0]}x{sides[1]} pixels."
        )
    return pair[0], pair[1]


def _auto_patch(side: int) -> int:
    smallest = -(-side // MOST_AUTO_PATCHES)
    for size in range(side // AUTO_PATCHES, smallest - 1, -1):
        if side % size == 0:
            return size
    raise ValueError(
        f"No size of a patch gives {AUTO_PATCHES} to {MOST_AUTO_PATCHES} patches along "
        f"a side of {side} pixels: set 'patch_size' to a divisor, or crop or pad the "
        "images."
    )
