"""Attacks find the boundary where it is known, and never cross a certificate."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.datasets import load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from skproto.robustness import AttackResult, attack, certified_accuracy
from skproto.shallow import CBCClassifier, RBFClassifier
from skproto.utils import all_estimators

CERTIFYING = [(name, cls) for name, cls in all_estimators() if hasattr(cls, "certify")]


def hand_example(kernel):
    """The 1-D example with components 0 and 4 of the reference numbers."""
    model = CBCClassifier(1, sigma=2.0, kernel=kernel, standardize=False, max_epochs=0)
    model.fit([[0.0], [4.0]], ["A", "B"])
    tables = [[0.6, 0.1], [0.0, 0.6], [0.0, 0.2], [0.4, 0.1]]
    with torch.no_grad():
        model._module.head.logits.copy_(torch.tensor(tables).log())
    return model


def two_prototypes(n_features, rng):
    """A convex RBF model that decides by the nearest of two prototypes."""
    points = 3.0 * rng.standard_normal((2, n_features))
    model = RBFClassifier(
        1, head="convex", sigma=30.0, standardize=False, max_epochs=0, init=points
    )
    model.fit(points, [0, 1])
    with torch.no_grad():
        model._module.head.logits.copy_(40.0 * torch.eye(2))
    return model, points


class TestKnownBoundary:
    @pytest.mark.parametrize(
        ("kernel", "distance"), [("metric", 1.089504959), ("squared", 1.165120478)]
    )
    def test_hand_example(self, kernel, distance):
        found = attack(hand_example(kernel), [[1.0]], radius=5.0, random_state=0)
        assert found.success.all()
        assert found.distance[0] == pytest.approx(distance, rel=1e-3)
        assert found.prediction.tolist() == ["B"]

    @pytest.mark.parametrize("n_features", [2, 10, 50])
    def test_two_prototypes(self, n_features):
        rng = np.random.RandomState(n_features)
        model, (p, q) = two_prototypes(n_features, rng)
        X = rng.standard_normal((20, n_features))
        true = np.abs((X - (p + q) / 2) @ (q - p)) / np.linalg.norm(q - p)
        found = attack(model, X, radius=30.0, random_state=0)
        np.testing.assert_allclose(found.distance, true, rtol=0.02, atol=1e-4)

    @pytest.mark.parametrize(("norm", "dual"), [(1, np.inf), (2, 2), (np.inf, 1)])
    def test_norms(self, norm, dual):
        rng = np.random.RandomState(0)
        model, (p, q) = two_prototypes(6, rng)
        X = rng.standard_normal((20, 6))
        slope = np.linalg.norm(q - p, ord=dual)
        true = np.abs((X - (p + q) / 2) @ (q - p)) / slope
        found = attack(model, X, radius=60.0, norm=norm, random_state=0)
        np.testing.assert_allclose(found.distance, true, rtol=0.05, atol=1e-4)

    def test_classifier_without_gradient(self):
        X, y = load_iris(return_X_y=True)
        model = LogisticRegression(max_iter=1000).fit(X[:100], y[:100])
        true = np.abs(model.decision_function(X[:20])) / np.linalg.norm(model.coef_)
        found = attack(model, X[:20], radius=10.0, random_state=0)
        assert (found.distance >= true * (1 - 1e-6)).all()
        assert np.median(found.distance / true) < 1.05

    def test_tree(self):
        X, y = load_iris(return_X_y=True)
        model = DecisionTreeClassifier(max_depth=1).fit(X[:100], y[:100])
        feature, cut = model.tree_.feature[0], model.tree_.threshold[0]
        found = attack(model, X[:10], radius=5.0, norm=np.inf, random_state=0)
        true = np.abs(X[:10, feature] - cut)
        np.testing.assert_allclose(found.distance, true, rtol=0.05)


class TestCertificates:
    @pytest.mark.parametrize(("name", "cls"), CERTIFYING)
    def test_no_label_changes_inside_the_radius(self, name, cls):
        X, y = load_wine(return_X_y=True)
        model = cls(random_state=0).fit(X, y)
        radius = 0.999999 * np.minimum(model.certify(X), 20.0)
        n_attacks = 0
        for seed in range(3):
            found = attack(
                model, X, radius=radius, n_steps=60, random_state=seed, n_restarts=4
            )
            n_attacks += found.n_attacks
            assert not found.success.any()
        assert n_attacks >= 100_000

    @pytest.mark.parametrize("kernel", ["metric", "squared"])
    @pytest.mark.parametrize("cls", [CBCClassifier, RBFClassifier])
    def test_no_label_changes_with_other_kernels(self, cls, kernel):
        X, y = load_iris(return_X_y=True)
        model = cls(2, kernel=kernel, max_epochs=20, random_state=0).fit(X, y)
        radius = 0.999999 * np.minimum(model.certify(X), 20.0)
        found = attack(model, X, radius=radius, random_state=0)
        assert not found.success.any()
        wide = attack(model, X, radius=20.0, random_state=0)
        assert (wide.distance >= model.certify(X) * (1 - 1e-6)).all()

    def test_input_units(self):
        X, y = load_wine(return_X_y=True)
        model = CBCClassifier(max_epochs=20, random_state=0).fit(X, y)
        radius = model.certify(X, units="input")
        found = attack(model, X, radius=radius * 0.999999, units="input")
        assert not found.success.any()

    def test_certified_accuracy(self):
        X, y = load_iris(return_X_y=True)
        model = CBCClassifier(max_epochs=20, random_state=0).fit(X, y)
        radius = model.certify(X, y)
        assert certified_accuracy(model, X, y, 0.0) == model.score(X, y)
        share = certified_accuracy(model, X, y, [0.1, 0.5, 50.0], method="closed")
        tight = certified_accuracy(model, X, y, [0.1, 0.5, 50.0])
        assert (share <= tight).all()
        assert tight.tolist() == [(radius > e).mean() for e in (0.1, 0.5, 50.0)]

    def test_certified_accuracy_needs_a_certificate(self):
        model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
        with pytest.raises(TypeError, match="LogisticRegression cannot certify"):
            certified_accuracy(model, [[0.0]], [0], 0.1)
        with pytest.raises(ValueError, match="eps must be at least 0"):
            certified_accuracy(model, [[0.0]], [0], -0.1)


@pytest.fixture(scope="module")
def model():
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])
    return CBCClassifier(max_epochs=20, random_state=0).fit(X, names[y])


class TestInterface:
    X = load_iris().data[::10]

    def test_result(self, model):
        found = attack(model, self.X, radius=3.0, random_state=0)
        assert isinstance(found, AttackResult)
        assert len(found) == len(self.X)
        assert (model.predict(found.samples) == found.prediction).all()
        changed = found.prediction != model.predict(self.X)
        np.testing.assert_array_equal(found.success, changed)
        np.testing.assert_array_equal(found.success, np.isfinite(found.distance))
        length = np.linalg.norm((found.samples - self.X) / model.scale_, axis=1)
        hit = found.success
        np.testing.assert_allclose(length[hit], found.distance[hit], rtol=1e-6)
        np.testing.assert_array_equal(found.samples[~hit], self.X[~hit])
        assert (found.distance[hit] <= 3.0).all()

    def test_same_seed_same_bits(self, model):
        first, second = (
            attack(model, self.X, radius=2.0, random_state=3) for _ in "ab"
        )
        np.testing.assert_array_equal(first.samples, second.samples)

    def test_sparse(self, model):
        dense = attack(model, self.X, radius=2.0, random_state=0)
        sparse = attack(model, sp.csr_array(self.X), radius=2.0, random_state=0)
        np.testing.assert_allclose(sparse.distance, dense.distance, rtol=1e-3)

    def test_wrong_samples_have_distance_0(self, model):
        y = np.full(len(self.X), "setosa")
        found = attack(model, self.X, y, radius=0.5, random_state=0)
        wrong = model.predict(self.X) != "setosa"
        assert wrong.any()
        assert (found.distance[wrong] == 0).all()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"radius": -1.0}, "radius must be finite and not negative"),
            ({"radius": np.inf}, "radius must be finite"),
            ({"radius": [1.0, 2.0]}, "one for each of the 15 samples"),
            ({"radius": 1.0, "norm": 3}, "norm must be 1, 2 or inf"),
            ({"radius": 1.0, "units": "raw"}, "units must be"),
            ({"radius": 1.0, "n_steps": 0}, "n_steps must be an int"),
            ({"radius": 1.0, "n_restarts": 0.5}, "n_restarts must be an int"),
        ],
    )
    def test_bad_options(self, model, options, message):
        with pytest.raises(ValueError, match=message):
            attack(model, self.X, **options)
