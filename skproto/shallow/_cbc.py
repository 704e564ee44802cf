"""Classification by components."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from skproto.explanation import ReasoningExplanation, ReasoningGlobalExplanation
from skproto.nn import Penalty
from skproto.nn.losses import mean_entropy
from skproto.shallow._rbf_network import RBFNetworkClassifier
from skproto.utils import _parameters as rules

# Start of the reasoning logits: presence of components of the own class, and absence
# of components of the other classes, begin ahead of everything else.
OWN_PRESENCE, OTHER_ABSENCE = 2.0, 1.0

# Spread of the logits that tells several concepts of one class apart.
CONCEPT_SPREAD = 0.5

HEADS = {"extended": "reasoning", "positive": "convex", "original": "original"}


class CBCClassifier(RBFNetworkClassifier):
    _parameter_rules = RBFNetworkClassifier._parameter_rules.extended(
        n_reasonings=rules.integer(1),
        entropy_weight=rules.real(0, ends="[)"),
        reasoning=rules.options("extended", "positive", "original"),
        loss=rules.options("nll", "margin", "robust"),
    )
    _explanation_class = ReasoningExplanation
    _global_explanation_class = ReasoningGlobalExplanation

    def __init__(
        self,
        n_prototypes_per_class=3,
        *,
        n_prototypes=None,
        n_reasonings=1,
        reasoning="extended",
        kernel="squared",
        sigma="auto",
        shared_sigma=False,
        train_sigma=True,
        p0=0.01,
        loss="nll",
        margin=None,
        certificate="envelope",
        alpha=3e-5,
        width_penalty=1e-3,
        entropy_weight=0.0,
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
        self.n_reasonings = n_reasonings
        self.reasoning = reasoning
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
        self.entropy_weight = entropy_weight
        self.init = init
        self.project_prototypes = project_prototypes

    def _head(self) -> str:
        return HEADS[self.reasoning]

    def _auto_solver(self, X) -> str:
        # The shares of the original form are clipped after every step.
        return "adam" if self.reasoning == "original" else super()._auto_solver(X)

    def _start_head(self, head, shares, rng) -> None:
        if self.reasoning == "original":
            head.q0.copy_(0.1 + 0.8 * shares)
            head.q1.copy_(0.1 + 0.8 * (1 - shares))
            return
        logits = OWN_PRESENCE * shares
        if self.reasoning == "extended":
            logits = torch.cat([logits, OTHER_ABSENCE * (1 - shares)])
        logits = logits.repeat_interleave(self.n_reasonings, dim=1)
        if self.n_reasonings > 1:
            spread = CONCEPT_SPREAD * rng.standard_normal(tuple(logits.shape))
            logits = logits + torch.from_numpy(spread).float()
        head.logits.copy_(logits)

    def _main_term(self):
        return self._named_term(self.loss)

    def _loss_terms(self):
        terms = super()._loss_terms()
        if self.entropy_weight:
            weight = self.entropy_weight
            terms.append(Penalty(prior_entropy, "prior_entropy", weight))
        return terms

    def _read_head(self) -> None:
        self.reasoning_positive_, self.reasoning_negative_ = self._tables()
        self.component_prior_ = self.reasoning_positive_ + self.reasoning_negative_
        safe = np.where(self.component_prior_ > 0, self.component_prior_, 1.0)
        self.requiredness_ = np.where(
            self.component_prior_ > 0, self.reasoning_positive_ / safe, 0.5
        )
        concepts = np.repeat(
            np.arange(len(self.classes_)), self._module.head.n_reasonings
        )
        self.reasoning_labels_ = self.classes_[concepts]
        self.prototype_labels_ = self.reasoning_labels_[
            self.reasoning_positive_.argmax(axis=1)
        ]

    def _evidence(self, outputs) -> dict[str, np.ndarray]:
        detections = outputs["activations"].astype(np.float64)[:, :, None]
        positive, negative = self._winning_tables(outputs["concepts"])
        presence, absence = positive * detections, negative * (1.0 - detections)
        return {
            "class_contributions": presence + absence,
            "class_bias": np.zeros(outputs["scores"].shape),
            "presence": presence,
            "absence": absence,
            "reasoning_positive": positive,
            "reasoning_negative": negative,
            "link": "normalize",
            **self._kernel_evidence(),
        }

    def _winning_tables(self, concepts: np.ndarray):
        """Tables of each class's best concept: (P, K), or (n, P, K) if it varies."""
        positive, negative = self.reasoning_positive_, self.reasoning_negative_
        n_classes = len(self.classes_)
        n_reasonings = positive.shape[1] // n_classes
        if n_reasonings == 1:
            return positive, negative
        best = concepts.reshape(-1, n_classes, n_reasonings).argmax(axis=2)
        column = best + np.arange(n_classes) * n_reasonings
        return (
            positive[:, column].transpose(1, 0, 2),
            negative[:, column].transpose(1, 0, 2),
        )

    def _global_evidence(self):
        return {
            "component_prior": self.component_prior_,
            "requiredness": self.requiredness_,
        }

    def prune(self, threshold=0.01):
        """Drop the components that matter to no class.

        The reasoning of every class is divided by what is left of it, so that its
        probabilities still sum to 1.

        Parameters
        ----------
        threshold : float, default=0.01
            Components whose largest `component_prior_` is below this are dropped.

        Returns
        -------
        self : object
            The estimator with fewer prototypes; those left keep their ids.
        """
        check_is_fitted(self)
        if self.reasoning == "original":
            raise ValueError("prune needs reasoning='extended' or 'positive'.")
        return self._keep(self.component_prior_.max(axis=1) >= threshold)


def prior_entropy(module) -> torch.Tensor:
    """Mean entropy of the component priors of the concepts (nats)."""
    positive, negative = module.head.tables()
    return mean_entropy(positive + negative)
