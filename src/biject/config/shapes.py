"""The shape of every parameter by its config alone, without torch: what a file has to hold.

The modules of `nn/` are built from the same configs; a test compares both for every family and head.
"""

from __future__ import annotations

from biject.config.layers import AttentionConfig, ConvConfig, ExpertsConfig, LayerConfig, MLPConfig
from biject.config.model import ModelConfig, PatchConfig
from biject.config.sizes import Parts, Shape, Shapes, linear, norm


def parameter_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Shapes by the parameters' names; none for parts of a type that is not Biject's own (a plugin's)."""
    found: dict[str, Shape] = {}
    for prefix, parts in _parts(config):
        found |= {f"{prefix}.{name}": shape for name, shape in parts}
    return found


def _parts(config: ModelConfig) -> Parts:
    sizes, hidden = config.embedding, config.hidden_size
    yield "embed", _tables(config)
    yield "embed_norm", norm(sizes.norm, hidden if sizes.projection == "before-norm" else sizes.size)
    if sizes.projection != "none":
        yield "embed_proj", linear(sizes.size, hidden, bias=sizes.projection_bias)
    if config.relative_table is not None:
        yield "relative.table", iter([("weight", (2 * config.relative_table.span, hidden))])
        yield "relative.norm", norm(config.relative_table.norm, hidden)
    for index, layer in enumerate(config.layers):
        for name, parts in _layer(layer):
            yield f"layers.{index}.{name}", parts
    yield "final_norm", norm(config.final_norm, hidden)
    for name, parts in config.head.parts(hidden, config.vocab_size):
        yield f"head.{name}", parts


def _tables(config: ModelConfig) -> Shapes:
    sizes = config.embedding
    if sizes.patches is not None:
        yield from _patches(sizes.patches, sizes.size)
        return
    yield "tokens.weight", (config.vocab_size, sizes.size)
    if "positions" in sizes.order:
        yield "positions.weight", (sizes.max_position_embeddings, sizes.size)
    if "segments" in sizes.order:
        yield "segments.weight", (sizes.type_vocab_size, sizes.size)


def _patches(config: PatchConfig, width: int) -> Shapes:
    yield "patches.weight", (width, config.num_channels, *config.patch_size)
    yield "patches.bias", (width,)
    yield "positions", (1, config.num_positions, width)
    for name in config.tokens:
        yield f"{name}_token", (1, 1, width)
    if config.registers:
        yield "register_tokens", (1, config.registers, width)


def _layer(config: LayerConfig) -> Parts:
    yield "attn_norm", norm(config.attn_norm, config.hidden_size)
    yield "mlp_norm", norm(config.mlp_norm, config.hidden_size)
    yield "attn_out_norm", norm(config.attn_out_norm, config.hidden_size)
    yield "mlp_out_norm", norm(config.mlp_out_norm, config.hidden_size)
    if config.scale:
        yield "attn_scale", iter([("weight", (config.hidden_size,))])
        yield "mlp_scale", iter([("weight", (config.hidden_size,))])
    if type(config.attention) is AttentionConfig:
        for name, parts in _attention(config.attention):
            yield f"attn.{name}", parts
    if type(config.mlp) is MLPConfig:
        for name, parts in _mlp(config.mlp):
            yield f"mlp.{name}", parts
    if type(config.mlp) is ExpertsConfig:
        for name, parts in _experts(config.mlp):
            yield f"mlp.{name}", parts
    if config.conv is not None:
        yield "conv.conv", _convolution(config.conv, config.hidden_size)
        yield "conv.norm", norm(config.conv.norm, config.hidden_size)


def _attention(config: AttentionConfig) -> Parts:
    spec, width = config.spec, config.hidden_size
    wide, narrow = spec.num_heads * spec.head_dim, spec.num_key_value_heads * spec.head_dim
    projections = {"q_proj": wide, "k_proj": narrow, "v_proj": narrow}
    for name, outputs in {"qkv_proj": wide + 2 * narrow}.items() if config.fused else projections.items():
        yield name, linear(width, outputs, bias=config.qkv_bias, transposed=config.transposed)
    yield "o_proj", linear(wide, width, bias=config.out_bias, transposed=config.transposed)
    if config.qk_norm is not None:
        each = config.qk_norm_over == "head"
        yield "q_norm", norm(config.qk_norm, spec.head_dim if each else wide)
        yield "k_norm", norm(config.qk_norm, spec.head_dim if each else narrow)
    relative = config.relative
    if relative is not None and relative.enabled and not relative.share_keys:
        if relative.content_to_position:
            yield "relative.k_proj", linear(width, width)
        if relative.position_to_content:
            yield "relative.q_proj", linear(width, width)


def _mlp(config: MLPConfig) -> Parts:
    width, inner = config.hidden_size, config.intermediate_size
    stacked = config.gate in ("fused", "stacked")
    ways = {"gate_up_proj": 2 * inner} if stacked else {"up_proj": inner}
    ways |= {"gate_proj": inner} if config.gate == "separate" else {}
    for name, outputs in ways.items():
        yield name, linear(width, outputs, bias=config.bias, transposed=config.transposed)
    yield "down_proj", linear(inner, width, bias=config.bias, transposed=config.transposed)


def _experts(config: ExpertsConfig) -> Parts:
    width, inner, count = config.hidden_size, config.intermediate_size, config.num_experts
    yield "router", linear(width, count, bias=False)
    if config.stacked:
        shapes = {"gate_up_proj": (count, 2 * inner, width), "down_proj": (count, width, inner)}
        yield "experts", iter(shapes.items())
        return
    for index in range(count):
        for name, inputs, outputs in (
            ("gate_proj", width, inner),
            ("up_proj", width, inner),
            ("down_proj", inner, width),
        ):
            yield f"experts.{index}.{name}", linear(inputs, outputs, bias=False)


def _convolution(config: ConvConfig, width: int) -> Shapes:
    yield "weight", (width, width // config.groups, config.kernel_size)
    yield "bias", (width,)
