"""Notebook HTML: escaped, self-contained, and never an error."""

import re
import sys
from base64 import b64decode
from html import escape
from html.parser import HTMLParser
from importlib.util import find_spec
from io import BytesIO

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
        if tag not in {"meta", "br", "img"}:
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
def test_bars_of_a_tree_are_full_for_probability_1(make):
    shown = make.tree()[0]
    widths = re.findall(
        r'<span class="bar (?:for|against)" style="width: ([^%]+)%', shown._repr_html_()
    )
    values = [100 * abs(row.value) for row in shown._view(0, n_for=5, n_against=3).rows]
    assert max(values) < 99
    np.testing.assert_allclose(
        [float(width) for width in widths[-len(values) :]], values, atol=0.06
    )


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


# Images


def inline_pictures(html):
    return re.findall(r'src="(data:image/png;base64,[A-Za-z0-9+/=]+)"', html)


@needs_jinja
def test_images_are_inline_and_described(pictured, gallery):
    for shown in (pictured, gallery):
        html = shown._repr_html_()
        outline = Outline(html)
        pictures = inline_pictures(html)
        assert len(pictures) == html.count("src=") == outline.tags.count("img") > 3
        assert not re.search(r"https?:|href=|@import|url\(|<script", html)
        alts = re.findall(r'alt="([^"]*)"', html)
        assert len(alts) == len(pictures)
        assert sum(not alt for alt in alts) <= len(alts) // 3  # overlays alone


@needs_jinja
def test_html_of_images_says_what_the_text_says(pictured):
    text = " ".join("".join(Outline(pictured._repr_html_()).text).split())
    for row in pictured._view(0).rows:
        assert " ".join(row.case.split()) in text
        assert row.shown in text
        assert row.note in text


@needs_jinja
def test_pixels_of_html_pictures(seen):
    image = pytest.importorskip("matplotlib.image", reason="reads the PNG back")
    html = seen.parts()[0]._repr_html_()
    first = inline_pictures(html)[0].partition(",")[2]
    pixels = image.imread(BytesIO(b64decode(first)))
    expected = seen.digits().X[20, 0] / 16
    np.testing.assert_allclose(pixels, expected, atol=0.003)
    assert 'alt="Sample 20 with the place that is like image 15"' in html
    assert 'alt="Its part of training image 15, enlarged"' in html


@needs_jinja
def test_boxes_of_html_pictures(seen):
    html = seen.framed()[0]._repr_html_()
    assert '<rect x="6" y="6" width="2" height="2" stroke="#F0E442"/>' in html
    assert 'stroke-dasharray="4 3"' in html
    html = seen.sets()[0]._repr_html_()
    assert ">3</text>" in html
    assert "part 3</figcaption>" in html


@needs_jinja
def test_labels_beside_images_are_escaped(seen):
    e = seen.parts()
    names = np.array(["zero", EVIL, "two"])
    e.classes, e.sample_index = names, np.array([EVIL, '" onload="x'])
    e.prototypes.labels = e.prototypes.sample_labels = np.repeat(names, 2)
    e.prediction = names[e.scores.argmax(axis=1)]
    model = seen.gallery(e.prototypes, classes=names)
    for html in (e._repr_html_(), model._repr_html_()):
        assert "<script" not in html
        assert '" onload="' not in html
        assert EVIL in "".join(Outline(html).text)


@needs_jinja
def test_html_of_images_needs_no_matplotlib(seen, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "data:image/png" in seen.parts()._repr_html_()


@needs_jinja
def test_galleries_in_html_are_cut(seen):
    html = seen.gallery(seen.many(90))._repr_html_()
    assert len(re.findall(r"and \d+ more", html)) == 3
    many = seen.many(90)
    many.labels = np.array([f"class {k}" for k in range(90)])
    classes = np.array([f"class {k}" for k in range(90)])
    model = seen.gallery(many, classes=classes, weights=None)
    html = model._repr_html_()
    assert html.count("<h4>") == 40
    assert "and 50 more classes" in html
