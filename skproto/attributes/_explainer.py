"""Which visual attribute, feature or word carries a similarity."""

from __future__ import annotations

import warnings
from itertools import combinations
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from skproto import _placing as placing
from skproto.attributes import _reading as reading
from skproto.attributes import _scores as scoring
from skproto.attributes._global import AttributeGlobalExplanation
from skproto.attributes._local import AttributeExplanation
from skproto.attributes._passes import Part, Passes, Settings
from skproto.attributes._sweep import AttributeSweep
from skproto.attributes._tally import Tally
from skproto.explanation import PrototypeTable, SamplePlaces
from skproto.utils import _parameters as rules
from skproto.utils._random import random_source

MAX_NAMED = 5  # prototypes that a warning names


class PrototypeAttributeExplainer(TransformerMixin, BaseEstimator):
    r"""Tell which attribute of samples their similarity to prototypes rests on.

    One attribute of a sample is changed, and the similarity is read again at the same
    site:

    .. math:: \Delta_{ipa} = s_{ip} - s_{ip}^a, \qquad
        \phi_{pa} = \frac{\sum_i \Delta_{ipa}\, s_{ip}}{\sum_i s_{ip}}

    with the local score :math:`\Delta` of sample i, prototype p and attribute a, and
    the global score :math:`\phi` over a set of samples. Negative similarities weigh
    nothing. It works on images (hue, saturation, contrast, brightness, shape,
    texture), on tables and tokens (features or groups of them), and on texts with a
    vectoriser in front (words).

    Read more in the :ref:`User Guide <attributes>`.

    Parameters
    ----------
    estimator : fitted estimator
        Any estimator of the package, or another one with `similarity_maps` or
        `transform`; also at the end of a pipeline, whose steps the changed samples
        pass. It is not fitted again, and a clone keeps it.

    attributes : "auto", sequence or dict, default="auto"
        What is changed. "auto": all built-in attributes of images (without hue and
        saturation where there are not three channels); every feature of a table, of
        more than 100 those that vary most often; the 100 most frequent words that the
        model notices. A sequence names some of them. A dict gives groups of features
        or words names of their own, or functions that change samples: they take and
        return a batch of the same shape and dtype.

    strengths : "default" or dict, default="default"
        How much attributes of images are changed. Default: hue 0.1 of the circle,
        saturation 0.7, contrast 0.45, brightness 0.8; shape ``{"amplitude": 4/224,
        "period": 40/224}`` as shares of the sides, at least 1.5 and 3 pixels; texture
        ``{"h": 4/255, "template": 7, "search": 21}``. A dict replaces some of them.

    site : {"fixed", "window", "max"}, default="fixed"
        Where the changed sample is read: at the site of the original, at the best of
        this and its neighbours (which forgives displacement), or at its own best site.

    scope : {"image", "focus", "dual"}, default="image"
        What is changed of images: everything; only the pixels on which the site
        depends; or all but these, which should do little.

    normalize : {None, "relative", "per_rms"}, default=None
        Units of the scores: of the similarity; as a share of it, where it is not below
        `tol` of its mean (else NaN); or divided by the root mean squared change of the
        samples, which makes strengths comparable.

    method : {"single", "shapley"}, default="single"
        Change one attribute at a time; or all subsets of them, and share out what all
        together do. "shapley" takes :math:`2^A` passes and at most 8 attributes.

    replacement : {"permutation", "mean"}, default="permutation"
        For tables and tokens: give each row the values of `n_repeats` rows of `fit` in
        turn, and average; or the mean, of other than numbers the most frequent value.

    n_repeats : int, default=10
        Rows whose values are used. They are the same for all samples, so that scores
        depend neither on the order nor on the company of samples.

    value_range : "auto" or tuple of two float, default="auto"
        Values of black and white. "auto": 0 and 255 for bytes, else 0 and 1.

    tol : float, default=0.01
        Share of the similarity below which a drop is none.

    n_resamples : int, default=200
        Draws of the samples for bootstrap intervals; 0 leaves them out.

    confidence_level : float, default=0.95
        Of these intervals.

    batch_size : int, default=64
        Samples that are changed at a time. Of no effect on the scores.

    random_state : int, RandomState instance or None, default=None
        Seed of the rows whose values are used, and of the draws.

    Attributes
    ----------
    global_importance_ : ndarray of shape (n_prototypes, n_attributes)
        Global scores; NaN where no sample is similar to the prototype.

    weights_ : ndarray of shape (n_prototypes,)
        Sum of the similarities.

    mean_similarity_ : ndarray of shape (n_prototypes,)
        Mean similarity, weighted by itself.

    rms_change_ : ndarray of shape (n_attributes,)
        Root mean squared change of the samples by each attribute; of pixels as a share
        of their range, else in units of the inner scale of the model.

    unexplained_ : ndarray of shape (n_prototypes,)
        Share of the similarity in pairs that no attribute lowers by more than `tol`.

    interval_ : ndarray of shape (2, n_prototypes, n_attributes) or None
        Bootstrap interval of the global scores.

    null_ : ndarray of shape (n_prototypes, n_attributes) or None
        Median score over prototypes of other classes.

    effect_interval_ : ndarray of shape (2, n_prototypes, n_attributes) or None
        Bootstrap interval of ``global_importance_ - null_``.

    bounded_importance_ : ndarray of shape (n_prototypes, n_attributes) or None
        Scores with the similarity 1 / (1 + d) where the model's is a logarithm.

    absent_rise_ : ndarray of shape (n_prototypes, n_attributes) or None
        For trees, the mean rise of the similarity where a prototype was found absent.

    attribute_names_ : list of str
        Names of the attributes.

    kind_ : {"image", "table", "tokens", "text"}
        What the samples are.

    value_range_ : tuple of two float or None
        The range that was used for images.

    n_features_in_ : int
        Number of features of the estimator, where it has one.

    See Also
    --------
    explain_attributes : The same in one call.
    skproto.metrics.redundancy_score : Prototypes that are similar to the same samples.

    Notes
    -----
    A pass over the samples for each attribute, with "permutation" for each of the
    `n_repeats` rows. "focus" and "dual" multiply that by the prototypes that look at
    different places. The attribution is as clean as the change: a change of contrast
    changes the brightness of places too, a shear moves content. Strengths of different
    attributes are not comparable by themselves; see `normalize`, `null_` and
    :meth:`sweep`.

    References
    ----------
    .. [1] Nauta, M., Jutte, A., Provoost, J. and Seifert, C. (2021). This Looks Like
       That, Because ... Explaining Prototypes for Interpretable Image Recognition.
       *ECML PKDD Workshops*.

    Differs from the paper's code in that images are changed in memory (no JPEG), shape
    and texture are defined relative to the side, and tables, texts, intervals, the
    comparison with other prototypes and Shapley values are added.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skproto import GMLVQClassifier
    >>> from skproto.attributes import PrototypeAttributeExplainer
    >>> X, y = load_wine(return_X_y=True, as_frame=True)
    >>> model = GMLVQClassifier(1, random_state=0).fit(X, y)
    >>> explainer = PrototypeAttributeExplainer(model, random_state=0).fit(X)
    >>> explainer.global_importance_.shape
    (3, 13)
    >>> "'proline'" in explainer.explain_global().words(0)
    True
    """

    _parameter_rules = rules.ParameterRules().extended(
        site=rules.options("fixed", "window", "max"),
        scope=rules.options("image", "focus", "dual"),
        normalize=(rules.none(), rules.options("relative", "per_rms")),
        method=rules.options("single", "shapley"),
        replacement=rules.options("permutation", "mean"),
        n_repeats=rules.integer(1),
        tol=rules.real(0, ends="[)"),
        n_resamples=rules.integer(0),
        confidence_level=rules.real(0, 1),
        batch_size=rules.integer(1),
        random_state=rules.random_state(),
    )

    def __init__(
        self,
        estimator,
        attributes="auto",
        *,
        strengths="default",
        site="fixed",
        scope="image",
        normalize=None,
        method="single",
        replacement="permutation",
        n_repeats=10,
        value_range="auto",
        tol=scoring.DEFAULT_TOL,
        n_resamples=200,
        confidence_level=0.95,
        batch_size=64,
        random_state=None,
    ):
        self.estimator = estimator
        self.attributes = attributes
        self.strengths = strengths
        self.site = site
        self.scope = scope
        self.normalize = normalize
        self.method = method
        self.replacement = replacement
        self.n_repeats = n_repeats
        self.value_range = value_range
        self.tol = tol
        self.n_resamples = n_resamples
        self.confidence_level = confidence_level
        self.batch_size = batch_size
        self.random_state = random_state

    def __sklearn_clone__(self):
        # An explainer speaks of one fitted model: a clone speaks of the same.
        parameters = self.get_params(deep=False)
        kept = {"estimator": parameters.pop("estimator")}
        return type(self)(
            **kept, **{name: clone(v, safe=False) for name, v in parameters.items()}
        )

    # -- fitting -----------------------------------------------------------------------

    def fit(self, X, y=None):
        """Compute the global scores over samples.

        Parameters
        ----------
        X : array-like
            Samples, as the estimator takes them; for pipelines with a vectoriser
            texts.

        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted explainer.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.

        ValueError
            If a parameter or attribute is not allowed, or values are NaN or outside of
            the range.
        """
        self._fit(X, keep=False)
        return self

    def _fit(self, X, keep: bool) -> list[Part]:
        """Fit, and return what was found of each sample if it is to be kept."""
        parameters = self.get_params(deep=False)
        self._parameter_rules.check(type(self).__name__, parameters)
        rng = random_source(self.random_state)
        self._settings = self._resolved(X, rng)
        passes = Passes(self.estimator, X, self._settings)
        self.kind_, self.attribute_names_ = passes.kind, passes.names
        self.value_range_ = getattr(passes.changes, "value_range", None)
        self._reference = getattr(passes.changes, "reference", None)
        n_features = getattr(reading.engine_of(passes.model), "n_features_in_", None)
        if n_features is not None and passes.front is None:
            self.n_features_in_ = n_features
        counts = scoring.draws_of_samples(len(passes.changes), self.n_resamples, rng)
        tally = Tally(passes, counts, self.normalize, self.tol)
        kept = []
        for part in passes.parts():
            tally.add(part)
            if keep:
                kept.append(part)
        self._read(tally)
        return kept

    def _resolved(self, X, rng) -> Settings:
        n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
        n_draws = min(self.n_repeats, n_rows)
        return Settings(
            self.attributes,
            self.strengths,
            self.site,
            self.scope,
            self.method,
            self.replacement,
            rng.permutation(n_rows)[:n_draws],
            self.value_range,
            self.batch_size,
        )

    def _read(self, tally: Tally) -> None:
        """Set the fitted attributes of the sums."""
        scores, level = tally.scores(), self.confidence_level
        null = tally.null(scores)
        self.weights_ = np.asarray(tally.weights)
        self.rms_change_ = tally.passes.rms_change()
        self.global_importance_, self._drops = scores[0], tally.once("drops")
        self.interval_ = scoring.interval_of(scores[1:], level)
        self.mean_similarity_ = tally.once("similarity")
        self.unexplained_ = tally.once("unexplained")
        self.bounded_importance_ = tally.known("bounded")
        self.absent_rise_ = tally.known("rises")
        self.null_ = self.effect_interval_ = None
        if null is not None:
            self.null_ = null[0]
            self.effect_interval_ = scoring.interval_of((scores - null)[1:], level)
        unknown = np.flatnonzero(self.weights_ <= scoring.NOTHING)
        if len(unknown):
            named = self._table(tally.passes.model).ids[unknown[:MAX_NAMED]].tolist()
            more = ", ..." if len(unknown) > MAX_NAMED else ""
            warnings.warn(
                f"No sample of X is similar to {len(unknown)} prototypes (ids "
                f"{', '.join(map(str, named))}{more}): their global scores are NaN.",
                UserWarning,
                stacklevel=4,
            )

    @staticmethod
    def _table(model) -> PrototypeTable:
        """Return the table of the prototypes, made up where a model has none."""
        engine = reading.engine_of(model)
        if hasattr(engine, "_prototype_table"):
            table: PrototypeTable = engine._prototype_table()
            return table
        n_prototypes = len(model.prototypes_)
        labels = getattr(model, "prototype_labels_", np.full(n_prototypes, ""))
        return PrototypeTable(
            ids=getattr(model, "prototype_ids_", np.arange(n_prototypes)),
            labels=labels,
            indices=getattr(model, "prototype_indices_", np.full(n_prototypes, -1)),
            projection_distance=np.full(n_prototypes, np.nan),
            is_case=np.zeros(n_prototypes, dtype=bool),
        )

    # -- explaining --------------------------------------------------------------------

    def _passes(self, X) -> Passes:
        check_is_fitted(self)
        settings = self._settings
        if self.kind_ != "image" and isinstance(settings.attributes, str):
            # "auto" looks at the samples: those of fit decide.
            settings = settings._replace(attributes=self.attribute_names_)
        passes = Passes(self.estimator, X, settings, self._reference)
        if passes.kind != self.kind_ or passes.names != self.attribute_names_:
            raise ValueError(
                f"X must hold samples like those of fit: {self.kind_} with attributes "
                f"{self.attribute_names_[:8]}. Got {passes.kind} with "
                f"{passes.names[:8]}."
            )
        return passes

    def explain(self, X):
        """Explain the similarities of samples.

        Parameters
        ----------
        X : array-like
            Samples, as in `fit`.

        Returns
        -------
        explanation : AttributeExplanation
            Local scores (n, P, A).
        """
        passes = self._passes(X)
        return self._local(X, passes, list(passes.parts()))

    def _local(self, X, passes: Passes, parts: list[Part]) -> AttributeExplanation:
        """Return the explanation of samples from what was found of them."""
        found = [part.found for part in parts]
        similarities = np.concatenate([f.similarities for f in found])
        drops = np.concatenate([part.drops for part in parts])
        told = [
            reading.answers(passes.model, passes.reader.prepared(part.inputs))
            for part in parts
        ]
        n_rows = len(passes.changes)
        index = X.index if hasattr(X, "iloc") else np.arange(n_rows)
        return AttributeExplanation(
            estimator_name=type(passes.model).__name__,
            kind=self.kind_,
            attributes=np.array(self.attribute_names_, dtype=object),
            prototypes=self._table(passes.model),
            sample_index=np.asarray(index),
            similarities=similarities,
            scores=self._in_units(drops, similarities),
            drops=drops,
            sites=together([f.sites for f in found]),
            bounded=together([part.bounded for part in parts]),
            answers=together(told),
            places=sample_places(passes),
            normalize=self.normalize,
            tol=self.tol,
        )

    def _in_units(self, drops, similarities) -> np.ndarray:
        """Return local drops in the units asked for."""
        floor = self.tol * np.nan_to_num(self.mean_similarity_)
        return scoring.normalized(
            drops, similarities, self.normalize, self.rms_change_, floor
        )

    def explain_global(self, baseline=None):
        """Explain the prototypes.

        Parameters
        ----------
        baseline : PrototypeAttributeExplainer, default=None
            A fitted explainer of a model without training, such as
            :func:`skproto.metrics.untrained` makes; its median scores stand beside.

        Returns
        -------
        explanation : AttributeGlobalExplanation
            Global scores with their intervals.

        Raises
        ------
        ValueError
            If the baseline has other attributes.
        """
        check_is_fitted(self)
        _, model = reading.split_model(self.estimator)
        untrained = None
        if baseline is not None:
            check_is_fitted(baseline)
            if baseline.attribute_names_ != self.attribute_names_:
                raise ValueError(
                    "baseline must have the same attributes. Got "
                    f"{baseline.attribute_names_}."
                )
            untrained = scoring.median_of(baseline.global_importance_, 0)
        return AttributeGlobalExplanation(
            estimator_name=type(model).__name__,
            kind=self.kind_,
            attributes=np.array(self.attribute_names_, dtype=object),
            prototypes=self._table(model),
            importance=self.global_importance_,
            drops=self._drops,
            weights=self.weights_,
            mean_similarity=self.mean_similarity_,
            unexplained=self.unexplained_,
            rms_change=self.rms_change_,
            interval=self.interval_,
            null=self.null_,
            effect_interval=self.effect_interval_,
            untrained=untrained,
            bounded=self.bounded_importance_,
            absent_rise=self.absent_rise_,
            normalize=self.normalize,
            tol=self.tol,
        )

    def transform(self, X):
        """Return the local scores as features.

        Parameters
        ----------
        X : array-like
            Samples, as in `fit`.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_prototypes * n_attributes)
            All attributes of the first prototype, then of the second, and so on.
        """
        passes = self._passes(X)
        found = [
            self._in_units(part.drops, part.found.similarities)
            for part in passes.parts()
        ]
        scores = np.concatenate(found)
        return scores.reshape(len(scores), -1)

    def get_feature_names_out(self, input_features=None):
        """Return the names of what `transform` returns.

        Parameters
        ----------
        input_features : object, default=None
            Ignored.

        Returns
        -------
        names : ndarray of str
            Such as ``prototype0_hue``.
        """
        check_is_fitted(self)
        _, model = reading.split_model(self.estimator)
        ids = self._table(model).ids
        names = [f"prototype{p}_{a}" for p in ids for a in self.attribute_names_]
        return np.array(names, dtype=object)

    # -- more than one change ----------------------------------------------------------

    def sweep(self, X, n_steps=6, level=0.1):
        """Change attributes more and more, and follow the similarity.

        Parameters
        ----------
        X : array-like
            Samples, as in `fit`.

        n_steps : int, default=6
            Number of amounts from 0 to 1.

        level : float, default=0.1
            Relative drop whose amount is looked for.

        Returns
        -------
        sweep : AttributeSweep
            Curves, the areas under them, and the amounts that cause a drop of `level`.

        Raises
        ------
        ValueError
            If attributes have no strength: words, and functions of the user.
        """
        if not rules.integer(2).accepts(n_steps):
            raise ValueError(f"n_steps must be an int of at least 2. Got {n_steps!r}.")
        passes = self._passes(X)
        amounts = np.linspace(0.0, 1.0, n_steps)
        curves = []
        for amount in amounts:
            total = None
            for part in passes.parts(amount=float(amount)):
                s = part.found.similarities
                share = scoring.normalized(part.drops, s, "relative", np.empty(0))
                total = total or scoring.Total(1, share.shape[1:])
                total.add(share, s, np.ones((1, len(s))))
            if total is not None:
                curves.append(total.mean()[0])
        return AttributeSweep(
            estimator_name=type(passes.model).__name__,
            attributes=np.array(self.attribute_names_, dtype=object),
            prototypes=self._table(passes.model),
            amounts=amounts,
            curves=np.stack(curves, axis=-1),
            level=level,
        )

    def interactions(self, X):
        r"""Change attributes in pairs, and see what is more than both alone.

        Parameters
        ----------
        X : array-like
            Samples, as in `fit`.

        Returns
        -------
        interactions : ndarray of shape (n_prototypes, n_attributes, n_attributes)
            :math:`\Delta_{ab} - \Delta_a - \Delta_b`, the similarity-weighted mean
            over the samples; on the diagonal :math:`\Delta_a`. Positive where two
            changes do more together.
        """
        passes = self._passes(X)
        n_attributes = len(self.attribute_names_)
        total = None
        for _, batch in passes.batches():
            found = passes.reader.original(batch.inputs)
            alone = [passes.drop(batch, found, (a,))[0] for a in range(n_attributes)]
            terms = np.zeros((*found.similarities.shape, n_attributes, n_attributes))
            for a in range(n_attributes):
                terms[..., a, a] = alone[a]
            for a, b in combinations(range(n_attributes), 2):
                both = passes.drop(batch, found, (a, b))[0]
                terms[..., a, b] = terms[..., b, a] = both - alone[a] - alone[b]
            total = total or scoring.Total(1, terms.shape[1:])
            total.add(terms, found.similarities, np.ones((1, len(terms))))
        return np.empty(0) if total is None else total.mean()[0]

    def plot(self, prototypes=None, ax=None):
        """Draw the global scores beside the prototypes.

        Parameters
        ----------
        prototypes : sequence of int or None, default=None
            See :meth:`AttributeGlobalExplanation.plot`.

        ax : matplotlib Axes or None, default=None
            Where to draw.

        Returns
        -------
        ax : matplotlib Axes
            The axes drawn on.
        """
        return self.explain_global().plot(prototypes, ax)


def together(parts: list[Any]) -> np.ndarray | None:
    """Concatenate what was found of some samples at a time; None where nothing was."""
    return None if parts[0] is None else np.concatenate(parts)


def sample_places(passes: Passes) -> SamplePlaces | None:
    """Return the samples and where the prototypes are, for images and tokens."""
    engine = reading.engine_of(passes.model)
    if passes.kind not in ("image", "tokens") or not hasattr(engine, "_forward"):
        return None
    n_rows = len(passes.changes)
    inputs = passes.changes.batch(slice(0, n_rows)).inputs
    samples = reading.checked(passes.model, passes.reader.prepared(inputs))
    outputs = engine._forward(samples)
    if "sites" not in outputs:
        return SamplePlaces(kind="image", images=samples[:])
    if hasattr(engine, "_part_places"):
        outputs = {**outputs, **engine._part_places(outputs)}
    return placing.sample_places(engine, outputs, samples)
