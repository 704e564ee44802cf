"""Notebook HTML: escaped, self-contained, and never an error."""

import re
import sys
from html import escape
from html.parser import HTMLParser
from importlib.util import find_spec

import numpy as np
import pytest

from skproto.explanation import html_page

EVIL = "<script>alert('x')</script>"
needs_jinja = pytest.mark.skipif(
    find_spec("jinja2") is None, reason="HTML needs Jinja2"
)


class Outline(HTMLParser):
    """Tags and text of a page; raises on tags that are not closed in order."""

    def __init__(self, html):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


@needs_jinja
def test_html_is_well_formed_and_says_what_the_text_says(local):
    outline = Outline(local._repr_html_())
    text = " ".join("".join(outline.text).split())
    assert "Sample 17: " in text
    for row in local._view(0).rows:
        assert row.case in text
        assert row.shown in text
    assert "script" not in outline.tags


@needs_jinja
def test_models_have_html(knowledge):
    outline = Outline(knowledge._repr_html_())
    text = "".join(outline.text)
    assert knowledge.estimator_name in text
    assert "training row" in text


@needs_jinja
def test_html_needs_nothing_from_elsewhere(local, knowledge):
    for html in (local._repr_html_(), knowledge._repr_html_()):
        assert not re.search(r"https?:|src=|href=|@import|url\(", html)


@needs_jinja
def test_labels_and_names_are_escaped(make):
    labels = np.array([EVIL, "B"])
    table = make.table(labels=labels, feature_names=[EVIL])
    changes = {"classes": labels, "prediction": labels, "estimator_name": EVIL}
    e = make.linear(**changes, prototypes=table, sample_index=[EVIL, EVIL])
    model = make.model(classes=labels, prototypes=table)
    for html in (e._repr_html_(), model._repr_html_(), html_page(EVIL, [e])):
        assert "<script" not in html
        assert "&lt;script&gt;" in html
        assert EVIL in "".join(Outline(html).text)


@needs_jinja
def test_many_samples_are_cut(make):
    html = make.linear()[np.zeros(9, dtype=int)]._repr_html_()
    assert html.count("<section") == 5
    assert "... and 4 more" in html
    assert "no samples" in make.linear()[:0]._repr_html_()


@needs_jinja
def test_page_is_a_document(local, knowledge):
    html = html_page("Patients", [local, knowledge])
    assert html.startswith("<!DOCTYPE html>")
    assert html.count('<div class="skproto">') == 2
    Outline(html.removeprefix("<!DOCTYPE html>"))


@needs_jinja
def test_page_has_sections_text_and_pictures(local):
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="pictures need matplotlib")
    pyplot.switch_backend("Agg")
    ax = local.plot()
    html = html_page("Patients", [EVIL, (EVIL, ax, ax.figure), local.to_frame()])
    pyplot.close("all")
    assert html.count('<img alt="" src="data:image/png;base64,') == 2
    assert f"<h2>{escape(EVIL)}</h2>" in html
    assert f"<p>{escape(EVIL)}</p>" in html
    assert 'class="dataframe"' in html
    assert "<script" not in html


@needs_jinja
def test_page_refuses_what_it_cannot_show():
    with pytest.raises(TypeError, match=r"parts must hold .* Got int\."):
        html_page("Patients", [3])


def test_without_jinja_the_text_is_shown_with_a_hint(local, knowledge, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for shown in (local, knowledge):
        html = shown._repr_html_()
        assert html.startswith("<pre>")
        assert "pip install &#x27;skproto[html]&#x27;" in html
        assert "training row" in html
    with pytest.raises(ImportError, match=r"skproto\[html\]"):
        html_page("Patients", [])


def test_without_jinja_labels_are_escaped(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    labels = np.array([EVIL, "B"])
    html = make.linear(classes=labels, prediction=labels)._repr_html_()
    assert "<script" not in html


def test_broken_explanations_are_still_displayed(local):
    local.probabilities = np.zeros((0, 0))
    html = local._repr_html_()
    assert html.startswith("<pre>")
    assert "IndexError" in html
