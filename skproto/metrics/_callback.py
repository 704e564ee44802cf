"""Metrics of the model as it trains, in its history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback

from skproto.metrics._inputs import check_count, check_labels
from skproto.metrics._scorers import METRICS

#: Annotations that metrics take.
NEEDS = {
    "consistency": ("part_locations", "part_visible"),
    "impurity": ("part_locations", "part_visible"),
    "purity": ("part_locations", "part_visible"),
    "stability": ("part_locations", "part_visible"),
    "relevance": ("masks",),
}


def _accuracy(estimator, X, y) -> float:
    return float(np.mean(estimator.predict(X) == y))


class PrototypeMetrics(Callback):
    """Record metrics after every epoch, so that checkpoints can be compared.

    A skorch callback for ``net_params={"callbacks": [...]}`` of networks of parts and
    shallow estimators. The values stand in `history_`, one column a metric. They are
    those of the prototypes as they are in that epoch, learned and not yet projected.

    Parameters
    ----------
    X : array-like of shape (n, ...)
        Samples, as `predict` takes them, better not those of training. A set that
        picks the epoch must not be the one that is reported on.

    y : array-like of shape (n,)
        Their labels.

    metrics : sequence of str or dict, default=("accuracy", "coverage", "redundancy")
        Names of metrics: "accuracy" and those of :func:`make_prototype_scorer`; or a
        dict of functions of estimator, X and y by name. Values are not negated.

    every : int, default=1
        Epochs between two measurements; others are NaN.

    part_locations, part_visible, masks : array-like, default=None
        Annotations of the samples for the metrics that need them.

    Raises
    ------
    ValueError
        If there is no metric of a name.

    See Also
    --------
    make_prototype_scorer : The same metrics in a grid search.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import PrototypeMetrics
    >>> from skproto.shallow import GLVQClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> watch = PrototypeMetrics(X, y, ["accuracy", "redundancy"])
    >>> model = GLVQClassifier(
    ...     1, solver="adam", max_epochs=3, net_params={"callbacks": [watch]},
    ...     random_state=0,
    ... ).fit(X, y)
    >>> model.history_[["accuracy", "redundancy"]].shape
    (3, 2)
    """

    def __init__(
        self,
        X,
        y,
        metrics: Sequence[str] | Mapping[str, Callable[..., Any]] = (
            "accuracy",
            "coverage",
            "redundancy",
        ),
        *,
        every=1,
        part_locations=None,
        part_visible=None,
        masks=None,
    ):
        self.X = X
        self.y = y
        self.metrics = metrics
        self.every = every
        self.part_locations = part_locations
        self.part_visible = part_visible
        self.masks = masks

    def initialize(self):
        """Look up the metrics; called by skorch.

        Returns
        -------
        self : object
            The callback.
        """
        check_count("every", self.every, 1)
        self._functions = {name: self._function(name) for name in self.metrics}
        return self

    def _function(self, name: str) -> Callable[..., Any]:
        if isinstance(self.metrics, Mapping):
            return self.metrics[name]
        if name == "accuracy":
            return _accuracy
        if name not in METRICS:
            known = sorted({"accuracy", *METRICS})
            raise ValueError(f"metrics must be among {known}. Got {name!r}.")
        metric = METRICS[name][0]
        notes = {need: getattr(self, need) for need in NEEDS.get(name, ())}
        return lambda estimator, X, y: metric(estimator, X, y, **notes)

    def on_epoch_end(self, net, **kwargs):
        """Measure and write to the history; called by skorch.

        Parameters
        ----------
        net : PrototypeNet
            The net that trains.

        **kwargs : object
            Not used.
        """
        n_epochs = len(net.history)
        if n_epochs % self.every:
            values = dict.fromkeys(self._functions, np.nan)
        else:
            training = net.module_.training
            net.module_.eval()
            try:
                view = model_in_training(net)
                y = check_labels(view, self.y)
                values = {
                    name: float(function(view, self.X, y))
                    for name, function in self._functions.items()
                }
            finally:
                net.module_.train(training)
        for name, value in values.items():
            net.history.record(name, value)


def model_in_training(net) -> Any:
    """Return a stand-in for the estimator that a net belongs to, as it is now.

    It predicts, transforms and explains with the weights of this moment; of the fitted
    attributes it has those that can be read off the module.
    """
    estimator = getattr(net, "estimator", None)
    if estimator is None:
        raise TypeError(
            "PrototypeMetrics must be a callback of an estimator of skproto, given as "
            "net_params={'callbacks': [...]}. Got a net of its own."
        )
    view = object.__new__(type(estimator))
    view.__dict__.update(estimator.__dict__, net_=net)
    module = net.module_
    prototypes = getattr(module, "prototypes", None)
    if isinstance(prototypes, torch.Tensor):
        view.prototypes_ = prototypes.detach().cpu().numpy().astype(np.float64)
        view.prototype_ids_ = np.arange(len(view.prototypes_))
    tables = getattr(getattr(module, "head", None), "tables", None)
    if tables is not None:
        view.class_weights_ = tables()[0].detach().cpu().numpy().astype(float)
    codes = _codes_of(module, view)
    if codes is not None:
        view.prototype_labels_ = estimator.classes_[codes]
    return view


def _codes_of(module, view) -> np.ndarray | None:
    """Return the class codes (P,) of prototypes, None where nothing says them."""
    owners = getattr(module, "ownership", None)
    if owners is not None and not bool(owners.all()):
        return np.asarray(owners.int().argmax(1).cpu().numpy())
    labels = getattr(module, "labels", None)
    if isinstance(labels, torch.Tensor):
        return np.asarray(labels.cpu().numpy())
    weights = getattr(view, "class_weights_", None)
    return None if weights is None else np.asarray(weights.argmax(axis=1))
