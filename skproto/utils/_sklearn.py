"""Everything skproto takes from scikit-learn that is new or not public.

One place to look when a scikit-learn release moves something.
"""

from functools import wraps

from sklearn.utils.validation import _check_sample_weight as check_sample_weight

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks

    HAS_CALLBACKS = True
except ImportError:  # scikit-learn < 1.9
    HAS_CALLBACKS = False

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in for scikit-learn < 1.9, which has no callbacks."""

    def with_callbacks(method):
        """Return `method` as it is: there are no callbacks to tear down."""

        @wraps(method)
        def plain_method(estimator, *args, **kwargs):
            return method(estimator, *args, **kwargs)

        return plain_method


__all__ = [
    "HAS_CALLBACKS",
    "CallbackSupportMixin",
    "check_sample_weight",
    "with_callbacks",
]
