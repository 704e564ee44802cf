"""Figures of images on a page of A4 width: rows of evidence with their pictures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from skproto.explanation._drawing import ink, literal, shorten
from skproto.explanation._image_blocks import Block, Line
from skproto.explanation._marks import Mark
from skproto.explanation._pictures import BOX, PART_COLOURS, Picture
from skproto.utils._optional import import_optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 8.27, 11.69  # inches of a page of A4
MARGIN, GAP = 0.35, 0.12
SMALL, NORMAL, TITLE = 7.0, 8.0, 10.0  # points
LINE = 0.16  # inches of a line of normal size
PER_INCH = 16.5  # characters of an inch of text of normal size
CAPTION_PER_INCH = 18
BLOCK = 84  # characters of the title of a block
PART_LINES: tuple[Any, ...] = (
    "solid",
    (0, (4, 1.2)),
    (0, (1.2, 1)),
    (0, (5, 1, 1, 1)),
    (0, (7, 2)),
    (0, (2.5, 0.8)),
)
FULL = int((WIDTH - 2 * MARGIN) * PER_INCH)  # characters of a line across the page
FAINT = 0.75  # opacity of what is read last
ENCIRCLED = 0.7  # share of the range of similarities above which a line goes round
DOTTED: Any = (0, (1, 1))
COARSE = 100  # pictures with fewer pixels a side are shown pixel by pixel


class Sheet:
    """An axes whose coordinates are inches from its upper left corner.

    Parameters
    ----------
    height : float
        Height in inches; the width is that of A4.

    ax : matplotlib Axes or None, default=None
        Where to draw; letters become smaller where it is smaller than the sheet.

    width : float, default=WIDTH
        Width in inches.
    """

    def __init__(
        self, height: float, ax: Axes | None = None, width: float = WIDTH
    ) -> None:
        pyplot = import_optional("matplotlib.pyplot", "Drawing an explanation", "plot")
        self.size = (width, height)
        self.shrink = 1.0
        if ax is None:
            figure = pyplot.figure(figsize=(width, height))
            ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        else:
            box, dpi = ax.get_window_extent(), ax.figure.dpi
            share = min(box.width / dpi / width, box.height / dpi / height)
            self.shrink = float(np.clip(share, 0.3, 1.0))
        self.ax: Axes = ax
        ax.set_axis_off()
        ax.set_autoscale_on(False)

    def finish(self) -> Axes:
        """Set the limits, which drawing may have moved."""
        width, height = self.size
        self.ax.set(xlim=(0.0, width), ylim=(height, 0.0))
        self.ax.set_aspect("equal", anchor="N")
        return literal(self.ax)

    def text(
        self, x: float, y: float, text: str, size: float = NORMAL, **style: Any
    ) -> None:
        """Write text with its upper left corner at a place."""
        look: dict[str, Any] = {"ha": "left", "va": "top", "linespacing": 1.25}
        look.update(style)
        self.ax.text(x, y, text, fontsize=size * self.shrink, **look)

    def inset(self, place: tuple[float, float, float, float]) -> Axes:
        """Return axes for a chart at (left, top, width, height)."""
        left, top, width, height = place
        whole = self.size
        share = (left / whole[0], 1.0 - (top + height) / whole[1])
        size = (width / whole[0], height / whole[1])
        return self.ax.inset_axes((*share, *size))

    def title(self, title: str) -> int:
        """Write the title; returns how many lines it takes besides the first."""
        lines = title_lines(title)
        self.text(MARGIN, 0.2, "\n".join(lines), TITLE, weight="bold")
        return len(lines) - 1

    def paragraph(
        self, place: tuple[float, float], size: tuple[float, float], lines: list[str]
    ) -> None:
        """Write texts below each other in a box, folded; the first one is bold."""
        (x, y), (width, height) = place, size
        left = max(int(height / LINE), 1)
        for at, text in enumerate(lines):
            bold = at == 0
            n_letters = max(int(width * PER_INCH * (0.92 if bold else 1.0)), 8)
            kept = max(left, 1) if at + 1 == len(lines) else min(max(left, 1), 3)
            folded = textwrap.wrap(text, n_letters, max_lines=kept, placeholder=" ...")
            weight = "bold" if bold else "normal"
            self.text(x, y, "\n".join(folded), weight=weight)
            y += 0.145 * len(folded) + 0.04
            left -= len(folded)
            if left <= 0:
                return

    def rule(self, y: float) -> None:
        """Draw a thin line across the sheet."""
        ends = [MARGIN, self.size[0] - MARGIN]
        self.ax.plot(ends, [y, y], color=ink(), alpha=0.4, linewidth=0.6)

    def picture(self, x: float, y: float, side: float, picture: Picture) -> None:
        """Draw a picture with its marks in a square, keeping its proportions."""
        n_rows, n_columns = picture.pixels.shape[:2]
        scale = side / max(n_rows, n_columns)
        left = x + (side - n_columns * scale) / 2
        top = y + (side - n_rows * scale) / 2
        right, bottom = left + n_columns * scale, top + n_rows * scale
        extent = (left, right, bottom, top)
        sharp = max(n_rows, n_columns) < COARSE
        way = "nearest" if sharp else "antialiased"
        self.ax.imshow(picture.pixels, extent=extent, interpolation=way, zorder=1)
        if picture.overlay is not None:
            self.ax.imshow(
                picture.overlay, extent=extent, interpolation="bilinear", zorder=2
            )
            self._contour(picture.overlay[..., 3], extent)
        look = part_look(picture.part) if picture.part else {"color": ink()}
        self._frame((left, top, right, bottom), 1.6 if picture.part else 0.6, look)
        if picture.part:
            self._number(left + 0.06, top + 0.07, picture.part)
        for mark in picture.marks:
            self._mark((left, top, scale), mark)

    def _contour(
        self, opacity: np.ndarray, extent: tuple[float, float, float, float]
    ) -> None:
        """Draw a dotted line around what an overlay sets off: grey prints need it."""
        left, right, bottom, top = extent
        n_rows, n_columns = opacity.shape
        if not opacity.any():
            return
        values = np.pad(opacity.astype(float), 1, mode="edge")
        x, y = (
            np.concatenate([[0.0], np.arange(n) + 0.5, [n]]) / n
            for n in (n_columns, n_rows)
        )
        places = left + x * (right - left), top + y * (bottom - top)
        level = [ENCIRCLED**2 * float(opacity.max())]
        for colour, width in (("black", 1.5), ("white", 0.8)):
            look: dict[str, Any] = {"colors": colour, "zorder": 2.5}
            lines = self.ax.contour(*places, values, level, **look)
            lines.set(linewidth=width * self.shrink, linestyle=DOTTED)

    def _mark(self, place: tuple[float, float, float], mark: Mark) -> None:
        """Draw the box of a mark on a picture."""
        left, top, scale = place
        up, west, down, east = (float(edge) * scale for edge in mark.box)
        edges = (left + west, top + up, left + east, top + down)
        if mark.effective:
            look: dict[str, Any] = {"color": "white", "linestyle": (0, (3, 2))}
            self._frame(edges, 1.1, look, halo=2.2)
            return
        look = part_look(mark.part) if mark.part else {"color": BOX}
        self._frame(edges, *((0.9, look, 1.9) if mark.small else (1.3, look, 2.8)))
        if not mark.part:
            return
        x, y = left + mark.label[0] * scale, top + mark.label[1] * scale
        if mark.small:
            ends = [x, (edges[0] + edges[2]) / 2], [y, (edges[1] + edges[3]) / 2]
            for colour, width in (("black", 1.7), ("white", 0.8)):
                thin = width * self.shrink
                self.ax.plot(*ends, color=colour, linewidth=thin, zorder=5)
        self._number(x, y, mark.part)

    def _frame(
        self,
        edges: tuple[float, float, float, float],
        width: float,
        look: dict[str, Any],
        halo: float = 0.0,
    ) -> None:
        """Draw a rectangle from (left, top, right, bottom), black below its colour."""
        from matplotlib.patches import Rectangle

        left, top, right, bottom = edges
        size = (right - left, bottom - top)
        if halo:
            below = Rectangle((left, top), *size, fill=False, edgecolor="black")
            below.set(linewidth=halo * self.shrink, zorder=3)
            self.ax.add_patch(below)
        frame = Rectangle((left, top), *size, fill=False, edgecolor=look["color"])
        frame.set(linewidth=width * self.shrink, zorder=4)
        frame.set_linestyle(look.get("linestyle", "solid"))
        self.ax.add_patch(frame)

    def _number(self, x: float, y: float, part: int) -> None:
        """Write the number of a part, readable on any ground."""
        from matplotlib.patheffects import withStroke

        halo = withStroke(linewidth=1.8 * self.shrink, foreground="black")
        look: dict[str, Any] = {"ha": "center", "va": "center", "weight": "bold"}
        look.update(color="white", path_effects=[halo], zorder=6)
        self.text(x, y, str(part), SMALL, **look)

    def pictures(
        self,
        x: float,
        y: float,
        side: float,
        pictures: Sequence[Picture],
        *,
        captions: bool = True,
    ) -> None:
        """Draw pictures side by side with captions; parts share one square."""
        cells: list[list[Picture]] = []
        for picture in pictures:
            if picture.part and cells and cells[-1][0].part:
                cells[-1].append(picture)
            else:
                cells.append([picture])
        for cell in cells:
            n_columns = math.ceil(math.sqrt(len(cell)))
            tile = side / n_columns
            for at, picture in enumerate(cell):
                row, column = divmod(at, n_columns)
                inner = tile - (0.04 if len(cell) > 1 else 0.0)
                self.picture(x + column * tile, y + row * tile, inner, picture)
            caption = "its parts" if len(cell) > 1 else cell[0].caption
            if captions:
                folded = textwrap.fill(caption, int((side + GAP) * CAPTION_PER_INCH))
                look: dict[str, Any] = {"ha": "center", "linespacing": 1.0}
                self.text(x + side / 2, y + side + 0.03, folded, SMALL, **look)
            x += side + GAP

    def line(
        self, y: float, side: float, width: float, line: Line, left: float = MARGIN
    ) -> None:
        """Draw one line: its pictures, and the texts right of them."""
        self.pictures(left, y, side, line.pictures)
        x = left + width + 0.08
        size = (self.size[0] - MARGIN - x, side + 0.2)
        self.paragraph((x, y + 0.02), size, [line.sum_up, *line.texts])


def title_lines(title: str) -> list[str]:
    """Fold a title to the width of the sheet."""
    return [
        part for line in title.splitlines() for part in textwrap.wrap(line, 76) or [""]
    ]


def block_title(title: str) -> list[str]:
    """Fold the title of a block; at most two lines."""
    return textwrap.wrap(shorten(title, 2 * BLOCK - 10), BLOCK) or [""]


def part_look(part: int) -> dict[str, Any]:
    """Return colour and line of a part, by its number from 1."""
    at = (part - 1) % len(PART_COLOURS)
    return {"color": PART_COLOURS[at], "linestyle": PART_LINES[at]}


def n_cells(line: Line) -> int:
    """Return how many squares the pictures of a line take."""
    single = sum(picture.part == 0 for picture in line.pictures)
    return single + any(picture.part for picture in line.pictures)


def cell_side(n_lines: int, overhead: float, columns: int) -> float:
    """Return the side of the pictures such that the figure fits on a page."""
    room = (HEIGHT - 0.3 - overhead) / max(n_lines, 1) - 0.27
    widest = (WIDTH - 2 * MARGIN - 2.9) / max(columns, 1) - GAP
    return float(np.clip(min(room, widest), 0.55, 1.15))


def notes_lines(notes: Sequence[str]) -> list[str]:
    """Return the notes below a figure, folded to its width."""
    text = "; ".join(notes)
    return textwrap.wrap(text, int(1.1 * FULL))


def draw_sheet(
    title: str, blocks: Sequence[Block], notes: Sequence[str], ax: Axes | None = None
) -> Axes:
    """Draw blocks of lines with pictures on one sheet.

    Parameters
    ----------
    title : str
        Title of the figure.

    blocks : sequence of Block
        What to draw, from top to bottom.

    notes : sequence of str
        How the pictures are to be read.

    ax : matplotlib Axes or None, default=None
        Where to draw; a new figure of A4 width where None.

    Returns
    -------
    ax : matplotlib Axes
        The axes drawn on, in inches from its upper left corner.
    """
    lines = [line for block in blocks for line in block.lines]
    columns = max((n_cells(line) for line in lines), default=0)
    folded = notes_lines(notes)
    totals = [textwrap.wrap(block.total, FULL) for block in blocks]
    titles = [block_title(block.title) for block in blocks]
    heads = sum(0.14 + 0.16 * len(lines) for lines in titles)
    heads += sum(0.11 * bool(t) + 0.15 * len(t) for t in totals)
    overhead = 0.6 + 0.19 * len(title_lines(title)) + heads + 0.14 * len(folded)
    side = cell_side(len(lines), overhead, columns)
    sheet = Sheet(overhead + len(lines) * (side + 0.27), ax)
    y = 0.55 + 0.19 * sheet.title(title)
    for block, heading, total in zip(blocks, titles, totals, strict=True):
        sheet.rule(y)
        sheet.text(MARGIN, y + 0.06, "\n".join(heading), NORMAL + 1, weight="bold")
        y += 0.14 + 0.16 * len(heading)
        for line in block.lines:
            sheet.line(y, side, columns * (side + GAP) - GAP, line)
            y += side + 0.27
        if total:
            sheet.text(MARGIN, y, "\n".join(total), NORMAL)
            y += 0.11 + 0.15 * len(total)
    sheet.text(MARGIN, y + 0.04, "\n".join(folded), SMALL, alpha=FAINT)
    return sheet.finish()
