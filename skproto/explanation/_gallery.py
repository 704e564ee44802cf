"""The gallery of prototypes: pictures with their source and weight, by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

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


def tile_pictures(table: PrototypeTable, k: int, values: Range) -> list[Picture]:
    """Return what a gallery shows of a prototype.

    Its part or parts, the decoded prototype, or the whole source image. Parts of a few
    pixels say nothing on their own: the source is shown with their places marked.
    """
    whole = source_picture(table, k, values)
    if whole is not None and shown_in_place(table):
        # Numbers of many parts are too much for a small picture.
        boxes = tuple(mark for mark in whole.marks if mark.box[:2] != mark.box[2:])
        return [whole._replace(marks=boxes)]
    return part_pictures(table, k, values) or ([] if whole is None else [whole])


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
            tile_pictures(table, k, values),
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
