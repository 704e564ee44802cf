"""Coordinates of the charts of the model card; the template draws them as SVG."""

from __future__ import annotations

from typing import Any

import numpy as np

from skproto.explanation._numbers import number

WIDTH, HEIGHT = 300, 220  # of a chart, in the units of its view box
LEFT, RIGHT, TOP, BOTTOM = 40, 10, 10, 34  # room around the plotted area


class Axes:
    """Maps values to places in a chart."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]):
        self.limits = (x, y)

    def x(self, value: float) -> float:
        """Return the place of a value from left."""
        low, high = self.limits[0]
        share = (value - low) / (high - low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Return the place of a value from the top."""
        low, high = self.limits[1]
        share = (value - low) / (high - low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def frame(self, x_ticks: Any, y_ticks: Any) -> dict[str, Any]:
        """Return the axes with their ticks."""
        return {
            "width": WIDTH,
            "height": HEIGHT,
            "box": (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
            "x_ticks": [(self.x(value), text) for value, text in x_ticks],
            "y_ticks": [(self.y(value), text) for value, text in y_ticks],
        }


def _percents(low: float) -> list[tuple[float, str]]:
    step = 0.1 if low >= 0.5 else 0.25
    return [(v, f"{v:.0%}") for v in np.arange(low, 1.001, step).tolist()]


def calibration_chart(bins: list[dict[str, float]]) -> dict[str, Any]:
    """Return the chart of how often the model is right, by how sure it is."""
    lowest = min(min(b["confidence"], b["low"]) for b in bins)
    low = 0.5 if lowest >= 0.5 else 0.0
    axes = Axes((low, 1.0), (low, 1.0))
    ticks = _percents(low)
    points = [
        {
            "x": axes.x(b["confidence"]),
            "y": axes.y(b["accuracy"]),
            "low": axes.y(b["low"]),
            "high": axes.y(b["high"]),
        }
        for b in bins
    ]
    diagonal = (axes.x(low), axes.y(low), axes.x(1.0), axes.y(1.0))
    return {**axes.frame(ticks, ticks), "points": points, "diagonal": diagonal}


def round_steps(top: float) -> list[float]:
    """Return round numbers from 0 to at most a limit, about five of them.

    Examples
    --------
    >>> round_steps(3.3)
    [0.0, 1.0, 2.0, 3.0]
    """
    power = 10.0 ** np.floor(np.log10(top / 5))
    steps = (power * factor for factor in (1, 2, 5, 10))
    step = next(s for s in steps if top / s <= 5)
    return [float(f"{step * k:.6g}") for k in range(int(top / step) + 1)]


def step_chart(curve: list[tuple[float, float]]) -> dict[str, Any]:
    """Return the chart of the share of cases that stay right, by size of change."""
    top = curve[-1][0]
    axes = Axes((0.0, top), (0.0, 1.0))
    x_ticks = [(value, number(value, 2)) for value in round_steps(top)]
    y_ticks = [(v, f"{v:.0%}") for v in (0.0, 0.25, 0.5, 0.75, 1.0)]
    path = " ".join(
        f"{'M' if j == 0 else 'L'}{axes.x(r)} {axes.y(share)}"
        for j, (r, share) in enumerate(curve)
    )
    text = ", ".join(
        f"{share:.0%} up to {number(r, 2)}" for r, share in curve[:: len(curve) // 4]
    )
    return {**axes.frame(x_ticks, y_ticks), "path": path, "text": text}


def loss_chart(history: Any) -> dict[str, Any] | None:
    """Return the chart of the training loss by epoch; None where it says nothing."""
    if history is None or "train_loss" not in history or "tree" in history:
        return None
    loss = np.asarray(history["train_loss"], dtype=float)
    loss = loss[np.isfinite(loss)]
    if len(loss) < 3 or loss.max() <= loss.min():
        return None
    low, high = float(loss.min()), float(loss.max())
    axes = Axes((1.0, float(len(loss))), (min(low, 0.0), high))
    at = np.unique(np.linspace(0, len(loss) - 1, 200).astype(int))
    path = " ".join(
        f"{'M' if j == 0 else 'L'}{axes.x(1.0 + e)} {axes.y(float(loss[e]))}"
        for j, e in enumerate(at.tolist())
    )
    middle = (1 + len(loss)) // 2
    x_ticks = [(float(e), str(e)) for e in dict.fromkeys((1, middle, len(loss)))]
    y_ticks = [(v, number(v, 2)) for v in (min(low, 0.0), high)]
    text = f"from {number(loss[0])} to {number(loss[-1])} in {len(loss)} epochs"
    return {**axes.frame(x_ticks, y_ticks), "path": path, "text": text}
