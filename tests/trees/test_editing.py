import copy
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits, load_wine

from skproto._editing import HeadRules, family_of
from skproto.nn.tree import TreeStructure
from skproto.operations import EditNotSupported, edit, find_prototypes
from skproto.trees import ProtoTreeClassifier, ProtoTreeEnsembleClassifier
from skproto.trees._grafting import Grafting, below
from skproto.trees._leaf_rules import LeafRules
from skproto.trees._radius import telling_radius

X, y = load_wine(return_X_y=True)
X, y = X[::2], y[::2]
DATA = {"X": X, "y": y}
digits = load_digits(n_class=3)
IMAGES, DIGITS = digits.images[:60].astype(np.float32), digits.target[:60]
TREE = ProtoTreeClassifier(
    depth=2, max_epochs=5, prune_threshold=0, batch_size=16, random_state=0
)


@pytest.fixture(scope="module")
def tree():
    return copy.deepcopy(TREE).set_params(depth=3).fit(X, y)


@pytest.fixture(scope="module")
def paper_tree():
    parameters = {
        "similarity": "exp",
        "feature_weights": False,
        "leaf_update": "softmax",
        "refit_passes": 0,
    }
    return copy.deepcopy(TREE).set_params(**parameters).fit(X[:, :3], y)


@pytest.fixture(scope="module")
def forest():
    model = ProtoTreeEnsembleClassifier(TREE, 2, bootstrap=True, random_state=0)
    return model.fit(X, y)


@pytest.fixture(scope="module")
def image_tree():
    return copy.deepcopy(TREE).fit(IMAGES, DIGITS)


def exact(model, samples=X):
    """Presence and scores in float64."""
    module = copy.deepcopy(model._module).double().eval()
    scaled = model._scaling.apply(samples).astype(np.float64)
    with torch.no_grad():
        outputs = module.evaluate(torch.from_numpy(scaled), model.routing)
    return outputs["activations"].numpy(), outputs["scores"].numpy()


def scores_if(model, position, presence):
    """Scores with the presence of one prototype replaced by a function of it."""
    right, _ = exact(model)
    right[:, position] = presence(right[:, position])
    return model.tree_.leaf_probability(right) @ model.leaf_distributions_


def at(model, key):
    return int(np.flatnonzero(model.prototype_ids_ == key)[0])


def check(model, samples=X):
    case = model.explain(samples[:6])
    case.verify()
    assert len(np.unique(model.prototype_ids_)) == len(model.prototypes_)
    assert model.transform(samples[:6]).shape[1] == len(model.prototype_ids_)
    str(case), str(model.explain_global())


# -- shape -----------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["present", "absent"])
@pytest.mark.parametrize("key", [0, 2, 5])
def test_removed_node_always_goes_to_one_side(tree, keep, key):
    smaller = edit(tree, "remove", key, keep=keep, allow_empty_class=True)
    expected = scores_if(tree, key, lambda p: np.full_like(p, keep == "present"))
    assert_allclose(exact(smaller)[1], expected, rtol=0, atol=1e-12)
    assert key not in smaller.prototype_ids_
    for name in ("prototypes", "log_radius", "feature_logits"):
        left = [at(tree, k) for k in smaller.prototype_ids_]
        old = getattr(tree._module, name).detach().numpy()[left]
        assert_array_equal(getattr(smaller._module, name).detach().numpy(), old)
    check(smaller)


def test_majority_is_the_side_with_more_samples(tree):
    structure = tree._module.structure
    sides = structure.children_left[0], structure.children_right[0]
    absent, present = tree.training_mass_[list(sides)]
    keep = "present" if present > absent else "absent"
    smaller = edit(tree, "remove", 0, allow_empty_class=True)
    other = edit(tree, "remove", 0, keep=keep, allow_empty_class=True)
    assert_array_equal(smaller.predict_proba(X), other.predict_proba(X))
    assert "were on the side that went" in str(smaller.edit_log_[0]["report"])


def test_what_remove_refuses(tree):
    with pytest.raises(ValueError, match="keep must be one of"):
        edit(tree, "remove", 0, keep="best")
    with pytest.raises(ValueError, match="at least one prototype"):
        edit(tree, "remove", [0, 1, 3], keep="absent", allow_empty_class=True)
    locked = edit(tree, "lock", [1, 2])
    for keep in ("present", "absent"):
        with pytest.raises(ValueError, match="locked prototypes on the side"):
            edit(locked, "remove", 0, keep=keep, allow_empty_class=True)


def test_remove_keeps_a_leaf_of_each_class():
    line = np.repeat([0.0, 1.0, 2.0, 10.0, 11.0, 12.0], 4)[:, None]
    label = (line[:, 0] > 5).astype(int)
    model = ProtoTreeClassifier(
        depth=2, max_epochs=5, prune_threshold=0, random_state=0
    ).fit(line, label)
    leading = model.leaf_distributions_.argmax(axis=1)
    keep = "present" if len(np.unique(leading[:2])) == 2 else "absent"
    if len(np.unique(leading[2:] if keep == "present" else leading[:2])) == 2:
        pytest.skip("both halves of this tree favour both classes")
    with pytest.raises(ValueError, match="last leaf that favours"):
        edit(model, "remove", 0, keep=keep)


@pytest.mark.parametrize("which", ["tree", "paper_tree"])
@pytest.mark.parametrize("routing", ["distributed", "greedy"])
def test_added_node_changes_no_prediction(which, routing, request):
    model = copy.deepcopy(request.getfixturevalue(which)).set_params(routing=routing)
    samples = X[:, : model.n_features_in_]
    items = samples[[3, 40]]
    larger = edit(model, "add", items=items, label=y[[3, 40]])
    before, after = exact(model, samples)[1], exact(larger, samples)[1]
    assert_allclose(after, before, rtol=0, atol=1e-12)
    assert len(larger.prototype_ids_) == len(model.prototype_ids_) + 2
    # The nodes stand where the items ended, which find them present at once.
    path = larger.explain(items).path
    for number, key in enumerate(larger.edit_log_[0]["created"]):
        node = larger._module.structure.inner_nodes[at(larger, key)]
        assert node in path[number]
        assert larger.transform(items)[number, at(larger, key)] == 1
        assert larger.prototype_labels_[at(larger, key)] == y[[3, 40]][number]
        assert larger.projection_distance_[at(larger, key)] == 0
    check(larger, samples)


def test_added_code_is_a_site_by_itself(tree):
    code = tree._scaling.apply(X[[5]])
    by_code = edit(tree, "add", items=code, label=y[5], latent=True, **DATA)
    by_case = edit(tree, "add", items=X[[5]], label=y[5], **DATA)
    assert_array_equal(by_code.predict_proba(X), by_case.predict_proba(X))
    with pytest.raises(ValueError, match="weight must be None"):
        edit(tree, "add", items=X[[5]], label=y[5], weight=2.0)


def test_new_ids_are_not_those_of_pruned_nodes():
    model = copy.deepcopy(TREE).set_params(depth=3, prune_threshold=None).fit(X, y)
    larger = edit(model, "add", items=X[[3]], label=y[3])
    assert larger.edit_log_[0]["created"] == [7]


def test_relabel_swaps_the_children(tree):
    counts = family_of(tree)._counts()
    structure = tree._module.structure
    for key in (0, 1):
        node = structure.inner_nodes[key]
        sides = [structure.children_left[node], structure.children_right[node]]
        share = counts[sides] / counts[sides].sum(axis=1, keepdims=True)
        code = int((share[0] - share[1]).argmax())
        model = edit(tree, "relabel", key, label=code, repair="none")
        assert model.prototype_labels_[at(model, key)] == code
        swapped = tree.prototype_labels_[key] != code
        expected = scores_if(tree, key, lambda p, s=swapped: 1 - p if s else p)
        assert_allclose(exact(model)[1], expected, rtol=0, atol=1e-12)
        check(model)


def test_relabel_leaves_children_that_speak_for_the_class(tree):
    counts = family_of(tree)._counts()
    structure = tree._module.structure
    sides = [structure.children_left[0], structure.children_right[0]]
    share = counts[sides] / counts[sides].sum(axis=1, keepdims=True)
    gain = np.where(np.arange(3) == tree.prototype_labels_[0], -1, share[1] - share[0])
    model = edit(tree, "relabel", 0, label=int(gain.argmax()))
    if gain.max() >= 0:
        assert_array_equal(model.predict_proba(X), tree.predict_proba(X))
        assert "its children stay" in str(model.edit_log_[0]["report"]["notes"])
    repaired = edit(tree, "relabel", 0, label=int(gain.argmax()), **DATA)
    spoken = family_of(repaired).spoken_codes()
    assert spoken[at(repaired, 0)] == gain.argmax()


def test_merge_of_siblings(tree):
    same = edit(tree, "relabel", [3, 4], label=1, repair="none")
    merged = edit(same, "merge", [3, 4])
    kept = merged.edit_log_[-1]["touched"][0]
    assert set(merged.prototype_ids_) == {0, 2, 5, 6, kept}
    old, new = same._module, merged._module
    pairs = []
    for key in (3, 4):
        node = old.structure.inner_nodes[at(same, key)]
        leaf = [old.structure.leaf[2 * at(same, key) + side] for side in (1, 2)]
        assert old.structure.children_left[node] == 2 * at(same, key) + 1
        pairs.append(old.leaf_counts[leaf])
    leaf = [new.structure.leaf[2 * at(merged, kept) + side] for side in (1, 2)]
    assert torch.equal(new.leaf_counts[leaf], pairs[0] + pairs[1])
    check(merged)
    assert edit(same, "merge", [3, 4], **DATA).edit_log_[-1]["repair"] == "head"


def test_what_merge_refuses(tree):
    same = edit(tree, "relabel", [1, 2, 3, 4, 5], label=1, repair="none")
    for ids in ([1, 2], [3, 5], [1, 3], [3, 4, 5]):
        with pytest.raises(ValueError, match="two siblings"):
            edit(same, "merge", ids)
    with pytest.raises(ValueError, match="below a locked prototype"):
        edit(edit(same, "lock", 1), "merge", [3, 4])


def test_grafting_by_hand():
    structure = TreeStructure.full(1)
    grafting = Grafting(structure)
    grafting.split(2, 1)
    shape = grafting.shape()
    assert shape.is_leaf == [False, True, False, True, True]
    assert (shape.prototypes.tolist(), shape.leaves.tolist()) == ([0, 1], [0, 1, 1])
    flags = TreeStructure.from_flags(shape.is_leaf)
    assert below(flags, np.array([0, 2])).tolist() == [[True] * 3, [False, True, True]]


# -- leaves ----------------------------------------------------------------------------


def test_rules_of_leaves_by_hand():
    structure = TreeStructure.full(1)
    labels = np.array([1])
    rules = HeadRules(np.array([True]), np.array([True]), labels)
    counts = np.array([[5.0, 0.0, 1.0], [6.0, 2.0, 2.0]])
    amended = LeafRules(structure, rules).amend(counts, counts)
    assert_array_equal(amended[0], counts[0])
    assert amended[1].argmax() == 1
    assert amended[1].sum() == pytest.approx(10.0)
    # As little as is enough: it leads by a thousandth of the samples.
    assert amended[1, 1] - amended[1, 0] == pytest.approx(0.01)
    assert amended[1, 0] / amended[1, 2] == pytest.approx(3.0)
    rules = HeadRules(np.array([True]), np.array([True]), labels, min_weight=0.8)
    assert LeafRules(structure, rules).amend(counts, counts)[1, 1] == pytest.approx(8)
    locked = HeadRules(np.array([False]), np.array([True]), labels)
    rules = LeafRules(structure, locked)
    assert_array_equal(rules.amend(counts + 1, counts), counts)
    assert rules.broken(counts).tolist() == [0]
    nobody = np.array([[5.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    rules = HeadRules(np.array([True]), np.array([True]), labels)
    assert LeafRules(structure, rules).amend(nobody, nobody)[1].tolist() == [0, 1, 0]
    wrong = HeadRules(np.array([True]), np.array([True]), labels, min_weight=2.0)
    with pytest.raises(ValueError, match="min_weight must be a share"):
        LeafRules(structure, wrong)


@pytest.mark.parametrize("repair", ["head", "prototypes"])
def test_label_that_a_user_gives_is_that_of_the_present_side(tree, repair):
    row = int(np.flatnonzero(y == 2)[0])
    settings = {**DATA, "repair": repair, "repair_steps": 3}
    for label in (0, 2):
        model = edit(tree, "add", items=X[[row]], label=label, **settings)
        key = model.edit_log_[0]["created"][0]
        assert family_of(model).spoken_codes()[at(model, key)] == label
        assert model.prototype_labels_[at(model, key)] == label
        check(model)
    report = edit(tree, "add", items=X[[row]], label=0, dry_run=True, **settings)
    assert report.free_repair["turned_around"] == [7]
    free = edit(tree, "add", items=X[[row]], label=0, respect_label=False, **settings)
    assert free.score(X, y) >= edit(
        tree, "add", items=X[[row]], label=0, **settings
    ).score(X, y)
    sure = edit(tree, "add", items=X[[row]], label=2, min_weight=0.99, **DATA)
    family = family_of(sure)
    node = family.structure.inner_nodes[at(sure, 7)]
    counts = family._counts()[family.structure.children_right[node]]
    assert counts[2] / counts.sum() > 0.989


def test_lock_keeps_question_and_answer(tree):
    model = edit(tree, "lock", [1, 4])
    family = family_of(model)
    leaves = family.columns()
    before = {n: p.detach().clone() for n, p in model._module.named_parameters()}
    for repair in ("head", "prototypes", "all"):
        model.finetune_prototypes(None, repair=repair, repair_steps=2, **DATA)
    for name, values in model._module.named_parameters():
        assert torch.equal(values[[1, 4]], before[name][[1, 4]])
        assert not torch.equal(values[0], before[name][0])
    found = family_of(model).columns()
    assert_array_equal(found[[1, 4]], leaves[[1, 4]])
    assert not np.array_equal(found[3], leaves[3])


def test_radius_of_a_new_node_parts_the_classes():
    line = np.concatenate([np.linspace(0, 1, 20), np.linspace(4, 5, 20)])[:, None]
    label = np.repeat([0, 1], 20)
    model = ProtoTreeClassifier(
        depth=1, max_epochs=0, prune_threshold=0, standardize=False, random_state=0
    ).fit(line, label)
    _, data = model._labelled(line, label)
    with torch.no_grad():
        model._module.prototypes.fill_(0.5)
    assert 0.5 <= telling_radius(model._module, data, 0, 0) < 4
    # Where the class leads nowhere, the fewest others are claimed for it.
    radius = telling_radius(model._module, data, 0, 1)
    assert radius < 0.2


def test_snap_takes_samples_of_the_classes_below(tree):
    moved = edit(tree, "finetune", None, repair_steps=20, **DATA)
    assert (moved.projection_distance_ > 0).all()
    assert len(moved.prototype_labels_) == 7
    model = edit(moved, "snap", None, repair="none", **DATA)
    assert (model.projection_distance_ == 0).all()
    sets = moved.explain_global().class_sets
    nodes = moved._module.structure.inner_nodes
    for position, node in enumerate(nodes):
        allowed = {*sets[node], moved.prototype_labels_[position]}
        assert y[model.prototype_indices_[position]] in allowed
        assert_array_equal(
            model.prototypes_[position], X[model.prototype_indices_[position]]
        )


def test_reweight_is_refused(tree, forest):
    for model in (tree, forest):
        with pytest.raises(EditNotSupported, match="the leaves below it say"):
            edit(model, "reweight", 0, weights=1.0)


# -- forbidding ------------------------------------------------------------------------


def test_forbidden_features_have_no_weight(tree, forest):
    for model in (tree, forest):
        changed = edit(model, "forbid", features=[0, 12], **DATA)
        assert (changed.feature_weights_[:, [0, 12]] == 0).all()
        assert_allclose(changed.feature_weights_.sum(axis=1), 1.0, rtol=1e-6)
        other = X.copy()
        other[:, [0, 12]] = 1e3
        assert_array_equal(changed.predict_proba(other), changed.predict_proba(X))
        changed.finetune_prototypes(None, repair_steps=2, **DATA)
        assert (changed.feature_weights_[:, [0, 12]] == 0).all()
        check(changed)
        again = edit(model, "forbid", features=[0], on_fit=True).fit(X, y)
        assert (again.feature_weights_[:, 0] == 0).all()
        assert np.isfinite(again.feature_weights_).all()


def test_forbidden_region_of_images(image_tree):
    region = (0, 0, 3, 8)
    settings = {"X": IMAGES, "y": DIGITS}
    model = edit(image_tree, "forbid", region=region, **settings)
    assert model._module.allowed_sites == tuple(range(8, 16))
    assert (model.prototype_sites_ >= 8).all()
    assert (model.projection_distance_ == 0).all()
    changed = IMAGES.copy()
    changed[:, :3] = 16 - changed[:, :3]
    assert_array_equal(model.predict_proba(changed), model.predict_proba(IMAGES))
    maps = model.similarity_maps(IMAGES[:4])
    assert (maps[:, :, :2] == 0).all()
    assert_allclose(maps.max(axis=(2, 3)), model.transform(IMAGES[:4]), atol=1e-6)
    added = edit(model, "add", items=IMAGES[:2], label=DIGITS[:2])
    assert (added.prototype_sites_ >= 8).all()
    with pytest.raises(ValueError, match="sites must not be forbidden"):
        edit(model, "replace", 0, items=IMAGES[:1], sites=[1])
    edit(model, "reinit", 1, repair_steps=2, **settings)
    again = pickle.loads(pickle.dumps(added))
    assert_array_equal(again.predict_proba(IMAGES), added.predict_proba(IMAGES))
    check(again, IMAGES)
    assert again.undo()._module.allowed_sites == model._module.allowed_sites
    assert model.undo()._module.allowed_sites is None
    assert_array_equal(model.predict_proba(IMAGES), image_tree.predict_proba(IMAGES))


def test_what_forbid_refuses(image_tree):
    region, settings = (0, 0, 3, 8), {"X": IMAGES, "y": DIGITS}
    with pytest.raises(EditNotSupported, match="no class of their own"):
        edit(image_tree, "forbid", region=region, labels=[0], **settings)
    with pytest.raises(ValueError, match="needs X and y"):
        edit(image_tree, "forbid", region=region)
    with pytest.raises(ValueError, match="must leave a part"):
        edit(image_tree, "forbid", region=(0, 0, 8, 8), **settings)
    with pytest.raises(ValueError, match="must lie inside"):
        edit(image_tree, "forbid", region=(9, 9, 10, 10), **settings)


# -- ensembles -------------------------------------------------------------------------


def same_tree(a, b):
    mine, other = a._module.state_dict(), b._module.state_dict()
    return all(torch.equal(mine[name], other[name]) for name in other)


@pytest.mark.parametrize(
    ("op", "settings"),
    [
        ("remove", {"ids": 4, "allow_empty_class": True}),
        ("replace", {"ids": 4, "items": X[[7]]}),
        ("relabel", {"ids": 4, "label": 1}),
        ("finetune", {"ids": 4, "repair_steps": 2}),
        ("add", {"tree": 1, "items": X[[7]], "label": 0}),
    ],
)
def test_edit_goes_to_the_tree_that_owns_the_prototype(forest, op, settings):
    model = edit(forest, op, **settings, **DATA)
    assert same_tree(model.estimators_[0], forest.estimators_[0])
    assert not same_tree(model.estimators_[1], forest.estimators_[1])
    sizes = [len(tree.prototypes_) for tree in model.estimators_]
    assert model.prototype_trees_.tolist() == [0] * sizes[0] + [1] * sizes[1]
    check(model)
    if op == "replace":
        # Each tree scales by its own sample: the item is met to the last bit.
        assert model.transform(X[[7]])[0, at(model, 4)] == 1
    assert_array_equal(model.undo().predict_proba(X), forest.predict_proba(X))
    assert_array_equal(model.prototype_ids_, forest.prototype_ids_)


def test_new_prototype_goes_where_its_class_is_least_probable(forest):
    row = 7
    proba = [tree.predict_proba(X[[row]])[0, 2] for tree in forest.estimators_]
    model = edit(forest, "add", items=X[[row]], label=2)
    assert model.edit_log_[0]["created"] == [6]
    assert model.prototype_trees_[at(model, 6)] == np.argmin(proba)
    # The order of float32 sums depends on how many prototypes there are.
    assert_allclose(model.predict_proba(X), forest.predict_proba(X), atol=1e-6)
    with pytest.raises(ValueError, match="tree must be None or an int"):
        edit(forest, "add", items=X[[row]], label=2, tree=2)
    code = np.zeros((1, X.shape[1]))
    with pytest.raises(ValueError, match="tree must be named"):
        edit(forest, "add", items=code, label=2, latent=True, **DATA)
    named = edit(forest, "add", items=code, label=2, latent=True, tree=0, **DATA)
    assert named.prototype_trees_[at(named, 6)] == 0


def test_items_are_of_one_tree(forest):
    with pytest.raises(ValueError, match="must be of one tree"):
        edit(forest, "replace", [0, 4], items=X[:1])
    same = edit(forest, "relabel", [1, 4], label=1, repair="none")
    with pytest.raises(ValueError, match="siblings of one tree"):
        edit(same, "merge", [1, 4])
    found = find_prototypes(forest, near=forest.prototype_samples_[[2, 4]])
    assert found == [2, 4]


def test_locks_and_labels_of_an_ensemble(forest):
    model = edit(forest, "lock", [0, 4])
    leaves = family_of(model).columns()
    model.finetune_prototypes(None, repair_steps=2, **DATA)
    for position in (0, 4):
        assert_array_equal(model.prototypes_[position], forest.prototypes_[position])
        assert_array_equal(family_of(model).columns()[position], leaves[position])
    assert (model.prototypes_[1] != forest.prototypes_[1]).any()
    with pytest.raises(ValueError, match="must not be locked"):
        model.remove_prototypes(4)
    labelled = edit(forest, "relabel", 5, label=1, **DATA)
    assert labelled.prototype_labels_[at(labelled, 5)] == 1
    assert family_of(labelled).spoken_codes()[at(labelled, 5)] == 1


def test_repair_weighs_classes_as_the_trees_do(forest):
    model = copy.deepcopy(forest)
    plain = family_of(model).labelled(X, y, None)[1].weight
    assert_array_equal(plain, 1.0)
    for tree in model.estimators_:
        tree.class_weight = "balanced"
    weight = family_of(model).labelled(X, y, None)[1].weight
    assert_allclose([weight[y == k].sum() for k in range(3)], len(y) / 3)


def test_failure_leaves_the_trees_alone(forest):
    model = copy.deepcopy(forest)
    trees = list(model.estimators_)
    with pytest.raises(ValueError, match="at least one prototype"):
        model.remove_prototypes([3, 4, 5], allow_empty_class=True)
    assert all(a is b for a, b in zip(trees, model.estimators_, strict=True))
    assert all(same_tree(a, b) for a, b in zip(trees, forest.estimators_, strict=True))


def test_ensemble_of_images():
    model = ProtoTreeEnsembleClassifier(TREE, 2, random_state=0).fit(IMAGES, DIGITS)
    settings = {"X": IMAGES, "y": DIGITS}
    changed = edit(model, "forbid", region=(0, 0, 3, 8), **settings)
    assert (changed.prototype_sites_ >= 8).all()
    changed.add_prototypes(IMAGES[:1], DIGITS[0], **settings)
    changed.reinit_prototypes(4, repair_steps=2, **settings)
    check(changed, IMAGES)
    assert_array_equal(
        changed.undo(3).predict_proba(IMAGES), model.predict_proba(IMAGES)
    )


@pytest.mark.parametrize("which", ["tree", "forest"])
def test_chain_of_edits(which, request):
    start = request.getfixturevalue(which)
    model, rng = copy.deepcopy(start), np.random.RandomState(0)
    done = 0
    for number in range(14):
        ids = model.prototype_ids_[~model.prototype_locked_]
        key = int(rng.choice(ids))
        op, settings = [
            ("remove", {"keep": rng.choice(["majority", "present", "absent"])}),
            ("add", {"items": X[[number]], "label": y[number]}),
            ("replace", {"items": X[[number]], "label": y[number]}),
            ("soft_replace", {"items": X[[number]], "certainty": 0.5}),
            ("relabel", {"label": int(rng.randint(3)), "allow_empty_class": True}),
            ("reinit", {}),
            ("lock", {}),
        ][number % 7]
        arguments = () if op == "add" else (key,)
        if op == "remove":
            settings["allow_empty_class"] = True
        repair = {} if number % 3 == 0 and op != "reinit" else DATA
        refused = None
        try:
            edit(
                model,
                op,
                *arguments,
                inplace=True,
                repair_steps=2,
                **settings,
                **repair,
            )
        except ValueError as error:
            refused = str(error)
        if refused is not None:
            assert "locked" in refused or "at least one" in refused
            continue
        done += 1
        check(model)
    assert done >= 10
    assert_array_equal(model.undo(done).predict_proba(X), start.predict_proba(X))
    assert_array_equal(model.prototype_ids_, start.prototype_ids_)
