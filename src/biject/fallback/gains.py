"""Which of Biject's gains a model of `backend="hf"` has: each line is looked up in the model, not assumed."""

from __future__ import annotations

from dataclasses import dataclass

from biject.fallback.body import FallbackBody
from biject.fallback.library import transformers


@dataclass(frozen=True, kw_only=True)
class Gain:
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
    hf = model.hf
    version = transformers().__version__
    packs = hasattr(hf, "planner")
    found = [
        Gain(
            name="packing",
            on=packs,
            words="padding is computed with the texts; batches of like length (max_tokens) lose least",
        ),
        Gain(
            name="probed kernels",
            on=packs,
            words=f"transformers {version}'s kernels run as they are (attention {model.attention}), so that "
            "there is nothing to probe",
        ),
        Gain(
            name="mapped weights",
            on=False,
            words=f"the {len(model.source.tensors)} tensors are copied into memory, and the export has "
            "transformers' names and order",
        ),
        Gain(
            name="streamed export",
            on=False,
            words="transformers writes the weights beside the export first: twice on the disk for a while",
        ),
        Gain(
            name="kept tensors",
            on=not model.left_out,
            words="every tensor of the file has its parameter"
            if not model.left_out
            else f"{len(model.left_out)} tensors of the file, of no use to {model.class_name}, are left out",
        ),
        Gain(
            name="levels of verify",
            on=False,
            words="reload and trained alone (adapter: PEFT's); no other one",
        ),
        Gain(
            name="processes, quantised bases, biject plan, generate, serve",
            on=False,
            words="refused with backend='hf'",
        ),
    ]
    if model.head_name in ("mlm", "causal"):
        found.insert(
            1,
            Gain(
                name="vocabulary loss in parts",
                on=False,
                words=f"logits of every token are held, {model.config.vocab_size:,} numbers each",
            ),
        )
    found.append(
        Gain(
            name="Trainer, resume, LoRA, report, export as a whole folder",
            on=True,
            words="as with Biject's own classes; LoRA is PEFT's",
        )
    )
    return tuple(sorted(found, key=lambda gain: gain.on))


def lines(model: FallbackBody) -> tuple[str, ...]:
    """The table as lines of text."""
    head = (
        f"BACKEND hf: {model.class_name} of transformers {transformers().__version__}, attention "
        f"{model.attention}; of Biject's own gains"
    )
    return (head, *(f"  {gain}" for gain in gains(model)))
