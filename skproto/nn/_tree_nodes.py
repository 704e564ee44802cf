"""The nodes of a tree: where they are looked for, and how far away they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skproto.nn import _tree_distances as distances
from skproto.nn import _tree_ops as ops


class MeasuringNodes(nn.Module):
    """The inner nodes of a tree, each with a prototype, and the sites of samples."""

    encoder: nn.Module
    prototypes: nn.Parameter
    prototype_dim: int
    log_radius: nn.Parameter | None
    feature_logits: nn.Parameter | None
    sharpness: float
    scale_distance: bool
    _allowed: Tensor

    def allow_sites(self, sites: Sequence[int] | None) -> None:
        """Look at some sites of samples alone.

        Parameters
        ----------
        sites : sequence of int or None
            Numbers of the sites at which prototypes may be found; None: all. A sample
            of one site is looked at in any case.
        """
        self.allowed_sites = None if sites is None else tuple(map(int, sites))
        index = torch.tensor(self.allowed_sites or (), dtype=torch.int64)
        place = self.prototypes.device
        self.register_buffer("_allowed", index.to(place), persistent=False)

    def encode(self, x: Tensor) -> Tensor:
        """Return the sites of each sample.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            What the encoder takes; (n, D) or (n, T, D) without one.

        Returns
        -------
        z : Tensor of shape (n, T, D)
            T = 1 for rows of a table, one site a cell for maps.
        """
        z = self.encoder(x)
        if z.dim() == 4:
            z = z.flatten(2).transpose(1, 2)
        return z.unsqueeze(1) if z.dim() == 2 else z

    def weights(self) -> Tensor | None:
        """Return the feature weights of each node.

        Returns
        -------
        w : Tensor of shape (N, D) or None
            Rows sum to D; None without feature weights.
        """
        if self.feature_logits is None:
            return None
        return torch.softmax(self.feature_logits, dim=1) * self.prototype_dim

    def radii(self) -> Tensor | None:
        """Return the radii of the prototypes (N,), None for the paper's kernel."""
        if self.log_radius is None:
            return None
        return ops.bounded(self.log_radius).exp()

    def similarity_maps(self, x: Tensor) -> Tensor:
        """Return the probability of "present" of every site by itself.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            See :meth:`encode`.

        Returns
        -------
        maps : Tensor of shape (n, N, T)
            Their maximum over the sites is the activation.
        """
        z, p, w = self.encode(x), self.prototypes, self.weights()
        if self.scale_distance:
            w = (torch.ones_like(p) if w is None else w).to(z) / self.prototype_dim
        squared = distances.squared_distances_double(z.flatten(0, 1), p, w)
        right = ops.presence(squared, self.log_radius, self.sharpness)
        maps = right.unflatten(0, (-1, z.shape[1])).transpose(1, 2)
        if not self._chooses(z):
            return maps
        kept = torch.zeros_like(maps[0, 0]).index_fill(0, self._allowed, 1)
        return maps * kept

    def _chooses(self, z: Tensor) -> bool:
        """Whether some of the sites (n, T, D) do not count."""
        return self.allowed_sites is not None and z.shape[1] > 1

    def _nearest(self, z: Tensor, traced: bool = True) -> tuple[Tensor, Tensor]:
        """Squared distance to the nearest site (n, N), and which site it is (n, N)."""
        p, w = self.prototypes, self.weights()
        if self.scale_distance and w is not None:
            w = w / self.prototype_dim
        exact, chooses = not self.training, self._chooses(z)
        if chooses:
            z = z.index_select(1, self._allowed)
        squared, sites = distances.nearest(z, p, w, exact=exact, traced=traced)
        if chooses:
            sites = self._allowed[sites]
        if self.scale_distance and w is None:
            squared = squared / self.prototype_dim
        return squared, sites
