"""Every estimator passes scikit-learn's checks and keeps skproto's promises."""

import inspect
from collections import defaultdict

import pytest
from sklearn.base import ClassifierMixin, is_classifier
from sklearn.utils.estimator_checks import parametrize_with_checks

import skproto
from skproto.shallow import CBCClassifier, RBFClassifier
from skproto.trees import ProtoTreeClassifier
from skproto.utils import all_estimators
from skproto.utils.estimator_checks import (
    check_prototype_estimator,
    parametrize_with_prototype_checks,
    prototype_checks,
)

# Training is shortened to keep the run short; what the checks look at shows after a few
# epochs.
BRIEF = {
    "CBCClassifier": {"max_epochs": 50},
    "DeformableProtoPNetClassifier": {"max_epochs": 15},
    "GLVQClassifier": {"max_epochs": 50},
    "GMLVQClassifier": {"max_epochs": 50},
    "PIPNetClassifier": {"max_epochs": 40},
    "RBFClassifier": {"max_epochs": 50},
    "RSLVQClassifier": {"max_epochs": 50},
    "ProtoPNetClassifier": {"max_epochs": 15},
    "ProtoTreeClassifier": {"depth": 3, "max_epochs": 20},
    "TesNetClassifier": {"max_epochs": 15},
    "ProtoTreeEnsembleClassifier": {
        "estimator": ProtoTreeClassifier(3, max_epochs=10),
        "n_estimators": 2,
    },
    "ProtoViTClassifier": {"max_epochs": 30, "batch_size": 32},
    "PrototypeAutoencoder": {"max_epochs": 20},
}

# These are trained for long enough to pass the checks of what was learned.
TRAINED = [
    CBCClassifier(solver="adam", max_epochs=60),
    RBFClassifier(2, head="convex", encoder="mlp", max_epochs=20),
]
CONFIGURED = [
    *TRAINED,
    CBCClassifier(2, kernel="metric", project_prototypes=True, max_epochs=20),
    CBCClassifier(2, reasoning="positive", metric="relevance", max_epochs=20),
]

# The one place for checks of scikit-learn that an estimator may fail: that weights and
# copies of samples are the same, for stochastic solvers, with a sentence each.
EXPECTED_FAILURES: dict[str, dict[str, str]] = {}


def default_estimators():
    """One instance of every estimator."""
    return [cls(**BRIEF.get(name, {})) for name, cls in all_estimators()]


def default_classifiers():
    """One instance of every classifier."""
    return [model for model in default_estimators() if is_classifier(model)]


def listed(mark):
    """Parametrize by a list: scikit-learn < 1.9.1 gives a generator, pytest objects."""
    names, values = mark.args
    return pytest.mark.parametrize(names, list(values), **mark.kwargs)


def expected_failures(estimator):
    return EXPECTED_FAILURES.get(type(estimator).__name__, {})


# Data of a few samples give fewer prototypes than asked for, and say so.
@pytest.mark.filterwarnings("ignore:.*distinct samples:UserWarning")
@pytest.mark.filterwarnings("ignore:A tree of depth:UserWarning")
@listed(
    parametrize_with_checks(
        default_estimators() + TRAINED, expected_failed_checks=expected_failures
    )
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@parametrize_with_prototype_checks(default_classifiers() + CONFIGURED)
def test_promises(estimator, check):
    check(estimator)


# What prototype classifiers promise and what learns prototypes without classes can.
OF_TRANSFORMERS = {
    "check_constructor_stores",
    "check_documented",
    "check_history",
    "check_same_seed",
    "check_save_without_pickle",
    "check_set_output_pandas",
}


@pytest.mark.parametrize(
    "check",
    [check for check in prototype_checks() if check.__name__ in OF_TRANSFORMERS],
)
def test_promises_of_transformers(check):
    for name, cls in all_estimators():
        if not issubclass(cls, ClassifierMixin):
            check(name, cls(**BRIEF.get(name, {})))


def test_every_estimator_is_checked():
    checked = {type(estimator) for estimator in default_estimators()}
    assert checked == {cls for _, cls in all_estimators()}
    public = {n for n in skproto.__all__ if n.endswith(("Classifier", "Autoencoder"))}
    assert {name for name, _ in all_estimators()} == public - {"PrototypeClassifier"}


def test_only_weight_equivalence_may_fail():
    for failures in EXPECTED_FAILURES.values():
        for name, reason in failures.items():
            assert name.startswith("check_sample_weight_equivalence")
            assert reason.endswith(".")


# Parameters whose default differs between estimators, and why.
OWN_DEFAULTS = {
    "n_prototypes_per_class": (
        "A component of CBC is reasoned with and costs a row of the table that is "
        "read; RBF and LVQ prototypes only have to cover their class."
    ),
    "certificate": "Each family has its own certificates.",
    "alpha": "It is the weight of another penalty in each model.",
    "loss": "Each family has its own losses.",
    "init": "A tree starts from samples, the others from cluster centres.",
    "p0": "Wide kernels make the shares of CBC readable, narrow ones serve RBF.",
    "lr": "The step that suits the parameters of each model.",
    "batch_size": "A tree takes more steps on small data.",
    "sigma": "Widths of RBF detectors follow the data, those of RSLVQ are shared.",
    "metric": "GMLVQ is GLVQ with another metric.",
    "project_prototypes": "Nodes of a tree are read as cases and are projected.",
    "class_weight": "None everywhere but where an ensemble balances each bootstrap.",
    "prune_threshold": "A share of components, or a probability of a leaf.",
    "l1": "Deformable ProtoPNet takes that of its paper.",
    "head": "The names are those of what each family has.",
    "prototype_dim": "A tree keeps the dimension of a small encoder.",
    "schedule": "Nodes and parts settle at different rates.",
    "encoder_lr": "The body of a tree's encoder learns slower, as in its paper.",
    "top_k": "Deformable prototypes take the best centre, as in their paper.",
    "solver": "Trees are trained in batches only.",
    "augment": "PIP-Net compares two views of a sample.",
    "lambda_recon": "Without classes only the reconstruction keeps codes apart.",
    "lambda_r1": "Of the autoencoders, as lambda_recon.",
    "lambda_r2": "Of the autoencoders, as lambda_recon.",
    "head_epochs": "A warm-up of the head in PIP-Net, its refit in the others.",
    "max_epochs": "Networks of prototype parts refit their head after a fixed number.",
    "n_prototypes": "Optional where classes own prototypes by default.",
    "orthogonality_weight": "Of prototypes, parts, subspaces or slots.",
    "pooling": "Shared prototypes are focal where there are several sites.",
    "separation_weight": "Each paper has its own.",
    "similarity": "ProtoPool mixes distances as its paper does.",
}


def test_same_name_same_default():
    defaults = defaultdict(set)
    for _, cls in all_estimators():
        for parameter in inspect.signature(cls).parameters.values():
            defaults[parameter.name].add(parameter.default)
    differing = {name for name, values in defaults.items() if len(values) > 1}
    assert differing <= set(OWN_DEFAULTS)


def test_every_estimator_has_the_common_parameters():
    common = {
        "augment",
        "batch_size",
        "device",
        "encoder",
        "frozen",
        "image_shape",
        "lr",
        "max_epochs",
        "net_params",
        "random_state",
        "solver",
        "standardize",
        "verbose",
    }
    of_classifiers = {"class_weight", "early_stopping", "warm_start"}
    for name, cls in all_estimators():
        own = set(inspect.signature(cls).parameters)
        wanted = common | (
            of_classifiers if issubclass(cls, ClassifierMixin) else set()
        )
        # An ensemble has those of its `estimator`.
        missing = set() if "estimator" in own else wanted - own
        assert not missing, f"{name} lacks {sorted(missing)}"


class Shifted(RBFClassifier):
    # Breaks the evidence contract; is documented as its parent is.
    __doc__ = RBFClassifier.__doc__

    def decision_function(self, X):
        return super().decision_function(X) + 1.0


class TestRunner:
    def test_a_broken_promise_is_found(self):
        with pytest.raises(AssertionError, match=r"Shifted: contributions\.sum"):
            check_prototype_estimator(Shifted(2))

    def test_results(self):
        expected = {"check_evidence_contract_binary": "It is shifted."}
        with pytest.warns(UserWarning, match=r"check_\w+ failed") as caught:
            results = check_prototype_estimator(
                Shifted(2), on_fail="warn", expected_failed_checks=expected
            )
        assert "check_evidence_contract_multiclass failed" in str(caught[0].message)
        status = {result["check_name"]: result["status"] for result in results}
        assert len(status) == len(prototype_checks())
        assert status["check_evidence_contract_binary"] == "xfail"
        assert status["check_evidence_contract_multiclass"] == "failed"
        assert status["check_pickle"] == "passed"

    def test_on_fail(self):
        with pytest.raises(ValueError, match="on_fail must be"):
            check_prototype_estimator(RBFClassifier(), on_fail="shrug")

    def test_parametrize(self):
        mark = parametrize_with_prototype_checks(
            [RBFClassifier()], expected_failed_checks=lambda _: {"check_pickle": "Why."}
        ).mark
        cases = mark.args[1]
        assert len(cases) == len(prototype_checks())
        assert cases[0].id == "RBFClassifier()-check_evidence_contract_multiclass"
        marked = [case.id for case in cases if case.marks]
        assert marked == ["RBFClassifier()-check_pickle"]
