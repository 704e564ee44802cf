"""Checks of the evidence contract: what is shown is what was computed."""

from __future__ import annotations

import copy
import json
from importlib import import_module

import numpy as np

from skproto.utils._check_tools import (
    BINARY,
    MULTICLASS,
    changeable,
    fitted,
    need,
    promise,
    promise_close,
    promise_equal,
    promise_error,
)


def _check_contract(name: str, model, X) -> None:
    shown = model.explain(X)
    decision = model.decision_function(X)
    n_classes = len(model.classes_)
    tail = (n_classes,) if n_classes > 2 else ()
    contributions, bias = np.asarray(shown.contributions), np.asarray(shown.bias)
    promise(
        contributions.ndim == 2 + len(tail) and contributions.shape[2:] == tail,
        f"{name}: contributions have one value for each sample and unit, and for each "
        f"class if there are more than two. Got the shape {contributions.shape}.",
    )
    promise(
        decision.shape == (len(X), *tail) and bias.shape == decision.shape,
        f"{name}: the decision has shape (n_samples,) for two classes and (n_samples, "
        f"n_classes) for more, and so has the bias. Got {decision.shape} and "
        f"{bias.shape}.",
    )
    size = np.abs(contributions).sum(axis=1) + np.abs(bias)
    gap = np.abs(contributions.sum(axis=1) + bias - decision)
    promise(
        (gap <= 1e-5 * size + 1e-30).all(),
        f"{name}: contributions.sum(axis=1) + bias equals decision_function within "
        f"1e-5 of the terms. The largest difference is {gap.max():.3g}.",
    )


def check_evidence_contract_multiclass(name, estimator):
    """Check that contributions and bias add up to the decision of three classes."""
    _check_contract(name, fitted(estimator), MULTICLASS.X)


def check_evidence_contract_binary(name, estimator):
    """Check that contributions and bias add up to the decision of two classes."""
    _check_contract(name, fitted(estimator, "binary"), BINARY.X)


def check_evidence_contract_float32(name, estimator):
    """Check that contributions and bias add up to the decision for float32 input."""
    _check_contract(name, fitted(estimator, "float32"), MULTICLASS.X.astype(np.float32))


def check_evidence_contract_far_away(name, estimator):
    """Check that contributions and bias add up to the decision far away."""
    model = fitted(estimator)
    center, spread = MULTICLASS.X.mean(axis=0), MULTICLASS.X.std(axis=0)
    X = np.stack([center + 1e3 * spread, center - 1e2 * spread, center + 1e6 * spread])
    _check_contract(name, model, X)
    model.explain(X).verify()


def check_explanation_is_of_the_prediction(name, estimator):
    """Check that an explanation shows the model's own predictions and similarities."""
    model, X = fitted(estimator), MULTICLASS.X
    shown = model.explain(X)
    promise_equal(
        shown.prediction, model.predict(X), f"{name}: explain shows what predict says."
    )
    promise_equal(
        shown.probabilities,
        model.predict_proba(X),
        f"{name}: explain shows what predict_proba says.",
    )
    if shown.samples is not None:
        promise_equal(
            shown.samples, X, f"{name}: explain shows the samples in the user's units."
        )
    if shown.similarities.shape[1] == model.transform(X[:1]).shape[1]:
        promise_close(
            shown.similarities,
            model.transform(X),
            f"{name}: explain shows the similarities that transform returns.",
        )


def check_explanation_verifies(name, estimator):
    """Check that `verify` accepts what the model shows, and nothing else."""
    for kind, data in (("multiclass", MULTICLASS), ("binary", BINARY)):
        fitted(estimator, kind).explain(data.X).verify()
    shown = fitted(estimator).explain(MULTICLASS.X[:4])
    for field in ("class_contributions", "scores", "probabilities"):
        altered = copy.deepcopy(shown)
        values = np.array(getattr(altered, field), dtype=float)
        values[1] += 0.1 * (1.0 + np.abs(values[1]).max())
        setattr(altered, field, values)
        promise_error(
            altered.verify,
            ValueError,
            f"{name}: verify of an explanation raises where {field} were altered.",
        )
    altered = copy.deepcopy(shown)
    altered.prediction = np.roll(model_classes(estimator), 1)[
        np.searchsorted(model_classes(estimator), shown.prediction)
    ]
    promise_error(
        altered.verify,
        ValueError,
        f"{name}: verify of an explanation raises where the label was altered.",
    )


def model_classes(estimator) -> np.ndarray:
    """Classes of the brief fit."""
    return fitted(estimator).classes_


def check_removal(name, estimator):
    """Check that without a prototype the scores lack exactly its contribution."""
    model, X = changeable(estimator), MULTICLASS.X
    before = model.explain(X)
    weights = getattr(before, "head_weights", None)
    need(
        weights is not None and hasattr(model, "prune") and before.link == "softmax",
        f"{name} has no head that is linear in the prototypes, or no prune.",
    )
    weights = np.abs(before.head_weights).max(axis=1)
    weakest = int(weights.argmin())
    if hasattr(model, "remove_prototypes"):
        model.remove_prototypes(before.prototypes.ids[weakest], allow_empty_class=True)
    else:
        model.prune(np.partition(weights, 1)[:2].mean())
    promise(
        len(model.prototypes_) == len(weights) - 1,
        f"{name}: prune drops the prototypes whose largest weight is below threshold.",
    )
    left = before.scores - before.class_contributions[:, weakest]
    promise_close(
        model.explain(X).scores,
        left,
        f"{name}: removing a prototype changes the scores by exactly its contribution.",
        atol=1e-5,
    )
    promise_equal(
        model.prototype_ids_,
        np.delete(before.prototypes.ids, weakest),
        f"{name}: prototypes that are left keep their ids.",
    )


def check_explanation_exports(name, estimator):
    """Check that explanations turn into tables, JSON, text and HTML."""
    model = fitted(estimator)
    shown, whole = model.explain(MULTICLASS.X[:3]), model.explain_global()
    n_rows = int(np.prod(np.shape(shown.class_contributions)))
    promise(
        len(shown.to_frame()) == n_rows,
        f"{name}: explain(X).to_frame() has one row for each sample, unit and class.",
    )
    promise(
        len(whole.to_frame()) >= 1,
        f"{name}: explain_global().to_frame() has the prototypes.",
    )
    for what, explanation in (("explain(X)", shown), ("explain_global()", whole)):
        try:
            json.dumps(explanation.to_dict(), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise AssertionError(
                f"{name}: {what}.to_dict() is ready for JSON. {error}"
            ) from error
        promise(str(explanation).strip(), f"{name}: {what} prints a few lines.")
    promise(
        len(shown[:2]) == 2 and len(shown[0]) == 1,
        f"{name}: an explanation can be indexed by sample.",
    )


def check_html(name, estimator):
    """Check that the notebook shows the estimator and its explanations."""
    import_or_skip("jinja2", f"{name}: HTML of explanations needs Jinja2")
    model = fitted(estimator)
    for what, shown in (
        ("the estimator", model),
        ("explain(X)", model.explain(MULTICLASS.X[:2])),
        ("explain_global()", model.explain_global()),
    ):
        html = shown._repr_html_()
        promise(
            isinstance(html, str) and "<" in html, f"{name}: {what} has an HTML form."
        )


def check_plot(name, estimator):
    """Check that explanations can be drawn."""
    import_or_skip("matplotlib", f"{name}: pictures need matplotlib")
    pyplot = import_module("matplotlib.pyplot")
    model = fitted(estimator)
    backend = import_module("matplotlib").get_backend()
    try:
        pyplot.switch_backend("agg")
        for shown in (model.explain(MULTICLASS.X[:2]), model.explain_global()):
            promise(shown.plot() is not None, f"{name}: plot returns the axes.")
            pyplot.close("all")
    finally:
        pyplot.switch_backend(backend)


def import_or_skip(module: str, reason: str):
    """Import a module, or skip the check."""
    try:
        return import_module(module)
    except ImportError:
        need(False, f"{reason}, which is not installed.")
