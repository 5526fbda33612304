"""SeaFormer is the published function and loads the published files, and refuses all others without running
or changing anything."""

import argparse
import io
import tempfile
from pathlib import Path

import pytest
import timm
import torch
from helpers import parity
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lightavseg_core import encoders
from lightavseg_core.encoders import checkpoints
from lightavseg_core.profiling import flops

CHANNELS = {
    "t": [16, 32, 64, 128, 160],
    "s": [24, 48, 96, 160, 192],
    "b": [32, 64, 128, 192, 256],
    "l": [64, 128, 192, 256, 320],
}


def seaformer(size):
    return encoders.create_visual_encoder(f"seaformer_{size}").eval()


@pytest.fixture(scope="module")
def published():
    """The authors' state dict of SeaFormer-T, filled by formula."""
    return parity.state_dict(parity.load("seaformer_T.json")["state_dict"])


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_refused(source, *expected: str, error=ValueError):
    """load_published fails, says why, and leaves the encoder as it was."""
    encoder = seaformer("t")
    before = snapshot(encoder)
    with pytest.raises(error) as caught:
        encoder.load_published(source)
    assert "\n" not in str(caught.value)
    for text in expected:
        assert text in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


# --- the function ---


@pytest.mark.parametrize("size", ["t", "b"])
@pytest.mark.slow
def test_published_numbers(size):
    fixture = parity.load(f"seaformer_{size.upper()}.json")
    tensors = parity.state_dict(fixture["state_dict"])
    encoder = seaformer(size)
    report = encoder.load_published(tensors)
    assert sorted(report.loaded + report.dead) == sorted(fixture["state_dict"])
    assert sorted(report.dead) == ["linear.bias", "linear.weight"]
    assert not report.absent and not report.unexpected
    for resolution, expected in fixture["outputs"].items():
        height, width = map(int, resolution.split("x"))
        with torch.inference_mode():
            maps = encoder(parity.image(2, 3, height, width))
        assert len(maps) == len(expected["features"]) == 5
        for i, (found, probe) in enumerate(zip(maps, expected["features"])):
            parity.assert_matches(found, probe, f"{resolution}, stage {i}")
        logits = maps[-1].mean((-2, -1)) @ tensors["linear.weight"].T + tensors["linear.bias"]
        parity.assert_matches(logits, expected["logits"], f"{resolution}, logits")


def test_parity_probes_catch_a_small_change(published):
    encoder, fixture = seaformer("t"), parity.load("seaformer_T.json")
    encoder.load_published(published)
    with torch.no_grad():
        encoder.stages[0][0][0].bn.weight[0] += 0.01
        first = encoder(parity.image(2, 3, 160, 96))[0]
    with pytest.raises(AssertionError):
        parity.assert_matches(first, fixture["outputs"]["160x96"]["features"][0], "changed")


@pytest.mark.parametrize("size", list("tsbl"))
def test_family(size):
    encoder = seaformer(size)
    assert encoder.channels == CHANNELS[size] and encoder.strides == [4, 8, 16, 32, 64]
    assert len(encoder.stages) == 5
    for height, width in ((33, 47), (32, 32)):
        with torch.inference_mode():
            frames = torch.randn(1, 3, height, width)
            maps = encoder(frames)
            x, one_by_one = frames, []
            for stage in encoder.stages:
                x = stage(x)
                one_by_one.append(x)
        for found, same, c, s in zip(maps, one_by_one, encoder.channels, encoder.strides, strict=True):
            assert found.shape == (1, c, -(-height // s), -(-width // s))
            assert torch.equal(found, same) and found.isfinite().all()


def test_parameter_counts():
    count = {size: sum(p.numel() for p in seaformer(size).parameters()) for size in "tsbl"}
    assert round(count["l"] / 1e6, 3) == 13.726  # reported for the published code: 13.73M
    for size in "tb":  # the published state dict less its classifier and the statistics of batch norms
        shapes = parity.load(f"seaformer_{size.upper()}.json")["state_dict"]
        names = [name for name in shapes if "running_" not in name and not name.startswith("linear.")]
        assert count[size] == sum(torch.Size(shapes[name]).numel() for name in names)
    assert count["t"] < count["s"] < count["b"] < count["l"]


@pytest.mark.slow
def test_the_page_about_methods_has_their_sizes():
    """Its table is what is counted."""
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
    rows = []
    with torch.device("meta"):
        for name in encoders.VISUAL:
            encoder = encoders.create_visual_encoder(name).eval()
            count = sum(p.numel() for p in encoder.parameters()) / 1e6
            macs = flops.count(encoder, torch.empty(1, 3, 224, 224)).total_macs / 1e6
            first, last = encoder.strides[0], encoder.strides[-1]
            rows.append(f"| `{name}` | {count:.2f} | {macs:,.0f} | {first} to {last} |")
    assert len(rows) == 6 and all(row in page for row in rows), "\n".join(rows)


def test_attention_starts_closed():
    """The published initialisation: the norms after attention start at weight 0, so that attention does not
    reach the output."""
    encoder = seaformer("t")
    norms = {name: p for name, p in encoder.named_parameters() if name.endswith("bn.weight")}
    zero = [name for name, weight in norms.items() if not weight.any()]
    assert len(zero) == 3 * 4 and all(".attn.proj" in name for name in zero)
    frames = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = encoder(frames)[-1]
        encoder.stages[4][1].attn.pos_emb_rowq.pos_embed.add_(3.0)
        assert torch.equal(before, encoder(frames)[-1])


@pytest.mark.parametrize("name", ["mobilenetv2_050", "mobilenetv2_100"])
def test_audio_encoder(name):
    encoder = encoders.create_audio_encoder(name).eval()
    assert encoder.channels == 1280
    front_end = encoder.front_end
    log_mel = front_end(0.1 * torch.randn(2, 2 * front_end.sample_rate), torch.arange(2))
    assert log_mel.shape == (2, 2, 1, *front_end.shape)
    with torch.inference_mode():
        found = encoder(log_mel.flatten(0, 1))
        reference = timm.create_model(name, pretrained=False, in_chans=1, num_classes=0).eval()
        reference.load_state_dict(encoder.network.state_dict())
        assert torch.equal(found, reference((log_mel.flatten(0, 1) + 1.3) / 3.3))
        assert found.shape == (4, 1280) and not torch.equal(found[0], found[1])
        assert encoder(torch.randn(1, 1, 50, 40)).shape == (1, 1280)


def test_unknown_names_are_answered_with_a_suggestion():
    visual, audio = encoders.create_visual_encoder, encoders.create_audio_encoder
    for create, name, near in ((visual, "seaformer_x", "seaformer_"), (visual, "SeaFormer_L", "seaformer_l"),
                               (audio, "mobilenet_v2_100", "mobilenetv2_100")):
        with pytest.raises(ValueError, match=f"{name}.*did you mean '{near}"):
            create(name)
    with pytest.raises(ValueError, match="Known: efficientnet_lite0, resnet50, seaformer_b"):
        encoders.create_visual_encoder("zzz")


# --- the published files ---


@pytest.mark.slow
def test_load_published_from_every_kind_of_file(published, tmp_path):
    expected = seaformer("t")
    expected.load_published(published)
    averaged = {f"module.{name}": value for name, value in published.items()}
    others = {name: torch.zeros_like(value) for name, value in published.items()}
    nested = {"state_dict": others, "state_dict_ema": averaged, "epoch": 3}
    torch.save({**nested, "args": argparse.Namespace(lr=0.1, data="x")}, tmp_path / "nested.pth")
    torch.save(published, tmp_path / "plain.pth")
    torch.save(published, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(published, tmp_path / "plain.safetensors")
    for name in ("nested.pth", "plain.pth", "legacy.pth", "plain.safetensors"):
        encoder = seaformer("t")
        report = encoder.load_published(str(tmp_path / name))
        assert sorted(report.loaded + report.dead) == sorted(published) and not report.unexpected
        for key, value in expected.state_dict().items():
            assert torch.equal(encoder.state_dict()[key], value)


def test_unexpected_tensors_are_reported(published):
    report = seaformer("t").load_published({**published, "decoder.weight": torch.zeros(3)})
    assert report.unexpected == ["decoder.weight"]


def test_the_file_of_another_size_or_an_incomplete_one_is_refused(published):
    larger = parity.state_dict(parity.load("seaformer_B.json")["state_dict"])
    assert_refused(larger, "SeaFormer-T", "smb1.", "expected (", "another size")
    name = "trans2.transformer_blocks.1.mlp.fc2.bn.running_var"
    others = {key: value for key, value in published.items() if key != name}
    assert_refused(others, "1 of ", name)
    assert_refused({**others, f"x{name}": published[name]}, name, f"nearest name found is x{name}")
    assert_refused({**published, name: torch.zeros(3)}, f"{name} is (3,), expected (160,)")
    assert_refused({}, "no tensors")
    assert_refused({"epoch": 3, 7: torch.zeros(1)}, "no tensors", "epoch")


def test_files_that_are_no_checkpoints_are_refused(published, tmp_path):
    assert_refused(tmp_path / "absent.pth", "absent.pth", error=FileNotFoundError)
    assert_refused(tmp_path, str(tmp_path), error=FileNotFoundError)
    contents = {
        "garbage.pth": b"not a checkpoint" * 100,
        "empty.pth": b"",
        "page.safetensors": b"<html>no</html>",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert_refused(tmp_path / name, name, "not a checkpoint of plain tensors")
    torch.save([1, 2], tmp_path / "list.pth")
    assert_refused(tmp_path / "list.pth", "found list")
    torch.save(published, tmp_path / "whole.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:100_000])
    assert_refused(tmp_path / "half.pth", "half.pth")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damaged_files_are_refused_in_one_line(data):
    """Any bytes: a valid file, cut and changed, or noise. Either it still loads or it is a ValueError."""
    buffer = io.BytesIO()
    whole = {"a": torch.arange(4.0), "args": argparse.Namespace(x=1)}
    torch.save(whole, buffer, _use_new_zipfile_serialization=data.draw(st.booleans()))
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[:data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "damaged.pth")
        path.write_bytes(data.draw(st.one_of(st.just(bytes(content)), st.binary(max_size=200))))
        try:
            checkpoints.read_tensors(path)
        except ValueError as error:
            assert "damaged.pth" in str(error) or "checkpoint" in str(error)
            assert "\n" not in str(error)
