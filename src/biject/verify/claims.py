"""What a config claims, held against the tensors beside it before anything of that size is built."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from biject.checkpoint.source import Source
from biject.config.limits import check_sizes
from biject.errors import ConfigError, shown
from biject.families import family

FREE_LAYERS = 64
FREE_ROWS = 2**16
"""So many labels, rows or columns cost next to nothing, whatever the file holds."""
FREE_POSITIONS = 2**13
"""Positions are squared by some of transformers' classes (a causal mask for GPT-2)."""
MOST_POSITIONS = 2**24
"""Without a table of positions: 134 MB of indexes at most."""
MOST_CHUNK = 2**16
FREE_ELEMENTS = 2**24
"""Of one matrix: 64 MiB in float32."""
FREE_PATCHES = 2**12
"""Squared by attention: 64 MiB a head in float32."""

_LAYERS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers", "num_hidden_groups", "inner_group_num")
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_relative_positions", "position_buckets")
_SIZES = (
    *("vocab_size", "type_vocab_size", "num_labels", "_num_labels"),
    *("hidden_size", "dim", "n_embd", "embedding_size", "head_dim"),
    *("intermediate_size", "hidden_dim", "n_inner", "pooler_hidden_size", "conv_kernel_size"),
    *("num_attention_heads", "num_key_value_heads", "n_heads", "n_head"),
    *("moe_intermediate_size", "num_register_tokens", "num_channels", "attention_head_size"),
)
_HIDDEN = ("hidden_size", "dim", "n_embd")
_EXPERTS = ("num_experts", "num_local_experts")
_MATRICES = (
    (_HIDDEN, _HIDDEN),
    (_HIDDEN, ("intermediate_size", "hidden_dim", "n_inner")),
    (_HIDDEN, _HIDDEN, ("mlp_ratio",)),
    (_HIDDEN, _HIDDEN, ("conv_kernel_size",)),
    (_HIDDEN, _EXPERTS),
    (_HIDDEN, _EXPERTS, ("moe_intermediate_size",)),
    (_HIDDEN, ("num_channels",), ("patch_size",), ("patch_size",)),
)
"""Keys whose product is as many elements as one layer's matrices have; an absent one counts as 1."""
_MAPS = ("id2label", "label2id")
_TABLES = ("position_embeddings.weight", "wpe.weight", "pos_embed.weight")


def check_claims(source: Source) -> None:
    """Refuse a config whose layers, rows, labels, positions, patches or chunks the file cannot hold.

    Read by transformers' own keys, since it is transformers that builds by them; a key of no meaning for the
    family is checked as well, since its config class may allocate by it.

    Raises:
        ConfigError: The first that claims too much.
    """
    _check_sizes(source)
    for key, claimed, limit, reason in (*_claims(source), *_volumes(source)):
        if claimed > limit:
            raise ConfigError(
                f"{source.folder}: config.json: `{key}` is {shown(claimed)}, but {reason}. They are not of "
                "one model: fetch both again."
            )


def _check_sizes(source: Source) -> None:
    """The sizes that `load` refuses, too; a config that cannot be read at all is for others to refuse."""
    try:
        known = family(source.config.get("model_type"))
        values = known.config.read(source.config)
        layers, steps = known.depth(values)
    except ConfigError:
        return
    count, elements = len(source.tensors), _elements(source)
    try:
        check_sizes(values, layers=layers, steps=steps, num_tensors=count, num_elements=elements)
    except ConfigError as error:
        raise ConfigError(f"{source.folder}: {error}") from None


def _elements(source: Source) -> int:
    """Of all tensors; where weights are kept in few bits, up to two are in a byte."""
    count = sum(math.prod(info.shape) for info in source.tensors.values())
    return 2 * count if source.config.get("quantization_config") else count


def _volumes(source: Source) -> Iterator[tuple[str, int, int, str]]:
    """The same of matrices, by the product of what they are made by, and of a picture's patches."""
    elements = _elements(source)
    reason = f"all tensors of the file together have only {elements} elements"
    for keys in _MATRICES:
        sizes = [max(_number(source.config, name) for name in names) for names in keys]
        product = " × ".join(names[0] for names in keys)
        yield product, math.prod(max(size, 1) for size in sizes), max(elements, FREE_ELEMENTS), reason
    named = {n: i.shape for n, i in source.tensors.items() if math.prod(i.shape) and len(i.shape) > 1}
    most = max(
        [FREE_PATCHES, *(shape[-2] for n, shape in named.items() if n.endswith("position_embeddings"))]
    )
    patch = max(_number(source.config, "patch_size"), 1)
    patches = (_number(source.config, "image_size") // patch) ** 2
    yield "(image_size / patch_size)²", patches, most, f"at most {most} patches have a place in the file"


def _claims(source: Source) -> Iterator[tuple[str, int, int, str]]:
    """Key, what it claims, the most that the file allows, and what the file has."""
    config, every = source.config, [info.shape for info in source.tensors.values()]
    shapes = [shape for shape in every if math.prod(shape)]  # one of no elements may have any size
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
    """A size; the larger one of a pair, as of a picture's sides; 0 for what is none."""
    value = config.get(key)
    if isinstance(value, list):
        return max((_number({key: one}, key) for one in value if not isinstance(one, list)), default=0)
    if isinstance(value, float) and value == value and abs(value) != float("inf"):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
