"""How networks are edited whose prototypes are made of several parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skproto import _projection as projection
from skproto._editing import resized_module
from skproto._editing._entries import sources_of
from skproto._provenance import site_boxes
from skproto.networks._editing import PartFamily, Positions
from skproto.networks._part_slots import class_blocks
from skproto.nn.forbidden import class_forbidden, forbidden_sites
from skproto.nn.part_sampling import settled_directions
from skproto.nn.part_set_projection import project_part_sets
from skproto.nn.part_sets import _SLOT_ROUNDED
from skproto.nn.part_similarity import unit
from skproto.training import TrainingData


class SetFamily(PartFamily, ABC):
    """Prototypes of several parts: all parts of one are edited together.

    An item is a sample with one site for each part; what is off stays off.
    """

    def _unit_parts(self) -> NDArray[np.float64]:
        """Return the directions (P, M, D) of the parts, zeros where they are off."""
        found = unit(torch.as_tensor(self.locations())).numpy()
        return np.where(self._kept()[..., None], found, 0.0)

    def _kept(self) -> NDArray[np.bool_]:
        """Tell which parts (P, M) there are."""
        return np.ones(self.module.prototypes.shape[:2], dtype=bool)

    def similarity(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return mean cosines (m, P) of parts, each with its counterpart."""
        z = unit(torch.as_tensor(np.asarray(codes, dtype=np.float64))).numpy()
        p, n_parts = self._unit_parts(), self._kept().sum(axis=1)
        found = z.reshape(len(z), -1) @ p.reshape(len(p), -1).T
        return np.asarray(found / np.maximum(n_parts, 1))

    def alike(self, X: Any) -> NDArray[np.float64]:
        """Return activations (n, P) as shares of the largest."""
        found = self.model._forward(X, ("activations",))["activations"]
        return np.asarray(found.astype(np.float64) / self._highest)

    @property
    @abstractmethod
    def _highest(self) -> float:
        """The largest activation."""


class TokenSetFamily(SetFamily):
    """ProtoViT: parts are tokens of one sample, some of them off."""

    per_prototype_extra = ("slots_", "n_parts_", "self_similarity_")

    @property
    def per_prototype(self) -> tuple[str, ...]:
        """Fitted attributes with one entry for each prototype."""
        return tuple(dict.fromkeys((*super().per_prototype, *self.per_prototype_extra)))

    @property
    def _highest(self) -> float:
        return float(self.module.n_parts)

    def _kept(self) -> NDArray[np.bool_]:
        return np.asarray(self.module.kept.cpu().numpy())

    def axes(self) -> dict[str, int]:
        """Return the arrays of the module with an axis of prototypes."""
        return {**super().axes(), "slot_logits": 0, "kept": 0}

    def new_rows(self, name: str, values: torch.Tensor, codes, labels) -> torch.Tensor:
        """Return the entries of new prototypes; a part without a token is off."""
        if name in ("kept", "slot_logits"):
            on = torch.from_numpy(np.asarray(codes).any(axis=2))
            return on if name == "kept" else torch.where(on, 1.0, -1.0) * _SLOT_ROUNDED
        return super().new_rows(name, values, codes, labels)

    def read(self) -> None:
        """Set the attributes that are read off the module."""
        super().read()
        self.model.slots_ = self._kept().copy()
        self.model.n_parts_ = self.model.slots_.sum(axis=1)

    def append_entries(self, values: dict[str, Any]) -> None:
        """Append entries; slots follow when the module is read."""
        m = len(values["prototype_ids_"])
        n_parts = self.module.n_parts
        fillers = {
            "slots_": np.ones((m, n_parts), dtype=bool),
            "n_parts_": np.full(m, n_parts),
            "self_similarity_": np.zeros(m),
        }
        super().append_entries({**fillers, **values})

    def replace_entries(self, positions: Positions, values: dict[str, Any]) -> None:
        """Replace entries, and what prototypes reach on sources that change."""
        if "projection_distance_" in values:
            samples = values.get("prototype_samples_")
            if samples is None and self.model.prototype_samples_ is not None:
                samples = self.model.prototype_samples_[positions]
            reached = self.module.n_parts - np.asarray(values["projection_distance_"])
            if samples is not None:
                X = self.model._check_input(samples)
                outputs = self.model._forward(X, ("activations",))["activations"]
                reached = outputs[np.arange(len(positions)), positions].astype(float)
            values = {**values, "self_similarity_": reached}
        super().replace_entries(positions, values)

    def distances(
        self, codes: NDArray[Any], positions: Positions
    ) -> NDArray[np.float64]:
        """Return distances (m,): parts less the sum of cosines, 0 the same."""
        p = self.module.prototypes.detach()[torch.from_numpy(np.asarray(positions))]
        kept = self._kept()[positions]
        z = unit(torch.as_tensor(np.asarray(codes)).to(p))
        apart = 0.5 * (z - unit(p)).square().sum(2).cpu().numpy()
        apart = np.where(kept, apart, 0.0).sum(axis=1).astype(np.float64)
        return np.asarray(self.module.n_parts * apart / np.maximum(kept.sum(axis=1), 1))

    # -- items -------------------------------------------------------------------------

    def _blocks(self, data: TrainingData, index: Positions | None = None):
        """Yield numbers, sites (r, T, D) and which of them exist (r, T)."""
        device, start = self.module.prototypes.device, 0
        for rows, x in projection.sample_blocks(data, device, index):
            n = len(rows)
            with torch.no_grad():
                z, mask = self.module.encode(x)
            exists = torch.ones(z.shape[:2], dtype=torch.bool)
            if mask is not None:
                exists = mask.cpu()
            yield np.arange(start, start + n), z[:n].cpu().numpy(), exists[:n].numpy()
            start += n

    def source_codes(
        self,
        data: TrainingData,
        index: Positions,
        sites: NDArray[np.int64],
        positions: Positions,
    ) -> NDArray[Any]:
        """Return tokens (m, M, D) at sites (m, M); zeros for a part that is off."""
        return np.concatenate(
            [
                _tokens(z, sites[rows])
                for rows, z, _ in self._blocks(data, np.asarray(index))
            ]
        )

    def item_codes(
        self, data: TrainingData, sites: Any, anchors: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64] | None]:
        """Return the tokens that the most similar anchor is matched to.

        `sites` may name one site of each item, around which the parts are, or one for
        each part.
        """
        if sites is None:
            places = self._matched(data, anchors)
        else:
            places = self._named(data, sites, anchors)
        one = anchors.sum(axis=1) == 1
        own = self._kept()[anchors.argmax(axis=1)]
        places = np.where(one[:, None] & ~own, -1, places)
        everything = np.arange(len(data))
        codes = self.source_codes(data, everything, places, everything)
        return codes, places, None

    def _matched(self, data: TrainingData, anchors: NDArray[np.bool_]) -> Positions:
        keys = ("activations", "sites")
        found = self.model._outputs(self.module, data, keys)
        best = np.where(anchors, found["activations"], -np.inf).argmax(axis=1)
        return np.asarray(found["sites"][np.arange(len(best)), best])

    def _named(self, data: TrainingData, sites: Any, anchors) -> Positions:
        """Return sites (m, M) that the user has named, checked."""
        n_sites, n_parts = self.module.encoder.n_sites, self.module.n_parts
        given = np.asarray(sites, dtype=np.int64)
        if given.ndim < 2 and given.shape != (n_parts,):
            given = np.resize(given, len(data))[:, None]
        given = np.broadcast_to(given, (len(data), given.shape[-1]))
        low = -1 if given.shape[1] > 1 else 0
        if (given < low).any() or (given >= n_sites).any():
            raise ValueError(
                f"sites must be in the range [0, {n_sites}), one for each item or one "
                f"for each of the {n_parts} parts. Got {sites!r}."
            )
        allowed = self._allowed(anchors, len(data))
        taken = np.take_along_axis(allowed, given.clip(0), axis=1)
        if not (taken | (given < 0)).all():
            raise ValueError(f"sites must not lie on what is forbidden. Got {sites!r}.")
        if given.shape[1] == n_parts and (n_parts > 1 or given.ndim > 1):
            return given
        exists = np.concatenate([mask for _, _, mask in self._blocks(data)])
        return self._around(given[:, 0], allowed & exists)

    def _allowed(self, anchors: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
        """Tell which sites (n, T) are forbidden to no anchor."""
        table = forbidden_sites(self.module)
        if table is None:
            return np.ones((n, self.module.encoder.n_sites), dtype=bool)
        return ~(anchors[:, :, None] & table.cpu().numpy()).any(axis=1)

    def _around(self, centres: Positions, allowed: NDArray[np.bool_]) -> Positions:
        """Return the M allowed sites (m, M) nearest to centres (m,)."""
        n_sites, grid = allowed.shape[1], self.module.encoder.grid
        sites = np.arange(n_sites)
        place = np.stack(np.divmod(sites, grid[1] if grid else n_sites), axis=1)
        apart = np.abs(place[centres][:, None] - place)
        apart = apart.max(axis=2) + 1e-3 * apart.sum(axis=2)
        order = np.where(allowed, apart, np.inf).argsort(axis=1, kind="stable")
        return np.asarray(order[:, : self.module.n_parts])

    def random_codes(
        self, data: TrainingData, rng: np.random.RandomState
    ) -> NDArray[Any]:
        """Return the tokens around one random site of each sample."""
        table = class_forbidden(self.module)
        found = []
        for rows, z, exists in self._blocks(data):
            if table is not None:
                exists = exists & ~table.cpu().numpy()[np.asarray(data.y)[rows]]
            draw = np.where(exists, rng.uniform(size=exists.shape), -1.0)
            found.append(_tokens(z, self._around(draw.argmax(axis=1), exists)))
        return np.concatenate(found)

    def nearest(self, data: TrainingData, codes: Positions | None, k: int = 1):
        """Return where projection would put the prototypes."""
        owners = self.module.ownership.cpu().numpy().any(axis=0)
        present = np.isin(np.flatnonzero(owners), data.y).all()
        if codes is None or k > 1 or not present:
            return super().nearest(data, codes, k)
        points = self.module.prototypes.detach().clone()
        blocks = class_blocks(self.module, data)
        found = project_part_sets(self.module, blocks, unique=False)
        self.module.set_prototypes(points)
        return projection.NearestSites(
            found.rows.cpu().numpy()[None],
            found.sites.cpu().numpy()[None],
            found.distances.double().cpu().numpy()[None],
        )


def _tokens(z: NDArray[Any], sites: NDArray[np.int64]) -> NDArray[Any]:
    """Return tokens (m, M, D) of samples (m, T, D) at sites (m, M), 0 for -1."""
    found = np.take_along_axis(z, sites.clip(0)[:, :, None], axis=1)
    return np.where((sites < 0)[:, :, None], 0.0, found).astype(z.dtype)


class DeformableFamily(SetFamily):
    """Deformable ProtoPNet: an item is a centre with the parts that move around it."""

    @property
    def _highest(self) -> float:
        return float(self.module.scale)

    def config_of(self, labels: Positions) -> dict[str, Any]:
        """Return the classes of the prototypes, which the module is made of."""
        return {"labels": [int(code) for code in labels]}

    def move(self, positions: Positions, codes: NDArray[Any]) -> None:
        """Put parts at codes, of length 1."""
        points = torch.as_tensor(np.asarray(codes)).to(self.module.prototypes)
        super().move(positions, settled_directions(points).detach().cpu().numpy())

    def relabel(self, positions: Positions, label: int) -> None:
        """Give prototypes to another class; weights for both classes are swapped."""
        labels = self.class_codes().copy()
        super().relabel(positions, label)
        labels[positions] = label
        self.use(resized_module(self.model, self.config_of(labels), {}))

    # -- items -------------------------------------------------------------------------

    def _centres(self, data: TrainingData, index: Positions | None = None):
        """Yield numbers, parts (r, T, M, D), their positions, and hidden centres."""
        device, start = self.module.prototypes.device, 0
        for rows, x in projection.sample_blocks(data, device, index):
            n = len(rows)
            with torch.inference_mode():
                parts, places = self.module.deformed(x)
                hidden = self.module.forbidden_centres(places)
            if hidden is None:
                shape = (n, len(self.module.prototypes), parts.shape[1])
                hidden = torch.zeros(shape, dtype=torch.bool)
            yield (
                np.arange(start, start + n),
                parts[:n].cpu().numpy(),
                places[:n].cpu().numpy(),
                hidden[:n].cpu().numpy(),
            )
            start += n

    def item_codes(
        self, data: TrainingData, sites: Any, anchors: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64] | None]:
        """Return the parts around the best centre, or around the one that is named."""
        n_sites = self.module.encoder.n_sites
        given = None
        if sites is not None:
            given = np.resize(np.asarray(sites, dtype=np.int64), len(data))
            if (given < 0).any() or (given >= n_sites).any():
                raise ValueError(
                    f"sites must be centres in the range [0, {n_sites}). Got {sites!r}."
                )
        codes, places, centres = [], [], []
        for rows, parts, positions, hidden in self._centres(data):
            mine = anchors[rows]
            closed = (mine[:, :, None] & hidden).any(axis=1)
            alike = self.similarity(parts.reshape(-1, *parts.shape[2:]))
            alike = alike.reshape(*parts.shape[:2], -1)
            alike = np.where(mine[:, None, :], alike, -np.inf).max(axis=2)
            best = np.where(closed, -np.inf, alike).argmax(axis=1)
            if given is not None:
                best = given[rows]
            line = np.arange(len(rows))
            if closed[line, best].any():
                raise ValueError(
                    "sites must be centres whose parts see nothing that is forbidden. "
                    f"Got {best[closed[line, best]].tolist()}."
                )
            codes.append(parts[line, best])
            places.append(positions[line, best])
            centres.append(best)
        found, boxes = self._cells(np.concatenate(places), np.concatenate(centres))
        return np.concatenate(codes), found, boxes

    def _cells(self, positions: NDArray[Any], centres: Positions):
        """Return the cells (m, M) and boxes of parts; of tables the one site (m,)."""
        if len(self.model._input_shape) != 3:
            return centres, None
        return self.model._places_of(positions)

    def random_codes(
        self, data: TrainingData, rng: np.random.RandomState
    ) -> NDArray[Any]:
        """Return the parts around one random centre of each sample."""
        owners = self.module.ownership.cpu().numpy()
        found = []
        for rows, parts, _, hidden in self._centres(data):
            own = owners[:, np.asarray(data.y)[rows]].T[:, :, None]
            closed = (own & hidden).any(axis=1)
            draw = np.where(closed, -1.0, rng.uniform(size=closed.shape))
            found.append(parts[np.arange(len(rows)), draw.argmax(axis=1)])
        return np.concatenate(found)

    def source_codes(
        self,
        data: TrainingData,
        index: Positions,
        sites: NDArray[np.int64],
        positions: Positions,
    ) -> NDArray[Any]:
        """Return the parts (m, M, D) around centres (m,)."""
        return np.concatenate(
            [
                parts[np.arange(len(rows)), sites[rows]]
                for rows, parts, _, _ in self._centres(data, np.asarray(index))
            ]
        )

    def places_of(
        self,
        data: TrainingData,
        index: Positions,
        sites: NDArray[np.int64],
        positions: Positions,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Return the cells and boxes of the parts around centres (m,)."""
        found = [
            places[np.arange(len(rows)), sites[rows]]
            for rows, _, places, _ in self._centres(data, np.asarray(index))
        ]
        return self._cells(np.concatenate(found), sites)

    # -- forbidding --------------------------------------------------------------------

    def hidden_sources(self) -> NDArray[np.bool_]:
        """Tell which prototypes have a part that sees what is forbidden to them."""
        table = forbidden_sites(self.module)
        boxes = getattr(self.model, "prototype_boxes_", None)
        if table is None or boxes is None:
            return np.zeros(len(self.model.prototype_ids_), dtype=bool)
        grid, shape = self.module.encoder.grid, self.model._input_shape
        cells = site_boxes(np.arange(table.shape[1]), grid, shape)
        boxes = np.asarray(boxes)[:, :, None]
        start = np.maximum(boxes[..., :2], cells[:, :2])
        end = np.minimum(boxes[..., 2:], cells[:, 2:])
        seen = (start < end).all(axis=3).any(axis=1)
        return np.asarray((seen & table.cpu().numpy()).any(axis=1))

    def _encode_again(self, positions: Positions, was_case: NDArray[np.bool_]) -> None:
        """Let cases be what their sources look like now, parts where they are now."""
        X, data = self._kept_sources(positions)
        anchors = np.arange(len(self.model.prototype_ids_)) == positions[:, None]
        codes, sites, boxes = self.item_codes(data, None, anchors)
        if was_case.any():
            self.move(positions[was_case], codes[was_case])
        found = sources_of(self.model, X, np.arange(len(positions)), sites, boxes)
        found["projection_distance_"] = self.distances(codes, positions)
        self.replace_entries(positions, found)
