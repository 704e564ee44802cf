"""Loss terms of Deformable ProtoPNet.

Cluster and separation cost and the penalty on the last layer are those of
:mod:`skproto.nn.part_losses`: the network's "costs" are 1 - cosine.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from skproto.nn.part_losses import class_members
from skproto.nn.part_sampling import directions, reduced_angle


@dataclass(frozen=True)
class MarginCrossEntropy:
    """Cross entropy while prototypes of other classes get a head start.

    Their angle to the sample is reduced by `margin` before the last layer. In
    evaluation mode, and in the scores shown, there is no margin.

    Parameters
    ----------
    margin : float, default=0.1
        Angle in radians; larger values part the classes further.

    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    margin: float = 0.1
    name: str = "cross_entropy"
    weight: float = 1.0

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the loss of each sample, (n,)."""
        scores = outputs["scores"]
        if module.training:
            cosines = outputs["cosines"].relu()
            own = module.ownership.T[target]
            closer = reduced_angle(cosines, self.margin)
            scores = module.class_scores(torch.where(own, cosines, closer))
        return functional.cross_entropy(scores, target, reduction="none")


@dataclass(frozen=True)
class PartOrthogonality:
    r"""How far the parts of a class are from orthogonal.

    :math:`\sum_c \|P_c P_c^\top - \frac{1}{M} I\|_F^2`, where the rows of :math:`P_c`
    are all M parts of all prototypes of class c, of length :math:`1/\sqrt{M}`. The
    classes are those of `ownership`, in whatever order the prototypes are.

    Parameters
    ----------
    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    name: str = "part_orthogonality"
    weight: float = 0.1

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the penalty, a scalar."""
        members, valid = class_members(module.ownership)
        p = directions(module.prototypes)[members]  # (K, m, M, D)
        p = p.masked_fill(~valid[:, :, None, None], 0.0).flatten(1, 2)
        cosines = p @ p.transpose(1, 2)
        # What the identity takes away: the 1 of every part with itself.
        same = torch.eye(p.shape[1], dtype=torch.bool, device=p.device)
        n_parts = module.prototypes.shape[1]
        return cosines.masked_fill(same, 0.0).square().sum() / n_parts**2


@dataclass(frozen=True)
class OffsetPenalty:
    """Mean squared length of the offsets, in sites.

    Part of the loss like any other term: the offset net learns from it.

    Parameters
    ----------
    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    name: str = "offsets"
    weight: float = 0.8

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the penalty of each sample, (n,)."""
        return outputs["displacement"]
