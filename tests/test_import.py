"""The cost and the completeness of ``import skproto``."""

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

import skproto

HEAVY = ("torch", "sklearn", "skorch", "numpy", "scipy", "pandas", "matplotlib")
HEAVY_EXTRAS = ("rich", "jinja2", "skops", "polars", "torchvision", "transformers")


def fresh(code):
    """Run code in a new interpreter and return what it prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_loads_nothing_heavy():
    loaded = fresh("import json, sys, skproto; print(json.dumps(list(sys.modules)))")
    assert not set(HEAVY + HEAVY_EXTRAS) & set(loaded)


def test_explanations_load_no_torch():
    code = (
        "import json, sys; from skproto import Explanation, GlobalExplanation;"
        "print(json.dumps(list(sys.modules)))"
    )
    assert not {"torch", "matplotlib", "jinja2", "pandas"} & set(fresh(code))


MODULES = sorted(skproto._SUBMODULES)


@pytest.mark.parametrize("name", ["base", *MODULES])
def test_every_module_can_be_the_first_that_is_imported(name):
    code = (
        f"import json, skproto; from skproto import {name} as module;"
        "print(json.dumps([module.__name__, getattr(module, '__all__', [])]))"
    )
    full_name, names = fresh(code)
    assert full_name == f"skproto.{name}"
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", skproto.__all__)
def test_every_public_name_resolves(name):
    value = getattr(skproto, name)
    shown = getattr(value, "__name__", value)
    expected = version("skproto") if name == "__version__" else name
    assert shown.removeprefix("skproto.") == expected


def test_dir_lists_public_names_before_they_are_loaded():
    listed = fresh("import json, skproto; print(json.dumps(dir(skproto)))")
    assert set(skproto.__all__) <= set(listed)
    assert listed == sorted(listed)


def test_a_loaded_name_is_kept():
    assert skproto.RBFClassifier is skproto.RBFClassifier
    assert vars(skproto)["RBFClassifier"] is skproto.shallow.RBFClassifier


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(
        AttributeError, match="module 'skproto' has no attribute 'KNNClassifier'"
    ):
        _ = skproto.KNNClassifier
    with pytest.raises(ImportError, match="KNNClassifier"):
        exec("from skproto import KNNClassifier")


def test_star_import_binds_every_public_name():
    code = (
        "import json; space = {}; exec('from skproto import *', space);"
        "print(json.dumps(sorted(space)))"
    )
    assert set(skproto.__all__) <= set(fresh(code))
