"""Projection of many prototypes beside one pass of the encoder over the same images.

``OMP_NUM_THREADS=1 python benchmarks/bench_projection.py --images 60000``. Weights and
images are random; seconds are those of the processor, which other work on the machine
does not change. The yardstick beside it is the plain way: distances of every
prototype to every site in float64, whatever its class.
"""

import argparse
import time

import numpy as np
import torch
from _common import verdict

from skproto._projection import nearest_sites, project, sample_blocks
from skproto.nn.encoders import make_encoder
from skproto.nn.parts import PartPrototypeNetwork
from skproto.training import TrainingData

TARGET = 1.3


def make_data(n_images, n_classes, side=28):
    rng = np.random.RandomState(0)
    X = rng.rand(n_images, 1, side, side).astype(np.float32)
    y = np.arange(n_images) % n_classes
    rows = np.arange(n_images)
    return TrainingData(X, y, np.ones(n_images), rows, n_classes, rng)


def make_module(data, n_prototypes, similarity):
    torch.manual_seed(0)
    encoder = make_encoder("conv", data.input_shape)
    module = PartPrototypeNetwork(
        n_prototypes,
        encoder.dim,
        data.n_classes,
        similarity=similarity,
        encoder=encoder,
    )
    module.set_prototypes(torch.randn(module.prototypes.shape))
    return module.eval()


def seconds(function, *args):
    start = time.process_time()
    function(*args)
    return time.process_time() - start


def encode(module, data):
    with torch.inference_mode():
        for _, x in sample_blocks(data, torch.device("cpu")):
            module.encoder(x)


def plain(module, data):
    """Nearest site of each prototype by the module's own float64 distances."""
    owners = module.ownership.numpy()
    best = np.full(len(owners), np.inf)
    for rows, x in sample_blocks(data, torch.device("cpu")):
        with torch.inference_mode():
            distances = module(x)["distances"][: len(rows)].numpy()
        distances[~owners[:, data.y[rows]].T] = np.inf
        best = np.minimum(best, distances.min(axis=0))
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--prototypes", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    data = make_data(options.images, options.classes)
    print(
        f"{options.prototypes} prototypes of {options.classes} classes, "
        f"{options.images} images, {torch.get_num_threads()} thread(s)"
    )
    for similarity in ("cosine", "log_l2"):
        module = make_module(data, options.prototypes, similarity)
        owners = module.ownership.numpy()
        start = module.prototypes.detach().clone()
        found = nearest_sites(module, data, owners).distances[0]
        np.testing.assert_allclose(found, plain(module, data), rtol=1e-5)
        times = {"encoder": [], "projection": [], "plain": []}
        for _ in range(options.repeats):
            module.set_prototypes(start)
            times["encoder"].append(seconds(encode, module, data))
            times["plain"].append(seconds(plain, module, data))
            times["projection"].append(seconds(project, module, data, owners))
        best = {name: min(values) for name, values in times.items()}
        ratio = best["projection"] / best["encoder"]
        print(
            f"{similarity}: encoder {best['encoder']:.2f} s, projection "
            f"{best['projection']:.2f} s, {ratio:.2f} times "
            f"{verdict(ratio, TARGET, at_least=False)}; plain "
            f"{best['plain'] / best['encoder']:.1f} times",
            flush=True,
        )


if __name__ == "__main__":
    main()
