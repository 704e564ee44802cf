"""Explanation of scores that add up how surely prototypes are present (PIP-Net)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from skproto.explanation._base import Explanation
from skproto.explanation._checks import Checker
from skproto.explanation._fields import dims
from skproto.explanation._numbers import number
from skproto.explanation._text import SampleView


def presence_margin(scores: np.ndarray) -> np.ndarray:
    r"""Factor that makes a decision of the difference of two scores.

    With the probabilities :math:`(1 + s_k^2) / \sum_j (1 + s_j^2)` of two classes
    :math:`p_1 - p_0 = (s_1 - s_0) (s_0 + s_1) / (2 + s_0^2 + s_1^2)`: so multiplied,
    the lead of a class is that of its probability.

    Parameters
    ----------
    scores : ndarray of shape (n, 2)
        Class scores, at least 0.

    Returns
    -------
    factor : ndarray of shape (n,)
        Between 0 and 1.

    Examples
    --------
    >>> float(presence_margin(np.array([[1.0, 3.0]]))[0]) * (3 - 1)
    0.6666666666666666
    """
    # Divided by the larger first: squares of large scores overflow.
    size = np.maximum(1.0, scores.max(axis=1))
    parts = scores / size[:, None]
    total = 2.0 * (1.0 / size) ** 2 + (parts**2).sum(axis=1)
    return parts.sum(axis=1) / total / size


@dataclass(kw_only=True, eq=False, repr=False)
class PresenceExplanation(Explanation):
    r"""Explanation of class scores :math:`s_k = \sum_p a_p W_{pk}` without a bias.

    The :math:`a_p` are presences between 0 and 1, and no weight is negative. The
    probability of a class is :math:`(1 + s_k^2) / \sum_j (1 + s_j^2)`. Where nothing
    was found all scores are 0: the model abstains, see :attr:`abstains`, and the
    prediction is the most frequent class. It also abstains where the highest score is
    below the threshold of its class.

    With two classes the decision is the difference of their scores times
    :math:`(s_0 + s_1) / (2 + s_0^2 + s_1^2)`, which is the difference of their
    probabilities; contributions are multiplied likewise.

    Parameters
    ----------
    estimator_name, classes, scores, probabilities, prediction : object
        As in :class:`Explanation`.

    class_contributions, class_bias, similarities, prototypes, sample_index : object
        As in :class:`Explanation`; `similarities` are the presences.

    distances, samples, radius, radius_units, binary_margin : object, optional
        As in :class:`Explanation`.

    head_weights, link, kernel, bandwidths, metric : object, optional
        As in :class:`Explanation`.

    places, similarity_name, baseline : object, optional
        As in :class:`Explanation`.

    abstain_thresholds : array of shape (n_classes,) or None, default=None
        Scores below which the model abstains from a class.
    """

    similarity_name: str = "presence"
    abstain_thresholds: np.ndarray | None = field(default=None, metadata=dims("K"))

    @property
    def abstains(self) -> np.ndarray:
        """Whether there is too little evidence for any class, shape (n_samples,)."""
        nothing = (self.scores == 0).all(axis=1)
        if self.abstain_thresholds is None:
            return nothing
        return nothing | below_thresholds(self.scores, self.abstain_thresholds)

    def _margin(self, values: np.ndarray) -> np.ndarray:
        if len(self.classes) != 2:
            return values
        factor = presence_margin(self.scores)
        difference = values[..., 1] - values[..., 0]
        return difference * factor.reshape(-1, *[1] * (difference.ndim - 1))

    def _check(self, check: Checker) -> None:
        super()._check(check)
        follows = presence_probabilities(self.scores)
        check.close("probability", "nK", self.probabilities, follows)

    def _heading(self, i: int) -> SampleView:
        view = super()._heading(i)
        if not self.scores[i].any():
            view.prediction += ", the most frequent class, for want of evidence"
        return view

    def _notes(self, i: int) -> list[tuple[str, str]]:
        notes = super()._notes(i)
        if not self.scores[i].any():
            return [("abstains", "no prototype of any class was found")]
        if self.abstains[i] and self.abstain_thresholds is not None:
            k = int(self.scores[i].argmax())
            found, usual = self.scores[i, k], self.abstain_thresholds[k]
            text = f"score {number(found)}, below {number(usual)} that is usual for it"
            notes = [("abstains", text), *notes]
        return notes


def below_thresholds(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Tell where the highest score (n, K) is below the threshold (K,) of its class.

    Examples
    --------
    >>> below_thresholds(np.array([[1.0, 0.5], [1.0, 3.0]]), np.array([2.0, 2.0]))
    array([ True, False])
    """
    highest = scores.max(axis=1)
    return np.asarray(highest < thresholds[scores.argmax(axis=1)])


def presence_probabilities(scores: np.ndarray) -> np.ndarray:
    r"""Class probabilities :math:`(1 + s_k^2) / \sum_j (1 + s_j^2)`.

    Parameters
    ----------
    scores : ndarray of shape (n, K)
        Class scores, at least 0.

    Returns
    -------
    probabilities : ndarray of shape (n, K)
        Equal where all scores are.

    Examples
    --------
    >>> presence_probabilities(np.array([[3.0, 1.0]])).round(4).tolist()
    [[0.8333, 0.1667]]
    """
    size = np.maximum(1.0, scores.max(axis=1, keepdims=True))
    share = (1.0 / size) ** 2 + (scores / size) ** 2
    return np.asarray(share / share.sum(axis=1, keepdims=True))
