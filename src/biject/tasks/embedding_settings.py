"""What sentence-transformers' users read and set of a model: length, size, prompts, similarity, device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self, get_args

import torch

from biject.nn.native.int8 import held_in_int8
from biject.pretrained import PretrainedModel
from biject.tasks.common import max_tokens, usable_device
from biject.tasks.embed import Embed
from biject.tasks.inputs import require
from biject.tasks.sentence import Sentence
from biject.tasks.similarity import Similarity
from biject.tokenization.tokenizer import Tokenizer


class Settings:
    """Properties of an `EmbeddingModel`; what is set is saved with it."""

    model: PretrainedModel
    tokenizer: Tokenizer
    sentence: Sentence
    task: Embed

    def _set(self, **values: Any) -> None:
        self.sentence = self.task.sentence = replace(self.sentence, **values)

    def _with(self, settings: Mapping[str, Any]) -> Self:
        """Settings of a call of `from_pretrained`."""
        known = ("truncate_dim", "max_seq_length", "similarity_fn_name", "prompts", "default_prompt_name")
        names = ", ".join(known)
        for name in settings:
            require(name in known, f"`from_pretrained` has no argument `{name}`; settings are {names}.")
        for name in known:  # prompts come before the name of one
            if settings.get(name) is not None:
                setattr(self, name, settings[name])
        return self

    @property
    def max_seq_length(self) -> int | None:
        """Tokens of a text; what is longer is cut."""
        return self.task.max_tokens

    @max_seq_length.setter
    def max_seq_length(self, tokens: int) -> None:
        most = max_tokens(self.model.config, self.tokenizer)
        require(
            1 <= tokens <= (most or tokens),
            f"`max_seq_length` should be from 1 to {most or 'any number'} (the model's); found {tokens}.",
        )
        self.task.max_tokens = tokens
        self._set(max_tokens=tokens)

    @property
    def truncate_dim(self) -> int | None:
        """Values of a vector that are given; None for all."""
        return self.sentence.truncate_dim

    @truncate_dim.setter
    def truncate_dim(self, width: int | None) -> None:
        require(width is None or width >= 1, f"`truncate_dim` must be at least 1; found {width}.")
        self._set(truncate_dim=width)

    @property
    def prompts(self) -> Mapping[str, str]:
        """Texts that are put before others, by name."""
        return self.sentence.prompts

    @prompts.setter
    def prompts(self, texts: Mapping[str, str]) -> None:
        good = [isinstance(x, str) for pair in dict(texts).items() for x in pair]
        require(all(good), f"`prompts` should map names to texts; found {texts!r}.")
        self._set(prompts=dict(texts))

    @property
    def default_prompt_name(self) -> str | None:
        """The prompt that is put before every text."""
        return self.sentence.default_prompt

    @default_prompt_name.setter
    def default_prompt_name(self, name: str | None) -> None:
        if name is not None:
            self.sentence.prompt_of(None, name)
        self._set(default_prompt=name)

    @property
    def similarity_fn_name(self) -> str:
        """What `similarity` computes."""
        return self.sentence.similarity

    @similarity_fn_name.setter
    def similarity_fn_name(self, kind: str) -> None:
        known = get_args(Similarity)
        require(kind in known, f"`similarity_fn_name` is one of {', '.join(known)}; found {kind!r}.")
        self._set(similarity=kind)

    def get_embedding_dimension(self) -> int:
        """Values of a vector."""
        whole = self.task.dimension(self.sentence.modes)
        return whole if self.truncate_dim is None else min(whole, self.truncate_dim)

    get_sentence_embedding_dimension = get_embedding_dimension  # its older name

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    def to(self, device: str | torch.device) -> Self:
        """Move the model.

        Raises:
            InputError: This machine has no such device; a model of 8-bit codes stays on the CPU.
        """
        place = usable_device(device)
        require(
            place.type == "cpu" or not held_in_int8(self.model),
            f"An encoder of 8-bit codes computes on the CPU, not on {place}: load it without quantization.",
        )
        self.model.to(place)
        return self
