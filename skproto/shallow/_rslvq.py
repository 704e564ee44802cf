"""Robust soft learning vector quantization."""

from __future__ import annotations

import numpy as np
import torch

from skproto.nn import LVQNetwork, NegativeLogLikelihood
from skproto.nn.certificates import mixture_radius
from skproto.shallow._lvq import LVQBaseClassifier
from skproto.training import TrainingData
from skproto.utils import _parameters as rules

# Variance of the Gaussians as a share of the typical squared distance of a sample to
# its nearest prototype. Wide Gaussians train slowly and blur the classes.
VARIANCE_SHARE = 0.125


class RSLVQClassifier(LVQBaseClassifier):
    r"""Classify by the posterior of a mixture of labelled Gaussians.

    Every prototype is the centre of an equally likely Gaussian of one width. With the
    squared distances :math:`d_k`,

    .. math::
        p(k|x) = \frac{\exp(-d_k / 2\sigma^2)}{\sum_l \exp(-d_l / 2\sigma^2)}, \qquad
        p(c|x) = \sum_{k: c_k = c} p(k|x),

    and training maximises the likelihood of the labels, :math:`\sum_i \log p(y_i|x_i)`.
    All of it is computed in log space. The class scores are the posteriors; the shares
    :math:`p(k|x)` are what the prototypes contribute.

    Read more in the :ref:`User Guide <lvq>`.

    Parameters
    ----------
    n_prototypes_per_class : "auto", int or array-like, default="auto"
        Prototypes of each class, one number or one for each class; more fit better and
        explain less. "auto" takes a quarter of the root of the number of distinct
        samples of the class, 1 to 30.

    metric : {"euclidean", "relevance", "matrix"}, default="euclidean"
        Squared distance :math:`\|\Omega (x - w)\|^2`: "euclidean" without
        :math:`\Omega` (RSLVQ), "relevance" with a weight for each feature, "matrix"
        with one matrix (MRSLVQ). Weights are a softmax, the matrix has Frobenius norm
        1, so that :math:`\Lambda = \Omega^T\Omega` has trace 1.

    n_components : int, default=None
        Rows l of each matrix; 2 gives a plane to plot, see
        :meth:`transform_relevance`. None means one for each feature.

    sigma : "auto" or float, default="auto"
        Width :math:`\sigma` of the Gaussians, in the scaled space. Larger values let
        more prototypes speak for a sample; very small ones leave the nearest alone.
        "auto" takes an eighth of the median squared distance of the training samples
        to the nearest starting prototype for :math:`\sigma^2`.

    alpha : float, default=0.0
        Factor of the penalty :math:`-\log\det(\Omega\Omega^T)`, which keeps the metric
        from collapsing onto one or two directions; without effect
        on "euclidean".

    init : {"kmeans", "sample", "mean"} or array-like, default="kmeans"
        Where the prototypes of each class start: k-means centres, distinct samples,
        one mean, or points of shape (n_prototypes, n_features) in the user's units,
        ordered by class.

    n_init : int, default=1
        Number of starts; the one with the lowest loss (on the held-out samples with
        `early_stopping`) is kept.

    project_prototypes : bool, default=False
        Whether to move every prototype onto the nearest training sample of its class
        at the end, so that each is a real case.

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
        "lbfgs" uses all samples at once with a strong Wolfe line search and does not
        depend on their order; the others take mini-batches. "auto" takes "lbfgs" for
        dense X of up to 2,000,000 entries unless early stopping asks for
        mini-batches.

    max_epochs : int or "auto", default="auto"
        Passes over the data; iterations for "lbfgs". "auto" stands for 100 with
        "lbfgs" and for about 1,500 steps, between 30 and 300 epochs, otherwise.

    lr : float, default=0.02
        Learning rate of the mini-batch solvers. Too large a value makes the loss
        non-finite, which stops training with an error.

    batch_size : int, default=512
        Samples of a mini-batch.

    class_weight : dict, "balanced" or None, default=None
        Weights of the classes in the loss and in the starting points; "balanced"
        gives all the same total.

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
        Prototypes in the user's units, ordered by class; embeddings with an encoder.

    prototype_ids_ : ndarray of shape (n_prototypes,)
        Number of each prototype, given at creation and never used again.

    prototype_labels_ : ndarray of shape (n_prototypes,)
        Class of each prototype.

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
        Distance from prototype to sample in the metric of the model, 0 after
        projection.

    projection_accuracy_ : ndarray of shape (2,)
        Accuracy on the training samples before and after projection, where there was
        one.

    win_counts_ : ndarray of shape (n_prototypes,)
        Distinct training samples to which the prototype is the nearest one.

    center_, scale_ : ndarray of shape (n_features,)
        A value v enters the model as ``(v - center_) / scale_``.

    relevances_ : ndarray of shape (n_features,)
        Diagonal of :math:`\Lambda`, of sum 1: how much each scaled feature counts.

    omega_ : ndarray of shape (n_components, n_features)
        With "matrix" the matrix :math:`\Omega`.

    feature_weights_ : ndarray of shape (n_prototypes, n_features)
        With "relevance" the relevances, once for each prototype.

    sigma_ : float
        Width of the Gaussians, in the scaled space.

    encoder_, solver_, max_epochs_, batch_size_, pretrain_epochs_ : object
        What "auto" stood for.

    history_ : DataFrame
        One row an epoch: "epoch", "phase", "train_loss", "valid_loss" (with early
        stopping), one column a loss term and "dur", the seconds it took.

    n_iter_ : int
        Number of epochs of training.

    net_ : skorch.NeuralNet
        The net; ``net_.module_`` is the :class:`~skproto.nn.LVQNetwork`.

    See Also
    --------
    GLVQClassifier : The nearest prototype decides.
    RBFClassifier : Kernels with widths and weights of their own.

    Notes
    -----
    `transform` returns the similarities :math:`\exp(-d / 2\sigma^2)`; the shares are
    these over their sum.

    :meth:`certify` has one method, "mixture": the logarithm of the ratio of two class
    mixtures changes no faster than the largest distance between prototypes of the two
    classes over :math:`\sigma^2`. For one prototype per class it equals the bisector
    bound of :class:`GLVQClassifier`.

    A step of training costs :math:`O(n l (f + m))` for n samples, f features, m
    prototypes and l rows of the matrix.

    What differs from the papers: all samples are optimised at once by L-BFGS or in
    mini-batches; prototypes start on k-means centres of their class; the width follows
    from the data; the matrix has norm 1; the certificate is not in the papers.

    References
    ----------
    .. [1] Seo, S., Obermayer, K. (2003). Soft Learning Vector Quantization. *Neural
       Computation* 15, 1589-1604.
    .. [2] Schneider, P., Biehl, M., Hammer, B. (2009). Distance Learning in
       Discriminative Vector Quantization. *Neural Computation* 21, 2942-2969.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skproto import RSLVQClassifier
    >>> X, y = load_wine(return_X_y=True)
    >>> model = RSLVQClassifier(1, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.98)
    True
    >>> case = model.explain(X[:1])
    >>> case.verify()
    >>> bool((case.contributions[0].sum(axis=0) == model.predict_proba(X[:1])).any())
    True
    """

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
        self.metric = metric
        self.n_components = n_components
        self.sigma = sigma
        self.alpha = alpha
        self.init = init
        self.n_init = n_init
        self.project_prototypes = project_prototypes
        self.unique_sources = unique_sources

    def _make_module(self, data: TrainingData) -> LVQNetwork:
        module = super()._make_module(data)
        if self.sigma == "auto":
            variance = VARIANCE_SHARE * typical_distance(module, data)
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
