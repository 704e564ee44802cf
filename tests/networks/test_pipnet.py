"""PIP-Net end to end on small images: schedules, abstention, what never changes."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits

from skproto.explanation._presence import presence_margin, presence_probabilities
from skproto.networks import PIPNetClassifier
from skproto.networks._pipnet import TermWeights, class_thresholds
from skproto.nn import Augmentation
from skproto.nn.noise import FeatureNoise

DIGITS, LABELS = load_digits(n_class=4, return_X_y=True)
IMAGES = DIGITS.reshape(-1, 8, 8)
X, Y = IMAGES[:240], LABELS[:240]
NEW, TRUE = IMAGES[240:400], LABELS[240:400]
NAMES = np.array(["zero", "one", "two", "three"])


def make(**parameters):
    settings = {"max_epochs": 30, "batch_size": 32, "random_state": 0, **parameters}
    return PIPNetClassifier(**settings)


@pytest.fixture(scope="module")
def model():
    return make().fit(X, NAMES[Y])


@pytest.fixture(scope="module")
def silent(model):
    """A model that finds nothing in some samples: its threshold is high."""
    changed = copy.deepcopy(model)
    presences = changed._forward(changed._check_input(NEW), ("presences",))
    top = presences["presences"].max(axis=1)
    changed._module.threshold = float(np.median(top))
    changed._module.config["threshold"] = changed._module.threshold
    changed.abstain_thresholds_ = np.zeros(4)
    return changed


def state(model):
    return {k: v.clone() for k, v in model.net_.module_.state_dict().items()}


def test_learns_digits(model):
    assert model.score(NEW, NAMES[TRUE]) >= 0.9
    assert len(model.prototypes_) <= 32


def test_evidence_is_what_was_computed(model):
    shown = model.explain(NEW)
    shown.verify()
    total = shown.contributions.sum(axis=1) + shown.bias
    np.testing.assert_allclose(total, model.decision_function(NEW), rtol=1e-5)
    assert (shown.class_bias == 0).all()
    product = model.transform(NEW)[:, :, None] * model.class_weights_
    np.testing.assert_allclose(shown.class_contributions, product, rtol=1e-6)
    assert (model.class_weights_ >= 0).all()


def test_probabilities_are_those_of_the_sheet(model):
    scores = np.array([[3.0, 1.0]])
    assert presence_probabilities(scores)[0] == pytest.approx(
        [0.8333, 0.1667], abs=5e-5
    )
    scores = model.decision_function(NEW)
    logits = np.log1p(scores**2)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(NEW), expected, rtol=1e-10)
    huge = presence_probabilities(np.array([[1e200, 1e200, 0.0]]))
    np.testing.assert_allclose(huge, [[0.5, 0.5, 0.0]])


def test_decision_of_two_classes_is_the_lead_in_probability():
    two = Y < 2
    model = make(max_epochs=15).fit(X[two], Y[two])
    decision, proba = model.decision_function(NEW), model.predict_proba(NEW)
    np.testing.assert_allclose(decision, proba[:, 1] - proba[:, 0], atol=1e-12)
    shown = model.explain(NEW)
    shown.verify()
    np.testing.assert_allclose(shown.contributions.sum(axis=1), decision, atol=1e-6)
    assert np.isfinite(presence_margin(np.array([[0.0, 0.0], [1e200, 1.0]]))).all()


def test_evaluating_never_changes_weights(model):
    before = state(model)
    first = model.predict_proba(NEW)
    model.score(NEW, NAMES[TRUE])
    model.explain(NEW).verify()
    model.net_.evaluation_step((torch.zeros(2, 1, 8, 8), None))
    second = model.predict_proba(NEW)
    after = state(model)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    np.testing.assert_array_equal(first, second)


def test_abstention(silent):
    abstains = silent.abstains(NEW)
    assert abstains.dtype == bool
    assert abstains.any()
    assert not abstains.all()
    scores = silent.decision_function(NEW)
    np.testing.assert_array_equal(abstains, (scores == 0).all(axis=1))
    most_frequent = silent.classes_[
        np.bincount(np.unique(NAMES[Y], return_inverse=True)[1]).argmax()
    ]
    assert set(silent.predict(NEW)[abstains]) == {most_frequent}
    answered = silent.predict(NEW, abstain="unknown")
    np.testing.assert_array_equal(answered == "unknown", abstains)
    np.testing.assert_array_equal(answered[~abstains], silent.predict(NEW)[~abstains])
    np.testing.assert_allclose(silent.predict_proba(NEW)[abstains], 0.25)


def test_abstention_is_explained(silent):
    abstains = silent.abstains(NEW)
    shown = silent.explain(NEW[abstains])
    shown.verify()
    assert shown.abstains.all()
    assert (shown.contributions == 0).all()
    assert "abstains: no prototype of any class was found" in str(shown)
    assert "for want of evidence" in str(shown)
    assert not silent.explain(NEW[~abstains]).abstains.any()


def test_thresholds_keep_the_training_samples(model):
    scores = model.decision_function(X)
    codes, best = scores.argmax(axis=1), scores.max(axis=1)
    low = best < model.abstain_thresholds_[codes]
    np.testing.assert_array_equal(model.abstains(X), low)
    assert not low.any()  # one percent of sixty
    strict = class_thresholds(scores, 0.1)
    low = best < strict[codes]
    assert low.any()
    for code in range(4):
        assert low[codes == code].mean() <= 0.1
    never = make(abstain_share=0, max_epochs=2).fit(X, Y)
    assert (never.abstain_thresholds_ == 0).all()
    assert class_thresholds(np.array([[0.0, 0.0]]), 0.05).tolist() == [0.0, 0.0]
    known = class_thresholds(np.array([[2.0, 0.0], [4.0, 0.0]]), 0.5)
    assert known.tolist() == [2.0, 2.0]


def test_abstains_from_noise(model):
    noise = np.random.RandomState(0).uniform(0, 16, size=(200, 8, 8))
    assert model.abstains(noise).mean() >= 0.5
    assert model.abstains(NEW).mean() <= 0.35
    shown = model.explain(noise[model.abstains(noise)][:3])
    assert shown.abstains.all()
    assert "abstains: score" in str(shown)
    assert "that is usual for it" in str(shown)
    shown.verify()


@pytest.mark.parametrize(
    ("labels", "value", "kind"),
    [
        (np.arange(4), -1, "i"),
        (np.arange(4), np.nan, "f"),
        (np.arange(4), "unknown", "O"),
        (NAMES, -1, "O"),
        (NAMES, "a much longer name than any class has", "U"),
    ],
)
def test_type_of_an_abstention(silent, labels, value, kind):
    changed = copy.copy(silent)
    changed.classes_ = labels
    answered = changed.predict(NEW, abstain=value)
    assert answered.dtype.kind == kind
    told = answered[silent.abstains(NEW)].tolist()
    assert all(answer == value or answer != answer for answer in told)


def test_prior_is_weighted():
    weight = np.where(Y == 2, 5.0, 1.0)
    model = make(max_epochs=2).fit(X, Y, sample_weight=weight)
    share = np.array([weight[c == Y].sum() for c in range(4)])
    np.testing.assert_allclose(model.class_prior_, share / share.sum())
    model._module.threshold = 1.1
    model.abstain_thresholds_[:] = 0
    assert set(model.predict(NEW)) == {2}
    assert model.abstains(NEW).all()


def test_phases():
    model = make(max_epochs=10, view_epochs=4, head_epochs=2)
    model.fit(X[:64], Y[:64])
    names = ["pretraining"] * 4 + ["head"] * 2 + ["all"] * 4
    assert model.history_["phase"].tolist() == names
    phases = {phase.name: phase for phase in model._phases()}
    assert phases["pretraining"].trainable == ("encoder", "channels")
    assert phases["head"].trainable == ("head",)
    assert phases["all"].trainable == ("encoder", "channels", "head")
    rates = phases["all"].group_lr
    assert (rates["head"], rates["encoder"], phases["all"].lr) == (0.05, 0.01, 0.01)


def test_pretraining_leaves_the_head_and_knows_no_classes():
    settings = {"max_epochs": 3, "view_epochs": 3, "prune_threshold": None}
    first = make(**settings).fit(X, Y)
    other = make(**settings).fit(X, (Y + 1) % 4)
    weights = first.class_weights_
    assert abs(weights.mean() - 1) < 0.05
    assert 0.05 < weights.std() < 0.15
    np.testing.assert_array_equal(first.transform(NEW), other.transform(NEW))


class Recorder:
    def __init__(self, model):
        self.terms = model._loss_terms()
        self.criterion_ = self

    def weights(self, callback):
        callback.on_epoch_begin(self)
        return {term.name: term.weight for term in self.terms}


def weights_of(model, phase):
    found = [p for p in model._phases() if p.name == phase]
    (callback,) = (c for c in found[0].callbacks if isinstance(c, TermWeights))
    recorder = Recorder(model)
    callback.on_train_begin(recorder)
    return [recorder.weights(callback) for _ in range(found[0].max_epochs)]


def test_weights_of_the_terms():
    model = make(agreement_weight=5.0, view_epochs=4)
    model.max_epochs_, model.solver_, model.encoder_ = 10, "adam", "conv"
    first = weights_of(model, "pretraining")
    assert [w["alignment"] for w in first] == [0.25, 0.5, 0.75, 1.0]
    assert {w["presence"] for w in first} == {5.0}
    assert {w["class"] for w in first} == {0.0}
    expected = {"alignment": 5.0, "presence": 2.0, "class": 2.0}
    assert all(w == expected for w in weights_of(model, "all"))
    assert all(w == expected for w in weights_of(model, "head"))


def test_the_head_alone_learns_the_classes():
    settings = {"view_epochs": 3, "prune_threshold": None, "shrink": 0.0}
    before = make(max_epochs=3, head_epochs=0, **settings).fit(X, Y)
    after = make(max_epochs=9, head_epochs=6, **settings).fit(X, Y)
    assert after.history_["phase"].tolist() == ["pretraining"] * 3 + ["head"] * 6
    for name, value in before._module.named_parameters():
        still = torch.equal(value, after._module.get_parameter(name))
        assert still == (name != "head.weight")
    moved = after.class_weights_ - before.class_weights_
    assert np.abs(moved).max() > 0.1
    assert after.history_["class"].iloc[-1] < after.history_["class"].iloc[3]


def test_a_given_encoder_learns_slowly():
    model = make()
    model.encoder_ = "conv"
    assert model._encoder_rate() == 0.01
    model.encoder_ = torch.nn.Identity()
    assert model._encoder_rate() == 0.001
    assert make(encoder_lr=0.3)._encoder_rate() == 0.3


def test_training_sees_two_views():
    seen = []

    def record(x):
        seen.append(x.clone())
        return x + 0.01 * torch.randn_like(x)

    make(max_epochs=1, augment=record).fit(X[:32], Y[:32])
    assert len(seen) == 2
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=0)


def test_default_views():
    model = make()
    model._input_shape = (1, 8, 8)
    views = model._augmentation()
    assert isinstance(views, Augmentation)
    # Both views must show the same part at the same site.
    assert views.shift == views.rotation == views.scale == 0
    model._input_shape = (4,)
    assert isinstance(model._augmentation(), FeatureNoise)
    assert make(augment=None)._augmentation() is None


@pytest.mark.parametrize(
    ("n_classes", "expected"), [(2, 16), (4, 32), (10, 64), (200, 1024)]
)
def test_number_of_channels(n_classes, expected):
    assert make()._n_channels(n_classes) == expected
    assert make(n_prototypes=7)._n_channels(n_classes) == 7
    assert make(n_prototypes=None)._n_channels(n_classes) is None


def test_channels_of_the_encoder_itself():
    model = make(n_prototypes=None, max_epochs=3, prune_threshold=None).fit(X, Y)
    assert model.prototypes_.shape == (32, 32)
    model.explain(NEW[:3]).verify()


def test_prototypes_are_shown_by_the_most_present_patch(model):
    presences = model._forward(model._check_input(X), ("presences", "sites"))
    best = presences["presences"].argmax(axis=0)
    np.testing.assert_array_equal(model.prototype_indices_, best)
    column = np.arange(len(best))
    sites = presences["sites"][best, column]
    np.testing.assert_array_equal(model.prototype_sites_, sites)
    highest = presences["presences"][best, column]
    np.testing.assert_allclose(model.projection_distance_, 1 - highest, atol=1e-6)
    for i, (top, left, bottom, right) in enumerate(model.prototype_boxes_):
        patch = X[best[i]][None, top:bottom, left:right]
        np.testing.assert_array_equal(model.prototype_patches_[i], patch)
    table = model.explain_global().prototypes
    assert not table.is_case.any()
    assert "most similar" in str(model.explain(NEW[:1])) or "learned" in str(
        model.explain_global()
    )


def test_maps_reach_the_presence(model):
    maps = model.similarity_maps(NEW[:5])
    assert maps.shape == (5, len(model.prototypes_), 4, 4)
    presences = model._forward(model._check_input(NEW[:5]), ("presences",))
    np.testing.assert_allclose(maps.max(axis=(2, 3)), presences["presences"], atol=1e-6)


def test_dropping_prototypes_without_weight_changes_nothing():
    whole = make(prune_threshold=None, shrink=0.02, max_epochs=15).fit(X, Y)
    assert (whole.class_weights_.max(axis=1) == 0).any()
    pruned = copy.deepcopy(whole).prune()
    assert 0 < len(pruned.prototypes_) < len(whole.prototypes_) == 32
    assert (pruned.class_weights_.max(axis=1) > 0).all()
    expected = whole.decision_function(NEW)
    np.testing.assert_allclose(pruned.decision_function(NEW), expected, rtol=1e-6)
    pruned.explain(NEW[:5]).verify()
    fitted = make(shrink=0.02, max_epochs=15).fit(X, Y)
    np.testing.assert_array_equal(fitted.predict(NEW), pruned.predict(NEW))
    assert len(fitted.prototypes_) == len(pruned.prototypes_)


def test_pruning_leaves_one(model):
    pruned = copy.deepcopy(model).prune(1e9)
    strongest = model.prototype_ids_[model.class_weights_.max(axis=1).argmax()]
    assert pruned.prototype_ids_.tolist() == [strongest]
    assert len(pruned.prototype_patches_) == len(pruned.win_counts_) == 1
    for threshold in (-1.0, "all", np.nan):
        with pytest.raises(ValueError, match="threshold must be a float"):
            copy.deepcopy(model).prune(threshold)


def test_nothing_to_project_and_no_convex_head(model):
    assert not hasattr(model, "project")
    assert not hasattr(model, "refit_head")


def test_pickle_and_clone(model):
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(NEW), model.predict_proba(NEW))
    again.explain(NEW[:3]).verify()
    unfitted = clone(model)
    assert not [name for name in vars(unfitted) if name.endswith("_")]


def test_rows_and_tokens():
    table = make().fit(DIGITS[:240], Y)
    assert table.score(DIGITS[240:400], TRUE) >= 0.9
    table.explain(DIGITS[240:250]).verify()
    assert table.explain_global().prototypes.values is None
    model = make(encoder="tokens", max_epochs=4).fit(X, Y)
    model.explain(NEW[:5]).verify()
    flat = make(image_shape=(8, 8), max_epochs=2).fit(X.reshape(240, 64), Y)
    whole = make(max_epochs=2).fit(X, Y)
    rows = NEW.reshape(-1, 64)
    np.testing.assert_array_equal(flat.predict_proba(rows), whole.predict_proba(NEW))


def test_early_stopping_and_warm_start():
    model = make(early_stopping=True, max_epochs=8, warm_start=True).fit(X, Y)
    assert "valid_loss" in model.history_
    n_before = model.n_iter_
    assert model.set_params(prune_threshold=None).fit(X, Y).n_iter_ > n_before


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_prototypes": 0}, "'n_prototypes' parameter"),
        ({"threshold": 1.0}, "'threshold' parameter"),
        ({"shrink": -1.0}, "'shrink' parameter"),
        ({"head_lr": 0.0}, "'head_lr' parameter"),
        ({"augment": "strong"}, "'augment' parameter"),
        ({"view_epochs": -1}, "'view_epochs' parameter"),
        ({"classification_weight": 0.0}, "'classification_weight' parameter"),
        ({"solver": "lbfgs"}, "'solver' parameter"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        make(**parameters).fit(X[:40], Y[:40])


@pytest.mark.parametrize("settings", [{"noise": -0.1}, {"drop": 1.0}])
def test_bad_noise(settings):
    with pytest.raises(ValueError, match="must be a float"):
        FeatureNoise(**settings)


def test_noise_drops_features():
    torch.manual_seed(0)
    x = torch.ones(500, 4)
    changed = FeatureNoise(noise=0.0, drop=0.25)(x)
    assert set(changed.unique().tolist()) == {0.0, 1.0}
    assert float(changed.mean()) == pytest.approx(0.75, abs=0.05)
