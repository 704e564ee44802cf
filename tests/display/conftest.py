"""Models for the tests of pictures, each fitted once and as short as it goes."""

import warnings
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from skproto.utils import all_estimators

ESTIMATORS = dict(all_estimators())
CLASSIFIERS = [name for name in ESTIMATORS if name.endswith("Classifier")]
SHORT = {
    "max_epochs": 1,
    "pretrain_epochs": 0,
    "warm_epochs": 0,
    "n_prototypes_per_class": 1,
    "depth": 2,
    "random_state": 0,
}


@pytest.fixture
def pyplot():
    """Pyplot without a window; figures are closed afterwards."""
    module = pytest.importorskip("matplotlib.pyplot", reason="pictures need matplotlib")
    module.switch_backend("Agg")
    with module.rc_context({"figure.dpi": 60}):  # small pictures are quick
        yield module
    module.close("all")


def short(name, **options):
    """An estimator that trains next to nothing."""
    model = ESTIMATORS[name]()
    known = model.get_params()
    model.set_params(**{key: value for key, value in SHORT.items() if key in known})
    if name == "ProtoTreeEnsembleClassifier":
        model.set_params(n_estimators=2, estimator=short("ProtoTreeClassifier"))
    return model.set_params(**options)


@cache
def wine():
    """Every other wine as a frame that does not count from 0, and class names."""
    X, y = load_wine(return_X_y=True, as_frame=True)
    X.index = X.index + 1000
    return X[::2], np.array(["red", "rosé", "white"])[y][::2]


@cache
def pairs():
    """Two features of tumours, and the names of two classes."""
    data = load_breast_cancer(as_frame=True)
    return data.data.iloc[:150, [0, 4]], data.target_names[data.target][:150]


@cache
def digits():
    """Sixty images of three digits."""
    X, y = load_digits(n_class=3, return_X_y=True)
    return X[:60].reshape(-1, 1, 8, 8), y[:60]


DATA = {"wine": wine, "pairs": pairs, "digits": digits}


@cache
def model(name, data="wine", **options):
    """A fitted model, the same one for the same arguments."""
    X, y = DATA[data]()
    with warnings.catch_warnings():
        # Short training leaves classes that never win.
        warnings.simplefilter("ignore")
        return short(name, **options).fit(X, y)


def texts(figure):
    """Everything that is written in a figure."""
    from matplotlib.text import Text

    shown = figure.findobj(lambda artist: isinstance(artist, Text))
    return [t.get_text() for t in shown if t.get_visible() and t.get_text().strip()]


def assert_inside(figure):
    """Check that no legend, title or name leaves its figure."""
    from matplotlib.text import Text

    figure.canvas.draw()
    frame = figure.bbox.padded(3)
    for ax in figure.axes:
        legend = ax.get_legend()
        parts = [ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label]
        parts += [] if legend is None else legend.findobj(Text)
        for text in parts:
            box = text.get_window_extent()
            inside = frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)
            assert inside or not text.get_text(), text.get_text()


@pytest.fixture
def tools():
    """The functions and lists above."""
    return SimpleNamespace(
        short=short, model=model, texts=texts, assert_inside=assert_inside, **DATA
    )


def pytest_generate_tests(metafunc):
    """Run a test that takes `any_classifier` or `any_estimator` for all of them."""
    if "any_classifier" in metafunc.fixturenames:
        metafunc.parametrize("any_classifier", CLASSIFIERS)
    if "any_estimator" in metafunc.fixturenames:
        metafunc.parametrize("any_estimator", list(ESTIMATORS))
