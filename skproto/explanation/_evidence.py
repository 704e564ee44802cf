"""What is said of the evidence for one sample: rows of cases, notes, a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skproto.explanation._cases import bar_labels, case_name, found_here
from skproto.explanation._display import SampleDisplay
from skproto.explanation._drawing import draw_contributions
from skproto.explanation._drawing_images import draw_sheet
from skproto.explanation._image_blocks import (
    OUTLINED,
    Block,
    Line,
    evidence_blocks,
    has_pictures,
    picture_notes,
    place_texts,
)
from skproto.explanation._numbers import number, probability, signed, similarity
from skproto.explanation._pictures import reconstruction_pictures, row_pictures
from skproto.explanation._text import (
    MAX_SAMPLES,
    Comparison,
    Row,
    SampleView,
    compare,
    radius_note,
    strongest,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from skproto.explanation._places import SamplePlaces
    from skproto.explanation._prototypes import PrototypeTable


NO_SIMILARITY = 1e-3  # below, the distance is told as well
WARNINGS = ("abstains", "caution")  # notes that a picture must not leave out


class EvidenceDisplay(SampleDisplay):
    """Words and pictures of contributions; the fields are those of Explanation."""

    classes: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray
    prediction: np.ndarray
    class_contributions: np.ndarray
    class_bias: np.ndarray
    similarities: np.ndarray
    prototypes: PrototypeTable
    sample_index: np.ndarray
    samples: np.ndarray | None
    distances: np.ndarray | None
    radius: np.ndarray | None
    radius_units: str
    head_weights: np.ndarray | None
    places: SamplePlaces | None
    similarity_name: str
    baseline: np.ndarray | None

    _units = "prototypes"

    def _predicted(self) -> np.ndarray:
        """Return the positions of the predicted classes, -1 where unknown."""
        position = {label: k for k, label in enumerate(self.classes.tolist())}
        labels = self.prediction.tolist()
        return np.array([position.get(label, -1) for label in labels], dtype=int)

    def _rivals(self, i: int) -> tuple[int, int]:
        """Return the positions of the predicted class and of the runner-up."""
        predicted = int(self[i]._predicted()[0])
        others = self.scores[i].astype(float)
        others[predicted] = -np.inf
        return predicted, int(np.argmax(others))

    def _net(self, i: int) -> np.ndarray:
        """Return what each unit adds to the lead over the runner-up, shape (U,)."""
        predicted, rival = self._rivals(i)
        evidence = self.class_contributions[i]
        return evidence[:, predicted] - evidence[:, rival]

    # Words

    def _view(self, i: int, n_for: int = 3, n_against: int = 1) -> SampleView:
        """Say what there is to say about one sample."""
        view = self._heading(i)
        view.rows = self._rows(i, n_for, n_against)
        view.notes = self._notes(i)
        view.pictures = reconstruction_pictures(self, i)
        view.picture_notes = self._picture_notes()
        if self.radius is not None:
            note = radius_note(float(self.radius[i]), self.radius_units)
            view.notes.append(("certified", note))
        return view

    def _title(self) -> str:
        """Return the title of a picture, with what a reader must be warned of."""
        warnings = [f"{tag}: {text}" for tag, text in self._notes(0) if tag in WARNINGS]
        return "\n".join([super()._title(), *warnings])

    def _picture_notes(self) -> list[str]:
        """Say how pictures that are not drawn by matplotlib are to be read."""
        notes = picture_notes(self) if has_pictures(self) else []
        return [note for note in notes if note != OUTLINED]

    def _heading(self, i: int) -> SampleView:
        values = self.probabilities[i]
        likely = np.argsort(-values, kind="stable")
        predicted, _ = self._rivals(i)
        return SampleView(
            name=f"Sample {self.sample_index[i]}",
            prediction=str(self.prediction[i]),
            probability=probability(values[predicted]),
            classes=[
                (str(self.classes[k]), float(values[k]), probability(values[k]))
                for k in likely[:MAX_SAMPLES]
            ],
        )

    def _rows(self, i: int, n_for: int, n_against: int) -> list[Row]:
        net = self._net(i)
        rows = []
        for group, sign, limit in (("for", 1.0, n_for), ("against", -1.0, n_against)):
            for k in strongest(sign * net, limit, np.abs(net).max(initial=0.0)):
                if self.prototypes.places is not None:
                    rows.append(self._place_row(i, k, group))
                    continue
                shown = signed(net[k])
                rows.append(self._row(i, k, group, float(net[k]), shown))
        return rows

    def _row(self, i: int, k: int, group: str, value: float, shown: str) -> Row:
        case = f"like {case_name(self.prototypes, k)}"
        case += f": similarity {similarity(self.similarities[i, k])}"
        compared = self._compare(i, k, alike=group == "for")
        return Row(group, case, value, shown, compared=compared, prototype=k)

    def _place_row(self, i: int, k: int, group: str) -> Row:
        """Say what a prototype with a place gives the class it speaks for."""
        predicted, rival = self._rivals(i)
        own, other = self.class_contributions[i, k, [predicted, rival]]
        sign = 1.0 if group == "for" else -1.0
        c = predicted if sign * own >= -sign * other else rival
        value = float(self.class_contributions[i, k, c])
        shown = signed(value) + self._points
        shown += "" if c == predicted else f" for {self.classes[c]}"
        case = f"like {case_name(self.prototypes, k)}: {self._factors(i, k, c)}"
        return Row(
            group,
            case,
            value,
            shown,
            note=self._found(i, k),
            form="{case} = {value}" if self.head_weights is not None else "",
            pictures=row_pictures(self, i, k),
            prototype=k,
        )

    @property
    def _points(self) -> str:
        """What contributions are counted in, where similarities are weighed."""
        return " points" if self.head_weights is not None else ""

    def _factors(self, i: int, k: int, c: int) -> str:
        """Name similarity and weight, whose product is the contribution."""
        text = f"{self.similarity_name} {number(self.similarities[i, k])}"
        if self.baseline is not None:
            text = f"({text} - usual {number(self.baseline[k])})"
        if self.head_weights is None:
            return f"{text}{self._distance_text(i, k)}"
        return f"{text} x weight {number(self.head_weights[k, c])}"

    def _distance_text(self, i: int, k: int) -> str:
        """Name the distance where the similarity is too small to tell anything."""
        if self.distances is None or self.similarities[i, k] >= NO_SIMILARITY:
            return ""
        return f" (distance {number(self.distances[i, k])})"

    def _found(self, i: int, k: int) -> str:
        """Say where in a sample a prototype was found; nothing without places."""
        if self.places is None:
            return ""
        return found_here(self.prototypes, self.places, i, k, self.samples)

    def _compare(self, i: int, k: int, *, alike: bool) -> Comparison | None:
        sample = None if self.samples is None else self.samples[i]
        return compare(self.prototypes, sample, k, alike=alike)

    def _notes(self, i: int) -> list[tuple[str, str]]:
        predicted, rival = self._rivals(i)
        if self.prototypes.places is not None:
            return [("total", self._total(i))]
        bias = self.class_bias[i, predicted] - self.class_bias[i, rival]
        parts = f"contributions {signed(self._net(i).sum())}"
        if bias != 0:
            parts += f" and bias {signed(bias)}"
        lead = f"{self.classes[predicted]} (score {number(self.scores[i, predicted])})"
        behind = f"{self.classes[rival]} ({number(self.scores[i, rival])})"
        return [("total", f"{parts} put {lead} ahead of {behind}")]

    def _total(self, i: int) -> str:
        """Say what all prototypes give the two classes."""
        predicted, rival = self._rivals(i)
        n_units = self.class_contributions.shape[1]
        source = f"all {n_units} {self._units}"
        if self.class_bias[i, [predicted, rival]].any():
            source += " and the bias"
        own, other = (number(self.scores[i, c]) for c in (predicted, rival))
        return (
            f"{source} give {self.classes[predicted]} {own} and {self.classes[rival]} "
            f"{other}{self._points}"
        )

    # Pictures

    def _line(self, i: int, k: int, c: int) -> Line:
        """Return a line of the picture: what a prototype gives a class."""
        value = signed(self.class_contributions[i, k, c])
        if self.head_weights is None:
            sum_up = f"{self._factors(i, k, c)}, contribution {value}"
        else:
            sum_up = f"{self._factors(i, k, c)} = {value} points"
        return Line(row_pictures(self, i, k), sum_up, place_texts(self, i, k))

    def _blocks(self) -> list[Block]:
        """Return what the picture of the first sample shows."""
        return evidence_blocks(self, self._rivals(0))

    def _draw(self, ax: Axes | None) -> Axes:
        return self._draw_sheet(ax) if has_pictures(self) else self._draw_chart(ax)

    def _draw_sheet(self, ax: Axes | None) -> Axes:
        """Draw the first sample with pictures."""
        return draw_sheet(self._title(), self._blocks(), picture_notes(self), ax)

    def _draw_chart(self, ax: Axes | None) -> Axes:
        """Draw the first sample without pictures."""
        predicted, rival = self._rivals(0)
        pair = [predicted, rival]
        labels = bar_labels(self.prototypes, self.similarities[0])
        return draw_contributions(
            labels,
            self.class_contributions[0][:, pair],
            self.class_bias[0][pair],
            [str(self.classes[k]) for k in pair],
            self._title(),
            ax,
        )
