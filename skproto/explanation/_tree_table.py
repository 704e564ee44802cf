"""A binary tree as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skproto.explanation._fields import coerce, dims


@dataclass(kw_only=True, eq=False)
class TreeTable:
    r"""A binary tree as arrays, in the manner of `sklearn.tree`.

    Node 0 is the root. An inner node asks whether its prototype is present: right is
    yes, left is no. Prototypes and leaves are numbered on their own, so that a pruned
    tree keeps no holes.

    Parameters
    ----------
    children_left, children_right : array of int of shape (n_nodes,)
        Nodes below, -1 at the leaves.

    prototype : array of int of shape (n_nodes,)
        Position of the prototype of an inner node, -1 at the leaves.

    leaf : array of int of shape (n_nodes,)
        Position of a leaf, -1 at the inner nodes.

    leaf_distributions : array of shape (n_leaves, n_classes)
        Class distribution of each leaf.

    radii : array of shape (n_prototypes,) or None, default=None
        Distance at which a prototype is present with probability 1/2.

    sharpness : float or None, default=None
        If given, presence is :math:`2^{-(d/r)^\beta}` of distance, radius and this
        exponent; checked by `verify`.

    Examples
    --------
    >>> from skproto.explanation import TreeTable
    >>> stump = TreeTable(
    ...     children_left=[1, -1, -1], children_right=[2, -1, -1],
    ...     prototype=[0, -1, -1], leaf=[-1, 0, 1],
    ...     leaf_distributions=[[0.9, 0.1], [0.2, 0.8]], radii=[1.1],
    ... )
    >>> stump.leaf_probability([[0.75]])
    array([[0.25, 0.75]])
    """

    children_left: np.ndarray = field(metadata=dims("nodes"))
    children_right: np.ndarray = field(metadata=dims("nodes"))
    prototype: np.ndarray = field(metadata=dims("nodes"))
    leaf: np.ndarray = field(metadata=dims("nodes"))
    leaf_distributions: np.ndarray = field(metadata=dims("L", "K"))
    radii: np.ndarray | None = field(default=None, metadata=dims("N"))
    sharpness: float | None = None

    def __post_init__(self) -> None:
        coerce(self, {})
        if not self.is_leaf.any():
            raise ValueError("TreeTable: children_left must be -1 at the leaves.")

    @property
    def is_leaf(self) -> np.ndarray:
        """True at the leaves, shape (n_nodes,)."""
        return self.children_left < 0

    def preorder(self) -> list[int]:
        """Return the nodes from the root down, left side first.

        Returns
        -------
        order : list of int
            Every node once, parents before their children.
        """
        order, stack = [], [0]
        while stack:
            node = stack.pop()
            order.append(node)
            if self.children_left[node] >= 0:
                stack += [int(self.children_right[node]), int(self.children_left[node])]
        return order

    def leaf_probability(self, node_probability: Any) -> np.ndarray:
        """Return the probability of each leaf given those of going right.

        Parameters
        ----------
        node_probability : array of shape (n_samples, n_prototypes)
            Probability that each prototype is present.

        Returns
        -------
        probability : array of shape (n_samples, n_leaves)
            Products along the paths; the rows add up to 1.
        """
        right = np.asarray(node_probability, dtype=float)
        reach = np.ones((len(self.children_left), len(right)))
        for node in self.preorder():
            if self.children_left[node] >= 0:
                p = right[:, self.prototype[node]]
                reach[self.children_left[node]] = reach[node] * (1 - p)
                reach[self.children_right[node]] = reach[node] * p
        leaves = np.flatnonzero(self.is_leaf)
        result = np.empty((len(right), len(leaves)))
        result[:, self.leaf[leaves]] = reach[leaves].T
        return result
