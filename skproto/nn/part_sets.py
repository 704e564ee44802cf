"""Prototypes made of several tokens: the module behind ProtoViT."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skproto.nn.encoders import SiteEncoder
from skproto.nn.forbidden import (
    forbidden_sites,
    lowest_where_forbidden,
    match_allowed,
)
from skproto.nn.matching import (
    ADJACENCIES,
    MATCHINGS,
    MatchingRule,
    cosines,
    greedy_match,
    match_parts,
    neighbour_table,
    prototype_blocks,
    unit,
)
from skproto.nn.part_heads import ClassLinearHead
from skproto.nn.parts import class_owners

#: Where the slots start, and where rounded slots are put.
_SLOT_START, _SLOT_ROUNDED = 0.1, 200.0
#: Smallest sum of slots that is divided by.
_MIN_SLOTS = 1e-10


class PartSetNetwork(nn.Module):
    r"""Prototypes of M parts, each matched to its own site, with slots that switch off.

    With the cosine :math:`S^*_k` of part k and the site it is matched to and its slot
    :math:`s_k = \sigma(\tau v_k)`, the activation of a prototype is
    :math:`g = M \sum_k s_k S^*_k / \sum_k s_k`, in [-M, M]: leaving out a part does not
    lower what a prototype can reach. Class scores are linear in the activations.

    Parameters
    ----------
    n_prototypes : int
        Number of prototypes P, ordered by class.

    n_parts : int
        Number of parts M of a prototype.

    dim : int
        Dimension D of the sites.

    n_classes : int
        Number of classes K. Prototype j belongs to class j·K // P until
        :meth:`set_labels`.

    radius : int, default=1
        Largest distance of neighbours: Chebyshev on a grid, places on a line. Larger
        values let the parts of a prototype lie further apart.

    adjacency : {"connected", "chain"} or None, default="connected"
        Parts are next to any site taken before, to the site just taken (the paper),
        or anywhere.

    slot_temperature : float, default=100.0
        The :math:`\tau`. Larger values make slots harder and their gradient smaller.

    encoder : SiteEncoder, default=None
        Maps samples to sites (n, T, D). None: samples are tokens (n, T, D).

    matching : {"greedy", "exact"}, default="greedy"
        Whether parts are matched pair by pair, the most similar first, or to the set
        of sites with the largest sum. "exact" does not go with "chain", cannot be
        exported, and takes time that grows fast with the number of parts.

    Attributes
    ----------
    prototypes : Parameter of shape (P, M, D)
        Parts. Only their directions count. Zeros until they are filled.

    slot_logits : Parameter of shape (P, M)
        The :math:`v`.

    kept : Tensor of shape (P, M), bool
        Parts that take part; all of them until :meth:`round_slots_`.

    ownership : Tensor of shape (P, K), bool
        Classes of the prototypes.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or the encoder has fewer sites than a
        prototype has parts.

    References
    ----------
    Ma et al., Interpretable Image Classification with Adaptive Prototype-based Vision
    Transformers, NeurIPS 2024. Differs: "connected" is the default, only kept parts
    are matched, the sum of slots is bounded by 1e-10 instead of enlarged by it.

    Examples
    --------
    >>> import torch
    >>> network = PartSetNetwork(4, 2, 3, n_classes=2).eval()
    >>> x = torch.eye(3)[None]
    >>> with torch.no_grad():
    ...     _ = network.prototypes.copy_(x[:, :2].expand(4, 2, 3))
    ...     outputs = network(x)
    >>> outputs["sites"][0, 0], outputs["activations"][0, 0]
    (tensor([0, 1]), tensor(2.))
    """

    def __init__(
        self,
        n_prototypes,
        n_parts,
        dim,
        n_classes,
        radius=1,
        adjacency="connected",
        slot_temperature=100.0,
        encoder=None,
        matching="greedy",
    ):
        super().__init__()
        self.config = {
            "n_prototypes": n_prototypes,
            "n_parts": n_parts,
            "dim": dim,
            "n_classes": n_classes,
            "radius": radius,
            "adjacency": adjacency,
            "slot_temperature": slot_temperature,
            "matching": matching,
        }
        self.encoder = SiteEncoder() if encoder is None else encoder
        _check(self.config, self.encoder)
        self.n_parts = n_parts
        self.radius = radius
        self.adjacency = adjacency
        self.matching = matching
        self.slot_temperature = slot_temperature
        self.prototypes = nn.Parameter(torch.zeros(n_prototypes, n_parts, dim))
        shape = (n_prototypes, n_parts)
        self.slot_logits = nn.Parameter(torch.full(shape, _SLOT_START))
        self.kept: Tensor
        self.register_buffer("kept", torch.ones(shape, dtype=torch.bool))
        self.ownership: Tensor
        self.register_buffer("ownership", class_owners(n_prototypes, n_classes))
        self.head = ClassLinearHead(n_prototypes, n_classes)
        self.head.reset(self.ownership)

    @torch.no_grad()
    def set_labels(self, labels) -> None:
        """Give the prototypes to classes (P,) and put the head where it starts."""
        labels = torch.as_tensor(labels, device=self.ownership.device)
        classes = torch.arange(self.ownership.shape[1], device=labels.device)
        self.ownership.copy_(labels[:, None] == classes)
        self.head.reset(self.ownership)

    @torch.no_grad()
    def randomize_(self, generator=None) -> None:
        """Draw all prototypes uniformly from [0, 1], as the paper starts."""
        draw = torch.rand(self.prototypes.shape, generator=generator)
        self.prototypes.copy_(draw)

    @torch.no_grad()
    def set_prototypes(self, points: Tensor) -> None:
        """Put the parts (P, M, D) where they are given."""
        self.prototypes.copy_(points)

    @torch.no_grad()
    def start_at_samples_(self, x: Tensor, generator=None, site_mask=None) -> Tensor:
        """Start each prototype at random admissible sites of one sample.

        Parameters
        ----------
        x : Tensor of shape (P, ...)
            One sample for each prototype, of its class.

        generator : torch.Generator, default=None
            On the CPU.

        site_mask : Tensor of shape (P, T), bool, default=None
            Sites that exist.

        Returns
        -------
        sites : Tensor of shape (P, M), int64
            Where the parts come from.
        """
        z, site_mask = self.encode(x, site_mask)
        rule = self.rule(z, site_mask)
        shape = (len(z), 1, self.n_parts, z.shape[1])
        draw = torch.rand(shape, generator=generator).to(z.device)
        sites = greedy_match(draw, rule)[1][:, 0]
        index = sites.clamp_min(0)[..., None].expand(-1, -1, z.shape[2])
        self.prototypes.copy_(z.gather(1, index))
        return sites

    def slots(self) -> Tensor:
        """Slots (P, M) in [0, 1]; exactly 0 or 1 once rounded."""
        soft = torch.sigmoid(self.slot_temperature * self.slot_logits)
        return soft.masked_fill(~self.kept, 0.0)

    @torch.no_grad()
    def round_slots_(self) -> Tensor:
        """Switch parts off whose slot is below one half and the others on, for good.

        Returns
        -------
        alive : Tensor of shape (P,), bool
            Prototypes with a part left. The others score 0; :meth:`keep` drops them.
        """
        self.kept.copy_(self.kept & (self.slots() >= 0.5))
        self.slot_logits.copy_(torch.where(self.kept, _SLOT_ROUNDED, -_SLOT_ROUNDED))
        return self.kept.any(1)

    def encode(
        self, x: Tensor, site_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the sites of samples, and which of them exist.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            Samples as the encoder takes them. Where they are tokens themselves, those
            that are NaN throughout do not exist.

        site_mask : Tensor of shape (n, T), bool, default=None
            Sites that exist.

        Returns
        -------
        z : Tensor of shape (n, T, D)
            Sites.

        site_mask : Tensor of shape (n, T), bool, or None
            None: all exist.
        """
        if self.encoder.body is None and x.ndim == 3:
            missing = x.isnan().all(-1)
            x = x.masked_fill(missing[..., None], 0.0)
            site_mask = ~missing if site_mask is None else site_mask & ~missing
        return self.encoder(x, site_mask), site_mask

    def rule(self, z: Tensor, site_mask: Tensor | None = None) -> MatchingRule:
        """Return what a matching to sites `z` (n, T, D) may do, for all parts."""
        neighbours = None
        if self.adjacency is not None:
            grid = getattr(self.encoder, "grid", None)
            neighbours = neighbour_table(z.shape[1], grid, self.radius, z.device)
        return MatchingRule(
            self.adjacency,
            neighbours,
            None,
            site_mask,
            not self.training,
            self.matching,
        )

    def match(
        self, z: Tensor, site_mask: Tensor | None = None, index: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Match prototypes to sites.

        Parameters
        ----------
        z : Tensor of shape (n, T, D)
            Sites.

        site_mask : Tensor of shape (n, T), bool, default=None
            Sites that exist.

        index : Tensor of shape (P',), int64, default=None
            Prototypes to match; None: all.

        Returns
        -------
        found : dict of str to Tensor
            "part_similarities" and "sites" (n, P', M), "activations" (n, P').
        """
        p: Tensor = self.prototypes
        kept, slots = self.kept, self.slots()
        if index is not None:
            p, kept, slots = p[index], kept[index], slots[index]
        rule = self.rule(z, site_mask).with_parts(kept)
        similarities, sites = match_parts(unit(z), unit(p), rule)
        total = slots.sum(1).clamp_min(_MIN_SLOTS)
        share = (slots * similarities).sum(2) / total
        return {
            "part_similarities": similarities,
            "sites": sites,
            "activations": self.n_parts * share,
        }

    def forward(self, x: Tensor, site_mask: Tensor | None = None) -> dict[str, Tensor]:
        """Return scores and what they are made of.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            Samples as the encoder takes them.

        site_mask : Tensor of shape (n, T), bool, default=None
            Sites that exist; None: all. A sample with fewer sites than kept parts
            leaves parts without a site, which score -1.

        Returns
        -------
        outputs : dict of str to Tensor
            "scores" (n, K); "activations" (n, P) in [-M, M]; "distances" (n, P), M
            less the activation, 0 where every kept part is found exactly;
            "part_similarities" (n, P, M), cosines, 0 where the slot is off; "sites"
            (n, P, M), -1 where the slot is off or no site is left.
        """
        found = match_allowed(self, *self.encode(x, site_mask))
        distances = (self.n_parts - found["activations"]).clamp_min(0.0)
        return {**self.head(found), "distances": distances, **found}

    def similarity_maps(self, x: Tensor, site_mask: Tensor | None = None) -> Tensor:
        """Cosine of the best kept part of each prototype at each site, (n, P, T).

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            Samples as the encoder takes them.

        site_mask : Tensor of shape (n, T), bool, default=None
            Sites that exist; the others are -1.

        Returns
        -------
        maps : Tensor of shape (n, P, T)
            In [-1, 1]; -1 for prototypes without parts.
        """
        z, site_mask = self.encode(x, site_mask)
        z, p = unit(z), unit(self.prototypes)
        maps = torch.cat(
            [
                cosines(z, p[start:stop])
                .masked_fill(~self.kept[None, start:stop, :, None], -1.0)
                .amax(2)
                for start, stop in prototype_blocks(z, p)
            ],
            dim=1,
        )
        maps = lowest_where_forbidden(maps, forbidden_sites(self))
        if site_mask is not None:
            maps = maps.masked_fill(~site_mask[:, None], -1.0)
        return maps.clamp(-1.0, 1.0)

    def keep(self, kept: Tensor) -> PartSetNetwork:
        """Return the same network with the prototypes of a mask (P,) only."""
        config = {**self.config, "n_prototypes": int(kept.sum())}
        network = PartSetNetwork(**config, encoder=self.encoder)
        state = dict(self.state_dict())
        names = ("prototypes", "slot_logits", "kept", "ownership", "head.weight")
        state.update({name: state[name][kept] for name in names})
        network.to(self.prototypes).load_state_dict(state)
        return network.train(self.training)


def slot_learning_rate(n_steps: int, reach: float = 0.2) -> float:
    """Step size with which Adam can move a slot's logit by `reach`.

    A step of Adam is about as long as its learning rate, whatever the gradient; the
    paper's 5e-5 needs 2,000 steps to bring a slot from 0.1 to 0.

    Parameters
    ----------
    n_steps : int
        Number of optimiser steps of the phase.

    reach : float, default=0.2
        Distance that is covered if all steps go the same way. Larger values switch
        off more parts.

    Returns
    -------
    lr : float
        At least the paper's 5e-5.

    Examples
    --------
    >>> slot_learning_rate(50)
    0.004
    """
    return max(5e-5, reach / max(1, n_steps))


def _check(config: dict, encoder: nn.Module) -> None:
    """Refuse sizes that no matching can have."""
    for name in ("n_prototypes", "n_parts", "n_classes", "radius"):
        if config[name] < 1:
            raise ValueError(f"{name} must be at least 1. Got {config[name]}.")
    if config["adjacency"] not in ADJACENCIES:
        raise ValueError(
            f"adjacency must be one of {ADJACENCIES}. Got {config['adjacency']!r}."
        )
    if config["matching"] not in MATCHINGS:
        raise ValueError(
            f"matching must be one of {MATCHINGS}. Got {config['matching']!r}."
        )
    MatchingRule(config["adjacency"], matching=config["matching"])
    if not config["slot_temperature"] > 0:
        raise ValueError(
            f"slot_temperature must be positive. Got {config['slot_temperature']}."
        )
    # An encoder knows its dimension once it has seen a sample.
    if hasattr(encoder, "dim") and config["n_parts"] > encoder.n_sites:
        raise ValueError(
            f"n_parts must be at most the number of sites of a sample, "
            f"{encoder.n_sites}. Got {config['n_parts']}."
        )
