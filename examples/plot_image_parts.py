"""
Parts of images: this looks like that
=====================================

A network of prototype parts and a prototype tree learn the digits from 0 to 5, of 8 x 8
pixels. Both answer with the parts of training images that an image reminds them of, and
what each of these adds to the decision.
"""

# %%
# A network of parts
# ------------------
# Every class owns four prototypes. After training each of them is moved onto a part of
# a training image, which is then what it is.

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skproto import ProtoPNetClassifier, ProtoTreeClassifier

torch.set_num_threads(1)  # on images as small as these more threads are slower
X, y = load_digits(n_class=6, return_X_y=True)
images = X.reshape(-1, 8, 8)
X_train, X_test, y_train, y_test = train_test_split(
    images, y, test_size=0.3, stratify=y, random_state=0
)

network = ProtoPNetClassifier(4, max_epochs=12, random_state=0).fit(X_train, y_train)
before, after = network.projection_accuracy_
print(f"training accuracy before projection {before:.3f}, after it {after:.3f}")
print(f"test accuracy {network.score(X_test, y_test):.3f}")

# %%
# One digit explained
# -------------------
# Of the digits that are classified right, the one with the least probability is
# explained. `verify` adds up what is shown and raises if that is not the decision.

probability = network.predict_proba(X_test).max(axis=1)
right = network.predict(X_test) == y_test
hardest = int(np.where(right, probability, np.inf).argmin())
digit = X_test[hardest : hardest + 1]

case = network.explain(digit)
case.verify()
print(case)

# %%
# A solid box is the place that was compared, a dashed box holds the pixels on which the
# similarity depends: here the whole image, more or less. A box tells where a prototype
# sits, not all that it looks at.

answer = case.plot()

# %%
# The same as a table: where each prototype was found, and where it comes from.

places = case.place_frame()
print(places.head(4).T.to_string(header=False))

# %%
# All prototypes
# --------------

gallery = network.explain_global().plot()

# %%
# Choosing among them
# -------------------
# Some prototypes sit on an empty corner: the network knows what lies around it, a
# person sees nothing. They are removed. Every score then lacks exactly what they
# contributed, until the weights of the others are fitted anew.

empty = np.array([patch.max() <= 2 for patch in network.prototype_patches_])
network.remove_prototypes(network.prototype_ids_[empty])
print(f"without {empty.sum()} of {len(empty)}: {network.score(X_test, y_test):.3f}")
network.refit_head(X_train, y_train)
print(f"with new weights: {network.score(X_test, y_test):.3f}")

# %%
# `prune` drops prototypes whose nearest training images are mostly of other classes,
# and `project` moves prototypes onto parts of other images: here of the first half of
# the training data, as if the rest had to be deleted.

network.prune(X_train, y_train)
half = len(X_train) // 2
network.project(X_train[:half], y_train[:half]).refit_head(X_train, y_train)
network.explain(X_test).verify()
sources = network.prototype_indices_
print(
    f"{len(sources)} prototypes, sources among the first {half}: {max(sources) < half}"
)
print(f"test accuracy {network.score(X_test, y_test):.3f}")

# %%
# A tree of parts
# ---------------
# The tree asks one question after the other: is there a part like this one?

tree = ProtoTreeClassifier(depth=5, max_epochs=40, random_state=0)
tree.fit(X_train, y_train)
print(f"test accuracy {tree.score(X_test, y_test):.3f}")
print(f"path and sum agree on {tree.fidelity_:.1%} of the training images")

path = tree.explain(digit)
path.verify()
steps = path.plot()

# %%
# The whole tree, with the part that each node asks for:

whole = tree.explain_global().plot()

if len(sys.argv) > 1:
    pictures = {"digit": answer, "gallery": gallery, "path": steps, "tree": whole}
    for name, ax in pictures.items():
        picture = Path(sys.argv[1]) / f"{name}.png"
        ax.figure.savefig(picture, dpi=100)
        print(f"picture: {picture}")
