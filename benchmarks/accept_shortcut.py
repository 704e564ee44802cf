"""Figures of the shortcut: a mark that gives the class away in training only.

Digits of scikit-learn on pictures of 24 x 24 pixels; in training a coloured mark in the
corner tells the class. Accuracy on clean pictures and on pictures with marks of other
classes, over several seeds: as fitted, prototypes on the mark removed, the region
forbidden, both repaired, and fitted anew without the region.
"""

import argparse
import time

import numpy as np
from _common import verdict
from sklearn.datasets import load_digits
from torch import nn

from skproto import ProtoPNetClassifier
from skproto.operations import edit

MARK = (1, 1, 7, 7)
COLORS = np.array(
    [
        *[[0.90, 0.62, 0.00], [0.34, 0.71, 0.91], [0.00, 0.62, 0.45]],
        *[[0.80, 0.47, 0.65], [0.94, 0.89, 0.26], [0.00, 0.45, 0.70]],
        *[[0.84, 0.37, 0.00], [0.50, 0.50, 0.50], [0.40, 0.20, 0.00]],
        [0.60, 0.80, 0.60],
    ],
    dtype=np.float32,
)
ROWS = ("as fitted", "remove + head", "remove + prototypes", "forbid + head")
ROWS += ("forbid + prototypes", "forbid + all", "new fit, forbidden", "no mark ever")


def pictures(classes):
    """Return pictures (n, 3, 24, 24) of digits without a mark, and their labels."""
    digits, y = load_digits(return_X_y=True)
    kept = np.isin(y, classes)
    digits, y = digits[kept].reshape(-1, 8, 8) / 16.0, y[kept]
    X = np.full((len(digits), 3, 24, 24), 0.05, dtype=np.float32)
    X[:, :, 8:, 8:] += 0.45 * np.kron(digits, np.ones((1, 2, 2)))[:, None]
    grain = np.random.RandomState(0).normal(scale=0.05, size=X.shape)
    return np.clip(X + grain.astype(np.float32), 0.0, 1.0), y


def marked(X, labels):
    """Return pictures with the mark of each label."""
    top, left, bottom, right = MARK
    X = X.copy()
    X[:, :, top:bottom, left:right] = COLORS[labels][:, :, None, None]
    return X


def local_encoder(shape):
    """Return an encoder whose sites each see their own 8 x 8 pixels."""
    return nn.Sequential(
        nn.Conv2d(shape[0], 32, 4, stride=4),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 2, stride=2),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 32, 1),
    )


def on_the_mark(model):
    """Return the ids of the prototypes whose part shares a pixel with the mark."""
    boxes, (top, left, bottom, right) = model.prototype_boxes_, MARK
    rows = (boxes[:, 0] < bottom) & (boxes[:, 2] > top)
    columns = (boxes[:, 1] < right) & (boxes[:, 3] > left)
    return model.prototype_ids_[rows & columns]


def variants(model, X, y):
    """Yield the edited models, in the order of ROWS but for first and last."""
    ids = on_the_mark(model)
    for repair in ("head", "prototypes"):
        if len(ids):
            settings = {"X": X, "y": y, "repair": repair, "allow_empty_class": True}
            yield edit(model, "remove", ids, **settings)
        else:
            yield model
    for repair in ("head", "prototypes", "all"):
        yield edit(model, "forbid", region=MARK, X=X, y=y, repair=repair)
    yield edit(model, "forbid", region=MARK, on_fit=True).fit(X, y)


def run(classes, seed, n_train, max_epochs):
    """Return accuracies (rows, 2) on clean and on wrongly marked pictures."""
    X, y = pictures(classes)
    rng = np.random.RandomState(seed)
    order = rng.permutation(len(X))
    train, test = order[:n_train], order[n_train:]
    X_marked, X_clean = marked(X[train], y[train]), X[test]
    X_wrong = marked(X_clean, rng.permutation(y[test]))
    net = ProtoPNetClassifier(
        4, encoder=local_encoder, warm_epochs=0, lr=0.005, max_epochs=max_epochs
    ).set_params(random_state=seed)
    model = net.fit(X_marked, y[train])
    models = [model, *variants(model, X_marked, y[train])]
    fresh = ProtoPNetClassifier(**net.get_params()).fit(X[train], y[train])
    share = len(on_the_mark(model)) / len(model.prototype_ids_)
    scores = [
        [m.score(X_clean, y[test]), m.score(X_wrong, y[test])] for m in (*models, fresh)
    ]
    return np.array(scores), share


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--classes", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--train", type=int, default=1000)
    options = parser.parse_args()
    start = time.process_time()
    results = [
        run(options.classes, seed, options.train, options.epochs)
        for seed in range(options.seeds)
    ]
    scores = np.array([table for table, _ in results])
    mean, spread = scores.mean(axis=0), scores.std(axis=0)
    print(f"  {options.seeds} seeds, {len(options.classes)} classes", end="")
    print(f", {np.mean([s for _, s in results]):.0%} of the prototypes on the mark")
    print(f"  {'':22}{'clean':>14}{'other marks':>16}")
    for name, m, s in zip(ROWS, mean, spread, strict=True):
        print(f"  {name:22}{m[0]:8.3f} ± {s[0]:.3f}{m[1]:10.3f} ± {s[1]:.3f}")
    for row, least in ((1, 0.1), (3, 0.1), (6, 0.2)):
        gain = mean[row, 0] - mean[0, 0]
        print(f"  {ROWS[row]}: {gain:+.3f} on clean pictures", end=" ")
        print(verdict(gain, least, at_least=True))
    print(f"  {time.process_time() - start:.0f} s of processor time")


if __name__ == "__main__":
    main()
