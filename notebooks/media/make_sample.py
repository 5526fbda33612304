"""Makes the video that notebook 8 looks at, sample.mp4, and what is true of it, truth.json.

Both are the project's own: Apache-2.0.

    python notebooks/media/make_sample.py        (half a minute)

The same script gives the same scenes, whatever FFmpeg makes of them. Six acts of 4 s, each a clip of
SoundingShapes ms3 with seed 8, which no training here has used, shown at 25 pictures a second: categories,
sizes, colours, backgrounds, ways, levels and noise are that clip's own draws. The script says only which of
its objects sound, and when. Act n is the first clip from number 100 n on that has as many objects as the act
needs; no other choice was made, and none after seeing a prediction.
"""
from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from lightavseg_core.data.cast import RATE
from lightavseg_core.data.casting import cast_named
from lightavseg_core.data.scenes import (
    FADE,
    LEVEL,
    Recipe,
    Scene,
    SoundingObject,
    at_times,
    draw_pictures,
    draw_scene,
    draw_tracks,
)
from lightavseg_core.data.shapes import CATEGORIES

HERE = Path(__file__).resolve().parent
SHAPES = cast_named("shapes")
SEED = 8
SIZE = 256                                      # pixels
FPS = 25                                        # pictures a second
SECONDS = 4                                     # of an act
OFF = "off screen"                              # the first category that is not in view
NOISE, SPEECH = "white noise", "speech-like"


class Sound(NamedTuple):
    """Who sounds (an object's number, or OFF, NOISE, SPEECH) and when, in seconds from the act's start."""

    who: int | str
    start: float
    end: float


class Act(NamedTuple):
    name: str
    objects: int
    sounds: tuple[Sound, ...]
    area: tuple[float, ...] | None = None       # shares of the frame, where they are not the clip's own
    twins: bool = False
    mute: tuple[float, float] | None = None     # when the noise floor stops too


ACTS = [
    Act(
        "they take turns", 3,
        (Sound(0, 0, 1), Sound(1, 1, 2), Sound(2, 2, 3), Sound(0, 3, 4), Sound(2, 3, 4)),
    ),
    Act("silence", 2, (Sound(0, 0, 1), Sound(1, 3, 4)), mute=(2, 3)),
    Act(
        "off screen", 2,
        (Sound(0, 0, 1), Sound(OFF, 1, 2), Sound(OFF, 2, 3), Sound(0, 2, 3), Sound(OFF, 3, 4)),
    ),
    Act("twins", 3, (Sound(0, 0, 1), Sound(2, 1, 2), Sound(0, 2, 4)), twins=True),
    Act("too short, too late", 2, (Sound(0, 0.4, 0.5), Sound(0, 1.4, 1.65), Sound(0, 2.5, 3.5))),
    Act(
        "never seen, never heard", 2,
        (Sound(0, 0, 1), Sound(1, 1, 2), Sound(NOISE, 2, 3), Sound(SPEECH, 3, 4)),
        area=(0.3, 0.006),
    ),
]
LENGTH = SECONDS * len(ACTS)


def scene_of(act: Act, times: Sequence[float]) -> Scene:
    """The act's clip at some times, seconds from its start."""
    recipe = Recipe("ms3", {}, SIZE, SEED, twins=act.twins)
    index = 100 * (ACTS.index(act) + 1)
    while len((scene := draw_scene(recipe, SHAPES, "test", index)).things) != act.objects:
        index += 1

    when = [[_sounds(act, i, t) for t in times] for i in range(act.objects)]
    area = np.array(act.area or scene.area)
    return at_times(scene, times)._replace(sounding=np.array(when), area=area)


def _sounds(act: Act, who: int | str, time: float) -> bool:
    return any(sound.who == who and sound.start <= time < sound.end for sound in act.sounds)


def act_at(time: float) -> tuple[Act, float]:
    """The act that is on at second `time` of the video, and for how long. Raises ValueError outside it."""
    if not 0 <= time < LENGTH:
        raise ValueError(f"second {time}: the sample lasts from 0 to {LENGTH}.")
    number = int(time // SECONDS)
    return ACTS[number], round(time - SECONDS * number, 6)


def objects_at(time: float, lead: float = 0) -> list[tuple[str, bool, np.ndarray]]:
    """What is in view at second `time`, of each object: its category, whether it sounds `lead` seconds later,
    and its mask (SIZE, SIZE) bool."""
    act, since = act_at(time)
    found = []
    for i, thing in enumerate(_in_view(act, since)):
        found.append((CATEGORIES[thing.category].name, _sounds(act, i, since + lead), thing.masks[0]))
    return found


@lru_cache(200)
def _in_view(act: Act, since: float) -> list[SoundingObject]:
    return draw_pictures(scene_of(act, [since]), SHAPES, SIZE)[1]


def truth_at(time: float, lead: float = 0) -> np.ndarray:
    """(SIZE, SIZE) bool: all that is in view at second `time` and sounds `lead` seconds later in its act."""
    return np.any([mask & sounds for _, sounds, mask in objects_at(time, lead)], axis=0)


def sound_of(act: Act) -> np.ndarray:
    """The act's sound, (4 s of samples,) at 16 kHz.

    What its clip would sound like with all sounding throughout, each let through when it is on.
    """
    scene = scene_of(act, [0])
    heard = [*scene.things, off_screen(scene)]
    gains = np.append(scene.gains, LEVEL)
    always = np.ones((len(heard), SECONDS), bool)
    tracks, floor = draw_tracks(scene._replace(things=heard, gains=gains, sounding=always), SHAPES)
    rng = np.random.default_rng([SEED, ACTS.index(act)])
    voices = {**dict(enumerate(tracks)), OFF: tracks[-1]}
    voices[NOISE] = LEVEL * rng.standard_normal(len(floor))
    voices[SPEECH] = speech_like(len(floor), rng)
    total = floor if act.mute is None else floor * (1 - _gate(*act.mute))
    return total + sum(voices[who] * _gate(start, end) for who, start, end in act.sounds)


def off_screen(scene: Scene) -> int:
    return next(c for c in range(len(CATEGORIES)) if c not in scene.things)


def _gate(start: float, end: float) -> np.ndarray:
    """1 from start to end, 0 elsewhere, with ramps inside: (4 s of samples,)."""
    time = np.arange(SECONDS * RATE) / RATE
    return np.clip(np.minimum(time - start, end - time) / FADE, 0, 1)


def speech_like(samples: int, rng: np.random.Generator) -> np.ndarray:
    """A voice that says nothing: harmonics of a falling pitch under three wandering formants.

    It has four syllables a second.
    """
    time = np.arange(samples) / RATE
    pitch = 130 * 2 ** (-0.3 * (time % 1)) * (1 + 0.02 * np.sin(2 * np.pi * 5 * time))
    turns, total = np.cumsum(pitch) / RATE, np.zeros(samples)
    formants = []
    for mean, width in ((550, 90), (1500, 150), (2600, 220)):
        wander = 1 + 0.2 * np.sin(2 * np.pi * (1.7 * time + rng.random()))
        formants.append((mean * wander, width))
    for n in range(1, 30):
        loudness = sum(np.exp(-(((n * pitch - middle) / width) ** 2) / 2) for middle, width in formants)
        total += loudness * np.sin(2 * np.pi * n * turns) / n ** 0.5
    total *= np.sin(np.pi * 4 * time) ** 2
    return LEVEL * total / np.sqrt((total ** 2).mean())


def truth() -> dict:
    """What truth.json holds: who is in view, and who sounds when, in seconds of the video."""
    acts = []
    for number, act in enumerate(ACTS):
        scene, start = scene_of(act, [0]), SECONDS * number
        names = {i: CATEGORIES[c].name for i, c in enumerate(scene.things)}
        objects = [{"category": names[i], "area": round(float(area), 4)} for i, area in enumerate(scene.area)]
        names[OFF] = f"{CATEGORIES[off_screen(scene)].name}, {OFF}"
        sounds = [
            {
                "object": who if isinstance(who, int) else None,
                "what": names.get(who, who),
                "start": round(start + begins, 3),
                "end": round(start + ends, 3),
            }
            for who, begins, ends in act.sounds
        ]
        when = {"start": start, "end": start + SECONDS}
        acts.append({"name": act.name, **when, "objects": objects, "sounds": sounds})
    return {"seed": SEED, "size": SIZE, "fps": FPS, "seconds": LENGTH, "acts": acts}


def encode(path: Path) -> None:
    """The video: H.264, 25 pictures a second, and AAC, one channel of 16 kHz."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        small = {"preset": "veryslow", "crf": "30"}
        video = container.add_stream("libx264", rate=FPS, pix_fmt="yuv420p", options=small)
        video.width = video.height = SIZE
        speaker = container.add_stream("aac", rate=RATE, layout="mono", options={"b": "48k"})
        for number, act in enumerate(ACTS):
            pictures, _ = draw_pictures(scene_of(act, np.arange(FPS * SECONDS) / FPS), SHAPES, SIZE)
            for k, picture in enumerate(pictures, FPS * SECONDS * number):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = k, Fraction(1, FPS)
                container.mux(video.encode(frame))
            sound = sound_of(act).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(sound, format="flt", layout="mono")
            frame.sample_rate = RATE
            frame.pts, frame.time_base = RATE * SECONDS * number, Fraction(1, RATE)
            container.mux(speaker.encode(frame))
        container.mux(video.encode(None))
        container.mux(speaker.encode(None))


if __name__ == "__main__":
    encode(HERE / "sample.mp4")
    (HERE / "truth.json").write_text(json.dumps(truth(), indent=1) + "\n")
    print(f"{(HERE / 'sample.mp4').stat().st_size / 1e3:.0f} kB")
