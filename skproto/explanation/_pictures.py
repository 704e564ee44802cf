"""Small pictures of samples, sources and parts, before they become a figure or HTML.

Plain numpy. The pixels of all pictures of one explanation share one range, so that
pictures that stand side by side can be compared.
"""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from skproto.explanation._cases import (
    short_case,
    source,
    source_place,
)
from skproto.explanation._marks import Mark, marks_of, number_mark

if TYPE_CHECKING:
    from skproto.explanation._places import SamplePlaces
    from skproto.explanation._prototypes import PrototypeTable

BOX = "#F0E442"  # boxes of the only part
PART_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00")
OVERLAY = (213, 94, 0)  # vermillion
LARGEST = 192  # longer side of a picture in HTML, in pixels
FEW_PIXELS = 8  # parts with fewer a side are shown in their place


class Picture(NamedTuple):
    """Pixels to show, what is marked on them, and what they are.

    Parameters
    ----------
    pixels : array of uint8 of shape (h, w, 3)
        What is shown.

    caption : str
        A few words below or above it.

    alt : str
        A sentence for those who do not see it.

    marks : tuple of Mark
        Boxes.

    overlay : array of uint8 of shape (h', w', 4) or None
        Colours with opacity, stretched over the picture.

    part : int
        Number of the part shown, from 1; 0 is no part.
    """

    pixels: np.ndarray
    caption: str
    alt: str
    marks: tuple[Mark, ...] = ()
    overlay: np.ndarray | None = None
    part: int = 0


class Range(NamedTuple):
    """Values that are drawn black and white."""

    low: float
    high: float


def value_range(*limits: tuple[float, float]) -> Range:
    """Return the range in which images with these lowest and highest values are shown.

    Bytes are shown from 0 to 255 and fractions from 0 to 1, unless the values use a
    small part of that; all else from the lowest to the highest value.

    Examples
    --------
    >>> value_range((0.0, 0.9), (0.1, 0.7)), value_range((-1.0, 3.0))
    (Range(low=0.0, high=1.0), Range(low=-1.0, high=3.0))
    """
    known = [pair for pair in limits if np.isfinite(pair).all()]
    if not known:
        return Range(0.0, 1.0)
    low, high = min(pair[0] for pair in known), max(pair[1] for pair in known)
    if low >= 0:
        low = 0.0
        for limit in (1.0, 255.0):
            if limit / 2 < high <= limit:
                high = limit
    return Range(low, high if high > low else low + 1.0)


def channels_note(images: np.ndarray | None) -> str:
    """Say which channels are shown where they are neither 1 nor 3."""
    n_channels = 1 if images is None else images.shape[1]
    if n_channels in (1, 3):
        return ""
    if n_channels == 2:
        return "pictures show the mean of the 2 channels"
    return f"pictures show the first 3 of {n_channels} channels as red, green and blue"


def as_rgb(image: np.ndarray, values: Range) -> np.ndarray:
    """Turn an image (C, h, w) into bytes of shape (h, w, 3)."""
    shown = np.asarray(image, dtype=float)
    shown = shown[:3] if len(shown) >= 3 else shown.mean(axis=0, keepdims=True)
    share = (shown - values.low) / (values.high - values.low)
    share = np.clip(np.nan_to_num(share), 0.0, 1.0)
    pixels = np.round(255 * np.moveaxis(share, 0, -1)).astype(np.uint8)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def overlay_of(similarity_map: np.ndarray) -> np.ndarray:
    """Turn a similarity map into a light overlay, stronger where more similar."""
    values = np.nan_to_num(np.asarray(similarity_map, dtype=float))
    low, high = float(values.min()), float(values.max())
    share = (values - low) / (high - low) if high > low else np.zeros_like(values)
    overlay = np.empty((*values.shape, 4), dtype=np.uint8)
    overlay[..., :3] = OVERLAY
    overlay[..., 3] = np.round(115 * share**2)
    return overlay


# Pictures of an explanation


def input_picture(shown: Any, i: int, k: int | None, values: Range) -> Picture | None:
    """Return the picture of a sample with the place that is like a prototype."""
    places: SamplePlaces | None = shown.places
    if places is None or places.images is None:
        return None
    name = str(shown.sample_index[i])
    pixels = as_rgb(places.images[i], values)
    if k is None:
        return Picture(pixels, "this input", f"Sample {name}")
    marks = marks_of(places, (i, k), shown.prototypes.places.parts_on(k))
    overlay = None if places.maps is None else overlay_of(places.maps[i, k])
    alt = f"Sample {name} with the place that is like {short_case(shown.prototypes, k)}"
    return Picture(pixels, "this input", alt, marks, overlay)


def source_picture(table: PrototypeTable, k: int, values: Range) -> Picture | None:
    """Return the picture of the training image behind a prototype."""
    own = table.places
    row = int(table.indices[k])
    if own is None or own.images is None or (row < 0 and not table.is_case[k]):
        return None
    caption = f"image {row}" if table.is_case[k] else f"nearest image {row}"
    if row < 0:
        caption = "given image"
    place = source_place(table, k)
    name = source(table, k)
    alt = f"{name[0].upper()}{name[1:]}" + (f", {place} marked" if place else "")
    marks = marks_of(own, k, own.parts_on(k))
    return Picture(as_rgb(own.images[k], values), caption, alt, marks)


def shown_in_place(table: PrototypeTable) -> bool:
    """Tell whether all parts are of a few pixels, which say nothing on their own."""
    own = table.places
    if own is None or own.boxes is None or own.images is None:
        return False
    sides = own.boxes[..., 2:] - own.boxes[..., :2]
    return own.decoded is None and int(sides.max(initial=0)) < FEW_PIXELS


def part_pictures(table: PrototypeTable, k: int, values: Range) -> list[Picture]:
    """Return pictures of the parts of a prototype; decoded where they are decoded."""
    own = table.places
    if own is None:
        return []
    if own.decoded is not None:
        alt = f"Prototype {table.ids[k]} as the decoder renders it"
        return [Picture(as_rgb(own.decoded[k], values), "decoded", alt)]
    if not source_place(table, k):
        return []
    pictures = []
    for part, patch in zip(own.parts_on(k), own.patch(k), strict=False):
        if not patch.size:
            continue
        number = 0 if part is None else part + 1
        caption = "its part" if table.is_case[k] else "nearest part"
        caption = f"part {number}" if number else caption
        alt = f"{caption.capitalize()} of {source(table, k)}, enlarged"
        pictures.append(Picture(as_rgb(patch, values), caption, alt, part=number))
    return pictures


def row_pictures(shown: Any, i: int, k: int) -> tuple[Picture, ...]:
    """Return the pictures of a row of evidence, side by side.

    Input, source and parts; or the decoded prototype and the nearest training image.
    """
    table = shown.prototypes
    own = table.places
    if own is None or own.kind != "image":
        return ()
    values = range_of(shown)
    found = [source_picture(table, k, values)]
    if own.decoded is None:
        found.insert(0, input_picture(shown, i, k, values))
    pictures = [picture for picture in found if picture is not None]
    parts = part_pictures(table, k, values)
    return tuple(parts + pictures if own.decoded is not None else pictures + parts)


def number_picture(picture: Picture, step: int) -> Picture:
    """Write a number on a part, or on the box of the part in its training image."""
    height, width = picture.pixels.shape[:2]
    shift = 0.055 * max(height, width)
    marks = tuple(
        mark._replace(part=step, label=(mark.box[1] + shift, mark.box[0] + shift))
        for mark in picture.marks
        if not mark.effective
    )
    return picture._replace(marks=marks or (number_mark((height, width), step),))


def reconstruction_pictures(shown: Any, i: int) -> tuple[Picture, ...]:
    """Return the input and what the decoder makes of its code."""
    places: SamplePlaces | None = shown.places
    if places is None or places.reconstructions is None:
        return ()
    values = range_of(shown)
    alt = f"Reconstruction of sample {shown.sample_index[i]} by the decoder"
    decoded = Picture(as_rgb(places.reconstructions[i], values), "decoded", alt)
    own = input_picture(shown, i, None, values)
    return (decoded,) if own is None else (own, decoded)


def range_of(shown: Any) -> Range:
    """Return the range of all images of an explanation."""
    found = [getattr(shown, "places", None), shown.prototypes.places]
    return value_range(*(places.limits for places in found if places is not None))


# PNG


def png(pixels: np.ndarray) -> bytes:
    r"""Write pixels of shape (h, w, 3) or (h, w, 4) as a PNG file, grey if they are.

    Examples
    --------
    >>> import numpy as np
    >>> png(np.zeros((2, 2, 3), np.uint8))[:8]
    b'\x89PNG\r\n\x1a\n'
    """
    if pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]  # grey
    height, width, depth = pixels.shape
    lines = np.zeros((height, 1 + width * depth), dtype=np.uint8)  # filter 0 first
    lines[:, 1:] = pixels.reshape(height, -1)
    colour = {1: 0, 3: 2, 4: 6}[depth]
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", _crc(name, data))
        for name, data in (*parts, (b"IEND", b""))
    )


def _crc(name: bytes, data: bytes) -> int:
    return zlib.crc32(name + data) & 0xFFFFFFFF


def shrink(pixels: np.ndarray, largest: int = LARGEST) -> np.ndarray:
    """Average blocks of pixels until the longer side is not above a limit."""
    factor = -(-max(pixels.shape[:2]) // largest)
    if factor == 1:
        return pixels
    height, width = (max(length // factor, 1) for length in pixels.shape[:2])
    blocks = pixels[: height * factor, : width * factor].astype(float)
    rows, columns = min(factor, len(blocks)), min(factor, blocks.shape[1])
    blocks = blocks.reshape(height, rows, width, columns, -1).mean(axis=(1, 3))
    return np.round(blocks).astype(np.uint8)


def data_uri(pixels: np.ndarray) -> str:
    """Return pixels as an inline PNG."""
    return "data:image/png;base64," + b64encode(png(shrink(pixels))).decode()
