"""Embed: one vector a text, from the rows of the base model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from biject.data.columns import prompt_tokens
from biject.model import Model
from biject.tasks.common import BATCH_SIZE, Task
from biject.tasks.dense import attach
from biject.tasks.inputs import as_texts, is_one, require
from biject.tasks.pooling import Mode, behind, pool
from biject.tasks.sentence import Sentence
from biject.tokenization.tokenizer import Tokenizer

Pooling = Literal["auto", "mean", "cls", "max"]


class Embed(Task):
    """Gives vectors to texts.

    Args:
        model: a base model.
        tokenizer: its tokenizer.
        batch_size: rows in a call of the model.
        sentence: a sentence-transformers folder's settings; None for a plain folder.
    """

    name: ClassVar[str] = "embed"
    head: ClassVar[str] = "base"
    takes: ClassVar[tuple[str, ...]] = ("pooling", "normalize")

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        *,
        batch_size: int = BATCH_SIZE,
        sentence: Sentence | None = None,
    ) -> None:
        super().__init__(model, tokenizer, batch_size=batch_size)
        self.sentence = sentence
        self.dense = attach(model, () if sentence is None else sentence.dense)
        if sentence is not None and sentence.max_tokens is not None:
            self.max_tokens = min(sentence.max_tokens, self.max_tokens or sentence.max_tokens)

    def __call__(
        self, inputs: str | Sequence[str], *, pooling: Pooling = "auto", normalize: bool | None = None
    ) -> Tensor:
        """Embed one text or several.

        Args:
            inputs: texts.
            pooling: `mean` over a text's tokens, `cls` for its first, `max`; `auto` is what a
                sentence-transformers folder sets, and the mean where it sets none.
            normalize: scale vectors to length 1; None is what a sentence-transformers folder sets, and
                yes where it sets none.

        Returns:
            (D,) for one text, (N, D) for several; float32, on the CPU.
        """
        known = get_args(Pooling)
        require(pooling in known, f"`pooling` is one of {', '.join(known)}; found {pooling!r}.")
        texts = as_texts(inputs, self.name)
        prompt = "" if self.sentence is None else self.sentence.prompt_of(None, None)
        modes = self._modes(pooling)
        stages = self._stages(pooling, normalize)
        found = self.embed(texts, prompt, modes=modes, stages=stages)
        return found[0] if is_one(inputs) else found

    def embed(
        self, texts: Sequence[str], prompt: str, *, modes: Sequence[Mode], stages: Sequence[bool]
    ) -> Tensor:
        """Vectors of texts behind a prompt: (N, D), float32, on the CPU.

        Args:
            texts: Without the prompt.
            prompt: Put before each.
            modes: Of pooling.
            stages: What comes behind it; see `biject.tasks.pooling.behind`.
        """
        texts, skip = self._behind(prompt, texts), self._skipped(prompt)
        parts: list[Tensor] = []
        places: list[int] = []
        for batch, out in self.outputs(self.encode(texts)) if texts else ():
            assert out.last_hidden_state is not None
            skip_B = torch.full((len(batch.rows),), skip, device=self.model.device) if skip else None
            with torch.inference_mode():
                pooled = pool(out.last_hidden_state.float(), batch.attention_mask, modes, skip_B=skip_B)
                parts.append(behind(pooled, stages, self.dense or ()).cpu())
            places += batch.rows
        if not parts:
            return torch.empty(0, self.dimension(modes))
        found = torch.cat(parts)
        vectors = torch.empty_like(found)
        vectors[places] = found
        return vectors.clone()  # of a tensor of inference mode one that may be trained with

    def token_rows(self, texts: Sequence[str], prompt: str) -> list[Tensor]:
        """The model's rows of each text, the prompt's too: (tokens, D) each, on the CPU."""
        texts = self._behind(prompt, texts)
        rows: list[Tensor] = [torch.empty(0)] * len(texts)
        for batch, out in self.outputs(self.encode(texts)) if texts else ():
            assert out.last_hidden_state is not None
            for place, length, hidden_LD in zip(
                batch.rows, batch.lengths, out.last_hidden_state, strict=True
            ):
                rows[place] = hidden_LD[:length].float().cpu().clone()
        return rows

    def _behind(self, prompt: str, texts: Sequence[str]) -> Sequence[str]:
        """What is given to the tokenizer."""
        texts = [prompt + text for text in texts] if prompt else texts
        lower = self.sentence is not None and self.sentence.lower_case
        return [text.lower() for text in texts] if lower else texts

    def dimension(self, modes: Sequence[Mode]) -> int:
        """Values of a vector."""
        sentence = self.sentence
        last = sentence.dense[-1:] if sentence is not None else ()
        return last[0].outputs if last else self.model.config.hidden_size * len(modes)

    def _skipped(self, prompt: str) -> int:
        """Tokens of the prompt that pooling leaves out."""
        if not prompt or self.sentence is None or self.sentence.include_prompt:
            return 0
        return prompt_tokens(self.tokenizer, prompt.lower() if self.sentence.lower_case else prompt)

    def _modes(self, pooling: Pooling) -> tuple[Mode, ...]:
        if pooling == "auto":
            return ("mean",) if self.sentence is None else self.sentence.modes
        return (pooling,)

    def _stages(self, pooling: Pooling, normalize: bool | None) -> list[bool]:
        """For each stage behind pooling whether it is a linear; they do not follow another pooling."""
        sentence = self.sentence
        own = [] if sentence is None else [stage != "normalize" for stage in sentence.stages]
        if normalize is None:
            return own if sentence is not None else [False]
        linears: list[bool] = [stage for stage in own if stage]
        return [*linears, False] if normalize else linears
