"""Messages of missing optional dependencies."""

import json
import sys

import pytest

from skproto.utils._optional import import_optional


def test_returns_the_module():
    assert import_optional("json", "A test", "plot") is json


def test_returns_the_submodule_not_its_parent():
    assert import_optional("json.decoder", "A test", "plot").__name__ == "json.decoder"


def test_names_purpose_package_and_command():
    with pytest.raises(ImportError) as caught:
        import_optional("skproto_absent.part", "Explanation.plot", "plot")
    assert str(caught.value) == (
        "Explanation.plot needs skproto_absent: pip install 'skproto[plot]'"
    )
    assert caught.value.name == "skproto_absent"
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_package_blocked_in_sys_modules_counts_as_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ImportError, match=r"needs rich: pip install 'skproto\[prog"):
        import_optional("rich", "A progress bar", "progress")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write an importable package with the given text."""

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        return name

    return write


def test_a_dependency_that_the_package_misses_itself_is_not_hidden(package):
    name = package("skproto_half_installed", "import skproto_missing_part\n")
    with pytest.raises(ModuleNotFoundError, match="skproto_missing_part"):
        import_optional(name, "A test", "plot")


def test_a_package_that_fails_while_imported_keeps_its_own_error(package):
    name = package("skproto_broken", "raise RuntimeError('wrong driver')\n")
    with pytest.raises(RuntimeError, match="wrong driver"):
        import_optional(name, "A test", "plot")
