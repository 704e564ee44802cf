"""Prototypes of many parts: boxes that would cover each other are one box."""

import numpy as np
import pytest

from skproto.explanation import Explanation, PrototypePlaces, PrototypeTable
from skproto.explanation import SamplePlaces as Places
from skproto.explanation._gallery import tile_pictures
from skproto.explanation._marks import marks_of, spread
from skproto.explanation._pictures import range_of

N_PARTS = 9


@pytest.fixture(scope="module")
def shown():
    rng = np.random.RandomState(0)
    cells = np.array([[r, c] for r in range(1, 4) for c in range(1, 4)])
    boxes = np.concatenate([cells, cells + 2], axis=1)
    sites = cells @ [8, 1]
    images = rng.uniform(size=(1, 1, 8, 8))
    alike = np.linspace(0.2, 1.0, N_PARTS)
    effective = np.tile([0.0, 1.0, 7.0, 8.0], (N_PARTS, 1))
    own = PrototypePlaces(
        sites=sites[None],
        boxes=boxes[None],
        images=images,
        grid=[8, 8],
        effective_boxes=effective[None],
    )
    here = Places(
        sites=sites[None, None],
        boxes=boxes[None, None],
        images=images,
        grid=[8, 8],
        part_similarities=alike[None, None],
    )
    table = PrototypeTable(
        ids=[0],
        labels=["a"],
        indices=[3],
        projection_distance=[0.0],
        is_case=[True],
        places=own,
    )
    total = float(alike.sum())
    return Explanation(
        estimator_name="DeformableProtoPNetClassifier",
        classes=["a", "b"],
        scores=[[total, 0.0]],
        probabilities=[[0.9, 0.1]],
        prediction=["a"],
        class_contributions=[[[total, 0.0]]],
        class_bias=[[0.0, 0.0]],
        similarities=[[total]],
        prototypes=table,
        sample_index=[0],
        places=here,
    )


def test_one_box_and_numbers_apart(shown):
    own = shown.prototypes.places
    effective, outline, *numbers = marks_of(own, 0, own.parts_on(0))
    assert effective.effective
    assert effective.box == (0.0, 1.0, 7.0, 8.0)
    assert outline.box == (1, 1, 5, 5)
    assert outline.part == 0
    assert [mark.part for mark in numbers] == list(range(1, N_PARTS + 1))
    places = np.array([mark.label for mark in numbers])
    gaps = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))
    assert gaps[np.triu_indices(N_PARTS, 1)].min() > 0.8
    assert places.min() > 0.4
    assert places.max() < 7.6


def test_few_words_and_a_figure(shown):
    shown.verify()
    text = " ".join(str(shown).split())
    assert "9 parts found here within rows 1-4, columns 1-4" in text
    assert "most alike part 9 (1), least part 1 (0.20)" in text
    axes = shown.plot()
    words = [text.get_text() for text in axes.texts]
    assert {"1", "9"} <= set(words)
    assert any("dashed box" in word for word in words)


def test_galleries_leave_the_numbers_out(shown):
    (picture,) = tile_pictures(shown.prototypes, 0, range_of(shown))
    assert [mark.part for mark in picture.marks] == [0, 0]


def test_equal_points_part():
    points = spread(np.zeros((5, 2)), 1.0)
    gaps = np.hypot(*(points[:, None] - points).transpose(2, 0, 1))
    assert gaps[np.triu_indices(5, 1)].min() > 0.7
    np.testing.assert_allclose(points.mean(axis=0), 0.0, atol=1e-3)


def test_decoded_pixels_do_not_change_the_contrast():
    images = np.linspace(0.0, 16.0, 64).reshape(1, 1, 8, 8)
    places = PrototypePlaces(images=images, decoded=images * 3 - 10, sites=None)
    assert places.limits == (0.0, 16.0)
    alone = PrototypePlaces(decoded=images * 3 - 10)
    assert alone.limits == (-10.0, 38.0)
