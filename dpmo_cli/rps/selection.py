"""Selection: which candidate each located point is prompted at, and which points are dropped."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.geometry.points import FloatArray, IntArray, Sites
from dpmo_cli.masks.method import Method
from dpmo_cli.rps.candidates import Candidates, ask_candidates, recentre
from dpmo_cli.rps.policy import Policy
from dpmo_cli.sam.engine import PromptEngine

RPS, RANK, HEAD, SCORE, FIRST = "rps", "rank", "head", "score", "first"
SELECTORS = (RPS, RANK, HEAD, SCORE, FIRST)
"""The policy trained with GRPO, the one trained as a ranker, the middle of the head, the best
score of the choice among masks, and the located point itself."""
WITH_POLICY = (RPS, RANK)


@dataclass(frozen=True)
class Selection:
    """What becomes of N located points.

    Attributes:
        points_xy: (N, 2) float64 px, where each is to be prompted.
        rejected: (N,) bool, points that the policy takes for nobody's.
    """

    points_xy: FloatArray
    rejected: NDArray[np.bool_]


@dataclass(frozen=True)
class Selector:
    """A way to select.

    Attributes:
        name: one of SELECTORS.
        policy: for those of WITH_POLICY.
        reject: whether the policy may reject points.
    """

    name: str
    policy: Policy | None = None
    reject: bool = False

    def select(
        self,
        image: NDArray[np.uint8],
        points_xy: FloatArray,
        engine: PromptEngine,
        method: Method,
        pool: Executor | None = None,
        located: FloatArray | None = None,
    ) -> Selection:
        """Choose a candidate for each point; the result does not depend on their order.

        Args:
            image: (H, W, 3) uint8 RGB.
            points_xy: (N, 2) float64 px; those outside and those that are no numbers stay.
            engine: the network.
            method: the choices of the method.
            pool: threads to ask the network from; None asks from this one.
            located: (N,) float64 logits of our localiser; None where another found the points.
        """
        if self.name == FIRST or not len(points_xy):
            return Selection(points_xy, np.zeros(len(points_xy), dtype=np.bool_))
        if self.name == HEAD:
            sites, asked, found = recentre(image, points_xy, engine, method, pool)
            return _moved(points_xy, sites, asked, found, np.zeros(len(sites), dtype=np.bool_))
        candidates = ask_candidates(image, points_xy, engine, method, pool=pool)
        return moved(points_xy, candidates, *self.actions(candidates, located))

    def actions(
        self, candidates: Candidates, located: FloatArray | None = None
    ) -> tuple[IntArray, NDArray[np.bool_]]:
        """The chosen candidate of each of S sites, and whether the site is rejected instead."""
        asked = candidates.prompted
        chosen = candidates.scores.argmax(axis=1)
        rejected = np.zeros(len(candidates.sites), dtype=np.bool_)
        # Where nothing was asked there is no embedding to look at either.
        if self.policy is not None and asked.any():
            of_sites = None if located is None else located[candidates.sites.point_of_site][asked]
            chosen[asked], rejected[asked] = self.policy.act(
                candidates.features[asked], candidates.embedding[asked], of_sites,
                reject=self.reject,
            )  # fmt: skip
        return chosen, rejected


def moved(
    points_xy: FloatArray,
    candidates: Candidates,
    chosen: IntArray,
    rejected: NDArray[np.bool_],
) -> Selection:
    """Move each point to the chosen candidate of its site; points of one site stay together.

    Args:
        points_xy: (N, 2) float64 px that the candidates are of.
        candidates: of S sites.
        chosen: (S,) int64, which candidate.
        rejected: (S,) bool.
    """
    there = candidates.positions_xy[np.arange(len(chosen)), chosen]
    asked = candidates.prompted & (chosen > 0)
    return _moved(points_xy, candidates.sites, asked, there, rejected)


def _moved(
    points_xy: FloatArray,
    sites: Sites,
    asked: NDArray[np.bool_],
    there_xy: FloatArray,
    rejected: NDArray[np.bool_],
) -> Selection:
    """Move the points of the sites that were asked about to (S, 2) places of theirs."""
    site = sites.site_of_point
    if not len(sites):
        return Selection(points_xy, np.zeros(len(points_xy), dtype=np.bool_))
    moves = (site >= 0) & asked[site]
    return Selection(
        np.where(moves[:, None], there_xy[site], points_xy), rejected[site] & (site >= 0)
    )
