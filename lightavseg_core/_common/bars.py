"""Progress bars that leave messages a line of their own."""
from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bars_closed() -> Iterator[None]:
    """If the body raises, first closes the bars that it opened, so that the error gets a line of its own."""
    before = _open()
    try:
        yield
    except BaseException:
        for bar in _open() - before:
            bar.close()
        raise


def _open() -> set:
    tqdm = sys.modules.get("tqdm")  # not imported for this: `lightavseg --help` answers at once
    return set(tqdm.tqdm._instances) if tqdm else set()
