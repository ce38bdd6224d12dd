"""Tokenizer files written unchanged; what was added or set is patched in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from biject.checkpoint.folder import notice_outside
from biject.errors import CheckpointError
from biject.tokenization.classes import GENERIC
from biject.tokenization.files import ADDED, SERIALIZED, SETTINGS, SPECIAL_MAP, template_name
from biject.tokenization.finish import Parts

_FIELDS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
_EXTRA, _LISTED = "extra_special_tokens", "additional_special_tokens"


def save_files(
    parts: Parts, changed: Mapping[str, bytes], folder: Path, *, without: Collection[str] = ()
) -> None:
    """Copy every file of the tokenizer but those in `without`, and write the changed ones.

    Raises:
        CheckpointError: The folder cannot be written.
    """
    files = parts.files
    names = [files.serialized_name, SETTINGS, SPECIAL_MAP, ADDED, "merges.txt", *files.vocabularies]
    names += [template_name(name) for name in files.templates]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            if name in without or name in changed or not files.has(name):
                continue
            if not _same(files.folder / name, folder / name):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                notice_outside(files.folder, files.folder / name)
                shutil.copyfile(files.folder / name, folder / name)
        for name, data in changed.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    except OSError as error:
        raise CheckpointError(f"the tokenizer cannot be written to {folder}: {error}.") from error


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def patched(parts: Parts, overrides: Mapping[str, Any]) -> dict[str, bytes]:
    """The files that must say what was added or set.

    Args:
        parts: The tokenizer.
        overrides: Of tokenizer_config.json; None takes a key away.
    """
    files = parts.files
    tokens = dict(sorted(parts.backend.get_added_tokens_decoder().items())) if parts.tokens_changed else {}
    settings = _settings(parts, tokens) if parts.tokens_changed else dict(files.settings or {})
    settings = {**settings, **overrides}
    settings = {key: value for key, value in settings.items() if value is not None or key not in overrides}
    if parts.templates is not None:
        settings.pop("chat_template", None)  # files of their own have them, as HF writes them
    out = _of_tokens(parts, tokens) if parts.tokens_changed else {}
    if parts.tokens_changed or settings != (files.settings or {}):
        out[SETTINGS] = _text(settings)
    out.update({template_name(name): text.encode() for name, text in (parts.templates or {}).items()})
    return out


def _of_tokens(parts: Parts, tokens: Mapping[int, AddedToken]) -> dict[str, bytes]:
    """The files that must list the tokens that there are now, but for the settings.

    tokenizer_config.json names them all (HF reads no other file then), tokenizer.json lists them (and is made
    where there is a SentencePiece model); the older special_tokens_map.json and added_tokens.json follow.
    """
    files = parts.files
    out: dict[str, bytes] = {}
    if files.serialized is not None:
        entries = [{"id": index, **_fields(token)} for index, token in tokens.items()]
        serialized = {**files.serialized, "added_tokens": entries}
        pretty = (files.folder / files.serialized_name).read_bytes()[:2].strip() == b"{"
        out[files.serialized_name] = _text(serialized, indent=2 if pretty else None)
    elif hasattr(parts.backend, "to_str") and any(n.endswith(".model") for n in files.vocabularies):
        # Classes order a SentencePiece model's pieces around the names of their special tokens.
        parts.backend.no_padding()
        parts.backend.no_truncation()
        out[SERIALIZED] = (parts.backend.to_str(pretty=True) + "\n").encode()
    if files.special_map is not None:
        named = {role: str(token) for role, token in parts.roles.items() if token is not None}
        changes = {
            role: text for role, text in named.items() if _content(files.special_map.get(role)) != text
        }
        kept = {k: v for k, v in files.special_map.items() if k not in parts.cleared}
        out[SPECIAL_MAP] = _text({**kept, **changes})
    if files.added is not None:
        base = parts.backend.get_vocab_size(with_added_tokens=False)
        new = {token.content: index for index, token in tokens.items() if index >= base}
        out[ADDED] = _text({**files.added, **new})
    return out


def _settings(parts: Parts, tokens: Mapping[int, AddedToken]) -> dict[str, Any]:
    out = dict(parts.files.settings or {})
    for role, token in parts.roles.items():
        if token is not None and _content(out.get(role)) != str(token):
            out[role] = str(token)
    out.update(dict.fromkeys(parts.cleared))
    extra = [str(token) for token in parts.extra]
    key = _LISTED if isinstance(out.get(_EXTRA), dict) and out[_EXTRA] else _EXTRA
    if extra or key in out:
        out.pop(_LISTED, None)
        out[key] = extra
    out["added_tokens_decoder"] = {str(index): _fields(token) for index, token in tokens.items()}
    if parts.class_name != GENERIC:
        out.setdefault("tokenizer_class", parts.class_name)
    return out


def _content(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _fields(token: AddedToken) -> dict[str, Any]:
    return {name: getattr(token, name) for name in _FIELDS}


def _text(value: Mapping[str, Any], *, indent: int | None = 2) -> bytes:
    separators = (",", ":") if indent is None else None
    return (json.dumps(value, ensure_ascii=False, indent=indent, separators=separators) + "\n").encode()
