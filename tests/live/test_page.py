"""The page as a visitor meets it: what it asks for, what it may do, with which hands it works."""

import gzip
import json
import re
import struct

import numpy as np
import onnx
import pytest
import torch
from helpers import live
from onnx import numpy_helper
from PIL import Image

import lightavseg_core as lav
from lightavseg_core.data.writing import wav
from lightavseg_core.deploy import web
from lightavseg_core.widgets.challenges import Thing, challenges, points

pytestmark = pytest.mark.slow
AXE = live.LIVE / "node_modules/axe-core/axe.min.js"


# Which pixels of the second that is shown belong to a thing.
AREA = """(name) => {
  const { clip, state } = live, n = clip.size ** 2, k = clip.objects.findIndex((one) => one.name === name);
  return [...clip.where.subarray(state.second * n, (state.second + 1) * n)].map((x) => x === k + 1);
}"""


def names(desk):
    return desk.page.evaluate("() => live.clip.objects.map((one) => one.name)")


def sounding(desk):
    """The first object that is heard in the second that is shown."""
    return desk.page.evaluate(
        "() => live.clip.objects.find((one) => one.sounding[live.state.second]).name"
    )


# --- the model is asked, and nothing stands in for it ---


def test_a_click_in_the_picture_takes_the_mask_away(desk):
    desk.open()
    name, second = sounding(desk), desk.page.evaluate("() => live.state.second")
    area = np.array(desk.page.evaluate(AREA, name)).reshape(128, 128)
    before, count = desk.masks()[second], desk.inferences
    desk.page.get_by_role("button", name=f"Mute {name}, in the picture").click()
    after = desk.masks()[second]
    assert (before & area).sum() > 0.5 * area.sum()
    assert (after & area).sum() <= 0.1 * (before & area).sum()
    assert desk.inferences >= count + 5, "a second each was looked at anew"
    button = desk.page.get_by_role("button", name=f"Mute {name}", exact=True)
    assert button.get_attribute("aria-pressed") == "true"
    assert f"live: {desk.inferences} masks computed" in desk.page.locator("#live").inner_text()


# A pixel of a thing, as far within it as any: x and y from 0 to 1.
WITHIN = """(k) => {
  const { clip, state } = live, n = clip.size;
  const inside = (x, y) => clip.where[(state.second * n + y) * n + x] === k + 1;
  const row = (x, y, far) => [-far, 0, far].every((dx) => inside(x + dx, y));
  const around = (x, y, far) => [-far, 0, far].every((dy) => row(x, y + dy, far));
  for (let far = 24; far > 0; far--)
    for (let y = far; y < n - far; y++)
      for (let x = far; x < n - far; x++) if (around(x, y, far)) return [x / n, y / n];
}"""


def test_a_click_means_the_thing_that_is_seen_there(desk):
    """Not the one whose box is on top."""
    desk.open()
    page, box = desk.page, desk.page.locator("#picture").bounding_box()
    for k in range(len(names(desk))):
        x, y = page.evaluate(WITHIN, k)
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        assert page.evaluate("() => [...live.state.muted]") == list(range(k + 1))
    assert not desk.masks()[page.evaluate("() => live.state.second")].any()
    assert "It listens." in page.locator("#verdict").inner_text()


def test_the_verdict_says_why(desk):
    """A thing that is silent and marked, since another clip has the sound of one like it."""
    desk.open()
    first = sounding(desk)
    desk.mute(first)
    listed = "() => live.edition.clips.map((one) => one.objects.map(({ name }) => name))"
    of_clips = desk.page.evaluate(listed)
    other = next(k for k, of_clip in enumerate(of_clips) if k and first in of_clip)
    desk.page.locator("#strips select").select_option(str(other))
    for second in range(5):
        desk.page.locator("#seconds input").nth(second).check(force=True)
        desk.level("other", 2)
        desk.masks()
        words = desk.page.locator("#verdict").inner_text()
        if "marked and silent" in words and f"Another clip's {first} is in the mix" in words:
            return
    pytest.fail(f"in no second is {first} marked for another's sound")


def test_the_weights_can_be_changed(desk):
    desk.open()
    before, page = desk.masks(), desk.page
    assert "million weights in int8, " in page.locator("#model-said").inner_text()
    page.locator("#weights").select_option("model-fp32.onnx")
    desk.until("() => document.getElementById('model-said').textContent.includes('weights in fp32')")
    after = desk.masks()
    assert (after & before).sum() / (after | before).sum() > 0.98


def test_the_last_choice_wins(desk):
    desk.open()
    chosen = "([where, ...wanted]) => wanted.forEach((k) => document.querySelectorAll(where)[k].click())"
    desk.page.evaluate(chosen, ["#clips input", 3, 5, 1])
    weights = """(names) => names.forEach((name) => {
      const select = document.getElementById("weights");
      select.value = name;
      select.dispatchEvent(new Event("change"));
    })"""
    desk.page.evaluate(weights, ["model-fp32.onnx", "model.onnx", "model-fp32.onnx", "model.onnx"])
    desk.until("() => live.clip.number === 1 && document.getElementById('copied').textContent === ''")
    desk.page.wait_for_timeout(500)
    assert desk.page.evaluate("() => [live.clip.number, live.state.clip, live.model.about.precision]") == [
        1, 1, "int8"]
    assert desk.masks().any()


def zeroed(path, shapes_page):
    """The page's model with a head of zeros, which marks nothing."""
    model = onnx.load_from_string(gzip.decompress((shapes_page / "page/model-fp32.onnx.gz").read_bytes()))
    heads = [node for node in model.graph.node if node.op_type == "Conv" and node.name.startswith("decoder/")]
    shapes = {tensor.name: tensor for tensor in model.graph.initializer}
    head = next(node for node in heads if shapes[node.input[1]].dims[0] == 1)
    for name in head.input[1:]:
        values = numpy_helper.to_array(shapes[name])
        shapes[name].CopyFrom(numpy_helper.from_array(np.zeros_like(values), name))
    onnx.save(model, path)
    return path


def test_a_model_with_a_zeroed_head_marks_nothing(desk, shapes_page, tmp_path):
    desk.open()
    before = desk.masks()
    assert before.any()
    desk.page.locator("#own-model").set_input_files(zeroed(tmp_path / "zeroed.onnx", shapes_page))
    desk.until("() => document.getElementById('own-said').textContent.includes('zeroed.onnx computes')")
    assert not desk.masks().any()
    desk.page.locator("#back").click()
    desk.until("() => live.model.shipped")
    assert (desk.masks() == before).all()
    whole = tmp_path / "whole.onnx"
    whole.write_bytes(gzip.decompress((shapes_page / "page/model-fp32.onnx.gz").read_bytes()))
    desk.page.locator("#own-model").set_input_files(whole)
    desk.until("() => document.getElementById('own-said').textContent.includes('whole.onnx computes')")
    again = desk.masks()
    assert (again & before).sum() / (again | before).sum() > 0.98


def test_a_model_of_another_size_is_judged(desk, tmp_path):
    """And one of this size again, while the other is at work."""
    model = lav.load_model("checkpoints/tiny").eval()
    frames, second = torch.zeros(1, 1, 3, 160, 160), torch.zeros(1, 1, 1, 96, 64)
    web.export(model, tmp_path / "larger.onnx", [(frames, second)])
    desk.open()
    page, name, before = desk.page, sounding(desk), desk.masks()
    page.locator("#own-model").set_input_files(tmp_path / "larger.onnx")
    desk.until("() => document.getElementById('own-said').textContent.includes('larger.onnx computes')")
    assert desk.masks().shape == (5, 160, 160)
    assert f"It marks the {name}" in page.locator("#verdict").inner_text()
    assert name in page.locator("#picture").get_attribute("aria-label")
    assert "overlap with the right answer: 0." in page.locator("#agreement").inner_text()
    for name in names(desk):
        desk.mute(name)
        page.locator("#back").evaluate("(button) => button.click()")
        desk.until("() => live.model.shipped")
        desk.mute(name)
        assert (desk.masks() == before).all()
        page.locator("#own-model").set_input_files(tmp_path / "larger.onnx")
        desk.until("() => !live.model.shipped")
    assert page.locator("#problem").inner_text() == ""


def test_what_fails_is_said_and_changes_nothing(desk, tmp_path):
    """The faders too stand as they are set."""
    desk.open()
    desk.clip(1)
    name = names(desk)[0]
    desk.mute(name)
    desk.level(1, 0.5)
    before = desk.masks()
    (tmp_path / "no.wav").write_bytes(b"RIFFjunk")
    desk.page.locator("#own-sounds").set_input_files(tmp_path / "no.wav")
    desk.until("() => document.getElementById('own-said').textContent.includes('Nothing has changed.')")
    button = desk.page.get_by_role("button", name=f"Mute {name}", exact=True)
    assert button.get_attribute("aria-pressed") == "true"
    assert desk.page.locator("#level-1").input_value() == "0.5"
    assert desk.page.locator("#clips input:checked").input_value() == "1"
    assert (desk.masks() == before).all()


def test_another_clips_sound_that_cannot_be_loaded(browser, address):
    """What is heard, and what the page says is heard, stay the same."""
    with browser.new_context() as context:
        context.route("**/clip-4.bin*", lambda route: route.abort())
        desk = live.Desk(context.new_page(), f"{address}page/").open()
        desk.page.locator("#strips select").select_option("4")
        desk.until("() => document.getElementById('problem').textContent.includes('It could not be loaded')")
        assert desk.page.evaluate("() => live.state.donorClip") == 1
        assert desk.page.locator("#strips select").input_value() == "1"
        desk.page.locator("#strips select").select_option("2")
        desk.until("() => live.state.donorClip === 2")
        assert desk.page.locator("#problem").inner_text() == ""


def test_a_fader_moves_all_that_is_shown(desk):
    """The maps, the audio state, the log-mel and the verdict, not the mask alone."""
    desk.open()
    desk.masks()
    shown = "#log-mel, #maps canvas, #steps canvas"
    pictures = f"() => [...document.querySelectorAll('{shown}')].map((canvas) => canvas.toDataURL())"
    before, verdict = desk.page.evaluate(pictures), desk.page.locator("#verdict").inner_text()
    assert len(before) == 1 + 5 + 20
    desk.mute(sounding(desk))
    desk.masks()
    after = desk.page.evaluate(pictures)
    changed = [a != b for a, b in zip(before, after)]
    # A gate of the encoder looks at the picture alone until sound has been added to it.
    assert changed[0] and all(changed[3:6]) and sum(changed[6:]) >= 15
    assert desk.page.locator("#verdict").inner_text() != verdict


# --- what it asks for ---


def test_nothing_outside_the_folder_is_asked_for(desk, address):
    desk.open()
    desk.masks()
    desk.level("other", 1)
    for number in range(6):
        desk.clip(number)
    desk.masks()
    own = [url for url in desk.requests if not url.startswith(("blob:", "data:"))]
    assert own and all(url.startswith(f"{address}page/") for url in own)
    for outside in (address, "http://127.0.0.1:9/"):
        blocked = desk.page.evaluate("(url) => fetch(url).then(() => 'fetched', () => 'blocked')", outside)
        assert blocked == "blocked"
    assert all("Content Security Policy" in words or "Fetch API cannot load" in words for words in desk.said)
    desk.said.clear()


def test_the_single_file_asks_for_nothing(browser, shapes_page):
    with browser.new_context(offline=True) as context:
        desk = live.Desk(context.new_page(), (shapes_page / "live.html").as_uri()).open()
        name = sounding(desk)
        before = desk.masks()
        desk.mute(name)
        assert desk.masks().sum() < before.sum()
        desk.clip(5)
        desk.masks()
        asked = [url for url in desk.requests if not url.startswith(("blob:", "data:"))]
        assert asked == [(shapes_page / "live.html").as_uri()]
        policy = desk.page.locator("meta[http-equiv]").first.get_attribute("content")
        assert "connect-src 'none'" in policy
        assert desk.said == []


def test_sizes(shapes_page):
    assert sum(file.stat().st_size for file in (shapes_page / "page").iterdir()) <= 30e6
    single = shapes_page / "live.html"
    assert single.stat().st_size <= 20e6
    assert "MIT License" in single.read_text() and "Apache License" in single.read_text()


def test_the_lock_names_no_registry():
    lock = json.loads((live.LIVE / "package-lock.json").read_text())
    assert all("resolved" not in package for package in lock["packages"].values())
    assert "://registry" not in (live.LIVE / "package-lock.json").read_text()


# --- with which hands, on which screens ---


def test_axe_finds_no_violation(desk):
    desk.open()
    desk.masks()
    for summary in desk.page.locator("summary").all():
        summary.click()
    desk.page.evaluate(AXE.read_text())
    for width in (1280, 400):
        desk.page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            desk.page.emulate_media(color_scheme=scheme)
            found = desk.page.evaluate("() => axe.run()")["violations"]
            assert not found, [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]
            assert desk.page.evaluate("() => document.documentElement.scrollWidth") <= width


WHO = """() => { const e = document.activeElement;
  return e.id || e.getAttribute('aria-label') || e.textContent.trim(); }"""
CONTROLS = """() => [...document.querySelectorAll('button, input, select, summary, [tabindex="0"]')]
  .filter((e) => !e.disabled && e.checkVisibility() && (e.type !== 'radio' || e.checked))
  .map((e) => e.id || e.getAttribute('aria-label') || e.textContent.trim())"""


def test_the_keyboard_reaches_and_works_every_control(desk):
    desk.open()
    desk.masks()
    page, reached = desk.page, []
    wanted = page.evaluate(CONTROLS)
    for _ in range(len(wanted)):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(WHO))
    assert sorted(reached) == sorted(wanted)

    name = sounding(desk)
    pressed = f"() => document.querySelector('[aria-label=\"Mute {name}\"]').getAttribute('aria-pressed')"
    for label in (f"Mute {name}", f"Mute {name}, in the picture"):
        before = page.evaluate(pressed)
        page.get_by_role("button", name=label, exact=True).focus()
        page.keyboard.press("Space")
        assert page.evaluate(pressed) != before
    page.locator("#level-0").focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("() => live.state.gains[0]") == 0.95
    second = page.evaluate("() => live.state.second")
    page.locator("#seconds input:checked").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("() => live.state.second") == (second + 1) % 5
    page.locator("#clips input:checked").focus()
    page.keyboard.press("ArrowRight")
    desk.until("() => live.clip.number === 1")
    page.locator("#play").focus()
    page.keyboard.press("Enter")
    assert page.locator("#play").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Enter")
    assert page.locator("#play").get_attribute("aria-pressed") == "false"
    page.locator("#strips select").focus()
    before = page.evaluate("() => live.state.donorClip")
    page.keyboard.press("ArrowDown")
    desk.until(f"() => live.state.donorClip !== {before}")
    page.locator("#challenges summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#challenges details").first.get_attribute("open") is not None


def test_it_plays_in_step(desk):
    """The second follows the sound, and the head moves on; where motion is not wanted, in steps."""
    desk.open()
    page = desk.page
    start = page.evaluate("() => live.state.second")
    page.locator("#play").click()
    desk.until(f"() => live.state.second !== {start}")
    assert page.evaluate("() => live.state.second") == (start + 1) % 5
    assert page.locator("#head").is_visible()
    page.emulate_media(reduced_motion="reduce")
    page.wait_for_timeout(100)
    place = page.evaluate("() => [live.state.second, parseFloat(document.getElementById('head').style.left)]")
    assert place[1] == pytest.approx(20 * place[0])
    page.locator("#play").click()
    assert page.locator("#head").is_hidden()


def test_the_address_says_what_is_set(desk, browser, address):
    desk.open()
    desk.clip(2)
    desk.level(1, 0.5)
    desk.level("noise", 0.3)
    desk.mute(names(desk)[0])
    desk.page.locator("#seconds input").nth(0).check(force=True)
    before = desk.masks()
    desk.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    desk.page.locator("#share").click()
    desk.until("() => document.getElementById('shared').textContent.includes('is copied')")
    page, _, words = desk.page.evaluate("() => navigator.clipboard.readText()").partition("#")
    assert page == f"{address}page/"
    desk.until(f"() => location.hash == '#{words}'")
    assert "clip=3" in words and "second=1" in words and "muted=1" in words
    with browser.new_context() as context:
        other = live.Desk(context.new_page(), f"{address}page/").open(f"#{words}")
        assert (other.masks() == before).all()
        same = "() => JSON.stringify({ ...live.state, muted: [...live.state.muted] })"
        assert other.page.evaluate(same) == desk.page.evaluate(same)


def test_an_address_that_makes_no_sense(desk):
    desk.open("#clip=99&second=-4&levels=x_9")
    assert desk.masks().shape == (5, 128, 128)
    for words in ("muted=7_0_a&other=1&noise=nan", "%"):
        desk.page.evaluate("(words) => (location.hash = words)", words)
        desk.until(f"() => live.state.donor === {int('other' in words)}")
        assert desk.masks().shape == (5, 128, 128)


# --- a visitor's own ---


def test_an_own_picture_and_sound(desk, tmp_path):
    """What the model makes of them is what PyTorch makes of the same pixels and samples."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (128, 128, 3), dtype=np.uint8)).save(tmp_path / "own.png")
    sound = 0.2 * np.sin(2 * np.pi * 440 * np.arange(40_000) / 16_000)
    (tmp_path / "own.wav").write_bytes(wav(sound, 16_000))
    desk.open()
    desk.page.locator("#own-picture").set_input_files(tmp_path / "own.png")
    desk.until("() => live.clip.own && live.clip.tracks.length > 1")
    desk.page.locator("#own-sounds").set_input_files(tmp_path / "own.wav")
    desk.until("() => live.clip.tracks.length === 1")
    masks, waveform = desk.masks(), desk.floats("waveform")
    assert len(masks) == 3, "2.5 seconds of sound"
    assert np.abs(waveform[:40_000] - sound).max() < 1e-4 and not waveform[40_000:].any()
    model = lav.load_model("checkpoints/tiny").eval()
    expected = model.front_end(torch.tensor(waveform), torch.tensor([0])).numpy().ravel()
    assert np.abs(desk.floats("log-mel") - expected).max() < 1e-4
    assert "is marked" in desk.page.locator("#verdict").inner_text()
    (tmp_path / "other.wav").write_bytes(wav(-sound, 16_000))
    desk.page.locator("#own-sounds").set_input_files(tmp_path / "other.wav")
    desk.until("() => document.getElementById('own-said').textContent.includes('other.wav: 2.5 seconds')")
    assert np.abs(desk.floats("waveform")[:40_000] + sound).max() < 1e-4, "what is heard is the new one"


def test_files_that_are_none_of_it(desk, tmp_path):
    """A sentence for the visitor, and the page as it was."""
    desk.open()
    before = desk.masks()
    (tmp_path / "no.onnx").write_bytes(b"\x72" + bytes(range(256)) * 9)
    model = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    onnx.helper.set_model_props(model, {"lightavseg": "{}", "lightavseg.page": json.dumps({"fft": 10**9})})
    onnx.save(model, tmp_path / "other.onnx")
    (tmp_path / "no.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 64)
    (tmp_path / "no.wav").write_bytes(b"RIFF" + struct.pack("<I", 2**31) + b"WAVEjunk")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), tmp_path / "plain.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for field, file, words in [
        ("model", "no.onnx", "no.onnx: This is no ONNX file"),
        ("model", "plain.onnx", "was not made for this page"),
        ("model", "other.onnx", "What this file says of itself is wrong"),
        ("model", "empty.onnx", "The file is empty"),
        ("picture", "no.png", "cannot read it"),
        ("sounds", "no.wav", "cannot decode it"),
    ]:
        desk.page.locator(f"#own-{field}").set_input_files(tmp_path / file)
        desk.until(f"() => document.getElementById('own-said').textContent.includes('{words}')")
    assert (desk.masks() == before).all()


# --- challenges, and what the device takes ---


def test_page_and_notebooks_count_the_same_points(desk):
    rng = np.random.default_rng(0)
    cases = []
    for _ in range(300):
        things = []
        for _ in range(rng.integers(1, 5)):
            sounds, level = bool(rng.integers(2)), float(rng.choice([0, 0.1, 1, 1.5]))
            marked = float(rng.choice([0, 0.03, 0.5, 0.95, 1]))
            things.append(Thing(sounds, sounds and level > 0, level, marked))
        cases.append((things, bool(rng.random() < 0.1)))
    desk.open()
    given = [[[thing._asdict() for thing in things], untouched] for things, untouched in cases]
    counted = "([tasks, cases]) => tasks.map((task) => cases.map((given) => live.points(task, ...given)))"
    found = desk.page.evaluate(counted, [challenges(), given])
    expected = [[points(task, things, same) for things, same in cases] for task in challenges()]
    assert found == expected
    assert all(any(task["pass"] <= value for value in row) for task, row in zip(challenges(), expected))


def test_a_challenge_is_met(desk):
    """Of two things that sound, one is muted; nothing is met before."""
    desk.open()
    desk.masks()
    first = desk.page.locator("#challenges li").first
    assert "now 0 points, met from 90" in first.inner_text()
    desk.mute(sounding(desk))
    desk.until("() => document.querySelector('#challenges li').textContent.includes('met with')")


def test_it_measures_this_device(desk):
    desk.open()
    desk.masks()
    assert re.fullmatch(r"\d+\.\d ms a frame", desk.page.locator("#speed").inner_text())
    desk.page.locator("#measure").click()
    desk.until("() => document.getElementById('speed-text').textContent.includes('fusion')")
    text = desk.page.locator("#speed-text").inner_text()
    shares = [float(share) for share in re.findall(r"(?:takes|seeing|hearing|5\)) ([\d.]+)%", text)]
    assert len(shares) == 4 and sum(shares) == pytest.approx(100, abs=0.3)
    assert 0 < shares[0] < 30, "the fusion of one vector with the maps"
