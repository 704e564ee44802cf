"""Operations on labels, weights and locks: nothing moves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skproto._editing import _memory as memory
from skproto._editing._job import Job

Positions = NDArray[np.int64]


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
    relabel_each(job, positions, wanted)
    memory.set_user_codes(job.model, job.touched, wanted)
    job.family.read()


def relabel_each(job: Job, positions: Positions, wanted: Positions) -> Positions:
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
        set_locked(job, job.touched, True)


def lock(job: Job) -> None:
    """Keep prototypes and their columns out of every later edit."""
    job.touched = job.ids_of(job.positions())
    set_locked(job, job.touched, True)


def unlock(job: Job) -> None:
    """Let prototypes be edited again."""
    job.touched = job.ids_of(job.positions())
    set_locked(job, job.touched, False)


def set_locked(job: Job, ids: list[int], value: bool) -> None:
    known = set(memory.edit_state(job.model)["locked"])
    known = known | set(ids) if value else known - set(ids)
    memory.update(job.model, locked=sorted(known))
