"""Acceptance figures of ProtoPool and PIP-Net on digits 8x8, defaults only."""

import time

import numpy as np
from _common import verdict
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skproto import PIPNetClassifier, ProtoPoolClassifier

N_SPLITS = 3


def split(seed):
    """30 % held out, stratified."""
    X, y = load_digits(return_X_y=True)
    images = X.reshape(-1, 8, 8)
    return train_test_split(images, y, test_size=0.3, stratify=y, random_state=seed)


def fitted(cls, seed):
    """Fit a model; return it, its held-out images and labels, and the seconds."""
    X, X_test, y, y_test = split(seed)
    start = time.perf_counter()
    model = cls(random_state=seed).fit(X, y)
    return model, X_test, y_test, time.perf_counter() - start


def pool(seed):
    """Accuracy, change by projection on training data, size and sharing, seconds."""
    model, X, y, spent = fitted(ProtoPoolClassifier, seed)
    before, after = model.projection_accuracy_
    owners = model.prototype_owners_.sum(axis=1)
    size, shared = len(model.prototypes_), np.mean(owners > 1)
    return model.score(X, y), before - after, size, shared, spent


def pip(seed):
    """Accuracy, prototypes, those of a class and of an explanation, abstentions."""
    model, X, y, spent = fitted(PIPNetClassifier, seed)
    noise = np.random.RandomState(seed).uniform(0, 16, size=X.shape)
    found = (model.explain(X).class_contributions > 0).any(axis=2).sum(axis=1)
    return (
        model.score(X, y),
        len(model.prototypes_),
        (model.class_weights_ > 0).sum(axis=0).mean(),
        found.mean(),
        model.abstains(X).mean(),
        model.abstains(noise).mean(),
        spent,
    )


def main():
    rows = np.array([pool(seed) for seed in range(N_SPLITS)])
    score, drop, size, shared, spent = rows.mean(axis=0)
    print(
        f"  ProtoPool: {score:.3f} {verdict(score, 0.95, at_least=True)}, drop by "
        f"projection on the training data {drop:.3f} "
        f"{verdict(drop, 0.01, at_least=False)}, {size:.1f} prototypes for 10 classes, "
        f"{shared:.0%} of them shared, {spent:.0f} s a fit",
        flush=True,
    )
    rows = np.array([pip(seed) for seed in range(N_SPLITS)])
    score, size, own, found, abstained, noise, spent = rows.mean(axis=0)
    print(
        f"  PIP-Net: {score:.3f} {verdict(score, 0.95, at_least=True)} (lowest "
        f"{rows[:, 0].min():.3f}), {size:.1f} prototypes, {own:.1f} with weight for a "
        f"class, {found:.1f} found in an image, abstains on {abstained:.1%} of "
        f"held-out images and {noise:.1%} of uniform noise, {spent:.0f} s a fit",
        flush=True,
    )


if __name__ == "__main__":
    main()
