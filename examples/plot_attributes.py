"""
What prototypes look at: colour or shape
========================================

Two networks classify pictures of coloured figures. In the first set of pictures the
class is the colour and the shape is random; in the second it is the other way round.
The prototypes of both look the same to the eye. Which attribute do they stand for?
"""

# %%
# Coloured figures
# ----------------
# Discs and crosses on dark grey noise. The hues of two classes differ little, so that a
# small turn of the colour circle leads from one to the other. Light and contrast are
# random and tell nothing.

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from skproto import ProtoPNetClassifier, explain_attributes
from skproto.attributes import PrototypeAttributeExplainer

torch.set_num_threads(1)  # on images as small as these more threads are slower
SIDE = 24


def bright(hue):
    k = (np.array([5.0, 3.0, 1.0]) + 6 * hue) % 6
    return 0.9 - 0.8 * np.clip(np.minimum(k, 4 - k), 0, 1)


def figures(by, n, seed):
    rng = np.random.default_rng(seed)
    y, other = rng.integers(0, 2, (2, n))
    hues = 0.16 * (y if by == "colour" else rng.random(n) / 0.16)
    shapes = y if by == "shape" else other
    X = np.repeat(0.3 * rng.random((n, 1, SIDE, SIDE)), 3, axis=1)
    down, across = np.mgrid[:SIDE, :SIDE]
    for image, shape, hue in zip(X, shapes, hues, strict=True):
        row, column = rng.integers(7, SIDE - 7, 2)
        far, near = np.abs(down - row), np.abs(across - column)
        disc = far**2 + near**2 <= 30
        cross = (np.maximum(far, near) <= 6) & (np.minimum(far, near) <= 1)
        image[:, disc if shape == 0 else cross] = bright(hue)[:, None]
    grey = X.mean(axis=(1, 2, 3), keepdims=True)
    X = grey + rng.uniform(0.4, 1, (n, 1, 1, 1)) * (X - grey)
    X *= rng.uniform(0.6, 1, (n, 1, 1, 1))
    return np.clip(X, 0, 1).astype(np.float32), y


# %%
# Two networks
# ------------
# They are alike but for the data.


def network(by):
    layers = []
    for before, after, pool in ((3, 16, True), (16, 32, True), (32, 32, False)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after)]
        layers += [nn.ReLU()] + [nn.MaxPool2d(2)] * pool
    X, y = figures(by, 500, 0)
    model = ProtoPNetClassifier(
        2,
        encoder=nn.Sequential(*layers),
        warm_epochs=0,
        max_epochs=10,
        lr=0.005,
        random_state=0,
    )
    return model.fit(X, y)


torch.manual_seed(0)
models = {by: network(by) for by in ("colour", "shape")}
tests = {by: figures(by, 150, 1) for by in models}
for by, model in models.items():
    print(f"class is the {by}: test accuracy {model.score(*tests[by]):.3f}")

# %%
# What each prototype looks at
# ----------------------------
# One attribute of the pictures is changed, and the fall of the similarity is measured.
# Lengths of the shear are shares of the side; these suit figures of 24 pixels.

strengths = {"shape": {"amplitude": 4 / SIDE, "period": 10 / SIDE}}
shown = {
    by: explain_attributes(
        model, tests[by][0], strengths=strengths, normalize="relative", random_state=0
    )
    for by, model in models.items()
}
for by, result in shown.items():
    print(f"--- class is the {by}")
    print(result)

# %%
# The network that learned colours:

colour = shown["colour"].plot()

# %%
# Red turned by 36 degrees is nearly yellow. The bars of hue are positive for the red
# prototypes, which lose their own class, and negative for the yellow ones, to which red
# figures come to look alike. Both say that these prototypes stand for a colour.
#
# The network that learned shapes:

shape = shown["shape"].plot()

# %%
# Contrast counts in both, since it is changed a lot: strengths of different attributes
# are not comparable. A sweep from no change to the farthest one does not depend on one
# strength; this is the one of the network that learned colours.

explainer = PrototypeAttributeExplainer(
    models["colour"], ["hue", "contrast", "shape"], strengths=strengths, n_resamples=0
)
few = tests["colour"][0][:60]
sweep = explainer.fit(few).sweep(few)
print(sweep.to_frame().groupby("attribute", sort=False)[["area"]].median().round(2))
curves = sweep.plot()

# %%
# One picture
# -----------
# The same for a single test picture and the prototypes that it is most similar to.

case = shown["colour"].local
print(case[[0]])
pair = case.plot(0)

if len(sys.argv) > 1:
    pictures = {"colour": colour, "shape": shape, "sweep": curves, "pair": pair}
    for name, ax in pictures.items():
        picture = Path(sys.argv[1]) / f"{name}.png"
        ax.figure.savefig(picture, dpi=100)
        print(f"picture: {picture}")
