"""Metrics on maps and annotations whose values are known by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skproto.metrics import (
    FeatureRegions,
    PrototypeRegions,
    bootstrap_interval,
    class_thresholds,
    consistency_score,
    contribution_sizes,
    ood_from_scores,
    overlap_scores,
    part_frequencies,
    prototype_regions,
    purity_score,
    random_place_score,
    region_agreement,
    relevance_score,
    sparsity_score,
)

# Parts hit and seen in five images of one class.
HITS = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]])
SEEN = np.array([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1], [1, 0, 1]])
NOISY = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]])
ONE_CLASS = {"y": np.zeros(5, int), "prototype_labels": np.zeros(1, int)}


def regions_that_hit(hits):
    """Regions of one prototype that hold the given parts, and where these lie."""
    hits = np.asarray(hits, dtype=bool)
    return FeatureRegions(hits[:, None, :], np.arange(len(hits), 0.0, -1)[:, None])


GROUPS = np.eye(3, dtype=bool)


def random_case(seed, n=12, n_prototypes=4, n_parts=3):
    rng = np.random.RandomState(seed)
    maps = rng.normal(size=(n, n_prototypes, 4, 4))
    return {
        "regions": prototype_regions(maps, (16, 16)),
        "part_locations": rng.randint(16, size=(n, n_parts, 2)),
        "part_visible": rng.rand(n, n_parts) < 0.8,
        "y": rng.permutation(n) % 2,
        "prototype_labels": np.arange(n_prototypes) % 2,
    }


# -- regions ---------------------------------------------------------------------------


def peak(row, column, size=8):
    maps = np.zeros((1, 1, size, size))
    maps[0, 0, row, column] = 1.0
    return maps


def test_a_region_is_cut_at_the_border_and_holds_its_edges():
    regions = prototype_regions(peak(0, 0), (8, 8), half_size=2)
    assert regions.boxes[0, 0].tolist() == [0, 0, 3, 3]
    parts = [[[2, 2], [3, 2], [2, 3], [0, 0]]]
    assert regions.hits(parts)[0, 0].tolist() == [True, False, False, True]
    inner = prototype_regions(peak(3, 4), (8, 8), half_size=2)
    assert inner.boxes[0, 0].tolist() == [1, 2, 6, 7]


def test_the_default_side_is_that_of_the_paper():
    maps = np.zeros((1, 1, 7, 7))
    maps[0, 0, 3, 3] = 1
    box = prototype_regions(maps, (224, 224)).boxes[0, 0]
    # Centre 111.5: the 72 pixels within 36 of it.
    assert box.tolist() == [76, 76, 148, 148]


def test_the_first_of_equal_maxima_wins_and_flat_maps_point_nowhere():
    maps = np.zeros((2, 1, 4, 4))
    maps[0, 0, 1, 2] = maps[0, 0, 2, 1] = 1.0
    regions = prototype_regions(maps, (4, 4), half_size=0)
    assert regions.boxes[0, 0].tolist() == [1, 2, 2, 3]
    assert regions.valid.ravel().tolist() == [True, False]
    assert not regions.hits(np.zeros((2, 1, 2)))[1].any()


@pytest.mark.parametrize("upsample", ["bilinear", "bicubic"])
def test_stretched_maps_have_their_peak_in_the_same_cell(upsample):
    maps = np.zeros((1, 1, 4, 4))
    maps[0, 0, 1, 2] = 1.0
    regions = prototype_regions(maps, (16, 16), 0, upsample)
    top, left = regions.boxes[0, 0, :2]
    assert (top // 4, left // 4) == (1, 2)


def test_regions_can_be_resized():
    maps = np.random.RandomState(0).rand(3, 2, 4, 4)
    small, large = (prototype_regions(maps, (16, 16), half) for half in (1, 3))
    assert_array_equal(large.resized(1).boxes, small.boxes)
    assert (large.area > small.area).all()


# -- parts -----------------------------------------------------------------------------


def test_frequencies_of_the_five_images():
    found = part_frequencies(regions_that_hit(HITS), GROUPS, SEEN, **ONE_CLASS)
    assert_allclose(found, [[0.8, 0.5, 0.0]], rtol=1e-15)


@pytest.mark.parametrize(("threshold", "expected"), [(0.8, 1.0), (0.81, 0.0)])
def test_consistent_means_at_least_the_threshold(threshold, expected):
    regions = regions_that_hit(HITS)
    score = consistency_score(regions, GROUPS, SEEN, threshold=threshold, **ONE_CLASS)
    assert score == expected


def test_soft_consistency_and_purity_of_the_five_images():
    regions = regions_that_hit(HITS)
    assert consistency_score(regions, GROUPS, SEEN, soft=True, **ONE_CLASS) == 0.8
    assert purity_score(regions, GROUPS, SEEN) == 0.8
    assert purity_score(regions, GROUPS, SEEN, part="most_frequent") == 0.8
    assert purity_score(regions, GROUPS, SEEN, top_k=3) == 1.0
    # The first three are more similar than 2.
    assert purity_score(regions, GROUPS, SEEN, min_similarity=2) == 1.0


def test_left_and_right_merge_into_their_maximum():
    left_or_right = purity_score(
        regions_that_hit(HITS), GROUPS, SEEN, merge=[(0, 1)], per_prototype=True
    )
    by_hand = np.maximum(HITS[:, 0], HITS[:, 1]).mean()
    assert left_or_right == [by_hand] == [1.0]


@pytest.mark.parametrize(("kind", "expected"), [("exact", 0.8), ("jaccard", 0.9)])
def test_stability_of_the_five_images(kind, expected):
    before, after = regions_that_hit(HITS), regions_that_hit(NOISY)
    score = region_agreement(before, after, GROUPS, SEEN, kind=kind, **ONE_CLASS)
    assert_allclose(score, expected, rtol=1e-15)


def test_a_prototype_on_the_background_is_stable_but_not_on_parts():
    regions = regions_that_hit(HITS)
    elsewhere = np.array([[False, False, True]])  # no region holds this part
    assert region_agreement(regions, regions, elsewhere) == 1.0
    assert np.isnan(region_agreement(regions, regions, elsewhere, on_parts=True))


def test_a_perfect_detector_is_consistent_and_pure():
    rng = np.random.RandomState(0)
    parts = rng.randint(8, size=(20, 3, 2))
    maps = np.zeros((20, 2, 8, 8))
    maps[np.arange(20), :, parts[:, 0, 1], parts[:, 0, 0]] = 1
    regions = prototype_regions(maps, (8, 8))
    assert consistency_score(regions, parts) == 1.0
    assert purity_score(regions, parts) == 1.0
    assert region_agreement(regions, regions, parts) == 1.0
    assert_allclose(bootstrap_interval(consistency_score, regions, parts), 1.0)


def test_a_constant_place_meets_parts_in_proportion_to_its_area():
    rng = np.random.RandomState(0)
    n = 20_000
    maps = np.zeros((n, 1, 16, 16), dtype=np.float32)
    maps[:, 0, 8, 8] = 1
    regions = prototype_regions(maps, (16, 16), half_size=2)
    parts = rng.randint(16, size=(n, 1, 2))
    share = 25 / 256
    assert_allclose(regions.area, share)
    assert_allclose(part_frequencies(regions, parts), share, atol=0.01)
    at_random = random_place_score(
        lambda r: part_frequencies(r, parts)[0, 0], regions, random_state=0
    )
    assert 0.8 * share < at_random < share  # cut at the border


def test_prototypes_without_samples_are_left_out():
    case = random_case(0)
    case["prototype_labels"] = np.array([0, 1, 0, 7])
    frequencies = part_frequencies(**case)
    assert np.isnan(frequencies).all(axis=1).tolist() == [False, False, False, True]
    values = consistency_score(**case, per_prototype=True)
    assert_allclose(consistency_score(**case), np.nanmean(values))


def test_shared_prototypes_count_samples_of_all_their_classes():
    case = random_case(1)
    labels = np.array([[1, 1], [1, 0], [0, 1], [1, 1]], dtype=bool)
    shared = part_frequencies(**case | {"prototype_labels": labels}, classes=[0, 1])
    everywhere = part_frequencies(
        case["regions"], case["part_locations"], case["part_visible"]
    )
    assert_allclose(shared[[0, 3]], everywhere[[0, 3]])
    own = part_frequencies(**case | {"prototype_labels": np.array([0, 0, 1, 1])})
    assert_allclose(shared[[1, 2]], own[[1, 2]])


def test_only_prototypes_with_a_weight_are_judged_pure():
    case = random_case(2)
    parts = case["part_locations"], case["part_visible"]
    weights = np.array([[1.0, 0], [0, 0], [0, -1], [0, 0.5]])
    found = purity_score(case["regions"], *parts, weights=weights, per_prototype=True)
    assert np.isnan(found).tolist() == [False, True, True, False]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_order_of_samples_parts_and_prototypes_does_not_matter(seed):
    case = random_case(seed)
    rng = np.random.RandomState(seed)
    rows, parts, protos = (rng.permutation(k) for k in (12, 3, 4))
    regions = case["regions"].take(rows)
    moved = {
        "regions": PrototypeRegions(
            regions.boxes[:, protos],
            regions.similarities[:, protos],
            regions.valid[:, protos],
            regions.image_size,
        ),
        "part_locations": case["part_locations"][rows][:, parts],
        "part_visible": case["part_visible"][rows][:, parts],
        "y": case["y"][rows],
        "prototype_labels": case["prototype_labels"][protos],
    }
    for soft in (False, True):
        before, after = (
            consistency_score(**c, soft=soft, per_prototype=True) for c in (case, moved)
        )
        assert_allclose(after, before[protos])
    judged = [
        purity_score(
            c["regions"],
            c["part_locations"],
            c["part_visible"],
            top_k=5,
            per_prototype=True,
        )
        for c in (case, moved)
    ]
    assert_allclose(judged[1], judged[0][protos])
    agreement = [
        region_agreement(c["regions"], c["regions"].resized(1), c["part_locations"])
        for c in (case, moved | {"regions": case["regions"].take(rows)})
    ]
    assert_allclose(agreement[1], agreement[0])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_merging_is_the_maximum_of_hits_and_visibility(seed):
    case = random_case(seed)
    seen = case["part_visible"]
    hits = case["regions"].hits(case["part_locations"], seen)
    merged = np.concatenate([hits[..., :2].any(2, keepdims=True), hits[..., 2:]], 2)
    visible = np.concatenate([seen[:, :2].any(1, keepdims=True), seen[:, 2:]], 1)
    by_hand = merged.sum(0) / np.maximum(visible.sum(0), 1)
    score = purity_score(
        case["regions"],
        case["part_locations"],
        seen,
        merge=[(1, 0)],
        top_k=None,
        per_prototype=True,
    )
    assert_allclose(score, by_hand.max(axis=1))


# -- relevance -------------------------------------------------------------------------

MAP = np.array([[[[0.5, 0.25], [0.25, 0.0]]]])
LEFT = np.array([[[True, False], [True, False]]])


def test_energy_on_the_object():
    assert relevance_score(MAP, LEFT) == 0.75
    assert relevance_score(MAP, np.ones_like(LEFT)) == 1.0
    assert relevance_score(MAP, np.zeros_like(LEFT)) == 0.0
    assert np.isnan(relevance_score(-MAP, LEFT))


def test_energy_does_not_change_when_the_mask_is_finer():
    finer = LEFT.repeat(3, axis=1).repeat(3, axis=2)
    assert_allclose(relevance_score(MAP, finer), 0.75)


def test_share_of_the_top_pixels():
    assert relevance_score(MAP, LEFT, kind="mask", area=0.25) == 1.0
    assert relevance_score(MAP, ~LEFT, kind="mask", area=0.25) == 0.0
    # Nothing lies strictly above the quantile of a flat map.
    assert relevance_score(np.ones_like(MAP), LEFT, kind="mask") == 0.0


def test_overlap_of_the_top_pixels():
    scores = overlap_scores(MAP, LEFT, quantile=0.9)
    assert scores["iou"] == 0.5
    assert scores["object"] == 0.5
    assert scores["background"] == 0.0
    assert_allclose(scores["inside_outside"], (1 + 0.5) / 2 - (0.5 + 0) / 2)
    outside = overlap_scores(MAP, ~LEFT & (MAP[0] > 1))
    assert np.isnan(outside["object"])
    assert outside["background"] == 1.0


def test_relevance_counts_images_of_the_class_only():
    maps, masks = np.repeat(MAP, 2, axis=0), np.concatenate([LEFT, ~LEFT])
    labels = {"y": [0, 1], "prototype_labels": [1]}
    assert relevance_score(maps, masks, **labels) == 0.25
    assert relevance_score(maps, masks) == 0.5


# -- sizes -----------------------------------------------------------------------------

WEIGHTS = np.array([[1.2, 0, 0, 0.0005], [0, 0.7, 0, 0]]).T


def test_zero_weights():
    assert sparsity_score(WEIGHTS) == 0.75
    assert sparsity_score(WEIGHTS, per_prototype=True).tolist() == [0.5, 0.5, 1, 1]


def test_sizes_of_a_model_and_of_an_explanation():
    sizes = contribution_sizes([[0.9, 0.05, 0.3, 0.8]], WEIGHTS)
    assert sizes["global"] == 2
    assert sizes["class"].tolist() == [[1, 1]]
    assert sizes["local"].tolist() == [2]
    assert sizes["effective"].tolist() == [1]


def test_the_effective_size_reaches_the_share():
    similarities = [[4.0, 3.0, 2.0, 1.0]]
    ones = np.ones((4, 1))
    for share, expected in ((0.4, 1), (0.7, 2), (0.71, 3), (1.0, 4)):
        found = contribution_sizes(similarities, ones, share=share)["effective"]
        assert found.tolist() == [expected]


# -- foreign data ----------------------------------------------------------------------


def test_thresholds_keep_their_share_of_each_class():
    rng = np.random.RandomState(0)
    scores = rng.normal(size=(500, 4)) * [1, 2, 3, 4]
    thresholds = class_thresholds(scores)
    predicted, winning = scores.argmax(1), scores.max(1)
    for code in range(4):
        own = winning[predicted == code]
        assert (own >= thresholds[code]).mean() >= 0.95
        assert (own > thresholds[code]).mean() < 0.95 + 1 / len(own)


def test_the_threshold_of_a_class_never_predicted_is_the_mean():
    scores = np.array([[3.0, 0, 0], [0, 5.0, 0]])
    assert class_thresholds(scores).tolist() == [3, 5, 4]


def test_the_same_data_are_not_foreign():
    scores = np.random.RandomState(1).normal(size=(200, 3))
    found = ood_from_scores(scores, scores)
    assert found["fpr95"] >= 0.95
    assert found["kept"] >= 0.95
    assert found["auroc"] == 0.5


def test_scores_of_zero_abstain():
    known = 1 + np.random.RandomState(1).rand(50, 3)
    found = ood_from_scores(known, np.zeros((20, 3)))
    assert found == {"fpr95": 0.0, "auroc": 1.0, "abstain": 1.0, "kept": found["kept"]}


# -- bad input -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0.0}, r"threshold must be in \(0, 1\]"),
        ({"threshold": 1.5}, r"threshold must be in \(0, 1\]"),
        ({"part_visible": np.zeros((12, 3))}, "no visible part"),
        ({"part_visible": np.ones((12, 2))}, r"\(12, 3\).*\(12, 2\)"),
        ({"part_locations": np.ones((11, 3, 2))}, r"\(12, n_parts, 2\).*\(11, 3, 2\)"),
        ({"y": np.zeros(3)}, "regions has 12, y has 3"),
        ({"prototype_labels": np.zeros(3)}, "of 4 prototypes"),
        ({"prototype_labels": None}, "prototype_labels must be given"),
        ({"prototype_labels": np.ones((4, 2))}, "one column for each of classes"),
        ({"regions": np.zeros((12, 4, 4, 4))}, "input_shape must be given"),
    ],
)
def test_wrong_arguments_of_consistency(change, message):
    with pytest.raises(ValueError, match=message):
        consistency_score(**random_case(0) | change)


def test_few_samples_are_warned_of():
    case = random_case(0)
    case["regions"] = case["regions"].take(slice(4))
    case |= {k: case[k][:4] for k in ("part_locations", "part_visible", "y")}
    with pytest.warns(UserWarning, match="fewer than 5 samples"):
        consistency_score(**case)


def test_wrong_arguments_of_the_others():
    maps = np.full((1, 1, 2, 2), np.nan)
    with pytest.raises(ValueError, match="no NaN"):
        prototype_regions(maps, (2, 2))
    with pytest.raises(ValueError, match="must have shape"):
        prototype_regions(maps[0], (2, 2))
    with pytest.raises(ValueError, match="upsample"):
        prototype_regions(MAP, (2, 2), upsample="cubic")
    with pytest.raises(ValueError, match="half_size"):
        prototype_regions(MAP, (2, 2), half_size=-1)
    with pytest.raises(ValueError, match="masks must have shape"):
        relevance_score(MAP, LEFT[0])
    with pytest.raises(ValueError, match="kind must be one of"):
        relevance_score(MAP, LEFT, kind="area")
    with pytest.raises(ValueError, match="merge must hold groups"):
        purity_score(regions_that_hit(HITS), GROUPS, merge=[(0, 3)])
    with pytest.raises(ValueError, match="groups of features"):
        purity_score(regions_that_hit(HITS), np.eye(2, dtype=bool))
    with pytest.raises(ValueError, match="of the same classes"):
        ood_from_scores(np.ones((3, 2)), np.ones((3, 3)))
    with pytest.raises(ValueError, match="one column for each row"):
        contribution_sizes(np.ones((2, 3)), WEIGHTS)
