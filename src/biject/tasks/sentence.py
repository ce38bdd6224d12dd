"""How a sentence-transformers folder makes embeddings: modules.json and the files that it names.

Source: sentence-transformers 6.2, base/model.py, base/modules/transformer.py, sentence_transformer/model.py
and modules/pooling.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor, nn

from biject.checkpoint.embedder import MODULES, read_modules
from biject.checkpoint.strict_json import parse_object, read_small_file
from biject.errors import ConfigError, InputError
from biject.tasks.dense import DenseConfig, read_dense_config
from biject.tasks.pooling import Mode, behind, pool
from biject.tasks.similarity import Similarity

MODEL = "config_sentence_transformers.json"
TRANSFORMER_FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
"""The first is written, the others are of old folders."""
MODE_KEYS: dict[str, Mode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""In the order in which several are joined."""
Stage = Literal["normalize"] | DenseConfig


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """How a folder's rows become one vector a text."""

    folder: str = ""
    """The transformer's place in it; empty for the folder itself."""
    modes: tuple[Mode, ...] = ("mean",)
    stages: tuple[Stage, ...] = ()
    """What comes behind pooling, in its order."""
    max_tokens: int | None = None
    lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Texts that are put before others, by name."""
    default_prompt: str | None = None
    """The name of the one that is put before every text."""
    include_prompt: bool = True
    """Pooling counts a prompt's tokens."""
    similarity: Similarity = "cosine"
    truncate_dim: int | None = None

    @property
    def normalize(self) -> bool:
        """Vectors have length 1."""
        return "normalize" in self.stages

    @property
    def dense(self) -> tuple[DenseConfig, ...]:
        """The linears behind pooling."""
        return tuple(stage for stage in self.stages if isinstance(stage, DenseConfig))

    def prompt_of(self, prompt: str | None, name: str | None) -> str:
        """What is put before texts: `prompt`, else the one called `name`, else the default.

        Raises:
            InputError: There is no prompt of that name.
        """
        if prompt is not None:
            return prompt
        if name is not None and name not in self.prompts:
            known = ", ".join(map(repr, self.prompts)) or "none"
            raise InputError(f"`prompt_name` {name!r}: the folder has no such prompt; it has {known}.")
        chosen = self.default_prompt if name is None else name
        return "" if chosen is None else self.prompts.get(chosen, "")


def vectors(
    hidden_BLD: Tensor,
    mask_BL: Tensor,
    sentence: Sentence,
    *,
    dense: nn.ModuleList | None = None,
    skip: Tensor | None = None,
) -> Tensor:
    """One vector a text from a model's rows: pooled, through the linears of `dense`, normalised.

    Args:
        hidden_BLD: The rows.
        mask_BL: 0 for padding.
        sentence: What is done with them.
        dense: The linears of `sentence`.
        skip: How many first tokens of each text are its prompt's; left out where `include_prompt` is False.
    """
    skip = None if sentence.include_prompt else skip
    wide = hidden_BLD if hidden_BLD.dtype.itemsize >= 4 else hidden_BLD.float()
    pooled_BD = pool(wide, mask_BL, sentence.modes, skip_B=skip)
    return behind(pooled_BD, [stage != "normalize" for stage in sentence.stages], dense or ())


def is_cross_encoder(folder: Path) -> bool:
    """Whether a folder is a reranker's of sentence-transformers: its model scores pairs."""
    return _optional(folder / MODEL).get("model_type") == "CrossEncoder"


def read_sentence(folder: Path) -> Sentence | None:
    """The settings in modules.json and the files it names, or None where the folder is no embedder's.

    Raises:
        CheckpointError: a file is damaged.
        ConfigError: it needs a module or a way of pooling that Biject does not compute.
    """
    path = folder / MODULES
    if not path.is_file() or is_cross_encoder(folder):
        return None
    found: list[tuple[str, str]] = []
    for entry in read_modules(folder):
        module = entry if isinstance(entry, dict) else {}
        kind = str(module.get("type")).rpartition(".")[2]
        once = kind in ("Transformer", "Pooling") and kind not in dict(found)
        if not once and kind not in ("Normalize", "Dense"):
            raise ConfigError(
                f"{path}: Biject computes one module each of Transformer and Pooling, and Dense and "
                f"Normalize behind them; found {kind!r}."
            )
        found.append((kind, _inside(module.get("path"), path)))
    kinds = [kind for kind, _ in found]
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise ConfigError(f"{path}: expected a Transformer and a Pooling module; found {', '.join(kinds)}.")
    return _read(folder, found)


def _read(folder: Path, places: list[tuple[str, str]]) -> Sentence:
    place = folder / places[1][1] / "config.json"
    pooling = parse_object(read_small_file(place, what=str(place)), where=str(place))
    inner, settings = _transformer(folder / places[0][1]), _optional(folder / MODEL)
    stages: list[Stage] = []
    for kind, where in places[2:]:
        stages.append(read_dense_config(folder / where) if kind == "Dense" else "normalize")
    prompts, default = settings.get("prompts"), settings.get("default_prompt_name")
    texts = prompts if isinstance(prompts, dict) else {}
    length, width = inner.get("max_seq_length"), settings.get("truncate_dim")
    similarity: Any = settings.get("similarity_fn_name")
    return Sentence(
        folder=places[0][1],
        modes=_modes(pooling, place),
        stages=tuple(stages),
        max_tokens=length if isinstance(length, int) and length > 0 else None,
        lower_case=inner.get("do_lower_case") is True,
        prompts={name: text for name, text in texts.items() if isinstance(text, str)},
        default_prompt=default if isinstance(default, str) else None,
        include_prompt=pooling.get("include_prompt") is not False,
        similarity=similarity if similarity in get_args(Similarity) else "cosine",
        truncate_dim=width if isinstance(width, int) and width > 0 else None,
    )


def _transformer(folder: Path) -> dict[str, Any]:
    """The settings of the module that runs the model.

    Raises:
        ConfigError: It asks for something that is not computed.
    """
    path = next((folder / name for name in TRANSFORMER_FILES if (folder / name).is_file()), None)
    values = {} if path is None else _optional(path)
    usual = {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}
    strange = [key for key, value in usual.items() if values.get(key, value) != value]
    strange += [
        key
        for key in ("processing_kwargs", "query_length", "document_length", "query_expansion")
        if values.get(key)
    ]
    if strange:
        raise ConfigError(f"{path}: `{strange[0]}` = {values[strange[0]]!r} is not computed.")
    return values


def _modes(values: dict[str, Any], path: Path) -> tuple[Mode, ...]:
    unknown = [
        key for key, on in values.items() if key.startswith("pooling_mode_") and on and key not in MODE_KEYS
    ]
    modes = tuple(mode for key, mode in MODE_KEYS.items() if values.get(key) is True)
    named = values.get("pooling_mode")
    if named is not None:
        listed = named if isinstance(named, list) else [named]
        modes = tuple(mode for mode in listed if mode in get_args(Mode))
        unknown += [str(mode) for mode in listed if mode not in get_args(Mode)]
    if unknown or not modes:
        found = ", ".join(unknown) or "none"
        raise ConfigError(f"{path}: expected a mode out of {', '.join(get_args(Mode))}; found {found}.")
    return modes


def _optional(path: Path) -> dict[str, Any]:
    return parse_object(read_small_file(path, what=path.name), where=str(path)) if path.is_file() else {}


def _inside(path: object, where: Path) -> str:
    """A module's folder, which must be inside the checkpoint's."""
    parts = Path(path).parts if isinstance(path, str) else ("..",)
    if not isinstance(path, str) or ".." in parts or Path(path).is_absolute():
        raise ConfigError(f"{where}: a module's `path` must be a folder inside; found {path!r}.")
    return path
