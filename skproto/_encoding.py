"""Encoders of estimators: made, started, and passed once where they are frozen."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch

from skproto._pretraining import pretrain
from skproto.nn._embedding import given_body
from skproto.nn.encoders import SiteEncoder, make_encoder, settle_statistics
from skproto.training import BatchDataset, BatchLoader, TrainingData

# Above this many entries, 4 bytes each, the sites of a frozen encoder are not kept in
# memory; above a quarter where the images themselves are too many for it.
MAX_CACHED_ENTRIES = 2**30

# Batches, and samples of each, from which batch normalisation starts.
N_SETTLING, SETTLING_BATCH = 8, 64


def _most_cached(data: TrainingData) -> int:
    """Return how many entries of sites may be kept in memory."""
    in_memory = getattr(data.X, "in_memory", True)
    return MAX_CACHED_ENTRIES if in_memory else MAX_CACHED_ENTRIES // 4


class EncodingMixin:
    """The part of :class:`~skproto.base.PrototypeClassifier` about its encoder."""

    encoder: Any
    encoder_: Any
    frozen: Any
    augment: Any
    device: Any
    max_epochs_: int
    _input_shape: tuple[int, ...]
    # What encoder="auto" stands for, by kind of sample.
    _auto_encoders: ClassVar[dict[str, str]] = {"table": "identity", "image": "conv"}

    @property
    def _encodes(self) -> bool:
        return self.encoder_ not in (None, "identity", "tokens")

    def _make_encoder(self, data: TrainingData | None = None) -> SiteEncoder:
        """Return the encoder, of random weights unless the user gives them.

        With data, layers that normalise by batch know the samples from the start.
        """
        if "_ready_encoder" in vars(self):
            return copy.deepcopy(self._ready_encoder)
        encoder = make_encoder(
            self.encoder_,
            self._input_shape,
            add_on=self._add_on(),
            frozen=self.frozen,
            **self._encoder_settings(),
        )
        if data is not None and encoder.body is not None:
            order = data.rng.permutation(len(data))[: N_SETTLING * SETTLING_BATCH]
            batches = BatchLoader(BatchDataset(data.subset(order)), SETTLING_BATCH)
            settle_statistics(encoder, (x for x, _ in batches))
        return encoder

    def _encoder_settings(self) -> dict[str, Any]:
        """Return settings of the encoder beside what the user asks for."""
        return {}

    def _add_on(self):
        """Return what makes a module on sites from their dimension, or None."""
        return None

    def _pretrain(self, data: TrainingData) -> None:
        """Give an encoder of random weights a start, where that is asked for."""
        n_epochs = getattr(self, "pretrain_epochs", 0)
        if isinstance(n_epochs, str):
            named = self.encoder_ in ("conv", "vit") and not self.frozen
            n_epochs = self.max_epochs_ // 4 if named else 0
        if hasattr(self, "pretrain_epochs"):
            self.pretrain_epochs_ = n_epochs
        if n_epochs and self._encodes:
            encoder = self._make_encoder(data)
            settings = {"device": self.device, "augment": self._augmentation()}
            self._pretraining = pretrain(encoder, data, n_epochs, **settings)
            self._ready_encoder = encoder

    def _encode_once(self, data: TrainingData, previous) -> TrainingData:
        """Return the data with the sites of a frozen encoder in place of samples."""
        if not self.frozen or self.augment is not None or not self._encodes:
            return data
        encoder = previous["module"].encoder if previous else self._make_encoder(data)
        self._ready_encoder = encoder.to(self.device)
        # The add-on, which learns, comes after what is kept and may be narrower.
        shape = (len(data), encoder.n_sites, encoder.body_dim)
        if len(self._input_shape) == 2 or math.prod(shape) > _most_cached(data):
            return data
        encoder.eval()
        # Filled in place: the sites are in memory once, not twice.
        sites = np.empty(shape, dtype=np.float32)
        with torch.no_grad():
            for rows in data.chunks():
                x = torch.from_numpy(data.dense(rows)).to(self.device)
                sites[rows] = encoder.body_sites(x).cpu().numpy()
        return replace(data, X=sites)

    def _expected_pixels(self, sample_shape: tuple[int, ...]) -> Any:
        """Return mean and deviation of pixels that the user's encoder asks for."""
        if isinstance(self.encoder, str) or self.encoder is None:
            return None
        if len(sample_shape) != 3:
            return None
        with torch.random.fork_rng(devices=[]):
            body = given_body(self.encoder, sample_shape)
        expected = getattr(body, "normalization", None)
        # A layer of the user's may have this name, too.
        return expected if isinstance(expected, tuple | list) else None

    def _augmentation(self):
        """Return what changes training batches, None for nothing."""
        if isinstance(self.augment, str):
            from skproto.nn.augmentation import Augmentation

            return Augmentation() if len(self._input_shape) == 3 else None
        return self.augment
