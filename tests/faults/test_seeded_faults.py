"""Must show: planted faults are all caught, over all families; good exports pass; nobody sees a traceback."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.cli.main import main
from biject.families import ALL_HEADS, families
from biject.model import load
from biject.verify import verify_export
from biject.verify.faults import file_faults, level, plant_files
from biject.verify.faults.code_faults import CODE_FAULTS
from biject.verify.faults.file_faults import FILE_FAULTS, OPENING, FileFault
from biject.verify.faults.outcome import DoesNotApply
from biject.verify.reference import make_reference
from biject.verify.subject import Subject

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
    """The kinds for which a model has no place, told from its config alone."""
    ours, head = subject.ours, subject.head
    config, kind = ours.config, ours.config.head.kind if ours.config.head else "none"
    relative, sizes = config.relative, config.embedding
    causal = config.causal
    fused = causal is not None and causal.fused
    biases = {binding.memory.split(".", 2)[-1] for binding in ours.provenance.plan.bindings}
    tied = ours.provenance.plan.tied_output and any(
        s.tied_to for s in ours.family.heads[head].slots(ours.settled)
    )
    own_head = any(binding.memory.startswith("head.") for binding in ours.provenance.plan.bindings)
    groups = causal.num_key_value_heads if causal else 1
    return {
        kind_name
        for kind_name, applies in {
            "twin-differs": tied,
            "bias-zeroed": "attn.v_proj.bias" in biases or fused,
            "bias-dropped": "mlp.up_proj.bias" in biases or "attn.q_proj.bias" in biases,
            "square-weight-transposed": config.head_dim * config.num_attention_heads == config.hidden_size,
            "norm-scale-bias-swapped": config.norm == "layer",
            "positions-shifted": "positions" in sizes.order or relative is not None,
            "position-plus-one": "positions" in sizes.order or relative is not None,
            "embedding-norm-left-out": sizes.norm,
            "other-gelu": "gelu" in config.hidden_act,
            "rope-base-changed": causal is not None and causal.rope is not None,
            "rope-pairs-interleaved": causal is not None and causal.rope is not None,
            "causal-mask-dropped": causal is not None,
            "window-one-too-wide": causal is not None and any(w and w < 13 for w in causal.windows),
            "key-heads-in-turn": 1 < groups < config.num_attention_heads,
            "norm-plus-one": config.norm == "rms",
            "key-norm-left-out": causal is not None and causal.qk_norm,
            "final-norm-left-out": config.norm_place == "pre",
            "gate-up-swapped": config.gated,
            "in-out-transposed": config.weights_in_out,
            "labels-not-shifted": kind == "causal",
            "last-column-classified": kind == "last",
            "layers-swapped": config.num_unique_layers > 1,
            "layers-reversed": config.layer_order != config.layer_order[::-1],
            "label-map-lost": head in ("seqcls", "tokcls"),
            "label-map-permuted": head in ("seqcls", "tokcls"),
            "head-dropped": own_head,
            "head-new": own_head,
            "eps-times-ten": "norm_eps" in ours.family.config.keys,
            "positions-over-padding": sizes.position_rule == "after-pad",
            "segments-left-out": "segments" in sizes.order,
            "pools-last-column": config.pooler or kind == "pooled",
            "decoder-bias-left-out": kind == "vocab",
            "head-activation-left-out": bool(config.head and config.head.dense_size),
            "ignored-labels-counted": kind in ("tokens", "vocab", "causal"),
            "c2p-p2c-swapped": relative is not None,
            "distance-sign-flipped": relative is not None,
            "buckets-left-out": relative is not None,
            "table-norm-left-out": relative is not None and relative.norm,
            "padding-not-zeroed": sizes.zero_padding,
            "convolution-left-out": config.conv is not None,
        }.items()
        if not applies
    }


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
    assert len(outcomes) == len(FILE_FAULTS) + len(CODE_FAULTS)
    caught = [o for o in outcomes if o.status == "caught"]
    assert sum(o.place == "file" for o in caught) >= 16
    assert sum(o.place == "code" for o in caught) >= 8
    assert all(o.levels and o.detail for o in caught)
    assert contents(export) == before
    assert all(parameter.requires_grad for parameter in subject.ours.parameters())


@pytest.mark.parametrize(("model_type", "head"), CELLS)
def test_every_fault_that_has_a_place_is_caught(folders, model_type: str, head: str) -> None:
    check(*folders(model_type, head))


def test_faults_of_deberta_with_all_its_parts(folders) -> None:
    """The convolution, the norm over the table, keys of their own."""
    overrides = {"conv_kernel_size": 3, "share_att_key": False, "norm_rel_ebd": "layer_norm"}
    check(*folders("deberta-v2", "mlm", **overrides))


def test_there_are_enough_kinds_and_each_has_a_place_somewhere(folders) -> None:
    kinds = [fault.kind for fault in (*FILE_FAULTS, *CODE_FAULTS)]
    assert len(set(kinds)) == len(kinds)
    assert len(FILE_FAULTS) >= 16
    assert len(CODE_FAULTS) >= 8
    cells = [folders("bert", "seqcls"), folders("roberta", "mlm"), folders("gpt2", "causal")]
    cells += [folders("mistral", "seqcls"), folders("qwen3", "qa"), folders("llama", "tokcls")]
    cells += [
        folders("deberta-v2", "mlm", conv_kernel_size=3, share_att_key=False, norm_rel_ebd="layer_norm")
    ]
    assert set.intersection(*(no_place(Subject(export)) for _, export in cells)) == set()


def test_outputs_are_the_same_after_all_code_faults(folders) -> None:
    _, export = folders("deberta-v2", "tokcls")
    subject = Subject(export)
    case = subject.cases[1]
    with torch.no_grad():
        before = subject.ours(**case.inputs).logits
        for fault in CODE_FAULTS:
            try:
                with fault.inject(subject.ours):
                    pass
            except DoesNotApply:
                continue
        assert torch.equal(subject.ours(**case.inputs).logits, before)


def test_a_fault_that_nobody_catches_fails_the_level(folders, monkeypatch) -> None:
    source, export = folders("bert", "seqcls")
    idle = FileFault(kind="idle", plant=lambda copy: "nothing at all", levels=("bytes",))
    monkeypatch.setattr(level, "FILE_FAULTS", (idle,))
    monkeypatch.setattr(level, "CODE_FAULTS", ())
    report = verify_export(export, source=source, levels=["faults"])
    assert not report.passed
    assert "FAIL faults file idle (nothing at all) not caught by bytes" in report.lines()


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
    assert "faults have no place here:" in "\n".join(report.lines())


def test_a_large_model_gets_the_light_faults(folders, monkeypatch) -> None:
    source, export = folders("bert", "seqcls")
    monkeypatch.setattr(level, "LIGHT_BYTES", 1000)
    monkeypatch.setattr(level, "CODE_FAULTS", ())
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
    monkeypatch.setattr(level, "CODE_FAULTS", CODE_FAULTS[:3])
    assert main(["verify-export", str(export), "--source", str(source), "--level", "faults"]) == 0
    out = capsys.readouterr().out
    assert "PASS faults file bit-flipped (bert.encoder.layer.0.output.dense.weight" in out
    assert "PASS faults code position-plus-one (embed.positions) caught by forward" in out


def test_every_head_is_among_the_default_cells() -> None:
    assert {head for _, head in DEFAULT} == set(ALL_HEADS) - {"rtd"}
