"""The one body's shape, by the sources: nobody asks for a head's type, `Transformer.forward` stays short."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src" / "biject"
HOMES = ("config/heads.py", "nn/heads/")
"""Where heads and their configs are; they may know each other."""

pytestmark = pytest.mark.skipif(bool(os.environ.get("BIJECT_INSTALLED")), reason="about the sources")


def asked_types(tree: ast.AST) -> Iterator[ast.expr]:
    """The types that code asks for: by `isinstance`, `issubclass`, `type(x) is`, or a class pattern."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, asked]):
                yield asked
            case ast.Compare(left=ast.Call(func=ast.Name(id="type")), comparators=asked):
                yield from asked
            case ast.MatchClass(cls=asked):
                yield asked


def is_head(name: str) -> bool:
    return name.endswith(("Head", "HeadConfig"))


def heads_asked(code: str) -> list[int]:
    """Lines that ask for the type of a head or of its config."""
    return [
        asked.lineno
        for asked in asked_types(ast.parse(code))
        for node in ast.walk(asked)
        if is_head(getattr(node, "id", "") or getattr(node, "attr", ""))
    ]


def test_nobody_asks_for_the_type_of_a_head() -> None:
    found = {
        name: lines
        for path in SOURCES.rglob("*.py")
        if not (name := path.relative_to(SOURCES).as_posix()).startswith(HOMES)
        and (lines := heads_asked(path.read_text(encoding="utf-8")))
    }
    assert not found


@pytest.mark.parametrize(
    "planted",
    [
        "isinstance(head, VocabHead)",
        "isinstance(config.head, BaseHeadConfig | PooledHeadConfig)",
        "isinstance(head, (int, heads.RowHead))",
        "type(head) is LastHeadConfig",
        "issubclass(kind, HeadConfig)",
        "match head:\n    case heads.PooledHead():\n        pass",
    ],
)
def test_a_planted_question_is_found(planted: str) -> None:
    assert heads_asked(planted)


def test_no_switch_means_decoder() -> None:
    """What a causal model differs in are fields of its layers' configs."""
    found = [
        f"{path.relative_to(SOURCES)}:{node.lineno}"
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr == "causal"
        and (getattr(node.value, "id", "") == "config" or getattr(node.value, "attr", "") == "config")
    ]
    assert not found


def test_forward_is_read_at_a_glance() -> None:
    tree = ast.parse((SOURCES / "nn" / "transformer.py").read_text(encoding="utf-8"))
    [model] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Transformer"]
    [forward] = [node for node in model.body if isinstance(node, ast.FunctionDef) and node.name == "forward"]
    assert forward.end_lineno is not None
    assert forward.end_lineno - forward.lineno + 1 <= 25
