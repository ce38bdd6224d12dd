"""Every configuration variant equals HF bit for bit: all probe inputs, hidden states, one backward
without and with dropout.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from biject.errors import BijectError
from biject.families import families
from biject.model import load
from biject.verify.inputs import probe_cases, training_case
from biject.verify.variants import KNOWN_HF_CRASHES, VARIANTS, Crash, Variant
from parity.harness import compare_forward, compare_gradients, pair

CELLS = [
    Variant(name="tiny", model_type=name, heads=(head,))
    for name, known in families().items()
    for head in known.heads
]
ROWS = [(variant, head) for variant in (*CELLS, *VARIANTS) for head in variant.heads]


def _label(value: object) -> str:
    return f"{value.model_type}-{value.name}" if isinstance(value, Variant) else str(value)


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("variant", "head"), ROWS, ids=_label)
def test_equals_hf(variant: Variant, head: str, threads: int, reference: Callable[..., Path]) -> None:
    torch.set_num_threads(threads)
    folder = reference(variant.model_type, head, overrides=dict(variant.overrides))
    config = json.loads((folder / "config.json").read_text())
    ours, theirs = pair(folder)
    for case in probe_cases(config, max_length=64):
        assert compare_forward(ours, theirs, case) == [], case.name
    case = training_case(config, head)
    for train in (False, True):
        assert compare_gradients(ours, theirs, case, train=train) == [], f"train={train}"


@pytest.mark.parametrize("crash", KNOWN_HF_CRASHES, ids=_label)
def test_what_crashes_in_hf_is_refused(crash: Crash, reference: Callable[..., Path]) -> None:
    head = crash.heads[0]
    folder = reference(crash.model_type, head)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(crash.overrides)))
    with pytest.raises(BijectError):
        load(folder, head=head)


def test_variants_are_many() -> None:
    assert len(ROWS) >= 350
