from __future__ import annotations

import json

import pytest

from biject.verify.report import Check, LevelResult, Report, level_result

GOOD = Check(name="logits (1, 2)", passed=True, detail="bit-exact (max abs diff = 0)", max_abs_diff=0.0)
BAD = Check(name="logits (1, 2)", passed=False, detail="max abs diff = inf", max_abs_diff=float("inf"))


def report(*levels: LevelResult) -> Report:
    return Report(folder="out", source=None, levels=levels, not_checked=("the weather",))


def test_lines_a_person_can_read() -> None:
    lines = report(level_result("forward", [GOOD, BAD.at("layers.0")])).lines()
    assert lines == [
        "PASS forward logits (1, 2) bit-exact (max abs diff = 0)",
        "FAIL forward logits (1, 2) max abs diff = inf; first difference: layers.0",
        "NOT CHECKED the weather",
        "VERDICT FAIL out (fail: forward)",
    ]


def test_a_level_that_compared_nothing_fails() -> None:
    assert level_result("forward", []).status == "fail"
    assert level_result("forward", []).lines() == ["FAIL forward nothing was compared"]


def test_skipped_levels_neither_pass_nor_fail() -> None:
    skipped = LevelResult(name="names", status="skipped", reason="needs --source")
    assert not report(skipped).passed
    assert report(skipped, level_result("forward", [GOOD])).passed
    assert not report(skipped, level_result("forward", [GOOD, BAD])).passed
    assert skipped.lines() == ["SKIP names needs --source"]


def test_neighbours_of_one_case_share_a_line() -> None:
    checks = [
        Check(name=name, passed=True, detail="equal", case=case)
        for name, case in (("a", "x"), ("b", "x"), ("c", "y"))
    ]
    assert level_result("forward", checks).lines() == [
        "PASS forward a, b equal [x]",
        "PASS forward c equal [y]",
    ]


def test_json_is_strict_and_complete() -> None:
    text = report(level_result("forward", [GOOD, BAD])).to_json()
    value = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert value["passed"] is False
    assert value["levels"][0]["checks"][1]["max_abs_diff"] == "inf"
    assert value["not_checked"] == ["the weather"]


def test_an_unknown_level_is_named() -> None:
    with pytest.raises(KeyError, match="forward"):
        report(level_result("forward", [GOOD])).level("steps")
