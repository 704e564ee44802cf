"""ProtoViT: prototypes made of several tokens that may bend."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from skorch.callbacks import LRScheduler
from torch import nn

from skproto import _projection as projection
from skproto.explanation import PrototypePlaces, SamplePlaces
from skproto.networks._base import phase_list
from skproto.networks._editing_parts import TokenSetFamily
from skproto.networks._part_slots import class_blocks, keep_found_parts, round_slots
from skproto.networks._site_mask import SiteMaskClassifier, check_sites
from skproto.nn.losses import CrossEntropy
from skproto.nn.matching import unit
from skproto.nn.part_losses import OffClassL1
from skproto.nn.part_set_losses import (
    PartSetCluster,
    PartSetCoherence,
    PartSetOrthogonality,
    PartSetSeparation,
)
from skproto.nn.part_set_projection import project_part_sets
from skproto.nn.part_sets import PartSetNetwork, slot_learning_rate
from skproto.training import AtStart, OneCycle, Phase, TrainingData
from skproto.utils import _parameters as rules

# Parts that n_parts="auto" stands for where there are as many sites.
AUTO_PARTS = 3

# Epochs that max_epochs="auto" stands for with images and tokens.
IMAGE_EPOCHS = 25

# Epochs of warm-up with an encoder that the user gives.
WARM_EPOCHS = 5

# Weight of the coherence while slots are learned: it alone would switch parts off.
SLOT_COHERENCE = 1e-6

# How far from the highest a similarity counts as reaching it.
REACHED = 1e-4


class ProtoViTClassifier(SiteMaskClassifier):
    r"""Transformer whose prototypes are sets of patches: "these parts look like those".

    An encoder turns a sample into tokens :math:`z_t`: the patches of an image, given
    tokens of a text, or the features of a table row. A prototype has M parts. They are
    matched greedily: the most similar pair of a free part and a free token first, then
    the next among the tokens beside those already taken. With the cosines :math:`S_k`
    of the matched pairs and slots :math:`s_k` that switch parts on or off,

    .. math:: g_p(x) = M \sum_k s_k S_k \Big/ \sum_k s_k, \qquad
              s_c(x) = \sum_p g_p(x) W_{pc}.

    After training the slots are rounded, every prototype becomes M tokens of one
    training sample of its class, and the head is fitted anew: a convex problem.

    Read more in the :ref:`User Guide <protovit>`.

    Parameters
    ----------
    n_prototypes_per_class : int, default=2
        Prototypes that each class owns; the paper has 10.

    n_parts : "auto" or int, default="auto"
        Parts M of a prototype. "auto" is 3, or the number of sites where a sample has
        fewer. Larger values let a prototype speak of more places at once.

    radius : int, default=1
        Largest distance of parts that are beside each other: in rows and columns of
        patches, or in tokens. Larger values let a prototype stretch further.

    adjacency : {"connected", "chain"} or None, default="connected"
        A part takes a token beside any token taken before, beside the one just taken
        (the paper), or anywhere. With "chain" a prototype may not find all its parts
        again on its own source. Features of a table have no place: None there.

    matching : {"greedy", "exact"}, default="greedy"
        Whether parts are matched pair by pair, the most similar first (the paper), or
        to the set of tokens with the largest sum of cosines. "exact" does not go with
        "chain" and is for few parts and tokens: of 196 patches it tries 4,000 sets for
        three parts, 20,000 for four.

    subtract_class_token : bool, default=True
        Whether the class token of an image, or the mean token where the encoder returns
        none, is taken from its tokens.

    slots : bool, default=True
        Whether the number of parts is learned; False keeps all.

    slot_margin : float or None, default=0.1
        A part whose slot was learned to be off goes only if its mean cosine on training
        samples of the class is further than this below that of the prototype's best
        part. Larger values keep more parts. None lets the slots alone decide (the
        paper): for every part below the mean of its prototype they are better off.

    slot_temperature : float, default=100.0
        Factor in the logistic function behind the slots. Larger values make slots
        harder.

    slot_epochs : int, default=5
        Epochs after the others in which nothing but the slots moves.

    cluster_weight, separation_weight : float, default=0.8, 0.1
        Weights of the two costs: every sample has tokens like the parts of a prototype
        of its class, and none like those of another class.

    cost_parts : {"all", "best"}, default="all"
        Whether the two costs judge a prototype by the mean over its parts or by its
        best single part (the paper), which leaves the others to the classification.

    orthogonality_weight : float, default=0.001
        Weight of the penalty on prototypes of one class that are alike.

    coherence_weight : float, default=0.003
        Weight of the penalty on parts of one prototype that differ; at most 1e-6 while
        slots are learned.

    l1 : float, default=1e-4
        Weight of the absolute weights between prototypes and other classes, in the
        refit of the head too. The paper has 1e-2.

    init : {"uniform", "sample"}, default="uniform"
        Prototypes start at random between 0 and 1, or at random adjacent tokens of
        samples of their class.

    warm_epochs : "auto" or int, default="auto"
        First epochs, in which the prototypes alone move. "auto" is 5, as in the paper,
        where `encoder` is a module and 0 where it starts from random weights.

    project_prototypes : bool, default=True
        Whether every prototype is moved onto the matched tokens of the training sample
        of its class that is most like it (the paper's push).

    unique_sources : bool, default=False
        Whether the prototypes of a class come from different samples.

    prune_neighbors : int or None, default=None
        Drop prototypes of whose nearest training samples, this many, fewer than 3 are
        of their class. None keeps all.

    head_solver : {"lbfgs", "adam"} or None, default="lbfgs"
        "lbfgs" solves for the head at the end; "adam" is the paper's `head_epochs`
        epochs after the projection; None leaves the head.

    head_epochs : int, default=20
        Epochs of the head alone for ``head_solver="adam"``.

    schedule : {"one_cycle", "step", "constant"}, default="one_cycle"
        Learning rates in the course of training: up, then down to 0; a tenth every
        five epochs (the paper); or as they are.

    encoder : {"auto", "vit", "conv", "tokens", "features"} or nn.Module
        "auto" is "vit", a small transformer, for images and "features" for tables:
        each feature becomes a token. "tokens" takes X as tokens. A module is copied; it
        returns tokens, tokens and a class token, or maps. A callable gets the shape of
        an image, or the number of features, and returns a module.

    add_on : nn.Module or callable, default=None
        Module on the tokens (n, T, D) that the encoder returns, such as linear layers
        or a transformer on given tokens; a callable gets the dimension D and returns
        one. It is copied, and learns even where `frozen`. If its `forward` takes a
        `site_mask` (n, T), it is told which tokens exist; the others are zeros.

    patch_size : "auto", int or tuple of two int, default="auto"
        Height and width of the patches of the encoder "vit", divisors of those of the
        image. "auto" cuts each side into four to eight.

    prototype_lr : float, default=0.003
        Learning rate of the prototypes, the highest with ``schedule="one_cycle"``.

    image_shape : tuple of int, default=None
        (C, H, W) or (H, W) of images that come flattened.

    frozen : bool, default=False
        Whether the encoder stays as it is; every image is then encoded once.

    augment : "auto" or callable, default=None
        Changes training batches of shape (m, C, H, W); "auto" shifts, turns and covers
        images a little, see :class:`skproto.nn.Augmentation`. Projection sees the
        images as they are.

    standardize : bool, default=True
        Whether to centre every channel (dimension of a token, feature of a table) and
        divide it by its standard deviation inside the model.

    solver : {"auto", "adam", "adamw"}, default="auto"
        Optimiser on mini-batches; "auto" is "adam".

    max_epochs : int or "auto", default="auto"
        Passes over the data, warm-up included; those of the slots come on top. "auto"
        is 25, and for tables as many as make about 1,500 steps, from 30 to 300.

    lr : float, default=0.003
        Learning rate of the encoder, the highest with ``schedule="one_cycle"``.

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
        Go on from the network of the last call of :meth:`fit`. Parts that are switched
        off stay so.

    random_state : int, RandomState instance or None, default=None
        Seed of the start and of the order of the samples.

    device : str or torch.device, default="cpu"
        Where to train and predict.

    verbose : int, default=0
        1 shows a progress line, larger values the table of skorch.

    net_params : dict, default=None
        Parameters of the skorch net.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    prototypes_ : ndarray of shape (n_prototypes, n_parts, n_dimensions)
        Parts of the prototypes in the space of the tokens. Only directions count.

    slots_ : ndarray of bool of shape (n_prototypes, n_parts)
        Parts that are on.

    n_parts_ : ndarray of shape (n_prototypes,)
        Number of parts that are on. A prototype without any is dropped, unless it is
        the last of its class.

    prototype_ids_ : ndarray of shape (n_prototypes,)
        Stable numbers of the prototypes.

    prototype_labels_ : ndarray of shape (n_prototypes,)
        Class that owns each prototype.

    prototype_indices_ : ndarray of shape (n_prototypes,)
        Number of the training sample behind each prototype, the most similar of its
        class where it was not projected. All parts come from one sample.

    prototype_sites_ : ndarray of shape (n_prototypes, n_parts)
        Token of that sample for each part; patches are counted row by row, -1 is a part
        that is off.

    prototype_boxes_ : ndarray of shape (n_prototypes, n_parts, 4)
        Pixels of these patches: top, left, bottom, right, the last two exclusive.
        Images only, as the two below.

    prototype_patches_ : list of list of ndarray
        What the boxes hold, each (C, h, w), in the user's values; (C, 0, 0) for a part
        that is off.

    prototype_hashes_ : ndarray of shape (n_prototypes,)
        SHA-256 of the source images.

    prototype_samples_ : ndarray or None
        The source samples; None where they are images that exceed 64 MB.

    prototype_sample_labels_ : ndarray of shape (n_prototypes,)
        Class labels of the source samples.

    projection_distance_ : ndarray of shape (n_prototypes,)
        M less the mean cosine, times M, of the parts and the tokens at their sites; 0
        after projection.

    projection_accuracy_ : ndarray of shape (2,)
        Training accuracy just before and after the projection.

    self_similarity_ : ndarray of shape (n_prototypes,)
        Activation of each prototype on its own source sample: M after projection with
        connected parts.

    class_weights_ : ndarray of shape (n_prototypes, n_classes)
        Weights of the head.

    win_counts_ : ndarray of shape (n_prototypes,)
        Number of training samples for which each prototype is the most similar.

    center_, scale_ : ndarray of shape (n_channels,)
        Inner standardisation, by channel, dimension of a token or feature.

    encoder_, solver_, batch_size_, max_epochs_ : object
        What "auto" stood for.

    net_, history_, n_iter_ : PrototypeNet, DataFrame, int
        The skorch net; one row an epoch, one column a loss term; epochs trained.

    n_features_in_ : int
        Number of values of a sample.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features of a table, when all are str.

    See Also
    --------
    ProtoPNetClassifier : Prototypes of one part each.
    ProtoTreeClassifier : Prototypes as the nodes of one tree.

    Notes
    -----
    Differs from the paper: parts are "connected" and not a "chain"; the coherence
    compares all pairs of parts, as the paper says and not as its code does; masks are
    -inf; the costs are of all parts, and slots drop only those that samples of the
    class do not show; slots learn at a rate that suits the number of steps; no weight
    decay; one convex refit of the head. ``adjacency="chain", cost_parts="best",
    slot_margin=None, warm_epochs=5, schedule="step", solver="adamw", lr=5e-5,
    head_solver="adam", head_epochs=15, l1=1e-2`` is the paper, with a pretrained
    encoder.

    A box tells where a token sits, not what it depends on: it has seen the whole image
    through attention.

    The similarities of all parts and tokens never exist at once: a block of prototypes
    is matched at a time.

    References
    ----------
    .. [1] Ma, C., Donnelly, J., Liu, W., Vosoughi, S., Rudin, C. and Chen, C. (2024).
       Interpretable Image Classification with Adaptive Prototype-based Vision
       Transformers. *NeurIPS*.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skproto.networks import ProtoViTClassifier
    >>> X, y = load_digits(n_class=5, return_X_y=True)
    >>> images = X.reshape(-1, 8, 8)
    >>> model = ProtoViTClassifier(max_epochs=12, random_state=0)
    >>> model = model.fit(images[:600], y[:600])
    >>> bool(model.score(images[600:], y[600:]) > 0.85)
    True
    >>> model.prototype_sites_.shape
    (10, 3)
    >>> model.explain(images[600:601]).verify()
    """

    _module_class = PartSetNetwork
    _auto_encoders: ClassVar[dict[str, str]] = {"table": "features", "image": "vit"}
    _editing_family = TokenSetFamily
    _per_prototype = (
        *SiteMaskClassifier._per_prototype,
        "n_parts_",
        "self_similarity_",
        "slots_",
    )
    _parameter_rules = SiteMaskClassifier._parameter_rules.extended(
        n_prototypes_per_class=rules.integer(1),
        n_parts=(rules.options("auto"), rules.integer(1)),
        radius=rules.integer(1),
        adjacency=(rules.options("connected", "chain"), rules.none()),
        matching=rules.options("greedy", "exact"),
        add_on=(rules.none(), rules.anything_callable("an nn.Module or a callable")),
        subtract_class_token=rules.boolean(),
        slots=rules.boolean(),
        slot_margin=(rules.none(), rules.real(0, ends="[)")),
        slot_temperature=rules.real(0),
        slot_epochs=rules.integer(0),
        cluster_weight=rules.real(0, ends="[)"),
        separation_weight=rules.real(0, ends="[)"),
        cost_parts=rules.options("all", "best"),
        orthogonality_weight=rules.real(0, ends="[)"),
        coherence_weight=rules.real(0, ends="[)"),
        init=rules.options("uniform", "sample"),
        warm_epochs=(rules.options("auto"), rules.integer(0)),
        schedule=rules.options("one_cycle", "step", "constant"),
        patch_size=(rules.options("auto"), rules.integer(1), rules.shape(2, 2)),
        prototype_lr=rules.real(0),
    )

    def __init__(
        self,
        n_prototypes_per_class=2,
        n_parts="auto",
        *,
        radius=1,
        adjacency="connected",
        matching="greedy",
        subtract_class_token=True,
        slots=True,
        slot_margin=0.1,
        slot_temperature=100.0,
        slot_epochs=5,
        cluster_weight=0.8,
        separation_weight=0.1,
        cost_parts="all",
        orthogonality_weight=0.001,
        coherence_weight=0.003,
        l1=1e-4,
        init="uniform",
        warm_epochs="auto",
        project_prototypes=True,
        unique_sources=False,
        prune_neighbors=None,
        head_solver="lbfgs",
        head_epochs=20,
        schedule="one_cycle",
        encoder="auto",
        add_on=None,
        patch_size="auto",
        prototype_lr=0.003,
        image_shape=None,
        frozen=False,
        augment=None,
        standardize=True,
        solver="auto",
        max_epochs="auto",
        lr=0.003,
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
        self.n_prototypes_per_class = n_prototypes_per_class
        self.n_parts = n_parts
        self.radius = radius
        self.adjacency = adjacency
        self.matching = matching
        self.add_on = add_on
        self.subtract_class_token = subtract_class_token
        self.slots = slots
        self.slot_margin = slot_margin
        self.slot_temperature = slot_temperature
        self.slot_epochs = slot_epochs
        self.cluster_weight = cluster_weight
        self.separation_weight = separation_weight
        self.cost_parts = cost_parts
        self.orthogonality_weight = orthogonality_weight
        self.coherence_weight = coherence_weight
        self.l1 = l1
        self.init = init
        self.warm_epochs = warm_epochs
        self.project_prototypes = project_prototypes
        self.unique_sources = unique_sources
        self.prune_neighbors = prune_neighbors
        self.head_solver = head_solver
        self.head_epochs = head_epochs
        self.schedule = schedule
        self.patch_size = patch_size
        self.prototype_lr = prototype_lr

    # -- input -------------------------------------------------------------------------

    def _validate_training(self, X, y, sample_weight):
        X, y, weight, rows = super()._validate_training(X, y, sample_weight)
        if len(self._input_shape) == 2:
            check_sites(X, self._n_parts(self._input_shape[0]), rows)
        return X, y, weight, rows

    def _check_input(self, X):
        X = super()._check_input(X)
        if len(self._input_shape) == 2:
            check_sites(X, self.prototypes_.shape[1])
        return X

    def _auto_epochs(self, n_samples: int) -> int:
        if len(self._input_shape) == 1:
            return super()._auto_epochs(n_samples)
        return IMAGE_EPOCHS

    def _n_parts(self, n_sites: int) -> int:
        return min(AUTO_PARTS, n_sites) if self.n_parts == "auto" else self.n_parts

    # -- building ----------------------------------------------------------------------

    def _encoder_settings(self) -> dict[str, Any]:
        is_image = len(self._input_shape) == 3
        settings: dict[str, Any] = {
            "subtract_class_token": is_image and self.subtract_class_token
        }
        if isinstance(self.encoder_, str) and self.encoder_ == "vit":
            settings["body_settings"] = {"patch_size": self.patch_size}
        return settings

    def _add_on(self):
        add_on = self.add_on
        if isinstance(add_on, nn.Module):
            return lambda dim: copy.deepcopy(add_on)
        return add_on

    def _make_module(self, data: TrainingData) -> PartSetNetwork:
        encoder = self._make_encoder(data)
        module = PartSetNetwork(
            self.n_prototypes_per_class * data.n_classes,
            self._n_parts(encoder.n_sites),
            encoder.dim,
            data.n_classes,
            radius=self.radius,
            adjacency=None if len(self._input_shape) == 1 else self.adjacency,
            matching=self.matching,
            slot_temperature=float(self.slot_temperature),
            encoder=encoder,
        )
        generator = torch.Generator().manual_seed(data.rng.randint(2**31 - 1))
        if self.init == "uniform":
            module.randomize_(generator)
        else:
            rows = self._starting_rows(data)
            module.start_at_samples_(torch.from_numpy(data.dense(rows)), generator)
        if not self.slots:
            module.round_slots_()
        return module

    def _starting_rows(self, data: TrainingData) -> np.ndarray:
        """Random samples (P,), those of a class for its prototypes."""
        chosen = []
        for code in range(data.n_classes):
            members = np.flatnonzero(np.asarray(data.y) == code)
            share = data.weight[members] / data.weight[members].sum()
            size = self.n_prototypes_per_class
            few = len(members) < size
            chosen.append(data.rng.choice(members, size, replace=few, p=share))
        return np.concatenate(chosen)

    # -- training ----------------------------------------------------------------------

    def _loss_terms(self):
        pooling = "mean" if self.cost_parts == "all" else "max"
        terms: list[Any] = [
            PartSetCluster(pooling, weight=self.cluster_weight),
            PartSetSeparation(pooling, weight=self.separation_weight),
            OffClassL1(weight=self.l1),
            PartSetOrthogonality(weight=self.orthogonality_weight),
            PartSetCoherence(weight=self.coherence_weight),
        ]
        return [CrossEntropy(), *(term for term in terms if term.weight)]

    def _phases(self) -> list[Phase]:
        n_warm = self._warm_epochs()
        n_joint = self.max_epochs_ - n_warm
        prototype_lr = float(self.prototype_lr)
        joint = Phase(
            "joint",
            n_joint,
            float(self.lr),
            self.solver_,
            ("encoder", "prototypes"),
            {"prototypes": prototype_lr},
            self._schedule(n_joint),
        )
        own = ("prototypes",)
        warm_up = Phase("warm-up", n_warm, prototype_lr, self.solver_, own)
        phases = [warm_up, joint]
        if self.slots:
            phases.append(self._slot_phase())
        if self.head_solver == "adam":
            phases.append(self._last_layer())
        return phase_list(phases)

    def _warm_epochs(self) -> int:
        if self.warm_epochs != "auto":
            return min(self.warm_epochs, self.max_epochs_)
        # A net that starts from random weights has nothing to protect.
        given = not isinstance(self.encoder_, str) and not self.frozen
        return min(WARM_EPOCHS, self.max_epochs_ // 2) if given else 0

    def _schedule(self, n_epochs: int) -> tuple[Any, ...]:
        if self.schedule == "one_cycle":
            return (OneCycle(n_epochs),)
        if self.schedule == "step":
            # From the start of the phase on, whatever was trained before.
            settings = {"step_size": 5, "gamma": 0.1, "last_epoch": -1}
            return (LRScheduler("StepLR", event_name=None, **settings),)
        return ()

    def _slot_phase(self) -> Phase:
        n_steps = self.slot_epochs * -(-self._n_distinct // self.batch_size_)
        coherence = min(SLOT_COHERENCE, float(self.coherence_weight))
        return Phase(
            "slots",
            self.slot_epochs,
            slot_learning_rate(n_steps),
            "adam",
            ("slot_logits",),
            term_weights={"coherence": coherence},
        )

    def _last_layer(self) -> Phase:
        return Phase(
            "last layer",
            self.head_epochs,
            float(self.lr) / 20,
            self.solver_,
            ("head",),
            callbacks=(AtStart(self._settle),),
        )

    def _settle(self, module, data) -> None:
        """Round the slots and project, before the head is trained alone."""
        self._decide_slots(module, data)
        if self.project_prototypes:
            self._project_onto(module, data)

    # -- after training ----------------------------------------------------------------

    def _head_name(self, module) -> str:
        return "class_linear"

    def _decide_slots(self, module, data: TrainingData) -> torch.Tensor:
        """Round the slots; return the prototypes (P,) that have a part left."""
        if self.slot_margin is not None:
            keep_found_parts(module, data, float(self.slot_margin))
        return round_slots(module)

    def _finish(self, module, data: TrainingData) -> None:
        alive = self._decide_slots(module, data)
        if not alive.all():
            module = module.keep(alive)
            self.net_ = self._make_prediction_net(module)
        super()._finish(module, data)

    def _project_onto(self, module, data) -> None:
        sources = project_part_sets(
            module,
            class_blocks(module, data),
            unique=self.unique_sources,
            encoded=True,
        )
        self._sources = sources.rows.cpu().numpy(), sources.sites.cpu().numpy()

    def _collect(self, module, data: TrainingData, X) -> None:
        super()._collect(module, data, X)
        self.slots_ = module.kept.cpu().numpy()
        self.n_parts_ = self.slots_.sum(axis=1)

    def _distances_to(self, module, data, index, sites) -> np.ndarray:
        self.self_similarity_ = self._at_sources(
            module, data, index, "activations"
        ).astype(np.float64)
        found = tokens_at(module, data, index, sites)
        with torch.inference_mode():
            apart = 0.5 * (unit(found) - unit(module.prototypes)).square().sum(2)
            apart = apart.masked_fill(~module.kept, 0.0).sum(1)
            apart = module.n_parts * apart / module.kept.sum(1).clamp_min(1)
        return np.asarray(apart.cpu().numpy(), dtype=np.float64)

    # -- explaining --------------------------------------------------------------------

    def _max_similarity(self) -> np.ndarray | None:
        n_parts = self.prototypes_.shape[1]
        moved = self.projection_distance_ == 0
        if (self.self_similarity_[moved] < n_parts - REACHED).any():
            return None
        return np.full(len(self.prototypes_), float(n_parts))

    @property
    def _table_kind(self) -> str:
        return "features" if self.encoder_ == "features" else "tokens"

    def _prototype_table(self):
        table = super()._prototype_table()
        if table.places is None:
            places = PrototypePlaces(
                kind=self._table_kind,
                sites=self.prototype_sites_,
                slots=self.slots_,
                max_similarity=self._max_similarity(),
            )
        else:
            places = replace(table.places, slots=self.slots_)
        return replace(table, places=places)

    def _sample_places(self, outputs, X, evidence):
        if len(self._input_shape) > 1:
            return super()._sample_places(outputs, X, evidence)
        return SamplePlaces(
            kind=self._table_kind,
            sites=outputs["sites"],
            part_similarities=outputs["part_similarities"].astype(float),
        )


def tokens_at(module: PartSetNetwork, data, index, sites) -> torch.Tensor:
    """Return the tokens (P, M, D) at sites (P, M) of samples (P,); 0 for a part off."""
    device = module.prototypes.device
    places = torch.from_numpy(np.ascontiguousarray(sites)).to(device)
    found = torch.zeros_like(module.prototypes)
    start = 0
    for rows, x in projection.sample_blocks(data, device, np.asarray(index)):
        stop = start + len(rows)
        with torch.no_grad():
            z, _ = module.encode(x)
            place = places[start:stop, :, None]
            token = z.gather(1, place.clamp_min(0).expand(-1, -1, z.shape[2]))
            found[start:stop] = token.masked_fill(place < 0, 0.0)
        start = stop
    return found
