"""What can be asked of a fitted prototype tree, and done to it."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse as sp
from sklearn.utils.validation import (
    check_is_fitted,
)

from skproto import _placing as placing
from skproto.nn import tree as nn_tree
from skproto.training import BatchDataset, TrainingData
from skproto.trees._editing import TreeFamily
from skproto.trees._evidence import ExplainedTree
from skproto.trees._leaves import TrainingRows, project_rows, refit_leaves
from skproto.trees._regions import forbid_in_tree

# Fitted attributes with one entry for each prototype that come from training rows.
PER_PROTOTYPE = (
    "prototype_ids_",
    "prototype_indices_",
    "prototype_samples_",
    "prototype_sample_labels_",
    "projection_distance_",
    *placing.PLACE_ATTRIBUTES,
)


class TreeClassifier(ExplainedTree):
    """Base of the prototype tree: the methods beyond those of every estimator."""

    _editing_family = TreeFamily
    unique_sources: bool

    # -- asking ------------------------------------------------------------------------

    def get_depth(self):
        """Return the number of decisions on the longest path.

        Returns
        -------
        depth : int
            After pruning; 0 for a single leaf.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import ProtoTreeClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = ProtoTreeClassifier(depth=2, max_epochs=8, random_state=0).fit(X, y)
        >>> model.get_depth() <= 2
        True
        """
        check_is_fitted(self)
        return self._module.structure.depth

    def get_n_leaves(self):
        """Return the number of leaves.

        Returns
        -------
        n_leaves : int
            One more than there are prototypes.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import ProtoTreeClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = ProtoTreeClassifier(depth=2, max_epochs=8, random_state=0).fit(X, y)
        >>> model.get_n_leaves() == len(model.prototypes_) + 1
        True
        """
        check_is_fitted(self)
        return self._module.structure.n_leaves

    def apply(self, X):
        """Return the leaf in which each sample ends.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        nodes : ndarray of shape (n_samples,)
            Node numbers of the leaves, as in `tree_`: at the end of the greedy path,
            or the most probable leaf where `routing` is "sample_max".

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import ProtoTreeClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = ProtoTreeClassifier(depth=2, max_epochs=8, random_state=0).fit(X, y)
        >>> leaves = model.apply(X)
        >>> len(set(leaves.tolist())) <= model.get_n_leaves()
        True
        """
        leaf = self._forward(self._check_input(X), ("leaf",))["leaf"]
        return self._module.structure.leaf_nodes[leaf]

    def decision_path(self, X):
        """Return the nodes that each sample passes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        indicator : CSR matrix of shape (n_samples, n_nodes)
            1 where the sample passes the node, its leaf included; see :meth:`apply`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import ProtoTreeClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = ProtoTreeClassifier(depth=2, max_epochs=8, random_state=0).fit(X, y)
        >>> passed = model.decision_path(X)
        >>> bool((passed[:, 0].toarray() == 1).all())  # all pass the root
        True
        """
        leaf = self._forward(self._check_input(X), ("leaf",))["leaf"]
        paths = self._module.structure.paths[leaf]
        on_path = paths >= 0
        pointers = np.concatenate([[0], np.cumsum(on_path.sum(axis=1))])
        columns = paths[on_path]
        shape = (len(leaf), self._module.structure.n_nodes)
        ones = np.ones(len(columns), dtype=np.int64)
        return sp.csr_matrix((ones, columns, pointers), shape=shape)

    def export_text(self):
        """Return the tree as indented text.

        Returns
        -------
        text : str
            One line a node: the training row it asks for, or the classes of the leaf.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import ProtoTreeClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = ProtoTreeClassifier(depth=2, max_epochs=8, random_state=0).fit(X, y)
        >>> "training row" in model.export_text()
        True
        """
        return self.explain_global().to_text()

    # -- changing ----------------------------------------------------------------------

    def prune(self, threshold=None):
        """Drop the subtrees whose leaves tell little about the class.

        A maximal subtree all of whose leaves have no class probability above the
        threshold goes, its parent goes with it and the sibling takes their place.

        Parameters
        ----------
        threshold : float, default=None
            None is ``1/K + 0.1 (1 - 1/K)`` for K classes. Where no leaf passes it, the
            best one is kept, with a warning.

        Returns
        -------
        self : object
            The estimator with a smaller tree; prototypes that are left keep their ids.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import ProtoTreeClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = ProtoTreeClassifier(depth=2, max_epochs=8, random_state=0).fit(X, y)
        >>> before = model.get_n_leaves()
        >>> model.prune(threshold=0.6).get_n_leaves() <= before
        True
        """
        check_is_fitted(self)
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(
                f"threshold must be None or a float in the range [0, 1]. Got "
                f"{threshold!r}."
            )
        tree, edit = nn_tree.prune_tree(self._module, threshold)
        if edit.kept_best:
            warnings.warn(
                f"No leaf has a class probability above threshold={threshold!r}; only "
                "the best leaf is kept.",
                UserWarning,
                stacklevel=2,
            )
        self.net_ = self._make_prediction_net(tree)
        placing.keep_entries(self, PER_PROTOTYPE, edit.prototypes)
        self._read_tree()
        return self

    def project(self, X, y):
        """Put every prototype on its nearest sample of a class that its leaves favour.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples; `prototype_indices_` names rows of them from now on.

        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        self : object
            The estimator with prototypes that are samples. A prototype for which no
            sample qualifies stays as it is, with a warning; its
            `projection_distance_` to the nearest sample is not 0.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import ProtoTreeClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = ProtoTreeClassifier(depth=2, max_epochs=8, random_state=0).fit(X, y)
        >>> model = model.project(X, y)
        >>> model.projection_distance_.max().item()
        0.0
        """
        X, data = self._labelled(X, y)
        self._move_to_rows(self._module, data)
        self._read_sources(data, X)
        self._read_tree()
        self.fidelity_ = self._fidelity(X)
        return self

    def refit_leaves(self, X, y, sample_weight=None):
        """Fit the class distributions of the leaves anew, by EM with fixed prototypes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        y : array-like of shape (n_samples,)
            Their labels.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        self : object
            The estimator with new leaves.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import ProtoTreeClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = ProtoTreeClassifier(depth=2, max_epochs=8, random_state=0).fit(X, y)
        >>> bool(model.refit_leaves(X, y).score(X, y) > 0.6)
        True
        """
        X, data = self._labelled(X, y, sample_weight)
        refit_leaves(self._module, BatchDataset(data), max(self.refit_passes, 1))
        self._read_tree()
        self.fidelity_ = self._fidelity(X)
        return self

    # -- reading the module ------------------------------------------------------------

    def _collect(self, module, data: TrainingData, X) -> None:
        self._n_samples = X.shape[0]
        self._read_sources(data, X)
        self._read_tree()
        self.fidelity_ = self._fidelity(X)

    def _number_prototypes(self, rows) -> None:
        super()._number_prototypes(rows)
        self.prototype_ids_ = self.__dict__.pop("_ids")
        # New prototypes have numbers that no node had, pruned ones included.
        known = vars(self).get("_n_ids", 0) if self.warm_start else 0
        self._n_ids = max(known, 2**self.depth_ - 1)

    def _forbid_in_module(self, module) -> None:
        forbid_in_tree(self, module)

    def _move_to_rows(self, tree, data: TrainingData) -> None:
        """Put the prototypes on samples and remember which, -1 for none."""
        nearest = project_rows(tree, data, self.unique_sources)
        self._sources = nearest.samples.cpu().numpy(), nearest.sites.cpu().numpy()
        n_left = int((self._sources[0] < 0).sum())
        if n_left:
            warnings.warn(
                f"{n_left} of {len(self._sources[0])} prototypes stay as they were "
                "learned: no sample is of a class that their leaves favour.",
                UserWarning,
                stacklevel=3,
            )

    def _read_sources(self, data: TrainingData, X) -> None:
        """Set the attributes that tell the sample behind each prototype."""
        nearest = nn_tree.nearest_sites(self._module, TrainingRows(data))
        index, sites, distance = (t.cpu().numpy() for t in nearest)
        if "_sources" in vars(self):
            adopted, adopted_sites = self.__dict__.pop("_sources")
            taken = adopted >= 0
            index = np.where(taken, adopted, index)
            sites = np.where(taken, adopted_sites, sites)
            distance = np.where(taken, 0.0, distance)
        placing.read_sources(self, X, data.rows[index], sites)
        self.prototype_sample_labels_ = self.classes_[data.y[index]]
        self.prototype_indices_ = data.rows[index]
        self.projection_distance_ = distance.astype(np.float64)
