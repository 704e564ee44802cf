"""The part-prototype module: worked numbers, exactness and invariants."""

import copy
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skproto.nn.encoders import SiteEncoder
from skproto.nn.part_heads import make_head
from skproto.nn.part_similarity import SIMILARITIES, make_similarity, unit
from skproto.nn.parts import PartPrototypeNetwork, class_owners

DOUBLE = torch.float64
quick = settings(deadline=None, max_examples=30)
bounded = sorted(set(SIMILARITIES) - {"dot"})
HEADS = ("class_linear", "grouped_softmax", "nonneg")


def tensor(values):
    return torch.tensor(values, dtype=DOUBLE)


def random_network(seed=0, n_prototypes=6, dim=5, n_classes=3, **kwargs):
    net = PartPrototypeNetwork(n_prototypes, dim, n_classes, **kwargs)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.rand(parameter.shape, generator=generator))
    net.constrain_()
    return net.eval()


def sites(seed=1, n=4, n_sites=7, dim=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, n_sites, dim, generator=generator)


# ----------------------------------------------------------- worked numbers
@pytest.mark.parametrize(
    ("d", "expected"),
    [
        (0.0, 9.2103404),
        (1e-4, 8.5172932),
        (0.01, 4.6051702),
        (0.25, 1.6090380),
        (1.0, 0.6930472),
        (4.0, 0.2231186),
    ],
)
def test_worked_log_similarities(d, expected):
    similarity = make_similarity("log_l2", 1, 1)
    assert similarity.to_similarity(tensor([d])).item() == pytest.approx(
        expected, abs=5e-8
    )


@pytest.mark.parametrize("training", [True, False])
def test_worked_scores(training):
    net = PartPrototypeNetwork(2, 2, 2, similarity="log_l2").double()
    net.set_prototypes(tensor([[0.0, 0.0], [1.0, 0.0]]))
    x = tensor([[[0.0, 0.0], [1.0, 1.0]]])
    outputs = net.train(training)(x)
    torch.testing.assert_close(outputs["costs"], tensor([[0.0, 1.0]]))
    expected = tensor([[9.2103404, 0.6930472]])
    torch.testing.assert_close(outputs["activations"], expected, atol=5e-8, rtol=0)
    expected = tensor([[8.8638168, -3.9121230]])
    torch.testing.assert_close(outputs["scores"], expected, atol=1e-7, rtol=0)
    share = outputs["scores"].softmax(1)[0, 0].item()
    assert share == pytest.approx(0.99999717, abs=5e-9)
    torch.testing.assert_close(
        net.head.weight.detach(), tensor([[1.0, -0.5], [-0.5, 1.0]])
    )


def test_worked_distances():
    similarity = make_similarity("log_l2", 2, 2)
    d = similarity.distance(
        tensor([[0.0, 0.0], [1.0, 1.0]]), tensor([[0, 0], [1.0, 0]])
    )
    torch.testing.assert_close(d, tensor([[0.0, 1.0], [2.0, 1.0]]))


def test_worked_score_aggregation():
    head = make_head("grouped_softmax", 3, 1)
    head.reset(torch.ones(3, 1, dtype=torch.bool))
    torch.testing.assert_close(head.effective_weight().detach(), torch.ones(3, 1))
    with torch.no_grad():
        head.weight.copy_(torch.tensor([0.0, math.log(2), 0.0]))
    factors = head.effective_weight().detach().squeeze(1)
    torch.testing.assert_close(factors, torch.tensor([0.75, 1.5, 0.75]))


def test_worked_other_kernels():
    exponential = make_similarity("exp_l2", 1, 4)
    assert exponential.to_similarity(tensor([0.08])).item() == pytest.approx(5 / math.e)
    radius = make_similarity("radius", 2, 3, scale=1.0)
    radius.set_radius([2.0, 1.0])
    values = radius.to_similarity(torch.tensor([[4.0, 4.0]])).detach()
    torch.testing.assert_close(values, torch.tensor([[0.5, 2.0**-16]]))
    assert make_similarity("linear", 1, 1).to_similarity(tensor([2.0])).item() == -2.0


# ------------------------------------------------------- beside plain loops
def naive_similarity(name, z, p, dim):
    """Similarity of one site and one prototype, in plain arithmetic."""
    squared = float(sum((a - b) ** 2 for a, b in zip(z, p, strict=True)))
    dot = float(sum(a * b for a, b in zip(z, p, strict=True)))
    cosine = dot / math.hypot(*z.tolist()) / math.hypot(*p.tolist())
    return {
        "log_l2": math.log((squared + 1) / (squared + 1e-4)),
        "exp_l2": 5 * math.exp(-squared / (0.02 * dim)),
        "linear": -squared,
        "radius": 5 * 2 ** -(squared**2),
        "dot": dot,
        "cosine": 10 * cosine,
    }[name]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", sorted(SIMILARITIES))
def test_module_equals_a_loop(name, training):
    net = PartPrototypeNetwork(6, 5, 3, similarity=name).double().train(training)
    points = sites(3, 1, 6).double()[0]
    net.set_prototypes(points)
    x = sites().double()
    outputs = net(x)
    for i in range(len(x)):
        for p in range(6):
            values = [naive_similarity(name, z, points[p], 5) for z in x[i]]
            best = max(range(7), key=values.__getitem__)
            assert outputs["sites"][i, p].item() == best
            assert outputs["activations"][i, p].item() == pytest.approx(values[best])
            site, point = x[i, best], points[p]
            if name in ("cosine", "dot"):
                site, point = unit(site), unit(point)
            expected = (site - point).norm().item()
            assert outputs["distances"][i, p].item() == pytest.approx(expected)
    maps = net.similarity_maps(x)
    torch.testing.assert_close(maps.amax(2), outputs["activations"])
    scores = outputs["activations"] @ net.head.weight
    torch.testing.assert_close(outputs["scores"], scores)


def test_costs_of_directions_are_their_own_best_cosine():
    net = random_network(similarity="dot").double()
    x = 3 * sites().double()
    cosine = torch.einsum("ntd,pd->npt", unit(x), unit(net.prototypes))
    torch.testing.assert_close(net(x)["costs"], 1 - cosine.amax(2))


# ------------------------------------------------------------------ exactness
@quick
@given(
    st.integers(0, 10_000),
    st.sampled_from(bounded),
    st.sampled_from([1, 9]),
    st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_a_projected_prototype_scores_exactly_the_maximum(seed, name, n_sites, size):
    x = size * sites(seed, 6, n_sites, 32)
    net = random_network(dim=32, similarity=name)
    net.set_prototypes(x[:, n_sites // 2])
    outputs = net(x)
    rows = torch.arange(6)
    best = outputs["activations"][rows, rows]
    assert (best == net.similarity.max_value).all()
    assert (outputs["distances"][rows, rows] == 0).all()
    assert (outputs["sites"][rows, rows] == n_sites // 2).all()


def test_near_copies_do_not_hide_the_source():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 1, 256, generator=generator).repeat(1, 49, 1)
    x += 1e-5 * torch.rand(x.shape, generator=generator)
    net = PartPrototypeNetwork(49, 256, 7, similarity="log_l2").eval()
    net.set_prototypes(x[0])
    outputs = net(x)
    assert torch.equal(outputs["sites"][0], torch.arange(49))
    assert (outputs["distances"] == 0).all()


@pytest.mark.parametrize("name", ["cosine", "dot"])
def test_unit_prototypes_of_a_site_have_the_distance_zero(name):
    x = sites(5, 6, 9, 32)
    net = random_network(dim=32, similarity=name, unit_prototypes=True)
    net.set_prototypes(x[:, 4])
    torch.testing.assert_close(net.prototypes.detach().norm(dim=1), torch.ones(6))
    # Three times the vector: the same direction.
    outputs = net(3 * x[:, 4:5])
    assert (outputs["distances"].diagonal() == 0).all()


def test_no_direction_is_like_nothing():
    net = random_network(similarity="cosine")
    outputs = net(torch.zeros(2, 3, 5))
    assert not outputs["activations"].any()
    x = torch.zeros(2, 3, 5, requires_grad=True)
    net.train()(x)["scores"].sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("name", bounded)
def test_maximum_is_a_bound(name):
    net = random_network(similarity=name)
    activations = net(sites())["activations"]
    assert (activations <= net.similarity.max_value).all()
    assert make_similarity("dot", 1, 1).max_value == math.inf


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", sorted(SIMILARITIES))
@pytest.mark.parametrize("pooling", ["max", "topk", "focal"])
class TestModule:
    def make(self, name, pooling, head, **kwargs):
        return random_network(similarity=name, pooling=pooling, head=head, **kwargs)

    def test_contributions_sum_to_the_scores(self, name, pooling, head):
        net = self.make(name, pooling, head)
        outputs = net(sites())
        parts = net.head.contributions(outputs)
        assert parts.shape == (4, 6, 3)
        scores = parts.sum(1) + net.head.bias
        torch.testing.assert_close(outputs["scores"], scores, rtol=1e-5, atol=1e-5)

    def test_config_and_state_rebuild_it(self, name, pooling, head):
        net = self.make(name, pooling, head)
        twin = PartPrototypeNetwork(**json.loads(json.dumps(net.config))).eval()
        twin.load_state_dict(net.state_dict())
        assert torch.equal(net(sites())["scores"], twin(sites())["scores"])

    def test_gradients_are_finite_at_a_projected_prototype(self, name, pooling, head):
        net = self.make(name, pooling, head).train()
        x = sites(n=6)
        net.set_prototypes(x[:, 2])
        outputs = net(x)
        (outputs["scores"].sum() + outputs["costs"].sum()).backward()
        for key, parameter in net.named_parameters():
            assert torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("name", sorted(SIMILARITIES))
def test_exports_with_any_batch_size(name):
    net = random_network(similarity=name)
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(net, (sites(),), dynamic_shapes=({0: batch},))
    x = sites(n=9)
    torch.testing.assert_close(program.module()(x)["scores"], net(x)["scores"])


@pytest.mark.parametrize("name", sorted(SIMILARITIES))
def test_gradients_agree_with_differences(name):
    net = random_network(similarity=name).double().train()
    x = sites(n=2, n_sites=3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: net(x)["scores"], (x,))


@pytest.mark.parametrize("name", sorted(SIMILARITIES))
def test_training_and_evaluation_agree(name):
    net = random_network(similarity=name)
    first = net(sites())
    second = net.train()(sites())
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-4, atol=1e-4)


def test_half_precision_of_the_encoder_leaves_distances_whole():
    net = random_network(similarity="log_l2").train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = net(sites())
    torch.testing.assert_close(outputs["costs"], net(sites())["costs"])


# ------------------------------------------------------------------ ownership
def test_prototypes_are_ordered_by_class():
    owners = class_owners(6, 3)
    assert owners.nonzero()[:, 1].tolist() == [0, 0, 1, 1, 2, 2]
    assert class_owners(5, 2).sum(0).tolist() == [3, 2]
    assert random_network(shared=True).ownership.all()


def test_keep_is_setting_columns_to_zero():
    net = random_network()
    kept = torch.tensor([True, False, True, True, False, True])
    fewer = net.keep(kept)
    assert fewer.config["n_prototypes"] == 4
    assert torch.equal(fewer.ownership, net.ownership[kept])
    assert fewer.encoder is net.encoder
    first, second = net(sites()), fewer(sites())
    assert torch.equal(first["activations"][:, kept], second["activations"])
    parts = net.head.contributions(first)[:, kept]
    torch.testing.assert_close(parts.sum(1), second["scores"])
    twin = PartPrototypeNetwork(**fewer.config).eval()
    twin.load_state_dict(fewer.state_dict())
    assert torch.equal(twin(sites())["scores"], second["scores"])


@pytest.mark.parametrize("name", ["radius", "cosine"])
def test_keep_takes_radii_groups_and_type_along(name):
    net = random_network(similarity=name, head="grouped_softmax").double()
    kept = torch.tensor([True, False, True, True, False, False])
    fewer = net.keep(kept)
    assert fewer.prototypes.dtype == DOUBLE
    table = fewer.head.effective_weight()
    # The factors of a class sum to the prototypes it has left, none for the third.
    torch.testing.assert_close(table.sum(0), tensor([1.0, 2.0, 0.0]))
    x = sites().double()
    expected = net(x)["activations"][:, kept]
    torch.testing.assert_close(fewer(x)["activations"], expected)
    assert torch.isfinite(fewer(x)["scores"]).all()


@quick
@given(st.integers(0, 10_000), st.sampled_from(HEADS))
def test_permuting_prototypes_permutes_activations(seed, head):
    net = random_network(head=head)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    twin = copy.deepcopy(net)
    twin.set_ownership(net.ownership[order])
    with torch.no_grad():
        twin.prototypes.copy_(net.prototypes[order])
        twin.head.weight.copy_(net.head.weight[order])
    first, second = net(sites()), twin(sites())
    torch.testing.assert_close(first["activations"][:, order], second["activations"])
    torch.testing.assert_close(first["scores"], second["scores"])


@quick
@given(st.integers(0, 10_000), st.floats(0.1, 10))
def test_length_does_not_count_for_cosines(seed, factor):
    net = random_network(seed)
    outputs = net(sites(seed))
    longer = net(factor * sites(seed))
    torch.testing.assert_close(longer["activations"], outputs["activations"])


@quick
@given(st.integers(0, 10_000), st.sampled_from(["log_l2", "exp_l2", "linear"]))
def test_moving_sites_and_prototypes_together_changes_nothing(seed, name):
    net = random_network(seed, similarity=name).double()
    x, shift = sites(seed).double(), torch.rand(5, dtype=DOUBLE)
    outputs = net(x)
    net.set_prototypes(net.prototypes.detach() + shift)
    moved = net(x + shift)["activations"]
    torch.testing.assert_close(moved, outputs["activations"])


def test_owners_may_change_under_a_head_that_has_learned():
    net = random_network()
    weight = net.head.weight.detach().clone()
    net.set_ownership(net.ownership.flip(0), reset_head=False)
    assert torch.equal(net.head.weight, weight)
    net.set_ownership(net.ownership)
    assert torch.equal(net.head.weight == 1.0, net.ownership)


def test_slots_share_a_pool():
    net = random_network(
        shared=True,
        similarity="log_l2",
        pooling="focal",
        head="slots",
        head_options={"n_slots": 2},
    )
    assert net(sites())["scores"].shape == (4, 3)
    net.head.harden()
    outputs = net(sites())
    parts = net.head.contributions(outputs)
    torch.testing.assert_close(parts.sum(1), outputs["scores"])
    used = net.head.ownership().any(1)
    fewer = net.keep(used)
    torch.testing.assert_close(fewer(sites())["scores"], outputs["scores"])


def test_constraints_after_a_step():
    net = random_network(head="nonneg", similarity="dot", unit_prototypes=True)
    with torch.no_grad():
        net.prototypes.mul_(7.0)
        net.head.weight.fill_(-1.0)
    net.constrain_()
    torch.testing.assert_close(net.prototypes.detach().norm(dim=1), torch.ones(6))
    assert not net.head.weight.detach().any()
    # A weight at 0 may come back: it has a gradient.
    net(sites())["scores"].sum().backward()
    assert net.head.weight.grad.any()


# --------------------------------------------------------------- encoder maps
def image_network(**kwargs):
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(3, 5, 1)
    )
    encoder = SiteEncoder(body)
    return PartPrototypeNetwork(6, 5, 3, encoder=encoder, **kwargs)


def test_shallow_layer_is_given_without_gradient():
    net = image_network(shallow_layer="body.0")
    outputs = net(torch.rand(2, 1, 8, 8))
    assert outputs["shallow"].shape == (2, 3, 8, 8)
    assert not outputs["shallow"].requires_grad
    assert outputs["embedding"].shape == (2, 16, 5)
    assert "shallow" not in image_network()(torch.rand(2, 1, 8, 8))
    # No hook stays behind.
    assert not net.encoder.get_submodule("body.0")._forward_hooks
    assert net.similarity_maps(torch.rand(2, 1, 8, 8)).shape == (2, 6, 16)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"similarity": "l1"}, "similarity must be one of .* got 'l1'"),
        ({"pooling": "mean"}, "pooling must be one of .* got 'mean'"),
        ({"head": "mlp"}, "head must be one of .* got 'mlp'"),
        ({"shallow_layer": "body.9"}, "shallow_layer must name a module"),
        ({"similarity_options": {"scale": 0.0}}, "scale must be a positive float"),
    ],
)
def test_errors_name_the_parameter(kwargs, message):
    with pytest.raises(ValueError, match=message):
        image_network(**kwargs)
    with pytest.raises(ValueError, match="sharpness must be a float >= 2"):
        make_similarity("radius", 1, 1, sharpness=1.0)
