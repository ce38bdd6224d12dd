"""Named cases: config.json, as text and key by key, for every family."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from biject.families import families

from .folders import CONFIG, write_config

Case = Callable[[Path], object]

VALUES: dict[str, Any] = {
    "a billion": 10**9,
    "2**31": 2**31,
    "2**62": 2**62,
    "2**64": 2**64,
    "400 digits": 10**400,
    "negative": -1,
    "zero": 0,
    "true": True,
    "false": False,
    "a float": 2.5,
    "1e308": 1e308,
    "-0.0": -0.0,
    "text": "12",
    "an empty text": "",
    "a giant text": "x" * 1_000_000,
    "a lone surrogate": "\ud800",
    "null": None,
    "a list": [1],
    "an empty list": [],
    "an object": {"a": 1},
    "an empty object": {},
    "nested lists": [[[[[[]]]]]],
    "left out": ...,
}
"""What every key of every family is set to."""


def texts() -> dict[str, Case]:
    """config.json as text."""
    plain = json.dumps(CONFIG)
    found: dict[str, str | bytes] = {
        "an empty file": "",
        "blanks": " \n ",
        "a byte order mark": "\ufeff" + plain,
        "UTF-16": plain.encode("utf-16"),
        "UTF-32": plain.encode("utf-32"),
        "Latin-1": plain.replace("no", "nö").encode("latin-1"),
        "NUL bytes": plain.encode() + b"\0" * 100,
        "cut short": plain[: len(plain) // 2],
        "two documents": plain + plain,
        "single quotes": plain.replace('"', "'"),
        "comments": "// a config\n" + plain,
        "a list": "[]",
        "a number": "1",
        "a text": '"config"',
        "null": "null",
        "duplicate keys": plain.replace("{", '{"hidden_size": 4, ', 1),
        "duplicate labels": plain.replace('"0": "no"', '"0": "no", "0": "maybe"'),
        "NaN": plain.replace("{", '{"layer_norm_eps": NaN, ', 1),
        "Infinity": plain.replace("{", '{"layer_norm_eps": -Infinity, ', 1),
        "a float out of range": plain.replace("{", '{"layer_norm_eps": 1e999, ', 1),
        "an integer of 5000 digits": plain.replace("{", '{"layer_norm_eps": ' + "9" * 5000 + ", ", 1),
        "deep nesting": '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
        "nesting below the limit": '{"a":' + "[" * 500 + "]" * 500 + "," + plain[1:],
        "brackets only": '{"a":[' + "[]," * 1_000_000 + "0]}",
        "20 MB of text": '{"a":"' + "x" * 20_000_000 + '",' + plain[1:],
        "200 MB of blanks": " " * 200_000_000,
        "escapes": '{"a":"' + "\\u0041" * 1_000_000 + '",' + plain[1:],
        "200,000 keys": "{" + "".join(f'"k{i}":{i},' for i in range(200_000)) + plain[1:],
    }
    return {f"config: {name}": lambda folder, text=text: _write(folder, text) for name, text in found.items()}


def _write(folder: Path, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "config.json").write_bytes(data)


def labels() -> dict[str, Case]:
    """Values of keys with a form of their own."""
    changes: dict[str, dict[str, Any]] = {
        "labels with holes": {"id2label": {"0": "a", "2": "b"}},
        "labels counted twice": {"id2label": {"0": "a", "00": "b"}},
        "labels by name": {"id2label": {"a": 0}},
        "labels that are numbers": {"id2label": {"0": 1, "1": 2}},
        "labels that are lists": {"id2label": {"0": [], "1": {}}},
        "labels as a list": {"id2label": ["a", "b"]},
        "100,000 labels": {"id2label": {str(i): str(i) for i in range(100_000)}},
        "a label number of 5000 digits": {"id2label": {"9" * 5000: "a"}},
        "label ids that are lists": {"label2id": {"no": [], "yes": {}}},
        "no class": {"architectures": ...},
        "an unknown class": {"architectures": ["x" * 100_000]},
        "classes that are no names": {"architectures": [{}, 3]},
        "a model_type with a path": {"model_type": "../../bert"},
        "a model_type that is a private module": {"model_type": "_encoder"},
        "a model_type that is a module elsewhere": {"model_type": "os"},
        "quantised": {"quantization_config": {"quant_method": "gptq"}},
        "remote code": {"auto_map": {"AutoModel": "evil.Model"}, "model_type": "evil"},
        "heads that do not divide": {"num_attention_heads": 3},
        "padding beyond the vocabulary": {"pad_token_id": 10**6},
    }
    return {
        f"config: {name}": lambda folder, c=change: write_config(folder, c)
        for name, change in changes.items()
    }


def keys() -> dict[str, tuple[str, str]]:
    """(family, key) by name, for every key that a family reads."""
    found = {}
    for name, family in families().items():
        for row in (*family.config.keys.values(), *family.config.consts):
            found[f"{name} {row.name}"] = (name, row.name)
    return found
