"""The pictures of a report: each is kept once and referred to by its number."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from typing import Any

import numpy as np

from skproto.explanation._pictures import Picture, png, shrink
from skproto.utils._optional import import_optional

LARGEST = (192, 128, 96, 64)  # longer side in pixels, the smaller the more there are
BUDGET = 11_000_000  # bytes of all pictures, before they are written as text
QUALITY = 82  # of JPEG, which holds pictures of many colours


class Pictures:
    """Pictures by number.

    Parameters
    ----------
    n_expected : int
        About how many there will be; decides how large they may be.

    shape : tuple of int
        Height and width of the images.
    """

    def __init__(self, n_expected: int, shape: tuple[int, int] = (1, 1)):
        room = BUDGET / max(n_expected, 1)
        # A pixel of a photograph takes about half a byte in a JPEG.
        fitting = [side for side in LARGEST if side * side / 2 <= room]
        self.largest = fitting[0] if fitting else LARGEST[-1]
        self.coarse = max(shape) < 100
        self._numbers: dict[tuple, int] = {}
        self._uris: list[list[Any]] = []

    def add(self, pixels: np.ndarray) -> int:
        """Keep pixels (h, w, 3) and return their number."""
        key = (pixels.shape, hash(pixels.tobytes()))
        if key not in self._numbers:
            self._numbers[key] = len(self._uris)
            height, width = pixels.shape[:2]
            small = shrink(pixels, self.largest)
            self._uris.append([_uri(small), width, height])
        return self._numbers[key]

    def refer(self, picture: Picture) -> list[Any]:
        """Return what the page needs to show a picture."""
        marks = [
            [
                *(round(float(edge), 2) for edge in mark.box),
                mark.part,
                int(mark.effective),
                *(round(float(at), 2) for at in mark.label),
                int(mark.small),
            ]
            for mark in picture.marks
        ]
        found = [self.add(picture.pixels), picture.caption, picture.alt]
        return [*found, marks, _shade(picture.overlay), picture.part]

    def plain(self) -> list[list[Any]]:
        """Return all pictures as data, width and height."""
        return self._uris


def _shade(overlay: np.ndarray | None) -> list[Any] | int:
    """Return the opacity of an overlay: rows, columns and bytes; 0 where none."""
    if overlay is None or not overlay[..., 3].any():
        return 0
    height, width = overlay.shape[:2]
    step = -(-max(height, width) // 64)
    opacity = np.ascontiguousarray(overlay[::step, ::step, 3])
    return [*opacity.shape, b64encode(opacity.tobytes()).decode()]


def _uri(pixels: np.ndarray) -> str:
    """Return pixels as an inline picture, PNG or JPEG, whichever is smaller."""
    data = png(pixels)
    if len(data) > 4000:
        jpeg = _jpeg(pixels)
        if len(jpeg) < 0.6 * len(data):
            return "jpeg," + b64encode(jpeg).decode()
    return "png," + b64encode(data).decode()


def _jpeg(pixels: np.ndarray) -> bytes:
    """Return pixels as a JPEG."""
    image = import_optional("PIL.Image", "A report with images", "html")
    file = BytesIO()
    image.fromarray(pixels).save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()
