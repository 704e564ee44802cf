import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skproto.nn import _tree_distances as distances
from skproto.nn import _tree_ops as ops
from skproto.nn import tree as trees
from skproto.nn.tree import SoftPrototypeTree, TreeStructure

quick = settings(deadline=None, max_examples=30)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def routed(structure, right):
    """Log path probabilities of given right-probabilities."""
    return ops.LevelRouter(structure)(torch.log1p(-right), right.log())


def recursive_paths(structure, log_left, log_right):
    """Walk node by node from the root: the reference for level-wise routing."""
    out = {}

    def walk(node, path):
        if structure.is_leaf[node]:
            out[int(structure.leaf[node])] = path
            return
        n = structure.prototype[node]
        walk(structure.children_left[node], path + log_left[:, n])
        walk(structure.children_right[node], path + log_right[:, n])

    walk(0, torch.zeros(len(log_left), dtype=log_left.dtype))
    return torch.stack([out[leaf] for leaf in range(structure.n_leaves)], dim=1)


@st.composite
def structures(draw, max_depth=5):
    """Full trees and what pruning arbitrary leaves makes of them."""
    full = TreeStructure.full(draw(st.integers(0, max_depth)))
    flags = st.lists(st.booleans(), min_size=full.n_leaves, max_size=full.n_leaves)
    return trees.prune_structure(full, draw(flags), 0.5).structure


def random_tree(structure, seed=0, n_features=4, n_classes=3, **kwargs):
    g = generator(seed)
    tree = SoftPrototypeTree(n_features, n_classes, is_leaf=structure.is_leaf, **kwargs)
    with torch.no_grad():
        for parameter in tree.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g) * 0.5)
        tree.leaf_counts.copy_(torch.rand(tree.leaf_counts.shape, generator=g) * 5)
    return tree.eval()


def data(n=40, n_features=4, n_classes=3, seed=1):
    g = generator(seed)
    x = torch.randn(n, n_features, generator=g)
    return x, torch.randint(n_classes, (n,), generator=g)


# ----------------------------------------------------------- worked numbers
RIGHT = tensor([[0.8, 0.25, 0.6]])
LEAVES = tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9]])
TWO = TreeStructure.full(2)


def two_level_tree(**kwargs):
    tree = SoftPrototypeTree(1, 2, depth=2, leaf_smoothing=0.0, **kwargs).double()
    tree.leaf_counts.copy_(LEAVES)
    return tree


def test_worked_paths_and_scores():
    log_path = routed(TWO, RIGHT)
    expected = tensor([[0.15, 0.05, 0.32, 0.48]])
    torch.testing.assert_close(log_path.exp(), expected)
    scores = tensor([[0.385, 0.615]])
    torch.testing.assert_close(ops.mix_log(log_path, LEAVES.log()).exp(), scores)
    torch.testing.assert_close(ops.mix_smoothed(log_path, LEAVES).exp(), scores)


@pytest.mark.parametrize("routing", ["greedy", "sample_max"])
def test_worked_hard_routing(routing):
    outputs = {"activations": RIGHT, "log_path": routed(TWO, RIGHT)}
    tree = two_level_tree()
    assert tree.leaf_index(outputs, routing).tolist() == [3]
    torch.testing.assert_close(tree.class_scores(outputs, routing), LEAVES[3:])


def test_greedy_and_sample_max_can_differ_and_a_tie_goes_left():
    right = tensor([[0.55, 0.05, 0.5]])
    outputs = {"activations": right, "log_path": routed(TWO, right)}
    tree = two_level_tree()
    assert tree.leaf_index(outputs, "greedy").tolist() == [2]
    assert tree.leaf_index(outputs, "sample_max").tolist() == [0]


def test_sample_max_takes_the_first_of_equal_leaves():
    right = tensor([[0.5, 0.5, 0.5]])
    outputs = {"activations": right, "log_path": routed(TWO, right)}
    assert two_level_tree().leaf_index(outputs, "sample_max").tolist() == [0]


def test_worked_responsibilities_and_em_step():
    log_path, target = routed(TWO, RIGHT).expand(2, -1), torch.tensor([1, 0])
    shares = ops.responsibilities(log_path, LEAVES.log(), target)
    expected = tensor(
        [[0.02439, 0.06504, 0.20813, 0.70244], [0.35065, 0.02597, 0.49870, 0.12468]]
    )
    torch.testing.assert_close(shares, expected, atol=5e-6, rtol=0)
    tree = two_level_tree()

    def likelihood():
        scores = ops.mix_log(log_path, tree.log_leaves())
        return scores.gather(1, target.unsqueeze(1)).sum().item()

    assert likelihood() == pytest.approx(-1.44064, abs=1e-5)
    tree.em_step(log_path, target)
    assert likelihood() == pytest.approx(-1.39531, abs=1e-5)
    leaves = tensor(
        [[0.93497, 0.06503], [0.28538, 0.71462], [0.70554, 0.29446], [0.15074, 0.84926]]
    )
    torch.testing.assert_close(tree.log_leaves().exp(), leaves, atol=5e-6, rtol=0)


def test_worked_paper_rule():
    log_path, target = routed(TWO, RIGHT).expand(2, -1), torch.tensor([1, 0])
    tree = two_level_tree(leaf_update="softmax")
    tree.leaf_counts.copy_(LEAVES.log())
    tree.em_step(log_path, target)
    last = tree.log_leaves().exp()[3]
    torch.testing.assert_close(last, tensor([0.35945, 0.64055]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("rule", "loss"), [("em", 67.301), ("softmax", 800.0)])
def test_worked_single_leaf(rule, loss):
    tree = SoftPrototypeTree(
        1, 2, is_leaf=[True], leaf_update=rule, leaf_smoothing=0.0
    ).double()
    target = torch.tensor([0] * 60 + [1] * 40)
    x = tensor(np.zeros((100, 1)))
    tree.em_step(tree(x)["log_path"], target)
    log_scores = tree(x)["log_scores"].gather(1, target.unsqueeze(1))
    assert -log_scores.sum().item() == pytest.approx(loss, abs=1e-3)
    if rule == "em":
        torch.testing.assert_close(tree(x)["scores"][0], tensor([0.6, 0.4]))


def test_worked_radius_kernel():
    d = tensor([[0.0, 1.5, 3.0, 6.0]])
    decisions = ops.radius_kernel(d**2, torch.full((4,), math.log(3.0)).double(), 4.0)
    expected = tensor([[1.0, 0.95760, 0.5, 2.0**-16]])
    torch.testing.assert_close(decisions.right, expected, atol=5e-6, rtol=0)
    assert decisions.log_left[0, 0] == -math.inf


def test_one_half_is_exact_at_the_radius():
    one = torch.ones(1, 1)
    assert ops.radius_kernel(one, torch.zeros(1), 4.0).right.item() == 0.5


def test_worked_exp_kernel():
    right = ops.exp_kernel(tensor([[0.25]])).right
    assert right.item() == pytest.approx(0.60653, abs=5e-6)


# ------------------------------------------------------------ structure
def test_full_tree_has_children_2n_plus_1_and_2():
    tree = TreeStructure.full(3)
    assert tree.children_left.tolist() == [1, 3, 5, 7, 9, 11, 13] + [-1] * 8
    assert tree.children_right.tolist() == [2, 4, 6, 8, 10, 12, 14] + [-1] * 8
    assert tree.depth == 3
    assert tree.paths[5].tolist() == [0, 2, 5, 12]


@pytest.mark.parametrize("flags", [[], [False], [True, True], [True, False, True]])
def test_flags_that_are_no_tree_are_refused(flags):
    with pytest.raises(ValueError, match="is_leaf must describe one binary tree"):
        TreeStructure.from_flags(flags)


@quick
@given(structures())
def test_paths_lead_from_parent_to_child(structure):
    for leaf, path in enumerate(structure.paths):
        nodes = path[path >= 0]
        assert nodes[0] == 0
        assert nodes[-1] == structure.leaf_nodes[leaf]
        for above, below in pairwise(nodes):
            children = structure.children_left[above], structure.children_right[above]
            assert below in children
            assert structure.parent[below] == above


@quick
@given(structures(), st.randoms(use_true_random=False), st.floats(0, 1))
def test_pruning_keeps_exactly_the_leaves_above_the_threshold(structure, rng, tau):
    leaf_max = np.array([rng.random() for _ in range(structure.n_leaves)])
    edit = trees.prune_structure(structure, leaf_max, tau)
    kept = np.flatnonzero(edit.leaf_groups >= 0)
    expected = np.flatnonzero(leaf_max > tau)
    if edit.kept_best:
        assert not len(expected)
        expected = [leaf_max.argmax()]
    assert sorted(kept) == sorted(expected)
    assert edit.structure.n_inner == edit.structure.n_leaves - 1
    assert (edit.prototypes >= 0).all()
    assert sorted(edit.leaf_groups[kept]) == list(range(edit.structure.n_leaves))
    if tau < leaf_max.min():
        assert edit.structure == structure
        assert edit.prototypes.tolist() == list(range(structure.n_inner))


def naive_prune(structure, keep, node=0):
    """Nested tuples (prototype, left, right) or a leaf position; None if dropped."""
    if structure.is_leaf[node]:
        leaf = int(structure.leaf[node])
        return leaf if keep[leaf] else None
    left = naive_prune(structure, keep, structure.children_left[node])
    right = naive_prune(structure, keep, structure.children_right[node])
    if left is None or right is None:
        return right if left is None else left
    return int(structure.prototype[node]), left, right


def nested(edit, node=0):
    structure = edit.structure
    if structure.is_leaf[node]:
        return int(np.flatnonzero(edit.leaf_groups == structure.leaf[node])[0])
    return (
        int(edit.prototypes[structure.prototype[node]]),
        nested(edit, structure.children_left[node]),
        nested(edit, structure.children_right[node]),
    )


@quick
@given(structures(), st.randoms(use_true_random=False))
def test_pruning_equals_the_recursive_definition(structure, rng):
    keep = np.array([rng.random() < 0.5 for _ in range(structure.n_leaves)])
    keep[rng.randrange(structure.n_leaves)] = True
    edit = trees.prune_structure(structure, keep, 0.5)
    assert nested(edit) == naive_prune(structure, keep)


def test_pruned_tree_carries_its_rows_along():
    tree = random_tree(TreeStructure.full(2))
    tree.leaf_counts.copy_(torch.tensor([[9.0, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]]))
    pruned, edit = trees.prune_tree(tree)
    assert pruned.structure.is_leaf == (True,)
    assert not edit.kept_best
    tree.leaf_counts[3] = torch.tensor([0.0, 0.0, 5.0])
    pruned, edit = trees.prune_tree(tree)
    assert edit.prototypes.tolist() == [0]
    torch.testing.assert_close(pruned.prototypes, tree.prototypes[:1])
    torch.testing.assert_close(pruned.log_radius, tree.log_radius[:1])
    torch.testing.assert_close(pruned.leaf_counts, tree.leaf_counts[[0, 3]])
    x, _ = data()
    torch.testing.assert_close(pruned(x)["activations"], tree(x)["activations"][:, :1])


def test_pruning_everything_keeps_the_best_leaf():
    tree = random_tree(TreeStructure.full(3))
    pruned, edit = trees.prune_tree(tree, threshold=1.0)
    assert edit.kept_best
    best = tree.log_leaves().amax(dim=1).argmax()
    torch.testing.assert_close(pruned.leaf_counts, tree.leaf_counts[best].unsqueeze(0))
    assert pruned(data()[0])["scores"].shape == (40, 3)


def test_merging_adds_counts_and_keeps_the_greedy_class():
    tree = random_tree(TreeStructure.full(4), n_classes=2)
    merged, edit = trees.merge_tree(tree)
    assert merged.structure.n_leaves < tree.structure.n_leaves
    assert edit.leaf_groups.min() == 0
    torch.testing.assert_close(merged.leaf_counts.sum(0), tree.leaf_counts.sum(0))
    x, _ = data(200)
    before, after = (t.class_scores(t(x), "greedy") for t in (tree, merged))
    assert before.argmax(1).tolist() == after.argmax(1).tolist()


def test_class_sets_are_the_leaf_classes_below():
    tree = random_tree(TreeStructure.full(3))
    sets = trees.class_sets(tree)
    top = tree.log_leaves().argmax(dim=1)
    for leaf, path in enumerate(tree.structure.paths):
        assert sets[path, top[leaf]].all()
    assert sets[0].sum() == len(set(top.tolist()))


def test_default_threshold_is_a_little_above_uniform():
    assert trees.default_prune_threshold(2) == pytest.approx(0.55)
    assert trees.default_prune_threshold(200) == pytest.approx(0.1045, abs=1e-4)


# -------------------------------------------------------------- routing
@quick
@given(structures(), st.integers(0, 1000), st.sampled_from([1e-3, 0.3, 1.0, 30, 1e4]))
def test_path_probabilities_sum_to_one(structure, seed, spread):
    x, _ = data(seed=seed)
    for similarity in ("radius", "exp"):
        outputs = random_tree(structure, seed, similarity=similarity)(x * spread)
        total = outputs["log_path"].exp().sum(dim=1)
        torch.testing.assert_close(total, torch.ones(40), atol=1e-5, rtol=0)
        torch.testing.assert_close(
            outputs["scores"].sum(dim=1), torch.ones(40), atol=1e-5, rtol=0
        )


@quick
@given(structures(), st.integers(0, 1000))
def test_level_wise_equals_recursion_and_linear_equals_log(structure, seed):
    tree = random_tree(structure, seed)
    outputs = tree(data(seed=seed)[0])
    left, right = outputs["log_left"], outputs["log_right"]
    expected = recursive_paths(structure, left, right)
    torch.testing.assert_close(outputs["log_path"], expected, atol=1e-5, rtol=1e-5)
    p = outputs["activations"]
    linear = torch.ones(len(p), structure.n_leaves)
    for leaf, path in enumerate(structure.paths):
        for above, below in pairwise(path):
            if below >= 0:
                n = structure.prototype[above]
                present = below == structure.children_right[above]
                linear[:, leaf] = linear[:, leaf] * (
                    p[:, n] if present else 1 - p[:, n]
                )
    torch.testing.assert_close(outputs["log_path"].exp(), linear, atol=1e-6, rtol=1e-4)
    scores = linear @ tree.log_leaves().exp()
    torch.testing.assert_close(outputs["scores"], scores, atol=1e-6, rtol=1e-5)


@quick
@given(structures(), st.integers(0, 1000))
def test_greedy_equals_walking_down(structure, seed):
    outputs = random_tree(structure, seed)(data(seed=seed)[0])
    p = outputs["activations"]
    for row, leaf in enumerate(ops.greedy_leaves(structure, p)):
        node = 0
        while not structure.is_leaf[node]:
            present = p[row, structure.prototype[node]] > 0.5
            node = (structure.children_right if present else structure.children_left)[
                node
            ]
        assert structure.leaf[node] == leaf


@quick
@given(structures(), st.integers(0, 1000))
def test_prediction_without_logarithms_equals_the_forward_pass(structure, seed):
    tree = random_tree(structure, seed).eval()
    x, _ = data(seed=seed)
    outputs, light, lightest = tree(x), tree.evaluate(x), tree.predict(x)
    path = tree.leaf_probabilities(outputs)
    torch.testing.assert_close(path.float(), outputs["log_path"].exp())
    torch.testing.assert_close(path.sum(1), torch.ones(len(x)).double())
    torch.testing.assert_close(light["scores"].float(), outputs["scores"])
    torch.testing.assert_close(light["activations"], outputs["activations"])
    assert torch.equal(light["scores"], lightest["scores"])


@pytest.mark.parametrize("weighted", [True, False])
def test_rows_near_a_prototype_are_measured_in_float64(weighted):
    g = generator(1)
    z = torch.randn(300, 20, generator=g)
    p, w = z[:7].clone(), torch.rand(7, 20, generator=g) if weighted else None
    z[7:14] = p * (1 + 1e-3 * torch.randn(7, 20, generator=g))
    exact = distances.squared_distances_double(z, p, w)
    mixed = distances.squared_distances_mixed(z, p, w)
    rows = torch.arange(7)
    assert (mixed[rows, rows] == 0).all()
    assert (mixed[rows + 7, rows] == exact[rows + 7, rows]).all()
    torch.testing.assert_close(mixed, exact, rtol=5e-5, atol=0)


def test_contributions_of_the_leaves_sum_to_the_scores():
    tree = random_tree(TreeStructure.full(3))
    outputs = tree(data()[0])
    units = outputs["log_path"].exp().unsqueeze(2) * tree.log_leaves().exp()
    torch.testing.assert_close(units.sum(1), outputs["scores"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("routing", ["soft", 1, None])
def test_unknown_routing_is_named(routing):
    tree = two_level_tree()
    with pytest.raises(ValueError, match="routing must be one of"):
        tree.class_scores({}, routing)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"similarity": "cosine"}, "similarity must be one of"),
        ({"leaf_update": "sgd"}, "leaf_update must be one of"),
        ({"sharpness": 0.0}, "sharpness must be"),
        ({"leaf_smoothing": -1.0}, "leaf_smoothing must be"),
        ({"depth": -1}, "depth must be"),
    ],
)
def test_bad_parameters_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SoftPrototypeTree(2, 2, **kwargs)


# --------------------------------------------------------------- leaves
@quick
@given(structures(), st.integers(0, 1000))
def test_em_never_lowers_the_likelihood(structure, seed):
    tree = random_tree(structure, seed, leaf_smoothing=0.0).double()
    x, y = data(seed=seed)
    log_path = tree(x.double())["log_path"]
    before = -math.inf
    for _ in range(5):
        scores = ops.mix_log(log_path, tree.log_leaves())
        now = scores.gather(1, y.unsqueeze(1)).sum().item()
        assert now >= before - 1e-9
        before = now
        tree.em_step(log_path, y)


@pytest.mark.parametrize("rule", ["em", "softmax"])
@quick
@given(structure=structures(), seed=st.integers(0, 1000))
def test_counts_sum_to_the_classes_for_both_rules(rule, structure, seed):
    tree = random_tree(structure, seed, leaf_update=rule)
    x, y = data(seed=seed)
    log_path = tree(x)["log_path"]
    classes = torch.bincount(y, minlength=3).float()
    torch.testing.assert_close(tree.expected_counts(log_path, y).sum(0), classes)
    weight = torch.arange(40) % 3
    weighted = tree.expected_counts(log_path, y, weight.float())
    repeated = tree.expected_counts(
        log_path.repeat_interleave(weight, 0), y.repeat_interleave(weight)
    )
    torch.testing.assert_close(weighted, repeated)


def test_an_epoch_of_batches_replaces_the_old_mass():
    tree = random_tree(TreeStructure.full(3))
    x, y = data(60)
    tree.em_step(tree(x)["log_path"], y)
    old = tree.leaf_counts.clone()
    for rows in torch.arange(60).split(20):
        batch = tree.expected_counts(tree(x[rows])["log_path"], y[rows])
        tree.blend_leaves(batch, old, 3)
    classes = torch.bincount(y, minlength=3).float()
    torch.testing.assert_close(tree.leaf_counts.sum(0), classes)
    assert (tree.leaf_counts >= 0).all()


def test_blending_follows_the_paper():
    tree = two_level_tree()
    old = tree.leaf_counts.clone()
    tree.leaf_counts[0, 0] = 0.1
    batch = torch.full_like(old, 0.25)
    tree.blend_leaves(batch, old, 2)
    assert tree.leaf_counts[0, 0].item() == pytest.approx(0.25)
    assert tree.leaf_counts[3, 1].item() == pytest.approx(0.45 + 0.25)


@pytest.mark.parametrize("smoothing", [0.0, 1e-3])
def test_empty_leaves_are_uniform(smoothing):
    tree = SoftPrototypeTree(2, 4, leaf_smoothing=smoothing)
    torch.testing.assert_close(tree.log_leaves().exp(), torch.full((8, 4), 0.25))


# ------------------------------------------------------------- numerics
def functional_scores(tree):
    names = [name for name, _ in tree.named_parameters()]

    def scores(x, *values):
        parameters = dict(zip(names, values, strict=True))
        outputs = torch.func.functional_call(tree, parameters, (x,))
        return outputs["log_scores"], outputs["distances"]

    return scores


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"similarity": "exp", "leaf_update": "softmax", "feature_weights": False},
        {"sharpness": 1.5, "scale_distance": False},
    ],
)
def test_gradients(kwargs, training):
    structure = TreeStructure((False, True, False, True, True))
    tree = random_tree(structure, n_features=2, **kwargs).double().train(training)
    x = torch.randn(3, 2, 2, generator=generator(5)).double().requires_grad_()
    inputs = (x, *tree.parameters())
    assert torch.autograd.gradcheck(functional_scores(tree), inputs)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("similarity", ["radius", "exp"])
@pytest.mark.parametrize("sharpness", [1.0, 2.0, 4.0])
def test_gradients_are_finite_on_a_prototype(similarity, sharpness, training):
    tree = random_tree(
        TreeStructure.full(3), similarity=similarity, sharpness=sharpness
    ).train(training)
    x = tree.prototypes.detach().clone().requires_grad_()
    outputs = tree(x)
    outputs["log_scores"][:, 0].sum().backward()
    outputs = tree(x)
    outputs["distances"].sum().backward()
    for value in (x, *tree.parameters()):
        assert value.grad is None or torch.isfinite(value.grad).all()


@pytest.mark.parametrize("similarity", ["radius", "exp"])
@pytest.mark.parametrize("ratio", [1e3, 1e9, 1e17])
def test_far_samples_at_depth_nine(similarity, ratio):
    tree = random_tree(TreeStructure.full(9), similarity=similarity)
    x = (data()[0] * ratio).requires_grad_()
    outputs = tree(x)
    y = data()[1]
    (-outputs["log_scores"].gather(1, y.unsqueeze(1)).mean()).backward()
    for value in (*outputs.values(), x.grad, *(p.grad for p in tree.parameters())):
        assert not torch.isnan(value).any()
    assert torch.isfinite(outputs["log_scores"]).all()
    torch.testing.assert_close(outputs["scores"].sum(1), torch.ones(40))


def test_softmax_leaves_do_not_underflow():
    tree = random_tree(TreeStructure.full(2), leaf_update="softmax")
    tree.leaf_counts.copy_(torch.tensor([[900.0, 0.0, 0.0]] * 4))
    log_scores = tree(data()[0])["log_scores"]
    torch.testing.assert_close(log_scores[:, 1], torch.full((40,), -900.0))


def test_evaluation_is_exact_where_the_matrix_product_is_not():
    g = generator(3)
    x = torch.randn(8, 256, generator=g) + 5
    tree = SoftPrototypeTree(256, 2, depth=3, similarity="exp")
    samples, _ = trees.init_from_samples(tree, x, generator=g)
    rows = torch.arange(7)
    assert (tree.train()(x)["distances"][samples, rows] < 0.5).all()
    outputs = tree.eval()(x)
    assert (outputs["distances"][samples, rows] == 0).all()
    assert (outputs["activations"][samples, rows] == 1).all()
    torch.testing.assert_close(
        outputs["distances"].detach(),
        torch.cdist(x.double(), tree.prototypes.double()).detach().float(),
    )


def test_blocks_without_gradients_give_the_same_bits():
    tree = random_tree(TreeStructure.full(6), n_features=64)
    x, _ = data(700, 64)
    outputs = tree(x)
    with torch.no_grad():
        blocked = tree(x)
    assert torch.equal(outputs["distances"].detach(), blocked["distances"])


def test_weighted_distance_to_the_nearest_site():
    tree = random_tree(TreeStructure.full(2))
    z = torch.randn(5, 6, 4, generator=generator())
    p, w = tree.prototypes, tree.weights()
    torch.testing.assert_close(w.sum(1), torch.full((3,), 4.0))
    every = (w * (z.unsqueeze(2) - p) ** 2).sum(-1).div(4).sqrt()
    for training in (False, True):
        outputs = tree.train(training)(z)
        distances, sites = every.min(dim=1)
        torch.testing.assert_close(outputs["distances"], distances)
        assert torch.equal(outputs["sites"], sites)


def test_top_features_leave_exact_zeros():
    tree = random_tree(TreeStructure.full(2))
    before = tree.weights()
    trees.keep_top_features(tree, 2)
    w = tree.weights()
    assert ((w > 0).sum(1) == 2).all()
    torch.testing.assert_close(w.sum(1), torch.full((3,), 4.0))
    assert torch.equal(w.argmax(1), before.argmax(1))
    tree(data()[0])["log_scores"].sum().backward()
    assert torch.isfinite(tree.feature_logits.grad).all()
    with pytest.raises(ValueError, match="n_features must be an int from 1 to 4"):
        trees.keep_top_features(tree, 5)


# ------------------------------------------------------- module contract
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_batch_of_one(dtype):
    structure = TreeStructure((False, True, False, True, True))
    tree = random_tree(structure).to(dtype)
    for n in (1, 7):
        outputs = tree(torch.zeros(n, 4, dtype=dtype))
        shapes = {name: tuple(value.shape) for name, value in outputs.items()}
        per_node = dict.fromkeys(
            ("activations", "log_right", "log_left", "distances", "sites"), (n, 2)
        )
        assert shapes == per_node | {
            "scores": (n, 3),
            "log_scores": (n, 3),
            "log_path": (n, 3),
        }
        assert outputs["scores"].dtype == dtype
    x = data(7)[0].to(dtype)
    torch.testing.assert_close(tree(x)["scores"][:1], tree(x[:1])["scores"])


@pytest.mark.parametrize("shape", [(4,), (5, 4), (4, 2, 3)])
def test_sites_of_rows_tokens_and_maps(shape):
    tree = random_tree(TreeStructure.full(2), encoder=torch.nn.Identity())
    z = torch.randn(3, *shape, generator=generator())
    n_sites = {1: 1, 2: 5, 3: 6}[len(shape)]
    assert tree.encode(z).shape == (3, n_sites, 4)
    if len(shape) == 3:
        assert torch.equal(tree.encode(z)[:, 4], z[:, :, 1, 1])
    assert tree(z)["sites"].max() < n_sites


@pytest.mark.parametrize(
    "structure",
    [TreeStructure.full(3), TreeStructure((False, True, False, True, True))],
)
@pytest.mark.parametrize("rule", ["em", "softmax"])
def test_export_with_a_dynamic_batch(structure, rule):
    tree = random_tree(structure, leaf_update=rule)
    batch = torch.export.Dim.DYNAMIC
    x, _ = data(9)
    exported = torch.export.export(tree, (x[:4],), dynamic_shapes={"x": {0: batch}})
    for rows in (x, x[:1]):
        outputs = exported.module()(rows)
        torch.testing.assert_close(outputs, tree(rows))


def test_state_dict_and_config_rebuild_the_tree():
    encoder = torch.nn.Linear(4, 4)
    structure = TreeStructure((False, True, False, True, True))
    tree = random_tree(structure, encoder=encoder, sharpness=2.0)
    config = json.loads(json.dumps(tree.config))
    twin = SoftPrototypeTree(**config, encoder=torch.nn.Linear(4, 4)).eval()
    twin.load_state_dict(tree.state_dict())
    x, _ = data()
    for name, value in tree(x).items():
        assert torch.equal(value, twin(x)[name])


# ------------------------------------------------- start and projection
def test_start_is_deterministic_and_from_the_samples():
    x, _ = data(50)
    state = torch.get_rng_state()
    tree, twin = (SoftPrototypeTree(4, 3).train() for _ in range(2))
    samples, sites = trees.init_from_samples(tree, x, generator=generator(4))
    trees.init_from_samples(twin, x, generator=generator(4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(tree.prototypes, twin.prototypes)
    assert torch.equal(tree.log_radius, twin.log_radius)
    assert len(set(samples.tolist())) == 7
    assert torch.equal(tree.prototypes.detach(), x[samples])
    assert sites.tolist() == [0] * 7
    assert tree.training
    distances = tree.eval()(x)["distances"]
    radius = tree.log_radius.exp()
    torch.testing.assert_close(radius, distances.median(dim=0).values)


def test_start_with_weights_leaves_out_zero_and_few_rows_repeat():
    x, _ = data(50)
    weight = torch.zeros(50)
    weight[[3, 8]] = 1.0
    tree = SoftPrototypeTree(4, 3)
    samples, _ = trees.init_from_samples(
        tree, x, generator=generator(), sample_weight=weight
    )
    assert set(samples.tolist()) == {3, 8}
    with pytest.raises(ValueError, match="positive sample_weight"):
        trees.init_from_samples(
            tree, x, generator=generator(), sample_weight=torch.zeros(50)
        )


def test_start_on_constant_data_has_a_radius():
    tree = SoftPrototypeTree(4, 3)
    trees.init_from_samples(tree, torch.ones(20, 4), generator=generator())
    assert torch.equal(tree.log_radius.detach(), torch.zeros(7))


def test_start_takes_any_site_and_a_single_leaf():
    z = torch.randn(30, 5, 4, generator=generator())
    tree = SoftPrototypeTree(4, 3)
    samples, sites = trees.init_from_samples(tree, z, generator=generator())
    assert torch.equal(tree.prototypes.detach(), z[samples, sites])
    assert len(set(sites.tolist())) > 1
    stump = SoftPrototypeTree(4, 3, is_leaf=[True])
    trees.init_from_samples(stump, z, generator=generator())
    assert trees.project_tree(stump, z).samples.shape == (0,)


def test_normal_start_of_the_paper():
    tree = SoftPrototypeTree(64, 3, depth=6)
    trees.init_normal(tree, generator=generator())
    assert tree.prototypes.mean().item() == pytest.approx(0.5, abs=0.01)
    assert tree.prototypes.std().item() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("n_sites", [1, 6])
def test_nearest_sites_equal_the_plain_search(n_sites, monkeypatch):
    monkeypatch.setattr(trees, "_SEARCH_NUMBERS", 7 * 9)
    tree = random_tree(TreeStructure.full(3))
    x = torch.randn(50, n_sites, 4, generator=generator())
    y = data(50)[1]
    sets = trees.class_sets(tree)[tree.structure.inner_nodes]
    found = trees.nearest_sites(tree, x, y)
    d = (tree.weights() * (x.unsqueeze(2) - tree.prototypes) ** 2).sum(-1).div(4).sqrt()
    for n in range(7):
        d[~torch.from_numpy(sets[n])[y], :, n] = math.inf
        best = divmod(int(d[:, :, n].argmin()), n_sites)
        assert (found.samples[n], found.sites[n]) == best
        torch.testing.assert_close(found.distances[n], d[:, :, n].min())


def test_projected_prototypes_are_training_rows_of_their_classes():
    tree = random_tree(TreeStructure.full(3)).train()
    x, y = data(50)
    found = trees.project_tree(tree, x, y)
    assert tree.training
    rows = torch.arange(7)
    outputs = tree.eval()(x)
    assert (outputs["distances"][found.samples, rows] == 0).all()
    assert (outputs["activations"][found.samples, rows] == 1).all()
    sets = trees.class_sets(tree)[tree.structure.inner_nodes]
    assert sets[rows, y[found.samples]].all()


def test_prototypes_without_admissible_row_stay():
    tree = random_tree(TreeStructure.full(2), n_classes=4)
    tree.leaf_counts.copy_(torch.eye(4))
    x, _ = data(20)
    before = tree.prototypes.detach().clone()
    found = trees.project_tree(tree, x, torch.zeros(20, dtype=torch.int64))
    assert found.samples[2] == -1
    assert found.distances[2] == math.inf
    assert torch.equal(tree.prototypes[2], before[2])
    assert torch.equal(tree.prototypes[:2].detach(), x[found.samples[:2]])


def nearest_of_sites(z, p, w):
    """Distances and sites of prototypes in training, and the plain definition."""
    ours = distances.nearest(z, p, w, exact=False)
    squared = (z[:, :, None] - p).square() * (1 if w is None else w)
    return ours, squared.sum(-1).min(dim=1)


@pytest.mark.parametrize("weighted", [False, True])
def test_nearest_sites_in_training_have_the_gradients_of_the_definition(
    weighted, monkeypatch
):
    monkeypatch.setattr(distances, "_BLOCK_NUMBERS", 40)  # two samples at a time
    shapes = [(5, 4, 3), (5, 3), *([(5, 3)] if weighted else [])]
    rand = generator()
    inputs = [
        torch.rand(shape, dtype=torch.float64, generator=rand).requires_grad_()
        for shape in shapes
    ]
    ours, plain = nearest_of_sites(*inputs, *([] if weighted else [None]))
    torch.testing.assert_close(ours[0], plain.values)
    assert torch.equal(ours[1], plain.indices)
    factor = torch.rand(ours[0].shape, dtype=torch.float64, generator=rand)
    torch.testing.assert_close(
        torch.autograd.grad((factor * ours[0]).sum(), inputs),
        torch.autograd.grad((factor * plain.values).sum(), inputs),
    )


def test_autocast_leaves_the_routing_in_full_precision():
    tree = SoftPrototypeTree(3, 2, depth=2).train()
    x = torch.rand(4, 5, 3, generator=generator())
    with torch.autocast("cpu", torch.bfloat16):
        outputs = tree(x.bfloat16())
    expected = tree(x.bfloat16().float())
    for name, value in outputs.items():
        assert torch.equal(value, expected[name])
