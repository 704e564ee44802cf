"""The soft prototype tree as a torch module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skproto.nn import _tree_distances as distances
from skproto.nn import _tree_ops as ops
from skproto.nn._tree_leaves import CountingLeaves, precise
from skproto.nn._tree_nodes import MeasuringNodes
from skproto.nn._tree_structure import TreeStructure


class SoftPrototypeTree(MeasuringNodes, CountingLeaves):
    r"""Binary tree of prototypes with soft decisions and class counts in the leaves.

    At inner node n the sample goes right ("present") with probability
    :math:`p_n = 2^{-(d_n/r_n)^\beta}`, where
    :math:`d_n^2 = \min_t \frac{1}{D} \sum_f w_{nf} (z_{tf} - p_{nf})^2` is the distance
    to the nearest site of the sample. Class scores are the leaf distributions
    weighted by the path probabilities, :math:`\sum_\ell \pi_\ell(x) c_{\ell k}`.

    Parameters
    ----------
    prototype_dim : int
        Features D of a site: the columns of a table, or what the encoder returns.
    n_classes : int
        Number of classes K.
    depth : int, default=3
        Levels of inner nodes of a complete tree; not used with `is_leaf`.
    is_leaf : sequence of bool or None, default=None
        Shape of an incomplete tree, see :class:`TreeStructure`.
    encoder : Module or None, default=None
        Maps x to (n, D), (n, T, D) or (n, D, height, width). None is the identity.
    similarity : {"radius", "exp"}, default="radius"
        "exp" is the paper's :math:`p = e^{-d}`, without a radius.
    sharpness : float, default=4.0
        Exponent beta of the radius kernel; larger values bring the soft closer to
        the hard tree.
    feature_weights : bool, default=True
        Learn :math:`w_n = D\,\mathrm{softmax}(v_n)`; else all weights are 1.
    scale_distance : bool or None, default=None
        Whether the squared distance is divided by D. None: for "radius" only.
    leaf_update : {"em", "softmax"}, default="em"
        "em" normalises the expected counts, "softmax" is the paper's rule.
    leaf_smoothing : float, default=1e-3
        Laplace count added to each class of a leaf ("em" only).
    allowed_sites : sequence of int or None, default=None
        Sites that count where a sample has several, see :meth:`allow_sites`.

    Attributes
    ----------
    structure : TreeStructure
        Children, paths and levels as arrays.
    prototypes : Parameter of shape (N, D)
        Prototypes in the space of the sites, one an inner node.
    log_radius : Parameter of shape (N,)
        Logarithm of the radii, in units of the distance ("radius" only).
    feature_logits : Parameter of shape (N, D)
        v, whose softmax gives the feature weights (`feature_weights` only).
    leaf_counts : buffer of shape (L, K)
        Expected class counts. Not learned by gradient: see :meth:`em_step`.

    Notes
    -----
    In training mode distances come from one matrix product; in evaluation mode they
    are computed in float64 (rows of a table; :meth:`evaluate` and :meth:`predict` do so
    where a row is near a prototype only) or the distance to the winning site is
    recomputed by direct difference (several sites), so that a projected prototype has
    d = 0 and p = 1 on its own source. All weights start at fixed values: fill them
    with :func:`init_from_samples`.

    References
    ----------
    Nauta, M., van Bree, R., Seifert, C. (2021). Neural Prototype Trees for
    Interpretable Fine-grained Image Recognition. *CVPR*, section 3.
    Differs from the paper in the radius kernel, the feature weights, the distance
    divided by the root of D and the EM leaves, each of which can be switched off.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.tree import SoftPrototypeTree, init_from_samples
    >>> x = torch.tensor([[0.0], [1.0], [5.0], [6.0]])
    >>> y = torch.tensor([0, 0, 1, 1])
    >>> tree = SoftPrototypeTree(1, 2, depth=1).eval()
    >>> _ = init_from_samples(tree, x, generator=torch.Generator().manual_seed(0))
    >>> for _ in range(3):
    ...     tree.em_step(tree(x)["log_path"], y)
    >>> tree(x)["scores"].argmax(dim=1).tolist()
    [0, 0, 1, 1]
    """

    def __init__(
        self,
        prototype_dim: int,
        n_classes: int,
        *,
        depth: int = 3,
        is_leaf: Sequence[bool] | None = None,
        encoder: nn.Module | None = None,
        similarity: str = "radius",
        sharpness: float = 4.0,
        feature_weights: bool = True,
        scale_distance: bool | None = None,
        leaf_update: str = "em",
        leaf_smoothing: float = 1e-3,
        allowed_sites: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        _check_option("similarity", similarity, ("radius", "exp"))
        _check_option("leaf_update", leaf_update, ("em", "softmax"))
        if sharpness <= 0:
            raise ValueError(f"sharpness must be a positive float, got {sharpness!r}")
        if leaf_smoothing < 0:
            raise ValueError(
                f"leaf_smoothing must be a float >= 0, got {leaf_smoothing!r}"
            )
        if is_leaf is None:
            self.structure = TreeStructure.full(depth)
        else:
            self.structure = TreeStructure.from_flags(is_leaf)
        self.prototype_dim = prototype_dim
        self.n_classes = n_classes
        self.similarity = similarity
        self.sharpness = float(sharpness)
        self.scale_distance = (
            similarity == "radius" if scale_distance is None else scale_distance
        )
        self.leaf_update = leaf_update
        self.leaf_smoothing = float(leaf_smoothing)
        self.encoder = nn.Identity() if encoder is None else encoder
        self._make_state(feature_weights)
        self.allow_sites(allowed_sites)

    def _make_state(self, feature_weights: bool) -> None:
        """Create parameters and buffers with fixed values."""
        shape = (self.structure.n_inner, self.prototype_dim)
        self.prototypes = nn.Parameter(torch.zeros(shape))
        self.log_radius = None
        if self.similarity == "radius":
            self.log_radius = nn.Parameter(torch.zeros(shape[0]))
        self.feature_logits = None
        if feature_weights:
            self.feature_logits = nn.Parameter(torch.zeros(shape))
        counts = torch.zeros(self.structure.n_leaves, self.n_classes)
        self.register_buffer("leaf_counts", counts)
        self._router = ops.LevelRouter(self.structure)

    @property
    def config(self) -> dict[str, Any]:
        """Constructor arguments, without the encoder, ready for JSON.

        ``SoftPrototypeTree(**config, encoder=encoder)`` takes the state dict.
        """
        return {
            "prototype_dim": self.prototype_dim,
            "n_classes": self.n_classes,
            "is_leaf": list(self.structure.is_leaf),
            "similarity": self.similarity,
            "sharpness": self.sharpness,
            "feature_weights": self.feature_logits is not None,
            "scale_distance": self.scale_distance,
            "leaf_update": self.leaf_update,
            "leaf_smoothing": self.leaf_smoothing,
            "allowed_sites": self.allowed_sites and list(self.allowed_sites),
        }

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Route the samples through the tree.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            See :meth:`encode`.

        Returns
        -------
        outputs : dict of Tensor
            "scores" and "log_scores" (n, K): class probabilities and their log;
            "activations" (n, N): p, the probability of "present"; "log_right" and
            "log_left" (n, N): log p and log(1 - p); "distances" (n, N): d, to the
            nearest site; "sites" (n, N): which site that is; "log_path" (n, L): log
            path probability of each leaf.
        """
        return self._route(self.encode(x))

    def _route(self, z: Tensor) -> dict[str, Tensor]:
        if torch.is_autocast_enabled(z.device.type):  # loses small differences
            with torch.autocast(z.device.type, enabled=False):
                return self._route(z.to(self.prototypes.dtype))
        squared, sites = self._nearest(z)
        decisions = self._decide(squared)
        log_path = self._router(decisions.log_left, decisions.log_right)
        log_scores = self._mix(log_path)
        return {
            "scores": log_scores.exp(),
            "log_scores": log_scores,
            "activations": decisions.right,
            "log_right": decisions.log_right,
            "log_left": decisions.log_left,
            "distances": distances.root(squared),
            "sites": sites,
            "log_path": log_path,
        }

    def _decide(self, squared: Tensor) -> ops.Decisions:
        """Soft decisions from squared distances."""
        if self.log_radius is None:
            return ops.exp_kernel(squared)
        return ops.radius_kernel(squared, self.log_radius, self.sharpness)

    def evaluate(self, x: Tensor, routing: str = "distributed") -> dict[str, Tensor]:
        """Predict without the logarithms that only training needs.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            See :meth:`encode`.
        routing : {"distributed", "sample_max", "greedy"}, default="distributed"
            See :meth:`class_scores`.

        Returns
        -------
        outputs : dict of Tensor
            "scores" (n, K); "activations", "distances" and "sites" (n, N); "leaf"
            (n,), the leaf at the end of the hard path, which is the greedy one under
            "distributed" routing.
        """
        return self.evaluate_sites(self.encode(x), routing)

    def evaluate_sites(
        self, z: Tensor, routing: str = "distributed"
    ) -> dict[str, Tensor]:
        """Predict as :meth:`evaluate` does from sites.

        Parameters
        ----------
        z : Tensor of shape (n, T, D)
            See :meth:`encode`.
        routing : str, default="distributed"
            See :meth:`class_scores`.

        Returns
        -------
        outputs : dict of Tensor
            As :meth:`evaluate`.
        """
        squared, sites = self._nearest(z, traced=False)
        right = ops.presence(squared, self.log_radius, self.sharpness)
        hard = "greedy" if routing == "distributed" else routing
        outputs = {
            "activations": right,
            "sites": sites,
            "distances": distances.root(squared),
        }
        return {
            "scores": self.class_scores(outputs, routing),
            "leaf": self.leaf_index(outputs, hard),
            **outputs,
        }

    def predict(self, x: Tensor, routing: str = "distributed") -> dict[str, Tensor]:
        """Return the "scores" of :meth:`evaluate` alone.

        Parameters
        ----------
        x, routing : object
            See :meth:`evaluate`.

        Returns
        -------
        outputs : dict of Tensor
            "scores" (n, K).
        """
        squared, _ = self._nearest(self.encode(x), traced=False)
        right = ops.presence(squared, self.log_radius, self.sharpness)
        return {"scores": self.class_scores({"activations": right}, routing)}

    def _mix(self, log_path: Tensor) -> Tensor:
        """Log class probabilities of the soft sum over leaves."""
        log_leaves = self.log_leaves()
        if self.leaf_update == "em" and self.leaf_smoothing > 0:
            return ops.mix_smoothed(log_path, log_leaves.exp())
        return ops.mix_log(log_path, log_leaves)

    def leaf_index(self, outputs: dict[str, Tensor], routing: str) -> Tensor:
        """Return the leaf that hard routing ends in.

        Parameters
        ----------
        outputs : dict
            Holds "activations", see :meth:`forward`.
        routing : {"greedy", "sample_max"}
            "greedy" goes right where p > 0.5 (a tie goes left); "sample_max" takes the
            likeliest leaf (the first of equals).

        Returns
        -------
        leaf : Tensor of shape (n,), int64
            Leaf positions.
        """
        _check_option("routing", routing, ("greedy", "sample_max"))
        if routing == "greedy":
            return ops.greedy_leaves(self.structure, outputs["activations"])
        return self.leaf_probabilities(outputs).argmax(dim=1)

    def leaf_probabilities(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return the probability of reaching each leaf.

        Parameters
        ----------
        outputs : dict
            Holds "activations", see :meth:`forward`.

        Returns
        -------
        path : Tensor of shape (n, L), float64
            Rows sum to 1: products of the activations and what they lack to 1, which
            float64 holds to the last bit.
        """
        return self._router.multiply(precise(outputs["activations"]))

    def class_scores(self, outputs: dict[str, Tensor], routing: str) -> Tensor:
        """Return class probabilities under one of the three routings.

        Parameters
        ----------
        outputs : dict
            Holds "activations", see :meth:`forward`.
        routing : {"distributed", "sample_max", "greedy"}
            "distributed" is the soft sum, the others the distribution of one leaf.

        Returns
        -------
        scores : Tensor of shape (n, K), float64
            Rows sum to 1.
        """
        _check_option("routing", routing, ("distributed", "sample_max", "greedy"))
        leaves = self.leaf_distributions()
        if routing == "distributed":
            # The samples lie side by side: several times faster than path @ leaves.
            return (leaves.T @ self.leaf_probabilities(outputs).T).T
        return leaves[self.leaf_index(outputs, routing)]


def _check_option(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise if a named choice is not among those allowed."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {list(allowed)}, got {value!r}")
