"""The RBF/CBC module and its losses: worked numbers of the reference sheet."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skproto.nn import (
    MarginLoss,
    NegativeLogLikelihood,
    OriginalReasoningHead,
    RBFNetwork,
    ReasoningHead,
    RobustLoss,
)

DOUBLE = torch.float64
POSITIVE = torch.tensor([[0.6, 0.1], [0.0, 0.6]], dtype=DOUBLE)
NEGATIVE = torch.tensor([[0.0, 0.2], [0.4, 0.1]], dtype=DOUBLE)


def close(actual, expected, atol=1e-8):
    expected = torch.as_tensor(expected, dtype=DOUBLE)
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=atol)


def hand_network(exponent):
    """Two components at 0 and 4, width 2, classes A and B."""
    net = RBFNetwork(2, 1, 2, "reasoning", exponent=exponent).double()
    with torch.no_grad():
        net.prototypes.copy_(torch.tensor([[0.0], [4.0]]))
        net.kernel.set_sigma(2.0)
        net.head.logits.copy_(torch.cat([POSITIVE, NEGATIVE]).log().clamp_min(-800))
    return net


X = torch.tensor([[1.0]], dtype=DOUBLE)


@pytest.mark.parametrize(
    ("exponent", "agreements"),
    [(1, (0.674666332, 0.350912014)), (2, (0.759474797, 0.244901432))],
)
def test_agreements_of_the_hand_example(exponent, agreements):
    outputs = hand_network(exponent)(X)
    close(outputs["scores"], [agreements])
    close(outputs["log_scores"].exp(), [agreements])


def test_absence_alone_speaks_far_away():
    far = hand_network(1)(torch.tensor([[1e6]], dtype=DOUBLE))
    close(far["scores"], [[0.4, 0.3]])


@pytest.mark.parametrize(("target", "expected"), [(0, 0.0), (1, 0.623754318)])
def test_margin_loss_of_the_hand_example(target, expected):
    net = hand_network(1)
    value = MarginLoss(0.3)(net(X), torch.tensor([target]), net)
    close(value, [expected])


@pytest.mark.parametrize(("target", "expected"), [(0, 0.418793727), (1, 1.072476452)])
def test_likelihood_of_the_hand_example(target, expected):
    net = hand_network(1)
    value = NegativeLogLikelihood()(net(X), torch.tensor([target]), net)
    close(value, [expected])


@pytest.mark.parametrize(("target", "expected"), [(0, 0.155901239), (1, 1.844098761)])
def test_robust_loss_of_the_hand_example(target, expected):
    net = hand_network(1)
    value = RobustLoss(1.0, "theorem")(net(X), torch.tensor([target]), net)
    close(value, [expected])


def test_robust_loss_on_the_envelope_uses_the_tight_radius():
    net = hand_network(2)
    value = RobustLoss(2.0)(net(X), torch.tensor([0]), net)
    close(value, [2.0 - 1.165120478], atol=1e-6)


def test_original_form_does_not_see_how_much_is_ignored():
    detections = torch.tensor([[0.9, 0.2, 0.6]], dtype=DOUBLE)
    positive = torch.tensor([[0.8], [0.0], [0.1]], dtype=DOUBLE)
    negative = torch.tensor([[0.0], [0.7], [0.0]], dtype=DOUBLE)
    for share, expected in ((1.0, 0.8375), (0.001, 0.8375), (1e-6, 0.7883)):
        head = OriginalReasoningHead(3, 1).double()
        with torch.no_grad():
            head.q0.copy_(share * positive)
            head.q1.copy_(share * negative / (1 - share * positive))
        close(head(detections.log())["scores"], [[expected]], atol=1e-4)


def test_original_form_has_an_extended_twin():
    head = OriginalReasoningHead(3, 2).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        head.q0.copy_(torch.rand(3, 2, generator=generator))
        head.q1.copy_(torch.rand(3, 2, generator=generator))
    detections = torch.rand(5, 3, dtype=DOUBLE, generator=generator)
    positive, negative = head.tables()
    twin = detections @ (positive - negative) + negative.sum(0)
    torch.testing.assert_close(head(detections.log())["scores"], twin)


def test_constrain_brings_shares_back():
    head = OriginalReasoningHead(2, 2)
    with torch.no_grad():
        head.q0.fill_(1.5)
        head.q1.fill_(-0.5)
    head.constrain_()
    assert float(head.q0.detach().max()) == 1.0
    assert float(head.q1.detach().min()) == 0.0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.booleans(), st.integers(1, 3))
def test_agreements_are_probabilities(seed, negative, n_reasonings):
    generator = torch.Generator().manual_seed(seed)
    head = ReasoningHead(4, 3, n_reasonings, negative).double()
    with torch.no_grad():
        head.logits.copy_(3 * torch.randn(head.logits.shape, generator=generator))
    tables = torch.cat(head.tables())
    torch.testing.assert_close(tables.sum(0), torch.ones_like(tables[0]))
    scores = head(torch.rand(6, 4, dtype=DOUBLE, generator=generator).log())["scores"]
    assert scores.shape == (6, 3)
    assert (scores >= 0).all()
    assert (scores <= 1 + 1e-12).all()


def test_convex_head_has_log_scores_without_underflow():
    net = RBFNetwork(3, 1, 2, "convex").double()
    with torch.no_grad():
        net.prototypes.copy_(torch.tensor([[0.0], [1.0], [2.0]]))
        net.head.logits.copy_(torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 2.0]]))
    outputs = net(torch.tensor([[1e3]], dtype=DOUBLE))
    scores = outputs["scores"].detach()
    assert 0.0 < scores.max() < 1e-270
    assert int(scores.argmax()) == 1
    assert torch.isfinite(outputs["log_scores"]).all()
    assert int(outputs["log_scores"].argmax()) == 1


@pytest.mark.parametrize("head", ["linear", "convex", "reasoning", "original"])
class TestModule:
    def make(self, head, **kwargs):
        net = RBFNetwork(4, 3, 2, head, **kwargs)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.copy_(torch.rand(parameter.shape, generator=generator))
        return net

    def test_shapes_also_for_a_batch_of_one(self, head):
        net = self.make(head)
        for n_rows in (1, 5):
            outputs = net(torch.rand(n_rows, 3))
            assert outputs["scores"].shape == (n_rows, 2)
            assert outputs["activations"].shape == (n_rows, 4)
            assert outputs["distances"].shape == (n_rows, 4)

    def test_gradients_are_finite(self, head):
        net = self.make(head)
        outputs = net(net.prototypes.detach().clone())
        outputs["scores"].sum().backward()
        for name, parameter in net.named_parameters():
            assert torch.isfinite(parameter.grad).all(), name

    def test_gradients_agree_with_differences(self, head):
        net = self.make(head).double()
        x = torch.rand(3, 3, dtype=DOUBLE, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: net(x)["scores"], (x,))

    def test_exports_with_any_batch_size(self, head):
        net = self.make(head).eval()
        batch = torch.export.Dim("batch", min=1, max=1024)
        program = torch.export.export(
            net, (torch.rand(4, 3),), dynamic_shapes=({0: batch},)
        )
        x = torch.rand(9, 3)
        torch.testing.assert_close(program.module()(x)["scores"], net(x)["scores"])

    def test_config_and_state_rebuild_it(self, head):
        net = self.make(head)
        twin = RBFNetwork(**net.config)
        twin.load_state_dict(net.state_dict())
        x = torch.rand(5, 3)
        assert torch.equal(net(x)["scores"], twin(x)["scores"])


def test_best_site_counts():
    net = RBFNetwork(2, 3, 2, "reasoning", encoder=torch.nn.Unflatten(1, (4, 3)))
    with torch.no_grad():
        net.prototypes.copy_(torch.eye(3)[:2])
    x = torch.zeros(1, 12)
    x[0, 9] = 1.0
    activations = net(x)["activations"]
    assert activations[0, 0].item() == pytest.approx(1.0)
    assert activations[0, 1].item() < 1.0


def test_permuting_components_permutes_activations():
    net = hand_network(2)
    twin = hand_network(2)
    order = torch.tensor([1, 0])
    with torch.no_grad():
        twin.prototypes.copy_(net.prototypes[order])
        twin.head.logits.copy_(net.head.logits[torch.tensor([1, 0, 3, 2])])
    x = torch.randn(6, 1, dtype=DOUBLE)
    torch.testing.assert_close(twin(x)["scores"], net(x)["scores"])
    torch.testing.assert_close(twin(x)["activations"], net(x)["activations"][:, order])
