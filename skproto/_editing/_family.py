"""What a family of estimators says about itself, so that it can be edited."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from skproto import _placing as placing
from skproto._editing import _state as states
from skproto._editing._entries import append_entries, replace_entries
from skproto._editing._errors import EditNotSupported
from skproto._editing._items import ItemFamily
from skproto._editing._rows import RowTraining, train_rows
from skproto._editing._solving import HeadFit, HeadRules
from skproto.training import TrainingData, select_rows

#: The operations that change an estimator, in the order of the documentation.
OPERATIONS = (
    "remove",
    "add",
    "replace",
    "soft_replace",
    "reinit",
    "finetune",
    "relabel",
    "reweight",
    "merge",
    "simplify",
    "lock",
    "unlock",
    "snap",
    "forbid",
)


class EditingFamily(ItemFamily):
    """Base of the families: what every edit of a kind of estimator is made of.

    An instance works on one estimator, which is a private copy while an edit lasts (its
    module has been copied, arrays of its attributes are replaced, never written to):
    methods may change the module in place. Prototypes are named by their positions;
    ids, locks, sources, the constraints, the report, the log and undo are the business
    of the core. A subclass fills in `drop`, `append`, `relabel`, `reweight`,
    `add_columns`, `set_pure`, `fit_head` and `read`, as far as it does not refuse the
    operations that need them, and overrides others where the family differs.

    Parameters
    ----------
    model : estimator
        Fitted.

    Examples
    --------
    >>> from skproto.operations import EditingFamily
    >>> EditingFamily.geometry
    'euclidean'
    """

    #: "euclidean" (balls) or "cosine" (caps): the constraint of soft replacements.
    geometry: str = "euclidean"
    #: Whether class scores are sums over prototypes, each of which can be left out.
    additive: ClassVar[bool] = True
    #: Operations that mean nothing here, with the reason.
    refused: ClassVar[Mapping[str, str]] = {}
    #: Options of operations beside the general ones, such as {"remove": ("keep",)}.
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: Private attributes that belong to the state.
    extra_state: ClassVar[tuple[str, ...]] = ()
    #: The edit under way (its request, data, items and notes), None outside of one.
    job: Any = None

    def __init__(self, model: Any):
        self.model = model

    @property
    def name(self) -> str:
        """What messages call the family."""
        return type(self.model).__name__

    def refusals(self) -> Mapping[str, str]:
        """Return the operations that this very estimator refuses, with the reason."""
        return self.refused

    def check_supported(self, operation: str) -> None:
        """Raise `EditNotSupported` for an operation that means nothing here."""
        reason = self.refusals().get(operation)
        if reason is not None:
            raise EditNotSupported(operation, self.name, reason)

    def _left_out(self, method: str) -> EditNotSupported:
        """Return the error of an operation that needs what the family does not say."""
        operation = method if self.job is None else self.job.request.operation
        reason = f"{type(self).__name__} does not say how: it has no {method}."
        return EditNotSupported(operation, self.name, reason)

    # -- state -------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Return the state: the sizes and arrays of the module and the attributes."""
        return states.read_state(self.model, self.extra_state)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Put the estimator into a state that :meth:`get_state` has returned."""
        states.restore_state(self.model, state, self.extra_state)

    def detach(self) -> None:
        """Give the estimator a module of its own; the old one stays as it is."""
        self.model.net_ = self.model._make_prediction_net(copy.deepcopy(self.module))

    def use(self, module: Any) -> None:
        """Take another module, for instance one with more or fewer prototypes."""
        self.model.net_ = self.model._make_prediction_net(module)

    # -- prototypes --------------------------------------------------------------------

    def move(self, positions: NDArray[np.int64], codes: NDArray[Any]) -> None:
        """Put prototypes at codes (m, ...); columns and all others keep their bits."""
        with torch.no_grad():
            target = self.module.prototypes
            rows = torch.from_numpy(np.asarray(positions)).to(target.device)
            target[rows] = torch.as_tensor(np.asarray(codes)).to(target)

    def class_codes(self) -> NDArray[np.int64]:
        """Return the class code (P,) of each prototype."""
        model = self.model
        return np.asarray(np.searchsorted(model.classes_, model.prototype_labels_))

    def drop(self, kept: NDArray[np.bool_], **options: Any) -> NDArray[np.int64]:
        """Take the prototypes out that a mask (P,) does not keep.

        Returns
        -------
        order : ndarray of shape (n_kept,)
            Old positions of those left, in their new order.
        """
        raise self._left_out("drop")

    def append(
        self, codes: NDArray[Any], labels: NDArray[np.int64], **options: Any
    ) -> NDArray[np.int64]:
        """Add prototypes at codes (m, ...) with class codes (m,), their column zero.

        Returns
        -------
        order : ndarray of shape (P + m,)
            Positions in the list of the old and then the new ones, in their new order.
        """
        raise self._left_out("append")

    def relabel(self, positions: NDArray[np.int64], label: int) -> None:
        """Give prototypes another class; what spoke for the old one follows.

        Where this changes the order of the prototypes, the entries of the attributes
        have to follow.
        """
        raise self._left_out("relabel")

    def reweight(self, positions: NDArray[np.int64], weights: NDArray[Any]) -> None:
        """Set the columns (m, ...) of prototypes as the user gives them."""
        raise self._left_out("reweight")

    def add_columns(self, keep: int, others: NDArray[np.int64]) -> None:
        """Add the columns of other prototypes to that of one, before they go."""
        raise self._left_out("add_columns")

    def set_pure(
        self,
        positions: NDArray[np.int64],
        labels: NDArray[np.int64],
        weight: float | None,
    ) -> None:
        """Make columns pure: one own weight for the class, nothing elsewhere.

        `weight` None is the mean weight of that class's prototypes for their class.
        """
        raise self._left_out("set_pure")

    def columns(self) -> NDArray[Any]:
        """Return the head's part (P, ...) of each prototype, as it is stored."""
        return np.zeros((len(self.module.prototypes), 0))

    def spoken_codes(self) -> NDArray[np.int64] | None:
        """Return the class (P,) for which the head lets each prototype speak now."""
        columns = self.columns()
        if columns.ndim != 2 or columns.shape[1] != len(self.model.classes_):
            return None
        return np.asarray(columns.argmax(axis=1))

    @property
    def owns_classes(self) -> bool:
        """Whether a class without a prototype of its own is lost."""
        return True

    # -- attributes with one entry for each prototype ----------------------------------

    def keep_entries(self, order: NDArray[np.int64]) -> None:
        """Keep the entries at positions, in their order."""
        placing.keep_entries(self.model, self.per_prototype, order)

    def append_entries(self, values: dict[str, Any]) -> None:
        """Append entries; what is not given is filled in by :meth:`read` or later."""
        append_entries(self.model, self.per_prototype, values)

    def replace_entries(
        self, positions: NDArray[np.int64], values: dict[str, Any]
    ) -> None:
        """Replace the entries of prototypes."""
        replace_entries(self.model, positions, values)

    def identical(self, positions: NDArray[np.int64]) -> bool:
        """Tell whether prototypes are as similar to every sample as each other."""
        points = self.locations()[positions]
        return bool((points == points[0]).all())

    # -- repair ------------------------------------------------------------------------

    @property
    def learning_rate(self) -> float:
        """Learning rate of a repair of prototypes where none is given."""
        return float(self.model.lr)

    @property
    def has_head(self) -> bool:
        """Whether there is something to fit by ``repair="head"``."""
        return True

    def fit_head(self, data: TrainingData, rules: HeadRules) -> HeadFit:
        """Fit the head to samples, prototypes fixed; what is locked keeps its bits."""
        raise self._left_out("fit_head")

    def fit_prototypes(self, data: TrainingData, plan: RowTraining) -> None:
        """Train some prototypes by the estimator's own loss, the head fixed."""
        train_rows(self.module, self.model._loss_terms(), data, plan)

    def fit_all(self, data: TrainingData, plan: RowTraining) -> None:
        """Train all that is not locked, encoder and metric too, but for the head."""
        train_rows(self.module, self.model._loss_terms(), data, plan)

    # -- after an edit -----------------------------------------------------------------

    def read(self) -> None:
        """Set the fitted attributes that are read off the module."""
        raise self._left_out("read")

    def most_similar(self, X: Any) -> NDArray[np.int64]:
        """Return the position of the prototype to which each sample is most similar."""
        outputs = self.model._forward(X, ("activations",))
        return np.asarray(outputs["activations"].argmax(axis=1))

    def count_wins(self, X: Any, data: TrainingData) -> NDArray[np.int64] | None:
        """Return `win_counts_` (P,) anew; None where they mean something else."""
        wins = self.most_similar(select_rows(X, data.rows))
        return np.bincount(wins, minlength=len(self.module.prototypes))

    def dead(self) -> NDArray[np.int64]:
        """Return the positions of prototypes that speak for and against no class."""
        columns = self.columns().reshape(len(self.model.prototype_ids_), -1)
        if not columns.shape[1]:
            return np.zeros(0, dtype=np.int64)
        largest = np.abs(columns).max(axis=1)
        return np.flatnonzero(largest <= 1e-8 * max(largest.max(initial=0.0), 1.0))

    @property
    def per_prototype(self) -> tuple[str, ...]:
        """Fitted attributes with one entry for each prototype."""
        names: tuple[str, ...] = getattr(
            self.model, "_per_prototype", placing.PER_PROTOTYPE
        )
        return names

    # -- forbidding --------------------------------------------------------------------

    def forbid_features(self, mask: NDArray[np.bool_]) -> None:
        """React to features of a table that are held constant from now on.

        The scaling passes 0 for them already; prototypes in the space of the features
        are put to 0 there too.
        """
        if not self.model._encodes:
            with torch.no_grad():
                self.module.prototypes[..., torch.from_numpy(mask)] = 0.0

    def resettle(self, job: Any) -> None:
        """React to what samples look like now that some of it is forbidden.

        Called after :meth:`forbid_features` or :meth:`forbid_sites` for prototypes
        that are codes of samples.
        """

    def forbid_sites(
        self, boxes: NDArray[np.int64], labels: NDArray[np.int64] | None
    ) -> None:
        """Keep prototypes of classes (None: all) off the pixels of boxes (b, 4)."""
        raise EditNotSupported(
            "forbid", self.name, "it cannot keep prototypes off a region of an image."
        )


class UneditableFamily(EditingFamily):
    """The family of estimators that do not say how they can be edited."""

    def refusals(self) -> Mapping[str, str]:
        """Refuse everything."""
        reason = (
            "it has no editing family; set _editing_family to a subclass of "
            "skproto.operations.EditingFamily."
        )
        return dict.fromkeys(OPERATIONS, reason)
