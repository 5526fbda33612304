"""Processes that work for this one."""
from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from types import ModuleType


def end_with_parent() -> None:
    """To be called first in a worker: it leaves Ctrl-C to its parent, and ends with it, killed or not."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent_process().join()
    os._exit(1)


@contextmanager
def without_main() -> Iterator[None]:
    """Around the start of processes that need nothing of the program's own file.

    They would run it first, once more, and where it does not say `if __name__ == "__main__"` would start the
    same processes again, which Python ends with an error.
    """
    own = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = own
