"""The methods by which an estimator is edited."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skproto._editing import _history as history
from skproto._editing import _memory as memory
from skproto._editing._family import EditingFamily, UneditableFamily
from skproto._editing._forbidding import held_mask, held_pixels, resolve_all
from skproto._editing._methods import OperationMethods
from skproto._editing._report import EditReport


class EditingMixin(OperationMethods):
    """The part of an estimator that lets a user edit its prototypes.

    All methods that change prototypes take, beside what is named, the settings of
    :func:`skproto.operations.edit`: `X`, `y` and `sample_weight` for the repair,
    `repair`, `respect_label`, `min_weight`, `repair_steps`, `repair_lr`,
    `item_weight`, `eval_set`, `dry_run`, `guard`, `keep_snapshots`, `random_state` and
    `note`. They return the estimator, with ``dry_run=True`` the report. If anything
    fails the estimator is as it was before.
    """

    #: How the estimator can be edited.
    _editing_family: ClassVar[type[EditingFamily]] = UneditableFamily

    prototype_ids_: NDArray[np.int64]

    # -- record ------------------------------------------------------------------------

    @property
    def edit_log_(self) -> list[dict[str, Any]]:
        """Edits since the last fit, as plain dicts that can be written as JSON."""
        check_is_fitted(self)
        log: list[dict[str, Any]] = vars(self).get("_edits", {}).get("log", [])
        return log

    @property
    def edit_report_(self) -> EditReport | None:
        """Report of the last edit in `edit_log_`; None where there is none."""
        log = self.edit_log_
        return EditReport.from_dict(log[-1]["report"]) if log else None

    @property
    def edit_snapshots_(self) -> list[dict[str, Any]]:
        """What :meth:`undo` needs: the arrays that each edit changed."""
        check_is_fitted(self)
        found: list[dict[str, Any]] = vars(self).get("_edits", {}).get("snapshots", [])
        return found

    @property
    def prototype_locked_(self) -> NDArray[np.bool_]:
        """Which prototypes are locked, in the order of `prototypes_`."""
        check_is_fitted(self)
        return memory.locked_mask(self)

    @property
    def _held_features(self) -> NDArray[np.bool_] | None:
        """Features of a table that are held constant, (f,); None for none."""
        return held_mask(memory.edit_state(self)["forbidden"], self)

    @property
    def _held_pixels(self) -> NDArray[np.bool_] | None:
        """Pixels of images that are held constant, (H, W); None for none."""
        return held_pixels(memory.edit_state(self)["forbidden"], self)

    def _forget_edits(self) -> None:
        """Drop edits for a new fit, with a warning where something was forbidden."""
        dropped = [e for e in memory.edit_state(self)["forbidden"] if not e["on_fit"]]
        if dropped:
            what = [e["names"] or e["features"] or e["boxes"] for e in dropped]
            warnings.warn(
                f"fit forgets that {what} were forbidden. Use forbid(..., on_fit=True) "
                "or skproto.operations.EditedEstimator to keep it.",
                UserWarning,
                stacklevel=5,
            )
        memory.forget(self)

    def _resolve_forbidden(self) -> None:
        """Resolve names of forbidden features once the samples of a fit are known."""
        resolve_all(self)

    def _forbid_in_module(self, module: Any) -> None:
        """Keep a module that is about to be trained off forbidden regions."""

    def set_params(self, **params):
        """Set parameters of the estimator.

        Parameters
        ----------
        **params : dict
            Parameters.

        Returns
        -------
        self : object
            The estimator.

        Warns
        -----
        UserWarning
            Where the estimator was edited: parameters count from the next `fit` on,
            which starts anew and drops the edits.
        """
        log = vars(self).get("_edits", {}).get("log", [])
        if params and log:
            warnings.warn(
                f"The parameters count from the next fit on, which drops the "
                f"{len(log)} edits of this {type(self).__name__}. "
                "skproto.operations.replay does them again.",
                UserWarning,
                stacklevel=2,
            )
        parent: Any = super()
        return parent.set_params(**params)

    # -- undo --------------------------------------------------------------------------

    def undo(self, n=1):
        """Take back the last edits; predictions are the same bits as before them.

        Parameters
        ----------
        n : int, default=1
            Number of edits.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If there are fewer edits, if their snapshots are not kept, or if something
            else than an edit has changed the estimator since.
        """
        check_is_fitted(self)
        history.undo(self, n)
        return self

    def redo(self, n=1):
        """Do edits again that were undone.

        Parameters
        ----------
        n : int, default=1
            Number of edits.

        Returns
        -------
        self : object
            The estimator.
        """
        check_is_fitted(self)
        history.redo(self, n)
        return self

    def revert(self, seq, X=None, y=None, sample_weight=None):
        """Take one edit out of the middle: undo to before it, redo the later ones.

        Parameters
        ----------
        seq : int
            Its number, "seq" in `edit_log_`.

        X, y, sample_weight : object, default=None
            The data with which later edits were repaired, if any were.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If a later edit is about prototypes that this one created.
        """
        check_is_fitted(self)
        history.revert(self, seq, X, y, sample_weight)
        return self
