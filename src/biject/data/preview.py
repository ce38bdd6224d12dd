"""A sample as its tokens, and which of them are learned: what a model will be trained on, to look at."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

from biject.config.tasks import EMBEDDINGS, PREFERENCES
from biject.data.blocks import LENGTHS
from biject.data.columns import ColumnsDataset
from biject.data.dataset import IGNORED, Dataset, Sample
from biject.data.pairs import PairDataset
from biject.data.qa import QaDataset
from biject.tokenization.tokenizer import Tokenizer

_BEFORE = 6
"""Tokens that are decoded together with the next one, so that it gets its spaces."""
_BROKEN = "\ufffd"
"""What part of a letter decodes to."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token.

    Attributes:
        id: In the vocabulary.
        text: What it adds to the text; empty for all but the last of several that make up one letter.
        learned: Whether the loss counts it.
        label: The target, where that is not the token itself.
        starts: Whether a document begins here.
    """

    id: int
    text: str
    learned: bool
    label: str = ""
    starts: bool = False


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A sample's tokens, or the name of its picture, and the label of the whole, where there is one."""

    tokens: tuple[Token, ...]
    label: str = ""
    name: str = ""

    @property
    def num_learned(self) -> int:
        """Tokens that the loss counts."""
        return sum(token.learned for token in self.tokens)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "label": self.label,
            **({"picture": self.name} if self.name else {}),
            "input_ids": [token.id for token in self.tokens],
            "tokens": [token.text for token in self.tokens],
            "learned": [token.learned for token in self.tokens],
            "labels": [token.label for token in self.tokens],
        }


def preview(dataset: Dataset, tokenizer: Tokenizer, index: int) -> Preview:
    """Show the sample of a data set as the loss sees it."""
    sample = (
        dataset.whole_texts(index) if isinstance(dataset, PairDataset | ColumnsDataset) else dataset[index]
    )
    ids = sample["input_ids"]
    starts = _starts(sample)
    learned, labels, label = _learned(dataset, tokenizer, index, sample, starts)
    texts = token_texts(tokenizer, ids, starts)
    return Preview(
        tokens=tuple(
            Token(id=ids[i], text=texts[i], learned=learned[i], label=labels[i], starts=i in starts)
            for i in range(len(ids))
        ),
        label=label,
    )


def _starts(sample: Sample) -> Set[int]:
    """Where documents begin."""
    places, place = set(), 0
    for length in sample.get(LENGTHS, [len(sample["input_ids"])]):
        places.add(place)
        place += length
    return places


def _learned(
    dataset: Dataset, tokenizer: Tokenizer, index: int, sample: Sample, starts: Set[int]
) -> tuple[list[bool], list[str], str]:
    """For each token whether it is learned, and its label; and the label of the sample."""
    count = len(sample["input_ids"])
    nothing = [""] * count
    if dataset.task == "seqcls":
        return [False] * count, nothing, class_of(dataset, sample["labels"])
    if dataset.task in EMBEDDINGS:
        return [False] * count, nothing, str(dataset[index].get("labels", ""))
    if dataset.task == "qa":
        first, last = sample["start_positions"], sample["end_positions"]
        found = not (isinstance(dataset, QaDataset) and first == last == dataset.cls[index])
        inside = [found and first <= i <= last for i in range(count)]
        return inside, nothing, "" if found else "no answer here"
    given = sample["labels"]
    own = [label != IGNORED for label in given]
    if dataset.task in ("causal", *PREFERENCES):
        return [here and i not in starts for i, here in enumerate(own)], nothing, ""
    if dataset.task == "mlm":
        names = [tokenizer.convert_ids_to_tokens(label) if label != IGNORED else "" for label in given]
    else:
        names = [dataset.labels[label] if label != IGNORED else "" for label in given]
    return own, [name or "" for name in names], ""


def class_of(dataset: Dataset, label: Any) -> str:
    """A sample's label in words."""
    if dataset.problem_type == "single_label_classification":
        return str(dataset.labels[label])
    if dataset.problem_type == "multi_label_classification":
        names = [name for name, value in zip(dataset.labels, label, strict=True) if value]
        return ", ".join(names) or "none"
    return str(label)


def token_texts(tokenizer: Tokenizer, ids: Sequence[int], starts: Set[int] = frozenset({0})) -> list[str]:
    """What each token adds to the text; together they are the text, as far as the tokenizer keeps it.

    A letter of several tokens is shown with the last of them. `starts` begin texts of their own.
    """
    texts: list[str] = []
    whole: list[int] = []  # places before which no letter is unfinished
    for i, index in enumerate(ids):
        if i in starts:
            whole = [i]
        begin = next((place for place in whole if place >= i - _BEFORE), whole[-1])
        before, now = _decoded(tokenizer, ids[begin:i]), _decoded(tokenizer, ids[begin : i + 1])
        kept = before.rstrip(_BROKEN)
        if now.endswith(_BROKEN):
            texts.append("")
            continue
        name = tokenizer.convert_ids_to_tokens(index) or ""
        texts.append(now[len(kept) :] if now.startswith(kept) else name)
        whole.append(i + 1)
    return texts


def _decoded(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False) if ids else ""
