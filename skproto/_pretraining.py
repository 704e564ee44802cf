"""A start for encoders of random weights: trained under a linear classifier first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from skorch.callbacks import LRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from skproto.nn.encoders import SiteEncoder
from skproto.nn.losses import CrossEntropy
from skproto.training import (
    BatchDataset,
    BatchLoader,
    Phase,
    TrainingData,
    history_frame,
    make_net,
    run_phases,
)

# Learning rate at the peak of the one cycle, and samples of a batch.
PEAK, BATCH = 0.01, 128


class SiteClassifier(nn.Module):
    """A linear classifier on the largest value of every channel over the sites.

    Parameters
    ----------
    encoder : SiteEncoder
        Maps samples to sites (n, T, D).

    n_classes : int
        Number of classes.
    """

    def __init__(self, encoder, n_classes):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.dim, n_classes)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return "scores" (n, K)."""
        return {"scores": self.head(self.encoder(x).amax(1))}


def pretrain(encoder: SiteEncoder, data: TrainingData, n_epochs: int, **settings: Any):
    """Train the body of an encoder to tell the classes apart.

    Parameters
    ----------
    encoder : SiteEncoder
        Its body is changed in place; an add-on is left as it is.

    data : TrainingData
        Samples.

    n_epochs : int
        Passes over the data, one cycle of the learning rate.

    **settings : object
        Settings of the net, such as `device` and `augment`.

    Returns
    -------
    history : DataFrame
        One row an epoch.
    """
    add_on, encoder.add_on = encoder.add_on, None
    dim = encoder.dim
    try:
        encoder.probe("pretraining")
        module = SiteClassifier(encoder, data.n_classes)
        generator = torch.Generator().manual_seed(data.rng.randint(2**31 - 1))
        net = make_net(
            module,
            [CrossEntropy()],
            batch_size=BATCH,
            iterator_train__generator=generator,
            **settings,
        ).initialize()
        dataset = BatchDataset(data)
        n_steps = n_epochs * len(BatchLoader(dataset, BATCH))
        cycle = LRScheduler(
            OneCycleLR, max_lr=PEAK, total_steps=n_steps, step_every="batch"
        )
        phase = Phase("pretraining", n_epochs, PEAK, "adamw", callbacks=(cycle,))
        decay = {"body": 0.01, "encoder": 0.01, "head": 0.01}
        run_phases(net, [replace(phase, group_decay=decay)], dataset)
    finally:
        encoder.add_on, encoder.dim = add_on, dim
    encoder.cpu().train()
    return history_frame(net)
