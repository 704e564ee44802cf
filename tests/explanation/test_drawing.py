"""Pictures: what they say, that nothing is cut or overlaps, that text is literal."""

import re
import sys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest


def drawn(ax):
    """Draw and return the texts that are really drawn, with the boxes they cover."""
    from matplotlib.text import Text

    seen = {}
    draw = Text.draw

    def record(text, renderer):
        draw(text, renderer)
        if text.get_visible() and text.get_text().strip():
            seen[text] = text.get_window_extent(renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", record)
        ax.figure.canvas.draw()
    return ax.figure.bbox.padded(2), [(t.get_text(), box) for t, box in seen.items()]


def assert_tidy(ax):
    """Check that texts lie inside the figure and do not overlap."""
    frame, boxes = drawn(ax)
    for text, box in boxes:
        inside = frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)
        assert inside, f"{text!r} leaves the figure"
    for (one, first), (two, second) in combinations(boxes, 2):
        clash = first.padded(-1.5).overlaps(second.padded(-1.5))
        assert not clash, f"{one!r} overlaps {two!r}"


def words(ax):
    return "\n".join(text for text, _ in drawn(ax)[1])


def test_every_sample_has_a_picture(local, pyplot):
    for sample in (0, 1, -1):
        ax = local.plot(sample)
        assert f"Sample {local.sample_index[sample]}: " in words(ax)
        assert_tidy(ax)


def test_pictures_are_drawn_where_asked(local, knowledge, pyplot):
    for shown in (local, knowledge):
        _, ax = pyplot.subplots()
        assert shown.plot(ax=ax) is ax
        ax.figure.canvas.draw()


def test_every_model_has_a_picture(knowledge, pyplot):
    assert words(knowledge.plot())


def test_unknown_sample_is_an_error(local, pyplot):
    with pytest.raises(IndexError):
        local.plot(2)


def test_contribution_bars_are_the_contributions(make, pyplot):
    e = make.linear()
    ax = e.plot(0)
    widths = [bar.get_width() for container in ax.containers for bar in container]
    expected = [*e.class_contributions[0, :, 0], 0.1, *e.class_contributions[0, :, 1]]
    np.testing.assert_allclose(sorted(widths), sorted([*expected, -0.2]))
    assert ax.get_xlabel() == "contribution to the class score"
    text = words(ax)
    assert "row 212 (A)\nsimilarity 0.61" in text
    assert "for A (predicted)" in text
    assert "for B (runner-up)" in text


def test_many_prototypes_are_added_up(make, pyplot):
    n = 30
    table = make.table(
        ids=np.arange(n),
        labels=np.array(["A", "B"] * 15),
        indices=np.arange(n),
        projection_distance=np.zeros(n),
        is_case=np.arange(n) % 3 > 0,
        values=np.zeros((n, 1)),
    )
    rng = np.random.default_rng(0)
    terms = rng.normal(size=(2, n, 2))
    bare = dict.fromkeys(("distances", "head_weights", "link", "kernel", "metric"))
    e = make.linear(
        prototypes=table,
        similarities=np.full((2, n), 0.5),
        class_contributions=terms,
        scores=terms.sum(axis=1) + make.linear().class_bias,
        bandwidths=None,
        **bare,
    )
    ax = e.plot()
    assert "22 others together" in words(ax)
    total = sum(bar.get_width() for bar in ax.containers[0])
    predicted = 0 if e.prediction[0] == "A" else 1
    assert total == pytest.approx(e.scores[0, predicted])
    assert_tidy(ax)


def test_presence_and_absence_have_their_own_hatches(make, pyplot):
    ax = make.reasoning().plot()
    hatches = {container[0].get_hatch() for container in ax.containers}
    assert len(hatches) == 3  # plain presence twice, and one for each absence
    assert "A (predicted): absent" in words(ax)


def test_feature_bars_of_a_pair(make, pyplot):
    ax = make.pair().plot()
    widths = sorted(bar.get_width() for bar in ax.containers[0])
    np.testing.assert_allclose(widths, [3, 8])
    assert "dose 1\n(winner 0, runner-up 4)" in words(ax)
    assert "squared distance" in ax.get_xlabel()


def test_path_shows_nodes_and_leaf(make, pyplot):
    ax = make.tree().plot()
    text = words(ax)
    assert "1. like training row 17, distance 0.753 < radius 1?" in text
    assert "yes, present with probability 0.80" in text
    assert "from this leaf" in text
    assert "from all others" in text
    assert "leaf 3, reached with probability 0.48" in text


@pytest.mark.parametrize(("depth", "n_classes"), [(1, 2), (3, 3), (4, 8), (5, 12)])
def test_trees_are_tidy(make, pyplot, depth, n_classes):
    tree = make.tree_global(depth, n_classes)
    ax = tree.plot()
    assert_tidy(ax)
    assert words(ax).count("within") == 2**depth - 1


def test_deep_trees_are_closed_below(make, pyplot):
    tree = make.tree_global(8, 3)
    ax = tree.plot()
    assert words(ax).count("(more below)") == 32
    ax = tree.plot(max_depth=2)
    assert words(ax).count("(more below)") == 4
    assert_tidy(ax)


def test_tables_show_values_and_are_cut(make, pyplot):
    n, f = 40, 30
    rng = np.random.default_rng(0)
    table = make.table(
        ids=np.arange(n),
        labels=np.array(["A", "B"] * 20),
        indices=np.arange(n),
        projection_distance=np.zeros(n),
        is_case=np.ones(n, bool),
        values=rng.normal(size=(n, f)) * 10,
        feature_names=[f"feature number {j}" for j in range(f)],
        scale=np.ones(f),
    )
    whole = {"weights": None, "win_counts": None}
    ax = make.model(prototypes=table, **whole).plot()
    assert "shown: 25 of them, 12 of 30 features" in ax.get_title(loc="left")
    assert len(ax.texts) == 25 * 12
    ax = make.model(prototypes=make.table()).plot()
    assert [text.get_text() for text in ax.texts] == ["0", "4"]


def test_reasoning_table(make, pyplot):
    ax = make.reasoning_global().plot()
    cells = [text.get_text() for text in ax.texts]
    assert cells[:2] == ["present 0.60", "present 0.10\nabsent 0.20"]
    assert_tidy(ax)


def test_relevances_name_the_columns(make, pyplot):
    ax = make.pair_global().plot()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["age: 0.20", "dose: 0.80"]


def test_dollars_are_no_mathematics(make, pyplot):
    odd = r"cost ($) of \frac{$"
    labels = np.array([odd, "B $_^$"])
    table = make.table(labels=labels, feature_names=[odd])
    e = make.linear(classes=labels, prediction=labels, prototypes=table)
    assert odd in words(e.plot())
    e = make.tree(classes=labels, prediction=labels[[1, 0]])
    assert odd in words(e.plot())
    assert odd in words(make.model(classes=labels, prototypes=table).plot())


def test_missing_matplotlib_says_how_to_install(local, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'skproto\[plot\]'"):
        local.plot()


# Images

A4 = (8.27, 11.69)


def letters(ax):
    """Sizes of all text that is drawn, in points."""
    from matplotlib.text import Text

    return [t.get_fontsize() for t in ax.figure.findobj(Text) if t.get_text().strip()]


def assert_fits_a_page(ax):
    width, height = ax.figure.get_size_inches()
    assert width == pytest.approx(A4[0])
    assert height <= A4[1] + 1e-6
    assert min(letters(ax)) >= 7


def test_every_sample_of_images_has_a_readable_page(pictured, pyplot):
    for sample in (0, 1):
        ax = pictured.plot(sample)
        assert f"Sample {pictured.sample_index[sample]}: " in words(ax)
        assert len(ax.images) >= 2
        assert_tidy(ax)
        assert_fits_a_page(ax)


def test_every_gallery_is_a_readable_page(gallery, pyplot):
    ax = gallery.plot()
    assert len(ax.images) >= 5
    assert_tidy(ax)
    assert_fits_a_page(ax)


def test_image_pictures_are_drawn_where_asked(pictured, gallery, pyplot):
    for shown in (pictured, gallery):
        _, ax = pyplot.subplots()
        assert shown.plot(ax=ax) is ax
        ax.figure.canvas.draw()


def test_points_add_up_on_the_page(seen, pyplot):
    text = words(seen.parts().plot())
    assert "similarity 0.201 x weight 1.25 = +0.25 points" in text
    assert "prototype 4 (two) is the part of training image 15" in text
    assert "prototype 5 (two): learned; nearest part of training image" in text
    total = "shown +0.29, 4 other prototypes -0.088, bias -0.10; total for two: 0.105"
    assert f"{total} points" in text
    assert "Evidence for two (predicted)" in text
    assert "Evidence for zero (runner-up)" in text


def test_classes_that_no_prototype_speaks_for_show_the_input(seen, pyplot):
    e = seen.parts()
    nothing = np.zeros_like(e.class_contributions)
    e = replace(
        e,
        similarities=nothing[..., 0],
        class_contributions=nothing,
        scores=e.class_bias,
        prediction=np.array(["zero", "zero"]),
        link=None,
    )
    ax = e.plot()
    assert words(ax).count("no prototype speaks for this class") == 2
    assert len(ax.images) == 2
    assert_tidy(ax)


def test_boxes_and_receptive_fields_are_drawn(seen, pyplot):
    from matplotlib.patches import Rectangle

    ax = seen.framed().plot()
    styles = [p.get_linestyle() for p in ax.patches if isinstance(p, Rectangle)]
    assert sum(not isinstance(s, str) or s == "--" for s in styles) >= 4
    assert "dashed box: the pixels that in effect" in words(ax).replace("\n", " ")
    assert "dashed box" not in words(seen.parts().plot())


def test_parts_have_numbers_colours_and_lines_of_their_own(seen, pyplot):
    from matplotlib.patches import Rectangle

    ax = seen.sets().plot()
    drawn_lines = {
        (p.get_edgecolor(), str(p.get_linestyle()))
        for p in ax.patches
        if isinstance(p, Rectangle) and p.get_edgecolor()[:3] != (0, 0, 0)
    }
    assert len(drawn_lines) == 3
    assert len({line for _, line in drawn_lines}) == 3
    numbers = [text for text, _ in drawn(ax)[1] if text in {"1", "2", "3"}]
    assert numbers.count("1") == numbers.count("2") > numbers.count("3") > 0
    assert "the same number marks the same part" in words(ax)


def test_small_parts_are_numbered_beside_them(seen, pyplot):
    e = seen.sets()
    wide = [
        np.pad(x, ((0, 0), (0, 0), (0, 24), (0, 24)))
        for x in (e.places.images, e.prototypes.places.images)
    ]
    e.places.images, e.prototypes.places.images = wide
    e.places.image_size = e.prototypes.places.image_size = np.array([32, 32])
    ax = e.plot()
    assert_tidy(ax)
    assert len(ax.lines) > 2 * 2 * 3  # a line from each number to its box


def test_autoencoder_shows_what_is_decoded(seen, pyplot):
    text = words(seen.autoencoder().plot())
    assert "What the model keeps of this input" in text
    assert text.count("decoded\n") + text.endswith("decoded") >= 8
    assert "nearest image 24" in text
    assert "(squared distance 11.6 - usual 36.6) x weight -0.200 = +5.01" in text
    assert "decoded: what the decoder makes of a code, no training image" in text


def test_components_and_pairs_have_their_own_numbers(seen, pyplot):
    text = words(seen.components().plot()).replace("\n", " ")
    assert "absent: (1 - similarity 0.00319) x reasoning 0.0300 = +0.030" in text
    assert "total for two: 0.130 (1 would be all)" in text
    text = words(seen.winners().plot())
    assert "two (winner): nearest prototype of the predicted class" in text
    assert "squared distance 622" in text
    assert "relative distance -0.42" in text
    assert "a box is" not in text


def test_path_of_images_shows_distance_radius_and_leaf(seen, pyplot):
    ax = seen.path(3).plot()
    text = words(ax)
    assert "1. absent: probability of presence <0.01" in text
    assert "distance 1.99 >= radius 1" in text
    assert "leaf 0, reached with probability 0.99" in text
    assert "from this leaf" in text


def test_deep_paths_stay_on_the_page(seen, pyplot):
    ax = seen.path(9).plot()
    assert_tidy(ax)
    assert_fits_a_page(ax)


def test_long_names_are_folded(seen, pyplot):
    long = np.array(["a name that goes on and on " * 3 + str(c) for c in range(3)])
    for kind in ("parts", "path", "autoencoder"):
        e = getattr(seen, kind)()
        at = {name: long[c] for c, name in enumerate(seen.NAMES)}
        e.classes = long
        e.prediction = np.array([at[name] for name in e.prediction])
        e.prototypes.labels = np.array([at[name] for name in e.prototypes.labels])
        e.prototypes.sample_labels = e.prototypes.labels
        assert_tidy(e.plot())


@pytest.mark.parametrize(
    ("colour", "note"),
    [
        ("bytes", ""),
        ("colour", ""),
        ("two", "pictures show the mean of the 2 channels"),
        ("five", "pictures show the first 3 of 5 channels as red, green and blue"),
    ],
)
def test_any_channels_are_shown_and_named(seen, pyplot, colour, note):
    for e in (seen.parts(colour), seen.gallery(seen.table(colour))):
        ax = e.plot()
        text = words(ax).replace("\n", " ")
        assert note in text
        assert bool(note) == ("pictures show" in text)
        assert ax.images[0].get_array().shape[2] == 3


def test_other_sites_are_drawn_as_bars(seen, pyplot):
    for e in (seen.tokens(), seen.features()):
        assert "row 15 (two)\nsimilarity" in words(e.plot())


def test_images_that_were_not_kept_are_left_out(seen, pyplot):
    e = seen.parts()
    e.prototypes.places.images = None
    ax = e.plot()
    assert "image 15\n" not in words(ax)
    assert "its part" in words(ax)
    e.places.images = None
    assert_tidy(e.plot())
    e.prototypes.places.patches = None
    assert e.plot().get_xlabel() == "contribution to the class score"


def test_large_galleries_are_cut(seen, pyplot):
    ax = seen.gallery(seen.many(90)).plot()
    text = words(ax)
    assert len(re.findall(r"and \d+ more", text)) == 3
    assert "near image" in text
    assert_tidy(ax)
    assert_fits_a_page(ax)
    many = seen.many(90)
    many.labels = np.array([f"class {k % 30}" for k in range(90)])
    whole = seen.gallery(
        many, classes=np.array([f"class {c}" for c in range(30)]), weights=None
    )
    ax = whole.plot()
    assert "shown: 10 of 30 classes" in words(ax)
    assert "wins" in words(ax)
    assert_fits_a_page(ax)


@pytest.mark.parametrize("depth", [1, 2, 4, 5])
def test_trees_with_patches_are_tidy(seen, pyplot, depth):
    ax = seen.tree_gallery(depth).plot()
    assert_tidy(ax)
    assert_fits_a_page(ax)
    assert len(re.findall(r"within \d", words(ax))) == 2**depth - 1
    assert len(ax.images) == 2**depth - 1


def test_deep_trees_with_patches_are_closed_below(seen, pyplot):
    ax = seen.tree_gallery(7).plot(max_depth=3)
    assert words(ax).count("(more below)") == 8
    assert_tidy(ax)


def test_galleries_of_whole_and_decoded_images(seen, pyplot):
    text = words(seen.gallery(seen.winners().prototypes).plot())
    assert "image 9\nweight 1.25" in text
    ax = seen.gallery(seen.autoencoder().prototypes).plot()
    assert "decoded\nnear image 24\nweight 1.25" in words(ax)
    assert "decoded: what the decoder makes" in words(ax).replace("\n", " ")
    ax = seen.gallery(seen.sets().prototypes).plot()
    assert "numbers: the parts of a prototype" in words(ax)
    assert_tidy(ax)


def test_ensembles_show_the_patches_on_the_paths(seen, pyplot):
    text = words(seen.forest().plot())
    assert "tree 1: +0.36 for two, +0.14 for zero" in text
    assert "not like image 22" in text


def test_missing_matplotlib_says_how_to_install_for_images(
    pictured, gallery, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for shown in (pictured, gallery):
        with pytest.raises(ImportError, match=r"pip install 'skproto\[plot\]'"):
            shown.plot()
