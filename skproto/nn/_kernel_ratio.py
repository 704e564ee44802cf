"""Closed-form radii of kernel models, as certificates and as losses."""

from __future__ import annotations

import torch
from torch import Tensor

from skproto.nn._certificate_pairs import EPS, ConceptPairs, concept_pairs
from skproto.nn._kernel_head import Evidence, KernelHead, evidence_of, pair_grid

CERTIFY_SHIFT = 300.0  # exp(300) squared is still finite in float64
TRAIN_SHIFT = 20.0  # keeps the gradient of a bias below exp(20) per unit
_CERTIFY_FLOOR = 1e-60
_TRAIN_FLOOR = 1e-12


def weighted(weights: Tensor, detections: Tensor) -> Tensor:
    """Sum weights (n, ..., P) times detections (n, P) over the components."""
    if weights.numel() == 0:
        return weights.sum(dim=-1)
    flat = weights.reshape(weights.shape[0], -1, weights.shape[-1])
    return torch.bmm(flat, detections[:, :, None]).view(weights.shape[:-1])


def per_sample(value: Tensor, like: Tensor) -> Tensor:
    return value.view((-1,) + (1,) * (like.ndim - 1))


def exponents_of(distances: Tensor, head: KernelHead) -> Tensor:
    return (distances if head.power == 1 else distances**2) / head.sigma


def log_scale(exponents: Tensor, head: KernelHead, limit: float) -> Tensor:
    """Return the log scale (n,) by which detections and bias are multiplied.

    Signs and roots do not depend on it, and far samples do not underflow.
    """
    shift = exponents.detach().amin(dim=1)
    return shift if head.bias is None else shift.clamp(max=limit)


def rounding(head: KernelHead, shift: Tensor) -> Tensor:
    """Return the rounding error (n,) of a score difference per sum of its terms.

    An exponent below 745 + shift (smaller detections are 0) is itself rounded.
    """
    return EPS * (head.sigma.numel() + 800 + 4 * shift)


def bias_scale(head: KernelHead, shift: Tensor) -> Tensor:
    return torch.ones_like(shift) if head.bias is None else shift.exp()


def _log_zeta(
    distances: Tensor, head: KernelHead, evidence: Evidence, *, safe: float = 0.0
) -> Tensor:
    r"""Return the logarithm of the positive root of C/z - A z + B, signed.

    It is odd in the pair (i, j) and has the sign of the margin C - A + B. With
    `safe` > 0 the margin is reduced by that many bounds of its rounding error.
    """
    exponents = exponents_of(distances, head)
    shift = log_scale(exponents, head, CERTIFY_SHIFT if safe else TRAIN_SHIFT)
    detections = (shift[:, None] - exponents).exp()
    support = weighted(evidence.plus, detections)
    against = weighted(evidence.minus, detections)
    scale = per_sample(bias_scale(head, shift), support)
    gap = evidence.gap * scale
    margin = support - against + gap
    sign = torch.where(margin < 0, -1.0, 1.0).to(margin)
    slack = support + against + evidence.mass * scale
    slack = safe * per_sample(rounding(head, shift), slack) * slack.detach()
    floor = _CERTIFY_FLOOR if safe else _TRAIN_FLOOR
    a = torch.where(sign > 0, against, support).clamp_min(floor)
    b = sign * gap - slack
    m = (sign * margin - slack).clamp_min(0.0)
    # z - 1 = (sqrt(u^2 + 4 a m) - u) / (2 a) with u = 2 a - b, without cancellation
    u = 2 * a - b
    root = (u**2 + 4 * a * m).clamp_min(1e-300).sqrt()
    inside = u > 0
    near = 2 * m / (torch.where(inside, u, 1.0) + root)
    growth = torch.where(inside, near, (root - u) / (2 * a))
    return sign * growth.log1p()


def _ratio_radius(
    log_zeta: Tensor, distances: Tensor, head: KernelHead, method: str
) -> Tensor:
    """Turn sigma_min * log(zeta) (n,) into a radius (n,), odd in `log_zeta`."""
    reach = head.sigma.amin() * log_zeta
    if head.power == 1:
        return reach
    factor = 3.0 if method == "theorem" else 1.0
    far = distances.amax(dim=1).clamp_min(1e-12)
    return reach / (far + (far**2 + factor * reach.abs()).sqrt())


def _differentiable_ratio(
    distances: Tensor, head: KernelHead, target: Tensor, method: str
) -> Tensor:
    dtype = distances.dtype
    distances, head = distances.double(), head.double()
    pairs = concept_pairs(head.labels, target)
    with torch.no_grad():
        grid = _log_zeta(distances, head, pair_grid(head, pairs, method))
        _, own, rival = pairs.worst_rival(grid)
    log_zeta = _log_zeta(distances, head, evidence_of(head, own, rival, method))
    return _ratio_radius(log_zeta, distances, head, method).to(dtype)


def theorem_radius(distances: Tensor, head: KernelHead, target: Tensor) -> Tensor:
    r"""Return the radius of the published theorem, differentiable.

    With :math:`A = \sum_k (R^-_{ki} + R^+_{kj}) d_k`,
    :math:`C = \sum_k (R^+_{ki} + R^-_{kj}) d_k`, :math:`B = b_i - b_j` and the positive
    root :math:`z` of :math:`C/z - A z + B`, the radius is
    :math:`R = \sigma_{min} \ln z` for q = 1 and
    :math:`-D/3 + \sqrt{D^2/9 + R/3}`, :math:`D = \max_k \delta_k`, for q = 2.

    Parameters
    ----------
    distances : Tensor of shape (n, P)
        Metric distances (not squared) to the components.

    head : KernelHead
        Head with reasoning tables; not for free weights.

    target : LongTensor of shape (n,)
        Class to keep: the true class in a robust loss.

    Returns
    -------
    Tensor of shape (n,)
        Signed radius in the dtype of `distances`: negative when `target` loses, where
        it is minus the radius of the swapped pair. (The authors' code leaves a
        negative :math:`R` as it is for q = 2, which mixes two scales.)

    Raises
    ------
    ValueError
        If the head has no reasoning tables, or a class owns no concept.

    References
    ----------
    Saralajew, Rana, Villmann, Shaker (2025). A Robust Prototype-Based Network with
    Interpretable RBF Classifier Foundations. *AAAI*.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.certificates import KernelHead, theorem_radius
    >>> positive = torch.tensor([[0.6, 0.1], [0.0, 0.6]])
    >>> negative = torch.tensor([[0.0, 0.2], [0.4, 0.1]])
    >>> head = KernelHead.from_reasoning(positive, negative, torch.tensor(2.0), power=1)
    >>> distances = torch.tensor([[1.0, 3.0]])
    >>> round(float(theorem_radius(distances, head, torch.tensor([0]))), 5)
    0.8441
    """
    return _differentiable_ratio(distances, head, target, "theorem")


def closed_radius(distances: Tensor, head: KernelHead, target: Tensor) -> Tensor:
    r"""Return the theorem's radius after cancelling common evidence, differentiable.

    With :math:`v_k = g_{ki} - g_{kj}`, :math:`A = \sum_k \max(-v_k, 0) d_k` and
    :math:`C = \sum_k \max(v_k, 0) d_k`; for q = 2 the radius is
    :math:`-D + \sqrt{D^2 + R}`. Defined for any weights and bias, never below
    :func:`theorem_radius` where that is defined and positive.

    Parameters
    ----------
    distances : Tensor of shape (n, P)
        Metric distances (not squared) to the components.

    head : KernelHead
        Any head.

    target : LongTensor of shape (n,)
        Class to keep.

    Returns
    -------
    Tensor of shape (n,)
        Signed radius in the dtype of `distances`, negative when `target` loses.

    Raises
    ------
    ValueError
        If a class owns no concept.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.certificates import KernelHead, closed_radius
    >>> positive = torch.tensor([[0.6, 0.1], [0.0, 0.6]])
    >>> negative = torch.tensor([[0.0, 0.2], [0.4, 0.1]])
    >>> head = KernelHead.from_reasoning(positive, negative, torch.tensor(2.0), power=1)
    >>> distances, target = torch.tensor([[1.0, 3.0]]), torch.tensor([0])
    >>> float(closed_radius(distances, head, target)) > 0.844  # the theorem's radius
    True
    """
    return _differentiable_ratio(distances, head, target, "closed")


def safe_ratio(
    distances: Tensor, head: KernelHead, pairs: ConceptPairs, method: str
) -> Tensor:
    """Return the "theorem" or "closed" radius, rounded towards zero.

    The theorem is rounded more, so that rounding cannot break the order of the two.
    """
    safe = 4.0 if method == "theorem" else 1.0
    grid = _log_zeta(distances, head, pair_grid(head, pairs, method), safe=safe)
    radius = _ratio_radius(pairs.worst_rival(grid)[0], distances, head, method)
    return radius * (1 - safe * 16 * EPS * (head.sigma.numel() + 8))
