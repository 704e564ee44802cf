"""Random changes of images that keep their class, written with torch only."""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Real

import torch
from torch import Tensor
from torch.nn import functional

# A Gaussian is cut off at this many standard deviations.
BLUR_RADIUS = 4.0


@dataclass(frozen=True)
class Augmentation:
    r"""Change images at random: place, angle, size, colour, holes, elastic.

    Every image of a batch gets its own change. Places beyond the edge repeat the edge.
    With shift and flip alone pixels are moved, not interpolated; otherwise all
    changes of place are one bilinear interpolation. A part set to 0 costs nothing.

    Random numbers come from torch's global generator of the batch's device, which
    estimators seed by `random_state`.

    Parameters
    ----------
    shift : float, default=0.08
        Largest shift, as a share of height and width. Without interpolation shifts are
        rounded to pixels: at most 2 of 28, 1 of 8.

    flip : bool, default=False
        Whether half of the images are mirrored left to right. Not for digits or text.

    rotation : float, default=8.0
        Largest rotation, in degrees.

    scale : float, default=0.0
        Largest change of size: an image is scaled by a factor between
        1 / (1 + scale) and 1 + scale.

    color : float, default=0.1
        Largest change of contrast (a factor of 1 ± color), of brightness, of each
        channel's brightness and, with three channels or more, of saturation; in
        units of the normalised pixels.

    cutout : float, default=0.15
        Side of the square that is set to 0, the mean of the normalised pixels, as a
        share of height and width. Its centre may be anywhere.

    elastic : float, default=0.0
        Elastic deformation: strength in pixels by which a field of uniform numbers
        between -1 and 1, blurred by a Gaussian, is multiplied. 20 is usual for
        handwritten digits and moves a pixel by about 0.8.

    elastic_sigma : float, default=4.0
        Standard deviation of that Gaussian, in pixels.

    Raises
    ------
    ValueError
        If a number is negative, not finite or, for shift and cutout, above 1.

    Notes
    -----
    Two calls on the same batch give two views. Projection and prediction see images as
    they are: estimators call this in training steps only.

    References
    ----------
    DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with
    Cutout, 2017. Simard, Steinkraus and Platt, Best Practices for Convolutional Neural
    Networks Applied to Visual Document Analysis, ICDAR 2003 (elastic).

    Examples
    --------
    >>> import torch
    >>> augment = Augmentation(shift=0.1, flip=True)
    >>> augment(torch.zeros(16, 3, 32, 32)).shape
    torch.Size([16, 3, 32, 32])
    """

    shift: float = 0.08
    flip: bool = False
    rotation: float = 8.0
    scale: float = 0.0
    color: float = 0.1
    cutout: float = 0.15
    elastic: float = 0.0
    elastic_sigma: float = 4.0

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "flip":
                if not isinstance(value, bool):
                    raise ValueError(
                        "The 'flip' parameter of Augmentation must be a bool. Got "
                        f"{value!r}."
                    )
                continue
            most = 1.0 if field.name in ("shift", "cutout") else float("inf")
            if not isinstance(value, Real) or not 0 <= float(value) <= most:
                limit = "of at least 0" if most == float("inf") else "in [0, 1]"
                raise ValueError(
                    f"The {field.name!r} parameter of Augmentation must be a number "
                    f"{limit}. Got {value!r}."
                )
        if self.elastic and not self.elastic_sigma:
            raise ValueError("The 'elastic_sigma' parameter must be positive. Got 0.")

    def __call__(self, x: Tensor) -> Tensor:
        """Return changed images.

        Parameters
        ----------
        x : Tensor of shape (m, C, H, W)
            Normalised images; they are left as they are.

        Returns
        -------
        changed : Tensor of the same shape

        Raises
        ------
        ValueError
            If `x` is not a batch of images.
        """
        if x.ndim != 4:
            raise ValueError(
                "Augmentation needs images of shape (n, channels, height, width). Got "
                f"a batch of shape {tuple(x.shape)}."
            )
        if self.rotation or self.scale or self.elastic:
            x = self._interpolate(x)
        elif self.shift or self.flip:
            x = self._move(x)
        if self.color:
            x = self._recolor(x)
        return self._cut(x) if self.cutout else x

    def _move(self, x: Tensor) -> Tensor:
        """Shift by whole pixels and flip, by one gather."""
        m, c, height, width = x.shape
        rows = self._places(x, height)
        columns = self._places(x, width)
        if self.flip:
            mirrored = _uniform(x, m, 1) < 0
            columns = torch.where(mirrored, columns.flip(1), columns)
        places = rows[:, :, None] * width + columns[:, None, :]
        places = places.view(m, 1, -1).expand(-1, c, -1)
        return x.flatten(2).gather(2, places).view(m, c, height, width)

    def _places(self, x: Tensor, size: int) -> Tensor:
        """Return the pixel that each pixel takes its value from, (m, size)."""
        places = torch.arange(size, device=x.device)
        most = _whole_pixels(self.shift, size)
        if not most:
            return places.expand(len(x), size)
        offsets = torch.randint(-most, most + 1, (len(x), 1), device=x.device)
        return (places + offsets).clamp(0, size - 1)

    def _interpolate(self, x: Tensor) -> Tensor:
        """Do all changes of place by one bilinear interpolation."""
        height, width = x.shape[2:]
        grid = functional.affine_grid(self._affine(x), list(x.shape), False)
        if self.elastic:
            field = _blurred_noise(x, self.elastic_sigma)
            # A pixel is 2 / side of the interval [-1, 1] that grids are given in.
            grid = grid + field * grid.new_tensor(
                [2 * self.elastic / width, 2 * self.elastic / height]
            )
        return functional.grid_sample(
            x, grid, padding_mode="border", align_corners=False
        )

    def _affine(self, x: Tensor) -> Tensor:
        """Return the maps (m, 2, 3) from a new place to the old one."""
        m, _, height, width = x.shape
        angle = torch.deg2rad(self.rotation * _uniform(x, m))
        zoom = (1.0 + self.scale) ** _uniform(x, m)
        cosine, sine = angle.cos() / zoom, angle.sin() / zoom
        # Rotation is one of pixels, also where height and width differ.
        theta = x.new_zeros(m, 2, 3)
        theta[:, 0, 0], theta[:, 0, 1] = cosine, -sine * (height / width)
        theta[:, 1, 0], theta[:, 1, 1] = sine * (width / height), cosine
        if self.flip:
            side = torch.where(_uniform(x, m) < 0, -1.0, 1.0).to(x.dtype)
            theta[:, :, 0] *= side[:, None]
        theta[:, :, 2] = 2.0 * self.shift * _uniform(x, m, 2)
        return theta

    def _recolor(self, x: Tensor) -> Tensor:
        """Change contrast, brightness, tint and saturation."""
        m, c = x.shape[:2]
        gain = 1.0 + self.color * _uniform(x, m, 1, 1, 1)
        offset = self.color * _uniform(x, m, 1, 1, 1)
        if c == 1:
            return x * gain + offset
        offset = offset + self.color * _uniform(x, m, c, 1, 1)
        if c < 3:
            return x * gain + offset
        saturation = gain * (1.0 + self.color * _uniform(x, m, 1, 1, 1))
        grey = x.mean(1, keepdim=True)
        return x * saturation + (grey * (gain - saturation) + offset)

    def _cut(self, x: Tensor) -> Tensor:
        """Set a square of each image to 0."""
        inside = []
        for size in x.shape[2:]:
            length = max(1, round(self.cutout * size))
            start = torch.randint(0, size, (len(x), 1), device=x.device) - length // 2
            places = torch.arange(size, device=x.device)
            inside.append((places >= start) & (places < start + length))
        hole = inside[0][:, :, None] & inside[1][:, None, :]
        return x.masked_fill(hole[:, None], 0.0)


def _whole_pixels(share: float, size: int) -> int:
    """Return the largest shift, at least one pixel where there is any."""
    return max(1, round(share * size)) if share else 0


def _uniform(x: Tensor, *shape: int) -> Tensor:
    """Return numbers between -1 and 1 of the type and on the device of the batch."""
    return torch.rand(shape, dtype=x.dtype, device=x.device).mul_(2.0).sub_(1.0)


def _blurred_noise(x: Tensor, sigma: float) -> Tensor:
    """Return a smooth field (m, H, W, 2): blurred uniform noise, 0 beyond the edge."""
    m, _, height, width = x.shape
    noise = _uniform(x, m, 2, height, width)
    smooth = _blur(noise, height, sigma) @ noise @ _blur(noise, width, sigma).T
    return smooth.permute(0, 2, 3, 1)


def _blur(like: Tensor, size: int, sigma: float) -> Tensor:
    """Return the matrix (size, size) of a Gaussian blur along one axis."""
    radius = int(BLUR_RADIUS * sigma + 0.5)
    steps = torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)
    total = (-0.5 * (steps / sigma).square()).exp().sum()
    places = torch.arange(size, dtype=like.dtype, device=like.device)
    distance = (places[:, None] - places).abs()
    kernel = (-0.5 * (distance / sigma).square()).exp() / total
    return kernel.masked_fill(distance > radius, 0.0)
