"""Videos that are damaged, broken, or lie: what is read of them, and what is not even tried."""

import io
import os
import re
import struct
import threading
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from helpers.films import copied, film, flat, garbled, number, sounding, tone
from PIL import Image

from lightavseg_core.data.decoding import RETRIES, Tally, decode, read_audio
from lightavseg_core.video.reading import probe, read_frames, read_sound, resampled


def numbers(path, fps=5, tally=None):
    return [number(picture) for _, picture in read_frames(path, Fraction(fps), tally)]


def samples(path, origin=None, tally=None):
    return np.concatenate([piece for _, piece in read_sound(path, origin, tally)])


def every_picture(path):
    return list(read_frames(path, Fraction(1)))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Eight seconds in which every picture is known by itself, and FLAC tells whether a packet is whole."""
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (1, 8 * 48_000))
    path = tmp_path_factory.mktemp("films") / "noisy.mkv"
    return film(path, map(flat, range(40)), sound=noise, rate=48_000, codec="mjpeg", audio_codec="flac")


def test_damaged_packets_are_skipped_and_counted(noisy, tmp_path):
    path = garbled(noisy, tmp_path / "damaged.mkv", video=[7, 8, 39], audio=[0, 40, 41, 60])
    pictures, sound = Tally(), Tally()
    assert numbers(path, 5, pictures) == [*range(7), 6, 6, *range(9, 39)]
    assert (pictures.read, pictures.damaged) == (40, 3)
    whole = samples(noisy, 0.0)
    pieces = len(next(read_sound(noisy, 0.0))[1])
    for k in (0, 40, 41, 60):
        whole[k * pieces : (k + 1) * pieces] = 0
    assert np.array_equal(samples(path, 0.0, sound), whole) and pieces > 1000
    assert (sound.read, sound.damaged) == (-(-len(whole) // pieces), 4)
    # Where it begins: behind the first packet.
    assert np.array_equal(samples(path), whole[pieces:])
    with pytest.raises(ValueError, match="damaged.mkv: 4 of its 84 packets of sound cannot be decoded"):
        read_audio(path)


@pytest.mark.parametrize("kind", ["mp4", "ts", "webm"])
def test_damage_does_not_move_what_follows(tmp_path, kind):
    """A click at 6 s is heard at 6 s; the pictures of 6 s are seen then."""
    sound = np.zeros((1, 8 * 48_000))
    sound[0, 6 * 48_000 : 6 * 48_000 + 2400] = tone(1000, 48_000, 0.05)
    path = film(tmp_path / f"a.{kind}", map(flat, range(40)), sound=sound, rate=48_000)
    path = garbled(path, tmp_path / f"damaged.{kind}", video=[7, 8], audio=range(100, 130))
    found, tally = numbers(path), Tally()
    assert found[30:] == list(range(30, 40)) and len(found) == 40
    heard = torch.cat(list(resampled(read_sound(path, probe(path).origin, tally), 16_000)))
    assert 4 + int(heard[64_000:].abs().argmax()) / 16_000 == pytest.approx(6.025, abs=0.06)
    assert len(heard) == pytest.approx(128_000, abs=1500)
    # Opus makes something of any bytes, and in a TS the next frame is looked for.
    assert tally.damaged > 20 or kind != "mp4"


def test_too_much_damage_is_an_error(noisy, tmp_path):
    assert numbers(garbled(noisy, tmp_path / "half.mkv", video=range(20, 40))) == list(range(20))
    path = garbled(noisy, tmp_path / "most.mkv", video=range(10, 40), audio=range(80))
    words = "most.mkv: 30 of its 40 packets of pictures cannot be decoded or hold more than 64,000,000 pixels"
    with pytest.raises(ValueError, match=f"{words} .Inv"):
        every_picture(path)
    with pytest.raises(ValueError, match="80 of its 84 packets of sound cannot be decoded .Invalid data"):
        samples(path)
    with pytest.raises(ValueError, match="none.mkv: 40 of its 40 packets of pictures"):
        probe(garbled(noisy, tmp_path / "none.mkv", video=range(40)))


@pytest.mark.parametrize("kind", ["mkv", "ts", "webm", "avi", "flv"])
def test_a_file_cut_in_the_middle_gives_what_is_there(tmp_path, kind):
    """An MP4 that was cut has lost the index at its end: an error, below."""
    noise = np.random.default_rng(0)
    pictures = (noise.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(60))
    sound = sounding(6, 48_000 if kind == "webm" else 44_100)
    path = film(tmp_path / f"a.{kind}", pictures, fps=10, **sound)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 20 <= len(list(read_frames(path, Fraction(10)))) <= 40
    assert 1.5 < len(samples(path, probe(path).origin)) / sound["rate"] < 4.5


def test_reading_goes_on_behind_a_place_that_cannot_be_read():
    """Of packets 0 to 9 in a container that fails at 3 and 6; and one that fails for ever."""

    class Container:
        def __init__(self, *fails, for_ever=False):
            self.k, self.fails, self.for_ever, self.asked = 0, fails, for_ever, 0

        def demux(self, stream):
            while self.k < 10:
                k, self.asked = self.k, self.asked + 1
                self.k += not (k in self.fails and self.for_ever)
                if k in self.fails:
                    raise av.error.InvalidDataError(1, "lost")
                yield SimpleNamespace(size=1, decode=lambda k=k: [k])
            yield SimpleNamespace(size=0, decode=lambda: ["last"])

    tally = Tally()
    stream = SimpleNamespace(codec_context=SimpleNamespace(), type="video")
    found = list(decode(Container(3, 6), stream, "a", "pictures", tally))
    assert found == [0, 1, 2, 4, 5, 7, 8, 9, "last"]
    assert (tally.read, tally.damaged) == (10, 2)
    container = Container(5, for_ever=True)
    with av.open(os.devnull, "w", format="null") as sink:
        stream = sink.add_stream("pcm_s16le", rate=8000)
        with pytest.raises((ValueError, av.FFmpegError)):  # the last packet asks a real decoder
            list(decode(container, stream, "a", "sound", Tally()))
    assert container.asked == 5 + RETRIES


def test_a_picture_that_changes_its_size(noisy, tmp_path, monkeypatch):
    other = film(tmp_path / "large.mkv", (flat(k, 96, 80) for k in range(40)), codec="mjpeg")
    with av.open(str(other)) as container:
        large = [bytes(packet) for packet in container.demux(video=0) if packet.size]

    def enlarged(kind, k, packet):
        return large[k] if kind == "video" and 10 <= k < 20 else packet

    path = copied(noisy, tmp_path / "both.mkv", enlarged)
    found = [(number(picture), picture.shape) for _, picture in read_frames(path, Fraction(5))]
    assert found == [(k, (80, 96, 3) if 10 <= k < 20 else (48, 64, 3)) for k in range(40)]
    # FFmpeg counts a margin.
    monkeypatch.setattr("lightavseg_core.data.decoding.MAX_PIXELS", 64 * 48 + 3000)
    tally = Tally()
    assert numbers(path, 5, tally)[9:21] == [9] * 11 + [20] and tally.damaged == 10


def test_an_index_that_promises_30_years(noisy, tmp_path):
    content = noisy.read_bytes()
    place = content.index(b"\x44\x89\x88") + 3  # Matroska's Duration, milliseconds
    path = tmp_path / "years.mkv"
    path.write_bytes(content[:place] + struct.pack(">d", 1e12) + content[place + 8 :])
    assert probe(path).seconds == 1e9 and len(every_picture(path)) == 8


def test_a_million_pictures_a_second(tmp_path):
    with av.open(str(tmp_path / "fast.mov"), "w") as container:
        stream = container.add_stream("mjpeg", rate=1_000_000, width=64, height=48, pix_fmt="yuvj420p")
        for k in range(50):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(flat(k), format="rgb24")))
        container.mux(stream.encode(None))
    assert len(numbers(tmp_path / "fast.mov", 240)) == 1


@pytest.mark.slow
def test_a_thousand_tracks(tmp_path):
    content = film(tmp_path / "one.mp4", map(flat, range(10))).read_bytes()
    moov, trak = content.index(b"moov") - 4, content.index(b"trak") - 4  # at the end of the file
    (size,), (length,) = (struct.unpack(">I", content[place : place + 4]) for place in (moov, trak))
    for tracks in (500, 5000):
        more = content[trak : trak + length] * (tracks - 1)
        head = content[:moov] + struct.pack(">I", size + len(more)) + content[moov + 4 : trak]
        path = tmp_path / f"{tracks}.mp4"
        path.write_bytes(head + more + content[trak:])
        if tracks < 1000:  # FFmpeg opens so many
            assert numbers(path, 1) == [0, 5]
        else:
            with pytest.raises(ValueError, match="cannot be decoded"):
                probe(path)


def most_memory():
    """Of this process, in MiB, since the last call."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    Path("/proc/self/clear_refs").write_text("5")
    return int(found[1]) / 1024


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be set back")
@pytest.mark.parametrize("kind", ["gif", "png"])
@pytest.mark.slow
def test_a_small_file_of_huge_pictures_is_not_decoded(tmp_path, kind):
    """81 million pixels, which LZW and deflate keep in 80 KB: refused before FFmpeg looks what they are."""
    image = io.BytesIO()
    Image.new("L", (9000, 9000)).save(image, kind)
    path = tmp_path / f"{kind}.avi"
    path.write_bytes(image.getvalue())
    del image
    most_memory()
    before = most_memory()
    with pytest.raises(ValueError, match="64,000,000 pixels"):
        probe(path)
    assert most_memory() - before < 40


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_and_devices_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", "/dev/zero"):
        for use in (probe, read_audio):
            with pytest.raises(ValueError, match="a pipe or a device; expected a regular file"):
                use(path)


def test_broken_videos_end_in_one_line(tmp_path, monkeypatch):
    good = film(tmp_path / "good.mp4", map(flat, range(20)))
    both = film(tmp_path / "both.mkv", [flat(0)], **sounding(1))
    with av.open(str(both)) as source, av.open(str(tmp_path / "sound.mka"), "w", format="matroska") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    webm = film(tmp_path / "a.webm", [flat(0)], **sounding(1, 48_000))
    made = {
        "zero.mp4": b"",
        "text.mp4": b"This is no video.\n" * 99,
        "cut.mp4": good.read_bytes()[: good.stat().st_size // 3],
        "codec.webm": webm.read_bytes().replace(b"V_VP8", b"V_XP8"),
    }
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    words = {"sound.mka": "no moving pictures", "codec.webm": "the codec of its video"}
    for name in (*made, "sound.mka"):
        for use in (probe, every_picture):
            with pytest.raises(ValueError, match=words.get(name, "cannot be decoded as video")) as caught:
                use(tmp_path / name)
            assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no such video"):
        probe(tmp_path)
    monkeypatch.setattr("lightavseg_core.video.reading.MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match="claims 64 x 48 pixels; expected at most 1,000"):
        probe(good)


PLAYLISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{0}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile {0}\n",
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_what_a_playlist_names_is_never_opened(tmp_path, kind):
    """Whoever opens the pipe waits for ever; and a file that is there gives the same words as one that is
    not."""
    film(tmp_path / "there.ts", map(flat, range(20)), **sounding(2, 44_100))
    os.mkfifo(tmp_path / "pipe.ts")
    path = tmp_path / f"list.{kind}"
    for use in (probe, every_picture, read_audio):
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
        assert len(said) == 3 and len(set(said)) == 1
        assert path.name in said[0] and "\n" not in said[0]


def test_a_picture_that_would_stay_for_years(tmp_path):
    path = film(tmp_path / "stamps.mkv", map(flat, range(3)), [0, 1, 100_000])
    assert number(next(read_frames(path, Fraction(1)))[1]) == 0
    with pytest.raises(ValueError, match="99,999 s; the time stamps are broken"):
        numbers(path, 1)
