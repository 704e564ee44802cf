"""Compare what an explanation shows with what can be recomputed from it."""

from __future__ import annotations

from typing import Any

import numpy as np

AXIS_WORDS = {"K": "class", "P": "prototype", "L": "leaf", "F": "feature", "M": "part"}


def softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax of the rows, shifted by their maximum."""
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def normalize(scores: np.ndarray) -> np.ndarray:
    """Divide non-negative rows by their sum; an all-zero row becomes uniform."""
    total = scores.sum(axis=1, keepdims=True)
    uniform = np.full_like(scores, 1.0 / scores.shape[1])
    return np.where(total > 0, scores / np.where(total > 0, total, 1.0), uniform)


LINKS = {"softmax": softmax, "normalize": normalize}


class Checker:
    """Raise where two arrays differ, naming sample, class, prototype or leaf.

    Parameters
    ----------
    names : dict of str to sequence
        What to call the entries of each axis, by axis letter ("n" for the samples).

    rtol : float
        Allowed difference in units of `magnitude`.
    """

    def __init__(self, names: dict[str, Any], rtol: float) -> None:
        self.names = names
        self.rtol = rtol

    def where(self, axes: str, index: tuple[int, ...]) -> str:
        """Name one entry, as in "sample 17, class 'malignant'"."""
        words = []
        for axis, position in zip(axes, index, strict=True):
            known = self.names.get(axis)
            name = position if known is None else known[position]
            name = name.item() if isinstance(name, np.generic) else name
            words.append(f"{AXIS_WORDS.get(axis, 'sample')} {name!r}")
        return ", ".join(words)

    def close(
        self,
        what: str,
        axes: str,
        shown: np.ndarray,
        recomputed: np.ndarray,
        magnitude: Any = 1.0,
    ) -> None:
        """Raise unless two arrays agree within ``rtol * magnitude``."""
        shown, recomputed = np.broadcast_arrays(shown, recomputed)
        gap = np.abs(shown.astype(float) - recomputed)
        allowed = np.broadcast_to(self.rtol * np.asarray(magnitude, float), gap.shape)
        bad = np.argwhere(~(gap <= allowed + np.finfo(np.float32).tiny))
        if len(bad):
            at = tuple(int(i) for i in bad[0])
            raise ValueError(
                f"{what} of {self.where(axes, at)}: {shown[at]:.9g} is shown, but "
                f"{recomputed[at]:.9g} follows from the other numbers."
            )

    def true(self, what: str, axes: str, holds: np.ndarray) -> None:
        """Raise unless a condition holds everywhere."""
        bad = np.argwhere(~np.asarray(holds, bool))
        if len(bad):
            at = tuple(int(i) for i in bad[0])
            raise ValueError(f"{self.where(axes, at)}: {what}.")

    def decision(
        self,
        prediction: np.ndarray,
        predicted: np.ndarray,
        scores: np.ndarray,
        size: np.ndarray,
    ) -> None:
        """Raise unless the predicted class has the highest score."""
        known = predicted >= 0
        self.true("the predicted label is none of the classes", "n", known)
        best = scores.max(axis=1)
        own = np.take_along_axis(scores, predicted[:, None], axis=1)[:, 0]
        wrong = np.argwhere(~(own >= best - self.rtol * size.max(axis=1)))
        if len(wrong):
            i = int(wrong[0, 0])
            top = self.where("K", (int(scores[i].argmax()),))
            raise ValueError(
                f"{self.where('n', (i,))}: the prediction is {prediction[i]!s}, but "
                f"the highest score is that of {top}."
            )

    def probabilities(
        self,
        shown: np.ndarray,
        predicted: np.ndarray,
        scores: np.ndarray,
        link: str | None,
    ) -> None:
        """Raise unless the probabilities are a distribution that fits the scores."""
        if link is not None:
            follows = LINKS[link](scores.astype(float))
            size = np.maximum(1.0, np.abs(scores).max(axis=1, initial=0.0))
            self.close("probability", "nK", shown, follows, size[:, None])
        total = shown.sum(axis=1, dtype=float)
        self.close("sum of the probabilities", "n", total, np.ones(len(total)))
        self.true(
            "a probability lies outside [0, 1]", "nK", (shown >= 0) & (shown <= 1)
        )
        own = np.take_along_axis(shown, predicted[:, None], axis=1)[:, 0]
        self.true(
            "another class has a higher probability than the prediction",
            "n",
            own >= shown.max(axis=1) - self.rtol,
        )


def check_similarities(check: Checker, shown: Any) -> None:
    """Check similarities against distances, and distances against feature values."""
    table = shown.prototypes
    if shown.distances is None:
        return
    distances = shown.distances.astype(float)
    if shown.kernel is not None and shown.bandwidths is not None:
        power = 2 if shown.kernel == "squared" else 1
        similar = np.exp(-(distances**power) / shown.bandwidths)
        check.close("similarity", "nP", shown.similarities, similar)
    comparable = shown.samples is not None and table.values is not None
    if shown.metric is not None and comparable:
        scale = 1.0 if table.scale is None else table.scale
        x, w = shown.samples / scale, table.values / scale
        weights = np.ones_like(w) if table.weights is None else table.weights
        for k in range(len(table)):
            follows = np.sqrt(((x - w[k]) ** 2 * weights[k]).sum(axis=1))
            size = 1.0 + np.abs(x).max(axis=1) + np.abs(w[k]).max()
            what = f"distance to prototype {table.ids[k]}"
            check.close(what, "n", distances[:, k], follows, size)
