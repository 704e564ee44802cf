"""
Editing: a model that has learned a shortcut is put right
=========================================================

A classifier of tumours does perfectly on the data that it was trained on and fails on
new patients. Its explanation tells why, and the user corrects it: forbids what must not
count, puts in a case that is missing, says how certain that is. Every step is recorded
and can be undone to the bit.
"""

# %%
# A shortcut
# ----------
# Half of the patients are for training. In that half the suspicious cases went to
# another scanner, so that its number gives the diagnosis away. The new patients went
# to whichever scanner was free.

import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from skproto import RBFClassifier
from skproto.operations import EditedEstimator, EditRejected, edit, find_prototypes

torch.set_num_threads(1)  # on tables as small as these more threads are slower
cancer = load_breast_cancer(as_frame=True)
diagnosis = cancer.target_names[cancer.target]
X, X_new, y, y_new = train_test_split(
    cancer.data, diagnosis, test_size=0.5, stratify=diagnosis, random_state=0
)
rng = np.random.RandomState(0)
X = X.assign(scanner=2.0 * (y == "malignant") + 0.1 * rng.standard_normal(len(y)))
X_new = X_new.assign(scanner=rng.choice([0.0, 2.0], len(y_new)))

template = RBFClassifier(3, metric="relevance", project_prototypes=True, random_state=0)
model = template.fit(X, y)
accuracy = {"as trained": (model.score(X, y), model.score(X_new, y_new))}
print(f"training {accuracy['as trained'][0]:.3f}, new {accuracy['as trained'][1]:.3f}")

# %%
# What the model looks at
# -----------------------
# The prototypes are patients; what makes each of them stand out is named last. It is
# the scanner every time, and the metric has learned to look at hardly anything else.

print(model.explain_global())
relevance = pd.Series(model.relevances_, X.columns).nlargest(3)
print(f"\n{relevance.round(3).to_string()}")

# %%
# Forbid it
# ---------
# ``dry_run=True`` tells what an edit would do. The new patients are the judges here:
# on the training data the shortcut only ever helps.

judged = {"X": X, "y": y, "eval_set": (X_new, y_new)}
report = model.forbid(features="scanner", dry_run=True, **judged)
print(report)

# %%
# Three repairs: none at all, the head alone (a convex problem), or the prototypes and
# then the head. A forbidden feature is held at its mean inside the model, so that no
# prediction can depend on it, whatever is repaired.

for repair in ("none", "head", "prototypes"):
    mended = edit(
        model, "forbid", features="scanner", repair=repair, note="leaks", **judged
    )
    name = {"none": "no repair", "head": "head", "prototypes": "prototypes, head"}
    accuracy[f"forbidden; {name[repair]}"] = (
        mended.score(X, y),
        mended.score(X_new, y_new),
    )
other_scanner = X_new.assign(scanner=9.0)
assert (mended.predict_proba(other_scanner) == mended.predict_proba(X_new)).all()

# %%
# Put a case in
# -------------
# A patient whom the model gets wrong becomes a prototype of the class that is right.
# The head is fitted anew, and ``respect_label`` keeps the new column speaking for its
# class. The report also holds the column (benign, malignant) that a free fit would have
# made.

wrong = np.flatnonzero(mended.predict(X_new) != y_new)
patient, truth = X_new.iloc[[wrong[0]]], y_new[wrong[0]]
mended.add_prototypes(patient, truth, note="seen by a pathologist", **judged)
print(mended.edit_report_)
print(f"fitted {mended.coef_[-1]}, free {mended.edit_report_.free_repair['columns']}\n")
print(mended.explain(patient))

# %%
# Be certain, or less
# -------------------
# A prototype may be pulled towards a case no further than the user is certain. The
# constraint is hard: 0.7 leaves at most 0.3 of the distance, also after later repairs.

typical = X[y == "benign"].median().to_frame().T
key = find_prototypes(mended, near=typical, label="benign")[0]
mended.soft_replace_prototypes(key, typical, 0.7, **judged)
print(f"certainty reached: {mended.edit_report_.certainty_reached}")

# %%
# Undo and guards
# ---------------
# The log is plain JSON, and undo gives the very bits back. A guard turns an edit down
# that does harm.

before = mended.predict_proba(X_new)
guard = {"min_accuracy_change": -0.01}
try:
    mended.reweight_prototypes(key, -9.0, guard=guard, **judged)
except EditRejected as error:
    print(error)
mended.remove_prototypes(key, allow_empty_class=True).undo()
assert (mended.predict_proba(X_new) == before).all()

log = pd.DataFrame(mended.edit_log_)
print(log[["seq", "op", "ids", "created", "repair", "note"]].to_string(index=False))

# %%
# Every fit
# ---------
# A new fit forgets edits, as scikit-learn's clone does. ``EditedEstimator`` makes them
# parameters, given by content, so that they go through cross-validation; what is
# forbidden is so from the start.

edited = EditedEstimator(template, [{"op": "forbid", "features": "scanner"}]).fit(X, y)
accuracy["forbidden; fitted anew"] = (edited.score(X, y), edited.score(X_new, y_new))

table = pd.DataFrame(accuracy, index=["training", "new"]).T
print(table.round(3).to_string())

fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
rows = np.arange(len(table))
ax.hlines(rows, table["new"], table["training"], color="0.7", zorder=1)
ax.scatter(table["training"], rows, marker="o", facecolor="white", edgecolor="black")
ax.scatter(table["new"], rows, marker="s", color="#0072b2")
for row, value in enumerate(table["new"]):
    ax.annotate(
        f"{value:.2f}", (value, row), (0, 7), textcoords="offset points", ha="center"
    )
ax.annotate(
    "new patients", (table["new"].iloc[0], 0), (10, -12), textcoords="offset points"
)
ax.annotate(
    "training patients",
    (table["training"].iloc[0], 0),
    (-6, -12),
    textcoords="offset points",
    ha="right",
)
ax.set(yticks=rows, yticklabels=table.index, xlabel="accuracy", xlim=(0.45, 1.03))
ax.set_ylim(len(table) - 0.4, -0.6)
ax.set_title("A shortcut is forbidden: what each repair mends")

# %%
# The estimator itself keeps what it was told:

copy.deepcopy(mended)
