"""Robust soft learning vector quantization."""

from __future__ import annotations

import numpy as np
import torch

from skproto.nn import LVQNetwork, NegativeLogLikelihood
from skproto.nn.certificates import mixture_radius
from skproto.shallow._lvq import LVQBaseClassifier
from skproto.training import TrainingData
from skproto.utils import _parameters as rules


class RSLVQClassifier(LVQBaseClassifier):
    _mixture = True
    _certificates = ("mixture",)
    _parameter_rules = LVQBaseClassifier._parameter_rules.extended(
        metric=rules.options("euclidean", "relevance", "matrix"),
        sigma=(rules.options("auto"), rules.real(0)),
    )

    def __init__(
        self,
        n_prototypes_per_class="auto",
        *,
        metric="euclidean",
        n_components=None,
        sigma="auto",
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
        self.sigma = sigma
        self.alpha = alpha
        self.init = init
        self.n_init = n_init
        self.project_prototypes = project_prototypes

    def _make_module(self, data: TrainingData) -> LVQNetwork:
        module = super()._make_module(data)
        if self.sigma == "auto":
            variance = typical_distance(module, data)
        else:
            variance = float(self.sigma) ** 2
        module.variance.fill_(variance)
        return module

    def _loss_terms(self):
        return [NegativeLogLikelihood(), *self._penalties()]

    def _probabilities(self, outputs) -> np.ndarray:
        scores = outputs["scores"]
        return scores / scores.sum(axis=1, keepdims=True)

    def _read_head(self) -> None:
        super()._read_head()
        self.sigma_ = float(self._module.variance.double().sqrt())

    def _certified_radius(self, module, x, codes, method, norm) -> torch.Tensor:
        z = module.encoder(x)
        return mixture_radius(
            module.from_sites(z, exact=True)["log_scores"],
            module.prototypes,
            module.labels,
            codes,
            variance=module.variance,
            omega=module.metric.omega(),
            norm=norm,
        )

    def _evidence(self, outputs) -> dict[str, np.ndarray]:
        shares = np.exp(outputs["log_responsibilities"].astype(np.float64))
        own = self._eligible_codes()[:, None] == np.arange(len(self.classes_))
        variance = float(self._module.variance)
        return {
            "class_contributions": shares[:, :, None] * own,
            "class_bias": np.zeros(outputs["scores"].shape),
            "link": "normalize",
            "kernel": "squared",
            "bandwidths": np.full(len(own), 2.0 * variance),
            **self._metric_evidence(),
        }


@torch.no_grad()
def typical_distance(module: LVQNetwork, data: TrainingData) -> float:
    """Weighted median of the squared distances of samples to their nearest prototype.

    Where it is 0 (samples that are prototypes) the mean, where that is 0 too 1.
    """
    nearest = np.concatenate(
        [
            module(torch.from_numpy(data.dense(rows)))["squared_distances"].amin(1)
            for rows in data.chunks()
        ]
    ).astype(np.float64)
    order = np.argsort(nearest, kind="stable")
    mass = np.cumsum(data.weight[order])
    median = nearest[order][np.searchsorted(mass, 0.5 * mass[-1])]
    mean = float(np.average(nearest, weights=data.weight))
    return next((v for v in (float(median), mean) if v > 0), 1.0)
