"""Effective receptive fields against fields that are known."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skproto.nn.backbones import ConvEncoder
from skproto.nn.encoders import SiteEncoder
from skproto.nn.receptive import effective_boxes, energy_boxes, site_boxes


class Windows(nn.Module):
    """Prototype p is similar to what the p-th window of the image shows."""

    WINDOWS = [(0, 0, 3, 2), (4, 1, 8, 6), (5, 5, 6, 6)]

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.99)

    def forward(self, x):
        x = self.dropout(x)
        sums = [x[:, :, t:b, le:r].sum((1, 2, 3)) for t, le, b, r in self.WINDOWS]
        return {"activations": torch.stack(sums, 1)}


class Nearest(nn.Module):
    """Similarity of the best site of a map, and at what site that is."""

    def __init__(self, encoder, dim):
        super().__init__()
        self.encoder = encoder
        self.prototypes = nn.Parameter(torch.randn(4, dim))

    def forward(self, x):
        z = self.encoder(x)
        squared = (z[:, None] - self.prototypes[:, None]).square().sum(-1)
        activations, sites = squared.neg().max(2)
        return {"activations": activations.exp(), "sites": sites}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_boxes_of_known_windows_in_any_order():
    module = Windows()
    prototypes = torch.tensor([[2, 0], [1, 1], [0, -1]])
    boxes = effective_boxes(module, torch.randn(3, 2, 8, 8), prototypes, energy=1.0)
    windows = torch.tensor([*Windows.WINDOWS, (-1, -1, -1, -1)])
    assert boxes.dtype == torch.int64
    assert torch.equal(boxes, windows[prototypes])
    # Evaluation mode, or dropout would hide most pixels; and it is put back.
    assert module.dropout.training


def test_a_box_lies_in_the_theoretical_field_of_the_winning_site():
    # Two 3x3 convolutions with strides of 2 see 7 pixels, from 4 t - 3 to 4 t + 3.
    body = nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2, padding=1),
        nn.Tanh(),
        nn.Conv2d(6, 5, 3, stride=2, padding=1),
    )
    module = Nearest(SiteEncoder(body), 5)
    x = torch.randn(6, 1, 24, 24)
    prototypes = torch.arange(4).expand(6, 4)
    sites = module(x)["sites"]
    centre = 4 * torch.stack([sites // 6, sites % 6], 2)
    low, high = (centre - 3).clamp_min(0), (centre + 4).clamp_max(24)
    full = effective_boxes(module, x, prototypes, energy=1.0)
    assert torch.equal(full, torch.cat([low, high], 2))
    assert torch.equal(site_boxes(module.encoder, x, sites, energy=1.0), full)
    part = effective_boxes(module, x, prototypes, energy=0.5)
    assert (part[..., :2] >= full[..., :2]).all()
    assert (part[..., 2:] <= full[..., 2:]).all()
    assert not torch.equal(part, full)


def test_the_own_image_of_a_prototype_has_no_gradient_but_a_site():
    encoder = SiteEncoder(ConvEncoder((1, 16, 16)))
    module = Nearest(encoder, 32).eval()
    x = torch.randn(4, 1, 16, 16)
    with torch.no_grad():
        module.prototypes.copy_(encoder(x)[torch.arange(4), torch.arange(4)])
    own = torch.arange(4)[:, None]
    assert (effective_boxes(module, x, own) == -1).all()
    boxes = site_boxes(encoder, x, own)
    assert (boxes[..., 2:] > boxes[..., :2]).all()
    assert (boxes >= 0).all()


def test_samples_do_not_depend_on_their_company():
    module = Nearest(SiteEncoder(ConvEncoder((1, 16, 16))), 32)
    x, prototypes = torch.randn(5, 1, 16, 16), torch.arange(4).expand(5, 4)
    together = effective_boxes(module, x, prototypes, energy=0.8)
    alone = [effective_boxes(module, x[i : i + 1], prototypes[:1], 0.8) for i in (0, 4)]
    assert torch.equal(torch.cat(alone), together[[0, 4]])


def test_nothing_of_the_module_changes():
    module = Nearest(SiteEncoder(ConvEncoder((1, 16, 16))), 32)
    module.encoder.body[0].eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    x = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        effective_boxes(module, x, torch.zeros(2, 1, dtype=torch.long))
    assert [part.training for part in module.modules()] == modes
    assert all(p.grad is None for p in module.parameters())
    assert not x.requires_grad
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_the_mode_is_put_back_after_an_error():
    module = Windows()
    with pytest.raises(ValueError, match=r"must be below 3, .* Got 3"):
        effective_boxes(module, torch.zeros(1, 1, 8, 8), torch.tensor([[3]]))
    assert module.training


def test_activations_that_no_gradient_reaches():
    class Constant(nn.Module):
        def forward(self, x):
            return {"activations": torch.ones(len(x), 2)}

    boxes = effective_boxes(
        Constant(), torch.zeros(3, 1, 8, 8), torch.zeros(3, 1).long()
    )
    assert (boxes == -1).all()
    assert boxes.shape == (3, 1, 4)


def test_a_module_without_prototypes():
    class Empty(Windows):
        def forward(self, x):
            return {"activations": super().forward(x)["activations"][:, :0]}

    boxes = effective_boxes(Empty(), torch.randn(2, 1, 8, 8), -torch.ones(2, 1).long())
    assert torch.equal(boxes, torch.full((2, 1, 4), -1))


def test_no_prototype_asked_for():
    boxes = effective_boxes(
        Windows(), torch.zeros(3, 1, 8, 8), torch.zeros(3, 0, dtype=torch.long)
    )
    assert boxes.shape == (3, 0, 4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(0.05, 1.0))
def test_a_box_holds_the_share_and_no_side_can_be_cut_further(seed, energy):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(1, 9, 7, generator=generator).double() ** 6
    (top, left, bottom, right) = energy_boxes(weights, energy)[0].tolist()
    total = weights.sum()
    assert weights[0, top:bottom, left:right].sum() >= energy * total - 1e-9
    quarter = total * (1 - energy) / 4 - 1e-9
    for beyond in (
        weights[0, : top + 1],
        weights[0, bottom - 1 :],
        weights[0, :, : left + 1],
        weights[0, :, right - 1 :],
    ):
        assert beyond.sum() > quarter


def test_boxes_do_not_depend_on_the_scale_of_tiny_weights():
    weights = torch.rand(4, 8, 8)
    assert torch.equal(energy_boxes(weights * 1e-30), energy_boxes(weights))


def test_weights_without_a_sum():
    weights = torch.zeros(2, 4, 4)
    weights[1, 0, 0] = float("inf")
    assert (energy_boxes(weights) == -1).all()


@pytest.mark.parametrize("energy", [0.0, 1.01, float("nan")])
def test_errors_of_energy(energy):
    with pytest.raises(ValueError, match=r"'energy' must be in \(0, 1\]"):
        energy_boxes(torch.ones(1, 2, 2), energy)


@pytest.mark.parametrize("function", [effective_boxes, site_boxes])
@pytest.mark.parametrize(
    ("shape", "positions", "message"),
    [
        ((2, 64), (2, 1), r"need images .* Got a batch of shape \(2, 64\)"),
        ((2, 1, 8, 8), (3, 1), r"must have shape \(2, R\). Got \(3, 1\)"),
        ((2, 1, 8, 8), (2,), r"must have shape \(2, R\). Got \(2,\)"),
    ],
)
def test_errors_of_shape(function, shape, positions, message):
    with pytest.raises(ValueError, match=message):
        function(Windows(), torch.zeros(shape), torch.zeros(positions).long())


def test_error_of_a_site_that_is_not_there():
    with pytest.raises(ValueError, match=r"'sites' must be below 16, .* Got 16"):
        site_boxes(
            SiteEncoder(ConvEncoder((1, 8, 8))),
            torch.zeros(1, 1, 8, 8),
            torch.tensor([[16]]),
        )
