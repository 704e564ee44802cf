"""How alike a sample and a prototype are: distances, metrics and kernels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# Smallest squared distance whose root is taken: keeps the gradient of the root
# finite where a sample and a prototype coincide.
MIN_SQUARED_DISTANCE = 1e-12

# Smallest squared distance that counts between neighbouring prototypes, relative to
# the mean over all pairs: prototypes may lie on each other.
MIN_NEIGHBOR_SHARE = 0.01

# Prototypes whose distances to all others are held at a time.
NEIGHBOR_ROWS = 1024

# Smallest width of a kernel whose reciprocal times a distance fits into float32.
MIN_WIDTH = 1e-18


def squared_distances(z: Tensor, p: Tensor) -> Tensor:
    r"""Squared Euclidean distances by one matrix product.

    :math:`\|z\|^2 + \|p\|^2 - 2 z^\top p`, clamped at 0.

    Parameters
    ----------
    z : Tensor of shape (..., D)
        Embedded samples or sites.

    p : Tensor of shape (P, D)
        Prototypes.

    Returns
    -------
    d : Tensor of shape (..., P)
        Squared distances, at least 0. In float32 their error is about 1e-7 of the
        squared norms.

    Examples
    --------
    >>> import torch
    >>> z = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    >>> squared_distances(z, torch.tensor([[0.0, 4.0]]))
    tensor([[16.],
            [25.]])
    """
    rows = z.flatten(0, -2)
    products = torch.addmm(p.square().sum(-1), rows, p.T, alpha=-2.0)
    norms = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).square()
    return (products + norms).clamp_min(0.0).unflatten(0, z.shape[:-1])


def root(squared: Tensor) -> Tensor:
    """Return the square root of squared distances with a finite gradient at 0.

    Parameters
    ----------
    squared : Tensor
        Squared distances, at least 0.

    Returns
    -------
    d : Tensor of the same shape
        Distances. Where a gradient is asked for, those below 1e-6 are 1e-6.
    """
    if torch.is_grad_enabled() and squared.requires_grad:
        squared = squared.clamp_min(MIN_SQUARED_DISTANCE)
    return squared.sqrt()


def map_sites(function, z: Tensor) -> Tensor:
    """Apply a function of (m, D) to sites (n, T, D) and return (n, P, T).

    Parameters
    ----------
    function : callable
        Takes (m, D), returns (m, P).

    z : Tensor of shape (n, T, D)
        Sites of n samples.

    Returns
    -------
    values : Tensor of shape (n, P, T)
        Values of every prototype at every site.
    """
    n_sites = z.shape[1]
    values = function(z.flatten(0, 1))
    return values.unflatten(0, (-1, n_sites)).transpose(1, 2)


class RBFKernel(nn.Module):
    r"""Detection :math:`d_k = \exp(-\delta_k^q / \sigma_k)` of prototypes.

    Parameters
    ----------
    n_prototypes : int
        Number of prototypes P.

    exponent : {1, 2}, default=2
        The exponent q: 1 uses the metric distance, 2 its square (a Gaussian).

    shared : bool, default=False
        Whether all prototypes have one width.

    trainable : bool, default=True
        Whether the widths are learned.

    References
    ----------
    Saralajew et al., A Robust Prototype-Based Network with Interpretable RBF
    Classifier Foundations, AAAI 2025.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import RBFKernel
    >>> RBFKernel(2)(torch.tensor([[0.0, 1.0]])).exp().tolist()  # a width of 1 each
    [[1.0, 0.367879...]]
    """

    def __init__(self, n_prototypes, exponent=2, shared=False, trainable=True):
        super().__init__()
        self.n_prototypes = n_prototypes
        self.exponent = exponent
        n_widths = 1 if shared else n_prototypes
        self.log_sigma: Tensor
        if trainable:
            self.log_sigma = nn.Parameter(torch.zeros(n_widths))
        else:
            self.register_buffer("log_sigma", torch.zeros(n_widths))
        # Where the widths started: training is held near by a penalty.
        self.start: Tensor
        self.register_buffer("start", torch.zeros(n_widths))

    @property
    def sigma(self) -> Tensor:
        """Widths, shape (P,), all positive."""
        return self.log_sigma.exp().expand(self.n_prototypes)

    @torch.no_grad()
    def set_sigma(self, sigma) -> None:
        """Set the widths from a number or P numbers."""
        values = torch.as_tensor(sigma, dtype=self.log_sigma.dtype).log()
        self.log_sigma.copy_(values.expand(self.log_sigma.shape))
        self.start.copy_(self.log_sigma)

    def drift(self) -> Tensor:
        """Half the summed squared logarithm of the widths over their start."""
        return 0.5 * (self.log_sigma - self.start).square().sum()

    def forward(self, squared: Tensor) -> Tensor:
        """Return log detections (n, P) from squared distances (n, P)."""
        powered = squared if self.exponent == 2 else root(squared)
        return -powered / self.sigma


def width_rule(powered: Tensor, p0: float, weight: Tensor) -> Tensor:
    r"""Derive widths from data: :math:`\sigma = -(\mu + s) / \ln p_0`.

    Parameters
    ----------
    powered : Tensor of shape (n, P)
        Distances of the training samples to the power of the kernel.

    p0 : float
        Detection probability at one standard deviation beyond the mean distance.

    weight : Tensor of shape (n,)
        Sample weights.

    Returns
    -------
    sigma : Tensor of shape (P,)
        A positive width for each prototype.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import width_rule
    >>> squared = torch.tensor([[1.0], [3.0]])
    >>> wide = width_rule(squared, 0.5, torch.ones(2))
    >>> narrow = width_rule(squared, 0.01, torch.ones(2))
    >>> bool(wide > narrow)
    True
    """
    share = (weight / weight.sum())[:, None]
    mean = (share * powered).sum(0)
    spread = (share * (powered - mean).square()).sum(0).clamp_min(0).sqrt()
    width = (mean + spread) / -math.log(p0)
    # All samples on the prototype: any width tells them from others.
    return torch.where(width > MIN_WIDTH, width, torch.ones_like(width))


def local_widths(prototypes: Tensor, exponent: int, n_neighbors: int = 3) -> Tensor:
    r"""Widths from the prototypes nearby.

    The width of a prototype is the mean of :math:`\delta^q` over the `n_neighbors`
    other prototypes nearest to it, so that kernels are narrow where prototypes are
    dense. A neighbour counts as at least a tenth of the root mean square distance of
    all pairs away.

    Parameters
    ----------
    prototypes : Tensor of shape (P, D)
        Prototypes, at least 2.

    exponent : {1, 2}
        Exponent q of the distance in the kernel.

    n_neighbors : int, default=3
        Number of neighbours; all others, where there are fewer.

    Returns
    -------
    sigma : Tensor of shape (P,)
        A positive width for each prototype.

    Examples
    --------
    >>> import torch
    >>> local_widths(torch.tensor([[0.0], [1.0], [3.0]]), 2, n_neighbors=1)
    tensor([1., 1., 4.])
    """
    n_others = len(prototypes) - 1
    count = min(n_neighbors, n_others)
    nearest = []
    for rows in prototypes.split(NEIGHBOR_ROWS):
        squared = torch.cdist(rows, prototypes).square()
        # The nearest of all is the prototype itself.
        nearest.append(squared.topk(count + 1, largest=False).values[:, 1:])
    spread = prototypes.var(0, correction=1).sum()
    squared = torch.cat(nearest).clamp_min(MIN_NEIGHBOR_SHARE * 2.0 * spread)
    width = (squared if exponent == 2 else squared.sqrt()).mean(1)
    # All prototypes on one point: any width does.
    return torch.where(width > MIN_WIDTH, width, torch.ones_like(width))
