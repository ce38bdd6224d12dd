"""What is said about data that may mislead."""

from __future__ import annotations

from pathlib import Path

import pytest

from biject.cli.main import main
from biject.config.recipe import FinetuneRecipe
from biject.runs.prepare import prepare
from biject.verify.reference import make_reference


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("bert", "mlm", tmp_path_factory.mktemp("base") / "model")


def said(tmp_path: Path, folder: Path, rows: list[str], task: str, **more: str) -> list[str]:
    data = tmp_path / "rows.csv"
    data.write_text("text,label\n" + "".join(row + "\n" for row in rows))
    recipe = FinetuneRecipe(model=str(folder), data=str(data), task=task, **more)
    return [line for line in prepare(recipe).lines if line.startswith("DATA note")]


def test_texts_on_both_sides(tmp_path: Path, folder: Path) -> None:
    rows = ["a b c,x", "c b a,y"] * 10 + ["b b,x", "c c,y"]
    lines = said(tmp_path, folder, rows, "seqcls")
    assert len(lines) == 1
    assert "of 2 evaluation samples are trained on, too" in lines[0]


def test_another_file(tmp_path: Path, folder: Path) -> None:
    held_out = tmp_path / "eval.csv"
    held_out.write_text("text,label\na b c,x\nc c c c,y\n")
    lines = said(tmp_path, folder, ["a b c,x", "c b a,y"], "seqcls", eval_data=str(held_out))
    assert lines == [
        "DATA note: 1 of 2 evaluation samples are trained on, too: the numbers will be better than those of "
        "new texts. Leave out duplicates, or keep them on one side."
    ]


def test_nothing_where_all_differ(tmp_path: Path, folder: Path) -> None:
    rows = [f"{'a ' * n}{'b ' * (n % 3)},{'xy'[n % 2]}" for n in range(1, 30)]
    assert said(tmp_path, folder, rows, "seqcls") == []


def test_labels_that_are_not_read(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("text,label\n" + "a b c,x\nc b a,y\n" * 5)
    code = main(["finetune", "--model", str(folder), "--data", str(data), "--max-steps", "1", "--no-verify",
                 "--out", str(tmp_path / "out")])  # fmt: skip
    assert code == 0
    assert "column `label` is not read" in capsys.readouterr().out
