"""The cases of a report: each with the words, numbers and pictures of its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skproto.display._report._told import dense_rows, explanations
from skproto.display._report._words import MAX_DENSE, digits, shared_words, telling
from skproto.explanation import (
    EnsembleExplanation,
    PairExplanation,
    ReasoningExplanation,
    TreeExplanation,
)
from skproto.explanation._image_blocks import has_pictures
from skproto.explanation._pictures import as_rgb, range_of

if TYPE_CHECKING:
    from skproto.display._report._store import Pictures
    from skproto.display._report._subject import Subject
    from skproto.explanation._text import Row

N_FOR, N_AGAINST = 6, 4  # pieces of evidence shown for and against
N_CLASSES = 6  # classes of which the probability is shown
FAINT = 0.002  # share of the largest below which a component is not listed
N_COMPONENTS = 14  # components shown in the reasoning about a case


class CaseBook:
    """Collects the cases of a report.

    Parameters
    ----------
    subject : Subject
        Model and cases.

    order : array of int of shape (m,)
        The cases shown, the first one first.

    pictures : Pictures
        Where pictures are kept.

    limits : tuple of float or None
        Lowest and highest pixel of all images, so that all are shown alike.
    """

    def __init__(self, subject: Subject, order: np.ndarray, pictures: Pictures, limits):
        self.subject, self.order = subject, order
        self.pictures, self.limits = pictures, limits
        self.entries: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.similarities = np.zeros((0, 0))
        self.nearness = np.zeros((0, 0))
        self.radius: np.ndarray | None = None
        self._read()

    def _read(self) -> None:
        found, radii = [], []
        for rows, shown in explanations(self.subject, self.order):
            if shown.places is not None and self.limits is not None:
                shown.places.limits = self.limits
            found.append((np.asarray(shown.similarities), _nearness(shown)))
            radii.append(shown.radius)
            wide = self._dense(rows) if self._needs_dense else None
            for i, row in enumerate(rows.tolist()):
                own = None if wide is None else wide[i]
                self.entries.append(self._entry(shown, i, row, own))
        self.similarities = np.concatenate([similar for similar, _ in found])
        self.nearness = np.concatenate([near for _, near in found])
        known = [radius for radius in radii if radius is not None]
        self.radius = np.concatenate(known) if known else None

    @property
    def _needs_dense(self) -> bool:
        return self.subject.is_table

    @property
    def _in_words(self) -> bool:
        """Whether the features are words: a wide table made of texts."""
        subject = self.subject
        texts, names = subject.texts is not None, subject.features
        return texts and subject.is_table and bool(subject.steps) and names is not None

    def _dense(self, rows: np.ndarray) -> np.ndarray:
        dense = dense_rows(self.subject.X, rows).astype(float)
        units = self.subject.units
        return dense if units is None else units.undo(dense)

    def _entry(self, shown: Any, i: int, row: int, dense) -> dict[str, Any]:
        view = shown._view(i, n_for=N_FOR, n_against=N_AGAINST)
        self.notes = view.picture_notes or self.notes
        predicted, rival = shown._rivals(i)
        entry: dict[str, Any] = {
            "i": self.subject.index[row],
            "y": int(self.subject.codes[row]),
            "p": predicted,
            "v": rival,
            "c": self._classes(shown.probabilities[i], view.probability),
            "s": view.prediction,
            "e": [self._row(shown, i, evidence, dense) for evidence in view.rows],
            "n": [list(note) for note in view.notes],
        }
        if shown.radius is not None:
            radius = float(shown.radius[i])
            entry["r"] = float(f"{radius:.4g}") if np.isfinite(radius) else None
        if view.pictures:
            entry["g"] = [self.pictures.refer(picture) for picture in view.pictures]
        if has_pictures(shown) and shown.places is not None:
            images = shown.places.images
            if images is not None:
                pixels = as_rgb(images[i], range_of(shown))
                entry["t"] = self.pictures.add(pixels)
        if dense is not None:
            entry.update(self._values(shown, dense))
        if self.subject.texts is not None:
            entry["x"] = self.subject.texts[row]
        if self.subject.given is not None:
            entry["o"] = self.subject.given[1][row].tolist()
        entry.update(_family(shown, i))
        return entry

    def _classes(self, probabilities: np.ndarray, _: str) -> list[list[Any]]:
        order = np.argsort(-probabilities, kind="stable")[:N_CLASSES]
        return [[int(k), round(float(probabilities[k]), 5)] for k in order]

    def _row(self, shown: Any, i: int, row: Row, dense) -> list[Any]:
        compared: list[Any] = []
        if row.compared is not None:
            compared = [row.compared.heading, [list(f) for f in row.compared.features]]
        reference = shown.prototypes.reference
        if self._in_words and row.prototype is not None and reference is not None:
            words = shared_words(
                dense, reference[row.prototype], shown.prototypes.names
            )
            compared = [words[0], [list(word) for word in words[1]]]
        pictures = [self.pictures.refer(picture) for picture in row.pictures]
        number = -1 if row.prototype is None else row.prototype
        value = float(f"{row.value:.5g}")
        shape = [row.group, row.case, value, row.shown, number, row.note, compared]
        return [*shape, pictures] if pictures else shape

    def _values(self, shown: Any, dense: np.ndarray) -> dict[str, Any]:
        if len(dense) <= MAX_DENSE and not self._in_words:
            return {"f": digits(dense)}
        table = shown.prototypes
        center = np.zeros(len(dense)) if table.center is None else table.center
        scale = np.ones(len(dense)) if table.scale is None else table.scale
        scale = np.where(scale > 0, scale, 1.0)
        return {"w": telling(dense[None], center, scale, words=self._in_words)[0]}


def _nearness(shown: Any) -> np.ndarray:
    """Return how near each prototype is to each case, the larger the nearer."""
    # Of many cases the prototype of a node is all but certainly present.
    by_distance = isinstance(shown, TreeExplanation | EnsembleExplanation)
    if by_distance and shown.distances is not None:
        return -np.asarray(shown.distances, dtype=float)
    similar = np.asarray(shown.similarities, dtype=float)
    return -similar if shown.similarity_name == "squared distance" else similar


def _family(shown: Any, i: int) -> dict[str, Any]:
    """Return what only one family of models has to say of a case."""
    if isinstance(shown, ReasoningExplanation):
        return {"b": _reasoning(shown, i)}
    if isinstance(shown, PairExplanation):
        return {"d": [int(shown.winner[i]), int(shown.runner_up[i])]}
    if isinstance(shown, TreeExplanation):
        return {"k": [shown.path[i]], "l": _presence(shown, i)}
    if isinstance(shown, EnsembleExplanation):
        paths = [tree.path[i] for tree in shown.trees]
        return {"k": paths, "l": _presence(shown, i)}
    return {}


def _presence(shown: Any, i: int) -> list[int]:
    """Return the probability that each prototype is present, in thousandths."""
    share: list[int] = np.round(1000 * shown.similarities[i]).astype(int).tolist()
    return share


def _reasoning(shown: ReasoningExplanation, i: int) -> dict[str, Any]:
    """Return what presence and absence of components give the two first classes."""
    pair = list(shown._rivals(i))
    shares = np.stack([shown.presence[i][:, pair], shown.absence[i][:, pair]], axis=2)
    size = shares.max(axis=(1, 2))
    chosen = np.argsort(-size, kind="stable")[:N_COMPONENTS]
    chosen = chosen[size[chosen] > FAINT * size.max(initial=0.0)]
    rest = shares.sum(axis=0) - shares[chosen].sum(axis=0)
    return {
        "k": chosen.tolist(),
        "d": digits(shown.similarities[i][chosen]),
        "s": [digits(row.ravel()) for row in shares[chosen]],
        "o": digits(np.maximum(rest, 0).ravel()),
        "t": digits(shown.scores[i][pair]),
    }
