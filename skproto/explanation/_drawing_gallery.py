"""Figure of a gallery: the prototypes of each class on a line of their own."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from skproto.explanation._drawing_images import (
    MARGIN,
    NORMAL,
    SMALL,
    Sheet,
    notes_lines,
    title_lines,
)
from skproto.explanation._gallery import Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDE, PITCH, HEAD = 0.66, 1.05, 1.2  # of the pictures, of the tiles, of the class names
PER_LINE = 6
MAX_LINES = 11  # that fit on a page


def lines_per_class(n_classes: int) -> int:
    """Return how many lines each class gets such that the gallery fits on a page."""
    return max(1, min(4, MAX_LINES // max(n_classes, 1)))


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
    shown = groups[:MAX_LINES]
    if len(shown) < len(groups):
        title += f"\nshown: {len(shown)} of {len(groups)} classes"
    folded = notes_lines(notes)
    heights = [_height(group) for group in shown]
    top = 0.5 + 0.19 * len(title_lines(title))
    sheet = Sheet(top + sum(heights) + 0.25 + 0.14 * len(folded), ax)
    sheet.title(title)
    y = top
    for group, height in zip(shown, heights, strict=True):
        sheet.rule(y)
        _draw_group(sheet, y + 0.08, group)
        y += height
    sheet.text(MARGIN, y + 0.04, "\n".join(folded), SMALL, color="0.25")
    return sheet.finish()


def _tile_height(group: Group) -> float:
    """Return the height of a line of tiles with their texts."""
    n_lines = max((len(tile.texts) for tile in group.tiles), default=0)
    return SIDE + 0.08 + 0.125 * n_lines


def _height(group: Group) -> float:
    n_lines = -(-len(group.tiles) // PER_LINE)
    return 0.12 + n_lines * _tile_height(group)


def _draw_group(sheet: Sheet, y: float, group: Group) -> None:
    """Draw the tiles of a class, right of its name."""
    name = textwrap.wrap(group.title, 13)[:3]
    more = group.n_all - len(group.tiles)
    sheet.text(MARGIN, y, "\n".join(name), NORMAL, weight="bold")
    if more:
        below = y + 0.05 + 0.145 * len(name)
        sheet.text(MARGIN, below, f"and {more} more", SMALL)
    for at, tile in enumerate(group.tiles):
        row, column = divmod(at, PER_LINE)
        x = MARGIN + HEAD + column * PITCH
        top = y + row * _tile_height(group)
        left = x + (PITCH - SIDE) / 2
        sheet.pictures(left, top, SIDE, tile.pictures, captions=False)
        text = "\n".join(tile.texts)
        sheet.text(left + SIDE / 2, top + SIDE + 0.04, text, SMALL, ha="center")
