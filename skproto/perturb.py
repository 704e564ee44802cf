r"""Change one visual attribute of images: hue, saturation, light, shape or texture.

Functions of tensors (n, C, H, W) with values from 0 to 1, in float32 or float64, on any
device; they know nothing of models. Images of one channel have no hue and no
saturation; the others treat any number of channels alike. Nothing is in place.

References
----------
Nauta, M., Jutte, A., Provoost, J. and Seifert, C. (2021). This Looks Like That,
Because ... Explaining Prototypes for Interpretable Image Recognition. *ECML PKDD
Workshops*, section 3 (which attributes, and how they are changed).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "brightness",
    "contrast",
    "hue_shift",
    "nl_means",
    "saturate",
    "sine_displacements",
    "sine_shear",
]

# Share of the channels in the grey value (ITU-R BT.601).
GREY = (0.299, 0.587, 0.114)
# Displacements are truncated; a sine of 1/2 must not fall below it by rounding.
ROUNDING = 1e-9


def _checked(images: Tensor) -> Tensor:
    if not isinstance(images, Tensor) or images.ndim != 4:
        shape = tuple(getattr(images, "shape", ()))
        raise ValueError(
            "images must be a tensor of shape (n, channels, height, width). Got "
            f"{type(images).__name__} of shape {shape}."
        )
    if not images.is_floating_point():
        raise ValueError(
            f"images must hold floats from 0 to 1. Got dtype {images.dtype}."
        )
    return images


def _checked_rgb(images: Tensor, what: str) -> Tensor:
    if _checked(images).shape[1] != 3:
        raise ValueError(
            f"{what} needs images of 3 channels: red, green, blue. Got "
            f"{images.shape[1]} channels."
        )
    return images


def _checked_factor(name: str, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number of at least 0. Got {value}.")
    return float(value)


def _grey(images: Tensor) -> Tensor:
    """Grey values (n, 1, H, W); the mean of channels that are not red, green, blue."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    share = images.new_tensor(GREY).view(1, 3, 1, 1)
    return (share * images).sum(1, keepdim=True)


def _blend(images: Tensor, other: Tensor, factor: float) -> Tensor:
    if factor == 1:
        return images.clone()
    return (factor * images + (1 - factor) * other).clamp(0, 1)


def brightness(images: Tensor, factor: float) -> Tensor:
    r"""Make images darker or brighter: :math:`x' = k x`, kept within 0 and 1.

    Parameters
    ----------
    images : Tensor of shape (n, C, H, W)
        Values from 0 to 1.

    factor : float
        Factor k; 1 changes nothing, 0 is black.

    Returns
    -------
    changed : Tensor of shape (n, C, H, W)
        New images.

    Examples
    --------
    >>> import torch
    >>> from skproto.perturb import brightness
    >>> float(brightness(torch.full((1, 3, 2, 2), 0.5), 0.8)[0, 0, 0, 0])
    0.4000000059604645
    """
    images, factor = _checked(images), _checked_factor("factor", factor)
    return _blend(images, torch.zeros_like(images), factor)


def contrast(images: Tensor, factor: float) -> Tensor:
    r"""Move all pixels towards the mean grey of their image.

    .. math:: x' = k x + (1 - k) \, \overline{g(x)}

    with the grey value :math:`g = .299 R + .587 G + .114 B` (the mean of the channels
    where there are not three), averaged over the image; kept within 0 and 1.

    Parameters
    ----------
    images : Tensor of shape (n, C, H, W)
        Values from 0 to 1.

    factor : float
        Factor k; 1 changes nothing, 0 leaves one grey.

    Returns
    -------
    changed : Tensor of shape (n, C, H, W)
        New images.

    Examples
    --------
    >>> import torch
    >>> from skproto.perturb import contrast
    >>> contrast(torch.tensor([[[[0.0, 1.0]]]]), 0.5).tolist()
    [[[[0.25, 0.75]]]]
    """
    images, factor = _checked(images), _checked_factor("factor", factor)
    return _blend(images, _grey(images).mean((2, 3), keepdim=True), factor)


def saturate(images: Tensor, factor: float) -> Tensor:
    r"""Move every pixel towards its own grey: :math:`x' = k x + (1 - k) g(x)`.

    Parameters
    ----------
    images : Tensor of shape (n, 3, H, W)
        Values from 0 to 1.

    factor : float
        Factor k; 1 changes nothing, 0 leaves the grey value in all channels.

    Returns
    -------
    changed : Tensor of shape (n, 3, H, W)
        New images, kept within 0 and 1.

    Raises
    ------
    ValueError
        If there are not three channels.

    Examples
    --------
    >>> import torch
    >>> from skproto.perturb import saturate
    >>> red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    >>> [round(value, 3) for value in saturate(red, 0.0).flatten().tolist()]
    [0.299, 0.299, 0.299]
    """
    images = _checked_rgb(images, "saturate")
    factor = _checked_factor("factor", factor)
    return _blend(images, _grey(images), factor)


def hue_shift(images: Tensor, shift: float) -> Tensor:
    r"""Turn the hue of every pixel by a share of the colour circle.

    With the largest channel V, the chroma :math:`C = V - \min(R, G, B)` and the hue h
    in sixths of the circle, a channel becomes

    .. math:: x'_c = V - C \max(0, \min(k, 4 - k, 1)), \quad k = (n_c + h + 6 s) \bmod 6

    with :math:`n = 5, 3, 1` for red, green and blue. The largest channel of a pixel
    keeps its value to the last bit. Grey pixels have no hue and stay as they are.

    Parameters
    ----------
    images : Tensor of shape (n, 3, H, W)
        Values from 0 to 1.

    shift : float
        Shift s, where 1 is the whole circle: 1/3 turns red into green.

    Returns
    -------
    changed : Tensor of shape (n, 3, H, W)
        New images.

    Raises
    ------
    ValueError
        If there are not three channels.

    Examples
    --------
    >>> import torch
    >>> from skproto.perturb import hue_shift
    >>> red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    >>> hue_shift(red, 1 / 3).flatten().tolist()
    [0.0, 1.0, 0.0]
    """
    images = _checked_rgb(images, "hue_shift")
    if not math.isfinite(shift):
        raise ValueError(f"shift must be a finite number. Got {shift}.")
    turn = (6.0 * float(shift)) % 6.0
    if turn == 0:
        return images.clone()
    # In float64, which mps lacks: shifts that add up to a circle lead back to 1e-7.
    x = images if images.device.type == "mps" else images.double()
    value = x.amax(1, keepdim=True)
    chroma = value - x.amin(1, keepdim=True)
    n = x.new_tensor([5.0, 3.0, 1.0]).view(1, 3, 1, 1)
    k = (n + _hue(x, value, chroma) + turn) % 6.0
    return (value - chroma * torch.minimum(k, 4.0 - k).clamp(0, 1)).to(images)


def _hue(images: Tensor, value: Tensor, chroma: Tensor) -> Tensor:
    """Hue (n, 1, H, W) in sixths of the circle, from -1 to 5; 0 for grey."""
    red, green, blue = images.split(1, 1)
    span = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    hue = 4.0 + (red - green) / span
    hue = torch.where(green == value, 2.0 + (blue - red) / span, hue)
    return torch.where(red == value, (green - blue) / span, hue)


def sine_displacements(length: int, amplitude: float, period: float) -> Tensor:
    r"""Whole pixels by which lines move: :math:`\mathrm{int}(A \sin(2 \pi i / T))`.

    Parameters
    ----------
    length : int
        Number of lines.

    amplitude : float
        A in pixels. Below 1 nothing moves; displacements are cut towards 0.

    period : float
        T in lines.

    Returns
    -------
    shifts : Tensor of shape (length,), int64
        One displacement for each line.

    Examples
    --------
    >>> from skproto.perturb import sine_displacements
    >>> sine_displacements(12, 4, 40).tolist()
    [0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 4, 3]
    """
    if not (math.isfinite(period) and period > 0):
        raise ValueError(f"period must be a finite number above 0. Got {period}.")
    line = torch.arange(length, dtype=torch.float64)
    wave = (
        _checked_factor("amplitude", amplitude) * (2 * torch.pi * line / period).sin()
    )
    return (wave + ROUNDING * wave.sign()).trunc().long()


def sine_shear(images: Tensor, amplitude, period) -> Tensor:
    r"""Bend images: roll every row, then every column, by a sine of its place.

    Row i moves to the right by :math:`\mathrm{int}(A \sin(2 \pi i / T))` pixels, then
    column j down by the same of j. What leaves on one side comes in on the other, so
    that each row keeps its pixels in the first step, each column in the second, and
    the image its sum.

    Parameters
    ----------
    images : Tensor of shape (n, C, H, W)
        Images.

    amplitude : float or tuple of two float
        A in pixels; of rows (sideways) and of columns (up and down) if two. 0 changes
        nothing.

    period : float or tuple of two float
        T in pixels; down the rows, and along the columns if two.

    Returns
    -------
    changed : Tensor of shape (n, C, H, W)
        New images.

    Examples
    --------
    >>> import torch
    >>> from skproto.perturb import sine_shear
    >>> image = torch.arange(16.0).view(1, 1, 4, 4)
    >>> sine_shear(image, (1.0, 0.0), 4.0)[0, 0].int().tolist()
    [[0, 1, 2, 3], [7, 4, 5, 6], [8, 9, 10, 11], [13, 14, 15, 12]]
    """
    height, width = _checked(images).shape[2:]
    across, down = _pair(amplitude), _pair(period)
    device = images.device
    rows, columns = torch.arange(height), torch.arange(width)
    sideways = sine_displacements(height, across[0], down[0])
    source = (columns - sideways[:, None]) % width
    rolled = images[:, :, rows[:, None].to(device), source.to(device)]
    updown = sine_displacements(width, across[1], down[1])
    source = (rows[:, None] - updown) % height
    return rolled[:, :, source.to(device), columns.to(device)]


def _pair(value) -> tuple[float, float]:
    first, second = value if isinstance(value, tuple | list) else (value, value)
    return float(first), float(second)


def nl_means(images: Tensor, h: float, template: int = 7, search: int = 21) -> Tensor:
    r"""Smooth texture away by non-local means.

    .. math:: x'_i = \frac{\sum_j w_{ij} x_j}{\sum_j w_{ij}}, \quad
        w_{ij} = \exp(-\|P_i - P_j\|^2 / (|P| h^2))

    over the pixels j of a window around i, where :math:`P_i` is the patch around i, of
    \|P\| values in all channels. Pixels beyond the border repeat those at it.

    Parameters
    ----------
    images : Tensor of shape (n, C, H, W)
        Values from 0 to 1.

    h : float
        How different patches may be that are averaged, in units of the values; 0
        changes nothing.

    template : int, default=7
        Side of the patches, odd; made smaller where the image is.

    search : int, default=21
        Side of the window, odd; made smaller where the image is.

    Returns
    -------
    changed : Tensor of shape (n, C, H, W)
        New images.

    Notes
    -----
    One pass over the batch for each of the `search` squared offsets.

    References
    ----------
    Buades, A., Coll, B. and Morel, J.-M. (2005). A Non-Local Algorithm for Image
    Denoising. *CVPR*, section 3 (without the Gaussian weight within patches).

    Examples
    --------
    >>> import torch
    >>> from skproto.perturb import nl_means
    >>> noisy = 0.5 + 0.01 * torch.randn(1, 1, 12, 12, generator=torch.manual_seed(0))
    >>> bool(nl_means(noisy, 0.1).std() < 0.3 * noisy.std())
    True
    """
    images, h = _checked(images), _checked_factor("h", h)
    smallest = min(images.shape[2:])
    template = _checked_side("template", template, smallest)
    search = _checked_side("search", search, smallest)
    if h == 0 or search == 1:
        return images.clone()
    height, width = images.shape[2:]
    inner, outer = template // 2, search // 2
    padded = functional.pad(images, (inner + outer,) * 4, mode="replicate")
    size = (height + 2 * inner, width + 2 * inner)

    def seen(down: int, right: int) -> Tensor:
        return padded[..., down : down + size[0], right : right + size[1]]

    middle = seen(outer, outer)
    total = torch.zeros_like(images)
    weights = torch.zeros_like(images[:, :1])
    for down in range(search):
        for right in range(search):
            other = seen(down, right)
            apart = (middle - other).square().mean(1, keepdim=True)
            apart = functional.avg_pool2d(apart, (template, 1), 1)
            apart = functional.avg_pool2d(apart, (1, template), 1)
            weight = (-apart / h**2).exp()
            inside = other[..., inner : inner + height, inner : inner + width]
            total += weight * inside
            weights += weight
    return total / weights


def _checked_side(name: str, value: int, smallest: int) -> int:
    """Return an odd side, not above that of the image."""
    if not isinstance(value, int) or value < 1 or value % 2 == 0:
        raise ValueError(f"{name} must be an odd int of at least 1. Got {value!r}.")
    return min(value, smallest - (smallest + 1) % 2)
