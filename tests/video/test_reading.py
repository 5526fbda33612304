"""Videos read forwards: which picture is shown when, which sound belongs to it."""

import gc
import io
import tracemalloc
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from helpers.films import chirp_at, chirping, colour, copied, film, flat, number, sounding, tone
from PIL import Image

from lightavseg_core.data.decoding import read_audio
from lightavseg_core.video.reading import Listener, probe, read_frames, read_sound, resampled, upright


def shown(path, fps=1):
    return [(float(time), number(picture)) for time, picture in read_frames(path, Fraction(fps))]


def heard(path, origin=None, rate=16_000):
    return torch.cat(list(resampled(read_sound(path, origin), rate)))


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv", "webm", "avi", "ts", "flv"])
def test_the_picture_of_each_second(tmp_path, kind):
    path = film(tmp_path / f"a.{kind}", map(flat, range(12)), fps=5)
    assert shown(path) == [(0, 0), (1, 5), (2, 10)]
    assert shown(path, Fraction(1, 2)) == [(0, 0), (2, 10)]
    assert [k for _, k in shown(path, 5)] == list(range(12))  # each once, whatever the container's rounding
    assert [k for _, k in shown(path, 10)][:6] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("kind", ["avi", "asf", "mkv", "mp4", "ts", "flv"])
def test_pictures_that_are_coded_in_another_order(tmp_path, kind):
    """B pictures: AVI and ASF stamp them in the order of coding, so that stamps go back and forth."""
    path = film(tmp_path / f"a.{kind}", map(flat, range(40)), fps=10, codec="libx264", options={"bf": "3"})
    found = [k for _, k in shown(path, 10)]
    length = 38 if kind == "asf" else 40  # of which the last two have one stamp
    assert found[:length] == list(range(length))


def test_odd_frame_rates_neither_skip_nor_double(tmp_path):
    rate = Fraction(30_000, 1001)
    path = film(tmp_path / "ntsc.mkv", map(flat, range(60)), [k / rate for k in range(60)], fps=30)
    assert [k for _, k in shown(path, rate)] == list(range(60))


def test_pictures_at_irregular_times(tmp_path):
    path = film(tmp_path / "vfr.mkv", map(flat, range(6)), [0, 0.3, 0.9, 3.1, 3.2, 4.0], fps=10)
    assert shown(path) == [(0, 0), (1, 2), (2, 2), (3, 2), (4, 5)]


def test_times_count_from_the_first_picture(tmp_path):
    path = film(tmp_path / "late.mkv", map(flat, range(10)), [7.4 + k / 5 for k in range(10)])
    assert shown(path) == [(0, 0), (1, 5)] and probe(path).origin == pytest.approx(7.4, abs=0.002)


def test_a_single_picture_is_shown_once(tmp_path):
    assert shown(film(tmp_path / "one.mp4", [flat(3)], fps=25), 25) == [(0, 3)]


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_a_phone_held_otherwise(tmp_path, degrees):
    picture = np.zeros((48, 80, 3), np.uint8)
    picture[:24, :40], picture[:24, 40:], picture[24:, :40] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    path = film(tmp_path / "phone.mp4", [picture] * 3, matrix=degrees)
    _, found = next(read_frames(path, Fraction(1)))
    expected = np.rot90(picture, degrees // 90)  # FFmpeg and NumPy both turn counterclockwise
    assert found.shape == expected.shape == (probe(path).height, probe(path).width, 3)
    assert np.abs(found.astype(int) - expected).mean() < 12


@pytest.mark.parametrize("orientation,quarter", [(None, 0), (1, 0), (3, 2), (6, 3), (8, 1)])
def test_a_camera_whose_pictures_have_notes(tmp_path, orientation, quarter):
    """EXIF in the JPEGs of an AVI, which says how the camera was held, or only who made it."""
    picture = np.zeros((48, 80, 3), np.uint8)
    picture[:24, :40], picture[:24, 40:], picture[24:, :40] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    image, content = Image.fromarray(picture), io.BytesIO()
    notes = image.getexif()
    notes[0x010F] = "Maker"
    if orientation:
        notes[0x0112] = orientation
    image.save(content, "JPEG", quality=95, exif=notes)
    plain = film(tmp_path / "plain.avi", [picture] * 3, codec="mjpeg")
    path = copied(plain, tmp_path / "camera.avi", lambda *_: content.getvalue())
    _, found = next(read_frames(path, Fraction(1)))
    expected = np.rot90(picture, quarter)
    assert found.shape == expected.shape == (probe(path).height, probe(path).width, 3)
    assert np.abs(found.astype(int) - expected).mean() < 12


@pytest.mark.parametrize(
    "name,codec,pixels,size",
    [
        ("a.mkv", "libx264", "yuv444p", (63, 47)),
        ("a.mp4", "libx264", "yuv420p10le", (64, 48)),
        ("a.mkv", "libx264", "gray", (64, 48)),
        ("a.webm", "libvpx-vp9", "yuva420p", (64, 48)),
        ("a.mov", "prores_ks", "yuva444p10le", (64, 48)),
        ("a.mov", "png", "rgba", (63, 47)),
        ("a.mov", "prores_ks", "yuv422p10le", (64, 48)),
        ("a.mkv", "ffv1", "gray16le", (63, 47)),
        ("a.gif", "gif", "rgb8", (63, 47)),
    ],
)
def test_odd_sizes_and_other_pixels(tmp_path, name, codec, pixels, size):
    """Alpha of a quarter too: the colours are those that are stored, whatever shines through."""
    colour = (120, 120, 120, 64) if "a4" in pixels or pixels == "rgba" else (120, 120, 120)
    given = np.full((size[1], size[0], len(colour)), colour, np.uint8)
    path = film(tmp_path / name, [given] * 2, codec=codec, pixels=pixels)
    _, picture = next(read_frames(path, Fraction(1)))
    assert picture.shape == (size[1], size[0], 3)
    assert abs(picture.mean() - 120) < (30 if codec == "gif" else 6)  # of 8 shades


def test_pixels_that_are_no_squares(tmp_path):
    video = probe(film(tmp_path / "wide.mp4", [flat(0)] * 2, aspect=Fraction(16, 11)))
    assert (video.width, video.height, video.aspect) == (64, 48, Fraction(16, 11))  # stored as they are
    path = film(tmp_path / "turned.mp4", [flat(0)] * 2, aspect=Fraction(16, 11), matrix=90)
    assert probe(path).aspect == Fraction(11, 16)
    assert probe(film(tmp_path / "absurd.mp4", [flat(0)] * 2, aspect=Fraction(1, 5000))).aspect == 1


def test_pictures_before_an_edit_lists_start_are_not_shown(tmp_path):
    """An MP4 cut without coding it again: its first second is in the file for the decoder alone. The sound
    begins with what is shown."""

    def earlier(kind, k, packet):
        shift = round(1 / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        return packet if kind == "video" else None if k == 0 else packet

    whole = film(tmp_path / "whole.mp4", map(flat, range(15)), **sounding(3, codec="flac"))
    path = copied(whole, tmp_path / "cut.mp4", earlier, avoid_negative_ts="disabled", use_editlist=1)
    with av.open(str(path)) as container:
        assert next(container.demux(video=0)).pts < 0
    origin = probe(path).origin
    assert shown(path) == [(0, 5), (1, 10)] and origin == pytest.approx(0, abs=0.01)
    assert len(heard(path, origin)) == pytest.approx(32_000, abs=400)


@pytest.mark.parametrize(
    "rate,channels,kind,codec,wanted",
    [
        (8000, 1, "mp4", "aac", 16_000),
        (16_000, 2, "mkv", "pcm_s16le", 16_000),
        (16_000, 1, "mkv", "pcm_s16le", 32_000),
        (22_050, 1, "mov", "aac", 16_000),
        (44_100, 2, "mp4", "aac", 16_000),
        (44_100, 1, "mp4", "aac", 32_000),
        (48_000, 2, "webm", "libopus", 16_000),
        (48_000, 6, "mkv", "aac", 16_000),
        (96_000, 2, "mov", "pcm_s16le", 32_000),
    ],
)
@pytest.mark.slow
def test_sound_in_a_stream_is_the_whole_track(tmp_path, monkeypatch, rate, channels, kind, codec, wanted):
    """7 s: three seams between blocks of 2 s. Noise, which every error in the resampling changes."""
    monkeypatch.setattr("lightavseg_core.video.reading.BLOCK", 2)
    noise = np.random.default_rng(rate).uniform(-0.3, 0.3, (channels, 7 * rate + 77))
    path = film(tmp_path / f"a.{kind}", [flat(0)], sound=noise, rate=rate, audio_codec=codec)
    whole, stream = read_audio(path, wanted), heard(path, probe(path).origin, wanted)
    assert stream.shape == whole.shape and whole.abs().mean() > 0.02
    torch.testing.assert_close(stream, whole, rtol=0, atol=2e-6)


def test_an_unusual_rate_has_no_seams(tmp_path):
    """20 s: two seams between blocks."""
    path = film(tmp_path / "odd.mkv", [flat(0)], sound=[tone(1000, 44_101, 20)], rate=44_101)
    stream = heard(path)
    error = stream - torch.from_numpy(tone(1000, 16_000, 20)).float()
    assert len(stream) == 320_000 and error[1000:-1000].abs().max() < 2e-3


def test_a_listener_hears_windows_of_the_whole():
    generator = np.random.default_rng(0)
    pieces = [(16_000, generator.normal(size=(1000 + 37 * k, 2)).astype(np.float32)) for k in range(60)]
    whole = torch.cat([torch.from_numpy(samples.mean(1)) for _, samples in pieces])
    listener = Listener(iter(pieces), 16_000)
    for start in (0, 0, 5000, 30_000, 100_000, len(whole) - 100, len(whole) + 5):
        expected = torch.nn.functional.pad(whole, (0, 20_000))[start : start + 15_600]
        assert torch.equal(listener.window(start, 15_600), expected), start
    with pytest.raises(ValueError, match="forwards"):
        listener.window(10, 5)
    silent = Listener(iter(()), 16_000)
    assert not silent.reaches(0) and silent.window(3, 4).tolist() == [0] * 4
    listener = Listener(iter(pieces), 16_000)
    # The first question is not at the beginning.
    assert torch.equal(listener.window(50_000, 10), whole[50_000:50_010])
    assert listener.reaches(len(whole) - 1) and not listener.reaches(len(whole))


@pytest.mark.parametrize("late", [-1.23, -0.5, -0.05, -0.01, 0, 0.02, 0.09, 0.5])
@pytest.mark.parametrize("name,tick", [("a.mkv", 0.001), ("a.mp4", 0.001), ("a.ts", 0), ("a.webm", 0.001)])
def test_sound_begins_when_its_stamps_say(tmp_path, name, late, tick):
    """Before or after the pictures: to the sample, or to the container's tick, also where AAC and Opus begin
    with what is only there for the decoder."""
    times = [max(0, -late) + k / 10 for k in range(20)]
    path = film(tmp_path / name, map(flat, range(20)), times, 10, late=max(0, late), **chirping(2.5, 1.5))
    found = heard(path, probe(path).origin)
    assert chirp_at(found) == pytest.approx(1.5 + late, abs=tick + 1 / 16_000)
    assert len(found) == pytest.approx(16_000 * (2.5 + late), abs=700)
    assert len(heard(path)) == pytest.approx(40_000, abs=700)  # stamps ignored


def test_stamps_that_jitter_and_pieces_that_are_missing(tmp_path):
    """By a few milliseconds stamps may be off, without a click in the sound; a piece that was left out is
    silence, so that what follows is not early."""
    noise = np.random.default_rng(0).integers(-8, 9, 60)

    def changed(kind, k, packet):
        if kind == "audio":
            packet.pts = packet.dts = packet.pts + int(noise[k] if 0 < k < 30 else 0)
        return None if kind == "audio" and k in (40, 44, 45) else packet

    sound = chirping(3.2, 0.3, rate=16_000)
    sound["sound"] += tone(200, 16_000, 3.2, 0.05)
    whole = film(tmp_path / "whole.flv", map(flat, range(16)), **sound)
    path = copied(whole, tmp_path / "a.flv", changed)
    expected, found = heard(whole, 0.0), heard(path, 0.0)
    assert torch.equal(found[:25_000], expected[:25_000])
    assert len(found) == pytest.approx(len(expected), abs=16)
    lost = (found[32_000:50_000] - expected[32_000:50_000]).abs() > 0.01
    assert 2000 < lost.sum() < 3 * 1024 * 1.5 and not lost[-2000:].any()


@pytest.mark.slow
def test_memory_does_not_grow_with_length(tmp_path):
    """Peaks of what Python allocates while 20 s and 100 s are read, and what a listener holds at the end.

    80 s of sound are 5.1 MB, at the listener's rate 2.6; other parts of the process may add a megabyte.
    """

    def peak(seconds):
        path = film(tmp_path / f"{seconds}.mkv", map(flat, range(seconds)), fps=1, **sounding(seconds))
        gc.collect()
        tracemalloc.start()
        listener = Listener(read_sound(path, 0.0), 8000)
        for time, _ in read_frames(path, Fraction(1)):
            listener.window(int(time * 8000), 8000)
            held = listener.held.nbytes
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak, held

    (short, _), (long, held) = peak(20), peak(100)
    assert long < short + 2_000_000 and held < 10 * 8000 * 4 * 2


def test_what_was_heard_before_a_late_start_is_let_go():
    """Of a first question ten minutes in: neither 38 MB of pieces, nor the sound so far joined again with
    each of them."""
    held = []

    def pieces():
        for second in range(600):
            held.append(len(listener.held))
            yield 16_000, np.full((16_000, 1), second, np.float32)

    listener = Listener(pieces(), 16_000)
    tracemalloc.start()
    found = listener.window(590 * 16_000, 16_000)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert torch.all(found == 590) and len(listener.held) == 16_000
    assert len(held) == 591 and max(held) == 0 and most < 4_000_000


@pytest.mark.slow
def test_pictures_are_let_go_at_once(tmp_path):
    """Without Python's collection of cycles, which runs rarely: a frame of a large video is megabytes of
    FFmpeg's memory."""

    def alive():
        return sum(type(thing) is av.VideoFrame for thing in gc.get_objects())

    path = film(tmp_path / "phone.mp4", map(flat, range(20)), matrix=90)
    gc.collect()
    before = alive()  # of other tests, held by what they raised
    gc.disable()
    try:
        for _ in read_frames(path, Fraction(5)):
            pass
        assert alive() <= before + 2
    finally:
        gc.enable()


@pytest.mark.parametrize("mirrored", [0, 1])
@pytest.mark.parametrize("quarter", range(4))
def test_all_ways_to_hold_a_camera(mirrored, quarter):
    """Every matrix of quarter turns and mirrors, against moving each pixel as it says."""
    picture = np.arange(3 * 2 * 3, dtype=np.uint8).reshape(2, 3, 3)
    a, b, c, d = np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), quarter).ravel().tolist()
    a, c = (-a, -c) if mirrored else (a, c)
    expected = {(a * x + c * y, b * x + d * y): picture[y, x] for y in range(2) for x in range(3)}
    left, top = (min(place[i] for place in expected) for i in (0, 1))
    frame = SimpleNamespace(to_ndarray=lambda format: picture)
    found = upright(frame, (a << 16, b << 16, c << 16, d << 16))
    assert found.size == picture.size
    assert all(np.array_equal(found[y - top, x - left], pixel) for (x, y), pixel in expected.items())


def test_what_a_video_says_of_itself(tmp_path):
    video = probe(film(tmp_path / "a.mp4", map(flat, range(10)), **sounding(2, 44_100, channels=2)))
    assert (video.width, video.height, video.origin) == (64, 48, 0)
    assert (video.sample_rate, video.channels) == (44_100, 2)
    assert video.seconds == pytest.approx(2, abs=0.05)
    assert probe(film(tmp_path / "mute.mp4", [flat(0)])).sample_rate is None


def test_colours_are_told_apart():
    assert [number(flat(k)) for k in range(64)] == list(range(64))
    assert len({colour(k) for k in range(64)}) == 64
