"""Entities in rows of tags, by every scheme that seqeval knows.

Sources: seqeval 1.2.2. Without a name, its default mode (metrics/sequence_labeling.py, which is conlleval's,
Tjong Kim Sang 2000): any tag that cannot continue the entity before it begins one. A named scheme is its
strict mode (scheme.py): only entities that the scheme's rules spell out count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from biject.config.recipe import TagScheme
from biject.errors import InputError

Entity = tuple[str, int, int]
"""Its type, and its first and last tag."""

_PREFIXED = re.compile(r"([BIESLU])(?:-(.*))?", re.DOTALL)
_BILOU = {"L": "E", "U": "S"}
_NO_TYPE = "_"


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """Pairs of neighbouring tags: prefix before, prefix now (`*`: any), type `=` same, `!` other, `*` any."""

    prefixes: str
    start: str
    inside: str
    end: str


_STRICT: dict[TagScheme, _Rules] = {
    "IOB1": _Rules(
        prefixes="IOB",
        start="OI* II! BI* IB= BB=",
        inside="BI= II=",
        end="II! IO* IB* BO* BI! BB=",
    ),
    "IOB2": _Rules(prefixes="IOB", start="*B*", inside="BI= II=", end="IO* II! IB* BO* BI! BB*"),
    "IOE1": _Rules(
        prefixes="IOE",
        start="OI* II! EI* EE=",
        inside="II= IE=",
        end="II! IO* IE! EI= EE=",
    ),
    "IOE2": _Rules(prefixes="IOE", start="OI* OE* EI* EE* II! IE!", inside="IE= II=", end="E**"),
    "IOBES": _Rules(prefixes="IOBES", start="*B* *S*", inside="BI= BE= II= IE=", end="S** E**"),
    "BILOU": _Rules(prefixes="BILOU", start="*B* *U*", inside="BI= BL= II= IL=", end="U** L**"),
}


def entities(tags: Sequence[str], scheme: TagScheme | None = None) -> set[Entity]:
    """(type, first, last) of each entity in a row of tags; by the rules of `scheme` alone where it is named.

    Without a scheme `L-` is read as `E-`, `U-` as `S-`, and a tag without a prefix `X` as `I-X`.
    """
    if scheme is not None:
        return _strict([_parts(tag) for tag in tags], _STRICT[scheme])
    found: set[Entity] = set()
    before, kind, first = "O", _NO_TYPE, 0
    for place, tag in enumerate([*tags, "O"]):
        prefix, now = _parts(tag)
        prefix = _BILOU.get(prefix, prefix)
        begins = prefix in "BS" or before in "OES" or now != kind
        if before != "O" and (begins or prefix == "O"):
            found.add((kind, first, place - 1))
        if prefix != "O" and begins:
            first = place
        before, kind = prefix, now
    return found


def scheme_of(labels: Iterable[str]) -> str:
    """The scheme that labels are of: IOB, IOE, IOBES or BILOU; empty where they are of no entities."""
    names = [label for label in labels if label != "O"]
    prefixes = {match[1] for label in names if (match := _PREFIXED.fullmatch(label))}
    whole = all(_PREFIXED.fullmatch(label) for label in names)
    if not whole and not any(label.startswith(("B-", "I-")) for label in names):
        return ""
    if not any("-" in label for label in names) and not {"B", "I"} & prefixes:
        return ""
    if prefixes & {"L", "U"} and not prefixes & {"E", "S"}:
        return "BILOU"
    if "S" in prefixes or prefixes >= {"B", "E"}:
        return "IOBES"
    return "IOE" if "E" in prefixes else "IOB" if prefixes else ""


def check_scheme(labels: Iterable[str], scheme: TagScheme) -> None:
    """Refuse labels that a named scheme has no rules for.

    Raises:
        InputError: one has a prefix that the scheme does not have.
    """
    allowed = _STRICT[scheme].prefixes
    for label in labels:
        match = _PREFIXED.fullmatch(label)
        if label != "O" and (match is None or match[1] not in allowed):
            listed = ", ".join(f"{prefix}-…" for prefix in allowed if prefix != "O")
            raise InputError(f"tag_scheme is {scheme}, whose labels are O, {listed}; found `{label}`.")


def _parts(tag: str) -> tuple[str, str]:
    """Prefix and type."""
    match = _PREFIXED.fullmatch(tag)
    if match is not None:
        return match[1], match[2] or _NO_TYPE
    return ("O", _NO_TYPE) if tag == "O" else ("I", tag)


def _strict(tags: list[tuple[str, str]], rules: _Rules) -> set[Entity]:
    found: set[Entity] = set()
    row = [*tags, ("O", _NO_TYPE)]
    place, before = 0, ("O", _NO_TYPE)
    while place < len(row):
        first, tag = place, row[place]
        place += 1
        if _fits(before, tag, rules.start):
            while place < len(row) and _fits(row[place - 1], row[place], rules.inside):
                place += 1
            if place < len(row) and _fits(row[place - 1], row[place], rules.end):
                found.add((tag[1], first, place - 1))
        before = row[place - 1]
    return found


def _fits(before: tuple[str, str], now: tuple[str, str], patterns: str) -> bool:
    same = "=" if before[1] == now[1] else "!"
    return any(
        pattern[0] in ("*", before[0]) and pattern[1] in ("*", now[0]) and pattern[2] in ("*", same)
        for pattern in patterns.split()
    )
