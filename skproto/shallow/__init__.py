"""Shallow prototype classifiers: RBF networks, classification by components, LVQ."""

from skproto.shallow._cbc import CBCClassifier
from skproto.shallow._rbf import RBFClassifier

__all__ = ["CBCClassifier", "RBFClassifier"]
