"""Pictures of prototype trees: the path of one sample, and the whole tree."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from skproto.explanation._drawing import (
    HATCHES,
    PALETTE,
    distinct,
    ground,
    ink,
    literal,
    new_axes,
)
from skproto.explanation._numbers import probability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAF_BARS = 5  # classes drawn in the last leaf of a path


def _box(ax: Axes, pad: float) -> dict[str, Any]:
    """Return the frame of a node."""
    style = f"round,pad={pad}"
    return {"boxstyle": style, "facecolor": ground(ax), "edgecolor": ink()}


class Step(NamedTuple):
    """One node of a path: what it asks, in what it is decided, and its answer."""

    question: str
    note: str
    answer: str
    present: bool


def draw_path(
    steps: Sequence[Step],
    leaf: str,
    classes: Sequence[str],
    parts: np.ndarray,
    title: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw the nodes a sample passes, top to bottom, and the leaf it ends in.

    Parameters
    ----------
    steps : sequence of Step
        The nodes of the path.

    leaf : str
        Name of the leaf.

    classes : sequence of str
        Names of the classes.

    parts : array of shape (2, n_classes)
        What this leaf and what all others together give the classes.

    title : str
        Title of the picture.

    ax : matplotlib Axes or None, default=None
        Where to draw.

    Returns
    -------
    ax : matplotlib Axes
        The axes drawn on; the bars of the leaf are an inset of it.
    """
    shown = np.argsort(-parts.sum(axis=0), kind="stable")[:LEAF_BARS]
    bars = 1.1 + 0.3 * len(shown)  # height of the leaf in units of a step
    if ax is None:
        ax = new_axes(7.5, 1.0 + 1.05 * len(steps) + bars)
    ax.set_axis_off()
    ax.set(xlim=(0, 1), ylim=(-bars - 0.45, len(steps)))
    ax.set_title(title, loc="left")
    frame = _box(ax, 0.45)
    for number, step in enumerate(steps):
        y = len(steps) - number - 0.35
        text = "\n".join(textwrap.wrap(f"{number + 1}. {step.question}", 70))
        if step.note:
            text += "\n" + "\n".join(textwrap.wrap(step.note, 70))
        box = ax.text(0.5, y, text, ha="center", va="center", fontsize=9, bbox=frame)
        box.set_zorder(3)
        line = "solid" if step.present else "dashed"
        arrow: dict[str, Any] = {
            "arrowstyle": "-|>",
            "linestyle": line,
            "color": ink(),
        }
        below = (0.5, y - 0.72) if number + 1 < len(steps) else (0.5, -0.02)
        ax.annotate("", xy=below, xytext=(0.5, y), arrowprops=arrow, zorder=1)
        ax.text(0.52, y - 0.53, step.answer, va="center", fontsize=9)
    inset = ax.inset_axes((0.2, -bars, 0.5, bars - 0.35), transform=ax.transData)
    names = distinct(classes, 20)
    leaf_bars(inset, [names[k] for k in shown], parts[:, shown])
    inset.set_title(leaf, fontsize=9)
    return literal(ax)


def leaf_bars(ax: Axes, names: Sequence[str], parts: np.ndarray) -> None:
    """Draw what a leaf and all others give the classes, most likely class on top."""
    places = np.arange(len(names))
    looks: list[dict[str, Any]] = [
        {"color": PALETTE[0], "label": "from this leaf"},
        {"color": ground(ax), "hatch": "////", "label": "from all others"},
    ]
    left = np.zeros(len(names))
    for values, look in zip(parts, looks, strict=True):
        if values.any():
            ax.barh(places, values, height=0.7, left=left, edgecolor=ink(), **look)
        left = left + values
    for place, value in zip(places.tolist(), left, strict=True):
        text = probability(value)
        ax.text(value + 0.02, place, text, va="center", fontsize=8)
    ax.set_yticks(places, labels=list(names), fontsize=8)
    ax.set(ylim=(len(names) - 0.4, -0.6), xlim=(0, 1.15))
    ax.set_xticks([0, 0.5, 1])
    ax.tick_params(axis="x", labelsize=8)
    ax.set_xlabel("class probability", fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)


class Drawn(NamedTuple):
    """A tree laid out for drawing; a closed node is drawn as a leaf.

    Parameters
    ----------
    x, depth : array of shape (n_nodes,)
        Place of each node; NaN and -1 where it is not drawn.

    closed : array of bool of shape (n_nodes,)
        True at the leaves and where the drawing stops.
    """

    x: np.ndarray
    depth: np.ndarray
    closed: np.ndarray


def layout(left: np.ndarray, right: np.ndarray, max_depth: int) -> Drawn:
    """Place the nodes: leaves side by side, each inner node above its two sides."""
    x, depth = np.full(len(left), np.nan), np.full(len(left), -1)
    closed = left < 0
    order, stack = [], [(0, 0)]
    n_placed = 0
    while stack:
        node, level = stack.pop()
        depth[node] = level
        closed[node] |= level >= max_depth
        order.append(node)
        if closed[node]:
            x[node], n_placed = n_placed, n_placed + 1
        else:
            stack += [(int(right[node]), level + 1), (int(left[node]), level + 1)]
    for node in reversed(order):
        if not closed[node]:
            x[node] = (x[left[node]] + x[right[node]]) / 2
    return Drawn(x, depth, closed)


class TreeOptions(NamedTuple):
    """How a whole tree is drawn.

    Parameters
    ----------
    max_depth : int, default=5
        Depth at which the drawing stops.

    ax : matplotlib Axes or None, default=None
        Where to draw.

    path : frozenset of int, default=frozenset()
        Nodes that are set off, and the lines between them.
    """

    max_depth: int = 5
    ax: Axes | None = None
    path: frozenset[int] = frozenset()


THIN, THICK = 0.9, 2.8  # widths of the lines of a tree, and of those set off


def draw_tree(
    children: tuple[np.ndarray, np.ndarray],
    texts: Sequence[str],
    distributions: np.ndarray,
    classes: Sequence[str],
    title: str,
    options: TreeOptions,
) -> Axes:
    """Draw a tree: nodes with their prototypes, leaves with bars of the classes.

    Parameters
    ----------
    children : tuple of two arrays of shape (n_nodes,)
        Left and right children, -1 at the leaves; node 0 is the root.

    texts : sequence of str
        What to write at each node, below the bars where it is drawn as a leaf.

    distributions : array of shape (n_nodes, n_classes)
        Class distribution at or below each node.

    classes : sequence of str
        Names of the classes.

    title : str
        Title of the picture.

    options : TreeOptions
        Where to draw, down to which depth, and what to set off.

    Returns
    -------
    ax : matplotlib Axes
        The axes drawn on.
    """
    drawn = layout(*children, options.max_depth)
    n_leaves, height = int(np.nanmax(drawn.x)) + 1, int(drawn.depth.max())
    ax = options.ax
    if ax is None:
        ax = new_axes(float(np.clip(1.25 * n_leaves, 7.0, 26.0)), 2.2 + 1.25 * height)
    ax.set_axis_off()
    size = float(np.clip(11.0 * _inches(ax) / n_leaves, 4.5, 8.5))
    for node in np.flatnonzero(drawn.depth >= 0).tolist():
        x, y = float(drawn.x[node]), -float(drawn.depth[node])
        if drawn.closed[node]:
            class_bars(ax, (x, y), distributions[node])
            place: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": size}
            ax.text(x, y - 0.34, texts[node], linespacing=1.1, **place)
            continue
        for side, answer in enumerate(("absent", "present")):
            child = int(children[side][node])
            top = -drawn.depth[child] + (0.26 if drawn.closed[child] else 0.0)
            ends = ((x, y), (float(drawn.x[child]), float(top)))
            width = THICK if {node, child} <= options.path else THIN
            _side(ax, ends, answer, (width, size))
        style = {**_box(ax, 0.3), "linewidth": 2.0 if node in options.path else 1.0}
        ax.text(x, y, texts[node], ha="center", va="center", fontsize=size, bbox=style)
    ax.set(xlim=(-0.7, n_leaves - 0.3), ylim=(-height - 1.0, 0.35))
    ax.set_title(textwrap.fill(title, max(int(9.5 * _inches(ax)), 30)), loc="left")
    return literal(_class_legend(ax, _class_marks(classes, path=bool(options.path))))


def _side(
    ax: Axes,
    ends: tuple[tuple[float, float], tuple[float, float]],
    answer: str,
    sizes: tuple[float, float],
) -> None:
    """Draw the line to a child with the answer that leads there, if there is room."""
    (x, y), (cx, top) = ends
    width, size = sizes
    line = "solid" if answer == "present" else "dashed"
    ax.plot([x, cx], [y, top], color=ink(), linestyle=line, linewidth=width)
    if size > 6.0:
        blank = {"facecolor": ground(ax), "edgecolor": "none", "pad": 0.8}
        look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": size - 1}
        middle = (0.45 * x + 0.55 * cx, 0.45 * y + 0.55 * top)
        ax.text(*middle, answer, bbox=blank, **look)


def _inches(ax: Axes) -> float:
    """Return the width of an axes in inches."""
    box = ax.get_window_extent()
    return float(box.width / ax.figure.dpi)


def _look(k: int) -> dict[str, Any]:
    """Return colour and hatch of a class."""
    return {"facecolor": PALETTE[k % 8], "hatch": HATCHES[(k + k // 8) % 8]}


def class_bars(
    ax: Axes,
    centre: tuple[float, float],
    distribution: np.ndarray,
    size: tuple[float, float] = (0.7, 0.5),
) -> None:
    """Draw a class distribution as small upright bars in a frame.

    A negative height is that of an axes whose values grow downwards.
    """
    from matplotlib.patches import Rectangle

    (x, y), (width, height), n_classes = centre, size, len(distribution)
    frame = Rectangle(
        (x - width / 2, y - height / 2), width, height, facecolor=ground(ax)
    )
    frame.set(edgecolor=ink(), linewidth=0.8)
    ax.add_patch(frame)
    step = width / n_classes
    for k, value in enumerate(distribution):
        corner = (x - width / 2 + k * step, y - height / 2)
        bar = Rectangle(corner, step, height * float(value), **_look(k))
        bar.set(edgecolor=ink(), linewidth=0.5 if n_classes <= 12 else 0.0)
        ax.add_patch(bar)


def _class_marks(classes: Sequence[str], *, path: bool) -> list[Any]:
    """Return what a legend names: lines and classes; too many classes are left out."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    marks: list[Any] = [
        Line2D([], [], color=ink(), linestyle="dashed", label="absent"),
        Line2D([], [], color=ink(), linestyle="solid", label="present"),
    ]
    if path:
        look: dict[str, Any] = {"color": ink(), "linewidth": THICK}
        marks.append(Line2D([], [], label="path of the sample", **look))
    if len(classes) <= len(PALETTE):
        marks += [
            Patch(label=name, edgecolor=ink(), **_look(k))
            for k, name in enumerate(distinct(classes, 20))
        ]
    return marks


def _class_legend(ax: Axes, marks: Sequence[Any]) -> Axes:
    """Name lines and classes below the tree."""
    place: dict[str, Any] = {
        "loc": "upper center",
        "bbox_to_anchor": (0.5, 0.02),
        "frameon": False,
    }
    ax.legend(handles=marks, ncols=min(5, len(marks)), **place)
    return ax


def class_legend(
    ax: Axes,
    classes: Sequence[str],
    place: tuple[float, float],
    shrink: float,
    *,
    path: bool,
) -> None:
    """Name lines and classes at a place in the data, in small letters."""
    marks = _class_marks(classes, path=path)
    ax.legend(
        handles=marks,
        ncols=min(6, len(marks)),
        loc="upper left",
        bbox_to_anchor=place,
        bbox_transform=ax.transData,
        frameon=False,
        borderaxespad=0.0,
        borderpad=0.0,
        fontsize=7 * shrink,
    )
