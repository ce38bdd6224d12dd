"""A draft is source text written from a folder: whatever its config and its tensors are called ends in it as
literals, and nowhere else.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from biject.checkpoint.source import Source
from biject.errors import ConfigError
from biject.newfamily.draft import draft, first_draft
from biject.newfamily.gates import load_family
from biject.newfamily.relatives import nearest_relative
from biject.newfamily.source_text import _EXPORTS, docstring, literal, quoted
from hostile.strangers import CONFIG, LAYER, shapes, stranger

TEXTS = (
    "\"+str(__import__('os').system('touch x'))+\"",
    "{__import__('os').system('touch x')}",
    '"""\n__import__("os").system("touch x")\n"""',
    "'''+print()+'''",
    "\\",
    '\\"',
    "\\N{BULLET}",
    "a  # b",
    "# TODO",
    "\n",
    "\r\nimport os\r\n",
    "\x00",
    "\u2028",
    "\u202e",
    "%s{0}{i}{name}",
    "\N{BOMB}",
    'v["hidden_size"]',
)
NAMES = {name for names in _EXPORTS.values() for name in names.split()} | {
    *("range", "str", "int", "tuple", "RELATIVE", "FAMILY", "v", "i", "name", "names", "memory", "disk"),
    *("width", "heads", "head_dim", "one", "spec", "head"),
    *("_norm", "backbone", "head_names", "unbound", "norm_config", "layer", "head_config", "build"),
}
"""What a draft may name."""
ATTRIBUTES = {"replace", "hf_class", "items", "heads"}


def literals(text: str) -> list[str]:
    """The strings of a draft, its first docstring apart; fails on any name that is not the draft's own."""
    tree = ast.parse(text)
    assert ast.get_docstring(tree) is not None
    found = []
    for node in ast.walk(ast.Module(tree.body[1:], [])):
        if isinstance(node, ast.Name):
            assert node.id in NAMES
        if isinstance(node, ast.Attribute):
            assert node.attr in ATTRIBUTES
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            assert module in ("__future__", "dataclasses") or str(module).startswith("biject.")
        if isinstance(node, ast.JoinedStr):
            assert ast.unparse(node).startswith("f'layers.{i}."), ast.unparse(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


Position = Callable[[str], tuple[Mapping[str, Any], Mapping[str, tuple[int, ...]]]]
"""From a text to the config's own keys, and the tensors."""


def _renamed(old: str, new: str, **others: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {name.replace(old, new): shape for name, shape in shapes(**others).items()}


MLM = {"architectures": ["StrangerForMaskedLM"]}
HEAD = {"top.dense.weight": (8, 8), "top.norm.weight": (8,), "top.decoder.bias": (20,)}
WINDOW = {"sliding_window": 4}
NAMED: Mapping[str, Position] = {
    "container": lambda text: ({}, _renamed("blocks", f"blocks{text}")),
    "module": lambda text: ({}, _renamed("attn.wq", f"attn.wq{text}")),
    "module of one layer": lambda text: ({}, _renamed("1.attn.wq", f"1.attn.wq{text}")),
    "norm of one layer": lambda text: (
        {},
        {k.replace("mlp_norm", f"mlp_norm{text}"): v for k, v in shapes().items() if "0.mlp_n" not in k},
    ),
    "unbound of every layer": lambda text: (
        {},
        shapes(**{f"net.blocks.{i}.odd{text}.weight": (3, 3) for i in range(2)}),
    ),
    "stray": lambda text: ({}, shapes(**{f"net.stray{text}": (3,)})),
    "table": lambda text: ({}, _renamed("net.table", f"net.table{text}")),
    "dense of a head": lambda text: (MLM, _renamed("top.dense", f"top{text}.dense", **HEAD)),
    "norm of a head": lambda text: (MLM, _renamed("top.norm", f"top.norm{text}", **HEAD)),
    "bias of a head": lambda text: (MLM, _renamed("top.decoder", f"top{text}.decoder", **HEAD)),
    "output of a head": lambda text: (
        {"architectures": ["StrangerForTokenClassification"]},
        shapes(**{f"top{text}.weight": (3, 8)}),
    ),
}
SAID: Mapping[str, Position] = {
    "key": lambda text: ({f"key{text}": 1}, shapes()),
    "key of a dropout": lambda text: ({f"dropout{text}": 0.5}, shapes()),
    "activation": lambda text: ({"hidden_act": text}, shapes()),
    "padding": lambda text: ({"pad_token_id": text}, shapes()),
    "list": lambda text: ({**WINDOW, "layer_types": [text, "sliding_attention"]}, shapes()),
    "object": lambda text: ({"rms_norm_eps": {"a": [text, {"b": text}]}}, shapes()),
    "key of an object": lambda text: ({"rms_norm_eps": {text: None}}, shapes()),
}


def _source(position: Position, text: str, folder: Path) -> Source:
    return stranger(folder, *position(text))


@pytest.mark.parametrize("position", [*NAMED.values(), *SAID.values()], ids=[*NAMED, *SAID])
def test_everything_is_a_literal(position: Position, tmp_path: Path) -> None:
    for index, text in enumerate(TEXTS):
        source = _source(position, text, tmp_path / str(index))
        written, origin = first_draft(source)
        assert origin.startswith("the tensors' names")
        found = literals(written)
        silent = position in (SAID["key of a dropout"],) and not any(text in one for one in found)
        assert silent or any(text in one for one in found), text


@pytest.mark.parametrize("position", NAMED.values(), ids=[*NAMED])
def test_names_are_what_they_were(position: Position, tmp_path: Path) -> None:
    """What the draft expands its rules to is the names of the file, to the letter."""
    for index, text in enumerate(TEXTS):
        source = _source(position, text, tmp_path / str(index))
        file = tmp_path / f"draft{index}.py"
        file.write_text(first_draft(source)[0], encoding="utf-8")
        own = load_family(file)
        values = own.config.read(source.config)
        local = {*own.all_passthrough(values), *(spec.disk for spec in own.all_specs(values))}
        named = local | {f"{own.prefix}.{name}" for name in local}
        assert named >= source.tensors.keys(), text


@pytest.mark.parametrize("text", TEXTS)
def test_a_relative_under_another_name(text: str, tmp_path: Path) -> None:
    tensors = _renamed("net.table", f"net.table{text}")
    tensors = {name.replace("net.", f"net{text}."): shape for name, shape in tensors.items()}
    source = stranger(tmp_path, {f"key{text}": 1}, tensors)
    literals(draft(source, nearest_relative(source)))


@pytest.mark.parametrize("text", [*TEXTS, "a b", "7", "os.system"])
def test_what_has_to_be_a_name(text: str, tmp_path: Path) -> None:
    for number, config in enumerate(({"architectures": [f"A{text}ForCausalLM"]}, {"model_type": f"a{text}"})):
        if text == "7":
            config = {key: [text] if isinstance(value, list) else text for key, value in config.items()}
        source = stranger(tmp_path / str(number), config)
        with pytest.raises(ConfigError, match=r"architectures|model_type"):
            first_draft(source)


@pytest.mark.parametrize("text", TEXTS)
def test_kinds_of_rotary_positions(text: str, tmp_path: Path) -> None:
    kinds = {"full_attention": {"rope_theta": 5.0, "x": text}, text: {"rope_theta": 7.0}, "rope_type": text}
    config = {"rope_parameters": kinds, "layer_types": ["full_attention", text], **WINDOW}
    written = first_draft(stranger(tmp_path / "kinds", config))[0]
    literals(written)
    assert "layer_type_rows(global_base=5.0, local_base=10000.0, every=1)" in written
    kinds["full_attention"] = {"rope_theta": text}
    with pytest.raises(ConfigError, match="rope_theta"):
        first_draft(stranger(tmp_path / "theta", config))


@pytest.mark.parametrize("text", [*TEXTS, "\ud800", "\udfff\N{BOMB}", *map(chr, range(0x180))])
def test_quotes(text: str) -> None:
    assert ast.literal_eval(quoted(text)) == text
    assert ast.literal_eval(f'"""{docstring(text)}"""') == text
    value = [{text: [text, None, True, 1e-5, -3]}, {}, []]
    assert ast.literal_eval(literal(value)) == value
    quoted(text).encode()  # nothing that no file can hold


def test_layer_of_the_fixture_is_found(tmp_path: Path) -> None:
    """The tests above say something: each matrix of the layers has a rule."""
    written = first_draft(stranger(tmp_path))[0]
    assert all(f'"{name}"' in written for name in LAYER)
    assert CONFIG["architectures"][0] in literals(written)
