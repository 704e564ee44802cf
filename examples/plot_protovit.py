"""
Prototypes of several places: these parts look like those
=========================================================

A prototype of `ProtoViTClassifier` is a small set of places of one training image. It
is found again wherever its parts lie side by side.
"""

# %%
# Learning
# --------
# A small transformer cuts digits of 8 x 8 pixels into 16 patches. Every class owns two
# prototypes of up to three patches each.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skproto import ProtoViTClassifier

torch.set_num_threads(1)  # on images as small as these more threads are slower
X, y = load_digits(n_class=5, return_X_y=True)
images = X.reshape(-1, 8, 8)
X_train, X_test, y_train, y_test = train_test_split(
    images, y, test_size=0.3, stratify=y, random_state=0
)
model = ProtoViTClassifier(2, n_parts=3, max_epochs=20, random_state=0)
model.fit(X_train, y_train)
before, after = model.projection_accuracy_
print(f"training accuracy before projection {before:.3f}, after it {after:.3f}")
print(f"test accuracy {model.score(X_test, y_test):.3f}")

# %%
# The prototypes
# --------------
# Parts that the images of a class do not show are switched off; the rest became patches
# of a training image. Each of them has a number.

print("parts that are on:", np.bincount(model.n_parts_, minlength=4)[1:])
gallery = model.explain_global().plot()

# %%
# One digit explained
# -------------------
# Box 2 in the input is what part 2 of the training image was matched with. The best
# pair is taken first, then the next among the patches beside it.

case = model.explain(X_test[:1])
case.verify()
print(case)
answer = case.plot()

# %%
# Sets against single places
# --------------------------
# With one part a prototype is what it is in ProtoPNet. On digits that is all it takes:
# sets are no more accurate here. They are for classes that are told by things side by
# side, a beak *and* the mask behind it, and for people, whom a single patch tells
# little.

settings = {
    "one part": {"n_parts": 1},
    "three, anywhere": {"n_parts": 3, "adjacency": None},
    "three, side by side": {"n_parts": 3},
}
accuracy = {}
for name, setting in settings.items():
    other = ProtoViTClassifier(2, max_epochs=8, random_state=0, **setting)
    accuracy[name] = other.fit(X_train, y_train).score(X_test, y_test)
    print(f"{name:20} {accuracy[name]:.3f}")

fig, ax = plt.subplots(figsize=(6, 2.4), layout="constrained")
bars = ax.barh(list(accuracy), list(accuracy.values()), color="#56B4E9")
ax.bar_label(bars, fmt="%.3f", padding=3)
ax.invert_yaxis()
ax.set_xlim(0, 1.1)
ax.set_xlabel("test accuracy after 8 epochs")
