"""Where a person stands and how they hold themselves, in metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from examples.camera import Array
from examples.wardrobe import Look

ADULT_M = 1.72
# Upper arm and forearm: outward, up, forward.
ARMS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "hang": ((0.16, -1, 0.0), (0.05, -1, 0.2)),
    "swing": ((0.14, -1, 0.35), (0.0, -0.9, 0.55)),
    "back": ((0.14, -1, -0.4), (0.05, -1, -0.1)),
    "up": ((0.45, 0.9, 0.15), (0.05, 1, 0.15)),
    "wave": ((0.8, 0.45, 0.1), (0.25, 1, 0.2)),
    "phone": ((0.15, -0.75, 0.55), (-0.3, 0.75, 0.7)),
    "fold": ((0.12, -0.9, 0.4), (-0.9, 0.1, 0.45)),
    "pocket": ((0.35, -1, -0.2), (-0.2, -1, 0.3)),
    "clap": ((0.15, -0.55, 0.8), (-0.45, 0.6, 0.65)),
    "hip": ((0.7, -0.75, -0.2), (-0.75, -0.55, 0.35)),
    "film": ((0.2, 0.35, 0.8), (-0.2, 0.95, 0.5)),
}
CALM = ("hang", "swing", "back", "phone", "fold", "pocket", "hang", "clap", "hip")
LOUD = ("up", "wave", "clap", "film", "up")


@dataclass(frozen=True)
class Person:
    """One person in the world.

    Attributes:
        feet_m: (3,) world position under the body.
        yaw: direction faced, radians; 0 faces the camera, pi away from it.
        head_turn: yaw, nod (down) and tilt of the head relative to the body, radians.
        arms: names of the left and right arm's positions.
        stride: half length of the step, m.
        seated: sits instead of standing.
        look: the outward appearance.
        wobble: (4, 3) small offsets of elbows and hands, parts of the arm's length.
    """

    feet_m: Array
    yaw: float
    head_turn: tuple[float, float, float]
    arms: tuple[str, str]
    stride: float
    seated: bool
    look: Look
    wobble: Array

    @property
    def unit_m(self) -> float:
        """Scale of this body to the one the proportions are written for."""
        return self.look.height_m / ADULT_M

    @property
    def drop_m(self) -> float:
        """How much lower the body sits than it would stand."""
        return 0.42 * self.unit_m if self.seated else 0.0

    @property
    def head_m(self) -> Array:
        """World position of the head's middle, (3,)."""
        return self.feet_m + np.array([0, 1.595 * self.unit_m - self.drop_m, 0], np.float32)


def random_person(
    rng: np.random.Generator, feet_m: Array, yaw: float, look: Look, loud: float, seated: bool
) -> Person:
    """Draw a pose; `loud` is the share of arms that are up."""
    pair = [str(rng.choice(LOUD if rng.random() < loud else CALM)) for _ in range(2)]
    if pair[0] in ("fold", "clap", "up") and rng.random() < 0.75:
        pair[1] = pair[0]
    walking = not seated and rng.random() < 0.5
    turn = rng.normal(0, [0.42, 0.12, 0.07])
    return Person(
        feet_m=feet_m.astype(np.float32),
        yaw=yaw,
        head_turn=(float(turn[0]), float(turn[1] + 0.06), float(turn[2])),
        arms=(pair[0], pair[1]),
        stride=float(rng.uniform(0.1, 0.24)) if walking else float(rng.uniform(0, 0.05)),
        seated=seated,
        look=look,
        wobble=rng.normal(0, 0.15, (4, 3)).astype(np.float32),
    )


def arm_joints(person: Person, side: int) -> list[tuple[float, float, float]]:
    """Shoulder, elbow and hand of one side (-1 or 1)."""
    shoulder = np.array([side * 0.165 * person.look.girth, 1.385, 0.0])
    upper, fore = (np.array(d) for d in ARMS[person.arms[(side + 1) // 2]])
    wobble = person.wobble[(side + 1) : (side + 1) + 2]
    upper, fore = upper + wobble[0], fore + wobble[1]
    out = np.array([side, 1, 1])
    elbow = shoulder + upper / np.linalg.norm(upper) * out * 0.29
    hand = elbow + fore / np.linalg.norm(fore) * out * 0.27
    return [(float(p[0]), float(p[1]), float(p[2])) for p in (shoulder, elbow, hand)]


def leg_joints(person: Person) -> list[list[tuple[float, float, float]]]:
    """Hip, knee and ankle of both sides."""
    chains = []
    for side in (-1, 1):
        step = side * person.stride
        if person.seated:
            chains.append(
                [(side * 0.09, 0.88, 0.0), (side * 0.12, 0.92, 0.42), (side * 0.12, 0.5, 0.45)]
            )
        else:
            knee = (side * 0.095, 0.5, step * 0.5 + 0.04)
            chains.append([(side * 0.08, 0.88, 0.0), knee, (side * 0.085, 0.09, step)])
    return chains
