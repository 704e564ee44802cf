"""How ensembles of prototype trees are edited: each edit in its own tree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skproto import _placing as placing
from skproto._editing import HeadFit, HeadRules, RowTraining
from skproto._editing import _memory as memory
from skproto._projection import NearestSites
from skproto.training import TrainingData
from skproto.trees._ensemble_members import EnsembleMembers

Positions = NDArray[np.int64]


class EnsembleFamily(EnsembleMembers):
    """Ensembles of prototype trees; a position counts through all trees.

    An item is encoded and scaled as the tree does that it goes to: the tree of the
    prototypes that are named, which have to be of one; a new prototype goes to the
    tree that the user names, else to the one which gives its class the smallest
    probability on the items, as there it changes most.
    """

    # -- prototypes --------------------------------------------------------------------

    def locations(self) -> NDArray[Any]:
        """Return the prototypes (P, D), each in the space of its tree."""
        return np.concatenate([m.locations() for m in self.members])

    def move(self, positions: Positions, codes: NDArray[Any]) -> None:
        """Put prototypes at codes in the spaces of their trees."""
        for member, mine, chosen in self._split(positions):
            self._changed.add(member.number)
            member.move(mine, np.asarray(codes)[chosen])

    def similarity(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return similarities (m, P); 0 to those of trees that an edit is not about."""
        found = [member.similarity(codes) for member in self.members]
        if self.job is not None:
            number = self._focus()
            found = [f if t == number else 0.0 * f for t, f in enumerate(found)]
        return np.concatenate(found, axis=1)

    def duplicates(self) -> Positions:
        """Return pairs of prototypes of one place in the same tree."""
        first = np.searchsorted(self.trees(), np.arange(len(self.members)))
        pairs = [m.duplicates() + first[m.number] for m in self.members]
        return np.concatenate(pairs)

    def distances(self, codes: NDArray[Any], positions: Positions) -> NDArray[Any]:
        """Return distances (m,) in the metrics of the trees."""
        found = np.zeros(len(positions))
        for member, mine, chosen in self._split(positions):
            found[chosen] = member.distances(np.asarray(codes)[chosen], mine)
        return found

    def identical(self, positions: Positions) -> bool:
        """Return False: merging takes the question above away as well."""
        return False

    @property
    def owns_classes(self) -> bool:
        """Leaves have classes; a class may do without a prototype of its label."""
        return False

    def drop(self, kept: NDArray[np.bool_], **options: Any) -> Positions:
        """Put a child in the place of each node that goes."""
        order = []
        for member, _, chosen in self._all():
            local = kept[chosen]
            if local.all():
                order.append(chosen)
                continue
            self._changed.add(member.number)
            left = member.drop(local, **options)
            member.keep_entries(left)
            order.append(chosen[left])
        return np.concatenate(order)

    def append(
        self, codes: NDArray[Any], labels: NDArray[np.int64], **options: Any
    ) -> Positions:
        """Split leaves of the tree to which the items go."""
        number = self._focus()
        options.pop("tree", None)
        self._changed.add(number)
        left = self.members[number].append(codes, labels, **options)
        owner, n_old = self.trees(), len(self.trees())
        mine = np.flatnonzero(owner == number)
        known = np.concatenate([mine, n_old + np.arange(len(codes))])
        self._added = number, left
        parts = [np.flatnonzero(owner == t) for t in range(len(self.members))]
        parts[number] = known[left]
        return np.concatenate(parts)

    def append_entries(self, values: dict[str, Any]) -> None:
        """Append entries to the tree of the new prototypes."""
        assert self._added is not None
        number, left = self._added
        member, model = self.members[number], self.model
        member.append_entries(values)
        member.keep_entries(left)
        new = values["prototype_ids_"]
        model.prototype_ids_ = np.concatenate([model.prototype_ids_, new])
        sizes = [len(m.model.prototype_ids_) for m in self.members]
        model.prototype_trees_ = np.repeat(np.arange(len(sizes)), sizes)

    def keep_entries(self, order: Positions) -> None:
        """Follow with the ids; the trees have their entries in order already."""
        placing.keep_entries(self.model, ("prototype_ids_",), order)
        sizes = [len(m.module.prototypes) for m in self.members]
        self.model.prototype_trees_ = np.repeat(np.arange(len(sizes)), sizes)

    def replace_entries(self, positions: Positions, values: dict[str, Any]) -> None:
        """Replace the entries of prototypes in their trees."""
        for member, mine, chosen in self._split(np.asarray(positions)):
            member.replace_entries(
                mine, {name: _chosen(value, chosen) for name, value in values.items()}
            )

    def relabel(self, positions: Positions, label: int) -> None:
        """Swap the children where the class is more frequent on the absent side."""
        order = np.arange(len(self.trees()))
        for member, mine, chosen in self._split(positions):
            start = positions[chosen[0]] - mine[0]
            self._changed.add(member.number)
            turned = member.turn(mine, label)
            order[start : start + len(turned)] = start + turned
        self.keep_entries(order)

    def reweight(self, positions: Positions, weights: NDArray[Any]) -> None:
        """Refuse: a node has no weight."""
        self.check_supported("reweight")

    def add_columns(self, keep: int, others: Positions) -> None:
        """Add the leaves of a sibling to those of a prototype."""
        everyone = np.append(others, keep)
        if len(np.unique(self.trees()[everyone])) > 1:
            raise ValueError(
                "ids must be two siblings of one tree. Got prototypes of the trees "
                f"{np.unique(self.trees()[everyone]).tolist()}."
            )
        ((member, mine, _),) = self._split(everyone)
        member.add_columns(int(mine[-1]), mine[:-1])

    def set_pure(
        self, positions: Positions, labels: NDArray[np.int64], weight: float | None
    ) -> None:
        """Give new prototypes the radius that tells most, where there is data."""
        for member, mine, chosen in self._split(positions):
            member.set_pure(mine, labels[chosen], weight)

    def columns(self) -> NDArray[Any]:
        """Return the counts (P, 2, K) of the leaves right below."""
        return np.concatenate([member.columns() for member in self.members])

    def spoken_codes(self) -> NDArray[np.int64]:
        """Return the class (P,) of most samples that find each prototype present."""
        return np.concatenate([member.spoken_codes() for member in self.members])

    # -- data and repair ---------------------------------------------------------------

    def source_codes(
        self,
        data: TrainingData,
        index: Positions,
        sites: Positions,
        positions: Positions,
    ) -> NDArray[Any]:
        """Return codes of the sites of samples, each in the space of its tree."""
        found = np.zeros((len(positions), self.locations().shape[1]), dtype=np.float32)
        for member, mine, chosen in self._split(positions):
            here = self.data_of(member.number, data)
            found[chosen] = member.source_codes(
                here, index[chosen], sites[chosen], mine
            )
        return found

    def nearest(
        self, data: TrainingData, codes: NDArray[np.int64] | None, k: int = 1
    ) -> NearestSites:
        """Return the nearest samples of a class that the leaves below favour."""
        parts = [
            member.nearest(
                self.data_of(member.number, data),
                None if codes is None else codes[chosen],
                k,
            )
            for member, _, chosen in self._all()
        ]
        return NearestSites(
            np.concatenate([part.index for part in parts], axis=1),
            np.concatenate([part.sites for part in parts], axis=1),
            np.concatenate([part.distances for part in parts], axis=1),
        )

    @property
    def learning_rate(self) -> float:
        """Learning rate of the trees."""
        return self.members[0].learning_rate

    def _refitted(self) -> set[int]:
        """Return the trees that a repair is about: those changed, all if none was."""
        everyone = set(range(len(self.members)))
        if self.job is None or self.job.request.operation == "forbid":
            return everyone
        touched = self.trees()[np.isin(self.model.prototype_ids_, self.job.touched)]
        return (self._changed | set(touched.tolist())) or everyone

    def fit_head(self, data: TrainingData, rules: HeadRules) -> HeadFit:
        """Fit the leaves of the trees that the edit is about."""
        trees = self._refitted()
        fits = [
            member.fit_head(
                self.data_of(member.number, data),
                HeadRules(
                    rules.free[chosen],
                    rules.restricted[chosen],
                    rules.labels[chosen],
                    rules.min_weight,
                ),
            )
            for member, _, chosen in self._all()
            if member.number in trees
        ]
        return HeadFit(all(f.converged for f in fits), max(f.n_iter for f in fits))

    def fit_prototypes(self, data: TrainingData, plan: RowTraining) -> None:
        """Train some prototypes, each by the loss of its tree."""
        for member, mine, chosen in self._split(plan.free):
            limits = {
                int(here): plan.constraints[int(position)]
                for here, position in zip(mine, plan.free[chosen], strict=True)
                if int(position) in plan.constraints
            }
            part = replace(plan, free=mine, constraints=limits)
            member.fit_prototypes(self.data_of(member.number, data), part)

    def fit_all(self, data: TrainingData, plan: RowTraining) -> None:
        """Train all prototypes that are free, and the encoders."""
        tree = self.members[0].model
        rate = plan.lr * float(tree.encoder_lr) / float(tree.lr)
        self.fit_prototypes(data, replace(plan, lr_encoder=rate))

    # -- after an edit -----------------------------------------------------------------

    def read(self) -> None:
        """Set the attributes of the trees and those that join them."""
        for member in self.members:
            member.read()
        self.model._join_trees()

    def count_wins(self, X: Any, data: TrainingData) -> None:
        """Tell anew how often path and soft sum agree in the trees."""
        for number in self._refitted():
            self.members[number].count_wins(X, data)
        self.model._join_trees()

    def dead(self) -> Positions:
        """Return prototypes that no sample, or every sample, finds present."""
        first = np.searchsorted(self.trees(), np.arange(len(self.members)))
        return np.concatenate([m.dead() + first[m.number] for m in self.members])

    # -- forbidding --------------------------------------------------------------------

    def _share_forbidden(self) -> None:
        """Tell the trees what is forbidden."""
        forbidden = memory.edit_state(self.model)["forbidden"]
        for member in self.members:
            memory.update(member.model, forbidden=forbidden)

    def forbid_features(self, mask: NDArray[np.bool_]) -> None:
        """Forbid features to all trees."""
        self._share_forbidden()
        for member in self.members:
            member.forbid_features(mask)

    def forbid_sites(self, boxes: Positions, labels: Positions | None) -> None:
        """Keep the nodes of all trees off the sites that lie on boxes."""
        self._share_forbidden()
        for member in self.members:
            member.forbid_sites(boxes, labels)


def _chosen(value: Any, index: Positions) -> Any:
    """Return some of the entries of an array or a list; None stays."""
    if value is None:
        return None
    if isinstance(value, list):
        return [value[i] for i in index.tolist()]
    return np.asarray(value)[index]
