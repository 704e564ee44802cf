"""Winner against runner-up: evidence and probabilities of nearest prototypes."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

# Range of the temperature of the probabilities.
TEMPERATURES = (1e-2, 1e2)


def pair_evidence(outputs, module, codes: np.ndarray) -> dict[str, np.ndarray]:
    """Split the relative distances of a batch into what each prototype adds.

    Parameters
    ----------
    outputs : dict of str to ndarray
        Outputs of an :class:`~skproto.nn.LVQNetwork` for n samples.

    module : LVQNetwork
        The network.

    codes : ndarray of shape (n,)
        Predicted class codes.

    Returns
    -------
    evidence : dict of str to ndarray
        Fields of :class:`~skproto.explanation.PairExplanation`. The nearest prototype
        i of class c adds ``-d_i / (d_i + d_j)`` to the score of c, the nearest
        prototype j of all others ``+d_j / (d_i + d_j)``, the rest nothing.
    """
    squared = outputs["squared_distances"].astype(np.float64)
    labels = module.labels.cpu().numpy()
    n_samples, n_classes = outputs["scores"].shape
    rows = np.arange(n_samples)
    contributions = np.zeros((n_samples, len(labels), n_classes))
    bias = np.zeros((n_samples, n_classes))
    winner = runner_up = np.zeros(n_samples, dtype=int)
    for code in range(n_classes):
        own = labels == code
        if not own.any():
            # Nothing speaks for a class that has lost its prototypes.
            bias[:, code] = outputs["scores"][:, code]
            continue
        nearest = np.where(own, squared, np.inf).argmin(axis=1)
        other = np.where(own, np.inf, squared).argmin(axis=1)
        predicted = codes == code
        winner = np.where(predicted, nearest, winner)
        runner_up = np.where(predicted, other, runner_up)
        # Halves of what the score leaves to 1 are the two shares, without rounding
        # apart from the score.
        score = outputs["scores"][:, code]
        contributions[rows, nearest, code] = -0.5 * (1 - score)
        contributions[rows, other, code] = 0.5 * (1 + score)
    win, lose = squared[rows, winner], squared[rows, runner_up]
    total = win + lose
    return {
        "class_contributions": contributions,
        "class_bias": bias,
        "squared_distances": squared,
        "winner": winner,
        "runner_up": runner_up,
        "relative_distance": (win - lose) / np.where(total > 0, total, 1.0),
        "feature_differences": feature_differences(outputs, module, winner, runner_up),
    }


def feature_differences(outputs, module, winner, runner_up) -> np.ndarray:
    r"""Part of each feature in the lead of the winner, (n, D).

    The parts add up to the squared distance of the runner-up less that of the winner.
    For one metric the lead is linear in the sample x, and the part of a feature is
    :math:`(\Lambda (w_k - w_j))_f (2x - w_k - w_j)_f`; for local metrics and several
    sites it is the difference of :math:`(x - w)_f (\Lambda (x - w))_f`.
    """
    sites = outputs["embedding"].astype(np.float64)
    omega = module.metric.omega()
    omega = None if omega is None else omega.detach().double().cpu().numpy()
    p = module.prototypes.detach().double().cpu().numpy()
    if sites.shape[1] == 1 and not module.metric.is_local:
        z, w, v = sites[:, 0], p[winner], p[runner_up]
        return _weigh(w - v, omega) * (2 * z - w - v)
    return _parts(sites, p, omega, runner_up) - _parts(sites, p, omega, winner)


def _weigh(difference: np.ndarray, omega: np.ndarray | None) -> np.ndarray:
    """Return Lambda times differences (..., D)."""
    if omega is None:
        return difference
    if omega.ndim == 1:
        return difference * omega**2
    return difference @ omega.T @ omega


def _parts(sites, p, omega, which) -> np.ndarray:
    """Parts (n, D) of the squared distances to one prototype of each sample."""
    difference = sites - p[which][:, None, :]
    if omega is not None and omega.ndim == 3:
        mine = omega[which]
        mapped = difference @ mine.transpose(0, 2, 1) @ mine
    else:
        mapped = _weigh(difference, omega)
    parts = difference * mapped
    nearest = parts.sum(axis=2).argmin(axis=1)
    return np.asarray(parts[np.arange(len(parts)), nearest])


def fit_temperature(scores: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Temperature T at which the softmax of scores / T fits the labels best.

    Parameters
    ----------
    scores : ndarray of shape (n, K)
        Class scores.

    y, weight : ndarrays of shape (n,)
        Class codes and sample weights.

    Returns
    -------
    temperature : float
        Minimum of the weighted negative log likelihood. Labels are smoothed by
        1 / (n + 2), without which classes that separate would ask for T = 0.
    """
    n_samples, n_classes = scores.shape
    smooth = 1.0 / (n_samples + 2)
    share = weight / weight.sum()

    def loss(log_temperature: float) -> float:
        log_p = log_softmax(scores / np.exp(log_temperature), axis=1)
        own = log_p[np.arange(n_samples), y]
        mixed = (1 - smooth) * own + smooth / n_classes * log_p.sum(axis=1)
        return -float(share @ mixed)

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(found.x))
