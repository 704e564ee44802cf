"""RBF, CBC and LVQ classifiers on images: sites, places, channels."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits

from skproto import (
    CBCClassifier,
    GLVQClassifier,
    GMLVQClassifier,
    RBFClassifier,
    RSLVQClassifier,
)
from skproto.nn import RBFNetwork
from skproto.shallow._lvq import LVQBaseClassifier

BRIEF = {"max_epochs": 6, "lr": 0.005, "batch_size": 64, "random_state": 0}

MODELS = [
    CBCClassifier(2, **BRIEF),
    RBFClassifier(2, **BRIEF),
    RBFClassifier(2, head="convex", **BRIEF),
    GLVQClassifier(2, **BRIEF),
    GMLVQClassifier(2, **BRIEF),
    RSLVQClassifier(2, **BRIEF),
]


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(n_class=4, return_X_y=True)
    return X.reshape(-1, 8, 8).astype(np.uint8)[:400], y[:400]


@pytest.fixture(scope="module", params=MODELS, ids=lambda m: repr(m)[:24])
def fitted(request, digits):
    model = request.param.set_params(project_prototypes=True)
    return model.fit(digits[0][:300], digits[1][:300])


def test_learns_and_verifies(fitted, digits):
    X, y = digits
    assert fitted.encoder_ == "conv"
    assert fitted.score(X[300:], y[300:]) > 0.5
    case = fitted.explain(X[300:304])
    case.verify()
    assert case.places.images.shape == (4, 1, 8, 8)
    found = case.contributions.sum(axis=1) + case.bias
    assert_allclose(found, fitted.decision_function(X[300:304]), rtol=1e-5, atol=1e-5)


def test_projected_prototypes_are_sites_of_training_images(fitted, digits):
    X, _ = digits
    assert_array_equal(fitted.projection_distance_, 0.0)
    with torch.inference_mode():
        scaled = fitted._scaling.apply(X[fitted.prototype_indices_][:, None])
        z = fitted._module.encoder(torch.from_numpy(scaled)).numpy()
    mine = z[np.arange(len(z)), fitted.prototype_sites_]
    assert_allclose(mine, fitted.prototypes_, rtol=1e-4, atol=1e-4)
    top, left, bottom, right = fitted.prototype_boxes_[0]
    patch = X[fitted.prototype_indices_[0]][None, top:bottom, left:right]
    assert_array_equal(fitted.prototype_patches_[0], patch)


def test_the_linear_head_of_rbf_is_refit_by_a_convex_problem(digits):
    X, y = digits
    model = RBFClassifier(2, project_prototypes=True, **{**BRIEF, "max_epochs": 1})
    model.fit(X[:300], y[:300])

    def loss():
        proba = model.predict_proba(X[:300])
        return -np.log(proba[np.arange(300), y[:300]]).mean()

    before, prototypes = loss(), model.prototypes_.copy()
    assert model.refit_head(X[:300], y[:300]) is model
    assert loss() < before
    assert_array_equal(model.prototypes_, prototypes)
    model.explain(X[300:304]).verify()
    # No other weights are better.
    weights, alpha = model.coef_.copy(), float(model.alpha) / 300
    expected = loss() + 0.5 * alpha * np.square(weights).sum()
    rng = np.random.default_rng(0)
    activations = model.transform(X[:300]).astype(float)
    for _ in range(20):
        other = weights + 0.1 * rng.normal(size=weights.shape)
        scores = activations @ other + model.intercept_
        scores -= np.logaddexp.reduce(scores, axis=1, keepdims=True)
        worse = -scores[np.arange(300), y[:300]].mean()
        assert worse + 0.5 * alpha * np.square(other).sum() > expected
    again = model.refit_head(X[:300], y[:300]).coef_
    assert_allclose(again, weights, atol=1e-2)
    convex = RBFClassifier(2, head="convex", **{**BRIEF, "max_epochs": 1})
    with pytest.raises(ValueError, match="needs head='linear'"):
        convex.fit(X[:300], y[:300]).refit_head(X[:300], y[:300])


def test_no_two_prototypes_from_one_image(digits):
    X, y = (part[:60] for part in digits)
    for model in MODELS:
        settings = {"n_prototypes_per_class": 12, "max_epochs": 1}
        if "n_prototypes" in model.get_params():
            settings["n_prototypes"] = 48
        if "pretrain_epochs" in model.get_params():
            settings["pretrain_epochs"] = 0
        many = clone(model).set_params(**settings, project_prototypes=True)
        shared = many.fit(X, y).prototype_indices_
        assert len(np.unique(shared)) < len(shared)
        apart = clone(many).set_params(unique_sources=True).fit(X, y)
        assert_array_equal(apart.projection_distance_, 0.0)
        assert len(np.unique(apart.prototype_indices_)) == len(shared)
        if isinstance(model, LVQBaseClassifier):
            assert_array_equal(apart.prototype_sample_labels_, apart.prototype_labels_)
        again = clone(apart.project(X[:20], y[:20]))
        assert again.unique_sources


def test_the_activation_is_the_maximum_of_the_map(fitted, digits):
    X = digits[0][:10]
    maps = fitted.similarity_maps(X)
    assert maps.shape == (10, len(fitted.prototypes_), 4, 4)
    assert_allclose(maps.max(axis=(2, 3)), fitted.transform(X), rtol=1e-3, atol=1e-5)


def test_pickle(fitted, digits):
    again = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(again.predict_proba(digits[0]), fitted.predict_proba(digits[0]))


@pytest.mark.parametrize(
    "model",
    [
        CBCClassifier(kernel="channel_softmax", **BRIEF),
        RBFClassifier(kernel="channel_softmax", **BRIEF),
    ],
    ids=["CBC", "RBF"],
)
def test_channels_are_components(model, digits):
    X, y = digits
    model.fit(X[:300], y[:300])
    assert model.score(X[300:], y[300:]) > 0.7
    assert_array_equal(model.prototypes_, np.eye(32))
    with torch.inference_mode():
        x = torch.from_numpy(model._scaling.apply(X[:5][:, None]))
        shares = model._module.encoder(x).softmax(2)
    assert_allclose(model.transform(X[:5]), shares.amax(1), rtol=1e-4, atol=1e-6)
    model.explain(X[:3]).verify()


@pytest.mark.parametrize("cls", [CBCClassifier, RBFClassifier])
def test_channels_are_dropped_and_have_no_place_to_go(cls, digits):
    X, y = digits
    model = cls(kernel="channel_softmax", **BRIEF).fit(X[:300], y[:300])
    with pytest.raises(ValueError, match="project needs prototypes that have a place"):
        model.project(X[:300], y[:300])
    assert_array_equal(model.prototypes_, np.eye(32))
    before, maps = model.transform(X[:9]), model.similarity_maps(X[:9])
    table = model.coef_ if cls is RBFClassifier else model.component_prior_
    largest = np.sort(np.abs(table).max(axis=1))
    for n_left in (20, 7):
        model.prune(largest[32 - n_left])
        ids = model.prototype_ids_
        assert len(ids) <= 20
        assert_array_equal(model.prototypes_, np.eye(32)[ids])
        # The softmax is over all channels still.
        assert_allclose(model.transform(X[:9]), before[:, ids], rtol=1e-6)
        assert_allclose(model.similarity_maps(X[:9]), maps[:, ids], rtol=1e-5)
        model.explain(X[:3]).verify()
        again = pickle.loads(pickle.dumps(model))
        assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_channels_add_up_to_one_at_every_site():
    torch.manual_seed(0)
    network = RBFNetwork(3, 3, 2, "linear", channels=True).eval()
    z = torch.randn(5, 7, 3)
    maps = network.similarity_maps(z)
    assert_allclose(maps.sum(1).detach(), np.ones((5, 7)), rtol=1e-5)
    outputs = network(z)
    assert torch.equal(outputs["sites"], maps.argmax(2))


def test_channels_need_an_encoder_and_no_projection(digits):
    X, y = digits
    with pytest.raises(ValueError, match="encoder"):
        CBCClassifier(kernel="channel_softmax").fit(X.reshape(len(X), -1), y)
    model = CBCClassifier(kernel="channel_softmax", project_prototypes=True)
    with pytest.raises(ValueError, match="project_prototypes"):
        model.fit(X, y)
