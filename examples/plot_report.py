"""
A page that shows a model
=========================

``skproto.report`` writes one HTML file that needs no network: what the model is and how
good it is, its prototypes with their sources, every case with the evidence that decided
it, and, for a tree, the tree to be walked node by node. Send it to the person who knows
the data: what looks wrong to them is what needs to be looked at.

Run as a script, it writes the page to the folder named on the command line, or to
``demo_output``.
"""

# sphinx_gallery_thumbnail_path = '_static/report.png'

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from skproto import ProtoTreeClassifier, report

# %%
# The tumours of the breast cancer data, and a tree that asks "is it like this one?".
data = load_breast_cancer(as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(
    data.data, data.target, stratify=data.target, random_state=0
)
model = ProtoTreeClassifier(depth=3, max_epochs=40, random_state=0)
model.fit(X_train, y_train)

# %%
# The page judges the model on cases that it has not seen. Wrong and uncertain ones come
# first; each opens to the path that it took through the tree.
folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output")
folder.mkdir(exist_ok=True)
page = report(
    model,
    X_test,
    y_test,
    folder / "report.html",
    title="Tumours: benign or malignant?",
    class_names=data.target_names,
    random_state=0,
)
print(f"page: {page} ({page.stat().st_size / 1e6:.1f} MB)")

# %%
# The same words and numbers can be had without a page, here those of the two cases that
# the tree is least sure of.
lead = np.abs(model.predict_proba(X_test)[:, 1] - 0.5)
model.explain(X_test.iloc[np.argsort(lead)[:2]])
