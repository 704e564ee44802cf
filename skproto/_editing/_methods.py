"""The operations as methods of an estimator."""

from __future__ import annotations

from typing import Any

from skproto._editing._driver import apply_edit


class OperationMethods:
    """The part of an estimator that has one method for each operation."""

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
