"""Discovery of every public estimator of the package."""

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

# Packages of parts: what they hold is used by estimators and is none itself, although
# a skorch net derives from scikit-learn's BaseEstimator; explainers of attributes are
# made of a fitted estimator.
_PARTS = frozenset({"attributes", "nn", "operations", "perturb", "training", "utils"})


def all_estimators() -> list[tuple[str, type]]:
    """List every public estimator of skproto.

    An estimator is public when the ``__all__`` of a public module names it. Abstract
    classes, such as the template :class:`skproto.base.PrototypeClassifier`, and the
    torch and skorch parts are left out.

    Returns
    -------
    estimators : list of tuple of (str, type)
        Name and class of each estimator, sorted by name.

    See Also
    --------
    sklearn.utils.all_estimators : The same for scikit-learn.

    Examples
    --------
    >>> from skproto.utils import all_estimators
    >>> [name for name, _ in all_estimators() if name.startswith("ProtoTree")]
    ['ProtoTreeClassifier', 'ProtoTreeEnsembleClassifier']
    """
    found: dict[str, type] = {}
    for module in _public_modules("skproto"):
        for name in getattr(module, "__all__", ()):
            candidate = getattr(module, name)
            if _is_estimator(candidate):
                found[candidate.__name__] = candidate
    return sorted(found.items())


def _public_modules(package_name: str) -> Iterator[ModuleType]:
    """Import and yield the public modules below a package, at every depth."""
    package = import_module(package_name)
    for info in pkgutil.iter_modules(package.__path__):
        if info.name.startswith("_") or info.name in _PARTS:
            continue
        full_name = f"{package_name}.{info.name}"
        yield import_module(full_name)
        if info.ispkg:
            yield from _public_modules(full_name)


def _is_estimator(candidate: object) -> bool:
    """Tell whether an object is a concrete, public estimator class of skproto."""
    from sklearn.base import BaseEstimator

    return (
        inspect.isclass(candidate)
        and issubclass(candidate, BaseEstimator)
        and candidate.__module__.startswith("skproto.")
        and not inspect.isabstract(candidate)
        and not candidate.__name__.startswith("_")
    )
