"""The convex refit of a head."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skproto.nn.head_solver import SOLVABLE, solve_head
from skproto.nn.parts import PartPrototypeNetwork

quick = settings(deadline=None, max_examples=30)
OWNERS = np.repeat(np.eye(3, dtype=bool), 2, axis=0)


def problem(seed=0, n=60):
    """Activations that tell three classes apart, but not without errors."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    activations = rng.normal(size=(n, 6)) + 1.5 * OWNERS[:, y].T
    return activations, y


def start(head):
    if head == "grouped_softmax":
        return np.ones(6)
    return np.where(OWNERS, 1.0, -0.5 if head == "class_linear" else 0.0)


def table(weight, head):
    if head != "grouped_softmax":
        return weight
    parts = np.exp(weight)[:, None] * OWNERS
    return 2 * parts / parts.sum(axis=0)


def objective(activations, y, weight, head, l1, sample_weight=None):
    """The objective in plain numpy."""
    weights = table(weight, head)
    scores = activations @ weights
    loss = np.logaddexp.reduce(scores, axis=1) - scores[np.arange(len(y)), y]
    loss = np.average(loss, weights=sample_weight)
    off = 0.0 if head == "grouped_softmax" else np.abs(weights[~OWNERS]).sum()
    return loss + l1 * off


@quick
@given(
    st.integers(0, 10_000), st.sampled_from(SOLVABLE), st.sampled_from([0, 1e-3, 0.1])
)
def test_objective_is_what_it_says_and_never_above_the_start(seed, head, l1):
    activations, y = problem(seed)
    first = start(head)
    solution = solve_head(activations, y, first, head=head, ownership=OWNERS, l1=l1)
    before = objective(activations, y, first, head, l1)
    assert solution.start_objective == pytest.approx(before)
    after = objective(activations, y, solution.weight, head, l1)
    assert solution.objective == pytest.approx(after)
    assert solution.objective <= solution.start_objective


@pytest.mark.parametrize("head", SOLVABLE)
def test_no_other_weights_are_better(head):
    activations, y = problem()
    arguments = {"head": head, "ownership": OWNERS, "l1": 0.01}
    solution = solve_head(activations, y, start(head), **arguments)
    assert solution.converged
    rng = np.random.default_rng(1)
    for _ in range(50):
        other = solution.weight + 0.05 * rng.normal(size=solution.weight.shape)
        if head == "nonneg":
            other = np.maximum(other, 0.0)
        worse = objective(activations, y, other, head, 0.01)
        assert worse >= solution.objective - 1e-9


def test_penalty_makes_zeros_and_the_optimum_obeys_its_conditions():
    activations, y = problem()
    first = start("class_linear")
    solution = solve_head(activations, y, first, ownership=OWNERS, l1=0.05)
    scores = activations @ solution.weight
    share = np.exp(scores - np.logaddexp.reduce(scores, axis=1)[:, None])
    gradient = activations.T @ (share - np.eye(3)[y]) / len(y)
    assert np.abs(gradient[OWNERS]).max() < 1e-5
    zero = ~OWNERS & (solution.weight == 0)
    assert zero.any()
    assert np.abs(gradient[zero]).max() <= 0.05 + 1e-5
    free = ~OWNERS & (solution.weight != 0)
    slope = gradient[free] + 0.05 * np.sign(solution.weight[free])
    assert np.abs(slope).max(initial=0.0) < 1e-5


def test_owners_of_all_classes_are_penalised_like_no_owner():
    activations, y = problem()
    start_at = np.zeros((6, 3))
    everyone = np.ones((6, 3), dtype=bool)
    shared = solve_head(activations, y, start_at, ownership=everyone, l1=0.05)
    plain = solve_head(activations, y, start_at, l1=0.05)
    np.testing.assert_array_equal(shared.weight, plain.weight)
    assert (shared.weight == 0).any()


def test_starting_at_the_optimum_changes_nothing():
    activations, y = problem()
    first = start("class_linear")
    once = solve_head(activations, y, first, ownership=OWNERS, l1=0.01)
    twice = solve_head(activations, y, once.weight, ownership=OWNERS, l1=0.01)
    np.testing.assert_allclose(twice.weight, once.weight, atol=1e-5)
    assert twice.objective <= once.objective


def test_a_weight_of_two_is_the_sample_twice_and_zero_is_none():
    activations, y = problem()
    weight = np.ones(len(y))
    weight[:5], weight[5:9] = 2.0, 0.0
    rows = np.repeat(np.arange(len(y)), weight.astype(int))
    first = start("class_linear")
    arguments = {"ownership": OWNERS, "l1": 0.01}
    one = solve_head(activations, y, first, sample_weight=weight, **arguments)
    other = solve_head(activations[rows], y[rows], first, **arguments)
    np.testing.assert_allclose(one.weight, other.weight, atol=1e-4)
    assert one.objective == pytest.approx(other.objective)


def test_chunks_add_up(monkeypatch):
    activations, y = problem()
    first = start("class_linear")
    whole = solve_head(activations, y, first, ownership=OWNERS, l1=0.01)
    monkeypatch.setattr("skproto.nn.head_solver._CHUNK_NUMBERS", 6 * 7)
    parts = solve_head(activations, y, first, ownership=OWNERS, l1=0.01)
    np.testing.assert_allclose(parts.weight, whole.weight, atol=1e-4)


def test_pull_keeps_weights_of_separable_classes_finite():
    activations = 10.0 * OWNERS[:, np.arange(30) % 3].T
    y = np.arange(30) % 3
    first = start("class_linear")
    loose = solve_head(activations, y, first, ownership=OWNERS, l2=1e-4)
    tight = solve_head(activations, y, first, ownership=OWNERS, l2=1e2)
    assert np.abs(tight.weight - first).max() < 0.01
    assert np.abs(loose.weight - first).max() > np.abs(tight.weight - first).max()


def test_negative_start_of_a_non_negative_head_counts_as_zero():
    activations, y = problem()
    solution = solve_head(activations, y, np.full((6, 3), -1.0), head="nonneg")
    assert solution.start_objective == pytest.approx(np.log(3))
    assert (solution.weight >= 0).all()


@pytest.mark.parametrize("head", SOLVABLE)
def test_weights_fit_into_the_module(head):
    activations, y = problem()
    net = PartPrototypeNetwork(6, 2, 3, head=head).eval()
    a = torch.tensor(activations, dtype=torch.float32)
    solution = solve_head(
        a, torch.tensor(y), net.head.weight, head=head, ownership=net.ownership
    )
    with torch.no_grad():
        net.head.weight.copy_(torch.tensor(solution.weight))
        scores = net.head({"activations": a})["scores"]
    loss = torch.nn.functional.cross_entropy(scores, torch.tensor(y)).item()
    assert loss <= solution.start_objective
    expected = objective(activations, y, solution.weight, head, 0.0)
    assert loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": "mlp"}, "head must be one of"),
        ({"l1": -1.0}, "l1 must be a float >= 0, got -1.0"),
        ({"max_iter": 0}, "max_iter must be an int >= 1, got 0"),
        ({"activations": np.ones((4, 5))}, "for 5 columns"),
        ({"activations": np.ones((3, 6))}, "y shape"),
        ({"activations": np.full((4, 6), np.nan)}, "must be finite"),
        ({"y": [0, 1, 2, 3]}, "class codes 0 to 2"),
        ({"y": [0.0, 1, 2, 1]}, "class codes 0 to 2"),
        ({"sample_weight": [0, 0, 0, 0]}, "sample_weight must be 4 numbers"),
        ({"head": "grouped_softmax"}, "weight of 'grouped_softmax'"),
    ],
)
def test_errors_name_the_parameter(change, message):
    given = {"activations": np.ones((4, 6)), "y": [0, 1, 2, 0]}
    given |= {"weight": np.ones((6, 3))} | change
    with pytest.raises(ValueError, match=message):
        solve_head(
            given.pop("activations"), given.pop("y"), given.pop("weight"), **given
        )
