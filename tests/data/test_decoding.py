"""Files with sound, of every kind, whole and broken."""

import math
import struct
import tracemalloc

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from helpers.films import film, flat

from lightavseg_core.data.decoding import read_audio

RATE = 16_000


def wav_bytes(samples, rate, kind="pcm16", chunk=b"", codec=None):
    """A RIFF file of samples (channels, N) in [-1, 1]; chunk: bytes to stand before the data."""
    x = np.asarray(samples, np.float64).T.reshape(-1)
    bits, tag = {"pcm8": (8, 1), "pcm16": (16, 1), "pcm24": (24, 1), "float": (32, 3)}[kind]
    if kind == "float":
        numbers = x.astype("<f4")
    elif kind == "pcm8":  # 128 is silence
        numbers = np.round(x * 127 + 128).astype("u1")
    else:
        numbers = np.round(x * (2 ** (bits - 1) - 1)).astype("<i2" if bits == 16 else "<i4")
    if kind == "pcm24":
        numbers = numbers.view("u1").reshape(-1, 4)[:, :3]
    channels, raw = len(samples), numbers.tobytes()
    block = channels * bits // 8
    form = struct.pack("<IHHIIHH", 16, codec or tag, channels, rate, rate * block, block, bits)
    body = b"WAVEfmt " + form + chunk + b"data" + struct.pack("<I", len(raw)) + raw
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tone(hertz, rate, seconds=1.0, level=0.5):
    return level * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def amplitude(samples, hertz):
    """Of a tone in (N,) samples at 16 kHz, by the inner product with it."""
    time = torch.arange(len(samples), dtype=torch.float64) / RATE
    wave = torch.exp(-2j * math.pi * hertz * time)
    return 2 * (samples.double() * wave).mean().abs().item()


def read(tmp_path, content, name="sound.wav"):
    (tmp_path / name).write_bytes(content)
    return read_audio(tmp_path / name)


@pytest.mark.parametrize("kind", ["pcm8", "pcm16", "pcm24", "float"])
@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 44_100, 48_000, 96_000])
def test_a_tone_keeps_its_frequency_and_level(tmp_path, rate, kind):
    left = tone(1000, rate)
    mono = read(tmp_path, wav_bytes([left], rate, kind))
    assert mono.dtype == torch.float32 and mono.ndim == 1 and abs(len(mono) - RATE) <= 1
    assert amplitude(mono, 1000) == pytest.approx(0.5, rel=0.01)
    both = read(tmp_path, wav_bytes([left, tone(2000, rate, level=0.2)], rate, kind))
    assert amplitude(both, 1000) == pytest.approx(0.25, rel=0.01)
    assert amplitude(both, 2000) == pytest.approx(0.1, rel=0.05)


def test_what_16_khz_cannot_hold_is_gone(tmp_path):
    sound = read(tmp_path, wav_bytes([tone(12_000, 44_100) + tone(600, 44_100, level=0.1)], 44_100))
    assert amplitude(sound, 4000) < 0.002  # 12 kHz would fold to it
    assert amplitude(sound, 600) == pytest.approx(0.1, rel=0.01)


def test_samples_of_a_16_khz_file_are_kept_exactly(tmp_path):
    values = np.random.default_rng(0).integers(-32768, 32768, 4000)
    sound = read(tmp_path, wav_bytes([values / 32767], RATE))
    assert torch.equal(sound, torch.from_numpy(np.round(values / 32767 * 32767) / 32768).float())


@pytest.mark.parametrize("channels", [3, 6, 8, 16])
def test_many_channels(tmp_path, channels):
    sound = read(tmp_path, wav_bytes([tone(500, 48_000, 0.5)] * (channels - 1) + [np.zeros(24_000)], 48_000))
    assert amplitude(sound, 500) == pytest.approx(0.5 * (channels - 1) / channels, rel=0.01)


SPEAKERS = ["front left", "front right", "centre", "bass", "left behind", "right behind"]


@pytest.mark.parametrize("speaker", range(6))
@pytest.mark.parametrize("codec", ["ac3", "flac"])
def test_each_speaker_of_six_is_heard(tmp_path, codec, speaker):
    """As loud as a mix to stereo and then to one channel has it (ITU-R BS.775): what is said in the middle is
    3 dB down, not 15."""
    sound = np.zeros((6, 48_000))
    sound[speaker] = tone(600, 48_000)
    found = read_audio(film(tmp_path / "a.mkv", [flat(0)], sound=sound, rate=48_000, audio_codec=codec))
    expected = 0.5 * (0.5, 0.5, 0.5**0.5, 0, 0.5**1.5, 0.5**1.5)[speaker]
    if SPEAKERS[speaker] == "bass" and codec == "ac3":
        return  # which keeps 120 Hz of it
    assert amplitude(found, 600) == pytest.approx(expected, rel=0.03, abs=0.005)


@pytest.mark.parametrize("right", [-1, -0.9, 0, 1])
def test_channels_that_cancel_each_other_out(tmp_path, right):
    """Right = -left, by a wrong cable or an effect: one of them is heard."""
    left = tone(1000, 48_000)
    found = read(tmp_path, wav_bytes([left, right * left], 48_000))
    assert amplitude(found, 1000) == pytest.approx(0.5 if right < 0 else 0.25 * (1 + right), rel=0.01)


def test_a_mix_of_what_differs_is_a_mean(tmp_path):
    """Also where the channels have nothing in common, or are almost silent."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 16_000))
    noise[:, 8000:] *= 1e-4
    found = read(tmp_path, wav_bytes(noise, RATE, "float"))
    assert torch.equal(found, torch.from_numpy(noise.T.astype(np.float32).mean(1)))


def test_the_default_track_is_heard(tmp_path):
    """Not a silent one before it, nor one for the blind; and the first where none is marked."""

    def tracks(name, *dispositions):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            streams = [container.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in dispositions]
            for stream, disposition in zip(streams, dispositions):
                stream.disposition = disposition
            for k, stream in enumerate(streams):
                samples = tone(300 * (k + 1), RATE)[None].astype(np.float32)
                frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
                frame.sample_rate = RATE
                container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
        sound = read_audio(path)
        return [k for k in range(len(dispositions)) if amplitude(sound, 300 * (k + 1)) > 0.4]

    default, aside = Disposition.default, Disposition.visual_impaired
    assert tracks("a.mkv", 0, 0, default) == [2]
    assert tracks("b.mkv", 0, default, default) == [1]
    assert tracks("c.mkv", 0, 0) == [0]
    assert tracks("d.mkv", default | aside, 0) == [1]
    assert tracks("e.mkv", default | aside) == [0]


@pytest.mark.parametrize("kind,codec", [("mp3", "libmp3lame"), ("ac3", "ac3"), ("mp2", "mp2")])
@pytest.mark.parametrize("second", [(48_000, 2), (32_000, 1), (32_000, 2)])
def test_sound_that_changes_midway(tmp_path, kind, codec, second):
    """Rate or channels, as between a film and what is shown in its pause."""
    path = tmp_path / f"all.{kind}"
    for k, (rate, channels) in enumerate([(48_000, 1), second, (48_000, 1)]):
        sound = np.stack([tone(500 * (k + 1), rate, 2.0)] * channels)
        part = film(tmp_path / f"{k}.mkv", [flat(0)], sound=sound, rate=rate, audio_codec=codec)
        with av.open(str(part)) as container, path.open("ab") as joined:
            joined.writelines(bytes(packet) for packet in container.demux(audio=0))
    found = read_audio(path)
    assert len(found) == pytest.approx(6 * RATE, abs=0.5 * RATE)
    for k in range(3):
        for hertz in (500, 1000, 1500):
            middle = found[2 * k * RATE + RATE // 2 : 2 * k * RATE + 3 * RATE // 2]
            wanted = 0.5 if hertz == 500 * (k + 1) else 0
            assert amplitude(middle, hertz) == pytest.approx(wanted, abs=0.03)


def test_stretches_of_many_rates_are_bounded(tmp_path, monkeypatch):
    """What is read at a high rate may be more than it is in the file."""
    monkeypatch.setattr("lightavseg_core.data.decoding.MAX_SAMPLES", 100_000)
    pieces = [(None, 8000, np.zeros((8000, 1), np.float32)), (None, 96_000, np.zeros((96, 1), np.float32))]
    monkeypatch.setattr("lightavseg_core.data.decoding.decode_audio", lambda *_: iter(2 * pieces))
    with pytest.raises(ValueError, match="a.mp3: holds more than 0 minutes of .*100,000 samples at 96000"):
        read_audio(tmp_path / "a.mp3")


def test_an_unusual_rate(tmp_path):
    sound = read(tmp_path, wav_bytes([tone(1000, 44_101)], 44_101))
    assert abs(len(sound) - RATE) <= 1 and amplitude(sound, 1000) == pytest.approx(0.5, rel=0.01)


def test_flac_and_another_rate_asked_for(tmp_path):
    path = tmp_path / "sound.flac"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=44_100, layout="stereo")
        left = np.round(tone(1000, 44_100) * 32767).astype(np.int16)
        both = np.stack([left, 0 * left], 1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(both, format="s16", layout="stereo")
        frame.sample_rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    sound = read_audio(path, 32_000)
    assert abs(len(sound) - 32_000) <= 1 and amplitude(sound[::2], 1000) == pytest.approx(0.25, rel=0.01)


@pytest.mark.parametrize(
    "name,codec", [("a.ogg", "libopus"), ("a.mp3", "libmp3lame"), ("a.m4a", "aac"), ("a.ts", "aac")]
)
def test_other_containers(tmp_path, name, codec):
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        samples = tone(1000, 48_000)[None].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    sound = read_audio(tmp_path / name)
    assert abs(len(sound) - RATE) < 1200
    assert amplitude(sound[4000:12_000], 1000) == pytest.approx(0.5, rel=0.1)


def test_text_in_another_encoding_does_no_harm(tmp_path):
    info = b"INFOINAM" + struct.pack("<I", 4) + "Höré".encode("latin-1")
    chunk = b"LIST" + struct.pack("<I", len(info)) + info
    assert len(read(tmp_path, wav_bytes([tone(1000, RATE)], RATE, chunk=chunk))) == RATE


def test_a_file_cut_in_its_samples_gives_those_that_are_there(tmp_path):
    assert len(read(tmp_path, wav_bytes([tone(1000, RATE)], RATE)[: 44 + 2 * 5000])) == 5000


WHOLE = wav_bytes([tone(1000, RATE)], RATE)
BROKEN = {
    "zero bytes": (b"", "cannot be decoded"),
    "text": (b"This is no sound.\n" * 40, "cannot be decoded"),
    "header cut": (WHOLE[:30], "cannot be decoded"),
    "header alone": (WHOLE[:44], "no sound samples"),
    "no samples": (wav_bytes([[]], RATE), "no sound samples"),
    "unknown codec": (wav_bytes([tone(1000, RATE)], RATE, codec=0xFFF1), "does not know the codec"),
    "not a number": (wav_bytes([[0.0, np.nan, 0.5]], RATE, "float"), "not finite"),
    "one sample per second": (wav_bytes([tone(1000, RATE)], 1), "a sample rate of 1 Hz"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_in_one_line(tmp_path, case):
    content, words = BROKEN[case]
    with pytest.raises(ValueError, match=words) as caught:
        read(tmp_path, content, "broken.wav")
    assert "broken.wav" in str(caught.value) and "\n" not in str(caught.value)


def flac(path, seconds, rate):
    """Silence: 700 KB an hour."""
    minute = np.zeros((1, 60 * rate), np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=rate, layout="mono")
        for start in range(0, seconds * rate, 60 * rate):
            frame = av.AudioFrame.from_ndarray(minute, format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.slow
def test_a_small_file_of_hours_is_refused(tmp_path, monkeypatch):
    """An hour where ten minutes are read: no more than those are ever in memory, which would be 115 MB."""
    monkeypatch.setattr("lightavseg_core.data.decoding.MAX_SAMPLES", 600 * 8000)
    assert len(read_audio(flac(tmp_path / "minutes.flac", 600, 8000), 8000)) == 600 * 8000
    path = flac(tmp_path / "hour.flac", 3600, 8000)
    tracemalloc.start()
    words = "hour.flac: holds more than 10 minutes of sound .4,800,000 samples at 8000 Hz.*Cut it"
    with pytest.raises(ValueError, match=words):
        read_audio(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size < 1_000_000 and peak < 25_000_000


def test_a_video_without_sound(tmp_path):
    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5, width=32, height=32, pix_fmt="yuv420p")
        black = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(black))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="mute.mp4: has no sound track"):
        read_audio(tmp_path / "mute.mp4")


def test_a_missing_file(tmp_path):
    for path in (tmp_path / "none.wav", tmp_path):
        with pytest.raises(FileNotFoundError, match="no such sound file"):
            read_audio(path)
