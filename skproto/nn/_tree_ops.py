"""Pure tensor functions of the prototype tree: kernels, routing, leaves.

Right means "present" (probability p), left means "absent" (1 - p). Everything that
multiplies probabilities works in log space.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from skproto.nn._tree_distances import root
from skproto.nn._tree_structure import TreeStructure

#: Largest value of -log2 p; beyond it p is 0 in any float format, and the derivative
#: of the power would overflow.
_MAX_EXPONENT = 1e30
#: Below this -log p the left branch counts as impossible: log(1 - p) is -inf.
_MIN_EXPONENT = 1e-30
#: Bound of |log r|, far outside every useful radius, so that r^-2 stays finite.
_MAX_LOG_RADIUS = 30.0
#: Least share, as a logarithm, that counts in a sum: far below the precision of floats,
#: but large enough that products with it are normal numbers, which are fast.
_MIN_LOG_SHARE = -60.0


class Decisions(NamedTuple):
    """Soft decisions of the inner nodes, each of shape (n, n_inner).

    Attributes
    ----------
    right : Tensor
        Probability p of "present".
    log_right : Tensor
        log p.
    log_left : Tensor
        log(1 - p), -inf where p is exactly 1.
    """

    right: Tensor
    log_right: Tensor
    log_left: Tensor


def log_complement(exponent: Tensor) -> Tensor:
    """Return log(1 - exp(-exponent)), stable, with finite gradients everywhere.

    Parameters
    ----------
    exponent : Tensor
        Not negative; at or under 1e-30 the result is -inf with gradient 0.

    Returns
    -------
    log_complement : Tensor
        Same shape, not positive.
    """
    inside = exponent.clamp_min(_MIN_EXPONENT)
    result = torch.log(-torch.expm1(-inside))
    return result.masked_fill(exponent <= _MIN_EXPONENT, -math.inf)


def radius_kernel(squared: Tensor, log_radius: Tensor, sharpness: float) -> Decisions:
    r"""Decide by :math:`p = 2^{-(d/r)^\beta}`: one half exactly at d = r.

    Parameters
    ----------
    squared : Tensor of shape (n, N)
        Squared distances.
    log_radius : Tensor of shape (N,)
        log r.
    sharpness : float
        Beta; larger values make the decision harder around the radius.

    Returns
    -------
    decisions : Decisions
        Computed from the squared distance, hence smooth at 0 for sharpness >= 2.
    """
    bits = _bits(squared, log_radius, sharpness)
    exponent = math.log(2) * bits
    return Decisions(torch.exp2(-bits), -exponent, log_complement(exponent))


def bounded(log_radius: Tensor) -> Tensor:
    """Return the log radii that count: those of float32 distances."""
    return log_radius.clamp(-_MAX_LOG_RADIUS, _MAX_LOG_RADIUS)


def _bits(squared: Tensor, log_radius: Tensor, sharpness: float) -> Tensor:
    """Return (d / r)^sharpness, which is -log2 of the presence."""
    log_radius = bounded(log_radius)
    power = sharpness / 2
    limit = min(_MAX_EXPONENT ** (1 / power), _MAX_EXPONENT)
    ratio = (squared * torch.exp(-2 * log_radius)).clamp(max=limit)
    if power == 2:
        return ratio.square()
    if power >= 1:
        return ratio.pow(power)
    # The derivative of the power is infinite at 0.
    positive = ratio > 0
    return torch.where(positive, torch.where(positive, ratio, 1.0).pow(power), 0.0)


def exp_kernel(squared: Tensor) -> Decisions:
    """Decide by the paper's p = exp(-d).

    Parameters
    ----------
    squared : Tensor of shape (n, N)
        Squared distances.

    Returns
    -------
    decisions : Decisions
        As in Nauta et al. 2021, equation 2.
    """
    d = root(squared)
    return Decisions(torch.exp(-d), -d, log_complement(d))


def presence(squared: Tensor, log_radius: Tensor | None, sharpness: float) -> Tensor:
    """Return the probability of "present" alone.

    Parameters
    ----------
    squared : Tensor of shape (n, N)
        Squared distances.
    log_radius : Tensor of shape (N,) or None
        log r; None stands for the paper's kernel.
    sharpness : float
        Beta of the radius kernel.

    Returns
    -------
    right : Tensor of shape (n, N)
        Equal to `right` of :func:`radius_kernel` or :func:`exp_kernel`.
    """
    if log_radius is None:
        return torch.exp(-root(squared))
    return _bits(squared, log_radius, sharpness).neg_().exp2_()


class LevelRouter(nn.Module):
    """Route probabilities down a tree of any shape, one vector step a level.

    Parameters
    ----------
    structure : TreeStructure
        The tree. Inner nodes of one level are neighbours among the prototypes, and
        their children are exactly the next level, so a level needs no more than the
        choice of its inner nodes, and none where all are.
    """

    def __init__(self, structure: TreeStructure) -> None:
        super().__init__()
        self._sizes: list[int] = []
        for number, (start, stop) in enumerate(structure.levels):
            is_inner = structure.prototype[start:stop] >= 0
            for name, chosen in (("inner", is_inner), ("leaf", ~is_inner)):
                index = torch.from_numpy(np.flatnonzero(chosen))
                self.register_buffer(f"{name}_{number}", index, persistent=False)
            self._sizes.append(int(is_inner.sum()))
        self._n_leaves = structure.n_leaves

    def forward(self, log_left: Tensor, log_right: Tensor) -> Tensor:
        """Return the log probability of reaching each leaf.

        Parameters
        ----------
        log_left, log_right : Tensor of shape (n, n_inner)
            Log probabilities of the two decisions at each inner node.

        Returns
        -------
        log_path : Tensor of shape (n, n_leaves)
            Leaves in breadth-first order.
        """
        edges = torch.stack((log_left, log_right), dim=2).split(self._sizes, dim=1)
        level = log_left.new_zeros(log_left.shape[0], 1)
        leaves = []
        for number, (size, edge) in enumerate(zip(self._sizes, edges, strict=True)):
            if size < level.shape[1]:
                leaf = self.get_buffer(f"leaf_{number}")
                leaves.append(level.index_select(1, leaf) if size else level)
                level = level.index_select(1, self.get_buffer(f"inner_{number}"))
            level = (level.unsqueeze(2) + edge).flatten(1)
        return leaves[0] if len(leaves) == 1 else torch.cat(leaves, dim=1)

    @torch.no_grad()
    def multiply(self, right: Tensor) -> Tensor:
        """Return the probability of reaching each leaf, without logarithms.

        Parameters
        ----------
        right : Tensor of shape (n, n_inner)
            Probability of "present" at each inner node.

        Returns
        -------
        path : Tensor of shape (n, n_leaves)
            Rows sum to 1; products under the smallest float are 0. A transposed view,
            without gradients.
        """
        n = len(right)
        edges = right.T.contiguous().split(self._sizes)
        path = right.new_empty(self._n_leaves, n)
        unfilled, level = path, right.new_ones(1, n)
        for number, (size, edge) in enumerate(zip(self._sizes, edges, strict=True)):
            if size < len(level):
                leaf = self.get_buffer(f"leaf_{number}")
                torch.index_select(level, 0, leaf, out=unfilled[: len(leaf)])
                unfilled = unfilled[len(leaf) :]
                level = level.index_select(0, self.get_buffer(f"inner_{number}"))
            if not size:
                break
            # Children that all are leaves go where they belong at once.
            children = unfilled
            if self._sizes[number + 1]:
                children = right.new_empty(2 * size, n)
            present = torch.mul(level, edge, out=children[1::2])
            torch.sub(level, present, out=children[::2])
            if children is unfilled:
                break
            level = children
        return path.T


def greedy_leaves(structure: TreeStructure, right: Tensor) -> Tensor:
    """Walk down each sample's tree, right where p > 0.5, left otherwise.

    Parameters
    ----------
    structure : TreeStructure
        The tree.
    right : Tensor of shape (n, n_inner)
        Probabilities of "present"; exactly 0.5 goes left.

    Returns
    -------
    leaf : Tensor of shape (n,), int64
        Position of the leaf in which each sample ends.
    """

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(right.device)

    ids = np.arange(structure.n_nodes)
    ended = np.asarray(structure.is_leaf)
    left_child = tensor(np.where(ended, ids, structure.children_left))
    right_child = tensor(np.where(ended, ids, structure.children_right))
    prototype = tensor(structure.prototype.clip(0))
    node = torch.zeros(len(right), dtype=torch.int64, device=right.device)
    for _ in range(structure.depth):
        p = right.gather(1, prototype[node].unsqueeze(1)).squeeze(1)
        node = torch.where(p > 0.5, right_child[node], left_child[node])
    return tensor(structure.leaf)[node]


def mix_smoothed(log_path: Tensor, leaves: Tensor) -> Tensor:
    """Log class probabilities by one matrix product, for leaves bounded away from 0.

    The likeliest of 2^h paths has at least probability 2^-h, so taking it out leaves
    a sum that cannot vanish as long as every leaf probability is representable.

    Parameters
    ----------
    log_path : Tensor of shape (n, L)
        Log path probabilities.
    leaves : Tensor of shape (L, K)
        Class probabilities, all positive.

    Returns
    -------
    log_scores : Tensor of shape (n, K)
        Log of ``sum_l pi_l leaves_lk``.
    """
    top = log_path.detach().amax(dim=1, keepdim=True)
    shares = torch.exp((log_path - top).clamp_min(_MIN_LOG_SHARE))
    return torch.log(shares @ leaves) + top


def mix_log(log_path: Tensor, log_leaves: Tensor) -> Tensor:
    """Log class probabilities by log-sum-exp, for leaves of any magnitude.

    Parameters
    ----------
    log_path : Tensor of shape (n, L)
        Log path probabilities.
    log_leaves : Tensor of shape (L, K)
        Log class probabilities, finite.

    Returns
    -------
    log_scores : Tensor of shape (n, K)
        The same as :func:`mix_smoothed`; needs memory for n L K numbers.
    """
    return torch.logsumexp(log_path.unsqueeze(2) + log_leaves, dim=1)


def normalised_leaves(counts: Tensor, smoothing: float) -> Tensor:
    """Log class probabilities of leaves that hold expected class counts.

    Parameters
    ----------
    counts : Tensor of shape (L, K)
        Expected number of samples of each class.
    smoothing : float
        Laplace count added to each class; 0 gives the maximum likelihood, and an
        empty leaf is uniform.

    Returns
    -------
    log_leaves : Tensor of shape (L, K)
        Finite; zeros are floored at the smallest normal number.
    """
    mass = counts + smoothing
    total = mass.sum(dim=1, keepdim=True)
    mass = torch.where(total > 0, mass, 1.0)
    p = mass / mass.sum(dim=1, keepdim=True)
    return p.clamp_min(torch.finfo(p.dtype).tiny).log()


def expected_counts(
    log_path: Tensor,
    log_leaves: Tensor,
    target: Tensor,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Sum the expected class counts of the leaves: E step and paper's batch sum.

    Parameters
    ----------
    log_path : Tensor of shape (n, L)
        Log path probabilities.
    log_leaves : Tensor of shape (L, K)
        Current log class probabilities of the leaves.
    target : Tensor of shape (n,), int64
        Class positions.
    sample_weight : Tensor of shape (n,) or None
        Weight of each sample; 0 is the same as leaving it out.

    Returns
    -------
    counts : Tensor of shape (L, K)
        ``sum_x pi_l(x) leaf_l,y / yhat_y(x)`` in the column of each sample's class y;
        the sum over leaves is the number of samples of each class. Additive, so that
        batches with unchanged leaves can be added up.
    """
    shares = responsibilities(log_path, log_leaves, target)
    if sample_weight is not None:
        shares = shares * sample_weight.unsqueeze(1)
    onehot = one_hot(target, log_leaves.shape[1]).to(shares.dtype)
    return shares.T @ onehot


def responsibilities(log_path: Tensor, log_leaves: Tensor, target: Tensor) -> Tensor:
    """Posterior of the leaf given the sample and its class.

    Parameters
    ----------
    log_path : Tensor of shape (n, L)
        Log path probabilities.
    log_leaves : Tensor of shape (L, K)
        Log class probabilities of the leaves, finite.
    target : Tensor of shape (n,), int64
        Class positions.

    Returns
    -------
    shares : Tensor of shape (n, L)
        Rows sum to 1; what would be below 1e-26 is 0.
    """
    shares = torch.softmax(log_path + log_leaves.T[target], dim=1)
    return shares.masked_fill(shares < math.exp(_MIN_LOG_SHARE), 0.0)
