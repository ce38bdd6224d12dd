"""The verifier and the linter on folders made to exhaust them: bounded time and memory, a clear end."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.checkpoint.source import open_source
from biject.cli.main import main
from biject.errors import CheckpointError, ConfigError, InputError
from biject.families import text_families
from biject.verify import limited as limits
from biject.verify import verify_export
from biject.verify.claims import check_claims
from biject.verify.limited import limited
from biject.verify.reference import make_reference
from biject.verify.report import NothingToCompare

pytestmark = pytest.mark.attack("hostile folders: the verifier's time and memory")

MEMORY, SECONDS = 700_000_000, 60
BILLION = 10**9


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    held: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in held:
            held[name] = make_reference(name, "seqcls", tmp_path_factory.mktemp("good") / name)
        return held[name]

    return make


def change(folder: Path, name: str, edit: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads((folder / name).read_text())
    edit(value)
    (folder / name).write_text(json.dumps(value))


KEYS = {
    "layers": ("num_hidden_layers", "n_layers", "n_layer"),
    "positions": ("max_position_embeddings", "n_positions"),
    "labels": ("num_labels",),
    "rows": ("vocab_size",),
    "width": ("hidden_size", "dim", "n_embd"),
    "inner width": ("intermediate_size", "hidden_dim", "n_inner"),
    "attention heads": ("num_attention_heads", "n_heads", "n_head"),
    "chunks": ("chunk_size_feed_forward",),
}
EVERYWHERE = {"labels", "chunks"}
"""Keys that transformers reads of any family, though a config need not have them."""


@pytest.mark.parametrize("name", list(text_families()))
def test_good_ones_claim_nothing_wrong(name: str, good: Callable[[str], Path]) -> None:
    check_claims(open_source(good(name)))


@pytest.mark.parametrize("what", list(KEYS))
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "albert", "deberta-v2"])
def test_a_config_of_a_billion(name: str, what: str, good: Callable[[str], Path], tmp_path: Path) -> None:
    """Refused by every level before anything of that size is made, as a finding by the linter."""
    source = json.loads((good(name) / "config.json").read_text())
    key = next((key for key in KEYS[what] if key in source), None)
    if key is None:
        if what not in EVERYWHERE:
            pytest.skip("no such key")
        key = KEYS[what][0]
    shutil.copytree(good(name), tmp_path / "bad")

    def claim(value: dict[str, Any]) -> None:
        value[key] = BILLION
        if what == "labels":
            value.pop("id2label", None)
            value.pop("label2id", None)

    change(tmp_path / "bad", "config.json", claim)

    def codes() -> list[int]:
        folder, good_one = str(tmp_path / "bad"), str(good(name))
        return [
            main(["verify-export", folder, "--level", "lint"]),
            main(["verify-export", folder, "--source", good_one]),
            main(["verify-export", good_one, "--source", folder]),
            main(["inspect", folder]),
            main(["export", "--hub", folder, "--out", str(tmp_path / "out")]),
            main(["predict", folder, "--text", "a few words"]),
        ]

    found = limited(codes, what="the verifier", seconds=SECONDS, memory=MEMORY)
    assert found[:3] == [1, 2, 2]
    assert set(found[3:]) <= {0, 1, 2}


def test_labels_without_end(good: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(good("bert"), tmp_path / "bad")
    labels = {str(i): str(i) for i in range(100_000)}
    change(tmp_path / "bad", "config.json", lambda value: value.update(id2label=labels, label2id={}))
    with pytest.raises(ConfigError, match="id2label"):
        verify_export(tmp_path / "bad", levels=["reload"])


TEMPLATES = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
    "{% endfor %}{% endfor %}{% endfor %}",
    "prints gigabytes": "{% for a in range(99999) %}{% for b in range(99999) %}"
    + "x" * 1000
    + "{% endfor %}{% endfor %}",
    "doubles": "{% set ns = namespace(x='xxxxxxxx') %}{% for a in range(60) %}"
    "{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "multiplies": "{{ 'x' * 10**12 }}",
}
DOUBLE = {"type": "Replace", "pattern": {"Regex": "."}, "content": "aaaaaaaa"}
SEQUENCE = {"id": "A", "type_id": 0}


def grown_normalizer(value: dict[str, Any]) -> None:
    value["normalizer"] = {"type": "Sequence", "normalizers": [DOUBLE] * 12}


def grown_post_processor(value: dict[str, Any]) -> None:
    twice = [{"Sequence": SEQUENCE}, {"Sequence": SEQUENCE}]
    each = {"type": "TemplateProcessing", "single": twice, "pair": twice, "special_tokens": {}}
    value["post_processor"] = {"type": "Sequence", "processors": [each] * 40}


def grown_decoder(value: dict[str, Any]) -> None:
    each = {"type": "Replace", "pattern": {"Regex": "."}, "content": "aaaaaaaa"}
    value["decoder"] = {"type": "Sequence", "decoders": [each] * 12}


TOKENIZERS = {
    "normalizer": grown_normalizer,
    "post-processor": grown_post_processor,
    "decoder": grown_decoder,
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test reaches quickly."""
    monkeypatch.setattr(limits, "SECONDS", 6)
    monkeypatch.setattr(limits, "BYTES", 600_000_000)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_without_end(template: str, good: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(good("bert"), tmp_path / "bad")
    (tmp_path / "bad" / "chat_template.jinja").write_text(template)
    started = time.process_time()
    report = verify_export(tmp_path / "bad", levels=["lint", "tokenizer"])
    assert time.process_time() - started < SECONDS  # of this process: the child is another
    assert report.level("tokenizer").status == "fail"
    assert "stopped" in str(report.level("tokenizer").reason)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("grow", TOKENIZERS.values(), ids=TOKENIZERS)
def test_a_tokenizer_that_multiplies_its_text(
    grow: Callable[[dict[str, Any]], None], good: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(good("bert"), tmp_path / "bad")
    change(tmp_path / "bad", "tokenizer.json", grow)
    report = verify_export(tmp_path / "bad", levels=["tokenizer"])
    assert not report.passed
    lines = "\n".join(report.lines())
    assert "stopped" in lines or "cannot" in lines, lines


@pytest.mark.usefixtures("small")
def test_a_prompt_of_a_tokenizer_without_end(good: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(good("bert"), tmp_path / "bad")
    change(tmp_path / "bad", "tokenizer.json", grown_normalizer)
    with pytest.raises((CheckpointError, InputError), match=r"stopped|cannot read"):
        verify_export(tmp_path / "bad", prompt="a few words", levels=["forward"])


def spin() -> None:
    while True:
        pass


@pytest.mark.parametrize("call", [spin, lambda: "x" * 3 * 10**9, lambda: time.sleep(1000)])
def test_limits_end_a_call(call: Callable[[], object]) -> None:
    with pytest.raises(CheckpointError, match="the call takes more than 2 seconds"):
        limited(call, what="the call", seconds=2, memory=500_000_000)


def test_what_a_limited_call_gives() -> None:
    def refuse(error: Exception) -> None:
        raise error

    assert limited(lambda: {"a": [1, "é\n"]}, what="x") == {"a": [1, "é\n"]}
    with pytest.raises(NothingToCompare, match="nothing"):
        limited(lambda: refuse(NothingToCompare("nothing")), what="x")
    with pytest.raises(ConfigError, match="config"):
        limited(lambda: refuse(ConfigError("config")), what="x")
    with pytest.raises(CheckpointError, match="KeyError"):
        limited(lambda: refuse(KeyError("k")), what="x")


def test_without_the_claims_checked_it_would_not_end(
    good: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(good("bert"), tmp_path / "bad")
    change(tmp_path / "bad", "config.json", lambda value: value.update(num_hidden_layers=BILLION))
    command = ["verify-export", str(tmp_path / "bad"), "--level", "reload"]
    assert limited(lambda: main(command), what="it", seconds=5, memory=MEMORY) == 2
    monkeypatch.setattr("biject.verify.export.check_claims", lambda source: None)
    with pytest.raises(CheckpointError, match="it takes more"):
        limited(lambda: main(command), what="it", seconds=5, memory=8 * MEMORY)
