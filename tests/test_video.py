"""Videos read forwards: which picture is shown when, which sound belongs to it, and what broken files give."""

import gc
import os
import threading
import tracemalloc
from fractions import Fraction
from itertools import islice
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from films import colour, film, flat, number, tone

from lightavseg_core.data.audio import read_audio
from lightavseg_core.data.video import Listener, probe, read_frames, read_sound, resampled, upright


def shown(path, fps=1, first=0):
    return [(float(time), number(picture)) for time, picture in read_frames(path, Fraction(fps), first)]


@pytest.mark.parametrize("name,codec", [("a.mp4", "libx264"), ("a.mov", "libx264"), ("a.mkv", "mpeg4"), ("a.webm", "libvpx"), ("a.avi", "mpeg4"),
                                        ("a.ts", "libx264"), ("a.flv", "libx264")])
def test_the_picture_of_each_second(tmp_path, name, codec):
    path = film(tmp_path / name, map(flat, range(12)), fps=5, codec=codec)
    assert shown(path) == [(0, 0), (1, 5), (2, 10)]
    assert shown(path, first=1) == [(1, 5), (2, 10)] and shown(path, first=3) == []
    assert shown(path, Fraction(1, 2)) == [(0, 0), (2, 10)]
    assert [k for _, k in shown(path, 5)] == list(range(12))              # each once, whatever the container's rounding
    assert [k for _, k in shown(path, 10)][:6] == [0, 0, 1, 1, 2, 2]


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
    expected = np.rot90(picture, degrees // 90)                            # FFmpeg and NumPy both turn counterclockwise
    assert found.shape == expected.shape == (probe(path).height, probe(path).width, 3)
    assert np.abs(found.astype(int) - expected).mean() < 12


@pytest.mark.parametrize("pixels,size", [("yuv444p", (63, 47)), ("yuv420p10le", (64, 48)), ("gray", (64, 48))])
def test_odd_sizes_and_other_pixels(tmp_path, pixels, size):
    path = film(tmp_path / "odd.mkv", [np.full((size[1], size[0], 3), 120, np.uint8)] * 2, pixels=pixels)
    _, picture = next(read_frames(path, Fraction(1)))
    assert picture.shape == (size[1], size[0], 3) and abs(picture.mean() - 120) < 6


@pytest.mark.parametrize("rate,channels,codec,name,wanted", [
    (8000, 1, "aac", "a.mp4", 16_000), (16_000, 2, "pcm_s16le", "a.mkv", 16_000), (16_000, 1, "pcm_s16le", "a.mkv", 32_000),
    (22_050, 1, "aac", "a.mov", 16_000), (44_100, 2, "aac", "a.mp4", 16_000), (44_100, 1, "aac", "a.mp4", 32_000),
    (48_000, 2, "libopus", "a.webm", 16_000), (48_000, 6, "aac", "a.mkv", 16_000), (96_000, 2, "pcm_s16le", "a.mov", 32_000)])
def test_sound_in_a_stream_is_the_whole_track(tmp_path, rate, channels, codec, name, wanted):
    """20 s: two seams between blocks. Noise, which every error in the resampling changes."""
    noise = np.random.default_rng(rate).uniform(-0.3, 0.3, (channels, 20 * rate + 77))
    path = film(tmp_path / name, map(flat, range(2)), sound=noise, rate=rate, audio_codec=codec, codec="libvpx" if name[-1] == "m" else "libx264")
    whole, stream = read_audio(path, wanted), torch.cat(list(resampled(read_sound(path, probe(path).origin), wanted)))
    assert stream.shape == whole.shape and whole.abs().mean() > 0.02
    torch.testing.assert_close(stream, whole, rtol=0, atol=2e-6)


def test_an_unusual_rate_has_no_seams(tmp_path):
    path = film(tmp_path / "odd.mkv", map(flat, range(2)), sound=[tone(1000, 44_101, 20)], rate=44_101, audio_codec="pcm_s16le")
    stream = torch.cat(list(resampled(read_sound(path), 16_000)))
    error = stream - torch.from_numpy(tone(1000, 16_000, 20)).float()
    assert len(stream) == 320_000 and error[1000:-1000].abs().max() < 2e-3


def test_a_listener_hears_windows_of_the_whole(tmp_path):
    pieces = [(16_000, np.random.default_rng(k).normal(size=(1000 + 37 * k, 2)).astype(np.float32)) for k in range(60)]
    whole = torch.cat([torch.from_numpy(samples.mean(1)) for _, samples in pieces])
    listener = Listener(iter(pieces), 16_000)
    for start in (0, 0, 5000, 30_000, 100_000, len(whole) - 100, len(whole) + 5):
        expected = torch.nn.functional.pad(whole, (0, 20_000))[start:start + 15_600]
        assert torch.equal(listener.window(start, 15_600), expected), start
    with pytest.raises(ValueError, match="forwards"):
        listener.window(10, 5)
    assert not Listener(iter(()), 16_000).reaches(0) and Listener(iter(()), 16_000).window(3, 4).tolist() == [0] * 4
    listener = Listener(iter(pieces), 16_000)
    assert torch.equal(listener.window(50_000, 10), whole[50_000:50_010])  # the first question is not at the beginning
    assert listener.reaches(len(whole) - 1) and not listener.reaches(len(whole))


@pytest.mark.parametrize("late,begins", [(1.5, 1.5), (0.02, 0.0)])
def test_sound_that_begins_after_the_pictures(tmp_path, late, begins):
    path = film(tmp_path / "late.mkv", map(flat, range(15)), sound=[tone(500, 16_000, 1)], rate=16_000, late=late, audio_codec="pcm_s16le")
    heard = torch.cat(list(resampled(read_sound(path, probe(path).origin), 16_000)))
    assert abs(len(heard) - 16_000 * (1 + begins)) < 200 and abs(int((heard.abs() > 0.1).nonzero()[0]) - 16_000 * begins) < 200
    assert len(torch.cat(list(resampled(read_sound(path), 16_000)))) == 16_000          # stamps ignored


def test_sound_that_begins_before_the_pictures(tmp_path):
    path = film(tmp_path / "early.mkv", map(flat, range(5)), [2 + k / 5 for k in range(5)], sound=[tone(500, 16_000, 4)], rate=16_000,
                audio_codec="pcm_s16le")
    assert abs(len(torch.cat(list(resampled(read_sound(path, probe(path).origin), 16_000)))) - 32_000) < 200


def test_memory_does_not_grow_with_length(tmp_path):
    """Peaks of what Python allocates while 20 s and 100 s are read, and what a listener holds at the end."""
    def peak(seconds):
        path = film(tmp_path / f"{seconds}.mkv", (flat(k) for k in range(2 * seconds)), fps=2, sound=[tone(300, 16_000, seconds)], rate=16_000,
                    audio_codec="pcm_s16le")
        tracemalloc.start()
        listener = Listener(read_sound(path, 0.0), 8000)
        for time, _ in read_frames(path, Fraction(2)):
            listener.window(int(time * 8000), 8000)
            held = listener.held.nbytes
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak, held
    (short, _), (long, held) = peak(20), peak(100)
    assert long < 1.2 * short + 50_000 and held < 10 * 8000 * 4 * 2


def test_what_was_heard_before_a_late_start_is_let_go():
    """Where a stopped run goes on, ten minutes in: neither 38 MB of pieces, nor the sound so far joined again with each of them."""
    held = []

    def pieces():
        for second in range(600):
            held.append(len(listener.held))
            yield 16_000, np.full((16_000, 1), second, np.float32)

    listener = Listener(pieces(), 16_000)
    tracemalloc.start()
    heard = listener.window(590 * 16_000, 16_000)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert torch.all(heard == 590) and len(listener.held) == 16_000 and len(held) == 591 and max(held) == 0 and most < 2_000_000


def test_pictures_are_let_go_at_once(tmp_path):
    """Without Python's collection of cycles, which runs rarely: a frame of a large video is megabytes of FFmpeg's memory."""
    path = film(tmp_path / "phone.mp4", map(flat, range(60)), matrix=90)
    gc.collect()
    gc.disable()
    try:
        for _ in read_frames(path, Fraction(5)):
            pass
        assert sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects()) <= 2
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
    found = upright(SimpleNamespace(to_ndarray=lambda format: picture), (a << 16, b << 16, c << 16, d << 16))
    assert found.size == picture.size and all(np.array_equal(found[y - top, x - left], pixel) for (x, y), pixel in expected.items())


def test_what_a_video_says_of_itself(tmp_path):
    path = film(tmp_path / "a.mp4", map(flat, range(10)), sound=[tone(300, 44_100, 2)] * 2)
    video = probe(path)
    assert (video.width, video.height, video.origin, video.sample_rate, video.channels) == (64, 48, 0, 44_100, 2)
    assert video.seconds == pytest.approx(2, abs=0.05)
    assert probe(film(tmp_path / "mute.mp4", [flat(0)])).sample_rate is None


def test_broken_videos_end_in_one_line(tmp_path, monkeypatch):
    good = film(tmp_path / "good.mp4", map(flat, range(20)))
    sound = film(tmp_path / "both.mkv", [flat(0)], sound=[tone(300, 16_000, 1)], rate=16_000, audio_codec="pcm_s16le")
    with av.open(str(sound)) as source, av.open(str(tmp_path / "sound.mka"), "w", format="matroska") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    webm = film(tmp_path / "good.webm", [flat(0)], sound=[tone(300, 48_000, 1)], rate=48_000, codec="libvpx", audio_codec="libopus").read_bytes()
    files = {"zero.mp4": (b"", "cannot be decoded as video"), "text.mp4": (b"This is no video.\n" * 99, "cannot be decoded as video"),
             "cut.mp4": (good.read_bytes()[:len(good.read_bytes()) // 3], "cannot be decoded as video"), "sound.mka": (None, "no moving pictures"),
             "codec.webm": (webm.replace(b"V_VP8", b"V_XP8"), "its video is coded")}
    for name, (content, words) in files.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        for use in (probe, lambda path: list(read_frames(path, Fraction(1)))):
            with pytest.raises(ValueError, match=words) as caught:
                use(path)
            assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no such video"):
        probe(tmp_path)
    monkeypatch.setattr("lightavseg_core.data.video.MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match="claims 64 x 48 pixels; at most 1,000"):
        probe(good)


PLAYLISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{0}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile {0}\n"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_what_a_playlist_names_is_never_opened(tmp_path, kind):
    """Whoever opens the pipe waits for ever; and a file that is there gives the same words as one that is not."""
    film(tmp_path / "there.ts", map(flat, range(20)), sound=[tone(300, 44_100, 2)])
    os.mkfifo(tmp_path / "pipe.ts")
    path = tmp_path / f"list.{kind}"
    for use in (probe, lambda path: list(read_frames(path, Fraction(1))), read_audio):
        said = []

        def listen(use=use, said=said):
            with pytest.raises(ValueError, match="Playlists are not followed") as caught:
                use(path)
            said.append(str(caught.value))

        for name in ("there.ts", "absent.ts", "pipe.ts"):
            path.write_text(PLAYLISTS[kind].format(name))
            thread = threading.Thread(target=listen, daemon=True)
            thread.start()
            thread.join(60)
        assert len(said) == 3 and len(set(said)) == 1 and path.name in said[0] and "\n" not in said[0]


def test_a_picture_that_would_stay_for_years(tmp_path):
    path = film(tmp_path / "stamps.mkv", map(flat, range(3)), [0, 1, 100_000])
    assert [k for _, k in ((t, number(p)) for t, p in islice(read_frames(path, Fraction(1)), 1))] == [0]
    with pytest.raises(ValueError, match="99,999 s; its time stamps are broken"):
        shown(path)


def test_colours_are_told_apart():
    assert [number(flat(k)) for k in range(64)] == list(range(64)) and len({colour(k) for k in range(64)}) == 64
