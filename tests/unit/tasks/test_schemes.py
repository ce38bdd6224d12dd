"""Entities of every scheme, against seqeval."""

from __future__ import annotations

import random
import warnings
from typing import get_args

import numpy as np
import pytest
import scipy.stats
import torch

from biject.config.recipe import TagScheme
from biject.errors import BijectWarning, InputError
from biject.tasks.metrics import TagMetrics, metrics_for
from biject.tasks.schemes import check_scheme, entities, scheme_of
from biject.tasks.scores import pearson, spearman

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import seqeval.metrics
    import seqeval.scheme

PREFIXES = {"IOB1": "IB", "IOB2": "IB", "IOE1": "IE", "IOE2": "IE", "IOBES": "IBES", "BILOU": "IBLU"}


def rows(prefixes: str, seed: int) -> list[list[str]]:
    chance = random.Random(seed)
    labels = ["O", *(f"{prefix}-{kind}" for prefix in prefixes for kind in ("PER", "LOC"))]
    return [[chance.choice(labels) for _ in range(chance.randint(1, 12))] for _ in range(20)]


def their_scores(truth: list[list[str]], guess: list[list[str]], **options: object) -> tuple[float, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = ("precision_score", "recall_score", "f1_score")
        return tuple(float(getattr(seqeval.metrics, name)(truth, guess, **options)) for name in names)


def our_scores(truth: list[list[str]], guess: list[list[str]], scheme: TagScheme | None) -> tuple[float, ...]:
    labels = sorted({tag for row in (*truth, *guess) for tag in row} | {"O"})
    metrics = TagMetrics(labels, scheme)
    for row, other in zip(truth, guess, strict=True):
        ids, predicted = (torch.tensor([labels.index(tag) for tag in each]) for each in (row, other))
        logits = torch.nn.functional.one_hot(predicted, len(labels)).float()
        metrics.update(type("Output", (), {"logits": logits[None]}), {"labels": ids[None]})
    found = metrics.result()
    return found["precision"], found["recall"], found["f1"]


@pytest.mark.parametrize("scheme", get_args(TagScheme))
@pytest.mark.parametrize("seed", range(25))
def test_a_named_scheme_equals_seqevals_strict_mode(scheme: TagScheme, seed: int) -> None:
    truth, guess = rows(PREFIXES[scheme], seed), rows(PREFIXES[scheme], seed + 1000)
    guess = [(mine * 12)[: len(row)] for row, mine in zip(truth, guess, strict=True)]
    guess[::2] = truth[::2]
    theirs = their_scores(truth, guess, mode="strict", scheme=getattr(seqeval.scheme, scheme))
    assert our_scores(truth, guess, scheme) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("prefixes", ["IB", "IBES", "IE"])
@pytest.mark.parametrize("seed", range(25))
def test_without_a_name_it_equals_seqevals_default(prefixes: str, seed: int) -> None:
    truth, guess = rows(prefixes, seed), rows(prefixes, seed + 1000)
    guess = [(mine * 12)[: len(row)] for row, mine in zip(truth, guess, strict=True)]
    guess[::2] = truth[::2]
    assert our_scores(truth, guess, None) == pytest.approx(their_scores(truth, guess), abs=1e-12)


def test_bilou_without_a_name_is_read_as_bioes() -> None:
    for seed in range(20):
        for row in rows("IBLU", seed):
            other = [{"L": "E", "U": "S"}.get(tag[0], tag[0]) + tag[1:] for tag in row]
            assert entities(row) == entities(other)


def test_what_was_wrong() -> None:
    assert entities(["S-PER", "O", "B-LOC", "E-LOC"]) == {("PER", 0, 0), ("LOC", 2, 3)}
    assert entities(["U-PER", "O", "B-LOC", "L-LOC"]) == {("PER", 0, 0), ("LOC", 2, 3)}


@pytest.mark.parametrize(
    "labels, scheme",
    [
        (["O", "B-PER", "I-PER"], "IOB"),
        (["O", "B-PER", "I-PER", "E-PER", "S-PER"], "IOBES"),
        (["O", "B-PER", "I-PER", "L-PER", "U-PER"], "BILOU"),
        (["O", "I-PER", "E-PER"], "IOE"),
        (["NOUN", "VERB"], ""),
        (["O", "PERSON"], ""),
    ],
)
def test_schemes_are_told_by_their_labels(labels: list[str], scheme: str) -> None:
    assert scheme_of(labels) == scheme


def test_labels_of_another_scheme_are_refused() -> None:
    check_scheme(["O", "B-PER", "I-PER"], "IOB2")
    with pytest.raises(InputError, match="S-PER"):
        check_scheme(["O", "S-PER"], "IOB2")
    with pytest.raises(InputError, match="tag_scheme is BILOU"):
        metrics_for("tokcls", labels=["O", "E-PER"], tag_scheme="BILOU")


def test_correlations_of_constants_are_nan_and_said() -> None:
    constant, varying = np.ones(4), np.arange(4.0)
    for ours, theirs in ((pearson, scipy.stats.pearsonr), (spearman, scipy.stats.spearmanr)):
        for pair in ((constant, varying), (varying, constant)):
            with pytest.warns(BijectWarning, match="all the same"):
                assert np.isnan(ours(*pair))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert np.isnan(theirs(*pair)[0])
        draw = np.random.default_rng(0).normal(size=(2, 50))
        assert ours(*draw) == pytest.approx(theirs(*draw)[0], abs=1e-12)
