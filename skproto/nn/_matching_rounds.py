"""Rounds of greedy matching: which part of a prototype goes to which site."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

#: Which sites are admissible after the first round, see :func:`greedy_match`.
ADJACENCIES = ("connected", "chain", None)
#: How a set of sites is found: best pair first, or the best set of all.
MATCHINGS = ("greedy", "exact")
#: Similarity of a part for which a sample has no site left.
UNPLACED = -1.0


def neighbour_table(n_sites, grid=None, radius=1, device=None) -> Tensor:
    """Tell which sites are next to each other.

    Parameters
    ----------
    n_sites : int
        Number of sites T.

    grid : tuple of int or None, default=None
        (rows, columns) of sites in row-major order; neighbours are within `radius` in
        the Chebyshev distance. None: sites on a line, neighbours within `radius`
        places.

    radius : int, default=1
        Largest distance of neighbours. Larger values allow parts further apart.

    device : torch.device or None, default=None
        Where the table is made.

    Returns
    -------
    table : Tensor of shape (T, T), bool
        Symmetric; a site is its own neighbour.

    Raises
    ------
    ValueError
        If `radius` is below 1 or the grid does not have `n_sites` cells.

    Examples
    --------
    >>> neighbour_table(9, (3, 3)).sum(1)
    tensor([4, 6, 4, 6, 9, 6, 4, 6, 4])
    """
    if radius < 1:
        raise ValueError(f"radius must be at least 1. Got {radius}.")
    if grid is not None and grid[0] * grid[1] != n_sites:
        raise ValueError(
            f"grid must have as many cells as there are sites, {n_sites}. "
            f"Got {tuple(grid)}."
        )
    place = torch.arange(n_sites, device=device)
    axes = [place] if grid is None else [place // grid[1], place % grid[1]]
    apart = torch.stack([(axis[:, None] - axis).abs() for axis in axes]).amax(0)
    return apart <= radius


@dataclass(frozen=True)
class MatchingRule:
    """What a matching may do.

    Parameters
    ----------
    adjacency : {"connected", "chain"} or None, default="connected"
        After the first round a part may take the neighbours of any site taken
        before ("connected"), of the site just taken ("chain"), or any site (None).

    neighbours : Tensor of shape (T, T), bool, or None, default=None
        Which sites are next to each other; None: all of them.

    part_mask : Tensor of shape (P, M), bool, or None, default=None
        Parts that are matched; None: all.

    site_mask : Tensor of shape (n, T), bool, or None, default=None
        Sites that exist; None: all.

    exact : bool, default=False
        Whether winning cosines are computed again from the difference of the two
        directions: exactly 1 where they are the same.

    matching : {"greedy", "exact"}, default="greedy"
        Whether the best free pair of part and site is taken first, or the sites with
        the largest sum of similarities. "exact" does not go with "chain".

    Examples
    --------
    >>> from skproto.nn import MatchingRule, neighbour_table
    >>> rule = MatchingRule("chain", neighbour_table(9, (3, 3)))
    >>> rule.adjacency, rule.neighbours.shape
    ('chain', torch.Size([9, 9]))
    """

    adjacency: str | None = "connected"
    neighbours: Tensor | None = None
    part_mask: Tensor | None = None
    site_mask: Tensor | None = None
    exact: bool = False
    matching: str = "greedy"

    def __post_init__(self):
        if self.adjacency not in ADJACENCIES:
            raise ValueError(
                f"adjacency must be one of {ADJACENCIES}. Got {self.adjacency!r}."
            )
        if self.matching not in MATCHINGS:
            raise ValueError(
                f"matching must be one of {MATCHINGS}. Got {self.matching!r}."
            )
        if self.matching == "exact" and self.adjacency == "chain":
            raise ValueError(
                "matching='exact' needs adjacency='connected' or None: a chain depends "
                "on the order in which parts are taken. Got adjacency='chain'."
            )

    def with_parts(self, part_mask: Tensor | None) -> MatchingRule:
        """Return the rule for the parts of a mask (P, M)."""
        return replace(self, part_mask=part_mask)

    def block(self, start: int, stop: int) -> MatchingRule:
        """Return the rule for the prototypes from `start` to before `stop`."""
        if self.part_mask is None:
            return self
        return self.with_parts(self.part_mask[start:stop])


def greedy_match(s: Tensor, rule: MatchingRule) -> tuple[Tensor, Tensor]:
    """Match parts to sites greedily: M rounds, the best free pair in each.

    Among equals the lowest site wins, then the lowest part. Where no admissible site
    is free, any free site is admissible for that round.

    Parameters
    ----------
    s : Tensor of shape (n, P, M, T)
        Similarity of every part to every site, finite. Carries no gradient.

    rule : MatchingRule
        Masks and adjacency.

    Returns
    -------
    similarities : Tensor of shape (n, P, M)
        Similarity of each part to its site; 0 for parts that the mask leaves out, -1
        for parts that find no site.

    sites : Tensor of shape (n, P, M), int64
        Site of each part, -1 where there is none.

    Notes
    -----
    O(n P M T) in each of the M rounds. Greedy is not optimal: a free one-to-one
    assignment may have a larger sum.

    References
    ----------
    Ma et al., Interpretable Image Classification with Adaptive Prototype-based Vision
    Transformers, NeurIPS 2024. "chain" is the paper's rule; with it a prototype may
    not find its own parts again, so "connected" is the default.

    Examples
    --------
    >>> import torch
    >>> s = torch.tensor([[0.9, 0.2, 0.8], [0.7, 0.1, 0.95]])[None, None]
    >>> near = MatchingRule("connected", neighbour_table(3))
    >>> greedy_match(s, near)
    (tensor([[[0.2000, 0.9500]]]), tensor([[[1, 2]]]))
    """
    with torch.no_grad():
        return match_rounds_(s.clone(), rule)


def match_rounds_(
    s: Tensor, rule: MatchingRule, slack: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Match as :func:`greedy_match` does; `s` is overwritten by -inf where taken.

    Numbers that are smaller than the largest by no more than `slack` are its equals.
    """
    values = torch.full_like(s[..., 0], UNPLACED)
    if rule.part_mask is not None:
        s.add_(torch.where(rule.part_mask, 0.0, -torch.inf)[..., None])
        values = values.masked_fill(~rule.part_mask, 0.0)
    sites = torch.full_like(values, -1, dtype=torch.int64)
    free = torch.ones_like(s[:, :, 0], dtype=torch.bool)
    if rule.site_mask is not None:
        free = free & rule.site_mask[:, None]
    parts, places = (torch.arange(size, device=s.device) for size in s.shape[2:])
    allowed: Tensor | None = None
    for number in range(1, s.shape[2] + 1):
        best = _admissible(torch.where(free, s.amax(2), -torch.inf), allowed)
        site, found = _first_largest(best, slack)
        index = site[..., None].expand(-1, -1, s.shape[2], -1)
        column = s.gather(3, index)[..., 0]
        won = (parts == _first_largest(column, slack)[0]) & found
        sites, values = torch.where(won, site, sites), torch.where(won, column, values)
        if number == s.shape[2]:
            break
        s.add_(torch.where(won, -torch.inf, 0.0)[..., None])
        free = free & (places != site)
        if rule.adjacency is not None and rule.neighbours is not None:
            near = rule.neighbours[site[..., 0]]
            if allowed is not None and rule.adjacency == "connected":
                near = near | allowed
            allowed = near
    return values, sites


def _first_largest(s: Tensor, slack: float) -> tuple[Tensor, Tensor]:
    """Place (n, P, 1) of the first number that is the largest, or nearly so.

    Also whether there is any, that is, whether not all are -inf.
    """
    largest = s.amax(2, keepdim=True)
    near = (s >= largest - slack).to(torch.uint8)
    return near.argmax(2, keepdim=True), largest != -torch.inf


def _admissible(best: Tensor, allowed: Tensor | None) -> Tensor:
    """Mask sites (n, P, T) that are not allowed, where any other is left."""
    if allowed is None:
        return best
    inside = torch.where(allowed, best, -torch.inf)
    stuck = inside.amax(2, keepdim=True) == -torch.inf
    return torch.where(stuck, best, inside)
