"""What an edited estimator remembers beside its module: locks, labels, targets, log.

Two private attributes, both plain:

``_edit_state``
    A part of the state, never changed in place: "locked" ids, "labels" (rows of id and
    class code that a user has given), "targets" by id, the constraints of soft
    replacements, and "forbidden", what no prototype may use.

``_edits``
    The record: "log", "snapshots", "undone", "next_id", "next_seq".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skproto._editing._constraints import Constraint, constraint_from

EMPTY: dict[str, Any] = {"locked": [], "labels": [], "targets": {}, "forbidden": []}


def edit_state(model: Any) -> dict[str, Any]:
    """Return the part of the state that edits have added; not to be changed."""
    found: dict[str, Any] = vars(model).get("_edit_state", EMPTY)
    return found


def update(model: Any, **changes: Any) -> None:
    """Replace entries of the state that edits have added."""
    model._edit_state = {**edit_state(model), **changes}


def record(model: Any) -> dict[str, Any]:
    """Return the record of the edits, begun where there is none."""
    if "_edits" not in vars(model):
        model._edits = {
            "log": [],
            "snapshots": [],
            "undone": [],
            "next_id": _first_free_id(model),
            "next_seq": 0,
        }
    found: dict[str, Any] = model._edits
    return found


def forget(model: Any) -> None:
    """Drop the record and what edits have added, as a new fit does."""
    kept = [entry for entry in edit_state(model)["forbidden"] if entry["on_fit"]]
    for name in ("_edits", "_edit_state"):
        vars(model).pop(name, None)
    if kept:
        update(model, forbidden=kept)


def new_ids(model: Any, count: int, given: Iterable[int] | None = None) -> NDArray[Any]:
    """Return ids that no prototype has had before, those of a log where it is replayed.

    The record is not changed before the edit is final, see :func:`spend_ids`.
    """
    if given is not None:
        ids = np.asarray(list(given), dtype=np.int64)
        taken = np.intersect1d(ids, model.prototype_ids_)
        if len(ids) != count or len(taken):
            raise ValueError(
                f"The log gives ids {ids.tolist()} to {count} new prototypes; "
                f"{taken.tolist()} are taken."
            )
        return ids
    first = max(vars(model).get("_edits", {}).get("next_id", 0), _first_free_id(model))
    return np.arange(first, first + count)


def _first_free_id(model: Any) -> int:
    """Return the first id that no prototype of the fit has had, pruned ones too."""
    largest = int(np.max(model.prototype_ids_, initial=-1)) + 1
    return max(largest, vars(model).get("_n_ids", 0))


def spend_ids(model: Any, ids: Iterable[int]) -> None:
    """Note that ids are used up."""
    kept = record(model)
    kept["next_id"] = max(kept["next_id"], *(int(i) + 1 for i in ids), 0)


def locked_mask(model: Any) -> NDArray[np.bool_]:
    """Tell which prototypes are locked, (P,)."""
    return np.isin(model.prototype_ids_, edit_state(model)["locked"])


def user_codes(model: Any) -> NDArray[np.int64]:
    """Return the class codes that a user has given, (P,); -1 for none."""
    codes = np.full(len(model.prototype_ids_), -1, dtype=np.int64)
    for key, code in edit_state(model)["labels"]:
        codes[model.prototype_ids_ == key] = code
    return codes


def set_user_codes(model: Any, ids: Iterable[int], codes: Iterable[int]) -> None:
    """Note the class codes that a user gives to prototypes."""
    known = {int(key): int(code) for key, code in edit_state(model)["labels"]}
    known.update(zip(map(int, ids), map(int, codes), strict=True))
    update(model, labels=[[key, code] for key, code in sorted(known.items())])


def targets(model: Any) -> dict[int, Constraint]:
    """Return the constraints of soft replacements by position."""
    found = {}
    for key, values in edit_state(model)["targets"].items():
        for position in np.flatnonzero(model.prototype_ids_ == int(key)).tolist():
            found[position] = constraint_from(values)
    return found


def set_targets(model: Any, new: dict[int, Constraint | None]) -> None:
    """Note constraints by id; None takes one away."""
    known = dict(edit_state(model)["targets"])
    for key, constraint in new.items():
        known.pop(str(key), None)
        if constraint is not None:
            known[str(key)] = constraint.to_dict()
    update(model, targets=known)


def drop_unknown(model: Any) -> None:
    """Forget what was noted of prototypes that are gone."""
    ids = set(np.asarray(model.prototype_ids_).tolist())
    state = edit_state(model)
    update(
        model,
        locked=[key for key in state["locked"] if key in ids],
        labels=[row for row in state["labels"] if row[0] in ids],
        targets={k: v for k, v in state["targets"].items() if int(k) in ids},
    )


def with_user_labels(model: Any, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return class codes (P,) with those that a user has given in their place.

    Families whose labels follow from the head call it when they read the head.
    """
    if "_edit_state" not in vars(model) or not edit_state(model)["labels"]:
        return codes
    given = user_codes(model)
    if len(given) != len(codes):
        return codes
    return np.asarray(np.where(given >= 0, given, codes))
