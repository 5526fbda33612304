"""The parts of the widgets: controls, pictures with titles, and the frame around them."""
from __future__ import annotations

import base64
import html
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps

import ipywidgets
import numpy as np
from ipywidgets import HTML, HBox, VBox, Widget

from ..plots.common import RED
from .canvas import encoded, grid

WRAPPED = {"flex_flow": "row wrap", "grid_gap": "4px 16px"}    # a row that breaks where the page is narrow


def control(name: str, kind: type, width: str | None = None, **options) -> ipywidgets.DOMWidget:
    """A widget of CSS class lav-NAME."""
    return kind(layout={"width": width}, **options).add_class(f"lav-{name}")


class Picture(ipywidgets.Image):
    """An empty picture of CSS class lav-NAME. format: see `canvas.encoded`. layout: by default 190px wide."""

    def __init__(self, name: str, format: str = "jpeg", **layout: str):
        layout = layout or {"width": "190px"}
        # A box stretches what does not say so.
        super().__init__(format=format, layout={"align_self": "flex-start", **layout})
        self.add_class(f"lav-{name}")

    def show(self, image: np.ndarray) -> None:
        self.value = encoded(image, self.format)


def discard(widgets: Widget | Sequence[Widget]) -> None:
    """Closes widgets and everything attached to them: children, layouts and styles, links.

    ipywidgets keeps each one alive, in Python and in the browser, until it is closed itself.
    """
    waiting, found = [widgets], {}
    while waiting:
        one = waiting.pop()
        if isinstance(one, (list, tuple)):
            waiting += one
        elif isinstance(one, Widget) and id(one) not in found:
            found[id(one)] = one
            waiting += vars(one).values()                   # a panel's links, for which it has no trait
            there = filter(one.trait_has_value, one.trait_names())
            waiting += [getattr(one, name) for name in there]
    for one in found.values():                              # what holds others goes first
        one.unobserve_all()
        Widget.close(one)


def all_or_nothing(init: Callable) -> Callable:
    """Decorates a panel's constructor: if it raises, nothing of the panel remains."""

    @wraps(init)
    def made(panel: Panel, *args, **kwargs) -> None:
        try:
            init(panel, *args, **kwargs)
        except BaseException:
            panel.close()
            raise

    return made


def titled(pictures: dict[str, Picture]) -> HBox:
    """Pictures by title, side by side."""
    return HBox([VBox([HTML(f"<b>{title}</b>"), image]) for title, image in pictures.items()], layout=WRAPPED)


def second_slider(item: dict, second: int) -> ipywidgets.IntSlider:
    """A slider through the frames of an `AVSBench` item. Raises ValueError for a second out of range."""
    last = len(item["frames"]) - 1
    if not 0 <= second <= last:
        raise ValueError(f"second {second}: the clip has {last + 1} seconds, numbered from 0.")
    return control("second", ipywidgets.IntSlider, "300px", value=second, max=last, description="second")


class Panel(VBox):
    """A widget that shows errors in its last line; where no widget can run, it is a picture.

    name: its CSS class. `status` is the line above the last one. A panel has `show`, which updates everything
    from the controls, or nothing if it raises; and `still`, which returns rows of pictures and their
    description. `close` frees everything, the model too.
    """

    def __init__(self, name: str):
        super().__init__()
        self._shell = {*vars(self), "_shell", "_repr_mimebundle_"}
        self.add_class(name)
        self.status = control("status", HTML)
        self.message = control("message", HTML)

    def lay_out(self, *rows: ipywidgets.Widget) -> None:
        """Sets the rows of the panel, from the top, above its last two lines."""
        self.children = [*rows, self.status, self.message]

    def close(self) -> None:
        """Leaves only a shell, which a notebook may keep among its outputs. Closing twice does no harm."""
        discard(self)
        for name in vars(self).keys() - vars(self).get("_shell", vars(self).keys()):
            delattr(self, name)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Wraps a callback: an exception there would end in a log that nobody reads.

        `started` is its start time, in seconds.
        """
        self.started = time.perf_counter()
        try:
            yield
            self.message.value = ""
        except Exception as error:
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        told = html.escape(f"{type(error).__name__}: {error}")
        self.message.value = f'<b style="color:{RED}">{told}</b>'

    def _on_change(self, change: dict) -> None:
        with self.telling():
            self.show()

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        data = super()._repr_mimebundle_(**kwargs)
        try:
            rows, alt = self.still()
        except Exception as error:
            self._tell(error)
            return data, {}
        image = base64.b64encode(encoded(grid(rows), "jpeg")).decode()
        return {**data, "image/jpeg": image, "text/plain": alt}, {"image/jpeg": {"alt": alt}}
