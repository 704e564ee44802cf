"""What networks of prototype parts share: projection, pruning, refitting the head."""

from __future__ import annotations

import copy
import warnings
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skproto import _placing as placing
from skproto import _preparation as preparation
from skproto import _projection as projection
from skproto._fitting import keeps_state_on_error
from skproto.base import PrototypeClassifier
from skproto.nn.head_solver import SOLVABLE, solve_head
from skproto.training import AtStart, Phase, TrainingData
from skproto.utils import _parameters as rules
from skproto.utils._random import random_source

# A prototype stays if so many of its nearest samples are of its class.
PRUNE_MIN = 3


class PartPrototypeClassifier(PrototypeClassifier):
    """Base of the networks whose prototypes are parts of training samples.

    A subclass makes the module and names losses and phases; its module returns
    "activations", "sites" and "distances", has `head`, `ownership`, `set_prototypes`
    and `keep`. Training is followed by projection, pruning and the refit of the head.
    """

    _auto_encoders: ClassVar[dict[str, str]] = {"table": "mlp", "image": "conv"}
    # Fitted attributes with one entry for each prototype.
    _per_prototype: ClassVar[tuple[str, ...]] = (
        "prototypes_",
        "prototype_ids_",
        "prototype_indices_",
        "prototype_labels_",
        "prototype_samples_",
        "prototype_sample_labels_",
        "projection_distance_",
        "win_counts_",
        *placing.PLACE_ATTRIBUTES,
    )
    _parameter_rules = PrototypeClassifier._parameter_rules.extended(
        project_prototypes=rules.boolean(),
        unique_sources=rules.boolean(),
        prune_neighbors=(rules.none(), rules.integer(1)),
        head_solver=(rules.none(), rules.options("lbfgs", "adam")),
        head_epochs=rules.integer(0),
        l1=rules.real(0, ends="[)"),
        solver=rules.options("auto", "adam", "adamw"),
    )

    def _auto_solver(self, X) -> str:
        return "adam"

    # -- after training ----------------------------------------------------------------

    def _owners(self, module) -> np.ndarray | None:
        """Classes (P, K) of which the source of a prototype must be; None: any."""
        owners: np.ndarray = module.ownership.cpu().numpy()
        return owners

    def _finish(self, module, data: TrainingData) -> None:
        module.eval()
        if self.project_prototypes:
            before = self._accuracy(module, data)
            self._project_onto(module, data)
            self.projection_accuracy_ = np.array([before, self._accuracy(module, data)])
        if self.prune_neighbors is not None:
            self._prune_module(module, data, self.prune_neighbors)
        if self.head_solver == "lbfgs":
            self._refit(self._module, data)

    def _project_onto(self, module, data: TrainingData) -> None:
        """Move the prototypes onto sites and remember where they come from."""
        module.eval()
        nearest = projection.project(
            module, data, self._owners(module), unique=self.unique_sources
        )
        self._sources = nearest.index[0], nearest.sites[0]
        left = int((nearest.index[0] < 0).sum())
        if left:
            warnings.warn(
                f"{left} prototypes stay as they were learned: there is no sample of "
                "their class.",
                UserWarning,
                stacklevel=3,
            )

    def _accuracy(self, module, data: TrainingData) -> float:
        """Weighted share of samples that are classified right."""
        outputs = self._outputs(module, data, self._score_keys)
        right = self._codes(outputs) == np.asarray(data.y)
        return float(np.average(right, weights=np.asarray(data.weight)))

    def _outputs(self, module, data: TrainingData, keys) -> dict[str, np.ndarray]:
        """Return outputs of a module on training samples as they are, not augmented."""
        module.eval()
        parts: dict[str, list[np.ndarray]] = {key: [] for key in keys}
        device = module.prototypes.device
        for rows in data.chunks():
            x = torch.from_numpy(data.dense(rows)).to(device)
            with torch.inference_mode():
                outputs = module(x)
            for key in keys:
                if key in outputs:
                    parts[key].append(outputs[key].cpu().numpy())
        return {k: np.concatenate(v) for k, v in parts.items() if v}

    def _prune_module(self, module, data: TrainingData, k: int) -> np.ndarray:
        """Drop prototypes whose nearest samples are of other classes; return a mask."""
        owners = self._owners(module)
        n_prototypes = len(module.prototypes)
        if owners is None:
            return np.ones(n_prototypes, dtype=bool)
        nearest = projection.nearest_sites(module, data, None, min(k, len(data)))
        known = nearest.index >= 0
        codes = np.asarray(data.y)[np.maximum(nearest.index, 0)]
        own = owners[np.arange(n_prototypes), codes] & known
        kept = own.sum(axis=0) >= min(PRUNE_MIN, k)
        for code in np.flatnonzero(~owners[kept].any(axis=0) & owners.any(axis=0)):
            # A class that would lose all its prototypes keeps the purest.
            candidates = np.flatnonzero(owners[:, code])
            kept[candidates[own[:, candidates].sum(axis=0).argmax()]] = True
        if not kept.all():
            self.net_ = self._make_prediction_net(module.keep(torch.from_numpy(kept)))
            if "_sources" in vars(self):
                index, sites = self._sources
                self._sources = index[kept], sites[kept]
        return kept

    def _refit(self, module, data: TrainingData) -> None:
        """Fit the linear head to fixed activations: one convex problem."""
        name = module.config.get("head")
        if name not in SOLVABLE:
            return
        activations = self._outputs(module, data, ("activations",))["activations"]
        solution = solve_head(
            activations,
            data.y,
            module.head.weight.detach().cpu(),
            head=name,
            ownership=module.ownership.cpu(),
            l1=float(self.l1),
            sample_weight=data.weight,
        )
        with torch.no_grad():
            module.head.weight.copy_(torch.from_numpy(solution.weight))

    # -- fitted attributes -------------------------------------------------------------

    def _collect(self, module, data: TrainingData, X) -> None:
        n_prototypes = len(module.prototypes)
        index, sites = self._nearest_sources(module, data)
        self.prototypes_ = module.prototypes.detach().cpu().numpy().astype(np.float64)
        self.prototype_indices_ = data.rows[index]
        self.prototype_sample_labels_ = self.classes_[data.y[index]]
        self.projection_distance_ = self._distances_to(module, data, index)
        placing.read_sources(self, X, self.prototype_indices_, sites)
        self._read_head(module)
        wins = self._outputs(module, data, ("activations",))["activations"].argmax(1)
        self.win_counts_ = np.bincount(wins, minlength=n_prototypes)

    def _nearest_sources(self, module, data: TrainingData):
        """Sample and site of each prototype, the nearest where it was not projected."""
        nearest = projection.nearest_sites(module, data, self._owners(module))
        index, sites = nearest.index[0], nearest.sites[0]
        missing = index < 0
        if missing.any():
            anywhere = projection.nearest_sites(module, data)
            index = np.where(missing, anywhere.index[0], index)
            shape = missing.reshape(-1, *[1] * (sites.ndim - 1))
            sites = np.where(shape, anywhere.sites[0], sites)
        if "_sources" in vars(self):
            adopted, adopted_sites = self.__dict__.pop("_sources")
            taken = adopted >= 0
            index = np.where(taken, adopted, index)
            shape = taken.reshape(-1, *[1] * (sites.ndim - 1))
            sites = np.where(shape, adopted_sites, sites)
        return index, sites

    def _distances_to(self, module, data: TrainingData, index) -> np.ndarray:
        """Distance (P,) of each prototype from the sample behind it."""
        found = np.empty(len(index))
        device = module.prototypes.device
        for start in range(0, len(index), 64):
            chosen = np.arange(start, min(start + 64, len(index)))
            x = torch.from_numpy(data.dense(index[chosen])).to(device)
            with torch.inference_mode():
                distances = module(x)["distances"].double().cpu().numpy()
            found[chosen] = distances[np.arange(len(chosen)), chosen]
        return found

    def _read_head(self, module) -> None:
        """Set the attributes that are read off the head."""
        weights, _ = module.head.tables()
        self.class_weights_ = weights.detach().cpu().numpy().astype(np.float64)
        owners = self._owners(module)
        votes = self.class_weights_ if owners is None else owners
        self.prototype_labels_ = self.classes_[votes.argmax(axis=1)]

    # -- explaining --------------------------------------------------------------------

    def _evidence(self, outputs: dict[str, Any]) -> dict[str, Any]:
        weights, bias = (t.detach().cpu().numpy() for t in self._module.head.tables())
        weights, bias = weights.astype(np.float64), bias.astype(np.float64)
        activations = outputs["activations"].astype(np.float64)
        return {
            "class_contributions": activations[:, :, None] * weights,
            "class_bias": np.broadcast_to(bias, (len(activations), len(bias))),
            "head_weights": weights,
            "link": "softmax",
        }

    def _global_evidence(self) -> dict[str, Any]:
        return {"weights": self.class_weights_}

    # -- operations --------------------------------------------------------------------

    def _labelled(self, X, y) -> TrainingData:
        """Return validated samples with the codes of their labels."""
        X = self._check_input(X)
        codes = self._label_codes(X, y)
        parts = preparation.training_data(X, codes, np.ones(len(codes)), self._scaling)
        rng = random_source(self.random_state)
        return TrainingData(**parts, n_classes=len(self.classes_), rng=rng)

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

    @keeps_state_on_error
    def project(self, X, y):
        """Move every prototype onto the nearest part of the given samples.

        Only samples of a prototype's own class count. A second call changes nothing.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples such as those of `fit`, not augmented.

        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        self : object
            The estimator; `prototype_indices_` now counts the samples of this `X`.

        Raises
        ------
        ValueError
            If `y` holds labels that were not seen in `fit`, or lacks the class of a
            prototype.
        """
        data = self._labelled(X, y)
        module = copy.deepcopy(self._module)
        self._check_classes(module, data)
        self.net_ = self._make_prediction_net(module)
        before = self._accuracy(module, data)
        self._project_onto(module, data)
        self.projection_accuracy_ = np.array([before, self._accuracy(module, data)])
        self._collect(module, data, self._check_input(X))
        return self

    def _check_classes(self, module, data: TrainingData) -> None:
        """Raise where a prototype's class has no sample."""
        owners = self._owners(module)
        if owners is not None:
            present = np.bincount(data.y, minlength=data.n_classes) > 0
            missing = np.flatnonzero(owners.any(axis=0) & ~present)
            orphans = ~(owners & present).any(axis=1)
            if orphans.any():
                raise ValueError(
                    "y must hold samples of every class that has prototypes; it has "
                    f"none of {self.classes_[missing].tolist()}."
                )

    @keeps_state_on_error
    def prune(self, X, y, n_neighbors=6):
        """Drop prototypes that look like parts of other classes, then refit the head.

        A prototype goes if fewer than 3 of its nearest samples are of its class (the
        paper's rule). A class keeps at least one prototype.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples such as those of `fit`.

        y : array-like of shape (n_samples,)
            Their labels.

        n_neighbors : int, default=6
            Number of nearest samples, one part of each.

        Returns
        -------
        self : object
            The estimator; `prototype_ids_` tells which prototypes are left.
        """
        if not rules.integer(1).accepts(n_neighbors):
            raise ValueError(
                "n_neighbors must be an int in the range [1, inf). Got "
                f"{n_neighbors!r}."
            )

        data = self._labelled(X, y)
        module = copy.deepcopy(self._module)
        self.net_ = self._make_prediction_net(module)
        kept = self._prune_module(module, data, n_neighbors)
        placing.keep_entries(self, self._per_prototype, kept)
        self._refit(self._module, data)
        self._read_head(self._module)
        return self

    @keeps_state_on_error
    def refit_head(self, X, y):
        """Fit the weights of the head anew: one convex problem on fixed activations.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples such as those of `fit`.

        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        self : object
            The estimator; nothing but the head has changed.
        """
        data = self._labelled(X, y)
        self.net_ = self._make_prediction_net(copy.deepcopy(self._module))
        self._refit(self._module, data)
        self._read_head(self._module)
        return self


def push(model) -> AtStart:
    """Return a callback that projects the prototypes when a phase starts."""
    return AtStart(model._project_onto)


def phase_list(phases) -> list[Phase]:
    """Drop phases without epochs."""
    return [phase for phase in phases if phase.max_epochs]
