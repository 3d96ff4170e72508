"""What the policy is trained on: located points, their candidates, and what each would earn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from dpmo_cli.evaluation.truth import TruthScene, discs_at_points
from dpmo_cli.geometry.extents import HEAD, IN_DISC
from dpmo_cli.geometry.nnec import disc_mask, disc_windows
from dpmo_cli.geometry.points import FloatArray, IntArray, Sites, group_points
from dpmo_cli.geometry.windows import Windows
from dpmo_cli.masks.method import Method
from dpmo_cli.masks.prompting import clipped
from dpmo_cli.rps.asking import Asked
from dpmo_cli.rps.candidates import COUNT, Candidates, ask_candidates
from dpmo_cli.sam.engine import PromptEngine

COVERS_OTHER = 0.1
"""What a mask over another person's point costs."""
FALSE_KEPT = 0.5
"""What a mask for nobody costs."""
FAR_OF_DISC = 1.0
"""A located point means a person no further away than this many radii of the person's disc."""


@dataclass(frozen=True)
class States:
    """n located points.

    Attributes:
        features: (n, K, F) float32; embedding: (n, K, C) float32, as of `Candidates`.
        scores: (n, K) float32, the score by which `masks.choice` ranks.
        ious: (n, K) float32 of each candidate's mask with the person's; 0 for nobody's point.
        rewards: (n, K) float32: the IoU, less what covering another's point costs; what a mask
            for nobody costs.
        meant: (n,) bool, whether the point means a person.
        located: (n,) float64 logits of the localiser.
    """

    features: NDArray[np.float32]
    embedding: NDArray[np.float32]
    scores: NDArray[np.float32]
    ious: NDArray[np.float32]
    rewards: NDArray[np.float32]
    meant: NDArray[np.bool_]
    located: FloatArray

    def __len__(self) -> int:
        return len(self.meant)


def join_states(parts: Iterable[States]) -> States:
    """One after the other; at least one of them has a point."""
    # Where nobody was located nothing was encoded, and the embedding has no channels.
    columns = zip(*(vars(part).values() for part in parts if len(part)), strict=True)
    return States(*(np.concatenate(column) for column in columns))


def match_persons(points_xy: FloatArray, scene: TruthScene) -> IntArray:
    """The person that each located point means: (N,) int64 index of its own point, -1 for none.

    As many pairs as can be had of points and persons at most a radius apart, of these the ones
    that are nearest together.
    """
    found = np.full(len(points_xy), -1, dtype=np.int64)
    sites, radii = discs_at_points(scene)
    reach = FAR_OF_DISC * radii[sites.site_of_point]
    if not len(points_xy) or not len(reach):
        return found
    away = np.hypot(*(points_xy[:, None] - scene.points_xy[None]).transpose(2, 0, 1))
    parts = away / reach
    # Dearer than any number of pairs in reach.
    cost = np.where(parts <= 1, parts, 10.0 * (1 + len(points_xy)))
    rows, columns = linear_sum_assignment(cost)
    paired = parts[rows, columns] <= 1
    found[rows[paired]] = columns[paired]
    return found


def true_labels(scene: TruthScene, extent: str) -> NDArray[np.int32]:
    """(H, W) int32, the truth that an extent means: index of the point plus one, 0 for none.

    For `nnec` and `head` every person is cut by the disc of their own point, at scale 1.
    """
    labels = scene.labels_of_points()
    if extent == HEAD and scene.heads is not None:
        labels = np.where(scene.heads, labels, 0)
    if extent not in IN_DISC:
        return labels
    sites, radii = discs_at_points(scene)
    cut = np.zeros_like(labels)
    windows = disc_windows(sites.xy, radii, scene.size_hw).tolist()
    for point, site in enumerate(sites.site_of_point.tolist()):
        x0, y0, x1, y1 = window = windows[site]
        own = labels[y0:y1, x0:x1] == point + 1
        own &= disc_mask(sites.xy[site], float(radii[site]), window)
        cut[y0:y1, x0:x1][own] = point + 1
    return cut


def states_of(
    scene: TruthScene,
    points_xy: FloatArray,
    engine: PromptEngine,
    method: Method,
    located: FloatArray | None = None,
) -> tuple[States, Candidates]:
    """Ask about all candidates of a scene's located points and see what each would earn.

    Args:
        scene: with true masks.
        points_xy: (N, 2) float64 located points, px, inside the image, no two in one pixel.
        engine: the network.
        method: the choices of the method.
        located: (N,) float64 logits of the localiser; zeros where there was none.

    Returns:
        The states of the candidates' sites, in their order.
    """
    judge = _Judge(scene, group_points(points_xy, scene.size_hw), method)
    candidates = ask_candidates(scene.image, points_xy, engine, method, judge.watch)
    states = States(
        candidates.features,
        candidates.embedding,
        candidates.scores,
        judge.ious,
        judge.rewards,
        judge.person >= 0,
        np.zeros(len(points_xy)) if located is None else located[candidates.sites.point_of_site],
    )
    return states, candidates


class _Judge:
    """Turns the answers to candidates into masks and compares these with the truth."""

    def __init__(self, scene: TruthScene, sites: Sites, method: Method) -> None:
        self.method = method
        self.labels = true_labels(scene, method.extent)
        self.areas = np.bincount(self.labels.ravel(), minlength=len(scene.points_xy) + 1)
        self.person = match_persons(sites.xy, scene)
        self.others = np.zeros(scene.size_hw, dtype=np.int32)
        true_sites = group_points(scene.points_xy, scene.size_hw)
        x, y = true_sites.pixel_xy.T
        self.others[y, x] = true_sites.point_of_site + 1
        self.ious = np.zeros((len(sites), COUNT), dtype=np.float32)
        self.rewards = np.full((len(sites), COUNT), -FALSE_KEPT, dtype=np.float32)

    def watch(self, asked: Asked) -> None:
        """Judge the candidates of a few sites."""
        for site, radius_px, positions_xy, logits, corner in zip(
            asked.sites.tolist(), asked.radii_px.tolist(), asked.positions_xy, asked.logits,
            asked.corners.tolist(), strict=True,
        ):  # fmt: skip
            person = int(self.person[site]) + 1
            if not person:
                continue
            for index, (xy, candidate) in enumerate(zip(positions_xy, logits, strict=True)):
                iou, covers = self._judge(asked, xy, radius_px, candidate, corner, person)
                self.ious[site, index] = iou
                self.rewards[site, index] = iou - COVERS_OTHER * covers

    def _judge(
        self,
        asked: Asked,
        xy: FloatArray,
        radius_px: float,
        logits: NDArray[np.float32],
        corner: tuple[int, int],
        person: int,
    ) -> tuple[float, bool]:
        """IoU of a candidate's mask with a person, and whether it covers another's point."""
        size_hw = (self.labels.shape[0], self.labels.shape[1])
        x0, y0, x1, y1 = asked.tile.window_xyxy
        window = asked.tile.window_xyxy
        if self.method.extent in IN_DISC:
            reach = disc_windows(xy[None], np.array([radius_px]), size_hw)[0].tolist()
            # A candidate near the tile's border may reach out of it.
            window = max(reach[0], x0), max(reach[1], y0), min(reach[2], x1), min(reach[3], y1)
        left, top, right, bottom = window
        inside = (left - x0, top - y0, right - x0, bottom - y0)
        values = asked.frame.window_logits(logits, inside, corner)
        # As sites do, a point in the last half of a pixel holds the image's last pixel.
        column, row = np.minimum(np.rint(xy).astype(int), (size_hw[1] - 1, size_hw[0] - 1)).tolist()
        own = column - left, row - top
        if not (0 <= own[0] < right - left and 0 <= own[1] < bottom - top):
            return 0.0, False
        windows = Windows(np.array([window]))
        squares = windows.squared_distances(xy[None])
        radii, pixels = np.array([radius_px]), np.array([own])
        (mask,) = clipped(values[None], squares, radii, pixels, windows, self.method)
        if not mask.any():
            return 0.0, False
        labels = self.labels[top:bottom, left:right][mask]
        common = int((labels == person).sum())
        points = self.others[top:bottom, left:right][mask]
        iou = common / (int(mask.sum()) + int(self.areas[person]) - common)
        return iou, bool(((points > 0) & (points != person)).any())
