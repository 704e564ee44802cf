"""What a user asks for with one edit, checked as far as it can be without data."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from skproto._editing._family import OPERATIONS

REPAIRS = ("auto", "none", "head", "prototypes", "all")

#: What ``repair="auto"`` stands for where there is data.
DEFAULT_REPAIRS = {
    "remove": "head",
    "add": "head",
    "replace": "head",
    "soft_replace": "prototypes",
    "reinit": "prototypes",
    "finetune": "prototypes",
    "relabel": "head",
    "reweight": "none",
    "merge": "head",
    "simplify": "head",
    "lock": "none",
    "unlock": "none",
    "snap": "head",
    "forbid": "head",
}

#: Operations that are about prototypes which the user names.
NAMES_PROTOTYPES = frozenset(OPERATIONS) - {"add", "forbid"}

#: Operations that may do without names: all prototypes are meant.
MAY_MEAN_ALL = frozenset({"snap", "finetune", "lock", "unlock"})

GUARDS = ("min_accuracy_change", "min_recall_change", "max_changed")

#: Arguments of each operation beside the general settings of an edit.
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "remove": ("allow_empty_class",),
    "add": ("items", "label", "latent", "sites", "weight"),
    "replace": ("items", "label", "latent", "sites"),
    "soft_replace": ("items", "certainty", "label", "latent", "sites"),
    "reinit": ("how", "label"),
    "finetune": (),
    "relabel": ("label", "allow_empty_class"),
    "reweight": ("weights", "lock"),
    "merge": (),
    "simplify": ("function", "items", "sites", "min_similarity"),
    "lock": (),
    "unlock": (),
    "snap": (),
    "forbid": ("features", "region", "labels", "on_fit"),
}


@dataclass(frozen=True)
class EditRequest:
    """One edit, as it is asked for.

    Parameters
    ----------
    operation : str
        Its name.

    ids : list of int or None
        Prototypes that it is about; None: all, or none.

    arguments : mapping
        Arguments of this operation alone.

    X, y, sample_weight : object
        Data for the repair.

    repair : {"auto", "none", "head", "prototypes", "all"}
        What is fitted anew.

    respect_label, min_weight : bool, float or None
        Whether prototypes that the user labelled keep speaking for their class, and
        with which weight at least.

    repair_steps, repair_lr : int, float or None
        Steps of the repair of prototypes and their learning rate.

    item_weight : float
        Weight with which items count as samples of the repair.

    eval_set : tuple or None
        (X, y) on which the edit is judged.

    dry_run : bool
        Whether the estimator stays as it is.

    guard : mapping or None
        Conditions under which the edit is rejected.

    keep_snapshots : "all", "last" or int
        How many snapshots stay.

    random_state : int or None
        Seed.

    note : str
        A note for the log.

    new_ids : list of int or None
        Ids of new prototypes, where a log is replayed.
    """

    operation: str
    ids: list[int] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    X: Any = None
    y: Any = None
    sample_weight: Any = None
    repair: str = "auto"
    respect_label: bool = True
    min_weight: float | None = None
    repair_steps: int = 100
    repair_lr: float | None = None
    item_weight: float = 0.0
    eval_set: Any = None
    dry_run: bool = False
    guard: Mapping[str, float] | None = None
    keep_snapshots: Any = "all"
    random_state: Any = None
    note: str = ""
    new_ids: list[int] | None = None

    @property
    def has_data(self) -> bool:
        """Whether there is data for a repair."""
        return self.X is not None

    def check(self) -> None:
        """Raise for settings that are wrong on their own."""
        if self.repair not in REPAIRS:
            raise ValueError(f"repair must be one of {REPAIRS}. Got {self.repair!r}.")
        if self.has_data and self.y is None:
            raise ValueError("y must be given with X: repair needs labels. Got None.")
        if self.repair not in ("auto", "none") and not self.has_data:
            raise ValueError(
                f"repair={self.repair!r} needs data: give X and y. Without them use "
                "repair='none'."
            )
        _check_range("min_weight", self.min_weight, 0.0)
        _check_range("repair_lr", self.repair_lr, 0.0)
        _check_range("item_weight", self.item_weight, 0.0)
        if not isinstance(self.repair_steps, numbers.Integral) or self.repair_steps < 1:
            raise ValueError(
                f"repair_steps must be an int of at least 1. Got {self.repair_steps!r}."
            )
        keep = self.keep_snapshots
        if keep not in ("all", "last") and not (
            isinstance(keep, numbers.Integral) and keep >= 0
        ):
            raise ValueError(
                f"keep_snapshots must be 'all', 'last' or an int >= 0. Got {keep!r}."
            )
        self._check_guard()

    def _check_guard(self) -> None:
        if self.guard is None:
            return
        unknown = sorted(set(self.guard) - set(GUARDS))
        if unknown:
            raise ValueError(f"guard may have {list(GUARDS)}. Got {unknown}.")
        if self.eval_set is None and not self.has_data:
            raise ValueError(
                "guard needs samples to judge the edit on: give eval_set, or X and y."
            )


def _check_range(name: str, value: Any, low: float) -> None:
    if value is not None and not (
        isinstance(value, numbers.Real) and float(value) >= low
    ):
        raise ValueError(f"{name} must be a float of at least {low}. Got {value!r}.")


def make_request(
    operation: str, ids: Any, settings: Mapping[str, Any], extra: tuple[str, ...] = ()
) -> EditRequest:
    """Return a request from what a user passes.

    Parameters
    ----------
    operation : str
        Name of the operation.

    ids : int, array-like of int or None
        Prototypes.

    settings : mapping
        Arguments of the operation and general settings.

    extra : tuple of str
        Further arguments that the family allows.

    Raises
    ------
    TypeError
        For arguments that the operation does not have.
    """
    if operation not in OPERATIONS:
        raise ValueError(f"op must be one of {list(OPERATIONS)}. Got {operation!r}.")
    own = {*ARGUMENTS[operation], *extra}
    general = {f.name for f in fields(EditRequest)} - {"operation", "ids", "arguments"}
    unknown = sorted(set(settings) - own - general)
    if unknown:
        allowed = sorted(own | general - {"new_ids"})
        raise TypeError(f"{operation} has no argument {unknown}; it has {allowed}.")
    request = EditRequest(
        operation,
        _as_ids(operation, ids),
        {name: value for name, value in settings.items() if name in own},
        **{name: value for name, value in settings.items() if name in general},
    )
    request.check()
    return request


def _as_ids(operation: str, ids: Any) -> list[int] | None:
    if operation not in NAMES_PROTOTYPES:
        if ids is not None:
            raise TypeError(f"{operation} takes no ids. Got {ids!r}.")
        return None
    if ids is None:
        if operation in MAY_MEAN_ALL:
            return None
        raise ValueError(f"{operation} needs the ids of prototypes. Got None.")
    array = np.atleast_1d(np.asarray(ids))
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "iu":
        raise ValueError(f"ids must be an int or a list of ints. Got {ids!r}.")
    if len(np.unique(array)) < len(array):
        raise ValueError(f"ids must differ from each other. Got {array.tolist()}.")
    return [int(i) for i in array]
