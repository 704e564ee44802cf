"""ProtoPool's slots: choices, focal similarity, evidence and losses."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from skproto.nn.part_similarity import make_similarity
from skproto.nn.parts import PartPrototypeNetwork
from skproto.nn.slot_losses import (
    Mixup,
    MixupCrossEntropy,
    SlotCluster,
    SlotOffClassL1,
    SlotOrthogonality,
    SlotSeparation,
)
from skproto.nn.slots import SlotHead, gumbel_scale

DOUBLE = torch.float64


def pool_network(seed=0, n_prototypes=5, n_classes=3, n_slots=2, dim=4, **options):
    """A ProtoPool network in float64 with random prototypes and slots."""
    net = PartPrototypeNetwork(
        n_prototypes,
        dim,
        n_classes,
        similarity="log_l2",
        pooling="focal",
        head="slots",
        shared=True,
        head_options={"n_slots": n_slots, **options},
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        net.prototypes.copy_(torch.rand(n_prototypes, dim, generator=generator))
        net.head.logits.copy_(torch.randn(net.head.logits.shape, generator=generator))
    return net.double().eval()


def sites(seed=0, n=6, n_sites=7, dim=4):
    generator = torch.Generator().manual_seed(100 + seed)
    return torch.rand(n, n_sites, dim, dtype=DOUBLE, generator=generator)


def log_similarity(d):
    return math.log((d + 1.0) / (d + 1e-4))


def test_scale_follows_the_published_schedule():
    a = (1000.0 / 1.3) ** 2 / 30
    for epoch in range(31):
        assert gumbel_scale(epoch) == pytest.approx(1.3 * math.sqrt(a * epoch))
    assert gumbel_scale(0) == 0.0
    assert gumbel_scale(30) == gumbel_scale(500) == 1000.0


@torch.no_grad()
def test_soft_slots_equal_plain_loops():
    net, z = pool_network(), sites()
    scores = net(z)["scores"]
    q = net.head.assignment().tolist()
    p = net.prototypes.tolist()
    for i, sample in enumerate(z.tolist()):
        d = [[sum((a - b) ** 2 for a, b in zip(s, v, strict=True)) for s in sample]
             for v in p]  # fmt: skip
        for c in range(3):
            total = 0.0
            for slot in q[2 * c : 2 * c + 2]:
                near = sum(w * min(row) for w, row in zip(slot, d, strict=True))
                mean = sum(w * sum(row) / 7 for w, row in zip(slot, d, strict=True))
                total += log_similarity(near) - log_similarity(mean)
            assert float(scores[i, c]) == pytest.approx(total, rel=1e-9)


def test_focal_similarity_is_that_of_the_slot_not_the_mean_of_the_prototypes():
    net, z = pool_network(), sites()
    outputs = net(z)
    mixed = outputs["activations"] @ net.head.assignment().T
    assert (outputs["slot_similarities"] - mixed).abs().max() > 1e-3


def test_hardened_slots_show_the_activation_of_their_prototype():
    net, z = pool_network(), sites()
    net.head.harden()
    outputs = net(z)
    choice = net.head.logits.flatten(0, 1).argmax(1)
    assert torch.equal(outputs["slot_similarities"], outputs["activations"][:, choice])
    expected = outputs["activations"][:, choice].unflatten(1, (3, 2)).sum(2)
    torch.testing.assert_close(outputs["scores"], expected)


@pytest.mark.parametrize("hardened", [False, True])
def test_contributions_of_the_units_sum_to_the_scores(hardened):
    net, z = pool_network(), sites()
    with torch.no_grad():
        net.head.weight.add_(0.1 * torch.randn(net.head.weight.shape, dtype=DOUBLE))
    if hardened:
        net.head.harden()
    outputs = net(z)
    contributions = net.head.contributions(outputs)
    units = {"slots": 6, "prototypes": 5}[net.head.units]
    assert contributions.shape == (6, units, 3)
    total = contributions.sum(1) + net.head.bias
    torch.testing.assert_close(total, outputs["scores"], rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_slots_of_a_class_may_share_a_prototype():
    net, z = pool_network(), sites()
    net.head.logits[0, :, 3] = 50.0
    net.head.harden()
    table, bias = net.head.tables()
    assert float(table[3, 0]) == 2.0
    assert float(table[:, 0].sum()) == 2.0
    outputs = net(z)
    torch.testing.assert_close(outputs["scores"], outputs["activations"] @ table + bias)


def test_slots_of_other_classes_start_at_zero():
    net = pool_network()
    assert torch.equal(net.head.weight, net.head.owner.double())
    assert float(SlotOffClassL1()({}, None, net).detach()) == 0.0
    against = SlotHead(4, 3, 2, incorrect_weight=-0.5)
    assert float(against.off_class_norm().detach()) == pytest.approx(0.5 * 6 * 2)


def test_choice_is_the_largest_entry_whatever_the_random_state():
    choices = []
    for seed in (0, 1):
        net = pool_network().train()
        net.head.scale = 1.0
        torch.manual_seed(seed)
        net.head.harden()
        choices.append(net.head.chosen.clone())
    assert torch.equal(*choices)
    assert torch.equal(
        choices[0].int().argmax(1), net.head.logits.flatten(0, 1).argmax(1)
    )
    assert (choices[0].sum(1) == 1).all()


def test_scale_zero_is_a_plain_softmax_and_draws_nothing():
    net = pool_network().train()
    state = torch.get_rng_state()
    expected = net.head.logits.flatten(0, 1).softmax(1)
    assert torch.equal(net.head.assignment(), expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_is_drawn_in_training_only():
    net = pool_network()
    net.head.scale = 2.0
    assert torch.equal(net.head.assignment(), net.head.assignment())
    net.train()
    first, second = net.head.assignment(), net.head.assignment()
    assert not torch.equal(first, second)
    torch.testing.assert_close(first.sum(1), torch.ones(6, dtype=DOUBLE))


def test_choices_at_the_final_scale_are_hard():
    net = pool_network()
    net.head.scale = gumbel_scale(30)
    soft = net.head.assignment()
    net.head.harden()
    torch.testing.assert_close(soft, net.head.assignment(), rtol=0, atol=1e-6)


def test_gradient_reaches_logits_prototypes_and_sites():
    net, z = pool_network().train(), sites().requires_grad_()
    net.head.scale = gumbel_scale(1, end=20.0)
    loss = functional.cross_entropy(net(z)["scores"], torch.tensor([0, 1, 2] * 2))
    loss.backward()
    for value in (net.head.logits, net.prototypes, z):
        assert torch.isfinite(value.grad).all()
        assert value.grad.abs().max() > 0


@torch.no_grad()
def test_projected_prototype_is_found_on_its_source():
    net, z = pool_network().float(), sites().float()
    net.head.harden()
    net.set_prototypes(z[torch.arange(5), torch.arange(5)])
    outputs = net(z)
    index = torch.arange(5)
    assert (outputs["distances"][index, index] == 0).all()
    assert torch.equal(outputs["sites"][index, index], index)
    largest = torch.tensor(-math.log(1e-4)) - torch.tensor(
        [
            log_similarity(float((z[i] - z[i, i]).square().sum(1).mean()))
            for i in range(5)
        ]
    )
    torch.testing.assert_close(outputs["activations"][index, index], largest)


@torch.no_grad()
def test_orthogonality_equals_loops_over_pairs_of_slots():
    net = pool_network(n_slots=3)
    q = net.head.assignment()
    total = 0.0
    for c in range(3):
        for i in range(3 * c, 3 * c + 3):
            for j in range(3 * c, 3 * c + 3):
                total += float(functional.cosine_similarity(q[i], q[j], dim=0))
    value = SlotOrthogonality()(net(sites()), None, net)
    assert float(value) == pytest.approx(total / 9 - 1)


@pytest.mark.parametrize(("choice", "expected"), [((0, 1, 2), 0.0), ((1, 1, 1), 2.0)])
def test_orthogonality_of_different_and_of_equal_choices(choice, expected):
    net = pool_network(n_slots=3, n_classes=2)
    with torch.no_grad():
        net.head.logits.zero_()
        net.head.logits[:, torch.arange(3), torch.tensor(choice)] = 1e3
    value = SlotOrthogonality()({}, None, net)
    assert float(value.detach()) == pytest.approx(expected, abs=1e-9)


def test_losses_use_the_draw_behind_the_scores():
    net = pool_network().train()
    net.head.scale = 1.0
    outputs = net(sites())
    unit = functional.normalize(outputs["assignment"], dim=1)
    expected = (unit.unflatten(0, (3, 2)).sum(1).square().sum() / 6 - 1).detach()
    value = SlotOrthogonality()(outputs, None, net)
    torch.testing.assert_close(value.detach(), expected)


@torch.no_grad()
@pytest.mark.parametrize("hardened", [False, True])
@pytest.mark.parametrize("spread", [1.0, 100.0])
def test_cluster_and_separation_equal_plain_loops(hardened, spread):
    # A spread of 100 brings distances above D, where a bound of D would fail.
    net, z = pool_network(), spread * sites()
    if hardened:
        net.head.harden()
    target = torch.tensor([0, 1, 2, 0, 1, 2])
    outputs = net(z)
    share = net.head.assignment().unflatten(0, (3, 2)).sum(1)
    for i, c in enumerate(target.tolist()):
        order = share[c].argsort(descending=True).tolist()
        own = set(order[: (int((share[c] > 0).sum()) if hardened else 2)])
        d = [(z[i] - p).square().sum(1).min().item() for p in net.prototypes]
        near = min(d[p] for p in own)
        far = min(d[p] for p in range(5) if p not in own)
        cluster = SlotCluster()(outputs, target, net)[i]
        separation = SlotSeparation()(outputs, target, net)[i]
        assert float(cluster.detach()) == pytest.approx(near, rel=1e-9)
        assert float(separation.detach()) == pytest.approx(-far, rel=1e-9)


def test_class_that_owns_the_whole_pool_has_nothing_to_part_from():
    net = pool_network(n_prototypes=2, n_slots=4).train()
    value = SlotSeparation()(net(sites()), torch.tensor([0, 1, 2] * 2), net)
    value.sum().backward()
    assert torch.equal(value.detach(), torch.zeros(6, dtype=DOUBLE))
    assert torch.isfinite(net.prototypes.grad).all()


@pytest.mark.parametrize("way", ["state", "copy", "pickle"])
def test_choices_and_scale_travel_with_the_state(way):
    net, z = pool_network(), sites()
    net.head.scale = 0.75
    net.head.harden()
    if way == "state":
        twin = pool_network(seed=9)
        twin.load_state_dict(net.state_dict())
    else:
        twin = {"copy": copy.deepcopy, "pickle": _pickled}[way](net)
    assert twin.head.hardened
    assert twin.head.scale == 0.75
    assert torch.equal(twin(z)["scores"], net(z)["scores"])


def _pickled(net):
    return pickle.loads(pickle.dumps(net))


def test_state_of_soft_slots_loads_into_hardened_ones():
    net, twin = pool_network(), pool_network(seed=4)
    twin.head.harden()
    twin.load_state_dict(net.state_dict())
    assert not twin.head.hardened
    assert torch.equal(twin(sites())["scores"], net(sites())["scores"])


def test_removing_a_prototype_takes_its_contribution():
    net = pool_network()
    net.head.harden()
    z = sites()
    outputs = net(z)
    kept = torch.tensor([True, False, True, True, True])
    rest = net.keep(kept)
    contributions = net.head.contributions(outputs)
    expected = outputs["scores"] - contributions[:, 1]
    torch.testing.assert_close(rest(z)["scores"], expected, rtol=1e-9, atol=1e-9)
    assert rest.head.hardened
    assert int(rest.head.chosen.sum()) == 6 - int(net.head.chosen[:, 1].sum())


def test_tables_before_hardening_are_refused():
    with pytest.raises(ValueError, match="only after harden"):
        pool_network().head.tables()


def test_kernels_of_single_prototypes_are_refused():
    with pytest.raises(ValueError, match="same for all prototypes"):
        SlotHead(3, 2).bind(make_similarity("radius", 3, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n_slots": 0}, "n_slots must be"), ({"tau": 0.0}, "tau must be")],
)
def test_wrong_sizes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SlotHead(3, 2, **options)


def test_slots_start_apart_and_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    first, second = SlotHead(6, 2, 3), SlotHead(6, 2, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.logits, second.logits)
    assert first.logits.flatten(0, 1).unique(dim=0).shape[0] == 6


def test_one_site_needs_slots_without_the_mean():
    net = pool_network(focal=False)
    net.head.harden()
    z = sites(n_sites=1)
    soft = pool_network(focal=False)(z)["slot_similarities"]
    assert (soft > 0).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(0.0, 50.0))
def test_soft_focal_similarities_are_not_negative(seed, scale):
    net = pool_network(seed=seed)
    net.head.scale = scale
    outputs = net(sites(seed=seed))
    assert (outputs["slot_similarities"] >= -1e-12).all()
    q = net.head.assignment()
    torch.testing.assert_close(q.sum(1), torch.ones(6, dtype=DOUBLE))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.booleans())
def test_order_of_the_pool_does_not_matter(seed, hardened):
    net, z = pool_network(seed=seed), sites(seed=seed)
    twin = copy.deepcopy(net)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        twin.prototypes.copy_(net.prototypes[order])
        twin.head.logits.copy_(net.head.logits[..., order])
    if hardened:
        net.head.harden()
        twin.head.harden()
    torch.testing.assert_close(twin(z)["scores"], net(z)["scores"])
    torch.testing.assert_close(twin(z)["activations"], net(z)["activations"][:, order])


@pytest.mark.parametrize("hardened", [False, True])
def test_exports_with_a_dynamic_batch(hardened):
    net, z = pool_network(), sites()
    if hardened:
        net.head.harden()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(net, (z,), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(program.module()(z[:2])["scores"], net(z[:2])["scores"])


def test_mixup_mixes_batch_and_targets_alike():
    mixup, net = Mixup(0.5), pool_network().train()
    torch.manual_seed(0)
    z, target = sites(), torch.tensor([0, 1, 2, 0, 1, 2])
    mixed = mixup(z)
    expected = mixup.share * z + (1 - mixup.share) * z[mixup.partner]
    torch.testing.assert_close(mixed, expected)
    outputs = net(mixed)
    shares = mixup.share * functional.one_hot(target, 3).double()
    shares = shares + (1 - mixup.share) * functional.one_hot(target[mixup.partner], 3)
    expected = -(shares * outputs["scores"].log_softmax(1)).sum(1)
    value = MixupCrossEntropy(mixup)(outputs, target, net)
    torch.testing.assert_close(value, expected)


def test_mixup_is_absent_in_evaluation():
    mixup, net = Mixup(0.5, augment=torch.neg), pool_network()
    mixup(sites())
    outputs, target = net(sites()), torch.tensor([0, 1, 2, 0, 1, 2])
    value = MixupCrossEntropy(mixup)(outputs, target, net)
    expected = functional.cross_entropy(outputs["scores"], target, reduction="none")
    assert torch.equal(value, expected)
    with pytest.raises(ValueError, match="alpha must be"):
        Mixup(0.0)
