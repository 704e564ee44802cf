"""What an edit did to the predictions: measured before and after."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skproto._editing._job import Job

# Rows that a report names, samples for the faithfulness of explanations and for radii.
MAX_ROWS, MAX_EXPLAINED, MAX_CERTIFIED = 50, 500, 200


@dataclass(frozen=True)
class EditReport:
    """What an edit did, or with ``dry_run=True`` would do.

    Parameters
    ----------
    operation, family : str
        What was done to what kind of estimator.

    ids_before, ids_after : list of int
        Ids of the prototypes.

    repair : str
        What was fitted anew: "none", "head", "prototypes" or "all".

    n_samples : int
        Samples on which the edit was judged, 0 where none were given.

    judged_on : {"eval_set", "repair data", "nothing"}
        Where they come from. An edit that was fitted to them looks better on them.

    changed : float
        Share of the predictions that changed.

    changed_rows : list of int
        Up to 50 of these samples.

    accuracy, recall : tuple of float or dict, before and after
        Accuracy, and recall by class.

    comprehensiveness, sufficiency : tuple of float, before and after
        Mean fall of the probability of the predicted class without the prototype that
        contributes most, and with that one alone; NaN where scores are not additive.

    radius : tuple of float, before and after
        Median certified radius in scaled units, NaN where there is none.

    head_converged : bool or None
        Whether the refit of the head ended by itself.

    certainty_reached : dict
        By id, of soft replacements.

    dead, duplicates : list
        Ids that no longer speak for any class or win any sample, and pairs of ids of
        the same place.

    free_repair : dict
        What a refit without ``respect_label`` would have made of the columns.

    comparable : bool
        False where the encoder may have changed: explanations from before are of
        another model.

    notes : list of str
        Remarks, such as a duplicate or a site that was chosen.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import RBFClassifier
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> model = RBFClassifier(2, random_state=0).fit(X, y)
    >>> edited = model.remove_prototypes([0], dry_run=True)  # an EditReport
    >>> edited.operation, edited.ids_before, edited.ids_after
    ('remove', [0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
    """

    operation: str
    family: str
    ids_before: list[int]
    ids_after: list[int]
    repair: str = "none"
    n_samples: int = 0
    judged_on: str = "nothing"
    changed: float = math.nan
    changed_rows: list[int] = field(default_factory=list)
    accuracy: tuple[float, float] = (math.nan, math.nan)
    recall: tuple[dict[str, float], dict[str, float]] = ({}, {})
    comprehensiveness: tuple[float, float] = (math.nan, math.nan)
    sufficiency: tuple[float, float] = (math.nan, math.nan)
    radius: tuple[float, float] = (math.nan, math.nan)
    head_converged: bool | None = None
    certainty_reached: dict[str, float] = field(default_factory=dict)
    dead: list[int] = field(default_factory=list)
    duplicates: list[list[int]] = field(default_factory=list)
    free_repair: dict[str, Any] = field(default_factory=dict)
    comparable: bool = True
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return lists, numbers and text; NaN becomes None.

        Returns
        -------
        values : dict
            Ready for JSON.
        """
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        plain: dict[str, Any] = json_safe(found)
        return plain

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EditReport:
        """Return the report that :meth:`to_dict` wrote.

        Parameters
        ----------
        values : dict
            As :meth:`to_dict` returns it.

        Returns
        -------
        report : EditReport
            Equal to the one written.
        """
        pairs = {
            name: tuple(_number(v) for v in values[name])
            for name in ("accuracy", "comprehensiveness", "sufficiency", "radius")
        }
        pairs["recall"] = tuple(values["recall"])
        return cls(**{**values, **pairs, "changed": _number(values["changed"])})

    def __str__(self) -> str:
        lines = [f"{self.operation} on {self.family}, repair: {self.repair}"]
        gone = sorted(set(self.ids_before) - set(self.ids_after))
        new = sorted(set(self.ids_after) - set(self.ids_before))
        if gone:
            lines.append(f"  removed prototypes {gone}")
        if new:
            lines.append(f"  new prototypes {new}")
        if self.n_samples:
            lines.append(
                f"  {self.changed:.1%} of {self.n_samples} predictions changed "
                f"({self.judged_on})"
            )
            lines.append(_line("accuracy", self.accuracy))
        if not math.isnan(self.radius[1]):
            lines.append(_line("median certified radius", self.radius))
        for key, value in self.certainty_reached.items():
            lines.append(f"  certainty reached by prototype {key}: {value:.3f}")
        if self.free_repair.get("turned_around"):
            lines.append(
                "  a free refit of the head would turn prototypes "
                f"{self.free_repair['turned_around']} against their class"
            )
        if self.dead:
            lines.append(f"  dead prototypes: {self.dead}")
        if self.duplicates:
            lines.append(f"  duplicates: {self.duplicates}")
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)

    __repr__ = __str__


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _line(name: str, pair: tuple[float, float]) -> str:
    return f"  {name}: {pair[0]:.3f} -> {pair[1]:.3f}"


@dataclass(frozen=True)
class Measured:
    """Predictions of an estimator on the samples of a report."""

    codes: NDArray[np.int64]
    truth: NDArray[np.int64]
    weight: NDArray[np.float64]
    accuracy: float
    recall: dict[str, float]
    comprehensiveness: float
    sufficiency: float
    radius: float


def measure(job: Job, light: bool = False) -> Measured | None:
    """Return how the estimator predicts now; None where there are no samples.

    `light` leaves out explanations and certificates.
    """
    samples = _samples(job)
    if samples is None:
        return None
    model = job.model
    X, truth = samples
    outputs = model._forward(X, model._score_keys)
    codes = np.asarray(model._codes(outputs))
    recall = {
        str(label): float((codes[truth == code] == code).mean())
        for code, label in enumerate(model.classes_.tolist())
        if (truth == code).any()
    }
    faithful = (math.nan, math.nan) if light else _faithfulness(job, X)
    return Measured(
        codes,
        truth,
        np.ones(len(truth)),
        float((codes == truth).mean()),
        recall,
        *faithful,
        math.nan if light else _median_radius(model, X),
    )


def _samples(job: Job):
    if "samples" in job.facts:
        return job.facts["samples"]
    request, model, found = job.request, job.model, None
    if request.eval_set is not None:
        X, y = request.eval_set
        X = model._check_input(X)
        found = X, job.family.codes_of(X, y)
    elif job.data is not None:
        found = job.X, job.family.codes_of(job.X, request.y)
    job.facts["samples"] = found
    return found


def _first(X: Any, count: int) -> Any:
    if X.shape[0] <= count:
        return X
    index = np.arange(count)
    return X.select(index) if hasattr(X, "select") else X[index]


def _faithfulness(job: Job, X: Any) -> tuple[float, float]:
    """Comprehensiveness and sufficiency of the one prototype that contributes most."""
    model = job.model
    if not job.family.additive:
        return math.nan, math.nan
    outputs = model._forward(_first(X, MAX_EXPLAINED))
    evidence = model._evidence(outputs)
    contributions, bias = evidence["class_contributions"], evidence["class_bias"]
    scores = contributions.sum(axis=1) + bias
    row = np.arange(len(scores))
    code = scores.argmax(axis=1)
    top = contributions[row, :, code].argmax(axis=1)
    alone = contributions[row, top]
    p = [
        model._probabilities({"scores": np.asarray(s)})[row, code]
        for s in (scores, scores - alone, bias + alone)
    ]
    return float((p[0] - p[1]).mean()), float((p[0] - p[2]).mean())


def _median_radius(model: Any, X: Any) -> float:
    radius = model._radius(_first(X, MAX_CERTIFIED))
    return math.nan if radius is None else float(np.median(radius))


def make_report(
    job: Job, ids_before: list[int], before: Measured | None, after: Measured | None
) -> EditReport:
    """Return the report of an edit from what was measured before and after."""
    request, model, facts = job.request, job.model, job.facts
    measured: dict[str, Any] = {}
    if before is not None and after is not None:
        changed = np.flatnonzero(before.codes != after.codes)
        measured = {
            "n_samples": len(before.codes),
            "judged_on": "eval_set" if request.eval_set is not None else "repair data",
            "changed": len(changed) / len(before.codes),
            "changed_rows": changed[:MAX_ROWS].tolist(),
        }
        for name in (
            "accuracy",
            "recall",
            "comprehensiveness",
            "sufficiency",
            "radius",
        ):
            measured[name] = getattr(before, name), getattr(after, name)
    return EditReport(
        operation=request.operation,
        family=job.family.name,
        ids_before=ids_before,
        ids_after=[int(i) for i in model.prototype_ids_],
        repair=facts.get("repair", "none"),
        head_converged=facts.get("head_converged"),
        certainty_reached=_certainties(job),
        dead=job.ids_of(job.family.dead()),
        duplicates=_duplicates(job),
        free_repair=facts.get("free_repair", {}),
        comparable=facts.get("repair") != "all",
        notes=list(job.notes),
        **measured,
    )


def _certainties(job: Job) -> dict[str, float]:
    from skproto._editing import _memory as memory

    locations = job.family.locations()
    return {
        str(job.ids_of(np.array([position]))[0]): limit.reached(locations[position])
        for position, limit in memory.targets(job.model).items()
    }


def _duplicates(job: Job) -> list[list[int]]:
    return [job.ids_of(pair) for pair in job.family.duplicates()]


def json_safe(value: Any) -> Any:
    """Return lists, numbers, text and None only."""
    if isinstance(value, dict):
        return {str(key): json_safe(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return json_safe(value.tolist())
    if isinstance(value, np.generic):
        return json_safe(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    return str(value)
