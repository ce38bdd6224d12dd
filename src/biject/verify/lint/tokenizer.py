"""Rules about the tokenizer's files: there at all, of the family's kind, and no larger than the embedding."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from biject.checkpoint.strict_json import parse_object, read_small_file
from biject.errors import BijectError
from biject.tokenization.files import SERIALIZED, VOCABULARIES
from biject.verify.lint.facts import Facts, error, warning
from biject.verify.report import Finding

_WORDPIECE, _BPE = ("vocab.txt",), ("vocab.json", "merges.txt")
_NO_LENGTH = 10**9
PREPROCESSOR = "preprocessor_config.json"
# Vocabulary files that transformers 5.23 reads for a family whose folder has no tokenizer.json.
_READ_BY = {
    "bert": _WORDPIECE,
    "electra": _WORDPIECE,
    "distilbert": _WORDPIECE,
    "roberta": _BPE,
    "xlm-roberta": ("sentencepiece.bpe.model",),
    "camembert": ("sentencepiece.bpe.model",),
    "albert": ("spiece.model",),
    "deberta-v2": ("spm.model",),
}


def tokenizer(facts: Facts) -> list[Finding]:
    """A missing tokenizer, one that the family's class does not read, one that is too large or unreadable."""
    if facts.identity is not None and facts.identity.family.reads_pictures:
        return _preprocessor(facts)
    present = [name for name in (SERIALIZED, *VOCABULARIES) if name in facts.source.assets]
    if not present:
        advice = f"copy the tokenizer's files ({SERIALIZED} …) from the checkpoint that was fine-tuned"
        meaning = "no vocabulary file is there, so text cannot be turned into this model's ids"
        return [error("no-tokenizer", facts.source.folder.name, meaning, advice)]
    found = _wrong_kind(facts, present)
    try:
        highest = {name: _highest_id(facts.source.folder / name) for name in present}
        highest["added_tokens.json"] = _highest_added(facts)
    except BijectError as problem:
        advice = "fetch the file again, or save the tokenizer again"
        return [*found, error("tokenizer-unreadable", present, str(problem).rstrip("."), advice)]
    return found + _too_large(facts, highest) + _too_long(facts) + _pad_differs(facts)


def _preprocessor(facts: Facts) -> list[Finding]:
    """Of a model of pictures: the file that says how they become its input."""
    if PREPROCESSOR in facts.source.assets:
        return []
    advice = f"copy {PREPROCESSOR} from the checkpoint that was fine-tuned"
    meaning = f"no {PREPROCESSOR} is there, so nothing says how pictures are resized and scaled"
    return [error("no-image-processor", facts.source.folder.name, meaning, advice)]


def _wrong_kind(facts: Facts, present: list[str]) -> list[Finding]:
    """Only vocabulary files that HF's tokenizer class of this family does not look for."""
    model_type = str(facts.config.get("model_type"))
    expected = _READ_BY.get(model_type)
    if expected is None or SERIALIZED in present or set(expected) & set(present):
        return []
    if facts.config.get("tokenizer_class") or tokenizer_settings(facts).get("tokenizer_class"):
        return []  # another class is named, and reads what is there
    meaning = (
        f"transformers looks for {' and '.join(expected)} beside a `{model_type}`; not finding it, it builds "
        "a tokenizer of a few special tokens without an error"
    )
    advice = f"add {SERIALIZED}, or name the right `tokenizer_class` in tokenizer_config.json"
    return [error("tokenizer-not-found", present, meaning, advice)]


def _too_large(facts: Facts, highest: dict[str, int | None]) -> list[Finding]:
    table = facts.disk("embed.tokens.weight")
    shape = facts.source.tensors[table].shape if table else ()
    rows = shape[0] if shape else facts.config.get("vocab_size")
    over = {
        name: top
        for name, top in highest.items()
        if top is not None and isinstance(rows, int) and top >= rows
    }
    if not over:
        return []
    meaning = f"the tokenizer gives ids up to {max(over.values())}, the embedding has {rows} rows"
    advice = (
        "resize the embedding and train the new rows, or copy the tokenizer that the model was trained with"
    )
    return [error("tokenizer-too-large", over, meaning, advice)]


def _pad_differs(facts: Facts) -> list[Finding]:
    """The tokenizer's padding token against the config's id, by which RoBERTa counts positions."""
    pad, own = facts.config.get("pad_token_id"), token_id(facts, "pad_token")
    if not isinstance(pad, int) or own is None or own == pad:
        return []
    meaning = f"the tokenizer's padding has id {own}, `pad_token_id` is {pad}"
    return [warning("pad-id-differs", "config.json: pad_token_id", meaning, "write the tokenizer's id")]


def token_id(facts: Facts, role: str) -> int | None:
    """The id in tokenizer.json of the token with a role, e.g. `eos_token`; None where that is not known."""
    token = tokenizer_settings(facts).get(role)
    token = token.get("content") if isinstance(token, dict) else token
    if not isinstance(token, str) or SERIALIZED not in facts.source.assets:
        return None
    try:
        return dict(_serialized(facts.source.folder / SERIALIZED)).get(token)
    except BijectError:
        return None


def _too_long(facts: Facts) -> list[Finding]:
    """`model_max_length` beyond the table of positions; a number too large to be meant stands for none."""
    longest, table = tokenizer_settings(facts).get("model_max_length"), facts.disk("embed.positions.weight")
    if isinstance(longest, bool) or not isinstance(longest, int | float) or longest > _NO_LENGTH:
        return []
    if table is None or not facts.source.tensors[table].shape:
        return []
    assert facts.identity is not None
    embedding = facts.identity.config.embedding
    first = (
        max(facts.identity.config.pad_token_id or 0, 0) + 1 if embedding.position_rule == "after-pad" else 0
    )
    usable = facts.source.tensors[table].shape[0] - first
    if longest <= usable:
        return []
    meaning = f"the tokenizer cuts texts at {longest} tokens, the model has positions for {usable}"
    where = "tokenizer_config.json: model_max_length"
    return [error("tokenizer-too-long", where, meaning, f"set it to {usable}: longer texts fail")]


def tokenizer_settings(facts: Facts) -> dict[str, Any]:
    """tokenizer_config.json; nothing where there is none that can be read."""
    path = facts.source.folder / "tokenizer_config.json"
    try:
        return _object(path) if path.is_file() else {}
    except BijectError:
        return {}


def _object(path: Path) -> dict[str, Any]:
    return parse_object(read_small_file(path, what=path.name), where=path.name)


def _highest_id(path: Path) -> int | None:
    """The largest id that a vocabulary file can give; None where it has none."""
    if path.name == SERIALIZED:
        return _highest(index for _, index in _serialized(path))
    if path.name == "vocab.json":
        return _highest(_object(path).values())
    if path.name == "vocab.txt":
        text = read_small_file(path, what=path.name).decode("utf-8", errors="replace")
        return len(text.split("\n")) - (2 if text.endswith("\n") else 1)
    from biject.tokenization.spm import read_model

    return len(read_model(path).pieces) - 1


def _highest_added(facts: Facts) -> int | None:
    path = facts.source.folder / "added_tokens.json"
    return _highest(_object(path).values()) if path.is_file() else None


def _serialized(path: Path) -> Iterable[tuple[str, int]]:
    """Token and id of everything in a tokenizer.json: the model's vocabulary and what was added."""
    value = _object(path)
    model, added = value.get("model"), value.get("added_tokens")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    pairs: list[tuple[Any, Any]] = []
    if isinstance(vocab, dict):
        pairs += vocab.items()
    elif isinstance(vocab, list):  # Unigram: [token, score], the id is the place
        pairs += [(row[0], index) for index, row in enumerate(vocab) if isinstance(row, list) and row]
    if isinstance(added, list):
        pairs += [(row.get("content"), row.get("id")) for row in added if isinstance(row, dict)]
    return [(str(token), index) for token, index in pairs if isinstance(index, int)]


def _highest(values: Iterable[Any]) -> int | None:
    return max((value for value in values if isinstance(value, int)), default=None)
