"""The picture of one person, with exact masks of the body and of the head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from examples.camera import Array, Camera, Light, unit
from examples.poses import Person, arm_joints, leg_joints
from examples.solids import HEAD, Place, Sheet, Sprite
from examples.wardrobe import (
    Fabric,
    above,
    face_paint,
    hair_paint,
    hairline,
    plain,
    round_face,
)

FINE_PX_PER_M = 40.0
"""Below this size hands, shoes, ears and noses are smaller than a pixel or two: left out."""


class _Body:
    """A person's own frame (sideways, up, forward, in units of the average adult) as seen."""

    def __init__(self, person: Person, camera: Camera) -> None:
        s, c = float(np.sin(person.yaw)), float(np.cos(person.yaw))
        self.person, self.camera = person, camera
        self.own = np.array([[c, 0, s], [0, 1, 0], [s, 0, -c]], np.float32)
        self.axes = camera.facing(person.head_m)
        self.view = (self.own @ self.axes.T).astype(np.float32)
        self.origin = person.feet_m - np.array([0, person.drop_m, 0], np.float32)
        self.head = self.places([(0, 1.595, 0.015)])[0]
        self.fine = self.head.scale > FINE_PX_PER_M

    def places(self, points: list[tuple[float, float, float]]) -> list[Place]:
        """Project points of the body."""
        world = self.origin + np.array(points, np.float32) @ self.own * self.person.unit_m
        focal = self.camera.focal_px * self.person.unit_m
        seen = self.camera.project(world)
        return [Place(float(x), float(y), float(z), focal / float(z)) for x, y, z in seen]

    def head_axes(self) -> Array:
        """The head's sideways, up and forward axes in the view's frame, rows."""
        yaw, nod, tilt = self.person.head_turn
        cy, sy, cn, sn = np.cos(yaw), np.sin(yaw), np.cos(nod), np.sin(nod)
        ct, st = np.cos(tilt), np.sin(tilt)
        turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
        bow = np.array([[1, 0, 0], [0, cn, sn], [0, -sn, cn]])
        lean = np.array([[ct, st, 0], [-st, ct, 0], [0, 0, 1]])
        return np.asarray(lean @ bow @ turn @ self.view, np.float32)


def _draw_legs(sheet: Sheet, body: _Body) -> None:
    look, girth = body.person.look, body.person.look.girth
    skin = plain(look.skin)
    for hip, knee, ankle in leg_joints(body.person):
        a, b, c = body.places([hip, knee, ankle])
        bare = look.legs in ("shorts", "skirt")
        shin = skin if bare else look.bottom.on_tube()
        if body.fine:
            toe = body.places([(ankle[0], ankle[1] - 0.045, ankle[2] + 0.06)])[0]
            sheet.ellipsoid(toe, body.view, (0.048, 0.045, 0.13), plain(look.shoes))
        slack = 1.0 if bare else 1.18
        sheet.limb(b, c, (0.061 * girth * slack, 0.045 * slack), shin)
        sheet.limb(a, b, (0.084 * girth, 0.061 * girth * slack), look.bottom.on_tube())
    hip_place = body.places([(0, 0.9, 0)])[0]
    sheet.ellipsoid(hip_place, body.view, (0.15 * girth, 0.1, 0.1 * girth), look.bottom.on_ball())


def _draw_torso(sheet: Sheet, body: _Body) -> None:
    look, girth = body.person.look, body.person.look.girth
    cloth, section = look.top, (body.view[0], body.view[2])
    low = 0.64 if look.legs == "coat" and not body.person.seated else 0.84
    hem, top, shoulders, neck, chin = body.places(
        [(0, low, 0), (0, 1.475, -0.01), (0, 1.39, -0.01), (0, 1.42, -0.01), (0, 1.55, 0.0)]
    )
    skirts = 0.215 if look.legs == "coat" else 0.182
    profile = (skirts, 0.176, 0.165, 0.156, 0.162, 0.172, 0.18, 0.184, 0.186, 0.178, 0.13, 0.065)
    widths = tuple(w * girth for w in profile)
    sheet.trunk(hem, top, section, widths, 0.66, cloth.on_torso())
    sheet.ellipsoid(shoulders, body.view, (0.2 * girth, 0.05, 0.085 * girth), cloth.on_ball())
    sheet.limb(neck, chin, (0.062, 0.054), plain(look.skin * np.float32(0.75)))
    if look.legs == "skirt" and not body.person.seated:
        waist, knee = body.places([(0, 1.0, 0), (0, 0.5, 0)])
        flare = tuple(w * girth for w in (0.15, 0.18, 0.2, 0.225))
        sheet.trunk(waist, knee, section, flare, 0.8, look.bottom.on_tube())


def _draw_arms(sheet: Sheet, body: _Body) -> None:
    look, skin, girth = body.person.look, plain(body.person.look.skin), body.person.look.girth
    for side in (-1, 1):
        shoulder, elbow, hand = arm_joints(body.person, side)
        cut = min(1.0, look.sleeves * 2)
        edge = tuple(s + (e - s) * cut for s, e in zip(shoulder, elbow, strict=True))
        a, m, b, c = body.places([shoulder, (edge[0], edge[1], edge[2]), elbow, hand])
        thick = 1.15 if look.legs == "coat" else 1.0
        sheet.limb(a, m, (0.06 * girth * thick, 0.05 * girth * thick), look.top.on_tube())
        if cut < 1:
            sheet.limb(m, b, (0.046 * girth, 0.041), skin)
        long = look.sleeves > 0.9
        sleeve = look.top.on_tube() if long else skin
        fore = (0.05 * girth * thick, 0.039 * thick) if long else (0.041, 0.03)
        sheet.limb(b, c, fore, sleeve)
        if not body.fine:
            continue
        along = np.array(hand) - np.array(elbow)
        finger = body.places([tuple(np.array(hand) + 0.22 * along)])[0]
        palm = np.stack([np.cross(along, [0.3, 0.2, 1]), along, np.cross(along, [1, 0.3, 0.1])])
        sheet.ellipsoid(finger, unit(palm) @ body.view, (0.042, 0.088, 0.028), skin)


def _draw_bag(sheet: Sheet, body: _Body) -> None:
    look, cloth = body.person.look, body.person.look.bag_cloth
    section, across = (body.view[0], body.view[2]), (body.view[2], body.view[0])
    if look.bag == "backpack":
        low, top = body.places([(0, 0.97, -0.17), (0, 1.43, -0.17)])
        sheet.trunk(low, top, section, (0.13, 0.165, 0.17, 0.17, 0.15, 0.06), 0.68, cloth.on_tube())
        for side in (-1, 1):
            top, low = body.places([(side * 0.12, 1.44, 0.04), (side * 0.13, 1.1, 0.06)])
            sheet.limb(top, low, (0.024, 0.02), cloth.on_tube())
    elif look.bag == "shoulder":
        places = [(0.22, 0.78, 0.03), (0.22, 1.05, 0.03), (-0.1, 1.46, 0.03), (0.18, 1.05, 0.1)]
        low, top, high, hip = body.places(places)
        sheet.trunk(low, top, across, (0.16, 0.17, 0.15), 0.4, cloth.on_tube())
        sheet.limb(high, hip, (0.018, 0.018), cloth.on_tube())
    elif look.bag == "hand":
        x, y, z = arm_joints(body.person, 1)[2]
        low, top, grip = body.places([(x, y - 0.38, z), (x, y - 0.1, z), (x, y, z)])
        sheet.trunk(low, top, across, (0.15, 0.16, 0.15, 0.12), 0.4, cloth.on_tube())
        sheet.limb(grip, top, (0.012, 0.03), cloth.on_tube())


def _draw_head(sheet: Sheet, body: _Body) -> None:
    look, axes, middle = body.person.look, body.head_axes(), body.head
    young = 1.0 + 0.3 * max(0.0, 1.5 - look.height_m)

    def offset(a: float, b: float, c: float) -> Place:
        right, down, away = (np.array([a, b, c], np.float32) * young) @ axes
        return Place(
            middle.x + float(right) * middle.scale,
            middle.y + float(down) * middle.scale,
            middle.z + float(away) * body.person.unit_m,
            middle.scale,
        )

    def ball(at: Place, radii: tuple[float, float, float], cloth: Fabric | None = None) -> None:
        paint = cloth.on_ball() if cloth else plain(look.skin)
        grown = tuple(r * young for r in radii)
        sheet.ellipsoid(at, axes, (grown[0], grown[1], grown[2]), paint, HEAD)

    w, h, d = 0.077 * young, 0.118 * young, 0.096 * young
    sheet.ellipsoid(middle, axes, (w, h, d), face_paint(look), HEAD)
    if body.fine and look.face_wear != "mask":
        ball(offset(0, -0.022, 0.096), (0.014, 0.022, 0.018))
    veiled = look.hat == "scarf"
    if body.fine and not veiled:
        for side in (-1, 1):
            ball(offset(side * 0.077, -0.005, -0.005), (0.012, 0.03, 0.018))
    if not (look.bald or veiled):
        thick = look.hair_volume
        radii = (w * thick, h * (0.4 + 0.6 * thick), d * thick)
        sheet.ellipsoid(middle, axes, radii, hair_paint(look), HEAD, hairline(look))
    if look.long_hair and not veiled:
        fall = offset(0, -0.1, -0.055)
        radii = (0.09 * young, 0.15 * young, 0.06 * young)
        sheet.ellipsoid(fall, axes, radii, hair_paint(look), HEAD)
    cloth = look.hat_cloth
    if look.hat in ("cap", "beanie", "brim", "helmet"):
        puff, limit = {
            "cap": (1.13, 0.3),
            "beanie": (1.16, 0.22),
            "brim": (1.12, 0.3),
            "helmet": (1.28, 0.2),
        }[look.hat]
        radii = (w * puff, h * puff, d * puff)
        sheet.ellipsoid(middle, axes, radii, cloth.on_ball(), HEAD, above(limit))
    if look.hat == "cap":
        ball(offset(0, 0.048, 0.115), (0.066, 0.012, 0.075), cloth)
    elif look.hat == "brim":
        ball(offset(0, 0.04, 0), (0.17, 0.012, 0.18), cloth)
    elif look.hat == "beanie":
        ball(offset(0, 0.15, -0.01), (0.026, 0.026, 0.026), cloth)
    elif veiled:
        radii = (w * 1.14, h * 1.1, d * 1.13)
        sheet.ellipsoid(middle, axes, radii, cloth.on_ball(), HEAD, round_face)
        collar, throat = body.places([(0, 1.41, 0), (0, 1.5, 0)])
        sheet.limb(collar, throat, (0.12, 0.075), cloth.on_tube())


def _box_xyxy(body: _Body, covered: NDArray[np.bool_] | None) -> tuple[int, int, int, int]:
    """The pixels to draw: all the person may show, and the whole head, cut to the image."""
    person = body.person
    right = arm_joints(person, 1)
    bags = {
        "backpack": [(0.0, 1.2, -0.22)],
        "shoulder": [(0.22, 0.85, 0.1), (0.22, 0.85, -0.1)],
        "hand": [(right[2][0], right[2][1] - 0.32, right[2][2] + s) for s in (-0.1, 0.1)],
    }
    legs = [point for chain in leg_joints(person) for point in chain]
    shell = [
        *arm_joints(person, -1),
        *right,
        *legs,
        *bags.get(person.look.bag, []),
        (0.0, 0.04, 0.0),
    ]
    xyz = np.array([(p.x, p.y, p.scale * 0.14 + 1) for p in body.places(shell)])
    head = (0.29 if person.look.hat else 0.2) * body.head.scale + 1
    h, w = body.camera.size_hw

    def cut(x0: float, y0: float, x1: float, y1: float) -> NDArray[np.int64]:
        box = np.floor([x0, y0, x1 + 1, y1 + 1]).clip(0, [w, h, w, h])
        return np.asarray(box, np.int64)

    x, y = body.head.x, body.head.y
    head_box = cut(x - head, y - head, x + head, y + head)
    low, high = (xyz[:, :2] - xyz[:, 2:]).min(axis=0), (xyz[:, :2] + xyz[:, 2:]).max(axis=0)
    box = cut(*low, *high)
    if covered is not None:
        free = ~covered[box[1] : box[3], box[0] : box[2]]
        columns, rows = np.flatnonzero(free.any(axis=0)), np.flatnonzero(free.any(axis=1))
        if not rows.size:
            box = head_box
        else:
            box = box[[0, 1, 0, 1]] + [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    first, last = np.minimum(box, head_box)[:2], np.maximum(box, head_box)[2:]
    return int(first[0]), int(first[1]), int(last[0]), int(last[1])


def draw_person(
    person: Person,
    camera: Camera,
    light: Light,
    crowding: float = 0.5,
    covered: NDArray[np.bool_] | None = None,
) -> Sprite | None:
    """Draw a person as the camera sees them, alone.

    Args:
        person: who.
        camera: the camera.
        light: the light.
        crowding: 0 free-standing .. 1 in a packed crowd, where little light reaches the legs.
        covered: (H, W) pixels that others will hide: only the head need be drawn there.

    Returns:
        The sprite with its exact coverage, or None where nothing of it is in the image.
    """
    body = _Body(person, camera)
    x0, y0, x1, y1 = _box_xyxy(body, covered)
    if x0 >= x1 or y0 >= y1:
        return None
    scale = body.head.scale
    samples = 3 if scale < 60 else 2 if scale < 150 else 1
    sheet = Sheet((x0, y0, x1, y1), samples)
    _draw_legs(sheet, body)
    _draw_torso(sheet, body)
    _draw_arms(sheet, body)
    _draw_bag(sheet, body)
    _draw_head(sheet, body)
    feet, top = (place.y for place in body.places([(0, 0.04, 0), (0, 1.6, 0)]))
    rows = (np.arange(sheet.h, dtype=np.float32) + 0.5) / samples + y0
    raised = np.clip((rows - feet) / min(top - feet, -1e-3), 0, 1)
    shade = 1 - crowding * 0.78 * (1 - raised) ** 1.3 - 0.12 * (1 - raised)
    return sheet.lit(light, body.axes, np.asarray(shade, np.float32), scale)
