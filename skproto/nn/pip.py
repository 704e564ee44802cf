"""PIP-Net: every channel of a softmax over sites is a prototype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from skproto.nn.encoders import SiteEncoder
from skproto.nn.forbidden import forbidden_sites, lowest_where_forbidden
from skproto.nn.part_heads import NonNegativeHead

# Smallest argument of a logarithm.
EPSILON = 1e-8


def alignment(first: Tensor, second: Tensor) -> Tensor:
    r"""Return how far two views disagree: :math:`-\frac{1}{T}\sum_t \log z_t z'_t`.

    Parameters
    ----------
    first, second : Tensors of shape (n, T, D)
        Channel probabilities at the sites of two views of the same samples.

    Returns
    -------
    loss : Tensor of shape (n,)
        0 where both views are sure of the same channel at every site.

    Examples
    --------
    >>> import torch
    >>> alignment(torch.tensor([[[0.7, 0.2, 0.1]]]), torch.tensor([[[0.6, 0.3, 0.1]]]))
    tensor([0.7133])
    """
    return -((first * second).sum(2) + EPSILON).log().mean(1)


class SparsePositiveHead(NonNegativeHead):
    r"""Class scores :math:`s \max(W, 0)`, with weights that training shrinks to 0.

    A prototype speaks for a class or not at all.

    Parameters
    ----------
    n_prototypes, n_classes : int
        Numbers P and K.

    shrink : float, default=1e-3
        What every training step takes from the weights; larger values leave fewer
        prototypes for a class.

    Attributes
    ----------
    weight : Parameter of shape (P, K)
        1 at first; :meth:`draw` adds noise.

    References
    ----------
    Nauta et al., PIP-Net: Patch-Based Intuitive Prototypes for Interpretable Image
    Classification, CVPR 2023.
    """

    def __init__(self, n_prototypes, n_classes, shrink=1e-3):
        super().__init__(n_prototypes, n_classes)
        self.shrink = float(shrink)
        self.reset()

    @torch.no_grad()
    def reset(self, ownership: Tensor | None = None) -> None:
        """Put 1 everywhere: no class owns a prototype yet."""
        self.weight.fill_(1.0)

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw the weights from a normal distribution of mean 1, deviation 0.1."""
        noise = torch.randn(self.weight.shape, generator=generator)
        self.weight.copy_(1.0 + 0.1 * noise)

    def forward(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        r"""Return class scores and what the softmax takes.

        Parameters
        ----------
        parts : dict of Tensor
            "activations" (n, P), presences in [0, 1].

        Returns
        -------
        outputs : dict of Tensor
            "scores" (n, K), at least 0; "logits" (n, K), :math:`\log(1 + o^2)` of
            them: their softmax is the class probability
            :math:`(1 + o_k^2) / \sum_j (1 + o_j^2)`.
        """
        scores = super().forward(parts)["scores"]
        return {"scores": scores, "logits": scores.square().log1p()}

    @torch.no_grad()
    def constrain_(self) -> None:
        """Shrink the weights after a training step that may have moved them.

        Nothing happens in evaluation mode, or in a phase that holds the head fixed.
        """
        if self.training and self.weight.requires_grad:
            self.weight.sub_(self.shrink).clamp_min_(0.0)


class ChannelPrototypeNetwork(nn.Module):
    r"""Prototypes as channels: a softmax over channels at every site, then the maximum.

    :math:`z_t = \mathrm{softmax}(f_t)`, :math:`s_p = \max_t z_{tp}`, scores
    :math:`s \max(W, 0)`. In evaluation mode presences below `threshold` count as 0;
    a sample without any evidence has scores of 0 only, and the model abstains.

    Parameters
    ----------
    dim : int
        Dimension D of the encoder's sites.

    n_classes : int
        Number of classes K.

    n_channels : int, default=None
        Channels of the softmax, by a linear map from the D of the sites. None: the
        D dimensions themselves.

    kept : list of int, default=None
        Channels that are prototypes; None: all. The softmax is over all of them
        always, so that dropping one does not change the others.

    threshold : float, default=0.1
        Smallest presence that counts outside of training.

    shrink : float, default=1e-3
        See :class:`SparsePositiveHead`.

    encoder : nn.Module, default=None
        Maps samples to sites (n, T, D). None: rows are their own site.

    Attributes
    ----------
    channels : nn.Module
        The linear map to the channels, or the identity.

    head : SparsePositiveHead
        From presences to scores.

    ownership : buffer of shape (P, K), bool
        True everywhere: classes find their prototypes by the weights.

    References
    ----------
    Nauta et al., PIP-Net: Patch-Based Intuitive Prototypes for Interpretable Image
    Classification, CVPR 2023. Differs from its code in that evaluating never changes
    weights, and in the exponent of the class loss, which is the 2 of the paper and no
    parameter.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.pip import ChannelPrototypeNetwork
    >>> net = ChannelPrototypeNetwork(3, 2).eval()
    >>> outputs = net(torch.tensor([[[9.0, 0.0, 0.0], [0.0, 0.0, 9.0]]]))
    >>> outputs["activations"].round(decimals=2), outputs["sites"][:, [0, 2]]
    (tensor([[1., 0., 1.]]), tensor([[0, 1]]))
    """

    def __init__(
        self,
        dim,
        n_classes,
        n_channels=None,
        *,
        kept=None,
        threshold=0.1,
        shrink=1e-3,
        encoder=None,
    ):
        super().__init__()
        self.config: dict[str, Any] = {
            "dim": dim,
            "n_classes": n_classes,
            "n_channels": n_channels,
            "kept": kept,
            "threshold": threshold,
            "shrink": shrink,
        }
        self.threshold = threshold
        self.encoder = SiteEncoder() if encoder is None else encoder
        self.channels: nn.Module
        if n_channels is None:
            self.channels, n_channels = nn.Identity(), dim
        else:
            self.channels = nn.Linear(dim, n_channels)
        index = list(range(n_channels)) if kept is None else list(kept)
        self.n_channels = n_channels
        self.n_prototypes = len(index)
        self.index: Tensor
        self.register_buffer("index", torch.tensor(index).long(), persistent=False)
        self.head = SparsePositiveHead(len(index), n_classes, shrink)
        self.ownership: Tensor
        everyone = torch.ones(len(index), n_classes, dtype=torch.bool)
        self.register_buffer("ownership", everyone, persistent=False)

    @property
    def prototypes(self) -> Tensor:
        """Sites that are nothing but the prototype's channel, (P, n_channels)."""
        return functional.one_hot(self.index, self.n_channels).to(self.head.weight)

    def probabilities(self, x: Tensor) -> Tensor:
        """Return the probability of each channel at each site, (n, T, n_channels)."""
        return self.channels(self.encoder(x)).softmax(2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return scores, activations, sites and distances of samples.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            What the encoder takes. In training with :class:`AlignmentLoss`: two views
            of the batch, one after the other.

        Returns
        -------
        outputs : dict of str to Tensor
            "scores" and "logits" (n, K), see :class:`SparsePositiveHead`; "presences"
            (n, P), the largest probability of each channel, and "activations" (n, P),
            the same after the threshold (evaluation mode); "sites" (n, P), where it
            is; "distances" (n, P), the total variation distance there to a site that
            is nothing but the channel, ``1 - presence``; "abstains" (n,) bool, no
            evidence for any class; in training mode "site_probabilities"
            (n, T, n_channels).
        """
        z = self.probabilities(x)
        found = self._kept(z)
        forbidden = forbidden_sites(self)
        if forbidden is not None:
            found = found.masked_fill(forbidden.T, -1.0)  # below every probability
        presences, sites = found.max(1)
        activations = presences
        if not self.training:
            activations = presences.masked_fill(presences < self.threshold, 0.0)
        outputs = {
            **self.head({"activations": activations}),
            "activations": activations,
            "presences": presences,
            "sites": sites,
            "distances": 1.0 - presences,
        }
        outputs["abstains"] = (outputs["scores"] == 0).all(1)
        return {**outputs, "site_probabilities": z} if self.training else outputs

    def _kept(self, z: Tensor) -> Tensor:
        return z if self.n_prototypes == self.n_channels else z[:, :, self.index]

    def similarity_maps(self, x: Tensor) -> Tensor:
        """Return the probability of every prototype at every site, (n, P, T)."""
        maps = self._kept(self.probabilities(x)).transpose(1, 2)
        return lowest_where_forbidden(maps, forbidden_sites(self))

    def constrain_(self) -> None:
        """Shrink the weights of the head, see :class:`SparsePositiveHead`."""
        self.head.constrain_()

    def keep(self, kept: Tensor) -> ChannelPrototypeNetwork:
        """Return the same network with the prototypes of a mask (P,) only."""
        config = {**self.config, "kept": self.index[kept].tolist()}
        network = ChannelPrototypeNetwork(**config, encoder=self.encoder)
        state = dict(self.state_dict())
        state["head.weight"] = state["head.weight"][kept]
        network.load_state_dict(state)
        return network.to(self.head.weight).train(self.training)


def alignment_weight(epoch: int, n_epochs: int) -> float:
    """Return the weight of the alignment in pretraining: from 0 to 1 over the epochs.

    Parameters
    ----------
    epoch : int
        Epoch of the pretraining, from 1 to `n_epochs`.

    n_epochs : int
        Epochs of the pretraining.

    Examples
    --------
    >>> alignment_weight(5, 10)
    0.5
    """
    return epoch / n_epochs


def _views(values: Tensor) -> tuple[Tensor, Tensor]:
    """Split a batch of two views."""
    if len(values) % 2:
        raise ValueError(
            "Training needs two views of each sample, one after the other in the "
            f"batch. Got {len(values)} samples."
        )
    first, second = values.chunk(2)
    return first, second


@dataclass
class AlignmentLoss:
    """Two views of a sample shall show the same channels at the same sites.

    Each view is drawn towards the other, which is held fixed. In evaluation mode,
    where there is one view, it is 0.

    Parameters
    ----------
    name, weight : str, float
        Name in the history, factor in the total loss. The weight may change between
        epochs, see :func:`alignment_weight`.
    """

    name: str = "alignment"
    weight: float = 5.0

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the loss of each view, (n,)."""
        if not module.training:
            return outputs["scores"].new_zeros(len(target))
        first, second = _views(outputs["site_probabilities"])
        towards_second = alignment(first, second.detach())
        towards_first = alignment(second, first.detach())
        return torch.cat([towards_second, towards_first])


@dataclass
class PresenceLoss:
    r"""Every channel shall be present somewhere in a batch.

    :math:`-\frac{1}{P}\sum_p \log\tanh\sum_i s_{ip}`, the mean of both views in
    training mode.

    Parameters
    ----------
    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    name: str = "presence"
    weight: float = 2.0

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the loss, a scalar."""
        presences = outputs["presences"]
        if not module.training:
            return _absence(presences)
        first, second = _views(presences)
        return 0.5 * (_absence(first) + _absence(second))


def _absence(presences: Tensor) -> Tensor:
    return -(presences.sum(0).tanh() + EPSILON).log().mean()


@dataclass
class LogSquareLoss:
    r"""Negative log likelihood of the softmax over :math:`\log(1 + o^2)`.

    Parameters
    ----------
    name, weight : str, float
        Name in the history, factor in the total loss.
    """

    name: str = "class"
    weight: float = 2.0

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the loss of each sample, (n,)."""
        return functional.cross_entropy(outputs["logits"], target, reduction="none")
