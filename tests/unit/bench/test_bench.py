"""What `biject bench` writes and how it draws texts; one tiny run of both sides."""

from __future__ import annotations

import json
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from biject.bench import decoders, encoders, measure, sides
from biject.bench.measure import Limits, Measured, against_last, in_turns
from biject.bench.page import BEGIN, END, between_markers, picture, read, row, table
from biject.bench.run import Plan
from biject.bench.texts import POOL, given_order, grouped, lengths, made, padded_over_real
from biject.errors import InputError

MACHINE = {
    "date": "2026-11-27", "processor": "p", "cores": 2, "torch": "t", "omp_wait_policy": "passive",
    "gemm_flops": {"1": {"float32": 1e11, "bfloat16": 4e11}}, "bytes_per_second": {"1": 2e10},
}  # fmt: skip


def cell(**more: object) -> dict[str, object]:
    seconds = ((1.0, 2.0), (1.0, 4.0), (2.0, 6.0))
    named = {
        "name": "decoding, <int8>",
        "model": "gpt2",
        "dtype": "bfloat16",
        "threads": 1,
        "peer": "generate",
    }
    return Measured(**named, seconds=seconds, **more).to_json()  # type: ignore[arg-type]


def test_the_median_of_the_pairs() -> None:
    found = cell()
    assert found["ratio"] == {"min": 2.0, "median": 3.0, "max": 4.0}
    assert found["real_tokens_per_second"] == {"ours": 1.0, "peer": 0.25}
    assert "**3.00** (2.00–4.00)" in table({"machine": MACHINE, "cells": [found]})


def test_sides_take_turns_and_a_slower_one_is_seen() -> None:
    calls: list[str] = []

    def side(name: str, tokens: int) -> int:
        calls.append(name)
        time.sleep(0.004 if name == "theirs" else 0.001)
        return tokens

    ours, fast, theirs = ("ours", 10), ("fast", 10), ("theirs", 5)
    found = in_turns([lambda of=of: side(*of) for of in (ours, fast, theirs)], 4)
    assert calls[3:] == ["ours", "fast", "theirs", "theirs", "fast", "ours"] * 2
    for pairs in against_last(found):
        assert len(pairs) == 4
        assert all(theirs > 2 * ours for ours, theirs in pairs)


def test_only_what_stands_between_the_markers_changes() -> None:
    assert between_markers(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"
    for page in ("no markers", f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"):
        with pytest.raises(InputError, match="should have"):
            between_markers(page, "new")


def test_the_picture_is_well_formed() -> None:
    root = ElementTree.fromstring(picture([cell(), cell()]))  # our own
    assert len([one for one in root if one.tag.endswith("rect")]) == 3


def test_texts() -> None:
    draw = torch.Generator().manual_seed(0)
    pool = lengths("snippets", POOL, draw)
    assert 6 <= min(pool) <= max(pool) <= 72
    assert 25 < sum(pool) / len(pool) < 29
    assert padded_over_real(grouped(pool, 5)) < 1.05 < 1.5 < padded_over_real(given_order(pool, 5))
    for count in (1, 2, 4):
        mine, theirs = (sum(map(sum, cut(pool, count))) for cut in (given_order, grouped))
        assert abs(mine - theirs) < 0.04 * mine
    uneven = lengths("mixed", POOL, draw)
    assert uneven[:16] != uneven[16:32]
    assert padded_over_real(given_order(uneven, 2)) == 82 * 16 / 423
    long = lengths("long-tailed", POOL, draw)
    assert max(long) == 512
    assert sorted(long)[POOL // 2] < 80
    batch = made([[3, 5]], draw, high=2000, device="cpu")[0]
    assert batch["attention_mask"].sum(1).tolist() == [3, 5]
    assert batch["input_ids"].shape == (2, 5)


@pytest.mark.parametrize("form", ["exact", "fast"])
def test_decoding_of_a_tiny_model(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "bandwidth", lambda _: 1e10)
    limits = Limits(torch.device("cpu"))
    monkeypatch.setitem(sides.SHAPES, "tiny", ("GPT2", {"n_embd": 32, "n_layer": 1, "n_head": 2}))
    found = list(decoders.decoder_cells("tiny", "float32", forms=(form,), new=3, repeats=1, limits=limits))
    assert found[0].name == f"decoding, {form}"
    assert ("bytes_per_second" in found[0].more) == (form == "fast")
    assert limits.bytes_per_second == 1e10


def test_training_and_inference_of_a_tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "peak", lambda *_: (1e11, "measured"))
    limits = Limits(torch.device("cpu"))
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    monkeypatch.setitem(sides.SHAPES, "tiny", ("Bert", sizes))
    cells = encoders.encoder_cells(
        "tiny", "float32", "snippets", peers=encoders.PEERS[:2], batches=1, repeats=1, limits=limits
    )
    found = [one.to_json() for one in cells]
    works = [f"{work}, snippets, {form}" for work in ("inference", "training") for form in encoders.FORMS]
    assert [one["name"] for one in found] == works * 2
    assert found[0]["padded_over_real"] > found[4]["padded_over_real"] >= 1
    assert all(one["flops_per_second"]["ours"] > 0 for one in found)
    assert limits.flops == {"float32": 1e11}


def test_shares_are_of_the_best_that_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([1e10, 3e10, 2e10])
    monkeypatch.setattr(measure, "bandwidth", lambda _: next(looks))
    monkeypatch.setattr(measure, "peak", lambda *_: (1e11, "measured"))
    limits = Limits(torch.device("cpu"))
    for _ in range(3):
        limits.look(torch.float32)
    assert limits.bytes_per_second == 3e10
    assert "50% of the bandwidth" in row(cell(more={"bytes_per_second": 1e10}), MACHINE)
    used = {"ours": 2e11, "peer": 1e11}
    assert "MFU 50%, HF 25%" in row(cell(more={"flops_per_second": used}), MACHINE)


def test_a_model_that_is_not_there() -> None:
    with pytest.raises(InputError, match="one of minilm"):
        Plan(models=("bert-huge",))
    with pytest.raises(InputError, match=r"--lengths is one of mixed, .*; found long"):
        Plan(lengths=("long",))
    with pytest.raises(InputError, match="1 or more"):
        Plan(threads=(0,))
    assert Plan(quick=True).takes(("minilm", "bert-base")) == ["minilm"]
    assert Plan(quick=True, models=("bert-base",)).takes(("minilm", "bert-base")) == ["bert-base"]


def test_several_runs_in_one_table(tmp_path: Path) -> None:
    slow = MACHINE | {
        "gemm_flops": {"1": {"float32": 9e10}, "2": {"float32": 3e11}},
        "bytes_per_second": {"1": 3e10},
    }
    for name, machine in (("a", MACHINE), ("b", slow), ("c", MACHINE | {"processor": "q"})):
        cells = [cell(), cell() | {"model": name}]
        (tmp_path / name).write_text(json.dumps({"machine": machine, "cells": cells}))
    found = read([tmp_path / "a", tmp_path / "b"])
    assert [one["model"] for one in found["cells"]] == ["gpt2", "a", "b"]  # measured again: once
    assert found["machine"]["gemm_flops"] == {
        "1": {"float32": 1e11, "bfloat16": 4e11},
        "2": {"float32": 3e11},
    }
    assert found["machine"]["bytes_per_second"] == {"1": 3e10}
    with pytest.raises(InputError, match=r"another machine than .*: processor differ"):
        read([tmp_path / "a", tmp_path / "c"])
    (tmp_path / "d").write_text("[]")
    with pytest.raises(InputError, match="is not what `biject bench --out DIR` writes"):
        read([tmp_path / "d"])
    with pytest.raises(InputError, match="cannot be read"):
        read([tmp_path / "e"])
