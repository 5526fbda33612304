"""AVESFormer: one key makes cross-attention a bias, prompts make it attention, and only the last stages of
the decoder are transformers."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.tiny import inputs
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import lightavseg_core as lav
from lightavseg_core.models.avesformer import AVESFormer, PromptQueryGenerator, TransformerBlock


def create(**options):
    torch.manual_seed(0)
    return lav.create_model("avesformer", preset="tiny", **{"width": 16, "prompts": 4, **options}).eval()


@pytest.fixture(scope="module")
def model():
    return create()


# --- attention dissipation, and prompts against it ---


@torch.inference_mode()
def test_one_key_is_a_bias():
    """Without prompts the cross-attention adds W_o (W_v A + b_v) + b_o everywhere: replaced by that bias, the
    model is the same."""
    model, (frames, log_mel) = create(prompts=0), inputs(2, 2)
    plain = model(frames, log_mel).logits
    attention = model.decoder[-1].cross_attn
    audio = model.audio_projection(model.audio(log_mel.flatten(0, 1)))                                   # (B*T, D)
    bias = attention.value(audio) @ attention.out.weight.T + attention.out.bias
    seen = []
    attention.register_forward_hook(lambda _, given, result: seen.append(result) or bias[:, None].expand_as(result))
    assert torch.allclose(model(frames, log_mel).logits, plain, atol=1e-5)
    assert torch.allclose(seen[0], bias[:, None].expand_as(seen[0]), atol=1e-6) and seen[0].shape[1] == 64 and bias.abs().max() > 0.1


@pytest.mark.parametrize("prompts, equal, learns", [(0, False, False), (1, False, False), (4, True, False), (2, False, True), (4, False, True)])
def test_query_and_key_learn_only_where_keys_differ(prompts, equal, learns):
    model = create(prompts=prompts).double()
    if equal:
        nn.init.ones_(model.generator.prompts)
    frames, log_mel = (x.double() for x in inputs(1, 2))
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel recomputes, and rounds, the softmax
        model(frames, log_mel).logits.square().sum().backward()
    attention = model.decoder[-1].cross_attn
    query, key, value = (linear.weight.grad.abs().max().item() for linear in (attention.query, attention.key, attention.value))
    assert value > 0
    if learns:
        assert min(query, key) > 1e-5 * value
    else:
        assert query == key == 0 if not equal else max(query, key) < 1e-12 * value
    without = {name for name, p in model.named_parameters() if not name.startswith(("visual.", "audio.")) and not p.grad.abs().max() > 1e-9 * value}
    # A key's bias adds the same to all scores of a query: softmax does not see it, here or in any
    # transformer.
    inert = {"cross_attn.query.weight", "cross_attn.query.bias", "cross_attn.key.weight", "norm2.weight", "norm2.bias"} if not learns else set()
    assert without == {f"decoder.2.{name}" for name in inert | {"self_attn.key.bias", "cross_attn.key.bias"}}


@torch.no_grad()
def test_keys_of_all_seconds():
    """Each frame has the keys of its clip, second by second, with its own marked; for a clip of one second
    that is its own keys, marked."""
    model = create(prompts=3, seconds=True)
    model.now += 1.0
    sound = torch.randn(4, 3, 16)                                              # 2 clips of 2 seconds
    keys = model.all_seconds(sound, seconds=2)
    assert keys.shape == (4, 6, 16)
    for clip in range(2):
        for frame in range(2):
            for second in range(2):
                expected = sound[2 * clip + second] + (second == frame)
                assert torch.equal(keys[2 * clip + frame, 3 * second:3 * second + 3], expected)
    frames, log_mel = inputs(2, 2)
    plain = model(frames, log_mel).logits
    log_mel[0, 1] += 1.0
    changed = (model(frames, log_mel).logits - plain).abs().amax((2, 3, 4))
    assert (changed[0] > 1e-6).all() and (changed[1] == 0).all(), "every frame of a clip hears all its seconds, and no other clip"


@torch.no_grad()
@pytest.mark.parametrize("bare", [True, False])
def test_the_bare_sum_would_be_a_bias_again(bare):
    """Softmax does not see what all keys share: with tokens A + p_k two sounds differ by one vector, and each
    position attends as in silence."""
    torch.manual_seed(0)
    generator, block, x = PromptQueryGenerator(16, prompts=4).double(), TransformerBlock(16).double(), torch.randn(1, 30, 16).double()
    if bare:
        nn.init.zeros_(generator.ffn[-1].weight)
        nn.init.zeros_(generator.ffn[-1].bias)
    one, other = (block.cross_attn(x, generator(torch.randn(1, 16).double())) for _ in range(2))
    difference = one - other
    assert difference.abs().max() > 0.1
    assert torch.allclose(difference, difference[:, :1].expand_as(difference), atol=1e-12) == bare
    spread = one - one.mean(1, keepdim=True)
    assert spread.abs().max() > 1e-3, "several keys: positions get different vectors"


@torch.no_grad()
def test_generator():
    generator, audio = PromptQueryGenerator(16, prompts=3), torch.randn(2, 16)
    tokens = generator(audio)
    assert tokens.shape == (2, 3, 16)
    for frame in range(2):
        for k in range(3):
            token = audio[frame] + generator.prompts[k]
            hidden = F.gelu(generator.ffn[0].weight @ F.layer_norm(token, (16,)) + generator.ffn[0].bias)
            assert torch.allclose(tokens[frame, k], token + generator.ffn[2].weight @ hidden + generator.ffn[2].bias, atol=1e-5)


# --- early focus ---


@torch.no_grad()
def test_transformer_block_by_loops():
    """Each position asks all positions, then all tokens, head by head."""
    torch.manual_seed(0)
    block, x, sound = TransformerBlock(16).double(), torch.randn(2, 16, 3, 5).double(), torch.randn(2, 4, 16).double()
    found = block(x, sound)

    def attend(module, query, tokens):
        gathered = torch.empty(16, dtype=torch.double)
        for head in range(8):
            part = slice(2 * head, 2 * head + 2)
            scores = torch.stack([module.query(query)[part] @ module.key(token)[part] / math.sqrt(2) for token in tokens])
            gathered[part] = sum(weight * module.value(token)[part] for weight, token in zip(scores.softmax(0), tokens))
        return module.out(gathered)

    for frame in range(2):
        pixels = x[frame].flatten(1).T
        normed = block.norm1(pixels)
        for place, pixel in enumerate(pixels):
            pixel = pixel + attend(block.self_attn, normed[place], normed)
            pixel = pixel + attend(block.cross_attn, block.norm2(pixel), sound[frame])
            pixel = pixel + block.ffn(block.norm3(pixel))
            assert torch.allclose(found[frame, :, place // 5, place % 5], pixel, rtol=1e-9)


@pytest.mark.parametrize("kind, reach", [("c", 9), ("t", 49)])
def test_a_convolution_looks_at_neighbours_and_attention_at_all(kind, reach):
    stage, x = create(decoder=kind + "tt").decoder[0], torch.randn(1, 16, 7, 7, requires_grad=True)
    (stage(x) if kind == "c" else stage(x, torch.randn(1, 4, 16)))[0, :, 3, 3].sum().backward()
    assert (x.grad[0].abs().sum(0) > 0).sum() == reach


@torch.inference_mode()
@pytest.mark.parametrize("decoder", ["cct", "ctt", "ttt", "tcc"])
def test_only_transformer_stages_hear(decoder):
    model, (frames, log_mel) = create(decoder=decoder), inputs(1, 2)
    assert [isinstance(stage, TransformerBlock) for stage in model.decoder] == [kind == "t" for kind in decoder]
    one, other = (model(frames, sound, return_scales=True) for sound in (log_mel, -log_mel))
    same = [torch.equal(a.visual, b.visual) for a, b in zip(one.scales, other.scales)]
    assert same == [i < decoder.index("t") for i in range(3)] and not torch.equal(one.logits, other.logits)
    assert all(not torch.equal(a.audio, b.audio) for a, b in zip(one.scales, other.scales))


def test_it_costs_less_than_avsegformer():
    """On ResNet-50 and VGGish, frames of 224 px. AVSegFormer, its authors' code: 150.90M parameters, 22.06M
    of them never run; 41.8 GMACs."""
    model = lav.profiling.skeleton("avesformer", visual="resnet50", audio="vggish")
    million = {part: count.total / 1e6 for part, count in lav.profiling.parameters(model).items()}
    assert sum(million.values()) < 0.8 * (150.90 - 22.06) and million["fusion"] + million["decoder"] < 5
    assert lav.profiling.macs(model, 224).total_macs < 41.8e9 / 4


def test_early_convolutions_cost_less():
    models = [lav.profiling.skeleton("avesformer", preset="tiny", decoder=decoder) for decoder in ("cct", "ttt")]
    macs, parameters = [lav.profiling.macs(m, 128).total_macs for m in models], [sum(p.numel() for p in m.parameters()) for m in models]
    assert macs == sorted(set(macs)) and parameters == sorted(set(parameters))


# --- sizes, frames, saving, training ---


@torch.inference_mode()
@pytest.mark.parametrize("visual", ["seaformer_t", "resnet50"])
def test_any_size(visual):
    model = create(visual=visual, num_classes=3)
    for height, width, clips, seconds in ((32, 32, 1, 1), (33, 47, 1, 1), (64, 100, 2, 1), (40, 65, 1, 3)):
        output = model(*inputs(clips, seconds, height, width), return_scales=True)
        assert output.logits.shape == (clips, seconds, 3, height, width) and output.logits.isfinite().all()
        assert len(output.scales) == 3
        for scale, stride in zip(output.scales, (32, 16, 8)):  # coarse to fine
            assert scale.visual.shape == (clips, seconds, 16, -(-height // stride), -(-width // stride))
            assert scale.audio.shape == (clips, seconds, 16)
            assert torch.allclose(scale.similarity, F.cosine_similarity(scale.visual, scale.audio[..., None, None], dim=2), atol=1e-5)
    assert model(*inputs()).scales is None


@torch.inference_mode()
def test_frames_do_not_know_of_each_other(model):
    frames, log_mel = inputs(2, 3)
    together = model(frames, log_mel).logits
    alone = torch.stack([torch.cat([model(frames[b:b + 1, t:t + 1], log_mel[b:b + 1, t:t + 1]).logits[0] for t in range(3)]) for b in range(2)])
    assert torch.allclose(together, alone, atol=1e-4) and not torch.allclose(together[0, 0], together[1, 2], atol=1e-2)


@torch.inference_mode()
@pytest.mark.parametrize("prompts", [0, 4])
def test_saving(prompts, tmp_path):
    model = create(prompts=prompts, decoder="ctt")
    model.save_pretrained(tmp_path)
    loaded, given = lav.load_model(tmp_path), inputs()
    assert isinstance(loaded, AVESFormer) and loaded.config == model.config and torch.equal(loaded(*given).logits, model(*given).logits)


@pytest.mark.slow
def test_export(model):
    frames, log_mel = inputs(1, 2)
    exported = torch.export.export(model, (frames, log_mel)).module()
    assert torch.allclose(exported(frames, log_mel).logits, model(frames, log_mel).logits, atol=1e-5)


@pytest.mark.parametrize("auxiliary", [AVESFormer.auxiliary, "alignment"])
def test_training_steps(auxiliary):
    model, given = create().train(), inputs(2, 2)
    mask = torch.zeros(2, 2, 64, 64, dtype=torch.long)
    mask[..., :32] = 1
    optimizer, losses = torch.optim.AdamW(model.parameters(), 1e-2), []
    for _ in range(6):
        loss, _ = lav.losses.total_loss(model(*given), mask, torch.ones(2, 2, dtype=torch.bool), auxiliary=auxiliary)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("option, value", [("width", 20), ("width", 0), ("prompts", -1), ("decoder", "ccc"), ("decoder", "ct"), ("decoder", "cxt"),
                                           ("decoder", "CCT")])
def test_options_that_cannot_be(option, value):
    with pytest.raises(ValueError, match=f"{option} is {value!r}; expected"):
        create(**{option: value})


def test_options_that_are_misspelled():
    with pytest.raises(ValueError, match="did you mean 'prompts'"):
        create(prompt=4)
    with pytest.raises(ValueError, match="option decoder of avesformer is 3; expected a value of type str"):
        create(decoder=3)
