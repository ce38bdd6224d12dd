"""How a sentence-transformers folder makes embeddings: modules.json, 1_Pooling, 2_Normalize.

Source: sentence-transformers 5, models/Pooling.py and SentenceTransformer.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from biject.checkpoint.embedder import MODULES, read_modules
from biject.checkpoint.strict_json import parse_object, read_small_file
from biject.errors import ConfigError

Mode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
_KEYS: dict[str, Mode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""In the order in which several are joined."""


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """How a folder's rows become one vector a text."""

    folder: str
    """The transformer's place in it; empty for the folder itself."""
    modes: tuple[Mode, ...]
    normalize: bool
    max_tokens: int | None
    lower_case: bool
    prompt: str
    """Put before every text."""


def read_sentence(folder: Path) -> Sentence | None:
    """The settings in modules.json and the files it names, or None where the folder has none.

    Raises:
        CheckpointError: a file is damaged.
        ConfigError: it needs a module or a way of pooling that Biject does not compute.
    """
    path = folder / MODULES
    if not path.is_file():
        return None
    places: dict[str, str] = {}
    for entry in read_modules(folder):
        module = entry if isinstance(entry, dict) else {}
        kind = str(module.get("type")).rpartition(".")[2]
        if kind not in ("Transformer", "Pooling", "Normalize") or kind in places:
            raise ConfigError(
                f"{path}: Biject computes one module each of Transformer, Pooling, Normalize; found {kind!r}."
            )
        places[kind] = _inside(module.get("path"), path)
    return _read(folder, places, path)


def _read(folder: Path, places: dict[str, str], path: Path) -> Sentence:
    if "Transformer" not in places or "Pooling" not in places:
        raise ConfigError(f"{path}: expected a Transformer and a Pooling module; found {', '.join(places)}.")
    pooling = folder / places["Pooling"] / "config.json"
    inner = _optional(folder / places["Transformer"] / "sentence_bert_config.json")
    settings = _optional(folder / "config_sentence_transformers.json")
    prompts, name = settings.get("prompts"), settings.get("default_prompt_name")
    prompt = prompts.get(name, "") if isinstance(prompts, dict) and isinstance(name, str) else ""
    length = inner.get("max_seq_length")
    values = parse_object(read_small_file(pooling, what=str(pooling)), where=str(pooling))
    if prompt and values.get("include_prompt") is False:
        raise ConfigError(f"{pooling}: `include_prompt` false with a default prompt is not computed.")
    return Sentence(
        folder=places["Transformer"],
        modes=_modes(values, pooling),
        normalize="Normalize" in places,
        max_tokens=length if isinstance(length, int) and length > 0 else None,
        lower_case=inner.get("do_lower_case") is True,
        prompt=prompt if isinstance(prompt, str) else "",
    )


def _modes(values: dict[str, Any], path: Path) -> tuple[Mode, ...]:
    unknown = [
        key for key, on in values.items() if key.startswith("pooling_mode_") and on and key not in _KEYS
    ]
    modes = tuple(mode for key, mode in _KEYS.items() if values.get(key) is True)
    named = values.get("pooling_mode")
    if named is not None:
        listed = named if isinstance(named, list) else [named]
        modes = tuple(mode for mode in _KEYS.values() if mode in listed)
        unknown += [str(mode) for mode in listed if mode not in _KEYS.values()]
    if unknown or not modes:
        found = ", ".join(unknown) or "none"
        raise ConfigError(f"{path}: expected a mode out of {', '.join(_KEYS.values())}; found {found}.")
    return modes


def _optional(path: Path) -> dict[str, Any]:
    return parse_object(read_small_file(path, what=path.name), where=str(path)) if path.is_file() else {}


def _inside(path: object, where: Path) -> str:
    """A module's folder, which must be inside the checkpoint's."""
    parts = Path(path).parts if isinstance(path, str) else ("..",)
    if not isinstance(path, str) or ".." in parts or Path(path).is_absolute():
        raise ConfigError(f"{where}: a module's `path` must be a folder inside; found {path!r}.")
    return path


def pool(hidden_BLD: Tensor, mask_BL: Tensor, modes: tuple[Mode, ...]) -> Tensor:
    """One vector a text, (B, D × modes), from rows in float32 and a mask without gaps on the left."""
    mask_BL1 = mask_BL.unsqueeze(-1).to(hidden_BLD.dtype)
    total_BD = (hidden_BLD * mask_BL1).sum(1)
    count_B1 = mask_BL1.sum(1).clamp(min=1e-9)
    out = []
    for mode in modes:
        if mode == "cls":
            out.append(hidden_BLD[:, 0])
        elif mode == "max":
            out.append(hidden_BLD.masked_fill(mask_BL1 == 0, -1e9).amax(1))
        elif mode == "mean":
            out.append(total_BD / count_B1)
        elif mode == "mean_sqrt_len_tokens":
            out.append(total_BD / count_B1.sqrt())
        elif mode == "weightedmean":
            places = torch.arange(1, hidden_BLD.shape[1] + 1, device=hidden_BLD.device)
            weight_BL1 = mask_BL1 * places[None, :, None]
            out.append((hidden_BLD * weight_BL1).sum(1) / weight_BL1.sum(1).clamp(min=1e-9))
        else:
            last_B = mask_BL.sum(1) - 1
            out.append(hidden_BLD[torch.arange(len(last_B), device=last_B.device), last_B])
    return torch.cat(out, 1)
