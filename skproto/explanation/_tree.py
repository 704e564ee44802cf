"""Explanation of prototype trees: the path of a sample, node by node."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from skproto.explanation._base import Explanation
from skproto.explanation._cases import case_name, missed, place_columns
from skproto.explanation._checks import Checker
from skproto.explanation._drawing_image_tree import draw_image_path
from skproto.explanation._drawing_tree import Step, draw_path
from skproto.explanation._fields import check_options, dims
from skproto.explanation._image_blocks import Line, picture_notes, place_texts
from skproto.explanation._numbers import number, probability
from skproto.explanation._pictures import row_pictures
from skproto.explanation._text import Row
from skproto.explanation._tree_table import TreeTable

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

ROUTINGS = ("distributed", "greedy", "sample_max")


@dataclass(kw_only=True, eq=False, repr=False)
class TreeExplanation(Explanation):
    r"""Explanation of a prototype tree: the units are the leaves.

    The score of class :math:`k` is :math:`\sum_\ell \pi_\ell(x) C_{\ell k}` over the
    leaves, with the probability :math:`\pi_\ell` of reaching a leaf under "distributed"
    routing, and 1 for one leaf and 0 for the others under "greedy" and "sample_max".

    Parameters
    ----------
    estimator_name, classes, scores, probabilities, prediction : object
        As in :class:`Explanation`.

    class_contributions, class_bias, similarities, prototypes, sample_index : object
        As in :class:`Explanation`.

    distances, samples, radius, radius_units, binary_margin : object, optional
        As in :class:`Explanation`.

    head_weights, link, kernel, bandwidths, metric : object, optional
        As in :class:`Explanation`.

    places, similarity_name, baseline : object, optional
        As in :class:`Explanation`.

    tree : TreeTable
        The tree.

    node_probability : array of shape (n_samples, n_prototypes)
        Probability that each prototype is present (go right); equal to `similarities`.

    leaf_probability : array of shape (n_samples, n_leaves)
        Probability of reaching each leaf: the products of the node probabilities.

    path : list of n_samples lists of int
        Nodes of the hard path of each sample, root and leaf included: under
        "sample_max" the path to the most probable leaf, else right exactly where the
        probability is above 1/2.

    leaf : array of int of shape (n_samples,)
        Position of the leaf at the end of the path.

    agrees : array of bool of shape (n_samples,)
        Whether the leaf at the end of the path and the sum over all leaves favour the
        same class.

    node_distances : array of shape (n_samples, n_prototypes) or None, default=None
        Distances to the prototypes of the nodes, as `radii` are measured.

    routing : {"distributed", "greedy", "sample_max"}, default="distributed"
        How the leaves are added up.

    References
    ----------
    Nauta, van Bree and Seifert (2021). Neural Prototype Trees for Interpretable
    Fine-grained Image Recognition. CVPR.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.explanation import PrototypeTable, TreeExplanation, TreeTable
    >>> tree = TreeTable(
    ...     children_left=[1, -1, -1], children_right=[2, -1, -1],
    ...     prototype=[0, -1, -1], leaf=[-1, 0, 1],
    ...     leaf_distributions=[[0.9, 0.1], [0.2, 0.8]], radii=[1.1],
    ... )
    >>> contributions = np.array([0.22, 0.78])[None, :, None] * tree.leaf_distributions
    >>> scores = contributions.sum(axis=1)
    >>> case = TreeExplanation(
    ...     estimator_name="ProtoTreeClassifier", classes=["benign", "malignant"],
    ...     scores=scores, probabilities=scores, prediction=["malignant"],
    ...     class_contributions=contributions, class_bias=[[0.0, 0.0]],
    ...     similarities=[[0.78]], node_probability=[[0.78]], node_distances=[[0.82]],
    ...     leaf_probability=[[0.22, 0.78]], path=[[0, 2]], leaf=[1], agrees=[True],
    ...     tree=tree, sample_index=[17], samples=[[17.2]],
    ...     prototypes=PrototypeTable(
    ...         ids=[0], labels=["malignant"], indices=[212], values=[[17.9]],
    ...         projection_distance=[0], is_case=[True], feature_names=["mean radius"],
    ...     ),
    ... )
    >>> case.verify()
    >>> print(case)
    Sample 17: malignant (probability 0.65)
      1:      like training row 212, distance 0.820 < radius 1.10? yes, present with
                probability 0.78
                alike in mean radius 17.2 vs 17.9
      leaf:   leaf 1 (reached with probability 0.78): malignant 0.80, benign 0.20
      others: all other leaves together add malignant 0.02 to the 0.62 of this one
    """

    tree: TreeTable
    node_probability: np.ndarray = field(metadata=dims("n", "P"))
    leaf_probability: np.ndarray = field(metadata=dims("n", "L"))
    path: list[list[int]] = field(metadata={"per_sample": True})
    leaf: np.ndarray = field(metadata=dims("n"))
    agrees: np.ndarray = field(metadata=dims("n"))
    node_distances: np.ndarray | None = field(default=None, metadata=dims("n", "P"))
    routing: str = "distributed"

    _row_format = "{case}? {value}"
    _amount = "answer"
    _full_bar = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, {"routing": ROUTINGS})
        if len(self.path) != len(self):
            raise ValueError(
                f"{type(self).__name__}: path must hold {len(self)} paths, got "
                f"{len(self.path)}."
            )
        self.path = [[int(node) for node in path] for path in self.path]

    @property
    def _highest(self) -> float | None:
        return 1.0  # similarities are probabilities of presence

    def _unit_axes(self) -> dict[str, int]:
        n_leaves = len(self.tree.leaf_distributions)
        return {"U": n_leaves, "L": n_leaves}

    # Verification

    def _check(self, check: Checker) -> None:
        super()._check(check)
        tree = self.tree
        leaves = tree.leaf_distributions
        sums = leaves.sum(axis=1, dtype=float)
        check.close("sum of the class distribution", "L", sums, np.ones(len(sums)))
        check.close(
            "probability of presence", "nP", self.node_probability, self.similarities
        )
        self._check_distances(check)
        reach = tree.leaf_probability(self.node_probability)
        check.close("probability of reaching", "nL", self.leaf_probability, reach)
        evidence = self._leaf_weights()[:, :, None] * leaves
        check.close("contribution", "nLK", self.class_contributions, evidence)
        for i, path in enumerate(self.path):
            name = check.where("n", (i,))
            self._check_path(i, path, name, check.rtol)
        self._check_agreement(check)

    def _check_distances(self, check: Checker) -> None:
        """Check presence against distance and radius."""
        if self.node_distances is None:
            return
        if self.distances is not None:
            check.close("distance", "nP", self.node_distances, self.distances)
        radii, p = self.tree.radii, self.node_probability
        if radii is None:
            return
        share = self.node_distances.astype(float) / radii
        if self.tree.sharpness is not None:
            power = np.minimum(share, 1e6) ** self.tree.sharpness
            check.close("probability of presence", "nP", p, 2.0**-power)
        border = (np.abs(p - 0.5) < check.rtol) | (np.abs(share - 1) < check.rtol)
        fits = border | ((p > 0.5) == (share < 1))
        check.true("presence and distance against radius disagree", "nP", fits)

    def _check_agreement(self, check: Checker) -> None:
        soft = self.leaf_probability.astype(float) @ self.tree.leaf_distributions
        hard = self.tree.leaf_distributions[self.leaf]
        ordered = np.sort(soft, axis=1)
        tie = ordered[:, -1] - ordered[:, -2] < check.rtol
        same = soft.argmax(axis=1) == hard.argmax(axis=1)
        text = "whether hard path and soft sum agree is shown wrongly"
        check.true(text, "n", tie | (same == self.agrees))

    def _leaf_weights(self) -> np.ndarray:
        """Return how much each leaf counts, shape (n, L)."""
        if self.routing == "distributed":
            return self.leaf_probability
        weights = np.zeros_like(self.leaf_probability)
        weights[np.arange(len(self)), self.leaf] = 1.0
        return weights

    def _check_path(self, i: int, path: list[int], name: str, rtol: float) -> None:
        """Raise unless a path is the one that the probabilities lead to."""
        tree = self.tree
        if path[:1] != [0] or not 0 <= path[-1] < len(tree.leaf):
            raise ValueError(f"{name}: the path must lead from node 0 to a leaf.")
        for node, child in pairwise(path):
            sides = (tree.children_left[node], tree.children_right[node])
            if child not in sides or child < 0:
                raise ValueError(f"{name}: the path goes from node {node} to {child}.")
            p = self.node_probability[i, tree.prototype[node]]
            expected = sides[int(p > 0.5)]
            clear = self.routing != "sample_max" and abs(p - 0.5) > rtol
            if clear and child != expected:
                raise ValueError(
                    f"{name}: the path goes from node {node} to {child}, but the "
                    f"probability of presence {p:.9g} leads to {expected}."
                )
        if tree.leaf[path[-1]] != self.leaf[i] or self.leaf[i] < 0:
            raise ValueError(
                f"{name}: leaf {self.leaf[i]} is shown, but the path ends in leaf "
                f"{tree.leaf[path[-1]]}."
            )
        reach = self.leaf_probability[i]
        if self.routing == "sample_max" and reach[self.leaf[i]] < reach.max() - rtol:
            raise ValueError(
                f"{name}: leaf {self.leaf[i]} is shown, but leaf {reach.argmax()} is "
                "reached with the highest probability."
            )

    # Export

    def _unit_columns(self) -> dict[str, np.ndarray]:
        leaves = self.tree.leaf_distributions
        return {
            "leaf": np.arange(len(leaves)),
            "leaf_label": self.classes[leaves.argmax(axis=1)],
            "leaf_probability": self.leaf_probability,
        }

    def path_frame(self) -> pd.DataFrame:
        """Return one row for each sample and node of its path, the leaf left out.

        Returns
        -------
        frame : pandas DataFrame
            Columns `sample`, `step`, `node`, `prototype`, `training_row`, `distance`,
            `radius` (the two only where known), `probability`, the place in the sample
            where known, and `present`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import ProtoTreeClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = ProtoTreeClassifier(depth=2, max_epochs=8, random_state=0).fit(X, y)
        >>> frame = model.explain(X[:2]).path_frame()
        >>> frame.columns.tolist()[:4]
        ['sample', 'step', 'node', 'prototype']
        """
        import pandas as pd

        visits = [
            (i, step, node, int(self.tree.prototype[node]), path[step] == right)
            for i, path in enumerate(self.path)
            for step, node in enumerate(path[:-1], start=1)
            for right in (self.tree.children_right[node],)
        ]
        shape = (len(visits), 5)
        i, step, node, k, present = np.array(visits, dtype=int).reshape(shape).T
        columns = {
            "sample": self.sample_index[i],
            "step": step,
            "node": node,
            "prototype": self.prototypes.ids[k],
            "training_row": self.prototypes.indices[k],
        }
        if self.node_distances is not None:
            columns["distance"] = self.node_distances[i, k]
        if self.tree.radii is not None:
            columns["radius"] = self.tree.radii[k]
        columns["probability"] = self.node_probability[i, k]
        places = place_columns(self.prototypes, self.places, 2)
        columns.update({name: values[i, k] for name, values in places.items()})
        columns["present"] = present.astype(bool)
        return pd.DataFrame(columns)

    # Words and pictures

    def _question(self, i: int, node: int) -> tuple[str, bool]:
        """Say what a node asks of a sample, and whether its prototype is present."""
        k = self.tree.prototype[node]
        step = self.path[i].index(node)
        present = bool(self.path[i][step + 1] == self.tree.children_right[node])
        text = f"like {case_name(self.prototypes, k, label=False)}"
        if self.node_distances is not None:
            distance = float(self.node_distances[i, k])
            text += f", distance {number(distance)}"
            if self.tree.radii is not None:
                radius = float(self.tree.radii[k])
                relation = "<" if distance < radius else ">="
                text += f" {relation} radius {number(radius)}"
        return text, present

    def _answer(self, i: int, node: int, present: bool) -> str:
        """Say yes or no, and how surely."""
        value = self.node_probability[i, self.tree.prototype[node]]
        word = "yes" if present else "no"
        return f"{word}, present with probability {probability(value)}"

    def _leaf_text(self, i: int) -> str:
        """Name the leaf of a sample with its most likely classes."""
        leaf = self.leaf[i]
        values = self.tree.leaf_distributions[leaf]
        likely = np.argsort(-values, kind="stable")[:3]
        shares = [f"{self.classes[k]} {probability(values[k])}" for k in likely]
        reach = probability(self.leaf_probability[i, leaf])
        return f"leaf {leaf} (reached with probability {reach}): {', '.join(shares)}"

    def _rows(self, i: int, n_for: int, n_against: int) -> list[Row]:
        rows = []
        for step, node in enumerate(self.path[i][:-1], start=1):
            k = self.tree.prototype[node]
            text, present = self._question(i, node)
            value = float(self.node_probability[i, k])
            shown = self._answer(i, node, present)
            row = Row(str(step), text, value, shown, prototype=int(k))
            if self.prototypes.places is None:
                row = row._replace(compared=self._compare(i, k, alike=present))
            else:
                note = self._found(i, k) if present else missed(self._found(i, k))
                row = row._replace(note=note, pictures=row_pictures(self, i, k))
            rows.append(row)
        return rows

    def _notes(self, i: int) -> list[tuple[str, str]]:
        notes = [("leaf", self._leaf_text(i))]
        predicted, _ = self._rivals(i)
        own = self.class_contributions[i, self.leaf[i], predicted]
        rest = self.scores[i, predicted] - own
        if self.routing == "distributed" and len(self.tree.leaf_distributions) > 1:
            text = (
                f"all other leaves together add {self.classes[predicted]} "
                f"{probability(rest)} to the {probability(own)} of this one"
            )
            notes.append(("others", text))
        if not self.agrees[i]:
            notes.append(("caution", self._disagreement(i)))
        return notes

    def _disagreement(self, i: int) -> str:
        soft = self.leaf_probability[i].astype(float) @ self.tree.leaf_distributions
        hard = self.tree.leaf_distributions[self.leaf[i]]
        return (
            f"the path alone says {self.classes[hard.argmax()]}, all leaves "
            f"together say {self.classes[soft.argmax()]}"
        )

    def _path_line(self, step: int, node: int) -> tuple[Line, bool]:
        """Return a node of the path of the first sample as a line of the picture."""
        k = int(self.tree.prototype[node])
        text, present = self._question(0, node)
        measured = text.partition(", distance ")[2]
        value = probability(self.node_probability[0, k])
        sum_up = f"{step}. {'present' if present else 'absent'}: probability of "
        sum_up += f"presence {value}"
        texts = place_texts(self, 0, k, label=False)
        texts = texts if present else tuple(map(missed, texts))
        if measured:
            texts = (f"distance {measured}", *texts)
        return Line(row_pictures(self, 0, k), sum_up, texts), present

    def _leaf_parts(self) -> tuple[str, list[str], np.ndarray]:
        """Return name of the leaf, the classes, and what leaf and others give them."""
        leaf = int(self.leaf[0])
        own = self.class_contributions[0, leaf]
        reach = probability(self.leaf_probability[0, leaf])
        name = f"leaf {leaf}, reached with probability {reach}"
        names = [str(label) for label in self.classes]
        return name, names, np.stack([own, self.scores[0] - own])

    def _draw_sheet(self, ax: Axes | None) -> Axes:
        nodes = self.path[0][:-1]
        steps = [self._path_line(s, node) for s, node in enumerate(nodes, start=1)]
        title = self._title()
        return draw_image_path(
            title, steps, self._leaf_parts(), picture_notes(self), ax
        )

    def _draw_chart(self, ax: Axes | None) -> Axes:
        steps = []
        for node in self.path[0][:-1]:
            k = self.tree.prototype[node]
            text, present = self._question(0, node)
            answer = self._answer(0, node, present)
            compared = self._compare(0, k, alike=present)
            steps.append(Step(f"{text}?", str(compared or ""), answer, present))
        name, names, parts = self._leaf_parts()
        return draw_path(steps, name, names, parts, self._title(), ax)
