"""The prototype autoencoder as a classifier and as a transformer."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from torch import nn

from skproto.networks._autoencoder import PrototypeAutoencoderClassifier
from skproto.networks._autoencoder_fit import spread_evenly
from skproto.networks._autoencoder_transformer import PrototypeAutoencoder

WINE = load_wine(return_X_y=True)
CANCER = load_breast_cancer(return_X_y=True)
DIGITS = load_digits().images / 16, load_digits().target


def brief(*args, **settings):
    settings = {"max_epochs": 8, "random_state": 0, **settings}
    return PrototypeAutoencoderClassifier(*args, **settings)


@pytest.fixture(scope="module")
def wine():
    return brief(9, max_epochs=60).fit(*WINE)


@pytest.fixture(scope="module")
def digits():
    """A brief fit on images, projected."""
    X, y = (part[:600] for part in DIGITS)
    return brief(20, max_epochs=15, project_prototypes=True).fit(X, y)


# -- the model -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "standardize", "n_prototypes", "n_epochs", "least"),
    [
        (WINE, True, 9, 80, 0.94),
        (CANCER, True, 8, 60, 0.94),
        (DIGITS, False, 20, 40, 0.96),
    ],
    ids=["wine", "breast_cancer", "digits"],
)
def test_reference_figures(data, standardize, n_prototypes, n_epochs, least):
    X, y = data
    X = X.reshape(len(X), -1)
    X, X_test, y, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=0
    )
    model = brief(n_prototypes, max_epochs=n_epochs, standardize=standardize)
    accuracy = model.fit(X, y).score(X_test, y_test)
    assert accuracy >= least
    scaled = (X_test - model.center_) / model.scale_
    worst = np.square(scaled - scaled.mean(axis=0)).sum(axis=1).mean()
    assert model.reconstruction_error(X_test).mean() <= 0.5 * worst
    agree = model.prototype_sample_labels_ == model.prototype_labels_
    assert agree.mean() >= 0.9
    assert set(model.prototype_labels_) == set(model.classes_)
    assert accuracy - model.project(X, y).score(X_test, y_test) <= 0.01


def test_scores_are_weighted_squared_distances_without_bias(wine):
    X, _ = WINE
    squared = wine.transform(X)
    np.testing.assert_allclose(
        wine.decision_function(X), squared @ wine.head_weights_, rtol=1e-6, atol=1e-6
    )
    codes = wine.encode(X)
    gap = codes[:, None].astype(float) - wine.prototypes_
    np.testing.assert_allclose(squared, np.square(gap).sum(axis=2), atol=1e-5)
    assert (squared >= 0).all()
    np.testing.assert_allclose(wine.predict_proba(X).sum(axis=1), 1.0)


def test_similarities_instead_of_distances(wine):
    X, _ = WINE
    similar = clone(wine).set_params(transform_output="similarity").fit(*WINE)
    expected = np.exp(-wine.transform(X) / wine.bandwidth_)
    np.testing.assert_allclose(similar.transform(X), expected, rtol=1e-5, atol=1e-7)
    assert wine.bandwidth_ == pytest.approx(np.median(wine.transform(X)), rel=1e-5)


def test_without_class_loss_the_head_does_not_move():
    model = brief(6, lambda_class=0.0).fit(*WINE)
    start = np.where(np.eye(3, dtype=bool)[[0, 0, 1, 1, 2, 2]], -1.0, 0.5)
    np.testing.assert_array_equal(model.head_weights_, start)
    assert "cross_entropy" not in model.history_


def test_every_loss_term_is_in_the_history(wine):
    terms = {"cross_entropy", "reconstruction", "r1", "r2"}
    assert terms <= set(wine.history_.columns)
    assert (wine.history_["reconstruction"].iloc[[0, -1]].diff().iloc[-1]) < 0


def test_the_start_of_the_paper():
    settings = {"init": "uniform", "head_init": "uniform", "normalize_losses": False}
    model = brief(6, max_epochs=0, **settings).fit(*WINE)
    for values in (model.prototypes_, model.head_weights_):
        assert values.min() >= 0
        assert values.max() <= 1


@pytest.mark.parametrize(
    "settings",
    [
        {"init": "kmeans"},
        {"class_conditional": True},
        {"lambda_diversity": 1.0},
        {"latent_dim": 5},
        {"solver": "adamw"},
        {"early_stopping": True},
        {"class_weight": "balanced"},
        {"encoder": "identity"},
        {"encoder": "mlp", "frozen": True},
    ],
    ids=str,
)
def test_switches(settings):
    model = brief(6, max_epochs=30, **settings).fit(*WINE)
    assert model.score(*WINE) > 0.85
    model.explain(WINE[0][:5]).verify()
    if "latent_dim" in settings:
        assert model.prototypes_.shape == (6, 5)


def test_conditional_terms_keep_prototypes_at_their_class():
    model = brief(9, class_conditional=True, lambda_r1=5.0, max_epochs=40).fit(*WINE)
    np.testing.assert_array_equal(
        model.prototype_sample_labels_, model.prototype_labels_
    )


def test_a_frozen_encoder_keeps_its_weights():
    encoder = nn.Linear(13, 4)
    model = brief(6, encoder=encoder, frozen=True).fit(*WINE)
    kept = model.net_.module_.encoder.body.weight
    torch.testing.assert_close(kept, encoder.weight)


def test_prototypes_are_spread_over_the_classes():
    assert spread_evenly(7, np.array([9, 9, 9])).tolist() == [3, 2, 2]
    assert spread_evenly(7, np.array([1, 9, 2])).tolist() == [1, 4, 2]
    assert len(brief(max_epochs=1).fit(*WINE).prototypes_) == 10


def test_same_seed_same_bits(wine):
    again = clone(wine).fit(*WINE)
    np.testing.assert_array_equal(again.prototypes_, wine.prototypes_)
    np.testing.assert_array_equal(
        again.decision_function(WINE[0]), wine.decision_function(WINE[0])
    )


@pytest.mark.parametrize("kind", ["wine", "digits"])
def test_pickle_brings_back_every_bit(kind, request):
    model = request.getfixturevalue(kind)
    X = WINE[0] if kind == "wine" else DIGITS[0][:50]
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(again.reconstruct(X), model.reconstruct(X))
    assert str(again.explain(X[:2])) == str(model.explain(X[:2]))


def test_frames_and_sparse_rows():
    X, y = load_wine(return_X_y=True, as_frame=True)
    model = brief(6).fit(X, y)
    assert list(model.feature_names_in_) == list(X.columns)
    assert model.reconstruct(X).shape == X.shape
    rows = sp.csr_array(np.maximum(WINE[0] - 2.0, 0.0))
    model = brief(6).fit(rows, y)
    assert model.reconstruct(rows).shape == rows.shape
    assert model.prototype_samples_.shape == (6, 13)
    assert isinstance(X, pd.DataFrame)


def test_warm_start_goes_on():
    model = brief(6, warm_start=True).fit(*WINE)
    assert model.fit(*WINE).n_iter_ == 16
    assert model.history_["epoch"].tolist() == list(range(1, 17))


# -- decoding --------------------------------------------------------------------------


def test_decoded_and_reconstructed_rows_are_in_the_units_of_the_user(wine):
    X, _ = WINE
    decoded = wine.decode_prototypes()
    np.testing.assert_array_equal(decoded, wine.prototypes_decoded_)
    np.testing.assert_allclose(wine.inverse_transform(wine.prototypes_), decoded)
    again = wine.inverse_transform(wine.encode(X))
    np.testing.assert_allclose(wine.reconstruct(X), again, rtol=1e-4)
    spread = X.std(axis=0)
    assert (np.abs(again.mean(axis=0) - X.mean(axis=0)) < 0.3 * spread).all()
    error = np.square((again - X) / wine.scale_).sum(axis=1)
    np.testing.assert_allclose(wine.reconstruction_error(X), error, rtol=1e-3)
    assert wine.recon_error_ == pytest.approx(error.mean(), rel=1e-3)


def test_outliers_are_far_from_all_prototypes(wine):
    X, _ = WINE
    far = X.mean(axis=0) + 20 * X.std(axis=0)
    assert wine.outlier_score(far[None])[0] > 5 * wine.outlier_score(X).max()
    nearest = wine.transform(X).min(axis=1)
    np.testing.assert_allclose(wine.outlier_score(X), nearest)


@pytest.mark.parametrize(
    ("X", "output", "bound"),
    [
        (DIGITS[0][:200], "sigmoid", 1),
        ((DIGITS[0][:200] * 255).astype(np.uint8), "sigmoid", 255),
        (DIGITS[0][:200] * (1 + 1e-15), "sigmoid", 1),
        (DIGITS[0][:200, None, :7] * 2 - 1, "linear", np.inf),
        ((DIGITS[0][:200] * 16).astype(np.int64), "linear", np.inf),
    ],
    ids=["floats", "bytes", "rounded", "outside", "integers"],
)
def test_output_of_the_decoder_follows_the_images(X, output, bound):
    model = brief(max_epochs=2, decoder_output="auto")
    if output == "linear":
        with pytest.warns(UserWarning, match="outside of 0 to 1"):
            model.fit(X, DIGITS[1][:200])
    else:
        model.fit(X, DIGITS[1][:200])
        assert model.prototypes_decoded_.min() >= 0
        assert model.prototypes_decoded_.max() <= bound * (1 + 1e-6)
    assert model.decoder_output_ == output
    assert model.reconstruct(X).shape == X.shape


def test_flattened_images_in_a_grid_search():
    X, y = (part[:150] for part in DIGITS)
    search = GridSearchCV(
        brief(10, max_epochs=2, image_shape=(8, 8)), {"lambda_r1": [0.5, 1.0]}, cv=2
    ).fit(X.reshape(-1, 64), y)
    assert search.best_estimator_.prototypes_decoded_.shape == (10, 1, 8, 8)
    assert search.best_estimator_.reconstruct(X.reshape(-1, 64)).shape == (150, 64)


# -- projecting, pruning, refitting ----------------------------------------------------


def test_projected_prototypes_are_training_images(digits):
    X, y = (part[:600] for part in DIGITS)
    index = digits.prototype_indices_
    assert (digits.projection_distance_ == 0).all()
    np.testing.assert_array_equal(digits.prototype_samples_[:, 0], X[index])
    np.testing.assert_array_equal(digits.prototype_labels_, y[index])
    np.testing.assert_allclose(digits.transform(X[index]).diagonal(), 0.0, atol=1e-9)
    np.testing.assert_allclose(digits.encode(X[index]), digits.prototypes_, rtol=1e-5)
    before, after = digits.projection_accuracy_
    assert after >= before - 0.01
    assert len(set(digits.prototype_hashes_)) == len(set(index))


@pytest.mark.parametrize("cls", [PrototypeAutoencoderClassifier, PrototypeAutoencoder])
def test_no_two_prototypes_from_one_sample(cls):
    X, y = WINE[0][:40], WINE[1][:40] + np.arange(40) % 2
    settings = {"init": "uniform", "max_epochs": 2, "project_prototypes": True}
    model = cls(16, random_state=0, **settings)
    shared = model.fit(X, y).prototype_indices_
    assert len(np.unique(shared)) < 16
    apart = clone(model).set_params(unique_sources=True).fit(X, y)
    assert len(np.unique(apart.prototype_indices_)) == 16
    assert (apart.projection_distance_ == 0).all()


def test_project_afterwards_names_the_rows_given():
    model = brief(9, max_epochs=30).fit(*WINE)
    ids = model.prototype_ids_
    X, y = WINE[0][::-1], WINE[1][::-1]
    model.project(X, y)
    rows = model.prototype_indices_
    np.testing.assert_array_equal(model.prototype_samples_, X[rows])
    np.testing.assert_allclose(model.transform(X[rows]).diagonal(), 0.0, atol=1e-9)
    np.testing.assert_array_equal(model.prototype_ids_, ids)


def test_refit_lowers_the_loss_and_keeps_the_prototypes():
    model = brief(9, max_epochs=3).fit(*WINE)
    prototypes = model.prototypes_
    codes = np.eye(3)[WINE[1]]
    before = (codes * model.predict_proba(WINE[0])).sum(axis=1)
    model.refit_head(*WINE)
    after = (codes * model.predict_proba(WINE[0])).sum(axis=1)
    assert np.log(after).mean() > np.log(before).mean()
    np.testing.assert_array_equal(model.prototypes_, prototypes)


def test_pruned_prototypes_take_their_contributions_with_them():
    model = brief(15, max_epochs=30).fit(*WINE)
    before = model.explain(WINE[0])
    idle = model.win_counts_ == 0
    assert idle.any()
    model.prune()
    kept = np.isin(before.prototypes.ids, model.prototype_ids_)
    assert set(model.prototype_labels_) == {0, 1, 2}
    assert not kept[idle].all()
    lost = before.class_contributions[:, ~kept].sum(axis=1)
    np.testing.assert_allclose(
        model.decision_function(WINE[0]), before.scores - lost, rtol=1e-5, atol=1e-5
    )
    model.explain(WINE[0]).verify()
    n_left = len(model.prototype_ids_)
    with pytest.raises(ValueError, match="No prototype would be left"):
        model.prune(100.0)
    with pytest.raises(ValueError, match="samples are given by name"):
        model.prune(*WINE)
    assert model.prune(0.0, *WINE).score(*WINE) > 0.95
    assert len(model.prototypes_) == n_left


# -- explaining ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wine", "digits"])
def test_contributions_are_the_decision(kind, request):
    model = request.getfixturevalue(kind)
    X = WINE[0] if kind == "wine" else DIGITS[0][:50]
    shown = model.explain(X)
    shown.verify()
    np.testing.assert_allclose(
        shown.contributions.sum(axis=1) + shown.bias, model.decision_function(X)
    )
    assert (shown.bias == 0).all()
    np.testing.assert_allclose(shown.similarities, model.transform(X), rtol=1e-6)
    told = shown.centred()
    told.verify()
    np.testing.assert_allclose(
        told.contributions.sum(axis=1) + told.bias, shown.decision, rtol=1e-6
    )
    assert np.ptp(told.bias, axis=0).max() == 0
    json.dumps(shown.to_dict())
    assert "centred_contribution" in shown.to_frame()


def test_two_classes_explain_one_decision():
    model = brief(6).fit(*CANCER)
    shown = model.explain(CANCER[0][:20])
    assert shown.contributions.shape == (20, 6)
    np.testing.assert_allclose(
        shown.contributions.sum(axis=1), model.decision_function(CANCER[0][:20])
    )


def test_words_say_near_and_far(wine):
    text = str(wine.explain(WINE[0][:1]))
    assert "near learned prototype" in text
    assert "far from learned prototype" in text
    assert "squared distance" in text


def test_images_show_reconstruction_and_decoded_prototypes(digits):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    X = DIGITS[0][:3]
    shown = digits.explain(X)
    np.testing.assert_array_equal(shown.places.images[:, 0], X)
    np.testing.assert_array_equal(
        shown.places.reconstructions[:, 0], digits.reconstruct(X)
    )
    own = shown.prototypes.places
    np.testing.assert_array_equal(own.decoded, digits.prototypes_decoded_)
    assert "near training image" in str(shown)
    assert shown.plot() is not None
    assert digits.explain_global().plot() is not None
    pyplot.close("all")


def test_maps_of_whole_image_prototypes_are_their_similarity(digits):
    X = DIGITS[0][:4]
    maps = digits.similarity_maps(X)
    assert maps.shape == (4, 20, 1, 1)
    expected = np.exp(-digits.transform(X) / digits.bandwidth_)
    np.testing.assert_allclose(maps[..., 0, 0], expected, rtol=1e-4)


# -- parts of the user -----------------------------------------------------------------


class Decoder(nn.Sequential):
    """Turns codes into images of 8 x 8."""

    def __init__(self, dim, shape):
        super().__init__(nn.Linear(dim, 64), nn.Unflatten(1, shape))


def test_encoder_and_decoder_of_the_user():
    X, y = (part[:200] for part in DIGITS)
    encoder = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.Tanh())
    model = brief(10, encoder=encoder, decoder=Decoder).fit(X, y)
    assert model.latent_dim_ == 64
    assert model.decoder_output_ == "linear"
    assert model.similarity_maps(X[:2]).shape == (2, 10, 4, 4)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.reconstruct(X), model.reconstruct(X))


@pytest.mark.parametrize(
    ("settings", "data", "message"),
    [
        ({"n_prototypes": 2}, WINE, "at least the number of classes, 3"),
        ({"n_prototypes": 200}, WINE, "distinct samples, 178"),
        ({"decoder_output": "sigmoid"}, WINE, "values from 0.13 to"),
        ({"decoder": nn.Linear(16, 5)}, WINE, r"\(2, 13\) for codes"),
        ({"decoder": nn.Linear(3, 13)}, WINE, "failed on codes"),
        ({"latent_dim": 7, "encoder": "mlp"}, WINE, "'auto' or 32"),
        ({"lambda_class": 0, "lambda_recon": 0}, WINE, "cannot both be 0"),
        ({"lambda_r1": -1.0}, WINE, "lambda_r1"),
        ({"init": "kmeans++"}, WINE, "init"),
        ({"solver": "lbfgs"}, WINE, "solver"),
        ({}, (DIGITS[0][:50, :2, :2], DIGITS[1][:50]), "at least 3 x 3"),
        ({}, (WINE[0], np.zeros(178)), "2 classes"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_bad_parameters_are_named(settings, data, message):
    with pytest.raises(ValueError, match=message):
        brief(**settings).fit(*data)


def test_a_callable_must_return_a_module():
    with pytest.raises(TypeError, match=r"must return an nn\.Module"):
        brief(decoder=lambda dim, shape: None).fit(*WINE)


def test_codes_of_the_wrong_size_and_labels_unseen(wine):
    with pytest.raises(ValueError, match=r"shape \(n, 16\)"):
        wine.inverse_transform(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="not seen in fit"):
        wine.refit_head(WINE[0], WINE[1] + 1)
    with pytest.raises(ValueError, match="every class that has prototypes"):
        wine.project(WINE[0][:100], WINE[1][:100])


def test_a_sigmoid_decoder_goes_on_only_in_its_range():
    X, y = (part[:100] for part in DIGITS)
    model = brief(10, max_epochs=1, warm_start=True).fit(X, y)
    outside = pytest.warns(UserWarning, match="outside of 0 to 1")
    with outside, pytest.raises(ValueError, match="between 0 and 1"):
        model.fit(X * 2, y)
    model.fit(X, y)


# -- without classes -------------------------------------------------------------------


def test_transformer_in_a_pipeline_and_its_codes():
    X, y = WINE
    coder = PrototypeAutoencoder(9, max_epochs=40, random_state=0)
    model = make_pipeline(coder, LogisticRegression(max_iter=5000)).fit(X, y)
    assert model.score(X, y) > 0.95
    coder = model[0]
    assert coder.transform(X).shape == (178, 9)
    assert coder.get_feature_names_out()[0] == "prototypeautoencoder0"
    decoded = coder.inverse_transform(coder.encode(X))
    np.testing.assert_allclose(decoded, coder.reconstruct(X), rtol=1e-4)
    assert set(coder.history_.columns) >= {"reconstruction", "r1", "r2"}
    # Prototypes are neither all in one place nor away from the samples.
    assert coder.projection_distance_.max() < 0.5 * np.sqrt(coder.bandwidth_)
    assert (coder.win_counts_ > 0).sum() >= 3
    scaled = np.square((X - coder.center_) / coder.scale_).sum(axis=1).mean()
    assert coder.recon_error_ < 0.5 * scaled


def test_transformer_ignores_labels_and_comes_back_from_a_pickle():
    X, y = WINE
    coder = PrototypeAutoencoder(5, max_epochs=3, random_state=0, init="samples")
    one, other = clone(coder).fit(X), clone(coder).fit(X, y)
    np.testing.assert_array_equal(one.transform(X), other.transform(X))
    again = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(again.transform(X), one.transform(X))
    pd.testing.assert_frame_equal(again.history_, one.history_)
    named = clone(coder).set_output(transform="pandas").fit_transform(X)
    assert list(named.columns) == [f"prototypeautoencoder{i}" for i in range(5)]
    with pytest.raises(ValueError, match="init"):
        clone(coder).set_params(init="class_samples").fit(X)


def test_transformer_on_images_puts_prototypes_on_samples():
    X = DIGITS[0][:300]
    coder = PrototypeAutoencoder(max_epochs=5, random_state=0, project_prototypes=True)
    coder.fit(X)
    np.testing.assert_array_equal(
        coder.prototype_samples_[:, 0], X[coder.prototype_indices_]
    )
    assert (coder.projection_distance_ == 0).all()
    assert coder.decode_prototypes().shape == (10, 1, 8, 8)
    assert coder.outlier_score(X).shape == (300,)
    assert coder.reconstruction_error(X).mean() == pytest.approx(coder.recon_error_)
    coder.transform_output = "similarity"
    assert coder.transform(X).max() <= 1
