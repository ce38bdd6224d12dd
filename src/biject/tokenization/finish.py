"""The last steps to a working tokenizer: added tokens, sides, a post-processor where the class has none.

Source: `TokenizersBackend.__init__`, transformers 5.23, tokenization_utils_tokenizers.py; added tokens
go in in its order, since the order decides their ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenizers import AddedToken, Tokenizer, processors

from biject.errors import CheckpointError
from biject.tokenization.files import SETTINGS, TokenizerFiles
from biject.tokenization.pipelines import Options
from biject.tokenization.settings import Settings, Token


@dataclass(kw_only=True)
class Parts:
    """A backend and what the class around it knows."""

    files: TokenizerFiles
    class_name: str
    backend: Tokenizer
    roles: dict[str, Token | None]
    """Special tokens by role, those of the model's own among them."""
    extra: list[Token]
    options: Options
    segments: bool
    highest_id: int | None
    """No token of the vocabulary proper has a higher id; None where that was not looked up."""
    padding_side: str = "right"
    truncation_side: str = "right"
    cleared: set[str] = field(default_factory=set)
    """Roles that were taken away since the files were read."""
    templates: dict[str, str] | None = None
    """Chat templates by name that were set since then; None where none were."""
    tokens_changed: bool = False
    """Whether tokens were added, or roles given or taken away, since then."""


def take_baked(parts: Parts, baked: Tokenizer, *, pad: bool) -> None:
    """Padding and truncation that tokenizer.json sets are no more than defaults; `pad`: of the token too."""
    padding, truncation = baked.padding, baked.truncation
    if padding is not None:
        parts.padding_side = padding["direction"]
        if pad:
            parts.roles["pad_token"] = padding["pad_token"]
    if truncation is not None:
        parts.truncation_side = truncation["direction"]


def finish(parts: Parts, settings: Settings) -> None:
    """Add tokens, then set the post-processor that a class without one has."""
    backend, options = parts.backend, parts.options
    backend.no_padding()
    backend.no_truncation()
    parts.padding_side = _side(options, "padding_side", parts.padding_side)
    parts.truncation_side = _side(options, "truncation_side", parts.truncation_side)
    names = options.get("model_input_names")
    if isinstance(names, list):
        parts.segments = "token_type_ids" in names
    backend.encode_special_tokens = bool(options.get("split_special_tokens", False))
    tokens = _to_add(parts, settings.added)
    if tokens:
        backend.add_tokens(tokens)
    requested = parts.files.serialized is None and ("add_bos_token" in options or "add_eos_token" in options)
    if requested or backend.post_processor is None:
        backend.post_processor = _bos_eos(parts, requested=requested)


def _side(options: Options, key: str, default: str) -> str:
    side = options.get(key, default)
    if side not in ("left", "right"):
        raise CheckpointError(f"{SETTINGS}: `{key}` must be left or right, found {side!r}.")
    return str(side)


def _to_add(parts: Parts, added: Mapping[int, AddedToken]) -> list[AddedToken]:
    """Added tokens by id, then the special ones that are not among them."""
    tokens: list[Token] = [added[index] for index in sorted(added)]
    known = {token.content for token in parts.backend.get_added_tokens_decoder().values()}
    known |= {str(token) for token in tokens}
    for token in (*parts.roles.values(), *parts.extra):
        if token is not None and str(token) not in known and token not in tokens:
            tokens.append(token)
    named = {str(token) for token in parts.roles.values() if token}
    out = []
    for token in tokens:
        made = AddedToken(token, special=True) if isinstance(token, str) else token
        if not made.special and made.content in named:
            made.special = True
        out.append(made)
    return out


def _bos_eos(parts: Parts, *, requested: bool) -> Any:
    """The text alone, or between the tokens that `add_bos_token` and `add_eos_token` request."""
    bos, eos = (
        str(token) if requested and parts.options.get(f"add_{role}") and token is not None else None
        for role, token in ((role, parts.roles.get(role)) for role in ("bos_token", "eos_token"))
    )
    single = f"{f'{bos}:0 ' if bos else ''}$A:0{f' {eos}:0' if eos else ''}"
    pair = f"{single}{f' {bos}:1' if bos else ''} $B:1{f' {eos}:1' if eos else ''}"
    special = [(token, parts.backend.token_to_id(token)) for token in (bos, eos) if token]
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=special)


def all_special(parts: Parts) -> list[str]:
    """The special tokens' texts, each once: roles first."""
    named = (str(token) for token in parts.roles.values() if token is not None)
    return list(dict.fromkeys([*named, *(str(token) for token in parts.extra)]))
