"""What a layer is built from: norms, attention, MLP. Each config type has its module in `nn/registry.py`."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log
from typing import Any, Literal, NamedTuple

from biject.config.rope import RopeConfig

NormKind = Literal["layer", "rms", "none"]


@dataclass(frozen=True, kw_only=True)
class NormConfig:
    """A norm over the last dimension; `none` is the identity."""

    kind: NormKind
    eps: float = 0.0
    bias: bool = True
    """`layer`: a bias is added."""
    weight: Literal["own", "float32", "from-one"] = "own"
    """`rms`: the weight multiplies after the cast to the dtype, or in float32 before it; `from-one`: in
    float32, and one is added to it (Gemma)."""


class MaskKind(NamedTuple):
    """Which keys a query may see, beside those that are padding: layers of one kind share their masks."""

    causal: bool
    window: int | None
    mask_queries: bool


@dataclass(frozen=True, kw_only=True)
class AttentionSpec:
    """What an attention kernel has to know."""

    num_heads: int
    num_key_value_heads: int
    """Each serves `num_heads / num_key_value_heads` query heads that stand side by side."""
    head_dim: int
    scale: float
    """What scores are multiplied by."""
    causal: bool = False
    window: int | None = None
    """Causal: how many tokens a token sees, itself included. Else: how far it sees, to each side."""
    mask_queries: bool = False
    """Padding tokens see nothing either (DeBERTa)."""
    dropout: float = 0.0
    softmax: Literal["own", "float32"] = "own"
    """The dtype of a softmax that is written out: the scores' own, or float32."""
    upcast: bool = False
    """Scores are always written out and computed in float32, scaled inside the product."""
    written_out: bool = False
    """Scores, softmax and the product with the values are always computed one by one, as by HF's `eager`."""
    softcap: float | None = None
    """Scores that are written out are kept within ± this, by a tanh, before they are masked (Gemma 2)."""

    @property
    def by_steps(self) -> bool:
        """Whether scores are written out whoever asks."""
        return self.upcast or self.written_out

    @property
    def sees(self) -> tuple[int, int]:
        """How many tokens before and after its own a query looks at; -1 for all."""
        if self.causal:
            return (-1 if self.window is None else self.window - 1, 0)
        return (-1, -1) if self.window is None else (self.window, self.window)

    @property
    def mask_kind(self) -> MaskKind:
        """What its masks depend on."""
        return MaskKind(self.causal, self.window, self.mask_queries)


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
    norm: NormConfig
    """Over the table."""
    dropout: float

    @property
    def span(self) -> int:
        """Half the rows of the table."""
        return self.buckets if self.buckets > 0 else self.max_distance

    @property
    def in_order(self) -> bool:
        """Whether farther tokens never have a nearer row of the table: the logarithm's base is above 1."""
        if self.buckets <= 0 or self.max_distance <= 0:
            return True
        return self.max_distance - 1 > self.buckets // 2 >= 1

    def rows_seen(self, queries: int, keys: int) -> int:
        """How many rows of the table so many columns look at, by sixteens; see `nn/relative.py`."""
        if not self.in_order:
            return 2 * self.span
        first, last = self.span - self._bucket(keys - 1), self.span + self._bucket(queries - 1)
        return min(2 * self.span, (last // 16 + 1) * 16) - max(0, first) // 16 * 16

    def _bucket(self, distance: int) -> int:
        middle = self.buckets // 2
        if self.buckets <= 0 or self.max_distance <= 0 or distance <= middle:
            return distance
        width = log(distance / middle) / log((self.max_distance - 1) / middle)
        return ceil(width * (middle - 1)) + middle


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Multi-head self-attention; the parts that a model lacks are None or False."""

    hidden_size: int
    spec: AttentionSpec
    fused: bool = False
    """One `qkv_proj` instead of three projections."""
    qkv_bias: bool = True
    out_bias: bool = True
    transposed: bool = False
    """Matrices are stored (in, out)."""
    qk_norm: NormConfig | None = None
    """Queries and keys are normalised before they are rotated."""
    qk_norm_over: Literal["head", "all heads"] = "head"
    """Each head on its own, or all that a projection gives (OLMo 2)."""
    rope: RopeConfig | None = None
    relative: RelativeConfig | None = None


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """Up, activation, down; with a gate, the activated gate multiplies the way up."""

    hidden_size: int
    intermediate_size: int
    act: str
    gate: Literal["none", "separate", "fused", "stacked"] = "none"
    """`fused`: one `gate_up_proj`, the gate first; `stacked`: the same matrix, computed as two products."""
    bias: bool = True
    transposed: bool = False
    """Matrices are stored (in, out)."""
    dropout: float = 0.0
    """Before the way down."""


@dataclass(frozen=True, kw_only=True)
class ExpertsConfig:
    """A mixture of experts: gated MLPs, of which a router chooses a few for each row."""

    hidden_size: int
    intermediate_size: int
    """Of one expert."""
    act: str
    num_experts: int
    num_experts_per_tok: int
    norm_topk_prob: bool
    """The chosen experts' weights add up to 1."""
    stacked: bool = False
    """The file holds all experts' matrices in one tensor, `gate_up_proj` and `down_proj`; else three each."""


@dataclass(frozen=True, kw_only=True)
class ConvConfig:
    """A convolution over a layer's input, added to its output (DeBERTa-v2 xlarge, first layer)."""

    kernel_size: int
    groups: int
    act: str
    dropout: float
    norm: NormConfig


@dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """Attention and MLP, each with its norm, dropout and residual.

    `attention` and `mlp` are configs of any type that has a module in `nn/registry.py`.
    """

    hidden_size: int
    attention: Any
    mlp: Any
    attn_norm: NormConfig
    mlp_norm: NormConfig
    placement: Literal["pre", "post"]
    """Norms stand before attention and MLP, or after each one's residual."""
    attn_out_norm: NormConfig = NormConfig(kind="none")
    """Over what attention gives, before it is added to the residual (`pre` only)."""
    mlp_out_norm: NormConfig = NormConfig(kind="none")
    """The same of the MLP."""
    attn_dropout: float = 0.0
    mlp_dropout: float = 0.0
    mlp_chunk_size: int = 0
    """HF's `chunk_size_feed_forward`: columns given to the MLP at a time, 0 for all."""
    mlp_chunk_norm: bool = False
    """Whether residual and norm after the MLP are computed chunk by chunk, too."""
    conv: ConvConfig | None = None
    scale: bool = False
    """Outputs of attention and MLP are multiplied by a learned vector each (layer scale; pre-norm only)."""
    drop_path: float = 0.0
    """In training, how often a sample goes past attention, and past the MLP (pre-norm only)."""
