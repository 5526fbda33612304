"""The sample video is what its script says; the player shows what `predict` finds in it, and tells what it cannot do in one line."""

import importlib.util
import io
import json
import wave
from pathlib import Path

import numpy as np
import pytest
from helpers.films import film, flat, tone
from PIL import Image

from lightavseg_core.data.audio import LogMel, read_audio
from lightavseg_core.data.scenes import LEVEL, draw_pictures
from lightavseg_core.video.overlay import paint
from lightavseg_core.video.prediction import predict
from lightavseg_core.video.reading import read_frames
from lightavseg_core.video.segmenter import Segmenter, load
from lightavseg_core.widgets import video_player as module
from lightavseg_core.widgets.video_player import UPLOAD, VideoPlayer, keep

ROOT = Path(__file__).parents[2]
MEDIA = ROOT / "notebooks" / "media"
SAMPLE = MEDIA / "sample.mp4"
VIEW = "application/vnd.jupyter.widget-view+json"

spec = importlib.util.spec_from_file_location("make_sample", MEDIA / "make_sample.py")
make_sample = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_sample)


def picture_of(image):
    """(H, W, 3) int, of what an image widget shows."""
    return np.asarray(Image.open(io.BytesIO(image.value)).convert("RGB")).astype(int)


def alike(shown, wanted):
    """Whether two pictures are the same but for JPEG's rounding."""
    return shown.shape == wanted.shape and np.abs(shown - wanted.astype(int)).mean() < 3


# --- the sample ---


def test_the_script_makes_the_truth_that_is_kept():
    made, kept = make_sample.truth(), json.loads((MEDIA / "truth.json").read_text())
    areas = [[[thing.pop("area") for thing in act["objects"]] for act in truth["acts"]] for truth in (made, kept)]
    assert made == kept and SAMPLE.stat().st_size <= 500_000
    assert sum(areas[0], []) == pytest.approx(sum(areas[1], []), abs=2e-4)


def test_the_video_shows_and_sounds_what_the_script_says():
    shown = [picture for _, picture in read_frames(SAMPLE, make_sample.Fraction(1))]
    heard = read_audio(SAMPLE).numpy()
    assert len(shown) == 24 and len(heard) == 24 * 16_000
    for number, act in enumerate(make_sample.ACTS):
        drawn, _ = draw_pictures(make_sample.scene_of(act, range(4)), 256)
        for picture, wanted in zip(shown[4 * number:], drawn):
            assert np.abs(picture.astype(int) - wanted).mean() < 8, "but for the noise of 6, which coding takes away"
        sound = make_sample.sound_of(act)
        assert np.corrcoef(heard[64_000 * number:64_000 * (number + 1)], sound)[0, 1] > 0.9


def test_the_acts_hold_what_they_promise():
    """What is in view, and what the sound's energy says, against the script's own account."""
    heard, quiet = read_audio(SAMPLE).numpy(), LEVEL / 2
    def rms(start, end):
        return np.sqrt((heard[int(16_000 * start):int(16_000 * end)] ** 2).mean())

    things = {k: make_sample.objects_at(k) for k in range(24)}
    sounding = {k: [name for name, sounds, _ in things[k] if sounds] for k in things}
    assert [len(sounding[k]) for k in range(4)] == [1, 1, 1, 2] and len(set(sum((sounding[k] for k in range(3)), []))) == 3
    assert not sounding[5] and not sounding[6] and rms(6.1, 6.9) < 1e-3 < rms(5.1, 5.9) < quiet, "the noise floor; nothing at all"
    assert not sounding[9] and not sounding[11] and rms(9.1, 9.9) > quiet, "nobody in view sounds, and yet it is loud"
    names = [name for name, *_ in things[12]]
    assert names[0] == names[1] and [sounds for _, sounds, _ in things[12]] == [True, False, False], "twins, of which one sounds"
    assert rms(17.42, 17.63) > 2 * rms(17, 17.38) and not any(sounding[k] for k in (16, 17, 18)), "between two pictures"
    assert make_sample.truth_at(17.5).any() and make_sample.truth_at(17, lead=0.5).any() and not make_sample.truth_at(17).any()
    large, small = (mask.mean() for *_, mask in things[22])
    assert large > 0.12 > 0.02 > small
    for k in things:
        assert (make_sample.truth_at(k).sum() > 0) == bool(sounding[k])
        assert not np.sum([mask for *_, mask in things[k]], 0).max() > 1, "a pixel shows one object"
    with pytest.raises(ValueError, match="second 24: the sample lasts from 0 to 24"):
        make_sample.truth_at(24)


# --- the player ---


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


def plain(classes=1, front_end=None):
    """A segmenter whose classes are the colours: red is likeliest where a picture is red."""
    return Segmenter(lambda frames, log_mel: 3 * frames[:, :, :classes], (32, 32), 5, classes, front_end or LogMel(), {"checkpoint": "plain"})


@pytest.fixture
def clip(tmp_path):
    return film(tmp_path / "clip.mp4", (flat(k // 5) for k in range(20)), sound=[tone(300, 16_000, 4)], rate=16_000)


def test_scrubbing_shows_picture_mask_and_sound(player, found):
    heard, marks = read_audio(SAMPLE), set()
    assert player.position.max == player.play.max == 23 and len(player.shots) == 24
    for k in (3, 9, 14, 0):
        player.position.set_state({"value": k})
        assert alike(picture_of(player.picture), found[k].picture)
        assert alike(picture_of(player.mask), paint(found[k].picture, found[k].mask()))
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
        low, high = (float((found[14].probabilities[0] > threshold + off).float().mean()) for off in (1 / 255, -1 / 255))
        assert low <= player.shares()[14] <= high
        assert alike(picture_of(player.mask), paint(found[14].picture, found[14].mask(threshold)))
    player.threshold.set_state({"value": 0.99})
    assert player.curve.value != curve and len(counted[1]) == asked
    player.threshold.set_state({"value": 0.5})
    assert player.curve.value == curve


def test_the_probability_can_be_shown(player):
    assert player.shown.layout.display == "none"
    player.wanted.set_state({"value": True})
    assert player.shown.layout.display is None and picture_of(player.map).shape == (256, 256, 3)
    player.wanted.set_state({"value": False})
    assert player.shown.layout.display == "none"


def test_where_no_widget_runs_there_is_a_picture(player, tmp_path):
    data, metadata = player._repr_mimebundle_()
    assert VIEW in data and metadata["image/png"]["alt"] == data["text/plain"]
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
    assert str(folder / "overlay.mp4") in player.status.value and player.film.value == (folder / "overlay.mp4").read_bytes()
    assert player.film.layout.display is None and not player.save.disabled and player.progress.value == 4 == player.progress.max
    player.save.click()
    player.threshold.set_state({"value": 0.1})
    player.save.click()
    assert len(list((tmp_path / "p" / "overlays").iterdir())) == 2 and not player.message.value
    player.start.click()
    assert player.film.layout.display == "none" and len(player.shots) == 4


def test_another_video_starts_afresh(clip, tmp_path):
    """In the browser `play` and the slider are one: what is left in one of them would move the other."""
    player = VideoPlayer(plain(), tmp_path / "p", [SAMPLE, clip])
    player.start.click()
    for slider in (player.play, player.position):
        slider.set_state({"value": 11})
    player.save.click()
    assert "second 11:" in player.status.value and "written" in player.status.value
    player.position.set_state({"value": 12})
    assert "second 12:" in player.status.value and "written" in player.status.value, "where it went can still be read"
    player.video.value = clip
    assert not player.shots and not player.audio.value and player.film.layout.display == "none" and "press Predict" in player.status.value
    assert player.play.value == player.position.value == player.play.max == player.position.max == 0
    player.play.set_state({"playing": True})
    player.start.click()
    assert not player.play.playing and player.play.value == player.position.value == 0 and player.position.max == 3
    assert "second 0:" in player.status.value


def test_what_it_is_busy_with_is_said(clip, tmp_path):
    said, player = [], VideoPlayer(plain(), tmp_path / "p", [clip])
    player.status.observe(lambda change: said.append(change["new"]), "value")
    player.start.click()
    player.save.click()
    assert said[0] == "looking through clip.mp4 ..." and "writing the masks of clip.mp4 ..." in said and "written" in said[-1]
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
        assert alike(picture_of(player.mask), paint(one.picture, one.mask(), 3))
        assert player.shares()[k] == pytest.approx((one.mask() > 0).mean(), abs=0.01)
    player.save.click()
    assert not player.message.value


def test_memory_is_bounded(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST", 3)
    monkeypatch.setattr(module, "SIDE", 32)
    player = VideoPlayer(plain(), tmp_path / "p", [clip], fps=2)
    player.start.click()
    assert len(player.shots) == 3 and player.position.max == 2 and "the first 3 pictures are kept here" in player.status.value
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
    player = VideoPlayer(plain(), tmp_path / "p", [clip, broken, tmp_path / "gone.mp4"])
    for path, words in ((broken, "broken.mp4: cannot be decoded"), (tmp_path / "gone.mp4", "no such video file")):
        player.start.click()
        assert len(player.shots) == 4 and not line(player), "the good one, before"
        player.video.value = path
        for button in (player.start, player.save):
            button.click()
            assert words in line(player) and not button.disabled
        assert not player.shots and np.ptp(picture_of(player.picture)) == np.ptp(picture_of(player.mask)) == 0
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


def test_a_video_that_was_cut_off_is_told_of(tmp_path):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(Path(SAMPLE).read_bytes()[:20_000])
    player = VideoPlayer(plain(), tmp_path / "p", [cut, SAMPLE])
    player.start.click()
    assert len(player.shots) < 5 and f"pictures for {len(player.shots)} s only, though it says that it lasts 24 s" in player.status.value
    player.video.value = Path(SAMPLE)
    player.start.click()
    assert len(player.shots) == 24 and "only" not in player.status.value


def test_no_sound_is_said(tmp_path):
    mute = film(tmp_path / "mute.mp4", (flat(k) for k in range(10)))
    player = VideoPlayer(plain(), tmp_path / "p", [mute])
    player.start.click()
    assert "heard: silence, for it has no sound track" in player.status.value and len(player.shots) == 2 and not line(player)
    player.save.click()
    assert "written" in player.status.value


def upload(player, name, content):
    about = {"name": name, "type": "video/mp4", "size": len(content), "last_modified": 0}
    player.upload.set_state({"value": [{**about, "content": memoryview(content)}]})


def test_an_upload_can_be_picked(clip, tmp_path):
    player = VideoPlayer(plain(), tmp_path / "p", [clip])
    upload(player, "../../my film.mp4", clip.read_bytes())
    assert player.video.value == tmp_path / "p" / "my_film.mp4" and player.upload.value == () and not line(player)
    player.start.click()
    assert len(player.shots) == 4 and "my_film.mp4" in player.status.value
    upload(player, "notes.txt", b"hello")
    assert "notes.txt: not a video by its name" in line(player) and player.video.value.name == "my_film.mp4"
    upload(player, "fake.mp4", b"not a video at all")
    player.start.click()
    assert "fake.mp4: cannot be decoded" in line(player)
    assert [name for name, _ in VideoPlayer(plain(), tmp_path / "p").video.options] == ["fake.mp4", "my_film.mp4"], "what lies there can be picked"


@pytest.mark.parametrize("name, kept", [("../../etc/x.mp4", "x.mp4"), (r"C:\films\x.MP4", "x.MP4"), ("/x.mov", "x.mov"),
                                        (".hidden.mp4", "hidden.mp4"), ("--out.mp4", "out.mp4"),
                                        ("a\0b;$(c)<i>.mkv", "a_b_c_i_.mkv"), ("Übung 1.webm", "Übung_1.webm"),
                                        (200 * "x" + ".mp4", 80 * "x" + ".mp4")])
def test_names_of_uploads(tmp_path, name, kept):
    folder = tmp_path / "deep" / "folder"
    folder.mkdir(parents=True)
    assert keep(name, b"1", folder) == folder / kept
    assert keep(name, b"1", folder) == folder / kept and keep(name, b"2", folder).stem == Path(kept).stem + "-2"
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(files) == 2 and all(path.parent == Path("deep/folder") for path in files)
    assert (folder / kept).read_bytes() == b"1"


@pytest.mark.parametrize("name, size, words", [("..", 1, "not a video by its name"), ("", 1, "the file: not a video"), (".mp4", 1, "not a video"),
                                               ("x.mp4", 0, "x.mp4: 0.0 MB"), ("x.mp4", UPLOAD + 2**20, "x.mp4: 11.0 MB; .* at most 10 MB. Put")])
def test_uploads_that_are_refused(tmp_path, name, size, words):
    with pytest.raises(ValueError, match=words):
        keep(name, bytes(size), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_wrong_rate(clip, tmp_path):
    with pytest.raises(ValueError, match="fps is 0"):
        VideoPlayer(plain(), tmp_path / "p", [clip], fps=0)
