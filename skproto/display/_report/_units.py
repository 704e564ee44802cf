"""Undo the steps before a classifier, so that its numbers are in the user's units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

N_TRIED = 50  # rows on which it is tried whether steps can be undone


@dataclass
class Units:
    """Steps of a pipeline that act on each feature alone and can be undone."""

    steps: Any

    def undo(self, rows: np.ndarray) -> np.ndarray:
        """Return rows (n, f) as they were before the steps."""
        frame = self.steps.inverse_transform(np.asarray(rows, dtype=float))
        return np.asarray(frame, dtype=float)

    def scale(self, center: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Return how far one inner scale reaches around a point (f,)."""
        ends = self.undo(np.stack([center - scale / 2, center + scale / 2]))
        return np.abs(ends[1] - ends[0])


def user_units(before, raw, X) -> Units | None:
    """Return the steps before a classifier, if each feature can be led back.

    Parameters
    ----------
    before : Pipeline or None
        The steps.

    raw, X : array-like
        Rows before and after them.
    """
    if before is None or sp.issparse(X) or not hasattr(before, "inverse_transform"):
        return None
    try:
        rows = np.asarray(raw, dtype=float)[:N_TRIED]
        units, shown = Units(before), np.asarray(X, dtype=float)[:N_TRIED]
        if rows.shape != shown.shape:
            return None
        back = units.undo(shown)
        # A row mixed of two must come back as the same mixture.
        mixed = np.arange(shown.shape[1]) % 2 == 0
        other = units.undo(np.where(mixed, shown, shown[::-1]))
    except (TypeError, ValueError, AttributeError):
        return None
    size = np.abs(rows).max(axis=0, initial=0.0) + 1e-12
    alike = np.abs(back - rows) <= 1e-4 * size
    apart = np.abs(other - np.where(mixed, back, back[::-1])) <= 1e-4 * size
    return units if alike.all() and apart.all() else None
