"""A learning rate that falls towards the end of a phase."""

from __future__ import annotations

import math

from skorch.callbacks import Callback


class Annealing(Callback):
    """Lower the learning rates of a phase along half a cosine, epoch by epoch.

    Rates are multiplied, so that groups keep their ratios and the user's own
    schedules come on top.

    Parameters
    ----------
    max_epochs : int
        Epochs of the phase; after the last of them the rate would be 0.
    """

    def __init__(self, max_epochs):
        self.max_epochs = max_epochs

    def on_train_begin(self, net, **kwargs):
        """Start anew."""
        self._epoch = 0

    def on_epoch_end(self, net, **kwargs):
        """Lower the rates for the next epoch."""
        before, self._epoch = self._share(), self._epoch + 1
        if self._epoch >= self.max_epochs:
            return
        for group in net.optimizer_.param_groups:
            group["lr"] *= self._share() / before

    def _share(self) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * self._epoch / self.max_epochs))
