"""Operations that move prototypes."""

from __future__ import annotations

from dataclasses import replace as changed
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skproto._editing import _memory as memory
from skproto._editing._constraints import GEOMETRIES, Constraint, settle
from skproto._editing._job import Items, Job
from skproto._editing._labels import relabel_each
from skproto._editing._request import EditRequest
from skproto._editing._sources import find_sources, settle_on_samples, take_sources

Positions = NDArray[np.int64]


def replace(job: Job) -> None:
    """Put prototypes at items; their columns stay."""
    model, family = job.model, job.family
    positions = job.unlocked()
    anchors = np.arange(len(model.prototype_ids_)) == positions[:, None]
    items = _spread(job, job.read_items(anchors), len(positions))
    label = job.request.arguments.get("label")
    codes = family.class_codes()[positions]
    if label is not None:
        codes = job.label_codes(label, len(positions))
        positions = relabel_each(job, positions, codes)
    job.touched = job.ids_of(positions)
    memory.set_user_codes(model, job.touched, codes)
    memory.set_targets(model, dict.fromkeys(job.touched))
    family.move(positions, items.codes)
    take_sources(job, items, codes, positions)


def _spread(job: Job, items: Items, count: int) -> Items:
    """Return one item for each of so many prototypes."""
    if len(items) == count:
        return items
    if len(items) != 1:
        raise ValueError(
            f"items must be one, or one for each of the {count} prototypes. Got "
            f"{len(items)}."
        )
    many = items.at([0] * count)
    job.items = Items(many.codes, many.sites, many.X, items.raw, many.boxes)
    return job.items


def soft_replace(job: Job) -> None:
    """Ask prototypes to be near items, as certain as the user is."""
    model, family, arguments = job.model, job.family, job.request.arguments
    certainty = arguments.get("certainty")
    if not isinstance(certainty, (int, float, np.number)) or not 0 <= certainty <= 1:
        raise ValueError(
            f"certainty must be a float in the range [0, 1]. Got {certainty!r}."
        )
    positions = job.unlocked()
    anchors = np.zeros((1, len(model.prototype_ids_)), dtype=bool)
    anchors[0, positions] = True
    items = job.read_items(anchors)
    center = np.asarray(items.codes, dtype=np.float64).mean(axis=0)
    label = arguments.get("label")
    codes = family.class_codes()[positions]
    if label is not None:
        codes = job.label_codes(label, len(positions))
        positions = relabel_each(job, positions, codes)
    job.touched = job.ids_of(positions)
    memory.set_user_codes(model, job.touched, codes)
    limits: dict[int, Constraint | None] = {}
    moved = []
    locations = family.locations()
    for key, position in zip(job.touched, positions.tolist(), strict=True):
        kind = GEOMETRIES[family.geometry]
        limit = kind.from_certainty(center, locations[position], float(certainty))
        limits[key] = limit
        moved.append(settle(limit, locations[position].astype(np.float32)))
    memory.set_targets(model, limits)
    family.move(positions, np.array(moved))
    family.set_pure(positions, codes, None)
    nearest = int(np.abs(items.codes - center).reshape(len(items), -1).sum(1).argmin())
    spread = _spread(job, items.at([nearest]), len(positions))
    job.items = items
    take_sources(job, spread, codes, positions)


def reinit(job: Job) -> None:
    """Draw prototypes anew from the training samples of their class."""
    model, family, arguments = job.model, job.family, job.request.arguments
    how = arguments.get("how", "kmeans++")
    if how not in ("kmeans++", "random", "farthest"):
        raise ValueError(
            f"how must be 'kmeans++', 'random' or 'farthest'. Got {how!r}."
        )
    data = job.need_data()
    positions = job.unlocked()
    label = arguments.get("label")
    codes = family.class_codes()[positions]
    if label is not None:
        codes = job.label_codes(label, len(positions))
        positions = relabel_each(job, positions, codes)
        memory.set_user_codes(model, job.ids_of(positions), codes)
    rng = np.random.RandomState(job.seed)
    others = np.setdiff1d(np.arange(len(model.prototype_ids_)), positions)
    for code in np.unique(codes).tolist():
        mine = positions[codes == code]
        members = np.flatnonzero(data.y == code)
        if not len(members):
            raise ValueError(
                f"y must hold samples of class {model.classes_[code]!r}. Got none."
            )
        points = _draw(job, members, rng)
        family.move(mine, points[_seeds(job, points, others, len(mine), how, rng)])
    job.touched = job.ids_of(positions)
    memory.set_targets(model, dict.fromkeys(job.touched))
    family.set_pure(positions, codes, None)
    family.read()
    find_sources(job, positions)


# Samples among which new starts are drawn.
MAX_DRAWN = 2000


def _draw(job: Job, members: Positions, rng: np.random.RandomState):
    """Return codes of some samples, one random site of each."""
    if len(members) > MAX_DRAWN:
        members = np.sort(rng.choice(members, MAX_DRAWN, replace=False))
    return job.family.random_codes(job.need_data().subset(members), rng)


def _seeds(job: Job, points, others, count: int, how: str, rng) -> list[int]:
    """Return numbers of points to start from."""
    if how == "random":
        return [int(i) for i in rng.choice(len(points), count, count > len(points))]
    flat = np.asarray(points, dtype=np.float64).reshape(len(points), -1)
    known = job.family.locations()[others].reshape(len(others), -1)
    distance = np.full(len(flat), np.inf)
    for row in known:
        distance = np.minimum(distance, ((flat - row) ** 2).sum(axis=1))
    chosen: list[int] = []
    for _ in range(count):
        if not np.isfinite(distance).all():
            chosen.append(int(rng.randint(len(flat))))
        elif how == "farthest" or distance.sum() == 0:
            chosen.append(int(distance.argmax()))
        else:
            chosen.append(int(rng.choice(len(flat), p=distance / distance.sum())))
        gap = ((flat - flat[chosen[-1]]) ** 2).sum(axis=1)
        distance = np.minimum(distance, gap)
    return chosen


def finetune(job: Job) -> None:
    """Leave everything to the repair."""
    job.need_data()
    job.touched = job.ids_of(job.unlocked())


def snap(job: Job) -> None:
    """Put prototypes on their nearest training samples of their class."""
    settle_on_samples(job, job.unlocked())


def simplify(job: Job) -> None:
    """Put prototypes on a simpler form of their source, where it is similar enough."""
    model, family, arguments = job.model, job.family, job.request.arguments
    function, given = arguments.get("function"), arguments.get("items")
    positions = job.unlocked()
    least = float(arguments.get("min_similarity", 0.75))
    if model.prototype_samples_ is None:
        raise ValueError(
            "simplify needs the sources of prototypes, which are not kept."
        )
    if given is None:
        if not callable(function):
            raise ValueError(
                f"function must be a callable that simplifies a sample. Got "
                f"{function!r}."
            )
        given = np.array([function(model.prototype_samples_[i]) for i in positions])
    request = job.request
    job.request = _with_items(request, given)
    anchors = np.arange(len(model.prototype_ids_)) == positions[:, None]
    items = job.read_items(anchors)
    job.request = request
    alike = family.similarity(items.codes)[np.arange(len(positions)), positions]
    passed = np.flatnonzero(alike >= least)
    job.facts["simplified"] = job.ids_of(positions[passed])
    job.facts["similarity"] = alike.tolist()
    if not len(passed):
        return
    chosen = positions[passed]
    few = items.at(passed)
    family.move(chosen, few.codes)
    job.touched = job.ids_of(chosen)
    memory.set_targets(model, dict.fromkeys(job.touched))
    take_sources(job, few, family.class_codes()[chosen], chosen)


def _with_items(request: EditRequest, items: Any) -> EditRequest:
    return changed(request, arguments={**request.arguments, "items": items})
