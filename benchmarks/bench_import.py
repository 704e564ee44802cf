"""Cost of ``import skproto`` beside those of scikit-learn and torch.

Each import runs in fresh interpreters, in turn; the time of an empty interpreter is
measured the same way and taken off. Medians are printed, and the ratios to skproto.
"""

import argparse
import statistics
import subprocess
import sys
import time

STATEMENTS = {
    "skproto": "import skproto",
    "sklearn": "import sklearn",
    "torch": "import torch",
    "skproto, RBFClassifier used": "from skproto import RBFClassifier",
}


def seconds(code):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def measure(n_runs):
    """Median time of each statement over that of an empty interpreter, in seconds."""
    codes = {"": "pass", **STATEMENTS}
    for code in codes.values():
        seconds(code)  # fills the file cache and writes the byte code
    times = {name: [] for name in codes}
    for _ in range(n_runs):
        for name, code in codes.items():
            times[name].append(seconds(code))
    medians = {name: statistics.median(values) for name, values in times.items()}
    empty = medians.pop("")
    return {name: max(value - empty, 1e-6) for name, value in medians.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "-n", "--runs", type=int, default=15, help="runs of each import"
    )
    cost = measure(parser.parse_args().runs)
    for name, value in cost.items():
        print(f"import {name:<28} {1e3 * value:8.1f} ms", end="")
        print(f"   {value / cost['skproto']:8.0f} x import skproto")
    print(
        f"import skproto costs 1/{cost['sklearn'] / cost['skproto']:.0f} of sklearn"
        f" and 1/{cost['torch'] / cost['skproto']:.0f} of torch"
    )


if __name__ == "__main__":
    main()
