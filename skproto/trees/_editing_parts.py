"""What every edit of a prototype tree is made of: distances, leaves, training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skproto._editing import HeadFit, HeadRules, RowTraining, train_rows
from skproto._editing import _memory as memory
from skproto._projection import NearestSites, nearest_sites
from skproto.nn.tree import aggregate_leaves, class_sets
from skproto.training import TrainingData
from skproto.trees._grafting import node_rows
from skproto.trees._leaf_rules import LeafRules, fit_leaves
from skproto.trees._regions import SiteChoice, forbid_in_tree

#: Passes of EM before prototypes learn: two leaves that are the same give no gradient.
FIRST_PASSES = 2

Positions = NDArray[np.int64]


class TreeParts(SiteChoice):
    """The part of the family of trees that does not change their shape."""

    additive = False
    extra_state = ("_n_samples",)

    # -- what is known of the prototypes -----------------------------------------------

    @property
    def structure(self) -> Any:
        """The shape of the tree."""
        return self.module.structure

    def ids(self, positions: Positions) -> list[int]:
        """Return the ids of prototypes, as the user sees them."""
        return [int(i) for i in np.asarray(self.model.prototype_ids_)[positions]]

    def locked(self) -> NDArray[np.bool_]:
        """Tell which prototypes are locked, (P,)."""
        return memory.locked_mask(self.model)

    def user_codes(self) -> NDArray[np.int64]:
        """Return the class codes that a user has given, (P,); -1 for none."""
        return memory.user_codes(self.model)

    @property
    def owns_classes(self) -> bool:
        """Leaves have classes; a class may do without a prototype of its label."""
        return False

    def _counts(self) -> NDArray[np.float64]:
        """Return the class counts (n_nodes, K) of all nodes."""
        leaves = self.module.leaf_counts.double().cpu().numpy()
        return aggregate_leaves(self.structure, leaves)

    @property
    def edit(self) -> Any:
        """The edit under way, None outside of one."""
        return self.job

    def _note(self, text: str) -> None:
        if self.edit is not None:
            self.edit.notes.append(text)

    # -- distances ---------------------------------------------------------------------

    def _squared(self, codes: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
        """Return squared distances (m, P) of codes from points, as nodes weigh them."""
        weights = self.model._read_feature_weights()
        z = np.asarray(codes, dtype=np.float64).reshape(len(codes), 1, -1)
        # One prototype at a time: sites of many images are compared with all of them.
        columns = [
            ((z[:, 0] - p) ** 2) @ w for p, w in zip(points, weights, strict=True)
        ]
        return np.stack(columns, axis=1)

    def similarity(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return similarities (m, P): 1 at a prototype, one half at its radius."""
        radii = self.module.radii()
        scale = np.log(2) ** 2
        if radii is not None:
            scale = radii.detach().double().cpu().numpy() ** 2
        return 1.0 / (1.0 + self._squared(codes, self.locations()) / scale)

    def distances(self, codes: NDArray[Any], positions: Positions) -> NDArray[Any]:
        """Return distances (m,) as nodes weigh them, 0 where the same bits."""
        squared = self._squared(codes, self.locations())
        found = np.sqrt(squared[np.arange(len(codes)), positions])
        here = self.module.prototypes.detach().cpu().numpy()[positions]
        same = (here == np.asarray(codes, dtype=here.dtype)).all(axis=1)
        return np.where(same, 0.0, np.maximum(found, np.finfo(float).tiny))

    def duplicates(self) -> Positions:
        """Return pairs of prototypes of one place that ask the same question."""
        alike = self.similarity(self.locations())
        return np.argwhere(np.triu(np.minimum(alike, alike.T) > 0.999, 1))

    def identical(self, positions: Positions) -> bool:
        """Return False: merging takes the question above away as well."""
        return False

    @property
    def data(self) -> TrainingData | None:
        """The data of the edit under way."""
        found: TrainingData | None = None if self.edit is None else self.edit.data
        return found

    @property
    def allowed_sites(self) -> tuple[int, ...] | None:
        """Sites at which a prototype may be, None for all."""
        found: tuple[int, ...] | None = self.module.allowed_sites
        return found

    # -- data and repair ---------------------------------------------------------------

    def nearest(
        self, data: TrainingData, codes: NDArray[np.int64] | None, k: int = 1
    ) -> NearestSites:
        """Return the nearest samples of a class that the leaves below favour."""
        if codes is None:
            return nearest_sites(self.module, data, None, k)
        owners = class_sets(self.module)[self.structure.inner_nodes]
        owners[np.arange(len(codes)), codes] = True
        found = nearest_sites(self.module, data, owners, k)
        if (found.index[0] >= 0).all():
            return found
        anyone, missing = nearest_sites(self.module, data, None, k), found.index[0] < 0
        return NearestSites(
            np.where(missing, anyone.index, found.index),
            np.where(missing, anyone.sites, found.sites),
            np.where(missing, anyone.distances, found.distances),
        )

    def fit_head(self, data: TrainingData, rules: HeadRules) -> HeadFit:
        """Fit the leaves by EM, what is locked fixed, labels respected."""
        wanted = LeafRules(self.structure, rules)
        n_passes = max(self.model.refit_passes, 1)
        settled = fit_leaves(self.module, data, n_passes, wanted)
        if self.edit is not None and self.edit.X is not None:
            self.model._n_samples = self.edit.X.shape[0]
        broken = wanted.broken(self.module.leaf_counts.double().cpu().numpy())
        if len(broken):
            self._note(
                f"prototypes {self.ids(broken)} do not speak for their class: what is "
                "locked, or a label below them, is against it"
            )
        return HeadFit(settled, n_passes)

    @property
    def learning_rate(self) -> float:
        """The rate of the fit, a tenth of it where an annealed encoder is behind."""
        return float(self.model.lr) * (0.1 if self.encodes else 1.0)

    def _first_leaves(self, data: TrainingData) -> None:
        """Let the leaves see the data before prototypes learn."""
        codes = self.user_codes()
        rules = HeadRules(~self.locked(), codes >= 0, codes)
        fit_leaves(self.module, data, FIRST_PASSES, LeafRules(self.structure, rules))

    def fit_prototypes(self, data: TrainingData, plan: RowTraining) -> None:
        """Train some prototypes, their radii and feature weights."""
        self._first_leaves(data)
        plan = replace(plan, beside=node_rows(self.module)[1:])
        train_rows(self.module, self.model._loss_terms(), data, plan)

    def fit_all(self, data: TrainingData, plan: RowTraining) -> None:
        """Train all prototypes that are free, and the encoder."""
        ratio = float(self.model.encoder_lr) / float(self.model.lr)
        self.fit_prototypes(data, replace(plan, lr_encoder=ratio * plan.lr))

    # -- after an edit -----------------------------------------------------------------

    def read(self) -> None:
        """Set the attributes that are read off the tree."""
        self.model._read_tree()

    def count_wins(self, X: Any, data: TrainingData) -> None:
        """Tell anew how often path and soft sum agree; the leaves know the rest."""
        self.model.fidelity_ = self.model._fidelity(X)

    def dead(self) -> Positions:
        """Return prototypes that no sample, or every sample, finds present."""
        counts, structure = self._counts().sum(axis=1), self.structure
        inner = structure.inner_nodes
        sides = (
            counts[structure.children_left[inner]],
            counts[structure.children_right[inner]],
        )
        return np.flatnonzero(np.minimum(*sides) < 1e-3 * np.maximum(counts[0], 1e-12))

    def columns(self) -> NDArray[Any]:
        """Return the counts (P, 2, K) of the leaves right below, absent and present."""
        structure = self.structure
        counts = self.module.leaf_counts.cpu().numpy()
        sides = [structure.children_left, structure.children_right]
        leaves = [structure.leaf[side[structure.inner_nodes]] for side in sides]
        found = [np.where((leaf >= 0)[:, None], counts[leaf], 0.0) for leaf in leaves]
        return np.stack(found, axis=1)

    def spoken_codes(self) -> NDArray[np.int64]:
        """Return the class (P,) of most samples that find each prototype present."""
        present = self.structure.children_right[self.structure.inner_nodes]
        return np.asarray(self._counts()[present].argmax(axis=1))

    # -- forbidding --------------------------------------------------------------------

    def forbid_features(self, mask: NDArray[np.bool_]) -> None:
        """Take the weight of forbidden features; the others get it."""
        super().forbid_features(mask)
        forbid_in_tree(self.model, self.module)

    def forbid_sites(self, boxes: Positions, labels: Positions | None) -> None:
        """Keep all nodes off the sites that lie on boxes."""
        forbid_in_tree(self.model, self.module)
