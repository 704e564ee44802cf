"""Distances of codes to prototypes, and the head fit to them."""

from __future__ import annotations

import numpy as np
import torch

from skproto.nn.head_solver import solve_head
from skproto.training import TrainingData, chunks

# Pull of a refit head towards what it was, in units of the mean distance: classes that
# distances separate would otherwise have weights without end.
REFIT_PULL = 1e-3


def distances_of(module, codes: np.ndarray) -> np.ndarray:
    """Squared distances (n, P) of codes (n, d) to the prototypes, as in predictions."""
    training = module.training
    module.eval()
    parts = []
    with torch.inference_mode():
        for rows in chunks(len(codes), 8192):
            z = torch.from_numpy(codes[rows]).to(module.prototypes.device)
            parts.append(module.code_distances(z).cpu().numpy())
    module.train(training)
    return np.concatenate(parts)


def accuracy_of(module, squared: np.ndarray, data: TrainingData) -> float:
    """Weighted share of samples that are classified right."""
    weight = module.head.weight.detach().double().cpu().numpy()
    right = (squared @ weight).argmax(axis=1) == data.y
    return float(np.average(right, weights=data.weight))


def refit_head(module, squared: np.ndarray, data: TrainingData) -> None:
    """Fit the head to squared distances (n, P), near to what it was."""
    if module.head.weight.shape[1] == 1:
        return
    size = float(squared.mean()) or 1.0
    weight = module.head.weight.detach().double().cpu().numpy()
    solution = solve_head(
        squared / size,
        data.y,
        weight * size,
        l1=0.0,
        l2=REFIT_PULL,
        sample_weight=data.weight,
    )
    with torch.no_grad():
        module.head.weight.copy_(torch.from_numpy(solution.weight / size))


def exact_distances(codes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distance (P,) of each prototype to its own code.

    It is 0 where they are the same to the last bit, and nowhere else.
    """
    gap = codes.astype(np.float64) - points
    distance = np.linalg.norm(gap, axis=1)
    same = (codes == points).all(axis=1)
    return np.where(same, 0.0, np.maximum(distance, np.finfo(float).tiny))
