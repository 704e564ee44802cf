"""Metrics as scorers for model selection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.metadata_routing import UNUSED

from skproto.metrics._contrast import activation_entropy, contrast_scores
from skproto.metrics._deletion import deletion_score
from skproto.metrics._estimator_regions import regions_of
from skproto.metrics._faithfulness import (
    additivity_error,
    completeness_score,
    explanation_sensitivity,
    faithfulness_score,
    hard_fidelity,
)
from skproto.metrics._impurity import impurity_score
from skproto.metrics._inputs import final_estimator, maps_of, prototype_classes
from skproto.metrics._parts import consistency_score, purity_score
from skproto.metrics._relevance import relevance_score
from skproto.metrics._size import (
    explanation_size,
    prototype_coverage,
    prototype_uniqueness,
    redundancy_score,
    sparsity_score,
)
from skproto.metrics._stability import stability_score


def _consistency(
    estimator, X, y, part_locations, part_visible=None, half_size=None, **options
):
    regions = regions_of(estimator, X, half_size)
    labels = prototype_classes(estimator)
    return consistency_score(
        regions,
        part_locations,
        part_visible,
        y,
        labels,
        classes=estimator.classes_,
        **options,
    )


def _purity(
    estimator, X, y, part_locations, part_visible=None, half_size=None, **options
):
    regions = regions_of(estimator, X, half_size)
    return purity_score(regions, part_locations, part_visible, **options)


def _impurity(
    estimator, X, y, part_locations, part_visible=None, half_size=None, **options
):
    regions = regions_of(estimator, X, half_size)
    return impurity_score(regions, part_locations, part_visible, **options)


def _stability(estimator, X, y, part_locations, part_visible=None, **options):
    return stability_score(estimator, X, part_locations, part_visible, y, **options)


def _relevance(estimator, X, y, masks, **options):
    return relevance_score(
        maps_of(estimator, X),
        masks,
        y=y,
        prototype_labels=prototype_classes(estimator),
        classes=estimator.classes_,
        **options,
    )


def _sparsity(estimator, X, y, **options):
    weights = getattr(estimator, "class_weights_", None)
    if weights is None:
        raise TypeError(
            f"The scorer 'sparsity' needs the weights of a linear head; "
            f"{type(estimator).__name__} has no class_weights_."
        )
    return sparsity_score(weights, **options)


def _size(estimator, X, y, which="effective", **options):
    return explanation_size(estimator, X, **options)[which]


def _entropy(estimator, X, y, **options):
    labels = prototype_classes(estimator)
    maps = maps_of(estimator, X)
    return activation_entropy(maps, y, labels, classes=estimator.classes_, **options)


def _contrast(estimator, X, y, **options):
    return contrast_scores(estimator, X, y, **options)["contrast"]


def _uniqueness(estimator, X, y, **options):
    return prototype_uniqueness(estimator, **options)


def _labelled(metric, estimator, X, y, **options):
    return metric(estimator, X, y, **options)


def _unlabelled(metric, estimator, X, y, **options):
    return metric(estimator, X, **options)


# Name of each metric, how it is computed and whether more is better.
METRICS: dict[str, tuple[Callable[..., Any], bool]] = {
    "additivity": (partial(_unlabelled, additivity_error), False),
    "completeness": (partial(_labelled, completeness_score), True),
    "consistency": (_consistency, True),
    "contrast": (_contrast, True),
    "coverage": (partial(_labelled, prototype_coverage), True),
    "deletion": (partial(_labelled, deletion_score), True),
    "entropy": (_entropy, False),
    "explanation_size": (_size, False),
    "faithfulness": (partial(_unlabelled, faithfulness_score), True),
    "hard_fidelity": (partial(_unlabelled, hard_fidelity), True),
    "impurity": (_impurity, False),
    "purity": (_purity, True),
    "redundancy": (partial(_unlabelled, redundancy_score), False),
    "relevance": (_relevance, True),
    "sensitivity": (partial(_unlabelled, explanation_sensitivity), False),
    "sparsity": (_sparsity, True),
    "stability": (_stability, True),
    "uniqueness": (_uniqueness, True),
}


def sample_keys(X) -> NDArray[np.uint64]:
    """Return a number for each sample; equal samples have equal ones."""
    X = np.asarray(X.to_numpy() if hasattr(X, "to_numpy") else X)
    rows = np.ascontiguousarray(X.reshape(len(X), -1))
    data = rows.view(np.uint8).reshape(len(X), -1).astype(np.uint64)
    rng = np.random.RandomState(0)
    factors = rng.randint(1, 2**63 - 1, size=data.shape[1], dtype=np.int64)
    # Sums of integers modulo 2 ** 64 do not round.
    return (data * (factors.astype(np.uint64) * 2 + 1)).sum(axis=1, dtype=np.uint64)


class PrototypeScorer(BaseEstimator):
    """Scorer of a metric with annotations; see :func:`make_prototype_scorer`.

    Parameters
    ----------
    metric : str or callable
        Name of a metric, or a function of estimator, X, y and annotations.

    X : array-like of shape (n, ...), default=None
        Samples that are annotated.

    annotations : dict of str to array-like, default=None
        Annotations of these samples.

    params : dict, default=None
        Further parameters of the metric.

    greater_is_better : bool or None, default=None
        Whether more is better; None: as the metric says.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import make_prototype_scorer
    >>> from skproto.shallow import RBFClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RBFClassifier(random_state=0).fit(X, y)
    >>> make_prototype_scorer("explanation_size")(model, X, y) < 0
    True
    """

    # Annotations may also come with the call, by metadata routing.
    __metadata_request__score = {"estimator": UNUSED}

    def __init__(
        self, metric, X=None, annotations=None, params=None, greater_is_better=None
    ):
        self.metric = metric
        self.X = X
        self.annotations = annotations
        self.params = params
        self.greater_is_better = greater_is_better

    def __call__(self, estimator, X, y=None, **annotations):
        """Score a fitted estimator; see :meth:`score`."""
        return self.score(estimator, X, y, **annotations)

    def score(
        self, estimator, X, y=None, part_locations=None, part_visible=None, masks=None
    ):
        """Score a fitted estimator; larger is better.

        Parameters
        ----------
        estimator : fitted estimator
            A prototype classifier, or a pipeline that ends in one.

        X : array-like of shape (n, ...)
            Samples.

        y : array-like of shape (n,), default=None
            Their labels.

        part_locations, part_visible, masks : array-like, default=None
            Annotations of these samples; looked up among those of the constructor
            where none is given.

        Returns
        -------
        score : float
            The negative of the metric where less is better.
        """
        metric, greater = _find(self.metric)
        if self.greater_is_better is not None:
            greater = self.greater_is_better
        given = {
            "part_locations": part_locations,
            "part_visible": part_visible,
            "masks": masks,
        }
        given = {name: value for name, value in given.items() if value is not None}
        notes = given or self._look_up(X)
        final, X = final_estimator(estimator, X)
        value = metric(final, X, y, **notes, **(self.params or {}))
        return float(value) if greater else -float(value)

    def _look_up(self, X) -> dict[str, Any]:
        """Return the annotations of samples, found by their values."""
        if self.annotations is None:
            return {}
        if self.X is None:
            return dict(self.annotations)
        known, asked = sample_keys(self.X), sample_keys(X)
        order = np.argsort(known, kind="stable")
        place = np.searchsorted(known[order], asked).clip(max=len(known) - 1)
        rows = order[place]
        missing = np.flatnonzero(known[rows] != asked)
        if len(missing):
            raise ValueError(
                f"{len(missing)} of {len(asked)} samples to be scored are not among "
                "the annotated ones, X of make_prototype_scorer; the first is number "
                f"{missing[0]}. Values and dtype must be the same."
            )
        return {
            name: value if value is None else np.asarray(value)[rows]
            for name, value in self.annotations.items()
        }


def _find(metric) -> tuple[Callable[..., Any], bool]:
    if callable(metric):
        return metric, True
    if metric not in METRICS:
        raise ValueError(
            f"metric must be a callable or one of {sorted(METRICS)}. Got {metric!r}."
        )
    return METRICS[metric]


def make_prototype_scorer(
    metric,
    X=None,
    annotations: Mapping[str, Any] | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    greater_is_better: bool | None = None,
) -> PrototypeScorer:
    """Make a scorer for `GridSearchCV` and `cross_validate` of a metric.

    Parameters
    ----------
    metric : str or callable
        "additivity", "completeness", "consistency", "contrast", "coverage",
        "deletion", "entropy", "explanation_size", "faithfulness", "hard_fidelity",
        "impurity", "purity", "redundancy", "relevance", "sensitivity", "sparsity",
        "stability" or "uniqueness"; or a function called with estimator, X, y and the
        annotations by name.

    X : array-like of shape (n, ...), default=None
        Samples that are annotated; all that will be scored must be among them. None:
        the annotations hold for any samples, as groups of features do.

    annotations : dict of str to array-like, default=None
        "part_locations", "part_visible" and "masks", as far as the metric needs them,
        each with one entry for each sample of `X`. With scikit-learn's metadata
        routing they can come with `fit` instead: ``scorer.set_score_request(
        part_locations=True)``.

    params : dict, default=None
        Further parameters of the metric, such as ``{"threshold": 0.5}``.

    greater_is_better : bool or None, default=None
        Whether more is better; None: as the metric says. Scores of which less is
        better change their sign.

    Returns
    -------
    scorer : callable
        Called with estimator, X and y; `set_score_request` of it asks for annotations
        by metadata routing.

    Raises
    ------
    ValueError
        If there is no metric of that name.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skproto.metrics import make_prototype_scorer
    >>> from skproto.shallow import GLVQClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> search = GridSearchCV(
    ...     GLVQClassifier(max_epochs=5, random_state=0),
    ...     {"n_prototypes_per_class": [1, 2]},
    ...     scoring={"size": make_prototype_scorer("redundancy"), "right": "accuracy"},
    ...     refit="right", cv=2,
    ... ).fit(X, y)
    >>> "mean_test_size" in search.cv_results_
    True
    """
    _find(metric)
    notes = None if annotations is None else dict(annotations)
    options = None if params is None else dict(params)
    return PrototypeScorer(metric, X, notes, options, greater_is_better)
