"""Deformable ProtoPNet: prototypes of parts that move to where they fit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from skproto.nn.encoders import SiteEncoder
from skproto.nn.forbidden import (
    forbidden_around,
    forbidden_sites,
    lowest_where_forbidden,
)
from skproto.nn.part_heads import ClassLinearHead
from skproto.nn.part_sampling import INTERPOLATIONS, directions, settled_directions
from skproto.nn.similarity import root

#: Cosine of a prototype in a sample in which every centre is forbidden to it.
UNSEEN = -1.0


class DeformablePartNetwork(nn.Module):
    r"""Prototypes of k x k parts, each of which moves by a predicted offset.

    With unit vectors :math:`\hat z` of the map and unit parts :math:`p_{jm}` of
    prototype j, the similarity at centre t is the mean cosine of the M = k² parts,
    :math:`s_j(t) = \frac{1}{M}\sum_m p_{jm}^\top \hat z(t + b_m + \Delta_{tm})`, with
    fixed places :math:`b_m` on a grid around the centre and offsets
    :math:`\Delta_{tm}` that a convolution of the map predicts, the same for all
    prototypes. The best centre counts, and a negative similarity as 0.

    Parameters
    ----------
    labels : sequence of int
        Class of every prototype, in any order.

    dim : int
        Dimension D of the encoder's sites.

    n_classes : int
        Number of classes K.

    part_grid : int, default=3
        Parts k in a row; a prototype has k² of them.

    dilation : float, default=1
        Distance of neighbouring parts, in sites.

    top_k : int, default=1
        In training the mean of the `top_k` best centres counts.

    scale : float, default=1.0
        The largest activation; larger values make probabilities sharper.

    incorrect_weight : float, default=-0.5
        Where the weights of other classes' prototypes start; those of the own class
        start at 1.

    interpolation : {"renormalised", "squares"}, default="renormalised"
        How vectors between sites keep length 1. "squares" is the paper's rule, for
        maps without negative entries: those are set to 0 first.

    encoder : SiteEncoder
        Maps images to sites (n, T, D); its `grid` folds them back to a map.

    Attributes
    ----------
    prototypes : Parameter of shape (P, M, D)
        Unit parts, row by row of the grid.

    offset_net : nn.Conv2d
        Predicts the offsets from the map of unit vectors.

    head : ClassLinearHead
        Last layer.

    ownership : buffer of shape (P, K), bool
        Class of each prototype.

    Notes
    -----
    Positions beyond the border are brought back to it, so that every part is compared
    with a place of the image. Cosines reach 1: the margin needs none that are scaled
    down, see :func:`~skproto.nn.part_sampling.reduced_angle`.

    References
    ----------
    Donnelly, Barnett, Chen, Deformable ProtoPNet: An Interpretable Image Classifier
    Using Deformable Prototypes, CVPR 2022. Differs in keeping the length by a division
    unless asked otherwise, at the border, and in penalising the offsets themselves.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skproto.nn.encoders import SiteEncoder
    >>> encoder = SiteEncoder(nn.Conv2d(1, 4, 1), input_shape=(1, 6, 6))
    >>> encoder.probe("conv")
    >>> net = DeformablePartNetwork([0, 1], 4, 2, encoder=encoder).eval()
    >>> net(torch.ones(3, 1, 6, 6))["part_positions"].shape
    torch.Size([3, 2, 9, 2])
    """

    def __init__(
        self,
        labels,
        dim,
        n_classes,
        *,
        encoder,
        part_grid=3,
        dilation=1,
        top_k=1,
        scale=1.0,
        incorrect_weight=-0.5,
        interpolation="renormalised",
    ):
        super().__init__()
        if interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation must be one of {list(INTERPOLATIONS)}, "
                f"got {interpolation!r}"
            )
        self.config: dict[str, Any] = {
            "labels": [int(label) for label in labels],
            "dim": dim,
            "n_classes": n_classes,
            "part_grid": part_grid,
            "dilation": dilation,
            "top_k": top_k,
            "scale": scale,
            "incorrect_weight": incorrect_weight,
            "interpolation": interpolation,
        }
        _check_grid(encoder, part_grid, dilation)
        self.encoder: SiteEncoder = encoder
        self.top_k = top_k
        self.scale = float(scale)
        self.interpolation = interpolation
        self.n_parts = part_grid**2
        labels = torch.tensor(self.config["labels"]).long()
        shape = (len(labels), self.n_parts, dim)
        self.prototypes = nn.Parameter(torch.full(shape, dim**-0.5))
        # Without weights the parts start where they belong.
        self.offset_net = nn.Conv2d(dim, 2 * self.n_parts, 3, padding=1)
        for parameter in self.offset_net.parameters():
            nn.init.zeros_(parameter)
        self.ownership: Tensor
        self.places: Tensor
        own = functional.one_hot(labels, n_classes).bool()
        self.register_buffer("ownership", own, persistent=False)
        self.head = ClassLinearHead(len(labels), n_classes, incorrect_weight)
        self.head.reset(own)
        steps = dilation * (torch.arange(part_grid) - (part_grid - 1) / 2)
        places = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)
        self.register_buffer("places", places.reshape(-1, 2), persistent=False)

    @torch.no_grad()
    def set_prototypes(self, points) -> None:
        """Set the parts (P, M, D), brought to length 1."""
        points = torch.as_tensor(points).to(self.prototypes)
        self.prototypes.copy_(settled_directions(points))

    @torch.no_grad()
    def constrain_(self) -> None:
        """Bring the parts back to length 1 after a step."""
        self.prototypes.copy_(settled_directions(self.prototypes))

    def deformed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the parts around every centre see, and where.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            What the encoder takes.

        Returns
        -------
        parts : Tensor of shape (n, T, M, D)
            Unit vectors. ``prototypes[j] = parts[i, t]`` projects prototype j.

        positions : Tensor of shape (n, T, M, 2)
            Row and column of every part, in sites from 0; not always whole numbers.
        """
        parts, positions, _ = self._deform(self.encoder(x))
        return parts, positions

    @torch.no_grad()
    def constrain_rows_(self, rows: Tensor) -> None:
        """Bring parts of some prototypes (F, M, D) back to length 1."""
        rows.copy_(settled_directions(rows))

    def forbidden_candidates(self, x: Tensor) -> Tensor | None:
        """Which centres prototypes must not become, (n, P, T); None: none."""
        if forbidden_sites(self) is None:
            return None
        return self.forbidden_centres(self.deformed(x)[1])

    def forbidden_centres(self, positions: Tensor) -> Tensor | None:
        """Tell at which centres a part of a prototype sees what is forbidden to it.

        Parameters
        ----------
        positions : Tensor of shape (n, T, M, 2)
            As :meth:`deformed` returns them.

        Returns
        -------
        forbidden : Tensor of shape (n, P, T), bool, or None
            None where nothing is forbidden.
        """
        hidden = forbidden_sites(self)
        if hidden is None:
            return None
        grid = self.encoder.grid
        assert grid is not None
        return forbidden_around(hidden, positions, grid[1])

    def candidates(self, x: Tensor) -> Tensor:
        """Return what a prototype can become by projection, (n, T, M, D)."""
        return self.deformed(x)[0]

    def search_vectors(self, candidates: Tensor) -> Tensor:
        """Vectors of the candidates for a search by the inner product."""
        return candidates.flatten(2)

    def search_targets(self) -> Tensor:
        """Vectors (P, M D) of the prototypes for a search by the inner product."""
        return settled_directions(self.prototypes).flatten(1)

    def candidate_distances(self, points: Tensor) -> Tensor:
        """Distances (k, P) of candidates (k, P, M, D) from the prototypes."""
        p = settled_directions(self.prototypes).cpu().double()
        return root((points.cpu().double() - p).square().sum(3).mean(2))

    def _deform(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Parts, positions and offsets of sites (n, T, D); see :meth:`deformed`."""
        rows, columns = self._grid(z)
        if self.interpolation == "squares":
            z = z.relu()
        image = directions(z).transpose(1, 2).unflatten(2, (rows, columns))
        offsets = self.offset_net(image).flatten(2).unflatten(1, (self.n_parts, 2))
        offsets = offsets.permute(0, 3, 1, 2)  # (n, T, M, 2)
        site = torch.arange(rows * columns, device=z.device)
        centres = torch.stack([site // columns, site % columns], dim=1).to(z.dtype)
        positions = centres[:, None] + self.places + offsets
        limit = z.new_tensor([rows - 1, columns - 1])
        positions = torch.minimum(positions.clamp_min(0.0), limit)
        parts = INTERPOLATIONS[self.interpolation](image, positions)
        return parts, positions, offsets

    def _grid(self, z: Tensor) -> tuple[int, int]:
        grid = self.encoder.grid
        if grid is None or grid[0] * grid[1] != z.shape[1]:
            raise ValueError(
                "Deformable prototypes need an encoder whose sites lie on a grid. Got "
                f"{z.shape[1]} sites and a grid of {grid}."
            )
        return grid

    def _cosines(self, parts: Tensor, p: Tensor) -> Tensor:
        """Mean cosine of parts (n, T, M, D) and prototypes (P, M, D), (n, T, P)."""
        return parts.flatten(2) @ (p / self.n_parts).flatten(1).T

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return scores, activations, places and distances of images.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            What the encoder takes.

        Returns
        -------
        outputs : dict of Tensor
            "scores" (n, K); "activations" (n, P) in [0, `scale`]; "cosines" (n, P),
            before scale and ReLU; "costs" (n, P), 1 - cosine; "sites" (n, P), the best
            centre; "distances" (n, P), root of the parts' mean squared distance there;
            "part_positions" (n, P, M, 2), row and column of the parts in sites;
            "displacement" (n,), mean squared length of the offsets; in evaluation mode
            "part_similarities" (n, P, M), the cosines of the parts.
        """
        z = self.encoder(x)
        if not torch.is_autocast_enabled(z.device.type):
            return self._compare(z)
        # Small angles are lost in half precision.
        with torch.autocast(z.device.type, enabled=False):
            return self._compare(z.to(self.prototypes.dtype))

    def compare_parts(
        self, parts: Tensor, hidden: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Find the best centre of every prototype.

        Parameters
        ----------
        parts : Tensor of shape (n, T, M, D)
            As :meth:`candidates` returns them.

        hidden : Tensor of shape (n, P, T), bool, default=None
            Centres that do not count, see :meth:`forbidden_centres`.

        Returns
        -------
        found : dict of str to Tensor
            "cosines", "sites" and "distances" (n, P), see :meth:`forward`.
        """
        find = self._soft if self.training else self._exact
        return find(parts, hidden)

    def _compare(self, z: Tensor) -> dict[str, Tensor]:
        """Compare sites (n, T, D) with the prototypes; see :meth:`forward`."""
        parts, positions, offsets = self._deform(z)
        found = self.compare_parts(parts, self.forbidden_centres(positions))
        cosines = found["cosines"]
        return {
            **found,
            "scores": self.class_scores(cosines.relu()),
            "activations": self.scale * cosines.relu(),
            "costs": 1.0 - cosines,
            "part_positions": _at(positions, found["sites"]),
            "displacement": offsets.square().sum(3).mean((1, 2)),
        }

    def _soft(self, parts: Tensor, hidden: Tensor | None = None) -> dict[str, Tensor]:
        """Mean cosine of the best centres, for training."""
        maps = self._cosines(parts, directions(self.prototypes))
        if hidden is not None:
            maps = maps.masked_fill(hidden.transpose(1, 2), UNSEEN)
        cosines, sites = maps.max(1)
        if self.top_k > 1:
            few = min(self.top_k, maps.shape[1])
            cosines = maps.topk(few, dim=1).values.mean(1)
        distances = root((2.0 - 2.0 * cosines).clamp_min(0.0))
        return {"cosines": cosines, "sites": sites, "distances": distances}

    def _exact(self, parts: Tensor, hidden: Tensor | None = None) -> dict[str, Tensor]:
        """Cosine of the best centre, 1 to the bit where the parts are the same."""
        p = settled_directions(self.prototypes)
        # In float32 a centre that is nearly the same could win over the same one.
        maps = self._cosines(parts.double(), p.double())
        if hidden is not None:
            maps = maps.masked_fill(hidden.transpose(1, 2), -torch.inf)
        sites = maps.argmax(1)
        squared = (_at(parts, sites) - p).square().sum(3)  # (n, P, M)
        if hidden is not None:
            lost = hidden.gather(2, sites[:, :, None])  # no centre is left
            squared = squared.masked_fill(lost, 2.0 - 2.0 * UNSEEN)
        mean = squared.mean(2)
        return {
            # Of unit vectors: half their squared distance is 1 less the cosine.
            "cosines": 1.0 - 0.5 * mean,
            "sites": sites,
            "distances": root(mean),
            "part_similarities": 1.0 - 0.5 * squared,
        }

    def class_scores(self, cosines: Tensor) -> Tensor:
        """Return the class scores (n, K) of cosines (n, P), at least 0."""
        return self.head({"activations": self.scale * cosines})["scores"]

    def similarity_maps(self, x: Tensor) -> Tensor:
        """Return the activation of every prototype at every centre, (n, P, T)."""
        parts, positions, _ = self._deform(self.encoder(x))
        cosines = self._cosines(parts, settled_directions(self.prototypes))
        maps = self.scale * cosines.relu().transpose(1, 2)
        hidden = self.forbidden_centres(positions)
        if hidden is not None and hidden.all(2).any():
            maps = maps.masked_fill(hidden.all(2, keepdim=True), 0.0)
            hidden = hidden & ~hidden.all(2, keepdim=True)
        return lowest_where_forbidden(maps, hidden)

    def keep(self, kept: Tensor) -> DeformablePartNetwork:
        """Return the same network with the prototypes of a mask (P,) only."""
        labels = self.ownership.int().argmax(1)[kept].tolist()
        config = {**self.config, "labels": labels}
        network = DeformablePartNetwork(**config, encoder=self.encoder)
        state = dict(self.state_dict())
        for name in ("prototypes", "head.weight"):
            state[name] = state[name][kept]
        network.load_state_dict(state)
        return network.to(self.prototypes).train(self.training)


def _at(values: Tensor, sites: Tensor) -> Tensor:
    """Take values (n, T, M, C) at sites (n, P): (n, P, M, C)."""
    index = sites[:, :, None, None].expand(-1, -1, *values.shape[2:])
    return values.gather(1, index)


def _check_grid(encoder, part_grid, dilation) -> None:
    grid = getattr(encoder, "grid", None)
    if grid is None:
        raise ValueError(
            "Deformable prototypes need an encoder whose sites lie on a grid, such as "
            f"'conv' for images. Got {type(encoder).__name__} without a grid."
        )
    if part_grid < 1 or dilation <= 0:
        raise ValueError(
            "part_grid must be an integer >= 1 and dilation a number > 0, got "
            f"{part_grid!r} and {dilation!r}"
        )
    span = (part_grid - 1) * dilation + 1
    if span > min(grid):
        raise ValueError(
            f"The parts of a prototype span {span} sites (part_grid={part_grid}, "
            f"dilation={dilation}), but the encoder's grid is {tuple(grid)}. Use a "
            "smaller part_grid or dilation, or an encoder that reduces less."
        )
