"""Which parts of prototypes stay: the slots that training learned, and their limits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from skproto import _projection as projection
from skproto.nn.forbidden import own_sites
from skproto.nn.part_sets import PartSetNetwork
from skproto.training import TrainingData


def own_similarities(module: PartSetNetwork, data: TrainingData) -> Tensor:
    """Mean cosine (P, M) of parts and the tokens they are matched to, by own samples.

    Parameters
    ----------
    module : PartSetNetwork
        Put into evaluation mode.

    data : TrainingData
        Only samples of the class of a prototype count, by their weights.
    """
    module.eval()
    owners = module.ownership.float()
    total = torch.zeros_like(module.slot_logits)
    mass = torch.zeros_like(total[:, 0])
    codes = torch.from_numpy(np.asarray(data.y)).to(owners.device)
    weights = torch.from_numpy(np.asarray(data.weight)).to(owners)
    for rows, x in projection.sample_blocks(data, owners.device):
        with torch.inference_mode():
            found = module(x)["part_similarities"][: len(rows)]
        index = torch.as_tensor(rows, device=owners.device)
        own = owners[:, codes[index]].T * weights[index, None]
        total += torch.einsum("np,npm->pm", own, found)
        mass += own.sum(0)
    return total / mass.clamp_min(1e-12)[:, None]


@torch.no_grad()
def keep_found_parts(module: PartSetNetwork, data: TrainingData, margin: float) -> None:
    """Switch parts on again that samples of the class show nearly as well as the best.

    Parameters
    ----------
    module : PartSetNetwork
        Its slots are learned and not rounded yet.

    data : TrainingData
        Training samples.

    margin : float
        How far below that of the prototype's best part the mean cosine of a part may
        be. Parts that were switched off for good stay so.
    """
    if (module.slots() >= 0.5).equal(module.kept):
        return
    found = own_similarities(module, data).masked_fill(~module.kept, -torch.inf)
    close = found >= found.amax(1, keepdim=True) - margin
    on = module.slot_logits.abs()
    module.slot_logits.copy_(torch.where(close, on, module.slot_logits))


def round_slots(module: PartSetNetwork) -> Tensor:
    """Round the slots of a module; return the prototypes (P,) with a part left.

    A class that would lose all its prototypes keeps the one that came closest, with
    its best part.
    """
    soft = module.slots().detach()
    alive = (soft >= 0.5).any(1)
    owners = module.ownership
    lost = owners.any(0) & ~(owners & alive[:, None]).any(0)
    with torch.no_grad():
        for code in lost.nonzero().flatten().tolist():
            members = owners[:, code].nonzero().flatten()
            best = members[soft[members].amax(1).argmax()]
            part = soft[best].argmax()
            module.kept[best, part] = True
            module.slot_logits[best, part] = 1.0
    return module.round_slots_()


def class_blocks(module: PartSetNetwork, data):
    """Yield encoded samples class by class: rows, sites, class codes and site mask."""
    codes = np.asarray(data.y)
    order = np.argsort(codes, kind="stable")
    for rows, x in projection.sample_blocks(data, module.prototypes.device, order):
        with torch.no_grad():
            z, mask = module.encode(x)
        n = len(rows)
        own = torch.from_numpy(np.resize(codes[rows], len(z)))  # filling at the end
        mask = own_sites(module, z, mask, own)
        yield rows, z[:n], codes[rows], *([] if mask is None else [mask[:n]])
