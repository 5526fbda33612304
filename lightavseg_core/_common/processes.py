"""Worker processes."""
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
    """To be called first in a worker: leaves Ctrl-C to the parent, and ends with it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent_process().join()
    os._exit(1)


@contextmanager
def without_main() -> Iterator[None]:
    """Wraps the start of processes that do not need the program's main file.

    Otherwise they would run that file again, and without `if __name__ == "__main__"` it would start the same
    processes once more, which Python stops with an error.
    """
    own = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = own
