"""Constraints, guards, undo and the log of edits, by one model or by hand."""

import copy
import json
import pickle

import numpy as np
import pytest

import skproto
from skproto._editing import Ball, Cap, family_of, settle
from skproto.operations import (
    EditRejected,
    EditReport,
    edit,
    find_prototypes,
    replay,
)
from skproto.shallow import CBCClassifier, GLVQClassifier, RBFClassifier

from .families import by_name

CASE = by_name("rbf")
X, y = CASE.X, CASE.y


@pytest.fixture
def model():
    return copy.deepcopy(CASE.model)


def accuracy(estimator):
    return estimator.score(X, y)


# -- certainty -------------------------------------------------------------------------


def test_cap_by_hand():
    cap = Cap.from_certainty(np.array([3.0, 0.0]), np.array([0.0, 2.0]), 0.6)
    p = cap.project(np.array([0.0, 2.0]))
    np.testing.assert_allclose(p, [1.2, 1.6], rtol=0, atol=1e-12)
    assert cap.reached(p) == pytest.approx(0.6, abs=1e-12)
    inside = np.array([5.0, 1.0])
    assert cap.project(inside) is inside
    opposite = cap.project(np.array([-2.0, 0.0]))
    assert cap.reached(opposite) >= 0.6 - 1e-12
    assert np.linalg.norm(opposite) == pytest.approx(2.0)


def test_ball_by_hand():
    ball = Ball.from_certainty(np.array([4.0, 3.0]), np.zeros(2), 0.8)
    p = ball.project(np.zeros(2))
    np.testing.assert_allclose(p, [3.2, 2.4], rtol=0, atol=1e-12)
    assert np.linalg.norm(p - ball.center) == pytest.approx(1.0)
    assert ball.reached(p) == pytest.approx(0.8)
    assert ball.reached(ball.center) == 1.0


@pytest.mark.parametrize("kind", [Ball, Cap])
@pytest.mark.parametrize("certainty", [0.0, 0.5, 0.999, 1.0])
def test_rounding_does_not_break_a_constraint(kind, certainty):
    rng = np.random.RandomState(0)
    for _ in range(20):
        center, point = rng.standard_normal((2, 7)) * 10.0 ** rng.randint(-3, 4)
        limit = kind.from_certainty(center, point, certainty)
        p = settle(limit, point.astype(np.float32))
        assert p.dtype == np.float32
        assert limit.reached(p.astype(np.float64)) >= certainty - 1e-6


# -- checks ----------------------------------------------------------------------------


def test_guard_rejects_and_leaves_no_trace(model):
    before = model.predict_proba(X)
    with pytest.raises(EditRejected, match="guard") as caught:
        model.reweight_prototypes(
            0, -50.0, X=X, y=y, guard={"min_accuracy_change": -0.01}
        )
    assert isinstance(caught.value.report, EditReport)
    assert caught.value.report.accuracy[1] < caught.value.report.accuracy[0]
    np.testing.assert_array_equal(model.predict_proba(X), before)
    assert model.edit_log_ == []
    model.reweight_prototypes(0, 1.0, X=X, y=y, guard={"max_changed": 1.0})
    with pytest.raises(ValueError, match="guard may have"):
        model.lock_prototypes(0, X=X, y=y, guard={"min_luck": 0})
    with pytest.raises(ValueError, match="guard needs samples"):
        model.lock_prototypes(0, guard={"max_changed": 0})


def test_report_on_an_evaluation_set(model):
    report = model.remove_prototypes(
        [0, 1], X=X, y=y, eval_set=(X[:9], y[:9]), dry_run=True, allow_empty_class=True
    )
    assert report.judged_on == "eval_set"
    assert report.n_samples == 9
    assert report.ids_after == [2, 3, 4, 5]
    assert list(report.recall[0]) == sorted(set(y[:9]))
    assert set(json.loads(json.dumps(report.to_dict()))) >= {"accuracy", "changed"}
    assert model.edit_log_ == []


def test_report_says_what_a_free_refit_would_do(model):
    # A sample of one class that is called another: a free refit argues against it.
    stranger = X[y == "virginica"][0]
    model.add_prototypes(stranger, "setosa", X=X, y=y)
    report = model.edit_log_[-1]["report"]
    key = model.edit_log_[-1]["created"][0]
    column = family_of(model).columns()[-1]
    assert column.argmax() == 0
    free = report["free_repair"]["columns"][str(key)]
    assert int(np.argmax(free)) != 0
    assert report["free_repair"]["turned_around"] == [key]
    loose = edit(
        CASE.model, "add", items=stranger, label="setosa", X=X, y=y, respect_label=False
    )
    np.testing.assert_allclose(family_of(loose).columns()[-1], free, rtol=1e-4)


def test_duplicates_are_noticed(model):
    item = X[7]
    model.add_prototypes([item, item], "setosa")
    assert model.edit_log_[-1]["report"]["duplicates"]
    model.add_prototypes(item, "setosa")
    assert "duplicates prototype" in model.edit_log_[-1]["report"]["notes"][0]
    assert len(find_prototypes(model, rule="duplicate")) >= 2


# -- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.remove_prototypes([0, 1]), "last prototype of the classes"),
        (lambda m: m.remove_prototypes(m.prototype_ids_), "at least one prototype"),
        (lambda m: m.remove_prototypes([0, 0]), "must differ"),
        (lambda m: m.remove_prototypes("a"), "ids must be an int"),
        (lambda m: m.remove_prototypes(0, repair="head"), "needs data"),
        (lambda m: m.remove_prototypes(0, repair="hed"), "repair must be one of"),
        (lambda m: m.remove_prototypes(0, X=X), "y must be given with X"),
        (lambda m: m.merge_prototypes([0, 2]), "of one class"),
        (lambda m: m.merge_prototypes([0]), "at least 2"),
        (lambda m: m.soft_replace_prototypes(0, X[0], 1.5), "certainty must be"),
        (lambda m: m.reinit_prototypes(0), "needs training data"),
        (lambda m: m.reinit_prototypes(0, how="best", X=X, y=y), "how must be"),
        (lambda m: m.snap_prototypes(), "needs training data"),
        (lambda m: m.add_prototypes(X[0], None), "needs the label"),
        (lambda m: m.add_prototypes(X[0, :3], "setosa"), "features"),
        (lambda m: m.add_prototypes([[np.nan] * 4], "setosa"), "NaN"),
        (lambda m: m.replace_prototypes([0, 1, 2], X[:2]), "items must be one"),
        (lambda m: m.reweight_prototypes(0, [np.inf] * 3), "must be finite"),
        (lambda m: m.forbid(), "either features or a region"),
        (lambda m: m.forbid(features=[9]), "features must be"),
        (lambda m: m.forbid(features="width"), "features must be among"),
        (lambda m: m.forbid(features=range(4)), "at least one feature"),
        (lambda m: m.forbid(region=(0, 0, 1, 1)), "region is for images"),
        (lambda m: m.undo(), "edits to undo"),
        (lambda m: m.redo(), "edits to redo"),
        (lambda m: m.revert(4), "seq must be one of"),
        (lambda m: m.lock_prototypes(0, min_weight=-1), "min_weight must be"),
        (lambda m: m.lock_prototypes(0, keep_snapshots="few"), "keep_snapshots must"),
    ],
)
def test_what_is_wrong_is_said(model, call, message):
    before = model.predict_proba(X)
    with pytest.raises(ValueError, match=message):
        call(model)
    np.testing.assert_array_equal(model.predict_proba(X), before)
    assert model.edit_log_ == []


def test_unknown_arguments(model):
    with pytest.raises(TypeError, match="remove has no argument"):
        model.remove_prototypes(0, certainty=1)
    with pytest.raises(ValueError, match="op must be one of"):
        edit(model, "explode", 0)


# -- undo, revert, replay --------------------------------------------------------------


def test_undo_of_several_and_new_edit_clears_redo(model):
    first = model.predict_proba(X)
    model.remove_prototypes(0).add_prototypes(X[3], "setosa").lock_prototypes(1)
    model.undo(3)
    np.testing.assert_array_equal(model.predict_proba(X), first)
    model.redo(2)
    assert [entry["op"] for entry in model.edit_log_] == ["remove", "add"]
    model.unlock_prototypes()
    with pytest.raises(ValueError, match="edits to redo"):
        model.redo()
    numbers = [entry["seq"] for entry in model.edit_log_]
    assert numbers == sorted(set(numbers))


def test_revert_takes_one_edit_out_of_the_middle(model):
    other = copy.deepcopy(model)
    model.remove_prototypes(0, X=X, y=y).replace_prototypes(3, X[20], X=X, y=y)
    model.lock_prototypes(2)
    with pytest.raises(ValueError, match="give X and y"):
        model.revert(0)
    assert len(model.edit_log_) == 3
    model.revert(0, X, y)
    other.replace_prototypes(3, X[20], X=X, y=y).lock_prototypes(2)
    np.testing.assert_array_equal(model.predict_proba(X), other.predict_proba(X))
    assert [entry["op"] for entry in model.edit_log_] == ["replace", "lock"]


def test_revert_refuses_what_later_edits_are_about(model):
    model.add_prototypes(X[3], "setosa")
    key = model.edit_log_[-1]["created"][0]
    model.lock_prototypes(key)
    with pytest.raises(ValueError, match="which edit 0 created"):
        model.revert(0)
    model.revert(1).revert(0)
    assert model.edit_log_ == []


def test_undo_refuses_after_changes_that_are_not_logged(model):
    model.remove_prototypes(0)
    model.prune(threshold=0.5) if len(model.prototypes_) > 2 else None
    model.project(X, y)
    with pytest.raises(ValueError, match="not in edit_log_"):
        model.undo()


def test_bounded_snapshots(model):
    model.lock_prototypes(0).unlock_prototypes(0, keep_snapshots="last")
    assert len(model.edit_snapshots_) == 1
    model.undo()
    with pytest.raises(ValueError, match="no snapshot of edit 0"):
        model.undo()
    assert len(model.edit_log_) == 1


def test_replay_on_a_new_fit(model):
    model.remove_prototypes(4, X=X, y=y)
    model.add_prototypes(X[40], "versicolor", X=X, y=y)
    model.reinit_prototypes(0, how="random", X=X, y=y, random_state=5)
    model.simplify_prototypes(1, np.round, min_similarity=0.0)
    again = replay(CASE.make().fit(X, y), json.loads(json.dumps(model.edit_log_)), X, y)
    assert again.edit_log_[-1]["hash_after"] == model.edit_log_[-1]["hash_after"]
    with pytest.raises(ValueError, match="other data"):
        replay(CASE.make().fit(X, y), model.edit_log_, X[1:], y[1:])


def test_fit_forgets_and_set_params_warns(model):
    model.remove_prototypes(0)
    with pytest.warns(UserWarning, match="drops the 1 edits"):
        model.set_params(alpha=0.1)
    model.fit(X, y)
    assert model.edit_log_ == model.edit_snapshots_ == []
    assert model.prototype_ids_.tolist() == list(range(6))
    model.set_params(alpha=0.2)


@pytest.mark.parametrize("how", ["pickle", "skops"])
def test_saved_estimators_keep_the_record(model, how, tmp_path):
    model.remove_prototypes(0, X=X, y=y).soft_replace_prototypes(3, X[30], 0.5)
    model.forbid(features=[0]).undo()
    if how == "pickle":
        again = pickle.loads(pickle.dumps(model))
    else:
        pytest.importorskip("skops", reason="skops is an optional dependency")
        skproto.persistence.save(model, tmp_path / "model.skops")
        again = skproto.persistence.load(tmp_path / "model.skops")
    assert again.edit_log_ == model.edit_log_
    again.redo()
    assert [entry["op"] for entry in again.edit_log_][-1] == "forbid"
    again.undo(3)
    np.testing.assert_array_equal(again.predict_proba(X), CASE.model.predict_proba(X))


# -- items, locks, weights -------------------------------------------------------------


def test_items_as_codes_and_as_samples_weigh_in(model):
    code = np.zeros(4)
    model.add_prototypes(code, "setosa", latent=True, X=X, y=y)
    np.testing.assert_allclose(model.prototypes_[-1], model.center_, rtol=1e-6)
    assert model.prototype_indices_[-1] >= 0
    assert model.projection_distance_[-1] > 0
    with pytest.raises(ValueError, match="need X and y"):
        model.add_prototypes(code, "setosa", latent=True)
    plain = edit(CASE.model, "add", items=X[3], label="virginica", X=X, y=y)
    heavy = edit(
        CASE.model, "add", items=X[3], label="virginica", X=X, y=y, item_weight=9.0
    )
    more = heavy.predict_proba(X[3:4])[0, 2] - plain.predict_proba(X[3:4])[0, 2]
    assert more > 0.01


def test_explanations_say_that_a_case_was_given(model):
    model.add_prototypes(X[7], "setosa", weight=30.0)
    text = str(model.explain(X[7:8]))
    assert "like the row given by the user as prototype 6 (setosa)" in text
    assert "training row -1" not in text
    assert "given by the user" in str(model.explain_global())


def test_frames_and_series_are_items():
    import pandas as pd

    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    model = CASE.make().fit(frame, y)
    model.add_prototypes(frame.iloc[3], "setosa").add_prototypes(
        frame.iloc[[4, 5]], ["setosa", "virginica"]
    )
    assert model.prototype_labels_[-3:].tolist() == ["setosa", "setosa", "virginica"]
    np.testing.assert_array_equal(model.prototypes_[-3:], X[3:6])
    model.forbid(features=["b"], on_fit=True)
    assert model.explain_global().prototypes.weights[:, 1].max() == 0
    shuffled = frame[["d", "b", "a", "c"]]
    model.fit(shuffled, y)
    changed = shuffled.assign(b=1e3)
    np.testing.assert_array_equal(
        model.predict_proba(changed), model.predict_proba(shuffled)
    )


def test_sparse_tables_are_edited():
    import scipy.sparse as sp

    sparse = sp.csr_array(X)
    model = GLVQClassifier(2, max_epochs=5, random_state=0).fit(sparse, y)
    model.replace_prototypes(0, sparse[[3]], X=sparse, y=y).forbid(features=[2])
    np.testing.assert_array_equal(model.prototype_samples_[0], X[3])
    changed = X.copy()
    changed[:, 2] = 77.0
    np.testing.assert_array_equal(
        model.predict_proba(sp.csr_array(changed)), model.predict_proba(sparse)
    )
    model.explain(sparse[:3]).verify()


def test_merge_adds_weights_of_different_prototypes(model):
    weights = model.coef_[:2].sum(axis=0)
    model.merge_prototypes([0, 1], repair="none")
    kept = model.edit_log_[-1]["touched"][0]
    position = int(np.flatnonzero(model.prototype_ids_ == kept)[0])
    np.testing.assert_allclose(model.coef_[position], weights, rtol=1e-6)


def test_locked_columns_of_reasoning_keep_their_probabilities():
    model = CBCClassifier(2, max_epochs=8, random_state=0).fit(X, y)
    before = model.reasoning_positive_[0].copy()
    model.lock_prototypes(0).finetune_prototypes(1, X=X, y=y, repair_steps=5)
    np.testing.assert_allclose(model.reasoning_positive_[0], before, rtol=1e-4)
    total = model.reasoning_positive_ + model.reasoning_negative_
    np.testing.assert_allclose(total.sum(axis=0), 1.0, rtol=1e-5)
    model.unlock_prototypes(0).reweight_prototypes(0, 0.25)
    np.testing.assert_allclose(model.reasoning_positive_[0].max(), 0.25, rtol=1e-4)
    assert model.prototype_locked_[0]


def test_class_without_prototypes_is_never_predicted():
    model = GLVQClassifier(1, max_epochs=8, random_state=0).fit(X, y)
    model.remove_prototypes(1, allow_empty_class=True)
    assert set(model.predict(X)) == {"setosa", "virginica"}
    model.explain(X[:5]).verify()


def test_repair_mends_what_removal_breaks():
    model = RBFClassifier(4, random_state=0).fit(X, y)
    broken = edit(model, "remove", [0, 4, 5, 8])
    mended = edit(model, "remove", [0, 4, 5, 8], X=X, y=y)
    assert mended.edit_log_[-1]["report"]["head_converged"]
    assert accuracy(mended) >= accuracy(broken)
    assert accuracy(mended) >= accuracy(model) - 0.05


def test_finding_prototypes(model):
    np.testing.assert_array_equal(
        find_prototypes(model, near=model.prototypes_[[3, 1]]), [3, 1]
    )
    assert find_prototypes(model, label="versicolor") == [2, 3]
    assert find_prototypes(model, rule=lambda m: [4], label="versicolor") == []
    assert find_prototypes(model, near=X[0], label="virginica")[0] in (4, 5)
    assert find_prototypes(model, near=np.zeros(4), latent=True)
    model.reweight_prototypes(5, 0.0)
    assert find_prototypes(model, rule="dead") == [5]
    assert find_prototypes(model, rule="learned") == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="rule must be"):
        find_prototypes(model, rule="ugly")


def test_the_last_report_is_at_hand(model):
    assert model.edit_report_ is None
    model.remove_prototypes(0, X=X, y=y)
    report = model.edit_report_
    assert report.to_dict() == model.edit_log_[-1]["report"]
    assert report.accuracy[0] == pytest.approx(accuracy(CASE.model))


def test_a_forbidden_feature_has_no_relevance(model):
    model.forbid(features=[3], X=X, y=y)
    assert model.relevances_[3] < 1e-9
    assert model.relevances_.sum() == pytest.approx(1.0, rel=1e-5)
    kept = edit(CASE.model, "forbid", features=[3], on_fit=True).fit(X, y)
    assert kept.relevances_[3] < 1e-9
    with pytest.warns(UserWarning, match="fit forgets"):
        model.fit(X, y)
    assert model.relevances_[3] > 1e-3


def test_repairs_weigh_classes_as_the_fit_does():
    many = np.concatenate([np.flatnonzero(y != "virginica"), [49]])
    settings = {"n_prototypes_per_class": 1, "max_epochs": 5, "random_state": 0}
    plain = RBFClassifier(**settings).fit(X[many], y[many])
    balanced = RBFClassifier(**settings, class_weight="balanced").fit(X[many], y[many])
    given = RBFClassifier(
        **settings, class_weight={"setosa": 1.0, "versicolor": 1.0, "virginica": 17.0}
    ).fit(X[many], y[many])
    weights = [
        family_of(m).labelled(X[many], y[many], None)[1]
        for m in (plain, balanced, given)
    ]
    rare = [data.weight[data.y == 2].sum() / data.weight.sum() for data in weights]
    np.testing.assert_allclose(rare[1:], [1 / 3, 17 / 50], rtol=0.05)
    assert rare[0] < 0.05
