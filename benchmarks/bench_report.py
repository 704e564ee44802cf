"""The report page of 1,000 cases and 500 prototypes: its size, and how fast it opens.

Three models of 500 prototypes are reported on 1,000 cases each: rows of a table, images
of 8 by 8 pixels, and colour images of 96 by 96 pixels that do not compress well. The
page is then opened in headless Chromium (found on the path, or named by the variable
CHROMIUM). Targets: below 20 MB, and shown within one second.
"""

import os
import shutil
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from _common import verdict
from sklearn.datasets import load_digits

from skproto import GLVQClassifier, ProtoPNetClassifier, report

N_CASES, PER_CLASS = 1000, 50
FAST = {"n_prototypes_per_class": PER_CLASS, "max_epochs": 1, "random_state": 0}


def table():
    X, y = load_digits(return_X_y=True)
    return GLVQClassifier(**FAST).fit(X, y), X[:N_CASES], y[:N_CASES]


def small_images():
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 1, 8, 8).astype(np.uint8)
    model = ProtoPNetClassifier(pretrain_epochs=0, **FAST).fit(X, y)
    return model, X[:N_CASES], y[:N_CASES]


def photographs():
    """Colour images with blobs of many sizes and noise, as hard to store as photos."""
    rng = np.random.RandomState(0)
    y = np.arange(N_CASES) % 10
    X = np.zeros((N_CASES, 3, 96, 96))
    for size in (3, 6, 12, 24, 48):
        coarse = rng.normal(size=(N_CASES, 3, size, size)) * size**-0.5
        X += np.kron(coarse, np.ones((96 // size, 96 // size)))
    X += 0.3 * y[:, None, None, None] / 10 + 0.05 * rng.normal(size=X.shape)
    X = np.clip(127 + 90 * X, 0, 255).astype(np.uint8)
    model = ProtoPNetClassifier(pretrain_epochs=0, **FAST).fit(X, y)
    return model, X, y


def opened(path):
    """Milliseconds of processor time, until the page is shown, and to open a case."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        return None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"]
        )
        found = []
        for _ in range(3):
            page = browser.new_page()
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            page.goto(path.as_uri())
            metrics = session.send("Performance.getMetrics")["metrics"]
            busy = {one["name"]: one["value"] for one in metrics}["TaskDuration"]
            waited = page.evaluate(
                """() => { const start = performance.now();
                document.querySelector("#c-list button").click();
                document.body.offsetHeight;
                const entry = performance.getEntriesByType("navigation")[0];
                return [entry.domComplete, performance.now() - start]; }"""
            )
            found.append([1000 * busy, *waited])
            page.close()
        browser.close()
    return [median(times) for times in zip(*found, strict=True)]


def main():
    print(f"  {N_CASES} cases, {10 * PER_CLASS} prototypes")
    with TemporaryDirectory() as folder:
        for make in (table, small_images, photographs):
            model, X, y = make()
            start = time.perf_counter()
            path = report(model, X, y, Path(folder) / f"{make.__name__}.html")
            seconds = time.perf_counter() - start
            size = path.stat().st_size / 1e6
            n = len(model.prototypes_)
            print(f"  {make.__name__} ({n} prototypes): written in {seconds:.1f} s")
            print(f"    size {size:.1f} MB {verdict(size, 20, at_least=False)}")
            times = opened(path)
            if times is None:
                print("    not opened: no Chromium here")
                continue
            busy, shown, case = times
            print(f"    opening takes {busy:.0f} ms of processor time")
            print(
                f"    shown after {shown:.0f} ms {verdict(shown, 1000, at_least=False)}"
            )
            print(f"    a case opens in {case:.0f} ms")


if __name__ == "__main__":
    main()
