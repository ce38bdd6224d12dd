"""The cell of the contract that a recipe names: by config.json, the tokenizer and the machine; no weight."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from biject.checkpoint.adapter import checkpoint_folder
from biject.checkpoint.hub import resolve_folder
from biject.checkpoint.source import CONFIG
from biject.checkpoint.strict_json import MAX_CONFIG_BYTES, parse_object, read_small_file
from biject.config.recipe import FinetuneRecipe
from biject.errors import BijectError, InputError
from biject.families import family
from biject.identify import architecture_of
from biject.plan.cell import Cell, Lack, Method, Quantization, TokenizerKind
from biject.plan.contract import decide
from biject.tasks.common import usable_device
from biject.tokenization.files import SERIALIZED, VOCABULARIES, tokenizer_folder
from biject.tokenization.tokenizer import load_tokenizer
from biject.train import ranks

_KINDS: dict[str, TokenizerKind] = {
    SERIALIZED: "tokenizer.json",
    "vocab.txt": "wordpiece",
    "vocab.json": "byte-bpe",
}


def check_cell(recipe: FinetuneRecipe) -> None:
    """Refuse what the contract does not allow, before any weight is read.

    Raises:
        InputError: Every reason in one message.
        CheckpointError: There is no such folder, or its config.json is damaged.
    """
    decide(cell_of(recipe)).require()


def cell_of(
    recipe: FinetuneRecipe, *, method: Method | None = None, quantization: Quantization | None = None
) -> Cell:
    """The cell of a recipe.

    Args:
        recipe: The run.
        method: How it trains; the recipe's where left out.
        quantization: Of the base; where left out the recipe's for `qlora`, and none for the others.

    Raises:
        CheckpointError: There is no such folder, or its config.json is damaged.
    """
    method = method or recipe.method
    own = resolve_folder(recipe.model, revision=recipe.revision)
    folder = checkpoint_folder(own)
    config = parse_object(
        read_small_file(folder / CONFIG, what=CONFIG, limit=MAX_CONFIG_BYTES), where=str(folder / CONFIG)
    )
    device = device_name(recipe)
    return Cell(
        method=method,
        family=str(config.get("model_type")),
        head=_head(config),
        device=device.partition(":")[0],
        precision=recipe.train.precision,
        quantization=quantization or (recipe.quantization if method == "qlora" else "none"),
        tokenizer=tokenizer_kind(tokenizer_folder(own)),
        task=recipe.task,
        lacks=frozenset(_lacks(recipe, own, config, device)),
    )


def device_name(recipe: FinetuneRecipe) -> str:
    """The recipe's device, `auto` resolved."""
    if recipe.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return recipe.device


def tokenizer_kind(folder: Path) -> TokenizerKind:
    """The file that a folder's tokenizer is built from."""
    for name in (SERIALIZED, *VOCABULARIES):
        if (folder / name).is_file():
            return _KINDS.get(name, "sentencepiece")
    versioned = any(folder.glob("tokenizer.*.json"))
    return "tokenizer.json" if versioned else "none"


def _head(config: Mapping[str, Any]) -> str:
    """The head of the class that config.json names; `base` where it names none that is known."""
    architecture = architecture_of(config)
    try:
        found = family(config.get("model_type")).head_of(architecture or "")
    except BijectError:
        return "base"
    return found or "base"


def _lacks(recipe: FinetuneRecipe, folder: Path, config: Mapping[str, Any], device: str) -> list[Lack]:
    found: list[Lack] = []
    try:
        usable_device(device, place=ranks.own_device)
    except InputError:
        found.append("device")
    if find_spec("bitsandbytes") is None:
        found.append("bitsandbytes")
    alone = recipe.task != "reward"  # whose batches have two texts a sample
    one = alone and recipe.train.batch_size == 1 and recipe.train.max_tokens is None
    if config.get("pad_token_id") is None and not one:
        found.append("pad_token_id")
    if recipe.task == "mlm" and not _has_mask(folder, config):
        found.append("mask token")
    return found


def _has_mask(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether the tokenizer has one; a tokenizer that cannot be built is for others to refuse."""
    try:
        return load_tokenizer(folder, config).mask_token_id is not None
    except BijectError:
        return True
