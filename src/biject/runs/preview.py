"""What a recipe would train on: its first samples, and the lines about its data; nothing is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from biject.config.recipe import FinetuneRecipe
from biject.data.imgcls import PictureDataset
from biject.data.preview import Preview, class_of, preview
from biject.environment import prepare as prepare_environment
from biject.errors import InputError
from biject.runs.prepare import Material, read_material
from biject.runs.samples import Part


@dataclass(frozen=True, kw_only=True)
class Previewed:
    """Some samples with their places, and what there is to know about all of them."""

    lines: tuple[str, ...]
    samples: tuple[tuple[str, Preview], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "lines": list(self.lines),
            "samples": [{"place": place, **sample.to_json()} for place, sample in self.samples],
        }


def preview_recipe(recipe: FinetuneRecipe, count: int) -> Previewed:
    """Read a recipe's data as training does, and show its first samples.

    Raises:
        BijectError: What cannot be used, where, and what to do.
    """
    if count < 1:
        raise InputError(f"--preview: expected at least 1 sample, found {count}.")
    prepare_environment()
    material = read_material(recipe)
    train, data = material.samples.train, material.samples.data
    chosen = train.indices[:count] if isinstance(train, Part) else range(min(count, len(train)))
    shown = [
        (material.samples.rows.place(data.table_row(index)), _sample(material, index)) for index in chosen
    ]
    return Previewed(lines=tuple(material.lines), samples=tuple(shown))


def _sample(material: Material, index: int) -> Preview:
    """Tokens and what is learned of them; of a picture its name and label."""
    data = material.samples.data
    if isinstance(data, PictureDataset):
        return Preview(tokens=(), label=class_of(data, data[index]["labels"]), name=_name(data, index))
    return preview(data, material.tokenizer, index)


def _name(data: PictureDataset, index: int) -> str:
    """Of a picture's file, which may be no Unicode."""
    return data.picture(index).name.encode(errors="backslashreplace").decode()
