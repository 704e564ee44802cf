"""The gallery of prototypes: pictures with their source and weight, by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from skproto.explanation._cases import MANY_PARTS
from skproto.explanation._marks import Mark
from skproto.explanation._numbers import number
from skproto.explanation._pictures import (
    Picture,
    Range,
    part_pictures,
    range_of,
    shown_in_place,
    source_picture,
)

if TYPE_CHECKING:
    from skproto.explanation._prototypes import PrototypeTable


class Tile(NamedTuple):
    """One prototype of a gallery: its pictures, and what stands below them."""

    pictures: list[Picture]
    texts: list[str]


class Group(NamedTuple):
    """The prototypes of a class, and how many there are of them in all."""

    title: str
    tiles: list[Tile]
    n_all: int


class Branch(NamedTuple):
    """A node of a tree in an outline: how deep it is, its picture, what it says."""

    depth: int
    pictures: list[Picture]
    answer: str
    text: str


def tile_pictures(table: PrototypeTable, k: int, values: Range) -> list[Picture]:
    """Return what a gallery shows of a prototype.

    Its part or parts, the decoded prototype, or the whole source image. Parts of a few
    pixels say nothing on their own: the source is shown with their places marked.
    """
    whole = source_picture(table, k, values)
    if whole is not None and shown_in_place(table):
        # Numbers of many parts are too much for a small picture.
        return [whole._replace(marks=boxes_only(whole))]
    return part_pictures(table, k, values) or ([] if whole is None else [whole])


def context_pictures(table: PrototypeTable, k: int, values: Range) -> list[Picture]:
    """Return the picture of a tile, beside the whole training image where it is not.

    A part on its own is often not to be recognised. Many parts are too small to be
    seen in a tile: the training image is shown with the box around them.
    """
    whole = source_picture(table, k, values)
    own = table.places
    if whole is None or own is None or shown_in_place(table):
        return tile_pictures(table, k, values)
    parts = part_pictures(table, k, values)
    if own.decoded is not None:
        return [*parts, whole]
    if len(parts) > MANY_PARTS:
        return [whole._replace(marks=boxes_only(whole))]
    return [whole, *parts]


def boxes_only(picture: Picture) -> tuple[Mark, ...]:
    """Return the marks of a picture without the numbers of many parts."""
    return tuple(mark for mark in picture.marks if mark.box[:2] != mark.box[2:])


def tile_name(table: PrototypeTable, k: int) -> list[str]:
    """Name the source of a prototype in a few words a line."""
    own = table.places
    start = ["decoded"] if own is not None and own.decoded is not None else []
    row = int(table.indices[k])
    if table.is_case[k]:
        return [*start, f"image {row}" if row >= 0 else "given image"]
    return [*start, f"near image {row}" if row >= 0 else "learned"]


def class_groups(shown: Any, limit: int) -> list[Group]:
    """Return the prototypes by class, those of the largest weight first.

    Parameters
    ----------
    shown : GlobalExplanation
        The model.

    limit : int
        How many prototypes of a class are shown.

    Returns
    -------
    groups : list of Group
        One for each class that has prototypes.
    """
    groups = []
    for c, label in enumerate(shown.classes):
        own = np.flatnonzero(shown.prototypes.labels == label)
        if shown.weights is not None:
            rank = np.abs(shown.weights[own, c])
        elif shown.win_counts is not None:
            rank = shown.win_counts[own]
        else:
            rank = np.zeros(len(own))
        own = own[np.argsort(-rank, kind="stable")]
        groups.append(make_group(shown, c, own, limit))
    return [group for group in groups if group.n_all]


def make_group(shown: Any, c: int, members: np.ndarray, limit: int) -> Group:
    """Return the first prototypes of a class as tiles."""
    table, values = shown.prototypes, range_of(shown)
    tiles = [
        Tile(
            context_pictures(table, k, values),
            [*tile_name(table, k), *shown._tile_texts(k, c)],
        )
        for k in members[:limit].tolist()
    ]
    return Group(str(shown.classes[c]), tiles, len(members))


def weight_texts(shown: Any, k: int, c: int) -> list[str]:
    """Say how a prototype is weighed, or how often it wins."""
    if shown.weights is not None:
        return [f"weight {number(shown.weights[k, c])}"]
    return [] if shown.win_counts is None else [f"wins {shown.win_counts[k]}"]
