"""Certified radii of winner-takes-all (LVQ) models.

All functions are vectorised over samples and pairs (own prototype, rival prototype),
work in float64 whatever the input, and cost ``O(n r M)`` memory for ``n`` samples,
``M`` prototypes and at most ``r`` prototypes per class. Results are rounded towards
zero, so that rounding cannot turn a radius into a wrong promise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from skproto.nn._certificate_pairs import EPS, ConceptPairs, concept_pairs, toward_zero


def hypothesis_margin(
    distances: Tensor,
    labels: Tensor,
    target: Tensor,
    *,
    lipschitz: float | Tensor = 1.0,
) -> Tensor:
    r"""Return half the gap between the nearest rival and the nearest own prototype.

    With a (semi)norm distance :math:`\delta` no perturbation that is smaller than
    :math:`\frac12(\delta^- - \delta^+)` in that same norm changes the label. When
    :math:`\delta_k` is :math:`s_k`-Lipschitz in another norm, the radius in that norm
    is :math:`\min_j \max_i (\delta_j - \delta_i) / (s_i + s_j)`.

    Parameters
    ----------
    distances : Tensor of shape (n, M)
        Metric distances (not squared), best computed in float64.

    labels : LongTensor of shape (M,)
        Class of each prototype.

    target : LongTensor of shape (n,)
        Class to keep: the prediction for a certificate, the true class for a loss.

    lipschitz : float or Tensor of shape (M,), default=1.0
        Lipschitz constant of the distances in the norm of the perturbation, common
        or one for each prototype. For local matrices and plain L2 this is the largest
        singular value of each matrix, see :func:`operator_norms`.

    Returns
    -------
    Tensor of shape (n,)
        Radius in float64, in the units of the norm; negative when another class
        is nearer. Differentiable.

    Raises
    ------
    ValueError
        See :func:`concept_pairs`.

    References
    ----------
    Saralajew, Holdijk, Villmann (2020). Fast Adversarial Robustness Certification of
    Nearest Prototype Classifiers for Arbitrary Seminorms. *NeurIPS* (global metric).
    The form for local metrics follows from the same triangle inequality.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.certificates import hypothesis_margin
    >>> distances = torch.tensor([[2.0, 13.0]], dtype=torch.float64).sqrt()
    >>> labels = torch.tensor([0, 1])
    >>> margin = hypothesis_margin(distances, labels, torch.tensor([0]))
    >>> round(float(margin), 6)
    1.095669
    """
    pairs = concept_pairs(labels, target)
    distances = distances.double()
    slope = torch.as_tensor(lipschitz).to(distances).expand(distances.shape[1])
    own = distances.gather(1, pairs.own)[:, :, None]
    gap = distances[:, None, :] - own
    gap = toward_zero(gap, 8 * EPS * (distances[:, None, :] + own))
    return _divide_worst(pairs, gap, slope[pairs.own][:, :, None] + slope)


def _divide_worst(pairs: ConceptPairs, gap: Tensor, speed: Tensor) -> Tensor:
    """Return the worst rival's gap / speed; 0 where nothing can move the gap."""
    fixed = speed <= 0
    ratio = torch.where(fixed, gap.sign(), gap / speed.masked_fill(fixed, 1.0))
    stuck = fixed & (gap != 0)
    ratio = torch.where(stuck, gap.detach().sign() * math.inf, ratio)
    return pairs.worst_rival(ratio)[0]


def convert_norm(
    radius: Tensor, n_features: int, model_norm: float, attack_norm: float
) -> Tensor:
    r"""Convert a radius in the model's :math:`L_p` norm to an :math:`L_q` attack.

    Parameters
    ----------
    radius : Tensor
        Radius in the norm of the model.

    n_features : int
        Number of features :math:`f`.

    model_norm : float
        The model's :math:`p \ge 1`, `math.inf` allowed.

    attack_norm : float
        The attacker's :math:`q \ge 1`, `math.inf` allowed.

    Returns
    -------
    Tensor
        `radius` if :math:`q \le p`, else `radius` times :math:`f^{1/q - 1/p}`.

    Raises
    ------
    ValueError
        If a norm is below 1.

    Examples
    --------
    >>> import math, torch
    >>> from skproto.nn.certificates import convert_norm
    >>> convert_norm(torch.tensor(1.0), 4, 2, math.inf)
    tensor(0.5000)
    """
    for name, value in (("model_norm", model_norm), ("attack_norm", attack_norm)):
        if not value >= 1:
            raise ValueError(f"{name} must be at least 1, got {value!r}.")
    if attack_norm <= model_norm:
        return radius
    return radius * n_features ** (1.0 / attack_norm - 1.0 / model_norm)


def operator_norms(omega: Tensor) -> Tensor:
    """Return the largest singular value of each matrix, never rounded down.

    Parameters
    ----------
    omega : Tensor of shape (..., l, f)
        One matrix or a stack of matrices.

    Returns
    -------
    Tensor of shape (...)
        Lipschitz constants of ``x -> omega @ x`` in plain L2, float64.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.certificates import operator_norms
    >>> round(float(operator_norms(torch.diag(torch.tensor([3.0, 1.0])))), 6)
    3.0
    """
    return torch.linalg.matrix_norm(omega.double(), ord=2) * (1 + 1e-12)


def bisector_radius(
    x: Tensor,
    prototypes: Tensor,
    labels: Tensor,
    target: Tensor,
    *,
    omega: Tensor | None = None,
    norm: float = 2.0,
) -> Tensor:
    r"""Return the distance to the nearest bisector that matters, in plain L2 or Lp.

    .. math::
        \rho = \min_{j: c_j \ne y} \max_{i: c_i = y}
               \frac{d_j - d_i}{2 \|\Lambda (w_j - w_i)\|_*},
        \qquad d_k = \|\Omega (x - w_k)\|^2, \quad \Lambda = \Omega^T \Omega

    with the norm that is dual to the one in which the sample is changed.

    Each quotient is the exact distance to the bisecting hyperplane of a pair. The
    radius is exact for one prototype in class :math:`y`, a lower bound otherwise, and
    never below the hypothesis margin.

    Parameters
    ----------
    x : Tensor of shape (n, f)
        Samples.

    prototypes : Tensor of shape (M, f)
        Prototypes.

    labels : LongTensor of shape (M,)
        Class of each prototype.

    target : LongTensor of shape (n,)
        Class to keep.

    omega : Tensor of shape (l, f) or (f,), default=None
        Linear map of GMLVQ, or the square roots of the relevances of GRLVQ; None for
        the Euclidean distance. One matrix for all prototypes: with local matrices the
        bisectors are curved, use :func:`hypothesis_margin` with `lipschitz`.

    norm : float, default=2.0
        The attacker's :math:`q \ge 1`, `math.inf` allowed.

    Returns
    -------
    Tensor of shape (n,)
        Radius in float64, in the units of `x`; negative when `target` does not win;
        0 when a rival coincides with the winner. Differentiable.

    Raises
    ------
    ValueError
        If `omega` is neither a vector nor a matrix, or `norm` is below 1; see also
        :func:`concept_pairs`.

    References
    ----------
    The order of the extrema (rival outside, own inside) is valid because every rival
    may be beaten by another own prototype; it is at least as large as the reverse.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.certificates import bisector_radius
    >>> prototypes = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    >>> x, labels = torch.tensor([[1.0, 1.0]]), torch.tensor([0, 1])
    >>> round(float(bisector_radius(x, prototypes, labels, labels[:1])), 6)
    1.1
    """
    pairs = concept_pairs(labels, target)
    x, prototypes = x.double(), prototypes.double()
    centre = prototypes.detach().mean(dim=0)
    z, w = _project(x - centre, omega), _project(prototypes - centre, omega)
    squared = ((z[:, None, :] - w) ** 2).sum(-1)
    speed = 2 * _pair_lengths(_project_back(w, omega), norm)
    gap = squared[:, None, :] - squared.gather(1, pairs.own)[:, :, None]
    reach = z.detach().norm(dim=1) + w.detach().norm(dim=1).amax()
    slack = 4 * EPS * (x.shape[1] + 8) * reach**2
    gap = toward_zero(gap, slack[:, None, None])
    return _divide_worst(pairs, gap, speed[pairs.own])


def _project(x: Tensor, omega: Tensor | None) -> Tensor:
    if omega is None:
        return x
    if omega.ndim == 1:
        return x * omega.double()
    if omega.ndim == 2:
        return x @ omega.double().T
    raise ValueError(
        "omega must be None, a vector (f,) or a matrix (l, f), got shape "
        f"{tuple(omega.shape)}."
    )


def _project_back(z: Tensor, omega: Tensor | None) -> Tensor:
    if omega is None:
        return z
    return z * omega.double() if omega.ndim == 1 else z @ omega.double()


def _pair_lengths(points: Tensor, norm: float) -> Tensor:
    """Return the pairwise distances (M, M) in the dual norm, never rounded down."""
    if not norm >= 1:
        raise ValueError(f"norm must be at least 1, got {norm!r}.")
    if norm == 2:
        return _pair_distances(points) * (1 + 1e-12)
    dual = math.inf if norm == 1 else 1 / (1 - 1 / norm)
    difference = points[:, None, :] - points
    return torch.linalg.vector_norm(difference, ord=dual, dim=-1) * (1 + 1e-12)


def _pair_distances(points: Tensor) -> Tensor:
    """Return exact pairwise distances (M, M) with a finite gradient at zero."""
    squared = ((points[:, None, :] - points) ** 2).sum(-1)
    same = squared <= 0
    return squared.masked_fill(same, 1.0).sqrt().masked_fill(same, 0.0)


def mixture_radius(
    log_mixtures: Tensor,
    prototypes: Tensor,
    labels: Tensor,
    target: Tensor,
    *,
    variance: float | Tensor,
    omega: Tensor | None = None,
    norm: float = 2.0,
) -> Tensor:
    r"""Return the certified radius of RSLVQ, in plain L2 or Lp.

    :math:`\log f_y - \log f_j` of two Gaussian class mixtures with a common variance
    is Lipschitz with constant
    :math:`\max_{k \in y, l \in j} \|\Lambda(w_k - w_l)\|_* / \sigma^2` in the norm
    whose dual is taken here.

    Parameters
    ----------
    log_mixtures : Tensor of shape (n, K)
        Logarithm of the (unnormalised) class mixtures
        :math:`f_c = \sum_{k \in c} \pi_k \exp(-d_k / 2\sigma^2)`, in log-sum-exp form,
        best in float64.

    prototypes : Tensor of shape (M, f)
        Prototypes.

    labels : LongTensor of shape (M,)
        Class of each prototype; every class from 0 to K - 1 owns at least one.

    target : LongTensor of shape (n,)
        Class to keep.

    variance : float or Tensor of shape ()
        Common :math:`\sigma^2` > 0.

    omega : Tensor of shape (l, f) or (f,), default=None
        Metric of MRSLVQ, as in :func:`bisector_radius`.

    norm : float, default=2.0
        The attacker's :math:`q \ge 1`, `math.inf` allowed.

    Returns
    -------
    Tensor of shape (n,)
        Radius in float64, in the units of `prototypes`; negative when `target` does
        not win. Equals the bisector radius for one prototype per class and equal
        priors. Differentiable.

    Raises
    ------
    ValueError
        See :func:`concept_pairs`.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.certificates import mixture_radius
    >>> prototypes, labels = torch.tensor([[0.0], [4.0]]), torch.tensor([0, 1])
    >>> log_mixtures = -torch.tensor([[1.0, 9.0]]).double() / 2  # a sample at 1
    >>> target = labels[:1]
    >>> radius = mixture_radius(log_mixtures, prototypes, labels, target, variance=1.0)
    >>> round(float(radius), 4)
    1.0
    """
    n_classes = log_mixtures.shape[1]
    classes = torch.arange(n_classes, device=labels.device)
    pairs = concept_pairs(classes, target)
    logs = log_mixtures.double()
    mapped = _project_back(_project(prototypes.double(), omega), omega)
    code = labels[:, None] * n_classes + labels
    speed = mapped.new_zeros(n_classes * n_classes).scatter_reduce(
        0, code.flatten(), _pair_lengths(mapped, norm).flatten(), "amax"
    )
    speed = speed.view(n_classes, n_classes)
    own = logs.gather(1, pairs.own)[:, :, None]
    gap = own - logs[:, None, :]
    gap = toward_zero(gap, 8 * EPS * (1 + own.abs() + logs.abs()[:, None, :]))
    return _divide_worst(pairs, gap * variance, speed[pairs.own])


def input_radius(radius: Tensor, scale: Tensor) -> Tensor:
    """Convert an L2 radius in scaled units to a guarantee in input units.

    Parameters
    ----------
    radius : Tensor of shape (n,)
        Radius for ``(x - center) / scale``.

    scale : Tensor of shape (f,)
        Positive scale of each feature.

    Returns
    -------
    Tensor of shape (n,)
        ``radius * scale.min()``: no L2 perturbation of the unscaled sample below it
        is longer than `radius` after scaling.

    Raises
    ------
    ValueError
        If a scale is not positive.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.certificates import input_radius
    >>> input_radius(torch.tensor([2.0]), torch.tensor([0.5, 4.0]))
    tensor([1.])
    """
    smallest = scale.min()
    if not bool(smallest > 0):
        raise ValueError(f"scale must be positive, got {float(smallest)!r}.")
    return radius * smallest.to(radius)
