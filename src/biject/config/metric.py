"""How `train.metric` is read: whether smaller values are better."""

from __future__ import annotations

_SMALLER = ("loss", "perplexity", "mse")


def smaller_is_better(metric: str) -> bool:
    """Whether there is a leading `-`, or the name ends with one of those of which less is better anyway."""
    return metric.startswith("-") or metric.endswith(_SMALLER)
