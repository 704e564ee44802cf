"""How alike a site and a prototype are: a distance and a kernel that falls with it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from skproto.nn._tree_distances import root

# A vector that is shorter has no direction.
MIN_NORM = 1e-6

# Relative difference up to which two inner products count as the same.
_TIE = 1e-9


def unit(v: Tensor) -> Tensor:
    """Vectors of length 1; those shorter than 1e-6 stay as they are.

    Parameters
    ----------
    v : Tensor of shape (..., D)
        Vectors.

    Returns
    -------
    u : Tensor of the same shape
        Their directions, with a bounded gradient where there is none.

    Examples
    --------
    >>> import torch
    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    norm = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    return v / torch.where(norm > MIN_NORM, norm, 1.0)


class PartSimilarity(nn.Module, ABC):
    """A distance between sites and prototypes, and a kernel that falls with it.

    The distance is the kernel's own (squared Euclidean here); that of the latent
    space, in which 0 means "the same", is :meth:`latent`.

    Parameters
    ----------
    n_prototypes : int
        Number of prototypes P.

    dim : int
        Dimension D of sites and prototypes.

    Examples
    --------
    >>> from skproto.nn import PartSimilarity, make_similarity
    >>> similarity = make_similarity("exp_l2", 4, 2)
    >>> isinstance(similarity, PartSimilarity), similarity.max_value
    (True, 5.0)
    """

    def __init__(self, n_prototypes, dim):
        super().__init__()
        self.n_prototypes = n_prototypes
        self.dim = dim

    def distance(self, z: Tensor, p: Tensor) -> Tensor:
        """Distances (m, P) of sites (m, D) to prototypes (P, D), one matrix product.

        They are off by the rounding of the product and may fall below 0 by it.
        """
        products = torch.addmm(p.square().sum(-1), z, p.T, alpha=-2.0)
        return products.add_(z.square().sum(-1, keepdim=True))

    def noise(self, p: Tensor) -> Tensor:
        """Distance (P,) below which float64 cannot tell a site from the prototype."""
        eps = torch.finfo(p.dtype).eps
        return 4 * self.dim * eps * p.square().sum(-1)

    @abstractmethod
    def to_similarity(self, d: Tensor) -> Tensor:
        """Similarities from distances, both (..., P)."""

    def latent(self, d: Tensor) -> Tensor:
        """Distance in the latent space, at least 0, from the kernel's distance."""
        return root(d.clamp_min(0.0))

    def costs(self, z: Tensor, p: Tensor, d: Tensor, nearest: Tensor) -> Tensor:
        """Distance (n, P) that cluster and separation costs are made of.

        Parameters
        ----------
        z : Tensor of shape (n, T, D)
            Sites.
        p : Tensor of shape (P, D)
            Prototypes.
        d : Tensor of shape (n, T, P)
            Distances.
        nearest : Tensor of shape (n, P)
            Their minimum over the sites.
        """
        return nearest.clamp_min(0.0)

    def distances(self, z: Tensor, p: Tensor, sites: Tensor, nearest: Tensor) -> Tensor:
        """Latent distance (n, P) of the winning sites (n, P); see :meth:`costs`."""
        return self.latent(nearest)

    def search_vectors(self, z: Tensor) -> Tensor:
        """Vectors (..., F) of sites (..., D) for a search by the inner product.

        The larger the product with a prototype's :meth:`search_targets`, the nearer
        the site.
        """
        return torch.cat([z, z.square().sum(-1, keepdim=True)], -1)

    def search_targets(self, p: Tensor) -> Tensor:
        """Vectors (P, F) of prototypes (P, D); see :meth:`search_vectors`."""
        return torch.cat([2.0 * p, -torch.ones_like(p[:, :1])], -1)

    def admissible(self, z: Tensor) -> Tensor | None:
        """Which sites (..., T, D) a prototype can become, (..., T); None: all."""
        return None

    def between(self, z: Tensor, p: Tensor) -> Tensor:
        """Latent distance (..., P) of a site (..., P, D) from each prototype (P, D)."""
        squared = (z - p).square().sum(-1)
        return self.latent(squared.masked_fill(squared <= self.noise(p), 0.0))

    @property
    def max_value(self) -> float:
        """Similarity at distance 0; inf where there is no largest one."""
        zeros = torch.zeros(self.n_prototypes)
        parameter = next(self.parameters(), None)
        with torch.no_grad():
            zeros = zeros if parameter is None else zeros.to(parameter)
            return float(self.to_similarity(zeros)[0])


class DirectionSimilarity(PartSimilarity):
    """Base of the similarities for which only the direction of a prototype counts."""

    def search_vectors(self, z: Tensor) -> Tensor:
        """Return the directions of the sites."""
        return unit(z)

    def search_targets(self, p: Tensor) -> Tensor:
        """Return the directions of the prototypes."""
        return unit(p)

    def between(self, z: Tensor, p: Tensor) -> Tensor:
        """Return the chord of the directions, (..., P)."""
        # Not the difference: a vector of length 0 has no direction and is orthogonal.
        squared = 2.0 - 2.0 * (unit(z) * unit(p)).sum(-1)
        noise = 16 * self.dim * torch.finfo(p.dtype).eps
        return root(squared.masked_fill(squared <= noise, 0.0))


class CosineSimilarity(DirectionSimilarity):
    r"""Scaled cosine, :math:`s = \lambda (1 - d)` with :math:`d = 1 - \cos(z, p)`.

    The latent distance is the chord between the directions, :math:`\sqrt{2 d}`.

    Parameters
    ----------
    n_prototypes, dim : int
        See :class:`PartSimilarity`.

    scale : float, default=10.0
        The largest similarity :math:`\lambda`; larger values make probabilities
        sharper.

    Examples
    --------
    >>> import torch
    >>> cosine = CosineSimilarity(2, 2)
    >>> p = torch.tensor([[0.0, 3.0], [1.0, 1.0]])
    >>> cosine.to_similarity(cosine.distance(torch.tensor([[0.0, 2.0]]), p))
    tensor([[10.0000,  7.0711]])
    """

    def __init__(self, n_prototypes, dim, scale=10.0):
        super().__init__(n_prototypes, dim)
        self.scale = _positive("scale", scale)

    def distance(self, z: Tensor, p: Tensor) -> Tensor:
        """Return :math:`1 - cos`, (m, P)."""
        return torch.addmm(z.new_ones(1), unit(z), unit(p).T, alpha=-1.0)

    def noise(self, p: Tensor) -> Tensor:
        """Return the rounding of a cosine, (P,)."""
        eps = torch.finfo(p.dtype).eps
        return torch.full_like(p[:, 0], 8 * self.dim * eps)

    def to_similarity(self, d: Tensor) -> Tensor:
        """Return the scaled cosine."""
        return self.scale * (1.0 - d)

    def latent(self, d: Tensor) -> Tensor:
        """Return the chord."""
        return root((2.0 * d).clamp_min(0.0))


class DotSimilarity(DirectionSimilarity):
    r"""Inner product, :math:`s = -d = z^\top p`: for prototypes of length 1.

    A site may be of any length, so there is no largest similarity. As in TesNet the
    costs of the losses are :math:`1 - \max_t \cos(z_t, p)`; the latent distance is
    the chord between the directions of the winning site and the prototype.

    A prototype can become the direction of a site that no site of its sample exceeds
    along this direction. Without that condition a longer site beside it would win on
    the prototype's own source. The longest site of a sample fulfils it always.

    References
    ----------
    Wang et al., Interpretable Image Recognition by Constructing Transparent Embedding
    Space, ICCV 2021.
    """

    def admissible(self, z: Tensor) -> Tensor:
        """Tell which sites (..., T, D) none of their sample exceeds, (..., T).

        Exceeds: has a larger inner product with the direction of the site.
        """
        z = z.double()
        u = unit(z)
        highest = (u @ z.mT).amax(-1)
        return highest <= (u * z).sum(-1) * (1.0 + _TIE)

    def distance(self, z: Tensor, p: Tensor) -> Tensor:
        """Return the negative inner products, (m, P)."""
        return torch.mm(z, -p.T)

    def noise(self, p: Tensor) -> Tensor:
        """Return -inf, (P,): no inner product stands for "the same"."""
        return torch.full_like(p[:, 0], -torch.inf)

    def to_similarity(self, d: Tensor) -> Tensor:
        """Return the inner products."""
        return -d

    def costs(self, z: Tensor, p: Tensor, d: Tensor, nearest: Tensor) -> Tensor:
        """Return :math:`1 - max cos`, (n, P)."""
        cosines = d / -_lengths(z)[:, :, None]
        return (1.0 - cosines.amax(1) / _lengths(p)).clamp_min(0.0)

    def distances(self, z: Tensor, p: Tensor, sites: Tensor, nearest: Tensor) -> Tensor:
        """Return the chords, (n, P)."""
        cosines = -nearest / (_lengths(z).gather(1, sites) * _lengths(p))
        gap = 1.0 - cosines
        noise = 8 * self.dim * torch.finfo(gap.dtype).eps
        return root((2.0 * gap.masked_fill(gap <= noise, 0.0)).clamp_min(0.0))

    @property
    def max_value(self) -> float:
        """Infinity."""
        return math.inf


class LogSimilarity(PartSimilarity):
    r"""ProtoPNet's kernel :math:`s = \log((d + 1) / (d + \epsilon))`.

    Its slope near 0 is :math:`-1/\epsilon`; the cosine trains better.

    Parameters
    ----------
    n_prototypes, dim : int
        See :class:`PartSimilarity`.

    epsilon : float, default=1e-4
        Sets the largest similarity, :math:`-\log\epsilon`.

    References
    ----------
    Chen et al., This Looks Like That, NeurIPS 2019.

    Examples
    --------
    >>> import torch
    >>> LogSimilarity(1, 1).to_similarity(torch.tensor([0.0, 1.0]))
    tensor([9.2103, 0.6930])
    """

    def __init__(self, n_prototypes, dim, epsilon=1e-4):
        super().__init__(n_prototypes, dim)
        self.epsilon = _positive("epsilon", epsilon)

    def to_similarity(self, d: Tensor) -> Tensor:
        """Return the log ratio, accurate also for large distances."""
        return torch.log1p((1.0 - self.epsilon) / (d.clamp_min(0.0) + self.epsilon))


class ExpSimilarity(PartSimilarity):
    r"""Gaussian :math:`s = \lambda \exp(-d / (w D))`.

    Parameters
    ----------
    n_prototypes, dim : int
        See :class:`PartSimilarity`.

    width : float, default=0.02
        The mean squared difference w of a coordinate at which s falls to 37 %.

    scale : float, default=5.0
        The largest similarity :math:`\lambda`.
    """

    def __init__(self, n_prototypes, dim, width=0.02, scale=5.0):
        super().__init__(n_prototypes, dim)
        self.width = _positive("width", width)
        self.scale = _positive("scale", scale)

    def to_similarity(self, d: Tensor) -> Tensor:
        """Return the scaled Gaussian."""
        return self.scale * torch.exp(d.clamp_min(0.0) / -(self.width * self.dim))


class RadiusSimilarity(PartSimilarity):
    r"""Radius kernel :math:`s = \lambda\, 2^{-(\|z - p\|/r)^\beta}`.

    The radius r of each prototype is learned: at that distance s is one half of the
    largest similarity.

    Parameters
    ----------
    n_prototypes, dim : int
        See :class:`PartSimilarity`.

    sharpness : float, default=4.0
        The exponent :math:`\beta >= 2`; the larger, the more s is a step at r.

    scale : float, default=5.0
        The largest similarity :math:`\lambda`.

    Examples
    --------
    >>> import torch
    >>> RadiusSimilarity(1, 1, scale=1.0).to_similarity(torch.tensor([[0.0], [1.0]]))
    tensor([[1.0000],
            [0.5000]], grad_fn=<MulBackward0>)
    """

    def __init__(self, n_prototypes, dim, sharpness=4.0, scale=5.0):
        super().__init__(n_prototypes, dim)
        if sharpness < 2:
            raise ValueError(f"sharpness must be a float >= 2, got {sharpness!r}")
        self.sharpness = float(sharpness)
        self.scale = _positive("scale", scale)
        self.log_radius = nn.Parameter(torch.zeros(n_prototypes))

    @torch.no_grad()
    def set_radius(self, radius) -> None:
        """Set the radii from a positive number or P of them, in latent distance."""
        values = torch.as_tensor(radius, dtype=self.log_radius.dtype).log()
        self.log_radius.copy_(values.expand(self.log_radius.shape))

    def to_similarity(self, d: Tensor) -> Tensor:
        """Return the kernel."""
        ratio = d.clamp_min(0.0) * (-2.0 * self.log_radius).exp()
        return self.scale * torch.exp(-math.log(2.0) * ratio ** (0.5 * self.sharpness))


class LinearSimilarity(PartSimilarity):
    """Negative squared distance, ``s = -d``: at most 0, unbounded below."""

    def to_similarity(self, d: Tensor) -> Tensor:
        """Return the negative distance."""
        return -d.clamp_min(0.0)


SIMILARITIES: dict[str, type[PartSimilarity]] = {
    "cosine": CosineSimilarity,
    "dot": DotSimilarity,
    "exp_l2": ExpSimilarity,
    "linear": LinearSimilarity,
    "log_l2": LogSimilarity,
    "radius": RadiusSimilarity,
}


def make_similarity(
    name: str, n_prototypes: int, dim: int, **options: Any
) -> PartSimilarity:
    """Build a similarity by name.

    Parameters
    ----------
    name : {"cosine", "dot", "exp_l2", "linear", "log_l2", "radius"}
        Which one.

    n_prototypes, dim : int
        Number P and dimension D of the prototypes.

    **options : float
        "scale", "epsilon", "width", "sharpness": see the classes.

    Returns
    -------
    similarity : PartSimilarity
        Distance and kernel.

    Raises
    ------
    ValueError
        If there is no similarity of that name, or an option is not positive.

    Examples
    --------
    >>> make_similarity("log_l2", 4, 2).max_value
    9.21034049987793
    """
    if name not in SIMILARITIES:
        raise ValueError(
            f"similarity must be one of {list(SIMILARITIES)}, got {name!r}"
        )
    return SIMILARITIES[name](n_prototypes, dim, **options)


def _lengths(v: Tensor) -> Tensor:
    """Lengths of vectors (..., D); 1 for those without a direction."""
    norm = torch.linalg.vector_norm(v, dim=-1)
    return torch.where(norm > MIN_NORM, norm, 1.0)


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name} must be a positive float, got {value!r}")
    return float(value)
