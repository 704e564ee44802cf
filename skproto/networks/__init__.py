"""Networks of prototype parts."""

from skproto.networks._protopnet import ProtoPNetClassifier

__all__ = ["ProtoPNetClassifier"]
