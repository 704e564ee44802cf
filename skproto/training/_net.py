"""The skorch net of every estimator: named loss terms, solvers, stopping."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import torch
from skorch import NeuralNet
from skorch.dataset import unpack_data
from skorch.utils import to_tensor
from torch import nn
from torch.nn.utils import parameters_to_vector


class PhaseEndError(Exception):
    """Raised by a callback that wants the current phase to end.

    Examples
    --------
    >>> from skproto.training import PhaseEndError
    >>> try:
    ...     raise PhaseEndError("the loss stands still")
    ... except PhaseEndError as end:
    ...     print(end)
    the loss stands still
    """


class WeightedTerms(nn.Module):
    """The loss: a weighted sum of named terms.

    Parameters
    ----------
    terms : list of LossTerm
        Objects with `name`, `weight` and a call
        ``term(outputs, target, module)`` that returns one value per sample, which is
        averaged with the sample weights, or a scalar.

    Attributes
    ----------
    weights : dict of str to float
        Weights by name that count instead of the terms' own for now.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import CrossEntropy, MarginLoss
    >>> from skproto.training import WeightedTerms
    >>> loss = WeightedTerms([CrossEntropy(), MarginLoss(1.0, weight=0.5)])
    >>> outputs = {"scores": torch.tensor([[2.0, 0.0]])}
    >>> total, terms = loss(outputs, torch.tensor([0]), torch.ones(1), module=None)
    >>> sorted(terms)
    ['cross_entropy', 'margin']
    """

    def __init__(self, terms):
        super().__init__()
        self.terms = list(terms)
        self.weights: dict[str, float] = {}

    def forward(self, outputs, target, sample_weight, module):
        """Return the total loss and a dict of the unweighted terms, all scalars."""
        values = {}
        total = 0.0
        for term in self.terms:
            value = term(outputs, target, module)
            if value.ndim:
                value = (value * sample_weight).mean()
            values[term.name] = value
            total = total + self.weights.get(term.name, term.weight) * value
        return total, values


class EvaluationMemo:
    """Loss and gradients at the points that L-BFGS visited in its last step.

    The line search of one step ends at a point that it has evaluated; the next step
    begins by evaluating it again. Remembering it saves one evaluation in two.
    """

    def __init__(self):
        self._batch = None
        self._points = []

    def recall(self, batch, parameters):
        """Restore the gradients of the current point; None if it is not known."""
        if batch is not self._batch:
            self.forget(batch)
            return None
        point = parameters_to_vector(parameters)
        for known, gradients, step in self._points:
            if torch.equal(known, point):
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.grad = gradient
                return step
        return None

    def remember(self, parameters, step):
        """Store the current point with its gradients."""
        gradients = [None if p.grad is None else p.grad.clone() for p in parameters]
        point = parameters_to_vector(parameters).detach().clone()
        self._points.append((point, gradients, step))

    def forget(self, batch=None):
        """Drop all points; those to come belong to `batch`."""
        self._batch = batch
        self._points = []


def _as_barrier(step, parameters):
    """Make a trial point without a finite loss one that the line search backs off."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.zero_()
    return {**step, "loss": torch.full_like(step["loss"], torch.inf)}


def _checked_view(view: Any, batch: torch.Tensor) -> torch.Tensor:
    """Return what `augment` made of a batch; raise unless it is such a batch."""
    if isinstance(view, torch.Tensor) and view.shape == batch.shape:
        return view
    got = tuple(view.shape) if isinstance(view, torch.Tensor) else type(view).__name__
    raise ValueError(
        "The 'augment' parameter must return a tensor of the shape of the batch that "
        f"it is given, {tuple(batch.shape)}. Got {got}."
    )


class PrototypeNet(NeuralNet):
    """A skorch net whose loss is a list of named, weighted terms.

    `criterion` is a :class:`WeightedTerms`; batches are
    ``(x, (target, sample_weight))``. Training is run by
    :func:`skproto.training.run_phases`; :meth:`fit` is left to skorch.

    Parameters
    ----------
    module, *args : object
        See :class:`skorch.NeuralNet`. With ``compile=True`` training calls a compiled
        form of the module; `module_` stays as it is, and so do predictions.

    fixed_params : frozenset of str, default=frozenset()
        Names of the parameters that the user has set and no phase may change.

    augment : callable, default=None
        Changes a batch of samples in training: (m, ...) to the same shape.

    n_views : int, default=1
        How often a batch is augmented; the views come one after the other in one
        batch, targets and weights likewise.

    autocast : str, default=None
        Type such as "bfloat16" in which training steps may compute.

    channels_last : bool, default=False
        Whether images lie in memory with the channels last while training.

    **kwargs : object
        See :class:`skorch.NeuralNet`.

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
    >>> net = make_net(Net(), [CrossEntropy()])  # a PrototypeNet
    >>> run_phases(net, [Phase("all", 3, 0.1)], BatchDataset(data))
    True
    >>> len(net.history)
    3
    """

    def __init__(
        self,
        module,
        *args,
        fixed_params=frozenset(),
        augment=None,
        n_views=1,
        autocast=None,
        channels_last=False,
        **kwargs,
    ):
        self.fixed_params = fixed_params
        self.augment = augment
        self.n_views = n_views
        self.autocast = autocast
        self.channels_last = channels_last
        super().__init__(module, *args, **kwargs)

    def infer(self, x, **fit_params):
        """Return the module's outputs, a dict of tensors, for a batch."""
        x = to_tensor(x, device=self.device)
        if self.channels_last and x.ndim == 4:
            x = x.to(memory_format=torch.channels_last)
        module: Any = self.__dict__.get("_compiled", self.module_)
        if self.autocast is None:
            return module(x, **fit_params)
        dtype = getattr(torch, self.autocast)
        with torch.autocast(torch.device(self.device).type, dtype):
            outputs = module(x, **fit_params)
        return {k: v.float() if v.dtype == dtype else v for k, v in outputs.items()}

    def torch_compile(self, module, name):
        """Leave a module as it is: see :meth:`compiled`."""
        return module

    @contextmanager
    def compiled(self):
        """Call a compiled form of the module while the context lasts, if asked for."""
        if self.compile:
            options = self.get_params_for("compile")
            self.__dict__["_compiled"] = torch.compile(self.module_, **options)
        try:
            yield
        finally:
            self.__dict__.pop("_compiled", None)

    def _augmented(self, batch):
        """Return the batch as training sees it: augmented, once for every view."""
        Xi, (target, weight) = unpack_data(batch)
        if self.augment is None and self.n_views == 1:
            return Xi, (target, weight)
        Xi = to_tensor(Xi, device=self.device)
        change = self.augment or (lambda x: x)
        views = [_checked_view(change(Xi), Xi) for _ in range(self.n_views)]
        return torch.cat(views), (
            target.repeat(self.n_views),
            weight.repeat(self.n_views),
        )

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return the total loss and the values of its terms."""
        target, weight = to_tensor(y_true, device=self.device)
        return self.criterion_(y_pred, target, weight, self.module_)

    def train_step_single(self, batch, **fit_params):
        """Compute outputs, loss, terms and gradients for a batch."""
        self._set_training(True)
        Xi, yi = self._augmented(batch)
        outputs = self.infer(Xi, **fit_params)
        loss, terms = self.get_loss(outputs, yi, X=Xi, training=True)
        # A loss that is not finite ends the training; the backward pass of some
        # operations, such as reading between pixels, does not survive its gradients.
        if torch.isfinite(loss):
            loss.backward()
        terms = {name: value.detach() for name, value in terms.items()}
        return {"loss": loss.detach(), "y_pred": outputs, "terms": terms}

    def validation_step(self, batch, **fit_params):
        """Compute outputs, loss and terms for a held-out batch."""
        self._set_training(False)
        Xi, yi = unpack_data(batch)
        with torch.no_grad():
            outputs = self.infer(Xi, **fit_params)
            loss, terms = self.get_loss(outputs, yi, X=Xi, training=False)
        return {"loss": loss, "y_pred": outputs, "terms": terms}

    def train_step(self, batch, **fit_params):
        """Take one optimisation step on a batch."""
        if isinstance(self.optimizer_, torch.optim.LBFGS):
            return self._lbfgs_step(batch, **fit_params)
        step = super().train_step(batch, **fit_params)
        constrain = getattr(self.module_, "constrain_", None)
        if constrain is not None:
            constrain()
        return step

    def _lbfgs_step(self, batch, **fit_params):
        parameters = [p for p in self.module_.parameters() if p.requires_grad]
        memo: EvaluationMemo = self.__dict__.setdefault("_memo", EvaluationMemo())
        first: dict[str, Any] = {}

        def closure():
            step = memo.recall(batch, parameters)
            if not first:
                memo.forget(batch)
            if step is None:
                self._zero_grad_optimizer()
                step = self.train_step_single(batch, **fit_params)
                if first and not torch.isfinite(step["loss"]):
                    step = _as_barrier(step, parameters)
                memo.remember(parameters, step)
            if not first:
                first.update(step)
            return step["loss"]

        self.optimizer_.step(closure)
        return first

    def notify(self, method_name, **cb_kwargs):
        """Call the callbacks' hooks; skorch's way to stop becomes `PhaseEndError`."""
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt:
            raise PhaseEndError from None

    def __getstate__(self):
        state = super().__getstate__()
        for name in ("_memo", "_compiled"):
            state.pop(name, None)
        return state
