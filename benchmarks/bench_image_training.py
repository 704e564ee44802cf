"""Training epochs on images beside the same encoder with a linear head.

ProtoPNet, ProtoTree of depth 9 and ProtoViT train by their own phases: net, losses,
callbacks and reading of bytes included. The yardstick is a plain loop in torch with
the same encoder and optimiser, on images that are scaled beforehand. Before every
epoch of an estimator the yardstick does one, too. Seconds are those of the processor,
which other work on the machine does not change.

``--profile`` shows where the time of an estimator's epochs goes.
"""

import argparse
import cProfile
import pstats
import time
from statistics import median

import numpy as np
import torch
from _common import verdict
from skorch.callbacks import Callback
from torch import nn

from skproto import ProtoPNetClassifier, ProtoTreeClassifier, ProtoViTClassifier
from skproto.nn import ConvEncoder, ViTEncoder

SHAPE, N_CLASSES = (1, 28, 28), 10


class LinearNet(nn.Module):
    """An encoder with a linear head on the mean site, or on the class token."""

    def __init__(self, body):
        super().__init__()
        self.body = body
        self.head = nn.Linear(body.dim, N_CLASSES)

    def forward(self, x):
        z = self.body(x)
        return self.head(z[1] if isinstance(z, tuple) else z.mean((2, 3)))


class PlainLoop:
    """Epochs of a net as one would write them without a library."""

    def __init__(self, body, x, y, batch_size):
        self.net = LinearNet(body).train()
        self.x, self.y, self.batch_size = x, y, batch_size
        self.optimizer = torch.optim.Adam(self.net.parameters(), 1e-3)

    def epoch(self):
        for rows in torch.randperm(len(self.x)).split(self.batch_size):
            self.optimizer.zero_grad()
            scores = self.net(self.x[rows])
            nn.functional.cross_entropy(scores, self.y[rows]).backward()
            self.optimizer.step()


class Alternate(Callback):
    """Time every epoch of a net; before each the plain loop does one."""

    def __init__(self, plain):
        self.plain = plain
        self.ours, self.theirs, self.since = [], [], None

    def stop(self):
        if self.since is not None:
            self.ours.append(time.process_time() - self.since)
            self.since = None

    def on_epoch_begin(self, net, **kwargs):
        self.stop()
        start = time.process_time()
        self.plain.epoch()
        self.since = time.process_time()
        self.theirs.append(self.since - start)

    def on_train_end(self, net, **kwargs):
        self.stop()


def estimators():
    """Name, class, encoder of the yardstick, settings and target of each."""
    quick = {"project_prototypes": False, "random_state": 0}
    net = {**quick, "pretrain_epochs": 0, "head_solver": None}
    tree = {**quick, "depth": 9, "pretrain_epochs": 0, "refit_passes": 0}
    vit = {**quick, "slot_epochs": 0, "head_solver": None}
    return [
        ("ProtoPNet", ProtoPNetClassifier, ConvEncoder, net, 1.15),
        ("ProtoTree of depth 9", ProtoTreeClassifier, ConvEncoder, tree, 1.3),
        ("ProtoViT", ProtoViTClassifier, ViTEncoder, vit, 1.5),
    ]


def make_images(n_images):
    """Images in bytes that differ a little by class, and labels."""
    rng = np.random.RandomState(0)
    y = np.arange(n_images) % N_CLASSES
    X = rng.randint(0, 200, (n_images, *SHAPE)).astype(np.uint8)
    X[np.arange(n_images), 0, 2 * y + 4] = 255
    return X, y


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=3072)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--only", default="")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    X, y = make_images(options.images)
    x = torch.from_numpy(((X - X.mean()) / X.std()).astype(np.float32))
    for name, kind, body, settings, target in estimators():
        if not name.lower().startswith(options.only.lower()):
            continue
        torch.manual_seed(0)
        plain = PlainLoop(body(SHAPE), x, torch.from_numpy(y), options.batch)
        times = Alternate(plain)
        model = kind(
            max_epochs=options.epochs,
            batch_size=options.batch,
            net_params={"callbacks": [times]},
            **settings,
        )
        with cProfile.Profile() as profile:
            if not options.profile:
                profile.disable()
            model.fit(X, y)
        # The first epochs are slower: memory is new.
        ours, theirs = median(times.ours[1:]), median(times.theirs[1:])
        print(
            f"  {name}: epoch of {options.images} images {ours:.2f} s, linear head "
            f"{theirs:.2f} s, ratio {ours / theirs:.2f} "
            + verdict(ours / theirs, target, at_least=False),
            flush=True,
        )
        if options.profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(35)


if __name__ == "__main__":
    main()
