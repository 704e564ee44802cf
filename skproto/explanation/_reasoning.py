"""Explanation of classification by components: what is present, what is absent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from skproto.explanation._base import Explanation
from skproto.explanation._cases import bar_labels, case_name, labelled_case, missed
from skproto.explanation._checks import Checker
from skproto.explanation._drawing import (
    MAX_COLUMNS,
    MAX_ROWS,
    draw_reasoning,
    draw_table,
)
from skproto.explanation._fields import dims
from skproto.explanation._gallery import Group, make_group
from skproto.explanation._global import GlobalExplanation
from skproto.explanation._image_blocks import (
    MAX_LINES,
    Block,
    Line,
    has_pictures,
    place_texts,
)
from skproto.explanation._numbers import number, signed, similarity
from skproto.explanation._pictures import row_pictures
from skproto.explanation._text import Row, Table, strongest

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Share of a component, and of all evidence for a class, that counts as hardly any.
HARDLY, FAINT_SCORE = 0.05, 0.05
NO_SHARE = 0.005  # weights of components below this are not shown


@dataclass(kw_only=True, eq=False, repr=False)
class ReasoningExplanation(Explanation):
    r"""Explanation of a classification by components.

    The score of class :math:`k` is the sum over the components :math:`u` of a presence
    share :math:`R^+_{uk} d_u` and an absence share :math:`R^-_{uk} (1 - d_u)`, where
    :math:`d_u` is the detection probability, given in `similarities`.

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

    presence, absence : array of shape (n_samples, n_prototypes, n_classes)
        Shares by which the presence and the absence of each component count for each
        class; their sum is `class_contributions`.

    reasoning_positive, reasoning_negative : array of shape (n_prototypes, n_classes)
        Reasoning probabilities of each class, or of shape (n_samples, n_prototypes,
        n_classes) where a class has several concepts and samples use different ones.

    References
    ----------
    Saralajew, Rana, Villmann and Shaker (2025). A Robust Prototype-Based Network with
    Interpretable RBF Classifier Foundations. AAAI.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.explanation import PrototypeTable, ReasoningExplanation
    >>> d = np.exp(-np.array([[1.0, 3.0]]) / 2)
    >>> positive = np.array([[0.6, 0.1], [0.0, 0.6]])
    >>> negative = np.array([[0.0, 0.2], [0.4, 0.1]])
    >>> presence = positive * d[:, :, None]
    >>> absence = negative * (1 - d[:, :, None])
    >>> scores = (presence + absence).sum(axis=1)
    >>> case = ReasoningExplanation(
    ...     estimator_name="CBCClassifier", classes=["A", "B"], scores=scores,
    ...     probabilities=scores / scores.sum(), prediction=["A"], similarities=d,
    ...     class_contributions=presence + absence, class_bias=np.zeros((1, 2)),
    ...     presence=presence, absence=absence, sample_index=[0],
    ...     reasoning_positive=positive, reasoning_negative=negative,
    ...     prototypes=PrototypeTable(
    ...         ids=[0, 1], labels=["A", "B"], indices=[212, 35], values=[[0.0], [4.0]],
    ...         projection_distance=[0, 0], is_case=[True, True],
    ...     ),
    ... )
    >>> case.verify()
    >>> print(case)
    Sample 0: A (probability 0.66)
      for:     training row 212 (A) is present (+0.36), similarity 0.61
               training row 35 (B) is absent (+0.31), similarity 0.22
      against: training row 35 (B) is partly present (+0.13 for B), similarity 0.22
      total:   shares add up to 0.675 for A and 0.351 for B
    """

    presence: np.ndarray = field(metadata=dims("n", "P", "K"))
    absence: np.ndarray = field(metadata=dims("n", "P", "K"))
    reasoning_positive: np.ndarray = field(metadata=dims("*n", "P", "K"))
    reasoning_negative: np.ndarray = field(metadata=dims("*n", "P", "K"))

    _row_format = "{case} ({value})"
    _amount = "share"

    def _check(self, check: Checker) -> None:
        super()._check(check)
        d = self.similarities[:, :, None].astype(float)
        present, absent = self.reasoning_positive * d, self.reasoning_negative * (1 - d)
        check.close("presence share", "nPK", self.presence, present)
        check.close("absence share", "nPK", self.absence, absent)
        shares = self.presence + self.absence
        check.close("contribution", "nPK", self.class_contributions, shares)

    def _evidence_columns(self) -> dict[str, np.ndarray]:
        return {
            "presence": self.presence,
            "absence": self.absence,
            "contribution": self.class_contributions,
        }

    def _rows(self, i: int, n_for: int, n_against: int) -> list[Row]:
        predicted, rival = self._rivals(i)
        rows = []
        for group, k, limit in (
            ("for", predicted, n_for),
            ("against", rival, n_against),
        ):
            shares = np.stack([self.presence[i, :, k], self.absence[i, :, k]], axis=1)
            for at in strongest(shares.ravel(), limit, self.scores[i].max()):
                unit, absent = divmod(at, 2)
                value = float(shares[unit, absent])
                shown = signed(value)
                if group == "against":
                    shown += f" for {self.classes[rival]}"
                rows.append(self._share(i, unit, bool(absent), (group, value, shown)))
        return rows

    def _share(
        self, i: int, unit: int, absent: bool, evidence: tuple[str, float, str]
    ) -> Row:
        group, value, shown = evidence
        d = float(self.similarities[i, unit])
        state = "absent" if absent else "present"
        case = f"{case_name(self.prototypes, unit)} is {_degree(d, absent)}{state}"
        detected = f"similarity {similarity(d)}"
        if self.prototypes.places is not None:
            place = missed(self._found(i, unit)) if absent else self._found(i, unit)
            found = ", ".join(filter(None, (detected, place)))
            pictures = row_pictures(self, i, unit)
            row = Row(group, case, value, shown, found, pictures=pictures)
            return row._replace(prototype=unit)
        compared = self._compare(i, unit, alike=not absent)
        return Row(group, case, value, shown, detected, compared, prototype=unit)

    def _notes(self, i: int) -> list[tuple[str, str]]:
        parts = [
            f"{number(self.scores[i, k])} for {self.classes[k]}"
            for k in self._rivals(i)
        ]
        notes = [("total", f"shares add up to {' and '.join(parts)}")]
        if self.scores[i].max() < FAINT_SCORE:
            text = "hardly anything that the classes look for is found (1 would be all)"
            notes.append(("caution", text))
        return notes

    def _blocks(self) -> list[Block]:
        blocks = []
        for c, role, limit in zip(
            self._rivals(0), ("predicted", "runner-up"), MAX_LINES, strict=True
        ):
            shares = np.stack([self.presence[0, :, c], self.absence[0, :, c]], axis=1)
            kept = strongest(shares.ravel(), limit, float(shares.max(initial=0.0)))
            shown = float(shares.ravel()[kept].sum())
            label, score = self.classes[c], self.scores[0, c]
            total = f"shown {signed(shown)}, all else {signed(score - shown)}; "
            total += f"total for {label}: {number(score)} (1 would be all)"
            lines = [self._share_line(*divmod(at, 2), c) for at in kept]
            blocks.append(Block(f"Evidence for {label} ({role})", lines, total))
        return blocks

    def _share_line(self, k: int, absent: int, c: int) -> Line:
        """Return a line of the picture: what presence or absence gives a class."""
        d = f"similarity {number(self.similarities[0, k])}"
        table = self.reasoning_negative if absent else self.reasoning_positive
        weight = number(table[..., k, c].reshape(-1)[0])
        value = signed((self.absence if absent else self.presence)[0, k, c])
        text = f"absent: (1 - {d})" if absent else f"present: {d}"
        texts = place_texts(self, 0, k)
        return Line(
            row_pictures(self, 0, k),
            f"{text} x reasoning {weight} = {value}",
            tuple(map(missed, texts)) if absent else texts,
        )

    def _draw_chart(self, ax: Axes | None) -> Axes:
        pair = list(self._rivals(0))
        labels = bar_labels(self.prototypes, self.similarities[0])
        names = [str(self.classes[k]) for k in pair]
        present, absent = self.presence[0][:, pair], self.absence[0][:, pair]
        return draw_reasoning(labels, present, absent, names, self._title(), ax)


def _degree(d: float, absent: bool) -> str:
    """Say how far a component is present, or absent."""
    share = 1 - d if absent else d
    return "hardly " if share < HARDLY else "partly " if share < 0.5 else ""


@dataclass(kw_only=True, eq=False, repr=False)
class ReasoningGlobalExplanation(GlobalExplanation):
    """The components of a classification-by-components model and their reasoning.

    Parameters
    ----------
    estimator_name, classes, prototypes : object
        As in :class:`GlobalExplanation`.

    weights, win_counts, effective_size : object, optional
        As in :class:`GlobalExplanation`.

    component_prior : array of shape (n_prototypes, n_classes)
        How much each component matters for each class; the columns add up to 1.

    requiredness : array of shape (n_prototypes, n_classes)
        1 where the component must be present, 0 where it must be absent.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import CBCClassifier
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> model = CBCClassifier(1, random_state=0).fit(X, y)
    >>> whole = model.explain_global()  # a ReasoningGlobalExplanation
    >>> whole.requiredness.shape  # components, classes
    (3, 3)
    >>> whole.component_prior.sum(axis=0).round(3).tolist()
    [1.0, 1.0, 1.0]
    """

    component_prior: np.ndarray = field(metadata=dims("P", "K"))
    requiredness: np.ndarray = field(metadata=dims("P", "K"))

    def reasoning_frame(self) -> pd.DataFrame:
        """Return one row for each component and class: what must be there or not.

        Returns
        -------
        frame : pandas DataFrame
            Columns `prototype`, `training_row`, `class`, `component_prior`,
            `requiredness`, `presence` and `absence` (their products: the reasoning
            probabilities).

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import CBCClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = CBCClassifier(1, random_state=0).fit(X, y)
        >>> frame = model.explain_global().reasoning_frame()
        >>> len(frame) > 0
        True
        """
        import pandas as pd

        n_prototypes, n_classes = self.component_prior.shape
        return pd.DataFrame(
            {
                "prototype": np.repeat(self.prototypes.ids, n_classes),
                "training_row": np.repeat(self.prototypes.indices, n_classes),
                "class": np.tile(self.classes, n_prototypes),
                "component_prior": self.component_prior.ravel(),
                "requiredness": self.requiredness.ravel(),
                "presence": (self.component_prior * self.requiredness).ravel(),
                "absence": (self.component_prior * (1 - self.requiredness)).ravel(),
            }
        )

    def _cell(self, k: int, c: int, breaking: str = ", ") -> str:
        """Say how a component counts for a class; nothing where it hardly does."""
        prior, required = self.component_prior[k, c], self.requiredness[k, c]
        shares = (("present", prior * required), ("absent", prior * (1 - required)))
        return breaking.join(f"{w} {v:.2f}" for w, v in shares if v >= NO_SHARE) or "-"

    def _tables(self) -> list[Table]:
        tables = super()._tables()
        columns = ["prototype", *(f"for {label}" for label in self.classes)]
        rows = [
            [
                case_name(self.prototypes, k, label=False),
                *(self._cell(k, c) for c in range(len(self.classes))),
            ]
            for k in range(len(self))
        ]
        tables.insert(1, Table("Reasoning", columns, rows))
        return tables

    def _gallery(self, limit: int) -> list[Group]:
        groups = []
        for c in range(len(self.classes)):
            prior = self.component_prior[:, c]
            order = np.argsort(-prior, kind="stable")
            members = order[prior[order] >= NO_SHARE]
            groups.append(make_group(self, c, members, limit))
        return [group for group in groups if group.n_all]

    def _tile_texts(self, k: int, c: int) -> list[str]:
        return self._cell(k, c, "\n").split("\n")

    def _gallery_notes(self) -> list[str]:
        text = "present, absent: share of the class score that rests on it being there"
        return [*super()._gallery_notes(), f"{text}, or not"]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the reasoning: which component must be present or absent for a class.

        Components that are images are drawn as a gallery: for each class those that
        matter most for it.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; a new figure where None.

        Returns
        -------
        ax : matplotlib Axes
            The axes drawn on.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        if has_pictures(self):
            return self._draw_gallery(ax)
        rows = range(min(len(self), MAX_ROWS))
        columns = range(min(len(self.classes), MAX_COLUMNS))
        cells = [[self._cell(k, c, "\n") for c in columns] for k in rows]
        table = self.prototypes
        names = [labelled_case(table, k) for k in rows]
        title = self._heading()
        if len(rows) < len(self) or len(columns) < len(self.classes):
            title += f"\nshown: {len(rows)} prototypes and {len(columns)} classes"
        prior = self.component_prior[: len(rows), : len(columns)]
        heads = [f"for {self.classes[c]}" for c in columns]
        label = "weight of the component in the class"
        return draw_table(prior, cells, names, heads, (title, label), ax)
