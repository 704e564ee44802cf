"""Heads of part-prototype networks: class scores that add up over the prototypes.

A head is a module that a :class:`~skproto.nn.parts.PartPrototypeNetwork` calls with a
dict of what pooling found: "activations" (n, P), "dissimilarities" (n, P), the
kernel's distance of the winning site, and "mean_dissimilarities" (n, P) under focal
pooling. It returns a dict with "scores" (n, K) and whatever else is to be among the
outputs. Beside that it has

- ``contributions(outputs) -> (n, P, K)`` and ``bias`` (K,), which sum to the scores;
- ``tables() -> (weights (P, K), bias (K,))`` where the scores are linear in the
  activations;
- ``reset(ownership)``, which fills the start from the owners (P, K) of the prototypes;
- ``prototype_axes``: the axis of the prototypes in each tensor of its state;
- ``constrain_()``, called after each step of the optimiser;
- optionally ``bind(similarity)``, called once by the network, for heads that mix
  distances and need the kernel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from skproto.nn.heads import _operands
from skproto.nn.slots import SlotHead


class AdditiveHead(nn.Module, ABC):
    """Scores ``activations @ weights`` without a bias: the base of the heads here.

    Parameters
    ----------
    n_prototypes : int
        Number of prototypes P.

    n_classes : int
        Number of classes K.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import AdditiveHead, NonNegativeHead
    >>> head = NonNegativeHead(4, 2)
    >>> isinstance(head, AdditiveHead)
    True
    >>> head({"activations": torch.ones(3, 4)})["scores"].shape
    torch.Size([3, 2])
    """

    #: Axis of the prototypes in each tensor of the state dict.
    prototype_axes: Mapping[str, int] = {"weight": 0}
    weight: Tensor

    def __init__(self, n_prototypes, n_classes):
        super().__init__()
        self.n_prototypes = n_prototypes
        self.n_classes = n_classes

    def effective_weight(self) -> Tensor:
        """Weights (P, K) by which the activations are multiplied."""
        return self.weight

    @abstractmethod
    def reset(self, ownership: Tensor) -> None:
        """Fill the start from the owners (P, K), bool."""

    @property
    def bias(self) -> Tensor:
        """Zeros, (K,)."""
        return self.weight.new_zeros(self.n_classes)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Weights (P, K) and bias (K,)."""
        return self.effective_weight(), self.bias

    def constrain_(self) -> None:
        """Bring the parameters back into their domain after a step."""

    def forward(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the "scores" (n, K) of "activations" (n, P).

        Outside of training long sums are added up in float64, so that the scores
        are those of the contributions shown.
        """
        table = self.effective_weight()
        activations, table = _operands(parts["activations"], table, self)
        return {"scores": activations @ table}

    def contributions(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Return what each prototype adds to each class, (n, P, K).

        Parameters
        ----------
        outputs : dict of Tensor
            Holds "activations" (n, P).
        """
        return outputs["activations"][:, :, None] * self.effective_weight()


class ClassLinearHead(AdditiveHead):
    """A free linear layer that starts from the owners of the prototypes.

    Parameters
    ----------
    n_prototypes, n_classes : int
        Numbers P and K.

    incorrect_weight : float, default=-0.5
        Where the weights of all other classes start; those of the own class start at
        1.

    References
    ----------
    Chen et al., This Looks Like That, NeurIPS 2019.

    Examples
    --------
    >>> import torch
    >>> head = ClassLinearHead(2, 2)
    >>> head.reset(torch.eye(2, dtype=torch.bool))
    >>> head({"activations": torch.tensor([[9.0, 1.0]])})["scores"].tolist()
    [[8.5, -3.5]]
    """

    def __init__(self, n_prototypes, n_classes, incorrect_weight=-0.5):
        super().__init__(n_prototypes, n_classes)
        self.incorrect_weight = float(incorrect_weight)
        self.weight = nn.Parameter(torch.zeros(n_prototypes, n_classes))

    @torch.no_grad()
    def reset(self, ownership: Tensor) -> None:
        """Put 1 at the owners and the incorrect weight everywhere else."""
        self.weight.fill_(self.incorrect_weight).masked_fill_(ownership, 1.0)


class NonNegativeHead(AdditiveHead):
    """A linear layer of weights that are at least 0: prototypes only speak for.

    A weight at exactly 0 still has a gradient and may come back.

    Parameters
    ----------
    n_prototypes, n_classes : int
        Numbers P and K.

    Examples
    --------
    >>> import torch
    >>> head = NonNegativeHead(2, 2)
    >>> head.reset(torch.eye(2, dtype=torch.bool))
    >>> head({"activations": torch.tensor([[9.0, 1.0]])})["scores"].tolist()
    [[9.0, 1.0]]
    """

    def __init__(self, n_prototypes, n_classes):
        super().__init__(n_prototypes, n_classes)
        self.weight = nn.Parameter(torch.zeros(n_prototypes, n_classes))

    def effective_weight(self) -> Tensor:
        """Weights (P, K), at least 0."""
        return self.weight.clamp_min(0.0)

    @torch.no_grad()
    def reset(self, ownership: Tensor) -> None:
        """Put 1 at the owners and 0 everywhere else."""
        self.weight.copy_(ownership)

    @torch.no_grad()
    def constrain_(self) -> None:
        """Clip the weights at 0."""
        self.weight.clamp_min_(0.0)


class GroupedSoftmaxHead(AdditiveHead):
    r"""Score aggregation (SA): a weighted mean of a class's own prototypes, times m.

    :math:`s_c = \sum_{p \in c} m_c\,\mathrm{softmax}_{p \in c}(w)_p\, a_p` for the
    :math:`m_c` prototypes of class c. The factors are positive, sum to :math:`m_c`,
    and no prototype speaks for or against another class.

    Parameters
    ----------
    n_prototypes, n_classes : int
        Numbers P and K.

    Attributes
    ----------
    weight : Parameter of shape (P,)
        The w; all start at 1, which makes every factor 1.

    References
    ----------
    Huang et al., Evaluation and Improvement of Interpretability for Self-Explainable
    Part-Prototype Networks, ICCV 2023.

    Examples
    --------
    >>> import torch
    >>> head = GroupedSoftmaxHead(3, 1)
    >>> head.reset(torch.ones(3, 1, dtype=torch.bool))
    >>> with torch.no_grad():
    ...     head.weight.copy_(torch.tensor([0.0, 2.0, 0.0]).log1p())
    ...     head.effective_weight().T
    Parameter containing:
    tensor([0.0000, 1.0986, 0.0000], requires_grad=True)
    tensor([[0.6000, 1.8000, 0.6000]])
    """

    prototype_axes = {"weight": 0, "ownership": 0}
    ownership: Tensor

    def __init__(self, n_prototypes, n_classes):
        super().__init__(n_prototypes, n_classes)
        self.weight = nn.Parameter(torch.ones(n_prototypes))
        empty = torch.zeros(n_prototypes, n_classes, dtype=torch.bool)
        self.register_buffer("ownership", empty)

    @torch.no_grad()
    def reset(self, ownership: Tensor) -> None:
        """Give every prototype of a class the factor 1."""
        self.ownership.copy_(ownership)
        self.weight.fill_(1.0)

    def effective_weight(self) -> Tensor:
        """Factors (P, K); a class without prototypes has none."""
        owned = self.ownership
        logits = (
            self.weight[:, None].expand(owned.shape).masked_fill(~owned, -torch.inf)
        )
        top = logits.detach().amax(0).clamp_min(torch.finfo(logits.dtype).min)
        parts = (logits - top).exp()
        total = parts.sum(0)
        return parts * (owned.sum(0) / torch.where(total > 0, total, 1.0))


HEADS: dict[str, type[nn.Module]] = {
    "class_linear": ClassLinearHead,
    "grouped_softmax": GroupedSoftmaxHead,
    "nonneg": NonNegativeHead,
    "slots": SlotHead,
}


def make_head(name: str, n_prototypes: int, n_classes: int, **options: Any) -> Any:
    """Build a head by name.

    Parameters
    ----------
    name : {"class_linear", "grouped_softmax", "nonneg", "slots"}
        Which one.

    n_prototypes, n_classes : int
        Numbers P and K.

    **options : object
        Further parameters of the head.

    Returns
    -------
    head : Module
        What it does is said at the top of this file.

    Raises
    ------
    ValueError
        If there is no head of that name.
    """
    if name not in HEADS:
        raise ValueError(f"head must be one of {list(HEADS)}, got {name!r}")
    return HEADS[name](n_prototypes, n_classes, **options)
