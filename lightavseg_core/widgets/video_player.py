"""The video player: pick or upload a video, and scrub through what a model marks in it."""
from __future__ import annotations

import hashlib
import html
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

import ipywidgets
import numpy as np
import torch
import torch.nn.functional as F
from ipywidgets import HBox
from PIL import Image, ImageDraw, ImageFont

from .._common.files import digests, whole
from ..data.writing import wav
from ..plots.common import BLUE, RED
from ..video.inputs import VIDEOS, sound_of
from ..video.overlay import paint
from ..video.prediction import Prediction, predict, rate_of, write
from ..video.reading import Listener, probe
from ..video.segmenter import Segmenter
from . import canvas
from .canvas import MAP, SIDE, Panel, image_widget, jpeg, tile

MOST = 600                   # pictures that are kept to scrub through: ten minutes at one a second, 75 MB
# Bytes, what a Jupyter server takes in one message unless it is told otherwise. At a larger one it drops the connection: no kernel hears of it, and
# the widget's further messages are not sent. So it is said beforehand.
UPLOAD = 10 * 2**20
SHOWABLE = 20 * 2**20        # bytes of an overlay that is sent to the browser at once
WIDTH, HEIGHT = 620, 90      # pixels of the curve


class Shot(NamedTuple):
    """What is kept of one picture, its longer side at most SIDE."""

    time: float
    picture: bytes           # JPEG
    levels: np.ndarray       # (h, w) uint8: 255 times the probability that it sounds
    labels: np.ndarray       # (h, w) uint8: the likeliest class, of a model of several; empty for one class
    heard: bytes             # WAV: what the model heard with it


def keep(name: str, content: bytes, folder: Path) -> Path:
    """Writes an upload into a folder, under its own name without any path, and returns where; the same content again is not written twice.

    Raises ValueError for a name that is no video's, and for nothing or too much.
    """
    plain = re.sub(r"[^\w.-]+", "_", re.split(r"[/\\]", name)[-1]).lstrip(".-")
    stem, suffix = Path(plain).stem[:80] or "video", Path(plain).suffix
    if suffix.lower() not in VIDEOS:
        raise ValueError(f"{plain[:80] or 'the file'}: not a video by its name; expected one that ends in {', '.join(sorted(VIDEOS))}.")
    if not 0 < len(content) <= UPLOAD:
        raise ValueError(f"{stem}{suffix}: {len(content) / 2**20:.1f} MB; an upload has more than nothing and at most {UPLOAD / 2**20:.0f} MB. "
                         f"Put a larger file into {folder}, and make the player anew.")
    for path in (folder / f"{name}{suffix}" for name in chain([stem], (f"{stem}-{n}" for n in count(2)))):
        if not path.exists():
            with whole(path) as staging:
                staging.write_bytes(content)
            return path
        if path.stat().st_size == len(content) and path.read_bytes() == content:
            return path


class _Progress(ipywidgets.IntProgress):
    """Counts as a bar of tqdm does, which is what `predict.write` asks for."""

    total = property(lambda self: self.max, lambda self, most: self.set_trait("max", most))

    def update(self, n: int = 1) -> None:
        self.value += n


class VideoPlayer(Panel):
    """A video and what a model marks in it, picture by picture, with the sound that it hears; the threshold can be moved afterwards.

    Kept to scrub through are small pictures and probabilities, of the first MOST pictures at most; `export` writes all, at full size. An error
    appears in the last line. Where no widget can run, some of the pictures and the curve take its place.

    segmenter: of `predict.load`. folder: uploads land in it, and videos that lie there can be picked; overlays are written into its `overlays`.
    videos: more to pick from, the first is picked. fps: pictures a second. Raises ValueError for an fps that `predict` does not take.
    """

    def __init__(self, segmenter: Segmenter, folder: str | Path, videos: Sequence[str | Path] = (), fps: float = 1):
        rate_of(fps)
        self.segmenter, self.folder, self.fps, self.given = segmenter, Path(folder), fps, [Path(video) for video in videos]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.shots: list[Shot] = []
        self.about = self.written = ""
        self.video = ipywidgets.Dropdown(description="video", layout={"width": "320px"})
        self.upload = ipywidgets.FileUpload(accept="video/*", multiple=False, description="Upload")
        self.start = ipywidgets.Button(description="Predict", button_style="primary", tooltip="look through the video that is picked")
        self.progress = _Progress(layout={"width": "160px", "visibility": "hidden"})
        self.play = ipywidgets.Play(min=0, max=0, interval=round(1000 / fps), layout={"width": "120px"})
        self.position = ipywidgets.IntSlider(0, min=0, max=0, description="picture", layout={"width": "420px"})
        ipywidgets.jslink((self.play, "value"), (self.position, "value"))
        self.hear = ipywidgets.Checkbox(False, description="play its sound as I move", indent=False, layout={"width": "200px"})
        self.audio = ipywidgets.Audio(format="wav", autoplay=False, loop=False, layout={"width": "300px"})
        self.threshold = ipywidgets.FloatSlider(0.5, min=0, max=1, step=0.01, description="threshold", layout={"width": "320px"},
                                                disabled=segmenter.num_classes > 1)
        self.wanted = ipywidgets.Checkbox(False, description="show the probability", indent=False, layout={"width": "170px"})
        self.save = ipywidgets.Button(description="Export", tooltip="write masks, overlay and manifest, at this threshold")
        self.picture, self.mask, self.map = (image_widget(name, "jpeg", width=f"{SIDE}px") for name in ("picture", "mask", "probability"))
        self.curve = image_widget("curve", "jpeg", max_width="100%")
        self.status = ipywidgets.HTML()
        self.film = ipywidgets.Video(format="mp4", autoplay=False, loop=False, layout={"display": "none", "width": "360px"})
        for name in ("video", "upload", "start", "progress", "position", "hear", "audio", "threshold", "wanted", "save", "status", "film"):
            getattr(self, name).add_class(f"lav-{name}")
        self._list()
        self._show()
        self.video.observe(self._on_pick, "value")
        self.position.observe(self._on_move, "value")
        self.threshold.observe(self._on_look, "value")
        self.wanted.observe(self._on_look, "value")
        self.upload.observe(self._on_upload, "value")
        self.start.on_click(lambda button: self._work(self.predict))
        self.save.on_click(lambda button: self._work(self.export))
        hint = ipywidgets.HTML(f"Upload at most {UPLOAD / 2**20:.0f} MB: a larger file makes this player fall silent. Drag that one into "
                               f"<code>{html.escape(str(folder))}</code> in Jupyter's list of files, and run this cell again.")
        self.shown = canvas.titled("probability", self.map)
        self.shown.layout.display = "none"
        wrap = {"flex_flow": "row wrap"}
        super().__init__([HBox([self.video, self.upload, self.start, self.progress], layout=wrap), hint,
                          HBox([self.play, self.position, self.hear, self.audio], layout={**wrap, "align_items": "center"}),
                          HBox([canvas.titled("picture", self.picture), canvas.titled("what the model marks", self.mask), self.shown], layout=wrap),
                          self.curve, HBox([self.threshold, self.wanted, self.save], layout=wrap), self.status, self.film], "lav-player")

    def _list(self, picked: Path | None = None) -> None:
        """What can be picked now: the videos that were given, and those in the folder."""
        inside = sorted(file for file in self.folder.iterdir() if file.is_file() and file.suffix.lower() in VIDEOS and file.name[0] != ".")
        found = list(dict.fromkeys([*self.given, *inside]))
        self.video.options = [(path.name, path) for path in found]
        if found:
            self.video.value = picked or found[0]

    # What the controls do. Each says in the last line what went wrong.

    def _work(self, task) -> None:
        """A button's task, once at a time."""
        with self.telling():
            for button in (self.start, self.save):
                button.disabled = True
            try:
                task()
            finally:
                for button in (self.start, self.save):
                    button.disabled = False

    def _on_upload(self, change: dict) -> None:
        if change["new"]:
            with self.telling():
                file, self.upload.value = change["new"][0], ()             # its bytes are not kept
                self._list(keep(file["name"], bytes(file["content"]), self.folder))

    def _on_pick(self, change: dict) -> None:
        with self.telling():
            self._clear()
            self._show()

    def _clear(self) -> None:
        """Nothing is left of the video before. `play` drags the slider along in the browser, so both go back, and before their ends move."""
        self.shots, self.about, self.written = [], "", ""
        self.play.playing = self.audio.autoplay = False
        self.play.value = self.position.value = self.play.max = self.position.max = 0
        self.film.layout.display = "none"

    def _on_move(self, change: dict) -> None:
        with self.telling():
            self.audio.autoplay = self.hear.value
            self._show()

    def _on_look(self, change: dict) -> None:
        with self.telling():
            self._show()

    @property
    def picked(self) -> Path:
        if self.video.value is None:
            raise ValueError(f"there is no video: upload one, or put one into {self.folder} and make the player anew.")
        return self.video.value

    def predict(self) -> None:
        """Looks through the video that is picked; what was read before an error stays to be looked at. Raises FileNotFoundError or ValueError."""
        path, front_end = self.picked, self.segmenter.front_end
        self._clear()
        with self._counting(f"looking through {path.name}"):
            try:
                video = probe(path)
                listener = Listener(sound_of(path, None), front_end.sample_rate)
                self.progress.total = min(math.ceil((video.seconds or 0) * self.fps), MOST)
                heard = "its own sound" if video.sample_rate else "silence, for it has no sound track"
                self.about = f"{html.escape(path.name)}, {video.width} x {video.height}, heard: {heard}"
                for found in predict(self.segmenter, path, self.fps):
                    if len(self.shots) == MOST:
                        self.about += f"; the first {MOST} pictures are kept here, Export writes all"
                        break
                    window = listener.window(front_end.starts(torch.tensor([found.time], dtype=torch.float64))[0], front_end.samples)
                    self.shots.append(_shot(found, wav(window.clamp(-1, 1).numpy(), front_end.sample_rate)))
                    self.progress.update()
                else:
                    seen = len(self.shots) / self.fps
                    if (video.seconds or 0) - seen > 1 + 1 / self.fps:        # what was cut off decodes without an error
                        self.about += f"; pictures for {seen:g} s only, though it says that it lasts {video.seconds:.0f} s: is it whole?"
            finally:
                self.play.max = self.position.max = max(len(self.shots) - 1, 0)

    def export(self) -> Path:
        """Writes masks, overlay and manifest, as `lightavseg predict` does, with the threshold that is set; returns the folder.

        The folder's name tells video, threshold and, by eight digits, all else that was asked: the same again is there already.
        """
        path, threshold = self.picked, round(self.threshold.value, 2)
        asked = json.dumps([digests([path]), self.fps, self.segmenter.size, self.segmenter.about], default=str)
        folder = self.folder / "overlays" / f"{path.stem}_{threshold:.2f}_{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
        folder.parent.mkdir(exist_ok=True)
        with self._counting(f"writing the masks of {path.name}"):
            manifest = write(self.segmenter, path, folder, self.fps, threshold=threshold, bar=self.progress)
        overlay = folder / "overlay.mp4"
        frames = len(manifest["frames"])
        self.written = f"written: <code>{html.escape(str(overlay))}</code>, {frames} pictures; beside it the masks and manifest.json"
        self._show()
        if overlay.stat().st_size <= SHOWABLE:
            self.film.value, self.film.layout.display = overlay.read_bytes(), None
        return folder

    @contextmanager
    def _counting(self, task: str) -> Iterator[None]:
        self.status.value = f"{html.escape(task)} ..."
        self.progress.value = self.progress.max = 0
        self.progress.layout.visibility = "visible"
        try:
            yield
        finally:
            self.progress.layout.visibility = "hidden"
            self._show()

    # What is shown.

    def marked(self, shot: Shot) -> np.ndarray:
        """(h, w) uint8, at the threshold that is set: 0 and 1, or the classes."""
        return shot.labels if shot.labels.size else (shot.levels > 255 * self.threshold.value).astype(np.uint8)

    def shares(self) -> list[float]:
        """Of each picture, which part is marked."""
        return [float((self.marked(shot) > 0).mean()) for shot in self.shots]

    def _views(self, shot: Shot) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The picture, the same under its mask, and under its probability."""
        picture = np.asarray(Image.open(io.BytesIO(shot.picture)))
        return picture, paint(picture, self.marked(shot), self.segmenter.num_classes), canvas.colours(shot.levels / 255, picture)

    def _show(self) -> None:
        if not self.shots:
            for image, shape in ((self.picture, (SIDE, SIDE)), (self.mask, (SIDE, SIDE)), (self.map, (SIDE, SIDE)), (self.curve, (HEIGHT, WIDTH))):
                image.value = jpeg(np.full((*shape, 3), 235, np.uint8))
            self.audio.value = b""
            self.status.value = self.written or self.about or (
                f"{html.escape(self.video.label)}: press Predict." if self.video.label else "Upload a video, and press Predict.")
            return
        shot, shares = self.shots[self.position.value], self.shares()
        views = self._views(shot)
        self.picture.value, self.mask.value = jpeg(views[0]), jpeg(views[1])
        if self.wanted.value:
            self.map.value = jpeg(views[2])
        self.shown.layout.display = None if self.wanted.value else "none"
        self.audio.value = shot.heard
        self.curve.value = jpeg(_curve([shot.time for shot in self.shots], shares, self.position.value))
        told = f"second {shot.time:g}: {shares[self.position.value]:.1%} of the picture is marked", self.about, self.written
        self.status.value = "<br>".join(filter(None, told))

    def still(self) -> tuple[np.ndarray, str]:
        if not self.shots:
            alt = "A video player in which nothing is predicted yet."
            return tile(np.full((MAP, 3 * MAP, 3), 235, np.uint8), alt), alt
        shares, chosen = self.shares(), sorted({round(x) for x in np.linspace(0, len(self.shots) - 1, 6)})
        views = [[canvas.enlarged(view, MAP) for view in self._views(self.shots[i])[:2]] for i in chosen]
        above = [tile(picture, f"second {self.shots[i].time:g}") for i, (picture, _) in zip(chosen, views)]
        below = [tile(mask, f"{shares[i]:.1%} marked") for i, (_, mask) in zip(chosen, views)]
        alt = (f"{len(chosen)} of {len(self.shots)} pictures of a video ({html.unescape(self.about)}), below them what is marked, "
               "and the marked share over time.")
        return canvas.grid([above, below, [_curve([shot.time for shot in self.shots], shares, chosen[0])]]), alt


def _shot(found: Prediction, heard: bytes) -> Shot:
    scale = min(1, SIDE / max(found.picture.shape[:2]))
    height, width = (max(round(length * scale), 1) for length in found.picture.shape[:2])
    small = np.asarray(Image.fromarray(found.picture).resize((width, height), Image.BILINEAR)) if scale < 1 else found.picture
    chances = F.interpolate(found.probabilities[None].float().cpu(), (height, width), mode="bilinear", antialias=True)[0]    # (K, h, w)
    sounds = chances[0] if len(chances) == 1 else 1 - chances[0]
    labels = chances.argmax(0).byte().numpy() if len(chances) > 1 else np.zeros(0, np.uint8)
    return Shot(found.time, jpeg(small), (255 * sounds).round().clamp(0, 255).byte().numpy(), labels, heard)


def _curve(times: Sequence[float], shares: Sequence[float], cursor: int) -> np.ndarray:
    """The marked share over time, with a line where the shown picture is: (HEIGHT, WIDTH, 3)."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, font, most, last = ImageDraw.Draw(image), ImageFont.load_default(12), max(*shares, 0.01), max(times[-1], 1e-6)
    left, right, top, bottom = 44, WIDTH - 12, 20, HEIGHT - 20
    places = [(left + time / last * (right - left), bottom - share / most * (bottom - top)) for time, share in zip(times, shares)]
    draw.line([(left, top), (left, bottom), (right, bottom)], fill="grey")
    draw.line([(places[cursor][0], top), (places[cursor][0], bottom)], fill=RED, width=2)
    draw.line(places, fill=BLUE, width=2)
    for x, y in places if len(places) <= 100 else ():
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=BLUE)
    draw.text((left, 2), "marked share of the picture", fill="black", font=font)
    draw.text((left - 4, top), f"{most:.0%}", fill="black", font=font, anchor="ra")
    draw.text((left - 4, bottom), "0%", fill="black", font=font, anchor="rb")
    draw.text((left, HEIGHT - 16), f"{times[0]:g} s", fill="black", font=font)
    draw.text((right, HEIGHT - 16), f"{times[-1]:g} s", fill="black", font=font, anchor="ra")
    return np.asarray(image)
