"""Explanations with the names and units that a report shows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from skproto.display._report._subject import Subject
    from skproto.explanation import PrototypeTable

MAX_ENTRIES = 4_000_000  # evidence of so many samples, units and classes at a time


def explanations(subject: Subject, order: np.ndarray):
    """Yield positions of cases and their explanation, some cases at a time.

    Parameters
    ----------
    subject : Subject
        Model and cases.

    order : array of int of shape (m,)
        Cases to explain, in this order.
    """
    model = subject.estimator
    n_units = max(len(model.prototypes_), 1) * len(subject.classes)
    # Receptive fields are computed for so few images at a time.
    size = 512 if subject.is_table else 64
    size = max(1, min(size, MAX_ENTRIES // n_units))
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        X = subject.X[rows]
        names = np.array([subject.index[row] for row in rows], dtype=object)
        shown = model._explanation(model._forward(X), X, names)
        yield rows, told(shown, subject, rows)


def told(shown: Any, subject: Subject, rows: np.ndarray | None = None) -> Any:
    """Return an explanation in the user's names and units.

    Parameters
    ----------
    shown : Explanation or GlobalExplanation
        What the model says.

    subject : Subject
        Names and units.

    rows : array of int or None
        Positions of the cases that are explained.
    """
    changes: dict[str, Any] = {
        "classes": subject.classes,
        "prototypes": _table(shown.prototypes, subject),
    }
    if getattr(shown, "prediction", None) is not None:
        changes["prediction"] = subject.named(shown.prediction)
    if getattr(shown, "class_sets", None) is not None:
        changes["class_sets"] = [subject.named(labels) for labels in shown.class_sets]
    if getattr(shown, "trees", None) is not None:
        changes["trees"] = [told(tree, subject, rows) for tree in shown.trees]
    if subject.units is not None and getattr(shown, "samples", None) is not None:
        changes["samples"] = subject.units.undo(shown.samples)
    return replace(shown, **changes)


def _table(table: PrototypeTable, subject: Subject) -> PrototypeTable:
    changes: dict[str, Any] = {"labels": subject.named(table.labels)}
    if table.sample_labels is not None:
        changes["sample_labels"] = subject.named(table.sample_labels)
    if table.reference is not None and subject.features is not None:
        changes["feature_names"] = subject.features
    units = subject.units
    if units is not None and len(table):
        for name in ("values", "samples"):
            if getattr(table, name) is not None:
                changes[name] = units.undo(getattr(table, name))
        if table.center is not None and table.scale is not None:
            changes["center"] = units.undo(table.center[None])[0]
            changes["scale"] = units.scale(table.center, table.scale)
    return replace(table, **changes)


def dense_rows(X: Any, rows: np.ndarray) -> np.ndarray:
    """Return rows of a table as an array."""
    found = X[rows]
    return found.toarray() if sp.issparse(found) else np.asarray(found)
