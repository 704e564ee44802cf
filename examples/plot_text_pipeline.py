"""
Texts in a pipeline: which messages is this one like?
=====================================================

TF-IDF makes a sparse table of messages. Prototypes on top of it are messages of the
training set, and an explanation names them and the words that count.
"""

# %%
# Messages to a help desk
# -----------------------
# Small texts put together from phrases, so that the script needs no download: three
# desks, words that are theirs, and words that all share.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from skproto import RBFClassifier

PHRASES = {
    "billing": [
        "the invoice shows the wrong amount",
        "I was charged twice this month",
        "please send a refund to my account",
        "the discount is missing on my bill",
        "my card was declined at payment",
    ],
    "delivery": [
        "the parcel has not arrived",
        "tracking says delivered but the box is not here",
        "the courier left it with a neighbour",
        "the package came damaged",
        "can you change the delivery address",
    ],
    "account": [
        "I forgot my password",
        "the login page shows an error",
        "please delete my profile",
        "the code by text never comes",
        "my email address has changed",
    ],
}
FRAMES = [
    "hello",
    "thank you",
    "since yesterday",
    "please help",
    "it is urgent",
    "again",
]

rng = np.random.default_rng(0)
texts, desks = [], []
for desk, phrases in PHRASES.items():
    others = [phrase for key in PHRASES if key != desk for phrase in PHRASES[key]]
    for _ in range(100):
        parts = [*rng.choice(phrases, 2, replace=False), *rng.choice(FRAMES, 2)]
        if rng.random() < 0.3:  # some mention something else, too
            parts.append(rng.choice(others))
        texts.append(", ".join(rng.permutation(parts)))
        desks.append(desk)
train, test, y_train, y_test = train_test_split(
    texts, desks, stratify=desks, random_state=0
)
print(train[0])

# %%
# The pipeline
# ------------
# The table of words stays sparse. With ``project_prototypes=True`` a prototype is a
# message that was written, not a mean of many.

pipeline = make_pipeline(
    TfidfVectorizer(),
    RBFClassifier(5, project_prototypes=True, random_state=0),
).fit(train, y_train)
words, model = pipeline
print(f"{len(words.vocabulary_)} words, accuracy {pipeline.score(test, y_test):.3f}")

# %%
# How similar the test messages are to the 15 prototypes: three blocks, and a few
# messages that speak of something else as well.

order = np.argsort(y_test, kind="stable")
similarity = model.transform(words.transform(test))[order]
fig, ax = plt.subplots(figsize=(7, 4.4), layout="constrained")
shown = ax.imshow(similarity, cmap="Greys", aspect="auto", interpolation="nearest")
fig.colorbar(shown, label="similarity")
middle = [np.mean(np.flatnonzero(np.sort(y_test) == desk)) for desk in model.classes_]
ax.set_yticks(middle, model.classes_)
ax.set_xticks([2, 7, 12], model.classes_)
for k in (1, 2):
    ax.axvline(5 * k - 0.5, color="#0072B2", linewidth=2)
    ax.axhline(25 * k - 0.5, color="#0072B2", linewidth=2)
ax.set_xlabel("prototypes of")
ax.set_ylabel("messages to")

# %%
# The messages that the model knows
# ---------------------------------

for label, row in zip(model.prototype_labels_, model.prototype_indices_, strict=True):
    print(f"{label:9} {train[row]}")

# %%
# A new message
# -------------
# It speaks of two things. The explanation reads the numbers of training rows; with the
# texts at hand they become messages again.

message = "hello, I was charged twice, and the parcel came damaged, please help"
inside = words.transform([message])
case = model.explain(inside)
case.verify()
print(message)
print(f"goes to: {case.prediction[0]}\n")
frame = case.to_frame()
frame = frame[frame["class"] == case.prediction[0]]
frame = frame.sort_values("contribution", key=np.abs, ascending=False)
for _, line in frame.head(4).iterrows():
    source = train[int(line["training_row"])]
    print(f"{line['contribution']:+.2f}  {line['prototype_label']}: {source}")

# %%
# Which words did it? Leave out one after the other and see how the lead of the first
# desk over the second changes: for a text the answer is exact and takes one call.

found = message.replace(",", "").split()
without = [" ".join(found[:i] + found[i + 1 :]) for i in range(len(found))]
first, second = np.argsort(pipeline.decision_function([message])[0])[::-1][:2]


def lead(messages):
    scores = pipeline.decision_function(messages)
    return scores[:, first] - scores[:, second]


effect = lead([message]) - lead(without)
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
colors = np.where(effect > 0, "#0072B2", "#E69F00")
hatches = np.where(effect > 0, "", "///")
ax.bar(range(len(found)), effect, color=colors, hatch=list(hatches), edgecolor="black")
ax.axhline(0, color="black", linewidth=1)
ax.set_xticks(range(len(found)), found, rotation=45, ha="right")
ax.set_ylabel(f"speaks for {model.classes_[first]}\nagainst {model.classes_[second]}")
ax.set_title("What each word adds to the lead")
