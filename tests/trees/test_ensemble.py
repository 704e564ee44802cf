import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_breast_cancer, load_wine

from skproto.explanation import EnsembleExplanation, EnsembleGlobalExplanation
from skproto.trees import ProtoTreeClassifier, ProtoTreeEnsembleClassifier
from skproto.utils._sklearn import HAS_CALLBACKS

TREE = ProtoTreeClassifier(max_epochs=12)


@pytest.fixture(scope="module")
def wine():
    return load_wine(return_X_y=True, as_frame=True)


@pytest.fixture(scope="module")
def forest(wine):
    model = ProtoTreeEnsembleClassifier(
        TREE, 3, bootstrap=True, oob_score=True, random_state=0
    )
    return model.fit(*wine)


def test_accuracy_and_out_of_bag_score(forest, wine):
    X, y = wine
    assert forest.score(X, y) > 0.95
    assert forest.oob_score_ > 0.85
    proba = forest.oob_decision_function_
    scored = ~np.isnan(proba).any(axis=1)
    assert 0.5 < scored.mean() <= 1
    assert_allclose(proba[scored].sum(axis=1), 1.0)
    right = proba[scored].argmax(axis=1) == y[scored]
    assert forest.oob_score_ == pytest.approx(right.mean())


def test_scores_are_the_mean_of_the_trees(forest, wine):
    X, _ = wine
    trees = [tree.predict_proba(X) for tree in forest.estimators_]
    assert_allclose(forest.predict_proba(X), np.mean(trees, axis=0))


def test_evidence_of_all_leaves(forest, wine):
    X, _ = wine
    case = forest.explain(X)
    assert isinstance(case, EnsembleExplanation)
    case.verify()
    assert case.class_contributions.shape[1] == sum(
        tree.get_n_leaves() for tree in forest.estimators_
    )
    assert_allclose(
        case.contributions.sum(axis=1) + case.bias,
        forest.decision_function(X),
        rtol=1e-9,
        atol=1e-12,
    )
    assert case.trees[0].prototypes.feature_names[0] == "alcohol"
    assert "trees favour" in str(case[0])


def test_two_classes():
    X, y = load_breast_cancer(return_X_y=True)
    tree = ProtoTreeClassifier(max_epochs=3)
    model = ProtoTreeEnsembleClassifier(tree, 2, random_state=0).fit(X, y)
    case = model.explain(X[:30])
    case.verify()
    assert_allclose(case.contributions.sum(axis=1), model.decision_function(X[:30]))


def test_prototypes_of_all_trees(forest, wine):
    X, _ = wine
    n_prototypes = sum(len(tree.prototypes_) for tree in forest.estimators_)
    assert forest.transform(X).shape == (len(X), n_prototypes)
    assert len(forest.get_feature_names_out()) == n_prototypes
    assert len(set(forest.prototype_ids_)) == n_prototypes
    assert_array_equal(forest.prototypes_, X.to_numpy()[forest.prototype_indices_])
    assert set(forest.prototype_trees_) == {0, 1, 2}
    model = forest.explain_global()
    assert isinstance(model, EnsembleGlobalExplanation)
    assert model.to_text().count("tree ") >= 3


def test_the_same_bits_for_any_number_of_jobs(forest, wine):
    X, y = wine
    twin = ProtoTreeEnsembleClassifier(
        TREE, 3, bootstrap=True, oob_score=True, n_jobs=2, random_state=0
    ).fit(X, y)
    assert_array_equal(twin.predict_proba(X), forest.predict_proba(X))
    assert_array_equal(twin.oob_decision_function_, forest.oob_decision_function_)


def test_one_tree_without_bootstrap_is_the_tree(wine):
    X, y = wine
    one = ProtoTreeEnsembleClassifier(TREE, 1, random_state=3)
    tree = ProtoTreeClassifier(max_epochs=12, random_state=3).fit(X, y)
    one.fit(X, y)
    assert_array_equal(one.predict_proba(X), tree.predict_proba(X))
    assert_array_equal(one.prototypes_, tree.prototypes_)


def test_trees_differ_and_the_template_stays_unfitted(forest):
    first, second = forest.estimators_[:2]
    assert first.random_state != second.random_state
    assert not hasattr(TREE, "net_")


@pytest.mark.parametrize("bootstrap", [False, True])
def test_weights_of_zero_are_absent(wine, bootstrap):
    X, y = wine
    weight = np.where(np.arange(len(y)) % 4 == 0, 0.0, 1.0)
    model = ProtoTreeEnsembleClassifier(TREE, 2, bootstrap=bootstrap, random_state=0)
    model.fit(X, y, sample_weight=weight)
    assert (weight[model.prototype_indices_] > 0).all()
    assert_array_equal(model.prototype_samples_, X.to_numpy()[model.prototype_indices_])
    kept = ProtoTreeEnsembleClassifier(TREE, 2, bootstrap=bootstrap, random_state=0)
    kept.fit(X[weight > 0], y[weight > 0])
    assert_array_equal(kept.predict_proba(X), model.predict_proba(X))


def test_every_class_is_in_every_tree():
    X = np.arange(40.0)[:, None]
    y = np.r_[np.zeros(38), 1, 2]
    model = ProtoTreeEnsembleClassifier(TREE, 4, bootstrap=True, random_state=0).fit(
        X, y
    )
    assert all(len(tree.classes_) == 3 for tree in model.estimators_)


def test_pickle_and_output_frames(forest, wine):
    X, _ = wine
    twin = pickle.loads(pickle.dumps(forest))
    assert_array_equal(twin.predict_proba(X), forest.predict_proba(X))
    frame = twin.set_output(transform="pandas").transform(X)
    assert list(frame.columns) == list(forest.get_feature_names_out())


@pytest.mark.skipif(not HAS_CALLBACKS, reason="scikit-learn < 1.9 has no callbacks")
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_callbacks_reach_the_trees(wine, n_jobs, capsys):
    pytest.importorskip("rich", reason="the progress bar needs rich")
    from sklearn.callback import ProgressBar

    tree = ProtoTreeClassifier(depth=1, max_epochs=2)
    model = ProtoTreeEnsembleClassifier(tree, 2, n_jobs=n_jobs, random_state=0)
    model.set_callbacks(ProgressBar()).fit(*wine)
    assert capsys.readouterr().out.count("ProtoTreeClassifier - fit") == 2
    assert len(model.estimators_) == 2


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"estimator": "tree"}, "'estimator' parameter"),
        ({"n_estimators": 0}, "'n_estimators' parameter"),
        ({"bootstrap": False, "oob_score": True}, "oob_score=True needs bootstrap"),
        ({"n_jobs": 1.5}, "'n_jobs' parameter"),
    ],
)
def test_invalid_parameters_are_named(wine, parameters, message):
    with pytest.raises(ValueError, match=message):
        ProtoTreeEnsembleClassifier(**parameters).fit(*wine)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="at least 2 classes"):
        ProtoTreeEnsembleClassifier(TREE).fit([[0.0], [1.0]], [1, 1])
