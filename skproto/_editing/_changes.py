"""The operations: what each does to the state, before anything is repaired."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skproto._editing import _labels as labels
from skproto._editing import _memory as memory
from skproto._editing import _moves as moves
from skproto._editing._forbidding import forbid
from skproto._editing._items import DUPLICATE
from skproto._editing._job import Items, Job
from skproto._editing._sources import take_sources

Positions = NDArray[np.int64]


def own_options(job: Job) -> dict[str, Any]:
    """Return the arguments that only the family knows."""
    names = job.family.options.get(job.request.operation, ())
    return {k: v for k, v in job.request.arguments.items() if k in names}


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
    take_sources(job, items, codes, positions)


def _warn_duplicates(job: Job, items: Items) -> None:
    alike = job.family.similarity(items.codes)
    for i, row in enumerate(alike):
        if row.max(initial=0.0) > DUPLICATE:
            other = job.ids_of(np.array([row.argmax()]))[0]
            job.notes.append(f"item {i} duplicates prototype {other}")


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


CHANGES: dict[str, Callable[[Job], None]] = {
    "remove": remove,
    "add": add,
    "replace": moves.replace,
    "soft_replace": moves.soft_replace,
    "reinit": moves.reinit,
    "finetune": moves.finetune,
    "relabel": labels.relabel,
    "reweight": labels.reweight,
    "merge": merge,
    "simplify": moves.simplify,
    "lock": labels.lock,
    "unlock": labels.unlock,
    "snap": moves.snap,
    "forbid": forbid,
}
