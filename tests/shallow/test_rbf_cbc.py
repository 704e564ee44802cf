"""RBF and CBC classifiers: evidence, widths, losses, solvers, edits."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import skorch
import torch
from sklearn.datasets import load_iris, load_wine, make_classification
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from skproto import CBCClassifier, RBFClassifier

IRIS = load_iris(return_X_y=True)
BOTH = pytest.mark.parametrize("cls", [CBCClassifier, RBFClassifier])


@pytest.fixture(scope="module")
def cbc():
    return CBCClassifier(3, random_state=0).fit(*IRIS)


def test_shares_of_presence_and_absence_are_the_score(cbc):
    X, _ = IRIS
    case = cbc.explain(X)
    detections = cbc.transform(X)[:, :, None]
    presence = cbc.reasoning_positive_ * detections
    absence = cbc.reasoning_negative_ * (1 - detections)
    np.testing.assert_allclose(case.presence, presence, atol=1e-12)
    np.testing.assert_allclose(case.absence, absence, atol=1e-12)
    np.testing.assert_allclose(
        (presence + absence).sum(axis=1), cbc.decision_function(X), rtol=1e-5
    )


def test_tables_are_probabilities(cbc):
    total = cbc.reasoning_positive_ + cbc.reasoning_negative_
    np.testing.assert_allclose(total.sum(axis=0), 1.0, rtol=1e-6)
    np.testing.assert_allclose(total, cbc.component_prior_)
    assert ((cbc.requiredness_ >= 0) & (cbc.requiredness_ <= 1)).all()


def test_probabilities_are_normalised_scores(cbc):
    X, _ = IRIS
    scores = cbc.decision_function(X)
    expected = scores / scores.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(cbc.predict_proba(X), expected)


@BOTH
def test_activation_is_one_at_a_prototype(cls):
    model = cls(random_state=0, project_prototypes=True).fit(*IRIS)
    activations = model.transform(model.prototypes_)
    np.testing.assert_allclose(np.diag(activations), 1.0, atol=1e-5)
    np.testing.assert_array_equal(model.prototypes_, IRIS[0][model.prototype_indices_])
    assert (model.projection_distance_ == 0).all()


def test_positive_reasoning_is_the_convex_rbf_network():
    X, y = IRIS
    cbc = CBCClassifier(3, reasoning="positive", p0=0.01, random_state=0).fit(X, y)
    rbf = RBFClassifier(3, head="convex", random_state=0).fit(X, y)
    assert (cbc.reasoning_negative_ == 0).all()
    np.testing.assert_array_equal(cbc.decision_function(X), rbf.decision_function(X))
    np.testing.assert_allclose(rbf.coef_.sum(axis=0), 1.0)
    assert (rbf.intercept_ == 0).all()


def test_far_samples_are_rejected_by_the_convex_head_and_still_ranked():
    X, y = IRIS
    model = RBFClassifier(3, head="convex", random_state=0).fit(X, y)
    far = X[:1] + 1e4
    assert model.decision_function(far).max() < 1e-100
    proba = model.predict_proba(far)
    assert proba.sum() == pytest.approx(1.0)
    assert model.predict(far)[0] == proba.argmax()


@pytest.mark.parametrize("n_reasonings", [1, 3])
def test_best_concept_speaks_for_its_class(n_reasonings):
    X, y = IRIS
    model = CBCClassifier(3, n_reasonings=n_reasonings, random_state=0).fit(X, y)
    assert model.reasoning_positive_.shape == (9, 3 * n_reasonings)
    assert (
        model.reasoning_labels_.tolist() == np.repeat([0, 1, 2], n_reasonings).tolist()
    )
    case = model.explain(X[::25])
    case.verify()
    np.testing.assert_allclose(
        case.contributions.sum(axis=1), model.decision_function(X[::25]), rtol=1e-5
    )


@pytest.mark.parametrize(
    "params",
    [
        {"kernel": "metric"},
        {"shared_sigma": True},
        {"train_sigma": False},
        {"sigma": 3.0},
        {"sigma": [3.0] * 9},
        {"loss": "margin"},
        {"loss": "robust", "kernel": "metric", "max_epochs": 40},
        {
            "loss": "robust",
            "kernel": "metric",
            "max_epochs": 40,
            "certificate": "theorem",
        },
        {"reasoning": "original"},
        {"reasoning": "positive"},
        {"entropy_weight": 0.1},
        {"alpha": 0.0, "width_penalty": 0.0},
        {"init": "sample"},
        {"init": "mean"},
        {"n_prototypes": 7},
        {"n_prototypes_per_class": [1, 2, 3]},
        {"encoder": "mlp"},
        {"standardize": False},
        {"solver": "adamw"},
        {"class_weight": "balanced"},
        {"early_stopping": True},
    ],
    ids=str,
)
def test_every_option_fits_and_explains(params):
    X, y = IRIS
    model = CBCClassifier(3, random_state=0).set_params(**params).fit(X, y)
    assert model.score(X, y) > 0.85
    case = model.explain(X[::30])
    case.verify()
    np.testing.assert_allclose(
        case.contributions.sum(axis=1) + case.bias,
        model.decision_function(X[::30]),
        rtol=1e-5,
        atol=1e-6,
    )


def test_width_rule_uses_the_data():
    X, y = IRIS
    narrow = CBCClassifier(p0=1e-6, max_epochs=0, random_state=0).fit(X, y)
    wide = CBCClassifier(p0=0.5, max_epochs=0, random_state=0).fit(X, y)
    np.testing.assert_allclose(
        wide.sigma_ / narrow.sigma_, np.log(1e-6) / np.log(0.5), rtol=1e-5
    )


def test_local_widths_come_from_the_prototypes_nearby():
    X, y = IRIS
    model = RBFClassifier(2, sigma="local", max_epochs=0, random_state=0).fit(X, y)
    assert model.sigma_rule_ == "local"
    Z = (model.prototypes_ - model.center_) / model.scale_
    squared = np.sort(((Z[:, None] - Z) ** 2).sum(-1), axis=1)
    floor = 0.02 * Z.var(axis=0, ddof=1).sum()
    expected = np.maximum(squared[:, 1:4], floor).mean(axis=1)
    np.testing.assert_allclose(model.sigma_, expected, rtol=1e-4)


def test_one_prototype_has_no_neighbours():
    X, y = IRIS
    model = RBFClassifier(n_prototypes=1, sigma="local", random_state=0).fit(X, y)
    assert model.sigma_[0] > 0


@pytest.mark.parametrize(
    ("params", "n_samples", "rule", "metric", "solver"),
    [
        ({}, 1_499, "spread", "euclidean", "lbfgs"),
        ({}, 1_500, "local", "relevance", "lbfgs"),
        ({}, 5_000, "local", "relevance", "adam"),
        ({"head": "convex"}, 1_500, "spread", "relevance", "lbfgs"),
        ({"loss": "robust"}, 1_500, "spread", "relevance", "adam"),
        ({"sigma": 2.0}, 1_500, None, "relevance", "lbfgs"),
        ({"sigma": "spread"}, 1_500, "spread", "relevance", "lbfgs"),
    ],
    ids=str,
)
def test_defaults_follow_the_number_of_samples(params, n_samples, rule, metric, solver):
    rng = np.random.RandomState(0)
    X, y = rng.randn(n_samples, 3), rng.randint(2, size=n_samples)
    model = RBFClassifier(2, max_epochs=0, random_state=0).set_params(**params)
    model.fit(X, y)
    found = (model.sigma_rule_, model.metric_, model.solver_)
    assert found == (rule, metric, solver)


def test_learning_rate_falls_along_a_cosine():
    rates = []

    class Watch(Callback):
        def on_batch_begin(self, net, training=False, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    X, y = IRIS
    model = RBFClassifier(
        2, solver="adam", lr=0.1, max_epochs=4, net_params={"callbacks": [Watch()]}
    )
    model.fit(X, y)
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(4) / 4))
    np.testing.assert_allclose(rates, expected)
    model.set_params(warm_start=True).fit(X, y)
    np.testing.assert_allclose(rates[4:], expected)


def test_given_points_are_the_start():
    X, y = IRIS
    points = X[[0, 60, 120]]
    model = CBCClassifier(1, init=points, max_epochs=0).fit(X, y)
    np.testing.assert_allclose(model.prototypes_, points, rtol=1e-5)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"init": np.zeros((2, 4))}, "'init' parameter must have one row for each"),
        ({"init": np.zeros((9, 3))}, "'init' parameter must have 4 columns"),
        ({"sigma": [1.0, 2.0]}, "'sigma' parameter must be positive"),
        ({"n_prototypes_per_class": [1, 2]}, "'n_prototypes_per_class' parameter"),
        ({"solver": "sgd"}, "'solver' parameter of CBCClassifier must be a str among"),
        ({"margin": -1.0}, "'margin' parameter of CBCClassifier must be None or a flo"),
        ({"encoder": torch.nn.Flatten(0)}, "must return a tensor of shape"),
        ({"device": "cuda"}, "'device' parameter of CBCClassifier must be"),
    ],
    ids=str,
)
def test_invalid_parameters_are_named(params, message):
    if params.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has the GPU that the test needs to be absent")
    with pytest.raises(ValueError, match=message):
        CBCClassifier(**{"n_prototypes_per_class": 3, **params}).fit(*IRIS)


def test_losses_go_with_their_head():
    with pytest.raises(ValueError, match="head='linear' must be one of"):
        RBFClassifier(loss="nll").fit(*IRIS)


class TestCertificates:
    @pytest.mark.parametrize("kernel", ["metric", "squared"])
    @pytest.mark.parametrize("cls", [CBCClassifier, RBFClassifier])
    def test_certificates_are_ordered(self, cls, kernel):
        X, y = load_wine(return_X_y=True)
        head = {"head": "convex"} if cls is RBFClassifier else {}
        model = cls(2, kernel=kernel, random_state=0, **head).fit(X, y)
        theorem, closed, envelope = (
            model.certify(X, method=m) for m in ("theorem", "closed", "envelope")
        )
        assert (theorem <= closed + 1e-9).all()
        assert (closed <= envelope + 1e-9).all()
        assert (envelope >= 0).all()
        np.testing.assert_array_equal(model.certify(X), envelope)

    def test_wrong_labels_have_negative_radii(self, cbc):
        X, y = IRIS
        radius = cbc.certify(X, y)
        np.testing.assert_array_equal(radius > 0, cbc.predict(X) == y)
        assert cbc.certified_accuracy(X, y, 0.0) == pytest.approx(cbc.score(X, y))

    def test_user_units_shrink_by_the_smallest_scale(self, cbc):
        X, _ = IRIS
        scaled, given = cbc.certify(X), cbc.certify(X, units="input")
        np.testing.assert_allclose(given, scaled * cbc.scale_.min())

    def test_accuracy_falls_with_the_radius(self, cbc):
        shares = cbc.certified_accuracy(*IRIS, [0.0, 0.2, 0.5, 1.0])
        assert (np.diff(shares) <= 0).all()

    def test_linear_encoder_divides_by_its_stretch(self):
        encoder = torch.nn.Linear(4, 4, bias=False)
        with torch.no_grad():
            encoder.weight.copy_(2 * torch.eye(4))
        model = CBCClassifier(encoder=encoder, solver="adam", max_epochs=0)
        plain = CBCClassifier(solver="adam", max_epochs=0)
        for m in (model, plain):
            m.set_params(
                sigma=1.0, init=IRIS[0][[0, 60, 120]], n_prototypes_per_class=1
            )
        plain.set_params(sigma=0.25)
        X, y = IRIS
        np.testing.assert_allclose(
            model.fit(X, y).certify(X), plain.fit(X, y).certify(X), rtol=1e-4
        )

    def test_other_encoders_are_refused(self):
        model = CBCClassifier(encoder="mlp", max_epochs=1).fit(*IRIS)
        with pytest.raises(ValueError, match=r"nn\.Linear"):
            model.certify(IRIS[0])
        assert model.explain(IRIS[0][:2]).radius is None

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"method": "best"}, "method must be one of"),
            ({"units": "metres"}, "units must be"),
            ({"y": [7] * 150}, "not seen in fit"),
        ],
    )
    def test_invalid_arguments_are_named(self, cbc, kwargs, message):
        with pytest.raises(ValueError, match=message):
            cbc.certify(IRIS[0], **kwargs)


class TestEdits:
    def test_prune_keeps_probabilities_and_ids(self):
        X, y = IRIS
        model = CBCClassifier(random_state=0).fit(X, y)
        mattered = model.component_prior_.max(axis=1) >= 0.05
        accuracy = model.score(X, y)
        model.prune(0.05)
        assert model.prototype_ids_.tolist() == np.flatnonzero(mattered).tolist()
        total = model.reasoning_positive_ + model.reasoning_negative_
        np.testing.assert_allclose(total.sum(axis=0), 1.0, rtol=1e-6)
        assert model.score(X, y) >= accuracy - 0.02
        model.explain(X[:5]).verify()

    def test_pruning_everything_is_refused(self, cbc):
        with pytest.raises(ValueError, match="No prototype would be left"):
            cbc.prune(2.0)

    @BOTH
    def test_project_moves_onto_rows(self, cls):
        X, y = IRIS
        model = cls(random_state=0).fit(X, y).project(X, y)
        np.testing.assert_array_equal(model.prototypes_, X[model.prototype_indices_])
        assert (model.projection_distance_ == 0).all()
        model.explain(X[:5]).verify()


class TestTraining:
    def test_order_and_copies_of_samples_do_not_matter(self):
        X, y = IRIS
        order = np.random.RandomState(0).permutation(len(y))
        model = CBCClassifier(random_state=0).fit(X, y)
        shuffled = CBCClassifier(random_state=0).fit(X[order], y[order])
        np.testing.assert_array_equal(model.predict_proba(X), shuffled.predict_proba(X))
        double = CBCClassifier(random_state=0).fit(np.tile(X, (2, 1)), np.tile(y, 2))
        np.testing.assert_allclose(
            model.predict_proba(X), double.predict_proba(X), rtol=1e-5
        )

    def test_weight_zero_is_absence(self):
        X, y = IRIS
        weight = (np.arange(150) % 3 > 0).astype(float)
        model = CBCClassifier(random_state=0).fit(X, y, sample_weight=weight)
        kept = CBCClassifier(random_state=0).fit(X[weight > 0], y[weight > 0])
        np.testing.assert_array_equal(model.predict_proba(X), kept.predict_proba(X))
        assert weight[model.prototype_indices_].min() == 1

    def test_warm_start_continues(self):
        X, y = IRIS
        model = CBCClassifier(random_state=0, max_epochs=5, warm_start=True)
        first = model.fit(X, y).history_["train_loss"].iloc[-1]
        model.fit(X, y)
        assert model.n_iter_ == 10
        assert model.history_["epoch"].tolist() == list(range(1, 11))
        assert model.history_["train_loss"].iloc[-1] < first

    def test_warm_start_refuses_other_classes(self):
        X, y = IRIS
        model = CBCClassifier(max_epochs=2, warm_start=True).fit(X, y)
        with pytest.raises(ValueError, match="warm_start=True needs the classes"):
            model.fit(X, y + 1)
        assert model.classes_.tolist() == [0, 1, 2]

    def test_net_params_reach_skorch(self):
        recorded = []

        class Recorder(skorch.callbacks.Callback):
            def on_epoch_end(self, net, **kwargs):
                recorded.append(net.optimizer_.param_groups[0]["weight_decay"])

        model = CBCClassifier(
            solver="adam",
            max_epochs=3,
            net_params={
                "optimizer__weight_decay": 0.25,
                "callbacks": [Recorder()],
            },
        ).fit(*IRIS)
        assert recorded == [0.25] * 3
        assert isinstance(model.net_, skorch.NeuralNet)

    def test_progress_line(self, capsys):
        CBCClassifier(max_epochs=2, verbose=1).fit(*IRIS)
        assert "CBCClassifier: epoch 2/2" in capsys.readouterr().out

    def test_early_stopping_records_the_held_out_loss(self):
        model = CBCClassifier(
            early_stopping=True, n_iter_no_change=3, lr=0.5, random_state=0
        ).fit(*IRIS)
        assert model.history_["valid_loss"].notna().all()
        assert model.n_iter_ < model.max_epochs_


def test_sparse_texts_in_a_pipeline():
    rng = np.random.RandomState(0)
    words = np.array([f"word{i}" for i in range(3000)])
    topics = [words[:900], words[700:1600], words[1400:]]
    y = rng.randint(3, size=600)
    texts = [" ".join(rng.choice(topics[c], 30)) for c in y]
    model = make_pipeline(TfidfVectorizer(), CBCClassifier(random_state=0))
    model.fit(texts[:400], y[:400])
    assert model.score(texts[400:], y[400:]) > 0.8
    case = model[-1].explain(model[:-1].transform(texts[:2]))
    case.verify()


@pytest.mark.parametrize("container", [sp.csr_matrix, sp.csc_array, sp.coo_array])
def test_sparse_and_dense_agree(container):
    X, y = IRIS
    # From the same points: k-means rounds differently on sparse input.
    model = CBCClassifier(
        1,
        init=X[[0, 60, 120]],
        standardize=False,
        solver="adam",
        max_epochs=5,
        random_state=0,
    )
    dense = model.fit(X, y).predict_proba(X)
    sparse = model.fit(container(X), y).predict_proba(container(X))
    np.testing.assert_allclose(dense, sparse, rtol=1e-4)


def test_lbfgs_refuses_sparse_input():
    with pytest.raises(ValueError, match="'lbfgs' needs all of X at once"):
        CBCClassifier(solver="lbfgs").fit(sp.csr_array(IRIS[0]), IRIS[1])


def test_frames_name_features_in_the_explanation():
    X, y = load_iris(return_X_y=True, as_frame=True)
    y = y.map({0: "setosa", 1: "versicolor", 2: "virginica"})
    X.index = pd.Index([f"plant {i}" for i in range(len(X))])
    model = CBCClassifier(random_state=0).fit(X, y)
    text = str(model.explain(X.iloc[[100]]))
    assert "plant 100" in text
    assert "virginica" in text
    assert "petal" in text or "sepal" in text


def test_grid_search_over_prototypes():
    X, y = make_classification(120, 6, random_state=0)
    search = GridSearchCV(
        CBCClassifier(max_epochs=10, random_state=0),
        {"n_prototypes_per_class": [1, 2], "kernel": ["metric", "squared"]},
        cv=2,
    )
    search.fit(X, y)
    assert search.best_estimator_.explain(X[:1]).verify() is None
