"""How numbers, cases and features are worded: one place for text, HTML and plots."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from skproto.explanation._base import PrototypeTable

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

    @property
    def title(self) -> str:
        """The sample and what it was classified as."""
        return f"{self.name}: {self.prediction} (probability {self.probability})"


def number(value: Any, digits: int = 3) -> str:
    """Format with `digits` significant digits, without exponent where readable.

    Examples
    --------
    >>> number(17.23), number(1001.4), number(0.052631), number(3.0), number(2.5e-7)
    ('17.2', '1001', '0.0526', '3', '2.50e-07')
    """
    value = float(value)
    if math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "infinite" if value > 0 else "-infinite"
    if value == round(value) and abs(value) < 1e6:
        return str(int(value))
    power = math.floor(math.log10(abs(value)))
    if -4 <= power < 6:
        return f"{value:.{max(0, digits - 1 - power)}f}"
    return f"{value:.{digits - 1}e}"


def signed(value: Any) -> str:
    """Format a contribution: sign, two significant digits below 1, else three."""
    value = float(value)
    sign = "-" if value < 0 else "+"
    return sign + number(abs(value), 2 if abs(value) < 1 else 3)


def probability(value: Any) -> str:
    """Format a probability with two decimals that never round up to certainty.

    Examples
    --------
    >>> probability(0.934), probability(0.9997), probability(1.0), probability(0.001)
    ('0.93', '>0.99', '1.00', '<0.01')
    """
    value = float(value)
    if 0.995 <= value < 1.0:
        return ">0.99"
    if 0.0 < value < 0.005:
        return "<0.01"
    return f"{value:.2f}"


def percent(value: Any) -> str:
    """Format a share of the data in whole per cent; a little is not nothing."""
    return "<1%" if 0 < float(value) < 0.005 else f"{float(value):.0%}"


def similarity(value: Any) -> str:
    """Format a similarity with two significant digits, tiny ones as such."""
    return "<0.001" if 0 < float(value) < 0.001 else number(value, 2)


def together(*values: Any) -> list[str]:
    """Format numbers side by side with as many digits as tell them apart."""
    floats = [float(value) for value in values]
    distinct = len({float(f"{value:.6g}") for value in floats})
    texts = [number(value) for value in floats]
    for digits in range(4, 8):
        if len(set(texts)) >= distinct:
            break
        texts = [number(value, digits) for value in floats]
    return texts


def case_name(table: PrototypeTable, k: int, *, label: bool = True) -> str:
    """Name a prototype: its training row, or "learned" when it is not that row.

    The label is that of the training row where it is known, and of the prototype
    otherwise: a prototype may stand for another class than its nearest row has.
    """
    row, tag = int(table.indices[k]), str(table.labels[k])
    own = None if table.sample_labels is None else str(table.sample_labels[k])
    if table.is_case[k]:
        shown = own if own is not None else tag if label else ""
        return f"training row {row}" + (f" ({shown})" if shown else "")
    near = f"nearest training row {row}" if row >= 0 else ""
    if near and own is not None and own != tag:
        near += f", {own}"
    inside = "; ".join(part for part in (tag if label else "", near) if part)
    return f"learned prototype {table.ids[k]}" + (f" ({inside})" if inside else "")


def short_case(table: PrototypeTable, k: int) -> str:
    """Name a prototype on a picture: two or three words."""
    if table.is_case[k]:
        return f"row {table.indices[k]}"
    row = int(table.indices[k])
    return f"learned {table.ids[k]}" + (f", near row {row}" if row >= 0 else "")


def labelled_case(table: PrototypeTable, k: int) -> str:
    """Name a prototype on a picture, with its class or that of its row."""
    own = table.sample_labels
    label = own[k] if own is not None and table.is_case[k] else table.labels[k]
    return f"{short_case(table, k)} ({label})"


def bar_labels(table: PrototypeTable, similarities: np.ndarray) -> list[str]:
    """Name the prototypes below a chart of bars, with their similarity."""
    return [
        f"{labelled_case(table, k)}\nsimilarity {similarity(s)}"
        for k, s in enumerate(similarities)
    ]


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
        text = row_format.format(case=row.case, value=row.shown)
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
