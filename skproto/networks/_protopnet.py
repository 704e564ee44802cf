"""ProtoPNet: this part looks like that part of that training image."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from skorch.callbacks import LRScheduler
from torch import nn

from skproto.networks._alignment import AddAlignment, check_alignment
from skproto.networks._base import (
    PartPrototypeClassifier,
    phase_list,
    push,
)
from skproto.nn.losses import CrossEntropy
from skproto.nn.part_losses import (
    ClusterCost,
    OffClassL1,
    PrototypeOrthogonality,
    SeparationCost,
    ShallowDeepAlignment,
)
from skproto.nn.parts import PartPrototypeNetwork, class_owners
from skproto.training import Annealing, Phase, TrainingData
from skproto.utils import _parameters as rules

# Similarities in whose space sites lie between 0 and 1, as in the paper.
BOUNDED = ("log_l2", "exp_l2", "linear", "dot")

# Weight decay of the encoder, as in the paper; nothing else has any.
DECAY = 1e-3


class ProtoPNetClassifier(PartPrototypeClassifier):
    r"""Network of prototype parts: "this part looks like that part of that image".

    An encoder turns an image into sites :math:`z_t`, the cells of a map. Every
    prototype looks for its most similar site, :math:`a_p(x) = \max_t s(z_t, p)`, and a
    linear head without bias adds up the similarities, :math:`s_k(x) = \sum_p a_p(x)
    W_{pk}`. Each class owns `n_prototypes_per_class` prototypes, or all classes share
    them. After training every prototype is moved onto the nearest site of a training
    image of its class, so that it can be shown, and the head is fitted anew: a convex
    problem.

    Read more in the :ref:`User Guide <protopnet>`.

    Parameters
    ----------
    n_prototypes_per_class : int, default=3
        Prototypes that each class owns; the paper has 10.

    ownership : {"class", "shared"}, default="class"
        "shared" gives so many prototypes for each class to all of them: any may speak
        for any class, the head learns which along with them, and each is moved onto
        the nearest site of an image of any class. There is nothing to separate then,
        `l1` counts all weights, and `prototype_labels_` are the classes that the
        prototypes speak for most. Not with ``head="grouped_softmax"``.

    prototype_dim : int or None, default=32
        Dimension of the prototypes: two layers bring the sites to it. None leaves the
        sites as the encoder returns them.

    similarity : {"cosine", "log_l2", "exp_l2", "dot", "radius", "linear"}
        How alike a site and a prototype are. "log_l2" is the paper's
        :math:`\log((d^2 + 1) / (d^2 + 10^{-4}))`; "cosine" is ten times the cosine and
        trains more reliably from scratch.

        Prototypes of "dot" have length 1.

    pooling : {"max", "topk", "focal"}, default="max"
        How the similarities at the sites become one number: the largest, the mean of
        the `top_k` largest, or the largest minus that of the mean distance. "focal"
        needs samples of several sites.

    top_k : int, default=3
        Sites that "topk" takes, at most as many as there are.

    head : {"class_linear", "nonneg", "grouped_softmax"}, default="class_linear"
        "class_linear" has free weights, "nonneg" weights of at least 0, and
        "grouped_softmax" a weighted mean of a class's own prototypes (SA in [2]_).

    incorrect_weight : float, default=-0.5
        Start of the weights from a prototype to the classes that do not own it.

    cluster_weight, separation_weight : float, default=0.8, 0.08
        Weights of the two costs: every image has a part near a prototype of its class,
        and none near a prototype of another class.

    orthogonality_weight : float, default=0.0
        Weight of the penalty on prototypes of one class that point the same way.

    alignment_weight : float, default=0.0
        Weight of the shallow-deep feature alignment (SDFA in [2]_, which takes 0.5):
        sites alike in the deep map should be alike in a shallow one, too, so that a
        prototype looks at what it sits on. It acts after the warm-up, and needs images
        and an encoder that learns.

    shallow_layer : str, default="auto"
        Module of the encoder whose output is the shallow map, by its name in
        ``encoder.named_modules()``. "auto" is the first block of "conv" and "vit";
        other encoders need a name.

    l1 : float, default=1e-4
        Weight of the absolute weights between prototypes and other classes.

    head_l2 : float, default=1e-3
        Pull of the head's refit towards 1 from a prototype to its class and 0 to all
        others (to all of shared ones). Larger values give weights nearer to these;
        without it weights grow without need where the activations separate the classes.

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
        Class that owns each prototype, or of shared ones that of the largest weight.

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
    ProtoTreeClassifier : Prototypes as the nodes of one tree.
    CBCClassifier : Presence and absence of components, with an encoder on images too.

    Notes
    -----
    The defaults differ from the paper in the similarity, the start at samples, the
    single projection and the convex refit of the head. ``similarity="log_l2",
    init="uniform", project_every=10, head_solver="adam", schedule="step",
    encoder_lr=1e-4, lr=3e-3, prune_neighbors=6`` is the paper.

    A box tells where a cell sits, not what it depends on: its receptive field is
    larger, often the whole image. Explanations show the effective receptive field
    beside the box.

    References
    ----------
    .. [1] Chen, C., Li, O., Tao, C., Barnett, A. J., Su, J. and Rudin, C. (2019). This
       Looks Like That: Deep Learning for Interpretable Image Recognition. *NeurIPS*.
    .. [2] Huang, Q. et al. (2023). Evaluation and Improvement of Interpretability for
       Self-Explainable Part-Prototype Networks. *ICCV*.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skproto.networks import ProtoPNetClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> images = X.reshape(-1, 8, 8)
    >>> model = ProtoPNetClassifier(max_epochs=8, random_state=0)
    >>> model = model.fit(images[:600], y[:600])
    >>> bool(model.score(images[600:900], y[600:900]) > 0.8)
    True
    >>> case = model.explain(images[600:601])
    >>> case.verify()
    >>> model.prototype_patches_[0].shape
    (1, 2, 2)
    """

    _module_class: ClassVar[type[nn.Module]] = PartPrototypeNetwork
    # Parts of the module that learn in joint training, and those that `encoder_lr` is
    # for.
    _moving: ClassVar[tuple[str, ...]] = ("encoder", "prototypes", "similarity")
    _slow: ClassVar[tuple[str, ...]] = ("encoder.body",)
    _parameter_rules = PartPrototypeClassifier._parameter_rules.extended(
        encoder_lr=(rules.none(), rules.real(0)),
        n_prototypes_per_class=rules.integer(1),
        ownership=rules.options("class", "shared"),
        prototype_dim=(rules.none(), rules.integer(1)),
        similarity=rules.options(
            "cosine", "log_l2", "exp_l2", "dot", "radius", "linear"
        ),
        pooling=rules.options("max", "topk", "focal"),
        top_k=rules.integer(1),
        head=rules.options("class_linear", "nonneg", "grouped_softmax"),
        incorrect_weight=rules.real(-np.inf, ends="()"),
        cluster_weight=rules.real(0, ends="[)"),
        separation_weight=rules.real(0, ends="[)"),
        orthogonality_weight=rules.real(0, ends="[)"),
        alignment_weight=rules.real(0, ends="[)"),
        shallow_layer=rules.Rule(lambda value: isinstance(value, str), "a str"),
        init=rules.options("sample", "uniform"),
        warm_epochs=(rules.options("auto"), rules.integer(0)),
        project_every=(rules.none(), rules.integer(1)),
        schedule=rules.options("cosine", "step", "constant"),
    )

    def __init__(
        self,
        n_prototypes_per_class=3,
        *,
        ownership="class",
        prototype_dim=32,
        similarity="cosine",
        pooling="max",
        top_k=3,
        head="class_linear",
        incorrect_weight=-0.5,
        cluster_weight=0.8,
        separation_weight=0.08,
        orthogonality_weight=0.0,
        alignment_weight=0.0,
        shallow_layer="auto",
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
        self.ownership = ownership
        self.prototype_dim = prototype_dim
        self.similarity = similarity
        self.pooling = pooling
        self.top_k = top_k
        self.head = head
        self.incorrect_weight = incorrect_weight
        self.cluster_weight = cluster_weight
        self.separation_weight = separation_weight
        self.orthogonality_weight = orthogonality_weight
        self.alignment_weight = alignment_weight
        self.shallow_layer = shallow_layer
        self.l1 = l1
        self.head_l2 = head_l2
        self.init = init
        self.warm_epochs = warm_epochs
        self.project_every = project_every
        self.project_prototypes = project_prototypes
        self.unique_sources = unique_sources
        self.prune_neighbors = prune_neighbors
        self.head_solver = head_solver
        self.head_epochs = head_epochs
        self.schedule = schedule
        self.encoder_lr = encoder_lr

    # -- building ----------------------------------------------------------------------

    def _add_on(self):
        if self.prototype_dim is None:
            return None
        return lambda dim: add_on_layers(
            dim, self.prototype_dim, bounded=self.similarity in BOUNDED
        )

    @property
    def _encodes(self) -> bool:
        return self.prototype_dim is not None or super()._encodes

    def _make_module(self, data: TrainingData) -> nn.Module:
        encoder = self._make_encoder(data)
        self._check_sites(encoder.n_sites)
        self._check_ownership()
        if self.alignment_weight:
            check_alignment(self, encoder)
        settings: dict[str, Any] = {}
        if self.pooling == "topk":
            settings["pooling_options"] = {"k": self.top_k}
        if self.head == "class_linear":
            settings["head_options"] = {
                "incorrect_weight": float(self.incorrect_weight)
            }
        module = PartPrototypeNetwork(
            self.n_prototypes_per_class * data.n_classes,
            encoder.dim,
            data.n_classes,
            similarity=self.similarity,
            pooling=self.pooling,
            head=self.head,
            shared=self.ownership == "shared",
            unit_prototypes=self.similarity == "dot",
            encoder=encoder,
            **settings,
        )
        module.set_prototypes(self._starting_points(module, data))
        if self.ownership == "shared":
            # As if those that start at a class were its own: all alike would stay so.
            shape = len(module.prototypes), data.n_classes
            module.head.reset(class_owners(*shape))
        return module

    def _check_ownership(self) -> None:
        """Raise where a head that needs owners has none."""
        if self.ownership == "shared" and self.head == "grouped_softmax":
            raise ValueError(
                "head='grouped_softmax' of ProtoPNetClassifier adds up the prototypes "
                "that a class owns and needs ownership='class'. Got "
                f"ownership={self.ownership!r}."
            )

    def _check_sites(self, n_sites: int) -> None:
        """Raise where the pooling needs more sites than the encoder gives."""
        if self.pooling == "topk" and self.top_k > n_sites:
            raise ValueError(
                f"The 'top_k' parameter of {type(self).__name__} must be at most the "
                f"number of sites of a sample, {n_sites}. Got {self.top_k!r}."
            )
        if self.pooling == "focal" and n_sites < 2:
            raise ValueError(
                "pooling='focal' compares the best site with the mean of all and needs "
                f"samples of several sites; those of {type(self).__name__} here have "
                "one. Use pooling='max'."
            )

    def _starting_points(self, module, data: TrainingData) -> torch.Tensor:
        """Random sites of random samples of each prototype's class, or uniform."""
        shape = module.prototypes.shape
        if self.init == "uniform":
            return torch.from_numpy(data.rng.uniform(size=tuple(shape)))
        return class_sites(module, data, self.n_prototypes_per_class)

    def _max_similarity(self) -> np.ndarray | None:
        highest = self._module.similarity.max_value
        if self.pooling != "max" or not np.isfinite(highest):
            return None
        return np.full(len(self.prototypes_), highest)

    def _owners(self, module) -> np.ndarray | None:
        return None if self.ownership == "shared" else super()._owners(module)

    def _head_center(self, module) -> torch.Tensor:
        center = super()._head_center(module)
        # Nothing speaks for one class rather than another.
        return torch.zeros_like(center) if self.ownership == "shared" else center

    def _finish(self, module, data: TrainingData) -> None:
        module.shallow_layer = None
        super()._finish(module, data)

    # -- training ----------------------------------------------------------------------

    def _loss_terms(self):
        terms: list[Any] = [CrossEntropy()]
        if self.cluster_weight:
            terms.append(ClusterCost(weight=self.cluster_weight))
        if self.separation_weight and self.ownership == "class":
            terms.append(SeparationCost(weight=self.separation_weight))
        if self.orthogonality_weight:
            terms.append(PrototypeOrthogonality(weight=self.orthogonality_weight))
        if self.l1:
            terms.append(OffClassL1(weight=self.l1))
        return terms

    def _phases(self) -> list[Phase]:
        n_warm = self._warm_epochs()
        n_joint = self.max_epochs_ - n_warm
        return phase_list([self._warm_up(n_warm), *self._stretches(0, n_joint)])

    def _warm_up(self, n_epochs: int) -> Phase:
        own = ("encoder.add_on", "prototypes", "similarity")
        return Phase(
            "warm-up",
            n_epochs,
            float(self.lr),
            self.solver_,
            own,
            group_decay={"encoder.add_on": DECAY},
        )

    def _stretches(self, first: int, n_joint: int) -> list[Phase]:
        """Epochs from `first` to `n_joint` with projections between them."""
        phases = []
        every = max(self.project_every or n_joint, 1)
        for start in range(first, n_joint, every):
            phases.append(self._joint(start, min(every, n_joint - start), n_joint))
            if self.head_solver == "adam":
                phases.append(self._last_layer())
        return phases

    def _warm_epochs(self) -> int:
        if self.warm_epochs != "auto":
            return min(self.warm_epochs, self.max_epochs_)
        # A net that starts from random weights has nothing to protect.
        given = not isinstance(self.encoder_, str) and not self.frozen
        return min(5, self.max_epochs_ // 2) if given else 0

    def _joint(self, start: int, n_epochs: int, n_joint: int) -> Phase:
        """Epochs from `start` on of the `n_joint` in which all but the head moves."""
        rates = {}
        if self.encoder_lr is not None:
            rates = dict.fromkeys(self._slow, float(self.encoder_lr))
        callbacks: tuple[Any, ...] = self._schedule(start, n_joint)
        if start and self.project_prototypes and self.head_solver != "adam":
            callbacks += (push(self),)
        if self.alignment_weight:
            term = ShallowDeepAlignment(weight=self.alignment_weight)
            callbacks += (AddAlignment(term, self.shallow_layer),)
        return Phase(
            "joint",
            n_epochs,
            float(self.lr),
            self.solver_,
            self._moving if self.ownership == "class" else (*self._moving, "head"),
            rates,
            callbacks,
            {"encoder.add_on": DECAY, "encoder.body": DECAY},
        )

    def _schedule(self, start: int, n_joint: int) -> tuple[Any, ...]:
        if self.schedule == "cosine":
            return (Annealing(n_joint, start),)
        if self.schedule == "step":
            factor = partial(tenths, start)
            return (
                LRScheduler(
                    "LambdaLR", event_name=None, lr_lambda=factor, last_epoch=-1
                ),
            )
        return ()

    def _last_layer(self) -> Phase:
        callbacks = (push(self),) if self.project_prototypes else ()
        return Phase(
            "last layer",
            self.head_epochs,
            float(self.lr) / 20,
            self.solver_,
            ("head",),
            callbacks=callbacks,
        )


def tenths(start: int, epoch: int) -> float:
    """Return a tenth for every five epochs done, `start` of them before the phase."""
    return float(0.1 ** ((start + epoch) // 5))


def add_on_layers(n_inputs: int, dim: int, *, bounded: bool) -> nn.Sequential:
    """Two layers on every site, with a sigmoid at the end if `bounded`."""
    first, second = nn.Linear(n_inputs, dim), nn.Linear(dim, dim)
    for layer in (first, second):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    last = [nn.Sigmoid()] if bounded else []
    return nn.Sequential(first, nn.ReLU(), second, *last)


def class_sites(module, data: TrainingData, n_per_class: int) -> torch.Tensor:
    """Random sites of random samples, `n_per_class` of each class in turn."""
    chosen = []
    for code in range(data.n_classes):
        members = np.flatnonzero(np.asarray(data.y) == code)
        share = data.weight[members] / data.weight[members].sum()
        few = len(members) < n_per_class
        chosen.append(data.rng.choice(members, n_per_class, replace=few, p=share))
    index = np.concatenate(chosen)
    sites = data.rng.randint(module.encoder.n_sites, size=len(index))
    training = module.training
    module.eval()
    points = []
    with torch.no_grad():
        for start in range(0, len(index), 64):
            part = slice(start, start + 64)
            x = torch.from_numpy(data.dense(index[part]))
            z = module.candidates(x.to(module.prototypes.device))
            points.append(z[np.arange(len(z)), sites[part]])
    module.train(training)
    return torch.cat(points)
