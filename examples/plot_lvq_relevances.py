"""
Which measurements matter: a learned metric
===========================================

A model that compares with one typical patient per diagnosis learns at the same time how
to measure: which of the 30 measurements of a tumour a distance should be made of.
"""

# %%
# One prototype for each diagnosis
# --------------------------------
# Thirty columns are many to read. `GMLVQClassifier` learns a matrix that turns them
# into the few directions that tell benign from malignant.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split

from skproto import GLVQClassifier, GMLVQClassifier

cancer = load_breast_cancer(as_frame=True)
diagnosis = cancer.target_names[cancer.target]
X_train, X_test, y_train, y_test = train_test_split(
    cancer.data, diagnosis, stratify=diagnosis, random_state=0
)
model = GMLVQClassifier(1, n_components=2, alpha=0.01, random_state=0).fit(
    X_train, y_train
)
plain = GLVQClassifier(1, random_state=0).fit(X_train, y_train)
print(f"accuracy with the plain distance   {plain.score(X_test, y_test):.3f}")
print(f"accuracy with the learned distance {model.score(X_test, y_test):.3f}")

# %%
# The learned distance is not what makes this model right; it is what makes it readable.

# %%
# What counts
# -----------
# The relevances add up to 1. A feature with a short bar can change as it likes without
# bringing a patient nearer to either prototype.

found = model.explain_global().relevance_frame().head(12).iloc[::-1]
fig, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
ax.barh(found["feature"], found["relevance"], color="#0072B2")
ax.axvline(1 / 30, color="black", linestyle="--", label="if all counted alike")
ax.legend(loc="lower right")
ax.set_xlabel("relevance")
ax.set_title("The twelve measurements that count most")

# %%
# Correlated measurements share their relevance: radius, perimeter and area say nearly
# the same, so a short bar of one of them does not mean that size is unimportant. Read
# groups rather than single bars, and see how many of them a model can do with:

ranking = model.explain_global().relevance_frame()["feature"]
for count in (2, 5, 10, 30):
    names = list(ranking[:count])
    small = GMLVQClassifier(1, alpha=0.01, random_state=0).fit(X_train[names], y_train)
    right = accuracy_score(y_test, small.predict(X_test[names]))
    print(f"the {count:2} most relevant alone: accuracy {right:.3f}")

# %%
# The plane in which it measures
# ------------------------------
# With two components the distances of the model are distances on paper. Open symbols
# are patients who were not in the training data, crosses mark those that are classified
# wrong, stars are the prototypes.

points = model.transform_relevance(X_test)
wrong = model.predict(X_test) != y_test
typical = pd.DataFrame(model.prototypes_, columns=X_train.columns)
stars = model.transform_relevance(typical)
fig, ax = plt.subplots(figsize=(7, 5), layout="constrained")
styles = {"benign": ("o", "#0072B2"), "malignant": ("s", "#D55E00")}
for name, (marker, color) in styles.items():
    rows = y_test == name
    ax.scatter(
        *points[rows].T, s=28, marker=marker, label=name, edgecolor=color, color="none"
    )
    star = stars[model.prototype_labels_ == name]
    ax.scatter(*star.T, s=320, marker="*", color=color, edgecolor="black", zorder=3)
ax.scatter(*points[wrong].T, s=70, marker="x", color="black", label="wrong", zorder=4)
ax.set_aspect("equal")
ax.set_xlabel("first direction of the metric")
ax.set_ylabel("second direction")
ax.legend(title="diagnosis")

# %%
# One patient on the border
# -------------------------
# The patient whose two distances are most alike. Every feature pulls towards one of the
# prototypes, and the pulls add up to the difference of the squared distances.

every = model.explain(X_test)
closest = int(np.abs(every.relative_distance).argmin())
case = every[closest : closest + 1]
case.verify()
print(case)
ax = case.plot()
