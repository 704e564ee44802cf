"""The estimators on which every operation is tested: one case for each family.

A family adds its cases to `CASES`. Models are fitted once and never changed: tests edit
copies.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.datasets import load_digits, load_iris

from skproto._editing import OPERATIONS
from skproto.networks import (
    DeformableProtoPNetClassifier,
    PIPNetClassifier,
    ProtoPNetClassifier,
    ProtoPoolClassifier,
    PrototypeAutoencoderClassifier,
    ProtoViTClassifier,
    TesNetClassifier,
)
from skproto.shallow import (
    CBCClassifier,
    GLVQClassifier,
    GMLVQClassifier,
    RBFClassifier,
    RSLVQClassifier,
)
from skproto.trees import ProtoTreeClassifier, ProtoTreeEnsembleClassifier

X_IRIS, y_iris = load_iris(return_X_y=True)
X_IRIS, y_iris = (
    X_IRIS[::3],
    np.array(["setosa", "versicolor", "virginica"])[y_iris[::3]],
)

X_DIGITS, y_digits = load_digits(n_class=3, return_X_y=True)
X_DIGITS, y_digits = X_DIGITS[:48].reshape(-1, 8, 8), y_digits[:48]


@dataclass(frozen=True)
class Case:
    """A fitted estimator and what is special about its family.

    `head` is "linear" where scores are activations times weights (P, K) plus a bias,
    "normalized" where what is left is divided by its sum, "none" otherwise. `refused`
    are the operations that mean nothing. `settings` go into every edit; `arguments`
    overrule those of an operation, by its name, and `ids` the prototypes that it is
    about.
    """

    name: str
    make: Callable[[], Any]
    X: Any = field(default_factory=lambda: X_IRIS)
    y: Any = field(default_factory=lambda: y_iris)
    head: str = "none"
    refused: frozenset[str] = frozenset()
    settings: dict[str, Any] = field(default_factory=lambda: {"repair_steps": 3})
    arguments: dict[str, dict[str, Any]] = field(default_factory=dict)
    ids: dict[str, Callable[[Any], Any]] = field(default_factory=dict)

    @property
    def model(self) -> Any:
        """The fitted estimator; not to be changed."""
        return _fitted(self.name)

    def item(self, k: int = 0) -> Any:
        """Return a sample that is no prototype."""
        return self.X[[7, 24, 41][k % 3]]


def shallow(cls, **parameters):
    """Return a function that makes an unfitted estimator."""
    settings = {"n_prototypes_per_class": 2, "max_epochs": 8, "random_state": 0}
    return lambda: cls(**{**settings, **parameters})


def network(cls, **parameters):
    """Return a function that makes an unfitted network, brief to fit."""
    settings = {"max_epochs": 4, "random_state": 0, "batch_size": 16}
    return lambda: cls(**{**settings, **parameters})


def siblings(model):
    """Return the ids of two nodes of a class with the same parent and leaves below."""
    trees = getattr(model, "estimators_", [model])
    first = 0
    for tree in trees:
        structure, labels = tree._module.structure, tree.prototype_labels_
        for node in structure.inner_nodes:
            sides = structure.children_left[node], structure.children_right[node]
            a, b = structure.prototype[list(sides)]
            lowest = a >= 0 and b >= 0 and labels[a] == labels[b]
            if lowest and np.array(structure.is_leaf)[2 * b + 1 :].all():
                return [int(model.prototype_ids_[first + k]) for k in (a, b)]
        first += len(labels)
    raise ValueError("no two siblings of a class")


def tree(**parameters):
    """Return a prototype tree that is brief to fit."""
    settings = {"depth": 2, "max_epochs": 4, "prune_threshold": 0, "random_state": 0}
    return ProtoTreeClassifier(**{**settings, **parameters})


NO_WEIGHTS = frozenset({"reweight"})
# Channels of an encoder can be left out and weighed, and that is all.
CHANNELS = frozenset(OPERATIONS) - {
    *("remove", "relabel", "reweight", "lock", "unlock", "forbid")
}

CASES = [
    Case("rbf", shallow(RBFClassifier, metric="relevance"), head="linear"),
    Case("rbf-mlp", shallow(RBFClassifier, encoder="mlp"), head="linear"),
    Case("rbf-convex", shallow(RBFClassifier, head="convex"), head="normalized"),
    Case("cbc", shallow(CBCClassifier, n_reasonings=2), head="normalized"),
    Case(
        "cbc-original",
        shallow(CBCClassifier, reasoning="original"),
        refused=frozenset({"add", "reweight", "merge"}),
    ),
    Case("glvq", shallow(GLVQClassifier, metric="relevance"), refused=NO_WEIGHTS),
    Case(
        "glvq-local", shallow(GLVQClassifier, metric="local-matrix"), refused=NO_WEIGHTS
    ),
    Case("gmlvq", shallow(GMLVQClassifier), refused=NO_WEIGHTS),
    Case("rslvq", shallow(RSLVQClassifier), refused=NO_WEIGHTS | {"merge"}),
    Case(
        "glvq-images",
        shallow(GLVQClassifier, pretrain_epochs=0, max_epochs=2, lr=0.01),
        X_DIGITS,
        y_digits,
        refused=NO_WEIGHTS,
    ),
    Case(
        "protopnet-images",
        network(ProtoPNetClassifier, n_prototypes_per_class=2, pretrain_epochs=0),
        X_DIGITS,
        y_digits,
        head="linear",
    ),
    Case(
        "protopnet",
        network(ProtoPNetClassifier, similarity="log_l2", head="nonneg"),
        head="linear",
    ),
    Case("tesnet", network(TesNetClassifier), head="linear"),
    Case("deformable", network(DeformableProtoPNetClassifier), head="linear"),
    Case("protopool", network(ProtoPoolClassifier, n_prototypes=40), head="linear"),
    Case("protovit", network(ProtoViTClassifier, slot_epochs=1), head="linear"),
    Case(
        "pipnet",
        network(PIPNetClassifier, n_prototypes=12),
        head="linear",
        refused=CHANNELS,
    ),
    Case("autoencoder", network(PrototypeAutoencoderClassifier, lr=0.01)),
    Case("tree", lambda: tree(depth=3), refused=NO_WEIGHTS, ids={"merge": siblings}),
    Case(
        "tree-images",
        lambda: tree(depth=3, pretrain_epochs=0),
        X_DIGITS,
        y_digits,
        refused=NO_WEIGHTS,
        ids={"merge": siblings},
    ),
    Case(
        "tree-ensemble",
        lambda: ProtoTreeEnsembleClassifier(tree(), 2, bootstrap=True, random_state=0),
        refused=NO_WEIGHTS,
        ids={"merge": siblings},
    ),
]


def by_name(name: str) -> Case:
    """Return a case."""
    return next(case for case in CASES if case.name == name)


@functools.cache
def _fitted(name: str):
    case = by_name(name)
    return case.make().fit(case.X, case.y)


def arguments_of(case: Case, model: Any, op: str) -> tuple[Any, dict[str, Any]]:
    """Return ids and arguments with which an operation can be done."""
    ids = np.asarray(model.prototype_ids_).tolist()
    labels = np.asarray(model.prototype_labels_).tolist()
    first = ids[0]
    same = [i for i, label in zip(ids, labels, strict=True) if label == labels[0]]
    other = next(label for label in model.classes_.tolist() if label != labels[0])
    arguments: dict[str, tuple[Any, dict[str, Any]]] = {
        "remove": (first, {"allow_empty_class": True}),
        "add": (None, {"items": case.item(), "label": labels[0]}),
        "replace": (first, {"items": case.item()}),
        "soft_replace": (first, {"items": case.item(), "certainty": 0.6}),
        "reinit": (first, {}),
        "finetune": (first, {}),
        "relabel": (first, {"label": other, "allow_empty_class": True}),
        "reweight": (first, {"weights": 0.3}),
        "merge": (same, {}),
        "simplify": (first, {"function": np.round, "min_similarity": 0.0}),
        "lock": (first, {}),
        "unlock": (first, {}),
        "snap": (None, {}),
        "forbid": (
            None,
            {"features": [1]} if np.ndim(case.X) == 2 else {"region": (0, 0, 3, 3)},
        ),
    }
    chosen, given = arguments[op]
    if op in case.ids:
        chosen = case.ids[op](model)
    return chosen, {**given, **case.arguments.get(op, {})}
