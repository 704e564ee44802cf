"""
How alike is alike? Three similarities of ProtoPNet
===================================================

The paper's logarithm, an exponential and the cosine turn distance into points in very
different ways. What that does to accuracy, to projection and to the argument is seen
best side by side.
"""

# %%
# Three curves
# ------------
# "log_l2" rises steeply near distance 0: hitting a prototype exactly is worth far more
# than coming close. "exp_l2" fades out within a fixed distance. "cosine" looks at the
# direction alone.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skproto import ProtoPNetClassifier
from skproto.nn import make_similarity

torch.set_num_threads(1)  # on images as small as these more threads are slower
distance = np.linspace(0, 2, 401)
squared = torch.tensor(distance**2, dtype=torch.float32)[:, None]
styles = {
    "log_l2": ("-", "#0072B2"),
    "exp_l2": ("--", "#D55E00"),
    "cosine": (":", "#009E73"),
}
fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for name in ("log_l2", "exp_l2"):
    line, color = styles[name]
    points = make_similarity(name, 1, 32).to_similarity(squared).detach().numpy()
    ax.plot(distance, points / points.max(), line, color=color, label=name, lw=2.5)
cosine = 1 - distance**2 / 2  # of two vectors of length 1 at this distance
line, color = styles["cosine"]
ax.plot(distance, cosine, line, color=color, label="cosine (sites of length 1)", lw=2.5)
ax.axhline(0, color="black", linewidth=0.8)
ax.set_xlabel("distance from the prototype")
ax.set_ylabel("similarity / largest one")
ax.legend()

# %%
# The same network three times
# ----------------------------
# Projection puts every prototype on a part of a training image. How much accuracy that
# costs tells how near the prototypes had come by themselves.

X, y = load_digits(return_X_y=True)
images = X.reshape(-1, 8, 8)
X_train, X_test, y_train, y_test = train_test_split(
    images, y, test_size=0.3, stratify=y, random_state=0
)
models, rows = {}, {}
for name in styles:
    model = ProtoPNetClassifier(2, similarity=name, max_epochs=7, random_state=0)
    models[name] = model.fit(X_train, y_train)
    before, after = model.projection_accuracy_
    rows[name] = {
        "test accuracy": model.score(X_test, y_test),
        "cost of projection": before - after,
        "source images": len(np.unique(model.prototype_indices_)),
    }
print(pd.DataFrame(rows).round(3).astype(object).T.to_string())

# %%
# The course of training
# ----------------------
# ``history_`` holds one row an epoch, one column a term of the loss. The first epochs
# belong to the encoder, which learns under a plain classifier; they are left out here.
# The cost of being near prototypes of other classes is subtracted, so that the loss may
# fall below 0.

fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for name, (line, color) in styles.items():
    history = models[name].history_
    loss = history.loc[history["phase"] != "pretraining", "train_loss"]
    ax.plot(loss.to_numpy(), line, color=color, label=name, lw=2.5)
ax.axhline(0, color="black", linewidth=0.8)
ax.set_xlabel("epoch")
ax.set_ylabel("training loss")
ax.legend()

# %%
# One digit, three arguments
# --------------------------
# How the points of the predicted class are spread over its best prototypes. A steep
# similarity lets few of them speak; a flat one lets every prototype say a little.

fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
hatches = {"log_l2": "", "exp_l2": "///", "cosine": "..."}
for shift, (name, model) in enumerate(models.items()):
    case = model.explain(X_test[:50])
    case.verify()
    winner = case.scores.argmax(axis=1)
    points = np.abs(case.class_contributions[np.arange(50), :, winner])
    points = np.sort(points, axis=1)[:, ::-1]
    share = (points / points.sum(axis=1, keepdims=True)).mean(axis=0)[:6]
    ax.bar(
        np.arange(6) + 0.27 * (shift - 1),
        share,
        0.25,
        color=styles[name][1],
        hatch=hatches[name],
        edgecolor="black",
        label=name,
    )
ax.set_xticks(range(6), [f"{k + 1}." for k in range(6)])
ax.set_xlabel("prototypes, largest contribution first")
ax.set_ylabel("share of all points, mean of 50 digits")
ax.legend()

# %%
# And the digit itself, as the paper's similarity sees it:

answer = models["log_l2"].explain(X_test[:1]).plot()
