"""RBF networks with a linear or a convex head."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skproto._editing import HeadRules, with_user_labels
from skproto._fitting import keeps_state_on_error
from skproto.shallow._editing_rbf import RBFFamily
from skproto.shallow._rbf_network import RBFNetworkClassifier
from skproto.training import Annealing, Phase
from skproto.utils import _parameters as rules

# Start of the head: weight (linear) or logit (convex) of a prototype's own class.
OWN_WEIGHT = 2.0

# Learning rate of an encoder relative to that of prototypes and head.
ENCODER_SHARE = 0.4

# From this many samples solver="auto" takes mini-batches: as good in less time.
MINI_BATCH_SAMPLES = 5_000

# Losses that go with a head, the default first. Agreements of the convex head are
# probabilities; the scores of the linear head are logits.
LOSSES = {
    "linear": ("auto", "cross_entropy", "margin", "robust"),
    "convex": ("auto", "nll", "margin", "robust"),
}


class RBFClassifier(RBFNetworkClassifier):
    r"""Classify by a sum of evidence from radial basis functions.

    The activation of prototype k is :math:`d_k = \exp(-\delta_k^q / \sigma_k)` with
    the Euclidean distance :math:`\delta_k` in the scaled space, and the score of class
    c is :math:`\sum_k w_{kc} d_k + b_c`. With ``head="linear"`` the weights are free
    and the scores are logits; with ``head="convex"`` each class's weights are
    probabilities, there is no bias, and far from all prototypes every score is 0.

    Read more in the :ref:`User Guide <rbf_cbc>`.

    Parameters
    ----------
    n_prototypes_per_class : "auto", int or array-like, default="auto"
        Prototypes started in each class, one number or one for each class; more fit
        better and explain less. "auto" takes 10 or, if more, three quarters of the
        root of the number of samples of the class, at most 50.

    n_prototypes : int, default=None
        Number of prototypes started on all samples regardless of class; replaces
        `n_prototypes_per_class`.

    head : {"linear", "convex"}, default="linear"
        Free weights or weights that are probabilities.

    metric : {"auto", "euclidean", "relevance"}, default="auto"
        "relevance" learns how much every feature counts in the distance. "auto" takes
        it for dense X of at least 1,500 samples; fewer are too few to learn it from.

    kernel : {"squared", "metric", "channel_softmax"}, default="squared"
        "squared" is the Gaussian :math:`q = 2`; "metric" is :math:`q = 1`, whose
        certificates reach further. "channel_softmax" needs an encoder and detects its
        channels: the softmax over the channels at every site, and of it the largest
        value over the sites, as in the deep CBC of the paper.

    sigma : {"auto", "local", "spread"}, float or array-like, default="auto"
        Widths at the start, in the scaled space to the power q: a rule, one number or
        one for each prototype. "local" takes the mean distance to the three
        prototypes nearest to each, which is narrow where prototypes are dense.
        "spread" derives each from the mean :math:`\mu` and spread :math:`s` of the
        distances to all samples: :math:`\sigma = -(\mu + s) / \ln p_0`. "auto" is
        "local" for dense tables of at least 1,500 samples and the linear head, without
        an encoder and unless the loss is "robust", and "spread" otherwise.

    shared_sigma : bool, default=False
        Whether all prototypes share one width.

    train_sigma : bool, default=True
        Whether the widths are learned.

    p0 : float, default=0.01
        Detection at one spread beyond the mean distance, for ``sigma="spread"``.
        Smaller values make narrower kernels.

    loss : {"auto", "cross_entropy", "nll", "margin", "robust"}, default="auto"
        "auto" is "cross_entropy" for the linear and "nll", the negative log likelihood
        of the normalised scores, for the convex head. "margin" asks for a lead of
        `margin` over the next class, "robust" for a certified radius of `margin`.

    margin : float, default=None
        Lead or radius that the loss asks for; None: 0.05 for "margin", 0.5 in the
        scaled space for "robust".

    certificate : {"envelope", "theorem"}, default="envelope"
        Radius in the robust loss: the tight bound or the published formula, which
        needs the convex head.

    alpha : float, default=0.03
        L2 penalty on the weights or, for the convex head, their logits, relative to
        the loss of one sample: it counts less the more samples there are.

    width_penalty : float, default=2.0
        Penalty on the squared logarithm of a width over its start, relative to the
        loss of one sample; 0 lets widths degenerate.

    prototype_penalty : float, default=0.3
        Penalty on the squared distance of a prototype from its start in the scaled
        space, relative to the loss of one sample. Larger values keep prototypes
        among the samples; 0 lets them drift to values that no sample has.

    init : {"kmeans", "sample", "mean"} or array-like, default="kmeans"
        Where prototypes start: k-means centres, distinct samples, one mean, or
        points of shape (n_prototypes, n_features) in the user's units.

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
        mini-batches. "auto" takes "lbfgs" for dense X of less than 5,000 samples (with
        an encoder, of any number) and up to 2,000,000 entries unless the loss or early
        stopping asks for mini-batches.

    max_epochs : int or "auto", default="auto"
        Passes over the data; iterations for "lbfgs". "auto" stands for 100 with
        "lbfgs" and for about 1,500 steps, between 30 and 300 epochs, otherwise.

    lr : float, default=0.05
        Learning rate at which the mini-batch solvers start; it falls to 0 along half a
        cosine. An encoder gets two fifths of it. Too large a value makes the loss
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
        Class for which each prototype weighs most.

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

    coef_ : ndarray of shape (n_prototypes, n_classes)
        Weights of the head.

    intercept_ : ndarray of shape (n_classes,)
        Bias of the head; 0 for the convex one.

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
    CBCClassifier : Also counts what is absent.
    GLVQClassifier : The nearest prototype decides alone.

    Notes
    -----
    The paper starts prototypes at random and trains with a fixed width; here they start
    on k-means centres with widths from the data. Prediction costs
    :math:`O(n P (f + K))`.

    References
    ----------
    .. [1] Saralajew, S., Rana, A., Villmann, T., & Shaker, A. (2025). A Robust
       Prototype-Based Network with Interpretable RBF Classifier Foundations. *AAAI*.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import RBFClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RBFClassifier(3, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    >>> case = model.explain(X[:1])
    >>> bool(abs(case.contributions.sum(axis=1) + case.bias
    ...      - model.decision_function(X[:1])).max() < 1e-5)
    True
    """

    _parameter_rules = RBFNetworkClassifier._parameter_rules.extended(
        head=rules.options("linear", "convex"),
        loss=rules.options("auto", "cross_entropy", "nll", "margin", "robust"),
    )

    def __init__(
        self,
        n_prototypes_per_class="auto",
        *,
        n_prototypes=None,
        head="linear",
        metric="auto",
        kernel="squared",
        sigma="auto",
        shared_sigma=False,
        train_sigma=True,
        p0=0.01,
        loss="auto",
        margin=None,
        certificate="envelope",
        alpha=0.03,
        width_penalty=2.0,
        prototype_penalty=0.3,
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
        lr=0.05,
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
        self.head = head
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
        self.init = init
        self.project_prototypes = project_prototypes
        self.unique_sources = unique_sources

    def _auto_counts(self, n_samples) -> np.ndarray:
        return np.clip(np.rint(0.75 * np.sqrt(n_samples)), 10, 50).astype(int)

    def _auto_sigma(self, X) -> str:
        # Narrow kernels fit better and are certified for less; convex weights gain
        # nothing from them.
        fits = self.head == "linear" and self.loss != "robust" and not self._encodes
        return "local" if fits and self._has_many(X) else "spread"

    def _auto_solver(self, X) -> str:
        many = X.shape[0] >= MINI_BATCH_SAMPLES and not self._encodes
        return "adam" if many else super()._auto_solver(X)

    def _phases(self) -> list[Phase]:
        phases = super()._phases()
        if self.solver_ == "lbfgs":
            return phases
        return [self._annealed(phase) for phase in phases]

    def _annealed(self, phase: Phase) -> Phase:
        rates = dict(phase.group_lr)
        if self._encodes:
            rates["encoder"] = ENCODER_SHARE * phase.lr
        callbacks = (*phase.callbacks, Annealing(phase.max_epochs))
        return replace(phase, group_lr=rates, callbacks=callbacks)

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
        codes = with_user_labels(self, self.coef_.argmax(axis=1))
        self.prototype_labels_ = self.classes_[codes]

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

    def _allowed_certificates(self) -> tuple[str, ...]:
        # The published formula needs weights that are probabilities.
        if self.head == "linear":
            return tuple(m for m in self._certificates if m != "theorem")
        return self._certificates

    @keeps_state_on_error
    def refit_head(self, X, y):
        """Fit weights and bias anew: one convex problem on fixed activations.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples such as those of `fit`.

        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        self : object
            The estimator; nothing but the head has changed. The cross entropy is what
            is minimised, whatever `loss` is.

        Raises
        ------
        ValueError
            If the head is not linear: that of ``head="convex"`` is no convex problem.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import RBFClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = RBFClassifier(2, max_epochs=5, random_state=0).fit(X, y)
        >>> before = model.score(X, y)
        >>> bool(model.refit_head(X, y).score(X, y) >= before)
        True
        """
        _, data = self._labelled(X, y)
        if self._module.config["head"] != "linear":
            raise ValueError(
                "refit_head needs head='linear': weights that are probabilities are no "
                f"convex problem. Got head={self._module.config['head']!r}."
            )
        self.net_ = self._make_prediction_net(copy.deepcopy(self._module))
        n_prototypes = len(self.prototypes_)
        everyone = np.ones(n_prototypes, dtype=bool)
        codes = np.searchsorted(self.classes_, self.prototype_labels_)
        RBFFamily(self).fit_head(data, HeadRules(everyone, ~everyone, codes))
        self._read_head()
        return self

    def prune(self, threshold=0.01):
        """Drop the prototypes that matter to no class.

        With the linear head the scores then lack exactly what these prototypes
        contributed. With the convex head the weights of every class are divided by
        what is left of them, so that they still sum to 1.

        Parameters
        ----------
        threshold : float, default=0.01
            Prototypes whose largest weight in `coef_`, whatever its sign, is below
            this are dropped.

        Returns
        -------
        self : object
            The estimator with fewer prototypes; those left keep their ids.

        Raises
        ------
        ValueError
            If no prototype would be left.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import RBFClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = RBFClassifier(4, random_state=0).fit(X, y)
        >>> len(model.prune(threshold=0.05).prototypes_) <= 12
        True
        """
        check_is_fitted(self)
        return self._keep(np.abs(self.coef_).max(axis=1) >= threshold)
