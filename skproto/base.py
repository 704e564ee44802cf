"""The template that every estimator fills: fit, predict, explain."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch

from skproto._fitting import FittingMixin
from skproto._predicting import PrototypePredictor
from skproto.nn.encoders import NAMED_ENCODERS
from skproto.training import Convergence, Phase, TrainingData
from skproto.utils import _parameters as rules


class PrototypeClassifier(FittingMixin, PrototypePredictor):
    """Base of all prototype classifiers.

    A subclass has a constructor that stores its parameters (those of section "Every
    estimator has" below by the same names) and fills in the hooks:

    - :meth:`_make_module` builds the torch module and starts it from the data;
    - :meth:`_loss_terms` names the terms of the loss;
    - :meth:`_phases` names the phases of training;
    - :meth:`_collect` reads the fitted attributes off the module;
    - :meth:`_evidence` splits the class scores of a batch into contributions.

    The module maps scaled samples (n, ...) to a dict of tensors with at least "scores"
    (n, K), the class scores before any link, and "activations" (n, P), the
    similarities to the prototypes. Its class is `_module_class`, its constructor takes
    plain numbers and strings, kept in `module.config`, and an `encoder`.

    Every estimator has the parameters `encoder`, `image_shape`, `frozen`, `augment`,
    `standardize`, `solver`, `max_epochs`, `lr`, `batch_size`, `class_weight`,
    `early_stopping`, `validation_fraction`, `n_iter_no_change`, `warm_start`,
    `random_state`, `device`, `verbose` and `net_params`.

    See Also
    --------
    skproto.utils.estimator_checks.check_prototype_estimator : Checks the promises.

    Examples
    --------
    >>> from skproto import GLVQClassifier, PrototypeClassifier
    >>> issubclass(GLVQClassifier, PrototypeClassifier)
    True
    """

    _module_class: ClassVar[type[torch.nn.Module]]
    # Name in messages about parameters, if not that of the class.
    _known_as: ClassVar[str] = ""
    _parameter_rules = rules.ParameterRules().extended(
        encoder=(
            rules.none(),
            rules.options(*NAMED_ENCODERS),
            rules.anything_callable("an nn.Module or a callable that returns one"),
        ),
        image_shape=(rules.none(), rules.shape(2, 3)),
        frozen=rules.boolean(),
        pretrain_epochs=(rules.options("auto"), rules.integer(0)),
        augment=(
            rules.none(),
            rules.options("auto"),
            rules.anything_callable("a callable that changes a batch"),
        ),
        standardize=rules.boolean(),
        solver=rules.options("auto", "lbfgs", "adam", "adamw"),
        max_epochs=(rules.options("auto"), rules.integer(0)),
        lr=rules.real(0),
        batch_size=rules.integer(1),
        class_weight=(rules.none(), rules.options("balanced"), rules.mapping()),
        early_stopping=rules.boolean(),
        validation_fraction=rules.real(0, 1),
        n_iter_no_change=rules.integer(1),
        warm_start=rules.boolean(),
        random_state=rules.random_state(),
        device=rules.Rule(lambda v: isinstance(v, (str, torch.device)), "a str"),
        verbose=(rules.boolean(), rules.integer(0)),
        net_params=(rules.none(), rules.settings()),
    )

    def __init__(
        self,
        *,
        encoder="auto",
        image_shape=None,
        frozen=False,
        augment=None,
        standardize=True,
        solver="auto",
        max_epochs="auto",
        lr=0.01,
        batch_size=512,
        class_weight=None,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        warm_start=False,
        random_state=None,
        device="cpu",
        verbose=0,
        net_params=None,
    ):
        self.encoder = encoder
        self.image_shape = image_shape
        self.frozen = frozen
        self.augment = augment
        self.standardize = standardize
        self.solver = solver
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.verbose = verbose
        self.net_params = net_params

    # -- hooks -------------------------------------------------------------------------

    @abstractmethod
    def _make_module(self, data: TrainingData) -> torch.nn.Module:
        """Return the module, started from the data."""

    @abstractmethod
    def _loss_terms(self) -> list[Any]:
        """Return the loss terms with their weights."""

    @abstractmethod
    def _collect(self, module, data: TrainingData, X) -> None:
        """Set the fitted attributes; `X` is what the user passed, validated."""

    def _phases(self) -> list[Phase]:
        """Return the phases of training; one joint phase by default."""
        stop = (Convergence(),) if self.solver_ == "lbfgs" else ()
        lr = float(self.lr)
        return [Phase("joint", self.max_epochs_, lr, self.solver_, callbacks=stop)]

    def _finish(self, module, data: TrainingData) -> None:
        """Act on the trained module before attributes are read (project, prune)."""

    def _check_parameters(self) -> None:
        """Raise for parameters that are invalid on their own or together."""
        owner = self._known_as or type(self).__name__
        self._parameter_rules.check(owner, self.get_params(deep=False))
        try:
            usable = torch.empty(0, device=self.device).device.type != "meta"
        except (AssertionError, RuntimeError):
            usable = False
        if not usable:
            hint = "" if torch.cuda.is_available() else " torch sees no GPU."
            raise ValueError(
                f"The 'device' parameter of {owner} must be a device "
                f"that torch can use here, such as 'cpu'. Got {self.device!r}.{hint}"
            )
