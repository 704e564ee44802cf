"""TesNet: unit prototypes, orthogonal in each class, subspaces apart."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits

from skproto import TesNetClassifier
from skproto.nn.part_losses import PrototypeOrthogonality, SubspaceSeparation

N_TRAIN = 240


@pytest.fixture(scope="module")
def train():
    X, y = load_digits(n_class=4, return_X_y=True)
    return X[:N_TRAIN].reshape(-1, 8, 8), y[:N_TRAIN]


def brief(*args, **settings):
    settings = {"max_epochs": 4, "random_state": 0, **settings}
    return TesNetClassifier(*args, **settings)


@pytest.fixture(scope="module")
def fitted(train):
    return brief(max_epochs=10).fit(*train)


def test_prototypes_have_length_1_and_score_by_the_inner_product(fitted, train):
    X, y = train
    assert_allclose(np.linalg.norm(fitted.prototypes_, axis=1), 1, rtol=1e-6)
    assert fitted.score(X, y) > 0.9
    assert_array_equal(fitted.projection_distance_, 0)
    fitted.explain(X[fitted.prototype_indices_]).verify()
    maps = fitted.similarity_maps(X[:20]).max(axis=(2, 3))
    assert_allclose(maps, fitted.transform(X[:20]), rtol=1e-5)


def test_a_source_shows_its_prototype_where_it_comes_from(fitted, train):
    X, _ = train
    own = np.arange(len(fitted.prototypes_))
    case = fitted.explain(X[fitted.prototype_indices_])
    assert_array_equal(case.places.sites[own, own], fitted.prototype_sites_)
    maps = fitted.similarity_maps(X[fitted.prototype_indices_])[own, own]
    flat = maps.reshape(len(own), -1)
    assert_allclose(flat[own, fitted.prototype_sites_], flat.max(axis=1), rtol=1e-6)


def test_a_second_projection_changes_nothing(fitted, train):
    again = pickle.loads(pickle.dumps(fitted)).project(*train)
    assert_array_equal(again.prototypes_, fitted.prototypes_)
    assert_array_equal(again.prototype_indices_, fitted.prototype_indices_)


def test_prototypes_keep_length_1_in_training(train):
    lengths = []

    def look(batch):
        lengths.append(np.linalg.norm(model.net_.module_.prototypes.detach(), axis=1))
        return batch

    model = brief(augment=look, max_epochs=2, lr=0.05)
    model.fit(*train)
    assert_allclose(lengths, 1, rtol=1e-5)


def test_terms_and_their_weights(train):
    terms = {term.name: term.weight for term in brief()._loss_terms()}
    assert terms["orthogonality"] == 1e-4
    assert terms["subspaces"] == 1e-7
    off = brief(orthogonality_weight=0, subspace_weight=0)
    assert not {"orthogonality", "subspaces"} & {t.name for t in off._loss_terms()}


def test_orthogonality_and_subspaces_are_those_of_the_owners(train):
    settings = {"project_prototypes": False, "max_epochs": 6, "lr": 0.01}
    apart = brief(orthogonality_weight=1.0, **settings).fit(*train)
    free = brief(orthogonality_weight=0.0, **settings).fit(*train)

    def off_diagonal(model):
        p = model.prototypes_.reshape(4, 3, -1)
        gram = np.abs(p @ p.transpose(0, 2, 1) - np.eye(3))
        return gram.sum()

    assert off_diagonal(apart) < 0.5 * off_diagonal(free)
    module = free._module
    value = float(PrototypeOrthogonality()({}, None, module).detach())
    assert_allclose(value, off_diagonal(free), rtol=1e-4)
    p = free.prototypes_.reshape(4, 3, -1)
    projections = p.transpose(0, 2, 1) @ p
    gaps = projections[:, None] - projections
    expected = -0.5 * np.linalg.norm(gaps, axis=(2, 3)).sum() / np.sqrt(2)
    value = float(SubspaceSeparation()({}, None, module).detach())
    assert_allclose(value, expected, rtol=1e-4)


def test_more_prototypes_than_dimensions_are_refused(train):
    with pytest.raises(ValueError, match=r"dimension of the sites, 2.*Got 3"):
        brief(prototype_dim=2).fit(*train)


def test_only_its_own_switches_are_parameters():
    parameters = brief().get_params()
    assert "subspace_weight" in parameters
    assert not {"similarity", "pooling", "head"} & set(parameters)
    assert clone(brief(subspace_weight=0.5)).subspace_weight == 0.5
