"""Figure of a gallery: the prototypes of each class on a line of their own."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from skproto.explanation._drawing_images import (
    FAINT,
    HEIGHT,
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

SIDES = (0.42, 0.7)  # smallest and largest side of the pictures
PITCH, HEAD = 1.05, 1.2  # widths of a tile and of the names of the classes
PER_LINE = 6
MAX_LINES = 10  # that fit on a page with the smallest pictures


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
    top = 0.36 + 0.19 * len(title_lines(title))
    rest = top + 0.25 + 0.14 * len(folded) + 0.12 * len(shown)
    n_lines = sum(_n_lines(group) for group in shown)
    words = sum(_n_lines(group) * _words(group) for group in shown)
    side = float(np.clip((HEIGHT - rest - words) / max(n_lines, 1), *SIDES))
    heights = [0.12 + _n_lines(group) * (side + _words(group)) for group in shown]
    sheet = Sheet(rest + words + n_lines * side, ax)
    sheet.title(title)
    y = top
    for group, height in zip(shown, heights, strict=True):
        sheet.rule(y)
        _draw_group(sheet, y + 0.08, side, group)
        y += height
    sheet.text(MARGIN, y + 0.04, "\n".join(folded), SMALL, alpha=FAINT)
    return sheet.finish()


def _n_lines(group: Group) -> int:
    return -(-len(group.tiles) // PER_LINE)


def _words(group: Group) -> float:
    """Return the height of what stands below the pictures of a line."""
    n_lines = max((len(tile.texts) for tile in group.tiles), default=0)
    return 0.08 + 0.125 * n_lines


def _draw_group(sheet: Sheet, y: float, side: float, group: Group) -> None:
    """Draw the tiles of a class, right of its name."""
    name = textwrap.wrap(group.title, 13, max_lines=3, placeholder=" ...")
    more = group.n_all - len(group.tiles)
    sheet.text(MARGIN, y, "\n".join(name), NORMAL, weight="bold")
    if more:
        below = y + 0.05 + 0.145 * len(name)
        sheet.text(MARGIN, below, f"and {more} more", SMALL)
    for at, tile in enumerate(group.tiles):
        row, column = divmod(at, PER_LINE)
        left = MARGIN + HEAD + column * PITCH + (PITCH - side) / 2
        top = y + row * (side + _words(group))
        sheet.pictures(left, top, side, tile.pictures, captions=False)
        text = "\n".join(tile.texts)
        sheet.text(left + side / 2, top + side + 0.04, text, SMALL, ha="center")
