"""What only decoders have: old files, long texts, last tokens, single queries. Bits against HF."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from biject.config.adapter import LoraConfig
from biject.errors import ConfigError, InputError
from biject.families import family, text_families
from biject.identify import identify
from biject.nn.rope_types import frequencies
from biject.nn.transformer import Transformer
from biject.pretrained import load
from biject.save import save_model
from biject.train.optim import no_decay_names
from biject.verify.inputs import Case, training_case
from parity.harness import compare_forward, compare_gradients, differences, hf_model, pair

Make = Callable[..., Path]
DECODERS = [name for name, known in text_families().items() if "causal" in known.heads]


def ids_of(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(5, 90, shape, generator=torch.Generator().manual_seed(seed))


def test_gpt2_as_openai_stored_it(reference: Make, tmp_path: Path) -> None:
    """No `transformer.`, a triangular mask and a number for masked scores in every layer."""
    folder = reference("gpt2", "causal")
    path = folder / "model.safetensors"
    old = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    for i in range(2):
        old[f"h.{i}.attn.bias"] = torch.ones(1, 1, 64, 64, dtype=torch.bool).tril()
        old[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(old, path, metadata={"format": "pt"})
    ours, theirs = pair(folder)
    assert ours.provenance.plan.unknown == ()
    assert len(ours.provenance.plan.passthrough) == 4
    assert compare_forward(ours, theirs, Case(name="", inputs={"input_ids": ids_of(2, 9)})) == []
    saved = save_model(ours, tmp_path / "export")
    assert saved.changes == ()
    assert (tmp_path / "export" / "model.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("length", [16, 17, 40, 100, 150])
@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "factor": 2.0},
        {"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.3, 1.7], "long_factor": [2.0, 2.5, 3.0, 4.0],
         "original_max_position_embeddings": 16},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    ],
    ids=lambda rope: rope["rope_type"],
)  # fmt: skip
def test_texts_longer_than_the_table(rope: dict[str, Any], length: int, reference: Make) -> None:
    """HF's `dynamic` remembers the longest text, so each length has a fresh model of its own."""
    folder = reference("llama", "causal", overrides={"rope_parameters": {"rope_theta": 10000.0, **rope}})
    ours, theirs = pair(folder)
    assert compare_forward(ours, theirs, Case(name="", inputs={"input_ids": ids_of(2, length)})) == []


def test_dynamic_rope_does_not_depend_on_earlier_calls(reference: Make) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    ours = load(reference("llama", "base", overrides={"rope_parameters": rope}))
    short = ours(ids_of(1, 70)).last_hidden_state
    ours(ids_of(1, 150))
    assert torch.equal(ours(ids_of(1, 70)).last_hidden_state, short)


@pytest.mark.parametrize("model_type", DECODERS)
def test_the_last_token_decides_wherever_padding_is(model_type: str, reference: Make) -> None:
    ours, theirs = pair(reference(model_type, "seqcls", overrides={"num_labels": 3}))
    ids = ids_of(4, 9)
    ids[0, 6:] = 0
    ids[1, :4] = 0
    ids[2, 4] = 0  # a padding token inside of the text
    ids[3] = 0
    for mask in (None, (ids != 0).long()):
        inputs = {"input_ids": ids} if mask is None else {"input_ids": ids, "attention_mask": mask}
        assert compare_forward(ours, theirs, Case(name="", inputs=inputs)) == []


@pytest.mark.parametrize("model_type", DECODERS)
def test_several_texts_need_a_padding_token(model_type: str, reference: Make) -> None:
    ours, theirs = pair(reference(model_type, "seqcls", overrides={"pad_token_id": None}))
    assert compare_forward(ours, theirs, Case(name="", inputs={"input_ids": ids_of(1, 9)})) == []
    with pytest.raises(InputError, match="`pad_token_id`"):
        ours(ids_of(2, 9))
    with pytest.raises(ValueError, match="no padding token"):
        theirs(input_ids=ids_of(2, 9))


def test_padding_cannot_be_seen_in_embeddings(reference: Make) -> None:
    ours = load(reference("llama", "seqcls"))
    with pytest.warns(UserWarning, match="inputs_embeds"):
        ours(inputs_embeds=torch.randn(2, 5, 32))


@pytest.mark.parametrize("mask", [None, [[1], [1], [0]]])
@pytest.mark.parametrize("model_type", DECODERS)
def test_a_single_column(model_type: str, mask: list[list[int]] | None, reference: Make) -> None:
    """HF takes the queries of a group as rows of one then."""
    ours, theirs = pair(reference(model_type, "causal"))
    inputs = {"input_ids": ids_of(3, 1)} | ({} if mask is None else {"attention_mask": torch.tensor(mask)})
    assert compare_forward(ours, theirs, Case(name="", inputs=inputs)) == []


@pytest.mark.parametrize("model_type", DECODERS)
def test_checkpointed_layers(model_type: str, reference: Make) -> None:
    folder = reference(model_type, "causal")
    ours, theirs = pair(folder)
    case = training_case(json.loads((folder / "config.json").read_text()), "causal")
    ours.gradient_checkpointing = True
    assert compare_gradients(ours, theirs, case, train=False) == []
    theirs.gradient_checkpointing_enable()  # HF's layers then have no cache, which moves bits of their own
    assert compare_gradients(ours, theirs, case, train=True) == []


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("use_cache", [False, True])
@pytest.mark.parametrize("model_type", DECODERS)
def test_jumps_in_positions_part_texts(
    model_type: str, use_cache: bool, eager: bool, reference: Make
) -> None:
    """HF's rule: only where it keeps no cache, and no mask is given."""
    folder = reference(model_type, "causal", overrides={"use_cache": use_cache})
    ours, theirs = pair(folder)
    if eager:
        theirs = hf_model(folder, ours, attention="eager")
    positions = torch.tensor([[*range(9), *range(4)], [*range(3), *range(10)]])
    inputs = {"input_ids": ids_of(2, 13), "position_ids": positions}
    flags = {"output_attentions": True} if eager else {}
    with torch.no_grad():
        found = ours(**inputs, **flags)
        assert differences(found, theirs(**inputs, **flags)) == []
        masked = {**inputs, "attention_mask": torch.ones(2, 13, dtype=torch.long)}
        assert differences(ours(**masked, **flags), theirs(**masked, **flags)) == []
        apart = ours(inputs["input_ids"][:1, 9:], position_ids=positions[:1, 9:]).logits[0]
    assert torch.allclose(found.logits[0, 9:], apart, atol=1e-5) == (not use_cache)


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("model_type", DECODERS)
def test_jumps_in_positions_part_texts_in_training(
    model_type: str, checkpointed: bool, reference: Make
) -> None:
    """With dropout, where a packed layout would leave HF's masks out."""
    folder = reference(model_type, "causal", overrides={"use_cache": checkpointed})
    ours, theirs = pair(folder, layout="packed")
    if checkpointed:
        ours.gradient_checkpointing = True
        theirs.gradient_checkpointing_enable()
    ids, positions = ids_of(2, 13), torch.tensor([[*range(9), *range(4)], [*range(3), *range(10)]])
    case = Case(name="", inputs={"input_ids": ids, "labels": ids, "position_ids": positions})
    assert compare_gradients(ours, theirs, case, train=True) == []


def test_jumps_in_positions_part_texts_with_an_adapter(reference: Make) -> None:
    """LoRA's own dropout alone draws random numbers, too."""
    folder = reference("llama", "causal", overrides={"use_cache": False, "attention_dropout": 0.0})
    model = load(folder)
    model.add_adapter(LoraConfig(r=4, lora_dropout=1e-7))
    ids, positions = ids_of(1, 13), torch.tensor([[*range(9), *range(4)]])
    with torch.no_grad():
        apart = model(ids[:, 9:]).logits
        model.train()
        found = model(ids, position_ids=positions).logits[:, 9:]
    # Products of 13 and of 4 rows (found: 7e-7 apart); a text that sees the other one is off by 3.
    assert torch.allclose(found, apart, atol=1e-5)


@pytest.mark.parametrize("model_type", DECODERS)
def test_a_cache_that_is_switched_off_later(model_type: str, reference: Make) -> None:
    """As HF's Trainer does."""
    folder = reference(model_type, "causal")
    ours, theirs = pair(folder)
    case = training_case(json.loads((folder / "config.json").read_text()), "causal")
    positions = torch.tensor([[*range(9), *range(4)], [*range(3), *range(10)]])
    inputs = {"input_ids": ids_of(2, 13), "position_ids": positions}
    for use_cache in (False, True):
        ours.config.use_cache = theirs.config.use_cache = use_cache
        assert compare_gradients(ours, theirs, case, train=True) == []
        with torch.no_grad():
            assert differences(ours.eval()(**inputs), theirs.eval()(**inputs)) == []


@pytest.mark.parametrize("model_type", DECODERS)
def test_segments(model_type: str, reference: Make) -> None:
    """GPT-2 looks them up in the token table; the others have none."""
    ours, theirs = pair(reference(model_type, "base"))
    ids = ids_of(2, 9)
    with torch.no_grad():
        mine = ours(ids, token_type_ids=ids_of(2, 9, seed=1)).last_hidden_state
        plain = ours(ids).last_hidden_state
        if model_type == "gpt2":
            other = theirs(input_ids=ids, token_type_ids=ids_of(2, 9, seed=1)).last_hidden_state
            assert torch.equal(mine, other)
        assert torch.equal(mine, plain) == (model_type != "gpt2")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_upcast_scores_in_half_precision(dtype: torch.dtype, reference: Make) -> None:
    """`reorder_and_upcast_attn` acts under HF's `eager` only; so that is what is followed."""
    folder = reference("gpt2", "causal", overrides={"reorder_and_upcast_attn": True}, dtype=dtype)
    ours, theirs = pair(folder)
    assert theirs.config._attn_implementation == "eager"
    ids, mask = ids_of(2, 9), torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
    case = Case(name="", inputs={"input_ids": ids, "attention_mask": mask})
    assert compare_forward(ours, theirs, case) == []
    with torch.no_grad():
        a = ours(**case.inputs, output_attentions=True)
        b = theirs(**case.inputs, output_attentions=True)
        plain = hf_model(folder, ours, attention="sdpa")(**case.inputs)
    assert differences(a, b) == []
    assert not torch.equal(a.logits, plain.logits)  # the switch does something


@pytest.mark.parametrize("model_type", DECODERS)
def test_norms_do_not_decay(model_type: str, reference: Make) -> None:
    model = load(reference(model_type, "causal"))
    plain = no_decay_names(model)
    assert {name for name, _ in model.named_parameters() if "norm" in name} <= plain
    assert all("norm" in name or name.endswith("bias") for name in plain)


# Parameters of the published checkpoints, 124M, 355M, 774M, 1.5B (the paper's table 2 counts otherwise).
GPT2_SIZES = {
    "small": ({"n_embd": 768, "n_layer": 12, "n_head": 12}, 124_439_808),
    "medium": ({"n_embd": 1024, "n_layer": 24, "n_head": 16}, 354_823_168),
    "large": ({"n_embd": 1280, "n_layer": 36, "n_head": 20}, 774_030_080),
    "xl": ({"n_embd": 1600, "n_layer": 48, "n_head": 25}, 1_557_611_200),
}


@pytest.mark.parametrize("size", list(GPT2_SIZES))
def test_published_sizes_on_the_meta_device(size: str) -> None:
    sizes, count = GPT2_SIZES[size]
    known = family("gpt2")
    values = known.config.read(sizes)
    model = Transformer(known.build(values, "causal"))
    assert all(parameter.is_meta for parameter in model.parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    names = [spec.disk for spec in known.heads["causal"].specs(values) if not spec.tied_to]
    assert len(names) == len(list(model.parameters())) == 12 * sizes["n_layer"] + 4


LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}


@pytest.mark.parametrize(
    "change",
    [
        {"rope_theta": 1},
        {"rope_scaling": {**LONG, "original_max_position_embeddings": 1, "attention_factor": 1.5}},
        {"rope_scaling": {**LONG, "original_max_position_embeddings": 1, "factor": 1.0}},
    ],
)
def test_small_numbers_that_are_not_divided_by(change: dict[str, Any]) -> None:
    known = family("llama")
    rope = known.build(known.config.read({**known.tiny, **change}), "base").layers[0].attention.rope
    assert bool(frequencies(rope)[0].isfinite().all())


@pytest.mark.parametrize(
    ("model_type", "change", "named"),
    [
        ("llama", {"rope_parameters": {"rope_type": "axial"}}, "'axial'"),
        ("llama", {"rope_scaling": {"type": "mrope", "mrope_section": [2, 2]}}, "'mrope'"),
        ("llama", {"rope_scaling": {"type": "linear"}}, "`factor` is missing"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": "2"}}, "`factor`"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 0}}, "`factor`"),
        ("llama", {"rope_scaling": [1]}, "an object"),
        ("llama", {"rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [1]}}, "4 num"),
        ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "`low_freq_factor` is missing"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2}, "partial_rotary_factor": 0.5}, "partial"),
        ("llama", {"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "by layer type"),
        ("llama", {"rope_theta": 0}, "`rope_theta` should be a number above 0"),
        ("llama", {"rope_theta": 1, "rope_scaling": {"type": "yarn", "factor": 2.0}}, "should not be 1"),
        ("llama", {"rope_scaling": {"type": "yarn", "factor": 0}}, "`factor` should be a number above 0"),
        ("llama", {"rope_scaling": {**LONG, "short_factor": [0, 1, 1, 1]}}, "numbers above 0"),
        ("llama", {"rope_scaling": {**LONG, "original_max_position_embeddings": 1}}, "2 or more, found 1"),
        ("modernbert", {"local_rope_theta": 0}, "`rope_theta` should be a number above 0"),
        ("llama", {"head_dim": 7}, "even `head_dim`"),
        ("llama", {"num_key_value_heads": 3}, "`num_key_value_heads` 3"),
        ("llama", {"tie_last_hidden_states": False}, "`tie_last_hidden_states`"),
        ("mistral", {"sliding_window": 0}, "`sliding_window`"),
        ("qwen2", {"layer_types": ["sliding_attention"] * 2}, "`layer_types`"),
        ("qwen2", {"layer_types": ["full_attention"]}, "`layer_types`"),
        ("qwen3", {"layer_types": ["chunked_attention"] * 2}, "`layer_types`"),
        ("phi3", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "default and longrope"),
        ("phi3", {"partial_rotary_factor": 0.4}, "`partial_rotary_factor` 0.4"),
        ("phi3", {"partial_rotary_factor": 1.5}, "`partial_rotary_factor`"),
        ("smollm3", {"no_rope_layers": [1]}, "`no_rope_layers`"),
        ("smollm3", {"no_rope_layers": [1, 2, 0]}, "`no_rope_layers`"),
        ("gemma2", {"sliding_window": None}, "`sliding_window`"),
        ("gemma2", {"layer_types": ["sliding_attention", "chunked_attention"]}, "`layer_types`"),
        ("gemma2", {"attn_logit_softcapping": 0.0}, "above 0"),
        ("gemma2", {"query_pre_attn_scalar": 0}, "`query_pre_attn_scalar`"),
        ("gemma2", {"use_bidirectional_attention": True}, "`use_bidirectional_attention`"),
        ("gemma2", {"num_attention_heads": 6}, "`hidden_size` 32"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "`use_bidirectional_attention`"),
        ("gemma3_text", {"rope_parameters": {"full_attention": {"rope_type": "axial"}}}, "'axial'"),
        ("gemma3_text", {"rope_parameters": [1]}, "by kind of attention"),
        ("gpt2", {"add_cross_attention": True}, "`add_cross_attention`"),
        ("gpt2", {"hidden_size": 64}, "`n_embd`"),
        ("gpt2", {"pad_token_id": 384}, "`pad_token_id`"),
    ],
)  # fmt: skip
def test_what_cannot_be_computed_is_said(model_type: str, change: dict[str, Any], named: str) -> None:
    hf = {**family(model_type).tiny, "model_type": model_type, **change}
    with pytest.raises(ConfigError, match=named) as caught:
        identify(hf, [], same=lambda a, b: True)
    assert "config.json" in str(caught.value)
