"""What a prototype tree predicts and how it comes to it."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch

from skproto._editing import with_user_labels
from skproto.base import PrototypeClassifier
from skproto.explanation import TreeExplanation, TreeGlobalExplanation, TreeTable
from skproto.nn import tree as nn_tree


class ExplainedTree(PrototypeClassifier):
    """Base of the prototype tree: predictions and explanations by leaves."""

    _explanation_class = TreeExplanation
    _score_keys = ("scores",)
    _global_explanation_class = TreeGlobalExplanation

    # -- predicting --------------------------------------------------------------------

    def _forward(self, X, keys=None, run=None, routing=None):
        if run is None:
            light = keys is not None and set(keys) <= {"scores", "log_scores"}
            method = self._module.predict if light else self._module.evaluate
            run = partial(method, routing=routing or self.routing)
        outputs = super()._forward(X, keys, run)
        # Sums over classes round in the order of the memory.
        return {key: np.ascontiguousarray(value) for key, value in outputs.items()}

    def predict(self, X, routing=None):
        """Predict the class of samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        routing : {"distributed", "greedy", "sample_max"}, default=None
            How the leaves are added up; None is the `routing` of the constructor.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Predicted labels; ties go to the class that comes first in `classes_`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import ProtoTreeClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = ProtoTreeClassifier(depth=2, max_epochs=8, random_state=0).fit(X, y)
        >>> soft, path = model.predict(X), model.predict(X, routing="greedy")
        >>> bool((soft == path).mean() > 0.8)
        True
        """
        outputs = self._routed_scores(X, routing)
        return self.classes_[self._codes(outputs)]

    def predict_proba(self, X, routing=None):
        """Predict class probabilities of samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        routing : {"distributed", "greedy", "sample_max"}, default=None
            How the leaves are added up; None is the `routing` of the constructor.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probabilities in the order of `classes_`; rows sum to 1.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import ProtoTreeClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = ProtoTreeClassifier(depth=2, max_epochs=8, random_state=0).fit(X, y)
        >>> model.predict_proba(X, routing="greedy").shape
        (150, 3)
        """
        return self._probabilities(self._routed_scores(X, routing))

    def _routed_scores(self, X, routing):
        if routing is not None and routing not in nn_tree.ROUTINGS:
            raise ValueError(
                f"routing must be None or one of {nn_tree.ROUTINGS}. Got {routing!r}."
            )
        return self._forward(self._check_input(X), ("scores",), routing=routing)

    def _probabilities(self, outputs):
        scores = outputs["scores"]
        return scores / scores.sum(axis=1, keepdims=True)

    # -- explaining --------------------------------------------------------------------

    def _evidence(self, outputs):
        right = outputs["activations"].astype(np.float64)
        reach = self.tree_.leaf_probability(right)
        leaf = outputs["leaf"]
        counted = reach
        if self.routing != "distributed":
            counted = np.eye(reach.shape[1])[leaf]
        values = self.leaf_distributions_
        paths = self._module.structure.paths[leaf]
        return {
            "class_contributions": counted[:, :, None] * values,
            "class_bias": np.zeros(outputs["scores"].shape),
            "link": "normalize",
            "metric": None if self._encodes else "euclidean",
            "tree": self.tree_,
            "node_probability": right,
            "node_distances": outputs["distances"].astype(np.float64),
            "leaf_probability": reach,
            "path": [path[path >= 0].tolist() for path in paths],
            "leaf": leaf,
            "agrees": (reach @ values).argmax(axis=1) == values[leaf].argmax(axis=1),
            "routing": self.routing,
        }

    def _global_evidence(self):
        structure = self._module.structure
        sets = nn_tree.class_sets(self._module)
        return {
            "tree": self.tree_,
            "class_sets": [self.classes_[row].tolist() for row in sets],
            "training_mass": self.training_mass_,
            "coverage": self.training_mass_[structure.leaf_nodes],
        }

    # -- reading the module ------------------------------------------------------------

    def _read_tree(self) -> None:
        """Set the attributes that describe the tree, off the module."""
        tree, structure = self._module, self._module.structure
        self.leaf_distributions_ = _array(tree.leaf_distributions())
        if tree.log_radius is None:
            # exp(-d) is the radius kernel of sharpness 1 with radius log 2.
            self.radii_ = np.full(structure.n_inner, math.log(2))
        else:
            self.radii_ = _array(tree.radii())
        self.feature_weights_ = self._read_feature_weights()
        self.tree_ = TreeTable(
            children_left=structure.children_left,
            children_right=structure.children_right,
            prototype=structure.prototype,
            leaf=structure.leaf,
            leaf_distributions=self.leaf_distributions_,
            radii=self.radii_,
            sharpness=1.0 if tree.log_radius is None else tree.sharpness,
        )
        self._read_prototypes()
        counts = nn_tree.aggregate_leaves(structure, _array(tree.leaf_counts))
        mass = counts.sum(axis=1)
        self.training_mass_ = mass / mass[0] if mass[0] > 0 else mass
        below_right = structure.children_right[structure.inner_nodes]
        wins = self._n_samples * self.training_mass_[below_right]
        self.win_counts_ = np.rint(wins).astype(np.int64)
        codes = with_user_labels(self, counts[below_right].argmax(axis=1))
        self.prototype_labels_ = self.classes_[codes]

    def _read_prototypes(self) -> None:
        self.prototypes_ = _array(self._module.prototypes)
        if not self._encodes:
            # Scaling back rounds; a projected prototype is its row to the last bit.
            self.prototypes_ = np.where(
                self.projection_distance_[:, None] == 0,
                self.prototype_samples_,
                self._scaling.invert(self.prototypes_),
            )

    @property
    def _weighs_features(self) -> bool:
        if self.feature_weights == "auto":
            return not self._encodes
        return bool(self.feature_weights)

    def _read_feature_weights(self) -> np.ndarray:
        """Weights in the squared distance; they sum to 1 where it is divided by D."""
        tree = self._module
        weights = tree.weights()
        values = np.ones(tree.prototypes.shape) if weights is None else _array(weights)
        return values / tree.prototype_dim if tree.scale_distance else values

    def _fidelity(self, X) -> float:
        """Share of samples that greedy path and soft sum give the same class."""
        outputs = self._forward(X, ("scores", "leaf"), routing="distributed")
        greedy = self.leaf_distributions_[outputs["leaf"]]
        return float(np.mean(outputs["scores"].argmax(1) == greedy.argmax(1)))


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()
