"""What the shallow classifiers share: starting points and the rows behind them."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
import torch

from skproto import _placing as placing
from skproto._fitting import keeps_state_on_error
from skproto._projection import distinct_sources, nearest_sites, site_embeddings
from skproto.base import PrototypeClassifier
from skproto.shallow._editing import ignore_features
from skproto.training import AtStart, Phase, TrainingData, chunks, select_rows
from skproto.utils import _parameters as rules
from skproto.utils._initialization import start_class_prototypes, start_prototypes

# Most prototypes of a class that n_prototypes_per_class="auto" asks for.
MAX_AUTOMATIC = 30


class ShallowPrototypeClassifier(PrototypeClassifier):
    """Base of the RBF, CBC and LVQ classifiers.

    Adds the parameters `n_prototypes_per_class`, `init` and `project`, starting
    prototypes, projection onto training samples and the attributes that describe the
    prototypes.
    """

    # Prefixes of the parameters that adjust to prototypes that have been projected.
    _adjusts: ClassVar[tuple[str, ...]] = ()
    # Root mean variance of the features of sparse samples.
    _spread = 1.0
    # Fitted attributes with one entry for each prototype.
    _per_prototype: ClassVar[tuple[str, ...]] = placing.PER_PROTOTYPE
    _parameter_rules = PrototypeClassifier._parameter_rules.extended(
        n_prototypes_per_class=(
            rules.options("auto"),
            rules.integer(1),
            rules.array(1, "an array-like with one int for each class"),
        ),
        init=(
            rules.options("kmeans", "mean", "sample"),
            rules.array(2, "an array-like of shape (n_prototypes, n_features)"),
        ),
        project_prototypes=rules.boolean(),
        unique_sources=rules.boolean(),
    )

    # -- starting points ---------------------------------------------------------------

    def _class_counts(self, data: TrainingData) -> np.ndarray:
        if isinstance(self.n_prototypes_per_class, str):
            return self._auto_counts(np.bincount(data.y, minlength=data.n_classes))
        counts = np.asarray(self.n_prototypes_per_class)
        if counts.ndim == 0:
            return np.full(data.n_classes, int(counts))
        if len(counts) != data.n_classes or (counts < 1).any() or (counts % 1).any():
            raise ValueError(
                "The 'n_prototypes_per_class' parameter must be a positive int or one "
                f"for each of the {data.n_classes} classes. Got "
                f"{self.n_prototypes_per_class!r}."
            )
        return counts.astype(int)

    def _auto_counts(self, n_samples: np.ndarray) -> np.ndarray:
        """Return how many prototypes classes of so many samples get by "auto"."""
        return automatic_counts(n_samples)

    def _start(self, data: TrainingData, encoder) -> tuple[np.ndarray, np.ndarray]:
        """Return starting prototypes (P, D) and their class codes (P,)."""
        counts = self._class_counts(data)
        Z = self._encoded(encoder, data)
        if isinstance(self.init, str):
            return start_class_prototypes(
                Z, data.y, data.weight, counts, self.init, data.rng
            )
        points = np.asarray(self.init, dtype=np.float64)
        if len(points) != counts.sum():
            raise ValueError(
                f"The 'init' parameter must have one row for each of the {counts.sum()}"
                f" prototypes, ordered by class. Got shape {points.shape}."
            )
        return self._given_points(points, encoder), np.repeat(
            np.arange(len(counts)), counts
        )

    def _start_shared(self, data: TrainingData, encoder, n_prototypes: int):
        """Return class-less starting prototypes (P, D)."""
        Z = self._encoded(encoder, data)
        if isinstance(self.init, str):
            points = start_prototypes(Z, data.weight, n_prototypes, self.init, data.rng)
            if len(points) < n_prototypes and self.init != "mean":
                warnings.warn(
                    f"X has {len(points)} distinct samples, fewer than n_prototypes="
                    f"{n_prototypes}. One prototype per distinct sample is used.",
                    UserWarning,
                    stacklevel=2,
                )
            return points
        points = np.asarray(self.init, dtype=np.float64)
        if len(points) != n_prototypes:
            raise ValueError(
                f"The 'init' parameter must have {n_prototypes} rows, one for each "
                f"prototype. Got shape {points.shape}."
            )
        return self._given_points(points, encoder)

    def _encoded(self, encoder, data: TrainingData):
        Z = encode(encoder, data)
        if sp.issparse(Z):
            self._spread = min(1.0, spread_of_sparse(Z))
        return Z

    def _given_points(self, points: np.ndarray, encoder) -> np.ndarray:
        if points.shape[1] != self.n_features_in_:
            raise ValueError(
                f"The 'init' parameter must have {self.n_features_in_} columns, one "
                f"for each feature. Got shape {points.shape}."
            )
        scaled = torch.from_numpy(self._scaling.apply(points))
        with torch.no_grad():
            return encoder(scaled)[:, 0].numpy().astype(np.float64)

    def _forbid_in_module(self, module) -> None:
        held = self._held_features
        if held is not None and not self._encodes:
            ignore_features(module.metric, held)

    # -- training ----------------------------------------------------------------------

    def _phases(self) -> list[Phase]:
        joint = super()._phases()[0]
        if self._spread < 1:
            # A step of Adam moves every coordinate by lr: far, in many dimensions of
            # little spread such as the words of texts.
            rates = {"prototypes": joint.lr * self._spread}
            joint = replace(joint, group_lr=rates)
        n_adjust = self.max_epochs_ // 4
        if not (self.project_prototypes and self._adjusts and n_adjust):
            return [joint]
        adjust = replace(
            joint,
            name="adjust",
            max_epochs=n_adjust,
            trainable=self._adjusts,
            callbacks=(*joint.callbacks, AtStart(self._project_onto)),
        )
        return [replace(joint, max_epochs=joint.max_epochs - n_adjust), adjust]

    # -- after training ----------------------------------------------------------------

    def _finish(self, module, data: TrainingData) -> None:
        if not self.project_prototypes:
            return
        before = self.__dict__.pop("_accuracy_before", None)
        self._project_onto(module, data)
        if before is not None:
            self.projection_accuracy_[0] = before

    def _project_onto(self, module, data) -> None:
        """Move the prototypes and report what it does to the accuracy."""
        before = self._accuracy(module, data)
        self._accuracy_before = before
        self._projected = self._move_to_rows(module, data)
        self.projection_accuracy_ = np.array([before, self._accuracy(module, data)])

    def _accuracy(self, module, data: TrainingData) -> float:
        """Weighted share of samples that are classified right."""
        right = np.zeros(len(data), dtype=bool)
        for rows in data.chunks():
            x = torch.from_numpy(data.dense(rows)).to(module.prototypes.device)
            with torch.inference_mode():
                outputs = {k: v.cpu().numpy() for k, v in module(x).items()}
            right[rows] = self._codes(outputs) == np.asarray(data.y[rows])
        return float(np.average(right, weights=np.asarray(data.weight)))

    def _move_to_rows(self, module, data: TrainingData) -> np.ndarray:
        """Put every prototype on its nearest eligible sample; return their numbers."""
        index, sites, _ = nearest_rows(
            module, data, self._eligible_codes(), self.unique_sources
        )
        points = site_embeddings(module, data, index, sites)
        with torch.no_grad():
            module.prototypes.copy_(points)
        self._projected_sites = sites
        return index

    def _eligible_codes(self) -> np.ndarray | None:
        """Return class codes (P,) that projection must keep; None: any row will do."""
        return None

    @keeps_state_on_error
    def project(self, X, y):
        """Move every prototype onto the nearest of the given samples.

        Prototypes become cases that can be shown. Where prototypes own a class, only
        samples of that class are eligible; two prototypes may come to lie on one
        sample, unless ``unique_sources=True``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, such as those of `fit`.

        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        self : object
            The estimator. `prototype_indices_` now counts the rows of this `X`;
            `projection_distance_` is 0, and `projection_accuracy_` holds the accuracy
            on these samples before and after.

        Raises
        ------
        ValueError
            If `y` holds labels that were not seen in `fit`, or lacks the class of a
            prototype.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import GLVQClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = GLVQClassifier(1, random_state=0).fit(X, y)
        >>> model = model.project(X, y)
        >>> model.projection_distance_.max().item()
        0.0
        >>> bool((model.prototypes_[0] == X[model.prototype_indices_[0]]).all())
        True
        """
        X, data = self._labelled(X, y)
        self._check_eligible(data.y)
        module = copy.deepcopy(self._module)
        self._project_onto(module, data)
        self.net_ = self._make_prediction_net(module)
        self._collect(module, data, X)
        return self

    def _check_eligible(self, codes: np.ndarray) -> None:
        wanted = self._eligible_codes()
        missing = np.setdiff1d(codes if wanted is None else wanted, codes)
        if len(missing):
            raise ValueError(
                f"y must hold samples of every class that has prototypes; it has none "
                f"of {self.classes_[missing].tolist()}."
            )

    def _keep(self, kept: np.ndarray):
        """Keep the prototypes of a mask (P,) and what belongs to them."""
        if not kept.any():
            raise ValueError("No prototype would be left; use a lower threshold.")
        module = self._module.keep(torch.from_numpy(kept))
        self.net_ = self._make_prediction_net(module)
        placing.keep_entries(self, self._per_prototype, kept)
        self._read_head()
        return self

    def _read_head(self) -> None:
        """Set the fitted attributes that can be read off the module."""

    def _collect(self, module, data: TrainingData, X) -> None:
        latent = module.prototypes.detach().cpu().numpy().astype(np.float64)
        index, sites, distance = nearest_rows(module, data, None)
        projected = self.__dict__.pop("_projected", None)
        adopted = self.__dict__.pop("_projected_sites", None)
        self.__dict__.pop("_accuracy_before", None)
        if projected is not None:
            index, sites, distance = projected, adopted, np.zeros_like(distance)
        placing.read_sources(self, X, data.rows[index], sites)
        self.prototype_sample_labels_ = self.classes_[data.y[index]]
        self.prototype_indices_ = data.rows[index]
        self.projection_distance_ = distance
        self.prototypes_ = latent
        if not self._encodes:
            # Scaling back rounds; a projected prototype is its row to the last bit.
            is_case = distance[:, None] == 0
            self.prototypes_ = np.where(
                is_case, self.prototype_samples_, self._scaling.invert(latent)
            )
        wins = self._most_similar(select_rows(X, data.rows))
        self.win_counts_ = np.bincount(wins, minlength=len(latent))

    def _most_similar(self, X) -> np.ndarray:
        """Return the position of the most similar prototype of validated samples."""
        return self._forward(X, ("activations",))["activations"].argmax(axis=1)


def automatic_counts(n_samples: np.ndarray) -> np.ndarray:
    """Return how many prototypes classes of so many (distinct) samples get.

    A quarter of the root, 1 to 30: 3 for 150 samples of a class, 18 for 5,000.
    """
    counts = np.rint(0.25 * np.sqrt(n_samples)).astype(int)
    return np.clip(counts, 1, MAX_AUTOMATIC)


def spread_of_sparse(Z: sp.csr_array) -> float:
    """Root of the mean variance of the features."""
    mean_square = Z.multiply(Z).sum() / (Z.shape[0] * Z.shape[1])
    squared_mean = np.square(np.asarray(Z.mean(axis=0))).mean()
    return float(np.sqrt(max(mean_square - squared_mean, 0.0)))


def encode(encoder, data: TrainingData) -> np.ndarray | sp.csr_array:
    """One site of every sample, (n, D); the samples themselves without encoder."""
    if encoder.body is None and len(data.input_shape) == 1:
        return data.X
    encoder = copy.deepcopy(encoder).eval()
    site = data.rng.randint(encoder.n_sites, size=len(data))
    parts = []
    with torch.no_grad():
        for rows in data.chunks():
            z = encoder(torch.from_numpy(data.dense(rows)))
            parts.append(z[np.arange(len(z)), site[rows]])
    return torch.cat(parts).numpy()


def nearest_rows(
    module, data: TrainingData, codes: np.ndarray | None, unique: bool = False
):
    """Nearest training sample of every prototype.

    Parameters
    ----------
    module : nn.Module
        Returns "distances" (n, P), and "sites" (n, P) where samples have several.

    data : TrainingData
        Samples to choose from.

    codes : ndarray of shape (P,) or None
        Class code that a prototype's sample must have; None: any.

    unique : bool, default=False
        Whether no two prototypes may take the same sample, as far as there are enough.

    Returns
    -------
    index, sites : ndarray of shape (P,)
        Number of the sample in `data`, and its site; ties go to the first.

    distance : ndarray of shape (P,)
        Its distance from the prototype, in the space of the model.
    """
    owners = None if codes is None else codes[:, None] == np.arange(data.n_classes)
    k = min(len(module.prototypes), len(data)) if unique else 1
    nearest = nearest_sites(module, data, owners, k)
    if unique:
        nearest = distinct_sources(nearest)
    index, sites = np.maximum(nearest.index[0], 0), nearest.sites[0]
    return index, sites, distances_to(module, data, index, sites)


def distances_to(module, data: TrainingData, index, sites) -> np.ndarray:
    """Distance (P,) of each prototype to the site of its own sample, in float64.

    It is 0 where the prototype is that sample to the last bit, and nowhere else: in
    float32 the distance to a sample close by may round to 0 as well.
    """
    double = copy.deepcopy(module).double().cpu()
    distance = np.empty(len(index))
    for part in chunks(len(index), 64):
        x = torch.from_numpy(data.dense(index[part]))
        with torch.inference_mode():
            z = module.encoder(x.to(module.prototypes.device))
            z = z[np.arange(len(z)), sites[part]]
            same = (z == module.prototypes[part]).all(1).cpu().numpy()
            found = double(x.double())["distances"][:, part].diagonal().numpy()
        distance[part] = np.where(same, 0.0, np.maximum(found, np.finfo(float).tiny))
    return distance
