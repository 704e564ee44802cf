"""Deformable ProtoPNet: parts that move, their margin and their penalties."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from skproto.nn.deformable import DeformablePartNetwork
from skproto.nn.deformable_losses import (
    MarginCrossEntropy,
    OffsetPenalty,
    PartOrthogonality,
)
from skproto.nn.encoders import SiteEncoder
from skproto.nn.part_losses import ClusterCost, OffClassL1, SeparationCost
from skproto.nn.part_sampling import (
    INTERPOLATIONS,
    directions,
    reduced_angle,
    sample_map,
    settled_directions,
)

DOUBLE = torch.float64
LABELS = (0, 0, 1, 1, 2, 2)


def grid_encoder(dim=4, grid=(5, 6)):
    """Images whose pixels are the sites."""
    encoder = SiteEncoder(nn.Identity(), input_shape=(dim, *grid))
    encoder.probe("pixels")
    return encoder


def network(seed=0, labels=LABELS, dim=4, grid=(5, 6), offsets=0.5, **options):
    encoder = grid_encoder(dim, grid)
    n_classes = max(labels) + 1
    net = DeformablePartNetwork(labels, dim, n_classes, encoder=encoder, **options)
    generator = torch.Generator().manual_seed(seed)
    net.set_prototypes(torch.randn(net.prototypes.shape, generator=generator))
    with torch.no_grad():
        for parameter in net.offset_net.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(offsets * noise)
    return net.double().eval()


def images(seed=0, n=4, dim=4, grid=(5, 6)):
    generator = torch.Generator().manual_seed(100 + seed)
    return torch.randn(n, dim, *grid, dtype=DOUBLE, generator=generator)


def bilinear(image, row, column):
    """Value of a map (D, H, W) between four sites, by hand."""
    height, width = image.shape[1:]
    top, left = min(int(row), height - 2), min(int(column), width - 2)
    down, right = row - top, column - left
    upper = (1 - right) * image[:, top, left] + right * image[:, top, left + 1]
    lower = (1 - right) * image[:, top + 1, left] + right * image[:, top + 1, left + 1]
    return (1 - down) * upper + down * lower


@torch.no_grad()
def test_forward_equals_plain_loops():
    net, x = network(), images()
    outputs = net(x)
    unit = x / x.norm(dim=1, keepdim=True)
    offsets = net.offset_net(unit)
    for i in range(len(x)):
        for j, prototype in enumerate(net.prototypes):
            best, place, positions = -2.0, 0, []
            for t in range(30):
                row, column = divmod(t, 6)
                total, here = 0.0, []
                for m in range(9):
                    shift = offsets[i, 2 * m : 2 * m + 2, row, column].tolist()
                    y = min(max(row + m // 3 - 1 + shift[0], 0.0), 4.0)
                    x_ = min(max(column + m % 3 - 1 + shift[1], 0.0), 5.0)
                    v = bilinear(unit[i], y, x_)
                    total += float(prototype[m] @ v / v.norm()) / 9
                    here.append([y, x_])
                if total > best:
                    best, place, positions = total, t, here
            assert float(outputs["cosines"][i, j]) == pytest.approx(best)
            assert int(outputs["sites"][i, j]) == place
            torch.testing.assert_close(
                outputs["part_positions"][i, j], torch.tensor(positions, dtype=DOUBLE)
            )
            activation = max(best, 0.0)
            assert float(outputs["activations"][i, j]) == pytest.approx(activation)
            distance = math.sqrt(2 - 2 * best)
            assert float(outputs["distances"][i, j]) == pytest.approx(distance)


@torch.no_grad()
def test_training_and_evaluation_agree_without_top_k():
    net, x = network(), images()
    exact, soft = net(x), net.train()(x)
    for name in ("scores", "activations", "cosines", "costs", "distances", "sites"):
        torch.testing.assert_close(soft[name], exact[name])


@pytest.mark.parametrize("name", sorted(INTERPOLATIONS))
@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(0.0, 10.0))
def test_every_part_has_length_one_wherever_it_moves(name, seed, offsets):
    net = network(seed=seed, offsets=offsets, interpolation=name)
    parts, positions = net.deformed(images(seed=seed))
    length = parts.detach().norm(dim=3)
    torch.testing.assert_close(length, torch.ones_like(length))
    limit = positions.new_tensor([4.0, 5.0])
    assert ((positions >= 0) & (positions <= limit)).all()


def test_whole_positions_show_the_map_itself():
    image = directions(images().transpose(1, 3)).transpose(1, 3)
    rows, columns = torch.meshgrid(torch.arange(5), torch.arange(6), indexing="ij")
    positions = torch.stack([rows, columns], dim=2).double().expand(4, 5, 6, 2)
    torch.testing.assert_close(sample_map(image, positions), image.permute(0, 2, 3, 1))
    moved = INTERPOLATIONS["renormalised"](image, positions)
    torch.testing.assert_close(moved, image.permute(0, 2, 3, 1))


def test_squares_are_interpolated_as_in_the_paper():
    image = directions(images().abs().transpose(1, 3)).transpose(1, 3)
    positions = torch.tensor([1.25, 3.5], dtype=DOUBLE).expand(4, 1, 1, 2)
    values = INTERPOLATIONS["squares"](image, positions)[:, 0, 0]
    weights = {(1, 3): 0.375, (1, 4): 0.375, (2, 3): 0.125, (2, 4): 0.125}
    squared = sum(w * image[:, :, r, c] ** 2 for (r, c), w in weights.items())
    torch.testing.assert_close(values, squared.sqrt())


def test_a_site_without_direction_has_a_finite_gradient():
    v = torch.zeros(2, 4, requires_grad=True)
    directions(v).sum().backward()
    assert torch.isfinite(v.grad).all()
    assert torch.equal(directions(torch.zeros(4)), torch.full((4,), 0.5))


@pytest.mark.parametrize("dim", [3, 64, 768, 2048])
def test_unit_vectors_settle_at_once(dim):
    v = torch.randn(500, dim, generator=torch.Generator().manual_seed(dim))
    units = directions(v)
    assert torch.equal(settled_directions(units), units)
    torch.testing.assert_close(settled_directions(v), units)


@pytest.mark.parametrize("name", sorted(INTERPOLATIONS))
@torch.no_grad()
def test_projected_prototype_is_exactly_like_its_source(name):
    net = network(dim=64, interpolation=name, scale=10.0).float()
    x = images(dim=64, n=6).float()
    parts, positions = net.deformed(x)
    index = torch.arange(6)
    net.set_prototypes(parts[index, 3 * index])
    net.constrain_()
    outputs = net(x)
    assert (outputs["distances"][index, index] == 0).all()
    assert (outputs["activations"][index, index] == 10.0).all()
    assert (outputs["part_similarities"][index, index] == 1.0).all()
    assert torch.equal(outputs["sites"][index, index], 3 * index)
    places = outputs["part_positions"][index, index]
    assert torch.equal(places, positions[index, 3 * index])


def test_parts_start_on_their_grid():
    net = DeformablePartNetwork([0, 1], 4, 2, encoder=grid_encoder(), dilation=2)
    _, positions = net.deformed(images().float())
    expected = [[r, c] for r in (0.0, 2.0, 4.0) for c in (1.0, 3.0, 5.0)]
    assert positions[0, 2 * 6 + 3].tolist() == expected
    pair = DeformablePartNetwork(
        [0, 1], 4, 2, encoder=grid_encoder(), part_grid=2, dilation=2
    )
    _, positions = pair.deformed(images().float())
    expected = [[1.0, 2.0], [1.0, 4.0], [3.0, 2.0], [3.0, 4.0]]
    assert positions[0, 2 * 6 + 3].tolist() == expected


@torch.no_grad()
def test_top_k_centres_count_in_training_alone():
    net, x = network(top_k=3), images()
    best = net.similarity_maps(x)
    assert (best > 0).any()
    maps = net._cosines(net.deformed(x)[0], net.prototypes)
    torch.testing.assert_close(net(x)["cosines"], maps.amax(1))
    expected = maps.topk(3, dim=1).values.mean(1)
    torch.testing.assert_close(net.train()(x)["cosines"], expected)


@torch.no_grad()
def test_maps_have_the_activation_as_their_maximum():
    net, x = network(scale=5.0), images()
    maps, outputs = net.similarity_maps(x), net(x)
    assert maps.shape == (4, 6, 30)
    torch.testing.assert_close(maps.amax(2), outputs["activations"])


@torch.no_grad()
def test_contributions_sum_to_the_scores():
    net, x = network(scale=5.0), images()
    outputs = net(x)
    contributions = net.head.contributions(outputs)
    torch.testing.assert_close(contributions.sum(1), outputs["scores"])
    assert float(net.head.weight[0, 0]) == 1.0
    assert float(net.head.weight[0, 1]) == -0.5


@settings(deadline=None, max_examples=30)
@given(st.floats(0.0, 1.0), st.floats(0.0, 1.5))
def test_reduced_angle_equals_the_formula_with_arc_cosines(cosine, margin):
    value = reduced_angle(torch.tensor(cosine, dtype=DOUBLE), margin)
    expected = math.cos(max(math.acos(cosine) - margin, 0.0))
    assert float(value) == pytest.approx(expected, abs=1e-7)


def test_reduced_angle_has_a_finite_slope_everywhere():
    cosine = torch.tensor([0.0, 0.5, math.cos(0.1), 1.0], requires_grad=True)
    reduced_angle(cosine, 0.1).sum().backward()
    assert torch.isfinite(cosine.grad).all()
    assert (cosine.grad >= -1e-5).all()
    inner = torch.tensor([0.1, 0.6, 0.9], dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: reduced_angle(s, 0.1), (inner,))


@torch.no_grad()
def test_margin_helps_wrong_classes_in_training_only():
    net, x, target = network(scale=5.0), images(), torch.tensor([0, 1, 2, 0])
    term = MarginCrossEntropy(0.1)
    outputs = net(x)
    plain = functional.cross_entropy(outputs["scores"], target, reduction="none")
    torch.testing.assert_close(term(outputs, target, net), plain)
    outputs = net.train()(x)
    for i, c in enumerate(target.tolist()):
        scores = [0.0] * 3
        for j, label in enumerate(LABELS):
            s = max(float(outputs["cosines"][i, j]), 0.0)
            if label != c:
                s = math.cos(max(math.acos(s) - 0.1, 0.0))
            for k in range(3):
                scores[k] += 5.0 * s * (1.0 if k == label else -0.5)
        expected = math.log(sum(math.exp(v) for v in scores)) - scores[c]
        value = float(term(outputs, target, net)[i])
        assert value == pytest.approx(expected, rel=1e-6)
    assert (term(outputs, target, net) > plain).all()


@torch.no_grad()
def test_shared_costs_are_those_of_the_best_cosines():
    net, x, target = network(), images(), torch.tensor([0, 1, 2, 0])
    outputs = net(x)
    for i, c in enumerate(target.tolist()):
        cosines = outputs["cosines"][i].tolist()
        own = max(s for s, label in zip(cosines, LABELS, strict=True) if label == c)
        other = max(s for s, label in zip(cosines, LABELS, strict=True) if label != c)
        cluster = ClusterCost()(outputs, target, net)[i]
        separation = SeparationCost()(outputs, target, net)[i]
        assert float(cluster) == pytest.approx(1 - own)
        assert float(separation) == pytest.approx(other - 1)
    assert float(OffClassL1()(outputs, target, net)) == pytest.approx(0.5 * 6 * 2)


def orthogonality(net):
    return float(PartOrthogonality()({}, None, net).detach())


def test_orthogonality_equals_loops_over_the_parts_of_each_class():
    net = network()
    parts = net.prototypes.detach()
    total = 0.0
    for c in range(3):
        own = [v for p in (2 * c, 2 * c + 1) for v in parts[p]]
        for a in range(18):
            for b in range(18):
                value = float(own[a] @ own[b]) / 9 - (a == b) / 9
                total += value**2
    assert orthogonality(net) == pytest.approx(total)


def test_orthogonality_does_not_mix_classes():
    # Two classes with the same orthogonal parts: nothing to pay within a class, but
    # a table read as (m, n_classes) would compare the classes.
    net = network(labels=(0, 0, 1, 1), dim=18)
    with torch.no_grad():
        parts = torch.eye(18, dtype=DOUBLE).reshape(2, 9, 18)
        net.prototypes.copy_(torch.cat([parts, parts]))
    assert orthogonality(net) == pytest.approx(0.0, abs=1e-20)
    with torch.no_grad():
        net.prototypes.copy_(parts.repeat_interleave(2, dim=0))
    assert orthogonality(net) == pytest.approx(2 * 2 * 9 / 81)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(5)))
def test_orthogonality_goes_by_owner_not_by_order(order):
    labels = (0, 0, 1, 1, 1)
    net = network(labels=labels)
    twin = network(labels=[labels[j] for j in order])
    with torch.no_grad():
        twin.prototypes.copy_(net.prototypes[torch.tensor(order)])
    assert orthogonality(twin) == pytest.approx(orthogonality(net))


def test_offset_penalty_trains_the_offset_net():
    net, x = network().train(), images()
    value = OffsetPenalty()(net(x), None, net)
    unit = x / x.norm(dim=1, keepdim=True)
    expected = net.offset_net(unit).square().sum(1).mean((1, 2)) / 9
    torch.testing.assert_close(value, expected)
    value.mean().backward()
    for parameter in net.offset_net.parameters():
        assert parameter.grad.abs().max() > 0
    before = float(value.detach().mean())
    optimiser = torch.optim.SGD(net.offset_net.parameters(), lr=0.1)
    optimiser.step()
    assert float(OffsetPenalty()(net(x), None, net).detach().mean()) < before


@pytest.mark.parametrize("name", sorted(INTERPOLATIONS))
def test_gradients_reach_everything_that_learns(name):
    encoder = SiteEncoder(nn.Conv2d(1, 4, 3), input_shape=(1, 7, 8))
    encoder.probe("conv")
    net = DeformablePartNetwork(LABELS, 4, 3, encoder=encoder, interpolation=name)
    generator = torch.Generator().manual_seed(0)
    net.set_prototypes(torch.rand(net.prototypes.shape, generator=generator))
    x = torch.randn(4, 1, 7, 8, generator=generator)
    target = torch.tensor([0, 1, 2, 0])
    outputs = net.train()(x)
    terms = [MarginCrossEntropy(), ClusterCost(), SeparationCost()]
    sum(t.weight * t(outputs, target, net).mean() for t in terms).backward()
    for parameter in net.parameters():
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().max() > 0


def test_constrain_brings_parts_back_to_length_one():
    net = network()
    with torch.no_grad():
        net.prototypes.mul_(3.0)
    net.constrain_()
    length = net.prototypes.detach().norm(dim=2)
    torch.testing.assert_close(length, torch.ones_like(length))


def test_removing_a_prototype_takes_its_contribution():
    net, x = network(), images()
    outputs = net(x)
    kept = torch.tensor([True, True, False, True, True, True])
    rest = net.keep(kept)
    expected = outputs["scores"] - net.head.contributions(outputs)[:, 2]
    torch.testing.assert_close(rest(x)["scores"], expected)
    assert rest.ownership.int().argmax(1).tolist() == [0, 0, 1, 2, 2]


def test_config_and_state_rebuild_the_network():
    net, x = network(part_grid=2, dilation=2, interpolation="squares"), images()
    twin = DeformablePartNetwork(**net.config, encoder=grid_encoder()).double().eval()
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin(x)["scores"], net(x)["scores"])
    assert torch.equal(copy.deepcopy(net)(x)["scores"], net(x)["scores"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part_grid": 6}, "span 6 sites"),
        ({"dilation": 3}, "span 7 sites"),
        ({"part_grid": 0}, "part_grid must be"),
        ({"interpolation": "nearest"}, "interpolation must be one of"),
    ],
)
def test_wrong_parameters_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DeformablePartNetwork([0, 1], 4, 2, encoder=grid_encoder(), **options)


def test_encoders_without_a_grid_are_refused():
    with pytest.raises(ValueError, match="sites lie on a grid"):
        DeformablePartNetwork([0, 1], 4, 2, encoder=SiteEncoder())
    net = network()
    with pytest.raises(ValueError, match="Got 12 sites"):
        net(torch.zeros(2, 12, 4, dtype=DOUBLE))


def test_exports_with_a_dynamic_batch():
    net, x = network(), images()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(net, (x,), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(program.module()(x[:2])["scores"], net(x[:2])["scores"])
