"""A run's folder: its files, its log of events, and whether it can be resumed.

`model/` the result, `checkpoints/step-000100/`, `run.toml`, `events.jsonl`, `verify.json`, `insights.json`,
`report.html`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from biject._version import __version__
from biject.checkpoint.exchange import LEFT_OVER, clear
from biject.config.recipe import FinetuneRecipe
from biject.config.recipe_file import TABLES, dump_recipe, make_recipe, read_recipe
from biject.errors import CheckpointError, InputError
from biject.train import ranks
from biject.train.checkpoints import existing

MODEL, CHECKPOINTS = "model", "checkpoints"
RECIPE, EVENTS, VERIFY, REPORT = "run.toml", "events.jsonl", "verify.json", "report.html"
INSIGHTS = "insights.json"

_COMMENT = f"biject {__version__}; again: biject finetune --recipe {RECIPE} --out DIR"
_MAY_DIFFER = {
    "device", "train.checkpoint_every", "train.keep", "train.evaluate_every", "train.patience",
    "train.load_best", "train.epochs", "train.max_steps", "train.metric", "train.deterministic",
    "train.gradient_checkpointing", "train.checkpoint_async", "sync.timeout", "sync.shares",
    "sync.speed_hint", "sync.shard", "sync.offload"}  # fmt: skip


class RunFolder:
    """The folder of one run; only rank 0 writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writes = ranks.rank() == 0
        self.listeners: list[Callable[[dict[str, Any]], None]] = []

    @property
    def model(self) -> Path:
        """The exported model's folder."""
        return self.folder / MODEL

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.folder / CHECKPOINTS

    def check_free(self) -> None:
        """Refuse a folder that is not empty, before work is done.

        Raises:
            InputError: it is not empty, or it cannot be a folder.
        """
        if not os.path.lexists(self.folder):
            return
        if not self.folder.is_dir():
            raise InputError(f"{self.folder} exists and is not a folder. Choose another for --out.")
        if any(self.folder.iterdir()):
            hint = " Resume it with --resume, or choose" if (self.folder / RECIPE).is_file() else " Choose"
            raise InputError(
                f"{self.folder} exists already and is not empty.{hint} another folder for --out."
            )

    def stored(self) -> FinetuneRecipe | None:
        """The recipe of the run in this folder, None where there is no run.

        Raises:
            InputError, ConfigError: it has something else in it, or its recipe is damaged.
        """
        path = self.folder / RECIPE
        if path.is_file():
            return make_recipe(read_recipe(path), where=str(path))
        if self.folder.is_dir() and any(not LEFT_OVER.fullmatch(p.name) for p in self.folder.iterdir()):
            raise InputError(
                f"{self.folder} is no run's folder: it has no {RECIPE}. There is nothing to resume."
            )
        return None

    def check_unfinished(self) -> None:
        """Refuse to resume what is complete and left no checkpoint: it would be trained again from the start.

        Raises:
            InputError: it is.
        """
        done = any(event.get("event") == "end" for event in self.events())
        if done and (self.model / "config.json").is_file() and not existing(self.checkpoints):
            raise InputError(
                f"The run in {self.folder} is complete: its result is {self.model}, and as checkpoint_every "
                "is 0 it left no checkpoint to resume from. Choose another folder for --out to train anew."
            )

    def drop_checkpoints(self) -> None:
        """Remove all checkpoints: the model is written."""
        if self.writes:
            shutil.rmtree(self.checkpoints, ignore_errors=True)

    def begin(self, recipe: FinetuneRecipe, *, fingerprints: dict[str, str]) -> None:
        """Make the folder with the recipe in it."""
        if not self.writes:
            return
        with self.writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.write(RECIPE, dump_recipe(recipe, comment=_COMMENT))
        self.event("start", fingerprints=fingerprints, recipe=asdict(recipe))

    def reopen(self, recipe: FinetuneRecipe, *, fingerprints: dict[str, str]) -> None:
        """Resume: remove what a killed process left unfinished, and refuse data that changed.

        Raises:
            InputError: a file has another content than when the run began.
        """
        first = next((event for event in self.events() if event.get("event") == "start"), {})
        before = first.get("fingerprints", {})
        for name, digest in fingerprints.items():
            if before.get(name, digest) != digest:
                raise InputError(f"{name} has changed since the run in {self.folder} began.")
        if not self.writes:
            return
        with self.writing():
            for place in (self.folder, self.checkpoints):
                for path in sorted(place.iterdir()) if place.is_dir() else ():
                    if LEFT_OVER.fullmatch(path.name):
                        clear(path)
        if self.stored() != recipe:
            self.write(RECIPE, dump_recipe(recipe, comment=_COMMENT))
        self.event("resume", recipe=asdict(recipe))

    def write(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        if not self.writes:
            return
        path = self.folder / name
        temporary = self.folder / f".{name}.biject-{os.getpid()}-new-0"
        with self.writing():
            try:
                with temporary.open("w", encoding="utf-8") as stream:
                    stream.write(text)
                    stream.flush()
                    os.fsync(stream.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def event(self, kind: str, **values: Any) -> None:
        """Append one line to `events.jsonl`, and give it to who listens."""
        if not self.writes:
            return
        event = {"event": kind, "time": round(time.time(), 3), **values}
        line = json.dumps(event, ensure_ascii=False)
        path = self.folder / EVENTS
        with self.writing(), path.open("a+b") as stream:
            if stream.seek(0, os.SEEK_END):
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":  # the last line of a killed process
                    stream.write(b"\n")
            stream.write(line.encode() + b"\n")
        for listen in self.listeners:
            listen(event)

    def events(self) -> list[dict[str, Any]]:
        """What happened, in order; a line that was cut off is passed over."""
        path = self.folder / EVENTS
        if not path.is_file():
            return []
        found = []
        for line in path.read_bytes().splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            found += [value] if isinstance(value, dict) else []
        return found

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn an error of the operating system into one message.

        Raises:
            CheckpointError: in place of any `OSError` of the block.
        """
        try:
            yield
        except OSError as error:
            place = error.filename or self.folder
            raise CheckpointError(
                f"{place} could not be written: {error.strerror or error}. Checkpoints that are in "
                f"{self.checkpoints} are intact; free some space, then continue with --resume."
            ) from error


def check_same(stored: FinetuneRecipe, requested: FinetuneRecipe, folder: Path) -> None:
    """Refuse to resume with another recipe.

    Raises:
        InputError: settings that decide the result differ.
    """
    before, now = _flat(stored), _flat(requested)
    differ = [key for key in before if key not in _MAY_DIFFER and before[key] != now[key]]
    if differ:
        listed = "; ".join(f"{key} was {before[key]!r}, is {now[key]!r}" for key in differ)
        raise InputError(f"The run in {folder} cannot be resumed with another recipe: {listed}.")


def _flat(recipe: FinetuneRecipe) -> dict[str, Any]:
    plain = asdict(recipe)
    for table in TABLES:
        plain |= {f"{table}.{key}": value for key, value in plain.pop(table).items()}
    return plain


def absolute(recipe: FinetuneRecipe) -> FinetuneRecipe:
    """With full paths, so that it works from anywhere; names on the Hub stay."""

    def full(name: str) -> str:
        path = Path(name).expanduser()
        return str(path.resolve()) if path.exists() else name

    eval_data = None if recipe.eval_data is None else full(recipe.eval_data)
    reference, preference = recipe.preference.reference_model, recipe.preference
    if reference is not None:
        preference = replace(preference, reference_model=full(reference))
    return replace(
        recipe,
        model=full(recipe.model),
        data=full(recipe.data),
        eval_data=eval_data,
        preference=preference,
    )


def fingerprints(recipe: FinetuneRecipe) -> dict[str, str]:
    """sha256 of the files of rows."""
    found = {}
    for value in (recipe.data, recipe.eval_data):
        if value is not None and Path(value).is_file():
            with Path(value).open("rb") as stream:
                found[value] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def checkpoint_of(path: Path) -> Path:
    """The Hugging Face folder that a run's folder or one of its checkpoints contains.

    Raises:
        InputError: it is neither.
    """
    if (path / MODEL / "config.json").is_file():
        return path / MODEL
    if (path / "adapter" / "adapter_config.json").is_file():
        return path / "adapter"
    if (path / "config.json").is_file():
        return path
    if (path / RECIPE).is_file():
        raise InputError(
            f"The run in {path} has no {MODEL} yet: finish it with --resume, or name one of its checkpoints."
        )
    raise InputError(f"{path} is neither a training run's folder nor one of its checkpoints.")


__all__ = ["RunFolder", "absolute", "check_same", "checkpoint_of", "fingerprints"]
