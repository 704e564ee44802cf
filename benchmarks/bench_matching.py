"""Memory and time of a training step's greedy matching, beside its materialised form.

Forward and backward of the matched cosines at the size of the ProtoViT paper for one
batch (196 tokens of 384 numbers, 4 parts), with fewer prototypes so that the yardstick
fits. Each form runs in a process of its own; its memory is the growth of the peak
resident size over what was resident before the step.

* materialised: one tensor of all n P T M cosines, and in every round a masked copy of
  it, the winners gathered from it with autograd;
* blocks: :func:`skproto.nn.matching.match_parts`.
"""

import resource
import subprocess
import sys
import time

import torch
from _common import verdict
from torch import Tensor

from skproto.nn.matching import MatchingRule, match_parts, neighbour_table, unit

BATCH, PROTOTYPES, PARTS, DIM, GRID = 64, 400, 4, 384, (14, 14)
SITES = GRID[0] * GRID[1]
REPEATS = 3
TARGET = 0.25


def materialised(z: Tensor, p: Tensor, near: Tensor) -> Tensor:
    """Winning cosines (n, P, M) from the whole tensor (n, P, T, M), by full masks."""
    s = torch.einsum("ntd,pmd->nptm", z, p)
    free = allowed = torch.ones_like(s, dtype=torch.bool)
    winners = torch.zeros_like(s[:, :, 0])
    for _ in range(p.shape[1]):
        best = s.masked_fill(~(free & allowed), -torch.inf).flatten(2).argmax(2)
        site, part = best // p.shape[1], best % p.shape[1]
        value = s.flatten(2).gather(2, best[..., None])
        winners = winners.scatter(2, part[..., None], value)
        free = free & (torch.arange(SITES) != site[..., None])[..., None]
        free = free & (torch.arange(p.shape[1]) != part[..., None])[:, :, None]
        allowed = near[site][..., None]
    return winners


def blocks(z: Tensor, p: Tensor, near: Tensor) -> Tensor:
    """Winning cosines in blocks of prototypes."""
    return match_parts(z, p, MatchingRule("chain", near))[0]


def peak() -> float:
    """Peak resident size of this process in MB."""
    unit_of_measure = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_of_measure / 1e6


def measure(name: str) -> None:
    """Print growth of the peak (MB), median seconds and a checksum of one form."""
    form = {"materialised": materialised, "blocks": blocks}[name]
    generator = torch.Generator().manual_seed(0)
    near = neighbour_table(SITES, GRID)
    z = torch.randn(BATCH, SITES, DIM, generator=generator)
    p = torch.randn(PROTOTYPES, PARTS, DIM, generator=generator)
    z.requires_grad_(), p.requires_grad_()
    # What torch sets up once is not the step's.
    unit(z[:1]).sum().backward()
    form(unit(z[:2]), unit(p[:2]), near).sum().backward()
    before, seconds, total = peak(), [], 0.0
    for _ in range(REPEATS):
        start = time.perf_counter()
        values = form(unit(z), unit(p), near)
        values.square().sum().backward()
        seconds.append(time.perf_counter() - start)
        total = values.sum().item()
    print(peak() - before, sorted(seconds)[REPEATS // 2], total)


def run(name: str) -> list[float]:
    """Measure one form in a process of its own."""
    command = [sys.executable, __file__, name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(number) for number in done.stdout.split()]


def main() -> None:
    """Print both forms and their ratios."""
    memory, seconds, total = run("materialised")
    ours, ours_seconds, ours_total = run("blocks")
    assert abs(total - ours_total) < 1e-4 * abs(total), "the forms differ"
    tensor = 4 * BATCH * PROTOTYPES * SITES * PARTS / 1e6
    print(
        f"training step of matching, n={BATCH} P={PROTOTYPES} T={SITES} M={PARTS} "
        f"D={DIM}; the score tensor is {tensor:.0f} MB"
    )
    print(f"  materialised: {memory:5.0f} MB, {seconds:.2f} s")
    print(f"  blocks:       {ours:5.0f} MB, {ours_seconds:.2f} s")
    ratio = ours / memory
    print(f"  memory ratio {ratio:.3f} {verdict(ratio, TARGET, at_least=False)}")
    print(f"  memory / score tensor {ours / tensor:.2f}")
    print(f"  time ratio {ours_seconds / seconds:.2f}")


if __name__ == "__main__":
    measure(sys.argv[1]) if len(sys.argv) > 1 else main()
