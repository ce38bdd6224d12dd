"""Exports that are right pass, whatever head or dtype they come from; the same with a fault planted fail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.errors import BijectWarning
from biject.export import export_checkpoint
from biject.families import families
from biject.record import RECORD
from biject.verify import Report, verify_export
from biject.verify.reference import make_reference
from faults.plant import Tensors, edit_config, edit_tensors

pytestmark = [
    pytest.mark.attack("exports with another head or dtype, right and wrong"),
    pytest.mark.filterwarnings(f"ignore::{BijectWarning.__module__}.{BijectWarning.__name__}"),
]
LABELS: dict[str, Any] = {
    "id2label": {0: "no", 1: "yes", 2: "maybe"},
    "label2id": {"no": 0, "yes": 1, "maybe": 2},
}
LEVELS = ("names", "bytes", "reload", "hf-forward")
QUICK = ("bert", "llama")
DTYPES = ("float32", "float64", "bfloat16")
CELLS = [(name, head) for name, own in families().items() for head in own.heads]


def marked(cells: Sequence[tuple[str, str]]) -> list[Any]:
    """All cells; those of most families only with `-m slow`."""
    return [pytest.param(*cell, marks=[] if cell[0] in QUICK else [pytest.mark.slow]) for cell in cells]


def made(name: str, head: str, folder: Path, *, named: bool = True, **options: Any) -> Path:
    """A reference with three labels; `named`: config.json names its class."""
    labels = LABELS if head in ("seqcls", "tokcls", "imgcls", "distilled") else {}
    source = make_reference(name, head, folder, overrides=labels, **options)
    if not named:
        edit_config(source, lambda config: void(config.pop("architectures")))
    return source


def void(_: object) -> None:
    return None


def targets(name: str) -> Iterator[tuple[str, list[str] | None]]:
    """Heads and labels to ask for: the base, and every head new."""
    yield "base", None
    for head in families()[name].heads:
        if head in ("seqcls", "tokcls", "imgcls", "distilled"):
            yield head, ["a", "b", "c", "d"]
        elif head == "qa":
            yield head, ["keep"]
            yield head, ["start", "end"]
        elif head != "base":
            yield head, ["keep"]


def failures(report: Report) -> list[str]:
    return [line[:300] for line in report.lines() if line.startswith("FAIL")]


@pytest.mark.parametrize("named", [True, False], ids=["class", "no class"])
@pytest.mark.parametrize(("name", "head"), marked(CELLS))
def test_a_change_of_head(name: str, head: str, named: bool, tmp_path: Path) -> None:
    source = made(name, head, tmp_path / "source", named=named)
    wrong = []
    for to, labels in targets(name):
        out = tmp_path / f"{to}-{labels}"
        export_checkpoint(source, out=out, head=to, new_head=labels)
        found = failures(verify_export(out, source=source, levels=LEVELS))
        wrong += [f"{to} {labels}: {line}" for line in found]
    assert not wrong


@pytest.mark.parametrize(("name", "head"), [("bert", "seqcls"), ("llama", "qa"), ("gpt2", "tokcls")])
def test_a_new_head_passes_every_level(name: str, head: str, tmp_path: Path) -> None:
    source = made(name, "causal" if "causal" in families()[name].heads else "mlm", tmp_path / "source")
    export_checkpoint(source, out=tmp_path / "out", head=head, new_head=["keep"])
    assert not failures(verify_export(tmp_path / "out", source=source))


def trunk_bit(tensors: Tensors) -> None:
    name = max((n for n in tensors if "layers.1." in n or "layer.1." in n), key=lambda n: tensors[n].numel())
    tensors[name].view(-1).view(torch.int32)[11] ^= 1 << 22


def flat_head(tensors: Tensors) -> None:
    name = next(n for n in tensors if n.endswith(("classifier.weight", "score.weight", "qa_outputs.weight")))
    tensors[name].fill_(0.01)


def nan_head(tensors: Tensors) -> None:
    name = next(n for n in tensors if n.endswith(("classifier.weight", "score.weight", "qa_outputs.weight")))
    tensors[name].view(-1)[3] = float("nan")


def undeclared(folder: Path) -> None:
    (folder / RECORD).unlink()


def all_declared(folder: Path) -> None:
    """The base is altered, and declared new."""
    edit_tensors(folder, trunk_bit)
    record = json.loads((folder / RECORD).read_text())
    held: list[str] = []
    edit_tensors(folder, lambda tensors: held.extend(tensors))
    (folder / RECORD).write_text(json.dumps({**record, "new_parameters": held}))


def other_eps(folder: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        key = next(key for key in ("layer_norm_eps", "rms_norm_eps") if key in config)
        config[key] *= 10

    edit_config(folder, change)


HEAD_FAULTS: dict[str, Callable[[Path], None]] = {
    "a bit of the base": lambda folder: edit_tensors(folder, trunk_bit),
    "a head of one value": lambda folder: edit_tensors(folder, flat_head),
    "NaN in the head": lambda folder: edit_tensors(folder, nan_head),
    "the new head is not declared": undeclared,
    "the base declared new as well": all_declared,
    "another eps": other_eps,
}


@pytest.mark.parametrize(
    ("name", "head", "to", "labels"),
    [
        ("bert", "seqcls", "seqcls", ["a", "b", "c", "d"]),
        ("llama", "qa", "qa", ["keep"]),
        ("llama", "seqcls", "seqcls", ["a", "b", "c"]),
    ],
)
def test_a_fault_beside_a_new_head_fails(
    name: str, head: str, to: str, labels: list[str], tmp_path: Path
) -> None:
    source = made(name, head, tmp_path / "source")
    export_checkpoint(source, out=tmp_path / "good", head=to, new_head=labels)
    assert not failures(verify_export(tmp_path / "good", source=source, levels=LEVELS))
    for fault, plant in HEAD_FAULTS.items():
        shutil.copytree(tmp_path / "good", tmp_path / "bad")
        plant(tmp_path / "bad")
        assert failures(verify_export(tmp_path / "bad", source=source, levels=LEVELS)), fault
        shutil.rmtree(tmp_path / "bad")


@pytest.mark.parametrize("to", ["base", "seqcls"])
def test_the_base_is_compared_by_outputs_too(to: str, tmp_path: Path) -> None:
    """hf-forward alone sees a changed base under a changed head, of a class with another prefix too."""
    source = made("llama", "qa", tmp_path / "source")
    export_checkpoint(source, out=tmp_path / "out", head=to, new_head=None if to == "base" else ["a", "b"])
    assert not failures(verify_export(tmp_path / "out", source=source, levels=["hf-forward"]))
    edit_tensors(tmp_path / "out", trunk_bit)
    assert failures(verify_export(tmp_path / "out", source=source, levels=["hf-forward"]))


def test_a_head_that_was_new_before_is_compared(tmp_path: Path) -> None:
    """A copy of an export with a new head declares it as its source does: that allows nothing."""
    source = made("bert", "base", tmp_path / "source")
    export_checkpoint(source, out=tmp_path / "first", head="seqcls", new_head=["a", "b"])
    export_checkpoint(tmp_path / "first", out=tmp_path / "second")
    assert not failures(verify_export(tmp_path / "second", source=tmp_path / "first", levels=LEVELS))
    edit_tensors(tmp_path / "second", lambda held: void(held["classifier.weight"].mul_(1.5)))
    assert failures(verify_export(tmp_path / "second", source=tmp_path / "first", levels=LEVELS))


@pytest.mark.parametrize("name", ["bert", "llama", "modernbert"])
@pytest.mark.parametrize(
    ("first", "second"),
    [("seqcls", "seqcls"), ("seqcls", "tokcls"), ("tokcls", "seqcls"), ("qa", "seqcls"), ("seqcls", "qa")],
)
def test_a_head_made_new_again(name: str, first: str, second: str, tmp_path: Path) -> None:
    """The source's head was new itself; a copy of the result, with the head changed, is no new head."""
    source = made(name, "base", tmp_path / "source")
    labels: dict[str, list[str]] = {"seqcls": ["a", "b"], "tokcls": ["a", "b"], "qa": ["keep"]}
    export_checkpoint(source, out=tmp_path / "first", head=first, new_head=labels[first])
    export_checkpoint(tmp_path / "first", out=tmp_path / "second", head=second, new_head=labels[second])
    for before in ("first", "source") if first == second else ("first",):
        assert not failures(verify_export(tmp_path / "second", source=tmp_path / before, levels=LEVELS))
    export_checkpoint(tmp_path / "second", out=tmp_path / "copy")
    assert not failures(verify_export(tmp_path / "copy", source=tmp_path / "second", levels=LEVELS))
    said = json.loads((tmp_path / "second" / RECORD).read_text())["new_parameters"]
    weight = next(one for one in reversed(said) if one.endswith("weight"))
    edit_tensors(tmp_path / "copy", lambda held: void(held[weight].mul_(1.5)))
    assert failures(verify_export(tmp_path / "copy", source=tmp_path / "second", levels=LEVELS))


@pytest.mark.parametrize("stored", DTYPES)
@pytest.mark.parametrize(
    ("name", "head"), marked([(n, next(iter(own.heads))) for n, own in families().items()])
)
def test_dtypes(name: str, head: str, stored: str, tmp_path: Path) -> None:
    source = made(name, head, tmp_path / "source", dtype=getattr(torch, stored))
    export_checkpoint(source, out=tmp_path / "out")
    assert not failures(verify_export(tmp_path / "out", source=source))
    flip = {"float32": torch.int32, "float64": torch.int64, "bfloat16": torch.int16}[stored]

    def change(tensors: Tensors) -> None:
        largest = max(tensors.values(), key=lambda tensor: tensor.numel())
        largest.view(-1).view(flip)[5] ^= 1

    edit_tensors(tmp_path / "out", change)
    assert failures(verify_export(tmp_path / "out", source=source, levels=LEVELS))


@pytest.mark.parametrize("name", ["mistral", "modernbert"])
def test_float64_windows(name: str, tmp_path: Path) -> None:
    """HF's own attention maps of padding are NaN in float64: the maps are compared without padding."""
    source = made(name, "base", tmp_path / "source", dtype=torch.float64)
    report = verify_export(source, levels=["forward"])
    assert not failures(report)
    assert any("without padding" in check.case for check in report.level("forward").checks)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("llama", {"hidden_size": 40, "intermediate_size": 82, "num_key_value_heads": 2}),
        ("qwen2", {"hidden_size": 96, "intermediate_size": 100, "num_key_value_heads": 1}),
        ("electra", {"hidden_size": 56, "intermediate_size": 114}),
    ],
)
def test_odd_sizes_in_other_dtypes(
    name: str, sizes: dict[str, int], dtype: torch.dtype, tmp_path: Path
) -> None:
    """Sizes for which packing was found to change bits that the probe had not seen."""
    overrides = {**sizes, "num_attention_heads": 4, "max_position_embeddings": 520, "vocab_size": 1000}
    source = make_reference(name, "base", tmp_path / "source", overrides=overrides, dtype=dtype)
    assert not failures(verify_export(source, levels=["forward"]))
