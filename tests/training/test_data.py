"""Batches in memory: dense and sparse rows, orders, weights."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from skproto.training import BatchDataset, BatchLoader, TrainingData, chunks


def make_data(n_samples=10, *, sparse=False):
    rng = np.random.RandomState(0)
    X = rng.rand(n_samples, 4).astype(np.float32)
    return TrainingData(
        X=sp.csr_array(X) if sparse else X,
        y=np.arange(n_samples) % 3,
        weight=np.ones(n_samples),
        rows=np.arange(n_samples),
        n_classes=3,
        rng=rng,
    )


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_pass_shows_every_sample_once(sparse, shuffle):
    data = make_data(11, sparse=sparse)
    loader = BatchLoader(BatchDataset(data), 3, shuffle, torch.Generator())
    batches = list(loader)
    assert len(batches) == len(loader) == 4
    X = np.concatenate([x.numpy() for x, _ in batches])
    y = np.concatenate([y.numpy() for _, (y, _) in batches])
    order = np.lexsort(X.T)
    expected = data.dense(slice(None))
    np.testing.assert_array_equal(X[order], expected[np.lexsort(expected.T)])
    np.testing.assert_array_equal(y[order], data.y[np.lexsort(expected.T)])


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    ("n_samples", "size", "expected"),
    [
        (10, 3, [3, 3, 4]),
        (11, 3, [3, 3, 3, 2]),
        (4, 3, [4]),
        (3, 3, [3]),
        (1, 3, [1]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_no_sample_is_left_over_alone(n_samples, size, expected, shuffle):
    dataset = BatchDataset(make_data(n_samples))
    loader = BatchLoader(dataset, size, shuffle, torch.Generator())
    assert [len(x) for x, _ in loader] == expected
    assert len(loader) == len(expected)
    rows = torch.cat([x for x, _ in loader])
    assert torch.equal(rows.sort(0).values, dataset.whole()[0].sort(0).values)


def test_orders_come_from_the_generator():
    dataset = BatchDataset(make_data())

    def first(seed):
        generator = torch.Generator().manual_seed(seed)
        return next(iter(BatchLoader(dataset, 5, True, generator)))[0]

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


def test_the_whole_batch_is_always_the_same_tensor():
    loader = BatchLoader(BatchDataset(make_data()), 100, True, torch.Generator())
    assert next(iter(loader))[0] is next(iter(loader))[0]


@pytest.mark.parametrize("sparse", [False, True])
def test_torch_data_loader_can_serve_it(sparse):
    dataset = BatchDataset(make_data(sparse=sparse))
    x, (y, weight) = next(iter(torch.utils.data.DataLoader(dataset, batch_size=4)))
    assert x.shape == (4, 4)
    assert y.tolist() == [0, 1, 2, 0]
    assert weight.shape == (4,)


def test_subset_keeps_rows_and_mean_weight():
    data = make_data()
    part = data.subset(np.array([1, 4]))
    assert part.rows.tolist() == [1, 4]
    assert part.weight.mean() == 1.0
    assert len(part) == 2
    assert part.input_shape == (4,)


def test_chunks_cover_all_rows():
    assert [(c.start, c.stop) for c in chunks(7, 3)] == [(0, 3), (3, 6), (6, 7)]
    assert list(chunks(0, 3)) == []
