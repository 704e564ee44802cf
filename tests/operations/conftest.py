"""Makes the list of families in this folder importable by its tests."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path


def _load(name: str) -> None:
    path = Path(__file__).with_name(f"{name}.py")
    spec = spec_from_file_location(f"operations_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)


_load("families")
