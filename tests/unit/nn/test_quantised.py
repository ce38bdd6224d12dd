"""Quantised linears by themselves: the code of the paper, moves and copies, what is refused and why."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import biject
from biject.config.quantization import Quantization, requested
from biject.errors import BijectError, ConfigError, MissingExtraError, WeightsError
from biject.nn.modules import Linear, TransposedLinear
from biject.nn.quantised import FourBitLinear, QuantisedLinear, bitsandbytes, quantised_linear
from biject.nn.rowwise import row_ops
from biject.quantize import quantised_linears
from biject.train.trainer import Trainer
from biject.verify.reference import make_reference

NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
]  # fmt: skip
"""Dettmers et al. 2023, arXiv:2305.14314, appendix E."""


def made(method: str, *, shape: tuple[int, int] = (48, 128), transposed: bool = False, **more: Any) -> Any:
    """A linear with random values, and the quantised one made of it."""
    torch.manual_seed(0)
    replaced = TransposedLinear(*shape[::-1]) if transposed else Linear(shape[1], shape[0])
    weight = torch.randn(shape) * torch.rand(shape[0], 1)
    held = quantised_linear(Quantization(method=method, **more), replaced)  # type: ignore[arg-type]
    assert held.weight.is_meta
    stored = weight.t().contiguous() if transposed else weight
    held.quantise(stored, dtype=torch.float32, device=torch.device("cpu"))
    held.bias = nn.Parameter(torch.randn(shape[0]), requires_grad=False)
    return weight, held


def nf4_by_definition(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scales and values: the nearest of the 16 values times the block's largest."""
    values, blocks = torch.tensor(NF4), weight.reshape(-1, 64)
    absmax = blocks.abs().amax(dim=1)
    scaled = blocks * (1.0 / absmax)[:, None]
    codes = ((values[1:] + values[:-1]) / 2 < scaled[..., None]).sum(-1)
    return codes.reshape(-1), absmax, (values[codes] * absmax[:, None]).reshape(weight.shape)


@pytest.mark.parametrize("transposed", [False, True])
def test_nf4_by_its_definition(transposed: bool) -> None:
    weight, held = made("nf4", transposed=transposed, double_quant=False)
    codes, absmax, values = nf4_by_definition(weight)
    packed = held.weight.view(-1).to(torch.int32)
    assert torch.equal(torch.stack([packed >> 4, packed & 15], dim=1).reshape(-1), codes)
    assert torch.equal(held.absmax, absmax)
    assert torch.equal(held.dequantized_weight(), values)
    assert not torch.equal(values, weight)


def test_scales_are_quantised_as_well() -> None:
    """In blocks of 256 around their mean, with the table of 8 bits: by its definition, too."""
    weight, held = made("nf4", shape=(96, 256), double_quant=True)
    codes, absmax, _ = nf4_by_definition(weight)
    offset = absmax.mean()
    assert torch.equal(held.offset, offset)
    blocks = (absmax - offset).split(256)
    assert torch.equal(held.nested_absmax, torch.stack([block.abs().max() for block in blocks]))
    table, chosen = held.nested_code, held.absmax.to(torch.long)
    scale = held.nested_absmax.repeat_interleave(256)[: len(absmax)]
    rounded = table[chosen] * scale
    nearest = (((absmax - offset) / scale)[:, None] - table).abs().amin(1)
    assert torch.allclose((rounded - (absmax - offset)).abs() / scale, nearest, atol=1e-6)
    values = torch.tensor(NF4)[codes].view(-1, 64) * (rounded + offset)[:, None]
    assert torch.equal(held.dequantized_weight(), values.view(weight.shape))


@pytest.mark.parametrize("shape", [(48, 128), (9, 37), (64, 31), (7, 64), (130, 96)])
@pytest.mark.parametrize("method", ["nf4", "fp4", "int8"])
def test_parts_are_no_other_than_the_whole(
    method: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = made(method, shape=shape)
    monkeypatch.setattr("biject.nn.quantised.PART", 500)
    _, parts = made(method, shape=shape)
    assert torch.equal(whole.weight, parts.weight)
    for name, scale in whole.named_buffers():
        assert torch.equal(scale, parts.get_buffer(name)), name


@pytest.mark.parametrize("method", ["nf4", "fp4", "int8"])
def test_the_product_is_that_with_the_dequantised_matrix(method: str) -> None:
    _, held = made(method)
    x = torch.randn(3, 7, 128, requires_grad=True)
    held.train()
    out = held(x)
    out.pow(2).sum().backward()
    other = x.detach().clone().requires_grad_()
    matrix = held.dequantized_weight()
    if method == "int8":  # the same numbers, one factor rounded before the product and not after it
        torch.testing.assert_close(matrix, matrix := held.weight.float() * (held.scale * (1 / 127))[:, None])
    expected = nn.functional.linear(other, matrix, held.bias)
    expected.pow(2).sum().backward()
    assert torch.equal(out, expected)
    assert torch.equal(x.grad, other.grad)
    assert held.bias.grad is None
    assert (held.in_features, held.out_features) == (128, 48)


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_copies_and_casts(method: str) -> None:
    _, held = made(method)
    x = torch.randn(5, 128)
    before, matrix = held(x), held.dequantized_weight()
    twin = copy.deepcopy(held)
    assert torch.equal(twin(x), before)
    twin.weight.zero_()
    assert torch.equal(held(x), before)
    assert sorted(held.state_dict()) == ["bias", "weight"]
    held.to(torch.bfloat16)
    assert held.bias.dtype is torch.bfloat16
    assert torch.equal(held.dequantized_weight(), matrix)  # a cast does not reach codes or scales
    assert held(x.to(torch.bfloat16)).dtype is torch.bfloat16


@pytest.mark.parametrize("shape", [(96, 128), (48, 128), (96, 96)])
def test_bfloat16_in_eval_mode(shape: tuple[int, int]) -> None:
    """Where it is requested, the CPU can, and bitsandbytes would not fail; never in training."""
    _, held = made("nf4", shape=shape)
    held.eval()
    x = torch.randn(5, shape[1])
    exact = held(x)
    held.bfloat16_in_eval = True
    can = bitsandbytes().functional.has_avx512bf16() and shape == (96, 128)
    assert torch.equal(held(x), exact) != can
    assert (held._packed is not None) == can
    assert row_ops([held]) is None
    torch.testing.assert_close(held(x), exact, rtol=2**-6, atol=0.3)  # 8 bits of 128 products of about 1
    assert torch.equal(held(x.requires_grad_()), exact)
    assert torch.equal(held.train()(x), exact)
    assert held._packed is None


def test_what_is_known_of_rows() -> None:
    assert row_ops([made("nf4")[1]]) == row_ops([Linear(128, 48)])
    assert row_ops([made("fp4", transposed=True)[1]]) == row_ops([Linear(128, 48)])
    assert row_ops([made("nf4", compute_dtype="bfloat16")[1]]) is None
    assert row_ops([made("int8")[1]]) is None


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"quantization": "nf5"}, "expected one of nf4, fp4, int8, found 'nf5'"),
    ({"double_quant": True}, "double_quant is for a quantised base"),
    ({"compute_dtype": "bfloat16"}, "compute_dtype is for a quantised base"),
    ({"skip_modules": ["classifier"]}, "skip_modules is for a quantised base"),
    ({"quantization": "int8", "double_quant": True}, "double_quant is for nf4 and fp4"),
    ({"quantization": "int8", "compute_dtype": torch.bfloat16}, "compute_dtype is for nf4 and fp4"),
    ({"quantization": "nf4", "compute_dtype": "int8"}, "expected one of float32, bfloat16, float16"),
    ({"quantization": "nf4", "compute_dtype": torch.float64}, "found 'float64'"),
    ({"quantization": "nf4", "dtype": torch.float64}, "parameters should be float32, bfloat16, float16"),
    ({"quantization": "nf4", "device": "meta"}, "expected a device of cpu, cuda, found meta"),
    ({"quantization": "nf4", "skip_modules": "classifier"}, "expected a list of names"),
    ({"quantization": "nf4", "skip_modules": ["clasifier"]}, "'clasifier' fits no linear.*classifier"),
    ({"quantization": "nf4", "skip_modules": ["(a"]}, r"skip_modules: '\(a' is no regular expression"),
    ({"quantization": "nf4", "skip_modules": ["bert", "classifier"]}, "leaves nothing to quantise"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("bert", "seqcls", tmp_path_factory.mktemp("bert") / "model")


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_refused(options: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        biject.AutoModelForSequenceClassification.from_pretrained(folder, **options)


def test_defaults() -> None:
    assert requested("nf4") == Quantization(method="nf4", double_quant=True, compute_dtype="float32")
    assert requested("fp4", double_quant=False, compute_dtype=torch.bfloat16) == Quantization(
        method="fp4", double_quant=False, compute_dtype="bfloat16"
    )
    assert requested("int8") == Quantization(method="int8", double_quant=False)
    assert requested(None) is None


@pytest.mark.parametrize("name", ["classifier", "head.out", r"bert\.encoder\.layer\.1"])
def test_modules_that_are_left_out(name: str, folder: Path) -> None:
    model = biject.AutoModelForSequenceClassification.from_pretrained(
        folder, quantization="nf4", skip_modules=[name]
    )
    found = {name for name, _ in quantised_linears(model)}
    assert ("head.out" in found) == name.startswith("bert")
    assert any(one.startswith("layers.1.") for one in found) != name.startswith("bert")
    assert any(one.startswith("layers.0.") for one in found)


def test_a_new_head_is_not_quantised(folder: Path) -> None:
    model = biject.AutoModelForTokenClassification.from_pretrained(
        folder, quantization="nf4", new_head={"labels": ["a", "b"]}
    )
    assert not isinstance(model.head.out, QuantisedLinear)
    assert isinstance(model.layers[0].attn.q_proj, QuantisedLinear)


def test_saving_and_training_are_refused(folder: Path, tmp_path: Path) -> None:
    model = biject.AutoModelForSequenceClassification.from_pretrained(folder, quantization="nf4")
    with pytest.raises(WeightsError, match=r"held in nf4.*save_adapter"):
        model.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="codes do not train: add an adapter"):
        Trainer(model, max_steps=1).fit([{"input_ids": torch.ones(3, dtype=torch.long)}])


class Wrapped(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.trunk = model


def test_training_around_it_is_refused(folder: Path) -> None:
    model = biject.AutoModelForSequenceClassification.from_pretrained(folder, quantization="nf4")
    with pytest.raises(ConfigError, match="`trunk`"):
        Trainer(Wrapped(model), max_steps=1).fit([{"input_ids": torch.ones(3, dtype=torch.long)}])


@pytest.fixture
def without_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    bitsandbytes.cache_clear()
    yield
    bitsandbytes.cache_clear()


@pytest.mark.usefixtures("without_bitsandbytes")
def test_without_bitsandbytes(folder: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'biject\[quant\]'"):
        biject.AutoModelForSequenceClassification.from_pretrained(folder, quantization="nf4")


def test_it_is_imported_when_needed(folder: Path) -> None:
    code = (
        "import sys, biject\n"
        f"model = biject.AutoModel.from_pretrained({str(folder)!r})\n"
        "print('bitsandbytes' in sys.modules)\n"
        f"biject.AutoModel.from_pretrained({str(folder)!r}, quantization='nf4')\n"
        "print('bitsandbytes' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    assert "kernels" not in done.stderr  # what bitsandbytes logs of kernels that it does without


def test_a_folder_that_is_quantised_already(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    copied = tmp_path / "model"
    copied.mkdir()
    (copied / "config.json").write_text(json.dumps(config))
    (copied / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(BijectError, match="quantization_config"):
        biject.AutoModel.from_pretrained(copied)


def test_numbers_of_parameters(folder: Path) -> None:
    plain = biject.AutoModelForSequenceClassification.from_pretrained(folder)
    held = biject.AutoModelForSequenceClassification.from_pretrained(folder, quantization="nf4")
    assert held.num_parameters() == plain.num_parameters()
    assert held.num_parameters(only_trainable=True) < plain.num_parameters(only_trainable=True)
    assert isinstance(held.layers[0].attn.q_proj, FourBitLinear)
