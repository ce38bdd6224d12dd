"""How a run's vectors are made, and what its data are read with: by the model's folder and the recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from biject.checkpoint.embedder import embedder_files
from biject.checkpoint.hub import resolve_folder
from biject.checkpoint.source import Source
from biject.config.recipe import FinetuneRecipe
from biject.errors import InputError
from biject.tasks.sentence import Sentence, read_sentence


def sentence_of(recipe: FinetuneRecipe) -> Sentence:
    """How a run's vectors are made: as the model's folder says, unless the recipe says otherwise.

    Raises:
        ConfigError: The folder has a module that is not computed.
        InputError: Its transformer is in a folder of its own.
    """
    settings = recipe.embed
    found = read_sentence(resolve_folder(recipe.model, revision=recipe.revision))
    if found is not None and found.folder:
        raise InputError(
            f"{recipe.model} keeps its transformer in {found.folder}: `biject.EmbeddingModel.from_pretrained"
            "(…).save_pretrained(…)` writes the folder as it is written today; train that one."
        )
    sentence = Sentence(stages=("normalize",)) if found is None else found
    if settings.pooling != "auto":
        sentence = replace(sentence, modes=(settings.pooling,))
    if settings.normalize is not None:
        others = tuple(stage for stage in sentence.stages if stage != "normalize")
        sentence = replace(sentence, stages=(*others, *(("normalize",) if settings.normalize else ())))
    named = {"query": settings.query_prompt, "document": settings.document_prompt}
    prompts = {**sentence.prompts, **{name: text for name, text in named.items() if text}}
    length = recipe.max_length or sentence.max_tokens
    return replace(sentence, prompts=prompts, max_tokens=length)


def data_options(recipe: FinetuneRecipe) -> dict[str, Any]:
    """What `build_embed` and `build_rerank` take beside columns and limits.

    Raises:
        InputError: Several columns of labels.
    """
    label = recipe.label_column
    if label is not None and not isinstance(label, str):
        raise InputError(f"label_column: the task {recipe.task} takes one column, found {len(label)}.")
    if recipe.task == "rerank":
        return {"probabilities": recipe.embed.rank_loss == "BinaryCrossEntropyLoss"}
    prompts = (recipe.embed.query_prompt, recipe.embed.document_prompt)
    return {"prompts": prompts, "lower_case": sentence_of(recipe).lower_case}


def left_out(recipe: FinetuneRecipe, source: Source) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """An embedder's files that a run's model does not take over, and a line for the user.

    A run of `embed` takes them over as they are where it makes vectors as they say, and else writes its own.
    """
    if recipe.task == "embed" and read_sentence(source.folder) == sentence_of(recipe):
        return (), ()
    left = embedder_files(source)
    named = left and recipe.task != "embed"
    return left, (f"LEFT OUT {', '.join(left)}: they are for embeddings",) if named else ()
