"""Which attributes the prototypes of a model stand for, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from skproto.attributes import _drawing as drawing
from skproto.attributes import _scores as scoring
from skproto.attributes._local import AttributeExplanation, listed_scores
from skproto.attributes._words import describe
from skproto.explanation import PrototypeTable
from skproto.explanation._cases import case_name
from skproto.explanation._fields import coerce, dims, plain
from skproto.explanation._html import notebook_html, tables_html
from skproto.explanation._numbers import number, percent
from skproto.explanation._text import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MAX_TEXT = 12  # prototypes that a text tells of


@dataclass(kw_only=True, eq=False, repr=False)
class AttributeGlobalExplanation:
    r"""Which attributes the prototypes of a model stand for, over a set of samples.

    The score of attribute a of prototype p is :math:`\phi_{pa} = \sum_i \Delta_{ipa}
    s_{ip} / \sum_i s_{ip}`, the mean drop of the similarity weighted by it.

    Parameters
    ----------
    estimator_name : str
        Name of the estimator.

    kind : {"image", "table", "tokens", "text"}
        What the samples are.

    attributes : array of str of shape (n_attributes,)
        Names of the attributes.

    prototypes : PrototypeTable
        The cases behind the prototypes.

    importance : array of shape (n_prototypes, n_attributes)
        The scores; NaN where no sample is similar to the prototype.

    drops : array of shape (n_prototypes, n_attributes)
        The scores in units of the similarity.

    weights : array of shape (n_prototypes,)
        Sum of the similarities of the samples.

    mean_similarity : array of shape (n_prototypes,)
        Mean similarity, weighted by itself: what the drops are drops of.

    unexplained : array of shape (n_prototypes,)
        Share of the similarity in pairs that no attribute lowers by more than `tol`.

    rms_change : array of shape (n_attributes,)
        Root mean squared change of the samples by each attribute; of pixels as a
        share of their range, of other values in units of the model's inner scale.

    interval : array of shape (2, n_prototypes, n_attributes) or None
        Bootstrap interval of `importance` over the samples.

    null : array of shape (n_prototypes, n_attributes) or None
        Median score over the prototypes of other classes: what is not particular to
        this one.

    effect_interval : array of shape (2, n_prototypes, n_attributes) or None
        Bootstrap interval of :attr:`effect`.

    untrained : array of shape (n_attributes,) or None
        Median score over the prototypes of a model without training.

    bounded : array of shape (n_prototypes, n_attributes) or None
        The scores with the bounded similarity 1 / (1 + d).

    absent_rise : array of shape (n_prototypes, n_attributes) or None
        For trees: mean rise of the similarity over the samples whose path says that
        the prototype is absent.

    normalize : {None, "relative", "per_rms"}
        What the scores are in units of.

    tol : float
        Share of the similarity below which a drop is none.

    local : AttributeExplanation or None
        The same of each sample.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import RBFClassifier, explain_attributes
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> model = RBFClassifier(1, random_state=0).fit(X, y)
    >>> shown = explain_attributes(model, X, random_state=0)
    >>> type(shown).__name__, shown.importance.shape  # prototypes, attributes
    ('AttributeGlobalExplanation', (3, 4))
    """

    estimator_name: str
    kind: str
    attributes: np.ndarray = field(metadata=dims("A"))
    prototypes: PrototypeTable
    importance: np.ndarray = field(metadata=dims("P", "A"))
    drops: np.ndarray = field(metadata=dims("P", "A"))
    weights: np.ndarray = field(metadata=dims("P"))
    mean_similarity: np.ndarray = field(metadata=dims("P"))
    unexplained: np.ndarray = field(metadata=dims("P"))
    rms_change: np.ndarray = field(metadata=dims("A"))
    interval: np.ndarray | None = field(default=None, metadata=dims("2", "P", "A"))
    null: np.ndarray | None = field(default=None, metadata=dims("P", "A"))
    effect_interval: np.ndarray | None = field(
        default=None, metadata=dims("2", "P", "A")
    )
    untrained: np.ndarray | None = field(default=None, metadata=dims("A"))
    bounded: np.ndarray | None = field(default=None, metadata=dims("P", "A"))
    absent_rise: np.ndarray | None = field(default=None, metadata=dims("P", "A"))
    normalize: str | None = None
    tol: float = scoring.DEFAULT_TOL
    local: AttributeExplanation | None = None

    def __post_init__(self) -> None:
        coerce(self, {"P": len(self.prototypes)})

    def __len__(self) -> int:
        return len(self.importance)

    @property
    def effect(self) -> np.ndarray | None:
        """Scores less those of prototypes of other classes, (P, A)."""
        return None if self.null is None else self.importance - self.null

    @property
    def redundancy(self) -> np.ndarray:
        """Correlation (P, P) of the scores of prototypes over the attributes."""
        return scoring.redundancy(self.importance)

    def words(self, prototype: int) -> str:
        """Say which attributes a prototype stands for.

        Parameters
        ----------
        prototype : int
            Position of the prototype.

        Returns
        -------
        words : str
            Such as "mostly colour, hardly shape".
        """
        return describe(
            self.drops[prototype],
            float(self.mean_similarity[prototype]),
            self.attributes.tolist(),
            self.kind,
            self.tol,
        )

    def agreement(self, other: AttributeGlobalExplanation) -> dict[str, float]:
        """Compare with the scores on other samples, such as those of a test.

        Parameters
        ----------
        other : AttributeGlobalExplanation
            Of the same prototypes and attributes.

        Returns
        -------
        correlation : dict of str to float
            Spearman's rank correlation over the prototypes, for each attribute; NaN
            with fewer than 3 prototypes.

        Raises
        ------
        ValueError
            If prototypes or attributes differ.
        """
        same = np.array_equal(self.attributes, other.attributes)
        if not same or not np.array_equal(self.prototypes.ids, other.prototypes.ids):
            raise ValueError(
                "other must have the same prototypes and attributes. Got attributes "
                f"{other.attributes.tolist()} and prototypes "
                f"{other.prototypes.ids.tolist()}."
            )
        found = scoring.spearman(self.importance, other.importance)
        return dict(zip(self.attributes.tolist(), found.tolist(), strict=True))

    # Export

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each prototype and attribute.

        Returns
        -------
        frame : pandas DataFrame
            Columns `prototype`, `label`, `training_row`, `attribute`, `score`, `drop`,
            `rms_change`, and as far as they are known `low` and `high`, `null`,
            `effect`, `effect_low` and `effect_high`, `untrained`, `bounded` and
            `absent_rise`.
        """
        import pandas as pd

        n_prototypes, n_attributes = self.importance.shape
        table = self.prototypes
        columns = {
            "prototype": np.repeat(table.ids, n_attributes),
            "label": np.repeat(table.labels, n_attributes),
            "training_row": np.repeat(table.indices, n_attributes),
            "attribute": np.tile(self.attributes, n_prototypes),
            "score": self.importance.ravel(),
            "drop": self.drops.ravel(),
            "rms_change": np.tile(self.rms_change, n_prototypes),
        }
        for name, value in self._known().items():
            columns[name] = np.broadcast_to(value, self.importance.shape).ravel()
        return pd.DataFrame(columns)

    def _known(self) -> dict[str, np.ndarray]:
        ends = (None, None) if self.interval is None else self.interval
        effects = (None, None) if self.effect_interval is None else self.effect_interval
        optional = {
            "low": ends[0],
            "high": ends[1],
            "null": self.null,
            "effect": self.effect,
            "effect_low": effects[0],
            "effect_high": effects[1],
            "untrained": self.untrained,
            "bounded": self.bounded,
            "absent_rise": self.absent_rise,
        }
        return {name: v for name, v in optional.items() if v is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as lists, numbers and text.

        Returns
        -------
        content : dict
            Ready for `json.dumps`; NaN is None.
        """
        content = {"type": type(self).__name__, **plain(self)}
        words = [self.words(k) for k in range(len(self))]
        return {**content, "effect": plain(self.effect), "words": words}

    # Text, HTML and pictures

    def summary(self, k: int) -> str:
        """Say of a prototype in one sentence what it stands for.

        Parameters
        ----------
        k : int
            Position of the prototype.

        Returns
        -------
        sentence : str
            Its words, and how much they leave unexplained.
        """
        text = self.words(k)
        share = float(self.unexplained[k])
        if share > 0 and not text.startswith(("unexplained", "not known")):
            text += f" ({percent(share)} of the similarity unexplained)"
        return text

    def __str__(self) -> str:
        lines = [f"{self.estimator_name}: what {len(self)} prototypes look at"]
        for k in range(min(len(self), MAX_TEXT)):
            lines.append(f"  {case_name(self.prototypes, k)}: {self.summary(k)}")
            lines.append(f"    {listed_scores(self.attributes, self.importance[k])}")
        if len(self) > MAX_TEXT:
            lines.append(f"  ... and {len(self) - MAX_TEXT} more")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def render() -> str:
            groups = drawing.prototype_groups(self)
            heading = f"{self.estimator_name}: what its prototypes look at"
            notes = [drawing.UNITS[self.normalize]]
            if len(self) > drawing.MAX_TILES:
                notes.append(f"shown: {drawing.MAX_TILES} of {len(self)}")
            return tables_html(heading, [self._table()], "", (groups, notes))

        return notebook_html(render, self)

    def _table(self) -> Table:
        columns = ["prototype", "in words", "scores", "unexplained"]
        rows = [
            [
                case_name(self.prototypes, k),
                self.words(k),
                listed_scores(self.attributes, self.importance[k]),
                number(100 * self.unexplained[k], 2) + " %",
            ]
            for k in range(min(len(self), drawing.MAX_TILES))
        ]
        return Table("", columns, rows)

    def plot(self, prototypes=None, ax: Axes | None = None) -> Axes:
        """Draw bars for each prototype beside its picture.

        Parameters
        ----------
        prototypes : sequence of int or None, default=None
            Positions of those to draw; None: those that the data are most similar to.

        ax : matplotlib Axes or None, default=None
            Where to draw; a new figure of A4 width where None.

        Returns
        -------
        ax : matplotlib Axes
            The axes drawn on, in inches from its upper left corner. Whiskers are the
            bootstrap interval, a tick the median of prototypes of other classes.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        return drawing.draw_prototypes(self, prototypes, ax)
