"""What people look like: skin, hair, hats, fabrics; and the paints that put it on solids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.camera import Array, linear, noise_at
from examples.solids import Keep, Paint


def _palette(names: str) -> Array:
    """Parse six-digit display colours into (n, 3)."""
    channels = [[int(name[i : i + 2], 16) / 255 for i in (0, 2, 4)] for name in names.split()]
    return np.array(channels, np.float32)


SKINS = _palette("e3bfa8 dab092 cf9d7a bd8560 a8734c 85553a 613c28 45291c")
HAIRS = _palette("120f0e 1d1613 2c1f18 432c1d 6a4526 9b7443 c9a669 7e7b78 c8c4bf")
HAIR_ODDS = np.cumsum((0.27, 0.22, 0.17, 0.12, 0.07, 0.05, 0.03, 0.04))
DARKS = _palette("14161b 1f2430 2b2b2e 3a3d42 23324d 3b2f2a 2f3b31")
BRIGHTS = _palette(
    "efece6 f7f7f5 d9d6cf b8bcc2 8d929a c0392f a31f2b d9682e e3b23c 4f8a4a 2f6b57 2f7fb5 3f5fb0 "
    "7fb2d6 6b4d8a c65a86 e9a8b6 b59b78 6f5a44 cdd86a"
)
CLOTHS = np.concatenate([BRIGHTS, DARKS])
DENIMS = _palette("2b3d5c 3d5578 5c7799 1c2536 26262a 8a8577 b3a283 4a4a44")
SHOES = np.concatenate([DARKS, _palette("e8e6e1 8c8c8c a33a2f")])

SOLID, HOOPS, STRIPES, CHECK, PRINT, BLOCK, JACKET = range(7)
PATTERN_ODDS = np.cumsum((0.17, 0.1, 0.17, 0.26, 0.1))


def _tints(rng: np.random.Generator, palettes: list[Array]) -> Array:
    """One uneven, slightly faded colour out of each palette, linear, (n, 3)."""
    n = len(palettes)
    pick, fade, value = rng.random((3, n, 1))
    srgb = np.stack([p[int(r * len(p))] for p, r in zip(palettes, pick[:, 0], strict=True)])
    srgb = srgb + (srgb.mean(axis=1, keepdims=True) - srgb) * (0.05 + 0.35 * fade)
    srgb = srgb * (0.85 + 0.25 * value) + rng.normal(0, 0.015, (n, 3))
    return linear(np.clip(srgb, 0.01, 0.93))


@dataclass(frozen=True)
class Fabric:
    """A cloth with a pattern, a weave and folds.

    Attributes:
        pattern: one of SOLID, HOOPS, STRIPES, CHECK, and, on a torso only, PRINT, BLOCK, JACKET.
        colours: (2, 3) ground and pattern, linear.
        repeats: how often the pattern comes along a trunk.
        offset: (2,) where in the noise this cloth lies.
        folds: depth of the folds, 0..1.
    """

    pattern: int
    colours: Array
    repeats: float
    offset: tuple[float, float]
    folds: float

    def on_torso(self) -> Paint:
        """Paint a torso: the only place where a print or an open jacket shows."""
        return lambda surface: self._cloth(surface[:, 0], surface[:, 1], self.pattern)

    def on_tube(self) -> Paint:
        """Paint a limb, a sleeve, a skirt."""
        pattern = self.pattern if self.pattern < PRINT else SOLID
        return lambda surface: self._cloth(surface[:, 0], surface[:, 1] * 0.6, pattern)

    def on_ball(self) -> Paint:
        """Paint an ellipsoid."""
        pattern = self.pattern if self.pattern < PRINT else SOLID

        def paint(local: Array) -> Array:
            turn = np.arctan2(local[:, 0], local[:, 2])
            return self._cloth(turn, 0.5 + local[:, 1] * 0.4, pattern)

        return paint

    def _cloth(self, turn: Array, along: Array, pattern: int) -> Array:
        phase = along * np.float32(self.repeats)
        around = turn * np.float32(self.repeats / 2.5)
        if pattern == HOOPS:
            mix = (phase % 1 < 0.45).astype(np.float32)
        elif pattern == STRIPES:
            mix = (around % 1 < 0.4).astype(np.float32)
        elif pattern == CHECK:
            mix = ((phase % 1 < 0.5) * 0.5 + (around % 1 < 0.5) * 0.5).astype(np.float32)
        elif pattern == PRINT:
            spot = (np.abs(turn) < 0.75) & (np.abs(along - 0.62) < 0.16)
            grain = noise_at(turn * 30 + self.offset[1], along * 70 + self.offset[0])
            mix = (spot & (grain > -0.2)).astype(np.float32)
        elif pattern == BLOCK:
            mix = (along > 0.66).astype(np.float32)
        elif pattern == JACKET:
            mix = (np.abs(turn) < 0.12 + 0.4 * along * along).astype(np.float32)
        else:
            mix = np.zeros_like(turn)
        u, v = turn * 11 + self.offset[0], along * 26 + self.offset[1]
        # The difference of two looks at the same noise is light on one flank of every fold.
        s, t = u * 0.8 + v * 0.45, v * 0.6 - u * 0.2
        fold = (noise_at(s, t) - 0.75 * noise_at(s + 1.2, t + 0.9)) * np.float32(0.2 * self.folds)
        weave = noise_at(u * 9, v * 9, 1) * np.float32(0.035)
        ground, other = self.colours
        colour = ground + (other - ground) * mix[:, None]
        return np.asarray(colour * np.maximum(1 + fold + weave, 0.25)[:, None], np.float32)


@dataclass(frozen=True)
class Look:
    """All of a person that does not depend on where and how they stand.

    Attributes:
        height_m, girth: body height, and width relative to the average.
        skin, hair: linear colours.
        hair_volume: size of the hair relative to the skull.
        long_hair, bald, beard: how the hair falls.
        face_wear: "", "glasses" or "mask".
        hat: "", "cap", "beanie", "brim", "scarf" or "helmet".
        top, bottom, hat_cloth: fabrics.
        legs: "trousers", "shorts", "skirt" or "coat".
        sleeves: share of the arm that is covered.
        bag: "", "backpack", "shoulder" or "hand".
        shoes: linear colour.
    """

    height_m: float
    girth: float
    skin: Array
    hair: Array
    hair_volume: float
    long_hair: bool
    bald: bool
    beard: bool
    face_wear: str
    hat: str
    top: Fabric
    bottom: Fabric
    hat_cloth: Fabric
    bag_cloth: Fabric
    legs: str
    sleeves: float
    bag: str
    shoes: Array


def _fabric(rng: np.random.Generator, colours: Array, plain: float, folds: float) -> Fabric:
    chance, pattern, repeats, u, v = rng.random(5)
    kind = SOLID if chance < plain else 1 + int(np.searchsorted(PATTERN_ODDS, pattern))
    return Fabric(kind, colours, 4 + 7 * float(repeats), (256 * float(u), 256 * float(v)), folds)


def _pick(rng: np.random.Generator, names: str, *odds: float) -> str:
    """Choose one of the words, or "" with what remains of the odds."""
    roll, words = rng.random(), names.split()
    for word, limit in zip(words, np.cumsum(odds), strict=True):
        if roll < limit:
            return word
    return ""


def random_look(rng: np.random.Generator, cold: float = 0.3, dark: float = 0.45) -> Look:
    """Draw a look.

    Args:
        rng: source of chance.
        cold: 0 for a summer's day, 1 for winter: coats, sleeves, beanies.
        dark: share of dark tops.
    """
    child = rng.random() < 0.06
    height_m = rng.uniform(1.05, 1.4) if child else np.clip(rng.normal(1.69, 0.085), 1.48, 1.96)
    hat = _pick(
        rng, "cap beanie brim scarf helmet", 0.11, 0.03 + 0.2 * cold, 0.06 * (1 - cold), 0.04, 0.01
    )
    legs = _pick(rng, "coat shorts skirt", 0.45 * cold, 0.25 * (1 - cold), 0.15 * (1 - cold))
    long_hair = bool(rng.random() < 0.36)
    tops, hats, bags = (
        DARKS if roll < share else BRIGHTS
        for roll, share in zip(rng.random(3), (dark, 0.4, 0.5), strict=True)
    )
    hairs = HAIRS[int(np.searchsorted(HAIR_ODDS, rng.random()))][None]
    tints = _tints(
        rng, [SKINS, hairs, SHOES, tops, CLOTHS, DENIMS, CLOTHS, hats, CLOTHS, bags, CLOTHS]
    )
    return Look(
        height_m=float(height_m),
        girth=float(np.clip(rng.normal(1.0, 0.11), 0.8, 1.35)),
        skin=tints[0],
        hair=tints[1],
        shoes=tints[2],
        hair_volume=float(1.05 + rng.exponential(0.05)),
        long_hair=long_hair,
        bald=bool(not long_hair and rng.random() < 0.08),
        beard=bool(not long_hair and not child and rng.random() < 0.22),
        face_wear=_pick(rng, "glasses mask", 0.16, 0.07),
        hat=hat,
        top=_fabric(rng, tints[3:5], 0.55, 1.0 + cold),
        bottom=_fabric(rng, tints[5:7], 0.93, 1.2),
        hat_cloth=_fabric(rng, tints[7:9], 0.8, 0.5),
        bag_cloth=_fabric(rng, tints[9:11], 0.8, 0.7),
        legs=legs or "trousers",
        sleeves=float(1.0 if rng.random() < 0.3 + 0.7 * cold else rng.uniform(0.22, 0.5)),
        bag=_pick(rng, "backpack shoulder hand", 0.15, 0.12, 0.08),
    )


def plain(colour: Array, grain: float = 0.06) -> Paint:
    """Paint one slightly uneven colour on anything."""

    def paint(surface: Array) -> Array:
        u, v = surface[:, 0] * 23 + colour[0] * 900, surface[:, 1] * 23 + colour[2] * 900
        return np.asarray(colour * (1 + grain * noise_at(u, v))[:, None], np.float32)

    return paint


def hair_paint(look: Look) -> Paint:
    """Paint strands and a soft sheen on a unit sphere's hair."""

    def paint(local: Array) -> Array:
        turn = np.arctan2(local[:, 0], -local[:, 2] + 0.3)
        strands = noise_at(turn * 60 + look.top.offset[0], local[:, 1] * 9)
        sheen = np.exp(-(((local[:, 1] - 0.62) / 0.2) ** 2)) * 0.35
        return np.asarray(look.hair * (1 + 0.28 * strands + sheen)[:, None] + 0.002, np.float32)

    return paint


def face_paint(look: Look) -> Paint:
    """Paint skin with eyes, brows, mouth, and what is worn on the face; +z of the head is front."""
    wear, offset = look.face_wear, look.top.offset

    def paint(local: Array) -> Array:
        a, b, c = local[:, 0], local[:, 1], local[:, 2]
        blotch = noise_at(a * 20 + offset[0], b * 20 + offset[1])
        throat = (b < -0.72).astype(np.float32)
        colour = look.skin * (1 + 0.05 * blotch - 0.12 * throat)[:, None]
        front, side = c > 0.1, np.abs(a)

        def put(where: NDArray[np.bool_], tint: Array, amount: float) -> None:
            colour[where] += (tint - colour[where]) * np.float32(amount)

        dark = np.full(3, 0.02, np.float32)
        sockets = front & (((side - 0.36) / 0.25) ** 2 + ((b - 0.05) / 0.14) ** 2 < 1)
        put(sockets, look.skin * 0.35, 0.6)
        put(front & (((side - 0.36) / 0.15) ** 2 + ((b - 0.03) / 0.07) ** 2 < 1), dark, 0.85)
        put(front & (np.abs(side - 0.36) < 0.2) & (np.abs(b - 0.22) < 0.045), look.hair, 0.75)
        lips = look.skin * np.array([0.72, 0.4, 0.4], np.float32)
        put(front & ((a / 0.27) ** 2 + ((b + 0.52) / 0.075) ** 2 < 1), lips, 0.8)
        put(front & (side < 0.16) & (np.abs(b + 0.22) < 0.05), look.skin * 0.45, 0.7)
        if look.beard:
            jaw = (c > -0.05) & (b < -0.3) & ~(front & (side < 0.28) & (np.abs(b + 0.5) < 0.09))
            put(jaw, look.hair, 0.85)
        if wear == "mask":
            put(front & (b < -0.08) & (b > -0.85) & (side < 0.8), look.hat_cloth.colours[0], 0.95)
        elif wear == "glasses":
            put(front & (((side - 0.37) / 0.3) ** 2 + ((b - 0.03) / 0.19) ** 2 < 1), dark, 0.92)
            put((c > -0.1) & (np.abs(b - 0.08) < 0.04), dark, 0.9)
        return colour

    return paint


def hairline(look: Look) -> Keep:
    """Keep the part of a unit sphere that hair covers: not the face, not below the nape."""
    fringe, nape = (0.56 if look.long_hair else 0.45), (-0.75 if look.long_hair else -0.3)

    def keep(local: Array) -> NDArray[np.bool_]:
        a, b, c = local[:, 0], local[:, 1], local[:, 2]
        wave = 0.06 * np.sin(a * 7 + look.top.offset[0])
        face = (c > 0.05) & (np.abs(a) < 0.86) & (b < fringe + wave)
        beside = (b < nape) | ((c > 0.25) & (b < fringe + wave))
        return np.asarray(~(face | beside))

    return keep


def above(limit: float) -> Keep:
    """Keep the part of a unit sphere above a height."""
    return lambda local: np.asarray(local[:, 1] > limit)


def round_face(local: Array) -> NDArray[np.bool_]:
    """Keep all but an oval opening for the face, as of a headscarf or a hood."""
    opening = (local[:, 0] / 0.68) ** 2 + ((local[:, 1] + 0.08) / 0.72) ** 2 < 1
    return np.asarray(~(opening & (local[:, 2] > 0)))
