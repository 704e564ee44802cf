"""Do prototypes look at parts? Image models on sets with part masks, beside chance.

``python benchmarks/bench_part_metrics.py funnybirds --models ProtoPNet --epochs 30``
prints consistency, stability, purity and relevance of the prototypes, beside regions at
random places and the same model without training. ``marks`` is the acceptance run of
the sheet on images with three marks, made here. A part lies at the centroid of its
mask; regions have the paper's share of the image unless ``--half-size`` says otherwise.
"""

import argparse
import time
from functools import partial

import numpy as np
from _common import load_shared, verdict
from sklearn.model_selection import train_test_split
from torch import nn

import skproto
from skproto import metrics
from skproto.nn import Augmentation

EPOCHS = {"funnybirds": 40, "cars": 40, "marks": 20}
SHOWN = (
    "accuracy",
    "consistency",
    "soft_consistency",
    "stability",
    "stability_on_parts",
    "purity",
    "relevance",
    "coverage",
    "redundancy",
    "completeness",
    "size_effective",
)
# Settings of each model; all others are defaults.
MODELS = {
    "ProtoPNet": ("ProtoPNetClassifier", {}),
    "ProtoTree": ("ProtoTreeClassifier", {}),
    "CBC": ("CBCClassifier", {"encoder": "conv"}),
    "RBF": ("RBFClassifier", {"encoder": "conv"}),
    "PIPNet": ("PIPNetClassifier", {}),
    "ProtoPool": ("ProtoPoolClassifier", {}),
    "ProtoViT": ("ProtoViTClassifier", {}),
    "TesNet": ("TesNetClassifier", {}),
    "Deformable": ("DeformableProtoPNetClassifier", {}),
}
COLOURS = np.array([[1.0, 0.1, 0.1], [0.1, 1.0, 0.1], [0.1, 0.1, 1.0]])


def centroids(part_map, labels):
    """Centres (n, M, 2) as x, y of parts in maps (n, H, W), and which can be seen."""
    height, width = part_map.shape[1:]
    where = part_map[:, None] == np.asarray(labels)[:, None, None]
    area = where.sum(axis=(2, 3))
    y = (where.sum(axis=3) * np.arange(height)).sum(axis=2)
    x = (where.sum(axis=2) * np.arange(width)).sum(axis=2)
    centers = np.stack([x, y], axis=-1) / np.maximum(area, 1)[..., None]
    return centers, area > 0


def birds(rows):
    X, y, meta = load_shared("funnybirds_small")
    arrays = meta["arrays"]
    names = [str(name) for name in arrays["part_map_labels"]]
    parts = ["beak", "eye", "foot", "tail", "wing"]
    codes = [names.index(part) for part in parts]
    background = [names.index(name) for name in ("background", "distractor")]
    train, test = meta["train_index"], meta["test_index"]
    return X, y, arrays["part_map"], (parts, codes, background), train[:rows], test


def cars(rows):
    X, y, meta = load_shared("car_parts")
    arrays = meta["arrays"]
    names = [str(name) for name in arrays["part_map_labels"]]
    codes = [code for code in range(len(names)) if names[code] != "background"]
    parts = [names[code] for code in codes]
    train, test = train_test_split(
        np.arange(len(y)), test_size=0.33, stratify=y, random_state=0
    )
    background = [names.index("background")]
    return X, y, arrays["part_map"], (parts, codes, background), train[:rows], test


def marks(n, seed):
    """Images with three marks at random places, the places and the pixels of marks."""
    rng = np.random.RandomState(seed)
    y = np.arange(n) % 3
    images = rng.normal(0.5, 0.08, size=(n, 3, 24, 24))
    cells = np.argsort(rng.rand(n, 9), axis=1)[:, :3]
    centers = np.stack(np.divmod(cells, 3), axis=-1) * 8 + 3
    centers += rng.randint(3, size=centers.shape)
    down = np.arange(24)[:, None] - centers[:, :, 0, None, None]
    right = np.arange(24) - centers[:, :, 1, None, None]
    dot = (down[:, 0] // 2 == 0) & (right[:, 0] // 2 == 0)
    square = ((down[:, 1] + 1) // 4 == 0) & ((right[:, 1] + 1) // 4 == 0)
    plus = np.abs(down[:, 2]) + np.abs(right[:, 2]) <= 2
    plus &= (down[:, 2] == 0) | (right[:, 2] == 0)
    white = np.full((n, 3), 0.95)
    for where, colour in ((dot, white), (square, COLOURS[y]), (plus, COLOURS[y - 1])):
        images = np.where(where[:, None], colour[:, :, None, None], images)
    return images.astype(np.float32), y, centers[..., ::-1], dot | square | plus


def small_net(shape):
    return nn.Sequential(
        nn.Conv2d(shape[0], 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
    )


def run_marks(options):
    """Section 11b of the sheet: what accuracy and stability alone do not find.

    Frequencies in between are of two kinds, both of the encoder and not of the metric:
    a prototype of the rim of a mark, which lies half a pixel outside of the region; and
    one that knows a mark at odd rows only, for pooling by two shows it differently at
    even ones.
    """
    X, y, _, _ = marks(options.rows or 900, 0)
    X_test, y_test, parts, _ = marks(300, 1)
    for seed in (0, 1):
        model = skproto.ProtoPNetClassifier(
            2,
            encoder=small_net,
            warm_epochs=0,
            max_epochs=options.epochs or EPOCHS["marks"],
            random_state=seed,
        ).fit(X, y)
        regions = metrics.regions_of(model, X_test, half_size=3)
        frequency = partial(
            metrics.part_frequencies,
            part_locations=parts,
            y=y_test,
            prototype_labels=model.prototype_labels_,
        )
        best = frequency(regions).max(axis=1)
        chance = metrics.random_place_score(
            lambda r, f=frequency: f(r).max(axis=1).mean(), regions, random_state=seed
        )
        stable = metrics.stability_score(
            model, X_test, parts, y=y_test, noise=0.05, half_size=3, random_state=seed
        )
        gap = metrics.additivity_error(model, X_test)
        between = int(((best > 0.15) & (best < 0.9)).sum())
        print(f"  marks, seed {seed}: best-part frequencies {best.round(2).tolist()}")
        for name, value, bound, at_least in (
            ("accuracy", model.score(X_test, y_test), 0.95, True),
            ("prototypes on a part", int((best >= 0.9).sum()), 2, True),
            ("prototypes in between", between, 0, False),
            ("times chance", best.max() / chance, 8, True),
            ("stability", stable, 0.95, True),
            ("additivity", gap, 1e-4, False),
        ):
            print(f"    {name} {value:.3g} {verdict(value, bound, at_least=at_least)}")


def run(name, options):
    X, y, part_map, (names, codes, background), train, test = {
        "funnybirds": birds,
        "cars": cars,
    }[name](options.rows)
    test = test[: options.test_rows]
    parts, seen = centroids(part_map[test], codes)
    masks = ~np.isin(part_map[test], background)
    for model_name in options.models:
        class_name, settings = MODELS[model_name]
        if not hasattr(skproto, class_name):
            print(f"  {name} {model_name}: not in this version")
            continue
        model = getattr(skproto, class_name)(
            random_state=0, max_epochs=options.epochs or EPOCHS[name], **settings
        )
        if "augment" in model.get_params():
            model.set_params(augment=Augmentation(flip=True, cutout=0.0))
        start = time.perf_counter()
        model.fit(X[train], y[train])
        spent = time.perf_counter() - start
        if not len(model.prototypes_):
            print(f"  {name} {model_name}: no prototype is left")
            continue
        report = metrics.prototype_report(
            model,
            X[test],
            y[test],
            parts,
            seen,
            masks=masks,
            part_names=names,
            baseline=metrics.untrained(model, X[train], y[train]),
            half_size=options.half_size,
            n_resamples=options.resamples,
            random_state=0,
        )
        area = float(np.mean(report.prototypes["region_area"]))
        judging = time.perf_counter() - start - spent
        print(
            f"  {name} {model_name}: {len(report.prototypes)} prototypes, fit "
            f"{spent / 60:.1f} min, report {judging:.0f} s, regions cover {area:.2f} "
            "of the image"
        )
        table = report.to_frame()
        columns = [
            c
            for c in ("value", "low", "high", "random_place", "untrained")
            if c in table
        ]
        shown = [row for row in SHOWN if row in table.index]
        print(table.loc[shown, columns].round(3).to_string(na_rep="-"), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=list(EPOCHS))
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--rows", type=int, help="training images")
    parser.add_argument("--test-rows", type=int, help="images the metrics see")
    parser.add_argument("--half-size", type=int, help="half of a region's side, pixels")
    parser.add_argument("--resamples", type=int, default=200)
    options = parser.parse_args()
    for name in options.sets:
        if name == "marks":
            run_marks(options)
        else:
            run(name, options)


if __name__ == "__main__":
    main()
