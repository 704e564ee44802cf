"""
An encoder of one's own, frozen
===============================

Prototypes on top of a network that was trained before: it is given as `encoder`, stays
as it is, and sees every image once.
"""

# %%
# The encoder
# -----------
# ``from_transformers("facebook/dinov2-small", resize=224)`` would load pretrained
# weights. To run anywhere this script makes do with a small net, which learns to tell
# the digits from 0 to 4, and is then used for those from 5 to 9, which it has not seen.

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from skproto import ProtoPNetClassifier, ProtoViTClassifier

torch.manual_seed(0)
torch.set_num_threads(1)  # on images as small as these more threads are slower
X, y = load_digits(return_X_y=True)
images = X.reshape(-1, 8, 8).astype("float32")


class Backbone(nn.Sequential):
    """Returns a map of 32 channels on 4 x 4 places."""

    # Mean and standard deviation of the pixels that it is trained with: an estimator
    # that finds this attribute brings images to it.
    normalization = ([4.9], [6.0])

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
        )


known = y < 5
x = (torch.from_numpy(images[known])[:, None] - 4.9) / 6.0
target = torch.from_numpy(y[known]).long()
backbone, head = Backbone(), nn.Linear(32, 5)
optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=3e-3)
for _ in range(30):
    for rows in torch.randperm(len(x)).split(64):
        optimizer.zero_grad()
        logits = head(backbone(x[rows]).amax(dim=(2, 3)))
        loss = nn.functional.cross_entropy(logits, target[rows])
        loss.backward()
        optimizer.step()
print(f"loss on digits from 0 to 4 at the end: {loss.item():.3f}")

# %%
# Prototypes on top
# -----------------
# With ``frozen=True`` the sites of all images are computed once and kept, and only the
# prototypes, the two layers below them and the head learn. Otherwise the encoder learns
# along at ``encoder_lr``, after some epochs of warm-up.

X_train, X_test, y_train, y_test = train_test_split(
    images[~known], y[~known], test_size=0.3, stratify=y[~known], random_state=0
)
for frozen in (False, True):
    model = ProtoPNetClassifier(
        encoder=backbone, frozen=frozen, encoder_lr=2e-4, max_epochs=20, random_state=0
    ).fit(X_train, y_train)
    learned = "stays as it is" if frozen else "learns along"
    print(f"the encoder {learned:14}: accuracy {model.score(X_test, y_test):.3f}")

# %%
# The encoder that was given is never changed: every model has a copy of its own.

own = model.net_.module_.encoder.body
same = all(
    torch.equal(given, kept)
    for given, kept in zip(backbone.parameters(), own.parameters(), strict=True)
)
print(f"the frozen model holds the weights that were given: {same}")
print(f"pixels are brought to mean {model.center_[0]:.1f}, scale {model.scale_[0]:.1f}")

# %%
# Sites from elsewhere
# --------------------
# Embeddings that exist already are given as they are, (n, tokens, dimensions), with
# ``encoder="tokens"``. A prototype of ProtoViT is up to three of them.


def sites(samples):
    with torch.no_grad():
        maps = backbone((torch.from_numpy(samples)[:, None] - 4.9) / 6.0)
    return maps.flatten(2).transpose(1, 2).numpy()


tokens = ProtoViTClassifier(
    encoder="tokens", unique_sources=True, max_epochs=20, random_state=0
)
tokens.fit(sites(X_train), y_train)
print(f"prototypes of three tokens: accuracy {tokens.score(sites(X_test), y_test):.3f}")
print(tokens.explain(sites(X_test[:1])))

# %%
# One digit explained
# -------------------
# A cell is 2 x 2 pixels. Two convolutions with a pooling between them see 8 x 8 pixels
# around it, of which the dashed box holds those that count.

case = model.explain(X_test[:1])
case.verify()
answer = case.plot()

if len(sys.argv) > 1:
    picture = Path(sys.argv[1]) / "frozen.png"
    answer.figure.savefig(picture, dpi=100)
    print(f"picture: {picture}")
