"""Loss terms of slots that choose prototypes from a pool (ProtoPool), and mixup."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


def _assignment(outputs, module) -> Tensor:
    """Return the distributions behind the outputs."""
    if "assignment" in outputs:
        return outputs["assignment"]
    return module.head.assignment()


def _smallest(costs: Tensor, mask: Tensor) -> Tensor:
    """Return the smallest cost in a mask, both (n, P); 0 where it is empty."""
    smallest = costs.masked_fill(~mask, torch.inf).amin(1)
    return torch.where(mask.any(1), smallest, 0.0)


@dataclass(frozen=True)
class SlotOrthogonality:
    r"""Slots of a class shall choose different prototypes.

    Mean over all slots of the summed cosines with the slots of their class, less the
    1 of each with itself: 0 if the distributions are orthogonal, S - 1 if equal.

    Parameters
    ----------
    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    name: str = "slot_orthogonality"
    weight: float = 1.0

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the penalty, a scalar."""
        head = module.head
        q = functional.normalize(_assignment(outputs, module), dim=1)
        # All pairs of unit vectors at once: the squared norm of their sum.
        total = q.unflatten(0, (head.n_classes, head.n_slots)).sum(1)
        return total.square().sum() / len(q) - 1.0


@dataclass(frozen=True)
class SlotOffClassL1:
    """Sum of the absolute weights from slots to classes that do not own them.

    Parameters
    ----------
    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    name: str = "off_class_l1"
    weight: float = 1e-4

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the penalty, a scalar."""
        return module.head.off_class_norm()


@dataclass(frozen=True)
class SlotCluster:
    """Cost of the nearest prototype that the sample's class chooses.

    Which those are says :meth:`skproto.nn.slots.SlotHead.ownership`.

    Parameters
    ----------
    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    name: str = "cluster"
    weight: float = 0.8

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the cost of each sample, (n,)."""
        own = module.head.ownership(_assignment(outputs, module)).T[target]
        return _smallest(outputs["costs"], own)


@dataclass(frozen=True)
class SlotSeparation:
    """Negative cost of the nearest prototype that the sample's class leaves out.

    Parameters
    ----------
    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    name: str = "separation"
    weight: float = 0.08

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the negative cost of each sample, (n,)."""
        own = module.head.ownership(_assignment(outputs, module)).T[target]
        return -_smallest(outputs["costs"], ~own)


class Mixup:
    r"""Mix the samples of a training batch in pairs.

    :math:`\lambda x_i + (1 - \lambda) x_{\pi(i)}` with one :math:`\lambda` from
    Beta(alpha, alpha) a batch. The pairs are kept for :class:`MixupCrossEntropy`,
    which belongs to the same batch.

    Parameters
    ----------
    alpha : float, default=0.5
        Larger values mix more evenly.

    augment : callable, default=None
        Changes the batch before.

    References
    ----------
    Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    """

    def __init__(self, alpha=0.5, augment=None):
        if not alpha > 0:
            raise ValueError(f"alpha must be a positive number, got {alpha!r}")
        self.alpha = alpha
        self.augment = augment
        self.share = 1.0
        self.partner: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the mixed batch, of the shape of `x`."""
        x = x if self.augment is None else self.augment(x)
        beta = torch.distributions.Beta(self.alpha, self.alpha)
        self.share = float(beta.sample())
        self.partner = torch.randperm(len(x)).to(x.device)
        return self.share * x + (1.0 - self.share) * x[self.partner]


@dataclass(frozen=True)
class MixupCrossEntropy:
    """Cross entropy with both targets of a mixed sample, by their shares.

    In evaluation mode, where nothing is mixed, it is the plain cross entropy.

    Parameters
    ----------
    mixup : Mixup
        What mixed the batch.

    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    mixup: Mixup
    name: str = "cross_entropy"
    weight: float = 1.0

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the loss of each sample, (n,)."""
        scores = outputs["scores"]
        loss = functional.cross_entropy(scores, target, reduction="none")
        if not module.training or self.mixup.partner is None:
            return loss
        other = target[self.mixup.partner]
        mixed = functional.cross_entropy(scores, other, reduction="none")
        return self.mixup.share * loss + (1.0 - self.mixup.share) * mixed
