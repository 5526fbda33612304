"""Several processes that train or score together, by gloo on this machine's cores, do what one does."""

import json
import os
import signal
import time

import pytest
import torch
from helpers.launched import launch, start
from helpers.tiny import create
from torchmetrics import MaxMetric

from lightavseg_core import TrainConfig, Trainer
from lightavseg_core._common import together
from lightavseg_core._common.scores import put, taken
from lightavseg_core._common.stopping import requests, terminated_cleanly
from lightavseg_core.data import AVSBench
from lightavseg_core.data.sounding_shapes import generate
from lightavseg_core.evaluation import score_for
from lightavseg_core.models.base import load_model

EPOCHS = 4
OPTIONS = ("--size", 64, "--batch-size", 2, "--epochs", EPOCHS, "--audio-epochs", 1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """11 clips: of batches of 2 the last clip, and of 2 batches a step the fifth batch, are left over. Scored
    are batches of 8, 8 and 3."""
    counts = {"train": 11, "val": 19}
    return generate(tmp_path_factory.mktemp("mini"), "ms3", counts, size=64, seed=0, workers=1)


def log(out, event):
    entries = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return [entry for entry in entries if entry["event"] == event]


def losses(out, event="step"):
    return [entry["loss"] for entry in log(out, event)]


def weights(out):
    return load_model(out / "last").state_dict()


def scores(out):
    return {k: v for k, v in log(out, "validation")[-1].items() if k not in ("seconds", "event")}


@pytest.fixture(scope="module")
def alone(root, tmp_path_factory):
    """One process, two batches a step."""
    out = tmp_path_factory.mktemp("alone")
    code, _, err = launch(1, "train", "--data", root, "--out", out, *OPTIONS, "--accumulate", 2)
    assert code == 0, err[-3000:]
    return out


@pytest.mark.slow
def test_two_processes_train_as_one_that_accumulates(root, alone, tmp_path):
    """The same batches, losses, ear, running statistics and scores; 1e-4 is asked of the losses."""
    code, said, err = launch(2, "train", "--data", root, "--out", tmp_path, *OPTIONS)
    assert code == 0, err[-3000:]
    assert len(said.splitlines()) == 1 and json.loads(said)["M_J"] == scores(tmp_path)["M_J"]
    assert len(losses(alone)) == 2 * EPOCHS
    assert losses(tmp_path) == pytest.approx(losses(alone), abs=1e-4)
    assert losses(tmp_path, "tagging step") == losses(alone, "tagging step")
    assert scores(tmp_path) == pytest.approx(scores(alone), abs=1e-3)
    assert [e["clips"] for e in log(tmp_path, "epoch")] == [8] * EPOCHS
    two, one = weights(tmp_path), weights(alone)
    for name, value in one.items():
        assert torch.allclose(two[name].double(), value.double(), atol=1e-3), name


@pytest.mark.long
def test_dropout_is_the_batchs(root, tmp_path):
    """SelM's: what it draws does not depend on the process either."""
    given = ["train", "--data", root, *OPTIONS, "--method", "selm", "--epochs", 1]
    for processes, accumulate in ((1, 2), (2, 1)):
        out = tmp_path / str(processes)
        code, _, err = launch(processes, *given, "--out", out, "--accumulate", accumulate)
        assert code == 0, err[-3000:]
    assert losses(tmp_path / "1") == pytest.approx(losses(tmp_path / "2"), abs=1e-4)


@pytest.mark.slow
def test_two_processes_score_as_one(root, alone):
    """To the last digit, with an uneven last batch, and M_F_batch, which depends on the batches."""
    score = ("evaluate", alone, "--data", root, "--split", "val", "--json")
    found = [launch(processes, *score) for processes in (1, 2)]
    assert [code for code, *_ in found] == [0, 0], found[1][2][-3000:]
    assert found[0][1] == found[1][1] and json.loads(found[1][1])["frames"] == 5 * 19


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_what_is_dealt_out_is_put_together_to_the_last_bit(classes, processes):
    generator = torch.Generator().manual_seed(0)
    shape, whole, batches = (3, 8, 8), score_for(classes), []
    for _ in range(5):
        logits = torch.randn((3, classes, 8, 8) if classes > 1 else shape, generator=generator)
        batches.append((logits, torch.randint(max(classes, 2), shape, generator=generator)))
        whole.update(*batches[-1])
    dealt = []
    for rank in range(processes):
        score = score_for(classes)
        dealt.append([])
        for batch in batches[rank::processes]:
            score.update(*batch)
            dealt[-1].append(taken(score))
    put(score, dealt)
    for name, value in whole.compute().items():
        assert torch.equal(score.compute()[name], value), name


@pytest.mark.long
def test_a_training_goes_on_with_another_number_of_processes(root, alone, tmp_path):
    """SIGTERM to the launcher of two; one goes on, and says how; a number that cannot share the step is told
    so. It ends as it would have."""
    options = [*OPTIONS, "--save-minutes", 0]
    running = start(2, "train", "--data", root, "--out", tmp_path, *options)
    wait_for_steps(tmp_path, 3)
    running.terminate()
    _, err = running.communicate(timeout=100)
    assert f"`lightavseg train --resume {tmp_path}` continues from here" in err
    assert err.count("continues from here") == 1
    before = len(losses(tmp_path))
    assert 3 <= before < 2 * EPOCHS
    code, _, err = launch(3, "train", "--resume", tmp_path)
    assert code and "was started with 2 processes, and each step takes 2 batches, which 3 processes" in err
    code, _, err = launch(1, "train", "--resume", tmp_path)
    said = "was started with 2 processes, and each step takes 2 batches; now 2 in each of 1"
    assert code == 0 and said in err
    assert losses(tmp_path) == pytest.approx(losses(alone), abs=1e-4)
    assert scores(tmp_path) == pytest.approx(scores(alone), abs=1e-3)


def wait_for_steps(out, number):
    end = time.monotonic() + 100
    while not (out / "log.jsonl").exists() or len(losses(out)) < number:
        assert time.monotonic() < end, "it does not begin"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_process_that_dies_takes_the_other_along(root, tmp_path):
    """SIGKILL to the second: within a minute the first ends with one line, and the run goes on where its last
    checkpoint stands."""
    import psutil

    running = start(2, "train", "--data", root, "--out", tmp_path, *OPTIONS, "--epochs", 400)
    wait_for_steps(tmp_path, 5)
    (second,) = (p for p in psutil.Process(running.pid).children() if p.environ().get("RANK") == "1")
    os.kill(second.pid, signal.SIGKILL)
    start_of_end = time.monotonic()
    _, err = running.communicate(timeout=60)
    assert time.monotonic() - start_of_end < 60 and running.returncode
    assert "lightavseg: process 0 of 2: another process has ended or cannot be reached" in err
    assert "Traceback" not in err.split("another process has ended")[0]
    assert list((tmp_path / "checkpoints").glob("[0-9]*.safetensors"))


def test_a_launchers_signal_does_not_hide_the_reason(monkeypatch):
    """Whenever it terminates the process that is left, that one says what it ends of."""
    monkeypatch.setattr(together, "world", lambda: 2)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(ConnectionError, match="another process has ended"), terminated_cleanly():
            try:
                with requests(patient=True), together.each_told_of_others():
                    raise RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer")
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_score_that_is_no_sum_is_refused():
    """Put together from several processes it would be wrong."""
    with pytest.raises(ValueError, match="MaxMetric keeps more than sums over frames"):
        taken(MaxMetric())


def test_too_few_clips_for_a_step(root, tmp_path):
    train, validation = (AVSBench(root, "ms3", split, 64) for split in ("train", "val"))
    trainer = Trainer(create(size=64), TrainConfig(batch_size=2, accumulate=6), tmp_path / "run")
    said = r"11 clips make 5 batches of 2, but a step takes 6 \(6 in each of 1 processes\)"
    with pytest.raises(ValueError, match=said):
        trainer.fit(train, validation)
    assert not (tmp_path / "run").exists()
