"""
Saving a model without pickle
=============================

A pickle runs whatever code it holds when it is loaded. `skproto.persistence` writes
arrays, numbers and text instead, and loading refuses what it does not know. The model
that comes back gives the same bits, explanations included.
"""

# %%
# Save and load
# -------------
# The whole pipeline goes into one file, which is a zip of arrays and JSON.

import tempfile
import zipfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skproto import GLVQClassifier
from skproto.persistence import load, save, trusted_types

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
model = make_pipeline(
    MinMaxScaler(), GLVQClassifier(1, project_prototypes=True, random_state=0)
)
model.fit(X_train, y_train)

folder = Path(tempfile.mkdtemp())
path = folder / "digits.skops"
save(model, path)
again = load(path)
print(f"{path.name}: {path.stat().st_size / 1024:.0f} kB")
print(f"accuracy before {model.score(X_test, y_test):.3f}", end=", ")
print(f"after {again.score(X_test, y_test):.3f}")
same = np.array_equal(again.predict_proba(X_test), model.predict_proba(X_test))
print(f"the probabilities are the same bits: {same}")

# %%
# What is in the file
# -------------------

with zipfile.ZipFile(path) as archive:
    parts = archive.namelist()
print(f"{len(parts)} entries:", ", ".join(sorted({Path(p).suffix for p in parts})))

# %%
# Explanations come back, too
# ---------------------------
# The prototypes travel with the model, so whoever gets the file can ask for reasons.
# These are the ten typical digits of the model that was loaded.

scaler, classifier = again
pictures = np.asarray(classifier.prototypes_).reshape(-1, 8, 8)
fig, axes = plt.subplots(2, 5, figsize=(7, 3.4), layout="constrained")
titles = zip(classifier.prototype_labels_, classifier.prototype_indices_, strict=True)
for ax, picture, (label, row) in zip(axes.flat, pictures, titles, strict=True):
    ax.imshow(picture, cmap="gray_r")
    ax.set_title(f"{label}: training row {row}", fontsize="small")
    ax.set_axis_off()

# %%
# And this is how it judges one digit: which pixels speak for the winner.

case = classifier.explain(scaler.transform(X_test[:1]))
case.verify()
print(case)
pulls = case.feature_differences[0].reshape(8, 8)
limit = np.abs(pulls).max()
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
left.imshow(X_test[0].reshape(8, 8), cmap="gray_r")
left.set_title(f"judged to be a {case.prediction[0]}")
shown = right.imshow(pulls, cmap="PuOr", vmin=-limit, vmax=limit)
runner_up = classifier.prototype_labels_[case.runner_up[0]]
right.set_title(f"pixels for {case.prediction[0]} and against {runner_up}")
fig.colorbar(shown, ax=right, label="share of the lead")
for ax in (left, right):
    ax.set_axis_off()

# %%
# What loading refuses
# --------------------
# A function given as a parameter is code. It is saved by its name, and loading asks to
# trust that name before anything of it is touched.


class Unknown(MinMaxScaler):
    """Stands for a class of which the reader of a file knows nothing."""


save(make_pipeline(Unknown(), GLVQClassifier(1, random_state=0)), path)
try:
    load(path)
except TypeError as error:
    print(f"TypeError: {error}")

# %%
# Types of skproto itself are trusted by name; the same list serves `skops.io.load`.

print(f"{len(trusted_types())} types, such as {trusted_types()[-1]}")
