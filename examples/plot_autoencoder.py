"""
Prototypes that a decoder paints
================================

A prototype autoencoder learns what is typical of each handwritten digit, and paints it.
The distance to the nearest prototype also tells which images are none of these at all.
"""

# %%
# Learning
# --------
# Two prototypes for each digit. Pixels are brought to the range from 0 to 1, in which
# the decoder paints.

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from skproto import PrototypeAutoencoderClassifier

torch.set_num_threads(1)  # on images as small as these more threads are slower
X, y = load_digits(return_X_y=True)
images = X.reshape(-1, 8, 8) / 16
X_train, X_test, y_train, y_test = train_test_split(
    images, y, test_size=0.3, stratify=y, random_state=0
)
model = PrototypeAutoencoderClassifier(20, max_epochs=40, random_state=0)
model.fit(X_train, y_train)
print(f"test accuracy {model.score(X_test, y_test):.3f}")

# %%
# What the prototypes look like
# -----------------------------
# They are decoded, no training images; the number of the nearest one stands below.

gallery = model.explain_global().plot()

# %%
# One digit explained
# -------------------
# The first row shows what the code keeps of the digit. A prototype earns points by
# being nearer than it usually is.

case = model.explain(X_test[:1])
case.verify()
print(case)
answer = case.plot()

# %%
# Images that are no digits
# -------------------------
# Digits turned on their side, in negative, and noise: `outlier_score` is the squared
# distance to the nearest prototype, `reconstruction_error` what the code loses. The
# probability alone hardly warns of the first.

rng = np.random.default_rng(0)
foreign = {
    "on their side": np.rot90(X_test, axes=(1, 2)),
    "negatives": 1 - X_test,
    "noise": rng.random(X_test.shape),
}


def separation(score, others):
    """Share of pairs in which the foreign image has the larger score."""
    values = np.concatenate([score(X_test), score(others)])
    is_foreign = np.repeat([0, 1], [len(X_test), len(others)])
    return roc_auc_score(is_foreign, values)


def doubt(samples):
    return -model.predict_proba(samples).max(axis=1)


print("told from digits (0.5 is chance)   distance  reconstruction  probability")
for name, others in foreign.items():
    scores = (model.outlier_score, model.reconstruction_error, doubt)
    found = [separation(score, others) for score in scores]
    print(f"{name:33} {found[0]:9.3f} {found[1]:15.3f} {found[2]:12.3f}")

# %%
# From paintings to cases
# -----------------------
# `project` puts every prototype on the code of a training image of its class. From then
# on it is that image.

model.project(X_train, y_train)
print(f"test accuracy {model.score(X_test, y_test):.3f}")
print(f"largest distance to the image behind: {model.projection_distance_.max():.1f}")

if len(sys.argv) > 1:
    for name, ax in {"painted": gallery, "digit": answer}.items():
        picture = Path(sys.argv[1]) / f"{name}.png"
        ax.figure.savefig(picture, dpi=100)
        print(f"picture: {picture}")
