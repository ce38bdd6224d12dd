"""From files to a working backend: class, vocabulary, pipeline, special tokens, post-processor.

Source: `TokenizersBackend.__init__`, transformers 5.23, tokenization_utils_tokenizers.py; added tokens
go in in its order, since the order decides their ids.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, processors

from biject.data.classes import GENERIC, class_of
from biject.data.files import GENERIC_MODEL, SERIALIZED, TokenizerFiles, read_files
from biject.data.library import library_errors
from biject.data.pipelines import Options, generic_sentencepiece
from biject.data.recipes import RECIPES, UNIGRAM, Recipe
from biject.data.settings import ROLES, Settings, Token, read_settings
from biject.data.vocabulary import (
    Vocabulary,
    from_bpe,
    from_sentencepiece,
    from_serialized,
    from_wordpiece,
    rename,
)
from biject.errors import CheckpointError
from biject.events import notice


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
    padding_side: str = "right"
    truncation_side: str = "right"


def load_parts(folder: Path, config: Mapping[str, Any]) -> Parts:
    """Build the tokenizer of a folder.

    Raises:
        CheckpointError: Files are missing, damaged, or of a kind that cannot be built.
    """
    files = read_files(folder)
    name = class_of(files, config)
    recipe = RECIPES.get(name or "")
    settings = read_settings(files)
    with library_errors(CheckpointError, f"the tokenizer in {folder} cannot be built"):
        if recipe is not None:
            return _by_class(files, recipe, settings)
        return _generic(files, name, settings)


def _by_class(files: TokenizerFiles, recipe: Recipe, settings: Settings) -> Parts:
    roles: dict[str, Token | None] = {
        role: settings.roles.get(role, recipe.special.get(role)) for role in ROLES
    }
    mask = roles["mask_token"]
    if recipe.mask_takes_space and isinstance(mask, str):
        roles["mask_token"] = AddedToken(mask, lstrip=True, special=True)
    texts = {role: str(token) for role, token in roles.items()}
    vocab = _vocabulary(files, recipe, texts)
    backend = recipe.build(vocab, settings.options, texts)
    baked = _baked(files)
    extra = settings.extra
    if extra is None:
        extra = settings.listed if vocab.control is None else vocab.control
    parts = Parts(
        files=files,
        class_name=recipe.name,
        backend=backend,
        roles={**roles, **settings.other_roles},
        extra=list(recipe.extra if extra is None else extra),
        options=settings.options,
        segments=recipe.segments,
        padding_side=recipe.padding_side,
    )
    if baked is not None:
        backend.post_processor = baked.post_processor
        _take_baked(parts, baked, pad="pad_token" not in {*settings.roles, *recipe.special})
    _finish(parts, settings)
    if recipe.post is not None:
        backend.post_processor = recipe.post(backend, settings.options, texts)
    if recipe.readds_special:
        backend.add_tokens([AddedToken(str(token), special=True) for token in all_special(parts)])
    return parts


def _vocabulary(files: TokenizerFiles, recipe: Recipe, texts: Mapping[str, str]) -> Vocabulary:
    """The class's vocabulary, out of tokenizer.json if that is there.

    Raises:
        CheckpointError: None of the files that the class reads is there.
    """
    unigram = recipe.kind == UNIGRAM
    if files.serialized is not None:
        return from_serialized(
            files.serialized, unigram=unigram, where=str(files.folder / files.serialized_name)
        )
    if files.has(GENERIC_MODEL):
        names: tuple[str, ...] = (GENERIC_MODEL,)
    else:
        names = recipe.files
    paths = [files.folder / name for name in names if files.has(name)]
    if len(paths) < len(names):
        raise _nothing(files, recipe.name, recipe.files)
    if names[0].endswith(".model"):
        vocab = from_sentencepiece(paths[0], unigram=unigram)
        return recipe.reorder(vocab, texts) if recipe.reorder else vocab
    return from_bpe(*paths) if len(paths) == 2 else from_wordpiece(*paths)


def _nothing(files: TokenizerFiles, name: str, expected: tuple[str, ...]) -> CheckpointError:
    found = ", ".join(files.vocabularies) or "no vocabulary at all"
    wanted = " or ".join([SERIALIZED, " + ".join(expected)] if expected else [SERIALIZED])
    return CheckpointError(
        f"{files.folder}: {name} is built from {wanted}, and the folder has "
        f"{found}. Put the missing file there, or name the class that reads what is there as "
        "`tokenizer_class` in tokenizer_config.json."
    )


def _generic(files: TokenizerFiles, name: str | None, settings: Settings) -> Parts:
    """tokenizer.json as it is, or a SentencePiece model of no known class."""
    roles: dict[str, Token | None] = {role: settings.roles.get(role) for role in ROLES}
    extra = settings.extra if settings.extra is not None else settings.listed
    if files.serialized is not None:
        backend = Tokenizer.from_str(json.dumps(files.serialized, ensure_ascii=False))
        if name not in (None, GENERIC):
            notice(
                "unknown-tokenizer-class",
                f"{name} is a class of tokenizers that Biject does not know: {files.serialized_name} is used "
                "as it is.",
            )
    elif files.has(GENERIC_MODEL) and name in (None, GENERIC):
        vocab = from_sentencepiece(files.folder / GENERIC_MODEL, unigram=None)
        assert vocab.proto is not None
        backend = generic_sentencepiece(rename(vocab, settings.added))
        roles.update({k: v for k, v in vocab.proto.special.items() if k not in settings.roles})
        extra = settings.extra if settings.extra is not None else vocab.control
    else:
        known = name in (None, GENERIC)
        who = "a tokenizer of no named class" if known else f"{name}, which Biject knows by no other file,"
        raise _nothing(files, who, (GENERIC_MODEL,) if known else ())
    parts = Parts(
        files=files,
        class_name=name or GENERIC,
        backend=backend,
        roles={**roles, **settings.other_roles},
        extra=list(extra or []),
        options=settings.options,
        segments=False,
    )
    _take_baked(parts, backend, pad="pad_token" not in settings.roles)
    _finish(parts, settings)
    return parts


def _baked(files: TokenizerFiles) -> Tokenizer | None:
    """tokenizer.json with nearly no vocabulary: its post-processor, padding and truncation."""
    if files.serialized is None:
        return None
    light = dict(files.serialized)
    model = dict(light["model"])
    if model.get("type") not in (None, "Unigram"):
        model["vocab"] = {}
        if model["type"] == "BPE":
            model["merges"] = []
        light.update(model=model, added_tokens=[])
    return Tokenizer.from_str(json.dumps(light, ensure_ascii=False))


def _take_baked(parts: Parts, baked: Tokenizer, *, pad: bool) -> None:
    """Padding and truncation that tokenizer.json sets are no more than defaults; `pad`: of the token too."""
    padding, truncation = baked.padding, baked.truncation
    if padding is not None:
        parts.padding_side = padding["direction"]
        if pad:
            parts.roles["pad_token"] = padding["pad_token"]
    if truncation is not None:
        parts.truncation_side = truncation["direction"]


def _finish(parts: Parts, settings: Settings) -> None:
    """Add tokens, then set the post-processor that a class without one has."""
    backend, options = parts.backend, parts.options
    backend.no_padding()
    backend.no_truncation()
    parts.padding_side = _side(options, "padding_side", parts.padding_side)
    parts.truncation_side = _side(options, "truncation_side", parts.truncation_side)
    backend.encode_special_tokens = bool(options.get("split_special_tokens", False))
    tokens = _to_add(parts, settings.added)
    if tokens:
        backend.add_tokens(tokens)
    asked = parts.files.serialized is None and ("add_bos_token" in options or "add_eos_token" in options)
    if asked or backend.post_processor is None:
        backend.post_processor = _bos_eos(parts, asked=asked)


def _side(options: Options, key: str, default: str) -> str:
    side = options.get(key, default)
    if side not in ("left", "right"):
        raise CheckpointError(f"tokenizer_config.json: `{key}` must be left or right, found {side!r}.")
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


def _bos_eos(parts: Parts, *, asked: bool) -> Any:
    """The text alone, or between the tokens that `add_bos_token` and `add_eos_token` ask for."""
    bos, eos = (
        str(token) if asked and parts.options.get(f"add_{role}") and token is not None else None
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


__all__ = ["Parts", "all_special", "load_parts"]
