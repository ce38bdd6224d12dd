"""Runs over pairs of texts: what they minimise, and DPO's reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from biject.checkpoint.adapter import is_adapter
from biject.checkpoint.hub import resolve_folder
from biject.config.recipe import FinetuneRecipe
from biject.config.tasks import PREFERENCES
from biject.data.pairs import PairCollator, PairDataset
from biject.errors import InputError
from biject.identify import Identity
from biject.model import Model
from biject.nn.without_dropout import switch_off_dropout
from biject.pretrained import load
from biject.runs.adapter import quantised
from biject.runs.objective import Objective
from biject.runs.samples import Samples
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer
from biject.train.preference import DpoObjective, RewardObjective, with_reference
from biject.train.session import AUTOCAST


def over_pairs(
    recipe: FinetuneRecipe, model: Model, tokenizer: Tokenizer, samples: Samples, collate: PairCollator
) -> tuple[Objective, Samples, tuple[str, ...]]:
    """What a run over pairs minimises, its samples with the reference's log-probabilities where these are
    computed beforehand, and lines for the user.

    Args:
        recipe: The run.
        model: On its device, with its adapter.
        tokenizer: Its own.
        samples: Of pairs.
        collate: Makes batches of them.

    Raises:
        InputError: The reference cannot be used.
    """
    settings = recipe.preference
    if draws_nothing(recipe):
        switch_off_dropout(model)
    if recipe.task == "reward":
        return RewardObjective(config=settings), samples, ()
    before = settings.precompute_ref_log_probs
    before = model.adapters is None if before is None else before
    other = _reference(recipe, model, tokenizer, copied=not before and model.adapters is None)
    whose = "the model as it begins" if model.adapters is None else "the model without its adapter"
    whose = settings.reference_model or whose
    if not before:
        return DpoObjective(config=settings, reference=other), samples, (f"REFERENCE {whose}, in every step",)

    def known(dataset: Any) -> Any:
        if not isinstance(dataset, PairDataset):
            return dataset
        dtype, size = AUTOCAST[recipe.train.precision], recipe.train.batch_size
        return with_reference(
            dataset,
            other or model,
            collate=collate,
            batch_size=size,
            dtype=dtype,
            leave_out_adapters=other is None and model.adapters is not None,
        )

    train = known(samples.train)
    samples = replace(samples, train=train, data=train, evaluation=known(samples.evaluation))
    return DpoObjective(config=settings), samples, (f"REFERENCE {whose}, computed once before training",)


def draws_nothing(recipe: FinetuneRecipe) -> bool:
    """Whether the run switches dropout off, the adapter's too."""
    return recipe.task in PREFERENCES and recipe.preference.disable_dropout


def _reference(
    recipe: FinetuneRecipe, model: Model, tokenizer: Tokenizer, *, copied: bool
) -> nn.Module | None:
    """The model that the reference is computed by, where it is not the one that is trained."""
    place = recipe.preference.reference_model
    if place is None and not copied:
        return None
    if place is not None:
        theirs = load_tokenizer(resolve_folder(place))
        if theirs.vocab != tokenizer.vocab:
            raise InputError(
                f"preference.reference_model: {place} has another vocabulary ({len(theirs.vocab)} tokens) "
                f"than the model ({len(tokenizer.vocab)}): log-probabilities are not of the same tokens."
            )
    found = load(
        place or recipe.model,
        head="causal",
        revision=None if place else recipe.revision,
        dtype=torch.float32,
        numerics=recipe.numerics,
        **quantised(recipe),
    ).to(model.device)
    found.requires_grad_(False)
    return found


def check_has_reference(recipe: FinetuneRecipe) -> None:
    """Refuse to evaluate a model alone by what compares it with a reference.

    Raises:
        InputError: The task is dpo, and neither a reference nor an adapter is there.
    """
    if recipe.task != "dpo" or recipe.preference.reference_model is not None:
        return
    if not is_adapter(resolve_folder(recipe.model, revision=recipe.revision)):
        raise InputError(
            f"dpo compares {recipe.model} with a reference, and there is none: name the checkpoint that it "
            "was trained from as --set preference.reference_model=DIR, or evaluate an adapter's folder."
        )


def check_pair_head(recipe: FinetuneRecipe, found: Identity) -> None:
    """Refuse to train a reward model on a head of several classes, and a language model that is random.

    Raises:
        InputError: The checkpoint's own head is not for the task.
    """
    if recipe.task == "dpo" and found.file_head != recipe.head:
        raise InputError(
            f"`task` is dpo, which prefers some of a language model's texts to others, and {recipe.model} "
            f"has the head `{found.file_head}`: take a causal language model, or train one (--task causal)."
        )
    outputs = found.config.head.num_labels
    if recipe.task == "reward" and found.file_head == recipe.head and not recipe.new_head and outputs != 1:
        raise InputError(
            f"`task` is reward, which trains one output, and {recipe.model} has a classifier of {outputs}; "
            "set `new_head = true` in the recipe to start with a new head."
        )
