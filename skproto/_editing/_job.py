"""An edit under way: the estimator, its family, data, items and what was done."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skproto import _preparation as preparation
from skproto._editing import _memory as memory
from skproto._editing._entries import sources_of
from skproto._editing._family import EditingFamily
from skproto._editing._request import EditRequest
from skproto._editing._state import value_hash
from skproto.training import TrainingData


@dataclass
class Items:
    """What a user wants prototypes to be.

    Parameters
    ----------
    codes : ndarray of shape (m, ...)
        Where they are in latent space.

    sites : ndarray of shape (m,) or (m, M)
        The site of each item.

    X : ndarray or SampleArray or None
        The items as samples; None where they are codes.

    raw : ndarray of shape (m, ...)
        As they were given.

    boxes : ndarray or None
        Pixels, where they are not those of the sites.
    """

    codes: NDArray[Any]
    sites: NDArray[np.int64]
    X: Any
    raw: NDArray[Any]
    boxes: Any = None

    def __len__(self) -> int:
        return len(self.codes)

    def at(self, index: Any) -> Items:
        """Return the items at positions."""
        index = np.asarray(index, dtype=np.int64)
        X = self.X
        if X is not None:
            X = X.select(index) if hasattr(X, "select") else X[index]
        boxes = None if self.boxes is None else self.boxes[index]
        return Items(self.codes[index], self.sites[index], X, self.raw[index], boxes)


@dataclass
class Job:
    """An edit under way.

    Parameters
    ----------
    model : estimator
        What is edited, in place.

    family : EditingFamily
        How.

    request : EditRequest
        What.
    """

    model: Any
    family: EditingFamily
    request: EditRequest
    seed: int = 0
    data: TrainingData | None = None
    X: Any = None
    items: Items | None = None
    touched: list[int] = field(default_factory=list)
    created: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    # -- prototypes --------------------------------------------------------------------

    def positions(self, ids: Any = None) -> NDArray[np.int64]:
        """Return the positions of prototypes by id; of those of the request."""
        known = np.asarray(self.model.prototype_ids_)
        wanted = self.request.ids if ids is None else ids
        if wanted is None:
            return np.arange(len(known))
        unknown = np.setdiff1d(wanted, known)
        if len(unknown):
            raise ValueError(
                f"ids must be among prototype_ids_. There is no {unknown.tolist()}; "
                f"there are {known.tolist()}."
            )
        return np.array([int(np.flatnonzero(known == i)[0]) for i in wanted])

    def unlocked(self) -> NDArray[np.int64]:
        """Return the positions of the request; raise where one of them is locked."""
        positions = self.positions()
        locked = memory.locked_mask(self.model)[positions]
        named = self.request.ids is not None
        if locked.any() and (named or locked.all()):
            ids = np.asarray(self.model.prototype_ids_)[positions[locked]]
            raise ValueError(
                f"ids must not be locked. Locked are {ids.tolist()}; "
                "unlock_prototypes makes them free."
            )
        return np.asarray(positions[~locked])

    def ids_of(self, positions: NDArray[np.int64]) -> list[int]:
        """Return ids by position."""
        return [int(i) for i in np.asarray(self.model.prototype_ids_)[positions]]

    # -- data --------------------------------------------------------------------------

    def need_data(self) -> TrainingData:
        """Return the data of the repair; raise where there is none."""
        if self.data is None:
            raise ValueError(
                f"{self.request.operation} needs training data: give X and y."
            )
        return self.data

    def load_data(self) -> None:
        """Read the data of the repair."""
        if self.request.has_data:
            request = self.request
            self.X, self.data = self.family.labelled(
                request.X, request.y, request.sample_weight
            )
            counted = np.flatnonzero(self.data.weight > 0)
            if len(counted) < len(self.data):
                self.data = self.data.subset(counted)

    def repair_data(self) -> TrainingData:
        """Return the data of the repair, with the items where they count as samples."""
        data = self.need_data()
        weight = self.request.item_weight
        if not weight or self.items is None or self.items.X is None:
            return data
        if not isinstance(data.X, np.ndarray) and not sp.issparse(data.X):
            raise ValueError(
                "item_weight is for tables; images that shall count as samples go "
                f"into X. Got {weight!r}."
            )
        scaled = preparation.scaled_samples(self.items.X, self.model._scaling)
        stack = sp.vstack if sp.issparse(data.X) else np.concatenate
        if sp.issparse(data.X):
            scaled = sp.csr_array(scaled)
        codes = self.family.class_codes()[self.positions(self.touched)]
        codes = np.resize(codes, scaled.shape[0])
        return replace(
            data,
            X=stack([data.X, scaled]),
            y=np.concatenate([data.y, codes]),
            weight=np.concatenate([data.weight, np.full(len(codes), weight)]),
            rows=np.concatenate([data.rows, np.full(len(codes), -1)]),
        )

    def data_hash(self) -> str | None:
        """Return a hash of the data of the repair."""
        if self.data is None:
            return None
        X, data = self.data.X, self.data
        if sp.issparse(X):
            parts: list[Any] = [X.data, X.indices, X.indptr]
        else:
            parts = [value_hash(data.dense(rows)) for rows in data.chunks()]
        return value_hash(*parts, np.asarray(data.y), np.asarray(data.weight))

    # -- items -------------------------------------------------------------------------

    def label_codes(self, labels: Any, count: int) -> NDArray[np.int64]:
        """Return class codes of one label, or of one for each of `count`."""
        array = np.asarray(labels)
        if array.ndim == 0:
            array = np.full(count, array[()], dtype=array.dtype)
        unknown = [label for label in array.tolist() if label not in self._known()]
        if unknown or array.shape != (count,):
            raise ValueError(
                f"label must be one of {sorted(self._known(), key=str)}, or one for "
                f"each of {count}. Got {labels!r}."
            )
        return np.asarray(np.searchsorted(self.model.classes_, array))

    def _known(self) -> list[Any]:
        known: list[Any] = self.model.classes_.tolist()
        return known

    def read_items(self, anchors: NDArray[np.bool_] | None = None) -> Items:
        """Return the items of the request as codes, with sites and samples.

        `anchors` (1 or m, P) are the prototypes by which a site is chosen where the
        user names none.
        """
        arguments = self.request.arguments
        given = arguments.get("items")
        if given is None:
            raise ValueError(
                f"{self.request.operation} needs items: rows of X, images, or codes "
                "with latent=True. Got None."
            )
        if arguments.get("latent"):
            self.items = self._read_codes(given)
        else:
            self.items = self._read_samples(given, arguments.get("sites"), anchors)
        return self.items

    def _read_codes(self, given: Any) -> Items:
        codes = np.asarray(given, dtype=np.float64)
        shape = self.family.locations().shape[1:]
        if codes.shape == shape:
            codes = codes[None]
        if codes.shape[1:] != shape or not np.isfinite(codes).all():
            raise ValueError(
                f"items with latent=True must be finite and of shape (m, *{shape}). "
                f"Got shape {codes.shape}."
            )
        return Items(codes, np.zeros(len(codes), dtype=np.int64), None, codes)

    def _read_samples(self, given: Any, sites: Any, anchors) -> Items:
        raw = as_samples(given, self.model)
        X = self.model._check_input(raw)
        data = self.family.plain_data(X)
        if anchors is None:
            anchors = np.ones((1, len(self.model.prototype_ids_)), dtype=bool)
        if len(anchors) != len(data):
            anchors = anchors.any(axis=0)[None].repeat(len(data), axis=0)
        codes, places, boxes = self.family.item_codes(data, sites, anchors)
        if sites is None and self.family.has_sites:
            self.notes.append(
                f"no site was given; the best-matching sites {places.tolist()} were "
                "taken"
            )
        raw = np.asarray(X[:] if X.ndim > 2 else _dense(X))
        return Items(codes, places, X, raw, boxes)

    def item_sources(self, items: Items, labels: NDArray[np.int64], positions):
        """Return the entries of attributes for prototypes that are items.

        Items that are samples are the sources; for codes the nearest training samples
        are looked for.
        """
        if items.X is None:
            return None
        m = len(items)
        codes = items.codes
        distance = self.family.distances(codes, positions)
        return {
            **sources_of(self.model, items.X, np.arange(m), items.sites, items.boxes),
            "prototype_indices_": np.full(m, -1),
            "prototype_sample_labels_": self.model.classes_[labels],
            "projection_distance_": distance,
        }


def _dense(X: Any) -> NDArray[Any]:
    return np.asarray(X.toarray() if sp.issparse(X) else X)


def as_samples(given: Any, model: Any) -> Any:
    """Return one item or several as samples, with the axis of samples in front."""
    if hasattr(given, "iloc"):
        return given.to_frame().T if given.ndim == 1 else given
    if sp.issparse(given):
        return given
    array = np.asarray(given)
    shape = model._input_shape
    if len(shape) == 3:
        # Images of one channel come without its axis, and flattened ones as rows.
        one = array.shape in (shape, shape[1:]) or array.ndim == 1
    else:
        one = array.ndim == len(shape)
    return array[None] if one else array
