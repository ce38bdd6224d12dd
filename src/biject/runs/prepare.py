"""From a recipe to what training needs: model, tokenizer, samples. Nothing is written here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import torch

from biject.adapters.load import head_for
from biject.checkpoint.adapter import base_folder, is_adapter, read_adapter
from biject.checkpoint.hub import resolve_folder
from biject.checkpoint.source import Source, open_source
from biject.config.common import label_names
from biject.config.recipe import FinetuneRecipe, FinetuneTask
from biject.config.tasks import EMBEDDINGS
from biject.data.pairs import PairCollator, single_texts
from biject.data.picture_batch import PictureCollator
from biject.data.qa import QaDataset
from biject.data.rerank import without_truth
from biject.errors import ConfigError, InputError
from biject.fallback.gains import lines as gains_lines
from biject.fallback.identity import FallbackIdentity
from biject.fallback.model import FallbackModel
from biject.fallback.tokenizer import load_fallback_tokenizer
from biject.identify import Identity, identify
from biject.inspection import identify_source
from biject.pictures.processor import ImageProcessor
from biject.pretrained import PretrainedModel, load, same_tensors
from biject.runs.adapter import add_adapter, quantised
from biject.runs.cautions import cautions
from biject.runs.cell import check_cell, device_name
from biject.runs.collators import MakeBatch, collator_of
from biject.runs.embeddings import Finish, check_rank_head, metric_names_of, over_columns
from biject.runs.fallback import check_fallback, check_sample_needs, fallback_model, opened_fallback
from biject.runs.objective import Objective
from biject.runs.pictures import image_processor, read_picture_samples
from biject.runs.preferences import check_pair_head, over_pairs
from biject.runs.samples import Samples, read_samples
from biject.runs.sentences import left_out, sentence_of
from biject.tasks.common import max_tokens, usable_device
from biject.tasks.metrics import metric_names, metrics_for
from biject.tasks.schemes import check_scheme
from biject.tokenization.files import TEMPLATE
from biject.tokenization.fit import check_fits
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer
from biject.train import ranks
from biject.train.trainer import Trainer

Found = Identity | FallbackIdentity
Trained = PretrainedModel | FallbackModel
"""The second of each: of `backend = "hf"`."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a run works with.

    Attributes:
        model: With the task's head, parameters in float32.
        inputs: The model's tokenizer, or what makes its inputs of pictures.
        samples: To train on and to evaluate on.
        collate: Makes batches of samples.
        objective: What is minimised, where that is not the head's own loss.
        finish: Gives further files of the trained model, where there are some.
        lines: Lines for the user about data and head.
        extra: Files to write beside the model, by name: the chat template that conversations were rendered
            by, where the model's folder had none.
        without: Assets of the model's folder that are not written.
    """

    model: Trained
    inputs: Tokenizer | ImageProcessor
    samples: Samples
    collate: MakeBatch
    lines: tuple[str, ...]
    extra: Mapping[str, bytes]
    without: tuple[str, ...]
    objective: Objective | None = None
    finish: Finish | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """Of a model of texts."""
        assert isinstance(self.inputs, Tokenizer)
        return self.inputs

    @property
    def proof_samples(self) -> Sequence[Any]:
        """What is computed on both sides of a proof."""
        samples = single_texts(self.samples.evaluation or self.samples.train, 64)
        return without_truth(samples, 256) if self.finish is not None else samples

    def trainer(self, recipe: FinetuneRecipe, *, over: Sequence[Any] | None = None, **hooks: Any) -> Trainer:
        """A trainer with the recipe's settings and its task's metrics.

        Args:
            recipe: The run.
            over: The samples that are evaluated, where they are not those of the run.
            hooks: Further arguments of `Trainer`.
        """
        samples = self.samples
        if self.objective is not None:
            own = self.objective
            hooks |= {"step": own.step, "weigh": own.weigh, "metrics": own.metrics}
        evaluated = samples.evaluation if over is None else over
        questions = evaluated if isinstance(evaluated, QaDataset) else None
        usual: dict[str, Any] = {
            "metrics": lambda: metrics_for(
                recipe.task,
                labels=samples.labels,
                problem_type=samples.problem_type,
                questions=questions,
                tag_scheme=recipe.tag_scheme,
            )
        }
        return Trainer.for_head(
            self.model,
            config=recipe.train,
            sync=recipe.sync,
            collate=self.collate,
            without=self.without,
            **usual | hooks,
        )


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a recipe names, read: the folder (an adapter's has its base as source) and its identity by config,
    tokenizer (or what makes inputs of pictures) and samples.
    """

    folder: Path
    source: Source
    identity: Found
    inputs: Tokenizer | ImageProcessor
    samples: Samples

    @property
    def tokenizer(self) -> Tokenizer:
        """Of a model of texts."""
        assert isinstance(self.inputs, Tokenizer)
        return self.inputs

    def collator(self, recipe: FinetuneRecipe) -> MakeBatch:
        """What makes batches of the samples."""
        config = self.identity.config.embedding
        if isinstance(self.inputs, ImageProcessor):
            assert config.patches is not None
            return PictureCollator(
                processor=self.inputs, channels=config.patches.num_channels, augment=recipe.augment
            )
        return collator_of(recipe.task, self.inputs, self.identity.config)

    @property
    def lines(self) -> list[str]:
        """Lines for the user about the data."""
        lines = [f"DATA train: {line}" for line in self.samples.train_lines]
        return [*lines, *(f"DATA evaluation: {line}" for line in self.samples.eval_lines)]


def prepare(recipe: FinetuneRecipe) -> Prepared:
    """Load and check everything that the recipe names.

    Raises:
        BijectError: What cannot be used, where, and what to do.
    """
    (check_cell if recipe.backend == "biject" else check_fallback)(recipe)
    device = usable_device(device_name(recipe), place=ranks.own_device)  # of several GPUs that of this rank
    material = read_material(recipe)
    samples, notes = material.samples, cautions(recipe.task, material.samples)
    _check_metric(recipe, samples)
    model, head_line = _with_head(recipe, material.folder, material.identity, samples)
    adapter_lines = () if recipe.method == "full" else (add_adapter(model, recipe),)
    model.to(device)
    collate = material.collator(recipe)
    objective: Objective | None = None
    pair_lines: tuple[str, ...] = ()
    if isinstance(collate, PairCollator):
        assert isinstance(model, PretrainedModel)  # the other back end has no such tasks
        objective, samples, pair_lines = over_pairs(recipe, model, material.tokenizer, samples, collate)
    finish: Finish | None = None
    if recipe.task in EMBEDDINGS:
        assert isinstance(model, PretrainedModel)
        objective, finish, pair_lines = over_columns(recipe, model, material.tokenizer, samples)
    left, left_lines = left_out(recipe, material.source)
    made = getattr(samples.data, "chat_template", None)
    return Prepared(
        model=model,
        inputs=material.inputs,
        samples=samples,
        collate=collate,
        lines=(*material.lines, *notes, head_line, *adapter_lines, *pair_lines, *left_lines, *_gains(model)),
        extra={} if made is None else {TEMPLATE: made.encode()},
        without=left,
        objective=objective,
        finish=finish,
    )


def read_material(recipe: FinetuneRecipe) -> Material:
    """Read data and tokenizer as training does, without the head to train.

    Raises:
        BijectError: What cannot be used, where, and what to do.
    """
    folder, source, identity = _opened(recipe)
    if isinstance(identity, Identity):
        check_pair_head(recipe, identity)
        check_rank_head(recipe, identity)
    known, problem = _known_labels(recipe, identity), _problem(recipe, identity)
    if recipe.task == "imgcls":
        processor = image_processor(folder, source, identity)
        found = read_picture_samples(recipe, processor, known=known, problem_type=problem)
        return Material(folder=folder, source=source, identity=identity, inputs=processor, samples=found)
    if isinstance(identity, FallbackIdentity):
        tokenizer = load_fallback_tokenizer(folder, source.config)
        check_sample_needs(recipe, identity, tokenizer)
    else:
        tokenizer = load_tokenizer(folder, source.config)
    if identity.config.vocab_size:  # CANINE has no table of tokens
        check_fits(tokenizer, {"vocab_size": identity.config.vocab_size})
    samples = read_samples(
        recipe,
        tokenizer,
        limit=_limit(recipe, identity, tokenizer),
        known=known,
        problem_type=problem,
    )
    return Material(folder=folder, source=source, identity=identity, inputs=tokenizer, samples=samples)


def read_identity(recipe: FinetuneRecipe) -> Found:
    """What the recipe's model is, by its config and tensors."""
    return _opened(recipe)[2]


def _opened(recipe: FinetuneRecipe) -> tuple[Path, Source, Found]:
    """A recipe's folder, the checkpoint in it, and what it is to the recipe's back end."""
    if recipe.backend == "hf":
        return opened_fallback(resolve_folder(recipe.model, revision=recipe.revision), task=recipe.task)
    return opened(recipe.model, revision=recipe.revision)


def opened(model: str, *, revision: str | None = None) -> tuple[Path, Source, Identity]:
    """A model's folder, the checkpoint in it (of an adapter, its base), and what it is.

    Raises:
        BijectError: It cannot be used.
    """
    folder = resolve_folder(model, revision=revision)
    if not is_adapter(folder):
        source = open_source(folder)
        return folder, source, identify_source(source)
    stored = read_adapter(folder)
    source = open_source(base_folder(stored))
    head, new = head_for(stored, source.config, source.tensors, "auto", None, asked=False)
    same = same_tensors(source)
    found = identify(source.config, source.tensors, same=same, head=head, new_head=new, where=str(folder))
    return folder, source, replace(found, file_head=found.head)


def task_of(model: str, *, revision: str | None = None, backend: str = "biject") -> FinetuneTask:
    """The task that a checkpoint's own head is for.

    Raises:
        InputError: Its head is none that can be fine-tuned.
    """
    if backend == "hf":
        head = opened_fallback(resolve_folder(model, revision=revision), task=None)[2].head
    else:
        head = opened(model, revision=revision)[2].head
    for task in get_args(FinetuneTask):
        if task == head:
            return cast("FinetuneTask", task)
    raise InputError(
        f"finetune needs --task, as a flag or in a --recipe: {model} has the head `{head}`; there are "
        f"{', '.join(get_args(FinetuneTask))}."
    )


def has_head(recipe: FinetuneRecipe, found: Found) -> bool:
    """Whether the checkpoint's own head is trained; a model of embeddings has none."""
    return recipe.head == "base" or (found.file_head == recipe.head and not recipe.new_head)


def _own_labels(found: Found) -> tuple[str, ...]:
    """Names of the outputs of the checkpoint's own head, as HF names them where config.json does not."""
    return tuple(label_names(found.hf_config, found.config.head.num_labels))


def _known_labels(recipe: FinetuneRecipe, found: Found) -> tuple[str, ...] | None:
    """The classes, where they are fixed before the data are read."""
    if recipe.task not in ("seqcls", "tokcls", "imgcls"):
        if recipe.labels:
            raise InputError(f"`labels` have no meaning for the task {recipe.task}.")
        return None
    if not has_head(recipe, found):
        return recipe.labels or None
    own = _own_labels(found)
    if recipe.labels and recipe.labels != own:
        raise InputError(
            f"`labels` are {', '.join(recipe.labels[:10])}, the model's head has {', '.join(own[:10])}; "
            "leave them out, or set `new_head = true` in the recipe to start with a new head."
        )
    return own


def _problem(recipe: FinetuneRecipe, found: Found) -> Any:
    """The kind of classification, if it is fixed before the data are read."""
    own = found.config.head.problem_type if has_head(recipe, found) else None
    if recipe.problem_type is not None and recipe.task not in ("seqcls", "imgcls"):
        raise InputError(f"`problem_type` has no meaning for the task {recipe.task}.")
    if own is not None and recipe.problem_type not in (None, own):
        raise InputError(
            f"`problem_type` is {recipe.problem_type}, the model's head is for {own}; set `new_head = true` "
            "in the recipe to start with a new head."
        )
    return recipe.problem_type or own


def _limit(recipe: FinetuneRecipe, found: Found, tokenizer: Tokenizer) -> int | None:
    """Tokens a sample may have."""
    most = max_tokens(found.config, tokenizer)
    if recipe.task == "embed" and recipe.max_length is None:
        own = sentence_of(recipe).max_tokens
        return own if most is None or own is None else min(own, most)
    if recipe.max_length is not None and most is not None and recipe.max_length > most:
        raise InputError(
            f"max_length is {recipe.max_length}; model and tokenizer take at most {most} tokens."
        )
    if recipe.max_length is None and recipe.task == "qa":
        return None if most is None else min(most, 384)
    return most if recipe.max_length is None else recipe.max_length


def _check_metric(recipe: FinetuneRecipe, samples: Samples) -> None:
    if recipe.tag_scheme is not None:
        check_scheme(samples.labels, recipe.tag_scheme)
    if recipe.task in EMBEDDINGS:
        names = metric_names_of(recipe, samples)
    else:
        names = metric_names(recipe.task, labels=samples.labels, problem_type=samples.problem_type)
    metric = recipe.train.metric.removeprefix("-")
    if metric not in names:
        raise ConfigError(
            f"metric: {metric!r} is not computed for {recipe.task}; there are {', '.join(names)}."
        )
    if recipe.train.patience and samples.evaluation is None:
        raise ConfigError("patience needs rows to evaluate on: give eval_data, or a validation share over 0.")


def first_model(recipe: FinetuneRecipe, samples: Samples) -> Trained:
    """The model as it was before training, on the CPU, mapped."""
    folder, _, identity = _opened(recipe)
    model, _ = _with_head(recipe, folder, identity, samples)
    if recipe.method != "full":
        add_adapter(model, recipe)
    return model


def _with_head(
    recipe: FinetuneRecipe, folder: Path, identity: Found, samples: Samples
) -> tuple[Trained, str]:
    """The model to train, with the checkpoint's own head or a new one with the data's labels; and a line."""
    torch.manual_seed(recipe.train.seed)
    own = has_head(recipe, identity)
    options: dict[str, Any] = {"dtype": torch.float32, "numerics": recipe.numerics, **quantised(recipe)}
    new: dict[str, Any] = {} if own else {"new_head": new_head_of(samples)}
    loaded: Trained
    if isinstance(identity, FallbackIdentity):
        loaded = fallback_model(recipe, folder, **new)
        names = ", ".join(loaded.fresh)
    else:
        loaded = load(folder, head=recipe.head, **options, **new)
        names = ", ".join(loaded.provenance.initialized)
    if own and recipe.head == "base":
        return loaded, "HEAD none: vectors are made of the model's rows"
    if own:
        return loaded, "HEAD the checkpoint's own"
    labels = f"; labels {', '.join(samples.labels[:20])}" if samples.labels else ""
    more = f" and {len(samples.labels) - 20} more" if len(samples.labels) > 20 else ""
    return loaded, f"HEAD new, random at first: {names}{labels}{more}"


def _gains(model: Trained) -> tuple[str, ...]:
    """What transformers' model has not of ours."""
    return gains_lines(model) if isinstance(model, FallbackModel) else ()


def new_head_of(samples: Samples) -> dict[str, Any]:
    """What a new head for these samples is made of."""
    new: dict[str, Any] = {}
    if samples.labels:
        new["labels"] = list(samples.labels)
    if samples.problem_type is not None:
        new["problem_type"] = samples.problem_type
    return new
