"""Image models on shared data sets, beside a softmax head on the same encoder.

``python benchmarks/accept_images.py fashion`` trains on 60,000 images from scratch;
``cifar`` and ``cars`` are the other sets. Each model has the softmax head on an encoder
of its own kind beside it: the same body, batches, augmentation and epochs, to which
the first epochs of a model under a linear classifier come in addition.
The autoencoder on the large sets is measured by ``accept_autoencoder.py --large``.
"""

import argparse
import json

import numpy as np
import torch
from _common import Stopwatch, load_shared, verdict
from sklearn.model_selection import StratifiedKFold
from torch import nn

from skproto import (
    ProtoPNetClassifier,
    ProtoTreeClassifier,
    PrototypeAutoencoderClassifier,
    ProtoViTClassifier,
)
from skproto.nn import Augmentation, make_encoder
from skproto.nn.autoencoder import automatic_code_dim, make_body

# Epochs from scratch for each set.
EPOCHS = {"fashion": 12, "cifar": 30, "cars": 40}
# Accuracy to reach; elsewhere it is the softmax head less two points.
TARGETS = {("fashion", "ProtoPNet"): 0.915, ("fashion", "ProtoTree"): 0.915}
MINUTES = 15
CLASSES = {
    "ProtoPNet": ProtoPNetClassifier,
    "ProtoTree": ProtoTreeClassifier,
    "PrototypeAutoencoder": PrototypeAutoencoderClassifier,
    "ProtoViT": ProtoViTClassifier,
}
# What the models of a set, or of all sets, have of their own. A tree learns 60,000
# images by heart in ten epochs if it never sees them otherwise.
OWN = {
    "ProtoPNet": {"prune_neighbors": 6},
    ("fashion", "ProtoTree"): {
        "max_epochs": 25,
        "adjust_epochs": 3,
        "augment": Augmentation(shift=0.04, flip=True, rotation=0, color=0, cutout=0),
    },
    ("cars", "ProtoPNet"): {"prune_neighbors": 6, "n_prototypes_per_class": 6},
    ("cifar", "ProtoTree"): {
        "max_epochs": 15,
        "adjust_epochs": 3,
        "pretrain_epochs": 18,
    },
}
# Kind of the encoder of each model, which the softmax head gets too.
ENCODERS = {
    "ProtoPNet": "conv",
    "ProtoTree": "conv",
    "PrototypeAutoencoder": "strided",
    "ProtoViT": "vit",
}


def strided(shape):
    """Return the encoder of the prototype autoencoder."""
    return make_body(shape, automatic_code_dim(shape))


def make_model(kind, name, epochs, settings):
    """Return an untrained model; what is not a default is said here."""
    change = None if name == "fashion" else Augmentation(flip=True, cutout=0)
    common = {"random_state": 0, "max_epochs": epochs, "augment": change}
    own = OWN.get((name, kind), OWN.get(kind, {}))
    return CLASSES[kind](**{**common, **own, **settings})


class SoftmaxHead(nn.Module):
    """A linear classifier on the mean of the sites of an encoder."""

    def __init__(self, kind, shape, n_classes):
        super().__init__()
        self.encoder = make_encoder(strided if kind == "strided" else kind, shape)
        self.head = nn.Linear(self.encoder.dim, n_classes)

    def forward(self, x):
        return self.head(self.encoder(x).mean(dim=1))


def softmax_head(kind, parts, epochs):
    """Accuracy of a plain linear head on the same encoder and budget."""
    X, y, X_test, y_test = parts
    torch.manual_seed(0)
    X, X_test = (x if x.ndim == 4 else x[:, None] for x in (X, X_test))
    axes = (0, 2, 3)
    center, scale = (f(X, axis=axes, keepdims=True) for f in (np.mean, np.std))
    net = SoftmaxHead(kind, X.shape[1:], int(y.max()) + 1)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    change, target = Augmentation(flip=True, cutout=0), torch.from_numpy(y)

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
    return right / len(X)


def one_split(model, parts):
    """Accuracy, minutes, prototypes left, accuracy lost by projection on the tests."""
    X, y, X_test, y_test = parts
    watch, lost = Stopwatch(), np.nan
    if hasattr(model, "head_solver"):
        lost = fit_in_stages(model, parts, watch)
    elif hasattr(model, "adjust_epochs"):
        lost = grow_in_stages(model, parts, watch)
    else:
        with watch:
            model.fit(X, y)
    minutes = watch.wall / 60, watch.processor / 60
    return model.score(X_test, y_test), *minutes, len(model.prototypes_), lost


def fit_in_stages(model, parts, watch):
    """Do what `fit` does, with a look at the test images around the projection."""
    X, y, X_test, y_test = parts
    neighbors = getattr(model, "prune_neighbors", None)
    if neighbors is not None:
        model.set_params(prune_neighbors=None)
    with watch:
        model.set_params(project_prototypes=False, head_solver=None).fit(X, y)
    trained = model.score(X_test, y_test)
    with watch:
        model.project(X, y)
    projected = model.score(X_test, y_test)
    with watch:
        if neighbors is None:
            model.refit_head(X, y)
        else:
            model.prune(X, y, n_neighbors=neighbors)
    return trained - projected


def grow_in_stages(tree, parts, watch):
    """Do what `fit` of a tree does, with a look around the projection.

    The first fit also prunes and refits the leaves, so that what is lost is lost by the
    projection alone; the second goes on from there with the epochs of adjustment.
    """
    X, y, X_test, y_test = parts
    n_epochs, n_adjust = tree.max_epochs, tree.adjust_epochs
    if n_adjust == "auto":
        n_adjust = n_epochs // 4
    with watch:
        tree.set_params(project_prototypes=False, max_epochs=n_epochs - n_adjust)
        tree.fit(X, y)
    trained = tree.score(X_test, y_test)
    with watch:
        tree.project(X, y)
    projected = tree.score(X_test, y_test)
    rest = {"pretrain_epochs": 0, "warmup_epochs": 0, "warm_start": True}
    tree.set_params(project_prototypes=True, adjust_epochs=n_adjust, **rest)
    with watch:
        tree.set_params(max_epochs=n_adjust).fit(X, y)
    print(f"    trained {trained:.4f}, projected {projected:.4f}", flush=True)
    return trained - projected


def splits(name, train_rows):
    """Yield training and test data; cars has no official split."""
    data = {"fashion": "fashion_mnist", "cifar": "cifar10_small", "cars": "car_parts"}
    X, y, meta = load_shared(data[name])
    if name == "cars":
        folds = StratifiedKFold(3, shuffle=True, random_state=0)
        pairs = list(folds.split(np.zeros(len(y)), y))
    else:
        pairs = [(meta["train_index"], meta["test_index"])]
    for train, test in pairs:
        train = np.random.RandomState(0).permutation(train)[:train_rows]
        yield X[train], y[train], X[test], y[test]


def run(name, options):
    epochs, settings = options.epochs or EPOCHS[name], json.loads(options.settings)
    chosen = options.models or [
        model for model in ENCODERS if name != "fashion" or (name, model) in TARGETS
    ]
    kinds = [] if options.no_peer else sorted({ENCODERS[model] for model in chosen})
    parts = list(splits(name, options.rows))
    peers = {}
    for kind in kinds:
        peers[kind] = np.mean([softmax_head(kind, part, epochs) for part in parts])
        print(f"  {name} softmax head on {kind}: {peers[kind]:.4f}", flush=True)
    for model in chosen:
        rows = [one_split(make_model(model, name, epochs, settings), p) for p in parts]
        peer = peers.get(ENCODERS[model])
        target = None if peer is None else peer - 0.02
        report(name, model, np.mean(rows, axis=0), TARGETS.get((name, model), target))


def report(name, model, row, target):
    accuracy, minutes, processor, n_prototypes, lost = row
    reached = "" if target is None else verdict(accuracy, target, at_least=True)
    print(
        f"  {name} {model}: {accuracy:.4f} {reached}\n"
        f"    {minutes:.1f} min {verdict(minutes, MINUTES, at_least=False)}, "
        f"{processor:.1f} min of processor time, {n_prototypes:.0f} prototypes, "
        f"projection costs {100 * lost:.2f} points",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=list(EPOCHS))
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--settings", default="{}", help="parameters as JSON")
    options = parser.parse_args()
    for name in options.sets:
        run(name, options)


if __name__ == "__main__":
    main()
