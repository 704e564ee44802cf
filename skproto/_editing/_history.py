"""Undo, redo, revert and replay of edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skproto._editing import _memory as memory
from skproto._editing._driver import apply_edit, family_of
from skproto._editing._state import apply_difference, state_hash


def undo(model: Any, n: int = 1) -> None:
    """Take back the last n edits; predictions are the same bits as before them."""
    kept = memory.record(model)
    _check_count("n", n, len(kept["log"]), "edits to undo")
    before = dict(vars(model))
    try:
        for _ in range(n):
            _step(model, back=True)
    except BaseException:
        vars(model).clear()
        vars(model).update(before)
        raise


def redo(model: Any, n: int = 1) -> None:
    """Do the last n edits again that were undone."""
    kept = memory.record(model)
    _check_count("n", n, len(kept["undone"]), "edits to redo")
    for _ in range(n):
        _step(model, back=False)


def _check_count(name: str, n: Any, available: int, what: str) -> None:
    if not isinstance(n, (int, np.integer)) or not 1 <= n <= available:
        raise ValueError(
            f"{name} must be an int in the range [1, {available}], the number of "
            f"{what}. Got {n!r}."
        )


def _step(model: Any, back: bool) -> None:
    """Take back the last edit, or do the last one again that was taken back."""
    family, kept = family_of(model), memory.record(model)
    if back:
        entry = kept["log"][-1]
        found = [s for s in kept["snapshots"] if s["seq"] == entry["seq"]]
        if not found:
            raise ValueError(
                f"There is no snapshot of edit {entry['seq']} any more "
                "(keep_snapshots); replay the edits before it on a new fit."
            )
        snapshot = found[0]
    else:
        entry, snapshot = kept["undone"][-1]
    memory.update(model)
    state = family.get_state()
    expected = entry["hash_after" if back else "hash_before"]
    if state_hash(state) != expected:
        raise ValueError(
            f"The estimator was changed after edit {entry['seq']} by something that is "
            "not in edit_log_, such as prune or project; the edit cannot be "
            f"{'undone' if back else 'redone'}."
        )
    change = snapshot["before" if back else "after"]
    family.set_state(apply_difference(state, change))
    rest = [s for s in kept["snapshots"] if s["seq"] != entry["seq"]]
    model._edits = {
        **kept,
        "log": kept["log"][:-1] if back else [*kept["log"], entry],
        "snapshots": rest if back else [*rest, snapshot],
        "undone": [*kept["undone"], [entry, snapshot]] if back else kept["undone"][:-1],
    }


def revert(model: Any, seq: int, X=None, y=None, sample_weight=None) -> None:
    """Take one edit out of the middle: undo to before it, replay the later ones."""
    log = memory.record(model)["log"]
    numbers = [entry["seq"] for entry in log]
    if seq not in numbers:
        raise ValueError(f"seq must be one of {numbers}. Got {seq!r}.")
    position = numbers.index(seq)
    dropped, later = log[position], log[position + 1 :]
    for entry in later:
        clash = set(dropped["created"]) & {*(entry["ids"] or ()), *entry["touched"]}
        if clash:
            raise ValueError(
                f"Edit {entry['seq']} ({entry['op']}) is about the prototypes "
                f"{sorted(clash)}, which edit {seq} created. Revert it first."
            )
    before = dict(vars(model))
    try:
        undo(model, len(later) + 1)
        replay_log(model, later, X, y, sample_weight)
    except BaseException:
        vars(model).clear()
        vars(model).update(before)
        raise


def replay_log(
    model: Any,
    log: Sequence[Mapping[str, Any]],
    X: Any = None,
    y: Any = None,
    sample_weight: Any = None,
    strict: bool = True,
) -> None:
    """Do the edits of a log once more, in place."""
    for entry in log:
        settings = dict(entry["settings"])
        if entry["data_hash"] is not None:
            if X is None:
                raise ValueError(
                    f"Edit {entry['seq']} ({entry['op']}) was repaired with data: give "
                    "X and y."
                )
            settings.update(X=X, y=y, sample_weight=sample_weight)
        settings.update(entry["arguments"])
        if entry["items"]:
            settings["items"] = logged_items(entry)
        settings["repair"] = entry["repair"]
        settings["random_state"] = entry["random_state"]
        settings["note"] = entry["note"]
        if entry["created"]:
            settings["new_ids"] = entry["created"]
        apply_edit(model, entry["op"], entry["ids"], **settings)
        done = memory.record(model)["log"][-1]
        if strict and done["data_hash"] != entry["data_hash"]:
            raise ValueError(
                f"Edit {entry['seq']} ({entry['op']}) was repaired with other data "
                "than given: the hash is another. strict=False allows it."
            )


def logged_items(entry: Mapping[str, Any]) -> np.ndarray:
    """Return the items of an entry of a log."""
    return np.array(
        [np.array(item["value"], dtype=item["dtype"]) for item in entry["items"]]
    )
