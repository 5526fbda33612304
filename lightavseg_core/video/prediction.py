"""From a video to masks, in a stream.

Memory does not grow with the length of the video, and a stopped run resumes where it was.
"""
from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from .._common import records
from .._common.files import alone, check_folder, whole
from .._common.names import printable, unknown
from .._common.outputs import NotFinite, check_finite
from .._common.switches import one_core_left
from .._common.together import gathered, rank, world
from ..data.decoding import Tally
from ..data.images import prepare_frame
from .ahead import ahead
from .folder import begin, discard, mask_file, read_mask, write_mask
from .inputs import (
    Broken,
    describe,
    digest,
    inputs_of,
    is_picture,
    names_of,
    notes_on,
    pictures_of,
    skipped_in,
    sound_of,
)
from .overlay import paint, write_video
from .reading import Listener, Pictures
from .segmenter import Segmenter
from .timeline import PADDING

Until = Literal["sound", "pictures"]


class Prediction(NamedTuple):
    """One picture and what the model found in it."""

    time: float  # seconds from the first picture
    picture: np.ndarray  # (H, W, 3) uint8, upright
    logits: Tensor  # (K, h, w) float32, as the model gave them

    @property
    @torch.inference_mode()
    def probabilities(self) -> Tensor:
        """(K, H, W) float32: of the single class, or of all, which add up to 1. Recomputed on each call."""
        logits = _grown(self.logits, self.picture)
        return logits.sigmoid() if len(logits) == 1 else logits.softmax(0)

    @torch.inference_mode()
    def mask(self, threshold: float = 0.5) -> np.ndarray:
        """(H, W) uint8: 0 and 1 for one class, otherwise the index of the most likely class."""
        if len(self.logits) == 1:
            return (self.probabilities[0] > threshold).to(torch.uint8).numpy()
        # Class by class: of all at once, large pictures would take many gigabytes.
        best = _grown(self.logits[:1], self.picture)[0]
        likeliest = torch.zeros(best.shape, dtype=torch.uint8)
        for k in range(1, len(self.logits)):
            one = _grown(self.logits[k : k + 1], self.picture)[0]
            likeliest.masked_fill_(one > best, k)
            torch.maximum(best, one, out=best)
        return likeliest.numpy()


def _grown(logits: Tensor, picture: np.ndarray) -> Tensor:
    """(K, h, w) -> (K, H, W), the size of the picture."""
    return F.interpolate(logits[None], picture.shape[:2], mode="bilinear")[0]


def predict(
    segmenter: Segmenter,
    path: str | Path,
    fps: float = 1,
    audio: str | Path | None = None,
    until: Until = "sound",
) -> Iterator[Prediction]:
    """What sounds in a video at second k / fps, for k = 0, 1, ...

    path: a video; a folder of frames, in the order of their numbers, 1 / fps seconds apart; or one picture,
    which is shown as long as `audio` sounds. audio: a file to use instead of the video's own sound; a video
    without sound is silent. until: "sound" holds a video's last picture until its sound ends. The model sees
    clips of `segmenter.clip` frames; the last one is padded with its last frame and sound. Damaged pictures
    are skipped, damaged sound becomes silence. Raises FileNotFoundError or ValueError.
    """
    for clip, heard in _clips(segmenter, path, rate_of(fps), audio, until):
        yield from _segment(segmenter, path, clip, heard)


Clip = list[tuple[Fraction, np.ndarray]]  # at most `segmenter.clip` of `Pictures`


def _clips(
    segmenter: Segmenter,
    path: str | Path,
    fps: Fraction,
    audio: str | Path | None,
    until: Until,
    read: Tally | None = None,
    listened: Tally | None = None,
) -> Iterator[tuple[Clip, Tensor]]:
    """The pictures of each clip and their sound (T, samples). read, listened: count damaged packets."""
    front_end = segmenter.front_end
    listener = Listener(sound_of(path, audio, listened), front_end.sample_rate)
    pictures = pictures_of(path, fps, read)
    if is_picture(path):
        pictures = _held(pictures, fps, listener)
    elif until == "sound" and not Path(path).is_dir():
        pictures = _held(pictures, fps, listener, PADDING)
    while clip := list(islice(pictures, segmenter.clip)):
        times = torch.tensor([float(time) for time, _ in clip], dtype=torch.float64)
        windows = [listener.window(start, front_end.samples) for start in front_end.starts(times)]
        yield clip, torch.stack(windows)


def _held(pictures: Pictures, fps: Fraction, listener: Listener, padding: float = 0.0) -> Pictures:
    """The pictures, then the last one repeated until at most `padding` seconds of sound are left."""
    last = None
    for last in pictures:
        yield last
    while last and listener.reaches(round((last[0] + 1 / fps + padding) * listener.sample_rate)):
        last = last[0] + 1 / fps, last[1]
        yield last


@torch.inference_mode()
def _segment(segmenter: Segmenter, path: str | Path, clip: Clip, heard: Tensor) -> list[Prediction]:
    """What the model finds in a clip. heard: (T, samples). Raises NotFinite, with the second."""
    log_mel = segmenter.front_end(heard, torch.zeros(1))[:, 0]  # (T, 1, F, M)
    frames = torch.stack([prepare_frame(picture, segmenter.size) for _, picture in clip])  # (T, 3, h, w)
    try:
        logits = segmenter.run(_filled(frames, segmenter.clip), _filled(log_mel, segmenter.clip))[0].cpu()
        check_finite(logits, "frame {}".format)
    except NotFinite as error:
        time, _ = clip[min(error.frame, len(clip) - 1)]
        raise error.at(f"{path}, second {float(time):g}") from None
    return [Prediction(float(time), picture, one) for (time, picture), one in zip(clip, logits)]


def _filled(part: Tensor, clip: int) -> Tensor:
    """(T, ...) -> (1, clip, ...), padded with the last entry."""
    missing = part[-1:].expand(clip - len(part), *part.shape[1:])
    return torch.cat([part, missing])[None]


def rate_of(fps: float) -> Fraction:
    """Frames per second as a fraction, so that times do not drift. Raises ValueError outside 0.01 to 240."""
    if not 0.01 <= fps <= 240:
        raise ValueError(f"fps is {fps}; expected 0.01 to 240 frames per second.")
    return Fraction(str(fps)).limit_denominator(1001)


def write(
    segmenter: Segmenter,
    path: str | Path,
    folder: str | Path,
    fps: float = 1,
    audio: str | Path | None = None,
    probabilities: bool = False,
    threshold: float = 0.5,
    until: Until = "sound",
    overlay: bool = True,
    bar: tqdm | None = None,
) -> dict:
    """Writes what `predict` finds into a folder, and returns the manifest.

    masks/000000.png, ...: at the picture's own size, 0 and 255, or, with several classes, their indices in
    AVSS's colours. With `probabilities`, probabilities/000000.npz, ...: float16 (K, H, W) under the name
    `probabilities`. With `overlay`, overlay.mp4: each picture with its mask, and the sound. manifest.json:
    the arguments, each frame's time and marked share, and `complete` at the end. After a stop, even by a full
    disk, the same call resumes. Raises FileNotFoundError or ValueError: for a broken input, which leaves no
    output, and for a folder that holds something else or that another process is writing.
    """
    path, folder, audio = Path(path), Path(folder), None if audio is None else Path(audio)
    step = _checked(segmenter, fps, threshold, until)
    asked = {
        "input": path.name,
        "input_sha256": digest(path),
        "audio": audio and audio.name,
        "audio_sha256": audio and digest(audio),
        "fps": float(step),
        "until": until,
        "size": list(segmenter.size),
        "clip": segmenter.clip,
        "threshold": threshold,
        "probabilities": probabilities,
        "overlay": overlay,
        **segmenter.about,
    }
    described = describe(path, audio)
    bar = tqdm(disable=True) if bar is None else bar
    with alone(folder):
        manifest = begin(folder, asked)
        if manifest["complete"]:
            return manifest
        manifest.update(described)
        for note in notes_on(described):
            tqdm.write(f"{path}: {note}", file=sys.stderr)
        try:
            with one_core_left():
                _fill(segmenter, path, folder, step, audio, manifest, bar)
        except Broken:  # whatever else went wrong may go well later
            discard(folder)
            raise
    return manifest


def _fill(
    segmenter: Segmenter,
    path: Path,
    folder: Path,
    fps: Fraction,
    audio: str | Path | None,
    manifest: dict,
    bar: tqdm,
) -> None:
    """Writes what is missing in a folder, masks and overlay, while reading the pictures once."""
    asked, classes = manifest["asked"], segmenter.num_classes
    records.write(folder / "manifest.json", manifest)
    (folder / "masks").mkdir(exist_ok=True)
    if asked["probabilities"]:
        (folder / "probabilities").mkdir(exist_ok=True)
    video = {"seconds": None, "pixel_aspect": 1, **manifest.get("video", {})}
    bar.total = (bar.total or 0) + math.ceil(max(0, video["seconds"] or 0) * fps)
    frames, pictures, sound = [], Tally(), Tally()

    def marked() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        clips = _clips(segmenter, path, fps, audio, asked["until"], pictures, sound)
        for clip, heard in ahead(clips, 1):
            files = [mask_file(folder, k) for k in range(len(frames), len(frames) + len(clip))]
            masks = _masks(segmenter, path, clip, heard, files, asked)
            for (time, picture), file, mask in zip(clip, files, masks):
                share = round(np.count_nonzero(mask) / mask.size, 6)
                frames.append({"time": round(float(time), 6), "mask": f"masks/{file.name}", "marked": share})
                bar.update()
                yield picture, mask

    # Three threads: one reads, one segments, this one paints and encodes.
    # (CUDA graphs run in the thread that made them.)
    graphs = asked.get("compile") == "graphs"
    with closing(marked() if graphs else ahead(marked(), segmenter.clip)) as done:
        try:
            if asked["overlay"]:
                painted = (paint(picture, mask, classes) for picture, mask in done)
                heard, aspect = sound_of(path, audio), Fraction(video["pixel_aspect"])
                write_video(folder / "overlay.mp4", painted, fps, heard, aspect)
            deque(done, 0)  # all of them, of which nothing is kept
        except (ValueError, OSError):
            deque(done, 0)  # where only the overlay fails, the masks are made all the same
            raise
    if pictures.damaged or sound.damaged:
        tqdm.write(
            f"{path}: {pictures.damaged:,} of {pictures.read:,} packets of pictures and {sound.damaged:,} of "
            f"{sound.read:,} of sound cannot be decoded; they were skipped.",
            file=sys.stderr,
        )
    damaged = {"pictures": pictures.damaged, "sound": sound.damaged}
    manifest.update(damaged_packets=damaged, frames=frames, complete=True)
    records.write(folder / "manifest.json", manifest)


def _masks(
    segmenter: Segmenter, path: Path, clip: Clip, heard: Tensor, files: list[Path], asked: dict
) -> Iterable[np.ndarray]:
    """The masks of a clip: read if they exist, otherwise made now."""
    try:
        return [read_mask(file, segmenter.num_classes) for file in files]
    except (FileNotFoundError, ValueError):
        return _made(segmenter, path, clip, heard, files, asked)


def _made(
    segmenter: Segmenter, path: Path, clip: Clip, heard: Tensor, files: list[Path], asked: dict
) -> Iterator[np.ndarray]:
    """Makes and writes the masks, probabilities first: a mask shows that its frame is done."""
    for file, found in zip(files, _segment(segmenter, path, clip, heard)):
        if asked["probabilities"]:
            with whole(file.parents[1] / "probabilities" / f"{file.stem}.npz") as staging:
                np.savez_compressed(staging, probabilities=found.probabilities.half().numpy())
        mask = found.mask(asked["threshold"])
        write_mask(file, mask, segmenter.num_classes)
        yield mask


def _checked(
    segmenter: Segmenter, fps: float = 1, threshold: float = 0.5, until: Until = "sound", **_
) -> Fraction:
    """`rate_of(fps)`. Raises ValueError for arguments that are wrong for any input."""
    if until not in get_args(Until):
        raise unknown("until", until, get_args(Until))
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; expected 0 to 1.")
    if threshold != 0.5 and segmenter.num_classes > 1:
        raise ValueError(
            f"threshold is for one class; this model has {segmenter.num_classes} and takes the most likely. "
            "Leave it out."
        )
    return rate_of(fps)


def write_all(
    segmenter: Segmenter,
    given: Sequence[str | Path],
    out: str | Path,
    audio: str | Path | None = None,
    **options,
) -> list[Path]:
    """`write` for each input, into out/<stem>; with several inputs, out/manifest.json lists the results at
    the end. A broken input is reported in one line on stderr and skipped; returns those. Files in a folder
    that are not inputs are reported too.

    With several processes (torchrun), all must call it; they divide the inputs among themselves.
    """
    paths = inputs_of(given, audio)
    if not paths:
        raise ValueError("found no input; give at least one video.")
    if audio is not None and len(paths) > 1:
        raise ValueError(f"--audio goes with one input; found {len(paths)}.")
    _checked(segmenter, **options)
    check_folder(Path(out))
    first, collected, became = rank() == 0, Path(out) / "manifest.json", []
    if first and len(paths) > 1:
        collected.unlink(missing_ok=True)  # as long as it is not true
    with tqdm(unit=" frames", disable=None if first else True) as bar:
        for folder in filter(Path.is_dir, map(Path, given)) if first else ():
            for note in skipped_in(folder):
                tqdm.write(f"{folder}: {printable(note)}", file=sys.stderr)
        for path, name in list(zip(paths, names_of(paths)))[rank() :: world()]:
            bar.set_description(path.name)
            entry = {"input": str(path), "folder": name}
            try:
                manifest = write(segmenter, path, Path(out) / name, audio=audio, bar=bar, **options)
                entry["frames"] = len(manifest["frames"])
            except (ValueError, OSError, RuntimeError, MemoryError) as error:
                entry["error"] = _told(path, error)
                tqdm.write(f"lightavseg: {printable(entry['error'])}", file=sys.stderr)
            became.append(entry)
    dealt = gathered(became)
    became = [dealt[k % world()][k // world()] for k in range(len(paths))]
    if first and len(paths) > 1:
        records.write(collected, {"inputs": became})
    return [path for path, entry in zip(paths, became) if "error" in entry]


def _told(path: Path, error: Exception) -> str:
    """The message of an error. Those of the system, of PyTorch and of runtimes do not name the input."""
    if isinstance(error, ValueError) or (isinstance(error, OSError) and not error.errno):
        return str(error)
    what = str(error)
    if not isinstance(error, OSError):
        what = ": ".join([type(error).__name__, *what.strip().splitlines()[:1]])[:200]
    return f"{path}: {what}; run the same command again to resume"
