"""Edits of copies, prototypes found by what they are, and logs done again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from skproto._editing import apply_edit, family_of, replay_log
from skproto._editing._job import Job, as_samples
from skproto._editing._request import EditRequest


def edit(estimator, op, ids=None, *, inplace=False, **settings):
    """Edit a fitted estimator.

    An edit changes the state, is then repaired, checked and recorded. If any of it
    fails the estimator is as it was.

    Parameters
    ----------
    estimator : estimator
        Fitted. It stays as it is unless `inplace` is set.

    op : str
        "remove", "add", "replace", "soft_replace", "reinit", "finetune", "relabel",
        "reweight", "merge", "simplify", "lock", "unlock", "snap" or "forbid".

    ids : int or array-like of int, default=None
        Prototypes by their numbers in `prototype_ids_`.

    inplace : bool, default=False
        Whether to change the estimator itself.

    **settings : object
        Arguments of the operation, which are those of the method of the same name
        (`items`, `label`, `certainty`, `weights`, `how`, `features`, `region`, ...),
        and for every operation:

        X, y, sample_weight : data for the repair.

        repair : "none", "head" (a convex fit of the head), "prototypes" (the
        prototypes that the edit is about, then the head), "all" (everything that is
        not locked, the encoder too: explanations from before are then of another
        model), or "auto", the default: what suits the operation where there is data,
        else "none".

        respect_label : bool, True by default. Prototypes that a user added, replaced,
        softened or relabelled keep speaking for their class: in their columns only
        that entry is fitted, stays at least `min_weight` (None: a quarter of the mean
        own weight) and the largest. A free fit may turn an edit against its meaning.

        repair_steps, repair_lr : steps of Adam (100) on prototypes, learning rate
        (None: that of the estimator).

        item_weight : weight with which items count as training samples, 0 by default.

        eval_set : (X, y) on which the edit is judged; else the data of the repair.

        dry_run : True returns the report and changes nothing.

        guard : dict of conditions, "min_accuracy_change", "min_recall_change",
        "max_changed"; if one is broken the edit is taken back and `EditRejected`
        raised.

        keep_snapshots : "all", "last" or an int: how many edits can be undone.

        random_state, note : seed of what is drawn, text for the log.

    Returns
    -------
    estimator : estimator
        The edited one; with ``dry_run=True`` the :class:`EditReport`.

    Raises
    ------
    EditNotSupported
        If the operation means nothing for this family of estimators.

    EditRejected
        If a guard turns it down.

    ValueError
        If prototypes are locked, unknown or the last of a class, or arguments wrong.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import GLVQClassifier
    >>> from skproto.operations import edit
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GLVQClassifier(2, random_state=0, max_epochs=20).fit(X, y)
    >>> smaller = edit(model, "remove", 3, X=X, y=y, note="looks like an error")
    >>> smaller.prototype_ids_.tolist(), len(model.prototypes_)
    ([0, 1, 2, 4, 5], 6)
    >>> smaller.edit_log_[-1]["note"]
    'looks like an error'
    >>> bool((smaller.undo().predict_proba(X) == model.predict_proba(X)).all())
    True
    """
    model = estimator if inplace else copy.deepcopy(estimator)
    report = apply_edit(model, op, ids, **settings)
    return report if settings.get("dry_run") else model


def replay(estimator, log, X=None, y=None, sample_weight=None, *, strict=True):
    """Do the edits of a log on a copy of an estimator.

    Parameters
    ----------
    estimator : estimator
        Fitted, for instance anew to the same data with the same seed: the result then
        has the state hash of the log.

    log : list of dict
        The `edit_log_` of an estimator, also when read back from JSON.

    X, y, sample_weight : object, default=None
        Data with which edits are repaired, where they were.

    strict : bool, default=True
        Whether the data must be those of the log.

    Returns
    -------
    estimator : estimator
        An edited copy.

    Raises
    ------
    ValueError
        If data is needed and not given, or is other data than in the log.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import GLVQClassifier
    >>> from skproto.operations import replay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GLVQClassifier(2, random_state=0, max_epochs=20).fit(X, y)
    >>> log = model.remove_prototypes(3).edit_log_
    >>> again = replay(model.fit(X, y), log)
    >>> again.edit_log_[0]["hash_after"] == log[0]["hash_after"]
    True
    """
    model = copy.deepcopy(estimator)
    replay_log(model, log, X, y, sample_weight, strict)
    return model


def find_prototypes(estimator, *, near=None, latent=False, rule=None, label=None):
    """Find prototypes by what they are rather than by number.

    Parameters
    ----------
    estimator : estimator
        Fitted.

    near : array-like of shape (m, ...), default=None
        Samples in the user's units: the prototype most similar to each is meant.

    latent : bool, default=False
        Whether `near` holds codes.

    rule : {"all", "dead", "duplicate", "learned"} or callable, default=None
        "dead": that speak for no class or win no sample; "duplicate": all but the
        first on one place; "learned": that are no training sample; a callable takes
        the estimator and returns ids. None: all, or what `near` says.

    label : object, default=None
        Class of the prototypes; None: any.

    Returns
    -------
    ids : list of int
        In the order of `near`, each once; else of `prototype_ids_`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import GLVQClassifier
    >>> from skproto.operations import find_prototypes
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GLVQClassifier(1, random_state=0, max_epochs=20).fit(X, y)
    >>> find_prototypes(model, near=X[:1]), find_prototypes(model, label=2)
    ([0], [2])
    """
    family = family_of(estimator)
    ids = np.asarray(estimator.prototype_ids_)
    allowed = np.ones(len(ids), dtype=bool)
    if label is not None:
        allowed &= np.asarray(estimator.prototype_labels_) == label
    if rule is not None:
        allowed &= np.isin(ids, _by_rule(estimator, family, rule))
    if near is None:
        return [int(i) for i in ids[allowed]]
    if not allowed.any():
        return []
    alike = np.where(allowed, _alike(estimator, family, near, latent), -np.inf)
    return list(dict.fromkeys(int(i) for i in ids[alike.argmax(axis=1)]))


def _alike(estimator, family, near, latent) -> np.ndarray:
    """Similarity (m, P) of items to prototypes, that of the best site."""
    if latent:
        request = EditRequest("add", arguments={"items": near, "latent": True})
        codes = Job(estimator, family, request).read_items().codes
        return np.asarray(family.similarity(codes))
    X = estimator._check_input(as_samples(near, estimator))
    return np.asarray(family.alike(family.plain_data(X)))


def _by_rule(estimator, family, rule: str | Callable[[Any], Any]) -> np.ndarray:
    ids = np.asarray(estimator.prototype_ids_)
    if callable(rule):
        return np.atleast_1d(np.asarray(rule(estimator), dtype=np.int64))
    if rule == "all":
        return ids
    if rule == "dead":
        return ids[family.dead()]
    if rule == "learned":
        return ids[estimator.projection_distance_ != 0]
    if rule == "duplicate":
        return ids[np.unique(family.duplicates()[:, 1])]
    raise ValueError(
        "rule must be 'all', 'dead', 'duplicate', 'learned' or a callable. Got "
        f"{rule!r}."
    )


def apply_by_content(model, edits: Sequence[Mapping[str, Any]], X, y, weight) -> None:
    """Do edits whose prototypes are given by content on a fitted estimator."""
    for number, given in enumerate(edits):
        settings = dict(given)
        op = settings.pop("op", None)
        if op is None or "ids" in settings:
            raise ValueError(
                "edits must be dicts with 'op', which name prototypes by content, with "
                f"'prototypes', not by 'ids'. Got edit {number}: {dict(given)!r}."
            )
        chosen = settings.pop("prototypes", None)
        ids = None
        if chosen is not None:
            ids = find_prototypes(model, **chosen)
            if not ids:
                continue
        if settings.pop("with_data", True):
            settings = {"X": X, "y": y, "sample_weight": weight, **settings}
        apply_edit(model, op, ids, **settings)
