"""Binary trees as arrays: numbering, paths, pruning and merging, without torch.

Nodes are numbered breadth first, root 0, so one level is one slice. With that order
the children of the i-th inner node are the nodes ``2i + 1`` and ``2i + 2``, whatever
the shape of the tree: the flags "is a leaf" alone define the whole structure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class TreeStructure:
    """Shape of a binary tree whose inner nodes each have two children.

    Parameters
    ----------
    is_leaf : tuple of bool, length n_nodes
        Flag of each node in breadth-first order. A tree of N inner nodes has N + 1
        leaves and 2N + 1 nodes; inner nodes and leaves are counted in that order
        too, which gives the position of each prototype and of each leaf.

    Raises
    ------
    ValueError
        If the flags do not describe one complete binary tree.

    Examples
    --------
    >>> tree = TreeStructure((False, True, False, True, True))
    >>> tree.children_right.tolist()
    [2, -1, 4, -1, -1]
    >>> tree.paths.tolist()
    [[0, 1, -1], [0, 2, 3], [0, 2, 4]]
    """

    is_leaf: tuple[bool, ...]

    def __post_init__(self) -> None:
        """Refuse flags that are not a tree."""
        inner = self.inner_nodes
        if (
            self.n_nodes != 2 * len(inner) + 1
            or (inner >= self.children_left[inner]).any()
        ):
            raise ValueError(
                "is_leaf must describe one binary tree in breadth-first order "
                f"(n inner nodes, n + 1 leaves, root first), got {list(self.is_leaf)!r}"
            )

    @classmethod
    def full(cls, depth: int) -> TreeStructure:
        """Return the complete tree of `depth` levels of inner nodes.

        Parameters
        ----------
        depth : int
            At least 0; 0 is a single leaf.

        Returns
        -------
        structure : TreeStructure
            2^depth - 1 inner nodes and 2^depth leaves.
        """
        if depth < 0:
            raise ValueError(f"depth must be an int >= 0, got {depth!r}")
        return cls((False,) * (2**depth - 1) + (True,) * 2**depth)

    @classmethod
    def from_flags(cls, is_leaf: Sequence[bool] | BoolArray) -> TreeStructure:
        """Return the structure of any sequence of flags (bool or 0/1).

        Parameters
        ----------
        is_leaf : sequence of bool, length n_nodes
            See the class.

        Returns
        -------
        structure : TreeStructure
            The same tree, hashable.
        """
        return cls(tuple(bool(flag) for flag in is_leaf))

    @property
    def n_nodes(self) -> int:
        """Number of nodes, inner nodes and leaves together."""
        return len(self.is_leaf)

    @property
    def n_inner(self) -> int:
        """Number of inner nodes, one prototype each."""
        return self.n_nodes // 2

    @property
    def n_leaves(self) -> int:
        """Number of leaves, always ``n_inner + 1``."""
        return self.n_inner + 1

    @property
    def depth(self) -> int:
        """Number of decisions on the longest path."""
        return len(self.levels) - 1

    @cached_property
    def inner_nodes(self) -> IntArray:
        """Node id of each prototype, shape (n_inner,)."""
        return np.flatnonzero(~np.asarray(self.is_leaf, dtype=bool))

    @cached_property
    def leaf_nodes(self) -> IntArray:
        """Node id of each leaf, shape (n_leaves,)."""
        return np.flatnonzero(np.asarray(self.is_leaf, dtype=bool))

    @cached_property
    def prototype(self) -> IntArray:
        """Prototype position of each node, -1 at leaves, shape (n_nodes,)."""
        return _positions(self.inner_nodes, self.n_nodes)

    @cached_property
    def leaf(self) -> IntArray:
        """Leaf position of each node, -1 at inner nodes, shape (n_nodes,)."""
        return _positions(self.leaf_nodes, self.n_nodes)

    @cached_property
    def children_left(self) -> IntArray:
        """Left ("absent") child of each node, -1 at leaves, shape (n_nodes,)."""
        return np.where(self.prototype < 0, -1, 2 * self.prototype + 1)

    @cached_property
    def children_right(self) -> IntArray:
        """Right ("present") child of each node, -1 at leaves, shape (n_nodes,)."""
        return np.where(self.prototype < 0, -1, 2 * self.prototype + 2)

    @cached_property
    def parent(self) -> IntArray:
        """Parent of each node, -1 at the root, shape (n_nodes,)."""
        ids = np.arange(1, self.n_nodes)
        return np.concatenate(([-1], self.inner_nodes[(ids - 1) // 2])).astype(np.int64)

    @cached_property
    def levels(self) -> list[tuple[int, int]]:
        """First and one-past-last node id of each level, root level first."""
        levels, start, stop = [], 0, 1
        while start < stop:
            levels.append((start, stop))
            inner = stop - start - sum(self.is_leaf[start:stop])
            start, stop = stop, stop + 2 * inner
        return levels

    @cached_property
    def paths(self) -> IntArray:
        """Node ids from the root to each leaf, padded with -1, (n_leaves, depth+1)."""
        node_paths = np.full((self.n_nodes, self.depth + 1), -1, dtype=np.int64)
        node_paths[0, 0] = 0
        for step, (start, stop) in enumerate(self.levels[1:], start=1):
            ids = np.arange(start, stop)
            node_paths[ids] = node_paths[self.parent[ids]]
            node_paths[ids, step] = ids
        return node_paths[self.leaf_nodes]


@dataclass(frozen=True)
class TreeEdit:
    """What pruning or merging keeps of a tree.

    Attributes
    ----------
    structure : TreeStructure
        The new tree.
    nodes : ndarray of shape (n_new_nodes,)
        Old node id behind each new node.
    prototypes : ndarray of shape (n_new_inner,)
        Old prototype position behind each new one.
    leaf_groups : ndarray of shape (n_old_leaves,)
        New leaf that receives each old leaf, -1 if it is dropped.
    kept_best : bool
        True if every leaf was at or under the threshold, so that only the best leaf
        was kept. A caller should say so.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.nn.tree import TreeEdit, TreeStructure
    >>> stump = TreeStructure.full(0)
    >>> none, first = np.array([], dtype=int), np.array([0, -1])
    >>> edit = TreeEdit(stump, np.array([1]), none, first)
    >>> edit.structure.n_leaves, edit.kept_best
    (1, False)
    """

    structure: TreeStructure
    nodes: IntArray
    prototypes: IntArray
    leaf_groups: IntArray
    kept_best: bool = False


def prune_structure(
    structure: TreeStructure, leaf_max: ArrayLike, threshold: float
) -> TreeEdit:
    """Drop every maximal subtree whose leaves all are at or under `threshold`.

    The parent of a dropped subtree goes too and the sibling takes its place, at the
    root as well. The tree never becomes empty: with all leaves at or under the
    threshold the one with the largest `leaf_max` (the first of equals) stays.

    Parameters
    ----------
    structure : TreeStructure
        Tree to prune.
    leaf_max : array-like of shape (n_leaves,)
        Largest class probability of each leaf.
    threshold : float
        Leaves need more than this to stay. See :func:`default_prune_threshold`.

    Returns
    -------
    edit : TreeEdit
        New structure and what it keeps.

    References
    ----------
    Nauta, van Bree, Seifert, CVPR 2021, section 3.4.

    Examples
    --------
    >>> edit = prune_structure(TreeStructure.full(2), [0.9, 0.8, 0.5, 0.5], 0.6)
    >>> edit.structure.n_leaves, edit.prototypes.tolist()
    (2, [1])
    """
    best = np.asarray(leaf_max, dtype=np.float64)
    keep = best > threshold
    kept_best = not bool(keep.any())
    if kept_best:
        keep = np.arange(structure.n_leaves) == int(best.argmax())
    alive = np.zeros(structure.n_nodes, dtype=bool)
    alive[structure.leaf_nodes] = keep
    place = np.arange(structure.n_nodes)
    for ids, left, right in _upward(structure):
        alive[ids] = alive[left] | alive[right]
        survivor = np.where(alive[left], place[left], place[right])
        place[ids] = np.where(alive[left] & alive[right], ids, survivor)
    return _edit(
        structure, place, np.array(structure.is_leaf), structure.leaf_nodes, kept_best
    )


def merge_structure(structure: TreeStructure, leaf_classes: ArrayLike) -> TreeEdit:
    """Merge sibling leaves of the same class into one, from the bottom up.

    Parameters
    ----------
    structure : TreeStructure
        Tree to simplify.
    leaf_classes : array-like of shape (n_leaves,)
        Class of the largest probability of each leaf.

    Returns
    -------
    edit : TreeEdit
        New structure; merged leaves share a group, so that their counts add up.

    Examples
    --------
    >>> edit = merge_structure(TreeStructure.full(2), [0, 0, 0, 1])
    >>> edit.leaf_groups.tolist()
    [0, 0, 1, 2]
    """
    closed = np.array(structure.is_leaf)
    label = np.zeros(structure.n_nodes, dtype=np.int64)
    label[structure.leaf_nodes] = np.asarray(leaf_classes)
    for ids, left, right in _upward(structure):
        closed[ids] = closed[left] & closed[right] & (label[left] == label[right])
        label[ids] = label[left]
    owner = np.arange(structure.n_nodes)
    for start, stop in structure.levels[1:]:
        ids = np.arange(start, stop)
        above = structure.parent[ids]
        owner[ids] = np.where(closed[above], owner[above], ids)
    place = np.arange(structure.n_nodes)
    return _edit(structure, place, closed, owner[structure.leaf_nodes])


def aggregate_leaves(structure: TreeStructure, values: ArrayLike) -> FloatArray:
    """Sum leaf values over the leaves below each node.

    Parameters
    ----------
    structure : TreeStructure
        The tree.
    values : array-like of shape (n_leaves, k)
        One row a leaf, for instance expected class counts.

    Returns
    -------
    sums : ndarray of shape (n_nodes, k)
        A leaf's own row; at an inner node the sum over all leaves under it.

    Examples
    --------
    >>> aggregate_leaves(TreeStructure.full(1), [[1.0, 0.0], [2.0, 5.0]]).tolist()
    [[3.0, 5.0], [1.0, 0.0], [2.0, 5.0]]
    """
    rows = np.asarray(values, dtype=np.float64)
    sums = np.zeros((structure.n_nodes, rows.shape[1]))
    sums[structure.leaf_nodes] = rows
    for ids, left, right in _upward(structure):
        sums[ids] = sums[left] + sums[right]
    return sums


def default_prune_threshold(n_classes: int) -> float:
    """Return a threshold a little above the uniform leaf, 1/K + 0.1 (1 - 1/K).

    Parameters
    ----------
    n_classes : int
        K, at least 1.

    Returns
    -------
    threshold : float
        0.55 for two classes, 0.1045 for 200.

    Examples
    --------
    >>> from skproto.nn.tree import default_prune_threshold
    >>> round(default_prune_threshold(2), 4)
    0.55
    """
    return 1 / n_classes + 0.1 * (1 - 1 / n_classes)


def _positions(nodes: IntArray, n_nodes: int) -> IntArray:
    """Invert a list of node ids, -1 elsewhere."""
    out = np.full(n_nodes, -1, dtype=np.int64)
    out[nodes] = np.arange(len(nodes))
    return out


def _upward(structure: TreeStructure) -> list[tuple[IntArray, IntArray, IntArray]]:
    """List inner nodes with their left and right children, lowest level first."""
    out = []
    for start, stop in reversed(structure.levels):
        ids = np.arange(start, stop)[structure.prototype[start:stop] >= 0]
        out.append((ids, structure.children_left[ids], structure.children_right[ids]))
    return out


def _breadth_first(
    structure: TreeStructure, place: IntArray, closed: BoolArray
) -> IntArray:
    """Old ids in new breadth-first order; `place` redirects, `closed` ends a path."""
    order, frontier = [], place[:1]
    while len(frontier):
        order.append(frontier)
        inner = frontier[~closed[frontier]]
        pairs = (structure.children_left[inner], structure.children_right[inner])
        frontier = place[np.stack(pairs, axis=1).ravel()]
    return np.concatenate(order)


def _edit(
    structure: TreeStructure,
    place: IntArray,
    closed: BoolArray,
    owner: IntArray,
    kept_best: bool = False,
) -> TreeEdit:
    """Build the edited tree; `owner` is the old node that takes in each old leaf."""
    nodes = _breadth_first(structure, place, closed)
    flags = closed[nodes]
    return TreeEdit(
        structure=TreeStructure.from_flags(flags),
        nodes=nodes,
        prototypes=structure.prototype[nodes[~flags]],
        leaf_groups=_positions(nodes[flags], structure.n_nodes)[owner],
        kept_best=kept_best,
    )
