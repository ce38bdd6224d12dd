"""Prints samples' tokens: in colours by whether they are learned, or between marks where there are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from biject.cli.terminal import cell, stdout

if TYPE_CHECKING:
    from biject.data.preview import Preview, Token
    from biject.runs.preview import Previewed

OPEN, CLOSE = "⟦", "⟧"
_LEARNED, _READ, _LABEL = "bold green", "dim", "yellow"
_LINE = "↵"


def print_preview(found: Previewed) -> None:
    """What is known about the data, then sample by sample: where it is from, its label, its tokens."""
    console = stdout()
    coloured = console.is_terminal and console.color_system is not None
    lines = [cell(line) for line in found.lines]
    if any(sample.num_learned for _, sample in found.samples):
        lines.append(_legend(coloured))
    for place, sample in found.samples:
        lines += [Text(""), cell(_head(place, sample))]
        lines += [_tokens(sample.tokens, coloured)] if sample.tokens else []
    for line in lines:
        console.print(line, soft_wrap=True)


def _legend(coloured: bool) -> Text:
    if coloured:
        return Text.assemble("TOKENS ", ("learned", _LEARNED), " ", ("read", _READ))
    return Text(f"TOKENS {OPEN}learned{CLOSE} read")


def _head(place: str, sample: Preview) -> str:
    learned = f", {sample.num_learned} learned" if sample.num_learned else ""
    label = f", label {sample.label}" if sample.label else ""
    what = printable(sample.name) if sample.name else f"{len(sample.tokens)} tokens"
    return f"SAMPLE {printable(place)}: {what}{learned}{printable(label)}"


def _tokens(tokens: Sequence[Token], coloured: bool) -> Text:
    """The text of all tokens; neighbours that are learned share a pair of marks unless they have labels."""
    text = Text()
    inside = False
    for i, token in enumerate(tokens):
        if token.starts and i:
            text.append(f"{CLOSE if inside and not coloured else ''}\n┄ ")
            inside = False
        if not coloured and token.learned != inside:
            text.append(OPEN if token.learned else CLOSE)
            inside = token.learned
        text.append(printable(token.text), style=(_LEARNED if token.learned else _READ) if coloured else "")
        if token.label:
            closing = CLOSE if inside else ""
            text.append(
                f"{'' if coloured else closing}→{printable(token.label)}", style=_LABEL if coloured else ""
            )
            inside = False
    if inside:
        text.append(CLOSE)
    text.rstrip()
    return text


def printable(text: str) -> str:
    """A text that moves no cursor: line ends are shown, other control characters spelled out."""
    shown = (
        _LINE + "\n" if c == "\n" else c if c.isprintable() or c == "\t" else ascii(c)[1:-1] for c in text
    )
    return "".join(shown)
