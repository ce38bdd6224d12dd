"""Must show: planted faults are all caught, over all families; good exports pass; nobody sees a traceback."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biject.cli.main import main
from biject.families import ALL_HEADS, families
from biject.pretrained import load
from biject.verify import verify_export
from biject.verify.faults import file_faults, level, plant_files
from biject.verify.faults.file_faults import FILE_FAULTS, OPENING, FileFault
from biject.verify.faults.outcome import DoesNotApply
from biject.verify.reference import make_reference
from biject.verify.subject import Subject

pytestmark = pytest.mark.attack("exports with a planted fault")

LABELS = {"id2label": {0: "no", 1: "yes", 2: "maybe"}, "label2id": {"no": 0, "yes": 1, "maybe": 2}}
ALL_CELLS = [(name, head) for name in families() for head in families()[name].heads if head != "rtd"]
# By default each family with one head, every head with some family; `make test-slow` runs them all.
_FIVE = {name: [head for head in family.heads if head != "rtd"] for name, family in families().items()}
DEFAULT = {(name, heads[(3 * i + 1) % len(heads)]) for i, (name, heads) in enumerate(_FIVE.items())}
CELLS = [
    pytest.param(*cell, marks=() if cell in DEFAULT else pytest.mark.slow, id="-".join(cell))
    for cell in ALL_CELLS
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Path]]:
    """(source, export) of a cell, made once."""
    root, made = tmp_path_factory.mktemp("seeded"), {}

    def folder(model_type: str, head: str, **overrides: Any) -> tuple[Path, Path]:
        key = f"{model_type}-{head}-{'-'.join(overrides)}"
        if key not in made:
            labels = LABELS if head in ("seqcls", "tokcls") else {}
            source = make_reference(model_type, head, root / key, overrides={**labels, **overrides})
            load(source).save_pretrained(root / f"{key}-export")
            made[key] = source, root / f"{key}-export"
        return made[key]

    return folder


def no_place(subject: Subject) -> set[str]:
    """The kinds for which a model has no place, from the names and shapes of its parameters."""
    plan, tensors = subject.ours.provenance.plan, subject.export.tensors
    disk = {binding.memory: binding.disk[0] for binding in plan.bindings}
    output = tensors[disk["layers.0.attn.o_proj.weight"]].shape
    fused = "layers.0.attn.qkv_proj.bias" in disk
    specs = subject.ours.family.heads[subject.head].specs(subject.ours.resolved_config)
    pictures = subject.family.reads_pictures
    others = [head for name, head in subject.family.heads.items() if name != subject.head]
    others_own = any(
        not spec.base and not spec.tied_to and spec.disk not in tensors
        for head in others
        for spec in head.specs(subject.ours.resolved_config)
    )
    return {
        kind
        for kind, applies in {
            "twin-differs": plan.tied_output and any(spec.tied_to for spec in specs),
            "bias-zeroed": fused or "layers.0.attn.v_proj.bias" in disk,
            "bias-dropped": "layers.0.mlp.up_proj.bias" in disk or "layers.0.attn.q_proj.bias" in disk,
            "square-weight-transposed": output[0] == output[1],
            "norm-scale-bias-swapped": "layers.0.attn_norm.bias" in disk,
            "positions-shifted": {"embed.positions.weight", "relative.table.weight", "embed.positions"}
            & set(disk),
            "vocabulary-rolled": not pictures,
            "tokenizer-too-large": not pictures,
            "tokenizer-lost": not pictures,
            "tokenizer-changed": not pictures,
            "wrong-class": others_own
            and (not pictures or subject.family.model_type == "deit" or subject.head == "base"),
            "layers-swapped": "layers.1.attn.o_proj.weight" in disk,
            "label-map-lost": subject.head in ("seqcls", "tokcls"),
            "label-map-permuted": subject.head in ("seqcls", "tokcls"),
            "head-dropped": any(_is_head(memory) for memory in disk),
            "head-new": any(_is_head(memory) for memory in disk),
            "eps-times-ten": "norm_eps" in subject.family.config.keys,
        }.items()
        if not applies
    }


def _is_head(memory: str) -> bool:
    return memory.startswith("head.") and not memory.startswith("head.pooler.")


def contents(folder: Path) -> dict[str, str]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def check(source: Path, export: Path) -> None:
    subject = Subject(export, source=source)
    before = contents(export)
    control, outcomes = level.run_faults(subject)
    assert control.passed, control.detail
    assert [o for o in outcomes if o.status == "missed"] == []
    assert {o.kind for o in outcomes if o.status == "does not apply"} == no_place(subject)
    assert len(outcomes) == len(FILE_FAULTS)
    caught = [o for o in outcomes if o.status == "caught"]
    assert len(caught) >= 16
    assert all(o.levels and o.detail for o in caught)
    assert contents(export) == before


@pytest.mark.parametrize(("model_type", "head"), CELLS)
def test_every_fault_that_has_a_place_is_caught(folders, model_type: str, head: str) -> None:
    check(*folders(model_type, head))


def test_there_are_enough_kinds_and_each_has_a_place_somewhere(folders) -> None:
    kinds = [fault.kind for fault in FILE_FAULTS]
    assert len(set(kinds)) == len(kinds)
    assert len(FILE_FAULTS) >= 16
    cells = [folders("bert", "seqcls"), folders("roberta", "mlm"), folders("gpt2", "causal")]
    assert set.intersection(*(no_place(Subject(export)) for _, export in cells)) == set()


def test_a_fault_that_nobody_catches_fails_the_level(folders, monkeypatch) -> None:
    source, export = folders("bert", "seqcls")
    idle = FileFault(kind="idle", plant=lambda copy: "nothing at all", levels=("bytes",))
    monkeypatch.setattr(level, "FILE_FAULTS", (idle,))
    report = verify_export(export, source=source, levels=["faults"])
    assert not report.passed
    assert "FAIL faults idle (nothing at all) not caught by bytes" in report.lines()


def test_an_export_that_fails_already_proves_nothing(folders, tmp_path: Path) -> None:
    source, export = folders("bert", "seqcls")
    subject = Subject(export, source=source)
    bad = plant_files._copy(subject, tmp_path / "bad")
    file_faults.tensors.zero_bias(bad)
    report = verify_export(bad.folder, source=source, levels=["faults"])
    assert not report.passed
    assert "fails bytes, hf-forward with no fault planted" in "\n".join(report.lines())


def test_without_a_source_copies_are_compared_with_the_export(folders) -> None:
    _, export = folders("distilbert", "qa")
    report = verify_export(export, levels=["faults"])
    assert report.passed, report.lines()
    assert "compared with itself" in "\n".join(report.lines())
    assert "faults do not apply:" in "\n".join(report.lines())


def test_a_large_model_gets_the_light_faults(folders, monkeypatch) -> None:
    source, export = folders("bert", "seqcls")
    monkeypatch.setattr(level, "LIGHT_BYTES", 1000)
    lines = verify_export(export, source=source, levels=["faults"]).lines()
    assert any("these file faults were left out: q-k-swapped" in line for line in lines)


def damaged(folders, fault: FileFault, tmp_path: Path) -> tuple[Path, Path]:
    """A cell's source, and its export with a fault; the first of a few cells that has a place for it."""
    for model_type, head in (("bert", "seqcls"), ("bert", "mlm")):
        source, export = folders(model_type, head)
        copy = plant_files._copy(Subject(export), tmp_path / f"{model_type}-{head}")
        try:
            fault.plant(copy)
        except DoesNotApply:
            continue
        return source, copy.folder
    raise AssertionError(f"no place for {fault.kind}")


@pytest.mark.parametrize("fault", FILE_FAULTS, ids=lambda fault: fault.kind)
def test_the_command_line_says_so_without_a_traceback(
    folders, fault: FileFault, tmp_path: Path, capsys
) -> None:
    source, export = damaged(folders, fault, tmp_path)
    capsys.readouterr()
    codes = []
    if fault.levels:
        names = ",".join(name for name in fault.levels if name != OPENING) or "bytes"
        codes.append(main(["verify-export", str(export), "--source", str(source), "--level", names]))
    if fault.alone:
        names = "lint,reload" if "reload" in fault.alone else "lint"
        codes.append(main(["verify-export", str(export), "--level", names]))
    captured = capsys.readouterr()
    lints = [name for name in fault.alone if name.startswith("lint:")]
    warned = all(f"WARN lint {name.partition(':')[2]} " in captured.out for name in lints)
    assert set(codes) <= ({0, 1, 2} if lints and warned else {1, 2})
    assert "Traceback" not in captured.out + captured.err
    assert captured.out or captured.err


RUN = "import sys; from biject.cli.main import main; sys.exit(main())"


@pytest.mark.parametrize(
    ("kind", "levels", "code"),
    [("file-truncated", "bytes", 2), ("q-k-swapped", "bytes,hf-forward", 1)],
)
def test_as_a_process_of_its_own(folders, tmp_path: Path, kind: str, levels: str, code: int) -> None:
    fault = next(fault for fault in FILE_FAULTS if fault.kind == kind)
    source, export = damaged(folders, fault, tmp_path)
    command = ["verify-export", str(export), "--source", str(source), "--level", levels]
    done = subprocess.run([sys.executable, "-c", RUN, *command], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) <= 3


def test_the_whole_level_on_the_command_line(folders, monkeypatch, capsys) -> None:
    source, export = folders("bert", "seqcls")
    few = tuple(fault for fault in FILE_FAULTS if fault.kind in ("bit-flipped", "nan", "tokenizer-lost"))
    monkeypatch.setattr(level, "FILE_FAULTS", few)
    assert (
        main(["verify-export", str(export), "--source", str(source), "--level", "faults", "--verbose"]) == 0
    )
    out = capsys.readouterr().out
    assert "PASS faults bit-flipped (bert.encoder.layer.0.output.dense.weight" in out


def test_every_head_is_among_the_default_cells() -> None:
    assert {head for _, head in DEFAULT} == set(ALL_HEADS) - {"rtd", "distilled"}  # two that few use
