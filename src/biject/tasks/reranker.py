"""`Reranker`: a scorer of pairs with sentence-transformers' calls of a CrossEncoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from biject.checkpoint.hub import resolve_folder
from biject.checkpoint.strict_json import parse_object, read_small_file
from biject.errors import ConfigError
from biject.nn.kernels import Numerics
from biject.pretrained import PretrainedModel, load
from biject.save import save_model
from biject.tasks.classify import Classify
from biject.tasks.common import max_tokens, usable_device
from biject.tasks.inputs import as_pairs, require
from biject.tasks.sentence import MODEL
from biject.tasks.sentence_files import reranker_files
from biject.tokenization.fit import check_fits
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

Array = npt.NDArray[np.float32]
_ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "Sigmoid": nn.Sigmoid,
    "Identity": nn.Identity,
    "Tanh": nn.Tanh,
}


class Reranker:
    """Scores of pairs of texts.

    Args:
        model: A sequence classifier.
        tokenizer: Its tokenizer.
        activation: The class's name in torch.nn of what is put on its outputs; left out, Sigmoid for one
            output and Identity for several.

    Raises:
        ConfigError: An activation that is not computed.
    """

    def __init__(
        self, model: PretrainedModel, tokenizer: Tokenizer, *, activation: str | None = None
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.num_labels = model.config.head.num_labels
        self.activation = activation or ("Sigmoid" if self.num_labels == 1 else "Identity")
        if self.activation not in _ACTIVATIONS:
            known = ", ".join(_ACTIVATIONS)
            raise ConfigError(f"The activation {self.activation!r} is not computed; there are {known}.")
        self.task = Classify(model, tokenizer)

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
        max_length: int | None = None,
    ) -> Self:
        """Load a CrossEncoder's folder, or a sequence classifier, from disk or the Hub.

        `max_length` is how many tokens of a pair are read, the model's own number where left out.

        Raises:
            BijectError: What cannot be used, where, and what to do.
        """
        place = usable_device(device)
        folder = resolve_folder(path, revision=revision, token=token)
        model = load(folder, head="seqcls", dtype=dtype, device=place, numerics=numerics)
        tokenizer = load_tokenizer(folder, model.hf_config)
        check_fits(tokenizer, {"vocab_size": model.config.vocab_size})
        made = cls(model, tokenizer, activation=_stored_activation(folder, model.hf_config))
        if max_length is not None:
            made.max_length = max_length
        return made

    def predict(
        self,
        inputs: Sequence[Any] | None = None,
        batch_size: int = 32,
        *,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[Tensor], Tensor] | None = None,
        apply_softmax: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        sentences: Sequence[Any] | None = None,
    ) -> Array | Tensor | list[Tensor]:
        """Scores of pairs: (N,) of one output, (N, outputs) of several.

        Args:
            inputs: Pairs as tuples or lists of two texts, or as `{"query": …, "document": …}`; or one pair.
            batch_size: Pairs in a call of the model.
            show_progress_bar: Taken for compatibility: progress is reported as `biject.events` says.
            activation_fn: Put on the outputs instead of the folder's.
            apply_softmax: Over several outputs.
            convert_to_numpy: Give an array; else a list of tensors.
            convert_to_tensor: Give a tensor.
            sentences: An older name of `inputs`.

        Raises:
            InputError: An input is no pair.
        """
        del show_progress_bar
        inputs = sentences if inputs is None else inputs
        require(batch_size >= 1, f"`batch_size` must be at least 1; found {batch_size}.")
        require(inputs is not None, "`predict` needs pairs of texts.")
        assert inputs is not None
        one = _is_one(inputs)
        pairs = [_pair(item) for item in ([inputs] if one else inputs)]
        first, second = as_pairs(pairs, "predict", ("query", "document"), needed=True)
        self.task.batch_size = batch_size
        found = torch.empty(len(pairs), self.num_labels)
        encoded = self.task.encode(first, [text or "" for text in second])
        for batch, out in self.task.outputs(encoded) if pairs else ():
            assert out.logits is not None
            found[list(batch.rows)] = out.logits.float().cpu()
        found = (activation_fn or _ACTIVATIONS[self.activation]())(found)
        if self.num_labels == 1:
            found = found.squeeze(-1)
        elif apply_softmax:
            found = found.softmax(1)
        found = found[0] if one else found
        if convert_to_tensor:
            return found.to(self.model.device)
        array: Array = found.numpy()
        return array if convert_to_numpy else list(found) if not one else found

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        *,
        return_documents: bool = False,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[Tensor], Tensor] | None = None,
    ) -> list[dict[str, Any]]:
        """Documents by their scores for a query, best first: `corpus_id`, `score`, and `text`.

        Raises:
            InputError: The model has several outputs.
        """
        require(self.num_labels == 1, f"`rank` needs a model of one output; this has {self.num_labels}.")
        del show_progress_bar
        pairs = [(query, text) for text in documents]
        scores = self.predict(pairs, batch_size, activation_fn=activation_fn)
        found: list[dict[str, Any]] = [{"corpus_id": i, "score": float(s)} for i, s in enumerate(scores)]
        if return_documents:
            found = [{**one, "text": text} for one, text in zip(found, documents, strict=True)]
        return sorted(found, key=lambda one: -one["score"])[:top_k]

    @property
    def max_length(self) -> int | None:
        """Tokens of a pair; what is longer is cut."""
        return self.task.max_tokens

    @max_length.setter
    def max_length(self, tokens: int) -> None:
        most = max_tokens(self.model.config, self.tokenizer)
        require(
            1 <= tokens <= (most or tokens),
            f"`max_length` should be from 1 to {most or 'any number'}; found {tokens!r}.",
        )
        self.task.max_tokens = tokens

    def save_pretrained(self, folder: str | Path, *, force: bool = False) -> None:
        """Write a folder that CrossEncoder and `from_pretrained` open.

        Raises:
            CheckpointError: It exists already, or cannot be written; nothing is left half-done.
        """
        vocabulary = self.model.tokenizer
        changed = {} if vocabulary is None else dict(vocabulary.changed_files())
        gone = () if vocabulary is None else vocabulary.removed_files()
        files = reranker_files(self.model, tokenizer=self.tokenizer, activation=self.activation)
        save_model(self.model, Path(folder), force=force, extra={**changed, **files}, without=gone)


def _is_one(inputs: Any) -> bool:
    """Whether it is a pair, not a list of them; a text alone is neither."""
    if isinstance(inputs, str | Mapping):
        return True
    return len(inputs) == 2 and isinstance(inputs[0], str)


def _pair(item: Any) -> Any:
    """Lists and rows of arrays as tuples; a text is no pair of letters, nor a mapping one of its keys."""
    return tuple(item) if isinstance(item, list | np.ndarray) else item


def _stored_activation(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The class's name, where a folder says one: in sentence-transformers' file, or in config.json."""
    path = folder / MODEL
    own = parse_object(read_small_file(path, what=MODEL), where=str(path)) if path.is_file() else {}
    inner = config.get("sentence_transformers")
    found = own.get("activation_fn")
    if found is None and isinstance(inner, dict):
        found = inner.get("activation_fn")
    if found is None:
        found = config.get("sbert_ce_default_activation_function")
    if found is None:
        return None
    if not isinstance(found, str) or not found.startswith("torch."):
        raise ConfigError(f"{path}: `activation_fn` {found!r} is none of torch's.")
    return found.rpartition(".")[2]
