"""How networks of prototype parts are edited: heads, items, what is forbidden."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skproto._editing import EditingFamily, HeadFit, HeadRules, resized_module
from skproto._editing import _memory as memory
from skproto._editing._entries import sources_of
from skproto._editing._sources import find_sources, settle_on_samples
from skproto.networks._forbidding import check_boxes, forbidden_table
from skproto.nn.forbidden import class_forbidden, forbidden_sites
from skproto.nn.head_solver import solve_head
from skproto.nn.part_similarity import unit
from skproto.training import TrainingData

#: Similarities of directions, for which a soft replacement is a cap.
DIRECTIONS = frozenset({"cosine", "dot"})

Positions = NDArray[np.int64]


class NetworkFamily(EditingFamily):
    """What the networks share: sources anew after an edit, and forbidden sites."""

    def read(self) -> None:
        """Set the attributes that are read off the module."""
        module = self.module
        points = module.prototypes.detach().cpu().numpy()
        self.model.prototypes_ = points.astype(np.float64)
        self.model._read_head(module)

    def columns(self) -> NDArray[Any]:
        """Return the weights (P, K) of the head."""
        return np.asarray(self.module.head.weight.detach().cpu().numpy().copy())

    def append_entries(self, values: dict[str, Any]) -> None:
        """Append entries; what new prototypes come from is told next."""
        m = len(values["prototype_ids_"])
        values = {
            "projection_distance_": np.full(m, np.inf),
            "prototype_indices_": np.full(m, -1),
            **values,
        }
        super().append_entries(values)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Put the estimator into a state, with the sites that are forbidden in it."""
        super().set_state(state)
        table, now = forbidden_table(self.model), class_forbidden(self.module)
        if table is None and now is None:
            return
        if table is None or now is None or not np.array_equal(table, now.cpu().numpy()):
            self.use(copy.deepcopy(self.module))

    # -- items -------------------------------------------------------------------------

    def item_codes(
        self, data: TrainingData, sites: Any, anchors: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Positions, NDArray[np.int64] | None]:
        """Return codes of sites, none of which is forbidden to the anchors."""
        table = forbidden_sites(self.module)
        if table is None:
            return super().item_codes(data, sites, anchors)
        hidden = (anchors[:, :, None] & table.cpu().numpy()).any(axis=1)
        if sites is None:
            candidates = self.candidates(data)
            alike = self.similarity(candidates.reshape(-1, candidates.shape[2]))
            alike = alike.reshape(*candidates.shape[:2], -1)
            alike = np.where(anchors[:, None, :], alike, -np.inf).max(axis=2)
            sites = np.where(hidden, -np.inf, alike).argmax(axis=1)
        found = super().item_codes(data, sites, anchors)
        if hidden[np.arange(len(hidden)), found[1]].any():
            raise ValueError(
                f"sites must not lie on what is forbidden. Got {np.asarray(sites)!r}."
            )
        return found

    # -- forbidding --------------------------------------------------------------------

    def forbid_features(self, mask: NDArray[np.bool_]) -> None:
        """Hide features from the encoder; where they are tokens, forbid these too."""
        super().forbid_features(mask)
        self.use(self.module)

    def forbid_sites(
        self, boxes: NDArray[np.int64], labels: NDArray[np.int64] | None
    ) -> None:
        """Keep prototypes off the sites that lie on boxes."""
        check_boxes(self.model, self.module.encoder, boxes, labels)
        self.use(self.module)

    @property
    def movable(self) -> bool:
        """Whether a prototype can be put where a sample is."""
        return True

    def resettle(self, job: Any) -> None:
        """Encode the sources anew; move prototypes off what is forbidden to them."""
        model = self.model
        was_case = np.asarray(model.projection_distance_) == 0
        hidden = self.hidden_sources()
        if job.data is None and model.prototype_samples_ is None:
            raise ValueError(
                "forbid needs X and y here: the sources of the prototypes are not kept."
            )
        kept = ~hidden
        if model.prototype_samples_ is None:
            hidden, kept = np.ones_like(hidden), np.zeros_like(hidden)
        if kept.any():
            self._encode_again(np.flatnonzero(kept), was_case[kept])
        lost = np.flatnonzero(hidden)
        if not len(lost):
            return
        if job.data is None:
            self._next_best(lost)
            return
        free = lost[~memory.locked_mask(model)[lost]] if self.movable else lost[:0]
        if len(free):
            settle_on_samples(job, free)
        rest = np.setdiff1d(lost, free)
        if len(rest):
            find_sources(job, rest)

    def hidden_sources(self) -> NDArray[np.bool_]:
        """Tell which prototypes come from a site that is forbidden to them, (P,)."""
        table = forbidden_sites(self.module)
        sites = np.asarray(self.model.prototype_sites_)
        if table is None:
            return np.zeros(len(sites), dtype=bool)
        flat = sites.reshape(len(sites), -1)
        found = table.cpu().numpy()[np.arange(len(sites))[:, None], flat.clip(0)]
        return np.asarray((found & (flat >= 0)).any(axis=1))

    def _kept_sources(self, positions: Positions) -> tuple[Any, TrainingData]:
        """Return the sources of prototypes as validated samples and as data."""
        X = self.model._check_input(self.model.prototype_samples_[positions])
        return X, self.plain_data(X)

    def _encode_again(self, positions: Positions, was_case: NDArray[np.bool_]) -> None:
        """Let cases be what their sources look like now; measure how far others are."""
        _, data = self._kept_sources(positions)
        index = np.arange(len(positions))
        codes = self.recoded(data, index, positions)
        if self.movable and was_case.any():
            self.move(positions[was_case], codes[was_case])
        distance = self.distances(codes, positions)
        self.replace_entries(positions, {"projection_distance_": distance})

    def recoded(
        self, data: TrainingData, index: Positions, positions: Positions
    ) -> NDArray[Any]:
        """Return codes of samples at the places that prototypes come from."""
        sites = np.asarray(self.model.prototype_sites_)[positions]
        return self.source_codes(data, index, sites, positions)

    def _next_best(self, positions: Positions) -> None:
        """Name the best site left of their own sources; prototypes do not move."""
        X, data = self._kept_sources(positions)
        anchors = np.arange(len(self.model.prototype_ids_)) == positions[:, None]
        codes, sites, boxes = self.item_codes(data, None, anchors)
        index = np.arange(len(positions))
        found = sources_of(self.model, X, index, sites, boxes)
        found["projection_distance_"] = self.distances(codes, positions)
        self.replace_entries(positions, found)


class PartFamily(NetworkFamily):
    """Networks whose head is a table of weights, one row for each prototype."""

    def __init__(self, model: Any):
        super().__init__(model)
        if self.similarity_name in DIRECTIONS:
            self.geometry = "cosine"

    @property
    def similarity_name(self) -> str:
        """Name of the similarity, which says what the geometry is."""
        return str(self.module.config.get("similarity", "cosine"))

    def refusals(self) -> Mapping[str, str]:
        """Refuse what shares of a whole cannot be."""
        if not self.grouped:
            return self.refused
        reason = (
            "with head='grouped_softmax' the weights of a class are shares of one "
            "whole. Remove prototypes instead, or fit with head='class_linear'."
        )
        return {**self.refused, **dict.fromkeys(("reweight", "merge"), reason)}

    @property
    def grouped(self) -> bool:
        """Whether weights (P,) are logits of shares."""
        return bool(self.module.head.weight.ndim == 1)

    # -- rows --------------------------------------------------------------------------

    def axes(self) -> dict[str, int]:
        """Return the arrays of the module with an axis of prototypes, and which."""
        axes = {"prototypes": 0, "ownership": 0, "similarity.log_radius": 0}
        axes |= {f"head.{k}": a for k, a in self.module.head.prototype_axes.items()}
        state = self.module.state_dict()
        return {name: axis for name, axis in axes.items() if name in state}

    def config_of(self, labels: NDArray[np.int64]) -> dict[str, Any]:
        """Return the arguments of the constructor that tell of the prototypes."""
        return {"n_prototypes": len(labels)}

    def new_rows(self, name: str, values: torch.Tensor, codes, labels) -> torch.Tensor:
        """Return the entries of new prototypes in an array of the module."""
        m = len(codes)
        if name == "prototypes":
            return torch.as_tensor(np.asarray(codes)).to(values)
        if name.endswith("ownership"):
            owners = torch.arange(len(self.model.classes_))
            return torch.from_numpy(np.asarray(labels))[:, None] == owners
        if name == "similarity.log_radius" or (name == "head.weight" and self.grouped):
            return values.mean().expand(m).clone()
        return values.new_zeros((m, *values.shape[1:]))

    def drop(self, kept: NDArray[np.bool_], **options: Any) -> Positions:
        """Take prototypes and their weights out."""
        self.use(copy.deepcopy(self.module.keep(torch.from_numpy(kept))))
        return np.flatnonzero(kept)

    def append(
        self, codes: NDArray[Any], labels: NDArray[np.int64], **options: Any
    ) -> Positions:
        """Append prototypes of weight 0."""
        state = self.module.state_dict()
        changes = {}
        for name, axis in self.axes().items():
            values = state[name].cpu()
            new = self.new_rows(name, values, codes, labels)
            changes[name] = torch.cat([values, new.to(values)], dim=axis)
        every = np.concatenate([self.class_codes(), labels])
        self.use(resized_module(self.model, self.config_of(every), changes))
        return np.arange(len(every))

    def move(self, positions: Positions, codes: NDArray[Any]) -> None:
        """Put prototypes at codes, of length 1 where that is what they are."""
        points = torch.as_tensor(np.asarray(codes))
        if getattr(self.module, "unit_prototypes", False):
            points = unit(points.to(self.module.prototypes))
        super().move(positions, points.cpu().numpy())

    # -- weights -----------------------------------------------------------------------

    def relabel(self, positions: Positions, label: int) -> None:
        """Give prototypes to another class; weights for both classes are swapped."""
        old = self.class_codes()[positions]
        with torch.no_grad():
            for position, code in zip(positions.tolist(), old.tolist(), strict=True):
                self.own(position, label)
                if not self.grouped:
                    row = self.module.head.weight[position]
                    row[code], row[label] = row[label].clone(), row[code].clone()

    def own(self, position: int, label: int) -> None:
        """Make one class the owner of a prototype."""
        for owners in (
            self.module.ownership,
            getattr(self.module.head, "ownership", None),
        ):
            if owners is not None:
                owners[position] = False
                owners[position, label] = True

    def reweight(self, positions: Positions, weights: NDArray[Any]) -> None:
        """Set weights (K,) or (m, K), or one number for the own class."""
        table = self.table(positions, weights)
        with torch.no_grad():
            rows = torch.from_numpy(positions)
            head = self.module.head.weight
            head[rows] = torch.from_numpy(table).to(head)

    def table(self, positions: Positions, weights: NDArray[Any]) -> NDArray[Any]:
        """Return weights as rows (m, K), checked."""
        codes, n_classes = self.class_codes()[positions], len(self.model.classes_)
        if weights.ndim == 0 or weights.shape == (len(positions),) != (n_classes,):
            rows = np.zeros((len(positions), n_classes))
            rows[np.arange(len(positions)), codes] = weights
            weights = rows
        if self.nonnegative and (weights < 0).any():
            raise ValueError(
                f"weights must be at least 0 for {self.name}. Got {weights.tolist()}."
            )
        return np.broadcast_to(weights, (len(positions), n_classes)).copy()

    @property
    def nonnegative(self) -> bool:
        """Whether weights must not be negative."""
        return self.module.config.get("head") == "nonneg"

    def add_columns(self, keep: int, others: Positions) -> None:
        """Add weights."""
        rows = torch.from_numpy(np.concatenate([[keep], others]))
        with torch.no_grad():
            head = self.module.head.weight
            head[keep] = head[rows].double().sum(0).to(head)

    def set_pure(
        self, positions: Positions, labels: NDArray[np.int64], weight: float | None
    ) -> None:
        """Let prototypes speak for one class alone, as much as its others do."""
        codes, head = self.class_codes(), self.module.head.weight
        others = np.setdiff1d(np.arange(len(codes)), positions)
        with torch.no_grad():
            for position, label in zip(
                positions.tolist(), labels.tolist(), strict=True
            ):
                peers = torch.from_numpy(others[codes[others] == label])
                if self.grouped:
                    self._set_share(position, peers, weight)
                    continue
                own = weight
                if own is None:
                    known = head[peers, label].double()
                    own = max(float(known.mean()), 0.0) if len(peers) else 1.0
                head[position] = 0.0
                head[position, label] = own

    def _set_share(self, position: int, peers: torch.Tensor, weight) -> None:
        if weight is not None:
            raise ValueError(
                "weight must be None: with head='grouped_softmax' the weights of a "
                f"class are shares of one whole. Got {weight!r}."
            )
        head = self.module.head.weight
        head[position] = head[peers].mean() if len(peers) else 1.0

    def columns(self) -> NDArray[Any]:
        """Return weights (P, K), or (P, 1) where they are logits of shares."""
        found = super().columns()
        return found[:, None] if self.grouped else found

    def dead(self) -> Positions:
        """Return prototypes without weight; shares are never 0."""
        return np.zeros(0, dtype=np.int64) if self.grouped else super().dead()

    # -- repair ------------------------------------------------------------------------

    def activations(self, data: TrainingData) -> NDArray[Any]:
        """Return activations (n, P) of training samples, as the head sees them."""
        model = self.model
        found: NDArray[Any] = model._outputs(self.module, data, ("activations",))[
            "activations"
        ]
        return found

    def fit_head(self, data: TrainingData, rules: HeadRules) -> HeadFit:
        """Solve the convex problem of the refit for the weights that are free."""
        model, head = self.model, self.module.head
        weight = head.weight.detach().double().cpu().numpy()
        free, lower = rules.free, None
        if weight.ndim > 1:
            free = rules.free_entries(weight.shape[1])
            floor = 0.0 if self.nonnegative else -np.inf
            lower = rules.lower_bounds(weight, floor)
        center = model._head_center(self.module).double().numpy()
        solution = solve_head(
            self.activations(data),
            data.y,
            np.where(free, center, weight),
            head=model._head_name(self.module),
            ownership=self.module.ownership.cpu(),
            l1=float(model.l1),
            l2=float(getattr(model, "head_l2", 0.0)),
            sample_weight=data.weight,
            free=free,
            lower=lower,
        )
        with torch.no_grad():
            entries = torch.from_numpy(free)
            head.weight[entries] = torch.from_numpy(solution.weight[free]).to(
                head.weight
            )
        return HeadFit(
            solution.converged,
            solution.n_iter,
            solution.start_objective,
            solution.objective,
        )

    # -- items -------------------------------------------------------------------------

    def similarity(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return similarities (m, P): cosines, or falling with the distance."""
        if self.geometry != "cosine":
            return super().similarity(codes)
        z = unit(torch.as_tensor(np.asarray(codes, dtype=np.float64)))
        p = unit(torch.as_tensor(self.locations()))
        return np.asarray((z @ p.T).numpy())

    def distances(
        self, codes: NDArray[Any], positions: Positions
    ) -> NDArray[np.float64]:
        """Return latent distances (m,), 0 where projection would change nothing."""
        module = self.module
        points = module.prototypes.detach().clone()
        rows = torch.from_numpy(np.asarray(positions)).to(points.device)
        points[rows] = torch.as_tensor(np.asarray(codes)).to(points)
        with torch.inference_mode():
            found = module.candidate_distances(points[None])[0]
        return np.asarray(found.cpu().numpy(), dtype=np.float64)[positions]
