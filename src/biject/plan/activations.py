"""What a forward pass keeps for the backward pass, in bytes, by config and sizes. No torch.

The modules of `nn/` decide it, and autograd's rules: a product keeps its input where its matrix is trained,
an activation its input, a norm its input, dropout its noise. A test counts what autograd really keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from biject.config.flops import Product, TextBatch, attention_columns, operations, rows_of, whole_grid
from biject.config.layers import AttentionConfig, ExpertsConfig, LayerConfig, MLPConfig, NormConfig
from biject.config.model import ModelConfig

LOGITS_BUDGET = 2**25
"""Logits over a vocabulary that are in memory at a time (`nn/vocab_loss.py`)."""

_KEPT = {
    "gelu_new": 4,
    "gelu_fast": 5,
    "gelu_accurate": 4,
    "gelu_python": 3,
    "gelu_python_tanh": 4,
    "quick_gelu": 3,
}
"""Values that an activation keeps for each of its inputs, where they are not one."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """How a step is computed.

    Attributes:
        trained: Whether a module's matrix is trained.
        rank: Of the adapter beside a module, 0 for none.
        adapter_dropout: Adapters have dropout.
        half: Products are computed in half precision (autocast); weights are cast for it.
        fused: Attention never writes its weights out, dropout or not: on GPUs.
        recomputed: Layers keep their input alone (gradient checkpointing).
        own_draws: Dropout draws sixteen bits a number (`nn/draws.py`): of packed batches on the CPU.
    """

    trained: Callable[[str], bool] = lambda name: True
    rank: Callable[[str], int] = lambda name: 0
    adapter_dropout: bool = False
    half: bool = False
    fused: bool = False
    recomputed: bool = False
    own_draws: bool = False

    @property
    def item(self) -> int:
        """Bytes of a number that a product gives."""
        return 2 if self.half else 4

    @property
    def noise(self) -> int:
        """Bytes of torch's dropout's noise for a number: as wide as it on the CPU, a byte on GPUs."""
        return 1 if self.fused else self.item

    @property
    def drawn(self) -> int:
        """The same of layers' and embeddings' dropout."""
        return 2 if self.own_draws else self.noise

    def inputs(self, names: tuple[str, ...], rows: int, width: int, *, cast: bool) -> int:
        """What the products called `names` keep of their common input.

        `cast`: in half precision each makes a copy of its own, since the input is wider.
        """
        dropped = self.adapter_dropout
        keep = [name for name in names if self.trained(name) or (self.rank(name) and not dropped)]
        copies = len(keep) if cast and self.half else min(1, len(keep))
        total = copies * rows * width * self.item
        for name in names:
            if self.rank(name):
                total += rows * self.rank(name) * self.item
                total += rows * width * (4 + self.noise) if dropped else 0
        return total


def activation_bytes(config: ModelConfig, batch: TextBatch, how: Kept) -> int:
    """Of a whole forward pass."""
    packed = batch.packed and not whole_grid(config, batch)
    rows = sum(batch.lengths) if packed else batch.cells
    how = replace(how, own_draws=packed and not how.fused)
    total, final = _embedding(config, rows, how), len(config.layer_order) - 1
    layers = []
    for step, index in enumerate(config.layer_order):
        last = packed and step == final and config.layers[index].conv is None
        needed = rows_of(config.head.reads, batch, packed=packed) if last else rows
        first = last and config.head.reads == "first"
        columns = attention_columns(batch, packed=packed, first=first)
        layers.append(
            sum(_layer(f"layers.{index}", config.layers[index], config, rows, needed, columns, how))
        )
    if how.recomputed:  # the input of each, and one of them at a time in full
        total += rows * config.hidden_size * 4 * len(layers) + max(layers)
    else:
        total += sum(layers)
    return (
        total
        + _norm(config.final_norm, rows, config.hidden_size, trained=how.trained("final_norm"))
        + _head(config, rows_of(config.head.computes, batch, packed=packed), how)
    )


def cast_bytes(config: ModelConfig, batch: TextBatch) -> int:
    """Of the matrices cast to half precision, which the backward pass needs again."""
    shapes = {
        step.name: step.inputs * step.outputs
        for step in operations(config, batch)
        if isinstance(step, Product)
    }
    return 2 * sum(shapes.values())


def _embedding(config: ModelConfig, rows: int, how: Kept) -> int:
    sizes, hidden = config.embedding, config.hidden_size
    if sizes.patches is not None:
        return _patches(config, rows, how)
    if not how.trained("embed.tokens"):
        return 0
    width = hidden if sizes.projection == "before-norm" else sizes.size
    total = _norm(sizes.norm, rows, width, trained=True)
    total += rows * width * (2 if how.own_draws else 4) if sizes.dropout else 0
    return total + (rows * sizes.size * 4 if sizes.projection != "none" else 0)


def _patches(config: ModelConfig, rows: int, how: Kept) -> int:
    """The pictures, in half precision once more, and dropout's noise; the learned rows are a few more."""
    sizes = config.embedding
    assert sizes.patches is not None
    (height, width), channels = sizes.patches.patch_size, sizes.patches.num_channels
    total = rows * channels * height * width * how.item if how.trained("embed.patches") else 0
    return total + (rows * sizes.size * how.noise if sizes.dropout else 0)


def _norm(config: NormConfig, rows: int, width: int, *, trained: bool) -> int:
    """Its input; of a root-mean-square norm also what its weight multiplies."""
    if config.kind == "none":
        return 0
    return rows * width * 4 * (2 if config.kind == "rms" and trained else 1)


def _layer(
    name: str,
    layer: LayerConfig,
    config: ModelConfig,
    rows: int,
    needed: int,
    columns: list[tuple[int, int]],
    how: Kept,
) -> Iterator[int]:
    width = layer.hidden_size
    pre = layer.placement == "pre"
    yield _norm(layer.attn_norm, rows if pre else needed, width, trained=how.trained(f"{name}.attn_norm"))
    yield _norm(layer.mlp_norm, needed, width, trained=how.trained(f"{name}.mlp_norm"))
    yield _norm(layer.attn_out_norm, needed, width, trained=how.trained(f"{name}.attn_out_norm"))
    yield _norm(layer.mlp_out_norm, needed, width, trained=how.trained(f"{name}.mlp_out_norm"))
    yield needed * width * how.drawn * sum(p > 0 for p in (layer.attn_dropout, layer.mlp_dropout))
    if layer.scale:
        scales = (f"{name}.attn_scale", f"{name}.mlp_scale")
        yield needed * width * how.item * sum(map(how.trained, scales))
    if layer.drop_path:
        yield needed * width * how.item * 2
    if type(layer.attention) is AttentionConfig:
        yield from _attention(f"{name}.attn", layer.attention, config, rows, needed, columns, how)
    if type(layer.mlp) is MLPConfig:
        yield _mlp(f"{name}.mlp", layer.mlp, needed, how)
    if type(layer.mlp) is ExpertsConfig:
        yield from _experts(f"{name}.mlp", layer.mlp, needed, how)
    if layer.conv is not None:
        yield rows * width * 4 * 5


def _mlp(name: str, mlp: MLPConfig, rows: int, how: Kept) -> int:
    one = ("gate_up_proj",)
    every = {"none": ("up_proj",), "separate": ("gate_proj", "up_proj"), "fused": one, "stacked": one}
    ways = every[mlp.gate]
    total = how.inputs(tuple(f"{name}.{way}" for way in ways), rows, mlp.hidden_size, cast=True)
    inner = rows * mlp.intermediate_size * how.item
    total += inner * _KEPT.get(mlp.act, 1) + (2 * inner if mlp.gate != "none" else 0)
    total += rows * mlp.intermediate_size * how.noise if mlp.dropout else 0
    return total + how.inputs((f"{name}.down_proj",), rows, mlp.intermediate_size, cast=False)


def _experts(name: str, mlp: ExpertsConfig, rows: int, how: Kept) -> Iterator[int]:
    """Of the router its input and chances, and of each choice weight, sum and numbers; then of every
    expert's rows what an MLP keeps, and its output, which is weighted.
    """
    chosen = rows * mlp.num_experts_per_tok
    first, last = (
        (f"{name}.experts", f"{name}.experts")
        if mlp.stacked
        else (f"{name}.experts.0.gate_proj", f"{name}.experts.0.down_proj")
    )
    yield how.inputs((f"{name}.router",), rows, mlp.hidden_size, cast=True)
    yield rows * (mlp.num_experts + 1) * 4 + chosen * (2 * 4 + 3 * 8)
    yield how.inputs((first,), chosen, mlp.hidden_size, cast=True)
    yield chosen * mlp.intermediate_size * how.item * (_KEPT.get(mlp.act, 1) + 2)
    yield how.inputs((last,), chosen, mlp.intermediate_size, cast=False)
    yield chosen * mlp.hidden_size * how.item


def _attention(
    name: str,
    attention: AttentionConfig,
    config: ModelConfig,
    rows: int,
    needed: int,
    columns: list[tuple[int, int]],
    how: Kept,
) -> Iterator[int]:
    spec, item = attention.spec, how.item
    wide, narrow = spec.num_heads * spec.head_dim, spec.num_key_value_heads * spec.head_dim
    queries, keys = sum(q for q, _ in columns), sum(k for _, k in columns)
    pairs = spec.num_heads * sum(q * k for q, k in columns)
    ways = ("qkv_proj",) if attention.fused else ("q_proj", "k_proj", "v_proj")
    yield how.inputs(tuple(f"{name}.{way}" for way in ways), rows, attention.hidden_size, cast=True)
    if attention.rope is not None:
        yield 2 * (queries + keys) * spec.head_dim * item
    if attention.qk_norm is not None:
        yield (queries * wide + keys * narrow) * 4 * (2 if how.trained(f"{name}.q_norm") else 1)
    if attention.relative is not None:
        yield from _relative(attention, config, columns, how)
    written = attention.relative is not None or spec.by_steps
    own = how.own_draws and not written and spec.dropout > 0
    if own and spec.num_heads == spec.num_key_value_heads:  # weights in float32 and their bits
        yield (queries + 2 * keys) * wide * item + pairs * (4 + 2)
        yield how.inputs((f"{name}.o_proj",), needed, wide, cast=False)
        return
    if not written and spec.dropout > 0 and not how.fused:  # torch's unfused kernel, which casts to float32
        written, item = True, 4
    yield (queries + 2 * keys) * wide * item
    if written:
        noise = 1 if how.fused else item
        softmax = 4 if spec.written_out and spec.softmax == "float32" else item
        yield pairs * (softmax + (item + noise if spec.dropout > 0 else item if softmax != item else 0))
        yield pairs * item if spec.softcap is not None else 0
    else:
        yield queries * wide * item + queries * spec.num_heads * 4
    yield how.inputs((f"{name}.o_proj",), needed, wide, cast=False)


def _relative(
    attention: AttentionConfig, config: ModelConfig, columns: list[tuple[int, int]], how: Kept
) -> Iterator[int]:
    """Scores with positions: the table's heads once a text, keys scaled, the table itself."""
    relative, width = attention.relative, attention.hidden_size
    assert relative is not None
    yield sum(keys for _, keys in columns) * width * how.item
    if config.relative_table is not None:
        terms, packed = relative.content_to_position + relative.position_to_content, how.own_draws
        seen = sum(relative.rows_seen(*pair) if packed else 2 * relative.span for pair in columns)
        yield terms * seen * width * how.item
        yield 2 * 2 * relative.span * width * 4


def _head(config: ModelConfig, rows: int, how: Kept) -> int:
    total = 0
    for _, shapes in config.head.parts(config.hidden_size, config.vocab_size):
        for leaf, shape in shapes:
            if leaf == "weight" and len(shape) == 2:
                total += rows * shape[1] * how.item * 2
    if config.head.reads == "labelled":
        capped = getattr(config.head, "softcap", None) is not None
        total += min(rows * config.vocab_size, LOGITS_BUDGET) * (4 + (how.item if capped else 0))
    return total
