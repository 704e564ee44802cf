"""Certainty of a soft replacement: how near a prototype has to stay to an item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Shares by which a limit is kept more where rounding to float32 would break it.
SLACKS = (0.0, 1e-7, 1e-6, 1e-5)


@dataclass(frozen=True)
class Ball:
    r"""Euclidean constraint: :math:`\|p - e\| \le r` with :math:`r = (1 - c)\,\|p_0 -
    e\|`.

    Parameters
    ----------
    center : ndarray
        The item e in latent space, the mean of several.

    radius : float
        Largest distance r.

    start : float
        Distance from which the prototype came.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto._editing import Ball
    >>> ball = Ball.from_certainty(np.array([4.0, 3.0]), np.zeros(2), 0.8)
    >>> ball.project(np.zeros(2)).round(6).tolist(), round(ball.radius, 6)
    ([3.2, 2.4], 1.0)
    """

    center: Array
    radius: float
    start: float
    kind = "ball"

    @classmethod
    def from_certainty(cls, center: Array, point: Array, certainty: float) -> Ball:
        """Return the ball for a prototype that comes from a point."""
        start = float(np.linalg.norm(point - center))
        return cls(center, (1.0 - certainty) * start, start)

    def project(self, p: Array, slack: float = 0.0) -> Array:
        """Return the admissible point nearest to p; `slack` keeps it further inside."""
        offset = p - self.center
        length = float(np.linalg.norm(offset))
        if length <= self.radius:
            return p
        if self.radius == 0:
            return self.center.copy()
        return self.center + offset * (self.radius * (1.0 - slack) / length)

    def keeps(self, p: Array) -> bool:
        """Tell whether a point is admissible."""
        return float(np.linalg.norm(p - self.center)) <= self.radius

    def reached(self, p: Array) -> float:
        """Return the certainty of a point: 1 on the item, 0 where it came from."""
        distance = float(np.linalg.norm(p - self.center))
        return 1.0 if self.start == 0 else 1.0 - distance / self.start

    def to_dict(self) -> dict[str, Any]:
        """Return plain arrays and numbers."""
        return {
            "kind": self.kind,
            "center": self.center,
            "radius": self.radius,
            "start": self.start,
        }


@dataclass(frozen=True)
class Cap:
    r"""Constraint on the angle: :math:`\cos(p, e) \ge c`; the length stays.

    Of prototypes (M, D) of several parts, every part keeps to it by itself.

    Parameters
    ----------
    center : ndarray
        The item e in latent space, the mean of several.

    cosine : float
        Smallest cosine c.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto._editing import Cap
    >>> cap = Cap(np.array([3.0, 0.0]), 0.6)
    >>> cap.project(np.array([0.0, 2.0])).round(6).tolist()
    [1.2, 1.6]
    """

    center: Array
    cosine: float
    kind = "cap"

    @classmethod
    def from_certainty(cls, center: Array, point: Array, certainty: float) -> Cap:
        """Return the cap; where the prototype comes from does not matter."""
        return cls(center, float(certainty))

    def project(self, p: Array, slack: float = 0.0) -> Array:
        """Return the admissible point nearest to p of the same length."""
        if p.ndim > 1:
            parts = [part.project(row, slack) for part, row in self._parts(p)]
            return np.stack(parts)
        if self.reached(p) >= self.cosine or not self.center.any():
            return p
        length = float(np.linalg.norm(p))
        axis = self.center / np.linalg.norm(self.center)
        unit = p / length if length > 0 else np.zeros_like(p)
        across = unit - (unit * axis).sum() * axis
        norm = float(np.linalg.norm(across))
        cosine = min(1.0, self.cosine + slack)
        if norm < 1e-12:  # opposite to the item: any direction will do
            across = np.zeros_like(axis)
            across.flat[np.abs(axis).argmin()] = 1.0
            across = across - (across * axis).sum() * axis
            norm = float(np.linalg.norm(across))
        sine = np.sqrt(max(0.0, 1.0 - cosine * cosine))
        return (length or 1.0) * (cosine * axis + sine * across / norm)

    def keeps(self, p: Array) -> bool:
        """Tell whether a point is admissible."""
        return self.reached(p) >= self.cosine

    def reached(self, p: Array) -> float:
        """Return the cosine of a point and the item, the least one of parts."""
        if p.ndim > 1:
            found = [part.reached(row) for part, row in self._parts(p)]
            present = self.center.any(axis=-1)
            return min(np.array(found)[present].tolist(), default=1.0)
        norms = float(np.linalg.norm(p) * np.linalg.norm(self.center))
        return float((p * self.center).sum()) / norms if norms > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain arrays and numbers."""
        return {"kind": self.kind, "center": self.center, "cosine": self.cosine}

    def _parts(self, p: Array) -> list[tuple[Cap, Array]]:
        """Return each part of a point with its own cap."""
        rows = zip(self.center, p, strict=True)
        return [(Cap(center, self.cosine), row) for center, row in rows]


Constraint = Ball | Cap


def settle(constraint: Constraint, p: NDArray[Any]) -> NDArray[Any]:
    """Return the admissible point nearest to p in the type of p, in spite of rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto._editing import Ball, settle
    >>> settle(Ball(np.ones(2), 0.5, 1.0), np.ones(2, dtype=np.float32)).dtype.name
    'float32'
    """
    found = p
    for slack in SLACKS:
        exact = found.astype(np.float64)
        if constraint.keeps(exact):
            break
        found = constraint.project(p.astype(np.float64), slack).astype(p.dtype)
    return found


GEOMETRIES: dict[str, type[Ball] | type[Cap]] = {"euclidean": Ball, "cosine": Cap}


def constraint_from(values: dict[str, Any]) -> Constraint:
    """Return the constraint that :meth:`Ball.to_dict` or :meth:`Cap.to_dict` made."""
    values = dict(values)
    if values.pop("kind") == "ball":
        return Ball(**values)
    return Cap(**values)
