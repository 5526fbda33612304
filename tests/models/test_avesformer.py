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
from lightavseg_core.models.avesformer import PromptQueryGenerator, TransformerBlock


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
    audio = model.audio_projection(model.audio(log_mel.flatten(0, 1)))  # (B*T, D)
    bias = attention.value(audio) @ attention.out.weight.T + attention.out.bias
    seen = []

    def replace(module, given, result):
        seen.append(result)
        return bias[:, None].expand_as(result)

    attention.register_forward_hook(replace)
    assert torch.allclose(model(frames, log_mel).logits, plain, atol=1e-5)
    assert torch.allclose(seen[0], bias[:, None].expand_as(seen[0]), atol=1e-6)
    assert seen[0].shape[1] == 64 and bias.abs().max() > 0.1


@pytest.mark.parametrize(
    "prompts, equal, learns",
    [(0, False, False), (1, False, False), (4, True, False), (2, False, True), (4, False, True)],
)
def test_query_and_key_learn_only_where_keys_differ(prompts, equal, learns):
    model = create(prompts=prompts).double()
    if equal:
        nn.init.ones_(model.generator.prompts)
    frames, log_mel = (x.double() for x in inputs(1, 2))
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel recomputes, and rounds, the softmax
        model(frames, log_mel).logits.square().sum().backward()
    largest = {name: p.grad.abs().max().item() for name, p in model.named_parameters()}
    query, key, value = (largest[f"decoder.2.cross_attn.{name}.weight"] for name in ("query", "key", "value"))
    assert value > 0
    if learns:
        assert min(query, key) > 1e-5 * value
    else:
        assert query == key == 0 if not equal else max(query, key) < 1e-12 * value
    own = {name: most for name, most in largest.items() if not name.startswith(("visual.", "audio."))}
    # A key's bias adds the same to all scores of a query: softmax does not see it, here or in any
    # transformer.
    inert = {"self_attn.key.bias", "cross_attn.key.bias"}
    if not learns:
        inert |= {"cross_attn.query.weight", "cross_attn.query.bias", "cross_attn.key.weight"}
        inert |= {"norm2.weight", "norm2.bias"}
    without = {name for name, most in own.items() if not most > 1e-9 * value}
    assert without == {f"decoder.2.{name}" for name in inert}


@torch.no_grad()
def test_keys_of_all_seconds():
    """Each frame has the keys of its clip, second by second, with its own marked; for a clip of one second
    that is its own keys, marked."""
    model = create(prompts=3, seconds=True)
    model.now += 1.0
    sound = torch.randn(4, 3, 16)  # 2 clips of 2 seconds
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
    assert (changed[0] > 1e-6).all(), "every frame of a clip hears all its seconds"
    assert (changed[1] == 0).all(), "and no other clip"


@torch.no_grad()
@pytest.mark.parametrize("bare", [True, False])
def test_the_bare_sum_would_be_a_bias_again(bare):
    """Softmax does not see what all keys share: with tokens A + p_k two sounds differ by one vector, and each
    position attends as in silence."""
    torch.manual_seed(0)
    generator, block = PromptQueryGenerator(16, prompts=4).double(), TransformerBlock(16).double()
    x = torch.randn(1, 30, 16).double()
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
            widen, _, narrow = generator.ffn
            hidden = F.gelu(widen.weight @ F.layer_norm(token, (16,)) + widen.bias)
            assert torch.allclose(tokens[frame, k], token + narrow.weight @ hidden + narrow.bias, atol=1e-5)


# --- early focus ---


@torch.no_grad()
def test_transformer_block_by_loops():
    """Each position asks all positions, then all tokens, head by head."""
    torch.manual_seed(0)
    block = TransformerBlock(16).double()
    x, sound = torch.randn(2, 16, 3, 5).double(), torch.randn(2, 4, 16).double()
    found = block(x, sound)

    def attend(module, query, tokens):
        gathered = torch.empty(16, dtype=torch.double)
        for head in range(8):
            part = slice(2 * head, 2 * head + 2)
            asked = module.query(query)[part] / math.sqrt(2)
            weights = torch.stack([asked @ module.key(token)[part] for token in tokens]).softmax(0)
            gathered[part] = sum(w * module.value(token)[part] for w, token in zip(weights, tokens))
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
    kinds = "".join("t" if isinstance(stage, TransformerBlock) else "c" for stage in model.decoder)
    assert kinds == decoder
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


@pytest.mark.slow
def test_early_convolutions_cost_less():
    early = lav.profiling.skeleton("avesformer", preset="tiny", decoder="cct")
    full = lav.profiling.skeleton("avesformer", preset="tiny", decoder="ttt")
    assert lav.profiling.macs(early, 128).total_macs < lav.profiling.macs(full, 128).total_macs
    assert sum(p.numel() for p in early.parameters()) < sum(p.numel() for p in full.parameters())


# --- options ---


@torch.inference_mode()
@pytest.mark.slow
def test_saving(tmp_path):
    model = create(prompts=0, decoder="ctt")
    model.save_pretrained(tmp_path)
    loaded, given = lav.load_model(tmp_path), inputs()
    assert loaded.config == model.config and torch.equal(loaded(*given).logits, model(*given).logits)


@pytest.mark.parametrize(
    "option, value",
    [
        ("width", 20),
        ("width", 0),
        ("prompts", -1),
        ("decoder", "ccc"),
        ("decoder", "ct"),
        ("decoder", "cxt"),
        ("decoder", "CCT"),
    ],
)
@pytest.mark.slow
def test_options_that_cannot_be(option, value):
    with pytest.raises(ValueError, match=f"{option} is {value!r}; expected"):
        create(**{option: value})


def test_options_that_are_misspelled():
    with pytest.raises(ValueError, match="did you mean 'prompts'"):
        create(prompt=4)
    with pytest.raises(ValueError, match="option decoder of avesformer is 3; expected a value of type str"):
        create(decoder=3)
