"""Two hundred damaged files: every one ends in a result or in one line that names it, and leaves nothing half
done."""

import hashlib
import json
import subprocess
import sys

import pytest
from helpers.child import Child
from helpers.mutations import KINDS, OPERATORS, Case, make

LIMIT = 60  # seconds, for what takes less than one; machines are busy at times
QUICK = 30
CASES = [
    pytest.param(Case(seed), id=str(Case(seed)), marks=[pytest.mark.long] if seed >= QUICK else [])
    for seed in range(200)
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def child():
    with Child() as child:
        yield child


def contents(root):
    files = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root): hashlib.sha256(path.read_bytes()).digest() for path in files}


def complaint(outcome):
    """The one line in which a command fails; also checks what it prints when it does not."""
    assert outcome.code in (0, 1, 2), outcome
    lines = outcome.err.replace("\r", "\n").split("\n")
    said = [line for line in lines if line.strip() and not line.startswith("checking: ")]
    for line in said + outcome.out.split("\n"):
        assert line.isprintable() and len(line) < 1000 and "Error" not in line.split(" ")[0], outcome
    failed = [line for line in said if line.startswith("lightavseg: ")]
    assert len(failed) == (outcome.code != 0 and not outcome.out), outcome
    assert all("@ 0x" not in line for line in said), outcome  # FFmpeg's own
    return failed[0] if failed else None


def predicted(child, case, whole, folder):
    """`lightavseg predict` of a damaged film, or of a picture with a damaged sound; every fifth by the model
    that ships."""
    given = folder / case.kind.name
    given.write_bytes(case.damaged(whole))
    inputs = [whole / "picture.png", "--audio", given] if given.suffix == ".wav" else [given]
    model = "bright" if case.seed % 5 else "checkpoints/tiny"
    outcome = child.run("predict", model, *inputs, "--out", folder / "out", limit=LIMIT)
    said = complaint(outcome)
    made = list((folder / "out").glob("*"))
    if said:
        assert outcome.code == 1 and given.name in said and not made, (outcome, made)
        return outcome.code
    manifest = json.loads((made[0] / "manifest.json").read_text())
    masks = sorted(f"masks/{path.name}" for path in (made[0] / "masks").iterdir())
    assert manifest["complete"] and masks == [frame["mask"] for frame in manifest["frames"]] and masks
    assert sorted(path.name for path in made[0].iterdir()) == ["manifest.json", "masks", "overlay.mp4"]
    return outcome.code


def checked(child, case, whole):
    """`lightavseg data check` of a dataset with a damaged file, then the dataset itself; the file is put
    back."""
    path, before = case.file(whole), case.file(whole).read_bytes()
    try:
        path.write_bytes(case.damaged(whole))
        there = contents(whole)
        report = child.run("data", "check", whole / "data", "--subset", case.kind.subset, limit=LIMIT)
        complaint(report)
        loaded = child.run("load", whole / "data", case.kind.subset, limit=LIMIT)
        said = complaint(loaded)
        assert contents(whole) == there
        if said and case.kind.name != "table":  # what cannot be loaded was found, and is named alike
            assert path.name in said and report.code in (1, 2), (report, loaded)
            assert path.name in report.out + report.err, (report, loaded)
        if report.code == 0:
            assert loaded.code == 0 or "clips" in said, (report, loaded)
        return report.code
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_damage(child, whole, tmp_path, case):
    if case.kind.subset is None:
        predicted(child, case, whole, tmp_path)
    else:
        checked(child, case, whole)


@pytest.mark.slow
def test_the_cases_are_what_they_should_be(whole):
    """The first ones try every kind of file and every damage; the whole files are whole; a number always
    gives the same bytes."""
    quick = [Case(seed) for seed in range(QUICK)]
    assert {case.kind for case in quick} == set(KINDS) and {case.operator for case in quick} == set(OPERATORS)
    for case in map(Case, range(200)):
        damaged = case.damaged(whole)
        assert damaged == case.damaged(whole) and isinstance(damaged, bytes)
    same = sum(case.damaged(whole) == case.file(whole).read_bytes() for case in map(Case, range(200)))
    assert same < 4  # such as a zero where there was one


@pytest.mark.slow
def test_ffmpeg_would_have_spoken(whole, tmp_path):
    """What `complaint` looks for is what FFmpeg says of these films where nobody keeps it quiet."""
    script = """if True:
        import av, sys
        av.logging.set_level(av.logging.VERBOSE)
        av.logging.restore_default_callback()
        for path in sys.argv[1:]:
            try:
                list(av.open(path).decode(video=0))
            except av.FFmpegError:
                pass"""
    paths = [tmp_path / f"{seed}.mp4" for seed in range(0, 3 * len(KINDS), len(KINDS))]
    for path in paths:
        path.write_bytes(Case(int(path.stem)).damaged(whole))
    done = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True)
    assert done.stderr.count("@ 0x") > 2


@pytest.mark.slow
def test_a_hang_and_a_crash_are_seen():
    """The watchdog is awake."""
    program = """if True:
        import os, sys, time
        print(flush=True)
        for line in sys.stdin:
            if "hang" in line:
                time.sleep(60)
            os.abort()"""
    with Child("-c", program) as child:
        codes = [child.run(command, limit=2).code for command in ("hang", "crash", "hang", "crash")]
    assert codes == ["hung", "died with -6"] * 2
