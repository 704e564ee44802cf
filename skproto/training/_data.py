"""Training data in memory and batches of it, without a loop over samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

# Entries of a chunk of rows that is made dense.
CHUNK_ENTRIES = 4_000_000

Batch = tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class TrainingData:
    """Validated training samples, as the estimators' hooks see them.

    Parameters
    ----------
    X : ndarray or CSR array of shape (n_samples, n_features), float32
        Samples in the scaled space of the model. Images and tokens come as an object
        of shape (n_samples, ...) that reads and scales those asked for.

    y : ndarray of shape (n_samples,), int64
        Class codes 0 .. n_classes - 1.

    weight : ndarray of shape (n_samples,), float64
        Positive sample weights, class weights included, of mean 1.

    rows : ndarray of shape (n_samples,), int64
        Row number of each sample in what the user passed to `fit`.

    n_classes : int
        Number of classes.

    rng : numpy.random.RandomState
        Source of all randomness in the estimator's hooks.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.training import TrainingData
    >>> X = np.arange(12, dtype=np.float32).reshape(6, 2)
    >>> y = np.array([0, 0, 0, 1, 1, 1])
    >>> rng = np.random.RandomState(0)
    >>> data = TrainingData(X, y, np.ones(6), np.arange(6), 2, rng)
    >>> data.dense(slice(0, 2)).tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """

    X: Any
    y: np.ndarray
    weight: np.ndarray
    rows: np.ndarray
    n_classes: int
    rng: np.random.RandomState

    def __len__(self) -> int:
        return self.X.shape[0]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of a sample: (n_features,), (C, H, W) of images, (T, D) of tokens."""
        return tuple(self.X.shape[1:])

    def dense(self, index: np.ndarray | slice) -> np.ndarray:
        """Return samples as a dense float32 array (n_rows, ...)."""
        rows = self.X[index]
        return rows.toarray() if sp.issparse(rows) else rows

    def subset(self, index: np.ndarray) -> TrainingData:
        """Return the samples at `index`, the weights rescaled to mean 1."""
        weight = self.weight[index]
        return replace(
            self,
            X=select_rows(self.X, index),
            y=self.y[index],
            weight=weight / weight.mean(),
            rows=self.rows[index],
        )

    def chunks(self) -> Iterator[slice]:
        """Consecutive slices that cover all rows, few of them where rows are long."""
        return chunks(len(self), chunk_rows(math.prod(self.input_shape)))


def select_rows(X, index: np.ndarray):
    """Return the samples at `index`; those that are read when asked for stay so.

    Parameters
    ----------
    X : array, sparse matrix or object of shape (n_samples, ...)
        Samples.

    index : ndarray of int or bool
        Which of them.

    Returns
    -------
    samples : same type as `X`
        The samples chosen.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.training import select_rows
    >>> select_rows(np.arange(6).reshape(3, 2), np.array([0, 2])).tolist()
    [[0, 1], [4, 5]]
    """
    return X.select(index) if hasattr(X, "select") else X[index]


def chunk_rows(n_features: int) -> int:
    """Return how many rows of so many features are made dense at a time.

    Parameters
    ----------
    n_features : int
        Numbers of a row.

    Returns
    -------
    n_rows : int
        From 64 to 8,192, fewer for longer rows.

    Examples
    --------
    >>> from skproto.training import chunk_rows
    >>> chunk_rows(10) > chunk_rows(10_000)
    True
    """
    return int(np.clip(CHUNK_ENTRIES // max(n_features, 1), 64, 8192))


def chunks(n_rows: int, size: int) -> Iterator[slice]:
    """Consecutive slices of `size` rows that cover `n_rows` rows.

    Parameters
    ----------
    n_rows, size : int
        Rows in all, and rows of a slice; the last one may be shorter.

    Yields
    ------
    rows : slice
        The next rows.

    Examples
    --------
    >>> from skproto.training import chunks
    >>> list(chunks(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def batches_of(n_rows: int, size: int) -> list[slice]:
    """Return slices of `size` rows; a single row left over joins those before it."""
    batches = list(chunks(n_rows, size))
    if size > 1 and len(batches) > 1 and n_rows % size == 1:
        batches[-2:] = [slice(batches[-2].start, n_rows)]
    return batches


class BatchDataset(torch.utils.data.Dataset):
    """A data set that hands out whole batches by index.

    It also serves single samples, so that any torch `DataLoader` given through
    ``net_params={"iterator_train": ...}`` works on it.

    Parameters
    ----------
    data : TrainingData
        Samples, codes and weights.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.training import BatchDataset, TrainingData
    >>> X = np.arange(12, dtype=np.float32).reshape(6, 2)
    >>> y = np.array([0, 0, 0, 1, 1, 1])
    >>> rng = np.random.RandomState(0)
    >>> data = TrainingData(X, y, np.ones(6), np.arange(6), 2, rng)
    >>> len(BatchDataset(data))
    6
    """

    def __init__(self, data: TrainingData):
        in_memory = isinstance(data.X, np.ndarray)
        self.X: Any = torch.from_numpy(data.X) if in_memory else data.X
        self.y = torch.from_numpy(data.y)
        self.weight = torch.from_numpy(data.weight.astype(np.float32))
        self._whole: Batch | None = None

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> Batch:
        x = self._rows(slice(index, index + 1))[0]
        return x, (self.y[index], self.weight[index])

    def _rows(self, index: torch.Tensor | slice) -> torch.Tensor:
        if isinstance(self.X, torch.Tensor):
            return self.X[index]
        rows = self.X[index if isinstance(index, slice) else index.numpy()]
        return torch.from_numpy(rows.toarray() if sp.issparse(rows) else rows)

    def batch(self, index: torch.Tensor | slice) -> Batch:
        """Return samples, codes and weights at `index`."""
        return self._rows(index), (self.y[index], self.weight[index])

    def dense(self, index: np.ndarray | slice) -> np.ndarray:
        """Return samples as a dense float32 array (n_rows, ...)."""
        rows = index if isinstance(index, slice) else torch.as_tensor(index)
        return self._rows(rows).numpy()

    def chunks(self) -> Iterator[slice]:
        """Consecutive slices that cover all rows, few of them where rows are long."""
        return chunks(len(self), chunk_rows(math.prod(self.X.shape[1:])))

    def whole(self) -> Batch:
        """Return all samples as one batch, always the same tensors."""
        if self._whole is None:
            self._whole = self.batch(slice(None))
        return self._whole


class BatchLoader:
    """Iterate over a `BatchDataset` batch by batch.

    Parameters
    ----------
    dataset : BatchDataset
        What to iterate over.

    batch_size : int, default=512
        Rows of a batch; the last one may be smaller. A single row that would be left
        over joins the batch before it: layers that normalise by batch refuse one.

    shuffle : bool, default=False
        Whether to draw a new order for every pass.

    generator : torch.Generator, default=None
        Source of the orders.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.training import BatchDataset, BatchLoader, TrainingData
    >>> X = np.arange(12, dtype=np.float32).reshape(6, 2)
    >>> y = np.array([0, 0, 0, 1, 1, 1])
    >>> rng = np.random.RandomState(0)
    >>> data = TrainingData(X, y, np.ones(6), np.arange(6), 2, rng)
    >>> loader = BatchLoader(BatchDataset(data), batch_size=4)
    >>> [len(x) for x, (target, weight) in loader]
    [4, 2]
    """

    def __init__(self, dataset, batch_size=512, shuffle=False, generator=None):
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.generator = generator

    def __len__(self) -> int:
        return len(batches_of(len(self.dataset), self.batch_size))

    def __iter__(self) -> Iterator[Batch]:
        n_rows = len(self.dataset)
        batches = batches_of(n_rows, self.batch_size)
        if len(batches) < 2:
            yield self.dataset.whole()
            return
        if not self.shuffle:
            for rows in batches:
                yield self.dataset.batch(rows)
            return
        order = torch.randperm(n_rows, generator=self.generator)
        for rows in batches:
            yield self.dataset.batch(order[rows])
