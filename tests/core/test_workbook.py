"""What notebooks lean on: parameters that are checked, exercises that answer, pictures with words."""

import numpy as np
import pytest
import torch

from lightavseg_core import workbook


def parameters(**changes):
    namespace = {"profile": "default", "clips": 400, "rate": 1e-3, "label": None}
    return {**namespace, "__name__": "__main__", "In": [], "torch": torch, **changes}


TYPES = {"clips": int, "rate": float, "label": str | None}


@pytest.mark.parametrize(
    "changes", [{}, {"rate": 1}, {"label": "x"}, {"profile": "smoke"}, {"_private": 3}, {"function": print}]
)
def test_settings_returns_the_values(changes):
    s = workbook.settings(parameters(**changes), **TYPES)
    assert vars(s) == {name: parameters(**changes)[name] for name in ("profile", *TYPES)}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"clps": 3}, "clps is not a parameter of this notebook; did you mean clips?"),
        ({"zzz": 3}, "zzz is not a parameter of this notebook; it has profile, clips, rate, label."),
        ({"clips": 3.0}, "clips is 3.0, of type float; expected int"),
        ({"clips": True}, "clips is True, of type bool; expected int"),
        ({"clips": None}, "clips is None, of type NoneType; expected int"),
        ({"rate": "1e-3"}, "rate is '1e-3', of type str; expected float"),
        ({"rate": True}, "rate is True"),
        ({"label": 3}, "expected str | None"),
        ({"profile": "quick"}, "profile is 'quick'; expected one of 'default', 'smoke'"),
        ({"profile": 3}, "profile is 3, of type int; expected str"),
    ],
)
def test_settings_refuses(changes, message):
    with pytest.raises(ValueError) as error:
        workbook.settings(parameters(**changes), **TYPES)
    assert message in str(error.value)


def test_settings_lists_all_that_is_wrong_at_once():
    namespace = parameters(clips="x", typo=1)
    del namespace["rate"]
    with pytest.raises(ValueError, match="(?s)clips is 'x'.*rate is missing.*typo is not a parameter"):
        workbook.settings(namespace, **TYPES)


def test_settings_can_be_called_again_in_a_notebook_that_is_being_worked_on():
    namespace = parameters()
    workbook.settings(namespace, **TYPES)
    namespace.update(accuracy=0.5, clips=20)
    assert workbook.settings(namespace, **TYPES).clips == 20
    with pytest.raises(ValueError, match="expected int"):
        workbook.settings({**namespace, "clips": "x"}, **TYPES)


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
    (7, lambda found: found > 5),
]
FAILS = [
    (0.31, 0.3),
    ("3", 3),
    (3, "3"),
    (np.ones((2, 3)), np.ones((3, 2))),
    (np.ones(3), 1),
    ([1, 2], [1, 2, 3]),
    ({"a": 1}, {"b": 1}),
    (object(), 3),
    (None, 3),
    (..., 3),
    (None, lambda found: True),
    (3, lambda found: found.shape),
]


@pytest.mark.parametrize("found, expected", PASSES)
def test_check_passes(found, expected, capsys):
    workbook.check("it", found, expected=expected, hint="look")
    workbook.check("it", lambda _: found, cases=[(1, expected)], hint="look")
    assert capsys.readouterr().out == "✔ it: pass\n" * 2


@pytest.mark.parametrize("found, expected", FAILS)
def test_check_gives_a_hint_and_never_raises_but_under_strict(found, expected, capsys, monkeypatch):
    monkeypatch.delenv("LAV_STRICT", raising=False)
    workbook.check("it", lambda: found, expected=expected, hint="look")
    assert capsys.readouterr().out.startswith("✘ it: not yet. Hint: look\n")
    monkeypatch.setenv("LAV_STRICT", "1")
    with pytest.raises(AssertionError, match="✘ it: not yet. Hint: look"):
        workbook.check("it", lambda: found, expected=expected, hint="look")


def test_check_says_what_was_found(capsys, monkeypatch):
    monkeypatch.delenv("LAV_STRICT", raising=False)
    workbook.check("it", lambda x, y: x / y, cases=[((4, 2), 2), ((1, 0), 0)], hint="look")
    workbook.check("it", lambda: undefined, expected=3, hint="look")  # noqa: F821
    workbook.check("it", np.ones((2, 3)), expected=np.ones((3, 2)), hint="look")
    out = capsys.readouterr().out
    assert "Now for (1, 0): it raises ZeroDivisionError: division by zero" in out
    assert "it raises NameError: name 'undefined' is not defined" in out
    assert "found values of shape (2, 3) from 1 to 1, expected values of shape (3, 2) from 1 to 1" in out


def test_check_needs_one_kind_of_expectation():
    with pytest.raises(TypeError, match="either expected"):
        workbook.check("it", 3, hint="look")


def test_show_displays_once_with_alt_text(monkeypatch):
    import IPython.display
    from matplotlib import pyplot as plt

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, **how: shown.append((data, how)))
    figure, _ = plt.subplots(figsize=(1, 1))
    with pytest.raises(ValueError, match="alt is empty"):
        workbook.show(figure, " ")
    workbook.show(figure, "Empty axes.")
    (data, how), = shown
    assert data["text/plain"] == how["metadata"]["image/png"]["alt"] == "Empty axes."
    assert data["image/png"].startswith("iVBOR")
    assert not plt.fignum_exists(figure.number)
