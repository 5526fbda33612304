"""The video player: pick or upload a video, and scrub through what a model marks in it."""
from __future__ import annotations

import hashlib
import html
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ipywidgets
import numpy as np
import torch
from ipywidgets import Audio, Button, Checkbox, Dropdown, FileUpload, FloatSlider, HBox, IntSlider, Play
from PIL import Image

from .._common.files import check_folder, digests
from ..data.writing import wav
from ..video.inputs import VIDEOS, sound_of
from ..video.overlay import paint
from ..video.prediction import predict, rate_of, write
from ..video.reading import Listener, probe
from ..video.segmenter import Segmenter
from . import canvas
from .canvas import MAP, SIDE
from .panel import WRAPPED, Panel, Picture, all_or_nothing, control, titled
from .shots import HEIGHT, WIDTH, Shot, curve
from .uploads import UPLOAD, keep

MOST = 600                   # pictures that are kept to scrub through: ten minutes at one a second, 75 MB
SHOWABLE = 20 * 2**20        # bytes of an overlay that is sent to the browser at once


class _Progress(ipywidgets.IntProgress):
    """Counts like a tqdm bar, as `prediction.write` expects."""

    total = property(lambda self: self.max, lambda self, most: self.set_trait("max", most))

    def update(self, n: int = 1) -> None:
        self.value += n


class VideoPlayer(Panel):
    """A video and what a model marks in it, picture by picture, with the sound that it hears.

    The threshold can be moved afterwards. For scrubbing, it keeps small pictures and probabilities of at most
    the first MOST pictures; `export` writes all, at full size. An error appears in the last line. Where no
    widget can run, it is some of the pictures and the curve.

    segmenter: from `segmenter.load`. folder: it takes uploads, and its videos can be picked; overlays are
    written into its `overlays`. videos: more to pick from; the first is picked. fps: pictures per second.
    Raises ValueError for an fps that `predict` does not accept, and for a folder that cannot be one.
    """

    @all_or_nothing
    def __init__(
        self, segmenter: Segmenter, folder: str | Path, videos: Sequence[str | Path] = (), fps: float = 1
    ):
        rate_of(fps)
        check_folder(Path(folder))
        super().__init__("lav-player")
        self.segmenter, self.folder, self.fps = segmenter, Path(folder), fps
        self.given = [Path(video) for video in videos]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.shots: list[Shot] = []
        self.about = self.written = ""
        chance = {"description": "show the probability", "indent": False}
        share = {"value": 0.5, "max": 1, "step": 0.01, "disabled": segmenter.num_classes > 1}
        quiet = {"autoplay": False, "loop": False}
        self.video = control("video", Dropdown, "320px", description="video")
        self.upload = control("upload", FileUpload, accept="video/*", description="Upload")
        self.start = control("start", Button, button_style="primary", description="Predict")
        self.progress = control("progress", _Progress, "160px")
        self.play = control("play", Play, "120px", max=0, interval=round(1000 / fps))
        self.position = control("position", IntSlider, "420px", max=0, description="picture")
        self.link = ipywidgets.jslink((self.play, "value"), (self.position, "value"))
        self.hear = control("hear", Checkbox, "200px", description="play its sound as I move", indent=False)
        self.audio = control("audio", Audio, "300px", format="wav", **quiet)
        self.threshold = control("threshold", FloatSlider, "320px", description="threshold", **share)
        self.wanted = control("wanted", Checkbox, "170px", **chance)
        self.save = control("save", Button, description="Export", tooltip="masks, overlay, manifest")
        names = "picture", "mask", "probability"
        self.picture, self.mask, self.map = (Picture(name, width=f"{SIDE}px") for name in names)
        self.curve = Picture("curve", "png", max_width="100%")
        self.film = control("film", ipywidgets.Video, "360px", format="mp4", **quiet)
        self.progress.layout.visibility, self.film.layout.display = "hidden", "none"
        titles = "picture", "what the model marks", "probability"
        self.pictures = titled(dict(zip(titles, (self.picture, self.mask, self.map))))
        self.shown = self.pictures.children[2]
        self.shown.layout.display = "none"
        self._list()
        self.show()
        self.video.observe(self._on_pick, "value")
        self.position.observe(self._on_move, "value")
        for look in (self.threshold, self.wanted):
            look.observe(self._on_change, "value")
        self.upload.observe(self._on_upload, "value")
        self.start.on_click(lambda button: self._work(self.predict))
        self.save.on_click(lambda button: self._work(self.export))
        hint = (
            f"Upload at most {UPLOAD / 2**20:.0f} MB: a larger file makes this player stop responding. "
            f"Drag such a file into <code>{html.escape(str(folder))}</code> in Jupyter's file list "
            "and run this cell again."
        )
        self.lay_out(
            HBox([self.video, self.upload, self.start, self.progress], layout=WRAPPED),
            ipywidgets.HTML(hint),
            HBox([self.play, self.position, self.hear, self.audio], layout=WRAPPED),
            self.pictures,
            self.curve,
            HBox([self.threshold, self.wanted, self.save], layout=WRAPPED),
            self.film,
        )

    def _list(self, picked: Path | None = None) -> None:
        """Lists what can be picked now: the given videos and those in the folder."""
        inside = [file for file in sorted(self.folder.iterdir()) if file.is_file() and file.name[0] != "."]
        films = [file for file in inside if file.suffix.lower() in VIDEOS]
        found = list(dict.fromkeys([*self.given, *films]))
        self.video.options = [(path.name, path) for path in found]
        if found:
            self.video.value = picked or found[0]

    # What the controls do. Each says in the last line what went wrong.

    def _work(self, task: Callable) -> None:
        """A button's task, one at a time."""
        with self.telling():
            self.start.disabled = self.save.disabled = True
            try:
                task()
            finally:
                self.start.disabled = self.save.disabled = False

    def _on_upload(self, change: dict) -> None:
        if change["new"]:
            with self.telling():
                file, self.upload.value = change["new"][0], ()             # its bytes are not kept
                self._list(keep(file["name"], bytes(file["content"]), self.folder))

    def _on_pick(self, change: dict) -> None:
        with self.telling():
            self._clear()
            self.show()

    def _clear(self) -> None:
        """Removes everything of the previous video.

        `play` moves the slider in the browser, so both are reset, before their ends change.
        """
        self.shots, self.about, self.written = [], "", ""
        self.play.playing = self.audio.autoplay = False
        self.play.value = self.position.value = self.play.max = self.position.max = 0
        self.film.layout.display = "none"

    def _on_move(self, change: dict) -> None:
        with self.telling():
            self.audio.autoplay = self.hear.value
            self.show()

    @property
    def picked(self) -> Path:
        if self.video.value is None:
            todo = f"upload one, or put one into {self.folder} and create the player again"
            raise ValueError(f"there is no video: {todo}.")
        return self.video.value

    def predict(self) -> None:
        """Runs the model on the picked video; pictures read before an error stay visible.

        Raises FileNotFoundError or ValueError.
        """
        path, front_end = self.picked, self.segmenter.front_end
        self._clear()
        with self._counting(f"looking through {path.name}"):
            video = probe(path)
            seconds, listener = video.seconds or 0, Listener(sound_of(path, None), front_end.sample_rate)
            self.progress.total = min(math.ceil(seconds * self.fps), MOST)
            heard = "its own sound" if video.sample_rate else "silence, since it has no sound track"
            self.about = f"{html.escape(path.name)}, {video.width} x {video.height}, heard: {heard}"
            try:
                for found in predict(self.segmenter, path, self.fps):
                    if len(self.shots) == MOST:
                        self.about += f"; only the first {MOST} pictures are kept here, Export writes all"
                        return
                    start = front_end.starts(torch.tensor([found.time], dtype=torch.float64))[0]
                    window = listener.window(start, front_end.samples).clamp(-1, 1)
                    self.shots.append(Shot.of(found, wav(window.numpy(), front_end.sample_rate)))
                    self.progress.update()
            except BaseException:                                  # the message goes with the next look
                self.about += f"; stopped after {len(self.shots)} pictures"
                raise
            shown = len(self.shots) / self.fps
            if seconds - shown > 1 + 1 / self.fps:                 # what was cut off decodes without an error
                self.about += f"; it has pictures for only {shown:g} s but claims {seconds:.0f} s"
                self.about += ": is it complete?"

    def export(self) -> Path:
        """Writes masks, overlay and manifest, as `lightavseg predict` does, and returns the folder.

        They use the current threshold. The folder's name tells the video, the threshold and, in eight digits,
        all other settings: the same export is not written twice.
        """
        path, threshold = self.picked, round(self.threshold.value, 2)
        asked = digests([path]), self.fps, self.segmenter.size, self.segmenter.about
        digest = hashlib.sha256(json.dumps(asked, default=str).encode()).hexdigest()[:8]
        folder = self.folder / "overlays" / f"{path.stem}_{threshold:.2f}_{digest}"
        folder.parent.mkdir(exist_ok=True)
        with self._counting(f"writing the masks of {path.name}"):
            manifest = write(self.segmenter, path, folder, self.fps, threshold=threshold, bar=self.progress)
        overlay = folder / "overlay.mp4"
        name, count = html.escape(str(overlay)), len(manifest["frames"])
        self.written = f"written: <code>{name}</code>, {count} pictures, with masks and manifest.json"
        self.show()
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
            self.play.max = self.position.max = max(len(self.shots) - 1, 0)
            self.show()

    # What is shown.

    def marked(self, shot: Shot) -> np.ndarray:
        """(h, w) uint8, at the current threshold: 0 and 1, or the classes."""
        if shot.labels.size:
            return shot.labels
        return (shot.levels > 255 * self.threshold.value).astype(np.uint8)

    def shares(self) -> list[float]:
        """The marked share of each picture."""
        return [float((self.marked(shot) > 0).mean()) for shot in self.shots]

    def _curve(self, cursor: int) -> np.ndarray:
        return curve([shot.time for shot in self.shots], self.shares(), cursor)

    def _views(self, shot: Shot) -> tuple[np.ndarray, np.ndarray]:
        """The picture, and the picture with its mask."""
        picture = np.asarray(Image.open(io.BytesIO(shot.picture)))
        return picture, paint(picture, self.marked(shot), self.segmenter.num_classes)

    def show(self) -> None:
        if not self.shots:
            for image in (self.picture, self.mask, self.map):
                image.show(canvas.blank(SIDE, SIDE, 235))
            self.curve.show(canvas.blank(HEIGHT, WIDTH, 235))
            self.audio.value = b""
            name = html.escape(self.video.label or "Upload a video")
            self.status.value = self.written or self.about or f"{name}: press Predict."
            return
        k = self.position.value
        shot, share = self.shots[k], self.shares()[k]
        picture, mask = self._views(shot)
        self.picture.value = shot.picture
        self.mask.show(mask)
        if self.wanted.value:
            self.map.show(canvas.colours(shot.levels / 255, picture))
        self.shown.layout.display = None if self.wanted.value else "none"
        self.audio.value = shot.heard
        self.curve.show(self._curve(k))
        told = f"second {shot.time:g}: {share:.1%} of the picture is marked"
        self.status.value = "<br>".join(filter(None, (told, self.about, self.written)))

    def still(self) -> tuple[list[list[np.ndarray]], str]:
        if not self.shots:
            alt = "A video player in which nothing is predicted yet."
            return [[canvas.tile(canvas.blank(MAP, 3 * MAP, 235), alt, 3 * MAP)]], alt
        shares = self.shares()
        chosen = sorted({round(x) for x in np.linspace(0, len(self.shots) - 1, 6)})
        above, below = [], []
        for k in chosen:
            picture, mask = self._views(self.shots[k])
            above.append(canvas.tile(picture, f"second {self.shots[k].time:g}"))
            below.append(canvas.tile(mask, f"{shares[k]:.1%} marked"))
        alt = (
            f"{len(chosen)} of {len(self.shots)} pictures of a video ({html.unescape(self.about)}), "
            "below them what is marked, and the marked share over time."
        )
        return [above, below, [self._curve(chosen[0])]], alt
