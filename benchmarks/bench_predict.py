"""Prediction: time against a bare matrix product, and memory at a million rows."""

import resource
import subprocess
import sys

import numpy as np
import torch
from _common import compare, verdict
from sklearn.datasets import make_classification

from skproto import CBCClassifier, GLVQClassifier, ProtoTreeClassifier, RBFClassifier


def fitted(model, n_rows=3000, n_features=50):
    """Fit on few rows of the benchmark's table."""
    X, y = make_classification(
        n_rows, n_features, n_informative=20, n_classes=3, random_state=0
    )
    return model.fit(X, y)


def bare(x, P, sigma, weights):
    """Distances by a product, kernel and class sums in float32, block by block.

    The input is a float32 tensor already, which neither scales nor checks it.
    """
    with torch.inference_mode():
        for rows in x.split(8192):
            norms = rows.square().sum(1, keepdim=True) + P.square().sum(1)
            squared = (norms - 2 * rows @ P.T).clamp_min(0)
            ((-squared / sigma).exp() @ weights).argmax(1)


def times():
    rng = np.random.RandomState(0)
    X = rng.randn(100_000, 50)
    x = torch.from_numpy(X.astype(np.float32))
    P, sigma = torch.randn(30, 50), torch.full((30,), 50.0)
    weights = torch.randn(30, 3)
    for model in (
        CBCClassifier(10, max_epochs=3),
        RBFClassifier(10, max_epochs=3),
        GLVQClassifier(10, max_epochs=3),
        ProtoTreeClassifier(depth=5, max_epochs=2),
    ):
        fitted(model)
        ours, theirs = compare(
            lambda model=model: model.predict(X),
            lambda: bare(x, P, sigma, weights),
            repeats=15,
        )
        print(
            f"  {type(model).__name__}, 100,000 x 50, {len(model.prototypes_)} "
            f"prototypes: {ours * 1e3:.0f} ms, bare {theirs * 1e3:.0f} ms, ratio "
            f"{ours / theirs:.2f} " + verdict(ours / theirs, 2.0, at_least=False)
        )


def memory():
    """Peak memory above data and model while predicting, each in a fresh process."""
    for method in ("predict", "predict_proba"):
        done = subprocess.run(
            [sys.executable, __file__, method],
            capture_output=True,
            text=True,
            check=True,
        )
        extra = float(done.stdout)
        print(
            f"  CBCClassifier.{method}, 1,000,000 x 50: {extra:.0f} MB above data and "
            "model " + verdict(extra, 200, at_least=False)
        )


def peak_extra(method):
    """Megabytes by which the peak grows during one call."""
    model = fitted(CBCClassifier(10, max_epochs=3))
    X = np.random.RandomState(0).randn(1_000_000, 50)
    getattr(model, method)(X[:20_000])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    getattr(model, method)(X)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(peak_extra(sys.argv[1]))
    else:
        times()
        memory()
