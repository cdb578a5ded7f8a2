"""What counts as a number in a policy: Structs are not checked when they are built in Python, only when read. Pure."""

from __future__ import annotations

import math


def is_number(value: object) -> bool:
    """Whether it is a finite int or float; a bool is none, though Python counts it among the ints."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: object) -> bool:
    """Whether it is a whole number from 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
