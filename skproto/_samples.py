"""Images or tokens of any storage; torch Datasets are checked as they are read."""

from __future__ import annotations

import numpy as np
import torch


class SampleArray:
    """Images or tokens of any storage behind one face; nothing is read before need.

    Parameters
    ----------
    source : ndarray, memory map or torch Dataset
        Samples in the user's values. A Dataset returns a sample, or a tuple that
        starts with it.

    sample_shape : tuple of int
        (C, H, W) of an image or (T, D) of tokens.

    rows : ndarray of shape (n,), default=None
        Numbers of the samples in `source` that count; all by default.
    """

    def __init__(self, source, sample_shape, rows=None):
        self.source = source
        self.sample_shape = tuple(sample_shape)
        self.rows = rows

    def __len__(self) -> int:
        return len(self.source) if self.rows is None else len(self.rows)

    @property
    def in_memory(self) -> bool:
        """Whether the samples lie in memory: not in a file or a Dataset."""
        is_array = isinstance(self.source, np.ndarray)
        return is_array and not isinstance(self.source, np.memmap)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of samples and shape of each."""
        return (len(self), *self.sample_shape)

    @property
    def ndim(self) -> int:
        """Number of axes, that of the samples included."""
        return 1 + len(self.sample_shape)

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(np.prod(self.shape))

    def select(self, index: np.ndarray) -> SampleArray:
        """Return the samples at `index` without reading them."""
        rows = np.asarray(index) if self.rows is None else self.rows[index]
        return SampleArray(self.source, self.sample_shape, rows)

    def __getitem__(self, index) -> np.ndarray:
        """Read samples (m, *sample_shape) in the user's values."""
        if self.rows is not None:
            index = self.rows[index]
        if isinstance(self.source, np.ndarray):
            # One order in memory: sums round alike whatever order the user's has.
            found = np.ascontiguousarray(self.source[index])
        else:
            found = self._from_dataset(index)
        return found.reshape(len(found), *self.sample_shape)

    def _from_dataset(self, index) -> np.ndarray:
        if isinstance(index, slice):
            index = range(*index.indices(len(self.source)))
        index = np.atleast_1d(np.asarray(index, dtype=np.int64))
        if not len(index):
            return np.empty((0, *self.sample_shape))
        return np.stack([dataset_sample(self.source, int(i)) for i in index])


def dataset_sample(dataset, i: int) -> np.ndarray:
    """Return sample `i` of a torch Dataset as an array."""
    item = dataset[i]
    sample = item[0] if isinstance(item, tuple | list) and len(item) else item
    if isinstance(sample, torch.Tensor):
        return np.asarray(sample.detach().cpu().numpy())
    return np.asarray(sample)


def check_dataset(dataset) -> None:
    """Raise unless a torch Dataset knows its length and returns samples by number."""
    try:
        n_samples = len(dataset)
    except TypeError:
        n_samples = None
    if n_samples is None or isinstance(dataset, torch.utils.data.IterableDataset):
        raise TypeError(
            "A torch Dataset given as X must know its length and return samples by "
            f"number. Got {type(dataset).__name__}."
        )
    if not n_samples:
        raise ValueError("Found a Dataset with 0 sample(s) while 1 is required.")


class CheckedDataset:
    """A Dataset whose samples must all be finite images of one size."""

    def __init__(self, dataset, shape):
        self.dataset = dataset
        self.shape = shape

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i):
        sample = dataset_sample(self.dataset, i)
        if sample.shape != self.shape:
            raise ValueError(
                f"X must hold images of one size. Sample {i} of the Dataset has shape "
                f"{sample.shape}, the first one {self.shape}."
            )
        if sample.dtype.kind == "f" and not np.isfinite(sample).all():
            raise ValueError(f"Input X contains NaN or infinity in sample {i}.")
        return sample


def validate_dataset(dataset, image_shape=None) -> tuple[CheckedDataset, tuple]:
    """Return a Dataset of images that checks what it reads, and their shape.

    Parameters
    ----------
    dataset : torch Dataset
        Returns images (C, H, W) or (H, W), or tuples that start with one.

    image_shape : tuple of int, default=None
        (C, H, W) or (H, W) that images must have, or of flattened ones.
    """
    check_dataset(dataset)
    first = dataset_sample(dataset, 0)
    shape = first.shape
    if len(shape) == 1 and image_shape is not None:
        shape = tuple(image_shape)
    if len(shape) not in (2, 3) or first.dtype.kind not in "buif":
        raise ValueError(
            "The samples of a Dataset must be images of shape (C, H, W) or (H, W). Got "
            f"shape {first.shape} and dtype {first.dtype}."
        )
    if image_shape is not None and (
        first.size != np.prod(image_shape) or shape[-2:] != tuple(image_shape)[-2:]
    ):
        raise ValueError(
            f"X must hold images of image_shape={tuple(image_shape)}. Got a Dataset of "
            f"samples of shape {first.shape}."
        )
    checked = CheckedDataset(dataset, first.shape)
    if not np.array_equal(checked[0], checked[0]):
        raise ValueError(
            "A torch Dataset given as X must return the same sample whenever it is "
            f"asked. {type(dataset).__name__} changed its first one: random changes "
            "are for the 'augment' parameter, which leaves the images that prototypes "
            "come from as they are."
        )
    return checked, shape


def dataset_labels(dataset) -> np.ndarray:
    """Return the labels that a torch Dataset carries beside its samples."""
    check_dataset(dataset)
    if hasattr(dataset, "targets"):
        return np.asarray(dataset.targets)
    first = dataset[0]
    if not (isinstance(first, tuple | list) and len(first) > 1):
        raise ValueError(
            "y is None and the Dataset given as X returns no labels beside its samples."
        )
    return np.asarray([np.asarray(dataset[i][1]).item() for i in range(len(dataset))])
