"""Generalized learning vector quantization."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from skproto.explanation import PairExplanation
from skproto.nn.certificates import bisector_radius, convert_norm, hypothesis_margin
from skproto.nn.lvq_losses import (
    CertifiedDistance,
    DistanceMargin,
    RelativeDistance,
    metric_stretch,
)
from skproto.shallow._lvq import LVQBaseClassifier
from skproto.shallow._pairs import pair_evidence
from skproto.training import TrainingData
from skproto.utils import _parameters as rules

# Margins that margin=None stands for: a squared distance, a radius.
DEFAULT_MARGINS = {"margin": 1.0, "robust": 0.5}

# Samples from which the temperature of the probabilities is fitted, and its range.
MAX_TEMPERATURE_SAMPLES = 20_000
TEMPERATURES = (1e-2, 1e2)


class GLVQClassifier(LVQBaseClassifier):
    _explanation_class = PairExplanation
    _binary_margin = "positive"
    _parameter_rules = LVQBaseClassifier._parameter_rules.extended(
        loss=rules.options("glvq", "margin", "robust"),
        activation=rules.options("sigmoid", "identity"),
        beta=rules.real(0),
        margin=(rules.none(), rules.real(0, ends="[)")),
        certificate=rules.options("bisector", "margin"),
    )

    def __init__(
        self,
        n_prototypes_per_class="auto",
        *,
        metric="euclidean",
        n_components=None,
        loss="glvq",
        activation="sigmoid",
        beta=10.0,
        margin=None,
        certificate="bisector",
        alpha=0.0,
        init="kmeans",
        n_init=1,
        project_prototypes=False,
        encoder=None,
        standardize=True,
        solver="auto",
        max_epochs="auto",
        lr=0.01,
        batch_size=512,
        class_weight=None,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        warm_start=False,
        random_state=None,
        device="cpu",
        verbose=0,
        net_params=None,
    ):
        super().__init__(
            encoder=encoder,
            standardize=standardize,
            solver=solver,
            max_epochs=max_epochs,
            lr=lr,
            batch_size=batch_size,
            class_weight=class_weight,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            warm_start=warm_start,
            random_state=random_state,
            device=device,
            verbose=verbose,
            net_params=net_params,
        )
        self.n_prototypes_per_class = n_prototypes_per_class
        self.metric = metric
        self.n_components = n_components
        self.loss = loss
        self.activation = activation
        self.beta = beta
        self.margin = margin
        self.certificate = certificate
        self.alpha = alpha
        self.init = init
        self.n_init = n_init
        self.project_prototypes = project_prototypes

    def _loss_terms(self):
        return [self._main_term(), *self._penalties()]

    def _main_term(self):
        if self.loss == "glvq":
            return RelativeDistance(self.activation, self.beta)
        margin = DEFAULT_MARGINS[self.loss] if self.margin is None else self.margin
        if self.loss == "margin":
            return DistanceMargin(margin)
        local = self.metric == "local-matrix"
        return CertifiedDistance(margin, "margin" if local else self.certificate)

    def _auto_solver(self, X) -> str:
        # The hinge on a radius has kinks on which a line search gets stuck.
        return "adam" if self.loss == "robust" else super()._auto_solver(X)

    # -- probabilities -----------------------------------------------------------------

    def _collect(self, module, data: TrainingData, X) -> None:
        super()._collect(module, data, X)
        index = np.arange(len(data))
        if len(data) > MAX_TEMPERATURE_SAMPLES:
            index = data.rng.choice(index, MAX_TEMPERATURE_SAMPLES, replace=False)
            index.sort()
        scores = self._forward(X[data.rows[index]], ("scores",))["scores"]
        self.temperature_ = fit_temperature(scores, data.y[index], data.weight[index])

    def _probabilities(self, outputs) -> np.ndarray:
        return softmax(outputs["scores"] / self.temperature_, axis=1)

    # -- certificates and evidence -----------------------------------------------------

    def _allowed_certificates(self) -> tuple[str, ...]:
        # Bisectors of local metrics are curved.
        local = self.metric == "local-matrix"
        return ("margin",) if local else ("bisector", "margin")

    def _certified_radius(self, module, x, codes, method, norm) -> torch.Tensor:
        z = module.encoder(x)[:, 0]
        p, labels, metric = module.prototypes, module.labels, module.metric
        if method == "bisector":
            return bisector_radius(z, p, labels, codes, omega=metric.omega(), norm=norm)
        distances = metric.exact(z, p).sqrt()
        stretch = metric_stretch(metric)
        radius = hypothesis_margin(distances, labels, codes, lipschitz=stretch)
        return convert_norm(radius, x.shape[1], 2, norm)

    def _evidence(self, outputs) -> dict[str, np.ndarray]:
        return {
            **pair_evidence(outputs, self._module, self._codes(outputs)),
            "relative_scores": True,
            "temperature": self.temperature_,
            **self._metric_evidence(),
        }


class GMLVQClassifier(GLVQClassifier):
    def __init__(
        self,
        n_prototypes_per_class=1,
        *,
        n_components=None,
        loss="glvq",
        activation="sigmoid",
        beta=10.0,
        margin=None,
        certificate="bisector",
        alpha=0.0,
        init="kmeans",
        n_init=1,
        project_prototypes=False,
        encoder=None,
        standardize=True,
        solver="auto",
        max_epochs="auto",
        lr=0.01,
        batch_size=512,
        class_weight=None,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        warm_start=False,
        random_state=None,
        device="cpu",
        verbose=0,
        net_params=None,
    ):
        super().__init__(
            n_prototypes_per_class=n_prototypes_per_class,
            metric="matrix",
            n_components=n_components,
            loss=loss,
            activation=activation,
            beta=beta,
            margin=margin,
            certificate=certificate,
            alpha=alpha,
            init=init,
            n_init=n_init,
            project_prototypes=project_prototypes,
            encoder=encoder,
            standardize=standardize,
            solver=solver,
            max_epochs=max_epochs,
            lr=lr,
            batch_size=batch_size,
            class_weight=class_weight,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            warm_start=warm_start,
            random_state=random_state,
            device=device,
            verbose=verbose,
            net_params=net_params,
        )


def fit_temperature(scores: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Temperature T at which the softmax of scores / T fits the labels best.

    Parameters
    ----------
    scores : ndarray of shape (n, K)
        Class scores.

    y, weight : ndarrays of shape (n,)
        Class codes and sample weights.

    Returns
    -------
    temperature : float
        Minimum of the weighted negative log likelihood. Labels are smoothed by
        1 / (n + 2), without which classes that separate would ask for T = 0.
    """
    n_samples, n_classes = scores.shape
    smooth = 1.0 / (n_samples + 2)
    share = weight / weight.sum()

    def loss(log_temperature: float) -> float:
        log_p = log_softmax(scores / np.exp(log_temperature), axis=1)
        own = log_p[np.arange(n_samples), y]
        mixed = (1 - smooth) * own + smooth / n_classes * log_p.sum(axis=1)
        return -float(share @ mixed)

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(found.x))
