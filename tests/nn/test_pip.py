"""PIP-Net: worked numbers of the reference sheet, and what must not happen."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skproto.nn.encoders import SiteEncoder
from skproto.nn.pip import (
    AlignmentLoss,
    ChannelPrototypeNetwork,
    LogSquareLoss,
    PresenceLoss,
    SparsePositiveHead,
    alignment,
    alignment_weight,
)

DOUBLE = torch.float64


def network(seed=0, dim=5, n_classes=3, **options):
    net = ChannelPrototypeNetwork(dim, n_classes, **options).double()
    net.head.draw(torch.Generator().manual_seed(seed))
    return net


def sites(seed=0, n=6, n_sites=7, dim=5):
    generator = torch.Generator().manual_seed(100 + seed)
    return 3 * torch.randn(n, n_sites, dim, dtype=DOUBLE, generator=generator)


def test_alignment_of_the_worked_example():
    first = torch.tensor([[[0.7, 0.2, 0.1]]], dtype=DOUBLE)
    second = torch.tensor([[[0.6, 0.3, 0.1]]], dtype=DOUBLE)
    assert float(alignment(first, second)) == pytest.approx(0.71335, abs=5e-6)


def test_alignment_of_equal_certainty_is_zero():
    sure = torch.tensor([[[0.0, 1.0, 0.0]]], dtype=DOUBLE)
    assert float(alignment(sure, sure)) == pytest.approx(0.0, abs=1.01e-8)


def test_alignment_is_the_mean_over_sites():
    first, second = sites().softmax(2), sites(seed=1).softmax(2)
    expected = torch.zeros(6, dtype=DOUBLE)
    for i in range(6):
        for t in range(7):
            overlap = sum(float(first[i, t, c] * second[i, t, c]) for c in range(5))
            expected[i] -= math.log(overlap) / 7
    torch.testing.assert_close(alignment(first, second), expected, rtol=1e-5, atol=0)


def test_probabilities_of_the_worked_example():
    head = SparsePositiveHead(2, 2).double()
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    outputs = head({"activations": torch.ones(1, 2, dtype=DOUBLE)})
    assert outputs["scores"].tolist() == [[3.0, 1.0]]
    shares = outputs["logits"].softmax(1).detach()[0]
    assert shares.tolist() == pytest.approx([0.8333, 0.1667], abs=5e-5)
    value = LogSquareLoss()(outputs, torch.tensor([0]), None)
    assert float(value.detach()) == pytest.approx(math.log(1.2))


def test_exponent_is_no_parameter():
    names = {name for name, _ in network(n_channels=4).named_parameters()}
    assert names == {"channels.weight", "channels.bias", "head.weight"}


def test_evaluating_never_changes_weights():
    net, z = network(), sites()
    net.eval()
    before = copy.deepcopy(net.state_dict())
    first, second = net(z), net(z)
    net.constrain_()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(first["scores"], second["scores"])


def test_training_step_shrinks_the_weights_of_the_head():
    net = network().train()
    with torch.no_grad():
        net.head.weight[0, 0] = 0.0005
    before = net.head.weight.detach().clone()
    net.constrain_()
    expected = torch.clamp(before - 1e-3, min=0.0)
    assert torch.equal(net.head.weight.detach(), expected)
    assert float(net.head.weight[0, 0].detach()) == 0.0


def test_pretraining_leaves_the_head_alone():
    net = network().train()
    net.head.weight.requires_grad_(False)
    before = net.head.weight.clone()
    net.constrain_()
    assert torch.equal(net.head.weight, before)


@torch.no_grad()
def test_forward_equals_plain_loops():
    net, z = network(n_channels=4).eval(), sites()
    logits = net.channels(z).detach()
    outputs = net(z)
    for i in range(6):
        best, place = [0.0] * 4, [0] * 4
        for t in range(7):
            total = sum(math.exp(v) for v in logits[i, t].tolist())
            for c in range(4):
                share = math.exp(float(logits[i, t, c])) / total
                if share > best[c]:
                    best[c], place[c] = share, t
        shown = [b if b >= 0.1 else 0.0 for b in best]
        assert outputs["presences"][i].tolist() == pytest.approx(best)
        assert outputs["activations"][i].tolist() == pytest.approx(shown)
        assert outputs["sites"][i].tolist() == place
        for k in range(3):
            score = sum(
                s * max(float(net.head.weight[c, k]), 0.0) for c, s in enumerate(shown)
            )
            assert float(outputs["scores"][i, k]) == pytest.approx(score)


def test_small_presences_count_in_training_and_not_after():
    net = ChannelPrototypeNetwork(2, 2)
    z = torch.tensor([[[math.log(0.95), math.log(0.05)]]])
    assert net.train()(z)["activations"].tolist()[0] == pytest.approx([0.95, 0.05])
    assert net.eval()(z)["activations"].tolist()[0] == pytest.approx([0.95, 0.0])


def test_presence_at_the_threshold_counts():
    net = ChannelPrototypeNetwork(4, 2, threshold=0.25).eval()
    assert (net(torch.zeros(1, 1, 4))["activations"] == 0.25).all()


def test_no_evidence_is_an_abstention():
    net = ChannelPrototypeNetwork(20, 2).eval()
    outputs = net(torch.cat([torch.zeros(1, 3, 20), 20 * torch.eye(20)[None, :3]]))
    assert outputs["abstains"].tolist() == [True, False]
    assert outputs["scores"][0].tolist() == [0.0, 0.0]
    assert torch.isfinite(outputs["logits"]).all()


def test_contributions_sum_to_the_scores():
    net, z = network().eval(), sites()
    with torch.no_grad():
        net.head.weight[0] = -1.0
    outputs = net(z)
    contributions = net.head.contributions(outputs)
    assert (contributions >= 0).all()
    torch.testing.assert_close(contributions.sum(1), outputs["scores"])


@torch.no_grad()
def test_distance_is_the_total_variation_to_the_pure_channel():
    net, z = network().eval(), sites()
    outputs = net(z)
    probabilities = z.softmax(2)
    for i in range(6):
        for p, pure in enumerate(net.prototypes):
            place = probabilities[i, outputs["sites"][i, p]]
            expected = 0.5 * (place - pure).abs().sum()
            torch.testing.assert_close(outputs["distances"][i, p], expected)


def test_maps_have_the_presence_as_their_maximum():
    net, z = network(n_channels=4).eval(), sites()
    maps, outputs = net.similarity_maps(z), net(z)
    assert maps.shape == (6, 4, 7)
    torch.testing.assert_close(maps.amax(2), outputs["presences"])
    torch.testing.assert_close(maps.argmax(2), outputs["sites"])


def test_each_view_is_drawn_to_the_other_held_fixed():
    net, z = network().train(), sites().requires_grad_()
    value = AlignmentLoss()(net(z), torch.zeros(6).long(), net)
    assert value.shape == (6,)
    torch.testing.assert_close(value[:3], value[3:])
    value[:3].sum().backward()
    assert z.grad[:3].abs().max() > 0
    assert torch.equal(z.grad[3:], torch.zeros_like(z.grad[3:]))


def test_presence_loss_equals_plain_loops():
    net, z = network().train(), sites()
    outputs = net(z)
    expected = 0.0
    for view in (range(3), range(3, 6)):
        for p in range(5):
            total = sum(float(outputs["presences"][i, p].detach()) for i in view)
            expected -= math.log(math.tanh(total)) / 10
    value = PresenceLoss()(outputs, None, net)
    assert float(value.detach()) == pytest.approx(expected, rel=1e-6)


def test_one_view_is_enough_in_evaluation():
    net, z = network().eval(), sites(n=5)
    outputs = net(z)
    value = AlignmentLoss()(outputs, torch.zeros(5).long(), net)
    assert torch.equal(value, torch.zeros(5, dtype=DOUBLE))
    total = outputs["presences"].sum(0).tanh().log().mean()
    torch.testing.assert_close(PresenceLoss()(outputs, None, net), -total)


def test_odd_batch_has_no_two_views():
    net = network().train()
    outputs = net(sites(n=5))
    with pytest.raises(ValueError, match="two views"):
        AlignmentLoss()(outputs, torch.zeros(5).long(), net)
    with pytest.raises(ValueError, match="two views"):
        PresenceLoss()(outputs, None, net)


def test_weight_of_the_alignment_rises_in_pretraining():
    term = AlignmentLoss()
    term.weight = alignment_weight(3, 10)
    assert term.weight == pytest.approx(0.3)
    assert alignment_weight(10, 10) == 1.0


def test_dropping_a_prototype_leaves_the_others():
    net, z = network(n_channels=6).eval(), sites()
    kept = torch.tensor([True, False, True, True, False, True])
    rest = net.keep(kept)
    first, second = net(z), rest(z)
    torch.testing.assert_close(second["activations"], first["activations"][:, kept])
    expected = net.head.contributions(first)[:, kept].sum(1)
    torch.testing.assert_close(second["scores"], expected)
    again = rest.keep(torch.tensor([False, True, True, False]))
    assert again.config["kept"] == [2, 3]
    torch.testing.assert_close(again(z)["presences"], first["presences"][:, [2, 3]])
    assert again.prototypes.argmax(1).tolist() == [2, 3]


def test_config_and_state_rebuild_the_network():
    net, z = network(n_channels=4).eval(), sites()
    twin = ChannelPrototypeNetwork(**net.config).double().eval()
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin(z)["scores"], net(z)["scores"])


def test_a_short_training_separates_two_kinds_of_images():
    generator = torch.Generator().manual_seed(0)
    x = 0.1 * torch.randn(40, 1, 6, 6, generator=generator)
    target = torch.arange(40) % 2
    x[target == 0, :, 1:3, 1:3] += 3.0
    x[target == 1, :, 3:5, 2:4] -= 3.0
    torch.manual_seed(0)
    encoder = SiteEncoder(nn.Conv2d(1, 4, 3), input_shape=(1, 6, 6))
    net = ChannelPrototypeNetwork(4, 2, encoder=encoder)
    net.head.draw(generator)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    terms = [AlignmentLoss(), PresenceLoss(), LogSquareLoss()]
    for _ in range(60):
        noise = 0.1 * torch.randn(80, 1, 6, 6, generator=generator)
        outputs = net.train()(torch.cat([x, x]) + noise)
        loss = sum(t.weight * t(outputs, target.repeat(2), net).mean() for t in terms)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        net.constrain_()
    outputs = net.eval()(x)
    assert (outputs["scores"].argmax(1) == target).float().mean() >= 0.95


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(0.1, 50.0))
def test_channels_sum_to_one_at_every_site(seed, spread):
    net, z = network(), spread * sites(seed=seed)
    total = net.probabilities(z).sum(2)
    torch.testing.assert_close(total, torch.ones_like(total))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000))
def test_order_of_the_sites_does_not_matter(seed):
    net, z = network().eval(), sites(seed=seed)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
    first, second = net(z), net(z[:, order])
    torch.testing.assert_close(first["scores"], second["scores"])
    assert torch.equal(order[second["sites"]], first["sites"])


def test_exports_with_a_dynamic_batch():
    net, z = network(n_channels=4).eval(), sites()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(net, (z,), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(program.module()(z[:2])["scores"], net(z[:2])["scores"])
