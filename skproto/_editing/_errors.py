"""What can go wrong with an edit."""

from __future__ import annotations

from typing import Any


class EditNotSupported(TypeError):
    """An operation means nothing for a family of estimators.

    Parameters
    ----------
    operation : str
        Name of the operation.

    family : str
        What the estimator is.

    reason : str
        Why it cannot be done, and what can be done instead.

    Examples
    --------
    >>> from skproto.operations import EditNotSupported
    >>> print(EditNotSupported("reweight", "GLVQ", "the nearest prototype decides."))
    reweight is not supported by GLVQ: the nearest prototype decides.
    """

    def __init__(self, operation: str, family: str, reason: str):
        super().__init__(operation, family, reason)
        self.operation = operation
        self.family = family
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.operation} is not supported by {self.family}: {self.reason}"


class EditRejected(ValueError):
    """A guard turned an edit down; the estimator is as it was.

    Parameters
    ----------
    message : str
        Which condition failed.

    report : EditReport
        What the edit would have done.

    Examples
    --------
    >>> from skproto.operations import EditRejected
    >>> print(EditRejected("accuracy would fall from 0.97 to 0.64.", report=None))
    accuracy would fall from 0.97 to 0.64.
    """

    def __init__(self, message: str, report: Any):
        super().__init__(message, report)
        self.message = message
        self.report = report

    def __str__(self) -> str:
        return self.message
