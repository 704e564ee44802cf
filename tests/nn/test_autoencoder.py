"""The prototype autoencoder: worked numbers of the reference sheet, invariants."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skproto.nn import CrossEntropy, SiteEncoder
from skproto.nn.autoencoder import (
    DistanceHead,
    ImageDecoder,
    ImageEncoder,
    PrototypeAutoencoderNetwork,
    automatic_code_dim,
    make_body,
    make_decoder,
    map_sizes,
)
from skproto.nn.autoencoder_losses import (
    PrototypeDiversity,
    PrototypeNearSample,
    Reconstruction,
    SampleNearPrototype,
)

DOUBLE = torch.float64
CODES = torch.tensor([[0.0, 0.0], [2.0, 0.0]], dtype=DOUBLE)
PROTOTYPES = torch.tensor([[0.0, 1.0], [2.0, 2.0]], dtype=DOUBLE)
WEIGHT = torch.tensor([[-1.0, 0.5], [0.5, -1.0]], dtype=DOUBLE)
TARGET = torch.tensor([0, 1])


def close(actual, expected, atol=1e-7):
    expected = torch.as_tensor(expected, dtype=DOUBLE)
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=atol)


def hand_network():
    """Codes are the rows themselves; two prototypes, two classes."""
    network = PrototypeAutoencoderNetwork(
        2, 2, (2,), 2, encoder=SiteEncoder(), decoder=nn.Identity()
    ).double()
    network.set_prototypes(PROTOTYPES, [0, 1])
    network.set_signed_head()
    return network


def trained_like(input_shape=(1, 8, 8), n_prototypes=6, n_classes=3, output="linear"):
    """A network started from random samples."""
    torch.manual_seed(0)
    dim = automatic_code_dim(input_shape)
    network = PrototypeAutoencoderNetwork(
        n_prototypes, n_classes, input_shape, dim, output
    )
    x = torch.rand(n_prototypes, *input_shape)
    owners = torch.arange(n_prototypes) % n_classes
    network.set_prototypes(network.encode(x), owners)
    network.set_signed_head()
    return network, x


# -- the worked example ----------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_distances_scores_and_probabilities_of_the_hand_example(training):
    outputs = hand_network().train(training)(CODES)
    close(outputs["squared_distances"], [[1, 8], [5, 4]])
    close(outputs["distances"], [[1, 8**0.5], [5**0.5, 2]])
    close(outputs["scores"], [[3, -7.5], [-3, -1.5]])
    probabilities = outputs["scores"].softmax(1)
    close(probabilities.diagonal(), [0.9999725, 0.8175745], atol=5e-8)


def test_class_signed_head_is_that_of_the_hand_example():
    close(hand_network().head.weight, WEIGHT)


def test_losses_of_the_hand_example():
    network = hand_network()
    outputs = network(CODES)
    close(PrototypeNearSample()(outputs, TARGET, network), 2.5)
    close(SampleNearPrototype()(outputs, TARGET, network).mean(), 2.5)
    loss = CrossEntropy()(outputs, TARGET, network).mean()
    close(loss, 0.1007204, atol=5e-8)


def test_minima_are_over_samples_and_over_prototypes():
    distances = {
        "squared_distances": torch.tensor([[1.0, 9.0], [2.0, 9.0], [9.0, 4.0]])
    }
    target = torch.tensor([0, 0, 1])
    close(PrototypeNearSample()(distances, target, None), 2.5)
    close(SampleNearPrototype()(distances, target, None).mean(), 7 / 3, atol=1e-6)


def test_reconstruction_is_summed_over_pixels():
    x = torch.rand(5, 1, 8, 8, dtype=DOUBLE)
    outputs = {"inputs": x, "reconstruction": x + 0.1}
    network = hand_network()
    close(Reconstruction()(outputs, TARGET, network), torch.full((5,), 0.64))
    network.reconstruction_scale.fill_(0.32)
    scaled = Reconstruction(scaled=True)(outputs, TARGET, network)
    close(scaled, torch.full((5,), 2.0))


def test_a_constant_on_a_column_of_the_head_counts_with_the_distances():
    network = hand_network()
    before = network(CODES)
    with torch.no_grad():
        network.head.weight[:, 1] += 0.25
    added = network(CODES)["scores"] - before["scores"]
    total = before["squared_distances"].sum(1)
    close(added, torch.stack([0 * total, 0.25 * total], dim=1))


def test_contributions_add_up_to_the_scores():
    network, _ = trained_like()
    outputs = network.eval()(torch.rand(7, 1, 8, 8))
    weight = network.head.weight.detach()
    terms = outputs["squared_distances"].double()[:, :, None] * weight
    close(outputs["scores"], terms.sum(1), atol=1e-5)


def test_without_weight_on_the_classes_the_head_gets_no_gradient():
    network, x = trained_like()
    outputs = network(1.0 - x)
    target = torch.arange(6) % 3
    terms = [Reconstruction(), PrototypeNearSample(), SampleNearPrototype()]
    sum(term(outputs, target, network).mean() for term in terms).backward()
    assert network.head.weight.grad is None
    assert network.prototypes.grad.abs().sum() > 0
    assert all(p.grad is not None for p in network.decoder.parameters())


def test_own_class_terms_of_a_hand_example():
    network = hand_network()
    outputs = {"squared_distances": torch.tensor([[1.0, 9.0], [2.0, 3.0], [9.0, 4.0]])}
    target = torch.tensor([1, 0, 1])
    close(PrototypeNearSample(own_class=True)(outputs, target, network), 3.0)
    close(SampleNearPrototype(own_class=True)(outputs, target, network), [9, 2, 4])


def test_own_class_terms_leave_out_what_is_absent_without_nan_gradients():
    network, x = trained_like()
    with torch.no_grad():
        network.ownership[:, 2] = False
    target = torch.tensor([0, 0, 0, 2, 2, 2])
    outputs = network(x)
    near = SampleNearPrototype(own_class=True)(outputs, target, network)
    assert (near[3:] == 0).all()
    value = PrototypeNearSample(own_class=True)(outputs, target, network) + near.mean()
    value.backward()
    assert torch.isfinite(network.prototypes.grad).all()
    owned = network.ownership[:, 0]
    assert network.prototypes.grad[owned].abs().sum() > 0


def test_scaled_terms_are_divided_by_the_scales_of_the_module():
    network = hand_network()
    network.distance_scale.fill_(5.0)
    outputs = network(CODES)
    close(PrototypeNearSample(scaled=True)(outputs, TARGET, network), 0.5)
    close(SampleNearPrototype(scaled=True)(outputs, TARGET, network).mean(), 0.5)


def test_diversity_counts_near_prototypes_of_different_classes():
    network = hand_network()
    # The two prototypes have the squared distance 5.
    close(PrototypeDiversity(margin=10.0)({}, TARGET, network), 0.5)
    close(PrototypeDiversity(margin=5.0)({}, TARGET, network), 0.0)
    network.distance_scale.fill_(10.0)
    close(PrototypeDiversity(scaled=True)({}, TARGET, network), 0.5)
    network.set_prototypes(PROTOTYPES, [1, 1])
    close(PrototypeDiversity(margin=10.0)({}, TARGET, network), 0.0)


# -- bodies ----------------------------------------------------------------------------


def test_the_net_of_the_paper():
    assert map_sizes((1, 28, 28)) == [(28, 28), (14, 14), (7, 7), (4, 4), (2, 2)]
    assert automatic_code_dim((1, 28, 28)) == 40
    convolutions = [
        m for m in ImageEncoder((1, 28, 28), 40) if isinstance(m, nn.Conv2d)
    ]
    assert [m.out_channels for m in convolutions] == [32, 32, 32, 10]
    mirrored = [
        m for m in ImageDecoder(40, (1, 28, 28)) if isinstance(m, nn.ConvTranspose2d)
    ]
    assert [m.out_channels for m in mirrored] == [32, 32, 32, 1]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(3, 37), st.integers(3, 37), st.integers(1, 50))
def test_images_come_back_in_their_own_size(channels, height, width, dim):
    shape = (channels, height, width)
    assert min(map_sizes(shape)[-1]) >= 2
    for code_dim in (automatic_code_dim(shape), dim):
        z = make_body(shape, code_dim)(torch.zeros(2, *shape))
        assert z.shape == (2, code_dim)
        assert make_decoder(code_dim, shape)(z).shape == (2, *shape)


def test_tables_and_tokens_come_back_in_their_own_shape():
    assert automatic_code_dim((4,)) == 8
    assert automatic_code_dim((30,)) == 16
    assert make_decoder(8, (4,))(make_body((4,), 8)(torch.zeros(3, 4))).shape == (3, 4)
    assert make_decoder(8, (5, 4))(torch.zeros(3, 8)).shape == (3, 5, 4)


def test_too_small_images_are_refused():
    with pytest.raises(ValueError, match="at least 3 x 3"):
        map_sizes((1, 2, 8))


def test_sigmoid_output_stays_between_the_bounds():
    network, _ = trained_like((2, 8, 8), output="sigmoid")
    network.set_bounds([-1.0, 0.0], [1.0, 255.0])
    decoded = network.decode(1e3 * torch.randn(20, network.config["code_dim"]))
    assert (decoded[:, 0] >= -1).all()
    assert (decoded[:, 0] <= 1).all()
    assert decoded[:, 1].min() >= 0
    assert decoded[:, 1].max() > 200


def test_sites_of_an_encoder_are_one_code():
    body = nn.Conv2d(1, 3, 3, stride=2, padding=1)
    network = PrototypeAutoencoderNetwork(
        2, 2, (1, 4, 4), 12, encoder=SiteEncoder(body)
    )
    assert network.encode(torch.zeros(5, 1, 4, 4)).shape == (5, 12)


# -- the module ------------------------------------------------------------------------


def test_a_projected_prototype_has_distance_zero_and_similarity_one():
    network, x = trained_like()
    with torch.no_grad():
        outputs = network.eval()(torch.cat([x, torch.rand(10, 1, 8, 8)]))
    assert (outputs["distances"][:6].diagonal() == 0).all()
    assert (outputs["activations"][:6].diagonal() == 1).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.floats(-3, 3), st.booleans())
def test_distances_are_never_negative(seed, log_scale, training):
    generator = torch.Generator().manual_seed(seed)
    z = 10**log_scale * torch.randn(20, 5, generator=generator)
    network = PrototypeAutoencoderNetwork(20, 2, (5,), 5, encoder=SiteEncoder())
    network.set_prototypes(z)
    squared = network.train(training).code_distances(z)
    assert (squared >= 0).all()
    far = torch.cdist(z.double(), z.double()).square()
    allowed = 1e-5 * z.double().square().sum(1).max()
    assert ((squared - far).abs() <= allowed + 1e-6 * far).all()


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(6)))
def test_the_order_of_the_prototypes_does_not_matter(order):
    network, x = trained_like()
    before = network.eval()(x)
    with torch.no_grad():
        network.prototypes.copy_(network.prototypes[order])
        network.head.weight.copy_(network.head.weight[order])
    after = network(x)
    torch.testing.assert_close(after["scores"], before["scores"])
    torch.testing.assert_close(after["activations"], before["activations"][:, order])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16))
def test_rotating_the_code_space_changes_nothing(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(9, 4, generator=generator, dtype=DOUBLE)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=DOUBLE))[0]
    network = PrototypeAutoencoderNetwork(3, 2, (4,), 4, encoder=SiteEncoder()).double()
    network.set_prototypes(x[:3], [0, 1, 1])
    network.set_signed_head()
    before = network.eval()(x + 0.5)["scores"]
    network.set_prototypes(network.prototypes @ rotation, [0, 1, 1])
    torch.testing.assert_close(network((x + 0.5) @ rotation)["scores"], before)


def test_nothing_is_decoded_outside_of_training():
    network, x = trained_like()
    assert set(network.eval()(x)) == {
        "scores",
        "activations",
        "squared_distances",
        "distances",
    }
    outputs = network.train()(x)
    torch.testing.assert_close(outputs["reconstruction"], network.reconstruct(x))
    assert outputs["inputs"] is x
    held_out = Reconstruction()(network.eval()(x), torch.zeros(6), network)
    assert held_out.tolist() == [0.0] * 6


def test_kept_prototypes_give_the_scores_without_the_others():
    network, x = trained_like()
    network.bandwidth.fill_(2.0)
    kept = torch.tensor([True, False, True, True, True, False])
    smaller = network.eval().keep(kept)
    outputs, full = smaller(x), network(x)
    lost = full["squared_distances"][:, ~kept].double()
    expected = full["scores"] - lost @ network.head.weight[~kept].double()
    torch.testing.assert_close(outputs["scores"], expected)
    assert not smaller.training
    assert smaller.config["n_prototypes"] == 4
    assert smaller.ownership.sum() == 4
    torch.testing.assert_close(outputs["activations"], full["activations"][:, kept])


@pytest.mark.parametrize(
    ("shape", "output"), [((6,), "linear"), ((1, 9, 8), "sigmoid")]
)
def test_config_and_state_rebuild_the_network(shape, output):
    network, x = trained_like(shape, output=output)
    network.bandwidth.fill_(3.0)
    again = PrototypeAutoencoderNetwork(**network.config)
    again.load_state_dict(network.state_dict())
    for key, value in network.eval()(x).items():
        assert torch.equal(value, again.eval()(x)[key]), key
    assert torch.equal(network.reconstruct(x), again.reconstruct(x))


def test_double_precision_and_gradients():
    network, x = trained_like()
    network.double()
    p = network.prototypes.detach().clone().requires_grad_()
    z = network.encode(x.double()).detach() + 0.1

    def scores(prototypes):
        squared = (z[:, None] - prototypes).square().sum(2)
        return network.head(squared)

    assert torch.autograd.gradcheck(scores, p)
    loss = network(x.double())["scores"].sum()
    loss.backward()
    assert network.prototypes.grad.dtype == DOUBLE
    assert torch.isfinite(network.prototypes.grad).all()


def test_many_terms_are_added_up_in_double_precision():
    head = DistanceHead(2, 1).eval()
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    assert head(torch.tensor([[1e8 + 8, 1e8]])).tolist() == [[8.0]]


@pytest.mark.parametrize("shape", [(6,), (1, 9, 8)])
def test_exports_with_a_dynamic_batch(shape):
    network, x = trained_like(shape)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(network.eval(), (x,), dynamic_shapes=({0: batch},))
    other = torch.rand(11, *shape)
    for key, value in program.module()(other).items():
        torch.testing.assert_close(value, network(other)[key])


def test_a_batch_of_one():
    network, x = trained_like()
    one, all_of_them = network.eval()(x[:1]), network(x)
    torch.testing.assert_close(one["scores"], all_of_them["scores"][:1])
