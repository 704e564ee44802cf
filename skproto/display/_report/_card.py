"""The model card: what the model is, how it was trained, how good it is."""

from __future__ import annotations

import inspect
import platform
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from skproto.display._report import _charts as charts
from skproto.display._report import _scores as scores
from skproto.display._report._subject import Subject
from skproto.explanation._numbers import number

PACKAGES = ("skproto", "scikit-learn", "torch", "numpy")


def model_card(
    subject: Subject, shown: Any, found: scores.Predictions, random_state
) -> dict[str, Any]:
    """Return what the template shows of a model.

    Parameters
    ----------
    subject : Subject
        Model and cases.

    shown : GlobalExplanation
        The model in the user's names.

    found : Predictions
        What it says of all cases.

    random_state : int, RandomState instance or None
        Seed of the bootstrap.
    """
    n, n_right = len(subject), int(found.right.sum())
    low, high = scores.wilson(n_right, n)
    balanced = scores.balanced_interval(found, random_state)
    bins = scores.calibration(found)
    curve = scores.certified_curve(found)
    return {
        "estimator": type(subject.estimator).__name__,
        "steps": subject.steps,
        "n": n,
        "n_right": n_right,
        "accuracy": (n_right / n, low, high),
        "balanced": balanced,
        "calibration_error": scores.calibration_error(bins),
        "bins": bins,
        "calibration": charts.calibration_chart(bins),
        "confusion": scores.confusion(found, subject.classes),
        "per_class": scores.per_class(found, subject.classes),
        "radius": _median(found.radius),
        "curve": charts.step_chart(curve) if curve else None,
        "loss": charts.loss_chart(getattr(subject.estimator, "history_", None)),
        "facts": _facts(subject, shown),
        "parameters": changed_parameters(subject.estimator),
        "tables": [table for table in shown._tables()[1:] if _is_extra(table)],
        "versions": [*_versions(), ("Python", platform.python_version())],
    }


def _is_extra(table: Any) -> bool:
    """Tell whether a table of the model is not shown elsewhere on the page."""
    return bool(table.rows) and table.title in ("Relevance", "Prototypes in use")


def _median(radius: np.ndarray | None) -> str:
    return "" if radius is None else number(np.nanmedian(radius))


def _facts(subject: Subject, shown: Any) -> list[tuple[str, str]]:
    """Return name and value of what there is to know of model, data and training."""
    model, table = subject.estimator, shown.prototypes
    n_cases = int(table.is_case.sum())
    kind = f"{len(table)}, of which {n_cases} are training cases themselves"
    if n_cases in (0, len(table)):
        word = "each of them a training case" if n_cases else "all of them learned"
        kind = f"{len(table)}, {word}"
    facts = [("Prototypes", kind)]
    if subject.steps:
        facts.append(("Before the model", ", then ".join(subject.steps)))
    facts.append(("Cases judged", f"{len(subject):,}".replace(",", "\u202f")))
    facts.append((_input_name(subject), _input(subject)))
    facts.append(("Classes", _class_counts(subject)))
    trained = _training(model)
    if trained:
        facts.append(("Training", trained))
    edits = getattr(model, "edit_log_", None)
    if edits:
        facts.append(("Edited by hand", _edits(edits)))
    return facts


def _edits(log: list[dict[str, Any]]) -> str:
    """Say how often a model was edited, and how."""
    counts = Counter(str(entry["op"]).replace("_", " ") for entry in log)
    ways = ", ".join(f"{name} ({count})" for name, count in counts.items())
    return f"{len(log)} time{'s' if len(log) > 1 else ''}: {ways}"


def _input_name(subject: Subject) -> str:
    if subject.is_table:
        return "Features"
    return "Images" if len(subject.estimator._input_shape) == 3 else "Tokens"


def _input(subject: Subject) -> str:
    shape = subject.estimator._input_shape
    if subject.is_table:
        return str(subject.estimator.n_features_in_)
    if len(shape) == 2:
        return f"{shape[0]} of dimension {shape[1]}"
    channels = {1: "grey", 3: "colour"}.get(shape[0], f"{shape[0]} channels")
    return f"{shape[1]} by {shape[2]} pixels, {channels}"


def _class_counts(subject: Subject) -> str:
    counts = np.bincount(subject.codes, minlength=len(subject.classes))
    if len(subject.classes) > 6:
        return f"{len(subject.classes)}"
    pairs = zip(subject.classes, counts, strict=True)
    return ", ".join(f"{name} ({count})" for name, count in pairs)


def _training(model: Any) -> str:
    """Say how a model was trained, as far as it is known."""
    history = getattr(model, "history_", None)
    if history is None or not len(history):
        return ""
    epochs = len(history)
    parts = [f"{epochs} epochs" if epochs != 1 else "1 epoch"]
    if "tree" in history:
        n_trees = history["tree"].nunique()
        parts = [f"{n_trees} trees, {epochs} epochs in all"]
    if getattr(model, "solver_", None):
        parts[0] += f" of {model.solver_}"
    if "phase" in history:
        phases = list(dict.fromkeys(str(phase) for phase in history["phase"]))
        if len(phases) > 1:
            parts.append(f"phases {', '.join(phases)}")
    if "dur" in history:
        parts.append(f"{number(history['dur'].sum(), 2)}\u00a0s")
    return "; ".join(parts)


def changed_parameters(model: Any) -> list[tuple[str, str]]:
    """Return the parameters of a model that are not at their defaults, as text."""
    signature = inspect.signature(type(model).__init__).parameters
    found = []
    for name, value in model.get_params(deep=False).items():
        default = signature[name].default if name in signature else None
        shown = " ".join(repr(value).split())
        if shown != repr(default):
            found.append((name, shown if len(shown) <= 200 else shown[:199] + "…"))
    return found


def _versions() -> list[tuple[str, str]]:
    found = []
    for package in PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return found
