"""What the widgets are put together from: controls, pictures with a title, and the frame around them."""
from __future__ import annotations

import base64
import html
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ipywidgets
import numpy as np
from ipywidgets import HTML, HBox, VBox

from ..plots.common import RED
from .canvas import encoded, grid

WRAPPED = {"flex_flow": "row wrap", "grid_gap": "4px 16px"}    # a row that breaks where the page is narrow


def control(name: str, kind: type, width: str | None = None, **options) -> ipywidgets.DOMWidget:
    """A widget of CSS class lav-NAME."""
    return kind(layout={"width": width}, **options).add_class(f"lav-{name}")


class Picture(ipywidgets.Image):
    """An empty picture of CSS class lav-NAME. format: of `canvas.encoded`. layout: by default 190px wide."""

    def __init__(self, name: str, format: str = "jpeg", **layout: str):
        layout = layout or {"width": "190px"}
        # A box stretches what does not say so.
        super().__init__(format=format, layout={"align_self": "flex-start", **layout})
        self.add_class(f"lav-{name}")

    def show(self, image: np.ndarray) -> None:
        self.value = encoded(image, self.format)


def titled(pictures: dict[str, Picture]) -> HBox:
    """Pictures by title, side by side."""
    return HBox([VBox([HTML(f"<b>{title}</b>"), image]) for title, image in pictures.items()], layout=WRAPPED)


def second_slider(item: dict, second: int) -> ipywidgets.IntSlider:
    """Through the frames of a clip, an item of `AVSBench`. Raises ValueError for a second that it has not."""
    last = len(item["frames"]) - 1
    if not 0 <= second <= last:
        raise ValueError(f"second {second}: the clip has {last + 1}, numbered from 0.")
    return control("second", ipywidgets.IntSlider, "300px", value=second, max=last, description="second")


class Panel(VBox):
    """A widget that tells errors to its reader, in its last line; where no widget can run, a picture.

    name: its CSS class. `status` is the line above the last one. A panel has `show`: everything anew, as the
    controls have it; and `still`: rows of pictures, and what a reader sees in them.
    """

    def __init__(self, name: str):
        super().__init__()
        self.add_class(name)
        self.status = control("status", HTML)
        self.message = control("message", HTML)

    def lay_out(self, *rows: ipywidgets.Widget) -> None:
        """What is seen, from the top, without the two last lines."""
        self.children = [*rows, self.status, self.message]

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Around what a callback does: an exception there would end in a log that nobody reads.

        `started` is when it began, in seconds.
        """
        self.started = time.perf_counter()
        try:
            yield
            self.message.value = ""
        except Exception as error:
            told = html.escape(f"{type(error).__name__}: {error}")
            self.message.value = f'<b style="color:{RED}">{told}</b>'

    def _on_change(self, change: dict) -> None:
        with self.telling():
            self.show()

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        data = super()._repr_mimebundle_(**kwargs)
        rows, alt = self.still()
        image = base64.b64encode(encoded(grid(rows), "jpeg")).decode()
        return {**data, "image/jpeg": image, "text/plain": alt}, {"image/jpeg": {"alt": alt}}
