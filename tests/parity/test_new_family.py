"""`new-family`: a draft that fits passes every gate; what does not is named at the first that sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from biject.checkpoint.source import Source, open_source
from biject.errors import ConfigError
from biject.families import families, family, trying
from biject.newfamily.draft import draft
from biject.newfamily.gates import ORDER, Gate, load_family, run_gates
from biject.newfamily.relatives import nearest_relative
from biject.verify.reference import make_reference, randomise

SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


def stranger(folder: Path, model_type: str, auto: str, **keys: Any) -> Source:
    """A checkpoint of a family that Biject does not have."""
    import transformers

    config = transformers.AutoConfig.for_model(model_type, **SIZES, **keys)
    model = getattr(transformers, auto).from_config(config)
    randomise(model, seed=0)
    model.save_pretrained(folder)
    return open_source(folder)


def gates(text: str, source: Source, tmp_path: Path) -> list[Gate]:
    file = tmp_path / "family_file.py"
    file.write_text(text)
    return list(run_gates(file, source))


@pytest.mark.parametrize("auto", ["AutoModel", "AutoModelForMaskedLM", "AutoModelForSequenceClassification"])
def test_a_cousin_passes_as_drafted(auto: str, tmp_path: Path) -> None:
    source = stranger(tmp_path / "model", "data2vec-text", auto)
    relative = nearest_relative(source)
    assert relative.family.model_type == "roberta"
    assert relative.prefix == "data2vec_text"
    assert relative.share == 1.0
    found = gates(draft(source, relative), source, tmp_path)
    assert [gate.name for gate in found] == list(ORDER)
    assert all(gate.passed for gate in found), found


def test_a_config_key_that_nobody_knows_is_named(tmp_path: Path) -> None:
    source = stranger(tmp_path / "model", "ernie", "AutoModelForMaskedLM", use_task_id=True)
    text = draft(source, nearest_relative(source))
    assert "ernie.embeddings.task_type_embeddings.weight" in text
    found = gates(text, source, tmp_path)
    assert [gate.name for gate in found] == ["file", "config"]
    assert "`task_type_vocab_size`" in found[-1].detail


def test_a_tensor_that_no_rule_names_is_named(tmp_path: Path) -> None:
    source = stranger(tmp_path / "model", "ernie", "AutoModelForMaskedLM", use_task_id=True)
    text = draft(source, nearest_relative(source)) + (
        "\nfrom biject.config.table import ConfigTable, Inert\n"
        "table = RELATIVE.config\n"
        "named = {row.name for row in [*table.keys.values(), *table.consts]}\n"
        "others = Inert((*(table.known - named), 'task_type_vocab_size', 'use_task_id'))\n"
        "FAMILY = replace(FAMILY, config=ConfigTable(table.keys.values(), table.consts, others))\n"
    )
    found = gates(text, source, tmp_path)
    assert [gate.name for gate in found] == ["file", "config", "names"]
    assert "`ernie.embeddings.task_type_embeddings.weight` is named by no rule" in found[-1].detail


def test_a_missing_tensor_is_named_with_its_nearest(tmp_path: Path) -> None:
    source = stranger(tmp_path / "model", "roberta-prelayernorm", "AutoModelForMaskedLM")
    found = gates(draft(source, nearest_relative(source)), source, tmp_path)
    assert [gate.name for gate in found] == ["file", "config", "names"]
    assert "attention.output.LayerNorm.weight" in found[-1].detail
    assert "nearest unused" in found[-1].detail


def test_a_wrong_shape_is_named(tmp_path: Path) -> None:
    source = stranger(tmp_path / "model", "data2vec-text", "AutoModel")
    text = draft(source, nearest_relative(source)) + (
        "\nbefore = RELATIVE.build\n"
        "FAMILY = replace(FAMILY, build=lambda v, name: before({**v, 'intermediate_size': 65}, name))\n"
    )
    found = gates(text, source, tmp_path)
    assert [gate.name for gate in found][-1] == "shapes"
    assert "intermediate.dense" in found[-1].detail


def test_a_wrong_operation_is_named(tmp_path: Path) -> None:
    source = stranger(tmp_path / "model", "data2vec-text", "AutoModel")
    text = draft(source, nearest_relative(source)) + (
        "\nbefore = RELATIVE.build\n"
        "FAMILY = replace(FAMILY, build=lambda v, name: before({**v, 'hidden_act': 'relu'}, name))\n"
    )
    found = gates(text, source, tmp_path)
    assert [gate.name for gate in found][-1] == "forward"
    assert not found[-1].passed
    assert "layers.0.mlp" in found[-1].detail


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("FAMILY = 3", "should define FAMILY"),
        ("", "should define FAMILY"),
        ("def (", "SyntaxError"),
        ("from biject.families.bert import FAMILY", "the checkpoint is"),
    ],
)
def test_files_that_are_no_family(text: str, says: str, tmp_path: Path) -> None:
    source = stranger(tmp_path / "model", "data2vec-text", "AutoModel")
    found = gates(text, source, tmp_path)
    assert [gate.passed for gate in found] == [False]
    assert says in found[0].detail


def test_a_tried_family_leaves_no_trace(tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    file.write_text(
        "from dataclasses import replace\nfrom biject.families.bert import FAMILY as B\n"
        "FAMILY = replace(B, model_type='mine')\n"
    )
    with trying(load_family(file)):
        assert family("mine").model_type == "mine"
        assert "mine" in families()
    assert "mine" not in families()
    with pytest.raises(ConfigError):
        family("mine")


def test_a_known_family_drafted_again_finds_its_cousin(tmp_path: Path) -> None:
    folder = make_reference("camembert", "mlm", tmp_path / "model")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert nearest_relative(open_source(folder)).family.model_type in ("roberta", "xlm-roberta")


@pytest.mark.parametrize("error", ["KeyError('spice')", "TypeError('no number')", "RecursionError()"])
@pytest.mark.parametrize("place, gate", [("read", "config"), ("unknown", "config"), ("build", "names")])
def test_any_exception_is_a_fail_of_its_gate(place: str, gate: str, error: str, tmp_path: Path) -> None:
    source = stranger(tmp_path / "model", "data2vec-text", "AutoModelForMaskedLM")
    text = draft(source, nearest_relative(source))
    text += f"""

import dataclasses


def raising(*arguments: object, **options: object) -> None:
    raise {error}


class Broken:
    def __init__(self, own: object) -> None:
        self.own = own

    def __getattr__(self, name: str) -> object:
        return raising if name == {place!r} else getattr(self.own, name)


config = Broken(FAMILY.config)
change = {{"build": raising}} if {place!r} == "build" else {{"config": config}}
FAMILY = dataclasses.replace(FAMILY, **change)
"""
    found = gates(text, source, tmp_path)
    assert not found[-1].passed
    assert found[-1].name == gate
    assert error.partition("(")[0] in found[-1].detail
