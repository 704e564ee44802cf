"""What networks of prototype parts share: explanations, and what users do to them."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np
import torch

from skproto import _placing as placing
from skproto._fitting import keeps_state_on_error
from skproto.base import PrototypeClassifier
from skproto.networks._editing import PartFamily
from skproto.networks._finishing import PartFinishing
from skproto.training import AtStart, Phase, TrainingData
from skproto.utils import _parameters as rules


class PartPrototypeClassifier(PartFinishing):
    """Base of the networks whose prototypes are parts of training samples.

    A subclass makes the module and names losses and phases; its module returns
    "activations", "sites" and "distances", has `head`, `ownership`, `set_prototypes`
    and `keep`. What prototypes can become by projection is said by its methods
    `candidates`, `search_vectors`, `search_targets` and `candidate_distances` (see
    :mod:`skproto._projection`); without them it is the site that it returns. Training
    is followed by projection, pruning and the refit of the head.

    Hooks beyond those of the template:

    - :meth:`_owners` says of which classes the source of a prototype must be;
    - :meth:`_head_name` says which convex problem the refit of the head is;
    - :meth:`_head_center` gives the weights that the refit pulls towards;
    - :meth:`_max_similarity` gives the activation of a prototype's own source;
    - :meth:`_part_places` and :meth:`_source_places` say where parts are in samples
      and behind prototypes, if the module's "sites" do not.
    """

    _auto_encoders: ClassVar[dict[str, str]] = {"table": "mlp", "image": "conv"}
    _editing_family = PartFamily
    # Fitted attributes with one entry for each prototype.
    _per_prototype: ClassVar[tuple[str, ...]] = placing.PER_PROTOTYPE
    _parameter_rules = PrototypeClassifier._parameter_rules.extended(
        project_prototypes=rules.boolean(),
        unique_sources=rules.boolean(),
        prune_neighbors=(rules.none(), rules.integer(1)),
        head_solver=(rules.none(), rules.options("lbfgs", "adam")),
        head_epochs=rules.integer(0),
        head_l2=rules.real(0, ends="[)"),
        l1=rules.real(0, ends="[)"),
        solver=rules.options("auto", "adam", "adamw"),
    )

    def _auto_solver(self, X) -> str:
        return "adam"

    # -- explaining --------------------------------------------------------------------

    def _evidence(self, outputs: dict[str, Any]) -> dict[str, Any]:
        weights, bias = (t.detach().cpu().numpy() for t in self._module.head.tables())
        weights, bias = weights.astype(np.float64), bias.astype(np.float64)
        activations = outputs["activations"].astype(np.float64)
        return {
            "class_contributions": activations[:, :, None] * weights,
            "class_bias": np.broadcast_to(bias, (len(activations), len(bias))),
            "head_weights": weights,
            "link": "softmax",
        }

    def _global_evidence(self) -> dict[str, Any]:
        return {"weights": self.class_weights_}

    def _max_similarity(self) -> np.ndarray | None:
        """Activation (P,) of each prototype on its own source; None: not known."""
        return None

    def _part_places(self, outputs) -> dict[str, np.ndarray]:
        """Return "sites" (n, P, M) and "boxes" (n, P, M, 4) of parts, if any move."""
        return {}

    def _parts_at_sources(self, x: torch.Tensor) -> torch.Tensor:
        """Embed the parts behind prototypes, (P, M, D), of their source images.

        For prototypes of several parts; those of one part are their sites.
        """
        z = self._module.encoder(x)
        places = torch.from_numpy(self.prototype_sites_).to(z.device).clamp_min(0)
        return z.gather(1, places[:, :, None].expand(-1, -1, z.shape[2]))

    def _sample_places(self, outputs, X, evidence):
        return super()._sample_places(
            {**outputs, **self._part_places(outputs)}, X, evidence
        )

    # -- operations --------------------------------------------------------------------

    @keeps_state_on_error
    def project(self, X, y):
        """Move every prototype onto the nearest part of the given samples.

        Only samples of a prototype's own class count. A second call changes nothing.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples such as those of `fit`, not augmented.

        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        self : object
            The estimator; `prototype_indices_` now counts the samples of this `X`.

        Raises
        ------
        ValueError
            If `y` holds labels that were not seen in `fit`, or lacks the class of a
            prototype.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skproto import ProtoPNetClassifier
        >>> X, y = load_digits(n_class=2, return_X_y=True)
        >>> X = X.reshape(-1, 8, 8)
        >>> model = ProtoPNetClassifier(1, max_epochs=4, random_state=0).fit(X, y)
        >>> model = model.project(X[:100], y[:100]).refit_head(X, y)
        >>> bool((model.prototype_indices_ < 100).all())
        True
        """
        X, data = self._labelled(X, y)
        module = copy.deepcopy(self._module)
        self._check_classes(module, data)
        self.net_ = self._make_prediction_net(module)
        before = self._accuracy(module, data)
        self._project_onto(module, data)
        self.projection_accuracy_ = np.array([before, self._accuracy(module, data)])
        self._collect(module, data, X)
        return self

    def _check_classes(self, module, data: TrainingData) -> None:
        """Raise where a prototype's class has no sample."""
        owners = self._owners(module)
        if owners is not None:
            present = np.bincount(data.y, minlength=data.n_classes) > 0
            missing = np.flatnonzero(owners.any(axis=0) & ~present)
            orphans = ~(owners & present).any(axis=1)
            if orphans.any():
                raise ValueError(
                    "y must hold samples of every class that has prototypes; it has "
                    f"none of {self.classes_[missing].tolist()}."
                )

    @keeps_state_on_error
    def prune(self, X, y, n_neighbors=6):
        """Drop prototypes that look like parts of other classes, then refit the head.

        A prototype goes if fewer than 3 of its nearest samples are of its class (the
        paper's rule). A class keeps at least one prototype.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples such as those of `fit`.

        y : array-like of shape (n_samples,)
            Their labels.

        n_neighbors : int, default=6
            Number of nearest samples, one part of each.

        Returns
        -------
        self : object
            The estimator; `prototype_ids_` tells which prototypes are left.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skproto import ProtoPNetClassifier
        >>> X, y = load_digits(n_class=2, return_X_y=True)
        >>> X = X.reshape(-1, 8, 8)
        >>> model = ProtoPNetClassifier(3, max_epochs=4, random_state=0).fit(X, y)
        >>> len(model.prune(X, y).prototypes_) <= 6
        True
        """
        if not rules.integer(1).accepts(n_neighbors):
            raise ValueError(
                "n_neighbors must be an int in the range [1, inf). Got "
                f"{n_neighbors!r}."
            )
        _, data = self._labelled(X, y)
        module = copy.deepcopy(self._module)
        self.net_ = self._make_prediction_net(module)
        kept = self._prune_module(module, data, n_neighbors)
        placing.keep_entries(self, self._per_prototype, kept)
        self._refit(self._module, data)
        self._read_head(self._module)
        return self

    @keeps_state_on_error
    def refit_head(self, X, y):
        """Fit the weights of the head anew: one convex problem on fixed activations.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples such as those of `fit`.

        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        self : object
            The estimator; nothing but the head has changed.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skproto import ProtoPNetClassifier
        >>> X, y = load_digits(n_class=2, return_X_y=True)
        >>> X = X.reshape(-1, 8, 8)
        >>> model = ProtoPNetClassifier(1, max_epochs=4, random_state=0).fit(X, y)
        >>> bool(model.refit_head(X, y).score(X, y) > 0.9)
        True
        """
        _, data = self._labelled(X, y)
        self.net_ = self._make_prediction_net(copy.deepcopy(self._module))
        self._refit(self._module, data)
        self._read_head(self._module)
        return self


def push(model) -> AtStart:
    """Return a callback that projects the prototypes when a phase starts."""
    return AtStart(model._project_onto)


def phase_list(phases) -> list[Phase]:
    """Drop phases without epochs."""
    return [phase for phase in phases if phase.max_epochs]
