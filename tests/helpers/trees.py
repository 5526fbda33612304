"""Trees in AVSBench's layouts of files that this project did not make: pictures that ship with matplotlib,
and masks of each flavour that AVSBench comes in. Written here by hand, not by the package."""

import csv
import json
import shutil
import wave
from pathlib import Path

import matplotlib.cbook
import numpy as np
from PIL import Image

from lightavseg_core.data.palette import voc_palette

NAMES = ("grace_hopper.jpg", "logo2.png", "Minduka_Present_Blue_Pack.png")  # JPEG, and PNG with transparency
PICTURES = {name: Path(matplotlib.cbook.get_sample_data(name, asfileobj=False)) for name in NAMES}
LABELS = {"background": 0, **{f"thing {i}": i for i in range(1, 71)}}
NEAREST = Image.Resampling.NEAREST


def area(picture):
    """What the masks mark: what is brighter than the picture's mean. (H, W) bool."""
    grey = np.asarray(Image.open(PICTURES[picture]).convert("L"))
    return grey > grey.mean()


def indexed(values):
    image = Image.fromarray(values, "P")
    image.putpalette(voc_palette(256).tobytes())
    return image


def grey(value):
    return lambda on: Image.fromarray(on * np.uint8(value))


def opaque(on):
    colour = on * np.uint8(200)
    return Image.fromarray(np.dstack([colour, colour, colour, np.full(on.shape, 255, np.uint8)]))


def half_as_large(on):
    return grey(255)(on).resize((on.shape[1] // 2, on.shape[0] // 2), NEAREST)


FLAVOURS = {  # of a binary mask; marked pixels -> picture
    "0 and 255": grey(255),
    "class values": grey(23),
    "0 and 1": grey(1),
    "one bit": Image.fromarray,
    "palette": lambda on: indexed(on * np.uint8(7)),
    "RGBA": opaque,
    "half as large": half_as_large,
}
COLOURS = {  # of a semantic mask; kind of its clip, folder, classes -> picture
    "RGB": ("v1s", "labels_rgb", lambda classes: Image.fromarray(voc_palette(71)[classes])),
    "RGBA": ("v1m", "labels_rgb", lambda classes: Image.fromarray(voc_palette(71)[classes]).convert("RGBA")),
    "palette": ("v2", "labels_rgb", indexed),
    "semantic": ("v1m", "labels_semantic", lambda classes: Image.fromarray(classes - np.uint8(1))),
}


def put(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, format="PNG")


def copy(source, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)


def tone(path, seconds, rate=16_000, channels=1):
    """A WAV with 1 kHz in its last channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.zeros((round(seconds * rate), channels))
    samples[:, -1] = 0.4 * np.sin(2 * np.pi * 1000 * np.arange(len(samples)) / rate)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(np.round(32767 * samples).astype("<i2").tobytes())


def table(path, columns, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def binary_tree(root, subset, flavours=FLAVOURS, split="val", seconds=5.0):
    """A clip of each flavour, each of one real picture, as S4 or MS3. -> picture of each clip, by its
    name."""
    single = subset == "s4"
    folder = root / ("Single-source" if single else "Multi-sources")
    base, inner = folder / f"{subset}_data", Path(split, "dog_barking" if single else ".")
    shown = {f"clip_{number}": NAMES[number % 3] for number in range(len(flavours))}
    for (name, picture), flavour in zip(shown.items(), flavours, strict=True):
        for t in range(1, 6):
            frame = f"{inner}/{name}/{name}_{t}.png" if single else f"{name}/{name}.mp4_{t}.png"
            copy(
                PICTURES[picture], base / "visual_frames" / frame
            )  # JPEG, too, in a file that is called .png
            put(FLAVOURS[flavour](area(picture)), base / "gt_masks" / inner / name / f"{name}_{t}.png")
        tone(base / "audio_wav" / inner / f"{name}.wav", seconds)
    if single:
        columns, rows = ["name", "start", "category", "split"], [(n, 0, "dog_barking", split) for n in shown]
    else:
        columns, rows = ["name", "start", "split"], [(name, 0, split) for name in shown]
    table(folder / f"{subset}_meta_data.csv", columns, rows)
    return shown


def semantic_tree(root):
    """A clip of each flavour and kind, of the photograph, as AVSS. -> classes of every clip's pixels."""
    classes = area("grace_hopper.jpg") * np.uint8(5) + np.uint8(2) * (np.arange(600)[:, None] > 400)
    rows = []
    for flavour, (kind, folder, picture) in COLOURS.items():
        base = root / kind / f"{flavour}_0"
        for t in range(10 if kind == "v2" else 5):
            copy(PICTURES["grace_hopper.jpg"], base / "frames" / f"{t}.jpg")
            put(picture(classes), base / folder / f"{t}.png")
        tone(base / "audio.wav", 10.02 if kind == "v2" else 5.0)
        rows.append(["https", base.name, 0, 5, "thing 5_thing 2", "test", kind])
    table(root / "metadata.csv", ["vid", "uid", "s_min", "s_sec", "a_obj", "split", "label"], rows)
    (root / "label2idx.json").write_text(json.dumps(LABELS))
    return classes
