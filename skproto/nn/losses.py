"""Named loss terms.

A term has a `name`, a `weight` and a call ``term(outputs, target, module)``, where
`outputs` is what the module's forward returned and `target` holds class codes. It
returns one value per sample, which the net averages with the sample weights, or a
scalar penalty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from skproto.nn.certificates import envelope_radius, theorem_radius


def rival_scores(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Score of the target class and the largest score of any other class.

    Parameters
    ----------
    scores : Tensor of shape (n, K)
        Class scores.

    target : LongTensor of shape (n,)
        Class codes.

    Returns
    -------
    own, other : Tensors of shape (n,)
        Score of the target, largest score among the other classes.
    """
    own = scores.gather(1, target[:, None]).squeeze(1)
    is_target = functional.one_hot(target, scores.shape[1]).bool()
    return own, scores.masked_fill(is_target, -torch.inf).amax(1)


@dataclass(frozen=True)
class MarginLoss:
    r"""Hinge on the lead of the target class: :math:`\max(0, \beta - p_y + p_j)`.

    Parameters
    ----------
    margin : float
        The lead :math:`\beta` that is asked for.

    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    margin: float
    name: str = "margin"
    weight: float = 1.0

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the hinge of each sample, (n,)."""
        own, other = rival_scores(outputs["scores"], target)
        return functional.relu(self.margin - own + other)


@dataclass(frozen=True)
class CrossEntropy:
    """Negative log likelihood under the softmax of the scores.

    Parameters
    ----------
    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    name: str = "cross_entropy"
    weight: float = 1.0

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the loss of each sample, (n,)."""
        return functional.cross_entropy(outputs["scores"], target, reduction="none")


@dataclass(frozen=True)
class NegativeLogLikelihood:
    r"""Negative log likelihood of the normalised agreements :math:`p_y / \sum p`.

    Parameters
    ----------
    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    name: str = "nll"
    weight: float = 1.0

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the loss of each sample, (n,)."""
        log_scores = outputs["log_scores"]
        return functional.cross_entropy(log_scores, target, reduction="none")


@dataclass(frozen=True)
class RobustLoss:
    r"""Hinge on the certified radius of the true class: :math:`\max(0, \beta - \rho)`.

    The radius is negative where the true class loses.

    Parameters
    ----------
    margin : float
        The radius :math:`\beta` that is asked for.

    certificate : {"envelope", "theorem"}
        How the radius is computed: the tight bound, by implicit gradients, or the
        published formula.

    name, weight : str, float
        Name in the history, factor in the total loss.

    References
    ----------
    Saralajew et al., AAAI 2025 ("theorem").
    """

    margin: float
    certificate: str = "envelope"
    name: str = "robust"
    weight: float = 1.0

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the hinge of each sample, (n,)."""
        radius = envelope_radius if self.certificate == "envelope" else theorem_radius
        rho = radius(outputs["distances"], module.kernel_head(), target)
        return functional.relu(self.margin - rho)


@dataclass(frozen=True)
class Penalty:
    """A scalar penalty on the module's parameters.

    Parameters
    ----------
    function : callable
        Takes the module, returns a scalar tensor.

    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    function: Callable[[nn.Module], Tensor]
    name: str
    weight: float

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the penalty, a scalar."""
        return self.function(module)


def mean_entropy(table: Tensor) -> Tensor:
    """Return the mean entropy (nats) of the columns of a table of probabilities."""
    tiny = torch.finfo(table.dtype).tiny
    return -(table * table.clamp_min(tiny).log()).sum(0).mean()
