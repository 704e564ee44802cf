"""Figures of trees with the patches of their prototypes at the nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from skproto.explanation._drawing import distinct, ground, ink
from skproto.explanation._drawing_images import (
    FAINT,
    GAP,
    HEIGHT,
    MARGIN,
    NORMAL,
    SMALL,
    Sheet,
    cell_side,
    n_cells,
    notes_lines,
    title_lines,
)
from skproto.explanation._drawing_tree import (
    LEAF_BARS,
    THICK,
    THIN,
    TreeOptions,
    class_bars,
    class_legend,
    layout,
    leaf_bars,
)
from skproto.explanation._image_blocks import Line
from skproto.explanation._pictures import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RAIL = 0.34  # width of the column with the numbers of the steps
LEAF_ROWS = (0.315, 0.42)  # height of a leaf of a whole tree that has many


def draw_image_path(
    title: str,
    steps: Sequence[tuple[Line, bool]],
    leaf: tuple[str, Sequence[str], np.ndarray],
    notes: Sequence[str],
    ax: Axes | None = None,
) -> Axes:
    """Draw the nodes a sample passes with their pictures, and the leaf it ends in.

    Parameters
    ----------
    title : str
        Title of the figure.

    steps : sequence of tuple of Line and bool
        The nodes, and whether their prototypes are present.

    leaf : tuple of str, sequence of str, and array of shape (2, n_classes)
        Name of the leaf, names of the classes, and what this leaf and what all others
        together give the classes.

    notes : sequence of str
        How the pictures are to be read.

    ax : matplotlib Axes or None, default=None
        Where to draw; a new figure of A4 width where None.

    Returns
    -------
    ax : matplotlib Axes
        The axes drawn on; the bars of the leaf are an inset of it.
    """
    columns = max((n_cells(line) for line, _ in steps), default=0)
    folded = notes_lines(notes)
    name, classes, parts = leaf
    shown = np.argsort(-parts.sum(axis=0), kind="stable")[:LEAF_BARS]
    bars = 0.75 + 0.19 * len(shown)
    overhead = 0.65 + 0.19 * len(title_lines(title)) + bars + 0.14 * len(folded) + 0.2
    side = cell_side(len(steps), overhead, columns)
    pitch = side + 0.27
    sheet = Sheet(overhead + len(steps) * pitch, ax)
    y = 0.6 + 0.19 * sheet.title(title)
    for at, (line, present) in enumerate(steps):
        length = pitch if at + 1 < len(steps) else pitch - side / 2 + 0.05
        _rail(sheet, (MARGIN + 0.12, y + side / 2), length, (at + 1, present))
        width = columns * (side + GAP) - GAP
        sheet.line(y, side, width, line, left=MARGIN + RAIL)
        y += pitch
    y += 0.12
    inset = sheet.inset((2.3, y + 0.22, 3.6, bars - 0.62))
    names = distinct(classes, 22)
    leaf_bars(inset, [names[k] for k in shown], parts[:, shown])
    sheet.text(MARGIN, y - 0.02, name, NORMAL, weight="bold")
    sheet.text(MARGIN, y + bars + 0.12, "\n".join(folded), SMALL, alpha=FAINT)
    return sheet.finish()


def _rail(
    sheet: Sheet, place: tuple[float, float], length: float, step: tuple[int, bool]
) -> None:
    """Draw the number of a step and the line to the next one: solid if present."""
    x, y = place
    number, present = step
    style = "solid" if present else (0, (4, 3))
    sheet.ax.plot(
        [x, x], [y, y + length], color=ink(), linestyle=style, lw=1.4, zorder=1
    )
    sheet.ax.plot(
        [x],
        [y],
        "o",
        color=ground(sheet.ax),
        markeredgecolor=ink(),
        zorder=2,
        markersize=15 * sheet.shrink,
    )
    middle: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 3}
    sheet.text(x, y, str(number), NORMAL, weight="bold", **middle)
    answer = "yes" if present else "no"
    blank = {"facecolor": ground(sheet.ax), "edgecolor": "none", "pad": 1.0}
    sheet.text(x, y + 0.6 * length, answer, SMALL, bbox=blank, **middle)


class Node(NamedTuple):
    """What is drawn at a node: a picture where there is one, and a text."""

    picture: Picture | None
    text: str


def draw_image_tree(
    children: tuple[np.ndarray, np.ndarray],
    nodes: Sequence[Node],
    distributions: np.ndarray,
    heading: tuple[str, Sequence[str], Sequence[str]],
    options: TreeOptions,
) -> Axes:
    """Draw a tree from left to right, with patches at its nodes.

    Parameters
    ----------
    children : tuple of two arrays of shape (n_nodes,)
        Left and right children, -1 at the leaves; node 0 is the root.

    nodes : sequence of Node
        What to draw at each node.

    distributions : array of shape (n_nodes, n_classes)
        Class distribution at or below each node.

    heading : tuple of str, sequence of str, and sequence of str
        Title, names of the classes, and notes on the pictures.

    options : TreeOptions
        Where to draw, down to which depth, and what to set off.

    Returns
    -------
    ax : matplotlib Axes
        The axes drawn on.
    """
    title, classes, notes = heading
    drawn = layout(*children, options.max_depth)
    n_leaves, depth = int(np.nanmax(drawn.x)) + 1, int(drawn.depth.max())
    folded = notes_lines(notes)
    top = 0.4 + 0.19 * len(title_lines(title))
    rest = top + 0.5 + 0.14 * len(folded)
    least = np.clip((HEIGHT - rest) / n_leaves, *LEAF_ROWS)
    row = float(np.clip(5.0 / n_leaves, least, 1.3))
    sheet = Sheet(rest + row * n_leaves, options.ax)
    sheet.title(title)
    step = (sheet.size[0] - 2 * MARGIN - 2.1) / max(depth, 1)
    side = float(np.clip(min(step - 0.55, 2 * row - 0.36), 0.3, 0.85))
    for node in np.flatnonzero(drawn.depth >= 0).tolist():
        x = MARGIN + side / 2 + step * float(drawn.depth[node])
        y = top + row * (float(drawn.x[node]) + 0.5)
        if drawn.closed[node]:
            size = (0.56, -min(0.3, row - 0.06))
            class_bars(sheet.ax, (x - side / 2 + 0.3, y), distributions[node], size)
            place = (x - side / 2 + 0.65, y)
            sheet.text(*place, nodes[node].text, SMALL, va="center", linespacing=1.1)
            continue
        for child, present in ((children[0][node], False), (children[1][node], True)):
            width = THICK if {node, int(child)} <= options.path else THIN
            to = (x + step - side / 2, top + row * (float(drawn.x[child]) + 0.5))
            clear = max(0.2, 0.48 - side / 2)  # of the text below the node
            _edge(sheet, ((x + side / 2, y), to), (clear, width), present=present)
        _node(sheet, (x - side / 2, y - side / 2 - 0.06), side, nodes[node])
    y = top + row * n_leaves + 0.12
    path = bool(options.path)
    class_legend(sheet.ax, classes, (MARGIN, y), sheet.shrink, path=path)
    sheet.text(MARGIN, y + 0.28, "\n".join(folded), SMALL, alpha=FAINT)
    return sheet.finish()


def _edge(
    sheet: Sheet,
    ends: tuple[tuple[float, float], tuple[float, float]],
    sizes: tuple[float, float],
    *,
    present: bool,
) -> None:
    """Draw the line to a child, which bends beside the node; solid where present."""
    start, end = ends
    clear, width = sizes
    style = "solid" if present else (0, (4, 2.5))
    bend = start[0] + clear
    xs = [start[0], bend, bend, end[0]]
    ys = [start[1], start[1], end[1], end[1]]
    sheet.ax.plot(xs, ys, color=ink(), linestyle=style, linewidth=width, zorder=0)
    look: dict[str, Any] = {"ha": "left", "va": "bottom"}
    sheet.text(bend + 0.03, end[1] - 0.01, "yes" if present else "no", SMALL, **look)


def _node(sheet: Sheet, place: tuple[float, float], side: float, node: Node) -> None:
    """Draw the patch of a node and its text below it."""
    x, y = place
    if node.picture is not None:
        sheet.picture(x, y, side, node.picture._replace(part=0))
    blank = {"facecolor": ground(sheet.ax), "edgecolor": "none", "pad": 0.6}
    look: dict[str, Any] = {"ha": "center", "linespacing": 1.05, "bbox": blank}
    sheet.text(x + side / 2, y + side + 0.03, node.text, SMALL, **look)
