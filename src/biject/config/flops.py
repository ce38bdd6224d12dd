"""Floating-point operations of a model by its config and the lengths of a batch's texts; no torch.

What is counted is what `torch.utils.flop_counter` counts: products, two operations for each multiplication,
and nothing that is done element by element. Causal masks and windows leave out nothing, as there. Packed
batches are counted with those rows of a table of relative positions that they look at, as CPUs compute them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from biject.config.heads import Rows
from biject.config.layers import AttentionConfig, ExpertsConfig, LayerConfig, MLPConfig
from biject.config.model import ModelConfig

FIRST_QUERIES = 16
"""Queries of a text in the last layer where the head reads its first row alone."""


@dataclass(frozen=True, kw_only=True)
class TextBatch:
    """The sizes of a batch.

    Attributes:
        lengths: Tokens of each text.
        labelled: Rows with a label; heads over a vocabulary compute only these. None: every row is read.
        loss: Labels are given: a question answerer's loss reads padding, too, so that all of it is computed.
        packed: Padding is left out, as far as the head allows; False for HF's grid.
        multiple: Attention fills texts up to a multiple of so many columns; 1 counts real tokens alone.
    """

    lengths: Sequence[int]
    labelled: int | None = None
    loss: bool = True
    packed: bool = True
    multiple: int = 16

    @property
    def columns(self) -> int:
        """Of the grid."""
        return max(self.lengths)

    @property
    def cells(self) -> int:
        """Of the grid."""
        return len(self.lengths) * self.columns


class Product(NamedTuple):
    """Rows times a matrix of parameters."""

    name: str
    """The module's, e.g. `layers.0.attn.q_proj`."""
    rows: int
    inputs: int
    outputs: int
    of_data: bool = False
    """Its rows are the data's, which get no gradient."""

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.rows * self.inputs * self.outputs


class Pairs(NamedTuple):
    """A product of activations with activations: scores, or weights times values."""

    name: str
    flops: int


def forward_flops(config: ModelConfig, batch: TextBatch) -> int:
    """Of one forward pass; parts of a type that is not Biject's own (a plugin's) count nothing."""
    return sum(step.flops for step in operations(config, batch))


def training_flops(
    config: ModelConfig,
    batch: TextBatch,
    *,
    trained: Callable[[str], bool] = lambda name: True,
    rank: Callable[[str], int] = lambda name: 0,
    recomputed: bool = False,
) -> int:
    """Of one forward and backward pass.

    Args:
        config: The model.
        batch: Its sizes.
        trained: Whether a module's matrix gets a gradient; that is one product more.
        rank: Of the adapter beside a module; 0 for none. Its two matrices are trained.
        recomputed: The layers' forward pass runs twice (gradient checkpointing).
    """
    total = 0
    for step in operations(config, batch):
        again = 1 if recomputed and step.name.startswith("layers.") else 0
        if isinstance(step, Pairs):
            total += step.flops * (3 + again)  # gradients of both factors
            continue
        total += step.flops * (1 + (not step.of_data) + again + bool(trained(step.name)))
        total += 2 * step.rows * rank(step.name) * (step.inputs + step.outputs) * (3 + again)
    return total


def operations(config: ModelConfig, batch: TextBatch) -> Iterator[Product | Pairs]:
    """Every product of a forward pass, in its order."""
    packed = batch.packed and not whole_grid(config, batch)
    rows = sum(batch.lengths) if packed else batch.cells
    sizes = config.embedding
    if sizes.patches is not None:
        (height, width), channels = sizes.patches.patch_size, sizes.patches.num_channels
        patches = rows - len(batch.lengths) * sizes.patches.before_patches
        yield Product("embed.patches", patches, channels * height * width, sizes.size, of_data=True)
    if sizes.projection != "none":
        yield Product("embed_proj", rows, sizes.size, config.hidden_size)
    final = len(config.layer_order) - 1
    narrow = packed and not config.output_router_logits
    last = rows_of(config.head.reads, batch, packed=packed) if narrow else rows
    for step, index in enumerate(config.layer_order):
        layer = config.layers[index]
        needed = last if step == final and layer.conv is None else rows
        first = packed and step == final and needed < rows and config.head.reads == "first"
        yield from _layer(f"layers.{index}", layer, config, batch, (rows, needed), packed=packed, first=first)
    yield from _head(config, rows_of(config.head.computes, batch, packed=packed))


def whole_grid(config: ModelConfig, batch: TextBatch) -> bool:
    """Whether all of HF's rows are computed, padding too."""
    spans = config.head.loss_reads_padding and batch.loss
    chunked = any(layer.mlp_chunk_size for layer in config.layers)
    upcast = any(
        getattr(layer.attention, "spec", None) and layer.attention.spec.upcast for layer in config.layers
    )
    return spans or chunked or upcast


def rows_of(kind: Rows, batch: TextBatch, *, packed: bool) -> int:
    """How many rows a kind is."""
    every = sum(batch.lengths) if packed else batch.cells
    some = every if batch.labelled is None or not packed else min(every, max(1, batch.labelled))
    texts = len(batch.lengths)
    return {"all": every, "first": texts, "texts": texts, "labelled": some, "grid": batch.cells}[kind]


def _layer(
    name: str,
    layer: LayerConfig,
    config: ModelConfig,
    batch: TextBatch,
    rows: tuple[int, int],
    *,
    packed: bool,
    first: bool,
) -> Iterator[Product | Pairs]:
    """`rows`: what goes in, and what is needed of it behind attention."""
    needed = rows[1]
    if type(layer.attention) is AttentionConfig:
        yield from _attention(
            f"{name}.attn", layer.attention, config, batch, rows, packed=packed, first=first
        )
    if type(layer.mlp) is MLPConfig:
        mlp, width, inner = layer.mlp, layer.mlp.hidden_size, layer.mlp.intermediate_size
        if mlp.gate == "fused":
            yield Product(f"{name}.mlp.gate_up_proj", needed, width, 2 * inner)
        else:
            if mlp.gate == "separate":
                yield Product(f"{name}.mlp.gate_proj", needed, width, inner)
            yield Product(f"{name}.mlp.up_proj", needed, width, inner)
        yield Product(f"{name}.mlp.down_proj", needed, inner, width)
    if type(layer.mlp) is ExpertsConfig:
        yield from _experts(f"{name}.mlp", layer.mlp, needed)
    if layer.conv is not None:
        width = config.hidden_size
        yield Product(
            f"{name}.conv.conv", batch.cells, width // layer.conv.groups * layer.conv.kernel_size, width
        )


def _experts(name: str, mlp: ExpertsConfig, rows: int) -> Iterator[Product]:
    """The router's product, and of the experts' those for the rows that chose each one."""
    width, inner = mlp.hidden_size, mlp.intermediate_size
    chosen = rows * mlp.num_experts_per_tok
    first = f"{name}.experts" if mlp.stacked else f"{name}.experts.0.gate_proj"
    last = f"{name}.experts" if mlp.stacked else f"{name}.experts.0.down_proj"
    yield Product(f"{name}.router", rows, width, mlp.num_experts)
    yield Product(first, chosen, width, 2 * inner)
    yield Product(last, chosen, inner, width)


def _attention(
    name: str,
    attention: AttentionConfig,
    config: ModelConfig,
    batch: TextBatch,
    rows: tuple[int, int],
    *,
    packed: bool,
    first: bool,
) -> Iterator[Product | Pairs]:
    spec, width, (every, needed) = attention.spec, attention.hidden_size, rows
    wide, narrow = spec.num_heads * spec.head_dim, spec.num_key_value_heads * spec.head_dim
    if attention.fused:
        yield Product(f"{name}.qkv_proj", every, width, wide + 2 * narrow)
    else:
        yield Product(f"{name}.q_proj", every, width, wide)
        yield Product(f"{name}.k_proj", every, width, narrow)
        yield Product(f"{name}.v_proj", every, width, narrow)
    columns = attention_columns(batch, packed=packed, first=first)
    yield Pairs(f"{name}.scores", sum(4 * queries * keys for queries, keys in columns) * wide)
    relative, table = attention.relative, config.relative_table
    if relative is not None and table is not None:
        table_rows = relative.rows_seen(batch.columns, batch.columns) if packed else 2 * relative.span
        seen = [relative.rows_seen(*pair) if packed else table_rows for pair in columns]
        terms = {"k_proj": relative.content_to_position, "q_proj": relative.position_to_content}
        for proj, there in terms.items():
            if there:
                own = f"{name}.{proj}" if relative.share_keys else f"{name}.relative.{proj}"
                yield Product(own, table_rows, width, width)
                side = 0 if proj == "k_proj" else 1
                pairs = sum(2 * pair[side] * rows for pair, rows in zip(columns, seen, strict=True))
                yield Pairs(f"{name}.positions", pairs * wide)
    yield Product(f"{name}.o_proj", needed, wide, width)


def attention_columns(batch: TextBatch, *, packed: bool, first: bool = False) -> list[tuple[int, int]]:
    """Queries and keys of each text's attention."""
    if not packed:
        return [(batch.columns, batch.columns)] * len(batch.lengths)
    filled = [min(batch.columns, -(-length // batch.multiple) * batch.multiple) for length in batch.lengths]
    return [(min(keys, FIRST_QUERIES) if first else keys, keys) for keys in filled]


def _head(config: ModelConfig, rows: int) -> Iterator[Product]:
    """A product for each matrix of the head."""
    for part, shapes in config.head.parts(config.hidden_size, config.vocab_size):
        for leaf, shape in shapes:
            if leaf == "weight" and len(shape) == 2:
                yield Product(f"head.{part}", rows, shape[1], shape[0])
