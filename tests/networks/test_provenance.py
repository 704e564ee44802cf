"""What all models of images keep of the training images behind their prototypes."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits

from skproto import (
    CBCClassifier,
    DeformableProtoPNetClassifier,
    GLVQClassifier,
    PIPNetClassifier,
    ProtoPNetClassifier,
    ProtoPoolClassifier,
    ProtoTreeClassifier,
    PrototypeAutoencoderClassifier,
    ProtoViTClassifier,
    RBFClassifier,
    TesNetClassifier,
)
from skproto._provenance import image_hash

DIGITS, LABELS = load_digits(n_class=3, return_X_y=True)
IMAGES = DIGITS.reshape(-1, 8, 8).astype(np.uint8)
X, Y = IMAGES[:150], LABELS[:150]
NEW = IMAGES[150:170]

BRIEF = {"max_epochs": 2, "random_state": 0}
ALONE = {**BRIEF, "pretrain_epochs": 0}
MODELS = {
    "ProtoPNet": ProtoPNetClassifier(2, **ALONE),
    "TesNet": TesNetClassifier(2, **ALONE),
    "Deformable": DeformableProtoPNetClassifier(2, **ALONE),
    "ProtoPool": ProtoPoolClassifier(**ALONE),
    "PIPNet": PIPNetClassifier(**BRIEF),
    "ProtoViT": ProtoViTClassifier(slot_epochs=1, **BRIEF),
    "Tree": ProtoTreeClassifier(
        2, adjust_epochs=1, refit_passes=0, prune_threshold=0.0, **ALONE
    ),
    "Autoencoder": PrototypeAutoencoderClassifier(6, project_prototypes=True, **BRIEF),
    "RBF": RBFClassifier(2, project_prototypes=True, **ALONE),
    "CBC": CBCClassifier(2, project_prototypes=True, **ALONE),
    "GLVQ": GLVQClassifier(2, project_prototypes=True, **ALONE),
}
PROJECTED = [name for name in MODELS if name != "PIPNet"]


def darken(batch):
    """Change images so much that no site of one is a site of the image itself."""
    return 0.5 * batch - 9.0


@pytest.fixture(scope="module")
def fitted():
    """Models by name, fitted to changed images when they are asked for."""
    known = {}

    def get(name):
        if name not in known:
            model = clone(MODELS[name]).set_params(augment=darken)
            known[name] = model.fit(X, Y).set_params(augment=None)
        return pickle.loads(pickle.dumps(known[name]))

    return get


def parts(value):
    """Return boxes or patches of a prototype as a list, one for each part."""
    whole = isinstance(value, np.ndarray) and value.ndim in (1, 3)
    return [value] if whole else list(value)


@pytest.mark.parametrize("name", MODELS)
def test_patch_box_row_and_hash_are_those_of_a_training_image(fitted, name):
    model = fitted(name)
    n_prototypes = len(model.prototypes_)
    assert model.prototype_indices_.shape == (n_prototypes,)
    assert len(model.prototype_patches_) == len(model.prototype_boxes_) == n_prototypes
    for p, row in enumerate(model.prototype_indices_):
        image = X[row][None]
        assert model.prototype_hashes_[p] == image_hash(image)
        boxes = parts(np.asarray(model.prototype_boxes_[p]))
        patches = parts(model.prototype_patches_[p])
        assert len(boxes) == len(patches)
        for (top, left, bottom, right), patch in zip(boxes, patches, strict=True):
            assert_array_equal(patch, image[:, top:bottom, left:right])
    assert_array_equal(model.prototype_samples_[:, 0], X[model.prototype_indices_])
    assert_array_equal(model.prototype_sample_labels_, Y[model.prototype_indices_])


@pytest.mark.parametrize("name", PROJECTED)
def test_projection_saw_the_images_as_they_are(fitted, name):
    model = fitted(name)
    assert_array_equal(model.projection_distance_, 0)
    before = model.prototypes_, model.prototype_indices_, model.prototype_sites_
    model.project(X, Y)
    assert_array_equal(model.projection_distance_, 0)
    after = model.prototypes_, model.prototype_indices_, model.prototype_sites_
    for old, new in zip(before, after, strict=True):
        assert_array_equal(new, old)


@pytest.mark.parametrize("name", MODELS)
def test_the_training_images_are_not_stored(fitted, name):
    model = fitted(name)
    # Nothing with an entry for each training image, whatever it is called.
    for key, value in vars(model).items():
        if isinstance(value, np.ndarray | list):
            assert len(value) != len(X), key
    assert not [key for key, v in vars(model).items() if v is X or v is Y]
    stored = pickle.dumps(model)
    absent = np.setdiff1d(np.arange(len(X)), model.prototype_indices_)
    assert not any(X[row].tobytes() in stored for row in absent[:20])


@pytest.mark.parametrize("name", MODELS)
def test_maps_have_the_similarity_as_their_maximum(fitted, name):
    model = fitted(name)
    maps = model.similarity_maps(NEW)
    case = model.explain(NEW)
    case.verify()
    assert maps.shape[:2] == (len(NEW), len(model.prototypes_))
    highest = maps.max(axis=(2, 3))
    similar = model.transform(NEW)
    if name == "ProtoViT":  # the best of several parts
        assert (highest <= 1 + 1e-6).all()
        best = case.places.part_similarities.max(axis=2)
        assert (highest >= best - 1e-5).all()
    elif name == "ProtoPool":  # focal: less what the mean distance is worth
        assert (highest >= similar - 1e-5).all()
    elif name == "Autoencoder":
        assert_allclose(highest, np.exp(-similar / model.bandwidth_), rtol=1e-4)
    else:
        counts = similar > 0 if name == "PIPNet" else np.ones_like(similar, dtype=bool)
        assert_allclose(highest[counts], similar[counts], rtol=1e-4, atol=1e-5)
