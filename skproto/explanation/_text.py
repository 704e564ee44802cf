"""What is said of a sample and of features, and how it is laid out as text."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from skproto.explanation._numbers import number, together

if TYPE_CHECKING:
    from skproto.explanation._pictures import Picture
    from skproto.explanation._prototypes import PrototypeTable

FAINT = 0.01  # evidence below this share of the strongest gets no line
MAX_FEATURES = 3  # features named per case
WIDTH = 88  # where long lines of text are broken
MAX_SAMPLES = 5  # samples printed before "... and N more"


class Comparison(NamedTuple):
    """Features of a sample beside those of a case, as ready-made text."""

    alike: bool
    features: list[tuple[str, str, str]]

    @property
    def heading(self) -> str:
        """What the features have in common."""
        return "alike in" if self.alike else "differs most in"

    def __str__(self) -> str:
        pairs = [f"{name} {own} vs {other}" for name, own, other in self.features]
        return f"{self.heading} {', '.join(pairs)}"


class Row(NamedTuple):
    """One line of evidence: a case, the number that counts, and why."""

    group: str
    case: str
    value: float
    shown: str
    note: str = ""
    compared: Comparison | None = None
    form: str = ""  # how case and number are joined, where not as in the other rows
    pictures: tuple[Picture, ...] = ()
    prototype: int | None = None  # position of the prototype that the row speaks of


class Table(NamedTuple):
    """A titled table of ready-made strings."""

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass
class SampleView:
    """All that is said about one sample, before it becomes text or HTML."""

    name: str
    prediction: str
    probability: str
    classes: list[tuple[str, float, str]]
    rows: list[Row] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    pictures: tuple[Picture, ...] = ()
    picture_notes: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The sample and what it was classified as."""
        return f"{self.name}: {self.prediction} (probability {self.probability})"


def deciding_features(
    table: PrototypeTable, sample: np.ndarray, k: int, *, alike: bool
) -> np.ndarray:
    """Return the features where a sample and a prototype agree or differ most.

    Deviations are taken in units of the inner scale and weighed by the weights that
    the distance of this prototype gives the features. Of the features that agree,
    those come first in which the prototype is out of the ordinary: that both have an
    ordinary value says little.
    """
    reference = table.reference
    if reference is None:
        return np.zeros(0, dtype=int)
    scale = np.ones(len(sample))
    if table.scale is not None:
        scale = np.where(table.scale > 0, table.scale, 1.0)
    gap = (np.asarray(sample, float) - reference[k]) / scale
    weight = np.ones(len(sample)) if table.weights is None else table.weights[k]
    if alike:
        telling = 1.0
        if table.center is not None:
            telling = 0.1 + np.abs(reference[k] - table.center) / scale
        rank = weight * telling / (1.0 + (gap / 0.25) ** 2)
        fits = np.abs(gap) < 1.0
    else:
        rank = weight * gap**2
        fits = rank > 0
    rank = np.where(fits, rank, -np.inf)
    order = np.argsort(-rank, kind="stable")[:MAX_FEATURES]
    return order[np.isfinite(rank[order])]


def compare(
    table: PrototypeTable, sample: np.ndarray | None, k: int, *, alike: bool
) -> Comparison | None:
    """Say in which features a sample and a prototype agree, or differ most."""
    if sample is None or table.reference is None:
        return None
    features = []
    for f in deciding_features(table, sample, k, alike=alike):
        own, other = together(sample[f], table.reference[k, f])
        features.append((str(table.names[f]), own, other))
    return Comparison(alike, features) if features else None


def radius_note(radius: float, units: str) -> str:
    """Say what a certified radius promises."""
    if math.isnan(radius):
        return "no radius could be computed"
    if radius <= 0:
        return "nothing: the smallest change may alter the prediction"
    if math.isinf(radius):
        return "no change of any size alters the prediction"
    shown = "scaled units" if units == "scaled" else "units of the input"
    return f"no change smaller than {number(radius)} ({shown}) alters the prediction"


def sample_text(view: SampleView, row_format: str) -> str:
    """Lay a sample out as text: a heading, one line a case, the reason below it."""
    lines = [view.title]
    tags = [row.group for row in view.rows] + [tag for tag, _ in view.notes]
    width = max(map(len, tags), default=0) + 1
    previous = None
    indent = " " * (width + 3)
    for row in view.rows:
        tag = "" if row.group == previous else row.group + ":"
        previous = row.group
        text = (row.form or row_format).format(case=row.case, value=row.shown)
        text += f", {row.note}" if row.note else ""
        lines += _folded(text, f"  {tag:<{width}} ", indent + "  ")
        if row.compared:
            lines += _folded(str(row.compared), indent + "  ", indent + "  ")
    for tag, text in view.notes:
        lines += _folded(text, f"  {tag + ':':<{width}} ", indent)
    return "\n".join(lines)


def _folded(text: str, first: str, following: str) -> list[str]:
    """Break text into lines that are not too wide, with what stands before them."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=following,
        break_on_hyphens=False,
    )


def table_text(table: Table) -> str:
    """Lay a table out as text with aligned columns."""
    cells = [table.columns, *table.rows]
    widths = [max(len(row[j]) for row in cells) for j in range(len(table.columns))]
    lines = [
        "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return "\n".join([table.title, *lines])


def strongest(values: np.ndarray, limit: int, scale: float) -> list[int]:
    """Return the positions of the largest positive values, faint ones left out."""
    order = np.argsort(-values, kind="stable")[:limit]
    return [int(k) for k in order if values[k] > FAINT * scale]
