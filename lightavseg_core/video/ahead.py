"""Work done ahead: the next items are made while the last ones are used."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
END = object()


def ahead(items: Generator[Item], most: int) -> Iterator[Item]:
    """`items`, up to `most` of which are made in a thread of their own before they are asked for.

    What they raise is raised where it stands in the order. Whoever stops asking closes them too.
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
