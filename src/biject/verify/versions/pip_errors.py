"""What went wrong when pip installed a release, in words that say what to do."""

from __future__ import annotations

import re

_UNREACHABLE = (
    "NewConnectionError",
    "NameResolutionError",
    "Name or service not known",
    "Temporary failure in name resolution",
    "Connection refused",
    "Network is unreachable",
    "ProxyError",
    "timed out",
)
_MOST_VERSIONS = 8


def explained(output: str, requested: str) -> str:
    """One message for pip's output."""
    what = f"transformers {requested}"
    if "No module named pip" in output:
        return f"{what}: pip is needed to install it and is not there; `python -m ensurepip` brings it."
    offered = re.search(r"from versions: ([^)]*)\)", output)
    if any(sign in output for sign in _UNREACHABLE) or (offered and offered[1].strip() == "none"):
        return (
            f"{what}: pip reached no package index that has it; check the network and pip's settings "
            f"(`pip config list`), or name releases whose environments were made before."
        )
    if offered:
        newest = [version.strip() for version in offered[1].split(",")][-_MOST_VERSIONS:]
        return f"{what}: there is no such release; the newest that pip finds are {', '.join(newest)}."
    if "conflict" in output:
        lines = [line.strip() for line in output.splitlines() if "depends on" in line or "requested" in line]
        return f"{what}: pip finds no releases of its requirements that fit together: {'; '.join(lines[:4])}."
    tail = " ".join(output.split())[-300:]
    return f"{what}: pip could not install it: …{tail}"
