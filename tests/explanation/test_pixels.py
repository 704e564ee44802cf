"""Pixels of pictures: patches, colours, the range of display, PNG files, labels."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest

from skproto.explanation._marks import ring
from skproto.explanation._pictures import (
    as_rgb,
    overlay_of,
    png,
    shrink,
    value_range,
)


def test_patches_are_cut_where_they_were_not_kept(seen):
    own = seen.table().places
    cut = replace(own, patches=None)
    for k in range(6):
        np.testing.assert_array_equal(cut.patch(k)[0], own.patch(k)[0])
    assert replace(cut, images=None).patch(0) == []
    parts = seen.sets().prototypes.places
    cut = replace(parts, patches=None)
    for one, other in zip(cut.patch(0), parts.patch(0), strict=True):
        np.testing.assert_array_equal(one, other)


def test_grey_colour_and_many_channels_become_rgb():
    values = value_range((0.0, 1.0))
    grey = as_rgb(np.full((1, 2, 3), 0.5), values)
    assert grey.shape == (2, 3, 3)
    assert set(grey.ravel()) == {128}
    colour = as_rgb(np.arange(3.0).reshape(3, 1, 1) / 2, values)
    assert colour.tolist() == [[[0, 128, 255]]]
    assert as_rgb(np.arange(5.0).reshape(5, 1, 1) / 2, values).tolist() == [
        [[0, 128, 255]]
    ]
    assert as_rgb(np.array([[[0.0]], [[1.0]]]), values).tolist() == [[[128] * 3]]
    assert as_rgb(np.full((1, 1, 1), np.nan), values).tolist() == [[[0] * 3]]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((0, 255), (0, 255)),
        ((3, 200), (0, 255)),
        ((0, 16), (0, 16)),
        ((0.1, 0.8), (0, 1)),
        ((-2.0, 3.0), (-2, 3)),
        ((np.nan, np.nan), (0, 1)),
        ((0.0, 0.0), (0, 1)),
    ],
)
def test_range_of_display(limits, expected):
    assert tuple(value_range(limits)) == expected


@pytest.mark.parametrize("depth", [3, 4])
def test_png_is_read_back(depth):
    image = pytest.importorskip("matplotlib.image", reason="reads the PNG back")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, depth)).astype(np.uint8)
    read = image.imread(BytesIO(png(pixels)))
    np.testing.assert_array_equal(np.round(read * 255), pixels)


def test_large_pictures_shrink_by_averaging():
    pixels = np.zeros((400, 300, 3), np.uint8)
    pixels[::2] = 200
    small = shrink(pixels, 200)
    assert small.shape == (200, 150, 3)
    assert set(small.ravel()) == {100}
    assert shrink(np.zeros((1, 500, 3), np.uint8), 100).shape == (1, 100, 3)
    assert shrink(small, 200) is small


def test_overlay_is_opaque_where_similar():
    overlay = overlay_of(np.array([[0.0, 1.0], [0.5, 1.0]]))
    alpha = overlay[..., 3]
    assert alpha[0, 0] == 0 < alpha[1, 0] < alpha[0, 1] < 128
    assert not overlay_of(np.ones((2, 2)))[..., 3].any()


@pytest.mark.parametrize("n", [1, 2, 4, 6, 9])
def test_numbers_around_small_parts_keep_apart(n):
    rng = np.random.default_rng(n)
    for corner in ((0, 0), (200, 0), (100, 100), (210, 210)):
        centres = np.array(corner) + rng.uniform(0, 14, (n, 2))
        places = ring(centres, 224.0, (224.0, 224.0))
        assert (places >= 0).all()
        assert (places <= 224).all()
        gaps = np.linalg.norm(places[:, None] - places[None], axis=2)
        assert (gaps[~np.eye(n, dtype=bool)] > 0.09 * 224).all()
