"""The trees of an ensemble while it is edited, and the samples as each sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skproto import _preparation as preparation
from skproto._editing import _memory as memory
from skproto._editing import read_attributes, restore_attributes
from skproto._editing._items import _class_weighted
from skproto.training import TrainingData, select_rows
from skproto.trees._editing import TreeFamily
from skproto.trees._regions import SiteChoice
from skproto.utils._sklearn import check_sample_weight

Positions = NDArray[np.int64]


class MemberFamily(TreeFamily):
    """A tree of an ensemble, which knows what the user has said of its prototypes.

    Parameters
    ----------
    model : ProtoTreeClassifier
        The tree.

    whole : EnsembleMembers
        Holds locks, labels and the edit under way.

    number : int
        Which tree it is.
    """

    def __init__(self, model: Any, whole: EnsembleMembers, number: int):
        super().__init__(model)
        self.whole, self.number = whole, number

    @property
    def edit(self) -> Any:
        """The edit under way of the ensemble."""
        return self.whole.job

    def favoured_elsewhere(self) -> NDArray[np.int64]:
        """Return the classes that a leaf of another tree favours."""
        others = [m for m in self.whole.members if m is not self]
        found = [m.module.leaf_distributions().argmax(dim=1) for m in others]
        codes = [codes.cpu().numpy() for codes in found]
        return np.concatenate(codes) if codes else np.zeros(0, dtype=np.int64)

    def _mine(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the part of entries for all prototypes that are of this tree."""
        return np.asarray(values)[self.whole.trees() == self.number]

    def ids(self, positions: Positions) -> list[int]:
        """Return the ids of prototypes in the ensemble."""
        ids = self._mine(self.whole.model.prototype_ids_)
        return [int(i) for i in ids[positions]]

    def locked(self) -> NDArray[np.bool_]:
        """Tell which prototypes are locked."""
        return self._mine(memory.locked_mask(self.whole.model))

    def user_codes(self) -> NDArray[np.int64]:
        """Return the class codes that a user has given; -1 for none."""
        return self._mine(memory.user_codes(self.whole.model))

    @property
    def data(self) -> TrainingData | None:
        """The data of the edit under way, scaled as this tree does."""
        found = None if self.edit is None else self.edit.data
        return None if found is None else self.whole.data_of(self.number, found)

    def read(self) -> None:
        """Set the attributes that are read off the tree; labels may be the user's."""
        super().read()
        model, given = self.model, self.user_codes()
        if len(given) == len(model.prototype_labels_):
            codes = np.searchsorted(model.classes_, model.prototype_labels_)
            codes = np.where(given >= 0, given, codes)
            model.prototype_labels_ = model.classes_[codes]


class EnsembleMembers(SiteChoice):
    """The part of the family of ensembles that knows the trees and their samples."""

    additive = False
    refused = TreeFamily.refused
    options = {**TreeFamily.options, "add": ("tree",)}

    def __init__(self, model: Any):
        super().__init__(model)
        self._adopt(model.estimators_)
        # Samples as validated, and those to which items belong while they are read.
        self._raw: Any = None
        self._plain: tuple[int, TrainingData] | None = None
        # Where the prototypes that are being added belong.
        self._added: tuple[int, Positions] | None = None
        # Trees of which the edit has changed something.
        self._changed: set[int] = set()

    def _adopt(self, trees: Any) -> None:
        self.members = [
            MemberFamily(tree, self, number) for number, tree in enumerate(trees)
        ]

    # -- state -------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Return the states of the trees, and the attributes that join them."""
        attributes = read_attributes(self.model)
        attributes.pop("estimators_")
        members = {str(m.number): m.get_state() for m in self.members}
        return {"members": members, "attributes": attributes}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Put all trees into a state that :meth:`get_state` has returned."""
        self._own_trees()
        for member in self.members:
            member.set_state(state["members"][str(member.number)])
        trees = self.model.estimators_
        restore_attributes(self.model, {**state["attributes"], "estimators_": trees})

    def detach(self) -> None:
        """Give the ensemble trees of its own."""
        self._own_trees()
        for member in self.members:
            member.detach()

    def _own_trees(self) -> None:
        """Take copies of the trees that share all attributes."""
        copies = []
        for tree in self.model.estimators_:
            twin = object.__new__(type(tree))
            vars(twin).update(vars(tree))
            copies.append(twin)
        self.model.estimators_ = copies
        self._adopt(copies)

    # -- which tree --------------------------------------------------------------------

    def trees(self) -> Positions:
        """Return the number of the tree of each prototype, (P,)."""
        return np.asarray(self.model.prototype_trees_)

    def _split(self, positions: Positions):
        """Yield trees, positions in them, and which of the positions these are."""
        owner = self.trees()[positions]
        first = np.searchsorted(self.trees(), np.arange(len(self.members)))
        for number in np.unique(owner).tolist():
            chosen = np.flatnonzero(owner == number)
            yield self.members[number], positions[chosen] - first[number], chosen

    def _all(self):
        return self._split(np.arange(len(self.trees())))

    def _focus(self) -> int:
        """Return the tree whose space the items of the edit under way are in."""
        request = self.job.request
        if request.operation == "add":
            return self._tree_for_new()
        owners = np.unique(self.trees()[self.job.positions()])
        if len(owners) > 1:
            raise ValueError(
                f"ids must be of one tree for {request.operation}, as every tree has "
                f"its own space. Got prototypes of the trees {owners.tolist()}."
            )
        return int(owners[0])

    def _tree_for_new(self) -> int:
        named = self.job.request.arguments.get("tree")
        count = len(self.members)
        if named is not None:
            if not isinstance(named, (int, np.integer)) or not 0 <= named < count:
                raise ValueError(
                    f"tree must be None or an int in the range [0, {count}). Got "
                    f"{named!r}."
                )
            return int(named)
        if self._plain is None:
            raise ValueError(
                "tree must be named for items with latent=True. Got None; there are "
                f"{count} trees."
            )
        return self._plain[0]

    def _weakest(self, X: Any) -> int:
        """Return the tree that gives the label of the edit the least probability."""
        arguments = self.job.request.arguments
        if self.job.request.operation != "add" or arguments.get("tree") is not None:
            return self._focus()
        labels = self.job.label_codes(arguments["label"], X.shape[0])
        given = []
        for member in self.members:
            scores = member.model._forward(X, ("scores",))
            proba = member.model._probabilities(scores)
            given.append(proba[np.arange(len(labels)), labels].mean())
        number = int(np.argmin(given))
        self.job.notes.append(f"the new prototypes go to tree {number}")
        return number

    # -- samples -----------------------------------------------------------------------

    def labelled(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, TrainingData]:
        """Return validated samples, and with their classes as data of the ensemble."""
        X = self.model._check_input(X)
        codes = self.codes_of(X, y)
        weight = check_sample_weight(
            sample_weight,
            np.empty((len(codes), 1)),
            dtype=np.float64,
            ensure_non_negative=True,
        )
        parts = preparation.training_data(X, codes, weight, self.model._scaling)
        self._raw = X
        rng = np.random.RandomState(0)
        data = TrainingData(**parts, n_classes=len(self.model.classes_), rng=rng)
        weighted = _class_weighted(data, self.members[0].model)
        return X, data if weighted is None else replace(data, weight=weighted)

    def codes_of(self, X: Any, y: Any) -> NDArray[np.int64]:
        """Return the class codes of labels, which must be known."""
        return np.asarray(self.members[0].model._label_codes(X, y))

    def data_of(self, number: int, data: TrainingData) -> TrainingData:
        """Return data of the ensemble as a tree of it scales them."""
        mine, ours = self.members[number].model._scaling, self.model._scaling
        same = np.array_equal(mine.center, ours.center)
        if same and np.array_equal(mine.scale, ours.scale):
            return data
        known = np.flatnonzero(data.rows >= 0)
        X = preparation.scaled_samples(select_rows(self._raw, data.rows[known]), mine)
        if len(known) < len(data):
            items = preparation.scaled_samples(self.job.items.X, mine)
            X = sp.vstack([X, items]) if sp.issparse(X) else np.concatenate([X, items])
        return replace(data, X=X)

    def plain_data(self, X: Any) -> TrainingData:
        """Return samples as data of the tree that they are items of."""
        if self.job is None:
            self._raw = X
            return super().plain_data(X)
        number = self._weakest(X)
        found = self.members[number].plain_data(X)
        self._plain = number, found
        return found

    def candidates(self, data: TrainingData) -> NDArray[Any]:
        """Return codes of samples in the tree that the edit is about."""
        if self._plain is not None and data is self._plain[1]:
            return self.members[self._plain[0]].candidates(data)
        number = self._focus()
        return self.members[number].candidates(self.data_of(number, data))

    @property
    def allowed_sites(self) -> tuple[int, ...] | None:
        """Sites at which a prototype may be, None for all."""
        found: tuple[int, ...] | None = self.members[0].module.allowed_sites
        return found

    @property
    def has_sites(self) -> bool:
        """Whether an item is one of several sites of a sample."""
        return bool(self.members[0].module.encoder.n_sites > 1)

    def choose_sites(
        self, candidates: NDArray[Any], anchors: NDArray[np.bool_]
    ) -> Positions:
        """Choose sites by the anchors that are of the tree of the items."""
        number = self._focus()
        mine = anchors[:, self.trees() == number]
        mine = np.where(mine.any(axis=1, keepdims=True), mine, True)
        return self.members[number].choose_sites(candidates, mine)

    def alike(self, data: TrainingData) -> NDArray[np.float64]:
        """Return similarities (n, P) of samples, scaled as each tree does."""
        found = [m.alike(self.data_of(m.number, data)) for m in self.members]
        return np.concatenate(found, axis=1)
