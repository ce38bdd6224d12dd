"""Lend the installed torch to another environment: links to it and to what it needs, and to nothing else.

Bits are compared, so both sides must compute with the same kernels; and a torch from an index may come with
gigabytes of CUDA.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from biject.errors import InputError

_NAME = re.compile(r"^[A-Za-z0-9._-]+")
FOLDER, FILE = "lent", "lent.pth"


def lend_torch(site_packages: Path) -> None:
    """Make `import torch` work in an environment.

    Packages of that environment itself come first on its path, so a library that torch needs and that
    transformers wants in another release is the environment's own.

    Args:
        site_packages: Of the environment.

    Raises:
        InputError: torch is not installed as a package.
    """
    folder = site_packages / FOLDER
    folder.mkdir()
    for found in _with_needs("torch"):
        top = Path(str(found.locate_file("")))
        for name in sorted(_top_level(found)):
            target, link = top / name, folder / name
            if target.exists() and not link.exists():
                link.symlink_to(target)
    (site_packages / FILE).write_text(
        f"{FOLDER}\n", encoding="utf-8"
    )  # relative to the .pth, as both may move


def _top_level(found: Distribution) -> set[str]:
    """What a package has put into site-packages; what lies outside of it (programs) is left."""
    names = {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}
    if not names:
        raise InputError(f"{found.metadata['Name']} lists no files, so it cannot be lent to an environment.")
    return names


def _with_needs(name: str, seen: set[str] | None = None) -> list[Distribution]:
    """A package and all that it needs and that is installed; what is for other systems is not."""
    seen = set() if seen is None else seen
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in seen:
        return []
    seen.add(key)
    try:
        found = distribution(name)
    except PackageNotFoundError:
        if key == "torch":
            raise InputError("torch is not installed as a package, so it cannot be lent.") from None
        return []
    needs = [line for line in found.requires or () if "extra ==" not in line]
    names = [match.group() for line in needs if (match := _NAME.match(line))]
    return [found, *(one for each in names for one in _with_needs(each, seen))]
