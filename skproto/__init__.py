"""Prototype and case-based classifiers for scikit-learn.

Public names are imported when they are first used (PEP 562), so that ``import skproto``
loads neither torch nor scikit-learn.

Examples
--------
>>> import skproto
>>> "ProtoTreeClassifier" in dir(skproto)
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import skproto.attributes as attributes
    import skproto.display as display
    import skproto.explanation as explanation
    import skproto.metrics as metrics
    import skproto.networks as networks
    import skproto.nn as nn
    import skproto.operations as operations
    import skproto.persistence as persistence
    import skproto.perturb as perturb
    import skproto.robustness as robustness
    import skproto.shallow as shallow
    import skproto.training as training
    import skproto.trees as trees
    import skproto.utils as utils
    from skproto.attributes import explain_attributes
    from skproto.base import PrototypeClassifier
    from skproto.display import report
    from skproto.explanation import Explanation, GlobalExplanation
    from skproto.networks import (
        DeformableProtoPNetClassifier,
        PIPNetClassifier,
        ProtoPNetClassifier,
        ProtoPoolClassifier,
        PrototypeAutoencoder,
        PrototypeAutoencoderClassifier,
        ProtoViTClassifier,
        TesNetClassifier,
    )
    from skproto.operations import (
        EditedEstimator,
        EditNotSupported,
        EditRejected,
        EditReport,
    )
    from skproto.shallow import (
        CBCClassifier,
        GLVQClassifier,
        GMLVQClassifier,
        RBFClassifier,
        RSLVQClassifier,
    )
    from skproto.trees import ProtoTreeClassifier, ProtoTreeEnsembleClassifier

    __version__: str

__all__ = [
    "CBCClassifier",
    "DeformableProtoPNetClassifier",
    "EditNotSupported",
    "EditRejected",
    "EditReport",
    "EditedEstimator",
    "Explanation",
    "GLVQClassifier",
    "GMLVQClassifier",
    "GlobalExplanation",
    "PIPNetClassifier",
    "ProtoPNetClassifier",
    "ProtoPoolClassifier",
    "ProtoTreeClassifier",
    "ProtoTreeEnsembleClassifier",
    "ProtoViTClassifier",
    "PrototypeAutoencoder",
    "PrototypeAutoencoderClassifier",
    "PrototypeClassifier",
    "RBFClassifier",
    "RSLVQClassifier",
    "TesNetClassifier",
    "__version__",
    "attributes",
    "display",
    "explain_attributes",
    "explanation",
    "metrics",
    "networks",
    "nn",
    "operations",
    "persistence",
    "perturb",
    "report",
    "robustness",
    "shallow",
    "training",
    "trees",
    "utils",
]

_SUBMODULES = frozenset(
    {
        "attributes",
        "display",
        "explanation",
        "metrics",
        "networks",
        "nn",
        "operations",
        "persistence",
        "perturb",
        "robustness",
        "shallow",
        "training",
        "trees",
        "utils",
    }
)

# Where each public class is defined.
_HOMES = {
    "CBCClassifier": "shallow",
    "DeformableProtoPNetClassifier": "networks",
    "EditNotSupported": "operations",
    "EditRejected": "operations",
    "EditReport": "operations",
    "EditedEstimator": "operations",
    "Explanation": "explanation",
    "GLVQClassifier": "shallow",
    "GMLVQClassifier": "shallow",
    "GlobalExplanation": "explanation",
    "PIPNetClassifier": "networks",
    "ProtoPNetClassifier": "networks",
    "ProtoPoolClassifier": "networks",
    "ProtoTreeClassifier": "trees",
    "ProtoTreeEnsembleClassifier": "trees",
    "ProtoViTClassifier": "networks",
    "PrototypeAutoencoder": "networks",
    "PrototypeAutoencoderClassifier": "networks",
    "PrototypeClassifier": "base",
    "RBFClassifier": "shallow",
    "RSLVQClassifier": "shallow",
    "TesNetClassifier": "networks",
    "explain_attributes": "attributes",
    "report": "display",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use and keep it."""
    if name in _SUBMODULES:
        value: Any = import_module(f"{__name__}.{name}")
    elif name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name == "__version__":
        value = import_module("importlib.metadata").version(__name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
