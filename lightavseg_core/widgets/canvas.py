"""What the widgets share: pictures made as arrays (a redraw by matplotlib takes too long for a slider), what a model sees, and their frame."""
from __future__ import annotations

import base64
import html
import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import ipywidgets
import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from ..evaluation import evaluating, frame_iou
from ..inspection.scales import probability
from ..plots.common import BLUE, RED

VIRIDIS = (matplotlib.colormaps["viridis"](np.arange(256))[:, :3] * 255).astype(np.uint8)
SIDE = 256      # pixels of a picture that is to be read; shown at SHOWN
SHOWN = "190px"
MAP = 112       # pixels of one of many pictures
CAPTION = 20    # pixels below a tile
GAP = 8         # pixels between tiles


class Seen(NamedTuple):
    """What a model makes of one frame."""

    mask: Tensor              # (H, W) bool
    similarity: list[Tensor]  # (h, w) of each scale, coarse to fine; empty for a method that has no scales
    audio: list[Tensor]       # (D,)   the audio state of each scale


def logits_and_scales(model: nn.Module, frames: Tensor, log_mel: Tensor) -> tuple[Tensor, list]:
    """frames (T, 3, H, W), log_mel (T, 1, F, M) of one clip -> logits (T, classes, H, W), and the scales, maybe none. In eval mode."""
    device = next(model.parameters()).device
    with torch.inference_mode(), evaluating(model):
        output = model(frames[None].to(device), log_mel[None].to(device), return_scales=True)
    return output.logits[0].float().cpu(), output.scales or []


def look(model: nn.Module, frames: Tensor, log_mel: Tensor) -> list[Seen]:
    """What a model makes of each frame of a clip: frames (T, 3, H, W), log_mel (T, 1, F, M)."""
    logits, scales = logits_and_scales(model, frames, log_mel)
    masks = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(1) > 0                     # (T, H, W)
    return [Seen(masks[t], [s.similarity[0, t].float().cpu() for s in scales], [s.audio[0, t].float().cpu() for s in scales])
            for t in range(len(masks))]


def frames_are_independent(model: nn.Module, frames: Tensor, log_mel: Tensor) -> bool:
    """Whether a model makes the same of the last frame alone as within its clip, whatever is heard: tried with random log-mels.

    A clip of one frame does not tell: False.
    """
    if len(frames) == 1:
        return False
    heard = log_mel + torch.randn(log_mel.shape, generator=torch.Generator().manual_seed(0))
    within, alone = logits_and_scales(model, frames, heard)[0][-1:], logits_and_scales(model, frames[-1:], heard[-1:])[0]
    return torch.allclose(within, alone, rtol=1e-4, atol=1e-4 * within.abs().max().item())


def most(clip: Sequence[Seen]) -> list[float]:
    """The largest number in the audio state of each scale, over a clip's frames: what its bars are measured by."""
    return [max(seen.audio[i].abs().max().item() for seen in clip) for i in range(len(clip[0].audio))]


def is_supervised(model: nn.Module) -> bool:
    """Whether a method trains its similarity maps to be the mask (L_msa), so that they are probabilities."""
    return model.auxiliary.startswith("alignment")


def heat(similarity: Tensor, model: nn.Module) -> np.ndarray:
    """A similarity map as (h, w), 0 to 1: the probability that L_msa supervises where a method trains with it, else from its least to its most."""
    if is_supervised(model):
        return probability(similarity).numpy()
    low, high = similarity.min(), similarity.max()
    return ((similarity - low) / (high - low).clamp_min(1e-12)).numpy()


def colours(values: np.ndarray, picture: np.ndarray, share: float = 0.7) -> np.ndarray:
    """A map (h, w), 0 to 1, in viridis over a picture (H, W, 3) uint8, whose size it takes without smoothing."""
    levels = Image.fromarray((values * 255).round().clip(0, 255).astype(np.uint8)).resize(picture.shape[1::-1], Image.NEAREST)
    return (share * VIRIDIS[np.asarray(levels)] + (1 - share) * picture.mean(-1, keepdims=True)).astype(np.uint8)


def bars(state: Tensor, most: float, width: int, height: int) -> np.ndarray:
    """An audio state (D,) as bars of |x| / most, one per channel, blue above 0 and orange below: (height, width, 3)."""
    channel = np.arange(width) * len(state) // width
    values = state.numpy()[channel] / max(most, 1e-12)
    filled = np.arange(height, 0, -1)[:, None] <= np.abs(values) * height
    paint = np.where((values > 0)[:, None], _rgb(BLUE), _rgb(RED))                                 # (width, 3)
    return np.where(filled[..., None], paint, 235).astype(np.uint8)


def _rgb(color: str) -> np.ndarray:
    return np.array([int(color[i:i + 2], 16) for i in (1, 3, 5)], np.uint8)


def eight_bit(picture: Tensor | np.ndarray) -> np.ndarray:
    return (np.asarray(picture) * 255).round().astype(np.uint8)


def enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture (H, W, 3) uint8 with its longer side at `side` pixels."""
    scale = side / max(picture.shape[:2])
    size = tuple(max(round(length * scale), 1) for length in picture.shape[1::-1])
    return np.asarray(Image.fromarray(picture).resize(size, Image.BILINEAR))


def numbered(picture: np.ndarray, places: Sequence[tuple[str, float, float]]) -> np.ndarray:
    """A picture with labels at places, (text, x, y) in shares of its width and height."""
    image = Image.fromarray(picture)
    draw, (width, height) = ImageDraw.Draw(image), image.size
    for text, x, y in places:
        x, y = min(max(x * width, 11), width - 11), min(max(y * height, 11), height - 11)
        draw.ellipse((x - 11, y - 11, x + 11, y + 11), fill="black", outline="white")
        draw.text((x, y), text, fill="white", font=ImageFont.load_default(15), anchor="mm")
    return np.asarray(image)


@lru_cache(256)
def _caption(text: str, width: int) -> np.ndarray:
    """Drawing a text takes longer than all else in a tile, and a widget's captions seldom change."""
    image = Image.new("RGB", (width, CAPTION), "white")
    ImageDraw.Draw(image).text((0, 3), text, fill="black", font=ImageFont.load_default(12))
    return np.asarray(image)


def tile(picture: np.ndarray, caption: str) -> np.ndarray:
    """A picture with a caption below it."""
    return np.concatenate([picture, _caption(caption, picture.shape[1])])


def grid(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Pictures in rows on white, a gap between them; a row's pictures are as high as its highest."""
    heights = [max(picture.shape[0] for picture in row) for row in rows]
    width = max(sum(picture.shape[1] + GAP for picture in row) for row in rows) - GAP
    canvas = np.full((sum(heights) + GAP * (len(rows) - 1), width, 3), 255, np.uint8)
    top = 0
    for row, height in zip(rows, heights):
        left = 0
        for picture in row:
            canvas[top:top + picture.shape[0], left:left + picture.shape[1]] = picture
            left += picture.shape[1] + GAP
        top += height + GAP
    return canvas


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def jpeg(picture: np.ndarray) -> bytes:
    """Not exact, but of a large picture made in a tenth of the time that a PNG takes."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "jpeg", quality=92, subsampling=0)
    return buffer.getvalue()


def image_widget(name: str, format: str = "png", **layout: str) -> ipywidgets.Image:
    """An empty picture of CSS class lav-NAME."""
    image = ipywidgets.Image(format=format, layout={"align_self": "flex-start", **layout})     # a box stretches what does not say so
    image.add_class(f"lav-{name}")
    return image


def titled(title: str, image: ipywidgets.Image) -> ipywidgets.VBox:
    return ipywidgets.VBox([ipywidgets.HTML(f"<b>{title}</b>"), image])


class Panel(ipywidgets.VBox):
    """A widget that tells errors to its reader, in its last line, and stands for itself as a picture where no widget can run."""

    def __init__(self, children: Sequence[ipywidgets.Widget], name: str):
        self.message = ipywidgets.HTML()
        self.message.add_class("lav-message")
        super().__init__([*children, self.message])
        self.add_class(name)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Around what a callback does: an exception there would end in a log that nobody reads. `started` is when it began, in seconds."""
        self.started = time.perf_counter()
        try:
            yield
            self.message.value = ""
        except Exception as error:
            self.message.value = f'<b style="color:{RED}">{type(error).__name__}: {html.escape(str(error))}</b>'

    def still(self) -> tuple[np.ndarray, str]:
        """The picture, and what a reader sees in it."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        data = super()._repr_mimebundle_(**kwargs)
        picture, alt = self.still()
        return {**data, "image/png": base64.b64encode(png(picture)).decode(), "text/plain": alt}, {"image/png": {"alt": alt}}


def second_slider(item: dict, second: int) -> ipywidgets.IntSlider:
    if not 0 <= second < len(item["frames"]):
        raise ValueError(f"second {second}: the clip has {len(item['frames'])}, numbered from 0.")
    slider = ipywidgets.IntSlider(second, min=0, max=len(item["frames"]) - 1, description="second")
    slider.add_class("lav-second")
    return slider


def about_mask(mask: Tensor, truth: Tensor) -> str:
    return f"{mask.float().mean():.1%} of the frame is marked; IoU with the truth {frame_iou(mask[None], truth[None]).item():.2f}"
