"""The state of a fitted estimator that edits change: read, restored, compared, hashed.

A state is a nested dict of plain things: ``{"config": ..., "module": {name: array},
"attributes": {name: value}}``; a family may add its own keys. Values are never changed
in place, so that a state may share them with the estimator.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

# Fitted attributes that tell of the fit and that no edit changes.
NOT_STATE = frozenset({"net_", "history_", "n_iter_"})

# Stands for a key that a state does not have.
Path = tuple[str, ...]


def read_state(model: Any, extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the state of an estimator that has one module.

    Parameters
    ----------
    model : estimator
        Fitted.

    extra : tuple of str
        Private attributes that belong to the state.

    Returns
    -------
    state : dict
        "config" and "module" (arrays that are copies) and "attributes".
    """
    module = model._module
    arrays = {
        name: value.detach().cpu().numpy().copy()
        for name, value in module.state_dict().items()
    }
    return {
        "config": copy.deepcopy(module.config),
        "module": arrays,
        "attributes": read_attributes(model, extra),
    }


def read_attributes(model: Any, extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the fitted attributes of an estimator, without nets and histories."""
    wanted = {"_edit_state", *extra}
    return {
        name: value
        for name, value in vars(model).items()
        if name in wanted
        or (name.endswith("_") and name[0] != "_" and name not in NOT_STATE)
    }


def restore_state(model: Any, state: Mapping[str, Any], extra=()) -> None:
    """Put an estimator that has one module into a state that was read off it."""
    now = read_state(model, extra)
    same_module = same(now["config"], state["config"]) and same(
        now["module"], state["module"]
    )
    restore_attributes(model, state["attributes"], extra)
    if not same_module:
        module = build_module(model, state["config"], state["module"])
        model.net_ = model._make_prediction_net(module)


def restore_attributes(model: Any, attributes: Mapping[str, Any], extra=()) -> None:
    """Set fitted attributes and take away those that were not there."""
    for name in read_attributes(model, extra).keys() - attributes.keys():
        delattr(model, name)
    for name, value in attributes.items():
        setattr(model, name, value)


def build_module(model: Any, config: Mapping[str, Any], arrays: Mapping[str, Any]):
    """Return a module of the class, the sizes and the arrays given.

    Parameters
    ----------
    model : estimator
        Its present module lends a copy of its encoder, and of what else its class names
        in `shared_parts`.

    config : mapping
        Arguments of the constructor of the module.

    arrays : mapping of str to ndarray
        All its parameters and buffers.
    """
    old = model._module
    names = getattr(type(old), "shared_parts", ("encoder",))
    parts = {name: copy.deepcopy(getattr(old, name)) for name in names}
    module = type(old)(**config, **parts)
    module.load_state_dict({k: torch.as_tensor(v) for k, v in arrays.items()})
    return module.to(old.prototypes).eval()


def resized_module(model: Any, config: Mapping[str, Any], changes: Mapping[str, Any]):
    """Return the module with other sizes and some other arrays; the rest stays."""
    old = model._module
    arrays = {k: v.detach().cpu() for k, v in old.state_dict().items()}
    arrays.update(changes)
    return build_module(model, {**old.config, **config}, arrays)


# -- comparing -------------------------------------------------------------------------


def same(a: Any, b: Any) -> bool:
    """Tell whether two values are the same, arrays to the last bit."""
    if a is b:
        return True
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return _same_arrays(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, (str, bool, int, float, np.generic)):
        return bool(a == b) or (a != a and b != b)
    return False


def _same_arrays(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype == object:
        return all(x == y for x, y in zip(a.flat, b.flat, strict=True))
    return a.tobytes() == b.tobytes()


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return what leads from a state to another: "set" and "unset" of paths.

    Examples
    --------
    >>> from skproto._editing._state import difference
    >>> difference({"a": 1, "b": {"c": 2}}, {"b": {"c": 3}})
    {'set': [[['b', 'c'], 3]], 'unset': [['a']]}
    """
    before, after = dict(_leaves(old)), dict(_leaves(new))
    changed = [
        [list(path), value]
        for path, value in after.items()
        if path not in before or not same(before[path], value)
    ]
    return {"set": changed, "unset": [list(p) for p in before if p not in after]}


def apply_difference(state: Mapping[str, Any], change: Mapping[str, Any]):
    """Return a state with what :func:`difference` found put into it."""
    leaves = dict(_leaves(state))
    for path in change["unset"]:
        leaves.pop(tuple(path), None)
    leaves.update({tuple(path): value for path, value in change["set"]})
    result: dict[str, Any] = {key: {} for key, v in state.items() if v == {}}
    for path, value in leaves.items():
        here = result
        for key in path[:-1]:
            here = here.setdefault(key, {})
        here[path[-1]] = value
    return result


def _leaves(state: Mapping[str, Any], depth: int = 2) -> Iterator[tuple[Path, Any]]:
    """Yield the entries of a state two levels deep, deeper where "members" nest."""
    for key, value in state.items():
        if isinstance(value, dict) and depth > 1:
            step = 3 if key == "members" else depth - 1
            for path, leaf in _leaves(value, step):
                yield (key, *path), leaf
        else:
            yield (key,), value


# -- hashing ---------------------------------------------------------------------------


def state_hash(state: Mapping[str, Any]) -> str:
    """Return a SHA-256 of a state; parts that are not plain are left out."""
    digest = hashlib.sha256()
    _update(digest, state)
    return digest.hexdigest()


def value_hash(*values: Any) -> str:
    """Return a SHA-256 of arrays, numbers, text and lists of these."""
    return state_hash({str(i): value for i, value in enumerate(values)})


def _update(digest: Any, value: Any) -> None:
    if isinstance(value, np.ndarray) and value.dtype != object:
        array = np.ascontiguousarray(value)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            digest.update(f"{{{key}:".encode())
            _update(digest, value[key])
    elif isinstance(value, (list, tuple)):
        digest.update(f"[{len(value)}".encode())
        for entry in value:
            _update(digest, entry)
    elif isinstance(value, np.ndarray):
        digest.update(json.dumps(value.tolist(), default=str).encode())
    elif value is None or isinstance(value, (str, bool, int, float, np.generic)):
        digest.update(repr(value).encode())
