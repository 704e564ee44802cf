"""Numbers that say whether "this looks like that" holds.

What is judged is the prototype, over many samples: does it point at one part of the
object (:func:`consistency_score`, :func:`purity_score`), also when the sample is
disturbed (:func:`stability_score`), does it look at the object at all
(:func:`relevance_score`), is what it shows what it computes (:func:`deletion_score`,
:func:`location_misalignment`), and how large is the explanation
(:func:`explanation_size`). :func:`prototype_report` puts them into one table, beside
the accuracy and what chance gives.
"""

from skproto.metrics._baselines import (
    bootstrap_interval,
    random_place_score,
    untrained,
)
from skproto.metrics._callback import PrototypeMetrics
from skproto.metrics._continuity import continuity_scores, equivariance_score
from skproto.metrics._contrast import activation_entropy, contrast_scores
from skproto.metrics._deletion import deletion_score, location_misalignment
from skproto.metrics._estimator_regions import regions_of
from skproto.metrics._faithfulness import (
    additivity_error,
    completeness_score,
    explanation_sensitivity,
    faithfulness_score,
    hard_fidelity,
)
from skproto.metrics._feature_regions import FeatureRegions, feature_regions
from skproto.metrics._impurity import impurity_score
from skproto.metrics._inputs import prototype_classes
from skproto.metrics._intervention import intervention_curve
from skproto.metrics._ood import class_thresholds, ood_from_scores, ood_scores
from skproto.metrics._parts import consistency_score, part_frequencies, purity_score
from skproto.metrics._regions import PrototypeRegions, prototype_regions
from skproto.metrics._relevance import overlap_scores, relevance_score
from skproto.metrics._report import PrototypeReport, prototype_report
from skproto.metrics._scorers import make_prototype_scorer
from skproto.metrics._size import (
    contribution_sizes,
    explanation_size,
    prototype_coverage,
    prototype_drift,
    prototype_uniqueness,
    redundancy_score,
    sparsity_score,
)
from skproto.metrics._stability import region_agreement, stability_score

__all__ = [
    "FeatureRegions",
    "PrototypeMetrics",
    "PrototypeRegions",
    "PrototypeReport",
    "activation_entropy",
    "additivity_error",
    "bootstrap_interval",
    "class_thresholds",
    "completeness_score",
    "consistency_score",
    "continuity_scores",
    "contrast_scores",
    "contribution_sizes",
    "deletion_score",
    "equivariance_score",
    "explanation_sensitivity",
    "explanation_size",
    "faithfulness_score",
    "feature_regions",
    "hard_fidelity",
    "impurity_score",
    "intervention_curve",
    "location_misalignment",
    "make_prototype_scorer",
    "ood_from_scores",
    "ood_scores",
    "overlap_scores",
    "part_frequencies",
    "prototype_classes",
    "prototype_coverage",
    "prototype_drift",
    "prototype_regions",
    "prototype_report",
    "prototype_uniqueness",
    "purity_score",
    "random_place_score",
    "redundancy_score",
    "region_agreement",
    "regions_of",
    "relevance_score",
    "sparsity_score",
    "stability_score",
    "untrained",
]
