"""
Displays: pictures of a fitted model
====================================

Displays draw what a prototype model knows and does, in scikit-learn's convention:
``from_estimator`` computes and draws, ``plot`` draws again, and the axes, the figure
and what was drawn are attributes. They take pipelines too.
"""

# %%
# A tree and the path of a patient
# --------------------------------
# The nodes are patients that the tree knows. The path of the first patient of the
# held-out quarter is thick.

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skproto import (
    GMLVQClassifier,
    ProtoPNetClassifier,
    ProtoTreeClassifier,
    RBFClassifier,
)
from skproto.display import (
    EmbeddingDisplay,
    ExplanationDisplay,
    PrototypeDisplay,
    TrainingDisplay,
    TreeDisplay,
)

torch.set_num_threads(1)  # on data as small as these more threads are slower
cancer = load_breast_cancer(as_frame=True)
diagnosis = cancer.target_names[cancer.target]
X_train, X_test, y_train, y_test = train_test_split(
    cancer.data, diagnosis, stratify=diagnosis, random_state=0
)
tree = ProtoTreeClassifier(depth=3, max_epochs=40, random_state=0)
tree.fit(X_train, y_train)
print(f"tree: test accuracy {tree.score(X_test, y_test):.3f}")

whole = TreeDisplay.from_estimator(tree, X_test)

# %%
# The same path in words and numbers, with the classes of the leaf it ends in:

path = ExplanationDisplay.from_estimator(tree, X_test)

# %%
# A pipeline, and what speaks for and against
# -------------------------------------------
# The names of features and rows survive the steps before the classifier.

kernels = make_pipeline(StandardScaler(), RBFClassifier(3, random_state=0))
kernels.fit(X_train, y_train)
print(f"kernels: test accuracy {kernels.score(X_test, y_test):.3f}")

bars = ExplanationDisplay.from_estimator(kernels, X_test)

# %%
# The prototypes as a table. The numbers are those that the last step of the pipeline
# gets, the colour says how far they are from ordinary.

table = PrototypeDisplay.from_estimator(kernels)

# %%
# The plane
# ---------
# A table of two features is drawn as it is, with the areas in which each class is
# predicted. Of more features the first principal components are shown, of the space in
# which the model compares: here thirty features, each divided by its scale. A cross at
# the end of a line is the training sample behind a learned prototype.

iris = load_iris(as_frame=True)
petals = iris.data[["petal length (cm)", "petal width (cm)"]]
species = iris.target_names[iris.target]
flowers = GMLVQClassifier(2, random_state=0).fit(petals, species)

figure, axes = plt.subplots(2, figsize=(7.5, 9), layout="constrained")
EmbeddingDisplay.from_estimator(flowers, petals, species, ax=axes[0])
plane = EmbeddingDisplay.from_estimator(kernels, X_test, y_test, ax=axes[1])

# %%
# Images
# ------
# A network of parts learns digits. Its prototypes, with their weights:

X, y = load_digits(return_X_y=True)
images = X.reshape(-1, 8, 8)[:600]
network = ProtoPNetClassifier(3, max_epochs=8, random_state=0).fit(images, y[:600])

gallery = PrototypeDisplay.from_estimator(network)

# %%
# How it was trained: the total, and its terms before they are weighted. The shades are
# the phases.

training = TrainingDisplay.from_estimator(network)

# %%
# Where its parts lie. An image is the one of its places that is most like a prototype;
# any transformer to two dimensions takes the place of the principal components, t-SNE
# as well.

parts = EmbeddingDisplay.from_estimator(network, images[:300], y[:300])

if len(sys.argv) > 1:
    displays = {
        "whole": whole,
        "path": path,
        "bars": bars,
        "table": table,
        "plane": plane,
        "gallery": gallery,
        "training": training,
        "parts": parts,
    }
    for name, display in displays.items():
        picture = Path(sys.argv[1]) / f"{name}.png"
        display.figure_.savefig(picture, dpi=100)
        print(f"picture: {picture}")
