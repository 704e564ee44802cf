"""Displays of explanations: the same pictures, with names, paths and errors."""

import sys
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skproto.display import (
    EmbeddingDisplay,
    ExplanationDisplay,
    PrototypeDisplay,
    ReasoningDisplay,
    TrainingDisplay,
    TreeDisplay,
)


def pixels(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def test_every_classifier_shows_samples_and_prototypes(any_classifier, tools, pyplot):
    X, _ = tools.wine()
    model = tools.model(any_classifier)
    display = ExplanationDisplay.from_estimator(model, X[:3], sample=1)
    assert display.figure_ is display.ax_.figure
    assert display.bars_
    assert f"Sample {X.index[1]}: " in " ".join(tools.texts(display.figure_))
    if len(model.prototypes_):
        display = PrototypeDisplay.from_estimator(model)
        assert display.images_


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("RBFClassifier", "wine"),
        ("CBCClassifier", "wine"),
        ("ProtoTreeClassifier", "wine"),
        ("ProtoPNetClassifier", "digits"),
    ],
)
def test_display_and_explanation_draw_the_same(name, data, tools, pyplot):
    X, _ = getattr(tools, data)()
    model = tools.model(name, data)
    case = model.explain(X[:2])
    ours = ExplanationDisplay.from_estimator(model, X[:2], sample=1)
    theirs = case.plot(1)
    assert (pixels(ours.figure_) == pixels(theirs.figure)).all()
    again = ExplanationDisplay.from_explanation(case).plot(sample=1)
    assert (pixels(again.figure_) == pixels(theirs.figure)).all()
    assert ExplanationDisplay.from_predictions(case).explanation is case


def test_bars_are_contributions(tools, pyplot):
    X, _ = tools.wine()
    model = tools.model("GLVQClassifier")
    display = ExplanationDisplay.from_estimator(model, X[:1])
    case = model.explain(X[:1])
    total = sum(bar.get_width() for group in display.bars_ for bar in group)
    assert_allclose(total, case.feature_differences[0].sum())


def test_images_are_galleries(tools, pyplot):
    model = tools.model("ProtoPNetClassifier", "digits")
    display = PrototypeDisplay.from_estimator(model)
    assert len(display.images_) == len(model.prototypes_)
    display = PrototypeDisplay.from_estimator(
        tools.model("ProtoTreeClassifier", "digits")
    )
    assert any("wins " in text for text in tools.texts(display.figure_))


def test_prototypes_are_drawn_in_the_users_units(tools, pyplot):
    model = tools.model("CBCClassifier")
    display = PrototypeDisplay.from_estimator(model)
    (table,) = display.images_
    shown = table.get_array()
    assert shown.shape == (3, 12)
    alcohol = model.prototypes_[0, 0]
    assert f"{alcohol:.3g}" in tools.texts(display.figure_)
    names = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert "alcohol" in names


# Names


def test_pipelines_keep_names_of_features_and_rows(tools, pyplot):
    X, y = tools.wine()
    pipeline = make_pipeline(StandardScaler(), tools.short("GLVQClassifier")).fit(X, y)
    display = ExplanationDisplay.from_estimator(pipeline, X[4:6], sample=1)
    words = "\n".join(tools.texts(display.figure_))
    assert f"Sample {X.index[5]}: " in words
    assert "alcohol" in words
    assert "x0" not in words
    display = PrototypeDisplay.from_estimator(pipeline)
    assert any("alcohol" in text for text in tools.texts(display.figure_))


def test_names_reach_the_trees_of_an_ensemble(tools, pyplot):
    X, y = tools.wine()
    forest = tools.short("ProtoTreeEnsembleClassifier")
    pipeline = make_pipeline(StandardScaler(), forest).fit(X, y)
    told = ExplanationDisplay.from_estimator(pipeline, X[:1]).explanation
    for tree in told.trees:
        assert tree.prototypes.names[0] == "alcohol"
        assert tree.sample_index[0] == X.index[0]


def test_searches_are_opened(tools, pyplot):
    X, y = tools.wine()
    grid = {"max_epochs": [1]}
    search = GridSearchCV(tools.short("GLVQClassifier"), grid, cv=2).fit(X, y)
    assert PrototypeDisplay.from_estimator(search).images_


def test_steps_that_name_nothing_are_no_obstacle(tools, pyplot):
    from sklearn.preprocessing import FunctionTransformer

    X, y = tools.wine()
    steps = FunctionTransformer(np.log1p), tools.short("GLVQClassifier")
    pipeline = make_pipeline(*steps).fit(X.to_numpy(), y)
    assert ExplanationDisplay.from_estimator(pipeline, X.to_numpy()[:1]).bars_


# Reasoning


def test_reasoning_of_a_model_is_its_table(tools, pyplot):
    model = tools.model("CBCClassifier")
    display = ReasoningDisplay.from_estimator(model)
    (table,) = display.images_
    told = model.explain_global()
    assert_allclose(table.get_array(), told.component_prior)
    same = told.plot()
    assert (pixels(display.figure_) == pixels(same.figure)).all()


def test_reasoning_of_a_sample_is_presence_and_absence(tools, pyplot):
    X, _ = tools.wine()
    model = tools.model("CBCClassifier")
    display = ReasoningDisplay.from_estimator(model, X[:2], sample=1)
    told = model.explain(X[1:2])
    best = told.scores[0].argmax()
    present, absent = (
        sum(bar.get_width() for bar in group) for group in display.bars_[:2]
    )
    assert_allclose(present, told.presence[0, :, best].sum())
    assert_allclose(absent, told.absence[0, :, best].sum())
    hatches = [group[0].get_hatch() for group in display.bars_]
    assert len(set(hatches)) == 3  # readable in grey


def test_reasoning_needs_components(tools):
    message = "reasons by presence and absence: a CBCClassifier. Got RBFClassifier"
    with pytest.raises(TypeError, match=message):
        ReasoningDisplay.from_estimator(tools.model("RBFClassifier"))
    told = tools.model("RBFClassifier").explain_global()
    allowed = (
        "ReasoningGlobalExplanation or ReasoningExplanation. Got GlobalExplanation"
    )
    with pytest.raises(TypeError, match=allowed):
        ReasoningDisplay.from_explanation(told)


# Trees


@pytest.mark.parametrize("data", ["wine", "digits"])
def test_the_path_of_a_sample_is_thick(data, tools, pyplot):
    X, _ = getattr(tools, data)()
    model = tools.model("ProtoTreeClassifier", data)
    display = TreeDisplay.from_estimator(model, X[:3], sample=2)
    path = model.explain(X[2:3]).path[0]
    thick = [line for line in display.lines_ if line.get_linewidth() > 2]
    assert len(thick) == len(path) - 1
    tree = model.explain_global().tree
    solid = sum(tree.children_right[a] == b for a, b in pairwise(path))
    assert sum(line.get_linestyle() == "-" for line in thick) == solid
    assert "path of the sample" in tools.texts(display.figure_)
    plain = TreeDisplay.from_estimator(model)
    assert all(line.get_linewidth() < 2 for line in plain.lines_)
    assert "path of the sample" not in tools.texts(plain.figure_)


def test_trees_of_an_ensemble(tools, pyplot):
    X, _ = tools.wine()
    model = tools.model("ProtoTreeEnsembleClassifier")
    display = TreeDisplay.from_estimator(model, X[:1], tree=1)
    assert list(display.path) == model.explain(X[:1]).trees[1].path[0]
    assert "ProtoTreeEnsembleClassifier, tree 1 of 2: " in " ".join(
        display.ax_.get_title(loc="left").split()
    )
    same = model.explain_global().plot(tree=1, path=display.path)
    assert (pixels(display.figure_) == pixels(same.figure)).all()


def test_depth_of_a_tree(tools, pyplot):
    told = tools.model("ProtoTreeClassifier", depth=3).explain_global()
    display = TreeDisplay.from_explanation(told, max_depth=1)
    assert len(display.lines_) == 2
    assert len(display.plot(max_depth=2).lines_) == 6
    with pytest.raises(ValueError, match="max_depth must be an int of at least 0"):
        display.plot(max_depth=-1)


def test_trees_need_a_tree(tools):
    with pytest.raises(TypeError, match="a ProtoTreeClassifier or a ProtoTreeEnsemble"):
        TreeDisplay.from_estimator(tools.model("RBFClassifier"))


# Axes, styles and errors


def test_axes_are_used_and_others_artists_are_left_alone(tools, pyplot):
    _, ax = pyplot.subplots()
    ax.text(0.5, 0.5, "mine")
    display = PrototypeDisplay.from_estimator(tools.model("CBCClassifier"), ax=ax)
    assert display.ax_ is ax
    assert "mine" not in [text.get_text() for text in display.texts_]


@pytest.mark.parametrize(
    ("name", "data"),
    [("ProtoTreeClassifier", "wine"), ("ProtoTreeClassifier", "digits")],
)
def test_pictures_take_on_a_dark_style(name, data, tools, pyplot):
    X, _ = getattr(tools, data)()
    with pyplot.style.context("dark_background"):
        for display in (
            ExplanationDisplay.from_estimator(tools.model(name, data), X[:1]),
            TreeDisplay.from_estimator(tools.model(name, data), X[:1]),
        ):
            shown = pixels(display.figure_)[..., :3].mean()
            assert shown < 90
            for text in display.texts_:
                box = text.get_bbox_patch()
                assert box is None or max(box.get_facecolor()[:3]) == 0


def test_what_cannot_be_drawn_is_an_error(tools):
    X, _ = tools.wine()
    other = LogisticRegression()
    with pytest.raises(TypeError, match=r"with `explain`.*Got LogisticRegression"):
        ExplanationDisplay.from_estimator(other, X)
    with pytest.raises(TypeError, match=r"with `explain_global`"):
        PrototypeDisplay.from_estimator(tools.model("PrototypeAutoencoder"))
    with pytest.raises(NotFittedError):
        PrototypeDisplay.from_estimator(tools.short("RBFClassifier"))
    pipeline = make_pipeline(StandardScaler(), tools.short("RBFClassifier"))
    with pytest.raises(NotFittedError):
        ExplanationDisplay.from_estimator(pipeline, X)
    with pytest.raises(TypeError, match="explanation must be an Explanation"):
        ExplanationDisplay([])
    display = ExplanationDisplay(tools.model("RBFClassifier").explain(X[:2]), sample=2)
    with pytest.raises(IndexError):
        display.plot()


def test_missing_matplotlib_says_how_to_install(tools, monkeypatch):
    X, y = tools.wine()
    model = tools.model("RBFClassifier")
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (
        lambda: ExplanationDisplay.from_estimator(model, X[:1]),
        lambda: EmbeddingDisplay.from_estimator(model, X, y),
        lambda: TrainingDisplay.from_estimator(model),
    ):
        with pytest.raises(ImportError, match=r"pip install 'skproto\[plot\]'"):
            draw()
