"""Parsed JSON taken apart with types checked: each call returns the value or raises ValueError."""

from __future__ import annotations

from collections.abc import Mapping


def as_object(value: object, name: str) -> Mapping[str, object]:
    """Return a JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no object")
    return value


def as_list(value: object, length: int, name: str) -> list[object]:
    """Return a JSON array of `length` elements."""
    if not isinstance(value, list) or len(value) != length:
        raise ValueError(f"{name} is no list of {length} elements")
    return value


def as_text(value: object, name: str) -> str:
    """Return a JSON string."""
    if not isinstance(value, str):
        raise ValueError(f"{name} is no string")
    return value


def as_int(value: object, name: str) -> int:
    """Return a whole JSON number of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ValueError(f"{name} is no whole number")
    return value


def as_number(value: object, name: str) -> float:
    """Return a JSON number; bounded, as 1e999 is infinite and integers may not fit a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 2**63:
        raise ValueError(f"{name} is no number")
    return float(value)


def as_numbers(value: object, length: int, name: str) -> tuple[float, ...]:
    """Return a JSON array of `length` numbers."""
    return tuple(as_number(one, name) for one in as_list(value, length, name))
