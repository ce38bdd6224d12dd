"""`ModelConfig`: everything the modules need to know, in one frozen object and without a family's name.

Sizes carry Hugging Face's names. A model is a list of distinct layers (`config/layers.py`), the order in
which they run, and a head (`config/heads.py`), so that `nn/` never asks which family it is computing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from biject.config.heads import BaseHeadConfig, HeadConfig, ProblemType
from biject.config.layers import LayerConfig, NormConfig, RelativeConfig

__all__ = ["EmbeddingConfig", "ModelConfig", "PatchConfig", "PositionRule", "ProblemType", "Table"]

PositionRule = Literal["none", "arange", "after-pad"]
"""`arange`: 0, 1, 2, …; `after-pad`: tokens that are not padding count up from `pad_token_id + 1`,
padding stays at it.
"""

Table = Literal["positions", "segments"]
"""An embedding table that is added to the token rows."""


@dataclass(frozen=True, kw_only=True)
class PatchConfig:
    """Pictures cut into patches, one row each, after a few learned rows."""

    image_size: tuple[int, int]
    """Height and width that the positions are made for."""
    patch_size: tuple[int, int]
    num_channels: int
    tokens: tuple[Literal["cls", "distillation"], ...] = ("cls",)
    """Learned rows before the patches; they have positions of their own."""
    registers: int = 0
    """Learned rows after the first one, without positions."""
    other_sizes: Literal["on-request", "always"] = "on-request"
    """When positions are interpolated for pictures of another size."""
    float32: bool = False
    """Positions are interpolated in float32, whatever they are in."""
    antialias: bool = False
    """They are interpolated with a low-pass filter."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    @property
    def num_positions(self) -> int:
        """Rows of the table: the patches' and the learned rows'."""
        return self.grid[0] * self.grid[1] + len(self.tokens)

    @property
    def before_patches(self) -> int:
        """Rows that are no patches."""
        return len(self.tokens) + self.registers


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
    """Token, position and segment tables, and what is done with their sum."""

    size: int
    order: tuple[Table, ...] = ()
    """Tables added to the token rows, in this order (floating-point sums depend on it)."""
    position_rule: PositionRule = "none"
    max_position_embeddings: int
    type_vocab_size: int = 0
    norm: NormConfig = NormConfig(kind="none")  # noqa: RUF009
    """Over the sum."""
    dropout: float = 0.0
    scale: float | None = None
    """Token rows are multiplied by it, rounded to their dtype before (Gemma)."""
    projection: Literal["none", "before-norm", "after-norm"] = "none"
    """Whether a linear of `size` to the hidden size follows, and where."""
    projection_bias: bool = True
    zero_padding: bool = False
    """Multiply the normalised rows by the attention mask (DeBERTa)."""
    padding_row: bool = True
    """The padding token's row gets no gradient."""
    segments_from_tokens: bool = False
    """Segment ids, where they are given, are looked up in the token table (GPT-2)."""
    patches: PatchConfig | None = None
    """The input is pictures; there are no token, position and segment tables."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One transformer with its head."""

    vocab_size: int
    hidden_size: int
    pad_token_id: int | None
    embedding: EmbeddingConfig
    layers: tuple[LayerConfig, ...]
    """One per distinct layer."""
    layer_order: tuple[int, ...]
    """Which layer runs at each step; with shared layers (ALBERT) an index comes more than once."""
    final_norm: NormConfig = NormConfig(kind="none")  # noqa: RUF009
    """After all layers."""
    relative_table: RelativeConfig | None = None
    """A table of relative positions that all layers share (DeBERTa)."""
    split_at_jumps: bool = False
    """Without a mask, jumps in `position_ids` are the ends of texts packed into one row."""
    tied_output: bool = True
    """A language model's output matrix is the token table."""
    hidden_before_norm: bool = False
    """The last of the hidden states is the last layer's output as it comes, not normalised (ViT)."""
    initializer_range: float = 0.02
    output_hidden_states: bool = False
    output_attentions: bool = False
    output_router_logits: bool = False
    """Routers' logits are reported, and a language model's loss has the balance of experts in it."""
    router_aux_loss_coef: float = 0.0
    """The weight of that part."""
    head: HeadConfig = BaseHeadConfig()  # noqa: RUF009
