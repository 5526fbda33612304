"""Work done ahead: the next items are made while the current ones are used."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
END = object()


def ahead(items: Generator[Item], most: int) -> Iterator[Item]:
    """`items`, of which a separate thread makes up to `most` in advance.

    An exception is raised at its place in the order. Closing this iterator closes `items` too.
    """
    worker = ThreadPoolExecutor(1)
    try:
        asked = deque(worker.submit(next, items, END) for _ in range(most))
        while (item := asked.popleft().result()) is not END:
            asked.append(worker.submit(next, items, END))
            yield item
    finally:
        worker.shutdown(cancel_futures=True)
        items.close()
