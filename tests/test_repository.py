"""Promises of the repository: declared imports, one version, portable files."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

import skproto
from skproto.utils import all_estimators

ROOT = Path(__file__).resolve().parents[1]
METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = METADATA["optional-dependencies"]
DISTRIBUTIONS = packages_distributions()
GENERATED = {"_build", "generated", "auto_examples", "gen_modules", "__pycache__"}
FOLDERS = ("skproto", "tests", "examples", "docs", "benchmarks", "build_tools", ".ci")
TEXT = {".py", ".md", ".rst", ".toml", ".cfg", ".txt", ".yaml", ".cff", ".sh", ""}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def expand(requirements):
    """Distributions named by requirements, extras of skproto itself expanded."""
    names = set()
    for requirement in requirements:
        name = re.match(r"[A-Za-z0-9._-]+", requirement).group()
        if name == "skproto":
            for extra in re.search(r"\[(.*)\]", requirement).group(1).split(","):
                names |= expand(EXTRAS[extra])
        else:
            names.add(normal(name))
    return names


def python_files(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    return [file for file in files if not GENERATED & set(file.parts)]


def imported(node, lazy=False):
    """Top-level names that a syntax tree imports, and whether only on demand."""
    if isinstance(node, ast.Import):
        yield from ((alias.name.partition(".")[0], lazy) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        yield node.module.partition(".")[0], lazy
    on_demand = isinstance(node, ast.FunctionDef) or (
        isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    )
    for child in ast.iter_child_nodes(node):
        yield from imported(child, lazy or on_demand)


def optional_imports(tree):
    """Module and extra of every call of `import_optional` with literal arguments."""
    for node in ast.walk(tree):
        name = getattr(getattr(node, "func", None), "id", None)
        if name == "import_optional":
            arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
            module, _, extra = arguments
            if isinstance(module, ast.Constant) and isinstance(extra, ast.Constant):
                yield module.value.partition(".")[0], extra.value


def provided(module, allowed):
    """Whether one of the allowed distributions provides a top-level module."""
    names = {normal(name) for name in DISTRIBUTIONS.get(module, [module])}
    return bool(names & allowed) or module in sys.stdlib_module_names


REQUIRED = expand(METADATA["dependencies"])
ANY_EXTRA = REQUIRED.union(*(expand(requirements) for requirements in EXTRAS.values()))


def undeclared(folder, allowed, allowed_lazily):
    """Imports of a folder that no allowed distribution provides."""
    return {
        f"{file.relative_to(ROOT)}: {module}"
        for file in python_files(folder)
        for module, lazy in imported(ast.parse(file.read_text()))
        if not (file.parent / f"{module}.py").exists()
        and not provided(module, allowed_lazily if lazy else allowed)
    }


def test_the_package_imports_what_it_requires_and_extras_on_demand():
    allowed = REQUIRED | {"skproto"}
    assert not undeclared("skproto", allowed, allowed | expand(EXTRAS["all"]))


@pytest.mark.parametrize(
    ("folder", "extra"), [("tests", "test"), ("examples", "all"), ("benchmarks", "dev")]
)
def test_every_import_is_declared_in(folder, extra):
    # `load` is the reader that lies beside the shared data sets.
    allowed = REQUIRED | expand(EXTRAS[extra]) | {"skproto", "load"}
    assert not undeclared(folder, allowed, allowed)


def test_every_optional_import_names_the_extra_that_installs_it():
    wrong = {
        f"{file.relative_to(ROOT)}: {module} is not in [{extra}]"
        for file in python_files("skproto")
        for module, extra in optional_imports(ast.parse(file.read_text()))
        if not provided(module, expand(EXTRAS.get(extra, [])))
    }
    assert not wrong


def test_the_version_stands_in_one_place():
    number = METADATA["version"]
    assert skproto.__version__ == version("skproto") == number
    sources = [file for folder in FOLDERS for file in python_files(folder)]
    repeated = [
        file.relative_to(ROOT)
        for file in [*sources, ROOT / "setup.cfg", ROOT / "CITATION.cff"]
        if re.search(rf"version\S* *[=:] *[\"']?{re.escape(number)}", file.read_text())
    ]
    assert not repeated


def test_files_that_are_not_python_are_packaged():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][
        "setuptools"
    ]
    package = ROOT / "skproto"
    packaged = {
        file
        for pattern in setuptools["package-data"]["skproto"]
        for file in package.glob(pattern)
    }
    others = {
        file
        for file in package.rglob("*")
        if file.is_file() and file.suffix not in {".py", ".pyc"}
    }
    assert others == packaged


def pinned(file):
    lines = (ROOT / file).read_text().splitlines()
    pins = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {normal(name): number for name, number in pins}


def test_the_oldest_constraints_are_the_lower_bounds():
    optional = ("plot", "html", "progress", "persistence", "polars", "transformers")
    bounds = METADATA["dependencies"] + [one for key in optional for one in EXTRAS[key]]
    oldest = pinned("constraints-oldest.txt")
    lowest = {normal(name): low for name, low in (one.split(">=") for one in bounds)}
    del lowest["torch"]
    assert {name: oldest.get(name) for name in lowest} == lowest


def test_every_dependency_is_pinned():
    assert not ANY_EXTRA - set(pinned("constraints.txt"))
    assert (
        pinned("constraints.txt")["torch"] == pinned("constraints-oldest.txt")["torch"]
    )


def text_files():
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in TEXT and not GENERATED & set(file.parts):
                yield file
    for file in sorted(ROOT.iterdir()):
        if file.suffix in TEXT and not file.name.startswith((".git", ".coverage")):
            yield file


def test_no_file_names_a_path_of_somebodys_machine():
    folders = "home|root|Users|mnt|work|tmp"
    machine = re.compile(rf"(?<![\w.$}}/])/(?:{folders})/[\w.]")
    named = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in text_files()
        if file.is_file()
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if machine.search(line) or str(ROOT) in line
    ]
    assert not named


@pytest.mark.parametrize("page", ["README.md", "docs/api.rst"])
def test_every_estimator_is_on(page):
    text = (ROOT / page).read_text()
    assert not [name for name, _ in all_estimators() if name not in text]


def test_imports_run_one_way():
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command, "lint-imports is not installed beside this Python"
    done = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
