"""From what a user passes to `fit` to the training data of the model."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    assert_all_finite,
    check_consistent_length,
    column_or_1d,
    validate_data,
)

from skproto import _images as images
from skproto.training import chunks, select_rows
from skproto.utils._sklearn import check_sample_weight

# Largest magnitude of a scaled value: its square and a sum of many such squares still
# fit into float32.
MAX_SCALED = 1e15

# Ratio of largest magnitudes up to which sparse features share one scale.
MAX_PEAK_RATIO = 1e3

# Weights whose sums and ratios fit into float32.
MIN_WEIGHT, MAX_WEIGHT, MAX_SPREAD = 1e-100, 1e100, 1e30

# Half of a larger scale is used, with half of everything else, so that the difference
# of two values of opposite sign does not overflow.
HUGE_SCALE = 1e300


def validate_samples(estimator, X, y, sample_weight):
    """Validate what a user passes to `fit` and drop samples without weight.

    Parameters
    ----------
    estimator : estimator
        Takes the number and the names of the features.

    X, y, sample_weight : object
        As passed to `fit`.

    Returns
    -------
    X : ndarray or CSR array of shape (n, n_features)
        Samples of positive weight.

    y : ndarray of shape (n,)
        Their labels.

    weight : ndarray of shape (n,)
        Their weights, 1 where none are given.

    rows : ndarray of shape (n,)
        Their row numbers in what was passed.
    """
    X, y = _validate_pair(estimator, X, y)
    check_classification_targets(y)
    y = column_or_1d(y)
    weight = check_sample_weight(
        sample_weight, np.empty((len(y), 1)), dtype=np.float64, ensure_non_negative=True
    )
    rows = np.flatnonzero(weight > 0)
    if len(rows) < len(weight):
        X, y, weight = select_rows(X, rows), y[rows], weight[rows]
    check_spread(weight, "sample_weight")
    return X, y, weight, rows


def _validate_pair(estimator, X, y):
    """Return X as a table, a CSR array or a `SampleArray`, and y."""
    kind = images.input_kind(X, *estimator._input_settings)
    if kind == "table":
        X, y = validate_data(
            estimator, X, y, accept_sparse="csr", dtype=[np.float64, np.float32]
        )
        estimator._input_shape = X.shape[1:]
        return (sp.csr_array(X) if sp.issparse(X) else X), y
    if y is None and kind == "image" and hasattr(X, "__getitem__"):
        y = images.dataset_labels(X) if not isinstance(X, np.ndarray) else None
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is "
            "None."
        )
    names, X = X, validate_samples_of(estimator, X, kind)
    y = column_or_1d(y, warn=True)
    check_consistent_length(X, y)
    assert_all_finite(y, input_name="y")
    estimator._input_shape = X.sample_shape
    estimator.n_features_in_ = int(np.prod(X.sample_shape))
    check_columns(estimator, names, reset=True)
    if kind == "image":
        images.tell_channels(X.sample_shape)
    return X, y


def check_columns(estimator, X, *, reset: bool) -> None:
    """Note the names of the columns of flattened images, or compare with those."""
    if len(getattr(X, "shape", ())) == 2:
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    elif reset and hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_


def kind_of(X) -> str:
    """Tell what validated samples are: "table", "image" or "tokens"."""
    return images.KINDS[len(X.shape) - 1]


def validate_samples_of(estimator, X, kind: str) -> images.SampleArray:
    """Return images or tokens as the estimator takes them."""
    if kind == "image":
        return images.validate_images(X, estimator._input_settings[0])
    return images.validate_tokens(X, estimator._allows_missing_tokens)


def validate_again(estimator, X, shape: tuple[int, ...]) -> images.SampleArray:
    """Return samples to predict, which must be of the shape of those fitted."""
    kind = "image" if len(shape) == 3 else "tokens"
    passed, X = X, validate_samples_of(estimator, X, kind)
    check_columns(estimator, passed, reset=False)
    if X.sample_shape != shape:
        raise ValueError(
            f"X must have samples of shape {shape}, as in fit. Got {X.sample_shape}; "
            f"{type(estimator).__name__} is expecting {np.prod(shape)} features as "
            "input."
        )
    return X


def check_spread(weight: np.ndarray, name: str) -> None:
    """Raise for positive weights that float32 cannot add up."""
    if not len(weight):
        raise ValueError(f"{name} must be positive for at least one sample.")
    low, high = weight.min(), weight.max()
    if not (low >= MIN_WEIGHT and high <= MAX_WEIGHT and high <= MAX_SPREAD * low):
        raise ValueError(
            f"{name} must lie between {MIN_WEIGHT:.0e} and {MAX_WEIGHT:.0e} where it "
            f"is not 0, its largest value at most {MAX_SPREAD:.0e} times the smallest. "
            f"Got values from {low:.3g} to {high:.3g}."
        )


@dataclass(frozen=True)
class Scaling:
    """Affine map from the user's units to the scaled space of the model.

    Parameters
    ----------
    center, scale : ndarray of shape (n_features,)
        A value v becomes ``(v - center) / scale``.

    held : ndarray of bool of shape (n_features,), default=None
        Features that are held at their centre: whatever their value, they become 0.
    """

    center: np.ndarray
    scale: np.ndarray
    held: np.ndarray | None = None

    def apply(self, X) -> np.ndarray:
        """Scale rows and return them dense, in float32."""
        X, center, scale = self._operands(X)
        # torch shares the work between threads; it takes only plain, writable memory.
        rows = torch.from_numpy(np.require(X, requirements=["C", "W"]))
        shifted = rows - torch.from_numpy(center)
        return self._hold(shifted.div_(torch.from_numpy(scale)).float().numpy())

    def apply_double(self, X) -> np.ndarray:
        """Scale rows and return them dense, in float64."""
        X, center, scale = self._operands(X)
        with np.errstate(over="ignore", invalid="ignore"):
            return self._hold((X - center) / scale)

    def _hold(self, scaled: np.ndarray) -> np.ndarray:
        """Put 0 where features are held."""
        if self.held is not None:
            scaled[:, self.held] = 0.0
        return scaled

    def _operands(self, X) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if sp.issparse(X):
            X = X.toarray()
        if self.scale.max() < HUGE_SCALE:
            return X, self.center, self.scale
        return X * 0.5, self.center * 0.5, self.scale * 0.5

    def invert(self, Z: np.ndarray) -> np.ndarray:
        """Return scaled points in the user's units, float64."""
        return np.asarray(Z, dtype=np.float64) * self.scale + self.center

    def apply_sparse(self, X: sp.csr_array) -> sp.csr_array:
        """Scale a CSR array without filling it; the centre is 0."""
        scaled = X.astype(np.float64)
        scaled.data /= self.scale[scaled.indices]
        scaled = scaled.astype(np.float32)
        if self.held is not None:
            scaled.data[self.held[scaled.indices]] = 0.0
        scaled.sum_duplicates()
        scaled.eliminate_zeros()
        return scaled


def fit_scaling(X, weight: np.ndarray, standardize: bool) -> Scaling:
    """Weighted mean and standard deviation of every feature.

    Features that do not vary get scale 1. Sparse features keep their zeros, see
    :func:`sparse_scale`.
    """
    n_features = X.shape[1]
    center, scale = np.zeros(n_features), np.ones(n_features)
    if not standardize:
        return Scaling(center, scale)
    if sp.issparse(X):
        return Scaling(center, sparse_scale(X))
    # Dividing by the peak first keeps squares of 1e300 finite.
    peak = np.abs(X).max(axis=0).astype(np.float64)
    peak = np.where(peak > 0, peak, 1.0)
    share = weight / weight.sum()
    mean, square = np.zeros(n_features), np.zeros(n_features)
    for rows in chunks(len(X), 65_536):
        mean += share[rows] @ (X[rows] / peak)
    for rows in chunks(len(X), 65_536):
        square += share[rows] @ (X[rows] / peak - mean) ** 2
    spread = np.sqrt(square)
    varies = spread > 10 * np.finfo(np.float64).eps * np.abs(mean)
    # A subnormal peak times a spread may vanish.
    scale = np.where(varies, spread * peak, 1.0)
    return Scaling(mean * peak, np.where(scale > 0, scale, 1.0))


def sparse_scale(X) -> np.ndarray:
    """Scale of sparse features: their largest magnitude, one for all if they are near.

    Largest magnitudes within a factor of 1,000 are one scale: the words of texts keep
    the weights that they came with. Otherwise each feature has its own.
    """
    peak = np.asarray(abs(X).max(axis=0).todense(), dtype=np.float64).ravel()
    present = peak > 0
    if not present.any():
        return np.ones_like(peak)
    if peak.max() <= MAX_PEAK_RATIO * peak[present].min():
        return np.full_like(peak, np.median(peak[present]))
    return np.where(present, peak, 1.0)


def total_weight(y, codes, classes, sample_weight, class_weight) -> np.ndarray:
    """Return sample weight times class weight of every sample."""
    if class_weight is None:
        return sample_weight
    with warnings.catch_warnings():
        # Classes without weight are dropped by the caller, who says so.
        warnings.simplefilter("ignore", RuntimeWarning)
        factors = compute_class_weight(
            class_weight, classes=classes, y=y, sample_weight=sample_weight
        )
    weight = sample_weight * factors[codes]
    if (factors > 0).all():
        check_spread(weight, "sample_weight times class_weight")
    return weight


def training_data(
    X, y: np.ndarray, weight: np.ndarray, scaling: Scaling | images.ChannelScaling
) -> dict[str, Any]:
    """Scale samples and merge those that agree: X, y, weight and rows to train on.

    Samples of one class whose scaled features are the same bits become one, with the
    sum of their weights, so that a weight of 2 and two copies are the same training
    data. The order that comes out does not depend on the order of the rows. Images and
    tokens stay as they are and where they are.
    """
    scaled = scaled_samples(X, scaling)
    if isinstance(scaling, images.ChannelScaling):
        return {
            "X": scaled,
            "y": y,
            "weight": weight / weight.mean(),
            "rows": np.arange(len(y)),
        }
    rows, weight = merge_duplicates(scaled, y, weight)
    return {
        "X": scaled[rows],
        "y": y[rows],
        "weight": weight / weight.mean(),
        "rows": rows,
    }


def scaled_samples(X, scaling: Scaling | images.ChannelScaling):
    """Return samples in the space of the model, in their order; images as read."""
    if isinstance(scaling, images.ChannelScaling):
        return images.ScaledSamples(X, scaling)
    return _scale_all(X, scaling)


def _scale_all(X, scaling: Scaling):
    """Return all of X in the space of the model, float32, CSR if X is."""
    if sp.issparse(X):
        scaled = scaling.apply_sparse(X)
        largest = np.abs(scaled.data).max(initial=0.0)
    else:
        scaled = np.empty(X.shape, dtype=np.float32)
        for part in chunks(len(X), 65_536):
            scaled[part] = scaling.apply(X[part])
        largest = max(scaled.max(), -scaled.min())
    if not largest <= MAX_SCALED:
        raise ValueError(
            f"X has values too large for float32: {largest:.3g} in the space of the "
            f"model, at most {MAX_SCALED:.0e} is allowed. Use standardize=True."
        )
    return scaled


def merge_duplicates(X, y: np.ndarray, weight: np.ndarray):
    """Merge samples that agree in features and class, adding up their weights.

    Parameters
    ----------
    X : ndarray or CSR array of shape (n, f), float32
        Samples. Dense and sparse come out in the same order.

    y : ndarray of shape (n,)
        Class codes.

    weight : ndarray of shape (n,)
        Sample weights.

    Returns
    -------
    first : ndarray of shape (m,)
        Row number of the first sample of each group, ordered by class and then by a
        hash of the features.

    merged : ndarray of shape (m,)
        Sum of the weights of each group.
    """
    hashes = _row_hashes(X)
    order = np.lexsort((hashes, y))
    same = (np.diff(y[order]) == 0) & (np.diff(hashes[order]) == 0)
    # Different rows may, once in a long while, have the same hash.
    pairs = np.flatnonzero(same)
    for part in chunks(len(pairs), 65_536):
        left, right = order[pairs[part]], order[pairs[part] + 1]
        same[pairs[part]] = _equal_rows(X[left], X[right])
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    return order[starts], np.add.reduceat(weight[order], starts)


def _equal_rows(left, right) -> np.ndarray:
    if sp.issparse(left):
        return np.diff((left - right).tocsr().indptr) == 0
    return (left == right).all(axis=1)


def _row_hashes(X) -> np.ndarray:
    """Return a 64-bit hash of every row; zeros do not count, so CSR gives the same."""
    keys = _scramble(np.arange(1, X.shape[1] + 1, dtype=np.uint64))
    if sp.issparse(X):
        total = np.cumsum(_entry_hashes(X.data, keys[X.indices]), dtype=np.uint64)
        total = np.concatenate([np.zeros(1, np.uint64), total])
        return total[X.indptr[1:]] - total[X.indptr[:-1]]
    hashes = np.empty(len(X), dtype=np.uint64)
    for rows in chunks(len(X), 8192):
        hashes[rows] = _entry_hashes(X[rows], keys).sum(axis=1, dtype=np.uint64)
    return hashes


def _entry_hashes(values: np.ndarray, keys: np.ndarray) -> np.ndarray:
    bits = (values + np.float32(0.0)).view(np.uint32).astype(np.uint64)
    return np.where(bits == 0, np.uint64(0), _scramble(bits ^ keys))


def _scramble(words: np.ndarray) -> np.ndarray:
    """Mix the bits of 64-bit words (the finaliser of SplitMix64)."""
    words = words * np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def check_reach(X, scaling: Scaling | images.ChannelScaling, estimator: str) -> None:
    """Raise for samples that float32 cannot place in the space of the model."""
    for rows in chunks(X.shape[0], 65_536):
        scaled = np.abs(scaling.apply_double(X[rows]))
        too_far = ~(scaled <= MAX_SCALED)
        if too_far.any():
            row, *place = np.argwhere(too_far)[0].tolist()
            feature = place[0] if len(place) == 1 else tuple(place)
            raise ValueError(
                f"X has a value too far from the training data of {estimator}: feature "
                f"{feature} of row {rows.start + row} lies {scaled[row, *place]:.3g} "
                f"standard deviations off, at most {MAX_SCALED:.0e} is allowed."
            )
