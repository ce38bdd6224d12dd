"""`biject finetune` on bad input: exit code 2, one line, nothing written."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from biject.cli.main import main
from biject.verify.reference import make_reference

pytestmark = pytest.mark.attack("training data and recipes that are wrong")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("bert", "base", tmp_path_factory.mktemp("base") / "model")


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


def errors_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("biject: note: ")]


def case(name: str, content: bytes | None, says: str, *flags: str, file: str = "rows.csv") -> object:
    return pytest.param(file, content, flags, says, id=name)


GOOD = b"text,label\n" + b"a good film,yes\nthe lazy dog,no\n" * 6
BAD_INPUT = [
    case("wrong column", GOOD, "no column 'txt'", "--text-column", "txt"),
    case("wrong label column", GOOD, "no column 'lable'", "--label-column", "lable"),
    case("empty file", b"", "is empty"),
    case("header only", b"text,label\n", "no rows below its header"),
    case("one column only", b"text\na\nb\n", "no column `label`"),
    case("one label only", b"text,label\na,yes\nb,yes\n", "two different labels"),
    case("binary junk", bytes(range(256)) * 20, "binary data"),
    case("latin-1", b"text,label\ncaf\xe9,yes\nb,no\n", "expected UTF-8"),
    case("missing label", b"text,label\na,yes\nb,\n", "expected a label, found none"),
    case("missing text", b"text,label\na,yes\n,no\n", "found an empty one"),
    case("ragged", b"text,label\na,yes\nb,no,maybe\n", "expected 2 columns"),
    case("absent file", None, "no such file"),
    case("a folder of nothing", None, "no such file", file="nothing/rows.jsonl"),
    case("unknown kind of file", GOOD, "ends in", file="rows.docx"),
    case("text that is a number", b'{"text": 3, "label": "a"}\n{"text": "b", "label": "b"}\n',
         "expected a text", file="rows.jsonl"),
    case("label of the wrong type", b'{"text": "a", "label": "x"}\n{"text": "b", "label": 2}\n',
         "expected str as in the rows before", file="rows.jsonl"),
    case("label that is a dict", b'{"text": "a", "label": {}}\n{"text": "b", "label": {}}\n',
         "expected a class", file="rows.jsonl"),
    case("no JSON", b"{text: 3}\n", "expected one JSON object a line", file="rows.jsonl"),
    case("three text columns", GOOD, "expected one column, or two", "--text-column", "text,label,text2"),
    case("a batch of nothing", GOOD, "`--batch-size` should be at least 1", "--batch-size", "0"),
    case("too short", GOOD, "`--max-length` should be at least 3", "--max-length", "2"),
    case("rate of zero", GOOD, "`--lr` should be positive", "--lr", "0"),
    case("rate that is no number", GOOD, "lr", "--lr", "nan"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "content", "flags", "says"), BAD_INPUT)
def test_bad_input(
    capsys: pytest.CaptureFixture[str],
    base: Path,
    tmp_path: Path,
    file: str,
    content: bytes | None,
    flags: tuple[str, ...],
    says: str,
) -> None:
    if content is not None:
        (tmp_path / file).write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    code, text = call(
        capsys, "finetune", "--model", base, "--data", tmp_path / file, "--task", "seqcls", "--out",
        tmp_path / "run", *flags,
    )  # fmt: skip
    assert code == 2
    assert len(errors_of(text)) == 1, text
    assert says in text
    assert "Traceback" not in text
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unknown_label_in_the_evaluation_rows(
    capsys: pytest.CaptureFixture[str], base: Path, tmp_path: Path
) -> None:
    (tmp_path / "train.csv").write_bytes(GOOD)
    (tmp_path / "eval.csv").write_text("text,label\na,yes\nb,perhaps\n")
    code, text = call(
        capsys, "finetune", "--model", base, "--data", tmp_path / "train.csv", "--eval-data",
        tmp_path / "eval.csv", "--task", "seqcls", "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 2
    assert len(errors_of(text)) == 1
    assert "eval.csv, line 3, column `label`: unknown label 'perhaps'" in text
    assert not (tmp_path / "run").exists()


def test_a_text_too_long_where_nothing_may_be_cut(
    capsys: pytest.CaptureFixture[str], base: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n" + "a good film,yes\nb,no\n" * 5 + "fox " * 99 + ",no\n")
    (tmp_path / "recipe.toml").write_text("truncate = false\nmax_length = 20\n")
    code, text = call(
        capsys, "finetune", "--recipe", tmp_path / "recipe.toml", "--model", base, "--data",
        tmp_path / "rows.csv", "--task", "seqcls", "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 2
    assert len(errors_of(text)) == 1
    assert "line 12, column `text`: the text has 101 tokens, more than the limit of 20" in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "kind", ["absent", "empty folder", "file", "no weights", "junk weights", "no tokenizer"]
)
def test_a_model_that_is_none(
    capsys: pytest.CaptureFixture[str], base: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "rows.csv").write_bytes(GOOD)
    model = tmp_path / "model"
    if kind == "file":
        model.write_text("no model")
    elif kind != "absent":
        model.mkdir()
    keep = {
        "no weights": ("config", "tok"),
        "junk weights": ("config", "tok"),
        "no tokenizer": ("config", "model"),
    }
    for path in base.iterdir():
        if path.name.startswith(keep.get(kind, ("nothing",))):
            (model / path.name).write_bytes(path.read_bytes())
    if kind == "junk weights":
        (model / "model.safetensors").write_bytes(random.Random(0).randbytes(5000))
    code, text = call(
        capsys, "finetune", "--model", model, "--data", tmp_path / "rows.csv", "--task", "seqcls", "--out",
        tmp_path / "run",
    )  # fmt: skip
    assert code == 2
    assert len(errors_of(text)) == 1, text
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_something_else(
    capsys: pytest.CaptureFixture[str], base: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_bytes(GOOD)
    out = tmp_path / "run"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    for more in ((), ("--resume",)):
        code, text = call(
            capsys, "finetune", "--model", base, "--data", tmp_path / "rows.csv", "--task", "seqcls", "--out",
            out, *more,
        )  # fmt: skip
        assert code == 2
        assert len(errors_of(text)) == 1
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
