"""Classification by components."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from skproto._editing import with_user_labels
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
    r"""Classify by components: what is present and what is absent.

    The detection of component k is :math:`d_k = \exp(-\delta_k^q / \sigma_k)`. A class
    holds a probability table over "k is present" (:math:`R^+`) and "k is absent"
    (:math:`R^-`), whose entries sum to 1, and its score is

    .. math:: p_c = \sum_k R^+_{kc} d_k + R^-_{kc} (1 - d_k) .

    The class probability is :math:`p_c / \sum_j p_j`. Every share of the sum is part of
    the explanation.

    Read more in the :ref:`User Guide <rbf_cbc>`.

    Parameters
    ----------
    n_prototypes_per_class : "auto", int or array-like, default="auto"
        Components started in each class, one number or one for each class; more fit
        better and explain less. Components are shared: any class may use any of them.
        "auto" takes a quarter of the root of the number of samples of the class, from
        2 to 30: 3 for 150 samples.

    n_prototypes : int, default=None
        Number of components started on all samples regardless of class; replaces
        `n_prototypes_per_class`.

    n_reasonings : int, default=1
        Concepts (tables) of each class; the best one speaks for the class.

    reasoning : {"extended", "positive", "original"}, default="extended"
        "extended" counts presence and absence, "positive" presence only (the convex
        RBF head). "original" is the form of 2019: it divides by how much a class
        considers at all, so that a class which ignores almost everything can still
        score high, and its tables do not tell how much was ignored. Use it to
        reproduce, not to explain.

    metric : {"auto", "euclidean", "relevance"}, default="auto"
        "relevance" learns how much every feature counts in the distance. "auto" is
        "euclidean": with few components the relevances gain on some tables and lose
        on others.

    kernel : {"squared", "metric", "channel_softmax"}, default="squared"
        "squared" is the Gaussian :math:`q = 2`; "metric" is :math:`q = 1`, whose
        certificates reach further. "channel_softmax" needs an encoder and detects its
        channels: the softmax over the channels at every site, and of it the largest
        value over the sites, as in the deep CBC of the paper.

    sigma : {"auto", "local", "spread"}, float or array-like, default="auto"
        Widths at the start, in the scaled space to the power q: a rule, one number or
        one for each prototype. "spread", which "auto" stands for, derives each from
        the mean :math:`\mu` and spread :math:`s` of the distances to all samples:
        :math:`\sigma = -(\mu + s) / \ln p_0`. "local" takes the mean distance to the
        three prototypes nearest to each.

    shared_sigma : bool, default=False
        Whether all prototypes share one width.

    train_sigma : bool, default=True
        Whether the widths are learned.

    p0 : float, default=0.3
        Detection at one spread beyond the mean distance, for ``sigma="spread"``.
        Smaller values make narrower kernels, whose detections are small for most
        samples.

    loss : {"nll", "margin", "robust"}, default="nll"
        "nll" is the negative log likelihood of the normalised scores. "margin" asks
        for a lead of `margin` over the next class, "robust" for a certified radius of
        `margin`; for the latter ``kernel="metric"`` is advised.

    margin : float, default=None
        Lead or radius that the loss asks for; None: 0.05 for "margin", 0.5 in the
        scaled space for "robust". The paper uses 0.3 and 1.58 (MNIST).

    certificate : {"envelope", "theorem"}, default="envelope"
        Radius in the robust loss: the tight bound or the published formula.

    alpha : float, default=0.03
        L2 penalty on the logits of the reasoning, relative to the loss of one sample:
        it counts less the more samples there are.

    width_penalty : float, default=2.0
        Penalty on the squared logarithm of a width over its start, relative to the
        loss of one sample; 0 lets widths degenerate.

    prototype_penalty : float, default=0.3
        Penalty on the squared distance of a prototype from its start in the scaled
        space, relative to the loss of one sample. Larger values keep prototypes
        among the samples; 0 lets them drift to values that no sample has.

    entropy_weight : float, default=0.0
        Penalty on the entropy of each concept's component prior; larger values leave
        fewer components per class.

    init : {"kmeans", "sample", "mean"} or array-like, default="kmeans"
        Where components start: k-means centres, distinct samples, one mean, or points
        of shape (n_prototypes, n_features) in the user's units.

    project_prototypes : bool, default=False
        Whether to move every prototype onto its nearest training sample at the end,
        so that each is a real case.

    unique_sources : bool, default=False
        Whether no two prototypes may come to lie on the same training sample.

    encoder : {"auto", "identity", "mlp", "conv", "vit"}, module or None, default="auto"
        Maps scaled samples to the space of the prototypes. "auto" is "identity" for
        tables and "conv", a small convolutional net, for images. A module is copied; a
        callable gets the number of features, or the shape of an image, and returns a
        module. With an encoder `prototypes_` are embeddings.

    image_shape : tuple of int, default=None
        (C, H, W) or (H, W) of images that come flattened.

    frozen : bool, default=False
        Whether the encoder stays as it is; every sample is then encoded once.

    augment : "auto" or callable, default=None
        Changes training batches of shape (m, C, H, W); "auto" shifts, turns and covers
        images a little, see :class:`skproto.nn.Augmentation`.

    pretrain_epochs : "auto" or int, default="auto"
        Passes over the data, before all others, in which the encoder of images learns
        under a linear classifier, which is then taken off. "auto" is a quarter of
        `max_epochs` where "conv" or "vit" start from random weights, else 0.

    standardize : bool, default=True
        Whether to centre every feature and divide it by its standard deviation
        inside the model. Sparse features are divided by the median of their
        largest magnitudes, or each by its own where these differ more than a
        thousandfold.

    solver : {"auto", "lbfgs", "adam", "adamw"}, default="auto"
        "lbfgs" uses all samples at once with a strong Wolfe line search, merges
        duplicates and does not depend on the order of the samples; the others take
        mini-batches. "auto" takes "lbfgs" for dense X of up to 2,000,000 entries
        unless the loss or early stopping asks for mini-batches.

    max_epochs : int or "auto", default="auto"
        Passes over the data; iterations for "lbfgs". "auto" stands for 100 with
        "lbfgs" and for about 1,500 steps, between 30 and 300 epochs, otherwise.

    lr : float, default=0.02
        Learning rate of the mini-batch solvers. Too large a value makes the loss
        non-finite, which stops training with an error.

    batch_size : int, default=512
        Samples of a mini-batch.

    class_weight : dict, "balanced" or None, default=None
        Weights of the classes; "balanced" gives all the same total.

    early_stopping : bool, default=False
        Whether to hold out a part of the training samples, stop when the loss on it no
        longer falls and restore the best weights.

    validation_fraction : float, default=0.1
        Share of the samples held out, between 0 and 1.

    n_iter_no_change : int, default=10
        Epochs without improvement after which early stopping acts.

    warm_start : bool, default=False
        Whether `fit` continues from the last fit instead of starting anew; classes and
        features must be the same.

    random_state : int, RandomState instance or None, default=None
        Source of all randomness. The same int gives the same bits on the same machine
        with the same number of threads.

    device : str, default="cpu"
        Device of torch, for instance "cuda".

    verbose : int, default=0
        1 shows a progress line, 2 skorch's table of epochs.

    net_params : dict, default=None
        Parameters of the skorch net, such as ``{"optimizer__weight_decay": 1e-4,
        "callbacks": [...]}``; they overrule the estimator's own.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    n_features_in_ : int
        Number of features seen in `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had names.

    prototypes_ : ndarray of shape (n_prototypes, n_features)
        Prototypes in the user's units; embeddings with an encoder.

    prototype_ids_ : ndarray of shape (n_prototypes,)
        Number of each prototype, given at creation and never used again.

    prototype_labels_ : ndarray of shape (n_prototypes,)
        Class for which the presence of each component counts most; components
        themselves belong to no class.

    prototype_indices_ : ndarray of shape (n_prototypes,)
        Row number of the training sample nearest to each prototype; after projection
        of the sample that it is.

    prototype_samples_ : ndarray of shape (n_prototypes, n_features)
        Those training samples, in the user's units.

    prototype_sample_labels_ : ndarray of shape (n_prototypes,)
        Class labels of those training samples.

    prototype_sites_ : ndarray of shape (n_prototypes,)
        Part of that sample: a cell of an image, counted row by row; 0 for tables.

    prototype_boxes_, prototype_patches_, prototype_hashes_ : ndarray, list, ndarray
        Of images the pixels of that cell (top, left, bottom, right, the last two
        exclusive), what they hold, and a SHA-256 of the whole image.

    projection_distance_ : ndarray of shape (n_prototypes,)
        Distance from prototype to sample in the scaled space, 0 after projection.

    projection_accuracy_ : ndarray of shape (2,)
        Accuracy on the training samples before and after projection, where there was
        one.

    win_counts_ : ndarray of shape (n_prototypes,)
        Training samples for which the prototype has the largest activation.

    center_, scale_ : ndarray of shape (n_features,)
        A value v enters the model as ``(v - center_) / scale_``.

    sigma_ : ndarray of shape (n_prototypes,)
        Width of each prototype's kernel, in the scaled space to the power q.

    reasoning_positive_, reasoning_negative_ : ndarray
        Effective tables :math:`R^+` and :math:`R^-`, of shape (n_prototypes,
        n_classes * n_reasonings).

    reasoning_labels_ : ndarray of shape (n_classes * n_reasonings,)
        Class of each concept.

    component_prior_ : ndarray of shape (n_prototypes, n_classes * n_reasonings)
        How much a component matters, :math:`b = R^+ + R^-`.

    requiredness_ : ndarray of shape (n_prototypes, n_classes * n_reasonings)
        1 where a component must be present, 0 where absent, 0.5 where it does not
        matter; :math:`r = R^+ / b`.

    relevances_ : ndarray of shape (n_features,)
        With ``metric="relevance"``: share of every scaled feature in the distance, of
        sum 1; of every dimension of the embedding with an encoder.

    metric_ : str
        Metric that "auto" was resolved to.

    sigma_rule_ : str or None
        Rule that "auto" was resolved to; None where `sigma` gives the widths.

    net_ : skorch.NeuralNet
        The trained net.

    history_ : pandas.DataFrame
        One row an epoch, one column a loss term.

    n_iter_ : int
        Number of epochs.

    encoder_, solver_, max_epochs_, batch_size_, pretrain_epochs_ : object
        What "auto" was resolved to.

    See Also
    --------
    RBFClassifier : Presence only, with free weights.

    Notes
    -----
    The paper starts components at random, trains the margin loss with 0.3 and fixes
    widths at 58; the defaults here start on k-means centres, use the likelihood and
    derive the widths from the data. Prediction costs :math:`O(n P (f + K))`.

    References
    ----------
    .. [1] Saralajew, S., Rana, A., Villmann, T., & Shaker, A. (2025). A Robust
       Prototype-Based Network with Interpretable RBF Classifier Foundations. *AAAI*.
    .. [2] Saralajew, S., Holdijk, L., Rees, M., Asan, E., & Villmann, T. (2019).
       Classification-by-Components: Probabilistic Modeling of Reasoning over a Set of
       Components. *NeurIPS*. (``reasoning="original"``)

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import CBCClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = CBCClassifier(random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    >>> table = model.reasoning_positive_ + model.reasoning_negative_
    >>> table.sum(axis=0).round(6).tolist()
    [1.0, 1.0, 1.0]
    >>> bool(model.certify(X[:1])[0] > 0.5)
    True
    """

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
        n_prototypes_per_class="auto",
        *,
        n_prototypes=None,
        n_reasonings=1,
        reasoning="extended",
        metric="auto",
        kernel="squared",
        sigma="auto",
        shared_sigma=False,
        train_sigma=True,
        p0=0.3,
        loss="nll",
        margin=None,
        certificate="envelope",
        alpha=0.03,
        width_penalty=2.0,
        prototype_penalty=0.3,
        entropy_weight=0.0,
        init="kmeans",
        project_prototypes=False,
        unique_sources=False,
        encoder="auto",
        image_shape=None,
        frozen=False,
        augment=None,
        pretrain_epochs="auto",
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
            image_shape=image_shape,
            frozen=frozen,
            augment=augment,
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
        self.pretrain_epochs = pretrain_epochs
        self.n_prototypes_per_class = n_prototypes_per_class
        self.n_prototypes = n_prototypes
        self.n_reasonings = n_reasonings
        self.reasoning = reasoning
        self.metric = metric
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
        self.prototype_penalty = prototype_penalty
        self.entropy_weight = entropy_weight
        self.init = init
        self.project_prototypes = project_prototypes
        self.unique_sources = unique_sources

    def _auto_counts(self, n_samples) -> np.ndarray:
        return np.maximum(super()._auto_counts(n_samples), 2)

    def _auto_metric(self, X) -> str:
        return "euclidean"

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
        codes = concepts[self.reasoning_positive_.argmax(axis=1)]
        self.prototype_labels_ = self.classes_[with_user_labels(self, codes)]

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
        # Of several concepts of a class the mean.
        shape = (len(self.prototypes_), len(self.classes_), -1)
        prior = self.component_prior_.reshape(shape).mean(axis=2)
        positive = self.reasoning_positive_.reshape(shape).mean(axis=2)
        required = np.full_like(prior, 0.5)
        np.divide(positive, prior, out=required, where=prior > 0)
        return {"component_prior": prior, "requiredness": required}

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

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import CBCClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = CBCClassifier(2, random_state=0).fit(X, y)
        >>> len(model.prune(threshold=0.05).prototypes_) <= 6
        True
        """
        check_is_fitted(self)
        if self.reasoning == "original":
            raise ValueError("prune needs reasoning='extended' or 'positive'.")
        return self._keep(self.component_prior_.max(axis=1) >= threshold)


def prior_entropy(module) -> torch.Tensor:
    """Mean entropy of the component priors of the concepts (nats)."""
    positive, negative = module.head.tables()
    return mean_entropy(positive + negative)
