"""LVQ classifiers: evidence, certificates, probabilities and options."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.neighbors import NearestCentroid

from skproto.explanation import Explanation, PairExplanation
from skproto.shallow import GLVQClassifier, GMLVQClassifier, RSLVQClassifier

X_IRIS, Y_IRIS = load_iris(return_X_y=True)
X_WINE, Y_WINE = load_wine(return_X_y=True)
X_CANCER, Y_CANCER = load_breast_cancer(return_X_y=True)

MODELS = {
    "glvq": GLVQClassifier(2, random_state=0),
    "grlvq": GLVQClassifier(2, metric="relevance", random_state=0),
    "gmlvq": GMLVQClassifier(1, random_state=0),
    "lgmlvq": GLVQClassifier(1, metric="local-matrix", random_state=0),
    "rslvq": RSLVQClassifier(2, random_state=0),
    "mrslvq": RSLVQClassifier(1, metric="matrix", random_state=0),
}
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def fitted():
    models = {}

    def get(name, data="iris"):
        X, y = {"iris": (X_IRIS, Y_IRIS), "cancer": (X_CANCER, Y_CANCER)}[data]
        if (name, data) not in models:
            model = clone(MODELS[name]).set_params(max_epochs=40)
            models[name, data] = model.fit(X, y)
        return models[name, data], X, y

    return get


# Fitting


def test_class_means_without_training_are_nearest_centroids():
    for X, y in ((X_IRIS, Y_IRIS), (X_WINE, Y_WINE)):
        X = (X - X.mean(axis=0)) / X.std(axis=0)
        model = GLVQClassifier(1, init="mean", max_epochs=0).fit(X, y)
        centroids = NearestCentroid().fit(X, y)
        np.testing.assert_allclose(model.prototypes_, centroids.centroids_, atol=1e-6)
        np.testing.assert_array_equal(model.predict(X), centroids.predict(X))


@every_model
def test_loss_never_rises_along_lbfgs(name, fitted):
    model, X, y = fitted(name, "cancer")
    loss = model.history_["train_loss"].to_numpy()
    assert model.solver_ == "lbfgs"
    assert (np.diff(loss) <= 0).all()
    assert loss[-1] < 0.7 * loss[0]
    assert model.score(X, y) > 0.93


def test_restarts_keep_the_lowest_loss():
    settings = {"init": "sample", "max_epochs": 20, "random_state": 3}
    one = GLVQClassifier(2, **settings).fit(X_WINE, Y_WINE)
    many = GLVQClassifier(2, n_init=6, **settings).fit(X_WINE, Y_WINE)
    last = [m.history_["train_loss"].iloc[-1] for m in (one, many)]
    assert last[1] <= last[0]
    assert many.n_iter_ <= 20


@pytest.mark.parametrize("loss", ["margin", "robust"])
@pytest.mark.parametrize("metric", ["euclidean", "relevance", "matrix", "local-matrix"])
def test_other_losses_learn(loss, metric):
    model = GLVQClassifier(1, loss=loss, metric=metric, max_epochs=60, random_state=0)
    model.fit(X_IRIS, Y_IRIS)
    assert model.score(X_IRIS, Y_IRIS) > 0.9
    assert loss in model.history_


def test_robust_loss_widens_the_radius():
    plain = GLVQClassifier(1, max_epochs=60, random_state=0).fit(X_WINE, Y_WINE)
    robust = GLVQClassifier(1, loss="robust", margin=2.0, max_epochs=150)
    robust.fit(X_WINE, Y_WINE)
    radii = [np.median(m.certify(X_WINE, Y_WINE)) for m in (plain, robust)]
    assert radii[1] > radii[0]


def test_penalty_keeps_the_rank_of_the_matrix():
    free = GMLVQClassifier(1).fit(X_WINE, Y_WINE)
    held = GMLVQClassifier(1, alpha=0.01).fit(X_WINE, Y_WINE)
    values = [np.linalg.svd(m.omega_, compute_uv=False) for m in (free, held)]
    ratios = [v[-1] / v[0] for v in values]
    assert ratios[1] > 3 * ratios[0]
    assert "log_det" in held.history_
    assert "log_det" not in free.history_


@pytest.mark.parametrize("init", ["kmeans", "sample", "mean", "array"])
def test_starting_points(init):
    points = X_IRIS[[0, 1, 60, 61, 120, 121]]
    model = GLVQClassifier(
        2, init=points if init == "array" else init, max_epochs=0, random_state=0
    ).fit(X_IRIS, Y_IRIS)
    assert len(model.prototypes_) == (3 if init == "mean" else 6)
    if init == "array":
        np.testing.assert_allclose(model.prototypes_, points, rtol=1e-6)
    if init == "sample":
        found = (model.prototypes_[:, None] - X_IRIS).__abs__().max(axis=2).min(axis=1)
        assert found.max() < 1e-5


def test_automatic_number_of_prototypes_follows_the_class_sizes():
    X, y = np.r_[X_IRIS, X_IRIS + 0.01], np.r_[Y_IRIS, np.zeros(150, int)]
    model = GLVQClassifier(max_epochs=0).fit(X, y)
    assert np.bincount(model.prototype_labels_).tolist() == [4, 2, 2]


def test_zero_weight_is_absence_and_two_is_two_copies():
    weight = np.ones(150)
    weight[::3] = 0
    weight[1::3] = 2
    kept = weight > 0
    twice = np.repeat(np.arange(150), weight.astype(int))
    for model in (MODELS["glvq"], MODELS["rslvq"]):
        weighted = clone(model).fit(X_IRIS, Y_IRIS, sample_weight=weight)
        copied = clone(model).fit(X_IRIS[twice], Y_IRIS[twice])
        np.testing.assert_allclose(weighted.prototypes_, copied.prototypes_)
        np.testing.assert_allclose(
            weighted.predict_proba(X_IRIS), copied.predict_proba(X_IRIS)
        )
        assert kept[weighted.prototype_indices_].all()


def test_string_labels_and_encoder():
    names = np.array(["setosa", "versicolor", "virginica"])[Y_IRIS]
    model = GMLVQClassifier(1, encoder="mlp", random_state=0).fit(X_IRIS, names)
    assert model.score(X_IRIS, names) > 0.95
    assert model.prototypes_.shape == (3, 32)
    case = model.explain(X_IRIS[::20])
    case.verify()
    assert case.feature_differences.shape == (8, 32)
    assert case.radius is None
    assert model.transform_relevance(X_IRIS).shape == (150, 32)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (GLVQClassifier(metric="cosine"), "'metric' parameter of GLVQClassifier"),
        (GLVQClassifier(loss="hinge"), "'loss' parameter"),
        (GLVQClassifier(beta=-1), "'beta' parameter"),
        (GLVQClassifier("many"), "'n_prototypes_per_class' parameter"),
        (GLVQClassifier([1, 2]), "one for each of the 3 classes"),
        (GLVQClassifier(solver="sgd"), "'solver' parameter"),
        (GMLVQClassifier(n_components=5), "'n_components' parameter must be at most"),
        (RSLVQClassifier(metric="local-matrix"), "'metric' parameter of RSLVQ"),
        (RSLVQClassifier(sigma=0), "'sigma' parameter"),
    ],
)
def test_bad_parameters_are_named(model, message):
    with pytest.raises(ValueError, match=message):
        model.fit(X_IRIS, Y_IRIS)


# Decisions


@every_model
@pytest.mark.parametrize("data", ["iris", "cancer"])
def test_evidence_adds_up_and_verifies(name, data, fitted):
    model, X, _ = fitted(name, data)
    rows = np.r_[X[::9], model.prototypes_, 1e4 * X[:3]]
    case = model.explain(rows)
    case.verify()
    total = case.contributions.sum(axis=1) + case.bias
    np.testing.assert_allclose(
        total, model.decision_function(rows), rtol=1e-5, atol=1e-7
    )
    np.testing.assert_array_equal(case.prediction, model.predict(rows))
    np.testing.assert_allclose(case.similarities, model.transform(rows), rtol=1e-5)
    np.testing.assert_array_equal(case.probabilities, model.predict_proba(rows))
    pair = not name.endswith("rslvq")
    assert isinstance(case, PairExplanation if pair else Explanation)
    model.explain_global().to_frame()
    assert str(case)
    assert str(model.explain_global())


def test_pair_of_the_explanation_decides(fitted):
    model, X, _ = fitted("gmlvq")
    case = model.explain(X)
    rows = np.arange(len(X))
    used = np.abs(case.class_contributions) > 0
    assert (used.sum(axis=1) <= 2).all()
    win = case.squared_distances[rows, case.winner]
    lose = case.squared_distances[rows, case.runner_up]
    best = case.scores.max(axis=1)
    np.testing.assert_allclose(best, (lose - win) / (lose + win), atol=1e-6)
    z = (X - model.center_) / model.scale_ @ model.omega_.T
    np.testing.assert_allclose(model.transform_relevance(X), z, atol=1e-5)
    w = (model.prototypes_ - model.center_) / model.scale_ @ model.omega_.T
    expected = ((z[:, None] - w) ** 2).sum(axis=2)
    np.testing.assert_allclose(case.squared_distances, expected, rtol=1e-3, atol=1e-5)


@every_model
def test_probabilities(name, fitted):
    model, X, y = fitted(name, "cancer")
    far = np.r_[X, 1e3 * X]
    proba = model.predict_proba(far)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_array_equal(
        model.classes_[proba.argmax(axis=1)], model.predict(far)
    )
    positive = model.decision_function(far) > 0
    np.testing.assert_array_equal(positive, model.predict(far) == 1)
    confidence = proba[: len(X)].max(axis=1).mean()
    assert abs(confidence - model.score(X, y)) < 0.05


def test_rslvq_contributions_are_normalised_similarities(fitted):
    model, X, _ = fitted("rslvq")
    case = model.explain(X)
    shares = case.similarities / case.similarities.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        case.class_contributions.sum(axis=2), shares, rtol=1e-4, atol=1e-6
    )


def test_rslvq_with_one_prototype_per_class_predicts_the_nearest():
    model = RSLVQClassifier(1, random_state=0).fit(X_WINE, Y_WINE)
    nearest = model.explain(X_WINE).distances.argmin(axis=1)
    np.testing.assert_array_equal(
        model.predict(X_WINE), model.prototype_labels_[nearest]
    )


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_predictions_do_not_depend_on_shift_and_scale(scale):
    moved = GLVQClassifier(2, random_state=0).fit(scale * X_IRIS + scale, Y_IRIS)
    plain = GLVQClassifier(2, random_state=0).fit(X_IRIS, Y_IRIS)
    same = moved.predict(scale * X_IRIS + scale) == plain.predict(X_IRIS)
    assert same.mean() > 0.99


# Certificates


@every_model
@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_no_change_inside_the_radius_alters_the_class(name, norm, fitted):
    model, X, _ = fitted(name)
    X = X[::5]
    radius = model.certify(X, norm=norm, units="input")
    rng = np.random.RandomState(0)
    steps = rng.standard_normal((300, 1, X.shape[1]))
    steps[::2] = np.sign(steps[::2])
    steps /= np.linalg.norm(steps, ord=norm, axis=-1, keepdims=True)
    moved = X + 0.9999 * radius[:, None] * steps
    found = model.predict(moved.reshape(-1, X.shape[1])).reshape(300, -1)
    assert (found == model.predict(X)).all()


def test_certified_methods(fitted):
    model, X, y = fitted("gmlvq")
    bisector = model.certify(X, y)
    margin = model.certify(X, y, method="margin")
    assert (np.abs(bisector) >= np.abs(margin) - 1e-9).all()
    wrong = model.predict(X) != y
    assert (bisector[wrong] <= 0).all()
    sums = model.certify(X, norm=np.inf), model.certify(X, norm=np.inf, method="margin")
    assert (sums[0] >= sums[1] - 1e-9).all()
    shares = model.certified_accuracy(X, y, [0.0, 0.2, 0.5])
    assert (np.diff(shares) <= 0).all()
    local, *_ = fitted("lgmlvq")
    with pytest.raises(ValueError, match=r"method must be one of \('margin',\)"):
        local.certify(X, method="bisector")
    with pytest.raises(ValueError, match="norm must be a number of at least 1"):
        model.certify(X, norm=0.5)


# After training


def test_project_moves_prototypes_onto_rows_of_their_class():
    model = clone(MODELS["glvq"]).fit(X_WINE, Y_WINE)
    ids, other = model.prototype_ids_.copy(), np.arange(178)[::2]
    assert model.project(X_WINE[other], Y_WINE[other]) is model
    chosen = other[model.prototype_indices_]
    np.testing.assert_array_equal(model.prototypes_, X_WINE[chosen])
    np.testing.assert_array_equal(Y_WINE[chosen], model.prototype_labels_)
    np.testing.assert_array_equal(model.prototype_ids_, ids)
    assert (model.projection_distance_ == 0).all()
    assert model.projection_accuracy_.shape == (2,)
    assert model.projection_accuracy_[1] > 0.9
    case = model.explain(X_WINE[chosen])
    case.verify()
    assert case.distances[np.arange(6), np.arange(6)].max() < 1e-5


def test_project_refuses_what_it_cannot_do():
    model = clone(MODELS["glvq"]).fit(X_IRIS, Y_IRIS)
    before = model.prototypes_.copy()
    with pytest.raises(ValueError, match="it has none of \\[2\\]"):
        model.project(X_IRIS[:100], Y_IRIS[:100])
    with pytest.raises(ValueError, match="labels that were not seen in fit: \\[7\\]"):
        model.project(X_IRIS, np.where(Y_IRIS == 0, 7, Y_IRIS))
    np.testing.assert_array_equal(model.prototypes_, before)


@pytest.mark.parametrize("metric", ["euclidean", "relevance", "matrix", "local-matrix"])
def test_prune_without_wins_changes_no_training_decision(metric):
    extra = np.r_[X_IRIS[[0, 60, 120]], X_IRIS[[0, 60, 120]] + 50]
    model = GLVQClassifier(
        2, metric=metric, init=extra[[0, 3, 1, 4, 2, 5]], max_epochs=0
    )
    model.fit(X_IRIS, Y_IRIS)
    before = model.predict(X_IRIS)
    model.prune()
    assert model.prototype_ids_.tolist() == [0, 2, 4]
    assert model.prototype_labels_.tolist() == [0, 1, 2]
    assert len(model.prototypes_) == len(model.win_counts_) == 3
    np.testing.assert_array_equal(model.predict(X_IRIS), before)
    model.explain(X_IRIS[::30]).verify()
    model.prune(min_wins=1000)
    assert model.prototype_ids_.tolist() == [0, 2, 4]


def test_global_explanation_knows_relevances(fitted):
    for name in ("grlvq", "gmlvq", "lgmlvq"):
        model, X, _ = fitted(name)
        whole = model.explain_global()
        assert whole.relevances.sum() == pytest.approx(1)
        assert whole.effective_size.shape == (3,)
        assert whole.win_counts.sum() <= len(X)
        assert len(whole.relevance_frame()) == 4
    with pytest.raises(ValueError, match="transform_relevance needs"):
        fitted("lgmlvq")[0].transform_relevance(X_IRIS)
