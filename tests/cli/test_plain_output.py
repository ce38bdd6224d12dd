"""Nothing that a folder brings is obeyed by a terminal, or looks like a line of a report."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from biject.cli.main import main
from biject.cli.plain import plain, plain_json
from biject.verify.reference import make_reference

pytestmark = pytest.mark.attack("what a terminal is shown")

FORGED = "VERDICT PASS everything"
EVIL = f"a\x1b[2Jb\n{FORGED}\r\x07\x9b31m\u202egnp.\u2066x\u2028y\x7f\u200bz\U000e0041"
HARMLESS = "日本語 é 👩\u200d💻 שלום\u00a0x"
Plant = Callable[[Path], None]


def config(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "config.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def tensor_name(folder: Path) -> None:
    path = folder / "model.safetensors"
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors | {EVIL: torch.ones(2)}, path, metadata={"format": "pt"})


def dtype(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    next(entry for name, entry in header.items() if name != "__metadata__")["dtype"] = EVIL
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + int.from_bytes(data[:8], "little") :])


PLANTS: dict[str, Plant] = {
    "tensor name": tensor_name,
    "dtype": dtype,
    "config key": lambda folder: config(folder, lambda value: value.update({EVIL: 1})),
    "config value": lambda folder: config(folder, lambda value: value.update({"hidden_act": EVIL})),
    "model_type": lambda folder: config(folder, lambda value: value.update({"model_type": EVIL})),
    "architectures": lambda folder: config(folder, lambda value: value.update({"architectures": [EVIL]})),
    "problem_type": lambda folder: config(folder, lambda value: value.update({"problem_type": EVIL})),
    "torch_dtype": lambda folder: config(folder, lambda value: value.update({"torch_dtype": EVIL})),
    "label": lambda folder: config(
        folder, lambda value: value.update({"id2label": {"0": EVIL, "1": "b"}, "label2id": {EVIL: 0, "b": 1}})
    ),
    "file name": lambda folder: (folder / EVIL.replace("/", "")).touch(),
    "weight file name": lambda folder: (folder / f"{EVIL}.safetensors").touch(),
    "not UTF-8": lambda folder: (folder / b"\xff\x1b[2J.txt".decode("utf-8", "surrogateescape")).touch(),
    "tokenizer_class": lambda folder: (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": EVIL, "pad_token": EVIL})
    ),
    "index": lambda folder: (
        (folder / "model.safetensors").unlink(),
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {EVIL: "model-00001-of-00002.safetensors"}})
        ),
    )[0],
    "shard": lambda folder: (
        (folder / "model.safetensors").unlink(),
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"a": f"{EVIL}.safetensors"}})
        ),
    )[0],
}
COMMANDS: dict[str, list[str]] = {
    "inspect": ["inspect", "DIR"],
    "inspect --json": ["inspect", "DIR", "--json"],
    "export": ["export", "--hub", "DIR", "--out", "OUT"],
    "export --json": ["export", "--hub", "DIR", "--out", "OUT", "--json"],
    "export a new head": ["export", "--hub", "DIR", "--out", "OUT", "--head", "tokcls", "--new-head", "keep"],
    "verify-export": ["verify-export", "DIR", "--level", "names,bytes,reload,tokenizer"],
    "verify-export against a source": ["verify-export", "DIR", "--source", "GOOD", "--level", "names,bytes"],
    "verify-export of a good one": ["verify-export", "GOOD", "--source", "DIR", "--level", "names,bytes"],
    "verify-export --json": ["verify-export", "DIR", "--source", "GOOD", "--level", "names,bytes", "--json"],
    "lint": ["verify-export", "DIR", "--level", "lint"],
    "lint --json": ["verify-export", "DIR", "--level", "lint", "--json"],
    "predict": ["predict", "DIR", "--text", "some text"],
    "predict --json": ["predict", "DIR", "--text", "some text", "--json"],
}


def check(text: str) -> None:
    """No character that a terminal obeys or that hides others, and no line of the folder's own."""
    for character in text:
        category = unicodedata.category(character)
        assert character == "\n" or category not in ("Cc", "Cf", "Cs", "Zl", "Zp", "Co"), ascii(character)
    assert not any(line.startswith(FORGED) for line in text.splitlines())


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("bert", "seqcls", tmp_path_factory.mktemp("plain") / "good")


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_every_command(plant: Plant, good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import shutil

    shutil.copytree(good, tmp_path / "bad")
    plant(tmp_path / "bad")
    places = {"DIR": tmp_path / "bad", "GOOD": good, "OUT": tmp_path / "out"}
    for name, command in COMMANDS.items():
        code = main([str(places.get(word, word)) for word in command])
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        out, err = capfd.readouterr()
        assert code in (0, 1, 2), name
        assert out or err, name
        check(out)
        check(err)
        if "--json" in name and out:
            json.loads(out)


def test_the_folder_itself(good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import shutil

    folder = tmp_path / EVIL.replace("/", "")
    shutil.copytree(good, folder)
    for command in COMMANDS.values():
        main(
            [str({"DIR": folder, "GOOD": good, "OUT": tmp_path / "out"}.get(word, word)) for word in command]
        )
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        check("".join(capfd.readouterr()))


def test_what_is_escaped() -> None:
    check(plain(EVIL))
    assert plain(HARMLESS) == HARMLESS
    assert plain("\ud800") == "\\ud800"


@pytest.mark.parametrize("indent", [None, 2])
def test_json_keeps_its_value(indent: int | None) -> None:
    value = {EVIL: [EVIL, HARMLESS]}
    text = plain_json(json.dumps(value, indent=indent, ensure_ascii=False))
    check(text.replace("\u200d", ""))
    assert json.loads(text) == value
    assert HARMLESS in text


def test_the_check_can_fail(
    good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr("biject.cli.console.plain", str)
    shutil.copytree(good, tmp_path / "bad")
    tensor_name(tmp_path / "bad")
    main(["verify-export", str(tmp_path / "bad"), "--source", str(good), "--level", "names"])
    with pytest.raises(AssertionError):
        check(capfd.readouterr().out)
