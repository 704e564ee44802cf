"""Every operation on every family: it works, exactly, or says that it cannot."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch

from skproto._editing import OPERATIONS, apply_edit, family_of, state_hash
from skproto.operations import EditNotSupported, edit, replay

from .families import CASES, arguments_of

BY_NAME = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def do(case, model, op, *, with_data=True, **settings):
    """Do an operation with arguments that suit the case, in place."""
    ids, arguments = arguments_of(case, model, op)
    if with_data:
        settings = {"X": case.X, "y": case.y, **case.settings, **settings}
    return apply_edit(model, op, ids, **arguments, **settings)


def allowed(case, op):
    if op in case.refused:
        pytest.skip(f"{op} means nothing here, which another test checks")


def check_contract(case, model):
    """Check that what is shown is what is computed, and that all shapes agree."""
    X = case.X[:12]
    explanation = model.explain(X)
    explanation.verify()
    decision = model.decision_function(X)
    found = explanation.contributions.sum(axis=1) + explanation.bias
    np.testing.assert_allclose(found, decision, rtol=1e-5, atol=1e-5)
    probabilities = model.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    n_prototypes = len(model.prototype_ids_)
    assert len(np.unique(model.prototype_ids_)) == n_prototypes
    assert model.transform(X).shape == (len(X), n_prototypes)
    for name in ("prototypes_", "prototype_labels_", "prototype_indices_"):
        assert len(getattr(model, name)) == n_prototypes
    assert len(model.projection_distance_) == len(model.win_counts_) == n_prototypes
    assert np.isin(model.prototype_labels_, model.classes_).all()
    assert (np.asarray(model.projection_distance_) >= 0).all()
    model.explain_global().to_frame()
    str(explanation)


def same_bits(a, b, X):
    np.testing.assert_array_equal(a.predict_proba(X), b.predict_proba(X))
    np.testing.assert_array_equal(a.prototype_ids_, b.prototype_ids_)
    np.testing.assert_array_equal(a.prototype_labels_, b.prototype_labels_)


def exact_scores(model, X):
    """Scores and activations in float64."""
    module = copy.deepcopy(model._module).double().eval()
    scaled = model._scaling.apply(model._check_input(X)[:]).astype(np.float64)
    with torch.no_grad():
        outputs = module(torch.from_numpy(scaled))
    return outputs["scores"].numpy(), outputs["activations"].numpy()


@pytest.mark.parametrize("op", OPERATIONS)
@BY_NAME
def test_every_operation(case, op):
    model = copy.deepcopy(case.model)
    if op in case.refused:
        with pytest.raises(EditNotSupported) as caught:
            do(case, model, op)
        assert caught.value.operation == op
        assert type(model).__name__ in str(caught.value)
        assert model.edit_log_ == []
        return
    report = do(case, model, op, note="a test")
    check_contract(case, model)
    entry = model.edit_log_[-1]
    assert json.loads(json.dumps(model.edit_log_, allow_nan=False)) == model.edit_log_
    assert entry["op"] == op
    assert entry["ids_after"] == model.prototype_ids_.tolist()
    assert report.n_samples == len(case.y)
    assert str(report).startswith(op)
    again = pickle.loads(pickle.dumps(model))
    edited = copy.deepcopy(model)
    for other in (model, again):
        same_bits(other.undo(), case.model, case.X)
        assert other.edit_log_ == []
        same_bits(other.redo(), edited, case.X)
    hashed = state_hash(family_of(model).get_state())
    assert hashed == entry["hash_after"] != ""
    assert len(model.edit_snapshots_) == 1


@pytest.mark.parametrize("op", ["remove", "add"])
@BY_NAME
def test_without_data_nothing_is_repaired(case, op):
    allowed(case, op)
    model = copy.deepcopy(case.model)
    report = do(case, model, op, with_data=False)
    assert report.repair == "none"
    assert np.isnan(report.changed)
    check_contract(case, model)
    same_bits(model.undo(), case.model, case.X)


@BY_NAME
def test_dry_run_changes_nothing(case):
    model = copy.deepcopy(case.model)
    before = dict(vars(model))
    report = do(case, model, "remove", dry_run=True)
    assert len(report.ids_after) < len(report.ids_before)
    assert vars(model) == before or all(vars(model)[k] is before[k] for k in before)
    same_bits(model, case.model, case.X)


@BY_NAME
def test_failure_changes_nothing(case):
    model = copy.deepcopy(case.model)
    with pytest.raises(ValueError, match="must be among prototype_ids_"):
        model.remove_prototypes([9999])
    with pytest.raises(ValueError, match="label must be one of"):
        model.relabel_prototypes(int(model.prototype_ids_[0]), "no class")
    assert model.edit_log_ == []
    same_bits(model, case.model, case.X)


@BY_NAME
def test_ids_are_never_used_again(case):
    model = copy.deepcopy(case.model)
    last = int(model.prototype_ids_.max())
    if {"add", "remove"} & case.refused:
        model.remove_prototypes(last)
        assert last not in model.prototype_ids_
        return
    _, arguments = arguments_of(case, model, "add")
    new = set()
    for _ in range(2):
        model.add_prototypes(**arguments)
        newest = model.edit_log_[-1]["created"][0]
        assert newest > last
        assert newest not in new
        new.add(newest)
        model.remove_prototypes(newest, allow_empty_class=True)
    check_contract(case, model)


@BY_NAME
def test_lock_holds_in_every_repair(case):
    model = copy.deepcopy(case.model)
    locked = [int(i) for i in model.prototype_ids_[[0, -1]]]
    model.lock_prototypes(locked)
    np.testing.assert_array_equal(
        model.prototype_ids_[model.prototype_locked_], sorted(locked)
    )
    family = family_of(model)
    places, columns = family.locations(), family.columns()
    free = [int(i) for i in model.prototype_ids_[1:-1]][:1]
    moves = "finetune" not in case.refused
    for repair in ("head", "prototypes", "all") if moves else ("head", "all"):
        settings = {"X": case.X, "y": case.y, "repair": repair, **case.settings}
        apply_edit(model, "finetune" if moves else "unlock", free, **settings)
        family = family_of(model)
        for row in (0, -1):
            assert family.locations()[row].tobytes() == places[row].tobytes()
            assert family.columns()[row].tobytes() == columns[row].tobytes()
        assert model.edit_log_[-1]["comparable"] == (repair != "all")
    for op in ("remove", "finetune") if moves else ("remove",):
        with pytest.raises(ValueError, match="must not be locked"):
            edit(model, op, locked[0], X=case.X, y=case.y)
    check_contract(case, model)


@BY_NAME
def test_only_what_is_named_moves(case):
    allowed(case, "finetune")
    model = copy.deepcopy(case.model)
    before = family_of(model).locations()
    settings = {"X": case.X, "y": case.y, "repair": "prototypes", **case.settings}
    model.finetune_prototypes(int(model.prototype_ids_[1]), **settings)
    after = family_of(model).locations()
    others = np.delete(np.arange(len(before)), 1)
    np.testing.assert_array_equal(after[others], before[others])
    # A prototype that wins no sample has no gradient.
    assert (after[1] != before[1]).any() or case.name == "rslvq"


@BY_NAME
def test_remove_loses_what_was_contributed(case):
    allowed(case, "remove")
    if case.head == "none":
        pytest.skip("no head that is a matrix; the contract is checked elsewhere")
    model = case.model
    kept = np.ones(len(model.prototype_ids_), dtype=bool)
    kept[0] = False
    smaller = edit(
        model, "remove", int(model.prototype_ids_[0]), allow_empty_class=True
    )
    scores, activations = exact_scores(model, case.X)
    after, _ = exact_scores(smaller, case.X)
    if case.head == "linear":
        weight = model._module.head.tables()[0].detach().double().numpy()
        lost = activations[:, [0]] * weight[0]
        # Of scores of the order of 20 the last bit is 4e-15.
        np.testing.assert_allclose(after, scores - lost, rtol=1e-12, atol=1e-12)
    else:
        assembled = copy.deepcopy(model)
        assembled.net_ = assembled._make_prediction_net(
            model._module.keep(torch.from_numpy(kept))
        )
        np.testing.assert_array_equal(after, exact_scores(assembled, case.X)[0])
    # All others have kept their bits.
    places = family_of(model).locations()[kept]
    np.testing.assert_array_equal(family_of(smaller).locations(), places)


@BY_NAME
def test_add_without_weight_changes_no_score(case):
    allowed(case, "add")
    if case.head == "none":
        pytest.skip("a candidate has no weight")
    _, arguments = arguments_of(case, case.model, "add")
    larger = edit(case.model, "add", **{**arguments, "weight": 0.0})
    before, _ = exact_scores(case.model, case.X)
    after, _ = exact_scores(larger, case.X)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-10)
    assert len(larger.prototype_ids_) == len(case.model.prototype_ids_) + 1


@BY_NAME
def test_merge_of_identical_prototypes_changes_no_score(case):
    for op in ("merge", "add"):
        allowed(case, op)
    if not family_of(case.model).identical(np.zeros(2, dtype=np.int64)):
        pytest.skip("takes the question above away as well, which its own tests check")
    _, arguments = arguments_of(case, case.model, "add")
    pair = np.stack([np.asarray(arguments["items"])] * 2)
    twins = edit(case.model, "add", **{**arguments, "items": pair})
    ids = twins.edit_log_[-1]["created"]
    merged = edit(twins, "merge", ids, X=case.X, y=case.y)
    assert merged.edit_log_[-1]["repair"] == "none"
    assert len(merged.prototype_ids_) == len(twins.prototype_ids_) - 1
    before, _ = exact_scores(twins, case.X)
    after, _ = exact_scores(merged, case.X)
    # Twice a weight is exact; sums of probabilities are rounded to float32.
    exact = case.head == "linear" and case.name.startswith("rbf")
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-12 if exact else 1e-6)


@BY_NAME
def test_replace_by_own_source_after_snap_changes_nothing(case):
    for op in ("snap", "replace"):
        allowed(case, op)
    model = edit(case.model, "snap", X=case.X, y=case.y, repair="none")
    if model.prototype_samples_ is None:
        pytest.skip("the sources are too large to be kept")
    snapped = copy.deepcopy(model)
    for k in range(2):
        sites = {}
        if len(model._input_shape) > 1:
            sites = {"sites": model.prototype_sites_[[k]]}
        own = model.prototype_samples_[[k]]
        model.replace_prototypes(int(model.prototype_ids_[k]), own, **sites)
    same_bits(model, snapped, case.X)
    assert (np.asarray(model.projection_distance_)[:2] == 0).all()
    assert (model.prototype_indices_[:2] == -1).all()


@pytest.mark.parametrize("certainty", [0.0, 0.7, 1.0])
@BY_NAME
def test_certainty_is_reached(case, certainty):
    allowed(case, "soft_replace")
    key, arguments = arguments_of(case, case.model, "soft_replace")
    arguments = {**arguments, "certainty": certainty}
    settings = {"X": case.X, "y": case.y, **case.settings}
    model = edit(case.model, "soft_replace", key, **arguments, **settings)
    entry = model.edit_log_[-1]
    assert entry["certainty_reached"][str(key)] >= certainty - 1e-6
    family = family_of(model)
    position = int(np.flatnonzero(model.prototype_ids_ == key)[0])
    before = family_of(case.model).locations()
    others = np.delete(np.arange(len(before)), position)
    np.testing.assert_array_equal(family.locations()[others], before[others])
    if certainty == 1.0:
        _, arguments = arguments_of(case, case.model, "replace")
        replaced = edit(case.model, "replace", key, **arguments)
        target = family_of(replaced).locations()[position]
        here = family.locations()[position]
        if family.geometry == "cosine":
            # Of several parts each keeps its length.
            length = np.linalg.norm(here, axis=-1, keepdims=True)
            own = np.linalg.norm(target, axis=-1, keepdims=True)
            target = target / np.maximum(own, 1e-12) * length
        np.testing.assert_allclose(here, target, rtol=1e-5, atol=1e-5)
    # The constraint holds in later repairs too.
    model.finetune_prototypes(key, repair="prototypes", **settings)
    reached = model.edit_log_[-1]["certainty_reached"][str(key)]
    assert reached >= certainty - 1e-6


@pytest.mark.parametrize("op", ["add", "replace"])
@BY_NAME
def test_label_is_respected(case, op):
    allowed(case, op)
    model = copy.deepcopy(case.model)
    do(case, model, op)
    for key in model.edit_log_[-1]["touched"]:
        position = int(np.flatnonzero(model.prototype_ids_ == key)[0])
        label = model.prototype_labels_[position]
        code = int(np.searchsorted(model.classes_, label))
        if case.head == "linear":
            column = family_of(model).columns()[position]
            assert column[code] == column.max()
            if op == "add":
                assert column[code] > 0
    if op == "add":
        assert label == arguments_of(case, case.model, "add")[1]["label"]
    check_contract(case, model)


@BY_NAME
def test_replay_gives_the_same_hash(case):
    model = copy.deepcopy(case.model)
    for op in ("remove", "add", "replace", "finetune", "lock"):
        if op not in case.refused:
            do(case, model, op, random_state=3)
    log = json.loads(json.dumps(model.edit_log_))
    for _ in range(2):
        again = replay(case.model, log, case.X, case.y)
        assert again.edit_log_[-1]["hash_after"] == log[-1]["hash_after"]
        same_bits(again, model, case.X)
    with pytest.raises(ValueError, match="give X and y"):
        replay(case.model, log)


@BY_NAME
def test_certificate_is_that_of_the_edited_model(case):
    if not hasattr(case.model, "certify") or case.model._encodes:
        pytest.skip("no certificate for this estimator")
    model = copy.deepcopy(case.model)
    do(case, model, "replace")
    do(case, model, "remove")
    X = case.X[::10]
    radius = model.certify(X)
    rng = np.random.RandomState(0)
    step = rng.standard_normal((20, *X.shape))
    step /= np.linalg.norm(step, axis=2, keepdims=True)
    moved = X + 0.999 * radius[:, None] * step * model.scale_
    predicted = model.predict(moved.reshape(-1, X.shape[1])).reshape(20, -1)
    assert (predicted == model.predict(X)).all()


@BY_NAME
def test_forbidden_features_change_no_prediction(case):
    if "forbid" in case.refused or np.ndim(case.X) != 2:
        pytest.skip("not a table; regions of images have their own tests")
    model = copy.deepcopy(case.model)
    do(case, model, "forbid")
    changed = np.array(case.X[:20], dtype=float)
    changed[:, 1] = 1e6
    np.testing.assert_array_equal(
        model.predict_proba(changed), model.predict_proba(case.X[:20])
    )
    check_contract(case, model)
    with pytest.warns(UserWarning, match="fit forgets"):
        refitted = copy.deepcopy(model).fit(case.X, case.y)
    assert refitted.edit_log_ == []
    kept = edit(case.model, "forbid", features=[1], on_fit=True).fit(case.X, case.y)
    np.testing.assert_array_equal(
        kept.predict_proba(changed), kept.predict_proba(case.X[:20])
    )
