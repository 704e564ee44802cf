"""How fit time grows with rows and prototypes: the exponent, 1 is linear."""

import warnings

from _common import seconds, slope, verdict
from sklearn.datasets import make_classification

from skproto import (
    CBCClassifier,
    GLVQClassifier,
    GMLVQClassifier,
    ProtoTreeClassifier,
    RBFClassifier,
    RSLVQClassifier,
)

ROWS = (4_000, 8_000, 16_000, 32_000)
PROTOTYPES = (4, 8, 16, 32)


def table(n_rows):
    """Return a table of 20 features and 3 classes."""
    return make_classification(
        n_rows, 20, n_informative=10, n_classes=3, random_state=0
    )


def shallow_models(n_per_class):
    """Return the shallow five with equal effort for every size."""
    common = {"solver": "adam", "max_epochs": 10, "random_state": 0}
    return [
        RBFClassifier(n_per_class, **common),
        CBCClassifier(n_per_class, **common),
        GLVQClassifier(n_per_class, **common),
        GMLVQClassifier(n_per_class, **common),
        RSLVQClassifier(n_per_class, **common),
    ]


def fit_time(model, X, y):
    """Best of two fits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return min(seconds(lambda: model.fit(X, y)) for _ in range(2))


def report(name, what, sizes, times):
    exponent = slope(sizes, times)
    shown = ", ".join(f"{t:.2f}" for t in times)
    print(
        f"  {name}: {what} {sizes} -> {shown} s, exponent {exponent:.2f} "
        + verdict(round(exponent, 2), 1.0, at_least=False)
    )


def main():
    tables = [table(n) for n in ROWS]
    for position in range(5):
        model = shallow_models(5)[position]
        name = type(model).__name__
        report(name, "rows", ROWS, [fit_time(model, *data) for data in tables])
        models = [shallow_models(n)[position] for n in PROTOTYPES]
        per_class = [fit_time(m, *tables[0]) for m in models]
        report(name, "prototypes per class", PROTOTYPES, per_class)
    tree = ProtoTreeClassifier(depth=5, max_epochs=3, random_state=0)
    report("ProtoTree", "rows", ROWS[:3], [fit_time(tree, *d) for d in tables[:3]])
    depths = (3, 4, 5, 6, 7)
    trees = [tree.__class__(depth=d, max_epochs=3, random_state=0) for d in depths]
    nodes = tuple(2**d - 1 for d in depths)
    report("ProtoTree", "nodes", nodes, [fit_time(t, *tables[0]) for t in trees])


if __name__ == "__main__":
    main()
