"""ProtoViT on digits: accuracy, what the push costs, self-similarity, epoch time.

``python benchmarks/accept_protovit.py`` fits three splits of the 8x8 digits with both
adjacencies; ``--speed`` times a training epoch beside the same encoder with a linear
head. Single thread.
"""

import argparse
import time

import numpy as np
import torch
from _common import compare, verdict
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from skproto import ProtoViTClassifier
from skproto.nn import ViTEncoder

ACCURACY, DROP, EPOCH = 0.94, 0.02, 1.5
SPLITS = range(3)


def digits(seed):
    X, y = load_digits(return_X_y=True)
    return train_test_split(
        X.reshape(-1, 8, 8), y, test_size=0.3, stratify=y, random_state=seed
    )


def one_fit(adjacency, seed):
    """Held-out accuracy trained, pushed and refitted; parts found; seconds."""
    X, X_test, y, y_test = digits(seed)
    model = ProtoViTClassifier(
        adjacency=adjacency,
        project_prototypes=False,
        head_solver=None,
        random_state=seed,
    )
    start = time.perf_counter()
    before = model.fit(X, y).score(X_test, y_test)
    pushed = model.project(X, y).score(X_test, y_test)
    refitted = model.refit_head(X, y).score(X_test, y_test)
    spent = time.perf_counter() - start
    model.explain(X_test[:20]).verify()
    return before, pushed, refitted, spent, model


def accept(adjacency):
    accuracies = []
    for seed in SPLITS:
        before, pushed, refitted, spent, model = one_fit(adjacency, seed)
        accuracies.append((before, pushed, refitted))
        lowest = model.self_similarity_.min()
        parts = np.bincount(model.n_parts_, minlength=4)[1:].tolist()
        print(
            f"{adjacency:>9}, split {seed}: trained {before:.3f}, pushed {pushed:.3f} "
            f"{verdict(pushed, ACCURACY, at_least=True)}, refitted {refitted:.3f}, "
            f"drop {before - pushed:+.3f} "
            f"{verdict(before - pushed, DROP, at_least=False)}, lowest self-similarity "
            f"{lowest:.4f}, prototypes with 1, 2, 3 parts {parts}, {spent:.1f} s",
            flush=True,
        )
        if adjacency == "connected":
            assert lowest > 3 - 1e-4
    mean = np.mean(accuracies, axis=0)
    print(f"{adjacency:>9}, mean: " + " -> ".join(f"{a:.3f}" for a in mean))


class LinearNet(nn.Module):
    """The same encoder with a linear head on the class token."""

    def __init__(self, shape, n_classes):
        super().__init__()
        self.encoder = ViTEncoder(shape)
        self.head = nn.Linear(self.encoder.dim, n_classes)

    def forward(self, x):
        return self.head(self.encoder(x)[1])


def epoch_times(batch_size):
    """Seconds of an epoch of the joint phase, and of the linear head."""
    X, _, y, _ = digits(0)
    n_epochs = 3
    settings = {"slot_epochs": 0, "project_prototypes": False, "head_solver": None}
    model = ProtoViTClassifier(
        max_epochs=n_epochs, batch_size=batch_size, random_state=0, **settings
    )
    model.fit(X, y)
    durations: list[float] = []
    x = torch.from_numpy(((X - X.mean()) / X.std()).astype(np.float32))[:, None]
    target = torch.from_numpy(y)
    net = LinearNet((1, 8, 8), 10)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)

    def ours():
        model.fit(X, y)
        durations.append(model.history_["dur"].median())

    def linear():
        for _ in range(n_epochs):
            for rows in torch.randperm(len(x)).split(batch_size):
                loss = nn.functional.cross_entropy(net(x[rows]), target[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    whole, theirs = compare(ours, linear, repeats=5)
    return float(np.median(durations)), theirs / n_epochs, whole / n_epochs


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speed", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.speed:
        for batch_size in (64, 128):
            ours, theirs, whole = epoch_times(batch_size)
            ratio = ours / theirs
            print(
                f"epoch, batches of {batch_size}: {ours:.3f} s, linear head "
                f"{theirs:.3f} s, ratio {ratio:.2f} "
                f"{verdict(ratio, EPOCH, at_least=False)} (whole fit by epoch "
                f"{whole:.3f} s)"
            )
        return
    for adjacency in ("connected", "chain"):
        accept(adjacency)


if __name__ == "__main__":
    main()
