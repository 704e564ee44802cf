"""The explanation that every estimator can give: contributions of prototypes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from skproto.explanation._cases import place_columns
from skproto.explanation._checks import Checker, check_similarities
from skproto.explanation._evidence import EvidenceDisplay
from skproto.explanation._fields import check_options, coerce, dims, plain, take
from skproto.explanation._place_checks import check_places
from skproto.explanation._place_frame import place_frame
from skproto.explanation._places import SamplePlaces, check_alike
from skproto.explanation._prototypes import PrototypeTable

if TYPE_CHECKING:
    import pandas as pd

OPTIONS = {
    "radius_units": ("scaled", "input"),
    "binary_margin": ("difference", "positive", "share"),
    "link": ("softmax", "normalize", None),
    "kernel": ("metric", "squared", None),
    "metric": ("euclidean", None),
}


@dataclass(kw_only=True, eq=False, repr=False)
class Explanation(EvidenceDisplay):
    r"""Why samples were classified as they were: the numbers the model added up.

    The score of class :math:`k` is :math:`s_k = \sum_u e_{uk} + b_k`, where
    :math:`e_{uk}` is the contribution of unit :math:`u`; here the units are the
    prototypes. Nothing is approximated: :meth:`verify` recomputes the decision from
    the numbers shown. An explanation holds plain arrays and no model.

    Indexing with an int, a slice, a mask or an array of positions gives an
    explanation of those samples.

    Parameters
    ----------
    estimator_name : str
        Name of the estimator.

    classes : array of shape (n_classes,)
        Class labels.

    scores : array of shape (n_samples, n_classes)
        Class scores before any link.

    probabilities : array of shape (n_samples, n_classes)
        Class probabilities.

    prediction : array of shape (n_samples,)
        Predicted class labels.

    class_contributions : array of shape (n_samples, n_units, n_classes)
        Contribution of each unit to each class score.

    class_bias : array of shape (n_samples, n_classes)
        What the class scores hold besides the contributions.

    similarities : array of shape (n_samples, n_prototypes)
        Similarity of each sample to each prototype, as `transform` returns it.

    prototypes : PrototypeTable
        The cases behind the prototypes.

    sample_index : array of shape (n_samples,)
        Names of the samples, such as their row numbers.

    distances : array of shape (n_samples, n_prototypes) or None, default=None
        Metric distances (not squared) in scaled units.

    samples : array of shape (n_samples, n_features) or None, default=None
        The samples in the user's units.

    radius : array of shape (n_samples,) or None, default=None
        Certified radius: no smaller change alters the prediction.

    radius_units : {"scaled", "input"}, default="scaled"
        Whether the radius is measured after the inner standardisation or in the
        units of the input.

    binary_margin : {"difference", "positive", "share"}, default="difference"
        How the decision of two classes follows from their scores: second minus
        first, the second alone, or second minus first over their sum.

    head_weights : array of shape (n_prototypes, n_classes) or None, default=None
        Where the head is linear in the similarities, its weights; :meth:`verify`
        then checks contribution = similarity times weight.

    link : {"softmax", "normalize"} or None, default=None
        How the probabilities follow from the scores; checked by :meth:`verify`
        unless None.

    kernel : {"metric", "squared"} or None, default=None
        With `bandwidths`: the similarity is ``exp(-d / s)`` or ``exp(-d**2 / s)`` of
        the distance ``d`` and the bandwidth ``s``; checked unless None.

    bandwidths : array of shape (n_prototypes,) or None, default=None
        Bandwidth of each prototype.

    metric : {"euclidean"} or None, default=None
        Says that `distances` are the (weighted) Euclidean distances between the
        samples and the values of the prototypes, both divided by the scale; checked
        unless None.

    places : SamplePlaces or None, default=None
        Where in images, texts or rows the prototypes were found.

    similarity_name : str, default="similarity"
        What `similarities` are called, where they are not similarities.

    baseline : array of shape (n_prototypes,) or None, default=None
        With `head_weights`: what is usual, and so taken off the similarities before
        they are weighed.

    Raises
    ------
    ValueError
        If two arrays contradict each other in shape, or an option is unknown.

    Examples
    --------
    Two prototypes at 0 and 4, a sample at 1 and a linear head:

    >>> import numpy as np
    >>> from skproto.explanation import Explanation, PrototypeTable
    >>> similarity = np.exp(-np.array([[1.0, 3.0]]) / 2)
    >>> weights = np.array([[1.5, -1.0], [-0.5, 2.0]])
    >>> contributions = similarity[:, :, None] * weights
    >>> bias = np.array([[0.1, -0.2]])
    >>> scores = contributions.sum(axis=1) + bias
    >>> case = Explanation(
    ...     estimator_name="RBFClassifier", classes=["A", "B"], scores=scores,
    ...     probabilities=np.exp(scores) / np.exp(scores).sum(), prediction=["A"],
    ...     class_contributions=contributions, class_bias=bias,
    ...     similarities=similarity, sample_index=[17], samples=[[1.0]],
    ...     head_weights=weights, link="softmax", radius=[1.3248],
    ...     prototypes=PrototypeTable(
    ...         ids=[0, 1], labels=["A", "B"], indices=[212, 4], values=[[0.0], [4.0]],
    ...         projection_distance=[0, 0], is_case=[True, True],
    ...         feature_names=["dose"],
    ...     ),
    ... )
    >>> case.verify()
    >>> print(case)
    Sample 17: A (probability 0.78)
      for:       like training row 212 (A): similarity 0.61, contribution +1.52
      against:   like training row 4 (B): similarity 0.22, contribution -0.56
                   differs most in dose 1 vs 4
      total:     contributions +0.96 and bias +0.30 put A (score 0.898) ahead of B
                 (-0.360)
      certified: no change smaller than 1.32 (scaled units) alters the prediction
    >>> float(case.decision[0]) == float(scores[0, 1] - scores[0, 0])
    True
    """

    estimator_name: str
    classes: np.ndarray = field(metadata=dims("K"))
    scores: np.ndarray = field(metadata=dims("n", "K"))
    probabilities: np.ndarray = field(metadata=dims("n", "K"))
    prediction: np.ndarray = field(metadata=dims("n"))
    class_contributions: np.ndarray = field(metadata=dims("n", "U", "K"))
    class_bias: np.ndarray = field(metadata=dims("n", "K"))
    similarities: np.ndarray = field(metadata=dims("n", "P"))
    prototypes: PrototypeTable
    sample_index: np.ndarray = field(metadata=dims("n"))
    distances: np.ndarray | None = field(default=None, metadata=dims("n", "P"))
    samples: np.ndarray | None = field(default=None, metadata=dims("n", "f"))
    radius: np.ndarray | None = field(default=None, metadata=dims("n"))
    radius_units: str = "scaled"
    binary_margin: str = "difference"
    head_weights: np.ndarray | None = field(default=None, metadata=dims("P", "K"))
    link: str | None = None
    kernel: str | None = None
    bandwidths: np.ndarray | None = field(default=None, metadata=dims("P"))
    metric: str | None = None
    places: SamplePlaces | None = field(default=None, metadata={"sliced": True})
    similarity_name: str = "similarity"
    baseline: np.ndarray | None = field(default=None, metadata=dims("P"))

    def __post_init__(self) -> None:
        check_options(self, OPTIONS)
        coerce(self, {"P": len(self.prototypes), **self._unit_axes()})
        check_alike(type(self).__name__, self.places, self.prototypes, len(self))

    def _unit_axes(self) -> dict[str, int]:
        """Return how many units there are, where it is known beforehand."""
        return {"U": len(self.prototypes)}

    def __len__(self) -> int:
        return len(self.prediction)

    @property
    def _highest(self) -> float | None:
        """Highest similarity that there can be, where it is the same for all models.

        Where there are distances they tell more: a narrow kernel makes much of the
        rounding of a distance of 0.
        """
        return None if self.kernel is None or self.distances is not None else 1.0

    def __getitem__(self, key: Any) -> Any:
        return self._take(np.atleast_1d(np.arange(len(self))[key]))

    def _take(self, rows: np.ndarray) -> Any:
        return take(self, rows)

    # Decision

    @property
    def contributions(self) -> np.ndarray:
        """Contributions to the decision: (n, U) for two classes, else (n, U, K).

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import RBFClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = RBFClassifier(1, random_state=0).fit(X, y)
        >>> model.explain(X[:2]).contributions.shape  # samples, units, classes
        (2, 3, 3)
        """
        return self._margin(self.class_contributions)

    @property
    def bias(self) -> np.ndarray:
        """Bias of the decision: (n,) for two classes, else (n, K).

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import RBFClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = RBFClassifier(1, random_state=0).fit(X, y)
        >>> model.explain(X[:2]).bias.shape  # samples, classes
        (2, 3)
        """
        return self._margin(self.class_bias)

    @property
    def decision(self) -> np.ndarray:
        """What `decision_function` returns: (n,) for two classes, else (n, K).

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import RBFClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = RBFClassifier(1, random_state=0).fit(X, y)
        >>> decision = model.explain(X[:2]).decision
        >>> bool(abs(decision - model.decision_function(X[:2])).max() < 1e-5)
        True
        """
        return self._margin(self.scores)

    def _margin(self, values: np.ndarray) -> np.ndarray:
        """Apply the linear map from two class scores to their one decision value."""
        if len(self.classes) != 2:
            return values
        if self.binary_margin == "positive":
            return values[..., 1]
        difference = values[..., 1] - values[..., 0]
        if self.binary_margin == "share":
            total = self.scores.sum(axis=1, dtype=float)
            total = np.where(total > 0, total, 1.0)
            return difference / total.reshape(-1, *[1] * (difference.ndim - 1))
        return difference

    # Verification

    def verify(self, rtol: float = 1e-5) -> None:
        """Recompute the decision from the numbers shown.

        Of images also: sites are on their grid, boxes at their sites, and the source
        image of a prototype that is a part of it has the highest similarity that there
        can be; or no distance, where similarities have no limit.

        Parameters
        ----------
        rtol : float, default=1e-5
            Allowed difference, relative to the size of the terms that are added.

        Raises
        ------
        ValueError
            If a number does not follow from the others; names the sample and the
            class.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import RBFClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = RBFClassifier(1, random_state=0).fit(X, y)
        >>> case = model.explain(X[:2])
        >>> case.verify()
        >>> case.scores[0, 0] += 1.0
        >>> case.verify()
        Traceback (most recent call last):
            ...
        ValueError: ...
        """
        ids = self.prototypes.ids
        names = {"n": self.sample_index, "K": self.classes, "P": ids}
        self._check(Checker(names, rtol))

    def _check(self, check: Checker) -> None:
        terms = self.class_contributions
        size = np.abs(terms).sum(axis=1) + np.abs(self.class_bias)
        total = terms.sum(axis=1, dtype=float) + self.class_bias
        check.close("score", "nK", self.scores, total, size)
        check.decision(self.prediction, self._predicted(), self.scores, size)
        check.probabilities(
            self.probabilities, self._predicted(), self.scores, self.link
        )
        if self.head_weights is not None:
            usual = 0.0 if self.baseline is None else self.baseline
            evidence = (self.similarities - usual)[:, :, None] * self.head_weights
            check.close("contribution", "nPK", terms, evidence, 1.0 + np.abs(evidence))
        check_similarities(check, self)
        check_places(check, self)

    # Export

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each sample, unit and class.

        Returns
        -------
        frame : pandas DataFrame
            Columns name the sample, the unit and the class, then give the evidence.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import RBFClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = RBFClassifier(1, random_state=0).fit(X, y)
        >>> frame = model.explain(X[:2]).to_frame()
        >>> len(frame)  # 2 samples, 3 prototypes, 3 classes
        18
        """
        import pandas as pd

        n_samples, n_units, n_classes = self.class_contributions.shape
        columns = {
            "sample": np.repeat(self.sample_index, n_units * n_classes),
            "prediction": np.repeat(self.prediction, n_units * n_classes),
        }
        for name, values in self._unit_columns().items():
            table = np.broadcast_to(values, (n_samples, n_units))
            columns[name] = np.repeat(table.ravel(), n_classes)
        columns["class"] = np.tile(self.classes, n_samples * n_units)
        for name, values in self._evidence_columns().items():
            columns[name] = values.ravel()
        return pd.DataFrame(columns)

    def _unit_columns(self) -> dict[str, np.ndarray]:
        table = self.prototypes
        columns = {
            "prototype": table.ids,
            "prototype_label": table.labels,
            "training_row": table.indices,
            "similarity": self.similarities,
        }
        if self.distances is not None:
            columns["distance"] = self.distances
        return {**columns, **place_columns(table, self.places, 2)}

    def _evidence_columns(self) -> dict[str, np.ndarray]:
        return {"contribution": self.class_contributions}

    def place_frame(self) -> pd.DataFrame:
        """Return one row for each sample, prototype and part: where it was found.

        Returns
        -------
        frame : pandas DataFrame
            Columns `sample`, `prototype`, `training_row`, `part` (from 1, for
            prototypes of several parts), `site` or `token` or `feature`, the edges of
            the box and of the effective box in the sample, the same with `source_` for
            the training sample, and `part_similarity`; what is not known is left out.
            Parts that are switched off have no row.

        Raises
        ------
        ValueError
            If no places are known.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skproto import ProtoPNetClassifier
        >>> X, y = load_digits(n_class=2, return_X_y=True)
        >>> X = X.reshape(-1, 8, 8)
        >>> model = ProtoPNetClassifier(1, max_epochs=4, random_state=0).fit(X, y)
        >>> model.explain(X[:2]).place_frame().columns.tolist()[:4]
        ['sample', 'prototype', 'training_row', 'site']
        """
        return place_frame(self)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and the decision as lists, numbers and text.

        Returns
        -------
        content : dict
            Ready for `json.dumps`; NaN and infinities are None.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import RBFClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = RBFClassifier(1, random_state=0).fit(X, y)
        >>> import json
        >>> text = json.dumps(model.explain(X[:2]).to_dict())
        >>> text.startswith("{")
        True
        """
        content = {"type": type(self).__name__, **plain(self)}
        return {**content, "decision": plain(self.decision)}
