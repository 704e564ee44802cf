"""
Quick start: accuracy beside other classifiers, and one patient explained
=========================================================================

A prototype tree and a classifier by components are compared with other classifiers on
two real tables. Then both explain, by cases, what they say about one patient.
"""

# %%
# Accuracy
# --------
# The prototype models take raw tables: they bring features to a common scale inside.

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skproto import CBCClassifier, ProtoTreeClassifier
from skproto.explanation import html_page

torch.set_num_threads(1)  # on tables as small as these more threads are slower
tree = ProtoTreeClassifier(random_state=0)
cbc = CBCClassifier(loss="margin", p0=0.3, random_state=0)
models = {
    "ProtoTreeClassifier": tree,
    "CBCClassifier": cbc,
    "decision tree": DecisionTreeClassifier(random_state=0),
    "random forest": RandomForestClassifier(random_state=0),
    "k nearest neighbours, scaled": make_pipeline(
        StandardScaler(), KNeighborsClassifier()
    ),
}
tables = {"breast cancer": load_breast_cancer, "wine": load_wine}
folds = StratifiedKFold(3, shuffle=True, random_state=0)

accuracy = pd.DataFrame(index=models, columns=tables, dtype=object)
for table, load in tables.items():
    X, y = load(return_X_y=True)
    for name, model in models.items():
        scores = cross_val_score(model, X, y, cv=folds, n_jobs=2)
        accuracy.loc[name, table] = f"{scores.mean():.3f} ± {scores.std():.3f}"

print("Accuracy in 3-fold cross-validation, mean ± standard deviation\n")
print(accuracy.to_string(), "\n")

# %%
# One patient
# -----------
# A quarter of the patients is held out. Of those that both models classify right, one
# is explained about whom the tree is neither certain nor at a loss: its probability is
# the nearest to 0.8.

cancer = load_breast_cancer(as_frame=True)
diagnosis = cancer.target_names[cancer.target]
X_train, X_test, y_train, y_test = train_test_split(
    cancer.data, diagnosis, stratify=diagnosis, random_state=0
)
tree.fit(X_train, y_train)
cbc.fit(X_train, y_train)

right = (tree.predict(X_test) == y_test) & (cbc.predict(X_test) == y_test)
probability = tree.predict_proba(X_test).max(axis=1)
distance = np.where(right, np.abs(probability - 0.8), np.inf)
patient = X_test.iloc[[distance.argmin()]]

# %%
# The tree asks whether the patient is like a case that it knows, down to a leaf. The
# rows are counted in the training table.

path = tree.explain(patient)
path.verify()  # what is shown adds up to the decision, or this raises
print(f"{path}\n")

# %%
# The other model adds up what is there and what is missing, for each class. Its margin
# loss asks for a lead and not for probabilities, which stay close to one another. The
# certified radius says how much the patient could change without changing the class.

evidence = cbc.explain(patient)
evidence.verify()
print(f"{evidence}\n")

# %%
# A picture and a page
# --------------------
# The page needs no other file: it can be sent to the doctor who asked.

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output")
folder.mkdir(parents=True, exist_ok=True)
picture, page = folder / "patient.png", folder / "patient.html"

ax = path.plot()
ax.figure.savefig(picture, dpi=150)
content = html_page(
    f"Breast cancer, patient {patient.index[0]}: {path.prediction[0]}",
    [
        "Two models that decide by cases, trained on other patients, give the reasons "
        "for their answer. The numbers below are the ones that they added up.",
        ("The tree: which known patients is this one like?", ax, path),
        ("The components: what is there, what is missing?", evidence),
        ("The tree as a whole", tree.explain_global().plot(), tree.explain_global()),
        ("How often the models are right", accuracy),
    ],
)
page.write_text(content, encoding="utf-8")
print(f"picture: {picture}\npage:    {page}")
