"""One edit from start to end: change, repair, check, record; or nothing at all."""

from __future__ import annotations

import importlib.metadata
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from skproto._editing import _memory as memory
from skproto._editing._changes import CHANGES
from skproto._editing._errors import EditRejected
from skproto._editing._family import EditingFamily
from skproto._editing._job import Job
from skproto._editing._repair import repair
from skproto._editing._report import EditReport, json_safe, make_report, measure
from skproto._editing._request import EditRequest, make_request
from skproto._editing._state import difference, state_hash, value_hash

# Arguments that a log does not hold as they are.
NOT_LOGGED = ("items", "function")


def family_of(model: Any) -> EditingFamily:
    """Return the family of a fitted estimator."""
    check_is_fitted(model)
    family: EditingFamily = model._editing_family(model)
    return family


def apply_edit(
    model: Any, operation: str, ids: Any = None, **settings: Any
) -> EditReport:
    """Edit an estimator in place; it is as before where anything fails.

    Parameters
    ----------
    model : estimator
        Fitted.

    operation : str
        Name of the operation.

    ids : object
        Prototypes, for the operations that name some.

    **settings : object
        Arguments of the operation and general settings, see
        :func:`skproto.operations.edit`.

    Returns
    -------
    report : EditReport
        What was done, or would be.
    """
    family = family_of(model)
    extra = tuple(family.options.get(operation, ()))
    request = make_request(operation, ids, settings, extra)
    family.check_supported(operation)
    before = dict(vars(model))
    try:
        report = _run(model, family, request)
    except BaseException:
        _put_back(model, before)
        raise
    if request.dry_run:
        _put_back(model, before)
    return report


def _put_back(model: Any, before: dict[str, Any]) -> None:
    vars(model).clear()
    vars(model).update(before)


def _run(model: Any, family: EditingFamily, request: EditRequest) -> EditReport:
    job = Job(model, family, request, seed=_seed(request.random_state))
    family.job = job
    job.load_data()
    ids_before = [int(i) for i in model.prototype_ids_]
    memory.update(model)
    state = family.get_state()
    first = measure(job)
    family.detach()
    # Nothing is drawn from torch's generators; should a module do so, it is not seen.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        CHANGES[request.operation](job)
        repair(job)
    _refresh(job)
    report = make_report(job, ids_before, first, measure(job))
    _guard(request, report)
    if not request.dry_run:
        _record(job, state, report)
    return report


def _seed(random_state: Any) -> int:
    """Return a seed, drawn where none is given."""
    if isinstance(random_state, (int, np.integer)):
        return int(random_state)
    if random_state is None:
        return 0
    return int(random_state.randint(2**31 - 1))


def _refresh(job: Job) -> None:
    """Count anew to which prototype the samples of the repair are most similar."""
    if job.data is None or not hasattr(job.model, "win_counts_"):
        return
    wins = job.family.count_wins(job.X, job.data)
    if wins is not None:
        job.family.replace_entries(np.arange(len(wins)), {"win_counts_": wins})


def _guard(request: EditRequest, report: EditReport) -> None:
    """Raise where an edit breaks a condition of the user."""
    guard = request.guard or {}
    change = report.accuracy[1] - report.accuracy[0]
    recalls = [
        after - report.recall[0][label] for label, after in report.recall[1].items()
    ]
    broken = []
    if "min_accuracy_change" in guard and change < guard["min_accuracy_change"]:
        broken.append(f"the accuracy would change by {change:+.4f}")
    if "min_recall_change" in guard and min(recalls) < guard["min_recall_change"]:
        broken.append(f"the recall of a class would change by {min(recalls):+.4f}")
    if "max_changed" in guard and report.changed > guard["max_changed"]:
        broken.append(f"{report.changed:.1%} of the predictions would change")
    if broken:
        raise EditRejected(
            f"{request.operation} is rejected by guard={dict(guard)!r}: "
            f"{' and '.join(broken)}. The estimator is as it was.",
            report,
        )


# -- the record ------------------------------------------------------------------------


def _record(job: Job, state: dict[str, Any], report: EditReport) -> None:
    model, request = job.model, job.request
    kept = memory.record(model)
    after = job.family.get_state()
    entry = {
        "seq": kept["next_seq"],
        "op": request.operation,
        "ids": request.ids,
        "ids_before": report.ids_before,
        "ids_after": report.ids_after,
        "created": job.created,
        "touched": job.touched,
        "arguments": json_safe(_logged_arguments(job)),
        "items": _logged_items(job),
        "repair": report.repair,
        "settings": _logged_settings(request),
        "certainty_reached": json_safe(report.certainty_reached),
        "random_state": job.seed,
        "data_hash": job.data_hash(),
        "version": importlib.metadata.version("skproto"),
        "note": str(request.note),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "comparable": report.comparable,
        "report": report.to_dict(),
        "hash_before": state_hash(state),
        "hash_after": state_hash(after),
    }
    snapshot = {
        "seq": entry["seq"],
        "before": difference(after, state),
        "after": difference(state, after),
    }
    snapshots = _bounded([*kept["snapshots"], snapshot], request.keep_snapshots)
    model._edits = {
        **kept,
        "log": [*kept["log"], entry],
        "snapshots": snapshots,
        "undone": [],
        "next_seq": kept["next_seq"] + 1,
    }
    memory.spend_ids(model, job.created)


def _bounded(snapshots: list[Any], keep: Any) -> list[Any]:
    if keep == "all":
        return snapshots
    count = 1 if keep == "last" else int(keep)
    return snapshots[len(snapshots) - min(count, len(snapshots)) :]


def _logged_arguments(job: Job) -> dict[str, Any]:
    arguments = {
        name: value
        for name, value in job.request.arguments.items()
        if name not in NOT_LOGGED
    }
    if job.items is not None and job.items.X is not None:
        arguments["sites"] = job.items.sites.tolist()
    return arguments


def _logged_items(job: Job) -> list[dict[str, Any]]:
    items = job.items
    if items is None:
        return []
    return [
        {
            "value": np.asarray(raw).tolist(),
            "dtype": str(np.asarray(raw).dtype),
            "hash": value_hash(np.asarray(raw)),
            "code": np.asarray(code, dtype=np.float64).tolist(),
        }
        for raw, code in zip(items.raw, items.codes, strict=False)
    ]


def _logged_settings(request: EditRequest) -> dict[str, Any]:
    return {
        "respect_label": bool(request.respect_label),
        "min_weight": json_safe(request.min_weight),
        "repair_steps": int(request.repair_steps),
        "repair_lr": json_safe(request.repair_lr),
        "item_weight": float(request.item_weight),
    }
