"""Training: curves are the history, phases and terms are named."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from skproto.display import TrainingDisplay


def history(n_epochs=6, **columns):
    frame = pd.DataFrame(
        {
            "epoch": np.arange(1, n_epochs + 1),
            "phase": ["joint"] * n_epochs,
            "train_loss": np.linspace(2.0, 1.0, n_epochs),
            "dur": 0.1,
        }
    )
    return frame.assign(**columns)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_every_estimator_has_a_history(any_estimator, tools, pyplot):
    model = tools.model(any_estimator)
    display = TrainingDisplay.from_estimator(model)
    shown = model.history_
    if "tree" in shown:
        shown = shown[shown["tree"] == 0]
    for name, line in display.lines_.items():
        assert_array_equal(line.get_ydata(), shown[name])
        assert_array_equal(line.get_xdata(), shown["epoch"])
    assert "train_loss" in display.lines_
    assert not {"dur", "epoch", "tree"} & set(display.lines_)
    assert display.axes_[0] is display.ax_
    tools.assert_inside(display.figure_)


def test_terms_have_their_weights(tools, pyplot):
    display = TrainingDisplay.from_estimator(tools.model("ProtoPNetClassifier"))
    total, terms = display.axes_
    assert total.get_ylabel() == "total loss"
    assert "cluster (weight 0.8)" in legend(terms)
    assert "cross entropy (weight 1)" in legend(terms)
    looks = {(line.get_linestyle(), line.get_marker()) for line in terms.lines[:4]}
    assert len(looks) == 4  # readable in grey


def test_a_single_term_that_is_the_total_is_drawn_once(tools, pyplot):
    display = TrainingDisplay.from_estimator(tools.model("ProtoTreeClassifier"))
    assert list(display.lines_) == ["train_loss"]


def test_held_out_loss(tools, pyplot):
    X, y = tools.wine()
    model = tools.short("RBFClassifier", early_stopping=True, max_epochs=3).fit(X, y)
    display = TrainingDisplay.from_estimator(model)
    assert legend(display.axes_[0]) == ["training", "held out"]


def test_rates_and_scores_have_charts_of_their_own(pyplot):
    frame = history(nll=np.ones(6), event_lr=0.1, accuracy=np.linspace(0, 1, 6))
    display = TrainingDisplay.from_history(frame, weights={"nll": 2.0})
    names = [ax.get_ylabel() for ax in display.axes_]
    assert names == ["total loss", "terms, unweighted", "learning rate", "recorded"]
    assert_array_equal(display.lines_["accuracy"].get_ydata(), frame["accuracy"])
    assert display.lines_["event_lr"].axes is display.axes_[2]
    without = TrainingDisplay.from_history(frame)
    assert len(without.axes_) == 3
    assert without.lines_["accuracy"].axes is without.axes_[1]


def test_phases_are_marked_and_named(tools, pyplot):
    phases = ["warm-up"] * 2 + ["joint"] * 2 + ["last layer"] + ["joint"]
    display = TrainingDisplay.from_history(history(phase=phases))
    assert display.phases_ == [
        ("warm-up", 1, 2),
        ("joint", 3, 4),
        ("last layer", 5, 5),
        ("joint", 6, 6),
    ]
    named = [text.get_text() for text in display.ax_.texts]
    assert named == ["warm-up", "joint", "last layer", "joint"]
    tools.assert_inside(display.figure_)
    boxes = [text.get_window_extent() for text in display.ax_.texts]
    for at, one in enumerate(boxes):
        assert not any(one.padded(-1).overlaps(other) for other in boxes[at + 1 :])


def test_terms_of_the_pretraining_are_terms(pyplot):
    phases = ["pretraining"] * 2 + ["joint"] * 4
    first = np.array([1.0, 0.5, *[np.nan] * 4])
    frame = history(phase=phases, cross_entropy=first, nll=[np.nan] * 2 + [1.0] * 4)
    display = TrainingDisplay.from_history(frame, weights={"nll": 1.0})
    assert len(display.axes_) == 2
    assert legend(display.axes_[1]) == ["cross entropy", "nll (weight 1)"]


def test_scales_tell_terms_apart(tools, pyplot):
    def scale(**columns):
        display = TrainingDisplay.from_history(history(**columns))
        display.figure_.canvas.draw()
        assert not any("$" in text for text in tools.texts(display.figure_))
        return display.axes_[1].get_yscale()

    near, far = np.full(6, 0.5), np.full(6, 500.0)
    assert scale(a=near, b=2 * near) == "linear"
    assert scale(a=near, b=far) == "log"
    assert scale(a=-near, b=near, c=-near, d=far) == "symlog"
    assert scale(a=0 * near) == "linear"
    display = TrainingDisplay.from_history(history(a=near)).plot(scale="log")
    assert display.axes_[1].get_yscale() == "log"


def test_trees_of_an_ensemble(tools, pyplot):
    model = tools.model("ProtoTreeEnsembleClassifier")
    display = TrainingDisplay.from_estimator(model, tree=1)
    own = model.history_[model.history_["tree"] == 1]
    assert_array_equal(display.lines_["train_loss"].get_ydata(), own["train_loss"])
    assert "tree 1 of 2" in display.ax_.get_title(loc="left")
    with pytest.raises(ValueError, match=r"tree must be one of \[0, 1\]. Got 5"):
        TrainingDisplay.from_estimator(model, tree=5)


def test_axes_are_used(pyplot):
    frame = history(nll=np.ones(6))
    _, ax = pyplot.subplots()
    display = TrainingDisplay.from_history(frame, ax=ax)
    assert display.axes_ == ax.child_axes
    _, axes = pyplot.subplots(2)
    assert TrainingDisplay.from_history(frame, ax=axes).axes_ == list(axes)
    with pytest.raises(ValueError, match=r"ax must be 2 axes or one\. Got 3"):
        TrainingDisplay.from_history(frame, ax=pyplot.subplots(3)[1])
    _, ax = pyplot.subplots()
    assert TrainingDisplay.from_history(history(), ax=ax).axes_ == [ax]


def test_histories_are_checked():
    with pytest.raises(TypeError, match=r"history must be a DataFrame .* Got list"):
        TrainingDisplay([])
    with pytest.raises(ValueError, match="columns 'epoch' and 'train_loss'"):
        TrainingDisplay(pd.DataFrame({"epoch": [1]}))
    with pytest.raises(ValueError, match="Got 0 rows"):
        TrainingDisplay(history()[:0])
    with pytest.raises(ValueError, match="scale must be 'auto', 'linear' or 'log'"):
        TrainingDisplay(history()).plot(scale="sqrt")
