"""How good a model is on the cases of a report, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import norm

from skproto.display._report._subject import Subject
from skproto.metrics import bootstrap_interval

LEVEL = 0.95
N_BINS = 8  # groups of cases in the calibration plot
MIN_IN_BIN = 8
N_DRAWS = 200  # of the bootstrap
MAX_MATRIX = 15  # classes of which the whole confusion matrix is shown
MAX_CONFUSED = 20  # pairs listed where there are more classes


@dataclass
class Predictions:
    """What a model says of all cases, and how sure it is."""

    codes: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    radius: np.ndarray | None = None

    @property
    def right(self) -> np.ndarray:
        """Which cases are classified right, bool (n,)."""
        return self.codes == self.predicted

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the predicted class, shape (n,)."""
        found: np.ndarray = self.probabilities[
            np.arange(len(self.codes)), self.predicted
        ]
        return found

    def margin(self) -> np.ndarray:
        """Probability of the predicted class minus the next one, shape (n,)."""
        others = self.probabilities.copy()
        others[np.arange(len(others)), self.predicted] = -np.inf
        return np.asarray(self.confidence - others.max(axis=1, initial=-1.0))

    def order(self) -> np.ndarray:
        """Cases with the wrong ones first, then the least certain; shape (n,)."""
        return np.lexsort((self.margin(), self.right))


def predictions(subject: Subject) -> Predictions:
    """Classify all cases of a report."""
    model = subject.estimator
    outputs = model._forward(subject.X, model._score_keys)
    return Predictions(
        subject.codes,
        np.asarray(model._probabilities(outputs)),
        np.asarray(model._codes(outputs)),
    )


def wilson(n_right: float, n: int) -> tuple[float, float]:
    """Return Wilson's interval of a share at the level of 95 per cent.

    Examples
    --------
    >>> [round(end, 3) for end in wilson(45, 50)]
    [0.786, 0.957]
    """
    z = float(norm.ppf(0.5 + LEVEL / 2))
    share = n_right / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def balanced_interval(found: Predictions, random_state) -> tuple[float, float, float]:
    """Return the balanced accuracy with its bootstrap interval."""
    score = partial(balanced_accuracy, n_classes=found.probabilities.shape[1])
    low, high = bootstrap_interval(
        score,
        found.codes,
        found.predicted,
        n_resamples=N_DRAWS,
        confidence_level=LEVEL,
        random_state=random_state,
    )
    return float(score(found.codes, found.predicted)), float(low), float(high)


def balanced_accuracy(
    codes: np.ndarray, predicted: np.ndarray, n_classes: int
) -> float:
    """Return the mean recall of the classes that occur.

    Examples
    --------
    >>> balanced_accuracy(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), 3)
    0.75
    """
    n = np.bincount(codes, minlength=n_classes)
    hits = np.bincount(codes[codes == predicted], minlength=n_classes)
    return float((hits[n > 0] / n[n > 0]).mean())


def calibration(found: Predictions) -> list[dict[str, float]]:
    """Return groups of cases of like confidence, with the share that is right."""
    confidence, right = found.confidence, found.right
    n_bins = int(np.clip(len(right) // MIN_IN_BIN, 1, N_BINS))
    groups = np.array_split(np.argsort(confidence, kind="stable"), n_bins)
    bins = []
    for members in groups:
        n_right = float(right[members].sum())
        low, high = wilson(n_right, len(members))
        bins.append(
            {
                "confidence": float(confidence[members].mean()),
                "accuracy": n_right / len(members),
                "low": low,
                "high": high,
                "n": len(members),
            }
        )
    return bins


def calibration_error(bins: list[dict[str, float]]) -> float:
    """Return the mean gap between confidence and accuracy."""
    total = sum(bin_["n"] for bin_ in bins)
    gaps = (abs(bin_["confidence"] - bin_["accuracy"]) * bin_["n"] for bin_ in bins)
    return sum(gaps) / total


def confusion(found: Predictions, classes: np.ndarray) -> dict[str, Any]:
    """Return the confusion matrix, or the pairs most often confused."""
    n = len(classes)
    counts = np.zeros((n, n), dtype=int)
    np.add.at(counts, (found.codes, found.predicted), 1)
    rows = counts.sum(axis=1)
    pairs = [
        (int(counts[t, p]), t, p)
        for t, p in zip(*np.nonzero(counts), strict=True)
        if t != p
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    return {
        "counts": counts.tolist(),
        "shares": (counts / np.maximum(rows, 1)[:, None]).tolist(),
        "whole": n <= MAX_MATRIX,
        "pairs": [[int(t), int(p), count] for count, t, p in pairs[:MAX_CONFUSED]],
        "n_pairs": len(pairs),
    }


def per_class(found: Predictions, classes: np.ndarray) -> list[dict[str, Any]]:
    """Return number of cases, recall and precision of each class."""
    entries = []
    for c, name in enumerate(classes):
        own, said = found.codes == c, found.predicted == c
        hit = float((own & said).sum())
        entries.append(
            {
                "name": str(name),
                "n": int(own.sum()),
                "recall": hit / own.sum() if own.any() else None,
                "precision": hit / said.sum() if said.any() else None,
            }
        )
    return entries


def certified_curve(found: Predictions) -> list[tuple[float, float]]:
    """Return radii and the share of cases that stay right under smaller changes."""
    if found.radius is None or not np.isfinite(found.radius).any():
        return []
    radius = np.where(found.right, found.radius, -1.0)
    finite = radius[np.isfinite(radius)]
    top = float(np.quantile(finite, 0.99)) if len(finite) else 0.0
    if top <= 0:
        return []
    steps = np.linspace(0, top, 41)
    return [(float(r), float((radius > r).mean())) for r in steps]
