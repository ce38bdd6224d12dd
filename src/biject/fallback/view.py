"""`FallbackConfig`: of transformers' config what tasks and runs ask a model's config for, by our names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from biject.config.common import label_names


@dataclass(frozen=True, kw_only=True)
class HeadView:
    """Of the head: how many outputs, and what they mean."""

    num_labels: int
    problem_type: Any


@dataclass(frozen=True, kw_only=True)
class PatchView:
    """Of a model of pictures: what it is given."""

    num_channels: int
    image_size: tuple[int, int]
    other_sizes: str = "never"


@dataclass(frozen=True, kw_only=True)
class EmbeddingView:
    """Of the embeddings: segments, and how many positions there are."""

    type_vocab_size: int
    max_position_embeddings: int
    order: tuple[str, ...]
    """`positions` where a text's length is bounded."""
    position_rule: str
    """`after-pad` where the table's first rows are padding's."""
    patches: PatchView | None = None


@dataclass(frozen=True, kw_only=True)
class FallbackConfig:
    """What our code reads of a config; `model.hf.config` is transformers' own.

    Attributes:
        vocab_size: Ids that the model has embeddings for; 0 for pictures.
        hidden_size: Of the last layer's rows.
    """

    vocab_size: int
    hidden_size: int
    pad_token_id: int | None
    embedding: EmbeddingView
    head: HeadView
    id2label: dict[int, str]

    @classmethod
    def of(
        cls, config: Any, *, values: Mapping[str, Any], first_position: int, takes_segments: bool
    ) -> FallbackConfig:
        """The view of a config.

        Args:
            config: transformers' object.
            values: config.json.
            first_position: rows of the table of positions before the first token's.
            takes_segments: the class has an argument `token_type_ids`.
        """
        positions = getattr(config, "max_position_embeddings", None)
        bounded = isinstance(positions, int) and positions > 0
        count = int(getattr(config, "num_labels", 2))
        segments = getattr(config, "type_vocab_size", 2) if takes_segments else 0
        pad = getattr(config, "pad_token_id", None)
        return cls(
            vocab_size=int(getattr(config, "vocab_size", 0) or 0),
            hidden_size=int(getattr(config, "hidden_size", 0) or 0),
            pad_token_id=first_position - 1 if first_position else pad,
            embedding=EmbeddingView(
                type_vocab_size=int(segments or 0),
                max_position_embeddings=int(positions) if isinstance(positions, int) else 0,
                order=("positions",) if bounded else (),
                position_rule="after-pad" if first_position else "from-zero",
                patches=_patches(config),
            ),
            head=HeadView(num_labels=count, problem_type=values.get("problem_type")),
            id2label=dict(enumerate(label_names(values, count))),
        )


def _patches(config: Any) -> PatchView | None:
    """What a model of pictures is given; None where the config is of no such model."""
    size, channels = getattr(config, "image_size", None), getattr(config, "num_channels", None)
    if isinstance(size, int):
        size = (size, size)
    if not isinstance(size, list | tuple) or len(size) != 2 or not isinstance(channels, int):
        return None
    return PatchView(num_channels=channels, image_size=(int(size[0]), int(size[1])))
