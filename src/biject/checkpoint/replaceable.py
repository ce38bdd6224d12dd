"""Which folders `force` may replace: those that hold a checkpoint, and nothing that no checkpoint has."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path

from biject.errors import CheckpointError, shown

MARK = "config.json"
ADAPTER_MARK = "adapter_config.json"
_WEIGHTS = re.compile(r".*\.(safetensors|bin)")
_KNOWN = re.compile(
    r"config\.json|biject\.json|.*\.safetensors|.*\.(safetensors|bin)\.index\.json|pytorch_model.*\.bin"
    r"|model.*\.bin|adapter_model\.bin|training_args\.bin|tf_model\.h5|flax_model\.msgpack|rust_model\.ot"
    r"|generation_config\.json|adapter_config\.json|(pre)?processor_config\.json|quantize_config\.json"
    r"|tokenizer(_config)?\.json|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt"
    r"|chat_template\.(jinja|json)|.*\.model|sentencepiece\.bpe\.model|modules\.json"
    r"|(config_)?sentence_(bert_config|transformers)\.json|trainer_state\.(json|safetensors)"
    r"|README\.md|LICENSE(\.(md|txt))?|\.gitattributes"
)
_FOLDERS = re.compile(r"adapters|additional_chat_templates|\d+_[A-Z][A-Za-z]*|onnx|openvino|original")
_MOST_LISTED = 5


def check_replaceable(out: Path, *, written: Collection[str] = ()) -> None:
    """Refuse to replace a folder that is no checkpoint, or that has files which would be lost.

    Args:
        out: The folder that is there.
        written: Names of the files that will be in its place: these are replaced and not lost.

    Raises:
        CheckpointError: It is something else; the message names what no checkpoint has.
    """
    entries = sorted(out.iterdir())
    if not entries:
        return
    advice = "so that nothing else is lost. Choose another folder, or move this one away."
    adapter = _is_adapters_config(out / ADAPTER_MARK)
    if not adapter and not (out / MARK).is_file():
        raise CheckpointError(
            f"{out} exists and is no checkpoint (it has no {MARK}); force replaces checkpoint folders only, "
            + advice
        )
    weights = any(_WEIGHTS.fullmatch(entry.name) for entry in entries)
    if not weights or not (adapter or _is_models_config(out / MARK)):
        raise CheckpointError(
            f"{out} exists and is no checkpoint: its {MARK} is not a model's, or there are no weights beside "
            f"it; force replaces checkpoint folders only, {advice}"
        )
    tops = {name.partition("/")[0] for name in written}
    strange = [entry for entry in entries if not _belongs(entry) and entry.name not in tops]
    strange += [
        path
        for entry in entries
        if entry.name in tops and entry.is_dir() and not entry.is_symlink() and not _belongs(entry)
        for path in sorted(entry.rglob("*"))
        if not path.is_dir() and path.relative_to(out).as_posix() not in written
    ]
    if strange:
        names = ", ".join(shown(path.relative_to(out).as_posix()) for path in strange[:_MOST_LISTED])
        more = f" and {len(strange) - _MOST_LISTED} more" if len(strange) > _MOST_LISTED else ""
        raise CheckpointError(
            f"{out} holds what is no part of a checkpoint: {names}{more}. force would remove it, and "
            f"replaces checkpoint folders only, {advice}"
        )


def _is_models_config(path: Path) -> bool:
    """A model's, or the empty one of a trainer's checkpoint of any module."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(found, dict):
        return False
    return (
        not found or isinstance(found.get("model_type"), str) or isinstance(found.get("architectures"), list)
    )


def _is_adapters_config(path: Path) -> bool:
    """One that PEFT or `save_adapter` wrote."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and isinstance(found.get("peft_type"), str)


def _belongs(entry: Path) -> bool:
    if entry.is_dir() and not entry.is_symlink():
        inside = [path for path in entry.rglob("*") if not path.is_dir()]
        known = bool(_FOLDERS.fullmatch(entry.name))
        return known and all(
            _KNOWN.fullmatch(p.name) or p.suffix in (".onnx", ".xml", ".jinja") for p in inside
        )
    return bool(_KNOWN.fullmatch(entry.name))
