"""What a config claims, held against the tensors beside it before anything of that size is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from biject.checkpoint.source import Source
from biject.errors import ConfigError, shown

FREE_LAYERS = 64
FREE_ROWS = 2**16
"""So many labels, rows or columns cost next to nothing, whatever the file holds."""
FREE_POSITIONS = 2**13
"""Positions are squared by some of transformers' classes (a causal mask for GPT-2)."""
MOST_POSITIONS = 2**24
"""Without a table of positions: 134 MB of indexes at most."""
MOST_CHUNK = 2**16

_LAYERS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers", "num_hidden_groups", "inner_group_num")
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_relative_positions", "position_buckets")
_SIZES = (
    *("vocab_size", "type_vocab_size", "num_labels", "_num_labels"),
    *("hidden_size", "dim", "n_embd", "embedding_size", "head_dim"),
    *("intermediate_size", "hidden_dim", "n_inner", "pooler_hidden_size", "conv_kernel_size"),
    *("num_attention_heads", "num_key_value_heads", "n_heads", "n_head"),
)
_MAPS = ("id2label", "label2id")
_TABLES = ("position_embeddings.weight", "wpe.weight", "pos_embed.weight")


def check_claims(source: Source) -> None:
    """Refuse a config whose layers, rows, labels, positions or chunks the file cannot hold.

    Read by transformers' own keys, since it is transformers that builds by them; a key of no meaning for the
    family is checked as well, since its config class may allocate by it.

    Raises:
        ConfigError: The first that claims too much.
    """
    for key, claimed, limit, reason in _claims(source):
        if claimed > limit:
            raise ConfigError(
                f"{source.folder}: config.json: `{key}` is {shown(claimed)}, but {reason}. They are not of "
                "one model: fetch both again."
            )


def _claims(source: Source) -> Iterator[tuple[str, int, int, str]]:
    """Key, what it claims, the most that the file allows, and what the file has."""
    config, shapes = source.config, [info.shape for info in source.tensors.values()]
    widest = max((size for shape in shapes for size in shape), default=0)
    count = len(shapes)
    for key in _LAYERS:
        yield key, _number(config, key), max(count, FREE_LAYERS), f"the file has only {count} tensors"
    for key in _SIZES:
        reason = f"no tensor of the file has more than {widest} rows or columns"
        yield key, _number(config, key), max(widest, FREE_ROWS), reason
    for key in _MAPS:
        value = config.get(key)
        labels = len(value) if isinstance(value, Mapping) else 0
        yield key, labels, max(widest, FREE_ROWS), f"no tensor of the file has more than {widest} rows"
    rows = max(
        (i.shape[0] for n, i in source.tensors.items() if n.endswith(_TABLES) and i.shape), default=None
    )
    most = MOST_POSITIONS if rows is None else max(rows, FREE_POSITIONS)
    held = f"at most {most} are computed" if rows is None else f"the file has a table of {rows} positions"
    for key in _POSITIONS:
        yield key, _number(config, key), most, held
    key = "chunk_size_feed_forward"
    yield key, _number(config, key), MOST_CHUNK, f"chunks of at most {MOST_CHUNK} tokens are computed"


def _number(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if isinstance(value, float) and value == value and abs(value) != float("inf"):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
