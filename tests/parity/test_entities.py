"""Entities of random tokens and scores equal those of HF's pipeline methods, score for score."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from biject.tasks.entities import Token, entities, is_subword, without_overlaps

LABELS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC", 5: "MISC", 6: "B-", 7: "I-A-B"}
PIECES = ["the", "##se", "Foo", "##bar", ",", ".", "[UNK]", "##x", "é", "##é"]


def join(tokens: Any) -> str:
    return " ".join(tokens).replace(" ##", "")


def hf_pipeline(prefixed: bool) -> Any:
    from transformers.pipelines.token_classification import TokenClassificationPipeline

    model = SimpleNamespace(continuing_subword_prefix="##") if prefixed else SimpleNamespace()
    pipe: Any = object.__new__(TokenClassificationPipeline)
    pipe.tokenizer = SimpleNamespace(
        _tokenizer=SimpleNamespace(model=model),
        convert_tokens_to_string=join,
        convert_ids_to_tokens=lambda i: PIECES[i],
        unk_token_id=PIECES.index("[UNK]"),
    )
    pipe.model = SimpleNamespace(config=SimpleNamespace(id2label=LABELS))
    return pipe


def sentence(draw: random.Random) -> tuple[str, list[int], list[tuple[int, int]]]:
    text, ids, offsets = "", [], []
    for _ in range(draw.randint(0, 14)):
        token = draw.randrange(len(PIECES))
        piece = PIECES[token].removeprefix("##") if token != 6 else "日本"
        if not PIECES[token].startswith("##") and draw.random() < 0.8:
            text += " "
        ids.append(token)
        offsets.append((len(text), len(text) + len(piece)))
        text += piece
    return text, ids, offsets


@pytest.mark.filterwarnings("ignore:Tokenizer does not support")
@pytest.mark.parametrize("prefixed", [True, False])
@pytest.mark.parametrize("aggregation", ["none", "simple", "first", "average", "max"])
def test_random_sentences(aggregation: str, prefixed: bool) -> None:
    from transformers.pipelines.token_classification import AggregationStrategy

    strategy = AggregationStrategy(aggregation)
    pipe = hf_pipeline(prefixed)
    for seed in range(60):
        draw = random.Random(seed)
        text, ids, offsets = sentence(draw)
        scores = np.random.default_rng(seed).dirichlet(np.full(len(LABELS), 0.3), len(ids)).astype(np.float32)
        special = np.array([draw.random() < 0.1 for _ in ids], dtype=int)
        pre = pipe.gather_pre_entities(text, np.array(ids), scores, offsets, special, strategy)
        theirs = pipe.aggregate(pre, strategy)
        tokens = []
        for i, (token, (start, end)) in enumerate(zip(ids, offsets, strict=True)):
            word, continues = is_subword(
                PIECES[token], text=text, start=start, end=end, prefixed=prefixed, unknown=token == 6
            )
            if not special[i]:
                tokens.append(
                    Token(word=word, scores=scores[i], start=start, end=end, index=i, is_subword=continues)
                )
        ours = entities(tokens, aggregation=aggregation, labels=LABELS, join=join)
        assert ours == [{**entity, "score": float(entity["score"])} for entity in theirs], seed
        assert [list(entity) for entity in ours] == [list(entity) for entity in theirs]


def test_overlaps() -> None:
    pipe = hf_pipeline(prefixed=True)
    for seed in range(200):
        draw = random.Random(seed)
        found = []
        for i in range(draw.randint(0, 8)):
            start = draw.randrange(12)
            score = draw.choice([0.25, 0.5, 0.75])
            found.append(
                {"entity_group": i, "start": start, "end": start + draw.randint(1, 4), "score": score}
            )
        assert without_overlaps(found) == pipe.aggregate_overlapping_entities(found), seed
