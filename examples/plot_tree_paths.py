"""
Paths through a prototype tree, and when to doubt them
======================================================

A tree of cases answers with a path of questions. Its prediction is a mean over all
leaves, of which the path is one: where the two part company, the path is no reason.
"""

# %%
# A tree on a noisy table
# -----------------------
# 442 patients with diabetes, ten measurements, and whether the disease went on faster
# than for most in the year that followed. Nobody can tell this exactly, which is what
# makes it a good table to look at doubt.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from skproto import ProtoTreeClassifier

diabetes = load_diabetes(as_frame=True, scaled=False)
X = diabetes.data.rename(
    columns={
        "bmi": "body mass index",
        "bp": "blood pressure",
        "s1": "cholesterol",
        "s2": "LDL",
        "s3": "HDL",
        "s4": "cholesterol / HDL",
        "s5": "log triglycerides",
        "s6": "blood sugar",
    }
)
course = np.where(diabetes.target > diabetes.target.median(), "fast", "slow")
X_train, X_test, y_train, y_test = train_test_split(
    X, course, stratify=course, random_state=0
)
tree = ProtoTreeClassifier(depth=3, random_state=0).fit(X_train, y_train)
print(f"accuracy {tree.score(X_test, y_test):.3f}")
print(f"{tree.get_depth()} questions at most, {tree.get_n_leaves()} leaves")

# %%
# Every node holds a patient of the training table and a radius around them; to the
# right go those within it. Under the leaves stand the shares of the classes.

whole = tree.explain_global().plot()

# %%
# One path
# --------
# Each step says how far the patient is from the case, how far would be near enough, and
# in which measurements they differ or agree most.

case = tree.explain(X_test[:1])
case.verify()
print(case)
steps = case.plot()

# %%
# The same as a table, for all patients at once:

paths = tree.explain(X_test)
print(paths.path_frame().head(6).round(2).to_string(index=False))

# %%
# Path and sum
# ------------
# A soft tree sends part of every patient down each branch. The share that ends in the
# leaf of the path tells how much of the prediction the path is.

rows = np.arange(len(X_test))
share = paths.leaf_probability[rows, paths.leaf]
right = paths.prediction == y_test
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
bins = np.linspace(0, 1, 11)
*_, groups = ax.hist(
    [share[right], share[~right]],
    bins,
    stacked=True,
    label=["right", "wrong"],
    color=["#56B4E9", "#D55E00"],
    edgecolor="black",
)
for bar in groups[1]:
    bar.set_hatch("///")
ax.set_xlabel("share of the patient that ends in the leaf of the path")
ax.set_ylabel("patients")
ax.legend(title="prediction")
print(f"path and sum give the same class for {paths.agrees.mean():.0%} of the patients")
firm = share >= np.median(share)
print(f"accuracy where the share is large {right[firm].mean():.3f}")
print(f"accuracy where it is small        {right[~firm].mean():.3f}")

# %%
# If the path has to be the whole reason, let it decide: `routing="greedy"` predicts
# with the leaf at its end.

greedy = tree.predict(X_test, routing="greedy")
print(f"accuracy of the paths alone {np.mean(greedy == y_test):.3f}")

# %%
# The patient for whom the path says least, in whose explanation the line about the
# other leaves is the one to read:

doubtful = int(share.argmin())
print(paths[doubtful : doubtful + 1])
