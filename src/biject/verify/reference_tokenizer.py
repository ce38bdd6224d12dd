"""A small real tokenizer for reference checkpoints, so that these have every file that a real one has:
whole words for encoders, bytes and their pairs for decoders.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biject.errors import ConfigError
from biject.families import family
from biject.verify.inputs import limits

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEXT = (
    "the quick brown fox jumps over a lazy dog while we measure how one model becomes the same model again . "
    "nothing is lost , nothing is invented : every tensor keeps its bytes , every number its last bit ! "
    "paris is capital of france and good films make people happy ? yes no maybe never"
)
_BERT_STYLE = {
    "pad": "[PAD]",
    "unk": "[UNK]",
    "cls": "[CLS]",
    "sep": "[SEP]",
    "mask": "[MASK]",
}
_ROBERTA_STYLE = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}


_BYTES = 272
"""The least vocabulary with all bytes, special tokens and some pairs."""
_BYTE_CLASSES = {"gpt2": "GPT2Tokenizer", "qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer"}


def write_tokenizer(folder: Path, config: dict[str, Any]) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json` into `folder`.

    Every special id that the config names (`pad_token_id`, `bos_token_id`, `eos_token_id`) has that id in the
    vocabulary, whose size is at most the config's `vocab_size`.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    if "causal" in family(config["model_type"]).heads and config["vocab_size"] >= _BYTES:
        _write_bytes(folder, config)
        return
    style = _ROBERTA_STYLE if "roberta" in str(config["model_type"]) else _BERT_STYLE
    vocabulary = _vocabulary(config, style)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=style["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    cls, sep = style["cls"], style["sep"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(token, vocabulary[token]) for token in (cls, sep)],
    )
    tokenizer.add_special_tokens(list(style.values()))
    _save(tokenizer, folder, config, style)


def _write_bytes(folder: Path, config: dict[str, Any]) -> None:
    """Byte-level BPE, its merges learned from `TEXT`; no special token is put around a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    style = {"pad": "<|pad|>", "bos": "<|begin|>", "eos": "<|endoftext|>"}
    if config.get("bos_token_id") == config.get("eos_token_id"):
        style["bos"] = style["eos"]
    requested = {style[role]: config.get(f"{role}_token_id") for role in style}
    special = {
        token: i for token, i in requested.items() if isinstance(i, int) and 0 <= i < config["vocab_size"]
    }
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=min(config["vocab_size"] - len(style), 512),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learned.train_from_iterator([TEXT] * 2, trainer)
    parts = json.loads(learned.to_str())["model"]
    free = (index for index in range(int(config["vocab_size"])) if index not in special.values())
    ordered = sorted(parts["vocab"], key=parts["vocab"].__getitem__)
    vocabulary = {**special, **dict(zip(ordered, free, strict=False))}
    missing = (index for index in range(int(config["vocab_size"])) if index not in vocabulary.values())
    vocabulary |= {token: next(missing) for token in style.values() if token not in vocabulary}
    merges = [tuple(pair) for pair in parts["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(dict.fromkeys(style.values())))
    _save(tokenizer, folder, config, style | {"unk": style["eos"]})


def _save(tokenizer: Tokenizer, folder: Path, config: dict[str, Any], style: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {f"{role}_token": token for role, token in style.items()}
    settings = special | {
        "tokenizer_class": _BYTE_CLASSES.get(config["model_type"], "PreTrainedTokenizerFast"),
        "model_max_length": _longest(config),
        "clean_up_tokenization_spaces": False,
    }
    for name, value in (("tokenizer_config.json", settings), ("special_tokens_map.json", special)):
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        (folder / name).write_text(text, encoding="utf-8")


def _longest(config: dict[str, Any]) -> int:
    """The longest row that the model takes; of a config that we refuse, what it says."""
    try:
        return limits(config).max_length
    except ConfigError:
        return int(config["max_position_embeddings"])


def _vocabulary(config: dict[str, Any], style: dict[str, str]) -> dict[str, int]:
    """Token -> id: special tokens where the config has them, words in the ids that are left."""
    requested = {
        "pad": config.get("pad_token_id"),
        "cls": config.get("bos_token_id"),
        "sep": config.get("eos_token_id"),
    }
    ids: dict[str, int] = {}
    for role, index in requested.items():
        if isinstance(index, int) and 0 <= index < int(config["vocab_size"]) and index not in ids.values():
            ids[style[role]] = index
    free = (index for index in range(int(config["vocab_size"])) if index not in ids.values())
    words = dict.fromkeys([*style.values(), *TEXT.split()])
    return ids | dict(zip((word for word in words if word not in ids), free, strict=False))
