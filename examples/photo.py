"""From light to photograph: exposure, blur, rain and snow, sensor noise, JPEG."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from examples.camera import Array

MEAN_LIGHT, BRIGHT_LIGHT = 0.24, 0.8


def develop(light: Array, gain: float = 1.0) -> NDArray[np.uint8]:
    """Expose (H, W, 3) linear light so that neither its mean nor its highlights get too bright."""
    mean = float(np.clip(light, 0, 1.5).mean())
    bright = float(np.percentile(light[::4, ::4], 97))
    exposure = gain * min(MEAN_LIGHT / max(mean, 1e-3), BRIGHT_LIGHT / max(bright, 1e-3))
    exposed = np.maximum(light, 0) * exposure
    # A curve that is nearly straight in the middle and saturates softly.
    bent = exposed * (1 + exposed / 4) / (1 + exposed * 0.55)
    shown = np.power(np.clip(bent, 0, 1), np.float32(1 / 2.2))
    shown += 0.6 * (shown * shown * (3 - 2 * shown) - shown)
    return (shown * 255 + 0.5).astype(np.uint8)


def _fall(rng: np.random.Generator, image: Image.Image, snow: bool) -> Image.Image:
    """Draw drops or flakes in front of the camera."""
    veil = Image.new("L", image.size, 0)
    draw = ImageDraw.Draw(veil)
    w, h = image.size
    slant = rng.uniform(-0.25, 0.25)
    for x, y, size, value in rng.random((w * h // (1500 if snow else 1100), 4)):
        px, py = x * w, y * h
        if snow:
            r = 0.5 + size**4 * 0.006 * w
            draw.ellipse((px - r, py - r, px + r, py + r), fill=int(90 + 140 * value))
        else:
            length = (0.006 + 0.02 * size) * h
            draw.line((px, py, px + slant * length, py + length), fill=int(30 + 55 * value))
    veil = veil.filter(ImageFilter.GaussianBlur(0.7))
    white = Image.new("RGB", image.size, (236, 240, 245) if snow else (205, 212, 220))
    return Image.composite(white, image, veil)


def photograph(
    light: Array, rng: np.random.Generator, weather: str, gain: float = 1.0
) -> NDArray[np.uint8]:
    """Take the picture.

    Args:
        light: (H, W, 3) linear light.
        rng: source of chance.
        weather: "rain" and "snow" are drawn in front of everything.
        gain: exposure relative to a middling one.

    Returns:
        (H, W, 3) uint8.
    """
    h, w = light.shape[:2]
    y = np.linspace(-1, 1, h, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, w, dtype=np.float32)[None]
    shading = 1 - np.float32(rng.uniform(0.05, 0.22)) * (x * x + y * y) / 2
    balance = (1 + rng.normal(0, 0.02, 3)).astype(np.float32)
    picture = Image.fromarray(develop(light * shading[..., None] * balance, gain))
    if weather in ("rain", "snow"):
        picture = _fall(rng, picture, weather == "snow")
    picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.35, 0.75))))
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.UnsharpMask(1.2, int(rng.uniform(30, 90)), 2))
    level = float(rng.uniform(0.8, 3.2)) * (1.8 if gain < 0.8 else 1.0)
    grain = rng.standard_normal((h, w, 1), dtype=np.float32) * level
    grain = grain + rng.standard_normal((h, w, 3), dtype=np.float32) * (level * 0.5)
    noisy = np.asarray(picture, np.float32) + grain
    picture = Image.fromarray((np.clip(noisy, 0, 255) + 0.5).astype(np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=int(rng.integers(72, 95)))
    return np.asarray(Image.open(buffer).convert("RGB"))
