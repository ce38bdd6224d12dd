"""Python source of a draft: calls that fit a line or stand one argument a line, and the imports of what is
named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

WIDTH = 110

_EXPORTS: Mapping[str, str] = {
    "dataclasses": "replace",
    "biject.config.checks": "activation anything boolean choice flag integer limit number probability text",
    "biject.config.common": "COMMON causal_rows num_labels",
    "biject.config.heads": (
        "BaseHeadConfig DenseConfig HeadConfig LastHeadConfig PooledHeadConfig SpanHeadConfig "
        "TokenHeadConfig VocabHeadConfig"
    ),
    "biject.config.layers": "AttentionConfig AttentionSpec LayerConfig MLPConfig NormConfig",
    "biject.config.model": "EmbeddingConfig ModelConfig",
    "biject.config.table": "ConfigTable Const Inert Key",
    "biject.families._decoder_heads": "check_pad decoder",
    "biject.families._encoder": "Values check_sizes encoder",
    "biject.families._family": "Family Head",
    "biject.families._layer_types": "layer_type_rows layer_types rope_by_type",
    "biject.families._rope": "ROPE_ROWS rope",
    "biject.weights.rules": (
        "ParamSpecs embed head join layers linear norm optional output_matrix rms tensor"
    ),
}


def imports(body: str) -> str:
    """Lines for everything that `body` calls or names."""
    code = re.sub(r"#.*", "", re.sub(r'"(?:[^"\\]|\\.)*"', '""', body))
    lines = []
    for module, names in _EXPORTS.items():
        used = [name for name in names.split() if re.search(rf"(?<![.\w]){name}\b(?!\s*=[^=])", code)]
        if used:
            lines.append(call(f"from {module} import ", sorted(used, key=_order), brackets=False))
    return "\n".join(lines)


def _order(name: str) -> tuple[int, str]:
    """Constants, classes, functions, as isort sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def quoted(text: str) -> str:
    """A string as a literal in double quotes, whatever it holds."""
    return f'"{"".join(map(_escaped, text))}"'


def literal(value: Any) -> str:
    """A value of config.json as a literal."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{quoted(key)}: {literal(each)}' for key, each in value.items())}}}"
    return repr(value)


def docstring(text: str) -> str:
    """What stands between the quotes of a docstring that says `text`."""
    return "\n".join("".join(map(_escaped, line)) for line in text.split("\n"))


def _escaped(character: str) -> str:
    """A character inside of quotes; `#` as well, by which a draft's comments are told."""
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable() and character != "#":
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def listed(found: Iterable[str]) -> str:
    """A tuple of strings, one a line where there are many."""
    names = [quoted(name) for name in found]
    text = ", ".join(names) + ("," if len(names) == 1 else "")
    return f"({text})" if len(text) < 80 else f"(\n{block(f'{name},' for name in names)}\n)"


def call(name: str, arguments: Iterable[str], *, indent: int = 0, brackets: bool = True) -> str:
    """`name(…)` on one line where it fits `indent` columns further in, else one argument a line."""
    given = list(arguments)
    flat = ", ".join(given)
    line = f"{name}({flat})" if brackets else f"{name}{flat}"
    if "\n" not in line and "#" not in line and indent + len(line) < WIDTH - 2:
        return line
    return f"{name}(\n{block(map(_closed, given))}\n)"


def _closed(argument: str) -> str:
    """With its comma, which stands before a comment."""
    code, mark, comment = argument.partition("  # ")
    return f"{code},{mark}{comment}"


def block(lines: Iterable[str], by: int = 4) -> str:
    """Lines further in."""
    text = "\n".join(lines)
    return "\n".join(" " * by + line if line else line for line in text.split("\n"))


def function(head: str, doc: str, lines: Iterable[str]) -> str:
    """A function's text."""
    return f'def {head}:\n    """{doc}"""\n{block(lines)}'
