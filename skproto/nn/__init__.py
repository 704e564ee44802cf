"""torch parts of the models; they know nothing of scikit-learn or skorch."""

from skproto.nn.encoders import MLPEncoder, SiteEncoder, make_encoder
from skproto.nn.heads import LinearHead, OriginalReasoningHead, ReasoningHead
from skproto.nn.losses import (
    CrossEntropy,
    MarginLoss,
    NegativeLogLikelihood,
    Penalty,
    RobustLoss,
    rival_scores,
)
from skproto.nn.lvq import LVQMetric, LVQNetwork
from skproto.nn.lvq_losses import CertifiedDistance, DistanceMargin, RelativeDistance
from skproto.nn.rbf import RBFNetwork
from skproto.nn.similarity import RBFKernel, squared_distances, width_rule

__all__ = [
    "CertifiedDistance",
    "CrossEntropy",
    "DistanceMargin",
    "LVQMetric",
    "LVQNetwork",
    "LinearHead",
    "MLPEncoder",
    "MarginLoss",
    "NegativeLogLikelihood",
    "OriginalReasoningHead",
    "Penalty",
    "RBFKernel",
    "RBFNetwork",
    "ReasoningHead",
    "RelativeDistance",
    "RobustLoss",
    "SiteEncoder",
    "make_encoder",
    "rival_scores",
    "squared_distances",
    "width_rule",
]
