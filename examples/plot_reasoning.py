"""
Reasoning by presence and absence
=================================

A classifier by components says of each class what must be there and what must not. On a
table of wines this can be read aloud.
"""

# %%
# Three components
# ----------------
# The wines come from three cultivars of one region, described by thirteen
# measurements. One component for each cultivar is learned and then moved onto a wine of
# the training set: a component *is* a bottle. The margin loss makes the model look at
# what is missing too; the cross entropy of the default is content with the one bottle
# that is like.

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from skproto import CBCClassifier
from skproto.display import PrototypeDisplay, ReasoningDisplay

torch.set_num_threads(1)  # on tables as small as this more threads are slower
wine = load_wine(as_frame=True)
cultivar = wine.target.map({0: "Barolo", 1: "Grignolino", 2: "Barbera"})
X_train, X_test, y_train, y_test = train_test_split(
    wine.data, cultivar, stratify=cultivar, random_state=0
)
model = CBCClassifier(1, loss="margin", project_prototypes=True, random_state=0)
model.fit(X_train, y_train)
print(f"test accuracy {model.score(X_test, y_test):.3f}\n")

# %%
# The bottles, in the units of the table. Rows are counted in the training set.

bottles = PrototypeDisplay.from_estimator(model)

# %%
# The reasoning of the model
# --------------------------
# Each column is a class. "present 0.33" is what the full presence of a component gives
# the score of the class, "absent 0.27" what its full absence gives; a column adds up
# to 1.

rules = ReasoningDisplay.from_estimator(model)

# %%
# Read aloud, the weightier of the two for each component:

told = model.explain_global().reasoning_frame()
for name, own in told.groupby("class"):
    own = own.sort_values("component_prior", ascending=False)
    clauses = [
        f"like wine {row.training_row} ({row.presence:.2f})"
        if row.presence > row.absence
        else f"not like wine {row.training_row} ({row.absence:.2f})"
        for row in own.itertuples()
    ]
    print(f"A wine is a {name} if it is {', '.join(clauses)}.")

# %%
# One bottle
# ----------
# Of the wines that are classified right, the one with the smallest lead. Plain bars are
# what is there, hatched bars what is missing, for the predicted class and for the
# runner-up. Whatever is neither there nor missing is what the scores lack to 1.

probability = np.sort(model.predict_proba(X_test), axis=1)
right = model.predict(X_test) == y_test
hardest = int(np.where(right, probability[:, -1] - probability[:, -2], 1.0).argmin())
case = model.explain(X_test.iloc[[hardest]])
case.verify()
print(f"\n{case}")

bottle = ReasoningDisplay.from_explanation(case)

# %%
# In a table
# ----------
# Presence and absence of each component, for each class:

shares = case.to_frame().sort_values(["class", "training_row"])
columns = ["class", "training_row", "similarity", "presence", "absence"]
print(shares[columns].round(3).to_string(index=False))

if len(sys.argv) > 1:
    for name, display in {"bottles": bottles, "rules": rules, "bottle": bottle}.items():
        picture = Path(sys.argv[1]) / f"{name}.png"
        display.figure_.savefig(picture, dpi=100)
        print(f"picture: {picture}")
