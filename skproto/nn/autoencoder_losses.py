"""Named loss terms of the prototype autoencoder, beside the cross entropy.

Equations: Li et al., AAAI 2018. With `scaled`, a term is divided by what the module
keeps as the size of such a number, so that its weight means the same for any number of
features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skproto.nn.similarity import squared_distances


def _owned(outputs, target, module) -> Tensor:
    """Mask (n, P) of the prototypes that the class of each sample owns."""
    return module.ownership.T[target]


@dataclass(frozen=True)
class Reconstruction:
    r"""Squared error of the reconstruction, summed over pixels or features.

    :math:`R = \frac1n \sum_i \|\hat x_i - x_i\|^2`.

    Where nothing was reconstructed, outside of training, it is 0.

    Parameters
    ----------
    scaled : bool, default=False
        Whether to divide by the error of a decoder that always returns the mean
        sample.

    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    scaled: bool = False
    name: str = "reconstruction"
    weight: float = 1.0

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the error of each sample, (n,)."""
        if "reconstruction" not in outputs:
            return outputs["squared_distances"].new_zeros(len(target))
        gap = outputs["reconstruction"] - outputs["inputs"]
        error = gap.flatten(1).square().sum(1)
        return error / module.reconstruction_scale if self.scaled else error


@dataclass(frozen=True)
class PrototypeNearSample:
    r"""Every prototype near some sample of the batch.

    :math:`R_1 = \frac1P \sum_j \min_i D_{ij}`.

    Parameters
    ----------
    own_class : bool, default=False
        Whether only samples of the class that owns a prototype count; a prototype
        whose class is not in the batch is left out.

    scaled : bool, default=False
        Whether to divide by the module's `distance_scale`.

    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    own_class: bool = False
    scaled: bool = False
    name: str = "r1"
    weight: float = 1.0

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the mean over the prototypes, a scalar."""
        distances = outputs["squared_distances"]
        if not self.own_class:
            value = distances.amin(0).mean()
        else:
            owned = _owned(outputs, target, module)
            nearest = distances.masked_fill(~owned, torch.inf).amin(0)
            present = owned.any(0)
            total = nearest.masked_fill(~present, 0.0).sum()
            value = total / present.sum().clamp_min(1)
        return value / module.distance_scale if self.scaled else value


@dataclass(frozen=True)
class SampleNearPrototype:
    r"""Every sample near some prototype.

    :math:`R_2 = \frac1n \sum_i \min_j D_{ij}`.

    Parameters
    ----------
    own_class : bool, default=False
        Whether only prototypes that the class of a sample owns count; a sample whose
        class owns none is left out.

    scaled : bool, default=False
        Whether to divide by the module's `distance_scale`.

    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    own_class: bool = False
    scaled: bool = False
    name: str = "r2"
    weight: float = 1.0

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the least squared distance of each sample, (n,)."""
        distances = outputs["squared_distances"]
        if self.own_class:
            owned = _owned(outputs, target, module)
            distances = distances.masked_fill(~owned, torch.inf)
            nearest = distances.amin(1).masked_fill(~owned.any(1), 0.0)
        else:
            nearest = distances.amin(1)
        return nearest / module.distance_scale if self.scaled else nearest


@dataclass(frozen=True)
class PrototypeDiversity:
    r"""Prototypes of different classes apart.

    The mean over pairs of prototypes that no class owns together of
    :math:`\max(0, 1 - \|p_i - p_j\|^2 / m)`.

    Parameters
    ----------
    margin : float, default=1.0
        Squared distance m beyond which a pair no longer counts.

    scaled : bool, default=False
        Whether the margin is in units of the module's `distance_scale`.

    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    margin: float = 1.0
    scaled: bool = False
    name: str = "diversity"
    weight: float = 1.0

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the mean over the pairs, a scalar; 0 where there is none."""
        p = module.prototypes
        margin = self.margin * (module.distance_scale if self.scaled else 1.0)
        owned = module.ownership.to(p.dtype)
        apart = (owned @ owned.T) == 0
        crowding = (1.0 - squared_distances(p, p) / margin).clamp_min(0.0)
        total = crowding.masked_fill(~apart, 0.0).sum()
        return total / apart.sum().clamp_min(1)
