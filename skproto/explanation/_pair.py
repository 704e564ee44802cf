"""Explanation of nearest-prototype classifiers: winner against runner-up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from skproto.explanation._base import Explanation
from skproto.explanation._cases import case_name, short_case
from skproto.explanation._checks import Checker, softmax
from skproto.explanation._drawing import MAX_COLUMNS, draw_features, shorten
from skproto.explanation._fields import dims
from skproto.explanation._global import GlobalExplanation
from skproto.explanation._image_blocks import Block, Line, place_texts
from skproto.explanation._numbers import number, signed, together
from skproto.explanation._pictures import row_pictures
from skproto.explanation._text import FAINT, MAX_FEATURES, Row, Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(kw_only=True, eq=False, repr=False)
class PairExplanation(Explanation):
    r"""Explanation of a decision between two prototypes.

    The winner is the nearest prototype of the predicted class, the runner-up the
    nearest one of all other classes. With their squared distances :math:`d_w` and
    :math:`d_r` the relative distance is :math:`\mu = (d_w - d_r) / (d_w + d_r)`,
    between -1 (the sample lies on the winner) and 0 (it lies on the border), and the
    feature differences add up to :math:`d_r - d_w`.

    Parameters
    ----------
    estimator_name, classes, scores, probabilities, prediction : object
        As in :class:`Explanation`.

    class_contributions, class_bias, similarities, prototypes, sample_index : object
        As in :class:`Explanation`. The units are the prototypes, or two:
        the nearest prototype of a class and the nearest one of all others.

    distances, samples, radius, radius_units, binary_margin : object, optional
        As in :class:`Explanation`.

    head_weights, link, kernel, bandwidths, metric : object, optional
        As in :class:`Explanation`.

    places, similarity_name, baseline : object, optional
        As in :class:`Explanation`.

    squared_distances : array of shape (n_samples, n_prototypes)
        Squared distances in the metric of the model.

    winner, runner_up : array of shape (n_samples,)
        Positions of the two prototypes in the table.

    relative_distance : array of shape (n_samples,)
        :math:`\mu`; 0 where both distances are 0.

    feature_differences : array of shape (n_samples, n_inner_features)
        Part of each feature in :math:`d_r - d_w`. Named by `prototypes` where the
        model works on the features themselves, else as latent features.

    relative_scores : bool, default=False
        Whether the score of a class is (d_other - d_own) / (d_other + d_own), with the
        squared distances to the nearest prototype of the class and of all others;
        checked by `verify` if True.

    temperature : float or None, default=None
        If given, the probabilities are the softmax over the classes of the scores
        divided by this; checked by `verify`.

    References
    ----------
    Sato and Yamada (1995). Generalized Learning Vector Quantization. NIPS 8.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.explanation import PairExplanation, PrototypeTable
    >>> case = PairExplanation(
    ...     estimator_name="GLVQClassifier", classes=["A", "B"], prediction=["A"],
    ...     scores=np.array([[11.0, -11.0]]) / 15, probabilities=[[0.9, 0.1]],
    ...     class_contributions=np.array([[[-2.0, 2.0], [13.0, -13.0]]]) / 15,
    ...     class_bias=[[0.0, 0.0]], similarities=[[0.37, 0.03]], sample_index=[17],
    ...     squared_distances=[[2.0, 13.0]], winner=[0], runner_up=[1],
    ...     relative_distance=[-11 / 15], feature_differences=[[3.0, 8.0]],
    ...     samples=[[1.0, 1.0]], binary_margin="positive", radius=[1.1],
    ...     prototypes=PrototypeTable(
    ...         ids=[0, 1], labels=["A", "B"], indices=[212, 4],
    ...         values=[[0.0, 0.0], [3.0, 4.0]], projection_distance=[0, 0.1],
    ...         is_case=[True, False], feature_names=["age", "dose"],
    ...     ),
    ... )
    >>> case.verify()
    >>> print(case)
    Sample 17: A (probability 0.90)
      for:        dose 1 (winner 0, runner-up 4): +8
                  age 1 (winner 0, runner-up 3): +3
      winner:     training row 212 (A), squared distance 2
      runner-up:  learned prototype 1 (B; nearest training row 4), squared distance 13
      margin:     relative distance -0.73 (-1: on the winner, 0: on the border)
      certified:  no change smaller than 1.10 (scaled units) alters the prediction
    """

    squared_distances: np.ndarray = field(metadata=dims("n", "P"))
    winner: np.ndarray = field(metadata=dims("n"))
    runner_up: np.ndarray = field(metadata=dims("n"))
    relative_distance: np.ndarray = field(metadata=dims("n"))
    feature_differences: np.ndarray = field(metadata=dims("n", "F"))
    relative_scores: bool = False
    temperature: float | None = None

    _row_format = "{case}: {value}"
    _amount = "squared distance"

    def _unit_axes(self) -> dict[str, int]:
        n_units = np.shape(self.class_contributions)[1]
        n_prototypes = len(self.prototypes)
        if n_units not in (2, n_prototypes):
            raise ValueError(
                f"{type(self).__name__}: class_contributions must have 2 or "
                f"{n_prototypes} units, got {n_units}."
            )
        return {"U": n_units}

    # Verification

    def _check(self, check: Checker) -> None:
        super()._check(check)
        squared = self.squared_distances.astype(float)
        if self.distances is not None:
            exact = self.distances.astype(float) ** 2
            check.close("squared distance", "nP", squared, exact, 1.0 + exact)
        own = self.prototypes.labels[None, :] == self.prediction[:, None]
        self._check_nearest(check, "winner", self.winner, squared, own)
        self._check_nearest(check, "runner-up", self.runner_up, squared, ~own)
        rows = np.arange(len(self))
        win, lose = squared[rows, self.winner], squared[rows, self.runner_up]
        check.close(
            "relative distance",
            "n",
            self.relative_distance,
            ratio(win - lose, win + lose),
        )
        parts = self.feature_differences.sum(axis=1, dtype=float)
        size = np.abs(self.feature_differences).sum(axis=1) + win + lose
        check.close("sum of the feature differences", "n", parts, lose - win, size)
        self._check_scores(check, squared)

    @staticmethod
    def _check_nearest(
        check: Checker,
        what: str,
        chosen: np.ndarray,
        squared: np.ndarray,
        allowed: np.ndarray,
    ) -> None:
        """Raise unless the chosen prototype is the nearest of the allowed ones."""
        inside = (chosen >= 0) & (chosen < squared.shape[1])
        check.true(f"the {what} is not in the table of prototypes", "n", inside)
        rows = np.arange(len(chosen))
        fits = allowed[rows, chosen]
        check.true(f"the {what} has the label of the other side", "n", fits)
        nearest = np.where(allowed, squared, np.inf).min(axis=1)
        near = squared[rows, chosen] <= nearest + check.rtol * (1.0 + nearest)
        check.true(f"the {what} is not the nearest prototype", "n", near)

    def _check_scores(self, check: Checker, squared: np.ndarray) -> None:
        """Check scores and probabilities that follow from distances to the classes."""
        if self.temperature is not None:
            logits = self.scores / self.temperature
            size = np.maximum(1.0, np.abs(logits).max(axis=1, keepdims=True))
            check.close("probability", "nK", self.probabilities, softmax(logits), size)
        if self.relative_scores:
            own = self.prototypes.labels[:, None] == self.classes[None, :]
            nearest = np.where(own, squared[:, :, None], np.inf).min(axis=1)
            other = np.where(own, np.inf, squared[:, :, None]).min(axis=1)
            has_own = own.any(axis=0)  # pruning may leave a class without prototype
            nearest, other = (
                np.where(has_own, nearest, 1.0),
                np.where(has_own, other, 1),
            )
            scores = np.where(
                has_own, ratio(other - nearest, other + nearest), self.scores
            )
            check.close("score", "nK", self.scores, scores)

    # Export

    def _unit_columns(self) -> dict[str, np.ndarray]:
        if self.class_contributions.shape[1] == len(self.prototypes):
            columns = super()._unit_columns()
            return {**columns, "squared_distance": self.squared_distances}
        return {"unit": np.array(["nearest of the class", "nearest of the others"])}

    def feature_frame(self) -> pd.DataFrame:
        """Return one row for each sample and feature: the decision by feature.

        Returns
        -------
        frame : pandas DataFrame
            Columns `sample`, `feature`, `value`, `winner_value`, `runner_up_value` (the
            three in the user's units, where known) and `difference`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import GLVQClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = GLVQClassifier(1, random_state=0).fit(X, y)
        >>> frame = model.explain(X[:1]).feature_frame()
        >>> len(frame)  # 4 features
        4
        """
        import pandas as pd

        n_samples, n_features = self.feature_differences.shape
        columns: dict[str, Any] = {
            "sample": np.repeat(self.sample_index, n_features),
            "feature": np.tile(self._feature_names(), n_samples),
        }
        reference = self.prototypes.reference
        if self._in_user_space() and reference is not None and self.samples is not None:
            columns["value"] = self.samples.ravel()
            columns["winner_value"] = reference[self.winner].ravel()
            columns["runner_up_value"] = reference[self.runner_up].ravel()
        columns["difference"] = self.feature_differences.ravel()
        return pd.DataFrame(columns)

    def _in_user_space(self) -> bool:
        """Tell whether the differences belong to the user's features."""
        return self.feature_differences.shape[1] == len(self.prototypes.names)

    def _feature_names(self) -> np.ndarray:
        if self._in_user_space():
            return self.prototypes.names
        n_latent = self.feature_differences.shape[1]
        return np.array([f"latent feature {j}" for j in range(n_latent)], dtype=object)

    # Words and pictures

    def _rows(self, i: int, n_for: int, n_against: int) -> list[Row]:
        if self.prototypes.places is not None:
            return self._case_rows(i)
        parts = self.feature_differences[i]
        top = np.abs(parts).max(initial=0.0)
        rows = []
        limits = (("for", 1.0, max(n_for, MAX_FEATURES)), ("against", -1.0, n_against))
        for group, sign, limit in limits:
            order = np.argsort(-sign * parts, kind="stable")[:limit]
            rows += [
                Row(group, self._feature(i, j), float(parts[j]), signed(parts[j]))
                for j in order
                if sign * parts[j] > FAINT * top
            ]
        return rows

    def _case_rows(self, i: int) -> list[Row]:
        """Return the two prototypes with their places."""
        return [
            Row(
                group,
                case_name(self.prototypes, k),
                float(self.squared_distances[i, k]),
                number(self.squared_distances[i, k]),
                note=self._found(i, k),
                form="{case}, squared distance {value}",
                pictures=row_pictures(self, i, k),
                prototype=int(k),
            )
            for group, k in (
                ("winner", self.winner[i]),
                ("runner-up", self.runner_up[i]),
            )
        ]

    def _feature(self, i: int, j: int, breaking: str = " ") -> str:
        """Name a feature with the values of the sample and of the two prototypes."""
        name = str(self._feature_names()[j])
        reference = self.prototypes.reference
        if self.samples is None or reference is None or not self._in_user_space():
            return name
        win, lose = self.winner[i], self.runner_up[i]
        own, won, lost = together(
            self.samples[i, j], reference[win, j], reference[lose, j]
        )
        return f"{name} {own}{breaking}(winner {won}, runner-up {lost})"

    def _notes(self, i: int) -> list[tuple[str, str]]:
        notes = []
        roles = (("winner", self.winner[i]), ("runner-up", self.runner_up[i]))
        for tag, k in roles if self.prototypes.places is None else ():
            squared = number(self.squared_distances[i, k])
            name = case_name(self.prototypes, k)
            notes.append((tag, f"{name}, squared distance {squared}"))
        return [*notes, ("margin", self._margin_text(i))]

    def _margin_text(self, i: int) -> str:
        mu = signed(self.relative_distance[i])
        return f"relative distance {mu} (-1: on the winner, 0: on the border)"

    def _blocks(self) -> list[Block]:
        blocks = []
        for k, role, whose in (
            (self.winner[0], "winner", "the predicted class"),
            (self.runner_up[0], "runner-up", "all other classes"),
        ):
            squared = number(self.squared_distances[0, k])
            line = Line(
                row_pictures(self, 0, k),
                f"squared distance {squared}",
                place_texts(self, 0, k),
            )
            label = self.prototypes.labels[k]
            title = f"{label} ({role}): nearest prototype of {whose}"
            blocks.append(Block(title, [line]))
        blocks[-1] = blocks[-1]._replace(total=self._margin_text(0))
        return blocks

    def _draw_chart(self, ax: Axes | None) -> Axes:
        labels = [
            self._feature(0, j, "\n") for j in range(self.feature_differences.shape[1])
        ]
        table, win, lose = self.prototypes, self.winner[0], self.runner_up[0]
        roles = ((win, "winner"), (lose, "runner-up"))
        one, other = (
            f"for {short_case(table, k)} ({shorten(table.labels[k], 16)}, {role})"
            for k, role in roles
        )
        xlabel = "squared distance to the runner-up minus to the winner (scaled units)"
        differences = self.feature_differences[0]
        return draw_features(
            labels, differences, (one, other), self._title(), xlabel, ax
        )


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, with 0 where the whole is 0."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), 0.0)


@dataclass(kw_only=True, eq=False, repr=False)
class PairGlobalExplanation(GlobalExplanation):
    """The prototypes of an LVQ model and the features its metric listens to.

    Parameters
    ----------
    estimator_name, classes, prototypes : object
        As in :class:`GlobalExplanation`.

    weights, win_counts, effective_size : object, optional
        As in :class:`GlobalExplanation`.

    relevances : array of shape (n_features,) or None, default=None
        Share of each feature in the metric.

    omega : array or None, default=None
        Matrix, or one matrix a class or prototype, whose product with a difference
        gives the distance.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import GMLVQClassifier
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> model = GMLVQClassifier(1, random_state=0).fit(X, y)
    >>> whole = model.explain_global()  # a PairGlobalExplanation
    >>> whole.relevance_frame()["feature"][0]
    'petal length (cm)'
    >>> round(float(whole.relevances.sum()), 6)
    1.0
    """

    relevances: np.ndarray | None = field(default=None, metadata=dims("F"))
    omega: np.ndarray | None = None

    def relevance_frame(self) -> pd.DataFrame:
        """Return the features with their relevance, most relevant first.

        Returns
        -------
        frame : pandas DataFrame
            Columns `feature` and `relevance`; empty where the metric has none.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import GMLVQClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = GMLVQClassifier(1, random_state=0).fit(X, y)
        >>> model.explain_global().relevance_frame().columns.tolist()
        ['feature', 'relevance']
        """
        import pandas as pd

        values = self._known_relevances()
        order = np.argsort(-values, kind="stable")
        names = self._relevance_names()
        return pd.DataFrame({"feature": names[order], "relevance": values[order]})

    def _known_relevances(self) -> np.ndarray:
        return np.zeros(0) if self.relevances is None else self.relevances

    def _relevance_names(self) -> np.ndarray:
        n_values = len(self._known_relevances())
        if n_values == len(self.prototypes.names):
            return self.prototypes.names
        return np.array([f"latent feature {j}" for j in range(n_values)], dtype=object)

    def _tables(self) -> list[Table]:
        tables = super()._tables()
        if self.relevances is not None:
            top = self.relevance_frame().head(MAX_COLUMNS)
            pairs = zip(top["feature"], top["relevance"], strict=True)
            rows = [[str(name), number(value)] for name, value in pairs]
            tables.append(Table("Relevance", ["feature", "relevance"], rows))
        return tables

    def _telling_features(self, deviation: np.ndarray) -> np.ndarray:
        if self.relevances is None or len(self.relevances) != deviation.shape[1]:
            return super()._telling_features(deviation)
        return np.argsort(-self.relevances, kind="stable")

    def _column_name(self, f: int) -> str:
        name = super()._column_name(f)
        values = self._known_relevances()
        if len(values) != len(self.prototypes.names):
            return name
        return f"{name}: {number(values[f], 2)}"
