"""Pictures as a stranger reads them: context, numbers, warnings, names; and sources."""

import re
from dataclasses import fields, replace

import numpy as np
import pytest

from skproto.explanation import PrototypePlaces, html_page
from skproto.explanation._cases import origin
from skproto.explanation._drawing import distinct
from skproto.explanation._marks import spread, step_marks
from skproto.explanation._pictures import number_picture, range_of, source_picture
from skproto.explanation._presence import PresenceExplanation

pytest.importorskip("jinja2", reason="HTML needs Jinja2")


def words(ax):
    from matplotlib.text import Text

    found = [text.get_text() for text in ax.figure.findobj(Text)]
    return " ".join(" ".join(found).split())


def enlarged(table):
    """Prototypes of images eight times as large, whose parts are large enough alone."""
    own = table.places
    images = np.kron(own.images, np.ones((1, 1, 8, 8)))
    places = PrototypePlaces(
        sites=own.sites, boxes=own.boxes * 8, images=images, grid=own.grid
    )
    return replace(table, places=places)


# Pictures


def test_overlays_do_not_hide_the_image_in_pages_with_white_pictures(seen):
    page = html_page("Digits", [seen.parts()])
    assert re.search(r"^img \{ background: white", page, re.MULTILINE)
    (rule,) = re.findall(r"\.skproto \.picture img, [^{]*\{([^}]*)\}", page)
    assert "background: none" in rule  # the more specific selector wins


def test_similarity_maps_are_outlined_for_grey_prints(seen, pyplot):
    from matplotlib.contour import ContourSet

    e = seen.parts()
    ax = e.plot()
    lines = ax.findobj(ContourSet)
    assert len(lines) == 2 * words(ax).count("this input")
    assert all(len(line.get_paths()[0]) > 0 for line in lines)
    assert "dotted line: around the most similar places" in words(ax)
    assert "dotted line" not in e._repr_html_()
    e.places.maps = None
    assert not e.plot().findobj(ContourSet)


def test_numbers_keep_apart_at_the_edge():
    points = spread(np.tile([10.0, 10.0], (6, 1)), 1.0, (0.5, 9.5))
    gaps = np.hypot(*(points[:, None] - points).transpose(2, 0, 1))
    assert gaps[np.triu_indices(6, 1)].min() > 0.85
    assert points.min() >= 0.5
    assert points.max() <= 9.5


def test_galleries_show_parts_beside_their_images(seen, pyplot):
    model = seen.gallery(enlarged(seen.table()))
    ax = model.plot()
    assert len(ax.images) == 2 * 6
    assert "left: the training image, right: its part, enlarged" in words(ax)
    assert "box: the part that a prototype stands for" in words(ax)
    html = model._repr_html_()
    assert html.count("data:image/png") == 2 * 6
    assert html.count("<rect") == 2 * 6  # with a halo each


def test_galleries_show_decoded_prototypes_beside_training_images(seen, pyplot):
    ax = seen.gallery(seen.autoencoder().prototypes).plot()
    assert len(ax.images) == 2 * 6
    assert "left: the decoded prototype, right: the training image" in words(ax)


def test_galleries_of_many_large_parts_show_where_they_are(seen, pyplot):
    table = enlarged(seen.table())
    own = table.places
    table.places = PrototypePlaces(
        sites=np.repeat(own.sites[:, None], 9, axis=1),
        boxes=np.repeat(own.boxes[:, None], 9, axis=1),
        images=own.images,
    )
    ax = seen.gallery(table).plot()
    assert len(ax.images) == 6
    assert "solid box: all parts of a prototype" in words(ax)


def test_ensembles_show_the_input_with_numbered_places(seen, pyplot):
    e = seen.forest()
    assert all(len(tree.path[0]) == 2 + t + 1 for t, tree in enumerate(e.trees))
    ax = e.plot()
    text = words(ax)
    assert len(ax.images) == 1 + 2 + 1 + 3
    assert text.count("this input") == 2
    assert "the same number marks a step, its part and the place nearest to it" in text
    assert "the same number marks a step" in e._repr_html_()
    marks = step_marks(e.trees[0].places, 0, [4, 4])
    assert [mark.part for mark in marks] == [1, 2]
    assert np.hypot(*np.subtract(marks[0].label, marks[1].label)) > 0.8
    table = e.trees[0].prototypes
    picture = number_picture(source_picture(table, 2, range_of(e.trees[0])), 7)
    assert [mark.part for mark in picture.marks] == [7]


def test_trees_in_html_have_patches_at_their_nodes(seen):
    model = seen.tree_gallery(3)
    html = model._repr_html_()
    assert html.count('<div class="node"') == 7 + 8
    assert html.count("data:image/png") == 7
    assert "<b>present: </b>" in html
    assert "within: distance up to which a part counts as present" in html
    assert "<pre>" not in html
    assert "class that it is mostly present in" in html


def test_trees_say_what_their_numbers_are(seen, pyplot):
    text = words(seen.tree_gallery(2).plot())
    assert "within: distance up to which a part counts as present" in text
    assert "at the end: the most likely class, its probability, and the share" in text
    assert "bars from left to right" not in text  # a legend names three classes
    model = seen.tree_gallery(1)
    model.classes = np.array([f"class {c}" for c in range(10)])
    model.tree.leaf_distributions = np.full((2, 10), 0.1)
    assert "bars from left to right: class 0, class 1," in words(model.plot())


# Words


def raised(e):
    """Let all components be found, with the shares that follow."""
    d = np.full_like(e.similarities, 0.9)
    presence = e.reasoning_positive * d[:, :, None]
    absence = e.reasoning_negative * (1 - d[:, :, None])
    return {
        "similarities": d,
        "presence": presence,
        "absence": absence,
        "class_contributions": presence + absence,
        "scores": (presence + absence).sum(axis=1),
    }


def test_places_of_what_is_absent_are_not_found(seen, pyplot):
    text = words(seen.path(3).plot())
    assert "1. absent" in text
    assert "most alike here at rows" in text
    text = " ".join(str(seen.components()).split())
    assert re.search(r"is absent \([^)]*\), similarity [^ ]*, most alike here at", text)
    assert "found here" not in text
    e = seen.components()
    text = " ".join(str(replace(e, **raised(e))).split())
    assert re.search(r"is present \([^)]*\), similarity [^ ]*, found here at", text)


def test_nodes_are_named_by_their_training_images_alone(seen):
    table = replace(seen.table(), labels=np.roll(seen.table().labels, 2))
    assert origin(table, 0).startswith("prototype 0 (two) is the part of training")
    assert origin(table, 0, label=False).endswith(f"image {table.indices[0]} (zero)")
    assert "(two)" not in origin(table, 0, label=False)


def test_pictures_carry_warnings(seen, pyplot):
    e = seen.parts()
    told = {f.name: getattr(e, f.name) for f in fields(e)}
    told["abstain_thresholds"] = np.full(3, 99.0)
    told["similarity_name"] = "presence"
    text = words(PresenceExplanation(**told).plot())
    assert "abstains: score 0.105, below 99 that is usual for it" in text
    e = seen.components()
    few = {
        name: getattr(e, name) * 1e-3
        for name in ("presence", "absence", "class_contributions", "scores")
    }
    assert "caution: hardly anything" in words(replace(e, **few).plot())


def test_limits_and_units_are_told(seen, pyplot):
    assert "similarity: at most 9.21" in words(seen.parts().plot())
    text = words(seen.autoencoder().plot())
    assert re.search(r"pixels differ by 0\.\d+ \(root mean square; they are", text)
    text = words(seen.component_gallery().plot())
    assert "present, absent: share of the class score that rests on it being" in text


def test_no_similarity_comes_with_the_distance(seen, pyplot):
    e = seen.parts()
    shares = np.zeros_like(e.class_contributions)
    shares[:, 4, 2], shares[:, 0, 0] = 1.0, 7e-227
    e = replace(
        e,
        similarities=np.zeros_like(e.similarities),
        distances=np.full(e.similarities.shape, 98.1),
        class_contributions=shares,
        scores=shares.sum(axis=1),
        class_bias=np.zeros_like(e.class_bias),
        prediction=np.array(["two", "two"]),
        head_weights=None,
        link=None,
    )
    text = words(e.plot())
    assert "similarity 0 (distance 98.1), contribution +1" in text
    assert "no prototype speaks for this class" in text
    assert "e-227" not in text


@pytest.mark.parametrize(
    ("names", "width", "expected"),
    [
        (["cat", "dog"], 13, ["cat", "dog"]),
        (["kind of cat 1", "kind of cat 2"], 10, ["kind...t 1", "kind...t 2"]),
        (["wren no 1 of the west"], 10, ["wren...est"]),
        (
            [f"grey wren no {c} of the far west" for c in (1, 2)],
            13,
            ["... 1 ...", "... 2 ..."],
        ),
        (["a b c d e f x", "a b c d e f x", "q"], 7, ["a...x"] * 2 + ["q"]),
    ],
)
def test_long_names_stay_apart(names, width, expected):
    assert distinct(names, width) == expected


def test_galleries_tell_long_classes_apart(seen, pyplot):
    names = [f"a grey wren of the subspecies {c} of the far west" for c in range(3)]
    table = seen.table()
    table.labels = np.repeat(names, 2)
    text = words(seen.gallery(table, classes=np.array(names)).plot())
    assert all(f"... {c} ..." in text for c in range(3))


# Sources


def at_source(e, k):
    """Let the first sample be the source image of a prototype."""
    images = e.places.images.copy()
    images[0] = e.prototypes.places.images[k]
    return replace(e, places=replace(e.places, images=images))


def without_limit(e):
    """Take the highest similarity from the places, as most estimators leave it."""
    places = replace(e.prototypes.places, max_similarity=None)
    return replace(e, prototypes=replace(e.prototypes, places=places))


def test_sources_of_nodes_are_present_for_certain(seen):
    e = without_limit(seen.path())
    e.verify()
    with pytest.raises(ValueError, match=r"prototype 0.*not reach the highest"):
        at_source(e, 0).verify()
    forest = seen.forest()
    forest.trees[1] = at_source(without_limit(forest.trees[1]), 0)
    with pytest.raises(ValueError, match=r"tree 1: .*not reach the highest"):
        forest.verify()


def test_sources_have_the_highest_similarity_of_kernels(seen):
    e = without_limit(seen.parts(rows=tuple(seen.source_rows())))
    e = replace(
        e,
        similarities=e.similarities / seen.HIGHEST,
        head_weights=e.head_weights * seen.HIGHEST,
        kernel="squared",
    )
    e.verify()
    np.testing.assert_allclose(np.diag(e.similarities), 1.0)
    lower = replace(
        e, similarities=e.similarities * 0.9, head_weights=e.head_weights / 0.9
    )
    with pytest.raises(ValueError, match="source image does not reach the highest"):
        lower.verify()
    replace(lower, kernel=None).verify()
    # A narrow kernel: 0.02 of 100 is the rounding of a distance of 0 in float32.
    gaps = 100.0 * (1.0 - e.similarities) + 0.02
    narrow = replace(e, distances=gaps)
    narrow.verify()
    gaps[1, 1] = 5.0
    with pytest.raises(ValueError, match=r"prototype 1: the source image is at a dist"):
        replace(e, distances=gaps).verify()


def test_sources_are_at_no_distance_where_similarities_have_no_limit(seen):
    e = without_limit(seen.parts(rows=tuple(seen.source_rows())))
    gaps = seen.HIGHEST - e.similarities
    replace(e, distances=gaps).verify()
    gaps[2, 2] += 0.5
    with pytest.raises(ValueError, match=r"prototype 2: the source image is at a dist"):
        replace(e, distances=gaps).verify()
