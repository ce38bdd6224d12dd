"""The proof of a run with `backend="hf"`: a fresh process of transformers' loading gives the same model.

The model in memory is transformers' already, so that what is proved is the folder: every weight's bits, and
outputs with max abs diff 0, of the export as transformers (and PEFT) load it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biject.checkpoint.adapter import is_adapter
from biject.checkpoint.source import Source, open_source
from biject.errors import WeightsError
from biject.fallback.building import build
from biject.fallback.gains import ADAPTER_LEVEL, LEVELS
from biject.fallback.identity import identify_fallback
from biject.fallback.library import peft
from biject.fallback.loading import load_fallback
from biject.fallback.model import FallbackModel
from biject.nn.addresses import align
from biject.verify.hf import load_hf, quiet
from biject.verify.inputs import Case
from biject.verify.levels.names import some
from biject.verify.machine import environment
from biject.verify.numbers import same_bits
from biject.verify.outputs import compare_outputs, run
from biject.verify.report import Check, LevelResult, NothingToCompare, Report, agreement
from biject.verify.run import run_level
from biject.verify.subject import widest_dtype

_NOT_CHECKED = (
    "levels names, bytes, gradients, steps: they compare Biject's own classes with transformers', "
    "and this model is transformers' own",
    "other devices than the CPU, other thread counts and batch shapes than the listed ones",
)
_COLUMNS = 11


@dataclass(frozen=True, kw_only=True)
class Both:
    """The model in memory and the folder.

    Attributes:
        model: As training left it.
        folder: Its export, or its adapter's.
        cases: What both sides compute.
        dtype: Of the comparison.
    """

    model: FallbackModel
    folder: Path
    cases: Sequence[Case]
    dtype: torch.dtype


def verify_fallback(
    model: FallbackModel, folder: str | Path, *, batches: Sequence[Mapping[str, Tensor]] = ()
) -> Report:
    """Prove that transformers computes from the exported folder what the trained model computes.

    Args:
        model: As training left it; where the folder's dtype is another, a copy is cast to it.
        folder: What was exported from it, or, of a model with an adapter, the adapter's folder.
        batches: Further inputs to compare on, e.g. of the evaluation data.

    Raises:
        BijectError: The folder cannot be read, or transformers is not installed.
    """
    return _verified(model, Path(folder), batches, LEVELS if model.adapters is None else (ADAPTER_LEVEL,))


def verify_folder(folder: str | Path) -> Report:
    """Prove what can be proved of a folder of any architecture of transformers, without the model in memory.

    Levels: `reload`, and `forward`: the weights as Biject reads them give what transformers' own reading
    gives; of an adapter's folder `adapter`.

    Args:
        folder: A checkpoint's, or an adapter's.

    Raises:
        BijectError: It cannot be read, or is of no architecture of transformers; that is not installed.
    """
    folder = Path(folder)
    if is_adapter(folder):
        return _verified(load_fallback(folder), folder, (), (ADAPTER_LEVEL,))
    source = open_source(folder)
    identify_fallback(source)  # an unknown architecture is unusable input, not a failed level
    try:
        model = load_fallback(folder, dtype=widest_dtype(source))
    except WeightsError as error:
        failed = LevelResult(name="reload", status="fail", reason=str(error))
        return Report(folder=str(folder), source=None, levels=(failed,), not_checked=_NOT_CHECKED)
    return _verified(model, folder, (), ("reload", "forward"))


def _verified(
    model: FallbackModel, folder: Path, batches: Sequence[Mapping[str, Tensor]], names: Sequence[str]
) -> Report:
    dtype = widest_dtype(open_source(folder)) if model.adapters is None else model.dtype
    cases = [
        *_built_in(model),
        *(Case(name=f"data {i + 1}", inputs=batch) for i, batch in enumerate(batches)),
    ]
    both = Both(model=model, folder=folder, cases=cases, dtype=dtype)
    levels: Mapping[str, Any] = {
        "reload": reload, "trained": trained, "forward": trained, ADAPTER_LEVEL: adapter
    }  # fmt: skip
    with quiet():
        subject: Any = both
        results = tuple(run_level(name, subject, levels=levels) for name in names)
    return Report(
        folder=str(folder),
        source=None,
        levels=results,
        model={
            "family": model.hf_config.get("model_type"),
            "class": model.class_name,
            "head": model.head_name,
            "dtype": str(dtype).removeprefix("torch."),
        },
        environment=environment(dtype=dtype, attention=model.attention),
        not_checked=_NOT_CHECKED,
    )


def reload(both: Both) -> list[Check]:
    """The folder loads as the class that it names, with nothing missing and nothing left over."""
    source = open_source(both.folder)
    loaded = _loaded(both, source)
    named = source.config.get("architectures")
    pooled = tuple(name for name in loaded.missing if ".pooler." in f".{name}" and not _has(both.model, name))
    missing = [name for name in loaded.missing if name not in pooled]
    allowed = f"allowed: {some(pooled)}" if pooled else "none"
    return [
        Check(
            name="transformers loads it",
            passed=not loaded.errors and named == [both.model.class_name],
            detail=f"as {loaded.class_name}" if not loaded.errors else some(loaded.errors),
        ),
        Check(name="missing names", passed=not missing, detail=some(missing) if missing else allowed),
        Check(
            name="unexpected names", passed=not loaded.unexpected, detail=some(loaded.unexpected) or "none"
        ),
        Check(
            name="mismatched names", passed=not loaded.mismatched, detail=some(loaded.mismatched) or "none"
        ),
    ]


def trained(both: Both) -> list[Check]:
    """Every weight, and every output of every input: max abs diff = 0."""
    loaded = _loaded(both, open_source(both.folder))
    with _as_exported(both.model.hf, both.dtype) as ours:
        checks = [_weights(ours, loaded.model, without=loaded.missing)]
        return checks + _outputs(both, ours, loaded.model)


def adapter(both: Both) -> list[Check]:
    """PEFT loads the folder on transformers' base; every output: max abs diff = 0."""
    library = peft()
    base, _, _ = build(both.model.identity, both.model.source, both.dtype, new=bool(both.model.fresh))
    found = library.PeftModel.from_pretrained(base, both.folder, local_files_only=True).eval()
    align(found)
    with _as_exported(both.model.hf, both.dtype) as ours:
        mine, theirs = (
            library.get_peft_model_state_dict(one, save_embedding_layers=False) for one in (ours, found)
        )
        wrong = [
            name
            for name in {**mine, **theirs}
            if name not in mine or name not in theirs or not same_bits(mine[name], theirs[name])
        ]
        checks = [Check(name=f"tensors ({len(mine)})", passed=not wrong, detail=agreement(wrong))]
        return checks + _outputs(both, ours, found)


def _loaded(both: Both, source: Source) -> Any:
    return load_hf(source, class_name=both.model.class_name, dtype=both.dtype, attention=both.model.attention)


def _has(model: FallbackModel, name: str) -> bool:
    return name in model.hf.state_dict()


def _weights(ours: nn.Module, theirs: nn.Module, *, without: Sequence[str]) -> Check:
    mine, others = ours.state_dict(), theirs.state_dict()
    names = [name for name in {**mine, **others} if name in mine or name not in without]
    wrong = [n for n in names if n not in mine or n not in others or not same_bits(mine[n], others[n])]
    return Check(name=f"weights ({len(names)} tensors)", passed=not wrong, detail=agreement(wrong))


def _outputs(both: Both, ours: nn.Module, theirs: nn.Module) -> list[Check]:
    """Each output of each case; a built-in one that the class refuses is left out: the data decide."""
    _same_flags(ours, theirs)
    checks: list[Check] = []
    for case in both.cases:
        inputs = {
            name: value.to(both.dtype) if value.is_floating_point() and name != "labels" else value
            for name, value in case.inputs.items()
            if name in both.model.takes
        }
        flags = {"output_hidden_states": True} if "output_hidden_states" in both.model.takes else {}
        try:
            mine = _run(ours, inputs, flags)
        except Exception:
            if case.name.startswith("data"):
                raise
            continue
        found = compare_outputs(mine, _run(theirs, inputs, flags), case=case.name)
        checks += [c if c.max_abs_diff == 0 else Check(**{**vars(c), "passed": False}) for c in found]
    if not checks:
        raise NothingToCompare("no input could be computed: give batches of the model's data")
    return checks


def _same_flags(ours: nn.Module, theirs: nn.Module) -> None:
    """Have both sides' parameters want gradients alike: torch multiplies otherwise, with other last bits,
    where the matrix of a product without a bias wants some (`should_fold` in its LinearAlgebra.cpp).
    """
    wanted = {name: parameter.requires_grad for name, parameter in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        parameter.requires_grad_(wanted.get(name, parameter.requires_grad))


def _run(model: nn.Module, inputs: Mapping[str, Tensor], flags: Mapping[str, bool]) -> dict[str, Any]:
    """A call with the same random numbers on both sides, for classes that draw some in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return run(model, inputs, **flags)


@contextmanager
def _as_exported(model: nn.Module, dtype: torch.dtype) -> Iterator[nn.Module]:
    """The model on the CPU, in eval mode and the export's dtype; the given one stays as it is."""
    parameter, training = next(model.parameters()), model.training
    same = parameter.dtype == dtype and parameter.device.type == "cpu"
    ours = model if same else _cast(copy.deepcopy(model).to(device="cpu"), dtype)
    align(ours)
    try:
        yield ours.eval()
    finally:
        model.train(training)


def _cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """What is stored in another dtype; rotary angles and the like stay float32, as transformers has them."""
    stored = model.state_dict(keep_vars=True)
    for tensor in stored.values():
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    return model


def _built_in(model: FallbackModel) -> list[Case]:
    """Texts of drawn ids: one alone, and three padded on the right; each ends where the config says."""
    size, patches = model.config.vocab_size, model.config.embedding.patches
    if patches is not None:
        draw = torch.Generator().manual_seed(0)
        drawn = torch.randn((2, patches.num_channels, *patches.image_size), generator=draw)
        return [Case(name="pictures", inputs={"pixel_values": drawn})]
    if size < 8 or "input_ids" not in model.takes:
        return []
    draw = torch.Generator().manual_seed(0)
    named = [getattr(model.hf.config, f"{role}_token_id", None) for role in ("eos", "pad")]
    end, pad = (one if isinstance(one, int) and 0 <= one < size else None for one in named)
    pad = 0 if pad is None else pad
    ids = torch.randint(0, size, (3, _COLUMNS), generator=draw)
    usual = next(index for index in range(size) if index not in (pad, end))
    ids = ids.masked_fill((ids == pad) | (ids == (pad if end is None else end)), usual)
    mask = (torch.arange(_COLUMNS) < torch.tensor([[_COLUMNS], [5], [8]])).long()
    if end is not None:
        ids[torch.arange(3), mask.sum(1) - 1] = end
    padded = ids.masked_fill(mask == 0, pad)
    return [
        Case(name="alone", inputs={"input_ids": ids[:1]}),
        Case(name="right-padded", inputs={"input_ids": padded, "attention_mask": mask}),
    ]
