"""Time stamps that jump: what was joined is shown one after the other, pictures and sound together."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.ear import segmenter
from helpers.films import chirp_at, chirping, copied, film, flat, number

from lightavseg_core.data.decoding import read_audio
from lightavseg_core.video.inputs import sound_of
from lightavseg_core.video.prediction import write
from lightavseg_core.video.reading import probe, read_frames, resampled
from lightavseg_core.video.timeline import timeline

TICK = 1 / 16_000


def recording(path, first, seconds, **options):
    """Ten pictures a second, numbered from `first`, and a chirp half a second after the beginning."""
    pictures = (flat(first + k) for k in range(10 * seconds))
    return film(path, pictures, fps=10, **chirping(seconds, 0.5), **options)


def moved(source, target, seconds):
    """A recording with a clock that is ahead."""

    def ahead(kind, k, packet):
        ticks = round(seconds / packet.time_base)
        packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
        return packet

    return copied(source, target, ahead)


def joined(path, *parts):
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def check(path, seconds, jumps, tick=TICK):
    """All pictures in a row, and the chirps where each part has them."""
    shown = list(read_frames(path, Fraction(10)))
    assert [number(picture) for _, picture in shown] == list(range(10 * sum(seconds)))
    assert [time for time, _ in shown] == [Fraction(k, 10) for k in range(len(shown))]
    heard = torch.cat(list(resampled(sound_of(path, None), 16_000)))
    begins = np.cumsum([0, *seconds[:-1]])
    for begin in begins.tolist():
        assert chirp_at(heard[: (begin + 1) * 16_000], after=begin) == pytest.approx(begin + 0.5, abs=tick)
    found = probe(path).jumps
    assert [jump.time for jump in found] == pytest.approx(begins[1:], abs=0.002)
    assert [jump.by for jump in found] == pytest.approx(jumps, abs=0.005)


@pytest.mark.parametrize("kind,lengths,tick", [("ts", (2, 1, 3), TICK), ("mkv", (2, 3), 0.001)])
def test_recordings_that_were_joined(tmp_path, kind, lengths, tick):
    """Of Matroska, FFmpeg reads two."""
    firsts = 10 * np.cumsum([0, *lengths[:-1]])
    parts = [recording(tmp_path / f"{k}.{kind}", *both) for k, both in enumerate(zip(firsts, lengths))]
    check(parts[0], lengths[:1], [], tick)
    check(joined(tmp_path / f"all.{kind}", *parts), lengths, [-seconds for seconds in lengths[:-1]], tick)


@pytest.mark.parametrize("rate,channels", [(48_000, 6), (32_000, 1), (32_000, 6)])
@pytest.mark.slow
def test_joined_recordings_whose_sounds_differ(tmp_path, rate, channels):
    """In rate or channels, of six in the middle one: each is heard at its time, in the overlay too."""
    parts = []
    for k, (own, many) in enumerate([(48_000, 2), (rate, channels), (48_000, 2)]):
        sound = chirping(2, 0.5, rate=own, codec="ac3")
        silent = np.zeros_like(sound["sound"])
        middle = [silent, silent, sound["sound"], silent, silent, silent]
        sound["sound"] = np.concatenate(middle if many == 6 else [sound["sound"]] * many)
        parts.append(film(tmp_path / f"{k}.ts", (flat(20 * k + n) for n in range(20)), fps=10, **sound))
    path = joined(tmp_path / "all.ts", *parts)
    check(path, (2, 2, 2), [-2, -2])
    write(segmenter(), path, tmp_path / "o")
    for heard in (read_audio(path), read_audio(tmp_path / "o" / "overlay.mp4")):
        levels = [heard[second * 16_000 :][:32_000].square().mean().sqrt().item() for second in (0, 2, 4)]
        assert levels[2] == pytest.approx(levels[0], rel=0.02)
        assert levels[1] == pytest.approx(levels[0] * (0.5**0.5 if channels == 6 else 1), rel=0.05)
    for second in (0, 2, 4):  # of the overlay
        found = chirp_at(heard[: (second + 1) * 16_000], after=second)
        assert found == pytest.approx(second + 0.5, abs=0.001)


@pytest.mark.parametrize("ahead,by", [(98, 96), (1.8, -0.2), (5000, 4998)])
def test_clocks_that_differ(tmp_path, ahead, by):
    """A gap of a minute and a half, which is no picture of a minute and a half; of hours; and a little back,
    where the new stamps are among the old ones."""
    parts = [recording(tmp_path / f"{k}.ts", 20 * k, 2) for k in range(2)]
    late = moved(parts[1], tmp_path / "late.ts", ahead)
    check(joined(tmp_path / "all.ts", parts[0], late), (2, 2), [by])


def test_a_small_gap_is_shown_as_it_is(tmp_path):
    """Five seconds: the last picture stays, and it is silent."""
    parts = [recording(tmp_path / f"{k}.ts", 20 * k, 2) for k in range(2)]
    path = joined(tmp_path / "all.ts", parts[0], moved(parts[1], tmp_path / "late.ts", 7))
    numbers = [number(picture) for _, picture in read_frames(path, Fraction(10))]
    assert numbers == [*range(20), *[19] * 50, *range(20, 40)] and probe(path).jumps == ()
    heard = torch.cat(list(resampled(sound_of(path, None), 16_000)))
    assert chirp_at(heard, after=3) == pytest.approx(7.5, abs=TICK)


def test_it_is_told(tmp_path, capsys):
    parts = [recording(tmp_path / f"{k}.ts", 20 * k, 2) for k in range(2)]
    path = joined(tmp_path / "all.ts", *parts)
    manifest = write(segmenter(), path, tmp_path / "o")
    assert manifest["video"]["jumps"] == [{"time": 2.0, "by": -2.0}]
    assert [frame["time"] for frame in manifest["frames"]] == [0, 1, 2, 3]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: its time stamps jump by -2 s at 2 s (forward: a gap; back: joined rec")
    assert write(segmenter(), parts[0], tmp_path / "p")["video"]["jumps"] == []
    assert capsys.readouterr().err == ""


PICTURES, SOUND = (SimpleNamespace(index=k, average_rate=Fraction(10)) for k in range(2))


def jumps_of(pictures, sound, flags=0):
    """Of a file with packets at these seconds, in the order of its stamps as they stand in it."""
    packets = []
    for stream, times in ((PICTURES, pictures), (SOUND, sound)):
        for place, time in times:
            stamps = {"pts": round(1000 * time), "dts": round(1000 * time), "duration": 100}
            stamps |= {"stream": stream, "time_base": Fraction(1, 1000)}
            packets.append((place, SimpleNamespace(size=1, **stamps)))
    packets = [packet for _, packet in sorted(packets, key=lambda both: both[0])]
    container = SimpleNamespace(format=SimpleNamespace(flags=flags), demux=lambda *_: iter(packets))
    return [jump[:2] for jump in timeline(container, PICTURES, SOUND if sound else None)[1]]


def at(*seconds, step=0.1):
    """(place in the file, stamp) of packets: of spans (place, stamp, length)."""
    packets = []
    for place, stamp, length in seconds:
        packets += [(place + k * step, stamp + k * step) for k in range(round(length / step))]
    return packets


BOTH = at((0, 0, 5), (5, 0, 5))


@pytest.mark.parametrize(
    "pictures,sound,flags,jumps",
    [
        (BOTH, BOTH, 0, [(5, -5)]),
        (BOTH, [], 0, [(5, -5)]),
        (BOTH, at((0, 0, 5)), 0, [(5, -5)]),  # the second recording has no sound
        (at((0, 0, 10)), BOTH, 0, []),  # the sound alone has wrong stamps
        (BOTH, at((0, 0, 10)), 0, []),
        (at((0, 0, 5), (5.3, 0, 5)), BOTH, 0, [(5, -5)]),  # a last packet after the other's first
        (at((0, 0, 5), (5, 0.5, 5)), BOTH, 0, [(5, -5)]),  # the pictures begin later
        (at((0, 0, 5), (5, 30, 5)), at((0, 0, 5), (5, 30, 5)), 512, [(5, 25)]),
        (at((0, 0, 5), (5, 30, 5)), at((0, 0, 5), (5, 30, 5)), 0, []),  # a pause, in a format that has some
        (at((0, 0, 5), (5, 90, 5)), at((0, 0, 5), (5, 90, 5)), 0, [(5, 85)]),
        ([(0, 0), (30, 30), (200, 200)], at((0, 0, 300)), 512, []),  # pictures that stay
        ([(0, 0), (30, 30), (200, 200)], at((0, 0, 5)), 0, []),
        ([(0, 0), (30, 30), (200, 200)], [], 0, []),
        (at((0, 0, 300)), at((0, 0, 5), (200, 200, 5)), 512, []),  # silence
        (at((0, 0, 5), (5, 4.95, 5)), at((0, 0, 5), (5, 4.95, 5)), 0, []),  # jitter
    ],
)
def test_what_is_a_jump(pictures, sound, flags, jumps):
    found = jumps_of(pictures, sound, flags)
    assert len(found) == len(jumps)
    for one, expected in zip(found, jumps):
        assert one == pytest.approx(expected, abs=0.11)
