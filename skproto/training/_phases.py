"""Phases: which parameters move, how fast and for how long."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch

from skproto.nn.encoders import frozen_parameters
from skproto.training._callbacks import TermRecorder
from skproto.training._data import BatchDataset, BatchLoader
from skproto.training._net import PhaseEndError, PrototypeNet, WeightedTerms

SOLVERS = ("lbfgs", "adam", "adamw")


@dataclass(frozen=True)
class Phase:
    """A stretch of training under one rule.

    Parameters
    ----------
    name : str
        Name shown in the history.

    max_epochs : int
        Passes over the data; for ``solver="lbfgs"`` its iterations.

    lr : float
        Learning rate of the parameters that `group_lr` does not name. L-BFGS finds
        its own step length and ignores it.

    solver : {"lbfgs", "adam", "adamw"}, default="adam"
        "lbfgs" uses all data at once with a strong Wolfe line search.

    trainable : tuple of str or None, default=None
        Prefixes of the names of the parameters that move; None: all.

    group_lr : dict of str to float, default={}
        Learning rate by prefix of the parameter's name.

    callbacks : tuple of skorch callbacks, default=()
        Callbacks of this phase alone.

    group_decay : dict of str to float, default={}
        Weight decay by prefix of the parameter's name; none elsewhere.

    term_weights : dict of str to float, default={}
        Weights of loss terms, by name, that differ in this phase.

    Examples
    --------
    >>> from skproto.training import Phase
    >>> warm_up = Phase("warm-up", 5, 0.003, trainable=("prototypes", "head"))
    >>> joint = Phase("joint", 20, 0.001, "adamw", group_lr={"encoder": 1e-4})
    >>> joint.solver, joint.max_epochs
    ('adamw', 20)
    """

    name: str
    max_epochs: int
    lr: float
    solver: str = "adam"
    trainable: tuple[str, ...] | None = None
    group_lr: Mapping[str, float] = field(default_factory=dict)
    callbacks: tuple[Any, ...] = ()
    group_decay: Mapping[str, float] = field(default_factory=dict)
    term_weights: Mapping[str, float] = field(default_factory=dict)


def make_net(
    module: torch.nn.Module,
    terms: Sequence[Any],
    *,
    callbacks: Sequence[Any] = (),
    net_params: Mapping[str, Any] | None = None,
    **settings: Any,
) -> PrototypeNet:
    """Build the net that trains `module`.

    Parameters
    ----------
    module : nn.Module
        Returns a dict of tensors.

    terms : sequence of LossTerm
        Named, weighted terms of the loss.

    callbacks : sequence of skorch callbacks
        Callbacks beside the one that records the terms.

    net_params : mapping, default=None
        Parameters of the skorch net that the user sets; they have the last word, and
        their callbacks come on top.

    **settings : object
        Parameters of the skorch net that the estimator sets.

    Returns
    -------
    net : PrototypeNet
        Not initialised yet.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import CrossEntropy, RBFNetwork
    >>> from skproto.training import make_net
    >>> net = make_net(RBFNetwork(4, 2, 3, "linear"), [CrossEntropy()], batch_size=32)
    >>> type(net).__name__, net.batch_size
    ('PrototypeNet', 32)
    """
    overrides = dict(net_params or {})
    own = [("terms", TermRecorder()), *callbacks]
    overrides["callbacks"] = [*own, *overrides.pop("callbacks", [])]
    settings = {
        "optimizer": torch.optim.Adam,
        "train_split": None,
        "iterator_train": BatchLoader,
        "iterator_train__shuffle": True,
        "iterator_valid": BatchLoader,
        "fixed_params": frozenset(net_params or {}),
        "verbose": 0,
        **settings,
        **overrides,
    }
    if settings["verbose"] < 1:
        settings.setdefault("callbacks__print_log", None)
    if settings["iterator_train"] is not BatchLoader:
        settings.pop("iterator_train__generator", None)
    return PrototypeNet(module, criterion=WeightedTerms(terms), **settings)


def run_phases(
    net: PrototypeNet,
    phases: Sequence[Phase],
    dataset: BatchDataset,
    held_out: BatchDataset | None = None,
) -> bool:
    """Train `net` through `phases`; return False if the user interrupted it.

    Parameters
    ----------
    net : PrototypeNet
        Initialised here if it is not yet.

    phases : sequence of Phase
        What to do, in order.

    dataset, held_out : BatchDataset
        Training samples, and those kept back for early stopping.

    Returns
    -------
    finished : bool
        False if the user interrupted the training.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from torch import nn
    >>> from skproto.nn import CrossEntropy
    >>> from skproto.training import BatchDataset, Phase, TrainingData
    >>> from skproto.training import make_net, run_phases
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.linear = nn.Linear(2, 2)
    ...     def forward(self, x):
    ...         return {"scores": self.linear(x)}
    >>> X = np.eye(2, dtype=np.float32).repeat(3, axis=0)
    >>> y, rng = np.array([0, 0, 0, 1, 1, 1]), np.random.RandomState(0)
    >>> data = TrainingData(X, y, np.ones(6), np.arange(6), 2, rng)
    >>> net = make_net(Net(), [CrossEntropy()])
    >>> phases = [Phase("first", 2, 0.1), Phase("second", 5, 1.0, "lbfgs")]
    >>> run_phases(net, phases, BatchDataset(data))
    True
    >>> net.history[-1, "phase"]
    'second'
    """
    if not net.initialized_:
        net.initialize()
    if held_out is not None:
        net.train_split = lambda train, y=None, **kwargs: (train, held_out)
    try:
        with net.compiled():
            for phase in phases:
                _run_phase(net, phase, dataset)
    except KeyboardInterrupt:
        warnings.warn(
            f"Training was interrupted after {len(net.history)} epochs; the estimator "
            "is usable as it stands.",
            UserWarning,
            stacklevel=4,
        )
        return False
    finally:
        net.train_split = None
        net.module_.requires_grad_(True)
        net.module_.eval()
    return True


def _run_phase(net, phase, dataset) -> None:
    moving = _select(net.module_, phase.trainable) - frozen_parameters(net.module_)
    for name, parameter in net.module_.named_parameters():
        parameter.requires_grad_(name in moving)
    _set_optimizer(net, phase, len(dataset))
    net.criterion_.weights = dict(phase.term_weights)
    extra = [
        (f"{phase.name}_{i}", callback.initialize())
        for i, callback in enumerate(phase.callbacks)
    ]
    standing = net.callbacks_
    net.callbacks_ = [*standing, *extra]
    n_before = len(net.history)
    try:
        net.notify("on_train_begin", X=dataset, y=None)
        net.fit_loop(dataset, None, epochs=phase.max_epochs)
    except PhaseEndError:
        pass
    finally:
        for row in net.history[n_before:]:
            row["phase"] = phase.name
        if len(net.history):
            net.notify("on_train_end", X=dataset, y=None)
        net.callbacks_ = standing
        net.criterion_.weights = {}


def _set_optimizer(net, phase, n_samples) -> None:
    for name in [n for n in vars(net) if n.startswith("optimizer__")]:
        if name not in net.fixed_params:
            delattr(net, name)
    for name, value in _optimizer_settings(phase, n_samples).items():
        if name not in net.fixed_params:
            setattr(net, name, value)
    net._initialize_optimizer()


def _select(module, prefixes: tuple[str, ...] | None) -> set[str]:
    names = [name for name, _ in module.named_parameters()]
    if prefixes is None:
        return set(names)
    return {name for name in names if name.startswith(prefixes)}


def _optimizer_settings(phase: Phase, n_samples: int) -> dict[str, Any]:
    if phase.solver == "lbfgs":
        return {
            "optimizer": torch.optim.LBFGS,
            "lr": 1.0,
            "batch_size": n_samples,
            "optimizer__max_iter": 1,
            "optimizer__max_eval": 30,
            "optimizer__history_size": 20,
            "optimizer__line_search_fn": "strong_wolfe",
            "optimizer__tolerance_grad": 1e-9,
            "optimizer__tolerance_change": 1e-12,
        }
    optimizers = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    settings: dict[str, Any] = {"optimizer": optimizers[phase.solver], "lr": phase.lr}
    if phase.solver == "adamw":
        # torch's own default would pull every parameter to 0.
        settings["optimizer__weight_decay"] = 0.0
    # The first pattern that fits takes a parameter: longer prefixes come first.
    prefixes = sorted({*phase.group_lr, *phase.group_decay}, key=len, reverse=True)
    if prefixes:
        settings["optimizer__param_groups"] = [
            (f"{prefix}*", _group_settings(phase, prefix)) for prefix in prefixes
        ]
    return settings


def _group_settings(phase: Phase, prefix: str) -> dict[str, float]:
    """Return rate and decay of a prefix, those of the longest prefixes that fit it."""
    settings = {}
    for name, table in (("lr", phase.group_lr), ("weight_decay", phase.group_decay)):
        fitting = [known for known in table if prefix.startswith(known)]
        if fitting:
            settings[name] = float(table[max(fitting, key=len)])
    return settings


def history_frame(net: PrototypeNet) -> pd.DataFrame:
    """Return the history as a frame: one row an epoch, one column a loss term.

    Parameters
    ----------
    net : PrototypeNet
        Trained by :func:`run_phases`.

    Returns
    -------
    frame : pandas DataFrame
        Epoch, phase, losses and seconds come first.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from torch import nn
    >>> from skproto.nn import CrossEntropy
    >>> from skproto.training import BatchDataset, Phase, TrainingData
    >>> from skproto.training import history_frame, make_net, run_phases
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.linear = nn.Linear(2, 2)
    ...     def forward(self, x):
    ...         return {"scores": self.linear(x)}
    >>> X = np.eye(2, dtype=np.float32).repeat(3, axis=0)
    >>> y, rng = np.array([0, 0, 0, 1, 1, 1]), np.random.RandomState(0)
    >>> data = TrainingData(X, y, np.ones(6), np.arange(6), 2, rng)
    >>> net = make_net(Net(), [CrossEntropy()])
    >>> _ = run_phases(net, [Phase("all", 3, 0.1)], BatchDataset(data))
    >>> history_frame(net).columns.tolist()
    ['epoch', 'phase', 'train_loss', 'dur', 'cross_entropy']
    """
    hidden = {"batches", "train_batch_count", "valid_batch_count"}
    rows = []
    for row in net.history:
        kept = {k: v for k, v in row.items() if k not in hidden}
        rows.append({k: v for k, v in kept.items() if not k.endswith("_best")})
    frame = pd.DataFrame(rows)
    first = [c for c in ("epoch", "phase", "train_loss", "valid_loss") if c in frame]
    return frame[first + [c for c in frame.columns if c not in first]]
