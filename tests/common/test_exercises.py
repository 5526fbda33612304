"""Exercises answer: pass, your turn, or a hint that speaks to the mistake, with what was found."""

import numpy as np
import pytest
import torch

from lightavseg_core import workbook
from lightavseg_core._common import exercises

PASSES = [
    (0.1 + 0.2, 0.3),
    (3, 3),
    (True, True),
    ("text", "text"),
    (torch.tensor([1.0, 2.0], requires_grad=True), [1, 2]),
    (torch.ones(2, 3, dtype=torch.bfloat16), np.ones((2, 3))),
    (np.array([True, False]), torch.tensor([True, False])),
    ((1, [2, {"a": 3}]), [1, (2, {"a": 3.00001})]),
    (torch.Size([2, 3]), (2, 3)),
    (float("nan"), float("nan")),
    ({"a", "b"}, {"b", "a"}),
    (7, lambda found: found > 5),
]
FAILS = [
    (0.31, 0.3),
    ("3", 3),
    (3, "3"),
    (np.ones((2, 3)), np.ones((3, 2))),
    (np.ones(3), 1),
    ([1, 2], [1, 2, 3]),
    ([[1], [2, 3]], [1, 2]),
    ({"a": 1}, {"b": 1}),
    ({"a"}, {"b"}),
    (np.array(["a", "b"]), {"a", "b"}),
    (object(), 3),
    (3, lambda found: found.shape),
]


@pytest.fixture(autouse=True)
def lenient(monkeypatch):
    monkeypatch.delenv("LAV_STRICT", raising=False)
    monkeypatch.setattr(exercises, "_solved", {})


@pytest.mark.parametrize("found, expected", PASSES)
def test_what_is_right_passes(found, expected, capsys):
    workbook.check("it", lambda _: found, cases=[(1, expected)], hint="look")
    assert capsys.readouterr().out == "✔ it: pass\n"


@pytest.mark.parametrize("found, expected", FAILS)
def test_what_is_wrong_gets_a_hint_and_raises_only_under_strict(found, expected, capsys, monkeypatch):
    workbook.check("it", lambda: found, cases=[((), expected)], hint="look")
    assert capsys.readouterr().out.startswith("✘ it: not yet. Hint: look\n  Now found ")
    monkeypatch.setenv("LAV_STRICT", "1")
    with pytest.raises(exercises.NotYet, match="✘ it: not yet. Hint: look"):
        workbook.check("it", lambda: found, cases=[((), expected)], hint="look")


@pytest.mark.parametrize("nothing", [None, ...])
def test_a_gap_is_the_readers_turn(nothing, capsys, monkeypatch):
    workbook.check("it", lambda: nothing, cases=[((), lambda found: True)], hint="look")
    assert capsys.readouterr().out == "○ it: your turn\n"
    # Who forgets to return in one case has begun.
    workbook.check("it", lambda x: x or nothing, cases=[(1, 1), (0, 0)], hint="look")
    assert capsys.readouterr().out.startswith("✘ it: not yet. Hint: look\n  Now for 0 found ")
    monkeypatch.setenv("LAV_STRICT", "1")
    with pytest.raises(exercises.NotYet) as failure:
        workbook.check("it", lambda: nothing, cases=[((), 1)], hint="look")
    assert failure.value.taken_for == "gap"


MISTAKES = [
    ((2, 3), -1, "the other way round"),
    ((5, 0), ZeroDivisionError, "nothing is divided"),
    ((1, 2), lambda found: found > 100, "far too much"),
]


@pytest.mark.parametrize(
    "answer, hint, made",
    [
        (lambda a, b: a - b, "the other way round", 0),
        (lambda a, b: a / b, "nothing is divided", 1),
        (lambda a, b: 1000 if b else a / b, "nothing is divided", 1),
        (lambda a, b: a, "look", "unknown"),
    ],
)
def test_a_known_mistake_has_its_own_hint(answer, hint, made, capsys, monkeypatch):
    given = {"cases": [((2, 3), 1), ((4, 4), 0)], "hint": "look", "mistakes": MISTAKES}
    workbook.check("it", answer, **given)
    assert capsys.readouterr().out.startswith(f"✘ it: not yet. Hint: {hint}\n  Now for (2, 3) found ")
    monkeypatch.setenv("LAV_STRICT", "1")
    with pytest.raises(exercises.NotYet) as failure:
        workbook.check("it", answer, **given)
    assert failure.value.taken_for == made


def test_it_says_what_was_found(capsys):
    workbook.check("it", lambda x, y: x / y, cases=[((4, 2), 2), ((1, 0), 0)], hint="look")
    assert "Now for (1, 0) it raises ZeroDivisionError: division by zero" in capsys.readouterr().out


@pytest.mark.parametrize(
    "value, text",
    [
        (1 / 3, "0.3333"),
        (torch.tensor(2.0), "2"),
        (np.float64(0.1), "0.1"),
        (True, "True"),
        (torch.tensor([[1.0, 0.25]]), "[[1, 0.25]]"),
        (np.arange(4), "[0, 1, 2, 3]"),
        (np.ones((4, 5)), "4 x 5 values from 1 to 1"),
        ((1, [0.12345]), "(1, [0.1235])"),
        (list(range(20)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ...]"),
        ({"a": torch.ones(2)}, "{'a': [1, 1]}"),
        ({"b", "a"}, "{'a', 'b'}"),
        (None, "nothing"),
        (torch.nn.Identity(), "Identity"),
    ],
)
def test_values_are_readable(value, text):
    assert exercises.readable(value) == text


def test_an_answer_is_used_where_it_is_right(capsys):
    def right(x):
        return 2 * x

    assert workbook.yours("double") is None
    workbook.check("double", lambda x: x, cases=[(2, 4)], hint="look")
    assert workbook.yours("double") is None
    assert capsys.readouterr().out.count("this cell waits for your answer to 'double'") == 2
    workbook.check("double", right, cases=[(2, 4)], hint="look")
    assert workbook.yours("double") is right


def test_a_guess_stands_beside_what_is_measured(capsys):
    workbook.guess("share", ...)
    workbook.beside("share", 0.12345)
    workbook.guess("share", 0.5)
    workbook.beside("share", 0.12345)
    workbook.guess("two", {"first": ..., "second": "the dog"})
    workbook.beside("two", {"first": 1, "second": "the cat"})
    assert capsys.readouterr().out.splitlines() == [
        "○ share: your guess, in place of the dots",
        "share: your guess none; measured 0.1235",
        "share: kept",
        "share: your guess 0.5; measured 0.1235",
        "two: kept",
        "two:",
        "  first: your guess none; measured 1",
        "  second: your guess 'the dog'; measured 'the cat'",
    ]
