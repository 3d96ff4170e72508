"""Points as hypothesis draws them: crowded, on borders, outside, repeated, and not numbers."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from dpmo_cli.geometry.points import FloatArray

Crowd = tuple[FloatArray, tuple[int, int]]
"""Points (N, 2) px and the image's height and width."""


@st.composite
def crowds(draw: st.DrawFn, *, longest_px: int = 40, most: int = 30, finite: bool = False) -> Crowd:
    """Points in and around an image, many of them sharing pixels, on a grid of eighths of a px."""
    height, width = draw(st.integers(1, longest_px)), draw(st.integers(1, longest_px))
    count = draw(st.integers(0, most))
    margin = draw(st.sampled_from([0, 0, 2]))
    eighths = st.integers(-8 * margin, 8 * (max(height, width) + margin))
    grid = draw(hnp.arrays(np.int64, (count, 2), elements=eighths))
    # Folded into the image unless some are to lie outside it.
    span = np.array([8 * width, 8 * height])
    points = (grid % span if margin == 0 else grid) / 8
    if not finite and count:
        for index, value in draw(
            st.lists(
                st.tuples(
                    st.integers(0, 2 * count - 1),
                    st.sampled_from([np.nan, np.inf, -np.inf, -0.0, 1e200, -1e16]),
                ),
                max_size=3,
            )
        ):
            points.reshape(-1)[index] = value
    return points, (height, width)


def shuffled(count: int, seed: int) -> NDArray[np.int64]:
    """A permutation of `count` indices, (count,)."""
    return np.random.default_rng(seed).permutation(count)
