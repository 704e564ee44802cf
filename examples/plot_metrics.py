"""
Judging explanations, and choosing models by them
=================================================

"This looks like that" can be checked: does a prototype mean one thing, does it look at
the object, does the argument hold when only its best parts are kept? The answers are
numbers, and a grid search can weigh them against accuracy.
"""

# %%
# Images whose parts are known
# ----------------------------
# Small drawings of two kinds of beetles. The kinds differ in the pattern of the wings;
# the head is the same. Where head and wings are is known, as it is on annotated photos.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.model_selection import GridSearchCV

from skproto import ProtoPNetClassifier
from skproto.metrics import make_prototype_scorer, prototype_report, untrained

torch.set_num_threads(1)  # on images as small as these more threads are slower
SIDE = 16
HEAD = np.array([[0, 1, 1, 0], [1, 1, 1, 1], [0, 1, 1, 0]]) * 0.8
WINGS = {
    "dotted": np.kron([[1, 0], [0, 1]], np.ones((3, 3))),
    "striped": np.tile([[1.0], [0.0]], (3, 6)),
}


def beetles(n_samples, seed):
    """Draw beetles; return images, kinds, and the pixels x, y of head and wings."""
    rng = np.random.default_rng(seed)
    images = rng.normal(0.15, 0.05, (n_samples, SIDE, SIDE))
    kinds = rng.choice(list(WINGS), n_samples)
    top = rng.integers(0, SIDE - 9, n_samples)
    left = rng.integers(0, SIDE - 6, n_samples)
    for image, kind, y, x in zip(images, kinds, top, left, strict=True):
        image[y : y + 3, x + 1 : x + 5] += HEAD
        image[y + 3 : y + 9, x : x + 6] += 0.8 * WINGS[kind]
    places = np.stack([left + 3, top + 1, left + 3, top + 6], axis=1)
    return images.astype(np.float32), kinds, places.reshape(-1, 2, 2)


X_train, y_train, places_train = beetles(160, seed=0)
X_test, y_test, places_test = beetles(120, seed=1)

fig, axes = plt.subplots(1, 4, figsize=(8, 2.8), layout="constrained")
for ax, image, kind, place in zip(axes, X_train, y_train, places_train, strict=False):
    ax.imshow(image, cmap="gray")
    ax.plot(*place[0], "o", color="#56B4E9", markersize=7, label="head")
    ax.plot(*place[1], "s", color="#E69F00", markersize=7, label="wings")
    ax.set_title(kind)
    ax.set_axis_off()
handles, labels = axes[0].get_legend_handles_labels()
fig.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)

# %%
# A report on every prototype
# ---------------------------
# `prototype_report` puts the usual metrics into one table, beside what prototypes at
# random places would score, and what the same network scores before it has learned.

model = ProtoPNetClassifier(2, max_epochs=25, random_state=0).fit(X_train, y_train)
report = prototype_report(
    model,
    X_test,
    y_test,
    places_test,
    part_names=["head", "wings"],
    baseline=untrained(model, X_train, y_train),
    half_size=3,
    n_resamples=50,
    random_state=0,
)
columns = ["label", "best_part", "frequency", "stability"]
print(report.prototypes[columns].round(2).to_string(), "\n")
rows = ["accuracy", "consistency", "stability", "completeness", "size_effective"]
names = ["value", "low", "high", "random_place", "untrained"]
print(report.to_frame().loc[rows, names].round(2).to_string())

# %%
# `consistency` is the share of prototypes that meet one and the same part in most
# images, `stability` whether noise leaves it there, `completeness` whether the best
# contributions alone give the right answer, `size_effective` how many of them it takes.
# Prototypes that meet the head deserve a second look, since heads are all alike: a box
# tells where a cell of the network sits, not all that it sees.
#
# A number says little without its baselines: a large region meets some part by chance,
# and accuracy alone does not show whether the wings or the background decided.

frame = report.to_frame().loc[["accuracy", "consistency", "stability", "completeness"]]
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
styles = {
    "value": ("this model", "#0072B2", ""),
    "untrained": ("before learning", "#E69F00", "///"),
    "random_place": ("random places", "white", "..."),
}
for shift, (column, (label, color, hatch)) in enumerate(styles.items()):
    ax.bar(
        np.arange(len(frame)) + 0.27 * (shift - 1),
        frame[column],
        0.25,
        label=label,
        color=color,
        hatch=hatch,
        edgecolor="black",
    )
ax.set_xticks(range(len(frame)), frame.index)
ax.set_ylim(0, 1.05)
ax.set_ylabel("score, 1 is best")
ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3, frameon=False)

# %%
# A search that asks for more than accuracy
# -----------------------------------------
# Scorers carry the annotations along: they find the places of a fold's images by
# themselves. The purity of a prototype is that of the images most like it: is it always
# the same part? Of the models about as accurate as the best, the one with the purest
# prototypes is taken.

notes = {"part_locations": places_train}
options = {"half_size": 3}
search = GridSearchCV(
    ProtoPNetClassifier(max_epochs=15, random_state=0),
    {"n_prototypes_per_class": [1, 3], "cluster_weight": [0.0, 0.8]},
    scoring={
        "accuracy": "accuracy",
        "purity": make_prototype_scorer("purity", X_train, notes, params=options),
        "size": make_prototype_scorer("explanation_size"),
    },
    refit=lambda found: int(
        np.where(
            found["mean_test_accuracy"] >= found["mean_test_accuracy"].max() - 0.02,
            found["mean_test_purity"],
            -1.0,
        ).argmax()
    ),
    cv=2,
).fit(X_train, y_train)

print("prototypes  cluster_weight  accuracy  purity  used in a decision")
found = search.cv_results_
for i, setting in enumerate(found["params"]):
    chosen = "  <- chosen" if i == search.best_index_ else ""
    print(
        f"{setting['n_prototypes_per_class']:10}  {setting['cluster_weight']:14}  "
        f"{found['mean_test_accuracy'][i]:8.2f}  {found['mean_test_purity'][i]:6.2f}  "
        f"{-found['mean_test_size'][i]:18.1f}{chosen}"
    )

# %%
# One decision of the chosen model:

case = search.best_estimator_.explain(X_test[:1])
case.verify()
answer = case.plot()
