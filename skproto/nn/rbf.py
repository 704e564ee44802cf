"""Networks of radial basis functions: the module behind RBF and CBC classifiers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from skproto.nn.certificates import KernelHead
from skproto.nn.encoders import SiteEncoder
from skproto.nn.heads import LinearHead, OriginalReasoningHead, ReasoningHead
from skproto.nn.lvq import LVQMetric
from skproto.nn.similarity import RBFKernel, map_sites, root, squared_distances


class RBFNetwork(nn.Module):
    """Prototypes with an RBF kernel and an additive head.

    Parameters
    ----------
    n_prototypes : int
        Number of prototypes P.

    dim : int
        Dimension D of the prototypes.

    n_classes : int
        Number of classes K.

    head : {"linear", "convex", "reasoning", "original"}
        "linear" has free weights, "convex" weights that are probabilities,
        "reasoning" counts presence and absence, "original" is the form of 2019.

    exponent : {1, 2}, default=2
        Exponent of the distance in the kernel.

    shared_sigma, train_sigma : bool
        Whether there is one width, and whether it is learned.

    n_reasonings : int, default=1
        Concepts of each class ("convex" and "reasoning").

    metric : {"euclidean", "relevance"}, default="euclidean"
        "relevance" weighs the squared difference of every dimension by a learned
        factor; the factors have mean 1.

    channels : bool, default=False
        Whether the prototypes are the channels of the encoder: what is detected at a
        site is the softmax over its D channels, P = D.

    kept : list of int, default=None
        Channels that are prototypes; None: all. The softmax is over all of them
        always, so that dropping one does not change the others.

    encoder : nn.Module, default=None
        Maps rows to sites (n, T, D); the best site counts. None: the row itself.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import RBFNetwork
    >>> outputs = RBFNetwork(4, 2, 3, "linear")(torch.zeros(5, 2))
    >>> outputs["scores"].shape, outputs["activations"].shape
    (torch.Size([5, 3]), torch.Size([5, 4]))
    """

    def __init__(
        self,
        n_prototypes,
        dim,
        n_classes,
        head,
        exponent=2,
        shared_sigma=False,
        train_sigma=True,
        n_reasonings=1,
        metric="euclidean",
        channels=False,
        kept=None,
        encoder=None,
    ):
        super().__init__()
        self.config = {
            "n_prototypes": n_prototypes,
            "dim": dim,
            "n_classes": n_classes,
            "head": head,
            "exponent": exponent,
            "shared_sigma": shared_sigma,
            "train_sigma": train_sigma,
            "n_reasonings": n_reasonings,
            "metric": metric,
            "channels": channels,
            "kept": kept,
        }
        self.channels = channels
        # Numbers of the channels that are prototypes.
        self.index: Tensor | None
        index = None if kept is None else torch.tensor(kept)
        self.register_buffer("index", index, persistent=False)
        self.encoder = SiteEncoder() if encoder is None else encoder
        self.prototypes = nn.Parameter(torch.zeros(n_prototypes, dim))
        # Where the prototypes started: a penalty holds training near.
        self.start: Tensor
        self.register_buffer("start", torch.zeros(n_prototypes, dim))
        self.metric = LVQMetric(dim, metric)
        self.kernel = RBFKernel(n_prototypes, exponent, shared_sigma, train_sigma)
        self.head: LinearHead | OriginalReasoningHead | ReasoningHead
        if head == "linear":
            self.head = LinearHead(n_prototypes, n_classes)
        elif head == "original":
            self.head = OriginalReasoningHead(n_prototypes, n_classes)
        else:
            negative = head == "reasoning"
            self.head = ReasoningHead(n_prototypes, n_classes, n_reasonings, negative)

    @torch.no_grad()
    def set_prototypes(self, points) -> None:
        """Put the prototypes at points (P, D) and remember them as the start."""
        self.prototypes.copy_(torch.as_tensor(points))
        self.start.copy_(self.prototypes)

    def drift(self) -> Tensor:
        """Half the summed squared distance of the prototypes from their start."""
        return 0.5 * (self.prototypes - self.start).square().sum()

    def stretch(self) -> Tensor | None:
        """Factor of every dimension in the metric, (D,); None if Euclidean."""
        omega = self.metric.omega()
        return None if omega is None else math.sqrt(len(omega)) * omega

    def site_distances(self, x: Tensor) -> Tensor:
        """Squared distance of every prototype to every site, (n, P, T).

        Where the prototypes are channels it is minus the logarithm of their share.
        """
        z: Tensor = self.encoder(x)
        if self.channels:
            surprise = -z.log_softmax(2).transpose(1, 2)
            return surprise if self.index is None else surprise[:, self.index]
        p: Tensor = self.prototypes
        stretch = self.stretch()
        if stretch is not None:
            z, p = z * stretch, p * stretch
        if z.shape[1] == 1:
            return squared_distances(z[:, 0], p)[:, :, None]
        return map_sites(lambda sites: squared_distances(sites, p), z)

    def nearest_sites(self, x: Tensor) -> Tensor:
        """Squared distance of every prototype to its nearest site, (n, P)."""
        return self.site_distances(x).amin(2)

    def similarity_maps(self, x: Tensor) -> Tensor:
        """Return the detection (n, P, T) of every prototype at every site."""
        squared = self.site_distances(x)
        n_sites = squared.shape[2]
        rows = self.kernel(squared.transpose(1, 2).flatten(0, 1))
        return rows.exp().unflatten(0, (-1, n_sites)).transpose(1, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return scores, activations, log activations and distances of samples.

        Where the encoder returns several sites, "sites" (n, P) are the nearest of each
        prototype.
        """
        at_sites = self.site_distances(x)
        places = {}
        if at_sites.shape[2] == 1:
            squared = at_sites[:, :, 0]
        else:
            squared, places["sites"] = at_sites.min(2)
        log_activations = self.kernel(squared)
        return {
            **self.head(log_activations),
            "log_activations": log_activations,
            "distances": root(squared),
            **places,
        }

    def kernel_head(self) -> KernelHead:
        """Head and widths as the certificates take them."""
        first, second = self.head.tables()
        sigma, power = self.kernel.sigma, self.kernel.exponent
        if isinstance(self.head, LinearHead):
            return KernelHead.from_weights(first, second, sigma, power=power)
        n_reasonings = self.head.n_reasonings
        labels = torch.arange(first.shape[1], device=first.device) // n_reasonings
        negative = second if self.head.negative else None
        return KernelHead.from_reasoning(
            first, negative, sigma, labels=labels, power=power
        )

    def keep(self, kept: Tensor) -> RBFNetwork:
        """Return the same network with the prototypes of a mask (P,) only."""
        config = {**self.config, "n_prototypes": int(kept.sum())}
        if self.channels:
            index = torch.arange(len(kept)) if self.index is None else self.index.cpu()
            config["kept"] = index[kept].tolist()
        network = RBFNetwork(**config, encoder=self.encoder)
        state = dict(self.state_dict())
        names = ["prototypes", "start", "head.weight", "head.logits"]
        if len(self.kernel.log_sigma) == len(kept):
            names += ["kernel.log_sigma", "kernel.start"]
        for name in set(names) & set(state):
            mask = kept
            if name == "head.logits" and self.head.negative:
                mask = kept.repeat(2)
            state[name] = state[name][mask]
        network.load_state_dict(state)
        return network.to(self.prototypes)

    @torch.no_grad()
    def constrain_(self) -> None:
        """Bring parameters back into their domain after a step."""
        constrain = getattr(self.head, "constrain_", None)
        if constrain is not None:
            constrain()
