"""Acceptance figures of the prototype autoencoder, defaults but for the size.

``python benchmarks/accept_autoencoder.py`` runs the small tables, ``--images`` the
digits as images too, and ``--large mnist fashion_mnist`` the full data sets only.
"""

import argparse

import numpy as np
import torch
from _common import TABLES, Stopwatch, load_shared, verdict
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skproto.networks import PrototypeAutoencoderClassifier
from skproto.nn import Augmentation

# Prototypes, epochs, least accuracy: section 11b of the reference sheet. There digits
# are divided by 16, the other tables standardised.
SMALL = {
    "digits": (20, 40, 0.96),
    "wine": (9, 80, 0.94),
    "breast_cancer": (8, 60, 0.94),
}
N_SPLITS = 2

# The elastic deformation of the paper, its strength and its blur.
ELASTIC = Augmentation(0, rotation=0, color=0, cutout=0, elastic=20, elastic_sigma=4)
# Prototypes, epochs, least accuracy and augmentation of the full data sets.
LARGE = {
    "fashion_mnist": (30, 40, 0.900, None),
    "mnist": (15, 40, 0.990, ELASTIC),
}
MINUTES = 15

# What the code of the paper does.
AS_PUBLISHED = {
    "init": "uniform",
    "head_init": "uniform",
    "normalize_losses": False,
    "lambda_recon": 1.0,
    "schedule": "constant",
    "standardize": False,
}


def figures(model, split):
    """Accuracy, the same after projection, error, agreement, classes, both times."""
    X, X_test, y, y_test = split
    with Stopwatch() as watch:
        model.fit(X, y)
    accuracy = model.score(X_test, y_test)
    agreement = np.mean(model.prototype_sample_labels_ == model.prototype_labels_)
    n_served = len(np.unique(model.prototype_labels_))
    scaled = model._scaling.apply(X_test)
    worst = np.square(scaled - scaled.mean(axis=0)).reshape(len(X_test), -1)
    share = model.reconstruction_error(X_test).mean() / worst.sum(axis=1).mean()
    projected = model.project(X, y).score(X_test, y_test)
    spent = watch.wall, watch.processor
    return accuracy, projected, share, agreement, n_served, *spent


def report(title, rows, least, n_classes):
    """Print means over the splits beside what is asked for, if anything is."""
    accuracy, projected, share, agreement, _, wall, processor = np.mean(rows, axis=0)
    targets = (
        ("accuracy", accuracy, least, True),
        ("loss by projection", accuracy - projected, 0.01, False),
        ("error over that of the mean predictor", share, 0.5, False),
        ("prototypes that agree with their sample", agreement, 0.9, True),
        ("classes served", min(row[4] for row in rows), n_classes, True),
    )
    print(f"  {title}, {wall:.1f} s a fit, {processor:.1f} s of processor time")
    for what, value, bound, at_least in targets:
        judged = "" if least is None else verdict(value, bound, at_least=at_least)
        print(f"    {what} {value:.4f} {judged}".rstrip(), flush=True)


def small(name, images=False, **settings):
    n_prototypes, n_epochs, least = SMALL[name]
    X, y = TABLES[name](return_X_y=True)
    if name == "digits":
        X = X / 16
    rows, plain = [], []
    for seed in range(N_SPLITS):
        split = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
        linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        plain.append(linear.fit(split[0], split[2]).score(split[1], split[3]))
        if images:
            split = [part.reshape(-1, 8, 8) for part in split[:2]] + split[2:]
        model = PrototypeAutoencoderClassifier(
            n_prototypes, max_epochs=n_epochs, random_state=seed, **settings
        )
        rows.append(figures(model, split))
    how = "as images" if images else "as a table"
    published = settings == AS_PUBLISHED
    how += ", as published" if published else ", not standardised" if settings else ""
    least = None if published else least
    report(f"{name} {how}", rows, least, len(np.unique(y)))
    print(f"    logistic regression on the same splits {np.mean(plain):.3f}")


def large(name, n_epochs):
    n_prototypes, usual_epochs, least, change = LARGE[name]
    n_epochs = n_epochs or usual_epochs
    X, y, meta = load_shared(name)
    n_train = meta.get("n_train", 60_000)
    split = X[:n_train], X[n_train:], y[:n_train], y[n_train:]
    model = PrototypeAutoencoderClassifier(
        n_prototypes,
        max_epochs=n_epochs,
        batch_size=250,
        augment=change,
        random_state=0,
    )
    row = figures(model, split)
    report(f"{name}, {n_epochs} epochs", [row], least, 10)
    print(
        f"    minutes {row[5] / 60:.1f} {verdict(row[5] / 60, MINUTES, at_least=False)}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", action="store_true")
    parser.add_argument("--large", nargs="*", choices=LARGE)
    parser.add_argument("--epochs", type=int, help="of the full data sets")
    options = parser.parse_args()
    print(f"  {torch.get_num_threads()} threads")
    for name in options.large or []:
        large(name, options.epochs)
    if options.large is not None:
        return
    small("digits", standardize=False)
    for name in SMALL:
        small(name)
    small("digits", **AS_PUBLISHED)
    if options.images:
        small("digits", images=True)


if __name__ == "__main__":
    main()
