"""Parquet, folders, Hub data sets: with the `datasets` library where it is installed, and without it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from biject.data.hub_rows import is_hub_name
from biject.data.rows import load_rows
from biject.errors import InputError, MissingExtraError


@pytest.mark.parametrize(
    "name, expected",
    [("imdb", True), ("nyu-mll/glue", True), ("a/b/c", False), ("a.csv", False), ("/x", False), ("", False)],
)
def test_names_of_the_hub(name: str, expected: bool) -> None:
    assert is_hub_name(name) is expected


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtraError, match=r"a\.parquet: it needs the `datasets` library: pip install"):
        load_rows(tmp_path / "a.parquet")
    with pytest.raises(MissingExtraError, match=r"nobody/nothing: no such file.*install 'biject\[data\]'"):
        load_rows("nobody/nothing")


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return pytest.importorskip("datasets")


def made(datasets: Any) -> Any:
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["neg", "pos"]),
            "tags": datasets.Sequence(datasets.ClassLabel(names=["O", "X"])),
        }
    )
    rows = [{"text": f"t{i}", "label": i % 2, "tags": [0, 1]} for i in range(6)]
    return datasets.Dataset.from_list(rows, features=features)


def test_parquet_and_saved_folders(datasets: Any, tmp_path: Path) -> None:
    table = made(datasets)
    table.to_parquet(str(tmp_path / "a.parquet"))
    table.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict(train=table, test=table.select([0])).save_to_disk(str(tmp_path / "more"))
    for source in ("a.parquet", "one", "more"):
        for streaming in (False, True):
            rows = load_rows(tmp_path / source, limit=4, streaming=streaming)
            assert [row["text"] for row in rows.records] == ["t0", "t1", "t2", "t3"]
            assert rows.class_names == {"label": ("neg", "pos"), "tags": ("O", "X")}
            assert rows.place(1) == f"{tmp_path / source}, row 2"
    assert len(load_rows(tmp_path / "more", split="test")) == 1
    with pytest.raises(InputError, match=r"no split 'dev'; it has test, train"):
        load_rows(tmp_path / "more", split="dev")
    assert load_rows(table).class_names == {"label": ("neg", "pos"), "tags": ("O", "X")}


def test_what_the_library_refuses(datasets: Any, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    for source in (tmp_path / "a.parquet", "nobody/nothing-at-all"):
        with pytest.raises(InputError, match="cannot be read as a data set") as caught:
            load_rows(source)
        assert "\n" not in str(caught.value)
