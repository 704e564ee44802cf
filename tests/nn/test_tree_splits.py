"""Classes that share a leaf get a part of the tree that is idle."""

import pytest
import torch

from skproto.nn.tree import SoftPrototypeTree
from skproto.nn.tree_splits import split_shared_leaves

X = torch.cat([c + torch.linspace(-0.3, 0.3, 10) for c in (0.0, 5.0, 10.0)])[:, None]
Y = torch.arange(3).repeat_interleave(10)


def tree_with(*places, **settings):
    """Return a tree of depth 2 whose prototypes are (place, radius)."""
    tree = SoftPrototypeTree(1, 3, depth=2, feature_weights=False, **settings).eval()
    with torch.no_grad():
        tree.prototypes.copy_(torch.tensor([[place] for place, _ in places]))
        if tree.log_radius is not None:
            tree.log_radius.copy_(torch.tensor([r for _, r in places]).log())
    settle(tree)
    return tree


def settle(tree, n_steps=5):
    for _ in range(n_steps):
        tree.em_step(tree(X)["log_path"], Y)


def accuracy(tree):
    return float((tree(X)["scores"].argmax(1) == Y).float().mean())


@pytest.mark.parametrize(
    "second",
    [
        pytest.param((7.5, 6.0), id="idle-left"),
        pytest.param((100.0, 1.0), id="idle-right"),
    ],
)
def test_idle_parts_take_the_class_that_leads_no_leaf(second):
    tree = tree_with((0.0, 2.0), second, (50.0, 1.0))
    assert accuracy(tree) == pytest.approx(2 / 3)
    assert len(split_shared_leaves(tree, X, Y)) == 1
    settle(tree)
    assert accuracy(tree) == 1.0
    assert split_shared_leaves(tree, X, Y) == []
    # Each new prototype is a training sample.
    row = tree.prototypes[1] if tree.prototypes[1] not in (7.5, 100.0) else None
    assert row is None or (row == X).any()


def test_an_idle_part_further_up_is_taken_as_well():
    # All samples are right of the root; right of it three classes need two decisions.
    tree = tree_with((5.0, 40.0), (5.0, 1.0), (0.0, 2.0))
    assert accuracy(tree) == pytest.approx(2 / 3)
    assert len(split_shared_leaves(tree, X, Y)) == 1
    settle(tree)
    assert accuracy(tree) == 1.0


def test_nothing_happens_where_nothing_can_be_done():
    apart = tree_with((0.0, 2.0), (5.0, 2.0), (50.0, 1.0))
    before = {k: v.clone() for k, v in apart.state_dict().items()}
    assert split_shared_leaves(apart, X, Y) == []
    assert all(torch.equal(v, before[k]) for k, v in apart.state_dict().items())
    # Two classes in one place cannot be told.
    same = tree_with((0.0, 2.0), (100.0, 1.0), (50.0, 1.0))
    at = torch.where(Y == 2, 1, Y)
    assert split_shared_leaves(same, X[at * 10], Y) == []
    # Without radii there is nothing to set.
    paper = tree_with((0.0, 2.0), (100.0, 1.0), (50.0, 1.0), similarity="exp")
    assert split_shared_leaves(paper, X, Y) == []


def test_samples_of_weight_0_do_not_count():
    tree = tree_with((0.0, 2.0), (100.0, 1.0), (50.0, 1.0))
    weight = torch.where(Y == 2, 0.0, 1.0)
    assert split_shared_leaves(tree, X, Y, weight) == []
