"""`EmbeddingModel`: a model of embeddings with sentence-transformers' calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy.typing as npt
import torch
from torch import Tensor

from biject.checkpoint.embedder import embedder_files
from biject.checkpoint.hub import resolve_folder
from biject.nn.kernels import Numerics
from biject.nn.native.int8 import held_in_int8
from biject.pretrained import PretrainedModel, load
from biject.save import save_model
from biject.tasks.common import usable_device
from biject.tasks.dense import detached
from biject.tasks.embed import Embed
from biject.tasks.embedding_settings import Settings
from biject.tasks.encoding_pool import EncodingPool
from biject.tasks.inputs import as_texts, require
from biject.tasks.precision import Precision, quantize_embeddings
from biject.tasks.quantised import in_8_bits
from biject.tasks.sentence import Sentence, read_sentence
from biject.tasks.sentence_files import keeps_files, sentence_files
from biject.tasks.similarity import Vectors, normalized, pairwise_similarity, similarity
from biject.tokenization.fit import check_fits
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

Codes = npt.NDArray[Any]
Texts = str | Sequence[str]
_QUERY, _DOCUMENT = ("query",), ("document", "passage", "corpus")
"""Names of prompts that `encode_query` and `encode_document` look for, as sentence-transformers does."""


class EmbeddingModel(Settings):
    """Vectors of texts, with sentence-transformers' calls and properties.

    Args:
        model: A model with the head `base`.
        tokenizer: Its tokenizer.
        sentence: How vectors are made; left out, the mean over the tokens, as sentence-transformers does with
            a folder that is no embedder's.

    Attributes:
        task: What computes them.
        folder: What it was loaded from.
    """

    def __init__(
        self, model: PretrainedModel, tokenizer: Tokenizer, *, sentence: Sentence | None = None
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.sentence = sentence or Sentence()
        self.task = Embed(model, tokenizer, sentence=self.sentence)
        self.folder = Path(model.source.folder)

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
        quantization: Literal["int8"] | None = None,
        **settings: Any,
    ) -> Self:
        """Load an embedder's folder, or a plain checkpoint, from disk or the Hub.

        Args:
            path: A folder, or a repository on the Hub.
            revision: Branch, tag or commit of a repository.
            token: Of the Hub.
            dtype: `auto` keeps the file's; vectors are float32 in any case.
            device: Where the model runs.
            numerics: `fast` leaves out all padding, also where that changes rounding.
            quantization: `int8` holds the layers' linears as codes, for inference on the CPU only; vectors
                move (docs/embeddings.md says how far).
            settings: `truncate_dim`, `max_seq_length`, `prompts`, `default_prompt_name` and
                `similarity_fn_name`, over the folder's.

        Raises:
            BijectError: What cannot be used, where, and what to do.
        """
        place = usable_device(device)
        folder = resolve_folder(path, revision=revision, token=token)
        sentence = read_sentence(folder)
        inner = folder if sentence is None else folder / sentence.folder
        if quantization is None:
            model = load(inner, head="base", dtype=dtype, device=place, numerics=numerics)
        else:
            model = in_8_bits(inner, quantization, dtype=dtype, device=place, numerics=numerics)
        tokenizer = load_tokenizer(inner, model.hf_config)
        check_fits(tokenizer, {"vocab_size": model.config.vocab_size})
        made = cls(model, tokenizer, sentence=sentence)
        made.folder = folder
        return made._with(settings)

    @overload
    def encode(
        self, inputs: Texts, prompt_name: str | None = ..., *, convert_to_tensor: Literal[True], **how: Any
    ) -> Tensor: ...
    @overload
    def encode(self, inputs: Texts | None = ..., prompt_name: str | None = ..., **how: Any) -> Any: ...
    def encode(  # type: ignore[misc]  # `how` stands for the options below
        self,
        inputs: Texts | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: Literal["sentence_embedding", "token_embeddings"] = "sentence_embedding",
        precision: Precision = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | Sequence[str] | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: EncodingPool | None = None,
        chunk_size: int | None = None,
        *,
        sentences: Texts | None = None,
    ) -> Any:
        """Vectors of one text or several, with sentence-transformers' names of arguments.

        Args:
            inputs: Texts.
            prompt_name: Of the folder's prompts, to be put before each text; its default where left out.
            prompt: A text to be put before each, instead.
            batch_size: Texts in a call of the model.
            show_progress_bar: Taken for compatibility: progress is reported as `biject.events` says.
            output_value: `token_embeddings` gives the model's rows of each text, one tensor a text.
            precision: `int8`, `uint8`, `binary`, `ubinary`: codes, see `quantize_embeddings`.
            convert_to_numpy: Give an array; else a list of tensors.
            convert_to_tensor: Give a tensor.
            device: Where the model is moved first; several names start a process each for this call.
            normalize_embeddings: Make their length 1, whatever the folder says.
            truncate_dim: Give the first so many values of each; the folder's where left out.
            pool: Processes of `start_multi_process_pool` that share the work.
            chunk_size: Texts that a process is given at once.
            sentences: An older name of `inputs`.

        Returns:
            (D,) for one text, (N, D) for several; float32, or codes. Rows of tokens: (tokens, D) each.

        Raises:
            InputError: No such prompt, or an argument out of range.
        """
        del show_progress_bar
        inputs = sentences if inputs is None else inputs
        require(inputs is not None, "`encode` needs texts.")
        require(batch_size >= 1, f"`batch_size` must be at least 1; found {batch_size}.")
        width = self.truncate_dim if truncate_dim is None else truncate_dim
        require(width is None or width >= 1, f"`truncate_dim` must be at least 1; found {width}.")
        one, texts = isinstance(inputs, str), as_texts(_listed(inputs), "encode")
        chosen = self.sentence.prompt_of(prompt, prompt_name)
        devices = [device] if isinstance(device, str) else [str(name) for name in device or ()]
        several = pool is not None or len(devices) > 1
        if devices and not several:
            self.to(devices[0])
        if output_value == "token_embeddings":
            require(not several, "Rows of tokens are computed in one process.")
            self.task.batch_size = batch_size
            rows = self.task.token_rows(texts, chosen)
            return rows[0] if one else rows
        require(output_value == "sentence_embedding", f"`output_value` {output_value!r} is not computed.")
        how: dict[str, Any] = {"batch_size": batch_size, "prompt": chosen, "truncate_dim": width}
        if several:
            found = self._shared(texts, pool, devices, chunk_size, how)
        else:
            found = self._vectors(texts, **how)
        found = normalized(found) if normalize_embeddings else found
        codes = None if precision == "float32" else quantize_embeddings(found, precision)
        return self._given(found, codes, one=one, as_tensor=convert_to_tensor, as_array=convert_to_numpy)

    def _vectors(self, texts: list[str], *, batch_size: int, prompt: str, truncate_dim: int | None) -> Tensor:
        """(N, D) on the CPU."""
        self.task.batch_size = batch_size
        stages = [stage != "normalize" for stage in self.sentence.stages]
        found = self.task.embed(texts, prompt, modes=self.sentence.modes, stages=stages)
        return found if truncate_dim is None else found[:, :truncate_dim]

    def _shared(
        self,
        texts: list[str],
        pool: EncodingPool | None,
        devices: Sequence[str],
        chunk_size: int | None,
        how: dict[str, Any],
    ) -> Tensor:
        """The same by a pool's processes, or by some that are started for it."""
        if not texts:
            return self._vectors(texts, **how)
        how = {**how, "convert_to_tensor": False}
        if pool is not None:
            found: Tensor = pool.encode(texts, chunk_size, how)
            return found
        with self.start_multi_process_pool(devices) as started:
            return torch.as_tensor(started.encode(texts, chunk_size, how))

    def _given(
        self, found: Tensor, codes: Codes | None, *, one: bool, as_tensor: bool, as_array: bool
    ) -> Any:
        """Vectors or their codes as the call wants them."""
        values = found if codes is None else torch.from_numpy(codes)
        values = values[0] if one else values
        if as_tensor:
            return values.to(self.device)
        if as_array:
            return values.numpy()
        return values if one else list(values)

    def encode_query(self, inputs: Texts, prompt_name: str | None = None, **how: Any) -> Any:
        """`encode` with the folder's prompt `query`, where it has one and no other is given."""
        return self.encode(inputs, **self._named(prompt_name, how, _QUERY))

    def encode_document(self, inputs: Texts, prompt_name: str | None = None, **how: Any) -> Any:
        """`encode` with the folder's prompt `document`, `passage` or `corpus`, likewise."""
        return self.encode(inputs, **self._named(prompt_name, how, _DOCUMENT))

    def _named(self, given: str | None, how: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
        if how.get("prompt") is None and given is None:
            given = next((name for name in names if name in self.sentence.prompts), None)
        return {**how, "prompt_name": given}

    def start_multi_process_pool(self, target_devices: Sequence[str] | None = None) -> EncodingPool:
        """Processes for `encode(…, pool=…)`; a `with` block ends them, or `stop_multi_process_pool`.

        Args:
            target_devices: One process each; left out, every GPU, or a process a core, four at most.
        """
        devices = list(target_devices or ())
        if not devices:
            gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
            devices = [f"cuda:{i}" for i in range(gpus)] or ["cpu"] * min(4, os.cpu_count() or 1)
        options: dict[str, Any] = {"dtype": self.model.dtype, "numerics": self.model.planner.numerics}
        write: Callable[[Path], None] = self.save_pretrained
        if held_in_int8(self.model):  # its codes are not saved: what they were made of is opened
            options |= {"quantization": "int8", "max_seq_length": self.max_seq_length}
            write = partial(Path.symlink_to, target=self.folder.resolve(), target_is_directory=True)
        return EncodingPool(type(self), write, devices, options=options)

    @staticmethod
    def stop_multi_process_pool(pool: EncodingPool) -> None:
        """End a pool's processes."""
        pool.stop()

    def encode_multi_process(self, sentences: Sequence[str], pool: EncodingPool, **how: Any) -> Any:
        """`encode` by a pool's processes."""
        return self.encode(sentences, pool=pool, **how)

    def similarity(self, first: Vectors, second: Vectors) -> Tensor:
        """All pairs, (A, B), as the folder says: cosines, products, or distances below 0."""
        return similarity(self.sentence.similarity, first, second)

    def similarity_pairwise(self, first: Vectors, second: Vectors) -> Tensor:
        """Of each vector with the one in its place, (A,), likewise."""
        return pairwise_similarity(self.sentence.similarity, first, second)

    def save_pretrained(self, folder: str | Path, *, force: bool = False) -> None:
        """Write a folder that sentence-transformers and `from_pretrained` open.

        Raises:
            CheckpointError: It exists already, or cannot be written; nothing is left half-done.
        """
        vocabulary = self.model.tokenizer
        changed = {} if vocabulary is None else dict(vocabulary.changed_files())
        gone: frozenset[str] = frozenset() if vocabulary is None else vocabulary.removed_files()
        files = {**changed, **sentence_files(self.model, self.tokenizer, self.sentence)}
        own = keeps_files(self.model, self.sentence)
        without = () if own else embedder_files(self.model.source)
        with detached(self.model):
            save_model(self.model, Path(folder), force=force, extra=files, without=gone.union(without))


def _listed(inputs: Any) -> Any:
    """A tuple of texts is several of them, here."""
    return list(inputs) if isinstance(inputs, tuple) else inputs
