"""What `generate` returns where `return_dict_in_generate` is on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from biject.generate.cache import Cache
from biject.generate.settings import Settings
from biject.nn.named import Named


@dataclass(frozen=True, kw_only=True, eq=False)
class GenerateOutput(Named):
    """Named and ordered as transformers' `GenerateDecoderOnlyOutput`; read by attribute, name or index."""

    sequences: Tensor
    """(B, S): the prompts and what was added."""
    scores: tuple[Tensor, ...] | None = None
    """Of each step, (B, V) float32, where `output_scores` was on."""
    logits: tuple[Tensor, ...] | None = None
    """Of each step, (B, V) float32, where `output_logits` was on."""
    past_key_values: Cache
    """Holds every column but the last: give it to the call that goes on from here."""


class Kept:
    """Each step's logits and scores, where they are requested."""

    def __init__(self, settings: Settings) -> None:
        told = settings.return_dict_in_generate
        self._logits: list[Tensor] | None = [] if told and settings.output_logits else None
        self._scores: list[Tensor] | None = [] if told and settings.output_scores else None

    @property
    def active(self) -> bool:
        """Whether anything is kept."""
        return self._logits is not None or self._scores is not None

    def logits(self, scores_BV: Tensor) -> None:
        """Before they are processed, which may write into them."""
        if self._logits is not None:
            self._logits.append(scores_BV.clone())

    def scores(self, scores_BV: Tensor) -> None:
        """What the token is chosen by."""
        if self._scores is not None:
            self._scores.append(scores_BV)

    def found(self) -> dict[str, tuple[Tensor, ...] | None]:
        """As `GenerateOutput` names them."""
        return {
            name: None if kept is None else tuple(x.clone() for x in kept)
            for name, kept in (("logits", self._logits), ("scores", self._scores))
        }
