"""Which attributes the similarity of samples rests on, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from skproto.attributes import _drawing as drawing
from skproto.attributes import _scores as scoring
from skproto.attributes._words import UNEXPLAINED, describe
from skproto.explanation import PrototypeTable, SamplePlaces
from skproto.explanation._cases import case_name
from skproto.explanation._fields import coerce, dims, plain, take
from skproto.explanation._html import notebook_html, tables_html
from skproto.explanation._numbers import signed, similarity
from skproto.explanation._text import MAX_SAMPLES, Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

N_NAMED = 6  # attributes named in a line
ANSWERS = {1: "present", -1: "absent", 0: "not asked"}


def listed_scores(names: np.ndarray, scores, limit: int = N_NAMED) -> str:
    """Name attributes with their scores, the largest first."""
    known = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-known, kind="stable")
    told = [j for j in order[:limit] if known[j] != 0 and not np.isnan(scores[j])]
    return ", ".join(f"{names[j]} {signed(scores[j])}" for j in told) or "nothing"


@dataclass(kw_only=True, eq=False, repr=False)
class AttributeExplanation:
    r"""Which attributes the similarity of samples to prototypes rests on.

    The score is the drop :math:`\Delta_{ipa} = s_{ip} - s_{ip}^a` of the similarity of
    sample i to prototype p when attribute a of the sample is changed. A negative score
    says that the change made them more alike. Indexing gives some of the samples.

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

    sample_index : array of shape (n_samples,)
        Names of the samples.

    similarities : array of shape (n_samples, n_prototypes)
        Similarities of the samples as they are.

    scores : array of shape (n_samples, n_prototypes, n_attributes)
        Drops, normalised as asked for; NaN where that is not possible.

    drops : array of shape (n_samples, n_prototypes, n_attributes)
        Drops in units of the similarity.

    sites : array of shape (n_samples, n_prototypes) or (..., n_parts) or None
        Where the similarity was read.

    bounded : array of shape (n_samples, n_prototypes, n_attributes) or None
        Drops of 1 / (1 + d), where the model's similarity is a logarithm of the
        distance d, which exaggerates matches that are nearly perfect.

    answers : array of shape (n_samples, n_prototypes) or None
        For trees: 1 where the sample's path says "present", -1 "absent", 0 where it
        does not ask. Where it is absent, a negative score is the telling one: the
        change would make it appear.

    places : SamplePlaces or None
        The samples and where the prototypes were found, for pictures.

    normalize : {None, "relative", "per_rms"}
        What the scores are in units of.

    tol : float
        Share of the similarity below which a drop is none.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import RBFClassifier, explain_attributes
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> model = RBFClassifier(1, random_state=0).fit(X, y)
    >>> shown = explain_attributes(model, X, random_state=0)
    >>> type(shown.local).__name__, len(shown.local)
    ('AttributeExplanation', 150)
    """

    estimator_name: str
    kind: str
    attributes: np.ndarray = field(metadata=dims("A"))
    prototypes: PrototypeTable
    sample_index: np.ndarray = field(metadata=dims("n"))
    similarities: np.ndarray = field(metadata=dims("n", "P"))
    scores: np.ndarray = field(metadata=dims("n", "P", "A"))
    drops: np.ndarray = field(metadata=dims("n", "P", "A"))
    sites: np.ndarray | None = field(default=None, metadata=dims("n", "P", "*M"))
    bounded: np.ndarray | None = field(default=None, metadata=dims("n", "P", "A"))
    answers: np.ndarray | None = field(default=None, metadata=dims("n", "P"))
    places: SamplePlaces | None = field(default=None, metadata={"sliced": True})
    normalize: str | None = None
    tol: float = scoring.DEFAULT_TOL

    def __post_init__(self) -> None:
        coerce(self, {"P": len(self.prototypes)})

    def __len__(self) -> int:
        return len(self.similarities)

    def __getitem__(self, key: Any) -> AttributeExplanation:
        rows = np.atleast_1d(np.arange(len(self))[key])
        found: AttributeExplanation = take(self, rows)
        return found

    @property
    def explained(self) -> np.ndarray:
        """Whether any attribute lowers a similarity by more than `tol`, (n, P)."""
        highest = self.drops.max(axis=2, initial=-np.inf)
        return highest > self.tol * np.maximum(self.similarities, 0.0)

    def most_similar(self, sample: int, n: int = 3) -> np.ndarray:
        """Return the prototypes that a sample is most similar to.

        Parameters
        ----------
        sample : int
            Position of the sample.

        n : int, default=3
            How many. For trees those that its path asks for, in all.

        Returns
        -------
        positions : ndarray of int
            The most similar first.
        """
        own = self.similarities[sample]
        if self.answers is not None and self.answers[sample].any():
            asked = np.flatnonzero(self.answers[sample])
            return asked[np.argsort(-own[asked], kind="stable")]
        return np.argsort(-own, kind="stable")[:n]

    def words(self, sample: int, prototype: int) -> str:
        """Say which attributes the similarity of a pair rests on.

        Parameters
        ----------
        sample, prototype : int
            Positions.

        Returns
        -------
        words : str
            Such as "mostly colour, hardly shape".
        """
        drops = self.drops[sample, prototype]
        told = (self.attributes.tolist(), self.kind, self.tol)
        if self.answers is not None and self.answers[sample, prototype] < 0:
            # What raises the similarity of what is absent is what keeps it away.
            text = describe(-drops, 1.0, *told).removeprefix("mostly ")
            known = not text.startswith(UNEXPLAINED)
            return f"absent because of {text}" if known else "absent whatever changes"
        return describe(drops, float(self.similarities[sample, prototype]), *told)

    # Export

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each sample, prototype and attribute.

        Returns
        -------
        frame : pandas DataFrame
            Columns `sample`, `prototype`, `prototype_label`, `training_row`,
            `similarity`, `answer` (trees), `attribute`, `score`, `drop`, and `bounded`
            where it is known.
        """
        import pandas as pd

        n_samples, n_prototypes, n_attributes = self.scores.shape
        table = self.prototypes
        pairs = {
            "sample": np.repeat(self.sample_index, n_prototypes),
            "prototype": np.tile(table.ids, n_samples),
            "prototype_label": np.tile(table.labels, n_samples),
            "training_row": np.tile(table.indices, n_samples),
            "similarity": self.similarities.ravel(),
        }
        if self.answers is not None:
            told = [ANSWERS[int(answer)] for answer in self.answers.ravel()]
            pairs["answer"] = np.array(told, dtype=object)
        columns = {name: np.repeat(v, n_attributes) for name, v in pairs.items()}
        columns["attribute"] = np.tile(self.attributes, n_samples * n_prototypes)
        columns["score"] = self.scores.ravel()
        columns["drop"] = self.drops.ravel()
        if self.bounded is not None:
            columns["bounded"] = self.bounded.ravel()
        return pd.DataFrame(columns)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as lists, numbers and text.

        Returns
        -------
        content : dict
            Ready for `json.dumps`; NaN is None.
        """
        return {"type": type(self).__name__, **plain(self)}

    # Text, HTML and pictures

    def line(self, i: int, k: int) -> list[str]:
        """Return what is said of a pair: its words, and its scores.

        Parameters
        ----------
        i, k : int
            Positions of the sample and the prototype.

        Returns
        -------
        lines : list of two str
            Words and scores.
        """
        alike = f"similarity {similarity(self.similarities[i, k])}"
        told = 0 if self.answers is None else int(self.answers[i, k])
        if told < 0:
            scores = listed_scores(self.attributes, -self.scores[i, k])
            return [f"{alike}: {self.words(i, k)}", f"kept away by: {scores}"]
        alike += ", present" if told else ""
        scores = listed_scores(self.attributes, self.scores[i, k])
        return [f"{alike}: {self.words(i, k)}", f"because: {scores}"]

    def __str__(self) -> str:
        lines = []
        for i in range(min(len(self), MAX_SAMPLES)):
            lines.append(f"Sample {self.sample_index[i]} ({self.estimator_name})")
            for k in self.most_similar(i).tolist():
                first, second = self.line(i, k)
                lines += [f"  {case_name(self.prototypes, k)}", f"    {first}"]
                lines.append(f"    {second}")
        if len(self) > MAX_SAMPLES:
            lines.append(f"... and {len(self) - MAX_SAMPLES} more")
        return "\n".join(lines) or f"{self.estimator_name}: no samples"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def render() -> str:
            shown = range(min(len(self), MAX_SAMPLES))
            tables = [self._table(i) for i in shown]
            groups = [g for i in shown for g in drawing.pair_groups(self, i)]
            notes = [self.unit_note()]
            if len(self) > MAX_SAMPLES:
                notes.append(f"and {len(self) - MAX_SAMPLES} more samples")
            heading = f"{self.estimator_name}: why samples look like prototypes"
            return tables_html(heading, tables, "", (groups, notes))

        return notebook_html(render, self)

    def _table(self, i: int) -> Table:
        columns = ["prototype", "similarity", "in words", "scores"]
        rows = [
            [
                case_name(self.prototypes, k),
                similarity(self.similarities[i, k]),
                *self.line(i, k)[0].partition(": ")[2:],
                self.line(i, k)[1],
            ]
            for k in self.most_similar(i).tolist()
        ]
        return Table(f"Sample {self.sample_index[i]}", columns, rows)

    def unit_note(self) -> str:
        """Say what the scores are in units of.

        Returns
        -------
        note : str
            A few words.
        """
        return drawing.UNITS[self.normalize]

    def plot(self, sample: int = 0, ax: Axes | None = None) -> Axes:
        """Draw the scores of a sample beside it and the prototypes.

        Parameters
        ----------
        sample : int, default=0
            Position of the sample.

        ax : matplotlib Axes or None, default=None
            Where to draw; a new figure of A4 width where None.

        Returns
        -------
        ax : matplotlib Axes
            The axes drawn on, in inches from its upper left corner.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        return drawing.draw_pairs(self, sample, ax)
