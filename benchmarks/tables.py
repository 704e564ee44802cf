"""Every table of the shared data sets, defaults only, 5-fold accuracy.

Prototype classifiers against scikit-learn's. Categories are one-hot encoded for all;
the peers that need it get standardised columns. Options choose sets and models:
``python benchmarks/tables.py --sets pima wine_quality --models RBF RandomForest``.
"""

import argparse
import sys
import time
import warnings

import numpy as np
import pandas as pd
from _common import SHARED, load_shared, verdict
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from skproto import (
    CBCClassifier,
    GLVQClassifier,
    GMLVQClassifier,
    ProtoTreeClassifier,
    ProtoTreeEnsembleClassifier,
    RBFClassifier,
)

OURS = {
    "CBC": CBCClassifier,
    "RBF": RBFClassifier,
    "GLVQ": GLVQClassifier,
    "GMLVQ": GMLVQClassifier,
    "ProtoTree": ProtoTreeClassifier,
    "ProtoTreeEnsemble": ProtoTreeEnsembleClassifier,
}
SCALED = {
    "SVC": SVC(),
    "LogisticRegression": LogisticRegression(max_iter=1000),
    "KNeighbors": KNeighborsClassifier(),
    "NearestCentroid": NearestCentroid(),
    "MLP": MLPClassifier(random_state=0),
}
PLAIN = {
    "DecisionTree": DecisionTreeClassifier(random_state=0),
    "RandomForest": RandomForestClassifier(random_state=0),
    "HistGradientBoosting": HistGradientBoostingClassifier(random_state=0),
}
SINGLE = ("CBC", "RBF", "GLVQ", "GMLVQ", "ProtoTree")


def encoder():
    """Return a transformer that one-hot encodes the category columns."""
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_column_transformer(
        (one_hot, make_column_selector(dtype_include="category")),
        remainder="passthrough",
        verbose_feature_names_out=False,
    )


def pipeline(name, X):
    """Return the model with what it needs before it."""
    if name in OURS:
        model = OURS[name](random_state=0)
    else:
        model = clone({**SCALED, **PLAIN}[name])
    steps = [encoder()] if isinstance(X, pd.DataFrame) else []
    if name in SCALED:
        steps.append(StandardScaler())
    return make_pipeline(*steps, model)


def equal_depth(tree, X, y, train, test):
    """Accuracy of scikit-learn's tree of the depth of a fitted prototype tree."""
    steps = [encoder()] if isinstance(X, pd.DataFrame) else []
    peer = DecisionTreeClassifier(max_depth=tree.get_depth(), random_state=0)
    peer = make_pipeline(*steps, peer)
    return peer.fit(rows(X, train), y[train]).score(rows(X, test), y[test])


def rows(X, index):
    """Rows of an array or a frame."""
    return X.iloc[index] if isinstance(X, pd.DataFrame) else X[index]


def one_fold(name, X, y, train, test):
    """Accuracy and CPU seconds of a fit; for the tree also its peer's accuracy."""
    model = pipeline(name, X)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(rows(X, train), y[train])
    spent = time.process_time() - start
    result = {"accuracy": model.score(rows(X, test), y[test]), "seconds": spent}
    if name == "ProtoTree":
        peer = equal_depth(model[-1], X, y, train, test)
        result["equal_depth"] = peer
    return result


def five_folds(name, X, y, n_jobs):
    """Mean of the results over five folds."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        splits = list(folds.split(np.zeros(len(y)), y))
    jobs = (delayed(one_fold)(name, X, y, *split) for split in splits)
    return pd.DataFrame(Parallel(n_jobs=n_jobs)(jobs)).mean()


def run_tables(sets, models, n_jobs):
    """Return a frame with a row for each set and model."""
    found = []
    for data in sets:
        X, y, _ = load_shared(data)
        for name in models:
            result = five_folds(name, X, y, n_jobs)
            found.append({"set": data, "model": name, **result})
            print(
                f"    {data:<14}{name:<21}{result['accuracy']:.3f} "
                f"{result['seconds']:8.2f} CPU s",
                flush=True,
            )
    return pd.DataFrame(found)


def report(frame):
    """Print the table of accuracies and the aims."""
    table = frame.pivot_table(index="set", columns="model", values="accuracy")
    print(table.round(3).to_string())
    print("  means: " + table.mean().sort_values(ascending=False).round(4).to_string())
    if "RandomForest" in table:
        forest = table["RandomForest"]
        singles = [name for name in SINGLE if name in table]
        best = table[singles].mean().idxmax() if singles else None
        if best:
            gap = 100 * (table[best].mean() - forest.mean())
            print(
                f"  best single prototype model {best}: {gap:+.2f} points against "
                f"RandomForest {verdict(gap, -0.5, at_least=True)}"
            )
        if "ProtoTreeEnsemble" in table:
            share = (table["ProtoTreeEnsemble"] >= forest).mean()
            print(
                f"  ensemble at least RandomForest on {share:.0%} of the sets "
                f"{verdict(share, 0.5, at_least=True)}"
            )
    if "equal_depth" in frame:
        trees = frame.dropna(subset="equal_depth")
        share = (trees["accuracy"] > trees["equal_depth"]).mean()
        print(
            f"  ProtoTree ahead of DecisionTree of equal depth on {share:.0%} of the "
            f"sets {verdict(share, 0.9, at_least=True)}"
        )


def run_synthetic(n_jobs):
    """Time and accuracy of the default shallow models on 20,000 x 50."""
    X, y = make_classification(
        20_000,
        50,
        n_informative=20,
        n_redundant=10,
        n_classes=4,
        n_clusters_per_class=2,
        random_state=0,
    )
    for name in ("CBC", "RBF", "GLVQ", "GMLVQ"):
        result = five_folds(name, X, y, n_jobs)
        reached = verdict(result["accuracy"], 0.85, at_least=True)
        print(
            f"  {name} on 20,000 x 50: {result['accuracy']:.3f} {reached}, "
            f"{result['seconds']:.1f} CPU s a fit "
            + verdict(result["seconds"], 10, at_least=False)
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*")
    parser.add_argument("--models", nargs="*", default=[*OURS, *PLAIN, *SCALED])
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if options.sets is None:
        run_synthetic(options.jobs)
        load_shared("pima")
        sys.path.insert(0, str(SHARED))
        from load import available

        options.sets = available("tabular")
    report(run_tables(options.sets, options.models, options.jobs))


if __name__ == "__main__":
    main()
