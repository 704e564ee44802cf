"""The repair of an edit: the head, some prototypes, or all that is not locked."""

from __future__ import annotations

from typing import Any

import numpy as np

from skproto._editing import _memory as memory
from skproto._editing._job import Job
from skproto._editing._report import measure
from skproto._editing._request import DEFAULT_REPAIRS
from skproto._editing._rows import RowTraining
from skproto._editing._solving import HeadFit, HeadRules
from skproto._editing._sources import find_sources


def resolve_repair(job: Job) -> str:
    """Return the repair that is done, "auto" resolved."""
    request = job.request
    if request.repair != "auto":
        return request.repair
    if not request.has_data:
        return "none"
    if request.operation == "merge" and job.facts.get("exact"):
        return "none"
    return DEFAULT_REPAIRS[request.operation]


def repair(job: Job) -> str:
    """Repair what an edit has changed; return what was done."""
    kind = resolve_repair(job)
    job.facts["repair"] = kind
    if kind == "none":
        return kind
    data = job.repair_data()
    if kind in ("prototypes", "all"):
        _repair_prototypes(job, data, everything=kind == "all")
    if job.family.has_head:
        _repair_head(job, data)
    job.family.read()
    return kind


def _repair_prototypes(job: Job, data, everything: bool) -> None:
    model, family, request = job.model, job.family, job.request
    locked = memory.locked_mask(model)
    if everything or not job.touched:
        free = np.flatnonzero(~locked)
    else:
        mine = job.positions(job.touched)
        free = mine[~locked[mine]]
    if not len(free):
        return
    rate = request.repair_lr
    plan = RowTraining(
        free=free,
        constraints=memory.targets(model),
        n_steps=int(request.repair_steps),
        lr=family.learning_rate if rate is None else float(rate),
        everything=everything,
        seed=job.seed,
    )
    if everything:
        family.fit_all(data, plan)
    else:
        family.fit_prototypes(data, plan)
    family.read()
    find_sources(job, free if not everything else np.arange(len(locked)))


def _repair_head(job: Job, data) -> None:
    family, rules = job.family, head_rules(job)
    if rules.restricted.any() and family.columns().size:
        job.facts["free_repair"] = _free_repair(job, data, rules)
    fit = family.fit_head(data, rules)
    job.facts["head_converged"] = fit.converged
    job.facts["head"] = fit


def head_rules(job: Job) -> HeadRules:
    """Return what the refit of the head may change."""
    model = job.model
    given = memory.user_codes(model) >= 0
    locked = memory.locked_mask(model)
    respected = given & ~locked if job.request.respect_label else np.zeros_like(given)
    return HeadRules(
        free=~locked,
        restricted=respected,
        labels=job.family.class_codes(),
        min_weight=job.request.min_weight,
    )


def _free_repair(job: Job, data, rules: HeadRules) -> dict[str, Any]:
    """Return what a refit without respect for labels would do; nothing is changed."""
    family = job.family
    state = family.get_state()
    fit: HeadFit = family.fit_head(data, rules.unrestricted())
    columns, spoken = family.columns(), family.spoken_codes()
    positions = np.flatnonzero(rules.restricted)
    family.read()
    found = measure(job, light=True)
    family.set_state(state)
    family.detach()
    shown: dict[str, Any] = {
        "columns": {
            str(key): columns[position].tolist()
            for key, position in zip(
                job.ids_of(positions), positions.tolist(), strict=True
            )
        },
        "converged": fit.converged,
    }
    if found is not None:
        shown["accuracy"] = found.accuracy
    if spoken is not None:
        turned = spoken[positions] != rules.labels[positions]
        shown["turned_around"] = job.ids_of(positions[turned])
    return shown
