"""A film to try a model on, made on request: a generated moving scene with its sound."""
from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from ..data.cast import RATE
from ..data.casting import cast_named
from ..data.scenes import Recipe, at_times, draw_pictures, draw_scene, draw_tracks
from .overlay import write_video

SECONDS = 10
LONGEST = 2  # a clip of AVSS with this index, plus threes, has ten seconds


def write_sample(
    path: str | Path, cast: str = "photos", seed: int = 0, size: int = 384, fps: int = 12
) -> np.ndarray:
    """Writes an MP4 of ten seconds: two to four things of a cast move and sound now and then.

    cast: as in `sounding_shapes.generate`. seed: each gives another scene, none of which is in a dataset.
    size: pixels of a side. Returns the ground truth, (10, size, size) bool: in the picture at each whole
    second, the pixels of what sounds in that second. Raises what the cast raises, and OSError.
    """
    among, recipe = cast_named(cast), Recipe("avss", {}, size, seed, cast=cast)
    scene = draw_scene(recipe, among, "sample", LONGEST)
    tracks, noise = draw_tracks(scene, among)
    times = np.linspace(0, SECONDS - 1, SECONDS * fps)  # the places of the first and of the last second
    pictures, things = draw_pictures(at_times(scene, times), among, size)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sound = (tracks.sum(0) + noise).astype(np.float32)[:, None]
    write_video(Path(path), pictures, Fraction(fps), iter([(RATE, sound)]), Fraction(1))
    seen = np.stack([thing.masks[::fps] for thing in things])  # (things, 10, size, size)
    return (seen & scene.sounding[:, :, None, None]).any(0)
