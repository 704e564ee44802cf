"""Pairs (own unit, rival unit) of samples, shared by all certificates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True, eq=False)
class ConceptPairs:
    """Pairs (own unit, rival unit) of every sample.

    Attributes
    ----------
    own : LongTensor of shape (n, r)
        Positions of the units of the target class, padded to the largest class.

    valid : BoolTensor of shape (n, r)
        False where `own` is padding.

    rivals : BoolTensor of shape (n, M)
        True for the units of all other classes.
    """

    own: Tensor
    valid: Tensor
    rivals: Tensor

    def worst_rival(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the minimum over rivals of the maximum over own units.

        Parameters
        ----------
        values : Tensor of shape (n, r, M)
            One number for each pair.

        Returns
        -------
        value : Tensor of shape (n,)
            ``min_j max_i values[:, i, j]``.

        own : LongTensor of shape (n,)
            Unit of the target class that attains it.

        rival : LongTensor of shape (n,)
            Unit of another class that attains it.
        """
        masked = values.masked_fill(~self.valid[:, :, None], -math.inf)
        best, position = masked.max(dim=1)
        worst, rival = best.masked_fill(~self.rivals, math.inf).min(dim=1)
        position = position.gather(1, rival[:, None])
        return worst, self.own.gather(1, position).squeeze(1), rival


def concept_pairs(labels: Tensor, target: Tensor) -> ConceptPairs:
    """List the own and the rival units of every sample.

    Parameters
    ----------
    labels : LongTensor of shape (M,)
        Class of each unit (prototype or concept), counted from 0.

    target : LongTensor of shape (n,)
        Class that is to be kept.

    Returns
    -------
    ConceptPairs
        Own units, padding mask and rival mask.

    Raises
    ------
    ValueError
        If `labels` holds a single class or a class in `target` owns no unit.
    """
    if bool((labels == labels[0]).all()):
        raise ValueError(
            "labels must hold at least two classes, got a single class "
            f"{int(labels[0])} for {labels.numel()} units."
        )
    counts = torch.bincount(labels)
    known = (target >= 0) & (target < counts.numel())
    known &= counts[target.clamp(0, counts.numel() - 1)] > 0
    if not bool(known.all()):
        raise ValueError(
            f"target must name classes that own a unit, got {int(target[~known][0])}; "
            f"allowed are {counts.nonzero().flatten().tolist()}."
        )
    rank = torch.arange(int(counts.max()), device=labels.device)
    start = (counts.cumsum(0) - counts)[target]
    slot = (start[:, None] + rank).clamp(max=labels.numel() - 1)
    return ConceptPairs(
        own=labels.argsort(stable=True)[slot],
        valid=rank < counts[target][:, None],
        rivals=labels != target[:, None],
    )


def toward_zero(value: Tensor, slack: Tensor) -> Tensor:
    """Move `value` by the rounding error `slack` towards zero."""
    slack = slack.detach()
    return value - value.clamp(min=-slack, max=slack)
