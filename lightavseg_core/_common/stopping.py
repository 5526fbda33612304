"""Being asked to stop: by Ctrl-C, or by SIGTERM, as clusters do before they take a machine away."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

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
def requests(patient: bool = False) -> Iterator[Request]:
    """Within, the first signal is noted, and the next one ends at once. What asked in vain, since the body
    ended by itself, is raised after it. patient: no next one does, as one of several processes gets Ctrl-C
    twice: from the terminal, and from its launcher."""
    request = Request()

    def note(number: int, _: object) -> None:
        if request.number:
            if not patient:
                raise KeyboardInterrupt
            return
        request.number = number
        with suppress(OSError):  # not `print`, which may be at work just now
            more = b"" if patient else b"; once more: at once"
            os.write(2, b"\nstopping as soon as this can go on later" + more + b"\n")

    with _handled(SIGNALS, note):
        yield request
    if request.number:
        raise Stopped(request.number, "stopped; all was done")


@contextmanager
def terminated_cleanly() -> Iterator[None]:
    """Within, SIGTERM is an exception like Ctrl-C, so that what was begun is tidied up."""

    def stop(number: int, _: object) -> None:
        raise Stopped(number, "stopped; what was written until now is kept")

    with _handled((signal.SIGTERM,), stop):
        yield


@contextmanager
def _handled(numbers: Iterable[int], handler: Callable[[int, object], None]) -> Iterator[None]:
    """Signals that are ignored, or not Python's, stay so, and all do in a thread that is not the main one."""
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
            signal.signal(number, old)
