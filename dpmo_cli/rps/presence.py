"""Presence: how likely a located point is somebody's, and how many of an image's points stay."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpmo_cli.geometry.points import FloatArray

WIDTH = 16
EMBEDDED_WIDTH = 8
DROPOUT = 0.2
SURE_LOGIT = 3.0
"""The localiser's logits are about so large."""


class Presence(nn.Module):
    """A small network over the candidates of one point and what the localiser says of it.

    Args:
        features, channels: of a candidate, and of its image embedding; both come normalised.
    """

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        # People in a photo for each of whom the chances tell: some have no point. 0 before a fit.
        self.register_buffer("people", torch.zeros(()))
        self.look = nn.Linear(channels, EMBEDDED_WIDTH)
        self.each = nn.Sequential(
            nn.Linear(features + EMBEDDED_WIDTH, WIDTH),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(WIDTH, WIDTH),
            nn.ReLU(),
        )
        self.all = nn.Sequential(
            nn.Dropout(DROPOUT), nn.Linear(2 * WIDTH + 1, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)
        )
        self.located = nn.Linear(1, 1)

    def forward(self, features: Tensor, embedding: Tensor, located: Tensor) -> Tensor:
        """Logits that n points are somebody's: (n,).

        Args:
            features: (n, K, F) float32.
            embedding: (n, K, C) float32.
            located: (n,) float32 logits of the localiser.
        """
        told = located[:, None] / SURE_LOGIT
        each = self.each(torch.cat([features, self.look(embedding)], dim=2))
        shared = torch.cat([each.mean(dim=1), each.amax(dim=1), told], dim=1)
        logits: Tensor = (self.all(shared) + self.located(told))[:, 0]
        return logits

    @property
    def is_fitted(self) -> bool:
        """Whether it has learnt, as by `dpmo train rejection`."""
        return float(self.get_buffer("people")) > 0

    def keeps(self, chances: FloatArray) -> NDArray[np.bool_]:
        """Which of an image's n points stay: the likeliest, as many as there are people.

        Chances add up to people where none of them is sure, too: a level for each point alone
        counts worse.

        Args:
            chances: (n,) that each is somebody's.
        """
        # The exact sum, whatever the order of the points.
        people = round(float(self.get_buffer("people")) * math.fsum(chances.tolist()))
        if not people:
            return np.zeros(len(chances), dtype=np.bool_)
        kept: NDArray[np.bool_] = chances >= np.sort(chances)[-min(people, len(chances))]
        return kept
