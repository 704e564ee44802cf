"""Envelope radius of kernel models: bisection, and implicit gradient for losses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from skproto.nn._certificate_pairs import EPS, ConceptPairs, concept_pairs
from skproto.nn._kernel_head import Evidence, KernelHead, evidence_of, pair_grid
from skproto.nn._kernel_ratio import (
    CERTIFY_SHIFT,
    TRAIN_SHIFT,
    bias_scale,
    exponents_of,
    log_scale,
    per_sample,
    rounding,
    weighted,
)

_SLOPE_FLOOR = 1e-4
_NEAR_LIMIT = 600.0  # sums of exp(600) stay finite in float64


@dataclass(frozen=True, eq=False)
class Envelope:
    """Lower bound of the score difference on a ball, for pairs turned by `sign`."""

    distances: Tensor
    head: KernelHead
    evidence: Evidence
    sign: Tensor
    pairs: ConceptPairs

    def margins(self, radius: Tensor, *, safe: bool) -> Tensor:
        """Return the (positively scaled) bound (n, r, M) at `radius` (n,)."""
        far, near, shift = _ball_detections(
            self.distances, radius, self.head, CERTIFY_SHIFT
        )
        e = self.evidence
        scale = per_sample(bias_scale(self.head, shift), e.gap)
        support, against = weighted(e.plus, far), weighted(e.minus, near)
        value = support - against + e.gap * scale
        if safe:
            mass = support + against + e.mass * scale
            value = value - per_sample(rounding(self.head, shift), mass) * mass
        return value

    def reduce(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Combine pairs: worst rival, best own, whichever way they are turned."""
        turned, own, rival = self.pairs.worst_rival(
            values * per_sample(self.sign, values)
        )
        return turned * self.sign, own, rival

    def bisect(self, low: Tensor, high: Tensor, n_steps: int, *, safe: bool) -> Tensor:
        """Return the lower end of the bracket of the root after `n_steps` halvings."""
        for _ in range(n_steps):
            middle = 0.5 * (low + high)
            keeps = self.reduce(self.margins(middle, safe=safe))[0] > 0
            low = torch.where(keeps, middle, low)
            high = torch.where(keeps, high, middle)
        return low


def _ball_detections(
    distances: Tensor, radius: Tensor, head: KernelHead, limit: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the smallest and largest detections in a ball, and their log scale.

    The scale makes the largest of the smallest 1. The cap on the others only matters
    where they outweigh all support anyway.
    """
    far = exponents_of(distances + radius[:, None], head)
    near = exponents_of((distances - radius[:, None]).clamp_min(0.0), head)
    shift = log_scale(far, head, limit)
    nearest = (shift[:, None] - near).clamp(max=_NEAR_LIMIT)
    return (shift[:, None] - far).exp(), nearest.exp(), shift


def make_envelope(distances: Tensor, head: KernelHead, pairs: ConceptPairs) -> Envelope:
    """Turn every sample's pairs so that the bound is not negative at radius 0."""
    grid = pair_grid(head, pairs, "envelope")
    forward = torch.ones_like(distances[:, 0])
    zero = torch.zeros_like(forward)
    upright = Envelope(distances, head, grid, forward, pairs)
    start, _, _ = upright.reduce(upright.margins(zero, safe=False))
    if bool((start >= 0).all()):
        return upright
    sign = torch.where(start < 0, -forward, forward)
    return Envelope(distances, head, grid.oriented(sign), sign, pairs)


def _root_bracket(envelope: Envelope) -> tuple[Tensor, Tensor]:
    """Return an upper end of the root, and where no root exists at all."""
    e, head = envelope.evidence, envelope.head
    support, against = e.plus.sum(-1), e.minus.sum(-1)
    limit = e.gap - against
    slack = EPS * (head.sigma.numel() + 8) * (support + against + e.mass)
    endless = envelope.reduce(limit - slack)[0] > 0
    ratio = support / torch.maximum(-limit, slack).clamp_min(1e-290)
    tail = head.sigma.amax() * ratio.clamp_min(1.0).log()
    tail = envelope.reduce(tail if head.power == 1 else tail.sqrt())[0]
    return envelope.distances.amax(dim=1) + 1.001 * tail, endless


def safe_envelope(
    distances: Tensor,
    head: KernelHead,
    pairs: ConceptPairs,
    closed: Tensor,
    n_steps: int,
) -> Tensor:
    """Return the certified envelope radius (n,), starting at the `closed` one."""
    envelope = make_envelope(distances, head, pairs)
    high, endless = _root_bracket(envelope)
    low = (closed * envelope.sign).clamp_min(0.0)
    root = envelope.bisect(low, torch.maximum(low, high), n_steps, safe=True)
    return envelope.sign * root.masked_fill(endless, math.inf)


def envelope_radius(
    distances: Tensor,
    head: KernelHead,
    target: Tensor,
    *,
    max_radius: float | None = None,
    n_steps: int = 25,
) -> Tensor:
    r"""Return the signed envelope radius for a loss, by implicit differentiation.

    The forward pass bisects :math:`F`; the backward pass uses
    :math:`d\rho = -dF/\partial_\epsilon F` at the root, so that its graph has the size
    of one pair (n, P). Where `target` loses, the pair is swapped and the sign is
    negative.

    Parameters
    ----------
    distances : Tensor of shape (n, P)
        Metric distances (not squared) to the components.

    head : KernelHead
        Any head; its tensors may require gradients.

    target : LongTensor of shape (n,)
        True class.

    max_radius : float, default=None
        The result stays within plus or minus this value, where the gradient still
        points the right way. None: the distance to the farthest component plus
        :math:`(10\,\sigma_{max})^{1/q}`, beyond which the model hardly changes.

    n_steps : int, default=25
        Halvings of the bracket, before one Newton step within what is left of it.

    Returns
    -------
    Tensor of shape (n,)
        Signed radius in the dtype of `distances`, always finite. Slopes of :math:`F`
        below 1e-4 of the pair's weight per width are raised to it, which bounds the
        gradient.

    Raises
    ------
    ValueError
        If `max_radius` is not positive, or a class owns no concept.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.certificates import KernelHead, envelope_radius
    >>> weights = torch.tensor([[1.5, -1.0], [-0.5, 2.0]])
    >>> bias = torch.tensor([0.1, -0.2])
    >>> head = KernelHead.from_weights(weights, bias, torch.tensor(2.0), power=1)
    >>> distances = torch.tensor([[1.0, 3.0]], requires_grad=True)
    >>> radius = envelope_radius(distances, head, torch.tensor([0]))
    >>> round(float(radius.detach()), 5)
    1.32476
    >>> bool(torch.autograd.grad(radius.sum(), distances)[0].isfinite().all())
    True
    """
    if max_radius is not None and not max_radius > 0:
        raise ValueError(f"max_radius must be positive, got {max_radius!r}.")
    dtype = distances.dtype
    distances, head = distances.double(), head.double()
    pairs = concept_pairs(head.labels, target)
    with torch.no_grad():
        envelope = make_envelope(distances, head, pairs)
        zero = torch.zeros_like(envelope.sign)
        high = _saturation(distances, head) if max_radius is None else max_radius + zero
        margin = envelope.reduce(envelope.margins(high, safe=False))[0]
        root = envelope.bisect(zero, high, n_steps, safe=False)
        root = torch.where(margin > 0, high, root)
        width = torch.where(margin > 0, zero, high * 0.5**n_steps)
        _, own, rival = envelope.reduce(envelope.margins(root, safe=False))
    evidence = evidence_of(head, own, rival, "envelope").oriented(envelope.sign)
    return (envelope.sign * _newton(distances, head, evidence, root, width)).to(dtype)


def _saturation(distances: Tensor, head: KernelHead) -> Tensor:
    width = 10.0 * head.sigma.amax()
    return distances.amax(dim=1) + (width if head.power == 1 else width.sqrt())


def _newton(
    distances: Tensor, head: KernelHead, evidence: Evidence, root: Tensor, width: Tensor
) -> Tensor:
    """Return `root` (n,) after one Newton step, whose gradient is the implicit one.

    The step itself stays within the bracket, `width` (n,); its gradient does not.
    """
    far, near, shift = _ball_detections(distances, root, head, TRAIN_SHIFT)
    scale = bias_scale(head, shift)
    value = (evidence.plus * far).sum(-1) - (evidence.minus * near).sum(-1)
    value = value + evidence.gap * scale
    with torch.no_grad():
        outer = distances + root[:, None]
        inner = (distances - root[:, None]).clamp_min(0.0)
        rate_far = (1.0 if head.power == 1 else 2 * outer) / head.sigma
        rate_near = (inner > 0 if head.power == 1 else 2 * inner) / head.sigma
        slope = (evidence.plus * far * rate_far).sum(-1)
        slope = slope + (evidence.minus * near * rate_near).sum(-1)
        scale = scale / head.sigma.amax() ** (1.0 / head.power)
        mass = (evidence.plus + evidence.minus).sum(-1) * scale
        slope = torch.maximum(slope, _SLOPE_FLOOR * mass).clamp_min(1e-12)
        step = torch.minimum((value / slope).clamp_min(0.0), width)
    return root + step + (value - value.detach()) / slope
