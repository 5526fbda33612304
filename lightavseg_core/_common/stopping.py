"""Being asked to stop: by Ctrl-C, or by SIGTERM, as clusters do before they take a machine away."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """What was asked to stop has come to a place from which it can go on.

    number: the signal's.
    """

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number


class Request:
    """number: of the signal that asked, or 0."""

    number = 0


@contextmanager
def requests() -> Iterator[Request]:
    """Within, the first signal is noted, and the next one ends at once. In another thread than the main one
    signals do what they did."""
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, _: object) -> None:
        if request.number:
            raise KeyboardInterrupt
        request.number = number

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def terminated_cleanly() -> Iterator[None]:
    """Within, SIGTERM is an exception like Ctrl-C, so that what was begun is tidied up."""

    def stop(number: int, _: object) -> None:
        raise Stopped(number, "stopped; what was written until now is kept")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
