"""The pictures of a recipe as samples, and what makes a model's inputs of them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from biject.checkpoint.source import Source
from biject.config.model import ProblemType
from biject.config.recipe import FinetuneRecipe
from biject.data.dataset import Built
from biject.data.features import build_dataset
from biject.data.imgcls import PictureDataset
from biject.data.picture_rows import load_pictures, validation_of
from biject.data.table import Rows
from biject.errors import ConfigError, InputError
from biject.fallback.identity import FallbackIdentity
from biject.identify import Identity
from biject.pictures.files import pillow
from biject.pictures.processor import ImageProcessor
from biject.pictures.settings import PREPROCESSOR, read_preprocessing
from biject.runs.samples import Part, Samples, label_way_out, split_off, with_way_out

_OF_TEXTS = (
    "text_column", "messages_column", "system_column", "sample_by", "tag_scheme", "label_all", "stride",
    "packing", "pieces", "end_of_text", "mask_share", "whole_words", "max_length", "truncate",
)  # fmt: skip
"""Settings that mean nothing for pictures."""


def image_processor(folder: Path, source: Source, identity: Identity | FallbackIdentity) -> ImageProcessor:
    """What makes a model's inputs of pictures, by preprocessor_config.json.

    Raises:
        ConfigError: There is none, or what it makes does not fit the model.
        InputError: The model does not read pictures.
    """
    patches = identity.config.embedding.patches
    if patches is None:
        raise InputError(f"{folder}: `{source.config.get('model_type')}` reads texts; imgcls needs pictures.")
    pillow()
    own = folder if (folder / PREPROCESSOR).is_file() else source.folder  # an adapter's base has it
    steps = read_preprocessing(own, source.config.get("model_type"))
    if steps.size not in (None, patches.image_size) and patches.other_sizes != "always":
        raise ConfigError(
            f"{own / PREPROCESSOR} makes pictures of {steps.size} pixels, height and width, and the model "
            f"reads {patches.image_size}: set `size` (or `crop_size`) to that."
        )
    return ImageProcessor(steps)


def read_picture_samples(
    recipe: FinetuneRecipe,
    processor: ImageProcessor,
    *,
    known: tuple[str, ...] | None,
    problem_type: ProblemType | None,
) -> Samples:
    """Find a recipe's pictures, and look at each.

    Args:
        recipe: Names folders, files and columns.
        processor: Of the model.
        known: Labels, where the model or the recipe fixes them.
        problem_type: The same for the kind of classification.

    Raises:
        InputError: What is wrong, in which file, row and column.
    """
    usual = {field.name: field.default for field in fields(FinetuneRecipe)}
    strange = [name for name in _OF_TEXTS if getattr(recipe, name) != usual[name]]
    if strange:
        raise InputError(f"{strange[0]} has no meaning for the task imgcls.")
    rows = _load(recipe, recipe.data, recipe.data_split)
    beside = None
    if recipe.eval_data is None and recipe.validation > 0:
        beside = validation_of(recipe.data)
    make = _Maker(recipe, processor, problem_type)
    if recipe.eval_data is None and beside is None:
        return _one_table(recipe, make, rows, known)
    eval_rows = _load(recipe, recipe.eval_data or beside or "", recipe.eval_split)
    built = make.build(rows, known)
    evaluation = make.build(eval_rows, built.labels or None, fixed=known is None, of=built)
    whole, held_out = _pictures(built), _pictures(evaluation).plain()
    return _samples(built, whole, held_out, rows, tuple(evaluation.report.lines()))


class _Maker:
    """Makes samples of rows, all in one way."""

    def __init__(
        self, recipe: FinetuneRecipe, processor: ImageProcessor, problem_type: ProblemType | None
    ) -> None:
        self.recipe, self.processor, self.problem_type = recipe, processor, problem_type

    def build(
        self, rows: Rows, labels: tuple[str, ...] | None, *, fixed: bool = False, of: Built | None = None
    ) -> Built:
        """Samples of a table; `of` is the training data's, whose kind of labels it has."""
        recipe = self.recipe
        column = recipe.label_column
        problem = self.problem_type if of is None else of.dataset.problem_type
        options: dict[str, Any] = {
            "image_column": recipe.image_column,
            "label_column": column,
            "labels": labels,
            "problem_type": problem,
            "label_separator": recipe.label_separator,
            "check_pictures": recipe.check_pictures,
            "augment": recipe.augment,
            "seed": recipe.train.seed,
            "known": {},
        }
        try:
            return build_dataset(
                rows, "imgcls", self.processor, skip_bad_rows=recipe.skip_bad_rows, **options
            )
        except InputError as error:
            raise label_way_out(error, recipe, own=labels is not None and not fixed) from error


def _load(recipe: FinetuneRecipe, source: str, split: str) -> Rows:
    try:
        return load_pictures(
            source,
            split=split,
            subset=recipe.data_subset,
            image_column=recipe.image_column,
            outside=recipe.outside_files,
            delimiter=recipe.delimiter,
            skip_bad_rows=recipe.skip_bad_rows,
        )
    except InputError as error:
        raise with_way_out(error) from error


def _one_table(recipe: FinetuneRecipe, make: _Maker, rows: Rows, known: tuple[str, ...] | None) -> Samples:
    """Labels are found in all rows; then some of them are held out."""
    built = make.build(rows, known)
    whole = _pictures(built)
    if not recipe.validation:
        return _samples(built, whole, None, rows, ())
    numbers = set(split_off(recipe, rows)[1].numbers)
    outside = [rows.numbers[row] in numbers for row in whole.rows]
    train = Part(whole, [i for i, out in enumerate(outside) if not out])
    held_out = Part(whole.plain(), [i for i, out in enumerate(outside) if out])
    line = f"{len(held_out)} samples, held out from {rows.source}"
    return _samples(built, train, held_out, rows, (line,))


def _samples(
    built: Built, train: PictureDataset | Part, held_out: Any, rows: Rows, eval_lines: tuple[str, ...]
) -> Samples:
    whole = _pictures(built)
    lines = tuple(built.report.lines())
    if isinstance(train, Part):
        lines = (*lines, f"{len(train)} samples to train on")
    twice = 0 if held_out is None else _seen_twice(train, held_out)
    if twice:
        eval_lines = (
            *eval_lines,
            f"{twice} of these pictures are among those to train on, byte for byte: scores say less",
        )
    return Samples(
        train=train,
        evaluation=held_out,
        labels=built.labels,
        problem_type=whole.problem_type,
        train_lines=lines,
        eval_lines=eval_lines,
        rows=rows,
        num_cut=0,
        data=whole,
    )


def _seen_twice(train: PictureDataset | Part, held_out: PictureDataset | Part) -> int:
    """Pictures of the evaluation whose file is one of training's, too."""
    known = set(_digests(train))
    return sum(digest in known for digest in _digests(held_out))


def _digests(samples: PictureDataset | Part) -> list[bytes]:
    if isinstance(samples, Part):
        assert isinstance(samples.whole, PictureDataset)
        return [samples.whole.digests[i] for i in samples.indices]
    return samples.digests


def _pictures(built: Built) -> PictureDataset:
    assert isinstance(built.dataset, PictureDataset)
    return built.dataset
