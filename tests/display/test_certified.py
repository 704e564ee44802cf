"""Certified accuracy: steps worked out by hand, the attack above, several models."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skproto.display import CertifiedAccuracyDisplay
from skproto.robustness import certified_accuracy

TRUE, PREDICTED = [0, 0, 1, 1], [0, 0, 1, 0]
RADIUS = [0.5, 1.0, 0.5, 3.0]


def test_steps_by_hand(pyplot):
    display = CertifiedAccuracyDisplay.from_predictions(TRUE, PREDICTED, RADIUS)
    assert_array_equal(display.radius, [0.0, 0.5, 1.0])
    assert_array_equal(display.certified_accuracy, [0.75, 0.25, 0.0])
    assert display.accuracy == 0.75
    x, y = display.line_.get_data()
    assert_array_equal(x[:-1], display.radius)
    assert_array_equal(y[:-1], display.certified_accuracy)
    assert display.line_.get_drawstyle() == "steps-post"
    assert_array_equal(display.accuracy_line_.get_ydata(), [0.75, 0.75])
    assert display.attack_line_ is None
    assert display.gap_ is None
    assert display.plot(plot_accuracy=False).accuracy_line_ is None


def test_the_attack_lies_above(pyplot):
    distance = [0.75, np.inf, 0.6, 0.1]
    display = CertifiedAccuracyDisplay.from_predictions(
        TRUE, PREDICTED, RADIUS, attack_distance=distance
    )
    assert_array_equal(display.attack_radius, [0.0, 0.6, 0.75])
    assert_array_equal(display.attacked_accuracy, [0.75, 0.5, 0.25])
    corners = display.gap_.get_paths()[0].vertices
    assert corners[:, 1].max() == 0.75
    assert display.gap_.get_alpha() < 0.5


def test_what_is_certified_forever(pyplot):
    display = CertifiedAccuracyDisplay.from_predictions([0, 1], [0, 1], [np.inf, 2.0])
    assert_array_equal(display.certified_accuracy, [1.0, 0.5])
    assert np.isfinite(display.line_.get_xdata()).all()
    nothing = CertifiedAccuracyDisplay.from_predictions([0], [1], [2.0])
    assert_array_equal(nothing.certified_accuracy, [0.0])


@pytest.mark.parametrize("norm", [2, np.inf])
@pytest.mark.parametrize("units", ["scaled", "input"])
def test_the_curve_is_that_of_the_model(norm, units, tools, pyplot):
    X, y = tools.wine()
    model = tools.model("GLVQClassifier")
    options = {"norm": norm, "units": units}
    display = CertifiedAccuracyDisplay.from_estimator(model, X, y, **options)
    steps = display.radius
    expected = certified_accuracy(model, X, y, steps * (1 + 1e-9), **options)
    assert_allclose(display.certified_accuracy, expected)
    assert display.accuracy == model.score(X, y)
    word = {"scaled": "scaled units", "input": "units of the input"}[units]
    assert word in display.ax_.get_xlabel()
    assert {2: "Euclidean", np.inf: "largest"}[norm] in display.ax_.get_xlabel()


def test_attacks_on_a_model_with_feature_names(tools, pyplot):
    X, y = tools.wine()
    X, y = X[::4], y[::4]
    options = {"n_restarts": 1, "n_steps": 2, "random_state": 0}
    model = tools.model("GLVQClassifier")
    display = CertifiedAccuracyDisplay.from_estimator(model, X, y, attack=options)
    upper = display.attacked_accuracy[
        np.searchsorted(display.attack_radius, display.radius, side="right") - 1
    ]
    assert (upper >= display.certified_accuracy - 1e-12).all()
    assert display.attacked_accuracy[0] == model.score(X, y)
    tools.assert_inside(display.figure_)


def test_pipelines_certify_what_the_model_gets(tools, pyplot):
    X, y = tools.wine()
    pipeline = make_pipeline(StandardScaler(), tools.short("CBCClassifier")).fit(X, y)
    display = CertifiedAccuracyDisplay.from_estimator(pipeline, X, y)
    radius = pipeline[-1].certify(pipeline[:-1].transform(X), y)
    assert_allclose(display.radius[-1], radius.max())


def test_models_beside_each_other(tools, pyplot):
    X, y = tools.wine()
    first = CertifiedAccuracyDisplay.from_estimator(
        tools.model("GLVQClassifier"), X, y, name="plain"
    )
    second = CertifiedAccuracyDisplay.from_estimator(
        tools.model("CBCClassifier"), X, y, ax=first.ax_
    )
    assert second.ax_ is first.ax_
    assert first.line_.get_color() != second.line_.get_color()
    assert first.line_.get_linestyle() != second.line_.get_linestyle()
    legend = [text.get_text() for text in first.ax_.get_legend().get_texts()]
    assert legend[0] == "plain: certified"
    assert "CBCClassifier: certified" in legend
    assert first.ax_.get_xlim()[1] >= max(first.radius[-1], second.radius[-1])
    tools.assert_inside(first.figure_)


def test_what_cannot_be_certified(tools):
    X, y = tools.wine()
    with pytest.raises(TypeError, match=r"with `certify`, .* Got ProtoTreeClassifier"):
        CertifiedAccuracyDisplay.from_estimator(
            tools.model("ProtoTreeClassifier"), X, y
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": [1.0]}, "inconsistent numbers of samples"),
        ({"radius": [np.nan] * 4}, "radius must hold no NaN"),
        ({"units": "metres"}, "units must be 'scaled', 'input' or None. Got 'metres'"),
        ({"attack_distance": [1.0]}, "inconsistent numbers of samples"),
    ],
)
def test_arrays_are_checked(change, message):
    fields = {"y_true": TRUE, "y_pred": PREDICTED, "radius": RADIUS, **change}
    with pytest.raises(ValueError, match=message):
        CertifiedAccuracyDisplay.from_predictions(**fields)


def test_an_attack_is_radius_and_accuracy():
    with pytest.raises(ValueError, match="must be given together"):
        CertifiedAccuracyDisplay([0.0], [1.0], 1.0, attack_radius=[0.0])
