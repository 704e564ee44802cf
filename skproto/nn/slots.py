"""ProtoPool: classes choose their prototypes from a shared pool, slot by slot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from skproto.nn.heads import _operands


def gumbel_scale(epoch: float, end: float = 1000.0, n_epochs: int = 30) -> float:
    r"""Return the factor of the slots' logits at an epoch.

    The published :math:`1.3 \sqrt{a e}` with :math:`a = (\mathrm{end} / 1.3)^2 / E` is
    :math:`\mathrm{end} \sqrt{e / E}`: 0 at epoch 0, where a plain softmax is used, and
    `end` from epoch E on.

    Parameters
    ----------
    epoch : float
        Epochs trained so far, from 0.

    end : float, default=1000.0
        Largest factor. Larger values make the choices of the slots harder.

    n_epochs : int, default=30
        Epoch E at which `end` is reached.

    Returns
    -------
    scale : float
        Factor in [0, `end`].

    Examples
    --------
    >>> [round(gumbel_scale(e), 1) for e in (0, 1, 30, 99)]
    [0.0, 182.6, 1000.0, 1000.0]
    """
    return end * math.sqrt(min(max(epoch, 0.0) / n_epochs, 1.0))


class SlotHead(nn.Module):
    r"""Class scores from slots that each choose one prototype of a pool.

    Slot s of class c holds a distribution :math:`q_{cs}` over the P prototypes. Its
    smallest and its mean distance are the mixtures :math:`\sum_p q_{csp} d_p` of the
    prototypes' ones; its similarity is the focal one of these two, :math:`s(\min) -
    s(\mathrm{mean})`. The score of a class is the sum over its own slots, plus what
    the last layer takes from other slots if it was trained.

    The distributions are a softmax while the scale is 0, then a Gumbel softmax of the
    scaled logits. :meth:`harden` puts all of the mass on the largest entry; from then
    on the scores are a sum over prototypes. In evaluation mode nothing is drawn: the
    noise is left out.

    Parameters
    ----------
    n_prototypes, n_classes : int
        Size P of the pool and number K of classes.

    n_slots : int, default=10
        Slots S of each class.

    incorrect_weight : float, default=0.0
        Where the weights of other classes' slots start; those of own slots start at 1.

    focal : bool, default=True
        Whether the mean distance is taken off. Must agree with the pooling; False
        where samples have one site, whose focal similarities are all 0.

    tau : float, default=0.5
        Temperature of the Gumbel softmax; smaller values are closer to one choice.

    Attributes
    ----------
    logits : Parameter of shape (K, S, P)
        Logits of the distributions.

    weight : Parameter of shape (K S, K)
        Last layer; slots are ordered by class.

    chosen : buffer of shape (K S, P), bool
        Prototype of each slot once hardened; no prototype for an empty slot.

    scale, hardened : float, bool
        Factor of the logits, see :func:`gumbel_scale`, and whether the choices are
        made. Both are part of the state dict.

    Notes
    -----
    A head in the sense of :mod:`skproto.nn.part_heads`. The units that sum to the
    scores are the slots before hardening, whose similarities are not linear in the
    prototypes, and the prototypes afterwards: see :meth:`contributions`.

    References
    ----------
    Rymarczyk et al., Interpretable Image Classification with Differentiable
    Prototypes Assignment, ECCV 2022. Differs from its code in choosing by the largest
    entry at the end, where the code draws.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.part_similarity import LogSimilarity
    >>> from skproto.nn.slots import SlotHead
    >>> head = SlotHead(2, 2, n_slots=1).eval()
    >>> head.bind(LogSimilarity(2, 1))
    >>> with torch.no_grad():
    ...     _ = head.logits.copy_(torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]]))
    >>> head.harden()
    >>> outputs = head({"activations": torch.tensor([[8.0, 2.0]])})
    >>> outputs["scores"].tolist()
    [[2.0, 8.0]]
    """

    #: Axis of the prototypes in each tensor of the state dict.
    prototype_axes: Mapping[str, int] = {"logits": 2, "chosen": 1}

    def __init__(
        self,
        n_prototypes,
        n_classes,
        n_slots=10,
        *,
        incorrect_weight=0.0,
        focal=True,
        tau=0.5,
    ):
        super().__init__()
        if n_slots < 1:
            raise ValueError(f"n_slots must be an int >= 1, got {n_slots!r}")
        if not tau > 0:
            raise ValueError(f"tau must be a positive float, got {tau!r}")
        self.n_prototypes = n_prototypes
        self.n_classes = n_classes
        self.n_slots = n_slots
        self.incorrect_weight = float(incorrect_weight)
        self.focal = focal
        self.tau = float(tau)
        self._similarity: tuple[Any, ...] = ()
        n_all = n_classes * n_slots
        self.logits = nn.Parameter(torch.zeros(n_classes, n_slots, n_prototypes))
        self.weight = nn.Parameter(torch.zeros(n_all, n_classes))
        owner = torch.arange(n_all)[:, None] // n_slots == torch.arange(n_classes)
        self.owner: Tensor
        self.chosen: Tensor
        self.progress: Tensor
        self.register_buffer("owner", owner, persistent=False)
        chosen = torch.zeros(n_all, n_prototypes, dtype=torch.bool)
        self.register_buffer("chosen", chosen)
        # Scale and hardness for the state dict; forward reads plain numbers.
        self.register_buffer("progress", torch.zeros(2))
        self._read_progress()
        self.register_load_state_dict_post_hook(_after_loading)
        self.reset()

    def _read_progress(self) -> None:
        self._scale, hard = self.progress.tolist()
        self._hardened = bool(hard)

    @torch.no_grad()
    def _write_progress(self, scale: float, hardened: bool) -> None:
        self.progress.copy_(self.progress.new_tensor([scale, float(hardened)]))
        self._read_progress()

    @property
    def scale(self) -> float:
        """Factor of the logits; 0 stands for a plain softmax."""
        return self._scale

    @scale.setter
    def scale(self, value: float) -> None:
        self._write_progress(float(value), self._hardened)

    @property
    def hardened(self) -> bool:
        """Whether every slot has chosen its prototype."""
        return self._hardened

    @property
    def units(self) -> str:
        """What the contributions are of: "slots", or "prototypes" once hardened."""
        return "prototypes" if self._hardened else "slots"

    @property
    def bias(self) -> Tensor:
        """Zeros, (K,)."""
        return self.weight.new_zeros(self.n_classes)

    def bind(self, similarity: Any) -> None:
        """Take the kernel, ``to_similarity``, that mixed distances go through.

        Raises
        ------
        ValueError
            If every prototype has a kernel of its own: mixtures have none.
        """
        if next(similarity.parameters(), None) is not None:
            raise ValueError(
                "Slots need a similarity that is the same for all prototypes, such as "
                f"'log_l2' or 'cosine'. Got {type(similarity).__name__}."
            )
        # In a tuple: the similarity stays a part of the network alone.
        self._similarity = (similarity,)

    def reset(self, ownership: Tensor | None = None) -> None:
        """Start anew: weights by the owners of the slots, logits from a fixed draw.

        Parameters
        ----------
        ownership : Tensor, default=None
            Not used: the prototypes of the pool have no owners yet.
        """
        with torch.no_grad():
            self.weight.fill_(self.incorrect_weight).masked_fill_(self.owner, 1.0)
            self.chosen.fill_(False)
        self._write_progress(0.0, False)
        self.reset_slots(torch.Generator().manual_seed(0))

    @torch.no_grad()
    def reset_slots(self, generator: torch.Generator) -> None:
        """Draw logits with the spread of Xavier's rule for (K, P, S)."""
        fan = self.n_slots * (self.n_prototypes + self.n_classes)
        draw = torch.randn(self.logits.shape, generator=generator)
        self.logits.copy_(math.sqrt(2.0 / fan) * draw)

    @torch.no_grad()
    def harden(self) -> None:
        """Let every slot choose the prototype of its largest logit, for good."""
        choice = self.logits.flatten(0, 1).argmax(1)
        pool = torch.arange(self.n_prototypes, device=choice.device)
        self.chosen.copy_(choice[:, None] == pool)
        self._write_progress(self._scale, True)

    def assignment(self) -> Tensor:
        """Return the distributions q of the slots, (K S, P).

        Rows sum to 1, those of empty slots to 0. Drawn anew at every call in training
        mode, the same at every call in evaluation mode.
        """
        if self._hardened:
            return self.chosen.to(self.weight.dtype)
        logits = self.logits.flatten(0, 1)
        if self._scale == 0.0:
            return logits.softmax(1)
        if self.training:
            return functional.gumbel_softmax(logits * self._scale, self.tau, dim=1)
        return (logits * (self._scale / self.tau)).softmax(1)

    def ownership(self, assignment: Tensor | None = None) -> Tensor:
        """Return which classes a prototype belongs to, (P, K) bool.

        Before hardening: the S prototypes with the largest total share in the slots of
        the class; afterwards those that it chose.

        Parameters
        ----------
        assignment : Tensor of shape (K S, P), default=None
            The distributions; None: :meth:`assignment`.
        """
        q = self.assignment() if assignment is None else assignment
        share = q.detach().unflatten(0, (self.n_classes, self.n_slots)).sum(1)
        if self._hardened:
            return (share > 0).T
        top = share.topk(min(self.n_slots, self.n_prototypes), dim=1).indices
        chosen = torch.zeros_like(share, dtype=torch.bool)
        return chosen.scatter(1, top, torch.ones_like(top, dtype=torch.bool)).T

    def effective_weight(self) -> Tensor:
        """Weight of every prototype for every class, (P, K).

        Slots that share a prototype add up. The scores are the activations times this
        table once hardened, and only then.
        """
        return self.assignment().T @ self.weight

    def tables(self) -> tuple[Tensor, Tensor]:
        """Weights (P, K) and bias (K,).

        Raises
        ------
        ValueError
            Before hardening: the scores are not linear in the activations then.
        """
        if not self._hardened:
            raise ValueError(
                "The scores are linear in the prototypes' activations only after "
                "harden(): before, every slot is a mixture of prototypes."
            )
        return self.effective_weight(), self.bias

    def forward(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return class scores from what the prototypes found.

        Parameters
        ----------
        parts : dict of Tensor
            "activations" (n, P), once hardened; before, "dissimilarities" and
            "mean_dissimilarities" (n, P), the smallest and the mean distance over the
            sites as the kernel takes them.

        Returns
        -------
        outputs : dict of Tensor
            "scores" (n, K); "slot_similarities" (n, K S); in training mode
            "assignment" (K S, P), the distributions that were used.
        """
        q = self.assignment()
        if self._hardened:
            activations = parts["activations"]
            # Ones and zeros: the very activations of the prototypes.
            slots = activations @ q.T
            values, table = _operands(activations, self.effective_weight(), self)
        else:
            slots = self._mixed(parts, q)
            values, table = _operands(slots, self.weight, self)
        outputs = {"scores": values @ table, "slot_similarities": slots}
        return {**outputs, "assignment": q} if self.training else outputs

    def _mixed(self, parts: Mapping[str, Tensor], q: Tensor) -> Tensor:
        """Similarities (n, K S) of mixed distances."""
        (similarity,) = self._similarity
        nearest = similarity.to_similarity(parts["dissimilarities"] @ q.T)
        if not self.focal:
            return nearest
        mean = parts["mean_dissimilarities"] @ q.T
        return nearest - similarity.to_similarity(mean)

    def contributions(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Return what every unit adds to every class score.

        Parameters
        ----------
        outputs : dict of Tensor
            What the network returned in evaluation mode.

        Returns
        -------
        contributions : Tensor of shape (n, P, K), or (n, K S, K) before hardening
            Sum to the scores over axis 1.
        """
        if self._hardened:
            return outputs["activations"][:, :, None] * self.effective_weight()
        return outputs["slot_similarities"][:, :, None] * self.weight

    def off_class_norm(self) -> Tensor:
        """Return the sum of the absolute weights between slots and other classes."""
        return self.weight.abs().masked_fill(self.owner, 0.0).sum()


def _after_loading(head: SlotHead, keys: Any) -> None:
    """Bring the plain numbers in line with the state dict."""
    head._read_progress()
