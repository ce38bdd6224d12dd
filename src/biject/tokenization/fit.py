"""Whether a tokenizer and a model's token table belong together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biject.checkpoint.strict_json import shown
from biject.errors import ConfigError
from biject.tokenization.tokenizer import Tokenizer

_ROLES = ("pad_token", "cls_token", "sep_token", "mask_token", "bos_token", "eos_token")


def check_fits(tokenizer: Tokenizer, config: Mapping[str, Any]) -> None:
    """Refuse a tokenizer that gives ids for which the model has no embedding.

    A smaller tokenizer is usual: tables are rounded up to multiples of 8 or 64.

    Raises:
        ConfigError: Some ids are too high.
    """
    size = config.get("vocab_size")
    if isinstance(size, bool) or not isinstance(size, int):
        raise ConfigError(f"config.json: `vocab_size` must be a number, found {shown(size)}.")
    if tokenizer.highest_id < size:
        return
    beyond = sorted((index, token) for token, index in tokenizer.vocab.items() if index >= size)
    if beyond:
        index, token = beyond[0]
        raise ConfigError(
            f"the tokenizer has {len(tokenizer)} tokens, the model embeddings for {size}: {len(beyond)} "
            f"tokens, from {shown(token)} (id {index}) on, have none. Put the tokenizer there that is for "
            "the model, or make room with resize_token_embeddings."
        )


def oddities(tokenizer: Tokenizer, config: Mapping[str, Any]) -> list[str]:
    """What is unusual about a tokenizer beside this config, though it can be used."""
    found = []
    size = config.get("vocab_size")
    if isinstance(size, int) and len(tokenizer) * 2 < size:
        found.append(
            f"the tokenizer has {len(tokenizer)} tokens, the model embeddings for {size}: most are never "
            "used, as if the tokenizer were another model's"
        )
    for role in _ROLES:
        expected, own = config.get(f"{role}_id"), getattr(tokenizer, f"{role}_id")
        if isinstance(expected, int) and own is not None and expected != own:
            found.append(
                f"config.json: `{role}_id` is {expected}, the tokenizer's {getattr(tokenizer, role)} is {own}"
            )
    return found
