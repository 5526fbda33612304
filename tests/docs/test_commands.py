"""Every command that README, CONTRIBUTING and the docs show does its work, word for word, each page from top
to bottom. (Those of docs/adding_a_method.md: test_docs.py.)"""

import hashlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from helpers.casts import exam_questions, photographs
from helpers.command import run
from helpers.films import film, flat, sounding
from helpers.trees import tone
from papermill.cli import papermill
from PIL import Image

from lightavseg_core import cli
from lightavseg_core._common import environment
from lightavseg_core._common.shipped import DISTRIBUTION
from lightavseg_core.encoders import checkpoints, create_audio_encoder, create_visual_encoder
from lightavseg_core.experiments import probe

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
METHOD = re.findall(r"```python\n(.+?)```", PAGES.pop("docs/adding_a_method.md"), re.DOTALL)[0]
# First words of blocks that are no commands: trees of files, and what a command prints.
LISTINGS = {"Single-source/", "Multi-sources/", "metadata.csv", "ms3", "masks/concert/"}
LAUNCHED = {"torchrun", "#!/bin/bash"}  # commands under a launcher, which tests/core starts
ELSEWHERE = {"pip", "py", "conda", "papermill"}  # programs of blocks that install: see below

# What a command is given beside what a page says, so that it takes seconds; of an option that is given twice
# the last one counts.
SHORT = {
    "data make": "--train 6 --val 3 --test 4 --size 64",
    "train": "--epochs 1 --audio-epochs 1 --size 32",
    "train --recipe": "--preset tiny --visual seaformer_t --audio mobilenetv2_050 --batch-size 2",
    "profile": "--preset tiny --size 32 --repeats 1",
    "export": "--clips 2 --size 32",
    "exam checkpoints/photos": "--scenes 1",
    "unseen checkpoints/photos": "--clips 2",
    "sweep": "methods --subset avss --method lightavseg --budget smoke --seeds 1",
}


def blocks(page: str) -> list[list[str]]:
    """The lines of every fenced block that is not Python."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)
    return [block.strip().splitlines() for language, block in found if language != "python"]


def commands(page: str, program: str) -> list[str]:
    """A page's lines that begin with a program's name."""
    return [line for block in blocks(page) for line in block if line.split()[:1] == [program]]


def shortened(command: str) -> list[str]:
    words = shlex.split(command)[1:]
    if {"make", "exam"} <= {*words}:  # is nine clips whatever is given
        return words
    for options, more in SHORT.items():
        if all(word in words for word in options.split()):
            words += more.split()
    return words


WITH_COMMANDS = [page for page in PAGES if commands(page, "lightavseg")]


def test_every_block_is_known():
    """A page that shows another program needs a test of it."""
    first = {block[0].split()[0] for page in PAGES for block in blocks(page)}
    assert first == LISTINGS | ELSEWHERE | {"lightavseg", "make"} | LAUNCHED
    assert set(WITH_COMMANDS) >= {"docs/commands.md", "docs/exporting.md", "docs/predicting.md"}


def test_what_is_launched_is_a_command():
    """The program's own words under each launcher are known; the batch job is bash."""
    found, (job,) = 0, [block for block in blocks("docs/scaling.md") if block[0] == "#!/bin/bash"]
    subprocess.run(["bash", "-n"], input="\n".join(job), text=True, check=True)
    whole = "\n".join(job)
    begins = re.search(r'what="(--data.+?)"', whole)[1]
    begins = begins.replace("$weights", re.search(r'weights="(.+?)"', whole)[1])
    lines = [line for block in blocks("docs/scaling.md") for line in block]
    for line in [*lines, f"-m lightavseg_core.cli train {begins}"]:
        words = shlex.split(line.partition("-m lightavseg_core.cli ")[2].replace("...", ""))
        if words and words != ["train"] and not {"--resume", "$what"} & set(words):
            assert cli._command(words)
            found += 1
    assert found == 4


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, shapes):
    """A folder with every file that a page takes for granted."""
    folder = tmp_path_factory.mktemp("inputs")
    for name in ("data", "path/to", "runs/first", "videos", "more_videos", "more", "clip/frames"):
        (folder / name).mkdir(parents=True)
    (folder / "data" / "shapes").symlink_to(shapes)
    (folder / "path" / "to" / "AVSBench").symlink_to(shapes)
    (folder / "runs" / "first" / "best").symlink_to(ROOT / "checkpoints" / "tiny")
    (folder / "notebooks" / "media").mkdir(parents=True)
    (folder / "my_method.py").write_text(METHOD)
    films = ("concert.mp4", "clip.mp4", "my_video.mov", "videos/a.mp4", "more_videos/b.mp4", "more/talk.webm")
    for name in (*films, "notebooks/media/sample.mp4"):
        film(folder / name, (flat(k) for k in range(10)), **sounding(2, 48_000))
    for k in range(2):
        Image.fromarray(flat(k)).save(folder / "clip" / "frames" / f"{k}.png")
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / "photo.jpg")
    tone(folder / "clip" / "audio.wav", 2)
    tone(folder / "street.wav", 2)
    torch.manual_seed(0)
    visual, audio = create_visual_encoder("seaformer_t"), create_audio_encoder("mobilenetv2_050")
    published = {visual.published_name(name): value for name, value in visual.state_dict().items()}
    torch.save(published, folder / "resnet50.pth")
    torch.save(audio.state_dict(), folder / "vggish.pth")
    return folder


@pytest.fixture
def folder(inputs, tmp_path, monkeypatch):
    """A copy of them as the working folder, and VGGish published there."""
    here = shutil.copytree(inputs, tmp_path / "here", symlinks=True)
    (tmp_path / "published").write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    published = checkpoints.PUBLISHED["vggish"]
    published = published._replace(url=(tmp_path / "published").as_uri(), sha256=sha256)
    monkeypatch.setitem(checkpoints.PUBLISHED, "vggish", published)
    monkeypatch.chdir(here)
    return here


def succeed(line: str, capsys) -> None:
    code, out, error = run(capsys, *shortened(line))
    assert code == 0, f"{line}\n{out[-2000:]}\n{error[-2000:]}"


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_a_page(page, folder, capsys, monkeypatch):
    """ExecuTorch takes minutes for a file, 8 bits half of one: here another export stands in for both.
    `compare` trains five methods, which test_docs.py has it do: here it is understood."""
    monkeypatch.setattr(environment, "OPTIONAL", {})
    monkeypatch.setattr(probe, "MIXTURES", 200)
    lines = commands(page, "lightavseg")
    if any("photos" in line for line in lines):
        photographs()
    if any("exam" in line.split() for line in lines):
        exam_questions()
    if any("data make data/shapes" in line for line in lines):
        (folder / "data" / "shapes").unlink()
    if any("--out runs/first" in line for line in lines):
        shutil.rmtree(folder / "runs" / "first")
    for line in lines:
        for word, other in {"executorch": "onnx", "int8": "fp32", ".pte": ".onnx"}.items():
            line = line.replace(word, other)
        if line.startswith("lightavseg compare"):
            assert cli._command(shortened(line))
        elif "CHECKPOINT" not in line:  # which says what the others are examples of
            succeed(line, capsys)


@pytest.mark.long
@pytest.mark.parametrize("page", [page for page in WITH_COMMANDS if "--runtime executorch" in PAGES[page]])
def test_what_executorch_does_on_a_page(page, folder, capsys):
    for line in commands(page, "lightavseg"):
        if "executorch" in line or ".pte" in line:
            succeed(line, capsys)


# Where a page names a model and its inputs without making them.
GIVEN = """
import torch
frames, log_mel = torch.randn(1, 5, 3, 32, 32), torch.randn(1, 5, 1, 96, 64)
waveform, times = torch.randn(80_000), torch.arange(5)
import lightavseg_core as lav
data = lav.data.AVSBench("data/shapes", "ms3", "test", size=32)
model = lav.create_model("avesformer", preset="tiny").eval()  # has attention
model.head.bias.data.fill_(3)  # and marks something
"""


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in PAGES[page]])
def test_the_python_of_a_page(page, folder):
    names = {}
    exec(GIVEN, names)
    for block in re.findall(r"^```python\n(.+?)^```", PAGES[page], re.MULTILINE | re.DOTALL):
        for long, short in {"size=128": "size=32", "size=224": "size=32"}.items():
            block = block.replace(long, short)
        exec(compile(block, page, "exec"), names)


def test_what_make_is_asked_for():
    """Every target that a page names is there, and its recipe can be made out."""
    text = "\n".join(PAGES.values())
    named = {word for line in re.findall(r"`make ([a-z./ -]+)`", text) for word in line.split()}
    named |= {line.split()[1] for page in PAGES for line in commands(page, "make")}
    assert named >= {"demo", "test", "lab", "env", "check", "clean", "test-all", ".venv/.edge"}
    for target in sorted(named):
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, f"{target}: {done.stderr}"


def test_how_to_install():
    """What a test cannot run is of this form, or names what is there; CI runs `pip install .`."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pip = [line for page in PAGES for line in commands(page, "pip")]
    pip += re.findall(r"`(pip install [^`]+)`", "\n".join(PAGES.values()))
    extra = rf"pip install (-e '\.|'{DISTRIBUTION})\[({'|'.join(extras)})\]'"
    assert all(line == "pip install ." or re.fullmatch(extra, line) for line in pip), pip
    assert ".ci/install ." in (ROOT / ".github/workflows/ci.yml").read_text()
    (windows,) = [block for block in blocks("docs/installing.md") if block[0].startswith("py ")]
    (conda,) = [block for block in blocks("docs/installing.md") if block[0].startswith("conda ")]
    words = " ".join(windows + conda).replace("\\", "/").split()
    named = [word for word in words if word.endswith((".lock", ".yml", ".py"))]
    assert named == ["requirements.lock", "notebooks/build.py", "environment.yml"]
    assert all((ROOT / name).is_file() for name in named)
    assert f"\nname: {conda[1].split()[-1]}\n" in (ROOT / "environment.yml").read_text()


@pytest.mark.slow
def test_the_notebook_builder_takes_the_words_of_the_windows_page():
    (line,) = [line for line in PAGES["docs/installing.md"].splitlines() if "build.py" in line]
    words = line.replace("\\", "/").split()[1:]
    done = subprocess.run([sys.executable, *words, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--follow" in done.stdout


def test_papermill(folder):
    """As the page says, but that nothing is executed."""
    (line,) = commands("docs/installing.md", "papermill")
    shutil.copy(ROOT / "notebooks" / "01_data.ipynb", folder / "notebooks")
    papermill([*line.split()[1:], "--prepare-only"], standalone_mode=False)
    cells = nbformat.read(folder / "out.ipynb", as_version=4).cells
    assert [cell.source for cell in cells if "injected-parameters" in cell.metadata.get("tags", [])] == [
        '# Parameters\nout = "/tmp/workbook"\n']


def test_commands_in_the_text_are_commands(capsys, monkeypatch):
    """Those in backticks: the name is known, and where more stands behind it, it is taken."""
    seen = []
    for cls in cli.COMMANDS:
        monkeypatch.setattr(cls, "run", lambda self: seen.append(self) or 0)
    text = "\n".join(PAGES.values())
    named = {" ".join(line.split()) for line in re.findall(r"`lightavseg ([^`]+)`", text)}
    for line in sorted(named):
        words = line.split()
        assert words[0] in {cls.__name__.lower() for cls in cli.COMMANDS}, line
        if len(words) > 1:
            assert run(capsys, *words)[0] == 0 and seen, line
