"""Image models on shared data sets, beside a softmax head on the same encoder.

``python benchmarks/accept_images.py fashion --models ProtoPNet ProtoTree`` trains on
60,000 images from scratch; ``mnist``, ``cifar`` and ``cars`` are the other sets.
"""

import argparse
import time

import numpy as np
import torch
from _common import load_shared, verdict
from sklearn.model_selection import StratifiedKFold
from torch import nn

from skproto import (
    ProtoPNetClassifier,
    ProtoTreeClassifier,
    PrototypeAutoencoderClassifier,
    ProtoViTClassifier,
)
from skproto.nn import Augmentation, ConvEncoder

# Epochs from scratch for each set.
EPOCHS = {"fashion": 12, "mnist": 10, "cifar": 30, "cars": 40}
# Accuracy to reach; for the last two sets it is the softmax head less two points.
TARGETS = {
    ("fashion", "ProtoPNet"): 0.915,
    ("fashion", "ProtoTree"): 0.915,
    ("fashion", "PrototypeAutoencoder"): 0.900,
    ("mnist", "PrototypeAutoencoder"): 0.990,
}
MINUTES = 15


def augmentation(name):
    """Shift everywhere; flip where left and right do not matter."""
    return Augmentation(shift=0.08, flip=name != "mnist")


def models(name, epochs):
    """Return the models that are compared."""
    change = None if name in ("fashion", "mnist") else augmentation(name)
    common = {"random_state": 0, "max_epochs": epochs, "augment": change}
    return {
        "ProtoPNet": ProtoPNetClassifier(prune_neighbors=6, **common),
        "ProtoTree": ProtoTreeClassifier(**common),
        "PrototypeAutoencoder": PrototypeAutoencoderClassifier(**common),
        "ProtoViT": ProtoViTClassifier(**common),
    }


def softmax_head(X, y, X_test, y_test, name, epochs):
    """Accuracy and seconds of a plain linear head on the same encoder and budget."""
    start = time.perf_counter()
    torch.manual_seed(0)
    X, X_test = (x if x.ndim == 4 else x[:, None] for x in (X, X_test))
    axes = (0, 2, 3)
    center, scale = (f(X, axis=axes, keepdims=True) for f in (np.mean, np.std))
    encoder = ConvEncoder(X.shape[1:])
    net = nn.Sequential(
        encoder,
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(encoder.dim, int(y.max()) + 1),
    )
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    change, target = augmentation(name), torch.from_numpy(y)

    def scaled(rows):
        return torch.from_numpy(((X[rows] - center) / scale).astype(np.float32))

    for _ in range(epochs):
        net.train()
        for rows in torch.randperm(len(X)).split(64):
            loss = nn.functional.cross_entropy(
                net(change(scaled(rows.numpy()))), target[rows]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    net.eval()
    X, right = X_test, 0
    with torch.inference_mode():
        for first in range(0, len(X), 500):
            rows = np.arange(first, min(first + 500, len(X)))
            right += int((net(scaled(rows)).argmax(1).numpy() == y_test[rows]).sum())
    return right / len(X), time.perf_counter() - start


def one_split(model, parts):
    """Accuracy, seconds, prototypes left and what projection did to the accuracy."""
    X, y, X_test, y_test = parts
    start = time.perf_counter()
    model.fit(X, y)
    spent = time.perf_counter() - start
    before, after = getattr(model, "projection_accuracy_", (np.nan, np.nan))
    return model.score(X_test, y_test), spent, len(model.prototypes_), before - after


def splits(name, train_rows):
    """Yield training and test data; cars has no official split."""
    X, y, meta = load_shared(
        {"fashion": "fashion_mnist", "cifar": "cifar10_small", "cars": "car_parts"}.get(
            name, name
        )
    )
    if name == "cars":
        folds = StratifiedKFold(3, shuffle=True, random_state=0)
        pairs = list(folds.split(np.zeros(len(y)), y))
    else:
        pairs = [(meta["train_index"], meta["test_index"])]
    for train, test in pairs:
        train = np.random.RandomState(0).permutation(train)[:train_rows]
        yield X[train], y[train], X[test], y[test]


def run(name, options):
    epochs = options.epochs or EPOCHS[name]
    compared = models(name, epochs)
    chosen = options.models or [
        m for m in compared if name not in ("fashion", "mnist") or (name, m) in TARGETS
    ]
    results = {model: [] for model in ["softmax head", *chosen]}
    for parts in splits(name, options.rows):
        if not options.no_peer:
            results["softmax head"].append(softmax_head(*parts, name, epochs))
        for model in chosen:
            results[model].append(one_split(models(name, epochs)[model], parts))
    if options.no_peer:
        del results["softmax head"]
    peer = np.mean([r[0] for r in results.get("softmax head", [])] or [np.nan])
    for model, rows in results.items():
        report(name, model, np.mean(rows, axis=0), peer)


def report(name, model, row, peer):
    accuracy, spent, *rest = row
    target = TARGETS.get((name, model))
    if target is None and model != "softmax head" and np.isfinite(peer):
        target = peer - 0.02
    tail = "" if target is None else " " + verdict(accuracy, target, at_least=True)
    more = ""
    if rest:
        more = (
            f", {rest[0]:.0f} prototypes, projection costs {100 * rest[1]:.2f} points"
        )
    minutes = verdict(spent / 60, MINUTES, at_least=False)
    print(
        f"  {name} {model}: {accuracy:.4f}{tail}, {spent / 60:.1f} min {minutes}{more}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=list(EPOCHS))
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    for name in options.sets:
        run(name, options)


if __name__ == "__main__":
    main()
