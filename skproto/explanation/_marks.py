"""Boxes and numbers on pictures: where a part lies, and which part it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from skproto.explanation._cases import MANY_PARTS, covers_all
from skproto.explanation._places import box_of

if TYPE_CHECKING:
    from skproto.explanation._places import PrototypePlaces, SamplePlaces


class Mark(NamedTuple):
    """A box on a picture, in its pixels; parts are numbered from 1, 0 is no part.

    The number of a part stands at `label` (x, y); where the box is too small to hold
    it, beside the box, which a line leads to.
    """

    box: tuple[float, float, float, float]
    part: int = 0
    effective: bool = False
    label: tuple[float, float] = (0.0, 0.0)
    small: bool = False


def step_marks(places: SamplePlaces, i: int, prototypes: list[int]) -> tuple[Mark, ...]:
    """Return the places of prototypes in a sample, numbered in their order from 1.

    Parameters
    ----------
    places : SamplePlaces
        Where prototypes of one part were found.

    i : int
        Position of the sample.

    prototypes : list of int
        Positions of the prototypes.

    Returns
    -------
    marks : tuple of Mark
        The numbers of boxes that are equal stand side by side.
    """
    if places.boxes is None:
        return ()
    boxes = [box_of(places.boxes, (i, k), None) for k in prototypes]
    marks = [
        Mark(box, step)
        for step, box in enumerate(boxes, start=1)
        if not covers_all(places, box)
    ]
    marks = labelled(marks, places.image_size)
    if places.image_size is None or not marks or marks[0].small:
        return tuple(marks)
    # Numbers of one box would cover each other.
    gap = 0.115 * float(max(places.image_size))
    points = np.array([mark.label for mark in marks])
    low, high = gap / 2, places.image_size[::-1] - gap / 2
    points = spread(points, gap, (low, high))
    return tuple(
        mark._replace(label=(float(x), float(y)))
        for mark, (x, y) in zip(marks, points, strict=True)
    )


def number_mark(size: tuple[int, int], step: int) -> Mark:
    """Return the mark of a picture of (height, width) that has a number as a whole."""
    height, width = size
    shift = 0.09 * max(size)
    return Mark((0, 0, height, width), step, label=(shift, shift))


def marks_of(
    places: PrototypePlaces | SamplePlaces, at: Any, parts: list[int | None]
) -> tuple[Mark, ...]:
    """Return the boxes of the parts of a prototype in one image.

    The effective boxes of several parts would cover each other: the one box around them
    is shown. So it is with the parts themselves where there are many: one box, and the
    numbers of the parts where their middles are.
    """
    if places.boxes is None:
        return ()
    marks = effective_marks(places, at, parts)
    if len(parts) > MANY_PARTS:
        return tuple(marks + crowded_marks(places, at, parts))
    for part in parts:
        box = box_of(places.boxes, at, part)
        if not covers_all(places, box):
            marks.append(Mark(box, 0 if part is None else part + 1))
    return tuple(labelled(marks, places.image_size))


def effective_marks(
    places: PrototypePlaces | SamplePlaces, at: Any, parts: list[int | None]
) -> list[Mark]:
    """Return the box around the effective boxes of all parts, if any is known."""
    if places.effective_boxes is None or not parts:
        return []
    own = places.effective_boxes[at]
    boxes = np.array([own if part is None else own[part] for part in parts])
    boxes = boxes[np.isfinite(boxes).all(axis=1)]
    if not len(boxes):
        return []
    top, left = (float(edge) for edge in boxes[:, :2].min(axis=0))
    bottom, right = (float(edge) for edge in boxes[:, 2:].max(axis=0))
    return [Mark((top, left, bottom, right), effective=True)]


def crowded_marks(
    places: PrototypePlaces | SamplePlaces, at: Any, parts: list[int | None]
) -> list[Mark]:
    """Return the box around many parts, and their numbers as marks without size."""
    assert places.boxes is not None
    boxes = np.array([box_of(places.boxes, at, part) for part in parts], np.float64)
    around = *boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)
    top, left, bottom, right = (float(edge) for edge in around)
    outline = (round(top), round(left), round(bottom), round(right))
    marks = [] if covers_all(places, outline) else [Mark((top, left, bottom, right))]
    middles = boxes.reshape(-1, 2, 2).mean(axis=1)[:, ::-1]
    size = places.image_size
    if size is not None:
        gap = 0.115 * float(max(size))
        low, high = gap / 2, np.array([size[1], size[0]]) - gap / 2
        middles = spread(middles, gap, (low, high))
    for part, (x, y) in zip(parts, middles.tolist(), strict=True):
        number = 0 if part is None else part + 1
        marks.append(Mark((y, x, y, x), number, label=(x, y)))
    return marks


def spread(
    points: np.ndarray, gap: float, limits: tuple[Any, Any] = (-np.inf, np.inf)
) -> np.ndarray:
    """Move points (n, 2) that are closer than a gap apart, a little at a time.

    They stay between the limits, the lowest and the highest (x, y).

    Examples
    --------
    >>> (spread(np.array([[0.0, 0.0], [0.5, 0.0]]), 1.0).round(2) + 0).tolist()
    [[-0.25, 0.0], [0.75, 0.0]]
    """
    # Equal points part in the direction of their numbers.
    shift = 1e-6 * np.arange(len(points))[:, None] * [1.0, 0.5]
    points = np.clip(points, *limits) + shift
    for _ in range(200):
        apart = points[:, None] - points
        far = np.hypot(apart[..., 0], apart[..., 1])
        np.fill_diagonal(far, np.inf)
        push = np.maximum(gap - far, 0.0) / far / 2
        if not push.any():
            break
        points = np.clip(points + (push[..., None] * apart).sum(axis=1), *limits)
        points = points + shift
    return np.clip(points, *limits)


def labelled(marks: list[Mark], size: np.ndarray | None) -> list[Mark]:
    """Place the numbers of parts: in their boxes, or around boxes that are small."""
    own = [mark for mark in marks if mark.part]
    if not own or size is None:
        return marks
    side = float(max(size))
    if min(min(m.box[2] - m.box[0], m.box[3] - m.box[1]) for m in own) >= 0.15 * side:
        shift = 0.055 * side
        return [
            mark._replace(label=(mark.box[1] + shift, mark.box[0] + shift))
            for mark in marks
        ]
    centres = np.array([[m.box[1] + m.box[3], m.box[0] + m.box[2]] for m in own]) / 2
    places = ring(centres, side, (float(size[1]), float(size[0])))
    small = [
        mark._replace(label=(float(x), float(y)), small=True)
        for mark, (x, y) in zip(own, places, strict=True)
    ]
    return [mark for mark in marks if not mark.part] + small


def ring(centres: np.ndarray, side: float, limits: tuple[float, float]) -> np.ndarray:
    """Return places on a circle around points, in their order around its middle.

    Parameters
    ----------
    centres : array of shape (n, 2)
        The points, as (x, y).

    side : float
        Longer side of the picture, by which distances are measured.

    limits : tuple of two float
        Width and height of the picture, which the places do not leave.

    Returns
    -------
    places : array of shape (n, 2)
        Evenly spaced, far enough from each other for numbers to be written there.
    """
    n = len(centres)
    off = centres - centres.mean(axis=0)
    reach = float(np.hypot(*off.T).max()) + 0.11 * side
    radius = max(reach, 0.022 * n * side)
    angles = np.arctan2(off[:, 1], off[:, 0])
    order = np.argsort(angles, kind="stable")
    even = 2 * np.pi * np.arange(n) / n
    start = np.exp(1j * (angles[order] - even)).sum()
    turn = float(np.angle(start)) if abs(start) > 1e-9 else -np.pi / 4
    places = np.empty((n, 2))
    places[order, 0], places[order, 1] = np.cos(turn + even), np.sin(turn + even)
    places = centres.mean(axis=0) + radius * places
    edge = 0.05 * side
    low, high = places.min(axis=0) - edge, places.max(axis=0) + edge
    # The circle moves as a whole, so that its numbers keep their distances.
    return places - np.minimum(low, 0) - np.maximum(high - np.array(limits), 0)
