"""Shapes of dataclass fields: declared once, used to check, slice and export.

A field that holds an array says its axes in its metadata, ``field(metadata=
dims("n", "K"))``. The same letter has the same length in the whole object, and the
fields that start with ``n`` are the ones that :func:`take` slices. An axis with a star,
as in ``*n``, may be absent, and a number is a fixed length.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from typing import Any

import numpy as np


def dims(*axes: str) -> dict[str, tuple[str, ...]]:
    """Declare the axes of an array field, for ``field(metadata=...)``."""
    return {"dims": axes}


def _axes(field: Field, ndim: int) -> tuple[str, ...]:
    """Return the axes of a field; an optional axis only where it is present."""
    axes: tuple[str, ...] = field.metadata.get("dims", ())
    if ndim < len(axes):
        axes = tuple(axis for axis in axes if not axis.startswith("*"))
    return tuple(axis.lstrip("*") for axis in axes)


def coerce(instance: Any, sizes: dict[str, int]) -> None:
    """Turn every declared field into an array and check that the shapes agree.

    Parameters
    ----------
    instance : dataclass instance
        Changed in place.

    sizes : dict of str to int
        Lengths known so far by letter; filled with the ones found on the way.

    Raises
    ------
    ValueError
        If a field has the wrong number of axes or a length that contradicts another.

    TypeError
        If a required array is None.
    """
    name = type(instance).__name__
    for field in fields(instance):
        value = getattr(instance, field.name)
        if "dims" not in field.metadata or (value is None and field.default is None):
            continue
        if value is None and field.default is MISSING:
            raise TypeError(f"{name}: {field.name} must be an array, got None.")
        array = np.asarray(value)
        axes = _axes(field, array.ndim)
        expected = tuple(
            int(axis) if axis.isdigit() else sizes.get(axis, "any") for axis in axes
        )
        fits = array.ndim == len(axes) and all(
            size in (length, "any")
            for size, length in zip(expected, array.shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"{name}: {field.name} must have shape ({', '.join(axes)}) = "
                f"({', '.join(map(str, expected))}), got {array.shape}."
            )
        sizes.update(zip(axes, array.shape, strict=True))
        setattr(instance, field.name, array)


def check_options(instance: Any, allowed: dict[str, tuple]) -> None:
    """Raise ValueError where a field holds none of its allowed values."""
    for name, values in allowed.items():
        if getattr(instance, name) not in values:
            raise ValueError(
                f"{type(instance).__name__}: {name} must be one of {values}, got "
                f"{getattr(instance, name)!r}."
            )


def take(instance: Any, rows: np.ndarray, **changes: Any) -> Any:
    """Return a copy of a dataclass with the given samples only."""
    for field in fields(instance):
        value = getattr(instance, field.name)
        if value is None or field.name in changes:
            continue
        if field.metadata.get("per_sample"):
            changes[field.name] = [value[row] for row in rows]
        elif field.metadata.get("sliced"):
            changes[field.name] = take(value, rows)
        elif _axes(field, np.ndim(value))[:1] == ("n",):
            changes[field.name] = value[rows]
    return replace(instance, **changes)


def plain(value: Any) -> Any:
    """Turn arrays, dataclasses and labels into what `json.dumps` accepts.

    Numbers that JSON does not know (NaN, infinities) become None; labels of other
    types than str, int, float, bool and None become their text.

    Examples
    --------
    >>> import numpy as np
    >>> plain({"radius": np.array([0.5, np.inf]), "label": np.str_("a")})
    {'radius': [0.5, None], 'label': 'a'}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if value is None or isinstance(value, str | int):
        return value
    return str(value)
