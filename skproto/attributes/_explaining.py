"""The attributes of a model's prototypes in one call."""

from __future__ import annotations

from skproto.attributes._explainer import PrototypeAttributeExplainer
from skproto.attributes._global import AttributeGlobalExplanation


def explain_attributes(
    model,
    X,
    attributes="auto",
    *,
    strengths="default",
    site="fixed",
    scope="image",
    normalize=None,
    method="single",
    replacement="permutation",
    value_range="auto",
    local=True,
    baseline=None,
    n_resamples=200,
    random_state=None,
) -> AttributeGlobalExplanation:
    """Tell what prototypes look at: hue, shape, a feature, a word.

    Parameters
    ----------
    model : fitted estimator
        Any estimator of the package, or a pipeline that ends in one.

    X : array-like
        Samples over which the scores are taken: images, a table, or texts for a
        pipeline with a vectoriser.

    attributes, strengths, site, scope, normalize, method, replacement, value_range : \
object
        See :class:`PrototypeAttributeExplainer`.

    local : bool, default=True
        Keep the scores of each sample too, as `local` of the result.

    baseline : fitted estimator, default=None
        A model without training, such as :func:`skproto.metrics.untrained` makes; its
        median scores stand beside.

    n_resamples : int, default=200
        Draws for the bootstrap intervals; 0 leaves them out.

    random_state : int, RandomState instance or None, default=None
        Seed of replacements and draws.

    Returns
    -------
    explanation : AttributeGlobalExplanation
        Scores (P, A) of the prototypes with words, table and picture; its `local` has
        those (n, P, A) of the samples.

    See Also
    --------
    PrototypeAttributeExplainer : The same as a transformer, with sweeps of strength.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skproto import GMLVQClassifier, explain_attributes
    >>> X, y = load_wine(return_X_y=True, as_frame=True)
    >>> model = GMLVQClassifier(1, random_state=0).fit(X, y)
    >>> groups = {"colour": ["color_intensity", "hue"], "ash": ["ash"]}
    >>> shown = explain_attributes(model, X, groups, random_state=0)
    >>> shown.words(1)
    "mostly 'colour', then 'ash'"
    """
    options = {
        "strengths": strengths,
        "site": site,
        "scope": scope,
        "normalize": normalize,
        "method": method,
        "replacement": replacement,
        "value_range": value_range,
        "random_state": random_state,
    }
    explainer = PrototypeAttributeExplainer(
        model, attributes, n_resamples=n_resamples, **options
    )
    parts = explainer._fit(X, keep=local)
    other = None
    if baseline is not None:
        names = attributes if attributes != "auto" else explainer.attribute_names_
        other = PrototypeAttributeExplainer(baseline, names, n_resamples=0, **options)
        other.fit(X)
    shown = explainer.explain_global(other)
    if local:
        shown.local = explainer._local(X, explainer._passes(X), parts)
    return shown
