"""Robust training on MNIST: accuracy and certified accuracy of 20 components.

The setting of the reference sheet: convex RBF head, metric kernel, one width start of
7.6, robust loss with margin 1.58 on pixels in [0, 1], 15 epochs of Adam. The envelope's
certified accuracy stands beside that of the published formula on the same weights.
"""

import time

import numpy as np
from _common import load_shared, verdict

from skproto import CBCClassifier

RADII = (0.5, 1.0, 1.58)


def main():
    X, y, meta = load_shared("mnist")
    X = X.reshape(len(X), -1).astype(np.float32) / 255.0
    train, test = meta["train_index"], meta["test_index"]
    for reasoning in ("positive", "extended"):
        model = CBCClassifier(
            n_prototypes=20,
            n_reasonings=2 if reasoning == "extended" else 1,
            reasoning=reasoning,
            kernel="metric",
            loss="robust",
            margin=1.58,
            certificate="theorem",
            init="kmeans",
            standardize=False,
            solver="adam",
            lr=5e-3,
            batch_size=128,
            max_epochs=15,
            random_state=0,
        )
        start = time.perf_counter()
        model.fit(X[train], y[train])
        spent = time.perf_counter() - start
        accuracy = model.score(X[test], y[test])
        print(
            f"  {reasoning}: accuracy {accuracy:.3f} "
            f"{verdict(accuracy, 0.80, at_least=True)}, {spent:.0f} s"
        )
        for method in ("theorem", "closed", "envelope"):
            share = model.certified_accuracy(X[test], y[test], RADII, method=method)
            shown = ", ".join(
                f"{s:.3f} at {r}" for s, r in zip(share, RADII, strict=True)
            )
            target = verdict(share[0], 0.55, at_least=True)
            print(f"    certified by {method}: {shown} {target}")


if __name__ == "__main__":
    main()
