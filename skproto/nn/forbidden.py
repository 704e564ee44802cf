"""Sites of samples that prototypes may neither come from nor be found at.

They are kept with the encoder, by class, so that they go wherever it goes; what they
mean for a prototype follows from the classes that own it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# Name of the buffer of an encoder.
_NAME = "forbidden"


def set_forbidden(module: Any, sites: Tensor | None) -> None:
    """Forbid sites to the prototypes of a module.

    Parameters
    ----------
    module : nn.Module
        With an `encoder` that returns T sites.

    sites : Tensor of shape (K, T), bool, or None
        Sites forbidden to the prototypes of each class; None forbids nothing.
    """
    encoder: nn.Module = module.encoder
    if sites is None:
        encoder._buffers.pop(_NAME, None)
        return
    device = next(iter(module.parameters())).device
    sites = sites.to(device)
    if _NAME in encoder._buffers:
        encoder._buffers[_NAME] = sites
    else:
        encoder.register_buffer(_NAME, sites, persistent=False)


def class_forbidden(module: Any) -> Tensor | None:
    """Return the sites (K, T) forbidden to classes; None where nothing is."""
    sites: Tensor | None = module.encoder._buffers.get(_NAME)
    return sites


def forbidden_sites(module: Any) -> Tensor | None:
    """Return the sites (P, T) forbidden to prototypes; None where nothing is.

    A prototype of several classes keeps off the sites that any of them may not use.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.forbidden import forbidden_sites, set_forbidden
    >>> from skproto.nn.parts import PartPrototypeNetwork
    >>> network = PartPrototypeNetwork(2, 3, 2)
    >>> set_forbidden(network, torch.tensor([[True, False], [False, False]]))
    >>> forbidden_sites(network)
    tensor([[ True, False],
            [False, False]])
    """
    sites = class_forbidden(module)
    if sites is None:
        return None
    owners: Tensor = module.ownership
    return (owners.float() @ sites.float()) > 0


def lowest_where_forbidden(maps: Tensor, forbidden: Tensor | None) -> Tensor:
    """Put the lowest value of its own map (n, P, T) where a site is forbidden (P, T).

    Examples
    --------
    >>> import torch
    >>> lowest_where_forbidden(
    ...     torch.tensor([[[9.0, 1.0, 2.0]]]), torch.tensor([[True, False, False]])
    ... )
    tensor([[[1., 1., 2.]]])
    """
    if forbidden is None:
        return maps
    lowest = maps.masked_fill(forbidden, torch.inf).amin(2, keepdim=True)
    return torch.where(forbidden, lowest, maps)


# -- prototypes of several parts -------------------------------------------------------


def match_allowed(
    network: Any, z: Tensor, site_mask: Tensor | None
) -> dict[str, Tensor]:
    """Match the prototypes of a `PartSetNetwork` to sites not forbidden to them.

    Parameters
    ----------
    network : PartSetNetwork
        Its `match` does the work, once for each set of forbidden sites.

    z : Tensor of shape (n, T, D)
        Sites.

    site_mask : Tensor of shape (n, T), bool, or None
        Sites that exist.
    """
    forbidden = forbidden_sites(network)
    if forbidden is None:
        found: dict[str, Tensor] = network.match(z, site_mask)
        return found
    kinds, kind = torch.unique(forbidden, dim=0, return_inverse=True)
    groups = [(kind == k).nonzero()[:, 0] for k in range(len(kinds))]
    parts = [
        network.match(z, allowed_sites(z, site_mask, hidden), group)
        for hidden, group in zip(kinds, groups, strict=True)
    ]
    order = torch.cat(groups).argsort()
    return {
        key: torch.cat([part[key] for part in parts], dim=1)[:, order]
        for key in parts[0]
    }


def allowed_sites(z: Tensor, site_mask: Tensor | None, hidden: Tensor) -> Tensor:
    """Return the sites (n, T) that exist and are not hidden, (T,) or (n, T)."""
    allowed = (~hidden).expand(len(z), -1)
    return allowed if site_mask is None else allowed & site_mask


def own_sites(
    network: Any, z: Tensor, site_mask: Tensor | None, codes: Tensor
) -> Tensor | None:
    """Return the sites (n, T) that prototypes of classes (n,) may use; None: all."""
    hidden = class_forbidden(network)
    if hidden is None:
        return site_mask
    return allowed_sites(z, site_mask, hidden[codes.to(hidden.device)])


def forbidden_around(hidden: Tensor, positions: Tensor, n_columns: int) -> Tensor:
    """Tell around which centres a part sees a forbidden site.

    Parameters
    ----------
    hidden : Tensor of shape (P, T), bool
        Forbidden sites.

    positions : Tensor of shape (n, T, M, 2)
        Row and column of each part; between sites it sees all of the up to four
        around it.

    n_columns : int
        Sites in a row.

    Returns
    -------
    forbidden : Tensor of shape (n, P, T), bool
        By centre.
    """
    low, high = positions.floor().long(), positions.ceil().long()
    seen = torch.stack(
        [
            row[..., 0] * n_columns + column[..., 1]
            for row in (low, high)
            for column in (low, high)
        ],
        dim=-1,
    )  # (n, T, M, 4)
    return hidden[:, seen].any(-1).any(-1).transpose(0, 1)
