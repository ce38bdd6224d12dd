"""What callers and settings may give in several forms, brought into one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from biject.checkpoint.strict_json import shown
from biject.errors import CheckpointError, InputError
from biject.tokenization.files import SETTINGS
from biject.tokenization.finish import Parts

if TYPE_CHECKING:
    from biject.tokenization.chat import Template

LARGEST_MAX_LENGTH = 10**20
"""Above this, `model_max_length` means none in HF."""


Texts = str | Sequence[str] | Sequence[Sequence[str]]


def strategy(name: str, value: bool | str, known: Sequence[str]) -> str:
    strategy = known[0 if value else -1] if isinstance(value, bool) else value
    if strategy not in known:
        raise InputError(f"{name}: expected a bool or one of {', '.join(known)}; found {value!r}.")
    return strategy


def max_length(options: Mapping[str, Any]) -> int | None:
    given = options.get("model_max_length", options.get("max_len"))
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise CheckpointError(f"{SETTINGS}: `model_max_length` must be a number, found {shown(given)}.")
    return int(given) if given <= LARGEST_MAX_LENGTH else None


def template(parts: Parts) -> Template | None:
    """Templates in files of their own win over tokenizer_config.json's."""
    found: Any = dict(parts.files.templates) or parts.options.get("chat_template")
    if isinstance(found, list):
        found = {str(entry.get("name")): entry.get("template") for entry in found if isinstance(entry, dict)}
    if isinstance(found, dict) and set(found) == {"default"} and parts.files.templates:
        found = found["default"]
    texts = list(found.values()) if isinstance(found, dict) else [found]
    if found is not None and not all(isinstance(text, str) for text in texts):
        raise CheckpointError(f"{SETTINGS}: `chat_template` must be a template's text, found {shown(found)}.")
    return cast("Template | None", found)


def by_name(value: object) -> dict[str, str]:
    """A chat template that a caller sets: a text, several by name, or None.

    Raises:
        InputError: It is something else, or a name is none of a file.
    """
    found = {} if value is None else {"default": value} if isinstance(value, str) else value
    if not isinstance(found, Mapping) or not all(isinstance(text, str) for text in (*found, *found.values())):
        raise InputError(
            f"`chat_template` must be a template's text, several by name, or None; found {shown(value)}."
        )
    for name in found:
        if not name or PurePosixPath(name).name != name or "\\" in name or "\0" in name:
            raise InputError(f"`chat_template`: a name must be one for a file, found {shown(name)}.")
    return dict(found)


def is_one(texts: Texts, split: bool) -> bool:
    """Whether this is one text, or one list of words, and no list of them."""
    return isinstance(texts, str) or (split and not (texts and isinstance(texts[0], list | tuple)))


def rows(texts: Texts, pairs: Texts | None, split: bool) -> list[Any]:
    """One entry per text, or pair of texts."""
    if is_one(texts, split):
        return [(texts, pairs)] if pairs else [texts]
    if pairs is None:
        return list(texts)
    if isinstance(pairs, str) or len(pairs) != len(texts):
        count = "one text" if isinstance(pairs, str) else f"{len(pairs)}"
        raise InputError(f"pairs: expected as many as there are texts ({len(texts)}), found {count}.")
    return list(zip(texts, pairs, strict=True))


def as_ids(ids: Any) -> list[Any]:
    """An id, ids, or a tensor of one or some, as a list."""
    found = ids.tolist() if hasattr(ids, "tolist") else ids
    return list(found) if isinstance(found, Iterable) else [found]


def cleaned(text: str) -> str:
    """Without the spaces that WordPiece puts before punctuation and contractions (as HF cleans up)."""
    for space in (" .", " ?", " !", " ,"):
        text = text.replace(space, space[1:])
    text = text.replace(" ' ", "'")
    for space in (" n't", " 'm", " 's", " 've", " 're"):
        text = text.replace(space, space[1:])
    return text
