"""What RBF and CBC classifiers share: kernel widths, head and evidence."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.special import softmax

from skproto.nn import (
    CrossEntropy,
    MarginLoss,
    NegativeLogLikelihood,
    Penalty,
    RBFNetwork,
    RobustLoss,
    width_rule,
)
from skproto.nn.certificates import certified_radius, convert_norm
from skproto.nn.similarity import local_widths, root
from skproto.shallow._certified import CertifiedPrototypeClassifier
from skproto.shallow._editing_rbf import RBFFamily
from skproto.training import TrainingData
from skproto.utils import _parameters as rules

EXPONENTS = {"metric": 1, "squared": 2, "channel_softmax": 2}

# Margins that margin=None stands for: a share of probability, a scaled distance.
DEFAULT_MARGINS = {"margin": 0.05, "robust": 0.5}

# From this many samples metric="auto" learns how much each feature counts.
MANY_SAMPLES = 1_500

# Samples from which the widths are computed.
MAX_WIDTH_SAMPLES = 10_000


class RBFNetworkClassifier(CertifiedPrototypeClassifier):
    """Base of the classifiers whose module is an :class:`~skproto.nn.RBFNetwork`."""

    _module_class = RBFNetwork
    _editing_family = RBFFamily
    _certificates = ("envelope", "closed", "theorem")
    _adjusts = ("kernel", "head", "metric")
    _per_prototype = (*CertifiedPrototypeClassifier._per_prototype, "sigma_")
    _parameter_rules = CertifiedPrototypeClassifier._parameter_rules.extended(
        n_prototypes=(rules.none(), rules.integer(1)),
        metric=rules.options("auto", "euclidean", "relevance"),
        kernel=rules.options(*EXPONENTS),
        sigma=(
            rules.options("auto", "local", "spread"),
            rules.real(0),
            rules.array(1),
        ),
        shared_sigma=rules.boolean(),
        train_sigma=rules.boolean(),
        p0=rules.real(0, 1),
        alpha=rules.real(0, ends="[)"),
        margin=(rules.none(), rules.real(0)),
        certificate=rules.options("envelope", "theorem"),
        width_penalty=rules.real(0, ends="[)"),
        prototype_penalty=rules.real(0, ends="[)"),
    )

    @abstractmethod
    def _head(self) -> str:
        """Name of the head, see :class:`~skproto.nn.RBFNetwork`."""

    def _make_module(self, data: TrainingData) -> RBFNetwork:
        encoder = self._make_encoder(data)
        points: Any
        if self._detects_channels:
            points, codes = np.eye(encoder.dim), None
        elif self.n_prototypes is None:
            points, codes = self._start(data, encoder)
        else:
            points, codes = self._start_shared(data, encoder, self.n_prototypes), None
        module = RBFNetwork(
            len(points),
            encoder.dim,
            data.n_classes,
            self._head(),
            exponent=EXPONENTS[self.kernel],
            shared_sigma=self.shared_sigma,
            train_sigma=self.train_sigma and not self._detects_channels,
            n_reasonings=getattr(self, "n_reasonings", 1),
            metric=self.metric_,
            channels=self._detects_channels,
            encoder=encoder,
        )
        with torch.no_grad():
            module.set_prototypes(points)
            self._start_widths(module, data)
            self._start_head(module.head, class_shares(module, data, codes), data.rng)
        return module

    @property
    def _detects_channels(self) -> bool:
        return bool(self.kernel == "channel_softmax")

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self._detects_channels and self.project_prototypes:
            raise ValueError(
                "kernel='channel_softmax' has channels for prototypes, which cannot be "
                "projected. Use project_prototypes=False."
            )

    def _check_eligible(self, codes: np.ndarray) -> None:
        if self._module.channels:
            raise ValueError(
                "project needs prototypes that have a place; those of "
                "kernel='channel_softmax' are the channels of the encoder."
            )
        super()._check_eligible(codes)

    def _start_widths(self, module: RBFNetwork, data: TrainingData) -> None:
        if self._detects_channels:
            return
        if not isinstance(self.sigma, str):
            widths = torch.from_numpy(self._given_widths(module.kernel.n_prototypes))
        elif self.sigma_rule_ == "local" and len(module.prototypes) > 1:
            widths = local_widths(module.prototypes.double(), EXPONENTS[self.kernel])
        else:
            widths = self._spread_widths(module, data)
        module.kernel.set_sigma(widths.mean() if self.shared_sigma else widths)

    def _given_widths(self, n_prototypes: int) -> np.ndarray:
        """Widths that the user gives, (1,) or (P,)."""
        sigma = np.atleast_1d(np.asarray(self.sigma, dtype=np.float64))
        if (sigma <= 0).any() or sigma.size not in (1, n_prototypes):
            raise ValueError(
                "The 'sigma' parameter must be positive: 'auto', 'local', 'spread', "
                f"one number or one for each of the {n_prototypes} prototypes. Got "
                f"{self.sigma!r}."
            )
        return sigma

    def _spread_widths(self, module: RBFNetwork, data: TrainingData) -> torch.Tensor:
        """Widths (P,) from the distances of the samples to each prototype."""
        index = np.arange(len(data))
        if len(data) > MAX_WIDTH_SAMPLES:
            index = np.sort(data.rng.choice(index, MAX_WIDTH_SAMPLES, replace=False))
        sample = data.subset(index)
        squared = torch.cat(
            [
                module.nearest_sites(torch.from_numpy(sample.dense(rows)))
                for rows in sample.chunks()
            ]
        )
        powered = squared if self.kernel == "squared" else root(squared)
        weight = torch.from_numpy(data.weight[index])
        return width_rule(powered.double(), self.p0, weight)

    @abstractmethod
    def _start_head(self, head, shares: torch.Tensor, rng) -> None:
        """Start the head from the class shares (P, K) around each prototype."""

    def _margin_kind(self) -> str:
        # Where probabilities are the scores over their sum, the plain difference of
        # two scores would rank samples in another order than their probabilities.
        return "difference" if self._head() == "linear" else "share"

    def _probabilities(self, outputs) -> np.ndarray:
        scores = outputs["scores"]
        if self._head() == "linear":
            return softmax(scores, axis=1)
        total = scores.sum(axis=1, keepdims=True)
        uniform = np.full_like(scores, 1.0 / scores.shape[1])
        return np.divide(scores, total, out=uniform, where=total > 0)

    def _resolve(self, X) -> None:
        super()._resolve(X)
        self.metric_ = self.metric
        if self._detects_channels:
            if not self._encodes:
                raise ValueError(
                    "kernel='channel_softmax' needs an encoder, whose channels are the "
                    f"prototypes. Got encoder={self.encoder!r}."
                )
            self.metric_ = "euclidean"
        elif self.metric == "auto":
            self.metric_ = self._auto_metric(X)
        self.sigma_rule_ = self.sigma if isinstance(self.sigma, str) else None
        if self.sigma_rule_ == "auto":
            self.sigma_rule_ = self._auto_sigma(X)

    def _has_many(self, X) -> bool:
        """Whether X is dense and has rows enough to learn a metric and widths from."""
        return X.shape[0] >= MANY_SAMPLES and not sp.issparse(X)

    def _auto_metric(self, X) -> str:
        """Metric that metric="auto" stands for."""
        return "relevance" if self._has_many(X) else "euclidean"

    def _auto_sigma(self, X) -> str:
        """Rule that sigma="auto" stands for."""
        return "spread"

    def _auto_solver(self, X) -> str:
        # The hinge on a radius has kinks on which a line search gets stuck.
        return "adam" if self.loss == "robust" else super()._auto_solver(X)

    @abstractmethod
    def _main_term(self):
        """Return the loss term that the `loss` parameter names."""

    def _named_term(self, loss: str):
        margin = self.margin
        if margin is None:
            margin = DEFAULT_MARGINS.get(loss, 0.0)
        if loss == "margin":
            return MarginLoss(margin)
        if loss == "robust":
            return RobustLoss(margin, self.certificate)
        return {"cross_entropy": CrossEntropy(), "nll": NegativeLogLikelihood()}[loss]

    def _loss_terms(self):
        terms = [self._main_term()]
        # The loss is a mean over samples: a prior counts less the more there are.
        total = self._n_distinct
        if self.alpha:
            terms.append(Penalty(weight_decay, "weight_decay", self.alpha / total))
        if self.prototype_penalty:
            weight = self.prototype_penalty / total
            terms.append(Penalty(prototype_drift, "prototype_drift", weight))
        if self.width_penalty and self.train_sigma:
            weight = self.width_penalty / total
            terms.append(Penalty(width_drift, "width_drift", weight))
        return terms

    def _kernel_evidence(self) -> dict[str, Any]:
        if self._detects_channels:
            return {}
        return {"kernel": self.kernel, "bandwidths": self.sigma_}

    def _certified_radius(self, module, x, codes, method, norm) -> torch.Tensor:
        squared = module.nearest_sites(x)
        head = module.kernel_head()
        radius = certified_radius(root(squared), head, codes, method=method)
        return convert_norm(radius, x.shape[1], 2, norm)

    def _certificate_width(self) -> int:
        n_concepts = self._module.head.tables()[0].shape[1]
        return len(self.prototypes_) * n_concepts * self._module.head.n_reasonings

    def _read_metric(self) -> None:
        relevances = self._module.metric.relevances()
        if relevances is None:
            self.__dict__.pop("relevances_", None)
        else:
            self.relevances_ = relevances.detach().double().cpu().numpy()

    def _feature_weights(self) -> np.ndarray | None:
        if self.metric_ == "euclidean":
            return None
        weights = len(self.relevances_) * self.relevances_
        return np.tile(weights, (len(self.prototypes_), 1))

    def _encoder_stretch(self) -> float:
        stretch = self._module.stretch()
        factor = 1.0 if stretch is None else float(stretch.detach().max())
        return factor * super()._encoder_stretch()

    @abstractmethod
    def _read_head(self) -> None:
        """Set the fitted attributes that describe the head."""

    def _tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the two tables of the head, see its `tables`, in float64."""
        first, second = (t.detach().double().cpu() for t in self._module.head.tables())
        return first.numpy(), second.numpy()

    def _collect(self, module, data: TrainingData, X) -> None:
        super()._collect(module, data, X)
        self.sigma_ = module.kernel.sigma.detach().double().cpu().numpy()
        self._read_metric()
        self._read_head()


def class_shares(module, data: TrainingData, codes) -> torch.Tensor:
    """Share of each class around each prototype, (P, K).

    A prototype that was started from one class belongs to it; the others get the
    weighted class shares of the samples nearest to them.
    """
    n_prototypes = len(module.prototypes)
    shares = np.zeros((n_prototypes, data.n_classes))
    if codes is not None:
        shares[np.arange(n_prototypes), codes] = 1.0
        return torch.from_numpy(shares).float()
    for rows in data.chunks():
        nearest = module.nearest_sites(torch.from_numpy(data.dense(rows))).argmin(1)
        np.add.at(shares, (nearest.numpy(), data.y[rows]), data.weight[rows])
    shares += 1e-9
    return torch.from_numpy(shares / shares.sum(1, keepdims=True)).float()


def weight_decay(module) -> torch.Tensor:
    """Half the sum of the squared weights or logits of the head."""
    return module.head.half_squared_norm()


def prototype_drift(module) -> torch.Tensor:
    """Half the summed squared distance of the prototypes from their start."""
    return module.drift()


def width_drift(module) -> torch.Tensor:
    """Half the summed squared logarithm of the widths over their start."""
    return module.kernel.drift()
