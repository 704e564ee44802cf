"""Time level-wise routing of a soft tree against naive recursive forms.

Same parameters, same distances and kernel, same loss, forward and backward, one
thread; only what follows the decisions differs:

* naive: the scores of a node from the scores of its two children, in log space,
  ``logaddexp(log_left + left, log_right + right)``, one call a node;
* paths only: the recursion carries nothing but the log path probability of a node,
  and the sum over leaves is the same matrix product as in the level-wise form.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from skproto.nn import _tree_ops as ops
from skproto.nn.tree import SoftPrototypeTree, init_from_samples

DEPTH, BATCH, FEATURES, CLASSES, REPEATS, TARGET = 9, 64, 64, 10, 15, 5.0


class RecursiveForms:
    """The same log scores as a tree's, node by node."""

    def __init__(self, tree: SoftPrototypeTree) -> None:
        self.tree = tree
        structure = tree.structure
        self.left = structure.children_left.tolist()
        self.right = structure.children_right.tolist()
        self.prototype = structure.prototype.tolist()
        self.leaf = structure.leaf.tolist()

    def columns(self, x: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Log probabilities of the two decisions, one column (n, 1) a node."""
        tree = self.tree
        squared, _ = tree._nearest(tree.encode(x))
        assert tree.log_radius is not None
        decisions = ops.radius_kernel(squared, tree.log_radius, tree.sharpness)
        return decisions.log_left.split(1, dim=1), decisions.log_right.split(1, dim=1)

    def scores(self, x: Tensor) -> Tensor:
        """Log scores by recursion over scores."""
        log_left, log_right = self.columns(x)
        leaves = self.tree.log_leaves()

        def walk(node: int) -> Tensor:
            n = self.prototype[node]
            if n < 0:
                return leaves[self.leaf[node]].expand(len(x), -1)
            return torch.logaddexp(
                log_left[n] + walk(self.left[node]),
                log_right[n] + walk(self.right[node]),
            )

        return walk(0)

    def paths(self, x: Tensor) -> Tensor:
        """Log scores by recursion over path probabilities."""
        log_left, log_right = self.columns(x)
        reached: list[Tensor] = []

        def walk(node: int, path: Tensor) -> None:
            n = self.prototype[node]
            if n < 0:
                reached.append(path)
                return
            walk(self.left[node], path + log_left[n])
            walk(self.right[node], path + log_right[n])

        walk(0, x.new_zeros(len(x), 1))
        return self.tree._mix(torch.cat(reached, dim=1))


def seconds(scores: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> float:
    """Time one forward and backward pass."""
    start = time.perf_counter()
    (-scores(x).gather(1, y.unsqueeze(1)).mean()).backward()
    return time.perf_counter() - start


def main() -> None:
    """Print the median ratios."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, FEATURES, generator=generator)
    y = torch.randint(CLASSES, (BATCH,), generator=generator)
    tree = SoftPrototypeTree(FEATURES, CLASSES, depth=DEPTH)
    init_from_samples(tree, x, generator=generator)
    tree.em_step(tree(x)["log_path"], y)
    naive = RecursiveForms(tree)
    forms = [naive.scores, naive.paths, lambda x: tree(x)["log_scores"]]
    for form in forms:
        torch.testing.assert_close(form(x), tree(x)["log_scores"], rtol=1e-4, atol=1e-4)
        seconds(form, x, y)
    times = [[seconds(form, x, y) for form in forms] for _ in range(REPEATS)]
    ratio, paths = (
        statistics.median(row[form] / row[2] for row in times) for form in (0, 1)
    )
    milliseconds = 1000 * statistics.median(row[2] for row in times)
    print(
        f"tree depth {DEPTH} forward+backward: naive / level-wise = {ratio:.1f} "
        f"(target >= {TARGET:.0f}); paths only / level-wise = {paths:.1f}; "
        f"level-wise {milliseconds:.1f} ms"
    )


if __name__ == "__main__":
    main()
