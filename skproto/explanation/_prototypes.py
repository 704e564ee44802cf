"""The table of prototypes: the cases an explanation speaks of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from skproto.explanation._fields import coerce, dims
from skproto.explanation._places import PrototypePlaces


@dataclass(kw_only=True, eq=False)
class PrototypeTable:
    """The cases behind the prototypes, in the user's units.

    Parameters
    ----------
    ids : array of shape (n_prototypes,)
        Stable numbers of the prototypes.

    labels : array of shape (n_prototypes,)
        Class label of each prototype.

    indices : array of shape (n_prototypes,)
        Row of the training data behind each prototype; -1 where there is none.

    projection_distance : array of shape (n_prototypes,)
        Distance from the prototype to that row, in the units of the model; 0 where
        the prototype is the row.

    is_case : array of bool of shape (n_prototypes,)
        True where the prototype is that training row, False where it was learned
        and the row is only the nearest one.

    values : array of shape (n_prototypes, n_features) or None, default=None
        Prototypes in the user's units; None where they live in an encoder's space.

    samples : array of shape (n_prototypes, n_features) or None, default=None
        Training rows behind the prototypes, in the user's units.

    sample_labels : array of shape (n_prototypes,) or None, default=None
        Class labels of those training rows, which need not be those of the
        prototypes.

    feature_names : array of shape (n_features,) or None, default=None
        Names of the features; ``x0, x1, ...`` where None.

    scale : array of shape (n_features,) or None, default=None
        Scale by which the model divides each feature; decides which feature differs
        most.

    weights : array of shape (n_prototypes, n_features) or None, default=None
        Weights of the features in the distance of each prototype.

    center : array of shape (n_features,) or None, default=None
        What counts as an ordinary value of each feature, for pictures and for which
        features are named; the mean of the prototypes or nothing where None.

    places : PrototypePlaces or None, default=None
        Where in the training images, texts or rows the parts behind the prototypes lie.

    Raises
    ------
    ValueError
        If two arrays contradict each other in shape.

    Examples
    --------
    >>> from skproto.explanation import PrototypeTable
    >>> table = PrototypeTable(
    ...     ids=[0, 1], labels=["benign", "malignant"], indices=[4, 212],
    ...     projection_distance=[0.0, 0.0], is_case=[True, True],
    ...     values=[[12.1], [17.9]], feature_names=["mean radius"],
    ... )
    >>> len(table), table.reference.shape
    (2, (2, 1))
    """

    ids: np.ndarray = field(metadata=dims("P"))
    labels: np.ndarray = field(metadata=dims("P"))
    indices: np.ndarray = field(metadata=dims("P"))
    projection_distance: np.ndarray = field(metadata=dims("P"))
    is_case: np.ndarray = field(metadata=dims("P"))
    values: np.ndarray | None = field(default=None, metadata=dims("P", "f"))
    samples: np.ndarray | None = field(default=None, metadata=dims("P", "f"))
    sample_labels: np.ndarray | None = field(default=None, metadata=dims("P"))
    feature_names: np.ndarray | None = field(default=None, metadata=dims("f"))
    scale: np.ndarray | None = field(default=None, metadata=dims("f"))
    weights: np.ndarray | None = field(default=None, metadata=dims("P", "f"))
    center: np.ndarray | None = field(default=None, metadata=dims("f"))
    places: PrototypePlaces | None = None

    def __post_init__(self) -> None:
        coerce(self, {})
        if self.places is not None and len(self.places) != len(self):
            raise ValueError(
                f"{type(self).__name__}: places must speak of {len(self)} prototypes, "
                f"got {len(self.places)}."
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def reference(self) -> np.ndarray | None:
        """Rows to compare a sample with: the prototypes, else the rows behind them."""
        return self.samples if self.values is None else self.values

    @property
    def names(self) -> np.ndarray:
        """Names of the features, made up where none are known."""
        if self.feature_names is not None:
            return self.feature_names
        n_features = 0 if self.reference is None else self.reference.shape[1]
        return np.array([f"x{f}" for f in range(n_features)], dtype=object)
