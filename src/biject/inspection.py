"""What a checkpoint folder is, by its config and the headers of its files: no torch, no weights read.

(A legacy `.bin` is a pickle, and describing it takes torch.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from biject.checkpoint.folder import is_trainer_state
from biject.checkpoint.source import Source, open_source
from biject.checkpoint.tensor_info import TensorInfo
from biject.config.common import stale_labels
from biject.config.shapes import parameter_shapes
from biject.config.stored_codes import StoredCodes
from biject.errors import BijectError
from biject.families import Family
from biject.families import family as family_of
from biject.identify import Identity, architecture_of, identify, with_family
from biject.tokenization.fit import check_fits, oddities
from biject.tokenization.tokenizer import load_tokenizer
from biject.weights.plan import Plan

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "added_tokens.json",
)
_SETTINGS_ONLY = {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}
_SIZES = (
    "hidden_size",
    "dim",
    "num_hidden_layers",
    "n_layers",
    "num_attention_heads",
    "n_heads",
    "vocab_size",
)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A folder as `biject inspect` shows it."""

    folder: str
    model_type: str | None
    head: str | None
    """The head that `--head auto` would load, or None where that is unknown."""
    architecture: str | None
    """The class that config.json names first."""
    hf_class: str | None
    """The class of `head` in this family."""
    sizes: Mapping[str, Any]
    """The config's main sizes, under the config's own names."""
    format: str
    weight_files: tuple[str, ...]
    num_tensors: int
    num_parameters: int | None
    """Elements of the tensors that the head uses, each once; None where the folder cannot be loaded."""
    tensor_bytes: int
    dtypes: Mapping[str, int]
    """safetensors code → number of tensors."""
    tokenizer_files: tuple[str, ...]
    other_weights: tuple[str, ...]
    passthrough: tuple[str, ...] = ()
    """Tensors that the head does not use."""
    unknown: tuple[str, ...] = ()
    """Those of them that no head of the family uses."""
    oddities: tuple[str, ...] = ()
    """What is unusual, though it does not prevent loading."""
    problems: tuple[str, ...] = field(default=())
    """What prevents loading it."""

    @property
    def usable(self) -> bool:
        """Nothing prevents loading it."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "usable": self.usable}


def inspect_folder(path: str | Path, *, family: str | None = None) -> Inspection:
    """Describe a checkpoint folder.

    Args:
        path: the folder.
        family: the `model_type` of a folder whose config.json names none.

    Raises:
        CheckpointError: it is no checkpoint folder, or its files are damaged.
        ConfigError: config.json names another family than the one given.
    """
    source = open_source(Path(path))
    config = with_family(source.config, family, where=str(source.folder))
    known: Family | None = None
    head: str | None = None
    plan: Plan | None = None
    codes: StoredCodes | None = None
    problems: list[str] = []
    try:
        known = family_of(config.get("model_type"))
        identity = identify_source(source, config)
        head, plan, codes = identity.head, identity.plan, identity.codes
        problems += _size_problems(source, identity)
    except BijectError as error:
        problems.append(str(error))
    infos = source.tensors.values()
    used = [source.tensors[binding.disk[0]] for binding in plan.bindings] if plan else []
    return Inspection(
        folder=str(path),
        model_type=config.get("model_type"),
        head=head,
        architecture=architecture_of(config),
        hf_class=known.heads[head].hf_class if known and head else None,
        sizes={name: config[name] for name in _SIZES if name in config},
        format=source.format,
        weight_files=source.weight_files,
        num_tensors=len(source.tensors),
        num_parameters=_number_of_values(used, codes) if plan else None,
        tensor_bytes=sum(info.nbytes for info in infos),
        dtypes=dict(Counter(info.dtype for info in infos)),
        tokenizer_files=tuple(name for name in TOKENIZER_FILES if name in source.assets),
        other_weights=source.other_weights,
        passthrough=plan.passthrough if plan else (),
        unknown=plan.unknown if plan else (),
        oddities=tuple(
            _code_oddities(codes)
            + _folder_oddities(source)
            + _tokenizer_oddities(source)
            + _family_oddities(known, config)
            + _plan_oddities(plan, head)
        ),
        problems=tuple(problems),
    )


def identify_source(source: Source, config: Mapping[str, Any] | None = None) -> Identity:
    """Which family, head and sizes a folder has; no weight is read but stored twins.

    Args:
        source: the folder.
        config: another config than the folder's own.

    Raises:
        ConfigError, WeightsError: the config or the tensors cannot be used; the message gives the reason.
    """
    return identify(
        source.config if config is None else config,
        source.tensors,
        same=lambda one, other: _same(source, one, other),
        num_elements=sum(info.numel for info in source.tensors.values()),
        where=str(source.folder),
    )


def _size_problems(source: Source, found: Identity) -> list[str]:
    """Tensors of another shape or kind than the config says, as loading refuses them."""
    shapes = parameter_shapes(found.config)
    problems = []
    for binding in found.plan.bindings:
        needed = shapes.get(binding.memory)
        for name in binding.disk if needed is not None else ():
            assert needed is not None
            info = source.tensors[name]
            if found.codes is not None and name in found.codes.parts:
                problems += _code_problem(info, prod(needed), found.codes)
            elif tuple(info.shape) != needed or info.dtype not in _FLOATING:
                problems.append(
                    f"`{name}` should be floating of shape {needed} by config.json, found {info.dtype} "
                    f"{tuple(info.shape)}"
                )
    if len(problems) > _MOST_PROBLEMS:
        more = len(problems) - _MOST_PROBLEMS
        problems = [*problems[:_MOST_PROBLEMS], f"and {more} tensors more have other shapes"]
    return problems


def _code_problem(info: TensorInfo, count: int, codes: StoredCodes) -> list[str]:
    """Codes of another number or kind than the config says; loading checks their scales as well."""
    dtype, expected = ("U8", (count + 1) // 2) if codes.settings.four_bit else ("I8", count)
    if info.dtype == dtype and info.numel == expected:
        return []
    return [f"`{info.name}` should be {expected} codes in {dtype}, found {info.dtype} {info.shape}"]


def _number_of_values(used: list[TensorInfo], codes: StoredCodes | None) -> int:
    """Elements of tensors; of codes, the values that they stand for."""
    packed = codes.parts if codes is not None and codes.settings.four_bit else ()
    return sum(info.numel * (2 if info.name in packed else 1) for info in used)


def _code_oddities(codes: StoredCodes | None) -> list[str]:
    if codes is None:
        return []
    method, double = codes.settings.method, ", double quantised" if codes.settings.double_quant else ""
    return [f"{len(codes.parts)} linears hold codes of bitsandbytes, {method}{double}: a base for adapters"]


_FLOATING = frozenset(("F16", "BF16", "F32", "F64"))
_MOST_PROBLEMS = 8


def _same(source: Source, one: str, other: str) -> bool:
    a, b = source.tensors[one], source.tensors[other]
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    if source.format == "bin":
        from biject.checkpoint.bytes import tensor_bytes
        from biject.checkpoint.reader import Reader

        reader = Reader(source)
        return tensor_bytes(reader.tensor(one)) == tensor_bytes(reader.tensor(other))
    return _data(source, a) == _data(source, b)


def _data(source: Source, info: TensorInfo) -> bytes:
    with (source.folder / info.file).open("rb") as file:
        file.seek(info.start)
        return file.read(info.nbytes)


def _folder_oddities(source: Source) -> list[str]:
    found = []
    dtypes = {
        info.dtype
        for info in source.tensors.values()
        if info.dtype.startswith(("F", "B")) and info.dtype != "BOOL"
    }
    if len(dtypes) > 1:
        found.append(f"floating tensors of several dtypes: {', '.join(sorted(dtypes))}")
    if source.format == "bin":
        found.append("weights are a legacy pickle (.bin); an export writes safetensors")
    elif any(header.metadata is None for header in source.headers.values()):
        found.append("a weight file has no metadata; transformers writes {'format': 'pt'}")
    if not (set(source.assets) & set(TOKENIZER_FILES)) - _SETTINGS_ONLY:
        found.append("no tokenizer vocabulary")
    if architecture_of(source.config) is None:
        found.append("config.json names no class (`architectures`)")
    other = tuple(name for name in source.other_weights if not is_trainer_state(name))
    if other:
        found.append(f"other weight files that are not read: {_some(other)}")
    if len(other) < len(source.other_weights):
        state = tuple(name for name in source.other_weights if is_trainer_state(name))
        found.append(f"a trainer's state, which is not read: {_some(state)}")
    return found


def _tokenizer_oddities(source: Source) -> list[str]:
    """What is wrong with the tokenizer, or with its being here."""
    if not set(source.assets) & set(TOKENIZER_FILES) - _SETTINGS_ONLY:
        return []
    try:
        tokenizer = load_tokenizer(source.folder, source.config)
        check_fits(tokenizer, source.config)
    except BijectError as error:
        return [f"the tokenizer cannot be used: {error}"]
    return oddities(tokenizer, source.config)


def _family_oddities(known: Family | None, config: Mapping[str, Any]) -> list[str]:
    unknown = known.config.unknown(config) if known else ()
    stale = stale_labels(config) if known else None
    found = [stale] if stale else []
    return found + ([f"config keys that Biject does not know and keeps: {_some(unknown)}"] if unknown else [])


def _plan_oddities(plan: Plan | None, head: str | None) -> list[str]:
    if plan is None:
        return []
    found = []
    if not plan.spelling.prefix and head != "base":
        found.append("tensor names lack the base model's prefix")
    if plan.spelling.prefix and head == "base":
        found.append(f"tensor names have the prefix {plan.spelling.prefix} though no head is loaded")
    if plan.spelling.old_norms:
        found.append("norms are spelt gamma and beta, as in files converted from TensorFlow")
    twins = [binding.disk for binding in plan.bindings if len(binding.disk) > 1]
    found += [f"one parameter is stored twice: {' = '.join(names)}" for names in twins]
    if plan.absent:
        found.append(f"optional parts are not there: {_some(plan.absent)}")
    if plan.passthrough:
        found.append(f"passed through, as the head does not use them: {_some(plan.passthrough)}")
    if plan.unknown:
        found.append(f"of those, no head of this family uses: {_some(plan.unknown)}")
    return found


def _some(names: tuple[str, ...], limit: int = 6) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
