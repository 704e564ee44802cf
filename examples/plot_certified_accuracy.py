"""
Certified accuracy: how much may a sample change?
=================================================

Some models of the package prove for each prediction within which radius no change of
the sample alters it. The share of samples that are right and stay right, against the
radius, is the certified accuracy.
"""

# %%
# One model, and an attack on it
# ------------------------------
# A change of length 1 is one standard deviation of one feature. The thick line is
# proved: no attack gets below it. The line with triangles is what an attack has
# reached, which a better attack might lower. What lies between the two is undecided.

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from skproto import CBCClassifier, GLVQClassifier, RBFClassifier
from skproto.display import CertifiedAccuracyDisplay
from skproto.robustness import certified_accuracy

torch.set_num_threads(1)  # on tables as small as this more threads are slower
wine = load_wine(as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(
    wine.data, wine.target, test_size=0.5, stratify=wine.target, random_state=0
)
plain = CBCClassifier(1, random_state=0).fit(X_train, y_train)

effort = {"n_restarts": 2, "n_steps": 10, "random_state": 0}
attacked = CertifiedAccuracyDisplay.from_estimator(plain, X_test, y_test, attack=effort)

# %%
# Models beside each other
# ------------------------
# Three models that are right about equally often differ in how far they stay so. `ax`
# draws one curve beside the other.

nearest = GLVQClassifier(1, random_state=0).fit(X_train, y_train)
kernels = RBFClassifier(3, random_state=0).fit(X_train, y_train)

models = {"components": plain, "nearest prototype": nearest, "kernels": kernels}
ax = None
for name, model in models.items():
    together = CertifiedAccuracyDisplay.from_estimator(
        model, X_test, y_test, name=name, ax=ax
    )
    ax = together.ax_

# %%
# The same as numbers, at three radii:

for name, model in models.items():
    shares = certified_accuracy(model, X_test, y_test, [0.0, 0.5, 1.0])
    print(f"{name:<17}", *(f"{share:.3f}" for share in shares))

# %%
# Other lengths
# -------------
# Every feature may change at the same time by as much as the radius says: the largest
# change counts. The radii are smaller, since many small changes together make a long
# one.

largest = CertifiedAccuracyDisplay.from_estimator(
    nearest, X_test, y_test, norm=float("inf"), name="nearest prototype"
)

if len(sys.argv) > 1:
    displays = {"attacked": attacked, "together": together, "largest": largest}
    for name, display in displays.items():
        picture = Path(sys.argv[1]) / f"{name}.png"
        display.figure_.savefig(picture, dpi=100)
        print(f"picture: {picture}")
