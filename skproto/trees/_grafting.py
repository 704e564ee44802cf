"""Changing the shape of a prototype tree: nodes are split, swapped and taken out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skproto._editing import resized_module
from skproto.nn.tree import SoftPrototypeTree, TreeStructure

#: Parameters of a tree with one row for each prototype.
NODE_ROWS = ("prototypes", "log_radius", "feature_logits")

Positions = NDArray[np.int64]


class Shape(NamedTuple):
    """A tree in breadth-first order, and where its parts come from.

    Attributes
    ----------
    is_leaf : list of bool
        Flag of each node.
    prototypes : ndarray of shape (n_inner,)
        Row of each inner node; new ones count on from those of the old tree.
    leaves : ndarray of shape (n_leaves,)
        Old leaf of which each leaf has the counts.
    """

    is_leaf: list[bool]
    prototypes: Positions
    leaves: Positions


class Grafting:
    """A tree as links between its nodes, which are changed and then numbered anew.

    Parameters
    ----------
    structure : TreeStructure
        The tree as it is.

    Examples
    --------
    >>> from skproto.nn.tree import TreeStructure
    >>> from skproto.trees._grafting import Grafting
    >>> grafting = Grafting(TreeStructure.full(2))
    >>> grafting.lift(1, 3)
    >>> grafting.swap(0)
    >>> shape = grafting.shape()
    >>> shape.is_leaf, shape.prototypes.tolist(), shape.leaves.tolist()
    ([False, False, True, True, True], [0, 2], [0, 2, 3])
    """

    def __init__(self, structure: TreeStructure):
        self.left = structure.children_left.tolist()
        self.right = structure.children_right.tolist()
        self.prototype = structure.prototype.tolist()
        self.leaf = structure.leaf.tolist()
        self.place: dict[int, int] = {}

    def split(self, node: int, prototype: int) -> None:
        """Make a leaf a node with a prototype and two leaves that are copies of it."""
        first = len(self.leaf)
        for _ in range(2):
            self.left.append(-1)
            self.right.append(-1)
            self.prototype.append(-1)
            self.leaf.append(self.leaf[node])
        self.left[node], self.right[node] = first, first + 1
        self.prototype[node], self.leaf[node] = prototype, -1

    def swap(self, node: int) -> None:
        """Exchange what a node does with "absent" and "present"."""
        self.left[node], self.right[node] = self.right[node], self.left[node]

    def lift(self, node: int, below: int) -> None:
        """Let a node below take the place of a node; all others below it go."""
        self.place[node] = below

    def shape(self) -> Shape:
        """Return the tree, its nodes numbered anew."""
        order = [self._at(0)]
        for node in order:  # grows on the way
            if self.left[node] >= 0:
                order += [self._at(self.left[node]), self._at(self.right[node])]
        is_leaf = [self.left[node] < 0 for node in order]
        pairs = list(zip(order, is_leaf, strict=True))
        return Shape(
            is_leaf,
            np.array([self.prototype[v] for v, ends in pairs if not ends], dtype=int),
            np.array([self.leaf[v] for v, ends in pairs if ends], dtype=int),
        )

    def _at(self, node: int) -> int:
        while node in self.place:
            node = self.place[node]
        return node


def regrown(model: Any, shape: Shape, new: Mapping[str, Any] | None = None) -> Any:
    """Return the tree of a model in another shape.

    Parameters
    ----------
    model : ProtoTreeClassifier
        Not changed.

    shape : Shape
        What is left of the tree, and where something is added.

    new : mapping of str to ndarray, default=None
        Rows of the prototypes that are added, by the name of the parameter.

    Returns
    -------
    tree : SoftPrototypeTree
        A new module; what is left has the same bits.
    """
    tree: SoftPrototypeTree = model._module
    arrays = {"leaf_counts": tree.leaf_counts.cpu().numpy()[shape.leaves]}
    for name in node_rows(tree):
        rows = tree.get_parameter(name).detach().cpu().numpy()
        if new is not None:
            rows = np.concatenate([rows, np.asarray(new[name], dtype=rows.dtype)])
        arrays[name] = rows[shape.prototypes]
    return resized_module(model, {"is_leaf": shape.is_leaf}, arrays)


def node_rows(tree: SoftPrototypeTree) -> tuple[str, ...]:
    """Return the names of the parameters that a tree has for each prototype."""
    return tuple(name for name in NODE_ROWS if getattr(tree, name) is not None)


def below(structure: TreeStructure, nodes: Positions) -> NDArray[np.bool_]:
    """Tell which leaves (m, L) lie under nodes, or are them.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.nn.tree import TreeStructure
    >>> from skproto.trees._grafting import below
    >>> below(TreeStructure.full(2), np.array([1, 5])).tolist()
    [[True, True, False, False], [False, False, True, False]]
    """
    on_path = structure.paths[None] == np.asarray(nodes)[:, None, None]
    return np.asarray(on_path.any(axis=2))
