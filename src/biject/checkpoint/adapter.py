"""An adapter's folder on disk: settings, names and sizes of its tensors, the base that it names; no torch.

(A legacy `.bin` is a pickle, and reading it takes torch, as reading tensors does.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biject.checkpoint.folder import CHOICES
from biject.checkpoint.header import read_header
from biject.checkpoint.hub import resolve_folder
from biject.checkpoint.strict_json import MAX_CONFIG_BYTES, parse_object, read_small_file
from biject.checkpoint.tensor_info import TensorInfo
from biject.config.adapter import TASK_TYPES, LoraConfig
from biject.errors import BijectError, CheckpointError, ConfigError, shown

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
OLD_WEIGHTS = "adapter_model.bin"
RECORD = "biject.json"
HELD = ("double_quant", "compute_dtype", "skip_modules")
"""Keys of the record beside `quantization`, as `from_pretrained` takes them."""
PREFIX = "base_model.model."
"""What PEFT puts before the names of all tensors."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An adapter's folder, read.

    Attributes:
        folder: Where.
        config: Its settings.
        values: adapter_config.json.
        record: What Biject wrote beside: head, labels, the base's fingerprint; empty in PEFT's own folders.
    """

    folder: Path
    config: LoraConfig
    values: Mapping[str, Any]
    record: Mapping[str, Any]

    @property
    def base(self) -> str | None:
        """The folder or repository that it was trained on, as written."""
        found = self.values.get("base_model_name_or_path")
        return found if isinstance(found, str) and found else None

    @property
    def revision(self) -> str | None:
        """Of the base's repository, as written."""
        found = self.values.get("revision")
        return found if isinstance(found, str) and found else None

    @property
    def head(self) -> str | None:
        """The head that it was trained for, where that is written."""
        own = self.record.get("head")
        if isinstance(own, str):
            return own
        kinds = {task: head for head, task in TASK_TYPES.items()}
        return kinds.get(str(self.values.get("task_type")))

    @property
    def quantization(self) -> dict[str, Any]:
        """`from_pretrained`'s arguments for the base as it was held in training; none where it was whole."""
        method = self.record.get("quantization")
        if not isinstance(method, str):
            return {}
        keys = HELD if method != "int8" else ("skip_modules",)
        found = {key: self.record[key] for key in keys if key in self.record}
        kinds = {"double_quant": bool, "compute_dtype": str, "skip_modules": list | None}
        wrong = [key for key, value in found.items() if not isinstance(value, kinds[key])]
        if wrong:
            raise ConfigError(
                f"{self.folder / RECORD}: `{wrong[0]}` of the adapter is {shown(found[wrong[0]])}, which "
                "Biject does not write. Remove the file, and say how the base was held."
            )
        return {"quantization": method, **found}

    @property
    def weights(self) -> Path:
        """The file with the tensors.

        Raises:
            CheckpointError: There is none.
        """
        for name in (WEIGHTS, OLD_WEIGHTS):
            if (self.folder / name).exists():
                return self.folder / name
        raise CheckpointError(f"{self.folder} has a {CONFIG}, but neither {WEIGHTS} nor {OLD_WEIGHTS}.")

    def infos(self) -> dict[str, TensorInfo]:
        """Names, shapes and dtypes of the tensors, by PEFT's newest names.

        Raises:
            CheckpointError: There is no such file, or it is damaged, or a tensor has no numbers.
        """
        path = self.weights
        if path.name == OLD_WEIGHTS:
            from biject.checkpoint.legacy import read_bin_infos

            found: Mapping[str, TensorInfo] = read_bin_infos(path)
        else:
            found = read_header(path).tensors
        _refuse_empty({name: info.shape for name, info in found.items()}, path)
        return {newest_name(name): info for name, info in found.items()}

    def tensors(self) -> dict[str, Tensor]:
        """By PEFT's newest names, without its prefix.

        Raises:
            CheckpointError: There is no such file, or it is damaged, or a tensor has no numbers.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from biject.checkpoint.legacy import load_bin

        path = self.weights
        if path.name == OLD_WEIGHTS:
            found = load_bin(path)
        else:
            read_header(path)  # stricter than the library, and it says what is wrong
            try:
                found = load_file(path)
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{path} is damaged: {error}.") from error
        _refuse_empty({name: tuple(tensor.shape) for name, tensor in found.items()}, path)
        return {newest_name(name): tensor for name, tensor in found.items()}


def _refuse_empty(shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Of sizes that no bytes stand for, anything could be made."""
    for name, shape in shapes.items():
        if 0 in shape:
            raise CheckpointError(
                f"{path}: tensor {shown(name)} of shape {shape} has no numbers. Parameters that are spread "
                "over ranks (ZeRO-3, FSDP) have to be gathered to be saved: do so, and save it again."
            )


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no model's weights."""
    names = {name for _, single, index in CHOICES for name in (single, index) if name is not None}
    return (folder / CONFIG).is_file() and (
        not (folder / "config.json").is_file() or not any((folder / name).is_file() for name in names)
    )


def read_adapter(folder: str | Path) -> Stored:
    """Read an adapter's settings.

    Raises:
        CheckpointError: There is none, or it is no JSON.
        ConfigError: It is of a kind that is not computed.
    """
    path = Path(folder) / CONFIG
    values = parse_object(read_small_file(path, what=CONFIG, limit=MAX_CONFIG_BYTES), where=str(path))
    record: object = {}
    if (Path(folder) / RECORD).is_file():
        record = parse_object(
            read_small_file(Path(folder) / RECORD, what=RECORD, limit=MAX_CONFIG_BYTES),
            where=str(Path(folder) / RECORD),
        ).get("adapter", {})
    return Stored(
        folder=Path(folder),
        config=LoraConfig.from_peft(values, where=str(path)),
        values=values,
        record=record if isinstance(record, Mapping) else {},
    )


def base_folder(stored: Stored, *, token: str | None = None) -> Path:
    """Where the base is that an adapter names: an absolute folder, one beside the adapter, or a repository.

    Raises:
        CheckpointError: It names none, or what it names cannot be read.
    """
    folder = stored.folder
    if stored.base is None:
        raise CheckpointError(
            f"{folder} is an adapter that does not name its base: load the base with adapter={str(folder)!r}."
        )
    local = local_base(stored)
    try:
        found = resolve_folder(stored.base, revision=stored.revision, token=token) if local is None else local
    except BijectError as error:
        raise CheckpointError(
            f"{folder} is an adapter of {shown(stored.base)}, which cannot be read: {_printable(str(error))} "
            f"Load the base from where it is now, with adapter={str(folder)!r}."
        ) from error
    if is_adapter(found):
        raise CheckpointError(
            f"{folder} is an adapter of {shown(stored.base)}, an adapter itself: merge that one first."
        )
    if not (found / "config.json").is_file():
        raise CheckpointError(
            f"{folder} is an adapter of {shown(stored.base)}, which cannot be read: there is no config.json. "
            f"Load the base from where it is now, with adapter={str(folder)!r}."
        )
    return found


def _printable(text: str) -> str:
    """A message about a name that somebody else wrote."""
    cut = text if len(text) <= 600 else f"{text[:300]}… {text[-200:]}"
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in cut
    )


def local_base(stored: Stored) -> Path | None:
    """The base where it is a folder here, absolute, beside the adapter or from where one stands."""
    if stored.base is None:
        return None
    for place in (stored.folder / stored.base, Path(stored.base).expanduser()):
        try:
            if place.is_dir():
                return place
        except (OSError, ValueError, RuntimeError):  # a NUL, a name too long, no such home
            continue
    return None


def checkpoint_folder(folder: Path) -> Path:
    """A checkpoint's folder, or the one of an adapter's base.

    Raises:
        CheckpointError, ConfigError: The adapter or its base cannot be read.
    """
    return base_folder(read_adapter(folder)) if is_adapter(folder) else folder


def newest_name(name: str) -> str:
    """PEFT's name of a tensor as it writes it today: adapters' names and wrappers inside of it are older."""
    name = name.removeprefix(PREFIX)
    for kind in ("lora_A", "lora_B"):
        name = name.replace(f".{kind}.default.weight", f".{kind}.weight")
    for kind in ("lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector"):
        name = name.replace(f".{kind}.default", f".{kind}")
    name = name.replace(".lora_magnitude_vector.weight", ".lora_magnitude_vector")
    return name.replace(".modules_to_save.default.", ".")
