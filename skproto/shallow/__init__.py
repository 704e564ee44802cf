"""Shallow prototype classifiers: RBF networks, classification by components, LVQ."""

from skproto.shallow._cbc import CBCClassifier
from skproto.shallow._glvq import GLVQClassifier
from skproto.shallow._gmlvq import GMLVQClassifier
from skproto.shallow._rbf import RBFClassifier
from skproto.shallow._rslvq import RSLVQClassifier

__all__ = [
    "CBCClassifier",
    "GLVQClassifier",
    "GMLVQClassifier",
    "RBFClassifier",
    "RSLVQClassifier",
]
