"""Networks of prototype parts and prototype autoencoders."""

from skproto.networks._autoencoder import PrototypeAutoencoderClassifier
from skproto.networks._autoencoder_transformer import PrototypeAutoencoder
from skproto.networks._deformable import DeformableProtoPNetClassifier
from skproto.networks._pipnet import PIPNetClassifier
from skproto.networks._protopnet import ProtoPNetClassifier
from skproto.networks._protopool import ProtoPoolClassifier
from skproto.networks._protovit import ProtoViTClassifier
from skproto.networks._tesnet import TesNetClassifier

__all__ = [
    "DeformableProtoPNetClassifier",
    "PIPNetClassifier",
    "ProtoPNetClassifier",
    "ProtoPoolClassifier",
    "ProtoViTClassifier",
    "PrototypeAutoencoder",
    "PrototypeAutoencoderClassifier",
    "TesNetClassifier",
]
