"""Head of an additive kernel classifier, and its evidence for pairs of concepts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from skproto.nn._certificate_pairs import ConceptPairs


@dataclass(frozen=True, eq=False)
class KernelHead:
    """Weights and widths of an additive kernel classifier.

    Build it by :meth:`from_reasoning` (CBC, convex RBF) or :meth:`from_weights`
    (free RBF head).

    Attributes
    ----------
    weights : Tensor of shape (P, M)
        Weight of each detection for each concept.

    bias : Tensor of shape (M,) or None
        Score without any detection; None for none.

    sigma : Tensor of shape (P,)
        Positive kernel widths.

    labels : LongTensor of shape (M,)
        Class of each concept, counted from 0.

    power : {1, 2}
        Exponent of the distance in the kernel.

    positive, negative : Tensor of shape (P, M) or None
        Non-negative reasoning tables, needed by "theorem" only.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.certificates import KernelHead
    >>> positive = torch.tensor([[0.6, 0.1], [0.0, 0.6]])
    >>> negative = torch.tensor([[0.0, 0.2], [0.4, 0.1]])
    >>> head = KernelHead.from_reasoning(positive, negative, torch.tensor(2.0))
    >>> head.weights.shape, head.power
    (torch.Size([2, 2]), 2)
    """

    weights: Tensor
    bias: Tensor | None
    sigma: Tensor
    labels: Tensor
    power: int = 2
    positive: Tensor | None = None
    negative: Tensor | None = None

    def __post_init__(self) -> None:
        """Check the sizes."""
        if self.power not in (1, 2):
            raise ValueError(f"power must be 1 or 2, got {self.power!r}.")
        n_components, n_concepts = self.weights.shape
        expected = {
            "sigma": (n_components,),
            "labels": (n_concepts,),
            "bias": (n_concepts,),
            "negative": (n_components, n_concepts),
        }
        for name, shape in expected.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise ValueError(
                    f"{name} must have shape {shape}, got {tuple(value.shape)}."
                )

    @classmethod
    def from_reasoning(
        cls,
        positive: Tensor,
        negative: Tensor | None,
        sigma: Tensor,
        *,
        labels: Tensor | None = None,
        power: int = 2,
    ) -> KernelHead:
        """Build the head of a CBC (or, without `negative`, of a convex RBF network).

        Parameters
        ----------
        positive : Tensor of shape (P, M)
            Weight of the presence of each component, non-negative.

        negative : Tensor of shape (P, M) or None
            Weight of its absence, non-negative; None for no negative reasoning.

        sigma : Tensor of shape (P,) or ()
            Kernel widths, own or shared.

        labels : LongTensor of shape (M,), default=None
            Class of each concept; None for one concept per class in order.

        power : {1, 2}, default=2
            Exponent of the distance in the kernel.

        Returns
        -------
        KernelHead
            Weights ``positive - negative``, bias ``negative.sum(0)``.

        Raises
        ------
        ValueError
            If sizes do not fit or `power` is neither 1 nor 2.
        """
        head = cls.from_weights(
            positive if negative is None else positive.double() - negative.double(),
            None if negative is None else negative.double().sum(dim=0),
            sigma,
            labels=labels,
            power=power,
        )
        return dataclasses.replace(head, positive=positive, negative=negative)

    @classmethod
    def from_weights(
        cls,
        weights: Tensor,
        bias: Tensor | None,
        sigma: Tensor,
        *,
        labels: Tensor | None = None,
        power: int = 2,
    ) -> KernelHead:
        """Build the head of an RBF network with free weights.

        Parameters
        ----------
        weights : Tensor of shape (P, M)
            Weight of each detection for each concept (or class).

        bias : Tensor of shape (M,) or None
            Bias of each concept.

        sigma : Tensor of shape (P,) or ()
            Kernel widths, own or shared.

        labels : LongTensor of shape (M,), default=None
            Class of each concept; None for one concept per class in order.

        power : {1, 2}, default=2
            Exponent of the distance in the kernel.

        Returns
        -------
        KernelHead
            Head for the methods "closed" and "envelope".

        Raises
        ------
        ValueError
            If sizes do not fit or `power` is neither 1 nor 2.
        """
        if labels is None:
            labels = torch.arange(weights.shape[1], device=weights.device)
        if sigma.ndim == 0:
            sigma = sigma.expand(weights.shape[0])
        return cls(weights, bias, sigma, labels, power)

    def double(self) -> KernelHead:
        """Return the head in float64 (differentiable).

        Returns
        -------
        KernelHead
            The same head, floating point tensors in float64.
        """
        return KernelHead(
            self.weights.double(),
            _double(self.bias),
            self.sigma.double(),
            self.labels,
            self.power,
            _double(self.positive),
            _double(self.negative),
        )


def _double(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.double()


@dataclass(frozen=True, eq=False)
class Evidence:
    """Non-negative weights for and against concept i versus j.

    ``plus`` and ``minus`` have shape (n, ..., P), ``gap`` and ``mass`` (n, ...);
    ``p_i - p_j = plus @ d - minus @ d + gap`` and ``mass`` bounds the two biases.
    """

    plus: Tensor
    minus: Tensor
    gap: Tensor
    mass: Tensor

    def oriented(self, sign: Tensor) -> Evidence:
        """Swap i and j where `sign` (n,) is negative."""
        shape = (-1,) + (1,) * (self.gap.ndim - 1)
        sign = sign.view(shape)
        forward = (sign > 0)[..., None]
        return Evidence(
            torch.where(forward, self.plus, self.minus),
            torch.where(forward, self.minus, self.plus),
            self.gap * sign,
            self.mass,
        )


def evidence_of(head: KernelHead, own: Tensor, rival: Tensor, method: str) -> Evidence:
    """Gather the evidence of the concepts `own` against `rival` (broadcast)."""
    if method == "theorem":
        positive, negative = head.positive, head.negative
        if positive is None:
            raise ValueError(
                "method='theorem' needs non-negative reasoning tables; build the head "
                "by KernelHead.from_reasoning or use method='closed' or 'envelope'."
            )
        if negative is None:
            negative = torch.zeros_like(positive)
        plus = positive.T[own] + negative.T[rival]
        minus = negative.T[own] + positive.T[rival]
    else:
        difference = head.weights.T[own] - head.weights.T[rival]
        plus, minus = difference.relu(), (-difference).relu()
    if head.bias is None:
        zero = plus.new_zeros(plus.shape[:-1])
        return Evidence(plus, minus, zero, zero)
    ours, theirs = head.bias[own], head.bias[rival]
    return Evidence(plus, minus, ours - theirs, ours.abs() + theirs.abs())


def pair_grid(head: KernelHead, pairs: ConceptPairs, method: str) -> Evidence:
    """Gather the evidence of all pairs, shape (n, r, M[, P])."""
    rival = torch.arange(head.labels.numel(), device=head.labels.device)
    return evidence_of(head, pairs.own[:, :, None], rival, method)
