"""Clips of the photographs, composed by another program than the workbook's generator: other backgrounds,
sizes, places and levels, and no rooms. Written from AVSBench's layout alone, to see whether what a model
learned is the photographs or the generator."""

import csv
import wave

import av
import numpy as np
from PIL import Image, ImageFilter

SECONDS, SIDE, RATE = 5, 128, 16_000


def recording(path):
    """(samples,) float, as stored, at 16 kHz."""
    resampler, parts = av.AudioResampler("flt", "mono", RATE), []
    with av.open(str(path)) as file:
        for frame in file.decode(audio=0):
            parts += resampler.resample(frame)
        parts += resampler.resample(None)
    return np.concatenate([part.to_ndarray().ravel() for part in parts])


def background(draw):
    """Blurred blots, or stripes, of a few colours."""
    if draw.random() < 0.5:
        cells = draw.integers(20, 235, (9, 9, 3)).astype(np.uint8)
        return Image.fromarray(cells).resize((SIDE, SIDE), Image.NEAREST).filter(ImageFilter.GaussianBlur(5))
    colours = draw.integers(20, 235, (2, 3))
    wave_ = np.sin(np.arange(SIDE) * draw.uniform(0.05, 0.4))[:, None] > 0
    rows = np.where(wave_, *colours).astype(np.uint8)
    stripes = Image.fromarray(np.broadcast_to(rows[:, None], (SIDE, SIDE, 3)).copy())
    return stripes.rotate(draw.integers(4) * 90)


def place(draw, sides, taken):
    """A corner (x, y) for a picture: of eight the one where least is taken."""
    corners = [[int(draw.integers(0, max(1, SIDE - side))) for side in sides] for _ in range(8)]
    free = min(corners, key=lambda c: taken[c[1] : c[1] + sides[1], c[0] : c[0] + sides[0]].sum())
    taken[free[1] : free[1] + sides[1], free[0] : free[0] + sides[0]] = True
    return free


def clip(draw, cutouts):
    """Pictures, masks and sound: two to four things, each at its place, that pop up in every second."""
    by_name = {cutouts[k].category: cutouts[k] for k in draw.permutation(len(cutouts))}
    chosen = list(by_name.values())[: draw.integers(2, 5)]
    placed, taken = [], np.zeros((SIDE, SIDE), bool)
    for one in chosen:
        image = Image.open(one.picture).convert("RGBA")
        image = image.crop(image.getchannel("A").getbbox())
        opaque = (np.asarray(image)[..., 3] > 127).sum()
        scale = np.sqrt(draw.uniform(0.025, 0.1) * SIDE**2 / opaque)
        image = image.resize([max(4, round(scale * side)) for side in image.size], Image.BOX)
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.random() < 0.5 else image
        placed.append((image, place(draw, image.size, taken)))
    on = draw.random((len(chosen), SECONDS)) < 0.4
    ground, pictures, masks = background(draw), [], []
    sound = draw.normal(0, 0.002, SECONDS * RATE)
    for t in range(SECONDS):
        picture, mask = ground.copy(), np.zeros((SIDE, SIDE), bool)
        for (image, corner), sounds in zip(placed, on[:, t]):
            moved = [min(max(0, p + int(draw.integers(-3, 4))), SIDE - 4) for p in corner]
            picture.paste(image, moved, image)
            shape = Image.new("L", (SIDE, SIDE))
            shape.paste(image.getchannel("A"), moved)
            mask = np.where(np.asarray(shape) > 127, sounds, mask)
        pictures.append(picture)
        masks.append(mask)
    for one, sounds in zip(chosen, on):
        call = recording(one.sounds[0])
        loud = np.flatnonzero(np.abs(call) > 0.05 * np.abs(call).max())
        call = call[loud[0] : loud[-1] + 1]
        call = call * 0.06 * 10 ** (draw.uniform(-5, 5) / 20) / np.sqrt((call**2).mean())
        for t in np.flatnonzero(sounds):
            again = np.resize(np.append(call, np.zeros(RATE // 5)), RATE)
            sound[t * RATE : (t + 1) * RATE] += again
    return pictures, masks, np.clip(sound, -1, 1)


def compose(root, cutouts, clips, seed=0):
    """MS3's layout with so many test clips."""
    home, draw = root / "Multi-sources", np.random.default_rng([seed, 77])
    for folder in ("visual_frames", "gt_masks/test", "audio_wav/test"):
        (home / "ms3_data" / folder).mkdir(parents=True)
    with (home / "ms3_meta_data.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("name", "start", "split"))
        rows.writerows((f"other{k}", 0, "test") for k in range(clips))
    for k in range(clips):
        pictures, masks, sound = clip(draw, cutouts)
        frames, truth = (home / "ms3_data" / p / f"other{k}" for p in ("visual_frames", "gt_masks/test"))
        frames.mkdir()
        truth.mkdir()
        for t, (picture, mask) in enumerate(zip(pictures, masks), start=1):
            picture.save(frames / f"other{k}.mp4_{t}.png")
            Image.fromarray(mask.astype(np.uint8) * 255).save(truth / f"other{k}_{t}.png")
        with wave.open(str(home / "ms3_data" / "audio_wav" / "test" / f"other{k}.wav"), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", None))
            file.writeframes((sound * 32767).astype("<i2").tobytes())
    return root
