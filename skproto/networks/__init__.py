"""Networks of prototype parts and prototype autoencoders."""

from skproto.networks._autoencoder import PrototypeAutoencoderClassifier
from skproto.networks._autoencoder_transformer import PrototypeAutoencoder
from skproto.networks._pipnet import PIPNetClassifier
from skproto.networks._protopnet import ProtoPNetClassifier
from skproto.networks._protopool import ProtoPoolClassifier

__all__ = [
    "PIPNetClassifier",
    "ProtoPNetClassifier",
    "ProtoPoolClassifier",
    "PrototypeAutoencoder",
    "PrototypeAutoencoderClassifier",
]
