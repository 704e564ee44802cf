"""Loss terms of learning vector quantization.

RSLVQ needs none of its own: its negative log likelihood is
:class:`~skproto.nn.NegativeLogLikelihood` of the class mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from skproto.nn.certificates import bisector_radius, hypothesis_margin, operator_norms


@dataclass(frozen=True)
class RelativeDistance:
    r"""GLVQ: :math:`\phi(\mu)` with :math:`\mu = (d^+ - d^-) / (d^+ + d^-)`.

    The squared distances are those to the nearest prototype of the sample's class and
    to the nearest one of all others; :math:`\mu < 0` if and only if the sample is
    classified right.

    Parameters
    ----------
    activation : {"sigmoid", "identity"}, default="sigmoid"
        :math:`\phi(\mu) = 1 / (1 + e^{-\beta\mu})` or :math:`\mu` itself.

    beta : float, default=10.0
        Steepness of the sigmoid: the larger, the more the samples near the decision
        border count.

    name, weight : str, float
        Name in the history, factor in the total loss.

    References
    ----------
    Sato and Yamada, Generalized Learning Vector Quantization, NIPS 1995.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import RelativeDistance
    >>> outputs = {"scores": torch.tensor([[0.5, -0.5]])}
    >>> RelativeDistance("identity")(outputs, torch.tensor([0]), module=None)
    tensor([-0.5000])
    """

    activation: str = "sigmoid"
    beta: float = 10.0
    name: str = "glvq"
    weight: float = 1.0

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the loss of each sample, (n,)."""
        mu = -outputs["scores"].gather(1, target[:, None]).squeeze(1)
        return mu if self.activation == "identity" else torch.sigmoid(self.beta * mu)


@dataclass(frozen=True)
class DistanceMargin:
    r"""Hinge on squared distances: :math:`\max(0, \beta + d^+ - d^-)`.

    Parameters
    ----------
    margin : float, default=1.0
        The lead :math:`\beta` that is asked for, a squared distance.

    name, weight : str, float
        Name in the history, factor in the total loss.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import DistanceMargin
    >>> outputs = {"class_gaps": torch.tensor([[1.0, 1.5]])}
    >>> DistanceMargin(margin=1.0)(outputs, torch.tensor([0]), module=None)
    tensor([0.5000])
    """

    margin: float = 1.0
    name: str = "margin"
    weight: float = 1.0

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the hinge of each sample, (n,)."""
        gaps = outputs["class_gaps"]
        own = gaps.gather(1, target[:, None]).squeeze(1)
        is_own = functional.one_hot(target, gaps.shape[1]).bool()
        other = gaps.masked_fill(is_own, torch.inf).amin(1)
        return functional.relu(self.margin + own - other)


@dataclass(frozen=True)
class CertifiedDistance:
    r"""Hinge on the certified radius of the true class: :math:`\max(0, \beta - \rho)`.

    The radius is negative where the true class loses.

    Parameters
    ----------
    margin : float, default=0.5
        The radius :math:`\beta` that is asked for, a length in the space of the model.

    certificate : {"bisector", "margin"}, default="bisector"
        The bisector bound, or the (smaller) hypothesis margin of the literature, see
        :mod:`skproto.nn.certificates`. The bisector bound needs one site per sample
        and a metric that all prototypes share.

    name, weight : str, float
        Name in the history, factor in the total loss.

    References
    ----------
    Saralajew, Holdijk and Villmann, Fast Adversarial Robustness Certification of
    Nearest Prototype Classifiers for Arbitrary Seminorms, NeurIPS 2020 ("margin").

    Examples
    --------
    A sample at 1 between prototypes at 0 and 4 has a radius of 1.

    >>> import torch
    >>> from skproto.nn import CertifiedDistance, LVQNetwork
    >>> network = LVQNetwork([0, 1], dim=1, n_classes=2)
    >>> _ = network.prototypes.data.copy_(torch.tensor([[0.0], [4.0]]))
    >>> outputs = network(torch.tensor([[1.0]]))
    >>> hinge = CertifiedDistance(margin=1.5)(outputs, torch.tensor([0]), network)
    >>> round(float(hinge.detach()), 4)
    0.5
    """

    margin: float = 0.5
    certificate: str = "bisector"
    name: str = "robust"
    weight: float = 1.0

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the hinge of each sample, (n,)."""
        omega = module.metric.omega()
        if self.certificate == "bisector":
            z = outputs["embedding"].squeeze(1)
            rho = bisector_radius(
                z, module.prototypes, module.labels, target, omega=omega
            )
        else:
            distances = outputs["distances"]
            lipschitz = metric_stretch(module.metric)
            rho = hypothesis_margin(
                distances, module.labels, target, lipschitz=lipschitz
            )
        return functional.relu(self.margin - rho).to(outputs["distances"].dtype)


def metric_stretch(metric) -> Tensor | float:
    """Largest factor by which the map of a metric stretches a vector (float64).

    Returns
    -------
    stretch : float or Tensor
        1.0 ("euclidean"), a scalar, or one value for each prototype, (P,).
    """
    omega = metric.omega()
    if omega is None:
        return 1.0
    return omega.double().amax() if omega.ndim == 1 else operator_norms(omega)


def negative_log_determinant(module) -> Tensor:
    r"""Return :math:`-\log\det(\Omega\Omega^T)`, a scalar.

    As a penalty it keeps the metric from collapsing onto one or two directions. With
    one matrix for each prototype it is their mean.
    """
    return -module.metric.log_determinant()
