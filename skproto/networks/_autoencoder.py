"""The prototype autoencoder as a classifier."""

from __future__ import annotations

from skproto.networks._autoencoder_base import AutoencoderBase


class PrototypeAutoencoderClassifier(AutoencoderBase):
    r"""Classify by the distances of a code to prototypes that can be decoded.

    An encoder maps a sample to a code :math:`z`; with the squared distances
    :math:`D_j = \|z - p_j\|^2` to the prototypes the class scores are
    :math:`s_k = \sum_j D_j W_{jk}`, without a bias. A decoder turns codes back into
    samples, and so every prototype into a picture or a row. The loss is
    :math:`\lambda_c CE + \lambda_{ae} R + \lambda_1 R_1 + \lambda_2 R_2`: cross
    entropy, reconstruction error, every prototype near a sample and every sample near
    a prototype.

    Read more in the :ref:`User Guide <autoencoder>`.

    Parameters
    ----------
    n_prototypes : "auto" or int, default="auto"
        Number of prototypes, started in equal numbers in every class. "auto" takes two
        for each class, at least 10.

    encoder : "auto", str, nn.Module or callable, default="auto"
        Maps samples to codes. "auto" is a perceptron with two hidden layers for tables
        and a stack of convolutions of stride 2 for images; see
        :func:`skproto.nn.make_encoder` for the others. Where an encoder returns
        several sites, all of them together are the code.

    decoder : "auto", nn.Module or callable, default="auto"
        Maps codes (n, d) to samples. "auto" mirrors the encoder of "auto"; a module is
        copied; a callable gets the dimension of the code and the shape of a sample.

    decoder_output : {"auto", "sigmoid", "linear"}, default="auto"
        "sigmoid" confines what is decoded to the range from 0 to 1, or from 0 to 255
        for bytes, in which all of X must lie. "auto" takes it for images in that
        range, and a linear output, with a warning, for other images.

    latent_dim : "auto" or int, default="auto"
        Dimension of the code, for ``encoder="auto"``. Larger codes keep more of the
        samples. "auto" takes the lesser of 16 and twice the number of features, for
        images about 40.

    lambda_class, lambda_recon, lambda_r1, lambda_r2 : float, default=20, 5, 1, 1
        Weights of the cross entropy, of the reconstruction, of prototypes near samples
        and of samples near prototypes.

    lambda_diversity : float, default=0.0
        Weight of a term that keeps prototypes of different classes apart.

    class_conditional : bool, default=False
        Whether prototypes and samples must be near to each other within each class,
        the one in which a prototype was started.

    normalize_losses : bool, default=True
        Whether the reconstruction error is divided by that of the mean sample, so that
        its weight means the same for 10 features and for 10,000 pixels.

    init : {"class_samples", "kmeans", "uniform"}, default="class_samples"
        Where prototypes start: on the codes of samples of each class, on k-means
        centres of them, or anywhere between 0 and 1.

    head_init : {"class_signed", "uniform"}, default="class_signed"
        Weights at the start: -1 for the prototype's own class and 0.5 for the others,
        or anywhere between 0 and 1.

    transform_output : {"distance", "similarity"}, default="distance"
        What `transform` returns: squared distances D or ``exp(-D / bandwidth_)``.

    project_prototypes : bool, default=False
        Whether to put every prototype on the code of the nearest training sample of
        its class at the end, and to refit the head.

    unique_sources : bool, default=False
        Whether no two prototypes may come to lie on the same training sample.

    image_shape : tuple of int, default=None
        (C, H, W) or (H, W) where X holds flattened images.

    frozen : bool, default=False
        Whether the encoder keeps its weights.

    augment : callable or "auto", default=None
        Changes a batch of images in training, which is then what is reconstructed.

    standardize : bool, default=True
        Whether to centre every feature, or channel, and divide it by its standard
        deviation inside the model.

    schedule : {"auto", "cosine", "constant"}, default="auto"
        Learning rate in the course of the epochs: along half a cosine to 0, or the
        paper's constant. "auto" is "cosine" for images, else "constant".

    solver : {"adam", "adamw"}, default="adam"
        Optimiser.

    max_epochs : int or "auto", default=100
        Passes over the data. "auto" stands for about 1,500 steps, between 30 and 300
        epochs.

    lr : float, default=0.002
        Learning rate.

    batch_size : int, default=64
        Samples of a mini-batch. In small ones a prototype may find no near sample.

    class_weight : dict, "balanced" or None, default=None
        Weights of the classes; "balanced" gives all the same total.

    early_stopping : bool, default=False
        Whether to hold out a part of the training samples, stop when the loss on it no
        longer falls and restore the best weights. That loss lacks the reconstruction.

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
        Parameters of the skorch net; they overrule the estimator's own.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    n_features_in_ : int
        Number of features, or of values of an image, seen in `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had names.

    prototypes_ : ndarray of shape (n_prototypes, `latent_dim_`)
        Prototypes in the space of the codes.

    prototypes_decoded_ : ndarray of shape (n_prototypes, ...)
        What the decoder makes of them, in the user's units. It is a rendering: how far
        the nearest training sample is tells `projection_distance_`.

    prototype_decoding_errors_ : ndarray of shape (n_prototypes,)
        Squared error, summed over features or pixels in the space of the model, of
        each decoded prototype beside the training sample behind it; NaN where samples
        are not kept.

    prototype_ids_ : ndarray of shape (n_prototypes,)
        Number of each prototype, given at creation and never used again.

    prototype_labels_ : ndarray of shape (n_prototypes,)
        Class that each prototype speaks for, that of its lowest weight.

    prototype_indices_ : ndarray of shape (n_prototypes,)
        Row number of the training sample whose code is nearest to each prototype;
        after projection of the sample that it is.

    prototype_samples_ : ndarray of shape (n_prototypes, ...) or None
        Those training samples, in the user's units; None where images would take more
        than 64 MB.

    prototype_sample_labels_ : ndarray of shape (n_prototypes,)
        Class labels of those training samples; where they differ from
        `prototype_labels_`, the prototype is unlike what it speaks for.

    prototype_hashes_, prototype_sites_, prototype_boxes_, prototype_patches_ : object
        Of images only: hashes of those training samples, and their place in them,
        which is the whole image.

    projection_distance_ : ndarray of shape (n_prototypes,)
        Distance from prototype to the code of that sample, 0 after projection.

    projection_accuracy_ : ndarray of shape (2,)
        Accuracy on the training samples before and after projection, where there was
        one.

    head_weights_ : ndarray of shape (n_prototypes, n_classes)
        The weights W; negative for the classes that a prototype speaks for.

    usual_distances_ : ndarray of shape (n_prototypes,)
        Mean squared distance of the training samples to each prototype.

    win_counts_ : ndarray of shape (n_prototypes,)
        Training samples to which the prototype is the nearest.

    bandwidth_ : float
        Median squared distance of training samples and prototypes.

    recon_error_ : float
        Mean over the training samples of :meth:`reconstruction_error`.

    center_, scale_ : ndarray of shape (n_features,) or (n_channels,)
        A value v enters the model as ``(v - center_) / scale_``.

    decoder_output_, encoder_, latent_dim_ : str, object, int
        What "auto" was resolved to.

    net_ : skorch.NeuralNet
        The trained net.

    history_ : pandas.DataFrame
        One row an epoch, one column a loss term.

    n_iter_ : int
        Number of epochs.

    solver_, max_epochs_, batch_size_ : str, int, int
        What was used.

    See Also
    --------
    PrototypeAutoencoder : The same without classes.
    RBFClassifier : Prototypes in the space of the features.

    Notes
    -----
    The paper starts prototypes and weights at random and adds up raw errors; that is
    ``init="uniform"``, ``head_init="uniform"``, ``normalize_losses=False``,
    ``lambda_recon=1``, ``schedule="constant"``, ``standardize=False``. Here prototypes
    start on codes of samples of their class, and projection and a refit of the head
    are possible.
    Scores grow with the distance: see :meth:`outlier_score`.

    References
    ----------
    .. [1] Li, O., Liu, H., Chen, C., & Rudin, C. (2018). Deep Learning for Case-Based
       Reasoning through Prototypes: A Neural Network that Explains Its Predictions.
       *AAAI*.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skproto.networks import PrototypeAutoencoderClassifier
    >>> X, y = load_wine(return_X_y=True)
    >>> model = PrototypeAutoencoderClassifier(9, max_epochs=30, random_state=0)
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    >>> model.decode_prototypes().shape
    (9, 13)
    """

    def __init__(
        self,
        n_prototypes="auto",
        *,
        encoder="auto",
        decoder="auto",
        decoder_output="auto",
        latent_dim="auto",
        lambda_class=20.0,
        lambda_recon=5.0,
        lambda_r1=1.0,
        lambda_r2=1.0,
        lambda_diversity=0.0,
        class_conditional=False,
        normalize_losses=True,
        init="class_samples",
        head_init="class_signed",
        transform_output="distance",
        project_prototypes=False,
        unique_sources=False,
        image_shape=None,
        frozen=False,
        augment=None,
        standardize=True,
        schedule="auto",
        solver="adam",
        max_epochs=100,
        lr=0.002,
        batch_size=64,
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
        self.n_prototypes = n_prototypes
        self.decoder = decoder
        self.decoder_output = decoder_output
        self.latent_dim = latent_dim
        self.lambda_class = lambda_class
        self.lambda_recon = lambda_recon
        self.lambda_r1 = lambda_r1
        self.lambda_r2 = lambda_r2
        self.lambda_diversity = lambda_diversity
        self.class_conditional = class_conditional
        self.normalize_losses = normalize_losses
        self.init = init
        self.head_init = head_init
        self.transform_output = transform_output
        self.project_prototypes = project_prototypes
        self.unique_sources = unique_sources
        self.schedule = schedule
