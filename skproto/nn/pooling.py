"""From similarities at every site to one for each prototype, and where it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Kernel = Callable[[Tensor], Tensor]


class Pooled(NamedTuple):
    """What pooling over the sites of n samples returns.

    Attributes
    ----------
    similarities : Tensor of shape (n, P)
        Pooled similarity of each prototype.
    sites : Tensor of shape (n, P), int64
        The site nearest to the prototype, the first of equals.
    nearest : Tensor of shape (n, P)
        Distance of that site, as the kernel takes it.
    mean : Tensor of shape (n, P) or None
        Mean distance of all sites that count, where the pooling needs it.
    """

    similarities: Tensor
    sites: Tensor
    nearest: Tensor
    mean: Tensor | None = None


def nearest_sites(d: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of the nearest site and which one it is.

    Parameters
    ----------
    d : Tensor of shape (n, T, P)
        Distances.

    Returns
    -------
    nearest : Tensor of shape (n, P)
        Smallest distance over the sites.
    sites : Tensor of shape (n, P), int64
        Its site, the first of equals.

    Examples
    --------
    >>> import torch
    >>> nearest_sites(torch.tensor([[[3.0], [1.0], [1.0]]]))
    (tensor([[1.]]), tensor([[1]]))
    """
    if d.shape[1] == 1:
        nearest = d.squeeze(1)
        return nearest, torch.zeros_like(nearest, dtype=torch.int64)
    nearest, sites = d.min(dim=1)
    return nearest, sites


class MaxPooling(nn.Module):
    r"""Similarity of the nearest site: :math:`\max_t s(d_t) = s(\min_t d_t)`.

    The kernel falls with the distance, so it is computed once for each prototype and
    not at every site.

    Examples
    --------
    >>> import torch
    >>> pooled = MaxPooling()(torch.tensor([[[3.0], [1.0]]]), torch.neg)
    >>> pooled.similarities, pooled.sites
    (tensor([[-1.]]), tensor([[1]]))
    """

    def __init__(self):
        super().__init__()

    def forward(
        self, d: Tensor, kernel: Kernel, counts: Tensor | None = None
    ) -> Pooled:
        """Pool distances (n, T, P) under a falling kernel."""
        nearest, sites = nearest_sites(d)
        return Pooled(kernel(nearest), sites, nearest)


class TopKPooling(nn.Module):
    r"""Mean similarity of the k nearest sites.

    Parameters
    ----------
    k : int, default=3
        Number of sites; the larger, the more widespread a part has to be.

    training_only : bool, default=False
        Whether evaluation mode takes the nearest site alone, so that a projected
        prototype scores the maximum on its source.

    Raises
    ------
    ValueError
        If `k` is not positive or, in the forward pass, larger than the number of
        sites.

    Examples
    --------
    >>> import torch
    >>> d = torch.tensor([[[3.0], [1.0], [2.0]]])
    >>> TopKPooling(2)(d, torch.neg).similarities
    tensor([[-1.5000]])
    """

    def __init__(self, k=3, training_only=False):
        super().__init__()
        if k < 1:
            raise ValueError(f"k must be an int >= 1, got {k!r}")
        self.k = k
        self.training_only = training_only

    def forward(
        self, d: Tensor, kernel: Kernel, counts: Tensor | None = None
    ) -> Pooled:
        """Pool distances (n, T, P) under a falling kernel."""
        nearest, sites = nearest_sites(d)
        if self.training_only and not self.training:
            return Pooled(kernel(nearest), sites, nearest)
        if self.k > d.shape[1]:
            raise ValueError(
                f"k of top-k pooling must be at most the number of sites, "
                f"{d.shape[1]}, got {self.k}"
            )
        few = d.topk(self.k, dim=1, largest=False).values
        return Pooled(kernel(few).mean(dim=1), sites, nearest)


class FocalPooling(nn.Module):
    r"""How much the nearest site stands out: :math:`s(\min_t d_t) - s(\bar d)`.

    :math:`\bar d` is the mean distance of all sites. A prototype that is alike
    everywhere (background) scores 0.

    References
    ----------
    Rymarczyk et al., Interpretable Image Classification with Differentiable
    Prototypes Assignment, ECCV 2022.

    Examples
    --------
    >>> import torch
    >>> FocalPooling()(torch.tensor([[[3.0], [1.0]]]), torch.neg).similarities
    tensor([[1.]])
    """

    def __init__(self):
        super().__init__()

    def forward(
        self, d: Tensor, kernel: Kernel, counts: Tensor | None = None
    ) -> Pooled:
        """Pool distances (n, T, P) under a falling kernel.

        `counts` (T, P) are the sites of which the mean is taken; None: all.
        """
        nearest, sites = nearest_sites(d)
        mean = d.mean(dim=1)
        if counts is not None:
            mean = d.masked_fill(~counts, 0.0).sum(dim=1) / counts.sum(dim=0)
        return Pooled(kernel(nearest) - kernel(mean), sites, nearest, mean)


POOLINGS: dict[str, type[nn.Module]] = {
    "max": MaxPooling,
    "topk": TopKPooling,
    "focal": FocalPooling,
}


def make_pooling(name: str, **options: Any) -> nn.Module:
    """Build a pooling by name.

    Parameters
    ----------
    name : {"max", "topk", "focal"}
        Which one.

    **options : object
        Parameters of :class:`TopKPooling`.

    Returns
    -------
    pooling : Module
        Takes distances (n, T, P), inf for sites that do not count, and a kernel;
        returns :class:`Pooled`.

    Raises
    ------
    ValueError
        If there is no pooling of that name.
    """
    if name not in POOLINGS:
        raise ValueError(f"pooling must be one of {list(POOLINGS)}, got {name!r}")
    return POOLINGS[name](**options)
