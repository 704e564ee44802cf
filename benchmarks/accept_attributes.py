"""Which attribute prototypes look at, where it is known: coloured shapes.

``python benchmarks/accept_attributes.py`` fits one network to images whose class is
their hue, one to images whose class is their shape, and checks that the explainer says
so. Brightness and contrast of the images are random, so that no class can be told by
them. ``--sweep`` adds curves over the strength, ``--untrained`` the same of networks
without training. Single thread; about 5 seconds a task.
"""

import argparse
import time

import numpy as np
import torch
from _common import verdict
from torch import nn

from skproto import ProtoPNetClassifier
from skproto.attributes import PrototypeAttributeExplainer
from skproto.metrics import untrained

SIDE, N_TRAIN, N_TEST = 24, 900, 300
RATIO, FAINT, ACCURACY = 2.0, 0.03, 0.99
STRENGTHS = {
    "shape": {"amplitude": 4 / SIDE, "period": 10 / SIDE},
    "texture": {"h": 4 / 255, "template": 3, "search": 7},
}


def figure(shape, rng):
    """Pixels (H, W) of a disc, a square or a cross at a random place."""
    row, column = rng.integers(8, SIDE - 8, 2)
    down, across = np.mgrid[:SIDE, :SIDE]
    down, across = np.abs(down - row), np.abs(across - column)
    if shape == 0:
        return down**2 + across**2 <= 36
    if shape == 1:
        return np.maximum(down, across) <= 5
    return (np.maximum(down, across) <= 6) & (np.minimum(down, across) <= 1)


def colour(hue):
    """Red, green and blue of a bright colour."""
    k = (np.array([5.0, 3.0, 1.0]) + 6 * hue) % 6
    return 0.9 - 0.8 * np.clip(np.minimum(k, 4 - k), 0, 1)


def images(task, n, seed):
    """Images whose class is the hue (task H) or the shape (task S)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    other = rng.integers(0, 3, n)
    hues = 0.12 * y if task == "H" else rng.random(n)
    shapes = other if task == "H" else y
    X = np.repeat(0.3 * rng.random((n, 1, SIDE, SIDE)), 3, axis=1)
    for image, shape, hue in zip(X, shapes, hues, strict=True):
        image[:, figure(shape, rng)] = colour(hue)[:, None]
    grey = X.mean(axis=(1, 2, 3), keepdims=True)
    X = grey + rng.uniform(0.4, 1, (n, 1, 1, 1)) * (X - grey)
    X *= rng.uniform(0.6, 1, (n, 1, 1, 1))
    return np.clip(X, 0, 1).astype(np.float32), y


def encoder():
    """Three convolutions with batch normalisation: 24 x 24 pixels to 6 x 6 sites."""

    def block(before, after, pool):
        layers = [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after)]
        return [*layers, nn.ReLU(), *([nn.MaxPool2d(2)] if pool else [])]

    return nn.Sequential(*block(3, 16, True), *block(16, 32, True), *block(32, 32, 0))


def run(task, arguments):
    X, y = images(task, N_TRAIN, 0)
    X_test, y_test = images(task, N_TEST, 1)
    start = time.perf_counter()
    torch.manual_seed(0)
    model = ProtoPNetClassifier(
        2,
        encoder=encoder(),
        warm_epochs=0,
        max_epochs=12,
        lr=0.005,
        random_state=0,
    )
    model.fit(X, y)
    fitted = time.perf_counter() - start
    explainer = PrototypeAttributeExplainer(model, strengths=STRENGTHS, random_state=0)
    start = time.perf_counter()
    explainer.fit(X_test)
    explained = time.perf_counter() - start
    scale = model.net_.module_.similarity.scale
    mean = explainer.global_importance_.mean(axis=0) / scale
    scores = dict(zip(explainer.attribute_names_, mean, strict=True))
    accuracy = model.score(X_test, y_test)
    print(
        f"task {task}: fit {fitted:.1f} s, explained {explained:.1f} s, accuracy "
        f"{accuracy:.3f} {verdict(accuracy, ACCURACY, at_least=True)}"
    )
    print("  scores (cosine): " + ", ".join(f"{a} {v:.3f}" for a, v in scores.items()))
    judge(task, scores)
    shown = explainer.explain_global()
    for k in range(len(shown)):
        print(f"  prototype {shown.prototypes.ids[k]}: {shown.summary(k)}")
    train = PrototypeAttributeExplainer(model, strengths=STRENGTHS, n_resamples=0)
    agreement = shown.agreement(train.fit(X[:N_TEST]).explain_global())
    print(
        "  train against test, Spearman: "
        + ", ".join(f"{a} {v:.2f}" for a, v in agreement.items())
    )
    more(explainer, (X, y, X_test), scale, arguments)


def judge(task, scores):
    """Check what the sheet of requirements asks for."""
    first, second = ("hue", "shape") if task == "H" else ("shape", "hue")
    ratio = scores[first] / scores[second]
    print(f"  {first} / {second} {ratio:.1f} {verdict(ratio, RATIO, at_least=True)}")
    order = sorted(scores, key=scores.get, reverse=True)
    rank = order.index(first) + 1
    lowest = 2 if task == "H" else 1
    print(f"  rank of {first} {rank} {verdict(rank, lowest, at_least=False)}")
    for name in ("brightness", "texture"):
        told = verdict(scores[name], FAINT, at_least=False)
        print(f"  {name} {scores[name]:.3f} {told}")


def more(explainer, data, scale, arguments):
    """Sweep of strengths, and a network without training."""
    X, y, X_test = data
    if arguments.sweep:
        sweep = explainer.sweep(X_test[:100])
        area = np.median(sweep.area, axis=0)
        reach = np.median(sweep.amount_at_level, axis=0)
        for name, value, amount in zip(sweep.attributes, area, reach, strict=True):
            print(f"  {name}: area {value:.3f}, amount of a 10 % drop {amount:.2f}")
    if arguments.untrained:
        other = PrototypeAttributeExplainer(
            untrained(explainer.estimator, X, y), strengths=STRENGTHS, n_resamples=0
        ).fit(X_test)
        mean = explainer.explain_global(other).untrained / scale
        shown = zip(explainer.attribute_names_, mean, strict=True)
        print("  without training: " + ", ".join(f"{a} {v:.3f}" for a, v in shown))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--untrained", action="store_true")
    torch.set_num_threads(1)
    options = parser.parse_args()
    for name in ("H", "S"):
        run(name, options)
