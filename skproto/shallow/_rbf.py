"""RBF networks with a linear or a convex head."""

from __future__ import annotations

import numpy as np

from skproto.shallow._rbf_network import RBFNetworkClassifier
from skproto.utils import _parameters as rules

# Start of the head: weight (linear) or logit (convex) of a prototype's own class.
OWN_WEIGHT = 2.0

# Losses that go with a head, the default first. Agreements of the convex head are
# probabilities; the scores of the linear head are logits.
LOSSES = {
    "linear": ("auto", "cross_entropy", "margin", "robust"),
    "convex": ("auto", "nll", "margin", "robust"),
}


class RBFClassifier(RBFNetworkClassifier):
    _parameter_rules = RBFNetworkClassifier._parameter_rules.extended(
        head=rules.options("linear", "convex"),
        loss=rules.options("auto", "cross_entropy", "nll", "margin", "robust"),
    )

    def __init__(
        self,
        n_prototypes_per_class=10,
        *,
        n_prototypes=None,
        head="linear",
        kernel="squared",
        sigma="auto",
        shared_sigma=False,
        train_sigma=True,
        p0=0.01,
        loss="auto",
        margin=None,
        certificate="envelope",
        alpha=1e-3,
        width_penalty=1e-3,
        init="kmeans",
        project_prototypes=False,
        encoder=None,
        standardize=True,
        solver="auto",
        max_epochs="auto",
        lr=0.02,
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
        self.n_prototypes = n_prototypes
        self.head = head
        self.kernel = kernel
        self.sigma = sigma
        self.shared_sigma = shared_sigma
        self.train_sigma = train_sigma
        self.p0 = p0
        self.loss = loss
        self.margin = margin
        self.certificate = certificate
        self.alpha = alpha
        self.width_penalty = width_penalty
        self.init = init
        self.project_prototypes = project_prototypes

    def _head(self) -> str:
        return self.head

    def _start_head(self, head, shares, rng) -> None:
        own = OWN_WEIGHT * shares
        if self.head == "linear":
            head.weight.copy_(own)
        else:
            head.logits.copy_(own)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        allowed = LOSSES[self.head]
        if self.loss not in allowed:
            raise ValueError(
                f"The 'loss' parameter of RBFClassifier with head={self.head!r} must "
                f"be one of {allowed}. Got {self.loss!r} instead."
            )

    def _main_term(self):
        default = "cross_entropy" if self.head == "linear" else "nll"
        return self._named_term(default if self.loss == "auto" else self.loss)

    def _read_head(self) -> None:
        self.coef_, self.intercept_ = self._weights_and_bias()
        self.prototype_labels_ = self.classes_[self.coef_.argmax(axis=1)]

    def _weights_and_bias(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights (P, K) and bias (K,) of the head."""
        first, second = self._tables()
        if self.head == "linear":
            return first, second
        return first, np.zeros(first.shape[1])

    def _evidence(self, outputs) -> dict[str, np.ndarray]:
        activations = outputs["activations"].astype(np.float64)
        bias = np.broadcast_to(self.intercept_, outputs["scores"].shape)
        return {
            "class_contributions": activations[:, :, None] * self.coef_,
            "class_bias": bias.copy(),
            "head_weights": self.coef_,
            "link": "softmax" if self.head == "linear" else "normalize",
            **self._kernel_evidence(),
        }

    def _global_evidence(self):
        return {"weights": self.coef_}
