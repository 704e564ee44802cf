"""Where in an image, a text or a row the evidence lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from skproto.explanation._fields import check_options, coerce, dims

KINDS = ("image", "tokens", "features")
POOLINGS = ("sum", "mean")


@dataclass(kw_only=True, eq=False)
class Places:
    """What the places of prototypes and those of samples have in common."""

    kind: str = "image"
    sites: np.ndarray | None = None
    boxes: np.ndarray | None = None
    effective_boxes: np.ndarray | None = None
    images: np.ndarray | None = None
    grid: np.ndarray | None = field(default=None, metadata=dims("2"))
    image_size: np.ndarray | None = field(default=None, metadata=dims("2"))

    def __post_init__(self) -> None:
        check_options(self, {"kind": KINDS})
        sizes: dict[str, int] = {}
        coerce(self, sizes)
        if self.images is not None and self.image_size is None:
            self.image_size = np.array(self.images.shape[-2:])
        for name in ("boxes", "effective_boxes"):
            value = getattr(self, name)
            if value is None:
                continue
            expected = (*value.shape[:-1], 4)
            if self.sites is not None:
                expected = (*self.sites.shape, 4)
            elif "M" in sizes:
                raise ValueError(
                    f"{type(self).__name__}: {name} of several parts need sites, got "
                    "None."
                )
            if value.shape != expected:
                raise ValueError(
                    f"{type(self).__name__}: {name} must have shape {expected}, one "
                    f"box (top, left, bottom, right) for each site, got {value.shape}."
                )

    def _pixels(self) -> list[np.ndarray]:
        """Return all arrays of pixel values."""
        return [] if self.images is None else [self.images]

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest pixel value, NaN where there are no pixels."""
        known = [pixels for pixels in self._pixels() if pixels.size]
        low = min((float(np.nanmin(pixels)) for pixels in known), default=np.nan)
        high = max((float(np.nanmax(pixels)) for pixels in known), default=np.nan)
        return low, high

    @property
    def n_sites(self) -> int | None:
        """Number of sites of the grid, None where it is not known."""
        return None if self.grid is None else int(np.prod(self.grid))


@dataclass(kw_only=True, eq=False)
class PrototypePlaces(Places):
    """Where the parts behind the prototypes lie in the training data.

    Pixels and sites are counted from 0; sites row by row. A box is (top, left, bottom,
    right) in pixels, bottom and right not included. Prototypes made of several parts
    have one site and one box for each part.

    Parameters
    ----------
    kind : {"image", "tokens", "features"}, default="image"
        What a site is: a cell of an image, a token of a text, a feature of a row.

    sites : array of int of shape (n_prototypes,) or (n_prototypes, n_parts) or None
        Site of the source sample that each prototype, or each of its parts, is;
        -1 for a part that is switched off. None where a prototype is a whole sample.

    boxes : array of int of shape (n_prototypes, 4) or (n_prototypes, n_parts, 4) or \
None
        Boxes of these sites in the source images.

    effective_boxes : array of the same shape or None, default=None
        Boxes of the pixels that in effect decide what the sites hold; NaN where not
        computed.

    images : array of shape (n_prototypes, n_channels, height, width) or None
        Source images in the user's values.

    grid : array of 2 int or None, default=None
        Rows and columns of the sites; `verify` then checks that boxes and sites belong
        together.

    image_size : array of 2 int or None, default=None
        Height and width of the images; taken from `images` where None.

    patches : list of n_prototypes arrays of shape (n_channels, h, w) or None
        What the boxes hold, in the user's values; a list of such arrays for each
        prototype that is made of several parts. Cut from `images` where None.

    decoded : array of shape (n_prototypes, n_channels, height, width) or None
        What a decoder makes of the prototypes. Shown as decoded, never as a case.

    hashes : array of str of shape (n_prototypes,) or None, default=None
        Hashes of the source images.

    slots : array of shape (n_prototypes, n_parts) or None, default=None
        How far each part is switched on, from 0 to 1; all are where None.

    part_pooling : {"sum", "mean"}, default="sum"
        Whether the similarity of a prototype is the mean over its parts that are on,
        or that mean times the number of parts.

    max_similarity : array of shape (n_prototypes,) or None, default=None
        Highest similarity there can be; `verify` checks that no sample exceeds it and
        that the source image of a projected prototype reaches it.

    Raises
    ------
    ValueError
        If two arrays contradict each other in shape, or an option is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.explanation import PrototypePlaces
    >>> places = PrototypePlaces(
    ...     sites=[5], boxes=[[2, 2, 4, 4]], grid=[4, 4], image_size=[8, 8],
    ...     images=np.arange(64.0).reshape(1, 1, 8, 8),
    ... )
    >>> places.patch(0)[0].tolist()
    [[[18.0, 19.0], [26.0, 27.0]]]
    """

    sites: np.ndarray | None = field(default=None, metadata=dims("P", "*M"))
    boxes: np.ndarray | None = field(default=None, metadata=dims("P", "*M", "4"))
    effective_boxes: np.ndarray | None = field(
        default=None, metadata=dims("P", "*M", "4")
    )
    images: np.ndarray | None = field(default=None, metadata=dims("P", "C", "H", "W"))
    patches: list[Any] | None = None
    decoded: np.ndarray | None = field(default=None, metadata=dims("P", "C", "H", "W"))
    hashes: np.ndarray | None = field(default=None, metadata=dims("P"))
    slots: np.ndarray | None = field(default=None, metadata=dims("P", "M"))
    part_pooling: str = "sum"
    max_similarity: np.ndarray | None = field(default=None, metadata=dims("P"))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, {"part_pooling": POOLINGS})
        lengths = {len(v) for v in self._per_prototype().values()}
        if len(lengths) > 1:
            raise ValueError(
                f"{type(self).__name__}: all fields must speak of the same number of "
                f"prototypes, got {sorted(lengths)}."
            )

    def _pixels(self) -> list[np.ndarray]:
        found = super()._pixels()
        if self.patches is not None and not found:
            for patch in self.patches:
                found += [np.asarray(part) for part in patch_list(patch)]
        # A decoder may overshoot; the contrast is that of the images.
        return found or ([] if self.decoded is None else [self.decoded])

    def _per_prototype(self) -> dict[str, Any]:
        """Return the fields with one entry for each prototype."""
        names = ("sites", "boxes", "images", "patches", "decoded", "hashes", "slots")
        found = {name: getattr(self, name) for name in (*names, "max_similarity")}
        return {name: value for name, value in found.items() if value is not None}

    def __len__(self) -> int:
        return max((len(value) for value in self._per_prototype().values()), default=0)

    def parts_on(self, k: int) -> list[int | None]:
        """Return the parts of a prototype that are switched on.

        Parameters
        ----------
        k : int
            Position of the prototype.

        Returns
        -------
        parts : list
            Positions of the parts; ``[None]`` for a prototype of one part.
        """
        if self.sites is None or self.sites.ndim == 1:
            return [None]
        on = self.sites[k] >= 0
        if self.slots is not None:
            on &= self.slots[k] > 0.5
        return [int(part) for part in np.flatnonzero(on)]

    def patch(self, k: int) -> list[np.ndarray]:
        """Return the patches of a prototype, one for each part that is on.

        Parameters
        ----------
        k : int
            Position of the prototype.

        Returns
        -------
        patches : list of arrays of shape (n_channels, h, w)
            Empty where neither the patches nor the images are known.
        """
        found = []
        for part in self.parts_on(k):
            if self.patches is not None:
                own = self.patches[k] if part is None else self.patches[k][part]
                found.append(np.asarray(own))
            elif self.images is not None:
                cut: tuple[slice, slice] = (slice(None), slice(None))
                if self.boxes is not None:
                    top, left, bottom, right = box_of(self.boxes, k, part)
                    cut = (slice(top, bottom), slice(left, right))
                found.append(self.images[k][:, cut[0], cut[1]])
        return found


@dataclass(kw_only=True, eq=False)
class SamplePlaces(Places):
    """Where in the samples the parts were found that are like the prototypes.

    Parameters
    ----------
    kind : {"image", "tokens", "features"}, default="image"
        What a site is; the same as that of the prototypes.

    sites : array of int of shape (n_samples, n_prototypes) or (n_samples, \
n_prototypes, n_parts) or None
        Site that is most like each prototype, or each of its parts; -1 for a part that
        is switched off. None where whole samples are compared.

    boxes : array of int of shape (n_samples, n_prototypes, 4) or (n_samples, \
n_prototypes, n_parts, 4) or None
        Boxes (top, left, bottom, right) of these sites in pixels, bottom and right not
        included.

    effective_boxes : array of the same shape or None, default=None
        Boxes of the pixels that in effect decide what the sites hold; NaN where not
        computed.

    images : array of shape (n_samples, n_channels, height, width) or None
        The samples in the user's values.

    grid : array of 2 int or None, default=None
        Rows and columns of the sites; `verify` then checks that boxes and sites belong
        together.

    image_size : array of 2 int or None, default=None
        Height and width of the images; taken from `images` where None.

    maps : array of shape (n_samples, n_prototypes, h, w) or None, default=None
        Similarity of each place to each prototype; stretched over the image in
        pictures.

    reconstructions : array of shape (n_samples, n_channels, height, width) or None
        What an autoencoder makes of the samples. Shown as decoded.

    part_similarities : array of shape (n_samples, n_prototypes, n_parts) or None
        Similarity of each part to its site; `verify` recomputes the similarity of the
        prototype from them.

    Raises
    ------
    ValueError
        If two arrays contradict each other in shape, or an option is unknown.

    Examples
    --------
    >>> from skproto.explanation import SamplePlaces
    >>> places = SamplePlaces(
    ...     sites=[[5, 0]], boxes=[[[2, 2, 4, 4], [0, 0, 2, 2]]], grid=[4, 4],
    ... )
    >>> places.n_sites
    16
    """

    sites: np.ndarray | None = field(default=None, metadata=dims("n", "P", "*M"))
    boxes: np.ndarray | None = field(default=None, metadata=dims("n", "P", "*M", "4"))
    effective_boxes: np.ndarray | None = field(
        default=None, metadata=dims("n", "P", "*M", "4")
    )
    images: np.ndarray | None = field(default=None, metadata=dims("n", "C", "H", "W"))
    maps: np.ndarray | None = field(default=None, metadata=dims("n", "P", "h", "w"))
    reconstructions: np.ndarray | None = field(
        default=None, metadata=dims("n", "C", "H", "W")
    )
    part_similarities: np.ndarray | None = field(
        default=None, metadata=dims("n", "P", "M")
    )


def patch_list(patch: Any) -> list[Any]:
    """Return the patches of a prototype as a list, also where there is one."""
    return list(patch) if isinstance(patch, list | tuple) else [patch]


def box_of(boxes: np.ndarray, at: Any, part: int | None) -> tuple[int, int, int, int]:
    """Return one box as four int."""
    box = boxes[at] if part is None else boxes[at][part]
    top, left, bottom, right = (int(edge) for edge in box)
    return top, left, bottom, right


def check_alike(
    owner: str, places: SamplePlaces | None, table: Any, n_samples: int
) -> None:
    """Raise ValueError unless the places fit the samples and the prototypes."""
    own: PrototypePlaces | None = table.places
    if places is None:
        return
    if own is None:
        raise ValueError(
            f"{owner}: places needs the places of the prototypes too, got None for "
            "prototypes.places."
        )
    if own.kind != places.kind:
        raise ValueError(
            f"{owner}: places must be of kind {own.kind!r} as those of the prototypes, "
            f"got {places.kind!r}."
        )
    for name in ("images", "sites", "boxes", "maps", "part_similarities"):
        value = getattr(places, name)
        if value is None:
            continue
        expected = (n_samples, *([] if name == "images" else [len(table)]))
        if value.shape[: len(expected)] != expected:
            raise ValueError(
                f"{owner}: places.{name} must start with shape {expected}, got "
                f"{value.shape}."
            )
    for name in ("sites", "boxes"):
        one, other = getattr(places, name), getattr(own, name)
        both = one is not None and other is not None
        if both and one.shape[1:] != other.shape:
            raise ValueError(
                f"{owner}: places.{name} must have shape {(n_samples, *other.shape)} "
                f"to fit the prototypes, got {one.shape}."
            )
