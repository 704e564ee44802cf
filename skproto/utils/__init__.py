"""Discovery of estimators and the public checks of an estimator's promises."""

from skproto.utils._discovery import all_estimators

__all__ = ["all_estimators"]
