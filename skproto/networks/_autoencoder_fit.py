"""How the prototype autoencoder is built from data and trained."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from skproto._fitting import _seeded_torch
from skproto._predicting import _fill_block
from skproto.base import PrototypeClassifier
from skproto.nn import CrossEntropy
from skproto.nn.autoencoder import (
    PrototypeAutoencoderNetwork,
    automatic_code_dim,
    make_body,
)
from skproto.nn.autoencoder_losses import (
    PrototypeDiversity,
    PrototypeNearSample,
    Reconstruction,
    SampleNearPrototype,
)
from skproto.nn.encoders import SiteEncoder
from skproto.training import Annealing, Phase, TrainingData, chunk_rows, chunks
from skproto.utils import _parameters as rules
from skproto.utils._initialization import start_class_prototypes

# Names of the starts of prototypes, and what they are called elsewhere.
STARTS = {"class_samples": "sample", "kmeans": "kmeans"}

# By how much values may leave the decoder's range before that is told.
ROUNDING = 1e-6

# Codes from whose distances the size of a distance is computed.
MAX_SCALE_SAMPLES = 1_000


class AutoencoderFit(PrototypeClassifier):
    """The part of the prototype autoencoder that fits."""

    _module_class = PrototypeAutoencoderNetwork
    _auto_encoders = {"table": "auto", "image": "auto", "tokens": "tokens"}
    _parameter_rules = PrototypeClassifier._parameter_rules.extended(
        n_prototypes=(rules.options("auto"), rules.integer(1)),
        decoder=(
            rules.options("auto"),
            rules.anything_callable("an nn.Module or a callable that returns one"),
        ),
        decoder_output=rules.options("auto", "sigmoid", "linear"),
        latent_dim=(rules.options("auto"), rules.integer(1)),
        lambda_class=rules.real(0, ends="[)"),
        lambda_recon=rules.real(0, ends="[)"),
        lambda_r1=rules.real(0, ends="[)"),
        lambda_r2=rules.real(0, ends="[)"),
        lambda_diversity=rules.real(0, ends="[)"),
        class_conditional=rules.boolean(),
        normalize_losses=rules.boolean(),
        init=rules.options("class_samples", "kmeans", "uniform"),
        head_init=rules.options("class_signed", "uniform"),
        transform_output=rules.options("distance", "similarity"),
        project_prototypes=rules.boolean(),
        unique_sources=rules.boolean(),
        schedule=rules.options("auto", "cosine", "constant"),
        solver=rules.options("adam", "adamw"),
    )
    n_prototypes: Any
    decoder: Any
    decoder_output: str
    latent_dim: Any
    lambda_class: float
    lambda_recon: float
    lambda_r1: float
    lambda_r2: float
    lambda_diversity: float
    class_conditional: bool
    normalize_losses: bool
    init: str
    head_init: str
    schedule: str
    _bounds: tuple[float, float]

    # -- what "auto" stands for --------------------------------------------------------

    def _resolve(self, X) -> None:
        super()._resolve(X)
        first = X.data[:1] if sp.issparse(X) else X[:1]
        self._bounds = (0.0, 255.0 if first.dtype == np.uint8 else 1.0)
        confined = first.dtype.kind == "b" or first.dtype == np.uint8
        low, high = self._bounds if confined else value_range(X)
        # Scaling to 0 and 1 may end a rounding error beyond them.
        outside = low < self._bounds[0] - ROUNDING or high > self._bounds[1] + ROUNDING
        self.decoder_output_ = self._resolved_output(X, outside, (low, high))
        self._check_range_again(outside, (low, high))

    def _resolved_output(self, X, outside: bool, found: tuple[float, float]) -> str:
        """Return the output of the decoder; "sigmoid" needs values between bounds."""
        low, high = found
        if self.decoder_output == "sigmoid" and outside:
            raise ValueError(
                "decoder_output='sigmoid' needs values of X from 0 to 1, or bytes. Got "
                f"values from {low:.3g} to {high:.3g}; scale X or use "
                "decoder_output='linear'."
            )
        if self.decoder_output != "auto":
            return self.decoder_output
        if len(X.shape) != 4 or not isinstance(self.decoder, str):
            return "linear"
        if outside:
            warnings.warn(
                f"X holds images with values from {low:.3g} to {high:.3g}, outside of "
                "0 to 1: the decoder's output is linear and not confined. Scale X to "
                "the range from 0 to 1, or set decoder_output='linear'.",
                UserWarning,
                stacklevel=2,
            )
        return "linear" if outside else "sigmoid"

    def _check_range_again(self, outside: bool, found: tuple[float, float]) -> None:
        """Raise if a fit that goes on has values that its decoder cannot reach."""
        if not (self.warm_start and outside and hasattr(self, "net_")):
            return
        if self._module.config["output"] == "sigmoid":
            raise ValueError(
                "warm_start=True goes on with a decoder whose values lie between "
                f"{self._bounds[0]:g} and {self._bounds[1]:g}. Got X with values from "
                f"{found[0]:.3g} to {found[1]:.3g}."
            )

    def _counts(self, data: TrainingData) -> np.ndarray:
        """Prototypes of every class: equal numbers, as far as there are samples."""
        sizes = np.bincount(data.y, minlength=data.n_classes)
        wanted = self.n_prototypes
        if isinstance(wanted, str):
            wanted = min(max(2 * data.n_classes, 10), len(data))
        if not data.n_classes <= wanted <= len(data):
            raise ValueError(
                "The 'n_prototypes' parameter must be at least the number of classes, "
                f"{data.n_classes}, and at most that of distinct samples, {len(data)}. "
                f"Got {self.n_prototypes!r}."
            )
        return spread_evenly(wanted, sizes)

    # -- building ----------------------------------------------------------------------

    def _make_encoder(self, data: TrainingData | None = None) -> SiteEncoder:
        if not (isinstance(self.encoder_, str) and self.encoder_ == "auto"):
            return super()._make_encoder(data)
        shape = self._input_shape
        dim = self.latent_dim
        if isinstance(dim, str):
            dim = automatic_code_dim(shape)
        encoder = SiteEncoder(
            make_body(shape, dim), input_shape=shape, frozen=self.frozen
        )
        encoder.probe("auto")
        return encoder

    def _encode_once(self, data: TrainingData, previous) -> TrainingData:
        # The decoder is compared with the samples, not with their sites.
        return data

    def _make_decoder(self, dim: int) -> torch.nn.Module | None:
        """Return the user's decoder; None stands for that of the network."""
        if isinstance(self.decoder, str):
            return None
        shape = tuple(self._input_shape)
        decoder = self.decoder
        if isinstance(decoder, torch.nn.Module):
            decoder = copy.deepcopy(decoder)
        else:
            decoder = decoder(dim, shape)
        if not isinstance(decoder, torch.nn.Module):
            raise TypeError(
                f"The decoder {self.decoder!r} must return an nn.Module. Got "
                f"{decoder!r}."
            )
        check_decoder(decoder, self.decoder, dim, shape)
        return decoder

    def _make_module(self, data: TrainingData) -> PrototypeAutoencoderNetwork:
        counts = self._counts(data)
        encoder = self._make_encoder(data)
        dim = encoder.n_sites * encoder.dim
        if not isinstance(self.latent_dim, str) and dim != self.latent_dim:
            raise ValueError(
                f"The 'latent_dim' parameter must be 'auto' or {dim}, the size of what "
                f"the encoder {self.encoder!r} returns. Got {self.latent_dim!r}."
            )
        codes = encoded(lambda x: encoder(x).flatten(1), encoder, data)
        points, owners = self._start(codes, data, counts)
        module = PrototypeAutoencoderNetwork(
            len(points),
            data.n_classes,
            data.input_shape,
            dim,
            output=self.decoder_output_,
            encoder=encoder,
            decoder=self._make_decoder(dim),
        )
        module.set_prototypes(points, owners)
        if self.head_init == "class_signed":
            module.set_signed_head()
        else:
            torch.nn.init.uniform_(module.head.weight)
        low, high = ((bound - self.center_) / self.scale_ for bound in self._bounds)
        if self.decoder_output_ == "sigmoid":
            module.set_bounds(low, high)
        module.reconstruction_scale.fill_(mean_predictor_error(data))
        if not self.lambda_class:
            # Without classes nothing else says how large a distance is.
            module.distance_scale.fill_(distance_size(codes, data.rng))
        return module

    def _start(self, codes, data: TrainingData, counts):
        """Return starting prototypes (P, d) and the classes (P,) that own them."""
        if self.init == "uniform":
            owners = np.repeat(np.arange(len(counts)), counts)
            return data.rng.uniform(size=(len(owners), codes.shape[1])), owners
        start = STARTS[self.init]
        return start_class_prototypes(
            codes, data.y, data.weight, counts, start, data.rng
        )

    def _restore_module(self, saved: dict[str, Any]) -> None:
        if isinstance(self.decoder, str):
            super()._restore_module(saved)
            return
        with _seeded_torch(0, "cpu"), warnings.catch_warnings():
            module = self._module_class(
                **saved["config"],
                encoder=self._make_encoder(),
                decoder=self._make_decoder(saved["config"]["code_dim"]),
            )
        state = {k: torch.as_tensor(v) for k, v in saved["state"].items()}
        module.load_state_dict(state)
        self.net_ = self._make_prediction_net(module)

    # -- training ----------------------------------------------------------------------

    def _phases(self) -> list[Phase]:
        on_images = len(self._input_shape) == 3
        if self.schedule == "constant" or (self.schedule == "auto" and not on_images):
            return super()._phases()
        return [
            replace(phase, callbacks=(*phase.callbacks, Annealing(phase.max_epochs)))
            for phase in super()._phases()
        ]

    def _loss_terms(self) -> list[Any]:
        own, scaled = self.class_conditional, self.normalize_losses
        terms: list[Any] = [
            CrossEntropy(weight=self.lambda_class),
            Reconstruction(scaled, weight=self.lambda_recon),
            PrototypeNearSample(own, scaled, weight=self.lambda_r1),
            SampleNearPrototype(own, scaled, weight=self.lambda_r2),
            PrototypeDiversity(scaled=scaled, weight=self.lambda_diversity),
        ]
        return [term for term in terms if term.weight > 0]

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not (self.lambda_class or self.lambda_recon):
            raise ValueError(
                "The parameters 'lambda_class' and 'lambda_recon' cannot both be 0: "
                "nothing but the distances would be learned, and all codes be one."
            )


def spread_evenly(total: int, capacity: np.ndarray) -> np.ndarray:
    """Spread a number over groups as evenly as their capacity allows.

    Examples
    --------
    >>> import numpy as np
    >>> spread_evenly(10, np.array([1, 50, 50, 50])).tolist()
    [1, 3, 3, 3]
    """
    counts = np.zeros_like(capacity)
    while counts.sum() < total:
        room = np.flatnonzero(counts < capacity)
        fewest = room[counts[room] == counts[room].min()]
        counts[fewest[: total - counts.sum()]] += 1
    return counts


def value_range(X) -> tuple[float, float]:
    """Return the least and the largest value of samples, read chunk by chunk."""
    if sp.issparse(X):
        return float(min(X.min(), 0.0)), float(max(X.max(), 0.0))
    low, high = np.inf, -np.inf
    for rows in chunks(X.shape[0], chunk_rows(math.prod(X.shape[1:]))):
        values = X[rows]
        low, high = min(low, values.min()), max(high, values.max())
    return float(low), float(high)


def encoded(encode, module, data: TrainingData) -> np.ndarray:
    """Codes (n, d) of all samples, bit by bit those of predictions.

    Parameters
    ----------
    encode : callable
        Takes samples, returns codes (n, d).

    module : nn.Module
        What is put in evaluation mode meanwhile.

    data : TrainingData
        Samples.
    """
    training = module.training
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    module.eval()
    parts = []
    with torch.inference_mode():
        for rows in data.chunks():
            x = data.dense(rows)
            z = encode(torch.from_numpy(_fill_block(x)).to(device))
            parts.append(z[: len(x)].cpu().numpy())
    module.train(training)
    return np.concatenate(parts)


def mean_predictor_error(data: TrainingData) -> float:
    """Mean squared error, summed over features, of the mean sample; 1 for none."""
    share = data.weight / data.weight.sum()
    mean, square = 0.0, 0.0
    for rows in data.chunks():
        x = data.dense(rows).reshape(rows.stop - rows.start, -1)
        mean = mean + share[rows] @ x
        square += float(share[rows] @ np.square(x).sum(axis=1, dtype=np.float64))
    error = square - float(np.square(mean).sum())
    return error if error > 1e-6 * square else 1.0


def distance_size(codes: np.ndarray, rng) -> float:
    """Mean squared distance of two codes; 1 where all codes are one."""
    if len(codes) > MAX_SCALE_SAMPLES:
        codes = codes[rng.choice(len(codes), MAX_SCALE_SAMPLES, replace=False)]
    size = 2.0 * float(codes.astype(np.float64).var(axis=0).sum())
    return size if size > 0 else 1.0


def check_decoder(decoder, spec, dim: int, shape: tuple[int, ...]) -> None:
    """Raise unless a decoder turns codes into samples of the right shape."""
    training = decoder.training
    decoder.eval()
    try:
        with torch.no_grad():
            probe = decoder(torch.zeros(2, dim))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"The decoder {spec!r} failed on codes of shape (2, {dim}): {error}"
        ) from error
    decoder.train(training)
    got: Any = tuple(probe.shape) if isinstance(probe, torch.Tensor) else type(probe)
    if got != (2, *shape):
        raise ValueError(
            f"The decoder {spec!r} must return samples of shape {shape}: "
            f"{(2, *shape)} for codes of shape (2, {dim}). Got {got}."
        )
