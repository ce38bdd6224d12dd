"""Adapters against PEFT on transformers, bit for bit: names, values, forward, gradients, steps, both ways."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from biject.adapters.keys import tensors_of
from biject.adapters.state import adapters_of
from biject.config.adapter import LoraConfig
from biject.errors import ConfigError
from biject.families import families
from biject.nn.addresses import align
from biject.pretrained import PretrainedModel, load
from biject.verify.hf import quiet
from biject.verify.inputs import probe_cases, training_case
from parity.harness import compare_forward, hf_model, objective

Make = Callable[..., Path]
CELLS = [(name, head) for name, known in families().items() for head in known.heads]
MODES: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": "all-linear"},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "all-biases": {"bias": "all"},
    "own-biases": {"bias": "lora_only"},
    "patterns": {},
}
RATE, STEPS = 1e-2, 4


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def settings(ours: PretrainedModel, mode: str) -> LoraConfig:
    """`all-linear` is for heads that PEFT does not refuse it for, not for experts; patterns name modules."""
    values = dict(MODES[mode])
    if mode == "plain" and (ours.head_name in ("tokcls", "qa") or ours.family.slices):
        values = {}
    if mode == "patterns":
        from biject.adapters.names import module_names
        from biject.adapters.targets import _DEFAULTS

        last = _DEFAULTS[ours.family.model_type][-1]
        first = next(name for name in module_names(ours) if name.endswith(last))
        values = {"rank_pattern": {first: 2}, "alpha_pattern": {last: 5}}
    return LoraConfig(r=4, lora_alpha=16, lora_dropout=0.1, init_lora_weights=False, **values)


def both(folder: Path, tmp_path: Path, mode: str, **options: Any) -> tuple[PretrainedModel, Any]:
    """Ours with a random adapter, and HF's with the same by PEFT, through our file."""
    import peft

    ours = load(folder, **{"layout": "padded", **options})
    theirs = hf_model(folder, ours)
    align(ours)
    align(theirs)
    torch.manual_seed(0)
    ours.add_adapter(settings(ours, mode))
    ours.save_adapter(tmp_path / "adapter")
    return ours, peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter", is_trainable=True).eval()


def trained(ours: PretrainedModel) -> dict[str, torch.Tensor]:
    """What training changes, by PEFT's names."""
    found = tensors_of(ours, adapters_of(ours).adapters["default"])
    copies = (".original_module.", ".modules_to_save.", ".base_layer.weight")
    return {name: tensor for name, tensor in found.items() if not any(part in name for part in copies)}


def theirs_by_name(model: Any) -> dict[str, torch.nn.Parameter]:
    named = model.named_parameters(remove_duplicate=False)
    plain = {name.replace(".default", "").replace(".modules_to_save", ""): p for name, p in named}
    return plain | {name.removesuffix(".weight"): p for name, p in plain.items() if "magnitude" in name}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("model_type", "head"), CELLS)
def test_equals_peft(model_type: str, head: str, mode: str, reference: Make, tmp_path: Path) -> None:
    folder = reference(model_type, head)
    ours, theirs = both(folder, tmp_path, mode)
    theirs.save_pretrained(tmp_path / "peft")
    mine, other = (load_file(tmp_path / one / "adapter_model.safetensors") for one in ("adapter", "peft"))
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    config = json.loads((folder / "config.json").read_text())
    inner = theirs.base_model.model  # PEFT's question answerer loses token_type_ids on the way
    for layout in ("padded", "packed"):
        ours.planner.layout = layout
        for case in probe_cases(config, max_length=40)[: 4 if layout == "padded" else 3]:
            if layout == "padded":
                assert compare_forward(ours, inner, case) == [], case.name
            else:
                _compare_packed(ours, inner, case)
    ours.planner.layout = "padded"
    batches = [training_case(config, head, seed=seed).inputs for seed in range(STEPS)]
    for model in (ours, inner):
        run = model if model is ours else theirs
        parameters = list(trained(ours).values()) if model is ours else _in_order(ours, theirs)
        _steps(model, run, parameters, batches)
    found = theirs_by_name(theirs)
    wrong = [name for name, tensor in trained(ours).items() if not torch.equal(tensor, found[name])]
    assert wrong == []


def _in_order(ours: PretrainedModel, theirs: Any) -> list[torch.Tensor]:
    found = theirs_by_name(theirs)
    return [found[name] for name in trained(ours)]


def _steps(model: Any, run: Any, parameters: list[torch.Tensor], batches: list[Any]) -> None:
    unique = list({id(p): p for p in parameters}.values())
    assert all(p.requires_grad for p in unique)
    assert {id(p) for p in run.parameters() if p.requires_grad} == {id(p) for p in unique}
    optimizer = torch.optim.AdamW(unique, lr=RATE)
    torch.manual_seed(3)
    run.train()
    for batch in batches:
        optimizer.zero_grad()
        objective(model(**batch)).backward()
        optimizer.step()
    run.eval()


def _compare_packed(ours: PretrainedModel, theirs: Any, case: Any) -> None:
    mask = case.inputs.get("attention_mask")
    with torch.no_grad():
        mine, other = ours(**case.inputs), theirs(**case.inputs)
    for key in mine:
        a, b = mine[key], other[key]
        if mask is not None and a.shape[:2] == mask.shape:
            a, b = a[mask.bool()], b[mask.bool()]
        assert torch.equal(a, b), (case.name, key)


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama", "modernbert", "gemma2"])
def test_embeddings_and_the_linear_over_the_vocabulary(
    model_type: str, reference: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peft

    head = "mlm" if "mlm" in families()[model_type].heads else "causal"
    folder = reference(model_type, head)
    ours = load(folder, layout="padded")
    theirs = hf_model(folder, ours)
    align(ours)
    align(theirs)
    table = {
        "bert": "word_embeddings",
        "gpt2": "wte",
        "llama": "embed_tokens",
        "modernbert": "tok_embeddings",
        "gemma2": "embed_tokens",
    }
    output = "decoder" if head == "mlm" else "lm_head"
    for dora in (False, True):
        config = LoraConfig(
            r=4, init_lora_weights=False, target_modules=(table[model_type], output), use_dora=dora
        )
        torch.manual_seed(1)
        ours.add_adapter(config, f"one{dora}")
        target = tmp_path / str(dora)
        ours.save_adapter(target)
        other = peft.PeftModel.from_pretrained(hf_model(folder, ours), target).eval()
        align(other)
        other.save_pretrained(tmp_path / f"peft{dora}")
        mine, found = (load_file(p / "adapter_model.safetensors") for p in (target, tmp_path / f"peft{dora}"))
        assert mine.keys() == found.keys()
        for case in probe_cases(json.loads((folder / "config.json").read_text()), max_length=40)[:3]:
            assert compare_forward(ours, other.base_model.model, case) == [], case.name
        ours.delete_adapter(f"one{dora}")


@pytest.mark.parametrize("init", [True, "gaussian", "pissa", "olora"])
@pytest.mark.parametrize("model_type", ["bert", "llama"])
def test_initial_values_compute_the_base_and_peft_reads_them(
    model_type: str, init: Any, reference: Make, tmp_path: Path
) -> None:
    import peft

    folder = reference(model_type, "base")
    ours = load(folder, layout="padded")
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    plain = ours(ids).last_hidden_state
    torch.manual_seed(4)
    ours.add_adapter(LoraConfig(r=4, init_lora_weights=init))
    found = ours(ids).last_hidden_state
    assert torch.allclose(plain, found, atol=1e-4)  # PiSSA and OLoRA take a matrix apart: sums of float32
    with torch.no_grad():
        for parameter in ours.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01)
    ours.save_adapter(tmp_path / "a")
    theirs = peft.PeftModel.from_pretrained(hf_model(folder, load(folder)), tmp_path / "a").eval()
    again = load(folder, layout="padded", adapter=tmp_path / "a")
    for model in (ours, again, theirs):
        align(model)
    expected = ours(ids).last_hidden_state
    assert torch.equal(again(ids).last_hidden_state, expected)
    assert torch.equal(theirs(input_ids=ids).last_hidden_state, expected)
    with again.disable_adapter():
        align(again)
        assert torch.equal(again(ids).last_hidden_state, _aligned(folder)(ids).last_hidden_state)


def _aligned(folder: Path) -> PretrainedModel:
    model = load(folder, layout="padded")
    align(model)
    return model


@pytest.mark.parametrize("mode", ["plain", "dora", "all-biases", "rslora"])
@pytest.mark.parametrize(
    ("model_type", "head"),
    [("bert", "seqcls"), ("gpt2", "causal"), ("modernbert", "tokcls"), ("llama", "qa")],
)
def test_merged_as_peft_merges(
    model_type: str, head: str, mode: str, reference: Make, tmp_path: Path
) -> None:
    ours, theirs = both(reference(model_type, head), tmp_path, mode)
    ours.merge_adapter()
    merged = theirs.merge_and_unload()
    named = dict(merged.named_parameters(remove_duplicate=False))
    from biject.verify.compare import hf_names

    names = hf_names(ours, merged)
    assert all(names.values())
    wrong = [m for m, found in names.items() if not torch.equal(ours.get_parameter(m), named[found[0]])]
    assert wrong == []
    ours.save_pretrained(tmp_path / "merged")
    assert type(ours.layers[0].attn).__name__ == "Attention"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("model_type", "head"), [("bert", "seqcls"), ("llama", "causal"), ("gpt2", "causal")]
)
def test_half_bases_have_float32_adapters(
    model_type: str, head: str, dtype: torch.dtype, reference: Make, tmp_path: Path
) -> None:
    import peft

    folder = reference(model_type, head)
    ours = load(folder, layout="padded", dtype=dtype)
    theirs = hf_model(folder, ours, dtype=dtype)
    torch.manual_seed(0)
    ours.add_adapter(LoraConfig(r=4, init_lora_weights=False))
    ours.save_adapter(tmp_path / "a")
    other = peft.PeftModel.from_pretrained(theirs, tmp_path / "a").eval()
    assert {p.dtype for n, p in ours.named_parameters() if "lora" in n} == {torch.float32}
    for case in probe_cases(json.loads((folder / "config.json").read_text()), max_length=40)[:3]:
        assert compare_forward(ours, other.base_model.model, case) == [], case.name
    ours.merge_adapter()
    merged = dict(other.merge_and_unload().named_parameters(remove_duplicate=False))
    from biject.verify.compare import hf_names

    for memory, found in hf_names(ours, other.base_model.model).items():
        assert torch.equal(ours.get_parameter(memory), merged[found[0]]), memory


def test_pefts_own_files_come_in(reference: Make, tmp_path: Path) -> None:
    """Written by PEFT from its own model: with its defaults, its spelling of targets, and as `.bin`."""
    import peft

    folder = reference("roberta", "seqcls")
    theirs = hf_model(folder, load(folder))
    torch.manual_seed(0)
    config = peft.LoraConfig(task_type="SEQ_CLS", r=3, init_lora_weights=False, modules_to_save=["pooler"])
    config = peft.LoraConfig(task_type="SEQ_CLS", r=3, init_lora_weights=False)
    model = peft.get_peft_model(theirs, config).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    for kind, safe in (("safe", True), ("bin", False)):
        model.save_pretrained(tmp_path / kind, safe_serialization=safe)
        ours = load(tmp_path / kind, layout="padded")
        assert ours.head_name == "seqcls"
        align(ours)
        align(model)
        assert torch.equal(ours(ids).logits, model(input_ids=ids).logits)


def test_other_kinds_are_refused_by_name(reference: Make, tmp_path: Path) -> None:
    import peft

    folder = reference("bert", "base")
    kinds = {
        "IA3": peft.IA3Config(target_modules=["key"], feedforward_modules=[]),
        "PROMPT_TUNING": peft.PromptTuningConfig(num_virtual_tokens=3, task_type="FEATURE_EXTRACTION"),
        "VERA": peft.VeraConfig(target_modules=["query"]),
    }
    for kind, config in kinds.items():
        peft.get_peft_model(hf_model(folder, load(folder)), config).save_pretrained(tmp_path / kind)
        with pytest.raises(ConfigError, match=kind):
            load(tmp_path / kind)


@pytest.mark.parametrize(
    ("model_type", "head", "settings"),
    [
        ("bert", "seqcls", {}),
        ("bert", "seqcls", {"bias": "all"}),
        ("distilbert", "seqcls", {"target_modules": ["q_lin", "pre_classifier"]}),
        ("roberta", "tokcls", {"target_modules": "all-linear"}),  # PEFT's: the head, too
        ("llama", "qa", {"use_dora": True}),
        ("roberta", "seqcls", {"modules_to_save": ["classifier.out_proj"]}),
        ("roberta", "seqcls", {"modules_to_save": ["classifier"]}),
    ],
)
def test_a_head_that_is_frozen_with_the_base(
    model_type: str, head: str, settings: dict[str, Any], reference: Make, tmp_path: Path
) -> None:
    """Without a task PEFT trains only what is named: loaded, computed, and written so that PEFT reads it."""
    import peft

    folder = reference(model_type, head)
    plain = load(folder)
    torch.manual_seed(0)
    config = peft.LoraConfig(r=3, init_lora_weights=False, **settings)
    theirs = peft.get_peft_model(hf_model(folder, plain), config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01)
    theirs.save_pretrained(tmp_path / "peft")
    assert json.loads((tmp_path / "peft" / "adapter_config.json").read_text())["task_type"] is None
    ours = load(folder, layout="padded", adapter=tmp_path / "peft")
    ours.save_adapter(tmp_path / "ours")
    first, second = (load_file(tmp_path / one / "adapter_model.safetensors") for one in ("peft", "ours"))
    assert first.keys() <= second.keys() if "modules_to_save" in settings else first.keys() == second.keys()
    again = load(tmp_path / "ours", layout="padded")
    assert again.head_name == head
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of missing keys
        other = peft.PeftModel.from_pretrained(hf_model(folder, plain), tmp_path / "ours").eval()
    case = probe_cases(json.loads((folder / "config.json").read_text()), max_length=40)[0]
    for model in (ours, again, theirs, other):
        align(model)
    for mine in (ours, again):
        for model in (theirs, other):
            assert compare_forward(mine, model.base_model.model, case) == []
    head_trains = any(one.startswith("head.out") for one in adapters_of(ours).adapters["default"].saved)
    assert head_trains == ("modules_to_save" in settings)
