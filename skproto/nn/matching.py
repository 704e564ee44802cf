"""Greedy matching of a prototype's parts to the sites of a sample.

A prototype is a set of M parts. In M rounds the most similar pair of a free part and a
free site is taken; sites may have to lie next to those taken before. All samples and
prototypes are matched at once, a block of prototypes at a time, so that the
similarities of all parts to all sites never exist together.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from skproto.nn._exact_matching import exact_match
from skproto.nn._matching_rounds import (
    ADJACENCIES,
    MATCHINGS,
    MatchingRule,
    greedy_match,
    match_rounds_,
    neighbour_table,
)

__all__ = [
    "ADJACENCIES",
    "MATCHINGS",
    "MatchingRule",
    "cosines",
    "exact_match",
    "greedy_match",
    "match_pairs",
    "match_parts",
    "neighbour_table",
    "prototype_blocks",
    "unit",
]

#: Numbers that the similarities of one block of prototypes may hold, about.
_BLOCK_NUMBERS = 2**20
#: Cosines that differ by no more count as equal: the error of a product in float32
#: must not decide between two sites with the same token.
_SLACK = 1e-6
#: Vectors up to this length have no direction.
_MIN_NORM = 1e-12


def unit(v: Tensor) -> Tensor:
    """Scale vectors to length 1; a vector of zeros stays so, with gradient 0.

    Parameters
    ----------
    v : Tensor of shape (..., D)
        Vectors.

    Returns
    -------
    u : Tensor of shape (..., D)
        Directions; at least float32.

    Examples
    --------
    >>> import torch
    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    v = v.to(torch.promote_types(v.dtype, torch.float32))
    norm = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    scale = norm.clamp_min(_MIN_NORM).reciprocal()
    return v * scale.masked_fill(norm <= _MIN_NORM, 0.0)


def match_parts(z: Tensor, p: Tensor, rule: MatchingRule) -> tuple[Tensor, Tensor]:
    """Match the parts of prototypes to sites by cosine, in little memory.

    The sites are found without a gradient, a block of prototypes at a time. The
    gradient runs through the winning cosines alone.

    Parameters
    ----------
    z : Tensor of shape (n, T, D)
        Directions of the sites, see :func:`unit`.

    p : Tensor of shape (P, M, D)
        Directions of the parts.

    rule : MatchingRule
        Masks, adjacency and precision.

    Returns
    -------
    similarities, sites : Tensors of shape (n, P, M)
        As of :func:`greedy_match`. Cosines that differ by at most 1e-6 count as
        equal when the sites are chosen.

    Notes
    -----
    Holds about 2 ** 20 similarities at a time, or those of one prototype where these
    are more, instead of n P M T.

    Examples
    --------
    >>> import torch
    >>> z = unit(torch.tensor([[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]]))
    >>> match_parts(z, z[:, :2], MatchingRule(exact=True))
    (tensor([[[1., 1.]]]), tensor([[[0, 1]]]))
    """
    if torch.is_grad_enabled() and (z.requires_grad or p.requires_grad):
        return _apply_winners(z, p, rule)
    with torch.no_grad():
        return _find(z, p, rule)


@torch.no_grad()
def match_pairs(
    z: Tensor, p: Tensor, part_mask: Tensor, rule: MatchingRule
) -> tuple[Tensor, Tensor]:
    """Match one prototype to each sample, without a gradient.

    Parameters
    ----------
    z : Tensor of shape (n, T, D)
        Directions of the sites.

    p : Tensor of shape (n, M, D)
        Directions of the parts of the prototype of each sample.

    part_mask : Tensor of shape (n, M), bool
        Parts that are matched.

    rule : MatchingRule
        Adjacency and site mask.

    Returns
    -------
    similarities, sites : Tensors of shape (n, M)
        As of :func:`match_parts`.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.matching import MatchingRule, match_pairs
    >>> z = torch.eye(3)[None]
    >>> mask = torch.ones(1, 2, dtype=torch.bool)
    >>> match_pairs(z, z[:, 1:], mask, MatchingRule(None))
    (tensor([[1., 1.]]), tensor([[1, 2]]))
    """
    s = torch.bmm(p, z.transpose(1, 2)).masked_fill_(~part_mask[..., None], -torch.inf)
    values, sites = _match_(s[:, None], rule.with_parts(None))
    return values[:, 0].masked_fill(~part_mask, 0.0), sites[:, 0]


def _find(z: Tensor, p: Tensor, rule: MatchingRule) -> tuple[Tensor, Tensor]:
    """Match block by block in full precision, without a gradient."""
    if torch.is_autocast_enabled(z.device.type):
        with torch.autocast(z.device.type, enabled=False):
            return _find(z, p, rule)
    found = [
        _find_block(z, p[start:stop], rule.block(start, stop))
        for start, stop in prototype_blocks(z, p)
    ]
    values, sites = zip(*found, strict=True)
    return torch.cat(values, 1), torch.cat(sites, 1)


def prototype_blocks(z: Tensor, p: Tensor) -> list[tuple[int, int]]:
    """Blocks of prototypes (start, stop) whose similarities fit into the budget.

    Parameters
    ----------
    z : Tensor of shape (n, T, D)
        Sites.

    p : Tensor of shape (P, M, D)
        Parts.

    Returns
    -------
    blocks : list of (int, int)
        One block while the model is exported, where the batch has no size.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.matching import prototype_blocks
    >>> len(prototype_blocks(torch.zeros(2, 9, 4), torch.zeros(20, 3, 4)))
    1
    """
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    if exporting():
        return [(0, len(p))]
    each = z.shape[0] * p.shape[1] * max(z.shape[1], z.shape[2])
    size = max(1, _BLOCK_NUMBERS // max(1, each))
    return [(start, start + size) for start in range(0, max(1, len(p)), size)]


def cosines(z: Tensor, p: Tensor) -> Tensor:
    """Cosine of every part and site, by one product.

    Parameters
    ----------
    z : Tensor of shape (n, T, D)
        Directions of the sites.

    p : Tensor of shape (P, M, D)
        Directions of the parts.

    Returns
    -------
    s : Tensor of shape (n, P, M, T)
        Cosines; the sites are next to each other in memory.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.matching import cosines
    >>> cosines(torch.eye(2)[None], torch.eye(2)[None, :1])
    tensor([[[[1., 0.]]]])
    """
    products = p.flatten(0, 1) @ z.flatten(0, 1).T
    products = products.unflatten(0, p.shape[:2]).unflatten(2, z.shape[:2])
    return products.permute(2, 0, 1, 3)


def _match_(s: Tensor, rule: MatchingRule) -> tuple[Tensor, Tensor]:
    """Match by similarities (n, P, M, T), which may be overwritten."""
    find = exact_match if rule.matching == "exact" else match_rounds_
    return find(s, rule, _SLACK)


def _find_block(z: Tensor, p: Tensor, rule: MatchingRule) -> tuple[Tensor, Tensor]:
    """Match one block of prototypes."""
    values, sites = _match_(cosines(z, p), rule)
    if not rule.exact:
        return values, sites
    winners = z.gather(
        1, sites.clamp_min(0).flatten(1)[..., None].expand(-1, -1, z.shape[2])
    ).unflatten(1, p.shape[:2])
    # Lengths are 1, or 0 for vectors without a direction.
    lengths = winners.square().sum(-1).round() + p.square().sum(-1).round()
    exact = 0.5 * (lengths - (winners - p).square().sum(-1))
    return torch.where(sites < 0, values, exact), sites


class _Winners(torch.autograd.Function):
    """Winning cosines, with the gradient of nothing but these."""

    @staticmethod
    def forward(ctx, z, p, rule):
        values, sites = _find(z, p, rule)
        ctx.save_for_backward(z, p, sites)
        ctx.mark_non_differentiable(sites)
        return values, sites

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, _):
        z, p, sites = ctx.saved_tensors
        n_sites = z.shape[1]
        weight = gradient.masked_fill(sites < 0, 0.0).flatten(1)
        first = torch.arange(len(z), device=z.device)[:, None] * n_sites
        rows = sites.clamp_min(0).flatten(1) + first
        by_site, by_part = ctx.needs_input_grad[:2]
        return (
            _sum_by_site(rows, weight, z, p) if by_site else None,
            _weighted_sum(rows.T, weight.T, z).view_as(p) if by_part else None,
            None,
        )


def _weighted_sum(rows: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    """Sum rows of a table (..., D), chosen and weighted by (m, n), to (m, D)."""
    return functional.embedding_bag(
        rows.contiguous(),
        table.flatten(0, 1),
        per_sample_weights=weight.contiguous(),
        mode="sum",
    )


def _sum_by_site(rows: Tensor, weight: Tensor, z: Tensor, p: Tensor) -> Tensor:
    """Weighted sum of the parts that each site won, shape of `z`."""
    order = rows.flatten().argsort(stable=True)
    counts = torch.bincount(rows.flatten(), minlength=z.shape[0] * z.shape[1])
    total = functional.embedding_bag(
        order % rows.shape[1],
        p.flatten(0, 1),
        counts.cumsum(0) - counts,
        per_sample_weights=weight.flatten()[order],
        mode="sum",
    )
    return total.view_as(z)


@torch.compiler.disable
def _apply_winners(z: Tensor, p: Tensor, rule: MatchingRule) -> tuple[Tensor, Tensor]:
    """Apply the function; it is not traced, so that it keeps to its memory."""
    return _Winners.apply(z, p, rule)
