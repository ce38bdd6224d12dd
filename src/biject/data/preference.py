"""Preferences as samples: for `dpo` a prompt's tokens and both completions', for `reward` two whole texts.

Source: trl 1.16, trainer/dpo_trainer.py and reward_trainer.py (`_prepare_dataset`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from biject.data.dataset import Built, Ids
from biject.data.pair_rows import (
    Pair,
    PairColumns,
    Side,
    find_columns,
    is_conversational,
    read_margins,
    read_pair,
)
from biject.data.pairs import PairDataset
from biject.data.table import Rows
from biject.data.texts import CHUNK, Cut, TextColumn
from biject.errors import InputError
from biject.events import progress
from biject.tokenization import chat
from biject.tokenization.chatml import ChatTemplate, chat_template
from biject.tokenization.tokenizer import Tokenizer

REWARD_LABELS = ("LABEL_0",)
"""What HF calls a single output."""


def build_dpo(rows: Rows, tokenizer: Tokenizer, **options: Any) -> Built:
    """Pairs to prefer one completion of a prompt to another; options as in `build_reward`.

    A pair whose prompt alone fills the limit is left out and counted; other texts lose their end, and pairs
    that do not differ before it are left out, too.

    Raises:
        InputError: What is wrong, in which file, row and column.
    """
    return _Pairs("dpo", rows, tokenizer, **options).built()


def build_reward(rows: Rows, tokenizer: Tokenizer, **options: Any) -> Built:
    """Pairs of whole texts, of which one is better.

    A pair of which either text is over the limit is left out and counted, as in TRL.

    Args:
        rows: With `chosen` and `rejected`, and `prompt` or not: texts, or messages.
        tokenizer: The model's.
        **options: `text_column` of prompts; `label_column`, of chosen and rejected; `max_length` in tokens;
            `truncate`, False to refuse what would be cut or left out.

    Raises:
        InputError: What is wrong, in which file, row and column.
    """
    return _Pairs("reward", rows, tokenizer, **options).built()


class _Pairs:
    """Samples, in order."""

    def __init__(
        self,
        task: str,
        rows: Rows,
        tokenizer: Tokenizer,
        *,
        text_column: TextColumn | None = None,
        label_column: TextColumn | None = None,
        max_length: int | None = None,
        truncate: bool = True,
        labels: Sequence[str] | None = None,
    ) -> None:
        del labels
        self.task, self.rows, self.tokenizer, self.truncate = task, rows, tokenizer, truncate
        self.columns: PairColumns = find_columns(rows, text_column=text_column, label_column=label_column)
        self.messages = is_conversational(rows, self.columns)
        self.lost = Cut(max_length=max_length if max_length is not None else tokenizer.model_max_length)
        self.margins = read_margins(rows) if task == "reward" else None
        self.templates: dict[bool, ChatTemplate] = {}
        self.chosen, self.rejected = Ids(), Ids()
        self.prompts: list[int] = []
        self.origin: list[int] = []
        self.num_long = self.num_same = self.num_merged = 0
        if task == "dpo" and not self.messages and tokenizer.eos_token is None:
            raise InputError(
                "every text ends with the end-of-text token, and this tokenizer has none. Name one as "
                "`eos_token` in tokenizer_config.json."
            )

    def built(self) -> Built:
        total = len(self.rows)

        def read(_: int, start: int) -> None:
            progress("tokenize", start, total, unit="pairs")
            self._read(range(start, min(start + CHUNK, total)))

        self.rows.each(range(0, total, CHUNK), read)
        progress("tokenize", total, total, unit="pairs")
        if not len(self.chosen):
            raise InputError(
                f"{self.rows.source}: no pair is left: all {total} are too long for {self.lost.max_length} "
                "tokens, or the same up to there. Raise max_length."
            )
        own = next((template.text for template in self.templates.values() if not template.own), None)
        dpo = self.task == "dpo"
        kept = None if self.margins is None else [self.margins[row] for row in self.origin]
        dataset = PairDataset(
            self.task,
            self.chosen,
            self.rejected,
            rows=self.origin,
            prompts=self.prompts if dpo else None,
            margins=kept,
            labels=() if dpo else REWARD_LABELS,
            chat_template=own,
        )
        return Built(
            dataset, dataset.labels, self.lost.report(self.rows, dataset, notes=self._notes(dataset))
        )

    def _read(self, chosen: range) -> None:
        """Some rows: their texts are tokenized together, three a row (two for `reward`)."""
        dpo = self.task == "dpo"
        texts = [text for found in self.rows.each(chosen, lambda _, row: self._texts(row)) for text in found]
        ids = self.tokenizer(texts, add_special_tokens=not self.messages).input_ids
        size = 3 if dpo else 2
        add: Callable[..., None] = self._add_dpo if dpo else self._add_reward
        self.rows.each(chosen, lambda place, row: add(row, *ids[size * place : size * (place + 1)]))

    def _texts(self, row: int) -> list[str]:
        """What is tokenized of a pair: the prompt (dpo), and both sides with it before them."""
        dpo = self.task == "dpo"
        pair = read_pair(self.rows, row, self.columns, messages=self.messages, split=dpo)
        whole = [self._text(row, pair, _joined(pair.prompt, side)) for side in (pair.chosen, pair.rejected)]
        if self.task == "reward":
            return whole
        return [self._text(row, pair, pair.prompt, prompt=True), *whole]

    def _text(self, row: int, pair: Pair, side: Side, *, prompt: bool = False) -> str:
        """A side as one text: messages by the template, a completed text with the end-of-text token."""
        if isinstance(side, str):
            end = self.tokenizer.eos_token or ""  # an encoder's tokenizer ends texts by itself
            return side if prompt or side.endswith(end) else side + end
        tools = pair.tools is not None
        if tools not in self.templates:
            self.templates[tools] = chat_template(self.tokenizer, tools=tools)
        try:
            return chat.render(
                self.templates[tools].text,
                side,
                tools=pair.tools,
                add_generation_prompt=prompt,
                values=self.tokenizer.special_tokens,
            )
        except InputError as error:
            raise self.rows.fault(row, self.columns.chosen, str(error)) from error

    def _add_dpo(self, row: int, prompt: list[int], chosen: list[int], rejected: list[int]) -> None:
        length = min(_common(prompt, chosen), _common(prompt, rejected))
        self.num_merged += length < len(prompt)
        limit = self.lost.max_length
        if limit is not None and length >= limit:
            self._too_long(row, self.columns.prompt or self.columns.chosen, "the prompt", length)
            return
        if chosen[:limit] == rejected[:limit]:  # TRL keeps them: they teach nothing
            self.num_same += 1
            return
        for ids, kept in ((chosen, self.chosen), (rejected, self.rejected)):
            over = 0 if limit is None else len(ids) - limit
            if over > 0 and not self.truncate:
                self._too_long(row, self.columns.chosen, "a text with its prompt", len(ids))
            self.lost.add([over] if over > 0 else [])
            kept.append(ids[:limit])
        self.prompts.append(length)
        self.origin.append(row)

    def _add_reward(self, row: int, chosen: list[int], rejected: list[int]) -> None:
        limit, longest = self.lost.max_length, max(len(chosen), len(rejected))
        if limit is not None and longest > limit:
            self._too_long(row, self.columns.chosen, "a text of the pair", longest)
            return
        self.chosen.append(chosen)
        self.rejected.append(rejected)
        self.origin.append(row)

    def _too_long(self, row: int, column: str, what: str, length: int) -> None:
        """Leave a pair out, and count it.

        Raises:
            InputError: That is not allowed.
        """
        if not self.truncate:
            raise self.rows.fault(
                row,
                column,
                f"{what} has {length} tokens, and the limit is {self.lost.max_length}. Shorten it, raise the "
                "limit, or allow truncation.",
            )
        self.num_long += 1

    def _notes(self, dataset: PairDataset) -> list[str]:
        """What became of the pairs, in words."""
        notes = [template.line for template in self.templates.values()]
        if self.columns.prompt is None and self.task == "dpo":
            notes.append("there is no column of prompts: what both sides of a pair begin with is its prompt")
        if self.task == "dpo":
            notes.append(
                f"{100 * dataset.learned_share:.1f} % of the tokens are of completions, the rest of prompts"
            )
        if self.num_long:
            what = "whose prompt alone fills" if self.task == "dpo" else "with a text over"
            notes.append(f"{self.num_long} pairs {what} {self.lost.max_length} tokens are left out")
        if self.num_same:
            notes.append(
                f"{self.num_same} pairs are the same up to the limit of {self.lost.max_length} tokens and "
                "are left out"
            )
        if self.num_merged:
            notes.append(
                f"in {self.num_merged} pairs the end of the prompt has other tokens alone than before its "
                "completions: these begin where the tokens part"
            )
        if self.margins is not None:
            notes.append("the loss asks for the column `margin` between both rewards")
        return notes


def _joined(prompt: Side, side: Side) -> Side:
    if isinstance(side, str):
        assert isinstance(prompt, str)
        return prompt + side
    return side if isinstance(prompt, str) else (*prompt, *side)


def _common(one: Sequence[int], two: Sequence[int]) -> int:
    """How many first tokens two texts share."""
    shorter = min(len(one), len(two))
    return next((i for i in range(shorter) if one[i] != two[i]), shorter)
