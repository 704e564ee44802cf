"""Acceptance figures of the prototype tree and its ensemble, defaults only."""

import time

import numpy as np
from _common import TABLES, fold_accuracy, verdict
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier

from skproto import ProtoTreeClassifier, ProtoTreeEnsembleClassifier

SOFT = {"iris": None, "wine": 0.92, "breast_cancer": 0.91, "digits": 0.88}
N_SPLITS = 3


def split(name, seed):
    """30 % held out, stratified."""
    X, y = TABLES[name](return_X_y=True)
    return train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)


def one_split(name, seed):
    """Accuracy soft, greedy, their agreement, CART of the same depth, seconds."""
    X, X_test, y, y_test = split(name, seed)
    start = time.perf_counter()
    tree = ProtoTreeClassifier(random_state=seed).fit(X, y)
    spent = time.perf_counter() - start
    soft, greedy = (tree.predict(X_test, routing) for routing in (None, "greedy"))
    cart = DecisionTreeClassifier(max_depth=tree.depth_, random_state=seed).fit(X, y)
    return (
        np.mean(soft == y_test),
        np.mean(greedy == y_test),
        np.mean(soft == greedy),
        cart.score(X_test, y_test),
        spent,
    )


def reached(value, bound):
    """Write a figure with its target, if it has one."""
    tail = "" if bound is None else " " + verdict(value, bound, at_least=True)
    return f"{value:.3f}{tail}"


def single(name):
    rows = [one_split(name, seed) for seed in range(N_SPLITS)]
    soft, greedy, same, cart, spent = np.mean(rows, axis=0)
    folds, _ = fold_accuracy(ProtoTreeClassifier(random_state=0), name)
    print(
        f"  tree on {name}: soft {reached(soft, SOFT[name])}, greedy "
        f"{reached(greedy, 0.86 if name == 'digits' else None)}, agreement "
        f"{reached(same, 0.93)}, CART of equal depth {cart:.3f}, 5 folds {folds:.3f}, "
        f"{spent:.1f} s a fit",
        flush=True,
    )


def ensemble(name, target):
    scores, times = [], []
    for seed in range(N_SPLITS):
        X, X_test, y, y_test = split(name, seed)
        start = time.perf_counter()
        model = ProtoTreeEnsembleClassifier(random_state=seed).fit(X, y)
        times.append(time.perf_counter() - start)
        scores.append(model.score(X_test, y_test))
    print(
        f"  5 trees on {name}: {reached(np.mean(scores), target)}, "
        f"{np.mean(times):.1f} s a fit",
        flush=True,
    )


def main():
    for name in TABLES:
        single(name)
    for name, target in (("digits", 0.94), ("breast_cancer", None)):
        ensemble(name, target)


if __name__ == "__main__":
    main()
