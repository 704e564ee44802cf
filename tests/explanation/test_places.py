"""Places: shapes, verification, words, tables, and the pixels of pictures."""

import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from skproto.explanation import PrototypePlaces, SamplePlaces
from skproto.explanation._cases import case_name, origin
from skproto.explanation._pictures import (
    row_pictures,
)

# Contract and verification


def test_images_verify_and_add_up(pictured):
    pictured.verify()
    pictured[:0].verify()
    total = pictured.contributions.sum(axis=1) + pictured.bias
    np.testing.assert_allclose(total, pictured.decision, rtol=1e-9)


@pytest.mark.parametrize("kind", ["tokens", "features"])
def test_other_sites_verify(seen, kind):
    getattr(seen, kind)().verify()
    seen.tokens(3).verify()


@pytest.mark.parametrize("key", [1, slice(1, None), [False, True], np.array([1])])
def test_places_are_sliced_with_the_samples(pictured, key):
    part = pictured[key]
    part.verify()
    if pictured.places is not None:
        np.testing.assert_array_equal(part.places.images, pictured.places.images[1:])
        for name in ("sites", "boxes", "maps", "part_similarities"):
            value = getattr(pictured.places, name)
            if value is not None:
                np.testing.assert_array_equal(getattr(part.places, name), value[1:])


def test_pickle_and_deepcopy(pictured):
    for other in (pickle.loads(pickle.dumps(pictured)), copy.deepcopy(pictured)):
        other.verify()
        assert str(other) == str(pictured)


def test_dictionary_is_json(pictured, gallery):
    for shown in (pictured, gallery):
        content = json.loads(json.dumps(shown.to_dict(), allow_nan=False))
        assert content["type"] == type(shown).__name__


def altered(shown, owner, name, change):
    """Return a copy in which an array of the places was changed."""
    changed = copy.deepcopy(shown)
    places = changed.places if owner == "sample" else changed.prototypes.places
    array = np.array(getattr(places, name))
    change(array)
    setattr(places, name, array)
    return changed


def put(at, value):
    def change(array):
        array[at] = value

    return change


@pytest.mark.parametrize(
    ("kind", "owner", "name", "at", "value", "message"),
    [
        ("parts", "sample", "sites", (1, 2), 99, "sample 1, prototype 2: .* the grid"),
        ("parts", "sample", "sites", (1, 2), 0, "sample 1, prototype 2: the box does"),
        ("parts", "prototype", "sites", 3, 0, "^prototype 3: the box does not lie"),
        ("parts", "sample", "boxes", (0, 0, 2), 9, "empty or leaves the image"),
        ("parts", "prototype", "boxes", (0, 2), 0, "empty or leaves the image"),
        ("parts", "sample", "maps", (1, 2, 0, 0), 99.0, "the similarity map is higher"),
        ("sets", "sample", "part_similarities", (0, 4, 1), 0.2, "similarity of sample"),
        ("sets", "prototype", "slots", (0, 1), 0.0, "similarity of sample"),
        ("sets", "prototype", "slots", (1, 2), 1.0, "prototype 1, part 3: a part that"),
        ("sets", "sample", "boxes", (0, 0, 1, 0), -3, "prototype 0, part 2: the box"),
    ],
)
def test_places_that_do_not_fit_are_found(seen, kind, owner, name, at, value, message):
    changed = altered(getattr(seen, kind)(), owner, name, put(at, value))
    with pytest.raises(ValueError, match=message):
        changed.verify()


def test_parts_that_are_off_do_not_count(seen):
    e = altered(seen.sets(), "sample", "part_similarities", put((0, 1, 2), np.nan))
    e.verify()
    assert e.prototypes.places.parts_on(1) == [0, 1]
    assert len(e.prototypes.places.patch(1)) == 2


def test_mean_of_the_parts_is_checked_too(seen):
    e = seen.sets()
    mean = replace(e.prototypes.places, part_pooling="mean", max_similarity=None)
    weights, similarities = 3 * e.head_weights, e.similarities / 3
    table = replace(e.prototypes, places=mean)
    replace(
        e, prototypes=table, similarities=similarities, head_weights=weights
    ).verify()


def test_source_images_score_the_maximum(seen):
    e = seen.parts(rows=tuple(seen.source_rows()))
    e.verify()
    np.testing.assert_allclose(np.diag(e.similarities), seen.HIGHEST)
    higher = replace(e.prototypes.places, max_similarity=np.full(6, seen.HIGHEST + 1))
    with pytest.raises(ValueError, match="source image does not reach the highest"):
        replace(e, prototypes=replace(e.prototypes, places=higher)).verify()
    lower = replace(e.prototypes.places, max_similarity=np.ones(6))
    with pytest.raises(ValueError, match="exceeds the highest there can be"):
        replace(e, prototypes=replace(e.prototypes, places=lower)).verify()


def test_centred_distances_are_checked(seen):
    e = seen.autoencoder()
    with pytest.raises(ValueError, match="contribution of sample 20"):
        replace(e, baseline=e.baseline + 1).verify()


# Shapes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "video"}, "kind must be one of"),
        ({"sites": [[[1]]]}, r"sites must have shape \(P, M\)"),
        ({"sites": [1, 2], "boxes": [[0, 0, 1, 1]]}, "boxes must have shape"),
        ({"sites": [1], "boxes": [[[0, 0, 1, 1]]]}, r"boxes must have shape \(1, 4\)"),
        ({"boxes": [[[0, 0, 1, 1]]]}, "boxes of several parts need sites"),
        ({"boxes": [[0, 0, 1]]}, r"boxes must have shape .* got \(1, 3\)"),
        ({"sites": [1, 2], "hashes": ["a"]}, "hashes must have shape"),
        ({"sites": [1, 2], "patches": []}, r"number of prototypes, got \[0, 2\]"),
        ({"part_pooling": "max"}, "part_pooling must be one of"),
        ({"sites": [1], "grid": [2, 2, 2]}, "grid must have shape"),
    ],
)
def test_contradicting_places_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        PrototypePlaces(**change)


def test_places_of_samples_must_fit(seen):
    e = seen.parts()
    bare = replace(e.prototypes, places=None)
    with pytest.raises(ValueError, match="needs the places of the prototypes"):
        replace(e, prototypes=bare)
    with pytest.raises(ValueError, match="places must be of kind 'image'"):
        replace(e, places=SamplePlaces(kind="tokens"))
    with pytest.raises(
        ValueError, match=r"places.sites must start with shape \(2, 6\)"
    ):
        replace(e, places=SamplePlaces(sites=np.zeros((3, 6), int)))
    with pytest.raises(ValueError, match=r"to fit the prototypes, got \(2, 6, 2\)"):
        replace(e, places=SamplePlaces(sites=np.zeros((2, 6, 2), int)))
    with pytest.raises(ValueError, match="places must speak of 6 prototypes, got 1"):
        replace(e.prototypes, places=PrototypePlaces(sites=[0]))


def test_what_is_not_known_is_left_out(seen):
    e = seen.parts()
    own = PrototypePlaces(sites=e.prototypes.places.sites)
    here = SamplePlaces(sites=e.places.sites)
    bare = replace(e, prototypes=replace(e.prototypes, places=own), places=here)
    bare.verify()
    text = one_line(bare)
    assert "like the part at site 5 of training image 15 (two): sim" in text
    assert "found here at site 15" in text
    assert "box_top" not in bare.to_frame()
    assert row_pictures(bare, 0, 0) == ()
    nowhere = replace(bare, places=None)
    assert "found here" not in str(nowhere)
    with pytest.raises(ValueError, match="the places are not known"):
        nowhere.place_frame()


# Words


def one_line(shown):
    return " ".join(str(shown).split())


def test_text_of_parts(seen):
    text = one_line(seen.parts()[0])
    assert (
        "for: like the part at rows 2-3, columns 2-3 of training image 15 (two): "
        "similarity 0.201 x weight 1.25 = +0.25 points, found here at rows 6-7, "
        "columns 6-7 like learned prototype 5 (two; nearest part of training image "
        "24): similarity 0.0333 x weight 1.25 = +0.042 points, found here at " in text
    )
    assert (
        "against: like the part at rows 2-3, columns 2-3 of training image 9 (zero): "
        "similarity 0.0328 x weight 1.25 = +0.041 points for zero, found here " in text
    )
    assert text.endswith(
        "total: all 6 prototypes and the bias give two 0.105 and zero 0.00388 points"
    )


def test_text_without_weights_speaks_of_contributions(seen):
    text = one_line(replace(seen.parts(), head_weights=None))
    assert "(two): similarity 0.201, contribution +0.25, found here at rows" in text


def test_text_of_several_parts(seen):
    text = one_line(seen.sets()[0])
    assert "like 3 parts of training image 29 (one): similarity" in text
    assert "(part 1: 0.93); rows" in text
    assert "(part 3: " in text
    two = text.partition("like 2 parts of training image 22 (zero)")[2]
    assert "(part 2" in two
    assert "(part 3" not in two.partition("total")[0]


def test_text_of_the_autoencoder_counts_from_the_usual(seen):
    text = one_line(seen.autoencoder()[0])
    assert (
        "like learned prototype 5 (two; nearest training image 24): (squared distance "
        "11.6 - usual 36.6) x weight -0.200 = +5.01 points" in text
    )
    assert "found here" not in text


def test_text_of_components_says_where(seen):
    text = one_line(seen.components()[0])
    assert "the part at rows 4-5, columns 4-5 of training image 22 (zero) is" in text
    assert "most alike here at rows 0-1, columns 2-3" in text


def test_whole_images_have_no_place(seen):
    text = one_line(seen.winners()[0])
    assert "winner: training image 15 (two), squared distance 622 runner" in text
    assert "latent feature" not in text
    assert "margin: relative distance -0.42" in text


def test_text_of_a_path_says_where(seen):
    text = one_line(seen.path()[0])
    assert (
        "1: like the part at rows 2-3, columns 2-3 of training image 9 (zero), " in text
    )
    place = "most alike here at rows 4-5, columns 4-5"
    assert f"no, present with probability <0.01, {place}" in text


def test_text_of_tokens_and_features(seen):
    text = one_line(seen.tokens()[0])
    assert "like token 5 of training row 15 (two): similarity" in text
    assert "found here at token 15" in text
    assert "like tokens 5, 6 and 7 of training row" in one_line(seen.tokens(3)[0])
    text = one_line(seen.features()[0])
    assert "like f5 69 and f6 70 of training row 15 (two): similarity" in text
    assert "found here in f15 3.75 (part 1: 0.10); f15 3.75 (part 2" in text


def test_origin_tells_cases_from_learned_prototypes(seen):
    table = seen.table()
    assert origin(table, 0) == "prototype 0 (zero) is the part of training image 9"
    learned = "prototype 5 (two): learned; nearest part of training image 24"
    assert origin(table, 5) == learned
    other = replace(table, sample_labels=np.full(6, "one"))
    assert origin(other, 5) == f"{learned} (one)"
    assert case_name(other, 5).endswith("part of training image 24, one)")
    text = one_line(seen.gallery())
    assert "prototype 0 (zero) is the part of training image 9, rows 2-3, col" in text
    assert origin(replace(table, indices=np.full(6, -1)), 5).endswith(": learned")
    several = seen.sets().prototypes
    assert origin(several, 0) == "prototype 0 (zero) is 3 parts of training image 9"


# Tables


def test_frames_have_the_place_in_the_sample(seen):
    frame = seen.parts().to_frame()
    first = frame.iloc[0]
    assert first["site"] == 10
    assert [first[f"box_{edge}"] for edge in ("top", "left", "bottom", "right")] == [
        *(4, 4, 6, 6)
    ]
    assert seen.sets().to_frame()["site_3"].tolist()[3:6] == [-1] * 3
    assert seen.tokens().to_frame()["token"].iloc[0] == 10
    assert seen.features().to_frame()["feature_2"].iloc[0] == "f11"
    assert {"site", "box_left"} <= set(seen.path().path_frame().columns)
    assert "site" in seen.forest().path_frame()


def test_place_frame_has_a_row_for_each_part_that_is_on(seen):
    e = seen.sets()
    frame = e.place_frame()
    assert len(frame) == 2 * (6 * 3 - 1)
    own = frame[(frame["prototype"] == 1) & (frame["sample"] == 20)]
    assert own["part"].tolist() == [1, 2]
    assert own["source_site"].tolist() == [1, 2]
    assert own["source_box_left"].tolist() == [2, 4]
    np.testing.assert_allclose(
        own["part_similarity"], e.places.part_similarities[0, 1, :2]
    )
    frame = seen.framed().place_frame()
    assert len(frame) == 12
    assert frame.loc[0, "effective_top"] == 3.0
    assert frame.loc[0, "source_effective_top"] == 1.0


def test_frame_of_a_model_has_sources_and_hashes(seen):
    frame = seen.gallery().to_frame()
    assert frame["site"].tolist() == seen.PROTOTYPE_SITES.tolist()
    assert frame["hash"].tolist()[0] == "hash 9"
    assert frame["box_bottom"].tolist()[0] == 4
