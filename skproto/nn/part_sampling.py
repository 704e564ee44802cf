"""Unit vectors, and maps of them read between the sites (Deformable ProtoPNet)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from skproto.nn.similarity import root

# Length below which a vector has no direction.
MIN_LENGTH = 1e-6


def directions(v: Tensor) -> Tensor:
    """Bring vectors to length 1.

    Parameters
    ----------
    v : Tensor of shape (..., D)
        A vector of length 0 becomes the one of equal entries, as if it had a small
        constant channel.

    Returns
    -------
    units : Tensor of the same shape
        Vectors of length 1.

    Examples
    --------
    >>> import torch
    >>> directions(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.7071, 0.7071]])
    """
    length = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    is_unknown = length <= MIN_LENGTH  # False for NaN, which stays NaN.
    units = v / torch.where(is_unknown, 1.0, length)
    return torch.where(is_unknown, v.shape[-1] ** -0.5, units)


def settled_directions(v: Tensor) -> Tensor:
    """Bring vectors to length 1; leave those alone, to the bit, that have it already.

    Parameters
    ----------
    v : Tensor of shape (..., D)
        Vectors.

    Returns
    -------
    units : Tensor of the same shape
        Vectors of length 1 within rounding.
    """
    length = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    is_unit = (length - 1.0).abs() <= 8.0 * torch.finfo(v.dtype).eps
    return torch.where(is_unit, v, directions(v))


def sample_map(image: Tensor, positions: Tensor) -> Tensor:
    """Interpolate a map bilinearly.

    Parameters
    ----------
    image : Tensor of shape (n, D, H, W)
        The map.

    positions : Tensor of shape (n, T, M, 2)
        Rows in [0, H - 1] and columns in [0, W - 1].

    Returns
    -------
    values : Tensor of shape (n, T, M, D)
        The map at the positions.

    Examples
    --------
    >>> import torch
    >>> image = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    >>> sample_map(image, torch.tensor([[[[0.5, 0.0], [1.0, 1.0]]]])).flatten()
    tensor([1., 3.])
    """
    limit = positions.new_tensor(image.shape[2:]) - 1.0
    grid = 2.0 * positions / limit.clamp_min(1.0) - 1.0
    values = functional.grid_sample(
        image, grid.flip(-1), padding_mode="border", align_corners=True
    )
    return values.permute(0, 2, 3, 1)


def sample_renormalised(image: Tensor, positions: Tensor) -> Tensor:
    """Interpolate a map of unit vectors and bring the results to length 1.

    Parameters
    ----------
    image, positions : Tensors
        See :func:`sample_map`.

    Returns
    -------
    units : Tensor of shape (n, T, M, D)
        Vectors of length 1, of any sign.
    """
    return directions(sample_map(image, positions))


def sample_squares(image: Tensor, positions: Tensor) -> Tensor:
    r"""Interpolate the squares of a map of unit vectors.

    :math:`\sqrt{\sum_i w_i z_i^2}`: the length stays 1 without a division, since the
    weights sum to 1. The entries must be at least 0.

    Parameters
    ----------
    image, positions : Tensors
        See :func:`sample_map`.

    Returns
    -------
    units : Tensor of shape (n, T, M, D)
        Vectors of length 1 with entries of at least 0.
    """
    # Where all four neighbours are 0 the slope of the root has no bound.
    return root(sample_map(image.square(), positions).clamp_min(0.0))


def reduced_angle(cosine: Tensor, margin: float) -> Tensor:
    r"""Return the cosine after its angle shrank: :math:`\cos\max(\arccos s - m, 0)`.

    Written as :math:`s' \cos m + \sqrt{1 - s'^2} \sin m` with :math:`s' = \min(s, \cos
    m)`, whose slope is bounded for s at least 0; the arc cosine's is not, and needs
    cosines scaled down.

    Parameters
    ----------
    cosine : Tensor
        Values s in [0, 1].

    margin : float
        Angle m in [0, pi / 2], in radians.

    Returns
    -------
    cosine : Tensor of the same shape
        At least s; 1 where the angle was less than m.

    Examples
    --------
    >>> import torch
    >>> reduced_angle(torch.tensor([0.0, 0.5, 0.999]), 0.1)
    tensor([0.0998, 0.5840, 1.0000])
    """
    s = cosine.clamp_max(math.cos(margin))
    sine = (1.0 - s.square()).clamp_min(0.0)
    return s * math.cos(margin) + root(sine) * math.sin(margin)


#: How vectors between sites keep length 1.
INTERPOLATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "renormalised": sample_renormalised,
    "squares": sample_squares,
}
