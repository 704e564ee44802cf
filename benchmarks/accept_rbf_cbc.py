"""Acceptance figures of RBF networks and classification by components."""

import time

from _common import TABLES, fold_accuracy, verdict
from sklearn.datasets import make_classification
from sklearn.model_selection import StratifiedKFold, cross_val_score

from skproto import CBCClassifier, RBFClassifier

TARGETS = {"iris": 0.93, "wine": 0.96, "breast_cancer": 0.95, "digits": 0.95}


def show(label, model, name, target):
    accuracy, fit = fold_accuracy(model, name)
    fresh, _ = fold_accuracy(model, name, seed=123)
    print(
        f"  {label} on {name}: {accuracy:.3f} "
        f"{verdict(accuracy, target, at_least=True)}, fresh folds {fresh:.3f}, "
        f"{fit:.2f} s a fold"
    )


def main():
    for name in TABLES:
        show("CBC", CBCClassifier(random_state=0), name, TARGETS[name])
    rbf = RBFClassifier(random_state=0)
    show("RBF 10 per class, L-BFGS 100", rbf, "digits", 0.955)
    robust = CBCClassifier(kernel="metric", loss="robust", margin=0.5, random_state=0)
    show("CBC robust", robust, "digits", 0.945)
    show("CBC robust", robust, "breast_cancer", 0.955)
    published = robust.__class__(**{**robust.get_params(), "certificate": "theorem"})
    show("CBC robust, published radius", published, "digits", 0.945)
    X, y = make_classification(
        20_000, 50, n_informative=20, n_redundant=10, n_classes=4, random_state=0
    )
    model = CBCClassifier(10, solver="adam", max_epochs=30, random_state=0)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    start = time.process_time()
    accuracy = cross_val_score(model, X, y, cv=folds, error_score="raise").mean()
    spent = (time.process_time() - start) / 5
    print(
        f"  CBC 10 per class, Adam 30 epochs on 20,000 x 50: {accuracy:.3f} "
        f"{verdict(accuracy, 0.84, at_least=True)}, {spent:.1f} CPU s a fold"
    )


if __name__ == "__main__":
    main()
