"""`biject init`."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from string import Template
from typing import Annotated

from cyclopts import Parameter

from biject.errors import InputError

_TEMPLATES = Path(__file__).parent / "scaffold"
_FILES = {
    "README.md": "README.md",
    "Makefile": "Makefile",
    "recipe.toml": "recipe.toml",
    "data/rows.csv": "rows.csv",
    "train.py": "train.py",
    "test_project.py": "test_project.py",
}
"""Where each template goes."""
MODEL = "google/bert_uncased_L-2_H-128_A-2"
"""A small one (17 MB), so that the first run takes seconds."""


def init(
    name: Annotated[Path, Parameter(name="NAME")],
    /,
    *,
    model: Annotated[str, Parameter(metavar="REPO|DIR")] = MODEL,
) -> int:
    """Make a small project that runs as it is: rows, a recipe, a script, a test, a Makefile.

    Args:
        name: The folder to make.
        model: What to start from.
    """
    from biject.cli.console import print_lines

    if os.path.lexists(name) and (not name.is_dir() or any(name.iterdir())):
        raise InputError(f"{name} exists already and is not empty. Choose another name.")
    local = Path(model).expanduser()
    full = str(local.resolve()) if local.exists() else model
    values = {"name": name.resolve().name, "model": json.dumps(full, ensure_ascii=False)}
    for place, template in _FILES.items():
        path = name / place
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (_TEMPLATES / f"{template}.tmpl").read_text(encoding="utf-8")
        path.write_text(Template(text).substitute(values), encoding="utf-8")
    print_lines([f"MADE {name} with {', '.join(_FILES)}", f"NEXT cd {shlex.quote(str(name))} && make run"])
    return 0
