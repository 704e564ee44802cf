"""Editing fitted estimators: what a user knows goes in, recorded and undone exactly.

:func:`edit` makes an edited copy; every estimator has the same operations as methods,
such as `remove_prototypes`. :class:`EditedEstimator` carries edits through
cross-validation, :func:`replay` does a recorded list of them again.
"""

from skproto._editing import (
    EditingFamily,
    EditNotSupported,
    EditRejected,
    EditReport,
)
from skproto.operations._edited import EditedEstimator
from skproto.operations._functions import edit, find_prototypes, replay

__all__ = [
    "EditNotSupported",
    "EditRejected",
    "EditReport",
    "EditedEstimator",
    "EditingFamily",
    "edit",
    "find_prototypes",
    "replay",
]
