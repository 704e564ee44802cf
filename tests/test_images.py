"""Images as samples: what is taken, how it is scaled, and that it is read once."""

import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from torch import nn

from skproto import CBCClassifier, ProtoPNetClassifier, ProtoTreeClassifier
from skproto._images import (
    ChannelScaling,
    SampleArray,
    fit_channel_scaling,
    validate_images,
)
from skproto._provenance import crop, image_hash, site_boxes
from skproto.nn.encoders import SiteEncoder, make_encoder, settle_statistics

N_TRAIN = 200


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(n_class=3, return_X_y=True)
    return X.reshape(-1, 8, 8).astype(np.uint8), y


class CountingBody(nn.Module):
    """A map of two channels that counts the images that it has seen."""

    def __init__(self, shape=(1, 8, 8)):
        super().__init__()
        self.layer = nn.Conv2d(shape[0], 4, 3, padding=1)
        self.pool = nn.AvgPool2d(2)
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return self.pool(self.layer(x).relu())


def tree(**settings):
    return ProtoTreeClassifier(max_epochs=4, depth=2, random_state=0, **settings)


class PairDataset(torch.utils.data.Dataset):
    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], self.y[i]


# -- what is taken ---------------------------------------------------------------------


def test_one_set_of_images_in_every_form_gives_one_model(digits, tmp_path):
    X, y = digits[0][:N_TRAIN], digits[1][:N_TRAIN]
    np.save(tmp_path / "X.npy", X)
    forms = {
        "grey": X,
        "channels": X[:, None],
        "memory map": np.load(tmp_path / "X.npy", mmap_mode="r"),
        "tensor": torch.from_numpy(X),
        "dataset": PairDataset(X, y),
        "list": X.tolist(),
        "not contiguous": np.asfortranarray(X),
    }
    expected = tree().fit(X, y).predict_proba(X[:20])
    for name, form in forms.items():
        model = tree().fit(form, y)
        assert_array_equal(model.predict_proba(X[:20]), expected, err_msg=name)
        assert_array_equal(model.predict_proba(form)[:20], expected, err_msg=name)


def test_a_dataset_brings_its_labels(digits):
    X, y = digits[0][:N_TRAIN], digits[1][:N_TRAIN]
    model = tree().fit(PairDataset(X, y))
    assert_array_equal(model.predict(X), tree().fit(X, y).predict(X))


def test_flattened_images_work_in_a_grid_search(digits):
    X, y = digits[0][:N_TRAIN].reshape(N_TRAIN, -1), digits[1][:N_TRAIN]
    pipeline = make_pipeline(MinMaxScaler(), tree(image_shape=(8, 8)))
    search = GridSearchCV(pipeline, {"prototreeclassifier__depth": [1, 2]}, cv=2)
    search.fit(X, y)
    assert search.best_estimator_[-1].encoder_ == "conv"
    assert search.predict(X).shape == (N_TRAIN,)


def test_columns_of_flattened_images_keep_their_names(digits):
    X = pd.DataFrame(digits[0][:N_TRAIN].reshape(N_TRAIN, -1)).add_prefix("pixel_")
    y = digits[1][:N_TRAIN]
    model = tree(image_shape=(8, 8)).fit(X, y)
    assert model.feature_names_in_.tolist() == X.columns.tolist()
    assert model.predict(X).shape == (N_TRAIN,)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(X[X.columns[::-1]])
    again = model.fit(digits[0][:N_TRAIN], y)
    assert not hasattr(again, "feature_names_in_")


def test_rgb_images_and_floats():
    rng = np.random.RandomState(0)
    X = rng.rand(60, 3, 12, 16).astype(np.float32)
    y = np.arange(60) % 2
    X[y == 1, 0] += 0.5
    model = tree().fit(X, y)
    assert model.center_.shape == model.scale_.shape == (3,)
    assert model.similarity_maps(X[:4]).shape[:2] == (4, len(model.prototypes_))
    assert model.n_features_in_ == 3 * 12 * 16


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((4, 2, 3, 8, 8)), "shape"),
        (np.zeros((4, 8, 8)) * np.nan, "NaN"),
        (np.full((4, 8, 8), np.inf), "infinity"),
        (np.zeros((0, 8, 8)), "0 sample"),
        (np.zeros((4, 0, 8)), "empty axis"),
        (np.zeros((4, 8, 8), dtype=complex), "real numbers"),
        (np.zeros((4, 2, 2)), "at least"),
        (np.array([["a"] * 8] * 8, dtype=object)[None].repeat(4, 0), "objects"),
        ([np.zeros((8, 8)), np.zeros((9, 8))] * 2, "one size"),
    ],
)
def test_unusable_images_are_refused_before_training(X, message):
    model = tree()
    with pytest.raises(ValueError, match=message):
        model.fit(X, [0, 1, 0, 1][: len(X)])
    assert not hasattr(model, "net_")


def test_other_shapes_at_prediction_are_refused(digits):
    X, y = digits[0][:N_TRAIN], digits[1][:N_TRAIN]
    model = tree().fit(X, y)
    for wrong in (X[:, :6], X[:, None].repeat(3, axis=1), X.reshape(len(X), -1)):
        with pytest.raises(ValueError, match="shape"):
            model.predict(wrong)


def test_a_table_where_images_were_fitted_needs_image_shape(digits):
    X, y = digits[0][:N_TRAIN].reshape(N_TRAIN, -1), digits[1][:N_TRAIN]
    with pytest.raises(ValueError, match="image_shape"):
        tree(image_shape=(8, 9)).fit(X, y)
    with pytest.raises(ValueError, match="image_shape"):
        tree(encoder="conv").fit(X, y)
    with pytest.raises(ValueError, match="image_shape"):
        tree(image_shape="8x8").fit(X, y)


def test_datasets_that_cannot_be_used():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield np.zeros((8, 8)), 0

    with pytest.raises(TypeError, match="length"):
        tree().fit(Stream(), [0, 1])
    with pytest.raises(TypeError, match="must know its length"):
        tree().fit(Stream())
    mixed = [np.zeros((8, 8)), np.zeros((8, 8)), np.zeros((7, 8)), np.zeros((8, 8))]
    with pytest.raises(ValueError, match=r"Sample 2 .* shape"):
        tree().fit(PairDataset(mixed, [0, 1, 0, 1]))
    with pytest.raises(ValueError, match="no labels"):
        tree().fit(torch.utils.data.TensorDataset(torch.zeros(4, 8, 8)))


def test_an_encoder_of_the_wrong_shape_is_named_with_what_was_expected(digits):
    X, y = digits[0][:N_TRAIN], digits[1][:N_TRAIN]
    with pytest.raises(ValueError, match=r"\(n, D\), \(n, T, D\)"):
        tree(encoder=lambda shape: nn.Sequential(nn.Flatten(0))).fit(X, y)
    with pytest.raises(ValueError, match=r"failed on an input of shape \(2, 1, 8, 8\)"):
        tree(encoder=nn.Linear(5, 2)).fit(X, y)
    with pytest.raises(ValueError, match="Images need an encoder"):
        tree(encoder="identity").fit(X, y)


@settings(max_examples=40, deadline=None)
@given(
    npst.arrays(
        dtype=st.sampled_from([np.uint8, np.float32, np.float64, np.int16, bool]),
        shape=npst.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=9),
    )
)
def test_any_array_is_taken_whole_or_refused(X):
    try:
        samples = validate_images(X)
    except ValueError:
        assert not np.isfinite(X.astype(float)).all()
        return
    assert samples.shape == (X.shape if X.ndim == 4 else (len(X), 1, *X.shape[1:]))
    assert_array_equal(samples[:].reshape(X.shape), X)


# -- scaling ---------------------------------------------------------------------------


def test_scaling_is_weighted_by_channel():
    rng = np.random.RandomState(0)
    X = rng.normal([[[3.0]], [[-1.0]]], [[[2.0]], [[0.5]]], size=(50, 2, 6, 6))
    weight = rng.randint(0, 3, size=50).astype(float)
    scaling = fit_channel_scaling(SampleArray(X, (2, 6, 6)), weight, True)
    repeated = np.repeat(X, weight.astype(int), axis=0)
    assert_allclose(scaling.center, repeated.mean(axis=(0, 2, 3)), rtol=1e-4)
    assert_allclose(scaling.scale, repeated.std(axis=(0, 2, 3)), rtol=1e-4)
    assert_allclose(scaling.invert(scaling.apply(X)), X, atol=1e-5)
    assert_allclose(scaling.apply_double(X), scaling.apply(X), atol=1e-5)


def test_constant_channels_and_bytes_without_standardisation():
    X = np.full((5, 2, 4, 4), 7, dtype=np.uint8)
    X[:, 1] = np.arange(5)[:, None, None]
    constant = fit_channel_scaling(SampleArray(X, (2, 4, 4)), np.ones(5), True)
    assert constant.scale[0] == 1.0
    plain = fit_channel_scaling(SampleArray(X, (2, 4, 4)), np.ones(5), False)
    assert_array_equal(plain.scale, 255.0)
    assert_array_equal(plain.center, 0.0)


def test_a_pretrained_encoder_brings_its_normalisation(digits):
    body = CountingBody()
    body.normalization = ([0.5], [0.25])
    model = tree(encoder=body).fit(digits[0][:N_TRAIN], digits[1][:N_TRAIN])
    assert_array_equal(model.center_, [127.5])
    assert_array_equal(model.scale_, [63.75])


def test_a_mean_above_1_is_in_units_of_the_pixels(digits):
    body = CountingBody()
    body.normalization = ([4.9], [6.0])
    X = digits[0][:N_TRAIN].astype(float)
    assert X.max() == 16
    model = tree(encoder=body).fit(X, digits[1][:N_TRAIN])
    assert_array_equal(model.center_, [4.9])
    assert_array_equal(model.scale_, [6.0])


class ColourNet(nn.Module):
    """A model with the interface of timm that expects pixels from 0 to 1."""

    pretrained_cfg = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.1)}

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 2, 2)

    def forward_features(self, x):
        return self.stem(x)


@pytest.mark.parametrize("encoder", [ColourNet(), lambda shape: ColourNet()])
def test_models_of_timm_and_functions_bring_their_normalisation(encoder):
    rng = np.random.RandomState(0)
    X, y = rng.rand(20, 3, 8, 8), np.arange(20) % 2
    model = tree(encoder=encoder).fit(X, y)
    assert_array_equal(model.center_, [0.5, 0.4, 0.3])
    assert_array_equal(model.scale_, [0.2, 0.2, 0.1])
    with pytest.warns(UserWarning, match=r"pixels from 0 to 1.* from .* to 2[0-9]{2}:"):
        tree(encoder=encoder).fit(255 * X, y)
    with pytest.raises(ValueError, match=r"expects images of 3 channels.* Got 4 chan"):
        tree(encoder=encoder).fit(rng.rand(20, 4, 8, 8), y)


def test_a_layer_named_normalization_is_no_normalisation(digits):
    body = CountingBody()
    body.normalization = nn.BatchNorm2d(1)
    model = tree(encoder=body).fit(digits[0][:N_TRAIN], digits[1][:N_TRAIN])
    assert model.scale_[0] != 1.0


def test_an_encoder_of_random_weights_learns_the_classes_first(digits):
    X, y = digits[0][:N_TRAIN], digits[1][:N_TRAIN]
    model = CBCClassifier(pretrain_epochs=6, max_epochs=0, random_state=0).fit(X, y)
    phases = model.history_.phase.tolist()
    assert phases == ["pretraining"] * 6
    assert model.history_.train_loss.iloc[-1] < 0.5 * model.history_.train_loss.iloc[0]
    again = clone(model).fit(X, y)
    assert_array_equal(again.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("settings", [{"frozen": True}, {"encoder": CountingBody}])
def test_only_encoders_of_random_weights_that_learn_are_started(digits, settings):
    model = CBCClassifier(max_epochs=4, random_state=0, **settings)
    model.fit(digits[0][:N_TRAIN], digits[1][:N_TRAIN])
    assert model.pretrain_epochs_ == 0
    assert model.history_.phase.tolist() == ["joint"] * 4


# -- encoders --------------------------------------------------------------------------


def test_a_frozen_encoder_sees_every_image_once(digits):
    X, y = digits[0][:N_TRAIN], digits[1][:N_TRAIN]
    body = CountingBody()
    bodies = []

    def make(shape):
        bodies.append(body)
        body.seen = 0
        return body

    before = {k: v.clone() for k, v in body.state_dict().items()}
    model = ProtoPNetClassifier(
        encoder=make, frozen=True, max_epochs=3, random_state=0
    ).fit(X, y)
    # Two images of zeros tell the shape, before the add-on and with it.
    assert body.seen <= N_TRAIN + 8
    for name, value in model._module.encoder.body.state_dict().items():
        assert torch.equal(value, before[name])
    again = clone(model).set_params(augment=lambda x: x).fit(X, y)
    assert_allclose(again.predict_proba(X), model.predict_proba(X), atol=1e-3)


def test_frozen_and_cached_is_frozen_and_not_cached(digits, monkeypatch):
    X, y = digits[0][:N_TRAIN], digits[1][:N_TRAIN]
    cached = tree(encoder="conv", frozen=True).fit(X, y)
    monkeypatch.setattr("skproto._encoding.MAX_CACHED_ENTRIES", 0)
    plain = tree(encoder="conv", frozen=True).fit(X, y)
    assert_array_equal(cached.prototype_indices_, plain.prototype_indices_)
    assert_allclose(cached.predict_proba(X), plain.predict_proba(X), atol=1e-5)


def test_the_limit_of_what_is_kept_counts_sites_before_the_add_on(digits, monkeypatch):
    X, y = digits[0][:N_TRAIN], digits[1][:N_TRAIN]
    seen = []

    def make(shape):
        body = CountingBody()
        seen.append(body)
        return body

    # 16 sites of 4 numbers, which the add-on narrows to 2.
    n_entries = N_TRAIN * 16 * 4
    model = ProtoPNetClassifier(
        prototype_dim=2, encoder=make, frozen=True, max_epochs=2, random_state=0
    )
    for limit, is_kept in ((n_entries, True), (n_entries - 1, False)):
        monkeypatch.setattr("skproto._encoding.MAX_CACHED_ENTRIES", limit)
        model.fit(X, y)
        assert (model._module.encoder.body.seen <= N_TRAIN + 8) == is_kept


def test_the_users_module_is_never_changed(digits):
    body = CountingBody()
    before = {k: v.clone() for k, v in body.state_dict().items()}
    tree(encoder=body).fit(digits[0][:N_TRAIN], digits[1][:N_TRAIN])
    for name, value in body.state_dict().items():
        assert torch.equal(value, before[name])


def test_augmentation_changes_training_and_nothing_else(digits):
    X, y = digits[0][:N_TRAIN], digits[1][:N_TRAIN]
    seen = []

    def flip(x):
        seen.append(x.shape)
        return x.flip(-1)

    model = CBCClassifier(encoder="conv", augment=flip, max_epochs=1, random_state=0)
    model.fit(X, y)
    n_batches = -(-N_TRAIN // model.batch_size)
    assert len(seen) == n_batches
    model.predict(X)
    model.explain(X[:2])
    assert len(seen) == n_batches


def test_statistics_are_settled_once():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    encoder = SiteEncoder(body, input_shape=(1, 6, 6), frozen=True)
    x = torch.randn(64, 1, 6, 6) * 3 + 5
    settle_statistics(encoder, [x[:32], x[32:]])
    sites = encoder.eval()(x)
    assert_allclose(sites.mean(dim=(0, 1)), np.zeros(3), atol=0.05)
    known = body[1].running_mean.clone()
    settle_statistics(encoder, [x * 0])
    assert torch.equal(body[1].running_mean, known)
    assert body[1].momentum == 0.1


@pytest.mark.parametrize(
    ("output", "grid", "n_sites", "dim"),
    [
        (torch.zeros(2, 5, 3, 4), (3, 4), 12, 5),
        (torch.zeros(2, 9, 5), (3, 3), 9, 5),
        (torch.zeros(2, 7, 5), None, 7, 5),
        ((torch.zeros(2, 4, 5), torch.zeros(2, 5)), (2, 2), 4, 5),
        (torch.zeros(2, 5), (1, 1), 1, 5),
    ],
)
def test_what_bodies_may_return(output, grid, n_sites, dim):
    class Body(nn.Module):
        def forward(self, x):
            return output

    encoder = make_encoder(Body(), (1, 8, 8))
    assert encoder.grid == grid
    assert (encoder.n_sites, encoder.dim) == (n_sites, dim)


def test_the_class_token_is_subtracted():
    class Body(nn.Module):
        def forward(self, x):
            tokens = torch.arange(6.0).reshape(1, 3, 2).expand(len(x), 3, 2)
            return tokens, torch.ones(len(x), 2)

    encoder = make_encoder(Body(), (1, 8, 8), subtract_class_token=True)
    sites = encoder(torch.zeros(1, 1, 8, 8))
    assert sites[0].tolist() == [[-1, 0], [1, 2], [3, 4]]


# -- what is kept of a source ----------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(1, 12))
def test_boxes_cover_the_image_and_lie_in_it(height, width, n_rows, n_columns):
    n_rows, n_columns = min(n_rows, height), min(n_columns, width)
    boxes = site_boxes(
        np.arange(n_rows * n_columns), (n_rows, n_columns), (1, height, width)
    )
    covered = np.zeros((height, width), dtype=int)
    for top, left, bottom, right in boxes:
        assert 0 <= top < bottom <= height
        assert 0 <= left < right <= width
        covered[top:bottom, left:right] += 1
    assert covered.min() >= 1


def test_patches_hashes_and_boxes_are_those_of_the_training_images(digits):
    X, y = digits[0][:N_TRAIN], digits[1][:N_TRAIN]
    model = tree().fit(X, y)
    for k, row in enumerate(model.prototype_indices_):
        image = X[row][None]
        assert model.prototype_hashes_[k] == image_hash(image)
        assert_array_equal(
            model.prototype_patches_[k], crop(image, model.prototype_boxes_[k])
        )
    assert_array_equal(model.prototype_samples_[:, 0], X[model.prototype_indices_])
    image = X[:1].astype(np.uint8)
    expected = hashlib.sha256(b"|u1(1, 8, 8)" + image.tobytes()).hexdigest()
    assert image_hash(image) == expected


def test_source_images_that_are_too_many_are_not_kept(digits, monkeypatch):
    monkeypatch.setattr("skproto._provenance.MAX_KEPT_BYTES", 10)
    model = tree().fit(digits[0][:N_TRAIN], digits[1][:N_TRAIN])
    assert model.prototype_samples_ is None
    assert model.prototype_patches_[0].shape == (1, 2, 2)
    model.explain(digits[0][:2]).verify()


def test_scaling_keeps_padding_of_tokens():
    X = np.ones((3, 4, 2))
    X[1, 2:] = np.nan
    scaled = ChannelScaling(np.zeros(2), np.ones(2), 2).apply(X)
    assert np.isnan(scaled[1, 2:]).all()
    assert np.isfinite(scaled[0]).all()
