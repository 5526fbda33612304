"""What is made ahead comes in order, and stops with whoever asked for it."""

import threading

import pytest

from lightavseg_core.video.ahead import ahead


def counting(until, made, closed):
    try:
        for k in range(until):
            made.append((k, threading.get_ident()))
            yield k
    finally:
        closed.append(True)


def test_all_come_in_order_from_another_thread():
    made, closed = [], []
    assert list(ahead(counting(20, made, closed), 3)) == list(range(20)) and closed
    assert {thread for _, thread in made}.isdisjoint({threading.get_ident()})


def test_no_more_are_made_than_that():
    made, closed = [], []
    items = ahead(counting(20, made, closed), 3)
    assert next(items) == 0
    items.close()  # waits for the one that is being made
    assert len(made) <= 4 and closed


def test_an_error_is_raised_where_it_stands():
    def broken():
        yield 1
        yield 2
        raise ValueError("the third")

    items = ahead(broken(), 5)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(items)
    assert list(items) == []


def test_it_is_made_while_the_last_is_used():
    """Each waits for the other: done one after the other they would wait for ever."""
    turn = threading.Barrier(2, timeout=10)

    def waiting():
        yield 0
        turn.wait()
        yield 1

    items = ahead(waiting(), 1)
    assert next(items) == 0
    turn.wait()
    assert next(items) == 1
