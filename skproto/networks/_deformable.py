"""Deformable ProtoPNet: prototypes of parts that move to where they fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from skproto.networks._base import phase_list
from skproto.networks._editing_parts import DeformableFamily
from skproto.networks._protopnet import ProtoPNetClassifier
from skproto.nn.deformable import DeformablePartNetwork
from skproto.nn.deformable_losses import (
    MarginCrossEntropy,
    OffsetPenalty,
    PartOrthogonality,
)
from skproto.nn.encoders import SiteEncoder
from skproto.nn.part_losses import ClusterCost, OffClassL1, SeparationCost
from skproto.training import Phase, TrainingData
from skproto.utils import _parameters as rules

# The largest activation: ten times the cosine, as in ProtoPNetClassifier.
SCALE = 10.0


class DeformableProtoPNetClassifier(ProtoPNetClassifier):
    r"""Network of prototypes of k x k parts, each of which moves to where it fits.

    A prototype looks at k x k cells around every centre of the map. Each part is moved
    by an offset that a convolution of the map predicts, :math:`s_p(t) = \frac{1}{M}
    \sum_m p_m^\top \hat z(t + b_m + \Delta_{tm})` with unit vectors throughout. The
    activation is ten times the best centre's, :math:`a_p(x) = 10 \max_t \max(s_p(t),
    0)`, and a linear head adds up, :math:`s_k(x) = \sum_p a_p(x) W_{pk}`. In training
    the angles of other classes' prototypes are reduced by `angular_margin`.

    Read more in the :ref:`User Guide <protopnet>`.

    Parameters
    ----------
    n_prototypes_per_class : int, default=3
        Prototypes that each class owns; the paper has 6 on birds.

    part_grid : "auto" or int, default="auto"
        Parts k in a row; a prototype has k² of them. "auto" is the paper's 3, fewer
        where the map is too small, and 1 for tables.

    dilation : float, default=1
        Distance of neighbouring parts, in cells of the map.

    prototype_dim : int or None, default=32
        Dimension of the prototypes: two layers bring the sites to it. None leaves the
        sites as the encoder returns them.

    top_k : int, default=1
        In training the mean of the `top_k` best centres counts.

    angular_margin : float, default=0.1
        Head start of the prototypes of other classes in training, in radians. Larger
        values part the classes further.

    incorrect_weight : float, default=-0.5
        Start of the weights from a prototype to the classes that do not own it.

    cluster_weight, separation_weight : float, default=0.8, 0.08
        Weights of the two costs: every image looks like a prototype of its class, and
        unlike all of other classes.

    orthogonality_weight : float, default=0.1
        Weight of the penalty on parts of a class that are not orthogonal.

    offset_weight : float, default=0.8
        Weight of the squared length of the offsets. Larger values keep the parts on
        their grid.

    l1 : float, default=1e-2
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

    still_epochs : "auto" or int, default="auto"
        First epochs, the warm-up among them, in which no part moves off its grid.
        "auto" is the paper's 10 of 31, as a share of `max_epochs`.

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
        table has one site. A module is copied; it returns vectors or maps. A
        callable gets the shape of an image, or the number of features, and returns a
        module.

    encoder_lr : float, default=None
        Learning rate of the body of the encoder and of the offsets; `lr` where None.
        The paper takes 1e-4 beside 3e-3.

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

    prototypes_ : ndarray of shape (n_prototypes, n_parts, prototype_dim)
        Parts of the prototypes, of length 1, row by row of their grid.

    prototype_ids_ : ndarray of shape (n_prototypes,)
        Stable numbers of the prototypes.

    prototype_labels_ : ndarray of shape (n_prototypes,)
        Class that owns each prototype.

    prototype_indices_ : ndarray of shape (n_prototypes,)
        Number of the training image behind each prototype, the nearest of its class
        where it was not projected.

    prototype_sites_ : ndarray of shape (n_prototypes, n_parts)
        Cells of that image nearest to the parts, counted row by row. Of a table: the
        one site, (n_prototypes,).

    prototype_boxes_ : ndarray of shape (n_prototypes, n_parts, 4)
        Pixels where the parts are, each as large as a cell: top, left, bottom, right,
        the last two exclusive. Images only, as the three below.

    prototype_patches_ : list of list of ndarray
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

    encoder_, part_grid_, solver_, batch_size_, max_epochs_, pretrain_epochs_ : object
        What "auto" stood for.

    net_, history_, n_iter_ : PrototypeNet, DataFrame, int
        The skorch net; one row an epoch, one column a loss term; epochs trained.

    n_features_in_ : int
        Number of values of a sample.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features of a table, when all are str.

    See Also
    --------
    ProtoPNetClassifier : Prototypes of one part, on tables and tokens too.

    Notes
    -----
    Differs from the paper: vectors between cells are brought back to length 1 by a
    division, so that the map may have entries of any sign; parts beyond the border are
    brought back to it; the start at samples, one projection at the end and the convex
    refit of the head. The penalty on the offsets has a gradient, and that on parts
    follows the owners of the prototypes; in the code published with the paper the one
    never trains and the other mixes classes.

    References
    ----------
    .. [1] Donnelly, J., Barnett, A. J. and Chen, C. (2022). Deformable ProtoPNet: An
       Interpretable Image Classifier Using Deformable Prototypes. *CVPR*.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skproto.networks import DeformableProtoPNetClassifier
    >>> X, y = load_digits(n_class=4, return_X_y=True)
    >>> images = X.reshape(-1, 8, 8)
    >>> model = DeformableProtoPNetClassifier(2, max_epochs=8, random_state=0)
    >>> model = model.fit(images[:400], y[:400])
    >>> bool(model.score(images[400:], y[400:]) > 0.9)
    True
    >>> model.prototype_boxes_.shape
    (8, 9, 4)
    >>> model.explain(images[400:402]).verify()
    """

    _module_class: ClassVar[type[nn.Module]] = DeformablePartNetwork
    _moving: ClassVar[tuple[str, ...]] = ("encoder", "prototypes", "offset_net")
    _slow: ClassVar[tuple[str, ...]] = ("encoder.body", "offset_net")
    _editing_family = DeformableFamily
    _parameter_rules = ProtoPNetClassifier._parameter_rules.extended(
        part_grid=(rules.options("auto"), rules.integer(1)),
        dilation=rules.real(0),
        angular_margin=rules.real(0, np.pi / 2, ends="[]"),
        offset_weight=rules.real(0, ends="[)"),
        still_epochs=(rules.options("auto"), rules.integer(0)),
    )

    def __init__(
        self,
        n_prototypes_per_class=3,
        *,
        part_grid="auto",
        dilation=1,
        prototype_dim=32,
        top_k=1,
        angular_margin=0.1,
        incorrect_weight=-0.5,
        cluster_weight=0.8,
        separation_weight=0.08,
        orthogonality_weight=0.1,
        offset_weight=0.8,
        l1=1e-2,
        head_l2=1e-3,
        init="sample",
        warm_epochs="auto",
        still_epochs="auto",
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
            top_k=top_k,
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
        self.part_grid = part_grid
        self.dilation = dilation
        self.angular_margin = angular_margin
        self.offset_weight = offset_weight
        self.still_epochs = still_epochs

    # -- building ----------------------------------------------------------------------

    def _make_encoder(self, data: TrainingData | None = None) -> SiteEncoder:
        encoder = super()._make_encoder(data)
        if encoder.grid is None and encoder.n_sites == 1:
            encoder.grid = (1, 1)
        return encoder

    def _make_module(self, data: TrainingData) -> nn.Module:
        encoder = self._make_encoder(data)
        self.part_grid_ = self.part_grid
        if self.part_grid == "auto":
            side = min(encoder.grid or (1, 1))
            fitting = [k for k in (3, 2) if (k - 1) * self.dilation + 1 <= side]
            self.part_grid_ = max(fitting, default=1)
        labels = np.repeat(np.arange(data.n_classes), self.n_prototypes_per_class)
        module = DeformablePartNetwork(
            labels.tolist(),
            encoder.dim,
            data.n_classes,
            encoder=encoder,
            part_grid=self.part_grid_,
            dilation=self.dilation,
            top_k=self.top_k,
            scale=SCALE,
            incorrect_weight=float(self.incorrect_weight),
        )
        if self.top_k > encoder.n_sites:
            raise ValueError(
                "The 'top_k' parameter of DeformableProtoPNetClassifier must be at "
                f"most the number of centres, {encoder.n_sites}. Got {self.top_k!r}."
            )
        module.set_prototypes(self._starting_points(module, data))
        return module

    def _head_name(self, module) -> str:
        return "class_linear"

    # -- training ----------------------------------------------------------------------

    def _loss_terms(self) -> list[Any]:
        terms: list[Any] = [MarginCrossEntropy(margin=float(self.angular_margin))]
        for term, weight in (
            (ClusterCost, self.cluster_weight),
            (SeparationCost, self.separation_weight),
            (PartOrthogonality, self.orthogonality_weight),
            (OffsetPenalty, self.offset_weight),
            (OffClassL1, self.l1),
        ):
            if weight:
                terms.append(term(weight=float(weight)))
        return terms

    def _phases(self) -> list[Phase]:
        n_warm = self._warm_epochs()
        n_joint = self.max_epochs_ - n_warm
        n_still = self.still_epochs
        if n_still == "auto":
            n_still = self.max_epochs_ * 10 // 31
        n_still = min(max(n_still - n_warm, 0), n_joint)
        still = replace(
            self._joint(0, n_still, n_joint),
            name="parts on their grid",
            trainable=("encoder", "prototypes"),
        )
        phases = [self._warm_up(n_warm), still, *self._stretches(n_still, n_joint)]
        return phase_list(phases)

    # -- places ------------------------------------------------------------------------

    def _max_similarity(self) -> np.ndarray:
        return np.full(len(self.prototypes_), SCALE)

    def _places_of(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return nearest cells (...) and boxes (..., 4) of positions (..., 2)."""
        grid = np.array(self._site_grid)
        positions = positions.astype(float).round(3)
        cells = np.minimum(positions.round().astype(np.int64), grid - 1)
        scale = np.array(self._input_shape[1:]) / grid
        start = np.floor(positions * scale)
        end = np.minimum(np.ceil((positions + 1) * scale), self._input_shape[1:])
        boxes = np.concatenate([start, end], axis=-1).astype(np.int64)
        return cells[..., 0] * grid[1] + cells[..., 1], boxes

    def _source_places(self, module, data: TrainingData, index, sites):
        if len(self._input_shape) != 3:
            return sites, None
        return self._places_of(self._at_sources(module, data, index, "part_positions"))

    def _parts_at_sources(self, x: torch.Tensor) -> torch.Tensor:
        parts = self._module.candidates(x)
        own = torch.arange(len(x), device=x.device)
        with torch.no_grad():
            best = self._module.compare_parts(parts)["sites"][own, own]
        return parts[own, best]

    def _part_places(self, outputs) -> dict[str, np.ndarray]:
        if len(self._input_shape) != 3:
            return {}
        sites, boxes = self._places_of(outputs["part_positions"])
        # Where the mean of the parts is negative they all count as nothing.
        counts = outputs["activations"][..., None] > 0
        share = SCALE / outputs["part_similarities"].shape[2]
        alike = np.where(counts, share * outputs["part_similarities"], 0.0)
        return {"sites": sites, "boxes": boxes, "part_similarities": alike}
