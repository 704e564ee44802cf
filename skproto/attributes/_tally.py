"""Sums over samples that come some at a time, from which global scores are made."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skproto.attributes import _reading as reading
from skproto.attributes import _scores as scoring
from skproto.attributes._passes import Part, Passes
from skproto.metrics import prototype_classes

Floats = NDArray[np.float64]


class Tally:
    """Weighted sums of what a pass finds.

    Parameters
    ----------
    passes : Passes
        The pass.

    counts : ndarray of shape (R + 1, n)
        How often each draw holds each sample; the first draw holds all once.

    normalize : {None, "relative", "per_rms"}
        Units of the scores.

    tol : float
        Share of the similarity below which a drop is none.
    """

    def __init__(self, passes: Passes, counts: Floats, normalize, tol: float):
        self.passes, self.counts = passes, counts
        self.normalize, self.tol = normalize, tol
        self.totals: dict[str, scoring.Total] = {}
        self.weights: Any = 0.0

    def add(self, part: Part) -> None:
        """Add what was found about some samples."""
        s, drops = part.found.similarities, part.drops
        drawn = self.counts[:, part.rows]
        self._add("drops", drops, s, drawn)
        if self.normalize == "relative":
            share = scoring.normalized(drops, s, "relative", np.empty(0))
            self._add("relative", share, s, drawn)
        once = np.ones((1, len(s)))
        highest = drops.max(axis=2, initial=-np.inf)
        silent = ~(highest > self.tol * np.maximum(s, 0.0))
        self._add("similarity", s, s, once)
        self._add("unexplained", silent.astype(np.float64), s, once)
        if part.bounded is not None:
            self._add("bounded", part.bounded, s, once)
        prepared = self.passes.reader.prepared(part.inputs)
        told = reading.answers(self.passes.model, prepared)
        if told is not None:
            missing = (told < 0).astype(np.float64)
            self._add("rises", -drops, missing, once)
        self.weights = self.weights + np.maximum(s, 0.0).sum(axis=0)

    def _add(self, name: str, values: Floats, weights: Floats, counts: Floats) -> None:
        shape = (len(counts), *values.shape[1:])
        total = self.totals.setdefault(name, scoring.Total(shape[0], shape[1:]))
        total.add(values, weights, counts)

    def once(self, name: str) -> Floats:
        """Return the mean over the samples."""
        return np.asarray(self.totals[name].mean()[0])

    def known(self, name: str) -> Floats | None:
        """Return the mean over the samples, None where nothing was added."""
        return self.once(name) if name in self.totals else None

    def scores(self) -> Floats:
        """Return the scores (R + 1, P, A) of all draws."""
        if self.normalize == "relative":
            return self.totals["relative"].mean()
        drops = self.totals["drops"].mean()
        rms = self.passes.rms_change()
        return scoring.normalized(drops, np.empty(0), self.normalize, rms)

    def null(self, scores: Floats) -> Floats | None:
        """Return the medians over prototypes of other classes, None without classes."""
        model = self.passes.model
        if not hasattr(model, "classes_") or not hasattr(model, "prototype_labels_"):
            return None
        return scoring.null_scores(scores, prototype_classes(model))
