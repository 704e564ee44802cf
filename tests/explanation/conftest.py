"""Small explanations with numbers worked out by hand, for the tests of this folder."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from skproto.explanation import (
    EnsembleExplanation,
    EnsembleGlobalExplanation,
    Explanation,
    GlobalExplanation,
    PairExplanation,
    PairGlobalExplanation,
    PrototypeTable,
    ReasoningExplanation,
    ReasoningGlobalExplanation,
    TreeExplanation,
    TreeGlobalExplanation,
    TreeTable,
)


def table(**changes: Any) -> PrototypeTable:
    """Two prototypes at 0 and 4 on one feature."""
    fields: dict[str, Any] = {
        "ids": [0, 1],
        "labels": np.array(["A", "B"]),
        "indices": [212, 35],
        "projection_distance": [0.0, 0.0],
        "is_case": [True, True],
        "values": [[0.0], [4.0]],
        "feature_names": ["dose"],
        "scale": [1.0],
    }
    return PrototypeTable(**{**fields, **changes})


def linear(**changes: Any) -> Explanation:
    """RBF network with a free head: f = (0.898230909, -0.360270339) at x = 1."""
    distances = np.array([[1.0, 3.0], [3.5, 0.5]])
    similarities = np.exp(-distances / 2)
    weights = np.array([[1.5, -1.0], [-0.5, 2.0]])
    contributions = similarities[:, :, None] * weights
    bias = np.tile([0.1, -0.2], (2, 1))
    scores = contributions.sum(axis=1) + bias
    odds = np.exp(scores)
    fields: dict[str, Any] = {
        "estimator_name": "RBFClassifier",
        "classes": np.array(["A", "B"]),
        "scores": scores,
        "probabilities": odds / odds.sum(axis=1, keepdims=True),
        "prediction": np.array(["A", "B"]),
        "class_contributions": contributions,
        "class_bias": bias,
        "similarities": similarities,
        "distances": distances,
        "prototypes": table(),
        "samples": [[1.0], [3.5]],
        "sample_index": [17, 18],
        "radius": [1.324764702, np.inf],
        "head_weights": weights,
        "link": "softmax",
        "kernel": "metric",
        "bandwidths": [2.0, 2.0],
        "metric": "euclidean",
    }
    return Explanation(**{**fields, **changes})


def reasoning(**changes: Any) -> ReasoningExplanation:
    """CBC: p = (0.674666332, 0.350912014) at x = 1."""
    distances = np.array([[1.0, 3.0], [3.0, 1.0]])
    d = np.exp(-distances / 2)
    positive = np.array([[0.6, 0.1], [0.0, 0.6]])
    negative = np.array([[0.0, 0.2], [0.4, 0.1]])
    presence = positive * d[:, :, None]
    absence = negative * (1 - d[:, :, None])
    scores = (presence + absence).sum(axis=1)
    fields: dict[str, Any] = {
        "estimator_name": "CBCClassifier",
        "classes": np.array(["A", "B"]),
        "scores": scores,
        "probabilities": scores / scores.sum(axis=1, keepdims=True),
        "prediction": np.array(["A", "B"]),
        "class_contributions": presence + absence,
        "class_bias": np.zeros((2, 2)),
        "similarities": d,
        "distances": distances,
        "prototypes": table(),
        "samples": [[1.0], [3.0]],
        "sample_index": [17, 18],
        "presence": presence,
        "absence": absence,
        "reasoning_positive": positive,
        "reasoning_negative": negative,
        "link": "normalize",
        "kernel": "metric",
        "bandwidths": [2.0, 2.0],
        "metric": "euclidean",
        "radius": [1.089504959, 0.0],
    }
    return ReasoningExplanation(**{**fields, **changes})


def pair(**changes: Any) -> PairExplanation:
    """LVQ: x = (1, 1) between (0, 0) and (3, 4), mu = -11/15; then x = (2, 3)."""
    squared = np.array([[2.0, 13.0], [13.0, 2.0]])
    # Units are the prototypes: s_A = (d_B - d_A) / (d_A + d_B), s_B = -s_A.
    contributions = np.array([[[-2, 2], [13, -13]], [[-13, 13], [2, -2]]]) / 15
    scores = np.array([[11.0, -11.0], [-11.0, 11.0]]) / 15
    odds = np.exp(scores * 1.5)
    fields: dict[str, Any] = {
        "estimator_name": "GLVQClassifier",
        "classes": np.array(["A", "B"]),
        "scores": scores,
        "probabilities": odds / odds.sum(axis=1, keepdims=True),
        "prediction": np.array(["A", "B"]),
        "class_contributions": contributions,
        "class_bias": np.zeros((2, 2)),
        "similarities": np.exp(-squared),
        "distances": np.sqrt(squared),
        "prototypes": table(
            values=[[0.0, 0.0], [3.0, 4.0]], feature_names=["age", "dose"], scale=[1, 1]
        ),
        "samples": [[1.0, 1.0], [2.0, 3.0]],
        "sample_index": [17, 18],
        "squared_distances": squared,
        "winner": [0, 1],
        "runner_up": [1, 0],
        "relative_distance": [-11 / 15, -11 / 15],
        "feature_differences": [[3.0, 8.0], [3.0, 8.0]],
        "relative_scores": True,
        "temperature": 1 / 1.5,
        "binary_margin": "positive",
        "metric": "euclidean",
        "radius": [1.1, 1.1],
    }
    return PairExplanation(**{**fields, **changes})


P_TREE = np.array([[0.8, 0.25, 0.6], [0.3, 0.25, 0.6]])
LEAVES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9]])


def tree_table(**changes: Any) -> TreeTable:
    """Depth 2; prototypes root, left child, right child; leaves LL, LR, RL, RR."""
    fields: dict[str, Any] = {
        "children_left": [1, 3, 5, -1, -1, -1, -1],
        "children_right": [2, 4, 6, -1, -1, -1, -1],
        "prototype": [0, 1, 2, -1, -1, -1, -1],
        "leaf": [-1, -1, -1, 0, 1, 2, 3],
        "leaf_distributions": LEAVES,
        "radii": [1.0, 2.0, 1.5],
        "sharpness": 4.0,
    }
    return TreeTable(**{**fields, **changes})


def tree_prototypes() -> PrototypeTable:
    return table(
        ids=[0, 1, 2],
        labels=np.array(["B", "B", "B"]),
        indices=[17, 40, 9],
        projection_distance=[0.0, 0.0, 0.3],
        is_case=[True, True, False],
        values=[[1.0], [4.0], [2.0]],
    )


def tree(routing: str = "distributed", **changes: Any) -> TreeExplanation:
    """Prototree, two samples: soft scores (.385, .615) for the first one."""
    radii = np.array([1.0, 2.0, 1.5])
    reach = np.array([[0.15, 0.05, 0.32, 0.48], [0.525, 0.175, 0.12, 0.18]])
    weights = reach if routing == "distributed" else np.eye(4)[[3, 0]]
    contributions = weights[:, :, None] * LEAVES
    scores = contributions.sum(axis=1)
    fields: dict[str, Any] = {
        "estimator_name": "ProtoTreeClassifier",
        "classes": np.array(["A", "B"]),
        "scores": scores,
        "probabilities": scores,
        "prediction": np.array(["A", "B"])[scores.argmax(axis=1)],
        "class_contributions": contributions,
        "class_bias": np.zeros((2, 2)),
        "similarities": P_TREE,
        "prototypes": tree_prototypes(),
        "samples": [[1.2], [6.0]],
        "sample_index": [17, 18],
        "tree": tree_table(),
        "node_probability": P_TREE,
        "leaf_probability": reach,
        "path": [[0, 2, 6], [0, 1, 3]],
        "leaf": [3, 0],
        "agrees": [True, True],
        "node_distances": radii * (-np.log2(P_TREE)) ** 0.25,
        "routing": routing,
        "link": "normalize",
    }
    return TreeExplanation(**{**fields, **changes})


def ensemble(**changes: Any) -> EnsembleExplanation:
    """Two trees: the one above, soft and greedy."""
    trees = [tree(), tree("greedy")]
    contributions = np.concatenate([t.class_contributions for t in trees], axis=1) / 2
    scores = contributions.sum(axis=1)
    both = tree_prototypes()
    columns = ("ids", "labels", "indices", "projection_distance", "is_case", "values")
    merged = {name: np.concatenate([getattr(both, name)] * 2) for name in columns}
    fields: dict[str, Any] = {
        "estimator_name": "ProtoTreeEnsembleClassifier",
        "classes": np.array(["A", "B"]),
        "scores": scores,
        "probabilities": scores,
        "prediction": np.array(["A", "B"])[scores.argmax(axis=1)],
        "class_contributions": contributions,
        "class_bias": np.zeros((2, 2)),
        "similarities": np.concatenate([P_TREE, P_TREE], axis=1),
        "prototypes": table(**merged),
        "samples": [[1.2], [6.0]],
        "sample_index": [17, 18],
        "trees": trees,
    }
    return EnsembleExplanation(**{**fields, **changes})


def tree_global(depth: int = 2, n_classes: int = 2) -> TreeGlobalExplanation:
    """A full tree of any depth whose leaves are equally covered."""
    rng = np.random.default_rng(0)
    n_inner, n_leaves = 2**depth - 1, 2**depth
    node = np.arange(n_inner + n_leaves)
    inner = node < n_inner
    level = np.floor(np.log2(node + 1)).astype(int)
    classes = np.array([f"class {c}" for c in range(n_classes)])
    return TreeGlobalExplanation(
        estimator_name="ProtoTreeClassifier",
        classes=classes,
        prototypes=table(
            ids=node[:n_inner],
            labels=classes[rng.integers(0, n_classes, n_inner)],
            indices=rng.integers(0, 500, n_inner),
            projection_distance=np.zeros(n_inner),
            is_case=node[:n_inner] % 4 != 3,
            values=rng.normal(size=(n_inner, 1)),
        ),
        tree=TreeTable(
            children_left=np.where(inner, 2 * node + 1, -1),
            children_right=np.where(inner, 2 * node + 2, -1),
            prototype=np.where(inner, node, -1),
            leaf=np.where(inner, -1, node - n_inner),
            leaf_distributions=rng.dirichlet(np.full(n_classes, 0.3), n_leaves),
            radii=rng.uniform(1, 2, n_inner),
        ),
        class_sets=[list(classes)] * len(node),
        training_mass=0.5**level,
        coverage=np.full(n_leaves, 1 / n_leaves),
    )


def model(**changes: Any) -> GlobalExplanation:
    fields: dict[str, Any] = {
        "estimator_name": "RBFClassifier",
        "classes": np.array(["A", "B"]),
        "prototypes": table(),
        "weights": [[1.5, -1.0], [-0.5, 2.0]],
        "win_counts": [30, 10],
        "effective_size": [1.2, 1.9],
    }
    return GlobalExplanation(**{**fields, **changes})


def reasoning_global() -> ReasoningGlobalExplanation:
    return ReasoningGlobalExplanation(
        estimator_name="CBCClassifier",
        classes=np.array(["A", "B"]),
        prototypes=table(),
        component_prior=np.array([[0.6, 0.3], [0.4, 0.7]]),
        requiredness=np.array([[1.0, 1 / 3], [0.0, 6 / 7]]),
    )


def pair_global() -> PairGlobalExplanation:
    return PairGlobalExplanation(
        estimator_name="GMLVQClassifier",
        classes=np.array(["A", "B"]),
        prototypes=pair().prototypes,
        win_counts=np.array([30, 10]),
        relevances=np.array([0.2, 0.8]),
        omega=np.diag([0.2, 0.8]) ** 0.5,
    )


def ensemble_global() -> EnsembleGlobalExplanation:
    one = tree_global()
    return EnsembleGlobalExplanation(
        estimator_name="ProtoTreeEnsembleClassifier",
        classes=one.classes,
        prototypes=one.prototypes,
        trees=[one, one],
    )


@pytest.fixture
def pyplot():
    """Pyplot without a window; figures are closed afterwards."""
    module = pytest.importorskip("matplotlib.pyplot", reason="pictures need matplotlib")
    module.switch_backend("Agg")
    yield module
    module.close("all")


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """Functions that build the explanations; keywords replace their fields."""
    return SimpleNamespace(
        table=table,
        linear=linear,
        reasoning=reasoning,
        pair=pair,
        tree_table=tree_table,
        tree=tree,
        ensemble=ensemble,
        model=model,
        reasoning_global=reasoning_global,
        pair_global=pair_global,
        tree_global=tree_global,
        ensemble_global=ensemble_global,
    )


@pytest.fixture(params=["linear", "reasoning", "pair", "tree", "ensemble"])
def local(request: pytest.FixtureRequest, make: SimpleNamespace) -> Explanation:
    """Each kind of explanation of samples in turn."""
    return getattr(make, request.param)()


@pytest.fixture(
    params=[
        "model",
        "reasoning_global",
        "pair_global",
        "tree_global",
        "ensemble_global",
    ]
)
def knowledge(request: pytest.FixtureRequest, make: SimpleNamespace) -> Any:
    """Each kind of explanation of a whole model in turn."""
    return getattr(make, request.param)()


@pytest.fixture(scope="session")
def seen() -> ModuleType:
    """Functions that build explanations of images, from the module beside this one."""
    spec = spec_from_file_location("seen", Path(__file__).with_name("images.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOCAL_IMAGES = ["parts", "framed", "sets", "autoencoder", "components", "winners"]


@pytest.fixture(params=[*LOCAL_IMAGES, "path", "forest"])
def pictured(request: pytest.FixtureRequest, seen: ModuleType) -> Explanation:
    """Each kind of explanation of images in turn."""
    return getattr(seen, request.param)()


@pytest.fixture(params=["gallery", "component_gallery", "pair_gallery", "tree_gallery"])
def gallery(request: pytest.FixtureRequest, seen: ModuleType) -> Any:
    """Each kind of explanation of a model of images in turn."""
    return getattr(seen, request.param)()
