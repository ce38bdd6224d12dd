"""`push`: a folder is verified, then uploaded as one commit; its card says what was verified."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biject.checkpoint.hub_upload import upload
from biject.config.recipe import Backend
from biject.config.recipe_file import make_recipe, read_recipe
from biject.errors import InputError
from biject.runs.card import CARD, VERIFICATION, VERIFICATION_HF
from biject.runs.folder import RECIPE, checkpoint_of
from biject.verify import verify_export
from biject.verify.report import Report

NOT_VERIFIED = "Nothing of it was verified before the upload."


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What was done.

    Attributes:
        folder: What was uploaded.
        repo: Where to.
        url: The commit; empty where the verification failed and nothing was uploaded.
        report: What was verified; None where that was left out.
    """

    folder: Path
    repo: str
    url: str
    report: Report | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        lines = [] if self.report is None else self.report.summary()
        return {"folder": str(self.folder), "repo": self.repo, "url": self.url, "verified": lines}


def push(
    path: Path,
    repo: str,
    *,
    private: bool = True,
    verify: bool = True,
    source: str | None = None,
    token: str | None = None,
    backend: Backend | None = None,
) -> Pushed:
    """Verify a run's model, a checkpoint or another model's folder, and upload it.

    Args:
        path: A run's folder, or a model's.
        repo: `organisation/model`.
        private: Only its owners may see it.
        verify: Compare the folder with transformers first; where that fails nothing is uploaded.
        source: What the folder was made from, to compare with that, too.
        token: Of the Hub.
        backend: `hf` for a model of any architecture of transformers; left out, that of the run.

    Raises:
        BijectError: The folder cannot be used, or the Hub refuses.
    """
    if repo.count("/") > 1 or not repo.strip("/"):
        raise InputError(f"{repo!r} is no name of a repository: expected `organisation/model`.")
    folder = checkpoint_of(path)
    chosen = _backend(path) if backend is None else backend
    report = verify_export(folder, source=source, backend=chosen) if verify else None
    if report is not None and not report.passed:
        return Pushed(folder=folder, repo=repo, url="", report=report)
    words = NOT_VERIFIED if report is None else "\n".join(f"- {line}" for line in _lines(report))
    readme = folder / CARD
    replaced = {}
    if readme.is_file():
        text = readme.read_text(encoding="utf-8", errors="replace")
        for promise in (VERIFICATION, VERIFICATION_HF):
            if promise in text:
                replaced[CARD] = text.replace(promise, words).encode()
    message = "Upload model, not verified" if report is None else "Upload model, verified by Biject"
    url = upload(folder, repo, private=private, token=token, message=message, replaced=replaced)
    return Pushed(folder=folder, repo=repo, url=url, report=report)


def _backend(path: Path) -> Backend:
    """Of the run whose folder it is; Biject's own classes for any other folder."""
    if not (path / RECIPE).is_file():
        return "biject"
    return make_recipe(read_recipe(path / RECIPE), where=str(path / RECIPE)).backend


def _lines(report: Report) -> list[str]:
    """A line a level, without this machine's paths."""
    found = []
    for level in report.levels:
        passed = sum(check.passed for check in level.checks)
        words = f"{passed} of {len(level.checks)} checks passed" if level.checks else level.reason or ""
        found.append(f"{level.name}: {level.status}, {words}".replace(report.folder, "this folder"))
    return found
