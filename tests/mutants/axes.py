"""What a config says about the places of mutants."""

from __future__ import annotations

from dataclasses import dataclass

from biject.config.heads import (
    LastHeadConfig,
    PooledHeadConfig,
    SpanHeadConfig,
    TokenHeadConfig,
    VocabHeadConfig,
)
from biject.config.layers import AttentionSpec, LayerConfig, RelativeConfig
from biject.config.model import ModelConfig
from biject.config.rope import RopeConfig
from biject.model import Model

_HEAD_KINDS = {
    PooledHeadConfig: "pooled",
    LastHeadConfig: "last",
    TokenHeadConfig: "tokens",
    SpanHeadConfig: "spans",
    VocabHeadConfig: "vocab",
}


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What a config says about the places of mutants."""

    config: ModelConfig

    @property
    def first(self) -> LayerConfig:
        return self.config.layers[0]

    @property
    def spec(self) -> AttentionSpec:
        spec: AttentionSpec = self.first.attention.spec
        return spec

    @property
    def layer_order(self) -> tuple[int, ...]:
        return self.config.layer_order

    @property
    def activation(self) -> str:
        act: str = self.first.mlp.act
        return act

    @property
    def eps(self) -> float:
        norm = self.first.mlp_norm if self.first.mlp_norm.kind != "none" else self.first.mlp_out_norm
        return norm.eps

    @property
    def rms(self) -> bool:
        return self.first.attn_norm.kind == "rms"

    @property
    def pre_norm(self) -> bool:
        return self.first.placement == "pre"

    @property
    def embedding_norm(self) -> bool:
        return self.config.embedding.norm.kind != "none"

    @property
    def output_norm(self) -> bool:
        return self.first.attn_out_norm.kind != "none"

    @property
    def embedding_scale(self) -> float | None:
        return self.config.embedding.scale

    @property
    def score_cap(self) -> float | None:
        return self.spec.softcap

    @property
    def logit_cap(self) -> float | None:
        return getattr(self.config.head, "softcap", None)

    @property
    def embedding_zeroed(self) -> bool:
        return self.config.embedding.zero_padding

    @property
    def tables(self) -> tuple[str, ...]:
        return self.config.embedding.order

    @property
    def positions_after_pad(self) -> bool:
        return self.config.embedding.position_rule == "after-pad"

    @property
    def num_heads(self) -> int:
        return self.spec.num_heads

    @property
    def num_key_heads(self) -> int:
        return self.spec.num_key_value_heads

    @property
    def head_dim(self) -> int:
        return self.spec.head_dim

    @property
    def causal(self) -> bool:
        return self.spec.causal

    @property
    def windows(self) -> set[int]:
        windows = {layer.attention.spec.window for layer in self.config.layers}
        return {window for window in windows if window is not None}

    @property
    def rope(self) -> RopeConfig | None:
        rope: RopeConfig | None = self.first.attention.rope
        return rope

    @property
    def rope_base(self) -> float | None:
        return self.rope.theta if self.rope else None

    @property
    def qk_norm(self) -> bool:
        return self.first.attention.qk_norm is not None

    @property
    def relative_config(self) -> RelativeConfig | None:
        relative: RelativeConfig | None = self.first.attention.relative
        return relative

    @property
    def relative(self) -> bool:
        return self.relative_config is not None and self.relative_config.enabled

    @property
    def relative_terms(self) -> int:
        relative = self.relative_config
        return relative.content_to_position + relative.position_to_content if relative else 0

    @property
    def relative_norm(self) -> bool:
        relative = self.relative_config
        return relative is not None and relative.enabled and relative.norm.kind != "none"

    @property
    def near_buckets(self) -> int | None:
        """From which distance on buckets are shared; None where none is."""
        relative = self.relative_config
        return relative.buckets // 2 if relative is not None and relative.buckets > 0 else None

    @property
    def convolution(self) -> bool:
        return self.first.conv is not None

    @property
    def gated(self) -> bool:
        return getattr(self.first.mlp, "gate", "none") != "none"  # experts have gates of their own

    @property
    def stored_in_out(self) -> bool:
        return bool(self.first.attention.transposed)

    @property
    def attention_dropout(self) -> float:
        return self.spec.dropout

    @property
    def pooler(self) -> bool:
        return bool(getattr(self.config.head, "pooler", False))

    @property
    def head_kind(self) -> str:
        kind = _HEAD_KINDS.get(type(self.config.head), "none")
        return "causal" if getattr(self.config.head, "causal", False) else kind

    @property
    def head_activation(self) -> str | None:
        dense = getattr(self.config.head, "dense", None)
        return dense.act if dense is not None and dense.act != "linear" else None

    @property
    def pads(self) -> bool:
        return self.config.pad_token_id is not None


def axes(model: Model) -> Axes:
    """Of a model as it is built."""
    return Axes(config=model.config)
