"""Write docs/api.md: every public name, its signature and docstring. `make api`; a test holds it current."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from pathlib import Path

import biject

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
HEAD = """# API reference

Every name that `import biject` offers, from its docstring. Written by `make api`; do not edit by hand.
"""


def page() -> str:
    """The whole page."""
    names = [name for name in biject.__all__ if not name.startswith("_")]
    lowered = sorted(names, key=str.lower)
    index = ", ".join(f"[`{name}`](#{name.lower()})" for name in lowered)
    return "\n".join([HEAD, index + "\n", *(section(name) for name in lowered)])


def section(name: str) -> str:
    """One name: where it lives, its signature, its docstring, its own public methods."""
    value = getattr(biject, name)
    parts = [f"## {name}\n", f"`{value.__module__}`\n"]
    if inspect.isclass(value):
        parts.append(_text(value.__doc__))
        parts += [f"As [`{base.__name__}`](#{base.__name__.lower()}).\n" for base in _public_bases(value)]
        if not issubclass(value, Exception):
            parts.extend(_member(name, key, member) for key, member in _members(value))
    else:
        parts += [_signature(name, value), _text(value.__doc__)]
    return "\n".join(part for part in parts if part)


def _public_bases(owner: type) -> list[type]:
    return [base for base in owner.__bases__ if base.__name__ in biject.__all__]


def _members(owner: type) -> list[tuple[str, object]]:
    """Documented public methods and properties, without those of a base class that has its own section."""
    found: dict[str, object] = {}
    for cls in owner.__mro__:
        elsewhere = cls is not owner and cls.__name__ in biject.__all__
        if cls.__module__.startswith("biject") and not elsewhere:
            for key, member in vars(cls).items():
                shown = inspect.isfunction(member) or isinstance(
                    member, property | classmethod | staticmethod
                )
                if shown and not key.startswith("_") and inspect.getdoc(getattr(owner, key, None)):
                    found.setdefault(key, member)
    return sorted(found.items())


def _member(owner: str, key: str, member: object) -> str:
    if isinstance(member, property):
        return f"### {owner}.{key}\n\n{_text(member.__doc__)}"
    function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
    return f"### {owner}.{key}\n\n{_signature(key, function)}\n{_text(getattr(function, '__doc__', ''))}"


def _signature(name: str, function: object) -> str:
    signature = inspect.signature(function)  # type: ignore[arg-type]
    own = [each for key, each in signature.parameters.items() if key not in ("self", "cls")]
    text = _unquoted(str(signature.replace(parameters=own)))
    if len(name + text) > 100:
        star, lines = False, []
        for each in own:
            if each.kind is inspect.Parameter.KEYWORD_ONLY and not star:
                star = True
                lines.append("    *,")
            lines.append(f"    {_unquoted(str(each))},")
        returns = text.rpartition(") -> ")[2] if ") -> " in text else ""
        text = "(\n" + "\n".join(lines) + "\n)" + (f" -> {returns}" if returns else "")
    return f"```python\n{name}{text}\n```\n"


def _unquoted(text: str) -> str:
    """Annotations are strings (PEP 563); defaults stay as they are."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)


def _text(docstring: str | None) -> str:
    """A docstring as Markdown: its sections become bold words, their entries list items."""
    lines: list[str] = []
    inside = False
    for line in inspect.cleandoc(docstring or "").splitlines():
        if line in ("Args:", "Raises:", "Returns:", "Attributes:", "Yields:", "Shape:", "Source:"):
            inside = True
            lines += [f"**{line[:-1]}**", ""]
        elif inside and line.startswith("    ") and not line.startswith("     "):
            entry, colon, rest = line.strip().partition(": ")
            lines.append(f"- `{entry}`: {rest}" if colon else f"- {entry}")
        elif inside and line.startswith("     "):
            lines.append("  " + line.strip())
        else:
            inside = inside and not line
            lines.append(line)
    return textwrap.dedent("\n".join(lines)) + "\n"


def main() -> int:
    """Write the page, or with `--check` say whether it is current."""
    text = page()
    if "--check" in sys.argv:
        return int(PAGE.read_text() != text)
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
