"""The prototype autoencoder without classes, as a transformer."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from skproto import _images as images
from skproto import _preparation as preparation
from skproto._fitting import keeps_state_on_error
from skproto.networks._autoencoder import PrototypeAutoencoderClassifier

# Fitted attributes that the transformer shows.
SHOWN = (
    "prototypes_",
    "prototypes_decoded_",
    "prototype_indices_",
    "prototype_samples_",
    "projection_distance_",
    "win_counts_",
    "bandwidth_",
    "recon_error_",
    "center_",
    "scale_",
    "decoder_output_",
    "latent_dim_",
    "history_",
    "n_iter_",
)


class _ClassFree(PrototypeAutoencoderClassifier):
    """A prototype autoencoder that takes all samples for one class."""

    _known_as = "PrototypeAutoencoder"

    def _validate_training(self, X, y, sample_weight):
        if isinstance(X, torch.utils.data.Dataset):
            images.check_dataset(X)
        n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
        X, y, weight, rows = preparation.validate_samples(
            self, X, np.zeros(n_samples, dtype=np.int64), sample_weight
        )
        self.classes_ = np.array([0])
        return X, y, weight, rows


class PrototypeAutoencoder(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    r"""Learn codes, a decoder and prototypes of samples without labels.

    The loss is :math:`\lambda_{ae} R + \lambda_1 R_1 + \lambda_2 R_2`: reconstruction
    error, every prototype near a sample and every sample near a prototype. `transform`
    returns the distances to the prototypes, which a classifier or a clustering can go
    on with.

    Parameters
    ----------
    n_prototypes : "auto" or int, default="auto"
        Number of prototypes; "auto" takes 10, or the number of samples if less.

    encoder : "auto", str, nn.Module or callable, default="auto"
        Maps samples to codes, see :class:`PrototypeAutoencoderClassifier`.

    decoder : "auto", nn.Module or callable, default="auto"
        Maps codes to samples, see :class:`PrototypeAutoencoderClassifier`.

    decoder_output : {"auto", "sigmoid", "linear"}, default="auto"
        Whether decoded values are confined to the range from 0 to 1, or 255 for bytes;
        see :class:`PrototypeAutoencoderClassifier`.

    latent_dim : "auto" or int, default="auto"
        Dimension of the code. "auto" takes the lesser of 16 and twice the number of
        features, for images about 40.

    lambda_recon, lambda_r1, lambda_r2 : float, default=20, 0.1, 0.1
        Weights of the reconstruction, of prototypes near samples and of samples near
        prototypes. Without classes nothing but the reconstruction keeps codes apart:
        smaller ones of it, or larger ones of the others, draw all codes together.

    normalize_losses : bool, default=True
        Whether the reconstruction error is divided by that of the mean sample, and
        distances by the mean distance of two codes at the start.

    init : {"kmeans", "samples", "uniform"}, default="kmeans"
        Where prototypes start: on k-means centres of the codes, on codes of samples,
        or anywhere between 0 and 1.

    transform_output : {"distance", "similarity"}, default="distance"
        What `transform` returns: squared distances D or ``exp(-D / bandwidth_)``.

    project_prototypes : bool, default=False
        Whether to put every prototype on the code of the nearest training sample at
        the end.

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
        Passes over the data.

    lr : float, default=0.002
        Learning rate.

    batch_size : int, default=64
        Samples of a mini-batch.

    random_state : int, RandomState instance or None, default=None
        Source of all randomness.

    device : str, default="cpu"
        Device of torch, for instance "cuda".

    verbose : int, default=0
        1 shows a progress line, 2 skorch's table of epochs.

    net_params : dict, default=None
        Parameters of the skorch net; they overrule the estimator's own.

    Attributes
    ----------
    prototypes_ : ndarray of shape (n_prototypes, `latent_dim_`)
        Prototypes in the space of the codes.

    prototypes_decoded_ : ndarray of shape (n_prototypes, ...)
        What the decoder makes of them, in the user's units.

    prototype_indices_ : ndarray of shape (n_prototypes,)
        Row number of the training sample whose code is nearest to each prototype.

    prototype_samples_ : ndarray of shape (n_prototypes, ...) or None
        Those training samples; None where images would take more than 64 MB.

    projection_distance_ : ndarray of shape (n_prototypes,)
        Distance from prototype to the code of that sample, 0 after projection.

    win_counts_ : ndarray of shape (n_prototypes,)
        Training samples to which the prototype is the nearest.

    bandwidth_ : float
        Median squared distance of training samples and prototypes.

    recon_error_ : float
        Mean over the training samples of :meth:`reconstruction_error`.

    center_, scale_ : ndarray of shape (n_features,) or (n_channels,)
        A value v enters the model as ``(v - center_) / scale_``.

    decoder_output_, latent_dim_ : str, int
        What "auto" was resolved to.

    n_features_in_ : int
        Number of features, or of values of an image, seen in `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had names.

    history_ : pandas.DataFrame
        One row an epoch, one column a loss term.

    n_iter_ : int
        Number of epochs.

    See Also
    --------
    PrototypeAutoencoderClassifier : The same with classes.

    References
    ----------
    .. [1] Li, O., Liu, H., Chen, C., & Rudin, C. (2018). Deep Learning for Case-Based
       Reasoning through Prototypes: A Neural Network that Explains Its Predictions.
       *AAAI*.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skproto.networks import PrototypeAutoencoder
    >>> X, y = load_wine(return_X_y=True)
    >>> coder = PrototypeAutoencoder(9, max_epochs=40, random_state=0)
    >>> model = make_pipeline(coder, LogisticRegression(max_iter=1000)).fit(X, y)
    >>> model.score(X, y) > 0.9
    True
    """

    _doc_link_module = "skproto"
    _doc_link_template = PrototypeAutoencoderClassifier._doc_link_template
    # What it fits and keeps.
    _engine_class: ClassVar[type] = _ClassFree

    def __init__(
        self,
        n_prototypes="auto",
        *,
        encoder="auto",
        decoder="auto",
        decoder_output="auto",
        latent_dim="auto",
        lambda_recon=20.0,
        lambda_r1=0.1,
        lambda_r2=0.1,
        normalize_losses=True,
        init="kmeans",
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
        random_state=None,
        device="cpu",
        verbose=0,
        net_params=None,
    ):
        self.n_prototypes = n_prototypes
        self.encoder = encoder
        self.decoder = decoder
        self.decoder_output = decoder_output
        self.latent_dim = latent_dim
        self.lambda_recon = lambda_recon
        self.lambda_r1 = lambda_r1
        self.lambda_r2 = lambda_r2
        self.normalize_losses = normalize_losses
        self.init = init
        self.transform_output = transform_output
        self.project_prototypes = project_prototypes
        self.unique_sources = unique_sources
        self.image_shape = image_shape
        self.frozen = frozen
        self.augment = augment
        self.standardize = standardize
        self.schedule = schedule
        self.solver = solver
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device
        self.verbose = verbose
        self.net_params = net_params

    @keeps_state_on_error
    def fit(self, X, y=None, sample_weight=None):
        """Fit codes, decoder and prototypes to training samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples, or images as an array, a memory map or a Dataset.

        y : None
            Ignored.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; a sample of weight 0 counts as absent.

        Returns
        -------
        self : object
            The fitted estimator.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoder
        >>> X, _ = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoder(3, max_epochs=4, random_state=0).fit(X)
        >>> model.prototypes_.shape[0]
        3
        """
        settings = self.get_params(deep=False)
        if settings["init"] == "samples":
            settings["init"] = "class_samples"
        elif settings["init"] not in ("kmeans", "uniform"):
            raise ValueError(
                "The 'init' parameter of PrototypeAutoencoder must be a str among "
                f"{{'kmeans', 'samples', 'uniform'}}. Got {self.init!r} instead."
            )
        X = self._checked(X, reset=True)
        engine = self._engine_class(lambda_class=0.0, **settings)
        engine.fit(X, sample_weight=sample_weight)
        self._engine = engine
        self.n_features_in_ = engine.n_features_in_
        for name in SHOWN:
            setattr(self, name, getattr(engine, name))
        return self

    def _checked(self, X, reset: bool = False) -> Any:
        """Return a validated table; images are left to the engine."""
        if images.input_kind(X, self.image_shape, self.encoder) != "table":
            return X
        return validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=reset
        )

    def _ready(self, X) -> Any:
        check_is_fitted(self)
        return self._checked(X)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_engine")

    def transform(self, X):
        """Squared distances of samples to every prototype, or similarities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, or images as in `fit`.

        Returns
        -------
        D : ndarray of shape (n_samples, n_prototypes)
            Squared distances D; with ``transform_output="similarity"``
            ``exp(-D / bandwidth_)``.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoder
        >>> X, _ = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoder(3, max_epochs=4, random_state=0).fit(X)
        >>> model.transform(X).shape  # samples, prototypes
        (150, 3)
        """
        X = self._ready(X)
        self._engine.transform_output = self.transform_output
        return self._engine.transform(X)

    def encode(self, X):
        """Return the codes (n_samples, n_dimensions) of samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, or images as in `fit`.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_dimensions)
            Codes, in the space of `prototypes_`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoder
        >>> X, _ = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoder(3, max_epochs=4, random_state=0).fit(X)
        >>> model.encode(X).shape[0]
        150
        """
        return self._engine.encode(self._ready(X))

    def inverse_transform(self, Z):
        """Decode codes, such as those that :meth:`encode` returns.

        Parameters
        ----------
        Z : array-like of shape (n, n_dimensions)
            Codes. What `transform` returns are distances, which cannot be decoded.

        Returns
        -------
        X : ndarray of shape (n, n_features) or (n, n_channels, height, width)
            Samples in the user's units, float64.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoder
        >>> X, _ = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoder(3, max_epochs=4, random_state=0).fit(X)
        >>> model.inverse_transform(model.encode(X[:2])).shape
        (2, 4)
        """
        check_is_fitted(self)
        return self._engine.inverse_transform(Z)

    def reconstruct(self, X):
        """Encode and decode samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, or images as in `fit`.

        Returns
        -------
        X : ndarray of the same shape
            What the code keeps of the samples, in the user's units.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoder
        >>> X, _ = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoder(3, max_epochs=4, random_state=0).fit(X)
        >>> model.reconstruct(X[:2]).shape
        (2, 4)
        """
        return self._engine.reconstruct(self._ready(X))

    def reconstruction_error(self, X):
        """Return the squared error of each sample, summed over features.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, or images as in `fit`.

        Returns
        -------
        error : ndarray of shape (n_samples,)
            In the space of the model.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoder
        >>> X, _ = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoder(3, max_epochs=4, random_state=0).fit(X)
        >>> model.reconstruction_error(X).shape
        (150,)
        """
        return self._engine.reconstruction_error(self._ready(X))

    def outlier_score(self, X):
        """Return the squared distance of each sample to its nearest prototype.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, or images as in `fit`.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            Larger for samples unlike those of the fit.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoder
        >>> X, _ = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoder(3, max_epochs=4, random_state=0).fit(X)
        >>> near, far = model.outlier_score(X).mean(), model.outlier_score(9 * X).mean()
        >>> bool(far > near)
        True
        """
        return self._engine.outlier_score(self._ready(X))

    def decode_prototypes(self):
        """Return what the decoder makes of the prototypes.

        Returns
        -------
        X : ndarray of shape (n_prototypes, n_features) or (n_prototypes, n_channels, \
height, width)
            In the user's units.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import PrototypeAutoencoder
        >>> X, _ = load_iris(return_X_y=True)
        >>> model = PrototypeAutoencoder(3, max_epochs=4, random_state=0).fit(X)
        >>> model.decode_prototypes().shape
        (3, 4)
        """
        check_is_fitted(self)
        return self._engine.decode_prototypes()

    @property
    def _n_features_out(self) -> int:
        return len(self.prototypes_)

    def __getstate__(self):
        state = dict(super().__getstate__())
        if "history_" in state:
            # It is the engine's; a pandas frame cannot be saved without pickle.
            state.pop("history_")
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "_engine" in state:
            self.history_ = self._engine.history_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
