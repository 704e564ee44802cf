"""How prototype trees are edited."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skproto._editing._entries import append_entries
from skproto.training import select_rows
from skproto.trees._editing_parts import TreeParts
from skproto.trees._grafting import Grafting, node_rows, regrown
from skproto.trees._radius import telling_radius

KEPT = ("majority", "present", "absent")

Positions = NDArray[np.int64]


class TreeFamily(TreeParts):
    """Prototype trees: a prototype is a question, the leaves below are its answer.

    The class of a prototype is that of most samples which find it present; a class
    that a user gives stays its label, and a fit of the leaves that respects labels
    makes it the class of most of these samples. A prototype that is locked keeps its
    place, radius and feature weights, and the leaves right below it their counts.
    """

    refused = {
        "reweight": (
            "a node has no weight: the leaves below it say what it speaks for. Use "
            "relabel, or lock nodes and let the leaves be fitted anew."
        )
    }
    options = {"remove": ("keep", "allow_empty_class")}

    def __init__(self, model: Any):
        super().__init__(model)
        # The prototype that stands for two while they are merged.
        self._merged: int | None = None

    # -- shape -------------------------------------------------------------------------

    def drop(
        self,
        kept: NDArray[np.bool_],
        keep: str = "majority",
        allow_empty_class: bool = False,
        **options: Any,
    ) -> Positions:
        """Put a child in the place of each node that goes."""
        if keep not in KEPT:
            raise ValueError(f"keep must be one of {list(KEPT)}. Got {keep!r}.")
        structure = self.structure
        grafting = Grafting(structure)
        if self._merged is not None:
            survivor = structure.inner_nodes[self._merged]
            grafting.lift(int(structure.parent[survivor]), int(survivor))
        else:
            mass = self._counts().sum(axis=1)
            for node in structure.inner_nodes[~kept].tolist():
                sides = grafting.left[node], grafting.right[node]
                present = mass[sides[1]] > mass[sides[0]]
                present = present if keep == "majority" else keep == "present"
                grafting.lift(node, sides[int(present)])
        shape = grafting.shape()
        self._check_lost(kept, shape, allow_empty_class or self._merged is not None)
        self.use(regrown(self.model, shape))
        self._merged = None
        return shape.prototypes

    def _check_lost(self, kept: NDArray[np.bool_], shape, may_lose_class: bool) -> None:
        """Raise where more goes than may; note what goes beside what was named."""
        gone = np.setdiff1d(np.flatnonzero(kept), shape.prototypes)
        if not len(shape.prototypes):
            raise ValueError(
                "ids must leave at least one prototype: the side that is kept is a "
                "leaf. Use another keep, or add a prototype first."
            )
        held = gone[self.locked()[gone]]
        if len(held):
            raise ValueError(
                f"ids must not have locked prototypes on the side that goes. There are "
                f"{self.ids(held)}; use another keep, or unlock_prototypes."
            )
        leading = self.module.leaf_distributions().argmax(dim=1).cpu().numpy()
        left = np.concatenate([leading[shape.leaves], self.favoured_elsewhere()])
        lost = np.setdiff1d(leading, left)
        if len(lost) and not may_lose_class:
            raise ValueError(
                "remove would take the last leaf that favours the classes "
                f"{self.model.classes_[lost].tolist()}; use another keep, or "
                "allow_empty_class=True and data for a repair."
            )
        if len(gone) and self._merged is None:
            self._note(f"prototypes {self.ids(gone)} were on the side that went")

    def favoured_elsewhere(self) -> NDArray[np.int64]:
        """Return the classes that something beside this tree favours."""
        return np.zeros(0, dtype=np.int64)

    def append(
        self, codes: NDArray[Any], labels: NDArray[np.int64], **options: Any
    ) -> Positions:
        """Split the leaf that each item reaches; both halves are copies of it."""
        n_old = len(self.module.prototypes)
        order = np.arange(n_old)
        for number, code in enumerate(codes):
            grafting = Grafting(self.structure)
            leaf = self._reached(number, code)
            grafting.split(int(self.structure.leaf_nodes[leaf]), len(order))
            shape = grafting.shape()
            self.use(regrown(self.model, shape, self._new_rows(code)))
            order = np.append(order, n_old + number)[shape.prototypes]
        return order

    def _reached(self, number: int, code: NDArray[Any]) -> int:
        """Return the leaf at the end of the hard path of an item."""
        items = None if self.edit is None else self.edit.items
        if items is not None and items.X is not None:
            one = select_rows(items.X, np.array([number]))
            return int(self.model._forward(one, ("leaf",))["leaf"][0])
        # A code is a site by itself.
        z = torch.from_numpy(np.asarray(code, dtype=np.float32))[None, None]
        module = self.module
        with torch.inference_mode():
            return int(module.evaluate_sites(z, self.model.routing)["leaf"][0])

    def _new_rows(self, code: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return rows of a prototype at a code: the typical radius and weights."""
        module = self.module
        rows = {"prototypes": np.asarray(code).reshape(1, -1)}
        for name in node_rows(module)[1:]:
            values = module.get_parameter(name).detach().double().cpu()
            if name == "feature_logits":
                with np.errstate(divide="ignore"):
                    rows[name] = np.log(values.softmax(1).mean(0, keepdim=True).numpy())
            else:
                rows[name] = values.mean(0, keepdim=True).numpy()
        return rows

    def append_entries(self, values: dict[str, Any]) -> None:
        """Append entries; what a prototype is follows when the tree is read."""
        model, m = self.model, len(values["prototype_ids_"])
        if model.prototype_samples_ is not None:
            shape = (m, *model.prototype_samples_.shape[1:])
            filler = np.zeros(shape, dtype=model.prototype_samples_.dtype)
            values = {"prototype_samples_": filler, **values}
        values = {
            "projection_distance_": np.full(m, np.inf),
            "prototype_indices_": np.full(m, -1),
            **values,
        }
        append_entries(model, self.per_prototype, values)

    # -- classes -----------------------------------------------------------------------

    def relabel(self, positions: Positions, label: int) -> None:
        """Swap the children where the class is more frequent on the absent side."""
        self.turn(positions, label)

    def turn(self, positions: Positions, label: int) -> Positions:
        """Do what :meth:`relabel` does; return the new order of the prototypes."""
        counts = self._counts()
        grafting = Grafting(self.structure)
        for node in self.structure.inner_nodes[positions].tolist():
            sides = np.array([grafting.left[node], grafting.right[node]])
            mass = np.maximum(counts[sides].sum(axis=1), np.finfo(float).tiny)
            absent, present = counts[sides, label] / mass
            if absent > present:
                grafting.swap(node)
            else:
                (key,) = self.ids(self.structure.prototype[[node]])
                self._note(
                    f"the class is already more frequent where prototype {key} is "
                    "present: its children stay"
                )
        shape = grafting.shape()
        self.use(regrown(self.model, shape))
        self.keep_entries(shape.prototypes)
        return shape.prototypes

    def reweight(self, positions: Positions, weights: NDArray[Any]) -> None:
        """Refuse: a node has no weight."""
        self.check_supported("reweight")

    def add_columns(self, keep: int, others: Positions) -> None:
        """Add the leaves of a sibling to those of a prototype."""
        structure = self.structure
        nodes = structure.inner_nodes[np.append(others, keep)]
        ends = np.asarray(structure.is_leaf)
        children = structure.children_left[nodes], structure.children_right[nodes]
        siblings = len(nodes) == 2 and len(np.unique(structure.parent[nodes])) == 1
        if not siblings or not ends[np.concatenate(children)].all():
            raise ValueError(
                "ids must be two siblings with nothing but leaves below them. Got "
                f"{self.ids(structure.prototype[nodes])}; remove takes any node out."
            )
        above = structure.prototype[structure.parent[nodes[:1]]]
        if self.locked()[above].any():
            raise ValueError(
                f"ids must not be below a locked prototype: {self.ids(above)} would "
                "go, as its question decides nothing any more."
            )
        with torch.no_grad():
            for side in children:
                other, mine = structure.leaf[side]
                self.module.leaf_counts[mine] += self.module.leaf_counts[other]
        self._note(f"prototype {self.ids(above)[0]} above them went as well")
        self._merged = int(keep)

    def set_pure(
        self, positions: Positions, labels: NDArray[np.int64], weight: float | None
    ) -> None:
        """Give new prototypes the radius that tells most, where there is data."""
        if weight is not None:
            raise ValueError(
                f"weight must be None: nodes of {self.name} have no weights. Got "
                f"{weight!r}."
            )
        edit, module = self.edit, self.module
        fresh = edit is not None and edit.request.operation in ("add", "reinit")
        if not fresh or self.data is None or module.log_radius is None:
            return
        for position, label in zip(positions.tolist(), labels.tolist(), strict=True):
            radius = telling_radius(module, self.data, position, label)
            with torch.no_grad():
                module.log_radius[position] = float(np.log(radius))
