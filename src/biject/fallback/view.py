"""`FallbackConfig`: of transformers' config what tasks and runs ask a model's config for, by our names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
        cls, config: Any, *, values: Mapping[str, Any], first_position: int, takes: Collection[str]
    ) -> FallbackConfig:
        """The view of a config.

        Args:
            config: transformers' object.
            values: config.json.
            first_position: rows of the table of positions before the first token's.
            takes: names of the class's arguments.
        """
        positions = getattr(config, "max_position_embeddings", None)
        bounded = isinstance(positions, int) and positions > 0
        count = int(getattr(config, "num_labels", 2))
        segments = getattr(config, "type_vocab_size", 2) if "token_type_ids" in takes else 0
        pad = getattr(config, "pad_token_id", None)
        takes_pictures = "pixel_values" in takes and "input_ids" not in takes
        return cls(
            vocab_size=int(getattr(config, "vocab_size", 0) or 0),
            hidden_size=int(getattr(config, "hidden_size", 0) or 0),
            pad_token_id=first_position - 1 if first_position else pad,
            embedding=EmbeddingView(
                type_vocab_size=int(segments or 0),
                max_position_embeddings=int(positions) if isinstance(positions, int) else 0,
                order=("positions",) if bounded else (),
                position_rule="after-pad" if first_position else "from-zero",
                patches=_patches(config) if takes_pictures else None,
            ),
            head=HeadView(num_labels=count, problem_type=values.get("problem_type")),
            id2label=dict(enumerate(label_names(values, count))),
        )


def _patches(config: Any) -> PatchView:
    """What a model of pictures is given; CLIP's kin say it of their part for pictures, ResNet takes any."""
    own = getattr(config, "vision_config", None) or config
    size, channels = getattr(own, "image_size", None), getattr(own, "num_channels", 3)
    pair = (size, size) if isinstance(size, int) else size
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return PatchView(num_channels=int(channels), image_size=_ANY, other_sizes="always")
    return PatchView(num_channels=int(channels), image_size=(int(pair[0]), int(pair[1])))


_ANY = (64, 64)
"""Height and width where a model takes any."""
