"""Special and added tokens of the JSON files, merged in the order in which HF merges them.

Source: `PreTrainedTokenizerBase._from_pretrained`, transformers 5.23, tokenization_utils_base.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken

from biject.checkpoint.strict_json import shown
from biject.errors import CheckpointError
from biject.tokenization.files import ADDED, SERIALIZED, SETTINGS, SPECIAL_MAP, TokenizerFiles, mapping
from biject.tokenization.library import library_errors

Token = str | AddedToken

_EXTRA, _LISTED = "extra_special_tokens", "additional_special_tokens"

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The special tokens that have a name, in the order in which HF adds them."""


@dataclass(kw_only=True)
class Settings:
    """Everything beside the vocabulary.

    Attributes:
        options: tokenizer_config.json without what is in the other attributes.
        roles: special tokens by role; a role that is absent has its class's default, None is none at all.
        other_roles: special tokens under names of the model's own (`image_token`).
        extra: special tokens without a role; None where no file names any.
        listed: the same under their old key; used where `extra` is None and no SentencePiece model names any.
        added: tokens to be added, by id.
    """

    options: dict[str, Any]
    roles: dict[str, Token | None]
    other_roles: dict[str, Token]
    extra: list[Token] | None
    listed: list[Token] | None
    added: dict[int, AddedToken]


def read_settings(files: TokenizerFiles) -> Settings:
    """Merge tokenizer_config.json, special_tokens_map.json, added_tokens.json and tokenizer.json.

    Raises:
        CheckpointError: One of them describes no possible tokenizer.
    """
    options = {key: _token(value, key) for key, value in (files.settings or {}).items()}
    if _LISTED in options and not options.get(_EXTRA):
        options[_EXTRA] = options.pop(_LISTED)
    if "added_tokens_decoder" in options:
        decoder = mapping(options.pop("added_tokens_decoder"), key="added_tokens_decoder", where=SETTINGS)
        added = {_id(index): added_token(token, SETTINGS) for index, token in decoder.items()}
    else:
        _merge_special_map(options, files)
        added = _legacy_added(options, files)
    other = {key: options.pop(key) for key in list(options) if _is_other_role(key, options[key])}
    for key in (_EXTRA, "model_specific_special_tokens"):
        if isinstance(options.get(key), dict):
            other |= {name: _named(value, name) for name, value in options.pop(key).items()}
    by_text = {token.content: token for token in added.values()}
    return Settings(
        roles={role: _role(options.pop(role), role, by_text) for role in ROLES if role in options},
        other_roles=other,
        extra=_tokens(options.pop(_EXTRA), _EXTRA) if _EXTRA in options else None,
        listed=_tokens(options.pop(_LISTED), _LISTED) if _LISTED in options else None,
        added=added,
        options=options,
    )


def added_token(value: object, where: str, **fixed: bool) -> AddedToken:
    """An `AddedToken` from its JSON object.

    Raises:
        CheckpointError: It is no object, or has other keys than such a token.
    """
    if isinstance(value, AddedToken):
        return value
    fields = {k: v for k, v in mapping(value, key="an added token", where=where).items() if k != "__type"}
    if not isinstance(fields.get("content"), str):
        raise CheckpointError(f"{where}: an added token needs its text in `content`, found {shown(value)}.")
    with library_errors(CheckpointError, f"{where}: {shown(value)} is no added token"):
        return AddedToken(**{**fields, **fixed})


def _token(value: Any, key: str) -> Any:
    """`value` with an object that is marked as an `AddedToken` made one, in lists too."""
    if isinstance(value, list):
        return [_token(item, key) for item in value]
    if isinstance(value, dict) and value.get("__type") == "AddedToken":
        return added_token(value, f"{SETTINGS}: {key}")
    return value


def _is_other_role(key: str, value: object) -> bool:
    return key.endswith("_token") and key not in ROLES and isinstance(value, Token)


def _tokens(values: object, key: str) -> list[Token]:
    if values is None:
        return []
    if not isinstance(values, list):
        raise CheckpointError(f"{SETTINGS}: {key} must be a list of tokens, found {shown(values)}.")
    return [_named(value, key) for value in values]


def _named(value: object, key: str) -> Token:
    if isinstance(value, Token):
        return value
    if isinstance(value, dict) and "content" in value:
        return added_token({"special": True, **value}, key)
    raise CheckpointError(f"{SETTINGS}: {key} must be a token, found {shown(value)}. Write its text there.")


def _role(value: object, role: str, by_text: Mapping[str, AddedToken]) -> Token | None:
    if value is None:
        return None
    token = _named(value, role)
    return by_text.get(str(token), token)


def _as_list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list) else []


def _id(value: object) -> int:
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    if type(value) is int and 0 <= value < 10**9:
        return value
    raise CheckpointError(f"added tokens: an id must be a number from 0, found {shown(value)}.")


def _merge_special_map(options: dict[str, Any], files: TokenizerFiles) -> None:
    """special_tokens_map.json wins over tokenizer_config.json, as in HF."""
    for key, value in (files.special_map or {}).items():
        if key == _EXTRA and isinstance(value, list):
            known = _as_list(options.get(key))
            tokens = [_named(token, key) for token in value]
            options[key] = known + [token for token in tokens if token not in known]
        elif isinstance(value, dict) and key != _EXTRA:
            options[key] = added_token(value, f"{SPECIAL_MAP}: {key}", special=True)
        else:
            options[key] = value


def _legacy_added(options: Mapping[str, Any], files: TokenizerFiles) -> dict[int, AddedToken]:
    """added_tokens.json, then the added tokens of tokenizer.json."""
    special = {str(options[role]) for role in ROLES if options.get(role)}
    special |= {str(token) for token in _as_list(options.get(_EXTRA))}
    added = {}
    for text, index in (files.added or {}).items():
        is_special = text in special
        added[_id(index)] = AddedToken(
            text, rstrip=False, lstrip=False, normalized=not is_special, special=is_special
        )
    listed = (files.serialized or {}).get("added_tokens", [])
    if not isinstance(listed, list):
        raise CheckpointError(f"{SERIALIZED}: `added_tokens` must be a list, found {shown(listed)}.")
    for entry in listed:
        fields = dict(mapping(entry, key="an added token", where=SERIALIZED))
        index = _id(fields.pop("id", None))
        added[index] = added_token(fields, SERIALIZED)
    return added


__all__ = ["ADDED", "ROLES", "Settings", "Token", "added_token", "read_settings"]
