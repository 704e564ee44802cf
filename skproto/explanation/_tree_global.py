"""What a prototype tree knows as a whole: the tree, its leaves and what they cover."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from skproto.explanation._cases import case_name, labelled_case, short_case
from skproto.explanation._drawing import PALETTE, distinct
from skproto.explanation._drawing_image_tree import Node, draw_image_tree
from skproto.explanation._drawing_tree import TreeOptions, draw_tree
from skproto.explanation._fields import dims
from skproto.explanation._gallery import (
    Branch,
    context_pictures,
    tile_name,
    tile_pictures,
)
from skproto.explanation._global import GlobalExplanation
from skproto.explanation._image_blocks import gallery_notes, has_pictures, source_text
from skproto.explanation._numbers import number, percent, probability
from skproto.explanation._pictures import Picture, range_of
from skproto.explanation._text import Table
from skproto.explanation._tree_table import TreeTable

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

WITHIN = "within: distance up to which a part counts as present"
MAX_NAMES = 12  # classes that a note lists


@dataclass(kw_only=True, eq=False, repr=False)
class TreeGlobalExplanation(GlobalExplanation):
    """A prototype tree: what each node asks and what each leaf says.

    Parameters
    ----------
    estimator_name, classes, prototypes : object
        As in :class:`GlobalExplanation`.

    weights, win_counts, effective_size : object, optional
        As in :class:`GlobalExplanation`.

    tree : TreeTable
        The tree.

    class_sets : list of n_nodes lists of class labels
        Classes that the leaves at or below each node favour.

    training_mass : array of shape (n_nodes,)
        Share of the training data that reaches each node.

    coverage : array of shape (n_leaves,)
        Share of the training data that reaches each leaf.

    Examples
    --------
    >>> from skproto.explanation import (
    ...     PrototypeTable, TreeGlobalExplanation, TreeTable
    ... )
    >>> model = TreeGlobalExplanation(
    ...     estimator_name="ProtoTreeClassifier", classes=["benign", "malignant"],
    ...     tree=TreeTable(
    ...         children_left=[1, -1, -1], children_right=[2, -1, -1],
    ...         prototype=[0, -1, -1], leaf=[-1, 0, 1],
    ...         leaf_distributions=[[0.9, 0.1], [0.2, 0.8]], radii=[1.1],
    ...     ),
    ...     class_sets=[["benign", "malignant"], ["benign"], ["malignant"]],
    ...     training_mass=[1.0, 0.62, 0.38], coverage=[0.62, 0.38],
    ...     prototypes=PrototypeTable(
    ...         ids=[0], labels=["malignant"], indices=[212], values=[[17.9]],
    ...         projection_distance=[0], is_case=[True], feature_names=["mean radius"],
    ...     ),
    ... )
    >>> print(model.to_text())
    like training row 212 (within 1.10)? [mean radius 17.9]
    |-- absent: leaf 0: benign 0.90 (62% of the training data)
    |-- present: leaf 1: malignant 0.80 (38% of the training data)
    """

    tree: TreeTable
    class_sets: list[Any]
    training_mass: np.ndarray = field(metadata=dims("nodes"))
    coverage: np.ndarray = field(metadata=dims("L"))

    def __post_init__(self) -> None:
        super().__post_init__()
        n_nodes = len(self.tree.children_left)
        for name, length in (
            ("class_sets", n_nodes),
            ("training_mass", n_nodes),
            ("coverage", len(self.tree.leaf_distributions)),
        ):
            if len(getattr(self, name)) != length:
                raise ValueError(
                    f"{type(self).__name__}: {name} must have length {length}, got "
                    f"{len(getattr(self, name))}."
                )

    def _heading(self) -> str:
        n_leaves = len(self.tree.leaf_distributions)
        return f"{super()._heading()}, {n_leaves} leaves"

    # Words

    def _leaf_text(self, node: int) -> str:
        leaf = self.tree.leaf[node]
        values = self.tree.leaf_distributions[leaf]
        best = int(values.argmax())
        says = f"{self.classes[best]} {probability(values[best])}"
        return (
            f"leaf {leaf}: {says} ({percent(self.coverage[leaf])} of the training data)"
        )

    def _node_text(self, node: int, *, marks: bool) -> str:
        k = self.tree.prototype[node]
        text = f"like {case_name(self.prototypes, k, label=False)}"
        if self.tree.radii is not None:
            text += f" (within {number(self.tree.radii[k])})"
        telling = self._marks(k) if marks else ""
        return f"{text}?" + (f" [{telling}]" if telling else "")

    def to_text(self) -> str:
        """Return the tree as indented text, one line a node.

        Returns
        -------
        text : str
            The absent side comes first.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import ProtoTreeClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = ProtoTreeClassifier(depth=2, max_epochs=8, random_state=0).fit(X, y)
        >>> "training row" in model.explain_global().to_text()
        True
        """
        return self._lines(marks=True)

    def _lines(self, *, marks: bool) -> str:
        """Return the tree as text, with or without what the cases stand out by."""
        lines = []
        for node, depth, answer in self._walk():
            bars = "|   " * (depth - 1) + "|-- " * (depth > 0)
            if self.tree.children_left[node] < 0:
                lines.append(f"{bars}{answer}{self._leaf_text(node)}")
            else:
                lines.append(f"{bars}{answer}{self._node_text(node, marks=marks)}")
        return "\n".join(lines)

    def _walk(self) -> Iterator[tuple[int, int, str]]:
        """Go through node, depth, and the answer that leads there; absent first."""
        stack = [(0, 0, "")]
        while stack:
            node, depth, answer = stack.pop()
            yield node, depth, answer
            if self.tree.children_left[node] < 0:
                continue
            sides = (self.tree.children_right[node], self.tree.children_left[node])
            answers = ("present: ", "absent: ")
            for child, reply in zip(sides, answers, strict=True):
                stack.append((int(child), depth + 1, reply))

    def _tables(self) -> list[Table]:
        return [asked_table(self)] if has_pictures(self) else super()._tables()

    def _outline(self) -> list[Branch]:
        if not has_pictures(self):
            return []
        branches = []
        for node, depth, answer in self._walk():
            if self.tree.children_left[node] < 0:
                branches.append(Branch(depth, [], answer, self._leaf_text(node)))
                continue
            k, text = int(self.tree.prototype[node]), self._node_text(node, marks=False)
            pictures = context_pictures(self.prototypes, k, range_of(self))
            branches.append(Branch(depth, pictures, answer, text))
        return branches

    def _outline_notes(self) -> list[str]:
        notes = self._gallery_notes()
        return [*notes, WITHIN] if self.tree.radii is not None else notes

    def _text(self) -> str:
        return self._lines(marks=False)

    def node_frame(self) -> pd.DataFrame:
        """Return one row for each node.

        Returns
        -------
        frame : pandas DataFrame
            Columns `node`, `left`, `right` (-1 at the leaves), `prototype`,
            `training_row` (-1 at the leaves), `leaf` (-1 at inner nodes),
            `training_mass` and `classes` (those favoured at or below the node).

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import ProtoTreeClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = ProtoTreeClassifier(depth=2, max_epochs=8, random_state=0).fit(X, y)
        >>> frame = model.explain_global().node_frame()
        >>> len(frame) == 2 * model.get_n_leaves() - 1
        True
        """
        import pandas as pd

        tree, inner = self.tree, ~self.tree.is_leaf
        ids, rows = np.full(len(inner), -1), np.full(len(inner), -1)
        ids[inner] = self.prototypes.ids[tree.prototype[inner]]
        rows[inner] = self.prototypes.indices[tree.prototype[inner]]
        return pd.DataFrame(
            {
                "node": np.arange(len(inner)),
                "left": tree.children_left,
                "right": tree.children_right,
                "prototype": ids,
                "training_row": rows,
                "leaf": tree.leaf,
                "training_mass": self.training_mass,
                "classes": [list(labels) for labels in self.class_sets],
            }
        )

    # Pictures

    def plot(
        self,
        ax: Axes | None = None,
        max_depth: int = 5,
        path: Iterable[int] = (),
    ) -> Axes:
        """Draw the tree: nodes with their cases, leaves with bars of the classes.

        Where the prototypes are parts of images, the nodes show them, and the tree is
        drawn from left to right on a page of A4 width.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; a new figure that grows with the tree where None.

        max_depth : int, default=5
            Depth at which the drawing stops; what lies below is drawn as one leaf with
            the classes of all training data that get there.

        path : iterable of int, default=()
            Nodes to set off, such as the path of a sample in
            :class:`TreeExplanation`.

        Returns
        -------
        ax : matplotlib Axes
            The axes drawn on.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        below, depth = self._below(), self._depth()
        closed = self.tree.is_leaf | (depth >= max_depth)
        texts = [
            self._short_text(node, below[node], closed=bool(end))
            for node, end in enumerate(closed)
        ]
        names = [str(label) for label in self.classes]
        children = (self.tree.children_left, self.tree.children_right)
        title = self._heading()
        options = TreeOptions(max_depth, ax, frozenset(int(node) for node in path))
        if not has_pictures(self):
            return draw_tree(children, texts, below, names, title, options)
        nodes = [
            Node(None if end or depth[node] < 0 else self._node_picture(node), text)
            for node, (end, text) in enumerate(zip(closed, texts, strict=True))
        ]
        heading = (title, names, [*gallery_notes(self), *self._node_notes()])
        return draw_image_tree(children, nodes, below, heading, options)

    def _node_picture(self, node: int) -> Picture | None:
        """Return what is shown at an inner node."""
        k = int(self.tree.prototype[node])
        pictures = tile_pictures(self.prototypes, k, range_of(self))
        return pictures[0] if pictures else None

    def _short_text(self, node: int, values: np.ndarray, *, closed: bool) -> str:
        if not closed:
            k = self.tree.prototype[node]
            if has_pictures(self):
                return self._node_words(int(k))
            known = self.prototypes.sample_labels is not None
            name = (labelled_case if known else short_case)(self.prototypes, k)
            text = name.replace(", ", ",\n").replace(" (", "\n(")
            if self.tree.radii is not None:
                text += f"\nwithin {number(self.tree.radii[k])}"
            return text
        best = int(values.argmax())
        text = f"{distinct(self.classes, 13)[best]}\n{probability(values[best])}"
        text += f", {percent(self.training_mass[node])}"
        return text if self.tree.is_leaf[node] else f"{text}\n(more below)"

    def _node_notes(self) -> list[str]:
        """Say what the numbers at nodes and leaves are."""
        notes = [WITHIN] if self.tree.radii is not None else []
        notes.append(
            "at the end: the most likely class, its probability, and the share of the "
            "training images that get there"
        )
        n_classes = len(self.classes)
        if n_classes > len(PALETTE):
            names = distinct(self.classes, 16)
            listed = f"{names[0]} to {names[-1]}, in their order"
            if n_classes <= MAX_NAMES:
                listed = ", ".join(names)
            notes.append(f"bars from left to right: {listed}")
        return notes

    def _node_words(self, k: int) -> str:
        """Name the source of a prototype below its picture."""
        text = " ".join(tile_name(self.prototypes, k)[-1:])
        if self.tree.radii is not None:
            text += f"\nwithin {number(self.tree.radii[k])}"
        return text

    def _depth(self) -> np.ndarray:
        """Return the depth of each node."""
        depth = np.zeros(len(self.tree.children_left), dtype=int)
        for node in self.tree.preorder():
            if self.tree.children_left[node] >= 0:
                depth[self.tree.children_left[node]] = depth[node] + 1
                depth[self.tree.children_right[node]] = depth[node] + 1
        return depth

    def _below(self) -> np.ndarray:
        """Return the class distribution at or below each node, shape (n_nodes, K)."""
        tree = self.tree
        mass = np.zeros((len(tree.children_left), len(self.classes)))
        leaves = np.flatnonzero(tree.is_leaf)
        at = tree.leaf[leaves]
        # A leaf that no training data reach still has a distribution to draw.
        share = np.maximum(self.coverage[at], 1e-12)
        mass[leaves] = tree.leaf_distributions[at] * share[:, None]
        for node in reversed(tree.preorder()):
            if tree.children_left[node] >= 0:
                mass[node] = mass[tree.children_left[node]]
                mass[node] += mass[tree.children_right[node]]
        return mass / mass.sum(axis=1, keepdims=True)


def asked_table(shown: GlobalExplanation) -> Table:
    """Return a table of the parts that trees ask for, and of whom they are in."""
    table = shown.prototypes
    columns = ["prototype", "class that it is mostly present in"]
    rows = [
        [source_text(table, k, label=False), str(table.labels[k])]
        for k in range(len(shown))
    ]
    if shown.win_counts is not None:
        columns.append("training images that it is present in")
        for row, count in zip(rows, shown.win_counts, strict=True):
            row.append(str(count))
    return Table("", columns, rows)
