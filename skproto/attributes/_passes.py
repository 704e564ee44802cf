"""Passes over samples: what their changes do to the similarities, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skproto.attributes import _reading as reading
from skproto.attributes import _scores as scoring
from skproto.attributes._image_changes import ImageChanges, Variant
from skproto.attributes._reading import Found
from skproto.attributes._row_changes import (
    RowChanges,
    TextChanges,
    dense,
    is_text,
    make_reference,
    plain_rows,
)
from skproto.training import chunks

Floats = NDArray[np.float64]

MAX_SHAPLEY = 8  # attributes: 256 passes


class Settings(NamedTuple):
    """What decides how samples are changed and read."""

    attributes: Any
    strengths: Any
    site: str
    scope: str
    method: str
    replacement: str
    draws: NDArray[np.int64] | None
    value_range: Any
    batch_size: int


class Part(NamedTuple):
    """What a pass found out about some of the samples."""

    rows: NDArray[np.int64]
    inputs: Any
    found: Found
    drops: Floats
    bounded: Floats | None


class Passes:
    """The samples of one call with their changes, and the model that reads them.

    Parameters
    ----------
    estimator : fitted estimator
        A prototype model, or a pipeline that ends in one.

    X : array-like
        Samples.

    settings : Settings
        See there.

    reference : Reference or None, default=None
        Rows of tables from which values are taken; None: of `X`, those at the
        `draws` of the settings.
    """

    def __init__(self, estimator, X, settings: Settings, reference=None):
        self.settings = settings
        self.front, self.model = reading.split_model(estimator)
        self.changes = self._make_changes(X, reference)
        if not len(self.changes):
            raise ValueError("X must hold at least one sample. Got none.")
        first = self.changes.batch(np.arange(1) if self.kind != "text" else slice(0, 1))
        self.reader = reading.make_reader(
            self.model, self.front, settings.site, first.inputs
        )
        self.epsilon = reading.log_epsilon(self.model)
        self.squared = np.zeros(len(self.names))
        self._check_scope()

    @property
    def kind(self) -> str:
        """What the samples are."""
        return str(self.changes.kind)

    @property
    def names(self) -> list[str]:
        """Names of the attributes."""
        return list(self.changes.names)

    def _make_changes(self, X, reference) -> Any:
        attributes, settings = self.settings.attributes, self.settings
        if is_text(X):
            return TextChanges(X, attributes, self._notices)
        shape = getattr(reading.engine_of(self.model), "_input_shape", None)
        images = (
            len(shape) == 3 if shape is not None else np.ndim(plain_or_none(X)) == 4
        )
        if images:
            flat = getattr(self.model, "image_shape", None)
            return ImageChanges(
                X, flat, attributes, settings.strengths, settings.value_range
            )
        if reference is None:
            reference = make_reference(X, settings.replacement, settings.draws)
        return RowChanges(X, attributes, reference)

    def _notices(self, before: list[str], after: list[str]) -> list[bool]:
        """Tell of pairs of texts whether the model gets something else."""
        if self.front is None:
            raise TypeError(
                "Texts need a pipeline with a vectoriser in front of the model. Got "
                f"{type(self.model).__name__} alone."
            )
        gap = self.front.transform(before) - self.front.transform(after)
        size = abs(gap).sum(axis=1)
        return (np.asarray(size).ravel() > 0).tolist()

    def _check_scope(self) -> None:
        settings = self.settings
        if settings.scope != "image" and self.kind != "image":
            raise ValueError(
                f"scope={settings.scope!r} needs images, which have places to focus "
                f"on. Got samples of kind {self.kind!r}."
            )
        n_attributes = len(self.names)
        if settings.method == "shapley" and n_attributes > MAX_SHAPLEY:
            raise ValueError(
                f"method='shapley' takes at most {MAX_SHAPLEY} attributes: it needs a "
                f"pass for each subset. Got {n_attributes}; name groups of them."
            )

    # -- one pass ----------------------------------------------------------------------

    def parts(self, amount=None) -> Iterator[Part]:
        """Yield what the changes of all attributes do to some samples at a time."""
        for rows, batch in self.batches():
            found = self.reader.original(batch.inputs)
            levels = self._levels(batch, found, amount)
            bounded = levels[1] if self.epsilon is not None else None
            yield Part(rows, batch.inputs, found, levels[0], bounded)

    def batches(self) -> Iterator[tuple[NDArray[np.int64], Any]]:
        """Yield numbers and values of some samples at a time."""
        for rows in chunks(len(self.changes), self.settings.batch_size):
            yield np.arange(rows.start, rows.stop), self.changes.batch(rows)

    def _levels(self, batch, found: Found, amount) -> Floats:
        """Return drops (L, n, P, A) of the similarity; of a log also bounded."""
        places = range(len(self.names))
        if self.settings.method == "single":
            single = [self.drop(batch, found, (a,), amount) for a in places]
            return np.stack(single, axis=-1)
        together = {
            subset: self.drop(batch, found, subset, amount)
            for subset in scoring.subsets(len(self.names))
        }
        return np.asarray(scoring.shapley_values(together, len(self.names)))

    def drop(self, batch, found: Found, subset, amount=None) -> Floats:
        """Return drops (L, n, P) of the similarity when attributes change together."""
        before = self._at_levels(found.similarities)
        total = np.zeros_like(before)
        if not subset:
            return total
        variants = self.changes.changed(batch, subset, amount)
        for variant in variants:
            seen = found.take(variant.rows)
            rows = slice(None) if variant.rows is None else variant.rows
            if variant.rows is not None and not len(variant.rows):
                continue
            after = self._at_levels(self._read(batch, variant, seen))
            total[:, rows] += before[:, rows] - after
            if len(subset) == 1:
                size = self._squared_change(batch, variant).sum() / len(variants)
                self.squared[subset[0]] += size
        return total / len(variants)

    def _at_levels(self, similarities: Floats) -> Floats:
        if self.epsilon is None:
            return similarities[None]
        return np.stack([similarities, reading.bounded(similarities, self.epsilon)])

    def _read(self, batch, variant: Variant, found: Found) -> Floats:
        if self.settings.scope == "image":
            return self.reader.changed(variant.inputs, found)
        masks = reading.window_masks(self.reader, batch.inputs, found)
        if self.settings.scope == "dual":
            masks = 1 - masks
        n_prototypes = masks.shape[1]
        # Prototypes that look at the same places share a pass.
        flat = masks.transpose(1, 0, 2, 3).reshape(n_prototypes, -1)
        kinds, which = np.unique(flat, axis=0, return_inverse=True)
        after = np.empty_like(found.similarities)
        for kind in range(len(kinds)):
            own = np.flatnonzero(which.ravel() == kind)
            inputs = self.changes.blended(batch, variant, masks[:, own[0]])
            after[:, own] = self.reader.changed(inputs, found)[:, own]
        return after

    def _squared_change(self, batch, variant: Variant) -> Floats:
        """Mean squared change of samples, in the units that rms_change is told in."""
        if self.kind == "image":
            return np.asarray(self.changes.squared_change(batch, variant))
        inputs = batch.inputs
        if variant.rows is not None:
            inputs = [inputs[i] for i in variant.rows]
        before, after = (
            np.asarray(dense(self.reader.prepared(x)), dtype=np.float64)
            for x in (inputs, variant.inputs)
        )
        scale = np.asarray(getattr(self.model, "scale_", 1.0), dtype=np.float64)
        gap = (
            (after - before) / scale
            if scale.shape[-1:] in ((), gap_shape(after))
            else (after - before)
        )
        return np.square(np.nan_to_num(gap)).reshape(len(gap), -1).mean(axis=1)

    def rms_change(self) -> Floats:
        """Root mean squared change of the samples by each attribute, so far."""
        return np.sqrt(self.squared / len(self.changes))


def gap_shape(values) -> tuple[int, ...]:
    """Return the length of the last axis, as a shape."""
    return tuple(np.shape(values)[-1:])


def plain_or_none(X) -> Any:
    """Return samples as an array; None where they are none."""
    return X if hasattr(X, "ndim") else plain_rows(X) if len(X) else None
