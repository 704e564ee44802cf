"""Explanations of the 8x8 digits of scikit-learn, for the tests of pictures.

A prototype is a 4x4 block of a training digit, or several 2x2 blocks, or a whole digit.
Similarities are worked out from the pixels by a few lines of numpy, so that
`verify` has something true to check.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from skproto.explanation import (
    EnsembleExplanation,
    Explanation,
    GlobalExplanation,
    PairExplanation,
    PairGlobalExplanation,
    PrototypePlaces,
    PrototypeTable,
    ReasoningExplanation,
    ReasoningGlobalExplanation,
    SamplePlaces,
    TreeExplanation,
    TreeGlobalExplanation,
    TreeTable,
)

NAMES = np.array(["zero", "one", "two"])
PROTOTYPE_SITES = np.array([5, 10, 6, 9, 5, 10])
CELL = 2  # pixels of a site; a part is a site, a prototype a site and what is around it
HIGHEST = np.log(1e4)


@cache
def digits() -> SimpleNamespace:
    """Images (n, 1, 8, 8) of three digits, and their labels."""
    X, y = load_digits(return_X_y=True)
    kept = y < 3
    return SimpleNamespace(X=X[kept].reshape(-1, 1, 8, 8), y=y[kept])


def cells(images: np.ndarray) -> np.ndarray:
    """Return the 4x4 grid of 2x2 cells as sites, shape (n, 16, C * 4)."""
    n, channels = images.shape[:2]
    grid = images.reshape(n, channels, 4, CELL, 4, CELL).transpose(0, 2, 4, 1, 3, 5)
    return grid.reshape(n, 16, -1).astype(float)


def boxes_of(sites: np.ndarray) -> np.ndarray:
    """Return the boxes of the cells, shape (..., 4)."""
    row, column = CELL * (sites // 4), CELL * (sites % 4)
    return np.stack([row, column, row + CELL, column + CELL], axis=-1)


def recolour(images: np.ndarray, colour: str) -> np.ndarray:
    """Return the images as grey floats, grey or colour bytes, or many channels."""
    if colour == "grey":
        return images
    if colour == "bytes":
        return np.round(images * 15).astype(np.uint8)
    n_channels = {"colour": 3, "two": 2, "five": 5}[colour]
    shares = np.linspace(1.0, 0.4, n_channels)[:, None, None]
    return np.round(images * shares * 15).astype(np.uint8)


def maps_of(images: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    """Return the log similarity of each cell to each prototype, (n, P, 16)."""
    gap = cells(images)[:, None] - prototypes[None, :, None]
    squared = (gap**2).mean(axis=-1)
    return np.log((squared + 1.0) / (squared + 1e-4))


def source_rows() -> np.ndarray:
    """Two training images of each class."""
    y = digits().y
    return np.concatenate([np.flatnonzero(y == c)[[3, 8]] for c in range(3)])


def table(colour: str = "grey", **places: Any) -> PrototypeTable:
    """Six prototypes, two a class; the last one was learned."""
    rows = source_rows()
    images = recolour(digits().X[rows], colour)
    boxes = boxes_of(PROTOTYPE_SITES)
    fields: dict[str, Any] = {
        "sites": PROTOTYPE_SITES,
        "boxes": boxes,
        "images": images,
        "patches": [
            image[:, t:b, left:r]
            for image, (t, left, b, r) in zip(images, boxes, strict=True)
        ],
        "grid": [4, 4],
        "max_similarity": np.full(6, HIGHEST),
        "hashes": [f"hash {row}" for row in rows],
    }
    return PrototypeTable(
        ids=np.arange(6),
        labels=np.repeat(NAMES, 2),
        indices=rows,
        projection_distance=[0, 0, 0, 0, 0, 0.3],
        is_case=[True] * 5 + [False],
        sample_labels=NAMES[digits().y[rows]],
        places=PrototypePlaces(**{**fields, **places}),
    )


def effective(boxes: np.ndarray) -> np.ndarray:
    """Boxes one pixel wider on all sides."""
    return np.clip(boxes + np.array([-1, -1, 1, 1]), 0, 8).astype(float)


def parts(colour: str = "grey", rows: Any = (20, 1), **changes: Any) -> Explanation:
    """ProtoPNet on 8x8 digits: log similarity, +1 for the own class, -0.5 otherwise."""
    own = table(colour, **changes.pop("own", {}))
    images = recolour(digits().X[list(rows)], colour)
    assert own.places is not None
    vectors = cells(own.places.images)[np.arange(6), PROTOTYPE_SITES]
    maps = maps_of(images, vectors)
    sites = maps.argmax(axis=2)
    similarities = maps.max(axis=2)
    weights = np.where(own.labels[:, None] == NAMES, 1.25, -0.5)
    terms = similarities[:, :, None] * weights
    bias = np.tile([0.1, 0.0, -0.1], (len(rows), 1))
    scores = terms.sum(axis=1) + bias
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    places: dict[str, Any] = {
        "images": images,
        "sites": sites,
        "boxes": boxes_of(sites),
        "maps": maps.reshape(len(rows), 6, 4, 4),
        "grid": [4, 4],
    }
    fields: dict[str, Any] = {
        "estimator_name": "ProtoPNetClassifier",
        "classes": NAMES,
        "scores": scores,
        "probabilities": odds / odds.sum(axis=1, keepdims=True),
        "prediction": NAMES[scores.argmax(axis=1)],
        "class_contributions": terms,
        "class_bias": bias,
        "similarities": similarities,
        "prototypes": own,
        "sample_index": np.asarray(rows),
        "head_weights": weights,
        "link": "softmax",
        "places": SamplePlaces(**{**places, **changes.pop("places", {})}),
    }
    return Explanation(**{**fields, **changes})


def framed() -> Explanation:
    """As :func:`parts`, with effective boxes."""
    e = parts()
    assert e.places is not None
    assert e.prototypes.places is not None
    return parts(
        own={"effective_boxes": effective(e.prototypes.places.boxes)},
        places={"effective_boxes": effective(e.places.boxes)},
    )


def matched(cosine: np.ndarray, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each part that is on the best site that no part before it took."""
    found = np.full(cosine.shape[:3], -1)
    alike = np.zeros(cosine.shape[:3])
    free = np.ones(cosine.shape, dtype=bool)
    for i, p, m in np.ndindex(found.shape):
        if slots[p, m] > 0:
            values = np.where(free[i, p, m], cosine[i, p, m], -np.inf)
            found[i, p, m], alike[i, p, m] = values.argmax(), values.max()
            free[i, p, :, found[i, p, m]] = False
    return found, alike


def sets(colour: str = "grey", **changes: Any) -> Explanation:
    """ProtoViT: three parts a prototype, the last part of prototype 1 is off."""
    e = parts(colour)
    assert e.prototypes.places is not None
    assert e.places is not None
    sites = np.array(
        [[5, 6, 9], [1, 2, -1], [6, 10, 9], [2, 6, 10], [4, 5, 6], [9] * 3]
    )
    sites[5] = [9, 10, 14]
    slots = (sites >= 0).astype(float)
    bank, here = cells(e.prototypes.places.images), cells(e.places.images)
    vectors = bank[np.arange(6)[:, None], np.maximum(sites, 0)]  # (P, M, D)
    norms = np.linalg.norm(vectors, axis=-1)[None, :, :, None]
    lengths = np.linalg.norm(here, axis=-1)[:, None, None]
    cosine = np.einsum("ntd,pmd->npmt", here, vectors) / np.maximum(norms * lengths, 1)
    found, alike = matched(cosine, slots)
    similarities = 3 * alike.sum(axis=2) / slots.sum(axis=1)
    terms = similarities[:, :, None] * e.head_weights
    scores = terms.sum(axis=1) + e.class_bias
    odds = np.exp(scores)
    images = e.prototypes.places.images
    cut = boxes_of(sites)
    own = {
        "sites": sites,
        "boxes": cut,
        "slots": slots,
        "max_similarity": np.full(6, 3.0),
        "patches": [
            [images[k][:, t:b, left:r] for t, left, b, r in cut[k]] for k in range(6)
        ],
    }
    places = {
        "sites": found,
        "boxes": boxes_of(found),
        "part_similarities": alike,
        "maps": None,
    }
    return parts(
        colour,
        own=own,
        places=places,
        estimator_name="ProtoViTClassifier",
        similarities=similarities,
        class_contributions=terms,
        scores=scores,
        probabilities=odds / odds.sum(axis=1, keepdims=True),
        prediction=NAMES[scores.argmax(axis=1)],
        **changes,
    )


def autoencoder() -> Explanation:
    """Squared distances in pixel space with a smooth "decoder"; centred for reading."""
    base = parts()
    rows, X = source_rows(), digits().X
    here = X[base.sample_index]
    decoded = 0.7 * X[rows] + 0.3 * X[rows].mean(axis=0)
    squared = ((here[:, None] - decoded[None]) ** 2).mean(axis=(2, 3, 4))
    usual = ((X[:, None] - decoded[None]) ** 2).mean(axis=(0, 2, 3, 4))
    weights = np.where(base.prototypes.labels[:, None] == NAMES, -0.2, 0.1)
    terms = (squared - usual)[:, :, None] * weights
    bias = np.tile(usual @ weights, (2, 1))
    scores = terms.sum(axis=1) + bias
    odds = np.exp(scores)
    own = table(
        sites=None, boxes=None, patches=None, max_similarity=None, decoded=decoded
    )
    own.is_case = np.zeros(6, dtype=bool)
    own.projection_distance = np.full(6, 1.5)
    return Explanation(
        estimator_name="PrototypeAutoencoderClassifier",
        classes=NAMES,
        scores=scores,
        probabilities=odds / odds.sum(axis=1, keepdims=True),
        prediction=NAMES[scores.argmax(axis=1)],
        class_contributions=terms,
        class_bias=bias,
        similarities=squared,
        similarity_name="squared distance",
        baseline=usual,
        head_weights=weights,
        prototypes=own,
        sample_index=base.sample_index,
        link="softmax",
        places=SamplePlaces(
            images=here, reconstructions=0.8 * here + 0.2 * X.mean(axis=0)
        ),
    )


def components() -> ReasoningExplanation:
    """CBC on parts: detection falls with the distance of the nearest cell."""
    base = parts()
    d = base.similarities / HIGHEST
    own = base.prototypes.labels[:, None] == NAMES
    positive, negative = np.where(own, 0.4, 0.02), np.where(own, 0.0, 0.03)
    presence = positive * d[:, :, None]
    absence = negative * (1 - d[:, :, None])
    scores = (presence + absence).sum(axis=1)
    prototypes = table(max_similarity=np.ones(6))
    return ReasoningExplanation(
        estimator_name="CBCClassifier",
        classes=NAMES,
        scores=scores,
        probabilities=scores / scores.sum(axis=1, keepdims=True),
        prediction=NAMES[scores.argmax(axis=1)],
        class_contributions=presence + absence,
        class_bias=np.zeros((2, 3)),
        similarities=d,
        prototypes=prototypes,
        sample_index=base.sample_index,
        presence=presence,
        absence=absence,
        reasoning_positive=positive,
        reasoning_negative=negative,
        link="normalize",
        places=base.places,
    )


def winners() -> PairExplanation:
    """LVQ on whole digits: the nearest prototype of a class against all others."""
    rows, X = source_rows(), digits().X
    base = parts()
    here = X[base.sample_index].reshape(2, -1)
    gap = here[:, None] - X[rows].reshape(6, -1)
    squared = (gap**2).sum(axis=2)
    own = base.prototypes.labels[:, None] == NAMES
    nearest = np.where(own, squared[:, :, None], np.inf).min(axis=1)
    other = np.where(own, np.inf, squared[:, :, None]).min(axis=1)
    scores = (other - nearest) / (other + nearest)
    top = scores.argmax(axis=1)
    mine = base.prototypes.labels[None] == NAMES[top][:, None]
    winner = np.where(mine, squared, np.inf).argmin(axis=1)
    loser = np.where(mine, np.inf, squared).argmin(axis=1)
    pick = np.arange(2)
    win, lose = squared[pick, winner], squared[pick, loser]
    terms = np.stack([-nearest, other], axis=1) / (other + nearest)[:, None]
    odds = np.exp(scores)
    whole = np.tile([0, 0, 8, 8], (6, 1))
    return PairExplanation(
        estimator_name="GLVQClassifier",
        classes=NAMES,
        scores=scores,
        probabilities=odds / odds.sum(axis=1, keepdims=True),
        prediction=NAMES[top],
        class_contributions=terms,
        class_bias=np.zeros((2, 3)),
        similarities=np.exp(-squared),
        prototypes=table(
            sites=np.zeros(6, int), boxes=whole, grid=[1, 1], max_similarity=np.ones(6)
        ),
        sample_index=base.sample_index,
        squared_distances=squared,
        winner=winner,
        runner_up=loser,
        relative_distance=(win - lose) / (win + lose),
        feature_differences=gap[pick, loser] ** 2 - gap[pick, winner] ** 2,
        relative_scores=True,
        temperature=1.0,
        places=SamplePlaces(
            images=X[base.sample_index],
            sites=np.zeros((2, 6), int),
            boxes=np.tile(whole, (2, 1, 1)),
            grid=[1, 1],
        ),
    )


def full_tree(depth: int) -> dict[str, np.ndarray]:
    """Arrays of a full tree whose nodes use the six prototypes in turn."""
    n_inner, n_leaves = 2**depth - 1, 2**depth
    node = np.arange(n_inner + n_leaves)
    inner = node < n_inner
    leaves = np.random.default_rng(0).dirichlet(np.full(3, 0.3), n_leaves)
    return {
        "children_left": np.where(inner, 2 * node + 1, -1),
        "children_right": np.where(inner, 2 * node + 2, -1),
        "prototype": np.where(inner, node % 6, -1),
        "leaf": np.where(inner, -1, node - n_inner),
        "leaf_distributions": leaves,
        "radii": np.linspace(1.0, 2.0, 6),
    }


def path(depth: int = 2) -> TreeExplanation:
    """Prototree on parts, presence by the log similarity."""
    base = parts()
    tree = TreeTable(**full_tree(depth))
    assert tree.radii is not None
    p = base.similarities / HIGHEST
    reach = tree.leaf_probability(p)
    terms = reach[:, :, None] * tree.leaf_distributions
    scores = terms.sum(axis=1)
    paths = []
    for i in range(2):
        steps = [0]
        while tree.children_left[steps[-1]] >= 0:
            node = steps[-1]
            right = p[i, tree.prototype[node]] > 0.5
            side = tree.children_right if right else tree.children_left
            steps.append(int(side[node]))
        paths.append(steps)
    leaf = np.array([tree.leaf[steps[-1]] for steps in paths])
    hard = tree.leaf_distributions[leaf].argmax(axis=1)
    return TreeExplanation(
        estimator_name="ProtoTreeClassifier",
        classes=NAMES,
        scores=scores,
        probabilities=scores,
        prediction=NAMES[scores.argmax(axis=1)],
        class_contributions=terms,
        class_bias=np.zeros((2, 3)),
        similarities=p,
        prototypes=table(max_similarity=np.ones(6)),
        sample_index=base.sample_index,
        tree=tree,
        node_probability=p,
        node_distances=tree.radii * (2 - 2 * p),
        leaf_probability=reach,
        path=paths,
        leaf=leaf,
        agrees=hard == scores.argmax(axis=1),
        places=base.places,
    )


def forest() -> EnsembleExplanation:
    """Two trees of different depth."""
    trees = [path(2), path(3)]
    terms = np.concatenate([t.class_contributions for t in trees], axis=1) / 2
    scores = terms.sum(axis=1)
    one = trees[0].prototypes
    names = ("ids", "labels", "indices", "projection_distance", "is_case")
    return EnsembleExplanation(
        estimator_name="ProtoTreeEnsembleClassifier",
        classes=NAMES,
        scores=scores,
        probabilities=scores,
        prediction=NAMES[scores.argmax(axis=1)],
        class_contributions=terms,
        class_bias=np.zeros((2, 3)),
        similarities=np.concatenate([t.similarities for t in trees], axis=1),
        prototypes=PrototypeTable(
            **{name: np.concatenate([getattr(one, name)] * 2) for name in names}
        ),
        sample_index=trees[0].sample_index,
        trees=trees,
    )


def tokens(n_parts: int = 0, kind: str = "tokens") -> Explanation:
    """Texts: prototypes are tokens, or sets of tokens that are next to each other."""
    e = parts()
    assert e.places is not None
    shift = np.arange(n_parts)
    own, here = PROTOTYPE_SITES, e.places.sites
    alike = None
    if n_parts:
        own = np.minimum(own[:, None] + shift, 15)
        here = np.minimum(here[..., None] + shift, 15)
        alike = np.repeat(e.similarities[..., None], n_parts, axis=2) / n_parts
    table = replace(e.prototypes, places=PrototypePlaces(kind=kind, sites=own))
    places = SamplePlaces(kind=kind, sites=here, part_similarities=alike)
    return replace(e, prototypes=table, places=places)


def features() -> Explanation:
    """ProtoViT on a table: two features a prototype, named, with values."""
    e = tokens(2, "features")
    table = replace(
        e.prototypes,
        feature_names=[f"f{j}" for j in range(16)],
        samples=np.arange(96.0).reshape(6, 16),
    )
    return replace(e, prototypes=table, samples=np.arange(32.0).reshape(2, 16) / 4)


def gallery(prototypes: PrototypeTable | None = None, **changes: Any) -> Any:
    """Prototypes of a linear head."""
    own = table() if prototypes is None else prototypes
    fields: dict[str, Any] = {
        "estimator_name": "ProtoPNetClassifier",
        "classes": NAMES,
        "prototypes": own,
        "weights": np.where(own.labels[:, None] == NAMES, 1.25, -0.5),
        "win_counts": np.arange(len(own)) + 10,
    }
    return GlobalExplanation(**{**fields, **changes})


def many(n: int = 90) -> PrototypeTable:
    """Many prototypes of one part."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(digits().X), n)
    sites = rng.integers(0, 16, n)
    labels = NAMES[digits().y[rows]]
    return PrototypeTable(
        ids=np.arange(n),
        labels=labels,
        indices=rows,
        projection_distance=np.zeros(n),
        is_case=np.arange(n) % 4 > 0,
        sample_labels=labels,
        places=PrototypePlaces(
            sites=sites, boxes=boxes_of(sites), images=digits().X[rows], grid=[4, 4]
        ),
    )


def component_gallery() -> ReasoningGlobalExplanation:
    own = table()
    return ReasoningGlobalExplanation(
        estimator_name="CBCClassifier",
        classes=NAMES,
        prototypes=own,
        component_prior=np.where(own.labels[:, None] == NAMES, 0.4, 0.05),
        requiredness=np.where(own.labels[:, None] == NAMES, 0.9, 0.1),
    )


def pair_gallery() -> PairGlobalExplanation:
    return PairGlobalExplanation(
        estimator_name="GLVQClassifier",
        classes=NAMES,
        prototypes=winners().prototypes,
        win_counts=np.arange(6) + 10,
    )


def tree_gallery(depth: int = 3) -> TreeGlobalExplanation:
    arrays = full_tree(depth)
    node = np.arange(len(arrays["leaf"]))
    return TreeGlobalExplanation(
        estimator_name="ProtoTreeClassifier",
        classes=NAMES,
        prototypes=table(),
        tree=TreeTable(**arrays),
        class_sets=[list(NAMES)] * len(node),
        training_mass=0.5 ** np.floor(np.log2(node + 1)),
        coverage=np.full(2**depth, 0.5**depth),
    )
