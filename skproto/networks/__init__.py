"""Networks of prototype parts and prototype autoencoders."""

from skproto.networks._autoencoder import PrototypeAutoencoderClassifier
from skproto.networks._autoencoder_transformer import PrototypeAutoencoder
from skproto.networks._protopnet import ProtoPNetClassifier

__all__ = [
    "ProtoPNetClassifier",
    "PrototypeAutoencoder",
    "PrototypeAutoencoderClassifier",
]
