"""How RBF networks and classification by components are edited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skproto._editing import (
    HeadFit,
    HeadRules,
    LinearProblem,
    resized_module,
    solve_linear,
)
from skproto.shallow._editing import ABSENT, ShallowFamily
from skproto.shallow._reasoning_fit import ReasoningProblem, solve_reasoning
from skproto.training import TrainingData

# Pull of the weights of a linear head where the estimator has no penalty of its own.
LEAST_DECAY = 1e-6

# Operations that need prototypes with a place.
MOVES = ("add", "replace", "soft_replace", "reinit", "finetune", "simplify", "snap")


class RBFFamily(ShallowFamily):
    """RBF networks with a linear or a convex head."""

    def refusals(self) -> Mapping[str, str]:
        """Refuse what channels and the head of 2019 cannot do."""
        if self.module.channels:
            reason = (
                "its prototypes are the channels of the encoder, all of which exist "
                "and none of which has a place."
            )
            names = (*MOVES, "remove", "merge", "forbid")
            return dict.fromkeys(names, reason)
        if self._head == "original":
            reason = (
                "the head of 2019 divides by what all components have in common; "
                "reasoning='extended' can be edited."
            )
            return dict.fromkeys(("add", "reweight", "merge"), reason)
        return {}

    @property
    def _head(self) -> str:
        return str(self.module.config["head"])

    @property
    def owns_classes(self) -> bool:
        """Whether prototypes belong to classes; shared ones may serve all of them."""
        return self.model.n_prototypes is None

    # -- rows --------------------------------------------------------------------------

    def _rows(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the module with one row, or two, for each prototype."""
        names = ["prototypes", "start", *HEAD_ROWS[self._head]]
        if len(self.module.kernel.log_sigma) == self.module.kernel.n_prototypes:
            names += ["kernel.log_sigma", "kernel.start"]
        state = self.module.state_dict()
        return {name: state[name].detach().cpu().numpy() for name in names}

    def _halves(self, name: str) -> int:
        """Return how many blocks of rows an array has: presence and absence."""
        return 2 if name == "head.logits" and self.module.head.negative else 1

    def _rebuild(self, rows: Mapping[str, NDArray[Any]]) -> None:
        n_prototypes = len(rows["prototypes"])
        self.use(resized_module(self.model, {"n_prototypes": n_prototypes}, rows))

    def drop(self, kept: NDArray[np.bool_], **options: Any) -> NDArray[np.int64]:
        """Take rows out; probabilities of the others are those over what is left."""
        rows = {
            name: values[np.tile(kept, self._halves(name))]
            for name, values in self._rows().items()
        }
        self._rebuild(rows)
        return np.flatnonzero(kept)

    def append(
        self, codes: NDArray[Any], labels: NDArray[np.int64], **options: Any
    ) -> NDArray[np.int64]:
        """Append rows of weight 0, with the typical width of their class."""
        model, m = self.model, len(codes)
        own = self.class_codes()
        rows = {}
        for name, values in self._rows().items():
            if name in ("prototypes", "start"):
                new = np.asarray(codes, dtype=values.dtype)
            elif name.startswith("kernel"):
                new = np.array([_typical(values, own == code) for code in labels])
            else:
                new = np.zeros((m, *values.shape[1:]))
            halves = np.split(values, self._halves(name))
            if name == "head.logits":
                new = np.broadcast_to(values.min(axis=0) - ABSENT, (m, values.shape[1]))
            new = new.astype(values.dtype)
            rows[name] = np.concatenate(
                [part for half in halves for part in (half, new)]
            )
        self._rebuild(rows)
        return np.arange(len(model.prototype_ids_) + m)

    def identical(self, positions: NDArray[np.int64]) -> bool:
        """Tell whether prototypes have one place and one width."""
        widths = self.module.kernel.sigma.detach().cpu().numpy()[positions]
        return super().identical(positions) and bool((widths == widths[0]).all())

    def move(self, positions: NDArray[np.int64], codes: NDArray[Any]) -> None:
        """Put prototypes at codes, from where they are held near in training."""
        super().move(positions, codes)
        with torch.no_grad():
            rows = torch.from_numpy(np.asarray(positions))
            self.module.start[rows] = self.module.prototypes[rows]

    def forbid_features(self, mask: NDArray[np.bool_]) -> None:
        """Put the coordinates of forbidden features to 0."""
        super().forbid_features(mask)
        if not self.model._encodes:
            self.module.start[:, torch.from_numpy(mask)] = 0.0

    # -- columns -----------------------------------------------------------------------

    def columns(self) -> NDArray[Any]:
        """Weights (P, K); of reasoning the rows (P, 2, M) of presence and absence."""
        if self._head == "linear":
            return self.module.head.weight.detach().cpu().numpy().copy()
        if self._head == "original":
            q = (self.module.head.q0, self.module.head.q1)
            return np.stack([t.detach().cpu().numpy() for t in q], axis=1)
        logits = self.module.head.logits.detach().cpu().numpy().copy()
        halves = np.split(logits, self._halves("head.logits"))
        return np.stack(halves, axis=1) if len(halves) > 1 else halves[0]

    def _concepts(self) -> NDArray[np.int64]:
        """Class code of each column of a table of reasoning."""
        n_classes = len(self.model.classes_)
        return np.repeat(np.arange(n_classes), self.module.head.n_reasonings)

    def dead(self) -> NDArray[np.int64]:
        """Return prototypes of no weight, or of no probability in any concept."""
        first, second = self.model._tables()
        if self._head == "linear":
            return np.flatnonzero(np.abs(first).max(axis=1) <= 1e-8)
        return np.flatnonzero((first + second).max(axis=1) <= 1e-8)

    def relabel(self, positions: NDArray[np.int64], label: int) -> None:
        """Swap the weights for the old and for the new class."""
        old = self.class_codes()[positions]
        with torch.no_grad():
            for name in HEAD_ROWS[self._head]:
                if name == "head.prior_logits":
                    continue
                table = self.module.get_parameter(name)
                P = self.module.kernel.n_prototypes
                for position, code in zip(
                    positions.tolist(), old.tolist(), strict=True
                ):
                    for row in range(position, len(table), P):
                        self._swap(table[row], code, label)

    def _swap(self, row: torch.Tensor, old: int, new: int) -> None:
        concepts = self._concepts()
        a = torch.from_numpy(np.flatnonzero(concepts == old))
        b = torch.from_numpy(np.flatnonzero(concepts == new))
        row[a], row[b] = row[b].clone(), row[a].clone()

    def set_pure(
        self,
        positions: NDArray[np.int64],
        labels: NDArray[np.int64],
        weight: float | None,
    ) -> None:
        """Let prototypes speak for one class alone, as much as its others do."""
        if self._head == "original":
            return
        others = np.setdiff1d(np.arange(self.module.kernel.n_prototypes), positions)
        own = self.class_codes()
        for position, code in zip(positions.tolist(), labels.tolist(), strict=True):
            peers = others[own[others] == code]
            if self._head == "linear":
                self._set_linear(position, code, peers, weight)
            else:
                self._set_reasoning(position, code, peers, weight)

    def _set_linear(self, position: int, code: int, peers, weight) -> None:
        table = self.module.head.weight
        with torch.no_grad():
            if weight is None:
                rows = torch.from_numpy(peers)
                weight = float(table[rows, code].double().mean()) if len(peers) else 1.0
                weight = max(weight, 0.0)
            table[position] = 0.0
            table[position, code] = weight

    def _set_reasoning(self, position: int, code: int, peers, weight) -> None:
        logits = self.module.head.logits
        P = self.module.kernel.n_prototypes
        mine = torch.from_numpy(np.flatnonzero(self._concepts() == code))
        with torch.no_grad():
            floor = logits.amin(0) - ABSENT
            least = logits.amin(0)
            held = logits.clone()
            held[position::P] = -torch.inf
            total = held.double().logsumexp(0)
            for row in range(position, len(logits), P):
                logits[row] = floor.minimum(least)
            if weight is None:
                rows = torch.from_numpy(peers)
                shares = (held[rows].double() - total).exp() if len(peers) else None
                share = (
                    shares[:, mine].mean(0)
                    if shares is not None
                    else torch.full((len(mine),), 1.0 / P, dtype=torch.float64)
                )
            else:
                share = torch.full((len(mine),), float(weight), dtype=torch.float64)
            # A share p of the column: its odds p / (1 - p) against all the others.
            share = share.clamp(1e-12, 0.9)
            logits[position, mine] = (share.log() - (-share).log1p() + total[mine]).to(
                logits
            )

    def reweight(self, positions: NDArray[np.int64], weights: NDArray[Any]) -> None:
        """Set weights (K,), or one number for the own class; shares of reasoning."""
        codes = self.class_codes()[positions]
        n_classes = len(self.model.classes_)
        if self._head != "linear":
            self._reweight_shares(positions, codes, weights)
            return
        if weights.ndim == 0 or weights.shape == (len(positions),) != (n_classes,):
            table = np.zeros((len(positions), n_classes))
            table[np.arange(len(positions)), codes] = weights
            weights = table
        weights = np.broadcast_to(weights, (len(positions), n_classes))
        with torch.no_grad():
            rows = torch.from_numpy(positions)
            table = self.module.head.weight
            table[rows] = torch.from_numpy(weights.copy()).to(table)

    def _reweight_shares(self, positions, codes, weights) -> None:
        if weights.ndim > 1 or (weights < 0).any() or (weights >= 1).any():
            raise ValueError(
                "weights must be shares of the reasoning of the own class, in the "
                "range [0, 1), one for all or one for each prototype. Got "
                f"{weights.tolist()}."
            )
        each = np.broadcast_to(weights, (len(positions),))
        none = np.zeros(0, dtype=np.int64)
        for position, code, w in zip(positions, codes, each, strict=True):
            self._set_reasoning(int(position), int(code), none, float(w))

    def add_columns(self, keep: int, others: NDArray[np.int64]) -> None:
        """Add weights; of reasoning the probabilities."""
        rows = torch.from_numpy(np.concatenate([[keep], others]))
        P = self.module.kernel.n_prototypes
        with torch.no_grad():
            if self._head == "linear":
                table = self.module.head.weight
                table[keep] = table[rows].double().sum(0).to(table)
                return
            logits = self.module.head.logits
            for half in range(0, len(logits), P):
                found = logits[rows + half].double().logsumexp(0)
                logits[keep + half] = found.to(logits)
            # The others are about to go; until then they must not count twice.
            for half in range(0, len(logits), P):
                logits[rows[1:] + half] = (logits.amin(0) - ABSENT).to(logits)

    # -- repair ------------------------------------------------------------------------

    @property
    def has_head(self) -> bool:
        """Whether the head can be fitted by itself; that of 2019 cannot."""
        return self._head != "original"

    def _activations(self, data: TrainingData) -> NDArray[np.float64]:
        """Return activations (n, P) of training samples, as the head sees them."""
        module, parts = self.module, []
        for rows in data.chunks():
            x = torch.from_numpy(data.dense(rows)).to(module.prototypes.device)
            with torch.inference_mode():
                squared = module.nearest_sites(x)
                parts.append(module.kernel(squared).double().exp().cpu().numpy())
        return np.concatenate(parts)

    def fit_head(self, data: TrainingData, rules: HeadRules) -> HeadFit:
        """Fit weights by a convex problem, reasoning by its likelihood."""
        if self._head == "linear":
            return self._fit_linear(data, rules)
        return self._fit_reasoning(data, rules)

    def _fit_linear(self, data: TrainingData, rules: HeadRules) -> HeadFit:
        head = self.module.head
        weight = head.weight.detach().double().cpu().numpy()
        bias = head.bias.detach().double().cpu().numpy()
        free = rules.free_entries(weight.shape[1])
        found, bias, fit = solve_linear(
            LinearProblem(
                self._activations(data),
                np.asarray(data.y),
                np.asarray(data.weight),
                weight,
                bias,
                free,
                rules.lower_bounds(weight),
                l2=max(float(self.model.alpha) / len(data), LEAST_DECAY),
                fit_bias=True,
            )
        )
        with torch.no_grad():
            entries = torch.from_numpy(free)
            head.weight[entries] = torch.from_numpy(found[free]).to(head.weight)
            head.bias.copy_(torch.from_numpy(bias))
        return fit

    def _fit_reasoning(self, data: TrainingData, rules: HeadRules) -> HeadFit:
        head = self.module.head
        found, fit = solve_reasoning(
            ReasoningProblem(
                activations=self._activations(data),
                y=np.asarray(data.y),
                sample_weight=np.asarray(data.weight),
                logits=head.logits.detach().double().cpu().numpy(),
                concepts=self._concepts(),
                rules=rules,
                decay=float(self.model.alpha) / len(data),
            )
        )
        changed = found != head.logits.detach().double().cpu().numpy()
        with torch.no_grad():
            entries = torch.from_numpy(changed)
            head.logits[entries] = torch.from_numpy(found[changed]).to(head.logits)
        return fit


#: Arrays of a head with one row, or two, for each prototype.
HEAD_ROWS = {
    "linear": ("head.weight",),
    "convex": ("head.logits",),
    "reasoning": ("head.logits",),
    "original": ("head.q0", "head.q1", "head.prior_logits"),
}


def _typical(values: NDArray[Any], own: NDArray[np.bool_]) -> float:
    """Mean over the prototypes of a class, of all where it has none."""
    return float(values[own].mean() if own.any() else values.mean())
