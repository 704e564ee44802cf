r"""Certified radii of kernel models (RBF networks, Classification-by-Components).

A model scores concept :math:`m` by :math:`p_m(x) = \sum_k g_{km} d_k(x) + b_m` with
detections :math:`d_k = \exp(-\delta_k^q / \sigma_k)` and a metric distance
:math:`\delta_k` to component :math:`k`. For own concept :math:`i` and rival :math:`j`
three lower bounds of the distance to :math:`p_i = p_j` are offered, each at least as
large as the one before: "theorem", "closed" and "envelope". The radius of a class is
the minimum over rivals :math:`j` of the maximum over own concepts :math:`i`.

Certificates are computed in float64 and rounded down, so pass distances that were
computed in float64 too (a distance error of at most :math:`\eta` costs at most
:math:`\eta` of the radius). Memory is ``O(n r P M)`` for ``n`` samples, ``P``
components, ``M`` concepts and ``r`` concepts per class: chunk the samples by
:func:`rows_per_chunk`. Winner-takes-all (LVQ) certificates are re-exported here.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from skproto.nn._certificate_pairs import concept_pairs
from skproto.nn._kernel_envelope import envelope_radius, safe_envelope
from skproto.nn._kernel_head import KernelHead
from skproto.nn._kernel_ratio import closed_radius, safe_ratio, theorem_radius
from skproto.nn._lvq_certificates import (
    bisector_radius,
    convert_norm,
    hypothesis_margin,
    input_radius,
    mixture_radius,
    operator_norms,
)

__all__ = [
    "KernelHead",
    "bisector_radius",
    "certified_radius",
    "closed_radius",
    "convert_norm",
    "envelope_radius",
    "hypothesis_margin",
    "input_radius",
    "mixture_radius",
    "operator_norms",
    "rows_per_chunk",
    "theorem_radius",
]

Method = Literal["theorem", "closed", "envelope"]


@torch.no_grad()
def certified_radius(
    distances: Tensor,
    head: KernelHead,
    target: Tensor,
    *,
    method: Method = "envelope",
    n_steps: int = 50,
) -> Tensor:
    r"""Return a radius within which the class provably does not change.

    The "envelope" is the root of the decreasing function

    .. math::
        F_{ij}(\epsilon) = \sum_k v_k^+ e^{-(\delta_k+\epsilon)^q/\sigma_k}
        - \sum_k v_k^- e^{-\max(\delta_k-\epsilon, 0)^q/\sigma_k} + b_i - b_j

    Parameters
    ----------
    distances : Tensor of shape (n, P)
        Metric distances (not squared) to the components, best computed in float64.

    head : KernelHead
        Head of the model.

    target : LongTensor of shape (n,)
        Class to keep: the prediction for a certificate.

    method : {"theorem", "closed", "envelope"}, default="envelope"
        "theorem" is the published formula (:func:`theorem_radius`), "closed" cancels
        common evidence first (:func:`closed_radius`), "envelope" uses the own width of
        every component. Their results never decrease in this order.

    n_steps : int, default=50
        Halvings of the bracket for "envelope".

    Returns
    -------
    Tensor of shape (n,)
        Radius in float64 in the units of `distances` and the norm behind them; 0 at a
        tie, negative when `target` loses (then its size bounds the distance within
        which `target` keeps losing), infinite when nothing can change the class.

    Raises
    ------
    ValueError
        If `method` is unknown, a width is not positive, a distance is negative, or
        for "theorem" a table is missing or negative.

    References
    ----------
    Saralajew, Rana, Villmann, Shaker (2025). A Robust Prototype-Based Network with
    Interpretable RBF Classifier Foundations. *AAAI* ("theorem"). The other two are
    refinements of its proof.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.certificates import KernelHead, certified_radius
    >>> positive = torch.tensor([[0.6, 0.1], [0.0, 0.6]], dtype=torch.float64)
    >>> negative = torch.tensor([[0.0, 0.2], [0.4, 0.1]], dtype=torch.float64)
    >>> head = KernelHead.from_reasoning(positive, negative, torch.tensor(2.0))
    >>> distances, target = torch.tensor([[1.0, 3.0]]), torch.tensor([0])
    >>> round(float(certified_radius(distances, head, target)), 6)
    1.16512
    >>> round(float(certified_radius(distances, head, target, method="theorem")), 6)
    0.346927
    """
    _check_values(distances, head, method)
    distances, head = distances.double(), head.double()
    pairs = concept_pairs(head.labels, target)
    if method == "theorem":
        return safe_ratio(distances, head, pairs, "theorem")
    closed = safe_ratio(distances, head, pairs, "closed")
    if method == "closed":
        return closed
    return safe_envelope(distances, head, pairs, closed, n_steps)


def _check_values(distances: Tensor, head: KernelHead, method: str) -> None:
    if method not in ("theorem", "closed", "envelope"):
        raise ValueError(
            "method must be 'theorem', 'closed' or 'envelope', got " + f"{method!r}."
        )
    if distances.ndim != 2 or distances.shape[1] != head.sigma.numel():
        raise ValueError(
            f"distances must have shape (n, {head.sigma.numel()}), got "
            f"{tuple(distances.shape)}."
        )
    if not bool((head.sigma > 0).all()):
        raise ValueError(f"sigma must be positive, got {float(head.sigma.min())!r}.")
    if bool((distances < 0).any()):
        raise ValueError(
            f"distances must not be negative, got {float(distances.min())!r}."
        )
    if method == "theorem":
        for name, table in (("positive", head.positive), ("negative", head.negative)):
            if table is not None and bool((table < 0).any()):
                raise ValueError(
                    f"{name} must not be negative for method='theorem', got "
                    f"{float(table.min())!r}."
                )


def rows_per_chunk(head: KernelHead, *, n_own: int = 1, max_bytes: int = 2**26) -> int:
    """Return how many samples to certify at once within a memory budget.

    Parameters
    ----------
    head : KernelHead
        Head of the model.

    n_own : int, default=1
        Largest number of concepts of one class.

    max_bytes : int, default=2**26
        Budget for the temporary tensors of one call, in bytes.

    Returns
    -------
    int
        Number of samples, at least 1.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.certificates import KernelHead, rows_per_chunk
    >>> positive = torch.tensor([[0.6, 0.1], [0.4, 0.9]])
    >>> head = KernelHead.from_reasoning(positive, None, torch.tensor(2.0))
    >>> rows_per_chunk(head) > rows_per_chunk(head, max_bytes=1000)
    True
    """
    n_components, n_concepts = head.weights.shape
    return max(1, max_bytes // (5 * 8 * n_own * n_components * n_concepts))
