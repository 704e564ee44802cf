"""Images and tokens as samples: validation and scaling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from skproto.training import chunk_rows, chunks

KINDS = {1: "table", 2: "tokens", 3: "image"}


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
    return np.asarray(item[0] if isinstance(item, tuple | list) else item)


@dataclass(frozen=True)
class ChannelScaling:
    """Affine map of images by channel, or of tokens by dimension.

    Parameters
    ----------
    center, scale : ndarray of shape (n_channels,)
        A value v becomes ``(v - center) / scale``.

    axis : int
        Axis of the channels: 1 for images (n, C, H, W), 2 for tokens (n, T, D).

    held : ndarray of bool of shape (H, W), default=None
        Pixels of images that are held at the centre: whatever they are, they become 0.
    """

    center: np.ndarray
    scale: np.ndarray
    axis: int
    held: np.ndarray | None = None

    def _operands(self) -> tuple[np.ndarray, np.ndarray]:
        shape = (-1, 1, 1) if self.axis == 1 else (-1,)
        factor = (1.0 / self.scale).astype(np.float32).reshape(shape)
        shift = (self.center / self.scale).astype(np.float32).reshape(shape)
        return factor, shift

    def apply(self, X) -> NDArray[np.float32]:
        """Scale samples and return them in float32."""
        factor, shift = self._operands()
        scaled = X * factor if X.dtype == np.float32 else X.astype(np.float32) * factor
        scaled = np.asarray(scaled, dtype=np.float32)
        scaled -= shift
        if self.held is not None:
            scaled[..., self.held] = 0.0
        return scaled

    def apply_double(self, X) -> NDArray[np.float64]:
        """Scale samples and return them in float64."""
        shape = (-1, 1, 1) if self.axis == 1 else (-1,)
        centered = np.asarray(X, dtype=np.float64) - self.center.reshape(shape)
        if self.held is not None:
            centered[..., self.held] = 0.0
        return np.asarray(centered / self.scale.reshape(shape))

    def invert(self, Z: np.ndarray) -> NDArray[np.float64]:
        """Return scaled samples in the user's values, float64."""
        shape = (-1, 1, 1) if self.axis == 1 else (-1,)
        Z = np.asarray(Z, dtype=np.float64)
        return np.asarray(Z * self.scale.reshape(shape) + self.center.reshape(shape))


class ScaledSamples:
    """Samples of a `SampleArray` in the space of the model, scaled when asked for."""

    def __init__(self, samples: SampleArray, scaling: ChannelScaling):
        self.samples = samples
        self.scaling = scaling

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of samples and shape of each."""
        return self.samples.shape

    def select(self, index: np.ndarray) -> ScaledSamples:
        """Return the samples at `index` without reading them."""
        return ScaledSamples(self.samples.select(index), self.scaling)

    def __getitem__(self, index) -> NDArray[np.float32]:
        return self.scaling.apply(self.samples[index])


# -- validation ------------------------------------------------------------------------


def input_kind(X, image_shape, encoder) -> str:
    """Tell what `X` holds: "table", "image" or "tokens"."""
    if isinstance(X, SampleArray):
        return KINDS[len(X.sample_shape)]
    if isinstance(encoder, str) and encoder == "tokens":
        return "tokens"
    if image_shape is not None or isinstance(X, torch.utils.data.Dataset):
        return "image"
    try:
        ndim = X.ndim if hasattr(X, "ndim") else np.ndim(X)
    except TypeError:
        return "table"
    except ValueError:
        # Rows of different lengths are a table, arrays of different shapes images.
        ndim = 1 + max((np.ndim(sample) for sample in X), default=1)
    return "image" if ndim > 2 else "table"


def validate_images(X, image_shape=None) -> SampleArray:
    """Return images of any storage; see :class:`SampleArray`.

    Parameters
    ----------
    X : object
        As passed to `fit` or `predict`.

    image_shape : tuple of int, default=None
        (C, H, W) or (H, W) of flattened images.

    Raises
    ------
    ValueError, TypeError
        If these are not images, not all of one size or not finite.
    """
    if isinstance(X, SampleArray):
        return X
    if isinstance(X, torch.utils.data.Dataset):
        return _validate_dataset(X)
    X = _as_array(X)
    if X.ndim == 2 and image_shape is not None:
        shape = _full_shape(image_shape)
        if X.shape[1] != np.prod(shape):
            raise ValueError(
                f"X must have {np.prod(shape)} features, one for each value of an "
                f"image of image_shape={tuple(image_shape)}. Got {X.shape[1]}."
            )
    elif X.ndim in (3, 4):
        shape = _full_shape(X.shape[1:])
        if image_shape is not None and shape != _full_shape(image_shape):
            raise ValueError(
                f"X must hold images of image_shape={tuple(image_shape)}. Got shape "
                f"{X.shape}."
            )
    else:
        raise ValueError(
            "X must hold images of shape (n, C, H, W) or (n, H, W), or flattened ones "
            f"together with the 'image_shape' parameter. Got shape {X.shape}."
        )
    _check_values(X)
    return SampleArray(X, shape)


def validate_tokens(X, allow_missing=False) -> SampleArray:
    """Return tokens (n, T, D); see :class:`SampleArray`."""
    if isinstance(X, SampleArray):
        return X
    X = _as_array(X)
    if X.ndim != 3:
        raise ValueError(
            "encoder='tokens' needs X of shape (n_samples, n_tokens, n_dimensions). "
            f"Got shape {X.shape}."
        )
    _check_values(X, allow_missing)
    return SampleArray(X, X.shape[1:])


def _as_array(X) -> np.ndarray:
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu().numpy()
    if hasattr(X, "iloc") or hasattr(X, "to_numpy"):
        X = X.to_numpy()
    try:
        X = X if isinstance(X, np.ndarray) else np.asarray(X)
    except ValueError as error:
        raise ValueError(f"X must hold images of one size. {error}") from error
    if X.dtype == object:
        raise ValueError(
            "X must hold numbers in one array, all images of one size. Got an array "
            "of objects."
        )
    if X.dtype.kind not in "buif":
        raise ValueError(f"X must hold real numbers. Got dtype {X.dtype}.")
    if not len(X):
        raise ValueError(
            f"Found array with 0 sample(s) (shape={X.shape}) while a minimum of 1 is "
            "required."
        )
    if 0 in X.shape:
        raise ValueError(f"X must have no empty axis. Got shape {X.shape}.")
    return X


def _full_shape(shape) -> tuple[int, ...]:
    shape = tuple(int(size) for size in shape)
    return (1, *shape) if len(shape) == 2 else shape


def _check_values(X: np.ndarray, allow_missing=False) -> None:
    if X.dtype.kind != "f":
        return
    for rows in chunks(len(X), chunk_rows(int(np.prod(X.shape[1:])))):
        values = X[rows]
        if allow_missing:
            values = values[~np.isnan(values).all(axis=-1)]
        if not np.isfinite(values).all():
            raise ValueError("Input X contains NaN or infinity.")


def _check_length(dataset) -> None:
    """Raise unless a torch Dataset knows its length and has a sample."""
    try:
        n_samples = len(dataset)
    except TypeError as error:
        raise TypeError(
            "A torch Dataset given as X must know its length and return samples by "
            f"number. Got {type(dataset).__name__}."
        ) from error
    if not n_samples:
        raise ValueError("Found a Dataset with 0 sample(s) while 1 is required.")


def _validate_dataset(X) -> SampleArray:
    _check_length(X)
    first = dataset_sample(X, 0)
    if first.ndim not in (2, 3) or first.dtype.kind not in "buif":
        raise ValueError(
            "The samples of a Dataset must be images of shape (C, H, W) or (H, W). Got "
            f"shape {first.shape} and dtype {first.dtype}."
        )
    return SampleArray(_CheckedDataset(X, first.shape), _full_shape(first.shape))


class _CheckedDataset:
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


def dataset_labels(dataset) -> np.ndarray:
    """Return the labels that a torch Dataset carries beside its samples."""
    if hasattr(dataset, "targets"):
        return np.asarray(dataset.targets)
    _check_length(dataset)
    first = dataset[0]
    if not (isinstance(first, tuple | list) and len(first) > 1):
        raise ValueError(
            "y is None and the Dataset given as X returns no labels beside its samples."
        )
    return np.asarray([np.asarray(dataset[i][1]).item() for i in range(len(dataset))])


# -- scaling ---------------------------------------------------------------------------


def fit_channel_scaling(X: SampleArray, weight, standardize, normalization=None):
    """Weighted mean and standard deviation of every channel.

    Parameters
    ----------
    X : SampleArray
        Images or tokens.

    weight : ndarray of shape (n,)
        Sample weights.

    standardize : bool
        Without it values are divided by 255 if they are bytes and else left alone.

    normalization : tuple of two sequences, default=None
        Mean and standard deviation of the channels on values from 0 to 1 that a
        pretrained encoder expects; takes the place of those of the data.
    """
    axis = 1 if len(X.sample_shape) == 3 else 2
    n_channels = X.sample_shape[0] if axis == 1 else X.sample_shape[1]
    peak = 255.0 if X[:1].dtype == np.uint8 else 1.0
    center, scale = np.zeros(n_channels), np.full(n_channels, peak)
    if normalization is not None:
        # An encoder of colour repeats the one channel of grey images.
        center, scale = (
            np.broadcast_to(
                np.mean(part) if n_channels == 1 else np.asarray(part, dtype=float),
                n_channels,
            )
            * peak
            for part in normalization
        )
    elif standardize:
        center, scale = _moments(X, weight, axis, n_channels)
    return ChannelScaling(np.array(center), np.array(scale), axis)


def _moments(X: SampleArray, weight, axis: int, n_channels: int):
    """Weighted mean and standard deviation by channel; 1 where there is no spread."""
    share = weight / weight.sum()
    over = (2, 3) if axis == 1 else (1,)
    shift = X[:1].astype(np.float64)
    shift = np.nanmean(shift, axis=(0, *over))
    column = shift.reshape((-1, 1, 1) if axis == 1 else (-1,)).astype(np.float32)
    first, second = np.zeros(n_channels), np.zeros(n_channels)
    for rows in chunks(len(X), chunk_rows(int(np.prod(X.sample_shape)))):
        values = X[rows].astype(np.float32) - column
        # A padded token is NaN and does not count.
        first += share[rows] @ np.nanmean(values, axis=over, dtype=np.float64)
        np.square(values, out=values)
        second += share[rows] @ np.nanmean(values, axis=over, dtype=np.float64)
    spread = np.sqrt(np.maximum(second - first**2, 0.0))
    center = shift + first
    floor = 1e-6 * np.maximum(np.abs(center), np.finfo(np.float32).tiny)
    return center, np.where(spread > floor, spread, 1.0)


# -- what is kept of a source ----------------------------------------------------------
