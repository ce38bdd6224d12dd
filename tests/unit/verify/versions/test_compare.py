"""Comparisons of the version watch, each with a planted difference."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from biject.verify.versions import compare
from biject.verify.versions.result import Change, Finding, Traits, WatchedCell, changes, mark

ONE = {"alone|logits|0": torch.ones(2, 3)}
NAMES = {"layer.0.norm.weight": "1", "layer.1.norm.weight": "1"}
NEXT = {"alone|logits|0": torch.ones(2, 3).nextafter(torch.tensor(2.0))}


def outputs(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], **more: object) -> list[Finding]:
    return compare.outputs(ours, theirs, **{"refused": (), "real": {}, **more})  # type: ignore[arg-type]


def test_equal_bits_are_no_finding() -> None:
    assert outputs(ONE, {"alone|logits|0": torch.ones(2, 3)}) == []


def test_one_bit_is_a_finding() -> None:
    (found,) = outputs(ONE, NEXT)
    assert (found.kind, found.max_abs_diff) == ("forward", pytest.approx(1.2e-7, rel=0.01))
    assert "`logits 0` of `alone`" in found.detail


def test_an_output_that_one_side_lacks_is_a_finding() -> None:
    assert "only the release has" in outputs({}, ONE)[0].detail
    assert "Biject has" in outputs({**ONE, "alone|pooler|0": torch.ones(1)}, ONE)[0].detail
    assert "gave nothing" in outputs(ONE, {})[0].detail


def test_a_call_that_the_release_refuses_is_left_out() -> None:
    assert outputs({**ONE, "embeds|logits|0": torch.ones(1)}, ONE, refused=["embeds"]) == []


def test_hidden_layers_and_padding_are_told_apart() -> None:
    real = {"alone": torch.tensor([[True, True, False], [True, False, False]])}
    other = torch.ones(2, 3)
    other[0, 2] = 5.0
    assert [f.kind for f in outputs(ONE, {"alone|logits|0": other}, real=real)] == ["padding"]
    other[0, 1] = 5.0
    assert [f.kind for f in outputs(ONE, {"alone|logits|0": other}, real=real)] == ["forward"]
    layers = [{"alone|hidden_states|0": torch.full((1,), value)} for value in (1.0, 2.0)]
    assert [f.kind for f in outputs(*layers)] == ["hidden"]


def test_padding_is_no_failure_and_all_else_is() -> None:
    def cell(kind: str) -> WatchedCell:
        return WatchedCell(family="bert", head="qa", findings=(Finding(kind=kind, detail=""),))  # type: ignore[arg-type]

    assert cell("padding").passed
    assert not any(cell(kind).passed for kind in ("names", "bytes", "forward", "hidden", "gradients"))
    assert mark([cell("padding"), cell("bytes")]) == "1/2 (qa: bytes)"
    assert mark([]) == "–"


def test_gradients_by_names_of_files() -> None:
    shared = torch.ones(2)
    ours = {"off|a.weight": shared, "off|b.weight": shared, "off|n.gamma": torch.zeros(2)}
    assert compare.gradients(ours, {"off|a.weight": torch.ones(2), "off|n.weight": torch.zeros(2)}) == []
    none = torch.full((2,), float("nan"))
    theirs = {"off|b.weight": torch.ones(2), "off|n.gamma": torch.zeros(2), "off|mask_token": none}
    assert compare.gradients(ours, theirs) == []
    (found,) = compare.gradients(ours, {**theirs, "off|b.weight": none})
    assert found.kind == "gradients"
    assert "`b.weight` of `off`" in found.detail
    (found,) = compare.gradients({**ours, "off|c.weight": torch.ones(1)}, theirs)
    assert "only Biject has `c.weight`" in found.detail
    (found,) = compare.gradients(ours, {**theirs, "off|d.weight": torch.ones(1)})
    assert "only the release has `d.weight`" in found.detail


def test_a_round_trip_that_changes_a_byte_or_a_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert compare.round_trip(tmp_path / "a", tmp_path / "b") == []
    (tmp_path / "b" / "config.json").write_text("{ }")
    (tmp_path / "b" / "new").write_text("")
    (tmp_path / "a" / "old").write_text("")
    (found,) = compare.round_trip(tmp_path / "a", tmp_path / "b")
    assert found.kind == "bytes"
    for words in ("config.json is not byte-equal", "new is new", "old is missing"):
        assert words in found.detail


def test_names_that_a_release_misses() -> None:
    answer = {"missing_keys": ["a"], "unexpected_keys": [], "mismatched_keys": [], "error_msgs": []}
    assert "missing when loaded" in compare.loaded(answer)[0].detail
    assert compare.loaded({**answer, "missing_keys": []}) == []


def traits(**other: object) -> Traits:
    given = {
        "tensors": NAMES,
        "config": {"theta": "1"},
        "files": ("config.json",),
        "outputs": {"alone|logits|0": "1"},
        "gradients": {"off|a": "1"},
    }
    return Traits(**{**given, **other})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "after, change",
    [
        ({}, []),
        (
            {"tensors": {"layer.0.norm.gamma": "1", "layer.1.norm.gamma": "1"}},
            [("names", "− `norm.weight` + `norm.gamma`")],
        ),
        (
            {"tensors": {**NAMES, "layer.0.norm.weight": "2"}, "outputs": {"alone|logits|0": "2"}},
            [("bytes", "other `layer.0.norm.weight`")],
        ),
        ({"config": {"theta": "2"}}, [("config", "other `theta`")]),
        ({"config": {"rope": "1"}}, [("config", "− `theta` + `rope`")]),
        ({"files": ("config.json", "model.bin")}, [("files", "+ `model.bin`")]),
        ({"outputs": {"alone|logits|0": "2"}}, [("bits", "outputs of `alone`")]),
        ({"gradients": {"off|a": "2"}}, [("bits", "gradients of `off`")]),
        ({"outputs": {"alone|scores|0": "1"}}, [("names", "outputs `logits`, `scores`")]),
    ],
)  # fmt: skip
def test_changes_between_releases(after: dict[str, object], change: list[tuple[str, str]]) -> None:
    assert changes(traits(), traits(**after)) == [Change(kind=k, detail=d) for k, d in change]  # type: ignore[arg-type]
