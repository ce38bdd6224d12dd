"""What an adapter's folder is, by its settings and the header of its tensors: no torch, no weights read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from biject.checkpoint.adapter import (
    CONFIG,
    OLD_WEIGHTS,
    RECORD,
    WEIGHTS,
    Stored,
    is_adapter,
    local_base,
    read_adapter,
)
from biject.checkpoint.folder import list_files
from biject.checkpoint.source import Source, open_source
from biject.checkpoint.strict_json import MAX_CONFIG_BYTES, parse_object, read_small_file
from biject.checkpoint.tensor_info import TensorInfo
from biject.errors import BijectError, shown
from biject.tokenization.files import SERIALIZED, VOCABULARIES

_FLOATING = frozenset(("F16", "BF16", "F32", "F64"))
_MOST_PROBLEMS = 8


@dataclass(frozen=True, kw_only=True)
class AdapterInspection:
    """An adapter's folder as `biject inspect` shows it."""

    folder: str
    kind: str
    """`LoRA`, with rsLoRA or DoRA; or what adapter_config.json calls another kind."""
    base: str | None
    """The base, as adapter_config.json names it."""
    base_folder: str | None
    """Where that is on this machine; None for one on the Hub, and for one that is not found."""
    model_type: str | None
    """Of the base, where it is here."""
    head: str | None
    """The head that it was trained for, where that is written."""
    rank: int | None
    alpha: float | None
    targets: tuple[str, ...]
    """As written: names, or a pattern."""
    saved: tuple[str, ...]
    """Modules that are trained whole."""
    bias: str | None
    quantization: str | None
    """How the base was held in training, where that is written."""
    weights: str | None
    num_tensors: int
    num_parameters: int
    tensor_bytes: int
    dtypes: Mapping[str, int]
    tokenizer_files: tuple[str, ...]
    oddities: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Nothing prevents loading it."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "adapter": True, "usable": self.usable}


def inspect_adapter(folder: Path) -> AdapterInspection:
    """Describe an adapter's folder; one whose `is_adapter` is true.

    Raises:
        CheckpointError: adapter_config.json or the tensors' header is damaged.
    """
    assert is_adapter(folder)
    files = list_files(folder)
    values = parse_object(
        read_small_file(folder / CONFIG, what=CONFIG, limit=MAX_CONFIG_BYTES), where=str(folder / CONFIG)
    )
    problems, stored = [], None
    infos: dict[str, TensorInfo] = {}
    try:
        stored = read_adapter(folder)
        infos = stored.infos()
        problems += _shape_problems(stored, infos)
    except BijectError as error:
        problems.append(str(error))
    base, where = values.get("base_model_name_or_path"), None if stored is None else local_base(stored)
    oddities = _oddities(folder, files, stored, infos)
    source = None
    if where is not None and stored is not None:
        try:
            source = open_source(where)
            problems += _base_problems(stored, source, infos)
        except BijectError as error:
            problems.append(f"its base cannot be used: {error}")
    elif stored is not None:
        problems += _no_base(stored, oddities)
    config = None if stored is None else stored.config
    listed = () if config is None or config.target_modules is None else config.target_modules
    found = [name for name in (WEIGHTS, OLD_WEIGHTS) if name in files]
    held = None if stored is None else stored.quantization.get("quantization")
    return AdapterInspection(
        folder=str(folder),
        kind=_kind(stored, values),
        base=base if isinstance(base, str) else None,
        base_folder=None if where is None else str(where),
        model_type=None if source is None else source.config.get("model_type"),
        head=None if stored is None else stored.head,
        rank=None if config is None else config.r,
        alpha=None if config is None else config.lora_alpha,
        targets=(listed,) if isinstance(listed, str) else listed,
        saved=() if config is None else config.modules_to_save,
        bias=None if config is None else config.bias,
        quantization=held if isinstance(held, str) else None,
        weights=found[0] if found else None,
        num_tensors=len(infos),
        num_parameters=sum(info.numel for info in infos.values()),
        tensor_bytes=sum(info.nbytes for info in infos.values()),
        dtypes=dict(Counter(info.dtype for info in infos.values())),
        tokenizer_files=tuple(name for name in files if name in (SERIALIZED, *VOCABULARIES)),
        oddities=tuple(oddities),
        problems=tuple(problems),
    )


def _kind(stored: Stored | None, values: Mapping[str, Any]) -> str:
    if stored is None:
        return shown(values.get("peft_type"))
    flags = (("rsLoRA", stored.config.use_rslora), ("DoRA", stored.config.use_dora))
    return ", ".join(["LoRA", *(name for name, there in flags if there)])


def _oddities(
    folder: Path, files: Collection[str], stored: Stored | None, infos: Mapping[str, TensorInfo]
) -> list[str]:
    found = []
    if WEIGHTS in files and OLD_WEIGHTS in files:
        found.append(f"{OLD_WEIGHTS} is not read, as {WEIGHTS} is there")
    elif OLD_WEIGHTS in files:
        found.append("tensors are a legacy pickle (.bin)")
    if "config.json" in files:
        found.append("there is a config.json, but no model's weights")
    if stored is not None and not stored.record:
        found.append(f"no {RECORD}: which base and head it belongs to is not recorded, but for the names")
    if stored is not None and stored.head is None:
        found.append("it does not say for which head it was trained")
    if len({info.dtype for info in infos.values()}) > 1:
        found.append("tensors of several dtypes")
    return found


def _shape_problems(stored: Stored, infos: Mapping[str, TensorInfo]) -> list[str]:
    """Tensors that no adapter of these settings has."""
    ranks = {stored.config.r, *stored.config.rank_pattern.values()}
    found = [
        f"`{name}` should be floating, found {info.dtype}"
        for name, info in infos.items()
        if info.dtype not in _FLOATING
    ]
    for name, info in infos.items():
        if ".lora_A" in name or ".lora_embedding_A" in name:
            rank = info.shape[0] if info.shape else 0
            if len(info.shape) != 2 or rank not in ranks:
                found.append(
                    f"`{name}` is {tuple(info.shape)}, but {CONFIG} has rank "
                    f"{', '.join(map(str, sorted(ranks)))}"
                )
    if not any(".lora_" in name for name in infos):
        found.append("no tensor is of LoRA")
    return _some(found)


def _base_problems(stored: Stored, source: Source, infos: Mapping[str, TensorInfo]) -> list[str]:
    """Modules that are not in the base or have other sizes there; another base than the recorded one."""
    from biject.checkpoint.fingerprint import weights_fingerprint

    found = []
    recorded = stored.record.get("base_fingerprint")
    if isinstance(recorded, str) and recorded != weights_fingerprint(source):
        found.append(f"it was trained on a base whose weights are others than those of {source.folder}")
    for name, info in infos.items():
        module, kind = name.partition(".lora_A.")[0], ".lora_A."
        if kind not in name:
            continue
        shape = _shape_in(source, module)
        if shape is None:
            found.append(f"`{module}`, which it changes, is not in its base")
        elif len(info.shape) == 2 and info.shape[1] not in shape:
            found.append(f"`{name}` is {tuple(info.shape)}, but the base's matrix is {shape}")
    return _some(found)


def _shape_in(source: Source, module: str) -> tuple[int, ...] | None:
    """The shape of a module's matrix in the base's file, whose names may lack a prefix or have one more."""
    parts = module.split(".")
    for start in range(min(2, len(parts))):
        info = source.tensors.get(".".join([*parts[start:], "weight"]))
        if info is not None:
            return tuple(info.shape)
    return next(
        (tuple(i.shape) for name, i in source.tensors.items() if name.endswith(f".{module}.weight")), None
    )


def _no_base(stored: Stored, oddities: list[str]) -> list[str]:
    """The base is not here: a repository's name is only noted, a folder's is a problem."""
    if stored.base is None:
        return ["it names no base: load the base with adapter=, the folder of this adapter"]
    name = stored.base
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and "\\" not in name:
        oddities.append(f"its base {shown(name)} is no folder here: it is looked for on the Hub when needed")
        return []
    return [f"its base {shown(name)} is not there: load the base from where it is now, with adapter="]


def _some(found: list[str]) -> list[str]:
    if len(found) <= _MOST_PROBLEMS:
        return found
    return [*found[:_MOST_PROBLEMS], f"and {len(found) - _MOST_PROBLEMS} more of the kind"]
