"""The prototypes of a report: where they come from, what they do, what is near."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skproto.display._report._words import MAX_DENSE, digits, telling
from skproto.explanation import TreeGlobalExplanation
from skproto.explanation._cases import case_name, short_case
from skproto.explanation._gallery import tile_pictures
from skproto.explanation._image_blocks import has_pictures, source_text
from skproto.explanation._pictures import part_pictures, range_of, source_picture

if TYPE_CHECKING:
    from skproto.display._report._cases import CaseBook
    from skproto.display._report._store import Pictures
    from skproto.display._report._subject import Subject

N_NEAR = 8  # cases shown as the nearest of a prototype
N_PURE = 10  # nearest cases of which the share of the own class is the purity


def prototype_entries(
    shown: Any, subject: Subject, book: CaseBook, pictures: Pictures
) -> dict[str, Any]:
    """Return the prototypes as columns.

    Parameters
    ----------
    shown : GlobalExplanation
        The model in the user's names and units.

    subject : Subject
        Model and cases.

    book : CaseBook
        The cases shown, with their similarities.

    pictures : Pictures
        Where pictures are kept.
    """
    table, n = shown.prototypes, len(shown)
    position = {name: k for k, name in enumerate(subject.classes.tolist())}
    labels = [position.get(str(label), -1) for label in table.labels]
    nearest, use = _use(book, np.array(labels))
    columns: dict[str, Any] = {
        "id": [int(i) for i in table.ids],
        "label": labels,
        "name": [case_name(table, k) for k in range(n)],
        "short": [short_case(table, k) for k in range(n)],
        "row": [int(i) for i in table.indices],
        "case": [int(is_case) for is_case in table.is_case],
        "distance": digits(table.projection_distance),
        "near": nearest,
        **use,
    }
    if table.sample_labels is not None:
        columns["source"] = [str(label) for label in table.sample_labels]
    if shown.win_counts is not None:
        columns["wins"] = digits(shown.win_counts)
    locked = getattr(subject.estimator, "prototype_locked_", None)
    if locked is not None and np.any(locked):
        columns["locked"] = [int(is_locked) for is_locked in locked]
    columns.update(_model_columns(shown, subject, labels))
    if has_pictures(shown):
        columns.update(_pictured(shown, pictures))
    if table.places is not None:
        columns["place"] = [source_text(table, k) for k in range(n)]
    columns.update(_values(shown, subject))
    if subject.source_texts is not None:
        texts = subject.source_texts
        known = [int(i) for i in table.indices]
        columns["text"] = [texts[i] if 0 <= i < len(texts) else "" for i in known]
    return columns


def _use(book: CaseBook, labels: np.ndarray) -> tuple[list[Any], dict[str, Any]]:
    """Return the nearest cases of each prototype, and how it is used in the cases."""
    similar, shown = book.nearness, book.similarities
    true = book.subject.codes[book.order]
    order = np.argsort(-similar, axis=0, kind="stable")
    nearest = [
        [order[:N_NEAR, k].tolist(), digits(shown[order[:N_NEAR, k], k])]
        for k in range(similar.shape[1])
    ]
    own = true[order[:N_PURE]] == labels
    won = np.bincount(similar.argmax(axis=1), minlength=similar.shape[1])
    return nearest, {
        "purity": digits(own.mean(axis=0)),
        "won": [int(count) for count in won] if similar.shape[1] else [],
        "mean": digits(shown.mean(axis=0)),
        "best": digits(shown[order[0], np.arange(shown.shape[1])]),
    }


def _model_columns(shown: Any, subject: Subject, labels: list[int]) -> dict[str, Any]:
    """Return the weights and radii of the prototypes, as far as a model has them."""
    columns: dict[str, Any] = {}
    n = len(shown)
    if shown.weights is not None:
        weights = np.asarray(shown.weights, dtype=float)
        columns["weights"] = digits(weights)
        columns["weight"] = digits(
            [weights[k, c] if c >= 0 else np.nan for k, c in enumerate(labels)]
        )
    trees = getattr(shown, "trees", None) or [shown]
    tables = [tree.tree for tree in trees if isinstance(tree, TreeGlobalExplanation)]
    radii = [table.radii for table in tables if table.radii is not None]
    if radii and len(radii) == len(tables):
        columns["radius"] = digits(np.concatenate(radii))
        return columns
    bandwidths = np.asarray(getattr(subject.estimator, "sigma_", np.nan))
    if bandwidths.shape == (n,):
        power = 2 if subject.estimator.kernel == "squared" else 1
        columns["radius"] = digits((np.log(2) * bandwidths) ** (1 / power))
    return columns


def _pictured(shown: Any, pictures: Pictures) -> dict[str, Any]:
    """Return the pictures of the prototypes: the tile, and all there is."""
    table, values = shown.prototypes, range_of(shown)
    tiles, details = [], []
    for k in range(len(shown)):
        tiles.append([pictures.refer(p) for p in tile_pictures(table, k, values)])
        source = source_picture(table, k, values)
        parts = part_pictures(table, k, values)
        whole = [] if source is None else [source]
        details.append([pictures.refer(p) for p in [*whole, *parts]])
    return {"tile": tiles, "pictures": details}


def _values(shown: Any, subject: Subject) -> dict[str, Any]:
    """Return the values of the prototypes in the user's units."""
    table = shown.prototypes
    if table.reference is None or not len(shown):
        return {}
    n_features = table.reference.shape[1]
    center = np.zeros(n_features) if table.center is None else table.center
    scale = np.ones(n_features) if table.scale is None else table.scale
    scale = np.where(scale > 0, scale, 1.0)
    words = subject.texts is not None and bool(subject.steps)
    found: dict[str, Any] = {
        "telling": telling(table.reference, center, scale, words=words)
    }
    if n_features <= MAX_DENSE and not words:
        found["values"] = digits(table.reference)
        both = table.values is not None and table.samples is not None
        if both and not table.is_case.all():
            found["samples"] = digits(table.samples)
    return found


def feature_columns(shown: Any, subject: Subject) -> dict[str, Any] | None:
    """Return names of the features, and what is ordinary for each."""
    table = shown.prototypes
    if subject.features is None:
        return None
    names = [str(name) for name in subject.features]
    if table.center is None or table.scale is None:
        return {"name": names}
    return {
        "name": names,
        "center": digits(table.center),
        "scale": digits(np.where(table.scale > 0, table.scale, 1.0)),
    }
