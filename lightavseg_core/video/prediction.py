"""From a video to masks, in a stream: what is in memory does not grow with its length, and what was stopped goes on where it was."""
from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from .._common.files import alone, whole
from .._common.names import printable
from ..data.decoding import Tally
from ..data.images import prepare_frame
from .folder import MOST, begin, discard, done, mask_file, read_mask, write_json, write_mask
from .inputs import Broken, describe, digest, inputs_of, is_picture, names_of, pictures_of, sound_of
from .overlay import paint, write_video
from .reading import Listener
from .segmenter import Segmenter, load

__all__ = ["Prediction", "Segmenter", "load", "predict", "write", "write_all"]


class Prediction(NamedTuple):
    """One picture and where it sounds."""

    time: float                                 # seconds from the first picture
    picture: np.ndarray                         # (H, W, 3) uint8, upright
    logits: Tensor                              # (K, h, w) float32, as the model gave them

    @property
    @torch.inference_mode()
    def probabilities(self) -> Tensor:
        """(K, H, W) float32: of the one class, or of all classes, which add up to 1. Computed anew each time."""
        logits = _grown(self.logits, self.picture)
        return logits.sigmoid() if len(logits) == 1 else logits.softmax(0)

    @torch.inference_mode()
    def mask(self, threshold: float = 0.5) -> np.ndarray:
        """(H, W) uint8: 0 and 1 for one class, otherwise the index of the likeliest class."""
        if len(self.logits) == 1:
            return (self.probabilities[0] > threshold).to(torch.uint8).numpy()
        best = _grown(self.logits[:1], self.picture)[0]             # class by class: of all at once, large pictures would take many gigabytes
        likeliest = torch.zeros(best.shape, dtype=torch.uint8)
        for k in range(1, len(self.logits)):
            one = _grown(self.logits[k:k + 1], self.picture)[0]
            likeliest.masked_fill_(one > best, k)
            torch.maximum(best, one, out=best)
        return likeliest.numpy()


def _grown(logits: Tensor, picture: np.ndarray) -> Tensor:
    """(K, h, w) -> (K, H, W), of the picture."""
    return F.interpolate(logits[None], picture.shape[:2], mode="bilinear")[0]


def predict(segmenter: Segmenter, path: str | Path, fps: float = 1, audio: str | Path | None = None, first: int = 0) -> Iterator[Prediction]:
    """What sounds in a video at second k / fps, for k = first, first + 1, ...; `first` must be a multiple of `segmenter.clip`.

    path: a video; a folder of frames, in the order of their numbers, 1 / fps seconds apart; or one picture, which is looked at as long as
    `audio` sounds. audio: a file to hear instead of the video's own sound; a video without sound is silent. Clips of `segmenter.clip` frames
    are seen at a time; the last is filled up with its last frame and sound. What is damaged in a video is skipped, in its sound it is silence.
    Raises FileNotFoundError or ValueError.
    """
    step = rate_of(fps)
    front_end = segmenter.front_end
    listener = Listener(sound_of(path, audio), front_end.sample_rate)
    pictures = pictures_of(path, step, first)
    if is_picture(path):
        listener.window(front_end.starts(torch.tensor([float(first / step)], dtype=torch.float64))[0], 0)      # `reaches` keeps nothing before
        pictures = takewhile(lambda shown: shown[0] == 0 or listener.reaches(round(shown[0] * front_end.sample_rate)), pictures)
    while clip := list(islice(pictures, segmenter.clip)):
        times = torch.tensor([float(time) for time, _ in clip], dtype=torch.float64)
        heard = torch.stack([listener.window(start, front_end.samples) for start in front_end.starts(times)])       # (T, samples)
        log_mel = front_end(heard, torch.zeros(1))[:, 0]                                                            # (T, 1, F, M)
        frames = torch.stack([prepare_frame(picture, segmenter.size) for _, picture in clip])                       # (T, 3, h, w)
        logits = _segment(segmenter, frames, log_mel)
        for (time, picture), one in zip(clip, logits):
            yield Prediction(float(time), picture, one)


@torch.inference_mode()
def _segment(segmenter: Segmenter, frames: Tensor, log_mel: Tensor) -> Tensor:
    """(T, 3, h, w), (T, 1, F, M) -> (T, K, h, w)."""
    missing = segmenter.clip - len(frames)
    fill = lambda part: torch.cat([part, part[-1:].expand(missing, *part.shape[1:])])[None]                         # noqa: E731
    return segmenter.run(fill(frames), fill(log_mel))[0, :len(frames)].cpu()


def rate_of(fps: float) -> Fraction:
    """Frames per second as a fraction, so that times do not drift. Raises ValueError outside 0.01 to 240."""
    if not 0.01 <= fps <= 240:
        raise ValueError(f"fps is {fps}; expected 0.01 to 240 frames per second.")
    return Fraction(str(fps)).limit_denominator(1001)


def write(segmenter: Segmenter, path: str | Path, folder: str | Path, fps: float = 1, audio: str | Path | None = None,
          probabilities: bool = False, threshold: float = 0.5, bar: tqdm | None = None) -> dict:
    """Writes what `predict` finds into a folder, and returns the manifest.

    masks/000000.png, ...: at the picture's own size, 0 and 255, or for more classes their indices in AVSS's colours. With `probabilities`,
    probabilities/000000.npz, ...: float16 (K, H, W) under the name `probabilities`. overlay.mp4: each picture with its mask, and the sound.
    manifest.json: what was asked, each frame's time and marked share; `complete` when all is there. Stopped, also by a full disk, the same
    call goes on where it was. Raises FileNotFoundError or ValueError: for a broken input, of which nothing is left, and for a folder that
    holds something else or that another process is writing.
    """
    path, folder, step = Path(path), Path(folder), _checked(segmenter, fps, threshold)
    asked = {"input": path.name, "input_sha256": digest(path), "audio": None, "audio_sha256": None, "fps": float(step),
             "size": list(segmenter.size), "clip": segmenter.clip, "threshold": threshold, "probabilities": probabilities, **segmenter.about}
    if audio is not None:
        asked.update(audio=Path(audio).name, audio_sha256=digest(Path(audio)))
    described = describe(path, audio)
    with alone(folder):
        manifest = begin(folder, asked)
        if manifest["complete"]:
            return manifest
        manifest.update(described)
        if manifest["heard"] == "silence":
            tqdm.write(f"{path}: has no sound; the model hears silence.", file=sys.stderr)
        try:
            _fill(segmenter, path, folder, step, audio, manifest, tqdm(disable=True) if bar is None else bar)
        except Broken:                                              # whatever else went wrong may go well later
            discard(folder)
            raise
    return manifest


def _fill(segmenter: Segmenter, path: Path, folder: Path, fps: Fraction, audio: str | Path | None, manifest: dict, bar: tqdm) -> None:
    """What is missing in a folder."""
    asked, classes = manifest["asked"], segmenter.num_classes
    write_json(folder / "manifest.json", manifest)
    for name in ("masks", "probabilities")[:1 + asked["probabilities"]]:
        (folder / name).mkdir(exist_ok=True)
    first = done(folder, segmenter.clip, classes)
    bar.total = (bar.total or 0) + math.ceil(max(0, manifest.get("video", {}).get("seconds") or 0) * fps)
    bar.update(first)
    for k, found in enumerate(predict(segmenter, path, fps, audio, first), first):
        if k == MOST:
            raise ValueError(f"{path}: has more than {MOST:,} frames at {float(fps):g} a second. Give a smaller --fps, or cut it.")
        if asked["probabilities"]:                                  # before the mask, which says that the frame is done
            with whole(folder / "probabilities" / f"{k:06}.npz") as staging:
                np.savez_compressed(staging, probabilities=found.probabilities.half().numpy())
        write_mask(mask_file(folder, k), found.mask(asked["threshold"]), classes)
        bar.update()
    frames, pictures, sound = [], Tally(), Tally()
    write_video(folder / "overlay.mp4", _painted(path, fps, folder, classes, frames, pictures), fps, sound_of(path, audio, sound),
                Fraction(manifest.get("video", {}).get("pixel_aspect", 1)))
    if pictures.damaged or sound.damaged:
        tqdm.write(f"{path}: {pictures.damaged:,} of {pictures.read:,} packets of pictures and {sound.damaged:,} of {sound.read:,} of sound "
                   "cannot be decoded; they were skipped.", file=sys.stderr)
    manifest.update(damaged_packets={"pictures": pictures.damaged, "sound": sound.damaged}, frames=frames, complete=True)
    write_json(folder / "manifest.json", manifest)


def _painted(path: Path, fps: Fraction, folder: Path, classes: int, frames: list, tally: Tally) -> Iterator[np.ndarray]:
    """Pictures under their masks, which are read back; appends to `frames` what the manifest says of each."""
    for k, (time, picture) in enumerate(pictures_of(path, fps, 0, tally)):
        if not (file := mask_file(folder, k)).exists():
            return
        mask = read_mask(file, classes)
        frames.append({"time": round(float(time), 6), "mask": f"masks/{file.name}", "marked": round(float((mask > 0).mean()), 6)})
        yield paint(picture, mask, classes)


def _checked(segmenter: Segmenter, fps: float = 1, threshold: float = 0.5, **_) -> Fraction:
    """`rate_of(fps)`. Raises ValueError for arguments that no input could do with."""
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; expected 0 to 1.")
    if threshold != 0.5 and segmenter.num_classes > 1:
        raise ValueError(f"threshold is for one class; this model has {segmenter.num_classes}, of which the likeliest is taken. Leave it out.")
    return rate_of(fps)


def write_all(segmenter: Segmenter, paths: Sequence[str | Path], out: str | Path, audio: str | Path | None = None, **options) -> list[Path]:
    """`write` for each input, into out/<stem>. A broken one is told of in one line on stderr and skipped; returns those."""
    paths, failed = inputs_of(paths, audio), []
    if not paths or (audio is not None and len(paths) > 1):
        raise ValueError("give at least one video." if not paths else f"--audio goes with one input; found {len(paths)}.")
    _checked(segmenter, **options)
    with tqdm(unit=" frames", disable=None) as bar:
        for path, name in zip(paths, names_of(paths)):
            bar.set_description(path.name)
            try:
                write(segmenter, path, Path(out) / name, audio=audio, bar=bar, **options)
            except (ValueError, OSError, RuntimeError, MemoryError) as error:
                tqdm.write(f"lightavseg: {printable(_told(path, error))}", file=sys.stderr)
                failed.append(path)
    return failed


def _told(path: Path, error: Exception) -> str:
    """What is said of an error. Those of the system, of PyTorch and of runtimes do not name the input."""
    if isinstance(error, ValueError) or (isinstance(error, OSError) and not error.errno):
        return str(error)
    what = str(error) if isinstance(error, OSError) else ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])[:200]
    return f"{path}: {what}; run the same again to go on where it stopped"
