"""What a bad folder brings: modules and pickles that write a canary when they run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CODE = """
from pathlib import Path
Path({canary!r}).write_text("ran")
from transformers import {name}Config, {model}, {name}Tokenizer
class Own({model}): pass
class OwnConfig({name}Config): pass
class OwnTokenizer({name}Tokenizer): pass
def generate(*arguments, **options): pass
"""


def code(canary: Path, name: str, model: str) -> str:
    """A module with classes of its own."""
    return CODE.format(canary=str(canary), name=name, model=model)


class Pickled:
    """Writes the canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.write_text, (self.canary, "ran")


def change(folder: Path, file: str, **values: Any) -> None:
    path = folder / file
    known = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**known, **values}))
