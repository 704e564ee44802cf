"""ProtoPool: classes choose their prototypes from a pool that they share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from skorch.callbacks import Callback

from skproto import _projection as projection
from skproto._editing import with_user_labels
from skproto.networks._base import PartPrototypeClassifier, phase_list
from skproto.networks._editing_shared import PoolFamily
from skproto.networks._protopnet import ProtoPNetClassifier, class_sites
from skproto.nn.head_solver import solve_head
from skproto.nn.losses import CrossEntropy
from skproto.nn.parts import PartPrototypeNetwork
from skproto.nn.slot_losses import (
    Mixup,
    MixupCrossEntropy,
    SlotCluster,
    SlotOffClassL1,
    SlotOrthogonality,
    SlotSeparation,
)
from skproto.nn.slots import gumbel_scale
from skproto.training import AtStart, Phase, TrainingData
from skproto.utils import _parameters as rules

# Prototypes for each class in the pool of n_prototypes="auto".
POOL_PER_CLASS = 3

# Share of the epochs in which slots make their choice, and the paper's number.
CHOOSING_SHARE, CHOOSING_EPOCHS = 0.6, 30


class ProtoPoolClassifier(ProtoPNetClassifier):
    r"""Network of prototype parts that classes share.

    There is one pool of prototypes. Every class has `n_slots` slots, and each slot
    learns which prototype of the pool to take: a Gumbel softmax over the pool, softer
    at first and harder epoch by epoch. Similarities are focal, :math:`a_p(x) =
    \max_t s(z_t, p) - s(\overline{d}_p)`: a prototype counts where it stands out from
    the rest of the image. At the end every slot takes the prototype of its largest
    logit, prototypes that no class has taken are dropped, the others are moved onto
    the nearest site of an image of their classes, and the last layer is solved for.

    Read more in the :ref:`User Guide <protopnet>`.

    Parameters
    ----------
    n_prototypes : "auto" or int, default="auto"
        Size of the pool. "auto" is 3 for each class and at least `n_slots`; the paper
        has about one for each of 200 classes. Those that no class takes are dropped.

    n_slots : int, default=3
        Prototypes that each class chooses; the paper has 10.

    prototype_dim : int or None, default=32
        Dimension of the prototypes: two layers bring the sites to it. None leaves the
        sites as the encoder returns them.

    similarity : {"log_l2", "cosine", "exp_l2", "linear"}, default="log_l2"
        How alike a site and a prototype are, see :class:`ProtoPNetClassifier`.

    pooling : {"auto", "focal", "max"}, default="auto"
        "focal" takes the similarity of the mean distance off the largest similarity.
        "auto" is "focal", and "max" where samples have one site, as rows of a table
        do: nothing can stand out there.

    gumbel_epochs : "auto" or int, default="auto"
        Epochs until the slots choose as hard as they will. "auto" is the paper's 30,
        at most 60 % of `max_epochs`.

    gumbel_end : float, default=1000.0
        Factor of the slots' logits from then on. Larger values make the choices
        harder.

    cluster_weight, separation_weight : float, default=0.8, 0.08
        Weights of the two costs: every image has a part near a prototype that its
        class has chosen, and none near one that it has not.

    orthogonality_weight : float, default=1.0
        Weight of the penalty on slots of one class that choose the same prototype.

    l1 : float, default=1e-4
        Weight of the absolute weights between slots and other classes.

    head_l2 : float, default=1e-3
        Pull of the last layer's refit towards 1 from a slot to its class and 0 to all
        others. Larger values give weights nearer to these.

    mixup : float or None, default=None
        Parameter of the beta distribution by which pairs of training samples are
        mixed; the paper has 0.5. None mixes nothing.

    init : {"sample", "uniform"}, default="sample"
        Prototypes start at random sites of samples, or, as in the paper, at random
        between 0 and 1.

    warm_epochs : "auto" or int, default="auto"
        First epochs, in which the body of the encoder stands still. "auto" is 5 where
        `encoder` is a module and 0 where it starts from random weights.

    project_prototypes : bool, default=True
        Whether every prototype is moved onto the nearest site of a training image of
        a class that has chosen it.

    unique_sources : bool, default=False
        Whether no two prototypes may come from the same image.

    prune_neighbors : int or None, default=None
        Drop prototypes of whose nearest training images, this many, fewer than 3 are of
        their classes. None keeps all that are chosen.

    head_solver : {"lbfgs", "adam"} or None, default="lbfgs"
        "lbfgs" solves for the last layer at the end; "adam" is the paper's
        `head_epochs` epochs after the projection; None leaves 1 for the slots of a
        class and 0 for all others.

    head_epochs : int, default=25
        Epochs of the last layer alone for ``head_solver="adam"``.

    schedule : {"cosine", "step", "constant"}, default="cosine"
        Learning rate in the course of training; "step" is a tenth every five epochs.

    encoder : {"auto", "mlp", "conv", "vit", "tokens"} or nn.Module, default="auto"
        "auto" is "conv", a small convolutional net, for images and "mlp" for tables; a
        table has one site. A module is copied; it returns vectors, tokens or maps. A
        callable gets the shape of an image, or the number of features, and returns a
        module.

    encoder_lr : float, default=None
        Learning rate of the body of the encoder; `lr` where None.

    image_shape : tuple of int, default=None
        (C, H, W) or (H, W) of images that come flattened.

    frozen : bool, default=False
        Whether the body of the encoder stays as it is; every sample is then encoded
        once.

    augment : "auto" or callable, default=None
        Changes training batches of shape (m, C, H, W), before they are mixed; "auto"
        shifts, turns and covers images a little, see
        :class:`skproto.nn.Augmentation`. Projection sees the images as they are.

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
        Go on from the network of the last call of :meth:`fit`; the choices of the
        slots stay as they are then.

    random_state : int, RandomState instance or None, default=None
        Seed of the start, of the slots' draws and of the order of the samples.

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
        Prototypes that some class has chosen, in the space of the sites.

    prototype_ids_ : ndarray of shape (n_prototypes,)
        Stable numbers of the prototypes.

    pretrain_epochs_ : int
        Epochs of the encoder alone that "auto" stood for.

    prototype_owners_ : ndarray of bool of shape (n_prototypes, n_classes)
        Which classes have chosen which prototype.

    prototype_labels_ : ndarray of shape (n_prototypes,)
        Of the classes that have chosen a prototype the one with the largest weight.

    slots_ : ndarray of shape (n_classes, n_slots)
        Position of the prototype in each slot, -1 where it was dropped.

    prototype_indices_ : ndarray of shape (n_prototypes,)
        Number of the training image behind each prototype, the nearest of its classes
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
        Training accuracy just before and after the projection, with the choices made.

    class_weights_ : ndarray of shape (n_prototypes, n_classes)
        Weights of the prototypes: slots that share one add up.

    win_counts_ : ndarray of shape (n_prototypes,)
        Number of training samples for which each prototype is the most similar.

    center_, scale_ : ndarray of shape (n_channels,)
        Inner standardisation, by channel or by feature.

    pooling_, encoder_, solver_, batch_size_, max_epochs_ : object
        What "auto" stood for.

    net_, history_, n_iter_ : PrototypeNet, DataFrame, int
        The skorch net; one row an epoch, one column a loss term; epochs trained.

    n_features_in_ : int
        Number of values of a sample.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features of a table, when all are str.

    See Also
    --------
    ProtoPNetClassifier : Every class owns its prototypes.
    PIPNetClassifier : Prototypes without owners, found by two views of each image.

    Notes
    -----
    Differs from the paper, or from its code, in the start at samples, the shorter
    schedule, the convex refit of the last layer, and in how slots choose at the end:
    by their largest logit, where the code draws at random. ``init="uniform",
    n_slots=10, mixup=0.5, warm_epochs=10, gumbel_epochs=30, head_solver="adam",
    schedule="step"`` is closer to it.

    While training, the similarity of a slot is that of a mixture of distances; what
    is explained is the network after the choice, whose scores are sums over
    prototypes.

    References
    ----------
    .. [1] Rymarczyk, D., Struski, L., Gorszczak, M., Lewandowska, K., Tabor, J. and
       Zielinski, B. (2022). Interpretable Image Classification with Differentiable
       Prototypes Assignment. *ECCV*.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skproto.networks import ProtoPoolClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> images = X.reshape(-1, 8, 8)
    >>> model = ProtoPoolClassifier(max_epochs=12, random_state=0)
    >>> model = model.fit(images[:600], y[:600])
    >>> bool(model.score(images[600:900], y[600:900]) > 0.8)
    True
    >>> model.slots_.shape, len(model.prototypes_) <= 30
    ((10, 3), True)
    >>> model.explain(images[600:601]).verify()
    """

    _moving: ClassVar[tuple[str, ...]] = ("encoder", "prototypes", "head.logits")
    _editing_family = PoolFamily
    _parameter_rules = PartPrototypeClassifier._parameter_rules.extended(
        n_prototypes=(rules.options("auto"), rules.integer(1)),
        n_slots=rules.integer(1),
        prototype_dim=(rules.none(), rules.integer(1)),
        similarity=rules.options("log_l2", "cosine", "exp_l2", "linear"),
        pooling=rules.options("auto", "focal", "max"),
        gumbel_epochs=(rules.options("auto"), rules.integer(1)),
        gumbel_end=rules.real(0),
        cluster_weight=rules.real(0, ends="[)"),
        separation_weight=rules.real(0, ends="[)"),
        orthogonality_weight=rules.real(0, ends="[)"),
        mixup=(rules.none(), rules.real(0)),
        encoder_lr=(rules.none(), rules.real(0)),
        init=rules.options("sample", "uniform"),
        warm_epochs=(rules.options("auto"), rules.integer(0)),
        schedule=rules.options("cosine", "step", "constant"),
    )

    def __init__(
        self,
        n_prototypes="auto",
        *,
        n_slots=3,
        prototype_dim=32,
        similarity="log_l2",
        pooling="auto",
        gumbel_epochs="auto",
        gumbel_end=1000.0,
        cluster_weight=0.8,
        separation_weight=0.08,
        orthogonality_weight=1.0,
        l1=1e-4,
        head_l2=1e-3,
        mixup=None,
        init="sample",
        warm_epochs="auto",
        project_prototypes=True,
        unique_sources=False,
        prune_neighbors=None,
        head_solver="lbfgs",
        head_epochs=25,
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
            prototype_dim=prototype_dim,
            similarity=similarity,
            pooling=pooling,
            cluster_weight=cluster_weight,
            separation_weight=separation_weight,
            orthogonality_weight=orthogonality_weight,
            l1=l1,
            head_l2=head_l2,
            init=init,
            warm_epochs=warm_epochs,
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
        self.n_prototypes = n_prototypes
        self.n_slots = n_slots
        self.gumbel_epochs = gumbel_epochs
        self.gumbel_end = gumbel_end
        self.mixup = mixup

    # -- building ----------------------------------------------------------------------

    def _make_module(self, data: TrainingData) -> PartPrototypeNetwork:
        encoder = self._make_encoder(data)
        self.pooling_ = self._resolved_pooling(encoder.n_sites)
        module = PartPrototypeNetwork(
            self._pool_size(data.n_classes),
            encoder.dim,
            data.n_classes,
            similarity=self.similarity,
            pooling=self.pooling_,
            head="slots",
            shared=True,
            head_options={
                "n_slots": int(self.n_slots),
                "focal": self.pooling_ == "focal",
            },
            encoder=encoder,
        )
        seed = data.rng.randint(2**31 - 1)
        module.head.reset_slots(torch.Generator().manual_seed(seed))
        module.set_prototypes(self._starting_points(module, data))
        return module

    def _resolved_pooling(self, n_sites: int) -> str:
        self._check_sites(n_sites)
        if self.pooling == "auto":
            return "focal" if n_sites > 1 else "max"
        return str(self.pooling)

    def _max_similarity(self) -> np.ndarray | None:
        highest = self._module.similarity.max_value
        if self.pooling_ != "max" or not np.isfinite(highest):
            return None
        return np.full(len(self.prototypes_), highest)

    def _pool_size(self, n_classes: int) -> int:
        if self.n_prototypes == "auto":
            return max(POOL_PER_CLASS * n_classes, self.n_slots)
        if self.n_prototypes < self.n_slots:
            raise ValueError(
                "n_prototypes must be at least n_slots: the slots of a class choose "
                f"different prototypes. Got n_prototypes={self.n_prototypes} and "
                f"n_slots={self.n_slots}."
            )
        return int(self.n_prototypes)

    def _starting_points(self, module, data: TrainingData) -> torch.Tensor:
        """Random sites of samples of all classes in turn, or uniform numbers."""
        n_prototypes, dim = module.prototypes.shape
        if self.init == "uniform":
            return torch.from_numpy(data.rng.uniform(size=(n_prototypes, dim)))
        points = class_sites(module, data, -(-n_prototypes // data.n_classes))
        spread = np.arange(n_prototypes) * len(points) // n_prototypes
        return points[spread]

    # -- training ----------------------------------------------------------------------

    def _loss_terms(self):
        mixing = vars(self).get("_mixing")
        terms: list[Any] = [MixupCrossEntropy(mixing) if mixing else CrossEntropy()]
        if self.cluster_weight:
            terms.append(SlotCluster(weight=self.cluster_weight))
        if self.separation_weight:
            terms.append(SlotSeparation(weight=self.separation_weight))
        if self.orthogonality_weight:
            terms.append(SlotOrthogonality(weight=self.orthogonality_weight))
        if self.l1:
            terms.append(SlotOffClassL1(weight=self.l1))
        return terms

    def _resolve(self, X) -> None:
        super()._resolve(X)
        self.__dict__.pop("_mixing", None)
        if self.mixup is not None:
            self._mixing = Mixup(float(self.mixup), super()._augmentation())

    def _augmentation(self):
        mixing = vars(self).get("_mixing")
        return super()._augmentation() if mixing is None else mixing

    def _encode_once(self, data: TrainingData, previous) -> TrainingData:
        # What is mixed are images, not their sites.
        return data if self.mixup is not None else super()._encode_once(data, previous)

    def _phases(self) -> list[Phase]:
        n_warm = self._warm_epochs()
        harder = (Hardening(self._gumbel_epochs(), float(self.gumbel_end)),)
        own = ("encoder.add_on", "prototypes", "head.logits")
        warm = replace(self._warm_up(n_warm), trainable=own, callbacks=harder)
        n_joint = self.max_epochs_ - n_warm
        joint = self._joint(0, n_joint, n_joint)
        joint = replace(joint, callbacks=(*joint.callbacks, *harder))
        last = [self._last_layer()] if self.head_solver == "adam" else []
        return phase_list([warm, joint, *last])

    def _gumbel_epochs(self) -> int:
        if self.gumbel_epochs == "auto":
            few = round(CHOOSING_SHARE * self.max_epochs_)
            return max(1, min(CHOOSING_EPOCHS, few))
        return int(self.gumbel_epochs)

    def _last_layer(self) -> Phase:
        return Phase(
            "last layer",
            self.head_epochs,
            float(self.lr) / 20,
            self.solver_,
            ("head.weight",),
            callbacks=(AtStart(self._choose_and_push),),
        )

    def _choose_and_push(self, module, data: TrainingData) -> None:
        choose(module)
        if self.project_prototypes:
            # Prototypes that no class has chosen stay, and are dropped at the end.
            owners = self._owners(module)
            projection.project(module, data, owners, unique=self.unique_sources)

    def _finish(self, module, data: TrainingData) -> None:
        self.__dict__.pop("_mixing", None)
        choose(module)
        taken = module.ownership.any(1)
        if not taken.all():
            self.net_ = self._make_prediction_net(module.keep(taken))
        super()._finish(self._module, data)

    def _refit(self, module, data: TrainingData) -> None:
        """Fit the last layer to fixed similarities of the slots: one convex problem."""
        owner = module.head.owner.cpu()
        chosen = module.head.chosen.T.cpu().numpy().astype(np.float32)
        solution = solve_head(
            self._measured(module, data) @ chosen,
            data.y,
            owner.float(),
            ownership=owner,
            l1=float(self.l1),
            l2=float(self.head_l2),
            sample_weight=data.weight,
        )
        with torch.no_grad():
            module.head.weight.copy_(torch.from_numpy(solution.weight))

    # -- fitted attributes -------------------------------------------------------------

    def _read_head(self, module) -> None:
        weights, _ = module.head.tables()
        self.class_weights_ = weights.detach().cpu().numpy().astype(np.float64)
        self.prototype_owners_ = module.ownership.cpu().numpy().copy()
        votes = np.where(self.prototype_owners_, self.class_weights_, -np.inf)
        codes = with_user_labels(self, votes.argmax(axis=1))
        self.prototype_labels_ = self.classes_[codes]
        chosen = module.head.chosen.cpu().numpy()
        slots = np.where(chosen.any(axis=1), chosen.argmax(axis=1), -1)
        self.slots_ = slots.reshape(len(self.classes_), -1)


class Hardening(Callback):
    """Make the choices of the slots harder from epoch to epoch.

    Parameters
    ----------
    n_epochs : int
        Epochs of training until they are as hard as they get.

    end : float
        Factor of the logits then.
    """

    def __init__(self, n_epochs, end):
        self.n_epochs = n_epochs
        self.end = end

    def on_epoch_begin(self, net, **kwargs):
        """Set the factor of the logits for the epoch."""
        trained = len(net.history) - 1
        net.module_.head.scale = gumbel_scale(trained, self.end, self.n_epochs)


@torch.no_grad()
def choose(module) -> None:
    """Let every slot choose; the classes of a prototype are those that chose it."""
    if not module.head.hardened:
        module.head.harden()
    module.set_ownership(module.head.ownership(), reset_head=False)
