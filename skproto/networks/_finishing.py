"""From trained networks of prototype parts to fitted: project, prune, refit, read."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from skproto import _placing as placing
from skproto import _projection as projection
from skproto.base import PrototypeClassifier
from skproto.networks._forbidding import SiteForbidding
from skproto.nn.head_solver import SOLVABLE, solve_head
from skproto.training import TrainingData

# A prototype stays if so many of its nearest samples are of its class.
PRUNE_MIN = 3


class PartFinishing(SiteForbidding, PrototypeClassifier):
    """The part of `PartPrototypeClassifier` that follows on training."""

    project_prototypes: Any
    unique_sources: Any
    prune_neighbors: Any
    head_solver: Any
    l1: Any

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
        # One pass for the accuracy, the refit and the use of the prototypes.
        outputs = self._outputs(module, data, (*self._score_keys, "activations"))
        if self.project_prototypes:
            self.projection_accuracy_ = np.array([before, self._right(outputs, data)])
        kept: Any = slice(None)
        if self.prune_neighbors is not None:
            kept = self._prune_module(module, data, self.prune_neighbors)
        self._activations = outputs["activations"][:, kept]
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
        return self._right(self._outputs(module, data, self._score_keys), data)

    def _right(self, outputs, data: TrainingData) -> float:
        right = self._codes(outputs) == np.asarray(data.y)
        return float(np.average(right, weights=np.asarray(data.weight)))

    def _outputs(self, module, data: TrainingData, keys) -> dict[str, np.ndarray]:
        """Return outputs of a module on training samples as they are, not augmented."""
        module.eval()
        parts: dict[str, list[np.ndarray]] = {key: [] for key in keys}
        device = module.prototypes.device
        for rows, x in projection.sample_blocks(data, device):
            with torch.inference_mode():
                outputs = module(x)
            for key in keys:
                if key in outputs:
                    parts[key].append(outputs[key][: len(rows)].cpu().numpy())
        return {k: np.concatenate(v) for k, v in parts.items() if v}

    def _prune_module(self, module, data: TrainingData, k: int) -> np.ndarray:
        """Drop prototypes whose nearest samples are of other classes; return a mask."""
        owners = self._owners(module)
        n_prototypes = len(module.prototypes)
        if owners is None:
            # The class for which a prototype speaks most.
            weights, _ = module.head.tables()
            owners = np.eye(weights.shape[1], dtype=bool)[weights.argmax(1).cpu()]
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
        name = self._head_name(module)
        if name not in SOLVABLE:
            return
        solution = solve_head(
            self._measured(module, data),
            data.y,
            self._head_center(module),
            head=name,
            ownership=module.ownership.cpu(),
            l1=float(self.l1),
            l2=float(getattr(self, "head_l2", 0.0)),
            sample_weight=data.weight,
        )
        with torch.no_grad():
            module.head.weight.copy_(torch.from_numpy(solution.weight))

    def _head_name(self, module) -> str | None:
        """Return by which rule the head is fitted; others than `SOLVABLE` are left."""
        name: str | None = module.config.get("head")
        return name

    def _measured(self, module, data: TrainingData) -> np.ndarray:
        """Return activations (n, P), those of the last pass where there are such."""
        if "_activations" in vars(self):
            return self._activations
        return self._outputs(module, data, ("activations",))["activations"]

    def _head_center(self, module) -> torch.Tensor:
        """Return the weights that the refit starts from and pulls towards.

        1 from a prototype to its class and 0 to all others; independent of what the
        head is now, so that a second refit changes nothing.
        """
        if module.head.weight.ndim == 1:
            return torch.ones(len(module.head.weight))
        return module.ownership.cpu().float()

    # -- fitted attributes -------------------------------------------------------------

    def _collect(self, module, data: TrainingData, X) -> None:
        n_prototypes = len(module.prototypes)
        index, sites = self._nearest_sources(module, data)
        self.prototypes_ = module.prototypes.detach().cpu().numpy().astype(np.float64)
        self.prototype_indices_ = data.rows[index]
        self.prototype_sample_labels_ = self.classes_[np.asarray(data.y)[index]]
        self.projection_distance_ = self._distances_to(module, data, index, sites)
        sites, boxes = self._source_places(module, data, index, sites)
        placing.read_sources(self, X, self.prototype_indices_, sites, boxes)
        self._read_head(module)
        wins = self._measured(module, data).argmax(axis=1)
        self.win_counts_ = np.bincount(wins, minlength=n_prototypes)
        self.__dict__.pop("_activations", None)

    def _nearest_sources(self, module, data: TrainingData):
        """Sample and site of each prototype, the nearest where it was not projected."""
        adopted, adopted_sites = self.__dict__.pop("_sources", (None, None))
        if adopted is not None and (adopted >= 0).all():
            return adopted, adopted_sites
        nearest = projection.nearest_sites(module, data, self._owners(module))
        index, sites = nearest.index[0], nearest.sites[0]
        missing = index < 0
        if missing.any():
            anywhere = projection.nearest_sites(module, data)
            index = np.where(missing, anywhere.index[0], index)
            sites = _choose(missing, anywhere.sites[0], sites)
        if adopted is not None:
            taken = adopted >= 0
            index = np.where(taken, adopted, index)
            sites = _choose(taken, adopted_sites, sites)
        return index, sites

    def _distances_to(self, module, data: TrainingData, index, sites) -> np.ndarray:
        """Distance (P,) of each prototype from the part of the sample behind it."""
        if not hasattr(module, "candidates"):
            return self._at_sources(module, data, index, "distances").astype(float)
        found = module.prototypes.detach().clone()
        column = torch.from_numpy(np.asarray(sites)).to(found.device)
        start = 0
        for rows, x in projection.sample_blocks(data, found.device, index):
            with torch.inference_mode():
                candidates = module.candidates(x)
            here = column[start : start + len(rows)]
            row = torch.arange(len(rows), device=found.device)
            found[start : start + len(rows)] = candidates[row, here]
            start += len(rows)
        with torch.inference_mode():
            distances = module.candidate_distances(found[None])[0]
        return np.asarray(distances.cpu().numpy(), dtype=np.float64)

    def _at_sources(self, module, data: TrainingData, index, key) -> np.ndarray:
        """Return an output (n, P, ...) of each prototype on the sample behind it."""
        parts, start = [], 0
        for rows, x in projection.sample_blocks(data, module.prototypes.device, index):
            with torch.inference_mode():
                values = module(x)[key].cpu().numpy()
            own = np.arange(start, start + len(rows))
            parts.append(values[np.arange(len(rows)), own])
            start += len(rows)
        return np.concatenate(parts)

    def _source_places(self, module, data: TrainingData, index, sites):
        """Return sites (P,) or (P, M) of the prototypes, and boxes where known."""
        return sites, None

    def _read_head(self, module) -> None:
        """Set the attributes that are read off the head."""
        weights, _ = module.head.tables()
        self.class_weights_ = weights.detach().cpu().numpy().astype(np.float64)
        owners = self._owners(module)
        votes = self.class_weights_ if owners is None else owners
        self.prototype_labels_ = self.classes_[votes.argmax(axis=1)]


def _choose(chosen: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return rows of `first` where chosen (P,), of `second` elsewhere."""
    return np.where(chosen.reshape(-1, *[1] * (second.ndim - 1)), first, second)
