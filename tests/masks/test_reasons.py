"""Reasons: named, explained and collected in one fixed order."""

from __future__ import annotations

import numpy as np

from dpmo_cli.masks import reasons


def test_collects_in_the_order_of_the_table() -> None:
    flags = {
        reasons.TINY: np.array([True, False, True]),
        reasons.LOW_SCORE: np.array([True, False, False]),
    }
    assert reasons.collect(3, flags) == [["low_score", "tiny"], [], ["tiny"]]
    assert reasons.collect(0, {}) == []


def test_every_reason_is_explained_once() -> None:
    names = [
        value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)
    ]
    assert sorted(names) == sorted(reasons.REASONS)
    assert len(set(reasons.REASONS.values())) == len(names)
