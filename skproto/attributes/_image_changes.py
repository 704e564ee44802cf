"""Images with one attribute changed: which attributes there are, and how strongly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from skproto import perturb
from skproto._images import validate_images

#: Attributes of images of three channels; the last four hold for any images.
IMAGE_ATTRIBUTES = ("hue", "saturation", "contrast", "brightness", "shape", "texture")
COLOURED = ("hue", "saturation")

#: Strengths of the changes. Lengths are shares of the side of the image, the texture's
#: h is a share of the range of values.
STRENGTHS: dict[str, Any] = {
    "hue": 0.1,
    "saturation": 0.7,
    "contrast": 0.45,
    "brightness": 0.8,
    "shape": {"amplitude": 4 / 224, "period": 40 / 224},
    "texture": {"h": 4 / 255, "template": 7, "search": 21},
}
# What changes nothing, and how far a sweep of strengths goes.
IDENTITY = {"hue": 0.0, "saturation": 1.0, "contrast": 1.0, "brightness": 1.0}
IDENTITY |= {"shape": 0.0, "texture": 0.0}
FARTHEST = {"hue": 0.5, "saturation": 0.0, "contrast": 0.0, "brightness": 0.0}
FARTHEST |= {"shape": 1 / 4, "texture": 32 / 255}
# The number that a sweep moves.
MAIN = {"shape": "amplitude", "texture": "h"}
# Displacements are cut to whole pixels: an amplitude of 1 would hardly move anything.
LEAST_PIXELS, LEAST_PERIOD = 1.5, 3.0


class Variant(NamedTuple):
    """Changed samples, and which rows of the batch they are; None: all of them."""

    inputs: Any
    rows: NDArray[np.int64] | None = None


class Batch(NamedTuple):
    """Some samples as the user gave them, and as arrays that are changed."""

    inputs: Any
    values: Any


def named_strengths(strengths, names) -> dict[str, Any]:
    """Return the strengths of the built-in attributes among `names`.

    Parameters
    ----------
    strengths : "default" or dict
        Numbers, or for shape and texture dicts of numbers, by attribute.

    names : sequence of str
        Attributes that are used.

    Raises
    ------
    ValueError
        If there is no such attribute or number.
    """
    used = {name: STRENGTHS[name] for name in names if name in STRENGTHS}
    if isinstance(strengths, str) and strengths == "default":
        return used
    if not isinstance(strengths, Mapping):
        raise ValueError(
            "strengths must be 'default' or a dict of numbers by attribute. Got "
            f"{strengths!r}."
        )
    for name, value in strengths.items():
        if name not in used:
            raise ValueError(
                f"strengths must be of attributes that are used: {sorted(used)}. Got "
                f"{name!r}."
            )
        used[name] = _strength(name, value)
    return used


def _strength(name: str, value) -> Any:
    usual = STRENGTHS[name]
    parts = value if isinstance(value, Mapping) else {MAIN.get(name, name): value}
    known = set(usual) if isinstance(usual, dict) else {name}
    wrong = [key for key, number in parts.items() if key not in known or number < 0]
    if wrong or not all(np.isfinite(list(parts.values()))):
        raise ValueError(
            f"strengths[{name!r}] must be of finite numbers of at least 0"
            + (f" for {sorted(known)}" if len(known) > 1 else "")
            + f". Got {value!r}."
        )
    return {**usual, **parts} if isinstance(usual, dict) else float(parts[name])


def at_amount(name: str, strength, amount: float) -> Any:
    """Return the strength of a sweep, `amount` of the way from none to the farthest."""
    value = IDENTITY[name] + amount * (FARTHEST[name] - IDENTITY[name])
    return {**strength, MAIN[name]: value} if name in MAIN else value


def apply_change(name: str, images: torch.Tensor, strength) -> torch.Tensor:
    """Change one attribute of images (n, C, H, W) with values from 0 to 1."""
    if name == "hue":
        return perturb.hue_shift(images, strength)
    if name == "saturation":
        return perturb.saturate(images, strength)
    if name == "contrast":
        return perturb.contrast(images, strength)
    if name == "brightness":
        return perturb.brightness(images, strength)
    if name == "texture":
        return perturb.nl_means(
            images, strength["h"], strength["template"], strength["search"]
        )
    return perturb.sine_shear(images, *shape_pixels(strength, images.shape[2:]))


def shape_pixels(strength, size) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return amplitudes (sideways, down) and periods (down, along) in pixels."""
    height, width = size
    share, period = strength["amplitude"], strength["period"]
    least = LEAST_PIXELS if share > 0 else 0.0
    amplitudes = (max(share * width, least), max(share * height, least))
    return amplitudes, (
        max(period * height, LEAST_PERIOD),
        max(period * width, LEAST_PERIOD),
    )


def image_names(attributes, n_channels: int) -> dict[str, Any]:
    """Return what to do by name: a built-in name, or a function of the user.

    Raises
    ------
    ValueError
        If an attribute is unknown, or one of colour for images without colour.
    """
    if isinstance(attributes, str) and attributes == "auto":
        few = [a for a in IMAGE_ATTRIBUTES if n_channels == 3 or a not in COLOURED]
        return {name: name for name in few}
    if isinstance(attributes, str):
        attributes = [attributes]
    if not isinstance(attributes, Mapping):
        attributes = {name: name for name in attributes}
    for name, what in attributes.items():
        if callable(what):
            continue
        if what not in IMAGE_ATTRIBUTES:
            raise ValueError(
                f"attributes must be among {IMAGE_ATTRIBUTES} for images, or a dict of "
                f"functions. Got {what!r}."
            )
        if what in COLOURED and n_channels != 3:
            raise ValueError(
                f"attributes: {name!r} needs images of 3 channels: red, green, blue. "
                f"Got {n_channels} channel{'s' if n_channels > 1 else ''}."
            )
    return dict(attributes)


class ImageChanges:
    """Images of any storage, batch by batch, with attributes changed.

    Parameters
    ----------
    X : array-like
        Images, also flattened ones.

    image_shape : tuple of int or None
        (C, H, W) or (H, W) of flattened images.

    attributes : "auto", sequence or dict
        See :class:`PrototypeAttributeExplainer`.

    strengths : "default" or dict
        Likewise.

    value_range : "auto" or tuple of two float
        Likewise.
    """

    kind = "image"
    sweeps = True

    def __init__(self, X, image_shape, attributes, strengths, value_range):
        self.samples = validate_images(X, image_shape)
        self.frame_columns = getattr(X, "columns", None)
        self.inner_shape = tuple(getattr(X, "shape", ())[1:])
        self.actions = image_names(attributes, self.samples.sample_shape[0])
        self.names = list(self.actions)
        builtin = [what for what in self.actions.values() if not callable(what)]
        self.strengths = named_strengths(strengths, builtin)
        self.value_range = self._resolved(value_range)

    def __len__(self) -> int:
        return len(self.samples)

    def _resolved(self, value_range) -> tuple[float, float]:
        if isinstance(value_range, str) and value_range == "auto":
            peak = 255.0 if self.samples[:1].dtype == np.uint8 else 1.0
            return 0.0, peak
        low, high = (float(value) for value in value_range)
        if not low < high:
            raise ValueError(
                f"value_range must be two numbers, the first smaller. Got {value_range}"
                "."
            )
        return low, high

    def batch(self, rows) -> Batch:
        """Read some images and check that they are within the range."""
        values = self.samples[rows]
        low, high = self.value_range
        if values.size and not (values.min() >= low and values.max() <= high):
            raise ValueError(
                f"X must hold values within value_range={self.value_range}. Got values "
                f"from {values.min():.4g} to {values.max():.4g}."
            )
        return Batch(self._as_given(values), values)

    def _as_given(self, values: np.ndarray) -> Any:
        """Return images in the shape and the container in which they came."""
        if self.inner_shape and values.shape[1:] != self.inner_shape:
            values = values.reshape(len(values), *self.inner_shape)
        if self.frame_columns is not None:
            return pd.DataFrame(values, columns=self.frame_columns)
        return values

    def changed(self, batch: Batch, subset, amount=None) -> list[Variant]:
        """Return the images with the attributes at positions `subset` changed."""
        values = batch.values
        for position in subset:
            values = self._changed_one(values, self.names[position], amount)
        return [Variant(self._as_given(values))]

    def _changed_one(self, values, name: str, amount) -> np.ndarray:
        what = self.actions[name]
        if callable(what):
            if amount is not None:
                raise ValueError(
                    f"A sweep needs attributes with a strength. {name!r} is a function "
                    "of the user, which has none."
                )
            return called(what, name, values)
        strength = self.strengths[what]
        if amount is not None:
            strength = at_amount(what, strength, amount)
        low, high = self.value_range
        x = torch.from_numpy(values.astype(np.float32))
        x = apply_change(what, (x - low) / (high - low), strength)
        return np.asarray((x * (high - low) + low).numpy())

    def squared_change(self, batch: Batch, variant: Variant) -> NDArray[np.float64]:
        """Return the mean squared change (n,) of the pixels, the range being 1."""
        low, high = self.value_range
        after = np.asarray(variant.inputs).reshape(batch.values.shape)
        gap = (after.astype(np.float64) - batch.values) / (high - low)
        return np.asarray(np.square(gap).reshape(len(gap), -1).mean(axis=1))

    def blended(self, batch: Batch, variant: Variant, share) -> Any:
        """Mix changed pixels into the originals, by shares (n, H, W)."""
        before = batch.values.astype(np.float32)
        after = np.asarray(variant.inputs).reshape(before.shape).astype(np.float32)
        share = share[:, None]
        return self._as_given(
            np.where(share == 1, after, before + share * (after - before))
        )


def called(function: Callable[[Any], Any], name: str, values) -> Any:
    """Return what a function of the user makes of samples, checked.

    Raises
    ------
    ValueError
        If it changes the shape or the dtype, or returns NaN.
    """
    found = function(values.copy())
    before = (np.shape(values), getattr(values, "dtype", None))
    after = (np.shape(found), getattr(found, "dtype", None))
    if before != after:
        raise ValueError(
            f"attributes[{name!r}] must return samples of the same shape and dtype. It "
            f"got {before[0]} of {before[1]} and returned {after[0]} of {after[1]}."
        )
    numbers = isinstance(found, np.ndarray) and found.dtype.kind == "f"
    if numbers and not np.isfinite(found).all():
        raise ValueError(f"attributes[{name!r}] must return finite values.")
    return found
