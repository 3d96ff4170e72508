"""Points for photos that nobody annotated: located, or a file's, then selected."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.datasets.base import Heads
from dpmo_cli.errors import UsageError
from dpmo_cli.masks.method import Method
from dpmo_cli.rps.locator import Locator, load_locator, locate
from dpmo_cli.rps.policy import OFFERED_SCORE, load_policy
from dpmo_cli.rps.selection import SELECTORS, WITH_POLICY, Selector
from dpmo_cli.rps.weights import find_weights
from dpmo_cli.sam.engine import PromptEngine
from dpmo_cli.sam.models import EngineSpec
from dpmo_cli.sam.weights import sha256_of

MIN_SCORE = 0.5
"""A cell above this is a person, as the localiser's loss means it."""
SHORT = 12
"""Digits of a hash that tell weights apart for a person."""


@dataclass(frozen=True)
class Finder:
    """Finds the points of a photo.

    Attributes:
        locator_path: weights of the localiser; None takes the points that the dataset gives.
        device: where it computes.
        min_score: people located with a lower score are left out, 0 to 1, exclusive.
        offered_score: but the selector may take those above this for people too.
        selector: moves the points, and may reject some.
        method: that the masks are made with.
        words: all this in a line that is another for other weights.
        config: the same for the run record.
    """

    locator_path: Path | None
    device: str
    min_score: float
    offered_score: float
    selector: Selector
    method: Method
    words: str
    config: dict[str, object]

    @cached_property
    def _locator(self) -> Locator:
        """Loaded when the first photo needs it."""
        assert self.locator_path is not None
        return load_locator(self.locator_path, self.device)

    def find(
        self,
        image: NDArray[np.uint8],
        heads: Heads,
        engine: PromptEngine,
        pool: Executor | None = None,
    ) -> Heads:
        """Locate the people of a photo, or take the points that are known, and select.

        Args:
            image: (H, W, 3) uint8 RGB.
            heads: what is known of it.
            engine: the network.
            pool: threads to ask it from.
        """
        logits = None
        if self.locator_path is not None:
            threshold = float(np.log(self.offered_score / (1 - self.offered_score)))
            peaks = locate(image, self._locator, threshold=threshold)
            heads, logits = Heads(peaks.points_xy, locator_scores=peaks.scores), peaks.logits
        selection = self.selector.select(image, heads.points_xy, engine, self.method, pool, logits)
        points_xy, rejected = selection.points_xy, selection.rejected
        if heads.locator_scores is not None and logits is not None:
            # Nobody ever took these for people: they need no row.
            stays = ~rejected | (heads.locator_scores > self.min_score)
            heads = replace(heads, locator_scores=heads.locator_scores[stays])
            points_xy, rejected = points_xy[stays], rejected[stays]
        return replace(heads, points_xy=points_xy, rejected=rejected if rejected.any() else None)


def resolve_finder(
    spec: EngineSpec,
    method: Method,
    *,
    selector: str,
    reject: bool,
    min_score: float | None = None,
    points_given: bool = False,
    locator: Path | None = None,
    policy: Path | None = None,
) -> Finder:
    """Find and check the weights that a way of finding points needs.

    Args:
        spec: of the network that makes the masks.
        method: that they are made with.
        selector: one of SELECTORS.
        reject: whether its policy may reject points.
        min_score: people located with a lower score are left out, 0 to 1, exclusive; None is
            MIN_SCORE, and a policy that may reject decides on those a little below it too.
        points_given: whether the points are known, and nothing has to be located.
        locator, policy: the user's own weights; None takes the embedded ones.

    Raises:
        UsageError: an unknown selector, weights that are missing or do not fit, or options that
            do not go together.
    """
    if selector not in SELECTORS:
        raise UsageError(f"--selector {selector}: unknown; use one of {', '.join(SELECTORS)}")
    with_policy = selector in WITH_POLICY
    if not with_policy and (reject or policy is not None):
        option = "--reject" if reject else "--policy"
        raise UsageError(f"{option} needs a policy; use --selector {' or '.join(WITH_POLICY)}")
    if points_given and locator is not None:
        raise UsageError("--points and --locator exclude each other; leave one out")
    chosen, chooser = Selector(selector), f", selector {selector}"
    selects: dict[str, object] = {"selector": selector, "reject": reject}
    if with_policy:
        path = find_weights(selector, policy)
        sha256 = sha256_of(path)
        chosen = Selector(selector, load_policy(path, spec.weights_sha256), reject)
        chooser += f" {sha256[:SHORT]}{', rejects' if reject else ''}"
        selects |= {"policy": str(path), "policy_sha256": sha256}
    least = MIN_SCORE if min_score is None else min_score
    offered = least
    if min_score is None and chosen.policy is not None and reject and chosen.policy.asks_locator:
        offered = OFFERED_SCORE
    locator_path = None
    words, config = "points of a file", dict[str, object]()
    if not points_given:
        locator_path = find_weights("locator", locator)
        sha256 = sha256_of(locator_path)
        words = f"locator {sha256[:SHORT]}, score above {least!r}"
        config = {"locator": str(locator_path), "locator_sha256": sha256, "min_score": least}
    return Finder(
        locator_path,
        spec.device,
        least,
        offered,
        chosen,
        method,
        words + chooser,
        config | selects,
    )
