"""How the prototype autoencoder is edited: prototypes are codes of whole samples."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skproto import _projection as projection
from skproto._editing import (
    EditNotSupported,
    HeadFit,
    HeadRules,
    resized_module,
    with_user_labels,
)
from skproto.networks._autoencoder_fit import encoded
from skproto.networks._autoencoder_refit import (
    REFIT_PULL,
    distances_of,
    exact_distances,
)
from skproto.networks._editing import NetworkFamily, Positions
from skproto.nn.head_solver import solve_head
from skproto.training import TrainingData


class AutoencoderFamily(NetworkFamily):
    """Codes and weights of squared distances; the decoder shows what codes are.

    A prototype speaks for the classes of which its weight is negative.
    """

    @property
    def has_sites(self) -> bool:
        """Whether an item is a part of a sample: here it is all of it."""
        return False

    def set_state(self, state) -> None:
        """Put the estimator into a state."""
        super(NetworkFamily, self).set_state(state)

    def read(self) -> None:
        """Set what is read off the module, and decode the prototypes again."""
        model = self.model
        points = self.module.prototypes.detach().cpu().numpy()
        model.prototypes_ = points.astype(np.float64)
        model.prototypes_decoded_ = model.decode_prototypes()
        weight = self.columns().astype(np.float64)
        model.head_weights_ = weight
        codes = with_user_labels(model, weight.argmin(axis=1))
        model.prototype_labels_ = model.classes_[codes]
        model.prototype_decoding_errors_ = model._decoding_errors()

    # -- rows --------------------------------------------------------------------------

    def drop(self, kept: NDArray[np.bool_], **options: Any) -> Positions:
        """Take prototypes and their weights out."""
        self.use(copy.deepcopy(self.module.keep(torch.from_numpy(kept))))
        return np.flatnonzero(kept)

    def append(
        self, codes: NDArray[Any], labels: Positions, **options: Any
    ) -> Positions:
        """Append prototypes of weight 0."""
        module, m = self.module, len(codes)
        weight = module.head.weight.detach().cpu()
        owners = torch.from_numpy(labels)[:, None] == torch.arange(weight.shape[1])
        points = module.prototypes.detach().cpu()
        new = torch.as_tensor(np.asarray(codes)).to(points)
        changes = {
            "prototypes": torch.cat([points, new]),
            "head.weight": torch.cat([weight, weight.new_zeros(m, weight.shape[1])]),
            "ownership": torch.cat([module.ownership.cpu(), owners]),
        }
        total = len(points) + m
        self.use(resized_module(self.model, {"n_prototypes": total}, changes))
        return np.arange(total)

    def append_entries(self, values: dict[str, Any]) -> None:
        """Append entries; what was decoded follows when the module is read."""
        m = len(values["prototype_ids_"])
        super().append_entries({"usual_distances_": np.ones(m), **values})

    def replace_entries(self, positions: Positions, values: dict[str, Any]) -> None:
        """Replace entries, and the usual distances to prototypes that came anew."""
        super().replace_entries(positions, values)
        samples = self.model.prototype_samples_
        if "projection_distance_" in values and samples is not None:
            data = self.plain_data(self.model._check_input(samples))
            squared = distances_of(self.module, self._codes(data))
            usual = squared.mean(axis=0).astype(float)
            new = {"usual_distances_": usual[positions]}
            super().replace_entries(positions, new)

    def relabel(self, positions: Positions, label: int) -> None:
        """Swap the weights for the old and for the new class."""
        old, module = self.class_codes()[positions], self.module
        with torch.no_grad():
            for position, code in zip(positions.tolist(), old.tolist(), strict=True):
                row = module.head.weight[position]
                row[code], row[label] = row[label].clone(), row[code].clone()
                module.ownership[position] = False
                module.ownership[position, label] = True

    def reweight(self, positions: Positions, weights: NDArray[Any]) -> None:
        """Set weights (K,) as in `head_weights_`, or one number for the own class."""
        codes, n_classes = self.class_codes()[positions], len(self.model.classes_)
        if weights.ndim == 0 or weights.shape == (len(positions),) != (n_classes,):
            table = np.zeros((len(positions), n_classes))
            table[np.arange(len(positions)), codes] = weights
            weights = table
        with torch.no_grad():
            rows = torch.from_numpy(positions)
            head = self.module.head.weight
            head[rows] = torch.as_tensor(weights).to(head).expand(len(rows), -1)

    def add_columns(self, keep: int, others: Positions) -> None:
        """Add weights."""
        rows = torch.from_numpy(np.concatenate([[keep], others]))
        with torch.no_grad():
            head = self.module.head.weight
            head[keep] = head[rows].double().sum(0).to(head)

    def set_pure(
        self, positions: Positions, labels: Positions, weight: float | None
    ) -> None:
        """Let prototypes speak for one class alone, as much as its others do."""
        codes, head = self.class_codes(), self.module.head.weight
        others = np.setdiff1d(np.arange(len(codes)), positions)
        with torch.no_grad():
            for position, label in zip(
                positions.tolist(), labels.tolist(), strict=True
            ):
                own = weight
                if own is None:
                    peers = others[codes[others] == label]
                    peers = peers if len(peers) else others
                    rows = torch.from_numpy(peers)
                    known = head[rows, torch.from_numpy(codes[peers])].double()
                    own = min(float(known.mean()), 0.0) if len(peers) else -1.0
                head[position] = 0.0
                head[position, label] = own

    def spoken_codes(self) -> Positions:
        """Return the class (P,) of the lowest weight."""
        return np.asarray(self.columns().argmin(axis=1))

    # -- items -------------------------------------------------------------------------

    def _codes(self, data: TrainingData) -> NDArray[Any]:
        """Return the codes (n, d) of samples."""
        return np.asarray(encoded(self.module.encode, self.module, data))

    def candidates(self, data: TrainingData) -> NDArray[Any]:
        """Return the code of each sample, as its only site."""
        return self._codes(data)[:, None]

    def source_codes(
        self, data: TrainingData, index: Positions, sites, positions: Positions
    ) -> NDArray[Any]:
        """Return the codes (m, d) of samples."""
        return self._codes(data.subset(np.asarray(index)))

    def recoded(
        self, data: TrainingData, index: Positions, positions: Positions
    ) -> NDArray[Any]:
        """Return the codes of the samples behind prototypes."""
        return self._codes(data)

    def boxes_of(
        self, sites: NDArray[np.int64], positions: Positions
    ) -> NDArray[np.int64] | None:
        """Return the whole image for every prototype."""
        if len(self.model._input_shape) != 3:
            return None
        return np.tile([0, 0, *self.model._input_shape[1:]], (len(sites), 1))

    def item_codes(self, data: TrainingData, sites: Any, anchors):
        """Return codes of samples, with all of the image as their place."""
        codes, places, _ = super(NetworkFamily, self).item_codes(data, sites, anchors)
        return codes, places, self.boxes_of(places, places)

    def similarity(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return similarities (m, P), 1 the same."""
        z = np.asarray(codes, dtype=np.float64)
        squared = ((z[:, None] - self.locations()) ** 2).sum(axis=2)
        return np.asarray(np.exp(-squared / float(self.model.bandwidth_)))

    def distances(
        self, codes: NDArray[Any], positions: Positions
    ) -> NDArray[np.float64]:
        """Return exact distances (m,), 0 where the same to the last bit."""
        points = self.module.prototypes.detach().cpu().numpy()[positions]
        return np.asarray(exact_distances(np.asarray(codes, points.dtype), points))

    def nearest(self, data: TrainingData, codes: Positions | None, k: int = 1):
        """Return the nearest samples, by the exact distances of codes."""
        found = distances_of(self.module, self._codes(data)).astype(np.float64)
        if codes is not None:
            found[np.asarray(data.y)[:, None] != codes] = np.inf
        order = np.argsort(found, axis=0, kind="stable")[:k]
        distances = np.sqrt(np.take_along_axis(found, order, 0))
        index = np.where(np.isfinite(distances), order, -1)
        return projection.NearestSites(index, np.zeros_like(index), distances)

    def forbid_sites(self, boxes, labels) -> None:
        """Hide a region from the encoder, whose codes are of the whole image."""
        if labels is not None:
            raise EditNotSupported(
                "forbid",
                self.name,
                "its prototypes are whole images, which all classes share with the "
                "encoder. Leave labels out.",
            )
        self.use(self.module)

    def hidden_sources(self) -> NDArray[np.bool_]:
        """Tell which sources are out of bounds: none, all are seen without it."""
        return np.zeros(len(self.model.prototype_ids_), dtype=bool)

    def count_wins(self, X: Any, data: TrainingData) -> NDArray[np.int64]:
        """Return `win_counts_` (P,); usual distances are measured anew as well."""
        squared = distances_of(self.module, self._codes(data))
        weight = np.asarray(data.weight)
        self.model.usual_distances_ = np.average(squared, axis=0, weights=weight)
        return np.bincount(squared.argmin(axis=1), minlength=squared.shape[1])

    # -- repair ------------------------------------------------------------------------

    def fit_head(self, data: TrainingData, rules: HeadRules) -> HeadFit:
        """Fit weights to negative distances, so that the own one is the largest."""
        squared = distances_of(self.module, self._codes(data)).astype(np.float64)
        size, head = float(squared.mean()) or 1.0, self.module.head
        weight = -head.weight.detach().double().cpu().numpy() * size
        free = rules.free_entries(weight.shape[1])
        solution = solve_head(
            -squared / size,
            data.y,
            weight,
            l1=0.0,
            l2=REFIT_PULL,
            sample_weight=data.weight,
            free=free,
            lower=rules.lower_bounds(weight),
        )
        with torch.no_grad():
            found = torch.from_numpy(-solution.weight[free] / size)
            head.weight[torch.from_numpy(free)] = found.to(head.weight)
        return HeadFit(
            solution.converged,
            solution.n_iter,
            solution.start_objective,
            solution.objective,
        )
