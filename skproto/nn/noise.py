"""Random changes of rows and tokens that keep their class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureNoise:
    """Add Gaussian noise to features, and set some of them to their mean.

    Random numbers come from torch's global generator of the batch's device, which
    estimators seed by `random_state`.

    Parameters
    ----------
    noise : float, default=0.1
        Standard deviation of the noise, in those of the features.

    drop : float, default=0.0
        Probability with which a feature is set to 0, the mean of the training
        samples.

    Raises
    ------
    ValueError
        If `noise` is negative or `drop` is not in [0, 1).

    Examples
    --------
    >>> import torch
    >>> FeatureNoise()(torch.zeros(5, 3)).shape
    torch.Size([5, 3])
    """

    noise: float = 0.1
    drop: float = 0.0

    def __post_init__(self):
        if not self.noise >= 0:
            raise ValueError(f"noise must be a float of at least 0, got {self.noise!r}")
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop must be a float in [0, 1), got {self.drop!r}")

    def __call__(self, x: Tensor) -> Tensor:
        """Return changed samples of the shape of `x`; `x` is left as it is."""
        changed = x + self.noise * torch.randn_like(x)
        if self.drop:
            changed = changed.masked_fill(torch.rand_like(x) < self.drop, 0.0)
        return changed
