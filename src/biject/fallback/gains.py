"""Which of Biject's gains a model of `backend="hf"` has: each line is looked up in the model, not assumed."""

from __future__ import annotations

from typing import NamedTuple

from biject.fallback.body import FallbackBody
from biject.fallback.library import transformers
from biject.families import families

LEVELS = ("reload", "trained")
ADAPTER_LEVEL = "adapter"
"""What is proved of such a model: `biject.verify.fallback`."""


class Gain(NamedTuple):
    """One of them.

    Attributes:
        name: What it is.
        on: The model has it.
        words: What happens instead, or what it rests on.
    """

    name: str
    on: bool
    words: str

    def __str__(self) -> str:
        return f"{'ON ' if self.on else 'OFF'} {self.name}: {self.words}"


def gains(model: FallbackBody) -> tuple[Gain, ...]:
    """Every gain, those that are off first."""
    version, packs = transformers().__version__, hasattr(model.hf, "planner")
    found = [
        Gain("packing", packs, "padding is computed with the texts; `max_tokens` puts like lengths together"),
        Gain(
            "probed kernels",
            packs,
            f"transformers {version}'s run as they are, attention by {model.attention}",
        ),
        Gain(
            "mapped weights",
            False,
            f"the file's {len(model.source.tensors)} tensors are copied into memory",
        ),
        Gain("streamed export", False, "transformers' files are on the disk beside the export for a while"),
        _kept(model),
        Gain(
            "levels of verify",
            False,
            f"{' and '.join(LEVELS)} alone (of an adapter's folder: {ADAPTER_LEVEL})",
        ),
        Gain("shards, quantised bases, plan", False, "refused"),
        _other_commands(model),
        Gain("Trainer, resume, report, metrics, whole export", True, "as with Biject's own classes"),
        Gain("LoRA", True, "PEFT's"),
    ]
    if model.head_name in ("mlm", "causal"):
        size = model.config.vocab_size
        found.append(Gain("loss in parts", False, f"logits of every token are held: {size:,} numbers each"))
    return tuple(sorted(found, key=lambda gain: gain.on))


def _kept(model: FallbackBody) -> Gain:
    """Tensors that the head has no use for: our own classes pass them through."""
    left = len(model.left_out)
    words = "every tensor of the file has its parameter"
    if left:
        words = f"{left} tensors of the file, of no use to {model.class_name}, are left out"
    return Gain("kept tensors", not left, words)


def _other_commands(model: FallbackBody) -> Gain:
    """Commands that have no back end to choose read the folder as one of our families, if it is one."""
    model_type = str(model.hf_config.get("model_type"))
    known = model_type in families()
    words = "by Biject's own classes" if known else f"refused, as `{model_type}` is no family of Biject's"
    return Gain("export, generate, merge", known, words)


def lines(model: FallbackBody) -> tuple[str, ...]:
    """The table as lines of text."""
    head = (
        f"BACKEND hf: {model.class_name} of transformers {transformers().__version__}, attention "
        f"{model.attention}; of Biject's own gains"
    )
    return (head, *(f"  {gain}" for gain in gains(model)))
