"""Save and load fitted estimators without pickle.

The file is that of `skops <https://skops.readthedocs.io>`__: a zip of arrays and JSON.
Loading runs no code but that of types known to be safe or named by the user. Of skproto
only its own types have to be trusted, and :func:`trusted_types` lists them,
also for `skops.io.load` itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from skproto import explanation
from skproto.operations import EditedEstimator
from skproto.utils import all_estimators
from skproto.utils._optional import import_optional

__all__ = ["load", "save", "trusted_types"]


def trusted_types() -> list[str]:
    """Return the types in a saved estimator that skops has to be told to trust.

    Returns
    -------
    names : list of str
        Full names, sorted: all estimators of skproto and its tables for explanations.
        Whatever else they hold is arrays, numbers and text.

    Examples
    --------
    >>> from skproto.persistence import trusted_types
    >>> "skproto.shallow._cbc.CBCClassifier" in trusted_types()
    True
    """
    classes = [cls for _, cls in all_estimators()]
    classes += [cls._engine_class for cls in classes if hasattr(cls, "_engine_class")]
    classes.append(EditedEstimator)
    classes += [getattr(explanation, name) for name in explanation.__all__]
    return sorted(f"{cls.__module__}.{cls.__qualname__}" for cls in classes)


def save(model: Any, path: str | Path) -> None:
    """Save an estimator, or a pipeline with one in it, to a file without pickle.

    Parameters
    ----------
    model : estimator
        Fitted or not.

    path : str or path
        File to write; the usual ending is ".skops".

    Raises
    ------
    ImportError
        If skops is not installed.

    TypeError
        If a parameter cannot be saved without pickle, such as an `encoder` given as an
        ``nn.Module`` or as a lambda. A class or a function that can be imported is
        saved by its name.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from skproto.persistence import load, save
    >>> from skproto.shallow import CBCClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = CBCClassifier(random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(model, Path(folder) / "iris.skops")
    ...     again = load(Path(folder) / "iris.skops")
    >>> bool((again.predict_proba(X) == model.predict_proba(X)).all())
    True
    """
    skops = _skops("save")
    _check_parameters(model)
    try:
        content = skops.dumps(model)
    except (AttributeError, RuntimeError, TypeError) as error:
        raise TypeError(
            f"{type(model).__name__} holds something that cannot be saved without "
            f"pickle: {error}"
        ) from error
    Path(path).write_bytes(content)


def load(path: str | Path, *, trusted: Iterable[str] = ()) -> Any:
    """Load an estimator that :func:`save` or skops wrote.

    Parameters
    ----------
    path : str or path
        File to read.

    trusted : iterable of str, default=()
        Full names of more types that may be built, such as a class given as
        `encoder`. Name only what you know: building a type runs its code.

    Returns
    -------
    model : estimator
        Predicts the same bits as the one that was saved.

    Raises
    ------
    ImportError
        If skops is not installed.

    TypeError
        If the file holds types that are not trusted; names them.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from skproto.persistence import load, save
    >>> from skproto.shallow import GLVQClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(GLVQClassifier(random_state=0).fit(X, y), Path(folder) / "iris.skops")
    ...     model = load(Path(folder) / "iris.skops")
    >>> bool(model.score(X, y) > 0.9)
    True
    """
    skops = _skops("load")
    content = Path(path).read_bytes()
    allowed = {*trusted_types(), *trusted}
    unknown = sorted(set(skops.get_untrusted_types(data=content)) - allowed)
    if unknown:
        raise TypeError(
            f"{path} holds types that are not known to be safe: {unknown}. If you know "
            "where the file comes from, name them in the parameter 'trusted'."
        )
    return skops.loads(content, trusted=sorted(allowed))


def _skops(function: str) -> ModuleType:
    return import_optional("skops.io", f"skproto.persistence.{function}", "persistence")


def _check_parameters(model: Any) -> None:
    """Raise for parameters that are known not to be savable."""
    for name, value in model.get_params(deep=True).items():
        is_lambda = getattr(value, "__name__", "") == "<lambda>"
        if isinstance(value, nn.Module) or is_lambda:
            kind = "a lambda" if is_lambda else "an nn.Module"
            raise TypeError(
                f"The parameter {name!r} is {kind}, which cannot be saved without "
                "pickle. Give a class, or a function that can be imported and returns "
                "the module."
            )
