"""Words of texts, and features of wide tables: what of a sparse row is shown."""

from __future__ import annotations

from typing import Any

import numpy as np

MAX_DENSE = 100  # features of which all values are kept
MAX_TELLING = 16  # features kept of each row otherwise
MAX_SHARED = 5  # words named that a case shares with a prototype


def digits(values: Any) -> Any:
    """Return numbers with five significant digits as lists; None for what is none."""
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return [digits(row) for row in values]
    return [
        float(f"{value:.5g}") if np.isfinite(value) else None
        for value in np.asarray(values, dtype=float).tolist()
    ]


def telling(
    rows: np.ndarray, center: np.ndarray, scale: np.ndarray, *, words: bool
) -> list[list[list[Any]]]:
    """Return for each row the features by which it stands out, with their values.

    Parameters
    ----------
    rows : array of shape (n, f)
        Values.

    center, scale : array of shape (f,)
        What is ordinary.

    words : bool
        Whether the features are words of texts: only those that occur are named, by
        the size of their value.
    """
    size = np.abs(rows) if words else np.abs(rows - center) / scale
    limit = min(MAX_TELLING, rows.shape[1])
    chosen = np.argsort(-size, axis=1, kind="stable")[:, :limit]
    found = []
    for row, at, weight in zip(rows, chosen, size, strict=True):
        kept = [f for f in at.tolist() if weight[f] > 0]
        found.append([[f, float(f"{row[f]:.5g}")] for f in kept])
    return found


def shared_words(
    row: np.ndarray, case: np.ndarray, names: np.ndarray
) -> tuple[str, list[tuple[str, str, str]]]:
    """Return the words that a text and a prototype share, or that only one has."""
    both = np.minimum(np.abs(row), np.abs(case))
    heading, size = "shared words", both
    if not both.any():
        heading, size = "words of the prototype", np.abs(case)
    order = np.argsort(-size, kind="stable")[:MAX_SHARED]
    return heading, [
        (str(names[f]), f"{row[f]:.2g}", f"{case[f]:.2g}") for f in order if size[f] > 0
    ]
