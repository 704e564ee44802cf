"""Bars of attributes beside the pictures of prototypes and samples."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from skproto.explanation._cases import labelled_case
from skproto.explanation._drawing import FIRST, SECOND, shorten
from skproto.explanation._drawing_images import (
    GAP,
    MARGIN,
    NORMAL,
    PER_INCH,
    SMALL,
    Sheet,
    notes_lines,
    title_lines,
)
from skproto.explanation._gallery import Group, Tile, tile_pictures
from skproto.explanation._image_blocks import gallery_notes, has_pictures, picture_notes
from skproto.explanation._numbers import similarity
from skproto.explanation._pictures import Picture, range_of, row_pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_LINES = 8  # prototypes of a figure
MAX_TILES = 60  # prototypes in HTML
MAX_BARS = 7  # attributes of a prototype that are drawn
BAR_HEIGHT = 0.15  # inches of a bar with its name
LABELS = 1.15  # inches of the names of the attributes
LONGEST = 22  # letters of a name

UNITS = {
    None: "score: drop of the similarity by the change",
    "relative": "score: drop as a share of the similarity",
    "per_rms": "score: drop per unit of change of the samples",
}


class Chart(NamedTuple):
    """The bars of one prototype: names, lengths, and what is drawn at them."""

    names: list[str]
    values: np.ndarray
    ends: np.ndarray | None = None
    null: np.ndarray | None = None


class Strip(NamedTuple):
    """One line of a figure: pictures, words, and bars."""

    pictures: list[Picture]
    texts: list[str]
    chart: Chart


def _strongest(names: Sequence[str], values: np.ndarray) -> tuple[list[str], Any]:
    """Return the names and positions of the bars to draw, in a fixed order if few."""
    if len(names) <= MAX_BARS:
        return [shorten(name, LONGEST) for name in names], np.arange(len(names))
    size = np.where(np.isnan(values), 0.0, np.abs(values))
    kept = np.argsort(-size, kind="stable")[:MAX_BARS]
    return [shorten(names[j], LONGEST) for j in kept], kept


def _chart(names, values, ends=None, null=None) -> Chart:
    shown, kept = _strongest(names, values)
    ends = None if ends is None else ends[:, kept]
    return Chart(shown, values[kept], ends, None if null is None else null[kept])


# -- what is drawn ---------------------------------------------------------------------


def _prototype_strip(shown: Any, k: int) -> Strip:
    pictures = []
    if has_pictures(shown):
        pictures = tile_pictures(shown.prototypes, k, range_of(shown))
    ends = None if shown.interval is None else shown.interval[:, k]
    null = None if shown.null is None else shown.null[k]
    chart = _chart(list(shown.attributes), shown.importance[k], ends, null)
    return Strip(
        pictures, [labelled_case(shown.prototypes, k), shown.summary(k)], chart
    )


def _pair_strip(shown: Any, i: int, k: int) -> Strip:
    pictures = list(row_pictures(shown, i, k)) if has_pictures(shown) else []
    texts = [labelled_case(shown.prototypes, k), *shown.line(i, k)[:1]]
    return Strip(pictures, texts, _chart(list(shown.attributes), shown.scores[i, k]))


def draw_prototypes(shown: Any, prototypes, ax: Axes | None) -> Axes:
    """Draw prototypes with their global scores."""
    if prototypes is None:
        first = np.argsort(-shown.weights, kind="stable")[:MAX_LINES]
        prototypes = np.sort(first)
    strips = [_prototype_strip(shown, int(k)) for k in prototypes]
    title = f"{shown.estimator_name}: what its prototypes look at"
    if len(strips) < len(shown):
        title += f"\nshown: {len(strips)} of {len(shown)} prototypes"
    notes = []
    if shown.interval is not None:
        notes.append("whisker: bootstrap interval over the samples")
    if shown.null is not None:
        notes.append("diamond: median of the prototypes of other classes")
    if has_pictures(shown):
        notes += gallery_notes(shown)
    return draw_strips(title, strips, (UNITS[shown.normalize], notes), ax)


def draw_pairs(shown: Any, i: int, ax: Axes | None) -> Axes:
    """Draw a sample beside its most similar prototypes, with local scores."""
    kept = shown.most_similar(i)[:MAX_LINES]
    strips = [_pair_strip(shown, i, int(k)) for k in kept]
    title = f"Sample {shown.sample_index[i]}: why it looks like prototypes of "
    title += shown.estimator_name
    notes = picture_notes(shown) if has_pictures(shown) else []
    return draw_strips(title, strips, (UNITS[shown.normalize], notes), ax)


def draw_strips(
    title: str,
    strips: Sequence[Strip],
    notes: tuple[str, list[str]],
    ax: Axes | None = None,
) -> Axes:
    """Draw lines of pictures, words and bars on a sheet of A4 width.

    Parameters
    ----------
    title : str
        Title of the figure.

    strips : sequence of Strip
        Lines, from top to bottom; their bars share one scale.

    notes : tuple of str and list of str
        Name of the scale, and how the figure is to be read.

    ax : matplotlib Axes or None, default=None
        Where to draw.

    Returns
    -------
    ax : matplotlib Axes
        The axes drawn on.
    """
    scale, remarks = notes
    n_bars = max((len(s.chart.names) for s in strips), default=0)
    height = max(BAR_HEIGHT * n_bars + 0.1, 0.9)
    side = min(height - 0.2, 1.0)
    n_pictures = max((_n_squares(s.pictures) for s in strips), default=0)
    folded = notes_lines(
        [*remarks, "orange and hatched: the change makes it more alike"]
    )
    top = 0.45 + 0.19 * len(title_lines(title))
    whole = top + len(strips) * (height + 0.12) + 0.45 + 0.14 * len(folded)
    sheet = Sheet(whole, ax)
    sheet.title(title)
    left = MARGIN + n_pictures * (side + GAP)
    chart_left = sheet.size[0] * 0.53 + LABELS
    limits = _limits(strips)
    y = top
    for at, strip in enumerate(strips):
        sheet.rule(y - 0.06)
        sheet.pictures(MARGIN, y, side, strip.pictures, captions=n_pictures > 1)
        _write(sheet, (left, y), (chart_left - LABELS - left, height), strip.texts)
        last = at + 1 == len(strips)
        place = (chart_left, y, sheet.size[0] - MARGIN - chart_left, height)
        _draw_bars(sheet.inset(place), strip.chart, limits, sheet.shrink, last)
        y += height + 0.12
    middle = (chart_left + sheet.size[0] - MARGIN) / 2
    sheet.text(middle, y + 0.16, scale, SMALL, ha="center")
    sheet.text(MARGIN, y + 0.4, "\n".join(folded), SMALL, color="0.25")
    return sheet.finish()


def _n_squares(pictures: Sequence[Picture]) -> int:
    """Return how many squares pictures take; parts share one."""
    single = sum(picture.part == 0 for picture in pictures)
    return single + any(picture.part for picture in pictures)


def _write(sheet: Sheet, place, size, texts: Sequence[str]) -> None:
    """Write a name in bold and words below it, folded."""
    (x, y), (width, height) = place, size
    for at, text in enumerate(texts):
        letters = max(int(width * PER_INCH * (0.9 if at == 0 else 1.0)), 10)
        left = max(int((height - 0.02) / 0.145) - (1 if at == 0 else 0), 1)
        lines = textwrap.wrap(text, letters, max_lines=left, placeholder=" ...")
        weight = "bold" if at == 0 else "normal"
        sheet.text(x, y, "\n".join(lines), NORMAL, weight=weight)
        y += 0.145 * len(lines) + 0.03
        height -= 0.145 * len(lines) + 0.03


def _limits(strips: Sequence[Strip]) -> tuple[float, float]:
    """Return the one scale of all bars."""
    found = [np.zeros(1)]
    for strip in strips:
        found += [np.ravel(v) for v in strip.chart[1:] if v is not None]
    values = np.concatenate(found)
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    room = 0.04 * ((high - low) or 1.0)
    return (low - room if low < 0 else 0.0), high + room


def _draw_bars(ax: Axes, chart: Chart, limits, shrink: float, last: bool) -> None:
    """Draw the bars of a prototype; the scale is named below the last one."""
    places = np.arange(len(chart.names))
    for sign, colour, hatch in ((1, FIRST, ""), (-1, SECOND, "////")):
        own = np.nan_to_num(chart.values) * sign > 0
        look: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "black"}
        ax.barh(places[own], chart.values[own], 0.72, linewidth=0.5, **look)
    if chart.ends is not None:
        known = ~np.isnan(chart.ends).any(axis=0)
        ends = chart.ends[:, known]
        for colour, width in (("white", 2.4), ("black", 1.0)):
            line = width * shrink
            ax.hlines(places[known], *ends, color=colour, linewidth=line, zorder=3)
    if chart.null is not None:
        ax.plot(
            chart.null,
            places,
            "D",
            color="white",
            markeredgecolor="black",
            markersize=3.6 * shrink,
            markeredgewidth=0.7 * shrink,
            zorder=4,
        )
    unknown = np.isnan(chart.values)
    for place in places[unknown]:
        ax.text(0, place, " not known", fontsize=SMALL * shrink, va="center")
    ax.axvline(0.0, color="black", linewidth=0.7)
    ax.set_xlim(limits)
    ax.set_ylim(len(places) - 0.45, -0.55)
    ax.set_yticks(places, labels=chart.names, fontsize=SMALL * shrink)
    ax.tick_params(length=2, labelsize=SMALL * shrink, labelbottom=last)
    ax.locator_params(axis="x", nbins=5)
    ax.grid(axis="x", color="0.85", linewidth=0.5)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)


# -- HTML ------------------------------------------------------------------------------


def prototype_groups(shown: Any) -> list[Group]:
    """Return pictures of prototypes with their words, by class."""
    if not has_pictures(shown):
        return []
    table, values = shown.prototypes, range_of(shown)
    kept = np.argsort(-shown.weights, kind="stable")[:MAX_TILES]
    groups = []
    for label in dict.fromkeys(table.labels[np.sort(kept)].tolist()):
        own = [int(k) for k in kept if table.labels[k] == label]
        tiles = [
            Tile(tile_pictures(table, k, values), textwrap.wrap(shown.words(k), 24))
            for k in own
        ]
        groups.append(Group(str(label), tiles, len(tiles)))
    return groups


def pair_groups(shown: Any, i: int) -> list[Group]:
    """Return a sample with its most similar prototypes as pictures with words."""
    if not has_pictures(shown):
        return []
    tiles = []
    for k in shown.most_similar(i).tolist():
        alike = f"similarity {similarity(shown.similarities[i, k])}"
        texts = [alike, *textwrap.wrap(shown.words(i, k), 30)]
        tiles.append(Tile(list(row_pictures(shown, i, k)), texts))
    return [Group(f"Sample {shown.sample_index[i]}", tiles, len(tiles))]
