"""torch parts of the models; they know nothing of scikit-learn or skorch."""

from skproto.nn.augmentation import Augmentation
from skproto.nn.backbones import ConvEncoder, ViTEncoder
from skproto.nn.encoders import MLPEncoder, SiteEncoder, make_encoder
from skproto.nn.feature_tokens import FeatureTokens
from skproto.nn.head_solver import HeadSolution, solve_head
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
from skproto.nn.matching import (
    MatchingRule,
    greedy_match,
    match_parts,
    neighbour_table,
)
from skproto.nn.part_heads import (
    AdditiveHead,
    ClassLinearHead,
    GroupedSoftmaxHead,
    NonNegativeHead,
)
from skproto.nn.part_losses import (
    ClusterCost,
    OffClassL1,
    PrototypeOrthogonality,
    SeparationCost,
    ShallowDeepAlignment,
    SubspaceSeparation,
)
from skproto.nn.part_set_losses import (
    PartSetCluster,
    PartSetCoherence,
    PartSetOrthogonality,
    PartSetSeparation,
)
from skproto.nn.part_set_projection import PartSetSources, project_part_sets
from skproto.nn.part_sets import PartSetNetwork, slot_learning_rate
from skproto.nn.part_similarity import PartSimilarity, make_similarity
from skproto.nn.parts import PartPrototypeNetwork
from skproto.nn.pooling import FocalPooling, MaxPooling, TopKPooling
from skproto.nn.pretrained import (
    TimmBackbone,
    TransformersBackbone,
    adapt_backbone,
    from_transformers,
)
from skproto.nn.rbf import RBFNetwork
from skproto.nn.receptive import effective_boxes, energy_boxes, site_boxes
from skproto.nn.similarity import RBFKernel, squared_distances, width_rule

__all__ = [
    "AdditiveHead",
    "Augmentation",
    "CertifiedDistance",
    "ClassLinearHead",
    "ClusterCost",
    "ConvEncoder",
    "CrossEntropy",
    "DistanceMargin",
    "FeatureTokens",
    "FocalPooling",
    "GroupedSoftmaxHead",
    "HeadSolution",
    "LVQMetric",
    "LVQNetwork",
    "LinearHead",
    "MLPEncoder",
    "MarginLoss",
    "MatchingRule",
    "MaxPooling",
    "NegativeLogLikelihood",
    "NonNegativeHead",
    "OffClassL1",
    "OriginalReasoningHead",
    "PartPrototypeNetwork",
    "PartSetCluster",
    "PartSetCoherence",
    "PartSetNetwork",
    "PartSetOrthogonality",
    "PartSetSeparation",
    "PartSetSources",
    "PartSimilarity",
    "Penalty",
    "PrototypeOrthogonality",
    "RBFKernel",
    "RBFNetwork",
    "ReasoningHead",
    "RelativeDistance",
    "RobustLoss",
    "SeparationCost",
    "ShallowDeepAlignment",
    "SiteEncoder",
    "SubspaceSeparation",
    "TimmBackbone",
    "TopKPooling",
    "TransformersBackbone",
    "ViTEncoder",
    "adapt_backbone",
    "effective_boxes",
    "energy_boxes",
    "from_transformers",
    "greedy_match",
    "make_encoder",
    "make_similarity",
    "match_parts",
    "neighbour_table",
    "project_part_sets",
    "rival_scores",
    "site_boxes",
    "slot_learning_rate",
    "solve_head",
    "squared_distances",
    "width_rule",
]
