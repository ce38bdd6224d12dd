"""From scores of tokens to entities, as HF's token-classification pipeline does it.

Source: transformers 5.23, pipelines/token_classification.py (gather_pre_entities, aggregate,
group_entities, aggregate_overlapping_entities).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from biject.tasks.numbers import Floats

Aggregation = Literal["none", "simple", "first", "average", "max"]
Join = Callable[[Sequence[str]], str]
"""Tokens to the text that they spell."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token of a text with its scores; specials are left out before."""

    word: str
    scores: Floats
    start: int
    end: int
    index: int
    """Its place in the row, specials counted."""
    is_subword: bool
    """It continues the word of the token before it."""


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """A token or a word with the label that was chosen for it."""

    label: str
    score: np.floating[Any]
    word: str
    start: int
    end: int
    index: int | None = None


def is_subword(
    token: str, *, text: str, start: int, end: int, prefixed: bool, unknown: bool
) -> tuple[str, bool]:
    """The word that a token shows, and whether it continues the one before.

    Args:
        token: as the vocabulary spells it.
        text: the whole text.
        start: where the token starts in it.
        end: where it ends.
        prefixed: the vocabulary marks continuations (`##`), which makes the spelling longer than the text.
        unknown: it is the unknown token, which shows the text itself and starts a word.
    """
    shown = text[start:end]
    if unknown:
        return shown, False
    if prefixed:
        return token, len(token) != len(shown)
    return token, start > 0 and " " not in text[start - 1 : start + 1]


def entities(
    tokens: Sequence[Token], *, aggregation: Aggregation, labels: Mapping[int, str], join: Join
) -> list[dict[str, Any]]:
    """The entities of one row: tokens for `none`, else groups."""
    if aggregation in ("none", "simple"):
        tagged = [_tag_token(token, labels) for token in tokens]
    else:
        tagged = [_tag_word(word, aggregation, labels, join) for word in _words(tokens)]
    if aggregation == "none":
        return [
            {
                "entity": tag.label,
                "score": float(tag.score),
                "index": tag.index,
                "word": tag.word,
                "start": tag.start,
                "end": tag.end,
            }
            for tag in tagged
        ]
    return [_merge(group, join) for group in _groups(tagged)]


def without_overlaps(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of entities that overlap, seen from several windows over a text, the longest, then the best."""
    if not found:
        return []
    kept: list[dict[str, Any]] = []
    ordered = sorted(found, key=lambda entity: entity["start"])
    best = ordered[0]
    for entity in ordered:
        if best["start"] <= entity["start"] < best["end"]:
            if _rank(entity) > _rank(best):
                best = entity
        else:
            kept.append(best)
            best = entity
    return [*kept, best]


def _rank(entity: Mapping[str, Any]) -> tuple[int, float]:
    return entity["end"] - entity["start"], entity["score"]


def _tag_token(token: Token, labels: Mapping[int, str]) -> Tagged:
    best = int(token.scores.argmax())
    return Tagged(
        label=labels[best],
        score=token.scores[best],
        word=token.word,
        start=token.start,
        end=token.end,
        index=token.index,
    )


def _words(tokens: Sequence[Token]) -> list[list[Token]]:
    words: list[list[Token]] = []
    for token in tokens:
        if words and token.is_subword:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def _tag_word(
    word: Sequence[Token], aggregation: Aggregation, labels: Mapping[int, str], join: Join
) -> Tagged:
    if aggregation == "first":
        scores = word[0].scores
    elif aggregation == "max":
        scores = max(word, key=lambda token: token.scores.max()).scores
    else:
        scores = np.nanmean(np.stack([token.scores for token in word]), axis=0)
    best = int(scores.argmax())
    return Tagged(
        label=labels[best],
        score=scores[best],
        word=join([token.word for token in word]),
        start=word[0].start,
        end=word[-1].end,
    )


def _groups(tagged: Sequence[Tagged]) -> list[list[Tagged]]:
    """Neighbours of one type; `B-` starts a new group, a label without `B-` or `I-` continues."""
    groups: list[list[Tagged]] = []
    for tag in tagged:
        begins, kind = _parts(tag.label)
        if groups and kind == _parts(groups[-1][-1].label)[1] and not begins:
            groups[-1].append(tag)
        else:
            groups.append([tag])
    return groups


def _parts(label: str) -> tuple[bool, str]:
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label


def _merge(group: Sequence[Tagged], join: Join) -> dict[str, Any]:
    return {
        "entity_group": group[0].label.split("-", 1)[-1],
        "score": float(np.nanmean([tag.score for tag in group])),
        "word": join([tag.word for tag in group]),
        "start": group[0].start,
        "end": group[-1].end,
    }
