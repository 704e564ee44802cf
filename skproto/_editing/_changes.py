"""The operations: what each does to the state, before anything is repaired."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skproto import _placing as placing
from skproto._editing import _memory as memory
from skproto._editing._constraints import GEOMETRIES, Constraint, settle
from skproto._editing._entries import sources_of
from skproto._editing._family import DUPLICATE
from skproto._editing._job import Items, Job

Positions = NDArray[np.int64]


def own_options(job: Job) -> dict[str, Any]:
    """Return the arguments that only the family knows."""
    names = job.family.options.get(job.request.operation, ())
    return {k: v for k, v in job.request.arguments.items() if k in names}


# -- removing and adding ---------------------------------------------------------------


def remove(job: Job) -> None:
    """Take prototypes out; scores lose exactly what they contributed."""
    _take_out(job, job.unlocked(), own_options(job))


def _take_out(job: Job, positions: Positions, options: dict[str, Any]) -> None:
    model, family = job.model, job.family
    kept = np.ones(len(model.prototype_ids_), dtype=bool)
    kept[positions] = False
    if not kept.any():
        raise ValueError("ids must leave at least one prototype. Got all of them.")
    _check_classes(job, family.class_codes(), kept)
    job.facts["removed"] = job.ids_of(positions)
    order = family.drop(kept, **options)
    family.keep_entries(order)
    memory.drop_unknown(model)
    family.read()


def _check_classes(job: Job, codes: Positions, kept: NDArray[np.bool_]) -> None:
    if job.request.arguments.get("allow_empty_class") or not job.family.owns_classes:
        return
    lost = np.setdiff1d(codes, codes[kept])
    if len(lost):
        raise ValueError(
            f"{job.request.operation} would take the last prototype of the classes "
            f"{job.model.classes_[lost].tolist()}; allow_empty_class=True allows it."
        )


def add(job: Job) -> None:
    """Append prototypes at items, with new ids and pure columns."""
    model, family, request = job.model, job.family, job.request
    label = request.arguments.get("label")
    if label is None:
        raise ValueError("add needs the label of the new prototypes. Got None.")
    wanted = job.label_codes(label, np.size(label))
    own = family.class_codes() == np.resize(wanted, (1,))[:, None]
    if len(wanted) > 1:
        own = family.class_codes() == wanted[:, None]
    anchors = np.where(own.any(axis=1, keepdims=True), own, True)
    items = job.read_items(anchors if len(wanted) > 1 else anchors[:1])
    codes = job.label_codes(label, len(items))
    _warn_duplicates(job, items)
    n_old, m = len(model.prototype_ids_), len(items)
    ids = memory.new_ids(model, m, request.new_ids)
    order = family.append(items.codes, codes, **own_options(job))
    family.append_entries(
        {"prototype_ids_": ids, "prototype_labels_": model.classes_[codes]}
    )
    if not np.array_equal(order, np.arange(n_old + m)):
        family.keep_entries(order)
    job.touched = job.created = [int(i) for i in ids]
    memory.set_user_codes(model, ids, codes)
    positions = job.positions(job.touched)
    family.set_pure(positions, codes, request.arguments.get("weight"))
    _take_sources(job, items, codes, positions)


def _warn_duplicates(job: Job, items: Items) -> None:
    alike = job.family.similarity(items.codes)
    for i, row in enumerate(alike):
        if row.max(initial=0.0) > DUPLICATE:
            other = job.ids_of(np.array([row.argmax()]))[0]
            job.notes.append(f"item {i} duplicates prototype {other}")


def _take_sources(job: Job, items: Items, codes: Positions, positions) -> None:
    """Name the items as sources of prototypes, or the nearest training samples."""
    job.family.read()
    sources = job.item_sources(items, codes, positions)
    if sources is None:
        find_sources(job, positions)
    else:
        job.family.replace_entries(positions, sources)
        job.family.read()


def find_sources(job: Job, positions: Positions) -> None:
    """Name the nearest training samples of their class as sources of prototypes."""
    if job.data is None and job.request.arguments.get("latent"):
        raise ValueError(
            "items with latent=True need X and y, in which the samples nearest to them "
            "are looked for."
        )
    data = job.need_data()
    family = job.family
    codes = family.class_codes()
    present = np.isin(codes, data.y)
    nearest = family.nearest(data, codes if present.all() else None)
    index = np.maximum(nearest.index[0], 0)[positions]
    sites = nearest.sites[0][positions]
    found = family.source_codes(data, index, sites, positions)
    _name_sources(job, positions, index, sites, family.distances(found, positions))


def _name_sources(job: Job, positions: Positions, index, sites, distance) -> None:
    """Name samples of the repair data as sources of prototypes."""
    model, family, data = job.model, job.family, job.need_data()
    rows = data.rows[index]
    sites, boxes = family.places_of(data, index, sites, positions)
    family.replace_entries(
        positions,
        {
            **sources_of(model, job.X, rows, sites, boxes),
            "prototype_indices_": rows,
            "prototype_sample_labels_": model.classes_[data.y[index]],
            "projection_distance_": distance,
        },
    )
    family.read()


# -- moving ----------------------------------------------------------------------------


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
        positions = _relabel_each(job, positions, codes)
    job.touched = job.ids_of(positions)
    memory.set_user_codes(model, job.touched, codes)
    memory.set_targets(model, dict.fromkeys(job.touched))
    family.move(positions, items.codes)
    _take_sources(job, items, codes, positions)


def _spread(job: Job, items: Items, count: int) -> Items:
    """Return one item for each of so many prototypes."""
    if len(items) == count:
        return items
    if len(items) != 1:
        raise ValueError(
            f"items must be one, or one for each of the {count} prototypes. Got "
            f"{len(items)}."
        )
    index = np.zeros(count, dtype=np.int64)
    X = None
    if items.X is not None:
        X = items.X.select(index) if hasattr(items.X, "select") else items.X[index]
    boxes = None if items.boxes is None else items.boxes[index]
    job.items = Items(items.codes[index], items.sites[index], X, items.raw, boxes)
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
        positions = _relabel_each(job, positions, codes)
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
    one = Items(
        items.codes[[nearest]],
        items.sites[[nearest]],
        None
        if items.X is None
        else (
            items.X.select(np.array([nearest]))
            if hasattr(items.X, "select")
            else items.X[[nearest]]
        ),
        items.raw[[nearest]],
    )
    spread = _spread(job, one, len(positions))
    job.items = items
    _take_sources(job, spread, codes, positions)


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
        positions = _relabel_each(job, positions, codes)
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
    same = job.family.class_codes()[others]
    del same
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


def settle_on_samples(job: Job, positions: Positions) -> None:
    """Put some prototypes on their nearest training samples of their class."""
    data = job.need_data()
    family = job.family
    codes = family.class_codes()
    missing = np.setdiff1d(codes[positions], data.y)
    if len(missing):
        raise ValueError(
            "y must hold samples of every class of the prototypes; it has none of "
            f"{job.model.classes_[missing].tolist()}."
        )
    nearest = family.nearest(data, np.where(np.isin(codes, data.y), codes, data.y[0]))
    index, sites = nearest.index[0][positions], nearest.sites[0][positions]
    found = family.source_codes(data, index, sites, positions)
    limits = memory.targets(job.model)
    for row, position in enumerate(positions.tolist()):
        limit = limits.get(position)
        if limit is not None and not limit.keeps(found[row].astype(np.float64)):
            memory.set_targets(job.model, {job.ids_of(positions[[row]])[0]: None})
    family.move(positions, found)
    job.touched = job.ids_of(positions)
    _name_sources(job, positions, index, sites, family.distances(found, positions))


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
    few = Items(
        items.codes[passed],
        items.sites[passed],
        items.X.select(passed) if hasattr(items.X, "select") else items.X[passed],
        items.raw[passed],
    )
    family.move(chosen, few.codes)
    job.touched = job.ids_of(chosen)
    memory.set_targets(model, dict.fromkeys(job.touched))
    _take_sources(job, few, family.class_codes()[chosen], chosen)


def _with_items(request, items):
    from dataclasses import replace as changed

    return changed(request, arguments={**request.arguments, "items": items})


# -- labels and weights ----------------------------------------------------------------


def relabel(job: Job) -> None:
    """Give prototypes another class."""
    label = job.request.arguments.get("label")
    if label is None:
        raise ValueError("relabel needs a label. Got None.")
    positions = job.unlocked()
    wanted = job.label_codes(label, len(positions))
    codes = job.family.class_codes()
    after = codes.copy()
    after[positions] = wanted
    lost = np.setdiff1d(codes, after)
    if (
        len(lost)
        and job.family.owns_classes
        and not job.request.arguments.get("allow_empty_class")
    ):
        raise ValueError(
            "relabel would take the last prototype of the classes "
            f"{job.model.classes_[lost].tolist()}; allow_empty_class=True allows it."
        )
    job.touched = job.ids_of(positions)
    _relabel_each(job, positions, wanted)
    memory.set_user_codes(job.model, job.touched, wanted)
    job.family.read()


def _relabel_each(job: Job, positions: Positions, wanted: Positions) -> Positions:
    """Give classes to prototypes; return their positions, which may be others now."""
    ids = job.ids_of(positions)
    for code in np.unique(wanted).tolist():
        here = job.positions(ids)
        changed = here[(wanted == code) & (job.family.class_codes()[here] != code)]
        if len(changed):
            job.family.relabel(changed, code)
    memory.set_user_codes(job.model, ids, wanted)
    job.family.read()
    return job.positions(ids)


def reweight(job: Job) -> None:
    """Set the columns of prototypes."""
    arguments = job.request.arguments
    if arguments.get("weights") is None:
        raise ValueError("reweight needs weights. Got None.")
    positions = job.unlocked()
    weights = np.asarray(arguments["weights"], dtype=np.float64)
    if not np.isfinite(weights).all():
        raise ValueError(f"weights must be finite. Got {weights.tolist()}.")
    job.touched = job.ids_of(positions)
    job.family.reweight(positions, weights)
    job.family.read()
    if arguments.get("lock", True):
        _set_locked(job, job.touched, True)


def merge(job: Job) -> None:
    """Make one prototype of several: the medoid, with the columns added up."""
    family = job.family
    positions = job.unlocked()
    if len(positions) < 2:
        raise ValueError(f"merge needs at least 2 ids. Got {job.request.ids}.")
    codes = family.class_codes()[positions]
    if len(np.unique(codes)) > 1:
        raise ValueError(
            "ids must be of one class. Got "
            f"{job.model.classes_[np.unique(codes)].tolist()}."
        )
    points = family.locations()[positions].reshape(len(positions), -1)
    gaps = ((points - points.mean(axis=0)) ** 2).sum(axis=1)
    keep = int(positions[gaps.argmin()])
    others = positions[positions != keep]
    job.facts["exact"] = family.identical(positions)
    job.facts["kept"] = job.ids_of(np.array([keep]))[0]
    job.touched = [job.facts["kept"]]
    family.add_columns(keep, others)
    _take_out(job, others, {})


# -- locks -----------------------------------------------------------------------------


def lock(job: Job) -> None:
    """Keep prototypes and their columns out of every later edit."""
    job.touched = job.ids_of(job.positions())
    _set_locked(job, job.touched, True)


def unlock(job: Job) -> None:
    """Let prototypes be edited again."""
    job.touched = job.ids_of(job.positions())
    _set_locked(job, job.touched, False)


def _set_locked(job: Job, ids: list[int], value: bool) -> None:
    known = set(memory.edit_state(job.model)["locked"])
    known = known | set(ids) if value else known - set(ids)
    memory.update(job.model, locked=sorted(known))


# -- forbidding ------------------------------------------------------------------------


def forbid(job: Job) -> None:
    """Forbid features of a table or a region of images."""
    from skproto._editing._forbidding import forbid as act

    act(job)


CHANGES: dict[str, Callable[[Job], None]] = {
    "remove": remove,
    "add": add,
    "replace": replace,
    "soft_replace": soft_replace,
    "reinit": reinit,
    "finetune": finetune,
    "relabel": relabel,
    "reweight": reweight,
    "merge": merge,
    "simplify": simplify,
    "lock": lock,
    "unlock": unlock,
    "snap": snap,
    "forbid": forbid,
}

PLACES = placing.PLACE_ATTRIBUTES
