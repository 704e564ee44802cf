"""Prototype trees on images: sites, places, one leaf, the schedule of the paper."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits
from skorch.callbacks import Callback
from torch import nn

from skproto._provenance import image_hash
from skproto.trees import ProtoTreeClassifier, ProtoTreeEnsembleClassifier

DIGITS, LABELS = load_digits(n_class=4, return_X_y=True)
IMAGES = DIGITS.reshape(-1, 8, 8)
X, Y = IMAGES[:240], LABELS[:240]
NEW, TRUE = IMAGES[240:480], LABELS[240:480]

# The paper's settings, with its numbers of epochs and dimensions made small.
PAPER = {
    "similarity": "exp",
    "feature_weights": False,
    "leaf_update": "softmax",
    "init": "normal",
    "adjust_epochs": 0,
    "split_leaves": False,
    "refit_passes": 0,
    "pretrain_epochs": 0,
    "schedule": "step",
    "lr": 1e-3,
    "encoder_lr": 1e-5,
}


class Body(nn.Module):
    """A small encoder, as one that was trained before."""

    def __init__(self, shape=(1, 8, 8)):
        super().__init__()
        self.layer = nn.Conv2d(shape[0], 6, 2, stride=2)

    def forward(self, x):
        return self.layer(x).relu()


def small(**settings):
    settings = {"depth": 3, "max_epochs": 12, "random_state": 0, **settings}
    return ProtoTreeClassifier(**settings)


@pytest.fixture(scope="module")
def fitted():
    return small(max_epochs=24).fit(X, Y)


def rates_of(phase):
    return phase.lr, dict(phase.group_lr)


def phases_of(**settings):
    """Phases of a tree on images, without a fit."""
    model = small(**settings)
    model._input_shape = (1, 8, 8)
    model.encoder_, model.solver_ = model.encoder, "adam"
    model.max_epochs_ = model.max_epochs
    return {phase.name: phase for phase in model._phases()}


def test_sites_lie_between_0_and_1(fitted):
    assert fitted.score(NEW, TRUE) > 0.8
    with torch.no_grad():
        z = fitted._module.encoder(torch.randn(5, 1, 8, 8) * 3)
    assert z.shape == (5, 16, 32)
    assert 0 < z.min() < z.max() < 1
    layers = list(fitted._module.encoder.add_on)
    assert [type(layer).__name__ for layer in layers] == ["Linear", "Sigmoid"]
    assert layers[0].bias is None
    plain = small(prototype_dim=None, max_epochs=2).fit(X, Y)
    assert plain._module.encoder.add_on is None
    narrow = small(prototype_dim=5, max_epochs=2).fit(X, Y)
    assert narrow.prototypes_.shape[1] == 5


def test_prototypes_are_the_nearest_sites_of_the_classes_below(fitted):
    learned = small(project_prototypes=False, prune_threshold=0.0, adjust_epochs=0)
    learned = learned.fit(X, Y)
    model = pickle.loads(pickle.dumps(learned)).project(X, Y)
    with torch.no_grad():
        x = torch.from_numpy(model._scaling.apply(X[:, None]).astype(np.float32))
        z = model._module.encoder(x).double().numpy()
    inner = np.flatnonzero(model.tree_.prototype >= 0)
    sets = learned.explain_global().class_sets
    for n, node in enumerate(inner):
        apart = np.square(z - learned.prototypes_[n]).sum(axis=2)
        allowed = np.isin(Y, np.sort([*sets[node]]))
        apart[~allowed] = np.inf
        row, site = np.unravel_index(apart.argmin(), apart.shape)
        assert (row, site) == (model.prototype_indices_[n], model.prototype_sites_[n])
        assert_allclose(model.prototypes_[n], z[row, site], atol=1e-6)
    own = np.arange(len(inner))
    assert (model.projection_distance_ == 0).all()
    assert (model.transform(X)[model.prototype_indices_, own] == 1).all()


def test_places_and_maps(fitted):
    for p, row in enumerate(fitted.prototype_indices_):
        top, left, bottom, right = fitted.prototype_boxes_[p]
        site = fitted.prototype_sites_[p]
        assert (top, left) == (site // 4 * 2, site % 4 * 2)
        patch = X[row][None, top:bottom, left:right]
        assert_array_equal(fitted.prototype_patches_[p], patch)
        assert fitted.prototype_hashes_[p] == image_hash(X[row][None])
    maps = fitted.similarity_maps(NEW[:6])
    assert maps.shape == (6, len(fitted.prototypes_), 4, 4)
    assert_allclose(maps.max(axis=(2, 3)), fitted.transform(NEW[:6]), atol=1e-6)
    case = fitted.explain(NEW[:6])
    case.verify()
    flat = maps.reshape(6, -1, 16)
    assert_array_equal(case.places.sites, flat.argmax(axis=2))


def test_projection_sees_images_as_they_are():
    settings = {"refit_passes": 0, "prune_threshold": 0.0, "max_epochs": 4}
    model = small(augment=lambda batch: batch - 9.0, **settings).fit(X, Y)
    assert (model.projection_distance_ == 0).all()
    again = pickle.loads(pickle.dumps(model.set_params(augment=None))).project(X, Y)
    assert_array_equal(again.prototypes_, model.prototypes_)
    assert_array_equal(again.prototype_indices_, model.prototype_indices_)


def test_no_two_prototypes_from_one_image():
    settings = {"depth": 4, "prune_threshold": 0.0, "max_epochs": 4}
    X_few, y_few = X[:40], Y[:40]
    shared = small(**settings).fit(X_few, y_few)
    assert len(np.unique(shared.prototype_indices_)) < 15
    apart = small(**settings, unique_sources=True).fit(X_few, y_few)
    assert len(np.unique(apart.prototype_indices_)) == 15
    assert (apart.projection_distance_ == 0).all()
    own = np.arange(15)
    assert (apart.transform(X_few)[apart.prototype_indices_, own] == 1).all()
    apart.explain(NEW[:3]).verify()
    learned = small(**settings, project_prototypes=False, unique_sources=True)
    learned.fit(X_few, y_few).project(X_few, y_few)
    assert len(np.unique(learned.prototype_indices_)) == 15
    sets = learned.explain_global().class_sets
    inner = np.flatnonzero(learned.tree_.prototype >= 0)
    for node, row in zip(inner, learned.prototype_indices_, strict=True):
        assert y_few[row] in sets[node]


def test_a_tree_of_one_leaf_explains_itself():
    pytest.importorskip("matplotlib", reason="pictures need matplotlib").use("agg")
    model = small(max_epochs=1, adjust_epochs=0).fit(X, Y)
    with pytest.warns(UserWarning, match="only the best leaf"):
        model.prune(1.0)
    case = model.explain(NEW[:3])
    case.verify()
    assert case.places.effective_boxes.shape == (3, 0, 4)
    assert case.plot() is not None
    assert model.explain_global().plot() is not None
    assert model.similarity_maps(NEW[:3]).shape == (3, 0, 4, 4)
    assert "<" in case._repr_html_()
    assert len(str(case)) > 0


def test_the_schedule_of_the_paper():
    settings = {**PAPER, "encoder": Body, "max_epochs": 100, "warmup_epochs": 30}
    phases = phases_of(**settings)
    assert list(phases) == ["warm-up", "joint"]
    warm, joint = phases["warm-up"], phases["joint"]
    assert (warm.max_epochs, joint.max_epochs) == (30, 70)
    # The body stands still first, and is slow then; the new layer never is.
    assert "encoder.add_on" in warm.trainable
    assert not any("encoder.body".startswith(name) for name in warm.trainable)
    rates = {"encoder": 1e-5, "encoder.add_on": 1e-3}
    assert rates_of(joint) == (1e-3, rates)
    (scheduler,) = (c for c in joint.callbacks if hasattr(c, "policy"))
    assert scheduler.kwargs["gamma"] == 0.5
    assert scheduler.event_name is None  # or the history has a column of it
    # After 60, 70, 80 and 90 of the 100 epochs.
    assert scheduler.kwargs["milestones"] == [30, 40, 50, 60]


def test_rates_of_an_encoder_that_starts_from_random_weights():
    lr, rates = rates_of(phases_of()["joint"])
    assert (lr, rates) == (0.02, {"encoder": 0.005, "encoder.add_on": 0.005})
    _, rates = rates_of(phases_of(encoder_lr=0.01)["joint"])
    assert rates == {"encoder": 0.01, "encoder.add_on": 0.01}
    late = phases_of(schedule="step", warmup_epochs=10, adjust_epochs=0)["joint"]
    assert late.callbacks[0].kwargs["milestones"] == [0, 0, 0, 1]


def test_adamw_decays_nothing_that_was_not_asked_for():
    seen = set()

    class Look(Callback):
        def on_batch_end(self, net, **kwargs):
            seen.update(group["weight_decay"] for group in net.optimizer_.param_groups)

    common = {"solver": "adamw", "max_epochs": 2, "warmup_epochs": 1}
    small(net_params={"callbacks": [Look()]}, **common).fit(X, Y)
    assert seen == {0.0}


def test_settings_of_the_paper_fit():
    body = Body()
    warm = {"encoder": body, "max_epochs": 6, "warmup_epochs": 6}
    model = small(**{**PAPER, **warm}, prototype_dim=8)
    model.fit(X, Y)
    assert model.history_["phase"].tolist() == ["warm-up"] * 6
    module = model._module
    assert torch.equal(module.encoder.body.layer.weight, body.layer.weight)
    torch.manual_seed(0)
    assert_allclose(model.radii_, np.log(2))
    assert_allclose(model.feature_weights_, 1.0)
    model.explain(NEW[:5]).verify()
    still = clone(model).set_params(max_epochs=0).fit(X, Y)._module.encoder.add_on[0]
    assert not torch.equal(module.encoder.add_on[0].weight, still.weight)


def test_a_frozen_encoder_keeps_its_body_and_learns_the_layer_before_the_tree():
    body = Body()
    model = small(encoder=body, frozen=True, max_epochs=2).fit(X, Y)
    encoder = model._module.encoder
    assert torch.equal(encoder.body.layer.weight, body.layer.weight)
    model.explain(NEW[:3]).verify()


def test_an_ensemble_of_image_trees():
    forest = ProtoTreeEnsembleClassifier(small(), 2, random_state=0).fit(X, Y)
    trees = [tree.predict_proba(NEW) for tree in forest.estimators_]
    assert_allclose(forest.predict_proba(NEW), np.mean(trees, axis=0))
    n_prototypes = len(forest.prototypes_)
    assert len(forest.prototype_patches_) == n_prototypes
    assert forest.similarity_maps(NEW[:2]).shape == (2, n_prototypes, 4, 4)
    forest.explain(NEW[:4]).verify()
