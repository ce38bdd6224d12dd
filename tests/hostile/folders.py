"""Folders to spoil: small good ones, and the pieces that bad ones are made of."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from biject.families import family

CONFIG = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "vocab_size": 12,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "id2label": {"0": "no", "1": "yes"},
    "label2id": {"no": 0, "yes": 1},
    "pad_token_id": 0,
}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "quick", "brown", "fox", "##s", ",", "."]


def tensors(config: Mapping[str, Any] = CONFIG, head: str = "seqcls") -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of a config's model with a head, random, under the names on disk."""
    from biject.nn.transformer import Transformer

    own = family(config["model_type"])
    values = own.config.read(config)
    if own.resolve is not None:
        values = dict(own.resolve(values, frozenset(), head, None))
    model = Transformer(own.build(values, head))
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    generator = np.random.default_rng(0)
    return {
        f"{own.prefix}.{spec.disk}" if spec.base else spec.disk: generator.normal(
            size=shapes[spec.memory]
        ).astype(np.float32)
        for spec in own.heads[head].specs(values)
        if spec.memory in shapes
    }


def config_of(model_type: str, head: str) -> dict[str, Any]:
    """config.json of a family's tiny model with a head."""
    own = family(model_type)
    return {"model_type": model_type, "architectures": [own.heads[head].hf_class], **own.tiny}


def good(folder: Path, *, config: Mapping[str, Any] = CONFIG, head: str = "seqcls", shards: int = 1) -> Path:
    """A model with a WordPiece vocabulary, whole or in shards with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, {}, base=config)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "BertTokenizer", "model_max_length": 16}'
    )
    held = tensors(config, head)
    if shards == 1:
        (folder / "model.safetensors").write_bytes(save(held, metadata={"format": "pt"}))
        return folder
    weight_map = {}
    for i in range(shards):
        part = dict(list(held.items())[i::shards])
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        (folder / file).write_bytes(save(part, metadata={"format": "pt"}))
        weight_map |= dict.fromkeys(part, file)
    write_index(folder, weight_map)
    return folder


def write_config(folder: Path, changes: Mapping[str, Any], *, base: Mapping[str, Any] = CONFIG) -> None:
    """A config with changes; a change to `...` takes the key out."""
    values = {key: value for key, value in {**base, **changes}.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(values, indent=2))


def write_index(folder: Path, weight_map: object, *, name: str = "model.safetensors.index.json") -> None:
    """An index."""
    text = json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}, indent=2)
    (folder / name).write_text(text)


def write_header(folder: Path, header: object, *, data: bytes = b"", length: int | None = None) -> None:
    """A safetensors file with any header: an object, or text or bytes as they are."""
    text = header if isinstance(header, bytes) else header if isinstance(header, str) else json.dumps(header)
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    size = struct.pack("<Q", len(raw) if length is None else length)
    (folder / "model.safetensors").write_bytes(size + raw + data)


def entry(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    """One tensor's entry in a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}
