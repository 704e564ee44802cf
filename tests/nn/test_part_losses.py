"""Loss terms of part-prototype networks beside plain loops and worked numbers."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skproto.nn.encoders import SiteEncoder
from skproto.nn.part_losses import (
    ClusterCost,
    OffClassL1,
    PrototypeOrthogonality,
    SeparationCost,
    ShallowDeepAlignment,
    SubspaceSeparation,
    class_members,
    fold_shallow,
)
from skproto.nn.part_similarity import unit
from skproto.nn.parts import PartPrototypeNetwork

DOUBLE = torch.float64
quick = settings(deadline=None, max_examples=30)


def network(seed=0, n_prototypes=6, dim=4, n_classes=3, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    net = PartPrototypeNetwork(n_prototypes, dim, n_classes, **kwargs).double()
    with torch.no_grad():
        net.prototypes.copy_(torch.randn(net.prototypes.shape, generator=generator))
    return net


def owned(*owners, n_classes=2):
    """A stand-in for a module whose prototypes have the owners given."""
    ownership = torch.tensor(owners)[:, None] == torch.arange(n_classes)
    return SimpleNamespace(ownership=ownership)


# ------------------------------------------------------ cluster and separation
def max_distance_trick(d, chosen, size):
    """Minimum over the chosen prototypes as published."""
    return size - ((size - d) * chosen).amax(1)


@quick
@given(st.integers(0, 10_000))
def test_masks_equal_the_published_trick_below_its_bound(seed):
    d = torch.rand(5, 6, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    module, target = owned(0, 0, 1, 1, 2, 2, n_classes=3), torch.tensor([0, 1, 2, 0, 1])
    chosen = module.ownership.T[target]
    own = ClusterCost()({"costs": d}, target, module)
    torch.testing.assert_close(own, max_distance_trick(d, chosen, 1.0))
    other = -SeparationCost()({"costs": d}, target, module)
    torch.testing.assert_close(other, max_distance_trick(d, ~chosen, 1.0))


def test_the_published_trick_is_wrong_above_its_bound_and_masks_are_not():
    d, target, module = torch.tensor([[7.0, 9.0]]), torch.tensor([0]), owned(0, 1)
    assert max_distance_trick(d, module.ownership.T[target], 4.0).item() == 4.0
    assert ClusterCost()({"costs": d}, target, module).item() == 7.0
    assert SeparationCost()({"costs": d}, target, module).item() == -9.0


def test_worked_costs_of_a_module():
    net = network(n_prototypes=2, dim=2, n_classes=2, similarity="log_l2")
    net.set_prototypes(torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=DOUBLE))
    outputs = net(torch.tensor([[[0.0, 0.0], [1.0, 1.0]]], dtype=DOUBLE))
    assert ClusterCost()(outputs, torch.tensor([0]), net).item() == 0.0
    assert ClusterCost()(outputs, torch.tensor([1]), net).item() == 1.0
    assert SeparationCost()(outputs, torch.tensor([0]), net).item() == -1.0


@pytest.mark.parametrize("similarity", ["cosine", "dot", "log_l2"])
def test_a_step_down_brings_own_prototypes_nearer_and_others_farther(similarity):
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(8, 5, 4, generator=generator, dtype=DOUBLE)
    target = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    for term, own in ((ClusterCost(), True), (SeparationCost(), False)):
        net = network(similarity=similarity).train()
        before = net(x)
        term(before, target, net).mean().backward()
        with torch.no_grad():
            net.prototypes -= 0.01 * net.prototypes.grad
        chosen = net.ownership.T[target]
        chosen = chosen if own else ~chosen
        change = (net(x)["costs"] - before["costs"]).masked_fill(~chosen, 0).sum()
        assert (change < 0) == own


def test_a_class_without_prototypes_costs_nothing_and_has_no_gradient():
    d = torch.rand(2, 2, requires_grad=True)
    target, module = torch.tensor([1, 0]), owned(0, 0)
    own = ClusterCost()({"costs": d}, target, module)
    other = SeparationCost()({"costs": d}, target, module)
    assert own[0] == 0.0
    assert other[1] == 0.0
    (own.sum() + other.sum()).backward()
    assert torch.isfinite(d.grad).all()
    assert torch.equal(other, torch.tensor([-d[0].min().item(), 0.0]))


def test_a_head_may_give_costs_of_classes():
    outputs = {"class_costs": torch.tensor([[1.0, 2.0, 3.0]])}
    target = torch.tensor([1])
    assert ClusterCost()(outputs, target, None).item() == 2.0
    assert SeparationCost()(outputs, target, None).item() == -1.0


# ---------------------------------------------------------------- the head
def test_off_class_l1():
    net = network()
    assert OffClassL1()({}, None, net).item() == pytest.approx(6 * 2 * 0.5)
    assert OffClassL1()({}, None, network(head="nonneg")).item() == 0.0
    assert OffClassL1()({}, None, network(head="grouped_softmax")).item() == 0.0
    OffClassL1()({}, None, net).backward()
    assert not net.head.weight.grad[net.ownership].any()


def test_all_weights_of_prototypes_that_all_classes_own_count():
    shared = network(shared=True)
    shared.head.reset(network().ownership)
    assert OffClassL1()({}, None, shared).item() == pytest.approx(6 * (1 + 2 * 0.5))
    assert SeparationCost()(
        {"costs": torch.rand(2, 6)}, torch.tensor([0, 2]), shared
    ).tolist() == [0.0, 0.0]


# ------------------------------------------------------------- orthogonality
def test_class_members_of_uneven_classes():
    members, valid = class_members(owned(1, 0, 1, 1, n_classes=3).ownership)
    assert valid.sum(1).tolist() == [1, 3, 0]
    assert members[0][valid[0]].tolist() == [1]
    assert members[1][valid[1]].tolist() == [0, 2, 3]


@quick
@given(st.integers(0, 10_000), st.sampled_from([1, 2]))
def test_orthogonality_equals_a_loop_over_classes(seed, power):
    net = network(seed).keep(torch.tensor([True, True, True, True, False, True]))
    expected = 0.0
    for c in range(3):
        p = unit(net.prototypes.detach()[net.ownership[:, c]])
        gap = p @ p.T - torch.eye(len(p), dtype=DOUBLE)
        expected += gap.abs().pow(power).sum().item()
    value = PrototypeOrthogonality(power)({}, None, net)
    assert value.item() == pytest.approx(expected)


def test_orthogonality_compares_within_a_class_only():
    net = network(n_prototypes=4, n_classes=2)
    e = torch.eye(4, dtype=DOUBLE)
    # Class 0 owns rows 0 and 1: orthogonal. A wrong order would see equal pairs.
    net.set_prototypes(torch.stack([e[0], e[1], e[0], e[1]]))
    assert PrototypeOrthogonality()({}, None, net).item() == 0.0
    net.set_prototypes(torch.stack([e[0], e[0], e[1], e[1]]))
    assert PrototypeOrthogonality()({}, None, net).item() == 4.0


@quick
@given(st.integers(0, 10_000))
def test_subspace_separation_equals_projections(seed):
    net = network(seed)
    p = unit(net.prototypes.detach()).unflatten(0, (3, 2))
    projections = p.transpose(1, 2) @ p
    pairs = (projections[:, None] - projections).flatten(2).norm(dim=2)
    expected = -0.5 * pairs.sum().item() / 2**0.5
    term = SubspaceSeparation()
    assert term({}, None, net).item() == pytest.approx(expected)
    term({}, None, net).backward()
    assert torch.isfinite(net.prototypes.grad).all()


def test_subspaces_of_orthogonal_classes():
    net = network(n_prototypes=4, n_classes=2)
    e = torch.eye(4, dtype=DOUBLE)
    net.set_prototypes(e)
    # Two projections on two dimensions each: the norm of their difference is 2.
    assert SubspaceSeparation()({}, None, net).item() == pytest.approx(-(2**0.5))
    net.set_prototypes(torch.cat([e[:2], e[:2]]))
    assert SubspaceSeparation()({}, None, net).item() == pytest.approx(0.0, abs=1e-7)


# ------------------------------------------------------------------ alignment
def alignment_outputs(seed=0, n=3, side=4, factor=2):
    generator = torch.Generator().manual_seed(seed)
    size = factor * side
    shallow = torch.randn(n, 2, size, size, generator=generator, dtype=DOUBLE)
    deep = torch.randn(n, side * side, 5, generator=generator, dtype=DOUBLE)
    cells = torch.randint(side * side, (n, 5), generator=generator)
    return {"shallow": shallow, "embedding": deep, "sites": cells}


def alignment_module(side=4):
    module = owned(0, 0, 1, 1, 1, n_classes=3)
    module.encoder = SimpleNamespace(grid=(side, side))
    return module


def alignment_by_loop(outputs, target, module, threshold, factor=2):
    values = []
    for i, c in enumerate(target.tolist()):
        shallow, deep = outputs["shallow"][i], outputs["embedding"][i]
        side = module.encoder.grid[0]
        blocks = []
        for row in range(0, factor * side, factor):
            for column in range(0, factor * side, factor):
                block = shallow[:, row : row + factor, column : column + factor]
                blocks.append(block.flatten())
        low = nn.functional.normalize(torch.stack(blocks), dim=1)
        high = nn.functional.normalize(deep, dim=1)
        gap = (high @ high.T - low @ low.T).abs()
        own = module.ownership[:, c].nonzero().squeeze(1)
        rows = [gap[int(outputs["sites"][i, p])] for p in own]
        costs = [torch.relu(row - threshold).mean().item() for row in rows]
        values.append(sum(costs) / max(1, len(costs)))
    return torch.tensor(values, dtype=DOUBLE)


@quick
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 3]))
def test_alignment_equals_a_loop(seed, factor):
    outputs = alignment_outputs(seed, factor=factor)
    module, target = alignment_module(), torch.tensor([0, 1, 2])
    value = ShallowDeepAlignment(0.1)(outputs, target, module)
    expected = alignment_by_loop(outputs, target, module, 0.1, factor)
    torch.testing.assert_close(value, expected)
    assert value[2] == 0.0


def test_identical_maps_are_aligned_and_a_large_threshold_forgives_all():
    outputs, target = alignment_outputs(factor=1), torch.tensor([0, 1, 1])
    module = alignment_module()
    assert ShallowDeepAlignment(0.0)(outputs, target, module).sum() > 0
    assert not ShallowDeepAlignment(2.0)(outputs, target, module).any()
    outputs["embedding"] = outputs["shallow"].flatten(2).transpose(1, 2)
    assert not ShallowDeepAlignment(0.0)(outputs, target, module).any()


def test_alignment_of_a_module_moves_the_deep_layers_only():
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(3, 4, 1)
    )
    encoder = SiteEncoder(body)
    encoder.grid = (4, 4)
    net = PartPrototypeNetwork(6, 4, 3, encoder=encoder, shallow_layer="body.0")
    nn.init.normal_(net.prototypes)
    outputs = net(torch.rand(3, 1, 8, 8))
    ShallowDeepAlignment(0.0)(outputs, torch.tensor([0, 1, 2]), net).mean().backward()
    assert body[2].weight.grad.abs().sum() > 0
    assert torch.isfinite(body[2].weight.grad).all()
    # The shallow map itself is a fixed reference.
    assert not outputs["shallow"].requires_grad


def test_folding():
    shallow = torch.rand(2, 3, 7, 9)
    assert fold_shallow(shallow, 6, (3, 2)).shape == (2, 6, 3 * 4)
    tokens = torch.rand(2, 5, 3)
    assert torch.equal(fold_shallow(tokens, 4), tokens[:, 1:])
    with pytest.raises(ValueError, match="at least 6 tokens"):
        fold_shallow(tokens, 6)
    with pytest.raises(ValueError, match="deep grid None"):
        fold_shallow(shallow, 6, None)


def test_alignment_without_a_shallow_layer_says_what_it_needs():
    net = network()
    with pytest.raises(ValueError, match="needs a module with shallow_layer"):
        ShallowDeepAlignment()(
            net(torch.rand(1, 3, 4).double()), torch.tensor([0]), net
        )
