"""Encoders of estimators: made, started, and passed once where they are frozen."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, ClassVar

import torch

from skproto._pretraining import pretrain
from skproto.nn.encoders import SiteEncoder, make_encoder, settle_statistics
from skproto.training import TrainingData, chunks

# Above this many entries the sites of a frozen encoder are not kept in memory.
MAX_CACHED_ENTRIES = 2**30

# Batches, and samples of each, from which batch normalisation starts.
N_SETTLING, SETTLING_BATCH = 8, 64


class EncodingMixin:
    """The part of :class:`~skproto.base.PrototypeClassifier` about its encoder."""

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
            parts = chunks(len(order), SETTLING_BATCH)
            batches = (torch.from_numpy(data.dense(order[part])) for part in parts)
            settle_statistics(encoder, batches)
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
        n_entries = len(data) * encoder.n_sites * encoder.dim
        if len(self._input_shape) == 2 or n_entries > MAX_CACHED_ENTRIES:
            return data
        encoder.eval()
        with torch.no_grad():
            parts = [
                encoder.body_sites(torch.from_numpy(data.dense(rows)).to(self.device))
                for rows in data.chunks()
            ]
        return replace(data, X=torch.cat(parts).cpu().numpy())

    def _augmentation(self):
        """Return what changes training batches, None for nothing."""
        if isinstance(self.augment, str):
            from skproto.nn.augmentation import Augmentation

            return Augmentation() if len(self._input_shape) == 3 else None
        return self.augment
