"""What every test does, the examples in docstrings included."""

import sys

import pytest


@pytest.fixture(autouse=True)
def figures_are_closed():
    """Close what pyplot has opened: it warns when figures pile up."""
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")
