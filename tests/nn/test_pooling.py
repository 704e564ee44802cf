"""Poolings beside plain loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skproto.nn.part_similarity import make_similarity
from skproto.nn.pooling import make_pooling

quick = settings(deadline=None, max_examples=30)


def distances(seed, n=3, n_sites=5, n_prototypes=4):
    generator = torch.Generator().manual_seed(seed)
    shape = (n, n_sites, n_prototypes)
    return 3 * torch.rand(shape, generator=generator, dtype=torch.float64)


def kernel():
    return make_similarity("log_l2", 4, 2).to_similarity


def by_loop(name, d, k):
    """Pool sample by sample and prototype by prototype."""
    s = kernel()
    values = torch.empty(d.shape[0], d.shape[2], dtype=d.dtype)
    sites = torch.empty(values.shape, dtype=torch.int64)
    for i in range(d.shape[0]):
        for p in range(d.shape[2]):
            column = d[i, :, p]
            ordered = sorted(column.tolist())
            sites[i, p] = column.tolist().index(ordered[0])
            if name == "max":
                values[i, p] = max(s(column).tolist())
            elif name == "topk":
                values[i, p] = sum(sorted(s(column).tolist())[-k:]) / k
            else:
                values[i, p] = s(column.min()) - s(column.mean())
    return values, sites


@quick
@given(st.integers(0, 10_000), st.sampled_from(["max", "topk", "focal"]))
def test_poolings_equal_a_loop(seed, name):
    d = distances(seed)
    options = {"k": 3} if name == "topk" else {}
    pooled = make_pooling(name, **options)(d, kernel())
    values, sites = by_loop(name, d, 3)
    torch.testing.assert_close(pooled.similarities, values)
    assert torch.equal(pooled.sites, sites)
    assert torch.equal(pooled.nearest, d.amin(1))


def test_worked_focal_value():
    d = torch.tensor([[[0.0], [2.0]]], dtype=torch.float64)
    pooled = make_pooling("focal")(d, kernel())
    assert pooled.similarities.item() == pytest.approx(9.2103404 - 0.6930472, abs=1e-6)
    assert pooled.mean.item() == 1.0


@pytest.mark.parametrize("name", ["max", "topk", "focal"])
def test_ties_go_to_the_first_site(name):
    pooled = make_pooling(name)(torch.ones(2, 4, 3), torch.neg)
    assert not pooled.sites.any()


def test_one_site_is_what_there_is():
    d = distances(0, n_sites=1)
    pooled = make_pooling("max")(d, torch.neg)
    assert torch.equal(pooled.similarities, -d[:, 0])
    assert not pooled.sites.any()
    assert not make_pooling("focal")(d, torch.neg).similarities.any()


@quick
@given(st.integers(0, 10_000), st.sampled_from(["max", "topk", "focal"]))
def test_the_order_of_the_sites_does_not_count(seed, name):
    d = distances(seed)
    order = torch.randperm(d.shape[1], generator=torch.Generator().manual_seed(seed))
    pooling = make_pooling(name)
    first, second = pooling(d, kernel()), pooling(d[:, order], kernel())
    torch.testing.assert_close(second.similarities, first.similarities)
    assert torch.equal(order[second.sites], first.sites)


def test_top_k_of_all_sites_is_the_mean_and_of_one_the_maximum():
    d = distances(1)
    s = kernel()
    mean = make_pooling("topk", k=5)(d, s).similarities
    torch.testing.assert_close(mean, s(d).mean(1))
    best = make_pooling("topk", k=1)(d, s).similarities
    assert torch.equal(best, make_pooling("max")(d, s).similarities)


def test_top_k_in_training_only():
    d = distances(1)
    pooling = make_pooling("topk", k=3, training_only=True)
    assert torch.equal(pooling.eval()(d, torch.neg).similarities, -d.amin(1))
    trained = pooling.train()(d, torch.neg).similarities
    assert torch.equal(trained, make_pooling("topk", k=3)(d, torch.neg).similarities)


def test_errors_name_the_parameter():
    with pytest.raises(ValueError, match="pooling must be one of"):
        make_pooling("mean")
    with pytest.raises(ValueError, match="k must be an int >= 1, got 0"):
        make_pooling("topk", k=0)
    with pytest.raises(ValueError, match=r"at most the number of sites, 5, got 6"):
        make_pooling("topk", k=6)(distances(0), torch.neg)
