"""The level `tokenizer`: passes, fails on a tokenizer that lies, is skipped where there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from biject.verify import verify_export
from biject.verify.reference import make_reference
from biject.verify.report import LevelResult


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("bert", "mlm", tmp_path_factory.mktemp("made") / "bert")


@pytest.fixture
def folder(reference: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference, tmp_path / "export"))


def level(folder: Path) -> LevelResult:
    return verify_export(folder, levels=["tokenizer"]).level("tokenizer")


def test_a_good_tokenizer_passes(folder: Path) -> None:
    result = level(folder)
    assert result.status == "pass"
    assert [check.name for check in result.checks] == [
        *("special tokens", "vocabulary", "texts", "pairs", "words", "truncation", "padding", "decode"),
        *("chat template", "ids"),
    ]


def test_a_tokenizer_that_is_too_large_fails(folder: Path) -> None:
    path = folder / "tokenizer.json"
    serialized = json.loads(path.read_text())
    serialized["model"]["vocab"]["later"] = 100_000
    path.write_text(json.dumps(serialized))
    result = level(folder)
    assert [check.name for check in result.failures] == ["ids"]
    assert "'later' (id 100000)" in result.failures[0].detail


def test_a_difference_names_the_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from biject.tokenization import load

    make = load.finish

    def shifted(parts, settings) -> None:
        make(parts, settings)
        parts.backend.normalizer = None

    monkeypatch.setattr(load, "finish", shifted)
    failed = {check.name: check.detail for check in level(folder).failures}
    assert "'The quick brown fox jumps over the lazy dog.'" in failed["texts"]
    assert "HF has" in failed["texts"]


def test_no_tokenizer_at_all_is_skipped(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink()
    result = level(folder)
    assert (result.status, result.reason) == ("skipped", "the folder has no tokenizer")


def test_settings_without_a_vocabulary_fail(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    result = level(folder)
    assert result.status == "fail"
    assert "no vocabulary at all" in str(result.reason)


def test_a_vocabulary_that_nobody_reads_is_skipped(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    (folder / "merges.txt").write_text("a b\n")
    (folder / "spiece.model").write_bytes(b"")
    result = level(folder)
    assert result.status == "skipped"
    assert "vocab.txt" in str(result.reason)


def test_a_damaged_tokenizer_fails(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    assert level(folder).status == "fail"
