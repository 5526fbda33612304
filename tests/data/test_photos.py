"""The photographs: fetched from whatever holds them, only what is known, and clips that are made of them."""

import hashlib
import json
import os
import shutil
import tarfile

import numpy as np
import pytest
from helpers.casts import call, cutout, photographs
from helpers.packages import deb

from lightavseg_core.cli import main
from lightavseg_core.data import AVSBench, fetching, photos
from lightavseg_core.data.casting import cast_named
from lightavseg_core.data.scenes import Recipe, draw_scene
from lightavseg_core.data.sounding_shapes import generate
from lightavseg_core.evaluation import deaf_oracle

NAMES = [f"thing{k}" for k in range(6)]


def fetch(where=None):
    return fetching.fetch(photos.collection(), where)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A Tux Paint of our own, a manifest that names it, and an empty cache."""
    root = tmp_path / "usr" / "share" / "tuxpaint"
    things = []
    for k, name in enumerate(NAMES):
        stem = f"animals/{name}"
        cutout(root / "stamps" / f"{stem}.png", k + 3)
        call(root / "stamps" / f"{stem}.ogg", 200 * 1.4**k)  # by its content a WAV: nobody asks the name
        picture, sound = (digest(root / "stamps" / (stem + ending)) for ending in (".png", ".ogg"))
        things.append({"category": name, "stem": stem, "credit": "us", "picture": picture, "sound": sound})
    (root / "stamps" / "animals" / "thing0_desc.ogg").write_bytes(b"a spoken name")
    (root / "templates").mkdir()
    rock = root / "templates" / "rock.jpg"
    rock.write_bytes(b"no picture, but what the manifest names")
    background = {"file": "rock.jpg", "sha256": digest(rock)}
    named = {"licence": "GPL-2.0-or-later", "packages": {"stamps-package": "1", "data-package": "1"}}
    cutout(root / "stamps" / "animals" / "ram.png", 9)
    ram = {"category": "ram", "stem": "animals/ram", "credit": "us"}
    ram["picture"] = digest(root / "stamps" / "animals" / "ram.png")
    named |= {"things": things, "ear twin": ram, "backgrounds": [background]}
    monkeypatch.setattr(photos, "manifest", lambda: named)
    monkeypatch.setattr(photos, "photos_folder", lambda: tmp_path / "cache" / "photos")
    monkeypatch.setattr(photos, "FEWEST", 5)
    return root


def kept(tmp_path):
    folder = tmp_path / "cache" / "photos"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


ALONE = ["backgrounds/rock.jpg", "stamps/animals/ram.png"]
WHOLE = sorted([*ALONE, *(f"stamps/animals/{n}{e}" for n in NAMES for e in (".ogg", ".png"))])


@pytest.mark.parametrize("of", ("folder", "stamps", "deb", "folder of debs"))
@pytest.mark.parametrize("tool", (True, False))
def test_from_what_there_is(installed, tmp_path, monkeypatch, of, tool):
    if not tool:
        monkeypatch.setattr(fetching.shutil, "which", lambda name: None)
    elif of.endswith(("deb", "debs")) and not shutil.which("dpkg-deb"):
        pytest.skip("there is no dpkg-deb here")
    debs = tmp_path / "debs"
    debs.mkdir()
    deb(debs / "stamps-package_1.deb", installed)
    (debs / "other.deb").write_bytes(b"a half download")
    where = {"folder": installed, "stamps": installed / "stamps", "deb": debs / "stamps-package_1.deb"}
    folder, left = fetch(where.get(of, debs))
    assert left == (["templates/rock.jpg"] if of == "stamps" else [])
    assert kept(tmp_path) == [name for name in WHOLE if of != "stamps" or name.startswith("stamps")]
    if not left:
        assert fetch(tmp_path / "not needed any more") == (folder, [])


def test_only_what_is_named_is_taken(installed, tmp_path, monkeypatch):
    """Paths that leave the folder, links, devices and bombs in an archive."""
    link = tarfile.TarInfo("./usr/share/tuxpaint/stamps/animals/thing1.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    out = tarfile.TarInfo("../../stamps/animals/thing2.png")
    out.size = 4
    (installed / "stamps" / "animals" / "thing1.png").unlink()
    (installed / "stamps" / "animals" / "thing2.png").write_bytes(b"another release")
    large = installed / "stamps" / "animals" / "thing3.ogg"
    monkeypatch.setattr(fetching, "LARGEST", large.stat().st_size - 1)  # the right content, and too much
    path = deb(tmp_path / "a.deb", installed, extra=[(link, None), (out, b"evil")])
    _, left = fetch(path)
    expected = {f"stamps/animals/{name}" for name in ("thing1.png", "thing2.png", "thing3.ogg")}
    assert expected <= set(left)
    assert kept(tmp_path) == [name for name in WHOLE if name not in left]
    assert kept(tmp_path) and not [p for p in tmp_path.rglob("*.png") if p.read_bytes() == b"evil"]
    with pytest.raises(FileNotFoundError, match="at least 5 are needed.*data fetch photos"):
        photos.photos(tmp_path / "cache" / "photos")


def test_a_category_whose_known_individual_is_missing(installed, tmp_path):
    """Nothing is trained on it, so nothing is asked of it either."""
    photos.manifest()["things"][0]["unseen"] = True
    fetch(installed)
    assert "thing0" not in photos.photos(tmp_path / "cache" / "photos").categories


@pytest.mark.parametrize("content", (b"", b"!<arch>\n", b"PK\3\4", b"!<arch>\n" + b"x" * 300))
@pytest.mark.parametrize("tool", (True, False))
def test_what_is_no_package(installed, tmp_path, monkeypatch, content, tool):
    if not tool:
        monkeypatch.setattr(fetching.shutil, "which", lambda name: None)
    path = tmp_path / "a.deb"
    path.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match="a.deb"):
        fetch(path)
    assert not kept(tmp_path)


def test_an_archive_that_never_ends(installed, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "LARGEST_PACKAGE", 200_000)
    huge, header = tarfile.TarInfo("./usr/share/huge"), tarfile.TarInfo("./usr/share/header")
    huge.size = header.size = 300_000
    header.type = tarfile.XHDTYPE
    for member in (huge, header):
        path = deb(tmp_path / "a.deb", installed, extra=[(member, bytes(member.size))])
        with pytest.raises(ValueError, match="unpacks to more than 200,000 bytes"):
            fetch(path)


APT = """#!/bin/sh
echo "$@" >> {log}
case "$*" in *download*) cp {deb} . ;; esac
exit {code}
"""


def test_apt_is_asked(installed, tmp_path, monkeypatch):
    """With an own list of packages, so that it needs no rights."""
    programs = tmp_path / "bin"
    programs.mkdir()
    package = deb(tmp_path / "a.deb", installed)
    script = programs / "apt-get"

    def answers(code):
        script.write_text(APT.format(log=tmp_path / "log", deb=package, code=code))
        script.chmod(0o755)

    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    answers(100)
    with pytest.raises(FileNotFoundError, match="apt-get update failed.*Give --from a .deb of stamps-"):
        fetch()
    answers(0)
    deb(package, tmp_path / "bin")  # of another release
    with pytest.raises(FileNotFoundError, match="the packages from apt: none of the 14 photographs"):
        fetch()
    deb(package, installed)
    assert fetch()[1] == [] and kept(tmp_path) == WHOLE
    asked = (tmp_path / "log").read_text().splitlines()
    assert asked[-1].endswith("download stamps-package data-package")
    assert all("Dir::State::Lists=" in line and "Dir::Cache=" in line for line in asked)
    asked = (tmp_path / "log").read_text()
    (tmp_path / "cache" / "photos" / "backgrounds" / "rock.jpg").unlink()
    assert fetch()[1] == ["templates/rock.jpg"] and (tmp_path / "log").read_text() == asked  # enough is there
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(fetching.shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="has no apt-get to download.*Give --from"):
        fetch()


def test_the_command_and_its_cast(installed, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["data", "make", str(tmp_path / "data"), "--cast", "photos"])
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert "no photographs; at least 5 are needed. Run `lightavseg data fetch" in said.err
    with pytest.raises(SystemExit) as ended:
        main(["data", "fetch", "photos", "--from", str(tmp_path / "nowhere")])
    assert ended.value.code == 2 and "nowhere: no such file or folder" in capsys.readouterr().err
    (installed / "stamps" / "animals" / "thing5.ogg").write_bytes(b"another release")
    with pytest.raises(SystemExit) as ended:
        main(["data", "fetch", "photos", "--from", str(installed)])
    said = capsys.readouterr()
    assert ended.value.code == 0 and "animals/thing5.ogg: missing or from another release" in said.err
    cast = cast_named("photos")
    assert cast.categories == NAMES[:5] and cast.cutouts[0].credit == "us, GPL-2.0-or-later"


# --- the real ones ---


def test_what_the_manifest_names():
    named = json.loads((photos.files("lightavseg_core.data") / "photos.json").read_text())
    seen = {thing["category"] for thing in named["things"] if not thing.get("unseen")}
    assert len(seen) >= 40 and named["licence"] == "GPL-2.0-or-later"
    assert all(thing["credit"] for thing in named["things"])
    sums = [thing[part] for thing in named["things"] for part in ("picture", "sound")]
    assert len(set(sums)) == len(sums)  # no twins by ear among them
    stems = " ".join(thing["stem"] for thing in named["things"])
    other_terms, silent, drawn = "firetruck heron", "nandou iguana giraffe wombat", "bee bat ghost spider"
    for name in f"{other_terms} {silent} {drawn} ram mountaingoat badger beaver".split():
        assert f"/{name} " not in f"{stems} "


@pytest.mark.slow
def test_clips_of_photographs(tmp_path):
    cast = photographs()
    assert len(cast.categories) >= 36 and len(cast.backgrounds) >= 10
    unseen = {cast.cutouts[k].individual for own in cast.choice("unseen") for k in own}
    assert unseen == {"drake", "cow_white", "sheep_lamb", "dromedary", "doe", "pig_golden2"}
    generate(tmp_path, "ms3", {"test": 40}, 64, cast="photos", workers=1)
    goat, ram = photos.ear_twins(photos.photos_folder())
    assert goat.sounds == ram.sounds and goat.picture != ram.picture and "ram" not in cast.categories
    varied = [cast_named(name) for name in photos.VARIATIONS]
    assert len({one.digest for one in varied}) == 4 and all(one.things == cast.things for one in varied)
    oracle = deaf_oracle(AVSBench(tmp_path, "ms3", "test"))["M_J"]
    assert 0.5 < oracle < 0.7  # of 400 clips between 0.57 and 0.62
    recipe = Recipe("ms3", {"test": 400}, 64, 0, cast="photos")
    areas = np.concatenate([draw_scene(recipe, cast, "test", index).area for index in range(400)])
    assert 0.02 <= areas.min() and areas.max() <= 0.12 and 0.055 < areas.mean() < 0.065
