"""Images a second in training and prediction, on the CPU and on a GPU.

On the GPU half precision, channels-last and ``torch.compile`` come one by one and
together, so that each is measured for itself. ``--all`` measures them on the CPU, too.
"""

import argparse
import time
from statistics import median

import numpy as np
import torch
from skorch.callbacks import Callback

from skproto import ProtoPNetClassifier, ProtoTreeClassifier, ProtoViTClassifier

OPTIONS = {
    "plain": {},
    "bf16 autocast": {"autocast": "bfloat16"},
    "channels-last": {"channels_last": True},
    "compile": {"compile": True},
    "all three": {"autocast": "bfloat16", "channels_last": True, "compile": True},
}
QUICK = {"project_prototypes": False, "random_state": 0}
MODELS = {
    "ProtoPNet": (ProtoPNetClassifier, {"pretrain_epochs": 0, "head_solver": None}),
    "ProtoTree": (ProtoTreeClassifier, {"depth": 9, "pretrain_epochs": 0}),
    "ProtoViT": (ProtoViTClassifier, {"slot_epochs": 0, "head_solver": None}),
}


class EpochTimes(Callback):
    """Seconds of every epoch, the device's queue of work included."""

    def on_epoch_begin(self, net, **kwargs):
        self.start = now(net.device)

    def on_epoch_end(self, net, **kwargs):
        self.seconds = [*getattr(self, "seconds", []), now(net.device) - self.start]


def now(device):
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(name, device, option, X, y, settings):
    kind, own = MODELS[name]
    times = EpochTimes()
    net_params = {"callbacks": [times], **OPTIONS[option]}
    model = kind(device=device, net_params=net_params, **QUICK, **own, **settings)
    model.fit(X, y)
    start = now(device)
    model.predict(X)
    # The first epoch compiles and fills caches.
    epoch, predicted = median(times.seconds[1:]), now(device) - start
    print(
        f"  {name}, {device}, {option}: training {len(X) / epoch:,.0f}, prediction "
        f"{len(X) / predicted:,.0f} images a second (first epoch "
        f"{times.seconds[0]:.1f} s, others {epoch:.1f} s)",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--only", choices=list(MODELS))
    parser.add_argument("--all", action="store_true", help="all options on the CPU")
    options = parser.parse_args()
    rng = np.random.RandomState(0)
    shape = (options.images, options.channels, options.side, options.side)
    X, y = rng.randint(0, 256, shape).astype(np.uint8), np.arange(options.images) % 10
    settings = {"max_epochs": options.epochs, "batch_size": options.batch}
    plans = [("cpu", option) for option in (OPTIONS if options.all else ["plain"])]
    if torch.cuda.is_available():
        plans += [("cuda", option) for option in OPTIONS]
    else:
        print("  no GPU here")
    for name in [options.only] if options.only else MODELS:
        for device, option in plans:
            measure(name, device, option, X, y, settings)


if __name__ == "__main__":
    main()
