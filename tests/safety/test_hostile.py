"""Files that mean harm: nothing in one is ever run, none fills the memory, and each is refused in one line, by the functions and by the commands."""

import argparse
import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.child import Child

import lightavseg_core as lav
from lightavseg_core import encoders
from lightavseg_core.audio_pretraining import load_audio
from lightavseg_core.cli import main
from lightavseg_core.deploy import runtimes
from lightavseg_core.encoders.checkpoints import read_tensors
from lightavseg_core.profiling.profiler import resolve
from lightavseg_core.video.segmenter import load

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).parents[2]
META = {"method": "lightavseg", "precision": "fp32", "size": [32, 32], "seconds": 1, "log_mel": [96, 64], "front_end": "mobilenetv2_050",
        "num_classes": 1, "source": "here", "made": {}}
CONFIG = json.loads((ROOT / "checkpoints/tiny/config.json").read_text())


# --- code ---

class Mkdir:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


class Shell(Mkdir):
    def __reduce__(self):
        return subprocess.check_call, (["mkdir", self.marker],)


class Network(torch.nn.Linear):
    """A whole module as `torch.save(model)` writes it, which carries something."""


def module(marker):
    network = Network(2, 2)
    network.hook = Mkdir(marker)
    return network


def old_tar(path, marker):
    """What PyTorch wrote before version 0.1.10."""
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            content = pickle.dumps(Mkdir(marker), 2)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def saved(wrap, **options):
    return lambda path, marker: torch.save(wrap(marker), path, **options)


OLD = {"_use_new_zipfile_serialization": False}
PAYLOADS = {                                                        # what writes a file that makes the folder `marker` where it is unpickled
    **{f"pickle {protocol}": lambda path, marker, protocol=protocol: path.write_bytes(pickle.dumps(Mkdir(marker), protocol))
       for protocol in range(6)},
    "shell": lambda path, marker: path.write_bytes(pickle.dumps(Shell(marker), 2)),
    "zip": saved(Mkdir), "old format": saved(Mkdir, **OLD), "zip, protocol 5": saved(Mkdir, pickle_protocol=5), "tar": old_tar,
    "in a state dict": saved(lambda marker: {"state_dict": {"w": torch.ones(2), "x": Mkdir(marker)}}),
    "in an old state dict": saved(lambda marker: {"w": torch.ones(2), "x": [Shell(marker)]}, **OLD),
    "in a command line": saved(lambda marker: {"model": {"w": torch.ones(2)}, "args": argparse.Namespace(lr=1, x=Mkdir(marker))}),
    "a key": saved(lambda marker: {"w": torch.ones(2), (1, Mkdir(marker)): 1}),
    "module": saved(module), "old module": saved(module, **OLD),
}
READERS = {                                                         # all that opens weights
    "read_tensors": read_tensors,
    **{f"{name}.load_published": lambda path, name=name: visual(name).load_published(path) for name in ("seaformer_t", "resnet50")},
    **{f"{name}.load_published": lambda path, name=name: audio(name).load_published(path) for name in ("vggish", "panns_mobilenetv2")},
    **{f"{name}.load_published": lambda path, name=name: model(name).load_published(path) for name in ("avsbench", "avsegformer", "selm")},
    "load_audio": lambda path: load_audio(audio("mobilenetv2_050"), path), "load_audio of VGGish": lambda path: load_audio(audio("vggish"), path),
}


@cache
def visual(name):
    with torch.device("meta"):
        return encoders.create_visual_encoder(name)


@cache
def audio(name):
    with torch.device("meta"):
        return encoders.create_audio_encoder(name)


@cache
def model(name):
    with torch.device("meta"):
        return lav.create_model(name, visual="resnet50", audio="vggish")


def refused(call, path, *words):
    """What is said."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        call(path)
    said = str(caught.value)
    assert said.isprintable() and len(said) < 600 and all(word in said for word in (Path(path).name, *words)), said
    return said


@pytest.fixture(scope="module")
def payloads(tmp_path_factory):
    """Files with code in them, and the folder that would tell."""
    folder = tmp_path_factory.mktemp("payloads")
    for name, write in PAYLOADS.items():
        write(folder / f"{name}.pth", folder / "marker")
    return folder


@pytest.mark.parametrize("name", PAYLOADS)
def test_the_payloads_are_real(payloads, name):
    """Unpickled as Python or an older PyTorch would, each runs."""
    path, marker = payloads / f"{name}.pth", payloads / "marker"
    try:
        pickle.loads(path.read_bytes()) if name == "shell" or name.startswith("pickle") else torch.load(path, weights_only=False)
    except Exception:
        pass                                                        # what it gives is no checkpoint
    assert marker.is_dir()
    marker.rmdir()


@pytest.mark.parametrize("reader", READERS)
def test_code_in_weights_is_not_run(payloads, reader):
    for name in PAYLOADS:
        with warnings.catch_warnings(action="error"):
            said = refused(READERS[reader], payloads / f"{name}.pth", "Nothing in it was run")
            assert not any(word in said for word in ("weights_only` set", "trusted source", "safe_globals", "still be loaded")), said
    assert not (payloads / "marker").exists()


def test_programs_of_torchscript_are_not_run(tmp_path):
    class Adder(torch.nn.Module):
        def forward(self, x):
            return x + 1

    torch.jit.script(Adder()).save(tmp_path / "script.pth")
    refused(read_tensors, tmp_path / "script.pth", "compressed")
    with zipfile.ZipFile(tmp_path / "script.pth") as archive, zipfile.ZipFile(tmp_path / "stored.pth", "w") as stored:
        for entry in archive.infolist():
            stored.writestr(entry.filename, archive.read(entry))
    assert torch.jit.load(tmp_path / "stored.pth")(torch.ones(())) == 2
    refused(read_tensors, tmp_path / "stored.pth", "TorchScript")


NAMES = ("pytorch_model.bin", "model.pt", "model.pkl", "model.safetensors")


def test_no_pickle_is_a_models_weights(payloads, tmp_path):
    """A folder with other files than model.safetensors has none, and a pickle of that name is none."""
    for name in NAMES:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(CONFIG))
        (folder / name).write_bytes((payloads / "pickle 2.pth").read_bytes())
        for call in (lav.load_model, load, resolve):
            said = refused(lambda folder, call=call: call(str(folder)), folder, "model.safetensors")
            assert ("not a checkpoint" if name == "model.safetensors" else "without weights") in said
        refused(lambda folder: load_audio(audio("mobilenetv2_050"), folder), folder, "model.safetensors")
        for call in (lav.load_model, load, lambda path: resolve(str(path))):
            refused(call, folder / name)
    assert not (payloads / "marker").exists()


def commands(path, folder, data):
    """Every command that opens weights, with a file and with a folder that holds it under all names."""
    train = ("train", "--data", data, "--subset", "ms3", "--preset", "tiny", "--epochs", 1, "--out", folder / "out")
    yield from ((*train, "--visual-weights", path), (*train, "--audio-weights", path), (*train, "--audio-weights", folder))
    for checkpoint in (path, folder):
        yield from (("predict", checkpoint, data / "clip.mp4", "--out", folder / "out"), ("evaluate", checkpoint, "--data", data),
                    ("profile", checkpoint, "--preset", "tiny", "--size", 64), ("export", checkpoint, "--runtime", "onnx", "--data", data))


@pytest.mark.parametrize("name", ["in an old state dict", *(pytest.param(name, marks=pytest.mark.long) for name in ("zip", "pickle 4", "module"))])
@pytest.mark.slow
def test_no_command_runs_code(payloads, shapes, tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for other in NAMES:
        (tmp_path / other).write_bytes((payloads / f"{name}.pth").read_bytes())
    with Child() as child:
        for command in commands(payloads / f"{name}.pth", tmp_path, shapes):
            outcome = child.run(*command)
            lines = outcome.err.splitlines()
            assert outcome.code == 2 and not outcome.out and len(lines) == 1 and lines[0].startswith("lightavseg: "), (command, outcome)
            assert lines[0].isprintable() and not (payloads / "marker").exists() and not (tmp_path / "out" / "best").exists(), outcome


# --- names ---

def test_a_files_name_is_one_line_without_codes(tmp_path, capsys):
    """What would clear the screen, or look like another message, is told as Python writes it."""
    path = tmp_path / "a\nlightavseg: all is well\x1b[2J.mp4"
    path.write_bytes(b"no film")
    for command in (("predict", ROOT / "checkpoints/tiny", path, "--out", tmp_path / "out"), ("evaluate", path, "--data", tmp_path)):
        with pytest.raises(SystemExit) as exit:
            main.main([*map(str, command)])
        said, = capsys.readouterr().err.splitlines()
        assert exit.value.code and said.isprintable() and said.startswith("lightavseg: ") and r"a\nlightavseg: all is well\x1b[2J.mp4" in said


# --- what is no plain tensor ---

class Hijacked:
    """A dictionary whose pickled attributes take the place of its methods."""

    def __reduce__(self):
        return OrderedDict, ([["w", torch.ones(2)]],), {"items": 3, "get": "x", "keys": None}


ODD = {
    "sparse": lambda: {"w": torch.eye(3).to_sparse()},
    "compressed": lambda: {"w": torch.eye(3).to_sparse_csr()}, "meta": lambda: {"w": torch.ones(2, device="meta")},
    "complex": lambda: {"w": torch.ones(2, dtype=torch.complex64)},
    "quantized": lambda: {"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)},
    "nested": lambda: {"w": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])}, "escape codes": lambda: {"\x1b[2J\n": torch.ones(2)},
    "a long name": lambda: {"w" * 9999: torch.ones(2)}, "hijacked": Hijacked,
    "no names": lambda: {1: torch.ones(2), (2, "\n"): 3}, "a number": lambda: 3,
    "keys with line breaks": lambda: {"a\nb": 1},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_tensors(tmp_path, name):
    path = tmp_path / "odd.pth"
    torch.save(ODD[name](), path)
    refused(visual("seaformer_t").load_published, path)
    refused(read_tensors, path, "not a checkpoint of plain tensors")


# --- more than the memory holds ---

LARGE = 120_000_000                                                 # bytes that a bomb would take


def deflated(path, size):
    """A checkpoint of `size` bytes of zeros, in a thousandth of that."""
    torch.save({"w": torch.zeros(size // 4)}, path.with_suffix(".whole"))
    with zipfile.ZipFile(path.with_suffix(".whole")) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for entry in archive.infolist():
            packed.writestr(entry.filename, archive.read(entry))
    path.with_suffix(".whole").unlink()


def two_lists(path, size):
    """The same, before a second list of its entries, which calls them small: Python reads that one, PyTorch the first."""
    deflated(path, size)
    content = path.read_bytes()
    end = content.rindex(b"PK\5\6")
    length, start = struct.unpack("<LL", content[end + 12:end + 20])
    harmless, place = bytearray(content[start:start + length]), 0
    while place < length:
        name, extra, comment = struct.unpack("<HHH", harmless[place + 28:place + 34])
        harmless[place + 10:place + 12], harmless[place + 24:place + 28] = b"\0\0", harmless[place + 20:place + 24]
        place += 46 + name + extra + comment
    path.write_bytes(content[:end] + harmless + content[end:])
    with zipfile.ZipFile(path) as archive:
        assert not any(entry.compress_type for entry in archive.infolist())


def hexed(path, size):
    """A pickle of some bytes that are written as hexadecimal digits, those again, and so on."""
    times = size.bit_length()
    text = lambda text: b"X" + struct.pack("<I", len(text)) + text                                      # noqa: E731
    pickled = b"\x80\x02}" + text(b"w") + b"c_codecs\nencode\n" * (times + 1) + text(b"x") + text(b"latin1") + b"\x86R"
    pickled += (text(b"hex") + b"\x86R") * times + b"s."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/version", "3")
        archive.writestr("a/byteorder", "little")


ARCHIVES = {"deflated": deflated, "two lists": two_lists, "hexed": hexed}


@pytest.mark.parametrize("name", ARCHIVES)
def test_the_bombs_are_real(tmp_path, name):
    """A small one of each kind is loaded by PyTorch, as weights only, and is larger than its file."""
    path = tmp_path / "bomb.pth"
    ARCHIVES[name](path, 1 << 20)
    found = torch.load(path, weights_only=True)["w"]
    assert path.stat().st_size < 1 << 14 and (found.nbytes if isinstance(found, torch.Tensor) else len(found)) >= 1 << 20


def overlapping(path, size):
    """Many entries that are all the same bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"w": 1}, 2))
        archive.writestr("a/data/0", bytes(size // 1000))
        whole = archive.filelist[-1]
        for k in range(1000):
            entry = zipfile.ZipInfo(f"a/data/{k}")
            entry.header_offset, entry.file_size, entry.compress_size, entry.CRC = whole.header_offset, *[whole.file_size] * 2, whole.CRC
            archive.filelist.append(entry)


def named(*names):
    def write(path, size):
        torch.save({"w": torch.ones(2)}, path)
        with zipfile.ZipFile(path, "a") as archive:
            for name in names:
                archive.writestr(name, "x")
    return write


def claims(path, size):
    """In PyTorch's older format, a storage of 2^40 numbers."""
    torch.save({"w": torch.ones(3)}, path, **OLD)
    content = path.read_bytes()
    assert content.count(b"K\x03N") == 1
    path.write_bytes(content.replace(b"K\x03N", b"\x8a\x06\0\0\0\0\0\x01N"))


def safetensors(header, length=None, body=bytes(8)):
    def write(path, size):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return write


def tensor(*shape, at=(0, 8), dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": at}


BOMBS = {
    **{f"{name}.pth": write for name, write in ARCHIVES.items()}, "overlapping.pth": overlapping, "claims.pth": claims,
    "absolute.pth": named("/tmp/x"), "upwards.pth": named("a/../../x"),
    "header.safetensors": safetensors({"w": tensor(2)}, length=2 ** 63), "long header.safetensors": safetensors({"w": tensor(2)}, length=99_000_000),
    "overlap.safetensors": safetensors({"v": tensor(2), "w": tensor(2)}), "beyond.safetensors": safetensors({"w": tensor(2 ** 38, at=(0, 2 ** 40))}),
    "overflow.safetensors": safetensors({"w": tensor(2 ** 33, 2 ** 33)}), "backwards.safetensors": safetensors({"w": tensor(2, at=(8, 0))}),
    "hole.safetensors": safetensors({"w": tensor(1, at=(4, 8))}), "deep.safetensors": safetensors(b"[" * 100_000),
    "names.safetensors": safetensors({"\x1b[2J\n": tensor(2)}), "long name.safetensors": safetensors({"x" * 10_000: tensor(2)}),
    "list.safetensors": safetensors([1]), "empty.safetensors": safetensors(b"", body=b""),
}


def sparse_file(path):
    with path.open("wb") as file:
        file.write(b"{")
        file.truncate(1 << 30)


CONFIGS = {
    "1 GB": sparse_file, "deep": lambda path: path.write_text("[" * 2000), "deeper": lambda path: path.write_text('{"method":' * 100_000),
    "long": lambda path: path.write_text(json.dumps({"method": "x" * 100_000})),
    "digits": lambda path: path.write_text('{"width": ' + "9" * 4000 + "}"),
    "text": lambda path: path.write_text(json.dumps({**CONFIG, "width": "\x1b[2J\n" * 400})), "bytes": lambda path: path.write_bytes(b"\xff" * 99),
    **{f"{name} {value}".replace("/", ""): lambda path, name=name, value=value: path.write_text(json.dumps({**CONFIG, name: value}))
       for name, value in (("width", 4096), ("width", 10 ** 9), ("size", 10 ** 9), ("num_classes", -1), ("width", 1e9), ("method", "selm"),
                           ("method", {}), ("visual", "../../x"), ("visual", "vggish"), ("separable", 2), ("num_classes", True))},
    "layers": lambda path: path.write_text(json.dumps({"method": "avsegformer", "visual": "seaformer_t", "layers": 4096, "width": 64})),
}
LAUGHS = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghij", "bcdefghijk"))      # ten billion letters


def trees(folder):
    """OpenVINO's XML: a model that works, and others like it."""
    import openvino as ov
    from openvino import opset15 as op
    frames, log_mel = (op.parameter([1, 1, *shape], np.float32) for shape in ((3, 32, 32), (1, 96, 64)))
    model = ov.Model([op.add(frames, op.constant(np.ones((32, 32), np.float32))), log_mel], [frames, log_mel])
    model.set_rt_info(json.dumps({**META, "runtime": "openvino"}), runtimes.KEY)
    ov.save_model(model, folder / "whole.xml", compress_to_fp16=False)
    whole, weights = (folder / "whole.xml").read_text(), (folder / "whole.bin").read_bytes()
    assert whole.count('size="4096"') == 1 and whole.count('offset="0"') == 1 and whole.count("here") == 1
    changed = {
        "laughs": whole.replace("<net", f'<!DOCTYPE net [<!ENTITY a "ha">{LAUGHS}]><net').replace("here", "&k;"),
        "reaching": whole.replace("<net", '<!DOCTYPE net [<!ENTITY k SYSTEM "file:///etc/passwd">]><net').replace("here", "&k;"),
        "deep": '<?xml version="1.0"?>' + "<net>" * 50_000,
        "nested": whole.replace("{", "[" * 10_000, 1),
        **{f"{word} {value}": whole.replace(f'{word}="{old}"', f'{word}="{value}"') for word, old in (("size", 4096), ("offset", 0))
           for value in (2 ** 40, 2 ** 63, 2 ** 64 - 1, 2 ** 64 - 4096, -1)},
        **{f"shape {value}": whole.replace('shape="32,32"', f'shape="{value},{value}"').replace("<dim>32", f"<dim>{value}")
           for value in (-9,)},
    }
    (folder / "whole.xml").unlink()
    for name, text in changed.items():
        (folder / f"{name}.xml").write_text(text)
        (folder / f"{name}.bin").write_bytes(weights)
    return len(changed)


@pytest.fixture(scope="module")
def bombs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bombs")
    for name, write in BOMBS.items():
        write(folder / name, LARGE)
    for name, write in CONFIGS.items():
        (folder / name).mkdir()
        (folder / name / "model.safetensors").write_bytes((ROOT / "checkpoints/tiny/model.safetensors").read_bytes())
        write(folder / name / "config.json")
    trees(folder)
    np.savez_compressed(folder / "maps.npz", logits=np.zeros((1, LARGE), np.int8))
    return folder


@pytest.mark.slow
def test_no_file_fills_the_memory(bombs):
    """All of them, one after the other, in a process that is told how much it may take; each is refused in one line."""
    script = """if True:
        import pathlib, resource, sys
        import openvino, torch, lightavseg_core as lav
        from lightavseg_core import decoding, runtimes
        from lightavseg_core.encoders.checkpoints import read_tensors
        peak = lambda: 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        lav.load_model("checkpoints/tiny")
        before = peak()
        for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
            if path.suffix != ".bin":
                try:
                    readers = {".npz": decoding.load_maps, ".xml": runtimes.load}
                    found = (lav.load_model if path.is_dir() else readers.get(path.suffix, read_tensors))(path)
                    print(path, "LOADED", found.metadata.source if path.suffix == ".xml" else "")
                except (ValueError, FileNotFoundError) as error:
                    print(error)
                except Exception as error:
                    print(path, repr(error)[:200], flush=True)
        print(peak() - before)"""
    done = subprocess.run([sys.executable, "-c", script, bombs], capture_output=True, text=True, timeout=120, cwd=ROOT,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30)))
    *lines, taken = done.stdout.splitlines()
    assert done.returncode == 0 and not done.stderr, done
    assert len(lines) == len([path for path in bombs.iterdir() if path.suffix != ".bin"])
    for line in lines:
        assert line.startswith(str(bombs)) and line.isprintable() and len(line) < 5000 and "Error(" not in line, line
        if "LOADED" in line:                                        # entities stay as they are written
            assert line in (f"{bombs / name}.xml LOADED &k;" for name in ("laughs", "reaching")), line
    assert int(taken) < LARGE / 2, taken
