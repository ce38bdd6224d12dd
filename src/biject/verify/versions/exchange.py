"""Ask a release: jobs go to its process as a file, its answers come back as files."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from biject.errors import CheckpointError, InputError
from biject.verify.versions import oracle
from biject.verify.versions.environments import Environment

Job = dict[str, Any]
_TAIL_LINES = 6
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def ask(
    environment: Environment, jobs: Sequence[Job], folder: Path, *, on_done: Callable[[int], None]
) -> list[dict[str, Any]]:
    """Have a release do jobs, in one process; their answers in order.

    A job that the process did not come to, because it ended before, is answered with an `error`.

    Args:
        environment: Of the release.
        jobs: What `oracle` takes, less the place of the answer.
        folder: For the files that go to and fro; made if it is not there.
        on_done: Called with how many are done.

    Raises:
        InputError: The release does not start here.
        CheckpointError: It computes with another torch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    answers = [folder / f"answer-{i}.json" for i in range(len(jobs))]
    about = folder / "about.json"
    order = {
        "threads": torch.get_num_threads(),
        "about": str(about),
        "jobs": [{**job, "result": str(path)} for job, path in zip(jobs, answers, strict=True)],
    }
    (folder / "jobs.json").write_text(json.dumps(order), encoding="utf-8")
    log = folder / "log.txt"
    code = _run(environment, folder / "jobs.json", log, on_done)
    ending = _tail(log)
    if not about.is_file():
        raise InputError(
            f"transformers {environment.version} does not start with torch {torch.__version__}: {ending}"
        )
    found = json.loads(about.read_text(encoding="utf-8"))
    if found["torch"] != str(torch.__version__):
        raise CheckpointError(
            f"{environment.python} has torch {found['torch']}, this is {torch.__version__}: bits cannot be "
            f"compared. Remove {environment.python.parents[1]}, and it is made anew."
        )
    lost = {"error": f"the process of transformers {environment.version} ended with {code}: {ending}"}
    return [json.loads(path.read_text(encoding="utf-8")) if path.is_file() else lost for path in answers]


def _run(environment: Environment, jobs: Path, log: Path, on_done: Callable[[int], None]) -> int:
    """Run the program; its exit code."""
    command = [str(environment.python), "-I", str(oracle.__file__), str(jobs)]
    own = {"HF_HOME": str(jobs.parent / "hf-home"), **_QUIET}
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **own}
        )
        try:
            assert process.stdout is not None
            for count, _ in enumerate(line for line in process.stdout if line.startswith("DONE ")):
                on_done(count + 1)
            return process.wait()
        finally:
            process.kill()
            process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " / ".join(line.strip() for line in lines[-_TAIL_LINES:])
