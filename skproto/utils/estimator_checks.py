"""Checks of what every prototype classifier promises, for third parties too.

They come on top of scikit-learn's own :func:`sklearn.utils.estimator_checks.
check_estimator`: the explanation adds up to the decision, prototypes are training
rows, seeds give the same bits, files bring the same model back, certificates hold
under attack. A check raises `AssertionError` with the sentence that was promised, and
`unittest.SkipTest` where the estimator does not have what it is about.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any
from unittest import SkipTest

from skproto.utils import (
    _behaviour_checks,
    _certificate_checks,
    _evidence_checks,
    _lifecycle_checks,
    _prototype_checks,
)

__all__ = [
    "check_prototype_estimator",
    "parametrize_with_prototype_checks",
    "prototype_checks",
]

_MODULES = (
    _evidence_checks,
    _prototype_checks,
    _behaviour_checks,
    _lifecycle_checks,
    _certificate_checks,
)


def prototype_checks() -> list[Callable[[str, Any], None]]:
    """List the checks; each is called with a name and an estimator.

    Returns
    -------
    checks : list of callable
        Functions ``check_...(name, estimator)``. They never change the estimator.

    Examples
    --------
    >>> from skproto.shallow import CBCClassifier
    >>> from skproto.utils.estimator_checks import prototype_checks
    >>> check = prototype_checks()[0]
    >>> check.__name__
    'check_evidence_contract_multiclass'
    >>> check("CBCClassifier", CBCClassifier())
    """
    return [
        function
        for module in _MODULES
        for name, function in vars(module).items()
        if name.startswith("check_") and function.__module__ == module.__name__
    ]


def check_prototype_estimator(
    estimator: Any,
    *,
    expected_failed_checks: Mapping[str, str] | None = None,
    on_fail: str = "raise",
) -> list[dict[str, Any]]:
    """Check that an estimator keeps the promises of a prototype classifier.

    Training in the checks is brief where ``max_epochs="auto"``: what is promised does
    not depend on how long a model was trained.

    Parameters
    ----------
    estimator : estimator
        An unfitted prototype classifier, such as one of skproto or one derived from
        :class:`skproto.base.PrototypeClassifier`.

    expected_failed_checks : dict of str to str, default=None
        Names of checks that are known to fail, each with the reason.

    on_fail : {"raise", "warn", "ignore"}, default="raise"
        What to do about a check that fails and is not expected to.

    Returns
    -------
    results : list of dict
        For each check "check_name", "status" ("passed", "failed", "skipped" or
        "xfail"), "exception" and "reason".

    Raises
    ------
    AssertionError
        With ``on_fail="raise"``: for the first promise that is not kept.

    See Also
    --------
    sklearn.utils.estimator_checks.check_estimator : Checks of any estimator.

    Examples
    --------
    >>> from skproto.shallow import RBFClassifier
    >>> from skproto.utils.estimator_checks import check_prototype_estimator
    >>> results = check_prototype_estimator(RBFClassifier())
    >>> {result["status"] for result in results} <= {"passed", "skipped"}
    True
    """
    if on_fail not in ("raise", "warn", "ignore"):
        raise ValueError(
            f"on_fail must be 'raise', 'warn' or 'ignore'. Got {on_fail!r}."
        )
    expected = dict(expected_failed_checks or {})
    results = []
    for check in prototype_checks():
        result = _run(check, estimator, expected.get(check.__name__))
        results.append(result)
        if result["status"] != "failed" or on_fail == "ignore":
            continue
        if on_fail == "raise":
            raise result["exception"]
        text = "".join(traceback.format_exception(result["exception"]))
        warnings.warn(f"{check.__name__} failed:\n{text}", UserWarning, stacklevel=2)
    return results


def _run(check, estimator, reason: str | None) -> dict[str, Any]:
    result = {"check_name": check.__name__, "exception": None, "reason": reason}
    try:
        check(type(estimator).__name__, estimator)
    except SkipTest as error:
        return {**result, "status": "skipped", "reason": str(error)}
    except Exception as error:
        status = "failed" if reason is None else "xfail"
        return {**result, "status": status, "exception": error}
    return {**result, "status": "passed"}


def parametrize_with_prototype_checks(
    estimators: Iterable[Any],
    *,
    expected_failed_checks: Callable[[Any], Mapping[str, str]] | None = None,
) -> Any:
    """Return a pytest decorator that runs every check on every estimator.

    Parameters
    ----------
    estimators : iterable of estimator
        Unfitted prototype classifiers.

    expected_failed_checks : callable, default=None
        Takes an estimator and returns the checks that are known to fail, each with
        the reason.

    Returns
    -------
    decorator : pytest.MarkDecorator
        For a test function with the arguments `estimator` and `check`, which calls
        ``check(estimator)``.

    See Also
    --------
    sklearn.utils.estimator_checks.parametrize_with_checks : The same for
        scikit-learn's checks.

    Examples
    --------
    >>> from skproto.shallow import CBCClassifier
    >>> from skproto.utils.estimator_checks import parametrize_with_prototype_checks
    >>> @parametrize_with_prototype_checks([CBCClassifier()])
    ... def test_promises(estimator, check):
    ...     check(estimator)
    """
    pytest = import_module("pytest")
    return pytest.mark.parametrize(
        ("estimator", "check"),
        list(_parameters(pytest, estimators, expected_failed_checks)),
    )


def _parameters(pytest, estimators, expected_failed_checks) -> Iterator[Any]:
    for estimator in estimators:
        expected = expected_failed_checks(estimator) if expected_failed_checks else {}
        text = " ".join(repr(estimator).split())
        for check in prototype_checks():
            reason = expected.get(check.__name__)
            marks = [pytest.mark.xfail(reason=reason)] if reason else []
            yield pytest.param(
                estimator,
                partial(_named_check, check),
                marks=marks,
                id=f"{text}-{check.__name__}",
            )


def _named_check(check: Callable[[str, Any], None], estimator: Any) -> None:
    check(type(estimator).__name__, estimator)
