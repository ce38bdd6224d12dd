"""What the tasks share: texts to rows, and rows of like length through the model together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from biject.config.model import ModelConfig
from biject.errors import ConfigError, InputError
from biject.events import notice, progress
from biject.fallback.view import FallbackConfig
from biject.model import Model
from biject.nn.output import ModelOutput
from biject.tasks.inputs import require
from biject.tokenization.encoded import Encoded
from biject.tokenization.tokenizer import Tokenizer

BATCH_SIZE = 16


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of like length, padded on the right, where padding moves no position."""

    rows: tuple[int, ...]
    """Their places in what was encoded."""
    lengths: tuple[int, ...]
    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor | None


class Rows(Protocol):
    """What the model reads of encoded texts."""

    @property
    def input_ids(self) -> Sequence[Sequence[int]]: ...

    @property
    def token_type_ids(self) -> Sequence[Sequence[int]] | None: ...


class Task:
    """A model, its tokenizer, and a use for them.

    Calling a task with one text gives one result, with a list of texts a list of results in their order.
    """

    name: ClassVar[str]
    head: ClassVar[str]
    """The head that the task needs."""
    takes: ClassVar[tuple[str, ...]]
    """Options of a call."""

    def __init__(self, model: Model, tokenizer: Tokenizer, *, batch_size: int = BATCH_SIZE) -> None:
        require(batch_size >= 1, f"`batch_size` must be at least 1; found {batch_size}.")
        if model.head_name != self.head:
            raise InputError(
                f"{self.name} needs a model with the head `{self.head}`; this one has `{model.head_name}`."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.max_tokens = max_tokens(model.config, tokenizer)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Overridden by each task, with its own options."""
        raise NotImplementedError

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encoded:
        """Tokens of each text; what is longer than the model takes is cut, with a notice."""
        encoded = self.tokenizer(list(texts), None if pairs is None else list(pairs))
        limit = self.max_tokens
        long = [i for i, ids in enumerate(encoded.input_ids) if limit is not None and len(ids) > limit]
        if not long:
            return encoded
        notice(
            "cut-texts",
            f"{len(long)} of {len(texts)} texts have more than the {limit} tokens that the model takes and "
            f"are cut there; the first is text {long[0] + 1} with {len(encoded.input_ids[long[0]])}.",
        )
        return self.tokenizer(
            list(texts), None if pairs is None else list(pairs), max_length=limit, truncation=True
        )

    def outputs(
        self, encoded: Rows, forward: Callable[[Batch], ModelOutput] | None = None
    ) -> Iterator[tuple[Batch, ModelOutput]]:
        """Run the model over all rows, longest first, and report progress."""
        call = forward or self.forward
        done, total = 0, len(encoded.input_ids)
        progress(self.name, done, total, unit="texts")
        for batch in self.batches(encoded):
            yield batch, call(batch)
            done += len(batch.rows)
            progress(self.name, done, total, unit="texts")

    def batches(self, encoded: Rows) -> Iterator[Batch]:
        """Rows by length, longest first, so that memory that is short shows at once and little is padded.

        Without a padding token, only rows of equal length share a batch.
        """
        pad = self.tokenizer.pad_token_id
        lengths = [len(ids) for ids in encoded.input_ids]
        order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
        rows: list[int] = []
        for row in order:
            full = len(rows) == self.batch_size
            if rows and (full or (pad is None and lengths[row] != lengths[rows[0]])):
                yield self._batch(encoded, rows)
                rows = []
            rows.append(row)
        if rows:
            yield self._batch(encoded, rows)

    def _batch(self, encoded: Rows, rows: Sequence[int]) -> Batch:
        device = self.model.device
        segments = encoded.token_type_ids if self.model.config.embedding.type_vocab_size > 1 else None
        ids = [encoded.input_ids[row] for row in rows]
        pad = self.tokenizer.pad_token_id or 0
        return Batch(
            rows=tuple(rows),
            lengths=tuple(map(len, ids)),
            input_ids=_grid(ids, pad).to(device),
            attention_mask=_grid([[1] * len(row) for row in ids], 0).to(device),
            token_type_ids=None if segments is None else _grid([segments[row] for row in rows], 0).to(device),
        )

    def forward(self, batch: Batch, *, logits_at: Tensor | None = None) -> ModelOutput:
        """One call of the model, without gradients; `logits_at` as in its `forward`.

        Raises:
            InputError: the batch is too large for the memory, or the output has NaN.
        """
        try:
            with torch.inference_mode():
                out: ModelOutput = self.model(
                    input_ids=batch.input_ids,
                    attention_mask=batch.attention_mask,
                    token_type_ids=batch.token_type_ids,
                    logits_at=logits_at,
                )
        except torch.OutOfMemoryError as error:
            count, length = batch.input_ids.shape
            raise InputError(
                f"{count} rows of {length} tokens do not fit into memory; give a smaller batch size."
            ) from error
        if any(bool(value.isnan().any()) for value in out.to_tuple() if isinstance(value, Tensor)):
            raise InputError(
                f"The model returns NaN for text {batch.rows[0] + 1}: its weights have NaN, or "
                f"{self.model.dtype} is too narrow for them (try float32)."
            )
        return out

    def labels(self, count: int) -> Mapping[int, str]:
        """Names of the head's `count` outputs.

        Raises:
            ConfigError: some have none.
        """
        names = self.model.id2label
        missing = [index for index in range(count) if index not in names]
        if missing:
            raise ConfigError(
                f"config.json: `id2label` should name the head's {count} outputs; {missing[0]} has no name."
            )
        return names


def _grid(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Lists of ids as (B, L), filled on the right."""
    grid = torch.full((len(rows), max(map(len, rows))), fill, dtype=torch.long)
    for place, row in enumerate(rows):
        grid[place, : len(row)] = torch.tensor(row, dtype=torch.long)
    return grid


def max_tokens(config: ModelConfig | FallbackConfig, tokenizer: Tokenizer) -> int | None:
    """The longest row that both take: by `model_max_length` and by the rows of the position table."""
    sizes, limits = config.embedding, []
    if "positions" in sizes.order:
        first = (config.pad_token_id or 0) + 1 if sizes.position_rule == "after-pad" else 0
        limits.append(sizes.max_position_embeddings - first)
    if tokenizer.model_max_length is not None:
        limits.append(tokenizer.model_max_length)
    return min(limits, default=None)


def usable_device(
    name: str | torch.device, *, place: Callable[[torch.device], torch.device] = lambda device: device
) -> torch.device:
    """The device that `place` makes of the named one, if this machine has it.

    Raises:
        InputError: it has not.
    """
    try:
        device = place(torch.device(name))
        torch.empty(0, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise InputError(f"`device` {str(name)!r} cannot be used on this machine: {reason}.") from error
    return device
