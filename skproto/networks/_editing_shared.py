"""How networks are edited whose prototypes are shared by classes: pools, channels."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize

from skproto import _projection as projection
from skproto._editing import (
    EditNotSupported,
    HeadFit,
    HeadRules,
    RowTraining,
    resized_module,
    with_user_labels,
)
from skproto.networks._editing import NetworkFamily, PartFamily, Positions
from skproto.nn.head_solver import solve_head
from skproto.training import TrainingData
from skproto.training._net import WeightedTerms

# Pull of the refit of the weights of channels towards what they were.
REFIT_PULL = 1e-3


class PoolFamily(PartFamily):
    """ProtoPool: slots of classes choose prototypes; weights belong to the slots.

    The weights (P, K) of a prototype are the sum over the slots that chose it. What
    changes them is written into its first slot; a prototype that is given to a class
    takes an empty slot of it, or one more.
    """

    @property
    def owns_classes(self) -> bool:
        """Whether prototypes belong to one class each: those of a pool are shared."""
        return False

    # -- slots -------------------------------------------------------------------------

    def _slots(self, position: int) -> torch.Tensor:
        """Return the slots that have chosen a prototype."""
        return self.module.head.chosen[:, position].nonzero()[:, 0]

    def _settle_owners(self) -> None:
        module = self.module
        module.set_ownership(module.head.ownership(), reset_head=False)

    def _write(self, position: int, column: NDArray[Any]) -> None:
        """Set the weights (K,) of a prototype, in the first of its slots."""
        head, slots = self.module.head, self._slots(position)
        with torch.no_grad():
            head.weight[slots] = 0.0
            head.weight[slots[0]] = torch.as_tensor(column).to(head.weight)

    def _give(self, position: int, label: int, column: NDArray[Any]) -> None:
        """Take a prototype out of its slots and put it into one of a class."""
        head = self.module.head
        with torch.no_grad():
            mine = self._slots(position)
            head.chosen[mine] = False
            head.weight[mine] = 0.0
        slot = self._empty_slot(label)
        head = self.module.head
        with torch.no_grad():
            head.chosen[slot, position] = True
            head.weight[slot] = torch.as_tensor(column).to(head.weight)
        self._settle_owners()

    def _empty_slot(self, label: int) -> int:
        """Return an empty slot of a class; all classes get one more if it is full."""
        head = self.module.head
        own = torch.arange(head.n_slots) + label * head.n_slots
        empty = own[~head.chosen[own].any(1)]
        if len(empty):
            return int(empty[0])
        self._grow()
        return int((label + 1) * self.module.head.n_slots - 1)

    def _grow(self) -> None:
        """Give every class one more slot, empty."""
        head, config = self.module.head, self.module.config
        shape = (head.n_classes, head.n_slots)
        changes = {}
        for name, value in (("chosen", head.chosen), ("weight", head.weight)):
            rows = value.detach().cpu().unflatten(0, shape)
            empty = rows.new_zeros((shape[0], 1, rows.shape[2]))
            changes[f"head.{name}"] = torch.cat([rows, empty], 1).flatten(0, 1)
        logits = head.logits.detach().cpu()
        low = logits.new_full((shape[0], 1, logits.shape[2]), float(logits.min()))
        changes["head.logits"] = torch.cat([logits, low], 1)
        options = {**config["head_options"], "n_slots": head.n_slots + 1}
        self.use(resized_module(self.model, {"head_options": options}, changes))

    # -- rows --------------------------------------------------------------------------

    def new_rows(self, name: str, values: torch.Tensor, codes, labels) -> torch.Tensor:
        """Return the entries of new prototypes, which no slot has chosen yet."""
        if name in ("head.logits", "head.chosen"):
            axis = self.axes()[name]
            shape = list(values.shape)
            shape[axis] = len(codes)
            low = float(values.min()) if name == "head.logits" else 0.0
            return torch.full(shape, low).to(values)
        return super().new_rows(name, values, codes, labels)

    def append(
        self, codes: NDArray[Any], labels: Positions, **options: Any
    ) -> Positions:
        """Append prototypes, each in a slot of its class with weight 0."""
        order = super().append(codes, labels, **options)
        column = np.zeros(len(self.model.classes_))
        first = len(order) - len(labels)
        for number, label in enumerate(labels.tolist()):
            self._give(first + number, label, column)
        return order

    def columns(self) -> NDArray[Any]:
        """Return the weights (P, K), summed over slots."""
        found = self.module.head.effective_weight().detach().cpu().numpy()
        return np.asarray(found.copy())

    def relabel(self, positions: Positions, label: int) -> None:
        """Give prototypes to a slot of another class, and to no other."""
        old, columns = self.class_codes()[positions], self.columns()
        for position, code in zip(positions.tolist(), old.tolist(), strict=True):
            column = columns[position].copy()
            column[code], column[label] = column[label], column[code]
            self._give(position, label, column)

    def reweight(self, positions: Positions, weights: NDArray[Any]) -> None:
        """Set weights; the slots stay."""
        rows = self.table(positions, weights)
        for position, row in zip(positions.tolist(), rows, strict=True):
            self._write(position, row)

    def add_columns(self, keep: int, others: Positions) -> None:
        """Add weights."""
        rows = np.concatenate([[keep], others])
        self._write(keep, self.columns()[rows].astype(np.float64).sum(axis=0))

    def set_pure(
        self, positions: Positions, labels: Positions, weight: float | None
    ) -> None:
        """Let prototypes be of one class alone and speak for it as its others do."""
        codes, columns = self.class_codes(), self.columns().astype(np.float64)
        others = np.setdiff1d(np.arange(len(codes)), positions)
        for position, label in zip(positions.tolist(), labels.tolist(), strict=True):
            own = weight
            if own is None:
                peers = others[codes[others] == label]
                own = max(columns[peers, label].mean(), 0.0) if len(peers) else 1.0
            column = np.zeros(columns.shape[1])
            column[label] = own
            self._give(position, label, column)

    def nearest(self, data: TrainingData, codes: Positions | None, k: int = 1):
        """Return the nearest samples, of any class that has chosen the prototype."""
        owners = self.model._owners(self.module)
        present = np.bincount(data.y, minlength=data.n_classes) > 0
        if codes is None or not (owners & present).any(axis=1).all():
            owners = None
        return projection.nearest_sites(self.module, data, owners, k)

    def fit_head(self, data: TrainingData, rules: HeadRules) -> HeadFit:
        """Solve the convex problem for the weights of prototypes that are free."""
        model = self.model
        weight = self.columns().astype(np.float64)
        owners = self.module.ownership.cpu().numpy()
        free = rules.free_entries(weight.shape[1])
        solution = solve_head(
            self.activations(data),
            data.y,
            np.where(free, owners, weight),
            ownership=owners,
            l1=float(model.l1),
            l2=float(model.head_l2),
            sample_weight=data.weight,
            free=free,
            lower=rules.lower_bounds(weight),
        )
        for position in np.flatnonzero(free.any(axis=1)).tolist():
            row = np.where(free[position], solution.weight[position], weight[position])
            self._write(position, row)
        return HeadFit(
            solution.converged,
            solution.n_iter,
            solution.start_objective,
            solution.objective,
        )


# -- channels --------------------------------------------------------------------------

NO_PLACE = (
    "its prototypes are the channels of the encoder, which exist from the start and "
    "have no place that could be another. Remove, reweight, relabel or lock them; "
    "repair='all' trains the encoder further."
)
PLACING = ("add", "replace", "soft_replace", "reinit", "finetune", "merge", "simplify")


class ChannelFamily(NetworkFamily):
    """PIP-Net: prototypes are channels, which can be left out and weighed."""

    refused = dict.fromkeys((*PLACING, "snap"), NO_PLACE)

    @property
    def movable(self) -> bool:
        """Whether a prototype can be put where a sample is: a channel cannot."""
        return False

    @property
    def owns_classes(self) -> bool:
        """Whether prototypes belong to one class each: weights decide."""
        return False

    def read(self) -> None:
        """Set the attributes that are read off the module."""
        model, module = self.model, self.module
        model.prototypes_ = module.prototypes.detach().cpu().numpy().astype(np.float64)
        model.class_weights_ = self.columns().astype(np.float64)
        codes = with_user_labels(model, model.class_weights_.argmax(axis=1))
        model.prototype_labels_ = model.classes_[codes]

    def columns(self) -> NDArray[Any]:
        """Return the weights (P, K), at least 0."""
        found = self.module.head.effective_weight().detach().cpu().numpy()
        return np.asarray(found.copy())

    def drop(self, kept: NDArray[np.bool_], **options: Any) -> Positions:
        """Leave channels out; the softmax at each site is over all of them still."""
        self.use(copy.deepcopy(self.module.keep(torch.from_numpy(kept))))
        return np.flatnonzero(kept)

    def relabel(self, positions: Positions, label: int) -> None:
        """Swap the weights for the old and for the new class."""
        old = self.class_codes()[positions]
        with torch.no_grad():
            for position, code in zip(positions.tolist(), old.tolist(), strict=True):
                row = self.module.head.weight[position]
                row[code], row[label] = row[label].clone(), row[code].clone()

    def reweight(self, positions: Positions, weights: NDArray[Any]) -> None:
        """Set weights (K,) of at least 0, or one number for the own class."""
        n_classes = len(self.model.classes_)
        if (weights < 0).any():
            raise ValueError(
                f"weights must be at least 0 for {self.name}. Got {weights.tolist()}."
            )
        if weights.ndim == 0 or weights.shape == (len(positions),) != (n_classes,):
            table = np.zeros((len(positions), n_classes))
            codes = self.class_codes()[positions]
            table[np.arange(len(positions)), codes] = weights
            weights = table
        with torch.no_grad():
            rows = torch.from_numpy(positions)
            head = self.module.head.weight
            head[rows] = torch.as_tensor(weights).to(head).expand(len(rows), -1)

    # -- places ------------------------------------------------------------------------

    def candidates(self, data: TrainingData) -> NDArray[Any]:
        """Return the probabilities (n, T, C) of all channels at every site."""
        parts = []
        for rows, x in projection.sample_blocks(data, self.module.head.weight.device):
            with torch.inference_mode():
                found = self.module.probabilities(x)[: len(rows)]
            parts.append(found.cpu().numpy())
        return np.concatenate(parts)

    def source_codes(
        self, data: TrainingData, index: Positions, sites, positions: Positions
    ) -> NDArray[Any]:
        """Return the probabilities (m, C) at sites of samples."""
        found: list[NDArray[Any]] = []
        start = 0
        for rows, x in projection.sample_blocks(
            data, self.module.head.weight.device, np.asarray(index)
        ):
            with torch.inference_mode():
                z = self.module.probabilities(x)[: len(rows)].cpu().numpy()
            here = np.asarray(sites)[start : start + len(rows)]
            found.append(z[np.arange(len(rows)), here])
            start += len(rows)
        return np.concatenate(found)

    def similarity(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the probabilities (m, P) of the channels that are prototypes."""
        index = self.module.index.cpu().numpy()
        return np.asarray(codes, dtype=np.float64)[:, index]

    def distances(
        self, codes: NDArray[Any], positions: Positions
    ) -> NDArray[np.float64]:
        """Return what the channel lacks of probability 1, (m,)."""
        own = self.similarity(codes)[np.arange(len(positions)), positions]
        return np.asarray(1.0 - own)

    def nearest(self, data: TrainingData, codes: Positions | None, k: int = 1):
        """Return the samples, of any class, in which a channel is most present."""
        return projection.nearest_sites(self.module, data, None, k)

    def forbid_sites(self, boxes, labels) -> None:
        """Keep all channels off a region."""
        if labels is not None:
            raise EditNotSupported(
                "forbid",
                self.name,
                "a channel is shared by all classes. Leave labels out, or reweight it.",
            )
        super().forbid_sites(boxes, labels)

    def count_wins(self, X: Any, data: TrainingData) -> NDArray[np.int64]:
        """Return `win_counts_`; thresholds of abstaining are set anew as well."""
        self.model._judge_samples(self.module, data)
        return np.asarray(self.model.win_counts_)

    # -- repair ------------------------------------------------------------------------

    def fit_head(self, data: TrainingData, rules: HeadRules) -> HeadFit:
        """Fit weights to the likelihood of training, near to what they were."""
        model, head = self.model, self.module.head
        presences = []
        for rows, x in projection.sample_blocks(data, head.weight.device):
            with torch.inference_mode():
                found = self.module(x)["activations"][: len(rows)]
            presences.append(found.double().cpu().numpy())
        weight = self.columns().astype(np.float64)
        free = rules.free_entries(weight.shape[1])
        lower = rules.lower_bounds(weight, 0.0)
        problem = _ChannelProblem(
            np.concatenate(presences),
            np.asarray(data.y),
            np.asarray(data.weight) / np.sum(data.weight),
            weight,
            free,
            float(model.shrink),
        )
        start = np.maximum(weight, lower)[free]
        before = problem(start)[0]
        found = minimize(
            problem,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=Bounds(lower[free], np.full(len(start), np.inf)),
            options={"maxiter": 500},
        )
        end = found.x if found.fun <= before else start
        with torch.no_grad():
            head.weight[torch.from_numpy(free)] = torch.from_numpy(end).to(head.weight)
        after = min(float(found.fun), before)
        return HeadFit(bool(found.success), int(found.nit), before, after)

    def fit_prototypes(self, data: TrainingData, plan: RowTraining) -> None:
        """Refuse: channels cannot move one by one."""
        name = "repair" if self.job is None else self.job.request.operation
        raise EditNotSupported(name, self.name, f"with repair='prototypes' {NO_PLACE}")

    def fit_all(self, data: TrainingData, plan: RowTraining) -> None:
        """Train encoder and channels by the loss, both views the sample itself."""
        module = self.module
        learned = [
            p for name, p in module.named_parameters() if not name.startswith("head")
        ]
        for parameter in module.parameters():
            parameter.requires_grad_(any(parameter is other for other in learned))
        optimizer = torch.optim.Adam(learned, lr=plan.lr)
        criterion = WeightedTerms(self.model._loss_terms())
        module.train()
        module.encoder.eval()
        rng, size = np.random.RandomState(plan.seed), 64
        for _ in range(plan.n_steps):
            rows = rng.permutation(len(data))[:size]
            x = torch.from_numpy(data.dense(rows)).to(module.head.weight.device)
            y = torch.from_numpy(np.asarray(data.y)[rows]).to(x.device)
            share = np.asarray(data.weight, dtype=np.float32)[rows]
            weight = torch.from_numpy(share).to(x.device)
            loss, _ = criterion(
                module(torch.cat([x, x])),
                torch.cat([y, y]),
                torch.cat([weight, weight]),
                module,
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        module.requires_grad_(True)
        module.eval()


class _ChannelProblem:
    r"""Cross entropy of :math:`\log(1 + o^2)` of scores o, and what shrinks weights."""

    def __init__(self, presences, y, share, weight, free, shrink):
        self.presences, self.y, self.share = presences, y, share
        self.weight, self.free, self.shrink = weight, free, shrink

    def __call__(self, vector):
        weight = self.weight.copy()
        weight[self.free] = vector
        scores = self.presences @ weight
        mass = 1.0 + scores**2
        total, row = mass.sum(axis=1), np.arange(len(self.y))
        value = float(self.share @ (np.log(total) - np.log(mass[row, self.y])))
        slope = 2.0 * scores / total[:, None]
        slope[row, self.y] -= 2.0 * scores[row, self.y] / mass[row, self.y]
        gradient = self.presences.T @ (slope * self.share[:, None])
        shift = weight - self.weight
        value += 0.5 * REFIT_PULL * float((shift**2).sum())
        value += self.shrink * float(weight.sum())
        gradient += REFIT_PULL * shift + self.shrink
        return value, gradient[self.free]
