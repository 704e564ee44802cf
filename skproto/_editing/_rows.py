"""Training some prototypes and nothing else: they are a parameter of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skproto._editing._constraints import Constraint, settle
from skproto.training import TrainingData
from skproto.training._net import WeightedTerms

# Samples of a batch, and entries of encoded samples that are kept between steps.
BATCH_SAMPLES, CACHED_ENTRIES = 1024, 2**26


@dataclass(frozen=True)
class RowTraining:
    """How some prototypes are trained.

    Parameters
    ----------
    free : ndarray of int of shape (F,)
        Positions of the prototypes that move; all others keep their bits.

    constraints : mapping of int to Ball or Cap
        By position, projected onto after every step.

    n_steps, lr : int, float
        Steps of Adam, without weight decay, and their learning rate.

    everything : bool
        Whether the encoder, the metric and all else but the head learn too.

    lr_encoder : float or None
        Learning rate of all that is no prototype; None: the same.

    seed : int
        Source of the order of batches.

    beside : tuple of str
        Parameters of the module with one entry for each prototype, such as radii:
        those of the prototypes that move learn with them, all others keep their bits.
    """

    free: NDArray[np.int64]
    constraints: Mapping[int, Constraint] = field(default_factory=dict)
    n_steps: int = 100
    lr: float = 0.01
    everything: bool = False
    lr_encoder: float | None = None
    seed: int = 0
    beside: tuple[str, ...] = ()


def train_rows(
    module: nn.Module, terms: list[Any], data: TrainingData, plan: RowTraining
) -> None:
    """Train the rows of `module.prototypes` that a plan names, in place.

    The parameter is taken out of the module, and put together in every step from the
    rows that stay and those that are free, so that neither decay nor the memory of an
    optimiser can touch the others.

    Parameters
    ----------
    module : nn.Module
        With a parameter `prototypes` and an `encoder`.

    terms : list of LossTerm
        The loss.

    data : TrainingData
        Samples.

    plan : RowTraining
        What moves and how.
    """
    names = ("prototypes", *plan.beside)
    whole: dict[str, Any] = {name: module._parameters.pop(name) for name in names}
    fixed = {name: value.detach().clone() for name, value in whole.items()}
    rows = torch.from_numpy(np.asarray(plan.free)).to(fixed["prototypes"].device)
    free = {name: nn.Parameter(value[rows].clone()) for name, value in fixed.items()}
    others = _others(module) if plan.everything else []
    for parameter in module.parameters():
        parameter.requires_grad_(any(parameter is other for other in others))
    slower = plan.lr if plan.lr_encoder is None else plan.lr_encoder
    groups: list[dict[str, Any]] = [{"params": [*free.values()]}]
    if others:
        groups.append({"params": others, "lr": slower})
    optimizer = torch.optim.Adam(groups, lr=plan.lr, weight_decay=0.0)
    criterion = WeightedTerms(terms)
    module.train()
    encoder: Any = module.encoder
    encoder.eval()
    try:
        for x, target, weight in _batches(module, data, plan):
            for name in names:
                setattr(module, name, fixed[name].index_put((rows,), free[name]))
            loss, _ = criterion(module(x), target, weight, module)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            _constrain(module, free["prototypes"], plan)
    finally:
        for name in names:
            vars(module).pop(name, None)
            with torch.no_grad():
                fixed[name][rows] = free[name].detach()
                whole[name].copy_(fixed[name])
            setattr(module, name, whole[name])
        module.requires_grad_(True)
        module.eval()


def _others(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters beside prototypes and head."""
    return [p for name, p in module.named_parameters() if not name.startswith("head")]


def _constrain(module: Any, free: nn.Parameter, plan: RowTraining) -> None:
    """Project onto the constraints."""
    if not torch.isfinite(free).all():
        raise ValueError(
            "The prototypes became infinite or NaN while they were repaired; use a "
            f"smaller repair_lr. Got {plan.lr}."
        )
    for row, position in enumerate(plan.free.tolist()):
        constraint = plan.constraints.get(position)
        if constraint is not None:
            with torch.no_grad():
                p = settle(constraint, free[row].cpu().numpy())
                free[row] = torch.from_numpy(p).to(free)
    constrain = getattr(module, "constrain_rows_", None)
    if constrain is not None:
        constrain(free)


def _batches(module: Any, data: TrainingData, plan: RowTraining):
    """Yield batches of samples, or of their sites where the encoder stays."""
    device = next(iter(module.buffers()), torch.zeros(())).device
    cached = _sites(module, data, plan, device)
    y = torch.from_numpy(np.asarray(data.y))
    weight = torch.from_numpy(np.asarray(data.weight, dtype=np.float32))
    rng = np.random.RandomState(plan.seed)
    n_samples, size = len(data), BATCH_SAMPLES
    if plan.everything and cached is None:
        size = 128
    order = np.arange(n_samples)
    start = n_samples
    for _ in range(plan.n_steps):
        if start >= n_samples:
            start = 0
            if n_samples > size:
                order = rng.permutation(n_samples)
        index = order[start : start + size]
        start += size
        if cached is not None:
            x = cached[torch.from_numpy(index)]
        else:
            x = torch.from_numpy(data.dense(index))
        rows = torch.from_numpy(index)
        yield x.to(device), y[rows].to(device), weight[rows].to(device)


def _sites(module: Any, data: TrainingData, plan: RowTraining, device):
    """Return the sites of all samples before the add-on, None if not worth keeping."""
    encoder = module.encoder
    kept = len(data) * encoder.n_sites * getattr(encoder, "dim", 1) <= CACHED_ENTRIES
    if (
        encoder.body is None
        or plan.everything
        or getattr(module, "needs_samples", False)
        or len(data.input_shape) == 2
        or not kept
    ):
        return None
    with torch.no_grad():
        parts = [
            encoder.body_sites(torch.from_numpy(data.dense(rows)).to(device)).cpu()
            for rows in data.chunks()
        ]
    return torch.cat(parts)
