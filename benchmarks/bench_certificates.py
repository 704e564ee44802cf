"""Certified radii of random kernel models beside the smallest attack found.

Random models as in the check of the certificates: 1 to 5 features, 2 to 8 components, 2
to 4 classes, kept when the envelope radius lies between 0.001 and 8. An attack search
gives an upper bound of the true radius only, so a ratio of 1 is the best there is, and
a ratio above 1 would disprove a certificate. Then the time of each method.
"""

import argparse
import statistics
import time
from functools import partial

import torch

from skproto.nn.certificates import KernelHead, certified_radius, envelope_radius

METHODS = ("theorem", "closed", "envelope")
REACH = 20.0  # attacks go no farther


def normal(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def integer(generator, low, high):
    return int(torch.randint(low, high + 1, (), generator=generator))


def random_head(generator, kind, power, shared, size):
    """Head of `size` (components, classes) with softmax tables."""
    n_components, n_classes = size
    n_widths = 1 if shared else n_components
    uniform = torch.rand(n_widths, generator=generator, dtype=torch.float64)
    rows = 2 * n_components if kind == "CBC" else n_components
    table = (2 * normal(generator, rows, n_classes)).softmax(dim=0)
    return KernelHead.from_reasoning(
        table[:n_components],
        table[n_components:] if kind == "CBC" else None,
        (0.3 + 3 * uniform).expand(n_components),
        power=power,
    )


def scores(x, components, head):
    distances = (x[..., None, :] - components).norm(dim=-1)
    p = (-(distances**head.power) / head.sigma).exp() @ head.weights
    return p if head.bias is None else p + head.bias


def line_search(x, directions, components, head, y):
    """Return the smallest step along each direction that changes the class."""
    grid = torch.logspace(-4, 0, 120, dtype=torch.float64) * REACH
    moved = x + grid[:, None, None] * directions
    flipped = scores(moved, components, head).argmax(-1) != y
    found = flipped.any(0)
    first = flipped.to(torch.int8).argmax(0)
    high = grid[first]
    low = torch.where(first > 0, grid[(first - 1).clamp(min=0)], 0.0)
    for _ in range(30):
        middle = 0.5 * (low + high)
        moved = x + middle[:, None] * directions
        flip = scores(moved, components, head).argmax(-1) != y
        high, low = torch.where(flip, middle, high), torch.where(flip, low, middle)
    return torch.where(found, high, torch.inf)


def smallest_attack(x, components, head, y, generator):
    """Search random, gradient and component directions, then refine the best ones."""
    point = x.clone().requires_grad_()
    p = scores(point, components, head)
    gradients = [
        torch.autograd.grad(p[y] - p[j], point, retain_graph=True)[0]
        for j in range(len(p))
        if j != y
    ]
    toward = components - x
    directions = torch.cat(
        [torch.stack(gradients), toward, -toward, normal(generator, 200, len(x))]
    )
    directions = torch.cat([directions, -directions])
    best = torch.inf
    for spread in (0.3, 0.1, 0.03, 0.01, 0.003):
        directions = torch.nn.functional.normalize(directions, dim=1)
        steps = line_search(x, directions, components, head, y)
        best = min(best, steps.min().item())
        top = directions[steps.argsort()[:5]]
        noise = spread * normal(generator, 5, 30, len(x))
        directions = torch.cat([top, (top[:, None] + noise).flatten(0, 1)])
    return best


def one_model(generator, kind, power, shared):
    """Radii and smallest attack of one random model, or None if it is left out."""
    size = integer(generator, 2, 8), integer(generator, 2, 4)
    head = random_head(generator, kind, power, shared, size)
    n_features = integer(generator, 1, 5)
    components = 1.5 * normal(generator, size[0], n_features)
    x = 1.5 * normal(generator, n_features)
    y = scores(x, components, head).argmax()
    distances = (x - components).norm(dim=-1)[None]
    radii = [certified_radius(distances, head, y[None], method=m) for m in METHODS]
    if not 0.001 <= radii[-1].item() <= 8:
        return None
    attack = smallest_attack(x, components, head, y, generator)
    return [r.item() for r in radii], attack


def compare(n_models):
    """Print median radius / smallest attack for every kind of model."""
    print(f"median radius / smallest attack found, {n_models} models a row")
    print(f"{'model':<28}{'theorem':>9}{'closed':>9}{'envelope':>10}{'max':>8}", end="")
    print("   no attack found")
    generator = torch.Generator().manual_seed(0)
    for kind in ("CBC", "convex RBF"):
        for shared in (False, True):
            for power in (1, 2):
                results = []
                while len(results) < n_models:
                    result = one_model(generator, kind, power, shared)
                    results += [] if result is None else [result]
                report(f"{kind}, q={power}, {'shared' if shared else 'own'}", results)


def report(name, results):
    attacked = [(radii, attack) for radii, attack in results if attack < torch.inf]
    ratios = [[radius / attack for radius in radii] for radii, attack in attacked]
    medians = [statistics.median(column) for column in zip(*ratios, strict=True)]
    print(f"{name:<28}{medians[0]:9.2f}{medians[1]:9.2f}{medians[2]:10.2f}", end="")
    print(f"{max(row[-1] for row in ratios):8.4f}{len(results) - len(attacked):18d}")


def median_time(function, n_runs=5):
    times = []
    for _ in range(n_runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def timing():
    """Print the time of every method for 1,000 samples."""
    print("\nms per 1,000 samples (20 features, own widths, q=2)")
    print(f"{'components x classes':<24}", end="")
    print("".join(f"{m:>10}" for m in METHODS) + f"{'loss + gradient':>18}")
    generator = torch.Generator().manual_seed(1)
    for size in ((10, 3), (30, 10), (100, 10), (20, 20)):
        head = random_head(generator, "CBC", 2, False, size)
        distances = (
            normal(generator, 1000, 1, 20) - normal(generator, size[0], 20)
        ) / 4
        distances = distances.norm(dim=-1)
        p = (-(distances**2) / head.sigma).exp() @ head.weights + head.bias
        y = p.argmax(dim=1)
        runs = [
            partial(certified_radius, distances, head, y, method=method)
            for method in METHODS
        ]
        times = [median_time(run) for run in runs]
        step = median_time(partial(loss_and_gradient, distances, head, y))
        print(f"{f'{size[0]} x {size[1]}':<24}", end="")
        print("".join(f"{t:10.1f}" for t in times) + f"{step:18.1f}")


def loss_and_gradient(distances, head, y):
    inputs = distances.clone().requires_grad_()
    envelope_radius(inputs, head, y).sum().backward()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--models", type=int, default=60, help="models a row")
    compare(parser.parse_args().models)
    timing()


if __name__ == "__main__":
    main()
