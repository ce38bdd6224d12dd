"""Embed: one vector a text, from the rows of the base model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from biject.model import Model
from biject.tasks.common import BATCH_SIZE, Task
from biject.tasks.inputs import as_texts, is_one, require
from biject.tasks.sentence import Mode, Sentence, pool
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
        sentence = self.sentence
        if normalize is None:
            normalize = sentence is None or sentence.normalize
        texts = as_texts(inputs, self.name)
        if sentence is not None:
            texts = [sentence.prompt + text for text in texts]
            texts = [text.lower() for text in texts] if sentence.lower_case else texts
        modes = self._modes(pooling)
        vectors = torch.empty(len(texts), self.model.config.hidden_size * len(modes))
        for batch, out in self.outputs(self.encode(texts)) if texts else ():
            assert out.last_hidden_state is not None
            pooled = pool(out.last_hidden_state.float(), batch.attention_mask, modes)
            vectors[list(batch.rows)] = (F.normalize(pooled, dim=1) if normalize else pooled).cpu()
        return vectors[0] if is_one(inputs) else vectors

    def _modes(self, pooling: Pooling) -> tuple[Mode, ...]:
        if pooling == "auto":
            return ("mean",) if self.sentence is None else self.sentence.modes
        return (pooling,)
