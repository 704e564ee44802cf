"""Loss terms of prototypes that are sets of parts.

The penalty of the weights to other classes is
:class:`~skproto.nn.part_losses.OffClassL1`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skproto.nn.matching import unit
from skproto.nn.part_losses import class_members

#: How the parts of a prototype make one number.
PART_POOLINGS = ("max", "mean", "sum")


def best_similarities(
    outputs: dict[str, Tensor], prototypes: Tensor, pooling: str = "max"
) -> Tensor:
    """Largest matched similarity of each sample to the prototypes of a mask.

    Slots do not enter. Parts that are matched to no site do not count.

    Parameters
    ----------
    outputs : dict of str to Tensor
        With "part_similarities" and "sites" (n, P, M).

    prototypes : Tensor of shape (n, P), bool
        Prototypes that count for each sample.

    pooling : {"max", "mean", "sum"}, default="max"
        Whether a prototype is judged by its best single part, or by the mean or sum
        over its parts.

    Returns
    -------
    best : Tensor of shape (n,)
        0 for a sample for which nothing counts.
    """
    if pooling not in PART_POOLINGS:
        raise ValueError(f"pooling must be one of {PART_POOLINGS}. Got {pooling!r}.")
    s, matched = outputs["part_similarities"], outputs["sites"] >= 0
    if pooling == "max":
        s = s.masked_fill(~matched, -torch.inf).amax(2)
    else:
        s = s.masked_fill(~matched, 0.0).sum(2)
    if pooling == "mean":
        s = s / matched.sum(2).clamp_min(1)
    counts = matched.any(2) & prototypes
    best = s.masked_fill(~counts, -torch.inf).amax(1)
    return best.masked_fill(~counts.any(1), 0.0)


@dataclass(frozen=True)
class PartSetCluster:
    """Bring every sample near the parts of its class: minus the best similarity.

    Parameters
    ----------
    pooling : {"max", "mean", "sum"}, default="max"
        Whether a prototype is judged by its best single part (the paper), or by the
        mean or sum over its parts.

    name, weight : str, float
        Name in the history, factor in the total loss. Larger weights gather the
        tokens of a class around its prototypes.

    References
    ----------
    Ma et al., NeurIPS 2024, with weight 0.8.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import PartSetNetwork, PartSetCluster
    >>> net = PartSetNetwork(4, 2, 3, n_classes=2)  # 4 prototypes of 2 parts
    >>> outputs = net.train()(torch.rand(5, 6, 3))  # 5 samples of 6 tokens
    >>> PartSetCluster()(outputs, torch.tensor([0, 1, 1, 0, 1]), net).shape
    torch.Size([5])
    """

    pooling: str = "max"
    name: str = "cluster"
    weight: float = 0.8

    def __call__(self, outputs, target, module) -> Tensor:
        """Return minus the best own-class similarity of each sample, (n,)."""
        own = module.ownership.T[target]
        return -best_similarities(outputs, own, self.pooling)


@dataclass(frozen=True)
class PartSetSeparation:
    """Keep every sample away from the parts of other classes: the best similarity.

    Parameters
    ----------
    pooling : {"max", "mean", "sum"}, default="max"
        Whether a prototype is judged by its best single part (the paper), or by the
        mean or sum over its parts.

    name, weight : str, float
        Name in the history, factor in the total loss. Larger weights push tokens
        away from the prototypes of other classes.

    References
    ----------
    Ma et al., NeurIPS 2024, with weight 0.1.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import PartSetNetwork, PartSetSeparation
    >>> net = PartSetNetwork(4, 2, 3, n_classes=2)  # 4 prototypes of 2 parts
    >>> outputs = net.train()(torch.rand(5, 6, 3))  # 5 samples of 6 tokens
    >>> PartSetSeparation()(outputs, torch.tensor([0, 1, 1, 0, 1]), net).shape
    torch.Size([5])
    """

    pooling: str = "max"
    name: str = "separation"
    weight: float = 0.1

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the best similarity to another class of each sample, (n,)."""
        other = ~module.ownership.T[target]
        return best_similarities(outputs, other, self.pooling)


@dataclass(frozen=True)
class PartSetOrthogonality:
    r"""Make the prototypes of a class differ: :math:`\sum_c \|Q_c Q_c^\top - I\|_1`.

    Rows of :math:`Q_c` are the kept parts of a prototype of class c, each of length 1,
    one after another. They are not divided by :math:`\sqrt M`: the diagonal is M and
    adds a constant, what acts are the products of different prototypes.

    Parameters
    ----------
    name, weight : str, float
        Name in the history, factor in the total loss. Larger weights spread the
        prototypes of a class.

    References
    ----------
    Ma et al., NeurIPS 2024, with weight 1e-3.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import PartSetNetwork, PartSetOrthogonality
    >>> net = PartSetNetwork(4, 2, 3, n_classes=2)  # 4 prototypes of 2 parts
    >>> outputs = net.train()(torch.rand(5, 6, 3))  # 5 samples of 6 tokens
    >>> PartSetOrthogonality()(outputs, torch.tensor([0, 1, 1, 0, 1]), net).shape
    torch.Size([])
    """

    name: str = "orthogonality"
    weight: float = 1e-3

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the penalty, a scalar."""
        parts = unit(module.prototypes).masked_fill(~module.kept[..., None], 0.0)
        members, valid = class_members(module.ownership)
        rows = parts.flatten(1)[members]
        gram = torch.bmm(rows, rows.transpose(1, 2))
        apart = (gram - torch.eye(gram.shape[1]).to(gram)).abs()
        both = valid[:, :, None] & valid[:, None, :]
        return apart.masked_fill(~both, 0.0).sum()


@dataclass(frozen=True)
class PartSetCoherence:
    r"""Make the parts of a prototype alike: the largest :math:`1 - \cos` of two.

    Each pair counts by the product of its slots, summed over prototypes:
    :math:`\sum_p \max_{j<k} s_{pj} s_{pk} (1 - \cos(p_{pj}, p_{pk}))`.

    Parameters
    ----------
    name, weight : str, float
        Name in the history, factor in the total loss. Larger weights give prototypes
        whose parts show the same thing, and with slots fewer parts.

    References
    ----------
    Ma et al., NeurIPS 2024, with weight 3e-3, and 1e-6 while slots are learned. The
    published code compares each part with the last one only.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import PartSetNetwork, PartSetCoherence
    >>> net = PartSetNetwork(4, 2, 3, n_classes=2)  # 4 prototypes of 2 parts
    >>> outputs = net.train()(torch.rand(5, 6, 3))  # 5 samples of 6 tokens
    >>> PartSetCoherence()(outputs, torch.tensor([0, 1, 1, 0, 1]), net).shape
    torch.Size([])
    """

    name: str = "coherence"
    weight: float = 3e-3

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the penalty, a scalar."""
        parts, slots = unit(module.prototypes), module.slots()
        unlike = 1.0 - torch.bmm(parts, parts.transpose(1, 2))
        pairs = slots[:, :, None] * slots[:, None, :] * unlike
        n_parts = pairs.shape[1]
        if n_parts == 1:
            return pairs.sum() * 0.0
        first, second = torch.triu_indices(n_parts, n_parts, 1).to(pairs.device)
        return pairs[:, first, second].amax(1).clamp_min(0.0).sum()
