"""Part-prototype networks: the module behind ProtoPNet and its successors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from skproto.nn.encoders import SiteEncoder
from skproto.nn.forbidden import forbidden_sites, lowest_where_forbidden
from skproto.nn.part_heads import make_head
from skproto.nn.part_similarity import make_similarity, unit
from skproto.nn.pooling import Pooled, make_pooling


def class_owners(n_prototypes: int, n_classes: int) -> Tensor:
    """Owners of prototypes in the order of their classes.

    Parameters
    ----------
    n_prototypes, n_classes : int
        Numbers P and K. Where K does not divide P the classes differ by one.

    Returns
    -------
    ownership : Tensor of shape (P, K), bool
        True where the class owns the prototype.

    Examples
    --------
    >>> class_owners(4, 2).int().T.tolist()
    [[1, 1, 0, 0], [0, 0, 1, 1]]
    """
    owners = torch.arange(n_prototypes) * n_classes // max(n_prototypes, 1)
    return owners[:, None] == torch.arange(n_classes)


class PartPrototypeNetwork(nn.Module):
    r"""Prototypes that look for their best site, and a head that adds them up.

    For sites :math:`z_t` of a sample: :math:`a_p = \mathrm{pool}_t\, s(d(z_t, p))`,
    scores :math:`\sum_p a_p W_{pk}`. ProtoPNet is ``similarity="log_l2"``, TesNet
    ``similarity="dot", unit_prototypes=True``, ProtoPool ``pooling="focal"`` with
    shared prototypes.

    Parameters
    ----------
    n_prototypes : int
        Number of prototypes P.

    dim : int
        Dimension D of the sites.

    n_classes : int
        Number of classes K.

    similarity : {"cosine", "log_l2", "exp_l2", "dot", "radius", "linear"}
        Distance and kernel, see :mod:`skproto.nn.part_similarity`.

    pooling : {"max", "topk", "focal"}
        How sites become one number, see :mod:`skproto.nn.pooling`.

    head : str, default="class_linear"
        Name of the head, see :mod:`skproto.nn.part_heads`.

    shared : bool, default=False
        Whether all classes own all prototypes. Otherwise class c owns rows c m to
        c m + m - 1. Other owners are set by :meth:`set_ownership`.

    unit_prototypes : bool, default=False
        Whether :meth:`constrain_` brings the prototypes back to length 1.

    shallow_layer : str or None, default=None
        Name of a module inside of the encoder (as in ``encoder.named_modules()``)
        whose output is wanted as "shallow", and the sites as "embedding".

    similarity_options, pooling_options, head_options : dict or None
        Further parameters of the three blocks, such as ``{"scale": 10.0}``,
        ``{"k": 3}``, ``{"incorrect_weight": -0.5}``.

    encoder : SiteEncoder or None, default=None
        Maps x to sites (n, T, D). None: rows or sites as they are.

    Attributes
    ----------
    prototypes : Parameter of shape (P, D)
        Zeros at first: to be filled from data.
    ownership : buffer of shape (P, K), bool
        Which class owns which prototype.
    similarity, pooling, head : Module
        The three blocks.

    Notes
    -----
    In training all distances come from one float32 matrix product. In evaluation mode
    the product is in float64 and distances below its rounding are 0: a prototype that
    is equal to a site has the distance 0 exactly and the largest similarity there is
    (:attr:`PartSimilarity.max_value <skproto.nn.part_similarity.PartSimilarity>`).

    References
    ----------
    Chen, C., Li, O., Tao, C., Barnett, A. J., Su, J., Rudin, C. (2019). This Looks
    Like That: Deep Learning for Interpretable Image Recognition. *NeurIPS*, section 2.

    Examples
    --------
    >>> import torch
    >>> net = PartPrototypeNetwork(2, 2, 2, similarity="log_l2").eval()
    >>> with torch.no_grad():
    ...     _ = net.prototypes.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    ...     outputs = net(torch.tensor([[[0.0, 0.0], [1.0, 1.0]]]))
    >>> outputs["activations"], outputs["sites"]
    (tensor([[9.2103, 0.6930]]), tensor([[0, 0]]))
    >>> outputs["scores"]
    tensor([[ 8.8638, -3.9121]])
    """

    ownership: Tensor

    def __init__(
        self,
        n_prototypes: int,
        dim: int,
        n_classes: int,
        *,
        similarity: str = "cosine",
        pooling: str = "max",
        head: str = "class_linear",
        shared: bool = False,
        unit_prototypes: bool = False,
        shallow_layer: str | None = None,
        similarity_options: Mapping[str, Any] | None = None,
        pooling_options: Mapping[str, Any] | None = None,
        head_options: Mapping[str, Any] | None = None,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "n_prototypes": n_prototypes,
            "dim": dim,
            "n_classes": n_classes,
            "similarity": similarity,
            "pooling": pooling,
            "head": head,
            "shared": shared,
            "unit_prototypes": unit_prototypes,
            "shallow_layer": shallow_layer,
            "similarity_options": dict(similarity_options or {}),
            "pooling_options": dict(pooling_options or {}),
            "head_options": dict(head_options or {}),
        }
        self.unit_prototypes = unit_prototypes
        self.shallow_layer = shallow_layer
        self.encoder = SiteEncoder() if encoder is None else encoder
        if shallow_layer is not None:
            _check_layer(self.encoder, shallow_layer)
        self.prototypes = nn.Parameter(torch.zeros(n_prototypes, dim))
        options = self.config["similarity_options"]
        self.similarity = make_similarity(similarity, n_prototypes, dim, **options)
        self.pooling = make_pooling(pooling, **self.config["pooling_options"])
        options = self.config["head_options"]
        self.head = make_head(head, n_prototypes, n_classes, **options)
        if hasattr(self.head, "bind"):
            self.head.bind(self.similarity)
        shape = (n_prototypes, n_classes)
        self.register_buffer("ownership", torch.zeros(shape, dtype=torch.bool))
        everyone = torch.ones(shape, dtype=torch.bool)
        self.set_ownership(everyone if shared else class_owners(*shape))

    @torch.no_grad()
    def set_ownership(self, ownership: Tensor, *, reset_head: bool = True) -> None:
        """Set the owners (P, K) of the prototypes and start the head from them.

        Parameters
        ----------
        ownership : Tensor of shape (P, K), bool
            True where the class owns the prototype.
        reset_head : bool, default=True
            Whether the head starts anew; False where it holds what it has learned.
        """
        self.ownership.copy_(ownership)
        if reset_head:
            self.head.reset(self.ownership)

    @torch.no_grad()
    def set_prototypes(self, points) -> None:
        """Put the prototypes at points (P, D)."""
        self.prototypes.copy_(torch.as_tensor(points))
        self.constrain_()

    def candidates(self, x: Tensor) -> Tensor:
        """Return what a prototype can become by projection: the sites (n, T, D)."""
        sites: Tensor = self.encoder(x)
        return sites

    def admissible(self, candidates: Tensor) -> Tensor | None:
        """Which candidates prototypes can become, (n, T) bool; None: all."""
        return self.similarity.admissible(candidates)

    def forbidden_candidates(self, x: Tensor) -> Tensor | None:
        """Which candidates prototypes must not become, (P, T) bool; None: none."""
        return forbidden_sites(self)

    def search_vectors(self, candidates: Tensor) -> Tensor:
        """Vectors of the candidates for a search by the inner product."""
        return self.similarity.search_vectors(candidates)

    def search_targets(self) -> Tensor:
        """Vectors (P, F) of the prototypes for a search by the inner product."""
        return self.similarity.search_targets(self.prototypes)

    def candidate_distances(self, points: Tensor) -> Tensor:
        """Latent distances (k, P) of candidates (k, P, D) from the prototypes."""
        p = self.prototypes.cpu().double()
        return self.similarity.between(points.cpu().double(), p)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compare the samples with the prototypes.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            What the encoder takes.

        Returns
        -------
        outputs : dict of Tensor
            "scores" (n, K); "activations" (n, P), the pooled similarities; "sites"
            (n, P) int64, the nearest site of each prototype; "distances" (n, P), its
            distance in the latent space (chord between directions for "cosine" and
            "dot"); "costs" (n, P), what cluster and separation costs are made of:
            squared distance, or 1 - cosine. With `shallow_layer` also "shallow" (n,
            C, H, W) or (n, T, C), without gradient, and "embedding" (n, T, D). What
            else the head returns.
        """
        with self._tapped() as tap:
            z = self.encoder(x)
        outputs = self.compare(z)
        if tap:
            outputs["shallow"], outputs["embedding"] = tap[0], z
        return outputs

    def compare(self, z: Tensor) -> dict[str, Tensor]:
        """Compare sites (n, T, D) with the prototypes; see :meth:`forward`."""
        if torch.is_autocast_enabled(z.device.type):
            # Small differences of large numbers: half precision loses them.
            with torch.autocast(z.device.type, enabled=False):
                return self.compare(z.to(self.prototypes.dtype))
        rows, p = self._operands(z)
        d, counts = self._dissimilarities(rows, p), None
        forbidden = forbidden_sites(self)
        if forbidden is not None:
            counts = ~forbidden.T.to(d.device)
            d = d.masked_fill(~counts, torch.inf)
        pooled: Pooled = self.pooling(d, self.similarity.to_similarity, counts)
        measures = self._measures(rows, p, d, pooled)
        measures = {k: v.to(z) for k, v in measures.items()}
        parts = {
            k: measures.pop(k) for k in ("dissimilarities", "mean_dissimilarities")
        }
        sites = pooled.sites.to(z.device)
        parts["activations"] = measures["activations"]
        return {**measures, "sites": sites, **self.head(parts)}

    def _measures(
        self, z: Tensor, p: Tensor, d: Tensor, pooled: Pooled
    ) -> dict[str, Tensor]:
        """Values (n, P) of the winning sites, in the precision of the comparison."""
        nearest, similarity = pooled.nearest, self.similarity
        return {
            "activations": pooled.similarities,
            "dissimilarities": nearest,
            "mean_dissimilarities": nearest if pooled.mean is None else pooled.mean,
            "distances": similarity.distances(z, p, pooled.sites, nearest),
            "costs": similarity.costs(z, p, d, nearest),
        }

    def similarity_maps(self, x: Tensor) -> Tensor:
        """Similarity of every prototype at every site.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            What the encoder takes.

        Returns
        -------
        maps : Tensor of shape (n, P, T)
            Under max pooling their maximum over the sites is the activation. Where a
            site is forbidden it is the lowest value of the other ones.
        """
        z = self.encoder(x)
        maps = self.similarity.to_similarity(self._dissimilarities(*self._operands(z)))
        maps = maps.transpose(1, 2).to(z)
        return lowest_where_forbidden(maps, forbidden_sites(self))

    def _operands(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Sites and prototypes in the precision in which to compare them."""
        p: Tensor = self.prototypes
        if self.training:
            return z, p
        if z.device.type == "mps":  # has no float64
            z, p = z.cpu(), p.cpu()
        return z.double(), p.double()

    def _dissimilarities(self, z: Tensor, p: Tensor) -> Tensor:
        """Distances (n, T, P), as the kernel takes them."""
        d = self.similarity.distance(z.flatten(0, 1), p)
        if not self.training:
            d = d.masked_fill(d <= self.similarity.noise(p), 0.0)
        return d.unflatten(0, (-1, z.shape[1]))

    @contextmanager
    def _tapped(self) -> Iterator[list[Tensor]]:
        """Collect the output of the shallow layer while the encoder runs."""
        tap: list[Tensor] = []
        if self.shallow_layer is None or torch.compiler.is_compiling():
            yield tap
            return
        layer = self.encoder.get_submodule(self.shallow_layer)
        handle = layer.register_forward_hook(
            lambda module, inputs, output: tap.append(output.detach())
        )
        try:
            yield tap
        finally:
            handle.remove()

    def keep(self, kept: Tensor) -> PartPrototypeNetwork:
        """Return the same network with the prototypes of a mask only.

        Parameters
        ----------
        kept : Tensor of shape (P,), bool
            Which prototypes stay.

        Returns
        -------
        network : PartPrototypeNetwork
            Shares the encoder; everything else is copied.
        """
        config = {**self.config, "n_prototypes": int(kept.sum())}
        network = type(self)(**config, encoder=self.encoder)
        network.to(self.prototypes).train(self.training)
        axes = {"prototypes": 0, "ownership": 0, "similarity.log_radius": 0}
        axes |= {f"head.{name}": a for name, a in self.head.prototype_axes.items()}
        rows = kept.to(self.prototypes.device).nonzero().squeeze(1)
        state = self.state_dict()
        for name in axes.keys() & state.keys():
            state[name] = state[name].index_select(axes[name], rows)
        network.load_state_dict(state)
        return network

    @torch.no_grad()
    def constrain_rows_(self, rows: Tensor) -> None:
        """Bring some prototypes (F, D), which are a tensor of their own, back."""
        if self.unit_prototypes:
            rows.copy_(unit(rows))

    @torch.no_grad()
    def constrain_(self) -> None:
        """Bring prototypes and head back into their domain after a step."""
        if self.unit_prototypes:
            self.prototypes.copy_(unit(self.prototypes))
        constrain = getattr(self.head, "constrain_", None)
        if constrain is not None:
            constrain()


def _check_layer(encoder: nn.Module, name: str) -> None:
    """Raise if the encoder has no layer of that name."""
    names = [layer for layer, _ in encoder.named_modules() if layer]
    if name not in names:
        raise ValueError(
            f"shallow_layer must name a module of the encoder, got {name!r}; "
            f"there are {names}"
        )
