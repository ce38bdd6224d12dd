"""Build transformers' class with the tensors that our reader hands out, so that no pickle is opened by
anybody else and nothing of the folder runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from biject.checkpoint.bytes import DTYPES
from biject.checkpoint.reader import Reader
from biject.checkpoint.source import Source
from biject.errors import WeightsError
from biject.fallback.identity import FallbackIdentity
from biject.fallback.library import quiet, transformers
from biject.nn.addresses import align


def build(
    found: FallbackIdentity, source: Source, dtype: torch.dtype, *, new: bool
) -> tuple[Any, tuple[str, ...], tuple[str, ...]]:
    """Transformers' model with the file's tensors; names of new parameters, and of tensors that it has no
    use for.

    Args:
        found: What the checkpoint is.
        source: Where its tensors are.
        dtype: Of all parameters.
        new: The head starts new: the file's tensors of it are left alone.

    Raises:
        WeightsError: Tensors are missing, of another shape, or not to be converted.
    """
    reader, where = Reader(source), str(source.folder)
    read = [name for name in source.tensors if not (new and name in found.head_tensors)]
    tensors = {name: reader.tensor(name).clone() for name in read}
    model, info = _from_tensors(found, tensors, dtype, where)
    missing, options = _missing(info), _constructor(found.kind)
    if missing and not new and all(_of_pooler(name) for name in missing) and "add_pooling_layer" in options:
        model, info = _from_tensors(found, tensors, dtype, where, add_pooling_layer=False)
        missing = _missing(info)
    wrong = [name for name in missing if not (new and (name in found.head_tensors or _of_pooler(name)))]
    if wrong:
        _refuse_missing(found, wrong, where)
    mismatched = sorted(str(entry[0]) for entry in info["mismatched_keys"])
    if mismatched or info["error_msgs"]:
        what = (
            f"`{mismatched[0]}` has another shape than config.json says" if mismatched else info["error_msgs"]
        )
        raise WeightsError(f"{where}: {what} ({len(mismatched)} tensors).")
    align(model)
    return model.eval(), tuple(missing), tuple(sorted(info["unexpected_keys"]))


def _from_tensors(
    found: FallbackIdentity,
    tensors: Mapping[str, torch.Tensor],
    dtype: torch.dtype,
    where: str,
    **options: Any,
) -> tuple[Any, Mapping[str, Any]]:
    with quiet(f"{where}: transformers cannot load it as {found.kind.__name__}"):
        model, info = found.kind.from_pretrained(
            None,
            config=found.hf,
            state_dict=dict(tensors),
            dtype=dtype,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused by name afterwards
            **options,
        )
    return model, info


def _missing(info: Mapping[str, Any]) -> list[str]:
    return sorted(str(name) for name in info["missing_keys"])


def _constructor(kind: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(kind.__init__).parameters)


def _of_pooler(name: str) -> bool:
    return ".pooler." in f".{name}"


def _refuse_missing(found: FallbackIdentity, wrong: Sequence[str], where: str) -> None:
    listed = ", ".join(f"`{name}`" for name in wrong[:8])
    more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
    way = ""
    if found.head_tensors.issuperset(wrong):
        way = " A head that starts new is asked for: new_head=dict(labels=[…]) (finetune does it by itself)."
    raise WeightsError(
        f"{where}: {found.kind.__name__} of transformers {transformers().__version__} needs tensors that the "
        f"file does not have: {listed}{more}. They would be random.{way}"
    )


def file_dtype(source: Source) -> torch.dtype:
    """The widest of the floating-point dtypes of the file."""
    found = [DTYPES[info.dtype] for info in source.tensors.values() if DTYPES[info.dtype].is_floating_point]
    widest = found[0] if found else torch.float32
    for other in found[1:]:
        widest = torch.promote_types(widest, other)
    return widest
