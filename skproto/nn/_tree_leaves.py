"""Leaves that hold expected class counts, and how they learn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skproto.nn import _tree_ops as ops


class CountingLeaves(nn.Module):
    """The leaves of a tree: counts that are renewed by EM or by the paper's rule."""

    leaf_counts: Tensor
    leaf_update: str
    leaf_smoothing: float

    def log_leaves(self) -> Tensor:
        """Return the log class probabilities of the leaves.

        Returns
        -------
        log_leaves : Tensor of shape (L, K)
            From `leaf_counts` by the rule of `leaf_update`; uniform where empty.
        """
        if self.leaf_update == "softmax":
            return torch.log_softmax(self.leaf_counts, dim=1)
        return ops.normalised_leaves(self.leaf_counts, self.leaf_smoothing)

    def leaf_distributions(self) -> Tensor:
        """Return the class probabilities of the leaves.

        Returns
        -------
        leaves : Tensor of shape (L, K), float64
            See :meth:`log_leaves`.
        """
        counts = precise(self.leaf_counts)
        if self.leaf_update == "softmax":
            return torch.softmax(counts, dim=1)
        return ops.normalised_leaves(counts, self.leaf_smoothing).exp()

    @torch.no_grad()
    def em_step(
        self, log_path: Tensor, target: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Replace the leaf counts by one pass of EM with the routing fixed.

        Without smoothing the likelihood of the data never falls. With
        `leaf_update="softmax"` this is the paper's rule in its full-data form.

        Parameters
        ----------
        log_path : Tensor of shape (n, L)
            Routing of the whole data set.
        target : Tensor of shape (n,), int64
            Class positions.
        sample_weight : Tensor of shape (n,) or None, default=None
            Weights of the samples.
        """
        self.leaf_counts.copy_(self.expected_counts(log_path, target, sample_weight))

    @torch.no_grad()
    def expected_counts(
        self, log_path: Tensor, target: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Return the expected class counts under the current leaves.

        Counts of batches add up: sum them and assign the sum to `leaf_counts` for an
        EM pass over data that do not fit at once.

        Parameters
        ----------
        log_path, target, sample_weight : Tensor
            As in :meth:`em_step`.

        Returns
        -------
        counts : Tensor of shape (L, K)
            Column k sums to the weight of class k.
        """
        leaves = self.log_leaves()
        return ops.expected_counts(log_path.detach(), leaves, target, sample_weight)

    @torch.no_grad()
    def blend_leaves(
        self, batch_counts: Tensor, epoch_counts: Tensor, n_batches: int
    ) -> None:
        """Move the leaves by one mini-batch: c <- relu(c - c_old / B) + batch counts.

        After an epoch the old mass is gone and the new mass is in.

        Parameters
        ----------
        batch_counts : Tensor of shape (L, K)
            :meth:`expected_counts` of the batch, routed before the gradient step.
        epoch_counts : Tensor of shape (L, K)
            Copy of `leaf_counts` at the start of the epoch.
        n_batches : int
            Batches B of an epoch.
        """
        faded = (self.leaf_counts - epoch_counts / n_batches).clamp_min(0)
        self.leaf_counts.copy_(faded + batch_counts)


def precise(values: Tensor) -> Tensor:
    """Values in float64, where the device has it."""
    return values if values.device.type == "mps" else values.double()
