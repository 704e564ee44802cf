"""Edits of networks of parts: places, provenance, regions that are forbidden."""

import copy
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import nn

from skproto import persistence
from skproto._editing import family_of
from skproto._provenance import image_hash
from skproto.networks import (
    DeformableProtoPNetClassifier,
    PIPNetClassifier,
    ProtoPNetClassifier,
    ProtoPoolClassifier,
    PrototypeAutoencoderClassifier,
    ProtoViTClassifier,
    TesNetClassifier,
)
from skproto.operations import EditedEstimator, EditNotSupported, edit

X_all, y_all = load_digits(n_class=3, return_X_y=True)
X, y = X_all[:60].reshape(-1, 8, 8), y_all[:60]
DATA = {"X": X, "y": y, "repair_steps": 2}
CORNER = (0, 0, 3, 3)  # cells of 2 x 2 pixels: four of them
# Deformable prototypes span cells: with two parts in a row most centres are left.
MAKE = {
    "protopnet": lambda: ProtoPNetClassifier(2, pretrain_epochs=0),
    "protopnet-topk": lambda: ProtoPNetClassifier(
        2, similarity="log_l2", pooling="topk", pretrain_epochs=0
    ),
    "tesnet": lambda: TesNetClassifier(2, pretrain_epochs=0),
    "deformable": lambda: DeformableProtoPNetClassifier(
        2, part_grid=2, pretrain_epochs=0
    ),
    "protopool": lambda: ProtoPoolClassifier(12, pretrain_epochs=0),
    "pipnet": lambda: PIPNetClassifier(12),
    "protovit": lambda: ProtoViTClassifier(2, slot_epochs=1),
    "autoencoder": lambda: PrototypeAutoencoderClassifier(6),
}
PARTS = ("protopnet", "tesnet", "deformable", "protopool", "protovit")
PLACED = (*PARTS, "protopnet-topk", "pipnet")


@pytest.fixture(scope="module")
def fitted():
    """Return a function that returns a copy of a model, fitted once."""
    known = {}

    def get(name):
        if name not in known:
            model = MAKE[name]().set_params(max_epochs=3, random_state=0)
            images = X / 16 if name == "autoencoder" else X
            known[name] = model.fit(images, y)
        return copy.deepcopy(known[name])

    return get


def cells_of(region):
    """Return the cells of a 4 x 4 grid of 2 x 2 pixels that touch a box."""
    top, left, bottom, right = region
    rows, columns = range(top // 2, -(-bottom // 2)), range(left // 2, -(-right // 2))
    return {4 * row + column for row in rows for column in columns}


def check(model, images=X):
    shown = model.explain(images[:8])
    shown.verify()
    decision = model.decision_function(images[:8])
    total = shown.contributions.sum(axis=1) + shown.bias
    assert_allclose(total, decision, rtol=1e-5, atol=1e-4)
    return shown


# -- items and their provenance --------------------------------------------------------


@pytest.mark.parametrize("name", PARTS)
def test_added_parts_keep_their_image_as_source(fitted, name):
    model = fitted(name)
    image = X_all[100].reshape(8, 8)
    model.add_prototypes(image, 1)
    assert model.prototype_indices_[-1] == -1
    assert model.prototype_hashes_[-1] == image_hash(image[None])
    assert_array_equal(model.prototype_samples_[-1], image[None])
    assert model.projection_distance_[-1] == 0
    box = np.asarray(model.prototype_boxes_[-1]).reshape(-1, 4)[0]
    patches = model.prototype_patches_[-1]
    patch = patches if isinstance(patches, np.ndarray) else patches[0]
    assert_array_equal(patch, image[None, box[0] : box[2], box[1] : box[3]])
    report = model.edit_log_[-1]
    assert len(report["arguments"]["sites"]) == 1
    shown = check(model, image[None])
    highest = model._max_similarity()
    if highest is not None and name != "tesnet":
        assert_allclose(shown.similarities[0, -1], highest[-1], rtol=1e-5)


@pytest.mark.parametrize("name", ["protopnet", "tesnet", "protopool"])
def test_the_best_matching_site_is_taken_and_told(fitted, name):
    model = fitted(name)
    image = X_all[101].reshape(1, 8, 8)
    report = model.replace_prototypes(0, image, dry_run=True)
    assert "best-matching sites" in str(report)
    model.replace_prototypes(0, image)
    site = int(model.prototype_sites_[0])
    alike = family_of(fitted(name)).candidates(
        family_of(model).plain_data(model._check_input(image))
    )
    old = family_of(fitted(name)).similarity(alike[0])[:, 0]
    assert site == old.argmax()
    named = fitted(name).replace_prototypes(0, image, sites=[(site + 5) % 16])
    assert named.prototype_sites_[0] == (site + 5) % 16
    with pytest.raises(ValueError, match="range"):
        named.replace_prototypes(0, image, sites=[16])


def test_all_parts_of_a_prototype_go_together(fitted):
    model = fitted("protovit")
    image = X_all[103].reshape(1, 8, 8)
    sites = fitted("protovit").explain(image).places.sites[0, 1]
    model.replace_prototypes(int(model.prototype_ids_[1]), image)
    assert_array_equal(model.prototype_sites_[1], sites)
    kept = model.slots_[1]
    scaled = torch.from_numpy(model._scaling.apply(model._check_input(image)[:]))
    tokens = model._module.encoder(scaled)[0].detach().numpy()
    assert_allclose(
        model.prototypes_[1][kept], tokens[sites[kept]], rtol=1e-4, atol=1e-5
    )
    named = list(range(model.prototypes_.shape[1]))
    model.add_prototypes(image, 0, sites=[named])
    assert_array_equal(model.prototype_sites_[-1], named)
    assert model.slots_[-1].all()
    assert model.n_parts_[-1] == len(named)
    model.add_prototypes(image, 0, sites=[9])
    assert 9 in model.prototype_sites_[-1]
    check(model)


def test_edited_models_are_saved(fitted, tmp_path):
    for name in ("protopnet", "autoencoder"):
        model = fitted(name)
        images = X / 16 if name == "autoencoder" else X
        model.add_prototypes(images[55], 2)
        model.remove_prototypes(int(model.prototype_ids_[0]))
        model.forbid(region=CORNER)
        persistence.save(model, tmp_path / name)
        for again in (
            pickle.loads(pickle.dumps(model)),
            persistence.load(tmp_path / name),
        ):
            assert_array_equal(again.predict_proba(images), model.predict_proba(images))
            again.undo(3)
            whole = fitted(name).predict_proba(images)
            assert_array_equal(again.predict_proba(images), whole)


# -- pools, channels, codes ------------------------------------------------------------


def test_a_prototype_of_a_pool_takes_an_empty_slot_or_a_new_one(fitted):
    model = fitted("protopool")
    n_slots = model.slots_.shape[1]
    grown = edit(model, "add", items=X[40], label=0)
    assert grown.slots_.shape == (3, n_slots + 1)
    assert_allclose(grown.class_weights_[:-1], model.class_weights_, atol=1e-6)
    mine = np.flatnonzero((model.slots_ == 0).any(axis=1))
    freed = edit(model, "remove", int(model.prototype_ids_[0]))
    assert (freed.slots_ == -1).sum() >= 1
    again = edit(freed, "add", items=X[40], label=int(mine[0]))
    assert again.slots_.shape == (3, n_slots)
    moved = edit(model, "relabel", int(model.prototype_ids_[0]), label=2)
    assert moved.prototype_labels_[0] == 2
    assert_array_equal(moved.prototype_owners_[0], [False, False, True])
    for other in (grown, freed, again, moved):
        check(other)


def test_channels_are_removed_and_weighed_but_not_placed(fitted):
    model = fitted("pipnet")
    scores = model.explain(X).class_contributions
    model.remove_prototypes([0, 3])
    left = np.delete(scores, [0, 3], axis=1).sum(axis=1)
    assert_allclose(model.explain(X).scores, left, rtol=1e-5, atol=1e-5)
    for op, ids, given in (
        ("add", None, {"items": X[0], "label": 0}),
        ("replace", 1, {"items": X[0]}),
        ("snap", None, DATA),
    ):
        with pytest.raises(EditNotSupported, match="channels of the encoder"):
            edit(model, op, ids, **given)
    with pytest.raises(ValueError, match="at least 0"):
        model.reweight_prototypes(1, -1.0)
    with pytest.raises(EditNotSupported, match="shared by all classes"):
        model.forbid(region=CORNER, labels=[0])
    before = fitted("pipnet")
    report = before.remove_prototypes([0], X=X, y=y, dry_run=True)
    assert report.repair == "head"
    model.remove_prototypes([1], X=X, y=y)
    assert (model.class_weights_ >= 0).all()


def test_the_decoder_shows_edited_codes(fitted):
    model, images = fitted("autoencoder"), X / 16
    model.replace_prototypes(0, images[30])
    assert_allclose(model.prototypes_[0], model.encode(images[30:31])[0], rtol=1e-5)
    assert_array_equal(model.prototypes_decoded_, model.decode_prototypes())
    gap = model._scaling.apply(model.prototypes_decoded_[:1])
    gap = gap - model._scaling.apply(images[None, 30:31])
    assert_allclose(model.prototype_decoding_errors_[0], (gap**2).sum(), rtol=1e-4)
    model.add_prototypes(images[31], 1)
    assert len(model.prototype_decoding_errors_) == len(model.prototypes_decoded_) == 7
    assert model.head_weights_[-1, 1] < 0 == model.head_weights_[-1, 0]
    with pytest.raises(EditNotSupported, match="whole images"):
        model.forbid(region=CORNER, labels=[0])


# -- regions ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLACED)
def test_nothing_uses_a_forbidden_region(fitted, name):
    model = fitted(name)
    model.forbid(region=CORNER, **DATA)
    hidden = cells_of(CORNER)
    shown = check(model)
    assert not np.isin(shown.places.sites, list(hidden)).any()
    assert not np.isin(model.prototype_sites_, list(hidden)).any()
    changed = X.copy()
    changed[:, :3, :3] = np.random.RandomState(0).uniform(0, 16, (len(X), 3, 3))
    assert_array_equal(model.predict_proba(changed), model.predict_proba(X))
    maps = model.similarity_maps(X[:8])
    assert np.isfinite(maps).all()
    if "maps" in vars(shown.places) and name != "deformable":
        flat = maps.reshape(*maps.shape[:2], -1)
        allowed = np.setdiff1d(np.arange(16), list(hidden))
        assert (flat.max(axis=2) == flat[:, :, allowed].max(axis=2)).all()
    if name != "pipnet":
        model.snap_prototypes(**DATA)
        model.finetune_prototypes(**DATA)
        assert not np.isin(model.prototype_sites_, list(hidden)).any()
        check(model)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    again.undo(len(again.edit_log_))
    assert_array_equal(again.predict_proba(X), fitted(name).predict_proba(X))


@pytest.mark.parametrize("name", ["protopnet", "protovit", "deformable"])
def test_a_region_can_be_forbidden_to_some_classes(fitted, name):
    model = fitted(name)
    half = (0, 0, 8, 4) if name != "deformable" else (0, 0, 3, 3)
    model.forbid(region=half, labels=[1], **DATA)
    hidden = list(cells_of(half))
    shown = check(model)
    own = model.prototype_labels_ == 1
    assert not np.isin(shown.places.sites[:, own], hidden).any()
    assert np.isin(shown.places.sites[:, ~own], hidden).any()
    assert not np.isin(model.prototype_sites_[own], hidden).any()
    with pytest.raises(ValueError, match=r"must not|forbidden"):
        model.add_prototypes(X[5], 1, sites=[0])
    model.add_prototypes(X[5], 1)
    assert not np.isin(model.prototype_sites_[-1], hidden).any()


def test_forbidding_without_data_names_the_next_best_part(fitted):
    model = fitted("protopnet")
    site = int(model.prototype_sites_[0])
    row, column = divmod(site, 4)
    box = (2 * row, 2 * column, 2 * row + 2, 2 * column + 2)
    source = model.prototype_hashes_[0]
    model.forbid(region=box)
    assert model.prototype_sites_[0] != site
    assert model.prototype_hashes_[0] == source
    assert model.projection_distance_[0] > 0
    check(model)


@pytest.mark.parametrize("name", ["protopnet", "pipnet", "protovit"])
def test_a_fit_keeps_to_what_is_forbidden(fitted, name):
    hidden = list(cells_of(CORNER))
    changed = X.copy()
    changed[:, :3, :3] = 9.0
    plain = clone(fitted(name))
    edited = EditedEstimator(plain, edits=[{"op": "forbid", "region": CORNER}])
    edited.fit(X, y)
    inner = edited.estimator_
    assert not np.isin(inner.prototype_sites_, hidden).any()
    assert_array_equal(edited.predict_proba(changed), edited.predict_proba(X))
    check(inner)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ((0, 0, 8, 8), "must leave every prototype"),
        ((9, 0, 10, 2), "must lie inside"),
        ((3, 3, 2, 5), "region must be a box"),
    ],
)
def test_impossible_regions(fitted, region, message):
    model = fitted("protopnet")
    with pytest.raises(ValueError, match=message):
        model.forbid(region=region)
    assert_array_equal(model.predict_proba(X), fitted("protopnet").predict_proba(X))


# -- a shortcut ------------------------------------------------------------------------


def local_encoder(shape):
    """Return an encoder whose sites see their own 4 x 4 pixels."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=4),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 1),
    )


@pytest.fixture(scope="module")
def shortcut():
    """Return marked training images, their labels, clean images, labels, a model."""
    rng = np.random.RandomState(0)
    digits, labels = X_all[:260].reshape(-1, 8, 8), y_all[:260]
    clean = rng.normal(size=(260, 12, 12))
    clean[:, 4:, 4:] += 0.3 * digits
    train = clean[:120].copy()
    train[:, :4, :4] = rng.choice([-12.0, 12.0], size=(3, 4, 4))[labels[:120]]
    model = ProtoPNetClassifier(
        3, encoder=local_encoder, warm_epochs=0, max_epochs=12, random_state=0, lr=0.01
    )
    return (
        train,
        labels[:120],
        clean[120:],
        labels[120:],
        model.fit(train, labels[:120]),
    )


def test_edits_mend_a_shortcut(shortcut):
    X_marked, y_marked, X_clean, y_clean, model = shortcut
    assert model.score(X_marked, y_marked) > 0.9
    before = model.score(X_clean, y_clean)
    assert before < 0.5
    on_mark = model.prototype_ids_[(model.prototype_boxes_[:, :2] < 4).all(axis=1)]
    assert len(on_mark)
    data = {"X": X_marked, "y": y_marked}
    removed = edit(model, "remove", on_mark, allow_empty_class=True, **data)
    forbidden = edit(model, "forbid", region=(0, 0, 4, 4), **data)
    anew = edit(model, "forbid", region=(0, 0, 4, 4), on_fit=True)
    anew.fit(X_marked, y_marked)
    assert removed.score(X_clean, y_clean) > before + 0.1
    assert forbidden.score(X_clean, y_clean) > before + 0.15
    assert anew.score(X_clean, y_clean) > before + 0.25
