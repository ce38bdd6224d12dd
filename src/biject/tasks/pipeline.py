"""`biject.pipeline`: a folder's model and tokenizer, ready for the task that its head is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from biject.checkpoint.hub import resolve_folder
from biject.config.recipe import Backend
from biject.errors import ConfigError, InputError
from biject.fallback.loading import load_fallback
from biject.fallback.model import FallbackModel
from biject.fallback.tokenizer import load_fallback_tokenizer
from biject.model import Model
from biject.pictures.files import pillow
from biject.pictures.processor import ImageProcessor
from biject.pictures.settings import PREPROCESSOR, read_preprocessing
from biject.pretrained import PretrainedModel, load
from biject.tasks.answer import Answer
from biject.tasks.classify import Classify
from biject.tasks.classify_pictures import HEADS, ClassifyPictures
from biject.tasks.common import BATCH_SIZE, Task, usable_device
from biject.tasks.embed import Embed
from biject.tasks.fill_mask import FillMask
from biject.tasks.sentence import Sentence, read_sentence
from biject.tasks.tag import Tag
from biject.tokenization.fit import check_fits
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

_OF_TEXTS = (FillMask, Classify, Tag, Answer, Embed)
TASKS: dict[str, type[Task]] = {task.name: task for task in (*_OF_TEXTS, ClassifyPictures)}
_BY_HEAD: dict[str, type[Task]] = {task.head: task for task in _OF_TEXTS}


_HF_NAMES = {
    "text-classification": "classify",
    "sentiment-analysis": "classify",
    "token-classification": "tag",
    "ner": "tag",
    "question-answering": "answer",
    "feature-extraction": "embed",
    "fill-mask": "fill-mask",
    "image-classification": "classify-pictures",
}
"""Tasks as transformers calls them."""


def pipeline(
    path: str | Path | None = None,
    model: str | Path | PretrainedModel | FallbackModel | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    task: str = "auto",
    revision: str | None = None,
    family: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "cpu",
    batch_size: int = BATCH_SIZE,
    backend: Backend = "biject",
) -> Task:
    """Load a checkpoint with its tokenizer for a task; the result is called with texts, or with pictures.

    Args:
        path: a folder, or a repository on the Hub; a task where `model` is given, as in transformers:
            ``pipeline("text-classification", model=folder)``.
        model: a folder, a repository on the Hub, or a model that is loaded: it is used as it is.
        tokenizer: instead of the folder's own.
        task: `fill-mask`, `classify`, `tag`, `answer`, `embed` or `classify-pictures`, or as transformers
            calls them; `auto` is what the head is for.
        revision: branch, tag or commit of a repository.
        family: the `model_type` of a folder whose config.json names none.
        dtype: `auto` keeps the file's; else a torch dtype or its name.
        device: where the model runs.
        batch_size: how many texts (or windows of texts) run together.
        backend: `hf` computes with transformers' own class, for any of its architectures.

    Raises:
        CheckpointError, ConfigError, WeightsError: the model or its tokenizer cannot be used.
        InputError: an argument is out of range.
    """
    if path is None and model is None:
        raise InputError("`pipeline` needs a folder, or a repository on the Hub: expected `path` or `model`.")
    if model is not None and path is not None:
        task = str(path)
    task = _HF_NAMES.get(task, task)
    if task != "auto" and task not in TASKS:
        raise InputError(f"`task` is auto or one of {', '.join((*TASKS, *_HF_NAMES))}; found {task!r}.")
    if family is not None and (backend == "hf" or isinstance(model, FallbackModel | PretrainedModel)):
        raise ConfigError(
            "`family` is for a folder that Biject's own classes load: leave it out with a loaded model or "
            "backend='hf'."
        )
    if isinstance(model, FallbackModel):
        return _of_fallback(model, tokenizer, batch_size)
    if isinstance(model, PretrainedModel):
        made = model.tokenizer if isinstance(model.tokenizer, Tokenizer) else None
        return _of_model(model, tokenizer or made, task=task, batch_size=batch_size)
    place = usable_device(device)
    named = path if model is None else model
    assert named is not None
    folder = resolve_folder(named, revision=revision)
    sentence = read_sentence(folder) if task in ("auto", "embed") else None
    if sentence is not None:
        folder = folder / sentence.folder
    head = "auto" if task == "auto" else TASKS[task].head
    wanted = "base" if sentence is not None else head
    if task == ClassifyPictures.name:
        wanted = "auto"
    if backend == "hf":
        fallback = load_fallback(folder, head=wanted, dtype=dtype, device=place)
        return _of_fallback(fallback, tokenizer, batch_size, sentence)
    loaded = load(folder, head=wanted, dtype=dtype, device=place, family=family)
    if _reads_pictures(loaded) or task == ClassifyPictures.name:
        return _of_pictures(loaded, folder, batch_size=batch_size)
    if head not in ("auto", "base", loaded.provenance.file_head):
        raise InputError(
            f"{folder}: the head is `{loaded.provenance.file_head}`; the task {task} needs `{head}`."
        )
    tokenizer = tokenizer or load_tokenizer(folder, loaded.hf_config)
    check_fits(tokenizer, {"vocab_size": loaded.config.vocab_size})
    return _made(loaded, tokenizer, where=folder, batch_size=batch_size, sentence=sentence)


def _of_fallback(
    loaded: FallbackModel, tokenizer: Tokenizer | None, batch_size: int, sentence: Sentence | None = None
) -> Task:
    """The task of a model of transformers' own class, which is called as ours are."""
    folder, head = loaded.source.folder, loaded.head_name
    model: Any = loaded.eval()
    if loaded.config.embedding.patches is not None:
        return _of_pictures(model, folder, batch_size=batch_size)
    made = tokenizer or load_fallback_tokenizer(folder, loaded.source.config)
    if loaded.config.vocab_size:  # CANINE has no table of tokens
        check_fits(made, {"vocab_size": loaded.config.vocab_size})
    if sentence is None and head == "base":
        sentence = read_sentence(folder)
    return _made(model, made, where=folder, batch_size=batch_size, sentence=sentence)


def _of_model(model: PretrainedModel, tokenizer: Tokenizer | None, *, task: str, batch_size: int) -> Task:
    """The task of a model that is loaded, with the tokenizer of its source unless another one is given."""
    folder = model.source.folder
    if _reads_pictures(model) or task == ClassifyPictures.name:
        return _of_pictures(model.eval(), folder, batch_size=batch_size)
    needed = "auto" if task == "auto" else TASKS[task].head
    if needed not in ("auto", model.head_name):
        raise InputError(
            f"the model's head is `{model.head_name}`; task {task} needs `{needed}`: load it with that head."
        )
    tokenizer = tokenizer or load_tokenizer(folder, model.hf_config)
    check_fits(tokenizer, {"vocab_size": model.config.vocab_size})
    sentence = read_sentence(folder) if model.head_name == "base" else None
    return _made(model.eval(), tokenizer, where=folder, batch_size=batch_size, sentence=sentence)


def _reads_pictures(model: Model) -> bool:
    return model.config.embedding.patches is not None


def _of_pictures(model: Model, folder: Path, *, batch_size: int) -> ClassifyPictures:
    """The task of a model of pictures.

    Raises:
        ConfigError: Its head classifies nothing.
        InputError: It reads texts.
    """
    if not _reads_pictures(model):
        raise InputError(f"{folder}: the model reads texts; {ClassifyPictures.name} needs one of pictures.")
    if model.head_name not in HEADS:
        raise ConfigError(
            f"{folder}: there is no task for the head `{model.head_name}` of a model of pictures; train a "
            "classifier with `biject finetune --task imgcls`."
        )
    pillow()
    own = folder if (folder / PREPROCESSOR).is_file() else model.source.folder
    steps = read_preprocessing(own, model.source.config.get("model_type") or model.family.model_type)
    return ClassifyPictures(model, ImageProcessor(steps), batch_size=batch_size)


def _made(
    loaded: Model, tokenizer: Tokenizer, *, where: Path, batch_size: int, sentence: Sentence | None
) -> Task:
    """The task of the model's head."""
    chosen = _BY_HEAD.get(loaded.head_name)
    if chosen is None and loaded.head_name == "causal":
        raise ConfigError(
            f"{where}: a causal language model continues texts: `biject generate {where} PROMPT`, or "
            "`generate` of AutoModelForCausalLM.from_pretrained(…). The task embed works with it, too."
        )
    if chosen is None:
        raise ConfigError(
            f"{where}: there is no task for the head `{loaded.head_name}`; the task embed works without it."
        )
    if chosen is Embed:
        return Embed(loaded, tokenizer, batch_size=batch_size, sentence=sentence)
    return chosen(loaded, tokenizer, batch_size=batch_size)
