"""What a prototype stands for: the attribute that carries a similarity.

"This looks like that, because" of its hue, its shape, a feature or a word: an attribute
of samples is changed and the fall of their similarity to the prototypes is measured on
the model itself.
"""

from skproto.attributes._explainer import PrototypeAttributeExplainer
from skproto.attributes._explaining import explain_attributes
from skproto.attributes._global import AttributeGlobalExplanation
from skproto.attributes._image_changes import IMAGE_ATTRIBUTES
from skproto.attributes._local import AttributeExplanation
from skproto.attributes._sweep import AttributeSweep
from skproto.attributes._words import describe

__all__ = [
    "IMAGE_ATTRIBUTES",
    "AttributeExplanation",
    "AttributeGlobalExplanation",
    "AttributeSweep",
    "PrototypeAttributeExplainer",
    "describe",
    "explain_attributes",
]
