"""The methods by which an estimator is edited."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skproto._editing import _history as history
from skproto._editing import _memory as memory
from skproto._editing._driver import apply_edit
from skproto._editing._family import EditingFamily, UneditableFamily
from skproto._editing._forbidding import held_mask, held_pixels, resolve_all
from skproto._editing._report import EditReport


class EditingMixin:
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
                stacklevel=4,
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

    def _edit(self, operation: str, ids: Any, settings: dict[str, Any]) -> Any:
        report = apply_edit(self, operation, ids, **settings)
        return report if settings.get("dry_run") else self

    # -- operations --------------------------------------------------------------------

    def remove_prototypes(self, ids, **settings):
        """Remove prototypes.

        Parameters
        ----------
        ids : int or array-like of int
            Their numbers in `prototype_ids_`.

        **settings : object
            ``allow_empty_class=True`` lets a class lose its last prototype; see also
            :func:`skproto.operations.edit`.

        Returns
        -------
        self : object
            The estimator. Where class scores add up over prototypes they lose exactly
            what these contributed; given `X` and `y` the head is then fitted anew.
        """
        return self._edit("remove", ids, settings)

    def add_prototypes(self, items, label, **settings):
        """Add prototypes that are given cases.

        Parameters
        ----------
        items : array-like of shape (m, ...)
            Samples in the user's units, or codes with ``latent=True``.

        label : object or array-like of shape (m,)
            Class that they speak for.

        **settings : object
            `weight`: own weight of the new prototypes, the mean of their class by
            default; `sites`: the parts of the samples; `latent`; see also
            :func:`skproto.operations.edit`.

        Returns
        -------
        self : object
            The estimator; new prototypes have ids that none had before.
        """
        return self._edit("add", None, {"items": items, "label": label, **settings})

    def replace_prototypes(self, ids, items, **settings):
        """Put prototypes where given cases are; what they speak for stays.

        Parameters
        ----------
        ids : int or array-like of int
            Prototypes.

        items : array-like of shape (m, ...)
            One sample for all of them, or one for each; codes with ``latent=True``.

        **settings : object
            `label`: their class from now on; `sites`; `latent`; see also
            :func:`skproto.operations.edit`.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._edit("replace", ids, {"items": items, **settings})

    def soft_replace_prototypes(self, ids, items, certainty, **settings):
        r"""Pull prototypes towards given cases, as far as the user is certain.

        Parameters
        ----------
        ids : int or array-like of int
            Prototypes.

        items : array-like of shape (m, ...)
            Samples; of several the mean of their codes counts.

        certainty : float
            A hard constraint, in the range [0, 1]: the distance to the item is at most
            ``1 - certainty`` of what it was (geometry of angles: the cosine is at
            least `certainty`). 1 is the item itself.

        **settings : object
            `label`, `sites`, `latent`; see also :func:`skproto.operations.edit`.

        Returns
        -------
        self : object
            The estimator. Later repairs keep to the constraint too.
        """
        settings = {"items": items, "certainty": certainty, **settings}
        return self._edit("soft_replace", ids, settings)

    def reinit_prototypes(self, ids, **settings):
        """Start prototypes anew from training samples of their class.

        Parameters
        ----------
        ids : int or array-like of int
            Prototypes.

        **settings : object
            `X` and `y` are needed. `how`: "kmeans++" (default), "random" or
            "farthest"; `label`; see also :func:`skproto.operations.edit`.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._edit("reinit", ids, settings)

    def finetune_prototypes(self, ids=None, **settings):
        """Train prototypes further by the estimator's own loss, all others fixed.

        Parameters
        ----------
        ids : int or array-like of int, default=None
            Prototypes; None: all that are not locked.

        **settings : object
            `X` and `y` are needed; see also :func:`skproto.operations.edit`.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._edit("finetune", ids, settings)

    def relabel_prototypes(self, ids, label, **settings):
        """Give prototypes another class; what spoke for the old one follows.

        Parameters
        ----------
        ids : int or array-like of int
            Prototypes.

        label : object or array-like
            Their class from now on.

        **settings : object
            See :func:`skproto.operations.edit`.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._edit("relabel", ids, {"label": label, **settings})

    def reweight_prototypes(self, ids, weights, **settings):
        """Set what prototypes count for every class.

        Parameters
        ----------
        ids : int or array-like of int
            Prototypes.

        weights : array-like of shape (n_classes,) or (m, n_classes)
            Their columns of the head; one number is their weight for their own class.

        **settings : object
            ``lock=False`` leaves them to later repairs; see also
            :func:`skproto.operations.edit`.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._edit("reweight", ids, {"weights": weights, **settings})

    def merge_prototypes(self, ids, **settings):
        """Make one of several prototypes of a class.

        Parameters
        ----------
        ids : array-like of int
            Prototypes, at least 2. The one nearest to their mean stays and gets the
            weights of all.

        **settings : object
            See :func:`skproto.operations.edit`.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._edit("merge", ids, settings)

    def simplify_prototypes(self, ids, function, **settings):
        """Replace prototypes by a simpler form of the sample behind them.

        Parameters
        ----------
        ids : int or array-like of int
            Prototypes.

        function : callable
            Takes a sample in the user's units and returns a simpler one.

        **settings : object
            `min_similarity` (0.75): a prototype stays where the simpler form is less
            similar to it; see also :func:`skproto.operations.edit`.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._edit("simplify", ids, {"function": function, **settings})

    def lock_prototypes(self, ids=None, **settings):
        """Keep prototypes and their part of the head as they are in later edits.

        Parameters
        ----------
        ids : int or array-like of int, default=None
            Prototypes; None: all.

        **settings : object
            `note`.

        Returns
        -------
        self : object
            The estimator; see `prototype_locked_`.
        """
        return self._edit("lock", ids, settings)

    def unlock_prototypes(self, ids=None, **settings):
        """Let locked prototypes be changed again.

        Parameters
        ----------
        ids : int or array-like of int, default=None
            Prototypes; None: all.

        **settings : object
            `note`.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._edit("unlock", ids, settings)

    def snap_prototypes(self, ids=None, **settings):
        """Put prototypes on their nearest training samples of their class.

        Parameters
        ----------
        ids : int or array-like of int, default=None
            Prototypes; None: all that are not locked.

        **settings : object
            `X` and `y` are needed; see also :func:`skproto.operations.edit`.

        Returns
        -------
        self : object
            The estimator with cases for prototypes.
        """
        return self._edit("snap", ids, settings)

    def forbid(self, *, features=None, region=None, labels=None, **settings):
        """Forbid features of a table or a region of images to all prototypes.

        Parameters
        ----------
        features : str, int or list of these, default=None
            Features of a table (columns, words), by name or number. They are held at
            their mean inside the model, so that nothing depends on them.

        region : tuple, list or ndarray, default=None
            Pixels of images: a box (top, left, bottom, right), a list of boxes, or a
            mask of bool. They are held at the mean of their channel inside the model,
            so that nothing depends on them; no part that lies on one of them may be a
            prototype or be like one.

        labels : list, default=None
            Classes whose prototypes are meant, of a region only; None: all. With
            labels the pixels stay as they are: the prototypes of these classes keep
            off the parts that lie on them.

        **settings : object
            ``on_fit=True`` makes later fits of this estimator keep to it as well; see
            also :func:`skproto.operations.edit`.

        Returns
        -------
        self : object
            The estimator.
        """
        given = {"features": features, "region": region, "labels": labels}
        given = {name: value for name, value in given.items() if value is not None}
        return self._edit("forbid", None, {**given, **settings})

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
