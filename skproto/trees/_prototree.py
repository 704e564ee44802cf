"""The soft decision tree whose nodes are prototypes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from skorch.callbacks import LRScheduler
from torch import nn

from skproto.nn import NegativeLogLikelihood
from skproto.nn import tree as nn_tree
from skproto.training import Annealing, BatchDataset, Phase, TrainingData
from skproto.trees._growth import check_memory, resolve_depth, warn_if_idle
from skproto.trees._leaves import (
    BatchLeafUpdate,
    EpochLeafUpdate,
    LeafSplit,
    Projection,
    TrainingRows,
    refit_leaves,
    split_leaves,
)
from skproto.trees._operations import TreeClassifier
from skproto.utils import _parameters as rules

# Steps of the optimiser that max_epochs="auto" aims at.
AUTO_STEPS = 1250

# Highest learning rate of the layer of `prototype_dim`, unless that of the encoder is
# higher. The layer is new even where the encoder has learned before.
ADD_ON_LR = 0.005


class ProtoTreeClassifier(TreeClassifier):
    r"""Soft decision tree whose nodes ask whether a sample is like a training case.

    At node :math:`n` a sample goes right ("present") with probability
    :math:`p_n = 2^{-(d_n / r_n)^\beta}`, one half where its distance
    :math:`d_n^2 = \sum_f w_{nf} (x_f - p_{nf})^2` from the prototype equals the radius
    :math:`r_n`. The class scores are the class distributions of the leaves, weighted
    by the probabilities :math:`\pi_\ell` of reaching them:
    :math:`s_k(x) = \sum_\ell \pi_\ell(x)\, c_{\ell k}`. They sum to 1 and are the
    probabilities. After training every prototype is a training row, so that the hard
    tree reads "is it within :math:`r_n` of row :math:`i`?".

    Read more in the :ref:`User Guide <prototree>`.

    Parameters
    ----------
    depth : "auto" or int, default="auto"
        Levels of nodes before pruning; a tree has 2**depth - 1 prototypes. "auto" is
        ``max(4, ceil(log2(n_classes)) + 3)``, less for very few samples. A depth that
        needs more prototypes than there are samples is warned of.

    similarity : {"radius", "exp"}, default="radius"
        "exp" is the paper's :math:`p_n = e^{-d_n}`, one half at the fixed distance
        log 2. With it samples of many features may all route left, which is warned of.

    sharpness : float, default=4.0
        Exponent :math:`\beta` of the radius kernel. Larger values bring the soft sum
        closer to the hard tree and are harder to train.

    feature_weights : "auto" or bool, default="auto"
        Whether every node learns weights :math:`w_n` of the features, which sum to 1.
        Without them all are ``1 / n_features`` (1 for the "exp" kernel). "auto" means
        yes unless there is an encoder.

    leaf_update : {"em", "softmax"}, default="em"
        "em" makes a leaf the normalised expected class counts; "softmax", the paper's
        rule, takes the softmax of the counts, which gives nearly hard leaves.

    leaf_passes : int, default=None
        None renews the leaves a little after every step, as the paper does; a number
        renews them by so many passes of EM at the end of every epoch.

    routing : {"distributed", "greedy", "sample_max"}, default="distributed"
        How predictions add up the leaves: all of them; the one at the end of the path
        that goes right where :math:`p_n > 1/2`; or the most probable one. Can be
        changed after fitting, and by the `routing` argument of :meth:`predict`.

    prune_threshold : float, default=None
        Subtrees whose leaves have no class probability above it are dropped after
        training; 0 keeps all. None is ``1/K + 0.1 (1 - 1/K)`` for K classes, and keeps
        the whole tree where no leaf passes it.

    project_prototypes : bool, default=True
        Put every prototype on the nearest training row among the classes that the
        leaves below it favour (the paper's `project`, which is a method here).

    unique_sources : bool, default=False
        Whether no two prototypes may come to lie on the same training row.

    adjust_epochs : "auto" or int, default="auto"
        The last epochs, in which the prototypes already are training rows and only
        radii, feature weights and leaves move. "auto" is a quarter of all epochs, 0 is
        the paper. Not used without projection or with nothing to adjust.

    split_leaves : bool, default=True
        Whether a class that shares its leaf with a larger one gets a part of the tree
        that no sample reaches, before the adjustment. Gradients never find such parts.
        False is the paper. Not used with ``similarity="exp"``.

    refit_passes : int, default=10
        Passes of EM over the training samples that fit the leaves to the pruned and
        projected tree; 0 is the paper. The method has the name `refit_leaves`.

    init : {"sample", "normal"}, default="sample"
        "sample" starts the prototypes at random training rows; "normal" is the
        paper's N(0.5, 0.1). Radii start at the median distance.

    encoder : {"auto", "identity", "mlp", "conv", "vit"}, nn.Module or callable
        Maps scaled samples to the space of the prototypes. "auto", the default, is
        "identity" for tables and "conv", a small convolutional net, for images. A
        module is copied, a callable gets the number of features, or the shape of an
        image, and returns a module.

    image_shape, frozen, augment : tuple, bool, callable, default=None, False, None
        (C, H, W) or (H, W) of images that come flattened; whether the encoder stays as
        it is and encodes each sample once; what changes training batches of images,
        "auto" for :class:`skproto.nn.Augmentation`.

    pretrain_epochs : "auto" or int, default="auto"
        Passes over the data, before all others, in which the encoder of images learns
        under a linear classifier, which is then taken off. "auto" is a quarter of
        `max_epochs` where "conv" or "vit" start from random weights, else 0.

    prototype_dim : "auto", int or None, default="auto"
        Dimension to which a linear layer with a sigmoid brings the sites of images (the
        paper's 1x1 convolution); "auto" is 32 for images, and None, no such layer, for
        tables. It learns at `lr`, or 0.005 or `encoder_lr` if `lr` is above both.

    encoder_lr, warmup_epochs : float, int, default=0.005, 0
        Learning rate of the encoder, and first epochs in which its body stands still.

    schedule : {"auto", "constant", "cosine", "step"}, default="auto"
        Learning rate in the course of the joint epochs; "step", the paper's, halves it
        after 60, 70, 80 and 90 % of the epochs up to the adjustment, warm-up included.
        "auto" is "cosine" for images, else "constant".

    standardize : bool, default=True
        Subtract the mean and divide by the standard deviation of every feature.

    solver : {"auto", "adam", "adamw"}, default="auto"
        Optimiser on mini-batches; "auto" is "adam".

    max_epochs, lr : "auto" or int, float, default="auto", 0.02
        Passes over the data, and learning rate. "auto" aims at 1250 steps in 20 to 120
        epochs.

    batch_size : "auto" or int, default="auto"
        "auto" is about 1/24 of the samples, at least 16 and at most 256.

    class_weight : "balanced" or dict, default=None
        Weights of the classes.

    early_stopping, validation_fraction, n_iter_no_change : bool, float, int
        Stop when the loss on a held-out part (0.1) has not fallen for so many epochs
        (10); off by default.

    warm_start : bool, default=False
        Go on from the tree of the last call of :meth:`fit`.

    random_state : int, RandomState instance or None, default=None
        Seed of the start and of the order of the samples.

    device, verbose : str or torch.device, int, default="cpu", 0
        Where to train and predict; 1 shows a progress line.

    net_params : dict, default=None
        Parameters of the skorch net, such as ``{"callbacks": [...]}``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    tree_ : TreeTable
        The tree as arrays, `children_left` and `children_right` as in `sklearn.tree`.

    prototypes_ : ndarray of shape (n_prototypes, n_features)
        Prototypes in breadth-first order of their nodes, in the units of `X`; with an
        encoder in its space.

    prototype_ids_ : ndarray of shape (n_prototypes,)
        Stable numbers: the breadth-first position in the unpruned tree. Those of
        prototypes that are added by edits go on from there.

    prototype_labels_ : ndarray of shape (n_prototypes,)
        Majority class of the samples that find the prototype present, or the class
        that a user has given it.

    prototype_indices_, prototype_samples_, prototype_sample_labels_ : ndarray
        Numbers (n_prototypes,), values (n_prototypes, n_features) and labels
        (n_prototypes,) of the training rows behind the prototypes: the row it is, or
        where it was learned the nearest.

    prototype_sites_ : ndarray of shape (n_prototypes,)
        Part of that sample: a cell of an image, counted row by row; 0 for tables.

    prototype_boxes_, prototype_patches_, prototype_hashes_ : ndarray, list, ndarray
        Of images the pixels of that cell (top, left, bottom, right, the last two
        exclusive), what they hold, and a SHA-256 of the whole image.

    projection_distance_ : ndarray of shape (n_prototypes,)
        Distance between prototype and row, 0 after projection.

    radii_, feature_weights_ : ndarray
        Radii (n_prototypes,) in units of the distance between scaled rows, and weights
        (n_prototypes, n_features) in the squared distance.

    leaf_distributions_ : ndarray of shape (n_leaves, n_classes)
        Class distributions of the leaves.

    training_mass_ : ndarray of shape (n_nodes,)
        Share of the training data that each node explains.

    win_counts_ : ndarray of shape (n_prototypes,)
        Expected number of training samples that find the prototype present.

    fidelity_ : float
        Share of the training samples that greedy path and soft sum agree on.

    depth_, encoder_, batch_size_, max_epochs_, solver_, pretrain_epochs_ : object
        What "auto" stood for.

    center_, scale_ : ndarray of shape (n_features,)
        Inner standardisation, by channel for images.

    net_, history_, n_iter_ : PrototypeNet, DataFrame, int
        The skorch net; one row an epoch, one column a loss term; epochs trained.

    n_features_in_, feature_names_in_ : int, ndarray of shape (n_features,)
        Number of features, and their names when all names in `X` are str.

    See Also
    --------
    ProtoTreeEnsembleClassifier : Several trees, more accurate.
    sklearn.tree.DecisionTreeClassifier : Nodes compare one feature with a threshold.

    Notes
    -----
    Steps and predictions cost :math:`O(2^h D)` a sample for depth h and D features.
    After training the tree is pruned, then projected, then its leaves are fitted anew.

    References
    ----------
    .. [1] Nauta, M., van Bree, R. and Seifert, C. (2021). Neural Prototype Trees for
       Interpretable Fine-grained Image Recognition. *CVPR*.
    .. [2] Kontschieder, P., Fiterau, M., Criminisi, A. and Rota Bulo, S. (2015). Deep
       Neural Decision Forests. *ICCV* (the update of the leaves).

    Differs from the paper in the radius kernel, the feature weights, leaves by EM, the
    start, the adjustment, the split of shared leaves and the new leaves after
    projection; each can be switched off: ``similarity="exp", feature_weights=False,
    leaf_update="softmax", init="normal", adjust_epochs=0, split_leaves=False,
    refit_passes=0``. On images, with a pretrained encoder given as a module, these and
    ``prototype_dim=256, pretrain_epochs=0, warmup_epochs=30, schedule="step",
    max_epochs=100, lr=1e-3, encoder_lr=1e-5, batch_size=64, prune_threshold=0.01`` are
    the paper's schedule for 200 classes.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skproto.trees import ProtoTreeClassifier
    >>> X, y = load_wine(return_X_y=True)
    >>> tree = ProtoTreeClassifier(depth=2, max_epochs=20, random_state=0).fit(X, y)
    >>> tree.prototypes_.shape, bool(tree.score(X, y) > 0.9)
    ((3, 13), True)
    >>> case = tree.explain(X[:1])
    >>> case.verify()
    >>> case.prediction
    array([0])
    """

    _module_class = nn_tree.SoftPrototypeTree
    _parameter_rules = TreeClassifier._parameter_rules.extended(
        depth=(rules.options("auto"), rules.integer(1)),
        similarity=rules.options("radius", "exp"),
        sharpness=rules.real(0),
        feature_weights=(rules.options("auto"), rules.boolean()),
        leaf_update=rules.options("em", "softmax"),
        leaf_passes=(rules.none(), rules.integer(1)),
        routing=rules.options(*nn_tree.ROUTINGS),
        prune_threshold=(rules.none(), rules.real(0, 1, "[]")),
        project_prototypes=rules.boolean(),
        unique_sources=rules.boolean(),
        adjust_epochs=(rules.options("auto"), rules.integer(0)),
        split_leaves=rules.boolean(),
        refit_passes=rules.integer(0),
        init=rules.options("sample", "normal"),
        prototype_dim=(rules.options("auto"), rules.none(), rules.integer(1)),
        schedule=rules.options("auto", "constant", "cosine", "step"),
        encoder_lr=rules.real(0),
        warmup_epochs=rules.integer(0),
        solver=rules.options("auto", "adam", "adamw"),
        batch_size=(rules.options("auto"), rules.integer(1)),
    )

    def __init__(
        self,
        depth="auto",
        *,
        similarity="radius",
        sharpness=4.0,
        feature_weights="auto",
        leaf_update="em",
        leaf_passes=None,
        routing="distributed",
        prune_threshold=None,
        project_prototypes=True,
        unique_sources=False,
        adjust_epochs="auto",
        split_leaves=True,
        refit_passes=10,
        init="sample",
        encoder="auto",
        image_shape=None,
        frozen=False,
        augment=None,
        pretrain_epochs="auto",
        prototype_dim="auto",
        encoder_lr=0.005,
        warmup_epochs=0,
        schedule="auto",
        standardize=True,
        solver="auto",
        max_epochs="auto",
        lr=0.02,
        batch_size="auto",
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
        self.depth = depth
        self.similarity = similarity
        self.sharpness = sharpness
        self.feature_weights = feature_weights
        self.leaf_update = leaf_update
        self.leaf_passes = leaf_passes
        self.routing = routing
        self.prune_threshold = prune_threshold
        self.project_prototypes = project_prototypes
        self.unique_sources = unique_sources
        self.adjust_epochs = adjust_epochs
        self.split_leaves = split_leaves
        self.refit_passes = refit_passes
        self.init = init
        self.prototype_dim = prototype_dim
        self.schedule = schedule
        self.encoder_lr = encoder_lr
        self.warmup_epochs = warmup_epochs

    # -- training ----------------------------------------------------------------------

    def _auto_solver(self, X) -> str:
        return "adam"

    def _auto_batch_size(self, n_samples: int) -> int:
        return int(np.clip(2 ** round(math.log2(n_samples / 24)), 16, 256))

    def _auto_epochs(self, n_samples: int) -> int:
        n_batches = -(-n_samples // self.batch_size_)
        return int(np.clip(AUTO_STEPS // n_batches, 20, 120))

    def _make_module(self, data: TrainingData):
        encoder = self._make_encoder(data)
        self.depth_ = resolve_depth(self.depth, len(data), data.n_classes)
        check_memory(self.depth_, encoder.dim, data.n_classes, self.batch_size_)
        tree = nn_tree.SoftPrototypeTree(
            encoder.dim,
            data.n_classes,
            depth=self.depth_,
            encoder=encoder,
            similarity=self.similarity,
            sharpness=self.sharpness,
            feature_weights=self._weighs_features,
            leaf_update=self.leaf_update,
        )
        generator = torch.Generator().manual_seed(data.rng.randint(2**31 - 1))
        rows, weight = TrainingRows(data), torch.from_numpy(data.weight)
        nn_tree.init_from_samples(tree, rows, generator=generator, sample_weight=weight)
        if self.init == "normal":
            nn_tree.init_normal(tree, generator=generator)
            some = torch.arange(min(len(data), 4096))
            nn_tree.init_radii(tree, rows[some], weight[some])
        return tree

    def _add_on(self):
        dim = self.prototype_dim
        if dim == "auto":
            dim = 32 if len(self._input_shape) == 3 else None
        return None if dim is None else lambda n_inputs: sigmoid_layer(n_inputs, dim)

    def _loss_terms(self):
        return [NegativeLogLikelihood()]

    def _phases(self):
        own = ("prototypes", "log_radius", "feature_logits")
        n_warm, n_joint, n_adjust = self._epochs()
        phases = [
            self._phase("warm-up", n_warm, (*own, "encoder.add_on")),
            self._phase("joint", n_joint, None, *self._schedule(n_warm, n_joint)),
        ]
        if n_adjust:
            starts: tuple[Any, ...] = (Projection(self.unique_sources),)
            if self.split_leaves:
                starts = (*starts, LeafSplit())
            phases.append(self._phase("adjust", n_adjust, own[1:], *starts))
        return [phase for phase in phases if phase.max_epochs]

    def _phase(self, name, n_epochs, trainable=None, *callbacks) -> Phase:
        lr, rates = float(self.lr), {}
        if self._encodes:
            slow = float(self.encoder_lr)
            fast = max(slow, min(lr, ADD_ON_LR))
            rates = {"encoder": slow, "encoder.add_on": fast}
        passes = self.leaf_passes
        leaves = BatchLeafUpdate() if passes is None else EpochLeafUpdate(passes)
        return Phase(
            name,
            n_epochs,
            lr,
            self.solver_,
            trainable,
            rates,
            (*callbacks, leaves),
        )

    def _schedule(self, n_warm: int, n_epochs: int) -> tuple[Any, ...]:
        """Callbacks that change the rates of `n_epochs` after `n_warm` others."""
        kind = self.schedule
        if kind == "auto":
            kind = "cosine" if len(self._input_shape) == 3 else "constant"
        if kind == "cosine":
            return (Annealing(n_epochs),)
        if kind == "step":
            total = n_warm + n_epochs
            shares = (0.6, 0.7, 0.8, 0.9)
            steps = [max(0, round(share * total) - n_warm) for share in shares]
            settings = {"milestones": steps, "gamma": 0.5, "last_epoch": -1}
            return (LRScheduler("MultiStepLR", event_name=None, **settings),)
        return ()

    def _epochs(self) -> tuple[int, int, int]:
        """Epochs of the three phases; together they are max_epochs_."""
        n_adjust = self.adjust_epochs
        if n_adjust == "auto":
            n_adjust = self.max_epochs_ // 4
        adapts = self.similarity == "radius" or self._weighs_features
        if not self.project_prototypes or not adapts:
            n_adjust = 0
        n_adjust = min(n_adjust, self.max_epochs_)
        n_warm = min(self.warmup_epochs, self.max_epochs_ - n_adjust)
        return n_warm, self.max_epochs_ - n_adjust - n_warm, n_adjust

    def _finish(self, module, data: TrainingData) -> None:
        if self.split_leaves and not self._epochs()[2]:
            split_leaves(module, data)
        warn_if_idle(module, data)
        if not self.warm_start or not hasattr(self, "prototype_ids_"):
            self._ids = np.arange(module.structure.n_inner)
        else:
            self._ids = self.prototype_ids_
        tree, edit = nn_tree.prune_tree(module, self.prune_threshold)
        if edit.kept_best and self.prune_threshold is None:
            tree = module
        else:
            self._ids = self._ids[edit.prototypes]
        if self.project_prototypes:
            self._move_to_rows(tree, data)
        if self.refit_passes:
            refit_leaves(tree, BatchDataset(data), self.refit_passes)
        net: Any = self.net_
        net.module_ = tree.eval()


def sigmoid_layer(n_inputs: int, dim: int) -> nn.Sequential:
    """One linear layer without bias on every site and a sigmoid, as in the paper."""
    layer = nn.Linear(n_inputs, dim, bias=False)
    nn.init.xavier_normal_(layer.weight, nn.init.calculate_gain("sigmoid"))
    return nn.Sequential(layer, nn.Sigmoid())
