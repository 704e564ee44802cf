"""Explanations: plain arrays with tables, text, HTML and pictures; no model inside.

:class:`Explanation` says why samples were classified as they were, and
:class:`GlobalExplanation` what a model knows. The subclasses add what a family of
estimators has to say: presence and absence of components, winner against runner-up, the
path in a tree. Every number that is shown is one that the model used;
:meth:`Explanation.verify` recomputes the decision from them. :class:`PrototypePlaces`
and :class:`SamplePlaces` say where in images, texts and rows the evidence lies.
"""

from skproto.explanation._base import Explanation
from skproto.explanation._ensemble import EnsembleExplanation
from skproto.explanation._ensemble_global import EnsembleGlobalExplanation
from skproto.explanation._global import GlobalExplanation
from skproto.explanation._html import html_page
from skproto.explanation._pair import PairExplanation, PairGlobalExplanation
from skproto.explanation._places import PrototypePlaces, SamplePlaces
from skproto.explanation._prototypes import PrototypeTable
from skproto.explanation._reasoning import (
    ReasoningExplanation,
    ReasoningGlobalExplanation,
)
from skproto.explanation._tree import TreeExplanation
from skproto.explanation._tree_global import TreeGlobalExplanation
from skproto.explanation._tree_table import TreeTable

__all__ = [
    "EnsembleExplanation",
    "EnsembleGlobalExplanation",
    "Explanation",
    "GlobalExplanation",
    "PairExplanation",
    "PairGlobalExplanation",
    "PrototypePlaces",
    "PrototypeTable",
    "ReasoningExplanation",
    "ReasoningGlobalExplanation",
    "SamplePlaces",
    "TreeExplanation",
    "TreeGlobalExplanation",
    "TreeTable",
    "html_page",
]
