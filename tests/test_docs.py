"""The pages of the user guide tell the truth: their examples run."""

import doctest
import importlib.util
import re
import sys
from pathlib import Path

import pytest
from numpy.testing import assert_allclose
from sklearn.utils.estimator_checks import check_estimator

DOCS = Path(__file__).parents[1] / "docs"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.fixture
def own():
    """The module that the page on writing an estimator includes."""
    spec = importlib.util.spec_from_file_location(
        "nearest_mean", DOCS / "nearest_mean.py"
    )
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)  # for pickle
        spec.loader.exec_module(module)
        yield module


@pytest.mark.parametrize("page", sorted(p.stem for p in DOCS.glob("*.rst")))
def test_examples_of_a_page(page, own):
    names = {"NearestMeanClassifier": own.NearestMeanClassifier}
    failed, _ = doctest.testfile(
        str(DOCS / f"{page}.rst"),
        module_relative=False,
        globs=names,
        optionflags=FLAGS,
        encoding="utf-8",
    )
    assert failed == 0


def test_code_of_the_readme(capsys):
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert capsys.readouterr().out.startswith("Sample 0: 0 (probability ")
    case, model, X = names["case"], names["model"], names["X"]
    total = case.contributions.sum(axis=1) + case.bias
    assert_allclose(total, model.decision_function(X[:1]), rtol=1e-5)


def test_own_estimator(own):
    failed, attempted = doctest.testmod(own, optionflags=FLAGS)
    assert (failed, attempted > 0) == (0, True)


def test_own_estimator_is_one_of_scikit_learn(own):
    check_estimator(own.NearestMeanClassifier(max_epochs=5), on_skip=None)
