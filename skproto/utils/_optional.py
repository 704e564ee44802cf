"""Import of optional dependencies, with the command that installs what is missing."""

from importlib import import_module
from types import ModuleType


def import_optional(module: str, purpose: str, extra: str) -> ModuleType:
    """Import a module that only an extra of skproto installs.

    Parameters
    ----------
    module : str
        Dotted name of the module, for example ``"matplotlib.pyplot"``.

    purpose : str
        What needs it, as the subject of a sentence, for example
        ``"Explanation.plot"``.

    extra : str
        Extra of skproto that installs it, for example ``"plot"``.

    Returns
    -------
    module : module
        The imported module.

    Raises
    ------
    ImportError
        If the package is not installed. A package that is installed and fails while
        it is imported raises its own error.

    Examples
    --------
    >>> from skproto.utils._optional import import_optional
    >>> import_optional("not_there.at_all", "Explanation.plot", "plot")
    Traceback (most recent call last):
    ...
    ImportError: Explanation.plot needs not_there: pip install 'skproto[plot]'
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise ImportError(
            f"{purpose} needs {package}: pip install 'skproto[{extra}]'", name=package
        ) from error
