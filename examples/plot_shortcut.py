"""
A shortcut: seen, removed, forbidden
====================================

In the pictures of a training set a coloured mark in the corner gives the class away,
as the ruler of one clinic or the watermark of one photographer would. A network of
parts learns the mark instead of the digit. The accuracy on held-out pictures *with*
marks says that all is well. The prototypes tell, and three edits mend it.
"""

# %%
# Pictures with a mark
# --------------------
# Dim, grainy digits on pictures of 24 x 24 pixels. In training every class has a mark
# of its own colour; where the model will be used there are none.

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from skproto import ProtoPNetClassifier, report
from skproto.operations import EditedEstimator, edit

torch.set_num_threads(1)
CLASSES = [3, 5, 8, 9]
MARK = (1, 1, 7, 7)  # top, left, bottom, right
COLORS = np.array(
    [[0.90, 0.62, 0.00], [0.34, 0.71, 0.91], [0.00, 0.62, 0.45], [0.80, 0.47, 0.65]]
)

digits, y = load_digits(return_X_y=True)
kept = np.isin(y, CLASSES)
digits, y = digits[kept].reshape(-1, 8, 8) / 16, y[kept]
rng = np.random.RandomState(0)
clean = np.full((len(y), 3, 24, 24), 0.05)
clean[:, :, 8:, 8:] += 0.45 * np.kron(digits, np.ones((1, 2, 2)))[:, None]
clean = (clean + rng.normal(scale=0.05, size=clean.shape)).clip(0, 1)
clean = clean.astype(np.float32)


def marked(pictures, labels):
    """Return pictures with the mark of each label."""
    top, left, bottom, right = MARK
    pictures = pictures.copy()
    colors = COLORS[np.searchsorted(CLASSES, labels)]
    pictures[:, :, top:bottom, left:right] = colors[:, :, None, None]
    return pictures


order = rng.permutation(len(y))
train, valid, test = np.split(order, [360, 460])
X_train, y_train = marked(clean[train], y[train]), y[train]
X_valid, y_valid = marked(clean[valid], y[valid]), y[valid]
X_test, y_test = clean[test], y[test]

figure, axes = plt.subplots(2, 4, figsize=(7, 3.9), layout="constrained")
for ax, label in zip(axes.T, CLASSES, strict=True):
    for cell, (pictures, labels) in zip(
        ax, [(X_train, y_train), (X_test, y_test)], strict=True
    ):
        first = pictures[np.flatnonzero(labels == label)[0]]
        cell.imshow(first.transpose(1, 2, 0))
        cell.set(xticks=[], yticks=[])
    ax[0].set_title(f"class {label}")
axes[0, 0].set_ylabel("in training")
axes[1, 0].set_ylabel("in use")

# %%
# All seems well
# --------------
# The encoder is one whose parts see their own 8 x 8 pixels and nothing around them, so
# that what a prototype shows is all that it knows.


def local_encoder(shape):
    """Return an encoder whose sites each see their own 8 x 8 pixels."""
    return nn.Sequential(
        nn.Conv2d(shape[0], 32, 4, stride=4),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 2, stride=2),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 32, 1),
    )


network = ProtoPNetClassifier(
    4, encoder=local_encoder, warm_epochs=0, lr=0.005, max_epochs=15, random_state=0
)
network.fit(X_train, y_train)
print(f"held out, with marks: {network.score(X_valid, y_valid):.3f}")
print(f"in use, without them: {network.score(X_test, y_test):.3f}")

# %%
# What the model looks at
# -----------------------
# Held-out pictures with marks do not tell what is wrong. The explanation does: what
# decides is that there is a mark of this colour.

case = network.explain(X_valid[:1])
print(case)
picture = case.plot()

# %%
# And so does the gallery: some prototypes are the mark itself.

boxes, (top, left, bottom, right) = network.prototype_boxes_, MARK
touches = (boxes[:, 0] < bottom) & (boxes[:, 1] < right)
on_mark = network.prototype_ids_[touches]
print("prototypes on the mark:", on_mark.tolist(), "of", len(network.prototype_ids_))
gallery = network.explain_global().plot()

# %%
# The report is the page for those who have to answer for the model: the gallery by
# class, each prototype with the pictures nearest to it, and every case explained.
folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output")
folder.mkdir(exist_ok=True)
page = report(network, X_valid, y_valid, folder / "shortcut.html", random_state=0)
print(f"page: {page} ({page.stat().st_size / 1e6:.1f} MB)")

# %%
# (b) Remove them, repair
# -----------------------
# Removing needs no data; the repair fits the weights of the others anew, here to the
# same training pictures, marks and all.

removed = edit(
    network,
    "remove",
    on_mark,
    X=X_train,
    y=y_train,
    allow_empty_class=True,
    note="the mark, not the digit",
)
print(f"removed: {removed.score(X_test, y_test):.3f}")

# %%
# (c) Forbid the region, repair
# -----------------------------
# Forbidding goes further: the pixels are hidden from the encoder, so that nothing can
# depend on them, and no part that lies there may be a prototype or be like one.
# Prototypes that were there move to the most similar part elsewhere.

forbidden = edit(network, "forbid", region=MARK, X=X_train, y=y_train)
print(f"forbidden: {forbidden.score(X_test, y_test):.3f}")
other = marked(X_test, rng.permutation(y_test))
same = (forbidden.predict_proba(other) == forbidden.predict_proba(X_test)).all()
print("marks of any colour change nothing:", bool(same))
forbidden.explain(X_test[:20]).verify()

# %%
# (d) A new fit that never sees it
# --------------------------------
# The encoder of the repaired models has learned from marks. `EditedEstimator` forbids
# the region from the start, in every fit, so also in cross-validation.

anew = EditedEstimator(network, edits=[{"op": "forbid", "region": MARK}])
anew.fit(X_train, y_train)
print(f"fitted anew: {anew.score(X_test, y_test):.3f}")
case = anew.explain(X_test[:1])
picture = case.plot()

# %%
# Before and after
# ----------------

models = {
    "(a) as fitted": network,
    "(b) prototypes removed": removed,
    "(c) region forbidden": forbidden,
    "(d) fitted anew": anew,
}
names = list(models)
scores = [models[name].score(X_test, y_test) for name in names]
shuffled = [models[name].score(other, y_test) for name in names]
figure, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
place = np.arange(len(names))
ax.barh(place - 0.2, scores, 0.38, label="no mark", color="#0072b2")
ax.barh(place + 0.2, shuffled, 0.38, label="mark of any class", color="#e69f00")
for row, (plain, mixed) in enumerate(zip(scores, shuffled, strict=True)):
    ax.text(plain + 0.01, row - 0.2, f"{plain:.2f}", va="center")
    ax.text(mixed + 0.01, row + 0.2, f"{mixed:.2f}", va="center")
ax.axvline(0.25, color="0.1", ls=":", lw=1.5, label="chance")
ax.set(yticks=place, yticklabels=names, xlim=(0, 1.08), xlabel="accuracy in use")
ax.invert_yaxis()
ax.legend(loc="upper right", framealpha=0.9)
for name, score, mixed in zip(names, scores, shuffled, strict=True):
    print(f"{name:24} no mark {score:.3f}   mark of any class {mixed:.3f}")
