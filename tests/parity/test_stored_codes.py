"""Checkpoints that hold bitsandbytes' codes, as `transformers` writes them: read to the bit, not trusted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import biject
from biject.config.adapter import LoraConfig
from biject.errors import BijectError, ConfigError, WeightsError
from biject.inspection import inspect_folder
from biject.nn.quantised import FourBitLinear, QuantisedLinear
from biject.pretrained import load
from biject.quantize import quantised_linears
from biject.verify.hf import quiet
from biject.verify.inputs import probe_cases
from biject.verify.reference import make_reference
from parity.harness import compare_forward, equal
from parity.quantised import METHODS, hf_quantised

Reference = Callable[..., Path]
MODELS = [("llama", "causal"), ("gpt2", "causal"), ("bert", "seqcls"), ("modernbert", "mlm")]


def written(
    source: Path, folder: Path, method: str, double_quant: bool | None, **options: Any
) -> tuple[Path, Any]:
    """A folder with HF's codes, and HF's model of it, loaded anew."""
    import bitsandbytes
    import transformers

    ours = load(source)
    with quiet():
        hf_quantised(source, ours, method, double_quant, **options).save_pretrained(folder)
        kind = getattr(transformers, ours.family.heads[ours.head_name].hf_class)
        model = kind.from_pretrained(folder).eval()
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return folder, model


@pytest.mark.parametrize(("method", "double_quant"), METHODS)
@pytest.mark.parametrize(("model_type", "head"), MODELS)
def test_read_to_the_bit(
    model_type: str, head: str, method: str, double_quant: bool | None, reference: Reference, tmp_path: Path
) -> None:
    source = reference(model_type, head)
    folder, theirs = written(source, tmp_path / "codes", method, double_quant)
    ours = load(folder, layout="padded")
    made = load(source, layout="padded", quantization=method, double_quant=double_quant)
    assert ours.quantization == made.quantization
    for (name, one), (_, other) in zip(quantised_linears(ours), quantised_linears(made), strict=True):
        assert equal(one.weight, other.weight), name
        buffers = dict(other.named_buffers())
        assert [equal(scale, buffers[key]) for key, scale in one.named_buffers()] == [True] * len(buffers)
        assert one.dtype is other.dtype
    for case in probe_cases(ours.hf_config, max_length=40)[:4]:
        assert compare_forward(ours, theirs, case) == [], case.name
    found = inspect_folder(folder)
    assert found.usable
    assert found.num_parameters == inspect_folder(source).num_parameters
    assert any(f"hold codes of bitsandbytes, {method}" in line for line in found.oddities)


def test_in_other_dtypes(reference: Reference, tmp_path: Path) -> None:
    source = reference("llama", "causal", dtype=torch.bfloat16)
    options = {"bnb_4bit_compute_dtype": torch.bfloat16, "dtype": torch.bfloat16}
    folder, theirs = written(source, tmp_path / "codes", "nf4", True, **options)
    ours = load(folder, layout="padded")
    assert ours.dtype is torch.bfloat16
    assert ours.quantization is not None
    assert ours.quantization.compute_dtype == "bfloat16"
    with torch.no_grad():
        ids = torch.randint(5, 300, (3, 17))
        assert torch.equal(ours(ids).logits, theirs(ids).logits)
    wide = load(folder, quantization="nf4", compute_dtype="float32")
    linear = wide.layers[0].mlp.up_proj
    assert isinstance(linear, FourBitLinear)
    assert linear.compute_dtype is torch.float32


def test_an_adapter_on_it(reference: Reference, tmp_path: Path) -> None:
    """The head that it trains whole is what its codes stand for."""
    folder, _ = written(reference("bert", "seqcls"), tmp_path / "codes", "nf4", True)
    ours = load(folder)
    expected = ours.head.out.dequantized_weight()
    torch.manual_seed(0)
    ours.add_adapter(LoraConfig(r=4, init_lora_weights=False))
    assert torch.equal(ours.head.out.weight, expected)
    ids = torch.tensor([[5, 6, 7]])
    ours.save_adapter(tmp_path / "adapter")
    again = biject.AutoModelForSequenceClassification.from_pretrained(tmp_path / "adapter")
    assert isinstance(again.layers[0].attn.q_proj, QuantisedLinear)
    assert torch.equal(again(ids).logits, ours(ids).logits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantization": "fp4"}, "quantization='fp4': the checkpoint holds codes already, with 'nf4'"),
        ({"quantization": "nf4", "double_quant": False}, "double_quant=False: the checkpoint holds codes"),
        ({"quantization": "nf4", "skip_modules": ["q_proj"]}, "skip_modules"),
        ({"dtype": torch.float64}, "parameters should be float32, bfloat16, float16"),
    ],
)
def test_what_contradicts_it(options: dict[str, Any], message: str, nf4: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load(nf4, **options)


@pytest.fixture(scope="module")
def nf4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("nf4")
    return written(make_reference("llama", "causal", base / "source"), base / "codes", "nf4", True)[0]


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("int8")
    return written(make_reference("llama", "causal", base / "source"), base / "codes", "int8", None)[0]


WEIGHT = "model.layers.0.mlp.down_proj.weight"
STATE = f"{WEIGHT}.quant_state.bitsandbytes__nf4"


def text(**changes: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """The JSON beside a matrix with other values."""

    def change(tensor: torch.Tensor) -> torch.Tensor:
        state = {**json.loads(bytes(tensor.tolist())), **changes}
        return torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)

    return change


def without_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[:-1].clone()


FOUR: list[tuple[str, Any, str]] = [
    (WEIGHT, without_last, r"codes should be uint8 \(1024, 1\) by config.json, found uint8 \(1023, 1\)"),
    (WEIGHT, lambda t: t.to(torch.int8), "codes should be uint8"),
    (f"{WEIGHT}.absmax", without_last, "absmax should be uint8"),
    (f"{WEIGHT}.absmax", lambda t: t.float(), "absmax should be uint8"),
    (f"{WEIGHT}.absmax", None, "absmax should be .* found nothing"),
    (f"{WEIGHT}.quant_map", without_last, "quant_map should be"),
    (f"{WEIGHT}.nested_absmax", lambda t: t[:0].clone(), "nested_absmax should be"),
    (f"{WEIGHT}.nested_quant_map", without_last, "nested_quant_map should be"),
    (STATE, None, "`quant_state` is missing"),
    (STATE, lambda t: t[:9].clone(), "must be one JSON object"),
    (STATE, lambda t: torch.zeros(5000, dtype=torch.uint8), "is no text"),
    (STATE, text(blocksize=4096), "`blocksize` should be 64, found 4096"),
    (STATE, text(nested_blocksize=8), "`nested_blocksize` should be 256"),
    (STATE, text(shape=[64, 64]), r"`shape` should be \[32, 64\], found \[64, 64\]"),
    (STATE, text(quant_type="fp4"), "`quant_type` should be 'nf4', found 'fp4'"),
    (STATE, text(dtype="int8"), "`dtype` should be a floating one"),
    (STATE, text(nested_offset="much"), "`nested_offset` should be a number"),
]


@pytest.mark.attack("codes or scales of another shape, which kernels would read beyond")
@pytest.mark.parametrize(("name", "change", "message"), FOUR)
def test_four_bits_that_do_not_fit(name: str, change: Any, message: str, nf4: Path, tmp_path: Path) -> None:
    with pytest.raises(BijectError, match=message):
        load(tampered(nf4, tmp_path, name, change))


EIGHT: list[tuple[str, Any, str]] = [
    (WEIGHT, lambda t: t.t().contiguous(), r"codes should be int8 \(32, 64\)"),
    (WEIGHT.replace("weight", "SCB"), without_last, r"SCB should be float32 \(32,\)"),
    (WEIGHT.replace("weight", "SCB"), None, "SCB should be"),
    (f"{WEIGHT}_format", lambda t: t + 1, "not in rows"),
]


@pytest.mark.attack("codes or scales of another shape, which kernels would read beyond")
@pytest.mark.parametrize(("name", "change", "message"), EIGHT)
def test_eight_bits_that_do_not_fit(name: str, change: Any, message: str, int8: Path, tmp_path: Path) -> None:
    with pytest.raises(BijectError, match=message):
        load(tampered(int8, tmp_path, name, change))


def tampered(folder: Path, tmp_path: Path, name: str, change: Any) -> Path:
    """A copy in which a tensor is another, or gone."""
    copied = tmp_path / "tampered"
    shutil.copytree(folder, copied)
    tensors = load_file(copied / "model.safetensors")
    old = tensors.pop(name)
    if change is not None:
        tensors[name] = change(old)
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    return copied


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quant_method": "gptq"}, "quantised by 'gptq', which Biject does not compute"),
        ({"quant_method": 7}, "a method that it does not name"),
        ({"bnb_4bit_quant_type": "nf5"}, "`bnb_4bit_quant_type` is 'nf5'"),
        ({"bnb_4bit_quant_storage": "bfloat16"}, "`bnb_4bit_quant_storage` is 'bfloat16'"),
        ({"bnb_4bit_compute_dtype": ["float32"]}, "`bnb_4bit_compute_dtype` is"),
        ({"llm_int8_has_fp16_weight": True}, "`llm_int8_has_fp16_weight` is True"),
        ({"llm_int8_threshold": "high"}, "`llm_int8_threshold` is 'high'"),
        ({"bnb_4bit_use_double_quant": False}, "absmax should be float32"),
        ({"load_in_4bit": False, "load_in_8bit": True}, "codes should be int8"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, Any], message: str, nf4: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(nf4, copied)
    config = json.loads((copied / "config.json").read_text())
    config["quantization_config"] |= changes
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(BijectError, match=message):
        load(copied)


def test_a_key_without_codes_and_codes_without_the_key(nf4: Path, tmp_path: Path) -> None:
    for name, source in (("key", nf4.parent / "source"), ("none", nf4)):
        copied = tmp_path / name
        shutil.copytree(source, copied)
        config = json.loads((nf4 / "config.json").read_text())
        if name == "none":
            del config["quantization_config"]
        (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="no tensor holds codes or scales"):
        load(tmp_path / "key")
    with pytest.raises(WeightsError, match="4-bit bitsandbytes weights"):
        load(tmp_path / "none")


def test_it_is_not_written_again(nf4: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="held in nf4"):
        load(nf4).save_pretrained(tmp_path / "out")


@pytest.mark.parametrize(("model_type", "head"), [("llama", "causal"), ("bert", "seqcls")])
def test_the_verifier_takes_it(model_type: str, head: str, reference: Reference, tmp_path: Path) -> None:
    source = reference(model_type, head)
    folder, _ = written(source, tmp_path / "codes", "nf4", True)
    for path in source.iterdir():
        if not (folder / path.name).exists():
            shutil.copy(path, folder)
    report = biject.verify_export(folder)
    assert report.passed, [level.failures for level in report.levels]
    assert {"reload", "forward", "gradients"} <= {level.name for level in report.levels if level.checks}
