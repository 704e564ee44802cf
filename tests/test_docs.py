"""The pages of the user guide tell the truth: their examples run."""

import ast
import doctest
import importlib
import importlib.util
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from numpy.testing import assert_allclose
from sklearn.utils.estimator_checks import check_estimator

from skproto.utils import all_estimators

DOCS = Path(__file__).parents[1] / "docs"
PACKAGE = DOCS.parent / "skproto"
FAMILIES = ("rbf_cbc", "lvq", "prototree", "protopnet", "protovit", "autoencoder")
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


class ButForNumbers(doctest.OutputChecker):
    """Accepts other numbers where the text is the same: another machine rounds."""

    def check_output(self, want, got, optionflags):
        if super().check_output(want, got, optionflags):
            return True
        want, got = (re.sub(r"[-+<>]*\d[\d.]*", "#", text) for text in (want, got))
        return "#" in want and super().check_output(want, got, optionflags)


@pytest.mark.parametrize("page", sorted(p.stem for p in DOCS.glob("*.rst")))
def test_examples_of_a_page(page, own):
    text = (DOCS / f"{page}.rst").read_text(encoding="utf-8")
    names = {"NearestMeanClassifier": own.NearestMeanClassifier}
    examples = doctest.DocTestParser().get_doctest(text, names, page, page, 0)
    # The tutorial shows whole explanations as they are printed.
    checker = ButForNumbers() if page == "tutorial" else None
    runner = doctest.DocTestRunner(checker, optionflags=FLAGS)
    assert runner.run(examples).failed == 0


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


def public_names():
    """Public modules, each with the names in its `__all__`, read without an import."""
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if any(part.startswith("_") for part in parts):
            continue
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            targets = getattr(node, "targets", ())
            if [getattr(target, "id", None) for target in targets] == ["__all__"]:
                yield ".".join(parts), ast.literal_eval(node.value)


def reference():
    """Names in the API reference, and its packages."""
    text = (DOCS / "api.rst").read_text(encoding="utf-8")
    names = re.findall(r"^   (\w+)$|^\.\. py:data:: (\w+)$", text, re.M)
    packages = re.findall(r"^\.\. currentmodule:: (\S+)$", text, re.M)
    return {a or b for a, b in names}, packages, text


@pytest.mark.parametrize(("module", "names"), list(public_names()))
def test_every_public_name_is_in_the_reference(module, names):
    listed, packages, text = reference()
    packages = {package.partition(".")[2].partition(".")[0] for package in packages}
    missing = set(names) - listed
    if module == "skproto":  # packages are headings of the page
        missing -= packages | (
            {"__version__"} if "skproto.__version__" in text else set()
        )
    assert not missing


def public_objects():
    """Public classes and functions by where they are public first."""
    found = {}
    for module, names in public_names():
        for name in names:
            thing = getattr(importlib.import_module(module), name)
            if callable(thing):
                found.setdefault(id(thing), (f"{module}.{name}", thing))
    return sorted(found.values(), key=lambda pair: pair[0])


def test_every_public_class_and_function_has_an_example():
    without = [name for name, thing in public_objects() if ">>>" not in thing.__doc__]
    assert not without


@pytest.mark.parametrize("page", FAMILIES)
def test_a_page_of_a_family_says_what_when_how_and_what_not(page):
    text = (DOCS / f"{page}.rst").read_text(encoding="utf-8")
    titles = re.findall(r"^(.+)\n-{4,}$", text, re.M)
    for title in ("When to choose it", "Faults", "What it supports"):
        assert title in titles, f"{page}.rst has no section {title!r}"
    assert ".. math::" in text
    opening = text.partition("\n---")[0]
    assert ":class:" in opening, "the page opens by saying what it is about"


@pytest.mark.parametrize("drawing", ["choose_tables", "choose_images"])
def test_the_picture_that_chooses_leads_to_pages(drawing):
    root = ElementTree.parse(DOCS / "_static" / f"{drawing}.svg").getroot()
    names = {estimator for estimator, _ in all_estimators()}
    space = "{http://www.w3.org/2000/svg}"
    title = root.find(f"{space}title")
    assert root.get("aria-labelledby") == title.get("id")
    links = list(root.iter(f"{space}a"))
    assert links
    for link in links:
        assert (DOCS / link.get("href")).with_suffix(".rst").exists()
        assert link.findall(f"{space}text")[-1].text in names


def test_every_classifier_is_in_the_picture_and_in_its_words():
    drawings = "".join(
        path.read_text(encoding="utf-8") for path in DOCS.glob("_static/choose_*.svg")
    )
    words = (DOCS / "choose.rst").read_text(encoding="utf-8")
    names = [name for name, _ in all_estimators() if name.endswith("Classifier")]
    assert not [name for name in names if f">{name}<" not in drawings]
    assert not [name for name in names if f".{name}`" not in words]
