"""What the readers are given: a folder, the model that it is compared with, inputs, a place to work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biject.checkpoint.reader import Reader
from biject.checkpoint.source import open_source
from biject.model import Model
from biject.verify.inputs import Case, probe_cases
from biject.verify.outputs import flatten

TEXTS = ("The quick brown fox jumps over the lazy dog.", "Paris is a capital.", "a", "12 of 7, and more: §1!")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One folder.

    Attributes:
        folder: The export.
        model: The model to compare with: the folder as Biject loads it, or the one it was exported from.
        work: An empty folder for what is written.
        env_dir: Where environments of readers are kept; None for the default.
        llama_cpp: Whether an environment with llama.cpp may be made.
        vllm: A wheel of vLLM, or None.
    """

    folder: Path
    model: Model
    work: Path
    env_dir: Path | None = None
    llama_cpp: bool = False
    vllm: Path | None = None

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """config.json."""
        return open_source(self.folder).config

    def parameters(self, names: Mapping[str, Any]) -> dict[str, Tensor]:
        """Our parameters by their names in a file; of twins those that it has; passed-through ones, too."""
        plan = self.model.provenance.plan
        values = dict(self.model.named_parameters(remove_duplicate=False))
        found = {
            disk: values[binding.memory].detach()
            for binding in (*plan.bindings, *plan.initialized)
            for disk in binding.disk
            if disk in names or disk == binding.disk[0]
        }
        source = open_source(self.folder)
        reader = Reader(source)
        return found | {name: reader.tensor(name) for name in plan.passthrough if name in source.tensors}

    def case(self, name: str) -> Case:
        """One of the calls that `verify-export` makes."""
        return {case.name: case for case in probe_cases(self.config, max_length=16)}[name]

    def outputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the model computes, in HF's layout (rows at padding, too)."""
        before, self.model.planner.layout = self.model.planner.layout, "padded"
        try:
            with torch.no_grad():
                return {name: tensors[0] for name, tensors in flatten(self.model(**inputs)).items()}
        finally:
            self.model.planner.layout = before
