"""Features of a table as tokens, for models whose prototypes are sets of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FeatureTokens(nn.Module):
    r"""One token for each feature: :math:`t_j = x_j e_j + b_j`.

    The direction of a token says which feature it is and how large its value, so that
    a prototype of M parts is up to M features with values.

    Parameters
    ----------
    n_features : int
        Number of features f.

    dim : int, default=16
        Dimension D of the tokens, at least 2. Larger values keep the tokens of
        different features further apart.

    Raises
    ------
    ValueError
        If `dim` is below 2: a single number has no direction.

    Examples
    --------
    >>> import torch
    >>> FeatureTokens(4)(torch.zeros(2, 4)).shape
    torch.Size([2, 4, 16])
    """

    #: Features have no place: no grid, no neighbours.
    grid = None

    def __init__(self, n_features, dim=16):
        super().__init__()
        if dim < 2:
            raise ValueError(f"dim must be at least 2. Got {dim}.")
        self.direction = nn.Parameter(torch.randn(n_features, dim) / dim**0.5)
        self.offset = nn.Parameter(torch.randn(n_features, dim) / dim**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (n, f, D) of rows (n, f)."""
        return x[..., None] * self.direction + self.offset
