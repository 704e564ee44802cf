"""What the benchmarks share: timing, memory, folds and the shared data sets."""

import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.model_selection import StratifiedKFold, cross_val_score

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

TABLES = {
    "iris": load_iris,
    "wine": load_wine,
    "breast_cancer": load_breast_cancer,
    "digits": load_digits,
}


def seconds(function):
    """Time one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


class Stopwatch:
    """Seconds by the wall and of the processor, of `with` blocks added up.

    Where other work runs beside, half of the processor's is what two idle cores need at
    the least.
    """

    def __init__(self):
        self.wall = self.processor = 0.0

    def __enter__(self):
        self._started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *raised):
        self.wall += time.perf_counter() - self._started[0]
        self.processor += time.process_time() - self._started[1]


def compare(ours, theirs, repeats=7):
    """Median seconds of two functions whose calls alternate, after one of each."""
    ours(), theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    return median(p[0] for p in pairs), median(p[1] for p in pairs)


def fold_accuracy(model, name, seed=0):
    """Mean 5-fold accuracy on a table, and median seconds of a fit and score."""
    X, y = TABLES[name](return_X_y=True)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    start = time.perf_counter()
    scores = cross_val_score(model, X, y, cv=folds, error_score="raise")
    return scores.mean(), (time.perf_counter() - start) / 5


def load_shared(name):
    """X, y, meta of a shared data set; without the folder the script ends well."""
    if not (SHARED / "load.py").exists():
        print(f"  skipped: the shared data sets are not here, {name!r} is needed")
        sys.exit(0)
    sys.path.insert(0, str(SHARED))
    from load import load

    return load(name)


def slope(sizes, times):
    """Exponent b of times ~ sizes ** b, by least squares in the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def verdict(value, bound, *, at_least):
    """Say whether a figure reaches its target."""
    reached = value >= bound if at_least else value <= bound
    sign = ">=" if at_least else "<="
    return f"(target {sign} {bound:g}: {'reached' if reached else 'NOT reached'})"
