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
    pytest.importorskip("matplotlib", reason="examples draw with matplotlib")
    pytest.importorskip("jinja2", reason="examples write HTML with Jinja2")
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), str(folder)]
    result = subprocess.run(
        command,
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONIOENCODING": "utf-8"},
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def assert_picture(path):
    from matplotlib.image import imread

    pixels = imread(path)
    assert min(pixels.shape[:2]) > 400
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
        float(found) for found in re.findall(r"^test accuracy (0\.\d+)", text, re.M)
    ]
    assert len(accuracy) == 3
    assert min(accuracy) > 0.9
    assert re.search(
        r"like the part at rows \d-\d, columns \d-\d of training image", text
    )
    removed, all_of_them = map(int, re.search(r"without (\d+) of (\d+)", text).groups())
    assert (
        f"{all_of_them - removed} prototypes, sources among the first 628: True" in text
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


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.name)
def test_examples_are_gallery_scripts(path):
    text = path.read_text(encoding="utf-8")
    assert path.name.startswith("plot_")
    assert re.match(r'"""\n\S.*\n=+\n\n', text)
    assert "\n# %%\n" in text
    assert path.name in Path(__file__).read_text(encoding="utf-8")
