"""Adapters that somebody brings: one error that says what is wrong; no code, no loops, no gigabytes."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from biject.cli.main import main
from biject.config.adapter import LoraConfig
from biject.errors import BijectError
from biject.inspect_adapter import inspect_adapter
from biject.merging.merge import merge
from biject.pretrained import load
from biject.verify import verify_export
from biject.verify.reference import make_reference

from .cases_files import Canary

pytestmark = pytest.mark.attack("adapters' folders")

CONFIG, WEIGHTS, OLD = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
SECONDS = 20


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    top = tmp_path_factory.mktemp("hostile-adapters")
    base = make_reference("bert", "seqcls", top / "base")
    model = load(base)
    model.add_adapter(LoraConfig(r=4, init_lora_weights=False))
    model.save_adapter(top / "adapter")
    return base, top / "adapter"


@pytest.fixture
def folder(places: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(places[1], tmp_path / "adapter"))


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    def late(*_: object) -> None:
        pytest.fail(f"longer than {SECONDS} seconds")  # no OSError, which the package would catch

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def values(**changes: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / CONFIG
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def record(**changes: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "biject.json"
        found = json.loads(path.read_text())
        path.write_text(json.dumps({"adapter": {**found["adapter"], **changes}}))

    return spoil


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    data = content if isinstance(content, bytes) else content.encode()

    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return spoil


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        found = load_file(folder / WEIGHTS)
        change(found)
        save_file(found, folder / WEIGHTS, metadata={"format": "pt"})

    return spoil


def first(found: dict[str, torch.Tensor], part: str = "lora_A") -> str:
    return next(name for name in found if part in name)


def instead(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return spoil


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / OLD).write_bytes(pickle.dumps({"a": Canary(os.mkdir, str(folder / "canary"))}))


def archived(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    torch.save({"a": Canary(os.mkdir, str(folder / "canary"))}, folder / OLD)


BOMBS = [r"(a+)+$", r"(.*)*x", r"((\w|\.)+)+!", ".*" * 12 + "!", ".?" * 60 + "!", r"(.|..)+!", r"(?=(.*)*x)y"]
REFUSED: dict[str, Callable[[Path], None]] = {
    "a rank of a billion": values(r=10**9),
    "a rank of 400 digits": values(r=10**400),
    "a rank of a billion by pattern": values(rank_pattern={"query": 10**9}),
    "a negative rank": values(r=-1),
    "a rank that is a text": values(r="4"),
    "a rank that is true": values(r=True),
    "an alpha of 400 digits": values(lora_alpha=10**400),
    "an alpha of nothing": values(lora_alpha=0),
    **{f"a bomb in targets: {bomb}": values(target_modules=bomb) for bomb in BOMBS},
    **{f"a bomb in exclusions: {bomb}": values(exclude_modules=bomb) for bomb in BOMBS[:2]},
    **{f"a bomb in ranks: {bomb}": values(rank_pattern={bomb: 4}) for bomb in BOMBS[:4]},
    **{f"a bomb in alphas: {bomb}": values(alpha_pattern={bomb: 4}) for bomb in BOMBS[:2]},
    "a bomb in layers": values(layers_to_transform=[0], layers_pattern=["(a+)+"]),
    "a bomb in the record": record(quantization="nf4", skip_modules=["(a+)+$"], tensors_sha256=None),
    "a pattern that closes another": values(rank_pattern={")(": 4}),
    "targets that are numbers": values(target_modules=[1, 2]),
    "targets that are lists": values(target_modules=[["query"]]),
    "targets that are a number": values(target_modules=5),
    "patterns that are a list": values(rank_pattern=[1]),
    "modules to save that are lists": values(modules_to_save=[["classifier"], {}]),
    "layers that are texts": values(layers_to_transform=["a"]),
    "an unknown kind": values(peft_type="EVIL"),
    "a kind that is a list": values(peft_type=[]),
    "a setting of somebody's": values(megatron_config={"a": 1}, megatron_core="os"),
    "a base of control characters": values(base_model_name_or_path="\x1b[2J\x1b]0;x\x07\n/evil"),
    "a base with a NUL": values(base_model_name_or_path="a\0b"),
    "a base of a lone surrogate": values(base_model_name_or_path="\ud800"),
    "a base of a megabyte": values(base_model_name_or_path="x" * 1_000_000),
    "a base that is a URL": values(base_model_name_or_path="https://example.org/model"),
    "a base that is a file": values(base_model_name_or_path="/etc/passwd"),
    "a base that is a device": values(base_model_name_or_path="/dev/zero"),
    "a base far above": values(base_model_name_or_path="../" * 40 + "etc"),
    "a base that is a list": values(base_model_name_or_path=["a"]),
    "a base that is itself": values(base_model_name_or_path="."),
    "settings: deep nesting": text(CONFIG, '{"r":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "settings: NaN": text(CONFIG, '{"peft_type": "LORA", "lora_alpha": NaN}'),
    "settings: a list": text(CONFIG, "[]"),
    "settings: 20 MB": text(CONFIG, '{"a": "' + "x" * 20_000_000 + '"}'),
    "settings: not UTF-8": text(CONFIG, b"\xff\xfe{}"),
    "a record of deep nesting": text("biject.json", '{"adapter":' + "[" * 100_000),
    "a head that is a path": record(head="../../x"),
    "labels that are objects": record(labels=[{}], head="tokcls"),
    "tensors: a header that lies": text(WEIGHTS, (2**62).to_bytes(8, "little") + b"{}"),
    "tensors: empty": text(WEIGHTS, b""),
    "tensors: an HTML page": text(WEIGHTS, b"<!DOCTYPE html>" * 100),
    "tensors: integers": tensors(lambda found: found.update({first(found): torch.zeros(4, 32).int()})),
    "tensors: another shape": tensors(lambda found: found.update({first(found): torch.zeros(4, 31)})),
    "tensors: one more": tensors(
        lambda found: found.update({"base_model.model.x.lora_A.weight": torch.zeros(4)})
    ),
    "tensors: one fewer": tensors(lambda found: found.pop(first(found))),
    "tensors: none of LoRA": tensors(
        lambda found: [found.pop(name) for name in list(found) if "lora" in name]
    ),
    "tensors: a pipe": instead(WEIGHTS, os.mkfifo),
    "tensors: a folder": instead(WEIGHTS, Path.mkdir),
    "tensors: a device": instead(WEIGHTS, lambda path: path.symlink_to("/dev/zero")),
    "tensors: a link to itself": instead(WEIGHTS, lambda path: path.symlink_to(path.name)),
    "code in a pickle": pickled,
    "code in an archive": archived,
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_one_error(name: str, folder: Path) -> None:
    REFUSED[name](folder)
    started = time.process_time()
    with pytest.raises(BijectError) as caught:
        load(folder, **({"quantization": "nf4", "skip_modules": ["(a+)+$"]} if "the record" in name else {}))
    assert len(str(caught.value)) < 3000
    assert str(caught.value).isprintable(), "control characters"
    assert time.process_time() - started < 5
    assert not (folder / "canary").exists()


@pytest.mark.parametrize("name", REFUSED)
def test_commands_end_in_order(name: str, folder: Path, tmp_path: Path, capsys) -> None:
    """inspect says what is wrong or that it cannot be read; merge writes nothing."""
    REFUSED[name](folder)
    assert main(["inspect", str(folder)]) in (0, 1, 2)
    assert main(["merge", "--adapter", str(folder), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert "\x1b[2J" not in said.out + said.err
    assert not (tmp_path / "out").exists()
    assert not (folder / "canary").exists()


def test_nan_loads_as_peft_loads_it_but_does_not_pass(folder: Path, tmp_path: Path) -> None:
    tensors(lambda found: found[first(found)].fill_(float("nan")))(folder)
    assert not verify_export(folder, levels=["stored"]).passed
    (folder / "biject.json").unlink()
    assert not verify_export(folder, levels=["stored"]).passed
    with pytest.raises(BijectError, match="not finite"):
        merge(folder, tmp_path / "out")


def test_a_base_with_code_runs_none(folder: Path, places: tuple[Path, Path], tmp_path: Path) -> None:
    base = Path(shutil.copytree(places[0], tmp_path / "evil"))
    canary = tmp_path / "canary"
    (base / "own.py").write_text(f"open({str(canary)!r}, 'w')\nclass Own: ...\n")
    config = json.loads((base / "config.json").read_text())
    own = {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"}
    (base / "config.json").write_text(json.dumps({**config, "auto_map": own}))
    for name in ("own.py", "modeling.py"):
        (folder / name).write_text((base / "own.py").read_text())
    values(
        base_model_name_or_path="../evil",
        auto_mapping={"base_model_class": "Own", "parent_library": "own"},
        megatron_core="own",
    )(folder)
    assert load(folder).head_name == "seqcls"
    assert verify_export(folder).level("adapter").status == "pass"
    assert merge(folder, tmp_path / "out").passed
    assert not canary.exists()


def test_a_record_of_odd_codes(folder: Path, tmp_path: Path) -> None:
    record(quantization="nf4", compute_dtype=[], double_quant="yes")(folder)
    assert not verify_export(folder).passed
    with pytest.raises(BijectError, match="which Biject does not write"):
        merge(folder, tmp_path / "out")


def test_a_good_bin_is_read(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / OLD)
    (folder / WEIGHTS).unlink()
    (folder / "biject.json").unlink()
    assert load(folder).head_name == "seqcls"
    assert inspect_adapter(folder).usable
    assert verify_export(folder).passed


def test_patterns_that_people_write_are_taken() -> None:
    for pattern in (
        r".*\.layers\.(\d+)\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj",
        r".*decoder.*(SelfAttention|EncDecAttention).*(q|v)$",
        r"^(?!.*head).*proj$",
        r"layer\.[0-9]+\.attention\.self\.(query|key)",
        "|".join(f"model.layers.{index}.self_attn.q_proj" for index in range(200)),
    ):
        LoraConfig(target_modules=pattern, rank_pattern={pattern.removeprefix(".*"): 4})
