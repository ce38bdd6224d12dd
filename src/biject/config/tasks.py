"""Which head each task trains, where the two have other names."""

from __future__ import annotations

from collections.abc import Mapping

PREFERENCES = ("dpo", "reward")
"""Tasks whose samples are pairs of texts, one preferred to the other."""

EMBEDDINGS = ("embed", "rerank")
"""Tasks that make embedders and rerankers."""

_HEADS: Mapping[str, str] = {"dpo": "causal", "reward": "seqcls", "embed": "base", "rerank": "seqcls"}


def head_of(task: str) -> str:
    """The head that a task trains: of most tasks the one of that name."""
    return _HEADS.get(task, task)
