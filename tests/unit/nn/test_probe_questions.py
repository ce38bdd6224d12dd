"""The probe finds kernels whose bits depend on company and place, and keeps its answers where they hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from biject.nn.kernels import keys_by_block, keys_by_piece, keys_by_piece_or_all, keys_or_all
from biject.nn.probe import attention as attention_questions
from biject.nn.probe import attention_holds, rowwise_holds, same_bits_from, store
from biject.nn.probe import linear as linear_questions

FP32 = torch.float32
Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]
PLAIN = F.linear


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known at first, and one thread computes."""
    monkeypatch.setenv("BIJECT_CACHE", str(tmp_path / "cache"))
    store.forget()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


def row_by_row(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear whose bits depend on the row only."""
    return torch.stack([row @ weight.t() for row in x]) + bias


def plant(monkeypatch: pytest.MonkeyPatch, kernel: Kernel) -> None:
    monkeypatch.setattr(linear_questions, "F", SimpleNamespace(linear=kernel))


def wrong(out: Tensor) -> Tensor:
    return out * (1 + 2**-20)


def test_a_linear_without_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, row_by_row)
    for total, expected in ((10, None), (16, None), (17, 16), (100, 16), (700, 16)):
        assert same_bits_from(8, 8, total, FP32) == expected, total


def test_other_bits_below_some_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only counts of the run in which the grid's rows lie will do."""

    def few_differ(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out = row_by_row(x, weight, bias)
        return wrong(out) if len(x) < 40 else out

    plant(monkeypatch, few_differ)
    assert same_bits_from(8, 8, 39, FP32) is None  # the last count that is measured lies beyond the run
    assert same_bits_from(8, 8, 41, FP32) == 40
    assert same_bits_from(8, 8, 500, FP32) == 40


def test_runs_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def runs(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out = row_by_row(x, weight, bias)
        return wrong(out) if 90 <= len(x) < 400 else out

    plant(monkeypatch, runs)
    assert same_bits_from(8, 8, 70, FP32) == 16
    assert same_bits_from(8, 8, 95, FP32) is None  # no count was measured between 90 and 95
    for total in (105, 200, 300):
        least = same_bits_from(8, 8, total, FP32)
        assert least is not None
        assert 90 <= least < total
    assert (same_bits_from(8, 8, 800, FP32) or 0) >= 400


@pytest.mark.parametrize("modulus", [2, 6, 8])
def test_a_linear_that_alternates(modulus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leftover rows by another kernel, at any count: nothing may be left out."""

    def leftover(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out = row_by_row(x, weight, bias)
        rest = len(x) % modulus
        return torch.cat([out[: len(x) - rest], wrong(out[len(x) - rest :])])

    plant(monkeypatch, leftover)
    for total in (17, 18, 24, 25, 63, 64, 100, 255, 257, 300, 700):
        assert same_bits_from(8, 8, total, FP32) is None, total


def test_leftover_rows_up_to_some_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """AVX2, as seen: rows of n mod 6 = 1, 2, 3 differ below 56."""

    def leftover(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out = row_by_row(x, weight, bias)
        rest = len(x) % 6 if len(x) < 56 and len(x) % 6 < 4 else 0
        return torch.cat([out[: len(x) - rest], wrong(out[len(x) - rest :])])

    plant(monkeypatch, leftover)
    assert same_bits_from(8, 8, 25, FP32) is None
    assert same_bits_from(8, 8, 300, FP32) == 56


def test_an_activation_that_minds_its_place() -> None:
    def by_place(x: Tensor) -> Tensor:
        out = torch.tanh(x)
        flat = out.view(-1)
        flat[len(flat) // 32 * 32 :] *= 1 + 2**-20  # leftover elements by another kernel
        return out

    assert rowwise_holds("planted", by_place, 37, FP32) is False
    assert rowwise_holds("tanh", torch.tanh, 64, FP32) is True
    assert rowwise_holds("neighbours", lambda x: x - x.mean(0), 64, FP32) is False


def test_a_bad_key_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention that sums over blocks needs texts filled up to a block."""

    def blocks(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        scores = q.double() @ k.double().transpose(-1, -2)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        out = (scores.softmax(-1) @ v.double()).float()
        return wrong(out) if k.shape[2] % 512 and k.shape[2] > 192 else out

    def to_16(tokens: int, length: int) -> int:
        return min(length, -(-tokens // 16) * 16)

    def whole(tokens: int, length: int) -> int:
        return length

    monkeypatch.setattr(attention_questions, "fused", blocks)
    assert attention_holds("attention", to_16, 4, FP32) is False
    assert attention_holds("attention", whole, 4, FP32) is True


def test_sums_that_are_cut_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """As MKL cuts them on an AMD EPYC: whole up to 192 keys, halves below 384, then pieces of 192."""

    def pieces(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        scores = q.double() @ k.double().transpose(-1, -2)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        weights, keys = scores.softmax(-1), k.shape[2]
        end = keys if keys <= 192 else min(192, -(-keys // 8) * 4)
        rest = weights[..., end:] @ v[:, :, end:].double()
        out = (weights[..., :end] @ v[:, :, :end].double() + rest).float()
        return torch.where(rest == 0, out, wrong(out))

    monkeypatch.setattr(attention_questions, "fused", pieces)
    monkeypatch.setattr(attention_questions, "written_out", pieces)
    assert attention_holds("attention", keys_by_block, 4, FP32) is False
    assert attention_holds("attention", keys_by_piece, 4, FP32) is True
    assert attention_holds("written-out attention", keys_or_all, 4, FP32) is False
    assert attention_holds("written-out attention", keys_by_piece_or_all, 4, FP32) is True


def test_rules_of_the_table_are_asked_of_the_machine() -> None:
    """What this machine says is a truth value; one thread and AVX-512 hold both rules (docs/packing.md)."""
    assert isinstance(attention_holds("attention", keys_by_block, 16, FP32), bool)
    assert isinstance(attention_holds("attention", keys_by_piece, 16, FP32), bool)
    assert isinstance(attention_holds("written-out attention", keys_or_all, 16, FP32), bool)
    assert isinstance(attention_holds("attention by steps", keys_or_all, 16, FP32, softcap=50.0), bool)


def test_caps_are_part_of_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cap whose bits depend on the number of keys is found where scores are capped, and only there."""

    def by_steps(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor, spec: Any, dropout: float) -> Any:
        scores = q.double() @ k.double().transpose(2, 3)
        if spec.softcap is not None:
            scores = scores * (1 + 1e-3 * (k.shape[2] > 100))
        return (scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v.double()).float(), None

    monkeypatch.setattr(attention_questions, "attend_written_out", by_steps)
    assert attention_holds("attention by steps", keys_or_all, 4, FP32) is True
    assert attention_holds("attention by steps", keys_or_all, 4, FP32, softcap=2.0) is False


def test_answers_are_kept_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, row_by_row)
    assert same_bits_from(8, 8, 30, FP32) == 16
    store.forget()
    monkeypatch.setattr(linear_questions, "_measure", None)  # not measured again
    assert same_bits_from(8, 8, 30, FP32) == 16
    assert len(list(store.folder().iterdir())) == 1


@pytest.mark.parametrize("change", ["threads", "torch", "switch", "matmul"])
def test_answers_hold_under_their_conditions_only(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store.remember("linear 8 8 float32", [True, False])
    assert store.recall("linear 8 8 float32") == [True, False]
    if change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    elif change == "torch":
        monkeypatch.setattr(torch, "__version__", "9.9")
    elif change == "switch":
        monkeypatch.setenv("MKL_ENABLE_INSTRUCTIONS", "SSE4_2")
    else:
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    assert store.recall("linear 8 8 float32") is None
    monkeypatch.undo()


DAMAGED = [
    "",
    "{",
    "[]",
    "null",
    '{"answers": {}}',
    '{"conditions": {}, "answers": {"linear 8 8 float32": [true]}}',
    b"\xff\xfe\x00",
]


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_no_error(text: str | bytes) -> None:
    store.remember("one", True)
    (path,) = store.folder().iterdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    store.forget()
    assert store.recall("one") is None
    store.remember("one", False)
    store.forget()
    assert store.recall("one") is False


@pytest.mark.parametrize("answer", ['"abc"', "5", "[1, 2]", "{}", "null", '["false"]'])
def test_an_answer_that_is_none_is_left_out(answer: str) -> None:
    """Text would be read as a truth value."""
    store.remember("one", True)
    store.remember("two", [True])
    (path,) = store.folder().iterdir()
    found = json.loads(path.read_text())
    found["answers"]["one"] = json.loads(answer)
    path.write_text(json.dumps(found))
    store.forget()
    assert store.recall("one") is None
    assert store.recall("two") == [True]


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BIJECT_CACHE", str(tmp_path / "file" / "below"))
    store.remember("one", True)
    assert store.recall("one") is True
    store.forget()
    assert store.recall("one") is None


def test_no_home_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("BIJECT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", nowhere)
    store.remember("one", True)
    assert store.recall("one") is True


def test_measured_whatever_the_caller_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under autocast, or with another default device, the question is still of float32 on the CPU."""
    seen = set()

    def watched(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out = PLAIN(x, weight, bias)
        seen.add((out.dtype, out.device.type))
        return out

    plant(monkeypatch, watched)
    with torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        same_bits_from(8, 8, 20, FP32)
    assert seen == {(FP32, "cpu")}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_another_order_of_sums_that_rounding_hides(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """Of ordinary numbers in a half dtype, so few results differ that a sample shows none."""
    wide = torch.float64 if dtype == torch.float64 else FP32

    def ordered(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        products = x.to(wide)[:, None] * weight.to(wide)
        few = len(x) < 40
        total = torch.zeros(products.shape[:2], dtype=wide)
        for i in reversed(range(x.shape[1])) if few else range(x.shape[1]):
            total = total + products[:, :, i]
        return (total + bias.to(wide)).to(dtype)

    plant(monkeypatch, ordered)
    assert same_bits_from(24, 3, 41, dtype) is None or same_bits_from(24, 3, 41, dtype) >= 40


def test_doubles_have_more_digits_than_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of floats are exact in doubles: a kernel that rounds them or not would look the same."""

    def rounded(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if len(x) < 40:
            x = x.float().double()
        return torch.stack([(row * weight).sum(1) + bias for row in x])

    plant(monkeypatch, rounded)
    found = same_bits_from(24, 3, 41, torch.float64)
    assert found is None or found >= 40


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_tail_that_differs_in_one_number_of_hundreds(dtype: torch.dtype) -> None:
    def seldom(x: Tensor) -> Tensor:
        out = x.clone().reshape(-1)
        tail = out[len(out) // 8 * 8 :]
        rare = (tail.abs() * 1000).round() % 400 == 0
        tail[rare] *= 1.5
        return out.reshape(x.shape)

    assert not rowwise_holds("seldom", seldom, 50, dtype)
    assert rowwise_holds("never", torch.neg, 50, dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_attention_whose_order_rounding_hides(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    """Values summed from the last column on where keys are few."""

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, backwards: bool) -> Tensor:
        wide = torch.float64 if dtype == torch.float64 else FP32
        scores = (q.to(wide)[..., :, None, :] * k.to(wide)[..., None, :, :]).sum(-1)  # whatever the shape
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        weights = torch.exp(scores - scores.amax(-1, keepdim=True))
        order = range(k.shape[2])
        total = torch.zeros(*q.shape[:3], v.shape[3], dtype=wide)
        for j in reversed(order) if backwards else order:
            total = total + weights[..., j : j + 1] * v.to(wide)[:, :, j : j + 1]
        return total.to(dtype)

    monkeypatch.setattr(attention_questions, "_BATCHES", ((37, (16, 32)),))
    for backwards, expected in ((False, True), (True, False)):
        monkeypatch.setattr(
            attention_questions,
            "fused",
            lambda q, k, v, mask, b=backwards: attend(q, k, v, mask, backwards=b and k.shape[2] < 37),
        )
        store.forget()
        monkeypatch.setenv("BIJECT_CACHE", f"{attention_questions.store.folder()}-{backwards}")
        held = attention_holds("bidirectional attention", lambda count, length: count, 8, dtype)
        assert held is expected
