"""Small videos of every kind, made by PyAV, for tests."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

# What is common in files of these kinds; the first where nothing is said.
CODECS = {"": "libx264", ".webm": "libvpx", ".avi": "mpeg4"}
SOUNDS = {"": "aac", ".webm": "libopus", ".avi": "pcm_s16le", ".mkv": "pcm_s16le"}
PIXELS = {"": "yuv420p", "mjpeg": "yuvj420p", "ffv1": "bgr0"}
OPTIONS = {"": {}, "libx264": {"crf": "12", "preset": "ultrafast"}}


def colour(k: int) -> tuple[int, int, int]:
    """Picture k's: far from its neighbours', so that it is known again after lossy coding."""
    return (40 + 60 * (k % 4), 40 + 60 * (k // 4 % 4), 40 + 60 * (k // 16 % 4))


def number(picture: np.ndarray) -> int:
    """Which k a picture of `colour` is, from its middle."""
    height, width = picture.shape[:2]
    middle = picture[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3].reshape(-1, 3).mean(0)
    r, g, b = ((middle - 40) / 60).round().astype(int)
    return int(r + 4 * g + 16 * b)


def tone(hertz: float, rate: int, seconds: float, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def chirp(rate: int) -> np.ndarray:
    """A tenth of a second that is like itself at one moment only, 300 to 3000 Hz."""
    time = np.arange(rate // 10) / rate
    return 0.5 * np.sin(2 * np.pi * (300 * time + 13_500 * time**2)) * np.hanning(len(time)) ** 0.25


def chirping(seconds: float, *at: float, rate: int = 48_000, codec: str | None = None) -> dict:
    """What makes `film` sound: silence, with a chirp at each of these seconds."""
    sound = np.zeros((1, round(rate * seconds)))
    for second in at:
        start = round(rate * second)
        sound[0, start : start + rate // 10] = chirp(rate)
    return {"sound": sound, "rate": rate, "audio_codec": codec}


def chirp_at(samples, rate: int = 16_000, after: float = 0.0) -> float:
    """The second at which the loudest chirp begins in samples (n,), of those after a second."""
    samples, wanted = np.asarray(samples, float)[round(after * rate) :], chirp(rate)
    length = len(samples) + len(wanted)
    spectrum = np.fft.rfft(samples, length) * np.fft.rfft(wanted, length).conj()
    return after + int(np.abs(np.fft.irfft(spectrum, length)[: len(samples)]).argmax()) / rate


def sounding(seconds: float, rate: int = 16_000, codec: str | None = None, channels: int = 1) -> dict:
    """What makes `film` sound: a tone."""
    return {"sound": [tone(300, rate, seconds)] * channels, "rate": rate, "audio_codec": codec}


def flat(k: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), colour(k), np.uint8)


def film(
    path: Path,
    pictures,
    times=None,
    fps: int = 5,
    sound=None,
    rate: int = 44_100,
    late: float = 0.0,
    matrix: float | None = None,
    codec: str | None = None,
    audio_codec: str | None = None,
    pixels: str | None = None,
    aspect: Fraction | None = None,
    options: dict | None = None,
) -> Path:
    """pictures: (H, W, 3) uint8 each, or 4 with alpha, a generator will do; times: seconds, by default
    k / fps; sound (channels, samples), `late` seconds after the pictures; matrix: degrees in the display
    matrix; aspect: of a pixel; options: the codec's, beside OPTIONS."""
    codec = codec or CODECS.get(path.suffix, CODECS[""])
    audio_codec = audio_codec or SOUNDS.get(path.suffix, SOUNDS[""])
    with av.open(str(path), "w") as container:
        video = None
        for k, picture in enumerate(pictures):
            if video is None:
                height, width = picture.shape[:2]
                pixels = pixels or PIXELS.get(codec, PIXELS[""])
                size = {"width": width, "height": height, "pix_fmt": pixels}
                options = OPTIONS.get(codec, OPTIONS[""]) | (options or {})
                video = container.add_stream(codec, rate=fps, options=options, **size)
                video.codec_context.time_base = Fraction(1, 1000)
                if codec in ("libvpx", "mpeg4"):
                    video.codec_context.bit_rate = 2_000_000
                if aspect is not None:
                    video.codec_context.sample_aspect_ratio = aspect
                if matrix is not None:
                    video.set_display_rotation(matrix)
                if sound is not None:
                    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(sound)]
                    audio = container.add_stream(audio_codec, rate=rate, layout=layout)
            frame = av.VideoFrame.from_ndarray(picture, format="rgba" if picture.shape[2] == 4 else "rgb24")
            time = k / fps if times is None else times[k]
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            samples = np.asarray(sound, np.float32)
            for start in range(0, samples.shape[1], rate):  # a second at a time: PCM makes a packet of each
                second = np.ascontiguousarray(samples[:, start : start + rate].T).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(second, format="flt", layout=layout)
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = start + round(late * rate)
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def copied(source: Path, target: Path, change, **options) -> Path:
    """A film's packets in another file: change(kind, k, packet) gives the bytes of packet k of "video" or
    "audio", None to leave it out, or the packet itself, with other times maybe."""
    options = {name: str(value) for name, value in options.items()}
    with av.open(str(source)) as given, av.open(str(target), "w", options=options) as taken:
        streams = {stream.index: taken.add_stream_from_template(stream) for stream in given.streams}
        count = dict.fromkeys(streams, 0)
        for packet in given.demux():
            index = packet.stream.index
            if packet.dts is None:
                continue
            kept = change(packet.stream.type, count[index], packet)
            count[index] += 1
            if isinstance(kept, bytes):
                new = av.Packet(kept)
                new.pts, new.dts, new.duration = packet.pts, packet.dts, packet.duration
                new.time_base, new.is_keyframe = packet.time_base, True
                kept = new
            if kept is not None:
                kept.stream = streams[index]
                taken.mux(kept)
    return target


def garbled(source: Path, target: Path, **packets) -> Path:
    """A film in which the packets of these numbers are noise: video=[...], audio=[...]."""
    noise = np.random.default_rng(1)

    def change(kind, k, packet):
        return noise.bytes(packet.size) if k in packets.get(kind, ()) else packet

    return copied(source, target, change)
