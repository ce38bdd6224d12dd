"""Faults in what lies beside the weights of a copy, and in the weight files as files."""

from __future__ import annotations

import json
from collections.abc import Mapping

from biject.checkpoint.header import LENGTH_BYTES
from biject.families import ALL_HEADS
from biject.tokenization.files import SERIALIZED, VOCABULARIES
from biject.verify.faults.copy import Copy
from biject.verify.faults.outcome import DoesNotApply
from biject.weights.plan import find_spelling


def eps_times_ten(copy: Copy) -> str:
    """The norms' epsilon is ten times what it was."""
    config, key = copy.config(), copy.key("norm_eps")
    old = config.get(key, copy.values["norm_eps"])
    copy.write_config({**config, key: old * 10 or 1e-5})
    return f"{key}, {old} -> {old * 10 or 1e-5}"


def other_activation(copy: Copy) -> str:
    """Another activation is named."""
    config, key = copy.config(), copy.key("hidden_act")
    old = config.get(key, copy.values["hidden_act"])
    new = "silu" if old == "relu" else "relu"
    copy.write_config({**config, key: new})
    return f"{key}, {old} -> {new}"


def lose_key(copy: Copy) -> str:
    """A size is no longer in config.json, which makes it HF's default."""
    config = copy.config()
    for field in ("num_attention_heads", "intermediate_size", "vocab_size"):
        key = copy.key(field)
        if key in config:
            copy.write_config({name: value for name, value in config.items() if name != key})
            return key
    raise DoesNotApply("config.json names no sizes")


def lose_labels(copy: Copy) -> str:
    """The names of the labels are gone."""
    config = copy.config()
    if not config.get("id2label"):
        raise DoesNotApply("config.json has no label map")
    copy.write_config({k: v for k, v in config.items() if k not in ("id2label", "label2id")})
    return "id2label, label2id"


def permute_labels(copy: Copy) -> str:
    """Each label gets the next one's name."""
    config = copy.config()
    mapping = config.get("id2label")
    if not isinstance(mapping, Mapping) or len(set(mapping.values())) < 2:
        raise DoesNotApply("config.json has no two labels to permute")
    names = list(mapping.values())
    rolled = dict(zip(mapping, [*names[1:], names[0]], strict=True))
    copy.write_config({**config, "id2label": rolled, "label2id": {v: int(k) for k, v in rolled.items()}})
    return "id2label, label2id"


def wrong_class(copy: Copy) -> str:
    """Another class of the family is named, whose head the file does not have."""
    has = set(copy.source.tensors)
    for name in reversed(ALL_HEADS):
        head = copy.family.heads.get(name)
        if head is None or name == copy.head:
            continue
        specs = head.specs(copy.values)
        spelling = find_spelling(specs, has, copy.family.prefix_of(name), *copy.family.prefixes)
        own = [spec for spec in specs if not spec.base and not spec.tied_to]
        if own and not all(spelling.name(spec) in has or spec.alias in has for spec in own):
            copy.write_config({**copy.config(), "architectures": [head.hf_class]})
            return head.hf_class
    raise DoesNotApply("the file has tensors of every head")


def unknown_class(copy: Copy) -> str:
    """A class is named that no library has."""
    name = f"{copy.family.heads['base'].hf_class.removesuffix('Model')}ForNothing"
    copy.write_config({**copy.config(), "architectures": [name]})
    return name


def lie_about_dtype(copy: Copy) -> str:
    """config.json names a dtype that no tensor has."""
    present = {info.dtype for info in copy.source.tensors.values()}
    name = "float16" if "F16" not in present else "float64"
    config = {key: value for key, value in copy.config().items() if key != "torch_dtype"}
    copy.write_config({**config, "dtype": name})
    return f"dtype = {name}"


def break_config(copy: Copy) -> str:
    """config.json is cut in two."""
    data = copy.source.config_bytes
    copy.write("config.json", data[: len(data) // 2])
    return "config.json"


def _vocabularies(copy: Copy) -> list[str]:
    found = [name for name in (SERIALIZED, *VOCABULARIES) if name in copy.source.assets]
    if not found:
        raise DoesNotApply("the export has no tokenizer")
    return found


def lose_tokenizer(copy: Copy) -> str:
    """The vocabulary files are gone."""
    merges = ["merges.txt"] if "merges.txt" in copy.source.assets else []
    gone = _vocabularies(copy) + merges
    for name in gone:
        copy.delete(name)
    return ", ".join(gone)


def change_tokenizer(copy: Copy) -> str:
    """Two tokens of the vocabulary change places."""
    name = _vocabularies(copy)[0]
    if not name.endswith(".json"):
        copy.write(name, copy.read(name)[::-1])
        return name
    value = json.loads(copy.read(name))
    vocab = value["model"]["vocab"] if name == SERIALIZED else value
    one, other = (-1, -2) if isinstance(vocab, list) else list(vocab)[-2:]
    vocab[one], vocab[other] = vocab[other], vocab[one]
    copy.write(name, json.dumps(value, ensure_ascii=False).encode())
    return name


def enlarge_tokenizer(copy: Copy) -> str:
    """The tokenizer gets a token for which the embedding has no row."""
    _vocabularies(copy)
    rows = copy.source.tensors[copy.disk("embed.tokens.weight")].shape[0]
    if SERIALIZED in copy.source.assets:
        value = json.loads(copy.read(SERIALIZED))
        token = {"id": rows, "content": "<beyond>", "special": True}
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        value["added_tokens"] = [*(value.get("added_tokens") or []), token | flags]
        copy.write(SERIALIZED, json.dumps(value, ensure_ascii=False).encode())
        return f"{SERIALIZED}, id {rows}"
    copy.write("added_tokens.json", json.dumps({"<beyond>": rows}).encode())
    return f"added_tokens.json, id {rows}"


def lose_shard(copy: Copy) -> str:
    """One of several weight files is gone."""
    shards = copy.reshard()
    copy.delete(shards[-1])
    return shards[-1]


def ghost_entry(copy: Copy) -> str:
    """The index names a tensor that no file has."""
    shards = copy.reshard()
    name = "model.safetensors.index.json"
    index = json.loads(copy.read(name))
    index["weight_map"]["ghost.weight"] = shards[0]
    copy.write(name, json.dumps(index).encode())
    return "ghost.weight"


def truncate(copy: Copy) -> str:
    """The last bytes of a weight file are missing."""
    name = copy.source.weight_files[-1]
    data = copy.read(name)
    copy.write(name, data[: len(data) - max(1, len(data) // 100)])
    return name


def lie_in_header(copy: Copy) -> str:
    """The header gives a tensor one row more than it has bytes for."""
    if copy.source.format != "safetensors":
        raise DoesNotApply("a .bin file has no header")
    name = copy.source.weight_files[0]
    data = copy.read(name)
    end = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little")
    header = json.loads(data[LENGTH_BYTES:end])
    tensor: str = next(key for key, entry in header.items() if key != "__metadata__" and entry["shape"])
    header[tensor]["shape"][0] += 1
    text = json.dumps(header).encode()
    copy.write(name, len(text).to_bytes(LENGTH_BYTES, "little") + text + data[end:])
    return tensor
