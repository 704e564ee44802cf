"""Memory of training and predicting on a memory map of 2 GB.

Images of 3x64x64 bytes in a temporary file; one epoch with a tiny encoder, samples of
weight 0 and a held-out part, then projection, refit of the head and predictions.

What counts is memory that belongs to the process alone: "Anonymous" of
``/proc/self/smaps_rollup``, read twenty times a second, its peak less what it is just
before the call (libraries and, in `predict`, the model). Pages of the map are also in
the resident set (RSS), which is shown beside it, but they are clean copies of the file
that the system drops when it needs the room.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from _common import verdict
from torch import nn

from skproto import ProtoPNetClassifier, ProtoTreeClassifier

SHAPE, N_CLASSES, BLOCK, TARGET = (3, 64, 64), 10, 2048, 1.5
ROLLUP = Path("/proc/self/smaps_rollup")


def memory():
    """Anonymous memory and resident set of this process in GB."""
    fields = dict(
        line.split(":") for line in ROLLUP.read_text().splitlines()[1:] if ":" in line
    )
    return [int(fields[key].split()[0]) / 1e6 for key in ("Anonymous", "Rss")]


class Peak:
    """Peak of the memory while the body of a ``with`` runs, beyond what was before."""

    def __enter__(self):
        self.before = self.peak = np.array(memory())
        self.start = time.perf_counter()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while not self.done.wait(0.05):
            self.peak = np.maximum(self.peak, memory())

    def __exit__(self, *error):
        self.done.set()
        self.thread.join()
        self.seconds = time.perf_counter() - self.start

    def show(self, what):
        (extra, rss), total = self.peak - self.before, self.peak
        print(
            f"  {what}: {extra:.2f} GB above {self.before[0]:.2f} GB "
            f"{verdict(extra, TARGET, at_least=False)}; resident with the map's pages "
            f"{total[1]:.2f} GB (+{rss:.2f}), {self.seconds:.0f} s",
            flush=True,
        )


def write_images(path, n_images):
    """Write images whose class is a bright stripe; return their labels."""
    rng = np.random.RandomState(0)
    y = np.arange(n_images) % N_CLASSES
    block = rng.randint(0, 200, (BLOCK, *SHAPE)).astype(np.uint8)
    with path.open("wb") as file:
        for start in range(0, n_images, BLOCK):
            part = block[: n_images - start].copy()
            rows = 6 * y[start : start + len(part)]
            for code in np.unique(rows):
                part[rows == code, 0, code : code + 6] = 255
            file.write(part.tobytes())
    return y


def tiny_encoder():
    return nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, 16, 1), nn.ReLU())


def estimators():
    torch.manual_seed(0)
    common = {
        "encoder": tiny_encoder(),
        "max_epochs": 1,
        "batch_size": 256,
        "early_stopping": True,
        "random_state": 0,
    }
    return {
        "ProtoPNet": ProtoPNetClassifier(prune_neighbors=6, **common),
        "ProtoTree": ProtoTreeClassifier(depth=5, adjust_epochs=0, **common),
    }


def measure(name, model, X, y, weight):
    with Peak() as peak:
        model.fit(X, y, sample_weight=weight)
    peak.show(f"{name}, fit")
    with Peak() as peak:
        right = (model.predict(X) == y).mean()
    peak.show(f"{name}, predict")
    print(f"    accuracy {right:.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--only", choices=list(estimators()))
    options = parser.parse_args()
    if not ROLLUP.exists():
        print("  skipped: memory is read from /proc, which is not here")
        return
    n_images = int(options.gigabytes * 2**30) // int(np.prod(SHAPE))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.bin"
        y = write_images(path, n_images)
        print(f"  {n_images} images, {path.stat().st_size / 1e9:.2f} GB on disk")
        weight = np.where(np.arange(n_images) % 97 == 0, 0.0, 1.0)
        for name, model in estimators().items():
            if options.only not in (None, name):
                continue
            X = np.memmap(path, np.uint8, "r", shape=(n_images, *SHAPE))
            measure(name, model, X, y, weight)
            del X


if __name__ == "__main__":
    main()
