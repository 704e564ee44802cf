"""Several prototype trees whose probabilities are averaged."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from sklearn.base import clone

from skproto import _placing as placing
from skproto import _preparation as preparation
from skproto._editing import EditingMixin
from skproto._editing import _memory as memory
from skproto._fitting import keeps_state_on_error
from skproto._predicting import PrototypePredictor
from skproto.explanation import EnsembleExplanation, EnsembleGlobalExplanation
from skproto.training import select_rows
from skproto.trees._ensemble_editing import EnsembleFamily
from skproto.trees._prototree import ProtoTreeClassifier
from skproto.utils import _parameters as rules
from skproto.utils._random import random_source
from skproto.utils._sklearn import (
    HAS_CALLBACKS,
    CallbackSupportMixin,
    with_callbacks,
)

# Fitted attributes of the trees that the ensemble shows one after the other.
JOINED = (
    "prototypes_",
    "prototype_labels_",
    "prototype_indices_",
    "prototype_samples_",
    "prototype_sample_labels_",
    "projection_distance_",
    "radii_",
    "feature_weights_",
    "win_counts_",
    *placing.PLACE_ATTRIBUTES,
)


class ProtoTreeEnsembleClassifier(
    EditingMixin, CallbackSupportMixin, PrototypePredictor
):
    r"""Average of several prototype trees that start from different samples.

    The class scores are the means :math:`s_k(x) = \frac{1}{T} \sum_t \sum_\ell
    \pi_{t\ell}(x)\, c_{t\ell k}` of the trees' probabilities; they are the
    probabilities of the ensemble. Explanations add up the leaves of all trees and tell
    the path in each.

    Read more in the :ref:`User Guide <prototree>`.

    Parameters
    ----------
    estimator : ProtoTreeClassifier, default=None
        Tree to clone; its `random_state` is replaced. None is
        ``ProtoTreeClassifier()``.

    n_estimators : int, default=5
        Number of trees T. More are more accurate and harder to read.

    bootstrap : bool, default=False
        Fit each tree to as many samples as there are, drawn with replacement; every
        class is drawn at least once. Otherwise every tree sees all samples and they
        differ by their seeds alone, which is the paper and mostly more accurate.

    oob_score : bool, default=False
        Score the samples by the trees that have not seen them; needs `bootstrap`.

    n_jobs : int, default=None
        Trees fitted at the same time, each with one thread; -1 uses all processors.
        The result does not depend on it.

    random_state : int, RandomState instance or None, default=None
        Source of the bootstrap samples and of the trees' seeds. With an int the first
        tree has this very seed, so that an ensemble of one without bootstrap is the
        tree.

    verbose : bool or int, default=0
        Verbosity of joblib.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    estimators_ : list of ProtoTreeClassifier
        The trees.

    prototypes_ : ndarray of shape (n_prototypes, n_features)
        Prototypes of all trees, one tree after the other.

    prototype_trees_ : ndarray of shape (n_prototypes,)
        Tree of each prototype.

    prototype_ids_ : ndarray of shape (n_prototypes,)
        Stable numbers: those in the trees, shifted by the prototypes that the trees
        before had when they were unpruned. Those added by edits go on from there.

    prototype_labels_, prototype_indices_, prototype_samples_ : ndarray
        As in :class:`ProtoTreeClassifier`, for the prototypes of all trees.

    prototype_sample_labels_, prototype_sites_, projection_distance_ : ndarray
        Likewise.

    prototype_boxes_, prototype_patches_, prototype_hashes_ : ndarray, list, ndarray
        Likewise, of images; None for tables.

    win_counts_ : ndarray of shape (n_prototypes,)
        Likewise.

    radii_, feature_weights_ : ndarray
        Likewise; the distances of a tree are in its own scale.

    oob_decision_function_ : ndarray of shape (n_samples, n_classes)
        Mean probabilities of the trees that left a sample out; NaN where none did.
        Samples of weight 0 are left out. Only with `oob_score`.

    oob_score_ : float
        Accuracy over the samples that some tree left out. Only with `oob_score`.

    fidelity_ : float
        Mean of the trees' `fidelity_`.

    center_, scale_ : ndarray of shape (n_features,)
        Mean and scale of the features over all samples; each tree has its own.

    history_ : DataFrame
        One row an epoch of a tree; column `tree` says which.

    n_features_in_ : int
        Number of features.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, when `X` has only string feature names.

    See Also
    --------
    ProtoTreeClassifier : One tree.
    sklearn.ensemble.BaggingClassifier : Averages any classifier, without explanations.

    Notes
    -----
    Changing a tree in `estimators_` (pruning it, say) changes predictions and
    explanations, while the attributes that join the trees stay as fitted. Edits of the
    ensemble itself keep all of them in step: they go to the tree that owns the
    prototype, a new one to the tree that gives its class the least probability or to
    ``tree``.

    References
    ----------
    .. [1] Nauta, M., van Bree, R. and Seifert, C. (2021). Neural Prototype Trees for
       Interpretable Fine-grained Image Recognition. *CVPR*, section 4.

    Differs from the paper's code in that probabilities are averaged, never log
    probabilities.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skproto.trees import ProtoTreeClassifier, ProtoTreeEnsembleClassifier
    >>> X, y = load_wine(return_X_y=True)
    >>> tree = ProtoTreeClassifier(depth=2, max_epochs=20)
    >>> forest = ProtoTreeEnsembleClassifier(tree, 3, random_state=0).fit(X, y)
    >>> forest.prototypes_.shape, bool(forest.score(X, y) > 0.9)
    ((9, 13), True)
    >>> forest.explain(X[:1]).verify()
    """

    _explanation_class = EnsembleExplanation
    _global_explanation_class = EnsembleGlobalExplanation
    _score_keys = ("scores",)
    _editing_family = EnsembleFamily
    _parameter_rules = rules.ParameterRules().extended(
        estimator=(
            rules.none(),
            rules.Rule(
                lambda v: isinstance(v, ProtoTreeClassifier), "a ProtoTreeClassifier"
            ),
        ),
        n_estimators=rules.integer(1),
        bootstrap=rules.boolean(),
        oob_score=rules.boolean(),
        n_jobs=(rules.none(), rules.integer(-(2**31))),
        random_state=rules.random_state(),
        verbose=(rules.boolean(), rules.integer(0)),
    )

    def __init__(
        self,
        estimator=None,
        n_estimators=5,
        *,
        bootstrap=False,
        oob_score=False,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.n_estimators = n_estimators
        self.bootstrap = bootstrap
        self.oob_score = oob_score
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @keeps_state_on_error
    @with_callbacks
    def fit(self, X, y, sample_weight=None):
        """Fit the trees.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples.

        y : array-like of shape (n_samples,)
            Class labels of any kind.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; a sample of weight 0 counts as absent. None means
            equal weights.

        Returns
        -------
        self : object
            The fitted estimator.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import ProtoTreeClassifier, ProtoTreeEnsembleClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> tree = ProtoTreeClassifier(depth=2, max_epochs=4)
        >>> model = ProtoTreeEnsembleClassifier(tree, n_estimators=2, random_state=0)
        >>> len(model.fit(X, y).estimators_)
        2
        """
        self._check_parameters()
        passed = (X, y, sample_weight)
        self._forget_edits()
        X, y, weight, rows = preparation.validate_samples(self, X, y, sample_weight)
        self._resolve_forbidden()
        self.classes_, codes = np.unique(y, return_inverse=True)
        base = self._template()
        scaling = base._fit_scaling(X, weight)
        self.center_, self.scale_ = scaling.center, scaling.scale
        rng = random_source(self.random_state)
        seeds = rng.randint(2**31 - 1, size=self.n_estimators)
        if isinstance(self.random_state, (int, np.integer)):
            seeds[0] = self.random_state
        counts = np.array([self._draw(codes.ravel(), rng) for _ in seeds])
        trees = [clone(base).set_params(random_state=int(seed)) for seed in seeds]
        if forbidden := memory.edit_state(self)["forbidden"]:
            for tree in trees:
                memory.update(tree, forbidden=forbidden)
        self.estimators_ = self._fit_trees(trees, X, y, weight * counts, passed)
        self._join(rows)
        if self.oob_score:
            self._score_left_out(X, codes.ravel(), weight, counts)
        return self

    def _template(self) -> ProtoTreeClassifier:
        """Return the tree of which copies are fitted."""
        return ProtoTreeClassifier() if self.estimator is None else self.estimator

    @property
    def _input_settings(self):
        return self._template()._input_settings

    def _check_parameters(self) -> None:
        self._parameter_rules.check(type(self).__name__, self.get_params(deep=False))
        if self.oob_score and not self.bootstrap:
            raise ValueError("oob_score=True needs bootstrap=True.")
        self._template()._check_parameters()

    def _draw(self, codes: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        """Return how often each sample is drawn; every class is drawn at least once."""
        n_samples = len(codes)
        if not self.bootstrap:
            return np.ones(n_samples)
        counts = np.bincount(rng.randint(n_samples, size=n_samples), None, n_samples)
        drawn = np.bincount(codes, weights=counts)
        for code in np.flatnonzero(drawn == 0):
            counts[rng.choice(np.flatnonzero(codes == code))] = 1
        return counts.astype(np.float64)

    def _fit_trees(self, trees, X, y, weights, passed) -> list:
        watches: list[Any] = [None] * len(trees)
        if HAS_CALLBACKS:
            root = self._init_callback_context(
                max_subtasks=len(trees), sequential_subtasks=False
            )
            watches = [_Watch(self, root, t, passed) for t in range(len(trees))]
            watches[0].begin(root)
        # One thread for each of several trees: the same bits whatever n_jobs is.
        one_thread = len(trees) > 1
        jobs = (
            delayed(_fit_tree)(tree, X, y, weight, watch, one_thread)
            for tree, weight, watch in zip(trees, weights, watches, strict=True)
        )
        return list(Parallel(n_jobs=self.n_jobs, verbose=self.verbose)(jobs))

    def _join(self, rows: np.ndarray) -> None:
        """Set the attributes that describe the prototypes of all trees."""
        trees = self.estimators_
        for tree in trees:
            tree.prototype_indices_ = rows[tree.prototype_indices_]
            if hasattr(self, "feature_names_in_"):
                tree.feature_names_in_ = self.feature_names_in_
        self._join_trees()
        offsets = np.cumsum([0] + [2**tree.depth_ - 1 for tree in trees])
        ids = np.concatenate([tree.prototype_ids_ for tree in trees])
        self.prototype_ids_ = ids + offsets[self.prototype_trees_]
        self._n_ids = int(offsets[-1])
        histories = enumerate(tree.history_ for tree in trees)
        frames = [frame.assign(tree=t) for t, frame in histories]
        self.history_ = pd.concat(frames, ignore_index=True)

    def _join_trees(self) -> None:
        """Set what the trees have one after the other, but for ids and histories."""
        trees = self.estimators_
        for name in JOINED:
            parts = [getattr(tree, name, None) for tree in trees]
            setattr(self, name, placing.joined(parts))
        sizes = [len(tree.prototypes_) for tree in trees]
        self.prototype_trees_ = np.repeat(np.arange(len(trees)), sizes)
        self.fidelity_ = float(np.mean([tree.fidelity_ for tree in trees]))

    def _score_left_out(self, X, codes, weight, counts) -> None:
        """Score every sample by the trees that have not seen it."""
        n_trees = np.zeros(len(codes))
        total = np.zeros((len(codes), len(self.classes_)))
        for tree, count in zip(self.estimators_, counts, strict=True):
            out = np.flatnonzero(count == 0)
            if len(out):
                outputs = tree._forward(select_rows(X, out), self._score_keys)
                total[out] += tree._probabilities(outputs)
                n_trees[out] += 1
        scored = n_trees > 0
        if not scored.any():
            raise ValueError("oob_score=True needs a sample that some tree left out.")
        self.oob_decision_function_ = np.full(total.shape, np.nan)
        self.oob_decision_function_[scored] = total[scored] / n_trees[scored, None]
        right = total[scored].argmax(axis=1) == codes[scored]
        self.oob_score_ = float(np.average(right, weights=weight[scored]))

    # -- predicting and explaining -----------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimators_")

    @property
    def _encodes(self) -> bool:
        return self.estimators_[0]._encodes

    def _forward(self, X, keys=None, run=None):
        parts = [tree._forward(X, keys, run) for tree in self.estimators_]
        outputs: dict[str, Any] = {"trees": parts} if keys is None else {}
        for key in set(parts[0]) & {"scores", "activations", "distances", "sites"}:
            values = [part[key] for part in parts]
            if key == "scores":
                outputs[key] = np.mean(values, axis=0)
            else:
                outputs[key] = np.concatenate(values, axis=1)
        return outputs

    def _probabilities(self, outputs):
        scores = outputs["scores"]
        return scores / scores.sum(axis=1, keepdims=True)

    @property
    def _site_grid(self):
        return self.estimators_[0]._site_grid

    def _sample_places(self, outputs, X, evidence):
        # The explanations of the trees hold maps and receptive fields.
        return placing.sample_places(self, outputs, X)

    def similarity_maps(self, X):
        """Similarity of every prototype of all trees at every site of images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, as in `fit`.

        Returns
        -------
        maps : ndarray of shape (n_samples, n_prototypes, n_rows, n_columns)
            Probabilities that a prototype is present, on the grid of the encoder.
        """
        return np.concatenate([t.similarity_maps(X) for t in self.estimators_], axis=1)

    def _explanation(self, outputs, X, sample_index):
        trees = [
            tree._explanation(part, X, sample_index)
            for tree, part in zip(self.estimators_, outputs["trees"], strict=True)
        ]
        return super()._explanation({**outputs, "trees": trees}, X, sample_index)

    def _evidence(self, outputs):
        trees = outputs["trees"]
        parts = [tree.class_contributions for tree in trees]
        return {
            "class_contributions": np.concatenate(parts, axis=1) / len(trees),
            "class_bias": np.zeros(outputs["scores"].shape),
            "link": "normalize",
            "trees": trees,
        }

    def _global_evidence(self):
        return {"trees": [tree.explain_global() for tree in self.estimators_]}


class _Watch:
    """What scikit-learn's callbacks are told about the fit of one tree."""

    def __init__(self, ensemble, root, number, passed):
        self.ensemble = ensemble
        self.context = root.subcontext(task_name="tree", task_id=number)
        X, y, sample_weight = passed
        metadata = {"sample_weight": sample_weight}
        self.passed = {"X": X, "y": y, "metadata": metadata}

    def begin(self, context) -> None:
        context.call_on_fit_task_begin(estimator=self.ensemble, **self.passed)

    def end(self, tree) -> None:
        self.context.call_on_fit_task_end(
            estimator=self.ensemble,
            reconstruction_attributes=lambda: {"estimators_": [tree]},
            **self.passed,
        )


def _fit_tree(tree, X, y, weight, watch, one_thread):
    """Fit one tree, in this process or in another."""
    limit = _single_thread() if one_thread else nullcontext()
    if watch is None:
        with limit:
            return tree.fit(X, y, sample_weight=weight)
    with watch.context.propagate_callback_context(tree), limit:
        watch.begin(watch.context)
        tree.fit(X, y, sample_weight=weight)
        watch.end(tree)
    return tree


@contextmanager
def _single_thread():
    """Let torch compute with one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
