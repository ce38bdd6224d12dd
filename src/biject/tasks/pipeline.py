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


_HF_NAMES = {
    "text-classification": "classify",
    "sentiment-analysis": "classify",
    "token-classification": "tag",
    "ner": "tag",
    "question-answering": "answer",
    "feature-extraction": "embed",
    "fill-mask": "fill-mask",
}
"""Tasks as transformers calls them."""


def pipeline(
    path: str | Path,
    model: str | Path | None = None,
    *,
    task: str = "auto",
    revision: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "cpu",
    batch_size: int = BATCH_SIZE,
) -> Task:
    """Load a checkpoint with its tokenizer for a task; the result is called with texts.

    Args:
        path: a folder, or a repository on the Hub; a task where `model` is given, as in transformers:
            ``pipeline("text-classification", model=folder)``.
        model: a folder, or a repository on the Hub.
        task: `fill-mask`, `classify`, `tag`, `answer` or `embed`, or as transformers calls them; `auto` is
            what the head is for.
        revision: branch, tag or commit of a repository.
        dtype: `auto` keeps the file's; else a torch dtype or its name.
        device: where the model runs.
        batch_size: how many texts (or windows of texts) run together.

    Raises:
        CheckpointError, ConfigError, WeightsError: the model or its tokenizer cannot be used.
        InputError: an argument is out of range.
    """
    if model is not None:
        path, task = model, str(path)
    task = _HF_NAMES.get(task, task)
    if task != "auto" and task not in TASKS:
        raise InputError(f"`task` is auto or one of {', '.join((*TASKS, *_HF_NAMES))}; found {task!r}.")
    place = usable_device(device)
    folder = resolve_folder(path, revision=revision)
    sentence = read_sentence(folder) if task in ("auto", "embed") else None
    if sentence is not None:
        folder = folder / sentence.folder
    head = "auto" if task == "auto" else TASKS[task].head
    loaded = load(folder, head="base" if sentence is not None else head, dtype=dtype, device=place)
    if head not in ("auto", "base", loaded.provenance.file_head):
        raise InputError(
            f"{folder}: the head is `{loaded.provenance.file_head}`; the task {task} needs `{head}`."
        )
    tokenizer = load_tokenizer(folder, loaded.hf_config)
    check_fits(tokenizer, {"vocab_size": loaded.config.vocab_size})
    chosen = _BY_HEAD.get(loaded.head_name)
    if chosen is None and loaded.head_name == "causal":
        raise ConfigError(
            f"{folder}: a causal language model continues texts: `biject generate {folder} PROMPT`, or "
            "`generate` of AutoModelForCausalLM.from_pretrained(…). The task embed works with it, too."
        )
    if chosen is None:
        raise ConfigError(
            f"{folder}: there is no task for the head `{loaded.head_name}`; the task embed works without it."
        )
    if chosen is Embed:
        return Embed(loaded, tokenizer, batch_size=batch_size, sentence=sentence)
    return chosen(loaded, tokenizer, batch_size=batch_size)
