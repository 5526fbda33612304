"""From a video to masks, in a stream: what is in memory does not grow with its length, and what was stopped goes on where it was."""
from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain, count, islice, repeat, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor
from tqdm.auto import tqdm

from .data.audio import decode_audio
from .data.avsbench import MEAN, STD, open_image
from .data.layout import voc_palette
from .data.video import Listener, probe, read_frames, read_sound
from .environment import versions
from .overlay import paint, whole, write_video
from .segmenter import Segmenter, digests, load

__all__ = ["Prediction", "Segmenter", "load", "predict", "write", "write_all"]

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}
VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".flv", ".wmv", ".ogv", ".gif"}


class Prediction(NamedTuple):
    """One picture and where it sounds."""

    time: float                                 # seconds from the first picture
    picture: np.ndarray                         # (H, W, 3) uint8, upright
    probabilities: Tensor                       # (K, H, W) float32: of the one class, or of all classes, which add up to 1

    def mask(self, threshold: float = 0.5) -> np.ndarray:
        """(H, W) uint8: 0 and 1 for one class, otherwise the index of the likeliest class."""
        one = len(self.probabilities) == 1
        return (self.probabilities[0] > threshold if one else self.probabilities.argmax(0)).to(torch.uint8).cpu().numpy()


def predict(segmenter: Segmenter, path: str | Path, fps: float = 1, audio: str | Path | None = None, first: int = 0) -> Iterator[Prediction]:
    """What sounds in a video at second k / fps, for k = first, first + 1, ...; `first` must be a multiple of `segmenter.clip`.

    path: a video; or one picture, which is looked at as long as `audio` sounds. audio: a file to hear instead of the video's own sound; a
    video without sound is silent. Clips of `segmenter.clip` frames are seen at a time; the last is filled up with its last frame and sound.
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
            yield Prediction(float(time), picture, _probabilities(one, picture.shape[:2]))


@torch.inference_mode()
def _segment(segmenter: Segmenter, frames: Tensor, log_mel: Tensor) -> Tensor:
    """(T, 3, h, w), (T, 1, F, M) -> (T, K, h, w)."""
    missing = segmenter.clip - len(frames)
    fill = lambda part: torch.cat([part, part[-1:].expand(missing, *part.shape[1:])])[None]                         # noqa: E731
    return segmenter.run(fill(frames), fill(log_mel))[0, :len(frames)].cpu()


@torch.inference_mode()
def _probabilities(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(K, h, w) -> (K, *size)."""
    logits = F.interpolate(logits[None], size, mode="bilinear")[0]
    return logits.sigmoid() if len(logits) == 1 else logits.softmax(0)


def prepare_frame(picture: np.ndarray, size: tuple[int, int]) -> Tensor:
    """(H, W, 3) uint8 -> (3, *size) float32 with ImageNet's mean and deviation, as `data.AVSBench` does it."""
    frame = torch.from_numpy(picture).permute(2, 0, 1)[None]
    if frame.shape[-2:] != size:
        frame = F.interpolate(frame.float(), size, mode="bilinear", antialias=True).round().clamp(0, 255)
    return (frame[0].float() / 255 - MEAN) / STD


def rate_of(fps: float) -> Fraction:
    """Frames per second as a fraction, so that times do not drift. Raises ValueError outside 0.01 to 240."""
    if not 0.01 <= fps <= 240:
        raise ValueError(f"fps is {fps}; expected 0.01 to 240 frames per second.")
    return Fraction(str(fps)).limit_denominator(1001)


def is_picture(path: str | Path) -> bool:
    return Path(path).suffix.lower() in PICTURES


def pictures_of(path: str | Path, fps: Fraction, first: int = 0) -> Iterator[tuple[Fraction, np.ndarray]]:
    """(time, picture) from frame `first` on: a video's; or one picture again and again, without end."""
    if not is_picture(path):
        return read_frames(path, fps, first)
    picture = np.array(ImageOps.exif_transpose(open_image(Path(path))).convert("RGB"))
    return zip((k / fps for k in count(first)), repeat(picture))


def sound_of(path: str | Path, audio: str | Path | None) -> Iterator[tuple[int, np.ndarray]]:
    """What is heard, of `data.video.read_sound`; nothing where a video has no sound."""
    if audio is not None:
        return read_sound(audio)
    if is_picture(path):
        raise ValueError(f"{path}: a picture makes no sound. Give it some with --audio FILE.")
    video = probe(path)
    return iter(()) if video.sample_rate is None else read_sound(path, video.origin)


def write(segmenter: Segmenter, path: str | Path, folder: str | Path, fps: float = 1, audio: str | Path | None = None,
          probabilities: bool = False, threshold: float = 0.5, bar: tqdm | None = None) -> dict:
    """Writes what `predict` finds into a folder, and returns the manifest.

    masks/000000.png, ...: at the picture's own size, 0 and 255, or for more classes their indices in AVSS's colours. With `probabilities`,
    probabilities/000000.npz, ...: float16 (K, H, W) under the name `probabilities`. overlay.mp4: each picture with its mask, and the sound.
    manifest.json: what was asked, each frame's time and marked share; `complete` when all is there. Stopped, the same call goes on where it
    was. Raises FileNotFoundError or ValueError; ValueError also for a folder that holds something else.
    """
    path, folder, step = Path(path), Path(folder), _checked(segmenter, fps, threshold)
    asked = {"input": path.name, "input_sha256": digests([path]).get(path.name), "audio": None, "audio_sha256": None, "fps": float(step),
             "size": list(segmenter.size), "clip": segmenter.clip, "threshold": threshold, "probabilities": probabilities, **segmenter.about}
    if audio is not None:
        asked.update(audio=Path(audio).name, audio_sha256=digests([Path(audio)]).get(Path(audio).name))
    described = _describe(path, audio)
    manifest = _begin(folder, asked)
    if manifest["complete"]:
        return manifest
    manifest.update(described)
    if manifest["heard"] == "silence":
        tqdm.write(f"{path}: has no sound track; the model hears silence.", file=sys.stderr)
    _write_json(folder / "manifest.json", manifest)
    masks, maps = folder / "masks", folder / "probabilities"
    masks.mkdir(exist_ok=True)
    if probabilities:
        maps.mkdir(exist_ok=True)
    done = next(k for k in count() if not (masks / f"{k:06}.png").exists()) // segmenter.clip * segmenter.clip
    bar = tqdm(disable=True) if bar is None else bar
    bar.total = (bar.total or 0) + math.ceil((manifest.get("video", {}).get("seconds") or 0) * step)
    bar.update(done)
    for k, found in enumerate(predict(segmenter, path, fps, audio, done), done):
        if probabilities:                                           # before the mask, which says that the frame is done
            with whole(maps / f"{k:06}.npz") as staging:
                np.savez_compressed(staging, probabilities=found.probabilities.half().cpu().numpy())
        _write_mask(masks / f"{k:06}.png", found.mask(threshold), segmenter.num_classes)
        bar.update()
    frames = manifest["frames"] = []
    write_video(folder / "overlay.mp4", _painted(path, step, masks, segmenter.num_classes, frames), step, sound_of(path, audio))
    manifest["complete"] = True
    _write_json(folder / "manifest.json", manifest)
    return manifest


def _checked(segmenter: Segmenter, fps: float = 1, threshold: float = 0.5, **_) -> Fraction:
    """`rate_of(fps)`. Raises ValueError for arguments that no input could do with."""
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; expected 0 to 1.")
    if threshold != 0.5 and segmenter.num_classes > 1:
        raise ValueError(f"threshold is for one class; this model has {segmenter.num_classes}, of which the likeliest is taken. Leave it out.")
    return rate_of(fps)


def _begin(folder: Path, asked: dict) -> dict:
    """The manifest of a folder: the one that is there, or a new one. Raises ValueError where the folder holds something else."""
    file = folder / "manifest.json"
    if not file.is_file():
        # Whoever was killed while `whole` wrote the very first manifest has left that: it is written anew.
        if folder.exists() and (not folder.is_dir() or any(found.name != ".manifest.json" for found in folder.iterdir())):
            raise ValueError(f"{folder}: holds files that are not of `lightavseg predict`. Give another --out.")
        folder.mkdir(parents=True, exist_ok=True)
        return {"complete": False, "asked": asked, "versions": versions(("torch", "torchaudio", "av", "numpy", "pillow"))}
    try:
        manifest = json.loads(file.read_text())
        before = manifest["asked"]
        changed = [name for name in asked if before.get(name) != asked[name]]
        manifest["complete"] = bool(manifest["complete"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{file}: not a manifest of `lightavseg predict`. Give another --out, or remove the folder.") from None
    if changed:
        values = "; ".join(f"{name} was {before.get(name)}, is {asked[name]}" for name in changed if "sha256" not in name)
        raise ValueError(f"{folder}: was made from other arguments ({values or 'other content of ' + ', '.join(changed)}). "
                         "Give another --out, or remove it.")
    return manifest


def _describe(path: Path, audio: str | Path | None) -> dict:
    """What the manifest says of an input and of its sound. Raises FileNotFoundError or ValueError where one cannot be decoded."""
    if audio is not None and next(decode_audio(audio), None) is None:
        raise ValueError(f"{audio}: holds no sound samples. Record it again.")
    if is_picture(path):
        next(pictures_of(path, Fraction(1)))
        sound_of(path, audio)
        return {"heard": Path(audio).name}
    video = probe(path)
    own = {"rate": video.sample_rate, "channels": video.channels} if video.sample_rate else None
    heard = Path(audio).name if audio else "its own sound" if own else "silence"
    return {"video": {"width": video.width, "height": video.height, "seconds": video.seconds, "sound": own}, "heard": heard}


def _write_json(path: Path, content: dict) -> None:
    with whole(path) as staging:
        staging.write_text(json.dumps(content, indent=1) + "\n")


def _write_mask(path: Path, mask: np.ndarray, classes: int) -> None:
    image = Image.fromarray(mask * 255 if classes == 1 else mask)
    if classes > 1:
        image.putpalette(voc_palette(classes).tobytes())
    with whole(path) as staging:
        image.save(staging)


def _painted(path: Path, fps: Fraction, masks: Path, classes: int, frames: list) -> Iterator[np.ndarray]:
    """Pictures under their masks, which are read back; appends to `frames` what the manifest says of each."""
    for k, (time, picture) in enumerate(pictures_of(path, fps)):
        if not (file := masks / f"{k:06}.png").exists():
            return
        mask = np.array(open_image(file))
        mask = mask // 255 if classes == 1 else mask
        frames.append({"time": round(float(time), 6), "mask": f"masks/{file.name}", "marked": round(float((mask > 0).mean()), 6)})
        yield paint(picture, mask, classes)


def inputs_of(paths: Sequence[str | Path]) -> list[Path]:
    """Files to predict from: those given, and a folder's videos. Raises FileNotFoundError, or ValueError for a folder without videos."""
    found: dict[Path, Path] = {}                                    # in order, each once
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder.")
        files = [path]
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
            files = [file for file in inside if file.suffix.lower() in VIDEOS]
            if not files:
                frames = sum(map(is_picture, inside))
                raise ValueError(f"{path}: holds no video" + (f", but {frames} pictures: a folder of frames is not a video. Make one of them "
                                 "(FFmpeg does), or give one picture with --audio FILE." if frames else ". Give a video, or a folder of videos."))
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def names_of(paths: Sequence[Path]) -> list[str]:
    """A folder's name for each input: its stem; where others had it before, with -2, -3, ..."""
    names: dict[str, str] = {}                                      # without case, because some file systems do not know it
    for path in paths:
        name = next(name for name in chain([path.stem], (f"{path.stem}-{n}" for n in count(2))) if name.casefold() not in names)
        names[name.casefold()] = name
    return list(names.values())


def write_all(segmenter: Segmenter, paths: Sequence[str | Path], out: str | Path, audio: str | Path | None = None, **options) -> list[Path]:
    """`write` for each input, into out/<stem>. A broken one is told of in one line on stderr and skipped; returns those."""
    paths, failed = inputs_of(paths), []
    if not paths or (audio is not None and len(paths) > 1):
        raise ValueError("give at least one video." if not paths else f"--audio goes with one input; found {len(paths)}.")
    _checked(segmenter, **options)
    with tqdm(unit=" frames", disable=None) as bar:
        for path, name in zip(paths, names_of(paths)):
            bar.set_description(path.name)
            try:
                write(segmenter, path, Path(out) / name, audio=audio, bar=bar, **options)
            except (ValueError, OSError) as error:
                tqdm.write(f"lightavseg: {error}", file=sys.stderr)
                failed.append(path)
    return failed
