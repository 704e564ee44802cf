"""Generalized matrix learning vector quantization."""

from __future__ import annotations

from skproto.shallow._glvq import GLVQClassifier


class GMLVQClassifier(GLVQClassifier):
    r"""Classify by the nearest prototype in a learned metric.

    The squared distance is :math:`d(x, w) = \|\Omega (x - w)\|^2` with a matrix
    :math:`\Omega` that is learned with the prototypes and shared by them. Its
    :math:`\Lambda = \Omega^T\Omega` has trace 1; the diagonal says how much each
    feature counts. This is :class:`GLVQClassifier` with ``metric="matrix"``.

    With the squared distances :math:`d^+` to the nearest prototype of a sample's class
    and :math:`d^-` to the nearest one of all others, the mean of

    .. math:: \phi(\mu), \qquad \mu = \frac{d^+ - d^-}{d^+ + d^-} \in [-1, 1],

    is minimised. The score of class c is
    :math:`(d_{\neg c} - d_c) / (d_{\neg c} + d_c)`, 0 where both are 0; with two
    classes the decision is the score of the second. The probabilities are the softmax
    of the scores over a temperature.

    Read more in the :ref:`User Guide <lvq>`.

    Parameters
    ----------
    n_prototypes_per_class : "auto", int or array-like, default="auto"
        Prototypes of each class, one number or one for each class; more fit better and
        explain less. "auto" takes a quarter of the root of the number of distinct
        samples of the class, 1 to 30.

    n_components : int, default=None
        Rows l of each matrix; 2 gives a plane to plot, see
        :meth:`transform_relevance`. None means one for each feature.

    loss : {"glvq", "margin", "robust"}, default="glvq"
        "glvq" is :math:`\phi(\mu)`. "margin" asks for a lead of `margin` in squared
        distance, :math:`\max(0, m + d^+ - d^-)`; "robust" for a certified radius of
        `margin`, :math:`\max(0, m - \rho)`.

    activation : {"sigmoid", "identity"}, default="sigmoid"
        The function :math:`\phi(\mu)` of the loss "glvq":
        :math:`1 / (1 + e^{-\beta\mu})` or :math:`\mu` itself.

    beta : float, default=10.0
        Steepness of the sigmoid. The larger, the more the samples near the decision
        border count; small values come close to "identity".

    margin : float, default=None
        Lead or radius that the loss asks for, in the scaled space; None: 1 for
        "margin", 0.5 for "robust".

    certificate : {"bisector", "margin"}, default="bisector"
        Radius in the loss "robust": the bisector bound or the (smaller) hypothesis
        margin.

    alpha : float, default=0.0
        Factor of the penalty :math:`-\log\det(\Omega\Omega^T)`, which keeps the metric
        from collapsing onto one or two directions.

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
        dense X of up to 2,000,000 entries unless early stopping or the
        loss asks for mini-batches.

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
        The matrix :math:`\Omega`, of Frobenius norm 1.

    temperature_ : float
        Divisor of the scores in the softmax of the probabilities, fitted to the
        training samples.

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
    GLVQClassifier : Other metrics.
    RSLVQClassifier : Posterior of a mixture instead of the nearest prototype.

    Notes
    -----
    `transform` returns the similarities :math:`1 / (1 + d)` of the squared distances in
    the scaled space: 1 on a prototype, falling without end.

    :meth:`certify` has two methods. "bisector" is the distance to the nearest bisector
    that matters, exact for one prototype in the predicted class. "margin" is the
    hypothesis margin :math:`(\sqrt{d^-} - \sqrt{d^+}) / 2`, divided by the largest
    singular value of :math:`\Omega`.
    Radii are given for any norm of the change; in other norms than 2 "margin" is
    converted.

    A step of training costs :math:`O(n l (f + m))` for n samples, f features, m
    prototypes and l rows of the matrix.

    What differs from the papers: all samples and prototypes are optimised at once by
    L-BFGS or in mini-batches, instead of sample by sample; prototypes start on k-means
    centres of their class; the sigmoid is steep by default; probabilities, the
    bisector bound and the loss on it are not in the papers.

    References
    ----------
    .. [1] Sato, A., Yamada, K. (1995). Generalized Learning Vector Quantization.
       *NIPS 8*.
    .. [2] Schneider, P., Biehl, M., Hammer, B. (2009). Adaptive Relevance Matrices in
       Learning Vector Quantization. *Neural Computation* 21, 3532-3561.
    .. [3] Saralajew, S., Holdijk, L., Villmann, T. (2020). Fast Adversarial Robustness
       Certification of Nearest Prototype Classifiers for Arbitrary Seminorms.
       *NeurIPS*.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skproto import GMLVQClassifier
    >>> X, y = load_wine(return_X_y=True)
    >>> model = GMLVQClassifier(1, n_components=2, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.98)
    True
    >>> model.omega_.shape, round(float(model.relevances_.sum()), 3)
    ((2, 13), 1.0)
    >>> model.transform_relevance(X).shape
    (178, 2)
    """

    def __init__(
        self,
        n_prototypes_per_class="auto",
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
            unique_sources=unique_sources,
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
