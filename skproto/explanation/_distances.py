"""Explanation of scores that are weighted sums of squared distances."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from skproto.explanation._base import Explanation
from skproto.explanation._cases import case_name, labelled_case
from skproto.explanation._checks import Checker
from skproto.explanation._drawing import draw_contributions
from skproto.explanation._fields import dims
from skproto.explanation._image_blocks import has_pictures
from skproto.explanation._numbers import number
from skproto.explanation._text import Row, SampleView

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(kw_only=True, eq=False, repr=False)
class DistanceExplanation(Explanation):
    r"""Explanation of class scores :math:`s_k = \sum_j D_j W_{jk}`, without a bias.

    :math:`D_j` is the squared distance to prototype j, kept in `similarities`, and a
    prototype speaks for the classes of negative weight: what counts is to be near. As
    all distances are positive, words and pictures tell the same scores by how much
    nearer than usual a sample is, :math:`s_k = \sum_j (D_j - u_j) W_{jk} + \sum_j u_j
    W_{jk}`, see :meth:`centred`.

    Parameters
    ----------
    estimator_name, classes, scores, probabilities, prediction : object
        As in :class:`Explanation`.

    class_contributions, class_bias, similarities, prototypes, sample_index : object
        As in :class:`Explanation`; `similarities` are the squared distances.

    distances, samples, radius, radius_units, binary_margin : object, optional
        As in :class:`Explanation`.

    head_weights, link, kernel, bandwidths, metric : object, optional
        As in :class:`Explanation`; `head_weights` is needed here.

    places, similarity_name, baseline : object, optional
        As in :class:`Explanation`.

    usual : array of shape (n_prototypes,)
        Mean squared distance of the training samples to each prototype.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.explanation import PrototypeTable
    >>> from skproto.explanation._distances import DistanceExplanation
    >>> squared = np.array([[1.0, 8.0]])
    >>> weights = np.array([[-1.0, 0.5], [0.5, -1.0]])
    >>> scores = squared @ weights
    >>> case = DistanceExplanation(
    ...     estimator_name="PrototypeAutoencoderClassifier", classes=["A", "B"],
    ...     scores=scores, probabilities=[[0.99997246, 0.00002754]], prediction=["A"],
    ...     class_contributions=squared[:, :, None] * weights,
    ...     class_bias=np.zeros((1, 2)), similarities=squared, sample_index=[17],
    ...     distances=np.sqrt(squared), head_weights=weights, link="softmax",
    ...     usual=[3.0, 6.0], prototypes=PrototypeTable(
    ...         ids=[0, 1], labels=["A", "B"], indices=[212, 4],
    ...         projection_distance=[0, 0], is_case=[True, True],
    ...     ),
    ... )
    >>> case.verify()
    >>> print(case)
    Sample 17: A (probability >0.99)
      for:     near training row 212 (A): squared distance 1, usual 3, contribution +3
               far from training row 4 (B): squared distance 8, usual 6, contribution +3
      total:   contributions +6 and bias +4.50 put A (score 3) ahead of B (-7.50)
    """

    similarity_name: str = "squared distance"
    usual: np.ndarray = field(metadata=dims("P"))

    def centred(self) -> DistanceExplanation:
        r"""Return the same decision, told by how much nearer than usual samples are.

        Returns
        -------
        explanation : DistanceExplanation
            The contribution of prototype j to class k is :math:`(D_j - u_j) W_{jk}`;
            the bias :math:`\sum_j u_j W_{jk}` is the same for all samples.
        """
        if self.baseline is not None or self.head_weights is None:
            return self
        shift = self.usual[:, None] * self.head_weights
        return replace(
            self,
            class_contributions=self.class_contributions - shift,
            class_bias=self.class_bias + shift.sum(axis=0),
            baseline=self.usual,
        )

    def _check(self, check: Checker) -> None:
        super()._check(check)
        if self.distances is not None:
            follows = self.distances.astype(float) ** 2
            size = 1.0 + follows
            check.close("squared distance", "nP", self.similarities, follows, size)

    def _unit_columns(self) -> dict[str, np.ndarray]:
        columns = super()._unit_columns()
        squared = columns.pop("similarity")
        return {**columns, "squared_distance": squared, "usual": self.usual}

    def _evidence_columns(self) -> dict[str, np.ndarray]:
        told = self.centred().class_contributions
        return {**super()._evidence_columns(), "centred_contribution": told}

    # Words and pictures

    def _view(self, i: int, n_for: int = 3, n_against: int = 1) -> SampleView:
        told = self.centred()
        if told is self:
            return super()._view(i, n_for, n_against)
        return told._view(i, n_for, n_against)

    def _row(self, i: int, k: int, group: str, value: float, shown: str) -> Row:
        near = self._is_near(i, k)
        case = f"{self._nearness(i, k)} {case_name(self.prototypes, k)}"
        case += f": {self.similarity_name} {number(self.similarities[i, k])}, "
        case += f"usual {number(self.usual[k])}"
        compared = self._compare(i, k, alike=near)
        return Row(group, case, value, shown, compared=compared, prototype=k)

    def _place_row(self, i: int, k: int, group: str) -> Row:
        row = super()._place_row(i, k, group)
        case = row.case.removeprefix("like ")
        return row._replace(case=f"{self._nearness(i, k)} {case}")

    def _is_near(self, i: int, k: int) -> bool:
        return bool(self.similarities[i, k] <= self.usual[k])

    def _nearness(self, i: int, k: int) -> str:
        return "near" if self._is_near(i, k) else "far from"

    def _draw(self, ax: Axes | None) -> Axes:
        told = self.centred()
        if told is not self:
            return told._draw(ax)
        if has_pictures(self):
            return super()._draw(ax)
        pair = list(self._rivals(0))
        labels = [
            f"{labelled_case(self.prototypes, k)}\n{self._nearness(0, k)}: "
            f"{number(squared, 2)}"
            for k, squared in enumerate(self.similarities[0])
        ]
        return draw_contributions(
            labels,
            self.class_contributions[0][:, pair],
            self.class_bias[0][pair],
            [str(self.classes[k]) for k in pair],
            self._title(),
            ax,
        )
