"""Pictures of explanations with matplotlib, from plain arrays and ready-made labels.

Colours are those of Okabe and Ito, safe for colour-blind readers; what a colour says is
also said by hatching or by a printed number, so that grey prints stay readable. Text is
never read as mathematics: a feature may be called ``cost ($)``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from skproto.utils._optional import import_optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIRST, SECOND = "#0072B2", "#E69F00"
PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#F0E442",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#999999",
)
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo", "---")
MAX_BARS = 8
MAX_ROWS, MAX_COLUMNS = 25, 12
SATURATED = 3.0  # deviation beyond which the colour stays the same
BESIDE, ABOVE = 38, 56  # letters of a line beside and above a chart
BAR = 0.36  # thickness of one of two bars that share a line


def shorten(text: Any, width: int = 28) -> str:
    """Cut long names in their middle: those of a family differ at their ends.

    Examples
    --------
    >>> shorten("a rather long name of class 07", 20)
    'a rather...class 07'
    """
    text = str(text)
    if len(text) <= width:
        return text
    end = (width - 3) // 2
    return text[: width - 3 - end].rstrip() + "..." + text[-end:].lstrip()


def distinct(names: Iterable[Any], width: int = 28) -> list[str]:
    """Cut long names such that they stay apart.

    Where names would look the same, the words that all of them begin and end with are
    left out.

    Examples
    --------
    >>> distinct([f"northern bird of kind {c} (grey)" for c in (1, 2)], 15)
    ['... 1 ...', '... 2 ...']
    """
    whole = [str(name) for name in names]
    cut = [shorten(name, width) for name in whole]
    if len(set(cut)) == len(set(whole)):
        return cut
    words = [name.split() for name in dict.fromkeys(whole)]
    shortest = min(map(len, words))
    start = next((i for i in range(shortest) if len({w[i] for w in words}) > 1), 0)
    rest = range(shortest - start)
    end = next((i for i in rest if len({w[-1 - i] for w in words}) > 1), 0)
    kept = []
    for name in whole:
        own = name.split()
        inner = ["..."] * (start > 0) + own[start : len(own) - end]
        kept.append(shorten(" ".join(inner + ["..."] * (end > 0)), width))
    return kept


def folded(label: str) -> str:
    """Fold the lines of a label that stands beside a chart; at most two of each."""
    lines = []
    for line in label.splitlines():
        whole = textwrap.wrap(line, BESIDE) or [""]
        if len(whole) > 2:
            whole = textwrap.wrap(shorten(line, 2 * BESIDE - 8), BESIDE)
        lines += whole
    return "\n".join(lines)


def new_axes(
    width: float, height: float, purpose: str = "Drawing an explanation"
) -> Axes:
    """Make a figure of the given size in inches with one axes."""
    pyplot = import_optional("matplotlib.pyplot", purpose, "plot")
    _, ax = pyplot.subplots(figsize=(width, height), layout="constrained")
    return ax


def ink() -> str:
    """Return the colour of letters and lines in the user's style."""
    import matplotlib

    return str(matplotlib.rcParams["text.color"])


def ground(ax: Axes) -> Any:
    """Return the colour behind a drawing: of the axes, or of the figure if off."""
    import matplotlib

    shown: Any = ax if ax.axison else ax.figure
    behind = shown.get_facecolor()
    return behind if behind[3] > 0 else matplotlib.rcParams["figure.facecolor"]


def literal(ax: Axes) -> Axes:
    """Show all text as it is, dollar signs included."""
    from matplotlib.text import Text

    for text in ax.findobj(Text):
        text.set_parse_math(False)
    return ax


def _strongest(size: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Split positions into the largest, largest first, and the rest."""
    order = np.argsort(-size, kind="stable")
    if len(order) <= limit + 1:
        return order, order[:0]
    return order[:limit], order[limit:]


def _lines(labels: Sequence[str], values: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Keep the strongest lines and add the rest up in one; values (U, ...)."""
    size = np.abs(values).reshape(len(values), -1).max(axis=1, initial=0.0)
    kept, rest = _strongest(size, MAX_BARS)
    names = [labels[k] for k in kept]
    lines = values[kept]
    if len(rest):
        names.append(f"{len(rest)} others together")
        lines = np.concatenate([lines, values[rest].sum(axis=0, keepdims=True)])
    return names, lines


def _finish_bars(ax: Axes, names: Sequence[str], title: str, xlabel: str) -> Axes:
    """Label a chart of horizontal bars whose first line stands on top."""
    ax.set_yticks(range(len(names)), labels=[folded(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.axvline(0.0, color=ink(), linewidth=0.8)
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, 0.0), max(high, 0.0))
    ax.set_xlabel(xlabel)
    ax.spines[["top", "right"]].set_visible(False)
    return chart_head(ax, title)


def chart_head(ax: Axes, title: str) -> Axes:
    """Write the title of a chart, and the legend between the two."""
    entries = ax.get_legend_handles_labels()[1]
    columns = 2 if max(map(len, entries), default=0) <= 34 else 1
    rows = -(-len(entries) // columns)
    lines = [textwrap.fill(line, ABOVE) for line in title.splitlines()]
    ax.set_title("\n".join(lines), loc="left", pad=8 + 17 * rows)
    if entries:
        place: dict[str, Any] = {
            "loc": "lower left",
            "bbox_to_anchor": (0.0, 1.0),
            "frameon": False,
        }
        ax.legend(ncols=columns, borderaxespad=0.2, **place)
    return literal(ax)


def draw_contributions(
    labels: Sequence[str],
    values: np.ndarray,
    bias: np.ndarray,
    classes: Sequence[str],
    title: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw contributions to the predicted class and the runner-up as bars.

    Parameters
    ----------
    labels : sequence of str
        Names of the units.

    values : array of shape (n_units, 2)
        Contributions to the score of the predicted class and of the runner-up.

    bias : array of shape (2,)
        Their biases; drawn as a line of its own unless zero.

    classes : sequence of two str
        Names of the two classes.

    title : str
        Title of the picture.

    ax : matplotlib Axes or None, default=None
        Where to draw.

    Returns
    -------
    ax : matplotlib Axes
        The axes drawn on.
    """
    names, lines = _lines(labels, np.asarray(values, float))
    if np.any(bias != 0):
        names, lines = [*names, "bias"], np.concatenate([lines, np.asarray(bias)[None]])
    ax = new_axes(8.0, 1.7 + 0.55 * len(names)) if ax is None else ax
    places = np.arange(len(names))
    looks: list[dict[str, Any]] = [{"color": FIRST}, {"color": SECOND, "hatch": "///"}]
    roles = ("predicted", "runner-up")
    for column, (name, look, role) in enumerate(
        zip(classes, looks, roles, strict=True)
    ):
        ax.barh(
            places + (column - 0.5) * BAR,
            lines[:, column],
            height=BAR,
            edgecolor=ink(),
            linewidth=0.6,
            label=f"for {shorten(name)} ({role})",
            **look,
        )
    return _finish_bars(ax, names, title, "contribution to the class score")


def _edge(ax: Axes, column: int) -> str:
    """Return the colour of a class that shows as a thin line on the ground."""
    from matplotlib.colors import to_rgb

    light = sum(to_rgb(ground(ax))) > 1.5
    return ("#0072B2", "#8A5F00")[column] if light else ("#56B4E9", SECOND)[column]


def draw_reasoning(
    labels: Sequence[str],
    presence: np.ndarray,
    absence: np.ndarray,
    classes: Sequence[str],
    title: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw presence (plain) and absence (hatched) shares of two classes.

    Parameters
    ----------
    labels : sequence of str
        Names of the prototypes.

    presence, absence : array of shape (n_prototypes, 2)
        Shares in the score of the predicted class and of the runner-up.

    classes : sequence of two str
        Names of the two classes.

    title : str
        Title of the picture.

    ax : matplotlib Axes or None, default=None
        Where to draw.

    Returns
    -------
    ax : matplotlib Axes
        The axes drawn on.
    """
    names, lines = _lines(labels, np.stack([presence, absence], axis=2))
    ax = new_axes(8.0, 2.0 + 0.55 * len(names)) if ax is None else ax
    places = np.arange(len(names))
    roles = ("predicted", "runner-up")
    for column, colour in enumerate((FIRST, SECOND)):
        at = places + (column - 0.5) * BAR
        name = f"{shorten(classes[column], 20)} ({roles[column]})"
        there, missing = lines[:, column, 0], lines[:, column, 1]
        ax.barh(at, there, BAR, color=colour, edgecolor=ink(), label=f"{name}: present")
        ax.barh(
            at,
            missing,
            BAR,
            left=there,
            color=ground(ax),
            edgecolor=_edge(ax, column),
            hatch="////" if column == 0 else "....",
            label=f"{name}: absent",
        )
    return _finish_bars(ax, names, title, "share of the class score")


def draw_features(
    labels: Sequence[str],
    values: np.ndarray,
    sides: tuple[str, str],
    title: str,
    xlabel: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw signed feature-wise bars, positive and negative told apart by hatching.

    Parameters
    ----------
    labels : sequence of str
        Names of the features, with their values.

    values : array of shape (n_features,)
        Lengths of the bars.

    sides : tuple of two str
        What a positive and what a negative bar speaks for.

    title, xlabel : str
        Title of the picture and name of its axis.

    ax : matplotlib Axes or None, default=None
        Where to draw.

    Returns
    -------
    ax : matplotlib Axes
        The axes drawn on.
    """
    names, lines = _lines(labels, np.asarray(values, float))
    ax = new_axes(8.0, 1.7 + 0.5 * len(names)) if ax is None else ax
    places = np.arange(len(names))
    edge: dict[str, Any] = {"edgecolor": ink(), "linewidth": 0.6, "height": 0.62}
    for positive, side in ((True, sides[0]), (False, sides[1])):
        chosen = lines > 0 if positive else lines < 0
        if not chosen.any():
            continue
        colour, hatch = (FIRST, "") if positive else (SECOND, "///")
        ax.barh(
            places[chosen], lines[chosen], color=colour, hatch=hatch, label=side, **edge
        )
    return _finish_bars(ax, names, title, xlabel)


def draw_table(
    colour: np.ndarray,
    cells: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    labels: tuple[str, str],
    ax: Axes | None = None,
) -> Axes:
    """Draw a table of numbers whose cells are coloured by another number.

    Parameters
    ----------
    colour : array of shape (n_rows, n_columns)
        What the colour shows. With negative entries the range is made symmetric and
        ends at 3 at the latest.

    cells : nested sequence of str
        What is printed in the cells.

    rows, columns : sequence of str
        Names of the rows and of the columns.

    labels : tuple of two str
        Title of the picture and name of the colour bar.

    ax : matplotlib Axes or None, default=None
        Where to draw.

    Returns
    -------
    ax : matplotlib Axes
        The axes drawn on.
    """
    n_lines = max([cell.count("\n") + 1 for row in cells for cell in row], default=1)
    if ax is None:
        width = max(4.4 + 0.95 * len(columns), 7.5)
        ax = new_axes(width, 2.0 + (0.2 + 0.2 * n_lines) * len(rows))
    top = float(np.abs(colour).max(initial=0.0)) or 1.0
    if np.any(colour < 0):
        top = min(top, SATURATED)
        look: dict[str, Any] = {"cmap": "cividis", "vmin": -top, "vmax": top}
    else:
        look = {"cmap": "Blues", "vmin": 0.0, "vmax": top}
    image = ax.imshow(colour, aspect="auto", **look)
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            red, green, blue, _ = image.cmap(image.norm(colour[i, j]))
            light = 0.3 * red + 0.6 * green + 0.1 * blue
            shade = "black" if light > 0.5 else "white"
            ax.text(j, i, cell, ha="center", va="center", color=shade, fontsize=8)
    ax.set_xticks(range(len(columns)), labels=[shorten(c) for c in columns])
    ax.tick_params(axis="x", labelrotation=40)
    for tick in ax.get_xticklabels():
        tick.set(ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(rows)), labels=list(rows))
    ax.set_title(labels[0], loc="left")
    beyond = "both" if np.abs(colour).max(initial=0.0) > top else "neither"
    letters = max(12, int(12 * ax.get_window_extent().height / ax.figure.dpi))
    label = textwrap.fill(labels[1], letters)
    bar = ax.figure.colorbar(image, ax=ax, label=label, extend=beyond)
    literal(bar.ax)
    return literal(ax)
