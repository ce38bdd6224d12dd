"""Token labels: entities by type, and the sentences with most mistakes, token by token."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from biject.data.dataset import IGNORED
from biject.data.preview import token_texts
from biject.runs.insights.classes import per_label
from biject.runs.insights.common import Held, calibration, interval, most, probabilities
from biject.tasks.schemes import entities, scheme_of
from biject.tasks.scores import ratio


def look(held: Held) -> dict[str, Any]:
    """Entities where labels are of such, else tokens."""
    names = list(held.prepared.samples.labels)
    spans = bool(held.tag_scheme or scheme_of(names))
    rows: list[tuple[Counter[str], Counter[str], Counter[str]]] = []  # hits, predicted, true by type
    guesses, sures, rights, lost = [], [], [], []
    for batch, outputs in held.outputs():
        p_BLN = probabilities(outputs.logits)
        for p_LN, truth, mask in zip(
            p_BLN, batch["labels"].tolist(), batch["attention_mask"].bool().tolist(), strict=True
        ):
            real = [i for i, here in enumerate(mask) if here]
            kept = [i for i in real if truth[i] != IGNORED]
            guess = p_LN.argmax(-1)
            guesses.append([int(guess[i]) for i in real])
            sures += [float(p_LN[i].max()) for i in kept]
            rights += [bool(guess[i] == truth[i]) for i in kept]
            lost.append(sum(-np.log(max(p_LN[i, truth[i]], 1e-300)) for i in kept))
            ours, theirs = [names[guess[i]] for i in kept], [names[truth[i]] for i in kept]
            rows.append(_counted(ours, theirs, held.tag_scheme if spans else None, spans=spans))
    kinds = sorted(set().union(*(counts[1].keys() | counts[2].keys() for counts in rows)))
    totals = [sum((row[part] for row in rows), Counter[str]()) for part in range(3)]

    def f1(chosen: npt.NDArray[np.int64]) -> float:
        return ratio(2 * sums[chosen, 0].sum(), sums[chosen, 1].sum() + sums[chosen, 2].sum())

    sums = np.array([[counts.total() for counts in row] for row in rows], dtype=np.int64)
    name = "f1" if spans else "accuracy"
    return {
        "intervals": {name: interval(f1, len(rows))},
        "spans": spans,
        "per_label": per_label(kinds, *([counts[kind] for kind in kinds] for counts in totals)),
        "calibration": calibration(np.array(sures), np.array(rights, dtype=bool)),
        "examples": [_example(held, i, guesses[i], float(lost[i])) for i in most(lost)],
    }


def _counted(
    ours: list[str], theirs: list[str], scheme: Any, *, spans: bool
) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Hits, predictions and truths of one sentence, by type."""
    if spans:
        mine, true = entities(ours, scheme), entities(theirs, scheme)
        return (
            Counter(entity[0] for entity in mine & true),
            Counter(entity[0] for entity in mine),
            Counter(entity[0] for entity in true),
        )
    hits = Counter(a for a, b in zip(ours, theirs, strict=True) if a == b)
    return hits, Counter(ours), Counter(theirs)


def _example(held: Held, place: int, guess: list[int], lost: float) -> dict[str, Any]:
    """A sentence: text, truth and prediction of each token; both empty where nothing is asked."""
    sample = held.dataset[held.chosen[place]]
    names, tokenizer = held.prepared.samples.labels, held.prepared.tokenizer
    added = tokenizer.backend.get_added_tokens_decoder()
    special = {token for token, entry in added.items() if entry.special}
    tokens = [
        [text, "" if true == IGNORED else names[true], "" if true == IGNORED else names[mine]]
        for text, token, true, mine in zip(
            token_texts(tokenizer, sample["input_ids"]),
            sample["input_ids"],
            sample["labels"],
            guess,
            strict=True,
        )
        if token not in special
    ]
    return {"tokens": tokens[:300], "loss": lost}
