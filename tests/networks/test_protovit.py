"""ProtoViT on images, tokens and tables."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from skorch.callbacks import Callback

from skproto import persistence
from skproto.networks import ProtoViTClassifier
from skproto.nn.part_sets import slot_learning_rate

QUICK = {"max_epochs": 3, "slot_epochs": 2, "batch_size": 16, "random_state": 0}


def images(n=48, n_classes=3, seed=0):
    """Noise with a bright patch whose place tells the class."""
    rng = np.random.RandomState(seed)
    y = np.arange(n) % n_classes
    X = rng.uniform(size=(n, 8, 8))
    for i, code in enumerate(y):
        X[i, 2 * code : 2 * code + 2, 2:6] += 2.0
    return X, np.array(["a", "b", "c"])[y]


def tokens(n=40, n_tokens=6, dim=4, seed=0):
    """Tokens of noise; three neighbours that point one way tell the class."""
    rng = np.random.RandomState(seed)
    y = np.arange(n) % 2
    X = rng.standard_normal((n, n_tokens, dim))
    for i, code in enumerate(y):
        X[i, 1:4, code] += 4.0
    return X, y


@pytest.fixture(scope="module")
def fitted():
    return ProtoViTClassifier(slots=False, **QUICK).fit(*images())


@pytest.fixture(scope="module")
def on_tokens():
    X, y = tokens()
    mask = np.ones(X.shape[:2], dtype=bool)
    mask[::3, 4:] = False
    model = ProtoViTClassifier(encoder="tokens", **QUICK)
    return model.fit(X, y, site_mask=mask), X, mask


# --------------------------------------------------------------------- projection
@pytest.mark.parametrize("unique", [False, True])
def test_prototypes_are_parts_of_one_image_of_their_class(unique):
    X, y = images()
    model = ProtoViTClassifier(slots=False, unique_sources=unique, **QUICK).fit(X, y)
    rows = model.prototype_indices_
    own = model.transform(X[rows])[np.arange(6), np.arange(6)]
    np.testing.assert_allclose(own, 3.0, atol=1e-4)
    np.testing.assert_allclose(model.self_similarity_, 3.0, atol=1e-4)
    assert (model.projection_distance_ == 0).all()
    np.testing.assert_array_equal(y[rows], model.prototype_labels_)
    np.testing.assert_array_equal(model.prototype_sample_labels_, y[rows])
    encoder = model.net_.module_.encoder
    with torch.no_grad():
        z = encoder(torch.from_numpy(model._scaling.apply(X[rows][:, None])))
    picked = np.take_along_axis(
        z.numpy(), model.prototype_sites_[:, :, None].astype(int), axis=1
    )
    np.testing.assert_allclose(picked, model.prototypes_, atol=1e-5)
    if unique:
        assert len(set(zip(rows, model.prototype_labels_, strict=True))) == 6


def test_second_projection_changes_nothing(fitted):
    X, y = images()
    model = pickle.loads(pickle.dumps(fitted))
    before = model.predict_proba(X)
    model.project(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), before)
    np.testing.assert_array_equal(model.prototype_sites_, fitted.prototype_sites_)


def test_head_is_fitted_anew(fitted):
    X, y = images()
    start = np.where(fitted.prototype_labels_[:, None] == fitted.classes_, 1.0, -0.5)
    assert np.abs(fitted.class_weights_ - start).max() > 0.05
    model = pickle.loads(pickle.dumps(fitted)).refit_head(X, y)
    np.testing.assert_allclose(
        model.class_weights_, fitted.class_weights_, rtol=1e-3, atol=1e-3
    )


def test_places_of_parts(fitted):
    X, _ = images()
    assert fitted.prototypes_.shape[:2] == (6, 3)
    assert fitted.prototype_boxes_.shape == (6, 3, 4)
    assert fitted.slots_.all()
    assert (fitted.n_parts_ == 3).all()
    for p, row in enumerate(fitted.prototype_indices_):
        for part in range(3):
            top, left, bottom, right = fitted.prototype_boxes_[p, part]
            np.testing.assert_array_equal(
                fitted.prototype_patches_[p][part][0], X[row, top:bottom, left:right]
            )
    # Connected: each part lies beside another one.
    place = np.stack(np.divmod(fitted.prototype_sites_, 4), axis=-1)
    apart = np.abs(place[:, :, None] - place[:, None]).max(axis=3)
    apart[:, np.arange(3), np.arange(3)] = 9
    assert (apart.min(axis=2) == 1).all()


# ------------------------------------------------------------------------- stages
def test_stages_move_what_they_should():
    X, y = images()
    model = ProtoViTClassifier(
        warm_epochs=1, head_solver="adam", head_epochs=1, **QUICK
    )
    model.fit(X, y)
    phases = model.history_["phase"].tolist()
    expected = ["warm-up", "joint", "joint", "slots", "slots", "last layer"]
    assert phases == expected
    assert model.n_iter_ == 6
    terms = {"classification", "cluster", "separation", "orthogonality", "coherence"}
    assert len(terms & set(model.history_)) >= 4
    assert (model.projection_distance_ == 0).all()
    np.testing.assert_allclose(model.self_similarity_, 3.0, atol=1e-4)


def test_rates_are_those_of_the_groups_and_nothing_decays():
    X, y = images()
    seen = {}

    class Look(Callback):
        def on_batch_end(self, net, **kwargs):
            names = {id(p): name for name, p in net.module_.named_parameters()}
            for group in net.optimizer_.param_groups:
                moving = [p for p in group["params"] if p.requires_grad]
                for name in (names[id(p)].split(".")[0] for p in moving):
                    seen[len(net.history), name] = group["lr"], group["weight_decay"]

    settings = {"solver": "adamw", "schedule": "constant", "lr": 1e-4, "max_epochs": 2}
    model = ProtoViTClassifier(
        warm_epochs=1, slot_epochs=1, net_params={"callbacks": [Look()]}, **settings
    )
    model.fit(X, y)
    slot_lr = slot_learning_rate(-(-len(X) // 64))
    assert seen == {
        (1, "prototypes"): (3e-3, 0.0),
        (2, "prototypes"): (3e-3, 0.0),
        (2, "encoder"): (1e-4, 0.0),
        # The paper's 5e-5 would leave the slots where they are in so few steps.
        (3, "slot_logits"): (slot_lr, 0.0),
    }
    assert slot_lr > 5e-5


def test_steps_of_the_paper_count_from_the_end_of_the_warm_up():
    X, y = images()
    rates = {}

    class Look(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            group = net.optimizer_.param_groups[0]
            rates.setdefault(len(net.history), group["lr"])

    settings = {"head_solver": "adam", "head_epochs": 1, "slot_epochs": 1}
    model = ProtoViTClassifier(
        schedule="step",
        warm_epochs=2,
        max_epochs=9,
        random_state=0,
        net_params={"callbacks": [Look()]},
        **settings,
    ).fit(X, y)
    phases = ["warm-up"] * 2 + ["joint"] * 7 + ["slots", "last layer"]
    assert model.history_["phase"].tolist() == phases
    expected = [3e-3] * 2 + [3e-3] * 5 + [3e-4] * 2
    np.testing.assert_allclose([rates[i] for i in range(1, 10)], expected)


def test_slot_phase_moves_slots_alone():
    X, y = images()
    common = {**QUICK, "project_prototypes": False, "head_solver": None}
    off = ProtoViTClassifier(slots=False, **common).fit(X, y)
    on = ProtoViTClassifier(slots=True, **common).fit(X, y)
    # Slots start at .99995, not at 1.
    same = on.prototype_ids_
    np.testing.assert_allclose(on.prototypes_, off.prototypes_[same], atol=1e-4)
    np.testing.assert_allclose(on.class_weights_, off.class_weights_[same])
    assert set(np.unique(on.net_.module_.slots().detach())) <= {0.0, 1.0}


def test_parts_that_the_class_shows_stay(monkeypatch):
    from skproto.networks import _part_slots, _protovit

    X, y = images()
    found = {}

    def all_off_but_one(module, data, margin):
        with torch.no_grad():
            module.slot_logits[:, :1] = 0.1
            module.slot_logits[:, 1:] = -0.1
        found["own"] = _part_slots.own_similarities(module, data)
        _part_slots.keep_found_parts(module, data, margin)

    monkeypatch.setattr(_protovit, "keep_found_parts", all_off_but_one)
    model = ProtoViTClassifier(slot_margin=0.05, **QUICK).fit(X, y)
    own = found["own"].numpy()
    expected = own >= own.max(axis=1, keepdims=True) - 0.05
    expected[:, 0] = True
    np.testing.assert_array_equal(model.slots_, expected)
    lenient = ProtoViTClassifier(slot_margin=2.0, **QUICK).fit(X, y)
    assert lenient.slots_.all()


def test_margin_of_the_slots_knows_classes_and_weights():
    from skproto.networks._part_slots import own_similarities

    X, y = images()
    model = ProtoViTClassifier(**QUICK).fit(X, y)
    weight = np.where(np.arange(len(y)) < 12, 2.0, 0.5)
    _, data = model._labelled(X, y, weight)
    own = own_similarities(model._module, data).numpy()
    alike = model._forward(model._check_input(X), ("part_similarities",))
    for p, label in enumerate(model.prototype_labels_):
        members = y == label
        expected = np.average(
            alike["part_similarities"][members, p], axis=0, weights=weight[members]
        )
        np.testing.assert_allclose(own[p], expected, rtol=1e-4)


def test_costs_of_all_parts_or_of_the_best():
    def pooling(**settings):
        terms = ProtoViTClassifier(**settings)._loss_terms()
        return [term.pooling for term in terms if hasattr(term, "pooling")]

    assert pooling() == ["mean", "mean"]
    assert pooling(cost_parts="best") == ["max", "max"]


def test_every_class_keeps_a_prototype(monkeypatch):
    from skproto.networks import _protovit

    X, y = images()
    original = _protovit.round_slots

    def all_off(module):
        with torch.no_grad():
            module.slot_logits.fill_(-0.1)
            module.slot_logits[1, 2] = -0.05
        return original(module)

    monkeypatch.setattr(_protovit, "round_slots", all_off)
    model = ProtoViTClassifier(**QUICK).fit(X, y)
    assert model.prototype_labels_.tolist() == ["a", "b", "c"]
    assert model.n_parts_.tolist() == [1, 1, 1]
    assert model.slots_[0].tolist() == [False, False, True]
    assert (model.prototype_sites_[~model.slots_] == -1).all()
    assert model.prototype_patches_[0][0].shape == (1, 0, 0)
    np.testing.assert_allclose(model.self_similarity_, 3.0, atol=1e-4)
    model.explain(X[:3]).verify()


def test_options_of_the_start_and_of_adjacency():
    X, y = images()
    chain = ProtoViTClassifier(adjacency="chain", slots=False, **QUICK).fit(X, y)
    assert chain.net_.module_.adjacency == "chain"
    assert (chain.projection_distance_ == 0).all()
    assert (chain.self_similarity_ <= 3 + 1e-4).all()
    chain.explain(X[:3]).verify()
    start = ProtoViTClassifier(init="sample", adjacency=None, **QUICK).fit(X, y)
    np.testing.assert_allclose(start.self_similarity_, 3.0, atol=1e-4)
    frozen = ProtoViTClassifier(frozen=True, init="sample", **QUICK).fit(X, y)
    np.testing.assert_allclose(frozen.self_similarity_, 3.0, atol=1e-4)
    wide = ProtoViTClassifier(encoder="conv", patch_size=3, **QUICK).fit(X, y)
    assert wide.prototypes_.shape[2] == 32


def test_exact_matching():
    X, y = images()
    exact = ProtoViTClassifier(matching="exact", **QUICK).fit(X, y)
    greedy = ProtoViTClassifier(**QUICK).fit(X, y)
    np.testing.assert_allclose(exact.self_similarity_, 3.0, atol=1e-4)
    exact.explain(X[:4]).verify()
    module = greedy._module
    before = greedy.transform(X)
    module.matching = "exact"
    assert (greedy.transform(X) >= before - 1e-5).all()
    with pytest.raises(ValueError, match="needs adjacency='connected' or None"):
        ProtoViTClassifier(matching="exact", adjacency="chain").fit(X, y)


# -------------------------------------------------------------------- explanation
def test_receptive_fields_of_parts(fitted):
    X, _ = images()
    case = fitted.explain(X[:2])
    own, here = case.prototypes.places, case.places
    assert own.effective_boxes.shape == (6, 3, 4)
    assert np.isfinite(own.effective_boxes).all()
    assert here.effective_boxes.shape == (2, 6, 3, 4)
    known = np.isfinite(here.effective_boxes).all(axis=(2, 3))
    assert known.any(axis=1).all()
    top, left, bottom, right = np.moveaxis(here.effective_boxes[known], -1, 0)
    assert ((top >= 0) & (left >= 0) & (bottom <= 8) & (right <= 8)).all()
    assert ((bottom > top) & (right > left)).all()
    frame = case.place_frame()
    assert {"effective_top", "source_effective_top"} <= set(frame)
    case.verify()


def test_explanation_of_images(fitted):
    X, _ = images()
    case = fitted.explain(X[:4])
    case.verify()
    assert case.places.sites.shape == (4, 6, 3)
    assert case.places.boxes.shape == (4, 6, 3, 4)
    assert case.places.part_similarities.shape == (4, 6, 3)
    assert case.prototypes.places.slots.all()
    assert (case.prototypes.places.max_similarity == 3).all()
    total = case.contributions.sum(axis=1) + case.bias
    np.testing.assert_allclose(total, fitted.decision_function(X[:4]), atol=1e-5)
    assert "3 parts of" in str(case) or "parts of" in str(case)
    assert len(fitted.explain_global().prototypes) == 6


def test_explanation_by_features():
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = ProtoViTClassifier(max_epochs=20, random_state=0).fit(X, y)
    case = model.explain(X[:2])
    case.verify()
    assert case.places.kind == "features"
    assert "petal length (cm)" in str(model.explain_global()) + str(case)
    assert model.prototype_samples_.shape == (len(model.prototypes_), 4)
    assert model.score(X, y) > 0.8


# ----------------------------------------------------------------------- tokens
def test_masked_tokens_do_not_exist(on_tokens):
    model, X, mask = on_tokens
    padded = np.where(mask[:, :, None], X, np.nan)
    noise = np.where(mask[:, :, None], X, 1e3)
    for method in ("predict", "predict_proba", "decision_function", "transform"):
        run = getattr(model, method)
        expected = run(padded)
        np.testing.assert_array_equal(run(noise, site_mask=mask), expected)
    case = model.explain(noise, site_mask=mask)
    case.verify()
    assert case.places.kind == "tokens"
    assert not np.isnan(case.places.part_similarities).any()
    assert (case.places.sites[::3] < 4).all()
    assert (model.prototype_sites_ < 6).all()
    assert model.score(padded, np.arange(len(X)) % 2) > 0.8


def test_masked_tokens_are_shorter_samples():
    X, y = tokens()
    mask = np.ones(X.shape[:2], dtype=bool)
    mask[:, 4:] = False
    settings = {**QUICK, "encoder": "tokens"}
    short = ProtoViTClassifier(**settings).fit(X[:, :4], y)
    masked = ProtoViTClassifier(**settings).fit(X, y, site_mask=mask)
    np.testing.assert_array_equal(masked.prototype_sites_, short.prototype_sites_)
    np.testing.assert_allclose(
        masked.decision_function(X, site_mask=mask),
        short.decision_function(X[:, :4]),
        rtol=1e-4,
        atol=1e-4,
    )


class Attention(torch.nn.Module):
    """Tokens that look at the tokens that exist."""

    def __init__(self, dim):
        super().__init__()
        self.map = torch.nn.Linear(dim, 5)

    def forward(self, z, site_mask=None):
        if site_mask is None:
            return self.map(z)
        weight = site_mask[..., None].to(z)
        return self.map(z - (z * weight).sum(1, keepdim=True) / weight.sum(1)[:, None])


@pytest.fixture(scope="module")
def on_added():
    X, y = tokens()
    mask = np.ones(X.shape[:2], dtype=bool)
    mask[::3, 4:] = False
    model = ProtoViTClassifier(encoder="tokens", add_on=Attention, **QUICK)
    return model.fit(np.where(mask[..., None], X, np.nan), y), X, y, mask


def test_module_on_tokens(on_added):
    model, X, y, mask = on_added
    assert model.prototypes_.shape[2] == 5
    assert np.isfinite(model.prototypes_).all()
    noise = np.where(mask[:, :, None], X, 1e3)
    padded = np.where(mask[:, :, None], X, np.nan)
    np.testing.assert_array_equal(
        model.transform(noise, site_mask=mask), model.transform(padded)
    )
    model.explain(noise, site_mask=mask).verify()
    right = (model.predict(padded) == y).mean()
    assert model.score(noise, y, site_mask=mask) == right
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.transform(padded), model.transform(padded))
    module = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU())
    given = ProtoViTClassifier(encoder="tokens", add_on=module, **QUICK).fit(X, y)
    assert given.prototypes_.shape[2] == 6


def test_mask_counts_in_operations(on_added):
    model, X, y, mask = on_added
    noise = np.where(mask[:, :, None], X, 1e3)
    padded = np.where(mask[:, :, None], X, np.nan)
    for run in (
        lambda m, Z, **how: m.project(Z, y, **how),
        lambda m, Z, **how: m.prune(Z, y, 3, **how),
        lambda m, Z, **how: m.refit_head(Z, y, **how),
    ):
        changed = run(pickle.loads(pickle.dumps(model)), noise, site_mask=mask)
        expected = run(pickle.loads(pickle.dumps(model)), padded)
        np.testing.assert_array_equal(
            changed.predict_proba(padded), expected.predict_proba(padded)
        )
        rows, sites = changed.prototype_indices_, changed.prototype_sites_
        on = sites >= 0
        assert mask[np.repeat(rows, on.sum(axis=1)), sites[on]].all()
    maps = model.similarity_maps(noise, site_mask=mask)
    assert (maps.transpose(0, 2, 1)[~mask] == -1).all()


@pytest.mark.parametrize(
    ("add_on", "message"),
    [
        (torch.nn.Linear(7, 3), "add-on Linear failed on sites of shape"),
        (torch.nn.Flatten(), "must return sites of shape"),
        (3, "'add_on' parameter"),
    ],
)
def test_bad_add_on(add_on, message):
    X, y = tokens()
    with pytest.raises(ValueError, match=message):
        ProtoViTClassifier(encoder="tokens", add_on=add_on, **QUICK).fit(X, y)


# -------------------------------------------------------------------- persistence
def test_pickle_and_files(fitted, on_tokens, tmp_path):
    X, _ = images()
    copied = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copied.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(copied.slots_, fitted.slots_)
    model, Z, mask = on_tokens
    persistence.save(model, tmp_path / "model.skops")
    loaded = persistence.load(tmp_path / "model.skops")
    np.testing.assert_array_equal(
        loaded.predict_proba(Z, site_mask=mask), model.predict_proba(Z, site_mask=mask)
    )


def test_prune_and_refit(fitted):
    X, y = images()
    model = pickle.loads(pickle.dumps(fitted))
    model.prune(X, y, n_neighbors=6)
    n_left = len(model.prototypes_)
    for name in ("slots_", "n_parts_", "self_similarity_", "prototype_patches_"):
        assert len(getattr(model, name)) == n_left
    model.refit_head(X, y).explain(X[:2]).verify()


# ---------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_parts": 17}, r"n_parts must be at most .* 16\. Got 17"),
        ({"n_parts": 0}, "'n_parts' parameter"),
        ({"radius": 0}, r"'radius' parameter .* \[1, inf\)"),
        ({"patch_size": 3}, "'patch_size' parameter must divide"),
        ({"adjacency": "near"}, "'adjacency' parameter"),
        ({"prototype_lr": 0.0}, "'prototype_lr' parameter"),
        ({"encoder": "features"}, "'features' needs a table"),
        ({"encoder": "mlp"}, "n_parts must be at most|Got 3"),
    ],
)
def test_bad_parameters(settings, message):
    X, y = images()
    if settings.get("encoder") == "mlp":
        settings = {**settings, "n_parts": 3}
    with pytest.raises(ValueError, match=message):
        ProtoViTClassifier(**{**QUICK, **settings}).fit(X, y)


def test_bad_samples():
    X, y = images()
    model = ProtoViTClassifier(**QUICK)
    with pytest.raises(ValueError, match="at least 2 classes"):
        model.fit(X, np.zeros(len(X)))
    broken = X.copy()
    broken[3, 2, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        model.fit(broken, y)
    with pytest.raises(ValueError, match="encoder='tokens'"):
        model.fit(X, y, site_mask=np.ones((48, 8), dtype=bool))


def test_masks_that_leave_too_few_tokens():
    X, y = tokens()
    mask = np.ones(X.shape[:2], dtype=bool)
    mask[[2, 7], 2:] = False
    model = ProtoViTClassifier(encoder="tokens", **QUICK)
    with pytest.raises(ValueError, match=r"n_parts=3 tokens .* rows 2, 7\."):
        model.fit(X, y, site_mask=mask)
    with pytest.raises(ValueError, match="array of bool"):
        model.fit(X, y, site_mask=mask[:, :3])
    with pytest.raises(ValueError, match="array of bool"):
        model.fit(X, y, site_mask=mask.astype(int))
    partly = X.copy()
    partly[4, 1, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        model.fit(partly, y)
    fitted = model.fit(X, y)
    with pytest.raises(ValueError, match="rows 2, 7"):
        fitted.predict(X, site_mask=mask)


def test_weights_of_absent_samples_keep_row_numbers():
    X, y = tokens()
    X[0, 1:] = np.nan
    weight = np.ones(len(y))
    weight[0] = 0.0
    model = ProtoViTClassifier(encoder="tokens", **QUICK).fit(X, y, weight)
    assert (model.prototype_indices_ > 0).all()
    X[5, 1:] = np.nan
    with pytest.raises(ValueError, match=r"rows 5\."):
        model.fit(X, y, weight)
