"""
Grid search over prototypes, with categorical columns
=====================================================

How many prototypes a model needs, and which kernel, is searched in a pipeline that
takes a table as it is. The answer to one rejected applicant names its columns.
"""

# %%
# A table of credit decisions
# ---------------------------
# The applicants are made up: a score decides, and one decision in twenty goes the other
# way.

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from skproto import RBFClassifier

rng = np.random.default_rng(0)
n = 800
applicants = pd.DataFrame(
    {
        "income": rng.lognormal(8.0, 0.4, n).round(-1).astype(int),
        "debt share of income": rng.beta(2, 4, n).round(2),
        "years in job": rng.gamma(2.0, 3.0, n).round(1),
        "housing": rng.choice(
            ["owner", "tenant", "with parents"], n, p=[0.4, 0.5, 0.1]
        ),
        "history": rng.choice(["no loans", "paid", "delayed"], n, p=[0.3, 0.5, 0.2]),
    }
)
points = (
    1.5 * np.log(applicants["income"] / 3000)
    - 5.0 * (applicants["debt share of income"] - 0.35)
    + 0.15 * (applicants["years in job"] - 5)
    + applicants["housing"].map({"owner": 0.6, "tenant": 0.0, "with parents": -0.3})
    + applicants["history"].map({"no loans": 0.0, "paid": 0.8, "delayed": -2.0})
)
flipped = rng.random(n) < 0.05
decision = np.where((points > 0) ^ flipped, "granted", "rejected")
print(applicants.assign(decision=decision).head().to_string())

# %%
# The search
# ----------
# Every prototype is moved onto an applicant of the training table
# (``project_prototypes=True``), so that the answer can point at real decisions.

encode = make_column_transformer(
    (OneHotEncoder(sparse_output=False), ["housing", "history"]),
    remainder="passthrough",
    verbose_feature_names_out=False,
).set_output(transform="pandas")
model = RBFClassifier(project_prototypes=True, random_state=0)
search = GridSearchCV(
    Pipeline([("encode", encode), ("model", model)]),
    {
        "model__n_prototypes_per_class": [5, 10, 20],
        "model__kernel": ["squared", "metric"],
    },
    cv=5,
)
X_train, X_test, y_train, y_test = train_test_split(
    applicants, decision, stratify=decision, random_state=0
)
search.fit(X_train, y_train)

found = pd.DataFrame(search.cv_results_)
found.columns = found.columns.str.removeprefix("param_model__")
columns = ["n_prototypes_per_class", "kernel", "mean_test_score", "std_test_score"]
print(found.sort_values("rank_test_score")[columns].round(3).to_string(index=False))
print(f"\naccuracy on held-out applicants: {search.score(X_test, y_test):.3f}")

# %%
# One rejected applicant
# ----------------------
# The model sees the encoded columns, and so does its explanation: ``history_delayed``
# is 1 for an applicant who paid a loan late.

encode, model = search.best_estimator_
rejected = X_test[search.predict(X_test) == "rejected"].iloc[[0]]
print(rejected.to_string())
case = model.explain(encode.transform(rejected))
case.verify()
print(case)

# %%
# The picture shows every prototype: its row in the training table, how similar the
# applicant is to it, and what that adds to either class.

ax = case.plot()
if len(sys.argv) > 1:
    picture = Path(sys.argv[1]) / "applicant.png"
    ax.figure.savefig(picture, dpi=150)
    print(f"picture: {picture}")
