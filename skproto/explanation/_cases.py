"""How prototypes are named: their training row or image, and the place in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from skproto.explanation._numbers import number, similarity
from skproto.explanation._places import box_of

if TYPE_CHECKING:
    from skproto.explanation._places import Places, PrototypePlaces, SamplePlaces
    from skproto.explanation._prototypes import PrototypeTable

# Boxes of more parts cover each other: they are shown and told together.
MANY_PARTS = 4


def case_name(table: PrototypeTable, k: int, *, label: bool = True) -> str:
    """Name a prototype: its training row, or "learned" when it is not that row.

    The label is that of the training row where it is known, and of the prototype
    otherwise: a prototype may stand for another class than its nearest row has.
    """
    row, tag = int(table.indices[k]), str(table.labels[k])
    own = None if table.sample_labels is None else str(table.sample_labels[k])
    if table.is_case[k]:
        shown = own if own is not None else tag if label else ""
        place = source_place(table, k)
        name = f"{place} of {source(table, k)}" if place else source(table, k)
        article = "the " if place.startswith("part") else ""
        return article + name + (f" ({shown})" if shown else "")
    near = f"nearest {part_of(table, k)}{source(table, k)}" if row >= 0 else ""
    if near and own is not None and own != tag:
        near += f", {own}"
    inside = "; ".join(part for part in (tag if label else "", near) if part)
    return f"learned prototype {table.ids[k]}" + (f" ({inside})" if inside else "")


def source(table: PrototypeTable, k: int) -> str:
    """Name the row or image behind a prototype, or that a user gave it."""
    if table.indices[k] < 0:
        return f"the {unit(table)} given by the user as prototype {table.ids[k]}"
    return f"training {unit(table)} {table.indices[k]}"


def unit(table: PrototypeTable) -> str:
    """Return what a sample is called: a row or an image."""
    places = table.places
    return "image" if places is not None and places.kind == "image" else "row"


def part_of(table: PrototypeTable, k: int) -> str:
    """Return "part of ", or nothing where a prototype is a whole sample."""
    places = table.places
    if places is None or not source_place(table, k):
        return ""
    n_parts = len(places.parts_on(k))
    return "part of " if n_parts == 1 else f"{n_parts} parts of "


def origin(table: PrototypeTable, k: int, *, label: bool = True) -> str:
    """Say where a prototype with a place comes from, in one sentence.

    Without its label the class of the training image is named in any case.
    """
    own = None if table.sample_labels is None else str(table.sample_labels[k])
    tag = str(table.labels[k]) if label else ""
    name = f"{part_of(table, k)}{source(table, k)}"
    if own is not None and own != tag:
        name += f" ({own})"
    start = f"prototype {table.ids[k]}" + (f" ({tag})" if label else "")
    if table.is_case[k]:
        article = "the " if part_of(table, k).startswith("part") else ""
        return f"{start} is {article}{name}"
    return f"{start}: learned" + (f"; nearest {name}" if table.indices[k] >= 0 else "")


def short_case(table: PrototypeTable, k: int) -> str:
    """Name a prototype on a picture: two or three words."""
    row = int(table.indices[k])
    if table.is_case[k]:
        given = f"given {unit(table)}, prototype {table.ids[k]}"
        return f"{unit(table)} {row}" if row >= 0 else given
    near = f", near {unit(table)} {row}" if row >= 0 else ""
    return f"learned {table.ids[k]}{near}"


def labelled_case(table: PrototypeTable, k: int) -> str:
    """Name a prototype on a picture, with its class or that of its row."""
    own = table.sample_labels
    label = own[k] if own is not None and table.is_case[k] else table.labels[k]
    return f"{short_case(table, k)} ({label})"


def bar_labels(table: PrototypeTable, similarities: np.ndarray) -> list[str]:
    """Name the prototypes below a chart of bars, with their similarity."""
    return [
        f"{labelled_case(table, k)}\nsimilarity {similarity(s)}"
        for k, s in enumerate(similarities)
    ]


# Places


def span(box: Sequence[int]) -> str:
    """Name the pixels of a box, the last ones included.

    Examples
    --------
    >>> span((4, 10, 9, 15)), span((0, 3, 1, 6))
    ('rows 4-8, columns 10-14', 'row 0, columns 3-5')
    """
    top, left, bottom, right = box
    edges = (("row", top, bottom - 1), ("column", left, right - 1))
    return ", ".join(
        f"{name}s {first}-{last}" if last > first else f"{name} {first}"
        for name, first, last in edges
    )


def covers_all(places: Places, box: Sequence[int]) -> bool:
    """Tell whether a box is the whole image."""
    size = places.image_size
    return size is not None and tuple(box) == (0, 0, int(size[0]), int(size[1]))


def source_place(table: PrototypeTable, k: int) -> str:
    """Name the place of a prototype in its source, nothing where it is all of it."""
    places = table.places
    if places is None or places.sites is None:
        return ""
    parts = places.parts_on(k)
    sites = [_at(places.sites, k, part) for part in parts]
    if places.kind == "tokens":
        return _listed("token", [str(site) for site in sites])
    if places.kind == "features":
        return _listed("", [feature(table, table.samples, k, site) for site in sites])
    if len(parts) != 1:
        return f"{len(parts)} parts"
    if places.boxes is None:
        return f"part at site {sites[0]}"
    box = box_of(places.boxes, k, parts[0])
    return "" if covers_all(places, box) else f"part at {span(box)}"


def found_here(
    table: PrototypeTable, places: SamplePlaces, i: int, k: int, samples: Any = None
) -> str:
    """Say where in a sample the parts of a prototype were found."""
    own = table.places
    if own is None or places.sites is None:
        return ""
    parts = own.parts_on(k)
    if len(parts) > MANY_PARTS and places.boxes is not None:
        return _found_many(places, (i, k), [part for part in parts if part is not None])
    texts = [_found_part(table, places, (i, k, part), samples) for part in parts]
    texts = [text for text in texts if text]
    word = "in" if places.kind == "features" else "at"
    return f"found here {word} {'; '.join(texts)}" if texts else ""


def missed(text: str) -> str:
    """Word a place for a prototype that is absent: it is not found there.

    Examples
    --------
    >>> missed("found here at rows 0-3, columns 0-3")
    'most alike here at rows 0-3, columns 0-3'
    """
    return text.replace("found here", "most alike here", 1)


def _found_many(places: SamplePlaces, at: tuple[int, int], parts: list[int]) -> str:
    """Name the place of many parts together, and the part that is found least."""
    assert places.boxes is not None
    boxes = np.array([box_of(places.boxes, at, part) for part in parts])
    around = [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]
    text = f"{len(parts)} parts found here"
    if not covers_all(places, around):
        text += f" within {span(around)}"
    if places.part_similarities is None:
        return text
    alike = places.part_similarities[at][parts]
    most, least = int(alike.argmax()), int(alike.argmin())
    return (
        f"{text}, most alike part {parts[most] + 1} ({similarity(alike[most])}), least "
        f"part {parts[least] + 1} ({similarity(alike[least])})"
    )


def _found_part(
    table: PrototypeTable,
    places: SamplePlaces,
    at: tuple[int, int, int | None],
    samples: np.ndarray | None,
) -> str:
    """Name the place of one part in a sample."""
    i, k, part = at
    assert places.sites is not None
    site = _at(places.sites, (i, k), part)
    if places.kind == "tokens":
        text = f"token {site}"
    elif places.kind == "features":
        text = feature(table, samples, i, site)
    elif places.boxes is None:
        text = f"site {site}"
    else:
        box = box_of(places.boxes, (i, k), part)
        text = "" if covers_all(places, box) else span(box)
    if part is None or not text:
        return text
    alike = places.part_similarities
    return f"{text} (part {part + 1}" + (
        ")" if alike is None else f": {similarity(alike[i, k, part])})"
    )


def feature(table: PrototypeTable, rows: np.ndarray | None, i: int, site: int) -> str:
    """Name a feature, with its value where the rows are known."""
    names = table.names
    name = str(names[site]) if site < len(names) else f"feature {site}"
    return name if rows is None else f"{name} {number(rows[i, site])}"


def _listed(word: str, items: list[str]) -> str:
    """Join items, with a word before them that is put in the plural."""
    last = " and ".join([", ".join(items[:-1]), items[-1]] if items[1:] else items)
    return f"{word}{'s' if items[1:] else ''} {last}" if word else last


def _at(sites: np.ndarray, at: Any, part: int | None) -> int:
    return int(sites[at] if part is None else sites[at][part])


# Columns of tables

SITE_WORDS = {"image": "site", "tokens": "token", "features": "feature"}
EDGES = ("top", "left", "bottom", "right")


def place_columns(
    table: PrototypeTable, places: Places | None, n_axes: int
) -> dict[str, np.ndarray]:
    """Return the columns that say where something lies.

    Parameters
    ----------
    table : PrototypeTable
        Names the features.

    places : Places or None
        Sites and boxes; no columns where None.

    n_axes : int
        Number of axes that come before the axis of the parts.

    Returns
    -------
    columns : dict of str to array
        ``site``, or ``token`` or ``feature``, and ``box_top`` to ``box_right``. With
        parts the site of each as ``site_1``, ``site_2``, and so on, without boxes.
    """
    if places is None or places.sites is None:
        return {}
    word, sites = SITE_WORDS[places.kind], places.sites
    if places.kind == "features":
        known = np.array([*map(str, table.names), ""], dtype=object)
        sites = known[sites]  # -1 is the last entry
    if sites.ndim > n_axes:
        return {f"{word}_{m + 1}": sites[..., m] for m in range(sites.shape[-1])}
    columns = {word: sites}
    if places.boxes is not None:
        columns.update(box_columns(places.boxes))
    return columns


def box_columns(boxes: np.ndarray, prefix: str = "box") -> dict[str, np.ndarray]:
    """Return the four edges of boxes as columns."""
    return {f"{prefix}_{edge}": boxes[..., j] for j, edge in enumerate(EDGES)}


def image_shape(places: PrototypePlaces | SamplePlaces | None) -> tuple | None:
    """Return (channels, height, width) of the images, None without images."""
    if places is None or places.images is None:
        return None
    return places.images.shape[1:]
