"""Learning vector quantization: metrics, and the module behind the LVQ classifiers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skproto.nn.encoders import SiteEncoder
from skproto.nn.similarity import map_sites, root

METRICS = ("euclidean", "relevance", "matrix", "local-matrix")

# Distance to a class without prototypes; two of them still add up in float32.
FAR = 1e37


class LVQMetric(nn.Module):
    r"""Squared distances :math:`d_k(x) = \|\Omega_k (x - w_k)\|^2` to prototypes.

    Parameters
    ----------
    dim : int
        Dimension D of samples and prototypes.

    metric : {"euclidean", "relevance", "matrix", "local-matrix"}, default="euclidean"
        :math:`\Omega` is the identity; the diagonal matrix of the roots of relevances
        that sum to 1 (a softmax); one matrix, or one for each prototype, divided by
        its Frobenius norm, so that the trace of :math:`\Lambda = \Omega^T \Omega`
        is 1.

    n_components : int or None, default=None
        Rows l of the matrices; None means D.

    n_prototypes : int, default=1
        Number of matrices P of "local-matrix".

    References
    ----------
    Sato and Yamada, Generalized Learning Vector Quantization, NIPS 1995.
    Hammer and Villmann, Generalized Relevance Learning Vector Quantization, Neural
    Networks 2002.
    Schneider, Biehl and Hammer, Adaptive Relevance Matrices in Learning Vector
    Quantization, Neural Computation 2009.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import LVQMetric
    >>> metric = LVQMetric(4, "relevance")
    >>> metric.relevances().tolist()
    [0.25, 0.25, 0.25, 0.25]
    """

    def __init__(self, dim, metric="euclidean", n_components=None, n_prototypes=1):
        super().__init__()
        if metric not in METRICS:
            raise ValueError(f"metric must be one of {METRICS}. Got {metric!r}.")
        self.metric = metric
        n_components = dim if n_components is None else n_components
        start = torch.eye(n_components, dim)
        if metric == "relevance":
            self.logits = nn.Parameter(torch.zeros(dim))
        elif metric == "matrix":
            self.matrix = nn.Parameter(start)
        elif metric == "local-matrix":
            self.matrix = nn.Parameter(start.repeat(n_prototypes, 1, 1))

    @property
    def is_local(self) -> bool:
        """Whether each prototype has its own matrix."""
        return self.metric == "local-matrix"

    def omega(self) -> Tensor | None:
        """Linear map of the metric, normalised.

        Returns
        -------
        omega : Tensor or None
            None ("euclidean"), (D,) the roots of the relevances ("relevance"), (l, D)
            ("matrix") or (P, l, D) ("local-matrix").
        """
        if self.metric == "euclidean":
            return None
        if self.metric == "relevance":
            return (0.5 * self.logits.log_softmax(0)).exp()
        norm = torch.linalg.vector_norm(self.matrix, dim=(-2, -1), keepdim=True)
        return self.matrix / norm

    def relevances(self) -> Tensor | None:
        """Diagonal of the (mean) matrix Lambda, (D,), of sum 1; None if Euclidean."""
        omega = self.omega()
        if omega is None:
            return None
        squared = omega.square()
        if squared.ndim == 3:
            squared = squared.mean(0)
        return squared if squared.ndim == 1 else squared.sum(0)

    def log_determinant(self) -> Tensor:
        r"""Mean of :math:`\log\det(\Omega\Omega^T)` over the matrices, a scalar."""
        omega = self.omega()
        if omega is None:
            return torch.zeros(())
        if omega.ndim == 1:
            return omega.square().log().sum()
        return torch.linalg.slogdet(omega @ omega.mT).logabsdet.mean()

    def forward(self, z: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances as a part that differs between prototypes and a base.

        Parameters
        ----------
        z : Tensor of shape (n, D)
            Samples; the parameters are cast to their dtype.

        p : Tensor of shape (P, D)
            Prototypes.

        Returns
        -------
        gaps : Tensor of shape (n, P)
            Squared distances less `base`. Comparisons of prototypes need no more than
            these, so that the cancellation of large norms does not touch them. A
            transposed view: what is compared lies far apart in memory, samples side by
            side, which is several times faster.

        base : Tensor of shape (n, 1)
            Squared norm of the mapped samples; 0 for "local-matrix".
        """
        omega = self._cast(z)
        if self.is_local:
            n_rows = omega.shape[1]
            mapped = (z @ omega.flatten(0, 1).T).unflatten(1, (-1, n_rows))
            mapped = mapped - (omega @ p[:, :, None]).squeeze(2)
            return mapped.square().sum(-1), z.new_zeros(()).expand(z.shape[0], 1)
        z, w = _map(z, omega), _map(p, omega)
        norms = w.square().sum(-1, keepdim=True)
        gaps = torch.addmm(norms, w, z.T, alpha=-2.0).T
        return gaps, z.square().sum(-1, keepdim=True)

    def exact(self, z: Tensor, p: Tensor) -> Tensor:
        """Squared distances (n, P) from differences: no cancellation, O(n P D)."""
        omega = self._cast(z)
        difference = z[:, None, :] - p
        if self.is_local:
            mapped = (omega @ difference[..., None]).squeeze(-1)
        else:
            mapped = _map(difference, omega)
        return mapped.square().sum(-1)

    def _cast(self, z: Tensor) -> Any:
        omega = self.omega()
        return None if omega is None else omega.to(z.dtype)


def _map(z: Tensor, omega: Tensor | None) -> Tensor:
    if omega is None:
        return z
    return z * omega if omega.ndim == 1 else z @ omega.T


class LVQNetwork(nn.Module):
    r"""Labelled prototypes with an adaptive metric.

    With `mixture=False` (GLVQ) the score of class c compares the squared distances to
    the nearest prototype of c and to the nearest prototype of all other classes,
    :math:`s_c = (d_{\neg c} - d_c) / (d_{\neg c} + d_c) \in [-1, 1]`; it is 0 where
    both are 0. With `mixture=True` (RSLVQ) it is the posterior of c in a mixture of
    equally likely Gaussians around the prototypes,
    :math:`p(k|x) \propto \exp(-d_k / 2\sigma^2)`.

    Parameters
    ----------
    labels : sequence of int
        Class code of each of the P prototypes.

    dim : int
        Dimension D of the prototypes.

    n_classes : int
        Number of classes K.

    metric : str, default="euclidean"
        See :class:`LVQMetric`.

    n_components : int or None, default=None
        See :class:`LVQMetric`.

    mixture : bool, default=False
        Whether scores are posteriors of a mixture.

    encoder : nn.Module or None, default=None
        Maps rows to sites (n, T, D); the nearest site counts. None: the row itself.

    Examples
    --------
    >>> import torch
    >>> network = LVQNetwork([0, 1], dim=2, n_classes=2)
    >>> _ = network.prototypes.data.copy_(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    >>> outputs = network(torch.tensor([[1.0, 1.0]]))
    >>> outputs["squared_distances"]
    tensor([[ 2., 13.]], grad_fn=<ClampMinBackward0>)
    >>> round(float(outputs["scores"][0, 0].detach()), 6)
    0.733333
    """

    def __init__(
        self,
        labels: Sequence[int],
        dim: int,
        n_classes: int,
        metric: str = "euclidean",
        n_components: int | None = None,
        mixture: bool = False,
        encoder: nn.Module | None = None,
    ):
        super().__init__()
        labels = [int(code) for code in labels]
        self.config: dict[str, Any] = {
            "labels": labels,
            "dim": dim,
            "n_classes": n_classes,
            "metric": metric,
            "n_components": n_components,
            "mixture": mixture,
        }
        self.mixture = mixture
        self.encoder = SiteEncoder() if encoder is None else encoder
        self.prototypes = nn.Parameter(torch.zeros(len(labels), dim))
        self.metric = LVQMetric(dim, metric, n_components, len(labels))
        self._set_layout(torch.tensor(labels), n_classes)
        self.variance: Tensor
        if mixture:
            self.register_buffer("variance", torch.ones(()))

    def _set_layout(self, labels: Tensor, n_classes: int) -> None:
        """List the positions of every class's prototypes, padded to the longest."""
        counts = torch.bincount(labels, minlength=n_classes)
        rank = torch.arange(int(counts.max()))
        first = (counts.cumsum(0) - counts)[:, None]
        slots = labels.argsort(stable=True)[(first + rank).clamp_max(len(labels) - 1)]
        empty = rank >= counts[:, None]
        # Prototypes in the order of the classes need no reordering.
        in_order = torch.equal(slots.flatten(), torch.arange(slots.numel()))
        self.is_regular = in_order and not bool(empty.any())
        self.labels: Tensor
        self.slots: Tensor
        self.empty: Tensor
        self.register_buffer("labels", labels, persistent=False)
        self.register_buffer("slots", slots, persistent=False)
        self.register_buffer("empty", empty, persistent=False)

    def per_class(self, values: Tensor, filler: float) -> Tensor:
        """Arrange (n, P) by class as (K, r, n), padded with `filler`."""
        shape = (self.slots.shape[0], self.slots.shape[1])
        if self.is_regular:
            return values.T.unflatten(0, shape)
        arranged = values.T[self.slots.flatten()].unflatten(0, shape)
        return arranged.masked_fill(self.empty[:, :, None], filler)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return scores, activations and distances of scaled rows (n, f)."""
        return self.from_sites(self.encoder(x))

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Return "scores", "log_scores" and "nearness" of :meth:`forward` alone.

        Parameters
        ----------
        x : Tensor of shape (n, f)
            Scaled rows.

        Returns
        -------
        outputs : dict of str to Tensor
            The same bits as in :meth:`from_sites`, which describes them, without what
            each prototype has to say.
        """
        return self._decide(*self._distances(self.encoder(x), exact=False))

    def from_sites(self, z: Tensor, exact: bool = False) -> dict[str, Tensor]:
        """Return the outputs for encoded samples.

        Parameters
        ----------
        z : Tensor of shape (n, T, D)
            Sites; their dtype is that of the computation.

        exact : bool, default=False
            Whether to sum squared differences instead of using a matrix product.

        Returns
        -------
        outputs : dict of str to Tensor
            "squared_distances", "distances" (their roots) and "activations" (n, P),
            "scores" (n, K), "nearness" (n,) the smallest squared distance as a share
            of the squared norm of the sample (small: the matrix product cancels),
            "embedding" as passed; of several sites "sites" (n, P), the nearest site of
            each prototype; without `mixture` "class_gaps" (n, K), the squared
            distance to the nearest prototype of each class less the smallest; with it
            "log_scores" (n, K), log mixtures up to a constant of the sample, and
            "log_responsibilities" (n, P).
        """
        gaps, base, reach = self._distances(z, exact)
        squared = (gaps + base).clamp_min(0.0)
        if self.mixture:
            activations = (-squared / self._scale(squared)).exp()
        else:
            activations = 1.0 / (1.0 + squared)
        return {
            **self._decide(gaps, base, reach),
            "activations": activations,
            "squared_distances": squared,
            "distances": root(squared),
            "embedding": z,
            **self._places(z),
        }

    def _places(self, z: Tensor) -> dict[str, Tensor]:
        """Return the nearest site of each prototype where there are several."""
        if z.shape[1] == 1:
            return {}
        with torch.no_grad():
            return {"sites": self._site_distances(z).argmin(2)}

    def _site_distances(self, z: Tensor) -> Tensor:
        """Squared distances (n, P, T) of every prototype to every site."""

        def squared(sites: Tensor) -> Tensor:
            gaps, base = self.metric(sites, self.prototypes.to(z.dtype))
            return (gaps + base).clamp_min(0.0)

        return map_sites(squared, z)

    def similarity_maps(self, x: Tensor) -> Tensor:
        """Return the activation (n, P, T) of every prototype at every site."""
        squared = self._site_distances(self.encoder(x))
        if self.mixture:
            return (-squared / self._scale(squared)).exp()
        return 1.0 / (1.0 + squared)

    def _distances(self, z: Tensor, exact: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Gaps (n, P), base (n, 1), and the norms (n, 1) that may have cancelled."""
        p = self.prototypes.to(z.dtype)
        n_sites = z.shape[1]
        if n_sites == 1 and not exact:
            gaps, base = self.metric(z[:, 0], p)
            return gaps, base, torch.zeros_like(base) if self.metric.is_local else base
        sites = z.flatten(0, 1)
        if exact:
            squared, reach = self.metric.exact(sites, p), sites.new_zeros(len(sites), 1)
        else:
            gaps, reach = self.metric(sites, p)
            squared = (gaps + reach).clamp_min(0.0)
        squared = squared.unflatten(0, (-1, n_sites)).amin(1)
        reach = reach.unflatten(0, (-1, n_sites)).amax(1)
        return squared, torch.zeros_like(reach), reach

    def _decide(self, gaps: Tensor, base: Tensor, reach: Tensor) -> dict[str, Tensor]:
        """Compare the classes, and tell how near the nearest prototype is."""
        nearest = gaps.detach().T.amin(0) + base.detach().squeeze(1)
        nearness = nearest / reach.detach().squeeze(1).clamp_min(1e-30)
        outputs = self._mixture(gaps) if self.mixture else self._relative(gaps, base)
        return {**outputs, "nearness": nearness}

    def _relative(self, gaps: Tensor, base: Tensor) -> dict[str, Tensor]:
        own = _smallest(self.per_class(gaps, FAR))
        other, base = _smallest_other(own), base.T
        total = (own + base).clamp_min(0.0) + (other + base).clamp_min(0.0)
        coincide = total <= 0
        scores = (other - own) / total.masked_fill(coincide, 1.0)
        scores = scores.masked_fill(coincide, 0.0).clamp(-1.0, 1.0)
        return {
            "scores": scores.T,
            "class_gaps": (own - own.amin(0, keepdim=True)).T,
        }

    def _mixture(self, gaps: Tensor) -> dict[str, Tensor]:
        log_joint = -gaps / self._scale(gaps)
        log_shares = log_joint.T.log_softmax(0).T
        return {
            "scores": self.per_class(log_shares.exp(), 0.0).sum(1).T,
            "log_scores": self.per_class(log_joint, -math.inf).logsumexp(1).T,
            "log_responsibilities": log_shares,
        }

    def _scale(self, like: Tensor) -> Tensor:
        return 2.0 * self.variance.to(like.dtype)

    def keep(self, kept: Tensor) -> LVQNetwork:
        """Return the same network with the prototypes of a mask (P,) only."""
        labels = self.labels[kept].tolist()
        network = LVQNetwork(**{**self.config, "labels": labels}, encoder=self.encoder)
        state = dict(self.state_dict())
        names = ["prototypes"] + ["metric.matrix"] * self.metric.is_local
        state.update({name: state[name][kept] for name in names})
        network.load_state_dict(state)
        return network.to(self.prototypes)


def _smallest(values: Tensor) -> Tensor:
    """Smallest of the r values of (K, r, n); of equal ones the first has the gradient.

    Without gradients no position is looked for, which is much faster.
    """
    if torch.is_grad_enabled():
        return values.min(1).values
    return values.amin(1)


def _smallest_other(values: Tensor) -> Tensor:
    """For each row the smallest value of all other rows, (K, n)."""
    n_classes = values.shape[0]
    if n_classes == 2:
        return values.flip(0)
    first, position = values.min(0, keepdim=True)
    is_first = torch.arange(n_classes, device=values.device)[:, None] == position
    second = values.masked_fill(is_first, math.inf).amin(0, keepdim=True)
    return torch.where(is_first, second, first)
