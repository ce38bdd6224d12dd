"""onnxruntime, by torch's exporter: of our own model, and of HF's with the export's weights."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biject.checkpoint.source import open_source
from biject.verify.hf import load_hf
from biject.verify.readers.job import Job
from biject.verify.readers.result import Missing, Reading, close

BOUND = 1e-5
"""Of the largest value: onnxruntime has kernels of its own. Seen: at most 5e-7 (12 models, float32)."""


class _Flat(nn.Module):
    """A model whose inputs have an order and whose outputs are a tuple of tensors."""

    def __init__(self, model: nn.Module, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs = model, inputs, outputs

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        found = self.model(**dict(zip(self.inputs, given, strict=True)))
        return tuple(getattr(found, name) for name in self.outputs)


def of_ours(job: Job) -> Reading:
    """Our model class itself, exported without a mask, which would decide its layout while it is traced."""
    inputs = job.case("alone").inputs
    job.model.planner.layout = "padded"
    return _read(job, job.model, inputs, "our model")


def of_hf(job: Job) -> Reading:
    """HF's class with the export's weights, with a mask; transformers is needed for it."""
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise Missing("transformers is not installed") from error
    loaded = load_hf(
        open_source(job.folder),
        class_name=job.model.family.heads[job.model.head_name].hf_class,
        dtype=torch.float32,
        attention=job.model.family.backend(job.config),
    )
    name = "alone" if job.model.family.reads_pictures else "right-padded"
    return _read(job, loaded.model, job.case(name).inputs, "HF's class on the export")


def _read(job: Job, model: nn.Module, inputs: Mapping[str, Tensor], what: str) -> Reading:
    try:
        import onnxruntime  # type: ignore[import-untyped, unused-ignore]
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError as error:
        raise Missing("pip install 'biject[readers]' brings onnxruntime and onnxscript") from error
    ours = job.outputs(inputs)
    path = job.work / "model.onnx"
    _export(_Flat(model, tuple(inputs), tuple(ours)).eval(), tuple(inputs.values()), path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    given: dict[str, Any] = {name: value.numpy() for name, value in zip(names, inputs.values(), strict=True)}
    found = dict(zip(ours, map(torch.from_numpy, session.run(None, given)), strict=True))
    if (mask := inputs.get("attention_mask")) is not None:
        ours, found = _at_real(ours, mask.bool()), _at_real(found, mask.bool())
    reader = f"onnxruntime {version('onnxruntime')}"
    return close(reader, ours, found, bound=BOUND, what=f"{', '.join(ours)} of {what}")


def _at_real(outputs: Mapping[str, Tensor], real: Tensor) -> dict[str, Tensor]:
    """Rows of real tokens: at padding a row may see nothing, which each program takes otherwise."""
    return {name: t[real] if t.shape[:2] == real.shape else t for name, t in outputs.items()}


def _export(model: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    """The exporter of torch, without its chatter."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for name in ("onnxscript", "torch.onnx"):
            logging.getLogger(name).setLevel(logging.ERROR)
        program = torch.onnx.export(model, inputs, dynamo=True, verbose=False)
        assert program is not None
        program.save(path)
