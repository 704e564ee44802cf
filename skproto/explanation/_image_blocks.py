"""What a figure of images shows: lines of pictures with their numbers, in blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from skproto.explanation._cases import (
    MANY_PARTS,
    found_here,
    origin,
    source_place,
)
from skproto.explanation._numbers import NOTHING, number, signed
from skproto.explanation._pictures import (
    Picture,
    channels_note,
    input_picture,
    range_of,
    reconstruction_pictures,
    shown_in_place,
)

if TYPE_CHECKING:
    from skproto.explanation._places import Places, PrototypePlaces, SamplePlaces
    from skproto.explanation._prototypes import PrototypeTable

MAX_LINES = (4, 3)  # cases shown for the predicted class and for the runner-up
OUTLINED = "dotted line: around the most similar places"
DECODED = "decoded: what the decoder makes of a code, no training image"
NONE_SHOWN = 1e-9  # evidence below this share of the strongest gets no line


class Line(NamedTuple):
    """One line of a figure: pictures, the sum in bold, and what else is said."""

    pictures: tuple[Picture, ...]
    sum_up: str
    texts: tuple[str, ...] = ()


class Block(NamedTuple):
    """Lines that belong together, below a title and above their total."""

    title: str
    lines: list[Line]
    total: str = ""


def has_pictures(shown: Any) -> bool:
    """Tell whether there is any image to show."""
    own: PrototypePlaces | None = shown.prototypes.places
    if own is None or own.kind != "image":
        return False
    here = getattr(shown, "places", None)
    known = (
        own.images,
        own.patches,
        own.decoded,
        None if here is None else here.images,
    )
    return any(images is not None for images in known)


def has_boxes(places: Places | None) -> bool:
    """Tell whether there are boxes that are not the whole image."""
    if places is None or places.boxes is None:
        return False
    if places.image_size is None:
        return True
    return bool((places.boxes != [0, 0, *places.image_size]).any())


def place_texts(shown: Any, i: int, k: int, *, label: bool = True) -> tuple[str, ...]:
    """Say where a prototype comes from, and where it was found in a sample."""
    places: SamplePlaces | None = shown.places
    texts = [source_text(shown.prototypes, k, label=label)]
    if places is not None:
        texts.append(found_here(shown.prototypes, places, i, k, shown.samples))
    return tuple(text for text in texts if text)


def source_text(table: PrototypeTable, k: int, *, label: bool = True) -> str:
    """Say which training image a prototype comes from, and where it lies in it."""
    place = source_place(table, k).removeprefix("part at ")
    several = table.places is not None and len(table.places.parts_on(k)) != 1
    place = f", {place}" if place and not several else ""
    return origin(table, k, label=label) + place


def evidence_blocks(shown: Any, pair: tuple[int, int]) -> list[Block]:
    """Return what the prototypes give the predicted class and the runner-up.

    Parameters
    ----------
    shown : Explanation
        Its first sample is shown.

    pair : tuple of two int
        Positions of the two classes.

    Returns
    -------
    blocks : list of Block
        The strongest cases for each of the two, with the sum of all others.
    """
    blocks = reconstruction_blocks(shown)
    strongest = np.abs(shown.class_contributions[0]).max(initial=0.0)
    for c, role, limit in zip(pair, ("predicted", "runner-up"), MAX_LINES, strict=True):
        terms = shown.class_contributions[0, :, c].astype(float)
        order = np.argsort(-terms, kind="stable")[:limit]
        faint = NONE_SHOWN * strongest
        kept = [int(k) for k in order if terms[k] > faint]
        label = shown.classes[c]
        lines = [shown._line(0, k, c) for k in kept] or [no_line(shown)]
        total = _sum(shown, c, terms, kept)
        blocks.append(Block(f"Evidence for {label} ({role})", lines, total))
    return blocks


def no_line(shown: Any) -> Line:
    """Return the line of a class that no prototype speaks for."""
    picture = input_picture(shown, 0, None, range_of(shown))
    pictures = () if picture is None else (picture,)
    return Line(pictures, "no prototype speaks for this class")


def _sum(shown: Any, c: int, terms: np.ndarray, kept: list[int]) -> str:
    """Add up what is shown and what is not, as text."""
    n_others = len(terms) - len(kept)
    parts = []
    if kept:
        parts.append(f"shown {signed(terms[kept].sum())}")
    if n_others:
        rest = np.delete(terms, kept).sum()
        plural = "s" if n_others > 1 else ""
        parts.append(f"{n_others} other prototype{plural} {signed(rest)}")
    if shown.class_bias[0].any():
        parts.append(f"bias {signed(shown.class_bias[0, c])}")
    score = float(shown.scores[0, c])
    score = 0.0 if abs(score) < NOTHING else score
    total = f"total for {shown.classes[c]}: {number(score)}{shown._points}"
    return f"{', '.join(parts)}; {total}"


def reconstruction_blocks(shown: Any) -> list[Block]:
    """Return the input beside its reconstruction, where there is one."""
    pictures = reconstruction_pictures(shown, 0)
    if not pictures:
        return []
    texts = ["What differs from the input is lost on the way to the classification."]
    places: SamplePlaces = shown.places
    if places.images is not None and places.reconstructions is not None:
        gap = places.images[0].astype(float) - places.reconstructions[0]
        error = number(float(np.sqrt(np.mean(gap**2))))
        black, white = (number(value) for value in range_of(shown))
        text = f"pixels differ by {error} (root mean square; they are shown from "
        texts.insert(0, f"{text}{black}, black, to {white}, white)")
    line = Line(pictures, "decoded from the code of this input", tuple(texts))
    return [Block("What the model keeps of this input", [line])]


def picture_notes(shown: Any) -> list[str]:
    """Say how the pictures of an explanation of samples are to be read."""
    own: PrototypePlaces = shown.prototypes.places
    here: SamplePlaces | None = getattr(shown, "places", None)
    notes: list[str] = []
    parts = own.sites is not None and own.sites.ndim == 2
    boxed = any(has_boxes(places) for places in (own, here))
    effective = own.effective_boxes is not None
    effective |= here is not None and here.effective_boxes is not None
    if parts:
        notes.append("the same number marks the same part")
    if boxed and effective:
        what = "the parts hold" if parts else "it holds"
        notes.append("solid box: the place that is compared")
        notes.append(f"dashed box: the pixels that in effect decide what {what}")
    elif boxed:
        text = "a box is the place that is compared; pixels around it may count too"
        notes.append(text)
    if here is not None and here.maps is not None:
        notes.append("orange shade: similarity of each place, stronger where higher")
        notes.append(OUTLINED)
    notes.append(_limit_note(shown, own))
    decoded = own.decoded is not None
    decoded |= here is not None and here.reconstructions is not None
    if decoded:
        notes.append(DECODED)
    images = own.images if here is None or here.images is None else here.images
    if getattr(shown, "baseline", None) is not None:
        notes.append("usual: the mean over the training data")
    notes.append(channels_note(own.decoded if images is None else images))
    return [note for note in notes if note]


def box_notes(table: PrototypeTable, *, whole: bool = False) -> list[str]:
    """Say what the boxes in source images are, where these are shown for parts."""
    own = table.places
    if own is None or not (whole or shown_in_place(table)) or not has_boxes(own):
        return []
    if own.effective_boxes is None:
        return ["box: the part that a prototype stands for"]
    return [
        "solid box: the part that a prototype stands for",
        "dashed box: the pixels that in effect decide what it holds",
    ]


def _limit_note(shown: Any, own: PrototypePlaces) -> str:
    """Say how high similarities can be, where that is the same for all."""
    highest = own.max_similarity
    if highest is None or not len(highest) or np.ptp(highest) > 0:
        return ""
    name = getattr(shown, "similarity_name", "similarity")
    return f"{name}: at most {number(highest[0])}"


def path_notes(shown: Any) -> list[str]:
    """Say how the pictures of paths through trees are to be read."""
    notes = ["like: present on the path; not like: absent"]
    if any(has_boxes(tree.places) for tree in shown.trees):
        notes.append(
            "the same number marks a step, its part and the place nearest to it"
        )
    return notes


def _pair_note(own: PrototypePlaces) -> str:
    """Say what two pictures side by side are."""
    if own.decoded is not None:
        return "left: the decoded prototype, right: the training image"
    n_parts = own.sites.shape[1] if own.sites is not None and own.sites.ndim == 2 else 1
    if n_parts > MANY_PARTS or not has_boxes(own):
        return ""
    what = "part" if n_parts == 1 else "parts"
    return f"left: the training image, right: its {what}, enlarged"


def gallery_notes(shown: Any, *, whole: bool = False) -> list[str]:
    """Say how the pictures of a gallery are to be read.

    Parameters
    ----------
    shown : GlobalExplanation
        The model.

    whole : bool, default=False
        Whether the training images are shown beside the parts.
    """
    table, own = shown.prototypes, shown.prototypes.places
    notes: list[str] = []
    in_place = own.images is not None and (whole or shown_in_place(table))
    if in_place and whole and not shown_in_place(table):
        notes.append(_pair_note(own))
    if own.sites is not None and own.sites.ndim == 2:
        many = own.sites.shape[1] > MANY_PARTS and in_place
        text = "solid box: all parts of a prototype" if many else ""
        notes.append(text or "numbers: the parts of a prototype")
        if own.effective_boxes is not None and in_place:
            notes.append("dashed box: the pixels that in effect decide what they hold")
    else:
        notes += box_notes(table, whole=in_place)
    if not np.all(table.is_case):
        notes.append("near: a learned prototype, with the nearest part or image")
    if own.decoded is not None:
        notes.append(DECODED)
    notes.append(channels_note(own.decoded if own.images is None else own.images))
    return [note for note in notes if note]
