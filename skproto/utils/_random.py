"""The source of randomness behind a `random_state` parameter."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state


def random_source(random_state) -> np.random.RandomState:
    """Return the generator that a `random_state` parameter stands for.

    As :func:`sklearn.utils.check_random_state`, but None is a new generator seeded by
    the operating system: the global one of numpy is left as it was found.

    Parameters
    ----------
    random_state : int, RandomState instance or None
        What the user passed.

    Returns
    -------
    generator : numpy.random.RandomState
        A RandomState instance is returned as it is.
    """
    if random_state is None:
        return np.random.RandomState()
    return check_random_state(random_state)
