"""Several texts a row (pairs, triplets, scored pairs) or one with a class: samples for embeddings.

A sample has one row of ids for each of its texts; a batch has all of them as rows of one grid, the first
column's first, so that the model is called once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from biject.data.blocks import LENGTHS
from biject.data.collate import Collator
from biject.data.dataset import Built, Dataset, Ids, Sample
from biject.data.table import Rows
from biject.data.text_columns import Kind, TextColumns, find_columns, scores
from biject.data.texts import Cut, Tokens, read_texts, tokenize
from biject.tokenization.tokenizer import Tokenizer

COLUMNS, PROMPT = "columns", "prompt_tokens"


class ColumnsDataset(Dataset):
    """Rows of one text or several.

    Attributes:
        kind: `pairs`, `triplets` (with any number of negatives), `scored` pairs, or `labelled` texts.
        num_columns: Texts of a sample.
        prompt_tokens: How many first tokens of each column's texts are its prompt's.
    """

    def __init__(
        self,
        kind: Kind,
        columns: Sequence[Tokens],
        *,
        rows: Sequence[int],
        labels: Sequence[float] | None = None,
        prompt_tokens: Sequence[int] = (),
    ) -> None:
        self.kind, self.num_columns = kind, len(columns)
        self.prompt_tokens = tuple(prompt_tokens)
        parts = [column.columns() for column in columns]
        joined = {
            name: Ids(
                row for texts in zip(*(part[name].rows for part in parts), strict=True) for row in texts
            )
            for name in parts[0]
        }
        super().__init__("embed", joined, rows=rows)
        if labels is not None:
            self._columns["labels"] = list(labels)
        each = self.lengths
        self.text_lengths = [each[at : at + self.num_columns] for at in range(0, len(each), self.num_columns)]
        self.lengths = [sum(texts) for texts in self.text_lengths]

    def sample(self, index: int) -> Sample:
        """`input_ids` (and `token_type_ids`) are lists of rows, one a column; and `labels`."""
        first = index * self.num_columns
        made: Sample = {}
        for name, values in self._columns.items():
            if name == "labels":
                made[name] = values[index]
            else:
                made[name] = [values[first + column] for column in range(self.num_columns)]
        if any(self.prompt_tokens):
            made[PROMPT] = list(self.prompt_tokens)
        return made

    def whole_texts(self, index: int) -> Sample:
        """All texts of a sample as documents of one block, to look at."""
        rows = self.sample(index)["input_ids"]
        return {"input_ids": [one for row in rows for one in row], LENGTHS: [len(row) for row in rows]}

    def digest_into(self, digest: Any) -> None:
        """What samples are made of, and how."""
        super().digest_into(digest)
        digest.update(repr((self.kind, self.num_columns, self.prompt_tokens)).encode())


def columns_alone(samples: Sequence[Sample], most: int) -> list[Sample]:
    """Each text as a sample of its own, as a model without the loss takes it; at most so many."""
    names = ("input_ids", "token_type_ids")
    columns = len(samples[0]["input_ids"])
    some = [samples[i] for i in range(min(len(samples), max(1, most // columns)))]
    return [
        {name: sample[name][column] for name in names if name in sample}
        for sample in some
        for column in range(columns)
    ]


@dataclass(frozen=True, kw_only=True)
class ColumnCollator:
    """Makes batches of samples of several texts: (columns · B) rows, padded on the right.

    Attributes:
        texts: Pads them.
    """

    texts: Collator

    @classmethod
    def of(cls, tokenizer: Tokenizer, **options: Any) -> ColumnCollator:
        """With the tokenizer's padding token; a tokenizer without one pads with any."""
        return cls(texts=Collator.for_causal(tokenizer, **options))

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask`, …; `columns`; `labels` and `prompt_tokens` where samples have them.

        Samples of single texts (`columns_alone`) are padded as they are.
        """
        first = samples[0]
        if isinstance(first["input_ids"][0], int):
            return self.texts(samples)
        columns = range(len(first["input_ids"]))
        names = [name for name in first if name not in ("labels", PROMPT)]
        flat = [{name: sample[name][column] for name in names} for column in columns for sample in samples]
        batch = self.texts(flat)
        batch[COLUMNS] = torch.tensor(len(columns))
        if PROMPT in first:
            batch[PROMPT] = torch.tensor([sample[PROMPT][column] for column in columns for sample in samples])
        if "labels" in first:
            labels = torch.tensor([sample["labels"] for sample in samples])
            batch["labels"] = labels.float() if labels.is_floating_point() else labels
        return batch


def build_embed(
    rows: Rows,
    tokenizer: Tokenizer,
    *,
    text_column: str | Sequence[str] | None = None,
    label_column: str | None = None,
    labels: Sequence[str] | None = None,
    max_length: int | None = None,
    truncate: bool = True,
    prompts: Sequence[str] = ("", ""),
    lower_case: bool = False,
) -> Built:
    """One sample a row; see `biject.data.features.build_dataset`.

    Args:
        rows: The table.
        tokenizer: Makes the tokens.
        text_column: Columns of texts: anchor, positive, negatives; left out, known names.
        label_column: Column of scores, or of classes; left out, known names.
        labels: Of no meaning here: classes are only compared with each other.
        max_length: In tokens.
        truncate: False refuses longer texts.
        prompts: Put before texts of the first column, and of the others.
        lower_case: Texts are put in lower case first.
    """
    del labels
    found = find_columns(rows, text_column, label_column)
    cut = Cut(max_length=max_length if max_length is not None else tokenizer.model_max_length)
    read = rows.each(found.texts, lambda _, name: read_texts(rows, name))
    labels_of = _labels(rows, found)
    columns, counts = [], []
    for place, name in enumerate(found.texts):
        prompt = prompts[min(place, 1)]
        texts = [prompt + text for text in read[place]]
        texts = [text.lower() for text in texts] if lower_case else texts
        columns.append(tokenize(tokenizer, rows, texts, column=name, cut=cut, truncate=truncate))
        counts.append(prompt_tokens(tokenizer, prompt.lower() if lower_case else prompt))
    dataset = ColumnsDataset(
        found.kind, columns, rows=range(len(rows)), labels=labels_of, prompt_tokens=counts
    )
    note = f"{found.kind}: {', '.join((*found.texts, *([found.label] if found.label else [])))}"
    return Built(dataset, (), cut.report(rows, dataset, notes=(note,)))


def _labels(rows: Rows, found: TextColumns) -> list[float] | None:
    if found.label is None:
        return None
    if found.kind == "scored":
        return scores(rows, found.label)
    values = rows.column(found.label)
    absent = [row for row, value in enumerate(values) if value is None or not str(value).strip()]
    if absent:
        raise rows.faults(absent, found.label, lambda row: "expected a label, found none.")
    names: dict[str, int] = {}
    return [names.setdefault(str(value), len(names)) for value in values]


def prompt_tokens(tokenizer: Tokenizer, prompt: str) -> int:
    """How many of a text's first tokens are the prompt's, as sentence-transformers counts them."""
    if not prompt:
        return 0
    ids = tokenizer(prompt).input_ids[0]
    return len(ids) - (ids[-1] in tokenizer.all_special_ids)
