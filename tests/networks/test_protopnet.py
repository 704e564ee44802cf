"""ProtoPNet from fit to explanation: where prototypes come from and what they say."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from skorch.callbacks import Callback
from torch import nn

from skproto import ProtoPNetClassifier
from skproto import _projection as projection
from skproto._provenance import image_hash
from skproto.networks._protopnet import tenths
from skproto.nn.encoders import SiteEncoder
from skproto.nn.head_solver import solve_head
from skproto.nn.parts import PartPrototypeNetwork
from skproto.training import Annealing, TrainingData

N_TRAIN = 240
KERNELS = ("cosine", "log_l2", "exp_l2", "radius", "linear", "dot")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(n_class=4, return_X_y=True)
    return X.reshape(-1, 8, 8), np.array(["zero", "one", "two", "three"])[y]


def brief(*args, **settings):
    settings = {"max_epochs": 4, "random_state": 0, **settings}
    return ProtoPNetClassifier(*args, **settings)


@pytest.fixture(scope="module")
def train(digits):
    return digits[0][:N_TRAIN], digits[1][:N_TRAIN]


@pytest.fixture(scope="module")
def fitted(train):
    return brief(max_epochs=8).fit(*train)


# -- projection ------------------------------------------------------------------------


@pytest.mark.parametrize("similarity", KERNELS)
def test_a_projected_prototype_is_a_part_of_its_source(train, similarity):
    X, y = train
    model = brief(similarity=similarity).fit(X, y)
    assert_array_equal(model.projection_distance_, 0)
    assert_array_equal(y[model.prototype_indices_], model.prototype_labels_)
    assert_array_equal(model.prototype_sample_labels_, model.prototype_labels_)
    own = model.transform(X[model.prototype_indices_]).diagonal()
    highest = model._module.similarity.max_value
    if np.isfinite(highest):
        assert_allclose(own, highest, rtol=1e-6)
        assert model.transform(X).max() <= highest * (1 + 1e-6)
    model.explain(X[model.prototype_indices_]).verify()


@pytest.mark.parametrize("similarity", KERNELS)
def test_a_second_projection_changes_nothing(train, similarity):
    X, y = train
    model = brief(similarity=similarity).fit(X, y)
    again = pickle.loads(pickle.dumps(model)).project(X, y)
    assert_array_equal(again.prototypes_, model.prototypes_)
    assert_array_equal(again.prototype_indices_, model.prototype_indices_)
    assert_array_equal(again.prototype_sites_, model.prototype_sites_)
    assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_patch_box_and_hash_are_those_of_the_training_image(fitted, train):
    X, _ = train
    for p, row in enumerate(fitted.prototype_indices_):
        top, left, bottom, right = fitted.prototype_boxes_[p]
        patch = X[row][None, top:bottom, left:right]
        assert_array_equal(fitted.prototype_patches_[p], patch)
        assert fitted.prototype_hashes_[p] == image_hash(X[row][None])
        assert_array_equal(fitted.prototype_samples_[p], X[row][None])
        site = fitted.prototype_sites_[p]
        assert (top, left) == (site // 4 * 2, site % 4 * 2)


def random_data(rng, n_samples, n_sites, dim, n_classes):
    X = rng.randint(-2, 3, (n_samples, n_sites, dim)).astype(np.float32)
    y = rng.randint(n_classes, size=n_samples)
    weight = np.ones(n_samples)
    return TrainingData(X, y, weight, np.arange(n_samples), n_classes, rng)


@given(
    seed=st.integers(0, 10**6),
    n_sites=st.integers(1, 5),
    k=st.integers(1, 4),
    similarity=st.sampled_from(KERNELS),
    owned=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_the_search_finds_what_a_plain_loop_finds(seed, n_sites, k, similarity, owned):
    rng = np.random.RandomState(seed)
    data = random_data(rng, 23, n_sites, 3, 3)
    module = PartPrototypeNetwork(6, 3, 3, similarity=similarity)
    module.set_prototypes(torch.from_numpy(rng.normal(size=(6, 3))).float())
    owners = module.ownership.numpy() if owned else None
    found = projection.nearest_sites(module, data, owners, k)
    sites = torch.from_numpy(data.X).double()
    counts = module.admissible(torch.from_numpy(data.X))
    distances = np.full((23, 6), np.inf)
    for t in range(n_sites):
        there = module.candidate_distances(sites[:, t, None].expand(-1, 6, -1))
        there = there.detach().numpy()
        if counts is not None:
            there[~counts[:, t].numpy()] = np.inf
        distances = np.minimum(distances, there)
    if owned:
        distances[~owners[:, data.y].T] = np.inf
    expected = np.sort(distances, axis=0)[:k]
    assert_allclose(found.distances, expected, atol=1e-6)
    known = found.index >= 0
    assert_array_equal(known, np.isfinite(expected))
    for rank, p in np.argwhere(known):
        i, t = found.index[rank, p], found.sites[rank, p]
        assert_array_equal(found.points[rank, p].numpy(), data.X[i, t])


def test_projection_keeps_the_first_of_equal_samples():
    data = random_data(np.random.RandomState(0), 4, 1, 2, 1)
    data.X[:] = [[1.0, 0.0]]
    module = PartPrototypeNetwork(2, 2, 1, similarity="log_l2")
    module.set_prototypes(torch.ones(2, 2))
    found = projection.project(module, data, module.ownership.numpy())
    assert_array_equal(found.index, [[0, 0]])
    found = projection.project(module, data, module.ownership.numpy(), unique=True)
    assert_array_equal(found.index, [[0, 1]])


def test_unique_sources(train):
    X, y = train
    model = brief(12, unique_sources=True, max_epochs=2).fit(X, y)
    assert len(np.unique(model.prototype_indices_)) == len(model.prototypes_)


def test_projection_sees_images_as_they_are(train):
    X, y = train
    n_seen = []

    def darken(batch):
        n_seen.append(len(batch))
        return batch - 9.0

    model = brief(augment=darken, max_epochs=2).fit(X, y)
    assert sum(n_seen) == 2 * N_TRAIN
    assert_array_equal(model.projection_distance_, 0)
    again = pickle.loads(pickle.dumps(model.set_params(augment=None)))
    assert_array_equal(again.project(X, y).prototypes_, model.prototypes_)


def test_without_projection_the_nearest_source_is_named(train):
    model = brief(project_prototypes=False, max_epochs=2).fit(*train)
    assert (model.projection_distance_ > 0).any()
    assert not hasattr(model, "projection_accuracy_")
    assert_array_equal(train[1][model.prototype_indices_], model.prototype_labels_)
    assert "nearest" in str(model.explain(train[0][:1]))


def test_projection_onto_other_samples(fitted, digits, train):
    X, y = digits[0][N_TRAIN:], digits[1][N_TRAIN:]
    model = pickle.loads(pickle.dumps(fitted)).project(X, y)
    assert_array_equal(model.projection_distance_, 0)
    assert_array_equal(model.prototype_samples_[:, 0], X[model.prototype_indices_])
    assert model.projection_accuracy_.shape == (2,)
    lacking = train[1] != "two"
    with pytest.raises(ValueError, match=r"none of \['two'\]"):
        fitted.project(train[0][lacking], train[1][lacking])
    with pytest.raises(ValueError, match=r"not seen in fit: \['nine'\]"):
        fitted.project(X, np.where(y == "two", "nine", y))


def test_projections_while_training(train):
    model = brief(project_every=2, max_epochs=5, schedule="step", pretrain_epochs=2)
    model.fit(*train)
    assert model.history_.phase.tolist() == ["pretraining"] * 2 + ["joint"] * 5
    model = brief(
        project_every=2,
        pretrain_epochs=0,
        head_solver="adam",
        head_epochs=3,
        init="uniform",
        similarity="log_l2",
        prune_neighbors=6,
        encoder_lr=1e-3,
    ).fit(*train)
    assert (
        model.history_.phase.tolist()
        == ["joint"] * 2 + ["last layer"] * 3 + ["joint"] * 2 + ["last layer"] * 3
    )
    assert_array_equal(model.projection_distance_, 0)


def test_learning_rates_go_on_after_a_projection():
    rates = [tenths(4, epoch) for epoch in range(7)]
    assert_allclose(rates, [1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.01])
    model = ProtoPNetClassifier(project_every=4, max_epochs=8, pretrain_epochs=0)
    model.solver_, model.max_epochs_, model.encoder_ = "adam", 8, "conv"
    starts = [
        (callback.start, callback.n_epochs)
        for phase in model._phases()
        for callback in phase.callbacks
        if isinstance(callback, Annealing)
    ]
    assert starts == [(0, 8), (4, 8)]


# -- head, pruning, removal ------------------------------------------------------------


@pytest.mark.parametrize("head", ["class_linear", "nonneg", "grouped_softmax"])
def test_contributions_sum_to_the_scores(train, head):
    X, y = train
    model = brief(head=head).fit(X, y)
    shown = model.explain(X[:30])
    total = shown.contributions.sum(axis=1) + shown.bias
    assert_allclose(total, model.decision_function(X[:30]), rtol=1e-5, atol=1e-5)
    shown.verify()
    if head != "class_linear":
        assert (model.class_weights_ >= 0).all()
    if head == "grouped_softmax":
        assert_allclose(model.class_weights_.sum(axis=0), 3, rtol=1e-5)
        assert ((model.class_weights_ > 0).sum(axis=1) == 1).all()


def test_the_refit_lowers_its_objective_and_is_done_once(train):
    X, y = train
    model = brief(head_solver=None).fit(X, y)
    owners = model._module.ownership.numpy()
    assert_allclose(model.class_weights_, np.where(owners, 1, -0.5))
    codes = np.searchsorted(model.classes_, y)
    solution = solve_head(
        model.transform(X), codes, owners.astype(float), ownership=owners, l2=1e-3
    )
    assert solution.objective <= solution.start_objective
    model.refit_head(X, y)
    assert_allclose(model.class_weights_, solution.weight, atol=1e-3)
    weights = model.class_weights_.copy()
    assert_allclose(model.refit_head(X, y).class_weights_, weights, atol=1e-6)


def test_the_pull_keeps_weights_of_separable_data_readable(train):
    free = np.abs(brief(head_l2=0.0).fit(*train).class_weights_).max()
    held = np.abs(brief(head_l2=1e-2).fit(*train).class_weights_).max()
    assert held < 3 < free


def test_removing_a_prototype_is_a_column_of_zeros(fitted, train):
    X, _ = train
    model = pickle.loads(pickle.dumps(fitted))
    shown = fitted.explain(X)
    ids = [2, 7]
    model.remove_prototypes(ids)
    left = shown.contributions.sum(axis=1) - shown.contributions[:, ids].sum(axis=1)
    assert_allclose(model.decision_function(X), left, rtol=1e-5, atol=1e-5)
    assert_array_equal(model.prototype_ids_, np.delete(np.arange(12), ids))
    model.explain(X[:5]).verify()
    for name in ("prototype_indices_", "prototype_boxes_", "win_counts_"):
        assert len(getattr(model, name)) == len(model.prototypes_) == 10
    with pytest.raises(ValueError, match=r"There is no \[2\]"):
        model.remove_prototypes(2)
    with pytest.raises(ValueError, match="at least one"):
        model.remove_prototypes(model.prototype_ids_)


def test_prune_by_the_rule_of_the_paper(train):
    X, y = train
    model = brief(project_prototypes=False, max_epochs=2).fit(X, y)
    maps = model.similarity_maps(X).reshape(N_TRAIN, 12, -1).max(axis=2)
    nearest = np.argsort(-maps, axis=0, kind="stable")[:6]
    own = (y[nearest] == model.prototype_labels_).sum(axis=0)
    expected = own >= 3
    for label in model.classes_:
        if not expected[model.prototype_labels_ == label].any():
            members = np.flatnonzero(model.prototype_labels_ == label)
            expected[members[own[members].argmax()]] = True
    model.prune(X, y)
    assert_array_equal(model.prototype_ids_, np.flatnonzero(expected))
    assert set(model.prototype_labels_) == set(model.classes_)
    model.explain(X[:5]).verify()
    with pytest.raises(ValueError, match=r"n_neighbors must be an int.*Got 0"):
        model.prune(X, y, n_neighbors=0)


# -- ownership -------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["class_linear", "nonneg"])
def test_classes_may_share_their_prototypes(train, digits, head):
    X, y = train
    model = brief(ownership="shared", head=head, max_epochs=8).fit(X, y)
    assert model.score(digits[0][N_TRAIN:], digits[1][N_TRAIN:]) > 0.8
    assert model._module.ownership.all()
    assert "separation" not in model.history_
    # The head learns along: it is what tells the classes apart.
    assert model.history_["off_class_l1"].nunique() > 1
    strongest = model.classes_[model.class_weights_.argmax(axis=1)]
    assert_array_equal(model.prototype_labels_, strongest)
    assert_array_equal(model.projection_distance_, 0)
    shown = model.explain(X[:20])
    total = shown.contributions.sum(axis=1) + shown.bias
    assert_allclose(total, model.decision_function(X[:20]), rtol=1e-5, atol=1e-5)
    shown.verify()
    weights = model.class_weights_.copy()
    assert_allclose(model.refit_head(X, y).class_weights_, weights, atol=1e-6)
    again = pickle.loads(pickle.dumps(model)).project(X, y)
    assert_array_equal(again.prototypes_, model.prototypes_)
    assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_shared_prototypes_come_from_the_nearest_site_of_any_class(train):
    X, y = train
    settings = {"max_epochs": 2, "similarity": "log_l2", "head_solver": None}
    model = brief(ownership="shared", project_prototypes=False, **settings).fit(X, y)
    learned, maps = model.prototypes_.copy(), model.similarity_maps(X)
    best = maps.reshape(N_TRAIN, 12, -1).max(axis=2).argmax(axis=0)
    assert_array_equal(model.prototype_indices_, best)
    model.project(X, y)
    assert_array_equal(model.prototype_indices_, best)
    assert not np.array_equal(model.prototypes_, learned)
    # Samples of one class are enough.
    one = y == "two"
    assert len(model.project(X[one], y[one]).prototypes_) == 12


def test_shared_prototypes_are_pruned_by_the_class_they_speak_for(train):
    X, y = train
    model = brief(ownership="shared", max_epochs=2).fit(X, y)
    maps = model.similarity_maps(X).reshape(N_TRAIN, 12, -1).max(axis=2)
    nearest = np.argsort(-maps, axis=0, kind="stable")[:6]
    own = (y[nearest] == model.prototype_labels_).sum(axis=0)
    kept = own >= 3
    labels = model.prototype_labels_
    spared = {c for c in model.classes_ if not kept[labels == c].any()}
    model.prune(X, y)
    assert set(np.flatnonzero(kept)) <= set(model.prototype_ids_)
    assert len(model.prototype_ids_) <= kept.sum() + len(spared)
    model.explain(X[:5]).verify()


def test_owners_are_needed_by_the_softmax_within_a_class(train):
    with pytest.raises(ValueError, match=r"needs ownership='class'. Got .*'shared'"):
        brief(ownership="shared", head="grouped_softmax").fit(*train)


# -- schedule --------------------------------------------------------------------------


def test_rates_and_decay_reach_the_optimiser(train):
    model = brief(
        encoder=SmallBody(), encoder_lr=1e-4, warm_epochs=1, max_epochs=2, lr=3e-3
    )
    seen = {}

    class Look(Callback):
        def on_batch_end(self, net, **kwargs):
            names = {id(p): name for name, p in net.module_.named_parameters()}
            for group in net.optimizer_.param_groups:
                for p in group["params"]:
                    if p.requires_grad:
                        values = group["lr"], group["weight_decay"]
                        seen[len(net.history), names[id(p)].split(".0.")[0]] = values

    settings = {"schedule": "constant", "net_params": {"callbacks": [Look()]}}
    model.set_params(**settings).fit(*train)
    values = {key[1]: value for key, value in seen.items() if key[0] == 2}
    assert values["encoder.body.first.weight"] == (1e-4, 1e-3)
    assert values["encoder.add_on"] == (3e-3, 1e-3)
    assert values["prototypes"] == (3e-3, 0)
    assert "head.weight" not in values


def test_decay_of_the_warm_up_is_that_of_the_new_layers(train):
    model = ProtoPNetClassifier(warm_epochs=2, max_epochs=4)
    model.solver_, model.max_epochs_, model.encoder_ = "adam", 4, "conv"
    warm, joint = model._phases()
    assert warm.trainable == ("encoder.add_on", "prototypes", "similarity")
    assert dict(warm.group_decay) == {"encoder.add_on": 1e-3}
    assert dict(joint.group_decay) == {"encoder.add_on": 1e-3, "encoder.body": 1e-3}


# -- switches --------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["max", "topk", "focal"])
def test_maps_and_pooling(train, pooling):
    X, y = train
    model = brief(pooling=pooling, top_k=2, max_epochs=2).fit(X, y)
    maps = model.similarity_maps(X[:10])
    assert maps.shape == (10, 12, 4, 4)
    flat = np.sort(maps.reshape(10, 12, 16), axis=2)
    if pooling == "max":
        assert_allclose(model.transform(X[:10]), flat[:, :, -1], rtol=1e-5, atol=1e-5)
    if pooling == "topk":
        expected = flat[:, :, -2:].mean(axis=2)
        assert_allclose(model.transform(X[:10]), expected, rtol=1e-5, atol=1e-5)
    model.explain(X[:10]).verify()


@pytest.mark.parametrize("encoder", ["conv", "vit"])
def test_alignment_acts_after_the_warm_up(train, encoder):
    X, y = train
    model = brief(
        encoder=encoder, alignment_weight=0.5, warm_epochs=1, max_epochs=3
    ).fit(X, y)
    assert model.history_.phase.tolist() == ["warm-up", "joint", "joint"]
    assert_array_equal(model.history_["alignment"].notna(), [False, True, True])
    assert model._module.shallow_layer is None


class SmallBody(nn.Module):
    def __init__(self, shape=(1, 8, 8)):
        super().__init__()
        self.first = nn.Conv2d(shape[0], 4, 3, padding=1)
        self.flat = nn.Flatten()
        self.last = nn.Conv2d(4, 6, 2, stride=2)

    def forward(self, x):
        z = self.first(x).relu()
        self.flat(z)
        return self.last(z)


def test_alignment_of_a_given_encoder(train):
    X, y = train
    model = brief(encoder=SmallBody(), alignment_weight=1.0, max_epochs=2)
    with pytest.raises(ValueError, match=r"'auto'.*'first', 'flat', 'last'"):
        model.fit(X, y)
    with pytest.raises(ValueError, match=r"shallow_layer.*map of images"):
        model.set_params(shallow_layer="flat").fit(X, y)
    assert not hasattr(model, "net_")
    model.set_params(shallow_layer="first").fit(X, y)
    assert "alignment" in model.history_
    with pytest.raises(ValueError, match="needs an encoder that learns"):
        model.set_params(frozen=True).fit(X, y)


@pytest.mark.parametrize("encoder", [SmallBody, SmallBody((1, 8, 8))])
def test_a_given_encoder_is_warmed_up_and_copied(train, encoder):
    X, y = train
    model = brief(encoder=encoder).fit(X, y)
    is_module = isinstance(encoder, nn.Module)
    assert model.history_.phase[0] == "warm-up"
    if is_module:
        assert model._module.encoder.body is not encoder


def test_a_frozen_encoder_sees_each_image_once(train):
    X, y = train
    body = SmallBody()
    model = brief(encoder=body, frozen=True, similarity="log_l2").fit(X, y)
    for ours, theirs in zip(
        model._module.encoder.body.parameters(), body.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert_allclose(
        model.transform(X[model.prototype_indices_]).diagonal(), 9.21034, rtol=1e-4
    )


def test_tokens(train):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(80, 5, 6))
    y = np.arange(80) % 2
    X[np.arange(80), rng.randint(5, size=80), y] += 5.0
    model = brief(encoder="tokens", max_epochs=20, lr=0.01).fit(X, y)
    assert model.score(X, y) > 0.9
    assert model.similarity_maps(X[:3]).shape == (3, 6, 5)
    model.explain(X[:5]).verify()
    assert_array_equal(model.prototype_samples_, X[model.prototype_indices_])


@pytest.mark.parametrize("encoder", ["auto", "identity", None])
def test_tables(encoder):
    X, y = load_iris(return_X_y=True)
    model = brief(encoder=encoder, max_epochs=40, lr=0.02, batch_size=16).fit(X, y)
    assert model.score(X, y) > 0.9
    assert_array_equal(model.prototype_sites_, 0)
    assert_array_equal(model.prototype_samples_, X[model.prototype_indices_])
    model.explain(X[:5]).verify()
    with pytest.raises(TypeError, match="fitted to a table"):
        model.similarity_maps(X)


def test_prototypes_in_the_space_of_the_features():
    X, y = load_iris(return_X_y=True)
    model = brief(encoder="identity", prototype_dim=None, similarity="log_l2").fit(X, y)
    table = model.explain(X[:1]).prototypes
    assert table.values.shape == (9, 4)
    wide = brief(encoder="identity", prototype_dim=4).fit(X, y)
    assert wide.explain(X[:1]).prototypes.values is None


def test_warm_start_goes_on(train):
    X, y = train
    model = (
        brief(warm_start=True, alignment_weight=0.5, max_epochs=4).fit(X, y).fit(X, y)
    )
    # The encoder was started before the first fit only.
    assert model.history_.phase.eq("pretraining").tolist() == [True] + [False] * 8


def test_early_stopping_and_weights(train):
    X, y = train
    model = brief(early_stopping=True, class_weight="balanced", n_iter_no_change=1)
    model.fit(X, y, sample_weight=np.linspace(0.5, 2, N_TRAIN))
    assert "valid_loss" in model.history_
    assert_array_equal(model.projection_distance_, 0)


# -- scikit-learn ----------------------------------------------------------------------


def test_pickle_and_persistence_give_the_same_bits(fitted, train, tmp_path):
    pytest.importorskip("skops", reason="skops is an optional dependency")
    from skproto.persistence import load, save

    X, _ = train
    save(fitted, tmp_path / "model.skops")
    for again in (
        pickle.loads(pickle.dumps(fitted)),
        load(tmp_path / "model.skops"),
    ):
        assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
        assert_array_equal(again.prototype_patches_[0], fitted.prototype_patches_[0])
        again.explain(X[:3]).verify()


def test_same_seed_same_bits(fitted, train):
    again = clone(fitted).fit(*train)
    assert_array_equal(again.prototypes_, fitted.prototypes_)
    assert_array_equal(again.predict_proba(train[0]), fitted.predict_proba(train[0]))


def test_grid_search_of_flattened_images(train):
    X, y = train
    pipeline = make_pipeline(MinMaxScaler(), brief(image_shape=(8, 8), max_epochs=2))
    search = GridSearchCV(
        pipeline, {"protopnetclassifier__similarity": ["cosine", "log_l2"]}, cv=2
    ).fit(X.reshape(N_TRAIN, -1), y)
    assert search.best_estimator_[-1].prototype_patches_[0].shape == (1, 2, 2)


# -- bad input -------------------------------------------------------------------------


class Wrong(nn.Module):
    def forward(self, x):
        return x.sum()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"similarity": "l1"}, "'similarity' parameter"),
        ({"n_prototypes_per_class": 0}, "'n_prototypes_per_class' parameter"),
        ({"head": "slots"}, "'head' parameter"),
        ({"head_l2": -1.0}, "'head_l2' parameter"),
        ({"pooling": "topk", "top_k": 17}, r"'top_k'.* at most .* 16\. Got 17"),
        ({"pooling": "focal", "encoder": "mlp"}, "pooling='focal'.* several sites"),
        ({"alignment_weight": 0.5, "encoder": "mlp"}, "needs images and an encoder"),
        ({"encoder": Wrong()}, r"must return a tensor of shape.*Got \(\)"),
        ({"encoder": None}, "Images need an encoder"),
        ({"device": "cuda:99"}, "'device' parameter"),
    ],
)
def test_bad_settings_are_named_before_training(train, settings, message):
    model = brief(**settings)
    with pytest.raises((ValueError, TypeError), match=message):
        model.fit(*train)
    assert not hasattr(model, "net_")


def test_modules_without_candidates_are_searched_by_their_outputs():
    rng = np.random.RandomState(0)
    data = random_data(rng, 9, 3, 2, 2)

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = PartPrototypeNetwork(4, 2, 2, similarity="log_l2")
            self.inner.set_prototypes(torch.from_numpy(rng.normal(size=(4, 2))).float())
            self.prototypes = self.inner.prototypes
            self.encoder = SiteEncoder()

        def set_prototypes(self, points):
            self.inner.set_prototypes(points)

        def forward(self, x):
            return self.inner(x)

    plain = Plain()
    owners = plain.inner.ownership.numpy()
    fast = projection.nearest_sites(plain.inner, data, owners, 2)
    slow = projection.nearest_sites(plain, data, owners, 2)
    assert_allclose(slow.distances, fast.distances, rtol=1e-6)
    copy_, found = projection.projected_copy(plain, data, owners)
    points = data.X[found.index[0], found.sites[0]]
    assert_array_equal(copy_.inner.prototypes.detach().numpy(), points)
