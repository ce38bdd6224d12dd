"""Two tokenizers on one corpus: every id, mask, offset, decoded text and special token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from biject.checkpoint.strict_json import shown
from biject.errors import BijectError, InputError
from biject.tokenization.arguments import LARGEST_MAX_LENGTH
from biject.tokenization.encoded import Encoded
from biject.tokenization.library import library_errors
from biject.tokenization.settings import ROLES
from biject.tokenization.tokenizer import Tokenizer
from biject.verify.corpus import CHAT, PAIRS, TEXTS, WORDS
from biject.verify.report import Check

_KEYS = {
    "input_ids": "input_ids",
    "attention_mask": "attention_mask",
    "token_type_ids": "token_type_ids",
    "special_tokens_mask": "special_tokens_mask",
    "offset_mapping": "offsets",
    "overflow_to_sample_mapping": "overflow_to_sample",
}
"""HF's names and ours."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One way of calling both tokenizers; texts one by one, so that a difference has a text."""

    texts: Sequence[Any]
    pairs: Sequence[Any] | None = None
    options: dict[str, Any]


def compare_tokenizers(ours: Tokenizer, theirs: Any) -> list[Check]:
    """One check per part; a failed one names the first text that differs."""
    parts: dict[str, Callable[[Tokenizer, Any], Iterator[str]]] = {
        "special tokens": _special,
        "vocabulary": _vocabulary,
        "texts": lambda a, b: _calls(a, b, _plain_calls()),
        "pairs": lambda a, b: _calls(a, b, _pair_calls()),
        "words": lambda a, b: _calls(a, b, _word_calls()),
        "truncation": lambda a, b: _calls(a, b, _cut_calls()),
        "padding": lambda a, b: _calls(a, b, _padded_calls()),
        "decode": _decode,
        "chat template": _chat,
    }
    return [_check(name, part(ours, theirs), detail=_detail(name, ours)) for name, part in parts.items()]


def _check(name: str, problems: Iterator[str], *, detail: str) -> Check:
    found = list(problems)
    more = f"; and {len(found) - 1} more differences" if len(found) > 1 else ""
    return Check(name=name, passed=not found, detail=found[0] + more if found else detail)


def _detail(name: str, ours: Tokenizer) -> str:
    counts = {
        "special tokens": f"equal: {len(ours.all_special_tokens)}, with ids, roles, limit and sides",
        "vocabulary": f"equal: {len(ours)} tokens",
        "texts": f"{len(TEXTS)} texts: ids, masks, segments, offsets, words equal",
        "pairs": f"{len(PAIRS)} pairs equal",
        "words": f"{len(WORDS)} lists of words equal",
        "chat template": "equal" if ours.chat_template else "none, on both sides",
    }
    return counts.get(name, "equal")


def _special(ours: Tokenizer, theirs: Any) -> Iterator[str]:
    limit = theirs.model_max_length
    pairs: dict[str, tuple[Any, Any]] = {
        "model_max_length": (ours.model_max_length, None if limit > LARGEST_MAX_LENGTH else int(limit)),
        "padding_side": (ours.padding_side, theirs.padding_side),
        "truncation_side": (ours.truncation_side, theirs.truncation_side),
        "all_special_tokens": (ours.all_special_tokens, theirs.all_special_tokens),
        "all_special_ids": (ours.all_special_ids, theirs.all_special_ids),
    }
    for role in ROLES:
        pairs[role] = (getattr(ours, role), getattr(theirs, role))
        pairs[f"{role}_id"] = (getattr(ours, f"{role}_id"), getattr(theirs, f"{role}_id"))
    for name, (a, b) in pairs.items():
        if a != b:
            yield f"{name}: {shown(a)}, HF has {shown(b)}"


def _vocabulary(ours: Tokenizer, theirs: Any) -> Iterator[str]:
    if len(ours) != len(theirs):
        yield f"{len(ours)} tokens, HF has {len(theirs)}"
    a, b = ours.vocab, theirs.get_vocab()
    for token in a.keys() | b.keys():
        if a.get(token) != b.get(token):
            yield f"{shown(token)} is id {a.get(token)}, HF's is {b.get(token)}"


def _plain_calls() -> Iterator[Call]:
    yield Call(texts=TEXTS, options={})
    yield Call(texts=TEXTS, options={"add_special_tokens": False})


def _pair_calls() -> Iterator[Call]:
    texts, pairs = zip(*PAIRS, strict=True)
    yield Call(texts=texts, pairs=pairs, options={})
    yield Call(texts=texts, pairs=pairs, options={"add_special_tokens": False})


def _word_calls() -> Iterator[Call]:
    yield Call(texts=WORDS, options={"is_split_into_words": True})
    yield Call(texts=WORDS, pairs=WORDS[::-1], options={"is_split_into_words": True})


def _cut_calls() -> Iterator[Call]:
    texts, pairs = zip(*PAIRS, strict=True)
    yield Call(texts=TEXTS, options={"truncation": True})  # to model_max_length
    for length in (8, 16, 40):
        options = {
            "truncation": True,
            "max_length": length,
            "stride": length // 8,
            "return_overflowing": True,
        }
        yield Call(texts=TEXTS, options=options)
        for strategy in ("longest_first", "only_first", "only_second"):
            yield Call(texts=texts, pairs=pairs, options={"truncation": strategy, "max_length": length})
    windows = {"truncation": "only_second", "max_length": 64, "stride": 16, "return_overflowing": True}
    yield Call(texts=["a?"] * 3, pairs=[TEXTS[0], TEXTS[1], PAIRS[5][1]], options=windows)


def _padded_calls() -> Iterator[Call]:
    for options in (
        {"padding": "max_length", "max_length": 24, "truncation": True},
        {"padding": True, "pad_to_multiple_of": 8},
        {"padding": "max_length", "max_length": 12},
    ):
        yield Call(texts=TEXTS[2:10], options=options)
        yield Call(texts=TEXTS[6:9], pairs=["b", "", TEXTS[0]], options=options)


def _calls(ours: Tokenizer, theirs: Any, calls: Iterator[Call]) -> Iterator[str]:
    """What differs, call by call: all texts at once, and one by one where that went wrong."""
    for call in calls:
        sides = ("left", "right") if call.options.get("padding") else (ours.padding_side,)
        for side in sides:
            options = {**call.options, "padding_side": side}
            if _call(ours, theirs, call.texts, call.pairs, options) == _EQUAL:
                continue
            problems = []
            for index, text in enumerate(call.texts):
                pair = None if call.pairs is None else [call.pairs[index]]
                problem = _call(ours, theirs, [text], pair, options)
                if problem not in (_EQUAL, _BOTH_REFUSE):
                    second = "" if pair is None else f" and {shown(pair[0])}"
                    problems.append(f"{shown(text)}{second} with {call.options or 'no options'}: {problem}")
            yield from problems


_EQUAL, _BOTH_REFUSE = "equal", "refused by both"


def _call(
    ours: Tokenizer, theirs: Any, texts: Sequence[Any], pairs: Sequence[Any] | None, options: dict[str, Any]
) -> str:
    """What differs between both sides' answers to one call."""
    mine: Encoded | str
    kept = ours.padding_side
    try:
        ours.padding_side = options["padding_side"]
        own = {key: value for key, value in options.items() if key != "padding_side"}
        mine = ours(list(texts), None if pairs is None else list(pairs), **own)
    except BijectError as error:
        mine = str(error)
    finally:
        ours.padding_side = kept
    renamed = {
        ("return_overflowing_tokens" if k == "return_overflowing" else k): v for k, v in options.items()
    }
    flags = dict.fromkeys(("return_offsets_mapping", "return_special_tokens_mask"), True)
    try:
        with library_errors(InputError, "HF"):  # a panic of the library, too
            other = theirs(list(texts), None if pairs is None else list(pairs), **renamed, **flags)
    except InputError as error:
        return _BOTH_REFUSE if isinstance(mine, str) else f"HF refuses ({error}), Biject does not"
    if isinstance(mine, str):
        return f"Biject refuses ({mine}), HF does not"
    return _differ(mine, other, overflow=bool(options.get("return_overflowing"))) or _EQUAL


def _differ(mine: Encoded, other: Any, *, overflow: bool) -> str | None:
    for name, own in _KEYS.items():
        if name == "overflow_to_sample_mapping" and not overflow:
            continue
        a, b = getattr(mine, own), other.get(name)
        if a != b:
            return f"{name} {shown(a)}, HF has {shown(b)}"
    for row in range(len(mine)):
        if mine.word_ids[row] != other.word_ids(row) or mine.sequence_ids[row] != other.sequence_ids(row):
            return f"word_ids or sequence_ids of row {row}"
    return None


def _decode(ours: Tokenizer, theirs: Any) -> Iterator[str]:
    for text in TEXTS:
        ids = ours([text]).input_ids[0]
        for skip in (False, True):
            for clean in (None, True, False):
                options = {"skip_special_tokens": skip, "clean_up_tokenization_spaces": clean}
                a, b = ours.decode(ids, **options), theirs.decode(ids, **options)  # type: ignore[arg-type]
                if a != b:
                    yield f"{shown(ids)} with {options}: {shown(a)}, HF has {shown(b)}"
        a_tokens, b_tokens = ours.convert_ids_to_tokens(ids), theirs.convert_ids_to_tokens(ids)
        if a_tokens != b_tokens:
            yield f"tokens of {shown(ids)}: {shown(a_tokens)}, HF has {shown(b_tokens)}"


def _chat(ours: Tokenizer, theirs: Any) -> Iterator[str]:
    if ours.chat_template != theirs.chat_template:
        yield f"template {shown(ours.chat_template)}, HF has {shown(theirs.chat_template)}"
    if not ours.chat_template:
        return
    for prompt in (False, True):
        chat = [dict(message) for message in CHAT]
        a = _attempt(lambda: ours.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt))  # noqa: B023
        b = _attempt(lambda: theirs.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt))  # noqa: B023
        if a != b and not (isinstance(a, Exception) and isinstance(b, Exception)):
            yield f"rendered {shown(a)}, HF {shown(b)}"
        elif isinstance(a, str):
            ids = ours([a], add_special_tokens=False).input_ids[0]
            other = theirs.apply_chat_template(chat, add_generation_prompt=prompt, return_dict=False)
            if ids != other:
                yield f"ids of the rendered chat {shown(ids)}, HF has {shown(other)}"


def _attempt(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except MemoryError:
        raise  # no refusal: the process is at its limit
    except Exception as error:  # a template may refuse a conversation
        return error
