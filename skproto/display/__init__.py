"""Pictures of fitted models in scikit-learn's Display convention.

A display holds what it shows as plain arrays: `from_estimator` computes and draws,
`plot` draws again, on other axes or in another way, and the axes, the figure and what
was drawn stay at hand as attributes that end in an underscore. Matplotlib is imported
when something is drawn.
"""

from skproto.display._certified import CertifiedAccuracyDisplay
from skproto.display._embedding import EmbeddingDisplay
from skproto.display._explained import ExplanationDisplay, PrototypeDisplay
from skproto.display._reasoning import ReasoningDisplay
from skproto.display._report import report
from skproto.display._training import TrainingDisplay
from skproto.display._tree import TreeDisplay

__all__ = [
    "CertifiedAccuracyDisplay",
    "EmbeddingDisplay",
    "ExplanationDisplay",
    "PrototypeDisplay",
    "ReasoningDisplay",
    "TrainingDisplay",
    "TreeDisplay",
    "report",
]
