"""A prototype classifier of one's own, in the five hooks of the template."""

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from skproto import PrototypeClassifier
from skproto.nn import CrossEntropy, SiteEncoder, squared_distances
from skproto.training import Phase


class NearestMeanNetwork(nn.Module):
    """One prototype a class; the score falls with the distance from it."""

    def __init__(self, n_classes, dim, encoder=None):
        super().__init__()
        self.config = {"n_classes": n_classes, "dim": dim}
        self.encoder = SiteEncoder() if encoder is None else encoder
        self.prototypes = nn.Parameter(torch.zeros(n_classes, dim))

    def forward(self, x):
        z = self.encoder(x)[:, 0]
        squared = squared_distances(z, self.prototypes)
        activations = 1 / (1 + squared / z.shape[1])
        return {
            "scores": 10 * activations,
            "activations": activations,
            "distances": squared.detach().sqrt(),
        }


class NearestMeanClassifier(PrototypeClassifier):
    """Classify by the nearest of the class means, which are then trained.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> X, y = load_wine(return_X_y=True, as_frame=True)
    >>> model = NearestMeanClassifier(random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.95)
    True
    >>> case = model.explain(X[:1])
    >>> case.verify()
    >>> print(str(case).partition(":")[0])
    Sample 0
    """

    _module_class = NearestMeanNetwork

    def _make_module(self, data):
        encoder = self._make_encoder(data)
        module = NearestMeanNetwork(data.n_classes, encoder.dim, encoder)
        # A row is a sample: its class with its weight, divided by that of its class.
        share = np.eye(data.n_classes)[data.y] * data.weight[:, None]
        share = torch.from_numpy((share / share.sum(axis=0)).astype(np.float32))
        with torch.no_grad():
            for rows in data.chunks():
                z = encoder(torch.from_numpy(data.dense(rows)))[:, 0]
                module.prototypes += share[rows].T @ z
        return module

    def _loss_terms(self):
        return [CrossEntropy()]

    def _phases(self):
        return [Phase("joint", self.max_epochs_, float(self.lr), self.solver_)]

    def _collect(self, module, data, X):
        outputs = self._forward(X[data.rows])
        is_own = data.y[:, None] == np.arange(data.n_classes)
        distances = np.where(is_own, outputs["distances"], np.inf)
        nearest = data.rows[distances.argmin(axis=0)]
        rows = X[nearest]
        points = module.prototypes.detach().cpu().double().numpy()
        self.prototypes_ = points if self._encodes else self._scaling.invert(points)
        self.prototype_labels_ = self.classes_.copy()
        self.prototype_indices_ = nearest
        self.prototype_samples_ = rows.toarray() if sp.issparse(rows) else rows
        self.projection_distance_ = distances.min(axis=0)
        wins = outputs["activations"].argmax(axis=1)
        self.win_counts_ = np.bincount(wins, minlength=data.n_classes)

    def _evidence(self, outputs):
        scores = outputs["scores"]
        own = np.eye(scores.shape[1])  # prototype k speaks for class k alone
        return {
            "class_contributions": scores[:, :, None] * own,
            "class_bias": np.zeros_like(scores),
        }
