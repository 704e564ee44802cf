"""Projection of prototypes that are sets of parts: every part a token of one sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from skproto.nn.matching import MatchingRule, greedy_match, match_pairs, unit
from skproto.nn.part_sets import PartSetNetwork

#: Part similarities from here on are those of the very token.
_SAME = 1.0 - 1e-5
#: How often the places of a set are looked for again.
_SETTLE_ROUNDS = 8


@dataclass(frozen=True)
class PartSetSources:
    """Where projected prototypes come from.

    Parameters
    ----------
    rows : Tensor of shape (P,), int64
        Sample of each prototype; -1 for prototypes without parts.

    sites : Tensor of shape (P, M), int64
        Site of each part, -1 where the slot is off.

    distances : Tensor of shape (P,)
        M less the activation of the prototype on that sample before it was moved.

    self_similarity : Tensor of shape (P,)
        Activation of the moved prototype on its sample: M where matching finds the
        parts again, as it does with connected parts and tokens that differ.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import PartSetSources
    >>> sources = PartSetSources(
    ...     torch.tensor([7]), torch.tensor([[2, 3]]), torch.tensor([0.1]),
    ...     torch.tensor([2.0]),
    ... )
    >>> sources.sites[0].tolist()  # both parts of the prototype lie in row 7
    [2, 3]
    """

    rows: Tensor
    sites: Tensor
    distances: Tensor
    self_similarity: Tensor


@dataclass(frozen=True)
class _Candidates:
    """The c best samples of each of P prototypes, best first."""

    activations: Tensor  # (P, c), -inf where there is none
    rows: Tensor  # (P, c)
    sites: Tensor  # (P, c, M)
    tokens: Tensor  # (P, c, M, D)
    found: Tensor  # (P, c), activation of the tokens on their own sample

    @classmethod
    def none(cls, network: PartSetNetwork, count: int) -> _Candidates:
        """Return the state before any sample."""
        p = network.prototypes
        shape = (p.shape[0], count)
        absent = torch.full(shape, -1, dtype=torch.int64, device=p.device)
        return cls(
            p.new_full(shape, -torch.inf),
            absent,
            absent[..., None].repeat(1, 1, p.shape[1]),
            p.new_zeros(*shape, *p.shape[1:]),
            p.new_zeros(shape),
        )

    def map(self, function) -> _Candidates:
        """Apply a function to every tensor."""
        return _Candidates(*(function(getattr(self, f.name)) for f in fields(self)))

    def merge_(self, index: Tensor, other: _Candidates) -> None:
        """Put the best of these and others where prototypes `index` stand."""
        count = self.rows.shape[1]
        both = _Candidates(
            *(
                torch.cat([getattr(self, f.name)[index], getattr(other, f.name)], 1)
                for f in fields(self)
            )
        )
        # Equal activations: the first row wins, in whatever order they come.
        by_row = both.rows.argsort(dim=1, stable=True)
        ordered = both.activations.gather(1, by_row)
        order = ordered.argsort(dim=1, descending=True, stable=True)[:, :count]
        best = by_row.gather(1, order)
        line = torch.arange(len(index), device=index.device)[:, None]
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(both, field.name)[line, best]


@torch.no_grad()
def project_part_sets(
    network: PartSetNetwork,
    chunks: Iterable[tuple],
    *,
    unique: bool = False,
    encoded: bool = False,
) -> PartSetSources:
    """Move every prototype to the matched tokens of one sample of its class.

    Of the samples of its own class, and no others, the one with the largest
    activation; among equals the lowest row. Parts whose slot is off become zeros.

    Parameters
    ----------
    network : PartSetNetwork
        Changed in place; its slots should be rounded.

    chunks : iterable of tuple
        ``(rows, x, y)`` or ``(rows, x, y, site_mask)``: row numbers (m,), samples as
        the encoder takes them, class codes (m,), existing sites (m, T). Fastest where
        a chunk holds few classes.

    unique : bool, default=False
        Whether the prototypes of a class come from different samples, as long as
        there are enough. The most similar pairs of prototype and sample go first.

    encoded : bool, default=False
        Whether the chunks hold sites (m, T, D) in place of samples.

    Returns
    -------
    sources : PartSetSources
        On the device of the network.

    Raises
    ------
    ValueError
        If a class that owns prototypes has no sample.

    Notes
    -----
    One pass of the encoder and one matching of each sample to the prototypes of its
    class. With identical tokens in a sample the matched places need not be the ones
    that the moved prototype finds again; with "connected" adjacency they are looked
    for again until they are.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import PartSetNetwork, project_part_sets
    >>> net = PartSetNetwork(2, 2, 3, n_classes=2).eval()
    >>> x, y = torch.rand(4, 5, 3), torch.tensor([0, 0, 1, 1])
    >>> sources = project_part_sets(net, [(torch.arange(4), x, y)])
    >>> y[sources.rows].tolist()
    [0, 1]
    """
    most = int(network.ownership.sum(0).max()) if unique else 1
    best = _Candidates.none(network, most)
    training = network.training
    network.eval()
    try:
        for rows, x, y, *mask in chunks:
            x = torch.as_tensor(x, device=network.prototypes.device)
            found = x, mask[0] if mask else None
            if not encoded:
                found = network.encode(*found)
            _search(network, best, (rows, found[0], y, found[1]))
    finally:
        network.train(training)
    _check_found(network, best)
    choice = _different(network, best) if unique else torch.zeros_like(best.rows[:, 0])
    line = torch.arange(len(choice), device=choice.device)
    chosen = best.map(lambda values: values[line, choice])
    network.prototypes.copy_(chosen.tokens)
    distances = (network.n_parts - chosen.activations).clamp_min(0.0)
    rows = chosen.rows.masked_fill(~network.kept.any(1), -1)
    return PartSetSources(rows, chosen.sites, distances, chosen.found)


def _search(network: PartSetNetwork, best: _Candidates, chunk: tuple) -> None:
    """Update the candidates by the samples of one chunk."""
    rows, z, y, mask = chunk
    device = network.prototypes.device
    rows, y = (torch.as_tensor(values, device=device) for values in (rows, y))
    if mask is not None:
        mask = torch.as_tensor(mask, device=device)
    for label in y.unique().tolist():
        index = network.ownership[:, label].nonzero()[:, 0]
        if not len(index):
            continue
        take = (y == label).nonzero()[:, 0]
        take = take[rows[take].argsort(stable=True)]
        samples = rows[take], z[take], None if mask is None else mask[take]
        count = min(best.rows.shape[1], len(take))
        best.merge_(index, _candidates(network, index, samples, count))


def _candidates(
    network: PartSetNetwork, index: Tensor, samples: tuple, count: int
) -> _Candidates:
    """Return the best `count` samples of one class for its prototypes `index`."""
    rows, z, mask = samples
    found = network.match(z, mask, index)
    activations = found["activations"].T
    order = activations.argsort(dim=1, descending=True, stable=True)[:, :count]
    line = torch.arange(len(index), device=index.device)[:, None]
    sites = found["sites"][order, line].flatten(0, 1)
    pairs, kept = order.flatten(), network.kept[index].repeat_interleave(count, 0)
    rule = network.rule(z, None if mask is None else mask[pairs])
    sites, again = _settle(z[pairs], sites, kept, rule)
    shape = (len(index), count)
    return _Candidates(
        activations.gather(1, order),
        rows[order],
        sites.unflatten(0, shape),
        _tokens(z[pairs], sites).unflatten(0, shape),
        network.n_parts * again.unflatten(0, shape),
    )


def _tokens(z: Tensor, sites: Tensor) -> Tensor:
    """Tokens (n, M, D) at sites (n, M), zeros where there is none."""
    index = sites.clamp_min(0)[..., None].expand(-1, -1, z.shape[2])
    return z.gather(1, index).masked_fill((sites < 0)[..., None], 0.0)


def _settle(
    z: Tensor, sites: Tensor, kept: Tensor, rule: MatchingRule
) -> tuple[Tensor, Tensor]:
    """Look for the places again until the tokens there are found where they lie.

    Returns the sites (n, M) and the mean similarity (n,) of the kept parts. Where two
    sites hold the same token, matching may take the other one first and so lose the
    way to the rest; the set found then is as good a set of places.
    """
    z = unit(z)
    for attempt in range(_SETTLE_ROUNDS):
        values, again = match_pairs(z, _tokens(z, sites), kept, rule)
        lost = ((values < _SAME) & kept).any(1)
        last = rule.adjacency != "connected" or attempt == _SETTLE_ROUNDS - 1
        if last or not lost.any():
            break
        sites = torch.where(lost[:, None], again, sites)
    return sites, values.sum(1) / kept.sum(1).clamp_min(1)


def _different(network: PartSetNetwork, best: _Candidates) -> Tensor:
    """Choose candidates (P,) so that the prototypes of a class have different rows."""
    choice = torch.zeros_like(best.rows[:, 0])
    labels = network.ownership.to(torch.uint8).argmax(1)
    for label in labels.unique().tolist():
        index = (labels == label).nonzero()[:, 0]
        images, place = best.rows[index].unique(return_inverse=True)
        activations = best.activations.new_full((len(index), len(images)), -torch.inf)
        activations.scatter_(1, place, best.activations[index])
        taken = greedy_match(activations[None, None], MatchingRule(None))[1][0, 0]
        # No sample is left: the best one, a second time.
        choice[index] = (place == taken[:, None]).to(torch.uint8).argmax(1)
    return choice


def _check_found(network: PartSetNetwork, best: _Candidates) -> None:
    """Refuse prototypes without a sample."""
    absent = (best.rows[:, 0] < 0).nonzero()[:, 0]
    if len(absent):
        classes = sorted(set(network.ownership[absent].nonzero()[:, 1].tolist()))
        raise ValueError(
            f"chunks must have a sample of every class that owns prototypes. Got none "
            f"of the class codes {classes}."
        )
