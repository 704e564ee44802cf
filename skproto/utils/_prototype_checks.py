"""Checks of what an estimator says about its prototypes."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pandas as pd

from skproto.utils._check_tools import (
    MULTICLASS,
    brief,
    fitted,
    need,
    promise,
    promise_close,
    promise_equal,
    takes_weight,
)
from skproto.utils._evidence_checks import import_or_skip

PER_PROTOTYPE = (
    "prototype_labels_",
    "prototype_indices_",
    "prototype_ids_",
    "projection_distance_",
)


def check_prototype_attributes(name, estimator):
    """Check that prototypes have a label, a training row, its distance and an id."""
    model = fitted(estimator)
    n_prototypes = len(model.prototypes_)
    for attribute in PER_PROTOTYPE:
        shape = np.shape(getattr(model, attribute))
        promise(
            shape == (n_prototypes,),
            f"{name}: {attribute} has one entry for each of the {n_prototypes} "
            f"prototypes. Got shape {shape}.",
        )
    indices = np.asarray(model.prototype_indices_)
    promise(
        indices.dtype.kind == "i"
        and ((indices >= -1) & (indices < len(MULTICLASS.X))).all(),
        f"{name}: prototype_indices_ are row numbers of the training data, or -1.",
    )
    promise(
        np.isin(model.prototype_labels_, model.classes_).all(),
        f"{name}: prototype_labels_ are labels from y.",
    )
    promise(
        (np.asarray(model.projection_distance_)[indices >= 0] >= 0).all(),
        f"{name}: projection_distance_ is at least 0 where there is a training row.",
    )
    promise(
        len(np.unique(model.prototype_ids_)) == n_prototypes,
        f"{name}: prototype_ids_ are unique.",
    )


def check_prototype_samples(name, estimator):
    """Check that `prototype_samples_` are the rows that `prototype_indices_` name."""
    model, X = fitted(estimator), MULTICLASS.X
    _promise_rows(name, model, X)
    if takes_weight(estimator):
        # Row numbers count the rows of weight 0 that the model never saw.
        junk = np.concatenate([X[:5] + 1e3, X])
        y = np.concatenate([MULTICLASS.y[:5], MULTICLASS.y])
        weight = np.concatenate([np.zeros(5), np.ones(len(X))])
        model = brief(estimator).fit(junk, y, sample_weight=weight)
        _promise_rows(name, model, junk)
        promise(
            (model.prototype_indices_[model.prototype_indices_ >= 0] >= 5).all(),
            f"{name}: no prototype names a sample of weight 0.",
        )


def _promise_rows(name, model, X) -> None:
    named = model.prototype_indices_ >= 0
    promise_equal(
        model.prototype_samples_[named],
        X[model.prototype_indices_[named]],
        f"{name}: prototype_samples_ equals X[prototype_indices_].",
    )


def check_projected_prototypes(name, estimator):
    """Check that a projected prototype is its training row."""
    need(
        "project_prototypes" in estimator.get_params(deep=False),
        f"{name} has no parameter project_prototypes.",
    )
    X = MULTICLASS.X
    model = brief(estimator, project_prototypes=True).fit(X, MULTICLASS.y)
    named = model.prototype_indices_ >= 0
    promise(
        (model.projection_distance_[named] == 0).all(),
        f"{name}: projection_distance_ is 0 after projection.",
    )
    _promise_rows(name, model, X)
    if model.prototypes_.shape[1] == X.shape[1]:
        promise_equal(
            model.prototypes_[named],
            model.prototype_samples_[named],
            f"{name}: a projected prototype in input space is its training row.",
        )
    rows = np.flatnonzero(named)
    shown = model.explain(model.prototype_samples_[named])
    if shown.distances is not None and shown.distances.shape[1] == len(named):
        distances = shown.distances[np.arange(len(rows)), rows]
        promise_close(
            distances,
            np.zeros(len(rows)),
            f"{name}: the row behind a projected prototype has distance 0 from it.",
            atol=2e-3,
        )


def check_transform(name, estimator):
    """Check that `transform` has one finite column for each prototype, with a name."""
    model, X = fitted(estimator), MULTICLASS.X
    activations = model.transform(X)
    promise(
        activations.shape == (len(X), len(model.prototypes_)),
        f"{name}: transform returns (n_samples, n_prototypes). Got "
        f"{activations.shape} for {len(model.prototypes_)} prototypes.",
    )
    promise(
        np.isfinite(activations).all(), f"{name}: transform returns finite numbers."
    )
    names = model.get_feature_names_out()
    promise(
        len(names) == activations.shape[1] == len(set(names)),
        f"{name}: get_feature_names_out gives every column of transform its own name.",
    )


def check_feature_names(name, estimator):
    """Check that names of the columns are kept and shown."""
    columns = [f"tree {i}" for i in range(MULTICLASS.X.shape[1])]
    frame = pd.DataFrame(MULTICLASS.X, columns=columns)
    frame.index = [f"row {i}" for i in range(len(frame))]
    model = brief(estimator).fit(frame, MULTICLASS.y)
    promise_equal(
        model.feature_names_in_, columns, f"{name}: feature_names_in_ are the columns."
    )
    shown = model.explain(frame[3:5])
    promise_equal(
        shown.sample_index,
        ["row 3", "row 4"],
        f"{name}: an explanation names samples by the index of the frame.",
    )
    promise_equal(
        shown.prototypes.feature_names,
        columns,
        f"{name}: an explanation names features by the columns of the frame.",
    )
    promise_equal(
        model.predict(frame),
        fitted(estimator).predict(MULTICLASS.X),
        f"{name}: a frame and its array give the same model.",
    )


def check_set_output_pandas(name, estimator):
    """Check that `set_output` makes transform return pandas."""
    _check_set_output(name, estimator, "pandas")


def check_set_output_polars(name, estimator):
    """Check that `set_output` makes transform return polars."""
    import_or_skip("polars", f"{name}: the output of transform as polars needs polars")
    _check_set_output(name, estimator, "polars")


def _check_set_output(name, estimator, kind: str) -> None:
    model = brief(estimator).set_output(transform=kind)
    model.fit(MULTICLASS.X, MULTICLASS.y)
    frame = model.transform(MULTICLASS.X)
    promise(
        type(frame).__module__.startswith(kind),
        f"{name}: set_output(transform={kind!r}) makes transform return {kind}.",
    )
    promise_equal(
        list(frame.columns),
        list(model.get_feature_names_out()),
        f"{name}: the columns of the {kind} frame are get_feature_names_out().",
    )


def check_documented(name, estimator):
    """Check that parameters, fitted attributes and public methods are documented."""
    model = fitted(estimator)
    text = inspect.getdoc(type(model)) or ""
    public = [a for a in vars(model) if a.endswith("_") and not a.startswith("_")]
    for wanted in sorted({*public, *model.get_params(deep=False)}):
        promise(
            re.search(rf"^(\w+, )*{wanted}(, \w+)* :", text, flags=re.MULTILINE),
            f"{name}: {wanted} has a line in the docstring of the class.",
        )
    for method, function in inspect.getmembers(type(model), callable):
        promise(
            method.startswith("_") or inspect.getdoc(function),
            f"{name}: the method {method} has a docstring.",
        )
