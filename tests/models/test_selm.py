"""SelM is the published function, from its Mamba to its chosen pixels; by default its clips stand alone and
its evaluation is not drawn by lot."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import parity
from helpers.tiny import inputs
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import lightavseg_core as lav
from lightavseg_core.models import selm_decoder
from lightavseg_core.models.mamba import Mamba
from lightavseg_core.models.selm import BCSM, DAM, instance_norm
from lightavseg_core.models.selm_decoder import DynamicHead, LoadAudio, TokenAttention

VGGISH_MILLION, VGGISH_GMACS = 72.14, 0.864  # parameters; per frame


def create(**options):
    torch.manual_seed(0)
    return lav.create_model("selm", preset="tiny", **{"layers": 1, "size": 64, **options}).eval()


@pytest.fixture(scope="module")
def model():
    """A model none of whose numbers is at its start value, so that no gate is nearly shut."""
    return perturbed(create())


def perturbed(module, seed=1):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=g)
    return module


# --- Mamba ---


@torch.no_grad()
def test_mamba_by_its_recurrence():
    """For one channel, one state and one second at a time, from the equations of the paper."""
    torch.manual_seed(0)
    block, x = perturbed(Mamba(16)).double(), torch.randn(2, 6, 16, dtype=torch.double)
    found, (B, T), I, S = block(x).numpy(), (2, 6), 32, 16
    p = {name: value.double().numpy() for name, value in block.state_dict().items()}

    def silu(v):
        return v / (1 + np.exp(-v))

    def softplus(v):
        return np.log1p(np.exp(v))

    for b in range(B):
        projected = x[b].numpy() @ p["in_proj.weight"].T
        u, z = projected[:, :I], projected[:, I:]
        heard = np.zeros((T, I))
        for t in range(T):
            for tap in range(4):  # the last tap reads this second
                if t - 3 + tap >= 0:
                    heard[t] += p["conv1d.weight"][:, 0, tap] * u[t - 3 + tap]
        u = silu(heard + p["conv1d.bias"])
        h, expected = np.zeros((I, S)), np.zeros((T, 16))
        for t in range(T):
            selected = p["x_proj.weight"] @ u[t]
            rank, write, read = selected[:1], selected[1:17], selected[17:]  # dt rank 16 / 16 = 1
            delta = softplus(p["dt_proj.weight"] @ rank + p["dt_proj.bias"])
            y = np.zeros(I)
            for i in range(I):
                for n in range(S):
                    kept = np.exp(-delta[i] * np.exp(p["A_log"][i, n])) * h[i, n]
                    h[i, n] = kept + delta[i] * u[t, i] * write[n]
                    y[i] += h[i, n] * read[n]
                y[i] += p["D"][i] * u[t, i]
            expected[t] = p["out_proj.weight"] @ (y * silu(z[t]))
        assert np.allclose(found[b], expected, rtol=1e-9, atol=1e-12)
    assert torch.allclose(block(x[:, :1]), block(x)[:, :1]), "causal, and one second is enough"


def test_mamba_starts_as_published():
    torch.manual_seed(0)
    block = Mamba(256)
    shapes = parity.load("selm_r50.json")["state_dict"]
    prefix = "BCSM.audio_encoder.0.layers.0.mamba_block."
    found = {prefix + name: list(value.shape) for name, value in block.state_dict().items()}
    assert found == {name: shape for name, shape in shapes.items() if name.startswith(prefix)}
    step = F.softplus(block.dt_proj.bias)
    assert 1e-3 <= step.min() < 1.2e-3 and 0.08 < step.max() <= 0.1001, "the step spans two decades"
    assert torch.allclose(block.A_log.exp()[7], torch.arange(1.0, 17)) and block.D.eq(1).all()


# --- DAM ---


@torch.no_grad()
def test_early_fusion_is_a_constant_per_channel():
    """What DAM adds to the maps is GELU(bias) and its gate, whatever is seen or heard; in floating point to a
    rounding error."""
    torch.manual_seed(0)
    dam = perturbed(DAM(24, 64)).double()
    constant = F.gelu(dam.to_pixels.out.bias)
    expected = torch.tanh(dam.gate2.weight @ torch.relu(dam.gate1.weight @ constant)) * constant
    for seed in range(3):
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(2, 24, 5, 7, generator=g, dtype=torch.double)
        audio = torch.randn(2, 64, 1, generator=g, dtype=torch.double)
        fused, heard = dam(x, audio)
        assert (fused - x - expected[:, None, None]).abs().max() < 1e-9 < 1e-3 < expected.abs().max()
        other = torch.randn(2, 24, 5, 7, generator=g, dtype=torch.double)
        assert not torch.allclose(dam(other, audio)[1], heard, atol=1e-3), "the image does reach the sound"
        opposite = dam(x, -audio)[1] + audio
        assert not torch.allclose(opposite, heard - audio, atol=1e-3), "and the sound chooses what of it"
    single = dam.float()(x.float(), audio.float())[0].double() - x
    rounding = (single - expected[:, None, None]).abs().max()
    assert 0 < rounding < 1e-4, "a constant misses its mean by its rounding"


def test_what_cannot_learn():
    """The parameters behind a softmax over one key, or behind a norm that removes them, get no gradient:
    attention dissipation, in numbers."""
    torch.manual_seed(0)
    dam, load = DAM(24, 64).double(), LoadAudio(64).double().eval()
    x, audio = torch.randn(2, 24, 5, 7, dtype=torch.double), torch.randn(2, 64, 1, dtype=torch.double)
    fused, audio = dam(x, audio)
    tokens = load(torch.randn(2, 2, 64).double(), audio[..., 0])
    sum(result.square().sum() for result in (fused, audio, tokens)).backward()
    grads = {name: p.grad.abs().max() for name, p in [*dam.named_parameters(), *load.named_parameters()]}
    dead = {name for name, most in grads.items() if most < 1e-9}
    for name in ("query1", "query2", "key", "value", "visual", "heard", "out"):
        assert f"to_pixels.{name}.weight" in dead
    assert {"query.weight", "key.weight", "norm_query.weight", "to_pixels.weight", "to_audio.weight"} <= dead
    learning = grads.keys() - dead
    assert {f"to_audio.{name}.weight" for name in ("query1", "key", "value")} <= learning
    assert {"to_pixels.out.bias", "value.weight", "gate1.weight", "norm_key.weight"} <= learning


def test_instance_norm():
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(instance_norm(x), F.instance_norm(x), atol=1e-6)
    assert instance_norm(x[..., :1]).eq(0).all(), "of one position nothing is left, and nothing fails"


# --- BCSM ---


@torch.no_grad()
def test_gates_and_how_the_published_ones_mix_clips():
    """x + ga x and a + mean(gv) a; published, frame k reads ga_1 of frame k and the other gates of second k
    // B of clip k % B."""
    (B, T), width = (2, 3), 64
    torch.manual_seed(0)
    bcsm, mixed = perturbed(BCSM(width, 2, published=False)), perturbed(BCSM(width, 2, published=True))
    mixed.load_state_dict(bcsm.state_dict())
    maps, audio = [torch.randn(B * T, width, s, s + 1) for s in (4, 3, 2, 1)], torch.randn(B * T, width)
    # (clip, second) whose gate frame k is to read
    clip_major = [divmod(k, T) for k in range(B * T)]
    time_major = [(k % B, k // B) for k in range(B * T)]
    for module, first, others in ((bcsm, clip_major, clip_major), (mixed, clip_major, time_major)):
        gated, heard = module(maps, audio, (B, T))
        total = torch.zeros(B * T, width)
        for i, x in enumerate(maps):
            visual, sound = [], []  # per clip, (T, D)
            for clip in (slice(b * T, (b + 1) * T) for b in range(B)):
                seen = bcsm.visual_in[i](x[clip].mean((2, 3)))[None]
                visual.append(F.silu(bcsm.visual_gate[i](bcsm.visual_encoder[i](seen)))[0])
                sound.append(F.silu(bcsm.audio_gate[i](bcsm.audio_encoder[i](audio[None, clip])))[0])
            for k in range(B * T):
                b, t = (first if i == 0 else others)[k]
                assert torch.allclose(gated[i][k], x[k] * (1 + sound[b][t])[:, None, None], atol=1e-5)
                b, t = others[k]
                total[k] += visual[b][t]
        assert torch.allclose(heard, audio * (1 + total / 4), atol=1e-5)
    one, other = (module([x[:T] for x in maps], audio[:T], (1, T)) for module in (mixed, bcsm))
    assert torch.equal(one[1], other[1]), "for one clip the two are the same"


# --- the tokens ---


@torch.no_grad()
def test_token_attention_by_loops():
    torch.manual_seed(0)
    attention = perturbed(TokenAttention(64, 0.1, published=False)).double().eval()
    tokens, visual = torch.randn(2, 2, 64).double(), torch.randn(2, 15, 64).double()
    found, hits = attention(tokens, visual)
    normed = attention.norm_visual(visual)
    q, k, v = attention.query(attention.norm_tokens(tokens)), attention.key(normed), attention.value(normed)
    for n in range(2):
        owner = []
        for key in k[n]:
            cosines = [float(query @ key / query.norm() / key.norm()) for query in q[n]]
            owner.append(cosines.index(max(cosines)))
        assert 0 < sum(owner) < 15, "both tokens have pixels"
        for j in range(2):
            mine = [p for p in range(15) if owner[p] == j]
            assert hits[n, j].tolist() == [float(p in mine) for p in range(15)]
            mean = sum(v[n, p] for p in mine) / (len(mine) + 1)
            expected = attention.mlp(attention.norm(attention.out(mean) + tokens[n, j]))
            assert torch.allclose(found[n, j], expected, atol=1e-9)


def test_gumbel_noise_makes_draws_from_the_softmax():
    scores = torch.tensor([1.0, 0.0])[None, :, None].expand(1, 2, 40000)
    torch.manual_seed(0)
    noisy = scores + selm_decoder.gumbel_noise(scores)
    first = (noisy.argmax(1) == 0).float().mean()
    assert abs(first - scores.softmax(1)[0, 0, 0]) < 0.01 and noisy.isfinite().all()


def test_straight_through(monkeypatch):
    """Forward 0 or 1; backward the softmax's gradient, to query, key and the temperature, which starts where
    it can learn."""
    torch.manual_seed(0)
    attention = TokenAttention(64, 0.0, published=False).train()
    shapes = (1, 2, 64), (1, 30, 64), (1, 2, 30), (1, 2, 30)
    tokens, visual, weights, noise = (torch.randn(shape) for shape in shapes)
    monkeypatch.setattr(selm_decoder, "gumbel_noise", lambda scores: noise)
    hits = attention(tokens, visual)[1]
    assert hits.detach().unique().tolist() == [0, 1] and hits.sum(1).eq(1).all()
    (hits * weights).sum().backward()
    assert attention.query.weight.grad.abs().sum() > 0 and attention.key.weight.grad.abs().sum() > 0
    query, key = attention.query(attention.norm_tokens(tokens)), attention.key(attention.norm_visual(visual))
    score = F.cosine_similarity(query[:, :, None], key[:, None], dim=-1) + noise
    lead = score[:, 0] - score[:, 1]
    soft = lead.sigmoid()  # of two: softmax((s + g) / tau), tau = exp(0)
    slope = ((weights[:, 0] - weights[:, 1]) * soft * (1 - soft) * -lead).sum()  # d / d log tau
    assert slope.abs() > 0.1 and attention.tau.grad.item() == pytest.approx(slope.item(), rel=1e-4)
    attention.tau.data.fill_(1.0)  # where the published temperature starts
    attention.zero_grad()
    (attention(tokens, visual)[1] * weights).sum().backward()
    assert attention.tau.grad.item() == 0


@torch.no_grad()
def test_kernels_from_a_token():
    torch.manual_seed(0)
    for classes, numbers in ((1, 65), (3, 3 * 64)):
        head = DynamicHead(64, classes, 1)
        x, token = torch.randn(2, 64, 3, 4), torch.randn(2, 64)
        found = head(x, token)
        assert found.shape == (2, classes, 6, 8) and head.kernel.out_features == numbers
        read = head.out(head.up[0](F.interpolate(x, scale_factor=2, mode="bilinear")))
        for n in range(2):
            made = head.kernel(token[n])
            kernels, bias = (made[None, :64], made[64:]) if classes == 1 else (made.view(3, 64), None)
            expected = F.conv2d(read[n:n + 1], kernels[..., None, None], bias)[0]
            assert torch.allclose(found[n], expected, atol=1e-5)


# --- the model ---


@torch.no_grad()
def test_positions_are_learned_at_one_size_and_resized_to_others():
    model = create(size=96)
    shapes = [tuple(level.position.shape) for level in model.decoder.levels]
    assert shapes == [(6 * 6, 64), (12 * 12, 64), (24 * 24, 64)]
    level = model.decoder.levels[0]
    level.attention.norm_visual = nn.Identity()
    read = []
    level.attention.key.register_forward_pre_hook(lambda module, given: read.append(given[0]))
    coarser, tokens, audio = torch.zeros(1, 64, 1, 1), torch.zeros(1, 2, 64), torch.zeros(1, 64)
    for h, w in ((6, 6), (5, 9), (1, 1)):
        fused, _, _ = level(coarser, torch.zeros(1, 64, h, w), tokens, audio)
        pixels = fused.flatten(2).transpose(1, 2)
        grid = F.interpolate(level.position.T.reshape(1, 64, 6, 6), size=(h, w), mode="bilinear")
        assert torch.allclose(read[-1] - pixels, grid.flatten(2).transpose(1, 2), atol=1e-5)


@torch.inference_mode()
@pytest.mark.slow
def test_clips_stand_alone_and_evaluation_is_deterministic(model):
    frames, log_mel = inputs(2, 3)
    published = create(published=True)
    published.load_state_dict(model.state_dict())
    for candidate, default in ((model, True), (published, False)):
        together = candidate(frames, log_mel).logits
        again = candidate(frames, log_mel).logits
        assert torch.equal(again, together) == default, "random unless the noise is left out"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(selm_decoder, "gumbel_noise", torch.zeros_like)
            together = candidate(frames, log_mel).logits
            alone = torch.cat([candidate(frames[b:b + 1], log_mel[b:b + 1]).logits for b in range(2)])
        apart = torch.allclose(alone, together, atol=1e-3)
        assert apart == default, "clips of a batch mix in the published gates"
    one, other = model(frames, log_mel).logits, model(frames, log_mel.flip(1)).logits
    assert not torch.allclose(one, other, atol=1e-2), "the sound matters"
    other = model(frames, torch.cat([log_mel[:, :2], -log_mel[:, 2:]], 1)).logits
    assert torch.allclose(one[:, :2], other[:, :2], atol=1e-4), "and time is causal"
    assert not torch.allclose(one[:, 2], other[:, 2], atol=1e-3)


def test_training_step():
    """Gradients reach all but what cannot learn, through the hard choice too; the noise is drawn from the
    global generator."""
    model = perturbed(create()).train()
    for level in model.decoder.levels:
        level.attention.tau.data.fill_(-0.5)
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(model(*inputs(2, 2)))
    assert torch.equal(outputs[0].scales[0].similarity, outputs[1].scales[0].similarity)
    assert not torch.equal(outputs[0].scales[0].similarity, outputs[2].scales[0].similarity)
    hits = sum(scale.similarity[:, :, 0].mean() for scale in outputs[0].scales)
    (outputs[0].logits.square().mean() + hits).backward()
    still = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    for name in ("tau", "query.weight", "key.weight", "value.weight"):
        assert not any(f"decoder.levels.{i}.attention.{name}" in still for i in range(3)), name
    assert not any(name.startswith(("bcsm.", "head.", "in_proj.", "visual.", "audio.")) for name in still)


@pytest.mark.parametrize(
    "option, value, named",
    [
        ("width", 48, "multiple of 32"),
        ("width", 32, "from 64"),
        ("layers", 0, "layers is 0"),
        ("upsamplings", 5, "upsamplings is 5"),
        ("size", 16, "size is 16"),
        ("publised", True, "did you mean 'published'"),
    ],
)
def test_what_is_no_configuration(option, value, named):
    with pytest.raises(ValueError, match=named):
        create(**{option: value})


def test_its_checkpoint_is_for_the_authors_encoders():
    with pytest.raises(ValueError, match="visual='resnet50'"):
        create().load_published({"audio_proj.weight": torch.zeros(1)})


# --- the published model ---


@pytest.mark.slow
def test_published_checkpoint_and_every_probe(monkeypatch):
    fixture = parity.load("selm_r50.json")
    tensors = parity.state_dict(fixture["state_dict"], fixture["scale"])
    model = parity.create_published("selm", published=True)
    report = model.load_published(tensors)
    assert sorted(report.dead) == sorted(fixture["dead"]) and not report.unexpected and not report.absent
    assert sorted(report.loaded + report.dead) == sorted(tensors)
    unused = sum(p.numel() for module in model.published_dead().values() for p in module.parameters())
    total = sum(p.numel() for p in model.parameters()) + unused
    assert total / 1e6 + VGGISH_MILLION == pytest.approx(187.13, abs=0.1)

    places = {"layer1": model.visual.stages[0], "bcsm": model.bcsm}
    for i in range(4):
        places[f"dam{i + 1}"], places[f"proj{i + 1}"] = model.dam[i], model.in_proj[i]
    for i, level in enumerate(model.decoder.levels):
        places[f"level{i}"] = level
    seen = parity.record(places)
    calls = iter(range(3))

    def sine(scores):
        u = 0.5 + 0.45 * torch.sin(0.37 * torch.arange(scores.numel(), dtype=torch.double) + next(calls))
        return -(-u.log()).log().to(scores.dtype).reshape(scores.shape)

    found = {}
    for prefix, noise in (("", torch.zeros_like), ("noise_", sine)):
        monkeypatch.setattr(selm_decoder, "gumbel_noise", noise)
        with torch.inference_mode():
            probes = {"logits": model(*parity.clip()).logits[0]}
        for name, value in seen.items():
            if name.startswith("dam"):
                probes[name], probes[f"{name}_audio"] = value
            elif name.startswith("level"):
                i = int(name[-1])
                probes[f"fuse{i}"], probes[f"tokens{i + 1}"], hits = value
                probes[f"hit{i + 1}"] = hits[:, 1]
            elif name == "bcsm":
                maps, audio = value
                probes |= {"bcsm_x1": maps[0], "bcsm_x4": maps[3], "bcsm_audio": audio[..., None]}
            else:
                probes[name] = value
        found |= {f"{prefix}{name}": value for name, value in probes.items()}
    assert len(fixture["outputs"]) == 25
    for name, probe in fixture["outputs"].items():
        parity.assert_matches(found[name], probe, name)


@pytest.mark.slow
def test_cost():
    with FlopCounterMode(display=False) as flops, torch.device("meta"), torch.inference_mode():
        model = parity.create_published("selm", published=True)
        model(torch.empty(1, 1, 3, 224, 224), torch.empty(1, 1, 1, 1, 128))
    gmacs = flops.get_total_flops() / 2e9 + VGGISH_GMACS
    assert gmacs == pytest.approx(60.0, rel=0.02)
    assert 5 * gmacs == pytest.approx(300.0, rel=0.02), "frame by frame, but for the scan"


def test_names_of_the_checkpoint_for_ms3():
    """It is trained at 448 px with one upsampling less in the head: other shapes, and other numbers in the
    names."""
    with torch.device("meta"):
        model = parity.create_published("selm", size=448, upsamplings=1)
        names, state = model.published_names(), model.state_dict()
    assert names["head.up.0.0.weight"] == "decoder.proj.vis.1.0.weight"
    assert names["head.out.bias"] == "decoder.proj.vis.2.bias"
    assert [state[f"decoder.levels.{i}.position"].shape[0] for i in range(3)] == [28**2, 56**2, 112**2]
