"""`EmbeddingModel`: a model of embeddings with sentence-transformers' calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from biject.checkpoint.embedder import embedder_files
from biject.checkpoint.hub import resolve_folder
from biject.errors import ConfigError
from biject.nn.kernels import Numerics
from biject.pretrained import PretrainedModel, load
from biject.save import save_model
from biject.tasks.common import usable_device
from biject.tasks.dense import detached
from biject.tasks.embed import Embed
from biject.tasks.inputs import as_texts, is_one, require
from biject.tasks.losses.common import cos_sim
from biject.tasks.sentence import Sentence, read_sentence
from biject.tasks.sentence_files import keeps_files, sentence_files
from biject.tokenization.fit import check_fits
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

Array = npt.NDArray[np.float32]
Texts = str | Sequence[str]
_QUERY, _DOCUMENT = ("query",), ("document", "passage", "corpus")
"""Names of prompts that `encode_query` and `encode_document` look for, as sentence-transformers does."""


class EmbeddingModel:
    """Vectors of texts.

    Args:
        model: A model with the head `base`.
        tokenizer: Its tokenizer.
        sentence: How vectors are made; left out, the mean over the tokens, as sentence-transformers does with
            a folder that is no embedder's.

    Attributes:
        task: What computes them.
    """

    def __init__(
        self, model: PretrainedModel, tokenizer: Tokenizer, *, sentence: Sentence | None = None
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.sentence = sentence or Sentence()
        self.task = Embed(model, tokenizer, sentence=self.sentence)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device = "cpu",
        numerics: Numerics | None = None,
    ) -> Self:
        """Load an embedder's folder, or a plain checkpoint, from disk or the Hub.

        Args:
            path: A folder, or a repository on the Hub.
            revision: Branch, tag or commit of a repository.
            token: Of the Hub.
            dtype: `auto` keeps the file's; vectors are float32 in any case.
            device: Where the model runs.
            numerics: `fast` leaves out all padding, also where that changes rounding.

        Raises:
            BijectError: What cannot be used, where, and what to do.
        """
        place = usable_device(device)
        folder = resolve_folder(path, revision=revision, token=token)
        sentence = read_sentence(folder)
        inner = folder if sentence is None else folder / sentence.folder
        model = load(inner, head="base", dtype=dtype, device=place, numerics=numerics)
        tokenizer = load_tokenizer(inner, model.hf_config)
        check_fits(tokenizer, {"vocab_size": model.config.vocab_size})
        return cls(model, tokenizer, sentence=sentence)

    @overload
    def encode(
        self, inputs: Texts, prompt_name: str | None = ..., *, convert_to_tensor: Literal[True], **how: Any
    ) -> Tensor: ...
    @overload
    def encode(self, inputs: Texts, prompt_name: str | None = ..., **how: Any) -> Any: ...
    def encode(  # type: ignore[misc]  # `how` stands for the options below
        self,
        inputs: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        *,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        show_progress_bar: bool | None = None,
    ) -> Array | Tensor | list[Tensor]:
        """Vectors of one text or several, with sentence-transformers' names of arguments.

        Args:
            inputs: Texts.
            prompt_name: Of the folder's prompts, to be put before each text; its default where left out.
            prompt: A text to be put before each, instead.
            batch_size: Texts in a call of the model.
            convert_to_numpy: Give an array; else a list of tensors.
            convert_to_tensor: Give a tensor.
            normalize_embeddings: Make their length 1, whatever the folder says.
            truncate_dim: Give the first so many values of each; the folder's where left out.
            show_progress_bar: Taken for compatibility: progress is reported as `biject.events` says.

        Returns:
            (D,) for one text, (N, D) for several; float32.

        Raises:
            InputError: No such prompt, or an argument out of range.
        """
        del show_progress_bar
        require(batch_size >= 1, f"`batch_size` must be at least 1; found {batch_size}.")
        width = self.sentence.truncate_dim if truncate_dim is None else truncate_dim
        require(width is None or width >= 1, f"`truncate_dim` must be at least 1; found {width}.")
        texts = as_texts(inputs, "encode")
        self.task.batch_size = batch_size
        stages = [stage != "normalize" for stage in self.sentence.stages]
        chosen = self.sentence.prompt_of(prompt, prompt_name)
        found = self.task.embed(texts, chosen, modes=self.sentence.modes, stages=stages)
        found = found if width is None else found[:, :width]
        found = F.normalize(found, dim=1) if normalize_embeddings else found
        found = found[0] if is_one(inputs) else found
        if convert_to_tensor:
            return found.to(self.model.device)
        if convert_to_numpy or is_one(inputs):
            array: Array = found.numpy()
            return array if convert_to_numpy else found
        return list(found)

    def encode_query(self, inputs: Texts, **how: Any) -> Any:
        """`encode` with the folder's prompt `query`, where it has one and no other is given."""
        return self.encode(inputs, **self._named(how, _QUERY))

    def encode_document(self, inputs: Texts, **how: Any) -> Any:
        """`encode` with the folder's prompt `document`, `passage` or `corpus`, likewise."""
        return self.encode(inputs, **self._named(how, _DOCUMENT))

    def _named(self, how: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
        if how.get("prompt") is None and how.get("prompt_name") is None:
            how["prompt_name"] = next((name for name in names if name in self.sentence.prompts), None)
        return how

    def similarity(self, first: Tensor | Array, second: Tensor | Array) -> Tensor:
        """All pairs, (A, B), as the folder says: cosines, products, or distances below 0.

        Raises:
            ConfigError: The folder's similarity is not computed.
        """
        a_AD, b_BD = (_rows(rows) for rows in (first, second))
        kind = self.sentence.similarity
        if kind == "cosine":
            return cos_sim(a_AD, b_BD)
        if kind == "dot":
            products: Tensor = a_AD @ b_BD.T
            return products
        if kind == "euclidean":
            return -torch.cdist(a_AD, b_BD, p=2.0)
        if kind == "manhattan":
            return -torch.cdist(a_AD, b_BD, p=1.0)
        raise ConfigError(f"The similarity {kind!r} is not computed.")

    def save_pretrained(self, folder: str | Path, *, force: bool = False) -> None:
        """Write a folder that sentence-transformers and `from_pretrained` open.

        Raises:
            CheckpointError: It exists already, or cannot be written; nothing is left half-done.
        """
        changed = {} if self.model.tokenizer is None else dict(self.model.tokenizer.changed_files())
        files = {**changed, **sentence_files(self.model, self.tokenizer, self.sentence)}
        own = keeps_files(self.model, self.sentence)
        without = () if own else embedder_files(self.model.source)
        with detached(self.model):
            save_model(self.model, Path(folder), force=force, extra=files, without=without)

    @property
    def max_seq_length(self) -> int | None:
        """Tokens of a text; what is longer is cut."""
        return self.task.max_tokens


def _rows(given: Tensor | Array) -> Tensor:
    rows = torch.as_tensor(given).float()
    return rows.unsqueeze(0) if rows.dim() == 1 else rows
