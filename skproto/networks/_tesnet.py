"""TesNet: prototypes that span a subspace for each class."""

from __future__ import annotations

from typing import Any

from skproto.networks._protopnet import ProtoPNetClassifier
from skproto.nn.part_losses import SubspaceSeparation
from skproto.training import TrainingData
from skproto.utils import _parameters as rules


class TesNetClassifier(ProtoPNetClassifier):
    r"""Network of prototype parts that are an orthonormal basis for each class.

    Activations are inner products of the sites with prototypes of length 1,
    :math:`a_p(x) = \max_t z_t^\top p`, and scores :math:`s_k(x) = \sum_p a_p(x)
    W_{pk}`. The prototypes of a class are held close to orthogonal, :math:`\sum_c
    \|P_c P_c^\top - I\|_1`, and the subspaces that they span apart, :math:`-\frac{1}{2}
    \sum_{c,c'} \|P_c^\top P_c - P_{c'}^\top P_{c'}\|_F / \sqrt 2`. Cluster and
    separation cost are made of cosines, the score of inner products. Otherwise it is
    :class:`ProtoPNetClassifier`.

    Read more in the :ref:`User Guide <protopnet>`.

    Parameters
    ----------
    n_prototypes_per_class : int, default=3
        Prototypes that each class owns, at most the dimension of the sites; the paper
        has 10.

    prototype_dim : int or None, default=32
        Dimension of the prototypes: two layers with a sigmoid bring the sites to it.
        None leaves the sites as the encoder returns them. The paper has 64 or more.

    incorrect_weight : float, default=-0.5
        Start of the weights from a prototype to the classes that do not own it.

    cluster_weight, separation_weight : float, default=0.8, 0.08
        Weights of the two costs: every image has a part near a prototype of its class,
        and none near a prototype of another class.

    orthogonality_weight : float, default=1e-4
        Weight of the penalty on prototypes of a class that are not orthogonal. Larger
        values make the concepts of a class differ more.

    subspace_weight : float, default=1e-7
        Weight of the distance between the subspaces of the classes.

    l1 : float, default=1e-4
        Weight of the absolute weights between prototypes and other classes.

    head_l2 : float, default=1e-3
        Pull of the head's refit towards 1 from a prototype to its class and 0 to all
        others.

    init : {"sample", "uniform"}, default="sample"
        Prototypes start at random sites of samples of their class, or, as in the
        paper, at random between 0 and 1.

    warm_epochs : "auto" or int, default="auto"
        First epochs, in which the body of the encoder and the head stand still. "auto"
        is 5 where `encoder` is a module and 0 where it starts from random weights.

    project_every : int or None, default=None
        Epochs between projections while training, as in the paper; None projects once,
        at the end. Needs ``project_prototypes=True``.

    project_prototypes : bool, default=True
        Whether every prototype is moved onto the nearest site of a training image of
        its class (the paper's push).

    unique_sources : bool, default=False
        Whether no two prototypes may come from the same image.

    prune_neighbors : int or None, default=None
        Drop prototypes of whose nearest training images, this many, fewer than 3 are of
        their class. The paper takes 6; None keeps all.

    head_solver : {"lbfgs", "adam"} or None, default="lbfgs"
        "lbfgs" solves for the head at the end; "adam" is the paper's
        `head_epochs` epochs after each projection; None leaves the head.

    head_epochs : int, default=20
        Epochs of the head alone for ``head_solver="adam"``.

    schedule : {"cosine", "step", "constant"}, default="cosine"
        Learning rate in the course of training; "step" is the paper's tenth every five
        epochs.

    encoder : {"auto", "mlp", "conv", "vit", "tokens"} or nn.Module, default="auto"
        "auto" is "conv", a small convolutional net, for images and "mlp" for tables; a
        table has one site. A module is copied; it returns vectors, tokens or maps. A
        callable gets the shape of an image, or the number of features, and returns a
        module.

    encoder_lr : float, default=None
        Learning rate of the body of the encoder; `lr` where None. The paper takes 1e-4
        beside 3e-3.

    image_shape : tuple of int, default=None
        (C, H, W) or (H, W) of images that come flattened.

    frozen : bool, default=False
        Whether the body of the encoder stays as it is; every sample is then encoded
        once.

    augment : "auto" or callable, default=None
        Changes training batches of shape (m, C, H, W); "auto" shifts, turns and covers
        images a little, see :class:`skproto.nn.Augmentation`. Projection sees the
        images as they are.

    pretrain_epochs : "auto" or int, default="auto"
        Passes over the data, before all others, in which the encoder of images learns
        under a linear classifier, which is then taken off. "auto" is a quarter of
        `max_epochs` where "conv" or "vit" start from random weights, else 0.

    standardize : bool, default=True
        Whether to centre every channel (every feature of a table) and divide it by its
        standard deviation inside the model.

    solver : {"auto", "adam", "adamw"}, default="auto"
        Optimiser on mini-batches; "auto" is "adam".

    max_epochs : int or "auto", default=25
        Passes over the data, warm-up included.

    lr : float, default=0.002
        Learning rate.

    batch_size : int, default=64
        Samples of a mini-batch.

    class_weight : dict, "balanced" or None, default=None
        Weights of the classes; "balanced" gives all the same total.

    early_stopping : bool, default=False
        Stop when the loss on a held-out part no longer falls.

    validation_fraction : float, default=0.1
        Share of the samples held out for early stopping.

    n_iter_no_change : int, default=10
        Epochs without progress that early stopping waits for.

    warm_start : bool, default=False
        Go on from the network of the last call of :meth:`fit`.

    random_state : int, RandomState instance or None, default=None
        Seed of the start and of the order of the samples.

    device : str or torch.device, default="cpu"
        Where to train and predict.

    verbose : int, default=0
        1 shows a progress line, larger values the table of skorch.

    net_params : dict, default=None
        Parameters of the skorch net, such as ``{"autocast": "bfloat16",
        "channels_last": True, "compile": True}``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    prototypes_ : ndarray of shape (n_prototypes, prototype_dim)
        Prototypes in the space of the sites.

    prototype_ids_ : ndarray of shape (n_prototypes,)
        Stable numbers of the prototypes.

    prototype_labels_ : ndarray of shape (n_prototypes,)
        Class that owns each prototype.

    prototype_indices_ : ndarray of shape (n_prototypes,)
        Number of the training image behind each prototype, the nearest of its class
        where it was not projected.

    prototype_sites_ : ndarray of shape (n_prototypes,)
        Cell of that image, counted row by row.

    prototype_boxes_ : ndarray of shape (n_prototypes, 4)
        Pixels of that cell: top, left, bottom, right, the last two exclusive. Images
        only, as the three below.

    prototype_patches_ : list of ndarray
        What the boxes hold, each (C, h, w), in the user's values.

    prototype_hashes_ : ndarray of shape (n_prototypes,)
        SHA-256 of the source images.

    prototype_samples_ : ndarray or None
        The source images, or rows of a table; None where they exceed 64 MB.

    prototype_sample_labels_ : ndarray of shape (n_prototypes,)
        Class labels of the source samples.

    projection_distance_ : ndarray of shape (n_prototypes,)
        Distance between prototype and site; 0 after projection.

    projection_accuracy_ : ndarray of shape (2,)
        Training accuracy just before and after the projection.

    class_weights_ : ndarray of shape (n_prototypes, n_classes)
        Weights of the head.

    win_counts_ : ndarray of shape (n_prototypes,)
        Number of training samples for which each prototype is the most similar.

    center_, scale_ : ndarray of shape (n_channels,)
        Inner standardisation, by channel or by feature.

    encoder_, solver_, batch_size_, max_epochs_, pretrain_epochs_ : object
        What "auto" stood for.

    net_, history_, n_iter_ : PrototypeNet, DataFrame, int
        The skorch net; one row an epoch, one column a loss term; epochs trained.

    n_features_in_ : int
        Number of values of a sample.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features of a table, when all are str.

    See Also
    --------
    ProtoPNetClassifier : The same with other similarities.

    Notes
    -----
    Differs from the paper as :class:`ProtoPNetClassifier` does: the start at samples,
    one projection at the end and the convex refit of the head. The penalties follow
    the owners of the prototypes and so hold in any order of them. Projection goes
    to the nearest direction among the sites that no other site of their image exceeds
    along it: so the place shown on the source image of a prototype is the one that it
    comes from. A site may be of any length, and there is no largest activation.

    References
    ----------
    .. [1] Wang, J., Liu, H., Wang, X. and Jing, L. (2021). Interpretable Image
       Recognition by Constructing Transparent Embedding Space. *ICCV*.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skproto.networks import TesNetClassifier
    >>> X, y = load_digits(n_class=4, return_X_y=True)
    >>> images = X.reshape(-1, 8, 8)
    >>> model = TesNetClassifier(max_epochs=10, random_state=0)
    >>> model = model.fit(images[:500], y[:500])
    >>> bool(model.score(images[500:], y[500:]) > 0.9)
    True
    >>> model.explain(images[500:502]).verify()
    """

    _parameter_rules = ProtoPNetClassifier._parameter_rules.extended(
        subspace_weight=rules.real(0, ends="[)"),
    )

    def __init__(
        self,
        n_prototypes_per_class=3,
        *,
        prototype_dim=32,
        incorrect_weight=-0.5,
        cluster_weight=0.8,
        separation_weight=0.08,
        orthogonality_weight=1e-4,
        subspace_weight=1e-7,
        l1=1e-4,
        head_l2=1e-3,
        init="sample",
        warm_epochs="auto",
        project_every=None,
        project_prototypes=True,
        unique_sources=False,
        prune_neighbors=None,
        head_solver="lbfgs",
        head_epochs=20,
        schedule="cosine",
        encoder="auto",
        encoder_lr=None,
        image_shape=None,
        frozen=False,
        augment=None,
        pretrain_epochs="auto",
        standardize=True,
        solver="auto",
        max_epochs=25,
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
            n_prototypes_per_class,
            prototype_dim=prototype_dim,
            similarity="dot",
            incorrect_weight=incorrect_weight,
            cluster_weight=cluster_weight,
            separation_weight=separation_weight,
            orthogonality_weight=orthogonality_weight,
            l1=l1,
            head_l2=head_l2,
            init=init,
            warm_epochs=warm_epochs,
            project_every=project_every,
            project_prototypes=project_prototypes,
            unique_sources=unique_sources,
            prune_neighbors=prune_neighbors,
            head_solver=head_solver,
            head_epochs=head_epochs,
            schedule=schedule,
            encoder=encoder,
            encoder_lr=encoder_lr,
            image_shape=image_shape,
            frozen=frozen,
            augment=augment,
            pretrain_epochs=pretrain_epochs,
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
        self.subspace_weight = subspace_weight

    def _make_module(self, data: TrainingData):
        module = super()._make_module(data)
        dim = module.encoder.dim
        if self.n_prototypes_per_class > dim:
            raise ValueError(
                "The 'n_prototypes_per_class' parameter of TesNetClassifier must be at "
                f"most the dimension of the sites, {dim}: more cannot be orthogonal. "
                f"Got {self.n_prototypes_per_class!r}."
            )
        return module

    def _loss_terms(self) -> list[Any]:
        terms = super()._loss_terms()
        if self.subspace_weight:
            terms.append(SubspaceSeparation(weight=self.subspace_weight))
        return terms
