"""Editing fitted estimators: state, operations, repair, check, record."""

from skproto._editing._constraints import Ball, Cap, Constraint, settle
from skproto._editing._driver import apply_edit, family_of
from skproto._editing._errors import EditNotSupported, EditRejected
from skproto._editing._family import OPERATIONS, EditingFamily, UneditableFamily
from skproto._editing._history import redo, replay_log, revert, undo
from skproto._editing._memory import edit_state, with_user_labels
from skproto._editing._mixin import EditingMixin
from skproto._editing._report import EditReport
from skproto._editing._rows import RowTraining, train_rows
from skproto._editing._solving import HeadFit, HeadRules, LinearProblem, solve_linear
from skproto._editing._state import (
    apply_difference,
    build_module,
    difference,
    read_attributes,
    read_state,
    resized_module,
    restore_attributes,
    restore_state,
    state_hash,
    value_hash,
)

__all__ = [
    "OPERATIONS",
    "Ball",
    "Cap",
    "Constraint",
    "EditNotSupported",
    "EditRejected",
    "EditReport",
    "EditingFamily",
    "EditingMixin",
    "HeadFit",
    "HeadRules",
    "LinearProblem",
    "RowTraining",
    "UneditableFamily",
    "apply_difference",
    "apply_edit",
    "build_module",
    "difference",
    "edit_state",
    "family_of",
    "read_attributes",
    "read_state",
    "redo",
    "replay_log",
    "resized_module",
    "restore_attributes",
    "restore_state",
    "revert",
    "settle",
    "solve_linear",
    "state_hash",
    "train_rows",
    "undo",
    "value_hash",
    "with_user_labels",
]
