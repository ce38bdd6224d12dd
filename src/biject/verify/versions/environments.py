"""An environment for each release of transformers: made once, kept in the user's cache folder.

`venv` and `pip` make it; torch is lent (`torch_link`). Each has the pins of its release: transformers 4
needs another `huggingface_hub` than transformers 5, and neither has to live with ours.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

from biject.errors import CheckpointError, InputError
from biject.events import notice, progress
from biject.nn.probe.store import folder as cache_folder
from biject.verify.versions.pip_errors import explained
from biject.verify.versions.torch_link import FOLDER, lend_torch

INSTALLED = "installed"
"""In place of a release: the one of this environment."""
_RELEASE = re.compile(r"\d+(\.\d+){1,2}((a|b|rc|\.post|\.dev)\d+)?")
_MARK = "ready.json"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A Python with one release of transformers."""

    requested: str
    version: str
    python: Path
    made: bool = False
    """It was made now; else it was there."""


def check_release(text: str) -> None:
    """Refuse what is neither a release nor a wheel, before anything is installed.

    Raises:
        InputError: It is neither.
    """
    if text == INSTALLED or _RELEASE.fullmatch(text) or (text.endswith(".whl") and Path(text).is_file()):
        return
    raise InputError(
        f"--transformers takes releases such as 4.57.6 or 5.0 (its newest patch), `{INSTALLED}`, or wheels "
        f"(files that end in .whl); {text!r} is none of them."
    )


def environment(
    requested: str, *, folder: Path | None = None, constraints: Path | None = None
) -> Environment:
    """The environment of a release; made if it is not there yet.

    Args:
        requested: E.g. `4.57.6`; `5.0` is its newest patch when the environment is made; a wheel's path;
            `installed`.
        folder: Where environments are kept; `versions` in Biject's cache folder where left out.
        constraints: A pip constraints file. Its pins hold but for transformers and torch, and not at all
            where they contradict what the release needs (a notice says so).

    Raises:
        InputError: No such release, no pip, or no index within reach.
        CheckpointError: The folder cannot be written.
    """
    check_release(requested)
    if requested == INSTALLED:
        return Environment(
            requested=requested, version=_version(Path(sys.executable)), python=Path(sys.executable)
        )
    if constraints is not None and not constraints.is_file():
        raise InputError(f"--constraints: there is no file {constraints}.")
    top = cache_folder() / "versions" if folder is None else folder
    place = top / _name(requested, constraints)
    python = place / "bin" / "python"
    if (place / _MARK).is_file() and _starts(python):
        found = json.loads((place / _MARK).read_text(encoding="utf-8"))
        return Environment(requested=requested, version=found["transformers"], python=python)
    try:
        top.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=top) as temporary:
            made = Path(temporary) / "env"
            version = _make(made, requested, constraints)
            (made / _MARK).write_text(json.dumps({"transformers": version}) + "\n", encoding="utf-8")
            _put(made, place)
    except OSError as error:
        raise CheckpointError(f"{place}: the environment cannot be made: {error}.") from error
    return Environment(requested=requested, version=version, python=python, made=True)


def _name(requested: str, constraints: Path | None) -> str:
    """A folder's name for everything that the environment depends on."""
    import torch

    parts = [
        "transformers",
        requested,
        f"torch{torch.__version__}",
        f"py{sys.version_info[0]}.{sys.version_info[1]}",
    ]
    if requested.endswith(".whl"):
        parts[1] = hashlib.sha256(Path(requested).read_bytes()).hexdigest()[:16]
    if constraints is not None:
        parts.append(hashlib.sha256(constraints.read_bytes()).hexdigest()[:8])
    return "-".join(parts).replace("+", "_")


def _starts(python: Path) -> bool:
    """Whether an environment's Python and the torch that was lent to it are still there."""
    links = list(python.parents[1].glob(f"lib/python*/site-packages/{FOLDER}/torch"))
    return python.exists() and bool(links) and links[0].exists()


def _make(folder: Path, requested: str, constraints: Path | None) -> str:
    """An environment with a release; the version that was installed."""
    label = f"environment of transformers {requested}"
    progress(label, 0, 2, unit="steps", detail="pip")
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    what = requested if requested.endswith(".whl") else _requirement(requested)
    with tempfile.TemporaryDirectory(prefix="biject-pins-") as temporary:
        own = Path(temporary) / "own.txt"
        own.write_text("torch==0\n", encoding="utf-8")  # never another torch
        pins = ["-c", str(own)]
        given = pins if constraints is None else [*pins, "-c", str(_pins(constraints, Path(temporary)))]
        done = _pip(folder, given, what)
        if done.returncode and given is not pins and "conflict" in done.stderr + done.stdout:
            notice(
                "constraints",
                f"transformers {requested} needs other releases than {constraints} pins, and gets them.",
            )
            done = _pip(folder, pins, what)
    if done.returncode:
        raise InputError(explained(done.stderr + done.stdout, requested))
    progress(label, 1, 2, unit="steps", detail="torch")
    site_packages = next(iter(folder.glob("lib/python*/site-packages")))
    if (site_packages / "torch").exists():
        raise InputError(
            f"pip has installed a torch beside transformers {requested}; the environment is not used."
        )
    lend_torch(site_packages)
    version = _version(folder / "bin" / "python")
    progress(label, 2, 2, unit="steps")
    return version


def _requirement(requested: str) -> str:
    """`5.0` is its newest patch, `5.0.0` itself."""
    return f"transformers=={requested}" + (
        ".*" if requested.count(".") == 1 and requested[-1].isdigit() else ""
    )


def _pins(constraints: Path, folder: Path) -> Path:
    """The constraints without those of transformers and torch."""
    lines = constraints.read_text(encoding="utf-8").splitlines()
    kept = [
        line for line in lines if not re.match(r"\s*(transformers|torch)\s*[=<>!~@;]", line, re.IGNORECASE)
    ]
    path = folder / "given.txt"
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return path


def _pip(folder: Path, pins: list[str], what: str) -> subprocess.CompletedProcess[str]:
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-input"]
    command += ["--retries", "2", "--disable-pip-version-check", *pins, what]
    environment = {**os.environ, "PIP_USER": "0", "PYTHONPATH": ""}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def _version(python: Path) -> str:
    """The release that a Python would import; nothing is imported for it."""
    code = "from importlib.metadata import version; print(version('transformers'))"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{python} has no transformers: {done.stderr.strip().splitlines()[-1:]}.")
    return done.stdout.strip()


def _put(made: Path, place: Path) -> None:
    """Move an environment to its place: another process may have been faster, or the old one be broken."""
    if (place / _MARK).is_file() and _starts(place / "bin" / "python"):
        return
    if place.exists():
        shutil.rmtree(place)
    made.rename(place)
