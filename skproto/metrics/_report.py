"""All metrics of one model in one table, with intervals and baselines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from skproto.metrics import _judging as judging
from skproto.metrics._estimator_regions import Regions, regions_of
from skproto.metrics._inputs import check_labels, check_lengths, final_estimator
from skproto.utils._random import random_source

if TYPE_CHECKING:
    import pandas as pd


@dataclass(eq=False)
class PrototypeReport:
    """What :func:`prototype_report` found.

    Parameters
    ----------
    prototypes : pandas DataFrame
        One row for each prototype.

    summary : dict of str to dict of str to float
        For each metric "value", and where they were asked for "low" and "high" (ends
        of the bootstrap interval), "random_place", "untrained" and "n_prototypes",
        the number of prototypes that could be judged.

    regions : PrototypeRegions, FeatureRegions or None
        The regions from which the numbers can be computed anew.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import GLVQClassifier
    >>> from skproto.metrics import prototype_report
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GLVQClassifier(1, random_state=0).fit(X, y)
    >>> report = prototype_report(model, X, y, random_state=0)  # a PrototypeReport
    >>> len(report.prototypes), bool(report.summary["accuracy"]["value"] > 0.9)
    (3, True)
    """

    prototypes: pd.DataFrame
    summary: dict[str, dict[str, float]]
    regions: Regions | None = field(default=None, repr=False)

    def to_frame(self) -> pd.DataFrame:
        """Return the summary as a table, one row for each metric.

        Returns
        -------
        frame : pandas DataFrame
            NaN where a number was not asked for or makes no sense.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import GLVQClassifier
        >>> from skproto.metrics import prototype_report
        >>> X, y = load_iris(return_X_y=True)
        >>> model = GLVQClassifier(1, random_state=0).fit(X, y)
        >>> "accuracy" in prototype_report(model, X, y, random_state=0).to_frame().index
        True
        """
        import pandas as pd

        return pd.DataFrame(self.summary).T

    def __str__(self) -> str:
        return str(self.to_frame().round(3))


def prototype_report(
    estimator,
    X,
    y,
    part_locations=None,
    part_visible=None,
    *,
    masks=None,
    part_names=None,
    merge=None,
    baseline=None,
    n_resamples=200,
    half_size=None,
    noise=0.2,
    random_state=None,
) -> PrototypeReport:
    """Judge every prototype of a model, and the model as a whole.

    Parameters
    ----------
    estimator : fitted estimator
        Any estimator of the package.

    X : array-like of shape (n, ...)
        Samples that were not used in training.

    y : array-like of shape (n,)
        Their labels.

    part_locations : array-like of shape (n, M, 2) or (M, f), default=None
        Pixels x and y of the parts; for tables groups of features, as bool. Without
        them consistency, purity and stability are left out.

    part_visible : array-like of shape (n, M), default=None
        Whether the part can be seen; None: all can.

    masks : array-like of shape (n, H, W), bool, default=None
        Pixels of the object; without them relevance is left out.

    part_names : sequence of str, default=None
        Names of the parts.

    merge : sequence of sequences of int, default=None
        Groups of parts that count as one for purity.

    baseline : fitted estimator, default=None
        Such as :func:`untrained` returns; its scores stand beside.

    n_resamples : int, default=200
        Draws for the bootstrap intervals; 0 leaves them out.

    half_size : int, default=None
        Half of the side of the regions; see :func:`prototype_regions`.

    noise : float, default=0.2
        Noise for the stability.

    random_state : int, RandomState instance or None, default=None
        Seed of noise, draws and places.

    Returns
    -------
    report : PrototypeReport
        Its `prototypes` has a row for each prototype, its `summary` holds the scores;
        `regions` are those that they were computed from.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import prototype_report
    >>> from skproto.shallow import GLVQClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GLVQClassifier(random_state=0).fit(X, y)
    >>> groups = [[True, True, False, False], [False, False, True, True]]
    >>> report = prototype_report(
    ...     model, X, y, groups, part_names=["sepal", "petal"], random_state=0
    ... )
    >>> sorted(report.summary)[:3]
    ['accuracy', 'additivity_error', 'completeness']
    >>> report.prototypes["best_part"].isin(["sepal", "petal"]).all().item()
    True
    """
    import pandas as pd

    estimator, X = final_estimator(estimator, X)
    y = check_labels(estimator, y)
    if not len(estimator.prototypes_):
        raise ValueError(
            f"{type(estimator).__name__} must have prototypes to report on. None is "
            "left after pruning."
        )
    rng = random_source(random_state)
    seed = int(rng.randint(2**31 - 1))
    table = judging.prototype_columns(estimator, y)
    summary = {
        name: {"value": value}
        for name, value in judging.general_scores(estimator, X, y).items()
    }
    notes, regions = None, None
    if part_locations is not None:
        notes = judging.Annotations(
            part_locations, part_visible, y, merge, half_size, noise
        )
        regions = regions_of(estimator, X, half_size)
        check_lengths(regions=regions, y=y)
        table |= judging.part_columns(estimator, regions, notes, part_names)
        stable = judging.stability_columns(estimator, X, notes, seed)
        table |= stable
        summary |= judging.chance(estimator, regions, notes, n_resamples, rng)
        for name in ("consistency", "purity"):
            summary[name] |= judging.judged(table[name])
        summary |= {name: judging.judged(values) for name, values in stable.items()}
    if masks is not None:
        table["relevance"] = judging.relevance_column(estimator, X, y, masks)
        summary["relevance"] = judging.judged(table["relevance"])
    if baseline is not None:
        other = _compared(final_estimator(baseline, X)[0], X, y, notes, masks, seed)
        for name in summary.keys() & other.keys():
            summary[name]["untrained"] = other[name]
    return PrototypeReport(pd.DataFrame(table), summary, regions)


def _compared(baseline, X, y, notes, masks, seed: int) -> dict[str, float]:
    """Return the same scores of another model."""
    if not len(baseline.prototypes_):
        return {"accuracy": float(baseline.score(X, y))}
    found = judging.general_scores(baseline, X, y)
    if notes is not None:
        found |= judging.part_scores(baseline, X, notes, seed)
    if masks is not None:
        values = judging.relevance_column(baseline, X, y, masks)
        found["relevance"] = judging.judged(values)["value"]
    return found
