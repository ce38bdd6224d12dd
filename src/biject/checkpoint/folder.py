"""Which files of a folder are the weights that are read, other weights, or assets. Names only; no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NoReturn

from biject.checkpoint.strict_json import shown
from biject.errors import CheckpointError
from biject.events import notice

CHOICES = (
    ("safetensors", "model.safetensors", None),
    ("safetensors", None, "model.safetensors.index.json"),
    ("bin", "pytorch_model.bin", None),
    ("bin", None, "pytorch_model.bin.index.json"),
)
"""Format, single file, index, in the order of preference of transformers' `from_pretrained`."""

ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
"""In the order of preference."""

SKIPPED_FOLDERS = frozenset({".git", ".cache", "__pycache__"})
WEIGHT_FOLDERS = frozenset({"onnx", "openvino", "coreml", "tflite", "original"})
WEIGHT_PATTERNS = (
    "model*.safetensors",
    "model*.safetensors.index*.json",
    "consolidated*.safetensors",
    "consolidated*.pth",
    "pytorch_model*.bin",
    "pytorch_model*.bin.index*.json",
    "tf_model*.h5",
    "tf_model*.h5.index.json",
    "flax_model*.msgpack",
    "flax_model*.msgpack.index.json",
    "rust_model*.ot",
    "openvino_model*",
    "model.ckpt*",
    "bert_model.ckpt*",
    "*.gguf",
    "*.ggml",
    "*.onnx",
    "*.onnx_data",
    "*.tflite",
    "*.mlmodel",
)
"""Names, at the top of the folder, of files that hold the same model's weights in another form."""
TRAINER_PATTERNS = (
    "optimizer.pt",
    "optimizer.bin",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*.pth",
    "training_args.bin",
)
"""Names, at the top of the folder, of what transformers' `Trainer` keeps to go on from."""
_TRAINER_FOLDER = re.compile(r"checkpoint-\d+")


def find_weights(folder: Path, files: Sequence[str]) -> tuple[str, str | None, tuple[str, ...]]:
    """Format, index file and single weight file (no names yet when there is an index).

    Raises:
        CheckpointError: The folder has none that Biject reads.
    """
    present = set(files)
    for weight_format, single, index in CHOICES:
        if single is not None and single in present:
            return weight_format, None, (single,)
        if index is not None and index in present:
            return weight_format, index, ()
    expected = ", ".join(single or index or "" for _, single, index in CHOICES)
    other = [file for file in sort_files(files)[0] if not is_trainer_state(file)]
    found = (
        f"weights of another kind: {', '.join(map(shown, other[:5]))}"
        if other
        else f"{len(files)} other files"
    )
    raise CheckpointError(
        f"{folder} has no weights that Biject reads: expected one of {expected}; found {found}. Convert them "
        "with transformers (from_pretrained, then save_pretrained)."
    )


def needed_files(files: Sequence[str]) -> list[str]:
    """Those of a repository's files that a checkpoint folder needs: one format of weights, and all assets.

    Of an adapter's: its settings and tensors, and what lies beside them but for a trainer's state.
    """
    first = first_weights(files)
    if first is None and is_adapter_repository(files):
        return _of_adapter(files)
    suffix = ".bin" if first is not None and first.startswith("pytorch_model") else ".safetensors"
    stem = "pytorch_model" if suffix == ".bin" else "model"

    def is_read(file: str) -> bool:
        if first is not None and not first.endswith(".json"):
            return file == first
        return "/" not in file and (file == first or (file.startswith(f"{stem}-") and file.endswith(suffix)))

    return [file for file in files if is_read(file) or not is_other_weight(file)]


def is_adapter_repository(files: Sequence[str]) -> bool:
    """Whether the files are those of an adapter."""
    return "adapter_config.json" in files and any(name in files for name in ADAPTER_WEIGHTS)


def _of_adapter(files: Sequence[str]) -> list[str]:
    weights = next(name for name in ADAPTER_WEIGHTS if name in files)
    suffixes = (".json", ".txt", ".model", ".jinja", ".md")
    return [file for file in files if file == weights or ("/" not in file and file.endswith(suffixes))]


def first_weights(files: Sequence[str]) -> str | None:
    """The weights, or their index, that would be read; None where there are none."""
    present = set(files)
    return next((name for _, single, index in CHOICES if (name := single or index) in present), None)


def list_files(folder: Path) -> list[str]:
    """Every regular file under `folder`, relative, with forward slashes, sorted; see `survey`."""
    return survey(folder)[0]


def survey(folder: Path) -> tuple[list[str], list[str]]:
    """Every regular file under `folder`, relative, with forward slashes, sorted; and what is left out.

    Links to files are followed (the Hub's cache consists of them), links to folders are not.

    Raises:
        CheckpointError: It is not a folder, or part of it cannot be read.
    """
    try:
        if not folder.is_dir():
            kind = "is a file" if folder.is_file() else "does not exist"
            raise CheckpointError(f"expected a checkpoint folder at {folder}, but it {kind}. Give its path.")
        left: list[str] = []
        return sorted(_walk(folder, left)), sorted(left)
    except OSError as error:
        raise CheckpointError(
            f"{folder} cannot be listed: {error.strerror} at {shown(error.filename)}. Check its permissions."
        ) from error


def _walk(folder: Path, left: list[str]) -> Iterator[str]:
    def fail(error: OSError) -> NoReturn:
        raise error

    for top, folders, names in os.walk(folder, onerror=fail, followlinks=False):
        place = Path(top)
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        links = [place / name for name in folders if (place / name).is_symlink()]
        left += [_left_out(folder, link, "a link to a folder") for link in links]
        for name in names:
            if (place / name).is_file():
                if (place / name).is_symlink():
                    notice_outside(folder, place / name)
                yield (place / name).relative_to(folder).as_posix()
            else:
                left.append(_left_out(folder, place / name, "not a regular file, or a link to nothing"))


def notice_outside(folder: Path, path: Path) -> None:
    """A link out of the folder is followed, as the Hub's cache consists of such, but not in silence."""
    if leads_outside(folder, path):
        notice(
            "link-outside",
            f"{shown(path.relative_to(folder).as_posix())} in {folder} is a link to "
            f"{shown(str(path.resolve()))}, "
            "outside the folder; its target is read and copied.",
        )


def leads_outside(folder: Path, path: Path) -> bool:
    """Whether a file in a folder is a link out of it; one within a repository of the Hub's cache is not."""
    return not path.resolve().is_relative_to(_reach(folder.resolve()))


def _reach(home: Path) -> Path:
    """What links may lead to: the folder, or where it is a snapshot in the Hub's cache, its repository's."""
    for place in (home, *home.parents):
        if place.parent.name == "snapshots" and place.parents[1].name.startswith("models--"):
            return place.parents[1]
    return home


def _left_out(folder: Path, path: Path, what: str) -> str:
    name = path.relative_to(folder).as_posix()
    notice("file-left-out", f"{shown(name)} in {folder} is {what} and is left out.")
    return name


def sort_files(files: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Part `files` into other weights and assets."""
    other = tuple(file for file in files if is_other_weight(file))
    weights = frozenset(other)
    return other, tuple(file for file in files if file not in weights)


def is_other_weight(file: str) -> bool:
    """Whether a file holds the model's weights in a form that is not read, or a trainer's state.

    A `2_Dense/model.safetensors` is none: it is another module of a sentence-transformers pipeline.
    """
    if is_trainer_state(file):
        return True
    first, _, rest = file.partition("/")
    if rest:
        return first in WEIGHT_FOLDERS or any(part.endswith(".mlpackage") for part in file.split("/")[:-1])
    return any(fnmatchcase(file, pattern) for pattern in WEIGHT_PATTERNS)


def is_trainer_state(file: str) -> bool:
    """Whether transformers' `Trainer` keeps a file to go on from: one beside the model, or anything in a
    `checkpoint-500`, which has the weights of another step, too.
    """
    first, _, rest = file.partition("/")
    if rest:
        return bool(_TRAINER_FOLDER.fullmatch(first))
    return any(fnmatchcase(file, pattern) for pattern in TRAINER_PATTERNS)
