"""From files to a backend: class, vocabulary, pipeline, special tokens, post-processor.

Source: `TokenizersBackend.convert_to_native_format`, transformers 5.23, tokenization_utils_tokenizers.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from biject.errors import CheckpointError
from biject.events import notice
from biject.tokenization.classes import GENERIC, class_of
from biject.tokenization.files import GENERIC_MODEL, MissingTokenizerError, TokenizerFiles, read_files
from biject.tokenization.finish import Parts, all_special, finish, take_baked
from biject.tokenization.library import library_errors
from biject.tokenization.pipelines import generic_sentencepiece
from biject.tokenization.recipes import RECIPES, UNIGRAM, Recipe
from biject.tokenization.settings import ROLES, Settings, Token, read_settings
from biject.tokenization.vocabulary import (
    Vocabulary,
    from_bpe,
    from_sentencepiece,
    from_serialized,
    from_wordpiece,
    highest_serialized,
    rename,
)

_LEFT = frozenset({"CodeLlamaTokenizer", "CohereTokenizer", "Siglip2Tokenizer", "XLNetTokenizer"})
"""Classes without a recipe that pad on the left unless the files set the other side."""


def load_parts(folder: Path, config: Mapping[str, Any]) -> Parts:
    """Build the tokenizer of a folder.

    Raises:
        MissingTokenizerError: None of the files that the class reads is there.
        CheckpointError: Files are damaged, or of a kind that cannot be built.
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
        highest_id=vocab.highest_id,
        padding_side=recipe.padding_side,
    )
    if baked is not None:
        backend.post_processor = baked.post_processor
        take_baked(parts, baked, pad="pad_token" not in {*settings.roles, *recipe.special})
    finish(parts, settings)
    if recipe.post is not None:
        backend.post_processor = recipe.post(backend, settings.options, texts)
    if recipe.readds_special:
        backend.add_tokens([AddedToken(str(token), special=True) for token in all_special(parts)])
    return parts


def _vocabulary(files: TokenizerFiles, recipe: Recipe, texts: Mapping[str, str]) -> Vocabulary:
    """The class's vocabulary, out of tokenizer.json if that is there.

    Raises:
        MissingTokenizerError: None of the files that the class reads is there.
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


def _nothing(files: TokenizerFiles, name: str, expected: tuple[str, ...]) -> MissingTokenizerError:
    found = ", ".join(files.vocabularies) or "no vocabulary at all"
    needed = " or ".join([files.serialized_name, *([" + ".join(expected)] if expected else [])])
    return MissingTokenizerError(
        f"{files.folder}: {name[:100]} is built from {needed}, and the folder has "
        f"{found}. (transformers makes one up that knows its special tokens only.) Put the missing file "
        "there, or name the class that reads what is there as `tokenizer_class` in tokenizer_config.json."
    )


def _generic(files: TokenizerFiles, name: str | None, settings: Settings) -> Parts:
    """tokenizer.json as it is, or a SentencePiece model of no known class."""
    roles: dict[str, Token | None] = {role: settings.roles.get(role) for role in ROLES}
    extra = settings.extra if settings.extra is not None else settings.listed
    if files.serialized is not None:
        backend = Tokenizer.from_str(json.dumps(files.serialized, ensure_ascii=False))
        highest = highest_serialized(files.serialized)
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
        highest = vocab.highest_id
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
        highest_id=highest,
        padding_side="left" if name in _LEFT else "right",
    )
    take_baked(parts, backend, pad="pad_token" not in settings.roles)
    finish(parts, settings)
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
