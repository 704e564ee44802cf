"""Tables, tokens and texts with features, tokens or words changed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from skproto.attributes._image_changes import Batch, Variant, called

# Features, tokens or words that are looked at unless they are named.
MAX_AUTOMATIC = 100
WORD = re.compile(r"\w+")


class Reference(NamedTuple):
    """Rows whose values take the place of those of samples, one after the other."""

    rows: Any


def make_reference(X, replacement: str, draws) -> Reference:
    """Return some of the rows of `X` as they are, or one row of their means."""
    X = plain_rows(X)
    if replacement == "mean":
        return Reference(typical(X))
    return Reference(dense(rows_of(X, draws)))


class RowChanges:
    """Rows of a table or tokens of samples, with groups of columns replaced.

    Parameters
    ----------
    X : array-like of shape (n, f) or (n, T, D)
        Samples: an array, a sparse matrix or a frame.

    attributes : "auto", sequence or dict
        See :class:`PrototypeAttributeExplainer`.

    reference : Reference
        Where values come from.
    """

    sweeps = True

    def __init__(self, X, attributes, reference):
        self.samples = plain_rows(X)
        self.kind = "table" if len(self.samples.shape) == 2 else "tokens"
        self.reference = reference
        self.columns = column_names(self.samples)
        self.actions = self._groups(attributes)
        self.names = list(self.actions)
        self.strengths: dict[str, Any] = {}

    def __len__(self) -> int:
        return int(self.samples.shape[0])

    def _groups(self, attributes) -> dict[str, Any]:
        if isinstance(attributes, str) and attributes == "auto":
            return {self.columns[j]: [j] for j in varied(self.samples)}
        if isinstance(attributes, str) or not isinstance(
            attributes, Mapping | Sequence | np.ndarray
        ):
            attributes = [attributes]
        if not isinstance(attributes, Mapping):
            named = [(self._position(name), name) for name in attributes]
            return {self.columns[j]: [j] for j, _ in named}
        return {str(name): self._group(name, what) for name, what in attributes.items()}

    def _group(self, name, what) -> Any:
        if callable(what):
            return what
        members = [what] if isinstance(what, str | int | np.integer) else list(what)
        if not members:
            raise ValueError(f"attributes[{name!r}] must name at least one feature.")
        return [self._position(member) for member in members]

    def _position(self, name) -> int:
        if isinstance(name, int | np.integer) and 0 <= name < len(self.columns):
            return int(name)
        if str(name) in self.columns:
            return self.columns.index(str(name))
        shown = self.columns[:8] + (["..."] if len(self.columns) > 8 else [])
        raise ValueError(
            f"attributes must name features by name or position: {shown}. Got {name!r}."
        )

    def batch(self, rows) -> Batch:
        """Return some rows."""
        part = rows_of(self.samples, rows)
        return Batch(part, dense(part))

    def changed(self, batch: Batch, subset, amount=None) -> list[Variant]:
        """Return the rows with the groups at positions `subset` replaced, in turn."""
        groups = [self.actions[self.names[j]] for j in subset]
        functions = [group for group in groups if callable(group)]
        if functions and amount is not None:
            raise ValueError(
                "A sweep needs attributes with a strength. Functions of the user have "
                "none."
            )
        columns = [j for group in groups if not callable(group) for j in group]
        values = batch.values
        for name in (self.names[j] for j in subset):
            if callable(self.actions[name]):
                values = called(self.actions[name], name, values)
        if not columns:
            return [Variant(values)]
        share = 1.0 if amount is None else amount
        source = self.reference.rows
        return [
            Variant(replaced(values, columns, source, row, share))
            for row in range(len(source))
        ]


# -- rows of arrays, sparse matrices and frames ----------------------------------------


def plain_rows(X) -> Any:
    """Return samples as an ndarray, a CSR array or a pandas frame."""
    if sp.issparse(X):
        return sp.csr_array(X)
    if isinstance(X, pd.DataFrame):
        return X
    if hasattr(X, "columns") and hasattr(X, "to_numpy"):  # polars
        return pd.DataFrame({name: X[name].to_numpy() for name in X.columns})
    X = np.asarray(X)
    if X.ndim not in (2, 3):
        raise ValueError(
            f"X must have shape (n, features) or (n, tokens, dimensions). Got "
            f"{X.shape}."
        )
    return X


def rows_of(X, rows) -> Any:
    """Return some rows of samples."""
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def dense(X) -> Any:
    """Return rows without the zeros left out."""
    return X.toarray() if sp.issparse(X) else X


def column_names(X) -> list[str]:
    """Return the names of features, or of tokens."""
    if hasattr(X, "columns"):
        return [str(name) for name in X.columns]
    start = "x" if len(X.shape) == 2 else "token "
    return [f"{start}{j}" for j in range(X.shape[1])]


def varied(X) -> list[int]:
    """Return the columns, of many those whose values differ most often."""
    n_columns = X.shape[1]
    if n_columns <= MAX_AUTOMATIC:
        return list(range(n_columns))
    if sp.issparse(X):
        often = np.bincount(X.indices, minlength=n_columns)
    elif hasattr(X, "columns"):
        often = np.array([len(X) - X[name].value_counts().max() for name in X])
    else:
        median = np.median(X, axis=0)
        often = (median != X).reshape(len(X), n_columns, -1).any(axis=2).sum(axis=0)
    kept = np.argsort(-often, kind="stable")[:MAX_AUTOMATIC]
    return sorted(kept.tolist())


def typical(X) -> Any:
    """Return one row of the means, and of the most frequent other values."""
    if sp.issparse(X):
        return np.asarray(X.mean(axis=0)).reshape(1, -1)
    if not hasattr(X, "columns"):
        return np.nanmean(X, axis=0, keepdims=True)
    usual = {
        j: X.iloc[:, j].mean()
        if pd.api.types.is_numeric_dtype(X.dtypes.iloc[j])
        and not pd.api.types.is_bool_dtype(X.dtypes.iloc[j])
        else X.iloc[:, j].mode().iloc[0]
        for j in range(X.shape[1])
    }
    row = pd.DataFrame(usual, index=[0])
    row.columns = X.columns
    return row


def replaced(values, columns, source, row: int, share: float) -> Any:
    """Return rows with some columns moved towards those of one row of a source."""
    if hasattr(values, "columns"):
        found = values.copy()
        for j in columns:
            found.isetitem(j, _moved(values.iloc[:, j], source.iloc[row, j], share))
        return found
    found = values.copy() if values.dtype.kind == "f" else values.astype(np.float64)
    before, after = found[:, columns], source[row, columns]
    # Adding the difference would round where all of it is replaced.
    found[:, columns] = after if share == 1 else before + share * (after - before)
    return found


def _moved(column: pd.Series, value, share: float) -> Any:
    if share == 1:
        kept = pd.Series([value] * len(column), index=column.index)
        return kept.astype(column.dtype) if _holds(column, value) else kept
    if not pd.api.types.is_numeric_dtype(column):
        raise ValueError(
            f"A sweep needs numbers. Feature {column.name!r} is of {column.dtype}."
        )
    return column + share * (value - column)


def _holds(column: pd.Series, value) -> bool:
    """Tell whether a column can hold a value without a change of it."""
    return not pd.api.types.is_integer_dtype(column) or float(value).is_integer()


# -- texts -----------------------------------------------------------------------------


def is_text(X) -> bool:
    """Tell whether samples are texts: a sequence of str."""
    if hasattr(X, "columns") or sp.issparse(X) or getattr(X, "ndim", 1) != 1:
        return False
    first = next(iter(X), None) if isinstance(X, Sequence | np.ndarray) else None
    if first is None and hasattr(X, "to_list"):
        first = next(iter(X.to_list()), None)
    return isinstance(first, str)


class TextChanges:
    """Texts with words removed, wherever they stand and however they are cased.

    Parameters
    ----------
    X : sequence of str
        Texts.

    attributes : "auto", sequence of str or dict
        See :class:`PrototypeAttributeExplainer`.

    counts : callable
        Tells of texts whether the model gets something else; words whose removal it
        does not notice are left out of "auto".
    """

    kind = "text"
    sweeps = False

    def __init__(self, X, attributes, counts):
        self.samples = [str(text) for text in X]
        self.words = [
            frozenset(word.casefold() for word in WORD.findall(text))
            for text in self.samples
        ]
        self.actions = self._groups(attributes, counts)
        self.names = list(self.actions)
        self.strengths: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def _groups(self, attributes, counts) -> dict[str, Any]:
        if isinstance(attributes, str) and attributes == "auto":
            return {word: frozenset([word]) for word in self._noticed(counts)}
        if isinstance(attributes, str):
            attributes = [attributes]
        if not isinstance(attributes, Mapping):
            attributes = {name: [name] for name in attributes}
        found = {}
        for name, what in attributes.items():
            words = [what] if isinstance(what, str) else what
            found[str(name)] = (
                what if callable(what) else frozenset(str(w).casefold() for w in words)
            )
        return found

    def _noticed(self, counts) -> list[str]:
        """Return the most frequent words that the model notices."""
        often = Counter(word for words in self.words for word in words)
        ranked = sorted(often, key=lambda word: (-often[word], word))
        ranked = ranked[: 4 * MAX_AUTOMATIC]
        first: dict[str, int] = {}
        for i, words in enumerate(self.words):
            for word in words:
                first.setdefault(word, i)
        before = [self.samples[first[word]] for word in ranked]
        after = [
            without(text, frozenset([word]))
            for text, word in zip(before, ranked, strict=True)
        ]
        seen = counts(before, after)
        return [w for w, told in zip(ranked, seen, strict=True) if told][:MAX_AUTOMATIC]

    def batch(self, rows) -> Batch:
        """Return some texts, and the words of each."""
        return Batch(self.samples[rows], self.words[rows])

    def changed(self, batch: Batch, subset, amount=None) -> list[Variant]:
        """Return the texts that hold words of the groups at `subset`, without them."""
        if amount is not None:
            raise ValueError("A sweep needs a strength. Words are there or are not.")
        texts = list(batch.inputs)
        for name in (self.names[j] for j in subset):
            if callable(self.actions[name]):
                texts = list(self.actions[name](list(texts)))
        gone = [self.actions[self.names[j]] for j in subset]
        words = frozenset().union(*(g for g in gone if not callable(g)))
        touched = [
            i
            for i, text in enumerate(texts)
            if text != batch.inputs[i] or not words.isdisjoint(batch.values[i])
        ]
        rows: NDArray[np.int64] = np.array(touched, dtype=np.int64)
        return [Variant([without(texts[i], words) for i in touched], rows)]


def without(text: str, words: frozenset[str]) -> str:
    """Remove words from a text.

    Examples
    --------
    >>> without("The cat saw the catalogue.", frozenset(["the", "cat"]))
    '  saw  catalogue.'
    """
    if not words:
        return text
    return WORD.sub(lambda m: "" if m[0].casefold() in words else m[0], text)
