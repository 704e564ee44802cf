import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris, load_wine, make_moons
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import train_test_split

from skproto.explanation import TreeExplanation, TreeGlobalExplanation
from skproto.trees import ProtoTreeClassifier

ROUTINGS = ("distributed", "greedy", "sample_max")
PAPER = {
    "similarity": "exp",
    "feature_weights": False,
    "leaf_update": "softmax",
    "init": "normal",
    "adjust_epochs": 0,
    "refit_passes": 0,
}


def brief(**parameters):
    return ProtoTreeClassifier(**{"max_epochs": 12, "random_state": 0, **parameters})


@pytest.fixture(scope="module")
def wine():
    return load_wine(return_X_y=True)


@pytest.fixture(scope="module")
def fitted(wine):
    return brief(max_epochs=30).fit(*wine)


# ------------------------------------------------------------ the model
@pytest.mark.parametrize(
    ("load", "soft"), [(load_wine, 0.92), (load_breast_cancer, 0.91), (load_iris, 0.9)]
)
def test_default_fit_of_raw_tables(load, soft):
    X, y = load(return_X_y=True)
    X, X_test, y, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=1
    )
    tree = ProtoTreeClassifier(random_state=1, max_epochs=40).fit(X, y)
    assert tree.score(X_test, y_test) >= soft
    greedy = tree.predict(X_test, routing="greedy")
    assert np.mean(greedy == tree.predict(X_test)) >= 0.93


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_paper_rule_on_raw_features_warns(load):
    X, y = load(return_X_y=True)
    model = brief(standardize=False, max_epochs=3, **PAPER)
    with pytest.warns(UserWarning, match="All training samples route left"):
        model.fit(X, y)
    assert len(np.unique(model.apply(X))) == 1


def test_paper_settings_on_two_features():
    X, y = make_moons(300, noise=0.1, random_state=0)
    model = ProtoTreeClassifier(5, max_epochs=40, random_state=0, **PAPER)
    model.fit(X, y)
    assert model.score(X, y) > 0.8
    assert_allclose(model.radii_, np.log(2))
    assert_allclose(model.feature_weights_, 1.0)
    model.explain(X[:20]).verify()


@pytest.mark.parametrize("leaf_passes", [None, 3])
def test_both_ways_to_renew_leaves(wine, leaf_passes):
    assert brief(leaf_passes=leaf_passes).fit(*wine).score(*wine) > 0.9


def test_phases_and_history(wine):
    model = brief(encoder="mlp", warmup_epochs=2, max_epochs=12).fit(*wine)
    assert (
        model.history_["phase"].tolist()
        == ["warm-up"] * 2 + ["joint"] * 7 + ["adjust"] * 3
    )
    assert model.n_iter_ == 12
    model.explain(wine[0][:5]).verify()


def test_without_projection_nothing_is_adjusted(wine):
    model = brief(project_prototypes=False).fit(*wine)
    assert set(model.history_["phase"]) == {"joint"}
    assert (model.projection_distance_ > 0).all()
    table = model.explain_global().prototypes
    assert not table.is_case.any()


def test_early_stopping_and_warm_start(wine):
    model = brief(early_stopping=True, warm_start=True).fit(*wine)
    smallest = model.leaf_distributions_.max(axis=1).min()
    ids = model.prune(smallest + 1e-9).prototype_ids_
    assert len(ids) < 2**model.depth_ - 1
    model.fit(*wine)
    assert len(model.history_) > 12
    assert set(model.prototype_ids_) <= set(ids)


# ------------------------------------------------------------ evidence
@pytest.mark.parametrize("routing", ROUTINGS)
def test_leaves_add_up_to_the_decision(fitted, wine, routing):
    X, _ = wine
    model = clone(fitted).set_params(routing=routing, max_epochs=8).fit(*wine)
    case = model.explain(X)
    assert isinstance(case, TreeExplanation)
    case.verify()
    assert_allclose(
        case.contributions.sum(axis=1) + case.bias,
        model.decision_function(X),
        rtol=1e-9,
        atol=1e-12,
    )
    assert_allclose(model.predict_proba(X), model.decision_function(X), rtol=1e-12)
    assert_array_equal(model.predict(X), case.prediction)


def test_two_classes_decide_by_the_difference():
    X, y = load_breast_cancer(return_X_y=True)
    model = brief(max_epochs=3).fit(X, y)
    scores = model.predict_proba(X)
    assert_allclose(model.decision_function(X), scores[:, 1] - scores[:, 0], atol=1e-12)
    case = model.explain(X[:50])
    assert_allclose(case.contributions.sum(axis=1), model.decision_function(X[:50]))


def test_routing_can_be_chosen_for_one_call(fitted, wine):
    X, _ = wine
    for routing in ROUTINGS:
        proba = fitted.predict_proba(X, routing=routing)
        assert_allclose(proba.sum(axis=1), 1.0)
        assert_array_equal(
            fitted.predict(X, routing=routing), fitted.classes_[proba.argmax(axis=1)]
        )
    hard = fitted.predict_proba(X, routing="greedy")
    leaves = fitted.tree_.leaf[fitted.apply(X)]
    assert_allclose(hard, fitted.leaf_distributions_[leaves])
    with pytest.raises(ValueError, match=r"routing must be None or one of .*'up'"):
        fitted.predict(X, routing="up")


def test_paths_lead_from_the_root_to_the_leaf(fitted, wine):
    X, _ = wine
    paths = fitted.decision_path(X)
    assert sp.issparse(paths)
    assert paths.shape == (len(X), len(fitted.tree_.leaf))
    assert set(np.unique(paths.toarray())) == {0, 1}
    assert (paths[:, [0]].toarray() == 1).all()
    assert (paths[np.arange(len(X)), fitted.apply(X)] == 1).all()
    present = fitted.transform(X) > 0.5
    tree = fitted.tree_
    node = np.zeros(len(X), dtype=int)
    for _ in range(fitted.get_depth()):
        inner = tree.children_left[node] >= 0
        goes = present[np.arange(len(X)), tree.prototype[node].clip(0)]
        child = np.where(goes, tree.children_right[node], tree.children_left[node])
        node = np.where(inner, child, node)
    assert_array_equal(node, fitted.apply(X))


def test_global_explanation_and_text(fitted):
    model = fitted.explain_global()
    assert isinstance(model, TreeGlobalExplanation)
    assert fitted.export_text() == model.to_text()
    assert len(fitted.export_text().splitlines()) == len(fitted.tree_.leaf)
    assert model.training_mass[0] == pytest.approx(1.0)
    assert model.coverage.sum() == pytest.approx(1.0)
    assert fitted.get_n_leaves() == len(fitted.prototypes_) + 1


def test_feature_names_and_units():
    frame, y = load_wine(return_X_y=True, as_frame=True)
    model = brief().fit(frame, y)
    case = model.explain(frame.iloc[[7, 3]])
    assert case.sample_index.tolist() == [7, 3]
    assert "like training row" in str(case)
    assert_allclose(model.prototypes_, frame.to_numpy()[model.prototype_indices_])


# ------------------------------------------------- projection and pruning
def test_projected_prototypes_are_rows_of_a_class_below(wine):
    X, y = wine
    model = brief(refit_passes=0, prune_threshold=0.0).fit(X, y)
    rows = model.prototype_indices_
    explanation = model.explain(X[rows])
    own = np.arange(len(rows))
    assert (explanation.node_distances[own, own] == 0).all()
    assert (model.transform(X)[rows, own] == 1).all()
    assert (model.projection_distance_ == 0).all()
    assert_array_equal(model.prototypes_, X[rows])
    sets = model.explain_global().class_sets
    inner = np.flatnonzero(model.tree_.prototype >= 0)
    for node, label in zip(inner, y[rows], strict=True):
        assert label in sets[node]


def test_rows_are_numbered_as_the_user_passed_them(wine):
    X, y = wine
    weight = np.ones(len(y))
    weight[::3] = 0
    model = brief().fit(X, y, sample_weight=weight)
    assert (weight[model.prototype_indices_] > 0).all()
    assert_array_equal(model.prototype_samples_, X[model.prototype_indices_])


def test_pruning_below_the_smallest_maximum_changes_nothing(wine):
    X, y = wine
    model = brief(prune_threshold=0.0).fit(X, y)
    smallest = model.leaf_distributions_.max(axis=1).min()
    before = model.predict_proba(X)
    model.prune(smallest - 1e-6)
    assert_array_equal(model.predict_proba(X), before)


def test_pruned_leaves_pass_the_threshold(wine):
    X, y = wine
    model = brief(prune_threshold=0.0, depth=4).fit(X, y)
    best = np.sort(model.leaf_distributions_.max(axis=1))
    ids = model.prototype_ids_
    model.prune(best[4] + 1e-9)
    assert (model.leaf_distributions_.max(axis=1) > best[4]).all()
    assert len(model.prototypes_) == model.get_n_leaves() - 1 < len(ids)
    assert set(model.prototype_ids_) < set(ids)
    assert_array_equal(model.prototype_samples_, X[model.prototype_indices_])
    model.explain(X).verify()
    assert model.transform(X).shape[1] == len(model.prototypes_)


def test_pruning_everything_keeps_the_best_leaf(wine):
    X, y = wine
    model = brief().fit(X, y)
    best = model.leaf_distributions_.max(axis=1).argmax()
    kept = model.leaf_distributions_[[best]]
    with pytest.warns(UserWarning, match="only the best leaf is kept"):
        model.prune(1.0)
    assert_allclose(model.leaf_distributions_, kept)
    assert model.get_depth() == 0
    assert model.transform(X).shape == (len(X), 0)
    model.explain(X[:3]).verify()
    assert len(model.export_text().splitlines()) == 1


def test_projection_and_refit_on_other_samples(wine):
    X, y = wine
    model = brief(project_prototypes=False, prune_threshold=0.0).fit(X, y)
    other, labels = X[::2], y[::2]
    assert model.project(other, labels) is model
    assert_array_equal(model.prototypes_, other[model.prototype_indices_])
    before = model.leaf_distributions_
    assert model.refit_leaves(other, labels) is model
    assert not np.allclose(model.leaf_distributions_, before)
    model.explain(X).verify()
    with pytest.warns(UserWarning, match="prototypes stay as they were"):
        model.project(X[:20], y[:20])
    assert (model.projection_distance_ > 0).any()
    with pytest.raises(ValueError, match="not seen in fit"):
        model.project(X, y + 7)


def test_refit_never_lowers_the_likelihood(wine):
    X, y = wine
    model = brief(refit_passes=0).fit(X, y)

    def loss():
        return -np.log(model.predict_proba(X)[np.arange(len(y)), y]).mean()

    before = loss()
    model.refit_leaves(X, y)
    assert loss() <= before + 1e-3


# ------------------------------------------------------------ invariants
def test_same_seed_same_bits(wine):
    X, y = wine
    torch_state = torch.random.get_rng_state()
    first, second = brief().fit(X, y), brief().fit(X, y)
    assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert_array_equal(first.prototypes_, second.prototypes_)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    other = brief(random_state=1).fit(X, y)
    assert not np.array_equal(first.predict_proba(X), other.predict_proba(X))


def test_pickle_keeps_the_bits(fitted, wine):
    X, _ = wine
    twin = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(twin.predict_proba(X), fitted.predict_proba(X))
    twin.prune(0.99)
    twin.explain(X[:5]).verify()
    again = pickle.loads(pickle.dumps(twin))
    assert_array_equal(again.predict_proba(X), twin.predict_proba(X))


def test_scale_of_features_does_not_matter(wine):
    X, y = wine
    scale = 2.0 ** np.arange(-6, 7)
    model, scaled = brief().fit(X, y), brief().fit(X * scale, y)
    assert_array_equal(model.predict(X), scaled.predict(X * scale))
    assert_allclose(scaled.prototypes_, model.prototypes_ * scale)


def test_sparse_rows_give_the_same_tree(wine):
    X, y = wine
    dense = brief(max_epochs=4, standardize=False).fit(X / X.max(axis=0), y)
    sparse = brief(max_epochs=4, standardize=False)
    sparse.fit(sp.csr_array(X / X.max(axis=0)), y)
    assert_allclose(
        sparse.predict_proba(sp.coo_array(X / X.max(axis=0))),
        dense.predict_proba(X / X.max(axis=0)),
        atol=1e-4,
    )


def test_tokens_of_an_encoder(wine):
    class Tokens(torch.nn.Module):
        def forward(self, x):
            return x[:, :12].reshape(-1, 3, 4)

    X, y = wine
    model = brief(encoder=Tokens()).fit(X, y)
    assert model.prototypes_.shape[1] == 4
    assert set(np.unique(model.prototype_sites_)) <= {0, 1, 2}
    assert (model.projection_distance_ == 0).all()
    own = np.arange(len(model.prototypes_))
    assert (model.transform(X)[model.prototype_indices_, own] == 1).all()
    model.explain(X).verify()


# ------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    "parameters",
    [
        {"depth": 0},
        {"depth": 2.5},
        {"routing": "up"},
        {"similarity": "cosine"},
        {"sharpness": 0},
        {"leaf_update": "sgd"},
        {"leaf_passes": 0},
        {"prune_threshold": 1.5},
        {"adjust_epochs": -1},
        {"refit_passes": -1},
        {"init": "kmeans"},
        {"solver": "lbfgs"},
        {"encoder_lr": 0},
        {"warmup_epochs": -1},
        {"feature_weights": "yes"},
        {"batch_size": "all"},
    ],
)
def test_invalid_parameters_are_named(wine, parameters):
    (name,) = parameters
    with pytest.raises(ValueError, match=f"The '{name}' parameter"):
        brief(**parameters).fit(*wine)


def test_depth_beyond_memory_is_refused(wine):
    with (
        pytest.warns(UserWarning, match="more than the 178 different"),
        pytest.raises(ValueError, match="'depth' parameter must be at most"),
    ):
        brief(depth=40).fit(*wine)


def test_more_prototypes_than_samples_warn():
    X, y = load_iris(return_X_y=True)
    with pytest.warns(UserWarning, match="has 31 prototypes, more than the 20"):
        model = brief(depth=5, max_epochs=2).fit(X[::7][:20], y[::7][:20])
    model.explain(X[:5]).verify()


def test_automatic_depth_fits_few_samples():
    X = np.array([[0.0], [1.0], [5.0], [6.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = brief().fit(X, ["a", "a", "b", "b"])
    assert model.depth_ == 2
    assert model.predict(X).tolist() == ["a", "a", "b", "b"]


@pytest.mark.parametrize("method", ["predict", "apply", "decision_path", "explain"])
def test_unfitted(method):
    with pytest.raises(NotFittedError):
        getattr(ProtoTreeClassifier(), method)([[0.0]])
    for operation in ("get_depth", "get_n_leaves", "export_text", "prune"):
        with pytest.raises(NotFittedError):
            getattr(ProtoTreeClassifier(), operation)()


@pytest.mark.parametrize(
    ("X", "y"),
    [
        ([[0.0], [1.0]], [0, 0]),
        ([[0.0], [np.nan]], [0, 1]),
        ([[0.0]], [0]),
        ([[[0.0]], [[1.0]]], [0, 1]),
    ],
)
def test_unusable_data(X, y):
    with pytest.raises(ValueError):  # noqa: PT011
        brief().fit(X, y)


def test_duplicates_with_different_labels():
    X = np.repeat([[0.0, 1.0], [3.0, 4.0]], 10, axis=0)
    y = np.tile([0, 1], 10)
    model = brief().fit(X, y)
    assert_allclose(model.predict_proba(X), 0.5, atol=0.1)
