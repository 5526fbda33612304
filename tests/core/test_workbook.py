"""What notebooks lean on: parameters that are checked, exercises that answer, pictures with words."""

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


def test_a_drawing_is_kept_as_svg_with_its_alt_text(monkeypatch):
    import IPython.display
    from matplotlib import pyplot as plt

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, **how: shown.append((data, how)))
    for _ in range(2):
        figure, _ = plt.subplots(figsize=(1, 1))
        workbook.show(figure, "Empty axes.", vector=True)
    (data, how), again = shown
    assert again == (data, how)  # the same each time
    assert "<svg" in data["image/svg+xml"] and how["metadata"]["image/svg+xml"]["alt"] == "Empty axes."


def test_the_minutes_of_a_run_stand_beside_those_expected(capsys):
    workbook.settings(parameters(), **TYPES)
    workbook.took(0.5)
    assert capsys.readouterr().out == "minutes since the top: 0.0; expected on 2 cores: 0.5\n"
