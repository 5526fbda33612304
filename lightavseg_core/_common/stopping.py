"""Requests to stop: Ctrl-C, or SIGTERM, which clusters send before they take a machine away."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """Work was asked to stop and has reached a point from which it can be resumed.

    number: of the signal.
    """

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number


class Request:
    """number: of the signal that asked to stop, or 0."""

    number = 0


@contextmanager
def requests(patient: bool = False) -> Iterator[Request]:
    """Within, the first signal is noted and the next one stops at once. If the body ends by itself first,
    the request is raised after it. patient: later signals are ignored, since one of several processes gets
    Ctrl-C twice: from the terminal and from its launcher."""
    request = Request()

    def note(number: int, _: object) -> None:
        if request.number:
            if not patient:
                raise KeyboardInterrupt
            return
        request.number = number
        with suppress(OSError):  # not `print`, which may be at work just now
            more = b"" if patient else b"; ask again to stop at once"
            os.write(2, b"\nstopping as soon as this can be resumed later" + more + b"\n")

    with _handled(SIGNALS, note):
        yield request
    if request.number:
        raise Stopped(request.number, "stopped; everything was done")


@contextmanager
def terminated_cleanly() -> Iterator[None]:
    """Within, SIGTERM raises an exception as Ctrl-C does, so that unfinished work is cleaned up."""

    def stop(number: int, _: object) -> None:
        raise Stopped(number, "stopped; what has been written is kept")

    with _handled((signal.SIGTERM,), stop):
        yield


def ignore_termination() -> None:
    """For a process that is about to end by itself: a launcher that has lost one process terminates the
    others, and would cut short what they have to say."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def _handled(numbers: Iterable[int], handler: Callable[[int, object], None]) -> Iterator[None]:
    """Handles these signals, except those that are ignored or not Python's, and only in the main thread. What
    the body has set itself stays."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in numbers}
    before = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, old)
