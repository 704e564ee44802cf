"""How numbers are worded: one place for text, HTML and pictures."""

from __future__ import annotations

import math
from typing import Any

NOTHING = 1e-12  # contributions below are none


def number(value: Any, digits: int = 3) -> str:
    """Format with `digits` significant digits, without exponent where readable.

    Examples
    --------
    >>> number(17.23), number(1001.4), number(0.052631), number(3.0), number(2.5e-7)
    ('17.2', '1001', '0.0526', '3', '2.50e-07')
    """
    value = float(value)
    if math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "infinite" if value > 0 else "-infinite"
    if value == round(value) and abs(value) < 1e6:
        return str(int(value))
    power = math.floor(math.log10(abs(value)))
    if -4 <= power < 6:
        return f"{value:.{max(0, digits - 1 - power)}f}"
    return f"{value:.{digits - 1}e}"


def signed(value: Any) -> str:
    """Format a contribution: sign, two significant digits below 1, else three.

    Examples
    --------
    >>> signed(3.05), signed(-0.0421), signed(7e-227)
    ('+3.05', '-0.042', '+0')
    """
    value = float(value)
    if abs(value) < NOTHING:
        return "+0"
    sign = "-" if value < 0 else "+"
    return sign + number(abs(value), 2 if abs(value) < 1 else 3)


def probability(value: Any) -> str:
    """Format a probability with two decimals that never round up to certainty.

    Examples
    --------
    >>> probability(0.934), probability(0.9997), probability(1.0), probability(0.001)
    ('0.93', '>0.99', '1.00', '<0.01')
    """
    value = float(value)
    if 0.995 <= value < 1.0:
        return ">0.99"
    if 0.0 < value < 0.005:
        return "<0.01"
    return f"{value:.2f}"


def percent(value: Any) -> str:
    """Format a share of the data in whole per cent; a little is not nothing."""
    return "<1%" if 0 < float(value) < 0.005 else f"{float(value):.0%}"


def similarity(value: Any) -> str:
    """Format a similarity with two significant digits, tiny ones as such."""
    return "<0.001" if 0 < float(value) < 0.001 else number(value, 2)


def together(*values: Any) -> list[str]:
    """Format numbers side by side with as many digits as tell them apart."""
    floats = [float(value) for value in values]
    distinct = len({float(f"{value:.6g}") for value in floats})
    texts = [number(value) for value in floats]
    for digits in range(4, 8):
        if len(set(texts)) >= distinct:
            break
        texts = [number(value, digits) for value in floats]
    return texts
