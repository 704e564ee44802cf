"""The report in a real browser: used by hand, by keyboard, on a phone, on paper."""

import os
import shutil

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_wine
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from skproto import report
from skproto.networks import ProtoPNetClassifier
from skproto.shallow import CBCClassifier, RBFClassifier
from skproto.trees import ProtoTreeClassifier

pytest.importorskip("jinja2", reason="reports are written with Jinja2")
playwright_api = pytest.importorskip(
    "playwright.sync_api", reason="the browser is driven by playwright"
)
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no Chromium on this machine: apt-get install chromium, or set CHROMIUM",
)

EVIL = "<script>alert(1)</script>"
DESKTOP, PHONE = {"width": 1200, "height": 900}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser():
    with playwright_api.sync_playwright() as playwright:
        shown = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield shown
        shown.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Reports of small models, written when they are first asked for."""
    folder, made = tmp_path_factory.mktemp("reports"), {}

    def get(name):
        if name not in made:
            model, X, y, options = MODELS[name]()
            path = report(model, X, y, folder / f"{name}.html", **options)
            made[name] = path.as_uri()
        return made[name]

    return get


def wine(model):
    data = load_wine(as_frame=True)
    X = data.data.rename(columns={"alcohol": "<b>alcohol</b>"})
    y = np.array([EVIL, "second & last", "third"])[data.target]
    return model.fit(X[::2], y[::2]), X[1::2], y[1::2], {"random_state": 0}


def digits():
    data = load_digits()
    images = data.data.reshape(-1, 1, 8, 8)[:220].astype(np.uint8)
    model = ProtoPNetClassifier(max_epochs=2, random_state=0)
    model.fit(images[:160], data.target[:160])
    return model, images[160:], data.target[160:220], {"random_state": 0}


def texts():
    rng = np.random.RandomState(0)
    words = np.array([["plum", "ripe", "sweet"], ["storm", "rain", "cold"]])
    y = np.arange(60) % 2
    said = [" ".join(rng.choice(words[k], 9)) for k in y]
    X = [f"the {text} </script>{EVIL}" for text in said]
    model = make_pipeline(
        TfidfVectorizer(), RBFClassifier(n_prototypes_per_class=2, max_epochs=5)
    )
    return model.fit(X, y), X, y, {"source_texts": X, "random_state": 0}


MODELS = {
    "tree": lambda: wine(ProtoTreeClassifier(depth=3, max_epochs=8, random_state=0)),
    "reasoning": lambda: wine(CBCClassifier(max_epochs=8, random_state=0)),
    "digits": digits,
    "texts": texts,
}


@pytest.fixture
def opened(browser, reports):
    """Open reports; what they log or fetch fails the test."""
    contexts, complaints = [], []

    def get(name, *, size=DESKTOP, anchor="", **options):
        context = browser.new_context(viewport=size, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append("a dialog"))
        page.on("request", lambda request: note(request.url))
        page.goto(reports(name) + anchor)
        return page

    def note(url):
        if not url.startswith(("file:", "data:")):
            complaints.append(f"asks for {url}")

    yield get
    for context in contexts:
        context.close()
    assert not complaints


def texts_of(page, selector):
    return page.locator(selector).all_inner_texts()


def test_prototypes_are_sorted_and_filtered(opened):
    page = opened("tree")
    n_all = page.locator("#p-list .card").count()
    page.select_option("#p-class", label="third")
    chips = texts_of(page, "#p-list .chip")
    assert chips
    assert set(chips) == {"third"}
    assert page.inner_text("#p-status") == f"{len(chips)} of {n_all} prototypes"
    page.select_option("#p-class", label="all")
    page.select_option("#p-use", label="in use")
    assert page.locator("#p-list .card.dead").count() == 0
    page.select_option("#p-use", label="all")
    page.get_by_role("button", name="Table").click()
    for title in ("Purity", "Wins here"):
        head = page.get_by_role("columnheader", name=title)
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        at = texts_of(page, "#p-list thead th").index(f"{title} ↓")
        assert is_sorted(column(page, at), falling=True)
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        assert is_sorted(column(page, at), falling=False)


def column(page, at):
    cells = texts_of(page, f"#p-list tbody tr > :nth-child({at + 1})")
    return [float(cell.replace("%", "")) for cell in cells]


def is_sorted(values, *, falling):
    return values == sorted(values, reverse=falling)


def test_a_prototype_opens_to_its_source_and_nearest_cases(opened):
    page = opened("tree")
    opener = page.locator("#p-list .opener").first
    assert opener.get_attribute("aria-expanded") == "false"
    opener.click()
    assert opener.get_attribute("aria-expanded") == "true"
    panel = page.locator("#p-list .panel")
    assert "training row" in panel.locator(".origin").inner_text()
    assert "Show all 13 features" in panel.inner_text()
    rows = panel.locator("tbody tr").count()
    panel.get_by_role("button", name="Show all 13 features").click()
    assert panel.locator("tbody tr").count() == 13 > rows
    near = panel.locator(".near button").first
    name = near.locator("b").inner_text()
    near.click()
    assert page.locator("#c-list .panel").get_attribute("aria-label") == f"Case {name}"
    assert page.evaluate("document.activeElement.textContent").count(f"Case {name}")
    opener.click()
    assert page.locator("#p-list .panel").count() == 0


def test_cases_are_searched_filtered_and_opened(opened):
    page = opened("tree")
    names = texts_of(page, "#c-list .name")
    assert len(names) == 50
    page.locator("#c-more").click()
    assert page.locator("#c-list .case").count() == 89
    page.fill("#c-search", "101")
    page.keyboard.press("Enter")
    assert page.locator("#c-list .panel").get_attribute("aria-label") == "Case 101"
    page.fill("#c-search", "nobody")
    page.keyboard.press("Enter")
    assert page.inner_text("#c-status") == "There is no case nobody on this page."
    page.select_option("#c-right", label="wrong ones")
    marks = texts_of(page, "#c-list .mark")
    assert set(marks) <= {"✗"}
    button = page.locator(".matrix td.right button").last
    count = int(button.inner_text())
    button.click()
    assert page.locator("#c-list .case").count() == count
    assert page.input_value("#c-true") == page.input_value("#c-predicted") == "2"


def test_the_tree_is_walked(opened):
    page = opened("tree")
    page.locator("#c-list .opener").first.click()
    page.get_by_role("button", name="Follow it through the tree").click()
    name = page.input_value("#t-case")
    assert page.inner_text("#t-status") == f"Following case {name}."
    steps = 0
    while page.locator(".answer").count():
        assert page.locator("#t-walk h3").inner_text().startswith("Is it like ")
        taken = page.locator(".answer.taken")
        assert f"case {name} goes here" in taken.inner_text()
        taken.click()
        steps += 1
    assert page.locator("#t-walk h3").inner_text().startswith("Leaf ")
    assert page.locator(".chips button", has_text=name).count() >= 1
    assert page.locator(".crumbs li").count() == steps + 1
    assert page.locator(".map .own").count() > page.locator(".map circle.own").count()
    page.locator(".crumbs button").first.click()
    assert page.locator(".crumbs li").count() == 1
    page.locator("#t-clear").click()
    assert page.locator(".answer.taken").count() == 0
    page.locator(".answer").nth(1).click()
    assert "no →" in page.locator(".crumbs li").nth(1).inner_text()


def test_reasoning_is_a_table_of_presence_and_absence(opened):
    page = opened("reasoning")
    page.select_option("#r-class", label="third")
    head = page.get_by_role("columnheader", name="if present")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    shares = [float(v) for v in texts_of(page, "#r-table tbody td:last-child")]
    assert sum(shares) == pytest.approx(1, abs=0.05)
    page.locator("#c-list .opener").first.click()
    table = page.locator("#c-list table.reasoning")
    assert table.locator("thead th").all_inner_texts().count("absent") == 2
    assert table.locator("tfoot td").count() == 3


def test_everything_is_reached_by_keyboard(opened):
    page = opened("tree")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    seen, openers = set(), 0
    for _ in range(120):
        page.keyboard.press("Tab")
        focus = page.evaluate(
            """() => { const e = document.activeElement;
            const ring = (node, part) => getComputedStyle(node, part).outlineStyle;
            return [e.tagName, e.id || e.className, ring(e), ring(e, "::after")]; }"""
        )
        seen.add(focus[1])
        assert "solid" in focus[2:], focus
        openers += focus[1] == "opener"
        if focus[1] == "opener" and openers == 1:
            page.keyboard.press("Space")
            assert page.locator("#p-list .panel").count() == 1
            page.keyboard.press("Space")
        if focus[1] == "c-search":
            break
    assert {"p-class", "p-sort", "p-table", "answer", "t-case", "c-search"} <= seen
    page.keyboard.type("101")
    page.keyboard.press("Enter")
    assert page.locator("#c-list .panel").get_attribute("aria-label") == "Case 101"


@pytest.mark.parametrize("name", ["tree", "digits"])
def test_structure_for_screen_readers(name, opened):
    page = opened(name)
    open_all(page)
    found = page.evaluate(
        """() => ({
        levels: [...document.querySelectorAll("h1,h2,h3,h4,h5")].map(
            (e) => Number(e.tagName[1])),
        nameless: [...document.querySelectorAll("button,input,select,a,summary")]
            .filter((e) => !(e.innerText || e.textContent).trim()
                && !e.getAttribute("aria-label") && !(e.labels && e.labels.length))
            .map((e) => e.outerHTML),
        pictures: [...document.querySelectorAll("img")].filter(
            (e) => !e.hasAttribute("alt")).length,
        tables: [...document.querySelectorAll("table:not(.compared)")].filter(
            (e) => !e.caption).length,
        landmarks: ["header", "nav", "main", "footer"].filter(
            (tag) => !document.querySelector(tag)),
        ids: [...document.querySelectorAll("[id]")].map((e) => e.id),
        })"""
    )
    assert found["levels"][0] == 1
    assert found["levels"].count(1) == 1
    assert set(found["levels"]) <= {1, 2, 3, 4, 5}
    assert not found["nameless"]
    assert found["pictures"] == 0
    assert found["tables"] == 0
    assert not found["landmarks"]
    assert len(found["ids"]) == len(set(found["ids"]))


def open_all(page):
    page.locator("#p-list .opener").first.click()
    page.locator("#c-list .opener").first.click()
    page.evaluate(
        "document.querySelectorAll('details').forEach((d) => { d.open = 1; })"
    )


@pytest.mark.parametrize("name", sorted(MODELS))
def test_nothing_sticks_out_on_a_phone(name, opened):
    page = opened(name, size=PHONE)
    open_all(page)
    if name == "tree":
        page.locator(".answer").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


CONTRAST = """() => {
  const channels = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => { const [r, g, b] = channels(c).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (e) => { const layers = [];
    for (; e; e = e.parentElement) {
      const c = channels(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0) layers.push(c);
      if (c.length === 3 || c[3] === 1) break;
    }
    const base = layers.pop();
    while (layers.length) { const c = layers.pop();
      for (let i = 0; i < 3; i += 1) base[i] = c[3] * c[i] + (1 - c[3]) * base[i]; }
    return `rgb(${base.slice(0, 3).join(",")})`; };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || e.closest("script,style,noscript,svg,[hidden],option")) continue;
    const pair = [light(getComputedStyle(e).color), light(ground(e))].sort();
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (ratio < 4.5) poor.push([ratio, e.outerHTML.slice(0, 90)]);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(scheme, opened):
    page = opened("tree", color_scheme=scheme)
    open_all(page)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 23, 26)"}[scheme]
    assert page.evaluate(CONTRAST) == []


def test_paper(opened, tmp_path):
    page = opened("digits", color_scheme="dark")
    open_all(page)
    page.emulate_media(media="print")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(255, 255, 255)"
    assert not page.locator("nav.sections").is_visible()
    assert not page.locator("#p-tools").is_visible()
    assert page.locator("#c-list .panel").is_visible()
    paper = page.pdf(format="A4", path=tmp_path / "report.pdf")
    assert paper[:5] == b"%PDF-"
    assert len(paper) > 50_000


def test_pictures_of_images_are_drawn(opened):
    page = opened("digits")
    open_all(page)
    page.locator("#c-list .evidence .picture").first.scroll_into_view_if_needed()
    assert page.locator("#c-list .evidence .picture svg rect").count() > 0
    assert page.locator("#c-list .evidence canvas").count() > 0
    drawn = page.evaluate(
        """() => [...document.images].map((e) => e.complete && e.naturalWidth > 0)"""
    )
    assert len(drawn) > 60
    assert all(drawn)


def test_text_from_the_data_stays_text(opened):
    page = opened("reasoning")
    open_all(page)
    assert EVIL in texts_of(page, "#p-class option")
    assert page.locator(".matrix thead th").first.inner_text() == EVIL
    assert page.locator("main script").count() == 0
    assert page.locator("main b", has_text="alcohol").count() == 0
    page.locator("#c-list .panel").get_by_role("button", name="Show all").click()
    assert "<b>alcohol</b>" in page.locator("#c-list .panel").inner_text()


def test_texts_are_shown_with_their_words(opened):
    page = opened("texts", anchor="#case-7")
    panel = page.locator("#c-list .panel")
    assert panel.get_attribute("aria-label") == "Text 7"
    text = panel.locator("blockquote").inner_text()
    assert text.endswith(f"</script>{EVIL}")
    marked = set(panel.locator("mark").all_inner_texts())
    assert marked & {"storm", "rain", "cold"}
    assert "Its strongest words" in panel.inner_text()
    page.locator("#p-list .opener").first.click()
    assert "</script>" in page.locator("#p-list .panel blockquote").inner_text()
