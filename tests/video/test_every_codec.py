"""`predict` on every container and every codec that PyAV's FFmpeg can write: all pictures, in their order and
colours, and a chirp at its time."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import codecs
from helpers.codecs import CHIRP_AT, SHAPES, CannotBeWritten, encoders, first_that_works
from helpers.ear import Ear, segmenter
from helpers.films import chirp_at

from lightavseg_core.video.inputs import sound_of
from lightavseg_core.video.prediction import predict
from lightavseg_core.video.reading import resampled

pytestmark = pytest.mark.long
RATE = 16_000
TICK = 16  # samples: a millisecond
# Of a kind of file, its codecs, and the shape of pictures that it wants.
FILMS = {
    "3g2": ("h263", "libopencore_amrnb", 1),
    "3gp": ("h263", "libopencore_amrnb", 1),
    "asf": ("msmpeg4", "wmav2", 0),
    "avi": ("mpeg4", "pcm_s16le", 0),
    "dv": ("dvvideo", "pcm_s16le", 2),
    "dvd": ("mpeg2video", "mp2", 0),
    "f4v": ("libx264", "aac", 0),
    "film_cpk": ("cinepak", "pcm_s16be_planar", 0),
    "flv": ("flv", "libmp3lame", 0),
    "gxf": ("mpeg2video", "pcm_s16le", 2),
    "ipod": ("libx264", "aac", 0),
    "ismv": ("libx264", "aac", 0),
    "matroska": ("libx264", "ac3", 0),
    "mov": ("libx264", "aac", 0),
    "mp4": ("libx264", "aac", 0),
    "mpeg": ("mpeg1video", "mp2", 1),
    "mpegts": ("mpeg2video", "mp2", 1),
    "mxf": ("mpeg2video", "pcm_s16le", 1),
    "nut": ("mpeg4", "libmp3lame", 0),
    "ogg": ("libvpx", "libopus", 0),
    "ogv": ("libvpx", "flac", 0),
    "psp": ("libx264", "aac", 0),
    "rm": ("rv10", "ac3", 0),
    "roq": ("roqvideo", "roq_dpcm", 4),
    "svcd": ("mpeg2video", "mp2", 0),
    "swf": ("flv", "libmp3lame", 0),
    "vcd": ("mpeg1video", "mp2", 1),
    "vob": ("mpeg2video", "mp2", 0),
    "webm": ("libvpx-vp9", "libopus", 0),
    "wtv": ("mpeg2video", "ac3", 1),
}
SILENT = {"apng": "apng", "gif": "gif", "ivf": "libvpx", "m4v": "mpeg4", "obu": "libsvtav1"}
SILENT |= {"h264": "libx264", "hevc": "libx265", "mpeg2video": "mpeg2video"}
SOUNDS = {
    "ac3": "ac3",
    "adts": "aac",
    "adx": "adpcm_adx",
    "aiff": "pcm_s16be",
    "alp": "adpcm_ima_alp",
    "amr": "libopencore_amrnb",
    "apm": "adpcm_ima_apm",
    "aptx": "aptx",
    "argo_asf": "adpcm_argo",
    "au": "pcm_s16be",
    "caf": "alac",
    "eac3": "eac3",
    "flac": "flac",
    "g723_1": "g723_1",
    "ircam": "pcm_s16le",
    "kvag": "adpcm_ima_ssi",
    "latm": "aac",
    "mmf": "adpcm_yamaha",
    "mp2": "mp2",
    "mp3": "libmp3lame",
    "oga": "flac",
    "opus": "libopus",
    "rso": "pcm_u8",
    "sox": "pcm_s32le",
    "tta": "tta",
    "voc": "pcm_s16le",
    "w64": "pcm_s16le",
    "wav": "pcm_s16le",
    "wsaud": "adpcm_ima_ws",
    "wv": "wavpack",
}
# By how many samples the chirp is late in files that do not state their codec's delay: of sound, or (early)
# of pictures, which in GXF and ISMV is one picture.
FILM_LATE = {"3g2": -20, "3gp": -20, "gxf": -640, "ismv": -2859, "rm": 85, "swf": 401}
SOUND_LATE = {"ac3": 85, "eac3": 85, "adts": 341, "latm": 341, "mp2": 160}
SOUND_LATE |= {"amr": 80, "aptx": 30, "g723_1": 120}
CODEC_LATE = {"rv10": 85, "rv20": 85, "g723_1": 120}
NO_SOUND_OF_IT = ("anull", "comfortnoise", "dfpwm")  # noise, or stamps that are all wrong in AVI
COARSE = {"cljr": 9, "flashsv2": 16, "msvideo1": 5, "rpza": 7}  # colours of few bits
COARSE |= {"dirac": 255, "vc2": 255}  # FFmpeg tags what it writes wrongly
# What a codec is written into; most go into the first of all.
FORMS = {"flv": "flv", "msmpeg4": "asf", "rv10": "rm", "rv20": "rm", "roqvideo": "roq", "apng": "apng"}
FORMS |= {"wmav1": "asf", "wmav2": "asf"}
ALL = ["matroska", "mov", "avi", "nut"]


def heard(pieces) -> int:
    """Samples by which the chirp is late."""
    return round((chirp_at(torch.cat(list(resampled(pieces, RATE)))) - CHIRP_AT) * RATE)


def measure(path, fps, colours, sounds):
    """How many pictures too many, the largest error of colour (of 255), and of time (samples)."""
    found = [one.picture for one in predict(segmenter(Ear(), (32, 32)), path, fps, until="pictures")]
    means = np.array([picture.reshape(-1, 3).mean(0) for picture in found])
    length = min(len(means), len(colours))
    colour = np.abs(means[:length] - colours[:length]).max()
    late = heard(sound_of(path, None)) if sounds else 0
    return SimpleNamespace(more=len(found) - len(colours), colour=round(float(colour), 1), late=late)


def unexpected(late, known):
    """What is not as late as it is known to be."""
    return {name: late[name] for name in late if abs(late[name] - known.get(name, 0)) > TICK}


def told(errors):
    """The largest, as `pytest -s` shows them."""
    for what in ("colour", "late"):
        name = max(errors, key=lambda name: abs(getattr(errors[name], what)))
        print(f"{len(errors)}: largest error of {what}: {getattr(errors[name], what)} ({name})")


def test_every_container(tmp_path):
    errors = {}
    films = FILMS | {form: (video, None, 0) for form, video in SILENT.items()}
    for form, (video, sound, shape) in films.items():
        shapes = [SHAPES[shape], SHAPES[1]]
        errors[form] = measure(*first_that_works(tmp_path, [form], video, [sound], shapes), sound)
    told(errors)
    allowed = {"gxf": -1}  # GXF has lost its last picture
    assert {form: error.more for form, error in errors.items() if error.more} == allowed
    assert {form: error.colour for form, error in errors.items() if error.colour > 3} == {}
    assert unexpected({form: error.late for form, error in errors.items()}, FILM_LATE) == {}


def test_every_file_of_sound(tmp_path):
    """Beside a picture, with --audio."""
    late = {}
    for form, sound in SOUNDS.items():
        path, _, _ = first_that_works(tmp_path, [form], None, [sound])
        late[form] = heard(sound_of(path, path))
    assert unexpected(late, SOUND_LATE) == {}


def test_every_codec_of_pictures(tmp_path):
    errors, left = {}, {}
    for codec in encoders("video"):
        forms = [FORMS[codec]] if codec in FORMS else ALL
        sounds = ["pcm_s16le", "ac3", "wmav2", "libmp3lame", "roq_dpcm", None]
        try:
            film = first_that_works(tmp_path, forms, codec, sounds)
        except CannotBeWritten as error:
            left[codec] = str(error)
            continue
        errors[codec] = measure(*film, codec != "apng")
    told(errors)
    print("not written:", *left)
    assert len(errors) > 70
    assert {codec: error.more for codec, error in errors.items() if error.more} == {}
    assert {codec: e.colour for codec, e in errors.items() if e.colour > COARSE.get(codec, 3)} == {}
    assert unexpected({codec: error.late for codec, error in errors.items()}, CODEC_LATE) == {}


def test_every_codec_of_sound(tmp_path):
    errors, left = {}, {}
    for codec in encoders("audio"):
        if codec in NO_SOUND_OF_IT:
            continue
        forms = [FORMS[codec]] if codec in FORMS else ALL
        video = "msmpeg4" if forms == ["asf"] else "mpeg4"
        try:
            film = first_that_works(tmp_path, forms, video, [codec], SHAPES[:1])
        except CannotBeWritten as error:
            left[codec] = str(error)
            continue
        errors[codec] = measure(*film, True)
    told(errors)
    print("not written:", *left)
    assert len(errors) > 50
    assert {codec: error.more for codec, error in errors.items() if error.more} == {}
    assert unexpected({codec: error.late for codec, error in errors.items()}, CODEC_LATE) == {}


def test_codecs_are_known():
    assert {"libx264", "ffv1", "mpeg4"} <= set(encoders("video")) and codecs.takes("mp4", "aac")
