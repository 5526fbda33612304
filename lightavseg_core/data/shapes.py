"""Silhouettes and timbres of SoundingShapes: a category is a pair of them, and nothing else reveals it."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image

from .cast import RATE, Cast, Thing


def _disc(x, y):
    return np.hypot(x, y) < 1


def _ring(x, y):
    radius = np.hypot(x, y)
    return (radius < 1) & (radius > 0.55)


def _square(x, y):
    return np.maximum(np.abs(x), np.abs(y)) < 0.75


def _triangle(x, y):
    return (y < 0.5) & (np.sqrt(3) * np.abs(x) - y < 1)


def _flower(x, y):
    turns = np.arctan2(x, -y) / (2 * np.pi)
    wedge = np.abs((turns * 5 + 0.5) % 1 - 0.5) * 2  # 0 on a petal's axis, 1 between two petals
    return np.hypot(x, y) < 1 - 0.6 * wedge


def _cross(x, y):
    return (np.minimum(np.abs(x), np.abs(y)) < 0.3) & (np.maximum(np.abs(x), np.abs(y)) < 0.9)


def _crescent(x, y):
    return (np.hypot(x, y) < 1) & (np.hypot(x - 0.45, y) > 0.8)


def _tone(hertz, time, harmonics, rng):
    """The sum of harmonics (number, amplitude) of a frequency in Hz, constant or one value per sample, each
    with a random phase."""
    turns = np.cumsum(np.broadcast_to(hertz, time.shape)) / RATE
    return sum(a * np.sin(2 * np.pi * (n * turns + rng.random())) for n, a in harmonics)


def _strikes(time, per_second, decay, rng):
    """An envelope of decaying strikes: 1 at each strike, then exp(-decay t)."""
    return np.exp(-decay * ((time + rng.random()) * per_second % 1) / per_second)


def _band_noise(time, low, high, rng):
    """White noise between two frequencies in Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(len(time)))
    hertz = np.fft.rfftfreq(len(time), 1 / RATE)
    return np.fft.irfft(spectrum * ((hertz > low) & (hertz < high)), len(time))


def _hum(time, rng):  # low and steady, few harmonics
    return _tone(rng.uniform(110, 165), time, [(1, 1), (2, 0.5), (3, 0.2)], rng)


def _reed(time, rng):  # middle pitch, odd harmonics: hollow
    return _tone(rng.uniform(240, 340), time, [(n, 1 / n) for n in (1, 3, 5, 7, 9, 11)], rng)


def _bell(time, rng):  # inharmonic partials, struck about twice a second
    ring = _tone(rng.uniform(500, 700), time, [(1, 1), (2.76, 0.6), (5.4, 0.4)], rng)
    return ring * _strikes(time, rng.uniform(1.8, 2.6), 5, rng)


def _whistle(time, rng):  # one high partial with vibrato
    vibrato = 1 + 0.03 * np.sin(2 * np.pi * (rng.uniform(5, 7) * time + rng.random()))
    return _tone(rng.uniform(1500, 2200) * vibrato, time, [(1, 1)], rng)


def _rattle(time, rng):  # short bursts of high noise
    return _band_noise(time, 3000, 7000, rng) * _strikes(time, rng.uniform(7, 11), 45, rng)


def _siren(time, rng):  # a frequency that sweeps up and down
    sweep = np.sin(2 * np.pi * (rng.uniform(1.0, 1.6) * time + rng.random()))
    return _tone(800 * 2 ** (0.8 * sweep + rng.uniform(-0.15, 0.15)), time, [(1, 1), (2, 0.35)], rng)


def _surf(time, rng):  # a band of low noise that swells
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * (rng.uniform(2.5, 4) * time + rng.random()))
    return _band_noise(time, 300, 1200, rng) * swell


class Category(NamedTuple):
    name: str
    inside: Callable[[np.ndarray, np.ndarray], np.ndarray]  # points within the unit disc -> bool
    sound: Callable[[np.ndarray, np.random.Generator], np.ndarray]  # seconds (N,) -> samples (N,), any level


CATEGORIES = [
    Category("disc", _disc, _hum),
    Category("square", _square, _reed),
    Category("triangle", _triangle, _bell),
    Category("flower", _flower, _whistle),
    Category("cross", _cross, _rattle),
    Category("ring", _ring, _siren),
    Category("crescent", _crescent, _surf),
]


def _unit_area(category: Category) -> float:
    grid = np.linspace(-1, 1, 801)
    return float(category.inside(*np.meshgrid(grid, grid)).mean() * 4)


UNIT_AREA = [_unit_area(category) for category in CATEGORIES]


def coverage(
    category: int, center: tuple[float, float], radius: float, angle: float, size: int
) -> np.ndarray:
    """How much of each pixel a silhouette covers. center and radius of its unit disc in pixels, angle in
    radians -> (size, size), 0 to 1."""
    result = np.zeros((size, size), np.float32)
    x0, y0 = (max(int(c - radius) - 1, 0) for c in center)
    x1, y1 = (min(int(c + radius) + 2, size) for c in center)
    if x0 >= x1 or y0 >= y1:
        return result
    sub = 4  # points per pixel and axis
    x = (x0 + (np.arange((x1 - x0) * sub) + 0.5) / sub - center[0]) / radius
    y = (y0 + (np.arange((y1 - y0) * sub) + 0.5) / sub - center[1]) / radius
    cos, sin = np.cos(angle), np.sin(angle)
    inside = CATEGORIES[category].inside(cos * x + sin * y[:, None], cos * y[:, None] - sin * x)
    result[y0:y1, x0:x1] = inside.reshape(y1 - y0, sub, x1 - x0, sub).mean((1, 3))
    return result


class Shapes(Cast):
    """Silhouettes of random colour and shading that stand out from a background of soft colours."""

    name = "shapes"
    categories = [category.name for category in CATEGORIES]
    things = [Thing(k, area) for k, area in enumerate(UNIT_AREA)]

    def sound(self, thing, time, rng):
        return CATEGORIES[thing].sound(time, rng)

    def dress(self, things, size, rng):
        low = rng.uniform(30, 225, 3) + rng.uniform(-40, 40, (4, 4, 3))
        channels = [Image.fromarray(channel.astype(np.float32)) for channel in low.transpose(2, 0, 1)]
        background = np.stack([channel.resize((size, size), Image.BICUBIC) for channel in channels], -1)
        colors = []
        while len(colors) < len(things):
            color = rng.uniform(0, 255, 3)
            if np.linalg.norm(color - low.mean((0, 1))) > 90:  # visible against the background
                colors.append(color)
        shading = rng.uniform(-25, 25, (len(colors), 2))
        return background, [partial(_painted, *look) for look in zip(things, colors, shading)]


def _painted(category, color, shading, center, radius, angle, size):
    axis = np.arange(size) / size - 0.5
    shade = shading[0] * axis + shading[1] * axis[:, None]
    return coverage(category, center, radius, angle, size), color + shade[..., None]
