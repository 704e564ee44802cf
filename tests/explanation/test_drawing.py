"""Pictures: what they say, that nothing is cut or overlaps, that text is literal."""

import sys
from itertools import combinations

import numpy as np
import pytest


@pytest.fixture
def pyplot():
    """Pyplot without a window; figures are closed afterwards."""
    module = pytest.importorskip("matplotlib.pyplot", reason="pictures need matplotlib")
    module.switch_backend("Agg")
    yield module
    module.close("all")


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
