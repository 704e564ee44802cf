"""From prototype activations to class scores, additive in the prototypes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

# A sum of more terms than this is added up in float64 outside of training, so that
# the scores are those of the contributions shown.
EXACT_TERMS = 128


def _precise(values: Tensor, head: nn.Module) -> Tensor:
    """Return values in float64 outside of training, where the device has it."""
    if head.training or values.device.type == "mps":
        return values
    return values.double()


def _operands(rows: Tensor, table: Tensor, head: nn.Module) -> tuple[Tensor, Tensor]:
    """Return rows (n, P) and table (P, M) in the type in which to multiply them."""
    if table.shape[0] <= EXACT_TERMS:
        return rows, table
    return _precise(rows, head), _precise(table, head)


class LinearHead(nn.Module):
    """Class scores as a free linear function of the activations.

    Parameters
    ----------
    n_prototypes : int
        Number of prototypes P.

    n_classes : int
        Number of classes K.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import LinearHead
    >>> LinearHead(2, 3)(torch.zeros(4, 2))["scores"].shape
    torch.Size([4, 3])
    """

    def __init__(self, n_prototypes, n_classes):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_prototypes, n_classes))
        self.bias = nn.Parameter(torch.zeros(n_classes))

    n_reasonings = 1

    def tables(self) -> tuple[Tensor, Tensor]:
        """Weights (P, K) and bias (K,)."""
        return self.weight, self.bias

    def half_squared_norm(self) -> Tensor:
        """Half the sum of the squared weights."""
        return 0.5 * self.weight.square().sum()

    def forward(self, log_activations: Tensor) -> dict[str, Tensor]:
        """Return scores (n, K) and activations from log activations (n, P)."""
        activations = log_activations.exp()
        detections, weight = _operands(activations, self.weight, self)
        scores = detections @ weight + self.bias
        return {"scores": scores, "activations": activations}


class ReasoningHead(nn.Module):
    r"""Classification by components with positive and negative reasoning.

    Per concept m a probability table over "component k is present" and "component k
    is absent": :math:`p_m = \sum_k R^+_{km} d_k + R^-_{km} (1 - d_k)`, where all
    entries of a column of :math:`(R^+; R^-)` sum to 1. The score of a class is that
    of its best concept.

    Parameters
    ----------
    n_prototypes : int
        Number of components P.

    n_classes : int
        Number of classes K.

    n_reasonings : int, default=1
        Concepts of each class.

    negative : bool, default=True
        Whether absence may count. Without it the head is the convex RBF head.

    References
    ----------
    Saralajew et al., AAAI 2025 (extended CBC).

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import ReasoningHead
    >>> head = ReasoningHead(2, 3)
    >>> positive, negative = head.tables()
    >>> bool(torch.allclose((positive + negative).sum(0), torch.ones(3)))
    True
    >>> head(torch.zeros(4, 2))["scores"].shape
    torch.Size([4, 3])
    """

    def __init__(self, n_prototypes, n_classes, n_reasonings=1, negative=True):
        super().__init__()
        self.n_prototypes = n_prototypes
        self.n_classes = n_classes
        self.n_reasonings = n_reasonings
        self.negative = negative
        rows = 2 * n_prototypes if negative else n_prototypes
        self.logits = nn.Parameter(torch.zeros(rows, n_classes * n_reasonings))

    def half_squared_norm(self) -> Tensor:
        """Half the sum of the squared logits."""
        return 0.5 * self.logits.square().sum()

    def tables(self) -> tuple[Tensor, Tensor]:
        """Positive and negative reasoning, each (P, M)."""
        joint = functional.softmax(_precise(self.logits, self), dim=0)
        joint = joint.to(self.logits.dtype)
        positive = joint[: self.n_prototypes]
        if not self.negative:
            return positive, torch.zeros_like(positive)
        return positive, joint[self.n_prototypes :]

    def forward(self, log_activations: Tensor) -> dict[str, Tensor]:
        """Return scores (n, K), log scores and concept agreements (n, M).

        "activations" (n, P) are returned too. Without absence, where all of them are
        smaller than the smallest float, they, and with them the scores, are
        multiplied by one number: their proportions are what tells the classes apart.
        """
        positive, negative = self.tables()
        if not self.negative:
            return self._present(log_activations, positive)
        activations = log_activations.exp()
        detections, positive = _operands(activations, positive, self)
        negative = negative.to(positive)
        concepts = detections @ (positive - negative) + negative.sum(0)
        # A sum of products of probabilities; rounding may leave it below 0.
        concepts = concepts.clamp_min(0.0)
        log_concepts = concepts.clamp_min(torch.finfo(concepts.dtype).tiny).log()
        return {
            "scores": self.best(concepts),
            "log_scores": self.best(log_concepts),
            "concepts": concepts,
            "activations": activations,
        }

    def _present(self, log_activations: Tensor, positive: Tensor) -> dict[str, Tensor]:
        """Scores of presence alone, with the largest detection factored out."""
        tiny = torch.finfo(log_activations.dtype).tiny
        log_activations = log_activations.clamp_min(-1e30)
        shift = log_activations.amax(1, keepdim=True)
        lift = (0.9 * math.log(tiny) - shift).clamp_min(0.0)
        relative, positive = _operands((log_activations - shift).exp(), positive, self)
        relative = relative @ positive
        concepts = relative * (shift + lift).exp()
        return {
            "scores": self.best(concepts),
            "log_scores": self.best(relative.clamp_min(tiny).log() + shift),
            "concepts": concepts,
            "activations": (log_activations + lift).exp(),
        }

    def best(self, concepts: Tensor) -> Tensor:
        """Return each class's largest concept value, (n, M) -> (n, K)."""
        if self.n_reasonings == 1:
            return concepts
        return concepts.unflatten(1, (self.n_classes, self.n_reasonings)).amax(2)


class OriginalReasoningHead(nn.Module):
    r"""Classification by components as first published.

    :math:`p_c = \sum_k a_k (R^+_{kc} d_k + R^-_{kc} (1 - d_k)) / (\sum_k a_k
    (R^+_{kc} + R^-_{kc}) + \epsilon)` with :math:`R^+ = q_0`,
    :math:`R^- = (1 - q_0) q_1`, both q in [0, 1], and one component prior `a` for all
    classes. The division hides how much a class ignores; prefer
    :class:`ReasoningHead`.

    Parameters
    ----------
    n_prototypes : int
        Number of components P.

    n_classes : int
        Number of classes K.

    References
    ----------
    Saralajew et al., Classification-by-Components, NeurIPS 2019.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import OriginalReasoningHead
    >>> OriginalReasoningHead(2, 3)(torch.zeros(4, 2))["scores"].shape
    torch.Size([4, 3])
    """

    EPSILON = 1e-7
    n_reasonings = 1
    negative = True

    def __init__(self, n_prototypes, n_classes):
        super().__init__()
        self.n_prototypes = n_prototypes
        self.n_classes = n_classes
        self.q0 = nn.Parameter(torch.full((n_prototypes, n_classes), 0.5))
        self.q1 = nn.Parameter(torch.full((n_prototypes, n_classes), 0.5))
        self.prior_logits = nn.Parameter(torch.zeros(n_prototypes))

    @torch.no_grad()
    def constrain_(self) -> None:
        """Bring the stick-breaking shares back into [0, 1]."""
        self.q0.clamp_(0.0, 1.0)
        self.q1.clamp_(0.0, 1.0)

    def half_squared_norm(self) -> Tensor:
        """Half the sum of the squared logits of the component prior."""
        return 0.5 * self.prior_logits.square().sum()

    def raw_tables(self) -> tuple[Tensor, Tensor]:
        """Positive and negative reasoning before normalisation, each (P, K)."""
        return self.q0, (1.0 - self.q0) * self.q1

    def tables(self) -> tuple[Tensor, Tensor]:
        """Effective positive and negative reasoning, each (P, K).

        Prior and division are folded in: the extended model with these tables has
        the same agreements.
        """
        positive, negative = (_precise(t, self) for t in self.raw_tables())
        # Of mean 1, so that equal priors leave the formula without `a`.
        prior = functional.softmax(_precise(self.prior_logits, self), 0)[:, None]
        prior = self.n_prototypes * prior
        total = (prior * (positive + negative)).sum(0) + self.EPSILON
        positive, negative = prior * positive / total, prior * negative / total
        return positive.to(self.q0.dtype), negative.to(self.q0.dtype)

    def forward(self, log_activations: Tensor) -> dict[str, Tensor]:
        """Return scores (n, K), their logarithm and concept agreements."""
        positive, negative = self.tables()
        activations = log_activations.exp()
        detections, positive = _operands(activations, positive, self)
        negative = negative.to(positive)
        scores = detections @ (positive - negative) + negative.sum(0)
        scores = scores.clamp_min(0.0)
        tiny = torch.finfo(scores.dtype).tiny
        log_scores = scores.clamp_min(tiny).log()
        return {
            "scores": scores,
            "log_scores": log_scores,
            "concepts": scores,
            "activations": activations,
        }

    def best(self, concepts: Tensor) -> Tensor:
        """Return the concepts: every class has one."""
        return concepts
