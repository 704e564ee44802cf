"""Bad images get a clear error before training starts, from every estimator.

What is refused says the parameter or X, what was given and what is allowed, and leaves
the estimator as it was: unfitted, or fitted as before.
"""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from skproto.networks import PrototypeAutoencoder
from skproto.trees import ProtoTreeClassifier
from skproto.utils import all_estimators

ESTIMATORS = [pytest.param(cls, id=name) for name, cls in all_estimators()]
N = 24
rng = np.random.RandomState(0)
y = np.arange(N) % 3
X = rng.rand(N, 1, 8, 8).astype(np.float32) / 2
X[y == 1, :, :4] += 0.5
X[y == 2, :, 4:] += 0.5


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*distinct samples than prototypes:UserWarning"),
    pytest.mark.filterwarnings("ignore:X holds images with values from:UserWarning"),
]


@pytest.fixture(scope="module", params=ESTIMATORS)
def cls(request):
    return request.param


def make(cls, **parameters):
    """Return an estimator that trains for one epoch."""
    if "estimator" in cls._get_param_names():
        tree = ProtoTreeClassifier(max_epochs=1, depth=1, random_state=0, **parameters)
        return cls(tree, n_estimators=2, random_state=0)
    return cls(max_epochs=1, random_state=0, **parameters)


class Pairs(torch.utils.data.Dataset):
    def __init__(self, samples, labels=y):
        self.samples, self.labels = samples, labels

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i], self.labels[i]


class Stream(torch.utils.data.IterableDataset):
    """A Dataset of unknown length."""

    def __iter__(self):
        yield X[0], 0


class CountedStream(Stream):
    """A stream that knows its length, but has no numbers."""

    def __len__(self):
        return N


class Changing(Pairs):
    """A Dataset that changes images at random."""

    def __getitem__(self, i):
        return self.samples[i] + torch.rand(1).numpy(), self.labels[i]


class Returns(nn.Module):
    """An encoder that returns whatever is asked for."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x):
        return self.output(x)


def without_attribute(x):
    return x.nonsense


def without_key(x):
    return {}["missing"]


def mixed():
    return [image if i != 20 else image[:, :7] for i, image in enumerate(X)]


def with_nan():
    images = [image.copy() for image in X]
    images[20][0, 0, 0] = np.nan
    return images


def with_pixel(value):
    images = X.astype(float)
    images[20, 0, 3, 3] = value
    return images


LAST = np.repeat(X.transpose(0, 2, 3, 1), 3, axis=3)
HINT = r"Channels come before height and width.* X\.transpose\(0, 3, 1, 2\)"
TOO_LARGE = r"X has values too large for float32.* at most 1e\+15 is allowed"
ONE_SIZE = r"X must hold images of one size"
RETURN = r"encoder Returns\(\) must return "
FLAT = X.reshape(N, -1)

# What is passed, parameters, and what the message says.
CASES = {
    "1-D": (X[:, 0, 0, 0], {"encoder": "conv"}, "Expected 2D array, got 1D"),
    "table": (FLAT, {"encoder": "conv"}, r"needs images .* Got samples of shape \(64"),
    "5-D": (X[:, None], {}, r"\(n, C, H, W\) or \(n, H, W\).* Got shape \(24, 1, 1, 8"),
    "channels last": (LAST, {"encoder": nn.Conv2d(3, 4, 3)}, HINT),
    "channels": (X, {"encoder": nn.Conv2d(3, 4, 3)}, r"shape \(2, 1, 8, 8\).* 3 chan"),
    "too small": (X[:, :, :2, :2], {}, r"at least .* Got .*\(1, 2, 2\)"),
    "kernel": (X, {"encoder": nn.Conv2d(1, 4, 9)}, r"Conv2d.* failed .*\(2, 1, 8, 8\)"),
    "patches": (
        np.tile(X, (1, 1, 4, 4))[..., :31, :31],
        {"encoder": "vit"},
        "a side of 31 pixels: set 'patch_size'",
    ),
    "list of mixed sizes": (mixed(), {}, ONE_SIZE),
    "object array of mixed sizes": (
        np.array([*mixed(), None], dtype=object)[:-1],
        {},
        ONE_SIZE,
    ),
    "Dataset of mixed sizes": (
        Pairs(mixed()),
        {"standardize": False},
        r"Sample 20 .* shape \(1, 7, 8\), the first one \(1, 8, 8\)",
    ),
    "NaN in a Dataset": (Pairs(with_nan()), {"standardize": False}, "in sample 20"),
    "NaN": (np.stack(with_nan()), {}, "NaN or infinity"),
    "1e300": (X.astype(float) * 1e300, {}, TOO_LARGE),
    "1e30": (X * 1e30, {}, TOO_LARGE),
    "one pixel of 1e300": (with_pixel(1e300), {}, TOO_LARGE),
    "1e30 as it is": (X * 1e30, {"standardize": False}, TOO_LARGE),
    "encoder to numbers": (
        X,
        {"encoder": Returns(lambda x: x.flatten(1).sum(1))},
        RETURN
        + r"a tensor of shape \(n, D\).* Got \(2,\) for an input of shape \(2, 1",
    ),
    "encoder to 5-D": (X, {"encoder": Returns(lambda x: x[:, None])}, r"Got \(2, 1, 1"),
    "encoder to one of two": (
        X,
        {"encoder": Returns(lambda x: x[:1])},
        RETURN + r"one embedding for each sample. Got \(1, 1, 8, 8\)",
    ),
    "encoder to integers": (
        X,
        {"encoder": Returns(lambda x: x.long())},
        RETURN + r"numbers of type torch.float32 .* Got torch.int64",
    ),
    "encoder to half precision": (
        X,
        {"encoder": Returns(lambda x: x.half())},
        r"Got torch.float16; module.float\(\)",
    ),
    "encoder to no sites": (
        X,
        {"encoder": Returns(lambda x: x.new_zeros(len(x), 0, 4))},
        RETURN + r"at least one site .* Got \(2, 0, 4\)",
    ),
    "encoder to a dict": (X, {"encoder": Returns(lambda x: {"z": x})}, "Got dict for"),
    "encoder to a wrong pair": (
        X,
        {"encoder": Returns(lambda x: (x[:, 0], x.flatten(1)))},
        RETURN + r"a pair of tokens .* Got \(2, 8, 8\) and \(2, 64\)",
    ),
    "encoder with a bug": (X, {"encoder": Returns(without_attribute)}, "'nonsense'"),
    "encoder with another": (X, {"encoder": Returns(without_key)}, "failed.*missing"),
    "function with a bug": (
        X,
        {"encoder": lambda shape: nn.Conv2d(0, -1, 1)},
        r"must take .* the shape of an image.* It raised for \(1, 8, 8\)",
    ),
    "stream": (Stream(), {}, "must know its length .* Got Stream"),
    "counted stream": (CountedStream(), {}, "samples by number. Got CountedStream"),
    "loader": (torch.utils.data.DataLoader(Pairs(X)), {}, "DataLoader: pass its datas"),
    "random Dataset": (Changing(X), {}, r"Changing changed .* 'augment' parameter"),
    "Dataset of vectors": (Pairs(FLAT), {}, r"\(C, H, W\) or \(H, W\). Got shape \(64"),
    "Dataset of another shape": (
        Pairs(X),
        {"image_shape": (4, 16)},
        r"image_shape=\(4, 16\). Got a Dataset of samples of shape \(1, 8, 8\)",
    ),
    "Dataset of tokens": (Pairs(X), {"encoder": "tokens"}, "Got a Dataset, Pairs"),
    "sparse": (sp.csr_array(FLAT), {"image_shape": (8, 8)}, r"Sparse X .*toarray\(\)"),
    "image_shape of others": (FLAT, {"image_shape": (8, 9)}, r"72 features.* Got 64"),
    "image_shape of words": (
        FLAT,
        {"image_shape": "8x8"},
        "'image_shape' .* Got '8x8'",
    ),
    "augment to another size": (
        X,
        {"augment": lambda x: x[..., 1:], "encoder": "conv"},
        r"'augment' .* Got \(\d+, 1, 8, 7\)",
    ),
    "augment to an array": (
        X,
        {"augment": lambda x: x.numpy(), "encoder": "conv"},
        "'augment' parameter must return a tensor of the shape .* Got ndarray",
    ),
    "no GPU": (X, {"device": "cuda:99"}, "'device' parameter of .* Got 'cuda:99'"),
}


@pytest.mark.filterwarnings("ignore:X is read as images of")
@pytest.mark.parametrize("case", CASES)
def test_bad_images_are_refused_and_nothing_is_left(cls, case):
    samples, parameters, message = CASES[case]
    model = make(cls, **parameters)
    before = dict(vars(model))
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        model.fit(samples, y)
    assert "_ClassFree" not in str(caught.value)
    assert vars(model) == before
    with pytest.raises(NotFittedError):
        model.transform(X)


def test_channels_that_seem_to_be_last_are_told():
    wide = np.tile(LAST, (1, 2, 2, 1))
    model = PrototypeAutoencoder(max_epochs=1, random_state=0)
    with pytest.warns(UserWarning, match="of 16 channels, 16 rows and 3 columns. Chan"):
        model.fit(wide)


def test_non_finite_sites_end_training(cls):
    class Nowhere(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 4, 3)

        def forward(self, x):
            return self.layer(x) * (torch.nan if self.training else 1.0)

    model = make(cls, encoder=Nowhere())
    if "decoder" in cls._get_param_names():
        pytest.skip("its encoder comes with a decoder")
    with pytest.raises(ValueError, match=r"became nan in epoch 1: .* encoder"):
        model.fit(X, y)
    assert not hasattr(model, "net_")


class OnePixel(nn.Module):
    """A net that normalises maps of one pixel by batch, which needs two images."""

    def __init__(self, shape):
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(shape[0], 4, 8), nn.BatchNorm2d(4))

    def forward(self, x):
        return self.layer(x)


def test_a_single_image_is_never_left_over_for_batch_normalisation(cls):
    if "decoder" in cls._get_param_names():
        pytest.skip("its encoder comes with a decoder")
    many = np.concatenate([X, X, X])[:65]
    labels = np.concatenate([y, y, y])[:65]
    model = make(cls, encoder=OnePixel, batch_size=64).fit(many, labels)
    assert np.isfinite(model.transform(X)).all()


@pytest.fixture(scope="module")
def fitted(cls):
    return make(cls).fit(X, y)


BAD = {
    "rank": X[:, 0, 0],
    "channels": np.repeat(X, 3, axis=1),
    "size": X[:, :, :7],
    "NaN": np.full_like(X, np.nan),
    "stream": Stream(),
    "counted stream": CountedStream(),
    "mixed sizes": mixed(),
    "Dataset of mixed sizes": Pairs(mixed()),
}


@pytest.mark.parametrize("case", BAD)
def test_a_fitted_estimator_stays_as_it_was(fitted, case):
    before, expected = dict(vars(fitted)), fitted.transform(X)
    operations = ("project", "prune", "refit_head", "refit_leaves")
    readings = ("predict", "predict_proba", "transform", "explain", "similarity_maps")
    for name in (*operations, *readings):
        action = getattr(fitted, name, None)
        if action is None:
            continue
        with pytest.raises((ValueError, TypeError)):
            action(BAD[case], y) if name in operations else action(BAD[case])
    assert vars(fitted).keys() == before.keys()
    np.testing.assert_array_equal(fitted.transform(X), expected)


def test_a_fit_that_fails_keeps_the_fit_before(fitted):
    before, expected = dict(vars(fitted)), fitted.transform(X)
    for bad in (X.astype(float) * 1e300, Stream(), mixed(), np.stack(with_nan())):
        with pytest.raises((ValueError, TypeError)):
            fitted.fit(bad, y)
        assert all(vars(fitted)[name] is value for name, value in before.items())
    np.testing.assert_array_equal(fitted.transform(X), expected)


@pytest.mark.parametrize(
    "name",
    [
        "DeformableProtoPNetClassifier",
        "GLVQClassifier",
        "ProtoPNetClassifier",
        "ProtoViTClassifier",
        "PrototypeAutoencoderClassifier",
    ],
)
def test_a_class_without_a_sample_at_projection(name):
    model = make(dict(all_estimators())[name]).fit(X, y)
    expected = model.transform(X)
    message = r"y must hold samples of every class that has proto.* none of \[0\]"
    with pytest.raises(ValueError, match=message):
        model.project(X[y > 0], y[y > 0])
    np.testing.assert_array_equal(model.transform(X), expected)


def test_a_class_without_a_sample_at_the_projection_of_a_tree():
    model = make(ProtoTreeClassifier).fit(X, y)
    with pytest.warns(UserWarning, match="stay as they were learned: no sample is of"):
        model.project(X[y > 1], y[y > 1])


def test_more_parts_than_sites(cls):
    tokens = rng.randn(N, 3, 6).astype(np.float32)
    known = cls._get_param_names()
    cases = [
        ({"n_parts": 99}, X, r"n_parts must be at most .* 16. Got 99"),
        ({"n_parts": 99, "encoder": "tokens"}, tokens, "at least n_parts=99 tokens"),
        ({"top_k": 99, "pooling": "topk"}, X, r"'top_k' .* at most .* 16. Got 99"),
        ({"part_grid": 9}, X, r"span 9 sites \(part_grid=9.* grid is \(4, 4\)"),
    ]
    for parameters, samples, message in cases:
        if set(parameters) <= set(known):
            with pytest.raises(ValueError, match=message):
                make(cls, **parameters).fit(samples, y)


def test_a_fitted_estimator_does_not_hold_the_images(fitted):
    seen = set()

    def holds(value, depth=0):
        if value is X:
            return True
        if id(value) in seen or depth > 8:
            return False
        seen.add(id(value))
        if isinstance(value, dict):
            return any(holds(part, depth + 1) for part in value.values())
        if isinstance(value, list | tuple):
            return any(holds(part, depth + 1) for part in value)
        return hasattr(value, "__dict__") and holds(vars(value), depth + 1)

    assert not holds(fitted)
