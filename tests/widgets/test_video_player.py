"""The player shows what `predict` finds in a video, and tells what it cannot do in one line."""

import io
import json
import wave
from pathlib import Path

import numpy as np
import pytest
from helpers.films import film, flat, tone
from helpers.shown import VIEW, pixels

from lightavseg_core.data.audio import LogMel
from lightavseg_core.data.decoding import read_audio
from lightavseg_core.video.overlay import paint
from lightavseg_core.video.prediction import predict
from lightavseg_core.video.segmenter import Segmenter, load
from lightavseg_core.widgets import VideoPlayer, shots
from lightavseg_core.widgets import video_player as module

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "notebooks" / "media" / "sample.mp4"


def alike(image, wanted):
    """Whether an image widget shows a picture, but for JPEG's rounding."""
    shown = pixels(image.value)
    return shown.shape == wanted.shape and np.abs(shown - wanted.astype(int)).mean() < 3


@pytest.fixture(scope="module")
def counted():
    """The small trained model, and how often it was asked."""
    segmenter, asked = load(ROOT / "checkpoints" / "tiny"), []
    def run(*given):
        asked.append(given[0].shape)
        return segmenter.run(*given)

    return segmenter._replace(run=run), asked


@pytest.fixture(scope="module")
def found(counted):
    return list(predict(counted[0], SAMPLE))


@pytest.fixture(scope="module")
def player(counted, tmp_path_factory):
    player = VideoPlayer(counted[0], tmp_path_factory.mktemp("player"), [SAMPLE])
    player.start.click()
    assert not player.message.value
    return player


def plain(classes=1):
    """A segmenter whose classes are the colours: red is likeliest where a picture is red."""
    def run(frames, log_mel):
        return 3 * frames[:, :, :classes]

    return Segmenter(run, (32, 32), 5, classes, LogMel(), {"checkpoint": "plain"})


@pytest.fixture
def clip(tmp_path):
    sound = [tone(300, 16_000, 4)]
    return film(tmp_path / "clip.mp4", (flat(k // 5) for k in range(20)), sound=sound, rate=16_000)


@pytest.mark.slow
def test_scrubbing_shows_picture_mask_and_sound(player, found):
    heard, marks = read_audio(SAMPLE), set()
    assert player.position.max == player.play.max == 23 and len(player.shots) == 24
    for k in (3, 9, 14, 0):
        player.position.set_state({"value": k})
        assert alike(player.picture, found[k].picture)
        assert alike(player.mask, paint(found[k].picture, found[k].mask()))
        assert player.shares()[k] == pytest.approx(found[k].mask().mean(), abs=1e-3)
        assert f"second {k}: {found[k].mask().mean():.1%}" in player.status.value
        with wave.open(io.BytesIO(player.audio.value)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
        assert np.allclose(samples, heard[16_000 * k:16_000 * k + 15_600], atol=1e-4), "what the model heard"
        marks.add(player.curve.value)
    assert len(marks) == 4 and "heard: its own sound" in player.status.value and not player.message.value


def test_sound_plays_only_when_asked(player):
    assert not player.audio.autoplay
    player.hear.set_state({"value": True})
    assert not player.audio.autoplay, "not yet: nobody has moved"
    player.position.set_state({"value": 5})
    assert player.audio.autoplay
    player.hear.set_state({"value": False})
    player.position.set_state({"value": 6})
    assert not player.audio.autoplay


def test_the_threshold_moves_the_mask_without_the_model(player, found, counted):
    player.position.set_state({"value": 14})
    curve, asked = player.curve.value, len(counted[1])
    for threshold in (0.05, 0.99, 0.5):
        player.threshold.set_state({"value": threshold})
        # To 1 of 255: the steps in which probabilities are kept.
        chance = found[14].probabilities[0]
        low, high = (float((chance > threshold + off).float().mean()) for off in (1 / 255, -1 / 255))
        assert low <= player.shares()[14] <= high
        assert alike(player.mask, paint(found[14].picture, found[14].mask(threshold)))
    player.threshold.set_state({"value": 0.99})
    assert player.curve.value != curve and len(counted[1]) == asked
    player.threshold.set_state({"value": 0.5})
    assert player.curve.value == curve


def test_the_probability_can_be_shown(player):
    assert player.shown.layout.display == "none"
    player.wanted.set_state({"value": True})
    assert player.shown.layout.display is None and pixels(player.map.value).shape == (256, 256, 3)
    player.wanted.set_state({"value": False})
    assert player.shown.layout.display == "none"


def test_where_no_widget_runs_there_is_a_picture(player, tmp_path):
    data, metadata = player._repr_mimebundle_()
    assert VIEW in data and metadata["image/jpeg"]["alt"] == data["text/plain"]
    assert "6 of 24 pictures of a video (sample.mp4, 256 x 256, heard: its own sound)" in data["text/plain"]
    empty = VideoPlayer(plain(), tmp_path / "empty")
    assert "nothing is predicted yet" in empty._repr_mimebundle_()[0]["text/plain"]


def test_export_is_what_the_command_writes(clip, tmp_path):
    player = VideoPlayer(plain(), tmp_path / "p", [clip])
    player.threshold.set_state({"value": 0.9})
    player.save.click()
    folder, = (tmp_path / "p" / "overlays").iterdir()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["complete"] and manifest["asked"]["threshold"] == 0.9 and len(manifest["frames"]) == 4
    overlay = folder / "overlay.mp4"
    assert str(overlay) in player.status.value and player.film.value == overlay.read_bytes()
    assert player.film.layout.display is None and not player.save.disabled
    assert player.progress.value == 4 == player.progress.max
    player.save.click()
    player.threshold.set_state({"value": 0.1})
    player.save.click()
    assert len(list((tmp_path / "p" / "overlays").iterdir())) == 2 and not player.message.value
    player.start.click()
    assert player.film.layout.display == "none" and len(player.shots) == 4


@pytest.mark.slow
def test_another_video_starts_afresh(clip, tmp_path):
    """In the browser `play` and the slider are one: what is left in one of them would move the other."""
    player = VideoPlayer(plain(), tmp_path / "p", [SAMPLE, clip])
    player.start.click()
    for slider in (player.play, player.position):
        slider.set_state({"value": 11})
    player.save.click()
    assert "second 11:" in player.status.value and "written" in player.status.value
    player.position.set_state({"value": 12})
    assert "second 12:" in player.status.value and "written" in player.status.value, "it can still be read"
    player.video.value = clip
    assert not player.shots and not player.audio.value and player.film.layout.display == "none"
    assert "press Predict" in player.status.value
    assert player.play.value == player.position.value == player.play.max == player.position.max == 0
    player.play.set_state({"playing": True})
    player.start.click()
    assert not player.play.playing and player.play.value == player.position.value == 0
    assert player.position.max == 3
    assert "second 0:" in player.status.value


def test_what_it_is_busy_with_is_said(clip, tmp_path):
    said, player = [], VideoPlayer(plain(), tmp_path / "p", [clip])
    player.status.observe(lambda change: said.append(change["new"]), "value")
    player.start.click()
    player.save.click()
    assert said[0] == "looking through clip.mp4 ..." and "writing the masks of clip.mp4 ..." in said
    assert "written" in said[-1]
    clip.unlink()
    player.save.click()
    assert "no such video file" in line(player) and "writing" not in player.status.value


def test_more_classes(clip, tmp_path):
    player = VideoPlayer(plain(3), tmp_path / "p", [clip])
    player.start.click()
    wanted = list(predict(plain(3), clip))
    assert player.threshold.disabled and len({int(one.mask().max()) for one in wanted}) > 1
    for k, one in enumerate(wanted):
        player.position.set_state({"value": k})
        assert alike(player.mask, paint(one.picture, one.mask(), 3))
        assert player.shares()[k] == pytest.approx((one.mask() > 0).mean(), abs=0.01)
    player.save.click()
    assert not player.message.value


def test_memory_is_bounded(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST", 3)
    monkeypatch.setattr(shots, "SIDE", 32)
    player = VideoPlayer(plain(), tmp_path / "p", [clip], fps=2)
    player.start.click()
    assert len(player.shots) == 3 and player.position.max == 2
    assert "the first 3 pictures are kept here" in player.status.value
    assert player.shots[0].levels.shape == (24, 32) and [shot.time for shot in player.shots] == [0, 0.5, 1]


# --- what goes wrong, in one line ---


def line(player):
    """The message, without its markup."""
    text = player.message.value
    assert "<br>" not in text and "\n" not in text and "Traceback" not in text
    return text


def test_broken_and_absent_videos(clip, tmp_path):
    broken = clip.with_name("broken.mp4")
    broken.write_bytes(clip.read_bytes()[:700])
    gone = tmp_path / "gone.mp4"
    player = VideoPlayer(plain(), tmp_path / "p", [clip, broken, gone])
    for path, words in ((broken, "broken.mp4: cannot be decoded"), (gone, "no such video file")):
        player.start.click()
        assert len(player.shots) == 4 and not line(player), "the good one, before"
        player.video.value = path
        for button in (player.start, player.save):
            button.click()
            assert words in line(player) and not button.disabled
        assert not player.shots
        assert all(np.ptp(pixels(image.value)) == 0 for image in (player.picture, player.mask))
        player.video.value = clip
    nothing = VideoPlayer(plain(), tmp_path / "q")
    nothing.start.click()
    assert "there is no video: upload one" in line(nothing)


def test_a_model_that_stumbles_leaves_what_was_seen(clip, tmp_path):
    def run(frames, log_mel, calls=[]):  # noqa: B006 - counts
        calls.append(1)
        return frames[:, :, :1] if len(calls) < 2 else 1 / 0

    player = VideoPlayer(plain()._replace(run=run), tmp_path / "p", [clip], fps=2)
    player.start.click()
    assert "ZeroDivisionError" in line(player) and len(player.shots) == 5 and player.position.max == 4
    player.position.set_state({"value": 3})
    assert not line(player) and "stopped after 5 pictures" in player.status.value, "it is not all"


def test_a_video_that_was_cut_off_is_told_of(tmp_path):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(Path(SAMPLE).read_bytes()[:20_000])
    player = VideoPlayer(plain(), tmp_path / "p", [cut, SAMPLE])
    player.start.click()
    told = f"pictures for only {len(player.shots)} s but claims 24 s"
    assert len(player.shots) < 5 and told in player.status.value
    player.video.value = Path(SAMPLE)
    player.start.click()
    assert len(player.shots) == 24 and "only" not in player.status.value


def test_no_sound_is_said(tmp_path):
    mute = film(tmp_path / "mute.mp4", (flat(k) for k in range(10)))
    player = VideoPlayer(plain(), tmp_path / "p", [mute])
    player.start.click()
    assert "heard: silence, since it has no sound track" in player.status.value
    assert len(player.shots) == 2 and not line(player)
    player.save.click()
    assert "written" in player.status.value


def upload(player, name, content):
    about = {"name": name, "type": "video/mp4", "size": len(content), "last_modified": 0}
    player.upload.set_state({"value": [{**about, "content": memoryview(content)}]})


def test_an_upload_can_be_picked(clip, tmp_path):
    player = VideoPlayer(plain(), tmp_path / "p", [clip])
    upload(player, "../../my film.mp4", clip.read_bytes())
    assert player.video.value == tmp_path / "p" / "my_film.mp4"
    assert player.upload.value == () and not line(player)
    player.start.click()
    assert len(player.shots) == 4 and "my_film.mp4" in player.status.value
    upload(player, "notes.txt", b"hello")
    assert "notes.txt: not a video by its name" in line(player) and player.video.value.name == "my_film.mp4"
    upload(player, "fake.mp4", b"not a video at all")
    player.start.click()
    assert "fake.mp4: cannot be decoded" in line(player)
    names = [name for name, _ in VideoPlayer(plain(), tmp_path / "p").video.options]
    assert names == ["fake.mp4", "my_film.mp4"], "what lies there can be picked"


def test_a_wrong_rate(clip, tmp_path):
    with pytest.raises(ValueError, match="fps is 0"):
        VideoPlayer(plain(), tmp_path / "p", [clip], fps=0)
