"""Tag: labels of tokens, words or entities with their places in the text, as HF's pipeline gives them.

Source: transformers 5.23, pipelines/token_classification.py.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, ClassVar, get_args

from biject.events import notice
from biject.tasks.common import Task
from biject.tasks.entities import Aggregation, Token, entities, is_subword, without_overlaps
from biject.tasks.inputs import as_texts, is_one, require
from biject.tasks.numbers import Floats, softmax, to_numpy
from biject.tokenization.encoded import Encoded


class Tag(Task):
    """Gives labels to tokens, or finds entities."""

    name: ClassVar[str] = "tag"
    head: ClassVar[str] = "tokcls"
    takes: ClassVar[tuple[str, ...]] = ("aggregation", "stride", "ignore_labels")

    def __call__(
        self,
        inputs: str | Sequence[str],
        *,
        aggregation: Aggregation = "none",
        aggregation_strategy: Aggregation | None = None,
        stride: int | None = None,
        ignore_labels: Collection[str] = ("O",),
    ) -> list[Any]:
        """Tag one text or several.

        Args:
            inputs: texts.
            aggregation: `none` gives tokens; `simple` groups neighbours of one type; `first`, `average`
                and `max` decide each word as a whole before that.
            aggregation_strategy: another name of `aggregation`, as in transformers.
            stride: read a text that is too long in windows that share so many tokens; without it, the
                text is cut. Needs an aggregation.
            ignore_labels: labels that are left out.

        Returns:
            A list of `entity` (`entity_group` when aggregated), `score`, `index` (of a token), `word`,
            `start` and `end` (characters of the text); for several texts, a list of these.
        """
        known = get_args(Aggregation)
        aggregation = aggregation if aggregation_strategy is None else aggregation_strategy
        require(aggregation in known, f"`aggregation` is one of {', '.join(known)}; found {aggregation!r}.")
        require(stride is None or aggregation != "none", "`stride` needs an `aggregation` other than none.")
        texts = as_texts(inputs, self.name)
        self._warn(aggregation)
        encoded = self.encode(texts) if stride is None else self._windows(texts, stride)
        key = "entity" if aggregation == "none" else "entity_group"
        results: list[list[list[dict[str, Any]]]] = [[] for _ in texts]
        for row, scores in enumerate(self._scores(encoded)):
            sample = encoded.overflow_to_sample[row]
            found = entities(
                self._tokens(texts[sample], encoded, row, scores),
                aggregation=aggregation,
                labels=self.labels(scores.shape[-1]),
                join=self._join,
            )
            results[sample].append([entity for entity in found if entity[key] not in ignore_labels])
        merged = [_over_windows(windows) for windows in results]
        return merged[0] if is_one(inputs) else merged

    def _scores(self, encoded: Encoded) -> list[Floats]:
        """Each row's label probabilities, (L, N)."""
        scores: dict[int, Floats] = {}
        for batch, out in self.outputs(encoded):
            assert out.logits is not None
            for row, length, logits in zip(batch.rows, batch.lengths, to_numpy(out.logits), strict=True):
                scores[row] = softmax(logits[:length])
        return [scores[row] for row in range(len(scores))]

    def _windows(self, texts: Sequence[str], stride: int) -> Encoded:
        """Rows of at most the model's length; neighbours of one text share `stride` tokens."""
        limit = self.max_tokens
        if limit is None:
            return self.tokenizer(list(texts), return_overflowing=True)
        room = limit - len(self.tokenizer([""]).input_ids[0])
        require(
            0 <= stride < room,
            f"`stride` must be in 0…{room - 1} for rows of {limit} tokens; found {stride}.",
        )
        return self.tokenizer(
            list(texts), max_length=limit, truncation=True, stride=stride, return_overflowing=True
        )

    def _tokens(self, text: str, encoded: Encoded, row: int, scores: Floats) -> list[Token]:
        prefixed, unknown = self._prefixed(), self.tokenizer.unk_token_id
        tokens = []
        for index, token in enumerate(encoded.input_ids[row]):
            if encoded.special_tokens_mask[row][index]:
                continue
            start, end = encoded.offsets[row][index]
            word, continues = is_subword(
                encoded.tokens[row][index],
                text=text,
                start=start,
                end=end,
                prefixed=prefixed,
                unknown=token == unknown,
            )
            tokens.append(
                Token(
                    word=word, scores=scores[index], start=start, end=end, index=index, is_subword=continues
                )
            )
        return tokens

    def _prefixed(self) -> bool:
        return bool(getattr(self.tokenizer.backend.model, "continuing_subword_prefix", None))

    def _join(self, tokens: Sequence[str]) -> str:
        decoder = self.tokenizer.backend.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(list(tokens)))

    def _warn(self, aggregation: Aggregation) -> None:
        if aggregation in ("first", "average", "max") and not self._prefixed():
            notice(
                "guessed-words",
                "The tokenizer does not mark where words continue: words are separated by the spaces "
                "between them, and punctuation belongs to the word before it (as in transformers).",
            )


def _over_windows(windows: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A text's entities; of those that two windows see, one."""
    found = [entity for window in windows for entity in window]
    return without_overlaps(found) if len(windows) > 1 else found
