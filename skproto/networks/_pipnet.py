"""PIP-Net: prototypes are the channels that two views of an image agree upon."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback

from skproto import _placing as placing
from skproto import _projection as projection
from skproto._fitting import keeps_state_on_error
from skproto.base import PrototypeClassifier
from skproto.explanation._presence import (
    PresenceExplanation,
    below_thresholds,
    presence_margin,
    presence_probabilities,
)
from skproto.networks._base import phase_list
from skproto.networks._editing_shared import ChannelFamily
from skproto.networks._forbidding import SiteForbidding
from skproto.nn.augmentation import Augmentation
from skproto.nn.noise import FeatureNoise
from skproto.nn.pip import (
    AlignmentLoss,
    ChannelPrototypeNetwork,
    LogSquareLoss,
    PresenceLoss,
    alignment_weight,
)
from skproto.training import Annealing, Phase, TrainingData
from skproto.utils import _parameters as rules

# Channels of n_prototypes="auto": so many for each class, in powers of two.
CHANNELS_PER_CLASS, MIN_CHANNELS, MAX_CHANNELS = 6, 16, 1024

# Largest change of colours that makes two views of an image.
VIEW_COLOR = 0.2

# Steps that max_epochs="auto" aims at, and the fewest and the most epochs.
AUTO_STEPS, MIN_EPOCHS, MAX_EPOCHS = 500, 25, 250

# Share of the epochs that pretraining takes.
PRETRAINING_SHARE = 0.2

# Weight of the presences in pretraining; later it is a parameter.
PRETRAINING_PRESENCE = 5.0


class PIPNetClassifier(SiteForbidding, PrototypeClassifier):
    r"""Network of prototypes that two views of an image agree upon (PIP-Net).

    At every site of the encoder's map a softmax decides which of the channels it
    shows, and every channel is a prototype: its presence :math:`a_p(x) = \max_t
    z_{tp}` is a number between 0 and 1. Two changed views of an image are to show the
    same channels at the same sites, and every channel is to be present somewhere in a
    batch; so channels come to stand for parts that look alike. Class scores are
    :math:`s_k(x) = \sum_p a_p(x) \max(W_{pk}, 0)`: prototypes speak for classes only,
    and training shrinks their weights towards 0.

    Presences below `threshold` count as 0. The model abstains where nothing is left
    that speaks for any class, and where what is left is weaker than is usual for the
    class that it speaks for, see `abstain_share`: :meth:`abstains` tells, and
    ``predict(X, abstain=value)`` says so.

    Read more in the :ref:`User Guide <protopnet>`.

    Parameters
    ----------
    n_prototypes : "auto", int or None, default="auto"
        Number of channels, by a linear layer on the sites. "auto" is 6 for each class,
        rounded up to a power of two: 64 for ten classes. None takes the channels of
        the encoder as they are, as the paper does. Those without weight are dropped,
        see `prune_threshold`.

    threshold : float, default=0.1
        Smallest presence that counts outside of training. Larger values abstain more
        often.

    abstain_share : float, default=0.01
        Share of the training samples predicted as a class, those with the lowest scores
        for it, whose scores count as too low: below them the model abstains. New
        samples score lower, and more of them are lost (6 % of digits). It is how the
        paper tells foreign images, by 0.05 of held-out ones. Larger values abstain more
        often. 0 abstains only where all scores are 0: hardly ever, since the softmax
        has every site show some channel, and most channels speak for some class.

    agreement_weight : float, default=1.0
        Weight of the disagreement between two views. The paper has 5 with an encoder
        that was trained before; one from random weights then settles on its channels
        before the classes have a say.

    presence_weight : float, default=2.0
        Weight of the absence of channels from a batch; 5 in pretraining.

    classification_weight : float, default=2.0
        Weight of the classification loss.

    shrink : float, default=1e-3
        What every training step takes from the weights of the head. Larger values
        leave fewer prototypes for a class.

    view_epochs : "auto" or int, default="auto"
        First epochs, in which views are compared and classes do not count yet (the
        paper's pretraining). "auto" is a fifth of `max_epochs`.

    head_epochs : int, default=3
        Epochs after those, in which the head alone moves.

    prune_threshold : float or None, default=0.0
        Prototypes none of whose weights is above this are dropped after training. With
        0 no score changes; None keeps all.

    schedule : {"cosine", "constant"}, default="cosine"
        Learning rate in the course of each phase.

    encoder : {"auto", "mlp", "conv", "vit", "tokens"} or nn.Module, default="auto"
        "auto" is "conv", a small convolutional net, for images and "mlp" for tables; a
        table has one site. A module is copied; it returns vectors, tokens or maps. A
        callable gets the shape of an image, or the number of features, and returns a
        module.

    encoder_lr : float, default=None
        Learning rate of the encoder. None is `lr` where it starts from random weights
        and a tenth of it where it is given, as in the paper.

    head_lr : float, default=0.05
        Learning rate of the head.

    image_shape : tuple of int, default=None
        (C, H, W) or (H, W) of images that come flattened.

    frozen : bool, default=False
        Whether the body of the encoder stays as it is.

    augment : "auto", callable or None, default="auto"
        Makes the two views of training batches of shape (m, C, H, W), in units of the
        standardised values. "auto" changes the colours of images by up to 0.2, and
        adds noise of standard deviation 0.1 to tables and tokens. Changes of place
        must stay below the size of a site, as both views have to show the same part
        at the same site. With None both views are the image itself, and agree where
        the channels are sure.

    standardize : bool, default=True
        Whether to centre every channel (every feature of a table) and divide it by its
        standard deviation inside the model.

    solver : {"auto", "adam", "adamw"}, default="auto"
        Optimiser on mini-batches; "auto" is "adam".

    max_epochs : int or "auto", default="auto"
        Passes over the data, all phases together. "auto" is 25, and with few samples
        as many, up to 250, as make 500 steps.

    lr : float, default=0.01
        Learning rate of the layer that makes the channels. The paper has 0.005.

    batch_size : int, default=64
        Samples of a mini-batch. Every channel is to be present in one.

    class_weight : dict, "balanced" or None, default=None
        Weights of the classes; "balanced" gives all the same total.

    early_stopping : bool, default=False
        Stop a phase when the loss on a held-out part no longer falls.

    validation_fraction : float, default=0.1
        Share of the samples held out for early stopping.

    n_iter_no_change : int, default=10
        Epochs without progress that early stopping waits for.

    warm_start : bool, default=False
        Go on from the network of the last call of :meth:`fit`.

    random_state : int, RandomState instance or None, default=None
        Seed of the start, of the views and of the order of the samples.

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

    class_prior_ : ndarray of shape (n_classes,)
        Shares of the classes in training; where all scores are 0 `predict` answers
        with the largest.

    abstain_thresholds_ : ndarray of shape (n_classes,)
        Scores below which the model abstains from a class; the mean of the others for
        a class that no training sample is predicted as.

    prototypes_ : ndarray of shape (n_prototypes, n_channels)
        Sites that are nothing but a prototype's channel: rows of 0 and a single 1.

    prototype_ids_ : ndarray of shape (n_prototypes,)
        Stable numbers of the prototypes.

    prototype_labels_ : ndarray of shape (n_prototypes,)
        Class for which each prototype speaks most. It may speak for others too, see
        `class_weights_`.

    prototype_indices_ : ndarray of shape (n_prototypes,)
        Number of the training image in which each prototype is most present. It shows
        what a channel stands for; the prototype is learned and is not that image.

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
        1 minus the presence in that image: the total variation distance between the
        channels of that site and the prototype.

    class_weights_ : ndarray of shape (n_prototypes, n_classes)
        Weights of the head, none negative.

    win_counts_ : ndarray of shape (n_prototypes,)
        Number of training samples in which each prototype is the most present.

    center_, scale_ : ndarray of shape (n_channels,)
        Inner standardisation, by channel or by feature.

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
    ProtoPNetClassifier : Prototypes that are parts of training images.
    ProtoPoolClassifier : Classes choose prototypes from a pool that they share.

    Notes
    -----
    The probability of a class is :math:`(1 + s_k^2) / \sum_j (1 + s_j^2)`, the paper's
    softmax of :math:`\log(1 + s_k^2)`. With two classes :meth:`decision_function` is
    the difference of the two probabilities, :math:`(s_1 - s_0) (s_0 + s_1) / (2 +
    s_0^2 + s_1^2)`, and an explanation multiplies contributions likewise. Where all
    scores are 0 all classes are equally probable, and `predict` names the most
    frequent one.

    There is nothing to project and no convex problem for the head: the class loss is
    not convex in its weights.

    Differs from the paper in its defaults for encoders that start from random weights:
    learning rates, the weight of the agreement, and fewer epochs than 70.
    ``n_prototypes=None, agreement_weight=5.0, lr=0.005, view_epochs=10,
    max_epochs=70`` with an encoder that was trained before is the paper. Differs from
    its code in that evaluating never changes weights, which the code shrinks for every
    batch that it evaluates.

    References
    ----------
    .. [1] Nauta, M., Schloetterer, J., van Keulen, M. and Seifert, C. (2023). PIP-Net:
       Patch-Based Intuitive Prototypes for Interpretable Image Classification. *CVPR*.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skproto.networks import PIPNetClassifier
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> images = X.reshape(-1, 8, 8)
    >>> model = PIPNetClassifier(max_epochs=30, random_state=0)
    >>> model = model.fit(images[:300], y[:300])
    >>> bool(model.score(images[300:], y[300:]) > 0.9)
    True
    >>> bool((model.class_weights_ >= 0).all())
    True
    >>> model.predict(images[300:302], abstain=-1).shape
    (2,)
    >>> model.explain(images[300:301]).verify()
    """

    _explanation_class: ClassVar[type] = PresenceExplanation
    _module_class = ChannelPrototypeNetwork
    _auto_encoders: ClassVar[dict[str, str]] = {"table": "mlp", "image": "conv"}
    _n_views: ClassVar[int] = 2
    # Fitted attributes with one entry for each prototype.
    _editing_family = ChannelFamily
    _per_prototype: ClassVar[tuple[str, ...]] = (
        "prototypes_",
        "prototype_ids_",
        "prototype_indices_",
        "prototype_labels_",
        "prototype_samples_",
        "prototype_sample_labels_",
        "projection_distance_",
        "class_weights_",
        "win_counts_",
        *placing.PLACE_ATTRIBUTES,
    )
    _parameter_rules = PrototypeClassifier._parameter_rules.extended(
        n_prototypes=(rules.options("auto"), rules.none(), rules.integer(1)),
        threshold=rules.real(0, 1, ends="[)"),
        abstain_share=rules.real(0, 1, ends="[)"),
        agreement_weight=rules.real(0, ends="[)"),
        presence_weight=rules.real(0, ends="[)"),
        classification_weight=rules.real(0),
        shrink=rules.real(0, ends="[)"),
        view_epochs=(rules.options("auto"), rules.integer(0)),
        head_epochs=rules.integer(0),
        prune_threshold=(rules.none(), rules.real(0, ends="[)")),
        schedule=rules.options("cosine", "constant"),
        encoder_lr=(rules.none(), rules.real(0)),
        head_lr=rules.real(0),
        solver=rules.options("auto", "adam", "adamw"),
    )

    def __init__(
        self,
        n_prototypes="auto",
        *,
        threshold=0.1,
        abstain_share=0.01,
        agreement_weight=1.0,
        presence_weight=2.0,
        classification_weight=2.0,
        shrink=1e-3,
        view_epochs="auto",
        head_epochs=3,
        prune_threshold=0.0,
        schedule="cosine",
        encoder="auto",
        encoder_lr=None,
        head_lr=0.05,
        image_shape=None,
        frozen=False,
        augment="auto",
        standardize=True,
        solver="auto",
        max_epochs="auto",
        lr=0.01,
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
        self.threshold = threshold
        self.abstain_share = abstain_share
        self.agreement_weight = agreement_weight
        self.presence_weight = presence_weight
        self.classification_weight = classification_weight
        self.shrink = shrink
        self.view_epochs = view_epochs
        self.head_epochs = head_epochs
        self.prune_threshold = prune_threshold
        self.schedule = schedule
        self.encoder_lr = encoder_lr
        self.head_lr = head_lr

    # -- building ----------------------------------------------------------------------

    def _auto_solver(self, X) -> str:
        return "adam"

    def _auto_epochs(self, n_samples: int) -> int:
        n_batches = -(-n_samples // self.batch_size_)
        return int(np.clip(AUTO_STEPS // n_batches, MIN_EPOCHS, MAX_EPOCHS))

    def _validate_training(self, X, y, sample_weight):
        X, codes, weight, rows = super()._validate_training(X, y, sample_weight)
        share = np.bincount(codes, weight, minlength=len(self.classes_))
        self.class_prior_ = share / share.sum()
        return X, codes, weight, rows

    def _make_module(self, data: TrainingData) -> ChannelPrototypeNetwork:
        encoder = self._make_encoder(data)
        module = ChannelPrototypeNetwork(
            encoder.dim,
            data.n_classes,
            self._n_channels(data.n_classes),
            threshold=float(self.threshold),
            shrink=float(self.shrink),
            encoder=encoder,
        )
        seed = data.rng.randint(2**31 - 1)
        module.head.draw(torch.Generator().manual_seed(seed))
        return module

    def _n_channels(self, n_classes: int) -> int | None:
        if self.n_prototypes == "auto":
            enough = 2 ** int(np.ceil(np.log2(CHANNELS_PER_CLASS * n_classes)))
            return int(np.clip(enough, MIN_CHANNELS, MAX_CHANNELS))
        return None if self.n_prototypes is None else int(self.n_prototypes)

    # -- training ----------------------------------------------------------------------

    def _augmentation(self):
        if not isinstance(self.augment, str):
            return self.augment
        if len(self._input_shape) < 3:
            return FeatureNoise()
        # Sites of both views must show the same places.
        return Augmentation(shift=0.0, rotation=0.0, color=VIEW_COLOR, cutout=0.0)

    def _loss_terms(self):
        return [
            AlignmentLoss(weight=float(self.agreement_weight)),
            PresenceLoss(weight=float(self.presence_weight)),
            LogSquareLoss(weight=float(self.classification_weight)),
        ]

    def _phases(self) -> list[Phase]:
        n_first, n_head, n_all = self._epochs()
        head_lr = float(self.head_lr)
        rates = {"encoder": self._encoder_rate(), "head": head_lr}
        parts = ("encoder", "channels")
        # The terms of the pretraining, where classes do not count, are over.
        weights = (TermWeights(self._later_weights(n_head)),)
        head = Phase(
            "head", n_head, head_lr, self.solver_, ("head",), callbacks=weights
        )
        return phase_list(
            [
                self._phase("pretraining", n_first, parts, rates, self._first_weights),
                head,
                self._phase("all", n_all, (*parts, "head"), rates, self._later_weights),
            ]
        )

    def _phase(self, name, n_epochs, trainable, rates, weights) -> Phase:
        callbacks: list[Any] = [TermWeights(weights(n_epochs))]
        if self.schedule == "cosine":
            callbacks.append(Annealing(n_epochs))
        lr = float(self.lr)
        return Phase(
            name, n_epochs, lr, self.solver_, trainable, rates, tuple(callbacks)
        )

    def _first_weights(self, n_epochs: int) -> Callable[[int], dict[str, float]]:
        """Weights of the terms by epoch: two views, and no classes yet."""
        return lambda epoch: {
            "alignment": alignment_weight(epoch, n_epochs),
            "presence": PRETRAINING_PRESENCE,
            "class": 0.0,
        }

    def _later_weights(self, n_epochs: int) -> Callable[[int], dict[str, float]]:
        weights = {term.name: term.weight for term in self._loss_terms()}
        return lambda epoch: weights

    def _epochs(self) -> tuple[int, int, int]:
        """Epochs of the phases, which share `max_epochs_`."""
        total = self.max_epochs_
        first = self.view_epochs
        if first == "auto":
            first = round(PRETRAINING_SHARE * total)
        first = min(first, total)
        head = min(self.head_epochs, total - first)
        return first, head, total - first - head

    def _encoder_rate(self) -> float:
        if self.encoder_lr is not None:
            return float(self.encoder_lr)
        # Random weights have nothing to lose.
        return float(self.lr) / (1 if isinstance(self.encoder_, str) else 10)

    def _finish(self, module, data: TrainingData) -> None:
        module.eval()
        if self.prune_threshold is not None:
            kept = self._weighty(module, self.prune_threshold)
            if not kept.all():
                self.net_ = self._make_prediction_net(module.keep(kept))

    @staticmethod
    def _weighty(module, threshold: float) -> torch.Tensor:
        """Mask (P,) of prototypes with a weight above a threshold, at least one."""
        largest = module.head.effective_weight().detach().amax(1)
        kept = largest > threshold
        kept[largest.argmax()] = True
        return kept

    # -- fitted attributes -------------------------------------------------------------

    def _collect(self, module, data: TrainingData, X) -> None:
        nearest = projection.nearest_sites(module, data)
        index, sites = nearest.index[0], nearest.sites[0]
        self.prototypes_ = module.prototypes.detach().cpu().numpy().astype(np.float64)
        self.prototype_indices_ = data.rows[index]
        self.prototype_sample_labels_ = self.classes_[np.asarray(data.y)[index]]
        self.projection_distance_ = nearest.distances[0]
        placing.read_sources(self, X, self.prototype_indices_, sites)
        weights = module.head.effective_weight().detach().cpu().numpy()
        self.class_weights_ = weights.astype(np.float64)
        self.prototype_labels_ = self.classes_[weights.argmax(axis=1)]
        self._judge_samples(module, data)

    def _judge_samples(self, module, data: TrainingData) -> None:
        """Set what is read off the training samples in one pass."""
        counts = np.zeros(len(module.prototypes), dtype=np.int64)
        scores = []
        device = module.head.weight.device
        for rows, x in projection.sample_blocks(data, device):
            with torch.inference_mode():
                outputs = module(x)
            winners = outputs["presences"].argmax(1)[: len(rows)]
            counts += np.bincount(winners.cpu().numpy(), minlength=len(counts))
            scores.append(outputs["scores"][: len(rows)].cpu().numpy())
        self.win_counts_ = counts
        self.abstain_thresholds_ = class_thresholds(
            np.concatenate(scores).astype(np.float64), self.abstain_share
        )

    # -- predicting --------------------------------------------------------------------

    def _probabilities(self, outputs):
        return presence_probabilities(outputs["scores"])

    def _codes(self, outputs):
        codes = outputs["scores"].argmax(axis=1)
        return np.where(no_evidence(outputs), self.class_prior_.argmax(), codes)

    def _as_decision(self, scores: np.ndarray) -> np.ndarray:
        if len(self.classes_) > 2:
            return scores
        return (scores[:, 1] - scores[:, 0]) * presence_margin(scores)

    def predict(self, X, abstain=None):
        """Predict the class of samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, as in :meth:`fit`.

        abstain : object, default=None
            What to return for samples for which the model abstains, see
            :meth:`abstains`, such as -1, nan or "unknown". None: the class of the
            highest score, and where all are 0 the most frequent in training.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Predicted labels; ties go to the class that comes first in `classes_`. Of
            dtype object where labels and `abstain` have no common type.
        """
        outputs = self._forward(self._check_input(X), self._score_keys)
        labels = self.classes_[self._codes(outputs)]
        if abstain is None:
            return labels
        value = np.asarray(abstain)
        numbers = labels.dtype.kind in "iuf" and value.dtype.kind in "iuf"
        if not numbers and labels.dtype.kind != value.dtype.kind:
            labels = labels.astype(object)
        return np.where(self._refuses(outputs), value, labels)

    def _refuses(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """Tell which samples have too little evidence."""
        low = below_thresholds(outputs["scores"], self.abstain_thresholds_)
        return np.asarray(low | no_evidence(outputs))

    def abstains(self, X):
        """Tell which samples show too little of any class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, as in :meth:`fit`.

        Returns
        -------
        abstains : ndarray of bool of shape (n_samples,)
            True where all class scores are 0, or the highest is below the threshold of
            its class, `abstain_thresholds_`.
        """
        return self._refuses(self._forward(self._check_input(X), self._score_keys))

    # -- explaining --------------------------------------------------------------------

    def _evidence(self, outputs: dict[str, Any]) -> dict[str, Any]:
        activations = outputs["activations"].astype(np.float64)
        shape = len(activations), len(self.classes_)
        return {
            "class_contributions": activations[:, :, None] * self.class_weights_,
            "class_bias": np.zeros(shape),
            "head_weights": self.class_weights_,
            "abstain_thresholds": self.abstain_thresholds_,
        }

    def _global_evidence(self) -> dict[str, Any]:
        return {"weights": self.class_weights_}

    def _prototype_table(self):
        # A channel is learned: no training sample is the prototype itself.
        table = super()._prototype_table()
        return replace(table, values=None, is_case=np.zeros(len(table), dtype=bool))

    # -- operations --------------------------------------------------------------------

    @keeps_state_on_error
    def prune(self, threshold=0.0):
        """Drop the prototypes that matter to no class.

        With the default no score changes.

        Parameters
        ----------
        threshold : float, default=0.0
            Prototypes none of whose weights is above this are dropped, but for the
            one of the largest weight.

        Returns
        -------
        self : object
            The estimator; `prototype_ids_` tells which prototypes are left.

        Raises
        ------
        ValueError
            If `threshold` is negative or no number.
        """
        check_is_fitted(self)
        if not rules.real(0, ends="[)").accepts(threshold):
            raise ValueError(
                f"threshold must be a float in the range [0, inf). Got {threshold!r}."
            )
        module = copy.deepcopy(self._module)
        kept = self._weighty(module, threshold)
        self.net_ = self._make_prediction_net(module.keep(kept))
        placing.keep_entries(self, self._per_prototype, kept.cpu().numpy())
        return self


def no_evidence(outputs: dict[str, np.ndarray]) -> np.ndarray:
    """Tell which samples have scores of 0 only."""
    return np.asarray((outputs["scores"] == 0).all(axis=1))


def class_thresholds(scores: np.ndarray, share: float) -> np.ndarray:
    """Scores (K,) that all but a share of the samples predicted as a class reach.

    Parameters
    ----------
    scores : ndarray of shape (n, K)
        Class scores.

    share : float
        Share of the samples of a class that may lie below its threshold.

    Examples
    --------
    >>> class_thresholds(np.array([[2.0, 0], [3.0, 0], [4.0, 0]]), 0.5)
    array([3., 3.])
    """
    if share == 0:
        return np.zeros(scores.shape[1])
    codes, best = scores.argmax(axis=1), scores.max(axis=1)
    known = {
        code: float(np.quantile(best[codes == code], share, method="lower"))
        for code in np.unique(codes[best > 0]).tolist()
    }
    usual = float(np.mean([*known.values()] or [0.0]))
    return np.array([known.get(code, usual) for code in range(scores.shape[1])])


class TermWeights(Callback):
    """Set the weights of the loss terms in every epoch of a phase.

    Parameters
    ----------
    weights : callable
        Takes the epoch of the phase, from 1, and returns weights by name.
    """

    def __init__(self, weights):
        self.weights = weights

    def on_train_begin(self, net, **kwargs):
        """Count the epochs of the phase."""
        self.epoch = 0

    def on_epoch_begin(self, net, **kwargs):
        """Set the weights."""
        self.epoch += 1
        weights = self.weights(self.epoch)
        for term in net.criterion_.terms:
            term.weight = weights[term.name]
