"""Named cases: each ends in one of our errors or in success, within a second of CPU time and 200 MB."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from . import cases_config, cases_files
from .folders import VOCABULARY, config_of, good, write_config
from .worker import Outcome, Worker

pytestmark = pytest.mark.attack("files that are damaged or not what they say")

Make = Callable[[Path], Path]
CASES: dict[str, tuple[Make, Callable[[Path], object]]] = {
    **{name: (good, case) for name, case in {**cases_files.headers(), **cases_files.pickles()}.items()},
    **{name: (cases_files.sharded, case) for name, case in cases_files.indexes().items()},
    **{name: (good, case) for name, case in cases_files.odd_files().items()},
    **{name: (good, case) for name, case in {**cases_config.texts(), **cases_config.labels()}.items()},
}
FINE = {
    "header: zero times everything",
    "a folder that links to itself",
    "folders that link to each other",
    "a link out of the folder",
    "a pipe among the assets",
    "a name that is not UTF-8",
    "a name with a line break",
    "5,000 assets",
    "config: 200,000 keys",
    "config: an unknown class",
    "config: escapes",
}
"""Cases that may well succeed; every other one whose name says so in `REFUSED` must be an error."""
REFUSED = ("header: ", "index: ", "pickle: ")


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    started = Worker()
    folder = tmp_path_factory.mktemp("warm")
    assert started.meet(good(folder / "whole")).word == "ok"
    assert started.meet(good(folder / "shards", shards=2)).word == "ok"
    yield started
    started.close()


def assert_good(outcome: Outcome) -> None:
    assert outcome.good, outcome


@pytest.mark.parametrize("name", CASES)
def test_case(worker: Worker, tmp_path: Path, name: str) -> None:
    make, spoil = CASES[name]
    folder = make(tmp_path / "folder")
    (tmp_path / "secret.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    spoil(folder)
    outcome = worker.meet(folder)
    assert_good(outcome)
    made = {name for _, folders, files in os.walk(tmp_path) for name in (*folders, *files)}
    assert not made & {"canary", "escaped"}
    assert not Path("canary").exists()
    if name.startswith(REFUSED) and name not in FINE:
        assert outcome.word == "error", outcome
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    "value", ["a billion", "2**64", "negative", "true", "a giant text", "a list", "null"]
)
def test_every_key_of_bert(worker: Worker, tmp_path: Path, value: str) -> None:
    _every_key(worker, tmp_path, "bert", [value])


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted({family for family, _ in cases_config.keys().values()}))
def test_every_key_and_value(worker: Worker, tmp_path: Path, family: str) -> None:
    _every_key(worker, tmp_path, family, list(cases_config.VALUES))


def _every_key(worker: Worker, tmp_path: Path, family: str, values: list[str]) -> None:
    base = config_of(family, "base")
    folder = good(tmp_path / "folder", config=base, head="base")
    words = {word: index for index, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.save(str(folder / "tokenizer.json"))  # without it some families know no tokenizer at all
    first = worker.meet(folder)
    assert first.word == "ok", first
    for of, key in cases_config.keys().values():
        for value in values if of == family else ():
            write_config(folder, {key: cases_config.VALUES[value]}, base=base)
            outcome = worker.meet(folder)
            assert outcome.good, (key, value, outcome)


@pytest.mark.parametrize("model_type", ["bert", "albert", "distilbert", "deberta-v2"])
def test_a_billion_layers_are_refused_at_once(worker: Worker, tmp_path: Path, model_type: str) -> None:
    base = config_of(model_type, "base")
    folder = good(tmp_path / "folder", config=base, head="base")
    key = "n_layers" if model_type == "distilbert" else "num_hidden_layers"
    write_config(folder, {key: 10**9}, base=base)
    outcome = worker.meet(folder)
    assert outcome.kind == "ConfigError"
    assert "1000000000 layers" in outcome.message
    assert outcome.seconds < 0.5
    assert outcome.megabytes < 20
