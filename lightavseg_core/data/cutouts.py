"""Cut-outs: pictures whose alpha channel is an exact mask, each with recordings of its sound, as a cast.

A category keeps its shape and its call; everything else varies from clip to clip, so that no single picture
or recording can be memorized: mirroring, rotation, light and colour; pitch, speed, room, and the pauses
between calls.
"""
from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from .._common.files import sha256
from .cast import RATE, Cast, Thing
from .layout import MAX_CLASSES

PICTURES, SOUNDS = (".png", ".webp"), (".wav", ".ogg", ".oga", ".opus", ".mp3", ".flac", ".m4a")
BACKGROUNDS = "backgrounds"  # a folder of photographs, in the cast's
MOST = 5000  # files of a folder that is a cast
LARGEST = 512  # pixels of a side; larger pictures are made smaller once
LONGEST = 12 * RATE  # samples of a recording that are used
QUIET = 0.1  # of a recording's loudest 20 ms: what stays below is no call, but the recording's own noise
PAUSE = 0.05, 0.35  # seconds between two calls
THINNEST = 0.9  # area within a disc of radius 1, of a bar 17 times as long as wide. Longer ones find no place
LARGEST_BACKGROUND = 2048  # pixels of a side


class Cutout(NamedTuple):
    """A picture and its recordings. credit: who made them, and under which licence."""

    category: str
    individual: str
    picture: Path
    sounds: tuple[Path, ...]
    unseen: bool = False
    credit: str = ""


class Variation(NamedTuple):
    """How far a clip departs from its recordings and pictures. Pairs are ranges, drawn from uniformly."""

    semitones: float = 2  # of pitch, up or down
    rooms: float = 0.5  # share of the sounds that are heard in a room
    decay: tuple[float, float] = (0.1, 0.6)  # seconds in which its echo falls by 60 dB
    echo: tuple[float, float] = (-18, -6)  # dB, against the sound
    hiss: tuple[float, float] | None = None  # dB of noise in a recording, against the sound; None: no more
    clouds: float = 1 / 3  # share of the clips whose background is no photograph
    light: float = 0.4  # of a picture, octaves up or down
    colour: tuple[float, float] = (0.6, 1.2)  # saturation
    contrast: tuple[float, float] = (0.85, 1.15)
    stretch: float = 0  # of a picture's width against its height, octaves up or down


USUAL = Variation()


class Cutouts(Cast):
    """Files are read when first needed. Raises ValueError or FileNotFoundError then, with the file's name."""

    turns = False

    def __init__(
        self, name: str, cutouts: Sequence[Cutout], backgrounds: Sequence[Path] = (),
        variation: Variation = USUAL,
    ):
        self.name, self.cutouts, self.backgrounds = name, list(cutouts), list(backgrounds)
        self.variation = variation
        self.categories = sorted({cutout.category for cutout in cutouts})
        self._pictures: dict[Path, Image.Image] = {}
        self._sounds: dict[Path, np.ndarray] = {}

    @property
    def used(self) -> set[Path]:
        """The files that were read so far; to measure the things, their pictures are all read."""
        return {*self._pictures, *self._sounds}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that clips depend on: what is shown and heard, and as which category."""
        lines = [" ".join(map(sha256, self.backgrounds))]
        for cutout in self.cutouts:
            files = " ".join(map(sha256, (cutout.picture, *cutout.sounds)))
            lines.append(f"{cutout.category} {cutout.unseen} {files}")
        if self.variation != USUAL:
            lines.append(str(self.variation))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @cached_property
    def things(self) -> list[Thing]:
        found = []
        for cutout in self.cutouts:
            alpha = np.asarray(self._picture(cutout.picture))[..., 3]
            area = (alpha > 127).sum() / _reach(alpha)[2] ** 2
            if area < THINNEST:
                raise ValueError(f"{cutout.picture}: too thin for a scene. Use another picture.")
            found.append(Thing(self.categories.index(cutout.category), float(area), cutout.unseen))
        return found

    # --- what is heard ---

    def sound(self, thing, time, rng):
        cutout, varied = self.cutouts[thing], self.variation
        call = self._recording(cutout.sounds[rng.integers(len(cutout.sounds))])
        faster = 2 ** (rng.uniform(-varied.semitones, varied.semitones) / 12)
        call = np.interp(np.arange(0, len(call) - 1, faster), np.arange(len(call)), call)
        start = int(rng.integers(len(call)))
        pieces, length = [call[start:]], len(call) - start  # at first in the middle of a call
        while length < len(time):
            pause = np.zeros(int(rng.uniform(*PAUSE) * RATE))
            pieces += [pause, call * 10 ** (rng.uniform(-2, 2) / 20)]
            length += len(pause) + len(call)
        track = np.concatenate(pieces)[: len(time)]
        if varied.hiss:
            loudness = np.sqrt((track**2).mean()) * 10 ** (rng.uniform(*varied.hiss) / 20)
            track = track + loudness * rng.standard_normal(len(track))
        return _in_a_room(track, varied, rng) if rng.random() < varied.rooms else track

    def _recording(self, path: Path) -> np.ndarray:
        """A recording's calls alone, with RMS 1: without silence at the ends, with pauses cut to 0.25 s."""
        if path not in self._sounds:
            from .decoding import read_audio

            samples = read_audio(path, RATE).numpy().astype(np.float64)[:LONGEST]
            step = RATE // 50
            if len(samples) < step or not np.isfinite(samples).all() or not samples.any():
                raise ValueError(f"{path}: is silent. Give another recording.")
            blocks = np.pad(samples, (0, -len(samples) % step)).reshape(-1, step)
            loud = np.sqrt((blocks**2).mean(1))
            calls = np.flatnonzero(loud > QUIET * loud.max())
            near = np.abs(np.arange(len(blocks))[:, None] - calls).min(1) <= 6
            near[: calls[0]], near[calls[-1] + 1 :] = False, False
            kept = blocks[near].ravel()
            self._sounds[path] = kept / np.sqrt((kept**2).mean())
        return self._sounds[path]

    # --- what is seen ---

    def dress(self, things, size, rng):
        background = self._background(size, rng)
        return background, [self._dressed(self.cutouts[thing].picture, rng) for thing in things]

    def _picture(self, path: Path) -> Image.Image:
        """The part of a picture that is not transparent, RGBA."""
        if path not in self._pictures:
            from .images import open_image

            image = open_image(path).convert("RGBA")
            alpha = image.getchannel("A")
            box, opaque = alpha.point(lambda value: 255 * (value > 127)).getbbox(), np.asarray(alpha) > 127
            if box is None or opaque.all():
                found = "is transparent all over" if box is None else "has no transparent part"
                expected = "expected a cut-out, whose alpha channel is the mask"
                raise ValueError(f"{path}: {found}; {expected}. Cut it out first.")
            image = image.crop(box)
            image.thumbnail((LARGEST, LARGEST))
            if not (np.asarray(image)[..., 3] > 127).any():
                raise ValueError(f"{path}: consists of thin lines. Use another picture.")
            self._pictures[path] = image
        return self._pictures[path]

    def _dressed(self, path: Path, rng: np.random.Generator):
        image, varied = self._picture(path), self.variation
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if varied.stretch:
            wider = 2 ** (rng.uniform(-varied.stretch, varied.stretch) / 2)
            image = image.resize((round(image.width * wider) or 1, round(image.height / wider) or 1))
        light = 2 ** rng.uniform(-varied.light, varied.light) * rng.uniform(0.92, 1.08, 3)
        colour, contrast = rng.uniform(*varied.colour), rng.uniform(*varied.contrast)
        pixels = np.asarray(image).astype(np.float64)
        grey = pixels[..., :3].mean(-1, keepdims=True)
        pixels[..., :3] = (grey + colour * (pixels[..., :3] - grey) - 128) * contrast + 128
        pixels[..., :3] *= light
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGBA")
        return partial(_placed, _Small(image), _reach(pixels[..., 3]), rng.uniform(-25, 25, 2))

    def _background(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """A crop of a photograph; in some clips, or without photographs, clouds of colour."""
        if rng.random() < self.variation.clouds or not self.backgrounds:
            return _clouds(size, rng)
        path = self.backgrounds[rng.integers(len(self.backgrounds))]
        if path not in self._pictures:
            from .images import open_image

            self._pictures[path] = open_image(path).convert("RGB")
            self._pictures[path].thumbnail((LARGEST_BACKGROUND, LARGEST_BACKGROUND))
        image = self._pictures[path]
        side = rng.uniform(0.4, 1) * min(image.size)
        x, y = (rng.uniform(0, whole - side) for whole in image.size)
        part = image.resize((size, size), Image.BICUBIC, box=(x, y, x + side, y + side), reducing_gap=2)
        pixels = np.asarray(part).astype(np.float64)
        pixels = pixels[:, ::-1] if rng.random() < 0.5 else pixels
        return np.clip(pixels * 2 ** rng.uniform(-0.5, 0.5), 0, 255)


class _Small:
    """A picture, cached at the size last used: a clip shows it many times."""

    def __init__(self, image: Image.Image):
        self.image, self.size, self.small = image, None, None

    def at(self, size: tuple[int, int]) -> Image.Image:
        if size != self.size:
            self.size, self.small = size, self.image.resize(size, Image.LANCZOS)
        return self.small


def _placed(picture: _Small, reach, shading, center, radius, angle, size):
    scale = radius / reach[2]
    sides = tuple(max(1, round(scale * side)) for side in picture.image.size)
    small = picture.at(sides)
    x, y = (middle * side / whole for middle, side, whole in zip(reach, sides, picture.image.size))
    cos, sin = np.cos(angle), np.sin(angle)
    # Where in the small picture a pixel of the frame lies.
    back = (cos, sin, x - cos * center[0] - sin * center[1], -sin, cos, y + sin * center[0] - cos * center[1])
    pixels = np.asarray(small.transform((size, size), Image.Transform.AFFINE, back, Image.BICUBIC))
    axis = np.arange(size) / size - 0.5
    shade = shading[0] * axis + shading[1] * axis[:, None]
    return pixels[..., 3] / 255, np.clip(pixels[..., :3] + shade[..., None], 0, 255)


def _reach(alpha: np.ndarray) -> tuple[float, float, float]:
    """The centre (x, y) of the opaque part, and the radius of the disc that keeps it apart from others:
    between a disc of its area and one that holds 95% of it, as few things are round."""
    y, x = np.nonzero(alpha > 127)
    center = x.mean() + 0.5, y.mean() + 0.5
    far = np.quantile(np.hypot(x + 0.5 - center[0], y + 0.5 - center[1]), 0.95)
    return *center, float(np.sqrt(far * np.sqrt(len(x) / np.pi)))


def _clouds(size: int, rng: np.random.Generator) -> np.ndarray:
    """Soft clouds of colour: the finer the scale, the smaller the change."""
    picture = np.zeros((size, size, 3)) + rng.uniform(40, 215, 3)
    strength = rng.uniform(20, 60)
    for cells in (3, 6, 12, 24, 48):
        coarse = rng.normal(0, strength, (cells, cells, 1)) + rng.normal(0, strength / 3, (cells, cells, 3))
        channels = [Image.fromarray(channel.astype(np.float32)) for channel in coarse.transpose(2, 0, 1)]
        picture += np.stack([channel.resize((size, size), Image.BICUBIC) for channel in channels], -1)
        strength *= rng.uniform(0.4, 0.8)
    return np.clip(picture, 0, 255)


def _in_a_room(track: np.ndarray, varied: Variation, rng: np.random.Generator) -> np.ndarray:
    """Adds the reverberation of a room: noise that decays."""
    falls, wet = rng.uniform(*varied.decay), 10 ** (rng.uniform(*varied.echo) / 20)
    time = np.arange(int(falls * RATE)) / RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / falls)
    length = 1 << (len(track) + len(tail)).bit_length()
    echo = np.fft.irfft(np.fft.rfft(track, length) * np.fft.rfft(tail, length), length)[: len(track)]
    return track + wet * echo * np.sqrt((track**2).mean() / max((echo**2).mean(), 1e-12))


def media_in(folder: Path) -> list[Path]:
    """A folder's pictures and sounds, in the same order on every system, without hidden ones."""
    kinds, found = {*PICTURES, ".jpg", ".jpeg", *SOUNDS}, []
    for path in folder.rglob("*"):
        own = path.relative_to(folder)
        if path.suffix.lower() in kinds and not any(part.startswith(".") for part in own.parts):
            found.append((own.as_posix(), path))
        if len(found) > MOST:
            raise ValueError(f"{folder}: holds more than {MOST:,} pictures and sounds. Give another folder.")
    return [path for _, path in sorted(found) if path.is_file()]


def from_folder(folder: Path) -> Cutouts:
    """A cast of your own: NAME.png beside NAME.wav, or a folder NAME with the pictures and sounds of one
    category, which are combined freely; photographs in `backgrounds`.

    Raises FileNotFoundError if there is no such folder, and ValueError for a picture without sound.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such cast. Give shapes, photos, or a folder of pictures (PNG with transparency) "
            "and sounds, such as dog.png and dog.wav."
        )
    files, cutouts, backgrounds = media_in(folder), [], []
    for path in files:
        group = path.parent.relative_to(folder).parts
        if group[:1] == (BACKGROUNDS,):
            backgrounds += [path] if path.suffix.lower() in (*PICTURES, ".jpg", ".jpeg") else []
        elif path.suffix.lower() in PICTURES:
            beside = [other for other in files if other.parent == path.parent]
            beside = [other for other in beside if group or other.stem == path.stem]
            sounds = tuple(other for other in beside if other.suffix.lower() in SOUNDS)
            if not sounds:
                raise ValueError(f"{path}: has no sound beside it. Add {path.stem}.wav, or remove it.")
            cutouts.append(Cutout(group[0] if group else path.stem, path.stem, path, sounds))
    names = {cutout.category for cutout in cutouts}
    if "background" in names or len(names) >= MAX_CLASSES:
        wrong = "a category called background" if "background" in names else f"{len(names)} categories"
        raise ValueError(f"{folder}: has {wrong}; at most {MAX_CLASSES} classes fit, background included.")
    return Cutouts(str(folder), cutouts, backgrounds)
