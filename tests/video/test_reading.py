"""Videos read forwards: which picture is shown when, which sound belongs to it, and what broken files give."""

import gc
import io
import os
import struct
import subprocess
import sys
import threading
import tracemalloc
from fractions import Fraction
from itertools import islice
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from helpers.films import colour, copied, film, flat, number, tone
from PIL import Image

from lightavseg_core.data.decoding import RETRIES, Tally, decode, read_audio
from lightavseg_core.video.reading import (
    Listener,
    probe,
    read_frames,
    read_sound,
    resampled,
    upright,
)


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


@pytest.mark.parametrize("name,codec,pixels,size", [
    ("a.mkv", "libx264", "yuv444p", (63, 47)), ("a.mp4", "libx264", "yuv420p10le", (64, 48)), ("a.mkv", "libx264", "gray", (64, 48)),
    ("a.webm", "libvpx-vp9", "yuva420p", (64, 48)), ("a.mov", "prores_ks", "yuva444p10le", (64, 48)), ("a.mov", "png", "rgba", (63, 47)),
    ("a.mov", "prores_ks", "yuv422p10le", (64, 48)), ("a.mkv", "ffv1", "gray16le", (63, 47)), ("a.gif", "gif", "rgb8", (63, 47))])
def test_odd_sizes_and_other_pixels(tmp_path, name, codec, pixels, size):
    """Alpha of a quarter too: the colours are those that are stored, whatever shines through."""
    colour = (120, 120, 120, 64) if "a4" in pixels or pixels == "rgba" else (120, 120, 120)
    path = film(tmp_path / name, [np.full((size[1], size[0], len(colour)), colour, np.uint8)] * 2, codec=codec, pixels=pixels)
    _, picture = next(read_frames(path, Fraction(1)))
    assert picture.shape == (size[1], size[0], 3) and abs(picture.mean() - 120) < (30 if codec == "gif" else 6)      # of 8 shades


def test_pixels_that_are_no_squares(tmp_path):
    path = film(tmp_path / "wide.mp4", [flat(0)] * 2, aspect=Fraction(16, 11))
    assert (probe(path).width, probe(path).height, probe(path).aspect) == (64, 48, Fraction(16, 11))       # stored as they are
    assert probe(film(tmp_path / "turned.mp4", [flat(0)] * 2, aspect=Fraction(16, 11), matrix=90)).aspect == Fraction(11, 16)
    assert probe(film(tmp_path / "absurd.mp4", [flat(0)] * 2, aspect=Fraction(1, 5000))).aspect == 1


def test_pictures_before_an_edit_lists_start_are_not_shown(tmp_path):
    """An MP4 cut without coding it again: its first second is in the file for the decoder alone. The sound begins with what is shown."""
    def earlier(kind, k, packet):
        shift = round(1 / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        return packet if kind == "video" else None if k == 0 else packet

    whole = film(tmp_path / "whole.mp4", map(flat, range(15)), sound=[tone(400, 16_000, 3)], rate=16_000, audio_codec="flac")
    path = copied(whole, tmp_path / "cut.mp4", earlier, avoid_negative_ts="disabled", use_editlist=1)
    with av.open(str(path)) as container:
        assert next(container.demux(video=0)).pts < 0
    assert shown(path) == [(0, 5), (1, 10)] and probe(path).origin == pytest.approx(0, abs=0.01)
    assert len(torch.cat(list(resampled(read_sound(path, probe(path).origin), 16_000)))) == pytest.approx(32_000, abs=400)


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
    def alive():
        return sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())

    path = film(tmp_path / "phone.mp4", map(flat, range(60)), matrix=90)
    gc.collect()
    before = alive()                                                # of other tests, held by what they raised
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
    found = upright(SimpleNamespace(to_ndarray=lambda format: picture), (a << 16, b << 16, c << 16, d << 16))
    assert found.size == picture.size and all(np.array_equal(found[y - top, x - left], pixel) for (x, y), pixel in expected.items())


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Eight seconds in which every picture is known by itself, and FLAC tells whether a packet is whole."""
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (1, 8 * 48_000))
    return film(tmp_path_factory.mktemp("films") / "noisy.mkv", map(flat, range(40)), sound=noise, rate=48_000, codec="mjpeg", pixels="yuvj420p",
                audio_codec="flac")


def garbled(source, target, **packets):
    """A film in which the packets of these numbers are noise: video=[...], audio=[...]."""
    noise = np.random.default_rng(1)
    return copied(source, target, lambda kind, k, packet: noise.bytes(packet.size) if k in packets.get(kind, ()) else packet)


def test_damaged_packets_are_skipped_and_counted(noisy, tmp_path):
    path = garbled(noisy, tmp_path / "damaged.mkv", video=[7, 8, 39], audio=[0, 40, 41, 60])
    pictures, sound = Tally(), Tally()
    assert [number(picture) for _, picture in read_frames(path, Fraction(5), 0, pictures)] == [k - k % 6 if k in (7, 8) else k for k in range(39)]
    assert (pictures.read, pictures.damaged) == (40, 3)
    whole = np.concatenate([samples for _, samples in read_sound(noisy, 0.0)])
    pieces = len(next(read_sound(noisy, 0.0))[1])
    for k in (0, 40, 41, 60):
        whole[k * pieces:(k + 1) * pieces] = 0
    assert np.array_equal(np.concatenate([samples for _, samples in read_sound(path, 0.0, sound)]), whole) and pieces > 1000
    assert (sound.read, sound.damaged) == (-(-len(whole) // pieces), 4)
    later = np.concatenate([samples for _, samples in read_sound(path)])                  # where it begins: behind the first packet
    assert np.array_equal(later, whole[pieces:])
    with pytest.raises(ValueError, match="damaged.mkv: 4 of its 84 packets of sound cannot be decoded"):
        read_audio(path)


@pytest.mark.parametrize("name,codec,audio", [("a.mp4", "libx264", "aac"), ("a.ts", "libx264", "aac"), ("a.webm", "libvpx", "libopus")])
def test_damage_does_not_move_what_follows(tmp_path, name, codec, audio):
    """A click at 6 s is heard at 6 s; the pictures of 6 s are seen then."""
    sound = np.zeros((1, 8 * 48_000))
    sound[0, 6 * 48_000:6 * 48_000 + 2400] = tone(1000, 48_000, 0.05)
    path = film(tmp_path / name, map(flat, range(40)), sound=sound, rate=48_000, codec=codec, audio_codec=audio)
    path = garbled(path, tmp_path / f"damaged{name}", video=[7, 8], audio=range(100, 130))
    pictures, tally = Tally(), Tally()
    found = [number(picture) for _, picture in read_frames(path, Fraction(5), 0, pictures)]
    assert found[30:] == list(range(30, 40)) and len(found) == 40
    heard = torch.cat(list(resampled(read_sound(path, probe(path).origin, tally), 16_000)))
    assert 4 + int(heard[64_000:].abs().argmax()) / 16_000 == pytest.approx(6.025, abs=0.06) and len(heard) == pytest.approx(128_000, abs=1500)
    assert tally.damaged > 20 or name != "a.mp4"               # Opus makes something of any bytes, and in a TS the next frame is looked for


def test_too_much_damage_is_an_error(noisy, tmp_path):
    half = garbled(noisy, tmp_path / "half.mkv", video=range(20, 40))
    assert [k for _, k in shown(half, 5)] == list(range(20))
    path = garbled(noisy, tmp_path / "most.mkv", video=range(10, 40), audio=range(80))
    with pytest.raises(ValueError, match="most.mkv: 30 of its 40 packets of pictures cannot be decoded or hold more than 64,000,000 pixels .Inv"):
        list(read_frames(path, Fraction(5)))
    with pytest.raises(ValueError, match="most.mkv: 80 of its 84 packets of sound cannot be decoded .Invalid data"):
        list(read_sound(path))
    with pytest.raises(ValueError, match="none.mkv: 40 of its 40 packets of pictures"):
        probe(garbled(noisy, tmp_path / "none.mkv", video=range(40)))


@pytest.mark.parametrize("name,codec,audio", [("a.mkv", "libx264", "aac"), ("a.ts", "libx264", "aac"), ("a.webm", "libvpx", "libopus"),
                                              ("a.avi", "mpeg4", "pcm_s16le"), ("a.flv", "libx264", "aac")])
def test_a_file_cut_in_the_middle_gives_what_is_there(tmp_path, name, codec, audio):
    """An MP4 that was cut has lost the index at its end: an error, below."""
    path = film(tmp_path / name, (np.random.default_rng(k).integers(0, 255, (48, 64, 3), np.uint8) for k in range(60)), fps=10, codec=codec,
                sound=[tone(400, 44_100 if codec != "libvpx" else 48_000, 6)], rate=44_100 if codec != "libvpx" else 48_000, audio_codec=audio)
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    assert 20 <= len(list(read_frames(path, Fraction(10)))) <= 40
    assert 1.5 < len(torch.cat(list(resampled(read_sound(path, probe(path).origin), 16_000)))) / 16_000 < 4.5


def test_reading_goes_on_behind_a_place_that_cannot_be_read():
    """Of packets 0 to 9 in a container that fails at 3 and 6; and one that fails for ever."""
    class Container:
        def __init__(self, fails):
            self.k, self.fails, self.asked = 0, fails, 0

        def demux(self, stream):
            while self.k < 10:
                self.k, self.asked = self.k + 1, self.asked + 1
                if self.k - 1 in self.fails:
                    self.k -= self.fails is ENDLESS
                    raise av.error.InvalidDataError(1, "lost")
                yield SimpleNamespace(size=1, decode=lambda k=self.k - 1: [k])
            yield SimpleNamespace(size=0, decode=lambda: ["last"])

    ENDLESS, tally = {5}, Tally()
    stream = SimpleNamespace(codec_context=SimpleNamespace(), type="video")
    assert list(decode(Container({3, 6}), stream, "a", "pictures", tally)) == [0, 1, 2, 4, 5, 7, 8, 9, "last"]
    assert (tally.read, tally.damaged) == (10, 2)
    container = Container(ENDLESS)
    with av.open(os.devnull, "w", format="null") as sink:
        stream = sink.add_stream("pcm_s16le", rate=8000)
        found = []
        with pytest.raises((ValueError, av.FFmpegError)):                                  # the last packet asks a real decoder
            found.extend(decode(container, stream, "a", "sound", Tally()))
    assert container.asked == 5 + RETRIES


def test_a_picture_that_changes_its_size(noisy, tmp_path, monkeypatch):
    other = film(tmp_path / "large.mkv", (flat(k, 96, 80) for k in range(40)), codec="mjpeg", pixels="yuvj420p")
    with av.open(str(other)) as container:
        large = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    path = copied(noisy, tmp_path / "both.mkv", lambda kind, k, packet: large[k] if kind == "video" and 10 <= k < 20 else packet)
    found = [(number(picture), picture.shape) for _, picture in read_frames(path, Fraction(5))]
    assert found == [(k, (80, 96, 3) if 10 <= k < 20 else (48, 64, 3)) for k in range(40)]
    monkeypatch.setattr("lightavseg_core.data.decoding.MAX_PIXELS", 64 * 48 + 3000)            # FFmpeg counts a margin
    tally = Tally()
    assert [number(picture) for _, picture in read_frames(path, Fraction(5), 0, tally)][9:21] == [9] * 11 + [20] and tally.damaged == 10


def test_claims_are_not_believed(noisy, tmp_path):
    """An index that promises 30 years, a million pictures a second, a thousand tracks."""
    content = noisy.read_bytes()
    place = content.index(b"\x44\x89\x88")                                               # Matroska's Duration, milliseconds
    (tmp_path / "years.mkv").write_bytes(content[:place + 3] + struct.pack(">d", 1e12) + content[place + 11:])
    assert probe(tmp_path / "years.mkv").seconds == 1e9 and len(shown(tmp_path / "years.mkv")) == 8

    with av.open(str(tmp_path / "fast.mov"), "w") as container:
        stream = container.add_stream("mjpeg", rate=1_000_000, width=64, height=48, pix_fmt="yuvj420p")
        for k in range(50):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(flat(k), format="rgb24")))
        container.mux(stream.encode(None))
    assert len(shown(tmp_path / "fast.mov", 240)) == 1

    content = film(tmp_path / "one.mp4", map(flat, range(10))).read_bytes()
    moov, trak = content.index(b"moov") - 4, content.index(b"trak") - 4                    # at the end of the file
    size, length = struct.unpack(">I", content[moov:moov + 4])[0], struct.unpack(">I", content[trak:trak + 4])[0]
    for tracks in (500, 5000):
        more = content[trak:trak + length] * (tracks - 1)
        path = tmp_path / f"{tracks}.mp4"
        path.write_bytes(content[:moov] + struct.pack(">I", size + len(more)) + content[moov + 4:trak] + more + content[trak:])
        if tracks < 1000:                                                                 # FFmpeg opens so many
            assert shown(path) == [(0, 0), (1, 5)]
        else:
            with pytest.raises(ValueError, match="cannot be decoded"):
                probe(path)


def test_a_small_file_of_huge_pictures_is_not_decoded(tmp_path):
    """81 million pixels, which LZW and deflate keep in 80 KB: refused before FFmpeg looks what they are."""
    for kind in ("gif", "png"):
        image = io.BytesIO()
        Image.fromarray(np.zeros((9000, 9000), np.uint8)).save(image, kind)
        (tmp_path / f"{kind}.avi").write_bytes(image.getvalue())
    script = ("import re, sys; from pathlib import Path; from lightavseg_core.video.reading import probe\n"
              "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024\n"
              "before = peak()\n"
              "for path in sys.argv[1:]:\n"
              "    try: probe(path)\n"
              "    except ValueError as error: print(error)\n"
              "print(peak() - before)")
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "gif.avi", tmp_path / "png.avi"], text=True, capture_output=True, check=True)
    *said, grown = done.stdout.splitlines()
    assert len(said) == 2 and all("64,000,000 pixels" in line for line in said) and int(grown) < 60, done.stdout


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_and_devices_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", "/dev/zero"):
        for use in (probe, read_audio):
            with pytest.raises(ValueError, match="a pipe or a device; only files are read"):
                use(path)


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
    monkeypatch.setattr("lightavseg_core.video.reading.MAX_PIXELS", 1000)
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
