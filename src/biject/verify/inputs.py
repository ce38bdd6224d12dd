"""Deterministic inputs that cover what a config allows: masks, segments, positions, lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from biject.config.model import PatchConfig
from biject.families import family
from biject.verify.pictures import masked_pictures, picture_inputs, pictures

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One call of a model: a name for the report and the keyword arguments."""

    name: str
    inputs: Inputs


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What of a config bounds its inputs; `step` divides every length (HF requires it for chunks)."""

    vocab_size: int
    pad_id: int
    max_length: int
    num_segments: int
    embedding_dim: int
    step: int
    first_position: int
    num_positions: int
    takes_segments: bool
    patches: PatchConfig | None = None


WITHOUT_LOSS = ("base", "distilled")
"""Heads that give no loss."""


def limits(config: Mapping[str, Any]) -> Limits:
    """Read the limits from a `config.json` as stored on disk, through the family's own table.

    Raises:
        ConfigError: the family is unknown, or the config cannot be used.
    """
    known = family(config.get("model_type"))
    values: Mapping[str, Any] = known.config.read(config)
    if known.resolve is not None:
        values = known.resolve(values, frozenset(), "base", None)
    built = known.build(values, "base")
    pad_id = max(built.pad_token_id or 0, 0)
    first = pad_id + 1 if built.embedding.position_rule == "after-pad" else 0
    return Limits(
        vocab_size=built.vocab_size,
        pad_id=pad_id,
        max_length=built.embedding.max_position_embeddings - first,
        num_segments=built.embedding.type_vocab_size,
        embedding_dim=built.embedding.size,
        step=max(1, *(layer.mlp_chunk_size for layer in built.layers)),
        first_position=first,
        num_positions=built.embedding.max_position_embeddings,
        takes_segments=built.embedding.type_vocab_size > 0,
        patches=built.embedding.patches,
    )


def probe_cases(
    config: Mapping[str, Any], *, length: int = 13, max_length: int = 512, seed: int = 0
) -> list[Case]:
    """The calls that the forward level makes.

    Args:
        config: The checkpoint's `config.json`.
        length: Columns of the ordinary cases.
        max_length: Cap on the longest case, for time.
        seed: Of ids, segments, positions and embeddings.
    """
    bound = limits(config)
    if bound.patches is not None:
        return [
            Case(name=name, inputs=inputs) for name, inputs in picture_inputs(bound.patches, seed).items()
        ]
    source = _Source(bound, torch.Generator().manual_seed(seed))
    columns = source.fit(length)
    long = source.fit(min(bound.max_length, max_length))
    masks = _masks(columns)
    cases = [Case(name="alone", inputs={"input_ids": source.ids(1, columns)})]
    for name in ("right-padded", "left-padded"):
        ids = source.ids(3, columns).masked_fill(masks[name] == 0, bound.pad_id)
        cases.append(Case(name=name, inputs={"input_ids": ids, "attention_mask": masks[name]}))
    for name in ("holes", "all-ones"):
        inputs = {"input_ids": source.ids(3, columns), "attention_mask": masks[name]}
        cases += [Case(name=name, inputs=inputs)]
    if bound.takes_segments:
        ids = source.ids(3, columns).masked_fill(masks["right-padded"] == 0, bound.pad_id)
        inputs = {"input_ids": ids, "attention_mask": masks["right-padded"]}
        cases.append(Case(name="segments", inputs=inputs | {"token_type_ids": source.segments(3, columns)}))
    cases.append(Case(name="length-1", inputs={"input_ids": source.ids(2, source.fit(1))}))
    cases.append(Case(name="max-length", inputs={"input_ids": source.ids(1, long)}))
    positions = {"position_ids": source.positions(2, columns)}
    cases.append(Case(name="position-ids", inputs={"input_ids": source.ids(2, columns)} | positions))
    embeds = {"inputs_embeds": source.embeddings(3, columns), "attention_mask": masks["right-padded"]}
    return [*cases, Case(name="inputs-embeds", inputs=embeds)]


def mixed_cases(config: Mapping[str, Any], *, max_length: int = 512, seed: int = 2) -> list[Case]:
    """Batches of unequal texts: short ones, longer ones, and one with a left-padded text and a hole.

    Args:
        config: The checkpoint's `config.json`.
        max_length: Cap on the longest text, for time.
        seed: Of ids and lengths.
    """
    bound = limits(config)
    if bound.patches is not None:
        return [Case(name="masked patches", inputs=masked_pictures(bound.patches, seed))]
    source = _Source(bound, torch.Generator().manual_seed(seed))
    cases = []
    for name, batch, longest in (("2-40 tokens", 9, 40), ("3-130 tokens", 6, 130), ("holes", 7, 70)):
        columns = source.fit(min(longest, max_length))
        lengths = torch.randint(1, columns + 1, (batch, 1), generator=source.draw)
        lengths[1] = columns
        mask = (torch.arange(columns) < lengths).long()
        if name == "holes":
            mask[2] = mask[2].flip(0)
            mask[1, columns // 2] = 0
        ids = source.ids(batch, columns).masked_fill(mask == 0, bound.pad_id)
        cases.append(Case(name=name, inputs={"input_ids": ids, "attention_mask": mask}))
    return cases


def training_case(config: Mapping[str, Any], head: str, *, length: int = 13, seed: int = 1) -> Case:
    """A right-padded batch with segments and labels: the one backward of the gradients level."""
    bound = limits(config)
    if bound.patches is not None:
        size = torch.empty(3, bound.patches.before_patches + 1)
        found = pictures(bound.patches, 3, seed)
        return Case(name="training", inputs={"pixel_values": found} | labels(config, head, size, seed=seed))
    source = _Source(bound, torch.Generator().manual_seed(seed))
    columns = source.fit(length)
    mask = _masks(columns)["right-padded"]
    inputs = {
        "input_ids": source.ids(3, columns).masked_fill(mask == 0, bound.pad_id),
        "attention_mask": mask,
    }
    if bound.takes_segments and bound.num_segments > 1:
        inputs["token_type_ids"] = source.segments(3, columns)
    return Case(name="training", inputs=inputs | labels(config, head, mask, seed=seed))


def labels(config: Mapping[str, Any], head: str, mask: Tensor, *, seed: int = 1) -> dict[str, Tensor]:
    """Labels for a head: -100 at padding and at some other places, an answer outside of the text for one row.

    Shape:
        mask: (batch, length). Returns `labels`, or `start_positions` and `end_positions`; nothing for `base`.
    """
    draw = torch.Generator().manual_seed(seed)
    batch, length = mask.shape
    if head == "qa":
        start = torch.randint(0, length, (batch,), generator=draw)
        end = torch.randint(0, length, (batch,), generator=draw)
        end[-1] = length + 3  # HF clamps it to the length and ignores it
        return {"start_positions": start, "end_positions": end}
    if head in ("tokcls", "mlm", "causal"):
        size = num_labels(config) if head == "tokcls" else limits(config).vocab_size
        values = torch.randint(0, size, (batch, length), generator=draw)
        ignored = (torch.rand((batch, length), generator=draw) < 0.4) | (mask == 0)
        return {"labels": values.masked_fill(ignored, -100)}
    if head == "rtd":
        return {"labels": torch.randint(0, 2, (batch, length), generator=draw)}
    if head in ("seqcls", "imgcls"):
        return {"labels": _sequence_labels(config, batch, draw)}
    return {}


def num_labels(config: Mapping[str, Any]) -> int:
    """How many labels a config declares: `id2label`'s length as in HF, else `num_labels`, else 2."""
    mapping = config.get("id2label")
    return len(mapping) if isinstance(mapping, Mapping) else int(config.get("num_labels", 2))


def _sequence_labels(config: Mapping[str, Any], batch: int, draw: torch.Generator) -> Tensor:
    size, problem = num_labels(config), config.get("problem_type")
    if problem == "regression" or (problem is None and size == 1):
        return torch.randn((batch,) if size == 1 else (batch, size), generator=draw)
    if problem == "multi_label_classification":
        return torch.randint(0, 2, (batch, size), generator=draw).float()
    return torch.randint(0, size, (batch,), generator=draw)


def _masks(columns: int) -> dict[str, Tensor]:
    """Masks for three rows: full, long and short."""
    short, long = max(1, columns // 3), max(1, columns - 2)
    place = torch.arange(columns).expand(3, columns)
    lengths = torch.tensor([[columns], [short], [long]])
    holes = ((place * 5 + torch.arange(3)[:, None]) % 7 != 3).long()
    holes[:, 0] = torch.tensor([1, 1, 0]) if columns > 1 else 1
    return {
        "right-padded": (place < lengths).long(),
        "left-padded": (place >= columns - lengths).long(),
        "holes": holes,
        "all-ones": torch.ones(3, columns, dtype=torch.long),
    }


@dataclass(frozen=True)
class _Source:
    """Draws inputs inside the limits, always in the same order."""

    bound: Limits
    draw: torch.Generator

    def fit(self, length: int) -> int:
        """The nearest length that is a multiple of the step and not too long."""
        step = self.bound.step
        return max(step, min(length, self.bound.max_length) // step * step)

    def ids(self, batch: int, columns: int) -> Tensor:
        """Ids that are never the pad id: (batch, columns)."""
        ids = torch.randint(0, self.bound.vocab_size - 1, (batch, columns), generator=self.draw)
        return ids + (ids >= self.bound.pad_id).long()

    def segments(self, batch: int, columns: int) -> Tensor:
        """Segment ids: (batch, columns). A model without segments ignores them, so zeros will do."""
        return torch.randint(0, max(1, self.bound.num_segments), (batch, columns), generator=self.draw)

    def positions(self, batch: int, columns: int) -> Tensor:
        """Shuffled positions: (batch, columns)."""
        first, count = self.bound.first_position, self.bound.num_positions - self.bound.first_position
        rows = [first + torch.randperm(count, generator=self.draw)[:columns] for _ in range(batch)]
        return torch.stack(rows)

    def embeddings(self, batch: int, columns: int) -> Tensor:
        """Input embeddings in float32: (batch, columns, embedding_dim)."""
        return 0.5 * torch.randn((batch, columns, self.bound.embedding_dim), generator=self.draw)
