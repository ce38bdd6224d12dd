"""Every configuration variant equals HF bit for bit: all probe inputs, hidden states, one backward
without and with dropout.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from biject.config.activations import ACTIVATIONS, PARAMETRIC
from biject.errors import BijectError
from biject.families import ALL_HEADS, families
from biject.pretrained import load
from biject.verify.hf import quiet
from biject.verify.inputs import probe_cases, training_case
from biject.verify.reference import AUTO_CLASSES, make_reference
from parity.harness import compare_forward, compare_gradients, pair
from parity.variants import KNOWN_HF_CRASHES, VARIANTS, Crash, Variant

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


def test_variants_are_many_and_named_once() -> None:
    assert len(ROWS) >= 350
    keys = [(v.model_type, v.name, head) for v in (*VARIANTS, *KNOWN_HF_CRASHES) for head in v.heads]
    assert len(keys) == len(set(keys)) > 250
    assert {key[0] for key in keys} == set(families())
    assert {key[2] for key in keys} == set(ALL_HEADS) - {"distilled"}


@pytest.mark.parametrize("crash", KNOWN_HF_CRASHES, ids=_label)
def test_hf_still_crashes_on_these(crash: Crash, tmp_path: Path) -> None:
    import transformers

    folder = make_reference(crash.model_type, crash.heads[0], tmp_path / "m", overrides=dict(crash.overrides))
    with quiet():
        model = getattr(transformers, AUTO_CLASSES[crash.heads[0]]).from_pretrained(folder)
        with pytest.raises(RuntimeError):
            model(input_ids=torch.tensor([[7, 8, 9, 10]]))


def test_every_activation_of_hf_is_computed_or_refused() -> None:
    from transformers.activations import ACT2FN

    assert set(ACT2FN) == ACTIVATIONS | PARAMETRIC
