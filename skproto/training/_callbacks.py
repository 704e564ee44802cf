"""skorch callbacks that every estimator trains with."""

from __future__ import annotations

import math
import sys

from skorch.callbacks import Callback, EarlyStopping

from skproto.training._data import BatchLoader
from skproto.training._net import PhaseEndError


class TermRecorder(Callback):
    """Record the epoch's mean of every loss term; stop on NaN and inf.

    Examples
    --------
    >>> from skproto.nn import CrossEntropy, RBFNetwork
    >>> from skproto.training import TermRecorder, make_net
    >>> net = make_net(RBFNetwork(4, 2, 3, "linear"), [CrossEntropy()]).initialize()
    >>> any(isinstance(callback, TermRecorder) for _, callback in net.callbacks_)
    True
    """

    def on_epoch_begin(self, net, **kwargs):
        """Start the sums of the epoch."""
        self._sums: dict[str, float] = {}
        self._n_samples = 0

    def on_batch_end(self, net, batch=None, training=False, terms=None, **kwargs):
        """Add a training batch's terms, or raise if one of them is not finite."""
        if not training or terms is None:
            return
        size = len(batch[1][0])
        self._n_samples += size
        for name, value in terms.items():
            number = float(value)
            if not math.isfinite(number):
                at_start = len(net.history) == 1 and self._n_samples == size
                raise ValueError(_non_finite_message(net, name, number, at_start))
            self._sums[name] = self._sums.get(name, 0.0) + number * size

    def on_epoch_end(self, net, **kwargs):
        """Write the means to the history."""
        for name, total in self._sums.items():
            net.history.record(name, total / max(self._n_samples, 1))


def _non_finite_message(net, name: str, value: float, at_start: bool) -> str:
    epoch = len(net.history)
    if at_start:
        cause = (
            "at the very start the likely cause is input on an extreme scale or an "
            "encoder that returns non-finite values"
        )
    else:
        cause = (
            f"the likely cause is a learning rate that is too large (lr={net.lr!r}); "
            "try a smaller lr"
        )
    return f"The loss term {name!r} became {value} in epoch {epoch}: {cause}."


class HeldOutStopping(EarlyStopping):
    """Stop when the held-out loss no longer falls and restore the best weights.

    skorch keeps the weights of the best epoch; this one also treats an epoch without
    a held-out loss (an epoch that was interrupted) as none.

    Parameters
    ----------
    patience : int
        Epochs without a better loss after which training ends.

    Examples
    --------
    >>> from skproto.training import HeldOutStopping
    >>> HeldOutStopping(patience=10).monitor
    'valid_loss'
    """

    def __init__(self, patience: int):
        super().__init__(
            monitor="valid_loss", patience=patience, threshold=1e-4, load_best=True
        )


class Convergence(Callback):
    """End a phase when the training loss has stopped moving.

    Parameters
    ----------
    tolerance : float, default=1e-7
        Relative change of the loss below which an epoch counts as standing still.

    patience : int, default=2
        Number of such epochs in a row that end the phase.

    Examples
    --------
    >>> from skproto.training import Convergence, Phase
    >>> phase = Phase("all", 100, 1.0, "lbfgs", callbacks=(Convergence(1e-6),))
    >>> phase.callbacks[0].patience
    2
    """

    def __init__(self, tolerance=1e-7, patience=2):
        self.tolerance = tolerance
        self.patience = patience

    def on_train_begin(self, net, **kwargs):
        """Forget the last phase."""
        self._previous = math.inf
        self._still = 0

    def on_epoch_end(self, net, **kwargs):
        """Compare with the epoch before."""
        loss = net.history[-1, "train_loss"]
        change = abs(loss - self._previous)
        small = change <= self.tolerance * max(abs(loss), abs(self._previous), 1.0)
        self._still = self._still + 1 if small else 0
        self._previous = loss
        if self._still >= self.patience:
            raise PhaseEndError


class AtStart(Callback):
    """Do something to the module when a phase starts.

    Parameters
    ----------
    action : callable
        Takes the module and the training data set.

    Examples
    --------
    >>> from skproto.training import AtStart, Phase
    >>> freeze = AtStart(lambda module, data: module.prototypes.requires_grad_(False))
    >>> len(Phase("head", 10, 0.01, callbacks=(freeze,)).callbacks)
    1
    """

    def __init__(self, action):
        self.action = action

    def on_train_begin(self, net, X=None, **kwargs):
        """Do it."""
        self.action(net.module_, X)


class Annealing(Callback):
    """Lower the learning rates of a phase along half a cosine, epoch by epoch.

    Rates are multiplied, so that groups keep their ratios and the user's own
    schedules come on top.

    Parameters
    ----------
    n_epochs : int
        Epochs of the half cosine; after the last of them the rate would be 0.

    start : int, default=0
        Epoch of the half cosine at which the phase begins.

    Examples
    --------
    >>> from skproto.training import Annealing, Phase
    >>> phase = Phase("joint", 20, 0.001, callbacks=(Annealing(20),))
    >>> phase.callbacks[0].start
    0
    """

    def __init__(self, n_epochs, start=0):
        self.n_epochs = n_epochs
        self.start = start

    def on_train_begin(self, net, **kwargs):
        """Take up the half cosine where the phase begins."""
        self._epoch = self.start
        self._scale(net, self._share())

    def on_epoch_end(self, net, **kwargs):
        """Lower the rates for the next epoch."""
        before, self._epoch = self._share(), self._epoch + 1
        if self._epoch < self.n_epochs:
            self._scale(net, self._share() / before)

    def _scale(self, net, factor: float) -> None:
        for group in net.optimizer_.param_groups:
            group["lr"] *= factor

    def _share(self) -> float:
        done = self._epoch / max(self.n_epochs, 1)
        return 0.5 * (1.0 + math.cos(math.pi * done))


class OneCycle(Callback):
    """Raise the learning rates of a phase to their values, then lower them to 0.

    Up to `rise` of the steps from a 25th along half a cosine, then down along another:
    a transformer that starts at its full rate may never recover.

    Parameters
    ----------
    n_epochs : int
        Epochs of the phase.

    rise : float, default=0.3
        Share of the steps on the way up.

    Examples
    --------
    >>> from skproto.training import OneCycle, Phase
    >>> phase = Phase("joint", 20, 0.001, callbacks=(OneCycle(20),))
    >>> phase.callbacks[0].rise
    0.3
    """

    def __init__(self, n_epochs, rise=0.3):
        self.n_epochs = n_epochs
        self.rise = rise

    def on_train_begin(self, net, X=None, **kwargs):
        """Note the rates that are to be reached."""
        self._peaks = [group["lr"] for group in net.optimizer_.param_groups]
        n_batches = len(BatchLoader(X, net.batch_size))
        self._n_steps = max(1, self.n_epochs * n_batches)
        self._step = 0

    def on_batch_begin(self, net, training=False, **kwargs):
        """Set the rates of the step."""
        if not training:
            return
        factor = self.factor(self._step / self._n_steps)
        for group, peak in zip(net.optimizer_.param_groups, self._peaks, strict=True):
            group["lr"] = factor * peak
        self._step += 1

    def factor(self, done: float) -> float:
        """Return the share of the rate when this share of the steps is done."""
        if done < self.rise:
            return 0.04 + 0.48 * (1.0 - math.cos(math.pi * done / self.rise))
        left = (1.0 - min(done, 1.0)) / (1.0 - self.rise)
        return 0.5 * (1.0 - math.cos(math.pi * left))


class ProgressLine(Callback):
    """Show the epoch and the loss on one line that is written over.

    Parameters
    ----------
    owner : str
        Name of the estimator.

    max_epochs : int
        Number of epochs of all phases together.

    Examples
    --------
    >>> from skproto.training import ProgressLine
    >>> ProgressLine("RBFClassifier", max_epochs=20).max_epochs
    20
    """

    def __init__(self, owner, max_epochs):
        self.owner = owner
        self.max_epochs = max_epochs

    def on_epoch_end(self, net, **kwargs):
        """Write the line anew."""
        loss = net.history[-1, "train_loss"]
        epoch = len(net.history)
        sys.stdout.write(f"\r{self.owner}: epoch {epoch}/{self.max_epochs}")
        sys.stdout.write(f", loss {loss:.5g}".ljust(24))
        sys.stdout.flush()

    def on_train_end(self, net, **kwargs):
        """Leave the last line standing."""
        sys.stdout.write("\n")
        sys.stdout.flush()


class ContextBridge(Callback):
    """Tell scikit-learn's callbacks about every epoch.

    Parameters
    ----------
    estimator : estimator
        The estimator being fitted.

    context : sklearn.callback.CallbackContext
        Context of its `fit`; each epoch becomes a subtask of it.

    X, y, metadata : object
        What the user passed to `fit`, for the callbacks that ask for it.

    snapshot : callable
        Takes no argument, returns the attributes that make a copy of the estimator
        ready to predict as it stands.

    Examples
    --------
    Estimators make one when scikit-learn 1.9 has given them callbacks:
    ``model.set_callbacks(ProgressBar())``.

    >>> from skproto.training import ContextBridge
    >>> bridge = ContextBridge(None, None, X=None, y=None, metadata={}, snapshot=dict)
    >>> sorted(bridge.passed)
    ['X', 'metadata', 'y']
    """

    def __init__(self, estimator, context, X, y, metadata, snapshot):
        self.estimator = estimator
        self.context = context
        self.passed = {"X": X, "y": y, "metadata": metadata}
        self.snapshot = snapshot

    def _arguments(self):
        return {
            "estimator": self.estimator,
            "reconstruction_attributes": self.snapshot,
            **self.passed,
        }

    def on_epoch_begin(self, net, **kwargs):
        """Open a subtask."""
        self._epoch = self.context.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._arguments())

    def on_epoch_end(self, net, **kwargs):
        """Close the subtask; stop if a callback says so."""
        if self._epoch.call_on_fit_task_end(**self._arguments()):
            raise PhaseEndError
