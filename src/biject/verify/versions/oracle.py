"""What one release of transformers writes and computes: a program of its own, run by that release's Python.

`python -I oracle.py JOBS.json` does the jobs of a file in their order and writes `DONE n` after each. It
imports torch, safetensors and transformers, and nothing of Biject, whose own libraries that environment has
not. Jobs are `make` (a checkpoint with random values that depend on the tensors' names alone) and `compute`
(outputs and gradients of a folder).
"""

from __future__ import annotations

import inspect
import json
import math
import sys
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SEED = 20
ABSENT = "absent"
"""The release has no such class or architecture."""


def main(path: str) -> None:
    """Do the jobs of a file."""
    jobs = json.loads(Path(path).read_text(encoding="utf-8"))
    torch.set_num_threads(jobs["threads"])
    warnings.simplefilter("ignore")
    import transformers

    transformers.utils.logging.set_verbosity(50)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    _write(Path(jobs["about"]), {"transformers": transformers.__version__, "torch": str(torch.__version__)})
    for number, job in enumerate(jobs["jobs"]):
        try:
            found = {"make": make, "compute": compute}[job["do"]](transformers, job)
        except Exception as error:  # the next job must run
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"}
        _write(Path(job["result"]), found)
        sys.stdout.write(f"DONE {number}\n")
        sys.stdout.flush()


def make(transformers: Any, job: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint as this release writes it.

    It is written twice: with the values of its initialisation, which are then replaced by others that
    depend on a tensor's name and shape alone, and, loaded from there, as it stays. So releases that use the
    same names write the same bytes, in whatever order they draw and whatever names they have in memory.
    """
    model_class = getattr(transformers, job["class"], None)
    if model_class is None or job["model_type"] not in transformers.CONFIG_MAPPING:
        return {ABSENT: f"no {job['class']}"}
    config = transformers.AutoConfig.for_model(job["model_type"], **job["config"])
    with tempfile.TemporaryDirectory() as folder:
        model_class(config).save_pretrained(folder)
        redraw(Path(folder) / "model.safetensors")
        model, _ = model_class.from_pretrained(folder, output_loading_info=True)
        model.save_pretrained(job["folder"])
    return {}


def redraw(path: Path) -> None:
    """Other values for every floating-point tensor of a file, by its name and shape."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        about = file.metadata()
    save_file({name: drawn(name, tensor) for name, tensor in tensors.items()}, path, metadata=about)


def drawn(name: str, tensor: Tensor) -> Tensor:
    """Random values of a sensible scale: no scale is 1, no bias is 0, so that a lost one shows."""
    if not tensor.is_floating_point():
        return tensor
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(tensor.shape, generator=generator)
    if tensor.dim() == 1 and name.endswith(("weight", "gamma")):
        return (1 + 0.1 * noise).to(tensor.dtype)
    if tensor.dim() <= 1:
        return (0.1 * noise).to(tensor.dtype)
    return (0.8 / math.sqrt(tensor[0].numel()) * noise).to(tensor.dtype)


def compute(transformers: Any, job: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs for each case and the gradients of one backward pass, without and with dropout.

    Gradients are written as a checkpoint by this release's own `save_pretrained`, and so under the names of
    files, whatever the names in memory are; NaN stands for a parameter that has none.
    """
    from safetensors.torch import load_file, save_file

    model_class = getattr(transformers, job["class"], None)
    if model_class is None:
        return {ABSENT: f"no {job['class']}"}
    model, info = _load(model_class, job)
    model.eval()
    _align(model)
    given = _cases(load_file(job["inputs"]))
    training = given.pop("training")
    outputs: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    for case, inputs in given.items():
        try:
            outputs |= {f"{case}|{key}": value for key, value in _run(model, inputs)}
        except TypeError as error:  # an argument that this release does not have
            refused[case] = str(error)
    losses = {}
    for dropout in (False, True):
        name = "dropout on" if dropout else "dropout off"
        losses[f"{name}|loss"] = _backward(model, training, dropout=dropout)
        _save_gradients(model_class, model, job, Path(job["gradients"]) / name)
    save_file({**outputs, **losses}, job["outputs"])
    keys = ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")
    return {"refused": refused, **{key: sorted(map(str, info.get(key) or ())) for key in keys}}


def _load(model_class: Any, job: Mapping[str, Any]) -> Any:
    """The model with the attention that Biject follows, or written out where the release has no other."""
    options = {"output_loading_info": True, "local_files_only": True, **job["overrides"]}
    try:
        return model_class.from_pretrained(job["folder"], attn_implementation=job["attention"], **options)
    except ValueError as error:
        if "attention implementation" not in str(error):
            raise
        return model_class.from_pretrained(job["folder"], attn_implementation="eager", **options)


def _align(model: Any) -> None:
    """Have tensors begin at aligned addresses, as on the other side: some machines' bits depend on it."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.data_ptr() % 64:
            tensor.data = tensor.data.clone()


def _cases(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """`case|argument` -> tensor as case -> argument -> tensor."""
    cases: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        case, _, argument = name.partition("|")
        cases.setdefault(case, {})[argument] = tensor
    return cases


def _run(model: Any, inputs: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    with torch.no_grad():
        found = _flat(model(**_taken(model, inputs), output_hidden_states=True))
    return [
        (f"{name}|{i}", tensor.clone().contiguous())
        for name, tensors in found.items()
        for i, tensor in enumerate(tensors)
    ]


def _taken(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The arguments that this release's `forward` has, or lets through to another."""
    names = inspect.signature(model.forward).parameters
    rest = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in names.values())
    return {name: value for name, value in inputs.items() if rest or name in names}


def _flat(output: Mapping[str, Any]) -> dict[str, tuple[Tensor, ...]]:
    """Outputs by name, tensors and tuples of tensors alone."""
    named = {}
    for name, value in output.items():
        tensors = (value,) if isinstance(value, Tensor) else value
        if isinstance(tensors, tuple | list) and tensors and all(isinstance(t, Tensor) for t in tensors):
            named[name] = tuple(tensors)
    return named


def _backward(model: Any, inputs: Mapping[str, Tensor], *, dropout: bool) -> Tensor:
    """One backward pass of the model's loss, or of a fixed weighted sum of what it gives."""
    model.train(dropout)
    model.zero_grad(set_to_none=True)
    torch.manual_seed(SEED)
    outputs = _flat(model(**_taken(model, inputs)))
    if "loss" in outputs:
        loss = outputs["loss"][0]
    else:
        draw = torch.Generator().manual_seed(SEED)
        names = sorted(outputs.keys() - {"hidden_states", "attentions"})  # some releases give them unasked
        real = inputs["attention_mask"].bool() if "attention_mask" in inputs else None
        parts = [_real(name, tensor, real) for name in names for tensor in outputs[name]]
        loss = torch.stack(
            [(t * torch.randn(t.shape, generator=draw).to(t.dtype)).sum() for t in parts]
        ).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    model.eval()
    return loss.detach()


def _real(name: str, tensor: Tensor, real: Tensor | None) -> Tensor:
    """Rows of real tokens: what is computed at padding means nothing."""
    return tensor if real is None or name != "last_hidden_state" else tensor[real]


def _save_gradients(model_class: Any, model: Any, job: Mapping[str, Any], folder: Path) -> None:
    holder = model_class.from_pretrained(job["folder"], local_files_only=True, **job["overrides"])
    found = {name: p.grad for name, p in model.named_parameters()}
    for name, parameter in holder.named_parameters():
        gradient = found[name]
        parameter.data = torch.full_like(parameter, math.nan) if gradient is None else gradient.clone()
    holder.save_pretrained(folder)


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
