"""The clips of the live page: what is seen, what each thing sounds like, the truth, and PyTorch's masks.

    python site/live/clips.py shapes FOLDER
    python site/live/clips.py photos FOLDER

Writes clips.json, and of each clip K clip-K.bin and clip-K.webp. The .bin holds, one after the other, in 8
bits: the frames as the model sees them (T, size, size, 3), what is where (T, size, size; 0 nothing, k + 1
object k), and the mask that PyTorch gives the clip's own sound (T, size, size; 0 or 1); then, in 16 bits, of
each object its sounding seconds, and the noise floor whole. The .webp holds the scene, drawn larger.
"""

from __future__ import annotations

import io
import json
import re
import sys
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import lightavseg_core as lav
from lightavseg_core.data.cast import RATE, Cast
from lightavseg_core.data.casting import cast_named
from lightavseg_core.data.images import prepare_frame
from lightavseg_core.data.photos import photos, photos_folder
from lightavseg_core.data.scenes import Recipe, Scene, draw_pictures, draw_scene, draw_tracks

CHECKPOINTS = {"shapes": "tiny", "photos": "photos"}
CLIPS, SPLIT, SEED, VIEW = 6, "test", 0, 384  # VIEW: side of the large pictures, pixels
FIRST = {"shapes": None, "photos": "dog"}  # whom the first clip shows


def scene(cast: Cast, index: int, size: int) -> Scene:
    recipe = Recipe("ms3", {SPLIT: index + 1}, size, SEED, cast=cast.name, digest=cast.digest)
    return draw_scene(recipe, cast, SPLIT, index)


def start(cast: Cast, found: Scene, name: str | None) -> int | None:
    """The first second in which two of several things sound, or that one alone; None: there is none."""
    names = [cast.categories[cast.things[thing].category] for thing in found.things]
    for second, sounding in enumerate(found.sounding.T):
        heard = [names[k] for k in np.flatnonzero(sounding)]
        if len(names) > 2 and (heard == [name] if name else len(heard) == 2):
            return second
    return None


def chosen(cast: Cast, size: int) -> list[tuple[int, int]]:
    """(clip, second) of the first test clips that have such a second: chosen by what sounds alone, whatever
    the model makes of them."""

    def fitting(name: str | None):
        for index in count():
            second = start(cast, scene(cast, index, size), name)
            if second is not None:
                yield index, second

    first = next(fitting(FIRST[cast.name]))
    return [first, *islice((one for one in fitting(None) if one[0] != first[0]), CLIPS - 1)]


@torch.inference_mode()
def masks(model: torch.nn.Module, frames: np.ndarray, waveform: np.ndarray) -> np.ndarray:
    """What the model marks: frames (T, H, W, 3) uint8, waveform (samples,) -> (T, H, W) bool."""
    size = frames.shape[1:3]
    seen = torch.stack([prepare_frame(frame, size) for frame in frames])
    heard = model.front_end(torch.from_numpy(waveform).float(), torch.arange(len(frames)))
    return model(seen[None], heard[None]).logits[0, :, 0].numpy() > 0


def pcm(samples: np.ndarray) -> bytes:
    return np.round(samples * 32767).astype("<i2").tobytes()


def write_clip(
    folder: Path, number: int, index: int, second: int, cast: Cast, model: torch.nn.Module
) -> dict:
    size = model.config.size
    found = scene(cast, index, size)
    sounds, noise = draw_tracks(found, cast)
    frames, objects = draw_pictures(found, cast, size)
    where = np.zeros(frames.shape[:3], np.uint8)
    for k, thing in enumerate(objects):
        where[thing.masks] = k + 1
    marked = masks(model, frames, sounds.sum(0) + noise).astype(np.uint8)
    parts = [frames.tobytes(), where.tobytes(), marked.tobytes()]
    for sound, thing in zip(sounds, objects):
        seconds = sound.reshape(len(frames), RATE)
        parts.append(pcm(seconds[thing.sounding]))
    (folder / f"clip-{number}.bin").write_bytes(b"".join([*parts, pcm(noise)]))

    large, _ = draw_pictures(scene(cast, index, VIEW), cast, VIEW)
    buffer = io.BytesIO()
    Image.fromarray(large.reshape(-1, VIEW, 3)).save(buffer, "WEBP", quality=80, method=6)
    (folder / f"clip-{number}.webp").write_bytes(buffer.getvalue())
    shown = [{"name": thing.name, "sounding": thing.sounding.tolist()} for thing in objects]
    return {"name": f"ms3_{SPLIT}_{index:05d}", "seconds": len(frames), "start": second, "objects": shown}


def score(name: str) -> str:
    """The M_J of its test clips, as a model's card has it."""
    card = Path("checkpoints", name, "README.md")
    if found := re.search(r"^\| its own \| ([01]\.\d+) \|", card.read_text(), re.MULTILINE):
        return found[1]
    raise ValueError(f"{card}: has no row `| its own | M_J |`. Write it with checkpoints/make_model.py.")


def write(edition: str, folder: Path) -> Cast:
    """Returns the cast, which knows what it has read for these clips."""
    folder.mkdir(parents=True, exist_ok=True)
    cast = photos(photos_folder()) if edition == "photos" else cast_named(edition)
    model = lav.load_model(Path("checkpoints", CHECKPOINTS[edition])).eval()
    size = model.config.size
    clips = []
    for number, (index, second) in enumerate(chosen(cast, size)):
        clips.append(write_clip(folder, number, index, second, cast, model))
    knows = {"categories": list(cast.categories), "score": score(CHECKPOINTS[edition])}
    about = {"edition": edition, "knows": knows, "rate": RATE, "size": size, "view": VIEW, "clips": clips}
    (folder / "clips.json").write_text(json.dumps(about))
    return cast


if __name__ == "__main__":
    edition, folder = sys.argv[1:]
    write(edition, Path(folder))
