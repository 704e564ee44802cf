"""Metrics while a model trains, contrast and entropy, and what edits do."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from torch import nn

from skproto import (
    CBCClassifier,
    GLVQClassifier,
    ProtoPNetClassifier,
    ProtoTreeClassifier,
    ProtoTreeEnsembleClassifier,
    PrototypeAutoencoderClassifier,
    ProtoViTClassifier,
    RBFClassifier,
)
from skproto.metrics import (
    PrototypeMetrics,
    activation_entropy,
    contrast_scores,
    contribution_sizes,
    explanation_sensitivity,
    impurity_score,
    intervention_curve,
    make_prototype_scorer,
    prototype_regions,
    prototype_report,
    prototype_uniqueness,
    purity_score,
)
from skproto.metrics._contrast import matched_vectors


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return X, np.array(["a", "b", "c"])[y]


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.RandomState(0)
    y = np.arange(30) % 2
    X = rng.rand(30, 1, 8, 8).astype(np.float32)
    X = 0.5 * X
    X[y == 1, :, :4, :4] += 0.5
    return X, y


# -- the callback ----------------------------------------------------------------------


def watched(model, watch, **parameters):
    return model.set_params(net_params={"callbacks": [watch]}, **parameters)


@pytest.mark.parametrize("cls", [GLVQClassifier, RBFClassifier, CBCClassifier])
def test_metrics_stand_in_the_history(cls, iris):
    X, y = iris
    watch = PrototypeMetrics(X[::2], y[::2])
    model = watched(cls(2, solver="adam", max_epochs=4, random_state=0), watch)
    history = model.fit(X, y).history_
    assert {"accuracy", "coverage", "redundancy"} <= set(history.columns)
    assert history["accuracy"].notna().all()
    if cls is not CBCClassifier:  # does not move its prototypes after training
        last = np.mean(model.predict(X[::2]) == y[::2])
        assert history["accuracy"].iloc[-1] == pytest.approx(last, abs=0.05)


def test_watching_changes_nothing(iris):
    X, y = iris
    plain = GLVQClassifier(2, solver="adam", max_epochs=4, random_state=0)
    alone = clone(plain).fit(X, y)
    seen = watched(clone(plain), PrototypeMetrics(X, y, ["accuracy"])).fit(X, y)
    assert_array_equal(seen.prototypes_, alone.prototypes_)
    assert_array_equal(seen.predict_proba(X), alone.predict_proba(X))
    again = pickle.loads(pickle.dumps(seen))
    assert_array_equal(again.predict_proba(X), seen.predict_proba(X))


def test_annotations_and_networks_of_parts(pictures):
    X, y = pictures
    places = np.full((len(X), 1, 2), 2)
    names = ["accuracy", "consistency", "purity", "entropy", "sparsity", "contrast"]
    watch = PrototypeMetrics(X, y, names, every=2, part_locations=places)
    model = ProtoPNetClassifier(1, max_epochs=4, random_state=0)
    history = watched(model, watch).fit(X, y).history_
    joint = history.loc[history["phase"] == "joint", "accuracy"].to_numpy()
    assert np.isnan(joint[0::2]).all()
    assert not np.isnan(joint[1::2]).any()
    for name in names:
        assert history[name].notna().any(), name


def test_functions_of_the_user(iris):
    X, y = iris
    own = {"mean_activation": lambda model, X, y: model.transform(X).mean()}
    model = GLVQClassifier(1, solver="adam", max_epochs=3, random_state=0)
    history = watched(model, PrototypeMetrics(X, y, own)).fit(X, y).history_
    assert history["mean_activation"].between(0, 1).all()


def test_a_search_can_carry_it(iris):
    X, y = iris
    watch = PrototypeMetrics(X, y, ["accuracy"])
    model = watched(GLVQClassifier(1, solver="adam", random_state=0), watch)
    search = GridSearchCV(model, {"max_epochs": [1, 2]}, cv=2).fit(X, y)
    assert "accuracy" in search.best_estimator_.history_


def test_wrong_callbacks(iris):
    X, y = iris
    model = GLVQClassifier(1, solver="adam", max_epochs=1, random_state=0)
    with pytest.raises(ValueError, match=r"metrics must be among .* Got 'beauty'"):
        watched(clone(model), PrototypeMetrics(X, y, ["beauty"])).fit(X, y)
    with pytest.raises(ValueError, match="every must be an int"):
        watched(clone(model), PrototypeMetrics(X, y, every=0)).fit(X, y)
    with pytest.raises(ValueError, match="not seen in fit"):
        watched(clone(model), PrototypeMetrics(X, np.full(len(X), "z"))).fit(X, y)

    net = NeuralNetClassifier(
        nn.Linear(4, 3),
        criterion=nn.CrossEntropyLoss,
        callbacks=[PrototypeMetrics(X, y)],
        max_epochs=1,
        train_split=None,
        verbose=0,
    )
    with pytest.raises(TypeError, match="callback of an estimator of skproto"):
        net.fit(X.astype(np.float32), np.unique(y, return_inverse=True)[1])


# -- entropy and contrast --------------------------------------------------------------


def test_entropy_by_hand():
    maps = np.zeros((3, 3, 2, 2))
    maps[:, 0, 0, 0] = 5.0  # one site
    maps[:, 1] = 0.2  # the same everywhere
    maps[0, 2] = [[0.5, 0.5], [0.0, -3.0]]  # two of four sites; negative is nothing
    found = activation_entropy(maps, per_prototype=True)
    assert_allclose(found, [0.0, 1.0, 0.5], atol=1e-12)
    assert activation_entropy(maps) == pytest.approx(0.5)
    nothing = activation_entropy(np.zeros((2, 1, 2, 2)), per_prototype=True)
    assert np.isnan(nothing).all()
    own = activation_entropy(
        np.concatenate([maps, maps[::-1]]),
        np.array([0, 1, 1, 1, 1, 0]),
        [0, 0, 0],
        per_prototype=True,
    )
    assert_allclose(own, [0.0, 1.0, 0.5], atol=1e-12)
    with pytest.raises(ValueError, match="at least 2 sites"):
        activation_entropy(np.ones((2, 1, 1, 1)))


def by_pairs(vectors, y, speaks, classes):
    """Mean cosine distances over all pairs, one by one."""
    within, between = [], []
    for p in range(vectors.shape[1]):
        own = np.isin(y, classes[speaks[p]])
        z = vectors[:, p]
        z = z[:, np.linalg.norm(z[0], axis=-1) > 0]  # parts that are on
        cosine = (z[:, None] * z[None]).sum(axis=-1).mean(axis=-1)
        inside = cosine[np.ix_(own, own)][~np.eye(own.sum(), dtype=bool)]
        within.append(1 - inside.mean())
        between.append(1 - cosine[np.ix_(own, ~own)].mean())
    return np.array(within), np.array(between)


@pytest.mark.parametrize(
    "model",
    [
        GLVQClassifier(1, max_epochs=3, random_state=0),
        ProtoPNetClassifier(1, max_epochs=2, random_state=0),
        ProtoViTClassifier(max_epochs=2, random_state=0),
        ProtoTreeClassifier(1, max_epochs=2, random_state=0),
        PrototypeAutoencoderClassifier(4, max_epochs=2, random_state=0),
    ],
    ids=lambda m: type(m).__name__,
)
def test_contrast_is_the_mean_over_pairs(model, pictures):
    X, y = pictures
    model = clone(model).fit(X, y)
    from skproto.metrics import prototype_classes

    vectors = matched_vectors(model, X)
    lengths = np.linalg.norm(vectors, axis=-1)
    assert_allclose(lengths[lengths > 0], 1.0)
    found = contrast_scores(model, X, y, per_prototype=True)
    expected = by_pairs(vectors, y, prototype_classes(model), model.classes_)
    assert_allclose(found["within"], expected[0], atol=1e-9)
    assert_allclose(found["between"], expected[1], atol=1e-9)
    assert_allclose(found["contrast"], expected[1] - expected[0], atol=1e-9)
    mean = contrast_scores(model, X, y)
    assert mean["contrast"] == pytest.approx(found["contrast"].mean())


def test_contrast_grows_with_training(pictures):
    X, y = pictures
    few, many = (
        ProtoPNetClassifier(1, max_epochs=n, random_state=0).fit(X, y) for n in (0, 20)
    )
    first, second = (contrast_scores(m, X, y)["contrast"] for m in (few, many))
    assert second > first + 0.1
    scorer = make_prototype_scorer("contrast")
    assert scorer(many, X, y) == pytest.approx(second)
    assert make_prototype_scorer("entropy")(many, X, y) <= 0


def test_contrast_of_an_ensemble_is_refused(iris):
    X, y = iris
    tree = ProtoTreeClassifier(1, max_epochs=1)
    forest = ProtoTreeEnsembleClassifier(tree, 2, random_state=0).fit(X, y)
    with pytest.raises(TypeError, match="pass its members"):
        contrast_scores(forest, X, y)


# -- edits -----------------------------------------------------------------------------


def test_intervention_curve(iris):
    X, y = iris
    model = RBFClassifier(2, max_epochs=30, random_state=0).fit(X, y)
    before = model.predict_proba(X)
    curve = intervention_curve(model, X, y)
    assert curve["n_prototypes"].tolist() == [6, 5, 4, 3]
    assert curve["accuracy"][0] == model.score(X, y)
    assert_allclose(curve["gain"].cumsum(), curve["accuracy"] - curve["accuracy"][0])
    assert_array_equal(model.predict_proba(X), before)
    first = curve["ids"][1]
    from skproto.operations import edit

    assert curve["accuracy"][1] == edit(model, "remove", int(first)).score(X, y)


def test_intervention_with_edits_of_the_user(iris):
    X, y = iris
    model = GLVQClassifier(2, max_epochs=30, random_state=0).fit(X, y)
    wrong = model.prototype_ids_[0]
    edits = [
        ("relabel", {"ids": wrong, "label": "b"}),
        ("relabel", {"ids": wrong, "label": "a"}),
    ]
    curve = intervention_curve(model, X, y, edits)
    assert curve["edit"].tolist() == ["", "relabel", "relabel"]
    assert curve["gain"][1] < -0.05
    assert curve["gain"][2] > 0.05


# -- purity of parts -------------------------------------------------------------------


def test_impurity_by_hand():
    maps = np.zeros((5, 1, 8, 8))
    maps[:, 0, 0, 0] = 1
    near, far = [0, 0], [7, 7]
    # The first part is met in all five, the second in two, the third in one.
    places = np.array([[near, near, far], [near, near, near], *[[near, far, far]] * 3])
    regions = prototype_regions(maps, (8, 8), half_size=1)
    assert purity_score(regions, places) == 1.0
    assert impurity_score(regions, places) == pytest.approx(0.4)
    assert impurity_score(regions, places, merge=[[0, 1]]) == pytest.approx(0.2)
    assert impurity_score(regions, places[:, :1]) == 0.0
    seen = np.ones((5, 3), dtype=bool)
    seen[3:, 1] = False
    assert impurity_score(regions, places, seen) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="top_k must be"):
        impurity_score(regions, places, top_k=0)


def test_unique_parts(pictures):
    X, y = pictures
    model = ProtoViTClassifier(max_epochs=1, random_state=0).fit(X, y)
    n_on = model.slots_.sum()
    model.prototypes_ = np.array(model.prototypes_)
    model.prototypes_[:] = np.arange(model.prototypes_[..., 0].size).reshape(
        *model.prototypes_.shape[:2], 1
    )
    assert prototype_uniqueness(model, "parts") == 1.0
    model.prototypes_[:] = 1.0
    assert prototype_uniqueness(model, "parts") == pytest.approx(1 / n_on)
    with pytest.raises(ValueError, match="per_prototype=True needs"):
        prototype_uniqueness(model, "parts", per_prototype=True)


# -- what else is told -----------------------------------------------------------------


def test_strong_contributions_by_hand():
    weights = np.array([[1.0, 0.0], [0.2, 0.0], [0.05, 0.0], [0.0, 0.1]])
    sizes = contribution_sizes(np.ones((1, 4)), weights)
    assert sizes["strong"].tolist() == [2]


def test_sensitivity_of_a_model_that_knows_feature_names():
    X, y = load_iris(return_X_y=True, as_frame=True)
    plain = GLVQClassifier(1, max_epochs=5, random_state=0).fit(X.to_numpy(), y)
    named = GLVQClassifier(1, max_epochs=5, random_state=0).fit(X, y)
    values = [
        explanation_sensitivity(model, data, random_state=0)
        for model, data in ((plain, X.to_numpy()), (named, X))
    ]
    assert values[0] == pytest.approx(values[1])


def test_report_tells_faithfulness_and_sensitivity(iris):
    X, y = iris
    model = RBFClassifier(1, max_epochs=20, random_state=0).fit(X, y)
    summary = prototype_report(model, X, y, random_state=0).summary
    assert -1 <= summary["faithfulness"]["value"] <= 1
    assert summary["sensitivity"]["value"] > 0
    assert summary["size_strong"]["value"] >= 1
