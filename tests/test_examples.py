"""The examples run as they stand and write what they promise."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, folder):
    """Run a script with warnings as errors; return what it prints."""
    return python(str(EXAMPLES / name), str(folder), folder=folder)


def python(*arguments, folder):
    """Run Python with warnings as errors; return what it prints."""
    pytest.importorskip("matplotlib", reason="examples draw with matplotlib")
    pytest.importorskip("jinja2", reason="examples write HTML with Jinja2")
    result = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONIOENCODING": "utf-8"},
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


# Run a script as the gallery does, then save the pictures that it has drawn.
DRAW = """
import runpy, sys
from pathlib import Path
import matplotlib.pyplot as plt
plt.rcParams["figure.max_open_warning"] = 0
script, folder = sys.argv[1:]
sys.argv = [script]
runpy.run_path(script, run_name="__main__")
for number in plt.get_fignums():
    plt.figure(number).savefig(Path(folder) / f"{number}.png", dpi=100)
"""


def drawn(name, folder):
    """Run a script with warnings as errors; return its text, check its pictures."""
    text = python("-c", DRAW, str(EXAMPLES / name), str(folder), folder=folder)
    pictures = sorted(Path(folder).glob("*.png"))
    assert pictures, "the script draws nothing"
    for picture in pictures:
        assert_picture(picture, size=150)
    return text


def assert_picture(path, size=400):
    from matplotlib.image import imread

    pixels = imread(path)
    assert min(pixels.shape[:2]) > size
    assert pixels[..., :3].std() > 0.05, "the picture is blank"


class Tags(HTMLParser):
    """Tags of a page and what they load."""

    def __init__(self, html):
        super().__init__()
        self.names, self.loaded = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.loaded += [v for k, v in attrs if k in ("src", "href", "data")]


@pytest.mark.slow
def test_quick_start(tmp_path):
    text = run("plot_quickstart.py", tmp_path)
    rows = re.findall(r"^(.*\S) +(0\.\d{3}) ± \d\.\d{3} +(0\.\d{3}) ±", text, re.M)
    accuracy = {name: (float(cancer), float(wine)) for name, cancer, wine in rows}
    assert len(accuracy) == 5
    for name in ("ProtoTreeClassifier", "CBCClassifier"):
        assert min(accuracy[name]) > 0.93
        assert accuracy[name] > accuracy["decision tree"]
    assert len(re.findall(r"^Sample \d+: (benign|malignant)", text, re.M)) == 2
    assert re.search(r"like training row \d+ \((benign|malignant)\), distance", text)
    assert "certified: no change smaller than" in text
    assert max(map(len, text.splitlines())) <= 88 + len(str(tmp_path))

    picture, page = tmp_path / "patient.png", tmp_path / "patient.html"
    assert f"picture: {picture}\npage:    {page}\n" in text
    assert_picture(picture)
    html = page.read_text(encoding="utf-8")
    tags = Tags(html)
    assert not {"script", "link", "iframe"} & set(tags.names)
    assert all(source.startswith("data:image/png;base64,") for source in tags.loaded)
    for word in ("malignant", "benign", "mean concave points", "CBCClassifier"):
        assert word in html


@pytest.mark.slow
def test_grid_search(tmp_path):
    text = run("plot_grid_search.py", tmp_path)
    held_out = re.search(r"accuracy on held-out applicants: (0\.\d+)", text)
    assert float(held_out[1]) > 0.8
    story = text[text.index("Sample ") :]
    assert ": rejected (probability" in story
    assert re.search(r"like training row \d+ \(rejected\)", story)
    assert re.search(r"history_(delayed|paid) [01] vs [01]", story)
    assert max(map(len, story.splitlines())) <= 88 + len(str(tmp_path))
    assert_picture(tmp_path / "applicant.png")


@pytest.mark.slow
def test_image_parts(tmp_path):
    text = run("plot_image_parts.py", tmp_path)
    accuracy = [
        float(found) for found in re.findall(r"^test accuracy ([01]\.\d+)", text, re.M)
    ]
    assert len(accuracy) == 3
    assert min(accuracy) > 0.9
    assert re.search(
        r"like the part at rows \d-\d, columns \d-\d of training image", text
    )
    removed, all_of_them = map(int, re.search(r"without (\d+) of (\d+)", text).groups())
    assert (
        f"{all_of_them - removed} prototypes, sources among the first 379: True" in text
    )
    for name in ("digit", "gallery", "path", "tree"):
        assert_picture(tmp_path / f"{name}.png")


@pytest.mark.slow
def test_autoencoder(tmp_path):
    text = run("plot_autoencoder.py", tmp_path)
    accuracy = [
        float(found) for found in re.findall(r"^test accuracy (0\.\d+)", text, re.M)
    ]
    assert len(accuracy) == 2
    assert min(accuracy) > 0.95
    rows = re.findall(
        r"^(on their side|negatives|noise) +(\S+) +(\S+) +(\S+)$", text, re.M
    )
    assert len(rows) == 3
    for _, distance, reconstruction, _ in rows:
        assert min(float(distance), float(reconstruction)) > 0.9
    assert "largest distance to the image behind: 0.0\n" in text
    for name in ("painted", "digit"):
        assert_picture(tmp_path / f"{name}.png")


@pytest.mark.slow
def test_encoder_of_ones_own(tmp_path):
    text = run("plot_pretrained_encoder.py", tmp_path)
    accuracy = [float(found) for found in re.findall(r"accuracy (0\.\d+)$", text, re.M)]
    assert len(accuracy) == 3
    assert min(accuracy[:2]) > 0.9
    assert "the frozen model holds the weights that were given: True\n" in text
    assert "mean 4.9, scale 6.0\n" in text
    assert_picture(tmp_path / "frozen.png")


# What a script has to say, as patterns; a group is a number, and the least it may be.
SAYS = {
    "plot_compare_similarity.py": [(r"^(?:log_l2|exp_l2|cosine) +(0\.\d+) ", 0.95)],
    "plot_lvq_relevances.py": [
        (r"^accuracy with the (?:plain|learned) distance +(0\.\d+)$", 0.93),
        (r"^  margin: +relative distance -(\d\.\d+) ", 0.0),
    ],
    "plot_metrics.py": [
        (r"^accuracy +(\d\.\d+) ", 0.95),
        (r"^ +\d  +0\.\d  +(\d\.\d+) .* <- chosen$", 0.9),
    ],
    "plot_persistence.py": [
        (r"^the probabilities are the same bits: True$", None),
        (r"^TypeError: .*Unknown", None),
    ],
    "plot_protovit.py": [
        (r"^test accuracy (0\.\d+)$", 0.9),
        (r"found here at rows", None),
    ],
    "plot_text_pipeline.py": [
        (r"^\d+ words, accuracy (\d\.\d+)$", 0.9),
        (r"^goes to: (?:billing|delivery)$", None),
    ],
    "plot_tree_paths.py": [
        (r"^accuracy (0\.\d+)$", 0.6),
        (r"^accuracy of the paths alone (0\.\d+)$", 0.55),
    ],
}
# These have tests of their own.
TOLD_ABOVE = {
    "plot_autoencoder.py",
    "plot_grid_search.py",
    "plot_image_parts.py",
    "plot_pretrained_encoder.py",
    "plot_quickstart.py",
    "plot_report.py",
}
OTHERS = sorted({path.name for path in EXAMPLES.glob("*.py")} - TOLD_ABOVE)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_runs_and_draws(name, tmp_path):
    text = drawn(name, tmp_path)
    for pattern, least in SAYS.get(name, ()):
        found = re.findall(pattern, text, re.M)
        assert found, f"{name} does not say {pattern}"
        assert least is None or min(map(float, found)) >= least, (pattern, found)


def test_there_are_twelve_examples():
    assert len(list(EXAMPLES.glob("plot_*.py"))) >= 12


@pytest.mark.slow
def test_report(tmp_path):
    text = run("plot_report.py", tmp_path)
    page = tmp_path / "report.html"
    assert f"page: {page} (" in text
    html = page.read_text(encoding="utf-8")
    tags = Tags(html)
    assert {"main", "nav", "script"} <= set(tags.names)
    assert all(link.startswith(("#", "data:")) for link in tags.loaded)
    for words in ("Tumours: benign or malignant?", "143", "worst concave points"):
        assert words in html


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.name)
def test_examples_are_gallery_scripts(path):
    text = path.read_text(encoding="utf-8")
    assert path.name.startswith("plot_")
    assert re.match(r'"""\n\S.*\n=+\n\n', text)
    assert "\n# %%\n" in text
