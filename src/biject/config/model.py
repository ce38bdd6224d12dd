"""`ModelConfig`: everything the modules need to know, in one frozen object and without a family's name.

Sizes carry Hugging Face's names. Where families differ, a small field says how (an axis of
variation), so that `nn/` never asks which family it is computing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from biject.config.causal import CausalConfig

PositionRule = Literal["none", "arange", "after-pad"]
"""`arange`: 0, 1, 2, …; `after-pad`: tokens that are not padding count up from `pad_token_id + 1`,
padding stays at it.
"""

NormKind = Literal["layer", "rms"]

Table = Literal["positions", "segments"]
"""An embedding table that is added to the token rows."""

ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
    """Token, position and segment tables, and what is done with their sum."""

    size: int
    order: tuple[Table, ...]
    """Tables added to the token rows, in this order (floating-point sums depend on it)."""
    position_rule: PositionRule
    max_position_embeddings: int
    type_vocab_size: int
    projection: Literal["none", "before-norm", "after-norm"] = "none"
    """Whether a linear of `size` to the hidden size follows, and where."""
    projection_bias: bool = True
    zero_padding: bool = False
    """Multiply the normalised rows by the attention mask (DeBERTa)."""
    norm: bool = True
    """Whether the sum is normalised."""
    padding_row: bool = True
    """The padding token's row gets no gradient."""
    segments_from_tokens: bool = False
    """Segment ids, where they are given, are looked up in the token table (GPT-2)."""


@dataclass(frozen=True, kw_only=True)
class RelativeConfig:
    """Disentangled attention's relative positions (He et al. 2021, arXiv:2006.03654, section 3)."""

    content_to_position: bool
    position_to_content: bool
    enabled: bool
    """False: the terms only change the scale of the scores, there is no table."""
    share_keys: bool
    """Position terms use the content's query and key projections."""
    buckets: int
    """Log buckets, or ≤ 0 for none."""
    max_distance: int
    norm: bool
    """LayerNorm over the table."""
    dropout: float

    @property
    def span(self) -> int:
        """Half the rows of the table."""
        return self.buckets if self.buckets > 0 else self.max_distance


@dataclass(frozen=True, kw_only=True)
class ConvConfig:
    """The convolution beside the first layer (DeBERTa-v2 xlarge)."""

    kernel_size: int
    groups: int
    act: str


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What sits on the transformer: `pooled` (one row a text), `last` (the same, from the last token),
    `tokens`, `spans`, `vocab` (masked LM), `causal` (the next token) or `detection` (one number a token:
    was it replaced?).
    """

    kind: Literal["pooled", "last", "tokens", "spans", "vocab", "causal", "detection"]
    num_labels: int
    problem_type: ProblemType | None = None
    infer_problem: Literal["dtype", "shape"] = "dtype"
    """How an unset `problem_type` is inferred: from the labels' dtype (most families) or shape
    (DeBERTa).
    """
    dense_size: int = 0
    """Width of the dense layer before the output; 0 for none."""
    act: str = "linear"
    dropout_in: float = 0.0
    """Before the dense layer (or the output, where there is none)."""
    dropout: float = 0.0
    """Before the output."""
    bias_added: bool = False
    """Masked LM: the bias is added after the product, not fused into it; the last bit can differ."""
    out_bias: bool = True
    """`tokens`: the output has a bias."""
    float32_loss: bool = False
    """`tokens`: the loss is computed in float32 whatever the logits are in."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One transformer with its head."""

    vocab_size: int
    hidden_size: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: str
    norm_eps: float
    pad_token_id: int | None
    embedding: EmbeddingConfig
    num_unique_layers: int
    layer_order: tuple[int, ...]
    """Which layer runs at each step; with shared layers (ALBERT) an index comes more than once."""
    embedding_dropout: float
    attention_dropout: float
    attention_out_dropout: float
    mlp_out_dropout: float
    feed_forward_chunk_size: int = 0
    """HF's `chunk_size_feed_forward`: columns given to the MLP at a time, 0 for all."""
    feed_forward_chunk_norm: bool = False
    """Whether residual and norm after the MLP are computed chunk by chunk, too."""
    norm: NormKind = "layer"
    norm_place: Literal["pre", "post"] = "post"
    """Before attention and MLP (and once after all layers), or after each one's residual."""
    gated: bool = False
    """The MLP's activation multiplies a second projection."""
    mlp_bias: bool = True
    weights_in_out: bool = False
    """Matrices inside the layers are stored (in, out)."""
    causal: CausalConfig | None = None
    relative: RelativeConfig | None = None
    conv: ConvConfig | None = None
    pooler: bool = False
    """A tanh-activated linear over the first row, as part of the transformer (BERT)."""
    tied_output: bool = True
    """A language model's output matrix is the token table."""
    initializer_range: float = 0.02
    output_hidden_states: bool = False
    output_attentions: bool = False
    head: HeadConfig | None = None

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return (
            self.causal.head_dim if self.causal is not None else self.hidden_size // self.num_attention_heads
        )
