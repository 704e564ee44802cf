"""Attributes of tables, tokens and texts, and every estimator of the package."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skproto import GLVQClassifier, ProtoTreeClassifier, ProtoViTClassifier
from skproto.attributes import (
    PrototypeAttributeExplainer,
    describe,
    explain_attributes,
)
from skproto.attributes import _scores as scoring
from skproto.utils import all_estimators

BRIEF = {
    "ProtoTreeEnsembleClassifier": {
        "estimator": ProtoTreeClassifier(2, max_epochs=1),
        "n_estimators": 2,
    },
    "ProtoTreeClassifier": {"depth": 2, "max_epochs": 1},
}
TEXTS = [
    "The goal of the match came late",
    "a match with a late goal",
    "a goal and a match today",
    "the election and the parliament",
    "parliament votes after the election",
    "an Election, a minister: the parliament",
] * 3
TOPICS = [0, 0, 0, 1, 1, 1] * 3


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True, as_frame=True)
    return X.iloc[::3].iloc[:, :5], y.iloc[::3]


@pytest.fixture(scope="module")
def table(wine):
    return GLVQClassifier(1, max_epochs=15, random_state=0).fit(*wine)


@pytest.fixture(scope="module")
def tree(wine):
    return ProtoTreeClassifier(2, max_epochs=15, random_state=0).fit(*wine)


@pytest.fixture(scope="module")
def reader_of_texts():
    model = GLVQClassifier(1, max_epochs=15, random_state=0)
    words = TfidfVectorizer(stop_words=["the", "a", "of"])
    return make_pipeline(words, model).fit(TEXTS, TOPICS)


# -- tables ----------------------------------------------------------------------------


def test_mean_replacement(wine, table):
    X, _ = wine
    shown = explain_attributes(table, X, replacement="mean", n_resamples=0)
    assert shown.kind == "table"
    assert shown.attributes.tolist() == X.columns.tolist()
    for a, name in enumerate(X.columns):
        changed = X.assign(**{name: X[name].mean()})
        drop = table.transform(X) - table.transform(changed)
        assert_allclose(shown.local.scores[..., a], drop, atol=1e-6)
    s = table.transform(X)
    expected = (shown.local.scores * s[..., None]).sum(axis=0) / s.sum(axis=0)[:, None]
    assert_allclose(shown.importance, expected)
    rms = np.sqrt((((X - X.mean()) / table.scale_) ** 2).mean() / X.shape[1])
    assert_allclose(shown.rms_change, rms)
    assert_array_equal(shown.local.sample_index, X.index)


def test_permutation_takes_the_values_of_other_rows(wine, table):
    X, _ = wine
    options = {"n_repeats": 4, "random_state": 3, "n_resamples": 0}
    fitted = PrototypeAttributeExplainer(table, [1], **options).fit(X)
    rows = np.random.RandomState(3).permutation(len(X))[:4]
    after = [table.transform(X.assign(**{X.columns[1]: X.iloc[r, 1]})) for r in rows]
    expected = table.transform(X) - np.mean(after, axis=0)
    assert_allclose(fitted.transform(X), expected, atol=1e-6)
    assert_array_equal(fitted.transform(X[::-1]), fitted.transform(X)[::-1])
    assert_allclose(fitted.transform(X[:1]), expected[:1], atol=1e-6)


def test_containers_say_the_same(wine, table):
    X, y = wine
    values = X.to_numpy()
    plain = clone(table).fit(values, y)
    options = {"random_state": 0, "n_resamples": 0}
    scores = [
        PrototypeAttributeExplainer(plain, **options).fit(v).global_importance_
        for v in (values, sp.csr_array(values), values.tolist())
    ]
    assert_allclose(scores[1], scores[0])
    assert_allclose(scores[2], scores[0])
    named = PrototypeAttributeExplainer(table, **options).fit(X)
    assert_allclose(named.global_importance_, scores[0], rtol=1e-4, atol=1e-6)


def test_polars(wine, table):
    polars = pytest.importorskip("polars", reason="polars is an optional container")
    X, _ = wine
    options = {"random_state": 0, "n_resamples": 0}
    frame = polars.DataFrame({name: X[name].to_numpy() for name in X})
    first = PrototypeAttributeExplainer(table, **options).fit(X)
    second = PrototypeAttributeExplainer(table, **options).fit(frame)
    assert_allclose(second.global_importance_, first.global_importance_)


def test_groups_change_together(wine, table):
    X, _ = wine
    names = X.columns.tolist()
    groups = {"first two": names[:2], "third": names[2], "by place": [3]}
    shown = explain_attributes(table, X, groups, replacement="mean", n_resamples=0)
    changed = X.assign(**{name: X[name].mean() for name in names[:2]})
    drop = table.transform(X) - table.transform(changed)
    assert_allclose(shown.local.scores[..., 0], drop, atol=1e-6)
    assert shown.attributes.tolist() == list(groups)


def test_functions_of_the_user(wine, table):
    X, _ = wine
    own = {"doubled": lambda rows: rows * 2}
    shown = explain_attributes(table, X, own, n_resamples=0)
    drop = table.transform(X) - table.transform(X * 2)
    assert_allclose(shown.local.scores[..., 0], drop, atol=1e-6)


def test_pipelines_change_what_the_user_gives(wine):
    X, y = wine
    frame = X.assign(kind=np.where(X.iloc[:, 0] > 13, "strong", "light"))
    from sklearn.compose import make_column_transformer

    front = make_column_transformer(
        (OneHotEncoder(), ["kind"]), (StandardScaler(), X.columns.tolist())
    )
    model = make_pipeline(front, GLVQClassifier(1, max_epochs=15, random_state=0))
    model.fit(frame, y)
    shown = explain_attributes(model, frame, replacement="mean", n_resamples=0)
    usual = frame["kind"].mode()[0]
    drop = model.transform(frame) - model.transform(frame.assign(kind=usual))
    assert shown.attributes[-1] == "kind"
    assert_allclose(shown.local.scores[..., -1], drop, atol=1e-6)
    assert np.abs(drop).max() > 0


def test_sweep_of_a_table(wine, table):
    X, _ = wine
    fitted = PrototypeAttributeExplainer(table, replacement="mean", n_resamples=0).fit(
        X
    )
    sweep = fitted.sweep(X, n_steps=3)
    assert_allclose(sweep.curves[..., 0], 0, atol=1e-6)
    relative = fitted.set_params(normalize="relative").fit(X)
    assert_allclose(sweep.curves[..., 2], relative.global_importance_, atol=1e-6)


def test_many_features_are_cut_to_those_that_vary():
    rng = np.random.RandomState(0)
    X = np.where(rng.rand(60, 300) < 0.02, rng.rand(60, 300), 0.0)
    X[:, 7] = 1 + rng.rand(60)
    X = sp.csr_array(X)
    y = np.arange(60) % 2
    model = GLVQClassifier(1, max_epochs=2, random_state=0).fit(X, y)
    fitted = PrototypeAttributeExplainer(model, n_repeats=1, n_resamples=0).fit(X)
    assert len(fitted.attribute_names_) == 100
    assert "x7" in fitted.attribute_names_


def test_tokens():
    rng = np.random.RandomState(0)
    X, y = rng.rand(30, 4, 3).astype(np.float32), np.arange(30) % 2
    X[:, 2, 0] += 2 * y
    model = ProtoViTClassifier(encoder="tokens", max_epochs=2, random_state=0).fit(X, y)
    shown = explain_attributes(model, X, replacement="mean", site="max", n_resamples=0)
    assert shown.kind == "tokens"
    assert shown.attributes.tolist() == [f"token {t}" for t in range(4)]
    changed = X.copy()
    changed[:, 2] = X[:, 2].mean(axis=0)
    drop = model.transform(X) - model.transform(changed)
    assert_allclose(shown.local.scores[..., 2], drop, atol=1e-5)


# -- texts -----------------------------------------------------------------------------


def test_words_are_removed(reader_of_texts):
    shown = explain_attributes(reader_of_texts, TEXTS, n_resamples=0)
    assert shown.kind == "text"
    names = shown.attributes.tolist()
    assert {"goal", "match", "election", "parliament"} <= set(names)
    assert not {"the", "of"} & set(names)  # the vectoriser leaves them out itself
    without = ["an , a minister: the parliament"]
    drop = reader_of_texts.transform(TEXTS[5:6]) - reader_of_texts.transform(without)
    assert_allclose(
        shown.local.scores[5, :, names.index("election")], drop[0], atol=1e-6
    )
    assert_array_equal(shown.local.scores[0, :, names.index("election")], 0.0)
    sport = shown.prototypes.labels.tolist().index(0)
    assert "'goal'" in shown.words(sport) or "'match'" in shown.words(sport)
    assert "'election'" not in shown.words(sport)


def test_groups_of_words(reader_of_texts):
    groups = {"sport": ["goal", "match"], "politics": ["ELECTION", "parliament"]}
    shown = explain_attributes(reader_of_texts, TEXTS, groups, n_resamples=0)
    sport = shown.prototypes.labels.tolist().index(0)
    assert shown.words(sport).startswith("mostly 'sport'")
    assert shown.words(1 - sport).startswith("mostly 'politics'")


def test_new_texts_and_series(reader_of_texts):
    fitted = PrototypeAttributeExplainer(reader_of_texts, n_resamples=0).fit(TEXTS)
    series = pd.Series(TEXTS[:2], index=["p", "q"])
    shown = fitted.explain(series)
    assert shown.sample_index.tolist() == ["p", "q"]
    assert_allclose(shown.scores, fitted.explain(np.array(TEXTS[:2])).scores)


def test_texts_need_a_vectoriser(table, reader_of_texts):
    with pytest.raises(TypeError, match="pipeline with a vectoriser"):
        explain_attributes(table, TEXTS)
    with pytest.raises(ValueError, match="Words are there or are not"):
        PrototypeAttributeExplainer(reader_of_texts).fit(TEXTS).sweep(TEXTS)


# -- trees -----------------------------------------------------------------------------


def test_answers_of_a_tree(wine, tree):
    X, _ = wine
    shown = explain_attributes(tree, X, replacement="mean", n_resamples=0)
    paths = tree.explain(X).path
    structure = tree.tree_
    for i, path in enumerate(paths):
        expected = np.zeros(len(tree.prototypes_))
        for node, after in pairwise(path):
            right = structure.children_right[node] == after
            expected[structure.prototype[node]] = 1 if right else -1
        assert_array_equal(shown.local.answers[i], expected)
    missing = shown.local.answers == -1
    for k in np.flatnonzero(missing.any(axis=0)):
        rise = -shown.local.drops[missing[:, k], k].mean(axis=0)
        assert_allclose(shown.absent_rise[k], rise)
    assert np.isnan(shown.absent_rise[~missing.any(axis=0)]).all()
    assert set(shown.local.to_frame()["answer"]) <= {"present", "absent", "not asked"}


# -- every estimator -------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["table", "image"])
@pytest.mark.parametrize(("name", "cls"), all_estimators())
def test_every_estimator(name, cls, kind):
    rng = np.random.RandomState(0)
    y = np.arange(24) % 2
    X = rng.rand(24, 6) if kind == "table" else rng.rand(24, 3, 8, 8)
    X = X.astype(np.float32) * (0.3 + 0.7 * y.reshape(-1, *[1] * (X.ndim - 1)))
    model = cls(**BRIEF.get(name, {"max_epochs": 1}))
    if hasattr(model, "random_state"):
        model.set_params(random_state=0)
    model.fit(X, y) if hasattr(model, "classes_") or "Classifier" in name else (
        model.fit(X)
    )
    names = [0, 3] if kind == "table" else ["hue", "shape"]
    shown = explain_attributes(model, X, names, n_resamples=2, random_state=0)
    n_prototypes = len(shown.prototypes)
    assert shown.importance.shape == (n_prototypes, 2)
    assert shown.local.scores.shape == (24, n_prototypes, 2)
    assert np.isfinite(shown.local.scores).all()
    # The kernel of RSLVQ comes to 0 a little way off.
    assert np.abs(shown.local.scores).max() > 0 or name == "RSLVQClassifier"
    assert str(shown)
    assert str(shown.local[:2])
    json.dumps(shown.to_dict(), allow_nan=False)
    assert len(shown.to_frame()) == 2 * n_prototypes
    assert len(shown.local.to_frame()) == 24 * n_prototypes * 2
    for part in (shown, shown.local[:2]):
        assert not part._repr_html_().startswith("<pre>")


# -- words and numbers -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (
            [0.5, 0.1, 0.02, 0.0, 0.01, 0.0],
            "mostly colour, hardly light, shape or texture",
        ),
        (
            [0.2, 0.0, 0.2, 0.0, 0.1, 0.0],
            "mostly colour and light, then shape, hardly texture",
        ),
        (
            [0.08, 0, 0.07, 0, 0.2, 0.006],
            "mostly shape, then colour and light, hardly texture",
        ),
        ([0.0, 0.0, 0.0, 0.0, 0.004, 0.0], "unexplained"),
        (
            [-0.3, 0.0, 0.0, 0.0, 0.4, 0.0],
            "mostly shape, hardly light or texture; a change of colour raises it",
        ),
        ([np.nan] * 6, "not known"),
    ],
)
def test_words_of_images(scores, words):
    names = ["hue", "saturation", "contrast", "brightness", "shape", "texture"]
    assert describe(scores, 1.0, names, "image", 0.01).startswith(words)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([0.3, 0.1, 0.02], "mostly 'a', then 'b'"),
        ([0.3, 0.28, 0.06], "mostly 'a' and 'b'"),
        ([0.3, 0.2, 0.2], "mostly 'a', then 'b' and 'c'"),
    ],
)
def test_words_of_tables(scores, words):
    assert describe(scores, 1.0, ["a", "b", "c"], "table", 0.0) == words


def test_no_leader_among_many():
    names = [f"x{j}" for j in range(12)]
    text = describe(np.ones(12), 1.0, names, "table", 0.0)
    assert text == "many together: first 'x0', 'x1', 'x2' and 'x3'"


def test_weighted_mean_by_hand():
    drops, s = np.array([1.0, 0.5, -0.2]), np.array([4.0, 2.0, 1.0])
    found = scoring.weighted_mean(drops[:, None, None], s[:, None])
    assert found[0, 0] == pytest.approx(0.685714, abs=1e-6)
    assert drops.mean() == pytest.approx(0.433333, abs=1e-6)


def test_logarithm_exaggerates_near_matches():
    def s(d):
        return np.log((d + 1) / (d + 1e-4))

    assert s(0.0) - s(1e-4) == pytest.approx(0.693147, abs=1e-4)
    assert s(0.01) - s(0.25) == pytest.approx(2.996132, abs=1e-6)


def test_redundant_prototypes():
    scores = np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 3.0], [1.0, 1.0]])
    alike = scoring.redundancy(scores)
    assert_allclose(alike[0, :3], [1.0, 1.0, -1.0])
    assert np.isnan(alike[3]).all()


def test_bootstrap_in_pieces_is_that_of_the_whole():
    rng = np.random.RandomState(0)
    values, s = rng.randn(20, 3, 2), rng.rand(20, 3)
    counts = scoring.draws_of_samples(20, 5, np.random.RandomState(1))
    total = scoring.Total(6, (3, 2))
    for rows in (slice(0, 7), slice(7, 20)):
        total.add(values[rows], s[rows], counts[:, rows])
    for draw, count in zip(total.mean(), counts, strict=True):
        rows = np.repeat(np.arange(20), count.astype(int))
        assert_allclose(draw, scoring.weighted_mean(values[rows], s[rows]))


# -- showing ---------------------------------------------------------------------------


def test_pictures(wine, table, tree):
    pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib")
    from matplotlib import pyplot

    X, _ = wine
    shown = explain_attributes(table, X, random_state=0)
    for ax in (
        shown.plot([0, 2]),
        shown.local.plot(3),
        explain_attributes(tree, X, n_resamples=0).local.plot(0),
        PrototypeAttributeExplainer(table).fit(X).sweep(X[:9], 3).plot(),
    ):
        ax.figure.canvas.draw()
        pyplot.close(ax.figure)


def test_text_of_a_result(wine, table):
    X, _ = wine
    shown = explain_attributes(table, X, random_state=0)
    lines = str(shown).splitlines()
    assert lines[0] == "GLVQClassifier: what 3 prototypes look at"
    assert len(lines) == 7
    assert "mostly '" in str(shown)
    assert str(shown.local[:0]) == "GLVQClassifier: no samples"
    assert "... and" in str(shown.local)
    text = str(shown.local[[2]])
    assert text.startswith(f"Sample {X.index[2]} (GLVQClassifier)")
    assert "because: " in text


def test_names_are_escaped(wine):
    X, y = wine
    frame = X.rename(columns={X.columns[0]: "<script>alert(1)</script>"})
    model = GLVQClassifier(1, max_epochs=5, random_state=0).fit(frame, y)
    shown = explain_attributes(model, frame, n_resamples=0)
    for part in (shown, shown.local[:1]):
        assert "<script>" not in part._repr_html_()


# -- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attributes": ["colour"]}, "must name features .* Got 'colour'"),
        ({"attributes": [99]}, "must name features .* Got 99"),
        ({"attributes": {"none": []}}, "must name at least one feature"),
        ({"attributes": {"cut": lambda rows: rows[:1]}}, "same shape and dtype"),
        ({"scope": "focus"}, "needs images"),
        ({"replacement": "zero"}, "'replacement' parameter"),
        ({"method": "all"}, "'method' parameter"),
    ],
)
def test_wrong_parameters(wine, table, options, message):
    X, _ = wine
    with pytest.raises(ValueError, match=message):
        explain_attributes(table, X, **options)


def test_shapley_of_too_many():
    X, y = load_wine(return_X_y=True)
    model = GLVQClassifier(1, max_epochs=2, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"at most 8 attributes.* Got 13"):
        explain_attributes(model, X, method="shapley")


def test_other_samples_than_those_of_fit(wine, table, reader_of_texts):
    X, _ = wine
    fitted = PrototypeAttributeExplainer(table, n_resamples=0).fit(X)
    with pytest.raises(ValueError, match="NaN"):
        fitted.explain(X * np.nan)
    with pytest.raises(ValueError, match="at least one sample"):
        fitted.explain(X[:0])
    with pytest.raises(ValueError, match="name features"):
        fitted.explain(X.rename(columns={X.columns[0]: "other"}))


def test_words_counted_by_a_dense_vectoriser():
    from sklearn.preprocessing import FunctionTransformer

    front = (
        CountVectorizer(),
        FunctionTransformer(lambda m: m.toarray(), accept_sparse=True),
    )
    model = make_pipeline(*front, GLVQClassifier(1, max_epochs=5, random_state=0))
    model.fit(TEXTS, TOPICS)
    shown = explain_attributes(model, TEXTS, n_resamples=0)
    assert "the" in shown.attributes
