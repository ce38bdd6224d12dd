"""Text that a folder, a data file or a model brings, as a terminal may show it: nothing in it is obeyed.

Every line, document and table cell that a command prints goes through here.
"""

from __future__ import annotations

import re
import unicodedata

_JOINERS = frozenset("\u200c\u200d")
"""Scripts and emoji need them; they move nothing."""
_SUSPECT = re.compile(r"[^\x20-\x7e]")


def plain(text: str) -> str:
    """One line: control characters, line breaks, bidirectional marks and what is invisible, as escapes.

    >>> plain("a\\x1b[2J\\nVERDICT PASS")
    'a\\\\x1b[2J\\\\nVERDICT PASS'
    """
    return _SUSPECT.sub(lambda found: found[0] if _shows(found[0]) else ascii(found[0])[1:-1], text)


def plain_json(document: str) -> str:
    """A JSON document of the same value, whose strings hold nothing that `plain` would escape.

    `document` is indented or not; its line breaks, which are outside of strings, are kept.
    """
    return _SUSPECT.sub(
        lambda found: found[0] if found[0] == "\n" or _shows(found[0]) else _json_escape(found[0]), document
    )


def _shows(character: str) -> bool:
    return character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
