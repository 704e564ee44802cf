"""How shallow classifiers are edited: what they share, and LVQ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skproto._editing import (
    EditingFamily,
    EditNotSupported,
    HeadFit,
    HeadRules,
    resized_module,
)
from skproto.nn.lvq import LVQMetric
from skproto.nn.similarity import RBFKernel
from skproto.shallow._pairs import fit_temperature
from skproto.training import TrainingData

# How far below the smallest logit of its column an entry lies that counts as 0.
ABSENT = 30.0


class ShallowFamily(EditingFamily):
    """What the shallow families share: exact distances in the metric of the model."""

    def read(self) -> None:
        """Set the attributes that are read off the module."""
        model, module = self.model, self.module
        latent = self.locations()
        points = latent
        if not model._encodes:
            # Scaling back rounds; a case is its row to the last bit.
            is_case = model.projection_distance_[:, None] == 0
            samples = model.prototype_samples_
            points = np.where(is_case, samples, model._scaling.invert(latent))
        model.prototypes_ = points
        if isinstance(getattr(module, "kernel", None), RBFKernel):
            model.sigma_ = module.kernel.sigma.detach().double().cpu().numpy()
            model._read_metric()
        model._read_head()

    def _outputs(self, codes: NDArray[Any], *keys: str) -> list[NDArray[np.float64]]:
        """Return outputs of the module in float64 for codes (m, D) as sites."""
        module = self.model._double_module()
        module.encoder = _Sites()
        z = torch.from_numpy(np.asarray(codes, dtype=np.float64))
        with torch.inference_mode():
            outputs = module(z[:, None, :])
        return [outputs[key].numpy() for key in keys]

    def similarity(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the activations (m, P) of codes."""
        return self._outputs(codes, "activations")[0]

    def distances(
        self, codes: NDArray[Any], positions: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return distances (m,) in the metric of the model, 0 where the same bits."""
        found = self._outputs(codes, "distances")[0]
        found = found[np.arange(len(codes)), positions]
        here = self.module.prototypes.detach().cpu().numpy()[positions]
        same = (here == np.asarray(codes, dtype=here.dtype)).all(axis=1)
        least = np.finfo(float).tiny
        return np.where(same, 0.0, np.maximum(found, least))

    def most_similar(self, X: Any) -> NDArray[np.int64]:
        """Return the position of the nearest prototype of each sample."""
        return np.asarray(self.model._most_similar(X))

    def forbid_sites(
        self, boxes: NDArray[np.int64], labels: NDArray[np.int64] | None
    ) -> None:
        """Leave it to the scaling, which hides the pixels from the encoder."""
        if labels is not None:
            raise EditNotSupported(
                "forbid",
                self.name,
                "all its prototypes see the same pixels; forbid the region to all "
                "classes.",
            )

    def append_entries(self, values: dict[str, Any]) -> None:
        """Append entries; those of learned arrays follow when the module is read."""
        model, m = self.model, len(values["prototype_ids_"])
        if model.prototype_samples_ is not None:
            shape = (m, *model.prototype_samples_.shape[1:])
            filler = np.zeros(shape, dtype=model.prototype_samples_.dtype)
            values = {"prototype_samples_": filler, **values}
        # Not yet a case: what it is at is told next.
        values = {
            "projection_distance_": np.full(m, np.inf),
            "prototype_indices_": np.full(m, -1),
            **values,
        }
        super().append_entries(values)

    def forbid_features(self, mask: NDArray[np.bool_]) -> None:
        """Put the coordinates of forbidden features to 0, and their relevance."""
        super().forbid_features(mask)
        if not self.model._encodes:
            ignore_features(self.module.metric, mask)


@torch.no_grad()
def ignore_features(metric: LVQMetric, mask: NDArray[np.bool_]) -> None:
    """Give features no part in a metric; the others share what they had."""
    held = torch.from_numpy(mask)
    if metric.metric == "relevance":
        metric.logits[held] = metric.logits.min() - ABSENT
    elif metric.metric != "euclidean":
        metric.matrix[..., held] = 0.0


class _Sites(torch.nn.Module):
    """Stands for the encoder where the sites are given."""

    def forward(self, z):
        return z


# -- learning vector quantization ------------------------------------------------------


class LVQFamily(ShallowFamily):
    """LVQ: labelled prototypes, the nearest of which decides; there are no weights."""

    additive = False
    refused = {
        "reweight": (
            "the nearest prototype decides and has no weight. Add or remove prototypes "
            "instead."
        )
    }

    def refusals(self) -> Mapping[str, str]:
        """Refuse weights, and merging in a mixture, where two count twice."""
        if not self.module.mixture:
            return self.refused
        return {
            "reweight": (
                "all Gaussians of the mixture are equally likely. Add or remove "
                "prototypes instead."
            ),
            "merge": (
                "all Gaussians of the mixture are equally likely, so that one cannot "
                "stand for two. Remove one instead."
            ),
        }

    def class_codes(self) -> NDArray[np.int64]:
        """Return the class codes (P,) of the module."""
        return np.asarray(self.module.labels.cpu().numpy())

    def _matrices(self) -> dict[str, NDArray[Any]]:
        """Return the matrices (P, l, D), where each prototype has its own."""
        if not self.module.metric.is_local:
            return {}
        return {"metric.matrix": self.module.metric.matrix.detach().cpu().numpy()}

    def _rebuild(self, labels, prototypes, matrices) -> None:
        config = {"labels": [int(code) for code in labels]}
        arrays = {"prototypes": prototypes, **matrices}
        self.use(resized_module(self.model, config, arrays))

    def _points(self) -> NDArray[Any]:
        return np.asarray(self.module.prototypes.detach().cpu().numpy())

    def drop(self, kept: NDArray[np.bool_], **options: Any) -> NDArray[np.int64]:
        """Take candidates out."""
        matrices = {name: values[kept] for name, values in self._matrices().items()}
        self._rebuild(self.class_codes()[kept], self._points()[kept], matrices)
        return np.flatnonzero(kept)

    def append(
        self, codes: NDArray[Any], labels: NDArray[np.int64], **options: Any
    ) -> NDArray[np.int64]:
        """Add candidates; a matrix of its own is that of the nearest of its class."""
        old, points = self.class_codes(), self._points()
        matrices = {}
        for name, values in self._matrices().items():
            alike = self.similarity(codes)
            own = old == labels[:, None]
            alike = np.where(own | ~own.any(axis=1, keepdims=True), alike, -np.inf)
            matrices[name] = np.concatenate([values, values[alike.argmax(axis=1)]])
        joined = np.concatenate([points, np.asarray(codes, dtype=points.dtype)])
        self._rebuild(np.concatenate([old, labels]), joined, matrices)
        return np.arange(len(joined))

    def identical(self, positions: NDArray[np.int64]) -> bool:
        """Tell whether candidates have one place and one metric."""
        same = (values[positions] for values in self._matrices().values())
        alike = all(bool((values == values[0]).all()) for values in same)
        return alike and super().identical(positions)

    def relabel(self, positions: NDArray[np.int64], label: int) -> None:
        """Give candidates another class."""
        labels = self.class_codes().copy()
        labels[positions] = label
        self._rebuild(labels, self._points(), self._matrices())

    def add_columns(self, keep: int, others: NDArray[np.int64]) -> None:
        """Do nothing: there are no weights."""

    def set_pure(self, positions, labels, weight) -> None:
        """Do nothing: a candidate has one class."""
        if weight is not None:
            raise ValueError(
                f"weight must be None: {self.name} has no weights. Got {weight!r}."
            )

    def read(self) -> None:
        """Set the attributes that are read off the module, the labels too."""
        super().read()
        self.model.prototype_labels_ = self.model.classes_[self.class_codes()]

    def dead(self) -> NDArray[np.int64]:
        """Return prototypes that are not the nearest one of any sample counted."""
        return np.flatnonzero(self.model.win_counts_ == 0)

    @property
    def has_head(self) -> bool:
        """Whether there is a temperature of the probabilities."""
        return hasattr(self.model, "temperature_")

    def fit_head(self, data: TrainingData, rules: HeadRules) -> HeadFit:
        """Fit the temperature of the probabilities, all there is beside prototypes."""
        parts = []
        for rows in data.chunks():
            x = torch.from_numpy(data.dense(rows)).to(self.module.prototypes.device)
            with torch.inference_mode():
                parts.append(self.module.predict(x)["scores"].double().cpu().numpy())
        scores = np.concatenate(parts)
        self.model.temperature_ = fit_temperature(
            scores, np.asarray(data.y), np.asarray(data.weight)
        )
        return HeadFit()
