"""Prototype trees: soft decision trees whose nodes ask for a similar case."""

from skproto.trees._ensemble import ProtoTreeEnsembleClassifier
from skproto.trees._prototree import ProtoTreeClassifier

__all__ = ["ProtoTreeClassifier", "ProtoTreeEnsembleClassifier"]
