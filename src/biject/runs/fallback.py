"""Runs with `backend = "hf"`: what is refused, what the checkpoint is, and the model to train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from biject.checkpoint.source import Source, open_source
from biject.config.recipe import FinetuneRecipe
from biject.errors import ConfigError, InputError
from biject.fallback.classes import class_names
from biject.fallback.identity import FallbackIdentity, identify_fallback
from biject.fallback.library import peft, transformers
from biject.fallback.loading import load_fallback
from biject.fallback.model import FallbackModel
from biject.fallback.slow import SlowTokenizer
from biject.tokenization.tokenizer import Tokenizer

TASKS = ("seqcls", "tokcls", "qa", "mlm", "causal", "imgcls")


def check_fallback(recipe: FinetuneRecipe) -> None:
    """Refuse what such a run cannot do, before anything is read.

    Raises:
        ConfigError: Another task.
        MissingExtraError: transformers, or for an adapter PEFT, is not installed.
    """
    transformers()
    if recipe.method != "full":
        peft()
    if recipe.task not in TASKS:
        raise ConfigError(
            f"`task` is {recipe.task}, which is not for `backend` hf; there are {', '.join(TASKS)}."
        )


def opened_fallback(folder: Path, *, task: str | None) -> tuple[Path, Source, FallbackIdentity]:
    """A checkpoint's folder, and what it is to transformers.

    Raises:
        BijectError: It cannot be used.
    """
    source = open_source(folder)
    return folder, source, identify_fallback(source, head="auto" if task is None else task)


def check_sample_needs(recipe: FinetuneRecipe, found: FallbackIdentity, tokenizer: Tokenizer) -> None:
    """Refuse tokenizers and configs that the task needs more of.

    Raises:
        InputError: There are no offsets, no padding token, or no mask.
    """
    if recipe.task == "qa" and isinstance(tokenizer, SlowTokenizer):
        raise InputError(
            f"`task` is qa, which needs to know where in a text tokens are, and {tokenizer.class_name} is a "
            "tokenizer in Python that does not."
        )
    model_type = str(found.hf_config.get("model_type"))
    last = (
        recipe.task == "seqcls" and class_names(model_type, "causal") and not class_names(model_type, "mlm")
    )
    if last and getattr(found.hf, "pad_token_id", None) is None and recipe.train.batch_size > 1:
        raise InputError(
            f"`task` is seqcls, and transformers classifies `{model_type}` by a text's last token that is "
            "not padding, which config.json does not name: set `pad_token_id` there, or `batch_size` 1."
        )


def fallback_model(
    recipe: FinetuneRecipe, folder: Path, *, new_head: dict[str, Any] | None = None
) -> FallbackModel:
    """The model to train, with the checkpoint's own head or a new one.

    Raises:
        BijectError: It cannot be loaded, or is no causal model.
    """
    model = load_fallback(folder, head=recipe.task, dtype=torch.float32, new_head=new_head)
    model.hf.config._name_or_path = model.hf.name_or_path = recipe.model
    if recipe.task == "causal" and looks_ahead(model):
        raise ConfigError(
            f"{folder}: {model.class_name} sees the tokens that it should predict (a text's last token "
            "changes what is computed at its first): it is no causal model as config.json sets it; "
            "`is_decoder` may have to be true there."
        )
    return model


def looks_ahead(model: FallbackModel) -> bool:
    """Whether outputs at a text's first token depend on its last one."""
    ids = torch.tensor([[5 % model.config.vocab_size] * 8] * 2)
    ids[1, -1] = 7 % model.config.vocab_size
    with torch.no_grad():
        logits = model(input_ids=ids.to(model.device)).logits
    # A causal model gives equal bits in most kernels; rows of a batch may differ by float32's rounding in
    # others. What looks ahead differs by much more: torch's usual 1e-5 tells them apart.
    return not torch.allclose(logits[0, 0], logits[1, 0])
