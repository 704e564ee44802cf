"""Deformable ProtoPNet: parts that move, with places of their own."""

import pickle
import re

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits, load_iris

from skproto import DeformableProtoPNetClassifier
from skproto.nn.deformable_losses import PartOrthogonality

N_TRAIN = 240


@pytest.fixture(scope="module")
def train():
    X, y = load_digits(n_class=4, return_X_y=True)
    return X[:N_TRAIN].reshape(-1, 8, 8), y[:N_TRAIN]


def brief(*args, **settings):
    settings = {"max_epochs": 4, "random_state": 0, **settings}
    return DeformableProtoPNetClassifier(*args, **settings)


@pytest.fixture(scope="module")
def fitted(train):
    return brief(2, max_epochs=8, offset_weight=0.01).fit(*train)


def test_projected_prototypes_reach_the_maximum_on_their_source(fitted, train):
    X, y = train
    assert fitted.score(X, y) > 0.9
    assert_array_equal(fitted.projection_distance_, 0)
    assert_array_equal(y[fitted.prototype_indices_], fitted.prototype_labels_)
    own = fitted.transform(X[fitted.prototype_indices_]).diagonal()
    assert_array_equal(own, 10.0)
    assert fitted.transform(X).max() <= 10.0
    fitted.explain(X[fitted.prototype_indices_]).verify()


def test_a_second_projection_changes_nothing(fitted, train):
    again = pickle.loads(pickle.dumps(fitted)).project(*train)
    assert_array_equal(again.prototypes_, fitted.prototypes_)
    assert_array_equal(again.prototype_boxes_, fitted.prototype_boxes_)
    assert_array_equal(again.predict_proba(train[0]), fitted.predict_proba(train[0]))


def test_parts_have_sites_boxes_and_patches(fitted, train):
    X, _ = train
    assert fitted.part_grid_ == 3
    assert fitted.prototypes_.shape[:2] == (8, 9)
    assert fitted.prototype_sites_.shape == (8, 9)
    assert fitted.prototype_boxes_.shape == (8, 9, 4)
    boxes = fitted.prototype_boxes_
    assert (boxes[..., 2:] > boxes[..., :2]).all()
    assert boxes.min() >= 0
    assert boxes.max() <= 8
    for p, row in enumerate(fitted.prototype_indices_):
        for patch, (top, left, bottom, right) in zip(
            fitted.prototype_patches_[p], boxes[p], strict=True
        ):
            assert_array_equal(patch, X[row][None, top:bottom, left:right])


def test_receptive_fields_of_parts(fitted, train):
    case = fitted.explain(train[0][:2])
    own, here = case.prototypes.places, case.places
    assert own.effective_boxes.shape == own.boxes.shape
    assert np.isfinite(own.effective_boxes).all()
    known = np.isfinite(here.effective_boxes).all(axis=(2, 3))
    assert known.any(axis=1).all()
    # What a part depends on reaches beyond its cell and holds it nearly always.
    inside = here.effective_boxes[known][..., 0] <= here.boxes[known][..., 0] + 1
    assert inside.mean() > 0.8
    case.verify()


def test_parts_add_up_to_the_similarity(fitted, train):
    shown = fitted.explain(train[0][:20])
    shown.verify()
    assert shown.places.sites.shape == (20, 8, 9)
    total = shown.places.part_similarities.sum(axis=2)
    assert_allclose(total, shown.similarities, rtol=1e-5, atol=1e-5)
    alike = shown.places.part_similarities[0]
    named = re.findall(r"most alike\s+part (\d) .*?least\s+part (\d)", str(shown[0]))
    ends = np.stack([alike.argmax(axis=1), alike.argmin(axis=1)], axis=1) + 1
    assert named
    assert {(int(most), int(least)) for most, least in named} <= {*map(tuple, ends)}
    assert shown.places.maps.shape == (20, 8, 4, 4)
    highest = shown.places.maps.max(axis=(2, 3))
    assert_allclose(highest, shown.similarities, atol=1e-4)


def test_the_offsets_learn_from_their_penalty(train):
    """The code published with the paper computes it without a gradient."""
    far = brief(2, offset_weight=0.0, lr=0.02, still_epochs=0).fit(*train)
    near = brief(2, offset_weight=50.0, lr=0.02, still_epochs=0).fit(*train)

    def spread(model):
        with torch.inference_mode():
            x = torch.from_numpy(model._scaling.apply(train[0][:, None]))
            return float(model._module(x)["displacement"].mean())

    assert 0 < spread(near) < 0.5 * spread(far)


def test_orthogonality_does_not_mix_classes(fitted):
    """The published code takes class-ordered prototypes for the other order."""
    p = fitted.prototypes_.reshape(4, 2 * 9, -1) / 3
    gram = p @ p.transpose(0, 2, 1) - np.eye(18) / 9
    value = float(PartOrthogonality()({}, None, fitted._module).detach())
    assert_allclose(value, np.square(gram).sum(), rtol=1e-4)


def test_phases_follow_the_paper(train):
    model = brief(2, max_epochs=6, warm_epochs=1, still_epochs=3, project_every=2)
    model.fit(*train)
    assert (
        model.history_.phase.tolist()
        == ["pretraining", "warm-up"] + ["parts on their grid"] * 2 + ["joint"] * 3
    )
    still = brief(2, max_epochs=3, still_epochs=9).fit(*train)
    assert all((w == 0).all() for w in still._module.offset_net.parameters())
    steps = np.diff(still.prototype_sites_[:, :3], axis=1)
    assert set(steps.ravel().tolist()) <= {0, 1}


def test_terms():
    names = {term.name: term.weight for term in brief()._loss_terms()}
    assert names == {
        "cross_entropy": 1.0,
        "cluster": 0.8,
        "separation": 0.08,
        "part_orthogonality": 0.1,
        "offsets": 0.8,
        "off_class_l1": 0.01,
    }


def test_prune_and_removal(fitted, train):
    X, y = train
    model = pickle.loads(pickle.dumps(fitted))
    shown = model.explain(X)
    model.remove_prototypes(3)
    left = shown.contributions.sum(axis=1) - shown.contributions[:, 3]
    assert_allclose(model.decision_function(X), left, rtol=1e-5, atol=1e-5)
    assert len(model.prototype_patches_) == 7
    model.prune(X, y).explain(X[:3]).verify()


def test_tables_have_one_part():
    X, y = load_iris(return_X_y=True)
    model = brief(max_epochs=40, lr=0.02, batch_size=16).fit(X, y)
    assert model.part_grid_ == 1
    assert model.score(X, y) > 0.9
    assert_array_equal(model.prototype_sites_, 0)
    model.explain(X[:4]).verify()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"part_grid": 5}, r"span 5 sites.*grid is \(4, 4\)"),
        ({"part_grid": 3, "dilation": 2}, "span 5 sites"),
        ({"part_grid": 0}, "'part_grid' parameter"),
        ({"angular_margin": 2.0}, "'angular_margin' parameter"),
        ({"top_k": 17}, r"number of centres, 16\. Got 17"),
    ],
)
def test_bad_settings_are_named_before_training(train, settings, message):
    with pytest.raises(ValueError, match=message):
        brief(**settings).fit(*train)


def test_tokens_have_no_grid():
    X = np.random.RandomState(0).normal(size=(20, 5, 4))
    with pytest.raises(ValueError, match="sites lie on a grid"):
        brief(encoder="tokens").fit(X, np.arange(20) % 2)
