"""`Subject`: the folder that is verified, and the models loaded from it, each at most once."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from biject.checkpoint.source import Source, open_source
from biject.errors import ConfigError
from biject.families import Family, family
from biject.identify import architecture_of, identify
from biject.nn.addresses import align
from biject.record import Record
from biject.verify.hf import HFModel, load_hf
from biject.verify.inputs import Case, limits, probe_cases
from biject.verify.prompt import prompt_case

if TYPE_CHECKING:
    from biject.model import Model

FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


ALLOWABLE = {
    "cast": "floating-point tensors of another dtype, with the source's values cast to it",
    "config": "other values in config.json",
    "files": "tokenizer, templates and other files added, changed or left out",
    "text": "config.json with the same values, written otherwise",
}
"""Differences from a source that a user may allow though the export does not declare them."""


class Subject:
    """What the levels look at.

    Attributes:
        export: The folder to verify.
        source: What it was made from, or None.
        prompt: A text to compare outputs on, or None.
        max_length: Cap on the longest input, for time.
        trained: The model that the folder was exported from, still in memory, or None.
        allowed: Differences from the source that the user allows undeclared: some of `ALLOWABLE`.
        loaded: HF's models by folder and class; subjects of the same folders may share them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        source: Path | None = None,
        prompt: str | None = None,
        max_length: int = 512,
        trained: Model | None = None,
        allowed: Collection[str] = (),
    ) -> None:
        self.export = open_source(folder)
        self.source = None if source is None else open_source(source)
        self.prompt = prompt
        self.max_length = max_length
        self.trained = trained
        self.allowed = frozenset(allowed)
        self.loaded: dict[tuple[Path, str, torch.dtype], HFModel] = {}

    @property
    def folder(self) -> Path:
        """The verified folder."""
        return self.export.folder

    @property
    def config(self) -> Mapping[str, Any]:
        """The export's `config.json`."""
        return self.export.config

    @cached_property
    def declared(self) -> Record:
        """What the export declares to be different from its source."""
        return Record.read(self.folder)

    @cached_property
    def family(self) -> Family:
        """By the export's `model_type`; `ConfigError` for one that Biject does not know."""
        return family(self.config.get("model_type"))

    @property
    def architecture(self) -> str | None:
        """The class that `architectures` names, if it names one."""
        return architecture_of(self.config)

    @cached_property
    def head(self) -> str:
        """The head that `architectures` names, else the one that the loaded model has."""
        found = self.family.head_of(self.architecture) if self.architecture else None
        return found or str(self.ours.head_name)

    @property
    def hf_class(self) -> str:
        """HF's class for the head, with which outputs are compared."""
        return self.family.require_head(self.head).hf_class

    @property
    def named_class(self) -> str:
        """HF's class to reload with: the one that `architectures` names."""
        return self.architecture or self.hf_class

    @cached_property
    def source_head(self) -> str:
        """The head of the source: the one that its class or, where it names none, its tensors show.

        Raises:
            BijectError: There is no source, or it is of no family that Biject knows.
        """
        if self.source is None:
            raise ConfigError("there is no source, so it has no head.")
        from biject.pretrained import same_tensors

        where, same = str(self.source.folder), same_tensors(self.source)
        return identify(self.source_config, self.source.tensors, same=same, where=where).file_head

    @property
    def source_config(self) -> Mapping[str, Any]:
        """The source's `config.json`, of the export's family where it names none; empty without a source."""
        named = {"model_type": self.config.get("model_type")}
        return {} if self.source is None else {**named, **self.source.config}

    @property
    def source_class(self) -> str:
        """HF's class for the source: that of its own head."""
        return self.family.require_head(self.source_head).hf_class

    @cached_property
    def dtype(self) -> torch.dtype:
        """What every side computes in: the widest floating-point dtype of the file, as Biject loads it."""
        return widest_dtype(self.export)

    @cached_property
    def ours(self) -> Model:
        """The export as Biject loads it, in eval mode."""
        from biject.pretrained import load

        resolved = resolved_by_tensors(self.export)
        model = load(self.folder, dtype=self.dtype, layout="padded", legacy=resolved.get("legacy"))
        align(model)
        return model

    def theirs(self, *, class_name: str | None = None) -> HFModel:
        """The export as HF loads it."""
        return self._load(self.export, class_name or self.hf_class)

    def their_source(self, *, class_name: str, dtype: torch.dtype | None = None) -> HFModel:
        """The source as HF loads it, in the export's dtype where none is given."""
        if self.source is None:
            raise ValueError("there is no source to load")
        return self._load(self.source, class_name, dtype)

    def their_source_as_stored(self, *, class_name: str) -> HFModel:
        """The source as HF loads it, matrices in the memory order of a `.bin`; not kept."""
        assert self.source is not None
        return load_hf(
            self.source,
            class_name=class_name,
            attention=self.family.backend(self.source.config),
            dtype=self.dtype,
            overrides=resolved_by_tensors(self.source),
            as_stored=True,
        )

    def _load(self, source: Source, class_name: str, dtype: torch.dtype | None = None) -> HFModel:
        dtype = dtype or self.dtype
        key = (source.folder, class_name, dtype)
        if key not in self.loaded:
            self.loaded[key] = load_hf(
                source,
                class_name=class_name,
                attention=self.family.backend(source.config),
                dtype=dtype,
                overrides=resolved_by_tensors(source),
            )
        return self.loaded[key]

    @cached_property
    def cases(self) -> list[Case]:
        """The built-in calls, then the prompt's."""
        cases = probe_cases(self.config, max_length=self.max_length)
        if self.prompt is not None:
            vocab_size = limits(self.config).vocab_size
            cases.append(prompt_case(self.folder, self.prompt, vocab_size=vocab_size))
        return cases

    def release_source(self) -> None:
        """Let go of HF's copies of the source, which later levels do not need."""
        for key in [key for key in self.loaded if self.source and key[0] == self.source.folder]:
            if key[0] != self.folder:
                del self.loaded[key]


def widest_dtype(source: Source) -> torch.dtype:
    """The dtype wide enough for all floating-point numbers of a folder."""
    found = {FLOATS[info.dtype] for info in source.tensors.values() if info.dtype in FLOATS}
    if not found:
        raise ConfigError(f"{source.folder} has no floating-point tensor, so there is nothing to compute.")
    return functools.reduce(torch.promote_types, found)


def resolved_by_tensors(source: Source) -> dict[str, bool]:
    """Config keys that the tensors decide: DeBERTa's `legacy`, by which of its MLM heads the file has."""
    if source.config.get("model_type") != "deberta-v2":
        return {}
    old = any(name.startswith("cls.predictions.") for name in source.tensors)
    new = any(name.startswith("lm_predictions.") for name in source.tensors)
    return {"legacy": old} if old != new else {}


def inputs_for(model: nn.Module, case: Case) -> dict[str, torch.Tensor]:
    """A case's arguments, floats in the model's dtype."""
    dtype = next(model.parameters()).dtype
    return {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in case.inputs.items()
    }
