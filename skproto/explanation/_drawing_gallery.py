"""Figure of a gallery: the prototypes of each class on a line of their own."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from skproto.explanation._drawing import distinct
from skproto.explanation._drawing_images import (
    FAINT,
    GAP,
    HEIGHT,
    MARGIN,
    NORMAL,
    SMALL,
    Sheet,
    n_cells,
    notes_lines,
    title_lines,
)
from skproto.explanation._gallery import Group, Tile
from skproto.explanation._image_blocks import Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALLEST, LARGEST = 0.42, 0.7  # side of the pictures
ROOM, HEAD = 6.3, 1.2  # widths of a line of tiles and of the names of the classes
PER_LINE = {1: 6, 2: 4}  # tiles on a line, by the number of pictures of each
NAME = 30  # characters of the name of a class, on three lines
MAX_LINES = 10  # that fit on a page with the smallest pictures


def lines_per_class(n_classes: int) -> int:
    """Return how many lines each class gets such that the gallery fits on a page."""
    return max(1, min(4, MAX_LINES // max(n_classes, 1)))


def tiles_per_line(groups: Sequence[Group]) -> int:
    """Return how many tiles fit on a line."""
    tiles = (tile for group in groups for tile in group.tiles)
    return PER_LINE[max(map(_n_cells, tiles), default=1)]


def _n_cells(tile: Tile) -> int:
    """Return how many squares the pictures of a tile take; all parts share one."""
    return n_cells(Line(tuple(tile.pictures), ""))


def draw_gallery(
    title: str, groups: Sequence[Group], notes: Sequence[str], ax: Axes | None = None
) -> Axes:
    """Draw the prototypes of each class with source and weight.

    Parameters
    ----------
    title : str
        Title of the figure.

    groups : sequence of Group
        The classes; those that do not fit on a page are counted, not drawn.

    notes : sequence of str
        How the pictures are to be read.

    ax : matplotlib Axes or None, default=None
        Where to draw; a new figure of A4 width where None.

    Returns
    -------
    ax : matplotlib Axes
        The axes drawn on.
    """
    names = distinct([group.title for group in groups], NAME)
    groups = [g._replace(title=name) for g, name in zip(groups, names, strict=True)]
    shown = groups[:MAX_LINES]
    if len(shown) < len(groups):
        title += f"\nshown: {len(shown)} of {len(groups)} classes"
    folded = notes_lines(notes)
    top = 0.36 + 0.19 * len(title_lines(title))
    rest = top + 0.25 + 0.14 * len(folded) + 0.12 * len(shown)
    per_line = tiles_per_line(shown)
    counts = [-(-len(group.tiles) // per_line) for group in shown]
    n_lines = sum(counts)
    pairs = list(zip(shown, counts, strict=True))
    words = sum(count * _words(group) for group, count in pairs)
    # Tiles are farther from each other than the two pictures of a tile.
    largest = LARGEST if per_line == PER_LINE[1] else ROOM / per_line / 2 - GAP
    room = (HEIGHT - rest - words) / max(n_lines, 1)
    side = float(np.clip(room, SMALLEST, largest))
    heights = [0.12 + count * (side + _words(group)) for group, count in pairs]
    sheet = Sheet(rest + words + n_lines * side, ax)
    sheet.title(title)
    y = top
    for group, height in zip(shown, heights, strict=True):
        sheet.rule(y)
        _draw_group(sheet, y + 0.08, (side, per_line), group)
        y += height
    sheet.text(MARGIN, y + 0.04, "\n".join(folded), SMALL, alpha=FAINT)
    return sheet.finish()


def _words(group: Group) -> float:
    """Return the height of what stands below the pictures of a line."""
    n_lines = max((len(tile.texts) for tile in group.tiles), default=0)
    return 0.08 + 0.125 * n_lines


def _draw_group(sheet: Sheet, y: float, sizes: tuple[float, int], group: Group) -> None:
    """Draw the tiles of a class, right of its name."""
    side, per_line = sizes
    pitch = ROOM / per_line
    name = textwrap.wrap(group.title, 13, max_lines=3, placeholder=" ...")
    more = group.n_all - len(group.tiles)
    sheet.text(MARGIN, y, "\n".join(name), NORMAL, weight="bold")
    if more:
        below = y + 0.05 + 0.145 * len(name)
        sheet.text(MARGIN, below, f"and {more} more", SMALL)
    for at, tile in enumerate(group.tiles):
        row, column = divmod(at, per_line)
        width = _n_cells(tile) * (side + GAP) - GAP
        left = MARGIN + HEAD + column * pitch + (pitch - width) / 2
        top = y + row * (side + _words(group))
        sheet.pictures(left, top, side, tile.pictures, captions=False)
        text = "\n".join(tile.texts)
        sheet.text(left + width / 2, top + side + 0.04, text, SMALL, ha="center")
