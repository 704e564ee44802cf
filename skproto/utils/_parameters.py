"""Declarative checks of constructor parameters, in scikit-learn's wording."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class InvalidParameterError(ValueError, TypeError):
    """A constructor parameter has a type or a value that is not allowed."""


@dataclass(frozen=True)
class Rule:
    """One way in which a parameter can be valid.

    Parameters
    ----------
    accepts : callable
        Takes a value and returns whether it is valid.

    text : str
        What is allowed, as the end of the sentence "must be ...".
    """

    accepts: Callable[[Any], bool]
    text: str


def _is_number(value: Any, kind: type) -> bool:
    is_kind: bool = isinstance(value, kind) and not isinstance(value, (bool, np.bool_))
    if not is_kind or (
        isinstance(value, numbers.Integral) and abs(int(value)) >= 2**63
    ):
        return False
    return bool(np.isfinite(float(value)))


def _interval(kind: type, low: float, high: float, ends: str) -> Callable[[Any], bool]:
    def accepts(value: Any) -> bool:
        if not _is_number(value, kind):
            return False
        above = value >= low if ends[0] == "[" else value > low
        below = value <= high if ends[1] == "]" else value < high
        return bool(above and below)

    return accepts


def integer(low: int, high: float = np.inf) -> Rule:
    """Allow an integer of at least `low` and at most `high`."""
    ends = "[]" if np.isfinite(high) else "[)"
    text = f"an int in the range [{low}, {high}{ends[1]}"
    return Rule(_interval(numbers.Integral, low, high, ends), text)


def real(low: float, high: float = np.inf, ends: str = "()") -> Rule:
    """Allow a real number between `low` and `high`; `ends` are the brackets."""
    text = f"a float in the range {ends[0]}{low}, {high}{ends[1]}"
    return Rule(_interval(numbers.Real, low, high, ends), text)


def options(*values: str) -> Rule:
    """Allow one of the given strings."""
    names = ", ".join(repr(v) for v in values)
    text = f"a str among {{{names}}}" if len(values) > 1 else f"the str {names}"
    return Rule(lambda v: isinstance(v, str) and v in values, text)


def boolean() -> Rule:
    """Allow True and False."""
    return Rule(lambda v: isinstance(v, (bool, np.bool_)), "a bool")


def none() -> Rule:
    """Allow None."""
    return Rule(lambda v: v is None, "None")


def array(ndim: int, text: str = "") -> Rule:
    """Allow an array-like of numbers with `ndim` dimensions."""

    def accepts(value: Any) -> bool:
        if isinstance(value, (str, bytes, numbers.Number)) or value is None:
            return False
        try:
            return np.asarray(value, dtype=float).ndim == ndim
        except (TypeError, ValueError):
            return False

    return Rule(accepts, text or f"an array-like of {ndim} dimension(s)")


def shape(low: int, high: int) -> Rule:
    """Allow a tuple or list of `low` to `high` positive integers."""

    def accepts(value: Any) -> bool:
        if not isinstance(value, (tuple, list)) or not low <= len(value) <= high:
            return False
        return all(integer(1).accepts(size) for size in value)

    return Rule(accepts, f"a tuple of {low} to {high} positive int")


def mapping() -> Rule:
    """Allow a dict."""
    return Rule(lambda v: isinstance(v, Mapping), "a dict")


def settings() -> Rule:
    """Allow a dict whose keys are strings."""

    def accepts(value: Any) -> bool:
        return isinstance(value, Mapping) and all(isinstance(k, str) for k in value)

    return Rule(accepts, "a dict with str keys")


def random_state() -> Rule:
    """Allow what `sklearn.utils.check_random_state` takes."""

    def accepts(value: Any) -> bool:
        if value is None or isinstance(value, np.random.RandomState):
            return True
        return _interval(numbers.Integral, 0, 2**32 - 1, "[]")(value)

    text = "an int in the range [0, 4294967295], a RandomState instance or None"
    return Rule(accepts, text)


def anything_callable(text: str) -> Rule:
    """Allow any callable (classes and modules included)."""
    return Rule(callable, text)


@dataclass
class ParameterRules:
    """The rules of all parameters of one estimator class.

    Parameters
    ----------
    rules : dict of str to tuple of Rule
        For each parameter the ways in which it can be valid.
    """

    rules: dict[str, tuple[Rule, ...]] = field(default_factory=dict)

    def extended(self, **rules: Iterable[Rule] | Rule) -> ParameterRules:
        """Return a copy with more parameters, or with others' rules replaced."""
        added = {
            name: (rule,) if isinstance(rule, Rule) else tuple(rule)
            for name, rule in rules.items()
        }
        return ParameterRules({**self.rules, **added})

    def check(self, owner: str, parameters: Mapping[str, Any]) -> None:
        """Raise `InvalidParameterError` for the first invalid parameter.

        Parameters
        ----------
        owner : str
            Name of the estimator, for the message.

        parameters : mapping
            Names and values, as `get_params(deep=False)` returns them.
        """
        for name, value in parameters.items():
            rules = self.rules.get(name, ())
            if not rules or any(rule.accepts(value) for rule in rules):
                continue
            allowed = " or ".join(rule.text for rule in rules)
            raise InvalidParameterError(
                f"The {name!r} parameter of {owner} must be {allowed}. "
                f"Got {value!r} instead."
            )
