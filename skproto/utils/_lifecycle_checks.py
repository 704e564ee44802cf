"""Checks of an estimator's life: construction, copies, files, history, callbacks."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import tempfile
from importlib import import_module
from pathlib import Path

import joblib
import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skproto.utils._check_tools import (
    MULTICLASS,
    brief,
    fitted,
    need,
    promise,
    promise_equal,
    promise_same_outputs,
    takes_weight,
)
from skproto.utils._evidence_checks import import_or_skip


def check_constructor_stores(name, estimator):
    """Check that the constructor stores its parameters and does nothing else."""
    known = estimator.get_params(deep=False)
    values = {parameter: object() for parameter in known}
    made = type(estimator)(**values)
    for parameter, value in values.items():
        promise(
            getattr(made, parameter, None) is value,
            f"{name}: the constructor stores {parameter} as it was given.",
        )
    # A parent's parameter may be fixed by its heir.
    inherited = [inspect.signature(c).parameters for c in type(made).__mro__[:-1]]
    extra = sorted(set(vars(made)).difference(known, *inherited))
    promise(not extra, f"{name}: the constructor sets nothing else. It set {extra}.")
    parameters = list(inspect.signature(type(estimator)).parameters.values())
    promise(
        all(p.kind is p.KEYWORD_ONLY for p in parameters[2:]),
        f"{name}: the parameters after the first two are keyword-only.",
    )


def check_pickle(name, estimator):
    """Check that pickle and joblib bring back the same bits."""
    model = fitted(estimator)
    promise_same_outputs(
        model,
        pickle.loads(pickle.dumps(model)),
        MULTICLASS.X,
        f"{name}: pickle brings back the same bits.",
    )
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    again = joblib.load(buffer)
    promise_same_outputs(
        model, again, MULTICLASS.X, f"{name}: joblib brings back the same bits."
    )
    again.explain(MULTICLASS.X[:3]).verify()
    again.explain_global()


def check_copies(name, estimator):
    """Check that copies predict the same bits and clones start afresh."""
    model = fitted(estimator)
    for what, again in (("deep", copy.deepcopy(model)), ("shallow", copy.copy(model))):
        promise_same_outputs(
            model, again, MULTICLASS.X, f"{name}: a {what} copy predicts the same bits."
        )
    unfitted = clone(model)
    promise(
        not [a for a in vars(unfitted) if a.endswith("_")],
        f"{name}: a clone has no fitted attributes.",
    )
    promise_same_outputs(
        model,
        unfitted.fit(MULTICLASS.X, MULTICLASS.y),
        MULTICLASS.X,
        f"{name}: a clone with the same seed becomes the same model.",
    )


def check_save_without_pickle(name, estimator):
    """Check that `skproto.persistence` brings back the same bits."""
    import_or_skip("skops.io", f"{name}: saving without pickle needs skops")
    persistence = import_module("skproto.persistence")
    model = fitted(estimator)
    own = f"{type(model).__module__}.{type(model).__qualname__}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.skops"
        persistence.save(model, path)
        again = persistence.load(path, trusted=[own])
    promise_same_outputs(
        model, again, MULTICLASS.X, f"{name}: skops brings back the same bits."
    )


def check_history(name, estimator):
    """Check that the history has one row an epoch and one column a loss term."""
    model = fitted(estimator)
    need(hasattr(model, "n_iter_"), f"{name} is not trained in epochs of its own.")
    history = model.history_
    promise(
        type(history).__module__.startswith("pandas") and len(history) == model.n_iter_,
        f"{name}: history_ is a pandas frame with n_iter_ rows, one for each epoch.",
    )
    terms = [term.name for term in getattr(model, "_loss_terms", list)()]
    missing = {"epoch", "train_loss", *terms} - set(history.columns)
    promise(
        not missing,
        f"{name}: history_ has columns for the epoch, the loss and every loss term. "
        f"Missing: {sorted(missing)}.",
    )
    promise_equal(
        history["epoch"],
        np.arange(1, len(history) + 1),
        f"{name}: the epochs of history_ count from 1.",
    )
    promise(
        np.isfinite(history[["train_loss", *terms]].to_numpy(dtype=float)).all(),
        f"{name}: the losses in history_ are finite.",
    )


def check_callbacks(name, estimator):
    """Check that scikit-learn's callbacks see every epoch."""
    callback = import_or_skip("sklearn.callback", f"{name}: needs scikit-learn >= 1.9")
    need(hasattr(estimator, "set_callbacks"), f"{name} takes no callbacks.")
    monitor = callback.ScoringMonitor(scoring="accuracy")
    model = brief(estimator).set_callbacks(monitor)
    model.fit(MULTICLASS.X, MULTICLASS.y)
    log = monitor.get_logs().data_as_pandas
    steps = getattr(model, "n_iter_", None)
    if steps is not None and hasattr(model, "history_"):
        promise(
            len(log) in (steps, steps + 1),
            f"{name}: ScoringMonitor records a score for each of the {steps} epochs. "
            f"Got {len(log)}.",
        )
    promise(len(log) >= 1, f"{name}: ScoringMonitor records a score.")
    promise_same_outputs(
        fitted(estimator),
        model,
        MULTICLASS.X,
        f"{name}: callbacks that watch do not change the model.",
    )


def check_metadata_routing(name, estimator):
    """Check that sample weights reach the estimator in a pipeline, either way."""
    need(takes_weight(estimator), f"{name}.fit takes no sample_weight.")
    X, y = MULTICLASS.X, MULTICLASS.y
    weight = np.where(y == "ash", 0.0, 1.0)
    step = type(estimator).__name__.lower()
    off = make_pipeline(StandardScaler(), brief(estimator))
    off.fit(X, y, **{f"{step}__sample_weight": weight})
    with config_context(enable_metadata_routing=True):
        routed = brief(estimator).set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        on = make_pipeline(scaler, routed).fit(X, y, sample_weight=weight)
        predicted = on.predict_proba(X)
    for how, classes in (("off", off.classes_), ("on", on.classes_)):
        promise_equal(
            classes,
            ["beech", "cedar"],
            f"{name}: weights reach it in a pipeline with metadata routing {how}.",
        )
    promise_equal(
        off.predict_proba(X),
        predicted,
        f"{name}: metadata routing on or off gives the same model.",
    )
