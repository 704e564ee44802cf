"""What the LVQ classifiers share: metric, distances, evidence and pruning."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from skproto.explanation import PairGlobalExplanation
from skproto.nn import LVQNetwork, Penalty
from skproto.nn.lvq import METRICS
from skproto.nn.lvq_losses import negative_log_determinant
from skproto.shallow._base import automatic_counts, encode
from skproto.shallow._certified import CertifiedPrototypeClassifier
from skproto.shallow._editing import LVQFamily
from skproto.training import TrainingData
from skproto.utils import _parameters as rules

# Where the nearest squared distance is below this share of the squared norms that it
# was computed from, it is computed anew in float64.
CANCELLATION = 1e-3

# Above this many entries of all samples mapped by all local matrices, solver="auto"
# takes mini-batches.
LOCAL_ENTRIES = 20_000_000

# Samples from which the first matrix is computed, and the share of the scatter of the
# samples beside that of the prototypes.
MAX_SCATTER_SAMPLES = 10_000
SAMPLE_SHARE = 0.01


class LVQBaseClassifier(CertifiedPrototypeClassifier):
    """Base of the classifiers whose module is an :class:`~skproto.nn.LVQNetwork`."""

    _module_class = LVQNetwork
    _editing_family = LVQFamily
    _global_explanation_class = PairGlobalExplanation
    _doubt_keys = ("log_scores", "nearness")
    # Whether the scores are the posteriors of a mixture.
    _mixture = False
    _per_prototype = (*CertifiedPrototypeClassifier._per_prototype, "feature_weights_")
    _parameter_rules = CertifiedPrototypeClassifier._parameter_rules.extended(
        n_prototypes_per_class=(
            rules.options("auto"),
            rules.integer(1),
            rules.array(1, "an array-like with one int for each class"),
        ),
        metric=rules.options(*METRICS),
        n_components=(rules.none(), rules.integer(1)),
        alpha=rules.real(0, ends="[)"),
        n_init=rules.integer(1),
    )

    # -- starting ----------------------------------------------------------------------

    def _make_module(self, data: TrainingData) -> LVQNetwork:
        encoder = self._make_encoder(data)
        points, codes = self._start(data, encoder)
        dim = encoder.dim
        if self.n_components is not None and self.n_components > dim:
            raise ValueError(
                "The 'n_components' parameter must be at most the dimension of the "
                f"prototypes, {dim}. Got {self.n_components!r}."
            )
        module = LVQNetwork(
            codes.tolist(),
            dim,
            data.n_classes,
            metric=self.metric,
            n_components=self.n_components,
            mixture=self._mixture,
            encoder=encoder,
        )
        with torch.no_grad():
            module.prototypes.copy_(torch.as_tensor(points))
            if self.n_components is not None and "matrix" in self.metric:
                directions = leading_directions(data, encoder, points, codes)
                module.metric.matrix.copy_(
                    torch.from_numpy(directions[: self.n_components])
                )
        return module

    def _n_starts(self) -> int:
        return self.n_init

    def _auto_solver(self, X) -> str:
        if self.metric == "local-matrix":
            n_prototypes = np.sum(self._class_counts_guess(X.shape[0]))
            rows = X.shape[1] if self.n_components is None else self.n_components
            if X.shape[0] * n_prototypes * rows > LOCAL_ENTRIES:
                return "adam"
        return super()._auto_solver(X)

    def _class_counts_guess(self, n_samples: int) -> np.ndarray:
        """Return about how many prototypes each class will have."""
        counts = self.n_prototypes_per_class
        n_classes = len(self.classes_)
        if isinstance(counts, str):
            return automatic_counts(np.full(n_classes, n_samples / n_classes))
        return np.broadcast_to(np.asarray(counts), (n_classes,))

    def _penalties(self) -> list[Any]:
        if not self.alpha or self.metric == "euclidean":
            return []
        return [Penalty(negative_log_determinant, "log_det", self.alpha)]

    # -- predicting --------------------------------------------------------------------

    def _light_run(self, keys):
        light = {"scores", "log_scores", "class_gaps", "nearness"}
        is_light = keys is not None and light.issuperset(keys)
        return self._module.predict if is_light else None

    def _in_doubt(self, outputs) -> np.ndarray:
        near = outputs["nearness"] < CANCELLATION
        return near | super()._in_doubt(outputs) if "scores" in outputs else near

    def _most_similar(self, X) -> np.ndarray:
        # Similarities of far samples may all underflow, distances do not.
        distances = self._forward(X, ("squared_distances",))["squared_distances"]
        return distances.argmin(axis=1)

    def transform_relevance(self, X):
        r"""Map samples by the metric: :math:`x \mapsto \Omega x`.

        Euclidean distances between mapped samples are the distances of the model. With
        ``n_components=2`` this is the plane that tells the classes apart.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        mapped : ndarray of shape (n_samples, n_components)
            Scaled (and encoded) samples times the transpose of `omega_`.

        Raises
        ------
        ValueError
            If the metric is Euclidean or local, or the encoder returns several sites.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import GMLVQClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = GMLVQClassifier(1, n_components=2, random_state=0).fit(X, y)
        >>> model.transform_relevance(X).shape
        (150, 2)
        """
        check_is_fitted(self)
        omega = self._module.metric.omega()
        if omega is None or omega.ndim > 2:
            raise ValueError(
                "transform_relevance needs metric='relevance' or 'matrix'. Got "
                f"{self.metric!r}."
            )
        X = self._check_input(X)
        sites = self._forward(X, ("embedding",))["embedding"]
        if sites.shape[1] > 1:
            raise ValueError(
                "transform_relevance needs an encoder that returns one embedding for "
                f"each sample. Got {sites.shape[1]}."
            )
        z = sites[:, 0].astype(np.float64)
        map_ = omega.detach().double().cpu().numpy()
        return z * map_ if map_.ndim == 1 else z @ map_.T

    # -- after training ----------------------------------------------------------------

    def _eligible_codes(self) -> np.ndarray:
        return self._module.labels.cpu().numpy()

    def _collect(self, module, data: TrainingData, X) -> None:
        super()._collect(module, data, X)
        self.prototype_labels_ = self.classes_[self._eligible_codes()]
        self._read_head()

    def _read_head(self) -> None:
        module = self._module
        relevances = module.metric.relevances()
        n_prototypes, dim = module.prototypes.shape
        if relevances is None:
            relevances = torch.full((dim,), 1.0 / dim)
        self.relevances_ = relevances.detach().double().cpu().numpy()
        if self.metric == "relevance":
            self.feature_weights_ = np.tile(self.relevances_, (n_prototypes, 1))
        if "matrix" in self.metric:
            self.omega_ = module.metric.omega().detach().double().cpu().numpy()

    def prune(self, min_wins=1):
        """Drop the prototypes that are rarely or never the nearest one.

        Parameters
        ----------
        min_wins : int, default=1
            Prototypes with fewer wins (`win_counts_`) are dropped. 1 changes no
            prediction on the training samples of a model whose nearest prototype
            decides. The last prototype of a class stays, whatever its wins.

        Returns
        -------
        self : object
            The estimator with fewer prototypes; those left keep their ids.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import GLVQClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = GLVQClassifier(4, random_state=0).fit(X, y)
        >>> len(model.prune(min_wins=5).prototypes_) <= 12
        True
        """
        check_is_fitted(self)
        kept = self.win_counts_ >= min_wins
        codes = self._eligible_codes()
        # Per class the prototype with most wins, the first of equal ones.
        order = np.lexsort((np.arange(len(codes)), -self.win_counts_, codes))
        _, first = np.unique(codes[order], return_index=True)
        kept[order[first]] = True
        return self._keep(kept)

    # -- certificates and evidence -----------------------------------------------------

    def _certificate_width(self) -> int:
        n_prototypes, dim = self._module.prototypes.shape
        return n_prototypes * max(n_prototypes, dim)

    def _global_evidence(self) -> dict[str, Any]:
        codes = self._eligible_codes()
        return {
            "relevances": self.relevances_,
            "omega": getattr(self, "omega_", None),
            "effective_size": effective_sizes(
                self.win_counts_, codes, len(self.classes_)
            ),
        }

    def _metric_evidence(self) -> dict[str, Any]:
        return {"metric": None if "matrix" in self.metric else "euclidean"}


def effective_sizes(wins: np.ndarray, codes: np.ndarray, n_classes: int) -> np.ndarray:
    """Exponential of the entropy of the wins within each class, (K,)."""
    totals = np.bincount(codes, weights=wins, minlength=n_classes)[codes]
    share = wins / np.where(totals > 0, totals, 1.0)
    entropy = -share * np.log(np.where(share > 0, share, 1.0))
    return np.exp(np.bincount(codes, weights=entropy, minlength=n_classes))


def leading_directions(data: TrainingData, encoder, points, codes) -> np.ndarray:
    """Directions in which the prototypes of different classes lie apart, (D, D).

    Eigenvectors of the scatter of the class centres and the prototypes plus a small
    share of that of the samples, largest first, as rows.
    """
    index = np.arange(len(data))
    if len(data) > MAX_SCATTER_SAMPLES:
        index = np.sort(data.rng.choice(index, MAX_SCATTER_SAMPLES, replace=False))
    Z = encode(encoder, data.subset(index))
    Z = np.asarray(Z.toarray() if hasattr(Z, "toarray") else Z, dtype=np.float64)
    weight = data.weight[index] / data.weight[index].sum()
    centred = Z - weight @ Z
    scatter = SAMPLE_SHARE * (centred * weight[:, None]).T @ centred
    own = np.eye(data.n_classes)[codes]
    centres = (own.T @ points) / own.sum(axis=0)[:, None]
    apart = centres - centres.mean(axis=0)
    scatter += apart.T @ apart / len(apart)
    return np.linalg.eigh(scatter)[1].T[::-1].copy()
