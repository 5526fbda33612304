"""The Hugging Face Hub is asked for what is written hf:owner/name, and for nothing else, however mistyped."""

import socket
import time
from pathlib import Path

import pytest
from helpers.tiny import create

import lightavseg_core as lav
from lightavseg_core import cli
from lightavseg_core._common import hub as module
from lightavseg_core.profiling import profiler
from lightavseg_core.video import segmenter


class Asked(list):
    gone = False


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    create().save_pretrained(folder)
    return folder


@pytest.fixture
def hub(published, monkeypatch):
    """A Hugging Face Hub that has the model as "somebody/tiny"; the list of what it was asked for. Where
    `.gone` is set it is out of reach, and has only what was kept."""
    asked = Asked()

    def give(repository, name, local_files_only=False):
        asked.append((repository, name))
        if asked.gone and not local_files_only:
            raise OSError("cannot reach the hub\nand a long explanation")
        if repository != "somebody/tiny":
            raise ValueError("no such repository")
        return str(published / name)

    monkeypatch.setattr(module, "hf_hub_url", lambda *asked: asked)
    monkeypatch.setattr(module, "get_hf_file_metadata", lambda asked: give(*asked))
    monkeypatch.setattr(module, "hf_hub_download", give)
    return asked


# Of what takes a model, in Python and on the command line.
TAKERS = {
    "load_model": lav.load_model,
    "from_pretrained": lav.models.LightAVSeg.from_pretrained,
    "predict": segmenter.load,
    "profile": lambda name: profiler.resolve(str(name)),
}


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.slow
def test_the_hub_is_asked_only_for_what_is_written_so(hub, tmp_path, monkeypatch, taker):
    monkeypatch.chdir(tmp_path)
    for typo in ("runs/firts", "somebody/tiny", Path("somebody/tiny"), "hub/tiny"):
        with pytest.raises(FileNotFoundError, match=rf"^{typo}: no such folder.*or hf:owner/name for"):
            TAKERS[taker](typo)
    for wrong in ("hf:tiny", "hf:a/b/c", "hf:somebody/tiny?x", "hf:"):
        with pytest.raises(ValueError, match=r"expected hf:owner/name\.$"):
            TAKERS[taker](wrong)
    assert not hub
    for name in ("hf:somebody/tiny", Path("hf:somebody/tiny")):
        assert TAKERS[taker](name)
    assert {name for _, name in hub} == {"config.json", "model.safetensors"}
    with pytest.raises(FileNotFoundError, match="cannot get config.json .*no such repository"):
        TAKERS[taker]("hf:somebody/tny")


def test_out_of_reach_is_one_line_after_one_question(hub):
    hub.gone = True
    assert lav.load_model("hf:somebody/tiny"), "what was kept"
    hub.clear()
    with pytest.raises(FileNotFoundError, match=r"cannot get config.json .* \(cannot reach the hub\)\.$"):
        lav.load_model("hf:somebody/tny")
    assert len(hub) == 2, "one question to the hub, one to what was kept"


def test_the_library_asks_once_without_a_network(monkeypatch):
    """It has a function that does not try again."""
    tries = []

    def refuse(*address, **_):
        tries.append(address)
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waits {seconds} s"))
    with pytest.raises(FileNotFoundError, match="hf:somebody/tiny: cannot get config.json.*unreachable"):
        lav.load_model("hf:somebody/tiny")
    assert len(tries) <= 2, "the library also looks once a day for a list of its own"


@pytest.mark.parametrize("command", [
    "evaluate {} --data x", "profile {}", "export {} --runtime onnx", "predict {} film.mp4 --out masks"])
def test_a_typo_on_the_command_line_asks_nobody(hub, tmp_path, capsys, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    said = {"somebody/tiny": "on the Hugging Face Hub.", "hf:tiny": "expected hf:owner/name."}
    for typo, advice in said.items():
        with pytest.raises(SystemExit) as exit:
            cli.main(command.format(typo).split())
        error = capsys.readouterr().err
        assert exit.value.code == 2 and error.startswith(f"lightavseg: {typo}: ")
        assert error.count("\n") == 1 and error.strip().endswith(advice)
    assert not hub and not list(tmp_path.iterdir())
