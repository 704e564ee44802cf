"""ProtoPool end to end on small images: choices, sharing, projection, refit."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits

from skproto.networks import ProtoPoolClassifier
from skproto.networks._protopool import Hardening, choose
from skproto.nn import PartPrototypeNetwork
from skproto.nn.slot_losses import Mixup, MixupCrossEntropy

DIGITS, LABELS = load_digits(n_class=4, return_X_y=True)
IMAGES = DIGITS.reshape(-1, 8, 8)
X, Y = IMAGES[:240], LABELS[:240]
NEW, TRUE = IMAGES[240:400], LABELS[240:400]
NAMES = np.array(["zero", "one", "two", "three"])


def make(**parameters):
    settings = {"max_epochs": 12, "batch_size": 32, "random_state": 0, **parameters}
    return ProtoPoolClassifier(**settings)


@pytest.fixture(scope="module")
def model():
    return make().fit(X, NAMES[Y])


def changeable(model):
    return copy.deepcopy(model)


def test_learns_digits_with_fewer_prototypes_than_slots(model):
    assert model.score(NEW, NAMES[TRUE]) >= 0.93
    assert len(model.prototypes_) <= 12
    assert model.slots_.shape == (4, 3)


def test_slots_and_owners_tell_the_same(model):
    owners = np.zeros((len(model.prototypes_), 4), dtype=bool)
    for code, slots in enumerate(model.slots_):
        owners[slots[slots >= 0], code] = True
    np.testing.assert_array_equal(owners, model.prototype_owners_)
    assert owners.any(axis=1).all()
    assert owners.any(axis=0).all()
    labels = np.searchsorted(model.classes_, model.prototype_labels_)
    assert owners[np.arange(len(owners)), labels].all()


def test_projection_is_linked_to_the_classes_that_chose(model):
    codes = np.searchsorted(model.classes_, NAMES[Y][model.prototype_indices_])
    assert model.prototype_owners_[np.arange(len(codes)), codes].all()
    assert (model.projection_distance_ == 0).all()
    own = model.explain(model.prototype_samples_)
    # The source of a prototype shows it exactly.
    np.testing.assert_array_equal(np.diag(own.distances), 0.0)
    np.testing.assert_array_equal(np.diag(own.places.sites), model.prototype_sites_)
    assert np.abs(np.diff(model.projection_accuracy_)) <= 0.05


def test_places_and_patches(model):
    images = X[model.prototype_indices_]
    for i, (top, left, bottom, right) in enumerate(model.prototype_boxes_):
        patch = images[i][None, top:bottom, left:right]
        np.testing.assert_array_equal(model.prototype_patches_[i], patch)
    maps = model.similarity_maps(NEW[:3])
    assert maps.shape == (3, len(model.prototypes_), 4, 4)


def test_evidence_is_what_was_computed(model):
    shown = model.explain(NEW)
    shown.verify()
    total = shown.contributions.sum(axis=1) + shown.bias
    np.testing.assert_allclose(total, model.decision_function(NEW), rtol=1e-5)
    focal = shown.similarities[:, :, None] * model.class_weights_
    np.testing.assert_allclose(shown.contributions, focal, rtol=1e-6)
    assert shown.places.images.shape[0] == len(NEW)
    assert str(model.explain_global())


def test_two_classes():
    two = Y < 2
    model = make(max_epochs=6).fit(X[two], Y[two])
    shown = model.explain(X[two][:9])
    shown.verify()
    assert model.decision_function(X[two][:9]).shape == (9,)
    assert shown.contributions.shape == (9, len(model.prototypes_))


def test_a_shared_prototype_adds_its_slots_up():
    net = PartPrototypeNetwork(
        2,
        2,
        2,
        similarity="log_l2",
        head="slots",
        shared=True,
        head_options={"n_slots": 2, "focal": False},
    )
    with torch.no_grad():
        logits = [[[5.0, 0.0], [4.0, 0.0]], [[3.0, 0.0], [0.0, 3.0]]]
        net.head.logits.copy_(torch.tensor(logits))
        choose(net)
        weights, _ = net.head.tables()
    assert weights.tolist() == [[2.0, 1.0], [0.0, 1.0]]
    assert net.ownership.tolist() == [[True, True], [False, True]]


def test_the_choice_is_the_largest_logit_and_not_a_draw(model):
    head = model._module.head
    torch.manual_seed(1)
    before = head.logits.argmax(2).flatten()
    np.testing.assert_array_equal(head.chosen.int().argmax(1), before)
    again = make().fit(X, NAMES[Y])
    np.testing.assert_array_equal(again.slots_, model.slots_)


class Head:
    scale = -1.0


class Net:
    def __init__(self, n_epochs):
        self.history = [None] * n_epochs
        self.module_ = type("Module", (), {"head": Head()})()


def test_schedule_of_the_choice():
    hardening = Hardening(30, 1000.0)
    found = []
    for epoch in (1, 2, 31, 90):
        net = Net(epoch)
        hardening.on_epoch_begin(net)
        found.append(net.module_.head.scale)
    assert found == pytest.approx([0.0, 1000 / 30**0.5, 1000.0, 1000.0])


@pytest.mark.parametrize(
    ("epochs", "asked", "expected"), [(25, "auto", 15), (200, "auto", 30), (25, 7, 7)]
)
def test_epochs_of_the_choice(epochs, asked, expected):
    model = make(gumbel_epochs=asked)
    model.max_epochs_ = epochs
    assert model._gumbel_epochs() == expected


def test_what_moves_when():
    settings = {"warm_epochs": 2, "head_solver": "adam", "head_epochs": 2}
    model = make(max_epochs=4, pretrain_epochs=0, **settings)
    model.fit(X[:60], Y[:60])
    phases = model.history_["phase"].tolist()
    assert phases == ["warm-up"] * 2 + ["joint"] * 2 + ["last layer"] * 2
    by_name = {phase.name: phase.trainable for phase in model._phases()}
    assert by_name["warm-up"] == ("encoder.add_on", "prototypes", "head.logits")
    assert set(by_name["joint"]) >= {"encoder", "prototypes", "head.logits"}
    assert by_name["last layer"] == ("head.weight",)
    # The penalty of weights that do not move is that of the start.
    joint = model.history_["off_class_l1"][:4]
    assert (joint == 0).all()


def test_terms_and_their_weights():
    weights = {term.name: term.weight for term in make()._loss_terms()}
    assert weights == {
        "cross_entropy": 1.0,
        "cluster": 0.8,
        "separation": 0.08,
        "slot_orthogonality": 1.0,
        "off_class_l1": 1e-4,
    }
    fewer = make(cluster_weight=0, separation_weight=0, orthogonality_weight=0, l1=0)
    assert [term.name for term in fewer._loss_terms()] == ["cross_entropy"]


def test_weights_of_other_classes_start_at_zero():
    model = make(max_epochs=2, head_solver=None).fit(X, Y)
    assert (model.class_weights_[~model.prototype_owners_] == 0).all()
    assert (model.class_weights_[model.prototype_owners_] >= 1).all()


def test_the_refit_lowers_the_loss():
    plain = make(max_epochs=3, head_solver=None).fit(X, Y)
    solved = make(max_epochs=3).fit(X, Y)
    np.testing.assert_array_equal(plain.prototypes_, solved.prototypes_)

    def loss(model):
        proba = model.predict_proba(X)
        return -np.log(proba[np.arange(len(Y)), Y]).mean()

    assert loss(solved) <= loss(plain)
    assert loss(plain.refit_head(X, Y)) == pytest.approx(loss(solved), rel=1e-3)


def test_mixup_mixes_in_training_only():
    mixed = make(mixup=0.5, max_epochs=8).fit(X, Y)
    assert mixed.score(NEW, TRUE) >= 0.7
    assert "_mixing" not in vars(mixed)
    mixed._mixing = Mixup(0.5)
    assert isinstance(mixed._loss_terms()[0], MixupCrossEntropy)
    assert mixed._augmentation() is mixed._mixing
    plain = make(max_epochs=8).fit(X, Y)
    assert (
        mixed.history_["cross_entropy"].iloc[-1]
        > (plain.history_["cross_entropy"].iloc[-1])
    )


def test_projecting_again_changes_nothing(model):
    again = changeable(model).project(X, NAMES[Y])
    np.testing.assert_array_equal(again.prototypes_, model.prototypes_)
    np.testing.assert_array_equal(again.prototype_indices_, model.prototype_indices_)
    np.testing.assert_array_equal(again.predict_proba(NEW), model.predict_proba(NEW))


def test_pruning_keeps_slots_in_order(model):
    pruned = changeable(model).prune(X, NAMES[Y], 30)
    kept = np.flatnonzero(np.isin(model.prototype_ids_, pruned.prototype_ids_))
    assert pruned.slots_.max() < len(kept) == len(pruned.prototypes_)
    position = np.full(len(model.prototypes_) + 1, -1)
    position[kept] = np.arange(len(kept))
    np.testing.assert_array_equal(pruned.slots_, position[model.slots_])
    assert pruned.prototype_owners_.any(axis=0).all()
    pruned.explain(NEW[:5]).verify()


def test_pickle_and_clone(model):
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(NEW), model.predict_proba(NEW))
    again.explain(NEW[:3]).verify()
    again.refit_head(X, NAMES[Y])
    unfitted = clone(model)
    assert not [name for name in vars(unfitted) if name.endswith("_")]


def test_warm_start_keeps_the_choices():
    model = make(warm_start=True, max_epochs=3).fit(X, Y)
    slots = model.slots_
    model.fit(X, Y)
    np.testing.assert_array_equal(model.slots_, slots)
    assert model.n_iter_ == 6


def test_rows_and_tokens():
    table = make().fit(DIGITS[:240], Y)
    assert table.pooling_ == "max"
    assert table.score(DIGITS[240:400], TRUE) >= 0.85
    table.explain(DIGITS[240:250]).verify()
    tokens = X.reshape(240, 8, 8)
    model = make(encoder="tokens", max_epochs=3).fit(tokens, Y)
    assert model.pooling_ == "focal"
    model.explain(tokens[:5]).verify()


def test_flattened_images_equal_images():
    flat = make(image_shape=(8, 8), max_epochs=2).fit(X.reshape(240, 64), Y)
    whole = make(max_epochs=2).fit(X, Y)
    np.testing.assert_array_equal(
        flat.predict_proba(NEW.reshape(-1, 64)), whole.predict_proba(NEW)
    )


def test_one_site_cannot_stand_out():
    with pytest.raises(ValueError, match=r"focal.*pooling='max'"):
        make(pooling="focal").fit(DIGITS[:60], Y[:60])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_prototypes": 2}, "n_prototypes must be at least n_slots.*Got.*2"),
        ({"n_slots": 0}, "'n_slots' parameter"),
        ({"similarity": "radius"}, "'similarity' parameter"),
        ({"gumbel_epochs": 0}, "'gumbel_epochs' parameter"),
        ({"mixup": 0.0}, "'mixup' parameter"),
        ({"pooling": "mean"}, "'pooling' parameter"),
        ({"solver": "lbfgs"}, "'solver' parameter"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        make(**parameters).fit(X[:40], Y[:40])


def test_project_needs_the_classes(model):
    only = NAMES[Y] == "zero"
    with pytest.raises(ValueError, match="y must hold samples of every class"):
        changeable(model).project(X[only], NAMES[Y][only])
    with pytest.raises(ValueError, match="not seen in fit"):
        changeable(model).refit_head(X[:2], ["zero", "nine"])
