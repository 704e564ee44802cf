import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skproto.nn import part_set_losses as losses
from skproto.nn import part_set_projection
from skproto.nn.encoders import SiteEncoder, make_encoder
from skproto.nn.feature_tokens import FeatureTokens
from skproto.nn.part_losses import OffClassL1
from skproto.nn.part_set_projection import project_part_sets
from skproto.nn.part_sets import PartSetNetwork, slot_learning_rate

quick = settings(deadline=None, max_examples=30)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Cut(torch.nn.Module):
    """Images (n, 1, H, W) as a map of 2 x 2 patches, (n, D, H/2, W/2)."""

    def __init__(self, dim=6):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, dim, 2, stride=2)

    def forward(self, x):
        return self.conv(x)


def image_network(n_prototypes=6, n_parts=3, n_classes=3, seed=0, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = make_encoder(Cut(), (1, 8, 8), subtract_class_token=True)
    network = PartSetNetwork(
        n_prototypes, n_parts, encoder.dim, n_classes, encoder=encoder, **kwargs
    )
    network.randomize_(generator(seed))
    return network.eval()


def token_network(n_prototypes=4, n_parts=3, dim=5, n_classes=2, seed=0, **kwargs):
    network = PartSetNetwork(n_prototypes, n_parts, dim, n_classes, **kwargs)
    shape = network.prototypes.shape
    with torch.no_grad():
        network.prototypes.copy_(torch.randn(shape, generator=generator(seed)))
    return network.eval()


def images(n=30, n_classes=3, seed=1):
    g = generator(seed)
    return torch.randn(n, 1, 8, 8, generator=g), torch.arange(n) % n_classes


def chunks(x, y, size=7):
    rows = torch.arange(len(x))
    return list(zip(rows.split(size), x.split(size), y.split(size), strict=True))


# ----------------------------------------------------------- worked numbers
def with_similarities(values, slots):
    """Activation of a prototype whose parts have these cosines."""
    n_parts = len(values)
    network = PartSetNetwork(1, n_parts, 2 * n_parts, 1, adjacency=None).eval()
    tokens = torch.eye(2 * n_parts)
    with torch.no_grad():
        network.prototypes.copy_(tokens[None, :n_parts])
        network.slot_logits.copy_(torch.tensor(slots)[None] - 0.5)
    network.round_slots_()
    cosine = torch.tensor(values)[:, None]
    rest = (1 - cosine.square()).sqrt()
    x = cosine * tokens[:n_parts] + rest * tokens[n_parts:]
    return network(x[None])


def test_slots_rescale_to_the_number_of_parts():
    values = [0.9, 0.8, 0.4, 0.1]
    outputs = with_similarities(values, [1.0, 1.0, 1.0, 0.0])
    assert outputs["activations"].item() == pytest.approx(2.8, abs=1e-6)
    assert outputs["distances"].item() == pytest.approx(1.2, abs=1e-6)
    assert outputs["sites"].tolist() == [[[0, 1, 2, -1]]]
    assert outputs["part_similarities"][0, 0, 3] == 0
    every = with_similarities(values, [1.0] * 4)
    assert every["activations"].item() == pytest.approx(2.2, abs=1e-6)


def test_slots_at_the_start():
    network = PartSetNetwork(2, 3, 4, 2).double()
    expected = torch.full((2, 3), 0.9999546, dtype=torch.float64)
    torch.testing.assert_close(network.slots(), expected, atol=5e-8, rtol=0)
    gradient = torch.autograd.grad(network.slots().sum(), network.slot_logits)[0]
    assert gradient[0, 0].item() == pytest.approx(4.5e-3, abs=1e-4)


def test_prototype_without_parts_scores_zero():
    network = token_network()
    with torch.no_grad():
        network.slot_logits[1] = -1.0
        network.slot_logits[2, :2] = -1.0
    assert network.round_slots_().tolist() == [True, False, True, True]
    assert set(network.slots().flatten().tolist()) == {0.0, 1.0}
    outputs = network(torch.randn(4, 6, 5, generator=generator()))
    assert (outputs["activations"][:, 1] == 0).all()
    assert (outputs["sites"][:, 1] == -1).all()
    assert (outputs["sites"][:, 2, :2] == -1).all()
    smaller = network.keep(network.kept.any(1))
    again = smaller(torch.randn(4, 6, 5, generator=generator()))
    torch.testing.assert_close(again["scores"], outputs["scores"])


def test_head_starts_at_the_owners():
    network = PartSetNetwork(4, 2, 3, 2)
    expected = torch.tensor([[1, -0.5], [1, -0.5], [-0.5, 1], [-0.5, 1]])
    assert torch.equal(network.head.weight, expected)
    network.set_labels([1, 0, 0, 1])
    assert network.ownership.int().argmax(1).tolist() == [1, 0, 0, 1]
    assert OffClassL1()({}, None, network) == 2.0


# --------------------------------------------------------------------- forward
def test_scores_are_sums_over_prototypes():
    network = image_network()
    outputs = network(images()[0])
    contributions = outputs["activations"][..., None] * network.head.weight
    torch.testing.assert_close(outputs["scores"], contributions.sum(1))
    slots = network.slots()
    share = (slots * outputs["part_similarities"]).sum(2) / slots.sum(1)
    torch.testing.assert_close(outputs["activations"], 3 * share)
    torch.testing.assert_close(outputs["distances"], 3 - outputs["activations"])


def test_training_and_evaluation_agree():
    network, x = image_network(), images()[0]
    exact = network(x)
    plain = network.train()(x)
    assert torch.equal(plain["sites"], exact["sites"])
    torch.testing.assert_close(plain["scores"], exact["scores"])


@quick
@given(st.integers(0, 2**20), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_lengths_do_not_count(seed, first, second):
    network = token_network(seed=seed)
    x = torch.randn(3, 7, 5, generator=generator(seed + 1))
    before = network(x)
    with torch.no_grad():
        network.prototypes.mul_(first)
    after = network(x * second)
    assert torch.equal(after["sites"], before["sites"])
    torch.testing.assert_close(after["scores"], before["scores"])


@quick
@given(st.integers(0, 2**20), st.permutations(range(4)))
def test_order_of_parts_does_not_count(seed, order):
    network = token_network(n_parts=4, seed=seed)
    g = generator(seed + 1)
    with torch.no_grad():
        network.slot_logits.copy_(0.02 * torch.randn(4, 4, generator=g))
    x = torch.randn(3, 8, 5, generator=g)
    before = network(x)
    with torch.no_grad():
        network.prototypes.copy_(network.prototypes[:, order])
        network.slot_logits.copy_(network.slot_logits[:, order])
    after = network(x)
    assert torch.equal(after["sites"], before["sites"][..., order])
    torch.testing.assert_close(after["scores"], before["scores"])


def test_site_mask_is_a_shorter_sample():
    network = token_network()
    x = torch.randn(2, 6, 5, generator=generator())
    mask = torch.arange(6) < torch.tensor([[4], [6]])
    outputs = network(x, site_mask=mask)
    short = network(x[:1, :4])
    assert torch.equal(outputs["sites"][:1], short["sites"])
    torch.testing.assert_close(outputs["scores"][:1], short["scores"])
    torch.testing.assert_close(outputs["scores"][1:], network(x[1:])["scores"])
    maps = network.similarity_maps(x, site_mask=mask)
    assert (maps[0, :, 4:] == -1).all()


def test_parts_without_a_site_score_the_least():
    network = token_network()
    x = torch.randn(1, 6, 5, generator=generator())
    outputs = network(x, site_mask=torch.arange(6)[None] < 2)
    assert ((outputs["sites"] == -1).sum(2) == 1).all()
    assert (outputs["part_similarities"][outputs["sites"] == -1] == -1).all()
    assert outputs["scores"].isfinite().all()


def test_similarity_maps():
    network, x = image_network(), images(4)[0]
    with torch.no_grad():
        network.slot_logits[0] = torch.tensor([1.0, -1.0, -1.0])
        network.slot_logits[1] = -1.0
    network.round_slots_()
    maps, outputs = network.similarity_maps(x), network(x)
    assert maps.shape == (4, 6, 16)
    torch.testing.assert_close(
        maps[:, 0].amax(1), outputs["part_similarities"][:, 0, 0]
    )
    assert torch.equal(maps[:, 0].argmax(1), outputs["sites"][:, 0, 0])
    assert (maps[:, 1] == -1).all()


def test_feature_tokens():
    body = FeatureTokens(4, dim=8)
    x = torch.randn(5, 4, generator=generator())
    encoder = make_encoder(body, 4)
    network = PartSetNetwork(4, 2, 8, 2, adjacency=None, encoder=encoder)
    network.start_at_samples_(x[:4], generator())
    outputs = network.eval()(x)
    assert outputs["sites"].shape == (5, 4, 2)
    own = outputs["activations"].diagonal()
    torch.testing.assert_close(own, torch.full((4,), 2.0))
    expected = x[1, 2] * encoder.body.direction[2] + encoder.body.offset[2]
    torch.testing.assert_close(encoder(x)[1, 2], expected)


def test_start_at_samples():
    network, x = image_network(), images(6)[0]
    sites = network.start_at_samples_(x, generator(3))
    outputs = network(x)
    own = torch.arange(6)
    assert torch.equal(outputs["sites"][own, own], sites)
    assert (outputs["distances"][own, own] < 1e-3).all()
    assert torch.equal(network.start_at_samples_(x, generator(3)), sites)


# ------------------------------------------------------------------ conventions
def test_rebuilt_from_config_and_state():
    network = image_network(adjacency="chain", radius=2)
    with torch.no_grad():
        network.slot_logits[0, 1] = -1
    network.round_slots_()
    config = json.loads(json.dumps(network.config))
    again = PartSetNetwork(**config, encoder=network.encoder)
    again.load_state_dict(network.state_dict())
    x = images()[0]
    assert torch.equal(again.eval()(x)["scores"], network(x)["scores"])


def test_keep():
    network, x = image_network(), images()[0]
    mask = torch.tensor([1, 0, 1, 1, 0, 1], dtype=torch.bool)
    smaller = network.keep(mask)
    assert not smaller.training
    before, after = network(x), smaller(x)
    torch.testing.assert_close(after["activations"], before["activations"][:, mask])
    assert torch.equal(smaller.ownership, network.ownership[mask])
    assert torch.equal(smaller.head.weight, network.head.weight[mask])
    assert smaller.config["n_prototypes"] == 4


def test_double():
    network, x = image_network().double(), images()[0].double()
    assert network(x)["scores"].dtype == torch.float64


def test_batch_of_one_and_none():
    network, x = image_network(), images()[0]
    torch.testing.assert_close(network(x[:1])["scores"], network(x)["scores"][:1])
    assert network(x[:0])["scores"].shape == (0, 3)


def test_gradients_are_finite():
    network, (x, y) = image_network().train(), images()
    total = sum(term(network(x), y, network).mean() for term in TERMS)
    (total + network(x)["scores"].square().mean()).backward()
    for parameter in network.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("adjacency", ["connected", "chain", None])
def test_export_with_a_dynamic_batch(adjacency):
    network, x = image_network(adjacency=adjacency), images()[0]
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(network, (x[:5],), dynamic_shapes=({0: batch},))
    found, expected = exported.module()(x), network(x)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_parts": 17}, "n_parts must be at most .* 16. Got 17"),
        ({"n_parts": 0}, "n_parts must be at least 1"),
        ({"radius": 0}, "radius must be at least 1"),
        ({"adjacency": "ring"}, "adjacency must be one of"),
        ({"slot_temperature": 0.0}, "slot_temperature must be positive"),
    ],
)
def test_bad_sizes(kwargs, message):
    with pytest.raises(ValueError, match=message):
        image_network(**kwargs)


def test_bad_dimension_of_feature_tokens():
    with pytest.raises(ValueError, match="dim must be at least 2"):
        FeatureTokens(3, dim=1)


# ----------------------------------------------------------------------- losses
TERMS = [
    losses.PartSetCluster(),
    losses.PartSetSeparation(),
    losses.PartSetOrthogonality(),
    losses.PartSetCoherence(),
    OffClassL1(),
]


def test_cluster_and_separation():
    network = PartSetNetwork(3, 2, 3, 3)
    s = torch.tensor([[[0.1, 0.2], [-0.5, 0.4], [0.9, -0.9]]])
    sites = torch.tensor([[[0, 1], [1, -1], [2, 1]]])
    outputs = {"part_similarities": s, "sites": sites}
    target = torch.tensor([1])
    cluster, separation = losses.PartSetCluster(), losses.PartSetSeparation()
    # The part without a site does not count; negative ones do.
    assert cluster(outputs, target, network).tolist() == pytest.approx([0.5])
    assert separation(outputs, target, network).tolist() == pytest.approx([0.9])
    summed = losses.PartSetSeparation("sum")
    assert summed(outputs, target, network).tolist() == pytest.approx([0.3])
    mean = losses.PartSetCluster("mean")
    assert mean(outputs, target, network).tolist() == pytest.approx([0.5])
    mean = losses.PartSetSeparation("mean")
    assert mean(outputs, target, network).tolist() == pytest.approx([0.15])
    with pytest.raises(ValueError, match="pooling must be one of"):
        losses.PartSetCluster("all")(outputs, target, network)
    nothing = {"part_similarities": s, "sites": torch.full_like(sites, -1)}
    assert cluster(nothing, target, network).tolist() == [0.0]


def test_own_class_gets_a_gradient_when_all_are_negative():
    network = PartSetNetwork(2, 2, 3, 2)
    s = torch.full((1, 2, 2), -0.5, requires_grad=True)
    outputs = {"part_similarities": s, "sites": torch.zeros(1, 2, 2).long()}
    term = losses.PartSetCluster()(outputs, torch.tensor([0]), network).sum()
    gradient = torch.autograd.grad(term, s)[0]
    assert gradient[0, 0].sum() == -1
    assert (gradient[0, 1] == 0).all()


def test_orthogonality():
    network = PartSetNetwork(4, 2, 3, 2)
    with torch.no_grad():
        axes = torch.tensor([[0, 1], [0, 2], [0, 1], [2, 0]])
        network.prototypes.copy_(torch.eye(3)[axes] * 7)
    # Diagonals are M = 2; only the first two prototypes share a part.
    assert losses.PartSetOrthogonality()({}, None, network).item() == pytest.approx(6.0)
    network.set_labels([0, 0, 0, 1])
    found = losses.PartSetOrthogonality()({}, None, network).item()
    assert found == pytest.approx(4 + 2 * (1 + 2 + 1))


def test_coherence_is_the_largest_pair():
    network = PartSetNetwork(1, 3, 2, 1)
    angles = torch.tensor([0.0, 0.6, -0.9])
    with torch.no_grad():
        network.prototypes.copy_(torch.stack([angles.cos(), angles.sin()], 1)[None] * 3)
        network.slot_logits.fill_(1.0)
    coherence = losses.PartSetCoherence()
    expected = 1 - math.cos(1.5)
    assert coherence({}, None, network).item() == pytest.approx(expected, abs=1e-6)
    with torch.no_grad():
        network.slot_logits[0, 2] = -1.0
    network.round_slots_()
    expected = 1 - math.cos(0.6)
    assert coherence({}, None, network).item() == pytest.approx(expected, abs=1e-6)
    assert coherence({}, None, PartSetNetwork(2, 1, 3, 1)).item() == 0


@pytest.mark.parametrize("order", [[0, 1, 2], [0, 2, 1], [2, 1, 0]])
def test_coherence_compares_all_pairs_not_those_with_the_last_part(order):
    network = PartSetNetwork(1, 3, 2, 1)
    angles = torch.tensor([0.6, -0.9, 0.0])[order]
    with torch.no_grad():
        network.prototypes.copy_(torch.stack([angles.cos(), angles.sin()], 1)[None])
        network.slot_logits.fill_(1.0)
    value = losses.PartSetCoherence()({}, None, network).item()
    assert value == pytest.approx(1 - math.cos(1.5), abs=1e-6)


def test_slots_feel_coherence():
    network = image_network()
    losses.PartSetCoherence()({}, None, network).backward()
    assert network.slot_logits.grad.abs().sum() > 0
    assert (network.slot_logits.grad >= 0).all()


def test_slot_learning_rate():
    assert slot_learning_rate(10**6) == 5e-5
    assert slot_learning_rate(0) == 0.2


# ------------------------------------------------------------------- projection
@pytest.mark.parametrize("unique", [False, True])
def test_projected_prototype_finds_itself(unique):
    network, (x, y) = image_network(), images()
    with torch.no_grad():
        network.slot_logits[0, 1] = -1.0
    network.round_slots_()
    before = network(x)
    sources = project_part_sets(network, chunks(x, y), unique=unique)
    own = torch.arange(6)
    after, z = network(x), network.encoder(x)
    labels = network.ownership.int().argmax(1)
    assert torch.equal(y[sources.rows], labels)
    assert torch.equal(after["sites"][sources.rows, own], sources.sites)
    assert (after["distances"][sources.rows, own] == 0).all()
    assert (after["activations"][sources.rows, own] == 3).all()
    torch.testing.assert_close(sources.self_similarity, torch.full((6,), 3.0))
    moved = before["distances"][sources.rows, own]
    torch.testing.assert_close(sources.distances, moved)
    assert (network.prototypes[0, 1] == 0).all()
    assert sources.sites[0, 1] == -1
    tokens = z[sources.rows[:, None], sources.sites.clamp_min(0)]
    tokens[0, 1] = 0
    torch.testing.assert_close(network.prototypes.data, tokens)


def test_projection_takes_the_best_of_the_class_first_row_first():
    network, (x, y) = image_network(), images()
    activations = network(x)["activations"]
    own = network.ownership.T[y]
    expected = activations.masked_fill(~own, -torch.inf).argmax(0)
    doubled = torch.cat([x, x]), torch.cat([y, y])
    pieces = chunks(*doubled)[::-1]
    assert torch.equal(project_part_sets(network, pieces).rows, expected)


def test_unique_sources():
    network, (x, y) = image_network(9), images(12)
    with torch.no_grad():
        network.prototypes.copy_(network.prototypes[:1].expand(9, -1, -1))
    assert len(project_part_sets(image_network(9), chunks(x, y)).rows.unique()) <= 9
    sources = project_part_sets(network, chunks(x, y), unique=True)
    assert len(sources.rows.unique()) == 9
    # Two samples for three prototypes: one is used twice.
    few = project_part_sets(image_network(9), chunks(x[:6], y[:6]), unique=True)
    assert len(few.rows.unique()) == 6


def test_equal_tokens_do_not_lose_the_way(monkeypatch):
    # The second part is found first, at site 5, and so the first one at site 4. Once
    # moved, the first one is found first, at site 0, which holds the same token, and
    # the second one cannot go from there to site 5.
    x = torch.randn(1, 7, 5, generator=generator(2))
    x[0, 4] = x[0, 0]
    chunk = torch.arange(1), x, torch.zeros(1).long()

    def projected():
        network = PartSetNetwork(1, 2, 5, 1)
        with torch.no_grad():
            network.prototypes.copy_(x[:, [4, 5]])
            network.prototypes[0, 0] += 0.1
        return network.eval(), project_part_sets(network, [chunk])

    network, sources = projected()
    assert sources.self_similarity.item() == pytest.approx(2.0, abs=1e-5)
    assert network(x)["distances"].item() == 0
    assert network(x)["sites"].tolist() == sources.sites[None].tolist() == [[[0, 1]]]
    monkeypatch.setattr(part_set_projection, "_SETTLE_ROUNDS", 1)
    network, sources = projected()
    assert sources.sites.tolist() == [[4, 5]]
    assert sources.self_similarity.item() < 1.9
    torch.testing.assert_close(network(x)["activations"][0], sources.self_similarity)


def test_projection_with_a_site_mask():
    network = token_network()
    x = torch.randn(8, 6, 5, generator=generator())
    y, mask = torch.arange(8) % 2, torch.arange(6).expand(8, 6) < 3
    sources = project_part_sets(network, [(torch.arange(8), x, y, mask)])
    assert sources.sites.max() < 3
    assert not network.training


def test_projection_needs_every_class():
    network, (x, y) = image_network(), images()
    with pytest.raises(ValueError, match=r"class codes \[1, 2\]"):
        project_part_sets(network, chunks(x[y == 0], y[y == 0]))


def test_default_encoder_takes_tokens():
    assert isinstance(PartSetNetwork(2, 2, 3, 2).encoder, SiteEncoder)
