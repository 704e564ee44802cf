"""Explanation of an ensemble of prototype trees: the trees' paths, merged."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from skproto.explanation._base import Explanation
from skproto.explanation._cases import case_name, short_case
from skproto.explanation._checks import Checker
from skproto.explanation._drawing import draw_contributions
from skproto.explanation._drawing_images import draw_sheet
from skproto.explanation._fields import take
from skproto.explanation._gallery import tile_pictures
from skproto.explanation._image_blocks import Block, Line, has_pictures, path_notes
from skproto.explanation._marks import step_marks
from skproto.explanation._numbers import number, probability, signed
from skproto.explanation._pictures import (
    Picture,
    input_picture,
    number_picture,
    range_of,
)
from skproto.explanation._text import Row, strongest
from skproto.explanation._tree import TreeExplanation

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


MAX_TREES, MAX_NODES = 8, 6  # trees drawn, and nodes of each


@dataclass(kw_only=True, eq=False, repr=False)
class EnsembleExplanation(Explanation):
    """Explanation of trees whose scores are averaged: the units are all their leaves.

    Parameters
    ----------
    estimator_name, classes, scores, probabilities, prediction : object
        As in :class:`Explanation`.

    class_contributions, class_bias, similarities, prototypes, sample_index : object
        As in :class:`Explanation`. The contributions are those of the
        trees, one tree after the other, divided by the number of trees; prototypes and
        similarities are those of all trees, in the same order.

    distances, samples, radius, radius_units, binary_margin : object, optional
        As in :class:`Explanation`.

    head_weights, link, kernel, bandwidths, metric : object, optional
        As in :class:`Explanation`.

    places, similarity_name, baseline : object, optional
        As in :class:`Explanation`.

    trees : list of TreeExplanation
        The explanations by the single trees, of the same samples.

    Raises
    ------
    ValueError
        If there is no tree, or the trees explain other numbers of samples.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import ProtoTreeClassifier, ProtoTreeEnsembleClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> tree = ProtoTreeClassifier(depth=2, max_epochs=4)
    >>> model = ProtoTreeEnsembleClassifier(tree, n_estimators=2, random_state=0)
    >>> case = model.fit(X, y).explain(X[:1])  # an EnsembleExplanation
    >>> len(case.trees)
    2
    >>> case.verify()
    """

    trees: list[TreeExplanation]

    _row_format = "{case}, contribution {value}"
    _units = "leaves"

    def __post_init__(self) -> None:
        sizes = {len(tree) for tree in self.trees}
        if sizes != {len(self.prediction)}:
            raise ValueError(
                f"{type(self).__name__}: every tree must explain "
                f"{len(self.prediction)} samples, got {sorted(sizes)}."
            )
        super().__post_init__()

    def _unit_axes(self) -> dict[str, int]:
        return {"U": sum(len(tree.tree.leaf_distributions) for tree in self.trees)}

    def _take(self, rows: np.ndarray) -> Any:
        return take(self, rows, trees=[tree[rows] for tree in self.trees])

    def _check(self, check: Checker) -> None:
        for t, tree in enumerate(self.trees):
            try:
                tree.verify(check.rtol)
            except ValueError as error:
                raise ValueError(f"tree {t}: {error}") from error
        super()._check(check)
        parts = [tree.class_contributions for tree in self.trees]
        mean = np.concatenate(parts, axis=1) / len(self.trees)
        check.close("contribution", "nLK", self.class_contributions, mean)
        similar = np.concatenate([tree.similarities for tree in self.trees], axis=1)
        check.close("similarity", "nP", self.similarities, similar)

    # Export

    def _unit_columns(self) -> dict[str, np.ndarray]:
        parts = [tree._unit_columns() for tree in self.trees]
        columns = {
            "tree": np.repeat(
                np.arange(len(parts)), [len(part["leaf"]) for part in parts]
            )
        }
        for name in parts[0]:
            columns[name] = np.concatenate([part[name] for part in parts], axis=-1)
        return columns

    def path_frame(self) -> pd.DataFrame:
        """Return the paths of all trees: one row for each tree, sample and node.

        Returns
        -------
        frame : pandas DataFrame
            Column `tree`, then those of :meth:`TreeExplanation.path_frame`.
        """
        import pandas as pd

        frames = [tree.path_frame() for tree in self.trees]
        for t, frame in enumerate(frames):
            frame.insert(0, "tree", t)
        return pd.concat(frames, ignore_index=True)

    # Words and pictures

    def _votes(self, i: int) -> np.ndarray:
        """Return what each tree gives each class, shape (n_trees, K)."""
        parts = [tree.class_contributions[i].sum(axis=0) for tree in self.trees]
        return np.stack(parts) / len(self.trees)

    def _story(self, i: int, t: int) -> str:
        """Tell the path of a sample in one tree in one sentence."""
        tree = self.trees[t]
        steps = []
        for node, child in pairwise(tree.path[i]):
            present = child == tree.tree.children_right[node]
            name = case_name(tree.prototypes, tree.tree.prototype[node], label=False)
            steps.append(f"{'like' if present else 'not like'} {name}")
        values = tree.tree.leaf_distributions[tree.leaf[i]]
        best = int(values.argmax())
        end = f"{self.classes[best]} {probability(values[best])}"
        path = ", ".join(steps) or "no question asked"
        return f"tree {t}: {path} -> leaf {tree.leaf[i]} ({end})"

    def _rows(self, i: int, n_for: int, n_against: int) -> list[Row]:
        predicted, rival = self._rivals(i)
        votes = self._votes(i)
        net = votes[:, predicted] - votes[:, rival]
        rows = []
        for group, sign, limit in (("for", 1.0, n_for), ("against", -1.0, n_against)):
            for t in strongest(sign * net, limit, np.abs(net).max()):
                value = float(net[t])
                row = Row(group, self._story(i, t), value, signed(value))
                rows.append(row._replace(pictures=self._path_pictures(i, t)))
        return rows

    def _path_pictures(self, i: int, t: int) -> tuple[Picture, ...]:
        """Return a sample, and the parts that a tree asks for on its path.

        The number of a step marks the part and the place of the sample nearest to it.
        """
        tree = self.trees[t]
        if not has_pictures(tree):
            return ()
        values = range_of(tree)
        steps = list(pairwise(tree.path[i]))[:MAX_NODES]
        asked = [int(tree.tree.prototype[node]) for node, _ in steps]
        pictures: list[Picture] = []
        own = input_picture(tree, i, None, values)
        if own is not None and tree.places is not None and asked:
            pictures.append(own._replace(marks=step_marks(tree.places, i, asked)))
        for step, (node, child) in enumerate(steps, start=1):
            present = child == tree.tree.children_right[node]
            k = asked[step - 1]
            for picture in tile_pictures(tree.prototypes, k, values)[:1]:
                name = short_case(tree.prototypes, k).partition(",")[0]
                caption = f"{'like' if present else 'not like'} {name}"
                numbered = picture._replace(caption=caption, part=0)
                pictures.append(number_picture(numbered, step))
        return tuple(pictures)

    def _draw(self, ax: Axes | None) -> Axes:
        pictured = any(has_pictures(tree) for tree in self.trees)
        if not pictured:
            return self._draw_chart(ax)
        return draw_sheet(self._title(), self._blocks(), path_notes(self), ax)

    def _picture_notes(self) -> list[str]:
        pictured = any(has_pictures(tree) for tree in self.trees)
        return path_notes(self) if pictured else []

    def _blocks(self) -> list[Block]:
        pair = list(self._rivals(0))
        votes = self._votes(0)[:, pair]
        order = np.argsort(-np.abs(votes[:, 0] - votes[:, 1]), kind="stable")
        shown, rest = order[:MAX_TREES], order[MAX_TREES:]
        own, other = (str(self.classes[c]) for c in pair)
        lines = []
        for t in shown.tolist():
            gives = (
                f"{signed(votes[t, 0])} for {own}, {signed(votes[t, 1])} for {other}"
            )
            pictures = self._path_pictures(0, t)
            hidden = len(self.trees[t].path[0]) - 1 - MAX_NODES
            text = self._story(0, t).rpartition(" -> ")[2]
            texts = (text, f"first {MAX_NODES} nodes shown, {hidden} more")
            lines.append(
                Line(pictures, f"tree {t}: {gives}", texts[: 1 + (hidden > 0)])
            )
        total = " and ".join(
            f"{number(self.scores[0, c])} for {self.classes[c]}" for c in pair
        )
        if len(rest):
            total = f"{len(rest)} other trees; {total}"
        title = f"What the trees give {own} (predicted) and {other} (runner-up)"
        return [Block(title, lines, f"all trees: {total}")]

    def _notes(self, i: int) -> list[tuple[str, str]]:
        predicted, _ = self._rivals(i)
        wins = int((self._votes(i).argmax(axis=1) == predicted).sum())
        text = f"{wins} of {len(self.trees)} trees favour {self.prediction[i]}"
        return [("trees", text), *super()._notes(i)]

    def _draw_chart(self, ax: Axes | None) -> Axes:
        pair = list(self._rivals(0))
        labels = []
        for t, tree in enumerate(self.trees):
            leaf = tree.leaf[0]
            reach = probability(tree.leaf_probability[0, leaf])
            labels.append(f"tree {t}\nleaf {leaf}, reached {reach}")
        return draw_contributions(
            labels,
            self._votes(0)[:, pair],
            self.class_bias[0][pair],
            [str(self.classes[k]) for k in pair],
            self._title(),
            ax,
        )
