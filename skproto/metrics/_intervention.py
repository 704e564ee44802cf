"""What edits of a user do to the accuracy, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from skproto.metrics._inputs import check_labels, final_estimator
from skproto.metrics._size import explanation_size
from skproto.operations import edit

if TYPE_CHECKING:
    import pandas as pd


def intervention_curve(
    estimator, X, y, edits: Sequence[tuple[str, Mapping[str, Any]]] | None = None
) -> pd.DataFrame:
    """Accuracy after each of a sequence of edits.

    Parameters
    ----------
    estimator : fitted estimator
        Any estimator that can be edited. It is not changed.

    X : array-like of shape (n, ...)
        Samples on which the accuracy is taken, better not those of the repair.

    y : array-like of shape (n,)
        Their labels.

    edits : sequence of tuple of (str, dict), default=None
        Name and arguments of each edit, as :func:`skproto.operations.edit` takes them,
        done one after the other. None: remove prototypes, those first that contribute
        for the fewest samples; every class keeps one.

    Returns
    -------
    curve : pandas DataFrame
        One row for each edit, the first for the model as it is: `edit`, `ids`,
        `n_prototypes`, `accuracy` and `gain` over the row before.

    Raises
    ------
    EditRejected, EditNotSupported
        If an edit cannot be done.

    References
    ----------
    Koh, P. W. et al. (2020). Concept Bottleneck Models. *ICML*, section 4.3 (the idea:
    accuracy as a user corrects the model).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import intervention_curve
    >>> from skproto.shallow import RBFClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RBFClassifier(2, random_state=0).fit(X, y)
    >>> curve = intervention_curve(model, X, y, [("remove", {"ids": 0})])
    >>> curve["n_prototypes"].tolist()
    [6, 5]
    """
    import pandas as pd

    model, X = final_estimator(estimator, X)
    y = check_labels(model, y)
    if edits is None:
        edits = [("remove", {"ids": int(k)}) for k in _least_used(model, X)]
    rows: list[dict[str, Any]] = [_row("", None, model, X, y)]
    for op, settings in edits:
        given = dict(settings)
        model = edit(model, op, given.pop("ids", None), **given)
        rows.append(_row(op, settings.get("ids"), model, X, y))
    curve = pd.DataFrame(rows)
    curve["gain"] = curve["accuracy"].diff().fillna(0.0)
    return curve


def _row(op: str, ids, model, X, y) -> dict[str, Any]:
    return {
        "edit": op,
        "ids": ids,
        "n_prototypes": len(model.prototypes_),
        "accuracy": float(model.score(X, y)),
    }


def _least_used(model, X) -> np.ndarray:
    """Return ids in the order of their use; the most used of each class is left out."""
    use = explanation_size(model, X, per_prototype=True)
    if len(use) != len(model.prototypes_):
        # Units are leaves: how often a prototype is the most similar one.
        use = np.asarray(model.win_counts_, dtype=np.float64)
    labels = np.asarray(model.prototype_labels_)
    kept = [
        np.where(labels == label, use, -1.0).argmax() for label in np.unique(labels)
    ]
    order = np.argsort(use, kind="stable")
    return np.asarray(model.prototype_ids_)[order[~np.isin(order, kept)]]
