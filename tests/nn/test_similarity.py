"""Distances, kernels and the rule for widths."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skproto.nn import similarity
from skproto.nn.similarity import (
    RBFKernel,
    local_widths,
    map_sites,
    root,
    squared_distances,
    width_rule,
)

DOUBLE = torch.float64


def test_distances_agree_with_plain_differences():
    z = torch.randn(7, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    p = torch.randn(3, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    expected = (z[:, None] - p).square().sum(-1)
    torch.testing.assert_close(squared_distances(z, p), expected)


def test_distances_of_sites_keep_leading_axes():
    z = torch.randn(4, 6, 5, dtype=DOUBLE)
    p = torch.randn(3, 5, dtype=DOUBLE)
    expected = (z[:, :, None] - p).square().sum(-1)
    torch.testing.assert_close(squared_distances(z, p), expected)


def test_map_sites_returns_prototypes_before_sites():
    z, p = torch.randn(4, 6, 5), torch.randn(3, 5)
    values = map_sites(lambda rows: squared_distances(rows, p), z)
    assert values.shape == (4, 3, 6)
    torch.testing.assert_close(values[2, 1, 4], (z[2, 4] - p[1]).square().sum())


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(-100, 100))
def test_distances_do_not_change_under_a_common_shift(seed, shift):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(5, 4, dtype=DOUBLE, generator=generator)
    p = torch.randn(3, 4, dtype=DOUBLE, generator=generator)
    moved = squared_distances(z + shift, p + shift)
    torch.testing.assert_close(moved, squared_distances(z, p), rtol=1e-9, atol=1e-8)


def test_gradient_at_coincidence_is_finite():
    p = torch.zeros(1, 2, requires_grad=True)
    root(squared_distances(torch.zeros(1, 2), p)).sum().backward()
    assert torch.isfinite(p.grad).all()


@pytest.mark.parametrize(
    ("exponent", "expected"),
    [(1, (0.60653066, 0.22313016)), (2, (0.60653066, 0.01110900))],
)
def test_detections_of_the_hand_example(exponent, expected):
    kernel = RBFKernel(2, exponent).double()
    kernel.set_sigma(2.0)
    squared = torch.tensor([[1.0, 9.0]], dtype=DOUBLE)
    detections = kernel(squared).exp()
    torch.testing.assert_close(
        detections, torch.tensor([expected], dtype=DOUBLE), rtol=0, atol=1e-8
    )


def test_kernel_gradients():
    kernel = RBFKernel(3, 1).double()
    squared = torch.rand(4, 3, dtype=DOUBLE) + 0.1
    squared.requires_grad_()
    assert torch.autograd.gradcheck(kernel, (squared,))


def test_shared_width_is_one_parameter():
    kernel = RBFKernel(5, shared=True)
    kernel.set_sigma(3.0)
    assert kernel.log_sigma.shape == (1,)
    torch.testing.assert_close(kernel.sigma, torch.full((5,), 3.0))
    assert kernel.drift().item() == 0.0


def test_fixed_width_is_no_parameter():
    assert not list(RBFKernel(5, trainable=False).parameters())


def test_width_rule_weighs_samples():
    powered = torch.tensor([[1.0], [3.0], [100.0]], dtype=DOUBLE)
    weight = torch.tensor([1.0, 1.0, 0.0], dtype=DOUBLE)
    sigma = width_rule(powered, 0.01, weight)
    # Mean 2 and spread 1 of the first two samples alone.
    assert float(sigma) == pytest.approx(3.0 / -math.log(0.01))


def test_width_rule_never_returns_zero():
    sigma = width_rule(torch.zeros(4, 2, dtype=DOUBLE), 0.01, torch.ones(4))
    assert (sigma > 0).all()


def test_local_widths_are_the_distances_nearby():
    prototypes = torch.tensor([[0.0], [1.0], [3.0], [9.0]], dtype=DOUBLE)
    squared = local_widths(prototypes, 2, n_neighbors=2)
    assert squared.tolist() == pytest.approx([5.0, 2.5, 6.5, 50.0])
    plain = local_widths(prototypes, 1, n_neighbors=2)
    assert plain.tolist() == pytest.approx([2.0, 1.5, 2.5, 7.0])
    # Fewer others than neighbours asked for: all of them count.
    assert local_widths(prototypes[:2], 2).tolist() == pytest.approx([1.0, 1.0])


def test_local_widths_of_many_prototypes_agree_with_few(monkeypatch):
    prototypes = torch.randn(
        50, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)
    )
    whole = local_widths(prototypes, 2)
    monkeypatch.setattr(similarity, "NEIGHBOR_ROWS", 7)
    torch.testing.assert_close(local_widths(prototypes, 2), whole)


def test_local_widths_of_coinciding_prototypes_are_positive():
    prototypes = torch.tensor([[0.0], [0.0], [10.0], [10.0]], dtype=DOUBLE)
    share = similarity.MIN_NEIGHBOR_SHARE * 200.0 / 3.0
    sigma = local_widths(prototypes, 2, n_neighbors=1)
    assert sigma.tolist() == pytest.approx([share] * 4)
    assert (local_widths(torch.zeros(3, 2), 1) > 0).all()
