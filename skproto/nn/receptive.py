"""Effective receptive fields: the pixels that a similarity really depends on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

#: Box of a place where nothing depends on the pixels.
NO_BOX = -1


def effective_boxes(module, x, prototypes, energy=0.95) -> Tensor:
    r"""Find boxes of the pixels on which activations of prototypes depend.

    The gradient of the pooled activation of prototype r of sample i is taken with
    respect to the sample's pixels. A box is cut around it as :func:`energy_boxes` says.
    It is the effective receptive field, usually much smaller than the theoretical one,
    and often larger than the cell of the winning site.

    Parameters
    ----------
    module : nn.Module
        Returns "activations" (n, P) for images. It is put into evaluation mode for
        the call, so that samples do not depend on each other.

    x : Tensor of shape (n, C, H, W)
        Normalised images.

    prototypes : Tensor of shape (n, R)
        Positions of the R prototypes asked for, for each sample; negative ones are
        left out.

    energy : float, default=0.95
        Share of the summed absolute gradient that a box holds at least, in (0, 1].

    Returns
    -------
    boxes : Tensor of shape (n, R, 4)
        Top, left, bottom, right in pixels, int64, ends exclusive; -1 where a prototype
        is left out or the gradient is 0.

    Raises
    ------
    ValueError
        If shapes do not fit or `energy` is not in (0, 1].

    See Also
    --------
    site_boxes : The same for the embedding at a site.

    Notes
    -----
    One forward pass of the batch, and one backward pass for each of the R columns. At
    the very maximum of a similarity (a projected prototype on its own source image) the
    gradient is 0: use :func:`site_boxes` there.

    References
    ----------
    Luo et al., Understanding the Effective Receptive Field in Deep Convolutional
    Neural Networks, NeurIPS 2016.

    Examples
    --------
    >>> import torch
    >>> class Corner(torch.nn.Module):
    ...     def forward(self, x):
    ...         return {"activations": x[:, :, 2:4, 5:8].sum((1, 2, 3))[:, None]}
    >>> effective_boxes(Corner(), torch.zeros(1, 3, 8, 8), torch.tensor([[0]]))
    tensor([[[2, 5, 4, 8]]])
    """
    _check_images(x, prototypes, "prototypes")
    _check_energy(energy)
    with _differentiable(module, x) as pixels:
        values = _chosen(module(pixels)["activations"], prototypes)
        boxes = [
            energy_boxes(_saliency([column.sum()], pixels), energy)
            for column in values.unbind(1)
        ]
    return _where_asked(boxes, prototypes)


def part_boxes(module, x, prototypes, energy=0.95) -> Tensor:
    """Find boxes of the pixels on which similarities of parts of prototypes depend.

    As :func:`effective_boxes`, for each part of a prototype by itself.

    Parameters
    ----------
    module : nn.Module
        Returns "part_similarities" (n, P, M) for images; put into evaluation mode for
        the call.

    x : Tensor of shape (n, C, H, W)
        Normalised images.

    prototypes : Tensor of shape (n, R)
        Positions of the R prototypes asked for, for each sample; negative ones are
        left out.

    energy : float, default=0.95
        Share of the summed absolute gradient that a box holds at least, in (0, 1].

    Returns
    -------
    boxes : Tensor of shape (n, R, M, 4)
        Top, left, bottom, right in pixels, int64, ends exclusive; -1 where a prototype
        is left out or the gradient is 0, as for a part that is switched off.

    Raises
    ------
    ValueError
        If shapes do not fit or `energy` is not in (0, 1].

    Notes
    -----
    One forward pass of the batch, and R M backward passes.
    """
    _check_images(x, prototypes, "prototypes")
    _check_energy(energy)
    with _differentiable(module, x) as pixels:
        values = _chosen(module(pixels)["part_similarities"], prototypes)
        n_parts = values.shape[2]
        boxes = [
            energy_boxes(_saliency([column.sum()], pixels), energy)
            for column in values.flatten(1).unbind(1)
        ]
    found = _where_asked(boxes, prototypes.repeat_interleave(n_parts, 1))
    return found.unflatten(1, (prototypes.shape[1], n_parts))


def _chosen(values: Tensor, prototypes: Tensor) -> Tensor:
    """Take values (n, P, ...) of prototypes (n, R), (n, R, ...)."""
    n_prototypes = values.shape[1]
    if prototypes.numel() and int(prototypes.max()) >= n_prototypes:
        raise ValueError(
            f"The 'prototypes' must be below {n_prototypes}, the number of "
            f"prototypes. Got {int(prototypes.max())}."
        )
    if not n_prototypes:
        # A tree of one leaf: zeros that depend on no pixel.
        values = values.sum(1, keepdim=True)
    row = torch.arange(len(values), device=values.device)[:, None]
    return values[row, prototypes.clamp_min(0)]


def site_boxes(encoder, x, sites, energy=0.95, n_directions=8) -> Tensor:
    r"""Find boxes of the pixels on which embeddings at sites depend.

    The energy of a pixel is the root of :math:`\sum_d (\partial z_{td} / \partial
    x)^2`, estimated by random directions v of signs: the mean of
    :math:`(\partial\, v^\top z_t / \partial x)^2` has that expectation. The directions
    are the same in every call.

    Parameters
    ----------
    encoder : nn.Module
        Returns sites (n, T, D) for images; put into evaluation mode for the call.

    x : Tensor of shape (n, C, H, W)
        Normalised images.

    sites : Tensor of shape (n, R)
        Positions of the R sites asked for, for each sample; negative ones are left out.

    energy : float, default=0.95
        Share of the summed pixel energy that a box holds at least, in (0, 1].

    n_directions : int, default=8
        Number of random directions; more make boxes steadier.

    Returns
    -------
    boxes : Tensor of shape (n, R, 4)
        Top, left, bottom, right in pixels, int64, ends exclusive; -1 where a site is
        left out or its gradient is 0.

    Raises
    ------
    ValueError
        If shapes do not fit or `energy` is not in (0, 1].

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import make_encoder, site_boxes
    >>> encoder = make_encoder(torch.nn.Conv2d(1, 4, 2, stride=2), (1, 8, 8))
    >>> site_boxes(encoder, torch.rand(1, 1, 8, 8), torch.tensor([[5]])).tolist()
    [[[2, 2, 4, 4]]]
    """
    _check_images(x, sites, "sites")

    def at_sites(pixels: Tensor) -> Tensor:
        z = encoder(pixels)  # (n, T, D)
        n_sites, dim = z.shape[1:]
        if sites.numel() and int(sites.max()) >= n_sites:
            raise ValueError(
                f"The 'sites' must be below {n_sites}, the number of sites. Got "
                f"{int(sites.max())}."
            )
        return z.gather(1, sites.clamp_min(0)[:, :, None].expand(-1, -1, dim))

    found = embedding_boxes(encoder, at_sites, x, energy, n_directions)
    return found.masked_fill((sites < 0)[:, :, None], NO_BOX)


def embedding_boxes(module, embed, x, energy=0.95, n_directions=8) -> Tensor:
    """Find boxes of the pixels on which embeddings depend, as :func:`site_boxes` does.

    Parameters
    ----------
    module : nn.Module
        Put into evaluation mode for the call.

    embed : callable
        Turns images into the embeddings (n, R, D) asked for, by the module.

    x : Tensor of shape (n, C, H, W)
        Normalised images.

    energy, n_directions : float, int, default=0.95, 8
        See :func:`site_boxes`.

    Returns
    -------
    boxes : Tensor of shape (n, R, 4)
        As of :func:`site_boxes`.
    """
    _check_energy(energy)
    with _differentiable(module, x) as pixels:
        chosen = embed(pixels)
        generator = torch.Generator().manual_seed(0)
        signs = torch.randint(
            0, 2, (n_directions, chosen.shape[2]), generator=generator
        )
        directions = (2 * signs - 1).to(chosen)
        boxes = [
            energy_boxes(
                _saliency([(column @ v).sum() for v in directions], pixels), energy
            )
            for column in chosen.unbind(1)
        ]
    return torch.stack(boxes, 1)


def energy_boxes(weights, energy=0.95) -> Tensor:
    r"""Cut tight boxes that hold a share of the weight of pixels.

    From each of the four sides, rows or columns are cut off as long as what is cut off
    on that side is at most a quarter of :math:`1 - \mathrm{energy}` of the whole. So
    the box holds at least `energy`, and with `energy=1` it is the smallest box around
    all pixels that are not 0.

    Parameters
    ----------
    weights : Tensor of shape (n, H, W)
        Weight of each pixel, at least 0.

    energy : float, default=0.95
        The share, in (0, 1].

    Returns
    -------
    boxes : Tensor of shape (n, 4)
        Top, left, bottom, right in pixels, int64, ends exclusive; -1 where the weights
        sum to 0 or to no finite number.

    Examples
    --------
    >>> import torch
    >>> weights = torch.zeros(1, 5, 5)
    >>> weights[0, 1:3, 2] = 1.0
    >>> energy_boxes(weights)
    tensor([[1, 2, 3, 3]])
    """
    _check_energy(energy)
    weights = weights.double()
    total = weights.sum((1, 2))
    cut = total * (1.0 - energy) / 4
    top, bottom = _trimmed(weights.sum(2), cut)
    left, right = _trimmed(weights.sum(1), cut)
    boxes = torch.stack([top, left, bottom, right], 1)
    known = torch.isfinite(total) & (total > 0)
    return torch.where(known[:, None], boxes, boxes.new_tensor(NO_BOX))


def _trimmed(profile: Tensor, cut: Tensor) -> tuple[Tensor, Tensor]:
    """Return start and end of what is left of profiles (n, L) cut on both sides."""
    before = (profile.cumsum(1) <= cut[:, None]).sum(1)
    after = (profile.flip(1).cumsum(1) <= cut[:, None]).sum(1)
    return before, profile.shape[1] - after


def _saliency(values: list[Tensor], pixels: Tensor) -> Tensor:
    """Return the root mean square over values of their pixel gradients, (n, H, W).

    Channels are summed. In float64, whose squares of float32 numbers never vanish.
    """
    total = torch.zeros_like(pixels, dtype=torch.float64)
    for value in values:
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(
                value, pixels, retain_graph=True, allow_unused=True
            )
        if gradient is not None:
            total += gradient.double().square()
    return total.div(len(values)).sqrt().sum(1)


def _where_asked(boxes: list[Tensor], positions: Tensor) -> Tensor:
    """Stack R boxes (n, 4) to (n, R, 4), without those of negative positions."""
    if not boxes:
        return positions.new_zeros(len(positions), 0, 4)
    stacked = torch.stack(boxes, 1)
    return stacked.masked_fill((positions < 0)[:, :, None], NO_BOX)


@contextmanager
def _differentiable(module: nn.Module, x: Tensor) -> Iterator[Tensor]:
    """Yield pixels that gradients reach, with the module in evaluation mode."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield x.detach().clone().requires_grad_()
    finally:
        for part, mode in modes.items():
            part.training = mode


def _check_images(x, positions, name) -> None:
    if x.ndim != 4:
        raise ValueError(
            "Effective receptive fields need images of shape (n, channels, height, "
            f"width). Got a batch of shape {tuple(x.shape)}."
        )
    if positions.ndim != 2 or len(positions) != len(x):
        raise ValueError(
            f"The {name!r} must have shape ({len(x)}, R). Got {tuple(positions.shape)}."
        )


def _check_energy(energy) -> None:
    if not 0.0 < energy <= 1.0:
        raise ValueError(f"The 'energy' must be in (0, 1]. Got {energy!r}.")
