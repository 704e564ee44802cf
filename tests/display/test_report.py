"""The report holds what the model computed, for every estimator and kind of data."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from skproto import report
from skproto.display._report._scores import wilson
from skproto.networks import (
    PIPNetClassifier,
    PrototypeAutoencoder,
    PrototypeAutoencoderClassifier,
    ProtoViTClassifier,
)
from skproto.operations import EditedEstimator
from skproto.shallow import (
    CBCClassifier,
    GLVQClassifier,
    GMLVQClassifier,
    RBFClassifier,
)
from skproto.trees import ProtoTreeClassifier, ProtoTreeEnsembleClassifier
from skproto.utils import all_estimators

pytest.importorskip("jinja2", reason="reports are written with Jinja2")

IRIS = load_iris(as_frame=True)
DIGITS = load_digits()
IMAGES = DIGITS.data.reshape(-1, 1, 8, 8).astype(np.uint8)[:150]
LABELS = DIGITS.target[:150]
EVIL = "</script><script>alert(1)</script>"
FAST = {"max_epochs": 2, "random_state": 0}
IMAGE_MODELS = sorted(
    name
    for name, model in all_estimators()
    if model.__module__.startswith("skproto.networks") and hasattr(model, "predict")
)
TABLE_MODELS = sorted(
    name
    for name, model in all_estimators()
    if name not in IMAGE_MODELS and hasattr(model, "predict")
)


class Page(HTMLParser):
    """Tags, data and text of a report."""

    def __init__(self, path):
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.tags, self.links, self.ids = [], [], []
        self.feed(self.html)
        block = re.search(
            r'<script type="application/json" id="data">(.*?)</script>',
            self.html,
            re.DOTALL,
        )
        self.raw = block[1]
        self.data = json.loads(block[1])

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "action", "data"):
                self.links.append(value)
            if name == "id":
                self.ids.append(value)


def make(name):
    """A small model of each kind that is fitted in a second."""
    if name == "ProtoTreeEnsembleClassifier":
        tree = ProtoTreeClassifier(depth=2, max_epochs=2)
        return ProtoTreeEnsembleClassifier(tree, n_estimators=2, random_state=0)
    return dict(all_estimators())[name](**FAST)


@pytest.fixture(scope="module")
def forest():
    return make("ProtoTreeEnsembleClassifier").fit(IRIS.data, IRIS.target)


@pytest.fixture(scope="module")
def rbf():
    return RBFClassifier(max_epochs=15, random_state=0).fit(
        IRIS.data[::2], IRIS.target[::2]
    )


def written(tmp_path, model, X, y, **options):
    options.setdefault("random_state", 0)
    return Page(report(model, X, y, tmp_path / "page.html", **options))


@pytest.mark.parametrize("name", TABLE_MODELS)
def test_every_estimator_of_tables_has_a_report(name, tmp_path, forest):
    model = forest if "Ensemble" in name else make(name).fit(IRIS.data, IRIS.target)
    page = written(tmp_path, model, IRIS.data[::5], IRIS.target[::5])
    check_page(page, model, 30)
    assert page.data["features"]["name"] == list(IRIS.data.columns)
    assert bool(page.data["trees"]) == ("Tree" in name)
    assert (page.data["reasoning"] is not None) == (name == "CBCClassifier")
    certified = all("r" in case for case in page.data["cases"])
    assert certified == (model._radius(model._check_input(IRIS.data[:2])) is not None)


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_every_estimator_of_images_has_a_report(name, tmp_path):
    model = make(name).fit(IMAGES[:100], LABELS[:100])
    page = written(tmp_path, model, IMAGES[100:120], LABELS[100:120])
    check_page(page, model, 20)
    pictures = page.data["pictures"]
    assert all(entry[0].startswith(("png,", "jpeg,")) for entry in pictures)
    assert len({entry[0] for entry in pictures}) == len(pictures)
    assert all(pictures[case["t"]][1:] == [8, 8] for case in page.data["cases"])
    assert page.data["unit"] == "image"


def check_page(page, model, n_cases):
    """What holds for every report."""
    data = page.data
    assert len(data["cases"]) == n_cases
    assert data["prototypes"]["id"] == model.prototype_ids_.tolist()
    assert data["prototypes"]["row"] == model.prototype_indices_.tolist()
    assert not {"iframe", "img"} & set(page.tags)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert "http" not in page.html.replace("http-equiv", "").replace(
        "http://www.w3.org/2000/svg", ""
    )
    lengths = {
        len(column)
        for name, column in data["prototypes"].items()
        if isinstance(column, list)
    }
    assert lengths == {len(model.prototypes_)}
    near = data["prototypes"]["near"]
    assert all(0 <= j < n_cases for cases, _ in near for j in cases)


def test_cases_hold_the_evidence_of_the_model(tmp_path, rbf):
    page = written(tmp_path, rbf, IRIS.data[1::2], IRIS.target[1::2])
    shown = rbf.explain(IRIS.data[1::2])
    position = {str(name): i for i, name in enumerate(IRIS.data.index[1::2])}
    for case in page.data["cases"][:10]:
        i = position[case["i"]]
        gap = shown.class_contributions[i, :, case["p"]]
        gap = gap - shown.class_contributions[i, :, case["v"]]
        for _, _, value, _, prototype, *_ in case["e"]:
            assert value == pytest.approx(gap[prototype], rel=1e-3)
        assert dict(case["c"])[case["p"]] == pytest.approx(
            shown.probabilities[i].max(), abs=1e-5
        )
        assert case["r"] == pytest.approx(shown.radius[i], rel=1e-3)
        assert case["f"] == pytest.approx(shown.samples[i].tolist(), rel=1e-4)


def test_wrong_and_uncertain_cases_come_first(tmp_path, rbf):
    page = written(tmp_path, rbf, IRIS.data, IRIS.target)
    right = [case["y"] == case["p"] for case in page.data["cases"]]
    assert right == sorted(right)
    assert not right[0]
    margin = [case["c"][0][1] - case["c"][1][1] for case in page.data["cases"]]
    start = right.index(True)
    assert (np.diff(margin[start:]) > -3e-5).all()
    few = written(tmp_path, rbf, IRIS.data, IRIS.target, max_cases=7)
    assert [c["i"] for c in few.data["cases"]] == [
        c["i"] for c in page.data["cases"][:7]
    ]
    assert re.search(rf"<strong>{sum(right)} of 150</strong>", few.html)


def test_the_card_tells_the_figures(tmp_path, rbf):
    X, y = IRIS.data[1::2], IRIS.target[1::2]
    page = written(tmp_path, rbf, X, y)
    predicted = rbf.predict(X)
    n_right = int((predicted == y).sum())
    interval = binomtest(n_right, len(y)).proportion_ci(method="wilson")
    for value in (n_right / len(y), interval.low, interval.high):
        assert f"{value:.1%}" in page.html
    assert f"{balanced_accuracy_score(y, predicted):.1%}" in page.html
    for row in confusion_matrix(y, predicted):
        for count in row[row > 0]:
            assert f">{count}</button>" in page.html
    assert "<dt>max_epochs</dt><dd>15</dd>" in page.html
    assert "<dt>lr</dt>" not in page.html
    assert rbf.solver_ in page.html


@pytest.mark.parametrize(("n_right", "n"), [(0, 5), (5, 5), (45, 50), (700, 1000)])
def test_wilsons_interval(n_right, n):
    expected = binomtest(n_right, n).proportion_ci(method="wilson")
    assert wilson(n_right, n) == pytest.approx(tuple(expected), abs=1e-9)


def test_use_of_the_prototypes(tmp_path, rbf):
    X, y = IRIS.data, IRIS.target
    columns = written(tmp_path, rbf, X, y).data["prototypes"]
    activation = rbf.transform(X)
    won = np.bincount(activation.argmax(axis=1), minlength=activation.shape[1])
    assert columns["won"] == won.tolist()
    assert columns["mean"] == pytest.approx(activation.mean(axis=0), rel=1e-3)
    nearest = np.argsort(-activation, axis=0)[:10]
    own = y.to_numpy()[nearest] == rbf.prototype_labels_
    assert columns["purity"] == pytest.approx(own.mean(axis=0), abs=0.11)
    assert columns["values"] == pytest.approx(rbf.prototypes_, rel=1e-3)
    squared = np.array(columns["radius"]) ** 2
    assert np.exp(-squared / rbf.sigma_) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler()])
def test_pipelines_that_scale_show_the_values_before(scaler, tmp_path):
    model = make_pipeline(scaler, GLVQClassifier(**FAST)).fit(IRIS.data, IRIS.target)
    page = written(tmp_path, model, IRIS.data[::9], IRIS.target[::9])
    names = {str(name): row for name, row in IRIS.data.iterrows()}
    for case in page.data["cases"]:
        assert case["f"] == pytest.approx(names[case["i"]].tolist(), rel=1e-4)
    columns = page.data["prototypes"]
    for row, values in zip(columns["row"], columns["samples"], strict=True):
        assert values == pytest.approx(IRIS.data.iloc[row].tolist(), rel=1e-4)
    assert page.data["features"]["name"] == list(IRIS.data.columns)
    plain = GLVQClassifier(**FAST).fit(IRIS.data, IRIS.target)
    page = written(tmp_path, plain, IRIS.data, IRIS.target)
    assert page.data["prototypes"]["values"] == pytest.approx(
        np.array(columns["values"]), rel=0.2, abs=0.2
    )


def test_pipelines_that_mix_features_show_what_they_were_given(tmp_path):
    frame = pd.DataFrame(
        {"size": np.arange(40) % 7, "colour": ["red", "blue"] * 20},
        index=range(100, 140),
    )
    y = np.where(frame["colour"] == "red", "warm", "cold")
    steps = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["colour"]), (StandardScaler(), ["size"])
    )
    rbf = RBFClassifier(n_prototypes_per_class=2, **FAST)
    model = make_pipeline(steps, rbf).fit(frame, y)
    page = written(tmp_path, model, frame, y)
    assert page.data["given"] == ["size", "colour"]
    assert page.data["features"]["name"][:2] == [
        "onehotencoder__colour_blue",
        "onehotencoder__colour_red",
    ]
    case = next(case for case in page.data["cases"] if case["i"] == "103")
    assert case["o"] == ["3", "blue"]
    rotated = make_pipeline(PCA(random_state=0), RBFClassifier(**FAST))
    page = written(
        tmp_path, rotated.fit(IRIS.data, IRIS.target), IRIS.data, IRIS.target
    )
    assert page.data["features"]["name"] == [f"pca{i}" for i in range(4)]
    assert page.data["given"] == list(IRIS.data.columns)


def test_texts_show_their_words(tmp_path):
    good, bad = "a sweet ripe plum", "a sour green plum"
    texts = [f"{good} {i}" if i % 2 else f"{bad} {i}" for i in range(40)]
    y = np.arange(40) % 2
    model = make_pipeline(TfidfVectorizer(), RBFClassifier(**FAST)).fit(texts, y)
    page = written(tmp_path, model, texts, y, source_texts=texts)
    assert page.data["unit"] == "text"
    for case in page.data["cases"]:
        assert case["x"] == texts[int(case["i"])]
        names = [page.data["features"]["name"][f] for f, _ in case["w"]]
        assert set(names) <= set(case["x"].split())
        words = {word for row in case["e"][:1] for word, _, _ in row[6][1]}
        assert words & ({"sweet", "ripe"} if case["p"] else {"sour", "green"})
    columns = page.data["prototypes"]
    assert columns["text"] == [texts[row] for row in columns["row"]]


def test_texts_of_numbers_made_elsewhere(tmp_path, rbf):
    texts = [f"flower {i}" for i in range(30)]
    page = written(tmp_path, rbf, IRIS.data[::5], IRIS.target[::5], texts=texts)
    assert sorted(case["x"] for case in page.data["cases"]) == sorted(texts)
    assert all("f" in case for case in page.data["cases"])


def test_names_from_the_data_are_text(tmp_path):
    X = IRIS.data.set_axis([EVIL, "a & b", "<b>", '"x"'], axis=1)
    y = np.array([EVIL, "<img src=x onerror=alert(2)>", "'"])[IRIS.target]
    model = CBCClassifier(**FAST).fit(X, y)
    page = written(tmp_path, model, X, y, title=EVIL)
    assert page.tags.count("script") == 2
    assert "img" not in page.tags
    assert not set("<>&") & set(page.raw)
    assert page.data["classes"] == model.classes_.tolist()
    assert page.data["features"]["name"] == X.columns.tolist()


def test_names_given_replace_those_of_the_model(tmp_path, rbf, forest):
    names = {"class_names": {0: "S", 2: "V"}, "feature_names": list("abcd")}
    for model in (rbf, forest):
        page = written(tmp_path, model, IRIS.data[:9], IRIS.target[:9], **names)
        assert page.data["classes"] == ["S", "1", "V"]
        assert page.data["features"]["name"] == list("abcd")
        assert "petal" not in page.raw
    words = " ".join(row[1] for case in page.data["cases"] for row in case["e"])
    assert "(S " in words


def test_trees_tell_paths_and_probabilities(tmp_path, forest):
    page = written(tmp_path, forest, IRIS.data[::10], IRIS.target[::10])
    trees, cases = page.data["trees"], page.data["cases"]
    assert len(trees) == 2
    shown = forest.explain(IRIS.data.loc[[int(case["i"]) for case in cases]])
    for i, case in enumerate(cases):
        assert case["k"] == [tree.path[i] for tree in shown.trees]
        assert case["l"] == pytest.approx(1000 * shown.similarities[i], abs=1)
        for tree, path in zip(trees, case["k"], strict=True):
            for node, child in pairwise(path):
                k = tree["prototype"][node]
                expected = tree["right" if case["l"][k] > 500 else "left"][node]
                assert child == expected or abs(case["l"][k] - 500) <= 1
            assert tree["prototype"][path[-1]] == -1
    for tree in trees:
        assert np.sum(tree["below"], axis=1) == pytest.approx(1, abs=0.01)


def test_reasoning_adds_up(tmp_path):
    wine = load_wine(as_frame=True)
    model = CBCClassifier(**FAST).fit(wine.data, wine.target)
    page = written(tmp_path, model, wine.data[::8], wine.target[::8])
    reasoning = page.data["reasoning"]
    total = np.sum(reasoning["presence"], axis=0) + np.sum(reasoning["absence"], axis=0)
    assert total == pytest.approx(1, abs=0.01)
    for case in page.data["cases"]:
        found = case["b"]
        sums = np.sum(found["s"], axis=0) + found["o"]
        assert sums.reshape(2, 2).sum(axis=1) == pytest.approx(found["t"], rel=1e-3)


def test_searches_and_relevances(tmp_path):
    search = GridSearchCV(GMLVQClassifier(**FAST), {"lr": [0.01]}, cv=2)
    search.fit(IRIS.data, IRIS.target)
    page = written(tmp_path, search, IRIS.data, IRIS.target)
    assert "<summary>Relevance</summary>" in page.html
    pipeline = make_pipeline(StandardScaler(), search).fit(IRIS.data, IRIS.target)
    again = written(tmp_path, pipeline, IRIS.data, IRIS.target)
    assert "StandardScaler" in again.html


def test_edits_are_told(tmp_path):
    model = GLVQClassifier(n_prototypes_per_class=2, **FAST)
    model.fit(IRIS.data, IRIS.target).remove_prototypes([1]).lock_prototypes([4])
    page = written(tmp_path, model, IRIS.data[::9], IRIS.target[::9])
    assert "2 times: remove (1), lock (1)" in page.html
    assert page.data["prototypes"]["id"] == [0, 2, 3, 4, 5]
    assert page.data["prototypes"]["locked"] == [0, 0, 0, 1, 0]
    edits = [{"op": "add", "items": [[6.0, 2.7, 5.1, 1.6]], "label": 1}]
    edited = EditedEstimator(GLVQClassifier(**FAST), edits)
    rows = IRIS.data.to_numpy()
    edited.fit(rows, IRIS.target)
    again = written(tmp_path, edited, rows[::9], IRIS.target[::9])
    assert "1 time: add (1)" in again.html


def test_same_seed_same_page(tmp_path, rbf):
    pages = [written(tmp_path, rbf, IRIS.data, IRIS.target) for _ in range(2)]
    assert pages[0].html == pages[1].html


def test_colour_images_and_abstentions(tmp_path):
    images = np.repeat(IMAGES[:60] / 16.0, 3, axis=1).astype(np.float32)
    model = PIPNetClassifier(**FAST).fit(images, LABELS[:60])
    page = written(tmp_path, model, images[:20], LABELS[:20])
    assert "8 by 8 pixels, colour" in page.html
    tokens = np.random.RandomState(0).rand(30, 5, 4)
    vit = ProtoViTClassifier(encoder="tokens", **FAST).fit(tokens, np.arange(30) % 2)
    page = written(tmp_path, vit, tokens, np.arange(30) % 2)
    assert "5 of dimension 4" in page.html
    coder = PrototypeAutoencoderClassifier(**FAST).fit(IRIS.data, IRIS.target)
    columns = written(tmp_path, coder, IRIS.data, IRIS.target).data["prototypes"]
    squared = coder.transform(IRIS.data)
    won = np.bincount(squared.argmin(axis=1), minlength=squared.shape[1])
    assert columns["won"] == won.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": IRIS.target[:5]}, "y must have 150 labels"),
        ({"y": np.full(150, 7)}, "not seen in fit: \\[7\\]"),
        ({"class_names": ["a", "b"]}, "class_names must be 3 different names"),
        ({"class_names": ["a", "b", "b"]}, "class_names must be 3 different names"),
        ({"feature_names": ["a"]}, "feature_names must have 4 names. Got 1"),
        ({"texts": ["a"]}, "texts must have 150 texts. Got 1"),
        ({"max_cases": 0}, "max_cases must be None or at least 1. Got 0"),
        ({"X": IRIS.data[["petal width (cm)"]]}, "feature names"),
    ],
)
def test_what_does_not_fit_is_told(change, message, tmp_path, rbf):
    given = {"X": IRIS.data, "y": IRIS.target, **change}
    with pytest.raises(ValueError, match=message):
        report(rbf, path=tmp_path / "page.html", **given)
    assert not (tmp_path / "page.html").exists()


def test_models_that_cannot_be_shown_are_told(tmp_path):
    target = tmp_path / "page.html"
    other = LogisticRegression(max_iter=1000).fit(IRIS.data, IRIS.target)
    with pytest.raises(TypeError, match=r"fitted classifier of skproto.*Logistic"):
        report(other, IRIS.data, IRIS.target, target)
    coder = PrototypeAutoencoder(**FAST).fit(IRIS.data)
    with pytest.raises(TypeError, match="Got PrototypeAutoencoder"):
        report(coder, IRIS.data, IRIS.target, target)
    with pytest.raises(NotFittedError):
        report(RBFClassifier(), IRIS.data, IRIS.target, target)
    model = GLVQClassifier(**FAST).fit(IRIS.data, IRIS.target)
    with pytest.raises(TypeError, match="texts must be a sequence of str"):
        report(model, IRIS.data, IRIS.target, target, texts="abc")
