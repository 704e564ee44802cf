"""Exact matching: the best admissible set of sites instead of the greedy one."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import permutations, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skproto.nn._matching_rounds import UNPLACED, MatchingRule, match_rounds_

#: Connected sets of sites that are tried.
MAX_SETS = 200_000
#: Similarities that are held at a time, about.
_MAX_NUMBERS = 2**22


@lru_cache(maxsize=16)
def _connected_sets(table: bytes, n_sites: int, size: int) -> NDArray[np.int64]:
    near = np.frombuffer(table, dtype=bool).reshape(n_sites, n_sites)
    sets = np.arange(n_sites)[:, None]
    for _ in range(size - 1):
        beside = np.logical_or.reduce(near[sets], axis=1)
        beside[np.arange(len(sets))[:, None], sets] = False
        row, site = beside.nonzero()
        if len(row) > size * MAX_SETS:
            return np.empty((0, size), dtype=np.int64)
        sets = np.unique(np.sort(np.column_stack([sets[row], site]), axis=1), axis=0)
    return sets if len(sets) <= MAX_SETS else np.empty((0, size), dtype=np.int64)


def connected_sets(neighbours: Tensor, size: int) -> Tensor:
    """Return all connected sets of sites of a size, in lexical order.

    Parameters
    ----------
    neighbours : Tensor of shape (T, T), bool
        Which sites are next to each other.

    size : int
        Number of sites in a set.

    Returns
    -------
    sets : Tensor of shape (C, size), int64

    Raises
    ------
    ValueError
        If there are more than 200,000.

    Examples
    --------
    >>> from skproto.nn._matching_rounds import neighbour_table
    >>> connected_sets(neighbour_table(4), 2).tolist()
    [[0, 1], [1, 2], [2, 3]]
    """
    table = neighbours.cpu().numpy()
    found = _connected_sets(table.tobytes(), len(table), size)
    if not len(found) and size <= len(table):
        raise ValueError(
            f"Exact matching tries every connected set of sites; of {size} among "
            f"{len(table)} there are more than {MAX_SETS:,}. Use greedy matching, "
            "fewer parts or a smaller radius."
        )
    return torch.from_numpy(found).to(neighbours.device)


@torch.no_grad()
def exact_match(
    s: Tensor, rule: MatchingRule, slack: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Match parts to the sites with the largest sum of similarities.

    Every part gets a site of its own; with adjacency "connected" the sites are a
    connected set. Among equals the first set wins. Where no set is admissible, as when
    a mask leaves sites apart, the parts are matched greedily.

    Parameters
    ----------
    s : Tensor of shape (n, P, M, T)
        Similarity of every part to every site; -inf throughout for parts that are left
        out.

    rule : MatchingRule
        Masks and adjacency, "connected" or None.

    slack : float, default=0.0
        Sums that are smaller than the largest by no more than this are its equals.

    Returns
    -------
    similarities, sites : Tensors of shape (n, P, M)
        As of :func:`~skproto.nn.matching.greedy_match`.

    Notes
    -----
    Without adjacency a part takes one of its M best sites, for at most M - 1 are taken
    by others: M ** M choices. Else all connected sets of M sites are tried in every
    order, about 20 T sets for three parts on a grid, 110 T for four.

    Examples
    --------
    >>> import torch
    >>> s = torch.tensor([[[[1.0, 0.9], [0.95, 0.1]]]])
    >>> exact_match(s, MatchingRule(None))
    (tensor([[[0.9000, 0.9500]]]), tensor([[[1, 0]]]))
    """
    on = s.amax(3) > -torch.inf
    if rule.part_mask is not None:
        on = on & rule.part_mask
    if rule.site_mask is not None:
        s = s.masked_fill(~rule.site_mask[:, None, None], -torch.inf)
    rows, on = s.flatten(0, 1), on.flatten(0, 1)
    values = torch.where(on, UNPLACED, 0.0).to(s.dtype)
    sites = torch.full_like(values, -1, dtype=torch.int64)
    counts = on.sum(1)
    for size in range(1, s.shape[2] + 1):
        index = (counts == size).nonzero()[:, 0]
        parts = on[index].byte().argsort(dim=1, descending=True, stable=True)[:, :size]
        chosen = rows[index].gather(1, parts[..., None].expand(-1, -1, s.shape[3]))
        found, places = _best(chosen, rule, slack)
        values[index] = values[index].scatter(1, parts, found)
        sites[index] = sites[index].scatter(1, parts, places)
    lost = values == -torch.inf
    values, sites = (t.unflatten(0, s.shape[:2]) for t in (values, sites))
    if lost.any():
        off = ~on.view_as(values)[..., None]
        again = match_rounds_(s.masked_fill(off, -torch.inf), rule.with_parts(None))
        either = lost.any(1).view(*s.shape[:2], 1) & on.view_as(values)
        values = torch.where(either, again[0], values)
        sites = torch.where(either, again[1], sites)
    return values, sites


def _best(s: Tensor, rule: MatchingRule, slack: float) -> tuple[Tensor, Tensor]:
    """Match all parts of rows (r, m, T); -inf where no set is admissible."""
    n_parts = s.shape[1]
    find: Callable[[Tensor, Tensor, float], Tensor]
    if not len(s):
        return s[:, :, 0], torch.zeros_like(s[:, :, 0], dtype=torch.int64)
    if rule.adjacency is None or rule.neighbours is None:
        find, each = _best_free, n_parts ** (n_parts + 1)
        table = s.new_tensor(list(product(range(n_parts), repeat=n_parts))).long()
    else:
        table = connected_sets(rule.neighbours, n_parts)
        find, each = _best_connected, n_parts * n_parts * len(table)
    size = max(1, _MAX_NUMBERS // each)
    found = [find(part, table, slack) for part in s.split(size)]
    sites = torch.cat(found)
    return s.gather(2, sites[..., None])[..., 0], sites


def _best_free(s: Tensor, choices: Tensor, slack: float) -> Tensor:
    """Sites (r, m) of the best choice among the m best sites of each part."""
    n_parts = s.shape[1]
    top, place = s.topk(min(n_parts, s.shape[2]), dim=2)
    part = torch.arange(n_parts, device=s.device)
    places = place[:, part, choices]  # (r, C, m)
    total = top[:, part, choices].sum(2)
    ordered = places.sort(2).values
    twice = (ordered[..., 1:] == ordered[..., :-1]).any(2)
    best = _first_largest(total.masked_fill(twice, -torch.inf), slack)
    return places[torch.arange(len(s), device=s.device), best]


def _best_connected(s: Tensor, sets: Tensor, slack: float) -> Tensor:
    """Sites (r, m) of the best set, in the best order of its sites."""
    n_parts = s.shape[1]
    values = s[:, :, sets]  # (r, m, C, m)
    orders = list(permutations(range(n_parts)))
    totals = torch.stack(
        [
            torch.stack([values[:, k, :, at] for k, at in enumerate(order)]).sum(0)
            for order in orders
        ],
        dim=2,
    )
    best = _first_largest(totals.flatten(1), slack)
    order = torch.tensor(orders, device=s.device)[best % math.factorial(n_parts)]
    return sets[best // math.factorial(n_parts)].gather(1, order)


def _first_largest(total: Tensor, slack: float) -> Tensor:
    """Position (r,) of the first of the largest sums (r, C)."""
    largest = total.amax(1, keepdim=True)
    return (total >= largest - slack).byte().argmax(1)
