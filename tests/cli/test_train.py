"""`train`: what cannot be trained with is refused in one line, before anything runs, and leaves nothing."""

import pytest
from helpers.command import run

from lightavseg_core import Trainer
from lightavseg_core._common.files import alone

REFUSED = {
    "--size 31": "size is 31; expected at least 32",
    "--size -5": "size is -5; expected at least 32",
    "--learning-rate -1": "learning_rate is -1.0; expected at least 0",
    "--clip-norm nan": "clip_norm is nan; expected at least 0",
    "--seed 4294967296": "seed is 4294967296; expected at most 4294967295",
    "--audio-weights {tmp}/text.pth": "text.pth: not a checkpoint",
    "--audio-weights {tmp}/absent.pth": "absent.pth: no such",
    "--visual-weights {tmp}/text.pth": "text.pth: not a checkpoint",
}


@pytest.fixture
def train(capsys, shapes):
    """Runs it on small frames: exit code and stderr."""
    def start(out, options=""):
        told = [*f"train --subset ms3 --size 32 --epochs 1 --audio-epochs 1 {options}".split()]
        code, _, error = run(capsys, *told, "--data", shapes, "--out", out)
        return code, error

    return start


@pytest.mark.parametrize("options", REFUSED)
def test_a_refused_start_leaves_nothing(monkeypatch, train, tmp_path, options):
    (tmp_path / "text.pth").write_text("no weights")
    monkeypatch.setattr("lightavseg_core.audio_pretraining.pretrain_audio", None)  # it would take a while
    code, error = train(tmp_path / "runs" / "first", options.format(tmp=tmp_path))
    assert code == 2 and REFUSED[options] in error and error.startswith("lightavseg: ")
    assert error.count("\n") == 1 and [path.name for path in tmp_path.iterdir()] == ["text.pth"]


def test_a_folder_that_another_process_writes_is_refused(train, tmp_path):
    """Whether or not it has written anything yet; nobody is told to remove it."""
    for held in ("before its first line", "after"):
        with alone(tmp_path):
            code, error = train(tmp_path)
        assert code == 2 and f"{tmp_path}: another process is writing there" in error, held
        assert "remove" not in error and error.count("\n") == 1
        (tmp_path / "log.jsonl").touch()
    code, error = train(tmp_path)
    assert code == 2 and "holds an earlier run" in error
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_run_that_ended_meanwhile_is_kept(monkeypatch, train, tmp_path):
    """Of two commands given at once the first may be through before the second has read its data."""
    def late(self, *arguments):
        (tmp_path / "log.jsonl").write_text("the first's")

    monkeypatch.setattr(Trainer, "__init__", late)
    code, error = train(tmp_path)
    assert code == 2 and "holds an earlier run" in error
    assert (tmp_path / "log.jsonl").read_text() == "the first's"
