"""Files that promise or unpack to more than the memory holds: weights, models' folders, exported files, maps.
None fills it, and each is refused in one line."""

import json
import pickle
import resource
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from helpers.hostile import CONFIG, OLD, ROOT

from lightavseg_core.deploy import runtimes

pytestmark = pytest.mark.filterwarnings("ignore")
LARGE = 120_000_000  # bytes that a bomb would take
META = {
    "runtime": "openvino",
    "method": "lightavseg",
    "precision": "fp32",
    "size": [32, 32],
    "seconds": 1,
    "log_mel": [96, 64],
    "front_end": "mobilenetv2_050",
    "num_classes": 1,
    "source": "here",
    "made": {},
}


def deflated(path, size):
    """A checkpoint of `size` bytes of zeros, in a thousandth of that."""
    whole = path.with_suffix(".whole")
    torch.save({"w": torch.zeros(size // 4)}, whole)
    options = {"compression": zipfile.ZIP_DEFLATED, "compresslevel": 1}
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(path, "w", **options) as packed:
        for entry in archive.infolist():
            packed.writestr(entry.filename, archive.read(entry))
    whole.unlink()


def two_lists(path, size):
    """The same, before a second list of its entries, which calls them small: Python reads that one, PyTorch
    the first."""
    deflated(path, size)
    content = path.read_bytes()
    end = content.rindex(b"PK\5\6")
    length, start = struct.unpack("<LL", content[end + 12 : end + 20])
    harmless, place = bytearray(content[start : start + length]), 0
    while place < length:
        name, extra, comment = struct.unpack("<HHH", harmless[place + 28 : place + 34])
        harmless[place + 10 : place + 12] = b"\0\0"
        harmless[place + 24 : place + 28] = harmless[place + 20 : place + 24]
        place += 46 + name + extra + comment
    path.write_bytes(content[:end] + harmless + content[end:])
    with zipfile.ZipFile(path) as archive:
        assert not any(entry.compress_type for entry in archive.infolist())


def hexed(path, size):
    """A pickle of some bytes that are written as hexadecimal digits, those again, and so on."""

    def text(letters):
        return b"X" + struct.pack("<I", len(letters)) + letters

    times = size.bit_length()
    encode = b"c_codecs\nencode\n" * (times + 1)
    pickled = b"\x80\x02}" + text(b"w") + encode + text(b"x") + text(b"latin1") + b"\x86R"
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
    assert path.stat().st_size < 1 << 14
    assert (found.nbytes if isinstance(found, torch.Tensor) else len(found)) >= 1 << 20


def overlapping(path, size):
    """Many entries that are all the same bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"w": 1}, 2))
        archive.writestr("a/data/0", bytes(size // 1000))
        whole = archive.filelist[-1]
        for k in range(1000):
            entry = zipfile.ZipInfo(f"a/data/{k}")
            entry.header_offset, entry.CRC = whole.header_offset, whole.CRC
            entry.file_size = entry.compress_size = whole.file_size
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
    **{f"{name}.pth": write for name, write in ARCHIVES.items()},
    "overlapping.pth": overlapping,
    "claims.pth": claims,
    "absolute.pth": named("/tmp/x"),
    "upwards.pth": named("a/../../x"),
    "header.safetensors": safetensors({"w": tensor(2)}, length=2**63),
    "long header.safetensors": safetensors({"w": tensor(2)}, length=99_000_000),
    "overlap.safetensors": safetensors({"v": tensor(2), "w": tensor(2)}),
    "beyond.safetensors": safetensors({"w": tensor(2**38, at=(0, 2**40))}),
    "overflow.safetensors": safetensors({"w": tensor(2**33, 2**33)}),
    "backwards.safetensors": safetensors({"w": tensor(2, at=(8, 0))}),
    "hole.safetensors": safetensors({"w": tensor(1, at=(4, 8))}),
    "deep.safetensors": safetensors(b"[" * 100_000),
    "names.safetensors": safetensors({"\x1b[2J\n": tensor(2)}),
    "long name.safetensors": safetensors({"x" * 10_000: tensor(2)}),
    "list.safetensors": safetensors([1]),
    "empty.safetensors": safetensors(b"", body=b""),
}


def sparse_file(path):
    with path.open("wb") as file:
        file.write(b"{")
        file.truncate(1 << 30)


def changed(**fields):
    return json.dumps({**CONFIG, **fields})


CONFIGS = {  # config.json of a model's folder: its text, or what writes it
    "1 GB": sparse_file,
    "bytes": lambda path: path.write_bytes(b"\xff" * 99),
    "deep": "[" * 2000,
    "deeper": '{"method":' * 100_000,
    "long": json.dumps({"method": "x" * 100_000}),
    "digits": '{"width": ' + "9" * 4000 + "}",
    "text": changed(width="\x1b[2J\n" * 400),
    "width 4096": changed(width=4096),
    "width 10^9": changed(width=10**9),
    "width 1e9": changed(width=1e9),
    "size 10^9": changed(size=10**9),
    "num_classes -1": changed(num_classes=-1),
    "num_classes True": changed(num_classes=True),
    "method selm": changed(method="selm"),
    "method {}": changed(method={}),
    "visual upwards": changed(visual="../../x"),
    "visual vggish": changed(visual="vggish"),
    "separable 2": changed(separable=2),
    "layers": json.dumps({"method": "avsegformer", "visual": "seaformer_t", "layers": 4096, "width": 64}),
}


def model_folder(folder, config):
    folder.mkdir()
    weights = (ROOT / "checkpoints/tiny/model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights)
    if callable(config):
        config(folder / "config.json")
    else:
        (folder / "config.json").write_text(config)


TEN_TIMES = [f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghij", "bcdefghijk")]
LAUGHS = f'<!DOCTYPE net [<!ENTITY a "ha">{"".join(TEN_TIMES)}]><net'  # &k; is ten billion letters
REACHING = '<!DOCTYPE net [<!ENTITY k SYSTEM "file:///etc/passwd">]><net'


def trees(folder):
    """OpenVINO's XML: others like that of a model that works."""
    import openvino as ov
    from openvino import opset15 as op

    frames, log_mel = (op.parameter([1, 1, *shape], np.float32) for shape in ((3, 32, 32), (1, 96, 64)))
    ones = op.constant(np.ones((32, 32), np.float32))
    model = ov.Model([op.add(frames, ones), log_mel], [frames, log_mel])
    model.set_rt_info(json.dumps(META), runtimes.KEY)
    ov.save_model(model, folder / "whole.xml", compress_to_fp16=False)
    whole, weights = (folder / "whole.xml").read_text(), (folder / "whole.bin").read_bytes()
    (folder / "whole.xml").unlink()
    for once in ('size="4096"', 'offset="0"', "here"):
        assert whole.count(once) == 1
    texts = {
        "laughs": whole.replace("<net", LAUGHS).replace("here", "&k;"),
        "reaching": whole.replace("<net", REACHING).replace("here", "&k;"),
        "deep": '<?xml version="1.0"?>' + "<net>" * 50_000,
        "nested": whole.replace("{", "[" * 10_000, 1),
        "shape -9": whole.replace('shape="32,32"', 'shape="-9,-9"').replace("<dim>32", "<dim>-9"),
    }
    for word, old in (("size", 4096), ("offset", 0)):
        for value in (2**40, 2**63, 2**64 - 1, 2**64 - 4096, -1):
            texts[f"{word} {value}"] = whole.replace(f'{word}="{old}"', f'{word}="{value}"')
    for name, text in texts.items():
        (folder / f"{name}.xml").write_text(text)
        (folder / f"{name}.bin").write_bytes(weights)


@pytest.fixture(scope="module")
def bombs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bombs")
    for name, write in BOMBS.items():
        write(folder / name, LARGE)
    for name, config in CONFIGS.items():
        model_folder(folder / name, config)
    trees(folder)
    np.savez_compressed(folder / "maps.npz", logits=np.zeros((1, LARGE), np.int8))
    return folder


READ_ALL = """if True:
    import pathlib, resource, sys
    import openvino, torch, lightavseg_core as lav
    from lightavseg_core.deploy import runtimes
    from lightavseg_core.encoders.checkpoints import read_tensors
    from lightavseg_core.inspection import scales

    def peak():
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    lav.load_model("checkpoints/tiny")
    before = peak()
    readers = {".npz": scales.load_maps, ".xml": runtimes.load}
    for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
        if path.suffix == ".bin":
            continue
        read = lav.load_model if path.is_dir() else readers.get(path.suffix, read_tensors)
        try:
            found = read(path)
            print(path, "LOADED", found.metadata.source if path.suffix == ".xml" else "")
        except (ValueError, FileNotFoundError) as error:
            print(error)
        except Exception as error:
            print(path, repr(error)[:200], flush=True)
    print(peak() - before)"""


@pytest.mark.slow
def test_no_file_fills_the_memory(bombs):
    """All of them, one after the other, in a process that is told how much it may take."""
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, bombs],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30)),
    )
    assert done.returncode == 0 and not done.stderr, done
    *lines, taken = done.stdout.splitlines()
    assert len(lines) == len([path for path in bombs.iterdir() if path.suffix != ".bin"])
    as_written = [f"{bombs / name}.xml LOADED &k;" for name in ("laughs", "reaching")]  # entities stay so
    for line in lines:
        assert line.startswith(str(bombs)) and line.isprintable() and len(line) < 5000, line
        assert "Error(" not in line and ("LOADED" not in line or line in as_written), line
    assert int(taken) < LARGE / 2, taken
