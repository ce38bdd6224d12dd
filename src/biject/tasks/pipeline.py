"""`biject.pipeline`: a folder's model and tokenizer, ready for the task that its head is for."""

from __future__ import annotations

from pathlib import Path

import torch

from biject.checkpoint.hub import resolve_folder
from biject.errors import ConfigError, InputError
from biject.pretrained import load
from biject.tasks.answer import Answer
from biject.tasks.classify import Classify
from biject.tasks.common import BATCH_SIZE, Task, usable_device
from biject.tasks.embed import Embed
from biject.tasks.fill_mask import FillMask
from biject.tasks.sentence import read_sentence
from biject.tasks.tag import Tag
from biject.tokenization.fit import check_fits
from biject.tokenization.tokenizer import load_tokenizer

TASKS: dict[str, type[Task]] = {task.name: task for task in (FillMask, Classify, Tag, Answer, Embed)}
_BY_HEAD = {task.head: task for task in TASKS.values()}


def pipeline(
    path: str | Path,
    *,
    task: str = "auto",
    revision: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "cpu",
    batch_size: int = BATCH_SIZE,
) -> Task:
    """Load a checkpoint with its tokenizer for a task; the result is called with texts.

    Args:
        path: a folder, or a repository on the Hub.
        task: `fill-mask`, `classify`, `tag`, `answer` or `embed`; `auto` is what the head is for.
        revision: branch, tag or commit of a repository.
        dtype: `auto` keeps the file's; else a torch dtype or its name.
        device: where the model runs.
        batch_size: how many texts (or windows of texts) run together.

    Raises:
        CheckpointError, ConfigError, WeightsError: the model or its tokenizer cannot be used.
        InputError: an argument is out of range.
    """
    if task != "auto" and task not in TASKS:
        raise InputError(f"`task` is auto or one of {', '.join(TASKS)}; found {task!r}.")
    place = usable_device(device)
    folder = resolve_folder(path, revision=revision)
    sentence = read_sentence(folder) if task in ("auto", "embed") else None
    if sentence is not None:
        folder = folder / sentence.folder
    head = "auto" if task == "auto" else TASKS[task].head
    model = load(folder, head="base" if sentence is not None else head, dtype=dtype, device=place)
    if head not in ("auto", "base", model.provenance.file_head):
        raise InputError(
            f"{folder}: the head is `{model.provenance.file_head}`; the task {task} needs `{head}`."
        )
    tokenizer = load_tokenizer(folder, model.hf_config)
    check_fits(tokenizer, {"vocab_size": model.config.vocab_size})
    chosen = _BY_HEAD.get(model.head_name)
    if chosen is None and model.head_name == "causal":
        raise ConfigError(
            f"{folder}: a causal language model continues texts: `biject generate {folder} PROMPT`, or "
            "`generate` of AutoModelForCausalLM.from_pretrained(…). The task embed works with it, too."
        )
    if chosen is None:
        raise ConfigError(
            f"{folder}: there is no task for the head `{model.head_name}`; the task embed works without it."
        )
    if chosen is Embed:
        return Embed(model, tokenizer, batch_size=batch_size, sentence=sentence)
    return chosen(model, tokenizer, batch_size=batch_size)
