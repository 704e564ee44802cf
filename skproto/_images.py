"""Images and tokens as samples: validation and scaling."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from skproto._samples import (
    SampleArray,
    check_dataset,
    dataset_labels,
    validate_dataset,
)
from skproto.nn._embedding import channels_hint
from skproto.training import chunk_rows, chunks

__all__ = [
    "KINDS",
    "ChannelScaling",
    "SampleArray",
    "ScaledSamples",
    "check_dataset",
    "dataset_labels",
    "fit_channel_scaling",
    "input_kind",
    "tell_channels",
    "validate_images",
    "validate_tokens",
]

# Largest magnitude of a pixel or a number of a token: its square and a sum of many such
# squares still fit into float32.
MAX_VALUE = 1e15

# By how much pixels may leave the range from 0 to 1 that an encoder expects.
OVERSHOOT = 0.05

KINDS = {1: "table", 2: "tokens", 3: "image"}


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
    def in_memory(self) -> bool:
        """Whether the samples lie in memory."""
        return self.samples.in_memory

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
    if isinstance(X, torch.utils.data.DataLoader):
        raise TypeError(
            "X must be an array or a torch Dataset. Got a DataLoader: pass its "
            "dataset; the 'batch_size' parameter makes the batches."
        )
    if isinstance(encoder, str) and encoder == "tokens":
        return "tokens"
    if image_shape is not None or isinstance(X, torch.utils.data.Dataset):
        return "image"
    try:
        ndim = X.ndim if hasattr(X, "ndim") else np.ndim(X)
        if ndim == 1 and isinstance(X, np.ndarray) and X.dtype.kind == "O":
            ndim = 1 + max((np.ndim(sample) for sample in X), default=0)
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
        dataset, shape = validate_dataset(X, image_shape)
        return SampleArray(dataset, _full_shape(shape))
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
    if isinstance(X, torch.utils.data.Dataset):
        raise TypeError(
            "encoder='tokens' needs X as an array or a memory map of shape (n_samples, "
            f"n_tokens, n_dimensions). Got a Dataset, {type(X).__name__}."
        )
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
    if sp.issparse(X):
        raise TypeError("Sparse X cannot hold images or tokens. Use X.toarray().")
    if hasattr(X, "iloc") or hasattr(X, "to_numpy"):
        X = X.to_numpy()
    if isinstance(X, np.ndarray) and X.ndim == 1 and X.dtype == object:
        X = list(X)
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


def tell_channels(sample_shape: tuple[int, ...]) -> None:
    """Warn of images that seem to have their channels last."""
    hint = channels_hint(sample_shape)
    if hint:
        channels, height, width = sample_shape
        warnings.warn(
            f"X is read as images of {channels} channels, {height} rows and {width} "
            f"columns.{hint}",
            UserWarning,
            stacklevel=2,
        )


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
        Mean and standard deviation of the channels that a pretrained encoder expects,
        on values from 0 to 1 unless a mean is above 1; take the place of those of the
        data.
    """
    axis = 1 if len(X.sample_shape) == 3 else 2
    n_channels = X.sample_shape[0] if axis == 1 else X.sample_shape[1]
    peak = 255.0 if X[:1].dtype == np.uint8 else 1.0
    center, scale = np.zeros(n_channels), np.full(n_channels, peak)
    if normalization is not None:
        center, scale = (
            peak * part for part in _expected_moments(normalization, n_channels)
        )
        low, high = _extent(X)
        own_units = center.max() > peak
        beyond = low < -OVERSHOOT * peak or high > (1.0 + OVERSHOOT) * peak
        if beyond and not own_units:
            warnings.warn(
                "The encoder expects pixels from 0 to 1, or bytes, by its "
                f"'normalization'. X has values from {low:.3g} to {high:.3g}: scale "
                "X, or set the encoder's 'normalization' to None.",
                UserWarning,
                stacklevel=2,
            )
    elif standardize:
        center, scale = _moments(X, weight, axis, n_channels)
    else:
        _extent(X)
    return ChannelScaling(np.array(center), np.array(scale), axis)


def _expected_moments(normalization, n_channels: int) -> list[np.ndarray]:
    """Return mean and standard deviation by channel that an encoder expects."""
    parts = [np.atleast_1d(np.asarray(part, dtype=float)) for part in normalization]
    n_expected = max(part.size for part in parts)
    # An encoder of colour repeats the one channel of grey images.
    if n_channels == 1:
        return [part.mean(keepdims=True) for part in parts]
    if n_expected not in (1, n_channels):
        raise ValueError(
            f"The encoder expects images of {n_expected} channels, by its "
            f"'normalization'. Got {n_channels} channels."
        )
    return [np.broadcast_to(part, n_channels) for part in parts]


def _extent(X: SampleArray) -> tuple[float, float]:
    """Return the least and the largest value; raise if float32 cannot hold them.

    Samples of a Dataset, which are checked as they are read, are all read.
    """
    if isinstance(X.source, np.ndarray) and X.source.dtype in (np.uint8, np.bool_):
        return 0.0, 255.0 if X.source.dtype == np.uint8 else 1.0
    low, high = np.inf, -np.inf
    for rows in chunks(len(X), chunk_rows(int(np.prod(X.sample_shape)))):
        values = X[rows]
        low, high = np.fmin(low, np.nanmin(values)), np.fmax(high, np.nanmax(values))
    _check_magnitude(max(-low, high))
    return float(low), float(high)


def _check_magnitude(largest: float) -> None:
    if not largest <= MAX_VALUE:
        found = f"up to {largest:.3g}" if np.isfinite(largest) else "beyond its range"
        raise ValueError(
            f"X has values too large for float32, {found}; at most {MAX_VALUE:.0e} is "
            "allowed. Divide X by a constant."
        )


def _moments(X: SampleArray, weight, axis: int, n_channels: int):
    """Weighted mean and standard deviation by channel; 1 where there is no spread."""
    share = weight / weight.sum()
    over = (2, 3) if axis == 1 else (1,)
    shift = X[:1].astype(np.float64)
    shift = np.nanmean(shift, axis=(0, *over))
    _check_magnitude(float(np.abs(shift).max()))
    column = shift.reshape((-1, 1, 1) if axis == 1 else (-1,)).astype(np.float32)
    first, second = np.zeros(n_channels), np.zeros(n_channels)
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in chunks(len(X), chunk_rows(int(np.prod(X.sample_shape)))):
            values = X[rows].astype(np.float32) - column
            # A padded token is NaN and does not count.
            first += share[rows] @ np.nanmean(values, axis=over, dtype=np.float64)
            np.square(values, out=values)
            second += share[rows] @ np.nanmean(values, axis=over, dtype=np.float64)
        spread = np.sqrt(np.maximum(second - first**2, 0.0))
        center = shift + first
    _check_magnitude(float(np.max([np.abs(center), spread])))
    floor = 1e-6 * np.maximum(np.abs(center), np.finfo(np.float32).tiny)
    return center, np.where(spread > floor, spread, 1.0)
