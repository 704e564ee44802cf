"""Check that places, boxes and similarities of parts belong together."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import numpy as np

from skproto.explanation._checks import Checker
from skproto.explanation._places import Places, PrototypePlaces, SamplePlaces

# Maps are for the eye: computed by one matrix product, while the winning site's
# similarity is exact. Where a logarithm is steep the two differ visibly.
MAP_SLACK = 0.02


def check_places(check: Checker, shown: Any) -> None:
    """Check the places of an explanation; nothing to do where there are none."""
    own: PrototypePlaces | None = shown.prototypes.places
    if own is None:
        return
    n_parts = 0 if own.sites is None or own.sites.ndim == 1 else own.sites.shape[1]
    check.names["M"] = range(1, n_parts + 1)
    parts = "M" if n_parts else ""
    _check_sites(check, "P" + parts, own, own.slots)
    places: SamplePlaces | None = shown.places
    if places is not None:
        _check_sites(check, "nP" + parts, places, own.slots)
        _check_parts(check, shown.similarities, places, own)
        _check_maps(check, places)
    highest = own.max_similarity
    if highest is None and shown._highest is not None:
        highest = np.full(len(shown.prototypes), shown._highest)
    if highest is not None:
        _check_highest(check, shown, highest)
    elif n_parts <= 1 and shown.distances is not None:
        _check_nearest(check, shown)


def _check_sites(
    check: Checker, axes: str, places: Places, slots: np.ndarray | None
) -> None:
    """Check that sites are on the grid, and boxes in the image and at their sites."""
    sites, boxes = places.sites, places.boxes
    if sites is None:
        return
    on = sites >= 0
    if slots is not None and sites.ndim == len(axes) and axes.endswith("M"):
        check.true("a part that is on has no site", axes, on | (slots <= 0.5))
    if places.n_sites is not None:
        check.true("the site is not on the grid", axes, sites < places.n_sites)
    if boxes is None or places.image_size is None:
        return
    height, width = (int(length) for length in places.image_size)
    top, left, bottom, right = np.moveaxis(boxes, -1, 0)
    inside = (top >= 0) & (left >= 0) & (bottom <= height) & (right <= width)
    full = (bottom > top) & (right > left)
    check.true("the box is empty or leaves the image", axes, ~on | (inside & full))
    if places.grid is None:
        return
    n_rows, n_columns = (int(length) for length in places.grid)
    row, column = sites // n_columns, sites % n_columns
    meets = (top < (row + 1) * height / n_rows) & (bottom > row * height / n_rows)
    meets &= left < (column + 1) * width / n_columns
    meets &= right > column * width / n_columns
    check.true("the box does not lie at the site", axes, ~on | meets)


def _check_parts(
    check: Checker,
    similarities: np.ndarray,
    places: SamplePlaces,
    own: PrototypePlaces,
) -> None:
    """Check the similarity of prototypes against those of their parts."""
    alike = places.part_similarities
    if alike is None:
        return
    slots = np.ones(alike.shape[1:]) if own.slots is None else own.slots.astype(float)
    total = slots.sum(axis=1)
    terms = np.where(slots > 0, alike.astype(float), 0.0) * slots
    pooled = terms.sum(axis=2) / np.where(total > 0, total, 1.0)
    if own.part_pooling == "sum":
        pooled = pooled * alike.shape[2]
    check.close("similarity", "nP", similarities, pooled, 1.0 + np.abs(pooled))


def _check_maps(check: Checker, places: SamplePlaces) -> None:
    """Check that a map that has one value for each site is highest at the site."""
    maps, sites = places.maps, places.sites
    if maps is None or sites is None or places.n_sites is None or sites.ndim != 2:
        return
    if places.grid is None or maps.shape[2:] != tuple(places.grid):
        return
    flat = maps.reshape(*sites.shape, places.n_sites).astype(float)
    there = np.take_along_axis(flat, np.maximum(sites, 0)[..., None], axis=2)[..., 0]
    top = flat.max(axis=2)
    highest = there >= top - max(MAP_SLACK, check.rtol) * (1.0 + np.abs(top))
    text = "the similarity map is higher at another site"
    check.true(text, "nP", (sites < 0) | highest)


def _check_highest(check: Checker, shown: Any, highest: np.ndarray) -> None:
    """Check that no similarity is too high, and that of a source image high enough."""
    similar, slack = shown.similarities, check.rtol * (1.0 + np.abs(highest))
    text = "the similarity exceeds the highest there can be"
    check.true(text, "nP", similar <= highest + slack)
    same = _is_source(shown) & np.asarray(shown.prototypes.is_case, bool)
    text = "the source image does not reach the highest similarity"
    check.true(text, "nP", ~same | (similar >= highest - slack))


def _check_nearest(check: Checker, shown: Any) -> None:
    """Check that the source image of a prototype is at no distance from it.

    Where similarities have no upper limit, this is what a source can be held to. With
    inner products another site of the source may win, and is farther away.
    """
    far = np.asarray(shown.distances, dtype=float)
    slack = np.sqrt(check.rtol) * (1.0 + far.max(axis=1, initial=0.0, keepdims=True))
    same = _is_source(shown) & np.asarray(shown.prototypes.is_case, bool)
    here, there = shown.places.sites, shown.prototypes.places.sites
    if here is not None and there is not None:
        same &= here == there
    text = "the source image is at a distance from its prototype"
    check.true(text, "nP", ~same | (far <= slack))


def _is_source(shown: Any) -> np.ndarray:
    """Tell which samples are the source images of which prototypes, shape (n, P)."""
    places, own = shown.places, shown.prototypes.places
    nothing = np.zeros((len(shown), len(shown.prototypes)), dtype=bool)
    if places is None or places.images is None or own.images is None:
        return nothing
    kind = np.result_type(places.images, own.images)
    here, there = (
        np.array([_digest(image.astype(kind)) for image in images], dtype=object)
        for images in (places.images, own.images)
    )
    return here[:, None] == there[None, :] if len(here) and len(there) else nothing


def _digest(image: np.ndarray) -> str:
    return sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
