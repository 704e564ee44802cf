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

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import rival_scores
    >>> rival_scores(torch.tensor([[0.2, 0.7, 0.1]]), torch.tensor([1]))
    (tensor([0.7000]), tensor([0.2000]))
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

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import MarginLoss
    >>> outputs = {"scores": torch.tensor([[0.6, 0.4], [0.9, 0.1]])}
    >>> MarginLoss(margin=0.3)(outputs, torch.tensor([0, 0]), module=None)
    tensor([0.1000, 0.0000])
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

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import CrossEntropy
    >>> outputs = {"scores": torch.tensor([[2.0, 0.0]])}
    >>> CrossEntropy()(outputs, torch.tensor([0]), module=None)
    tensor([0.1269])
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

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import NegativeLogLikelihood
    >>> outputs = {"log_scores": torch.tensor([[0.6, 0.2]]).log()}
    >>> NegativeLogLikelihood()(outputs, torch.tensor([0]), module=None)  # -log(3 / 4)
    tensor([0.2877])
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

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import RBFNetwork, RobustLoss
    >>> network = RBFNetwork(2, 3, 2, "convex").double()
    >>> outputs = network(torch.zeros(4, 3).double())
    >>> RobustLoss(margin=0.5)(outputs, torch.tensor([0, 0, 1, 1]), network).shape
    torch.Size([4])
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

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import Penalty
    >>> ridge = Penalty(lambda module: module.weight.square().sum(), "ridge", 0.1)
    >>> module = torch.nn.Linear(2, 1)
    >>> _ = torch.nn.init.ones_(module.weight)
    >>> ridge(outputs=None, target=None, module=module).item()
    2.0
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
