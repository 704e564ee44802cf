"""Bad input gets a clear error or simply works, for every estimator.

What scikit-learn's common checks cover (unfitted use, NaN, wrong number of features in
predict, 1-D X) is repeated here only where the message matters.
"""

import inspect
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.base import ClassifierMixin
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback

from skproto.base import PrototypeClassifier
from skproto.trees import ProtoTreeClassifier
from skproto.utils import all_estimators

ESTIMATORS = [pytest.param(cls, id=name) for name, cls in all_estimators()]
CLASSIFIERS = [p for p in ESTIMATORS if issubclass(p.values[0], ClassifierMixin)]

rng = np.random.RandomState(0)
X = np.round(rng.standard_normal((30, 3)), 3)
y = np.arange(30) % 3
X[:, 0] += y
NEW = np.round(rng.standard_normal((5, 3)), 3)


def make(cls, **parameters):
    """Return a quick estimator."""
    if "estimator" in cls._get_param_names():
        tree = ProtoTreeClassifier(max_epochs=2, **parameters)
        return cls(tree, n_estimators=2, random_state=0)
    return cls(max_epochs=2, random_state=0, **parameters)


def works(model, samples=NEW):
    """Check that a fitted model returns finite numbers of the right shape."""
    activations = model.transform(samples)
    n_samples = len(samples) if isinstance(samples, list) else samples.shape[0]
    assert activations.shape == (n_samples, len(model.prototypes_))
    assert np.isfinite(activations).all()
    if not isinstance(model, ClassifierMixin):
        return True
    proba = model.predict_proba(samples)
    assert proba.shape == (n_samples, len(model.classes_))
    assert np.isfinite(proba).all()
    assert np.isfinite(model.decision_function(samples)).all()
    assert set(model.predict(samples)) <= set(model.classes_)
    model.explain(samples).verify()
    return True


def complaint_of(action):
    """Return the message of a ValueError or TypeError, None where it works."""
    try:
        action()
    except (ValueError, TypeError) as error:
        return str(error)
    return None


@pytest.fixture(scope="module", params=ESTIMATORS)
def cls(request):
    return request.param


@pytest.fixture(scope="module", params=CLASSIFIERS)
def classifier(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(cls):
    return make(cls).fit(X, y)


few_samples = pytest.mark.filterwarnings("ignore:.*distinct samples:UserWarning")
many_classes = pytest.mark.filterwarnings("ignore:The number of unique classes")


def with_value(value):
    changed = X.copy()
    changed[3, 1] = value
    return changed


CLEAR_ERRORS = {
    "NaN": ((with_value(np.nan), y), "contains NaN"),
    "inf": ((with_value(np.inf), y), "contains infinity"),
    "no samples": ((X[:0], y[:0]), r"0 sample\(s\)"),
    "no features": ((X[:, :0], y), r"0 feature\(s\)"),
    "strings": (
        (np.array([["a", "b"], ["c", "d"]] * 3, dtype=object), [0, 1] * 3),
        "could not convert string to float: 'a'",
    ),
    "frame of strings": (
        (pd.DataFrame({"a": ["u", "v"] * 3, "b": 1.0}), [0, 1] * 3),
        "could not convert string to float: 'u'",
    ),
    "tiny images": ((np.zeros((4, 2, 2)), [0, 1, 0, 1]), "Images must "),
    "5-D": (
        (np.zeros((4, 1, 1, 2, 2)), [0, 1, 0, 1]),
        r"X must hold images of shape \(n, C, H, W\) or \(n, H, W\)",
    ),
    "1-D": ((np.zeros(4), [0, 1, 0, 1]), "Expected 2D array"),
    "scalar": ((3.0, y), "Expected 2D array"),
    "complex": ((X.astype(complex), y), "Complex data not supported"),
    "negative weight": ((X, y, -np.ones(30)), "Negative values"),
    "no weight": ((X, y, np.zeros(30)), "non-zero|positive for at least one"),
    "NaN weight": ((X, y, np.full(30, np.nan)), "sample_weight contains NaN"),
    "short weight": ((X, y, np.ones(29)), "sample_weight.shape"),
    "huge weight": ((X, y, np.full(30, 1e300)), "sample_weight must lie between"),
    "spread of weights": (
        (X, y, 10.0 ** np.linspace(-40, 40, 30)),
        "sample_weight must lie between",
    ),
    "NaN in sparse X": ((sp.csr_array(with_value(np.nan)), y), "contains NaN"),
}
LABEL_ERRORS = {
    "one class": ((X, np.zeros(30)), r"at least 2 classes in y; got 1 class"),
    "no y": ((X, None), "requires y to be passed"),
    "short y": ((X, y[:-1]), "inconsistent numbers of samples"),
    "2-D y": ((X, np.column_stack([y, y])), "y should be a 1d array"),
    "continuous y": ((X, y + 0.5), "Unknown label type: continuous"),
    "NaN in y": ((X, np.where(y == 0, np.nan, y)), "y contains NaN"),
    "labels of several types": (
        (X, np.array([1, "a", 2.5], dtype=object)[y]),
        "Unknown label type",
    ),
    "None in y": ((X, np.where(y == 0, None, "a")), "Unknown label type"),
    "bytes": ((X, np.array([b"a", b"b", b"c"])[y]), "labels represented as bytes"),
}


def fails(cls, arguments, message):
    model = make(cls)
    with pytest.raises((ValueError, TypeError), match=message):
        model.fit(*arguments)
    with pytest.raises(NotFittedError):
        model.transform(X)


@pytest.mark.parametrize("case", CLEAR_ERRORS)
def test_clear_errors(cls, case):
    fails(cls, *CLEAR_ERRORS[case])


@pytest.mark.parametrize("case", LABEL_ERRORS)
def test_clear_errors_of_labels(classifier, case):
    fails(classifier, *LABEL_ERRORS[case])


WORKS = {
    "constant features": (np.ones((30, 3)), y),
    "a constant feature": (np.column_stack([X[:, :2], np.full(30, 7.0)]), y),
    "more prototypes than samples": (X[:2], [0, 1]),
    "contradicting duplicates": (np.repeat(X[:5], 4, axis=0), np.arange(20) % 2),
    "one sample a class": (X, np.arange(30)),
    "1e300": (X * 1e300, y),
    "one value of 1e300": (with_value(1e300), y),
    "nearly the largest float": (np.where(X > 0, 1.6e308, -1.6e308), y),
    "1e-300": (X * 1e-300, y),
    "subnormal": (X * 1e-318, y),
    "wild scales": (X * [1e-200, 1.0, 1e200], y),
    "far from the origin": (X + 1e9, y),
    "int": ((10 * X).astype(int), y),
    "uint8": (np.abs(10 * X).astype(np.uint8), y),
    "bool": (X > 0, y),
    "float16": (X.astype(np.float16), y),
    "float128": (X.astype(np.longdouble), y),
    "lists": (X.tolist(), y.tolist()),
    "Fortran order": (np.asfortranarray(X), y),
    "strided": (np.repeat(np.repeat(X, 2, axis=0), 2, axis=1)[::2, ::2], y),
    "backwards": (X[::-1, ::-1], y[::-1]),
    "zero sparse X": (sp.csr_array((30, 3)), y),
    "sparse bool": (sp.csr_array(X > 0), y),
    "sparse 1e300": (sp.csr_array(X * 1e300), y),
    "weights": (X, y, np.linspace(1e-6, 1e6, 30)),
    "nullable integers": (pd.DataFrame((10 * X).astype(int)).astype("Int64"), y),
}


@few_samples
@many_classes
# scikit-learn adds up X to see whether it is finite.
@pytest.mark.filterwarnings("ignore:invalid value encountered in reduce:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("case", WORKS)
def test_simply_works(cls, case):
    samples, *rest = WORKS[case]
    model = make(cls).fit(samples, *rest)
    assert works(model, samples[:5] if hasattr(samples, "shape") else np.array(NEW))


LABELS = {
    "strings": np.array(["u", "v", "w"])[y],
    "objects": np.array(["u", "v", "w"], dtype=object)[y],
    "floats": y.astype(float),
    "bools": y > 0,
    "unsigned": y.astype(np.uint8),
    "large ints": y * 10**12 - 5,
    "series of strings": pd.Series(np.array(["u", "v", "w"])[y]),
    "categorical": pd.Categorical(np.array(["u", "v", "w"])[y]),
    "categorical with unseen categories": pd.Series(
        pd.Categorical(np.array(["u", "v", "w"])[y], categories=list("wvuz"))
    ),
    "categorical of ints": pd.Series(pd.Categorical(y)),
    "dates": np.array(["2020", "2021", "2022"], dtype="datetime64[D]")[y],
}


@pytest.mark.parametrize("case", LABELS)
def test_labels(classifier, case):
    labels = LABELS[case]
    model = make(classifier).fit(X, labels)
    assert works(model)
    assert set(model.classes_) == set(np.unique(np.asarray(labels)))
    assert np.isin(model.prototype_labels_, model.classes_).all()


FORMATS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")


@pytest.mark.parametrize(
    "name", [f"{f}_{k}" for f in FORMATS for k in ("array", "matrix")]
)
def test_sparse_formats(cls, name):
    convert = getattr(sp, name)
    dense = np.where(X > 0, X, 0.0)
    expected = make(cls).fit(sp.csr_array(dense), y)
    model = make(cls).fit(convert(dense), y)
    assert works(model, sp.csr_array(dense))
    actual = model.transform(convert(dense))
    np.testing.assert_array_equal(actual, expected.transform(sp.csr_array(dense)))


def test_read_only_memory_map(cls, tmp_path):
    X.tofile(tmp_path / "X")
    mapped = np.memmap(tmp_path / "X", mode="r", dtype=X.dtype, shape=X.shape)
    model = make(cls).fit(mapped, y)
    expected = make(cls).fit(X, y).transform(X)
    np.testing.assert_array_equal(model.transform(mapped), expected)


@few_samples
def test_input_is_not_changed(cls):
    arrays = [X.copy(), y.copy(), np.linspace(0, 1, 30)]
    for array in arrays:
        array.flags.writeable = False
    works(make(cls).fit(*arrays), arrays[0])
    np.testing.assert_array_equal(arrays[0], X)


@few_samples
@many_classes
@pytest.mark.slow
def test_many_classes(classifier):
    # Networks of parts have a weight for every prototype and class.
    is_network = classifier.__module__.startswith("skproto.networks")
    n_classes = 100 if is_network else 1000
    many = np.random.RandomState(0).standard_normal((n_classes, 2))
    fast = {"solver": "adam", "n_prototypes_per_class": 1}
    known = classifier._get_param_names()
    model = make(classifier, **{k: v for k, v in fast.items() if k in known})
    model.fit(many, np.arange(n_classes))
    assert len(model.classes_) == n_classes
    assert model.predict_proba(many[:3]).shape == (3, n_classes)
    model.explain(many[:2]).verify()


BAD_SAMPLES = {
    "NaN": (np.full((2, 3), np.nan), "contains NaN"),
    "inf": (np.full((2, 3), np.inf), "contains infinity"),
    "too few features": (NEW[:, :2], "X has 2 features"),
    "too many features": (np.ones((2, 4)), "X has 4 features"),
    "3-D": (np.zeros((2, 3, 1)), "dim 3"),
    "1-D": (NEW[0], "Expected 2D array"),
    "no samples": (NEW[:0], r"0 sample\(s\)"),
    "strings": (np.array([["a", "b", "c"]]), "could not convert string"),
    "unreachable": (np.full((2, 3), 1e300), "too far from the training data"),
}
METHODS = ("predict", "predict_proba", "decision_function", "transform", "explain")


def methods_of(model, names=METHODS):
    return [name for name in names if hasattr(model, name)]


@pytest.mark.parametrize("case", BAD_SAMPLES)
def test_bad_samples(fitted, case):
    samples, message = BAD_SAMPLES[case]
    for method in methods_of(fitted):
        if (case, method) == ("unreachable", "transform"):
            continue
        with pytest.raises((ValueError, TypeError), match=message):
            getattr(fitted, method)(samples)


def test_far_samples(fitted):
    for distance in (1e2, 1e4, 1e8, 1e14):
        far = distance * np.array([[1.0, 0, 0], [0, -1.0, 1.0], [1.0, 1.0, 1.0]])
        assert works(fitted, far)


def test_unfitted(cls):
    model = make(cls)
    names = ("certify", "prune", "project", "apply", "export_text", "explain_global")
    for method in methods_of(model, (*METHODS, *names, "get_feature_names_out")):
        action = getattr(model, method)
        needed = [
            parameter
            for parameter in inspect.signature(action).parameters.values()
            if parameter.default is parameter.empty
        ]
        with pytest.raises(NotFittedError, match="not fitted yet"):
            action(*(X, y)[: len(needed)])


VALUES = {
    "object": object(),
    "unknown word": "nonsense",
    "negative": -1,
    "fraction": 1.5,
    "NaN": np.nan,
    "list": [],
    "bytes": b"x",
    "dict": {0: 1.0},
    "beyond 64 bit": 2**64,
    "missing device": "cuda:99",
}


@few_samples
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", VALUES)
def test_parameter_values(cls, case, capsys):
    """A value is allowed, or the error names the parameter."""
    value = VALUES[case]
    for name in cls._get_param_names():
        model = make(cls)
        model.set_params(**{name: value})
        complaint = complaint_of(lambda model=model: works(model.fit(X, y)))
        assert complaint is None or name in complaint
        assert complaint or type(value) is not object, f"{name} takes anything"


class TestParameterMessages:
    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"max_epochs": -1}, "'max_epochs' parameter of .* must be .* Got -1"),
            ({"lr": 0.0}, "'lr' parameter of .* must be a float in the range"),
            ({"device": "nonsense"}, "'device' parameter of .* must be a device"),
            ({"device": "meta"}, "'device' parameter of .* must be a device"),
            ({"encoder": int}, "must return an nn.Module"),
            ({"encoder": torch.nn.Linear(7, 2)}, r"failed on an input of shape \(2, 3"),
            ({"encoder": lambda: None}, "must take the number of features"),
            ({"net_params": {"nope": 1}}, "'net_params' parameter .* does not fit"),
            ({"class_weight": {0: 1, 1: -1, 2: 1}}, "class_weight"),
            ({"solver": "sgd"}, "'solver' parameter of .* must be a str among"),
        ],
    )
    def test_message(self, cls, parameters, message):
        if "estimator" in cls._get_param_names():
            pytest.skip("an ensemble passes these on to its trees")
        with pytest.raises((ValueError, TypeError), match=message):
            cls(random_state=0).set_params(**parameters).fit(X, y)


class Interrupting(torch.nn.Module):
    """Pass rows on; the user presses Ctrl-C at the n-th training pass."""

    def __init__(self, n_passes):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(1))
        self.n_left = n_passes

    def forward(self, x):
        if self.training and torch.is_grad_enabled():
            self.n_left -= 1
            if self.n_left == 0:
                raise KeyboardInterrupt
        return x + self.shift


class TestInterruption:
    @pytest.mark.parametrize("n_passes", [1, 4])
    def test_keyboard_interrupt(self, cls, n_passes):
        model = make(cls, encoder=Interrupting(n_passes), batch_size=8)
        with pytest.warns(UserWarning, match="Training was interrupted after"):
            model.fit(X, y)
        assert works(model)
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(again.transform(X), model.transform(X))

    def test_keyboard_interrupt_of_a_full_batch_solver(self, cls):
        if "solver" not in cls._get_param_names():
            pytest.skip("an ensemble passes it on to its trees")
        complaint = complaint_of(lambda: make(cls, solver="lbfgs").fit(X, y))
        if complaint and "'solver' parameter" in complaint:
            pytest.skip("it has no full-batch solver")
        model = make(cls, encoder=Interrupting(3), solver="lbfgs")
        with pytest.warns(UserWarning, match="Training was interrupted after"):
            model.fit(X, y)
        assert works(model)

    def test_pickle_of_a_half_trained_estimator(self, cls):
        if not issubclass(cls, PrototypeClassifier):
            pytest.skip("it shows what it is made of when that is trained")
        model = make(cls)
        model.set_params(net_params={"callbacks": [Peek()]})
        Peek.model, Peek.states = model, []
        model.fit(X, y)
        Peek.model = None
        assert len(Peek.states) == model.n_iter_
        half = pickle.loads(Peek.states[0])
        assert np.isfinite(half.predict_proba(X)).all()
        assert half.predict(X).shape == (30,)
        assert works(half.fit(X, y))

    def test_error_in_training(self, cls):
        model = make(cls, encoder=Failing())
        with pytest.raises(ValueError, match=r"loss term .* became nan in epoch 1"):
            model.fit(X, y)
        with pytest.raises(NotFittedError):
            model.transform(X)


class Peek(Callback):
    """Pickle the estimator after every epoch."""

    model = None
    states: list[bytes] = []

    def on_epoch_end(self, net, **kwargs):
        if Peek.model is not None:
            Peek.states.append(pickle.dumps(Peek.model))


class Failing(torch.nn.Module):
    """Return NaN while training."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.scale * (torch.nan if self.training else 1.0)


numbers = st.one_of(
    st.floats(width=64),
    st.floats(-3, 3),
    st.sampled_from([0.0, -0.0, 1.0, 1e-310, 1e300, -1.7e308, 2.0**40]),
)
tables = st.one_of(
    hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.int32, np.bool_]),
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=12),
    ),
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(2, 12), st.integers(1, 4)),
        elements=numbers,
        fill=st.just(0.5),
    ),
    hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=4)),
    hnp.arrays(np.object_, (4, 2), elements=st.one_of(st.text(max_size=3), numbers)),
    st.lists(st.lists(numbers, max_size=3), max_size=4),
    st.none(),
    st.text(max_size=5),
)
labels = st.one_of(
    st.sampled_from([int, float, str]).map(lambda kind: ("codes", kind)),
    st.lists(st.one_of(st.integers(0, 3), st.text(max_size=2), st.none()), max_size=12),
    hnp.arrays(np.float64, st.integers(0, 12)),
    st.none(),
)


def targets(drawn, samples):
    """Return labels; those that are drawn as codes fit the number of samples."""
    if not isinstance(drawn, tuple):
        return drawn
    n_samples = len(samples) if isinstance(samples, (list, str)) else 4
    if hasattr(samples, "shape"):
        n_samples = samples.shape[0]
    return [drawn[1](i % 3) for i in range(n_samples)]


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(train=tables, drawn=labels, test=tables, sparse=st.booleans())
def test_arbitrary_input(cls, train, drawn, test, sparse):
    """Fit and predict raise an error that says something, or work."""
    model = make(cls)
    if sparse and isinstance(train, np.ndarray) and train.ndim == 2:
        train = sp.csr_array(train) if train.dtype != object else train
    goal = targets(drawn, train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        complaint = complaint_of(lambda: model.fit(train, goal))
        if complaint is not None:
            assert len(complaint) > 10
            with pytest.raises(NotFittedError):
                model.transform(np.zeros((1, 1)))
            return
        works(model, train[:5])
        complaint = complaint_of(lambda: works(model, test))
    assert complaint is None or len(complaint) > 10
