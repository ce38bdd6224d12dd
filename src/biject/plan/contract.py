"""The contract: which cells are allowed, and why the others are refused. One pure function of plain values.

`finetune` asks it before any weight is read, `biject plan` prints what it says, and docs/plan.md is written
from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from biject.config.tasks import head_of
from biject.errors import ConfigError, InputError, shown
from biject.families import Family, family
from biject.plan.cell import Cell


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a cell is allowed, and every reason against it."""

    reasons: tuple[str, ...]

    @property
    def allowed(self) -> bool:
        """Nothing speaks against it."""
        return not self.reasons

    def require(self) -> None:
        """Refuse what is not allowed.

        Raises:
            InputError: All reasons in one message.
        """
        if self.reasons:
            raise InputError(" ".join(self.reasons))


class Rule(NamedTuple):
    """One reason to refuse."""

    axes: tuple[str, ...]
    """The fields of a cell that decide it, and no others."""
    reason: Callable[[Cell], str | None]
    """What is expected, found and to be done; None where nothing is wrong."""


def decide(cell: Cell) -> Verdict:
    """Whether a cell is allowed; no file is looked at."""
    return Verdict(reasons=tuple(reason for rule in RULES if (reason := rule.reason(cell)) is not None))


def _known(cell: Cell) -> Family | None:
    try:
        return family(cell.family)
    except ConfigError:
        return None


def _family(cell: Cell) -> str | None:
    try:
        family(cell.family)
    except ConfigError as error:
        return str(error)
    return None


def _task(cell: Cell) -> str | None:
    known = _known(cell)
    if known is not None and cell.task == "embed" and known.reads_pictures:
        return f"`task` is embed, which makes vectors of texts, and `{cell.family}` reads pictures."
    if known is None or head_of(cell.task) in known.heads:
        return None
    heads = ", ".join(name for name in known.heads if name not in ("base", "rtd"))
    what = "no such head" if head_of(cell.task) == cell.task else f"no head {head_of(cell.task)} for it"
    return f"`task` is {cell.task}, and `{cell.family}` has {what}; it has {heads}."


def _quantization(cell: Cell) -> str | None:
    if cell.method == "qlora":
        if cell.quantization == "none":
            return (
                "`method` is qlora, which trains beside a quantised base, and `quantization` is none: give "
                "nf4, fp4 or int8, or take `method` lora."
            )
        return None
    if cell.quantization == "none":
        return None
    way = "qlora" if cell.method == "lora" else "qlora, or leave `quantization` out to train every parameter"
    return (
        f"`quantization` is {cell.quantization} and `method` {cell.method}: a quantised base stays frozen, "
        f"with an adapter beside it. Take `method` {way}."
    )


def _quantized_device(cell: Cell) -> str | None:
    if cell.quantization == "none" or cell.device in ("cpu", "cuda"):
        return None
    return (
        f"`quantization` is {cell.quantization}, which is computed on cpu and cuda; `device` is "
        f"{shown(cell.device)}."
    )


def _library(cell: Cell) -> str | None:
    if cell.quantization == "none" or "bitsandbytes" not in cell.lacks:
        return None
    return (
        f"`quantization` is {cell.quantization}, which needs bitsandbytes, and it is not installed: pip "
        "install 'biject[quant]'."
    )


def _device(cell: Cell) -> str | None:
    if "device" not in cell.lacks:
        return None
    return (
        f"`device` {shown(cell.device)} cannot be used on this machine: it is not there. Take cpu, or auto."
    )


def _tokenizer(cell: Cell) -> str | None:
    if cell.tokenizer != "none" or cell.task == "imgcls":
        return None
    return (
        "The checkpoint has no tokenizer: expected tokenizer.json, vocab.txt, vocab.json with merges.txt, or "
        "a SentencePiece model beside config.json. Put the files there that it was trained with."
    )


def _mask(cell: Cell) -> str | None:
    if cell.task != "mlm" or "mask token" not in cell.lacks:
        return None
    return (
        "`task` is mlm, which needs a mask token, and the tokenizer has none: name one as `mask_token` in "
        "tokenizer_config.json."
    )


def _padding(cell: Cell) -> str | None:
    known = _known(cell)
    if (
        head_of(cell.task) != "seqcls"
        or "pad_token_id" not in cell.lacks
        or not known
        or "causal" not in known.heads
    ):
        return None
    alone = ", or `batch_size` 1" if cell.task == "seqcls" else ""
    return (
        f"`task` is {cell.task}, and `{cell.family}` reads a text's last token that is not padding, which "
        f"config.json does not name: set `pad_token_id` there{alone}."
    )


RULES: tuple[Rule, ...] = (
    Rule(("family",), _family),
    Rule(("family", "task"), _task),
    Rule(("method", "quantization"), _quantization),
    Rule(("device", "quantization"), _quantized_device),
    Rule(("quantization", "lacks"), _library),
    Rule(("device", "lacks"), _device),
    Rule(("task", "tokenizer"), _tokenizer),
    Rule(("task", "lacks"), _mask),
    Rule(("family", "task", "lacks"), _padding),
)
"""A precision or a checkpoint's own head refuses nothing: where the head is not the task's, the trained one
starts new."""
