"""Fitting: from what the user passes to a trained net, and back from a file."""

from __future__ import annotations

import copy
import warnings
from functools import wraps
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skproto import _images as images
from skproto import _preparation as preparation
from skproto._editing import EditingMixin
from skproto._encoding import EncodingMixin
from skproto.training import (
    BatchDataset,
    ContextBridge,
    HeldOutStopping,
    ProgressLine,
    TrainingData,
    history_frame,
    make_net,
    run_phases,
)
from skproto.utils._random import random_source
from skproto.utils._sklearn import (
    HAS_CALLBACKS,
    CallbackSupportMixin,
    check_sample_weight,
    with_callbacks,
)

# Above this many entries of X, solver="auto" takes mini-batches.
FULL_BATCH_ENTRIES = 2_000_000

# Steps of a mini-batch solver that max_epochs="auto" aims at.
AUTO_STEPS = 1500


def keeps_state_on_error(method):
    """Make a method of an estimator leave the estimator as it was when it fails."""

    @wraps(method)
    def guarded(self, *args, **kwargs):
        before = dict(self.__dict__)
        try:
            return method(self, *args, **kwargs)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    return guarded


def _seeded_torch(seed: int, device):
    """Seed torch's global generators and put them back afterwards."""
    return _SeededTorch(seed, torch.device(device))


class _SeededTorch:
    def __init__(self, seed: int, device: torch.device):
        self.seed = seed
        devices = [device] if device.type == "cuda" else []
        self.fork = torch.random.fork_rng(devices=devices)

    def __enter__(self):
        self.fork.__enter__()
        torch.manual_seed(self.seed)

    def __exit__(self, *error):
        return self.fork.__exit__(*error)


def _final_loss(net) -> float:
    """Return the loss by which starts compete: held out, where there is such."""
    # An epoch that was interrupted has no loss.
    held_out = [row["valid_loss"] for row in net.history if "valid_loss" in row]
    if held_out:
        return min(held_out)
    losses = [row["train_loss"] for row in net.history if "train_loss" in row]
    return losses[-1] if losses else np.inf


def _shown(shape: tuple[int, ...]) -> str:
    return str(shape[0]) if len(shape) == 1 else str(shape)


class FittingMixin(EditingMixin, EncodingMixin, CallbackSupportMixin):
    """The part of :class:`~skproto.base.PrototypeClassifier` that fits."""

    prototype_indices_: np.ndarray
    # Augmented versions of a batch that the loss compares.
    _n_views: ClassVar[int] = 1

    @keeps_state_on_error
    @with_callbacks
    def fit(self, X, y=None, sample_weight=None):
        """Fit the prototypes to training samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples. Sparse input is made dense batch by batch. Images come as
            an array or a memory map of shape (n_samples, n_channels, height, width) or
            (n_samples, height, width), bytes or floats, or as a torch Dataset.

        y : array-like of shape (n_samples,)
            Class labels of any kind. None where a Dataset carries them.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; a sample of weight 0 counts as absent. None means
            equal weights.

        Returns
        -------
        self : object
            The fitted estimator.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_iris
        >>> from skproto import GLVQClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> weight = np.where(y == 0, 2.0, 1.0)
        >>> model = GLVQClassifier(1, random_state=0).fit(X, y, sample_weight=weight)
        >>> model.prototypes_.shape
        (3, 4)
        """
        self._check_parameters()
        passed = (X, y, sample_weight)
        previous = self._previous_module()
        self._forget_edits()
        X, y, weight, rows = self._validate_training(X, y, sample_weight)
        self._resolve_forbidden()
        if previous is not None:
            self._check_same_task(previous)
        rng = random_source(self.random_state)
        self._resolve(X)
        if previous is None:
            scaling = self._fit_scaling(X, weight)
            self.center_, self.scale_ = scaling.center, scaling.scale
        parts = preparation.training_data(X, y, weight, self._scaling)
        data = TrainingData(**parts, n_classes=len(self.classes_), rng=rng)
        self._n_distinct = len(data)
        with _seeded_torch(rng.randint(2**31 - 1), self.device):
            if previous is None:
                self._pretrain(data)
            data = self._encode_once(data, previous)
            module = previous["module"] if previous else self._make_module(data)
            self._forbid_in_module(module)
            self._train(module, data, passed, previous)
            self._finish(self._module, data)
        self.__dict__.pop("_ready_encoder", None)
        self._collect(self._module, data, X)
        self._number_prototypes(rows)
        return self

    def _labelled(self, X, y, sample_weight=None) -> tuple[Any, TrainingData]:
        """Return validated X, and with y and weights as data of the fitted model."""
        X = self._check_input(X)
        codes = self._label_codes(X, y)
        weight = check_sample_weight(
            sample_weight,
            np.empty((len(codes), 1)),
            dtype=np.float64,
            ensure_non_negative=True,
        )
        parts = preparation.training_data(X, codes, weight, self._scaling)
        rng = random_source(self.random_state)
        return X, TrainingData(**parts, n_classes=len(self.classes_), rng=rng)

    def _label_codes(self, X, y) -> np.ndarray:
        """Return the class codes of labels, all of which must be known."""
        y = column_or_1d(y)
        check_consistent_length(X, y)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y has labels that were not seen in fit: {unknown.tolist()}; known "
                f"are {self.classes_.tolist()}."
            )
        return np.asarray(np.searchsorted(self.classes_, y))

    def _number_prototypes(self, rows: np.ndarray) -> None:
        """Give ids, and name rows by their number in what the user passed."""
        self.prototype_ids_ = np.arange(len(self.prototypes_))
        self.prototype_indices_ = rows[self.prototype_indices_]

    def _previous_module(self) -> dict[str, Any] | None:
        if not self.warm_start or not hasattr(self, "net_"):
            return None
        names = ("classes_", "_input_shape", "history_")
        previous = {name: getattr(self, name) for name in names}
        return {"module": copy.deepcopy(self._module), **previous}

    def _check_same_task(self, previous) -> None:
        same = previous["_input_shape"] == self._input_shape
        if not same or not np.array_equal(previous["classes_"], self.classes_):
            raise ValueError(
                f"warm_start=True needs the classes and the number of features of the "
                f"fit before: {previous['classes_'].tolist()} and "
                f"{_shown(previous['_input_shape'])}. Got {self.classes_.tolist()} and "
                f"{_shown(self._input_shape)}."
            )

    def _validate_training(self, X, y, sample_weight):
        """Return samples, class codes, weights and row numbers, absent ones dropped."""
        X, y, weight, rows = preparation.validate_samples(self, X, y, sample_weight)
        self.classes_, codes = np.unique(y, return_inverse=True)
        weight = preparation.total_weight(
            y, codes, self.classes_, weight, self.class_weight
        )
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes in y; got "
                f"{len(self.classes_)} class(es): {self.classes_.tolist()}"
            )
        if (weight <= 0).any():
            raise ValueError(
                "The 'class_weight' parameter must give every class in y a positive "
                f"weight. Got {self.class_weight!r}."
            )
        return X, codes.ravel().astype(np.int64), weight, rows

    def _resolve(self, X) -> None:
        """Resolve the parameters that may be "auto"."""
        self.encoder_ = self.encoder
        if isinstance(self.encoder, str) and self.encoder == "auto":
            self.encoder_ = self._auto_encoders[preparation.kind_of(X)]
        self.solver_ = self.solver
        if self.solver == "auto":
            self.solver_ = self._auto_solver(X)
        if self.solver_ == "lbfgs" and not isinstance(X, np.ndarray):
            raise ValueError(
                "The solver 'lbfgs' needs all of X at once and cannot take images or "
                "sparse X. Use solver='adam'; X.toarray() makes sparse X dense."
            )
        self.batch_size_ = self.batch_size
        if self.batch_size == "auto":
            self.batch_size_ = self._auto_batch_size(X.shape[0])
        self.max_epochs_ = self.max_epochs
        if self.max_epochs == "auto":
            self.max_epochs_ = self._auto_epochs(X.shape[0])

    def _auto_solver(self, X) -> str:
        small = isinstance(X, np.ndarray) and X.size <= FULL_BATCH_ENTRIES
        plain = self.encoder_ in (None, "identity", "mlp")
        return "lbfgs" if small and plain and not self.early_stopping else "adam"

    def _auto_batch_size(self, n_samples: int) -> int:
        """Batch size that batch_size="auto" stands for, where it is allowed."""
        raise NotImplementedError

    def _auto_epochs(self, n_samples: int) -> int:
        """Epochs that max_epochs="auto" stands for; few samples take more passes."""
        if self.solver_ == "lbfgs":
            return 100
        n_batches = -(-n_samples // self.batch_size_)
        return int(np.clip(AUTO_STEPS // n_batches, 30, 300))

    def _fit_scaling(self, X, weight):
        if not isinstance(X, images.SampleArray):
            return preparation.fit_scaling(X, weight, self.standardize)
        expected = self._expected_pixels(X.sample_shape)
        return images.fit_channel_scaling(X, weight, self.standardize, expected)

    def _train(self, module, data, passed, previous) -> None:
        train, held_out = data, None
        if self.early_stopping:
            train, held_out = self._hold_out(data)
        n_starts = 1 if previous else self._n_starts()
        n_epochs = n_starts * sum(phase.max_epochs for phase in self._phases())
        callbacks = self._callbacks(n_epochs, passed, held_out is not None)
        best: float = np.inf
        best_net: Any = None
        for start in range(n_starts):
            if start:
                module = self._make_module(data)
                self._forbid_in_module(module)
            net, finished = self._train_net(module, train, held_out, callbacks)
            loss = _final_loss(net)
            if best_net is None or loss < best:
                best, best_net = loss, net
            if not finished:
                break
        for callback in callbacks:
            if isinstance(callback, ContextBridge):
                callback.passed = {}  # a fitted estimator does not hold X
        self.net_ = best_net
        self.history_ = self._history(previous)
        self.n_iter_ = len(self.history_)

    def _n_starts(self) -> int:
        """Return how many starts compete by their loss."""
        return 1

    def _train_net(self, module, train, held_out, callbacks):
        """Return the trained net, and whether the user let it finish."""
        generator = torch.Generator().manual_seed(train.rng.randint(2**31 - 1))
        try:
            net = make_net(
                module,
                self._loss_terms(),
                callbacks=callbacks,
                net_params=self.net_params,
                batch_size=self.batch_size_,
                device=self.device,
                verbose=max(0, int(self.verbose) - 1),
                iterator_train__generator=generator,
                augment=self._augmentation(),
                n_views=self._n_views,
            ).initialize()
        except (TypeError, ValueError) as error:
            if not self.net_params:
                raise
            raise type(error)(
                f"The 'net_params' parameter of {type(self).__name__} does not fit "
                f"skorch. Got {self.net_params!r}: {error}"
            ) from error
        self.net_ = net
        net.estimator = self  # for callbacks that judge the model, not its loss
        finished = run_phases(
            net,
            self._phases(),
            BatchDataset(train),
            BatchDataset(held_out) if held_out is not None else None,
        )
        return net, finished

    def _history(self, previous) -> pd.DataFrame:
        history = history_frame(self.net_)
        pretraining = self.__dict__.pop("_pretraining", None)
        if pretraining is not None:
            history = pd.concat([pretraining, history], ignore_index=True)
            history["epoch"] = np.arange(1, len(history) + 1)
        if previous is None or previous["history_"].empty:
            return history
        if history.empty:
            return previous["history_"]
        history = pd.concat([previous["history_"], history], ignore_index=True)
        history["epoch"] = np.arange(1, len(history) + 1)
        return history

    def _hold_out(self, data: TrainingData) -> tuple[TrainingData, TrainingData]:
        train, held_out = train_test_split(
            np.arange(len(data)),
            test_size=self.validation_fraction,
            stratify=data.y,
            random_state=data.rng,
        )
        return data.subset(np.sort(train)), data.subset(np.sort(held_out))

    def _callbacks(self, n_epochs, passed, has_held_out) -> list[Any]:
        callbacks: list[Any] = []
        if has_held_out:
            callbacks.append(HeldOutStopping(self.n_iter_no_change))
        if int(self.verbose) == 1:
            callbacks.append(ProgressLine(type(self).__name__, n_epochs))
        if HAS_CALLBACKS:
            X, y, sample_weight = passed
            metadata = {"sample_weight": sample_weight}
            context = self._init_callback_context(max_subtasks=n_epochs)
            bridge = ContextBridge(self, context, X, y, metadata, self._snapshot)
            context.call_on_fit_task_begin(estimator=self, X=X, y=y, metadata=metadata)
            callbacks.append(bridge)
        return callbacks

    def _snapshot(self) -> dict[str, Any]:
        """Return the attributes with which a copy predicts as this one would now."""
        net = copy.copy(self.net_)
        net.module_ = copy.deepcopy(self.net_.module_).eval()
        return {"net_": net}

    # -- persistence -------------------------------------------------------------------

    def __getstate__(self):
        state = dict(super().__getstate__())
        net = state.pop("net_", None)
        if net is not None:
            arrays = {k: v.cpu().numpy() for k, v in net.module_.state_dict().items()}
            state["_saved_module"] = {"config": net.module_.config, "state": arrays}
        return state

    def __setstate__(self, state):
        state = dict(state)
        saved = state.pop("_saved_module", None)
        super().__setstate__(state)
        if saved is not None:
            self._restore_module(saved)

    def _restore_module(self, saved: dict[str, Any]) -> None:
        with _seeded_torch(0, "cpu"), warnings.catch_warnings():
            encoder = self._make_encoder()
            module = self._module_class(**saved["config"], encoder=encoder)
        tensors = {k: torch.as_tensor(v) for k, v in saved["state"].items()}
        module.load_state_dict(tensors)
        self.net_ = self._make_prediction_net(module)

    def _make_prediction_net(self, module):
        """Return a net around a module that comes from elsewhere."""
        device = torch.device(self.device)
        gone = device.type == "cuda" and not torch.cuda.is_available()
        net = make_net(
            module.eval(),
            self._loss_terms(),
            net_params=self.net_params,
            batch_size=self.batch_size_,
            device="cpu" if gone else self.device,
        )
        return net.initialize()
